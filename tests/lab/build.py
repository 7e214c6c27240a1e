# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the components into a cache that all checkouts share: taken from their projects' releases (releases.py), or built.

A finished binary is renamed into place, so it is there whole or not at all; an interrupted build goes on from
the finished binaries and from Go's own build cache. Two builds at once take turns, binary by binary.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from lab import golang, overlay, places, processes, releases
from lab.components import BINARIES, CLUSTER_BINARIES, Module
from lab.errors import LabError

HEARTBEAT = 15.0
Say = Callable[[str], None]


def print_line(line: str) -> None:
    """Progress as a line that a log shows at once."""
    print(line, flush=True)


def silent(_line: str) -> None:
    """For callers that show no progress."""


def folder_of(module: Module) -> Path:
    """Where the module's binaries are, or will be."""
    return places.cache() / "kubernetes" / f"{module.name}-{module.version}-{module.key}" / "bin"


def provided(binary: str) -> Optional[Path]:
    """The binary from KUBEBUILDER_ASSETS, the ecosystem's name for a folder of ready ones."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        return None
    path = Path(assets).expanduser().absolute() / binary
    return path if os.access(path, os.X_OK) and path.is_file() else None


def build(binaries: Iterable[str] = tuple(BINARIES), say: Say = print_line,
          table: Optional[Mapping[str, Module]] = None) -> Dict[str, Path]:
    """Binary -> path; builds what is neither provided nor cached."""
    table = BINARIES if table is None else table
    wanted = list(binaries)
    unknown = [binary for binary in wanted if binary not in table]
    if unknown:
        raise LabError(f"unknown component {', '.join(unknown)}; there are {', '.join(table)}")
    paths: Dict[str, Path] = {}
    for binary in (name for name in table if name in wanted):
        ready = provided(binary)
        paths[binary] = ready if ready else cached(table[binary], binary, say)
    return paths


def bin_folder(binaries: Iterable[str] = CLUSTER_BINARIES, say: Say = print_line) -> Path:
    """One folder with a link to each binary, to be put on a PATH."""
    paths = build(binaries, say)
    key = hashlib.sha256("\0".join(f"{name}={path}" for name, path in sorted(paths.items())).encode()).hexdigest()[:16]
    folder = places.cache() / "kubernetes" / f"bin-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        if not (folder / name).exists():
            # Made aside and renamed: another process may look at this folder now.
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.symlink_to(path)
            temporary.replace(folder / name)
    return folder


def cached(module: Module, binary: str, say: Say = print_line) -> Path:
    """The module's binary in the cache: its project's own where there is one (releases.py), else built."""
    folder = folder_of(module)
    path = folder / binary
    # What was built stays in use: another binary would be loaded for nothing.
    if path.exists() and releases.way() != "download":
        return path
    taken = releases.official(module, binary, say)
    if taken:
        return taken
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{binary}.lock", f"{binary} {module.version}", say):
        if path.exists():
            return path
        for left in folder.glob(f".{binary}-*"):
            shutil.rmtree(left)  # by a build that was killed
        go_build(module, binary, path, say)
    return path


def tree(module: Module) -> Path:
    """The files of the module's release, in Go's cache."""
    go = golang.toolchain(module.go, silent, module.toolchain)
    answer = subprocess.run([str(go.path), "mod", "download", "-json", module.path], cwd=module.folder, env=go.env(), capture_output=True, text=True,
                            check=False)
    if answer.returncode:
        raise LabError(f"go mod download {module.path}: {answer.stderr.strip() or answer.stdout.strip()}")
    return Path(json.loads(answer.stdout)["Dir"])


@contextlib.contextmanager
def locked(file: Path, what: str, say: Say, heartbeat: float = HEARTBEAT) -> Iterator[None]:
    """Hold the lock of this file; the kernel lets it go when the process ends, however it ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        begin = time.monotonic()
        told = -heartbeat
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - begin
                if waited - told >= heartbeat:
                    say(f"  {what}: another process makes it, waiting ({waited:.0f} s)")
                    told = waited
                time.sleep(0.1)
        yield


def go_build(module: Module, binary: str, target: Path, say: Say) -> None:
    """Build into this file, which appears when it is whole; whoever calls holds its lock."""
    go = golang.toolchain(module.go, say, module.toolchain)
    package = dict(module.packages)[binary]
    begin = time.monotonic()
    say(f"  {binary} {module.version}: building with Go {go.version}")
    # We hold this binary's lock, so what is aside belongs to a build that was killed.
    for left in target.parent.glob(f".{binary}-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{binary}-", dir=target.parent) as scratch:
        output = Path(scratch) / binary
        # -v names each package when its compilation starts: the sign of life of a build of minutes.
        env = go.env(module.cgo)
        overlaid: Tuple[str, ...] = ()
        if module.overlay:
            overlaid = ("-overlay", str(overlay.write(module, go, Path(scratch))))
            env.update(overlay.ENV)
        command = [str(go.path), "build", "-v", *module.flags, *overlaid, "-o", str(output), package]
        code, words = run(command, module.folder, env, binary, say)
        if code:
            raise LabError(f"{binary} {module.version} could not be built; `{shlex.join(command)}` in {module.folder} ended with "
                           f"{code}:\n" + "\n".join(words[-20:]))
        output.replace(target)
    say(f"  {binary} {module.version}: built in {time.monotonic() - begin:.0f} s")


def run(command: List[str], folder: Path, env: Mapping[str, str], name: str, say: Say) -> Tuple[int, List[str]]:
    """Run a compiler, with a line every now and then; its exit code and its words."""
    begin = told = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
                               preexec_fn=processes.dying_with_us())
    words: List[str] = []
    reader = threading.Thread(target=lambda: words.extend(line.rstrip() for line in process.stdout or ()), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            time.sleep(0.1)
            now = time.monotonic()
            if now - told >= HEARTBEAT:
                told = now
                say(f"  {name}: {now - begin:.0f} s, {_doing(list(words))}")
    finally:
        processes.end(process)
        reader.join(5)
    return process.returncode, words


def _doing(words: List[str]) -> str:
    """What `go build -v` does now: it names a module when it fetches it, and a package when it begins to compile it."""
    packages = [word for word in words if not word.startswith("go: ")]
    if not words:
        return "reading, or linking what Go's cache has"
    if not packages:
        return f"{len(words)} modules fetched, now {words[-1].replace('go: downloading ', '')}"
    return f"{len(packages)} packages compiled, now {packages[-1]}"
