# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of one repository in the cache, shared with other processes that may be killed at any moment.

    <cache>/<hash of the URL>/lock       held by the one process that changes something
                             /current    a link to the generation in use, replaced in one step
                             /<name>     a generation: a bare repository; in-use in it is locked (shared) by each reader

A generation is only ever added to. Whatever is wrong with it, the remedy is the same: fetch into a new one, switch the link,
and remove the old one once no reader holds it. So a process killed at any moment leaves at worst a folder to sweep away.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import time
from contextlib import contextmanager
from typing import IO, Iterator, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import check_private, make_private

_GENERATION = re.compile(r"^[0-9a-f]+-[0-9]+$")


class Cache:
    """One repository's place in the cache, and the generation that this process holds on to."""

    def __init__(self, root: str, url: str, timeout: int) -> None:
        self._root = root
        self._url = url
        self._timeout = timeout
        self._home = os.path.join(root, hashlib.sha256(url.encode()).hexdigest()[:32])
        self._in_use: Optional[IO[bytes]] = None
        self.folder = ""  # the generation, "" while there is none

    def enter(self) -> None:
        """Hold on to the current generation, if there is one; whoever wants to remove it sees that."""
        if os.path.lexists(self._home):
            check_private(self._home, "git_cache")
        for _race in range(10):
            try:
                name = os.readlink(os.path.join(self._home, "current"))
            except OSError:
                name = ""
            folder = os.path.join(self._home, name)
            if not _GENERATION.match(name):
                return self._hold("", None)
            if folder == self.folder:
                return None
            try:
                handle = open(os.path.join(folder, "in-use"), "rb")
            except OSError:
                return self._hold("", None)
            fcntl.flock(handle, fcntl.LOCK_SH)
            # The one who removes a generation takes in-use away first, under the lock: still there means it will stay.
            if os.path.exists(handle.name):
                return self._hold(folder, handle)
            handle.close()
        return self._hold("", None)

    def leave(self) -> None:
        self._hold("", None)

    def _hold(self, folder: str, handle: Optional[IO[bytes]]) -> None:
        if self._in_use:
            self._in_use.close()
        self.folder, self._in_use = folder, handle

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process that changes this repository's folder. The kernel lets go of the lock when a process dies, however it dies."""
        try:
            make_private(self._home, "git_cache")
            handle = open(os.path.join(self._home, "lock"), "ab")
        except OSError as error:
            raise Failure(
                f"the cache can't be used: {error.strerror}", error.filename or self._root, "Give a folder of your own as git_cache."
            ) from None
        with handle:
            deadline = time.monotonic() + self._timeout
            while not _locked(handle):
                if time.monotonic() > deadline:
                    raise Failure(
                        f"another process has been fetching this repository for more than {self._timeout} seconds",
                        self._url,
                        f"Wait for it to end, or raise git_timeout. The lock is {handle.name}.",
                    )
                time.sleep(0.05)
            yield

    def new_generation(self) -> str:
        """A folder for the next generation, not yet made. Only for the one who is alone."""
        return os.path.join(self._home, f"{time.time_ns():x}-{os.getpid()}")

    def switch(self, folder: str) -> None:
        """Make that generation the current one, in one step, and enter it."""
        link = os.path.join(self._home, "current")
        _remove(link + ".new")
        os.symlink(os.path.basename(folder), link + ".new")
        os.replace(link + ".new", link)
        self.enter()

    def sweep(self) -> None:
        """Remove every generation that is neither current nor held by a reader. Only for the one who is alone."""
        import shutil

        for name in os.listdir(self._home):
            folder = os.path.join(self._home, name)
            if not _GENERATION.match(name) or folder == self.folder:
                continue
            try:
                with open(os.path.join(folder, "in-use"), "rb") as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(handle.name)
            except FileNotFoundError:
                pass  # its maker was killed, or its remover
            except OSError:
                continue  # somebody reads it
            # The Git of a killed process may still be writing there; what it leaves is swept by the next one.
            shutil.rmtree(folder, ignore_errors=True)


def _locked(handle: IO[bytes]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise Failure(f"the mirror can't be locked: {error.strerror}", handle.name, "Give a folder on a local disk as git_cache.") from None
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
