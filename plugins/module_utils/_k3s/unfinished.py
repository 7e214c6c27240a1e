# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that was interrupted has left to do, as files on the node tell the next one."""

from __future__ import annotations

import contextlib
import json
import os
from typing import List

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import HOME, files

PENDING = os.path.join(HOME, "pending")  # why k3s must restart; it survives a run that was killed in between
UPGRADING = os.path.join(HOME, "upgrading")  # while it is there, the program that replaced the previous one has not come up yet


def pending() -> List[str]:
    """Why k3s still has to restart since an earlier run."""
    text = files.read(PENDING)
    try:
        return [str(reason) for reason in json.loads(text)] if text else []
    except ValueError:
        return ["an earlier run was interrupted"]


def set_pending(reasons: List[str]) -> None:
    files.write_whole(PENDING, json.dumps(reasons))


def clear_pending() -> None:
    _forget(PENDING)


def is_upgrading() -> bool:
    return os.path.exists(UPGRADING)


def set_upgrading(version: str) -> None:
    files.write_whole(UPGRADING, f"{version}\n")


def clear_upgrading() -> None:
    _forget(UPGRADING)


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
