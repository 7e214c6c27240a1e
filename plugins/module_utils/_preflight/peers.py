# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes among themselves: a short-lived listener on each, and what one node learns of another from it.

A listener binds the ports that k3s will need, as far as nobody has them, answers who knows its nonce, and no one else: it sends nothing that was not
sent to it, so it is of no use to a stranger. It ends when every node has said that it is done with it, when it is told to from its own machine, when
nobody asked for IDLE seconds, or after LIFETIME.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import selectors
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, cast

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import ports
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.ports import OPEN, RUNS, UNPROBED, Port
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import CNIS, DATASTORES, ROLES, Profile

# Where a listener says how to end it. Only root reads it.
STATE = "/run/nordic.gitops-preflight.json"
IDLE, LIFETIME = 120.0, 1800.0
CONNECTIONS = 512

TCP_TIMEOUT, UDP_TIMEOUT, UDP_TRIES = 2.0, 0.4, 4
CLOCK_ROUNDS = 7
# Bytes of IP and UDP header before a datagram's own.
HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
# The least that IP of each version carries: below it there is nothing to look for.
LEAST_MTU = {socket.AF_INET: 576, socket.AF_INET6: 1280}
LARGEST_MTU = 9216

# From linux/in.h, linux/in6.h and linux/sockios.h; the socket module has not all of them.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
SIOCGIFADDR, SIOCGIFMTU = 0x8915, 0x8921


@dataclass(frozen=True)
class Peer:
    """A node as its listener's start described it; travels through the controller to the other nodes."""

    name: str
    address: str
    profile: Profile
    nonce: str
    # The ports of its own that the listener has, and those that somebody else had.
    bound: Tuple[str, ...]
    held: Mapping[str, str]
    # Where the listener can be talked to in any case, if no firewall is there.
    extra_tcp: int
    extra_udp: int
    mtu: int

    def as_dict(self) -> Dict[str, Any]:
        return {
            "name": self.name, "address": self.address, "role": self.profile.role, "cni": self.profile.cni, "datastore": self.profile.datastore,
            "nonce": self.nonce, "bound": list(self.bound), "held": dict(self.held), "extra_tcp": self.extra_tcp, "extra_udp": self.extra_udp,
            "mtu": self.mtu,
        }

    @classmethod
    def of(cls, value: Any) -> Peer:
        try:
            role, cni, datastore = str(value["role"]), str(value["cni"]), str(value["datastore"])
            if role not in ROLES or cni not in CNIS or datastore not in DATASTORES:
                raise ValueError(f"{role}, {cni}, {datastore}")
            return cls(str(value["name"]), str(value["address"]), Profile(role, cni, datastore), str(value["nonce"]), tuple(value["bound"]),
                       dict(value["held"]), int(value["extra_tcp"]), int(value["extra_udp"]), int(value["mtu"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(f"an entry is not what state: listening returned as peer: {error!r}", "peers",
                          "Hand on the value `peer` of each node's result, unaltered.") from error


@dataclass(frozen=True)
class PeerResult:
    """What one node learnt of another."""

    name: str
    address: str
    ports: Mapping[str, str]
    # Seconds that the other's clock is ahead, and how exactly that is known.
    skew: Optional[float] = None
    uncertainty: float = 0.0
    rtt: Optional[float] = None
    # The largest packet that came back unfragmented, and the largest that the interfaces promise.
    mtu: Optional[int] = None
    promised: int = 0
    # Why there is no skew or no mtu.
    silence: str = ""
    # Whether its listener knows that this node is done with it.
    dismissed: bool = False

    def as_dict(self) -> Dict[str, Any]:
        def rounded(value: Optional[float], digits: int) -> Optional[float]:
            return None if value is None else round(value, digits)

        return {"name": self.name, "address": self.address, "ports": dict(self.ports), "skew_s": rounded(self.skew, 4),
                "uncertainty_s": round(self.uncertainty, 4), "rtt_ms": None if self.rtt is None else round(self.rtt * 1000, 3), "mtu": self.mtu,
                "promised_mtu": self.promised, "silence": self.silence}


# ---- own addresses


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def own_address(machine: Machine) -> str:
    """The address that k3s takes for the node when it is told none: that of the default route; else the first one that is no loopback."""
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect((elsewhere, 9))  # of a datagram socket: only the route is looked up, nothing is sent
            return str(one.getsockname()[0])
    for _index, name in socket.if_nameindex():
        address = _ipv4_of(name)
        if address and not address.startswith("127."):
            return address
    for line in machine.lines("/proc/net/if_inet6"):
        digits, _number, _length, scope = line.split()[:4]
        if scope == "00":
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    raise Failure("the node has no address but loopback", "address", "Give the node an address, or name it with the option address.")


def own_mtu(machine: Machine, address: str) -> int:
    """The MTU of the interface that has an address. From the kernel, since /sys/class/net may be another network namespace's."""
    for _index, name in socket.if_nameindex():
        if _ipv4_of(name) == address:
            return _mtu_of(name)
    for line in machine.lines("/proc/net/if_inet6"):
        digits, name = line.split()[0], line.split()[5]
        if family_of(address) == socket.AF_INET6 and socket.inet_pton(socket.AF_INET6, address) == bytes.fromhex(digits):
            return _mtu_of(name)
    # A second address of an interface: the route to it is local, the source of a packet elsewhere is not known. The usual value serves.
    return 1500


def _ipv4_of(name: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            return socket.inet_ntoa(fcntl.ioctl(one, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))[20:24])
        except OSError:
            return ""


def _mtu_of(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return int(struct.unpack_from("i", fcntl.ioctl(one, SIOCGIFMTU, struct.pack("256s", name.encode()[:15])), 16)[0])


# ---- the listener


class Sockets(NamedTuple):
    tcp: List[socket.socket]
    udp: List[socket.socket]


def listen(machine: Machine, name: str, address: str, profile: Profile, state: str = STATE, now: Callable[[], float] = time.time) -> Peer:
    """Start this node's listener, in a process of its own, and describe it."""
    try:
        return _listen(machine, name, address, profile, state, now)
    except OSError as error:
        raise Failure(f"the listener could not be started: {error}", "node_preflight",
                      "Run it again; somebody may have taken a port in this very moment.") from error


def _listen(machine: Machine, name: str, address: str, profile: Profile, state: str, now: Callable[[], float]) -> Peer:
    stop(state)
    address = address or own_address(machine)
    family = socket.AF_INET6 if family_of(address) == socket.AF_INET6 else socket.AF_INET
    held = ports.in_use(machine, ports.own_ports(profile))
    sockets = Sockets([], [])
    bound = []
    for port in [*ports.shared_ports(profile), Port(0, "tcp", "", ports.nobody, ports.nobody), Port(0, "udp", "", ports.nobody, ports.nobody)]:
        if str(port) in held:
            continue
        one = ports.bind(port, family)
        one.setblocking(False)
        (sockets.tcp if port.protocol == "tcp" else sockets.udp).append(one)
        bound.append(str(port))
    peer = Peer(name, address, profile, secrets.token_hex(16), tuple(port for port in bound if not port.startswith("0/")), held,
                sockets.tcp[-1].getsockname()[1], sockets.udp[-1].getsockname()[1], own_mtu(machine, address))
    _remember(state, peer, family)
    _in_background(lambda: serve(sockets, peer.nonce, state, now))
    for one in [*sockets.tcp, *sockets.udp]:
        one.close()
    return peer


def _remember(state: str, peer: Peer, family: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state)
    handle = os.open(state, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        json.dump({"host": "::1" if family == socket.AF_INET6 else "127.0.0.1", "port": peer.extra_tcp, "nonce": peer.nonce}, file)


def stop(state: str = STATE) -> bool:
    """End this node's listener and wait until its ports are free again. False where none ran."""
    try:
        with open(state, encoding="ascii") as file:
            where = json.load(file)
        with socket.create_connection((where["host"], where["port"]), timeout=TCP_TIMEOUT) as one:
            one.sendall(f"{where['nonce']} stop\n".encode("ascii"))
            ended = one.recv(16) == b"stopped\n"
    except (OSError, ValueError, KeyError):
        ended = False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state)
    return ended


def _in_background(work: Callable[[], None]) -> None:
    """Twice forked, so that nobody waits for it; without the streams of Ansible, which else would."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        work()
    finally:
        os._exit(0)


def serve(sockets: Sockets, nonce: str, state: str, now: Callable[[], float]) -> None:
    """Answer until it is time to end."""
    word = nonce.encode("ascii")
    with selectors.DefaultSelector() as selector:
        for one in sockets.tcp:
            selector.register(one, selectors.EVENT_READ, "listen")
        for one in sockets.udp:
            _never_fragment(one)
            selector.register(one, selectors.EVENT_READ, "datagram")
        begin = asked = time.monotonic()
        done: Set[bytes] = set()
        while time.monotonic() < min(asked + IDLE, begin + LIFETIME):
            for key, _events in selector.select(1.0):
                one = cast(socket.socket, key.fileobj)
                with contextlib.suppress(OSError):
                    if key.data == "listen":
                        connection, _address = one.accept()
                        connection.setblocking(False)
                        if len(selector.get_map()) < CONNECTIONS:
                            selector.register(connection, selectors.EVENT_READ, "connection")
                        else:
                            connection.close()
                    elif key.data == "datagram":
                        data, sender = one.recvfrom(65535)
                        if data.startswith(word):
                            asked = time.monotonic()
                            one.sendto(data, sender)
                    else:
                        said = _converse(one, word, now, done)
                        if said == STOP:
                            for other in [*sockets.tcp, *sockets.udp]:
                                other.close()
                            with contextlib.suppress(OSError):
                                os.unlink(state)
                            one.sendall(b"stopped\n")
                            one.close()
                            return
                        if said == ASKED:
                            asked = time.monotonic()
                        else:
                            selector.unregister(one)
                            one.close()
    with contextlib.suppress(OSError):
        os.unlink(state)


ASKED, STOP, STRANGER = "asked", "stop", "stranger"


def _converse(one: socket.socket, word: bytes, now: Callable[[], float], done: Set[bytes]) -> str:
    """One message on a connection: the nonce asks for the clock, and "done NUMBER NAME" says that one node of so many needs nothing more.

    Whoever says anything else is hung up on.
    """
    data = one.recv(512)
    if data == word + b"\n":
        one.sendall(b"%.6f\n" % now())
        return ASKED
    farewell = data.split(b" ", 3)
    if farewell[:2] == [word, b"done"] and len(farewell) == 4 and farewell[2].isdigit():
        done.add(farewell[3])
        if len(done) >= int(farewell[2]):
            return STOP
        one.sendall(b"stopped\n")
        return ASKED
    if data == word + b" stop\n" and one.getpeername()[0] in ("127.0.0.1", "::1"):
        return STOP
    return STRANGER


# ---- asking the others


class PeerResults(NamedTuple):
    """dismissed: whether every listener, the own one too, knows that this node is done with it."""

    results: Tuple[PeerResult, ...]
    dismissed: bool


def ask_all(machine: Machine, own: Peer, peers: Sequence[Peer]) -> PeerResults:
    """All other nodes at once; the slowest one, not their number, decides how long it takes."""
    others = [peer for peer in peers if peer.name != own.name]
    with ThreadPoolExecutor(max_workers=min(64, 4 * len(peers))) as pool:
        tried = {(peer.name, port): pool.submit(_try, peer, port)
                 for peer in others for port in ports.reachable_ports(own.profile, peer.profile)}
        outcomes = {peer.name: {str(port): future.result() for (name, port), future in tried.items() if name == peer.name} for peer in others}
        farewell = f"done {len(peers)} {own.name}\n"
        learnt = [pool.submit(_learn, peer, outcomes[peer.name], own_mtu(machine, own.address), farewell) for peer in others]
        results = tuple(future.result() for future in learnt)
    # The own listener last, and over loopback, where no firewall is.
    loopback = "::1" if family_of(own.address) == socket.AF_INET6 else "127.0.0.1"
    at_home = _dismiss(loopback, [own.extra_tcp], own.nonce, farewell)
    return PeerResults(results, at_home and all(one.dismissed for one in results))


def _dismiss(address: str, numbers: Sequence[int], nonce: str, farewell: str) -> bool:
    for number in numbers:
        with contextlib.suppress(OSError), socket.create_connection((address, number), timeout=TCP_TIMEOUT) as one:
            one.sendall(f"{nonce} {farewell}".encode())
            return one.recv(16) == b"stopped\n"
    return False


def _try(peer: Peer, port: Port) -> str:
    """OPEN, RUNS, "unprobed: why", or in words what stopped it."""
    if str(port) in peer.bound:
        probe = _tcp if port.protocol == "tcp" else _udp
        return probe(peer.address, port.number, peer.nonce)
    who = peer.held.get(str(port), "somebody")
    if port.protocol == "udp":
        return f"{UNPROBED}: {who} has it and answers only its own protocol"
    try:
        with socket.create_connection((peer.address, port.number), timeout=TCP_TIMEOUT):
            return RUNS
    except OSError as error:
        return f"{_words(error)}, though {who} has it there"


def _tcp(address: str, number: int, nonce: str) -> str:
    try:
        with socket.create_connection((address, number), timeout=TCP_TIMEOUT) as one:
            one.sendall(f"{nonce}\n".encode("ascii"))
            float(one.recv(64))
            return OPEN
    except ValueError:
        return "something else than this run's listener answers"
    except OSError as error:
        return _words(error)


def _udp(address: str, number: int, nonce: str) -> str:
    with socket.socket(family_of_host(address, number), socket.SOCK_DGRAM) as one:
        try:
            one.connect((address, number))
            one.settimeout(UDP_TIMEOUT)
            for turn in range(UDP_TRIES):
                word = f"{nonce} {turn}".encode("ascii")
                one.send(word)
                with contextlib.suppress(socket.timeout):
                    if one.recv(256).startswith(nonce.encode("ascii")):
                        return OPEN
        except OSError as error:
            return _words(error)
    return f"no answer to {UDP_TRIES} datagrams: dropped on the way"


def _words(error: OSError) -> str:
    if isinstance(error, socket.timeout):
        return f"no answer in {TCP_TIMEOUT:.0f} s: dropped on the way"
    if error.errno == errno.ECONNREFUSED:
        return "refused though the listener is there: a firewall rejects it"
    if error.errno == errno.ECONNRESET:
        return "reset: something between the nodes ends it"
    return error.strerror or str(error)


def family_of_host(address: str, number: int) -> int:
    """An address may be a name."""
    return int(socket.getaddrinfo(address, number, type=socket.SOCK_DGRAM)[0][0])


def _learn(peer: Peer, outcomes: Mapping[str, str], mtu: int, farewell: str) -> PeerResult:
    """Clock and MTU over the first ports that work."""
    answered = [int(name.partition("/")[0]) for name, outcome in outcomes.items() if outcome == OPEN and name.endswith("/tcp")]
    datagrams = [int(name.partition("/")[0]) for name, outcome in outcomes.items() if outcome == OPEN and name.endswith("/udp")]
    result = PeerResult(peer.name, peer.address, outcomes, promised=min(mtu, peer.mtu))
    silence = []
    values: Dict[str, Any] = {}
    for number in [*answered, peer.extra_tcp]:
        with contextlib.suppress(OSError, ValueError):
            values["skew"], values["uncertainty"], values["rtt"] = _clock(peer.address, number, peer.nonce)
            break
    else:
        silence.append("no TCP port of its listener can be reached")
    for number in [*datagrams, peer.extra_udp]:
        with contextlib.suppress(OSError):
            found = path_mtu(peer.address, number, peer.nonce, result.promised, values.get("rtt", UDP_TIMEOUT))
            if found:
                values["mtu"] = found
                break
    else:
        silence.append("no UDP port of its listener can be reached")
    dismissed = _dismiss(peer.address, [*answered, peer.extra_tcp], peer.nonce, farewell)
    return replace(result, silence=", ".join(silence), dismissed=dismissed, **values)


def _clock(address: str, number: int, nonce: str) -> Tuple[float, float, float]:
    """How far the other clock is ahead, how exactly that is known, and the shortest round trip: NTP's arithmetic (RFC 5905) on the quickest exchange."""
    best = (0.0, float("inf"))
    with socket.create_connection((address, number), timeout=TCP_TIMEOUT) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _turn in range(CLOCK_ROUNDS):
            sent, begin = time.time(), time.monotonic()
            one.sendall(f"{nonce}\n".encode("ascii"))
            theirs = float(one.recv(64))
            trip = time.monotonic() - begin
            if trip < best[1]:
                best = (theirs - (sent + trip / 2), trip)
    return best[0], best[1] / 2, best[1]


def _never_fragment(one: socket.socket) -> None:
    """Neither here nor on the way, and whatever the kernel believes to know about the path."""
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    with contextlib.suppress(OSError):
        one.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)


def path_mtu(address: str, number: int, nonce: str, promised: int, rtt: float) -> Optional[int]:
    """The largest packet that goes there and comes back whole, up to what the interfaces promise. None where nothing comes back."""
    family = family_of_host(address, number)
    promised = min(promised, LARGEST_MTU)
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        _never_fragment(one)
        one.connect((address, number))
        one.settimeout(max(0.1, 4 * rtt))

        def passes(size: int) -> bool:
            word = nonce.encode("ascii")
            for turn in range(3):
                packet = (word + b" %d " % turn).ljust(size - HEADERS[socket.AddressFamily(family)], b".")
                try:
                    one.send(packet)
                    while True:
                        if one.recv(65535) == packet:
                            return True
                except socket.timeout:
                    continue
                except OSError as error:
                    if error.errno == errno.EMSGSIZE:
                        return False
                    raise
            return False

        return _largest(passes, LEAST_MTU[socket.AddressFamily(family)], promised)


def _largest(passes: Callable[[int], bool], least: int, most: int) -> Optional[int]:
    """Try what is promised first; search only where it fails, by halves, since each failure costs time-outs."""
    if passes(most):
        return most
    if not passes(least):
        return None
    good, bad = least, most
    for common in (1500, 1450, 1400):  # Ethernet; Ethernet less VXLAN; what tunnels of clouds leave
        if good < common < bad:
            if passes(common):
                good = common
                break
            bad = common
    while bad - good > 1:
        middle = (good + bad) // 2
        if passes(middle):
            good = middle
        else:
            bad = middle
    return good


@contextlib.contextmanager
def listening(machine: Machine, name: str, address: str, profile: Profile, state: str, now: Callable[[], float] = time.time) -> Iterator[Peer]:
    """A listener for as long as a block lasts."""
    peer = listen(machine, name, address, profile, state, now)
    try:
        yield peer
    finally:
        stop(state)
