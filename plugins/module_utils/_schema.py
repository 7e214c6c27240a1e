# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the server merges the fields of a kind, from its own OpenAPI: which lists and maps have one owner, and which keys name an item.

It serves custom kinds there too, with the x-kubernetes-list-type and -map-type of their definition. A document is asked for once
and kept on disk under the server's own hash of it; what a run asks each time is the index of hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import is_private, make_private, read_own

INDEX = "/openapi/v3"
KEPT = 256  # documents on disk
LOADERS = 4  # documents asked for at once
FORMAT = 2  # part of each file's name: to be raised when what is kept of a document changes

GRANULAR, ATOMIC, SET, MAP, SCALAR, QUANTITY, FREE = "granular", "atomic", "set", "map", "scalar", "quantity", "free"

Node = Dict[str, Any]  # a Type as it is kept on disk: how, keys, fields, values, items, or the name of another one ("ref")


class Type:
    """One place of an object.

    how: granular (a map with an owner for each field), atomic (a list or map with one owner), set or map (a list whose items are told
    by value or by keys), scalar, quantity, free (anything: its lists are atomic, its maps granular); "" where the schema does not say.
    """

    __slots__ = ("how", "keys", "struct", "is_map", "scalar", "is_list", "_node", "_types", "_known")

    def __init__(self, node: Node, types: Dict[str, Node]) -> None:
        how = ""
        for _step in range(10):  # a reference to a reference; never a circle without content
            how = how or node.get("how", "")
            if "ref" not in node:
                break
            node = types.get(node["ref"], {})
        self.how: str = how or ""
        self.keys: Tuple[str, ...] = tuple(node.get("keys", ()))
        self.struct = "fields" in node  # a map of named fields, where being there can mean something: emptyDir: {}
        self.is_map = "values" in node and not self.struct  # keys of any name, of which none is as good as no map
        self.scalar: str = node.get("type", "")  # string, boolean, integer or number, where the schema says nothing but that
        self.is_list = "items" in node
        self._node, self._types = node, types
        self._known: Dict[str, Type] = {}

    def field(self, name: str) -> Type:
        """The value of a map's key."""
        known = self._known.get(name)
        if known is None:
            inner = self._node.get("fields", {}).get(name, self._node.get("values"))
            known = FREE_TYPE if inner is None and self.how == FREE else UNKNOWN if inner is None else Type(inner, self._types)
            self._known[name] = known
        return known

    @property
    def names(self) -> List[str]:
        """The names of its fields."""
        return list(self._node.get("fields", ()))

    def has(self, name: str) -> bool:
        """Whether a map has such a key, by name or as any other."""
        return self.how == FREE or name in self._node.get("fields", ()) or "values" in self._node

    def item(self) -> Type:
        """An item of a list."""
        known = self._known.get("[]")
        if known is None:
            inner = self._node.get("items")
            known = FREE_TYPE if inner is None and self.how == FREE else UNKNOWN if inner is None else Type(inner, self._types)
            self._known["[]"] = known
        return known

    def at(self, path: Tuple[str, ...]) -> Type:
        """The place that the keys of a fieldsV1 path lead to."""
        found = self
        for key in path:
            found = found.field(key[2:]) if key.startswith("f:") else found.item()
        return found

    def of(self, value: Any) -> str:
        """How this value merges: what is free is so by what it holds."""
        if self.how == FREE:
            return ATOMIC if isinstance(value, list) else GRANULAR if isinstance(value, dict) else SCALAR
        return self.how


UNKNOWN = Type({}, {})
FREE_TYPE = Type({"how": FREE}, {})


class _Known:
    """What the server said since its definitions changed last. One thread asks for a document; the others wait for it, but for no other one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.index: Optional[Dict[str, Any]] = None
        self.asking: Dict[str, threading.Lock] = {}
        self.documents: Dict[str, Dict[str, Any]] = {}
        self.kinds: Dict[Tuple[str, str], Type] = {}


class Schemas:
    """The types of one server's kinds. ask(path, query): the JSON document at a path of the server."""

    def __init__(self, ask: Callable[[str, Dict[str, str]], Any], folder: str) -> None:
        self._ask, self._folder = ask, folder
        self._known = _Known()

    def kind(self, api_version: str, kind: str) -> Type:
        """The type of a kind; UNKNOWN where the server does not say, or may not be asked."""
        known = self._known
        found = known.kinds.get((api_version, kind))
        if found is None:
            document = self._document(known, api_version)
            name = document.get("kinds", {}).get(kind)
            found = known.kinds[(api_version, kind)] = Type({"ref": name}, document["types"]) if name else UNKNOWN
        return found

    def load(self, api_versions: Iterable[str]) -> None:
        """Ask now for what kind() needs later: the index in any case, and the documents of these versions, several at a time."""
        known = self._known
        self._urls(known)
        rest = iter(sorted(set(api_versions)))

        def work() -> None:
            for api_version in rest:
                self._document(known, api_version)

        # Daemons: a process that ends by an error does not wait for a server that never answers.
        threads = [threading.Thread(target=work, daemon=True) for _loader in range(LOADERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def forget(self) -> None:
        """Ask again: definitions changed."""
        self._known = _Known()

    def _document(self, known: _Known, api_version: str) -> Dict[str, Any]:
        with known.lock:
            asking = known.asking.setdefault(api_version, threading.Lock())
        with asking:
            if api_version not in known.documents:
                try:
                    known.documents[api_version] = self._read(known, api_version)
                # Refused, not served, or no OpenAPI document: what the schema would prove is asked of the server's dry run instead.
                except (Failure, AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
                    known.documents[api_version] = {}
            return known.documents[api_version]

    def _urls(self, known: _Known) -> Dict[str, Any]:
        with known.lock:
            if known.index is None:
                known.index = {}  # also where it is refused or does not come: asked once, it holds up a run once and not for each version
                with contextlib.suppress(Failure, AttributeError, TypeError, ValueError):
                    known.index = dict((self._ask(INDEX, {}) or {}).get("paths") or {})
            return known.index

    def _read(self, known: _Known, api_version: str) -> Dict[str, Any]:
        path = f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"
        url = (self._urls(known).get(path) or {}).get("serverRelativeURL", "")
        if not url:
            return {}
        _path, _question, stamp = url.partition("?hash=")
        file = os.path.join(self._folder, hashlib.sha256(f"{FORMAT} {path} {stamp}".encode()).hexdigest()[:40] + ".json")
        found = _load(file) if stamp and is_private(self._folder) else None
        if found is None:
            found = compact(self._ask(f"{INDEX}/{path}", {"hash": stamp} if stamp else {}))
            if stamp:
                _store(self._folder, file, found)
        return found


def compact(document: Any) -> Dict[str, Any]:
    """What decides how objects merge, of an OpenAPI v3 document: {"kinds": {kind: name}, "types": {name: Node}}."""
    schemas = ((document or {}).get("components") or {}).get("schemas") or {}
    kinds: Dict[str, str] = {}
    types: Dict[str, Node] = {}
    for name, schema in schemas.items():
        types[name] = {"how": QUANTITY} if name.endswith(".api.resource.Quantity") else _node(schema)
        served = list(schema.get("x-kubernetes-group-version-kind") or ())
        if len(served) == 1:
            kinds[served[0].get("kind", "")] = name
    return {"kinds": kinds, "types": types}


def _node(schema: Any) -> Node:
    if not isinstance(schema, dict):
        return {}
    merges = {"how": ATOMIC} if schema.get("x-kubernetes-map-type") == "atomic" else {}
    refs = [part["$ref"] for part in [schema, *(schema.get("allOf") or ())] if isinstance(part, dict) and "$ref" in part]
    if refs:
        return {**merges, "ref": refs[0].rpartition("/")[2]}
    if schema.get("type") == "array":
        return _list(schema)
    properties, values = schema.get("properties"), schema.get("additionalProperties")
    if schema.get("type") == "object" or properties:
        node: Node = dict(merges)
        if properties:
            node["fields"] = {name: _node(child) for name, child in properties.items()}
        if isinstance(values, dict):
            node["values"] = _node(values)
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("how", FREE)
        elif properties or isinstance(values, dict):
            node.setdefault("how", GRANULAR)
        return node
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"how": FREE}
    if schema.get("type") or schema.get("oneOf") or schema.get("anyOf") or schema.get("x-kubernetes-int-or-string"):
        plain = schema.get("type") in ("string", "boolean", "integer", "number") and not schema.get("x-kubernetes-int-or-string")
        return {"how": SCALAR, "type": schema["type"]} if plain and schema.get("format") != "int-or-string" else {"how": SCALAR}
    return {}


def _list(schema: Dict[str, Any]) -> Node:
    how = schema.get("x-kubernetes-list-type", ATOMIC)
    if how not in (ATOMIC, SET, MAP):
        return {}
    node: Node = {"how": how, "items": _node(schema.get("items"))}
    if how == MAP:
        node["keys"] = sorted(schema.get("x-kubernetes-list-map-keys") or ())
    return node


# ---- on disk


def _load(file: str) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(read_own(file) or b"")
        if not isinstance(found, dict) or not isinstance(found.get("types"), dict) or not isinstance(found.get("kinds"), dict):
            return None
        os.utime(file)  # the ones used last are kept
        return found
    except (OSError, ValueError, RecursionError):
        return None


def _store(folder: str, file: str, document: Dict[str, Any]) -> None:
    """Write it whole or not at all; a cache that cannot be written costs time, not the run."""
    half = f"{file}.{os.getpid()}.{time.monotonic_ns()}"
    with contextlib.suppress(OSError, Failure):
        make_private(folder, "git_cache")
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as handle:
            handle.write(json.dumps(document, separators=(",", ":")).encode())
        os.replace(half, file)
        for name in _oldest(folder):
            os.remove(os.path.join(folder, name))


def _oldest(folder: str) -> List[str]:
    """What is too much; a half-written file of a killed run among it, as it is as old as any."""
    names = os.listdir(folder)
    return sorted(names, key=lambda name: os.stat(os.path.join(folder, name)).st_mtime)[:-KEPT] if len(names) > KEPT else []
