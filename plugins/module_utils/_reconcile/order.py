# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order objects are written and deleted. The order is data; this file only sorts by it."""

from __future__ import annotations

import json
import re
from graphlib import CycleError, TopologicalSorter
from typing import AbstractSet, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Body, Intent, Ref, annotations_of, defined_kind

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import Hook

WAVE = "argocd.argoproj.io/sync-wave"
WEIGHT = "helm.sh/hook-weight"  # which Argo CD takes for the wave of an object that states none
PRE_SYNC, SYNC, POST_SYNC, SYNC_FAIL = PHASES = ("PreSync", "Sync", "PostSync", "SyncFail")
DEPENDS_ON = "config.kubernetes.io/depends-on"
_WAVE_NUMBER = re.compile("[-+]?[0-9]{1,9}")

RBAC = "rbac.authorization.k8s.io"
ADMISSION = "admissionregistration.k8s.io"

# Each rank is finished before the next begins; inside a rank the kinds start in the order of KINDS and overlap.
DEFINITIONS, CLASSES, CONFIGURATION, BINDINGS, WORKLOADS, WEBHOOKS = range(6)

KINDS: Dict[Tuple[str, str], int] = {
    CRD: DEFINITIONS,
    NAMESPACE: DEFINITIONS,
    (RBAC, "ClusterRole"): DEFINITIONS,
    # What a Pod needs to be admitted and to start, before anything that makes Pods.
    (RBAC, "Role"): CONFIGURATION,
    ("", "ServiceAccount"): CONFIGURATION,
    ("", "ResourceQuota"): CONFIGURATION,
    ("", "LimitRange"): CONFIGURATION,
    ("", "ConfigMap"): CONFIGURATION,
    ("", "PersistentVolume"): CONFIGURATION,
    ("", "PersistentVolumeClaim"): CONFIGURATION,
    ("networking.k8s.io", "NetworkPolicy"): CONFIGURATION,
    ("", "Service"): CONFIGURATION,
    # After the Role: to bind it one must hold its rights, which the API server looks up in it.
    (RBAC, "ClusterRoleBinding"): BINDINGS,
    (RBAC, "RoleBinding"): BINDINGS,
    # After the ServiceAccount: the token controller deletes the Secret with its token where it finds no account.
    ("", "Secret"): BINDINGS,
    ("apps", "Deployment"): WORKLOADS,
    ("apps", "StatefulSet"): WORKLOADS,
    ("apps", "DaemonSet"): WORKLOADS,
    ("batch", "CronJob"): WORKLOADS,
    ("batch", "Job"): WORKLOADS,
    ("policy", "PodDisruptionBudget"): WORKLOADS,
    # Last, so that a webhook whose Pod is not up yet cannot refuse the rest.
    (ADMISSION, "MutatingWebhookConfiguration"): WEBHOOKS,
    (ADMISSION, "ValidatingWebhookConfiguration"): WEBHOOKS,
}
_POSITION = {kind: position for position, kind in enumerate(KINDS)}


def rank(ref: Ref) -> int:
    """The rank of an object's kind: definitions, classes, configuration, bindings and Secrets, workloads, webhooks."""
    known = KINDS.get((ref.group, ref.kind))
    if known is not None:
        return known
    return CLASSES if ref.kind.endswith("Class") else WORKLOADS


def sort_key(ref: Ref) -> Tuple[int, int, str, str, str, str]:
    """Rank, then the position in KINDS (unknown kinds after the known), then a stable alphabetical order."""
    return (rank(ref), _POSITION.get((ref.group, ref.kind), len(_POSITION)), ref.group, ref.kind, ref.namespace, ref.name)


class Step(NamedTuple):
    """What may be written at once. health: whether the step before must be healthy first (a phase, a wave or a dependency), and its hooks ended."""

    refs: Tuple[Ref, ...]
    health: bool
    phase: str = SYNC
    hooks: Tuple[Hook, ...] = ()


def steps(intents: Sequence[Intent], hooks: Sequence[Hook] = ()) -> List[Step]:
    """The intents' refs in the order of writing, each hook at its place: by phase, then by wave, then by dependency, then by rank."""
    places = _places(intents, hooks)
    levels = _levels(intents, {hook.ref for hook in hooks})
    groups: Dict[Tuple[int, int, int, int], Tuple[List[Ref], List[Hook]]] = {}
    for intent in intents:
        groups.setdefault((*places[intent.ref], levels[intent.ref], rank(intent.ref)), ([], []))[0].append(intent.ref)
    for hook in hooks:
        wave = 0 if hook.phase == SYNC_FAIL else hook.wave  # Argo CD starts those of SyncFail together, whatever their waves
        groups.setdefault((PHASES.index(hook.phase), wave, 0, rank(hook.ref)), ([], []))[1].append(hook)
    result: List[Step] = []
    previous = None
    for key in sorted(groups):
        health = previous is not None and previous != key[:3]
        previous = key[:3]
        refs, here = groups[key]
        result.append(Step(tuple(sorted(refs, key=sort_key)), health, PHASES[key[0]], tuple(sorted(here, key=lambda hook: sort_key(hook.ref)))))
    return result


class DeletionStep(NamedTuple):
    """What may be deleted at once. gone: what must be gone before, since it depends on something of this step."""

    refs: Tuple[Ref, ...]
    gone: Tuple[Ref, ...]


def deletion_steps(bodies: Mapping[Ref, Body]) -> List[DeletionStep]:
    """The exact reverse of writing: the last wave goes first, and in it what depends on others; Namespaces and CRDs last of all."""
    dependents = _dependents(bodies)
    heights = _heights(bodies, dependents)
    groups: Dict[Tuple[bool, int, int, int], List[Ref]] = {}
    for ref, body in bodies.items():
        stated = (annotations_of(body).get(key, "") for key in (WAVE, WEIGHT))
        within = next((int(wave) for wave in stated if _WAVE_NUMBER.fullmatch(wave)), 0)  # somebody may have changed it
        groups.setdefault(((ref.group, ref.kind) not in (CRD, NAMESPACE), within, -heights[ref], rank(ref)), []).append(ref)
    return [DeletionStep(tuple(sorted(groups[key], key=sort_key, reverse=True)),
                         tuple(sorted({other for ref in groups[key] for other in dependents.get(ref, ())}, key=sort_key)))
            for key in sorted(groups, reverse=True)]


def _dependents(bodies: Mapping[Ref, Body]) -> Dict[Ref, List[Ref]]:
    """What depends on each object, of these; an annotation that cannot be read, or names nothing here, is none."""
    result: Dict[Ref, List[Ref]] = {}
    for ref, body in bodies.items():
        for text in str(annotations_of(body).get(DEPENDS_ON, "")).split(","):
            dependency = _parsed(text.strip())
            if dependency is not None and dependency in bodies and dependency != ref:
                result.setdefault(dependency, []).append(ref)
    return result


def _heights(bodies: Mapping[Ref, Body], dependents: Mapping[Ref, Sequence[Ref]]) -> Dict[Ref, int]:
    """0 for what nothing depends on, else one more than the highest of its dependents; all 0 where they form a circle."""
    heights = dict.fromkeys(bodies, 0)
    try:
        for ref in TopologicalSorter(dependents).static_order():
            heights[ref] = max((1 + heights[other] for other in dependents.get(ref, ())), default=0)
    except CycleError:
        return dict.fromkeys(bodies, 0)
    return heights


def wave_of(intent: Intent) -> int:
    """The wave that an object states, 0 for none."""
    marks = annotations_of(intent.body)
    for key in (WAVE, WEIGHT):
        if key in marks:
            if not _WAVE_NUMBER.fullmatch(marks[key]):
                raise Failure(f"annotation {key} is {json.dumps(marks[key])}, not a whole number",
                              f"{intent.where}: {intent.ref}", 'Write it as a string, for example "-1" or "5".')
            return int(marks[key])
    return 0


def _places(intents: Sequence[Intent], hooks: Sequence[Hook]) -> Dict[Ref, Tuple[int, int]]:
    """The phase and the wave of each object that is kept."""
    sync = PHASES.index(SYNC)
    places = {intent.ref: (sync, wave_of(intent)) for intent in intents}
    # An object cannot exist before its Namespace or its CRD: these move to the first object or hook that needs them.
    if hooks or any(wave for _phase, wave in places.values()):
        needed = _prerequisites(intents, [*places, *(hook.ref for hook in hooks)])
        first = list(places.items()) + [(hook.ref, (PHASES.index(hook.phase), hook.wave)) for hook in hooks]
        for ref, place in first:
            for needed_first in needed[ref]:
                places[needed_first] = min(places[needed_first], place)
    return places


def _prerequisites(intents: Sequence[Intent], refs: Iterable[Ref]) -> Dict[Ref, List[Ref]]:
    """What each object cannot exist without, of what is rendered here: its Namespace, its CRD."""
    known = {intent.ref for intent in intents}
    definitions: Dict[Tuple[str, str], Ref] = {}
    for intent in intents:
        if (intent.ref.group, intent.ref.kind) == CRD:
            definitions[defined_kind(intent.body)] = intent.ref
    result: Dict[Ref, List[Ref]] = {}
    for ref in refs:
        needed = (Ref("", "Namespace", "", ref.namespace), definitions.get((ref.group, ref.kind)))
        result[ref] = [needed_first for needed_first in needed if needed_first is not None and needed_first in known]
    return result


def _levels(intents: Sequence[Intent], hooks: AbstractSet[Ref]) -> Dict[Ref, int]:
    """0 for an object that depends on nothing, else one more than the deepest of its dependencies; no less than its Namespace and CRD."""
    edges: Dict[Ref, List[Ref]] = {}
    where = {intent.ref: intent.where for intent in intents}
    for intent in intents:
        text = annotations_of(intent.body).get(DEPENDS_ON)
        if text:
            edges[intent.ref] = [_dependency(part.strip(), intent, where, hooks) for part in text.split(",")]
    if not edges:
        return dict.fromkeys(where, 0)
    prerequisites = _prerequisites(intents, where)
    levels = dict.fromkeys(where, 0)
    try:
        for ref in TopologicalSorter({ref: [*edges.get(ref, ()), *prerequisites[ref]] for ref in where}).static_order():
            levels[ref] = max([1 + levels[dependency] for dependency in edges.get(ref, ())] + [levels[needed_first] for needed_first in prerequisites[ref]],
                              default=0)
    except CycleError as error:
        circle = error.args[1][::-1]
        raise Failure(f"the {DEPENDS_ON} annotations form a circle: {' -> '.join(map(str, circle))}", where[circle[0]],
                      "Remove one of them. An object depends on its Namespace and on its CustomResourceDefinition without saying so.") from None
    return levels


def _parsed(text: str) -> Optional[Ref]:
    parts = text.split("/")
    if len(parts) == 5 and parts[1] == "namespaces":
        return Ref(parts[0], parts[3], parts[2], parts[4])
    return Ref(parts[0], parts[1], "", parts[2]) if len(parts) == 3 else None


def _dependency(text: str, intent: Intent, known: Dict[Ref, str], hooks: AbstractSet[Ref]) -> Ref:
    """"group/namespaces/NAMESPACE/kind/name" or "group/kind/name", an empty group for the core kinds."""
    ref = _parsed(text)
    if ref is None:
        raise Failure(f"annotation {DEPENDS_ON} has {json.dumps(text)}", f"{intent.where}: {intent.ref}",
                      "Write GROUP/namespaces/NAMESPACE/KIND/NAME, or GROUP/KIND/NAME for a cluster-scoped object.")
    if ref in hooks:
        raise Failure(f"annotation {DEPENDS_ON} names {ref}, which is a hook", f"{intent.where}: {intent.ref}",
                      f"Hooks run by phase and wave: give the object a later {WAVE} than the hook.")
    if ref not in known:
        raise Failure(f"annotation {DEPENDS_ON} names {ref}, which is not rendered here", f"{intent.where}: {intent.ref}",
                      "Both objects must be in the same reconcile.")
    return ref
