# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux, firewalld and ufw: what of them is in the way of k3s, with the commands that open the way."""

from __future__ import annotations

import ipaddress
import re
import xml.etree.ElementTree
from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import PASS, WARN, Check, Finding
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.ports import shared_ports
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

POLICIES = "/var/lib/selinux"
CLUSTER = ("10.42.0.0/16", "10.43.0.0/16")  # k3s' defaults for pods and Services
UNITS = ("/sys/fs/cgroup/system.slice/{0}.service", "/sys/fs/cgroup/systemd/system.slice/{0}.service")
FIREWALLD = ("/etc/firewalld", "/usr/lib/firewalld")  # what an administrator says wins


def selinux(machine: Machine) -> Finding:
    enforcing = machine.text("/sys/fs/selinux/enforce")
    if enforcing != "1":
        mode = "permissive" if enforcing == "0" else "off"
        return Finding(PASS, mode, (f"/sys/fs/selinux/enforce {'is 0' if enforcing else 'does not exist'}",))
    found = [f"{POLICIES}/{kind}/active/modules/{priority}/k3s" for kind in machine.names(POLICIES)
             for priority in machine.names(f"{POLICIES}/{kind}/active/modules") if machine.exists(f"{POLICIES}/{kind}/active/modules/{priority}/k3s")]
    if found:
        return Finding(PASS, "enforcing, with k3s' policy", (f"{found[0]} exists",), data={"policy": True})
    return Finding(WARN, "enforcing, without k3s' policy", ("/sys/fs/selinux/enforce is 1", f"no module k3s in {POLICIES}"), _policy_commands(machine),
                   data={"policy": False})


def _policy_commands(machine: Machine) -> str:
    system = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', machine.text("/etc/os-release"), re.MULTILINE))
    major = system.get("VERSION_ID", "9").partition(".")[0]
    folder = "microos" if "micro" in system.get("ID", "") else "coreos" if system.get("ID") == "fedora" else f"centos/{major}"
    return ("Run `dnf install -y container-selinux` and `dnf install -y --setopt=k3s.gpgkey=https://rpm.rancher.io/public.key "
            f"--repofrompath=k3s,https://rpm.rancher.io/k3s/stable/common/{folder}/noarch k3s-selinux`, and put `selinux: true` into k3s_config.")


@dataclass(frozen=True)
class Firewall:
    """One that is active. opened: ports as 6443/tcp; trusted: networks that it lets pass whole; everything: whether it lets all pass."""

    name: str
    zone: str
    opened: Set[str]
    trusted: Set[str]
    everything: bool = False

    def closed(self, profile: Profile) -> Tuple[List[str], List[str]]:
        if self.everything:
            return [], []
        trusted = [ipaddress.ip_network(one, strict=False) for one in self.trusted]
        networks = [one for one in CLUSTER if not any(_within(one, other) for other in trusted)]
        return [str(port) for port in shared_ports(profile) if str(port) not in self.opened], networks

    def commands(self, ports: List[str], networks: List[str]) -> str:
        if self.name == "ufw":
            done = [f"ufw allow {port}" for port in ports] + [f"ufw allow from {one} to any" for one in networks]
        else:
            done = [f"firewall-cmd --permanent --zone={self.zone} {' '.join(f'--add-port={port}' for port in ports)}"] if ports else []
            done += [f"firewall-cmd --permanent --zone=trusted {' '.join(f'--add-source={one}' for one in networks)}"] if networks else []
            done.append("firewall-cmd --reload")
        return f"Run `{' && '.join(done)}`." + (" Another cluster-cidr and service-cidr take the place of these networks." if networks else "")


def _within(one: str, other: "ipaddress.IPv4Network | ipaddress.IPv6Network") -> bool:
    network = ipaddress.ip_network(one)
    return isinstance(network, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network) and network.subnet_of(other)


def firewall(machine: Machine, profile: Profile) -> Finding:
    active = [one for one in (_firewalld(machine), _ufw(machine)) if one]
    if not active:
        return Finding(PASS, "neither firewalld nor ufw is active", ("no unit firewalld.service runs, /etc/ufw/ufw.conf does not say ENABLED=yes",))
    evidence: List[str] = []
    mends: List[str] = []
    for one in active:
        ports, networks = one.closed(profile)
        if ports or networks:
            where = f"{one.name}{f' (zone {one.zone})' if one.zone else ''}"
            evidence.append(f"{where} does not let {', '.join([*ports, *(f'everything from {network}' for network in networks)])} in")
            mends.append(one.commands(ports, networks))
    names = " and ".join(one.name for one in active)
    if not mends:
        return Finding(PASS, f"{names}, with the ports of k3s open", tuple(f"{one.name} opens {', '.join(sorted(one.opened)) or 'all'}" for one in active))
    return Finding(WARN, f"{names} is in the way", tuple(evidence), " ".join(mends))


def _firewalld(machine: Machine) -> Optional[Firewall]:
    if not any(machine.exists(unit.format("firewalld")) for unit in UNITS):
        return None
    said = re.search(r"^DefaultZone=(\S+)", machine.text(f"{FIREWALLD[0]}/firewalld.conf"), re.MULTILINE)
    zone = said.group(1) if said else "public"
    root, trusted = _zone(machine, zone), _zone(machine, "trusted")
    opened = {port for entry in root.iter("port") for port in _range(entry.get("port", ""), entry.get("protocol", ""))}
    return Firewall("firewalld", zone, opened, {entry.get("address", "") for entry in trusted.iter("source") if _is_network(entry.get("address", ""))},
                    root.get("target") == "ACCEPT")


def _zone(machine: Machine, name: str) -> xml.etree.ElementTree.Element:
    for folder in FIREWALLD:
        text = machine.text(f"{folder}/zones/{name}.xml")
        if text:
            try:
                return xml.etree.ElementTree.fromstring(text)
            except xml.etree.ElementTree.ParseError:
                break
    return xml.etree.ElementTree.Element("zone")


def _ufw(machine: Machine) -> Optional[Firewall]:
    if not re.search(r"^ENABLED=yes", machine.text("/etc/ufw/ufw.conf"), re.MULTILINE):
        return None
    opened: Set[str] = set()
    trusted: Set[str] = set()
    policy: Dict[str, str] = dict(re.findall(r'^(DEFAULT_INPUT_POLICY)="?(\w+)', machine.text("/etc/default/ufw"), re.MULTILINE))
    # ufw itself reads its rules from these comments: action, protocol, port, to, source port, from, direction.
    for line in re.findall(r"^### tuple ### (.*)$", machine.text("/etc/ufw/user.rules"), re.MULTILINE):
        fields = line.split()
        if len(fields) < 7 or not fields[0].startswith("allow") or not fields[6].startswith("in"):
            continue
        protocol, port, source = fields[1], fields[2], fields[5]
        if source == "0.0.0.0/0" and port != "any":
            opened |= {one for part in port.split(",") for kind in (("tcp", "udp") if protocol == "any" else (protocol,)) for one in _range(part, kind)}
        elif port == "any" and protocol == "any" and _is_network(source):
            trusted.add(source)
    return Firewall("ufw", "", opened, trusted, policy.get("DEFAULT_INPUT_POLICY") == "ACCEPT")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
        return True
    except ValueError:
        return False


def _range(text: str, protocol: str) -> List[str]:
    found = re.fullmatch(r"(\d{1,5})(?:[-:](\d{1,5}))?", text)
    if not found or protocol not in ("tcp", "udp"):
        return []
    first, last = int(found.group(1)), int(found.group(2) or found.group(1))
    return [f"{number}/{protocol}" for number in range(first, min(last, 65535) + 1)]


ROWS = (
    Check(
        name="selinux",
        family="machine",
        title="SELinux",
        threshold=lambda profile: "off, permissive, or with k3s' policy",
        measure=lambda node: selinux(node.machine),
        why="Without its policy k3s and its containers run in domains that the host's policy forbids things to: pods fail with permission denied.",
        mend="Install container-selinux and k3s-selinux, and set `selinux: true` in k3s_config.",
    ),
    Check(
        name="firewall",
        family="network",
        title="firewalld and ufw",
        threshold=lambda profile: f"{', '.join(map(str, shared_ports(profile)))}, pods and Services let in",
        measure=lambda node: firewall(node.machine, node.profile),
        why="Both drop what they do not know: nodes do not reach each other, and pods reach neither Services nor the node they run on.",
        mend="Open the ports, and let the networks of pods and Services in.",
    ),
)
