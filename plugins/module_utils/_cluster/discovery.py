# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kinds the API server serves, and what a person may have meant by one that it doesn't."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

from ansible_collections.nordic.gitops.plugins.module_utils._cluster.answers import mapping, mappings, text
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

# KEP-3352: all groups in two answers; v2 since 1.30, v2beta1 since 1.26; an older server sends the plain one.
AGGREGATED = ",".join(
    [
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json",
    ]
)


class Resource(NamedTuple):
    """A kind that the API server serves, and where."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: Tuple[str, ...]
    status: bool = True  # whether its status is a subresource

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        if name in (".", "..") or namespace in (".", ".."):
            # Quoting leaves dots as they are, and the server reads them as another path.
            raise Failure('"." and ".." are not valid names', self.where(namespace, name))
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))  # an RBAC name may hold ":" and more
        return "/".join(parts)

    def where(self, namespace: str = "", name: str = "") -> str:
        """How a person calls it: "Deployment.apps shop/web"."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return f"{kind} {'/'.join(part for part in (namespace, name) if part)}".strip()


class Resources:
    """Every resource of the server, the versions of a group in the server's order of preference."""

    def __init__(self, served: Iterable[Resource], stale: Optional[Dict[str, str]] = None, versions: Iterable[str] = ()) -> None:
        self.stale = stale or {}  # group: why it could not be read (its aggregated API server is down)
        self._versions = set(versions)  # group versions, also of a group that does not answer
        self._by_version: Dict[Tuple[str, str], Resource] = {}
        self._by_group: Dict[Tuple[str, str], Resource] = {}
        for resource in served:
            self._by_version.setdefault((resource.api_version, resource.kind), resource)
            self._by_group.setdefault((resource.group, resource.kind), resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_version.values())

    def __len__(self) -> int:
        return len(self._by_version)

    @property
    def api_versions(self) -> Tuple[str, ...]:
        """All that is served, as helm's Capabilities.APIVersions has it: "apps/v1" and "apps/v1/Deployment", sorted."""
        kinds = {f"{api_version}/{kind}" for api_version, kind in self._by_version}
        return tuple(sorted(self._versions | {api_version for api_version, _kind in self._by_version} | kinds))

    def find(self, api_version: str, kind: str) -> Optional[Resource]:
        return self._by_version.get((api_version, kind))

    def preferred(self, group: str, kind: str) -> Optional[Resource]:
        return self._by_group.get((group, kind))

    def kinds_like(self, kind: str) -> List[Resource]:
        """Resources of this kind in any version, else of the kinds that are spelt most alike; best first."""
        same = [resource for resource in self._by_group.values() if resource.kind.lower() == kind.lower()]
        if same:
            return same
        plural = [resource for resource in self._by_group.values() if resource.plural == kind.lower()]
        if plural:
            return plural
        import difflib  # for those who mistyped only

        known = {resource.kind.lower(): resource.kind for resource in self}
        close = [known[name] for name in difflib.get_close_matches(kind.lower(), known, n=3, cutoff=0.75)]
        return [resource for name in close for resource in self._by_group.values() if resource.kind == name]

    def suggestion(self, api_version: str, kind: str) -> str:
        """A hint for an apiVersion and kind that find() doesn't know."""
        group = api_version.rpartition("/")[0]
        if group in self.stale:
            return f"The API group {group} does not answer ({self.stale[group]}): see its APIService."
        likely = self.kinds_like(kind)
        if not likely:
            return "No such kind is served: is its CustomResourceDefinition missing from the repository and the cluster?"
        named = " or ".join(f"{resource.api_version} {resource.kind}" for resource in likely)
        return f"Did you mean {named}?"


def from_aggregated(*lists: Dict[str, Any]) -> Resources:
    served: List[Resource] = []
    stale: Dict[str, str] = {}
    versions: List[str] = []
    for group in (item for each in lists for item in mappings(each.get("items"), "items of the discovery")):
        name = text(mapping(group.get("metadata") or {}, "metadata").get("name"), "a group's name")
        for version in mappings(group.get("versions"), f"versions of the group {name!r}"):
            number = text(version.get("version"), f"a version of the group {name!r}")
            versions.append(f"{name}/{number}" if name else number)
            if version.get("freshness") == "Stale":
                stale.setdefault(name, f"{number} is stale")
            for resource in mappings(version.get("resources"), f"resources of {versions[-1]}"):
                kind = text(mapping(resource.get("responseKind") or {}, "responseKind").get("kind"), "a kind")
                if kind:
                    subresources = mappings(resource.get("subresources"), f"subresources of {kind}")
                    served.append(_resource(name, number, kind, resource.get("resource"), resource.get("scope") == "Namespaced", resource,
                                            any(one.get("subresource") == "status" for one in subresources)))
    return Resources(served, stale, versions)


def _resource(group: str, version: str, kind: str, plural: Any, namespaced: bool, stated: Dict[str, Any],
              status: bool) -> Resource:
    verbs = stated.get("verbs")
    known = tuple(verb for verb in verbs if isinstance(verb, str)) if isinstance(verbs, list) else ()
    return Resource(group, version, kind, text(plural, f"the resource of the kind {kind}"), namespaced, known, status)


def group_versions(core: Dict[str, Any], groups: Dict[str, Any]) -> List[str]:
    """The group versions of a server without aggregated discovery, the preferred one of each group first."""
    listed = core.get("versions")
    found = [text(version, "a version") for version in listed] if isinstance(listed, list) else []
    for group in mappings(groups.get("groups"), "groups of the discovery"):
        preferred = mapping(group.get("preferredVersion") or {}, "preferredVersion").get("groupVersion")
        versions = [text(version.get("groupVersion"), "groupVersion") for version in mappings(group.get("versions"), "versions of a group")]
        found += sorted(versions, key=lambda version: version != preferred)
    return found


def from_plain(lists: Iterable[Dict[str, Any]], stale: Dict[str, str]) -> Resources:
    served = []
    versions = []
    for each in lists:
        versions.append(text(each.get("groupVersion"), "groupVersion"))
        group, _slash, version = versions[-1].rpartition("/")
        resources = mappings(each.get("resources"), f"resources of {versions[-1]}")
        names = {text(resource.get("name"), "a resource's name") for resource in resources}
        for resource in resources:
            name, kind = text(resource.get("name"), "a resource's name"), text(resource.get("kind"), "a kind")
            if "/" not in name and kind:
                served.append(_resource(group, version, kind, name, bool(resource.get("namespaced")), resource, f"{name}/status" in names))
    return Resources(served, stale, versions)
