# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take back what an apply alone leaves in place: what people added, what a former tool set, and what another manager holds with us."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.ownership import Fields
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Path, TakeBack

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster


def patch_of(live: Body, take: TakeBack) -> List[Body]:
    """The JSON patch that takes back, and does nothing else; it holds only for the version that was seen."""
    ops: List[Body] = [{"op": "remove", "path": "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in item.pointer)}
                       for item in take.leftovers]
    if take.replicas is not None:
        ops.append({"op": "replace", "path": "/spec/replicas", "value": take.replicas})
    if take.claims:
        # A claim on a field that has a default would outlive the removal: the default comes back under the same owner.
        ops.append(replaced(managed_fields(live, take, live["apiVersion"])))
    return [same(live)] + ops


def claims_of(live: Body, take: TakeBack, api_version: str, paths: Sequence[Path] = ()) -> List[Body]:
    """The JSON patch after which an apply takes back what it must: all of it is ours, and nobody else's.

    paths: what is ours from then on beside that.
    """
    ours = ownership.merge(ownership.tree_of(take.leftovers), ownership.tree(paths))
    ops = [same(live)]
    if take.replicas is not None:
        ops.append({"op": "replace", "path": "/spec/replicas", "value": take.replicas})
    return ops + [replaced(managed_fields(live, take, api_version, ours))]


def same(live: Body) -> Body:
    """The operation that fails when the object is not the one that was seen."""
    return {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]}


def replaced(entries: List[Body]) -> Body:
    """The operation that sets managedFields."""
    return {"op": "replace", "path": "/metadata/managedFields", "value": entries}


def managed_fields(live: Body, take: TakeBack, api_version: str, ours: Optional[Fields] = None) -> List[Body]:
    """metadata.managedFields after the claims end that take names; with ours, these fields are our own.

    An entry of an API version that is no longer served keeps the server from applying anything: it goes on in the version of Git.
    """
    result: List[Body] = []
    live = ownership.in_version(live, api_version, take.unserved)
    own = ownership.own_entry(live)
    for entry in live["metadata"].get("managedFields") or ():
        if entry is own or entry.get("subresource"):
            result.append(entry)
        else:
            fields = entry.get("fieldsV1") or {}
            ends = ownership.is_theirs(take.adopting)(entry.get("manager", ""))
            fields = ownership.common(fields, ownership.tree(take.not_released)) if ends else strip(fields, take.co_owned)
            if fields:
                result.append({**entry, "fieldsV1": fields})
    if own is None and ours:
        own = {"manager": ownership.FIELD_MANAGER, "operation": "Apply", "apiVersion": api_version, "fieldsType": "FieldsV1"}
        result.append(own)
    return [{**entry, "fieldsV1": ownership.merge(strip(entry.get("fieldsV1") or {}, take.given_up), ours or {})} if entry is own else entry
            for entry in result]


def strip(fields: Fields, paths: Sequence[Path]) -> Fields:
    """A fieldsV1 tree without some paths, and without what held nothing else."""
    for path in paths:
        fields = _strip(fields, path)
    return fields


def _strip(fields: Fields, path: Path) -> Fields:
    if path[0] not in fields:
        return fields
    inner = _strip(fields[path[0]], path[1:]) if len(path) > 1 else {}
    rest = {key: child for key, child in fields.items() if key != path[0]}
    return {**rest, path[0]: inner} if inner else rest


def send_patch(cluster: Cluster, change: Change, dry_run: bool = False) -> Tuple[Body, List[Path]]:
    """Take back: the object, and what the server does not let go.

    What is immutable, or the server's own by now, stays, nobody's. What it refuses otherwise stays with whoever holds it.
    """
    ref, live, take = change.ref, change.before or {}, change.take or TakeBack()
    not_released: List[Path] = []
    while True:
        patch = patch_of(live, take)
        if len(patch) == 1:
            return live, not_released
        try:
            return cluster.patch(change.served, ref.namespace, ref.name, patch, dry_run=dry_run), not_released
        except Failure as error:
            immutable = error.immutable
            if not immutable and (error.status != 422 or error.stale) or not take.leftovers:
                raise
            fields = error.fields
            refused = [item for item in take.leftovers if any(_overlap(item.pointer, field) for field in fields)] or list(take.leftovers)
            rest = tuple(item for item in take.leftovers if item not in refused)
            take = replace(take, leftovers=rest)
            if not immutable:
                not_released += [item.path for item in refused]
                take = replace(take, not_released=tuple(not_released), claims=bool(rest or take.given_up))


def without_immutable(take: Optional[TakeBack], error: Failure) -> Optional[TakeBack]:
    """What is taken back, less what the server refuses because it is immutable; None where that is nothing of it."""
    if take is None or not error.immutable:
        return None
    rest = tuple(item for item in take.leftovers if not any(_overlap(item.pointer, field) for field in error.fields))
    return replace(take, leftovers=rest) if len(rest) < len(take.leftovers) else None


def _overlap(pointer: Sequence[Any], field: str) -> bool:
    """Whether a JSON pointer and a field as the server names it (spec.ports[0].name) are one place, or one holds the other."""
    return all(str(mine) == theirs for mine, theirs in zip(pointer, re.findall(r"[^.\[\]]+", field)))


def content_patch(live: Body, result: Body) -> List[Body]:
    """The JSON patch that makes the content of live that of result, by its first fields and those of its metadata."""
    ops: List[Body] = []
    for base, before, after in (("", live, result), ("/metadata", live["metadata"], result["metadata"])):
        for key in {**before, **after}:
            if key in ("apiVersion", "kind", "metadata", "managedFields") or before.get(key) == after.get(key) and (key in before) == (key in after):
                continue
            path = f"{base}/{key.replace('~', '~0').replace('/', '~1')}"
            ops.append({"op": "remove", "path": path} if key not in after else
                       {"op": "replace" if key in before else "add", "path": path, "value": after[key]})
    return ops
