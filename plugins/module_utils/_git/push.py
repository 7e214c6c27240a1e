# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a commit into the mirror and push it, without a work tree: a tree of 10,000 files costs no more than the files that change.

Git runs no hook here, as core.hooksPath is empty (source.py).
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import CONTROL, one_line, without_credentials
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Answer
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import error_text, known_error
from ansible_collections.nordic.gitops.plugins.module_utils._git.mirror import Mirror

# Somebody else was quicker: the plan is made again on what is there now.
_RACE = re.compile(r"fetch first|non-fast-forward|stale info|cannot lock ref|failed to (update|lock)|incorrect old value|reference already exists"
                   r"|remote ref updated since checkout|unable to create .*\.lock", re.IGNORECASE)
ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf")
VERIFY_DEPTH = 64  # commits that others may push on top before we look, without fetching the whole history


class Overtaken(Exception):
    """The branch is no longer where it was read. meanwhile: it still was when this push began."""

    def __init__(self, meanwhile: bool) -> None:
        super().__init__("overtaken")
        self.meanwhile = meanwhile


@dataclass(frozen=True)
class Identity:
    """Who a commit is by: "Name <address>", and the private key that signs it (ssh or GPG, without a passphrase), "" for no signature."""

    name: str
    address: str
    signing_key: str = ""

    @classmethod
    def of(cls, author: str, signing_key: Optional[str]) -> Identity:
        found = re.fullmatch(r"\s*([^<>]*[^<>\s])\s*<([^<>\s]+)>\s*", author)
        if not found or CONTROL.search(author):
            raise Failure(f"{one_line(author, 100)!r} is not an author", "author", "Write it as: Name <address@example.org>.")
        key = ""
        if signing_key:
            key = os.path.abspath(os.path.expanduser(signing_key))
            try:
                with open(key, "rb") as file:
                    start = file.read(4096)
            except OSError as error:
                raise Failure(f"signing_key can't be read: {error.strerror}", key) from None
            if b"PRIVATE KEY" not in start:
                raise Failure("signing_key is not a private key", key, "Give an OpenSSH private key, or gpg --export-secret-keys --armor.")
        return cls(found.group(1), found.group(2), key)


def branch_of(mirror: Mirror) -> str:
    """The full name of the branch that the source's revision means; a tag or a commit can not be pushed to."""
    revision, url = mirror.source.revision, mirror.source.url
    if revision == "HEAD":
        found = mirror.default_branch()
        if found:
            return found
        raise Failure("the default branch is not known", url, "Name a branch as revision.")
    name = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    if not name.startswith("refs/heads/"):
        raise Failure(f"{revision} is not a branch", url, "Name a branch as revision.")
    return name


def write_tree(mirror: Mirror, base: Commit, files: Mapping[str, bytes]) -> str:
    """The tree of base with these files changed; its id. Only the folders that lead to them are read and written, as an index would need all."""
    try:
        return mirror.write_tree(base, files)
    except OSError as error:
        raise Failure(f"the commit can't be written: {error.strerror}", error.filename or "git_cache", "Is there space in the folder git_cache?") from None


def write_commit(mirror: Mirror, base: Commit, tree: str, message: str, identity: Identity) -> str:
    """A commit of this tree on top of base; its id. Nothing refers to it before it is pushed."""
    variables = {"GIT_AUTHOR_NAME": identity.name, "GIT_AUTHOR_EMAIL": identity.address,
                 "GIT_COMMITTER_NAME": identity.name, "GIT_COMMITTER_EMAIL": identity.address}
    with _signing(mirror, identity) as (options, sign, home):
        # gpg talks to its agent by a socket.
        answer = mirror.command(*options, "commit-tree", *sign, "-p", base.id, tree, feed=message.encode(), variables={**variables, **home},
                                sockets="GNUPGHOME" in home, read=[identity.signing_key, *ACCOUNTS] if sign else [], write=list(home.values()))
    if answer.status and sign:
        raise Failure(f"the commit can't be signed: {error_text(answer.err)}", identity.signing_key, "Does the key need a passphrase? Give one without.")
    return _done(answer, "commit-tree")


def regular_file(mirror: Mirror, commit: Commit, path: str) -> None:
    """Refuse what is no regular file at this very path: the target of a link would have to change."""
    if not mirror.regular(commit, path):
        mirror.read(commit, path)  # says what is wrong with a path that is not there, or no file
        raise Refused("is reached through a symbolic link", path, "Name the file that the link leads to.")


def push(mirror: Mirror, oid: str, ref: str, expected: str) -> None:
    """Push the commit to this ref, which must still have the id expected ("": not exist). Raises Overtaken where it has not.

    What the server says is not enough: a hook of its own may take the commit back, or keep it for review. So the ref is read, which also tells
    whether a push whose answer was lost has arrived.
    """
    answer = mirror.ask("push", "--porcelain", "--no-verify", "--recurse-submodules=no", f"--force-with-lease={ref}:{expected}", "--", mirror.source.url,
                        f"{oid}:{ref}")
    status = next((line for line in answer.out.decode("utf-8", "replace").splitlines() if line.startswith("!")), "")
    if not status and _arrived(mirror, oid, ref, expected):
        mirror.keep(oid, ref)
        return
    words = without_credentials(error_text(answer.err), *mirror.source.secrets)
    if answer.status == 0:
        raise Failure(f"the server accepted the push, but {ref} does not hold the commit {oid[:12]}", mirror.source.url,
                      "Is the branch protected, or does the server move it back?")
    if _RACE.search(status) and "hook declined" not in status:
        raise Overtaken(meanwhile="[remote rejected]" in status)
    if status:
        reason = one_line(status.rpartition("\t")[2], 200)
        raise Failure(f"the server refuses the push to {ref[len('refs/heads/'):]}: {reason}", mirror.source.url,
                      "Nothing was pushed. Is the branch protected? Then set review_branch.", git=words)
    row = known_error(answer.err)
    if row is None:
        raise Failure(f"git push failed: {words or f'status {answer.status}'}", mirror.source.url, "Nothing was pushed.")
    hint = row.hint.replace("read this repository", "write to this repository")
    raise Failure(row.what.replace("forbids reading", "forbids writing"), mirror.source.url, f"{hint} Nothing was pushed.", git=words)


def _arrived(mirror: Mirror, oid: str, ref: str, expected: str) -> bool:
    """Whether the server's ref has the commit."""
    try:
        now = mirror.refs(ref).get(ref, "")
    except Failure as failure:
        failure.hint = f"{failure.hint} Then run it again: a commit that has arrived is found and not made twice.".lstrip()
        raise
    return now == oid or now not in ("", expected) and _holds(mirror, ref, oid)


def _holds(mirror: Mirror, ref: str, oid: str) -> bool:
    """Whether the server's ref has the commit in its history: others may have pushed on top of it already."""
    for depth in (VERIFY_DEPTH, 2147483647):
        answer = mirror.ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", f"--depth={depth}",
                            "--", mirror.source.url, f"+{ref}:refs/pushed/{oid}")
        if answer.status == 0:
            answer = mirror.command("merge-base", "--is-ancestor", oid, f"refs/pushed/{oid}")
            mirror.command("update-ref", "-d", f"refs/pushed/{oid}")
            if answer.status == 0:
                return True
    return False


@contextmanager
def _signing(mirror: Mirror, identity: Identity) -> Iterator[Tuple[List[str], List[str], Dict[str, str]]]:
    """Options before the command, options of commit-tree, and variables."""
    if not identity.signing_key:
        yield [], [], {}
        return
    with open(identity.signing_key, "rb") as file:
        gpg = b"BEGIN PGP" in file.read(4096)
    with _temporary_folder() as home:
        if not gpg:
            # ssh-keygen refuses a key that others may read, and a name that is no file of its own.
            yield ["-c", "gpg.format=ssh", "-c", f"user.signingKey={identity.signing_key}"], ["-S"], {"TMPDIR": home}
            return
        try:
            done = _in_ring(mirror, home, identity.signing_key, "gpg", "--batch", "--status-fd", "1", "--import", "--", identity.signing_key)
            found = re.search(rb"^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]+)$", done, re.MULTILINE)
            if not found:
                raise Failure("holds no GPG private key", identity.signing_key, "Make it with gpg --export-secret-keys --armor.")
            yield ["-c", "gpg.format=openpgp"], [f"-S{found.group(1).decode()}"], {"GNUPGHOME": home}
        finally:
            if shutil.which("gpgconf"):
                _in_ring(mirror, home, identity.signing_key, "gpgconf", "--kill", "all")  # the agent that gpg started for this folder


def _in_ring(mirror: Mirror, home: str, key: str, name: str, *arguments: str) -> bytes:
    """Run a program of GnuPG in a key ring of its own; what it printed."""
    program = shutil.which(name)
    if program is None:
        raise Failure(f"the program {name} isn't installed", name, "Install GnuPG where this runs.")
    policy = _sandbox.Policy(program=program, write=[home], read=[key, *ACCOUNTS], network=True, remove=[home],
                             limits=_sandbox.Limits(seconds=float(mirror.source.timeout)), allowed=name in mirror.source.allow_unsandboxed)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "TMPDIR": home, "GNUPGHOME": home, "LC_ALL": "C"}
    return _sandbox.run([program, *arguments], policy, home, environment).out


@contextmanager
def _temporary_folder() -> Iterator[str]:
    import tempfile  # only a push pays for it

    folder = os.path.realpath(tempfile.mkdtemp(prefix="ng-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _done(answer: Answer, name: str) -> str:
    if answer.status:
        raise Failure(f"git {name} failed: {error_text(answer.err)}", "git", "Is there space in the folder git_cache?")
    return answer.out.decode().strip()
