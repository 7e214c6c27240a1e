# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server answers, in bounds and of the types that it must have: the one place where bytes of the network become values.

A broken or hostile server, aggregated API or proxy can end a request with one of the errors below, and nothing else: it fills no memory,
holds nobody up for ever, and no wrong type of its goes further than here.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
import zlib
from http.client import HTTPResponse
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import Malformed, TooMuch

Body = Dict[str, Any]


class Bounds(NamedTuple):
    """10,000 Deployments of 6 KB, with what the API server adds to each, are 60 MB and 3 million nodes."""

    answer_bytes: int = 128 << 20  # of one answer, and of all pages of one LIST, unpacked
    nodes: int = 6_000_000  # values in it: each takes 60 bytes of memory and more, however short it is written
    memory: int = 360 << 20  # bytes that all of it takes as Python's text and values; a run stays below 400 MB
    depth: int = 250  # the deepest definitions of the field have 60
    pages: int = 200  # we ask for everything at once; a server that sends pages all the same sends 500 objects in each
    refusal_bytes: int = 1 << 20  # of an answer that is no success: its message is read, the rest is not
    event_bytes: int = 16 << 20  # of one event of a watch; etcd takes objects of 1.5 MB
    pause: float = 15.0  # seconds, from its first byte on, in which an answer may come as slowly as it likes
    pace: int = 16 << 10  # bytes per second, beyond that


class Budget:
    """What is left of the bounds for several answers to one question."""

    def __init__(self, bounds: Bounds) -> None:
        self.bytes, self.nodes, self.depth, self.memory = bounds.answer_bytes, bounds.nodes, bounds.depth, bounds.memory

    def take(self, data: bytes) -> None:
        """Count the answer's values before Python makes them; refuse one that is nested too deeply for whoever walks through it."""
        brackets = data.translate(_ONE_PAIR, _NO_BRACKETS)
        nodes = data.count(b",") + len(brackets)
        self.bytes -= len(data)
        self.nodes -= nodes
        self.memory -= len(data) + _VALUE * nodes + _wide(data)
        if self.bytes < 0 or self.nodes < 0 or self.memory < len(data):  # the text that is read is still there
            raise TooMuch("the answer has more values than a reconcile could need", hint=_TOO_MUCH)
        if _deeper(brackets, self.depth) and _really_deeper(data, self.depth):
            raise TooMuch(f"the answer is nested more than {self.depth} levels deep", hint="Look for the object that is, and remove it.")


_VALUE = 72  # bytes of memory that a value takes beside its text, measured with mappings of one key
_WIDE = re.compile(rb"\\u(?!00)")
_PAIR = re.compile(rb"\\u[dD][89abAB]")


def _wide(data: bytes) -> int:
    """The bytes of memory that texts take which have a sign beyond Latin-1 in them: Python then keeps each sign of them in 2 or 4 bytes.
    data: with all such signs escaped."""
    found, total, place = _WIDE.search(data), 0, 0
    if found is None:
        return 0
    width = 4 if _PAIR.search(data) else 2
    while found is not None:
        begin, end = _quote(data, found.start(), place, back=True), _quote(data, found.end(), place, back=False)
        total += width * (end - begin)
        place = end
        found = _WIDE.search(data, place)
    return total


def _quote(data: bytes, place: int, first: int, back: bool) -> int:
    """Where the text around this place begins or ends."""
    while True:
        place = data.rfind(b'"', first, place) if back else data.find(b'"', place)
        if place < 0:
            return first if back else len(data)
        if not _escaped(data, place):
            return place
        place += 0 if back else 1


def _escaped(data: bytes, place: int) -> bool:
    """Whether an odd number of backslashes stands in front."""
    count = 0
    while place > count and data[place - count - 1] == 0x5C:
        count += 1
    return count % 2 == 1


def _narrow(data: bytes, memory: int) -> bytes:
    """The same JSON without a sign beyond Latin-1: one such sign anywhere makes Python keep the whole text at 2 or 4 bytes a sign."""
    if data.isascii() or not re.search(rb"[\xc4-\xff]", data):
        return data
    if 3 * len(data) > memory:  # what writing it anew takes
        raise TooMuch("the answer has more values than a reconcile could need", hint=_TOO_MUCH)

    def escape(found: Any) -> bytes:
        if _escaped(data, found.start()):
            raise ValueError("a backslash before a sign that has no escape")
        return json.dumps(found.group().decode("utf-8"))[1:-1].encode()

    return re.sub(rb"[\x80-\xff]+", escape, data)


_TOO_MUCH = "Give the reconcile fewer objects, or look for what fills the cluster."
_ONE_PAIR = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _deeper(brackets: bytes, depth: int) -> bool:
    """Whether brackets may be nested deeper: pairs are taken away from the inside, a level each time. Brackets in texts count here, too."""
    for level in range(depth):
        rest = brackets.replace(b"[]", b"")
        if len(rest) == len(brackets):
            return level + rest.count(b"[") > depth
        brackets = rest
    return bool(brackets)


def _really_deeper(data: bytes, depth: int) -> bool:
    level = 0
    for found in re.finditer(rb'"(?:[^"\\]|\\.)*"|[][{}]', data, re.DOTALL):
        sign = found.group()
        if sign in (b"[", b"{"):
            level += 1
            if level > depth:
                return True
        elif sign in (b"]", b"}"):
            level -= 1
    return False


def parse(data: bytes, budget: Budget) -> Any:
    """The JSON value; ValueError where it is none."""
    data = _narrow(data, budget.memory)
    budget.take(data)
    text = data.decode("utf-8")
    del data  # one copy less while the values are made
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise TooMuch("the answer is nested too deeply") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def read(response: Any, limit: int, cut: bool = False) -> bytes:
    """The whole body, unpacked; one that is larger is refused, or with `cut` read so far."""
    parts: List[bytes] = []
    left = limit
    for part in unpacked(response):
        left -= len(part)
        parts.append(part[: len(part) + min(left, 0)])
        if left < 0:
            response.close()  # in the middle of the answer, so the connection can't go back to the pool
            if cut:
                break
            raise TooMuch(f"the answer has more than {limit >> 20} MiB", hint=_TOO_MUCH)
    else:
        response.release_conn()
    return b"".join(parts)


def unpacked(response: Any, size: int = 1 << 16) -> Iterator[bytes]:
    """The body's parts as they come, unpacked a little at a time: what is a few KiB on the wire may be gigabytes."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise Malformed(f"the answer is packed by {encoding!r}, which was not asked for")
    decoder = zlib.decompressobj(31) if encoding == "gzip" else None
    for raw in response.stream(size, decode_content=False):
        if decoder is None:
            yield raw
            continue
        try:
            while raw:
                part = decoder.decompress(raw, 1 << 20)
                if part:
                    yield part
                raw = decoder.unconsumed_tail
        except zlib.error:
            raise Malformed("the answer cannot be unpacked") from None
    if decoder is not None and not decoder.eof:
        raise ValueError("the answer was cut short")


# ---- the pace: http.client waits for each few bytes as long as for the first ones


class Paced(io.RawIOBase):
    """The bytes of one answer. Too slow a server is one that does not answer."""

    def __init__(self, raw: Any, bounds: Bounds) -> None:
        super().__init__()
        self.raw, self._bounds, self._began, self._count, self.paced = raw, bounds, 0.0, 0, True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        count: Optional[int] = self.raw.readinto(buffer)
        now = time.monotonic()
        self._began = self._began or now
        self._count += count or 0
        if self.paced and now - self._began > self._bounds.pause + self._count / self._bounds.pace:
            raise TooSlow(f"only {self._count:,} bytes came in {now - self._began:.0f} s")
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class TooSlow(OSError):
    """The server sends, but so little that the answer would take for ever."""


class Watching(threading.local):
    """Whether this thread opens a watch, whose events may be hours apart."""

    active = False


watching = Watching()


def paced_pools(classes: Dict[str, Any], bounds: Bounds) -> Dict[str, Any]:
    """urllib3's classes of pools, whose connections read at a pace, and send a request's head and body in one piece.

    In two pieces each request takes a second TLS record, system call and wake-up of the server: 401 writes take 5 % longer.
    """

    class Response(HTTPResponse):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._paced = Paced(self.fp.detach(), bounds)
            self.fp = io.BufferedReader(self._paced)

        def begin(self) -> None:
            super().begin()
            self._paced.paced = not watching.active

    def paced(pool: Any) -> Any:
        class Connection(pool.ConnectionCls):
            response_class = Response
            _head: Optional[bytes] = None  # b"" until the head is there, then the head until the body is

            def request(self, method: str, url: str, body: Any = None, **options: Any) -> None:
                self._head = b"" if body else None
                super().request(method, url, body=body, **options)

            def send(self, data: Any) -> None:
                if self._head == b"":
                    self._head = data
                else:
                    head, self._head = self._head or b"", None
                    super().send(head + data)

        return type("PacedPool", (pool,), {"ConnectionCls": Connection})

    return {scheme: paced(pool) for scheme, pool in classes.items()}


# ---- types


def mapping(value: Any, what: str) -> Body:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is {_kind(value)}, not a mapping")
    return value


def mappings(value: Any, what: str) -> List[Body]:
    """A list of mappings; null is how Go writes an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{what} is {_kind(value)}, not a list")
    for item in value:
        if not isinstance(item, dict):
            raise Malformed(f"{what} has {_kind(item)} in it, not a mapping")
    return value


def text(value: Any, what: str) -> str:
    """A text; null and nothing are an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{what} is {_kind(value)}, not a text")
    return value


def items_of(page: Body) -> Tuple[List[Body], str, str]:
    """(items, resourceVersion, continue) of a LIST. One without items is no empty list: what it leaves out would look deleted."""
    if "items" not in page:
        raise Malformed(f"the answer to a LIST is {text(page.get('kind'), 'kind') or 'something'} without items")
    metadata = mapping(page.get("metadata") or {}, "metadata")
    items = mappings(page["items"], "items")
    for item in items:
        check_metadata(item)
    return items, text(metadata.get("resourceVersion"), "resourceVersion"), text(metadata.get("continue"), "continue")


_TEXTS = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "creationTimestamp")


def check_metadata(obj: Body) -> Body:
    """An object as the API server stores it: whoever looks into its metadata finds what the API says is there."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise Malformed(f"an object's metadata is {_kind(metadata)}, not a mapping")
    for key in _TEXTS:
        value = metadata.get(key)
        if value is not None and not isinstance(value, str):
            raise Malformed(f"an object's metadata.{key} is {_kind(value)}, not a text")
    name = metadata.get("name")
    if not name:
        raise Malformed("an object has no name")
    generation = metadata.get("generation")
    if generation is not None and (not isinstance(generation, int) or isinstance(generation, bool)):
        raise Malformed(f"metadata.generation of {name!r} is {_kind(generation)}, not a number")
    for key in ("labels", "annotations"):
        value = metadata.get(key)
        if value is not None:
            for label in mapping(value, f"metadata.{key} of {name!r}").values():
                if not isinstance(label, str):
                    raise Malformed(f"metadata.{key} of {name!r} has {_kind(label)} in it, not a text")
    for key in ("ownerReferences", "managedFields"):
        for entry in mappings(metadata.get(key), f"metadata.{key} of {name!r}"):
            for word in ("manager", "operation", "apiVersion", "subresource", "kind", "name", "uid"):
                if word in entry:
                    text(entry[word], f"{word} in metadata.{key} of {name!r}")
            if "fieldsV1" in entry:
                mapping(entry["fieldsV1"], f"fieldsV1 in metadata.managedFields of {name!r}")
    finalizers = metadata.get("finalizers")
    if finalizers is not None and not (isinstance(finalizers, list) and all(isinstance(each, str) for each in finalizers)):
        raise Malformed(f"metadata.finalizers of {name!r} are not texts")
    return obj


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "something else")


_KINDS = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
