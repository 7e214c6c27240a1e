# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as those need it who know one object (_objects) or many (_reconcile): what it takes and what it answers.

Its errors are Failure, whose properties (status, stale, immutable, conflicts …) are part of this interface.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._schema import Type

Body = Dict[str, Any]


class Resource(Protocol):
    """A kind that the API server serves, and where."""

    @property
    def group(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def api_version(self) -> str: ...

    @property
    def namespaced(self) -> bool: ...

    @property
    def verbs(self) -> Tuple[str, ...]: ...

    @property
    def status(self) -> bool: ...  # whether its status is a subresource

    def path(self, namespace: str = "", name: str = "") -> str: ...

    def where(self, namespace: str = "", name: str = "") -> str: ...  # how a person calls it


class Resources(Protocol):
    """All that the API server serves."""

    @property
    def stale(self) -> Mapping[str, str]: ...  # group: why it does not answer

    def __iter__(self) -> Iterator[Resource]: ...

    def find(self, api_version: str, kind: str) -> Optional[Resource]: ...

    def preferred(self, group: str, kind: str) -> Optional[Resource]: ...

    def suggestion(self, api_version: str, kind: str) -> str: ...  # what somebody may have meant who named a kind that there is not


class Cluster(Protocol):
    """One API server. Each call is an answer, or a Failure."""

    def discover(self, refresh: bool = False) -> Resources: ...

    def schema(self, api_version: str, kind: str) -> Type: ...

    def load_schemas(self, api_versions: Iterable[str] = ()) -> None: ...  # what schema() will be asked for, beside something else

    def list(self, resource: Resource, namespace: str = "", selector: str = "", metadata_only: bool = False, name: str = "") -> Tuple[List[Body], str]: ...

    def get(self, resource: Resource, namespace: str, name: str) -> Optional[Body]: ...

    def create(self, resource: Resource, body: Body, dry_run: bool = False) -> Body: ...

    def apply(self, resource: Resource, body: Body, force: bool = True, dry_run: bool = False) -> Tuple[Body, bool]: ...

    def patch(self, resource: Resource, namespace: str, name: str, ops: List[Body], dry_run: bool = False) -> Body: ...

    def delete(self, resource: Resource, namespace: str, name: str, uid: str, resource_version: str = "", propagation: str = "Background",
               dry_run: bool = False) -> bool: ...
