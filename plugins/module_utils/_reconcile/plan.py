# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is to do with each object: the intents compared with what was observed. The result is a Plan, a value.

Check mode shows it, the other stages carry it out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Sequence, Set

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import compare
from ansible_collections.nordic.gitops.plugins.module_utils._objects.dry_run import dry_run
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Body, Change, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import CURRENT, Health, health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import autoscaled
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF, Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.observe import READERS, Missing, Observed, observe
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import sort_key
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.parallel import together, work_on

PLANNED_KIND = "its CRD is created by the same run"

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


@dataclass
class Plan:
    """Every object of the run with what is to be done; health of what stays as it is."""

    changes: List[Change] = field(default_factory=list)
    health: Dict[Ref, Health] = field(default_factory=dict)
    dry_runs: int = 0  # how often the referee was asked
    owned: int = 0  # objects of the set in the cluster
    half_seen: str = ""  # why Git may say less now than it would otherwise

    def of(self, *operations: str) -> List[Change]:
        """The changes with one of the operations, in order."""
        return [change for change in self.changes if change.operation in operations]


def make_plan(cluster: Any, resources: Any, intents: Sequence[Intent], inventory: Inventory, options: Options) -> Plan:
    """The plan for these intents; nothing is written."""
    return _Planner(cluster, resources, intents, inventory, options).plan()


class _Planner:
    def __init__(self, cluster: Any, resources: Any, intents: Sequence[Intent], inventory: Inventory, options: Options) -> None:
        self.cluster, self.resources, self.inventory, self.options = cluster, resources, inventory, options
        self.intents = intents
        self.changes: List[Change] = []  # of the intents
        self.pruned: Dict[str, Change] = {}  # by uid: one object may be listed in two versions
        self.health: Dict[Ref, Health] = {}
        self.wanted_uids: Set[str] = set()
        self.owned: Set[str] = set()
        self.minimum = autoscaled(intent.body for intent in intents)

    def plan(self) -> Plan:
        missing = observe(self.cluster, self.resources, self.intents, self.inventory, self._see)
        self.changes += [_created(item) for item in missing]
        self._lost_with_their_homes()
        dry_runs = self._ask()
        refs = {intent.ref for intent in self.intents}
        gone = [change for uid, change in self.pruned.items() if uid not in self.wanted_uids and change.ref not in refs]
        changes = sorted(self.changes + gone, key=lambda change: (change.operation == "pruned", sort_key(change.ref)))
        return Plan(changes, self.health, dry_runs, len(self.owned))

    def _see(self, observed: Observed) -> None:
        resource, live, intent, member = observed
        metadata = live["metadata"]
        if member:
            self.owned.add(metadata["uid"])
        if intent is None:
            ref = Ref(resource.group, resource.kind, metadata.get("namespace", ""), metadata["name"])
            self.pruned.setdefault(metadata["uid"], Change("pruned", ref, "no longer in Git", None, resource, None, live))
        else:
            self.wanted_uids.add(metadata["uid"])
            self.changes.append(self._judge(resource, intent, live))

    def _judge(self, resource: Any, intent: Intent, live: Body) -> Change:
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
        return self._at_rest(compare(change, live, self.options, self.minimum.get(change.ref)))

    def _at_rest(self, change: Change) -> Change:
        """Note the health of what stays as it is, and hold its body no longer than needed."""
        if change.operation != "unchanged":
            return change
        live = change.after or change.before or {}
        found = self.health[change.ref] = health(live)
        return replace(change, before=None if found.status == CURRENT else live, after=None)

    def _lost_with_their_homes(self) -> None:
        """What is in a Namespace that is being deleted, or of a kind whose CRD is, goes with it, whatever it looks like now."""
        namespaces, kinds = set(), set()
        for change in self.changes:
            live = change.before or {}
            if live.get("metadata", {}).get("deletionTimestamp"):
                if (change.ref.group, change.ref.kind) == NAMESPACE:
                    namespaces.add(change.ref.name)
                elif (change.ref.group, change.ref.kind) == CRD:
                    kinds.add((live["spec"]["group"], live["spec"]["names"]["kind"]))
        for position, change in enumerate(self.changes):
            if change.intent and (change.ref.namespace in namespaces or (change.ref.group, change.ref.kind) in kinds):
                self.changes[position] = Change(
                    "created", change.ref, "is deleted with what it lives in: created again after that", change.intent, change.resource,
                    change.intent.body, writes=True, unverified="it must be gone first")
                self.health.pop(change.ref, None)

    def _stranger(self, live: Body) -> str:
        """Why an object must not be adopted, "" when it may."""
        metadata = live["metadata"]
        labels = metadata.get("labels") or {}
        owner = labels.get(PART_OF)
        if owner == self.inventory.id or self.options.adopt == "always":
            return ""
        if owner:
            return f"belongs to another ApplySet ({owner}); adopt: always takes it over"
        for place, key, tool in MARKS:
            if key in (metadata.get(place) or {}):
                return f"belongs to {tool} ({key}: {metadata[place][key]}); adopt: always takes it over"
        if self.options.adopt == "never":
            return "was not made by this reconcile; adopt: unowned takes it over"
        return ""

    def _ask(self) -> int:
        """Dry runs: of what could not be proved, and in check mode of everything that would be written. How many there were."""
        made = {change.ref.name for change in self.changes
                if (change.ref.group, change.ref.kind) == NAMESPACE and change.operation == "created"}
        asked: List[int] = []
        for position, change in enumerate(self.changes):
            if not change.undecided and not (self.options.check_mode and (change.writes or change.patch) and not change.unverified):
                continue
            if change.operation == "created" and change.ref.namespace in made:
                self.changes[position] = replace(change, unverified=f"its namespace {change.ref.namespace} is created by the same run")
            else:
                asked.append(position)

        def ask(position: int) -> None:
            change = self.changes[position]
            self.changes[position] = self._at_rest(
                dry_run(self.cluster, change, self.options, self.minimum.get(change.ref), self.options.check_mode))

        with ThreadPoolExecutor(READERS) as pool:
            errors = work_on(pool, ask, asked)
        if errors:
            raise together(errors, "the server refuses what Git says")
        return len(asked)


def _created(missing: Missing) -> Change:
    intent, resource = missing
    return Change("created", intent.ref, "new", intent, resource, intent.body, writes=True, unverified="" if resource else PLANNED_KIND)
