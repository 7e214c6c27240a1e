# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what the plan says, step by step, several objects at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Sequence, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import send, write
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import unchanged
from ansible_collections.nordic.gitops.plugins.module_utils._objects.dry_run import reason_not_released
from ansible_collections.nordic.gitops.plugins.module_utils._objects.explain import explain
from ansible_collections.nordic.gitops.plugins.module_utils._objects.replace import may_replace, put_back
from ansible_collections.nordic.gitops.plugins.module_utils._objects.service import bound_to, without_node_ports
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, Body, Change, Intent, Ref, TakeBack
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import deletion
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import conflicts_refused, limit_refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import Step
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.outcomes import Outcomes
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import CHANGED_KIND, Judge, Plan, fingerprint
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.run_hooks import HookRuns
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import Target, unhealthy, until_gone, wait, wait_established

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resource

# Requests in flight. On two cores the first sync of 401 objects takes 6 % longer with eight, and no less with sixteen.
WRITERS = 12
TRIES = 5  # how often an object that somebody else keeps writing is looked at again
DISCOVERY_PAUSE = 0.3  # before discovery is asked again
DISCOVERY_SECONDS = 15.0  # how long an established CRD may take until discovery shows it

Progress = Callable[[str], None]


def apply(cluster: Cluster, plan: Plan, steps: Sequence[Step], inventory: Inventory, options: Options, outcomes: Outcomes,
          progress: Progress, after_prune: bool = False) -> None:
    """Write every created and configured change in the order of the steps, and run their hooks; stops after the step that had an error.

    after_prune: what takes over something that a pruned object held, and that alone.
    """
    _Writer(cluster, plan, inventory, options, outcomes, progress).apply(steps, after_prune)


class _Writer:
    def __init__(self, cluster: Cluster, plan: Plan, inventory: Inventory, options: Options, outcomes: Outcomes, progress: Progress) -> None:
        self.cluster, self.plan, self.inventory = cluster, plan, inventory
        self.options, self.outcomes, self.progress = options, outcomes, progress
        self.resources = cluster.discover()
        self.by_ref: Dict[Ref, Change] = {change.ref: change for change in plan.changes if change.intent}
        self.judge = Judge(cluster, plan.scope, options, [change.intent for change in self.by_ref.values() if change.intent])
        self.deletions = plan.deletions
        self.hooks = HookRuns(cluster, plan, inventory, options, outcomes, progress)
        self.lock = threading.Lock()

    def apply(self, steps: Sequence[Step], after_prune: bool) -> None:
        # What must be healthy before anything of a later wave is written: also what an earlier run wrote.
        watched: List[Change] = []
        before_this_wave: List[Change] = []
        next_wave = False
        with ThreadPoolExecutor(WRITERS) as pool:
            for step in steps:
                if step.health:
                    before_this_wave, watched, next_wave = before_this_wave + watched, [], True
                here = [self.by_ref[ref] for ref in step.refs if ref in self.by_ref and self.by_ref[ref].takes_over == after_prune]
                changes = [change for change in here if change.operation in ("created", "configured")]
                watched += changes + [change for change in here if change.operation == "unchanged"
                                      and self.plan.health[change.ref].status != CURRENT]
                hooks = () if after_prune else step.hooks
                if not changes and not hooks:
                    continue
                if next_wave:
                    self.hooks.finish()
                self._until_healthy(before_this_wave)
                before_this_wave, next_wave = [], False
                changes = self._discover(changes)
                self.inventory.check_lock()
                changes = self._free_node_ports(changes)
                errors = work_on(pool, self._write, changes)
                if errors:
                    raise together(errors, "the server refuses what Git says")
                definitions = [change for change in changes if (change.ref.group, change.ref.kind) == CRD]
                if definitions:
                    self._until_healthy(definitions, wait_established)
                if hooks:
                    served = self._discover([hook.change for hook in hooks])
                    self.hooks.start(pool, [replace(hook, change=change) for hook, change in zip(hooks, served)])
            self.hooks.finish()

    def _until_healthy(self, changes: Sequence[Change], waiter: Callable[..., Any] = wait) -> None:
        if not changes:
            return
        begin = time.monotonic()
        timeout = self.options.wait_timeout
        result = waiter(self.cluster, targets_of(changes, self.outcomes), timeout, self.progress, selector=self.inventory.selector)
        self.outcomes.health.update(result)
        failure = unhealthy(result, time.monotonic() - begin, timeout, "What comes after was not applied.")
        if failure is not None:
            raise failure

    def _discover(self, changes: Sequence[Change]) -> List[Change]:
        """Find the kinds of CRDs that this run has created."""
        deadline = time.monotonic() + DISCOVERY_SECONDS
        result = list(changes)
        while True:
            unknown: List[Intent] = []
            for position, change in enumerate(result):
                if change.resource is None and change.intent is not None:
                    resource = self._served(change.intent)
                    result[position] = self.by_ref[change.ref] = replace(change, resource=resource)
                    if resource is None:
                        unknown.append(change.intent)
            if not unknown:
                return result
            if time.monotonic() > deadline:
                raise Failure("the API server does not serve the kind although its CRD is established",
                              f"{unknown[0].where}: {unknown[0].ref}")
            self.resources = self.cluster.discover(refresh=True)
            if self._served(unknown[0]) is None:
                time.sleep(0.1)

    def _served(self, intent: Intent) -> Optional[Resource]:
        """The kind's resource, None while it is not there, or still goes with its former definition."""
        resource = self.resources.find(intent.api_version, intent.ref.kind)
        return resource if resource is not None and "patch" in resource.verbs else None

    def _free_node_ports(self, changes: Sequence[Change]) -> List[Change]:
        """Have Services give up the node ports that others take from them, when these are written first or each needs the other's."""
        for ref in dict.fromkeys(ref for change in changes for ref in change.takes_from):
            holder = self.by_ref[ref]
            if holder.ref in self.outcomes.by_ref or holder.intent is None:
                continue
            try:
                live = self.cluster.get(holder.served, ref.namespace, ref.name)
                if live is None:
                    continue
                without = replace(holder, before=live, body=without_node_ports(holder.intent.body), writes=True, take=holder.take or TakeBack(claims=True))
                after = write(self.cluster, without, self.options).after
            except Failure as error:
                self.outcomes.failed(holder, error.what)
                raise explain(error, holder) from None
            self.outcomes.written(holder, "configured", holder.before, after)
            self.by_ref[ref] = replace(holder, body=bound_to(holder.intent.body, after), take=None, writes=True)
        return [self.by_ref[change.ref] for change in changes]

    # ---- one object

    def _write(self, planned: Change) -> None:
        try:
            self.inventory.check_lock()
            change = planned
            if change.replaces:
                self._replace(change)
                return
            if change.before is not None and change.before["metadata"].get("deletionTimestamp"):
                self._until_gone(change, change.before)
                change = replace(change, take=None, before=None)
            deadline = time.monotonic() + DISCOVERY_SECONDS
            attempts = 0
            while attempts < TRIES:
                try:
                    self._write_once(change)
                    return
                except Failure as error:
                    if planned.unverified == CHANGED_KIND and error.status in (400, 422, 500) and not error.unserved and time.monotonic() < deadline:
                        time.sleep(0.2)  # the API server serves a changed definition a moment after it was written
                        continue
                    if planned.unverified and change.before is not None and error.immutable and may_replace(change, self.options):
                        self._replace(self._replacement(change, error))
                        return
                    attempts += 1
                    if error.unserved:  # since this run changed the definition
                        time.sleep(DISCOVERY_PAUSE)
                        self.resources = self.cluster.discover(refresh=True)
                    elif not _has_moved(change, error):
                        raise
                    again = self._judge_again(planned)
                    if again is None:
                        return
                    change = again
            raise Failure("somebody else keeps changing it")
        except Failure as error:
            wrote = planned.ref in self.outcomes.by_ref and self.outcomes.by_ref[planned.ref].wrote
            self.outcomes.failed(planned, error.what, wrote)
            raise explain(error, planned) from None

    def _write_once(self, change: Change) -> None:
        if change.take is None and not change.writes:
            return
        after, not_released = write(self.cluster, change, self.options)
        self.outcomes.written(change, _operation(change, after), change.before, after, reason_not_released(not_released) if not_released else "")

    def _judge_again(self, planned: Change) -> Optional[Change]:
        """What is to be done with an object that is not what the plan saw, by the rules of the plan; None: nothing more."""
        if planned.intent is None:
            raise AssertionError("what is pruned is not written")
        ref = planned.ref
        live = self.cluster.get(planned.served, ref.namespace, ref.name)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            self._until_gone(planned, live)
            live = None
        if live is None:
            return replace(planned, before=None, take=None, writes=True, body=planned.intent.body)
        change = self.judge.judge(planned.served, planned.intent, live)
        refusal = change.reason if change.operation == "skipped" else conflicts_refused([change], self.options)
        if not refusal and self.options.expect and fingerprint(change) != fingerprint(planned):
            refusal = f"it changed since the plan {self.options.expect} was made"
        if refusal:
            self.outcomes.conflicts += change.conflicts
            raise Refused(refusal)
        if change.operation == "unchanged":
            self.outcomes.written(change, "unchanged", live, live)  # somebody else brought it there: no change of ours
            return None
        # What the server would have to be asked about is simply written: a write that changes nothing is no change.
        return replace(change, writes=change.writes or change.undecided, undecided=False, reason=planned.reason)

    def _replacement(self, change: Change, error: Failure) -> Change:
        """The replacement of an object whose field turned out to be immutable by its new definition: by the rules of the plan."""
        change = self.judge.replacement(change, error)
        with self.lock:
            deletions = [*self.deletions, change]
            refusal = limit_refused(deletions, self.plan.owned, self.options)
            if not refusal and self.options.expect:
                refusal = f"it would be deleted and created again, which the plan {self.options.expect} does not say"
            if refusal:
                raise Refused(refusal)
            self.deletions = deletions
        return change

    def _replace(self, change: Change) -> None:
        live, refusal = deletion.delete(self.cluster, change, self.plan.scope, self.options)
        if refusal:
            raise Refused(f"must not be replaced: {refusal}")
        self.outcomes.deleted(change, live)
        self._until_gone(change, live)
        try:
            after = send(self.cluster, replace(change, before=None), self.options)
        except Failure as error:
            try:
                put_back(self.cluster, change.served, live)
            except Failure as second:
                error.what += f". It was deleted before, and could not be put back: {second.what}"
            else:
                error.what += ". It was deleted before, and was put back as it had been"
            raise
        self.outcomes.written(change, "configured", live, after)

    def _until_gone(self, change: Change, live: Body) -> None:
        until_gone(self.cluster, change, live, self.options.wait_timeout, "Its finalizers' controllers must finish first.")


def targets_of(changes: Sequence[Change], outcomes: Outcomes) -> Dict[Ref, Target]:
    """What to wait for after the changes were written: each object at the generation that the write answered."""
    result = {}
    for change in changes:
        outcome = outcomes.get(change)
        live = change.before if outcome is None else outcome.after
        resource = change.served if outcome is None or outcome.resource is None else outcome.resource
        result[change.ref] = Target.of(resource, live or {}, outcomes.health_rules)
    return result


def _operation(change: Change, after: Body) -> str:
    if change.before is None or change.before["metadata"].get("uid") != after["metadata"].get("uid"):
        return "created"
    return "unchanged" if unchanged(change.before, after) else "configured"


def _has_moved(change: Change, error: Failure) -> bool:
    """Whether the object is not the one that the plan saw: it changed, it is gone, or one was created meanwhile."""
    if error.stale:
        return True
    status = error.status
    return status == 404 and change.before is not None or status == 409 and change.before is None and bool(error.conflicts)
