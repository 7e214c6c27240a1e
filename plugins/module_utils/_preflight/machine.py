# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in which a Linux machine tells about itself, below a root folder: "/" or one that a test has laid out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import List, Tuple

# The longest file read here is modules.dep, about 1 MB. A read of 4 MB or more from /proc/sys is refused (KMALLOC_MAX_SIZE).
LIMIT = 2 * 1024 * 1024


@dataclass(frozen=True)
class Machine:
    """Reads files; what is not there, or not for us, is empty."""

    root: str = "/"
    architecture: str = field(default_factory=lambda: os.uname().machine)

    def path(self, name: str) -> str:
        return os.path.join(self.root, name.lstrip("/"))

    def bytes(self, name: str) -> bytes:
        try:
            with open(self.path(name), "rb") as file:
                return file.read(LIMIT)
        except OSError:
            return b""

    def text(self, name: str) -> str:
        return self.bytes(name).decode("utf-8", "replace").strip().strip("\0")

    def lines(self, name: str) -> List[str]:
        return self.text(name).splitlines()

    def number(self, name: str, default: int = -1) -> int:
        try:
            return int(self.text(name).split()[0])
        except (ValueError, IndexError):
            return default

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def names(self, folder: str) -> List[str]:
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    def link(self, name: str) -> str:
        """Where a symbolic link points, as it is written."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""

    def target(self, name: str) -> str:
        """The same file without a symbolic link in its path, seen from the root."""
        real, root = os.path.realpath(self.path(name)), os.path.realpath(self.root)
        return "/" + os.path.relpath(real, root)

    @property
    def release(self) -> str:
        return self.text("proc/sys/kernel/osrelease")

    def kernel(self) -> Tuple[int, int]:
        """Major and minor of the release; (0, 0) when it says none."""
        numbers = self.release.split("-")[0].split("+")[0].split(".")
        try:
            return int(numbers[0]), int(numbers[1])
        except (ValueError, IndexError):
            return 0, 0

    def mounts(self) -> List[Mount]:
        """/proc/self/mountinfo, see proc_pid_mountinfo(5)."""
        found = []
        for line in self.lines("proc/self/mountinfo"):
            before, _separator, after = line.partition(" - ")
            fields, source = before.split(), after.split()
            if len(fields) >= 5 and len(source) >= 2:
                found.append(Mount(fields[2], _unescaped(fields[4]), source[0], _unescaped(source[1]), source[2] if len(source) > 2 else ""))
        return found

    def mount_of(self, folder: str) -> Mount:
        """The mount that a folder lies on: the last one with the longest path."""
        found = Mount("0:0", "/", "unknown", "unknown", "")
        for mount in self.mounts():
            if folder == mount.path or folder.startswith(mount.path.rstrip("/") + "/"):
                if len(mount.path) >= len(found.path):
                    found = mount
        return found


@dataclass(frozen=True)
class Mount:
    device: str
    path: str
    kind: str
    source: str
    options: str


def _unescaped(text: str) -> str:
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, plain)
    return text
