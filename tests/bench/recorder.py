# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recorder between a client and the API server: passes everything on and keeps each PATCH as it was sent, for the replay.

Recording happens once for each case, outside of what is measured.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, List, Set

from .server import Access

# Said for one connection and not for the request itself.
OF_THE_CONNECTION = ("host", "connection", "content-length", "transfer-encoding", "keep-alive")


class Recorder:
    def __init__(self, access: Access, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.requests: List[Dict[str, Any]] = []
        self.connections: Set[Any] = set()
        self._access = access
        self._pool = access.pool(64, folder)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return "http://127.0.0.1:%d" % self._server.server_address[1]

    def __enter__(self) -> "Recorder":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path) -> None:
        write_kubeconfig(path, {"server": self.url}, {"token": self._access.token or "recorded"})

    def pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in OF_THE_CONNECTION}
        if handler.command == "PATCH" and "dryRun=" not in handler.path:
            with self._lock:
                self.connections.add(handler.client_address)
                kept = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                self.requests.append({"path": handler.path, "headers": kept, "body": body.decode()})
        headers.pop("Authorization", None)
        headers.update(self._access.headers)
        answer = self._pool.urlopen(handler.command, handler.path, body=body, headers=headers, decode_content=False, timeout=300)
        handler.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in OF_THE_CONNECTION:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.data)))
        handler.end_headers()
        handler.wfile.write(answer.data)

    def write(self, path: Path) -> None:
        """What was recorded, and over how many connections: the replay gets as many threads as the apply stage had."""
        path.write_text(json.dumps({"threads": len(self.connections), "requests": self.requests}), encoding="utf-8")


def _handler(recorder: Recorder) -> Any:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # pylint: disable=invalid-name
            recorder.pass_on(self)

        do_PATCH = do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
            """Nothing on the terminal: the progress lines are there."""

    return Handler


def write_kubeconfig(path: Path, cluster: Dict[str, Any], user: Dict[str, Any]) -> None:
    """A kubeconfig with one context; JSON is YAML."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "bench", "user": user}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config), encoding="utf-8")
