# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run kustomize or helm on a copy of a repository's files, cut off from the network, the user's files and plugins."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

MAX_OUTPUT = 64 * 1024 * 1024
MAX_ERROR_TEXT = 64 * 1024
MAX_MEMORY = 8 * 1024 * 1024 * 1024  # address space; Go reserves far more than it uses


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


def run(tool: Tool, arguments: List[str], folder: str, home: str, timeout: float) -> Tuple[bytes, str, int]:
    """Its output, its words on stderr and its exit code; more time or output than allowed is a Failure."""
    name = os.path.basename(tool.path)
    process = subprocess.Popen(
        [tool.path, *arguments], cwd=folder, env=_environment(home), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )
    try:
        _limit_memory(process.pid)
        output, errors = _read(process, name, timeout)
        return output, errors.decode("utf-8", "replace"), process.wait()
    finally:
        _end(process)


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


def _limit_memory(pid: int) -> None:
    try:
        import resource

        resource.prlimit(pid, resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    except (ImportError, AttributeError, OSError, ValueError):
        pass  # not Linux, already ended, or a lower limit holds: the time limit remains


def _read(process: subprocess.Popen, name: str, timeout: float) -> Tuple[bytes, bytes]:
    deadline = time.monotonic() + timeout
    parts: Dict[str, List[bytes]] = {"output": [], "errors": []}
    sizes = {"output": 0, "errors": 0}
    with selectors.DefaultSelector() as selector:
        for stream, key in ((process.stdout, "output"), (process.stderr, "errors")):
            selector.register(stream, selectors.EVENT_READ, key)  # type: ignore[arg-type]
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if left <= 0:
                raise Failure(f"{name} did not end within {timeout:g} seconds", hint="It was stopped.")
            for key_, _events in ready:
                chunk = os.read(key_.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key_.fileobj)
                    continue
                sizes[key_.data] += len(chunk)
                if sizes["output"] > MAX_OUTPUT:
                    raise Failure(f"{name} wrote more than {MAX_OUTPUT >> 20} MiB", hint="It was stopped.")
                if key_.data == "output" or sizes["errors"] <= MAX_ERROR_TEXT:
                    parts[key_.data].append(chunk)
    return b"".join(parts["output"]), b"".join(parts["errors"])


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


class Scratch:
    """A private folder for one run: the repository's files, and a home with nothing in it. Removed afterwards."""

    def __init__(self) -> None:
        import tempfile

        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="nordic.gitops-"))
        self.home = os.path.join(self.folder, "home")
        self.repository = os.path.join(self.folder, "repository")
        for folder in (self.home, self.repository):
            os.mkdir(folder, 0o700)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_exception: object) -> None:
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, path: str, data: bytes) -> str:
        """Put one file of the repository there; the path must already be known to stay inside."""
        target = os.path.join(self.repository, *path.split("/"))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
        return target

    def words(self, text: str) -> str:
        """A tool's message with the repository's paths in it instead of the scratch folder's."""
        return text.replace(self.repository + os.sep, "").replace(self.repository, ".").strip()
