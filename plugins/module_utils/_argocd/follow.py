# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applications as they change, and what proves that a status was computed after we asked for it.

A status carries no number that says which change it answers. What is known: Argo CD 3.6 and later takes the two annotations of a refresh
away only when they are the ones that it read before it compared. An earlier one takes the first away and leaves the second, which it does
not know; for that one only a reconciledAt later than the second of our own request is proof.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import operation
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import Body
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Expired
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

REFRESH = "argocd.argoproj.io/refresh"
REFRESH_TIMESTAMP = "argocd.argoproj.io/refresh-timestamp"
TRIES = 20  # how often a write is tried while others write the object
MADE_AGAIN = "was deleted and made again by somebody else meanwhile"
ROUND = 30.0  # seconds after which a watch is opened anew

Key = Tuple[str, str]


class Asked(NamedTuple):
    """A refresh that was asked for: its own stamp, and the second at which the API server had it."""

    stamp: str
    at: datetime
    version: int = 0  # of the object with our annotations; an older one knows nothing of them


def key_of(body: Mapping[str, Any]) -> Key:
    """(namespace, name)"""
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


def follow(cluster: Any, resource: Any, wanted: Set[Key], until: float, clock: Callable[[], float] = time.monotonic,
           tick: float = ROUND, sleep: Callable[[float], None] = time.sleep) -> Iterator[Dict[Key, Body]]:
    """The wanted Applications as they are now, and again after each change and each tick, until the time is up; one that is gone is missing."""
    namespaces = {namespace for namespace, _name in wanted}
    namespace = min(namespaces) if len(namespaces) == 1 else ""
    known: Dict[Key, Body] = {}
    pause = 0.0
    while True:
        items, version = cluster.list(resource, namespace)
        known = {key_of(item): item for item in items if key_of(item) in wanted}
        yield dict(known)
        while clock() < until:
            began, left, expired = clock(), min(tick, until - clock()), False
            watch = cluster.watch(resource, namespace, "", version, left)
            try:
                for event, body in watch:
                    version = body["metadata"].get("resourceVersion") or version
                    if event == "BOOKMARK" or key_of(body) not in wanted:
                        if clock() > until:
                            break
                        continue
                    if event == "DELETED":
                        known.pop(key_of(body), None)
                    else:
                        known[key_of(body)] = body
                    yield dict(known)
            except Expired:
                expired = True
            finally:
                watch.close()
            # A server that ends each watch at once, or answers 410 to each, must not be asked without a pause.
            pause = 0.0 if clock() - began > min(left, 1.0) / 2 else min(5.0, pause * 2 or 0.1)
            if pause:
                sleep(max(0.0, min(pause, until - clock())))
            if expired:
                break
            yield dict(known)  # what depends on the time alone is looked at again
        if clock() >= until:
            return


def change(cluster: Any, resource: Any, key: Key, operations: Callable[[Body], Optional[List[Body]]], uid: str = "",
           dry_run: bool = False) -> Optional[Body]:
    """Write an object as it is now, by what `operations` makes of it (None: nothing); again when somebody else wrote meanwhile.
    uid: of the object that was judged; another one of its name is not touched. dry_run: have the server judge it, and write nothing."""
    for _try in range(TRIES):
        live = cluster.get(resource, *key)
        if live is None:
            raise Failure("is not there", resource.where(*key))
        if uid and live["metadata"]["uid"] != uid:
            raise Failure(MADE_AGAIN, resource.where(*key), "Run it again.")
        wanted = operations(live)
        if not wanted:
            return live
        version = live["metadata"]["resourceVersion"]
        try:
            found: Body = cluster.patch(resource, *key, [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *wanted], dry_run=dry_run)
            return found
        except ApiError as error:
            if not error.stale and error.status not in (409, 422):
                raise
            last = error
    raise last


def annotated(live: Body, values: Mapping[str, Optional[str]]) -> List[Body]:
    """The JSON patch that sets annotations, or takes away (None) those that are there."""
    there = live["metadata"].get("annotations")
    found: List[Body] = [] if there is not None else [{"op": "add", "path": "/metadata/annotations", "value": {}}]
    for name, value in values.items():
        path = "/metadata/annotations/" + name.replace("~", "~0").replace("/", "~1")
        if value is not None:
            found.append({"op": "add", "path": path, "value": value})
        elif name in (there or {}):
            found.append({"op": "remove", "path": path})
    return found


def refresh(cluster: Any, resource: Any, key: Key, hard: bool, stamp: Optional[str] = None) -> Asked:
    """Ask Argo CD to look at an Application anew; hard: also at the repository, whatever it has in its cache."""
    stamp = stamp or datetime.now(timezone.utc).isoformat()
    live = change(cluster, resource, key, lambda body: annotated(body, {REFRESH: "hard" if hard else "normal", REFRESH_TIMESTAMP: stamp}))
    return Asked(stamp, _written_at(live or {}), version_of(live or {}))


def version_of(live: Body) -> int:
    """The resourceVersion, which the versions of one object can be ordered by (KEP-5504)."""
    text = str(live["metadata"].get("resourceVersion", ""))
    return int(text) if re.fullmatch("[0-9]{1,20}", text) else 0  # str.isdigit() takes signs that int() does not


def _written_at(live: Body) -> datetime:
    """When the API server had our annotations, by its own clock."""
    for entry in live["metadata"].get("managedFields") or ():
        if f"f:{REFRESH_TIMESTAMP}" in ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations", {}):
            return moment(entry.get("time")) or datetime.now(timezone.utc)
    return datetime.now(timezone.utc)


def is_fresh(live: Body, asked: Asked) -> bool:
    """Whether the status was computed after the refresh was asked for."""
    annotations = live["metadata"].get("annotations") or {}
    if REFRESH in annotations:
        return False
    if annotations.get(REFRESH_TIMESTAMP) == asked.stamp or made_by(live):
        # It does not know the second one; or who rewrites the object took both away.
        reconciled = moment((live.get("status") or {}).get("reconciledAt"))
        return reconciled is not None and reconciled > asked.at
    return True


def made_by(live: Body) -> str:
    """The ApplicationSet that makes this Application, "" for any other."""
    for owner in live["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == "ApplicationSet" and str(owner.get("apiVersion", "")).startswith("argoproj.io/"):
            return str(owner.get("name"))
    return ""


def moment(text: Any) -> Optional[datetime]:
    """A time as Kubernetes writes it."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except (TypeError, ValueError):
        return None


def troubles(live: Body) -> List[str]:
    """What Argo CD says is wrong with an Application: conditions whose type ends in Error, each with its text."""
    status = operation.status_of(live)
    found = [f"{condition.get('type')}: {operation.without_reason(condition.get('message') or '')}" for condition in status.get("conditions") or ()
             if str(condition.get("type", "")).endswith("Error")]
    if not found and (status.get("sync") or {}).get("status") == "Unknown":
        found.append("its sync status is Unknown")
    return found
