# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes of a cluster together: what must not be, and who begins, who joins, in which order. Pure: values in, values out.

A rule is a function that answers with its own sentence, or with nothing. Add one to RULES and it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import CONFIG_DIR, adoption, configuration
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.info import fingerprint
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version, refuse_agent_skew, refuse_server_step
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.observed import checked, one_line_each


KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"  # where k3s writes it, unless write-kubeconfig names another file


@dataclass(frozen=True)
class Host:
    """A host as k3s_info observed it: what it is, and in `wanted` what it is to be."""

    name: str
    info: Mapping[str, Any]

    @property
    def wanted(self) -> Mapping[str, Any]:
        return self.info.get("wanted") or {}

    @property
    def role(self) -> str:
        return str(self.wanted["role"])

    @property
    def address(self) -> str:
        """By which the other hosts reach it."""
        return str(self.wanted.get("address") or self.name)

    @property
    def config(self) -> Mapping[str, Any]:
        """k3s' configuration keys as it reads them, without the values of secrets."""
        return self.wanted.get("config") or {}

    @property
    def node_name(self) -> str:
        """As Kubernetes will know it. What config.yaml on the host says does not count, as it is written anew; a drop-in does."""
        with_id = configuration.is_true(self.config.get("with-node-id"))  # made by k3s at its first start; the host knows it
        by_host = self.info.get("node_name" if with_id else "default_node_name") or self.info.get("node_name")
        return str(self.config.get("node-name") or by_host or self.name).lower()

    @property
    def url(self) -> str:
        """By which others join it."""
        return f"https://{_bracketed(self.address)}:{configuration.port(self.config)}"

    @property
    def has_cluster(self) -> bool:
        return bool(self.info.get("has_cluster"))

    @property
    def runs(self) -> bool:
        return str((self.info.get("service") or {}).get("state")) == "active"

    @property
    def ready(self) -> bool:
        return bool(self.info.get("ready"))

    @property
    def version(self) -> Optional[Version]:
        return Version.of(self.info["version"]) if self.info.get("version") else None

    @property
    def is_leader(self) -> bool:
        return bool((self.info.get("etcd") or {}).get("is_leader"))

    @property
    def changes(self) -> List[str]:
        """What of its files is to change, and which restarts an earlier run has missed."""
        return [*(self.wanted.get("changes") or []), *(self.info.get("restart_pending") or [])]

    @property
    def restarts(self) -> List[str]:
        return [*(self.wanted.get("restarts") or []), *(self.info.get("restart_pending") or [])]


@dataclass(frozen=True)
class Fleet:
    """All hosts of the cluster."""

    nodes: Tuple[Host, ...]
    url: str = ""  # a fixed address for joining, such as a load balancer's
    version: Optional[Version] = None
    token: Optional[str] = None  # fingerprints
    agent_token: Optional[str] = None
    unseen: Tuple[str, ...] = ()  # servers of the cluster that this run does not look at

    @classmethod
    def of(cls, observed: Mapping[str, Mapping[str, Any]], url: str = "", version: str = "", token: str = "", agent_token: str = "", salt: str = "",
           unseen: Iterable[str] = ()) -> Fleet:
        checked(observed)
        blind = [name for name, info in observed.items() if not (info.get("wanted") or {}).get("role")]
        if blind:
            raise Refused(f"it is not known what {', '.join(blind)} is to be", "observed", "Give k3s_info `wanted` on every host, and its results here.")
        return cls(tuple(Host(name, info) for name, info in observed.items()), url, Version.of(version) if version else None,
                   fingerprint(token, salt), fingerprint(agent_token, salt), tuple(unseen))

    @property
    def servers(self) -> List[Host]:
        return sorted((node for node in self.nodes if node.role == "server"), key=_natural)

    @property
    def agents(self) -> List[Host]:
        return sorted((node for node in self.nodes if node.role == "agent"), key=_natural)

    @property
    def begun(self) -> List[Host]:
        """Servers of a cluster that exists."""
        return [node for node in self.servers if node.has_cluster]

    @property
    def external(self) -> bool:
        return any(node.config.get("datastore-endpoint") for node in self.servers)

    @property
    def etcd(self) -> bool:
        """Whether the servers keep the cluster's state in an etcd of their own."""
        wants = len(self.servers) + len(self.unseen) > 1 or any(configuration.is_true(node.config.get("cluster-init")) for node in self.servers)
        return not self.external and (wants or any(node.info.get("datastore") == "etcd" for node in self.servers))


@dataclass(frozen=True)
class HostPlan:
    """What is done with one host, as the arguments of the role's tasks. None and False where a task leaves it out."""

    node_name: str  # in Kubernetes
    config: Mapping[str, Any]  # the keys that make it begin or join
    install: Mapping[str, Any]
    start: Optional[Mapping[str, Any]]  # after the cluster has begun and those that run have been restarted
    removes_old_node: bool  # the cluster still has a Node of it, from before it was reset or reinstalled
    marks: Optional[Mapping[str, Any]]  # labels and taints of its Node

    def result(self) -> Dict[str, Any]:
        return {"node_name": self.node_name, "config": dict(self.config), "install": dict(self.install), "start": dict(self.start) if self.start else None,
                "removes_old_node": self.removes_old_node, "marks": dict(self.marks) if self.marks else None}


@dataclass(frozen=True)
class Plan:
    """Who begins, who joins, in which order hosts are restarted, and what each task gets."""

    bootstrap: str
    order: Tuple[str, ...]
    new: Tuple[str, ...]
    datastore: str
    url: str
    data_dir: str  # of the server that others join, by which its API is asked
    kubeconfig: str  # of the administrator, there
    turns: Tuple[Tuple[str, ...], ...]
    token_from: Optional[Mapping[str, str]]
    token_needed: Tuple[str, ...]
    hosts: Mapping[str, HostPlan]
    summary: Tuple[str, ...]

    def result(self) -> Dict[str, Any]:
        return {"bootstrap": self.bootstrap, "order": list(self.order), "new": list(self.new), "datastore": self.datastore, "url": self.url,
                "data_dir": self.data_dir, "kubeconfig": self.kubeconfig, "turns": [list(turn) for turn in self.turns],
                "token_from": dict(self.token_from) if self.token_from else None,
                "token_needed": list(self.token_needed), "hosts": {name: plan.result() for name, plan in self.hosts.items()},
                "summary": list(self.summary)}


def make_plan(fleet: Fleet) -> Plan:
    """Raises Refused with the sentences of all rules that object."""
    objections = one_line_each(rule(fleet) for rule in RULES)
    if objections:
        raise Refused(" ".join(objections), objections=objections)
    bootstrap = choose_bootstrap(fleet)
    url = fleet.url or bootstrap.url
    order = [bootstrap, *(node for node in fleet.servers if node is not bootstrap), *fleet.agents]
    new = [node for node in order if not node.has_cluster]
    return Plan(
        bootstrap.name, tuple(node.name for node in order), tuple(node.name for node in new), _datastore(fleet), url, configuration.data_dir(bootstrap.config),
        str(bootstrap.config.get("write-kubeconfig") or KUBECONFIG), restart_turns(fleet), token_source(fleet, bootstrap),
        tuple(node.name for node in order if _lacks_token(node, bootstrap)),
        {node.name: host_plan(node, bootstrap, url, fleet) for node in order}, tuple(one_line_each(_summary(bootstrap, url, fleet))))


def host_plan(node: Host, bootstrap: Host, url: str, fleet: Fleet) -> HostPlan:
    """All hosts get their files at the same time. The one that others join starts then, and so does what had been stopped; the others start after it."""
    join_later = not node.has_cluster and node is not bootstrap
    admits = node is bootstrap and any(not server.has_cluster and server is not bootstrap for server in fleet.servers)
    start: Optional[Dict[str, Any]] = None
    if not node.runs or admits:
        # etcd takes in one new member at a time, as the first server admits them.
        start = {"voters": len(fleet.servers) + len(fleet.unseen) if admits else None}
    return HostPlan(node.node_name, joining(node, bootstrap, url, fleet), {"start": not join_later, "restart": False, "wait": node.runs}, start,
                    node in _rejoining([node], bootstrap), _marks(node))


def restart_turns(fleet: Fleet) -> Tuple[Tuple[str, ...], ...]:
    """Hosts that run, as they are restarted or upgraded: one server at a time, etcd's leader last so that leadership moves once; then one agent
    before all the others. A turn begins when everybody of the one before is well. One that does not run is no part of it: it is started."""
    servers = sorted((node for node in fleet.servers if node.runs), key=lambda node: node.is_leader)
    # The first agent shows what becomes of the change, so it is one that changes.
    agents = sorted((node for node in fleet.agents if node.runs), key=lambda node: not node.restarts)
    turns = [(node.name,) for node in servers] + [tuple(node.name for node in some) for some in (agents[:1], agents[1:]) if some]
    return tuple(turns)


def _marks(node: Host) -> Optional[Dict[str, Any]]:
    """Labels and taints, where there are some, or were some of ours."""
    wanted = {"labels": _items(node.config.get("node-label")), "taints": _items(node.config.get("node-taint"))}
    without_kubelet = configuration.is_true(node.config.get("disable-agent"))
    there = (node.info.get("node") or {}).get("marked")
    return wanted if not without_kubelet and (there or any(key in node.config for key in ("node-label", "node-taint"))) else None


def _items(value: Any) -> List[str]:
    return [] if value is None else [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]


def _datastore(fleet: Fleet) -> str:
    return "external" if fleet.external else "etcd" if fleet.etcd else "sqlite"


def choose_bootstrap(fleet: Fleet) -> Host:
    """The server that others join. One of the cluster that exists, whatever the inventory's order, so that there is never a second.

    In a new cluster it is the first by name: two runs at once with two inventories of the same hosts choose the same one.
    """
    begun = fleet.begun
    return next((node for node in begun if node.ready), None) or (begun or fleet.servers)[0]


def joining(node: Host, bootstrap: Host, url: str, fleet: Fleet) -> Dict[str, Any]:
    """The keys that make a node begin or join. A node of the cluster keeps those it has: changing them would restart it for nothing."""
    if node.role == "server" and fleet.external:
        return {}  # servers meet in the datastore
    if node.has_cluster and not (node.role == "server" and fleet.etcd and node.info.get("datastore") == "sqlite"):
        kept: Dict[str, Any] = {"cluster-init": True} if node.info.get("cluster_init") else {}
        if node.info.get("server_url"):
            kept["server"] = url if moves(node, fleet) else node.info["server_url"]
        if node.role == "server" or kept:
            return kept
    if node is bootstrap:
        return {"cluster-init": True} if fleet.etcd else {}
    return {"server": url}


def moves(node: Host, fleet: Fleet) -> bool:
    """Whether a node of the cluster is to join by another URL than it does: by the one that is set, or away from a server that is gone."""
    there = str(node.info.get("server_url") or "")
    if fleet.url:
        return there.rstrip("/") != fleet.url.rstrip("/")
    known = {str(name).lower() for server in fleet.servers
             for name in (server.address, server.name, server.node_name, server.info.get("hostname"), *addresses_of(server)) if name}
    return not fleet.unseen and (urlsplit(there).hostname or "") not in known


def addresses_of(server: Host) -> List[str]:
    return list((server.info.get("node") or {}).get("addresses") or [])


def _rejoining(new: Iterable[Host], bootstrap: Host) -> List[Host]:
    """Hosts that were reset or reinstalled: the cluster still has a Node of the name, with the password of before."""
    names = {str(node["name"]) for node in bootstrap.info.get("nodes") or []}
    return [node for node in new if bootstrap.has_cluster and not node.has_cluster and node.node_name in names]


def token_source(fleet: Fleet, bootstrap: Host) -> Optional[Dict[str, str]]:
    """Where the cluster's token is: on the server that others join, else wherever an interrupted run has left one."""
    for node in [bootstrap, *fleet.begun, *fleet.servers]:
        if node.info.get("token_fingerprint"):
            begun = node.has_cluster
            return {"node": node.name, "path": f"{node.info['data_dir']}/server/token" if begun else f"{CONFIG_DIR}/token"}
    return None


def _lacks_token(node: Host, bootstrap: Host) -> bool:
    """Also with another one than the cluster's, as another run at the same time may have left on a host that has not joined yet."""
    own, cluster = node.info.get("token_fingerprint"), bootstrap.info.get("token_fingerprint")
    return not own or bool(cluster) and bootstrap.has_cluster and not node.has_cluster and own != cluster


# The rules


def there_is_a_server(fleet: Fleet) -> str:
    if fleet.servers:
        return ""
    if fleet.unseen:
        return (f"No server is part of this run, and the plan needs one (--limit?). "
                f"Add it, such as --limit {','.join([sorted(fleet.unseen)[0], *(node.name for node in fleet.agents)])}.")
    return "No host is to be a server: put at least one into the group k3s_servers."


def none_begins_beside_an_unseen_one(fleet: Fleet) -> str:
    if not fleet.unseen or fleet.begun or fleet.external or not fleet.servers:
        return ""
    return (f"{', '.join(fleet.unseen)} may have a cluster already, and this run does not look there (--limit?). "
            "Let it see all servers, or one of the cluster's, or the hosts would begin a second cluster.")


def one_name_each(fleet: Fleet) -> str:
    return _twice(fleet, "node_name", "the same node name",
                  "Kubernetes knows a node by its name: give each host a hostname of its own, or node-name in its config.")


def one_machine_each(fleet: Fleet) -> str:
    return _twice(fleet, "machine_id", "the same machine-id",
                  "They were cloned from one image: empty /etc/machine-id there, and run `systemd-machine-id-setup` on each host.")


def one_address_each(fleet: Fleet) -> str:
    """By a server's address the others join it, so it has to lead to that server from everywhere."""
    if fleet.url or len(fleet.nodes) == 1:
        return ""
    found: Dict[str, List[Host]] = {}
    for node in fleet.nodes:
        found.setdefault(node.address.lower().strip("[]"), []).append(node)
    told = [f"{' and '.join(node.name for node in nodes)} have the same address, {address}." for address, nodes in sorted(found.items())
            if len(nodes) > 1 and any(node.role == "server" for node in nodes)]
    told += [f"{nodes[0].name} has the address {address}, which leads every other host to itself." for address, nodes in sorted(found.items())
             if (address in ("localhost", "::1") or address.startswith("127.")) and any(node.role == "server" for node in nodes)]
    if not told:
        return ""
    return (f"{' '.join(told)} Hosts join a server by its address: give each one by which the others reach it as k3s_address "
            "(ansible_host may be a bastion's or a tunnel's).")


def one_node_ip_each(fleet: Fleet) -> str:
    found: Dict[str, List[str]] = {}
    for node in fleet.nodes:
        for address in addresses_in(node.config.get("node-ip")):
            found.setdefault(address, []).append(node.name)
    told = [f"{' and '.join(names)} have the same node-ip, {address}." for address, names in sorted(found.items()) if len(names) > 1]
    return f"{' '.join(told)} Set node-ip in the variables of each host, or leave it out." if told else ""


def addresses_in(value: Any) -> List[str]:
    """k3s takes a list, or a text with commas."""
    items = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    return [str(item).strip().lower() for item in items if str(item).strip()]


def roles_stay(fleet: Fleet) -> str:
    wrong = [f"{node.name} is a k3s {node.info['role']} and shall be {_a(node.role)}" for node in fleet.nodes
             if node.info.get("role") and node.info["role"] != node.role]
    return f"{'; '.join(wrong)}. Take it out of the cluster first, by state absent." if wrong else ""


def no_even_etcd(fleet: Fleet) -> str:
    count = len(fleet.servers) + len(fleet.unseen)
    if not fleet.etcd or count % 2:
        return ""
    return (f"{count} servers with embedded etcd: it needs an odd number. {count} survive the loss of {(count - 1) // 2}, as {count - 1} do, "
            "and more of them must answer each write. " + ("Take 1 or 3." if count == 2 else f"Take {count - 1} or {count + 1}."))


def one_architecture_for_one_binary(fleet: Fleet) -> str:
    for binary in sorted({str(node.wanted["binary"]) for node in fleet.nodes if node.wanted.get("binary")}):
        found = {node.info.get("architecture") or "unknown": node.name for node in fleet.nodes if node.wanted.get("binary") == binary}
        if len(found) > 1:
            hosts = ", ".join(f"{name} ({architecture})" for architecture, name in sorted(found.items()))
            return (f"One binary, {binary}, for different processors: {hosts}. "
                    "Give each architecture its own, for example by k3s_binary in the inventory's group_vars.")
    return ""


def one_datastore(fleet: Fleet) -> str:
    outside = [node.name for node in fleet.servers if node.config.get("datastore-endpoint")]
    inside = [node.name for node in fleet.servers if configuration.is_true(node.config.get("cluster-init"))]
    if outside and inside:
        return "datastore-endpoint and cluster-init are both set: the datastore is either external or embedded. Remove one of them."
    without = [node.name for node in fleet.servers if not node.config.get("datastore-endpoint")]
    if outside and without:
        return (f"{', '.join(outside)} would use the external datastore, {', '.join(without)} an embedded one. "
                "Set datastore-endpoint for all servers, or for none.")
    moved = [node.name for node in fleet.servers if outside and node.info.get("datastore") in ("etcd", "sqlite")]
    if moved:
        return f"{', '.join(moved)} has an embedded datastore, and k3s cannot move it into the external one. Remove datastore-endpoint, or reset the cluster."
    return ""


def one_cluster(fleet: Fleet) -> str:
    found: Dict[str, List[str]] = {}
    for node in fleet.nodes:
        if node.has_cluster and node.info.get("ca_fingerprint"):
            found.setdefault(node.info["ca_fingerprint"], []).append(node.name)
    if len(found) > 1:
        clusters = " and ".join(f"one of {', '.join(names)}" for names in found.values())
        return (f"These hosts belong to {len(found)} clusters: {clusters}. Nothing can join two clusters together: "
                "decide which one stays, and reset the other's hosts by state reset.")
    lost = [node.name for node in fleet.agents if node.has_cluster]
    if lost and fleet.servers and not fleet.begun and not fleet.external and not fleet.unseen:
        return (f"{', '.join(lost)} belongs to a cluster that none of these servers is part of. "
                "Add a server of that cluster to the inventory, or reset the agent by state reset.")
    return ""


def one_token(fleet: Fleet) -> str:
    found = {node.info["token_fingerprint"]: node.name for node in fleet.servers if node.info.get("token_fingerprint") and node.has_cluster}
    if len(found) > 1:
        return (f"The tokens of {' and '.join(sorted(found.values()))} are different. "
                "Nodes of one cluster share one token: reset those that do not belong to it.")
    if fleet.token and found and fleet.token not in found:
        return (f"The token given is not the one of the cluster, which {', '.join(found.values())} has. Leave k3s_token out to use the cluster's own; "
                "`k3s token rotate` on a server changes it.")
    return ""


def the_agent_token_stays(fleet: Fleet) -> str:
    """k3s keeps its passwords in the datastore too, where nothing of it writes a later one: a server that takes another agent token at one start finds its
    file newer than the datastore at the next, and ends, at each boot."""
    others = [node.name for node in fleet.servers if node.has_cluster and node.info.get("agent_token_fingerprint") not in (None, fleet.agent_token)]
    if not fleet.agent_token or not others:
        return ""
    return (f"k3s_agent_token is not the token by which agents join this cluster, as {', '.join(others)} has it. k3s takes one only when the cluster begins; "
            "with another one servers would not start a second time. Give the one that the cluster began with, or leave k3s_agent_token out.")


def no_step_back_and_none_skipped(fleet: Fleet) -> str:
    told = []
    for node in fleet.nodes:
        if fleet.version and node.version and node.has_cluster and node.role == "server":
            refusal = refuse_server_step(node.version, fleet.version)
            if refusal:
                told.append(f"{node.name}: {refusal}")
    return " ".join(told)


def agents_follow_servers(fleet: Fleet) -> str:
    servers = [version for version in ((node.version if node.has_cluster else fleet.version) for node in fleet.servers) if version]
    if not servers:
        return ""
    told = []
    for node in fleet.agents:
        version = node.version if node.has_cluster else fleet.version or node.version
        refusal = refuse_agent_skew(version, min(servers)) if version else ""
        if refusal:
            told.append(f"{node.name}: {refusal}")
    return " ".join(told)


def joining_is_planned_here(fleet: Fleet) -> str:
    wrong = [node.name for node in fleet.nodes if "server" in node.config]
    return f"config of {', '.join(wrong)} has server: which server to join is planned here. Give a load balancer's address as k3s_url." if wrong else ""


def names_stay(fleet: Fleet) -> str:
    """Under another name k3s would register a second Node, and the first would stay with its pods."""
    told = [f"{node.name} is registered as {node.info['registered_name']}, and would now be {node.node_name}" for node in fleet.nodes
            if node.has_cluster and node.info.get("registered_name") and node.info["registered_name"] != node.node_name]
    if not told:
        return ""
    return (f"{'; '.join(told)}. Was the host renamed? Set node-name in its k3s_config to the name that is registered, "
            "or let it leave by the playbook reset and join again under the new name.")


def what_k3s_fixes_stays(fleet: Fleet) -> str:
    told = []
    for node in fleet.begun:
        for key, default in configuration.FIXED.items():
            was, now = str((node.info.get("fixed") or {}).get(key) or default), str(node.config.get(key) or default)
            if was != now:
                told.append(f"{node.name}: {key} is {was}, and would be {now}")
        was, now = str(node.info.get("data_dir") or ""), configuration.data_dir(node.config)
        if was and was != now:
            told.append(f"{node.name}: data-dir is {was}, and would be {now}")
    if not told:
        return ""
    return (f"{'; '.join(told)}. k3s takes this only when a cluster begins. Put it back; for another value make a new cluster "
            "(of data-dir, stop k3s and move the folder first).")


def nothing_of_another_setup_is_lost(fleet: Fleet) -> str:
    """On hosts that k3s' install script set up, say, whose unit is about to be replaced."""
    told = []
    for node in fleet.nodes:
        there = node.info.get("set_up_by_others") or {}
        found = adoption.Found(there.get("config") or {}, dict.fromkeys(there.get("environment") or [], ""))
        rows = adoption.lost(found, node.config, dict.fromkeys(node.wanted.get("environment") or [], "")) if not node.wanted.get("adopt") else []
        if rows:
            told.append(f"{node.name}: {adoption.table(rows)}")
    if not told:
        return ""
    return (f"k3s was set up by something else, with arguments or variables that are not in the configuration. {'. '.join(told)}. "
            "Put them into k3s_config (variables into k3s_environment), or give k3s_adopt=true to go on without them. Nothing was changed.")


def a_url_to_join_by(fleet: Fleet) -> str:
    """k3s takes https alone, and tries for as long as it is let."""
    parts = urlsplit(fleet.url)
    if not fleet.url or parts.scheme == "https" and parts.hostname:
        return ""
    meant = fleet.url.split("://")[-1].strip("/")
    return (f"k3s_url is {fleet.url}, and nodes join by https://NAME:PORT. "
            f"Write https://{meant}{'' if ':' in meant else ':6443'}, or port 443 of a load balancer.")


RULES: Tuple[Callable[[Fleet], str], ...] = (
    there_is_a_server, none_begins_beside_an_unseen_one, one_name_each, one_machine_each, one_address_each, one_node_ip_each,
    roles_stay, joining_is_planned_here, no_even_etcd,
    one_architecture_for_one_binary, one_datastore, one_cluster, one_token, the_agent_token_stays, no_step_back_and_none_skipped,
    agents_follow_servers, a_url_to_join_by, names_stay, what_k3s_fixes_stays,
    nothing_of_another_setup_is_lost)


def _twice(fleet: Fleet, key: str, what: str, hint: str) -> str:
    found: Dict[str, List[str]] = {}
    for node in fleet.nodes:
        value = node.node_name if key == "node_name" else str(node.info.get(key) or "").lower()
        if value:
            found.setdefault(value, []).append(node.name)
    told = [f"{' and '.join(names)} have {what}, {value}." for value, names in sorted(found.items()) if len(names) > 1]
    return f"{' '.join(told)} {hint}" if told else ""


def _summary(bootstrap: Host, url: str, fleet: Fleet) -> Tuple[str, ...]:
    kept = {"etcd": "embedded etcd", "sqlite": "SQLite", "external": "an external datastore"}[_datastore(fleet)]
    lines = [f"{_count(len(fleet.servers), 'server')} with {kept}, {_count(len(fleet.agents), 'agent')}."]
    new = [node for node in [*fleet.servers, *fleet.agents] if not node.has_cluster]
    if bootstrap in new:
        lines.append(f"{bootstrap.name}: install k3s and begin a new cluster.")
    joins = [node for node in new if node is not bootstrap]
    lines += [f"{node.name}: install k3s and join as {_a(node.role)} through {url}."
              f"{' Its old Node is removed first.' if _rejoining([node], bootstrap) else ''}" for node in joins]
    for node in [*fleet.servers, *fleet.agents]:
        if node.has_cluster:
            keys = joining(node, bootstrap, url, fleet)
            told = [*node.changes, *_join_changes(node, keys)]
            lines += [f"{node.name}: {'; '.join(told)}."] if told else []
            lines += [f"{node.name}: start k3s."] if not node.runs else []
    restarted = [[name for name in turn if _is_due(name, bootstrap, url, fleet)] for turn in restart_turns(fleet)]
    order = [" and ".join(turn) for turn in restarted if turn]
    lines += [f"Restart {', then '.join(order)}; each waits until the one before is Ready."] if order else []
    return tuple(lines) if len(lines) > 1 else (*lines, "Nothing to change.")


def _is_due(name: str, bootstrap: Host, url: str, fleet: Fleet) -> bool:
    node = next(node for node in fleet.nodes if node.name == name)
    return bool(node.restarts or node.has_cluster and _join_changes(node, joining(node, bootstrap, url, fleet)))


def _join_changes(node: Host, keys: Mapping[str, Any]) -> List[str]:
    """What becomes different for a node of the cluster by the keys that make it begin or join."""
    told = []
    if str(keys.get("server") or "") != str(node.info.get("server_url") or ""):
        told.append(f"join through {keys['server']}" if keys.get("server") else "join through no other server any more")
    if bool(keys.get("cluster-init")) and not node.info.get("cluster_init"):
        told.append("move the cluster's state from SQLite to embedded etcd")
    return told


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _natural(node: Host) -> List[Tuple[int, Any]]:
    """server2 before server10."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", node.name) if part]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _a(role: str) -> str:
    return "an agent" if role == "agent" else "a server"
