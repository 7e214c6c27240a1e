# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a renderer may read, by their path in the repository."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, Iterable, NamedTuple, Optional, Set

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict

MAX_FILES = 100_000
MAX_TOTAL = 256 * 1024 * 1024


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

    def __init__(self, tree: Any, path: str, root: Optional[Any] = None) -> None:
        self.path = path
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

    def knows(self, path: str) -> bool:
        """Whether there is such a file; a text that only happens to look like a path is never refused."""
        return path in self._table(path, asked=False)

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
        """The bytes of many files; more than any render needs is refused before it is read."""
        wanted = [self._table(path)[path] for path in paths]
        total = sum(file.size for file in wanted)
        for file in wanted:
            if file.size > yaml_strict.MAX_FILE:
                raise yaml_strict.too_large(file.size, file.path)
        if len(wanted) > MAX_FILES or total > MAX_TOTAL:
            raise Refused(f"{len(wanted)} files with {total >> 20} MiB are too many to render; the limit is {MAX_FILES} files "
                          f"with {MAX_TOTAL >> 20} MiB", self.path, "Point `path` at a smaller folder, or use `exclude`.")
        own = {posixpath.relpath(file.path, self.path): file.path for file in wanted if self.inside(file.path)}
        content = {own[name]: data for name, data in self._tree.read_many(list(own))}
        others = [file.path for file in wanted if not self.inside(file.path)]
        if others and self._root is not None:
            content.update(self._root.read_many(others))
        return content

    def _table(self, path: str, asked: bool = True) -> Dict[str, File]:
        if self.inside(path) or self._root is None:
            if self._own is None:
                self._own = _listed(self._tree.files(), self.path)
            return self._own
        # A link or a submodule that is refused matters only where something is asked for.
        entries = self._root.files(within=path if asked else self.path)
        if self._all is None:
            self._all = _listed(entries, ".")
        return self._all


def _listed(entries: Iterable[Any], base: str) -> Dict[str, File]:
    return {file.path: file for file in (File(join(base, entry.path), entry.oid, entry.size) for entry in entries)}
