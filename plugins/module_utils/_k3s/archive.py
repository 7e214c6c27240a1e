# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of container images. k3s imports all its forms when it starts; a containerd that runs takes a plain tar alone."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import shutil
import subprocess
from typing import IO, Any, Callable, Dict, Iterator, cast

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY

HERE: Dict[str, Callable[..., Any]] = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tbz": bz2.open}
BY_PROGRAM = {".tar.zst": "zstd", ".tzst": "zstd", ".tar.lz4": "lz4", ".tlz4": "lz4"}


def form_of(name: str) -> str:
    """The ending by which k3s knows it. Any other file in its folder it would silently leave alone."""
    found = [ending for ending in (*HERE, *BY_PROGRAM) if name.lower().endswith(ending)]
    if not found:
        raise Failure("is not an archive that k3s imports", name, f"Its name must end with {', '.join((*HERE, *BY_PROGRAM))}.")
    return found[0]


def waits_for_a_start(name: str) -> bool:
    """Whether this host has nothing to unpack it with but k3s itself."""
    program = BY_PROGRAM.get(form_of(name))
    return bool(program) and shutil.which(str(program)) is None


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[IO[bytes]]:
    form = form_of(path)
    if form in HERE:
        with HERE[form](path, "rb") as stream:
            yield stream
        return
    with subprocess.Popen([BY_PROGRAM[form], "-d", "-c", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield cast(IO[bytes], process.stdout)


def take(path: str) -> str:
    """Import it into the containerd of the k3s that runs here. Why that one does not take it, or nothing."""
    command = [BINARY, "ctr", "--namespace", "k8s.io", "images", "import", "--all-platforms", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        broken = ""
        try:
            with cast(IO[bytes], process.stdin) as tar, unpacked(path) as content:
                shutil.copyfileobj(content, tar, 1 << 20)
        except BrokenPipeError:
            pass  # it says why itself
        except (OSError, EOFError) as error:
            broken = f"cannot be unpacked: {error}"
        said = cast(IO[bytes], process.stdout).read().decode("utf-8", "replace").strip()
    return broken or (f"containerd does not take it: {said[-300:]}" if process.returncode else "")
