# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the objects of one kind what a task says: checked all together before the first is written, then written at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow, guard, operation, removal
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.answers import connected
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.ending import end
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import (
    APPLICATION, APPLICATIONSET, PROJECT, REPOSITORY, Body, Kind, hidden, wrong, wrong_namespace)
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.options import objects_of
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.trust import Trust
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import register, url
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import known_of, write
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import compare
from ansible_collections.nordic.gitops.plugins.module_utils._objects.dry_run import dry_run
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Intent, Ref

WRITERS = 8
# What the controllers and the ways of asking them write into an Application: never ours to compare, nor to take back.
THEIRS = ("operation", "status")


@dataclass(frozen=True)
class Policy:
    """Of one object: what a task says wins over whoever else set it, by hand or in Argo CD's own pages."""

    on_conflict: str = "force"
    replace_immutable: bool = False
    verify: str = "auto"


@dataclass
class Item:
    """One object of a task, and what becomes of it."""

    params: Body
    live: Optional[Body] = None
    change: Optional[Change] = None
    after: Optional[Body] = None
    operation: str = "unchanged"
    reason: str = ""
    released: List[str] = field(default_factory=list)
    asked: Optional[follow.Asked] = None
    done: bool = False


class Manager:
    """The objects of one task. Steps, each over all objects: look, judge, ask the server, write, look what Argo CD makes of it."""

    def __init__(self, kind: Kind, cluster: Any, params: Mapping[str, Any], check_mode: bool, notes: List[str]) -> None:
        self.kind, self.cluster, self.check_mode, self.notes = kind, cluster, check_mode, notes
        self.absent = params["state"] == "absent"
        self.params = params
        self.items = [Item(kind.asked(one)) for one in objects_of(params, kind.option)]
        for item in self.items:
            for option in ("deletion", "revoke_tokens"):
                if option in params:
                    item.params[option] = params[option]
        self.world = guard.World(cluster)

    def prepare(self) -> None:
        """All that is known before anything is written."""
        self.check()
        self.resource = self._resource()
        self.look()
        self.judge()
        if not self.absent:
            self.ask()

    def act(self) -> None:
        """What has to be done."""
        if self.absent:
            self.remove()
            return
        self.write()
        if self.kind is APPLICATION and self.params["wait"] and not self.check_mode:
            self.wait()

    def check(self) -> None:
        """What can be known to be wrong without a cluster, of all objects at once."""
        found, seen = [], set()
        for item in self.items:
            problems = wrong(self.kind, item.params) if not self.absent else self._identity(item.params)
            problems += wrong_namespace(item.params["namespace"])
            found += [f"{self._called(item)}: {problem}" for problem in problems]
            identity = (item.params["namespace"], self.kind.named(item.params)) if not problems else None
            if identity is not None and identity in seen:
                found.append(f"{self._called(item)}: is there twice")
            seen.add(identity)
        if found:
            raise Failure("\n".join(found), "", "", errors=found)

    def _identity(self, params: Body) -> List[str]:
        option = {"repositories": "url", "clusters": "server"}.get(self.kind.option, "name")
        return [] if params.get(option) else [f"{option} is missing"]

    def _called(self, item: Item) -> str:
        return f"{self.kind.title} {url(self.kind.called(item.params)) or '(without a name)'}"

    def _resource(self) -> Any:
        resource = self.cluster.discover().find(self.kind.api_version, self.kind.kind)
        if resource is None:
            raise Failure(f"the cluster serves no {self.kind.kind} in {self.kind.api_version}", self.cluster.url, "Argo CD has to be installed first.")
        return resource

    def look(self) -> None:
        """One LIST for each namespace, and with it which live object is which."""
        there: Dict[str, List[Body]] = {}
        for item in self.items:
            namespace = item.params["namespace"]
            if namespace not in there:
                selector = "" if self.kind.same is None else "argocd.argoproj.io/secret-type"
                there[namespace] = self.cluster.list(self.resource, namespace, selector)[0]
            found = [live for live in there[namespace] if self._is(item, live)]
            if len(found) > 1:
                names = ", ".join(sorted(live["metadata"]["name"] for live in found))
                raise Failure(f"is there {len(found)} times, in the Secrets {names}; Argo CD takes whichever it finds first", self._called(item),
                              "Delete all but one of them.")
            item.live = found[0] if found else None
            if self.kind.same is not None and item.live is not None:
                register(*hidden(item.live))

    def _is(self, item: Item, live: Body) -> bool:
        if self.kind.same is None:
            return bool(live["metadata"]["name"] == item.params["name"])
        if live["metadata"].get("labels", {}).get("argocd.argoproj.io/secret-type") != self.kind.secret(item.params):
            return False
        return self.kind.same(item.params, live)

    def judge(self) -> None:
        """Refuse what must not be done, of all objects at once, and decide what is to be done with the rest."""
        rules = (guard.ABSENT if self.absent else guard.PRESENT)[self.kind.option]
        refused = []
        for item in self.items:
            for rule in rules:
                problem = rule(item.params, item.live, self.world)
                if problem and self.check_mode and rule in guard.NEEDS_OTHERS:
                    self.notes.append(f"{self._called(item)} {problem}. An earlier task may make it; this one fails if not.")
                elif problem:
                    refused.append(f"{self._called(item)} {problem}.")
        if refused:
            raise Refused("\n".join(refused), "", "", errors=refused)
        for item in self.items if not self.absent else ():
            item.change = self._decide(item)

    def _decide(self, item: Item) -> Change:
        body = self.kind.body(item.params, item.live)
        if self.kind.same is not None:
            register(*hidden(body))
        ref = Ref(self.resource.group, self.resource.kind, body["metadata"]["namespace"], body["metadata"]["name"])
        intent = Intent(ref, self.kind.api_version, body, self._called(item))
        change = Change("created", ref, "new", intent, self.resource, body, item.live, writes=True)
        if item.live is None:
            return change
        ours = {key: value for key, value in item.live.items() if key not in THEIRS}
        found = compare(replace(change, operation="unchanged", writes=False), ours, Policy(), None, known_of(self.cluster, change))
        return replace(found, before=item.live)  # the whole of it, as the dry run's answer has it

    def ask(self) -> None:
        """The server's dry run of everything that would be written: it knows the whole type of a kind, and refuses a key that Argo CD has not."""
        def one(item: Item) -> None:
            change = item.change
            if change is not None and (change.writes or change.undecided or change.take is not None):
                item.change = dry_run(self.cluster, change, Policy(), None)

        self._each(one, self.items, "the server refuses what the task says")
        for item in self.items:
            if item.change is not None:
                item.operation, item.reason, item.after = item.change.operation, item.change.reason, item.change.after

    def write(self) -> None:
        """Write what is not what the task says."""
        def one(item: Item) -> None:
            if item.change is not None and item.change.operation != "unchanged":
                item.after = self._send(item)
            item.done = True

        if not self.check_mode:
            self._each(one, self.items, "not everything could be written")
        if self.kind is APPLICATIONSET:
            for item in self.items:
                policy = item.params.get("syncPolicy") or {}
                if not policy.get("preserveResourcesOnDeletion") and policy.get("applicationsSync", "sync") in ("sync", "create-delete"):
                    self.notes.append(f"{self._called(item)}: when a generator finds nothing, because a repository is away or a list is empty, all its "
                                      "Applications are deleted with their objects. syncPolicy.preserveResourcesOnDeletion: true keeps the objects, "
                                      "syncPolicy.applicationsSync: create-update keeps the Applications.")

    def _send(self, item: Item) -> Optional[Body]:
        """Write one object. A project's only as it was seen: a token that Argo CD makes meanwhile would be revoked."""
        for _try in range(follow.TRIES):
            change = item.change
            if change is None or change.operation == "unchanged":
                return item.after
            if self.kind is PROJECT and item.live is not None and change.writes and change.body is not None:
                version = item.live["metadata"]["resourceVersion"]
                change = replace(change, body={**change.body, "metadata": {**change.body["metadata"], "resourceVersion": version}})
            try:
                return write(self.cluster, change, Policy()).after
            except Failure as error:
                if not error.stale or self.kind is not PROJECT:
                    raise
                last = error
            item.live = self.cluster.get(self.resource, item.params["namespace"], item.params["name"])
            item.change = self._decide(item)
        raise last

    def remove(self) -> None:
        """Delete what is there, and see it gone."""
        how = str(self.params.get("deletion") or "refuse")
        for item in self.items:
            item.operation, item.reason = ("pruned", "state: absent") if item.live is not None else ("unchanged", "is not there")

        def one(item: Item) -> None:
            if item.live is not None:
                item.released = removal.remove(self.cluster, self.resource, item.live, how, self.params["wait_timeout"])
            item.done = True

        if not self.check_mode:
            self._each(one, self.items, "not everything could be deleted")

    def wait(self) -> None:
        """Until Argo CD has looked at each Application as it is now; a condition in which it can do nothing is a failure."""
        clock = time.monotonic
        until = clock() + self.params["wait_timeout"]
        keys: Dict[follow.Key, Item] = {(item.params["namespace"], item.params["name"]): item for item in self.items}
        for key, item in keys.items():
            if item.operation == "configured":
                item.asked = follow.refresh(self.cluster, self.resource, key, hard=False)
        missing: Set[follow.Key] = set(keys)
        found: List[str] = []
        for states in follow.follow(self.cluster, self.resource, set(keys), until):
            missing = set()
            for key, item in keys.items():
                live = states.get(key)
                if live is None or not _has_status(live) or item.asked is not None and not follow.is_fresh(live, item.asked):
                    missing.add(key)
                else:
                    item.after = live
            if not missing:
                break
        for key in sorted(missing):
            found.append(f"{self._called(keys[key])}: Argo CD has not looked at it within {self.params['wait_timeout']} s. Does its application controller "
                         f"run, and watch the namespace {key[0]} (application.namespaces in the ConfigMap argocd-cmd-params-cm)?")
        for key in sorted(set(keys) - missing):
            found += [f"{self._called(keys[key])}: {trouble}" for trouble in follow.troubles(keys[key].after or {})]
        if found:
            raise Failure("\n".join(found), "", "", errors=found)

    def _each(self, work: Callable[[Item], None], items: Sequence[Item], headline: str) -> None:
        errors: List[Failure] = []

        def one(item: Item) -> None:
            try:
                work(item)
            except Failure as error:
                item.operation, item.reason = "failed", str(error)
                errors.append(error)

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(one, items))
        if len(errors) == 1:
            raise errors[0]
        if errors:
            lines = sorted(str(error) for error in errors)
            raise Failure(f"{headline} ({len(errors)} objects):\n" + "\n".join(lines), "", "", errors=lines)

    def result(self, diff: bool) -> Body:
        """The same however it ends."""
        told = []
        for item in self.items:
            one: Body = {"name": url(self.kind.called(item.params)), "namespace": item.params["namespace"], "operation": item.operation, "reason": item.reason}
            if self.absent:
                one["objects"] = guard.resources_of(item.live)
                one["released"] = item.released
            told.append(one)
        wrote = [item for item in self.items if item.operation in ("created", "configured", "pruned") and (item.done or self.check_mode)]
        result: Body = {"changed": bool(wrote), self.kind.option: told}
        if diff:
            result["diff"] = [entry for entry in map(self._diff, wrote) if entry]
        return result

    def _diff(self, item: Item) -> Optional[Body]:
        import yaml  # only a task that shows a diff pays for it, and for these

        from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import shown
        from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import mask

        if item.change is None:
            before, after = _spoken(item.live), {}
        else:
            before = shown(item.live, item.change, item.after) if item.live else {}
            after = shown(item.after or item.change.body or {}, item.change, item.after)
        before, after = ({key: value for key, value in side.items() if key not in THEIRS} for side in (before, after))
        if self.kind.same is not None:
            before, after = mask(before, after)
        if before == after:
            return None
        before_text, after_text = (yaml.safe_dump(side, allow_unicode=True, width=4096) if side else "" for side in (before, after))
        return {"before": before_text, "after": after_text, "before_header": f"{self._called(item)} (live)",
                "after_header": f"{self._called(item)} (task)"}


def _spoken(live: Optional[Body]) -> Body:
    """What a person would write of a live object."""
    if live is None:
        return {}
    entry = ownership.own_entry(live)
    whole = {key: value for key, value in live.items() if key not in ("status", "operation", "metadata")}
    return ownership.select(live, entry.get("fieldsV1") or {}) if entry else whole


def _has_status(live: Body) -> bool:
    return bool(operation.status_of(live).get("reconciledAt") or follow.troubles(live))


def secrets_of(kind: Kind, params: Mapping[str, Any]) -> Tuple[str, ...]:
    """Every value of a task's objects that nobody may see."""
    found: List[str] = []

    def walk(spec: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> None:
        for name, option in spec.items():
            value = values.get(name)
            if option.get("no_log") and isinstance(value, str):
                found.append(value)
            elif option.get("options") and isinstance(value, dict):
                walk(option["options"], value)

    for one in objects_of(params, kind.option):
        walk(kind.whole, one)
    return tuple(found)


def manage(kind: Kind, params: Mapping[str, Any], check_mode: bool, diff: bool) -> Body:
    """The module's result; a Failure carries what was done until then."""
    register(*secrets_of(kind, params))
    notes: List[str] = []
    cluster = connected(params)
    way: Any = Manager
    if params.get("argocd_server"):
        from ansible_collections.nordic.gitops.plugins.module_utils._argocd.api import ApiManager

        way = ApiManager
    # What a repository is trusted by comes before it, and goes after it.
    parts: List[Any] = [way(kind, cluster, params, check_mode, notes)]
    if kind is REPOSITORY:
        parts.insert(0 if params["state"] == "present" else 1, Trust(cluster, params, check_mode))
    try:
        for part in parts:
            part.prepare()
        for part in parts:
            part.act()
    except Failure as failure:
        failure.details = {**_together(parts, diff), **failure.details}
        raise
    return {**_together(parts, diff), "warnings": notes}


def _together(parts: Sequence[Any], diff: bool) -> Body:
    """The result of all parts."""
    results = [part.result(diff) for part in parts]
    whole = {key: value for result in results for key, value in result.items()}
    whole["changed"] = any(result["changed"] for result in results)
    if diff:
        whole["diff"] = [entry for result in results for entry in result["diff"]]
    return whole


def run_module(module: Any, kind: Kind) -> None:
    """A module's whole work, and its end."""
    end(module, lambda: manage(kind, module.params, module.check_mode, module._diff))
