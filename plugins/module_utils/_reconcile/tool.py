# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run kustomize or helm on a copy of a repository's files, cut off from the network, the user's files and plugins."""

from __future__ import annotations

import fcntl
import os
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import MIB, OPTION, Bounds

MAX_OUTPUT = Bounds().size * MIB

_NO_MEMORY = re.compile(r"^(fatal error|runtime): .*(out of memory|cannot allocate memory)", re.MULTILINE)
_OURS = "nordic.gitops-"
ABANDONED = 60  # seconds after which a folder without a lock is nobody's any more


class Tool(NamedTuple):
    """A binary that was found, and what tells it from another version without running it."""

    path: str
    stamp: str


def find(wanted: str, names: Sequence[str], option: str, purpose: str) -> Tool:
    """The binary given by the option, or the first of the names on PATH."""
    import shutil

    for name in (wanted,) if wanted else names:
        path = shutil.which(os.path.expanduser(name))
        if path:
            path = os.path.abspath(path)
            status = os.stat(path)
            return Tool(path, f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}")
    searched = f"{wanted} is not an executable file" if wanted else f"{' or '.join(names)} is not on PATH"
    raise Failure(f"{purpose} needs {' or '.join(names)}, and {searched}", hint=f"Install it, or give its path by `{option}`.")


def run(tool: Tool, arguments: List[str], folder: str, home: str, timeout: float, allowed: Sequence[str] = (),
        bounds: Optional[Bounds] = None) -> Tuple[bytes, str, int]:
    """Its output, its words on stderr and its exit code; more time, memory or output than allowed is a Failure. It reads and writes the
    folder that holds both of the folders named, and nothing else."""
    own = os.path.commonpath((folder, home))
    output, memory = (bounds.size * MIB, bounds.memory * MIB) if bounds else (MAX_OUTPUT, Bounds().memory * MIB)
    policy = _sandbox.Policy(
        program=tool.path, write=(own,), remove=(own,), allowed=_name(tool) in allowed,
        limits=_sandbox.Limits(seconds=timeout, memory=memory, output=output, file=output))
    ended = _sandbox.run([tool.path, *arguments], policy, folder, _environment(home))
    if ended.status and _NO_MEMORY.search(ended.err):
        raise Failure(f"{_name(tool)} needed more than {memory >> 20} MiB of memory", hint=f"It was stopped. {OPTION}")
    return ended.out, ended.err, ended.status


def protection(tool: Tool, allowed: Sequence[str]) -> str:
    """The sandbox that a tool runs in here."""
    return _sandbox.protection_for(_sandbox.Policy(program=tool.path, allowed=_name(tool) in allowed))


def _name(tool: Tool) -> str:
    return os.path.basename(tool.path)


def _environment(home: str) -> Dict[str, str]:
    """Nothing of ours: no credentials, no plugins, no git on PATH to clone with, proxies that lead nowhere."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.path.join(home, "bin"),
        "HOME": home,
        "TMPDIR": home,
        "XDG_CACHE_HOME": home,
        "XDG_CONFIG_HOME": home,
        "XDG_DATA_HOME": home,
        "HELM_CACHE_HOME": home,
        "HELM_CONFIG_HOME": home,
        "HELM_DATA_HOME": home,
        "HELM_PLUGINS": os.path.join(home, "plugins"),
        "KUSTOMIZE_PLUGIN_HOME": os.path.join(home, "plugins"),
        "KUBECONFIG": os.devnull,
        "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "ALL_PROXY": nowhere, "NO_PROXY": "",
        "http_proxy": nowhere, "https_proxy": nowhere, "all_proxy": nowhere, "no_proxy": "",
        "LANG": "C.UTF-8",
    }


class Scratch:
    """A private folder for one run: the repository's files, and a home with nothing in it. Removed afterwards."""

    def __init__(self) -> None:
        import tempfile

        self.folder = os.path.realpath(tempfile.mkdtemp(prefix=_OURS))
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.home = os.path.join(self.folder, "home")
        self.repository = os.path.join(self.folder, "repository")
        for folder in (self.home, self.repository):
            os.mkdir(folder, 0o700)

    def __enter__(self) -> Scratch:
        _sweep(os.path.dirname(self.folder))
        return self

    def __exit__(self, *_exception: object) -> None:
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def write(self, path: str, data: bytes) -> str:
        """Put one file of the repository there; the path must already be known to stay inside."""
        target = os.path.join(self.repository, *path.split("/"))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
        return target

    def keep(self, name: str, data: bytes) -> str:
        """Put a file beside the repository, under a name of our own; its path."""
        path = os.path.join(self.home, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        return path

    def words(self, text: str) -> str:
        """A tool's message with the repository's paths in it instead of the scratch folder's."""
        return text.replace(self.repository + os.sep, "").replace(self.repository, ".").strip()


def _sweep(parent: str) -> None:
    """Remove the folders of runs that were killed together with what would have removed them: no process holds their locks."""
    import shutil
    import time

    for entry in os.scandir(parent):
        try:
            if not entry.name.startswith(_OURS) or not entry.is_dir(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < ABANDONED:
                continue  # somebody else's, or so new that its lock may not be held yet
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)
        except OSError:
            pass  # in use
        finally:
            os.close(lock)
