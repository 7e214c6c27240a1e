# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One open watch: an iterator of events that another thread may close."""

from __future__ import annotations

import socket
import threading
from typing import Any, Callable, Dict, Iterator, List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import answers
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import ApiError, Expired, Malformed, TooMuch
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line

Event = Tuple[str, Dict[str, Any]]


class Watch:
    """(type, object) of each event, BOOKMARKs included. Ends when the server's time is up, the connection breaks
    or somebody closes it; raises Expired when the server no longer knows the version to go on from."""

    def __init__(self, opened: Callable[[], Any], where: str, bounds: answers.Bounds = answers.Bounds()) -> None:
        self._opened, self._where, self._bounds = opened, where, bounds
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
            for line in _lines(response, self._bounds.event_bytes):
                if self._closed:
                    return
                kind, obj = self._event(line)
                if kind == "ERROR":
                    raise self._refusal(obj)
                yield kind, obj
        finally:
            with self._lock:
                self._response = None
            response.close()  # in the middle of a stream, so the connection can't go back to the pool

    def _event(self, line: bytes) -> Event:
        try:
            event = answers.mapping(answers.parse(line, answers.Budget(self._bounds)), "an event of a watch")
            obj = answers.mapping(event.get("object"), "the object of a watch's event")
            kind = answers.text(event.get("type"), "the type of a watch's event")
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                answers.check_metadata(obj)
            elif kind == "BOOKMARK":
                answers.text(answers.mapping(obj.get("metadata") or {}, "metadata").get("resourceVersion"), "resourceVersion")
            return kind, obj
        except ValueError:
            raise Malformed("an event of a watch is not JSON", self._where) from None
        except (Malformed, TooMuch) as error:
            error.where = self._where
            raise

    def _refusal(self, status: Dict[str, Any]) -> ApiError:
        message = one_line(str(status.get("message") or "the watch failed"), 1000)
        code, reason = status.get("code"), status.get("reason")
        if code == 410:
            return _expired(message, self._where)
        known = code if isinstance(code, int) and not isinstance(code, bool) else 0
        return ApiError(message, self._where, status=known, reason=reason if isinstance(reason, str) else "", retryable=True)


def _expired(message: str, where: str) -> Expired:
    return Expired(message, where, "List again.", status=410, reason="Expired", retryable=True)


def _lines(response: Any, limit: int) -> Iterator[bytes]:
    """Whole lines as they arrive; a broken, silent or closed connection ends them, as the server's time-out does."""
    from urllib3.exceptions import HTTPError

    rest: List[bytes] = []  # of a line whose end has not come yet
    size = 0
    chunks = answers.unpacked(response)
    while True:
        try:
            chunk = next(chunks)
        except (StopIteration, HTTPError, OSError, ValueError):  # ValueError: of a socket closed meanwhile
            return  # what is left in rest is no whole event
        first, *others = chunk.split(b"\n")
        rest.append(first)
        size += len(first)
        if size > limit:
            raise TooMuch(f"an event of a watch has more than {limit >> 20} MiB")
        if others:
            yield from (line for line in (b"".join(rest), *others[:-1]) if line)
            rest, size = [others[-1]], len(others[-1])
