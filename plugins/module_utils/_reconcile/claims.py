# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PersistentVolumeClaims wait for a Pod that is not to come: those of a class with WaitForFirstConsumer that nothing uses yet."""

from __future__ import annotations

from typing import Any, FrozenSet, Iterator, Mapping, Set, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Ref

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster


def used_by(obj: Body) -> FrozenSet[str]:
    """The names of the claims that the Pods of this object use; none for what makes no Pod now, such as a CronJob."""
    spec = obj.get("spec")
    if not isinstance(spec, dict) or obj.get("kind") in ("CronJob", "PersistentVolumeClaim"):
        return frozenset()
    if spec.get("replicas") == 0 or spec.get("suspend") is True or spec.get("paused") is True:
        return frozenset()
    return frozenset([*_named(spec), *_of_templates(obj, spec)])


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "claimName" and isinstance(item, str):
                yield item
            else:
                yield from _named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


def _of_templates(obj: Body, spec: Body) -> Iterator[str]:
    """A StatefulSet names its claims TEMPLATE-NAME-ORDINAL, also those that Git has."""
    templates = spec.get("volumeClaimTemplates")
    replicas = spec.get("replicas", 1)
    if not isinstance(templates, list) or not isinstance(replicas, int):
        return
    name = (obj.get("metadata") or {}).get("name")
    for template in templates:
        for ordinal in range(min(replicas, 1000)):
            yield f"{((template or {}).get('metadata') or {}).get('name')}-{name}-{ordinal}"


def without_consumer(cluster: Cluster, pending: Mapping[Ref, Body], used: Set[Ref]) -> Mapping[Ref, str]:
    """The class of each pending claim that binds once a Pod uses it, while none does. used: those that a Pod is due for.

    Where the classes or Pods may not be read, no claim is among them: it is waited for as any other.
    """
    unused = {ref: obj for ref, obj in pending.items() if ref not in used}
    if not unused:
        return {}
    classes_at, pods_at = cluster.discover().find("storage.k8s.io/v1", "StorageClass"), cluster.discover().find("v1", "Pod")
    if classes_at is None or pods_at is None:
        return {}
    try:
        classes = cluster.list(classes_at)[0]
        late = {item["metadata"]["name"] for item in classes if item.get("volumeBindingMode") == "WaitForFirstConsumer"}
        found = {ref: str((obj.get("spec") or {}).get("storageClassName")) for ref, obj in unused.items()}
        found = {ref: name for ref, name in found.items() if name in late}
        for namespace in {ref.namespace for ref in found}:
            for pod in cluster.list(pods_at, namespace)[0]:
                for name in used_by({**pod, "kind": "Pod"}):
                    found.pop(Ref("", "PersistentVolumeClaim", namespace, name), None)
    except Failure:
        return {}
    return found
