# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects read out of the mirror, by GitPython: what a tree lists, where a path leads, what a file holds."""

from __future__ import annotations

import hashlib
import subprocess
from typing import Any, List, NamedTuple, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import MissingLibrary, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.asked import FULL_COMMIT
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.meaning import words


class Entry(NamedTuple):
    """One file of a tree."""

    path: str  # relative to the tree
    mode: str  # "100644" or "100755"
    oid: str
    size: int


class Found(NamedTuple):
    """What is at a path."""

    kind: str  # tree or blob; or Git's own word for why there is neither: missing, symlink (leads out), loop, dangling, notdir, submodule
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
        self._reader: Any = None

    def follow(self, tree: str, paths: Sequence[str]) -> List[Found]:
        """What is at each path, links followed inside the tree only, as Git itself works it out."""
        result: List[Found] = []
        # What is fed must fit into a pipe, since nothing is read from the command before all of it is written.
        for start in range(0, len(paths), 12):
            result += self._follow_some(tree, paths[start : start + 12])
        return result

    def _follow_some(self, tree: str, paths: Sequence[str]) -> List[Found]:
        feed = b"".join(f"{tree}:{path}\n".encode() for path in paths)
        answer = self._git(self.folder, "cat-file", "--batch-check", "--follow-symlinks", feed=feed)
        result: List[Found] = []
        rest = answer.out
        while rest and len(result) < len(paths):
            line, _newline, rest = rest.partition(b"\n")
            fields = line.split()
            if len(fields) == 3 and FULL_COMMIT.match(fields[0].decode("ascii", "replace")):
                result.append(Found(fields[1].decode(), fields[0].decode(), int(fields[2])))
            elif line.endswith(b" missing"):
                result.append(Found("missing"))
            elif fields and fields[0] in (b"symlink", b"loop", b"dangling", b"notdir") and fields[1].isdigit():
                rest = rest[int(fields[1]) + 1 :]  # the rest of the link, which may hold a line break
                result.append(Found(fields[0].decode()))
            elif line.endswith(b" submodule"):
                result.append(Found("submodule"))
            else:
                raise Damaged(words(answer.err) or line.decode("utf-8", "replace"))
        if len(result) < len(paths):
            raise Damaged(words(answer.err))
        if all(found.kind == "missing" for found in result):
            self._check_tree(tree)
        return result

    def _check_tree(self, tree: str) -> None:
        """Git says missing of a path that isn't in the tree, and of a tree that isn't in the mirror."""
        if self._git(self.folder, "cat-file", "-t", tree).out != b"tree\n":
            raise Damaged(f"the tree {tree} is missing")

    def listing(self, tree: str, recurse: bool) -> List[Entry]:
        process = self._start("ls-tree", "-z", "-l", "--full-tree", *(["-r"] if recurse else []), tree)
        try:
            out = process.stdout.read(self._limits.output_bytes + 1)
        finally:
            process.stdout.close()  # ends a listing that has more to say
        if len(out) > self._limits.output_bytes or out.count(b"\0") > self._limits.files:
            raise Refused(f"the tree has more than {self._limits.files:,} files", self._url, "Set path to a smaller folder.")
        said = process.stderr.read().decode("utf-8", "replace")
        try:
            status = process.wait()
        except Exception as error:  # GitPython's own, which is not imported by name so that this file loads without it
            raise Damaged(words(said) or words(str(error))) from None
        if status:
            raise Damaged(words(said))
        entries = []
        for line in out.split(b"\0")[:-1]:
            facts, _tab, name = line.partition(b"\t")
            mode, _kind, oid, size = facts.decode().split()
            entries.append(Entry(name.decode("utf-8", "surrogateescape"), mode, oid, 0 if size == "-" else int(size)))
        return entries

    def content(self, oid: str, size: int, where: str) -> bytes:
        if self._reader is None:
            self._reader = self._start("cat-file", "--batch", istream=subprocess.PIPE)
        try:
            self._reader.stdin.write(oid.encode() + b"\n")
            self._reader.stdin.flush()
            header = self._reader.stdout.readline().split()
            if header != [oid.encode(), b"blob", str(size).encode()]:
                raise Damaged(f"the object {oid} of {where} can't be read")
            content = self._reader.stdout.read(size + 1)[:size]
        except (OSError, Damaged) as error:
            self._reader = None  # what it says next would answer another question
            raise Damaged(str(error)) from None
        if object_id(content, len(oid)) != oid:
            self._reader = None
            raise Damaged(f"the object {oid} of {where} is damaged")
        return bytes(content)

    def _start(self, *arguments: str, **options: Any) -> Any:
        """A process of GitPython's. It hands the caller's whole environment on, and a GIT_DIR in there would lead to other objects;
        reading needs nothing of it, and no secret either, so env takes all of it away."""
        try:
            import git
        except ImportError as error:
            raise MissingLibrary("GitPython>=3.1", error) from None
        variables = {**self._git.environment_for_reading, "GIT_DIR": self.folder}
        command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), "git", *arguments]
        return git.Git(self.folder).execute(command, as_process=True, **options)


def object_id(content: bytes, digits: int) -> str:
    digest = hashlib.sha256() if digits == 64 else hashlib.sha1(usedforsecurity=False)  # usedforsecurity: Git's ids, on a FIPS machine too
    digest.update(b"blob %d\0" % len(content))
    digest.update(content)
    return digest.hexdigest()
