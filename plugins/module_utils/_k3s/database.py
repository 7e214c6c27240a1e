# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members that etcd's database on disk names, for a server whose etcd gives no answer.

etcd keeps them as JSON in the bucket `members` of a bbolt file. A host has no program that reads one, and a few dozen lines do, without opening
it for writing as bbolt itself would. The file may be written meanwhile: bbolt never overwrites a page that its last state needs, and what makes
no sense is told as unreadable.

The layout is https://github.com/etcd-io/bbolt/blob/main/page.go and db.go: pages of one size, the first two of which each describe a state.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Iterator, List, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Member

BRANCH, LEAF = 1, 2
BUCKET = 1  # an entry that is a bucket of its own
HEADER = struct.Struct("<QHHI")  # id, kind, count of entries, pages that follow as part of it
META = struct.Struct("<IIIIQQQQQQ")  # magic, version, size of a page, flags, root page, its sequence, freelist, pages, transaction, checksum
MAGIC = 0xED0CDAED


def path_of(data_dir: str) -> str:
    return os.path.join(data_dir, "server/db/etcd/member/snap/db")


def recorded_members(path: str) -> List[Member]:
    """Raises Failure when the file cannot be read."""
    try:
        with open(path, "rb") as stream:
            members = [_member(value) for value in _members(_Pages(stream.fileno()))]
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", path) from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise Failure("is not a database of etcd, or is damaged", path) from error
    if not members:
        raise Failure("names no member of etcd", path)
    return members


def _member(value: bytes) -> Member:
    told = json.loads(value.decode("utf-8"))
    return Member(int(told["id"]), str(told.get("name") or ""), tuple(map(str, told.get("peerURLs") or ())), tuple(map(str, told.get("clientURLs") or ())),
                  bool(told.get("isLearner")))


class _Pages:
    """The file in its last whole state."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.read: Set[int] = set()
        states = [state for state in (self._state(0), *(self._state(size) for size in (4096, 8192, 16384, 32768, 65536))) if state]
        if not states:
            raise ValueError("no state")
        _transaction, self.size, self.root = max(states)

    def _state(self, offset: int) -> Tuple[int, ...]:
        data = os.pread(self.file, META.size, offset + HEADER.size)
        if len(data) < META.size:
            return ()
        magic, _version, size, _flags, root, _sequence, _freelist, _pages, transaction, checksum = META.unpack(data)
        return (transaction, size, root) if magic == MAGIC and checksum == _fnv(data[:-8]) else ()

    def page(self, number: int) -> bytes:
        found, _kind, _count, more = HEADER.unpack(os.pread(self.file, HEADER.size, number * self.size))
        if found != number or number in self.read or (number + 1 + more) * self.size > os.fstat(self.file).st_size:
            raise ValueError("not the page that was asked for, or one that leads to itself")
        self.read.add(number)
        return os.pread(self.file, (1 + more) * self.size, number * self.size)


def _fnv(data: bytes) -> int:
    """FNV-1a of 64 bits."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found


def _members(pages: _Pages) -> Iterator[bytes]:
    for flags, name, bucket in _leaves(pages, pages.page(pages.root)):
        if flags & BUCKET and name == b"members":
            root, _sequence = struct.unpack_from("<QQ", bucket)
            for _flags, _key, value in _leaves(pages, pages.page(root) if root else bucket[16:]):  # a small bucket stands inline
                yield value


def _leaves(pages: _Pages, page: bytes) -> Iterator[Tuple[int, bytes, bytes]]:
    _number, kind, count, _more = HEADER.unpack_from(page)
    if kind not in (BRANCH, LEAF):
        raise ValueError("no page of keys")
    for place in range(HEADER.size, HEADER.size + 16 * count, 16):
        if kind == BRANCH:
            _position, _length, child = struct.unpack_from("<IIQ", page, place)
            yield from _leaves(pages, pages.page(child))
        else:
            flags, position, key, value = struct.unpack_from("<IIII", page, place)
            begin = place + position
            yield flags, page[begin:begin + key], page[begin + key:begin + key + value]
