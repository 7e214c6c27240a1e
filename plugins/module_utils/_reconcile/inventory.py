# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects belong to one reconcile: an ApplySet (KEP-3659), whose parent object is also the lock of its writers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Ref

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resource

VERSION = "1.0.0"
PART_OF = "applyset.kubernetes.io/part-of"
ID = "applyset.kubernetes.io/id"
TOOLING = "applyset.kubernetes.io/tooling"
GROUP_KINDS = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
COMMIT = "nordic.gitops/commit"
SOURCE = "nordic.gitops/source"
ORIGIN = "nordic.gitops/origin"
IN_NAMESPACE = " namespace "  # before the namespace in an origin
HOLDER = "nordic.gitops/holder"
BEAT = "nordic.gitops/heartbeat"
HOOKS = "nordic.gitops/hooks"  # what hooks.py has on record; an older version of this collection, which ran none, wrote no such key
# What the lists on record consist of; anything else was not written by us.
_RECORDED = {GROUP_KINDS: re.compile(r"[A-Za-z][-A-Za-z0-9]*(\.[-a-z0-9.]+)?"), NAMESPACES: re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")}

PREFIX = "nordic-gitops-"
READERS = 8
RENEW_SECONDS = 5.0
# A holder on another machine whose heartbeat stands still for so long is dead; measured on our own clock, so skew is no matter.
EXPIRE_SECONDS = 15.0
POLL_SECONDS = 0.5


class Moved(Exception):
    """Another reconcile of the same name wrote since the plan was made: plan again."""


class Inventory:
    """The parent object of one reconcile, as last read. Not shared between threads but for the heartbeat."""

    def __init__(self, cluster: Cluster, resource: Resource, name: str, namespace: str, source: str = "") -> None:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,198}[a-z0-9])?", name):
            raise Failure(f"name is {name!r}",
                          hint="Use lower-case letters, digits, '-' and '.', at most 200 characters: it becomes part of a ConfigMap's name.")
        self.cluster, self.resource = cluster, resource
        self.source = source  # the repository and path that the objects come from, and the namespace for those that state none
        self.name, self.namespace = PREFIX + name, namespace
        self.id = _id_of(self.name, namespace)
        self.ref = Ref("", "ConfigMap", namespace, self.name)
        self.live: Optional[Body] = None
        self.held = False
        self.empty = False  # by recover: it could look, and the set has no object of any kind that Git has
        self.renewed = 0.0  # when, on our clock, the parent was last written
        self._found_kinds: Set[Tuple[str, str]] = set()  # by recover
        self._found_namespaces: Set[str] = set()
        self._hooks: Optional[str] = None  # what is on record of hooks from now on; None: what was
        self._me = f"{socket.gethostname()}/{_boot()}/{os.getpid()}/{_born(os.getpid())}/{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._beat: Optional[threading.Thread] = None
        self._beats = 0
        self._lost = ""
        self._guard = threading.Lock()

    # ---- reading

    def read(self) -> Inventory:
        """Read the parent object; refuses a parent that another tool made."""
        found, _version = self.cluster.list(self.resource, self.namespace, name=self.name)
        self.live = found[0] if found else None
        if self.live is not None:
            tooling = self._annotation(TOOLING)
            if tooling and not tooling.startswith("nordic.gitops/"):
                raise Failure(f"is the parent of an ApplySet of {tooling}", str(self.ref), "Choose another name.")
            stated = (self.live["metadata"].get("labels") or {}).get(ID)
            if stated and stated != self.id:
                raise Failure(f"its label {ID} is {stated}, not {self.id}", str(self.ref), "Somebody changed it: set it back.")
        return self

    @property
    def selector(self) -> str:
        return f"{PART_OF}={self.id}"

    @property
    def labels(self) -> Dict[str, str]:
        return {PART_OF: self.id}

    @property
    def kinds(self) -> Set[Tuple[str, str]]:
        """(group, kind) of what may be in the set."""
        result = set(self._found_kinds)
        for text in self._recorded(GROUP_KINDS):
            kind, _dot, group = text.partition(".")
            result.add((group, kind))
        return result

    @property
    def namespaces(self) -> Set[str]:
        """The namespaces that may hold objects of the set."""
        return self._found_namespaces | set(self._recorded(NAMESPACES))

    def _recorded(self, key: str) -> List[str]:
        return [text for text in self._annotation(key).split(",") if _RECORDED[key].fullmatch(text)]

    def _is_damaged(self, key: str) -> bool:
        """Whether a list on record was taken away, or holds what can be no kind or namespace."""
        annotations = ((self.live or {}).get("metadata") or {}).get("annotations") or {}
        return key not in annotations or any(text and not _RECORDED[key].fullmatch(text) for text in annotations[key].split(","))

    def recover(self, resources: Iterable[Resource], wanted: Iterable[Resource], namespaces: Set[str]) -> None:
        """Look for the set's objects everywhere when somebody took the record of their kinds or namespaces off the parent, made
        nonsense of it, or deleted the parent while objects are still there: what Git no longer has would never be found again.

        wanted, namespaces: the kinds and namespaces that Git has now.
        """
        if not self._is_damaged(GROUP_KINDS) and not self._is_damaged(NAMESPACES):
            return
        everywhere = self.namespaces | namespaces | {self.namespace}
        with ThreadPoolExecutor(READERS) as pool:
            if self.live is None:
                members = list(pool.map(lambda resource: self._members(resource, everywhere), wanted))
                if not any(members):  # a first run
                    self.empty = None not in members
                    return
            kinds = {(item.group, item.kind): item for item in resources if {"list", "delete"} <= set(item.verbs)}
            for kind, found in zip(kinds, pool.map(lambda resource: self._members(resource, everywhere), kinds.values())):
                if found:
                    self._found_kinds.add(kind)
                    self._found_namespaces.update({item["metadata"].get("namespace") or "" for item in found} - {""})

    def _members(self, resource: Resource, namespaces: Iterable[str]) -> Optional[List[Body]]:
        """The set's objects of one kind, None where this user may see none: what it may not see it never wrote."""
        for places in [[""], sorted(namespaces)] if resource.namespaced else [[""]]:
            try:
                return [item for place in places
                        for item in self.cluster.list(resource, place, self.selector, metadata_only=True)[0]]
            except Failure as error:
                if error.status not in (403, 404, 405):
                    raise
        return None

    def dry_run(self) -> None:
        """Ask the server's dry run whether the parent could be written."""
        body = self._parent(self.kinds, self.namespaces, self._annotation(COMMIT), self._annotation(SOURCE), self._me)
        try:
            self.cluster.apply(self.resource, body, dry_run=True)
        except Failure as error:
            raise self._unwritable(error) from None

    def refuse_own_parent(self, intents: Iterable[Any]) -> None:
        """Refuse a repository that holds this very parent: it would overwrite its own record."""
        for intent in intents:
            if intent.ref == self.ref:
                raise Failure("is the inventory of this reconcile itself", f"{intent.where}: {intent.ref}",
                              "Remove it from the repository, or choose another name.")

    def _unwritable(self, error: Failure) -> Failure:
        if error.status == 404:
            error.hint = "Create this namespace first, or set inventory_namespace to one that exists."
        return error

    @property
    def commit(self) -> str:
        return self._annotation(COMMIT)

    @property
    def other_source(self) -> str:
        """The repository, path and namespace on record, where they are not those of this run. Without a namespace all objects state theirs."""
        recorded = self._annotation(ORIGIN)
        old, _in, old_namespace = recorded.partition(IN_NAMESPACE)
        new, _in, new_namespace = self.source.partition(IN_NAMESPACE)
        moved = old != new or old_namespace != new_namespace and bool(old_namespace and new_namespace)
        return recorded if self.source and moved else ""

    @property
    def hooks(self) -> Optional[str]:
        """What is on record of hooks; None where no version that runs hooks wrote the parent."""
        annotations = ((self.live or {}).get("metadata") or {}).get("annotations") or {}
        found = annotations.get(HOOKS)
        return found if isinstance(found, str) else None

    def enforces(self, commit: str, source: str) -> bool:
        """Whether the last complete run enforced exactly this, and nobody is at work now: there is nothing to record."""
        return self.enforced(commit, source) and not self._found_kinds and not self._annotation(HOLDER)

    def enforced(self, commit: str, source: str) -> bool:
        """Whether the last complete run enforced exactly this; a later one may have begun to mend what somebody changed since."""
        return (self.live is not None and self._annotation(COMMIT) == commit and self._annotation(SOURCE) == source
                and self._annotation(ORIGIN) == self.source)

    def _annotation(self, key: str) -> str:
        return ((self.live or {}).get("metadata", {}).get("annotations") or {}).get(key, "")

    # ---- writing

    def lock(self, kinds: Iterable[Tuple[str, str]], namespaces: Iterable[str], timeout: float,
             clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
             progress: Callable[[str], None] = lambda text: None, hooks: Optional[str] = None) -> None:
        """Become the one writer, with the union of the old and the new kinds on record before anything is applied, and the hooks.

        So a run that dies leaves nothing that the next one cannot find. Raises Moved when the plan must be made again,
        Failure when another run stays at work for longer than timeout (seconds).
        """
        if self._annotation(HOLDER):
            self._await_holder(timeout, clock, sleep, progress)
            raise Moved()
        self._hooks = hooks
        body = self._parent(self.kinds | set(kinds), self.namespaces | set(namespaces),
                            self._annotation(COMMIT), self._annotation(SOURCE), self._me)
        try:
            self.live = self._write(body, self._seen() if self.live else "")
        except Failure as error:
            if error.status == 409:
                self.read()
                raise Moved() from None
            raise self._unwritable(error) from None
        self.held = True
        self._stop.clear()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True)
        self._beat.start()

    def check_lock(self) -> None:
        """Stop at once when another run took the lock over, or may have: it found this one silent for too long."""
        if self.held and self._is_stale():
            with self._guard:
                if not self._lost and self._is_stale():
                    self._renew()
                    if not self._lost and self._is_stale():
                        self._lost = "could not renew the lock: the API server did not answer in time"
        self._not_lost()

    def _not_lost(self) -> None:
        if self._lost:
            raise Failure(self._lost, str(self.ref), "Run it again: the next run finishes what this one began.")

    @property
    def is_lost(self) -> bool:
        """Whether another run took the lock over, or may have."""
        return bool(self._lost)

    def _is_stale(self) -> bool:
        return time.monotonic() - self.renewed > EXPIRE_SECONDS - RENEW_SECONDS

    def commit_record(self, commit: str, source: str, kinds: Iterable[Tuple[str, str]], namespaces: Iterable[str], hooks: str = "") -> None:
        """Record what is now enforced, and which hooks came to their end, and unlock."""
        self._hooks = hooks
        self._let_go(lambda: self._parent(set(kinds), set(namespaces), commit, source, "", origin=self.source))

    def unlock(self) -> None:
        """Unlock after a failure: what was on record stays, so that the next run finds everything."""
        self._let_go(lambda: self._parent(self.kinds, self.namespaces, self._annotation(COMMIT), self._annotation(SOURCE), ""))

    @contextlib.contextmanager
    def locked(self, kinds: Iterable[Tuple[str, str]], namespaces: Iterable[str], timeout: float, progress: Callable[[str], None],
               hooks: Optional[str] = None) -> Iterator[None]:
        """Be the one writer within; the body records what it did by commit_record(), or the record stays as it was. hooks: those that it begins."""
        self.lock(kinds, namespaces, timeout, progress=progress, hooks=hooks)
        try:
            yield
        except BaseException:
            with contextlib.suppress(Failure):  # the first error is the one to tell
                self.unlock()
            raise

    def _let_go(self, body: Callable[[], Body]) -> None:
        if not self.held:
            return
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        self._not_lost()
        self.live = self._write(body(), self._seen())
        self.held = False

    def _seen(self) -> str:
        """The resourceVersion that a write is bound to: the parent as we know it."""
        return (self.live or {})["metadata"]["resourceVersion"]

    def _write(self, body: Body, seen: str) -> Body:
        """Write the parent, bound to the version that was seen ("": not there yet), so that only one of two writers can."""
        began = time.monotonic()
        try:
            if seen:
                body["metadata"]["resourceVersion"] = seen
                result = self.cluster.apply(self.resource, body, force=True)[0]
            else:
                result = self.cluster.create(self.resource, body)
        except Failure as error:
            if error.status != 409 or not error.lost:
                raise
            # The request was repeated because its answer was lost: it may have met what it wrote itself.
            result = self.cluster.get(self.resource, self.namespace, self.name) or {"metadata": {}}
            found = result["metadata"].get("annotations") or {}
            if any(found.get(key) != value for key, value in body["metadata"]["annotations"].items()):
                raise
        self.renewed = began
        return result

    def _heartbeat(self) -> None:
        while not self._stop.wait(RENEW_SECONDS) and not self._lost:
            with self._guard:
                self._renew()

    def _renew(self) -> None:
        """Say that this run is alive; finds out when another one took over."""
        self._beats += 1
        body = self._parent(self.kinds, self.namespaces, self._annotation(COMMIT), self._annotation(SOURCE), self._me, self._beats)
        try:
            self.live = self._write(body, self._seen())
        except Failure as error:
            if error.status in (404, 409):
                self._lost = "another reconcile of the same name took over, since this one did not answer for too long"
            # Anything else may pass: the next beat tries again, well before the lock expires.

    def _parent(self, kinds: Set[Tuple[str, str]], namespaces: Set[str], commit: str, source: str, holder: str,
                beat: int = 0, origin: str = "") -> Body:
        annotations = {
            TOOLING: f"nordic.gitops/v{VERSION}",
            **_record(kinds, namespaces),
            COMMIT: commit, SOURCE: source, ORIGIN: origin or self._annotation(ORIGIN) or self.source, HOLDER: holder, BEAT: str(beat) if holder else "",
        }
        hooks = self.hooks if self._hooks is None else self._hooks
        if hooks is not None:
            annotations[HOOKS] = hooks
        # Every key is written each time, if only empty: what the creating POST set, an apply that left it out would not remove.
        return {"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": self.name, "namespace": self.namespace, "labels": {ID: self.id},
                             "annotations": annotations}}

    def _await_holder(self, timeout: float, clock: Callable[[], float], sleep: Callable[[float], None],
                      progress: Callable[[str], None]) -> None:
        """Return when the holder let go or is dead (its mark is then taken off); raise after timeout."""
        begin = looked = clock()
        silent = 0.0
        version = self.live["metadata"]["resourceVersion"] if self.live else ""
        progress(f"waiting for another reconcile of {self.name[len(PREFIX):]} ({self._annotation(HOLDER)})")
        while self.live is not None and self._annotation(HOLDER):
            now = clock()
            current = self.live["metadata"]["resourceVersion"]
            # Only what we watched counts: while the API server answered nobody, the holder could not show that it lives.
            silent = silent + min(now - looked, 2 * POLL_SECONDS) if current == version else 0.0
            version, looked = current, now
            if _is_dead(self._annotation(HOLDER)) or silent > EXPIRE_SECONDS:
                body = self._parent(self.kinds, self.namespaces, self._annotation(COMMIT), self._annotation(SOURCE), "")
                try:
                    self.live = self._write(body, current)
                except Failure as error:
                    if error.status != 409:
                        raise
                    self.read()  # it let go by itself, and ended, after we had read
            elif now - begin > timeout:
                raise Failure(f"another reconcile of this name is at work: {self._annotation(HOLDER)}", str(self.ref),
                              "Wait for it to end, or raise wait_timeout.")
            else:
                sleep(POLL_SECONDS)
                self.read()


def _record(kinds: Iterable[Tuple[str, str]], namespaces: Iterable[str]) -> Dict[str, str]:
    return {
        GROUP_KINDS: ",".join(sorted(f"{kind}.{group}" if group else kind for group, kind in kinds)),
        # The specification implies the parent's own namespace; saying it too tells an empty set from one that lives there.
        NAMESPACES: ",".join(sorted(namespaces)),
    }


def _id_of(name: str, namespace: str) -> str:
    """The id of the ApplySet whose parent is this ConfigMap, as KEP-3659 makes it."""
    digest = hashlib.sha256(f"{name}.{namespace}.ConfigMap.".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def reconcile_of(cluster: Cluster, set_id: str, namespace: str) -> str:
    """The reconcile that an id belongs to, in words for a message: from its parent, which is looked for in a namespace, then in all."""
    for place in (namespace, ""):
        try:
            found = cluster.list(cluster.resource("v1", "ConfigMap"), place, f"{ID}={set_id}", metadata_only=True)[0]
        except Failure:
            continue  # this user may not look there
        for item in found:
            name, home = item["metadata"]["name"], item["metadata"]["namespace"]
            if name.startswith(PREFIX) and _id_of(name, home) == set_id:
                return f"the reconcile {name[len(PREFIX):]} (inventory_namespace {home})"
    return f"another ApplySet ({set_id}), whose parent was not found"


def source_digest(*parts: Any) -> str:
    """A short fingerprint of everything beside the commit that decides the intent."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _boot() -> str:
    """What tells one boot (and one process namespace) of a machine from another: a pid means nothing elsewhere."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()[:8]}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "-"


def _born(pid: int) -> str:
    """The start time of a process in clock ticks, "" when it does not run (pids are used again)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return ""


def _is_dead(holder: str) -> bool:
    """Whether a holder on this very machine is known to have ended."""
    host, boot, pid, born = (holder.split("/") + [""] * 4)[:4]
    return host == socket.gethostname() and boot == _boot() != "-" and re.fullmatch("[0-9]{1,10}", pid) is not None and _born(int(pid)) != born
