# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changelog is what antsibull-changelog makes of changelogs/, and it knows the version of galaxy.yml."""

from __future__ import annotations

import shutil

import yaml
from workspace import collection


def test_the_changelog_lints(bench, copy):
    outcome = bench.run("antsibull-changelog", "lint", cwd=copy)
    assert outcome.code == 0, outcome.output


def test_the_version_of_the_collection_is_in_the_changelog(copy):
    version = yaml.safe_load((copy / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    releases = yaml.safe_load((copy / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))["releases"]
    assert version in releases


def test_the_changelog_is_up_to_date(bench, copy, tmp_path):
    """`make changelog` would change nothing but the date: every fragment, module and plugin is in it."""
    recorded = yaml.safe_load((copy / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))["releases"]
    version = yaml.safe_load((copy / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    again = tmp_path / collection.NAME
    shutil.copytree(copy, again, ignore=shutil.ignore_patterns("output", ".ansible"))
    outcome = bench.run("antsibull-changelog", "release", "--reload-plugins", "--update-existing", "--date", recorded[version]["release_date"], cwd=again)
    assert outcome.code == 0, outcome.output
    for name in ("CHANGELOG.rst", "changelogs/changelog.yaml"):
        assert (again / name).read_text(encoding="utf-8") == (copy / name).read_text(encoding="utf-8"), f"{name}: run `make changelog`"


def test_a_fragment_with_an_unknown_section_is_refused(bench, copy, planted):
    folder = planted({"changelogs/fragments/1.yml": "---\nno_such_section:\n  - something\n",
                      "changelogs/config.yaml": (copy / "changelogs" / "config.yaml").read_text(encoding="utf-8")})
    outcome = bench.run("antsibull-changelog", "lint", cwd=folder)
    assert outcome.code != 0 and "no_such_section" in outcome.output, outcome.output
