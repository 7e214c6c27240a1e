# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a verified database in the place of the live one, on the server that restores; set the live one aside, on all others.

No database is ever deleted here: each one that was live is renamed to `etcd.before-TIME-DIGEST`, TIME being when it was set aside and
DIGEST that of the snapshot which took its place. They are listed by etcd_snapshot_info and deleted by `discard` alone, when asked.

Each step leaves a mark that names the snapshot, so that a run that was killed is finished by the next one, and none of it is done twice:
restoring again what was restored would set aside what was written since.
"""

from __future__ import annotations

import calendar
import contextlib
import errno
import filecmp
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import PASSWORDS
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import write_whole
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.verification import Place, one_at_a_time, refuse_log_elsewhere, staged

MARK = "nordic-restored.json"
# What makes two databases of different clusters: k3s ends when these differ from what is in its database.
AUTHORITIES = ("server-ca.crt", "client-ca.crt", "request-header-ca.crt", "service.key", "etcd/server-ca.crt", "etcd/peer-ca.crt")
# With a file of this name k3s deletes the password of its own node at its next start: the one in the snapshot may be a lost host's.
RESET_FLAG = "reset-flag"
ASIDE = re.compile(r"etcd\.before-(?:(?P<time>\d{8}T\d{6}Z)(?:\.\d+)?-)?(?P<digest>[0-9a-f]{12})\Z")


@dataclass(frozen=True)
class Aside:
    """A database that was live until a restore."""

    name: str
    path: str
    since: float  # when it was set aside
    digest: str  # the first digits of the snapshot's that took its place

    def result(self) -> Dict[str, Any]:
        return {"name": self.name, "path": self.path, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since)), "digest": self.digest,
                "size": sum(os.path.getsize(os.path.join(folder, name)) for folder, _folders, names in os.walk(self.path) for name in names)}


def mark(place: Place) -> Dict[str, Any]:
    """Which snapshot this server was restored from, and as what; empty when it never was."""
    try:
        with open(os.path.join(place.server, "db", MARK), encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, ValueError):
        return {}


def is_done(place: Place, digest: str) -> bool:
    return mark(place).get("digest") == digest


def put_in_place(place: Place, digest: str, running: bool, now: float) -> Optional[str]:
    """The staged database becomes the live one. Where the one before is kept; None when there was none."""
    _refuse_running(running)
    refuse_mounted(place)
    refuse_log_elsewhere()
    with one_at_a_time(place):
        if staged(place, digest) is None:
            raise Failure("no verified database of this snapshot is kept here", place.scratch, "Use O(state=staged) on this server first.")
        new, suffix = os.path.join(place.scratch, "server"), _suffix(place, digest, now)
        if not _same_authorities(place, new):
            for name in ("tls", "cred"):
                _exchange(os.path.join(place.server, name), os.path.join(new, name), suffix)
        aside = _exchange(place.database, os.path.join(new, "db", "etcd"), suffix)
        # k3s ends when a file that is in its database too is newer on disk and another one. Without it, k3s writes it from the database.
        _exchange(os.path.join(place.data_dir, PASSWORDS), None, suffix)
        write_whole(os.path.join(place.server, "db", RESET_FLAG), "")
        _mark(place, digest, "restored")
        shutil.rmtree(place.scratch, ignore_errors=True)  # copies of what is elsewhere: the snapshot, certificates, configuration
    return aside


def set_aside(place: Place, digest: str, running: bool, now: float, authority: str = "") -> Optional[str]:
    """This server forgets its database, and joins the restored cluster when it starts. authority: the fingerprint of that cluster's CA;
    certificates of another one are set aside too, as k3s would not join with them."""
    _refuse_running(running)
    refuse_mounted(place)
    refuse_log_elsewhere()
    with one_at_a_time(place):
        suffix = _suffix(place, digest, now)
        if authority and authority_of(place.data_dir) not in (None, authority):
            for name in ("tls", "cred"):
                _exchange(os.path.join(place.server, name), None, suffix)
        aside = _exchange(place.database, None, suffix)
        _mark(place, digest, "joined")
    return aside


def listed(place: Place) -> List[Aside]:
    """The databases that restores set aside, the oldest first."""
    folder, found = os.path.dirname(place.database), []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        form, path = ASIDE.match(name), os.path.join(folder, name)
        if form and os.path.isdir(path):
            moment = form.group("time")
            since = calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ")) if moment else os.stat(path).st_ctime
            found.append(Aside(name, path, float(since), form.group("digest")))
    return sorted(found, key=lambda one: (one.since, one.name))


def discard(place: Place, databases: List[Aside]) -> None:
    """Delete databases that were set aside, with the certificates and passwords that were set aside with them."""
    with one_at_a_time(place):
        for one in databases:
            suffix = one.name[len("etcd"):]
            for path in (one.path, *(os.path.join(place.server, f"{name}{suffix}") for name in ("tls", "cred"))):
                if os.path.isdir(path):
                    shutil.rmtree(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(place.data_dir, PASSWORDS) + suffix)


def refuse_mounted(place: Place) -> None:
    """A mount point cannot be renamed. Asked before anything is stopped, too."""
    for path in (place.database, os.path.join(place.server, "tls"), os.path.join(place.server, "cred")):
        if os.path.ismount(path):
            raise Refused("is a mount point, which cannot be renamed, so the database in it could not be set aside", path,
                          f"Mount the file system at {os.path.dirname(path)} instead.")


def _suffix(place: Place, digest: str, now: float) -> str:
    """A name of its own for what is set aside now, whatever an earlier run left."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for number in range(1000):
        suffix = f".before-{moment}{f'.{number}' if number else ''}-{digest[:12]}"
        names = (place.database, *(os.path.join(place.server, name) for name in ("tls", "cred")), os.path.join(place.data_dir, PASSWORDS))
        if not any(os.path.lexists(path + suffix) for path in names):
            return suffix
    raise Failure("a thousand databases were set aside within this second", os.path.dirname(place.database), "Is the clock of this host stopped?")


def _exchange(live: str, new: Optional[str], suffix: str) -> Optional[str]:
    """Renames alone: whoever is killed between them finds one of the two under its name, and the other under another."""
    aside = None
    if os.path.exists(live) and (new is None or os.path.exists(new)):
        aside = live + suffix
        os.rename(live, aside)
    if new is not None and os.path.exists(new):
        _move(new, live)
    return aside


def _move(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # server/db is a file system of its own, and certificates lie outside of it.
        part = f"{target}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part, symlinks=True)
        os.rename(part, target)
        shutil.rmtree(source, ignore_errors=True)


def _same_authorities(place: Place, new: str) -> bool:
    for name in AUTHORITIES:
        ours, theirs = os.path.join(place.server, "tls", name), os.path.join(new, "tls", name)
        if not (os.path.exists(ours) and os.path.exists(theirs) and filecmp.cmp(ours, theirs, shallow=False)):
            return False
    return True


def _mark(place: Place, digest: str, step: str) -> None:
    write_whole(os.path.join(place.server, "db", MARK), json.dumps({"digest": digest, "step": step}))


def _refuse_running(running: bool) -> None:
    if running:
        raise Refused("k3s runs on this server", "etcd", "Stop it on ALL servers first; playbooks/restore.yml does it in the right order.")
