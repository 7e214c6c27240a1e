# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server-side apply makes of an object, by the server's schema: its fields in managedFields, and the merged object. Pure.

Only the dry run of two writes at once needs it, for which the server has no request. What is written is merged by the server.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, Iterable, List, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._objects.ownership import Fields, Items, asks_for_nothing, is_built_in, node_at, own_entry
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Path
from ansible_collections.nordic.gitops.plugins.module_utils._schema import ATOMIC, GRANULAR, MAP, SET, Type

IDENTITY = ("name", "namespace")


def fields_of(body: Body, schema: Type) -> Fields:
    """The fieldsV1 of an apply of this body."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in IDENTITY}
    content = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    return _fields({**content, "metadata": metadata} if metadata else content, schema)


def _fields(value: Any, schema: Type) -> Fields:
    how = schema.of(value)
    if isinstance(value, dict) and how == GRANULAR:
        return {f"f:{key}": _fields(child, schema.field(key)) for key, child in value.items()}
    if isinstance(value, list) and how == SET:
        return {"v:" + _compact(item): {} for item in value}
    if isinstance(value, list) and how == MAP and all(isinstance(item, dict) for item in value):
        whole = schema.item().how == ATOMIC
        return {item_key(item, schema.keys): {} if whole else {".": {}, **_fields(item, schema.item())} for item in value}
    return {}


def item_key(item: Dict[str, Any], keys: Sequence[str]) -> str:
    """The "k:" key of an item."""
    return "k:" + _compact({key: item[key] for key in keys if key in item})


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def to_send(body: Body, live: Body, schema: Type) -> Body:
    """A body without the empty maps and lists that others have filled, or that the server does not store: an apply would claim them,
    and lose them again whenever somebody else writes."""
    fields = (own_entry(live) or {}).get("fieldsV1") or {}
    return _to_send(fields, body, live, schema, is_built_in(body["apiVersion"]))


def _to_send(fields: Fields, want: Any, have: Any, schema: Type, built_in: bool) -> Any:
    how = schema.of(want)
    if isinstance(want, dict) and how == GRANULAR:
        there = have if isinstance(have, dict) else {}
        return {key: _to_send(fields.get("f:" + key, {}), value, there.get(key), schema.field(key), built_in) for key, value in want.items()
                if value not in ({}, []) or "f:" + key in fields
                or not asks_for_nothing(value, there.get(key), schema.field(key), built_in)}
    if isinstance(want, list) and how == MAP and all(isinstance(item, dict) for item in want):
        items = Items(have if isinstance(have, list) else [])
        keys = [item_key(item, schema.keys) for item in want]
        found = [items.items[place[0]] if place else None for place in map(items.positions, keys)]
        return [_to_send(fields.get(key, {}), item, other, schema.item(), built_in) for key, item, other in zip(keys, want, found)]
    return want


def merged(have: Any, want: Any, schema: Type) -> Any:
    """What is there with what is wanted applied to it; what is no longer wanted must be taken away before."""
    how = schema.of(want)
    if isinstance(have, dict) and isinstance(want, dict) and how != ATOMIC:
        return {**have, **{key: merged(have[key], value, schema.field(key)) if key in have else value for key, value in want.items()}}
    if isinstance(have, list) and isinstance(want, list) and how == SET:
        there = Items(have)
        return have + [item for item in want if not there.positions("v:" + _compact(item))]
    if isinstance(have, list) and isinstance(want, list) and how == MAP and all(isinstance(item, dict) for item in want):
        there, wanted = Items(have), Items(want)
        places = [there.positions(item_key(item, schema.keys)) for item in want]
        ours = [merged(have[place[0]], item, schema.item()) if place else item for item, place in zip(want, places)]
        # In Git's order, what is others' after it: the server mixes them, which matters to no validation.
        return ours + [item for item in have if not (isinstance(item, dict) and wanted.positions(item_key(item, schema.keys)))]
    return want


def with_structs(paths: Iterable[Path], kept: Sequence[Fields], schema: Type) -> List[Path]:
    """The paths that go when these do: a struct goes with the last field of it that somebody sets, and its defaults with it.

    kept: the fields that anybody still sets. (EnsureNamedFieldsAreMembers and prune of structured-merge-diff, merge/update.go.)
    """
    return [_with_structs(path, kept, schema) for path in paths]


def _with_structs(path: Path, kept: Sequence[Fields], schema: Type) -> Path:
    holders = [schema]  # the type that holds each key of the path
    for key in path[:-1]:
        holders.append(holders[-1].field(key[2:]) if key.startswith("f:") else holders[-1].item())
    while len(path) > 1:
        struct = path[:-1]
        holder, key = holders[len(struct) - 1], struct[-1]
        if not key.startswith("f:") or not (holder.struct and holder.has(key[2:])) or any(node_at(fields, struct) is not None for fields in kept):
            break
        path = struct
    return path


def put(body: Any, live: Any, path: Path) -> None:
    """Set the field or item at a path as it is in live."""
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if key.startswith("f:"):
            if not isinstance(live, dict) or key[2:] not in live or not isinstance(body, dict):
                return
            if last:
                body[key[2:]] = copy.deepcopy(live[key[2:]])
                return
            live = live[key[2:]]
            body = body.setdefault(key[2:], [] if isinstance(live, list) else {})
        else:
            there = Items(live).positions(key) if isinstance(live, list) else []
            if not there or not isinstance(body, list):
                return
            live, here = live[there[0]], Items(body).positions(key)
            if not here:
                body.append(copy.deepcopy(live) if last or not isinstance(live, dict) else json.loads(key[2:]))
                here = [len(body) - 1]
            body = body[here[0]]


def without(value: Any, paths: Iterable[Path]) -> Any:
    """A copy of an object without the fields and items at some fieldsV1 paths."""
    root: Dict[str, Any] = {}
    for path in paths:
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = None
    return _without(value, root)


def _without(value: Any, gone: Dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _without(child, gone["f:" + key]) if "f:" + key in gone else child for key, child in value.items()
                if "f:" + key not in gone or gone["f:" + key] is not None}
    if isinstance(value, list):
        items = Items(value)
        at = {position: inner for key, inner in gone.items() for position in items.positions(key)}
        return [_without(item, at[position]) if position in at else item for position, item in enumerate(value)
                if position not in at or at[position] is not None]
    return value
