# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a request leaves: what urllib3's own connection would send in two pieces."""

from __future__ import annotations

import socket
from typing import Any, List, Optional

import pytest
import urllib3

from ansible_collections.nordic.gitops.plugins.module_utils._cluster.answers import Bounds, paced_pools

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Pieces:
    """A socket that notes what it is given at once."""

    def __init__(self, ours: socket.socket) -> None:
        self._ours, self.sent = ours, []  # type: ignore[var-annotated]

    def sendall(self, data: Any) -> None:
        self.sent.append(bytes(data))
        self._ours.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ours, name)


@pytest.mark.parametrize("body", [None, b"", b"{}", b"x" * 20_000, "ø"])
def test_a_request_is_sent_in_one_piece_and_the_next_one_on_the_same_connection_too(body: Optional[Any]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        classes = paced_pools({"http": urllib3.HTTPConnectionPool}, Bounds())
        connection = classes["http"].ConnectionCls("server.example")
        connection.sock = pieces = Pieces(ours)
        received: List[bytes] = []
        for _time in range(2):
            theirs.sendall(ANSWER)
            connection.request("PATCH", "/apis", body=body, headers={"X-Is": "there"})
            assert connection.getresponse().data == b"{}"
            received.append(pieces.sent[-1])
        assert len(pieces.sent) == 2 and received[0] == received[1]
        head, _blank, rest = received[0].partition(b"\r\n\r\n")
        assert head.startswith(b"PATCH /apis HTTP/1.1\r\n") and b"X-Is: there" in head
        assert rest == (body.encode() if isinstance(body, str) else body or b"")
        length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
        assert length == [b"Content-Length: %d" % len(rest)]
