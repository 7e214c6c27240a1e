# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of one set of hosts: a network namespace each, a bridge between them, one cable to the machine, no way out.

The bridge lives in a namespace too. All these namespaces are seen by the supervisor's processes alone, so with their
end the kernel takes everything away, the cable's end on the machine included.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import random
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

from lab.errors import LabError

# RFC 2544: addresses for tests of network equipment, so nobody's own network is there.
RANGE = ipaddress.ip_network("198.18.0.0/15")
SWITCH = "switch"


@dataclass(frozen=True)
class Subnet:
    """A /24 of the range, by its number."""

    number: int

    @property
    def name(self) -> str:
        """A name for the cable and whatever else on the machine belongs to this set of hosts."""
        return f"lab-hosts-{self.number}"

    @property
    def ipv4(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((int(RANGE.network_address) + self.number * 256, 24))

    @property
    def ipv6(self) -> ipaddress.IPv6Network:
        return ipaddress.IPv6Network(f"fd12:7e57:1ab:{self.number:x}::/64")

    @property
    def machine(self) -> str:
        return str(self.ipv4[1])

    @property
    def router(self) -> str:
        return str(self.ipv4[254])

    @property
    def router6(self) -> str:
        return str(self.ipv6[254])

    def mac(self, index: int) -> str:
        """The same at each boot, or its neighbours would send to the one before until they ask anew."""
        return f"02:1a:b0:{self.number >> 8:02x}:{self.number & 255:02x}:{11 + index:02x}"

    def host(self, index: int) -> str:
        return str(self.ipv4[11 + index])

    def host6(self, index: int) -> str:
        return str(self.ipv6[11 + index])

    def claim(self) -> socket.socket | None:
        """Hold this subnet as long as the socket is open; None when another process does. The kernel forgets it with the process."""
        one = socket.socket(socket.AF_UNIX)
        try:
            one.bind(f"\0nordic.gitops/{self.name}")
        except OSError:
            one.close()
            return None
        return one


def free_subnet() -> Tuple[Subnet, socket.socket]:
    """A subnet that neither another set of hosts nor a route of this machine uses, and the hold on it."""
    routes = [ipaddress.ip_network(one["dst"]) for one in json.loads(ip("-json", "-4", "route", "show", "table", "all"))
              if one.get("dst", "default") != "default"]
    numbers = list(range(RANGE.num_addresses // 256))
    random.SystemRandom().shuffle(numbers)
    for subnet in map(Subnet, numbers):
        # A route to more than the whole range is a way to everywhere (a VPN's 128.0.0.0/1), not the use of an address.
        if any(subnet.ipv4.overlaps(route) and not RANGE.subnet_of(route) for route in routes):  # type: ignore[arg-type]
            continue
        hold = subnet.claim()
        if hold:
            return subnet, hold
    raise LabError(f"no subnet of {RANGE} is free for hosts")


def has_ipv6() -> bool:
    flag = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    return flag.exists() and flag.read_text().strip() == "0"


def build(subnet: Subnet) -> None:
    """The bridge and the cable from it to the machine."""
    ip("netns", "add", SWITCH)
    ip("link", "add", subnet.name, "type", "veth", "peer", "name", "uplink", "netns", SWITCH)
    # A router that knows no way: what a host sends out comes back at once as "network unreachable", while k3s sees the default route it wants.
    lines = ["link set lo up", "link add bridge type bridge", "link set uplink master bridge", "link set uplink up", "link set bridge up",
             f"addr add {subnet.router}/24 dev bridge"]
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    if has_ipv6():
        lines.append(f"addr add {subnet.router6}/64 dev bridge nodad")
        forward += "; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
    batch(SWITCH, lines)
    ip("netns", "exec", SWITCH, "sh", "-c", forward)
    ip("addr", "add", f"{subnet.machine}/24", "dev", subnet.name)
    ip("link", "set", subnet.name, "up")


def plug(subnet: Subnet, index: int, name: str) -> None:
    """A new network namespace for a host that is about to boot, with eth0 in it: what it had of rules and interfaces is gone, as after any boot."""
    ip("netns", "add", name)
    ip("link", "add", "eth0", "netns", name, "address", subnet.mac(index), "type", "veth", "peer", "name", f"port{index}", "netns", SWITCH)
    batch(SWITCH, [f"link set port{index} master bridge", f"link set port{index} up"])
    lines = ["link set lo up", f"addr add {subnet.host(index)}/24 dev eth0", "link set eth0 up", f"route add default via {subnet.router}"]
    if has_ipv6():
        lines += [f"addr add {subnet.host6(index)}/64 dev eth0 nodad", f"route add default via {subnet.router6}"]
    batch(name, lines)


def unplug(name: str) -> None:
    """Its processes are dead; the kernel removes interfaces with their namespace a moment later, so the cable is pulled first."""
    with contextlib.suppress(LabError):  # whoever was root there may have removed or renamed it
        ip("-netns", name, "link", "delete", "eth0")
    ip("netns", "delete", name)


def batch(namespace: str, lines: List[str]) -> None:
    ip("-netns", namespace, "-batch", "-", input="\n".join(lines) + "\n")


def ip(*arguments: str, input: str | None = None) -> str:
    answer = subprocess.run(["ip", *arguments], input=input, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LabError(f"ip {' '.join(arguments)}: {answer.stderr.strip()}")
    return answer.stdout


def hosts_file(subnet: Subnet, names: Iterable[str]) -> str:
    """/etc/hosts of every host."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    entries: Dict[str, str] = {subnet.host(index): name for index, name in enumerate(names)}
    return "\n".join([*lines, *(f"{address} {name}" for address, name in entries.items())]) + "\n"
