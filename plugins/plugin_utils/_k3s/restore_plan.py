# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes of a cluster before it is restored: what must not be, which server restores, and how the others join it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.observed import one_line_each
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import (
    Fleet, Host, addresses_in, addresses_of, one_address_each, one_architecture_for_one_binary, one_machine_each, one_name_each, roles_stay, there_is_a_server,
    token_source)


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
    objections = one_line_each([*(rule(fleet) for rule in RULES), no_server_is_left_out(fleet, lost), no_recorded_server_is_left_out(fleet, lost),
                                the_server_is_there(fleet, restore_on)])
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
    lines += [f"Which servers the cluster had is not known from {node.name}: {node.info['record_trouble']}." for node in fleet.servers
              if node.info.get("record_trouble")]
    lines += [f"{', '.join(absent)} of the cluster take no part: remove them afterwards with the playbook replace or remove."] if absent else []
    return RestorePlan(
        restorer.name, (restorer.name, *others), tuple(node.name for node in fleet.agents),
        tuple(node.name for node in fleet.nodes if not node.info.get("role")), url, config,
        {node.name: node.node_name for node in fleet.nodes}, token_source(fleet, restorer), tuple(absent), tuple(one_line_each(lines)))


def choose_restorer(fleet: Fleet, restore_on: str) -> Host:
    """The server that begins the cluster, so that a run that was killed is finished by the next one on the same server."""
    if restore_on:
        return next(node for node in fleet.servers if node.name == restore_on)
    return next((node for node in fleet.servers if not node.info.get("server_url")), fleet.servers[0])


# The rules


def no_living_server_is_left_out(fleet: Fleet) -> str:
    """As the Nodes, the members of etcd and, where neither can be asked, the files of the hosts tell: it would go on with the old database under
    the same CA, a second cluster."""
    names = _names(fleet)
    stopped = {str(node.node_name) for node in fleet.servers if str((node.info.get("service") or {}).get("state")) in ("inactive", "failed")}
    ready = [name for name, node in _nodes(fleet).items()
             if name not in names and node.get("ready") and {"control-plane", "etcd", "master"} & set(node.get("roles") or [])]
    healthy = [str(member.get("node") or member.get("name")) for member in _members(fleet)
               if member.get("healthy") and str(member.get("node") or "") not in names]
    # A member that answers in the name of a host whose k3s is stopped is another machine.
    answering = [_called(member) for member in _recorded(fleet) if member.get("answers") and (member["node"] not in names or member["node"] in stopped)]
    alive = sorted({*ready, *healthy, *answering, *_servers_of_agents(fleet)})
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


def no_recorded_server_is_left_out(fleet: Fleet, lost: Sequence[str]) -> str:
    """Where no etcd answers, as its database on disk tells. With a quorum that answers, one that does not cannot take a write any more."""
    if _members(fleet):
        return ""
    names = _names(fleet)
    left = {_called(member): member for member in _recorded(fleet) if not member.get("answers") and member["node"] not in names}
    absent = sorted(name for name, member in left.items() if not {name, member["node"], member["address"]} & set(lost) - {""})
    if not absent:
        return ""
    told = ", ".join(f"{name} ({left[name]['address']})" for name in absent)
    return (f"{told} {'is a member' if len(absent) == 1 else 'are members'} of etcd in the database on disk, not part of this run, and "
            f"{'does' if len(absent) == 1 else 'do'} not answer: if alive, there would be two clusters after a restore of the others. Add each to the "
            f"inventory and to --limit; if the host is gone for good, give k3s_restore_lost={_json(absent)}.")


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


def _recorded(fleet: Fleet) -> List[Mapping[str, Any]]:
    """Those at an address of a server of this run are that server: etcd's database has no name of a member that joined."""
    own = {str(address) for server in fleet.servers for address in (server.address, *(server.info.get("addresses") or []), *addresses_of(server))}
    told = [{**member, "node": member.get("node") or "", "address": member.get("address") or ""}
            for node in fleet.servers for member in node.info.get("recorded_members") or []]
    return [member for member in told if member["address"] not in own]


def _called(member: Mapping[str, Any]) -> str:
    """One that has never started has no name."""
    return str(member["node"] or member["address"])


def _servers_of_agents(fleet: Fleet) -> Set[str]:
    """Addresses at which a server of the agents' cluster answers that is none of this run."""
    own = {str(address).lower() for server in fleet.servers for address in (
        server.address, server.name, server.node_name, server.info.get("hostname"), *addresses_of(server), *(server.info.get("addresses") or []),
        *(address for key in ("node-ip", "node-external-ip", "advertise-address") for address in addresses_in(server.config.get(key)))) if address}
    if any(server.runs for server in fleet.servers):  # what leads to all of them, leads to one of these
        own |= {str(urlsplit(str(url)).hostname) for url in (fleet.url, *(node.info.get("server_url") for node in fleet.nodes)) if url}
    return {str(server["address"]) for agent in fleet.agents for server in agent.info.get("recorded_servers") or []
            if server.get("answers") and str(server["address"]).lower() not in own}


def _json(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"
