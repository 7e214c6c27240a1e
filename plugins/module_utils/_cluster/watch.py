# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One open watch: an iterator of events that another thread may close."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any, Callable, Dict, Iterator, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import ApiError, Expired

Event = Tuple[str, Dict[str, Any]]


class Watch:
    """(type, object) of each event, BOOKMARKs included. Ends when the server's time is up, the connection breaks
    or somebody closes it; raises Expired when the server no longer knows the version to go on from."""

    def __init__(self, opened: Callable[[], Any], where: str) -> None:
        self._opened, self._where = opened, where
        self._lock = threading.Lock()
        self._closed = False
        self._response: Any = None
        self._events = self._read()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """End it, from any thread: a reader that waits for the next event wakes up and is done."""
        with self._lock:
            self._closed = True
            connection = getattr(self._response, "connection", None)
        sock = getattr(connection, "sock", None)
        if sock is not None:
            try:
                # Not the TLS socket's own shutdown(), which pulls the TLS state from under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    def _read(self) -> Iterator[Event]:
        try:
            response = self._opened()
        except ApiError as error:
            raise _expired(error.what, self._where) if error.status == 410 else error from None
        try:
            with self._lock:
                self._response = response
                if self._closed:
                    return
            for line in _lines(response):
                if self._closed:
                    return
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise self._refusal(event["object"])
                yield event["type"], event["object"]
        finally:
            with self._lock:
                self._response = None
            response.close()  # in the middle of a stream, so the connection can't go back to the pool

    def _refusal(self, status: Dict[str, Any]) -> ApiError:
        message = status.get("message", "the watch failed")
        if status.get("code") == 410:
            return _expired(message, self._where)
        return ApiError(
            message, self._where, status=status.get("code", 0), reason=status.get("reason", ""), retryable=True
        )


def _expired(message: str, where: str) -> Expired:
    return Expired(message, where, "List again.", status=410, reason="Expired", retryable=True)


def _lines(response: Any) -> Iterator[bytes]:
    """Whole lines as they arrive; a broken, silent or closed connection ends them, as the server's time-out does."""
    from urllib3.exceptions import HTTPError

    rest = b""
    chunks = response.stream(65536, decode_content=True)
    while True:
        try:
            chunk = next(chunks)
        except (StopIteration, HTTPError, OSError, ValueError):  # ValueError: of a socket closed meanwhile
            return  # what is left in rest is no whole event
        rest += chunk
        *lines, rest = rest.split(b"\n")
        yield from (line for line in lines if line)
