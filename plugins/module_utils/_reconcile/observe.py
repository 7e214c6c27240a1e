# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what is in the cluster of the intents' objects and of the inventory's: one LIST per kind.

Any LIST that fails fails the whole observation, so nothing is pruned on half a view.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import NAMESPACE, Body, Intent
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resource, Resources

SECRET = ("", "Secret")
FEW = 4  # so many objects are asked for by name
READERS = 8  # LISTs and dry runs in flight: reads cost the server little, and more would only queue in this process


class Observed(NamedTuple):
    """One object as a LIST shows it."""

    resource: Resource
    live: Body
    intent: Optional[Intent]  # None: it carries the inventory's label, and Git does not have it
    member: bool  # whether it carries the inventory's label


class Missing(NamedTuple):
    """An intent whose object is not in the cluster."""

    intent: Intent
    resource: Optional[Resource]  # None while the kind or its version comes with this very run


Wanted = Dict[Tuple[str, str], Intent]  # by namespace and name


def observe(cluster: Cluster, resources: Resources, intents: Sequence[Intent], inventory: Inventory, see: Callable[[Observed], None]) -> List[Missing]:
    """Hand every object to see(), in any order and from several threads, and return what is not there.

    The objects are handed on one by one since, at 5,000, their bodies are most of the memory of a run.
    """
    wanted: Dict[Resource, Wanted] = {}
    missing: List[Missing] = []
    for intent in intents:
        # Where only the version comes with the same run, the object may be there already, and shows in another version.
        resource = (resources.find(intent.api_version, intent.ref.kind)
                    or resources.preferred(intent.ref.group, intent.ref.kind))
        if resource is None:
            missing.append(Missing(intent, None))
        else:
            wanted.setdefault(resource, {})[(intent.ref.namespace, intent.ref.name)] = intent
    listed = dict.fromkeys(wanted)
    for group, kind in sorted(inventory.kinds):
        resource = resources.preferred(group, kind)
        if resource is None and group in resources.stale:
            raise Failure(f"the API group {group} does not answer ({resources.stale[group]})", hint=(
                f"Mend or remove its APIService: this reconcile has objects of {kind} in it, which cannot be found now."))
        # A kind that the cluster no longer serves took its objects with it (kustomize-controller #90).
        if resource is not None and not any((item.group, item.kind) == (group, kind) for item in wanted):
            listed[resource] = None
    served: Dict[Tuple[str, str], List[Resource]] = {}
    for resource in resources:
        served.setdefault((resource.group, resource.kind), []).append(resource)
    namespaces = inventory.namespaces | {intent.ref.namespace for intent in intents if intent.ref.namespace}

    with ThreadPoolExecutor(READERS) as pool:
        if inventory.empty:
            absent = [wanted.get(resource, {}) for resource in listed]
        else:
            absent = list(pool.map(lambda resource: _read_any(cluster, resource, wanted.get(resource, {}), namespaces, inventory.selector, see,
                                                              served[(resource.group, resource.kind)]), list(listed)))
        # What the set does not hold may be there all the same: one more LIST of just the kinds and namespaces concerned.
        # Namespaces first, since nothing is in one that does not exist.
        rest = [(resource, items) for resource, items in zip(listed, absent) if items]
        found = _read_rest(cluster, pool, [pair for pair in rest if (pair[0].group, pair[0].kind) == NAMESPACE], set(), see)
        nowhere = {item.intent.ref.name for item in found}
        found += _read_rest(cluster, pool, [pair for pair in rest if (pair[0].group, pair[0].kind) != NAMESPACE], nowhere, see)
    return missing + found


def _read_any(cluster: Cluster, resource: Resource, wanted: Wanted, namespaces: Set[str], selector: str, see: Callable[[Observed], None],
              versions: Sequence[Resource]) -> Wanted:
    """LIST one kind; where Git has none of it any more, in whichever of its served versions answers."""
    try:
        return _read(cluster, resource, wanted, namespaces, selector, see)
    except Failure as error:
        for other in versions if not wanted and error.status not in (401, 403) else ():
            if other != resource and "list" in other.verbs:
                try:
                    return _read(cluster, other, wanted, namespaces, selector, see)
                except Failure:
                    continue  # the first error is the one to tell
        raise


def _read(cluster: Cluster, resource: Resource, wanted: Wanted, namespaces: Iterable[str], selector: str, see: Callable[[Observed], None]) -> Wanted:
    """LIST one kind and hand on what is wanted and, with a selector, the inventory's; returns what was not found."""
    missing = dict(wanted)
    for live in _list(cluster, resource, sorted(namespaces), selector):
        metadata = live["metadata"]
        intent = missing.pop((metadata.get("namespace", ""), metadata["name"]), None)
        if intent is not None or selector:
            see(Observed(resource, live, intent, bool(selector)))
    return missing


def _read_rest(cluster: Cluster, pool: ThreadPoolExecutor, rest: Sequence[Tuple[Resource, Wanted]], nowhere: Set[str],
               see: Callable[[Observed], None]) -> List[Missing]:
    """What exists outside of the inventory; nowhere: Namespaces that do not exist."""
    def read(pair: Tuple[Resource, Wanted]) -> Wanted:
        resource, items = pair
        places = {namespace for namespace, _name in items} - {""}
        if places and places <= nowhere:
            return items
        if len(items) > FEW:
            return _read(cluster, resource, items, places - nowhere, "", see)
        missing = {}
        for (namespace, name), intent in items.items():
            found = cluster.list(resource, namespace, name=name)[0] if namespace not in nowhere else []
            if found:
                see(Observed(resource, found[0], intent, False))
            else:
                missing[(namespace, name)] = intent
        return missing

    return [Missing(intent, resource if resource.api_version == intent.api_version else None)
            for (resource, _items), absent in zip(rest, list(pool.map(read, rest))) for intent in absent.values()]


def _list(cluster: Cluster, resource: Resource, namespaces: List[str], selector: str) -> List[Body]:
    if not resource.namespaced:
        return cluster.list(resource, selector=selector)[0]
    # In one namespace a LIST of it alone reads less, and needs no rights beyond it. Secrets that are not ours are never read elsewhere.
    if len(namespaces) != 1 and (selector or (resource.group, resource.kind) != SECRET):
        try:
            return cluster.list(resource, selector=selector)[0]
        except Failure as error:
            if error.status != 403 or not namespaces:
                raise
    return [item for namespace in namespaces for item in cluster.list(resource, namespace, selector)[0]]
