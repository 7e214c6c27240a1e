# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's controllers (controller manager, scheduler, fake nodes), paused while somebody is measured.

What they do with 50 new Deployments takes the processors of a small machine for ten seconds, whoever made the Deployments. It would be
charged to whoever is measured meanwhile, or right after.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable, List

from .measure import Broken

# As the kernel names processes: 15 characters.
NAMES = ("kube-controller", "kube-scheduler", "kwok")
PATIENCE = 90.0


class Controllers:
    def __init__(self, supervisor: int):
        self._pids = [pid for pid in _children(supervisor) if _name(pid).startswith(NAMES)]
        if len(self._pids) != len(NAMES):
            raise Broken("expected %s among the children of process %d, found %s" % (", ".join(NAMES), supervisor, [_name(pid) for pid in self._pids]))

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def work_until(self, done: Callable[[], bool]) -> bool:
        """Let them work until `done` says so, and pause them again. False when that took too long."""
        self._send(signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline:
                break
            time.sleep(0.25)
        self.pause()
        return done()

    def _send(self, number: signal.Signals) -> None:
        for pid in self._pids:
            os.kill(pid, number)


def _children(parent: int) -> List[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in parentheses may hold spaces and parentheses itself; what follows the last one is plain.
            if int((folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def _name(pid: int) -> str:
    return Path("/proc/%d/comm" % pid).read_text(encoding="utf-8").strip()
