# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""lab.proxy's faults, for clients of a cloud: a proxy for all its services, as HTTP_PROXY names one.

with CloudProxy() as proxy:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    proxy.script(LOSE, match=creates("/servers"))
"""

from __future__ import annotations

import http.client
import threading
from typing import Any, Dict
from urllib.parse import urlsplit

from lab.proxy import FaultProxy, Match, _Handler, _Server


def creates(end: str) -> Match:
    """POST requests to a path that ends so."""
    return lambda method, path: method == "POST" and urlsplit(path).path.endswith(end)


class CloudProxy(FaultProxy):
    """Attributes: url, requests, instead (host and port of a service -> of the one that is asked in its place)."""

    def __init__(self) -> None:
        super().__init__(None)
        self.instead: Dict[str, str] = {}

    def __enter__(self) -> "CloudProxy":
        self._server = _Server(("127.0.0.1", 0), _ProxyHandler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


class _ProxyHandler(_Handler):
    """The request line names the whole URL."""

    def setup(self) -> None:
        super().setup()
        self.upstreams: Dict[str, http.client.HTTPConnection] = {}

    def finish(self) -> None:
        for upstream in self.upstreams.values():
            upstream.close()
        super().finish()

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        parts = urlsplit(self.path)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("host", "connection", "proxy-connection", "content-length", "accept-encoding")
        }
        target = parts._replace(scheme="", netloc="").geturl()
        for attempt in (1, 2):
            real = self.server.proxy.instead.get(parts.netloc, parts.netloc)
            upstream = self.upstreams.setdefault(parts.netloc, http.client.HTTPConnection(real, timeout=600))
            try:
                upstream.request(self.command, target, body=body or None, headers={**headers, "Host": parts.netloc})
                return upstream.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                self.upstreams.pop(parts.netloc).close()
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")
