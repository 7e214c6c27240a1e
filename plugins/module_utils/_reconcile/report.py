# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells: counts, reasons, seconds, and a diff that a person can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import Health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import LAST_APPLIED
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan

OPERATIONS = ("created", "configured", "unchanged", "pruned", "skipped")


@dataclass
class Report:
    """The outcome of one run; result() is what the module returns."""

    commit: str
    signer: Optional[str]
    plan: Plan = field(default_factory=Plan)
    seconds: Dict[str, float] = field(default_factory=dict)
    health: Dict[Ref, Health] = field(default_factory=dict)
    waited: bool = False
    check_mode: bool = False
    rendered: str = ""
    cached: bool = False
    notes: Tuple[str, ...] = ()  # what a person should know though it is no error

    def result(self, diff: bool = False) -> Body:
        """The module's result: JSON types only."""
        changed = self.plan.of("created", "configured", "pruned")
        unhealthy = [(ref, health) for ref, health in sorted(self.health.items()) if health.status != "Current"]
        result: Body = {
            "changed": bool(changed),
            "commit": self.commit,
            "signer": self.signer,
            "renderer": self.rendered,
            "render_cached": self.cached,
            "counts": {operation: len(self.plan.of(operation)) for operation in OPERATIONS},
            "changes": [_change(change) for change in self.plan.changes if change.operation != "unchanged"],
            "conflicts": [{"object": _object(item.ref), "field": item.field, "manager": item.manager}
                          for change in self.plan.changes for item in change.conflicts],
            "dry_runs": self.plan.dry_runs,
            "in_sync": self._in_sync(),
            "healthy": not unhealthy if self._knows_health() else None,
            "unhealthy": [{"object": _object(ref), "status": health.status, "message": health.message}
                          for ref, health in unhealthy],
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }
        if diff:
            result["diff"] = [entry for entry in map(_diff, changed) if entry]
        return result

    def _in_sync(self) -> bool:
        """Whether nothing is to be written or pruned, and nothing is left to other managers or to a later prune."""
        to_do = self.check_mode and self.plan.of("created", "configured", "pruned")
        return not to_do and not any(change.kept or change.left for change in self.plan.changes)

    def _knows_health(self) -> bool:
        written = self.plan.of("created", "configured")
        return self.waited or not written


def _object(ref: Ref) -> Body:
    return {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _change(change: Change) -> Body:
    entry: Body = {"operation": change.operation, "object": _object(change.ref), "reason": change.reason}
    if change.intent is not None:
        entry["source"] = change.intent.where
    if change.unverified:
        entry["unverified"] = change.unverified
    return entry


def _diff(change: Change) -> Optional[Body]:
    """One object's diff: only the fields that Git sets or set, Secrets masked."""
    before = _shown(change, change.before, change.after)
    after = _shown(change, change.after or change.body, change.after) if change.operation != "pruned" else {}
    if change.ref.kind == "Secret" and not change.ref.group:
        before, after = mask(before, after)
    if before == after:
        return None
    return {"before": _text(before), "after": _text(after),
            "before_header": f"{change.ref} (live)", "after_header": f"{change.ref} ({_origin(change)})"}


def _origin(change: Change) -> str:
    return change.intent.where if change.intent else "not in Git"


def _shown(change: Change, body: Optional[Body], after: Optional[Body]) -> Body:
    if body is None:
        return {}
    fields: Dict[str, Any] = {}
    for version in (change.before, after):
        entry = ownership.own_entry(version) if version else None
        if entry:
            fields = ownership.merge(fields, entry.get("fieldsV1") or {})
    if change.before is not None:
        paths = [item.path for item in ownership.leftovers(change.before, change.body or {})] if change.body is not None else []
        fields = ownership.merge(fields, ownership.tree(paths))
    shown = ownership.select(body, fields) if fields else {key: value for key, value in body.items()
                                                      if key not in ("status", "metadata")}
    return {key: value for key, value in shown.items() if value not in ({}, None)}


def mask(before: Body, after: Body) -> List[Body]:
    """Secret values replaced by words that still tell whether they differ."""
    masked: List[Body] = [_without_last_applied(before), _without_last_applied(after)]
    for part in ("data", "stringData"):
        values = [side.get(part) or {} for side in masked]
        if not any(values):
            continue
        for index, word in enumerate(("*** (before)", "*** (after)")):
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
