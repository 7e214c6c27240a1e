# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-lint, profile production, with this collection's own modules known to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workspace import collection, places

PLAYBOOK = """---
- name: Sample
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Sample
%s
"""

DEFECTS = {
    "no-changed-when": "      ansible.builtin.command: uptime",
    "fqcn[action-core]": "      debug:\n        msg: Hello",
    "args[module]": "      ansible.builtin.file:\n        path: /x\n        no_such_argument: 1",
    "yaml[trailing-spaces]": "      ansible.builtin.debug:  \n        msg: Hello",
    "no-same-owner": "      ansible.posix.synchronize:\n        src: a\n        dest: b",
}


def lint(bench, folder: Path):
    return bench.run("ansible-lint", "--offline", "--nocolor", "--format=pep8", cwd=folder)


def test_ansible_lint(bench):
    outcome = lint(bench, collection.copied("linted") / collection.NAME)
    if outcome.code:
        pytest.fail(outcome.output, pytrace=False)
    assert "Passed" in outcome.output, outcome.output


def test_planted_defects_are_found_by_ansible_lint(bench, planted):
    files = {f"playbooks/sample{number}.yml": PLAYBOOK % task for number, task in enumerate(DEFECTS.values())}
    folder = planted(files)
    shutil.copy(places.CHECKOUT / ".ansible-lint", folder)
    outcome = lint(bench, folder)
    assert outcome.code == 2, outcome.output
    missed = [f"{rule} in sample{number}.yml" for number, rule in enumerate(DEFECTS)
              if not [line for line in outcome.output.splitlines() if f"sample{number}.yml" in line and rule in line]]
    assert not missed, outcome.output
