# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an object goes: with what it made (cascade), or without (orphan). Nothing of it is taken for done before it is seen to be gone."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow, operation
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import IN_CLUSTER, Body
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

# With one of these on an Application, Argo CD deletes what it made before the Application goes.
RESOURCES_FINALIZER = "resources-finalizer.argocd.argoproj.io"
TRACKING_ID = "argocd.argoproj.io/tracking-id"
POLL = 0.2


def remove(cluster: Any, resource: Any, live: Body, how: str, seconds: float, clock: Callable[[], float] = time.monotonic,
           sleep: Callable[[float], None] = time.sleep) -> List[str]:
    """Delete an object and wait until it is gone; the objects that were released, which are in nobody's charge any more."""
    key = follow.key_of(live)
    if live["kind"] == "Application":
        live = follow.change(cluster, resource, key, lambda body: _finalizers(body, how), live["metadata"]["uid"]) or live
    propagation = "Orphan" if live["kind"] == "ApplicationSet" and how == "orphan" else "Background"
    try:
        cluster.delete(resource, *key, live["metadata"]["uid"], propagation=propagation)
    except ApiError as error:
        if not error.stale:
            raise
        raise Failure(follow.MADE_AGAIN, resource.where(*key), "Run it again.") from None
    end = clock() + seconds
    while True:
        left = cluster.get(resource, *key)
        if left is None or left["metadata"]["uid"] != live["metadata"]["uid"]:
            break
        if clock() > end:
            raise Failure(_stuck(left, seconds), resource.where(*key), "Does Argo CD's application controller run, and does it reach the destination?")
        sleep(POLL)
    return _released(cluster, live) if live["kind"] == "Application" and how == "orphan" else []


def _finalizers(live: Body, how: str) -> Optional[List[Body]]:
    """The JSON patch after which Argo CD deletes what it made, or leaves it in place."""
    there = live["metadata"].get("finalizers") or []
    ours = [name for name in there if name.partition("/")[0] == RESOURCES_FINALIZER]
    wanted = [name for name in there if name not in ours] if how == "orphan" else there if ours or how != "cascade" else [*there, RESOURCES_FINALIZER]
    if wanted == there:
        return None
    return [{"op": "add", "path": "/metadata/finalizers", "value": wanted}]


def _stuck(left: Mapping[str, Any], seconds: float) -> str:
    finalizers = ", ".join(left["metadata"].get("finalizers") or ()) or "none"
    troubles = "; ".join(follow.troubles(dict(left)))
    return f"is still there {seconds:.0f} s after it was deleted; finalizers left: {finalizers}" + (f". Argo CD says: {troubles}" if troubles else "")


def _released(cluster: Any, app: Body) -> List[str]:
    """Take the Application's mark off its objects: the next owner would be told that they are shared, and a new one of this name owned them."""
    destination = (app.get("spec") or {}).get("destination") or {}
    if destination.get("server") not in (IN_CLUSTER, None) or destination.get("name") not in ("in-cluster", None):
        return []
    released: List[str] = []
    for each in operation.status_of(app).get("resources") or ():
        group, version = each.get("group") or "", each.get("version") or "v1"
        found = cluster.discover().find(f"{group}/{version}" if group else version, each["kind"])
        live = cluster.get(found, each.get("namespace") or "", each["name"]) if found else None
        if live is None or not _is_marked(live, app):
            continue
        follow.change(cluster, found, follow.key_of(live), lambda body: follow.annotated(body, {TRACKING_ID: None}) if _is_marked(body, app) else None,
                      live["metadata"]["uid"])
        released.append(found.where(each.get("namespace") or "", each["name"]))
    return released


def _is_marked(live: Body, app: Body) -> bool:
    mark = (live["metadata"].get("annotations") or {}).get(TRACKING_ID, "")
    namespace, name = follow.key_of(app)
    return bool(mark.partition(":")[0] in (name, f"{namespace}_{name}"))
