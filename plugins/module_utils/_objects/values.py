# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of one object: which it is, what Git wants of it, what is to be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, NamedTuple, Optional, Protocol, Sequence, Tuple, TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resource

Body = Dict[str, Any]

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
NAMESPACE = ("", "Namespace")

# The groups that the API server itself serves: there null means "not set". Not apiextensions.k8s.io: a schema's
# `default: null` means something. A custom resource may have nullable fields.
BUILT_IN_GROUPS = frozenset((
    "", "apps", "autoscaling", "batch", "policy", "admissionregistration.k8s.io", "apiregistration.k8s.io",
    "authentication.k8s.io", "authorization.k8s.io", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io",
    "events.k8s.io", "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io",
    "rbac.authorization.k8s.io", "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
    "storagemigration.k8s.io",
))


class Ref(NamedTuple):
    """One object's identity, whatever API version it is read or written with."""

    group: str
    kind: str
    namespace: str  # "" for a cluster-scoped object
    name: str

    def __str__(self) -> str:
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"


@dataclass(frozen=True)
class Document:
    """One object as a renderer wrote it, before anything is known about the cluster."""

    body: Body
    file: str  # path in the repository, "/" separated
    line: int  # 1-based line at which the document starts; 0 where a renderer cannot say

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Intent:
    """One object as Git wants it, normalised, with its namespace decided."""

    ref: Ref
    api_version: str
    body: Body
    where: str  # "file:line" in the repository


@dataclass(frozen=True)
class Conflict:
    """A field that Git sets and another field manager holds with another value."""

    ref: Ref
    field: str  # as the server writes it: ".spec.replicas"
    manager: str


Path = Tuple[str, ...]  # fieldsV1 keys from the root


class Leftover(NamedTuple):
    """A field that a person's tool, or a former one, added beside the intent and nobody else claims."""

    pointer: Tuple[Any, ...]  # JSON pointer, unescaped
    path: Path
    manager: str
    fields: Dict[str, Any] = {}  # what of it is named: others may add to a map meanwhile


@dataclass(frozen=True)
class TakeBack:
    """What must go that an apply alone leaves in place."""

    leftovers: Tuple[Leftover, ...] = ()
    removed: Tuple[Path, ...] = ()  # what was ours, and Git no longer has
    co_owned: Tuple[Path, ...] = ()  # what of that other managers hold with us
    given_up: Tuple[Path, ...] = ()  # what we held, and a controller decides from now on: it stays as it is
    replicas: Optional[int] = None  # the number that wakes a workload which its autoscaler does not
    adopting: bool = False  # whether the claims of the tool that the object comes from end, too
    claims: bool = False  # whether managedFields change
    unserved: Tuple[str, ...] = ()  # API versions in managedFields that the server has no longer
    not_released: Tuple[Path, ...] = ()  # what the server does not let go, so that it stays with whoever holds it


@dataclass(frozen=True)
class Change:
    """What is to be done with one object, and why. The plan is made of these; what came of it is an Outcome beside it."""

    operation: str  # created, configured, unchanged, pruned, skipped
    ref: Ref
    reason: str = ""
    intent: Optional[Intent] = None
    resource: Optional[Resource] = None  # None while the object's CRD is only planned
    body: Optional[Body] = None  # what is sent: the intent's body, less the fields left to others
    before: Optional[Body] = None  # the object as it was listed
    after: Optional[Body] = None  # as the server's dry run answered
    writes: bool = False  # whether an apply is needed (created, configured)
    undecided: bool = False  # whether only the server's dry run can tell if an apply is needed
    postponed: bool = False  # Git no longer has it, and it has still to go: in a later run, or once it is released
    take: Optional[TakeBack] = None  # what must be taken back; alone, or with the apply where writes is set
    conflicts: Sequence[Conflict] = ()
    unverified: str = ""  # check mode: why the server could not be asked
    takes_over: bool = False  # it needs what a pruned object holds, and is written after that is gone
    takes_from: Tuple[Ref, ...] = ()  # Services that this run changes, and that hold a node port of it until they give that up
    replaces: bool = False  # the object must be deleted and created again (an immutable field)
    hook: bool = False  # the object is run, and not kept (_reconcile/hooks.py)
    partial: bool = False  # a field that Git sets, or no longer has, is left to another manager

    @property
    def served(self) -> Resource:
        """The resource of an object whose kind the server has."""
        if self.resource is None:
            raise AssertionError(f"{self.ref}: nothing is asked of a kind that is not served yet")
        return self.resource


@dataclass(frozen=True)
class Outcome:
    """What came of one change."""

    operation: str  # created, configured, unchanged, pruned, skipped, failed
    reason: str
    before: Optional[Body] = None
    after: Optional[Body] = None  # as the write answered
    wrote: bool = False  # whether anything of it is different in the cluster now
    resource: Optional[Resource] = None  # known by then also of a kind that came with the same run
    incomplete: bool = False  # something of the object is not in Git, and the server does not let it go


class Policy(Protocol):
    """The options that concern one object."""

    @property
    def on_conflict(self) -> str: ...  # force, fail, keep

    @property
    def replace_immutable(self) -> bool: ...

    @property
    def verify(self) -> str: ...  # auto, full


def annotations_of(body: Body) -> Dict[str, str]:
    """metadata.annotations, {} where there are none."""
    metadata = body.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def defined_kind(definition: Body) -> Tuple[str, str]:
    """(group, kind) of what a CustomResourceDefinition defines."""
    spec = definition.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    return (str(spec.get("group")), str(names.get("kind"))) if isinstance(spec, dict) and isinstance(names, dict) else ("", "")
