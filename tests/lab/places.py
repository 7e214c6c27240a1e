# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things; all of it outside the source tree."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from pathlib import Path
from typing import Set

HERE = Path(__file__).resolve().parent


def cache() -> Path:
    """Shared by all checkouts of this user: NORDIC_CACHE, or nordic.gitops in the XDG cache folder."""
    named = os.environ.get("NORDIC_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "nordic.gitops"


def default_state(kind: str = "clusters") -> Path:
    """The folder of this checkout's detached cluster (or its hosts); another checkout has another one."""
    checkout = hashlib.sha256(str(HERE).encode()).hexdigest()[:10]
    return cache() / kind / checkout


_given: Set[int] = set()


def free_port() -> int:
    """A port nobody listens on now.

    From below the ephemeral range (Linux: 32768 and up), so no outgoing connection can take it between this
    look and the server's bind; another server still can, so whoever starts one tries again with another port.
    None is given twice in a process: of nine for one etcd, two would be the same in one of 300 starts.
    """
    for _attempt in range(200):
        port = random.SystemRandom().randrange(20000, 32000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise OSError("no free port between 20000 and 32000 on 127.0.0.1")
