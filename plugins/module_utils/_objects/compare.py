# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare one object with its intent. Pure: values in, a value out; only the server's dry run knows more."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.merge import put, to_send
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Conflict, Path, Policy, TakeBack, annotations_of
from ansible_collections.nordic.gitops.plugins.module_utils._schema import UNKNOWN, Type

# Flux' own annotation of an object to which others add: what Git does not set is theirs, whoever they are.
MERGE = ("kustomize.toolkit.fluxcd.io/ssa", "Merge")
REPLICAS = ("f:spec", "f:replicas")
RULES = ("f:rules",)


class Known(NamedTuple):
    """What the server says of a kind."""

    schema: Type = UNKNOWN
    serves: Callable[[str], bool] = lambda api_version: True  # whether it serves the kind in an API version


def compare(change: Change, live: Body, policy: Policy, minimum: Optional[int], known: Known = Known()) -> Change:
    """The change with what must be done to make live what its intent says.

    The operation becomes configured or unchanged; undecided where only the server's dry run can tell which.
    minimum: the least number of replicas, for an object whose number an autoscaler decides.
    """
    body = whole = change.intent.body if change.intent else {}
    schema, seen = known.schema, live
    versions = {entry.get("apiVersion", "") for entry in live["metadata"].get("managedFields") or ()}
    unserved = sorted(version for version in versions if version and version != body["apiVersion"] and not known.serves(version))
    ours_unserved = (ownership.own_entry(live) or {}).get("apiVersion") in unserved
    live = ownership.in_version(live, body["apiVersion"], unserved)
    adopting = ownership.own_entry(live) is None
    merged = annotations_of(whole).get(MERGE[0]) == MERGE[1]
    ends = _nobody if merged else ownership.is_theirs(adopting)
    theirs = _decided_by_a_controller(whole, minimum)

    findings = _examine(body, live, schema, theirs)
    removed = ownership.no_longer_in_git(findings, live)
    co_owned = ownership.co_owned(removed, live)
    contested = ownership.contested(body, live, schema, ends) if findings else []
    conflicts = contested + [(path, manager) for path, manager in co_owned if not ends(manager)]
    keep = bool(conflicts) and policy.on_conflict == "keep"
    if keep:
        body = copy.deepcopy(whole)
        for path, _manager in contested:
            _drop(body, path)
        for path, manager in co_owned:
            if not ends(manager):
                put(body, live, path)  # given up, it would be theirs alone, and the next run could not name it
        findings = _examine(body, live, schema, theirs)
        removed = ownership.no_longer_in_git(findings, live)
        co_owned = ownership.co_owned(removed, live)
    found = [Conflict(change.ref, ownership.dotted(path), manager) for path, manager in conflicts]
    leftovers = [item for item in ownership.leftovers(live, body, ends) if item.path not in theirs]
    secret = (change.ref.group, change.ref.kind) == ("", "Secret")
    reasons = [_reason(finding, live, secret) for finding in findings]
    if ours_unserved:
        reasons.append(f"was applied as {' and '.join(unserved)}, which is no longer served")
    reasons += [f"{ownership.dotted(item.path)} was added by {item.manager}" for item in leftovers]
    replicas = None
    if minimum is not None and minimum > 0 and (live.get("spec") or {}).get("replicas") == 0:
        # An autoscaler mends every number but 0, which switches it off.
        replicas = minimum
        reasons.append(f".spec.replicas is 0, its autoscaler's minimum is {minimum}")
    given_up = [path for path in theirs if ownership.holds(live, path)]
    reasons += [f"{ownership.dotted(path)} is left to the controller that decides it" for path in given_up]
    claims = bool(leftovers or given_up or co_owned or ours_unserved or unserved and (findings or policy.verify == "full")) \
        or adopting and not merged and ownership.comes_from_a_former_tool(live)
    take = TakeBack(tuple(leftovers), tuple(removed), tuple(path for path, _manager in co_owned),
                    tuple(given_up), replicas, adopting, claims, tuple(unserved)) if claims or replicas is not None else None
    # What is taken back alone is one patch; beside anything else, both become one apply.
    writes = any(finding.certain for finding in findings) or take is not None and (bool(findings) or policy.verify == "full")
    undecided = not writes and (bool(findings) or policy.verify == "full")
    if not findings and take is None and policy.verify != "full":
        operation, reason = "unchanged", left_to_others(found) if found else "in sync"
    else:
        reasons = reasons or ["the fields of its former tool are ours from now on" if claims else "the server is asked"]
        more = f" (+{len(reasons) - 3} more)" if len(reasons) > 3 else ""
        operation, reason = "configured", "; ".join(reasons[:3]) + more
        body = to_send(body, live, schema)
    return replace(change, operation=operation, reason=reason, body=body, before=seen, after=None, take=take, writes=writes,
                   undecided=undecided, conflicts=found, partial=keep)


def _nobody(_manager: str) -> bool:
    return False


def _examine(body: Body, live: Body, schema: Type, theirs: Sequence[Path]) -> List[ownership.Finding]:
    return [finding for finding in ownership.examine(body, live, schema) if finding.path not in theirs]


def _decided_by_a_controller(body: Body, minimum: Optional[int]) -> List[Path]:
    """Fields that a controller decides by design. They stay as they are, whoever set them: taking one away would leave the default,
    one replica or no right at all, before the controller looks."""
    paths: List[Path] = [REPLICAS] if minimum is not None else []
    if body.get("kind") == "ClusterRole" and body.get("aggregationRule"):
        paths.append(RULES)
    return paths


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
