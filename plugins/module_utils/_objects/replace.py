# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete one object and create it again, because an immutable field of it changed: only when it is sure to come back.

The caller's gate decides whether this object may be deleted at all.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Set, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.service import without_what_the_old_one_holds
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import (
    BUILT_IN_GROUPS, CRD, NAMESPACE, Body, Change, Policy, annotations_of)

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster, Resource

# Written by the server, by controllers from other objects, or about the object that is gone.
SERVER_METADATA = ("creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink", "deletionTimestamp",
                   "deletionGracePeriodSeconds")
VOLUMES = (("", "PersistentVolumeClaim"), ("", "PersistentVolume"))
GARBAGE_COLLECTION = frozenset({"foregroundDeletion", "orphan"})  # finalizers by which nothing outside of the cluster is meant
JOB_LABELS = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")


def may_replace(change: Change, policy: Policy) -> bool:
    """Whether an object may be deleted and created again for an immutable field; never what takes others with it, and what
    other things may be lost with only where the object itself asks for it."""
    if (change.ref.group, change.ref.kind) in (NAMESPACE, CRD):
        return False
    return asks_to_be_replaced(change) or policy.replace_immutable and not lost_with(change)


def asks_to_be_replaced(change: Change) -> bool:
    """Whether the object's own annotation says that it may be deleted and created again."""
    sync_options = str(annotations_of(change.body or {}).get("argocd.argoproj.io/sync-options", ""))
    return bool({"Replace=true", "Force=true"} & {part.strip() for part in sync_options.split(",")})


def lost_with(change: Change) -> str:
    """What goes with the object, "" for nothing: a volume's data, that of a StatefulSet which has its claims deleted with it, and
    what the controller of a custom resource deletes before it takes its finalizer away (a database, a bucket, a snapshot)."""
    kind, live = (change.ref.group, change.ref.kind), change.before or {}
    policy = (live.get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
    if kind in VOLUMES or kind == ("apps", "StatefulSet") and policy.get("whenDeleted") == "Delete":
        return "its data"
    finalizers = set((live.get("metadata") or {}).get("finalizers") or ()) - GARBAGE_COLLECTION
    return f"what the controllers of its finalizers delete ({', '.join(sorted(finalizers))})" if finalizers and kind[0] not in BUILT_IN_GROUPS else ""


def claims_lost_with(cluster: Cluster, change: Change) -> List[str]:
    """The PersistentVolumeClaims that the garbage collector deletes after the object: it owns them, itself or by what it owns.

    Those of a Pod's ephemeral volumes are left out, which end with every Pod. A user who may not look is refused for a custom resource:
    operators own claims by theirs.
    """
    resources, uid = cluster.discover(), (change.before or {})["metadata"]["uid"]
    claims = resources.find("v1", "PersistentVolumeClaim")
    owners: Dict[str, Any] = {}  # the owners of an owner, by its uid

    def is_owned(metadata: Body) -> bool:
        seen: Set[str] = set()
        pending = list(metadata.get("ownerReferences") or ())
        while pending:
            owner = pending.pop()
            if owner["uid"] == uid:
                return True
            if owner["uid"] in seen or (owner["apiVersion"], owner["kind"]) == ("v1", "Pod"):
                continue
            seen.add(owner["uid"])
            if owner["uid"] not in owners:
                resource = resources.find(owner["apiVersion"], owner["kind"])
                found = resource and cluster.get(resource, metadata["namespace"] if resource.namespaced else "", owner["name"])
                owners[owner["uid"]] = (found or {"metadata": {}})["metadata"].get("ownerReferences") or ()
            pending += owners[owner["uid"]]
        return False

    try:
        listed = cluster.list(claims, change.ref.namespace, metadata_only=True)[0] if claims is not None else []
        return sorted(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in listed if is_owned(item["metadata"]))
    except Failure as error:
        if error.status == 403 and change.ref.group in BUILT_IN_GROUPS:
            return []
        raise


def dry_run_creation(cluster: Cluster, change: Change) -> None:
    """Ask the server whether it would create the object: whether it is valid, admitted, and this user may create it.

    The server checks all of that before it finds that the name is taken, which is the answer here (registry.Store.Create).
    """
    body = without_what_the_old_one_holds(change.body or {}, change.before or {})
    try:
        cluster.create(change.served, body, dry_run=True)
    except Failure as error:
        if error.reason != "AlreadyExists":
            error.what = f"cannot be created again, so it is not deleted: {error.what}"
            raise


def put_back(cluster: Cluster, resource: Resource, live: Body) -> None:
    """Create an object as it was before it was deleted. What the server does not take of it is left out, but what we set."""
    try:
        cluster.create(resource, _as_it_was(live))
    except Failure:
        cluster.apply(resource, _ours(live))
        return
    cluster.apply(resource, _ours(live))  # the fields that were ours are ours again


def _as_it_was(live: Body) -> Body:
    body = {key: copy.deepcopy(value) for key, value in live.items() if key != "status"}
    body["metadata"] = {key: value for key, value in body["metadata"].items() if key not in SERVER_METADATA}
    if body.get("kind") == "Job" and not (body.get("spec") or {}).get("manualSelector"):
        spec = body["spec"]
        spec.pop("selector", None)
        labels: Dict[str, str] = (spec.get("template", {}).get("metadata") or {}).get("labels") or {}
        for holder in (labels, body["metadata"].get("labels") or {}):
            for label in JOB_LABELS:
                holder.pop(label, None)
    return body


def _ours(live: Body) -> Body:
    entry = ownership.own_entry(live)
    body = ownership.select(live, (entry or {}).get("fieldsV1") or {})
    metadata = {key: value for key, value in live["metadata"].items() if key in ("name", "namespace")}
    return {**body, "apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {**body.get("metadata", {}), **metadata}}
