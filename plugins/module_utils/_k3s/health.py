# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether k3s on this node is what it should be now, and the wait until it is."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import Api, ApiFailure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.configuration import PORT
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import CERTIFICATES, Etcd, EtcdFailure, View
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_in
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import BELIEVED, Service, State

# The kubelet binds the loopback address of its first node-ip's family.
KUBELET = (("127.0.0.1", 10248), ("::1", 10248))
PAUSE = 0.5
# systemd is asked at least so often, and each time once the kubelet answers. A question costs a process here and work there, which k3s
# itself could use while it starts: asked twice a second, it was 5 of 120 processor seconds of a bootstrap of four nodes.
LOOK = 2.0
LISTEN = 10.0  # seconds between two looks at what k3s says


def node_name(config: Mapping[str, Any], node_id: str = "/etc/rancher/node/id") -> str:
    """The name under which k3s registers this host."""
    name = str(config.get("node-name") or socket.gethostname()).lower()
    if str(config.get("with-node-id", "")).lower() == "true" and os.path.exists(node_id):
        with open(node_id, encoding="ascii") as stream:
            name = f"{name}-{stream.read().strip()}"
    return name


def has_embedded_etcd(data_dir: str) -> bool:
    return os.path.isdir(os.path.join(data_dir, "server/db/etcd/member"))


def has_cluster(role: str, data_dir: str) -> bool:
    """Whether k3s has been part of a cluster here: started once at least, with its data still there."""
    marks = ("server/db/etcd/member", "server/db/state.db", "server/token") if role == "server" else ("agent/client-kubelet.crt",)
    return any(os.path.exists(os.path.join(data_dir, mark)) for mark in marks)


class Health:
    """Questions that answer with what is in the way, in a sentence, or with nothing."""

    def __init__(self, role: str, data_dir: str, name: str, with_kubelet: bool = True, external: bool = False, port: int = PORT) -> None:
        self.role = role
        self.external = external  # the datastore
        self.port = port  # of the servers' API
        self.data_dir = data_dir
        self.name = name
        self.with_kubelet = with_kubelet
        self.reported: Optional[str] = None  # by the kubelet that ended, when known

    def remember(self) -> None:
        """Before k3s is restarted: what the Node says now is the old kubelet's word, and the new one's may be another."""
        if self.with_kubelet:
            with contextlib.suppress(ApiFailure):
                node = Api.of_node(self.data_dir, 5, attempts=1).node(self.name)
                self.reported = node.reported if node else None

    def objection(self, service: Service, state: State) -> str:
        """Why this node is not up, or nothing. state: of the service, now."""
        if not state.runs:
            return f"{service.name}.service is {state.active}"
        return (self._api() if self.role == "server" else "") or (self._node() if self.with_kubelet else "") or self.etcd_trouble()

    def may_be_up(self) -> bool:
        """Without asking anybody but the kubelet, if there is to be one: k3s is not up before it is."""
        return not self.with_kubelet or not self._kubelet()

    def _api(self) -> str:
        try:
            return Api.of_node(self.data_dir, 5, attempts=1).ready()
        except ApiFailure as failure:
            return str(failure)

    def _node(self) -> str:
        try:
            node = Api.of_node(self.data_dir, 5, attempts=1).node(self.name)
        except ApiFailure as failure:
            return str(failure)
        unwell = self._kubelet()
        if unwell:
            self.reported = node.reported if node else None
            return unwell
        if node is None:
            return f"the cluster has no node {self.name} yet"
        if node.reported and node.reported == self.reported:
            return f"the kubelet of {self.name} has not reported since it was started"
        return "" if node.ready else f"node {self.name} is not ready: {node.message}"

    @staticmethod
    def _kubelet() -> str:
        # The Node object says Ready long after its kubelet has gone; the kubelet itself does not.
        told = ""
        for host, port in KUBELET:
            connection = http.client.HTTPConnection(host, port, timeout=3)
            try:
                connection.request("GET", "/healthz")
                return "" if connection.getresponse().status == 200 else "the kubelet says that it is not healthy"
            except (OSError, http.client.HTTPException) as error:
                told = told or f"the kubelet does not answer: {error}"
            finally:
                connection.close()
        return told

    def etcd_view(self) -> Optional[View]:
        """None on a node without embedded etcd."""
        if self.role != "server" or not os.path.exists(os.path.join(self.data_dir, CERTIFICATES, "client.crt")):
            return None
        return Etcd.of_node(self.data_dir).view() if has_embedded_etcd(self.data_dir) else None

    def etcd_trouble(self) -> str:
        """Of this member alone: others may be joining, or may be down without any fault of this node."""
        try:
            view = self.etcd_view()
        except EtcdFailure as failure:
            return "this server is a learner of etcd still" if failure.learner else str(failure)
        if view is None:
            return ""
        if view.own is None:
            return "etcd does not know this server as a member"
        return "this server is a learner of etcd still" if view.own.learner else "" if view.leader else "etcd has no leader"

    def objection_to_stop(self) -> str:
        """Why stopping this server would cost etcd's quorum, or leave the cluster without an API, or nothing."""
        if self.role == "server" and self.external:
            return self._no_other_api()
        try:
            view = self.etcd_view()
        except EtcdFailure as failure:
            return str(failure)
        return view.may_stop() if view else ""

    def _no_other_api(self) -> str:
        """With an external datastore servers know nothing of each other: the Nodes and the endpoints of the API tell who they are.

        A cluster of one server has no other API: it is away while it restarts, whatever is done.
        """
        try:
            api = Api.of_node(self.data_dir, 5, attempts=1)
            servers = [node for node in api.nodes() if node.name != self.name and {"control-plane", "master"} & set(node.roles)]
            endpoints = api.servers()
        except ApiFailure as failure:
            return f"whether another server's API answers cannot be asked: {failure}"
        others = {(address, self.port) for node in servers for address in node.addresses} | {one for one in endpoints if not is_own(one[0])}
        if not others or any(api.other_answers(address, number) for address, number in sorted(others)):
            return ""
        named = ", ".join(sorted(node.name for node in servers)) or ", ".join(sorted(address for address, _port in others))
        return f"no other server's API answers ({named}), so the cluster would have none"


def is_own(address: str) -> bool:
    """Whether an address is one of this host's."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def first_server_answers(url: str, timeout: float = 3) -> bool:
    """Whether the server to join hands out its CA, which it does before anything else."""
    return authority_at(url, timeout) is not None


def authority_at(url: str, timeout: float = 3) -> Optional[str]:
    """Which cluster the server at this URL is of, as it says itself, which nobody should trust; None when it does not answer."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=timeout, context=context)
    try:
        connection.request("GET", "/cacerts")
        answer = connection.getresponse()
        return authority_in(answer.read(1 << 16).decode("ascii", "replace")) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class StillWaiting(Exception):
    """It is not there yet. Raised when the patience of a call is over, so that a person can be told what is waited for; the next call waits on."""

    def __init__(self, why: str, restarts: int = 0) -> None:
        super().__init__(why)
        self.why, self.restarts = why, restarts


@dataclass(frozen=True)
class Wait:
    """How long one may wait. timeout counts for all calls of a task, of which the earlier ones have spent some; patience is this call's."""

    timeout: float
    patience: float = math.inf
    spent: float = 0.0
    since: float = 0.0  # when k3s was started, by the clock; 0: by this call
    restarts: int = -1  # of the unit at that time
    begun: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> bool:
        return self.passed + self.spent >= self.timeout

    @property
    def passed(self) -> float:
        return time.monotonic() - self.begun

    def ask(self, question: Callable[[], str], pause: float = PAUSE) -> str:
        """Until there is no objection any more; the last one when the time is over."""
        while True:
            objection = question()
            if not objection or self.over:
                return objection
            if self.passed >= self.patience:
                raise StillWaiting(objection)
            time.sleep(pause)


def wait_for_first_server(url: str, wait: Wait) -> None:
    if wait.ask(lambda: "" if first_server_answers(url) else f"{url} does not answer yet"):
        raise Failure(f"does not answer within {wait.timeout:.0f} s, so this node cannot join", url,
                      f"Is k3s running there, and is port {urlsplit(url).port or 443} reachable from this host?")


def wait_until_up(health: Health, service: Service, wait: Wait) -> None:
    """Until there is no objection. Ends early when k3s itself says, again and again, why it cannot start."""
    begun = wait.since or time.time()
    state, asked = service.state(), time.monotonic()
    restarts = state.restarts if wait.restarts < 0 else wait.restarts
    looked = state.restarts if wait.restarts < 0 else -1
    listened = asked - (LISTEN if wait.since else 0)
    while True:
        objection = health.objection(service, state)
        if not objection:
            return
        if state.restarts >= restarts + BELIEVED and state.restarts != looked:
            looked = state.restarts
            said, meaning = service.last_words(begun)
            if meaning:
                raise _not_up(service, f"k3s does not start: {' | '.join(said)}", meaning)
        if time.monotonic() >= listened + LISTEN:
            listened = time.monotonic()
            said, meaning = service.final_words(begun)
            if meaning:
                raise _not_up(service, f"{objection}; k3s says: {' | '.join(said)}", meaning)
        if wait.over:
            said, meaning = service.last_words(begun)
            words = f"; it says: {' | '.join(said)}" if said else ""
            raise _not_up(service, f"after {wait.timeout:.0f} s {objection}{words}", meaning)
        if wait.passed >= wait.patience:
            raise StillWaiting(objection, restarts)
        time.sleep(PAUSE)
        if time.monotonic() >= asked + LOOK or health.may_be_up():
            state, asked = service.state(), time.monotonic()


def _not_up(service: Service, what: str, meaning: str) -> Failure:
    return Failure(what, f"{service.name}.service", meaning or f"`journalctl -u {service.name}` tells more.")
