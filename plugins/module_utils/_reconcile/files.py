# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a renderer may read, by their path in the repository."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import OPTION, Budget

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class File(NamedTuple):
    """One file: where it is in the repository, and which bytes it holds."""

    path: str
    oid: str
    size: int


def join(folder: str, path: str) -> str:
    """A path in the repository, "." for the root; what leaves the repository begins with "../"."""
    return posixpath.normpath(posixpath.join(folder, path))


def outside(path: str) -> bool:
    """Whether a joined path leaves the repository."""
    return path == ".." or path.startswith(("../", "/"))


class Files:
    """The files of a folder, and of the whole repository where its root is known.

    The root is listed only when something outside of the folder is asked for. Symbolic links and submodules are the
    tree's business: it lists what a link leads to, and refuses what leads out.
    """

    def __init__(self, tree: Any, path: str, root: Optional[Any] = None, budget: Optional[Budget] = None) -> None:
        self.path = path
        self.budget = budget or Budget()
        self._tree = tree
        self._root = root
        self._own: Optional[Dict[str, File]] = None
        self._all: Optional[Dict[str, File]] = None
        self._folders: Dict[int, Set[str]] = {}  # of each of the two tables

    def inside(self, path: str) -> bool:
        """Whether a path lies in the rendered folder."""
        return self.path == "." or path == self.path or path.startswith(self.path + "/")

    def get(self, path: str) -> Optional[File]:
        return self._table(path).get(path)

    def has_folder(self, path: str) -> bool:
        table = self._table(path)
        if id(table) not in self._folders:
            folders = {"."}
            for name in table:
                folder = posixpath.dirname(name)
                while folder and folder not in folders:
                    folders.add(folder)
                    folder = posixpath.dirname(folder)
            self._folders[id(table)] = folders
        return path in self._folders[id(table)]

    def under(self, folder: str) -> Iterable[File]:
        prefix = "" if folder == "." else folder + "/"
        return (file for path, file in self._table(folder).items() if path.startswith(prefix))

    def read(self, paths: Iterable[str]) -> Dict[str, bytes]:
        """The bytes of many files, for a tool or a judge of it: none may be a pointer of Git LFS, which the tool would take for the file."""
        content = dict(self.each(paths))
        for path, data in content.items():
            if data.startswith(LFS_POINTER):
                raise lfs_pointer(path)
        return content

    def each(self, paths: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
        """The bytes of many files, one after another; more than any render needs is refused before it is read."""
        wanted = [self._table(path)[path] for path in paths]
        limit = self.budget.bounds.files
        if len(wanted) > limit:
            raise Refused(f"{len(wanted):,} files are more than the {limit:,} of one render", self.path, f"Point `path` at a smaller folder. {OPTION}")
        for file in wanted:
            if file.size > yaml_strict.MAX_FILE:
                raise yaml_strict.too_large(file.size, file.path)
            self.budget.take_bytes(file.size, file.path)
        own = {posixpath.relpath(file.path, self.path): file.path for file in wanted if self.inside(file.path)}
        yield from ((own[name], data) for name, data in self._tree.read_many(list(own)))
        others = [file.path for file in wanted if not self.inside(file.path)]
        if others and self._root is not None:
            yield from self._root.read_many(others)

    def parse(self, path: str) -> List[yaml_strict.Parsed]:
        """The YAML of one file; what is wrong with it is raised."""
        documents, problems = yaml_strict.parse(self.read([path])[path], path, budget=self.budget)
        if problems:
            raise problems[0]
        return documents

    def _table(self, path: str) -> Dict[str, File]:
        if self.inside(path) or self._root is None:
            if self._own is None:
                self._own = _listed(self._tree.files(), self.path)
            return self._own
        entries = self._root.files(within=path)
        if self._all is None:
            self._all = _listed(entries, ".")
        return self._all


def lfs_pointer(path: str) -> Failure:
    return Failure("is a Git LFS pointer, not the file itself", path, "Commit the file without LFS.")


def _listed(entries: Iterable[Any], base: str) -> Dict[str, File]:
    return {file.path: file for file in (File(join(base, entry.path), entry.oid, entry.size) for entry in entries)}
