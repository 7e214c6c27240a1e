# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The safety rules: each one named function that looks at the plan and says why the run must not go on, or "".

A rule that concerns one object only marks it as skipped, with the reason, instead of stopping the run.
"""

from __future__ import annotations

from typing import Callable, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import CRD, NAMESPACE, annotations_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan

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


# ---- rules for one object that would be pruned: a reason to keep it, or ""


def pruning_is_off(_change: Change, _plan: Plan, options: Options) -> str:
    return "" if options.prune else "prune is off"


def asked_to_stay(change: Change, _plan: Plan, _options: Options) -> str:
    found = annotations_of(change.before or {})
    for key, values in KEEP:
        for part in found.get(key, "").split(","):
            if part.strip() in values:
                return f"its annotation {key} says {part.strip()}"
    return ""


def already_going(change: Change, _plan: Plan, _options: Options) -> str:
    return "is being deleted already" if (change.before or {})["metadata"].get("deletionTimestamp") else ""


def made_by_a_controller(change: Change, _plan: Plan, _options: Options) -> str:
    """A child object may inherit its parent's labels; it goes when its parent does."""
    for owner in (change.before or {})["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return f"belongs to {owner.get('kind')} {owner.get('name')}"
    return ""


def copied_not_applied(change: Change, _plan: Plan, _options: Options) -> str:
    """An operator that copies an object copies its labels too (argo-cd tracks by id for this reason); our apply leaves a proof."""
    entry = ownership.own_entry(change.before or {"metadata": {}})
    labels = ((entry or {}).get("fieldsV1") or {}).get("f:metadata", {}).get("f:labels", {})
    return "" if "f:" + PART_OF in labels else f"carries our label but was not applied by {ownership.FIELD_MANAGER}"


def takes_others_with_it(change: Change, _plan: Plan, options: Options) -> str:
    """Deleting a CRD deletes every object of its kind, deleting a Namespace everything inside (argo-cd #22607)."""
    if (change.ref.group, change.ref.kind) in (CRD, NAMESPACE) and not options.prune_protected:
        return f"a {change.ref.kind} is pruned only with prune_protected: true"
    return ""


def still_inhabited(change: Change, plan: Plan, _options: Options) -> str:
    """A Namespace that Git still puts objects into."""
    if (change.ref.group, change.ref.kind) == NAMESPACE:
        for other in plan.of("created", "configured", "unchanged", "skipped"):
            if other.ref.namespace == change.ref.name:
                return f"Git still has {other.ref} in it"
    return ""


def rendered_from_half_a_view(_change: Change, plan: Plan, _options: Options) -> str:
    """A chart that asks for an API renders without what needs it, while the server behind that API is down."""
    return plan.half_seen


KEEPING = (pruning_is_off, already_going, asked_to_stay, made_by_a_controller, copied_not_applied, takes_others_with_it, still_inhabited,
           rendered_from_half_a_view)
# What these keep should go all the same: with it the cluster is not in sync.
LEAVING = (pruning_is_off, rendered_from_half_a_view)


# ---- rules for the whole run


def no_empty_render(plan: Plan, options: Options) -> str:
    if plan.of("pruned") and not any(change.intent for change in plan.changes) and not options.allow_empty:
        return (f"the repository renders to nothing, and {len(plan.of('pruned'))} objects would be pruned. "
                "Set allow_empty: true if that is what Git should say.")
    return ""


def no_more_than_the_limit(plan: Plan, options: Options) -> str:
    pruned = plan.of("pruned")
    if options.prune_limit.allows(len(pruned), max(plan.owned, len(pruned))):
        return ""
    return (f"would prune {len(pruned)} of {plan.owned} objects, prune_limit is {options.prune_limit.text}: {_names(pruned)}. "
            "Raise prune_limit for this run if Git means it.")


def nobody_elses(plan: Plan, _options: Options) -> str:
    """Applying half of what Git says would be worse than saying clearly that something is in the way."""
    strangers = [change for change in plan.of("skipped") if change.intent is not None]
    if strangers:
        return f"{len(strangers)} objects are not ours: " + "; ".join(
            f"{change.intent.where}: {change.ref} {change.reason}" for change in strangers[:10] if change.intent)
    return ""


def no_conflict_unasked(plan: Plan, options: Options) -> str:
    if options.on_conflict != "fail":
        return ""
    conflicts = [conflict for change in plan.changes for conflict in change.conflicts]
    if conflicts:
        return (f"{len(conflicts)} fields are held by other field managers: "
                + "; ".join(f"{item.ref} {item.field} ({item.manager})" for item in conflicts[:10])
                + ". Set on_conflict: force to take them, keep to leave them.")
    return ""


RULES: Tuple[Callable[[Plan, Options], str], ...] = (nobody_elses, no_conflict_unasked, no_empty_render, no_more_than_the_limit)


def guard(plan: Plan, options: Options) -> None:
    """Turn what must stay from "pruned" into "skipped" or out of the plan; raise Refused with the rules' own sentences."""
    for change in plan.of("pruned"):
        for rule in KEEPING:
            reason = rule(change, plan, options)
            if reason:
                change.operation, change.reason, change.left = "skipped", reason, rule in LEAVING
                break
    refusals = [sentence for sentence in (rule(plan, options) for rule in RULES) if sentence]
    if refusals:
        conflicts = [conflict for change in plan.changes for conflict in change.conflicts]
        raise Refused(" ".join(refusals), conflicts=[
            {"object": str(item.ref), "field": item.field, "manager": item.manager} for item in conflicts])


def _names(changes: Sequence[Change]) -> str:
    shown = ", ".join(str(change.ref) for change in changes[:5])
    return shown + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
