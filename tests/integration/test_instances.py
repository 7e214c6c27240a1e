# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module kvm_instance on a real OpenStack."""

from __future__ import annotations

import pytest


def test_a_fleet_is_made_and_a_second_run_changes_nothing(fleet):
    instances = fleet.named("a", "b", "c")
    first = fleet.run(*instances, metadata={"role": "server"})
    assert first["counts"] == {"create": 3} and first["changed"]
    assert [one["status"] for one in first["instances"]] == ["ACTIVE"] * 3
    assert all(one["address"].startswith("10.20.") for one in first["instances"])
    assert {one.metadata["role"] for one in fleet.servers()} == {"server"}
    second = fleet.run(*instances, metadata={"role": "server"})
    assert not second["changed"] and second["counts"] == {"unchanged": 3} and second["steps"] == []


def test_check_mode_says_what_the_run_does_and_changes_nothing(fleet):
    told = fleet.run(*fleet.named("a"), check=True)
    assert told["changed"] and told["counts"] == {"create": 1} and fleet.left() == {"servers": 0, "ports": 0, "volumes": 0, "floating": 0}
    done = fleet.run(*fleet.named("a"))
    assert done["plan"] == told["plan"] and "create" in told["table"]
