# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the objects of an Application say of themselves: health, events, Pods, and the logs of hooks.

Argo CD keeps the health of each object out of the Application's status since 3.0, so it is judged here, by the rules that reconcile waits with.
All of it is for a message: what can not be had is left out, or said in the place of it.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import operation
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import Body
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, health, pods_reason

OBJECTS = 10  # that are told of
LOOKED_AT = 200  # objects of an Application
LOG_LINES = 20
LAST_PODS = 3  # of a hook whose logs are read: each retry of a Job is a Pod
EVENTS = 3
# What a container waits with that seldom passes without somebody's help.
STUCK = ("CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")


def of_objects(cluster: Any, live: Mapping[str, Any]) -> List[str]:
    """One line for each object of the Application that is not healthy, with what its Pods and its events say."""
    if not _sees(cluster, live):
        return []
    found: List[str] = []
    for each in (operation.status_of(live).get("resources") or [])[:LOOKED_AT]:
        if len(found) >= OBJECTS or each.get("hook"):
            break
        body = _get(cluster, each)
        judged = health(body)
        if judged.status == CURRENT:
            continue
        more = [judged.message, *(_of_pods(cluster, body) if body else []), *(_events(cluster, body) if body else [])]
        found.append(f"{operation.called(each)}: {judged.status}: " + "; ".join(text for text in dict.fromkeys(more) if text))
    return found


def _sees(cluster: Any, live: Mapping[str, Any]) -> bool:
    """Whether the objects are where we look; Argo CD's own API shows none."""
    return bool(getattr(cluster, "sees_objects", True)) and operation.is_in_cluster(live)


def of_hooks(cluster: Any, live: Mapping[str, Any], state: Mapping[str, Any]) -> List[str]:
    """The Pods, events and the end of the logs of each hook that failed, or runs."""
    if not _sees(cluster, live):
        return []
    found: List[str] = []
    for each in (state.get("syncResult") or {}).get("resources") or ():
        if not each.get("hookType") or each.get("hookPhase") == "Succeeded" or len(found) >= OBJECTS * LOG_LINES:
            continue
        body = _get(cluster, each)
        if body is None:
            found.append(f"{operation.called(each)} is gone, deleted by its hook-delete-policy or by hand, and its log with it")
            continue
        for pod in _pods(cluster, body):
            found += _log(cluster, pod)
        found += [f"{operation.called(each)}: {text}" for text in [*_of_pods(cluster, body), *_events(cluster, body)]]
    return found


def of_one(cluster: Any, body: Body) -> List[str]:
    """What the events of an object say, and the end of the logs of its last Pods."""
    pods = sorted(_pods(cluster, body), key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    logs = [line for pod in pods[-LAST_PODS:] for line in _log(cluster, pod)]
    return [*_events(cluster, body), *logs]


def stuck_pods(cluster: Any, live: Mapping[str, Any], objects: Iterable[Mapping[str, Any]]) -> List[str]:
    """One line for each container of these workloads and hooks that cannot start."""
    if not _sees(cluster, live):
        return []
    found: List[str] = []
    for each in objects:
        body = _get(cluster, each) if each.get("kind") in (*WORKLOADS, "Pod") else None
        for pod in _pods(cluster, body) if body else ():
            status = pod.get("status") or {}
            for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
                waiting = (container.get("state") or {}).get("waiting") or {}
                if waiting.get("reason") in STUCK:
                    place = f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']}, container {container['name']}"
                    found.append(f"{place}: {waiting['reason']}: {one_line(str(waiting.get('message') or ''))}")
    return found[:OBJECTS]


def is_missing(cluster: Any, each: Mapping[str, Any]) -> bool:
    """Whether the API server says that there is no such object; one that may not be read is not missing."""
    try:
        return _read(cluster, each) is None
    except Failure:
        return False


def _get(cluster: Any, each: Mapping[str, Any]) -> Any:
    try:
        return _read(cluster, each)
    except Failure:
        return None


def _read(cluster: Any, each: Mapping[str, Any]) -> Any:
    group, version = each.get("group") or "", each.get("version") or "v1"
    resource = cluster.discover().find(f"{group}/{version}" if group else version, str(each.get("kind")))
    body = cluster.get(resource, each.get("namespace") or "", each["name"]) if resource else None
    return {**body, "apiVersion": resource.api_version, "kind": resource.kind} if body else None


def _pods(cluster: Any, body: Body) -> List[Body]:
    if body["kind"] == "Pod":
        return [body]
    if body["apiVersion"] not in ("apps/v1", "batch/v1"):
        return []  # a kind of somebody else that is called like one
    labels = (((body.get("spec") or {}).get("selector") or {}).get("matchLabels")) or {}
    if body["kind"] not in WORKLOADS or not labels:
        return []
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    try:
        return list(cluster.list(cluster.resource("v1", "Pod"), body["metadata"]["namespace"], selector)[0])
    except Failure:
        return []


def _of_pods(cluster: Any, body: Body) -> List[str]:
    reason = pods_reason(_pods(cluster, body)) if body["kind"] in WORKLOADS else ""
    return [reason] if reason else []


def _events(cluster: Any, body: Body) -> List[str]:
    """The last warnings about an object and its Pods."""
    uids = {body["metadata"]["uid"], *(pod["metadata"]["uid"] for pod in _pods(cluster, body))}
    try:
        events = cluster.list(cluster.resource("v1", "Event"), body["metadata"].get("namespace") or "default")[0]
    except Failure:
        return []
    about = [event for event in events if event.get("type") == "Warning" and (event.get("involvedObject") or {}).get("uid") in uids]
    about.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return [f"event {event.get('reason')}: {one_line(str(event.get('message') or ''))}" for event in about[-EVENTS:]]


def _log(cluster: Any, pod: Body) -> List[str]:
    """The last lines of each container that has said anything."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    found: List[str] = []
    for status in _containers(pod)[:OBJECTS]:
        try:
            text = cluster.log(namespace, name, status["name"], LOG_LINES)
        except Failure as error:
            found.append(f"the log of Pod {namespace}/{name} ({status['name']}) cannot be read: {one_line(error.what, 200)}")
            continue
        found += [f"log of Pod {namespace}/{name} ({status['name']}): {one_line(line)}" for line in text.splitlines()[-LOG_LINES:]]
    return found


def _containers(pod: Body) -> List[Dict[str, Any]]:
    """Those that have run."""
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [each for each in statuses if {"running", "terminated"} & set({**(each.get("state") or {}), **(each.get("lastState") or {})})]
