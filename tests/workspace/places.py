# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the checkout, and the state folder outside of it that every checkout of this machine shares."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


class Problem(Exception):
    """Something the person at the keyboard can act on."""


def state() -> Path:
    """The state folder: NORDIC_CACHE, else the user's cache folder."""
    chosen = os.environ.get("NORDIC_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser().resolve() / "nordic.gitops"


def of_this_checkout() -> Path:
    """The part of the state that belongs to this checkout alone; two clones never meet here."""
    return state() / "checkouts" / hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]


def say(line: str) -> None:
    """One line of progress, apart from what a command prints on stdout."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path, waiting: str = ""):
    """Hold an exclusive lock on `path`; it ends with the process, however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
