# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes together: what is refused, in the words that a person reads, and what is planned."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import configuration
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.info import fingerprint
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import RULES, Plan, Fleet, make_plan

SALT = "salt"
PAGE = Path(__file__).resolve().parents[5] / "docs" / "k3s.md"


def host(name: str, role: str = "server", begun: bool = False, config: Optional[Dict[str, Any]] = None, binary: str = "k3s", **info: Any) -> Dict[str, Any]:
    """A host as k3s_info finds it: fresh, or of a cluster."""
    found: Dict[str, Any] = {
        "node_name": name, "machine_id": f"id-{name}", "architecture": "x86_64", "role": None, "has_cluster": False, "ready": None, "version": None,
        "datastore": None, "cluster_init": False, "server_url": None, "ca_fingerprint": None, "token_fingerprint": None, "data_dir": "/var/lib/rancher/k3s"}
    if begun:
        found.update(service={"state": "active"}, role=role, has_cluster=True, ready=True, version="v1.30.3+k3s1", ca_fingerprint="ca",
                     token_fingerprint="fingerprint",
                     datastore="etcd" if role == "server" else None, server_url="https://10.0.0.1:6443")
    found.update(info)
    return {"name": name, "role": role, "address": f"10.0.{int(role == 'agent')}.{''.join(filter(str.isdigit, name)) or 99}", "info": found,
            "config": config or {},
            "binary": binary}


def servers(count: int, **options: Any) -> List[Dict[str, Any]]:
    return [host(f"server{number}", **options) for number in range(1, count + 1)]


def observed(nodes: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """As k3s_info answers when it was told what each host is to be."""
    return {node["name"]: {**node["info"], "wanted": {
        **{key: node.get(key) for key in ("role", "address", "binary", "environment", "adopt", "changes", "restarts")},
        "config": configuration.merged(node["config"], node.get("drop_ins") or {})}} for node in nodes}


def planned(*nodes: Any, url: str = "", version: str = "", token: str = "", agent_token: str = "", unseen: Sequence[str] = ()) -> Plan:
    listed = [node for entry in nodes for node in (entry if isinstance(entry, list) else [entry])]
    return make_plan(Fleet.of(observed(listed), url, version, token, agent_token, SALT, unseen))


def keys(plan: Plan) -> Dict[str, Dict[str, Any]]:
    """What makes each host begin or join."""
    return {name: dict(of.config) for name, of in plan.hosts.items()}


def refused(*nodes: Any, **options: Any) -> str:
    with pytest.raises(Refused) as error:
        planned(*nodes, **options)
    return str(error.value)


# What is planned


def test_some_of_the_servers_alone_begin_no_cluster_beside_the_others() -> None:
    assert "server1, server3 may have a cluster already" in refused(host("server2"), unseen=["server1", "server3"])
    joins = planned(host("server1", begun=True, server_url=None), host("server2"), unseen=["server3"])
    assert joins.new == ("server2",) and joins.datastore == "etcd"
    assert "4 servers with embedded etcd" in refused(host("server1", begun=True), host("server2"), unseen=["server3", "server4"])
    outside = {"datastore-endpoint": "postgres://a"}
    assert planned(host("server2", config=outside), unseen=["server1"]).bootstrap == "server2"


def test_a_token_that_another_run_left_is_replaced_by_the_clusters_before_the_host_joins() -> None:
    first = host("server1", begun=True, server_url=None, cluster_init=True, token_fingerprint="one")
    plan = planned(first, host("server2", token_fingerprint="two"), host("server3", token_fingerprint="one"))
    assert plan.token_needed == ("server2",) and plan.token_from == {"node": "server1", "path": "/var/lib/rancher/k3s/server/token"}


def test_the_first_by_name_begins_and_the_others_join_it() -> None:
    plan = planned(servers(3), host("agent1", "agent"))
    assert (plan.bootstrap, plan.order, plan.new) == ("server1", ("server1", "server2", "server3", "agent1"), plan.order)
    assert keys(plan) == {"server1": {"cluster-init": True}, **{name: {"server": "https://10.0.0.1:6443"} for name in ("server2", "server3", "agent1")}}
    assert plan.datastore == "etcd" and plan.token_from is None


def test_server2_comes_before_server10() -> None:
    assert planned([host(f"server{number}") for number in (10, 9, 2)]).bootstrap == "server2"


def test_the_same_server_begins_whatever_the_inventorys_order() -> None:
    nodes = servers(5) + [host("agent1", "agent")]
    for seed in range(20):
        random.Random(seed).shuffle(nodes)
        assert planned(nodes).bootstrap == "server1"


def test_a_cluster_that_exists_is_joined_and_never_begun_again() -> None:
    plan = planned(host("server1"), host("server2", begun=True, server_url=None, cluster_init=True), host("server3"))
    assert plan.bootstrap == "server2"
    assert [name for name, keys in keys(plan).items() if keys.get("cluster-init")] == ["server2"]
    assert keys(plan)["server1"] == {"server": "https://10.0.0.2:6443"} and plan.new == ("server1", "server3")


def test_a_server_that_is_up_is_joined_rather_than_one_that_is_down() -> None:
    assert planned(host("server1", begun=True, ready=False), host("server2", begun=True), host("server3")).bootstrap == "server2"


def test_a_cluster_that_is_up_to_date_is_left_as_it_is() -> None:
    nodes = [host("server1", begun=True, cluster_init=True, server_url=None), host("server2", begun=True), host("server3", begun=True),
             host("agent1", "agent", begun=True)]
    plan = planned(nodes)
    assert plan.new == () and plan.token_needed == ()
    assert keys(plan)["server1"] == {"cluster-init": True} and keys(plan)["agent1"] == {"server": "https://10.0.0.1:6443"}
    nodes[0]["info"]["ready"] = False  # then another is joined by, and still nobody's configuration changes
    assert keys(planned(nodes)) == keys(plan)


def test_one_server_keeps_its_state_in_sqlite_unless_told_otherwise() -> None:
    plan = planned(host("server1"), host("agent1", "agent"))
    assert plan.datastore == "sqlite" and keys(plan)["server1"] == {}
    assert keys(planned(host("server1", config={"cluster-init": True}))) == {"server1": {"cluster-init": True}}


def test_a_single_server_that_gets_company_moves_to_etcd() -> None:
    plan = planned(host("server1", begun=True, datastore="sqlite", server_url=None), host("server2"), host("server3"))
    assert keys(plan)["server1"] == {"cluster-init": True} and plan.datastore == "etcd"


def test_servers_with_an_external_datastore_meet_there() -> None:
    plan = planned(servers(2, config={"datastore-endpoint": "postgres://db/k3s"}), host("agent1", "agent"))
    assert plan.datastore == "external" and keys(plan)["server2"] == {} and keys(plan)["agent1"] == {"server": "https://10.0.0.1:6443"}


def test_a_fixed_address_is_what_nodes_join_by() -> None:
    assert keys(planned(servers(3), url="https://k3s.example.no:6443"))["server2"] == {"server": "https://k3s.example.no:6443"}


def test_an_ipv6_address_and_another_port_become_a_url() -> None:
    node = host("server1", config={"https-listen-port": 7443})
    node["address"] = "fd00::1"
    assert keys(planned(node, host("agent1", "agent")))["agent1"] == {"server": "https://[fd00::1]:7443"}


def test_the_token_comes_from_the_server_that_is_joined() -> None:
    plan = planned(host("server1"), host("server2", begun=True), host("server3"))
    assert plan.token_from == {"node": "server2", "path": "/var/lib/rancher/k3s/server/token"} and plan.token_needed == ("server1", "server3")


def test_the_token_of_an_interrupted_run_is_taken_up() -> None:
    plan = planned(host("server1"), host("server2", token_fingerprint="left"), host("server3"))
    assert plan.token_from == {"node": "server2", "path": "/etc/rancher/k3s/token"}


def test_the_leader_is_restarted_last_and_agents_after_the_servers() -> None:
    plan = planned(host("server1", begun=True, etcd={"is_leader": True}), host("server2", begun=True), host("server3", begun=True),
                   host("agent1", "agent", begun=True))
    assert plan.turns == (("server2",), ("server3",), ("server1",), ("agent1",))


# What is refused


@pytest.mark.parametrize(("count", "instead"), [(2, "Take 1 or 3"), (4, "Take 3 or 5"), (6, "Take 5 or 7")])
def test_an_even_number_of_etcd_servers_is_refused_with_the_reason(count: int, instead: str) -> None:
    text = refused(servers(count))
    assert f"{count} servers with embedded etcd" in text and "odd number" in text and instead in text and f"the loss of {(count - 1) // 2}," in text


def test_two_servers_with_an_external_datastore_are_no_even_etcd() -> None:
    planned(servers(2, config={"datastore-endpoint": "mysql://x"}))


def test_two_hosts_of_one_name_are_refused() -> None:
    text = refused(host("server1", node_name="node"), host("agent1", "agent", node_name="Node"))
    assert "server1 and agent1 have the same node name, node" in text and "hostname" in text


@pytest.mark.parametrize(("address", "said"), [("10.0.0.1", "agent1 and server1 have the same address, 10.0.0.1"),
                                               ("127.0.0.1", "server1 has the address 127.0.0.1, which leads every other host to itself")])
def test_an_address_that_does_not_lead_to_one_server_is_refused(address: str, said: str) -> None:
    server, agent = {**host("server1"), "address": address}, host("agent1", "agent")
    shared = {**agent, "address": address} if address.startswith("10.") else agent
    told = refused(shared, server)
    assert said in told and "k3s_address" in told
    assert planned(shared, server, url="https://k3s.example.no:6443").url == "https://k3s.example.no:6443"
    assert planned({**host("server1"), "address": "127.0.0.1"}).bootstrap == "server1"


def test_agents_behind_one_address_are_no_matter_as_nobody_joins_by_it() -> None:
    assert planned(host("server1"), {**host("agent1", "agent"), "address": "nat"}, {**host("agent2", "agent"), "address": "nat"}).bootstrap == "server1"


@pytest.mark.parametrize("other", ["10.0.0.5", ["10.0.0.5", "fd00::5"], "fd00::5, 10.0.0.5"])
def test_one_node_ip_for_two_hosts_is_refused(other: Any) -> None:
    assert "agent1 and agent2 have the same node-ip, 10.0.0.5" in refused(host("server1"), host("agent1", "agent", config={"node-ip": "10.0.0.5"}),
                                                                          host("agent2", "agent", config={"node-ip": other}))


def test_a_node_name_in_config_counts_instead_of_the_hostname() -> None:
    planned(host("server1", node_name="node", config={"node-name": "one"}), host("agent1", "agent", node_name="node"))


def test_two_hosts_of_one_machine_id_are_refused() -> None:
    text = refused(host("server1", machine_id="abc"), host("agent1", "agent", machine_id="abc"))
    assert "the same machine-id, abc" in text and "systemd-machine-id-setup" in text


def test_one_binary_for_different_processors_is_refused() -> None:
    nodes = [host("server1"), host("agent1", "agent", architecture="aarch64")]
    assert "server1 (x86_64)" in refused(nodes) and "agent1 (aarch64)" in refused(nodes)
    nodes[1]["binary"] = "k3s-arm64"
    planned(nodes)


def test_a_datastore_both_external_and_embedded_is_refused() -> None:
    assert "either external or embedded" in refused(host("server1", config={"datastore-endpoint": "x", "cluster-init": True}))
    assert "all servers, or for none" in refused(host("server1", config={"datastore-endpoint": "x"}), host("server2"), host("server3"))
    assert "cannot move it" in refused(host("server1", begun=True, config={"datastore-endpoint": "x"}))


def test_hosts_of_two_clusters_are_refused() -> None:
    text = refused(host("server1", begun=True), host("server2", begun=True, ca_fingerprint="other"), host("server3"))
    assert "belong to 2 clusters" in text and "state reset" in text


def test_an_agent_of_a_lost_cluster_is_refused() -> None:
    assert "none of these servers is part of" in refused(host("server1"), host("agent1", "agent", begun=True))


def test_tokens_that_differ_are_refused() -> None:
    text = refused(host("server1", begun=True), host("server2", begun=True, token_fingerprint="other"), host("server3"))
    assert "tokens of server1 and server2 are different" in text


def test_another_token_than_the_clusters_is_refused_without_telling_it() -> None:
    text = refused(host("server1", begun=True), token="not-the-one")
    assert "not the one of the cluster" in text and "not-the-one" not in text


def test_another_agent_token_than_the_cluster_began_with_is_refused_without_telling_it() -> None:
    """k3s takes it at one start, and ends at the next."""
    began = fingerprint("agents-0123456789", SALT)
    running = servers(1, begun=True, cluster_init=True, agent_token_fingerprint=began)
    with pytest.raises(Refused, match="is not the token by which agents join this cluster, as server1 has it") as told:
        planned(running, agent_token="another-0123456789")
    assert "another-0123456789" not in str(told.value)
    for token in ("agents-0123456789", ""):
        planned(running, agent_token=token)
    planned(servers(1), agent_token="another-0123456789")


def test_a_downgrade_and_a_skipped_minor_are_refused() -> None:
    assert "server1: v1.29.9+k3s1 is older" in refused(host("server1", begun=True), version="v1.29.9+k3s1")
    assert "go to v1.31 first" in refused(host("server1", begun=True), version="v1.32.0+k3s1")


def test_an_agent_newer_than_the_oldest_server_is_refused() -> None:
    nodes = [host("server1", begun=True), host("agent1", "agent", begun=True, version="v1.31.0+k3s1")]
    assert "upgrade the servers first" in refused(nodes)
    assert "newer than a server" in refused(host("server1", begun=True), host("agent1", "agent"), version="v1.31.0+k3s1")


def test_a_host_that_changes_its_role_is_refused() -> None:
    assert "server1 is a k3s agent and shall be a server" in refused(host("server1", role="server", begun=True) | {"info": host("x", begun=True)["info"]
                                                                                                                   | {"role": "agent"}})


def test_no_server_is_refused() -> None:
    assert "k3s_servers" in refused(host("agent1", "agent"))


def test_a_server_key_in_config_is_refused_because_it_is_planned() -> None:
    assert "k3s_url" in refused(host("server1"), host("agent1", "agent", config={"server": "https://elsewhere:6443"}))


def test_all_reasons_are_told_at_once() -> None:
    with pytest.raises(Refused) as error:
        planned(host("server1", machine_id="abc"), host("server2", machine_id="abc"))
    assert len(error.value.details["objections"]) == 2


@pytest.mark.parametrize(("url", "meant"), [("k3s.example.no", "https://k3s.example.no:6443"), ("k3s.example.no:443", "https://k3s.example.no:443"),
                                            ("http://k3s.example.no:6443", "https://k3s.example.no:6443"), ("https://", "https://")])
def test_a_url_that_nobody_can_join_by_is_refused_with_what_was_meant(url: str, meant: str) -> None:
    assert meant in refused(servers(1), url=url)


def test_agents_alone_are_told_to_add_a_server_and_not_to_reset_a_healthy_agent() -> None:
    told = refused(host("agent1", "agent", begun=True), unseen=["server1"])
    assert "--limit server1,agent1" in told and "reset" not in told and "group k3s_servers" not in told


def test_what_a_drop_in_says_is_planned_with() -> None:
    node = host("server1", config={"tls-san": ["a"]})
    node["drop_ins"] = {"60-b": {"https-listen-port": 7443, "tls-san+": ["c"]}, "50-a": {"https-listen-port": 8443, "cluster-init": True}}
    plan = planned(node, host("agent1", "agent"))
    assert plan.url == "https://10.0.0.1:7443" and plan.datastore == "etcd"


def test_a_renamed_host_is_refused_before_it_registers_a_second_node() -> None:
    told = refused(servers(1, begun=True), host("agent1", "agent", begun=True, node_name="worker-7", registered_name="agent1"))
    assert "agent1 is registered as agent1, and would now be worker-7" in told and "node-name" in told
    named = host("agent1", "agent", begun=True, node_name="worker-7", registered_name="agent1", config={"node-name": "agent1"})
    assert planned(servers(1, begun=True), named).new == ()


def test_a_name_that_somebody_wrote_into_the_file_that_is_written_anew_renames_nothing() -> None:
    edited = host("server1", begun=True, server_url=None, node_name="somebody", default_node_name="server1", registered_name="server1")
    assert planned(edited).new == ()
    by_drop_in = host("server1", begun=True, server_url=None, node_name="worker-7", default_node_name="worker-7", registered_name="server1")
    assert "server1 is registered as server1, and would now be worker-7" in refused(by_drop_in)


@pytest.mark.parametrize(("was", "now", "said"), [
    ({"cluster-cidr": "10.52.0.0/16"}, {}, "cluster-cidr is 10.52.0.0/16, and would be 10.42.0.0/16"),
    ({}, {"service-cidr": "10.99.0.0/16"}, "service-cidr is 10.43.0.0/16, and would be 10.99.0.0/16"),
    ({"cluster-domain": "a.example"}, {"cluster-domain": "b.example"}, "cluster-domain is a.example, and would be b.example")])
def test_what_k3s_takes_only_when_a_cluster_begins_cannot_change(was: Dict[str, str], now: Dict[str, str], said: str) -> None:
    assert said in refused(host("server1", begun=True, server_url=None, fixed=was, config=now))
    assert planned(host("server1", begun=True, server_url=None, fixed=was, config=dict(was))).bootstrap == "server1"
    assert planned(host("server1", config=now)).new == ("server1",)


def test_another_data_folder_would_be_an_empty_cluster() -> None:
    told = refused(host("server1", begun=True, server_url=None, data_dir="/srv/k3s"))
    assert "data-dir is /srv/k3s, and would be /var/lib/rancher/k3s" in told
    assert planned(host("server1", begun=True, server_url=None, data_dir="/srv/k3s", config={"data-dir": "/srv/k3s"})).new == ()


def test_a_url_that_is_set_later_reaches_the_nodes_that_exist() -> None:
    nodes = [host("server1", begun=True, server_url=None, cluster_init=True), host("server2", begun=True), host("server3", begun=True),
             host("agent1", "agent", begun=True)]
    url = "https://k3s.example.no:6443"
    assert keys(planned(*nodes, url=url)) == {"server1": {"cluster-init": True}, **{name: {"server": url} for name in ("server2", "server3", "agent1")}}
    assert keys(planned(*nodes))["agent1"] == {"server": "https://10.0.0.1:6443"}


def test_a_node_that_joins_by_a_server_that_is_gone_follows_to_one_that_is_there() -> None:
    agent = host("agent1", "agent", begun=True, server_url="https://10.0.0.9:6443")
    assert keys(planned(host("server1", begun=True, server_url=None), agent))["agent1"] == {"server": "https://10.0.0.1:6443"}
    by_name = host("agent1", "agent", begun=True, server_url="https://server1:6443")
    assert keys(planned(host("server1", begun=True, server_url=None), by_name))["agent1"] == {"server": "https://server1:6443"}
    assert keys(planned(host("server1", begun=True, server_url=None), agent, unseen=["server2", "server3"]))["agent1"] == {"server": "https://10.0.0.9:6443"}


def test_a_host_that_was_reset_joins_again_after_its_old_node_has_gone() -> None:
    nodes = [{"name": name} for name in ("server1", "agent1", "agent10")]
    plan = planned(host("server1", begun=True, server_url=None, nodes=nodes), host("agent1", "agent"), host("agent2", "agent"))
    assert [name for name, of in plan.hosts.items() if of.removes_old_node] == ["agent1"] and plan.hosts["agent1"].node_name == "agent1"
    assert not planned(host("server1"), host("agent1", "agent")).hosts["agent1"].removes_old_node


def adopted(said: Dict[str, Any], environment: Sequence[str] = (), **options: Any) -> Dict[str, Any]:
    return host("server1", begun=True, server_url=None, set_up_by_others={"config": said, "environment": list(environment)}, **options)


def test_a_setup_by_the_install_script_is_refused_where_something_would_be_lost() -> None:
    told = refused(adopted({"flannel-backend": "host-gw", "token": "********", "cluster-init": True}, ["HTTP_PROXY"]))
    assert "server1: flannel-backend: host-gw would be lost; environment HTTP_PROXY" in told and "k3s_adopt" in told and "token" not in told
    covered = adopted({"flannel-backend": "host-gw"}, ["HTTP_PROXY"], config={"flannel-backend": "host-gw"})
    covered["environment"] = ["HTTP_PROXY"]
    assert planned(covered).new == ()
    let_go = adopted({"flannel-backend": "host-gw"}, ["HTTP_PROXY"])
    let_go["adopt"] = True
    assert planned(let_go).new == ()


def test_each_host_gets_the_arguments_of_its_tasks() -> None:
    fresh = planned(servers(3), host("agent1", "agent")).hosts
    assert {name: (of.install["start"], of.start) for name, of in fresh.items()} == {
        "server1": (True, {"voters": 3}), "server2": (False, {"voters": None}), "server3": (False, {"voters": None}), "agent1": (False, {"voters": None})}
    there = planned(host("server1", begun=True), host("agent1", "agent", begun=True)).hosts
    assert all(of.install == {"start": True, "restart": False, "wait": True} and of.start is None for of in there.values())
    stopped = planned(host("server1", begun=True, service={"state": "failed"})).hosts["server1"]
    assert stopped.install["start"] and not stopped.install["wait"] and stopped.start == {"voters": None}


def test_labels_and_taints_are_given_and_taken_back_and_nothing_is_asked_where_there_never_were_any() -> None:
    marked = host("agent1", "agent", begun=True, config={"node-label": "tier=front", "node-taint": ["a=b:NoSchedule"]})
    plan = planned(host("server1", begun=True), marked, host("agent2", "agent", begun=True, node={"marked": True}), host("agent3", "agent", begun=True))
    assert {name: of.marks for name, of in plan.hosts.items()} == {
        "server1": None, "agent1": {"labels": ["tier=front"], "taints": ["a=b:NoSchedule"]}, "agent2": {"labels": [], "taints": []}, "agent3": None}


def as_ansible_prints(plan: Plan) -> str:
    return '        "msg": [\n' + ",\n".join(f'            "{line}"' for line in plan.summary) + "\n        ]\n"


def test_the_plan_of_a_new_cluster_is_told_in_sentences_which_the_page_shows() -> None:
    plan = planned(servers(3), host("agent1", "agent"))
    assert as_ansible_prints(plan) in PAGE.read_text(encoding="utf-8")
    assert plan.summary == (
        "3 servers with embedded etcd, 1 agent.", "server1: install k3s and begin a new cluster.",
        "server2: install k3s and join as a server through https://10.0.0.1:6443.",
        "server3: install k3s and join as a server through https://10.0.0.1:6443.",
        "agent1: install k3s and join as an agent through https://10.0.0.1:6443.")


def test_the_plan_of_a_changed_key_names_the_file_the_key_and_the_order_of_restarts() -> None:
    reason = "/etc/rancher/k3s/config.yaml differs in tls-san"
    changed = [{**node, "changes": [reason], "restarts": [reason]} for node in servers(3, begun=True, cluster_init=True)]
    changed[0]["info"]["etcd"] = {"is_leader": True}
    plan = planned(changed, host("agent1", "agent", begun=True))
    assert as_ansible_prints(plan) in PAGE.read_text(encoding="utf-8")
    turns = "Restart server2, then server3, then server1; each waits until the one before is Ready."
    assert plan.summary == ("3 servers with embedded etcd, 1 agent.", *(f"server{number}: {reason}." for number in (1, 2, 3)), turns)
    assert planned(servers(3, begun=True, cluster_init=True), host("agent1", "agent", begun=True)).summary[-1] == "Nothing to change."


def test_a_restart_that_an_earlier_run_missed_is_in_the_plan() -> None:
    told = planned(host("server1", begun=True, restart_pending=["/etc/rancher/k3s/registries.yaml is missing"])).summary
    assert told[1:] == ("server1: /etc/rancher/k3s/registries.yaml is missing.", "Restart server1; each waits until the one before is Ready.")


def test_one_agent_that_changes_is_restarted_before_the_others() -> None:
    changed = [{**host(f"agent{number}", "agent", begun=True), "restarts": ["x"] if number > 2 else []} for number in (1, 2, 3, 4)]
    assert planned(host("server1", begun=True), changed).turns == (("server1",), ("agent3",), ("agent4", "agent1", "agent2"))


def test_what_nobody_said_what_it_is_to_be_is_named() -> None:
    with pytest.raises(Refused, match="what server1 is to be.*wanted"):
        Fleet.of({"server1": host("server1")["info"]})


def test_every_rule_of_the_file_is_in_the_table() -> None:
    module = sys.modules[make_plan.__module__]
    rules = {value for name, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == module.__name__
             and getattr(value, "__annotations__", {}).get("return") == "str" and not name.startswith("_")}
    assert rules == set(RULES)
