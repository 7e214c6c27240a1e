# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""25 trees with waves, hooks and delete policies at two commits each, by the real Argo CD and by the reconcile: the same order of creation, from the
audit log, and the same objects left."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import PHASES
from lab.argocd import application, until
from lab.repository import Repository
from reconciling import Reconciler, manifest, wait_until

APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
TREES = 25
KINDS = {"configmaps": "/api/v1/namespaces/{}/configmaps", "serviceaccounts": "/api/v1/namespaces/{}/serviceaccounts",
         "jobs": "/apis/batch/v1/namespaces/{}/jobs"}
POLICIES = (None, "BeforeHookCreation", "HookSucceeded", "HookFailed", "HookSucceeded,BeforeHookCreation", "HookFailed,BeforeHookCreation")
HELM_EVENTS = {("PreSync",): ("pre-install,pre-upgrade", "pre-upgrade"), ("PostSync",): ("post-install", "post-upgrade, post-install")}
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("argocd")]


@dataclass
class Object:
    """One object of a tree, in both of its commits."""

    kind: str
    name: str
    phases: Tuple[str, ...]  # none for what is kept
    wave: int
    policy: Optional[str] = None
    helm: str = ""
    fails: Tuple[bool, bool] = (False, False)
    there: Tuple[bool, bool] = (True, True)
    values: Tuple[str, str] = ("one", "two")

    def text(self, commit: int) -> str:
        marks: Dict[str, str] = {}
        if self.helm:
            marks = {"helm.sh/hook": self.helm, "helm.sh/hook-weight": str(self.wave)}
            if self.policy:
                words = {"BeforeHookCreation": "before-hook-creation", "HookSucceeded": "hook-succeeded", "HookFailed": "hook-failed"}
                marks["helm.sh/hook-delete-policy"] = ",".join(words[word] for word in self.policy.split(","))
        else:
            if self.phases:
                marks["argocd.argoproj.io/hook"] = ",".join(self.phases)
            if self.policy:
                marks["argocd.argoproj.io/hook-delete-policy"] = self.policy
            if self.wave:
                marks["argocd.argoproj.io/sync-wave"] = str(self.wave)
        lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in marks.items())
        if self.kind == "ConfigMap":
            return manifest("ConfigMap", self.name, annotations=lines, more=f"data: {{key: {self.values[commit]}}}\n")
        if self.kind == "ServiceAccount":
            return manifest("ServiceAccount", self.name, annotations=lines)
        pods = "metadata: {annotations: {lab/pod: failed}}, " if self.fails[commit] else ""
        return manifest("Job", self.name, "batch/v1", annotations=lines, more=f"""spec:
  backoffLimit: 0
  template: {{{pods}spec: {{restartPolicy: Never, containers: [{{name: a, image: "registry.example/a:1"}}]}}}}
""")


def tree(number: int) -> List[Object]:
    """What the tree of this number has: chosen at random, and the same each time."""
    chance = random.Random(number)
    objects = [Object("ConfigMap", f"kept{index}", (), chance.choice((-1, 0, 0, 1, 2)),
                      values=("one", chance.choice(("one", "two")) if index else "two")) for index in range(chance.randint(2, 4))]
    objects.append(Object("ConfigMap", "added", (), chance.choice((-1, 0, 1)), there=(False, True)))
    hooks: List[Object] = []
    for index in range(chance.randint(2, 5)):
        phases = chance.choice((("PreSync",), ("PreSync",), ("Sync",), ("PostSync",), ("PostSync",), ("SyncFail",), ("PreSync", "PostSync")))
        helm = chance.choice(HELM_EVENTS[phases]) if phases in HELM_EVENTS and chance.random() < 0.3 else ""
        kind = chance.choice(("Job", "Job", "Job", "ConfigMap", "ServiceAccount"))
        hooks.append(Object(kind, f"hook{index}", phases, chance.choice((-2, 0, 0, 1, 3)), chance.choice(POLICIES), helm))
    jobs = [each for each in hooks if each.kind == "Job" and each.phases != ("SyncFail",)]
    failing: Optional[Object] = None
    if number % 3 == 0 and jobs:
        failing = chance.choice(jobs)
        again = not failing.policy or "BeforeHookCreation" in failing.policy  # else it stays the Job that it was
        failing.fails = chance.choice(((True, False), (False, True), (True, True))) if again else (True, True)
        hooks.append(Object("Job", "rescue", ("SyncFail",), 0, chance.choice(POLICIES)))
    if failing is None or failing.phases != ("Sync",):
        # With a failure in the middle Argo CD has pruned by then, and the reconcile prunes nothing: that is meant.
        for index, wave in enumerate(chance.sample((-1, 0, 1, 2), chance.randint(0, 2))):
            objects.append(Object("ConfigMap", f"gone{index}", (), wave, there=(True, False)))
    return objects + hooks


@dataclass
class Course:
    """What came of one commit: what was created in which order, what was pruned in which order, and what is there at the end."""

    succeeded: bool
    created: List[str] = field(default_factory=list)
    pruned: List[str] = field(default_factory=list)
    left: List[str] = field(default_factory=list)


def left(cluster: Any, namespace: str) -> List[str]:
    """What is in a namespace, once nothing of it is going any more."""
    items = [(kind, item["metadata"]) for kind, path in KINDS.items() for item in cluster.api.do("GET", path.format(namespace))["items"]]
    wait_until(lambda: not any(item["metadata"].get("deletionTimestamp") for path in KINDS.values()
                               for item in cluster.api.do("GET", path.format(namespace))["items"]), 30)
    items = [(kind, item["metadata"]) for kind, path in KINDS.items() for item in cluster.api.do("GET", path.format(namespace))["items"]]
    return sorted(f"{kind}/{metadata['name']}" for kind, metadata in items
                  if metadata["name"] not in ("default", "kube-root-ca.crt") and not metadata["name"].startswith("nordic-gitops-"))


def requests(cluster: Any, since: Any, namespace: str, agent: str) -> Tuple[List[str], List[str]]:
    """What was created, and what was deleted of the kept objects, in the order of the audit log."""
    ours = [entry for entry in cluster.audit(since) if entry["namespace"] == namespace and not entry["dryRun"] and not entry["subresource"]
            and agent in entry["userAgent"] and entry["resource"] in KINDS and not entry["name"].startswith("nordic-gitops-")]
    return ([entry["name"] for entry in ours if entry["code"] == 201],
            [entry["name"] for entry in ours if entry["verb"] == "delete" and entry["name"].startswith("gone")])


def grouped(objects: List[Object], created: List[str]) -> List[Tuple[str, int, List[str]]]:
    """The creations by phase and wave, as they came; inside of one wave each has an order of its own for the kinds."""
    seen: Dict[str, int] = {}
    places = {each.name: each for each in objects}
    steps = []
    for name in created:
        each, turn = places[name], seen.get(name, 0)
        seen[name] = turn + 1
        phase = each.phases[turn % len(each.phases)] if each.phases else "Sync"
        steps.append((phase, 0 if phase == "SyncFail" else each.wave, name))  # those of SyncFail are started together
    return [(phase, wave, sorted(step[2] for step in group)) for (phase, wave), group in itertools.groupby(steps, lambda step: step[:2])]


@pytest.fixture(scope="module")
def courses(argo, tmp_path_factory):
    """{number of the tree: [(by Argo CD, by the reconcile) at each commit]}"""
    repository = Repository(tmp_path_factory.mktemp("hooks") / "repository")
    folder = tmp_path_factory.mktemp("cache")
    trees = {number: tree(number) for number in range(TREES)}
    theirs = {number: argo.namespace(f"theirs-{number}") for number in trees}
    ours = {number: argo.namespace(f"ours-{number}") for number in trees}
    result: Dict[int, List[Tuple[Course, Course]]] = {number: [] for number in trees}
    reconcilers = {number: Reconciler(name=ours[number], repository=repository.url, path=f"tree{number}", namespace=ours[number],
                                      inventory_namespace=ours[number], kubeconfig=str(argo.kubeconfig), git_cache=str(folder), wait=True, wait_timeout=60,
                                      prune_limit="100%") for number in trees}
    try:
        for commit in (0, 1):
            for number, objects in trees.items():
                for each in objects:
                    if each.there[commit]:
                        repository.write(f"tree{number}/{each.name}.yaml", each.text(commit))
                    elif commit:
                        repository.remove(f"tree{number}/{each.name}.yaml")
            revision = repository.commit()
            since = argo.moment()
            for number in trees:
                if not commit:
                    body = dict(application(theirs[number], repository.url, theirs[number]))
                    body["spec"]["source"]["path"] = f"tree{number}"
                    argo.api.do("POST", APPLICATIONS, body)
                operation = {"sync": {"revision": revision, "prune": True}, "info": [{"name": "commit", "value": str(commit)}]}
                argo.api.do("PATCH", f"{APPLICATIONS}/{theirs[number]}", {"operation": operation}, "application/merge-patch+json")
            ended = {}
            for number in trees:
                def state(number=number) -> Any:
                    app = argo.api.do("GET", f"{APPLICATIONS}/{theirs[number]}")
                    found = (app.get("status") or {}).get("operationState") or {}
                    mine = ((found.get("operation") or {}).get("sync") or {}).get("revision") == revision
                    return found if mine and not app.get("operation") and found.get("phase") in ("Succeeded", "Failed", "Error") else None

                ended[number] = until(state, f"the sync of tree {number}", 300)
            for number, objects in trees.items():
                created, pruned = requests(argo, since, theirs[number], "argocd-application-controller")
                by_argo_cd = Course(ended[number]["phase"] == "Succeeded", created, pruned, left(argo, theirs[number]))
                before = argo.moment()
                succeeded = True
                try:
                    reconcilers[number]()
                except Failure:
                    succeeded = False
                created, pruned = requests(argo, before, ours[number], "nordic.gitops")
                result[number].append((by_argo_cd, Course(succeeded, created, pruned, left(argo, ours[number]))))
        yield trees, result
    finally:
        for number in trees:
            argo.api.send("PATCH", f"{APPLICATIONS}/{theirs[number]}", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
            argo.api.send("DELETE", f"{APPLICATIONS}/{theirs[number]}")
            argo.remove_namespace(theirs[number])
            argo.remove_namespace(ours[number])


@pytest.mark.parametrize("number", range(TREES))
def test_a_tree_with_waves_hooks_and_delete_policies_has_the_same_course_by_argo_cd_and_by_the_reconcile(courses, number):
    trees, result = courses
    for commit, (theirs, ours) in enumerate(result[number]):
        what = f"commit {commit}: {trees[number]}"
        assert ours.succeeded is theirs.succeeded, what
        order = grouped(trees[number], ours.created)
        assert order == grouped(trees[number], theirs.created), what
        assert [step[:2] for step in order] == sorted((step[:2] for step in order), key=lambda step: (PHASES.index(step[0]), step[1])), what
        assert ours.pruned == theirs.pruned, what
        assert ours.left == theirs.left, what


def test_the_trees_show_every_phase_every_policy_failures_and_prunes(courses):
    trees, result = courses
    objects = [each for one in trees.values() for each in one]
    assert {phase for each in objects for phase in each.phases} == set(PHASES)
    assert {each.policy for each in objects if each.phases} == set(POLICIES)
    assert any(each.helm for each in objects) and any(len(each.phases) == 2 for each in objects)
    ends = [theirs.succeeded for one in result.values() for theirs, _ours in one]
    assert ends.count(False) >= 5 and ends.count(True) >= 25
    assert any(len(theirs.pruned) == 2 for one in result.values() for theirs, _ours in one)
