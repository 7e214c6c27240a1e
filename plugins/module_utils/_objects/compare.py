# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare one object with its intent. Pure: values in, a value out; only the server's dry run knows more."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.patch import take_back
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Conflict, Policy

REPLICAS = ("f:spec", "f:replicas")


def compare(change: Change, live: Body, policy: Policy, minimum: Optional[int]) -> Change:
    """The change with what must be done to make live what its intent says.

    The operation becomes configured or unchanged; undecided where only the server's dry run can tell which.
    minimum: the least number of replicas, for an object whose number an autoscaler decides.
    """
    body = whole = change.intent.body if change.intent else {}
    findings = ownership.examine(body, live)
    conflicts = ownership.contested(body, live) if findings else []
    if conflicts and policy.on_conflict == "keep":
        body = copy.deepcopy(whole)
        for path, _manager in conflicts:
            _drop(body, path)
        findings = ownership.examine(body, live)
    found = [Conflict(change.ref, ownership.dotted(path), manager) for path, manager in conflicts]
    leftovers = ownership.leftovers(live, body)
    if minimum is not None:
        # Taking away the number that a person set would leave the default, 1, before the autoscaler looks.
        leftovers = [item for item in leftovers if item.path != REPLICAS]
    secret = (change.ref.group, change.ref.kind) == ("", "Secret")
    reasons = [_reason(finding, live, secret) for finding in findings]
    reasons += [f"{ownership.dotted(item.path)} was added by {item.manager}" for item in leftovers]
    replicas, hand_over = None, False
    if minimum is not None:
        # An autoscaler mends every number but 0, which switches it off.
        if minimum > 0 and (live.get("spec") or {}).get("replicas") == 0:
            replicas = minimum
            reasons.append(f".spec.replicas is 0, its autoscaler's minimum is {minimum}")
        hand_over = any(finding.path == REPLICAS for finding in findings)
        findings = [finding for finding in findings if finding.path != REPLICAS]
    patch = take_back(live, leftovers, replicas, hand_over)
    writes = any(finding.certain for finding in findings)
    undecided = not writes and (bool(findings) or policy.verify == "full")
    if not findings and not patch and policy.verify != "full":
        operation, reason = "unchanged", left_to_others(found) if found else "in sync"
    else:
        more = f" (+{len(reasons) - 3} more)" if len(reasons) > 3 else ""
        operation, reason = "configured", "; ".join(reasons[:3]) + more
    return replace(change, operation=operation, reason=reason, body=body, before=live, after=None, patch=patch, writes=writes,
                   undecided=undecided, conflicts=found)


def _reason(finding: ownership.Finding, live: Body, secret: bool) -> str:
    """One finding in words, with who holds the field where that is what is wrong; no value of a Secret."""
    text = f"{ownership.dotted(finding.path)} {'differs' if secret and finding.values else finding.why}"
    holders = [] if finding.values else ownership.holders(live, finding.path)
    return f"{text} ({', '.join(holders)} holds it)" if holders else text


def left_to_others(conflicts: Sequence[Conflict]) -> str:
    """The reason of an object whose conflicting fields stay with their managers."""
    return "left to others: " + ", ".join(f"{item.field} ({item.manager})" for item in conflicts)


def _drop(body: Any, path: Tuple[str, ...]) -> None:
    """Remove the field at a fieldsV1 path from a body."""
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if key.startswith("f:"):
            if not isinstance(body, dict) or key[2:] not in body:
                return
            if last:
                del body[key[2:]]
                return
            body = body[key[2:]]
        else:
            found = ownership.positions(key, body) if isinstance(body, list) else []
            if not found:
                return
            if last:
                del body[found[0]]
                return
            body = body[found[0]]


def unchanged(before: Body, after: Body) -> bool:
    """Whether an apply wrote nothing: the same content and the same owners (a no-op keeps their times)."""
    return _content(before) == _content(after)


def _content(body: Body) -> str:
    metadata = dict(body["metadata"])
    owners = sorted(json.dumps({key: entry[key] for key in ("manager", "operation", "subresource", "apiVersion", "fieldsV1") if key in entry},
                               sort_keys=True) for entry in metadata.pop("managedFields", None) or ())
    for key in ("resourceVersion", "generation"):
        metadata.pop(key, None)
    rest = {key: value for key, value in body.items() if key not in ("metadata", "apiVersion", "kind")}
    # As text, since in Python True equals 1, which a free-form field of a custom resource may hold instead.
    return json.dumps([metadata, rest, owners], sort_keys=True)


def version(body: Body) -> str:
    """metadata.resourceVersion."""
    return body["metadata"].get("resourceVersion", "")
