# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a renderer may read, by their path in the repository."""

from __future__ import annotations

import posixpath
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import lfs
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import OPTION, Budget

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._git import Tree


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


class _Table(NamedTuple):
    """What one of the two trees lists."""

    files: Dict[str, File]
    refused: Dict[str, Failure]  # links and submodules that are not followed
    submodules: Set[str]
    folders: Set[str]


class Files:
    """The files of a folder, and of the whole repository where its root is known.

    The root is listed only when something outside of the folder is asked for, or a link leads there. A link or a submodule that is not
    followed is refused where something is asked for at its place.
    """

    def __init__(self, tree: Tree, path: str, root: Optional[Tree] = None, budget: Optional[Budget] = None) -> None:
        self.path = path
        self.budget = budget or Budget()
        self._tree = tree
        self._root = root
        self._own: Optional[_Table] = None
        self._all: Optional[_Table] = None
        self._linked: Dict[str, List[File]] = {}

    def inside(self, path: str) -> bool:
        """Whether a path lies in the rendered folder."""
        return self.path == "." or path == self.path or path.startswith(self.path + "/")

    def get(self, path: str) -> Optional[File]:
        table = self._table(path)
        found = table.files.get(path)
        if found is None:
            _refuse(table, path)
        return found

    def has_folder(self, path: str) -> bool:
        table = self._table(path)
        _refuse(table, path)
        return path in table.folders

    def under(self, folder: str) -> Iterable[File]:
        """The files below a folder; what is refused there is left to refused_below()."""
        prefix = "" if folder == "." else folder + "/"
        return (file for path, file in self._table(folder).files.items() if path.startswith(prefix))

    def refused_below(self, folder: str) -> Iterator[Tuple[str, Failure, bool]]:
        """Where a link or submodule is not followed, why, and whether it is a submodule."""
        table = self._table(folder)
        prefix = "" if folder == "." else folder + "/"
        return ((path, failure, path in table.submodules) for path, failure in table.refused.items() if path.startswith(prefix))

    def linked(self) -> Dict[str, Dict[str, str]]:
        """What links of the rendered folder lead to elsewhere in the repository: the folder's own id does not tell when that changes."""
        self._table(self.path)
        return {place: {file.path: file.oid for file in files} for place, files in self._linked.items()}

    def read(self, paths: Iterable[str]) -> Dict[str, bytes]:
        """The bytes of many files, for a tool or a judge of it: none may be a pointer of Git LFS, which the tool would take for the file."""
        content = dict(self.each(paths))
        for path, data in content.items():
            if lfs.is_pointer(data):
                raise lfs.pointer(path)
        return content

    def each(self, paths: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
        """The bytes of many files, one after another; more than any render needs is refused before it is read."""
        wanted = [self._table(path).files[path] for path in paths]
        limit = self.budget.bounds.files
        if len(wanted) > limit:
            raise Refused(f"{len(wanted):,} files are more than the {limit:,} of one render", self.path, f"Point `path` at a smaller folder. {OPTION}")
        for file in wanted:
            if file.size > yaml_strict.MAX_FILE:
                raise yaml_strict.too_large(file.size, file.path)
            self.budget.take_bytes(file.size, file.path)
        through_links = {file.path for files in self._linked.values() for file in files}
        own = {posixpath.relpath(file.path, self.path): file.path for file in wanted
               if self.inside(file.path) and file.path not in through_links}
        yield from ((own[name], data) for name, data in self._tree.read_many(list(own)))
        others = [file.path for file in wanted if not self.inside(file.path) or file.path in through_links]
        if others and self._root is not None:
            yield from self._root.read_many(others)

    def parse(self, path: str) -> List[yaml_strict.Parsed]:
        """The YAML of one file; what is wrong with it is raised."""
        documents, problems = yaml_strict.parse(self.read([path])[path], path, budget=self.budget)
        if problems:
            raise problems[0]
        return documents

    def _table(self, path: str) -> _Table:
        if self.inside(path) or self._root is None:
            if self._own is None:
                self._own = self._with_links(_listed(self._tree, self.path))
            return self._own
        return self._whole(self._root)

    def _whole(self, root: Tree) -> _Table:
        if self._all is None:
            self._all = _listed(root, ".")
        return self._all

    def _with_links(self, table: _Table) -> _Table:
        """The rendered folder, with what its links lead to in other folders of the repository."""
        if not table.refused or self._root is None or self.path == ".":
            return table
        whole = self._whole(self._root)
        files, refused = dict(table.files), dict(table.refused)
        for place in table.refused:
            found = [file for path, file in whole.files.items() if _is_at(path, place)]
            if found:
                del refused[place]
                refused.update((path, failure) for path, failure in whole.refused.items() if _is_at(path, place))
                files.update((file.path, file) for file in found)
                self._linked[place] = found
        return _Table(files, refused, table.submodules, _folders(files))


def _refuse(table: _Table, path: str) -> None:
    for place, failure in table.refused.items():
        if _is_at(path, place):
            raise failure


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _folders(files: Iterable[str]) -> Set[str]:
    folders = {"."}
    for name in files:
        folder = posixpath.dirname(name)
        while folder and folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return folders


def _listed(tree: Tree, base: str) -> _Table:
    files = {file.path: file for file in (File(join(base, entry.path), entry.oid, entry.size) for entry in tree.entries())}
    return _Table(files, {join(base, path): failure for path, failure in tree.refused.items()},
                  {join(base, path) for path in tree.submodules}, _folders(files))
