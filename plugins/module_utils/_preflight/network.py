# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network as the node has it: the MTU along the path to the others, and DNS."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
from dataclasses import dataclass
from typing import Iterable, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import PeerResult

# The kubelet gives pods no more than three, as the C library reads no more.
MOST_NAMESERVERS = 3
DNS_TIMEOUT, DNS_TRIES = 1.0, 2
SLOW_DNS = 0.5
# Below this an overlay's packets do not fit what IPv6 asks of every link (RFC 8200), VXLAN's 50 bytes taken off.
LEAST_MTU = 1330


def mtu(peers: Iterable[PeerResult]) -> Finding:
    evidence: List[str] = []
    verdicts = []
    values = []
    for peer in peers:
        if peer.mtu is None:
            verdicts.append(WARN)
            evidence.append(f"{peer.name}: not measured, {peer.silence}")
            continue
        values.append(peer.mtu)
        if peer.mtu < peer.promised:
            verdicts.append(FAIL)
            evidence.append(f"{peer.name}: packets of {peer.mtu} bytes come back whole, of {peer.mtu + 1} they do not; "
                            f"the interfaces promise {peer.promised}")
        else:
            verdicts.append(PASS if peer.mtu >= LEAST_MTU else FAIL)
            evidence.append(f"{peer.name}: packets of {peer.mtu} bytes, all that the interfaces promise, come back whole")
    if not verdicts:
        return Finding(NOT_APPLICABLE, "no other nodes")
    return Finding(worst(*verdicts), f"{min(values)}" if values else "not measured", tuple(evidence),
                   data={"mtu": min(values) if values else None})


# ---- DNS


@dataclass(frozen=True)
class Answer:
    """What one name server said: seconds until the answer, or in words why there is none."""

    server: str
    seconds: Optional[float]
    trouble: str = ""


def nameservers(machine: Machine) -> Tuple[str, Tuple[str, ...]]:
    """The file that pods' DNS comes from, as k3s chooses it, and its servers."""
    own = _servers(machine, "/etc/resolv.conf")
    upstream = "/run/systemd/resolve/resolv.conf"
    if own and all(_is_loopback(server) for server in own) and _servers(machine, upstream):
        return upstream, _servers(machine, upstream)
    return "/etc/resolv.conf", own


def _servers(machine: Machine, file: str) -> Tuple[str, ...]:
    lines = (line.split() for line in machine.lines(file))
    return tuple(fields[1] for fields in lines if len(fields) > 1 and fields[0] == "nameserver")


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def ask(server: str) -> Answer:
    """The name servers of the root, which every resolver knows or can say no to: any answer counts."""
    query = struct.pack(">HHHHHH", secrets.randbelow(65536), 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack(">HH", 2, 1)
    trouble = f"no answer in {DNS_TIMEOUT:.0f} s, asked {DNS_TRIES} times"
    try:
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(DNS_TIMEOUT)
            one.connect((server, 53))
            for _turn in range(DNS_TRIES):
                begin = time.monotonic()
                one.send(query)
                try:
                    if one.recv(4096)[:2] == query[:2]:
                        return Answer(server, time.monotonic() - begin)
                except socket.timeout:
                    continue
    except OSError as error:
        trouble = error.strerror or str(error)
    return Answer(server, None, trouble)


def dns(file: str, answers: Tuple[Answer, ...]) -> Finding:
    if not answers:
        return Finding(WARN, "no name server", (f"{file} names none: k3s gives pods 8.8.8.8 instead",),
                       "Name the site's resolvers in /etc/resolv.conf, or give k3s a file with them (resolv-conf). Without any network outside, accept it.")
    evidence = []
    verdicts = [PASS]
    for answer in answers:
        if answer.seconds is None:
            verdicts.append(FAIL)
            evidence.append(f"{file}: {answer.server}: {answer.trouble}")
        else:
            verdicts.append(WARN if answer.seconds > SLOW_DNS else PASS)
            evidence.append(f"{file}: {answer.server} answers after {answer.seconds * 1000:.1f} ms")
        if _is_loopback(answer.server):
            verdicts.append(WARN)
            evidence.append(f"{answer.server} is the node itself, which pods cannot reach: k3s gives them 8.8.8.8 instead")
    if len(answers) > MOST_NAMESERVERS:
        verdicts.append(WARN)
        evidence.append(f"{file} names {len(answers)} servers, pods get the first {MOST_NAMESERVERS}")
    working = sum(answer.seconds is not None for answer in answers)
    return Finding(worst(*verdicts), f"{working} of {len(answers)} name servers answer", tuple(evidence))


def hostname(name: str) -> str:
    """Why Kubernetes would not take the name for a node's; "" where it would (RFC 1123, lower case)."""
    labels = name.split(".")
    if not name or len(name) > 253:
        return "is empty" if not name else "is longer than 253 characters"
    for label in labels:
        if not label or len(label) > 63 or not all(char in "abcdefghijklmnopqrstuvwxyz0123456789-" for char in label) or label.strip("-") != label:
            return f"has the part {label!r}, which is not a DNS label in lower case"
    return "is localhost, as every unnamed machine's" if labels[0] == "localhost" else ""


def name(found: str, given: str = "") -> Finding:
    """Of the node, as k3s registers it: node-name, or else the host name, in lower case."""
    what, registered = ("node-name", given.lower()) if given else ("the host name", found.lower())
    trouble = hostname(registered)
    if trouble:
        return Finding(FAIL, given or found or "none", (f"{what} {trouble}",))
    return Finding(PASS, registered, (f"node-name is {given}" if given else f"uname() says {found}",))


def resolvers(machine: Machine) -> Finding:
    file, servers = nameservers(machine)
    return dns(file, tuple(ask(server) for server in servers))


ROWS = (
    Check(
        name="hostname",
        family="network",
        title="Host name",
        threshold=lambda profile: "a DNS name",
        measure=lambda node: name(os.uname().nodename, node.options.node_name),
        why="The host name, in lower case, becomes the node's name unless k3s has a node-name. Kubernetes takes only DNS names, and two machines "
            "called localhost would be one node.",
        mend="Set another one with hostnamectl set-hostname, or give k3s a node-name.",
    ),
    Check(
        name="mtu",
        family="network",
        title="MTU between nodes",
        threshold=lambda profile: f"what the interfaces promise, ≥ {LEAST_MTU}",
        measure=lambda node: mtu(node.peers),
        why="The CNI takes the interface's MTU for the path's. Where the path carries less, small requests work and large answers vanish.",
        mend="Set the interface's MTU to what the path carries (cloud networks often carry 1450 or less), or set the CNI's MTU.",
    ),
    Check(
        name="dns",
        family="network",
        title="DNS",
        threshold=lambda profile: f"every name server answers, ≤ {MOST_NAMESERVERS} of them",
        measure=lambda node: resolvers(node.machine),
        why="Pods inherit the node's name servers. One dead server among them delays every lookup by seconds; a loopback address leads nowhere.",
        mend="Name only servers that answer in /etc/resolv.conf, or open port 53/udp to them.",
    ),
)
