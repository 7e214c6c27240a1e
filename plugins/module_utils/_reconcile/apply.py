# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what the plan says, step by step, several objects at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import send
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import compare, unchanged
from ansible_collections.nordic.gitops.plugins.module_utils._objects.explain import explain
from ansible_collections.nordic.gitops.plugins.module_utils._objects.patch import send_patch
from ansible_collections.nordic.gitops.plugins.module_utils._objects.replace import may_replace
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, Body, Change, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import CURRENT, NOT_FOUND, health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import autoscaled
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import Step
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan
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

    def apply(self, plan: Plan, steps: Sequence[Step]) -> None:
        """Write every created and configured change in the order of the steps; stops after the step that had an error."""
        by_ref: Dict[Ref, Change] = {change.ref: change for change in plan.changes if change.intent}
        self.minimum = autoscaled(change.intent.body for change in by_ref.values() if change.intent)
        # What must be healthy before anything of a later wave is written: also what an earlier run wrote.
        watched: List[Change] = []
        before_this_wave: List[Change] = []
        with ThreadPoolExecutor(WRITERS) as pool:
            for step in steps:
                if step.health:
                    before_this_wave, watched = before_this_wave + watched, []
                here = [by_ref[ref] for ref in step.refs if ref in by_ref]
                changes = [change for change in here if change.operation in ("created", "configured")]
                watched += changes + [change for change in here if change.operation == "unchanged"
                                      and plan.health[change.ref].status != CURRENT]
                if not changes:
                    continue
                self._until_healthy(before_this_wave)
                before_this_wave = []
                self._discover(changes)
                self.inventory.still_ours()
                errors = work_on(pool, self._write, changes)
                if errors:
                    raise together(errors, "the server refuses what Git says")
                definitions = [change for change in changes if (change.ref.group, change.ref.kind) == CRD]
                if definitions:
                    self._until_healthy(definitions, wait_established)

    def _until_healthy(self, changes: Sequence[Change], waiter: Callable[..., Any] = wait) -> None:
        if not changes:
            return
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
            unknown: List[Intent] = []
            for change in changes:
                if change.resource is None and change.intent is not None:
                    change.resource = self.resources.find(change.intent.api_version, change.ref.kind)
                    if change.resource is None:
                        unknown.append(change.intent)
            if not unknown:
                return
            if time.monotonic() > deadline:
                raise Failure("the API server does not serve the kind although its CRD is established",
                              f"{unknown[0].where}: {unknown[0].ref}")
            self.resources = self.cluster.discover(refresh=True)
            if self.resources.find(unknown[0].api_version, unknown[0].ref.kind) is None:
                time.sleep(0.1)

    # ---- one object

    def _write(self, change: Change) -> None:
        try:
            self.inventory.still_ours()
            if change.before is not None and change.before["metadata"].get("deletionTimestamp"):
                self._until_gone(change, change.before)
                change.patch, change.before = [], None
            elif change.replaces:
                self._replace(change)
            for _attempt in range(TRIES):
                try:
                    self._write_once(change)
                    return
                except Failure as error:
                    if not getattr(error, "stale", False):
                        raise
                    self._look_again(change)
            raise Failure("somebody else keeps changing it")
        except Failure as error:
            if getattr(error, "immutable", False) and change.before is not None and may_replace(change, self.options):
                change.reason += "; an immutable field: deleted and created again"
                try:
                    self._replace(change)
                    self._write_once(change)
                    return
                except Failure as second:
                    error = second
            raise explain(error, change) from None

    def _write_once(self, change: Change) -> None:
        if change.patch:
            change.after = send_patch(self.cluster, change)
        if change.writes:
            change.after = send(self.cluster, change, self.options)

    def _look_again(self, change: Change) -> None:
        """Read an object that changed since it was listed: the patch named places of the version that was seen."""
        live = self.cluster.get(change.resource, change.ref.namespace, change.ref.name)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            self._until_gone(change, live)
            live = None
        change.before, change.after = live, None
        if live is None:
            change.patch, change.writes = [], True
            return
        compared = compare(change, live, self.options, self.minimum.get(change.ref))
        change.body, change.patch, change.conflicts, change.writes = compared.body, compared.patch, compared.conflicts, compared.writes
        change.undecided = compared.undecided
        # What the server would have to be asked about is simply written: a write that changes nothing is no change.
        change.writes, change.undecided = change.writes or change.undecided, False
        if not change.writes and not change.patch:
            change.after = live  # somebody else brought it there: no change of ours

    def _replace(self, change: Change) -> None:
        live = self.cluster.get(change.resource, change.ref.namespace, change.ref.name)
        if live is not None:
            self.cluster.delete(change.resource, change.ref.namespace, change.ref.name, live["metadata"]["uid"])
            self._until_gone(change, live)
        change.patch, change.writes, change.replaces = [], True, True

    def _until_gone(self, change: Change, live: Body) -> None:
        target = Target(change.resource, 0, live["metadata"]["uid"])
        left = wait_gone(self.cluster, {change.ref: target}, self.options.wait_timeout)[change.ref]
        if left.status != NOT_FOUND:
            raise Failure(f"is still there after {self.options.wait_timeout:g} s: {left.message}",
                          hint="Its finalizers' controllers must finish first.")


def targets_of(changes: Sequence[Change]) -> Dict[Ref, Target]:
    """What to wait for after the changes were written: each object at the generation that the write answered."""
    return {change.ref: Target.of(change.resource, change.after or change.before or {}) for change in changes}


def settle_operations(plan: Plan, earlier: Plan) -> None:
    """Say what really happened: an answer that is what was there before is no change; what an earlier plan of this run wrote is one."""
    for change in plan.of("configured"):
        if change.before and change.after and not change.replaces and unchanged(change.before, change.after):
            change.operation, change.reason = "unchanged", "in sync"
            plan.health[change.ref] = health(change.after)
    written = {change.ref: change for change in earlier.of("created", "configured") if change.after is not None}
    for change in plan.of("unchanged"):
        if change.ref in written:
            change.operation, change.reason = written[change.ref].operation, written[change.ref].reason
            change.before, change.after = written[change.ref].before, written[change.ref].after
