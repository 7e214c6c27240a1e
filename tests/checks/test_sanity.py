# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity on the checkout, each of its tests counted; and proof that each finds a defect that was planted for it."""

from __future__ import annotations

import os
import re
import shutil
import warnings
import xml.etree.ElementTree
from pathlib import Path

import pytest
from workspace import collection, get_pip, places

# One worker, so that the run below is done once.
pytestmark = pytest.mark.xdist_group("sanity")

# All that ansible-test knows but pslint, which is about PowerShell.
TESTS = (
    "action-plugin-docs", "ansible-doc", "changelog", "compile", "empty-init", "ignores", "import", "line-endings", "no-assert", "no-get-exception",
    "no-illegal-filenames", "no-smart-quotes", "pep8", "pylint", "replace-urlopen", "runtime-metadata", "shebang", "shellcheck", "symlinks",
    "use-argspec-type-path", "use-compat-six", "validate-modules", "yamllint",
)

# ansible-test says these and exits 0.
LEFT_OUT = re.compile(r"Skipping sanity test.*|Required program .* not found.*")

HEADER = ("# Copyright: nobody\n# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)\n"
          "# SPDX-License-Identifier: GPL-3.0-or-later\n")

DEFECTS = {
    "action-plugin-docs": ("plugins/action/lonely.py", HEADER),
    "ansible-doc": ("plugins/lookup/undocumented.py", HEADER + 'DOCUMENTATION = """\nname: [unclosed\n"""\n'),
    "changelog": ("changelogs/fragments/bad.yml", "---\nno_such_section:\n  - something\n"),
    "compile": ("plugins/module_utils/torn.py", HEADER + "def torn(:\n"),
    "empty-init": ("plugins/modules/__init__.py", HEADER + "SOMETHING = 1\n"),
    "ignores": ("tests/sanity/ignore-2.19.txt", "plugins/modules/nowhere.py pep8!skip\n"),
    "import": ("plugins/module_utils/thirdparty.py", HEADER + "import a_package_that_is_not_there\n"),
    "line-endings": ("docs/crlf.md", "one\r\ntwo\r\n"),
    "no-assert": ("plugins/module_utils/asserting.py", HEADER + "assert True\n"),
    "no-get-exception": ("plugins/module_utils/old.py", HEADER + "from ansible.module_utils.pycompat24 import get_exception\n"),
    "no-illegal-filenames": ("docs/what?.md", "text\n"),
    "no-smart-quotes": ("plugins/module_utils/quotes.py", HEADER + "# \u201csmart\u201d\n"),
    "pep8": ("plugins/module_utils/wide.py", HEADER + "VALUE = '%s'\n" % ("x" * 200)),
    "pylint": ("plugins/module_utils/careless.py", HEADER + "def careless():\n    return undefined_name\n"),
    "replace-urlopen": ("plugins/module_utils/opener.py", HEADER + "import urllib.request\nurllib.request.urlopen('x')\n"),
    "runtime-metadata": ("meta/runtime.yml", "---\nrequires_ansible: '>=2.17.0'\nno_such_key: 1\n"),
    "shebang": ("plugins/module_utils/runnable.py", "#!/usr/bin/env perl\n"),
    "shellcheck": ("tests/bad.sh", "#!/bin/sh\ncd $1\n"),
    "symlinks": ("docs/outside.md", "-> /etc/hostname"),
    "use-argspec-type-path": ("plugins/modules/homely.py", HEADER + "import os\nos.path.expanduser('~')\n"),
    "use-compat-six": ("plugins/module_utils/sixes.py", HEADER + "import six\n"),
    "validate-modules": ("plugins/modules/bare.py", HEADER),
    "yamllint": ("playbooks/twice.yml", "---\na: 1\na: 2\n"),
}


class Findings:
    """What one run of ansible-test said, by test."""

    def __init__(self, output: str, junit: Path) -> None:
        self.output = output
        self.ran: set[str] = set()
        self.failures: dict[str, list[str]] = {}
        for report in junit.glob("ansible-test-sanity-*.xml"):
            for case in xml.etree.ElementTree.parse(report).iter("testcase"):
                name = re.sub(r"-python-\d+\.\d+$", "", case.get("name", ""))
                if case.find("skipped") is None:
                    self.ran.add(name)
                for failure in case.iter("failure"):
                    self.failures.setdefault(name, []).append(f"{case.get('name')}: {failure.text}")


def run_sanity(bench, folder: Path) -> Findings:
    output = folder / "tests" / "output"
    shutil.rmtree(output, ignore_errors=True)
    get_pip.provide(bench.environment / "bin" / "python", bench.home)
    # ansible-test makes its environments in place and without a lock.
    with places.locked(bench.home / "ansible-test.lock", "waiting for another ansible-test …"):
        # pylint makes millions of objects that live until it ends; to look for garbage among them every 700 took it 3 of 10 seconds.
        for packages in bench.home.glob(".ansible/test/venv/sanity.pylint/*/*/lib/python*/site-packages"):
            (packages / "less_gc.pth").write_text("import gc; gc.set_threshold(100_000)\n", encoding="ascii")
        done = bench.run("ansible-test", "sanity", "--junit", "--failure-ok", "--color", "no", cwd=folder)
    assert done.code == 0, done.output
    return Findings(done.output, output / "junit")


@pytest.fixture(scope="module")
def findings(bench) -> Findings:
    return run_sanity(bench, collection.copied("sanity") / collection.NAME)


@pytest.mark.parametrize("name", TESTS)
def test_sanity(findings, name):
    if name in findings.failures:
        pytest.fail("\n".join(findings.failures[name]), pytrace=False)
    # Without a single file of its kind a test is skipped: a collection has no shell script or action plugin to begin with.
    assert name in findings.ran or name in ("action-plugin-docs", "ignores", "shellcheck", "use-argspec-type-path", "empty-init")


def test_nothing_was_left_out_of_sanity_for_want_of_a_program(findings):
    left_out = LEFT_OUT.findall(findings.output)
    if os.environ.get("CI"):
        assert not left_out, "\n".join(left_out)
    for line in left_out:
        warnings.warn(line + " (install that Python, with pyenv for example, to have it checked)", stacklevel=1)
    assert not [line for line in left_out if "python" not in line.lower()], "only an interpreter may be missing on a person's own machine"


def test_every_sanity_test_of_this_ansible_core_is_counted_here(bench, copy):
    listed = bench.run("ansible-test", "sanity", "--list-tests", cwd=copy)
    names = {line for line in listed.output.splitlines() if re.fullmatch(r"[a-z0-9-]+", line)}
    assert names - {"pslint"} == set(TESTS)


@pytest.fixture(scope="module")
def findings_of_a_bad_collection(bench, tmp_path_factory) -> Findings:
    from checks.conftest import SOUND

    folder = tmp_path_factory.mktemp("defects") / collection.NAME
    files = {**SOUND, **dict(DEFECTS.values())}
    for name in ("changelogs/config.yaml", "tests/config.yml"):
        files[name] = (places.CHECKOUT / name).read_text(encoding="utf-8")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text, encoding="utf-8", newline="")
    return run_sanity(bench, folder)


@pytest.mark.parametrize("name", TESTS)
def test_a_planted_defect_is_found_by_sanity(findings_of_a_bad_collection, name):
    path = DEFECTS[name][0]
    found = "\n".join(findings_of_a_bad_collection.failures.get(name, []))
    assert Path(path).stem in found, findings_of_a_bad_collection.output
