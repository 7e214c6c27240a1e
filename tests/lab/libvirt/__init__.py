# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a real libvirt and QEMU, apart from the machine's own: mounts, processes and network of its own. Linux, root.

    with VirtHost.start() as host:
        libvirt.open(host.uri).listAllDomains()

Its guests reach it, one another and this machine, and that is all. It ends with the `with` block, and also when this process ends in any other way.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping, Optional

from lab import build, places, processes
from lab.cluster import Supervised
from lab.errors import LabError
from lab.libvirt import guest

PROGRAMS = ("libvirtd", "qemu-system-x86_64", "qemu-img", "dnsmasq", "xorriso", "unshare", "mount", "ip", "debootstrap",
            "sfdisk", "mkfs.vfat", "mcopy", "objcopy")
PYTHON = "libvirt-python==12.8.0"


def impediment() -> str:
    """Why this machine cannot have it; empty when it can."""
    if not sys.platform.startswith("linux"):
        return f"libvirt needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "the lab's libvirt needs root (mounts, network namespaces)"
    missing = [program for program in PROGRAMS if not (shutil.which(program) or Path("/usr/sbin", program).exists())]
    return f"{', '.join(missing)} is not installed; bindep.txt names the packages (profile test)" if missing else ""


def python(say: build.Say = build.silent) -> Path:
    """A folder with libvirt-python, compiled for this Python when it is not there. It is for PYTHONPATH: only who has libvirt needs it."""
    digest = hashlib.sha256((sys.version + PYTHON).encode()).hexdigest()[:12]
    folder = places.cache() / "libvirt" / f"python-{digest}"
    if folder.exists():
        return folder
    with build.locked(folder.with_suffix(".lock"), "libvirt-python", say):
        if not folder.exists():
            made = folder.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps", "--quiet", f"--target={made}", PYTHON]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, preexec_fn=processes.dying_with_us())
            if done.returncode:
                raise LabError(f"libvirt-python could not be installed; the end of what pip said:\n{(done.stdout + done.stderr)[-3000:]}")
            made.rename(folder)
    return folder


def library() -> Any:
    """libvirt-python, which is in no environment of ours."""
    if str(python()) not in sys.path:
        sys.path.append(str(python()))
    return importlib.import_module("libvirt")


class VirtHost(Supervised):
    """Attributes: uri, images (the folder of the pool default), libvirt (the library), state, seconds."""

    def __init__(self, state: Path, info: Mapping[str, Any], hold: Any = None) -> None:
        super().__init__(state, info, hold)
        self.uri = str(info["uri"])
        self.images = state / "images"
        self.libvirt = library()
        self._connection: Any = None

    def connect(self) -> Any:
        """libvirt's connection."""
        if self._connection is None:
            self._connection = self.libvirt.open(self.uri)
        return self._connection

    @classmethod
    def start(cls, state: Optional[Path] = None, detached: bool = False, say: build.Say = build.silent, owner: int = 0) -> "VirtHost":
        problem = impediment()
        if problem:
            raise LabError(problem)
        python(say)
        started: VirtHost = cls.launch("lab.libvirt.supervisor", guest.disk(), state, detached, say, owner, "nordic-virt-")
        return started

    @property
    def image(self) -> Path:
        """The disk image of a guest, made when it is not there."""
        return guest.make()
