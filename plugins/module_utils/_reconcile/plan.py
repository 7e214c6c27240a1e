# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the intents with the cluster: one LIST per kind, ownership proof, and the server's dry run as the referee.

The result is a Plan, a value. Check mode shows it, the other stages carry it out.
"""

from __future__ import annotations

import copy
import threading
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import seal
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import CURRENT, Health, health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import autoscaled
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF, Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.objects import Body, Change, Conflict, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import CRD, NAMESPACE, annotations_of, sort_key

REPLICAS = ("f:spec", "f:replicas")
LOOKS = 5  # how often an object that its controllers keep writing is compared anew
PLANNED_KIND = "its CRD is created by the same run"
READERS = 8  # LISTs and dry runs in flight: reads cost the server little, and more would only queue in this process

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
    """The plan for these intents; nothing is written. Any failed LIST fails the whole plan, so nothing is pruned on half a view."""
    return _Planner(cluster, resources, intents, inventory, options).plan()


class _Planner:
    def __init__(self, cluster: Any, resources: Any, intents: Sequence[Intent], inventory: Inventory, options: Options) -> None:
        self.cluster, self.resources, self.inventory, self.options = cluster, resources, inventory, options
        self.intents = intents
        self.result = Plan()
        self.pruned: Dict[str, Change] = {}  # by uid: one object may be listed in two versions
        self.kept_uids: Set[str] = set()
        self.owned: Set[str] = set()
        self.minimum = autoscaled(intent.body for intent in intents)

    def plan(self) -> Plan:
        wanted: Dict[Any, Dict[Tuple[str, str], Intent]] = {}
        for intent in self.intents:
            # Where only the version comes with the same run, the object may be there already, and shows in another version.
            resource = (self.resources.find(intent.api_version, intent.ref.kind)
                        or self.resources.preferred(intent.ref.group, intent.ref.kind))
            if resource is None:
                self.result.changes.append(Change("created", intent.ref, "new", intent, None, intent.body, writes=True,
                                                  unverified=PLANNED_KIND))
            else:
                wanted.setdefault(resource, {})[(intent.ref.namespace, intent.ref.name)] = intent
        listed = dict.fromkeys(wanted)
        for group, kind in sorted(self.inventory.kinds):
            resource = self.resources.preferred(group, kind)
            if resource is None and group in self.resources.stale:
                raise Failure(f"the API group {group} does not answer ({self.resources.stale[group]})", hint=(
                    f"Mend or remove its APIService: this reconcile has objects of {kind} in it, which cannot be found now."))
            # A kind that the cluster no longer serves took its objects with it (kustomize-controller #90).
            if resource is not None and not any((item.group, item.kind) == (group, kind) for item in wanted):
                listed[resource] = None
        namespaces = self.inventory.namespaces | {intent.ref.namespace for intent in self.intents if intent.ref.namespace}

        with ThreadPoolExecutor(READERS) as pool:
            if self.inventory.empty:
                missing = [wanted.get(resource, {}) for resource in listed]
            else:
                missing = list(pool.map(lambda resource: self._read(resource, wanted.get(resource, {}), namespaces,
                                                                    self.inventory.selector), list(listed)))
            # What the set does not hold may be there all the same: one more LIST of just the kinds and namespaces concerned.
            # Namespaces first, since nothing is in one that does not exist.
            rest = [(resource, items) for resource, items in zip(listed, missing) if items]
            nowhere = self._read_rest(pool, [pair for pair in rest if (pair[0].group, pair[0].kind) == NAMESPACE], set())
            self._read_rest(pool, [pair for pair in rest if (pair[0].group, pair[0].kind) != NAMESPACE], nowhere)
            self._lost_with_their_homes()
            self._ask(pool)
        refs = {intent.ref for intent in self.intents}
        self.result.changes.extend(change for uid, change in self.pruned.items() if uid not in self.kept_uids and change.ref not in refs)
        self.result.owned = len(self.owned)
        self.result.changes.sort(key=lambda change: (change.operation == "pruned", sort_key(change.ref)))
        return self.result

    # ---- reading

    def _read(self, resource: Any, wanted: Dict[Tuple[str, str], Intent], namespaces: Iterable[str], selector: str,
              ) -> Dict[Tuple[str, str], Intent]:
        """LIST one kind, judge each object that is wanted, note the rest of the set; returns what was not found."""
        missing = dict(wanted)
        for live in self._list(resource, sorted(namespaces), selector):
            metadata = live["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            intent = missing.pop(key, None)
            if intent is not None:
                self.kept_uids.add(metadata["uid"])
                self._judge(resource, intent, live)
            elif selector:
                ref = Ref(resource.group, resource.kind, *key)
                if key not in wanted:
                    self.pruned.setdefault(metadata["uid"], Change("pruned", ref, "no longer in Git", None, resource, None, live))
            if selector:
                self.owned.add(metadata["uid"])
        return missing

    def _read_rest(self, pool: ThreadPoolExecutor, rest: Sequence[Tuple[Any, Dict[Tuple[str, str], Intent]]], nowhere: Set[str]) -> Set[str]:
        """Judge what exists outside of the set, note the others as created and return their names; nowhere: Namespaces that do not exist."""
        def read(pair: Tuple[Any, Dict[Tuple[str, str], Intent]]) -> Dict[Tuple[str, str], Intent]:
            resource, items = pair
            places = {namespace for namespace, _name in items} - {""}
            if places and places <= nowhere:
                return items
            return self._read(resource, items, places - nowhere, "")

        created = set()
        for (resource, _items), absent in zip(rest, list(pool.map(read, rest))):
            for intent in absent.values():
                served = resource.api_version == intent.api_version
                self.result.changes.append(Change("created", intent.ref, "new", intent, resource if served else None, intent.body,
                                                  writes=True, unverified="" if served else PLANNED_KIND))
                created.add(intent.ref.name)
        return created

    def _list(self, resource: Any, namespaces: List[str], selector: str) -> List[Body]:
        if not resource.namespaced:
            return self.cluster.list(resource, selector=selector)[0]
        # In one namespace a LIST of it alone reads less, and needs no rights beyond it.
        if len(namespaces) != 1:
            try:
                return self.cluster.list(resource, selector=selector)[0]
            except Failure as error:
                if getattr(error, "status", None) != 403 or not namespaces:
                    raise
        return [item for namespace in namespaces for item in self.cluster.list(resource, namespace, selector)[0]]

    # ---- judging

    def _judge(self, resource: Any, intent: Intent, live: Body) -> None:
        change = Change("unchanged", intent.ref, "in sync", intent, resource, intent.body, live)
        metadata = live["metadata"]
        if metadata.get("deletionTimestamp"):
            change.operation, change.reason, change.writes = "created", "is being deleted: created again once it is gone", True
            change.unverified = "it must be gone first"
        else:
            stranger = self._stranger(live)
            if stranger:
                change.operation, change.reason = "skipped", stranger
            elif resource.api_version != intent.api_version:
                change.operation, change.resource, change.writes, change.unverified = "configured", None, True, PLANNED_KIND
                change.reason = f"served as {resource.api_version}, Git says {intent.api_version}"
            else:
                compare(change, live, self.options, self.minimum.get(change.ref))
        if change.operation == "unchanged":
            self._at_rest(change, live)
        self.result.changes.append(change)

    def _at_rest(self, change: Change, live: Body) -> None:
        found = self.result.health[change.ref] = health(live)
        # Held no longer than needed: at 5,000 objects the bodies are most of the memory.
        change.before = None if found.status == CURRENT else live

    def _lost_with_their_homes(self) -> None:
        """What is in a Namespace that is being deleted, or of a kind whose CRD is, goes with it, whatever it looks like now."""
        namespaces, kinds = set(), set()
        for change in self.result.changes:
            live = change.before or {}
            if live.get("metadata", {}).get("deletionTimestamp"):
                if (change.ref.group, change.ref.kind) == NAMESPACE:
                    namespaces.add(change.ref.name)
                elif (change.ref.group, change.ref.kind) == CRD:
                    kinds.add((live["spec"]["group"], live["spec"]["names"]["kind"]))
        for change in self.result.changes:
            if change.intent and (change.ref.namespace in namespaces or (change.ref.group, change.ref.kind) in kinds):
                change.operation, change.reason = "created", "is deleted with what it lives in: created again after that"
                change.body, change.before, change.patch, change.conflicts = change.intent.body, None, [], []
                change.writes, change.undecided, change.unverified = True, False, "it must be gone first"
                self.result.health.pop(change.ref, None)

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

    # ---- asking the server

    def _ask(self, pool: ThreadPoolExecutor) -> None:
        """Dry runs: of what could not be proved, and in check mode of everything that would be written."""
        undecided = [change for change in self.result.changes if change.undecided
                     or self.options.check_mode and (change.writes or change.patch) and not change.unverified]
        made = {change.ref.name for change in self.result.changes
                if change.ref.kind == "Namespace" and not change.ref.group and change.operation == "created"}
        for change in undecided:
            if change.operation == "created" and change.ref.namespace in made:
                change.unverified = f"its namespace {change.ref.namespace} is created by the same run"
        undecided = [change for change in undecided if not change.unverified]
        self.result.dry_runs = len(undecided)
        errors = failures(pool, self._dry_run, undecided)
        if errors:
            raise together(errors, "the server refuses what Git says")

    def _dry_run(self, change: Change, looks: int = LOOKS) -> Optional[Failure]:
        before = change.before
        try:
            alone = not change.writes and not change.undecided
            if change.patch and (alone or self.options.check_mode):  # what the server refuses of it, it refuses in check mode too
                rehearsed = send_patch(self.cluster, change, dry_run=True)
                if alone:
                    change.after = rehearsed
                    return None
            after = send(self.cluster, change, self.options, dry_run=True)
            for _attempt in range(LOOKS):
                if before is None or _version(before) == _version(after):
                    break
                # A controller wrote since the LIST (a status, a revision): what it changed is no difference of ours.
                before = change.before = self.cluster.get(change.resource, change.ref.namespace, change.ref.name)
                after = send(self.cluster, change, self.options, dry_run=True)
        except Failure as error:
            live = self.cluster.get(change.resource, change.ref.namespace, change.ref.name) if looks and getattr(error, "stale", False) else None
            if live is not None:  # the patch holds for the version that was listed, and a controller wrote since
                change.before = live
                compare(change, live, self.options, self.minimum.get(change.ref))
                if change.operation != "unchanged":
                    return self._dry_run(change, looks - 1)
                self._at_rest(change, live)
                return None
            if getattr(error, "immutable", False) and may_replace(change, self.options):
                change.replaces, change.writes, change.undecided = True, True, False
                change.reason += "; an immutable field: deleted and created again"
                change.unverified = "it must be deleted first"
                return None
            return in_repository(error, change)
        change.undecided, change.writes = False, before is None or not unchanged(before, after)
        if change.writes:
            change.after = _taken_back(after, change) if change.patch else after
            change.reason = change.reason or "the server's dry run says that it would change"
        elif not change.patch:
            change.operation, change.reason = "unchanged", _left(change.conflicts) if change.conflicts else "in sync"
            self._at_rest(change, after)
        return None


def compare(change: Change, live: Body, options: Options, minimum: Optional[int]) -> None:
    """Fill in what must be done to make live what the change's intent says.

    The operation becomes configured or unchanged; undecided where only the server's dry run can tell which.
    minimum: the least number of replicas, for an object whose number an autoscaler decides.
    """
    body = change.body = change.intent.body if change.intent else {}
    findings = seal.examine(body, live)
    conflicts = seal.contested(body, live) if findings else []
    if conflicts and options.on_conflict == "keep":
        body = change.body = copy.deepcopy(body)
        for path, _manager in conflicts:
            _drop(body, path)
        findings = seal.examine(body, live)
    change.conflicts = [Conflict(change.ref, seal.dotted(path), manager) for path, manager in conflicts]
    leftovers = seal.leftovers(live, body)
    if minimum is not None:
        # Taking away the number that a person set would leave the default, 1, before the autoscaler looks.
        leftovers = [item for item in leftovers if item.path != REPLICAS]
    secret = (change.ref.group, change.ref.kind) == ("", "Secret")
    reasons = [_reason(finding, live, secret) for finding in findings]
    reasons += [f"{seal.dotted(item.path)} was added by {item.manager}" for item in leftovers]
    replicas, hand_over = None, False
    if minimum is not None:
        # An autoscaler mends every number but 0, which switches it off.
        if minimum > 0 and (live.get("spec") or {}).get("replicas") == 0:
            replicas = minimum
            reasons.append(f".spec.replicas is 0, its autoscaler's minimum is {minimum}")
        hand_over = any(finding.path == REPLICAS for finding in findings)
        findings = [finding for finding in findings if finding.path != REPLICAS]
    change.patch = take_back(live, leftovers, replicas, hand_over)
    change.writes = any(finding.certain for finding in findings)
    change.undecided = not change.writes and (bool(findings) or options.verify == "full")
    if not findings and not change.patch and options.verify != "full":
        change.operation, change.reason = "unchanged", _left(change.conflicts) if change.conflicts else "in sync"
        return
    more = f" (+{len(reasons) - 3} more)" if len(reasons) > 3 else ""
    change.operation, change.reason = "configured", "; ".join(reasons[:3]) + more


def _taken_back(after: Body, change: Change) -> Body:
    """What an apply's dry run answers, less what the patch before it takes back: the server cannot rehearse one after the other."""
    result = copy.deepcopy(after)
    for leftover in seal.leftovers(after, change.body or {}):
        place = result
        for step in leftover.pointer[:-1]:
            place = place[step]
        del place[leftover.pointer[-1]]  # a list's last items come first, so the others keep their places
    return result


def send(cluster: Any, change: Change, options: Options, dry_run: bool = False) -> Body:
    """Apply a change's body; with on_conflict: fail, only what people's tools hold is taken."""
    if options.on_conflict == "fail" and not change.conflicts:  # those that are known are the guard's to refuse
        try:
            return cluster.apply(change.resource, change.body, force=False, dry_run=dry_run)[0]
        except Failure as error:
            managers = [manager for _field, manager in getattr(error, "conflicts", ())]
            if not managers or not all(seal.is_person(manager) or manager == seal.FIELD_MANAGER for manager in managers):
                raise
    return cluster.apply(change.resource, change.body, force=True, dry_run=dry_run)[0]


def send_patch(cluster: Any, change: Change, dry_run: bool = False) -> Body:
    """Take back what people added. What the server does not let go (it is immutable, or its own by now) stays, no longer theirs."""
    ref = change.ref
    while True:
        try:
            return cluster.patch(change.resource, ref.namespace, ref.name, change.patch, dry_run=dry_run)
        except Failure as error:
            if not getattr(error, "immutable", False) and (getattr(error, "status", None) != 422 or getattr(error, "stale", False)):
                raise
            rest = [op for op in change.patch if op["op"] != "remove" or not any(_overlap(op["path"], field) for field in getattr(error, "fields", ()))]
            if len(rest) == len(change.patch):
                rest = [op for op in change.patch if op["op"] != "remove"]
                if len(rest) == len(change.patch):
                    raise
            change.patch = rest


def _overlap(pointer: str, field: str) -> bool:
    """Whether a JSON pointer and a field as the server names it (spec.ports[0].name) are one place, or one holds the other."""
    left = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    right = re.findall(r"[^.\[\]]+", field)
    return all(mine == theirs for mine, theirs in zip(left, right))


def _reason(finding: seal.Finding, live: Body, secret: bool) -> str:
    """One finding in words, with who holds the field where that is what is wrong; no value of a Secret."""
    text = f"{seal.dotted(finding.path)} {'differs' if secret and finding.values else finding.why}"
    holders = [] if finding.values else seal.holders(live, finding.path)
    return f"{text} ({', '.join(holders)} holds it)" if holders else text


def unchanged(before: Body, after: Body) -> bool:
    """Whether an apply wrote nothing: the same content and the same owners (a no-op keeps their times)."""
    return _content(before) == _content(after)


def _content(body: Body) -> str:
    metadata = dict(body["metadata"])
    owners = sorted(json.dumps({key: entry[key] for key in ("manager", "operation", "subresource", "apiVersion", "fieldsV1") if key in entry},
                               sort_keys=True) for entry in metadata.pop("managedFields", None) or ())
    for key in ("resourceVersion", "generation"):
        metadata.pop(key, None)
    rest = {key: value for key, value in body.items() if key not in ("metadata", "apiVersion", "kind")}
    # As text, since in Python True equals 1, which a free-form field of a custom resource may hold instead.
    return json.dumps([metadata, rest, owners], sort_keys=True)


def _version(body: Body) -> str:
    return body["metadata"].get("resourceVersion", "")


def may_replace(change: Change, options: Options) -> bool:
    """Whether an object may be deleted and created again for an immutable field; never what takes others with it, and what
    holds data only where the object itself asks for it."""
    if (change.ref.group, change.ref.kind) in (NAMESPACE, CRD):
        return False
    options_text = annotations_of(change.body or {}).get("argocd.argoproj.io/sync-options", "")
    asked = {part.strip() for part in options_text.split(",")}
    return bool({"Replace=true", "Force=true"} & asked) or options.replace_immutable and not _holds_data(change)


def _holds_data(change: Change) -> bool:
    return (change.ref.group, change.ref.kind) in (("", "PersistentVolumeClaim"), ("", "PersistentVolume"))


def in_repository(error: Failure, change: Change) -> Failure:
    """The server's error, told with the place in the repository and, where that helps, with what to do."""
    where = f"{change.intent.where}: {change.ref}" if change.intent else str(change.ref)
    hint = error.hint
    if getattr(error, "immutable", False):
        hint = ("Set " + ("" if _holds_data(change) else "replace_immutable: true, or ") + "the annotation "
                "argocd.argoproj.io/sync-options: Replace=true on the object, to have it deleted"
                + (", with its data," if _holds_data(change) else "") + " and created again.")
        if (change.ref.group, change.ref.kind) in (NAMESPACE, CRD):
            hint = "It is never replaced, for that would delete everything that depends on it."
    error.where, error.hint = where, hint
    return error


def failures(pool: ThreadPoolExecutor, work: Callable[[Any], Optional[Failure]], items: Iterable[Any]) -> List[Failure]:
    """What went wrong with which item; once the server does not answer, the rest is not tried: each would take its whole patience."""
    silent = threading.Event()

    def one(item: Any) -> Optional[Failure]:
        if silent.is_set():
            return None
        error = work(item)
        if getattr(error, "retryable", False):
            silent.set()
        return error

    return [error for error in pool.map(one, items) if error is not None]


def together(errors: Sequence[Failure], headline: str) -> Failure:
    """Several errors as one, each on its own line."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n".join(str(error) for error in errors[:20])
    more = f"\n(+{len(errors) - 20} more)" if len(errors) > 20 else ""
    kind = Refused if all(isinstance(error, Refused) for error in errors) else Failure
    return kind(f"{headline} ({len(errors)} objects):\n{lines}{more}", errors=[str(error) for error in errors])


def _left(conflicts: Sequence[Conflict]) -> str:
    return "left to others: " + ", ".join(f"{item.field} ({item.manager})" for item in conflicts)


def _drop(body: Any, path: Tuple[str, ...]) -> None:
    """Remove the field at a fieldsV1 path from a body."""
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if key.startswith("f:"):
            if not isinstance(body, dict) or key[2:] not in body:
                return
            if last:
                del body[key[2:]]
                return
            body = body[key[2:]]
        else:
            found = seal.positions(key, body) if isinstance(body, list) else []
            if not found:
                return
            if last:
                del body[found[0]]
                return
            body = body[found[0]]


def take_back(live: Body, leftovers: Sequence[seal.Leftover], replicas: Optional[int], hand_over: bool) -> List[Body]:
    """The JSON patch for what an apply cannot do; it holds only for the version that was seen, [] when there is nothing."""
    ops: List[Body] = [{"op": "remove", "path": "".join("/" + str(step).replace("~", "~0").replace("/", "~1")
                                                        for step in item.pointer)} for item in leftovers]
    if replicas is not None:
        ops.append({"op": "replace", "path": "/spec/replicas", "value": replicas})
    # A claim on a field that has a default would outlive the removal: the default comes back under the same owner.
    managers = seal.without_people(live) if leftovers else live["metadata"].get("managedFields") or []
    if hand_over:
        # Leaving replicas out of an apply that owned them would set them to the default, 1, before the autoscaler looks.
        managers = [_without_replicas(entry) for entry in managers]
    if leftovers or hand_over:
        ops.append({"op": "replace", "path": "/metadata/managedFields", "value": managers})
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]}
    return [test] + ops if ops else []


def _without_replicas(entry: Body) -> Body:
    if entry.get("manager") != seal.FIELD_MANAGER or entry.get("operation") != "Apply":
        return entry
    fields = entry.get("fieldsV1") or {}
    spec = {key: child for key, child in fields.get(REPLICAS[0], {}).items() if key != REPLICAS[1]}
    return {**entry, "fieldsV1": {**fields, REPLICAS[0]: spec}}
