# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a restore all are asked who might live on beside it: the hosts of the run, the inventory, the Nodes and etcd's members."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import Fleet
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.restore_plan import RestorePlan, plan_restore


def node(name: str, ready: bool = True, roles: Sequence[str] = ("control-plane", "etcd")) -> Dict[str, Any]:
    return {"name": name, "ready": ready, "roles": list(roles)}


def member(name: str, healthy: bool = True) -> Dict[str, Any]:
    return {"name": f"{name}-12345678", "node": name, "healthy": healthy}


def host(name: str, role: str = "server", **info: Any) -> Dict[str, Any]:
    found = {"node_name": name, "machine_id": f"id-{name}", "architecture": "x86_64", "role": role, "has_cluster": True, "datastore": "etcd",
             "server_url": None if name == "server1" else "https://10.0.0.1:6443", "nodes": None, "etcd": None, "token_fingerprint": "x",
             "data_dir": "/var/lib/rancher/k3s", **info}
    return {"name": name, "role": role, "address": f"10.0.{int(role == 'agent')}.{''.join(filter(str.isdigit, name))}", "info": found, "config": {}}


def new(name: str, role: str = "server") -> Dict[str, Any]:
    """With an empty disk."""
    found = host(name, role, has_cluster=False, datastore=None, server_url=None, token_fingerprint=None)
    found["info"]["role"] = None
    return found


def planned(*nodes: Dict[str, Any], unseen: Sequence[str] = (), lost: Sequence[str] = (), restore_on: str = "", url: str = "") -> RestorePlan:
    observed = {node["name"]: {**node["info"], "wanted": {key: node[key] for key in ("role", "address", "config")}} for node in nodes}
    return plan_restore(Fleet.of(observed, url, "", "", "", "salt", unseen), restore_on, lost)


def refused(*nodes: Dict[str, Any], **options: Any) -> str:
    with pytest.raises(Refused) as error:
        planned(*nodes, **options)
    return str(error.value)


THREE = [node("server1"), node("server2"), node("server3"), node("agent1", roles=())]


def test_the_server_that_begins_the_cluster_restores_and_the_others_join_it() -> None:
    plan = planned(host("server2"), host("server1", nodes=THREE), host("server3"), host("agent1", "agent"))
    assert (plan.restores, plan.servers, plan.agents, plan.new) == ("server1", ("server1", "server2", "server3"), ("agent1",), ())
    assert plan.config == {"server1": {"cluster-init": True}, **{name: {"server": "https://10.0.0.1:6443"} for name in ("server2", "server3", "agent1")}}


def test_another_server_restores_when_it_is_asked_to_and_all_others_join_that_one() -> None:
    plan = planned(host("server1"), host("server2"), restore_on="server2")
    assert plan.config == {"server2": {"cluster-init": True}, "server1": {"server": "https://10.0.0.2:6443"}}
    assert "not one of the servers of this run: server1" in refused(host("server1"), restore_on="server9")


def test_one_server_restores_though_each_of_them_once_joined_another_one() -> None:
    """As after the first one was replaced."""
    plan = planned(host("server1", server_url="https://10.0.0.2:6443"), host("server2"))
    assert plan.restores == "server1" and plan.config["server1"] == {"cluster-init": True}


def test_hosts_with_empty_disks_are_to_be_installed_and_one_of_them_restores() -> None:
    plan = planned(new("server1"), new("server2"), new("server3"), new("agent1", "agent"))
    assert plan.restores == "server1" and plan.new == ("server1", "server2", "server3", "agent1")


def test_a_server_of_the_inventory_that_the_run_leaves_out_refuses_it() -> None:
    told = refused(host("server1"), unseen=["server2", "server3"])
    assert "server2, server3 are servers of the inventory, and not part of this run" in told and "k3s_restore_lost=[server2,server3]" in told
    assert "server3 is a server of the inventory" in refused(host("server1"), unseen=["server2", "server3"], lost=["server2"])
    assert planned(host("server1"), unseen=["server2"], lost=["server2"]).restores == "server1"


@pytest.mark.parametrize("info", [{"nodes": THREE}, {"etcd": {"members": [member("server1"), member("server2"), member("server3")]}},
                                  {"nodes": [node("server2", False), node("server3", False)], "etcd": {"members": [member("server2"), member("server3")]}}])
def test_a_server_that_lives_refuses_it_though_no_inventory_knows_it_and_whatever_is_said_to_be_lost(info: Dict[str, Any]) -> None:
    told = refused(host("server1", **info), lost=["server2", "server3"])
    assert "server2, server3 are servers of this cluster and alive" in told, told


def test_a_server_that_is_dead_by_its_node_and_its_member_may_be_left_out_and_is_named() -> None:
    nodes = [node("server1"), node("server2", False), node("agent9", roles=())]
    plan = planned(host("server1", nodes=nodes, etcd={"members": [member("server1"), member("server2", False)]}))
    assert plan.absent_nodes == ("agent9", "server2") and "agent9, server2 of the cluster take no part" in " ".join(plan.summary)


def recorded(name: str, answers: bool = False, **info: Any) -> Dict[str, Any]:
    return {"name": f"{name}-12345678" if name else "", "node": name, "address": f"10.0.0.{name[-1:] or 8}", "voter": True, "answers": answers, **info}


DOWN = {"service": {"state": "inactive"}}


def test_where_nothing_runs_a_server_that_answers_refuses_it_as_the_database_on_disk_names_it() -> None:
    told = refused(host("server1", **DOWN, recorded_members=[recorded("server1"), recorded("server2", True), recorded("server3", True)]),
                   lost=["server2", "server3"])
    assert "server2, server3 are servers of this cluster and alive" in told, told


def test_a_recorded_member_without_a_name_is_the_server_of_this_run_that_has_its_address() -> None:
    nameless = [{**recorded("", answers), "address": f"10.0.0.{number}"} for number, answers in ((2, False), (3, True))]
    two, three = host("server2", **DOWN), host("server3", addresses=["10.0.0.3"])
    assert planned(host("server1", **DOWN, recorded_members=[recorded("server1"), *nameless]), two, three).restores == "server1"


def test_a_member_that_answers_in_the_name_of_a_host_whose_k3s_is_stopped_is_another_machine() -> None:
    members = [recorded("server1"), {**recorded("server2", True), "address": "10.9.9.2"}]
    told = refused(host("server1", **DOWN, recorded_members=members), host("server2", **DOWN))
    assert "server2 is a server of this cluster and alive" in told, told
    assert planned(host("server1", **DOWN, recorded_members=members), host("server2", service={"state": "activating"})).restores == "server1"


def test_where_nothing_runs_a_recorded_member_that_does_not_answer_has_to_be_said_to_be_lost() -> None:
    members = [recorded("server1"), recorded("server2"), recorded("server3"), recorded("")]
    one = host("server1", **DOWN, recorded_members=members)
    told = refused(one, lost=["server3"])
    assert "10.0.0.8 (10.0.0.8), server2 (10.0.0.2) are members of etcd in the database on disk" in told and "k3s_restore_lost=[10.0.0.8,server2]" in told
    assert planned(one, lost=["10.0.0.8", "server2", "server3"]).restores == "server1"
    # A quorum that answers tells that the others cannot take a write any more.
    etcd = {"members": [member("server1"), member("server2", False)]}
    assert planned(one, host("server4", etcd=etcd)).restores == "server1"


def test_a_server_that_only_an_agent_knows_refuses_it_while_it_answers() -> None:
    def agent(*addresses: str, answers: bool = True) -> Dict[str, Any]:
        return host("agent1", "agent", server_url="https://lb.example.no", recorded_servers=[{"address": name, "answers": answers} for name in addresses])

    burnt = new("server1")
    burnt["info"]["addresses"] = ["10.0.0.1", "192.168.7.1"]
    assert "10.0.0.9 is a server of this cluster and alive" in refused(burnt, agent("10.0.0.9"))
    assert planned(burnt, agent("10.0.0.9", answers=False)).restores == "server1"
    assert planned(burnt, agent("192.168.7.1", "10.0.0.1")).restores == "server1"
    # A load balancer leads to one of the servers; where none of this run runs, to another one.
    assert "lb.example.no is a server" in refused(burnt, agent("lb.example.no"))
    assert planned(host("server1", service={"state": "active"}), agent("lb.example.no")).restores == "server1"


def test_a_database_that_cannot_be_read_is_told_before_anything_is_confirmed() -> None:
    plan = planned(host("server1", **DOWN, record_trouble="/db: is not a database of etcd, or is damaged"))
    assert any("is not known from server1" in line for line in plan.summary)


def test_names_are_compared_whole() -> None:
    """server1 is not server10, and a host goes by the name that it has in Kubernetes."""
    assert "server10 is a server of this cluster and alive" in refused(host("server1", nodes=[node("server1"), node("server10")]))
    named = host("server1", nodes=[node("control-a")])
    named["config"] = {"node-name": "control-a"}
    assert planned(named).restores == "server1"


def test_a_cluster_without_embedded_etcd_has_no_snapshot_to_restore() -> None:
    assert "keeps the cluster's state in SQLite" in refused(host("server1", datastore="sqlite"))
    outside = host("server1", datastore="external")
    outside["config"] = {"datastore-endpoint": "postgres://a"}
    assert "external datastore" in refused(outside)


def test_agents_alone_are_told_to_add_a_server() -> None:
    told = refused(host("agent1", "agent"), unseen=["server1"])
    assert "--limit server1,agent1" in told and "group k3s_servers" not in told and "reset" not in told


def test_every_reason_is_told_at_once() -> None:
    refusals: List[str] = [refused(host("server1", nodes=THREE), unseen=["server2"], restore_on="server9")]
    assert all(said in refusals[0] for said in ("alive", "of the inventory", "k3s_restore_on is server9"))
