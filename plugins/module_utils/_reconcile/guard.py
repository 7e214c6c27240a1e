# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The safety rules for a whole run: each one named function that looks at the plan and says why the run must not go on, or "".

What concerns one object that would be deleted is the gate's (deletion.py). Nothing is written before these rules have agreed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Callable, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused, counted
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import BEFORE
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan


def no_empty_render(plan: Plan, options: Options) -> str:
    if plan.of("pruned") and not any(change.intent for change in plan.changes) and not options.allow_empty:
        return (f"the repository renders to nothing, and {len(plan.of('pruned'))} objects would be pruned. "
                "Set allow_empty: true if that is what Git should say.")
    return ""


def no_more_than_the_limit(plan: Plan, options: Options) -> str:
    """Counted is what would be deleted, of what could be: not what only carries our label."""
    return limit_refused(plan.deletions, plan.owned, options)


def no_object_deleted_as_a_hook_with_prune_off(plan: Plan, options: Options) -> str:
    """With an annotation Git would delete what it may not delete by taking it away."""
    given_up = {change.ref: change for change in plan.given_up}
    deleted = {hook.ref: given_up[hook.ref] for hook in plan.hooks if hook.ref in given_up and hook.policies != {BEFORE}}
    if options.prune or not deleted:
        return ""
    return (f"prune is off, and {counted(len(deleted), 'object')} to be run as a hook and deleted afterwards: {_names(list(deleted.values()))}. "
            "Set the delete policy BeforeHookCreation alone, delete the objects yourself, or set prune: true for this run.")


def limit_refused(deletions: Sequence[Change], owned: int, options: Options) -> str:
    """Why so many of the objects must not be deleted, "" where they may."""
    if options.prune_limit.allows(len(deletions), owned):
        return ""
    replaced = sum(change.replaces for change in deletions)
    what = f"prune {len(deletions)}" if not replaced else f"prune {len(deletions) - replaced} and replace {replaced}"
    return (f"would {what} of {owned} objects, prune_limit is {options.prune_limit.text}: {_names(deletions)}. "
            "Raise prune_limit for this run if Git means it.")


def no_foreign_objects(plan: Plan, _options: Options) -> str:
    """Applying half of what Git says would be worse than saying clearly that something is in the way."""
    strangers = [change for change in [*plan.of("skipped"), *plan.hook_changes] if change.intent is not None and change.operation == "skipped"]
    if strangers:
        return f"{counted(len(strangers), 'object')} not ours: " + "; ".join(
            f"{change.intent.where}: {change.ref} {change.reason}" for change in strangers[:10] if change.intent)
    return ""


def nothing_beyond_what_is_allowed(plan: Plan, options: Options) -> str:
    """What a repository may touch is said by who runs it. A cluster-scoped object is in no namespace: its kind must be named."""
    beyond = [change for change in [*plan.changes, *plan.hook_changes, *plan.left] if (change.intent is not None or change.operation == "pruned")
              and not (_kind_allowed(change, options) and _namespace_allowed(change, options))]
    if beyond:
        option = " and ".join(name for name in ("allowed_kinds", "allowed_namespaces") if getattr(options, name))
        return f"{counted(len(beyond), 'object')} beyond {option}: {_names(beyond)}. Remove them from Git, or allow them."
    return ""


def _kind_allowed(change: Change, options: Options) -> bool:
    kind = f"{change.ref.kind}.{change.ref.group}" if change.ref.group else change.ref.kind
    return not options.allowed_kinds or any(fnmatchcase(kind, pattern) for pattern in options.allowed_kinds)


def _namespace_allowed(change: Change, options: Options) -> bool:
    if not options.allowed_namespaces:
        return True
    if not change.ref.namespace:
        return bool(options.allowed_kinds)
    return any(fnmatchcase(change.ref.namespace, pattern) for pattern in options.allowed_namespaces)


def no_conflict_when_it_must_fail(plan: Plan, options: Options) -> str:
    return conflicts_refused([change for change in plan.changes if change.conflicts], options)


def no_other_source(plan: Plan, options: Options) -> str:
    """A second repository, path or namespace under the same name would delete what the first one brought; another URL of the same one does not."""
    deletions = [*plan.deletions, *plan.left]
    if plan.recorded_source and deletions and not options.move:
        return (f"the name {options.name} belongs to {plan.recorded_source}, not to {plan.source}, and {len(deletions)} objects of it would be pruned. "
                "Choose another name, or set move: true if the objects have moved.")
    return ""


def only_the_expected_plan(plan: Plan, options: Options) -> str:
    if options.expect and options.expect != plan.id:
        return (f"the plan is {plan.id}, not {options.expect} as expected: Git or the cluster changed since it was shown. "
                "Run check mode again and look at the new plan.")
    return ""


RULES: Tuple[Callable[[Plan, Options], str], ...] = (no_foreign_objects, no_other_source, nothing_beyond_what_is_allowed, no_conflict_when_it_must_fail,
                                                     no_empty_render, no_more_than_the_limit, no_object_deleted_as_a_hook_with_prune_off,
                                                     only_the_expected_plan)


def guard(plan: Plan, options: Options) -> None:
    """Raise Refused with the sentences of all rules that say no."""
    refusals = [sentence for sentence in (rule(plan, options) for rule in RULES) if sentence]
    if refusals:
        raise Refused(" ".join(refusals), errors=refusals)


def conflicts_refused(changes: Sequence[Change], options: Options) -> str:
    """Why on_conflict: fail forbids these changes, "" when it does not."""
    conflicts = [conflict for change in changes for conflict in change.conflicts]
    if options.on_conflict != "fail" or not conflicts:
        return ""
    return (f"{len(conflicts)} fields are held by other field managers: "
            + "; ".join(f"{item.ref} {item.field} ({item.manager})" for item in conflicts[:10])
            + ". Set on_conflict: force to take them, keep to leave them.")


def _names(changes: Sequence[Change]) -> str:
    listed = ", ".join(str(change.ref) for change in changes[:5])
    return listed + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
