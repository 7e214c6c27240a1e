# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server may answer of the objects that we read: checked where it comes in, so that nothing behind it meets another type.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import Malformed
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line
from ansible_collections.nordic.gitops.plugins.module_utils._shape import MAPPING, NUMBER, SWITCH, TEXT, Shape, check

_SAID: Shape = {"status": TEXT, "message": TEXT}
_BY: Shape = {"username": TEXT, "automated": SWITCH}
_COMMITS: Dict[str, Shape] = {"revision": TEXT, "revisions": [TEXT]}
_OBJECT: Shape = {"kind!": TEXT, "name!": TEXT, "group": TEXT, "version": TEXT, "namespace": TEXT, "status": TEXT, "message": TEXT, "hook": SWITCH,
                  "hookType": TEXT, "hookPhase": TEXT, "requiresPruning": SWITCH, "health": _SAID}
_OPERATION: Shape = {"sync": _COMMITS, "initiatedBy": _BY, "retry": {"limit": NUMBER}, "info": [{"name": TEXT, "value": TEXT}]}
_SOURCE: Shape = {"repoURL": TEXT, "targetRevision": TEXT, "path": TEXT, "chart": TEXT, "ref": TEXT}
_PLACE: Shape = {"server": TEXT, "name": TEXT, "namespace": TEXT}
_CONTAINERS: Shape = [{"name!": TEXT, "state": {"waiting": {"reason": TEXT, "message": TEXT}}, "lastState": MAPPING}]
_WORKLOAD: Shape = {"spec": {"selector": {"matchLabels": {"*": TEXT}}}}

SHAPES: Mapping[Tuple[str, str], Shape] = {
    ("argoproj.io", "Application"): {
        "spec": {"project": TEXT, "source": _SOURCE, "sources": [_SOURCE], "destination": _PLACE,
                 "syncPolicy": {"automated": {"enabled": SWITCH}, "syncOptions": [TEXT], "retry": {"limit": NUMBER}}},
        "operation": _OPERATION,
        "status": {
            "sync": {"status": TEXT, **_COMMITS}, "health": _SAID, "reconciledAt": TEXT, "summary": {"images": [TEXT]}, "resources": [_OBJECT],
            "conditions": [{"type": TEXT, "message": TEXT}],
            "history": [{"id": NUMBER, "deployStartedAt": TEXT, "deployedAt": TEXT, "initiatedBy": _BY, **_COMMITS}],
            "operationState": {"phase": TEXT, "message": TEXT, "startedAt": TEXT, "finishedAt": TEXT, "retryCount": NUMBER, "operation": _OPERATION,
                               "syncResult": {"resources": [_OBJECT], **_COMMITS}},
        },
    },
    ("argoproj.io", "ApplicationSet"): {"spec": MAPPING},
    ("argoproj.io", "AppProject"): {"spec": {"sourceRepos": [TEXT], "destinations": [_PLACE], "roles": [{"name!": TEXT, "jwtTokens": [MAPPING]}]}},
    ("", "Secret"): {"data": {"*": TEXT}},
    ("", "ConfigMap"): {"data": {"*": TEXT}},
    ("", "Pod"): {"status": {"initContainerStatuses": _CONTAINERS, "containerStatuses": _CONTAINERS}},
    ("", "Event"): {"type": TEXT, "reason": TEXT, "message": TEXT, "lastTimestamp": TEXT, "eventTime": TEXT, "involvedObject": {"uid": TEXT}},
    **{("apps", kind): _WORKLOAD for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    ("batch", "Job"): _WORKLOAD,
}
# By these an object is known, and written only as it was seen.
_METADATA: Shape = {"name!": TEXT, "uid!": TEXT, "resourceVersion!": TEXT}


def connected(params: Mapping[str, Any]) -> Any:
    """The way in that a task's options name: the Kubernetes API, or Argo CD's own."""
    if params.get("argocd_server"):
        from ansible_collections.nordic.gitops.plugins.module_utils._argocd.api import Server

        return Checked(Server.of(params))
    return Checked(Cluster.of(params))


class Checked:
    """A cluster whose answers have the types that their kinds' definitions say, or are refused by the place of the first that has not."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def list(self, resource: Any, *arguments: Any, **more: Any) -> Tuple[List[Any], str]:
        items, version = self._cluster.list(resource, *arguments, **more)
        return [checked(resource, item) for item in items], version

    def get(self, resource: Any, namespace: str, name: str) -> Optional[Any]:
        live = self._cluster.get(resource, namespace, name)
        return None if live is None else checked(resource, live)

    def patch(self, resource: Any, *arguments: Any, **more: Any) -> Any:
        return checked(resource, self._cluster.patch(resource, *arguments, **more))

    def watch(self, resource: Any, *arguments: Any) -> CheckedWatch:
        return CheckedWatch(resource, self._cluster.watch(resource, *arguments))


class CheckedWatch:
    """The events that change an object; others tell no more than how far the watch is."""

    def __init__(self, resource: Any, watch: Any) -> None:
        self._resource, self._watch = resource, watch

    def __iter__(self) -> Iterator[Tuple[str, Any]]:
        for event, body in self._watch:
            if event in ("ADDED", "MODIFIED", "DELETED"):
                yield event, checked(self._resource, body)
            elif event == "BOOKMARK":
                yield event, {**body, "metadata": body.get("metadata") or {}}

    def close(self) -> None:
        self._watch.close()


def checked(resource: Any, body: Any) -> Any:
    """The same object, where each part of it that we read is what it has to be."""
    metadata = body.get("metadata") or {}
    where = one_line(resource.where(str(metadata.get("namespace") or ""), str(metadata.get("name") or "")))

    def wrong(what: str) -> Malformed:
        return Malformed(what, where)

    check(metadata, {**_METADATA, **({"namespace!": TEXT} if resource.namespaced else {})}, "metadata", wrong)
    check(body, SHAPES.get((resource.group, resource.kind), {}), "", wrong)
    return body
