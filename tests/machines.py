# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines laid out as files: a root folder with what a test says of /proc, /sys, /run and /etc."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Union

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine

FIRST = {"pid": "pid:[4026531836]", "user": "user:[4026531837]"}
OTHER = {"pid": "pid:[4026532800]", "user": "user:[4026532801]"}


def lay_out(root: Path, files: Mapping[str, Union[str, bytes]], links: Optional[Mapping[str, str]] = None, architecture: str = "x86_64",
            own: bool = True) -> Machine:
    """own: PID 1 is in the kernel's own namespaces, and PID 2 is the kernel's."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    namespaces = {f"proc/1/ns/{kind}": target for kind, target in (FIRST if own else OTHER).items()}
    for name, target in {**namespaces, **(links or {})}.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    if own:
        (root / "proc/2").mkdir(parents=True, exist_ok=True)
        (root / "proc/2/comm").write_text("kthreadd\n")
    return Machine(str(root), architecture)


def mountinfo(*mounts: str) -> str:
    """Lines of /proc/self/mountinfo, each "DEVICE PATH KIND SOURCE OPTIONS"."""
    lines = []
    for mount in mounts:
        device, path, kind, source, options = (mount.split() + ["rw"])[:5]
        lines.append(f"25 1 {device} / {path} rw,relatime shared:1 - {kind} {source} {options}")
    return "\n".join(lines)
