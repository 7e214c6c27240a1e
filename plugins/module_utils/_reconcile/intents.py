# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From rendered documents to intents: which kind each is, in which namespace it lives, and that none is there twice."""

from __future__ import annotations

import json
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Document, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERRORS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import CRD

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resources

# Who decides a workload's number of replicas: (group, kind): (the field with the least number, its default).
AUTOSCALERS = {
    ("autoscaling", "HorizontalPodAutoscaler"): ("minReplicas", 1),
    ("keda.sh", "ScaledObject"): ("minReplicaCount", 0),
}
NEEDED = ("list", "patch")  # what the server must be able to do with a kind; not so a TokenReview or a Binding

SHOWN = 20  # errors shown of one kind: enough to see the pattern, few enough to read


class Scope(NamedTuple):
    """What must be known of a kind to place its objects: from discovery, or from a CRD in the same repository."""

    namespaced: bool
    planned: bool
    status: bool  # whether its status is a subresource, which an apply of the object does not write


def intents_of(documents: Sequence[Document], resources: Resources, namespace: str, labels: Dict[str, str],
               notes: Optional[List[str]] = None) -> List[Intent]:
    """Settle every document's kind and namespace, add our labels, and refuse what cannot be applied; all errors at once.

    notes: what a person should know though it is no error is added here.
    """
    notes = [] if notes is None else notes
    planned = _planned_kinds(documents)
    errors: List[str] = []
    intents: List[Intent] = []
    seen: Dict[Ref, str] = {}
    scaled = autoscaled((document.body for document in documents), namespace)
    for document in documents:
        body = document.body
        api_version, kind = body["apiVersion"], body["kind"]
        name = body["metadata"]["name"]
        where = f"{document.where}: {kind} {name}"
        resource = resources.find(api_version, kind)
        if resource is not None and not set(NEEDED) <= set(resource.verbs) and (api_version, kind) in planned:
            resource = None  # its definition is being deleted, and Git has it: it is served anew after that
        if resource is not None and not set(NEEDED) <= set(resource.verbs):
            errors.append(f"{where}: cannot be kept in a cluster, the API server has no {' and '.join(NEEDED)} for {kind}. Remove it.")
            continue
        if resource is not None:
            scope = Scope(resource.namespaced, False, resource.status)
        elif (api_version, kind) in planned:
            scope = planned[(api_version, kind)]
        else:
            errors.append(_unknown(document, resources))
            continue
        stated = body["metadata"].get("namespace")
        if scope.namespaced and not (stated or namespace):
            errors.append(f"{where}: has no namespace. Write metadata.namespace, or set the option namespace.")
            continue
        if stated and not scope.namespaced:
            # kustomize and charts put a namespace on whatever they do not know; kubectl, Argo CD and Flux leave it out.
            notes.append(f"{where}: is cluster-scoped, its metadata.namespace {json.dumps(stated)} is left out")
        group = api_version.rpartition("/")[0]
        ref = Ref(group, kind, (stated or namespace) if scope.namespaced else "", name)
        if ref in seen:
            errors.append(f"{document.where}: {ref} is there twice, first at {seen[ref]}. Remove one of them.")
            continue
        seen[ref] = document.where
        if scope.status and "status" in body:
            body = {key: value for key, value in body.items() if key != "status"}
        intents.append(Intent(ref, api_version, _labelled(body, ref, labels, ref in scaled), document.where))
    if errors:
        more = f"\n(+{len(errors) - SHOWN} more)" if len(errors) > SHOWN else ""
        raise Failure("\n".join(errors[:SHOWN]) + more, errors=errors[:ERRORS])
    return intents


def unknown_kinds(documents: Sequence[Document], resources: Resources) -> List[str]:
    """What the cluster does not know, of documents that may have other faults: all that is wrong is told at once."""
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import identity, structure

    named = [document for document in documents if not list(identity(document.body))]
    planned = _planned_kinds([document for document in named if not list(structure(document.body))])
    return [_unknown(document, resources) for document in named
            if (document.body["apiVersion"], document.body["kind"]) not in planned
            and resources.find(document.body["apiVersion"], document.body["kind"]) is None]


def _unknown(document: Document, resources: Resources) -> str:
    api_version, kind = document.body["apiVersion"], document.body["kind"]
    metadata = document.body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return (f"{document.where}: {kind} {name}: the cluster does not know {kind} in {api_version}. "
            f"{resources.suggestion(api_version, kind)}")


def _labelled(body: Body, ref: Ref, labels: Dict[str, str], scaled: bool) -> Body:
    metadata = dict(body["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata.pop("namespace", None)
    if ref.namespace:
        metadata["namespace"] = ref.namespace
    result = {**body, "metadata": metadata}
    if scaled and isinstance(body.get("spec"), dict) and "replicas" in body["spec"]:
        # The autoscaler and we would take the field from each other for ever (argo-cd #5105).
        result["spec"] = {key: value for key, value in body["spec"].items() if key != "replicas"}
    return result


def autoscaled(bodies: Iterable[Body], namespace: str = "") -> Dict[Ref, int]:
    """The workloads whose number of replicas an autoscaler in Git decides, and the least number that each may have."""
    least: Dict[Ref, int] = {}
    for body in bodies:
        rule = AUTOSCALERS.get((body["apiVersion"].rpartition("/")[0], body["kind"]))
        spec = body.get("spec")
        target = spec.get("scaleTargetRef") if rule and isinstance(spec, dict) else None
        if rule and isinstance(spec, dict) and isinstance(target, dict):
            field, default = rule
            group = str(target.get("apiVersion", "apps/v1")).rpartition("/")[0]
            ref = Ref(group, str(target.get("kind", "Deployment")), body["metadata"].get("namespace") or namespace,
                      str(target.get("name")))
            least[ref] = spec[field] if isinstance(spec.get(field), int) else default
    return least


def _planned_kinds(documents: Sequence[Document]) -> Dict[Tuple[str, str], Scope]:
    planned: Dict[Tuple[str, str], Scope] = {}
    for document in documents:
        body = document.body
        if (body["apiVersion"].rpartition("/")[0], body["kind"]) != CRD:
            continue
        spec = body.get("spec") or {}  # its structure was checked when it was rendered
        for version in spec.get("versions", ()):
            if version["served"]:
                subresources = version.get("subresources")
                planned[(f"{spec['group']}/{version['name']}", spec["names"]["kind"])] = Scope(
                    spec.get("scope") == "Namespaced", True, isinstance(subresources, dict) and "status" in subresources)
    return planned
