# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of one repository in the cache: which commit a revision is, fetched only when it isn't there, and what it holds."""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import lfs
from ansible_collections.nordic.gitops.plugins.module_utils._git.cache import Cache
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Answer, Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit, parse_commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import NO_REPOSITORY, KnownError, error_text, known_error
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.objects import Damaged, Entry, Found, Objects
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import OLDEST_GIT, Source
from ansible_collections.nordic.gitops.plugins.module_utils._git.tree import Tree, check_size
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import (
    FULL_COMMIT,
    SHORT_COMMIT,
    checked_path,
    checked_revision,
    did_you_mean,
    one_line,
    without_credentials,
)
from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole

_FETCHED = "refs/fetched/branch"  # until it is noted by its id
_HISTORY = ("+refs/heads/*:refs/history/heads/*", "+refs/tags/*:refs/history/tags/*")

REDIRECTS = 5  # followed one after another

T = TypeVar("T")


class Gone(Exception):
    """The server has no such object, or (final=False) does not hand it out by its id."""

    def __init__(self, final: bool) -> None:
        super().__init__("not available")
        self.final = final


class NoShallow(Exception):
    """The server can't send a commit without its history."""


class Mirror:
    """One repository as it was last seen. Its refs:

    refs/commits/<id>    this commit and all its files are there
    refs/history/...     the branches and tags whose whole history is there, fetched only where a short commit asks for it
    """

    def __init__(self, source: Source, limits: Limits = Limits()) -> None:
        self.source = source
        self.limits = limits
        self._git = Command(source, limits)
        self._url = source.url  # where the server's redirects have led
        self._cache = Cache(source.cache, source.url, source.timeout)
        self._objects: Optional[Objects] = None
        self._commit: Tuple[Tuple[str, str], Tuple[str, bytes]] = (("", ""), ("", b""))  # the one that was read last

    def close(self) -> None:
        """Let go of the mirror, so that others may remove what is outdated; it is entered again when needed."""
        if self._objects is not None:
            self._objects.close()
            self._objects = None
        self._cache.leave()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def ask(self, *arguments: str) -> Answer:
        """One Git command that talks to the server; the server's redirects are followed."""
        return self._answer(self._cache.folder, arguments)

    def command(self, *arguments: str, feed: bytes = b"", variables: Optional[Mapping[str, str]] = None, network: bool = False,
                sockets: bool = False, read: Sequence[str] = (), write: Sequence[str] = ()) -> Answer:
        """One Git command in the mirror, for whoever writes (push.py)."""
        return self._git(self._cache.folder, *arguments, feed=feed, variables=variables, network=network, sockets=sockets, read=read, write=write)

    def protection(self) -> str:
        """The sandbox that Git runs in here."""
        return self._git.protection()

    def refs(self, *patterns: str) -> Dict[str, str]:
        """The server's refs by name, as it has them now."""
        return self._refs(patterns)

    def default_branch(self) -> str:
        """The full name of the branch that the server's HEAD points to, "" where it does not say."""
        answer = self._network(None, "ls-remote", "--symref", "--", self.source.url, "HEAD")
        found = re.search(rb"^ref: (refs/heads/\S+)\tHEAD$", answer.out, re.MULTILINE)
        return found.group(1).decode("utf-8", "replace") if found else ""

    def keep(self, oid: str, branch: str) -> None:
        """Note that this commit and all its files are in the mirror, and that the server has it as this branch."""
        try:
            self._note(oid, lasting=False)  # its objects are not, either: a mirror that lacks one is made anew
        except OSError:
            return  # the commit is on the server, and the next run fetches it
        self._note_tip(branch, oid)

    # ---- a branch that we push to: what it was may be enough to begin with, as the server takes no push where that is out of date

    def known_tip(self, branch: str) -> Optional[Commit]:
        """The commit that a branch had when it was last fetched or pushed to, None where that is not known. The server is not asked."""
        self._cache.enter()
        try:
            with open(self._tip_file(branch), encoding="ascii") as file:
                oid = file.read(65).strip()
        except (OSError, ValueError):
            return None
        return self._checked(branch, oid) if FULL_COMMIT.match(oid) and self._has(oid) and self._raw(oid)[0] else None

    def newest(self, branch: str, moved: bool = False) -> Commit:
        """The commit that a branch has on the server now. moved: it is another than the one that we know, so it is fetched without
        asking for its id first."""
        self._cache.enter()
        oid = (self._fetch_branch(branch) if moved else "") or self._oid_of(branch)
        commit = self._checked(branch, oid)
        self._note_tip(branch, oid)
        return commit

    def _tip_file(self, branch: str) -> str:
        return os.path.join(self._cache.folder, "tips", hashlib.sha256(branch.encode()).hexdigest())

    def _note_tip(self, branch: str, oid: str) -> None:
        path = self._tip_file(branch)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            write_whole(path, f"{oid}\n".encode(), lasting=False)
        except OSError:
            pass  # a full disk, say; without the note the next run asks the server

    # ---- resolving: revision to commit

    def resolve(self, revision: Optional[str] = None) -> Commit:
        """The commit of a revision. Asks the server at most once when nothing has changed, and never for a full commit that is here."""
        revision = self.source.revision if revision is None else checked_revision(revision)
        self._cache.enter()
        if FULL_COMMIT.match(revision):
            oid = revision
            if not self._has(oid) or not self._raw(oid)[0]:
                self._fetch_commit(oid)
        else:
            oid = self._oid_of(revision)
        return self._checked(revision, oid)

    def _checked(self, revision: str, oid: str) -> Commit:
        """The commit that a revision has led to, if it may be used."""
        header, raw = self._raw(oid)
        if not header:
            raise Failure(f"{revision} is not a commit", self.source.url, "Give a branch, a tag or a commit.", revision=revision)
        commit = parse_commit(header, raw)
        if self.source.reachable_from:
            self._check_reachable(commit, self.source.reachable_from)
        if not self.source.verify_signatures:
            return commit
        from ansible_collections.nordic.gitops.plugins.module_utils._git.signature import signer

        return replace(commit, signer=signer(self.source, commit, raw))

    def _oid_of(self, revision: str) -> str:
        for _attempt in range(self.limits.attempts):
            oid, refs = self._ask(revision)
            if not oid:
                return self._short_commit(revision, refs)
            if self._has(oid) and self._raw(oid)[0]:
                return oid
            try:
                self._fetch([f"+{oid}:refs/commits/{oid}"], oid)
                return oid
            except Gone:
                continue  # a push came between the two questions
        raise Failure(f"{revision} changes faster than it can be fetched", self.source.url, "Try again.")

    def _ask(self, revision: str) -> Tuple[str, Dict[str, str]]:
        """The object that a ref of this name points to; "" and all the refs for what can only be a short commit."""
        maybe_short = bool(SHORT_COMMIT.match(revision))
        whole_name = revision == "HEAD" or revision.startswith("refs/")
        candidates = [revision] if whole_name else [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        refs = self._refs([] if maybe_short else candidates)
        found = [name for name in candidates if name in refs]
        if len(found) > 1:
            choice = " or ".join(f"{name} ({refs[name][:12]})" for name in found)
            raise Failure(f"{revision} is both a branch and a tag", self.source.url, f"Write {choice}.", revision=revision)
        if found and maybe_short and self._commits_like(revision, refs):
            # Whoever may push a branch decides what it is called, and could take the place of a commit that somebody has pinned.
            raise Refused(
                f"{revision} is a {'branch' if found[0].startswith('refs/heads/') else 'tag'} and the beginning of a commit",
                self.source.url,
                f"Write {found[0]}, or more of the commit.",
                revision=revision,
            )
        if found:
            return refs[found[0]], refs
        if maybe_short:
            return "", refs
        raise self._unknown(revision)

    def _refs(self, patterns: Sequence[str]) -> Dict[str, str]:
        """The server's refs by name, all of them without a pattern."""
        try:
            answer = self._network(None, "ls-remote", "--", self.source.url, *patterns)
        except Damaged as error:  # no mirror had a part in it: Git's own words are all there is
            raise Failure(f"git ls-remote failed: {error}", self.source.url) from None
        refs = {}
        for line in answer.out.decode("utf-8", "replace").splitlines():
            oid, _tab, name = line.partition("\t")
            if FULL_COMMIT.match(oid) and not name.endswith("^{}"):
                refs[name] = oid
        return refs

    def _unknown(self, revision: str) -> Failure:
        refs = self._refs([])
        branches = [name[len("refs/heads/") :] for name in refs if name.startswith("refs/heads/")]
        tags = [name[len("refs/tags/") :] for name in refs if name.startswith("refs/tags/")]
        if not refs:
            what, hint = "the repository is empty: it has no branch and no tag", "Push a commit to it."
        elif revision == "HEAD":
            what = "the repository's HEAD points to a branch that it does not have"
            hint = did_you_mean("main", branches, "Name a revision; the branches are")
        elif FULL_COMMIT.match(revision):
            what, hint = f"there is no commit {revision}", "Was it pushed, and to this repository?"
        else:
            what = f"there is no branch, tag or commit {revision}"
            hint = did_you_mean(revision, list(refs) if revision.startswith("refs/") else branches + tags, "There are")
        return Failure(what, self.source.url, hint, revision=revision)

    def _short_commit(self, prefix: str, refs: Mapping[str, str]) -> str:
        """The one commit whose id begins so. Only the whole history can tell whether it is the only one, so it is fetched;
        not again while the server's branches and tags are where they were."""
        commits = self._commits_like(prefix, refs)
        if not commits:
            raise self._unknown(prefix)
        if len(commits) > 1:
            raise Failure(f"{prefix} is the beginning of {len(commits)} commits", self.source.url, f"Give more of it: {', '.join(commits[:5])}.")
        self._note(commits[0])
        return commits[0]

    def _commits_like(self, prefix: str, refs: Mapping[str, str]) -> List[str]:
        """The commits whose ids begin so."""
        if not self._with_history(refs):
            return []
        folder = self._cache.folder
        ids = self._git(folder, "rev-parse", f"--disambiguate={prefix}").out
        kinds = self._git(folder, "cat-file", "--batch-check=%(objecttype)", feed=ids).out.decode().split() if ids else []
        return [oid for oid, kind in zip(ids.decode().split(), kinds) if kind == "commit"]

    def _with_history(self, refs: Mapping[str, str]) -> bool:
        """Have the whole history of these branches and tags, if there are any; it is not fetched again while they are where they were."""
        wanted = {name[len("refs/") :]: oid for name, oid in refs.items() if name.startswith(("refs/heads/", "refs/tags/"))}
        if wanted and self._history() != wanted:
            self._fetch(_HISTORY, "")
        return bool(wanted)

    def _check_reachable(self, commit: Commit, name: str) -> None:
        """Refuse a commit that is not in the history of a branch or tag."""
        refs = self._refs([])
        found = [each for each in ([name] if name.startswith("refs/") else [f"refs/heads/{name}", f"refs/tags/{name}"]) if each in refs]
        if len(found) != 1:
            what = f"{name} is both a branch and a tag" if found else f"there is no branch or tag {name}"
            hint = f"Write {' or '.join(found)} as reachable_from." if found else "Correct reachable_from."
            raise Failure(what, self.source.url, hint)
        if not self._with_history(refs) or not self._contains(refs[found[0]], commit.id):
            raise Refused(
                f"the commit {commit.id[:12]} by {commit.author} is not in the history of {name}", self.source.url,
                "Merge it there, or correct revision or reachable_from.", commit=commit.id)

    def known(self, oid: str) -> Optional[Commit]:
        """A commit that is in the mirror already; the server is not asked."""
        header, raw = self._raw(oid) if FULL_COMMIT.match(oid) else ("", b"")
        return parse_commit(header, raw) if header else None

    def follows(self, commit: str, earlier: str) -> bool:
        """Whether a commit has an earlier one in its history; False also where the server does not know that one."""
        if commit == earlier:
            return True
        if not FULL_COMMIT.match(earlier) or not self._with_history(self._refs([])):
            return False
        if not self._raw(commit)[0]:
            self._fetch_commit(commit)
        return self._contains(commit, earlier)

    def _contains(self, commit: str, earlier: str) -> bool:
        return self._git(self._cache.folder, "merge-base", "--is-ancestor", earlier, commit).status == 0

    def _history(self) -> Dict[str, str]:
        """The branches and tags whose whole history the mirror has."""
        folder = self._cache.folder
        if not folder or os.path.exists(os.path.join(folder, "shallow")):
            return {}
        answer = self._git(folder, "for-each-ref", "--format=%(objectname) %(refname)", "refs/history")
        lines = (line.split(" ", 1) for line in answer.out.decode("utf-8", "replace").splitlines())
        return {name[len("refs/history/") :]: oid for oid, name in lines}

    def _has(self, oid: str) -> bool:
        return bool(self._cache.folder) and os.path.exists(os.path.join(self._cache.folder, "refs", "commits", oid))

    def _note(self, oid: str, lasting: bool = True) -> None:
        """As `git update-ref` would, without a process."""
        path = os.path.join(self._cache.folder, "refs", "commits", oid)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_whole(path, f"{oid}\n".encode(), lasting=lasting)

    def _raw(self, oid: str) -> Tuple[str, bytes]:
        """A commit's own id and object (a tag is followed to its commit); "" where it is no commit, or not to be read."""
        if not self._cache.folder:
            return "", b""
        key = (self._cache.folder, oid)
        if self._commit[0] != key:
            found = self._open().commit(oid)
            if not found[0]:
                return found
            self._commit = (key, found)
        return self._commit[1]

    # ---- fetching: what isn't there

    def _fetch_commit(self, oid: str) -> None:
        """A commit by its id: most servers hand it out; from the others all branches and tags are fetched to look for it."""
        try:
            if not self._cache.folder and {len(other) for other in self._refs([]).values()} - {len(oid)}:
                raise Gone(final=True)  # a repository hashes all of its ids one way, and this is one of the other
            self._fetch([f"+{oid}:refs/commits/{oid}"], oid)
        except Gone as gone:
            if gone.final:
                raise self._unknown(oid) from None
            self._fetch(_HISTORY, "")
            if not self._raw(oid)[0]:
                raise self._unknown(oid) from None
            self._note(oid)

    def _fetch_branch(self, branch: str) -> str:
        """The newest commit of a branch, fetched; "" where the mirror must be made, or the server has no such branch."""
        with self._cache.alone():
            self._cache.enter()
            folder = self._cache.folder
            if not folder or self._worn():
                return ""
            try:
                self._fetch_into(folder, [f"+{branch}:{_FETCHED}"], branch)
                with open(os.path.join(folder, _FETCHED), encoding="ascii") as file:
                    oid = file.read(65).strip()
                if not self._has(oid):
                    self._note(oid)
            except (Damaged, Gone, OSError, ValueError):
                return ""  # resolve() goes the long way, which knows what to do or to say
        return oid

    def _fetch(self, refspecs: Sequence[str], oid: str) -> None:
        """Fetch into the current generation, or into a new one where there is none, it is worn out, or it is damaged.
        oid is the one commit that is wanted, "" for the whole history."""
        with self._cache.alone():
            self._cache.enter()
            noted = bool(oid) and self._has(oid)
            if noted and self._raw(oid)[0]:
                return  # another process was quicker
            if self._cache.folder and not noted and not self._worn():
                try:
                    return self._fetch_into(self._cache.folder, refspecs, oid)
                except Damaged:
                    pass
            self._renew(refspecs, oid)

    def _renew(self, refspecs: Sequence[str], oid: str) -> None:
        folder = self._cache.new_generation()
        try:
            self._create(folder, oid)
            self._fetch_into(folder, refspecs, oid)
            self._cache.switch(folder)
        except Damaged as damage:
            raise Failure(f"git fetch failed: {damage}", self.source.url) from None
        except OSError as error:
            raise Failure(f"the cache can't be used: {error.strerror}", error.filename or folder, "Check the folder git_cache.") from None
        finally:
            self._cache.sweep()

    def _create(self, folder: str, oid: str) -> None:
        version = self._git(None, "version").out.decode("utf-8", "replace")
        numbers = re.search(r"(\d+)\.(\d+)", version)
        if not numbers or (int(numbers.group(1)), int(numbers.group(2))) < OLDEST_GIT:
            raise Failure(f"{one_line(version)} is too old", "git", f"Install Git {'.'.join(map(str, OLDEST_GIT))} or later where this runs.")
        # How the repository hashes can be told from the length of any of its ids.
        example = oid or next(iter(self._refs([]).values()), "")
        object_format = "sha256" if len(example) == 64 else "sha1"
        os.mkdir(folder, 0o700)
        answer = self._git(folder, "init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", "--", folder)
        if answer.status:
            raise Failure(f"the mirror can't be made: {error_text(answer.err)}", folder, "Check the folder git_cache.")
        with open(os.path.join(folder, "in-use"), "xb"):
            pass

    def _fetch_into(self, folder: str, refspecs: Sequence[str], oid: str) -> None:
        # One commit without its history is all a reconcile reads. A mirror that has the history keeps it.
        def there(name: str) -> bool:
            return os.path.exists(os.path.join(folder, name))

        arguments = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force"]
        depth: List[str] = []
        if not oid:
            arguments.append("--prune")
            if there("shallow"):
                depth = ["--depth=2147483647"]  # Git's own number for all of it
        elif there("shallow") or not (there("refs/commits") or there("refs/history")):
            depth = ["--depth=1"]
        self._remove_unfinished(folder)
        try:
            self._network(folder, *arguments, *depth, "--", self.source.url, *refspecs)
        except NoShallow:  # a server that speaks the dumb http protocol
            self._network(folder, *arguments, "--", self.source.url, *refspecs)
        except (Failure, Damaged):
            # The one that Git started for the pack dies at the limit without a word, and Git guesses at the reason.
            if self._remove_unfinished(folder) >= self.limits.pack_bytes:
                raise Refused(
                    f"the repository sent more than {self.limits.pack_bytes:,} bytes", self.source.url, "Split it, or keep large files elsewhere."
                ) from None
            raise

    @staticmethod
    def _remove_unfinished(folder: str) -> int:
        """Take away what an interrupted fetch left behind, and say how large the largest of it was."""
        import glob

        largest = 0
        for path in glob.glob(os.path.join(glob.escape(folder), "objects", "pack", "tmp_*")):
            try:
                largest = max(largest, os.stat(path).st_size)
                os.unlink(path)
            except OSError:
                pass  # its maker lives on after the one who started it, and was quicker
        return largest

    def _worn(self) -> bool:
        try:
            return sum(name.endswith(".pack") for name in os.listdir(os.path.join(self._cache.folder, "objects", "pack"))) >= self.limits.packs
        except OSError:
            return True

    def _network(self, folder: Optional[str], *arguments: str) -> Answer:
        """A command that talks to the server; tried again when the network, not the server's answer, was the trouble."""
        attempt = 1
        while True:
            answer = self._answer(folder, arguments)
            if answer.status == 0:
                return answer
            row = known_error(answer.err)
            if row is None or not row.transient or attempt == self.limits.attempts:
                raise self._trouble(answer, row)
            time.sleep(self.limits.pause * 2 ** (attempt - 1))
            attempt += 1

    def _answer(self, folder: Optional[str], arguments: Sequence[str]) -> Answer:
        redirects = 1
        while True:
            command = [self._url if argument == self.source.url else argument for argument in arguments]
            answer = self._git(folder, *command, network=True)
            if answer.status == 0 or redirects == REDIRECTS or not re.search(r"returned error: 30[12378]", answer.err):
                return answer
            redirects += 1
            self._follow_redirect(folder, command)

    def _follow_redirect(self, folder: Optional[str], command: Sequence[str]) -> None:
        """Go on where the server sends us, if that is the same server: a redirect could lead to any service that this machine reaches."""
        from urllib.parse import urljoin

        # Git tells nobody but its trace where it would have gone. What it sends is redacted there, and no body is written.
        trace = {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"}
        said = self._git(folder, *command, variables=trace, network=True).err
        target = re.findall(r"Recv header: location: *(\S+)", said, re.IGNORECASE)
        revision = f"{self._url}/info/refs"
        final = urljoin(revision, target[-1]) if target else ""
        base = re.sub(r"/info/refs(\?service=git-(upload|receive)-pack)?$", "", final)
        if base == final or base.split("/")[:3] != self._url.split("/")[:3]:
            shown = one_line(without_credentials(base), 200) or "nowhere"
            raise Refused(f"the server redirects to {shown}", self.source.url, "Give the repository's final URL, if that is one that you trust.")
        self._url = base

    def _trouble(self, answer: Answer, row: Optional[KnownError]) -> Exception:
        said = without_credentials(error_text(answer.err), *self.source.secrets)
        if re.search(r"not our ref|unadvertised object|couldn't find remote ref|no such remote ref", answer.err):
            return Gone(final="not our ref" in answer.err)
        if "not support shallow" in answer.err:
            return NoShallow()
        if row is None:
            return Damaged(said or f"git ended with status {answer.status}")
        if row.what == NO_REPOSITORY and self.source.url.startswith("file://"):
            row = row._replace(what="there is no Git repository at this path", hint="Check the path, and that this user may read it.")
        return (Refused if row.refused else Failure)(row.what, self.source.url, row.hint, git=said)

    # ---- reading: commit and path to content

    def tree(self, commit: Commit, path: Optional[str] = ".") -> Tree:
        """The folder at that path and commit."""
        inside = checked_path(path)
        if not inside:
            return Tree(self, commit, "", commit.tree)
        found = self._find(commit, inside)
        if found.kind != "tree":
            raise Failure("this is a file, not a folder", inside, commit=commit.id)
        return Tree(self, commit, inside, found.oid)

    def read(self, commit: Commit, path: str) -> bytes:
        """One file at that commit, without listing the folder around it."""
        inside = checked_path(path)
        found = self._find(commit, inside)
        if found.kind != "blob":
            raise Failure("this is a folder, not a file", inside or ".", commit=commit.id)
        check_size(found.size, self.limits.file_bytes, inside)
        data = self.content(commit, found.oid, found.size, inside)
        if lfs.is_pointer(data):
            raise lfs.pointer(inside)
        return data

    def find(self, commit: Commit, path: str) -> Found:
        """The tree or blob at that path; links are followed inside the repository only."""
        return self._find(commit, checked_path(path))

    def _find(self, commit: Commit, inside: str) -> Found:
        (found,) = self.follow(commit, commit.tree, [inside])
        if found.kind in ("tree", "blob"):
            return found
        if found.kind == "symlink":
            raise Refused("this path leads out of the repository through a symbolic link", inside, "Put a copy of the file in its place.")
        if found.kind == "loop":
            raise Refused("this symbolic link leads back to itself", inside)
        if found.kind == "dangling":
            raise Failure("this symbolic link leads to nothing", inside, "Correct or remove it.")
        raise self._missing(commit, inside)

    def _missing(self, commit: Commit, path: str) -> Failure:
        """What there is instead: names like it in the nearest folder that exists."""
        parts = path.split("/")
        for depth in range(len(parts) - 1, -1, -1):
            folder, place = "/".join(parts[:depth]), "/".join(parts[: depth + 1])
            (found,) = self.follow(commit, commit.tree, [folder])
            if found.kind != "tree":
                continue
            entries = {f"{folder}/{entry.path}" if folder else entry.path: entry for entry in self.listing(commit, found.oid, recurse=False)}
            if place in entries and entries[place].mode == "160000":
                return Refused("this is a submodule, and submodules are not followed", place, "Copy its files into the repository.")
            names = [one_line(name, 100) for name in entries]
            return Failure("there is no such file or folder", path, did_you_mean(place, names, f"{folder or 'The root'} has"), commit=commit.id)
        return Failure("there is no such file or folder", path, commit=commit.id)

    def follow(self, commit: Commit, tree: str, paths: Sequence[str]) -> List[Found]:
        return self._read(commit, lambda objects: objects.follow(tree, paths))

    def listing(self, commit: Commit, tree: str, recurse: bool = True) -> Iterator[Entry]:
        """All the files of a tree, or with recurse=False its own entries, as they are stored: links and submodules too."""
        return iter(self._read(commit, lambda objects: objects.listing(tree, recurse)))

    def regular(self, commit: Commit, path: str) -> bool:
        """Whether there is a regular file at this very path, with no link on the way."""
        return self._read(commit, lambda objects: objects.regular(commit.tree, path))

    def write_tree(self, commit: Commit, files: Mapping[str, bytes]) -> str:
        """The commit's tree with these files changed, written into the mirror; its id."""
        def work(objects: Objects) -> str:
            blobs = {path: objects.write("blob", content, len(commit.tree)) for path, content in files.items()}
            return objects.write_tree(commit.tree, blobs)

        return self._read(commit, work)

    def content(self, commit: Commit, oid: str, size: int, where: str) -> bytes:
        return self._read(commit, lambda objects: objects.content(oid, size, where))

    def _read(self, commit: Commit, work: Callable[[Objects], T]) -> T:
        """The work's result; when the mirror turns out to be damaged, it is made anew and the work done once more."""
        damaged = self._cache.folder
        try:
            return work(self._open())
        except Damaged:
            pass
        with self._cache.alone():
            self._cache.enter()
            if self._cache.folder and self._cache.folder != damaged:  # another process has seen it too, and was quicker
                try:
                    return work(self._open())
                except Damaged:
                    pass
            try:
                self._renew([f"+{commit.id}:refs/commits/{commit.id}"], commit.id)
            except Gone:
                raise Failure(
                    f"the mirror is damaged, and the server no longer has the commit {commit.id}", self.source.url, "Name a revision that it has."
                ) from None
        try:
            return work(self._open())
        except Damaged as damage:
            raise Failure(f"the repository can't be read: {damage}", self.source.url, "Check it with git fsck.") from None

    def _open(self) -> Objects:
        if not self._cache.folder:
            self._cache.enter()
        if not self._cache.folder:
            raise Damaged("there is no mirror")
        if self._objects is None or self._objects.folder != self._cache.folder:
            if self._objects is not None:
                self._objects.close()
            self._objects = Objects(self._git, self._cache.folder, self.source.url, self.limits, float(self.source.timeout))
        return self._objects
