# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One folder at one commit: what it lists and holds."""

from __future__ import annotations

from typing import AbstractSet, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import CONTROL, checked_path, did_you_mean, one_line
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import MAX_PATH_BYTES
from ansible_collections.nordic.gitops.plugins.module_utils._git.objects import Entry

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._git.mirror import Mirror


class Tree:
    """One folder at one commit. Its id is the id of that folder: same id, same content, whatever the commit."""

    def __init__(self, mirror: Mirror, commit: Commit, path: str, oid: str) -> None:
        self._mirror = mirror
        self._limits = mirror.limits
        self.commit = commit
        self.path = path or "."
        self.id = oid
        self._entries: Optional[Dict[str, Entry]] = None
        self._refused: Dict[str, Failure] = {}
        self._submodules: Set[str] = set()

    def files(self, within: str = ".") -> Iterator[Entry]:
        """Every file, by path. A submodule, or a link that leads out of the folder, is refused rather than left out:
        what such a place held before would otherwise look deleted. Only what lies under `within` is refused; elsewhere it is
        left out, as a tool that needs it will say by itself."""
        entries = self._listing()
        self._refuse(within)
        return iter(entries.values())

    def entries(self) -> Iterator[Entry]:
        """Every file, by path, without those that files() refuses: for whoever asks `refused` about what it needs."""
        return iter(self._listing().values())

    @property
    def refused(self) -> Mapping[str, Failure]:
        """The links and submodules that are not followed, by path, with the reason."""
        self._listing()
        return self._refused

    @property
    def submodules(self) -> AbstractSet[str]:
        self._listing()
        return self._submodules

    def read(self, path: str) -> bytes:
        return next(self.read_many([path]))[1]

    def read_many(self, paths: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
        """Each path with its content, in the order asked for; too large a file is refused before it is read."""
        total = 0
        for path in paths:
            entry = self._entry(checked_path(path))
            check_size(entry.size, self._limits.file_bytes, self._where(entry.path))
            total += entry.size
            if total > self._limits.tree_bytes:
                raise Refused(f"the files hold more than {self._limits.tree_bytes:,} bytes in all", self._where(""), "Set path to a smaller folder.")
            yield path, self._mirror.content(self.commit, entry.oid, entry.size, self._where(entry.path))

    def _refuse(self, within: str) -> None:
        scope = checked_path(within)
        for path, refusal in self._refused.items():
            if _is_under(path, scope) or _is_under(scope, path):
                raise refusal

    def _where(self, path: str) -> str:
        return "/".join(part for part in (self.path if self.path != "." else "", path) if part) or "."

    def _entry(self, path: str) -> Entry:
        entries = self._listing()
        if path in entries:
            return entries[path]
        for refused, refusal in self._refused.items():
            if _is_under(path, refused):
                raise refusal
        if any(name.startswith(path + "/") for name in entries) or not path:
            raise Failure("this is a folder, not a file", self._where(path))
        raise Failure("there is no such file", self._where(path), did_you_mean(path, list(entries)), commit=self.commit.id)

    def _listing(self) -> Dict[str, Entry]:
        if self._entries is None:
            entries: Dict[str, Entry] = {}
            links: List[Entry] = []
            for entry in self._mirror.listing(self.commit, self.id):
                where = self._where(entry.path)
                _check_name(entry.path, where)
                if entry.path in entries or entry.path in self._refused:
                    raise Refused("the tree names this file twice, so what it holds depends on the reader", where)
                if entry.mode == "160000":
                    self._submodules.add(entry.path)
                    self._refused[entry.path] = Refused(
                        "this is a submodule, and submodules are not followed", where, "Copy its files into the repository."
                    )
                elif entry.mode == "120000":
                    links.append(entry)
                    entries[entry.path] = entry  # keeps its place in the order
                else:
                    entries[entry.path] = entry
            if links:
                entries = self._followed(entries, links)
            for path in entries:
                self._check_folders(path, entries)
            self._entries = entries
        return self._entries

    def _check_folders(self, path: str, entries: Dict[str, Entry]) -> None:
        folder = path.rpartition("/")[0]
        while folder:
            if folder in entries:
                raise Refused("the tree has a file and a folder of this name", self._where(folder))
            folder = folder.rpartition("/")[0]

    def _followed(self, entries: Dict[str, Entry], links: Sequence[Entry]) -> Dict[str, Entry]:
        """The entries with each link replaced by what it leads to inside this very folder, as Git itself works it out."""
        targets = self._mirror.follow(self.commit, self.id, [link.path for link in links])
        result: Dict[str, Entry] = {}
        found = dict(zip((link.path for link in links), targets))
        for path, entry in entries.items():
            if path not in found:
                result[path] = entry
                continue
            kind, oid, size = found[path]
            where = self._where(path)
            if kind == "blob":
                result[path] = Entry(path, "100644", oid, size)
            elif kind == "tree":
                self._spread(result, path, oid, where)
            elif kind == "loop":
                self._refused[path] = Refused("this symbolic link leads back to itself", where)
            elif kind == "symlink":
                self._refused[path] = Refused(
                    f"this symbolic link leads out of {self.path if self.path != '.' else 'the repository'}",
                    where,
                    "Put a copy of the file in its place.",
                )
            else:
                self._refused[path] = Failure("this symbolic link leads to nothing", where, "Correct or remove it.")
        return result

    def _spread(self, result: Dict[str, Entry], path: str, oid: str, where: str) -> None:
        for entry in self._mirror.listing(self.commit, oid):
            _check_name(entry.path, where)
            inner = f"{path}/{entry.path}"
            if entry.mode in ("120000", "160000"):
                # A link to a folder that holds links again may unfold for ever; nobody has manifests that need it.
                self._refused[inner] = Refused("this symbolic link leads to a folder with links or submodules in it", where)
                continue
            result[inner] = entry._replace(path=inner)
            if len(result) > self._limits.files:
                raise Refused(f"the tree has more than {self._limits.files:,} files", self._where(""), "Set path to a smaller folder.")


def check_size(size: int, limit: int, where: str) -> None:
    """The size stands in the listing, so what is too large is refused before a byte of it is read."""
    if size > limit:
        what = f"the file has {size:,} bytes, more than the {limit:,} that a file of manifests may have"
        raise Refused(what, where, "Split it, or keep it out of this folder.")


def _is_under(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(folder + "/")


def _check_name(path: str, where: str) -> None:
    """Git stores what it is given: a tree made by hand can name .., an absolute path or a line break."""
    if CONTROL.search(path):
        raise Refused(f"the file name {one_line(repr(path), 200)} is not plain UTF-8 text", "the repository's tree")
    if len(path.encode()) > MAX_PATH_BYTES or any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/")):
        raise Refused("no file may have such a path", one_line(where, 200))
