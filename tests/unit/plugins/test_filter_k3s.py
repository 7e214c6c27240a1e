# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role k3s says at its end."""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.filter.k3s_summary import k3s_summary
from ansible_collections.nordic.gitops.plugins.filter.timeline import timeline

HOSTS = {
    "server1": {"k3s_now": {"version": "v1.30.5+k3s1"}, "k3s_installed": {"version": None, "changes": ["config.yaml differs in tls-san", "k3s is restarted"]}},
    "server2": {"k3s_now": {"version": None}, "k3s_installed": {"version": None, "changes": []}, "k3s_after": {"version": "v1.30.5+k3s1"}},
    "agent1": {"k3s_now": {"version": "v1.30.3+k3s1"}, "k3s_installed": {}, "k3s_after": {"skipped": True}},
    "agent2": {"k3s_now": {"version": None}},
}


def test_each_host_is_summed_up_with_its_version_and_what_was_changed_there() -> None:
    assert k3s_summary(list(HOSTS), HOSTS, ["server2"], 12.345) == [
        "server1: v1.30.5+k3s1, config.yaml differs in tls-san; k3s is restarted",
        "server2: v1.30.5+k3s1, new in the cluster",
        "agent1: v1.30.3+k3s1, unchanged",
        "agent2: no k3s yet, unchanged",
        "4 nodes, 12.3 s"]
    assert k3s_summary(["agent2"], HOSTS, ["agent2"], "3")[-1] == "1 node, 3.0 s"


def test_a_timeline_tells_what_each_step_took_and_when_it_was_done() -> None:
    assert timeline([{"step": "begun", "at": "100.0"}, {"step": "stopped", "at": 104.51}, {"step": "started", "at": 110}]) == [
        {"step": "stopped", "seconds": 4.5, "since_begin": 4.5}, {"step": "started", "seconds": 5.5, "since_begin": 10.0}]
    assert timeline([{"step": "begun", "at": 1}]) == []
