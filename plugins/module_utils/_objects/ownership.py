# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ownership proof: what managedFields and the values of a LIST alone can say about an object and its intent.

A field manager's Apply entry is tamper-evident: whenever another manager changes or removes a field, the server
takes that field out of the entry's path set (structured-merge-diff, merge/update.go). An entry whose path set is the
intent's, beside values that are the intent's to the letter and in its order, proves that a forced server-side apply
would change nothing. Whatever cannot be proved is left to the server's own dry run: this file never guesses "in sync".

fieldsV1 is walked without a schema, since it says itself how a list merges: "f:NAME" is a field, "k:{KEYS}" an item of
a list by its keys, "v:VALUE" an item of a set, "." the item itself, and an empty node a leaf (a scalar, an empty or an
atomic value).
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import BUILT_IN_GROUPS, Body

FIELD_MANAGER = "nordic-gitops"

# What a person at a terminal or a dashboard writes with: their fields are drift, whether we set them or not. Not "before-first-apply":
# the server gives it whatever an object without managedFields held, so also what its controllers had filled in.
PEOPLE = ("kubectl", "k9s", "Lens", "OpenLens")

# `kubectl rollout restart` writes a time and means an action, not a state: taking it back would restart everything again.
ACTIONS = frozenset({"f:kubectl.kubernetes.io/restartedAt"})

# What decides how an object ends, or what it does: whoever set it, taking it away can cost data, and it is no state of Git's.
LIFECYCLE = frozenset({("f:metadata", "f:finalizers"), ("f:metadata", "f:ownerReferences"), ("f:status",)})

# Fields of built-in kinds that hold quantities: the server keeps "1" for "1000m".
QUANTITY_MAPS = frozenset({"limits", "requests", "hard", "capacity", "max", "min", "default", "defaultRequest",
                           "maxLimitRequestRatio", "overhead", "podFixed"})
QUANTITY_FIELDS = frozenset({"sizeLimit", "divisor", "averageValue", "value"})
QUANTITY_OWNERS = frozenset({"emptyDir", "resourceFieldRef", "target"})

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

# Fields of built-in kinds that are one value to the server whatever they hold, wherever an entry may name them: only there an
# empty node proves that everything below is ours. Elsewhere it may be left from {} or [] in an earlier commit, beside fields
# that a default or somebody else filled in since. tests/integration/test_in_sync_proof.py holds it against the server's OpenAPI.
ATOMIC_LISTS = frozenset("""
    accessModes add admissionReviewVersions allowedTopologies args auditAnnotations categories cidrs clusterIPs clusterRoleSelectors
    command config constraints conversionReviewVersions drop egress endpoints envFrom externalIPs hostnames httpHeaders ingress
    ipFamilies items limits loadBalancerSourceRanges matchLabelKeys metrics monitors mountOptions mutations nameservers options
    policies policyTypes portals preferredDuringSchedulingIgnoredDuringExecution readinessGates requests
    requiredDuringSchedulingIgnoredDuringExecution resizePolicy rules scopes searches selectors shortNames sources subjects subsets
    supplementalGroups sysctls targetWWNs tls tokenRequests tolerations validations versions volumeClaimTemplates wwids
""".split())
ATOMIC_MAPS = frozenset("""
    configMapKeyRef controllerExpandSecretRef controllerPublishSecretRef dataSource fieldRef fileKeyRef labelSelector matchConstraints
    matchResources namespaceSelector nodeExpandSecretRef nodePublishSecretRef nodeSelector nodeStageSecretRef nodeTopology
    objectSelector paramKind paramRef podSelector port required requiredDuringSchedulingIgnoredDuringExecution resourceFieldRef roleRef
    scopeSelector secretKeyRef secretRef selector
""".split())
# A name that two kinds use differently is known by its whole path only; and lists whose items are each one value.
ATOMIC_PATHS = frozenset({("f:imagePullSecrets",)})  # of a ServiceAccount; a Pod's is a list of items
ATOMIC_ITEMS = frozenset({"imagePullSecrets", "ownerReferences", "secrets"})

# Fields of built-in kinds that the server does not show when they hold nothing (no pointers in its Go types). Empty lists it never
# shows, or always.
UNSEEN = frozenset("""
    annotations binaryData data globalDefault hard labels limits nodeSelector requests
    hostIPC hostNetwork hostPID initialDelaySeconds medium minReadySeconds paused publishNotReadyAddresses stdin stdinOnce tty
    volumeMounts.readOnly
""".split())

_ABSENT = object()
_CONTAINERS = (dict, list)


class Knowledge(NamedTuple):
    """What is known of the kinds of an API group without their schema."""

    built_in: bool  # the tables of defaults and of what is not shown hold
    quantities: bool
    lists: FrozenSet[str]  # names of atomic lists
    maps: FrozenSet[str]


_NOTHING = Knowledge(False, False, frozenset(), frozenset())
_BUILT_IN = Knowledge(True, True, ATOMIC_LISTS, ATOMIC_MAPS)


def knowledge(api_version: str) -> Knowledge:
    """What is known of the kinds of an API version; of a CRD's kinds nothing, whatever their group looks like."""
    group = api_version.rpartition("/")[0]
    if group == "apiextensions.k8s.io":
        return _BUILT_IN._replace(built_in=False, quantities=False)  # a schema in it may look like anything
    if group not in BUILT_IN_GROUPS:
        return _NOTHING
    # The devices' requests and capacity are no maps of quantities.
    return _BUILT_IN._replace(quantities=False) if group == "resource.k8s.io" else _BUILT_IN


Fields = Dict[str, Any]
Path = Tuple[str, ...]


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
    return manager.startswith(PEOPLE)


def own_entry(live: Body, manager: str = FIELD_MANAGER) -> Optional[Body]:
    """Our Apply entry in metadata.managedFields, None where the server has none."""
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return entry
    return None


def examine(body: Body, live: Body) -> List[Finding]:
    """Everything that keeps live from being proved in sync with an intent's body; empty: proved."""
    entry = own_entry(live)
    if entry is None:
        return [Finding((), f"no field of it was applied by {FIELD_MANAGER}", True)]
    if entry.get("apiVersion") != body["apiVersion"]:
        return [Finding((), f"applied as {entry.get('apiVersion')}, Git says {body['apiVersion']}", False)]
    findings: List[Finding] = []
    want = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: value for key, value in body["metadata"].items() if key not in ("name", "namespace")}
    if metadata:
        want["metadata"] = metadata
    _walk(entry.get("fieldsV1") or {}, want, live, (), "", knowledge(body["apiVersion"]), findings)
    return findings


def _walk(fields: Fields, want: Any, have: Any, path: Path, parent: str, known: Knowledge, findings: List[Finding]) -> None:
    if not fields or (len(fields) == 1 and "." in fields):
        _leaf(fields, want, have, path, parent, known, findings)
    elif _is_atomic(want, path, known):
        findings.append(Finding(path, "is one value, and was applied in parts", False))
    elif isinstance(want, dict):
        if not isinstance(have, dict):
            findings.append(Finding(path, "is missing", False))
            return
        matched = 0
        name = path[-1][2:] if path and path[-1].startswith("f:") else parent
        for key, value in want.items():
            child = fields.get("f:" + key)
            if child is None:
                findings.append(Finding(path + ("f:" + key,), *_unowned(value, have.get(key))))
            else:
                matched += 1
                if key in have:
                    # The common case, a scalar, costs no call.
                    if child or value.__class__ in _CONTAINERS or not _identical(value, have[key]):
                        _walk(child, value, have[key], path + ("f:" + key,), name, known, findings)
                elif value or child or value is None or not known.built_in or not _is_unseen(value, key, path):
                    findings.append(Finding(path + ("f:" + key,), "is missing", _is_kept(value)))
        if matched != len(fields) - ("." in fields):
            for key in fields:
                if key != "." and not (key.startswith("f:") and key[2:] in want):
                    findings.append(Finding(path + (key,), "is no longer in Git", False))
    elif isinstance(want, list):
        _walk_list(fields, want, have, path, parent, known, findings)
    else:
        findings.append(Finding(path, "has another shape", False))


def _walk_list(fields: Fields, want: List[Any], have: Any, path: Path, parent: str, known: Knowledge,
               findings: List[Finding]) -> None:
    if not isinstance(have, list):
        findings.append(Finding(path, "is missing", False))
        return
    taken: Dict[int, int] = {}  # position in want -> position in have
    for key, child in fields.items():
        if key == ".":
            continue
        mine, theirs = positions(key, want), positions(key, have)
        if not mine:
            findings.append(Finding(path + (key,), "is no longer in Git", False))
        elif len(mine) > 1 or len(theirs) > 1:
            findings.append(Finding(path + (key,), "is there more than once", False))
        elif not theirs:
            findings.append(Finding(path + (key,), "is missing", True))
        else:
            taken[mine[0]] = theirs[0]
            if key.startswith("k:"):
                _walk(child, want[mine[0]], have[theirs[0]], path + (key,), parent, known, findings)
    if len(taken) != len(want) and not any(finding.path[:len(path)] == path for finding in findings):
        findings.append(Finding(path, "has items that are not ours yet", False))
    # The path set knows no order (k8s#104641), yet a forced apply restores it.
    order = [taken[position] for position in sorted(taken)]
    if order != sorted(order):
        findings.append(Finding(path, "is in another order", False))


def _leaf(fields: Fields, want: Any, have: Any, path: Path, parent: str, known: Knowledge, findings: List[Finding]) -> None:
    if want and want.__class__ in _CONTAINERS and (fields or not _is_atomic(want, path, known)):
        findings.append(Finding(path, "may be ours in name only", False))
        return
    if _identical(want, have):
        return
    name = path[-1][2:] if path else ""
    if known.built_in and _defaulted(want, have, name, parent, known):
        return
    # Text and whole numbers outside of quantities are kept as they are; everything else the server may have rewritten.
    findings.append(Finding(path, f"is {_short(have)}, Git says {_short(want)}", type(want) is type(have) and _is_plain(want), True))


def _is_atomic(want: Any, path: Path, known: Knowledge) -> bool:
    """Whether the server is known to keep this as one value with one owner; False where nobody knows."""
    if known is _NOTHING or not path:
        return False
    key = path[-1]
    if isinstance(want, list):
        return key[2:] in known.lists or path in ATOMIC_PATHS
    if key.startswith("k:"):
        return path[-2][2:] in ATOMIC_ITEMS
    return isinstance(want, dict) and key[2:] in known.maps


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


def _defaulted(want: Any, have: Any, name: str, parent: str, known: Knowledge) -> bool:
    """Whether have is what the server makes of want: known defaults added to atomic values, quantities in their own form."""
    if isinstance(want, dict) and isinstance(have, dict):
        return all(key in have and _defaulted(value, have[key], key, name, known) for key, value in want.items()) and all(
            key in want or _identical(ATOMIC_DEFAULTS.get((name, key), _ABSENT), value) for key, value in have.items())
    if isinstance(want, list) and isinstance(have, list):
        return len(want) == len(have) and all(_defaulted(left, right, name, parent, known) for left, right in zip(want, have))
    return _identical(want, have) or known.quantities and _is_quantity(name, parent) and canonical_quantity(want) == have


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


_KEYS: Dict[str, Any] = {}  # decoded "k:" and "v:" keys: a few dozen different ones in any cluster


def _decoded(key: str) -> Any:
    if key not in _KEYS:
        _KEYS[key] = json.loads(key[2:])
    return _KEYS[key]


def positions(key: str, items: List[Any]) -> List[int]:
    """Where in a list the item that a "k:" , "v:" or "i:" key names stands; a field's key names none (the books are of another shape)."""
    if key.startswith("f:"):
        return []
    value = _decoded(key)
    if key.startswith("k:"):
        return [position for position, item in enumerate(items) if isinstance(item, dict)
                and all(name in item and _identical(item[name], part) for name, part in value.items())]
    if key.startswith("v:"):
        return [position for position, item in enumerate(items) if _identical(item, value)]
    return [value] if 0 <= value < len(items) else []


def _is_quantity(name: str, parent: str) -> bool:
    return parent in QUANTITY_MAPS or name in QUANTITY_FIELDS and parent in QUANTITY_OWNERS


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


def contested(body: Body, live: Body) -> List[Tuple[Path, str]]:
    """(field, manager) of each field that Git sets and another manager, no person's tool, holds with another value."""
    found: List[Tuple[Path, str]] = []
    for entry in live["metadata"].get("managedFields") or ():
        manager = entry.get("manager", "")
        if manager != FIELD_MANAGER and not is_person(manager):
            _contest(entry.get("fieldsV1") or {}, body, live, (), "", knowledge(body["apiVersion"]), manager, found)
    return found


def _contest(fields: Fields, want: Any, have: Any, path: Path, parent: str, known: Knowledge, manager: str,
             found: List[Tuple[Path, str]]) -> None:
    name = path[-1][2:] if path and path[-1].startswith("f:") else parent
    for key, child in fields.items():
        if key.startswith("f:") and isinstance(want, dict) and isinstance(have, dict) and key[2:] in want and key[2:] in have:
            mine, theirs = want[key[2:]], have[key[2:]]
        elif key.startswith("k:") and isinstance(want, list) and isinstance(have, list) and positions(key, want) and positions(key, have):
            mine, theirs = want[positions(key, want)[0]], have[positions(key, have)[0]]
        else:
            continue  # only in one of the two; or an item of a set, which is equal by its very key
        if child:
            _contest(child, mine, theirs, path + (key,), name, known, manager, found)
        # Who holds an empty map or list holds nothing of what Git puts into it.
        elif theirs not in ({}, []) and not _identical(mine, theirs) and not (
                known.built_in and _defaulted(mine, theirs, key[2:], name, known)):
            found.append((path + (key,), manager))


class Leftover(NamedTuple):
    """A field that a person's tool added beside the intent and nobody else claims."""

    pointer: Tuple[Any, ...]  # JSON pointer, unescaped
    path: Path
    manager: str


def leftovers(live: Body, body: Body) -> List[Leftover]:
    """What people added to an object, a list's last items first, so that removing one leaves the others' places."""
    people: List[Tuple[str, Dict[str, Any]]] = []
    others: List[Tuple[str, Dict[str, Any]]] = []
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("subresource"):
            continue
        fields = entry.get("fieldsV1") or {}
        (people if is_person(entry.get("manager", "")) else others).append((entry.get("manager", ""), fields))
    found: Dict[Tuple[Any, ...], Leftover] = {}
    for manager, fields in people:
        for leftover in _added(fields, [node for _name, node in others], body, live, (), (), manager):
            found.setdefault(leftover.pointer, leftover)
    whole = [item for item in found.values() if not any(item.pointer[:size] in found for size in range(1, len(item.pointer)))]
    return sorted(whole, key=lambda item: [(0, -step, "") if isinstance(step, int) else (1, 0, step) for step in item.pointer])


def _added(fields: Fields, others: List[Fields], want: Any, have: Any, pointer: Tuple[Any, ...], path: Path,
           manager: str) -> Iterator[Leftover]:
    for key, child in fields.items():
        if key == "." or key in ACTIONS or path + (key,) in LIFECYCLE:
            continue
        if key.startswith("f:"):
            steps: List[Any] = [key[2:]] if isinstance(have, dict) and key[2:] in have else []
            inner = want.get(key[2:], _ABSENT) if isinstance(want, dict) else _ABSENT
        else:
            steps = list(positions(key, have)) if isinstance(have, list) else []
            found = positions(key, want) if isinstance(want, list) else []
            inner = want[found[0]] if found else _ABSENT
        claims = [node[key] for node in others if key in node]
        for step in steps:
            if inner is _ABSENT and not claims and not _acts(child):
                yield Leftover(pointer + (step,), path + (key,), manager)
            elif child:
                yield from _added(child, claims, inner, have[step], pointer + (step,), path + (key,), manager)


def _acts(fields: Fields) -> bool:
    return any(key in ACTIONS or _acts(child) for key, child in fields.items())


def without_people(live: Body) -> List[Body]:
    """metadata.managedFields after a person's claims are given up (scale and status entries stay)."""
    return [entry for entry in live["metadata"].get("managedFields") or ()
            if entry.get("subresource") or not is_person(entry.get("manager", ""))]


def tree(paths: Iterable[Path]) -> Fields:
    """The fieldsV1 tree of some paths, each a leaf."""
    root: Fields = {}
    for path in paths:
        node = root
        for key in path:
            node = node.setdefault(key, {})
    return root


def merge(left: Fields, right: Fields) -> Fields:
    """The union of two fieldsV1 trees."""
    result = dict(left)
    for key, child in right.items():
        result[key] = merge(result[key], child) if key in result else child
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
        for key, child in fields.items():
            for position in positions(key, value) if key != "." else ():
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
        elif key.startswith("k:"):
            text += "[" + ",".join(f"{name}={json.dumps(part)}" for name, part in _decoded(key).items()) + "]"
        else:
            text += f"[{key[2:]}]"
    return text or "."
