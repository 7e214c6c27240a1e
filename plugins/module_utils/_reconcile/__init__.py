# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a cluster what Git says. This file reads like the sentence that describes the product; the stages do the work."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, NamedTuple, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import apply, targets_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERRORS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import guard
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import Split, named, record_of_done, split, unfinished
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import intents_of, unknown_kinds
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory, Moved, source_digest
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import POST_SYNC, PRE_SYNC, SYNC, Step, steps
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import Beside
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan, make_plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.prune import dry_run_prune, prune
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import Report
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.run_hooks import (
    are_due, delete_by_policy, delete_what_is_left, needed_too_early, record_of_run, with_hooks, with_left)
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.sync_fail import run_sync_fail
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import unhealthy, wait

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import Rendered
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.source import Source
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster, Resources

Progress = Callable[[str], None]
COMMON = ("v1", "apps/v1")  # API versions of nearly every repository; their schemas are the largest
PLANS = 5  # how often a plan is made again because another run of the same name wrote meanwhile


def reconcile(source: Source, cluster: Cluster, options: Options, progress: Progress) -> Report:
    """Make the cluster what Git says at one commit. Returns a Report; raises Refused with a rule's own words, Failure otherwise.

    Whatever it raises carries the result as its details. source: resolve() -> Commit, render(commit, serves) -> Rendered.
    """
    report = Report(options.check_mode, options.diff)
    report.outcomes.health_rules = options.health_rules
    with report.at_any_end():
        rendered = _fetch_and_render(source, cluster, report)
        for _attempt in range(PLANS):
            with report.stage("plan"), Beside() as beside:
                wanted = _wanted(source, cluster, rendered, options, report, beside)
                if not options.allow_rollback:
                    report.notes += source.refuse_rollback(report.commit, wanted.inventory.commit)
                report.plan = plan = make_plan(cluster, wanted.resources, wanted.intents, wanted.inventory, options, report.commit,
                                               source.digest, wanted.incomplete, wanted.not_kept, wanted.beside)
                if are_due(plan, wanted.inventory, wanted.split, wanted.recorded(report.commit, source.digest)):
                    report.plan = plan = with_hooks(cluster, wanted.resources, plan, wanted.split.hooks, options)
                    report.notes += tuple(needed_too_early(plan)[:ERRORS])
                report.plan = plan = with_left(cluster, wanted.resources, plan, wanted.inventory, wanted.not_kept, options)
                guard(plan, options)
                dry_run_prune(cluster, plan)
            try:
                _enforce(plan, wanted, cluster, options, report, progress, source.digest)
                return report
            except Moved:
                progress("another reconcile of this name wrote meanwhile: planning again")
        raise Failure("other reconciles of this name keep writing", options.name, "Run one at a time.")


def _enforce(plan: Plan, wanted: _Wanted, cluster: Cluster, options: Options, report: Report, progress: Progress, digest: str) -> None:
    """Carry out a plan that was agreed to. Raises Moved, before anything is written, when another run began since it was made."""
    inventory = wanted.inventory
    recorded = (inventory.enforces(report.commit, digest) and wanted.kinds <= inventory.kinds and wanted.namespaces <= inventory.namespaces
                and wanted.recorded(report.commit, digest))
    record = record_of_run(plan)
    if options.check_mode:
        if plan.to_do or not recorded:
            inventory.dry_run()
        return
    if not plan.to_do and recorded:
        with report.stage("wait"):
            _wait(cluster, plan, inventory, options, report, progress)
        return
    order = steps(wanted.intents, plan.hooks)
    with inventory.locked(wanted.kinds, wanted.namespaces, options.wait_timeout, progress, record):
        try:
            _sync(plan, order, wanted, cluster, options, report, progress)
        except Failure as failure:
            if plan.hooks:
                with report.stage("hooks"):
                    run_sync_fail(cluster, plan, order, inventory, options, report.outcomes, progress, failure)
            raise
        inventory.commit_record(report.commit, digest, *_on_record(report, wanted), record_of_done(wanted.split.digest))


def _sync(plan: Plan, order: List[Step], wanted: _Wanted, cluster: Cluster, options: Options, report: Report, progress: Progress) -> None:
    """Write, wait and prune, with the hooks before, among and after that."""
    inventory, outcomes = wanted.inventory, report.outcomes
    before = [step for step in order if step.phase in (PRE_SYNC, SYNC)]
    with report.stage("apply"):
        delete_what_is_left(cluster, plan, inventory, options, outcomes)
        apply(cluster, plan, before, inventory, options, outcomes, progress)
    with report.stage("wait"):
        _wait(cluster, plan, inventory, options, report, progress)
    with report.stage("prune"):
        prune(cluster, plan, inventory, options, outcomes, progress)
    if any(change.takes_over for change in plan.changes):
        with report.stage("apply"):
            apply(cluster, plan, before, inventory, options, outcomes, progress, after_prune=True)
        with report.stage("wait"):
            _wait(cluster, plan, inventory, options, report, progress)
    if plan.hooks:
        with report.stage("hooks"):
            apply(cluster, plan, [step for step in order if step.phase == POST_SYNC], inventory, options, outcomes, progress)
            delete_by_policy(cluster, plan, inventory, options, outcomes, succeeded=True)


class _Wanted(NamedTuple):
    """What Git says, in the terms of this cluster, and what this reconcile has on record."""

    intents: List[Intent]
    kinds: Set[Tuple[str, str]]
    namespaces: Set[str]
    resources: Resources
    inventory: Inventory
    incomplete: str
    split: Split

    @property
    def not_kept(self) -> Set[Ref]:
        """What Git has, and is no member of the inventory."""
        return {hook.ref for hook in self.split.hooks} | self.split.left_out

    @property
    def beside(self) -> List[Change]:
        """What hooks write before or among the intents."""
        return [hook.change for hook in self.split.hooks if hook.phase in (PRE_SYNC, SYNC)]

    def recorded(self, commit: str, digest: str) -> bool:
        """Whether a run came to its end at this commit, and none that runs hooks began since."""
        return self.inventory.enforced(commit, digest) and not unfinished(self.inventory.hooks or "")


def _fetch_and_render(source: Source, cluster: Cluster, report: Report) -> Rendered:
    with ThreadPoolExecutor(1) as pool, Beside() as beside:
        # Discovery needs nothing of Git: it is answered while Git is asked.
        discovery = pool.submit(cluster.discover)

        def load_common() -> None:
            if discovery.exception() is None:  # else nothing that is asked would be answered
                cluster.load_schemas(COMMON)

        beside.do(load_common)
        with report.stage("fetch"):
            report.git_sandbox = source.protection()
            commit = source.resolve()
            report.commit, report.signer = commit.id, commit.signer
        with report.stage("render"):
            rendered = source.render(commit, lambda: (cluster.version(), cluster.discover().api_versions),
                                     lambda documents: unknown_kinds(documents, cluster.discover()))
            report.renderer, report.render_cached, report.notes = rendered.renderer, rendered.cached, rendered.notes
            report.sandbox = rendered.protection
        discovery.result()
    return rendered


def _wanted(source: Source, cluster: Cluster, rendered: Rendered, options: Options, report: Report, beside: Beside) -> _Wanted:
    resources = cluster.discover()
    inventory = Inventory(cluster, cluster.resource("v1", "ConfigMap"), options.name, options.inventory_namespace, source.origin).read()
    notes: List[str] = []
    documents = list(rendered.documents)
    if options.create_namespace is not None:
        from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.from_application import namespaces_to_create

        documents += namespaces_to_create(cluster, dict(options.create_namespace), inventory.labels, documents)
    everything = intents_of(named(documents, report.commit), resources, options.namespace, inventory.labels, notes)
    beside.do(lambda: cluster.load_schemas({intent.api_version for intent in everything}))  # while the cluster's objects are read
    inventory.refuse_own_parent(everything)
    found = split(everything, inventory.id, report.commit, source.digest, notes)
    intents = found.intents
    report.notes = rendered.notes + tuple(notes[:ERRORS])
    steps(intents, found.hooks)  # a wrong annotation is found before anything else is asked
    kinds = {(intent.ref.group, intent.ref.kind) for intent in intents}
    namespaces = {intent.ref.namespace for intent in intents if intent.ref.namespace}
    served = {resources.find(intent.api_version, intent.ref.kind) for intent in intents}
    inventory.recover(resources, {resource for resource in served if resource is not None}, namespaces)
    incomplete = ""
    if rendered.renderer == "helm" and resources.stale:
        incomplete = f"the chart may render less while the API group {', '.join(sorted(resources.stale))} does not answer"
    return _Wanted(intents, kinds, namespaces, resources, inventory, incomplete, found)


def _on_record(report: Report, wanted: _Wanted) -> Tuple[Set[Tuple[str, str]], Set[str]]:
    """Kinds and namespaces of what Git has, and of what was not pruned or is not gone yet: the next run must find it again.

    What was not on record before stays off it: else an object whose label is forged would be skipped once and pruned by the next run.
    """
    kept = [change.ref for change, end in report.ends() if change.intent is None and end.operation != "pruned"] + report.outcomes.still_there
    kept += report.plan.former_members if report.plan else ()
    scope = report.plan.scope if report.plan else None
    kinds, namespaces = (scope.kinds, scope.namespaces) if scope else (frozenset(), frozenset())
    return (wanted.kinds | ({(ref.group, ref.kind) for ref in kept} & kinds), wanted.namespaces | ({ref.namespace for ref in kept} & namespaces))


def _wait(cluster: Cluster, plan: Plan, inventory: Inventory, options: Options, report: Report, progress: Progress) -> None:
    if not options.wait and not any(hook.phase == POST_SYNC for hook in plan.hooks):
        return
    changes = [change for change in plan.of("created", "configured") if report.outcomes.get(change)]
    changes += [change for change in plan.of("unchanged") if plan.health[change.ref].status != CURRENT]
    begin = time.monotonic()
    if changes:
        targets = targets_of(changes, report.outcomes)
        report.outcomes.health.update(wait(cluster, targets, options.wait_timeout, progress, selector=inventory.selector))
    report.outcomes.waited = True
    failure = unhealthy({**plan.health, **report.outcomes.health}, time.monotonic() - begin, options.wait_timeout)
    if failure is not None:
        raise failure


__all__ = ["Options", "Refused", "reconcile", "source_digest"]
