# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write one object: apply what Git says, and take back in the same go what an apply alone would leave in place."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Set, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import Known
from ansible_collections.nordic.gitops.plugins.module_utils._objects.merge import item_key
from ansible_collections.nordic.gitops.plugins.module_utils._objects.patch import claims_of, replaced, same, send_patch, without_immutable
from ansible_collections.nordic.gitops.plugins.module_utils._objects.service import bound_to
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Path, Policy, TakeBack
from ansible_collections.nordic.gitops.plugins.module_utils._schema import MAP, Type

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster

TRIES = 3  # how often managedFields are given back while somebody else writes the object


class Written(NamedTuple):
    """What a write answered."""

    after: Body
    not_released: Sequence[Path] = ()  # what was to be taken back, and the server does not let go


def write(cluster: Cluster, change: Change, policy: Policy) -> Written:
    """Make one object what its change says. A refused write leaves the object, managedFields included, as it was."""
    if change.take is not None and not change.writes:
        return Written(*send_patch(cluster, change))

    def request(live: Body, take: Optional[TakeBack], beside: Sequence[Path]) -> Body:
        return send(cluster, change, policy) if take is None else _take_and_send(cluster, change, policy, live, take, beside)

    return Written(until_accepted(cluster, change, request))


Request = Callable[[Body, Optional[TakeBack], Sequence[Path]], Body]


def until_accepted(cluster: Cluster, change: Change, request: Request) -> Body:
    """The answer to a write or to its dry run; after a refusal it is asked again when the cause is not what Git says.

    What is immutable and not in Git stays. A default of what Git had before goes.
    """
    live, take, beside = change.before or {}, change.take, ()  # type: Body, Optional[TakeBack], Sequence[Path]
    first: Optional[Failure] = None
    while True:
        try:
            return request(live, take, beside)
        except Failure as error:
            if error.status not in (409, 422) or error.stale or change.before is None:
                raise
            now = cluster.get(change.served, change.ref.namespace, change.ref.name)
            less = without_immutable(take, error)
            more = [] if beside else in_the_way(error, change.body or {}, now, known_of(cluster, change).schema)
            if now is None or less is None and not more:
                # What was tried beside may have been refused too; an immutable field is what has to be told, and decides a replacement.
                raise error if first is None or not first.immutable else first
            first = first or error
            live, take, beside = now, less or take or TakeBack(claims=True), more or beside


def _take_and_send(cluster: Cluster, change: Change, policy: Policy, live: Body, take: TakeBack, beside: Sequence[Path] = ()) -> Body:
    """Make ours what is taken back, then apply: the server removes and sets in one step, so that keys of lists and members of unions change.

    A run that is killed between the two leaves what it took in our own entry, where the next run finds it.
    """
    ref = change.ref
    ops = claims_of(live, take, (change.body or {})["apiVersion"], beside)
    patched = cluster.patch(change.served, ref.namespace, ref.name, ops)
    try:
        return send(cluster, replace(change, body=bound_to(change.body or {}, patched)), policy)
    except Failure as error:
        if 400 <= error.status < 500:  # else it may have happened
            _give_back(cluster, change, live)
        raise


def _give_back(cluster: Cluster, change: Change, before: Body) -> None:
    """Bring managedFields back to what they were."""
    ref = change.ref
    try:
        for _attempt in range(TRIES):
            now = cluster.get(change.served, ref.namespace, ref.name)
            if now is None:
                return
            try:
                cluster.patch(change.served, ref.namespace, ref.name, [same(now), replaced(_restored(now, before))])
                return
            except Failure as error:
                if not error.stale:
                    raise
    except Failure:
        return  # the first error is the one to tell


def _restored(now: Body, before: Body) -> List[Body]:
    def identity(entry: Body) -> Any:
        version = "" if entry.get("operation") == "Apply" else entry.get("apiVersion")
        return entry.get("manager"), entry.get("operation"), entry.get("subresource", ""), version

    entries = before["metadata"].get("managedFields") or []
    known = {identity(entry) for entry in entries} | {(ownership.FIELD_MANAGER, "Apply", "", "")}
    return entries + [entry for entry in now["metadata"].get("managedFields") or () if identity(entry) not in known]


def in_the_way(error: Failure, body: Body, live: Optional[Body], schema: Type) -> List[Path]:
    """What nobody owns beside the fields that the server refuses: a default of what Git had before.

    RollingUpdate's parameters in the way of Recreate, the default volume in the way of the one that Git names. An apply keeps what its
    manager does not own, and the server refuses both members of a union together.
    """
    found: Set[Path] = set()
    if live is not None and error.status == 422 and not error.stale:
        for field in error.fields:
            steps = re.findall(r"[^.\[\]]+", field)
            if steps[:1] != ["metadata"]:
                found.update(_only_live(body, live, schema, steps[:-1], ()))
        claimed = [entry.get("fieldsV1") or {} for entry in live["metadata"].get("managedFields") or ()]
        found = {path for path in found if not any(ownership.node_at(fields, path) is not None for fields in claimed)}
    return sorted(found)


def _only_live(want: Any, have: Any, schema: Type, steps: Sequence[str], path: Path) -> List[Path]:
    """The members of a struct that only live has. An item's number is the refused object's and not live's, so every item is looked at."""
    if isinstance(want, dict) and isinstance(have, dict):
        if not steps:
            return [path + (f"f:{key}",) for key, value in have.items() if path and schema.struct and isinstance(value, dict) and key not in want]
        return _only_live(want.get(steps[0]), have.get(steps[0]), schema.field(steps[0]), steps[1:], path + (f"f:{steps[0]}",))
    if isinstance(want, list) and isinstance(have, list) and steps and schema.how == MAP:
        there = ownership.Items(have)
        keys = [item_key(item, schema.keys) for item in want if isinstance(item, dict)]
        return [found for key, item in zip(keys, want) for place in there.positions(key)
                for found in _only_live(item, have[place], schema.item(), steps[1:], path + (key,))]
    return []


def send(cluster: Cluster, change: Change, policy: Policy, dry_run: bool = False) -> Body:
    """Apply a change's body.

    Without force where no object is expected, so that one which appears meanwhile is not taken over unseen; and with
    on_conflict: fail, where only what people's tools hold is taken. (A dry run of known conflicts decides nothing.)
    """
    if change.before is None or policy.on_conflict == "fail" and not (dry_run and change.conflicts):
        try:
            return cluster.apply(change.served, change.body or {}, force=False, dry_run=dry_run)[0]
        except Failure as error:
            managers = [manager for _field, manager in error.conflicts]
            people = [manager for manager in managers if ownership.is_person(manager) or manager == ownership.FIELD_MANAGER]
            if change.before is None or not managers or people != managers:
                raise
    return cluster.apply(change.served, change.body or {}, force=True, dry_run=dry_run)[0]


def known_of(cluster: Cluster, change: Change) -> Known:
    """What the server says of a change's kind."""
    if change.resource is None:
        return Known()
    kind, resources = change.ref.kind, cluster.discover()
    return Known(cluster.schema(change.resource.api_version, kind), lambda api_version: resources.find(api_version, kind) is not None)
