# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is called, from its files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.virtualisation import detected, judge, kind_of
from machines import lay_out

MACHINES = yaml.safe_load((Path(__file__).parent / "machines.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", MACHINES, ids=lambda case: case["machine"])
def test_a_machine_is_called_what_it_is_and_says_why(case, tmp_path):
    machine = lay_out(tmp_path, case["files"], architecture=case["architecture"], own=case.get("own", False))
    kind = kind_of(machine, lambda: case.get("detected", ""))
    assert (kind.name, kind.sort) == (case["kind"], case["sort"]), kind.evidence
    assert kind.evidence
    assert case.get("says", "") in "\n".join(kind.evidence)
    assert judge(kind).verdict == case["verdict"]


def test_every_container_is_refused_and_told_where_to_go_instead():
    for case in MACHINES:
        if case["sort"] == "container":
            assert case["verdict"] == "fail", case["machine"]


def test_this_machine_itself_is_told_with_its_evidence():
    """By the real systemd-detect-virt."""
    flagged = " hypervisor" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    kind = kind_of(Machine(), detected)
    assert kind.evidence and kind.sort in (("machine", "container") if flagged else ("metal", "container"))


def test_a_machine_without_systemds_tool_is_judged_by_its_files(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detected() == ""
