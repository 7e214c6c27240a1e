# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete what Git no longer has: last of all, never after an error, each object only as it was seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import TRIES, WRITERS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import KEEPING
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import NOT_FOUND
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF, Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import deletion_steps
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import Target, wait_gone


def prune(cluster: Any, plan: Plan, inventory: Inventory, options: Options, progress: Callable[[str], None]) -> None:
    """Delete the plan's pruned objects in the reverse order of writing; with wait, until they are really gone."""
    changes = {change.ref: change for change in plan.of("pruned")}
    rehearse(cluster, plan)
    with ThreadPoolExecutor(WRITERS) as pool:
        for refs in deletion_steps({ref: change.before or {} for ref, change in changes.items()}):
            inventory.still_ours()
            deleted = [changes[ref] for ref in refs]
            errors = work_on(pool, lambda change: _delete(cluster, change, plan, inventory, options), deleted)
            if errors:
                raise together(errors, "the server refuses to delete")
            if options.wait:
                _until_gone(cluster, [change for change in deleted if change.operation == "pruned"], options, progress)


def rehearse(cluster: Any, plan: Plan) -> None:
    """Ask the server's dry run about one deletion of each kind and namespace: a right that is missing is found before the
    first of many is gone."""
    one_each = {(change.resource, change.ref.namespace): change for change in plan.of("pruned")}
    with ThreadPoolExecutor(WRITERS) as pool:
        errors = work_on(pool, lambda change: _forbidden(cluster, change), one_each.values())
    if errors:
        raise together(errors, "the server refuses to delete, so nothing was pruned")


def _forbidden(cluster: Any, change: Change) -> None:
    try:
        cluster.delete(change.resource, change.ref.namespace, change.ref.name, (change.before or {})["metadata"]["uid"], dry_run=True)
    except Failure as error:
        # Any other refusal may depend on what is deleted before it, or on how the object is by then.
        if getattr(error, "status", None) == 403:
            error.where = str(change.ref)
            error.what += " (nothing was pruned)"
            raise


def _delete(cluster: Any, change: Change, plan: Plan, inventory: Inventory, options: Options) -> None:
    ref, live = change.ref, change.before or {}
    try:
        inventory.still_ours()
        for _attempt in range(TRIES):
            metadata = live["metadata"]
            try:
                cluster.delete(change.resource, ref.namespace, ref.name, metadata["uid"], metadata["resourceVersion"])
                return
            except Failure as error:
                if not getattr(error, "stale", False):
                    raise
            # It changed since it was listed: every rule must hold for what it is now.
            current = cluster.get(change.resource, ref.namespace, ref.name)
            if current is None or current["metadata"]["uid"] != metadata["uid"]:
                return
            labels = current["metadata"].get("labels") or {}
            change.before = live = current
            reason = "" if labels.get(PART_OF) == inventory.id else "left the set meanwhile"
            for rule in KEEPING:
                reason = reason or rule(change, plan, options)
            if reason:
                change.operation, change.reason = "skipped", reason
                return
        raise Failure("somebody else keeps changing it")
    except Failure as error:
        error.where = str(ref)
        raise


def _until_gone(cluster: Any, changes: List[Change], options: Options, progress: Callable[[str], None]) -> None:
    targets = {change.ref: Target(change.resource, 0, (change.before or {})["metadata"]["uid"]) for change in changes}
    result = wait_gone(cluster, targets, options.wait_timeout, progress)
    stuck = [f"{ref}: {health.message}" for ref, health in sorted(result.items()) if health.status != NOT_FOUND]
    if stuck:
        raise Failure(f"{len(stuck)} pruned objects are still there after {options.wait_timeout:g} s: " + "; ".join(stuck[:10]),
                      hint="Their finalizers' controllers must finish, or somebody must remove the finalizers.")
