# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Git command: isolated from the caller's environment, bounded in time and output, ended with all that it started."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import Source


class Answer(NamedTuple):
    status: int
    out: bytes
    err: str


class Command:
    """Git commands in an isolated environment, each in a session of its own so that a time-out ends its helpers too."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self.environment = source.environment()
        # A pack of a few KiB may unfold to gigabytes, in the memory of the program that Git starts for it or on the disk. The shell sets the
        # limits before there is any; where a lower one holds already, that stays.
        self._limited = f'ulimit -d {limits.memory_bytes >> 10}; ulimit -f {-(-limits.pack_bytes // 512)}; exec git "$@"'
        # Without credentials: neither ours nor those that a proxy's URL may hold.
        self.environment_for_reading = {name: value for name, value in self.environment.items() if name.startswith(("GIT_", "LC_")) or name == "PATH"}

    def environment_over_the_callers(self, folder: str) -> Dict[str, str]:
        """For a library that adds variables to the caller's own: each of the caller's that leads elsewhere is set as well."""
        return {
            **self.environment_for_reading,
            "HOME": os.devnull,
            "GIT_DIR": folder,
            "GIT_COMMON_DIR": folder,
            "GIT_OBJECT_DIRECTORY": os.path.join(folder, "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_CONFIG_PARAMETERS": "",
        }

    def __call__(
        self, folder: Optional[str], *arguments: str, feed: bytes = b"", variables: Optional[Mapping[str, str]] = None, fetches: bool = False
    ) -> Answer:
        """fetches: it takes objects from a server, so all that it starts has limits, from before it starts anything."""
        # Without a mirror GIT_DIR names none: Git must not find a repository in whatever folder the caller stands in.
        environment = {**self.environment, "GIT_DIR": folder or os.devnull, **(variables or {})}
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._limited, "git", *arguments] if fetches else ["git", *arguments],
                env=environment,
                cwd="/",
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise _not_installed() from None
        with process:
            try:
                if process.stdin:
                    try:
                        process.stdin.write(feed)
                        process.stdin.close()
                    except BrokenPipeError:
                        pass  # it ended before it read; its exit status says why
                out, err = self._collect(process, time.monotonic() + self._source.timeout)
                status = process.wait()
                if fetches and status == 127:  # the shell's own: it has not found it
                    raise _not_installed()
                # Git dies without a word when the server closes the connection while it still writes.
                return Answer(status, out, err.decode("utf-8", "replace") or ("Broken pipe" if status == -signal.SIGPIPE else ""))
            except BaseException:
                _end(process)
                raise

    def _collect(self, process: subprocess.Popen[bytes], deadline: float) -> Tuple[bytes, bytes]:
        """Both outputs, neither of them endless: a server decides how much a command prints."""
        out, err = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            for pipe, collected in ((process.stdout, out), (process.stderr, err)):
                if pipe:
                    selector.register(pipe, selectors.EVENT_READ, collected)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._too_late()
                for key, _events in selector.select(left):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.data is err and len(err) > (1 << 16):
                        del err[: 1 << 15]
                        err += chunk
                    else:
                        key.data.extend(chunk)
                if len(out) > self._limits.output_bytes:
                    raise Refused(f"Git's answer is longer than {self._limits.output_bytes:,} bytes", self._source.url)
        try:
            process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            raise self._too_late() from None
        return bytes(out), bytes(err)

    def _too_late(self) -> Failure:
        return Failure(f"no answer within {self._source.timeout} seconds", self._source.url, "Check the network, or raise git_timeout.")


def _not_installed() -> Failure:
    return Failure("the program git isn't installed", "git", "Install Git 2.32 or later where this runs.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """First politely, so that Git removes its temporary files; the whole group, so that no helper stays."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            continue
    _released(process, time.monotonic() + 1)


def _released(process: subprocess.Popen[bytes], deadline: float) -> None:
    """A killed helper is nobody's child here and ends a moment later: then its end of the pipes is closed with all else it held."""
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _events in selector.select(max(deadline - time.monotonic(), 0)):
                if not os.read(key.fd, 1 << 16):
                    selector.unregister(key.fileobj)
