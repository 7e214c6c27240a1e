# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded etcd of this server: its members, who leads, who is healthy, and whether one may stop.

etcd's own gateway from JSON to gRPC answers on the loopback address: on port 2382 of a k3s that keeps HTTP and gRPC apart
(etcd issue 15402), on 2379 of an older one. The node's own client certificate is the credential.

Whether another member is healthy is seen twice: this member's raft connections to it (`etcd_network_active_peers`) fall as soon as they
break, a minute before Kubernetes marks the node; and its own peer port must answer, which a machine that hangs does not. The members
are asked linearizably: an answer is at the same time the proof that a quorum works and that this member has applied all that
was committed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import DATA_DIR

PORTS = (2382, 2379)
HOSTS = ("127.0.0.1", "::1")  # the second one where the cluster knows IPv6 alone
TIMEOUT = 7.0  # more than an election, which takes k3s' etcd 5 s
PEER_TIMEOUT = 2.0  # one that needs longer to say its version is not one to rely on
CERTIFICATES = "server/tls/etcd"
QUIET = 30.0  # seconds without news of a server that joins


class EtcdFailure(Failure):
    """etcd's refusal, or no answer. code is gRPC's, -1 where nothing answered."""

    def __init__(self, what: str, where: str = "etcd of this server", code: int = -1, hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.code = code

    @property
    def no_quorum(self) -> bool:
        """The member answers but cannot get its question agreed upon."""
        return bool(re.search(r"request timed out|deadline exceeded|no leader|leader changed|DeadlineExceeded", self.what))

    @property
    def learner(self) -> bool:
        """A learner answers no questions about the cluster."""
        return "not supported for learner" in self.what


@dataclass(frozen=True)
class Member:
    """One member of the cluster; a name is there as soon as it has started once."""

    id: int
    name: str
    peer_urls: Tuple[str, ...]
    client_urls: Tuple[str, ...]
    learner: bool

    @property
    def address(self) -> str:
        return urlsplit(self.peer_urls[0]).hostname or "" if self.peer_urls else ""

    @property
    def node(self) -> str:
        """The Kubernetes node: k3s names a member after it and adds eight hexadecimal digits."""
        return re.sub(r"-[0-9a-f]{8}\Z", "", self.name)

    def __str__(self) -> str:
        return self.name or f"{self.address} (not started)"


@dataclass(frozen=True)
class View:
    """The cluster as one member sees it."""

    members: Tuple[Member, ...]
    own_id: int
    leader_id: int
    healthy_ids: FrozenSet[int]
    alarms: Tuple[str, ...] = ()
    version: str = ""
    db_size: int = 0

    @property
    def voters(self) -> Tuple[Member, ...]:
        return tuple(member for member in self.members if not member.learner)

    @property
    def learners(self) -> Tuple[Member, ...]:
        return tuple(member for member in self.members if member.learner)

    @property
    def healthy_voters(self) -> Tuple[Member, ...]:
        return tuple(member for member in self.voters if member.id in self.healthy_ids)

    @property
    def quorum(self) -> int:
        """How many voters must agree."""
        return len(self.voters) // 2 + 1

    @property
    def leader(self) -> Optional[Member]:
        return self._of(self.leader_id)

    @property
    def own(self) -> Optional[Member]:
        return self._of(self.own_id)

    def member(self, name: str) -> Optional[Member]:
        """By its Kubernetes node, etcd's name of it, or its address; in this order, as a node may be called what etcd calls the member of another."""
        known: Tuple[Callable[[Member], str], ...] = (lambda member: member.node, lambda member: member.name, lambda member: member.address)
        return next((member for key in known for member in self.members if key(member) == name), None)

    def trouble(self) -> str:
        """Why not all is well, or nothing."""
        if not self.leader:
            return "etcd has no leader"
        if self.alarms:
            return f"etcd has raised {' and '.join(self.alarms)}"
        if self.learners:
            return f"etcd admits {_names(self.learners)}, which is a learner still"
        sick = [member for member in self.voters if member.id not in self.healthy_ids]
        return f"etcd of {_names(sick)} does not answer" if sick else ""

    def may_stop(self, member: Optional[Member] = None) -> str:
        """Why stopping this member (this node's own when none is given) would cost the quorum, or nothing.

        A cluster of one voter has no quorum to lose: it is away while it restarts, whatever is done.
        """
        member = member or self.own
        if member is None:
            return "etcd does not know this server as a member"
        if len(self.voters) == 1 and not self.learners:
            return ""
        if not self.leader:
            return "etcd has no leader"
        if self.learners and member not in self.learners:
            return f"etcd admits {_names(self.learners)} now, which is a learner still"
        left = [other for other in self.healthy_voters if other.id != member.id]
        if len(left) >= self.quorum:
            return ""
        sick = [other for other in self.voters if other.id not in self.healthy_ids and other.id != member.id]
        return (f"without {member} etcd would have {len(left)} of {len(self.voters)} voters, and needs {self.quorum}"
                + (f"; {_names(sick)} does not answer" if sick else ""))

    def best_leader(self, without: Optional[Member] = None) -> Optional[Member]:
        """A healthy voter that can lead instead."""
        away = without or self.own
        return next((member for member in self.healthy_voters if away is None or member.id != away.id), None)

    def _of(self, number: int) -> Optional[Member]:
        return next((member for member in self.members if member.id == number), None) if number else None


def _names(members: Any) -> str:
    return ", ".join(str(member) for member in members)


class Etcd:
    """This server's etcd. Each question is one request over a connection of its own: a member that hangs holds nothing."""

    def __init__(self, folder: str, ports: Tuple[int, ...] = PORTS, timeout: float = TIMEOUT) -> None:
        """folder: with the certificates, as k3s names them."""
        self.timeout = timeout
        self._places = [(host, port) for port in ports for host in HOSTS]
        self._tls = _trust(folder, "server-ca.crt", "client")
        self._peer_tls = _trust(folder, "peer-ca.crt", "peer-server-client")

    @classmethod
    def of_node(cls, data_dir: str = DATA_DIR, timeout: float = TIMEOUT) -> Etcd:
        return cls(os.path.join(data_dir, CERTIFICATES), timeout=timeout)

    def view(self) -> View:
        """Raises EtcdFailure when nothing answers, when there is no quorum, and on a learner."""
        status = self.status()
        own, leader = _number(status["header"].get("member_id")), _number(status.get("leader"))
        members = self.members()
        connected = {peer for peer, connections in self._peers().items() if connections > 0}
        healthy = {own} | {member.id for member in members if member.id in connected and self.answers(member)}
        return View(
            members=tuple(members),
            own_id=own,
            leader_id=leader,
            healthy_ids=frozenset(healthy),
            alarms=tuple(sorted({str(error) for error in status.get("errors") or []})),
            version=str(status.get("version") or ""),
            db_size=_number(status.get("dbSize")),
        )

    def status(self) -> Dict[str, Any]:
        """This member alone, as etcd's gateway writes it."""
        return self.ask("/v3/maintenance/status", {})

    def members(self, linearizable: bool = True) -> List[Member]:
        answer = self.ask("/v3/cluster/member/list", {"linearizable": linearizable})
        return [Member(_number(member.get("ID")), member.get("name") or "", tuple(member.get("peerURLs") or ()),
                       tuple(member.get("clientURLs") or ()), bool(member.get("isLearner")))
                for member in answer.get("members") or []]

    def move_leader(self, to: Member) -> None:
        """Only the leader itself can."""
        self.ask("/v3/maintenance/transfer-leadership", {"targetID": str(to.id)})

    def promote(self, member: Member) -> None:
        """A learner becomes a voter, if etcd finds that it has caught up. k3s does the same, but looks only every 15 s."""
        self.ask("/v3/cluster/member/promote", {"ID": str(member.id)})

    def remove(self, member: Member) -> None:
        self.ask("/v3/cluster/member/remove", {"ID": str(member.id)})

    def _peers(self) -> Dict[int, int]:
        """Open raft connections by the other's id. A member alone has none."""
        text = self._exchange("GET", "/metrics", None).decode("utf-8", "replace")
        found: Dict[int, int] = {}
        for remote, value in re.findall(r'^etcd_network_active_peers\{[^}]*Remote="([0-9a-f]+)"[^}]*\} ([0-9.e+]+)$', text, re.MULTILINE):
            found[int(remote, 16)] = found.get(int(remote, 16), 0) + int(float(value))
        return found

    def answers(self, member: Member) -> bool:
        """Whether the other's etcd says its version on the port that the members use among themselves."""
        parts = urlsplit(member.peer_urls[0])
        kind = http.client.HTTPConnection if parts.scheme == "http" else partial(http.client.HTTPSConnection, context=self._peer_tls)
        connection = kind(parts.hostname or "", parts.port, timeout=PEER_TIMEOUT)
        try:
            connection.request("GET", "/version")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def ask(self, path: str, question: Dict[str, Any]) -> Dict[str, Any]:
        answer = json.loads(self._exchange("POST", path, json.dumps(question).encode()) or b"{}")
        if not isinstance(answer, dict):
            raise EtcdFailure(f"answered {str(answer)[:100]!r} to {path}")
        return answer

    def _exchange(self, verb: str, path: str, body: Optional[bytes]) -> bytes:
        told: List[str] = []
        for host, port in list(self._places):
            try:
                return self._at(host, port, verb, path, body)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, (TimeoutError, socket.timeout)):  # two names until Python 3.10
                    raise EtcdFailure(f"request timed out after {self.timeout:.0f} s", f"etcd at {_url(host, port)}", 4) from error
                told.append(f"{_url(host, port)}: {error or type(error).__name__}")
        raise EtcdFailure(f"does not answer ({told[0]})", hint="`journalctl -u k3s` tells why.")

    def _at(self, host: str, port: int, verb: str, path: str, body: Optional[bytes]) -> bytes:
        connection = http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self._tls)
        try:
            connection.request(verb, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        self._places = [(host, port)]  # the one that speaks; the next question goes there at once
        if answer.status == 200:
            return text
        try:
            said = json.loads(text)
        except ValueError:
            said = {}
        raise EtcdFailure(str(said.get("message") or said.get("error") or f"answered {answer.status} to {path}"), code=int(said.get("code") or 0))


def _trust(folder: str, ca: str, pair: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=os.path.join(folder, ca))
        context.load_cert_chain(os.path.join(folder, f"{pair}.crt"), os.path.join(folder, f"{pair}.key"))
        return context
    except (OSError, ssl.SSLError) as error:
        raise EtcdFailure(f"its certificates cannot be read: {error}", folder,
                          hint="This is a server without embedded etcd, or k3s has not started yet.") from error


def _number(value: Any) -> int:
    """etcd's gateway writes 64 bits as a string."""
    return int(value or 0)


def _url(host: str, port: int) -> str:
    return f"https://{'[%s]' % host if ':' in host else host}:{port}"


def admit(etcd: Etcd, voters: int, sleep: Callable[[float], None], clock: Callable[[], float], quiet: float = QUIET, pause: float = 0.3) -> bool:
    """Make learners voters as soon as etcd finds that they have caught up, until there are so many voters.

    etcd takes one learner at a time, and k3s promotes one only every 15 s; meanwhile the k3s of the learner keeps a whole processor busy
    with waiting. This hastens and decides nothing: it ends, with False, when nobody came for `quiet` seconds. A server that does not
    join says so itself.
    """
    seen: List[Member] = []
    since = clock()
    while clock() - since < quiet:
        with contextlib.suppress(EtcdFailure):  # an election, or one that has not caught up yet
            members = etcd.members()
            if sum(not member.learner for member in members) >= voters:
                return True
            if members != seen:
                seen, since = members, clock()
            for member in members:
                if member.learner:
                    etcd.promote(member)
        sleep(pause)
    return False


def wait_until(question: Callable[[], str], timeout: float, sleep: Callable[[float], None], clock: Callable[[], float], pause: float = 0.5) -> str:
    """Ask until there is no objection any more; the last one, if the time is over."""
    end = clock() + timeout
    while True:
        objection = question()
        if not objection or clock() >= end:
            return objection
        sleep(pause)
