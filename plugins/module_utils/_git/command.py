# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Git command: shut in, isolated from the caller's environment, bounded in memory, time and output, ended with all that it started."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import needs
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import Source

# Landlock first, as it costs least: Git is run a few times even where nothing has changed. Whichever it is, Git gets the same rights.
PROTECTIONS = ("landlock", "bubblewrap", "mount namespace")
_FOR_READING = ("PATH", "HOME", "LANGUAGE")


class Answer(NamedTuple):
    status: int
    out: bytes
    err: str


class Command:
    """Git commands for one source. What a command may read beside the folder that it works on is said with it; the network has only one
    that talks to the server, and only such a one has the credentials."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self.environment = source.environment()
        # Without credentials: neither ours nor those that a proxy's URL may hold.
        self.environment_for_reading = {name: value for name, value in self.environment.items()
                                        if name.startswith(("GIT_", "LC_")) or name in _FOR_READING}
        self._needs: Optional[needs.Needs] = None

    def __call__(self, folder: Optional[str], *arguments: str, feed: bytes = b"", variables: Optional[Mapping[str, str]] = None,
                 network: bool = False, sockets: bool = False, read: Sequence[str] = (), write: Sequence[str] = ()) -> Answer:
        """network: it talks to the server. sockets: it talks to a process on this machine. read, write: what it needs beside the folder."""
        command, policy = self._prepared(folder, arguments, network, read, write)
        if sockets:
            policy = replace(policy, network=True)
        try:
            ended = _sandbox.run(command, policy, "/", self._environment(folder, network, variables), feed)
        except _sandbox.TooLate:
            raise self.too_late() from None
        except _sandbox.TooLong:
            raise Refused(f"Git's answer is longer than {self._limits.output_bytes:,} bytes", self._source.url) from None
        # Git dies without a word when the server closes the connection while it still writes.
        return Answer(ended.status, ended.out, ended.err or ("Broken pipe" if ended.status == -signal.SIGPIPE else ""))

    def start(self, folder: str, *arguments: str) -> _sandbox.Running:
        """A command to talk to, which reads the folder."""
        command, policy = self._prepared(None, arguments, False, (folder,), ())
        return _sandbox.start(command, policy, "/", self._environment(folder, False, None))

    def protection(self) -> str:
        """The sandbox that Git runs in here."""
        return _sandbox.protection_for(self._prepared(None, (), False, (), ())[1])

    def too_late(self) -> Failure:
        return Failure(f"no answer within {self._source.timeout} seconds", self._source.url, "Check the network, or raise git_timeout.")

    def _prepared(self, folder: Optional[str], arguments: Sequence[str], network: bool, read: Sequence[str],
                  write: Sequence[str]) -> Tuple[List[str], _sandbox.Policy]:
        git = shutil.which("git", path=self.environment.get("PATH"))
        if git is None:
            raise Failure("the program git isn't installed", "git", "Install Git 2.32 or later where this runs.")
        execute: List[str] = []
        read, write = [*read], [*write, *([folder] if folder else [])]
        if network:
            if self._needs is None:
                self._needs = needs.of(self._source, self.environment)
            execute += self._needs.execute
            read += self._needs.read
        # The hooks of a repository on this machine are its owner's programs, and may do anything that its owner may; Git starts no one else's.
        hooks = network and "push" in arguments[:1] and self._source.url.startswith("file://")
        limits = _sandbox.Limits(
            seconds=float(self._source.timeout), output=self._limits.output_bytes, file=self._limits.pack_bytes,
            # A pack of a few KiB may unfold to gigabytes, in the memory of the program that Git starts for it or on the disk.
            memory=self._limits.memory_bytes if network else _sandbox.Limits().memory)
        policy = _sandbox.Policy(program=git, read=read, write=write, execute=execute, network=network, limits=limits,
                                 allowed=hooks or "git" in self._source.allow_unsandboxed, protections=() if hooks else PROTECTIONS)
        return [git, *arguments], policy

    def _environment(self, folder: Optional[str], network: bool, variables: Optional[Mapping[str, str]]) -> Dict[str, str]:
        # Without a mirror GIT_DIR names none: Git must not find a repository in whatever folder the caller stands in.
        environment = self.environment if network else self.environment_for_reading
        return {**environment, "GIT_DIR": folder or os.devnull, **({"TMPDIR": folder} if folder else {}), **(variables or {})}
