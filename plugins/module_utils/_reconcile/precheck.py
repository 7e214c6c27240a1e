# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server would refuse of the plan's writes, known before the first of them: fields that it does not have, types, namespaces.

A dry run of every new object would tell it too, and double the requests of a first sync. The server's own schema is read once and kept.
"""

from __future__ import annotations

import difflib
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Change
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERRORS
from ansible_collections.nordic.gitops.plugins.module_utils._schema import FREE, SCALAR, Type

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster, Resources

SHOWN = 20
# Of an object inside of another one, whose schema need not repeat them.
EMBEDDED = ("apiVersion", "kind", "metadata")
_SCALARS = {"string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float)}
_NAMES = {"string": "a string", "boolean": "a boolean", "integer": "an integer", "number": "a number"}


def refuse_what_the_server_would(cluster: Cluster, resources: Resources, changes: Sequence[Change]) -> None:
    """Raise Refused with everything that is known to be wrong with what these changes would write."""
    # A kind whose definition changes with this run is judged by the new one, when it is written.
    changed = {kind for change in changes if (change.ref.group, change.ref.kind) == CRD and change.operation != "unchanged"
               for kind in [_defined(change)]}
    errors: List[str] = []
    for change in changes:
        if change.intent is None or change.resource is None or change.operation not in ("created", "configured") \
                or (change.ref.group, change.ref.kind) in changed:
            continue
        wrong = wrong_fields(change.body or {}, cluster.schema(change.intent.api_version, change.ref.kind))
        errors += [f"{change.intent.where}: {change.ref}: {words}" for words in wrong[:ERRORS]]
    errors += _missing_namespaces(cluster, resources, changes)
    if errors:
        more = f"\n(+{len(errors) - SHOWN} more)" if len(errors) > SHOWN else ""
        raise Refused("\n".join(errors[:SHOWN]) + more, errors=errors[:ERRORS])


def _defined(change: Change) -> Tuple[str, str]:
    spec = (change.body or {}).get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    return (str(spec.get("group")), str(names.get("kind"))) if isinstance(spec, dict) and isinstance(names, dict) else ("", "")


def wrong_fields(body: Any, known: Type) -> List[str]:
    """What does not fit the type of a kind, by its path."""
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import not_a_string, type_of

    def walk(value: Any, what: Type, path: str) -> Iterator[str]:
        if value is None or what.how in ("", FREE):
            return
        if isinstance(value, dict):
            if what.how == SCALAR or what.is_list:
                yield f"{path} is a mapping, must be {_NAMES.get(what.scalar, 'a value') if what.how == SCALAR else 'a list'}"
                return
            for key, child in value.items():
                if what.has(key):
                    yield from walk(child, what.field(key), f"{path}.{key}")
                elif what.struct and key not in EMBEDDED:
                    near = difflib.get_close_matches(key, what.names, n=1)
                    yield (f"{path}.{key}: field not declared in schema." + (f" Did you mean {near[0]}?" if near else "")
                           + " `kubectl explain` shows the fields that the kind has.")
        elif isinstance(value, list):
            if what.struct or what.how == SCALAR:
                yield f"{path} is a list, must be {'a mapping' if what.struct else _NAMES.get(what.scalar, 'a value')}"
            elif what.is_list:
                for number, child in enumerate(value):
                    yield from walk(child, what.item(), f"{path}[{number}]")
        elif what.struct or what.is_list:
            yield f"{path} is {type_of(value)}, must be {'a mapping' if what.struct else 'a list'}"
        elif what.scalar and (not isinstance(value, _SCALARS[what.scalar]) or isinstance(value, bool) is not (what.scalar == "boolean")):
            if what.scalar == "string":
                wrong = not_a_string(path, value)
                yield f"{path} {wrong.what}. {wrong.hint}".rstrip()
            else:
                yield f"{path} is {type_of(value)}, must be {_NAMES[what.scalar]}"

    return list(walk({key: value for key, value in body.items() if key not in ("apiVersion", "kind")}, known, ""))


def _missing_namespaces(cluster: Cluster, resources: Resources, changes: Sequence[Change]) -> List[str]:
    """Namespaces that are neither there nor in Git. Who may not read them is told by the server instead."""
    there: Set[str] = {change.ref.name for change in changes if (change.ref.group, change.ref.kind) == NAMESPACE and change.intent is not None}
    there |= {change.ref.namespace for change in changes if change.before is not None}
    wanted: Dict[str, List[Change]] = {}
    for change in changes:
        if change.operation == "created" and change.ref.namespace and change.ref.namespace not in there:
            wanted.setdefault(change.ref.namespace, []).append(change)
    resource = resources.find("v1", "Namespace")
    errors = []
    for name, inside in sorted(wanted.items()):
        try:
            missing = resource is not None and cluster.get(resource, "", name) is None
        except Failure:
            continue
        first = inside[0]
        if missing and first.intent is not None:
            more = f" (and {len(inside) - 1} more objects in it)" if len(inside) > 1 else ""
            errors.append(f"{first.intent.where}: {first.ref}{more}: namespaces \"{name}\" not found, and Git has none. Add it to Git, or create it.")
    return errors
