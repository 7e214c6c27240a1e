# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one setting of the machine that hosts need otherwise: how many inotify instances root may have, all its containers together.

The kernel's default of 128 is enough for three hosts with k3s; in the fourth, containerd says "too many open files" and no pod starts.
It is raised while hosts run and put back when the last ones end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

SETTING = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 4096
# What it was, as long as it is raised.
BEFORE = Path("/run/lab-hosts-inotify")


def raise_them() -> int:
    """The hold on the raised limit: keep it open. Whoever ends without a word (SIGKILL) lets it go as well; lower() of the next one puts it back."""
    hold = os.open(SETTING, os.O_RDONLY)
    # The setting's own file is the lock, shared by all sets of hosts, so there is none to be left.
    fcntl.flock(hold, fcntl.LOCK_SH)
    now = SETTING.read_text()
    if int(now) < ENOUGH:
        # Two sets at the same moment: the first one saw the true value.
        with contextlib.suppress(FileExistsError), BEFORE.open("x") as file:
            file.write(now)
        SETTING.write_text(f"{ENOUGH}\n")
    return hold


def lower(hold: int) -> None:
    """Give up the hold; the last one puts the setting back."""
    os.close(hold)
    restore()


def restore() -> None:
    """Put the setting back if nobody needs it raised."""
    own = os.open(SETTING, os.O_RDONLY)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        SETTING.write_text(BEFORE.read_text())
        BEFORE.unlink()
    except (BlockingIOError, FileNotFoundError):
        pass  # others have hosts, or it never was raised
    finally:
        os.close(own)
