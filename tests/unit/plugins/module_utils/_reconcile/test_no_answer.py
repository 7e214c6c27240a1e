# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the API server beside something else holds up no error."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from reconciling import Reconciler

SERVED = json.dumps({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": []}).encode()


class Server(ThreadingHTTPServer):
    """An API server that serves no kind, and never answers a question for schemas."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.asked = 200, []  # type: ignore[var-annotated]
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith("/openapi"):
            self.server.over.wait()
            return
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(SERVED)))
        self.end_headers()
        self.wfile.write(SERVED)

    def log_message(self, format: str, *_arguments: Any) -> None:  # pylint: disable=redefined-builtin
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.over.set()
    one.shutdown()
    thread.join()
    one.server_close()


def schemas_asked_for(server: Server, tmp_path: Path, **options: Any) -> List[str]:
    """Until the run of a repository that is not there has failed."""
    run = Reconciler(name="web", repository=f"file://{tmp_path}/nowhere", host=f"http://127.0.0.1:{server.server_port}", git_cache=str(tmp_path / "cache"))
    run.tuning = {"patience": 1.0, "read_timeout": 1.0}
    with pytest.raises(Failure, match="there is no Git repository at this path"):
        run(**options)
    return [path for path in server.asked if path.startswith("/openapi")]


def test_a_failure_of_git_does_not_wait_for_schemas_that_never_come(server: Server, tmp_path: Path) -> None:
    assert schemas_asked_for(server, tmp_path) in ([], ["/openapi/v3"])  # waiting would have asked again, after each time-out


def test_a_server_that_refuses_what_it_serves_is_not_asked_for_schemas(server: Server, tmp_path: Path) -> None:
    server.status = 403
    assert schemas_asked_for(server, tmp_path) == []
