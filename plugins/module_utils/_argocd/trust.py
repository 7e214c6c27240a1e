# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Argo CD trusts of repositories: TLS certificates, SSH known hosts and GPG keys, each kind in a ConfigMap that it shares with
Argo CD's pages, its command line and other tasks. Only the entries that a task names are changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow, trust_format
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import Body, wrong_namespace
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.trust_format import Entry
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

Data = Dict[str, str]
KNOWN_HOSTS = "ssh_known_hosts"  # the key of the ConfigMap that has all of them


@dataclass(frozen=True)
class Store:
    """One row. read: the entries of what a task says, for present and for absent. find: the text that is there of an entry, "" for none.
    put, drop: the data with or without an entry."""

    option: str
    title: str
    config_map: str
    read: Callable[[Any, bool], Sequence[Entry]]
    find: Callable[[Data, Entry], str]
    put: Callable[[Data, Entry], Data]
    drop: Callable[[Data, Entry], Data]
    same: Callable[[str, str], bool]


def _value(data: Data, entry: Entry) -> str:
    return data.get(entry.key, "")


def _with(data: Data, entry: Entry) -> Data:
    return {**data, entry.key: entry.text}


def _without(data: Data, entry: Entry) -> Data:
    return {key: text for key, text in data.items() if key != entry.key}


def _line(data: Data, entry: Entry) -> str:
    return trust_format.known_host(data.get(KNOWN_HOSTS, ""), entry)


def _with_line(data: Data, entry: Entry) -> Data:
    text = trust_format.without_host(data.get(KNOWN_HOSTS, ""), entry)
    return {**data, KNOWN_HOSTS: f"{text}{entry.text}\n"}


def _without_line(data: Data, entry: Entry) -> Data:
    there = data.get(KNOWN_HOSTS, "")
    left = trust_format.without_host(there, entry, exact=True)
    return {**data, KNOWN_HOSTS: left} if left.splitlines() != there.splitlines() else data


STORES: Tuple[Store, ...] = (
    Store("certificates", "certificate", "argocd-tls-certs-cm", trust_format.certificate, _value, _with, _without, trust_format.same_certificates),
    Store("known_hosts", "known host", "argocd-ssh-known-hosts-cm", trust_format.known_hosts, _line, _with_line, _without_line, str.__eq__),
    Store("gpg_keys", "GPG key", "argocd-gpg-keys-cm", trust_format.gpg_key, _value, _with, _without, trust_format.same_gpg_key),
)


@dataclass
class Part:
    """What becomes of one ConfigMap."""

    store: Store
    entries: List[Entry]
    before: Data = field(default_factory=dict)
    after: Data = field(default_factory=dict)
    live: Body = field(default_factory=dict)
    operations: Dict[str, Tuple[str, str]] = field(default_factory=dict)
    done: bool = False


class Trust:
    """All of a task's. Everything that it says is read before anything is written."""

    def __init__(self, cluster: Any, params: Mapping[str, Any], check_mode: bool) -> None:
        self.cluster, self.check_mode = cluster, check_mode
        self.absent, self.namespace = params["state"] == "absent", params["namespace"]
        self.parts = [Part(store, []) for store in STORES if params.get(store.option) is not None]
        self.params = params

    def prepare(self) -> None:
        """What can be known to be wrong before anything is written."""
        if not self.parts:
            return
        if self.params.get("argocd_server"):
            raise Failure(f"{', '.join(part.store.option for part in self.parts)}: only through the Kubernetes API, as Argo CD's own replaces whole lists", "")
        found: List[str] = list(wrong_namespace(self.namespace))
        for part in self.parts:
            for number, value in enumerate(self.params[part.store.option]):
                try:
                    part.entries += part.store.read(value, self.absent)
                except trust_format.Wrong as problem:
                    found.append(f"{part.store.option}[{number}]: {problem}")
            keys = [entry.name for entry in part.entries]
            found += [f"{part.store.option}: {name} is there twice" for name in dict.fromkeys(keys) if keys.count(name) > 1]
        if found:
            raise Failure("\n".join(found), "", "", errors=found)
        resource = self.cluster.resource("v1", "ConfigMap")
        for part in self.parts:
            live = self.cluster.get(resource, self.namespace, part.store.config_map)
            if live is None:
                raise Failure(f"there is no ConfigMap {part.store.config_map}", f"{self.cluster.url}, namespace {self.namespace}",
                              "Install Argo CD there first.")
            part.live = live
            self._decide(part, live)

    def act(self) -> None:
        """Write what differs, into the ConfigMap as it is then."""
        for part in self.parts:
            resource = self.cluster.resource("v1", "ConfigMap")
            follow.change(self.cluster, resource, (self.namespace, part.store.config_map), partial(self._decide, part),
                          part.live["metadata"]["uid"], dry_run=self.check_mode)
            part.done = True

    def _decide(self, part: Part, live: Body) -> List[Body]:
        part.before = part.after = dict(live.get("data") or {})
        for entry in part.entries:
            there = part.store.find(part.after, entry)
            if self.absent:
                left = part.store.drop(part.after, entry)
                part.operations[entry.name] = ("pruned", "state: absent") if left != part.after else ("unchanged", "is not there")
                part.after = left
            elif there and part.store.same(there, entry.text):
                part.operations[entry.name] = ("unchanged", "is there")
            else:
                part.operations[entry.name] = ("configured", "is another one there") if there else ("created", "new")
                part.after = part.store.put(part.after, entry)
        return [] if part.after == part.before else [{"op": "add", "path": "/data", "value": part.after}]

    def result(self, diff: bool) -> Body:
        """The same however it ends."""
        result: Body = {part.store.option: [
            {"name": entry.name, "namespace": self.namespace, "operation": operation, "reason": reason}
            for entry in part.entries for operation, reason in [part.operations.get(entry.name, ("unchanged", ""))]] for part in self.parts}
        changed = [part for part in self.parts if part.before != part.after and (part.done or self.check_mode)]
        result["changed"] = bool(changed)
        if diff:
            import yaml  # only a task that shows a diff pays for it

            result["diff"] = [{
                "before": yaml.safe_dump(part.before, width=4096, default_style="|"), "after": yaml.safe_dump(part.after, width=4096, default_style="|"),
                "before_header": f"ConfigMap {part.store.config_map} (live)", "after_header": f"ConfigMap {part.store.config_map} (task)"}
                for part in changed]
        return result
