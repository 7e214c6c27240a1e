# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run hooks: judge them before anything is written, create them, wait for their end, delete them as they say."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import AbstractSet, Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import send
from ansible_collections.nordic.gitops.plugins.module_utils._objects.explain import explain
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, FAILED, IN_PROGRESS, NOT_FOUND, Health, health
from ansible_collections.nordic.gitops.plugins.module_utils._objects.replace import asks_to_be_replaced, claims_lost_with, dry_run_creation
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Body, Change, Ref, annotations_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import deletion
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import (
    FAILED as ON_FAILURE, OF, RUN, SUCCEEDED as ON_SUCCESS, Hook, Split, is_marked, record_of_begun, record_of_done, unfinished)
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.observe import READERS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import PRE_SYNC
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.outcomes import HookOutcome, Outcomes
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import PLANNED_KIND, Plan, with_its_tracking_id, written_first
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.precheck import refuse_what_the_server_would
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import Target, until_gone, wait

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resources
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options

Progress = Callable[[str], None]
# A Job's Pods must have ended before it is created again, or it would run twice at once.
PROPAGATION = "Foreground"
RUN_TO_THEIR_END = (("batch", "Job"), ("", "Pod"))
EXPLAINED = 10  # failed hooks whose events and logs are read
LONGEST_MESSAGE = 4000  # characters
NEEDED = {"serviceAccountName": "ServiceAccount", "configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap", "configMap": "ConfigMap",
          "secretRef": "Secret", "secretKeyRef": "Secret", "secret": "Secret"}
NOT_AGAIN = "it was there already and did not run again; the delete policy BeforeHookCreation lets it run each time"


# ---- before anything is written


def are_due(plan: Plan, inventory: Inventory, split: Split, recorded: bool) -> bool:
    """Whether the hooks run, as in an automated sync of Argo CD: for a new commit with something to do, not when drift is healed.

    A commit that changes only hooks runs them too. recorded: whether a run came to its end at just this commit.
    """
    if recorded or not split.hooks:
        return False
    if plan.to_do or inventory.live is None:
        return True
    if inventory.hooks is None:  # a version that ran no hooks wrote it: those that it applied as objects have run
        return not {hook.ref for hook in split.hooks} <= plan.former_members
    return inventory.hooks != record_of_done(split.digest)


def with_hooks(cluster: Cluster, resources: Resources, plan: Plan, hooks: Sequence[Hook], options: Options) -> Plan:
    """The plan with the hooks that the run runs, each judged by what is there now and by the server's dry run."""
    found: Dict[Ref, Change] = {}
    refs = list({hook.ref: hook for hook in hooks}.values())
    new = {change.ref.name for change in plan.of("created") if (change.ref.group, change.ref.kind) == NAMESPACE}
    new |= {hook.ref.name for hook in hooks if (hook.ref.group, hook.ref.kind) == NAMESPACE}

    going: Set[Ref] = set()  # what is deleted first
    given_up: List[Change] = []

    def look(hook: Hook) -> None:
        change = found[hook.ref] = _judged(cluster, resources, plan, hook, new, options)
        if change.before is None or change.unverified or change.operation == "skipped":
            return
        member = _is_member(change.before, plan, options)
        kept = _kept(cluster, change, plan, options) if member or hook.replaces else ""
        if member and not kept:
            given_up.append(change)
        if not hook.replaces:
            return
        if not kept:
            going.add(hook.ref)
        words = f"kept and applied again, since {kept}" if kept else "deleted first"
        found[hook.ref] = replace(change, reason=f"{change.reason}; the object that is there is {words}")

    with ThreadPoolExecutor(READERS) as pool:
        errors = work_on(pool, look, refs)
        if not errors:
            around = [change for change in plan.changes if (change.ref.group, change.ref.kind) in (CRD, NAMESPACE)]
            refuse_what_the_server_would(cluster, resources, [*around, *found.values()])
            errors = work_on(pool, lambda hook: _dry_run(cluster, plan, found, hook, hook.ref in going, options), refs)
    if errors:
        raise together(errors, "the server refuses what Git says")
    return replace(plan, hooks=tuple(_with_change(hook, found[hook.ref], options) for hook in hooks), owned=plan.owned + len(given_up),
                   given_up=tuple(sorted(given_up, key=lambda change: change.ref)))


def _is_member(live: Body, plan: Plan, options: Options) -> bool:
    """Whether an object is one that was kept until now: no hook made it, neither one of ours nor one of Argo CD's."""
    return not deletion.is_made_by_a_hook(live, plan.scope.inventory) and not (is_marked(live) and deletion.is_tracked_by(live, options))


def with_left(cluster: Cluster, resources: Resources, plan: Plan, inventory: Inventory, not_kept: AbstractSet[Ref], options: Options) -> Plan:
    """The plan with the hooks that a run left which did not come to its end. What Git has is never one of them, be it a hook or an object."""
    in_git = {change.ref for change in plan.changes if change.intent} | not_kept
    left: List[Change] = []

    def look(ref: Ref) -> None:
        resource = resources.preferred(ref.group, ref.kind)
        if ref in in_git or resource is None:
            return
        try:
            live = cluster.get(resource, ref.namespace, ref.name)
        except Failure as error:
            if error.status == 403:
                return  # what this user may not see it never made
            raise
        if live is None or live["metadata"].get("deletionTimestamp"):
            return
        change = Change("pruned", ref, "left by a run that did not come to its end, and no longer in Git", None, resource, None, live, hook=True, replaces=True)
        if not _kept(cluster, change, plan, options):
            left.append(change)

    recorded = unfinished(inventory.hooks or "")
    if recorded:
        with ThreadPoolExecutor(READERS) as pool:
            errors = work_on(pool, look, recorded)
        if errors:
            raise together(errors, "hooks of a run that did not come to its end cannot be looked at")
    return replace(plan, left=tuple(sorted(left, key=lambda change: change.ref)))


def _with_change(hook: Hook, change: Change, options: Options) -> Hook:
    intent = hook.intent
    if change.before is not None and deletion.is_tracked_by(change.before, options):
        intent = with_its_tracking_id(intent, change.before)  # Argo CD finds its hook again
    return replace(hook, intent=intent, change=replace(change, intent=intent, body=intent.body))


def _judged(cluster: Cluster, resources: Resources, plan: Plan, hook: Hook, new: AbstractSet[str], options: Options) -> Change:
    """What the run will do with the object. new: Namespaces that may not be there before it."""
    change = replace(hook.change, reason=f"a hook of {hook.phase}")
    resource = resources.find(hook.intent.api_version, hook.ref.kind)
    if resource is None:
        return replace(change, unverified=PLANNED_KIND)
    change = replace(change, resource=resource)
    if hook.ref.namespace in new:
        return replace(change, unverified=f"its namespace {hook.ref.namespace} is created by the same run")
    live = cluster.get(resource, hook.ref.namespace, hook.ref.name)
    if live is None:
        return change
    change = replace(change, before=live)
    stranger = deletion.not_a_hook_of_ours(change, plan.scope, options)
    if stranger:
        return replace(change, operation="skipped", reason=f"is there already and {stranger}. Delete it, or give the hook another name")
    if live["metadata"].get("deletionTimestamp"):
        return replace(change, unverified="it must be gone first")
    return change


def _kept(cluster: Cluster, change: Change, plan: Plan, options: Options) -> str:
    """Why the object of a hook must stay, "" where it may be deleted: by the gate, and since it may own volumes. Those of a Job are its own."""
    refusal = deletion.rule_against(change, plan.scope, options)
    if refusal:
        return refusal[1]
    if (change.ref.group, change.ref.kind) in RUN_TO_THEIR_END or asks_to_be_replaced(change):
        return ""
    try:
        claims = claims_lost_with(cluster, change)
    except Failure as error:
        if error.status != 403:
            raise
        return f"it cannot be seen which PersistentVolumeClaims it owns ({error.what})"
    return f"it owns PersistentVolumeClaim {', '.join(claims)}" if claims else ""


def needed_too_early(plan: Plan) -> List[str]:
    """Hooks whose Pods need what this very run writes after them: they would wait for it until the time is over (argo-cd #7536)."""
    later = {change.ref for change in plan.of("created")}
    later -= {hook.ref for hook in plan.hooks}
    return [f"{hook.intent.where}: {hook.ref} is a hook of {hook.phase} and needs {ref}, which this run writes after it. Make that a hook of {hook.phase} too, "
            "in an earlier wave" for hook in plan.hooks if hook.phase == PRE_SYNC
            for ref in sorted(later & set(_needs(hook.intent.body, hook.ref.namespace)))]


def _needs(value: Any, namespace: str) -> Iterator[Ref]:
    """The ServiceAccounts, Secrets and ConfigMaps that the Pods of an object cannot start without."""
    if isinstance(value, list):
        for item in value:
            yield from _needs(item, namespace)
    if not isinstance(value, dict) or value.get("optional") is True:
        return
    for key, child in value.items():
        kind = NEEDED.get(key)
        name = child.get("secretName" if key == "secret" else "name") if isinstance(child, dict) else child
        if kind and isinstance(name, str) and not (isinstance(child, dict) and child.get("optional") is True):
            yield Ref("", kind, namespace, name)
        yield from _needs(child, namespace)


def _dry_run(cluster: Cluster, plan: Plan, found: Dict[Ref, Change], hook: Hook, goes: bool, options: Options) -> None:
    """Ask the server about what the run will do; what comes with the same run is asked when it is there."""
    change = found[hook.ref]
    if change.unverified or change.operation == "skipped":
        return
    try:
        if goes:
            deletion.dry_run(cluster, change)
            dry_run_creation(cluster, change)
        else:
            send(cluster, change, _taking_nothing(options), dry_run=True)
    except Failure as error:
        first = written_first([*plan.changes, *list(found.values())], change, error)
        if not first:
            raise explain(error, change) from None
        found[hook.ref] = replace(change, unverified=f"it cannot be verified before {first}, which this run writes first")


def _taking_nothing(options: Options) -> Options:
    """A hook is sent as it is: where a field of another manager must be kept, it is refused."""
    return replace(options, on_conflict="fail") if options.on_conflict == "keep" else options


def record_of_run(plan: Plan) -> Optional[str]:
    """What the parent says of hooks while the run lasts: those that it begins, and those that an earlier run left. None: what it said."""
    return record_of_begun([*(hook.ref for hook in plan.hooks), *(change.ref for change in plan.left)]) if plan.hooks else None


# ---- the run


class HookRuns:
    """The hooks that were started and not waited for yet."""

    def __init__(self, cluster: Cluster, plan: Plan, inventory: Inventory, options: Options, outcomes: Outcomes, progress: Progress) -> None:
        self.cluster, self.plan, self.inventory = cluster, plan, inventory
        self.options, self.outcomes, self.progress = _taking_nothing(options), outcomes, progress
        self.running: Dict[Ref, Tuple[Hook, Target]] = {}
        self.explained = 0  # hooks that failed, of which the first are looked into

    def start(self, pool: ThreadPoolExecutor, hooks: Sequence[Hook]) -> None:
        """Create the hooks of one step."""
        errors = work_on(pool, self._start, hooks)
        if errors:
            raise together(errors, "the server refuses hooks")

    def finish(self) -> None:
        """Wait until every hook that was started has ended; raises when one of them failed."""
        if not self.running:
            return
        running, self.running = self.running, {}
        found = wait(self.cluster, {ref: target for ref, (_hook, target) in running.items()}, self.options.wait_timeout, self.progress,
                     selector=f"{OF}={self.inventory.id}")
        failures = []
        for ref, (hook, target) in running.items():
            outcome = self.outcomes.hooks[hook.phase, ref]
            if found[ref].status == CURRENT:
                self.outcomes.hooks[hook.phase, ref] = replace(outcome, status="Succeeded")
                self._with_its_lifetime(hook, target)
            else:
                failures.append(self._failed(hook, target, found[ref], outcome))
                if found[ref].status == FAILED:
                    with contextlib.suppress(Failure):  # the hook's own failure is the one to tell
                        self._with_its_lifetime(hook, target)
        if failures:
            raise together(failures, "hooks failed")

    def _start(self, hook: Hook) -> None:
        key = (hook.phase, hook.ref)
        try:
            self.inventory.check_lock()
            change, ref = hook.change, hook.ref
            live = self.cluster.get(change.served, ref.namespace, ref.name)
            if live is not None and live["metadata"].get("deletionTimestamp"):
                self._until_gone(change, live)
                live = None
            if live is not None:
                change = replace(change, before=live)
                stranger = deletion.not_a_hook_of_ours(change, self.plan.scope, self.options)
                if stranger:
                    raise Refused(f"is there already and {stranger}")
                if annotations_of(live).get(RUN) == hook.run and self._health(hook, live).status == IN_PROGRESS:
                    self._follow(hook, live, HookOutcome("Running", "started by an earlier run, and waited for"))
                    return
                if hook.replaces:
                    live = self._deleted_first(change)
            after = send(self.cluster, replace(change, before=live, body=_without_its_lifetime(change.body or {})), self.options)
            again = live is None or live["metadata"]["uid"] != after["metadata"]["uid"]
            message = "" if again or self._health(hook, after).status == IN_PROGRESS or ref.kind not in ("Job", "Pod") else NOT_AGAIN
            self._follow(hook, after, HookOutcome("Running", message, wrote=again or live != after, after=after))
        except Failure as error:
            self.outcomes.hooks[key] = HookOutcome("Failed", error.what, key in self.outcomes.hooks and self.outcomes.hooks[key].wrote)
            raise explain(error, hook.change) from None

    def _deleted_first(self, change: Change) -> Optional[Body]:
        """None once the object is gone, the object where a rule keeps it."""
        if _kept(self.cluster, change, self.plan, self.options):
            return change.before
        live, refusal = deletion.delete(self.cluster, change, self.plan.scope, self.options, PROPAGATION)
        if refusal:
            return live
        self._until_gone(change, live)
        return None

    def _follow(self, hook: Hook, live: Body, outcome: HookOutcome) -> None:
        self.outcomes.hooks[hook.phase, hook.ref] = outcome
        self.running[hook.ref] = (hook, Target.of(hook.change.served, live, self.outcomes.health_rules))

    def _health(self, hook: Hook, live: Body) -> Health:
        return health({**live, "apiVersion": hook.intent.api_version, "kind": hook.ref.kind}, self.outcomes.health_rules)

    def _until_gone(self, change: Change, live: Body) -> None:
        until_gone(self.cluster, change, live, self.options.wait_timeout, "It was deleted, to be created again. Its finalizers' controllers must finish first.")

    def _with_its_lifetime(self, hook: Hook, target: Target) -> None:
        """Now that its end was seen, the Job may clean itself up as it says."""
        body = hook.intent.body
        if _without_its_lifetime(body) is not body:
            live = self.cluster.get(target.resource, hook.ref.namespace, hook.ref.name)
            if live is not None and live["metadata"]["uid"] == target.uid:
                send(self.cluster, replace(hook.change, before=live, body=body), self.options)

    def _failed(self, hook: Hook, target: Target, found: Health, outcome: HookOutcome) -> Failure:
        """The failure of one hook, with what its log and its events say, read before anything is deleted."""
        from ansible_collections.nordic.gitops.plugins.module_utils._argocd import evidence
        from ansible_collections.nordic.gitops.plugins.module_utils._argocd.answers import Checked

        words: List[str] = []
        self.explained += 1
        if self.explained <= EXPLAINED:
            with contextlib.suppress(Failure):  # the hook's own failure is the one to tell
                cluster = Checked(self.cluster)
                live = cluster.get(target.resource, hook.ref.namespace, hook.ref.name)
                words = evidence.of_one(cluster, {**live, "apiVersion": target.resource.api_version, "kind": hook.ref.kind}) if live else []
        ended = found.status in (FAILED, NOT_FOUND)
        message = f"{found.status}: {found.message}" if ended else f"still running after {self.options.wait_timeout:g} s: {found.message}"
        status = "Failed" if ended else "Running"
        message = one_line("; ".join(filter(None, (message, outcome.message, *words))), LONGEST_MESSAGE)
        self.outcomes.hooks[hook.phase, hook.ref] = replace(outcome, status=status, message=message)
        return Failure(f"the hook of {hook.phase} failed: {message}" if ended else f"the hook of {hook.phase} is {message}",
                       f"{hook.intent.where}: {hook.ref}", "" if ended else "The next run at this commit waits for it. Raise wait_timeout if it takes longer.")


def _without_its_lifetime(body: Body) -> Body:
    """A Job that does not delete itself before its end was seen (argo-cd #21055)."""
    spec = body.get("spec")
    if body.get("kind") != "Job" or not isinstance(spec, dict) or spec.get("ttlSecondsAfterFinished") is None:
        return body
    return {**body, "spec": {key: value for key, value in spec.items() if key != "ttlSecondsAfterFinished"}}


# ---- deletion at the end


def delete_what_is_left(cluster: Cluster, plan: Plan, inventory: Inventory, options: Options, outcomes: Outcomes) -> None:
    """Delete hooks of a run that did not come to its end, which Git has no longer."""
    for change in plan.left:
        live = _delete(cluster, change, plan, inventory, options)
        if live is not None:
            outcomes.deleted(change, live)


def delete_by_policy(cluster: Cluster, plan: Plan, inventory: Inventory, options: Options, outcomes: Outcomes, succeeded: bool) -> None:
    """Delete what says HookSucceeded when the whole run succeeded, or HookFailed when it failed, which is what Argo CD does."""
    policy = ON_SUCCESS if succeeded else ON_FAILURE
    running = {ref for (_phase, ref), outcome in outcomes.hooks.items() if outcome.status == "Running"}
    chosen = {hook.ref: hook for hook in plan.hooks if policy in hook.policies and hook.ref not in running}
    for ref, hook in chosen.items():
        resource = cluster.discover().find(hook.intent.api_version, ref.kind)
        if resource is not None:
            _delete(cluster, replace(hook.change, resource=resource, operation="pruned"), plan, inventory, options)


def _delete(cluster: Cluster, change: Change, plan: Plan, inventory: Inventory, options: Options) -> Optional[Body]:
    """The object as it was deleted; None where it stays, or was gone."""
    inventory.check_lock()
    live = cluster.get(change.served, change.ref.namespace, change.ref.name)
    if live is None or live["metadata"].get("deletionTimestamp"):
        return None
    change = replace(change, before=live)
    try:
        if _kept(cluster, change, plan, options):
            return None
        deleted, refusal = deletion.delete(cluster, change, plan.scope, options, PROPAGATION)
    except Failure as error:
        raise explain(error, change) from None
    return None if refusal else deleted


def outcomes_of(plan: Plan, outcomes: Outcomes, check_mode: bool) -> List[Tuple[Hook, HookOutcome]]:
    """Every hook of the run with what came of it."""
    nothing = HookOutcome("Planned" if check_mode else "NotRun")
    return [(hook, outcomes.hooks.get((hook.phase, hook.ref), nothing)) for hook in plan.hooks]


__all__ = ["HookRuns", "are_due", "delete_by_policy", "delete_what_is_left", "needed_too_early", "outcomes_of", "record_of_run", "with_hooks",
           "with_left"]
