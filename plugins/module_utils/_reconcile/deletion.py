# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one gate that every deletion passes: what is pruned, what is deleted to be created again, and hooks.

Nothing else in this collection deletes an object that came from Git. The gate judges the object as it is now, and the
deletion holds for just that version of it: what changes meanwhile is judged again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import AbstractSet, Any, Callable, Dict, Mapping, Optional, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.replace import asks_to_be_replaced, lost_with
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Body, Change, Ref, annotations_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster

# Annotations by which an object's owner says "do not delete this", here and in the tools people come from.
KEEP = (
    ("argocd.argoproj.io/sync-options", ("Prune=false", "Prune=confirm", "Delete=false", "Delete=confirm")),
    ("kustomize.toolkit.fluxcd.io/prune", ("disabled",)),
    ("nordic.gitops/prune", ("disabled",)),
    ("helm.sh/resource-policy", ("keep",)),
    ("client.lifecycle.config.k8s.io/deletion", ("detach",)),
    ("cli-utils.sigs.k8s.io/on-remove", ("keep",)),
    ("kapp.k14s.io/delete-strategy", ("orphan",)),
)
# Argo CD deletes what these have made when they go.
APPLICATIONS = (("argoproj.io", "Application"), ("argoproj.io", "ApplicationSet"))
SHOWN = 5  # objects in one sentence
TRACKING_ID = "argocd.argoproj.io/tracking-id"
INSTALLATION_ID = "argocd.argoproj.io/installation-id"
# The API server refuses to delete these: NamespaceLifecycle, plugin/pkg/admission/namespace/lifecycle.
UNDELETABLE = ("default", "kube-system", "kube-public", "kube-node-lease")
TRIES = 5  # how often an object that somebody else keeps writing is judged again


@dataclass(frozen=True)
class Scope:
    """What the gate knows beside the object: the inventory as it was read, and the rest of the plan."""

    inventory: str  # its id, the value of the label
    kinds: AbstractSet[Tuple[str, str]]  # (group, kind) on record
    namespaces: AbstractSet[str]  # on record
    inhabited: Mapping[str, Ref] = field(default_factory=dict)  # Namespaces that Git has objects in: one of them
    incomplete: str = ""  # why Git may say less now than it would otherwise


Rule = Callable[[Change, Scope, Options], str]


# ---- rules: each looks at the live object (change.before) and says why it must stay, or ""


def pruning_is_off(_change: Change, _scope: Scope, options: Options) -> str:
    return "" if options.prune else "prune is off"


def being_deleted(change: Change, _scope: Scope, _options: Options) -> str:
    return "is being deleted already" if _metadata(change).get("deletionTimestamp") else ""


def marked_to_be_kept(change: Change, _scope: Scope, _options: Options) -> str:
    """By the object itself, or by what Git wants it to be."""
    for body in (change.before, change.intent.body if change.intent else None):
        found = annotations_of(body or {})
        for key, values in KEEP:
            for part in str(found.get(key, "")).split(","):
                if part.strip() in values:
                    return f"its annotation {key} says {part.strip()}"
    return ""


def made_by_a_controller(change: Change, _scope: Scope, _options: Options) -> str:
    """A child object may inherit its parent's labels; it goes when its parent does."""
    return controlled_by(change.before or {})


def not_in_the_inventory(change: Change, scope: Scope, _options: Options) -> str:
    owner = (_metadata(change).get("labels") or {}).get(PART_OF)
    return "" if owner == scope.inventory else "does not belong to this reconcile"


def copied_not_applied(change: Change, _scope: Scope, _options: Options) -> str:
    """An operator that copies an object copies its labels too (argo-cd tracks by id for this reason); our apply leaves a proof."""
    return "" if is_proven(change.before or {}) else f"carries our label but was not applied by {ownership.FIELD_MANAGER}"


def tracking(live: Body) -> Tuple[str, str]:
    """The Application that an object's tracking id names, and the object that it is the id of."""
    application, _colon, tracked = str(annotations_of(live).get(TRACKING_ID, "")).partition(":")
    return application, tracked


def is_tracked_by(live: Body, options: Options) -> bool:
    """Whether an object is one of the Application that the run is from: of an Argo CD with another installation id it is another's."""
    return tracking(live)[0] in options.tracked_by and annotations_of(live).get(INSTALLATION_ID, "") == options.installation


def handed_over(change: Change, _scope: Scope, options: Options) -> str:
    """An Application adopted it: its tracking id names the Application and this very object, and not one that it was copied from."""
    application, tracked = tracking(change.before or {})
    ref = change.ref
    if is_tracked_by(change.before or {}, options) or tracked != f"{ref.group}/{ref.kind}:{ref.namespace}/{ref.name}":
        return ""
    return f"belongs to the Application {application} of Argo CD"


def not_on_record(change: Change, scope: Scope, _options: Options) -> str:
    """A field manager's name can be forged by everybody who may write an object; the inventory's record cannot."""
    if change.ref.namespace and change.ref.namespace not in scope.namespaces:
        return f"the inventory has no record of the namespace {change.ref.namespace}"
    if (change.ref.group, change.ref.kind) not in scope.kinds:
        return f"the inventory has no record of the kind {change.ref.kind}"
    return ""


def never_deleted_by_the_server(change: Change, _scope: Scope, _options: Options) -> str:
    immortal = (change.ref.group, change.ref.kind) == NAMESPACE and change.ref.name in UNDELETABLE
    return "the API server never deletes this namespace" if immortal else ""


def deletes_its_dependents(change: Change, _scope: Scope, options: Options) -> str:
    """Deleting a CRD deletes every object of its kind, deleting a Namespace everything inside (argo-cd #22607), and when an Application of
    Argo CD only moves to another folder, its workloads would be deleted meanwhile (argo-cd #9934)."""
    if (change.ref.group, change.ref.kind) not in (CRD, NAMESPACE, *APPLICATIONS):
        return ""
    if change.replaces:
        return f"a {change.ref.kind} is never replaced, for that would delete everything that depends on it"
    if options.prune_protected:
        return ""
    article = "an" if (change.ref.group, change.ref.kind) in APPLICATIONS else "a"
    return f"{article} {change.ref.kind} is pruned only with prune_protected: true{_objects_of(change.before or {})}"


def _objects_of(live: Body) -> str:
    """What an Application would take along, as Argo CD saw it last."""
    status = live.get("status")
    resources = status.get("resources") if isinstance(status, dict) else None
    found = [each for each in resources if isinstance(each, dict) and each.get("kind")] if isinstance(resources, list) else []
    names = [one_line(f"{each['kind']} {'/'.join(str(each[part]) for part in ('namespace', 'name') if each.get(part))}", 120) for each in found[:SHOWN]]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"; it has {', '.join(names)}{more}" if names else ""


def namespace_in_use(change: Change, scope: Scope, _options: Options) -> str:
    """A Namespace that Git still puts objects into."""
    if (change.ref.group, change.ref.kind) == NAMESPACE and change.ref.name in scope.inhabited:
        return f"Git still has {scope.inhabited[change.ref.name]} in it"
    return ""


def rendered_incompletely(_change: Change, scope: Scope, _options: Options) -> str:
    """A chart that asks for an API renders without what needs it, while the server behind that API is down."""
    return scope.incomplete


def is_made_by_a_hook(live: Body, inventory: str) -> bool:
    """Whether a hook of this reconcile made an object."""
    return ((live.get("metadata") or {}).get("labels") or {}).get(OF) == inventory and is_proven(live, OF)


def not_a_hook_of_ours(change: Change, scope: Scope, options: Options) -> str:
    """A hook that a run of this reconcile made. Only what is created again may also be an object of it that Git turned into a hook, or a hook
    that Argo CD left of this Application."""
    live, ref = change.before or {}, change.ref
    if is_made_by_a_hook(live, scope.inventory):
        return ""
    if change.operation != "pruned" and not (not_in_the_inventory(change, scope, options) or copied_not_applied(change, scope, options)):
        return ""
    if change.operation != "pruned" and is_tracked_by(live, options) and tracking(live)[1] == f"{ref.group}/{ref.kind}:{ref.namespace}/{ref.name}":
        return ""
    return "was not made by a hook of this reconcile"


def loses_data(change: Change, _scope: Scope, _options: Options) -> str:
    """What is lost with a hook's object is not there again when the object is."""
    lost = "" if asks_to_be_replaced(change) else lost_with(change)
    return f"{lost} would be lost with it" if lost else ""


EVERY_DELETION: Tuple[Rule, ...] = (marked_to_be_kept, made_by_a_controller, not_in_the_inventory, copied_not_applied, not_on_record,
                                    deletes_its_dependents, never_deleted_by_the_server)
PRUNING: Tuple[Rule, ...] = (pruning_is_off, being_deleted, *EVERY_DELETION, handed_over, namespace_in_use, rendered_incompletely)
HOOKS: Tuple[Rule, ...] = (not_a_hook_of_ours, marked_to_be_kept, made_by_a_controller, deletes_its_dependents, never_deleted_by_the_server, loses_data)
# What these keep should go all the same: with it the cluster is not in sync.
POSTPONING: Tuple[Rule, ...] = (pruning_is_off, being_deleted, rendered_incompletely)


def rule_against(change: Change, scope: Scope, options: Options) -> Optional[Tuple[Rule, str]]:
    """The first rule that forbids to delete change.before, with its reason; None when it may be deleted."""
    for rule in HOOKS if change.hook else EVERY_DELETION if change.replaces else PRUNING:
        reason = rule(change, scope, options)
        if reason:
            return rule, reason
    return None


def delete(cluster: Cluster, change: Change, scope: Scope, options: Options, propagation: str = "Background") -> Tuple[Body, str]:
    """Delete change.before, just as it was judged. Returns the object as it was deleted, or with the reason why it stays."""
    live, judge = change.before or {}, change
    for _attempt in range(TRIES):
        refusal = rule_against(judge, scope, options)
        if refusal:
            return live, refusal[1]
        metadata = live["metadata"]
        try:
            cluster.delete(change.served, change.ref.namespace, change.ref.name, metadata["uid"], metadata["resourceVersion"], propagation)
            return live, ""
        except Failure as error:
            if not error.stale:
                raise
        # It changed since it was judged: every rule must hold for what it is now.
        current = cluster.get(change.served, change.ref.namespace, change.ref.name)
        if current is None:
            return live, ""
        if current["metadata"]["uid"] != metadata["uid"]:
            return live, "somebody deleted it and created another one"
        live = current
        judge = replace(change, before=live)
    raise Failure("somebody else keeps changing it")


def dry_run(cluster: Cluster, change: Change) -> None:
    """Ask the server whether this user may delete the object; any other refusal may depend on what happens before."""
    try:
        cluster.delete(change.served, change.ref.namespace, change.ref.name, (change.before or {})["metadata"]["uid"], dry_run=True)
    except Failure as error:
        if error.status == 403:
            error.where = str(change.ref)
            raise


def is_proven(live: Body, label: str = PART_OF) -> bool:
    """Whether our own apply set the label that makes an object a member of an inventory, or another one."""
    entry = ownership.own_entry(live) if live.get("metadata") else None
    fields: Dict[str, Any] = (entry or {}).get("fieldsV1") or {}
    return "f:" + label in ((fields.get("f:metadata") or {}).get("f:labels") or {})


def controlled_by(live: Body) -> str:
    """"belongs to ReplicaSet web-1" for an object that a controller made, "" for any other."""
    for owner in (live.get("metadata") or {}).get("ownerReferences") or ():
        if owner.get("controller"):
            return f"belongs to {owner.get('kind')} {owner.get('name')}"
    return ""


def _metadata(change: Change) -> Body:
    return (change.before or {}).get("metadata") or {}
