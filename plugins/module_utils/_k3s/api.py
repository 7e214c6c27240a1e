# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API from the node itself, with the credentials that k3s keeps there.

On a server that is the administrator's certificate and this node's own API server, on an agent the kubelet's, which may read
its own Node. Nothing is taken from the user's kubeconfig, so no context chosen there can lead to another cluster.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple
from urllib.parse import quote, urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import DATA_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, health

ADMIN = "server/cred/admin.kubeconfig"
KUBELET = "agent/kubelet.kubeconfig"
MERGE = "application/merge-patch+json"
TIMEOUT = 10.0
ATTEMPTS, PAUSE = 3, 2.0
BUSY = (429, 503, 504)


class ApiFailure(Failure):
    """The API server's refusal, or no answer at all (status 0)."""

    status: int = 0
    reason: str = ""

    def __init__(self, what: str, where: str, status: int = 0, reason: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Node:
    """A Node object, as far as anything here asks about it."""

    name: str
    uid: str
    ready: bool
    message: str  # why it is not ready, in the kubelet's words
    reported: str  # when the kubelet last did: "2026-11-25T07:12:03Z"
    roles: Tuple[str, ...]
    version: str
    unschedulable: bool
    addresses: Tuple[str, ...]
    machine_id: str
    architecture: str
    etcd_voter: Optional[bool]  # as k3s says it of its servers with embedded etcd
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Node:
        metadata, status = item["metadata"], item.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
        verdict, voter = health({**item, "apiVersion": "v1", "kind": "Node"}), conditions.get("EtcdIsVoter")
        info = status.get("nodeInfo") or {}
        labels = metadata.get("labels") or {}
        prefix = "node-role.kubernetes.io/"
        return cls(
            name=metadata["name"],
            uid=metadata.get("uid", ""),
            ready=verdict.status == CURRENT,
            message="" if verdict.status == CURRENT else verdict.message,
            reported=str((conditions.get("Ready") or {}).get("lastHeartbeatTime") or ""),
            roles=tuple(sorted(label[len(prefix):] for label in labels if label.startswith(prefix))),
            version=info.get("kubeletVersion", ""),
            unschedulable=bool((item.get("spec") or {}).get("unschedulable")),
            addresses=tuple(entry["address"] for entry in status.get("addresses") or [] if entry["type"] == "InternalIP"),
            machine_id=info.get("machineID", ""),
            architecture=info.get("architecture", ""),
            etcd_voter=None if voter is None else voter.get("status") == "True",
            labels=labels,
            annotations=metadata.get("annotations") or {},
        )


class Api:
    """Requests to one API server, over one connection that is opened again when it was lost."""

    def __init__(self, url: str, ca: str, certificate: str, key: str, timeout: float = TIMEOUT, attempts: int = ATTEMPTS,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.sleep = sleep
        self.attempts = attempts  # of a question: who asks again and again anyway needs one
        parts = urlsplit(url)
        self._ca, self._pair = ca, (certificate, key)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 443)
        try:
            self._tls = ssl.create_default_context(cafile=ca)
            self._tls.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise ApiFailure(f"the certificates of this node cannot be read: {error}", certificate) from error
        self._connection: Optional[http.client.HTTPSConnection] = None

    @classmethod
    def of_node(cls, data_dir: str = DATA_DIR, timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> Api:
        """As the administrator on a server, as the kubelet on an agent."""
        for name in (ADMIN, KUBELET):
            path = os.path.join(data_dir, name)
            if os.path.exists(path):
                return cls.of_kubeconfig(path, timeout, attempts)
        raise ApiFailure(f"no credentials of k3s below {data_dir}", hint="k3s has not started on this node yet, or has another data-dir.", where="the API")

    @classmethod
    def of_kubeconfig(cls, path: str, timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> Api:
        """One that k3s itself wrote: always this form, always with paths, so no YAML parser is needed."""
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        found = dict(re.findall(r"^\s*(server|certificate-authority|client-certificate|client-key): *[\"']?(.+?)[\"']?\s*$", text, re.MULTILINE))
        missing = {"server", "certificate-authority", "client-certificate", "client-key"} - set(found)
        if missing:
            raise ApiFailure(f"has no {', '.join(sorted(missing))}", path, hint="Restart k3s: it writes this file whenever it starts.")
        return cls(found["server"], found["certificate-authority"], found["client-certificate"], found["client-key"], timeout, attempts)

    # Requests

    def do(self, verb: str, path: str, body: Optional[Any] = None, content_type: str = "application/json") -> Any:
        """The answer's JSON, or its text where it is none. Raises ApiFailure for whatever is no success."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "User-Agent": "nordic.gitops", "Content-Type": content_type}
        status, text = self._asked(verb, path, data, headers)
        try:
            answer: Any = json.loads(text)
        except ValueError:
            answer = text.decode("utf-8", "replace")
        if status >= 300:
            said = answer if isinstance(answer, dict) else {}
            message = str(said.get("message") or str(answer)[:300].strip() or f"answered {status}")
            raise ApiFailure(message, f"{verb} {path}", status, str(said.get("reason") or ""))
        return answer

    def _asked(self, verb: str, path: str, data: Optional[bytes], headers: Dict[str, str]) -> Tuple[int, bytes]:
        """A question is asked again when the server is too busy for it; what changes something is sent once."""
        for left in reversed(range(self.attempts if verb == "GET" else 1)):
            try:
                status, text = self._exchange(verb, path, data, headers)
                if status not in BUSY or not left:
                    return status, text
            except ApiFailure:
                if not left:
                    raise
            self.sleep(PAUSE)
        raise AssertionError("unreachable")

    def _exchange(self, verb: str, path: str, data: Optional[bytes], headers: Dict[str, str]) -> Tuple[int, bytes]:
        for fresh in (False, True):
            try:
                if self._connection is None:
                    fresh = True
                    self._connection = http.client.HTTPSConnection(*self._address, timeout=self.timeout, context=self._tls)
                self._connection.request(verb, path, data, headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A connection that was kept may have been closed by the server meanwhile; such a request was not carried out.
                kept = isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError))
                if fresh or not kept:
                    raise ApiFailure(f"does not answer: {error or type(error).__name__}", self.url, hint="`journalctl -u k3s` tells why.") from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Questions

    def ready(self) -> str:
        """Why the API server is not ready, or nothing."""
        try:
            self.do("GET", "/readyz")
            return ""
        except ApiFailure as failure:
            failed = [line for line in failure.what.splitlines() if line.startswith("[-]")]
            return "; ".join(failed) or str(failure)

    def nodes(self) -> List[Node]:
        return [Node.of(item) for item in self.do("GET", "/api/v1/nodes")["items"]]

    def node(self, name: str) -> Optional[Node]:
        """None where the cluster has no such node."""
        try:
            return Node.of(self.do("GET", f"/api/v1/nodes/{quote(name)}"))
        except ApiFailure as failure:
            if failure.status == 404:
                return None
            raise

    def servers(self) -> List[Tuple[str, int]]:
        """Address and port of each API server. One that ended is among them for 15 s."""
        try:
            subsets = self.do("GET", "/api/v1/namespaces/default/endpoints/kubernetes").get("subsets") or []
        except ApiFailure as failure:
            if failure.status != 404:
                raise
            return []
        return [(address["ip"], port["port"]) for subset in subsets for address in subset.get("addresses") or [] for port in subset.get("ports") or []]

    def other_answers(self, host: str, port: int) -> bool:
        """Whether another API server of the cluster is ready. It proves itself by the cluster's CA; its certificate may name another address."""
        connection = http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self._any_name())
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _any_name(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca)
        context.check_hostname = False
        context.load_cert_chain(*self._pair)
        return context
