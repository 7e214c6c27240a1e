# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects read out of the mirror: what a tree lists, where a path leads, what a file holds. Each is hashed, and used only if it is the one
that its id names: whatever wrote the mirror, what is returned is what the commit's id stands for."""

from __future__ import annotations

import hashlib
import os
import select
import time
import zlib
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import FULL_COMMIT
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import MAX_PATH_BYTES, Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import error_text
from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole

MAX_LINKS = 40  # symbolic links on one way, as Git and the kernel have it
TAGS = 10  # tags of tags


class Entry(NamedTuple):
    """One file of a tree."""

    path: str  # relative to the tree
    mode: str  # "100644" or "100755"
    oid: str
    size: int


class Found(NamedTuple):
    """What is at a path."""

    kind: str  # tree or blob; or why there is neither, in Git's words: missing, symlink (leads out), loop, dangling, notdir, submodule
    oid: str = ""
    size: int = 0


class Damaged(Exception):
    """The mirror can't be used, for a reason that isn't the server's: it is made anew."""


class _Talk:
    """One long-lived `git cat-file` that is asked for one object after another, each within the time that one command may take."""

    def __init__(self, git: Command, folder: str, timeout: float) -> None:
        self._git, self._timeout = git, timeout
        self._running = git.start(folder, "cat-file", "--batch")
        self._rest = b""

    def read(self, oid: str, limit: int) -> Tuple[str, int, bytes]:
        """(kind, size, content) of an object; without the content, and with the talk at its end, where that has more bytes than the limit."""
        deadline = time.monotonic() + self._timeout
        stdin = self._running.process.stdin
        try:
            if stdin is None or stdin.closed:
                raise Damaged("git cat-file has ended")
            os.write(stdin.fileno(), f"{oid}\n".encode())
            while b"\n" not in self._rest:
                self._rest += self._more(deadline)
            line, _newline, self._rest = self._rest.partition(b"\n")
            header = line.split()
            if len(header) != 3 or not header[2].isdigit():
                raise Damaged(error_text(line.decode("utf-8", "replace")) or f"the object {oid} can't be read")
            kind, size = header[1].decode("ascii", "replace"), int(header[2])
            if size > limit:
                self.end()
                return kind, size, b""
            parts = [self._rest]
            missing = size + 1 - len(self._rest)
            while missing > 0:
                parts.append(self._more(deadline))
                missing -= len(parts[-1])
            whole = b"".join(parts)
            self._rest = whole[size + 1 :]
            return kind, size, whole[:size]
        except (OSError, Damaged) as error:
            self.end()
            raise error if isinstance(error, Damaged) else Damaged(str(error)) from None

    def _more(self, deadline: float) -> bytes:
        stdout = self._running.process.stdout
        if stdout is None or not select.select([stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
            self.end()
            raise self._git.too_late()
        chunk = os.read(stdout.fileno(), 1 << 18)
        if not chunk:
            stderr = self._running.process.stderr
            raise Damaged(error_text(stderr.read(1 << 16).decode("utf-8", "replace")) if stderr else "" or "git cat-file has ended")
        return chunk

    @property
    def ended(self) -> bool:
        stdin = self._running.process.stdin
        return stdin is None or stdin.closed

    def end(self) -> None:
        self._running.end()


class Objects:
    """The objects of one generation of the mirror."""

    def __init__(self, git: Command, folder: str, url: str, limits: Limits, timeout: float) -> None:
        self._git = git
        self.folder = folder
        self._url = url
        self._limits = limits
        self._timeout = timeout
        self._talk: Optional[_Talk] = None
        self._trees: Dict[str, List[Entry]] = {}
        self._known_sizes: Dict[str, int] = {}
        self._last: Tuple[str, bytes] = ("", b"")  # the file whose size was asked for last

    def close(self) -> None:
        if self._talk is not None:
            self._talk.end()
            self._talk = None

    def __del__(self) -> None:
        self.close()

    def commit(self, oid: str) -> Tuple[str, bytes]:
        """A commit's own id and object, tags followed; "" where it is no commit, or is not to be read."""
        for _tag in range(TAGS):
            try:
                kind, content = self._read(oid, self._limits.output_bytes, "the history")
            except Damaged:
                return "", b""
            if kind == "commit":
                return oid, content
            header = dict(line.partition(" ")[::2] for line in content.partition(b"\n\n")[0].decode("utf-8", "replace").splitlines())
            oid = header.get("object", "") if kind == "tag" else ""
            if not FULL_COMMIT.match(oid):
                break
        return "", b""

    def follow(self, tree: str, paths: Sequence[str]) -> List[Found]:
        """What is at each path, links followed inside the tree only, as Git itself works it out."""
        return [self._follow(tree, path) for path in paths]

    def _follow(self, tree: str, path: str) -> Found:
        folders = [tree]  # from the root to where we are
        todo = [part for part in path.split("/") if part][::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(folders) == 1:
                    return Found("symlink")
                folders.pop()
                continue
            entry = next((one for one in self._tree(folders[-1]) if one.path == part), None)
            if entry is None:
                return Found("dangling" if links else "missing")
            if entry.mode == TREE:
                folders.append(entry.oid)
            elif entry.mode == SUBMODULE:
                return Found("submodule")
            elif entry.mode == LINK:
                links += 1
                if links > MAX_LINKS:
                    return Found("loop")
                size = self._size(entry.oid)
                if size > MAX_PATH_BYTES:
                    return Found("dangling")
                target = self.content(entry.oid, size, path).decode("utf-8", "surrogateescape")
                if target.startswith("/"):
                    return Found("symlink")
                if not target:
                    return Found("dangling")
                todo += target.split("/")[::-1]
                if len(todo) > MAX_PATH_BYTES:
                    return Found("loop")
            elif [rest for rest in todo if rest not in ("", ".")]:
                return Found("notdir")
            else:
                return Found("blob", entry.oid, self._size(entry.oid))
        return Found("tree", folders[-1])

    def listing(self, tree: str, recurse: bool) -> List[Entry]:
        """All the files of a tree, or its own entries, as they are stored: links and submodules too."""
        found: List[Entry] = []
        todo = [iter([Entry("", TREE, tree, 0)])] if recurse else [iter([])]
        prefixes = [""]
        if not recurse:
            found = list(self._tree(tree))
        seen = 0
        while recurse and todo:
            entry = next(todo[-1], None)
            if entry is None:
                todo.pop()
                prefixes.pop()
                continue
            path = prefixes[-1] + entry.path
            seen += 1
            if seen > self._limits.files or len(path.encode("utf-8", "surrogateescape")) > 2 * MAX_PATH_BYTES:
                raise Refused(f"the tree has more than {self._limits.files:,} files", self._url, "Set path to a smaller folder.")
            if entry.mode == TREE:
                todo.append(iter(self._tree(entry.oid)))
                prefixes.append(f"{path}/" if path else "")
            else:
                found.append(entry._replace(path=path))
        if len(found) > self._limits.files:
            raise Refused(f"the tree has more than {self._limits.files:,} files", self._url, "Set path to a smaller folder.")
        sizes = self._sizes([entry.oid for entry in found if entry.mode not in (TREE, SUBMODULE)])
        return [entry._replace(size=sizes.get(entry.oid, 0)) for entry in found]

    def content(self, oid: str, size: int, where: str) -> bytes:
        if self._last[0] == oid and len(self._last[1]) == size:
            return self._last[1]
        kind, content = self._read(oid, size, where)
        if kind != "blob" or len(content) != size:
            raise Damaged(f"the object {oid} of {where} can't be read")
        return content

    def regular(self, tree: str, path: str) -> bool:
        """Whether there is a regular file at this very path, with no link on the way."""
        *folders, name = path.split("/")
        for folder in folders:
            entry = next((one for one in self._tree(tree) if one.path == folder), None)
            if entry is None or entry.mode != TREE:
                return False
            tree = entry.oid
        return any(one.path == name and one.mode in FILES for one in self._tree(tree))

    def write(self, kind: str, content: bytes, digits: int) -> str:
        """Write an object; its id. A killed run leaves it whole or not at all, and nothing refers to it yet. One that a loss of power has
        damaged does not have the hash that it is read by, and a damaged mirror is made anew."""
        oid = object_id(content, digits, kind)
        path = os.path.join(self.folder, "objects", oid[:2], oid[2:])
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_whole(path, zlib.compress(b"%s %d\0" % (kind.encode(), len(content)) + content, 1), 0o444, lasting=False)
        return oid

    def write_tree(self, tree: str, blobs: Mapping[str, str], where: str = "") -> str:
        """Write a tree with other blobs in the place of its files, every other byte as it is stored; its id."""
        wanted: Dict[str, str] = {}
        below: Dict[str, Dict[str, str]] = {}
        for path, oid in blobs.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = oid
            else:
                wanted[name] = oid
        content = bytearray(self._read(tree, self._limits.output_bytes, "the tree")[1])
        length = len(tree) // 2
        for place, mode, name in _stored(bytes(content), len(tree)):
            if name in below and _mode(mode) == TREE:
                wanted[name] = self.write_tree(content[place : place + length].hex(), below.pop(name), f"{where}{name}/")
            elif not (name in wanted and _mode(mode) in FILES):
                continue
            content[place : place + length] = bytes.fromhex(wanted.pop(name))
        for name in [*wanted, *below]:
            raise Refused("the file is not there, or is none", f"{where}{name}")
        return self.write("tree", bytes(content), len(tree))

    def _tree(self, oid: str) -> List[Entry]:
        if oid not in self._trees:
            kind, content = self._read(oid, self._limits.output_bytes, "the tree")
            if kind != "tree":
                raise Damaged(f"the tree {oid} can't be read")
            self._trees[oid] = list(_entries(content, len(oid)))
        return self._trees[oid]

    def _ask(self, oid: str, limit: int) -> Tuple[str, int, bytes]:
        if self._talk is None or self._talk.ended:
            self._talk = _Talk(self._git, self.folder, self._timeout)
        return self._talk.read(oid, limit)

    def _read(self, oid: str, limit: int, where: str) -> Tuple[str, bytes]:
        """(kind, content) of an object, hashed."""
        kind, size, content = self._ask(oid, limit)
        if size > limit and kind == "tree":
            raise Refused(f"a folder of the tree has more than {self._limits.files:,} files", self._url, "Set path to a smaller folder.")
        if size > limit or object_id(content, len(oid), kind) != oid:
            raise Damaged(f"the object {oid} of {where} is damaged")
        return kind, content

    def _size(self, oid: str) -> int:
        """The size of one file: it is read, as whoever asks for it reads it next, rather than asked of a Git of its own."""
        if oid not in self._known_sizes:
            kind, size, content = self._ask(oid, self._limits.file_bytes)
            if kind != "blob" or size <= self._limits.file_bytes and object_id(content, len(oid)) != oid:
                raise Damaged(f"the object {oid} is damaged")
            self._known_sizes[oid] = size
            if size <= self._limits.file_bytes:
                self._last = (oid, content)
        return self._known_sizes[oid]

    def _sizes(self, oids: Sequence[str]) -> Dict[str, int]:
        """The size of each, asked of Git together for those that are not known yet."""
        unknown = [oid for oid in dict.fromkeys(oids) if oid not in self._known_sizes]
        if unknown:
            answer = self._git(self.folder, "cat-file", "--batch-check", feed="".join(f"{oid}\n" for oid in unknown).encode())
            lines = [line.split() for line in answer.out.decode("utf-8", "replace").splitlines()]
            if [line[0] for line in lines if len(line) == 3] != unknown:
                raise Damaged(error_text(answer.err) or "an object is missing")
            self._known_sizes.update((line[0], int(line[2])) for line in lines)
        return self._known_sizes


TREE, LINK, SUBMODULE = "040000", "120000", "160000"
FILES = ("100644", "100755")


def _entries(data: bytes, digits: int) -> Iterator[Entry]:
    """The entries of a tree object, in the order in which they are stored."""
    length = digits // 2
    for place, mode, name in _stored(data, digits):
        yield Entry(name, _mode(mode), data[place : place + length].hex(), 0)


def _stored(data: bytes, digits: int) -> Iterator[Tuple[int, bytes, str]]:
    """Of each entry of a tree object where its id begins, its mode and its name."""
    place, length = 0, digits // 2
    while place < len(data):
        space = data.find(b" ", place)
        end = data.find(b"\0", space)
        if space < 0 or end < 0 or end + 1 + length > len(data) or not data[place:space].isdigit():
            raise Damaged("a tree is malformed")
        yield end + 1, data[place:space], data[space + 1 : end].decode("utf-8", "surrogateescape")
        place = end + 1 + length


def _mode(text: bytes) -> str:
    """As Git itself reads it: old trees have group-writable files, and what is nothing else is a submodule."""
    try:
        mode = int(text, 8)
    except ValueError:
        raise Damaged("a tree is malformed") from None
    kind = mode >> 12
    if kind == 0o10:
        return "100755" if mode & 0o100 else "100644"
    return {0o4: TREE, 0o12: LINK}.get(kind, SUBMODULE)


def object_id(content: bytes, digits: int, kind: str = "blob") -> str:
    digest = hashlib.sha256() if digits == 64 else hashlib.sha1(usedforsecurity=False)  # usedforsecurity: Git's ids, on a FIPS machine too
    digest.update(b"%s %d\0" % (kind.encode(), len(content)))
    digest.update(content)
    return digest.hexdigest()
