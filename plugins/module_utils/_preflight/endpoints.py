# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the places are that this node works with: latency by TCP or ICMP to endpoints that a person names."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.percentiles import percentile

SAMPLES, PAUSE, TIMEOUT = 20, 0.02, 1.0
# One lost packet of twenty happens; two are a line that loses.
LOSS = 0.05
ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
ECHO_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}


@dataclass(frozen=True)
class Endpoint:
    """port: of TCP; None asks by ICMP. limit: milliseconds that the median must stay below."""

    name: str
    host: str
    port: Optional[int]
    limit: float

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"icmp {self.host}" if self.port is None else f"tcp {host}:{self.port}"

    @classmethod
    def of(cls, value: Dict[str, Any]) -> Endpoint:
        name, address, limit = str(value["name"]), str(value["address"]).strip(), float(value["limit"])
        where = f"endpoints: {name}"
        found = re.fullmatch(r"icmp://(?P<icmp>[^/\s]+)|(?:tcp://)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:/\s\[\]]+)):(?P<port>\d+)", address)
        if not found:
            raise Failure(f"{address!r} is not the address of an endpoint", where,
                          "Write HOST:PORT for TCP ([HOST]:PORT for IPv6), or icmp://HOST to ask by ICMP.")
        if limit <= 0:
            raise Failure(f"the limit is {limit:g} ms", where, "Give the milliseconds that the median must stay below, more than 0.")
        if found.group("icmp"):
            return cls(name, found.group("icmp").strip("[]"), None, limit)
        port = int(found.group("port"))
        if not 0 < port < 65536:
            raise Failure(f"{port} is not a port", where, "Ports are 1 to 65535.")
        return cls(name, found.group("six") or found.group("host"), port, limit)


@dataclass(frozen=True)
class Heard:
    """What came back from an endpoint: milliseconds, and how often it was asked. trouble: what was said instead."""

    endpoint: Endpoint
    times: Tuple[float, ...]
    asked: int
    trouble: str = ""

    @property
    def loss(self) -> float:
        return (self.asked - len(self.times)) / self.asked if self.asked else 1.0


def listen_to(endpoints: Sequence[Endpoint]) -> Tuple[Heard, ...]:
    """All at once, each asked one after another."""
    if not endpoints:
        return ()
    with ThreadPoolExecutor(max_workers=min(32, len(endpoints))) as pool:
        return tuple(pool.map(_ask, endpoints))


def _ask(endpoint: Endpoint) -> Heard:
    try:
        # Looked up once: the figure is the line's, not the resolver's.
        kind = socket.SOCK_STREAM if endpoint.port else socket.SOCK_DGRAM
        family, _kind, _protocol, _name, address = socket.getaddrinfo(endpoint.host, endpoint.port or 0, type=kind)[0]
    except OSError as error:
        return Heard(endpoint, (), 0, f"the name is not known: {error.strerror or error}")
    once: Callable[[int], float] = (lambda turn: _connect(family, address)) if endpoint.port else (lambda turn: _echo(family, address, turn))
    times: List[float] = []
    trouble = ""
    for turn in range(SAMPLES):
        try:
            times.append(once(turn) * 1000)
        except OSError as error:
            trouble = f"no answer in {TIMEOUT:.0f} s" if isinstance(error, socket.timeout) else error.strerror or str(error)
            # Three times nothing at all, and it is not the line that loses.
            if turn >= 2 and not times:
                return Heard(endpoint, (), turn + 1, trouble)
        time.sleep(PAUSE)
    return Heard(endpoint, tuple(times), SAMPLES, trouble)


def _connect(family: int, address: Any) -> float:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(TIMEOUT)
        begin = time.perf_counter()
        one.connect(address)
        return time.perf_counter() - begin


def _echo(family: int, address: Any, turn: int) -> float:
    """One ICMP echo over a raw socket, since the unprivileged kind is switched off on most machines."""
    family = socket.AddressFamily(family)
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_RAW, protocol) as one:
        one.settimeout(TIMEOUT)
        one.connect(address)
        word = os.urandom(16)
        packet = struct.pack(">BBHHH", ECHO_REQUEST[family], 0, 0, os.getpid() & 0xFFFF, turn) + word
        if family == socket.AF_INET:  # for IPv6 the kernel fills it in
            packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
        begin = time.perf_counter()
        one.send(packet)
        while time.perf_counter() - begin < TIMEOUT:
            answer = one.recv(2048)
            body = answer[(answer[0] & 15) * 4:] if family == socket.AF_INET else answer
            if body[:1] == bytes([ECHO_REPLY[family]]) and body[8:24] == word:
                return time.perf_counter() - begin
        raise socket.timeout()


def checksum(data: bytes) -> int:
    """Of the Internet (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def judge(heard: Sequence[Heard]) -> Finding:
    if not heard:
        return Finding(NOT_APPLICABLE, "none named")
    evidence: List[str] = []
    verdicts = []
    data = []
    values = []
    for one in heard:
        endpoint = one.endpoint
        entry: Dict[str, Any] = {"name": endpoint.name, "address": str(endpoint), "limit_ms": endpoint.limit, "loss": round(one.loss, 3)}
        if not one.times:
            verdicts.append(FAIL)
            evidence.append(f"{endpoint.name} ({endpoint}): {one.trouble}")
            values.append(f"{endpoint.name} unreachable")
        else:
            ordered = sorted(one.times)
            median, p95 = percentile(ordered, 50), percentile(ordered, 95)
            entry.update(median_ms=round(median, 3), p95_ms=round(p95, 3))
            verdicts.append(FAIL if median >= endpoint.limit else WARN if p95 >= endpoint.limit or one.loss > LOSS else PASS)
            evidence.append(f"{endpoint.name} ({endpoint}): median {median:.2f} ms, p95 {p95:.2f} ms, {one.loss:.0%} lost of {one.asked}, "
                            f"limit {endpoint.limit:g} ms" + (f", last trouble: {one.trouble}" if one.trouble else ""))
            values.append(f"{endpoint.name} {median:.2f} ms")
        data.append({**entry, "verdict": verdicts[-1]})
    order = sorted(range(len(heard)), key=lambda place: (FAIL, WARN, PASS).index(verdicts[place]))
    return Finding(worst(*verdicts), ", ".join(values[place] for place in order[:3]) + (" …" if len(values) > 3 else ""),
                   tuple(evidence[place] for place in order), data={"endpoints": data})


ROWS = (
    Check(
        name="endpoints",
        family="network",
        title="Latency to endpoints",
        threshold=lambda profile: "median below each one's limit, ≤ 5 % lost",
        measure=lambda node: judge(listen_to(node.options.endpoints)),
        why="What the applications work with (an exchange, a database, object storage) sets where a cluster may stand. It is cheaper to know before.",
        mend="Choose a region or a line that is nearer, open the firewall, or set a limit that the application can live with.",
    ),
)
