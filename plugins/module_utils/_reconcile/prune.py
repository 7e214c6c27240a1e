# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete what Git no longer has: last of all, never after an error, each object only as it was seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, counted
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import send
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import deletion
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import WRITERS
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import NOT_FOUND
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import deletion_steps
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.outcomes import Outcomes
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import Target, wait_gone

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster


def prune(cluster: Cluster, plan: Plan, inventory: Inventory, options: Options, outcomes: Outcomes, progress: Callable[[str], None]) -> None:
    """Delete the plan's pruned objects in the reverse order of writing; with wait, until they are really gone."""
    for change in plan.of("configured"):
        if change.intent is None:  # it cannot be deleted, so what Git set is taken back
            inventory.check_lock()
            outcomes.written(change, "configured", change.before, send(cluster, change, options))
    changes = {change.ref: change for change in plan.of("pruned")}
    if not changes:
        return

    def delete(change: Change) -> None:
        try:
            inventory.check_lock()
            live, refusal = deletion.delete(cluster, change, plan.scope, options)
        except Failure as error:
            error.where = str(change.ref)
            outcomes.failed(change, error.what)
            raise
        if refusal:
            outcomes.skipped(change, live, refusal)
        else:
            outcomes.deleted(change, live)

    # What is being deleted already has its place in the order too: what it depends on may go only after it.
    going = {change.ref: change for change in plan.of("skipped") if change.intent is None and (change.before or {})["metadata"].get("deletionTimestamp")}
    holders = any(change.takes_over for change in plan.changes)
    with ThreadPoolExecutor(WRITERS) as pool:
        for step in deletion_steps({ref: change.before or {} for ref, change in {**going, **changes}.items()}):
            inventory.check_lock()
            here = [changes[ref] for ref in step.refs if ref in changes]
            before = [going.get(ref) or changes[ref] for ref in step.gone if ref in going or outcomes.operation_of(ref) == "pruned"]
            if here and before:
                _until_gone(cluster, before, options, outcomes, progress)
            errors = work_on(pool, delete, here)
            if errors:
                raise together(errors, "the server refuses to delete")
            if options.wait or holders:
                _until_gone(cluster, [change for change in here if outcomes.operation_of(change.ref) == "pruned"], options, outcomes, progress)
    if not options.wait:
        outcomes.still_there += _still_there(cluster, [change for change in changes.values() if outcomes.operation_of(change.ref) == "pruned"],
                                             inventory)


def dry_run_prune(cluster: Cluster, plan: Plan) -> None:
    """Ask the server's dry run about one deletion of each kind and namespace: a right that is missing is found before the
    first of many is gone."""
    one_each = {(change.resource, change.ref.namespace): change for change in plan.of("pruned")}
    if not one_each:
        return
    with ThreadPoolExecutor(WRITERS) as pool:
        errors = work_on(pool, lambda change: deletion.dry_run(cluster, change), one_each.values())
    if errors:
        for error in errors:
            error.what += " (nothing was pruned)"
        raise together(errors, "the server refuses to delete, so nothing was pruned")


def _until_gone(cluster: Cluster, changes: List[Change], options: Options, outcomes: Outcomes, progress: Callable[[str], None]) -> None:
    if not changes:
        return
    targets = {change.ref: _target(change, outcomes) for change in changes}
    result = wait_gone(cluster, targets, options.wait_timeout, progress)
    stuck = [ref for ref, health in sorted(result.items()) if health.status != NOT_FOUND]
    if stuck:
        outcomes.still_there += stuck
        raise Failure(f"{counted(len(stuck), 'pruned object')} still there after {options.wait_timeout:g} s: "
                      + "; ".join(f"{ref}: {result[ref].message}" for ref in stuck[:10]),
                      hint="Their finalizers' controllers must finish, or somebody must remove the finalizers.")


def _still_there(cluster: Cluster, changes: List[Change], inventory: Inventory) -> List[Any]:
    """What was deleted and not waited for, and has a finalizer that holds it: one LIST for each kind and namespace."""
    found = []
    uids = {(change.before or {})["metadata"]["uid"]: change.ref for change in changes}
    for resource, namespace in sorted({(change.served, change.ref.namespace) for change in changes}):
        try:
            items = cluster.list(resource, namespace, inventory.selector, metadata_only=True)[0]
        except Failure as error:
            if error.status == 404:
                continue  # the kind went with its definition
            raise
        found += [uids[item["metadata"]["uid"]] for item in items if item["metadata"]["uid"] in uids]
    return found


def _target(change: Change, outcomes: Outcomes) -> Target:
    outcome = outcomes.get(change)
    live = (outcome.before if outcome else None) or change.before or {}
    return Target(change.served, 0, live["metadata"]["uid"])
