# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a verified database in the place of the live one, on the server that restores; set the live one aside, on all others.

Each step leaves a mark that names the snapshot, so that a run that was killed is finished by the next one, and none of it is done twice:
restoring again what was restored would throw away what was written since.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from typing import Any, Dict, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.scratch import Place, _alone, _write, staged

MARK = "nordic-restored.json"
# What makes two databases of different clusters: k3s ends when these differ from what is in its database.
AUTHORITIES = ("server-ca.crt", "client-ca.crt", "request-header-ca.crt", "service.key", "etcd/server-ca.crt", "etcd/peer-ca.crt")


def mark(place: Place) -> Dict[str, Any]:
    """Which snapshot this server was restored from, and as what; empty when it never was."""
    try:
        with open(os.path.join(place.server, "db", MARK), encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, ValueError):
        return {}


def is_done(place: Place, digest: str) -> bool:
    return mark(place).get("digest") == digest


def put_in_place(place: Place, digest: str, running: bool) -> Optional[str]:
    """The staged database becomes the live one. Where the one before is kept; None when there was none."""
    _refuse_running(running)
    with _alone(place):
        if staged(place, digest) is None:
            raise Failure("no verified database of this snapshot is kept here", place.scratch, "Use `state: staged` on this server first.")
        new = os.path.join(place.scratch, "server")
        if not _same_authorities(place, new):
            for name in ("tls", "cred"):
                _exchange(os.path.join(place.server, name), os.path.join(new, name), digest)
        aside = _exchange(place.database, os.path.join(new, "db", "etcd"), digest)
        _mark(place, digest, "restored")
        shutil.rmtree(place.scratch, ignore_errors=True)
    return aside


def set_aside(place: Place, digest: str, running: bool) -> Optional[str]:
    """This server forgets its database, and joins the restored cluster when it starts."""
    _refuse_running(running)
    with _alone(place):
        aside = _exchange(place.database, None, digest)
        _mark(place, digest, "joined")
    return aside


def forget(place: Place) -> int:
    """Remove the databases that restores set aside; how many there were."""
    folders = []
    for folder in (place.server, os.path.join(place.server, "db")):
        folders += [os.path.join(folder, name) for name in os.listdir(folder) if ".before-" in name] if os.path.isdir(folder) else []
    for path in folders:
        shutil.rmtree(path)
    return len(folders)


def _exchange(live: str, new: Optional[str], digest: str) -> Optional[str]:
    """Renames alone: whoever is killed between them finds one of the two under its name."""
    aside = f"{live}.before-{digest[:12]}"
    moved = None
    if os.path.exists(live) and (new is None or os.path.exists(new)):
        # The first one set aside for this snapshot is the one worth keeping: a later one is what a killed run had put in place.
        if os.path.exists(aside):
            shutil.rmtree(live)
        else:
            os.rename(live, aside)
            moved = aside
    if new is not None and os.path.exists(new):
        os.rename(new, live)
    return moved


def _same_authorities(place: Place, new: str) -> bool:
    for name in AUTHORITIES:
        ours, theirs = os.path.join(place.server, "tls", name), os.path.join(new, "tls", name)
        if not (os.path.exists(ours) and os.path.exists(theirs) and filecmp.cmp(ours, theirs, shallow=False)):
            return False
    return True


def _mark(place: Place, digest: str, step: str) -> None:
    path = os.path.join(place.server, "db", MARK)
    _write(f"{path}.part", json.dumps({"digest": digest, "step": step}))
    os.replace(f"{path}.part", path)


def _refuse_running(running: bool) -> None:
    if running:
        raise Refused("k3s runs on this server", "etcd", "Stop it on ALL servers first; playbooks/restore.yml does it in the right order.")
