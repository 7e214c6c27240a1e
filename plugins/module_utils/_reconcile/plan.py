# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is to do with each object: the intents compared with what was observed. The result is a Plan, a value.

Check mode shows it, guard() judges it, the other stages carry it out; none of them changes it.
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import known_of
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import compare
from ansible_collections.nordic.gitops.plugins.module_utils._objects.dry_run import dry_run
from ansible_collections.nordic.gitops.plugins.module_utils._objects.explain import explain
from ansible_collections.nordic.gitops.plugins.module_utils._objects.replace import asks_to_be_replaced, claims_lost_with, dry_run_creation, may_replace
from ansible_collections.nordic.gitops.plugins.module_utils._objects.service import allocated
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Body, Change, Intent, Ref, annotations_of, defined_kind
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import deletion
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, Health, health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import autoscaled
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF, Inventory, reconcile_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.observe import READERS, Missing, Observed, observe
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import sort_key
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.precheck import refuse_what_the_server_would

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resource, Resources
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import Hook

PLANNED_KIND = "its CRD is created by the same run"
CHANGED_KIND = "it cannot be verified before its CRD is changed, which this run does first"

# How other tools mark what is theirs: (kind of mark, key, tool).
MARKS = (
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("annotations", "meta.helm.sh/release-name", "Helm"),
    ("annotations", "objectset.rio.cattle.io/id", "k3s or Fleet"),
    ("labels", "kapp.k14s.io/app", "kapp"),
    ("labels", "cli-utils.sigs.k8s.io/inventory-id", "cli-utils"),
    ("annotations", "config.k8s.io/owning-inventory", "cli-utils"),
)


@dataclass(frozen=True)
class Plan:
    """Every object of the run with what is to be done; health of what stays as it is."""

    changes: Tuple[Change, ...] = ()
    health: Mapping[Ref, Health] = field(default_factory=dict)
    dry_runs: int = 0  # how many objects the server's dry run was asked about
    owned: int = 0  # objects in the cluster that are proven to belong to this reconcile and could be deleted by it
    commit: str = ""
    scope: deletion.Scope = deletion.Scope("", frozenset(), frozenset())
    recorded_source: str = ""  # where the objects came from until now, if from elsewhere than now
    source: str = ""  # where they come from now
    hooks: Tuple[Hook, ...] = ()  # that this run runs, or in check mode would run
    former_members: FrozenSet[Ref] = frozenset()  # hooks whose object is a member still: a run before they were hooks applied it
    given_up: Tuple[Change, ...] = ()  # objects that Git has turned into hooks, and that are deleted as these say
    left: Tuple[Change, ...] = ()  # hooks of a run that did not come to its end, which Git no longer has

    def of(self, *operations: str) -> List[Change]:
        """The changes with one of the operations, in order."""
        return [change for change in self.changes if change.operation in operations]

    @property
    def to_do(self) -> List[Change]:
        """What a run of this plan would write or delete."""
        return self.of("created", "configured", "pruned")

    @property
    def deletions(self) -> List[Change]:
        """What a run of this plan would delete, for good or to create it again; what a hook made is not counted."""
        return [*(change for change in self.changes if change.operation == "pruned" or change.replaces), *self.given_up]

    @property
    def hook_changes(self) -> List[Change]:
        """What the hooks write."""
        return [hook.change for hook in self.hooks]

    @cached_property
    def id(self) -> str:
        """The same for two plans that do the same to the same objects, for the same commit."""
        parts = [self.scope.inventory, self.commit, *(fingerprint(change) for change in self.changes if change.operation != "unchanged"),
                 *(fingerprint(hook.change) for hook in self.hooks), *(fingerprint(change) for change in self.left)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def fingerprint(change: Change) -> str:
    """What a change would do, as text: equal where the cluster moved only in what does not matter (a status, a version).

    No value of a Secret is part of it, not even as a digest: the version of the object and the commit stand for them.
    """
    before, body = change.before, change.body
    if before is not None:
        metadata = before["metadata"]
        if (change.ref.group, change.ref.kind) == ("", "Secret"):
            before = {"version": metadata.get("resourceVersion")}
        elif change.operation != "pruned":
            before = shown(before, change)
        else:
            before = {}
        before = {**before, "uid": metadata.get("uid")}
    if (change.ref.group, change.ref.kind) == ("", "Secret"):
        body = None
    take = [[item.path for item in change.take.leftovers], change.take.co_owned, change.take.replicas] if change.take else []
    reason = change.reason if change.operation == "skipped" else ""
    return json.dumps([change.operation, change.ref, reason, before, body, take, change.replaces], sort_keys=True)


def shown(live: Body, change: Change, after: Optional[Body] = None) -> Body:
    """The part of an object that a person is shown: what Git sets or set, and what is taken back.

    Of a new object it is what is sent, in a plan as in a run: no answer of the server is needed for it.
    """
    if change.before is None and change.body is not None:
        sent = {key: value for key, value in change.body.items() if key not in ("apiVersion", "kind", "status")}
        sent["metadata"] = {key: value for key, value in (sent.get("metadata") or {}).items() if key not in ("name", "namespace")}
        return {key: value for key, value in sent.items() if value not in ({}, None)}
    fields: Dict[str, Any] = {}
    for version in (change.before, after):
        entry = ownership.own_entry(version) if version else None
        if entry:
            fields = ownership.merge(fields, entry.get("fieldsV1") or {})
    if change.take is not None:
        fields = ownership.merge(fields, ownership.tree([item.path for item in change.take.leftovers]))
    part = ownership.select(live, fields) if fields else {key: value for key, value in live.items() if key not in ("status", "metadata")}
    return {key: value for key, value in part.items() if value not in ({}, None)}


def make_plan(cluster: Cluster, resources: Resources, intents: Sequence[Intent], inventory: Inventory, options: Options, commit: str = "",
              digest: str = "", incomplete: str = "", not_kept: Iterable[Ref] = (), beside: Iterable[Change] = ()) -> Plan:
    """The plan for these intents; nothing is written.

    digest: what beside the commit decides the intents. incomplete: why Git may say less now than it would otherwise.
    not_kept: what Git has beside the intents, and is not pruned: hooks. beside: what those of them write that run before or among the intents.
    """
    planner = _Planner(cluster, resources, intents, inventory, options, incomplete, not_kept, tuple(beside))
    return planner.plan(commit, inventory.enforces(commit, digest))


class Judge:
    """The rules by which one object is judged, in the plan and wherever it must be judged again after it."""

    def __init__(self, cluster: Cluster, scope: deletion.Scope, options: Options, intents: Sequence[Intent]) -> None:
        self.cluster, self.scope, self.options = cluster, scope, options
        self.minimum = autoscaled(intent.body for intent in intents)
        self._owners: Dict[str, str] = {}  # ids of other ApplySets: whose they are

    def judge(self, resource: Resource, intent: Intent, live: Body) -> Change:
        """What is to be done with an object that is there."""
        if self.options.tracked_by and deletion.is_tracked_by(live, self.options):
            intent = with_its_tracking_id(intent, live)  # Argo CD finds its object again
        change = Change("unchanged", intent.ref, "in sync", intent, resource, intent.body, live)
        if live["metadata"].get("deletionTimestamp"):
            return replace(change, operation="created", reason="is being deleted: created again once it is gone", writes=True,
                           unverified="it must be gone first")
        stranger = self._stranger(live)
        if stranger:
            return replace(change, operation="skipped", reason=stranger)
        if resource.api_version != intent.api_version:
            return replace(change, operation="configured", resource=None, writes=True, unverified=PLANNED_KIND,
                           reason=f"served as {resource.api_version}, Git says {intent.api_version}")
        return compare(change, live, self.options, self.minimum.get(change.ref), known_of(self.cluster, change))

    def replacement(self, change: Change, error: Failure) -> Change:
        """Delete and create again, but only where nothing but immutable fields is in the way and the new object would be created."""
        others = error.other_fields
        if others:
            error.hint = f"Correct {', '.join(others)}: an object is replaced only when nothing but immutable fields is in the way."
            raise error
        change = replace(change, replaces=True, writes=True, undecided=False, take=None, unverified="it must be deleted first",
                         reason=f"{change.reason}; an immutable field: deleted and created again")
        refusal = deletion.rule_against(change, self.scope, self.options)
        if refusal:
            raise Refused(f"an immutable field changes, and the object must not be replaced: {refusal[1]}",
                          f"{change.intent.where if change.intent else ''}: {change.ref}",
                          "Delete it yourself if that is what you want, or take the change back in Git.")
        try:
            lost = [] if asks_to_be_replaced(change) else claims_lost_with(self.cluster, change)
            if lost:
                raise Refused(f"an immutable field changes, and the object must not be replaced: it owns "
                              f"PersistentVolumeClaim {', '.join(lost)}, which would be deleted with it",
                              f"{change.intent.where if change.intent else ''}: {change.ref}",
                              "Set the annotation argocd.argoproj.io/sync-options: Replace=true on the object if the data may go.")
            deletion.dry_run(self.cluster, change)
            dry_run_creation(self.cluster, change)
        except Failure as failure:
            raise explain(failure, change) from None
        return change

    def _stranger(self, live: Body) -> str:
        """Why an object must not be adopted, "" when it may."""
        metadata = live["metadata"]
        labels = metadata.get("labels") or {}
        owner = labels.get(PART_OF) or labels.get(OF)
        if owner == self.scope.inventory or self.options.adopt == "always":
            return ""
        if owner:
            if owner not in self._owners:
                self._owners[owner] = reconcile_of(self.cluster, owner, self.options.inventory_namespace)
            return f"belongs to {self._owners[owner]}; adopt: always takes it over"
        for place, key, tool in MARKS:
            if key in (metadata.get(place) or {}) and not (key == deletion.TRACKING_ID and deletion.is_tracked_by(live, self.options)):
                return f"belongs to {tool} ({key}: {metadata[place][key]}); adopt: always takes it over"
        controller = deletion.controlled_by(live)
        if controller:
            return f"{controller}, which controls it; adopt: always takes it over"
        if self.options.adopt == "never":
            return "was not made by this reconcile; adopt: unowned takes it over"
        return ""


class _Planner:
    def __init__(self, cluster: Cluster, resources: Resources, intents: Sequence[Intent], inventory: Inventory, options: Options, incomplete: str,
                 not_kept: Iterable[Ref], beside: Tuple[Change, ...]) -> None:
        self.cluster, self.resources, self.inventory, self.options = cluster, resources, inventory, options
        self.intents = intents
        self.not_kept, self.beside = frozenset(not_kept), beside
        inhabitants = [*self.not_kept, *(intent.ref for intent in intents)]
        self.scope = deletion.Scope(inventory.id, frozenset(inventory.kinds), frozenset(inventory.namespaces),
                                    {ref.namespace: ref for ref in inhabitants if ref.namespace}, incomplete)
        self.judge = Judge(cluster, self.scope, options, intents)
        self.changes: List[Change] = []  # of the intents
        self.gone: Dict[str, Change] = {}  # what Git no longer has, by uid: one object may be listed in two versions
        self.health: Dict[Ref, Health] = {}
        self.wanted_uids: Set[str] = set()
        self.proven: Set[str] = set()  # uids of intents' objects that are proven to be ours

    def plan(self, commit: str, enforced: bool) -> Plan:
        missing = observe(self.cluster, self.resources, self.intents, self.inventory, self._see)
        self.changes += [_created(item, "somebody deleted it" if enforced else "new") for item in missing]
        self._deleted_with_what_holds_them()
        self._refuse_going_definitions()
        refs = {intent.ref for intent in self.intents}
        former = frozenset(change.ref for change in self.gone.values() if change.ref in self.not_kept)
        gone = [self._judge_deletion(change) for uid, change in self.gone.items()
                if uid not in self.wanted_uids and change.ref not in refs and change.ref not in former]
        self._takes_over(gone)
        around = [change for change in self.beside if (change.ref.group, change.ref.kind) in (CRD, NAMESPACE)]  # hooks are judged when they are due
        refuse_what_the_server_would(self.cluster, self.resources, [*self.changes, *around])
        # Definitions first: what they change decides how the objects of their kinds can be judged.
        definitions = {position for position, change in enumerate(self.changes) if (change.ref.group, change.ref.kind) == CRD}
        dry_runs = self._dry_run_each(definitions)
        self._of_changed_kinds()
        dry_runs += self._dry_run_each(set(range(len(self.changes))) - definitions)
        changes = sorted(self.changes + gone, key=lambda change: (not change.intent, sort_key(change.ref)))
        owned = len(self.proven) + sum(change.operation == "pruned" for change in gone)
        return Plan(tuple(changes), self.health, dry_runs, owned, commit, self.scope, self.inventory.other_source, self.inventory.source,
                    former_members=former)

    def _see(self, observed: Observed) -> None:
        resource, live, intent, _member = observed
        metadata = live["metadata"]
        if intent is None:
            ref = Ref(resource.group, resource.kind, metadata.get("namespace", ""), metadata["name"])
            self.gone.setdefault(metadata["uid"], Change("pruned", ref, "no longer in Git", None, resource, None, live))
            return
        self.wanted_uids.add(metadata["uid"])
        if (metadata.get("labels") or {}).get(PART_OF) == self.inventory.id and deletion.is_proven(live):
            self.proven.add(metadata["uid"])
        self.changes.append(self._at_rest(self.judge.judge(resource, intent, live)))

    def _at_rest(self, change: Change) -> Change:
        """Note the health of what stays as it is, and hold its body no longer than needed."""
        if change.operation != "unchanged":
            return change
        live = change.after or change.before or {}
        found = self.health[change.ref] = health(live, self.options.health_rules)
        return replace(change, before=None if found.status == CURRENT else live, after=None)

    def _judge_deletion(self, change: Change) -> Change:
        """A change that the gate forbids is skipped."""
        refusal = deletion.rule_against(change, self.scope, self.options)
        if refusal is None:
            return change
        if refusal[0] is deletion.never_deleted_by_the_server:
            body = {"apiVersion": change.served.api_version, "kind": change.ref.kind, "metadata": {"name": change.ref.name}}
            return replace(change, operation="configured", reason=f"{refusal[1]}: what Git set in it is taken back", body=body, writes=True)
        return replace(change, operation="skipped", reason=refusal[1], postponed=refusal[0] in deletion.POSTPONING)

    def _deleted_with_what_holds_them(self) -> None:
        """What is in a Namespace that is being deleted, or of a kind whose CRD is, goes with it, whatever it looks like now."""
        namespaces, kinds = set(), set()
        for change in self.changes:
            live = change.before or {}
            if live.get("metadata", {}).get("deletionTimestamp"):
                if (change.ref.group, change.ref.kind) == NAMESPACE:
                    namespaces.add(change.ref.name)
                elif (change.ref.group, change.ref.kind) == CRD:
                    kinds.add(defined_kind(live))
        for position, change in enumerate(self.changes):
            if change.intent and (change.ref.namespace in namespaces or (change.ref.group, change.ref.kind) in kinds):
                resource = None if (change.ref.group, change.ref.kind) in kinds else change.resource  # served anew after that
                self.changes[position] = Change(
                    "created", change.ref, "is deleted with what it lives in: created again after that", change.intent, resource,
                    change.intent.body, writes=True, unverified="it must be gone first")
                self.health.pop(change.ref, None)

    def _refuse_going_definitions(self) -> None:
        """A definition that is being deleted takes its objects with it: only a run that waits can make it and them again."""
        for change in self.changes:
            live = change.before or {}
            since = (live.get("metadata") or {}).get("deletionTimestamp")
            if (change.ref.group, change.ref.kind) != CRD or not since or self.options.wait or change.intent is None:
                continue
            group, kind = defined_kind(live)
            resource = self.resources.preferred(group, kind)
            held = [item["metadata"] for item in self.cluster.list(resource, metadata_only=True)[0]] if resource else []
            named = [f"{kind} {'/'.join(filter(None, (item.get('namespace'), item['name'])))} with the finalizers {', '.join(item['finalizers'])}"
                     for item in held if item.get("finalizers")]
            raise Failure(f"is being deleted since {since}" + (f", and held by {'; '.join(named[:5])}" if named else ""),
                          f"{change.intent.where}: {change.ref}",
                          "Set wait: true to wait for its end; the run then makes it and its objects again.")

    def _takes_over(self, gone: Sequence[Change]) -> None:
        """A Service whose fixed node port or address a pruned Service holds is written once that is gone. A node port that this run takes
        from another Service, maybe in exchange for its own, is given up by that one first."""
        held = {value: change.ref for change in gone if change.operation == "pruned" for value in allocated(change.ref, change.before)}
        given_up = {value: change.ref for change in self.changes if change.operation == "configured" and change.intent
                    for value in allocated(change.ref, change.before) - allocated(change.ref, change.intent.body) if isinstance(value, tuple)}
        for position, change in enumerate(self.changes):
            if change.operation not in ("created", "configured"):
                continue
            needed = sorted(allocated(change.ref, change.body) - allocated(change.ref, change.before), key=str)
            pruned = [held[value] for value in needed if value in held]
            holders = tuple(dict.fromkeys(given_up[value] for value in needed if value in given_up))
            if pruned:
                change = replace(change, takes_over=True, writes=True, undecided=False,
                                 unverified=f"it cannot be verified before {pruned[0]} is pruned, which holds its port or address")
            if holders:
                change = replace(change, takes_from=holders, writes=True, undecided=False,
                                 unverified=change.unverified or f"it cannot be verified before {holders[0]} gives up its node port")
            self.changes[position] = change

    def _of_changed_kinds(self) -> None:
        """An object whose definition changes in this run is judged by the server when it is written, by the new definition."""
        changed = {defined_kind(change.intent.body) for change in self.changes
                   if change.intent and (change.ref.group, change.ref.kind) == CRD and change.operation in ("created", "configured")}
        for position, change in enumerate(self.changes):
            if (change.ref.group, change.ref.kind) in changed and (change.writes or change.undecided or change.take) and not change.unverified:
                self.changes[position] = replace(change, writes=change.writes or change.undecided, undecided=False, unverified=CHANGED_KIND)

    def _dry_run_each(self, positions: Set[int]) -> int:
        """Dry runs: of what could not be proved, of what may have to be replaced, and of everything that would be written in check
        mode or where a certain plan is expected. How many there were."""
        made = {change.ref.name for change in self.changes
                if (change.ref.group, change.ref.kind) == NAMESPACE and change.operation == "created"}
        everything = self.options.check_mode or bool(self.options.expect)
        unknown: List[int] = []
        for position in sorted(positions):
            change = self.changes[position]
            written = (change.writes or change.take) and not change.unverified
            if not change.undecided and not (written and (everything or change.before and may_replace(change, self.options))):
                continue
            if change.operation == "created" and change.ref.namespace in made:
                self.changes[position] = replace(change, unverified=f"its namespace {change.ref.namespace} is created by the same run")
            else:
                unknown.append(position)

        def decide(position: int) -> None:
            self.changes[position] = self._at_rest(self._dry_run(self.changes[position]))

        with ThreadPoolExecutor(READERS) as pool:
            errors = work_on(pool, decide, unknown)
        if errors:
            raise together(errors, "the server refuses what Git says")
        return len(unknown)

    def _dry_run(self, change: Change) -> Change:
        try:
            found = dry_run(self.cluster, change, self.options, self.judge.minimum.get(change.ref))
        except Failure as error:
            first = written_first([*self.changes, *self.beside], change, error)
            if first:
                return replace(change, writes=True, undecided=False, unverified=f"it cannot be verified before {first}, which this run writes first")
            if change.before is None or not error.immutable or not may_replace(change, self.options):
                raise
            return self.judge.replacement(change, error)
        if found.before is None and change.before is not None:
            return replace(found, operation="created", reason="was deleted during the run", take=None, writes=True)
        return found


def written_first(changes: Iterable[Change], change: Change, error: Failure) -> str:
    """What the run of these changes writes before this one, and the server's refusal misses; "" where it is another refusal."""
    if error.status not in (400, 403, 404, 422):
        return ""
    # What the server says of a missing role is that it is not there, or that its rights are not held; not that the binding is invalid.
    role = _role_of(change) if error.status in (403, 404) else None
    for other in changes:
        if other.operation not in ("created", "configured") or other.ref == change.ref or other.ref.namespace not in ("", change.ref.namespace):
            continue
        name = re.escape(other.ref.name)
        if other.ref == role or re.search(rf'"{name}" not found|with name {name} was found|exceeded quota: {name}\b', error.what):
            return str(other.ref)
    return ""


def _role_of(change: Change) -> Optional[Ref]:
    """What a RoleBinding or ClusterRoleBinding binds."""
    role = (change.body or {}).get("roleRef")
    if change.ref.kind not in ("RoleBinding", "ClusterRoleBinding") or not isinstance(role, dict):
        return None
    kind = str(role.get("kind"))
    return Ref(change.ref.group, kind, change.ref.namespace if kind == "Role" else "", str(role.get("name")))


def with_its_tracking_id(intent: Intent, live: Body) -> Intent:
    """The intent with what marks the object as one of an Application."""
    metadata = intent.body["metadata"]
    marks = {key: text for key, text in annotations_of(live).items() if key in (deletion.TRACKING_ID, deletion.INSTALLATION_ID)}
    kept = {**(metadata.get("annotations") or {}), **marks}
    return replace(intent, body={**intent.body, "metadata": {**metadata, "annotations": kept}})


def _created(missing: Missing, reason: str) -> Change:
    intent, resource = missing
    return Change("created", intent.ref, reason, intent, resource, intent.body, writes=True, unverified="" if resource else PLANNED_KIND)
