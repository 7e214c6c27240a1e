# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups of the hosts, the one thing of theirs that the kernel does not take away by itself.

With cgroup v1 a host needs one of its own in every hierarchy, or the kubelets of all hosts share one /kubepods.
With cgroup v2 one is enough; nspawn makes what it wants beneath it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Iterator, List

ROOT = Path("/sys/fs/cgroup")
PREFIX = "lab-hosts-"


def hierarchies() -> List[Path]:
    """Where cgroup file systems are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _dash, after = line.partition(" - ")
        folder = Path(before.split()[4])
        if after.split()[0] in ("cgroup", "cgroup2") and ROOT in (folder, *folder.parents):
            found.append(folder)
    return found


def create(group: str) -> List[Path]:
    """One cgroup of this name (SET/HOST) in every hierarchy; the files that a process writes 0 to in order to enter."""
    return [_create(hierarchy, group) / "cgroup.procs" for hierarchy in hierarchies()]


def _create(hierarchy: Path, group: str) -> Path:
    folder = hierarchy
    for part in Path(group).parts:
        if (folder / "cgroup.controllers").exists():
            with contextlib.suppress(OSError):
                # In the hybrid layout there is none to hand down.
                wanted = " ".join(f"+{name}" for name in (folder / "cgroup.controllers").read_text().split())
                (folder / "cgroup.subtree_control").write_text(wanted)
        parent, folder = folder, folder / part
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # v1: empty at first, and no process may enter before they are set.
            if (folder / setting).exists() and (folder / "cgroup.clone_children").exists():
                (folder / setting).write_text((parent / setting).read_text())
    return folder


def sets() -> Iterator[int]:
    """The numbers of the sets of hosts that have cgroups."""
    numbers = {folder.name[len(PREFIX):] for hierarchy in hierarchies() for folder in hierarchy.glob(f"{PREFIX}*")}
    return iter(sorted(int(number) for number in numbers if number.isdigit()))


def remove(name: str, within: float = 10.0) -> None:
    """Remove the cgroup of this name and all beneath it; their processes are dead, the kernel may need a moment to see it."""
    end = time.monotonic() + within
    for hierarchy in hierarchies():
        while not _remove(hierarchy / name) and time.monotonic() < end:
            time.sleep(0.05)


def _remove(top: Path) -> bool:
    if not top.exists():
        return True
    for folder, _folders, _files in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not top.exists()
