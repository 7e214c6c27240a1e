# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells: counts, reasons, seconds, and a diff that a person can read."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Outcome, Ref, annotations_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import LAST_APPLIED
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import RUN, Hook
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import PHASES, SYNC_FAIL
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.outcomes import HookOutcome, Outcomes
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan, shown
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.run_hooks import outcomes_of

OPERATIONS = ("created", "configured", "unchanged", "pruned", "skipped", "failed")


@dataclass
class Report:
    """What a run tells, however it ends; result() is what the module returns."""

    check_mode: bool = False
    diff: bool = False
    commit: str = ""
    signer: Optional[str] = None
    renderer: str = ""
    render_cached: bool = False
    sandbox: str = ""
    git_sandbox: str = ""
    notes: Tuple[str, ...] = ()  # what a person should know though it is no error
    plan: Optional[Plan] = None
    outcomes: Outcomes = field(default_factory=Outcomes)
    seconds: Dict[str, float] = field(default_factory=dict)
    errors: Sequence[str] = ()
    failed: bool = False

    def result(self) -> Body:
        """The module's result: JSON types only, and the same keys at every end."""
        plan, ends = self.plan or Plan(), self.ends()
        unhealthy = [(ref, health) for ref, health in sorted({**plan.health, **self.outcomes.health}.items()) if health.status != "Current"]
        conflicts = [item for change in plan.changes for item in change.conflicts] + self.outcomes.conflicts
        hooks = outcomes_of(plan, self.outcomes, self.check_mode)
        left = [(change, self._end(change)) for change in plan.left]
        result: Body = {
            "changed": any(end.wrote for _change, end in ends) or any(_ran(hook, outcome) for hook, outcome in hooks)
            or any(end.wrote for _change, end in left),
            "commit": self.commit or None,
            "signer": self.signer,
            "renderer": self.renderer or None,
            "render_cached": self.render_cached,
            "sandbox": self.sandbox,
            "git_sandbox": self.git_sandbox,
            "plan_id": self.plan.id if self.plan else None,
            "counts": {operation: sum(end.operation == operation for _change, end in ends) for operation in OPERATIONS},
            "changes": [_change(change, end, self.check_mode) for change, end in ends if end.operation != "unchanged" or end.incomplete],
            "hooks": [{"object": _object(hook.ref), "phase": hook.phase, "wave": hook.wave, "delete_policy": sorted(hook.policies), "status": outcome.status,
                       "message": outcome.message or (hook.change.reason if outcome.status == "Planned" else ""), "source": hook.intent.where}
                      for hook, outcome in hooks] + [_left(change, end, self.check_mode) for change, end in left],
            "conflicts": [{"object": _object(item.ref), "field": item.field, "manager": item.manager} for item in dict.fromkeys(conflicts)],
            "dry_runs": plan.dry_runs,
            "in_sync": self._in_sync(ends),
            "healthy": not unhealthy if self._knows_health(ends) else None,
            "unhealthy": [{"object": _object(ref), "status": health.status, "message": health.message}
                          for ref, health in unhealthy],
            "still_there": [_object(ref) for ref in sorted(self.outcomes.still_there)],
            "errors": list(self.errors),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }
        if self.diff:
            result["diff"] = [_diff(change, end) for change, end in [*ends, *left] if end.wrote] + [
                _diff(hook.change, Outcome("created", str(hook), hook.change.before, hook.intent.body)) for hook, outcome in hooks if _ran(hook, outcome)]
        return result

    def ends(self) -> List[Tuple[Change, Outcome]]:
        """Every change of the plan, with what came of it or, in check mode, would come of it."""
        return [(change, self._end(change)) for change in (self.plan.changes if self.plan else ())]

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the seconds of a stage; one that runs again adds to its own."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin

    @contextlib.contextmanager
    def at_any_end(self) -> Iterator[None]:
        """A failure carries this report as its details: what was done, and what was not."""
        try:
            yield
        except Failure as failure:
            self.failed, self.errors = True, failure.details.get("errors") or [str(failure)]
            failure.details = self.result()
            raise

    def _end(self, change: Change) -> Outcome:
        """What came of a change; in check mode what would come of it."""
        outcome = self.outcomes.get(change)
        if outcome is not None:
            return outcome
        to_do = change.operation in ("created", "configured", "pruned")
        if to_do and not self.check_mode or self.failed and to_do:
            return Outcome("skipped", "not done, since the run failed before" if change.intent else "nothing is pruned by a run that failed")
        return Outcome(change.operation, change.reason, change.before, change.after, wrote=to_do, incomplete=bool(change.intent) and change.postponed)

    def _in_sync(self, ends: Sequence[Tuple[Change, Outcome]]) -> bool:
        """Whether nothing is to be written or deleted, and nothing is left to other managers or to a later run."""
        if self.plan is None or self.failed or self.outcomes.still_there:
            return False
        return not any(self.check_mode and end.wrote or change.partial or change.postponed or end.incomplete for change, end in ends)

    def _knows_health(self, ends: Sequence[Tuple[Change, Outcome]]) -> bool:
        if self.plan is None:
            return False
        return self.outcomes.waited or not any(end.wrote and end.operation in ("created", "configured") for _change, end in ends)


def _ran(hook: Hook, outcome: HookOutcome) -> bool:
    """Whether a hook changed something in the cluster, or in check mode would. One of SyncFail is planned for a failure only."""
    return outcome.wrote or outcome.status == "Planned" and hook.phase != SYNC_FAIL


def _left(change: Change, end: Outcome, check_mode: bool) -> Body:
    """A hook of an earlier run that is deleted, with the phase that it was made for."""
    status = "Deleted" if end.operation == "pruned" and not check_mode else "Planned" if end.wrote else "NotRun"
    phase = annotations_of(change.before or {}).get(RUN, "").rpartition("/")[2]
    return {"object": _object(change.ref), "phase": phase if phase in PHASES else "", "wave": 0, "delete_policy": [], "status": status,
            "message": end.reason, "source": ""}


def result_of(failure: Failure) -> Body:
    """The result of a run that failed, also before it began."""
    if "changes" in failure.details:
        return failure.details
    return Report(failed=True, errors=failure.details.get("errors") or [str(failure)]).result()


def _object(ref: Ref) -> Body:
    return {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _change(change: Change, end: Outcome, check_mode: bool) -> Body:
    entry: Body = {"operation": end.operation, "object": _object(change.ref), "reason": end.reason}
    if change.intent is not None:
        entry["source"] = change.intent.where
    if change.unverified and check_mode:
        entry["unverified"] = change.unverified
    return entry


def _diff(change: Change, end: Outcome) -> Body:
    """One object's diff: only the fields that Git sets or set, Secrets masked. Where they stay as they are, and only who manages them changes,
    it is the reason."""
    before = shown(end.before, change, end.after) if end.before else {}
    result = end.after or (change.body if change.intent else None)
    after = shown(result, change, end.after) if result and end.operation != "pruned" else {}
    if change.ref.kind == "Secret" and not change.ref.group:
        before, after = mask(before, after)
    if before == after:
        return {"prepared": f"{change.ref} ({_origin(change)}): {end.reason}\n"}
    return {"before": _text(before), "after": _text(after),
            "before_header": f"{change.ref} (live)", "after_header": f"{change.ref} ({_origin(change)})"}


def _origin(change: Change) -> str:
    return change.intent.where if change.intent else "not in Git"


def mask(before: Body, after: Body) -> List[Body]:
    """Secret values replaced by words that still tell whether they differ."""
    masked: List[Body] = [_without_last_applied(before), _without_last_applied(after)]
    for part in ("data", "stringData"):
        values = [side.get(part) or {} for side in masked]
        if not any(values):
            continue
        for index, word in enumerate(("*** (before)", "*** (after)")):
            if part not in masked[index]:
                continue
            if not isinstance(values[index], dict):
                masked[index][part] = word
                continue
            masked[index][part] = {key: "***" if all(isinstance(side, dict) and side.get(key) == value for side in values) else word
                                   for key, value in values[index].items()}
    return masked


def _without_last_applied(body: Body) -> Body:
    """A copy without the annotation in which `kubectl apply` keeps the whole Secret."""
    metadata = body.get("metadata") or {}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != LAST_APPLIED}
    return {**body, "metadata": {**metadata, "annotations": annotations}} if "annotations" in metadata else dict(body)


def _text(body: Body) -> str:
    if not body:
        return ""
    import yaml  # only a run that shows a diff pays for it

    return yaml.dump(body, default_flow_style=False, sort_keys=True, allow_unicode=True, width=4096,
                     Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
