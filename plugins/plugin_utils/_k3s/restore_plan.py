# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes of a cluster before it is restored: what must not be, which server restores, and how the others join it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import (
    Fleet, Host, one_address_each, one_architecture_for_one_binary, one_machine_each, one_name_each, roles_stay, there_is_a_server, token_source)


@dataclass(frozen=True)
class RestorePlan:
    """Which server restores, and what the join keys of each node's configuration are then."""

    restores: str
    servers: Tuple[str, ...]
    agents: Tuple[str, ...]
    new: Tuple[str, ...]
    url: str
    config: Mapping[str, Mapping[str, Any]]
    node_names: Mapping[str, str]
    token_from: Optional[Mapping[str, str]]
    absent_nodes: Tuple[str, ...]
    summary: Tuple[str, ...]

    def result(self) -> Dict[str, Any]:
        return {"restores": self.restores, "servers": list(self.servers), "agents": list(self.agents), "new": list(self.new), "url": self.url,
                "hosts": {name: {"config": dict(keys), "node_name": self.node_names[name]} for name, keys in self.config.items()},
                "token_from": dict(self.token_from) if self.token_from else None, "token_needed": list(self.new),
                "absent_nodes": list(self.absent_nodes), "summary": list(self.summary)}


def plan_restore(fleet: Fleet, restore_on: str, lost: Sequence[str]) -> RestorePlan:
    """lost: servers of the inventory that the user says are gone. Raises Refused with the sentences of all rules that object."""
    objections = [objection for objection in (rule(fleet) for rule in RULES) if objection]
    objections += [objection for objection in (no_server_is_left_out(fleet, lost), the_server_is_there(fleet, restore_on)) if objection]
    if objections:
        raise Refused(" ".join(objections), objections=objections)
    restorer = choose_restorer(fleet, restore_on)
    url = fleet.url or restorer.url
    config: Dict[str, Mapping[str, Any]] = {node.name: {"cluster-init": True} if node is restorer else {"server": url} for node in fleet.nodes}
    others = [node.name for node in fleet.servers if node is not restorer]
    absent = sorted({str(name) for name in _nodes(fleet)} - _names(fleet))
    lines = [f"{restorer.name} is restored from the snapshot."]
    lines += [f"{', '.join(others)} set their databases aside and join it by {url}."] if others else []
    lines += [f"{', '.join(node.name for node in fleet.agents)} join again."] if fleet.agents else []
    lines += [f"{', '.join(absent)} of the cluster take no part: remove them afterwards with the playbook replace or remove."] if absent else []
    return RestorePlan(
        restorer.name, (restorer.name, *others), tuple(node.name for node in fleet.agents),
        tuple(node.name for node in fleet.nodes if not node.info.get("role")), url, config,
        {node.name: node.node_name for node in fleet.nodes}, token_source(fleet, restorer), tuple(absent), tuple(lines))


def choose_restorer(fleet: Fleet, restore_on: str) -> Host:
    """The server that begins the cluster, so that a run that was killed is finished by the next one on the same server."""
    if restore_on:
        return next(node for node in fleet.servers if node.name == restore_on)
    return next((node for node in fleet.servers if not node.info.get("server_url")), fleet.servers[0])


# The rules


def no_living_server_is_left_out(fleet: Fleet) -> str:
    """As the Nodes and the members of etcd tell: it would go on with the old database under the same CA, a second cluster."""
    names = _names(fleet)
    ready = [name for name, node in _nodes(fleet).items()
             if name not in names and node.get("ready") and {"control-plane", "etcd", "master"} & set(node.get("roles") or [])]
    healthy = [str(member.get("node") or member.get("name")) for member in _members(fleet)
               if member.get("healthy") and str(member.get("node") or "") not in names]
    alive = sorted({*ready, *healthy})
    if not alive:
        return ""
    return (f"{', '.join(alive)} {'is a server' if len(alive) == 1 else 'are servers'} of this cluster and alive, and not part of this run: "
            "after a restore of the others there would be two clusters that both take writes. "
            "Add each to the inventory and to --limit. Of one that is gone, stop k3s or switch the host off, and wait a minute.")


def no_server_is_left_out(fleet: Fleet, lost: Sequence[str]) -> str:
    """As the inventory tells, since a server that cannot be asked may be alive."""
    left = [name for name in fleet.unseen if name not in lost]
    if not left:
        return ""
    return (f"{', '.join(left)} {'is a server' if len(left) == 1 else 'are servers'} of the inventory, and not part of this run (--limit?): "
            "if alive, there would be two clusters after a restore of the others. Let the run include all servers; "
            f"if the host is gone for good, take it out of the inventory, or give k3s_restore_lost={_json(left)}.")


def the_server_is_there(fleet: Fleet, restore_on: str) -> str:
    if not restore_on or restore_on in [node.name for node in fleet.servers]:
        return ""
    return f"k3s_restore_on is {restore_on}, which is not one of the servers of this run: {', '.join(node.name for node in fleet.servers)}."


def etcd_keeps_the_state(fleet: Fleet) -> str:
    if fleet.external:
        return "The cluster keeps its state in an external datastore: restore that by its own means. A snapshot of etcd cannot be restored into it."
    told = [node.name for node in fleet.servers if node.info.get("datastore") == "sqlite"]
    if told and not fleet.etcd:
        return (f"{', '.join(told)} keeps the cluster's state in SQLite, which has no snapshots. Set cluster-init: true in k3s_config and run the "
                "playbook bootstrap: k3s then moves the state into etcd. Before that, back up server/db/state.db while k3s is stopped.")
    return ""


RULES: Tuple[Callable[[Fleet], str], ...] = (
    there_is_a_server, one_name_each, one_machine_each, one_address_each, roles_stay, one_architecture_for_one_binary, etcd_keeps_the_state,
    no_living_server_is_left_out)


def _names(fleet: Fleet) -> Set[str]:
    """The names in Kubernetes of the hosts of this run."""
    return {str(node.node_name) for node in fleet.nodes}


def _nodes(fleet: Fleet) -> Dict[str, Mapping[str, Any]]:
    return {str(one["name"]): one for node in fleet.servers for one in node.info.get("nodes") or []}


def _members(fleet: Fleet) -> List[Mapping[str, Any]]:
    return [member for node in fleet.servers for member in (node.info.get("etcd") or {}).get("members") or []]


def _json(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"
