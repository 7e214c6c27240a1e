# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the fleet: carried out, the plan never costs etcd its quorum, stops one server at a time, and leaves nothing for a second plan."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Dict, List, Set

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import Fleet, Plan, make_plan
from hypothesis import event, given, settings
from hypothesis import strategies as st

VERSIONS = ("v1.29.9+k3s1", "v1.30.3+k3s1", "v1.30.5+k3s1", "v1.31.0+k3s1", "v1.32.1+k3s1")


@dataclass
class Scenario:
    """A fleet, and what of it the run looks at."""

    observed: Dict[str, Dict[str, Any]]
    unseen: List[str] = field(default_factory=list)
    version: str = ""
    url: str = ""

    def plan(self) -> Plan:
        return make_plan(Fleet.of(self.observed, self.url, self.version, unseen=self.unseen))


@st.composite
def hosts(draw: Any, name: str, role: str, address: str, begun: bool, datastore: str) -> Dict[str, Any]:
    state = draw(st.sampled_from(["runs", "runs", "runs", "stopped", "fails", "reset"])) if begun else "new"
    part = state in ("runs", "stopped", "fails")
    reasons = draw(st.lists(st.sampled_from(["config.yaml differs in tls-san", "registries.yaml is missing"]), max_size=1)) if part else []
    config = {"external": {"datastore-endpoint": "********"}, "etcd": {"cluster-init": True}}.get(datastore, {}) if role == "server" else {}
    return {
        "node_name": name, "machine_id": f"id-{name}", "architecture": "x86_64", "role": role if state != "new" else None, "has_cluster": part,
        "ready": state == "runs", "service": {"state": {"runs": "active", "fails": "activating"}.get(state, "inactive")},
        "version": draw(st.sampled_from(VERSIONS)) if part else None, "datastore": datastore if role == "server" and part else None,
        "cluster_init": part and role == "server" and datastore == "etcd" and draw(st.booleans()),
        "server_url": draw(st.sampled_from([None, "https://10.0.0.1:6443", "https://10.9.9.9:6443"])) if part and role == "server" and datastore == "etcd"
        else "https://10.0.0.1:6443" if part and role == "agent" else None,
        "ca_fingerprint": "ca" if part else None, "token_fingerprint": "token" if part else None, "data_dir": "/var/lib/rancher/k3s",
        "restart_pending": draw(st.lists(st.just("k3s is replaced"), max_size=1)) if part else [],
        "wanted": {"role": role, "address": address, "config": config, "binary": "k3s", "environment": [], "adopt": False, "changes": reasons,
                   "restarts": reasons}}


@st.composite
def scenarios(draw: Any) -> Scenario:
    count = draw(st.sampled_from([1, 1, 2, 3, 3, 3, 5, 5]))
    datastore = draw(st.sampled_from(["etcd", "etcd", "sqlite", "external"]))
    begun = draw(st.integers(0, count))
    observed = {f"server{number}": draw(hosts(f"server{number}", "server", f"10.0.0.{number}", number <= begun, datastore)) for number in range(1, count + 1)}
    observed.update({f"agent{number}": draw(hosts(f"agent{number}", "agent", f"10.0.1.{number}", begun > 0 and draw(st.booleans()), datastore))
                     for number in range(1, draw(st.integers(0, 4)) + 1)})
    running = [name for name, info in observed.items() if info["role"] == "server" and info["ready"]]
    if running:
        observed[draw(st.sampled_from(running))]["etcd"] = {"is_leader": True}
    scenario = Scenario(observed, version=draw(st.sampled_from(["", *VERSIONS])), url=draw(st.sampled_from(["", "", "https://k3s.example.no:6443"])))
    limited = draw(st.lists(st.sampled_from(sorted(observed)), unique=True, max_size=2))
    for name in limited:
        if observed.pop(name)["wanted"]["role"] == "server":
            scenario.unseen.append(name)
    return scenario


def carried_out(scenario: Scenario, plan: Plan) -> Scenario:
    """What the role's tasks make of the hosts, and that no moment of it is one that must not be."""
    hosts_now = copy.deepcopy(scenario.observed)
    voters: Set[str] = {name for name, info in hosts_now.items() if info["datastore"] == "etcd"} | set(scenario.unseen)
    up: Set[str] = {name for name, info in hosts_now.items() if info["service"]["state"] == "active"} | set(scenario.unseen)
    for name, of in plan.hosts.items():  # Install k3s
        if of.install["start"]:
            up.add(name)
    for turn in plan.turns:  # Restart what changed
        servers = [name for name in turn if hosts_now[name]["wanted"]["role"] == "server"]
        assert len(servers) <= 1 and (not servers or len(turn) == 1)
        if servers and len(voters) > 1 and plan.datastore == "etcd" and voters <= up:
            assert len((voters & up) - set(servers)) >= len(voters) // 2 + 1 or len(voters) == 2
    for name, of in plan.hosts.items():  # Start, and join
        if of.start:
            up.add(name)
    assert up >= set(hosts_now)
    # Whoever names no version gives the program that the servers have, or where none is left one that the agents can follow.
    servers = [Version.of(info["version"]) for info in hosts_now.values() if info["datastore"] and info["version"]]
    agents = [Version.of(info["version"]) for info in hosts_now.values() if info["version"]]
    given_version = scenario.version or (str(min(servers)) if servers else str(max(agents)) if agents else VERSIONS[1])
    for name, info in hosts_now.items():
        keys, server = plan.hosts[name].config, info["wanted"]["role"] == "server"
        info.update(role=info["wanted"]["role"], has_cluster=True, ready=True, service={"state": "active"}, ca_fingerprint="ca", token_fingerprint="token",
                    version=info["version"] or given_version, datastore=plan.datastore if server else None,
                    server_url=keys.get("server"), cluster_init=bool(keys.get("cluster-init")), restart_pending=[],
                    wanted={**info["wanted"], "changes": [], "restarts": []})
    return Scenario(hosts_now, scenario.unseen, scenario.version, scenario.url)


@settings(max_examples=400, deadline=None)
@given(scenarios())
def test_no_plan_costs_the_quorum_or_stops_two_servers_and_the_second_plan_is_empty(scenario: Scenario) -> None:
    try:
        plan = scenario.plan()
    except Refused as refused:
        event("refused")
        assert str(refused)
        return
    event("planned")
    order = [name for turn in plan.turns for name in turn]
    assert len(order) == len(set(order)) and set(order) <= set(scenario.observed)
    due = {name for name, info in scenario.observed.items() if info["service"]["state"] == "active" and (info["wanted"]["restarts"] or info["restart_pending"])}
    assert due <= set(order)
    roles = [scenario.observed[name]["wanted"]["role"] for name in order]
    assert roles == sorted(roles, reverse=True)  # servers before agents
    begun = [name for name, info in scenario.observed.items() if info["has_cluster"] and info["wanted"]["role"] == "server"]
    assert not begun or plan.bootstrap in begun, "a second cluster would begin"
    assert sum(1 for name in plan.new if not plan.hosts[name].config.get("server") and plan.hosts[name].install["start"]) <= 1

    after = carried_out(scenario, plan)
    second = after.plan()
    assert second.new == () and second.summary[-1] == "Nothing to change.", (plan.summary, second.summary)
    assert all(of.start is None for of in second.hosts.values())
    assert {name: of.config for name, of in second.hosts.items()} == {name: of.config for name, of in plan.hosts.items()}
