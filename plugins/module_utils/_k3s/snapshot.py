# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of this server's etcd: saved by k3s, found by name, copied to S3 encrypted, pruned, deleted.

k3s names a file NAME-NODE-EPOCH; NAME says which belong together. A copy has the same name, and .cms behind it when it is encrypted.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import cms, configuration, s3
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import Store
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.verification import Place, clean_environment, digest_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\Z")
FILE = re.compile(r"(?P<name>.+)-(?P<epoch>\d{9,11})(?P<zip>\.zip)?(?P<cms>\.cms)?\Z")
SAVE_TIMEOUT = 600
ROOM = 64 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """One file, here or in the store."""

    file: str
    size: int
    taken: int
    path: str = ""  # empty: in the store

    @property
    def encrypted(self) -> bool:
        return self.file.endswith(cms.SUFFIX)

    def result(self) -> Dict[str, Any]:
        return {"file": self.file, "size": self.size, "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.taken)),
                **({"path": self.path} if self.path else {"encrypted": self.encrypted})}


def node_of(place: Place) -> str:
    """This server's name in the cluster: etcd's member is named after it, with eight digits behind."""
    try:
        with open(os.path.join(place.database, "name"), encoding="utf-8") as stream:
            return re.sub(r"-[0-9a-f]{8}\Z", "", stream.read().strip())
    except OSError:
        return socket.gethostname().lower()


def folder_of(place: Place, given: Optional[str]) -> str:
    """Given, or where k3s is configured to keep them, or where it does by itself."""
    return given or configuration.snapshot_dir({**configuration.of_this_node(), "data-dir": place.data_dir})


def here(folder: str) -> List[Snapshot]:
    """All in the folder, the oldest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = []
    for file in names:
        path, form = os.path.join(folder, file), FILE.match(file)
        if form and not form.group("cms") and os.path.isfile(path):
            found.append(Snapshot(file, os.path.getsize(path), int(form.group("epoch")), path))
    return _in_order(found)


def there(store: Store) -> List[Snapshot]:
    found = []
    for item in store.list():
        form = FILE.match(item.name)
        if form:
            found.append(Snapshot(item.name, item.size, int(form.group("epoch"))))
    return _in_order(found)


def of_name(snapshots: Sequence[Snapshot], name: str, node: str = "") -> List[Snapshot]:
    """Those saved under a name on a node. Where the node is not known, those that may be: the name of another kind and of a node can look
    the same, and only their metadata tells (saved_by)."""
    head = f"{name}-{node}" if node else f"{name}-"
    return [one for one in snapshots if (FILE.match(one.file).group("name") == head if node else one.file.startswith(head))]  # type: ignore[union-attr]


def is_of_name(store: Store, snapshot: Snapshot, name: str) -> bool:
    """By the node that its copy's metadata names: nightly-prod of a and nightly of prod-a have the same file name."""
    found = store.head(snapshot.file)
    node = found[1].get("node") if found else None
    return not node or FILE.match(snapshot.file).group("name") == f"{name}-{node}"  # type: ignore[union-attr]


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise Failure(f"{name!r} cannot be a snapshot's name", "O(name)", "Letters, digits, dots, dashes and underscores, at most 101 of them.")
    return name


def refuse_unsaveable(place: Place, folder: str) -> None:
    """Raises when there is nothing to save here, or no room for it."""
    database = os.path.join(place.database, "member", "snap", "db")
    if not os.path.exists(database):
        raise Failure("this node has no embedded etcd", place.database, "Snapshots are saved on a server of a cluster with `cluster-init`.")
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    status = os.statvfs(folder)
    free, size = status.f_bavail * status.f_frsize, os.path.getsize(database)
    if free < size + ROOM:
        raise Failure(f"{free >> 20} MiB are free, and a snapshot of {size >> 20} MiB shall leave {ROOM >> 20}", folder,
                      "Make room: O(state=pruned) removes old snapshots.")


def save(place: Place, folder: str, name: str) -> Snapshot:
    """k3s' own `etcd-snapshot save`, and the proof that the file it wrote is whole."""
    refuse_unsaveable(place, folder)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    before = {one.file for one in here(folder)}
    said = _k3s(place, ["save", "--name", name, "--etcd-snapshot-dir", folder])
    new = [one for one in of_name(here(folder), name, node_of(place)) if one.file not in before]
    if not new:
        raise Failure(f"k3s saved no file of that name: {said}", folder)
    if not new[-1].file.endswith(".zip"):
        digest_of(new[-1].path)
    return new[-1]


def delete(place: Place, folder: str, snapshots: Sequence[Snapshot]) -> None:
    """By k3s where it runs, so that its own list of them (ETCDSnapshotFile) forgets them too."""
    if snapshots:
        try:
            _k3s(place, ["delete", "--etcd-snapshot-dir", folder, *(one.file for one in snapshots)])
        except Failure:
            pass  # k3s is down, or never knew them: the files go all the same
    for one in snapshots:
        try:
            os.unlink(one.path)
        except FileNotFoundError:
            pass


def copy_of(file: str, recipient: Optional[str]) -> str:
    return file + cms.SUFFIX if recipient else file


def upload(store: Store, snapshot: Snapshot, recipient: Optional[str], metadata: Dict[str, str]) -> None:
    """Encrypted beside the snapshot first, as its length and checksum must be known before the first byte is sent."""
    store.prepare(s3.requests_of_put(copy_of(snapshot.file, recipient), metadata))
    store.place()
    if not recipient:
        store.put(snapshot.file, snapshot.path, metadata)
        return
    with tempfile.TemporaryDirectory(prefix=".nordic-", dir=os.path.dirname(snapshot.path)) as scratch:
        sealed = os.path.join(scratch, copy_of(snapshot.file, recipient))
        cms.encrypt(snapshot.path, sealed, recipient)
        store.put(os.path.basename(sealed), sealed, metadata)


def download(store: Store, file: str, folder: str, private_key: Optional[str]) -> Snapshot:
    """Into the folder, decrypted; what is there already under that name is taken as it is."""
    form = FILE.match(file)
    if not form or "/" in file:
        raise Failure(f"{file!r} is not the name of a snapshot", "O(file)", "It ends in the time it was saved at, such as nightly-server1-1790000000.")
    plain = file[:-len(cms.SUFFIX)] if form.group("cms") else file
    target = os.path.join(folder, plain)
    if not os.path.exists(target):
        if form.group("cms") and not private_key:
            raise Failure("it is encrypted", str(store) + "/" + file, "Give the private key of its recipient by O(private_key).")
        store.prepare([s3.request("GET", file)])
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nordic-", dir=folder) as scratch:
            fetched = os.path.join(scratch, file)
            store.get(file, fetched)
            if form.group("cms"):
                cms.decrypt(fetched, os.path.join(scratch, plain), private_key or "")
            os.replace(os.path.join(scratch, plain), target)
    return Snapshot(plain, os.path.getsize(target), int(form.group("epoch")), target)


def outdated(snapshots: Sequence[Snapshot], keep: int) -> List[Snapshot]:
    """All but the newest ones."""
    ordered = _in_order(snapshots)
    return ordered[:max(0, len(ordered) - keep)]


def _in_order(snapshots: Sequence[Snapshot]) -> List[Snapshot]:
    return sorted(snapshots, key=lambda one: (one.taken, one.file))


def _server() -> List[str]:
    """k3s itself asks port 6443, whatever its configuration says."""
    port = configuration.port(configuration.of_this_node())
    return [] if port == configuration.PORT else ["--etcd-server", f"https://127.0.0.1:{port}"]


def _k3s(place: Place, arguments: List[str]) -> str:
    try:
        done = subprocess.run([place.binary, "etcd-snapshot", *arguments, *_server(), "--data-dir", place.data_dir], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment(), timeout=SAVE_TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise Failure("there is no k3s here", place.binary, "Install it, or give its path by O(binary).") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"it did not end within {SAVE_TIMEOUT} s", f"k3s etcd-snapshot {arguments[0]}", "`journalctl -u k3s` tells more.") from error
    text = done.stdout.decode("utf-8", "replace").strip()
    last = text.splitlines()[-1] if text else f"exit code {done.returncode}"
    found = re.search(r'msg="((?:[^"\\]|\\.)*)"', last)
    if done.returncode:
        raise Failure(found.group(1) if found else last, f"k3s etcd-snapshot {arguments[0]}", "Does k3s run here? `journalctl -u k3s` tells more.")
    return found.group(1) if found else last
