# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at: the files of a checkout as they are, or each commit of a range with only the lines that it adds."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import needs
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import CONTROL, one_line
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Answer, Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import error_text
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import Source
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check import kubernetes, pipelines, scanner
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.finding import ALLOWED, Finding


SHORTEST = 8  # characters of a line that could hold a token, a key's first line or a credential
MAX_BYTES = Limits().file_bytes  # of one file of a checkout
MAX_LINES = 200_000  # longer ones that are looked at in one file, which takes ten seconds


def check_text(text: str, file: str, added: Optional[Set[int]] = None) -> List[Finding]:
    """The findings in a text; with added, in these lines only."""
    sealed = kubernetes.sealed_lines(text, file) if "encryptedData" in text else set()

    def numbered() -> Iterator[Tuple[int, str]]:
        for number, line in _lines(text):
            if len(line) >= SHORTEST and (added is None or number in added) and number not in sealed:
                yield number, line

    found = scanner.scan(file, itertools.islice(numbered(), MAX_LINES))
    rest = next(itertools.islice(numbered(), MAX_LINES, None), None)
    if rest:
        found.append(Finding(file, rest[0], f"more than {MAX_LINES:,} lines of one file are not searched. Split it, or exclude it"))
    if pipelines.is_pipeline(file):
        found += pipelines.findings(file, itertools.islice(numbered(), MAX_LINES))
    if file.endswith(kubernetes.SUFFIXES):
        found += [one for one in kubernetes.findings(text, file) if added is None or one.line in added]
    if not found:
        return []
    named = {one.line for one in found}
    allowed = {number for number, line in _lines(text) if number in named and ALLOWED in line}
    return sorted({one for one in found if one.line not in allowed})


def _lines(text: str) -> Iterator[Tuple[int, str]]:
    """The lines with their numbers, one after another: a list of them could take ten times the memory of the text."""
    begin = number = 0
    while begin <= len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        number += 1
        yield number, text[begin:end]
        begin = end + 1


def added_lines(text: str, *before: str) -> Set[int]:
    """The numbers of the lines that no earlier version of the text has; a line that only moved is not new."""
    old = {hash(line) for version in before for _number, line in _lines(version)}
    return {number for number, line in _lines(text) if hash(line) not in old}


def check_files(checkout: str, exclude: Sequence[str] = (), allow_unsandboxed: Sequence[str] = ()) -> List[Finding]:
    """The findings in every file that Git tracks or would add, as it is in the work tree."""
    git = _Checkout(checkout, allow_unsandboxed)
    found: List[Finding] = []
    for name in git.files():
        path = os.path.join(git.folder, name)
        if _excluded(name, exclude) or os.path.islink(path) or not os.path.isfile(path):
            continue
        try:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Failure(f"can't be read: {error.strerror}", one_line(name, 500), "Make it readable, or exclude it.") from None
        text = _text(content[:MAX_BYTES])
        found += check_text(text, name)
        if text and len(content) > MAX_BYTES:
            found.append(Finding(name, text.count("\n") + 1, f"only the first {MAX_BYTES >> 20} MiB of a file are searched. Split it, or exclude it"))
    return found


def check_commits(checkout: str, commits: str, exclude: Sequence[str] = (), allow_unsandboxed: Sequence[str] = ()) -> List[Finding]:
    """The findings in what each commit of a range adds, whether or not a later one removes it."""
    git = _Checkout(checkout, allow_unsandboxed)
    found: List[Finding] = []
    for oid in git.range(commits):
        for name, text, added in git.added(oid):
            if not _excluded(name, exclude):
                found += [replace(one, commit=oid) for one in check_text(text, name, added)]
    return found


def _text(content: bytes) -> str:
    """A file as text, as readers of YAML take it (a byte order mark says that it is UTF-16); nothing of a binary one."""
    for mark, encoding in ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
                           (b"\xef\xbb\xbf", "utf-8-sig")):
        if content.startswith(mark):
            return content.decode(encoding, "replace").replace("\r\n", "\n")
    return "" if b"\0" in content[:8000] else content.decode("utf-8", "replace").replace("\r\n", "\n")


def _excluded(name: str, exclude: Sequence[str]) -> bool:
    import fnmatch

    return any(fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/") for pattern in exclude)


class _Checkout:
    """A clone with a work tree, read without its own configuration: it may belong to somebody else."""

    def __init__(self, folder: str, allow_unsandboxed: Sequence[str] = ()) -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder))
        if not os.path.exists(os.path.join(self.folder, ".git")):
            raise Failure("is not the root of a Git checkout", self.folder, "Give the folder that has .git in it.")
        self._git = Command(Source.of({"repository": self.folder, "allow_unsandboxed": list(allow_unsandboxed)}), Limits())
        self._read = needs.repository(self.folder)

    def _run(self, *arguments: str) -> Answer:
        answer = self._ask(*arguments)
        if answer.status:
            raise Failure(f"git {arguments[0]} failed: {error_text(answer.err)}", self.folder)
        return answer

    def _ask(self, *arguments: str) -> Answer:
        """Git reads the checkout, and writes nothing."""
        return self._git(None, *arguments, variables={"GIT_DIR": os.path.join(self.folder, ".git"), "GIT_WORK_TREE": self.folder}, read=self._read)

    def files(self) -> Iterator[str]:
        listed = self._run("-c", "core.quotePath=false", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        yield from sorted({name.decode("utf-8", "surrogateescape") for name in listed.out.split(b"\0") if name})

    def range(self, commits: str) -> List[str]:
        if not commits or commits.startswith("-") or CONTROL.search(commits) or " " in commits:
            raise Failure(f"{one_line(commits, 100)!r} is not a range of commits", "commits", "Write it as origin/main..HEAD.")
        answer = self._ask("rev-list", "--reverse", commits, "--")
        if answer.status:
            raise Failure(f"{one_line(commits, 100)} is not a range of commits here: {error_text(answer.err)}", self.folder,
                          "Fetch both ends; a shallow clone may lack them.")
        return answer.out.decode().split()

    def added(self, oid: str) -> Iterator[Tuple[str, str, Set[int]]]:
        """Each file that a commit changes, its new text, and the numbers of the lines that no parent's version of it has."""
        raw = self._run("diff-tree", "--root", "--no-commit-id", "-r", "-c", "-z", "--raw", "--no-abbrev", "--no-renames", oid)
        fields = iter(raw.out.decode("utf-8", "surrogateescape").split("\0"))
        for facts in fields:
            if not facts.startswith(":"):
                continue
            name, parents = next(fields, ""), len(facts) - len(facts.lstrip(":"))
            columns = facts.lstrip(":").split(" ")
            modes, oids = columns[: parents + 1], columns[parents + 1 : 2 * parents + 2]
            if not modes[-1].startswith("100"):
                continue  # removed, a link or a submodule
            text = _text(self._blob(oids[-1]))
            yield name, text, added_lines(text, *(_text(self._blob(old)) for mode, old in zip(modes, oids[:-1]) if mode.startswith("100")))

    def _blob(self, oid: str) -> bytes:
        return self._run("cat-file", "blob", oid).out
