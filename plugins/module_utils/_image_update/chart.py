# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of a chart's dependency: Chart.yaml and Chart.lock together, with the digest that helm checks."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.places import Place
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import Node, apply, documents, set_scalar

EXACT = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?\Z")


@dataclass(frozen=True)
class Dependency:
    """Bring a dependency of the chart in this folder to a version. name: its alias where it has one."""

    folder: str
    name: str
    version: str


def dependency_places(wanted: Dependency, files: Mapping[str, str]) -> List[Place]:
    """The places in Chart.yaml and, where there is one, Chart.lock. files: their text by path."""
    if not EXACT.match(wanted.version):
        raise Failure(f"{wanted.version!r} is not an exact version", wanted.name, "Write it as 18.1.0: a range leaves open what is installed.")
    chart = f"{wanted.folder}/Chart.yaml" if wanted.folder else "Chart.yaml"
    lock = chart[: -len("yaml")] + "lock"
    document = _single(files[chart], chart)
    entry, position = _entry(document, wanted.name, chart, alias=True)
    found = [_version_place(files[chart], document, entry, position, wanted.version, chart)]
    if lock not in files:
        return found
    locked = _single(files[lock], lock)
    name = entry.text("name")
    same = [one for one in _dependencies(document) if one.text("name") == name]
    if len(same) > 1:
        raise Refused(f"the chart depends on {name} {len(same)} times, and the lock does not tell which is which", lock, "Run helm dependency update.")
    locked_entry, locked_position = _entry(locked, name, lock, alias=False)
    found.append(_version_place(files[lock], locked, locked_entry, locked_position, wanted.version, lock))
    digest = locked.get("digest")
    if digest is None:
        raise Refused("has no digest", lock, "Run helm dependency update.")
    after_chart = apply(files[chart], found[0].edits, chart)
    after_lock = apply(files[lock], found[1].edits, lock)
    new = lock_digest(after_chart, after_lock)
    before = lock_digest(files[chart], files[lock])
    if digest.value != before and digest.value != new:
        raise Refused("does not belong to the chart as it is: its digest is of other dependencies", lock, "Run helm dependency update first.")
    edits = () if digest.value == new else (set_scalar(files[lock], locked, digest, new, lock),)
    found.append(Place(lock, digest.line, 0, ("digest",), digest.value, new, edits))
    return found


def lock_digest(chart: str, lock: str) -> str:
    """The digest that helm writes into Chart.lock and compares: of what the chart asks for and what is locked, as Go writes it in JSON."""
    import yaml

    asked = _as_go((yaml.safe_load(chart) or {}).get("dependencies") or [])
    locked = _as_go((yaml.safe_load(lock) or {}).get("dependencies") or [])
    text = json.dumps([asked, locked], separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


# The fields of helm's Dependency in their order; those marked are left out when they are empty.
_FIELDS = (("name", False), ("version", True), ("repository", False), ("condition", True), ("tags", True), ("enabled", True),
           ("import-values", True), ("alias", True))


def _as_go(dependencies: Any) -> List[Dict[str, Any]]:
    result = []
    for one in dependencies:
        fields = {name: one.get(name) for name, _optional in _FIELDS}
        result.append({name: "" if fields[name] is None else _sorted(fields[name]) for name, optional in _FIELDS if not optional or fields[name]})
    return result


def _sorted(value: Any) -> Any:
    """Go writes the keys of a map in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _single(text: str, file: str) -> Node:
    found = documents(text, file)
    if len(found) != 1 or found[0].kind != "mapping":
        raise Failure("is not one mapping", file)
    return found[0]


def _dependencies(document: Node) -> List[Node]:
    listed = document.get("dependencies")
    return [entry for entry in listed.items if entry.kind == "mapping"] if listed is not None and listed.kind == "sequence" else []


def _entry(document: Node, name: str, file: str, alias: bool) -> "tuple[Node, int]":
    entries = _dependencies(document)

    def called(entry: Node) -> str:
        return (alias and entry.text("alias")) or entry.text("name")

    found = [(entry, position) for position, entry in enumerate(entries) if called(entry) == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{len(found)} dependencies are named {name}", file, "Give each an alias.")
    names = ", ".join(called(entry) for entry in entries)
    raise Failure(f"there is no dependency {name}", file, f"It has {names}." if names else "It has none.")


def _version_place(text: str, document: Node, entry: Node, position: int, version: str, file: str) -> Place:
    node: Optional[Node] = entry.get("version")
    if node is None:
        raise Refused("the dependency has no version", f"{file}:{entry.line}", "Write one.")
    edits = () if node.value == version else (set_scalar(text, document, node, version, file),)
    return Place(file, node.line, 0, ("dependencies", position, "version"), node.value, version, edits)
