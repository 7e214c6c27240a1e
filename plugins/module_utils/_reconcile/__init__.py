# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a cluster what Git says. This file reads like the sentence that describes the product; the stages do the work."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import Writer, settle_operations, targets_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import guard
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import CURRENT
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import intents_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory, Moved, source_digest
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import steps
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan, make_plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.prune import prune, rehearse
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import Report
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import unhealthy, wait

Progress = Callable[[str], None]
PLANS = 5  # how often a plan is made again because another run of the same name wrote meanwhile


def reconcile(source: Any, cluster: Any, options: Options, progress: Progress) -> Report:
    """Make the cluster what Git says at one commit. Returns a Report; raises Refused with a rule's own words, Failure otherwise.

    source: resolve() -> Commit, render(commit, serves) -> Rendered. cluster: a _cluster.Cluster.
    """
    clock = _Stopwatch()
    with ThreadPoolExecutor(1) as pool:
        # Discovery needs nothing of Git: it is answered while Git is asked.
        discovery = pool.submit(cluster.discover)
        with clock.stage("fetch"):
            commit = source.resolve()
        with clock.stage("render"):
            rendered = source.render(commit, lambda: (cluster.version(), cluster.discover().api_versions))
        discovery.result()
    report = Report(commit.id, commit.signer, seconds=clock.seconds, check_mode=options.check_mode,
                    rendered=rendered.renderer, cached=rendered.cached, notes=rendered.notes)
    for _attempt in range(PLANS):
        try:
            return _enforce(rendered, report, cluster, options, progress, clock, source.digest)
        except Moved:
            progress("another reconcile of this name wrote meanwhile: planning again")
    raise Failure("other reconciles of this name keep writing", options.name, "Run one at a time.")


def _enforce(rendered: Any, report: Report, cluster: Any, options: Options, progress: Progress, clock: _Stopwatch,
             digest: str) -> Report:
    with clock.stage("plan"):
        resources = cluster.discover()
        inventory = Inventory(cluster, resources.find("v1", "ConfigMap"), options.name, options.inventory_namespace).read()
        intents = intents_of(rendered.documents, resources, options.namespace, inventory.labels)
        inventory.not_among(intents)
        order = steps(intents)
        kinds = {(intent.ref.group, intent.ref.kind) for intent in intents}
        namespaces = {intent.ref.namespace for intent in intents if intent.ref.namespace}
        inventory.recover(resources, {resources.find(intent.api_version, intent.ref.kind) for intent in intents} - {None}, namespaces)
        # Healing what drifted from the commit already enforced takes no lock, and so costs no write beside its own: if
        # another run begins meanwhile, this one notices at its end, plans again under the lock, and enforces the whole of its commit.
        # The record must hold every kind all the same: a chart may render to others for another version of helm or of the cluster.
        healing = inventory.settled(report.commit, digest) and kinds <= inventory.kinds and namespaces <= inventory.namespaces
    try:
        if not healing and not options.check_mode:
            inventory.hold(kinds, namespaces, options.wait_timeout, progress=progress)
        plan = _plan(rendered, cluster, resources, intents, inventory, options, clock)
        if healing and plan.of("pruned") and not options.check_mode:
            inventory.hold(kinds, namespaces, options.wait_timeout, progress=progress)
            healing = False
            plan = _plan(rendered, cluster, resources, intents, inventory, options, clock)
        if healing:
            for change in plan.of("created"):
                change.reason = "somebody deleted it" if change.reason == "new" else change.reason
        earlier, report.plan, report.health = report.plan, plan, dict(plan.health)
        if options.check_mode:
            if not healing:
                inventory.rehearse()
            rehearse(cluster, plan)
            return report
        if healing and plan.of("created", "configured") and not inventory.unmoved():
            settle_operations(plan, earlier)
            raise Moved()
        with clock.stage("apply"):
            Writer(cluster, resources, inventory, options, progress).apply(plan, order)
        with clock.stage("wait"):
            _wait(cluster, plan, report, inventory, options, progress)
        with clock.stage("prune"):
            prune(cluster, plan, inventory, options, progress)
        settle_operations(plan, earlier)
        report.health = {**plan.health, **report.health}
        if healing and plan.of("created", "configured") and not inventory.unmoved():
            raise Moved()
        for kept in plan.of("skipped"):
            # What was not pruned stays in the set: the next run must find it again.
            kinds.add((kept.ref.group, kept.ref.kind))
            namespaces.update({kept.ref.namespace} - {""})
        inventory.settle(report.commit, digest, kinds, namespaces)
    except BaseException:
        with contextlib.suppress(Failure):  # the first error is the one to tell
            inventory.release()
        raise
    return report


def _plan(rendered: Any, cluster: Any, resources: Any, intents: Any, inventory: Inventory, options: Options, clock: _Stopwatch) -> Plan:
    with clock.stage("plan"):
        plan = make_plan(cluster, resources, intents, inventory, options)
        if rendered.renderer == "helm" and resources.stale:
            plan.half_seen = f"the chart may render less while the API group {', '.join(sorted(resources.stale))} does not answer"
        guard(plan, options)
        return plan


def _wait(cluster: Any, plan: Plan, report: Report, inventory: Inventory, options: Options, progress: Progress) -> None:
    if not options.wait:
        return
    changes = plan.of("created", "configured") + [
        change for change in plan.of("unchanged") if plan.health[change.ref].status != CURRENT]
    begin = time.monotonic()
    if changes:
        report.health.update(wait(cluster, targets_of(changes), options.wait_timeout, progress, selector=inventory.selector))
    report.waited = True
    failure = unhealthy(report.health, time.monotonic() - begin, options.wait_timeout)
    if failure is not None:
        settle_operations(plan, Plan())
        for change in plan.of("pruned"):
            change.operation, change.reason, change.left = "skipped", "nothing is pruned while something is not healthy", True
        failure.details = report.result()
        raise failure


class _Stopwatch:
    """Seconds by stage; a stage that runs again adds to its own."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin


__all__ = ["Options", "Refused", "reconcile", "source_digest"]
