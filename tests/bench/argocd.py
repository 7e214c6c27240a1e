# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""50 Applications by one task with a list and by a loop; and how long after the end of a sync argocd_sync and `argocd app wait` return."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.sync import sync
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC
from ansible_collections.nordic.gitops.plugins.modules import argocd_sync
from lab import argocd
from lab.cluster import Cluster
from lab.components import ARGOCD, CLUSTER_BINARIES
from lab.repository import Repository
from workspace import collection

from .measure import Broken

NUMBER, SYNCS, LOOPS = 50, 20, 2
MADE, UNCHANGED, ENDED = "50 Applications made", "50 Applications unchanged", "from the end of a sync to the return"
OURS, LOOP = "nordic.gitops, one task with a list", "kubernetes.core.k8s, a loop"
SYNC, WAIT = "nordic.gitops, argocd_sync", "argocd app wait"
HOW = {
    "50 Applications": "the whole ansible-playbook call with one task, from start to exit, in a namespace that Argo CD does not watch, so that both only "
                       "write; argocd_application with wait: false, kubernetes.core.k8s with the same objects and state: present; the loop in at most "
                       "%d rounds, as it takes long" % LOOPS,
    "the end of a sync": "when a watch of kubectl has shown that the operation has succeeded at the commit, as finishedAt has whole seconds; of %d syncs "
                         "of a commit that has just been pushed" % SYNCS,
    "argocd app wait": "with --operation --health --sync, right after argocd app sync --async --revision",
}
LIMITS = ((MADE, 1 / 5), (UNCHANGED, 1 / 10))
LATEST = 0.3
SERVER = "https://kubernetes.default.svc"


def measure(rounds: int, folder: Path, say: Callable[[str], None]) -> Dict[str, Any]:
    """The part `argocd` of the results."""
    folder.mkdir(parents=True)
    argocd.program()
    seconds: Dict[Any, List[float]] = {}
    with Cluster.start(folder / "cluster", say=say, binaries=(*CLUSTER_BINARIES, "helm"), parts=["argocd"]) as cluster:
        many = Many(cluster, folder)
        for number in range(rounds):
            for name in (OURS, LOOP) if number % 2 else (LOOP, OURS):
                if name == LOOP and number >= LOOPS:
                    continue
                say("argocd, round %d: %s" % (number + 1, name))
                many.clear()
                for operation, changed in ((MADE, True), (UNCHANGED, False)):
                    seconds.setdefault((operation, name), []).append(many.call(name, changed))
        with Watched(cluster, folder) as watched:
            for name, turn in ((SYNC, watched.by_the_module), (WAIT, watched.by_the_command)):
                say("argocd: %s, %d times" % (name, SYNCS))
                seconds[(ENDED, name)] = [turn() for _number in range(SYNCS)]
    return outcome(rounds, seconds)


def outcome(rounds: int, seconds: Dict[Any, List[float]]) -> Dict[str, Any]:
    """Figures, summary and checks."""
    medians = {key: statistics.median(row) for key, row in seconds.items()}
    checks: List[Dict[str, Any]] = []
    for operation, limit in LIMITS:
        ratio = medians[(operation, OURS)] / medians[(operation, LOOP)]
        checks.append({"name": "%s: %s" % (operation, LOOP), "ratio": round(ratio, 4), "limit": limit, "holds": ratio <= limit})
    latest = medians[(ENDED, SYNC)]
    checks.append({"name": "argocd_sync: %s" % ENDED, "ratio": round(latest, 3), "limit": LATEST, "holds": latest <= LATEST, "unit": "s"})
    order = sorted(seconds, key=lambda key: ((MADE, UNCHANGED, ENDED).index(key[0]), key[1] not in (OURS, SYNC)))
    summary = [{"case": "argocd", "operation": operation, "peer": name, "rounds": len(seconds[operation, name]), "median": round(medians[operation, name], 4),
                "low": round(min(seconds[operation, name]), 4), "high": round(max(seconds[operation, name]), 4)} for operation, name in order]
    figures = [{"case": "argocd", "operation": operation, "peer": name, "seconds": round(each, 4)} for operation, name in order
               for each in seconds[operation, name]]
    return {"settings": {"rounds": rounds, "applications": NUMBER, "syncs": SYNCS}, "how": HOW, "summary": summary, "figures": figures, "checks": checks,
            "peers": {"Argo CD": ARGOCD.version}}


class Many:
    """50 Applications, in a namespace of their own."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.cluster, self.folder, self.namespace = cluster, folder, cluster.namespace("bench")
        cluster.kubectl("create", "--namespace", self.namespace, "--filename", "-", input=json.dumps({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "default"},
            "spec": {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}}))
        specs = {"app-%02d" % number: {
            "project": "default", "source": {"repoURL": "https://git.example.no/shop.git", "path": "app-%02d" % number, "targetRevision": "main"},
            "destination": {"server": SERVER, "namespace": "shop"}, "syncPolicy": {"automated": {"prune": True, "selfHeal": True}}}
            for number in range(NUMBER)}
        tasks = {
            OURS: {"nordic.gitops.argocd_application": {"kubeconfig": str(cluster.kubeconfig), "wait": False, "applications": [
                {"name": name, "namespace": self.namespace, **spec} for name, spec in specs.items()]}},
            LOOP: {"kubernetes.core.k8s": {"kubeconfig": str(cluster.kubeconfig), "state": "present", "definition": "{{ item }}"},
                   "loop": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name, "namespace": self.namespace}, "spec": spec}
                            for name, spec in specs.items()], "loop_control": {"label": "{{ item.metadata.name }}"}}}
        self.plays = {}
        for number, (name, task) in enumerate(tasks.items()):
            self.plays[name] = folder / ("play-%d.yml" % number)
            play = [{"name": name, "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"name": name, **task}]}]
            self.plays[name].write_text(yaml.safe_dump(play), encoding="utf-8")
        self.env = {**os.environ, "HOME": str(folder), "ANSIBLE_HOME": str(folder / ".ansible"), "ANSIBLE_COLLECTIONS_PATH": str(collection.linked()),
                    "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}

    def clear(self) -> None:
        self.cluster.kubectl("delete", "applications.argoproj.io", "--all", "--namespace", self.namespace)

    def call(self, name: str, changed: bool) -> float:
        began = time.perf_counter()
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(self.plays[name])], capture_output=True, text=True, env=self.env,
                              check=False)
        took = time.perf_counter() - began
        if done.returncode or ("changed=1" if changed else "changed=0") not in done.stdout:
            raise Broken("%s: %s%s" % (name, done.stdout[-2000:], done.stderr[-2000:]))
        return took


class Watched:
    """One Application of one ConfigMap, and a watch that says when a sync has ended."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.cluster, self.name, self.number = cluster, cluster.namespace("watched"), 0
        self.repository = Repository(folder / "repository")
        self.push()
        self.ends: Dict[str, float] = {}
        self.server = argocd.Server(cluster)
        self.command = folder / "argocd"
        self.command.symlink_to(argocd.program())
        cluster.kubectl("create", "--filename", "-", input=json.dumps(argocd.application(self.name, self.repository.url, self.name)))

    def __enter__(self) -> "Watched":
        shown = '{.status.operationState.phase} {.status.operationState.syncResult.revision}{"\\n"}'
        self.watch = subprocess.Popen(
            ["%s/kubectl" % self.cluster.bin, "--kubeconfig", str(self.cluster.kubeconfig), "get", "applications.argoproj.io", self.name, "--namespace",
             argocd.NAMESPACE, "--watch", "--output", "jsonpath=" + shown], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.watch.kill()
        self.watch.wait()

    def _listen(self) -> None:
        for line in self.watch.stdout or ():
            said = line.split()
            if len(said) == 2 and said[0] == "Succeeded":
                self.ends.setdefault(said[1], time.monotonic())

    def push(self) -> str:
        self.number += 1
        self.repository.write("app/settings.yaml", yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
                                                                   "data": {"number": str(self.number)}}))
        return str(self.repository.commit())

    def _after_the_end(self, commit: str, returned: float) -> float:
        return returned - float(argocd.until(lambda: self.ends.get(commit), "the end of the sync of %s" % commit))

    def by_the_module(self) -> float:
        commit = self.push()
        options = {"name": self.name, "revision": commit, "kubeconfig": str(self.cluster.kubeconfig)}
        params = ArgumentSpecValidator({**argocd_sync.SPEC, **CONNECTION_SPEC}).validate(options).validated_parameters
        result = sync(params, False)
        returned = time.monotonic()
        if result["applications"][0]["outcome"] != "synced":
            raise Broken("argocd_sync: %s" % result)
        return self._after_the_end(commit, returned)

    def by_the_command(self) -> float:
        commit = self.push()
        base = [str(self.command), "--server", "127.0.0.1:%d" % self.server.port, "--plaintext"]
        env = {**os.environ, "HOME": str(self.command.parent), "ARGOCD_AUTH_TOKEN": self.server.token}
        for arguments in (["sync", self.name, "--async", "--revision", commit], ["wait", self.name, "--operation", "--health", "--sync", "--timeout", "60"]):
            done = subprocess.run([*base, "app", *arguments], env=env, capture_output=True, text=True, check=False)
            returned = time.monotonic()
            if done.returncode:
                raise Broken("argocd app %s: %s" % (arguments[0], done.stderr[-2000:]))
        return self._after_the_end(commit, returned)
