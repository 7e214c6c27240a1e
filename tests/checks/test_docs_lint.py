# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the plugins and roles, as antsibull-docs and ansible-doc read it."""

from __future__ import annotations

import re

import pytest

LINT = ("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--check-extra-docs-refs", "--validate-collection-refs=dependent",
        "--disallow-unknown-collection-refs", ".")

LOOKUP = '''# Copyright: nobody
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: sample
short_description: A sample
description: Refers to O(no_such_option).
author: Nobody (@nobody)
"""
'''


def test_documentation_lints(bench, copy):
    outcome = bench.run(*LINT, cwd=copy)
    if outcome.code:
        pytest.fail(outcome.output, pytrace=False)


def test_a_reference_to_an_option_that_is_not_there_is_found(bench, planted):
    outcome = bench.run(*LINT, cwd=planted({"plugins/lookup/sample.py": LOOKUP}))
    assert outcome.code != 0 and "no_such_option" in outcome.output, outcome.output


def test_every_role_documents_its_variables_and_itself(copy):
    for role in sorted(path for path in (copy / "roles").glob("*") if path.is_dir()):
        assert (role / "meta" / "argument_specs.yml").is_file(), role.name
        assert (role / "README.md").is_file(), role.name


def test_links_between_documents_lead_somewhere(copy):
    broken = []
    for document in [*copy.glob("*.md"), *copy.glob("docs/**/*.md"), *copy.glob("roles/*/README.md")]:
        broken += [f"{document.relative_to(copy)}: {target}" for target in dead_links(document)]
    assert not broken, "\n".join(broken)


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[here](page.md) [there](gone.md#part) ![plot](gone.png) [away](https://example.org/x) [part](#part)", encoding="utf-8")
    assert dead_links(page) == ["gone.md#part", "gone.png"]


def dead_links(document):
    """Relative targets of a Markdown file that are not there."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets
            if not re.match(r"[a-z]+:|#", target) and not (document.parent / target.split("#")[0]).exists()]
