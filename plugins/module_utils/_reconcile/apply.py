# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what the plan says, step by step, several objects at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import seal
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import NOT_FOUND
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.objects import Change, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import CRD, Step
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import (
    Plan, autoscaler_minimum, compare, failures, in_repository, may_replace, together, unchanged)
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import (
    Target, unhealthy, wait, wait_established, wait_gone)

# The API server's own work is the limit from two writers on (measured); eight also hide a network's latency.
WRITERS = 8
TRIES = 5  # how often an object that somebody else keeps writing is looked at again
DISCOVERY_SECONDS = 15.0  # how long an established CRD may take until discovery shows it


class Writer:
    """Writes changes to one cluster."""

    def __init__(self, cluster: Any, resources: Any, inventory: Inventory, options: Options,
                 progress: Callable[[str], None]) -> None:
        self.cluster, self.resources, self.inventory = cluster, resources, inventory
        self.options, self.progress = options, progress
        self.minimum: Dict[Ref, int] = {}
        self.gone = False  # the server stopped answering: each further object would wait out its whole patience

    def apply(self, plan: Plan, steps: Sequence[Step]) -> None:
        """Write every created and configured change in the order of the steps; stops after the step that had an error."""
        self.minimum = autoscaler_minimum([change.intent for change in plan.changes if change.intent])
        by_ref: Dict[Ref, Change] = {change.ref: change for change in plan.of("created", "configured")}
        written: List[Change] = []
        with ThreadPoolExecutor(WRITERS) as pool:
            for step in steps:
                changes = [by_ref[ref] for ref in step.refs if ref in by_ref]
                if not changes:
                    continue
                if step.health:
                    self._until_healthy(written)
                self._discover(changes)
                self.inventory.still_ours()
                errors = failures(pool, self._write, changes)
                if errors:
                    raise together(errors, "the server refuses what Git says")
                written += changes
                definitions = [change for change in changes if (change.ref.group, change.ref.kind) == CRD]
                if definitions:
                    self._until_healthy(definitions, wait_established)

    def _until_healthy(self, changes: Sequence[Change], waiter: Callable[..., Any] = wait) -> None:
        begin = time.monotonic()
        timeout = self.options.wait_timeout
        result = waiter(self.cluster, targets_of(changes), timeout, self.progress, selector=self.inventory.selector)
        failure = unhealthy(result, time.monotonic() - begin, timeout)
        if failure is not None:
            failure.hint = "What comes after was not applied. " + failure.hint
            raise failure

    def _discover(self, changes: Sequence[Change]) -> None:
        """Find the kinds of CRDs that this run has created."""
        deadline = time.monotonic() + DISCOVERY_SECONDS
        while True:
            for change in changes:
                if change.resource is None and change.intent is not None:
                    change.resource = self.resources.find(change.intent.api_version, change.ref.kind)
            unknown = [change for change in changes if change.resource is None]
            if not unknown:
                return
            if time.monotonic() > deadline:
                raise Failure("the API server does not serve the kind although its CRD is established",
                              f"{unknown[0].intent.where}: {unknown[0].ref}" if unknown[0].intent else "")
            self.resources = self.cluster.discover(refresh=True)
            if self.resources.find(unknown[0].intent.api_version, unknown[0].ref.kind) is None:  # type: ignore[union-attr]
                time.sleep(0.1)

    # ---- one object

    def _write(self, change: Change) -> Optional[Failure]:
        if self.gone:
            return None
        try:
            self.inventory.still_ours()
            if change.before is not None and change.before["metadata"].get("deletionTimestamp"):
                self._until_gone(change)
            elif change.replaces:
                self._replace(change)
            for _attempt in range(TRIES):
                try:
                    self._write_once(change)
                    return None
                except Failure as error:
                    if not getattr(error, "stale", False):
                        raise
                    self._look_again(change)
            raise Failure("somebody else keeps changing it")
        except Failure as error:
            if getattr(error, "immutable", False) and may_replace(change, self.options):
                change.reason += "; an immutable field: deleted and created again"
                try:
                    self._replace(change)
                    self._write_once(change)
                    return None
                except Failure as second:
                    error = second
            self.gone = self.gone or getattr(error, "retryable", False)
            return in_repository(error, change)

    def _write_once(self, change: Change) -> None:
        before = change.before
        if change.patch and before is not None:
            change.after = self.cluster.patch(change.resource, change.ref.namespace, change.ref.name, change.patch)
        if not change.writes:
            return
        force = self.options.on_conflict == "force" or all(
            seal.is_person(item.manager) for item in change.conflicts) or self.options.on_conflict == "keep"
        change.after, _created = self.cluster.apply(change.resource, change.body, force=force)

    def _look_again(self, change: Change) -> None:
        """Read an object that changed since it was listed: the patch named places of the version that was seen."""
        live = self.cluster.get(change.resource, change.ref.namespace, change.ref.name)
        change.before, change.after = live, None
        if live is None:
            change.patch, change.writes = [], True
            return
        reason = change.reason
        compare(change, live, self.options, self.minimum.get(change.ref))
        # What the server would have to be asked about is simply written: a write that changes nothing is no change.
        change.writes = change.writes or change.operation == "referee"
        change.operation, change.reason = "configured", reason

    def _replace(self, change: Change) -> None:
        live = self.cluster.get(change.resource, change.ref.namespace, change.ref.name)
        if live is not None:
            change.before = live
            self.cluster.delete(change.resource, change.ref.namespace, change.ref.name, live["metadata"]["uid"])
            self._until_gone(change)
        change.patch, change.before = [], None

    def _until_gone(self, change: Change) -> None:
        uid = (change.before or {})["metadata"]["uid"]
        left = wait_gone(self.cluster, {change.ref: Target(change.resource, 0, uid)}, self.options.wait_timeout)[change.ref]
        if left.status != NOT_FOUND:
            raise Failure(f"is still there after {self.options.wait_timeout:g} s: {left.message}",
                          hint="Its finalizers' controllers must finish first.")
        change.patch, change.before = [], None


def targets_of(changes: Sequence[Change]) -> Dict[Ref, Target]:
    """What to wait for after the changes were written: each object at the generation that the write answered."""
    return {change.ref: Target.of(change.resource, change.after or change.before or {}) for change in changes}


def settle_operations(plan: Plan, earlier: Plan) -> None:
    """Say what really happened: an answer that is what was there before is no change; what an earlier plan of this run wrote is one."""
    for change in plan.of("configured"):
        if change.before and change.after and not change.replaces and unchanged(change.before, change.after):
            change.operation, change.reason = "unchanged", "in sync"
    written = {change.ref: change for change in earlier.of("created", "configured") if change.after is not None}
    for change in plan.of("unchanged"):
        if change.ref in written:
            change.operation, change.reason = written[change.ref].operation, written[change.ref].reason
            change.before, change.after = written[change.ref].before, written[change.ref].after
