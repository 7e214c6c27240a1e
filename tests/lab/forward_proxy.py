# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP proxy as companies have one: it opens tunnels (CONNECT), to those who say the password.

    with ForwardProxy(login="anna:word") as proxy:
        … proxy.url …
        proxy.tunnels           # "127.0.0.1:6443" for each one it opened
"""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import threading
from typing import Any, List


class ForwardProxy:
    def __init__(self, login: str = "") -> None:
        self.expected = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self.tunnels: List[str] = []

    def __enter__(self) -> "ForwardProxy":
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    proxy: ForwardProxy


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 0  # what follows the request's head belongs to the tunnel
    server: _Server

    def handle(self) -> None:
        method, target, _version = self.rfile.readline().decode().split()
        headers = {}
        for line in iter(lambda: self.rfile.readline().decode().strip(), ""):
            name, _colon, value = line.partition(":")
            headers[name.lower()] = value.strip()
        proxy = self.server.proxy
        if proxy.expected and headers.get("proxy-authorization") != proxy.expected:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        host, _colon, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            proxy.tunnels.append(target)
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            relay(self.connection, far)


def relay(near: socket.socket, far: socket.socket) -> None:
    """Whatever one says goes to the other, until one of them ends."""
    ends = {near: far, far: near}
    while True:
        for end in select.select(list(ends), [], [])[0]:
            data = end.recv(65536)
            if not data:
                return
            ends[end].sendall(data)
