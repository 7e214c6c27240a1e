# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules etcd_snapshot and etcd_snapshot_info do: one function for each state, each returns the module's result."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import restore, s3, snapshot, verification
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import Store
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.verification import Place
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.snapshot import Snapshot


class Request:
    """The module's options, read once. Nothing is asked of the store before a state needs it, but its region is judged at once."""

    def __init__(self, params: Mapping[str, Any], check_mode: bool, now: float) -> None:
        self.params = params
        self.check_mode = check_mode
        self.now = now
        self._aside: List[str] = []
        self.place = Place(params["data_dir"], params["binary"])
        self.folder = snapshot.folder_of(self.place, params["folder"])
        self.store = Store.of(params["s3"]) if params.get("s3") else None
        self.name = snapshot.check_name(params["name"]) if params.get("name") and params.get("state") != "discarded" else ""

    def saved(self) -> List[Snapshot]:
        return snapshot.of_name(snapshot.here(self.folder), self.name, snapshot.node_of(self.place))

    def copies(self, node: str) -> List[Snapshot]:
        return snapshot.of_name(snapshot.there(self.store), self.name, node) if self.store else []

    def own_copies(self) -> List[Snapshot]:
        """Copies that this server saved, as their metadata tells: to delete by a file's name alone might delete another server's."""
        return list(self._of_this_name(self.copies(snapshot.node_of(self.place))))

    def _of_this_name(self, copies: Sequence[Snapshot]) -> Iterator[Snapshot]:
        if self.store:
            self.store.prepare([s3.request("HEAD", one.file) for one in copies])
            yield from (one for one in copies if snapshot.is_of_name(self.store, one, self.name))

    def found(self) -> Snapshot:
        """The snapshot that `file` or `name` mean, fetched where it is only in the store."""
        file, key = self.params["file"], self.params["private_key"]
        if file and os.path.isabs(file):
            form = snapshot.FILE.match(os.path.basename(file))
            if not os.path.isfile(file):
                raise Failure("there is no such file", file)
            return Snapshot(os.path.basename(file), os.path.getsize(file), int(form.group("epoch")) if form else 0, file)
        known = {one.file: one for one in snapshot.here(self.folder)}
        if file:
            if file in known:
                return known[file]
            if not self.store:
                raise Failure(f"there is no snapshot {file}", self.folder, f"There are: {', '.join(known) or 'none'}.")
            return snapshot.download(self.store, file, self.room(), key)
        own = self.saved()
        if own:
            return own[-1]
        newest = next(self._of_this_name(list(reversed(self.copies("")))), None)
        if newest is None or self.store is None:
            raise Failure(f"there is no snapshot of the name {self.name}", str(self.store or self.folder), f"There are: {', '.join(known) or 'none'}.")
        return snapshot.download(self.store, newest.file, self.room(), key)

    def room(self) -> str:
        """Where a copy is downloaded to: where nothing is to be changed, a folder that is gone afterwards."""
        if not self.check_mode and self.params.get("state") != "verified":
            return self.folder
        folder = os.path.dirname(self.place.scratch)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        self._aside.append(tempfile.mkdtemp(prefix=".nordic-", dir=folder))
        return self._aside[-1]

    def close(self) -> None:
        for folder in self._aside:
            shutil.rmtree(folder, ignore_errors=True)


def present(request: Request) -> Dict[str, Any]:
    """A snapshot of this name, young enough, is here and (with s3) in the store."""
    fitting = request.saved()
    if request.params["max_age"] is not None:
        fitting = [one for one in fitting if request.now - one.taken <= request.params["max_age"]]
    saved = not fitting
    if saved and request.check_mode:
        snapshot.refuse_unsaveable(request.place, request.folder)
        return {"changed": True}
    one = snapshot.save(request.place, request.folder, request.name) if saved else fitting[-1]
    result: Dict[str, Any] = {"changed": saved, "snapshot": one.result()}
    if request.params["verify"]:
        result["content"] = verification.verify(request.place, one.path).result()
    if request.store:
        copy = snapshot.copy_of(one.file, request.params["recipient"])
        metadata: Dict[str, str] = {}
        if not request.check_mode:
            metadata = {"k3s-version": str(request.place.version()), "node": snapshot.node_of(request.place)}
            request.store.prepare(s3.requests_of_put(copy, metadata))
        missing = request.store.head(copy) is None
        if missing and not request.check_mode:
            snapshot.upload(request.store, one, request.params["recipient"], metadata)
        result.update(changed=saved or missing, copy={"file": copy, "url": f"{request.store}/{copy}"})
    return result


def absent(request: Request) -> Dict[str, Any]:
    """No snapshot of this name or file is left, here nor in the store."""
    if request.params["file"]:
        file = os.path.basename(request.params["file"])
        if os.path.dirname(request.params["file"]) not in ("", os.path.normpath(request.folder)):
            raise Refused("only snapshots in the folder of snapshots are deleted", request.params["file"], f"That is {request.folder}, by O(folder).")
        mine = [one for one in snapshot.here(request.folder) if one.file == file]
        copies = [one for one in snapshot.there(request.store) if one.file in (file, snapshot.copy_of(file, "yes"))] if request.store else []
    else:
        mine, copies = request.saved(), request.own_copies()
    return _removed(request, mine, copies)


def pruned(request: Request) -> Dict[str, Any]:
    """Only the newest of this name that this server saved are left."""
    keep = request.params["keep"]
    if keep < 1:
        raise Refused("this would leave no snapshot at all", "O(keep)", "Keep one at least; O(state=absent) removes all of a name.")
    return _removed(request, snapshot.outdated(request.saved(), keep), snapshot.outdated(request.own_copies(), keep))


def _removed(request: Request, mine: List[Snapshot], copies: List[Snapshot]) -> Dict[str, Any]:
    if not request.check_mode:
        if request.store:
            request.store.prepare([s3.request("DELETE", one.file) for one in copies])
        snapshot.delete(request.place, request.folder, mine)
        for one in copies:
            request.store.delete(one.file)  # type: ignore[union-attr]
    return {"changed": bool(mine or copies), "removed": [one.file for one in mine], "removed_copies": [one.file for one in copies]}


def verified(request: Request) -> Dict[str, Any]:
    """It restores and opens; what is in it."""
    one = request.found()
    content = verification.verify(request.place, one.path)
    _young_enough(request, content)
    return {"changed": False, "snapshot": one.result(), "content": content.result()}


def staged(request: Request) -> Dict[str, Any]:
    """Its database stands ready beside the live one, so that putting it in place takes no time. Nothing when it was restored already."""
    one = request.found()
    if not one.file.endswith(".zip"):
        digest = verification.digest_of(one.path)
        if restore.is_done(request.place, digest) and not request.params["again"]:
            return {"changed": False, "snapshot": one.result(), "digest": digest, "restored": True,
                    "authority": authority_of(request.place.data_dir)}
        ready = verification.staged(request.place, digest)
    else:
        ready = None
    if request.check_mode:
        content = ready or verification.verify(request.place, one.path)
    else:
        content = verification.verify(request.place, one.path, keep=True)
    verification.usable(content, request.place.version(), request.params["max_age"], request.now)
    restored = restore.is_done(request.place, content.digest) and not request.params["again"]
    return {"changed": ready is None and not restored, "snapshot": one.result(), "digest": content.digest, "content": content.result(),
            "restored": restored, "authority": authority_of(request.place.scratch) or authority_of(request.place.data_dir)}


def restored(request: Request) -> Dict[str, Any]:
    """The staged database is the live one; with join, this server has none and takes it from the others when it starts."""
    digest = request.params["digest"]
    if restore.is_done(request.place, digest) and not request.params["again"]:
        return {"changed": False}
    if request.check_mode:
        return {"changed": True}
    if request.params["join"]:
        aside = restore.set_aside(request.place, digest, runs(), request.now, request.params["authority"] or "")
    else:
        aside = restore.put_in_place(request.place, digest, runs(), request.now)
    return {"changed": True, "set_aside": aside}


def discarded(request: Request) -> Dict[str, Any]:
    """Databases that restores set aside are deleted: the one of this name, or all that are old enough."""
    name, age = request.params["name"], request.params["max_age"]
    chosen = [one for one in restore.listed(request.place)
              if (name is None or one.name == name) and (age is None or request.now - one.since > age)]
    if chosen and name is None and not os.path.isdir(os.path.join(request.place.database, "member")):
        raise Refused("this server has no live database, so one of these may be the only copy of the cluster's state", os.path.dirname(request.place.database),
                      "Finish the restore first, or delete each by its name.")
    if not request.check_mode:
        restore.discard(request.place, chosen)
    return {"changed": bool(chosen), "removed": [one.name for one in chosen]}


def info(request: Request) -> Dict[str, Any]:
    """All snapshots here and in the store, and what this server was restored from."""
    return {"changed": False, "node": snapshot.node_of(request.place), "snapshots": [one.result() for one in snapshot.here(request.folder)],
            "copies": [one.result() for one in snapshot.there(request.store)] if request.store else [], "restored": restore.mark(request.place),
            "set_aside": [one.result() for one in restore.listed(request.place)]}


def _young_enough(request: Request, content: verification.Content) -> None:
    limit = request.params["max_age"]
    if limit is not None and content.taken and request.now - content.taken > limit:
        raise Refused(f"its newest heartbeat is of {content.result()['taken']}, older than {limit} seconds", "the snapshot", "Save a new one.")


def runs() -> bool:
    """Whether k3s runs or starts here: by its unit, or by whoever listens where etcd does."""
    try:
        done = subprocess.run(["systemctl", "show", "--property=ActiveState", "--value", "k3s.service"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=False)
        if done.stdout.strip() in (b"active", b"activating", b"reloading", b"deactivating"):
            return True
    except (OSError, subprocess.TimeoutExpired):
        pass  # no systemd: the port tells
    for address in ("127.0.0.1", "::1"):
        try:
            with socket.create_connection((address, 2379), timeout=2):
                return True
        except OSError:
            continue
    return False


STATES = {"present": present, "absent": absent, "pruned": pruned, "verified": verified, "staged": staged, "restored": restored,
          "discarded": discarded}


def run(state: str, params: Mapping[str, Any], check_mode: bool, now: Optional[float] = None) -> Dict[str, Any]:
    request = Request({"state": state, **params}, check_mode, time.time() if now is None else now)
    try:
        return STATES[state](request)
    finally:
        request.close()
