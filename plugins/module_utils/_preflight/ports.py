# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of a node: which it must have for itself, which the others must reach, and who holds one now."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile


@dataclass(frozen=True)
class Port:
    """on: the nodes that listen; to: the nodes that must reach it there, none where it is for the node itself."""

    number: int
    protocol: str
    purpose: str
    on: Callable[[Profile], bool]
    to: Callable[[Profile], bool]

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


def _any(_profile: Profile) -> bool:
    return True


def nobody(_profile: Profile) -> bool:
    return False


def _with(*cnis: str) -> Callable[[Profile], bool]:
    return lambda profile: profile.cni in cnis


PORTS = (
    Port(6443, "tcp", "Kubernetes API and k3s' supervisor", lambda profile: profile.server, _any),
    Port(2379, "tcp", "etcd for its clients", lambda profile: profile.etcd, lambda profile: profile.etcd),
    Port(2380, "tcp", "etcd for its members", lambda profile: profile.etcd, lambda profile: profile.etcd),
    Port(10250, "tcp", "kubelet: logs, exec, metrics", _any, _any),
    Port(8472, "udp", "VXLAN between nodes", _with("flannel", "cilium"), _with("flannel", "cilium")),
    Port(51820, "udp", "WireGuard between nodes", _with("flannel-wireguard"), _with("flannel-wireguard")),
    Port(4240, "tcp", "Cilium's health checks", _with("cilium"), _with("cilium")),
    Port(4789, "udp", "VXLAN between nodes", _with("calico", "calico-ebpf"), _with("calico", "calico-ebpf")),
    Port(5473, "tcp", "Calico's Typha", _with("calico", "calico-ebpf"), _with("calico", "calico-ebpf")),
    Port(2381, "tcp", "etcd's metrics", lambda profile: profile.etcd, nobody),
    Port(6444, "tcp", "k3s' load balancer on the node", _any, nobody),
    Port(10010, "tcp", "containerd's streams", _any, nobody),
    Port(10248, "tcp", "kubelet's health", _any, nobody),
    Port(10249, "tcp", "kube-proxy's metrics", lambda profile: not profile.ebpf, nobody),
    Port(10256, "tcp", "kube-proxy's health", lambda profile: not profile.ebpf, nobody),
    Port(10257, "tcp", "controller manager", lambda profile: profile.server, nobody),
    Port(10258, "tcp", "cloud controller", lambda profile: profile.server, nobody),
    Port(10259, "tcp", "scheduler", lambda profile: profile.server, nobody),
)

# Programs of the cluster itself: on a node that runs, these ports are theirs. An etcd or kubelet of its own belongs to another Kubernetes.
OURS = re.compile(r"^(?:k3s|cilium|calico)")
CONTAINERD = "10010/tcp"
# A socket without a process belongs to the kernel: VXLAN and WireGuard devices have such.
KERNEL = "the kernel"


def own_ports(profile: Profile) -> List[Port]:
    return [port for port in PORTS if port.on(profile)]


def shared_ports(profile: Profile) -> List[Port]:
    """Those of the node that others must reach."""
    return [port for port in own_ports(profile) if any(port.to(Profile(role, profile.cni, profile.datastore)) for role in ("server", "agent"))]


def reachable_ports(own: Profile, other: Profile) -> List[Port]:
    """Those of another node that this one must reach."""
    return [port for port in PORTS if port.on(other) and port.to(own)]


def holder(machine: Machine, port: Port) -> str:
    """Who has a port: "k3s-server (pid 812)", the kernel, or "" where it cannot be seen."""
    inodes = set()
    seen = False
    for version in ("", "6"):
        for line in machine.lines(f"/proc/net/{port.protocol}{version}")[1:]:
            fields = line.split()
            # 0A is LISTEN, 07 is an unconnected UDP socket (include/net/tcp_states.h).
            if len(fields) > 9 and int(fields[1].rpartition(":")[2], 16) == port.number and fields[3] in ("0A", "07"):
                seen = True
                inodes.add(fields[9])
    if not seen:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in machine.names("/proc"):
        if pid.isdigit() and any(machine.link(f"/proc/{pid}/fd/{handle}") in wanted for handle in machine.names(f"/proc/{pid}/fd")):
            return f"{machine.text(f'/proc/{pid}/comm')} (pid {pid})"
    return KERNEL


def bind(port: Port, family: int, address: str = "") -> socket.socket:
    """A socket on the port; OSError where somebody has it."""
    one = socket.socket(family, socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        if port.protocol == "tcp":
            # Connections that were closed a moment ago must not look like somebody.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind((address, port.number))
        if port.protocol == "tcp":
            one.listen(64)
    except OSError:
        one.close()
        raise
    return one


def in_use(machine: Machine, ports: Iterable[Port]) -> Dict[str, str]:
    """The ports that cannot be had now, with their holder."""
    found: Dict[str, str] = {}
    for port in ports:
        try:
            bind(port, socket.AF_INET).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            found[str(port)] = holder(machine, port) or "a process that is not to be seen from here"
    return found


def free(held: Mapping[str, str], profile: Profile) -> Finding:
    """held: the ports that somebody has, with the holder."""
    strangers: List[str] = []
    evidence: List[str] = []
    ports = own_ports(profile)
    for port in ports:
        who = held.get(str(port))
        if who is None:
            continue
        ours = bool(OURS.match(who)) or (who == KERNEL and port.protocol == "udp") or (str(port) == CONTAINERD and who.startswith("containerd "))
        evidence.append(f"{port} ({port.purpose}) is held by {who}{': this node runs already' if ours else ''}")
        if not ours:
            strangers.append(f"{port} by {who}")
    evidence.sort(key=lambda sentence: "runs already" in sentence)
    data = {"held": dict(held)}
    if strangers:
        return Finding(FAIL, f"held: {', '.join(strangers)}", tuple(evidence), f"End what holds {', '.join(strangers)}, or move it to another port.",
                       data=data)
    free_ones = len(ports) - len(evidence)
    value = f"all {len(ports)} free" if not evidence else f"{free_ones} free, {len(evidence)} held by this node's own k3s"
    return Finding(PASS, value, tuple(evidence) or (f"bind() took {', '.join(map(str, ports))}",), data=data)


# What a probe may come to (peers.py), and what it means for the one who asks.
OPEN, RUNS, UNPROBED = "open", "runs", "unprobed"


def reachable(results: Iterable[Tuple[str, str, Dict[str, str]]]) -> Finding:
    """results: name and address of each peer, and port by port what came of it."""
    evidence: List[str] = []
    blocked: List[str] = []
    verdicts = [PASS]
    reached = 0
    peers: Optional[int] = None
    for name, address, outcomes in results:
        peers = (peers or 0) + 1
        for port, outcome in outcomes.items():
            if outcome in (OPEN, RUNS):
                reached += 1
            elif outcome.startswith(UNPROBED):
                evidence.append(f"{name}: {port} was not tried, {outcome.partition(': ')[2]}")
            else:
                blocked.append(f"{name}:{port}")
                evidence.append(f"{name} ({address}) {port}: {outcome}")
                verdicts.append(FAIL)
    if peers is None:
        return Finding(NOT_APPLICABLE, "no other nodes")
    evidence.sort(key=lambda sentence: "was not tried" in sentence)
    if blocked:
        shown = ", ".join(blocked[:3]) + (f" and {len(blocked) - 3} more" if len(blocked) > 3 else "")
        return Finding(worst(*verdicts), f"blocked: {shown}", tuple(evidence))
    if not reached and evidence:
        return Finding(WARN, "nothing could be tried", tuple(evidence))
    value = f"all {reached} on {peers} node{'s' if peers != 1 else ''}"
    return Finding(PASS, value, tuple(evidence) or ("every port answered with this run's own word",))


ROWS = (
    Check(
        name="ports_free",
        family="network",
        title="Ports free",
        threshold=lambda profile: f"{', '.join(map(str, shared_ports(profile)))} and {len(own_ports(profile)) - len(shared_ports(profile))} local",
        measure=lambda node: free(node.held, node.profile),
        why="k3s does not start, or starts half, when something else has one of its ports.",
        mend="End the program that holds the port, or move it.",
    ),
    Check(
        name="ports_reachable",
        family="network",
        title="Ports reachable between nodes",
        threshold=lambda profile: "every port that this node needs on the others",
        measure=lambda node: reachable((peer.name, peer.address, dict(peer.ports)) for peer in node.peers),
        why="A blocked port shows late: etcd loses a member at the next restart, logs and exec hang, pods of two nodes do not see each other.",
        mend="Open the port in the host's firewall and in the cloud's security group, in both directions.",
    ),
)
