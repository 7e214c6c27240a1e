# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy in front of the API server that fails on purpose, as real networks and busy servers do.

It ends TLS with its own certificate and passes the client's bearer token on; client certificates do not pass.

    with FaultProxy(cluster) as proxy:
        proxy.script(DROP, status(429, retry_after=1))      # the next two requests, then all goes well
        proxy.randomly(0.2, [DROP, CUT, delay(0.5)], seed=7) # one in five, the same ones each time
        … proxy.kubeconfig …
        proxy.requests                                       # what was asked, and the fault each one met
"""

from __future__ import annotations

import collections
import http.client
import http.server
import json
import random
import shutil
import socket
import socketserver
import ssl
import struct
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence

from lab.certificates import Authority


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    kind: drop (the connection is reset before the server hears of the request), lose (the server does the work,
    the answer is lost), cut (the answer stops in the middle of its body), delay, status; deaf (the server does not
    hear of it) and mute (the server does the work) let the client wait until it ends, hold until the test goes on.
    """

    kind: str
    seconds: float = 0.0
    code: int = 0
    retry_after: Optional[int] = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.code or ''}{self.seconds or ''}".strip()


DROP = Fault("drop")
LOSE = Fault("lose")
CUT = Fault("cut")
DEAF = Fault("deaf")
MUTE = Fault("mute")
HOLD = Fault("hold")
GOES_WELL: Optional[Fault] = None


def delay(seconds: float) -> Fault:
    """The answer comes, but late."""
    return Fault("delay", seconds=seconds)


def status(code: int, retry_after: Optional[int] = None, message: str = "") -> Fault:
    """An answer of the API server's kind that the API server did not give."""
    return Fault("status", code=code, retry_after=retry_after, reason=message)


@dataclass
class Seen:
    """One request: code is what the client was told (0: nothing), fault what was done to it."""

    method: str
    path: str
    user_agent: str
    fault: Optional[Fault]
    code: int = 0


Match = Callable[[str, str], bool]


class FaultProxy:
    """Attributes: url, ca_file, kubeconfig (of the administrator, by way of the proxy), requests, waiting (set while a client waits for ever),
    go_on (set by the test, when requests that are held may reach the server)."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.waiting, self.go_on = threading.Event(), threading.Event()
        self.requests: List[Seen] = []
        self._lock = threading.Lock()
        self._script: Deque[Optional[Fault]] = collections.deque()
        self._rate = 0.0
        self._faults: Sequence[Fault] = ()
        self._random = random.Random(0)
        self._match: Match = _everything
        self._down = False

    # What a test asks for

    def script(self, *faults: Optional[Fault], match: Optional[Match] = None) -> None:
        """The next requests (that match) meet these, in this order; GOES_WELL lets one pass."""
        with self._lock:
            self._script = collections.deque(faults)
            self._match = match or _everything

    def randomly(self, rate: float, faults: Sequence[Fault], seed: int = 0, match: Optional[Match] = None) -> None:
        """Each request (that matches) meets one of the faults with this probability."""
        with self._lock:
            self._rate, self._faults, self._random = rate, tuple(faults), random.Random(seed)
            self._match = match or _everything

    def down(self, is_down: bool = True) -> None:
        """Refuse to talk at all, as a server that restarts does."""
        self._down = is_down

    def calm(self) -> None:
        """No more faults."""
        with self._lock:
            self._script.clear()
            self._rate, self._match, self._down = 0.0, _everything, False

    @property
    def scripted(self) -> int:
        """How many requests of the script are still to come."""
        return len(self._script)

    @property
    def faults(self) -> int:
        """How many requests met one."""
        return sum(1 for request in self.requests if request.fault)

    # The machine

    def __enter__(self) -> "FaultProxy":
        self.folder = Path(tempfile.mkdtemp(prefix="nordic-proxy-"))
        authority = Authority(self.folder, "nordic.gitops fault proxy")
        certificate, key = authority.server("proxy")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._upstream = ssl.create_default_context(cafile=self.cluster.ca_file)
        target = urllib.parse.urlsplit(self.cluster.url)
        self._host, self._port = target.hostname or "", target.port or 443
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        # The handshake is left to the thread of the connection, or one slow client would stop them all.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.ca_file = str(authority.certificate)
        self.kubeconfig = self.kubeconfig_with({"token": self.cluster.admin_token})
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kubeconfig_with(self, user: Dict[str, str]) -> str:
        """A kubeconfig of another user of the proxy."""
        path: str = self.cluster.kubeconfig_with(user, self.url, self.ca_file)
        return path

    def through(self, kubeconfig: str) -> str:
        """The same user (with a bearer token) by way of the proxy."""
        entry = json.loads(Path(kubeconfig).read_text())["users"][0]["user"]
        return self.kubeconfig_with(entry)

    def _meet(self, method: str, path: str, user_agent: str) -> Seen:
        with self._lock:
            seen = Seen(method, path, user_agent, self._next(method, path))
            self.requests.append(seen)
            return seen

    def _next(self, method: str, path: str) -> Optional[Fault]:
        if self._down:
            return DROP
        if not self._match(method, path):
            return None
        if self._script:
            return self._script.popleft()
        if self._rate and self._random.random() < self._rate:
            return self._random.choice(self._faults)
        return None

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=600, context=self._upstream)


def _everything(_method: str, _path: str) -> bool:
    return True


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are this server's trade."""


class _Reset(Exception):
    """The client's connection ends now."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    upstream: Optional[http.client.HTTPSConnection] = None

    def setup(self) -> None:
        super().setup()
        # Small answers at once: with Nagle's algorithm each costs 40 ms.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def finish(self) -> None:
        if self.upstream:
            self.upstream.close()
        super().finish()

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = proxy._meet(self.command, self.path, self.headers.get("User-Agent", ""))
        try:
            seen.code = self._answer(seen.fault, body)
        except _Reset:
            self._reset()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _answer(self, fault: Optional[Fault], body: bytes) -> int:
        if fault is None:
            return self._pass(body)
        if fault.kind == "drop":
            raise _Reset
        if fault.kind == "status":
            return self._status(fault)
        if fault.kind == "delay":
            time.sleep(fault.seconds)
            return self._pass(body)
        if fault.kind == "hold":
            self.server.proxy.waiting.set()
            self.server.proxy.go_on.wait()
            return self._pass(body)
        if fault.kind in ("lose", "mute"):
            self._ask(body).read()
        if fault.kind in ("deaf", "mute"):
            self.server.proxy.waiting.set()
            self.connection.recv(1)  # nothing, once the client has ended
        if fault.kind in ("lose", "deaf", "mute"):
            raise _Reset
        return self._pass(body, cut=True)

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        hop = {"host", "connection", "content-length", "accept-encoding", "transfer-encoding", "upgrade"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        for attempt in (1, 2):
            if self.upstream is None:
                self.upstream = self.server.proxy._connect()
            try:
                self.upstream.request(self.command, self.path, body=body or None, headers=headers)
                return self.upstream.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                # A kept connection that the server closed meanwhile; a new one is no second try of the request.
                self.upstream.close()
                self.upstream = None
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _pass(self, body: bytes, cut: bool = False) -> int:
        answer = self._ask(body)
        length = answer.getheader("Content-Length")
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        if length is None:
            self._stream(answer, cut)
            return answer.status
        content = answer.read()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if cut:
            self.wfile.write(content[:len(content) // 2])
            raise _Reset
        self.wfile.write(content)
        return answer.status

    def _stream(self, answer: http.client.HTTPResponse, cut: bool) -> None:
        """A body without a length: a watch, which lasts, or a big list."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while True:
            piece = answer.read1(65536)
            if cut and piece:
                piece = piece[:max(1, len(piece) // 2)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            if cut:
                raise _Reset
            if not piece:
                return

    def _status(self, fault: Fault) -> int:
        message = fault.reason or f"the proxy of the tests answers {fault.code}"
        content = json.dumps({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": fault.code,
                              "reason": _REASONS.get(fault.code, ""), "message": message}).encode()
        self.send_response(fault.code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if fault.retry_after is not None:
            self.send_header("Retry-After", str(fault.retry_after))
        self.end_headers()
        self.wfile.write(content)
        return fault.code

    def _reset(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        # With this option the close sends RST: the client sees "connection reset by peer", no tidy end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=self.connection.detach()).close()


_REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
