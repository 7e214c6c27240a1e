# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete one object and create it again, because an immutable field of it changed: only when it is sure to come back.

The caller's gate decides whether this object may be deleted at all.
"""

from __future__ import annotations

import copy
from typing import Dict, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.service import without_what_the_old_one_holds
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Body, Change, Policy, annotations_of

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster, Resource

# Written by the server, by controllers from other objects, or about the object that is gone.
SERVER_METADATA = ("creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink", "deletionTimestamp",
                   "deletionGracePeriodSeconds")
VOLUMES = (("", "PersistentVolumeClaim"), ("", "PersistentVolume"))
JOB_LABELS = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")


def may_replace(change: Change, policy: Policy) -> bool:
    """Whether an object may be deleted and created again for an immutable field; never what takes others with it, and what
    holds data only where the object itself asks for it."""
    if (change.ref.group, change.ref.kind) in (NAMESPACE, CRD):
        return False
    sync_options = str(annotations_of(change.body or {}).get("argocd.argoproj.io/sync-options", ""))
    requested = {part.strip() for part in sync_options.split(",")}
    return bool({"Replace=true", "Force=true"} & requested) or policy.replace_immutable and not holds_data(change)


def holds_data(change: Change) -> bool:
    """Whether the data goes with the object: a volume's, and those of a StatefulSet that has its claims deleted with it."""
    kind = (change.ref.group, change.ref.kind)
    policy = ((change.before or {}).get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
    return kind in VOLUMES or kind == ("apps", "StatefulSet") and policy.get("whenDeleted") == "Delete"


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
