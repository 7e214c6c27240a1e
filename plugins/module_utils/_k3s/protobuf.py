# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read single fields of what Kubernetes keeps in etcd: objects in protobuf, behind a magic number and an envelope."""

from __future__ import annotations

from typing import Any, Iterator, List, Tuple

MAGIC = b"k8s\x00"  # apimachinery, runtime/serializer/protobuf: the envelope is runtime.Unknown, whose field 2 is the object


def fields(data: bytes) -> Iterator[Tuple[int, Any]]:
    """Each field of one message: its number, and an int or bytes. ValueError where the bytes are no message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"field {number} ends beyond the message")
        yield number, data[at:at + size]
        at += size


def find(data: bytes, *path: int) -> List[Any]:
    """All values at a path of field numbers: find(node, 3, 7, 7) is status.nodeInfo.kubeletVersion."""
    values: List[Any] = [data]
    for number in path:
        values = [value for message in values for found, value in fields(message) if found == number]
    return values


def object_of(value: bytes) -> bytes:
    """The object inside of a value of etcd. ValueError when it is none, such as one encrypted at rest or kept as JSON."""
    if not value.startswith(MAGIC):
        raise ValueError("no Kubernetes object in protobuf")
    found = find(value[len(MAGIC):], 2)
    if not found:
        raise ValueError("an envelope without an object")
    return found[0]


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"no number at byte {at}")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
