# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects read out of the mirror: what a tree lists, where a path leads, what a file holds. Each is hashed, and used only if it is the one
that its id names: whatever wrote the mirror, what is returned is what the commit's id stands for."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import MissingLibrary, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import FULL_COMMIT
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import MAX_PATH_BYTES, Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import error_text

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


class Objects:
    """The objects of one generation of the mirror."""

    def __init__(self, git: Command, folder: str, url: str, limits: Limits) -> None:
        self._git = git
        self.folder = folder
        self._url = url
        self._limits = limits
        self._repo: Any = None
        self._trees: Dict[str, List[Entry]] = {}

    def commit(self, oid: str) -> Tuple[str, bytes]:
        """A commit's own id and object, tags followed; "" where it is no commit, or is not to be read."""
        for _tag in range(TAGS):
            try:
                (kind, content), = self._plain([oid])
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
        if len(paths) == 1 and tree not in self._trees:
            self._read_folders_of(tree, paths[0])
        return [self._follow(tree, path) for path in paths]

    def _read_folders_of(self, tree: str, path: str) -> None:
        """The trees on the way to a path, by one command; from there on nothing but them is needed for a folder that is no link."""
        parts = [part for part in path.split("/") if part]
        names = [tree, *(f"{tree}:{'/'.join(parts[:depth])}" for depth in range(1, len(parts)))]
        wanted: Optional[str] = tree
        for part, (kind, content) in zip([*parts, ""], self._plain(names, missing_ends=True)):
            if kind != "tree" or wanted is None or object_id(content, len(wanted), "tree") != wanted:
                break  # a link is on the way, or nothing, which the walk finds out; a damaged tree is read again there
            self._trees[wanted] = list(_entries(content, len(tree)))
            wanted = next((entry.oid for entry in self._trees[wanted] if entry.path == part and entry.mode == TREE), None)
        if tree not in self._trees:
            raise Damaged(f"the tree {tree} can't be read")

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
        kind, content = self._read(oid, where)
        if kind != "blob" or len(content) != size:
            self._repo = None
            raise Damaged(f"the object {oid} of {where} can't be read")
        return content

    def _tree(self, oid: str) -> List[Entry]:
        if oid not in self._trees:
            if self._size(oid) > self._limits.output_bytes:
                raise Refused(f"a folder of the tree has more than {self._limits.files:,} files", self._url, "Set path to a smaller folder.")
            kind, content = self._read(oid, "the tree")
            if kind != "tree":
                raise Damaged(f"the tree {oid} can't be read")
            self._trees[oid] = list(_entries(content, len(oid)))
        return self._trees[oid]

    def _read(self, oid: str, where: str) -> Tuple[str, bytes]:
        """(kind, content) of an object, hashed."""
        if len(oid) == 64:
            return self._plain([oid])[0]
        stream = self._by_gitpython(lambda objects: objects.stream(bytes.fromhex(oid)))
        content = self._by_gitpython(lambda _objects: stream.read())
        kind = stream.type.decode()
        if object_id(content, len(oid), kind) != oid:
            self._repo = None
            raise Damaged(f"the object {oid} of {where} is damaged")
        return kind, bytes(content)

    def _size(self, oid: str) -> int:
        return self._sizes([oid])[oid]

    def _sizes(self, oids: Sequence[str]) -> Dict[str, int]:
        if not oids or len(oids[0]) == 40:
            return {oid: self._by_gitpython(lambda objects, oid=oid: objects.info(bytes.fromhex(oid)).size) for oid in dict.fromkeys(oids)}
        sizes: Dict[str, int] = {}
        # What is fed, and what is answered to it, must fit into a pipe each.
        for start in range(0, len(oids), 500):
            part = oids[start : start + 500]
            answer = self._git(self.folder, "cat-file", "--batch-check", feed="".join(f"{oid}\n" for oid in part).encode())
            lines = [line.split() for line in answer.out.decode("utf-8", "replace").splitlines()]
            if [line[0] for line in lines if len(line) == 3] != list(part):
                raise Damaged(error_text(answer.err) or "an object is missing")
            sizes.update((line[0], int(line[2])) for line in lines)
        return sizes

    def _by_gitpython(self, work: Any) -> Any:
        """The work's result on GitPython's object database, which asks one long-lived `git cat-file` for all of them."""
        try:
            import git
        except ImportError as error:
            raise MissingLibrary("GitPython>=3.1", error) from None
        try:
            if self._repo is None:
                self._repo = git.Repo(self.folder)
                # It hands on the caller's whole environment; what of that leads to other objects or settings is set to ours.
                self._repo.git.update_environment(**self._git.environment_over_the_callers(self.folder))
            return work(self._repo.odb)
        except (git.exc.GitError, git.exc.ODBError, OSError, ValueError) as error:
            self._repo = None  # what its process says next would answer another question
            raise Damaged(error_text(str(error)) or type(error).__name__) from None

    def _plain(self, names: Sequence[str], missing_ends: bool = False) -> List[Tuple[str, bytes]]:
        """(kind, content) of each object, by plain Git. One that is named by its id is hashed; the others are for the caller to hash."""
        answer = self._git(self.folder, "cat-file", "--batch", feed="".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
        found: List[Tuple[str, bytes]] = []
        rest = memoryview(answer.out)
        for name in names:
            end = answer.out.find(b"\n", len(answer.out) - len(rest))
            header = bytes(rest[: max(end - (len(answer.out) - len(rest)), 0)]).split()
            if len(header) != 3 or not header[2].isdigit() or not FULL_COMMIT.match(header[0].decode("ascii", "replace")):
                if missing_ends and found:
                    break
                raise Damaged(error_text(answer.err) or f"the object {name} can't be read")
            start = end + 1 - (len(answer.out) - len(rest))
            content = bytes(rest[start : start + int(header[2])])
            kind = header[1].decode("ascii", "replace")
            if FULL_COMMIT.match(name) and object_id(content, len(name), kind) != name:
                raise Damaged(f"the object {name} is damaged")
            found.append((kind, content))
            rest = rest[start + int(header[2]) + 1 :]
        return found


TREE, LINK, SUBMODULE = "040000", "120000", "160000"


def _entries(data: bytes, digits: int) -> Iterator[Entry]:
    """The entries of a tree object, as they are stored."""
    place, length = 0, digits // 2
    while place < len(data):
        space = data.find(b" ", place)
        end = data.find(b"\0", space)
        oid = data[end + 1 : end + 1 + length]
        if space < 0 or end < 0 or len(oid) != length or not data[place:space].isdigit():
            raise Damaged("a tree is malformed")
        name = data[space + 1 : end].decode("utf-8", "surrogateescape")
        yield Entry(name, _mode(data[place:space]), oid.hex(), 0)
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
