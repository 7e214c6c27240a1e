# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ownership proof: what managedFields and the values of a LIST alone can say about an object and its intent.

A field manager's Apply entry is tamper-evident: whenever another manager changes or removes a field, the server
takes that field out of the entry's path set (structured-merge-diff, merge/update.go). An entry whose path set is the
intent's, beside values that are the intent's to the letter and in its order, proves that a forced server-side apply
would change nothing. Whatever cannot be proved is left to the server's own dry run: this file never guesses "in sync".

fieldsV1 says itself how a list merges: "f:NAME" is a field, "k:{KEYS}" an item of a list by its keys, "v:VALUE" an item of a
set, "." the item itself, and an empty node a leaf (a scalar, an empty or an atomic value). Only a leaf needs the server's
schema: whether the value is atomic, or a quantity.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._schema import ATOMIC, GRANULAR, MAP, QUANTITY, SET, UNKNOWN, Type
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import BUILT_IN_GROUPS, Body, Leftover, Path

FIELD_MANAGER = "nordic-gitops"

# What a person at a terminal or a dashboard writes with: their fields are drift, whether we set them or not. Not "before-first-apply":
# the server gives it whatever an object without managedFields held, so also what its controllers had filled in.
PEOPLE = ("kubectl", "oc", "k9s", "Lens", "OpenLens", "headlamp", "dashboard", "Mozilla")

# Tools that enforced a desired state before us, by the field managers that they write with. An object that we adopt is ours from then on, so
# their claims end, and what they set beside Git goes. Only then: a controller that writes with the same library may come later.
FORMER_TOOLS = (
    "kustomize-controller", "helm-controller", "flux",  # Flux
    "helm", "Helm",
    "argocd-controller", "argocd-application-controller", "argocd-server",  # Argo CD, on the server's side and on the client's
    "OpenAPI-Generator", "ansible",  # kubernetes.core, without and with its server_side_apply
    "kapp", "kluctl", "cli-utils", "configsync", "fleetagent", "deploy@", "Terraform", "HashiCorp", "pulumi-kubernetes",
)

# `kubectl rollout restart` writes a time and means an action, not a state: taking it back would restart everything again.
ACTIONS = frozenset({"f:kubectl.kubernetes.io/restartedAt"})

# What decides how an object ends, or what it does: whoever set it, taking it away can cost data, and it is no state of Git's.
LIFECYCLE = frozenset({("f:metadata", "f:finalizers"), ("f:metadata", "f:ownerReferences"), ("f:status",)})

# Defaults that the server writes into atomic values, where managedFields cannot tell them from ours: (field, key): default.
# An apply replaces the atomic value and the server writes the same default again, so it is no drift.
ATOMIC_DEFAULTS: Dict[Tuple[str, str], Any] = {
    ("fieldRef", "apiVersion"): "v1",
    ("resourceFieldRef", "divisor"): "0",
    ("ports", "protocol"): "TCP",
    ("rules", "scope"): "*",
    ("roleRef", "apiGroup"): "rbac.authorization.k8s.io",
    ("subjects", "apiGroup"): "rbac.authorization.k8s.io",
    ("serviceAccountToken", "expirationSeconds"): 3600,
    ("volumeClaimTemplates", "apiVersion"): "v1",
    ("volumeClaimTemplates", "kind"): "PersistentVolumeClaim",
    ("volumeClaimTemplates", "status"): {"phase": "Pending"},
    ("spec", "volumeMode"): "Filesystem",
    ("httpGet", "scheme"): "HTTP",
}

# Fields of built-in kinds that the server does not show when they hold nothing (no pointers in its Go types). Empty lists it never
# shows, or always.
UNSEEN = frozenset("""
    annotations binaryData data globalDefault hard labels limits nodeSelector requests
    hostIPC hostNetwork hostPID initialDelaySeconds medium minReadySeconds paused publishNotReadyAddresses stdin stdinOnce tty
    volumeMounts.readOnly
""".split())

_ABSENT = object()
_CONTAINERS = (dict, list)


def is_built_in(api_version: str) -> bool:
    """Whether the tables above hold for the kinds of an API version: for no CRD's kind, whatever its group looks like."""
    return api_version.rpartition("/")[0] in BUILT_IN_GROUPS


Fields = Dict[str, Any]

NO_LONGER = "is no longer in Git"
UNOWNED = "has content that is not in Git and that nobody owns"


class Finding(NamedTuple):
    """One place where live is not what Git says.

    certain: an apply is sure to write; otherwise only the server's dry run knows (a value that it may have normalised).
    """

    path: Path  # fieldsV1 keys from the root
    why: str
    certain: bool
    values: bool = False  # the field has another value than Git's (and why tells both)


def is_person(manager: str) -> bool:
    """Whether a field manager's name is that of a person's tool ("kubectl-edit", "k9s")."""
    return _is_one_of(manager, PEOPLE)


def is_former_tool(manager: str) -> bool:
    """Whether a field manager's name is that of a tool from which objects are adopted."""
    return _is_one_of(manager, FORMER_TOOLS)


def is_theirs(adopting: bool) -> Callable[[str], bool]:
    """Tells the field managers whose claims end: people's, and of an object that is adopted those of the tool that it comes from."""
    return (lambda manager: is_person(manager) or is_former_tool(manager)) if adopting else is_person


def _is_one_of(manager: str, tools: Sequence[str]) -> bool:
    return any(manager == tool or manager.startswith(tool) and (tool[-1] == "@" or manager[len(tool)] in "-_./") for tool in tools)


def own_entry(live: Body, manager: str = FIELD_MANAGER) -> Optional[Body]:
    """Our Apply entry in metadata.managedFields, None where the server has none."""
    for entry in live["metadata"].get("managedFields") or ():
        if is_own(entry, manager):
            return entry
    return None


def is_own(entry: Body, manager: str = FIELD_MANAGER) -> bool:
    """Whether an entry of managedFields is that of our applies."""
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def in_version(live: Body, api_version: str, versions: Sequence[str]) -> Body:
    """An object whose managedFields of some API versions are said to be of another one."""
    if not versions:
        return live
    entries = [{**entry, "apiVersion": api_version} if entry.get("apiVersion") in versions else entry
               for entry in live["metadata"].get("managedFields") or ()]
    return {**live, "metadata": {**live["metadata"], "managedFields": entries}}


def examine(body: Body, live: Body, schema: Type = UNKNOWN) -> List[Finding]:
    """Everything that keeps live from being proved in sync with an intent's body; empty: proved."""
    entry = own_entry(live)
    if entry is None:
        return [Finding((), f"no field of it was applied by {FIELD_MANAGER}", True)]
    findings: List[Finding] = []
    _walk(entry.get("fieldsV1") or {}, _content(body), live, (), schema, is_built_in(body["apiVersion"]), findings)
    # Others may fill what Git leaves empty. What nobody owns in there an apply may take away, and only a default comes back.
    findings = [finding for finding in findings if finding.why != UNOWNED or not _is_held_by_others(live, finding.path)]
    if entry.get("apiVersion") == body["apiVersion"]:
        return findings
    # The other version may say the same in other fields: what is found is no more than what Git may have removed.
    moved = Finding((), f"applied as {entry.get('apiVersion')}, Git says {body['apiVersion']}", False)
    return [moved] + [finding._replace(certain=False) for finding in findings if finding.why == NO_LONGER]


def _is_held_by_others(live: Body, path: Path) -> bool:
    """Whether each key of the map at a path, or something of the list there, belongs to another manager."""
    have = select(live, tree([path]))
    for key in path:
        have = have[key[2:]] if isinstance(have, dict) and key.startswith("f:") else have[0] if isinstance(have, list) and have else None
    if isinstance(have, dict):
        return all(holders(live, path + (f"f:{key}",)) for key in have)
    return bool(holders(live, path))


def _content(body: Body) -> Body:
    """What of an intent's body is owned."""
    content = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: value for key, value in body["metadata"].items() if key not in ("name", "namespace")}
    return {**content, "metadata": metadata} if metadata else content


def _walk(fields: Fields, want: Any, have: Any, path: Path, schema: Type, built_in: bool, findings: List[Finding]) -> None:
    if not fields or (len(fields) == 1 and "." in fields):
        _leaf(fields, want, have, path, schema, built_in, findings)
    elif schema.of(want) == ATOMIC:
        findings.append(Finding(path, "is one value, and was applied in parts", False))
    elif isinstance(want, dict):
        if not isinstance(have, dict):
            findings.append(Finding(path, "is missing", False))
            return
        matched = 0
        for key, value in want.items():
            child = fields.get("f:" + key)
            if child is None:
                if value not in ({}, []) or not asks_for_nothing(value, have.get(key), schema.field(key), built_in):
                    findings.append(Finding(path + ("f:" + key,), *_unowned(value, have.get(key))))
            else:
                matched += 1
                if key in have:
                    # The common case, a scalar, costs no call.
                    if child or value.__class__ in _CONTAINERS or not _identical(value, have[key]):
                        _walk(child, value, have[key], path + ("f:" + key,), schema.field(key), built_in, findings)
                elif value or child or value is None or not built_in or not _is_unseen(value, key, path):
                    findings.append(Finding(path + ("f:" + key,), "is missing", _is_kept(value)))
        if matched != len(fields) - ("." in fields):
            for key, child in fields.items():
                if key != "." and not (key.startswith("f:") and key[2:] in want):
                    findings.append(Finding(path + (key,), NO_LONGER, False))
    elif isinstance(want, list):
        _walk_list(fields, want, have, path, schema, built_in, findings)
    else:
        findings.append(Finding(path, "is described as another type in managedFields", False))


def _walk_list(fields: Fields, want: List[Any], have: Any, path: Path, schema: Type, built_in: bool, findings: List[Finding]) -> None:
    if not isinstance(have, list):
        findings.append(Finding(path, "is missing", False))
        return
    taken: Dict[int, int] = {}  # position in want -> position in have
    wanted, there, before = Items(want), Items(have), len(findings)
    for key, child in fields.items():
        if key == ".":
            continue
        mine, theirs = wanted.positions(key), there.positions(key)
        if not mine:
            findings.append(Finding(path + (key,), NO_LONGER, False))
        elif len(mine) > 1 or len(theirs) > 1:
            findings.append(Finding(path + (key,), "is there more than once", False))
        elif not theirs:
            findings.append(Finding(path + (key,), "is missing", True))
        else:
            taken[mine[0]] = theirs[0]
            if child and "." not in child:  # only fields of it are ours: without the item itself it would stay when Git removes it
                findings.append(Finding(path + (key,), "is not ours yet", False))
            if key.startswith("k:"):
                _walk(child, want[mine[0]], have[theirs[0]], path + (key,), schema.item(), built_in, findings)
    if len(taken) != len(want) and len(findings) == before:
        findings.append(Finding(path, "has items that are not ours yet", False))
    # The path set knows no order (k8s#104641), yet a forced apply restores it.
    order = [taken[position] for position in sorted(taken)]
    if order != sorted(order):
        findings.append(Finding(path, "is in another order", False))


def _leaf(fields: Fields, want: Any, have: Any, path: Path, schema: Type, built_in: bool, findings: List[Finding]) -> None:
    if _identical(want, have) and want.__class__ not in _CONTAINERS:
        return
    if want and want.__class__ in _CONTAINERS and (fields or schema.of(want) != ATOMIC):
        findings.append(Finding(path, "ownership cannot be proven", False))
        return
    if want in ({}, []) and asks_for_nothing(want, have, schema, built_in):
        if have:
            findings.append(Finding(path, UNOWNED, False))
        return
    name = path[-1][2:] if path else ""
    if _identical(want, have) or _defaulted(want, have, name, schema, built_in):
        return
    # Text and whole numbers outside of quantities are kept as they are; everything else the server may have rewritten.
    findings.append(Finding(path, f"is {_short(have)}, Git says {_short(want)}", type(want) is type(have) and _is_plain(want), True))


def asks_for_nothing(nothing: Any, have: Any, schema: Type, built_in: bool) -> bool:
    """Whether an empty map or list in Git is content with what is there: whatever its keys and items are, others own them.

    A list or map that is one value asks to be empty. The storage of built-in kinds does not tell an empty list or map from
    none. A struct means something by being there (emptyDir: {}, podSelector: {}, securityContext: {}), so it must be there and, while
    nobody has put anything into it, be ours: else whoever took it could take it away, and Git could not replace it.
    """
    how = schema.of(nothing)
    if isinstance(have, type(nothing)):
        return how in (SET, MAP) or how == GRANULAR and (bool(have) or schema.is_map)
    return built_in and have is None and (isinstance(nothing, list) or how in (GRANULAR, ATOMIC) and not schema.struct)


def _is_unseen(nothing: Any, key: str, path: Path) -> bool:
    """Whether the server keeps an empty value by not showing the field."""
    if isinstance(nothing, list) or key in UNSEEN:
        return True
    return len(path) > 1 and f"{path[-2][2:]}.{key}" in UNSEEN


def _is_plain(want: Any) -> bool:
    """Whether the server keeps this scalar as it is: what is false, zero or empty it may leave out or fill in."""
    return bool(want) and (isinstance(want, (bool, int)) or isinstance(want, str) and want[0] not in "+-.0123456789")


def _is_kept(want: Any) -> bool:
    """Whether the server is sure to store something for this value."""
    if isinstance(want, dict):
        return any(map(_is_kept, want.values()))
    return any(map(_is_kept, want)) if isinstance(want, list) else bool(want)


def _defaulted(want: Any, have: Any, name: str, schema: Type, built_in: bool) -> bool:
    """Whether have is what the server makes of want: known defaults added to atomic values, quantities in their own form."""
    if not built_in:
        return _identical(want, have)
    if isinstance(want, dict) and isinstance(have, dict):
        return all(key in have and _defaulted(value, have[key], key, schema.field(key), built_in) for key, value in want.items()) and all(
            key in want or _identical(ATOMIC_DEFAULTS.get((name, key), _ABSENT), value) for key, value in have.items())
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(_defaulted(left, right, name, schema.item(), built_in) for left, right in zip(want, have))
    return _identical(want, have) or schema.how == QUANTITY and canonical_quantity(want) == have


def _unowned(want: Any, have: Any) -> Tuple[str, bool, bool]:
    if have is None:
        return "is missing", _is_kept(want), False
    if isinstance(want, (dict, list)):
        return "is not ours yet", False, False
    if type(want) is type(have) and want != have:
        return f"is {_short(have)}, Git says {_short(want)}", _is_plain(want), True
    return "is not ours yet", False, False


def _identical(want: Any, have: Any) -> bool:
    """Equal as JSON: True is not 1, and 1 is not 1.0."""
    if type(want) is not type(have):
        return False
    if isinstance(want, dict):
        return want.keys() == have.keys() and all(_identical(value, have[key]) for key, value in want.items())
    if isinstance(want, list):
        return len(want) == len(have) and all(_identical(left, right) for left, right in zip(want, have))
    return want == have


# ---- the items of a list


_DECODED: Dict[str, Any] = {}  # "k:" keys: a few dozen different ones in most clusters


def _decoded(key: str) -> Any:
    if key not in _DECODED:
        if len(_DECODED) > 10_000:
            _DECODED.clear()
        _DECODED[key] = _parsed(key)
    return _DECODED[key]


def _parsed(key: str) -> Any:
    """What stands behind the prefix of an item's key; _ABSENT where it is no JSON, which only managedFields written by hand have."""
    try:
        return json.loads(key[2:])
    except (ValueError, RecursionError):
        return _ABSENT


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


class Items:
    """A list whose items are found by the keys of managedFields, each in the same time however long the list is."""

    def __init__(self, items: List[Any]) -> None:
        self.items = items
        self._places: Dict[Tuple[str, ...], Dict[str, List[int]]] = {}

    def positions(self, key: str) -> List[int]:
        """Where the item that a "k:", "v:" or "i:" key names stands; any other key names none (managedFields describes another type)."""
        if key.startswith("k:"):
            value = _decoded(key)
            names = tuple(sorted(value)) if isinstance(value, dict) else ()
            return self._by(names).get(_as_text([value[name] for name in names]), []) if names else []
        if key.startswith("v:"):
            value = _parsed(key)
            return [] if value is _ABSENT else self._by(()).get(_as_text(value), [])
        value = _decoded(key) if key.startswith("i:") else _ABSENT
        return [value] if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.items) else []

    def _by(self, names: Tuple[str, ...]) -> Dict[str, List[int]]:
        """The positions of each item, told by these keys or, without any, by its value."""
        places = self._places.get(names)
        if places is None:
            places = self._places[names] = {}
            for position, item in enumerate(self.items):
                if not names:
                    places.setdefault(_as_text(item), []).append(position)
                elif isinstance(item, dict) and all(name in item for name in names):
                    places.setdefault(_as_text([item[name] for name in names]), []).append(position)
        return places


def positions(key: str, items: List[Any]) -> List[int]:
    """Where one item stands."""
    return Items(items).positions(key)


# ---- quantities


_QUANTITY = re.compile(r"(-?)(0|[1-9][0-9]{0,17})(?:[.]([0-9]{1,17}))?([numkMGTPE]|[KMGTPE]i)?")
_DECIMAL, _BINARY = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NANOS = {**{suffix: 1000**power for power, suffix in enumerate(_DECIMAL)},
          **{suffix: 1024**power * 10**9 for power, suffix in enumerate(_BINARY)}}


def canonical_quantity(value: Any) -> Optional[str]:
    """The text that the server stores for a quantity ("1" for "1000m"), None where that is not certain.

    Equal amounts are not enough: it keeps "1Ki" and "1024" apart, and some unusual spellings ("+5", "01", "1e0") as they are.
    """
    match = None if isinstance(value, bool) or not isinstance(value, (int, float, str)) else _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    sign, whole, part, suffix = match.groups()
    part = part or ""
    nanos, rest = divmod(int(whole + part) * _NANOS[suffix or ""], 10 ** len(part))
    if suffix and suffix.endswith("i") and nanos >= 1024 * 10**9 and nanos % 10**9 == 0:
        text = _shortest(nanos // 10**9, 1024, _BINARY)
    else:
        text = _shortest(nanos, 1000, _DECIMAL)
    # Less than a nano is rounded up, more than an int64 is capped: not ours to judge.
    return None if rest or nanos >= 10**27 or len(text) > 18 else (sign if nanos else "") + text


def _shortest(number: int, base: int, suffixes: Tuple[str, ...]) -> str:
    """A whole number with the greatest suffix that leaves no fraction."""
    if not number:
        return "0"
    power = 0
    while number % base == 0 and power < len(suffixes) - 1:
        number //= base
        power += 1
    return f"{number}{suffixes[power]}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- what other managers hold -------------------------------------------------------------------------------------


def holders(live: Body, path: Path) -> List[str]:
    """The other managers that own the field at a path, in the order of managedFields."""
    names = []
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            continue
        node: Any = entry.get("fieldsV1")
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        if node is not None and path and entry["manager"] not in names:
            names.append(entry["manager"])
    return names


def contested(body: Body, live: Body, schema: Type = UNKNOWN, ends: Callable[[str], bool] = is_person) -> List[Tuple[Path, str]]:
    """(field, manager) of each field that Git sets and another manager, whose claims do not end, holds with another value."""
    found: List[Tuple[Path, str]] = []
    for entry in live["metadata"].get("managedFields") or ():
        manager = entry.get("manager", "")
        if manager != FIELD_MANAGER and not ends(manager):
            _contest(entry.get("fieldsV1") or {}, body, live, (), schema, is_built_in(body["apiVersion"]), manager, found)
    return found


def _contest(fields: Fields, want: Any, have: Any, path: Path, schema: Type, built_in: bool, manager: str,
             found: List[Tuple[Path, str]]) -> None:
    lists = (Items(want), Items(have)) if isinstance(want, list) and isinstance(have, list) else None
    for key, child in fields.items():
        if key.startswith("f:") and isinstance(want, dict) and isinstance(have, dict) and key[2:] in want and key[2:] in have:
            mine, theirs = want[key[2:]], have[key[2:]]
        elif key.startswith("k:") and lists and lists[0].positions(key) and lists[1].positions(key):
            mine, theirs = want[lists[0].positions(key)[0]], have[lists[1].positions(key)[0]]
        else:
            continue  # only in one of the two; or an item of a set, which is equal by its very key
        inner = schema.field(key[2:]) if key.startswith("f:") else schema.item()
        if child:
            _contest(child, mine, theirs, path + (key,), inner, built_in, manager, found)
        # Who holds an empty map or list holds nothing of what Git puts into it.
        elif theirs not in ({}, []) and not _identical(mine, theirs) and not _defaulted(
                mine, theirs, key[2:], inner, built_in):
            found.append((path + (key,), manager))


def no_longer_in_git(findings: Iterable[Finding], live: Body) -> List[Path]:
    """The fields that were ours and that Git no longer has: each one, not what only holds them together with others' fields."""
    fields = (own_entry(live) or {}).get("fieldsV1") or {}
    found: List[Path] = []
    for finding in findings:
        if finding.why == NO_LONGER and not _is_lifecycle(finding.path):
            found += _leaves(node_at(fields, finding.path) or {}, finding.path)
    return found


def _leaves(fields: Fields, path: Path) -> List[Path]:
    if not fields or "." in fields and path[-1].startswith(("k:", "v:")):
        return [path]  # a field, or a whole item
    return [leaf for key, child in fields.items() if key != "." for leaf in _leaves(child, path + (key,))]


def node_at(fields: Fields, path: Path) -> Optional[Fields]:
    node: Any = fields
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def holds(live: Body, path: Path) -> bool:
    """Whether our entry names this field."""
    return node_at((own_entry(live) or {}).get("fieldsV1") or {}, path) is not None


def comes_from_a_former_tool(live: Body) -> bool:
    """Whether a tool that enforced a desired state before us holds fields of it."""
    return any(is_former_tool(entry.get("manager", "")) and not entry.get("subresource") for entry in live["metadata"].get("managedFields") or ())


def _is_lifecycle(path: Path) -> bool:
    return any(path[:len(place)] == place for place in LIFECYCLE)


def co_owned(paths: Iterable[Path], live: Body) -> List[Tuple[Path, str]]:
    """(field, manager) of each path that another manager holds as well, or a part of it; a subresource's claim is not asked about:
    what scales a workload or writes its status has its own say."""
    found = []
    entries = [(entry.get("manager", ""), entry.get("fieldsV1") or {}) for entry in live["metadata"].get("managedFields") or ()
               if not entry.get("subresource") and (entry.get("manager"), entry.get("operation")) != (FIELD_MANAGER, "Apply")]
    for path in paths:
        found += [(path, manager) for manager, fields in entries if node_at(fields, path) is not None]
    return found


def leftovers(live: Body, body: Body, is_theirs: Callable[[str], bool] = is_person) -> List[Leftover]:
    """What people added to an object, a list's last items first, so that removing one leaves the others' places.

    is_theirs: tells by its manager whose fields they are.
    """
    people: List[Tuple[str, Dict[str, Any]]] = []
    others: List[Tuple[str, Dict[str, Any]]] = []
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("subresource"):
            continue
        fields = entry.get("fieldsV1") or {}
        (people if is_theirs(entry.get("manager", "")) else others).append((entry.get("manager", ""), fields))
    found: Dict[Tuple[Any, ...], Leftover] = {}
    for manager, fields in people:
        for leftover in _added(fields, [node for _name, node in others], body, live, (), (), manager):
            found.setdefault(leftover.pointer, leftover)
    whole = [item for item in found.values() if not any(item.pointer[:size] in found for size in range(1, len(item.pointer)))]
    return sorted(whole, key=lambda item: [(0, -step, "") if isinstance(step, int) else (1, 0, step) for step in item.pointer])


def _added(fields: Fields, others: List[Fields], want: Any, have: Any, pointer: Tuple[Any, ...], path: Path,
           manager: str) -> Iterator[Leftover]:
    wanted, there = Items(want if isinstance(want, list) else []), Items(have if isinstance(have, list) else [])
    for key, child in fields.items():
        if key == "." or key in ACTIONS or path + (key,) in LIFECYCLE:
            continue
        if key.startswith("f:"):
            steps: List[Any] = [key[2:]] if isinstance(have, dict) and key[2:] in have else []
            inner = want.get(key[2:], _ABSENT) if isinstance(want, dict) else _ABSENT
        else:
            steps = list(there.positions(key))
            found = wanted.positions(key)
            inner = want[found[0]] if found else _ABSENT
        claims = [node[key] for node in others if key in node]
        for step in steps:
            if inner is _ABSENT and not claims and not _acts(child):
                yield Leftover(pointer + (step,), path + (key,), manager, child)
            elif child:
                yield from _added(child, claims, inner, have[step], pointer + (step,), path + (key,), manager)


def _acts(fields: Fields) -> bool:
    return any(key in ACTIONS or _acts(child) for key, child in fields.items())


def tree(paths: Iterable[Path]) -> Fields:
    """The fieldsV1 tree of some paths, each a leaf."""
    root: Fields = {}
    for path in paths:
        node = root
        for key in path:
            node = node.setdefault(key, {})
    return root


def tree_of(items: Iterable[Leftover]) -> Fields:
    """The fieldsV1 tree of leftovers, an item of a list being one itself and not only what it holds."""
    root: Fields = {}
    for item in items:
        fields = {".": {}, **item.fields} if item.fields and item.path[-1].startswith("k:") else item.fields
        for key in reversed(item.path):
            fields = {key: fields}
        root = merge(root, fields)
    return root


def merge(left: Fields, right: Fields) -> Fields:
    """The union of two fieldsV1 trees."""
    result = dict(left)
    for key, child in right.items():
        result[key] = merge(result[key], child) if key in result else child
    return result


def common(left: Fields, right: Fields) -> Fields:
    """What of a fieldsV1 tree lies at or below the leaves of another."""
    result: Fields = {}
    for key, child in right.items():
        if key in left:
            inner = common(left[key], child) if child else left[key]
            if inner or not child:
                result[key] = inner
    return result


def select(value: Any, fields: Fields) -> Any:
    """The part of an object that a fieldsV1 tree names (what a diff shows)."""
    if not fields or (len(fields) == 1 and "." in fields):
        return value
    if isinstance(value, dict):
        return {key[2:]: select(value[key[2:]], child) for key, child in fields.items()
                if key.startswith("f:") and key[2:] in value}
    if isinstance(value, list):
        chosen: Dict[int, Any] = {}
        items = Items(value)
        for key, child in fields.items():
            for position in items.positions(key) if key != "." else ():
                chosen[position] = select(value[position], child) if key.startswith("k:") else value[position]
                if key.startswith("k:") and isinstance(chosen[position], dict):
                    chosen[position] = {**_decoded(key), **chosen[position]}
        return [chosen[position] for position in sorted(chosen)]
    return value


def dotted(path: Path) -> str:
    """A fieldsV1 path as the server writes it: .spec.template.spec.containers[name="web"].image"""
    text = ""
    for key in path:
        if key.startswith("f:"):
            name = key[2:]
            text += f".{name}" if "." not in name and "/" not in name else f"[{json.dumps(name)}]"
        elif key.startswith("k:") and isinstance(_decoded(key), dict):
            text += "[" + ",".join(f"{name}={json.dumps(part)}" for name, part in _decoded(key).items()) + "]"
        else:
            text += f"[{key[2:]}]"
    return text or "."
