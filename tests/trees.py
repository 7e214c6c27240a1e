# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of a commit as a value, for tests that need no Git."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar, Set, Dict, Iterable, Iterator, List, NamedTuple, Tuple, Union


class Entry(NamedTuple):
    path: str
    mode: str
    oid: str
    size: int


@dataclass
class MemoryTree:
    """What module_utils/_git.py's Tree is to a renderer; `reads` tells what was read of it."""

    content: Dict[str, Union[str, bytes]]
    path: str = "."
    reads: List[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return _digest(repr(sorted((path, self._bytes(path)) for path in self.content)).encode())

    refused: ClassVar[Dict[str, Exception]] = {}
    submodules: ClassVar[Set[str]] = set()

    def entries(self) -> Iterator[Entry]:
        self.reads.append("the listing")
        return (Entry(path, "100644", _digest(self._bytes(path)), len(self._bytes(path))) for path in sorted(self.content))

    def read_many(self, paths: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
        for path in paths:
            self.reads.append(path)
            yield path, self._bytes(path)

    def below(self, path: str) -> MemoryTree:
        """The tree of one of its folders."""
        prefix = path + "/"
        return MemoryTree({name[len(prefix):]: data for name, data in self.content.items() if name.startswith(prefix)}, path)

    def _bytes(self, path: str) -> bytes:
        data = self.content[path]
        return data.encode() if isinstance(data, str) else data


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
