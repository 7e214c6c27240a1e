# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter health, as a playbook uses it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.nordic.gitops.plugins.filter.health import FilterModule

JOB = {"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": [{"type": "Complete", "status": "True"}]}}


def judged(obj: Any, *rules: Any) -> Any:
    return FilterModule().filters()["health"](obj, *rules)


def test_the_filter_says_what_the_wait_would_say() -> None:
    assert judged(JOB) == {"status": "Current", "message": ""}
    assert judged({**JOB, "status": {}})["status"] == "InProgress"


def test_an_object_that_is_not_there_is_not_found() -> None:
    assert judged(None) == {"status": "NotFound", "message": "not in the cluster"}


def test_a_rule_of_ones_own_is_written_as_in_the_module() -> None:
    rule = {"apiVersion": "batch/v1", "kind": "Job", "current": "has(metadata.name)"}
    assert judged(JOB, [rule])["status"] == "InProgress"
    assert judged({**JOB, "metadata": {"name": "a"}}, [{**rule, "api_version": "batch/v1"}])["status"] == "Current"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((["a"],), "one object, not a list"), ((JOB, "x"), "must be a list"), ((JOB, [{"kind": "Job"}]), r"health_rules\[1\]")],
)
def test_bad_input_is_told_in_one_sentence(arguments: Any, said: str) -> None:
    with pytest.raises(AnsibleError, match=said):
        judged(*arguments)


def test_a_playbook_finds_the_filter_by_its_full_name() -> None:
    command = ["ansible", "localhost", "-m", "ansible.builtin.debug", "-a", "msg={{ (job | nordic.gitops.health).status }}", "-e", json.dumps({"job": JOB})]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert outcome.returncode == 0 and '"msg": "Current"' in outcome.stdout, outcome.stdout
