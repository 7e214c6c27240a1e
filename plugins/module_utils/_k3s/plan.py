# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes of a cluster together: what must not be, and who begins, who joins, in which order. Pure: values in, values out.

A rule is a function that answers with its own sentence, or with nothing. Add one to RULES and it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import CONFIG_DIR, adoption, configuration
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import secrets_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.info import fingerprint
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version, refuse_agent_skew, refuse_server_step


@dataclass(frozen=True)
class PlannedNode:
    """A host as it is (info, of k3s_info) and as it shall be."""

    name: str
    role: str
    address: str
    info: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    binary: str = ""
    environment: Tuple[str, ...] = ()  # names of variables of the service
    adopt: bool = False

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
    def ready(self) -> bool:
        return bool(self.info.get("ready"))

    @property
    def version(self) -> Optional[Version]:
        return Version.of(self.info["version"]) if self.info.get("version") else None

    @property
    def is_leader(self) -> bool:
        return bool((self.info.get("etcd") or {}).get("is_leader"))


@dataclass(frozen=True)
class Wanted:
    """The whole cluster as it shall be."""

    nodes: Tuple[PlannedNode, ...]
    url: str = ""  # a fixed address for joining, such as a load balancer's
    version: Optional[Version] = None
    token: Optional[str] = None  # fingerprints
    agent_token: Optional[str] = None
    unseen: Tuple[str, ...] = ()  # servers of the cluster that this run does not look at

    @classmethod
    def of(cls, nodes: Iterable[Mapping[str, Any]], url: str, version: str, token: str, agent_token: str, salt: str, unseen: Iterable[str] = ()) -> Wanted:
        listed = tuple(PlannedNode(node["name"], node["role"], node.get("address") or node["name"], node["info"],
                                   configuration.merged(node.get("config") or {}, node.get("drop_ins") or {}), node.get("binary") or "",
                                   tuple(node.get("environment") or ()), bool(node.get("adopt"))) for node in nodes)
        return cls(listed, url, Version.of(version) if version else None, fingerprint(token, salt), fingerprint(agent_token, salt), tuple(unseen))

    @property
    def servers(self) -> List[PlannedNode]:
        return sorted((node for node in self.nodes if node.role == "server"), key=_natural)

    @property
    def agents(self) -> List[PlannedNode]:
        return sorted((node for node in self.nodes if node.role == "agent"), key=_natural)

    @property
    def begun(self) -> List[PlannedNode]:
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
class Plan:
    """Who begins, who joins, and what each one's configuration gets for that."""

    bootstrap: str
    order: Tuple[str, ...]
    new: Tuple[str, ...]
    datastore: str
    url: str
    config: Mapping[str, Mapping[str, Any]]
    restart_order: Tuple[str, ...]
    token_from: Optional[Mapping[str, str]]
    token_needed: Tuple[str, ...]
    rejoining: Tuple[str, ...]
    node_names: Mapping[str, str]
    merged: Mapping[str, Mapping[str, Any]]
    summary: Tuple[str, ...]

    def result(self) -> Dict[str, Any]:
        return {
            "rejoining": list(self.rejoining), "node_names": dict(self.node_names),
            "merged": {name: dict(config) for name, config in self.merged.items()}, "bootstrap": self.bootstrap, "order": list(self.order),
            "new": list(self.new), "datastore": self.datastore, "url": self.url,
            "config": {name: dict(keys) for name, keys in self.config.items()}, "restart_order": list(self.restart_order),
            "token_from": dict(self.token_from) if self.token_from else None, "token_needed": list(self.token_needed), "summary": list(self.summary)}


def make_plan(wanted: Wanted) -> Plan:
    """Raises Refused with the sentences of all rules that object."""
    objections = [objection for objection in (rule(wanted) for rule in RULES) if objection]
    if objections:
        raise Refused(" ".join(objections), objections=objections)
    bootstrap = choose_bootstrap(wanted)
    url = wanted.url or bootstrap.url
    config = {node.name: joining(node, bootstrap, url, wanted) for node in wanted.nodes}
    order = [bootstrap, *(node for node in wanted.servers if node is not bootstrap), *wanted.agents]
    new = [node for node in order if not node.has_cluster]
    datastore = "external" if wanted.external else "etcd" if wanted.etcd else "sqlite"
    # The leader last, so that leadership moves once.
    restarts = sorted(wanted.servers, key=lambda node: node.is_leader) + wanted.agents
    return Plan(
        bootstrap.name, tuple(node.name for node in order), tuple(node.name for node in new), datastore, url, config,
        tuple(node.name for node in restarts), token_source(wanted, bootstrap),
        tuple(node.name for node in order if _lacks_token(node, bootstrap)), tuple(node.name for node in rejoining(new, bootstrap)),
        {node.name: node.node_name for node in order}, {node.name: _without_secrets(node.config) for node in order},
        _summary(bootstrap, new, wanted, datastore, url))


def choose_bootstrap(wanted: Wanted) -> PlannedNode:
    """The server that others join. One of the cluster that exists, whatever the inventory's order, so that there is never a second.

    In a new cluster it is the first by name: two runs at once with two inventories of the same hosts choose the same one.
    """
    begun = wanted.begun
    return next((node for node in begun if node.ready), None) or (begun or wanted.servers)[0]


def joining(node: PlannedNode, bootstrap: PlannedNode, url: str, wanted: Wanted) -> Dict[str, Any]:
    """The keys that make a node begin or join. A node of the cluster keeps those it has: changing them would restart it for nothing."""
    if node.role == "server" and wanted.external:
        return {}  # servers meet in the datastore
    if node.has_cluster and not (node.role == "server" and wanted.etcd and node.info.get("datastore") == "sqlite"):
        kept: Dict[str, Any] = {"cluster-init": True} if node.info.get("cluster_init") else {}
        if node.info.get("server_url"):
            kept["server"] = url if moves(node, wanted) else node.info["server_url"]
        if node.role == "server" or kept:
            return kept
    if node is bootstrap:
        return {"cluster-init": True} if wanted.etcd else {}
    return {"server": url}


def moves(node: PlannedNode, wanted: Wanted) -> bool:
    """Whether a node of the cluster is to join by another URL than it does: by the one that is set, or away from a server that is gone."""
    there = str(node.info.get("server_url") or "")
    if wanted.url:
        return there.rstrip("/") != wanted.url.rstrip("/")
    known = {str(name).lower() for server in wanted.servers
             for name in (server.address, server.name, server.node_name, server.info.get("hostname"), *_addresses(server)) if name}
    return not wanted.unseen and (urlsplit(there).hostname or "") not in known


def _addresses(server: PlannedNode) -> List[str]:
    return list((server.info.get("node") or {}).get("addresses") or [])


def rejoining(new: Iterable[PlannedNode], bootstrap: PlannedNode) -> List[PlannedNode]:
    """Hosts that were reset or reinstalled: the cluster still has a Node of the name, with the password of before."""
    names = {str(node["name"]) for node in bootstrap.info.get("nodes") or []}
    return [node for node in new if bootstrap.has_cluster and node.node_name in names]


def token_source(wanted: Wanted, bootstrap: PlannedNode) -> Optional[Dict[str, str]]:
    """Where the cluster's token is: on the server that others join, else wherever an interrupted run has left one."""
    for node in [bootstrap, *wanted.begun, *wanted.servers]:
        if node.info.get("token_fingerprint"):
            begun = node.has_cluster
            return {"node": node.name, "path": f"{node.info['data_dir']}/server/token" if begun else f"{CONFIG_DIR}/token"}
    return None


def _lacks_token(node: PlannedNode, bootstrap: PlannedNode) -> bool:
    """Also with another one than the cluster's, as another run at the same time may have left on a host that has not joined yet."""
    own, cluster = node.info.get("token_fingerprint"), bootstrap.info.get("token_fingerprint")
    return not own or bool(cluster) and bootstrap.has_cluster and not node.has_cluster and own != cluster


# The rules


def there_is_a_server(wanted: Wanted) -> str:
    if wanted.servers:
        return ""
    if wanted.unseen:
        return (f"No server is part of this run, and the plan needs one (--limit?). "
                f"Add it, such as --limit {','.join([sorted(wanted.unseen)[0], *(node.name for node in wanted.agents)])}.")
    return "No host is to be a server: put at least one into the group k3s_servers."


def none_begins_beside_an_unseen_one(wanted: Wanted) -> str:
    if not wanted.unseen or wanted.begun or wanted.external or not wanted.servers:
        return ""
    return (f"{', '.join(wanted.unseen)} may have a cluster already, and this run does not look there (--limit?). "
            "Let it see all servers, or one of the cluster's, or the hosts would begin a second cluster.")


def one_name_each(wanted: Wanted) -> str:
    return _twice(wanted, "node_name", "the same node name",
                  "Kubernetes knows a node by its name: give each host a hostname of its own, or node-name in its config.")


def one_machine_each(wanted: Wanted) -> str:
    return _twice(wanted, "machine_id", "the same machine-id",
                  "They were cloned from one image: empty /etc/machine-id there, and run `systemd-machine-id-setup` on each host.")


def one_address_each(wanted: Wanted) -> str:
    """By a server's address the others join it, so it has to lead to that server from everywhere."""
    if wanted.url or len(wanted.nodes) == 1:
        return ""
    found: Dict[str, List[PlannedNode]] = {}
    for node in wanted.nodes:
        found.setdefault(node.address.lower().strip("[]"), []).append(node)
    told = [f"{' and '.join(node.name for node in nodes)} have the same address, {address}." for address, nodes in sorted(found.items())
            if len(nodes) > 1 and any(node.role == "server" for node in nodes)]
    told += [f"{nodes[0].name} has the address {address}, which leads every other host to itself." for address, nodes in sorted(found.items())
             if (address in ("localhost", "::1") or address.startswith("127.")) and any(node.role == "server" for node in nodes)]
    if not told:
        return ""
    return (f"{' '.join(told)} Hosts join a server by its address: give each one by which the others reach it as k3s_address "
            "(ansible_host may be a bastion's or a tunnel's).")


def one_node_ip_each(wanted: Wanted) -> str:
    found: Dict[str, List[str]] = {}
    for node in wanted.nodes:
        for address in _addresses_in(node.config.get("node-ip")):
            found.setdefault(address, []).append(node.name)
    told = [f"{' and '.join(names)} have the same node-ip, {address}." for address, names in sorted(found.items()) if len(names) > 1]
    return f"{' '.join(told)} Set node-ip in the variables of each host, or leave it out." if told else ""


def _addresses_in(value: Any) -> List[str]:
    """k3s takes a list, or a text with commas."""
    items = value if isinstance(value, (list, tuple)) else str(value or "").split(",")
    return [str(item).strip().lower() for item in items if str(item).strip()]


def roles_stay(wanted: Wanted) -> str:
    wrong = [f"{node.name} is a k3s {node.info['role']} and shall be {_a(node.role)}" for node in wanted.nodes
             if node.info.get("role") and node.info["role"] != node.role]
    return f"{'; '.join(wrong)}. Take it out of the cluster first, by state absent." if wrong else ""


def no_even_etcd(wanted: Wanted) -> str:
    count = len(wanted.servers) + len(wanted.unseen)
    if not wanted.etcd or count % 2:
        return ""
    return (f"{count} servers with embedded etcd: it needs an odd number. {count} survive the loss of {(count - 1) // 2}, as {count - 1} do, "
            "and more of them must answer each write. " + ("Take 1 or 3." if count == 2 else f"Take {count - 1} or {count + 1}."))


def one_architecture_for_one_binary(wanted: Wanted) -> str:
    for binary in sorted({node.binary for node in wanted.nodes if node.binary}):
        found = {node.info.get("architecture"): node.name for node in wanted.nodes if node.binary == binary}
        if len(found) > 1:
            hosts = ", ".join(f"{name} ({architecture})" for architecture, name in sorted(found.items()))
            return (f"One binary, {binary}, for different processors: {hosts}. "
                    "Give each architecture its own, for example by k3s_binary in the inventory's group_vars.")
    return ""


def one_datastore(wanted: Wanted) -> str:
    outside = [node.name for node in wanted.servers if node.config.get("datastore-endpoint")]
    inside = [node.name for node in wanted.servers if configuration.is_true(node.config.get("cluster-init"))]
    if outside and inside:
        return "datastore-endpoint and cluster-init are both set: the datastore is either external or embedded. Remove one of them."
    without = [node.name for node in wanted.servers if not node.config.get("datastore-endpoint")]
    if outside and without:
        return (f"{', '.join(outside)} would use the external datastore, {', '.join(without)} an embedded one. "
                "Set datastore-endpoint for all servers, or for none.")
    moved = [node.name for node in wanted.servers if outside and node.info.get("datastore") in ("etcd", "sqlite")]
    if moved:
        return f"{', '.join(moved)} has an embedded datastore, and k3s cannot move it into the external one. Remove datastore-endpoint, or reset the cluster."
    return ""


def one_cluster(wanted: Wanted) -> str:
    found: Dict[str, List[str]] = {}
    for node in wanted.nodes:
        if node.has_cluster and node.info.get("ca_fingerprint"):
            found.setdefault(node.info["ca_fingerprint"], []).append(node.name)
    if len(found) > 1:
        clusters = " and ".join(f"one of {', '.join(names)}" for names in found.values())
        return (f"These hosts belong to {len(found)} clusters: {clusters}. Nothing can join two clusters together: "
                "decide which one stays, and reset the other's hosts by state reset.")
    lost = [node.name for node in wanted.agents if node.has_cluster]
    if lost and wanted.servers and not wanted.begun and not wanted.external and not wanted.unseen:
        return (f"{', '.join(lost)} belongs to a cluster that none of these servers is part of. "
                "Add a server of that cluster to the inventory, or reset the agent by state reset.")
    return ""


def one_token(wanted: Wanted) -> str:
    found = {node.info["token_fingerprint"]: node.name for node in wanted.servers if node.info.get("token_fingerprint") and node.has_cluster}
    if len(found) > 1:
        return (f"The tokens of {' and '.join(sorted(found.values()))} are different. "
                "Nodes of one cluster share one token: reset those that do not belong to it.")
    if wanted.token and found and wanted.token not in found:
        return (f"The token given is not the one of the cluster, which {', '.join(found.values())} has. Leave k3s_token out to use the cluster's own; "
                "`k3s token rotate` on a server changes it.")
    return ""


def no_step_back_and_none_skipped(wanted: Wanted) -> str:
    told = []
    for node in wanted.nodes:
        if wanted.version and node.version and node.has_cluster and node.role == "server":
            refusal = refuse_server_step(node.version, wanted.version)
            if refusal:
                told.append(f"{node.name}: {refusal}")
    return " ".join(told)


def agents_follow_servers(wanted: Wanted) -> str:
    servers = [version for version in ((node.version if node.has_cluster else wanted.version) for node in wanted.servers) if version]
    if not servers:
        return ""
    told = []
    for node in wanted.agents:
        version = node.version if node.has_cluster else wanted.version or node.version
        refusal = refuse_agent_skew(version, min(servers)) if version else ""
        if refusal:
            told.append(f"{node.name}: {refusal}")
    return " ".join(told)


def joining_is_planned_here(wanted: Wanted) -> str:
    wrong = [node.name for node in wanted.nodes if "server" in node.config]
    return f"config of {', '.join(wrong)} has server: which server to join is planned here. Give a load balancer's address as k3s_url." if wrong else ""


def names_stay(wanted: Wanted) -> str:
    """Under another name k3s would register a second Node, and the first would stay with its pods."""
    told = [f"{node.name} is registered as {node.info['registered_name']}, and would now be {node.node_name}" for node in wanted.nodes
            if node.has_cluster and node.info.get("registered_name") and node.info["registered_name"] != node.node_name]
    if not told:
        return ""
    return (f"{'; '.join(told)}. Was the host renamed? Set node-name in its k3s_config to the name that is registered, "
            "or let it leave by the playbook reset and join again under the new name.")


def what_k3s_fixes_stays(wanted: Wanted) -> str:
    told = []
    for node in wanted.begun:
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


def nothing_of_another_setup_is_lost(wanted: Wanted) -> str:
    """On hosts that k3s' install script set up, say, whose unit is about to be replaced."""
    told = []
    for node in wanted.nodes:
        there = node.info.get("set_up_by_others") or {}
        found = adoption.Found(there.get("config") or {}, dict.fromkeys(there.get("environment") or [], ""))
        rows = adoption.lost(found, node.config, dict.fromkeys(node.environment, "")) if not node.adopt else []
        if rows:
            told.append(f"{node.name}: {adoption.table(rows)}")
    if not told:
        return ""
    return (f"k3s was set up by something else, with arguments or variables that are not in the configuration. {'. '.join(told)}. "
            "Put them into k3s_config (variables into k3s_environment), or give k3s_adopt=true to go on without them. Nothing was changed.")


def a_url_to_join_by(wanted: Wanted) -> str:
    """k3s takes https alone, and tries for as long as it is let."""
    parts = urlsplit(wanted.url)
    if not wanted.url or parts.scheme == "https" and parts.hostname:
        return ""
    meant = wanted.url.split("://")[-1].strip("/")
    return (f"k3s_url is {wanted.url}, and nodes join by https://NAME:PORT. "
            f"Write https://{meant}{'' if ':' in meant else ':6443'}, or port 443 of a load balancer.")


RULES: Tuple[Callable[[Wanted], str], ...] = (
    there_is_a_server, none_begins_beside_an_unseen_one, one_name_each, one_machine_each, one_address_each, one_node_ip_each,
    roles_stay, joining_is_planned_here, no_even_etcd,
    one_architecture_for_one_binary, one_datastore, one_cluster, one_token, no_step_back_and_none_skipped, agents_follow_servers, a_url_to_join_by,
    names_stay, what_k3s_fixes_stays,
    nothing_of_another_setup_is_lost)


def _twice(wanted: Wanted, key: str, what: str, hint: str) -> str:
    found: Dict[str, List[str]] = {}
    for node in wanted.nodes:
        value = node.node_name if key == "node_name" else str(node.info.get(key) or "").lower()
        if value:
            found.setdefault(value, []).append(node.name)
    told = [f"{' and '.join(names)} have {what}, {value}." for value, names in sorted(found.items()) if len(names) > 1]
    return f"{' '.join(told)} {hint}" if told else ""


def _summary(bootstrap: PlannedNode, new: List[PlannedNode], wanted: Wanted, datastore: str, url: str) -> Tuple[str, ...]:
    lines = [f"{len(wanted.servers)} servers ({datastore}), {len(wanted.agents)} agents."]
    if bootstrap.has_cluster:
        lines.append(f"The cluster exists, {bootstrap.name} is of it.")
    else:
        lines.append(f"{bootstrap.name} begins the cluster.")
    joining_nodes = [node.name for node in new if node is not bootstrap]
    if joining_nodes:
        lines.append(f"{', '.join(joining_nodes)} join by {url}.")
    return tuple(lines)


def _without_secrets(config: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in config.items() if not secrets_of(value, key)}


def _natural(node: PlannedNode) -> List[Tuple[int, Any]]:
    """server2 before server10."""
    return [(1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", node.name) if part]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _a(role: str) -> str:
    return "an agent" if role == "agent" else "a server"
