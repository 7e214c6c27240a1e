# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of Kubernetes' objects in etcd, read without their schema."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import protobuf


def message(*fields):
    """A message of (number, value): an int is a varint, bytes are themselves."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_a_nodes_version_is_found_by_its_path():
    node = message((1, b"metadata"), (3, message((7, message((6, b"containerd://2"), (7, b"v1.30.5+k3s1"))))))
    stored = protobuf.MAGIC + message((1, b"types"), (2, node))
    assert protobuf.find(protobuf.object_of(stored), 3, 7, 7) == [b"v1.30.5+k3s1"]


def test_large_numbers_and_fixed_fields_are_read():
    data = message((1, 1_790_000_000)) + varint(2 << 3 | 1) + bytes(8) + varint(3 << 3 | 5) + bytes(4) + message((4, b"end"))
    assert list(protobuf.fields(data)) == [(1, 1_790_000_000), (2, bytes(8)), (3, bytes(4)), (4, b"end")]


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x0b", b"\xff" * 12, b"\x08"])
def test_bytes_that_are_no_message_are_a_value_error(data):
    with pytest.raises(ValueError):
        list(protobuf.fields(data))


@pytest.mark.parametrize("value", [b'{"kind":"Node"}', b"k8s:enc:aescbc:v1:key:secret", b"", protobuf.MAGIC])
def test_what_is_encrypted_or_json_is_no_object(value):
    with pytest.raises(ValueError):
        protobuf.object_of(value)
