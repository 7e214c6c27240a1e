# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks as Argo CD means them, and Helm's as Argo CD maps them: what each is, in which phases it runs, when it is deleted.

A hook is an object that is run, and not kept: it is no member of the inventory, is not pruned, and does not count for in_sync.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Document, Intent, Ref, annotations_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import DEPENDS_ON, PHASES, WAVE, wave_of

HOOK = "argocd.argoproj.io/hook"
HELM_HOOK = "helm.sh/hook"
MARKS = (HOOK, HELM_HOOK)
SKIP = "Skip"
# Of the deletion of an Application or a release, of a rollback, of `helm test`: a reconcile is none of these.
OTHER_EVENTS = ("PreDelete", "PostDelete")
HELM_PHASES = {"pre-install": "PreSync", "pre-upgrade": "PreSync", "post-install": "PostSync", "post-upgrade": "PostSync"}
HELM_OTHER_EVENTS = frozenset(("pre-delete", "post-delete", "pre-rollback", "post-rollback", "test", "test-success", "test-failure"))
CRD_INSTALL = "crd-install"  # of Helm 2; such a definition is an object like any other

POLICY = "argocd.argoproj.io/hook-delete-policy"
HELM_POLICY = "helm.sh/hook-delete-policy"
BEFORE, SUCCEEDED, FAILED = POLICIES = ("BeforeHookCreation", "HookSucceeded", "HookFailed")
HELM_POLICIES = {"before-hook-creation": BEFORE, "hook-succeeded": SUCCEEDED, "hook-failed": FAILED}

OF = "nordic.gitops/hook-of"  # label: the id of the inventory whose run made the hook
RUN = "nordic.gitops/hook-run"  # annotation: the commit, the options and the phase that it was made for


@dataclass(frozen=True)
class Hook:
    """One hook in one of its phases. change: the object as it was seen, and what is sent."""

    phase: str
    wave: int
    policies: FrozenSet[str]
    intent: Intent
    change: Change

    @property
    def ref(self) -> Ref:
        return self.intent.ref

    @property
    def run(self) -> str:
        """What this very run of the hook is marked by."""
        return annotations_of(self.intent.body)[RUN]

    @property
    def replaces(self) -> bool:
        """Whether an object that is there is deleted first. A generated name means a new object each time."""
        return BEFORE in self.policies or bool(self.intent.body["metadata"].get("generateName"))

    def __str__(self) -> str:
        return f"{self.phase} hook {self.ref}"


class Split(NamedTuple):
    """The intents that are kept in the cluster, and those that are not."""

    intents: List[Intent]
    hooks: List[Hook]
    left_out: Set[Ref]  # neither applied nor pruned
    digest: str  # of what all hooks are; "" where there is none


def phases_of(body: Body, where: str) -> Optional[Tuple[str, ...]]:
    """The phases in which an object runs as a hook; none where it is left out, None for an object that is no hook."""
    marks = annotations_of(body)
    stated, helm = marks.get(HOOK), marks.get(HELM_HOOK)
    if stated is None and (helm is None or helm.strip() == CRD_INSTALL):
        return None
    found = _words(stated or "", HOOK, (*PHASES, SKIP, *OTHER_EVENTS), where) if stated is not None else []
    if found == [SKIP]:
        return ()
    phases = {word for word in found if word in PHASES}
    if not phases and helm is not None:  # Argo CD looks at Helm's where its own names no phase of a sync
        phases = {HELM_PHASES[word] for word in _words(helm, HELM_HOOK, (*HELM_PHASES, *HELM_OTHER_EVENTS, CRD_INSTALL), where) if word in HELM_PHASES}
    return tuple(phase for phase in PHASES if phase in phases)


def _words(text: str, key: str, known: Sequence[str], where: str) -> List[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words or [text]:
        if word not in known:
            raise Failure(f"annotation {key} has {json.dumps(word)}", where, f"Write {', '.join(known[:-1])} or {known[-1]}.")
    return words


def policies_of(body: Body, where: str) -> FrozenSet[str]:
    """When a hook is deleted: before it is created again, unless it says otherwise."""
    marks = annotations_of(body)
    found = set(_words(marks[POLICY], POLICY, POLICIES, where)) if POLICY in marks else set()
    if HELM_POLICY in marks:
        found |= {HELM_POLICIES[word] for word in _words(marks[HELM_POLICY], HELM_POLICY, tuple(HELM_POLICIES), where)}
    return frozenset(found) or frozenset((BEFORE,))


def is_marked(body: Body) -> bool:
    """Whether an object has an annotation of a hook: looked at for each of thousands."""
    metadata = body.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return isinstance(annotations, dict) and any(mark in annotations for mark in MARKS)


def generated_name(prefix: str, commit: str, phase: str) -> str:
    """The name of a hook that has none of its own. Without the time that Argo CD adds, a run finds what a killed one began."""
    return f"{prefix}{commit[:7]}-{phase.lower()}"


def named(documents: Sequence[Document], commit: str) -> List[Document]:
    """Each hook with generateName once for each of its phases, under the name that it gets at this commit."""
    result: List[Document] = []
    for document in documents:
        metadata = document.body["metadata"]
        if metadata.get("name"):
            result.append(document)
            continue
        for phase in phases_of(document.body, document.where) or ():
            name = generated_name(metadata["generateName"], commit, phase)
            result.append(replace(document, body={**document.body, "metadata": {**metadata, "name": name}}))
    return result


def split(intents: Sequence[Intent], inventory_id: str, commit: str, digest: str, notes: List[str]) -> Split:
    """Tell hooks from what is kept in the cluster. digest: what beside the commit decides the intents."""
    kept: List[Intent] = []
    hooks: List[Hook] = []
    left_out: Set[Ref] = set()
    for intent in intents:
        if not is_marked(intent.body):
            kept.append(intent)
            continue
        where = f"{intent.where}: {intent.ref}"
        phases = phases_of(intent.body, where)
        if phases is None:
            kept.append(intent)
            continue
        if not phases:
            left_out.add(intent.ref)
            notes.append(f"{where}: left out, a hook of no phase of a sync")
            continue
        metadata = intent.body["metadata"]
        if metadata.get("generateName"):
            phases = tuple(phase for phase in phases if metadata["name"] == generated_name(metadata["generateName"], commit, phase)) or phases
        if DEPENDS_ON in annotations_of(intent.body):
            notes.append(f"{where}: {DEPENDS_ON} is not read on a hook. Its place is its phase and its {WAVE}")
        policies, wave = policies_of(intent.body, where), wave_of(intent)
        for phase in phases:
            marked = replace(intent, body=_marked(intent.body, inventory_id, f"{commit}/{digest}/{phase}"))
            change = Change("created", intent.ref, "", marked, None, marked.body, writes=True, replaces=True, hook=True)
            hooks.append(Hook(phase, wave, policies, marked, change))
    return Split(kept, hooks, left_out, _digest(hooks))


def _marked(body: Body, inventory_id: str, run: str) -> Body:
    metadata = dict(body["metadata"])
    metadata["labels"] = {**{key: value for key, value in metadata["labels"].items() if key != PART_OF}, OF: inventory_id}
    metadata["annotations"] = {**metadata["annotations"], RUN: run}
    return {**body, "metadata": metadata}


def _digest(hooks: Iterable[Hook]) -> str:
    """The same as long as the hooks are. Of a Secret only the keys count: no digest of a value is written where others read."""
    parts: List[Any] = []
    for hook in hooks:
        metadata: Dict[str, Any] = dict(hook.intent.body["metadata"])
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != RUN}
        if metadata.get("generateName"):
            del metadata["name"]
        body = {**hook.intent.body, "metadata": metadata}
        if hook.ref.kind == "Secret":
            body = {key: sorted(value) if key in ("data", "stringData") and isinstance(value, dict) else value for key, value in body.items()}
        parts.append([hook.phase, body])
    parts.sort(key=lambda part: json.dumps(part, sort_keys=True))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16] if parts else ""


# ---- on record: what the parent of the inventory knows of hooks

DONE, UNFINISHED = "done", "unfinished"
_REF = re.compile(r"[^/,\s]*/[^/,\s]+/(?!\.{1,2}/)[^/,\s]*/(?!\.{1,2}\Z)[^/,\s]+")
LONGEST = 64 * 1024


def record_of_done(digest: str) -> str:
    """After a run that came to its end."""
    return f"{DONE} {digest}" if digest else ""


def record_of_begun(refs: Iterable[Ref]) -> str:
    """Before the first hook is made, so that the next run finds what a killed one left."""
    text = ",".join(sorted("/".join(ref) for ref in set(refs)))
    if len(text) > LONGEST:
        raise Failure("the hooks are too many to be recorded", hint="Split the folder into several reconciles.")
    return f"{UNFINISHED} {text}"


def unfinished(record: str) -> List[Ref]:
    """The hooks that a run began which did not come to its end."""
    state, _space, text = record.partition(" ")
    return [Ref(*part.split("/")) for part in text.split(",") if _REF.fullmatch(part)] if state == UNFINISHED else []
