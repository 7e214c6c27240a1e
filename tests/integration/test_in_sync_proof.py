# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whenever we say "in sync" without asking, the server says so too when it is asked.

Random intents meet random deeds of other clients on a real API server (tests/proof). NORDIC_PROOF_CASES sets how many
(500), NORDIC_PROOF_SEED takes other ones than those of every run. What failed once is kept in the tables CLAIMS and PLAIN.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import time
from collections import Counter
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as some
from proof import intents, others
from reconciling import DEFAULTS

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import unchanged
from ansible_collections.nordic.gitops.plugins.module_utils._objects.merge import fields_of, to_send
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import reconcile
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import normalise
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import Rendered

CASES = int(os.environ.get("NORDIC_PROOF_CASES", "500"))
SEED = os.environ.get("NORDIC_PROOF_SEED")
TRIES = 20  # a controller may write between two of our requests: then the pair says nothing, and is made again

Body = Dict[str, Any]


# ---- the world in which it happens


class World:
    """Us, the others, and a namespace to meet in."""

    def __init__(self, cluster: Any, namespace: str) -> None:
        self.kubeconfig = cluster.kubeconfig
        self.us = Cluster.of({"kubeconfig": cluster.kubeconfig})
        self.someone = others.Someone(cluster)
        self.namespace = namespace
        self.numbers = itertools.count()
        self.wide: Set[str] = set()

    def define(self) -> None:
        """The kinds of our own, until the server serves them."""
        for body in intents.DEFINITIONS:
            self.us.apply(self.us.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition"), body)
        kinds = [(f"{body['spec']['group']}/{version['name']}", body["spec"]["names"]["kind"])
                 for body in intents.DEFINITIONS for version in body["spec"]["versions"]]
        end = time.monotonic() + 60
        while not all(self.us.discover(refresh=True).find(*kind) and self._served(kind) for kind in kinds):
            assert time.monotonic() < end, "the API server does not serve the test's own kinds"
            time.sleep(0.1)

    def _served(self, kind: Tuple[str, str]) -> bool:
        return self.someone.send("GET", self.us.resource(*kind).path(self.namespace))[0] == 200

    def forget(self) -> None:
        """Take away what lies outside of the namespace, and the finalizers of nobody, which would hold it."""
        for path in self.wide:
            self.someone.send("DELETE", path)
        for kind in self.us.discover():
            if not kind.namespaced or "list" not in kind.verbs or "patch" not in kind.verbs:
                continue
            for item in self.us.list(kind, self.namespace)[0]:
                if any(name.startswith("example.com/") for name in item["metadata"].get("finalizers") or ()):
                    self.someone.send("PATCH", kind.path(self.namespace, item["metadata"]["name"]), {"metadata": {"finalizers": None}},
                                      "application/merge-patch+json")

    def place(self, body: Body, name: str = "") -> Tuple[Body, Any, str]:
        """A body with a name of its own, its resource, and its path on the server."""
        name = name or f"o-{next(self.numbers)}"
        body = intents.place(body, name, self.namespace)
        resource = self.us.resource(body["apiVersion"], body["kind"])
        path = resource.path(self.namespace if resource.namespaced else "", name)
        if not resource.namespaced:
            self.wide.add(path)
        return body, resource, path

    def live(self, path: str) -> Optional[Body]:
        status, body = self.someone.send("GET", path)
        return body if status == 200 else None


@pytest.fixture(scope="module")
def world(cluster: Any) -> Iterator[World]:
    namespace = cluster.namespace("proof")
    world = World(cluster, namespace)
    world.define()
    yield world
    world.forget()
    cluster.remove_namespace(namespace)


def labelled(body: Body) -> Body:
    """As every intent is: with the label of its set."""
    metadata = body["metadata"]
    return {**body, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), PART_OF: "proof"}}}


def as_rendered(body: Body) -> Body:
    return labelled(normalise(body))


def same(before: Body, after: Body) -> bool:
    """Whether nothing was written, told in the strictest way: as JSON, books included, less what a mere read may change."""
    return _text(before) == _text(after)


def _text(body: Body) -> str:
    metadata = {key: value for key, value in body["metadata"].items() if key not in ("resourceVersion", "generation", "managedFields")}
    books = sorted(json.dumps({key: value for key, value in entry.items() if key != "time"}, sort_keys=True)
                   for entry in body["metadata"].get("managedFields") or ())
    content = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    return json.dumps([content, metadata, books], sort_keys=True)


class Verdict(NamedTuple):
    """What we find without asking, and what the server says: what it would make of the object, or why it refuses."""

    findings: List[ownership.Finding]
    live: Body
    after: Optional[Body]
    refusal: str

    @property
    def in_sync(self) -> bool:
        """The server's word."""
        return self.after is not None and same(self.live, self.after)

    def told(self, claim: str, body: Body) -> str:
        return f"{claim}: " + json.dumps({"intent": body, **self._asdict()}, indent=1, default=str)


def judge(world: World, resource: Any, path: str, body: Body) -> Verdict:
    for _attempt in range(TRIES):
        live = world.live(path)
        assert live is not None
        schema = world.us.schema(resource.api_version, resource.kind)
        findings = ownership.examine(body, live, schema)
        try:
            after = world.us.apply(resource, to_send(body, live, schema), force=True, dry_run=True)[0]
        except ApiError as error:
            return Verdict(findings, live, None, str(error))
        if after["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
            return Verdict(findings, live, after, "")
    raise AssertionError("somebody else keeps writing it")


def random_cases(strategy: Any, count: int, play: Callable[[Any], None]) -> None:
    """Play random cases, the same in every run unless a seed is set. NORDIC_PROOF_SHRINK=1 makes a failing one small, in minutes."""
    phases = [Phase.generate] + [Phase.shrink] * ("NORDIC_PROOF_SHRINK" in os.environ)

    @settings(max_examples=count, deadline=None, database=None, derandomize=SEED is None, suppress_health_check=list(HealthCheck),
              print_blob=False, phases=phases)
    @given(strategy)
    def cases(case: Any) -> None:
        play(case)

    (cases if SEED is None else seed(int(SEED))(cases))()


KIND = some.sampled_from(sorted(intents.INTENTS))
INTENT = KIND.flatmap(lambda kind: intents.INTENTS[kind])
CASE = some.fixed_dictionaries({
    "intent": INTENT,
    "normalised": some.sampled_from([True, True, True, False]),  # the proof must not lean on what comes before it
    "before": some.lists(others.STEPS, max_size=2),
    "commit": others.COMMITS,
    "applied": some.booleans(),
    "after": some.lists(others.STEPS, max_size=2),
})


# ---- first: in sync is true


def play(world: World, case: Dict[str, Any], counts: Counter) -> None:
    """One object's life: applied, changed by others, the next commit, applied or not, changed again; then the question."""
    body, resource, path = world.place(case["intent"])
    shape = as_rendered if case["normalised"] else labelled
    body = shape(body)
    try:
        earlier = [world.us.apply(resource, body)[0]]
    except Failure:
        counts["intents that the server refuses"] += 1
        return
    if case["normalised"]:  # the dry run of two writes at once says what we shall own
        entry = ownership.own_entry(earlier[0]) or {}
        ours = fields_of(body, world.us.schema(resource.api_version, resource.kind))
        ours, theirs = without_nothing(ours, body), without_nothing(entry["fieldsV1"], body)
        assert ours == theirs, json.dumps([body, ours, theirs])

    def deeds(steps: List[others.Step]) -> None:
        for step in steps:
            live = world.live(path)
            if live is None:
                return
            status = others.act(world.someone, path, live, body, earlier, step)
            counts["deeds of others" if status < 300 else "deeds refused"] += 1
            earlier.append(live)

    deeds(case["before"])
    live = world.live(path)
    if case["commit"] is not None and live is not None:
        body = shape(others.commit(body, live, case["commit"]))
        if case["applied"]:
            try:
                world.us.apply(resource, body)
            except Failure:
                counts["commits refused"] += 1
    deeds(case["after"])
    if world.live(path) is None:
        return

    verdict = judge(world, resource, path, body)
    counts["cases"] += 1
    if not verdict.findings:
        counts["proved in sync"] += 1
        assert verdict.in_sync, verdict.told("we say in sync, the server says not", body)
    elif any(finding.certain for finding in verdict.findings):
        counts["drifted for certain"] += 1
        assert not verdict.in_sync or not case["normalised"], verdict.told("we say it surely drifted, the server says not", body)
    else:
        counts["referee: in sync" if verdict.in_sync else "referee: drifted"] += 1
    if verdict.after is not None:
        assert unchanged(verdict.live, verdict.after) == verdict.in_sync, verdict.told("the referee compares loosely", body)


def test_in_sync_is_never_said_of_what_an_apply_would_change(world: World, tell: Callable[[str], None]) -> None:
    counts: Counter = Counter()
    begin = time.monotonic()
    random_cases(CASE, CASES, lambda case: play(world, case, counts))
    tell(f"in-sync proof: {counts['cases']} cases in {time.monotonic() - begin:.0f} s, "
         + ", ".join(f"{name} {counts[name]}" for name in (
             "proved in sync", "drifted for certain", "referee: in sync", "referee: drifted", "deeds of others", "deeds refused")))
    # A proof that is never given, or of objects that nobody touched, would be no promise.
    assert counts["cases"] >= 0.9 * CASES and counts["deeds of others"] >= 0.5 * CASES
    assert counts["proved in sync"] >= 0.25 * CASES
    assert counts["drifted for certain"] + counts["referee: drifted"] >= 0.2 * CASES


def widget(api_version: str = "proof.example.com/v1", **spec: Any) -> Body:
    return {"apiVersion": api_version, "kind": "Widget", "metadata": {"name": intents.NAME, "namespace": intents.NAMESPACE}, "spec": spec}


def deployment(container: Optional[Body] = None, pod: Optional[Body] = None, **spec: Any) -> Body:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": intents.NAME, "namespace": intents.NAMESPACE},
            "spec": {"paused": True, "selector": {"matchLabels": {"app": intents.NAME}}, **spec, "template": {
                "metadata": {"labels": {"app": intents.NAME}}, "spec": {"nodeSelector": {"nowhere": "x"}, **(pod or {}), "containers": [
                    {"name": "web", "image": "example.com/app:1", **(container or {})}]}}}}


def network_policy(selector: Body) -> Body:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": intents.NAME, "namespace": intents.NAMESPACE},
            "spec": {"podSelector": selector, "policyTypes": ["Ingress"]}}


def ours(body: Body) -> Tuple[str, Body]:
    return "apply as us", body


def edit(patch: Body) -> Tuple[str, Body]:
    return "edit", patch


def unnoticed(patch: Body) -> Tuple[str, Body]:
    return "unnoticed", patch


def container(**fields: Any) -> Body:
    """A patch of the one container."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "example.com/app:1", **fields}]}}}}


# What made "in sync" wrong once: (first commit, what others did, the commit asked about, whether the server calls it in sync).
CLAIMS: Dict[str, Tuple[Body, List[Tuple[str, Body]], Body, bool]] = {
    "a null that somebody removed from a nullable field": (
        widget(maybe=None, amount=1), [edit({"spec": {"maybe": "x"}}), edit({"spec": {"maybe": None}})], widget(maybe=None, amount=1), False),
    "a null that Git adds to a free-form field": (widget(free={"x": 1}), [], widget(free={"x": 1, "y": None}), False),
    "a field left empty, filled by a person, then by Git": (
        deployment({"resources": {}}), [edit(container(resources={"requests": {"cpu": "1"}}))],
        deployment({"resources": {"requests": {"cpu": "1"}}}), False),
    "a field left empty, whose defaults Git then spells out": (
        deployment(strategy={}), [], deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        False),
    "the same in a custom resource": (widget(given={}), [], widget(given={"level": 5}), False),
    "a list left null, whose default Git then spells out": (widget(defaulted=None), [], widget(defaulted=[{"name": "d"}]), False),
    "the same amount in another notation, by our name": (
        deployment({"resources": {"limits": {"cpu": "1e3"}}}), [ours(deployment({"resources": {"limits": {"cpu": "1k"}}}))],
        deployment({"resources": {"limits": {"cpu": "1e3"}}}), False),
    "an unusual spelling, which the server keeps": (
        deployment({"resources": {"limits": {"cpu": "+5"}}}), [ours(deployment({"resources": {"limits": {"cpu": "5"}}}))],
        deployment({"resources": {"limits": {"cpu": "+5"}}}), False),
    "binary and decimal amounts": (
        deployment({"resources": {"limits": {"memory": "1024"}}}), [unnoticed(container(resources={"limits": {"memory": "1Ki"}}))],
        deployment({"resources": {"limits": {"memory": "1024"}}}), False),
    "a default of built-in kinds in a custom kind of a k8s.io group": (
        widget("proof.k8s.io/v1", ports=[{"port": 1}]), [ours(widget("proof.k8s.io/v1", ports=[{"port": 1, "protocol": "TCP"}]))],
        widget("proof.k8s.io/v1", ports=[{"port": 1}]), False),
    "a quantity in a custom kind of a k8s.io group": (
        widget("proof.k8s.io/v1", limits=[{"cpu": "1000m"}]), [ours(widget("proof.k8s.io/v1", limits=[{"cpu": "1"}]))],
        widget("proof.k8s.io/v1", limits=[{"cpu": "1000m"}]), False),
    "a number in the place of true": (widget(free={"x": True}), [ours(widget(free={"x": 1}))], widget(free={"x": True}), False),
    "an environment in another order": (
        deployment({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
        [unnoticed(container(env=[{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]))],
        deployment({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}), False),
    "false where false is not shown": (deployment(pod={"hostNetwork": False}), [], deployment(pod={"hostNetwork": False}), True),
    "false where false is a default": (deployment({"stdin": False}, minReadySeconds=0), [], deployment({"stdin": False}, minReadySeconds=0), True),
    "an empty text that the server fills": (
        deployment({"imagePullPolicy": ""}), [], deployment({"imagePullPolicy": ""}), True),
    "an empty volume that another took": (
        deployment(pod={"volumes": [{"name": "v", "emptyDir": {}}]}), [
            edit({"spec": {"template": {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/v"}}]}}}}),
            edit({"spec": {"template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}}})],
        deployment(pod={"volumes": [{"name": "v", "emptyDir": {}}]}), False),
    "an empty selector that another took": (
        network_policy({}), [edit({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}), edit({"spec": {"podSelector": {"matchLabels": None}}})],
        network_policy({}), False),
    "an empty context that another took": (
        deployment({"securityContext": {}}), [edit(container(securityContext=None)), edit(container(securityContext={}))],
        deployment({"securityContext": {}}), False),
    "an empty map of a free-form field that another took": (
        widget(free={"x": {}}), [edit({"spec": {"free": {"x": None}}}), edit({"spec": {"free": {"x": {}}}})], widget(free={"x": {}}), False),
    "an empty map whose keys others own": (
        deployment(), [edit({"metadata": {"annotations": {"a": "b"}}})],
        {**deployment(), "metadata": {**deployment()["metadata"], "annotations": {}}}, True),
}


def do(world: World, path: str, deed: str, body: Body) -> None:
    """A deed of the table, which must succeed."""
    if deed == "apply as us":
        status, answer = world.someone.send("PATCH", path, as_rendered(body), "application/apply-patch+yaml",
                                            fieldManager=others.OURS, force="true")
    else:
        live = world.live(path) or {}
        status, answer = world.someone.send("PATCH", path, body, "application/merge-patch+json", fieldManager="kubectl-edit")
        if deed == "unnoticed":  # a client that writes the books of before over those of its own change
            answer["metadata"]["managedFields"] = live["metadata"]["managedFields"]
            del answer["metadata"]["resourceVersion"]  # whatever a controller wrote meanwhile
            status, answer = world.someone.send("PUT", path, answer, fieldManager="kubectl-replace")
    assert status < 300, answer


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_made_the_proof_wrong_once_is_told_apart(world: World, claim: str) -> None:
    first, deeds, asked, in_sync = CLAIMS[claim]
    body, resource, path = world.place(first)
    world.us.apply(resource, as_rendered(body))
    for deed, what in deeds:
        do(world, path, deed, intents.place(what, body["metadata"]["name"], world.namespace))
    body = as_rendered(intents.place(asked, body["metadata"]["name"], world.namespace))
    verdict = judge(world, resource, path, body)
    assert verdict.in_sync == in_sync, verdict.told("the server says otherwise than this table", body)
    if in_sync:
        assert not any(finding.certain for finding in verdict.findings), verdict.told("called a drift", body)
    else:
        assert verdict.findings, verdict.told("called in sync", body)


# ---- second: without foreign deeds, no referee is needed


PLAIN: Dict[str, Body] = {
    "Deployment": deployment(
        {"env": [{"name": "A", "value": "1"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                 {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                 {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}],
         "envFrom": [{"configMapRef": {"name": "c"}}], "args": ["--port", "80"], "command": [],
         "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
         "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5, "memory": "0.5Gi"}},
         "livenessProbe": {"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 0},
         "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "readOnly": False}, {"name": "token", "mountPath": "/token"}],
         "securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}},
        {"securityContext": {}, "tolerations": [], "imagePullSecrets": [{"name": "registry"}], "hostNetwork": False, "volumes": [
            {"name": "tmp", "emptyDir": {}}, {"name": "cache", "emptyDir": {"sizeLimit": "1024Mi"}},
            {"name": "config", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"downwardAPI": {"items": [
                {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}],
         "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {
             "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}}]}},
         "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                                        "labelSelector": {"matchLabels": {"app": "x"}}}]},
        replicas=2, strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
    "StatefulSet": {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {}, "spec": {
        "serviceName": "s", "replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}}]}},
    "DaemonSet": {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {}, "spec": {
        "selector": {"matchLabels": {"app": "x"}}, "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}}, "template": {
            "metadata": {"labels": {"app": "x"}, "annotations": {"a": "b"}}, "spec": {
                "nodeSelector": {"nowhere": "x"}, "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "a", "image": "a:1", "resources": {}}]}}}},
    "Job": {"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, "spec": {"suspend": True, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "0.1"}}}]}}}},
    "CronJob": {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {}, "spec": {
        "schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "a:1"}]}}}}}},
    "Service": {"apiVersion": "v1", "kind": "Service", "metadata": {"annotations": {}}, "spec": {
        "selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": "http", "name": "http"}, {"port": 53, "protocol": "UDP", "name": "dns"}],
        "publishNotReadyAddresses": False}},
    "Ingress": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {}, "spec": {"ingressClassName": "nginx", "rules": [
        {"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {
            "name": "s", "port": {"number": 80}}}}]}}], "tls": [{"hosts": ["a.example.com"], "secretName": "t"}]}},
    "NetworkPolicy": {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {}, "spec": {
        "podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"ports": [{"port": 80}], "from": [
            {"podSelector": {}}]}], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}]}},
    "HorizontalPodAutoscaler": {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"}, "minReplicas": 2, "maxReplicas": 5, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "1000"}}}]}},
    "PodDisruptionBudget": {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {}, "spec": {
        "minAvailable": "50%", "selector": {"matchLabels": {"app": "x"}}}},
    "Role": {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]},
    "RoleBinding": {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {}, "roleRef": {
        "kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}, "subjects": [
            {"kind": "ServiceAccount", "name": "a", "namespace": "default"}, {"kind": "Group", "name": "g"}]},
    "ClusterRole": {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {}, "rules": [
        {"nonResourceURLs": ["/x"], "verbs": ["get"]}]},
    "ServiceAccount": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {}, "imagePullSecrets": [{"name": "registry"}]},
    "ConfigMap": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"finalizers": ["example.com/b", "example.com/a"]}, "data": {"k": "1000m", "e": ""}},
    "Secret": {"apiVersion": "v1", "kind": "Secret", "metadata": {}, "stringData": {"k": "v"}, "data": {"l": "AAE="}},
    "ResourceQuota": {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {}, "spec": {"hard": {"requests.cpu": "1000", "limits.memory": "1024Gi"}}},
    "LimitRange": {"apiVersion": "v1", "kind": "LimitRange", "metadata": {}, "spec": {"limits": [
        {"type": "PersistentVolumeClaim", "max": {"storage": "2048Gi"}, "min": {"storage": "0.5Gi"}}]}},
    "PersistentVolumeClaim": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "2048Mi"}}}},
    "PriorityClass": {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {}, "value": 7, "globalDefault": False},
    "ValidatingWebhookConfiguration": {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {},
                                       "webhooks": [{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                                                     "clientConfig": {"url": "https://127.0.0.1:1/x"}, "objectSelector": {"matchLabels": {"a": "b"}},
                                                     "rules": [{"apiGroups": ["nothing.example.com"], "apiVersions": ["v1"],
                                                                "operations": ["CREATE"], "resources": ["things"]}]}]},
    "custom resource": widget(parts=[{"name": "a", "size": "1000m", "limits": {"cpu": 1}}], tags=["b", "a"], amount="1Gi", given={"level": 6},
                              free={"x": True, "y": {"z": 1.5}}),
    "custom resource with atomic values": widget(args=["a"], whole={"a": "b"}, ports=[{"port": 1}], free={"x": [1, {"y": None}]}),
    "custom resource of any fields": {"apiVersion": "proof.example.com/v1", "kind": "Blob", "metadata": {}, "spec": {"x": [{"a": "1000m"}]}},
}
NEEDS_THE_REFEREE: Dict[str, Body] = {
    "a field left empty where the server puts defaults": {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"}, "maxReplicas": 5, "metrics": []}},
}


def placed(world: World, plain: Body) -> Tuple[Body, Any, str]:
    body = copy.deepcopy(plain)
    body["metadata"]["name"] = intents.NAME
    if world.us.resource(body["apiVersion"], body["kind"]).namespaced:
        body["metadata"]["namespace"] = intents.NAMESPACE
    return world.place(body)


@pytest.mark.parametrize("kind", PLAIN)
def test_what_we_applied_and_nobody_touched_is_proved_in_sync_without_the_referee(world: World, kind: str) -> None:
    body, resource, path = placed(world, PLAIN[kind])
    body = as_rendered(body)
    world.us.apply(resource, body)
    verdict = judge(world, resource, path, body)
    assert verdict.findings == [] and verdict.in_sync, verdict.told("not proved", body)


@pytest.mark.parametrize("what", NEEDS_THE_REFEREE)
def test_what_cannot_be_proved_is_left_to_the_referee_and_not_called_a_drift(world: World, what: str) -> None:
    body, resource, path = placed(world, NEEDS_THE_REFEREE[what])
    body = as_rendered(body)
    world.us.apply(resource, body)
    verdict = judge(world, resource, path, body)
    assert verdict.in_sync and verdict.findings and not any(finding.certain for finding in verdict.findings), verdict.told("judged", body)


# ---- third and fourth: healing, and check mode's promise


class Held:
    """A commit in memory, for a reconcile without Git: the documents as a renderer hands them on."""

    signer = None
    origin = "proof"

    def __init__(self, number: int, bodies: List[Body]) -> None:
        self.id, self.digest = f"{number:040x}", "proof"
        self.documents = [Document(body, f"{body['kind']}.yaml", 1) for body in bodies]

    def resolve(self) -> Held:
        return self

    def protection(self) -> str:
        return ""

    def refuse_rollback(self, _commit: str, _recorded: str) -> Tuple[str, ...]:
        return ()  # there is no history in memory

    def render(self, _commit: Held, _serves: Any, _also_wrong: Any) -> Rendered:
        return Rendered(self.documents, "directory", False)


def run(world: World, name: str, bodies: List[Body], check_mode: bool = False, number: int = 1, **options: Any) -> Any:
    params = {**DEFAULTS, "kubeconfig": world.kubeconfig, "name": name, "inventory_namespace": world.namespace, **options}
    return reconcile(Held(number, bodies), world.us, Options.of(params, check_mode, False), lambda line: None)


def operations(report: Any) -> Dict[str, str]:
    return {str(change.ref): end.operation for change, end in report.ends()}


def told(report: Any) -> str:
    return "; ".join(f"{change.ref} {end.operation}: {end.reason}" for change, end in report.ends())


def owned(body: Body) -> Any:
    """What our own entry names, with its values, order included."""
    entry = ownership.own_entry(body)
    assert entry is not None
    return entry["fieldsV1"], ownership.select(body, entry["fieldsV1"])


def without_nothing(fields: Any, intent: Any) -> Any:
    """The books less the claims on what Git leaves empty, which an apply does not repeat where others filled it."""
    result = {}
    for key, child in fields.items():
        if key == ".":  # of a map of any fields too, beside an item
            continue
        inner = intent.get(key[2:]) if isinstance(intent, dict) and key.startswith("f:") else None
        if isinstance(intent, list) and key.startswith("k:"):
            inner = next((item for item in intent if json.loads(key[2:]).items() <= item.items()), None)
        rest = without_nothing(child, inner)
        if child and not rest or not child and is_nothing(inner):
            continue
        result[key] = rest
    return result


def is_nothing(intent: Any) -> bool:
    """An empty map or list, or a map of such: `spec: {hard: {}}` is sent as `spec: {}` where the server stores no empty map."""
    return intent == [] or isinstance(intent, dict) and all(map(is_nothing, intent.values()))


def is_healed(live: Any, fresh: Any, intent: Any) -> bool:
    """Equal, but for what defaults and others put into a map that Git leaves empty."""
    if isinstance(intent, dict) and is_nothing(intent) and isinstance(live, dict):
        return True
    if isinstance(live, dict) and isinstance(fresh, dict) and isinstance(intent, dict):
        asked = {key for key in {**live, **fresh} if intent.get(key) not in ({}, [])}
        return all(key in live and key in fresh and is_healed(live[key], fresh[key], intent.get(key)) for key in asked)
    if isinstance(live, list) and isinstance(fresh, list) and isinstance(intent, list) and len(live) == len(fresh) == len(intent):
        return all(map(is_healed, live, fresh, intent))
    return bool(live == fresh)


def marks(live: Body, ours_too: Body) -> Set[Tuple[str, str, str]]:
    """Labels and annotations that a controller set, and that Git does not."""
    found = set()
    for entry in live["metadata"].get("managedFields") or ():
        adopted = ownership.own_entry(live) is None and ownership.is_former_tool(entry["manager"])  # then its claims end
        if entry["manager"] in others.CONTROLLERS and not adopted and not entry.get("subresource"):
            for place in ("labels", "annotations"):
                for key in (entry.get("fieldsV1") or {}).get("f:metadata", {}).get(f"f:{place}", {}):
                    value = (live["metadata"].get(place) or {}).get(key[2:])
                    if value is not None and key[2:] != PART_OF and key[2:] not in (ours_too["metadata"].get(place) or {}):
                        found.add((place, key[2:], value))
    return found


HEALING = some.lists(some.tuples(INTENT, some.lists(others.STEPS, max_size=2)), min_size=1, max_size=5)


def heal(world: World, case: List[Tuple[Body, List[others.Step]]], counts: Counter) -> None:
    name = f"heal-{next(world.numbers)}"
    objects = []
    for intent, steps in case:
        body, resource, path = world.place(intent)
        body = normalise(body)
        try:
            world.us.apply(resource, body, dry_run=True)
        except Failure:
            continue
        objects.append((body, resource, path, steps))
    if not objects:
        return
    bodies = [body for body, _resource, _path, _steps in objects]
    try:
        run(world, name, bodies)
    except Failure as failure:
        counts["first runs refused"] += 1
        assert str(failure)
        return
    for body, _resource, path, steps in objects:
        earlier = [world.live(path) or {}]
        for step in steps:
            live = world.live(path)
            if live is not None:
                others.act(world.someone, path, live, body, earlier, step)
    seen = [world.live(path) for _body, _resource, path, _steps in objects]
    try:
        promise = run(world, name, bodies, check_mode=True)
    except Failure as failure:
        counts["runs refused"] += 1
        with pytest.raises(Failure) as error:  # what check mode refuses, the run refuses, in the same words
            run(world, name, bodies)
        assert str(error.value).splitlines()[0] == str(failure).splitlines()[0]
        return
    done = run(world, name, bodies)
    counts["runs"] += 1
    for operation in operations(done).values():
        counts[operation] += 1
    assert operations(promise) == operations(done), f"check mode said {told(promise)}\nthe run did {told(done)}"
    counts["dry runs"] += promise.plan.dry_runs

    again = run(world, name, bodies, check_mode=True)
    assert set(operations(again).values()) == {"unchanged"} and again.result()["in_sync"], f"healed, and yet: {told(again)}"
    label = done.plan.changes[0].intent.body["metadata"]["labels"][PART_OF]
    for (body, resource, path, _steps), before in zip(objects, seen):
        live = world.live(path)
        assert live is not None
        fresh = copy.deepcopy(body)
        fresh["metadata"]["name"] += "-fresh"
        fresh["metadata"]["labels"] = {**(fresh["metadata"].get("labels") or {}), PART_OF: label}
        fresh = world.us.apply(resource, fresh, dry_run=True)[0]
        (books, values), (fresh_books, fresh_values) = owned(live), owned(fresh)
        healed = without_nothing(books, body) == without_nothing(fresh_books, body) and is_healed(values, fresh_values, body)
        assert healed, f"{path}: healed into {values}, Git says {fresh_values}"
        if before is not None:
            assert marks(before, body) <= marks(live, body), f"{path}: a controller's mark was taken away"


def test_a_healed_object_is_what_git_says_and_check_mode_said_so_before(world: World, tell: Callable[[str], None]) -> None:
    counts: Counter = Counter()
    begin = time.monotonic()
    random_cases(HEALING, max(10, CASES // 10), lambda case: heal(world, case, counts))
    tell(f"healing: {counts['runs']} runs in {time.monotonic() - begin:.0f} s, " + ", ".join(
        f"{name} {counts[name]}" for name in ("configured", "created", "unchanged", "runs refused", "dry runs")))
    enough = CASES // 20 if SEED is None else CASES // 50  # other seeds draw fewer deeds that anybody notices
    assert counts["configured"] >= enough and counts["unchanged"] >= enough and counts["runs refused"] <= 0.3 * counts["runs"]


@pytest.mark.parametrize("manager", ["kubectl-edit", "some-operator"])
def test_an_empty_volume_that_another_took_is_claimed_once_and_git_can_replace_it(world: World, manager: str) -> None:
    body, _resource, path = world.place(deployment(pod={"volumes": [{"name": "v", "emptyDir": {}}], "securityContext": {}}))
    name = f"heal-{next(world.numbers)}"
    run(world, name, [body])
    for source in ({"hostPath": {"path": "/v"}}, {"emptyDir": {}}):
        patch = {"spec": {"template": {"spec": {"volumes": [{"name": "v", **source}]}}}}
        status, answer = world.someone.send("PATCH", path, patch, "application/merge-patch+json", fieldManager=manager)
        assert status == 200, answer
    assert set(operations(run(world, name, [body])).values()) == {"configured"}
    again = run(world, name, [body])
    assert set(operations(again).values()) == {"unchanged"} and again.plan.dry_runs == 0, told(again)
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "c"}}]
    run(world, name, [body], number=2)
    volume = (world.live(path) or {})["spec"]["template"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == "c" and "emptyDir" not in volume


def test_what_people_added_goes_and_what_controllers_and_actions_added_stays(world: World) -> None:
    body, _resource, path = world.place(deployment({"env": [{"name": "A", "value": "1"}]}))
    name = f"heal-{next(world.numbers)}"
    run(world, name, [body])

    def write(manager: str, patch: Body) -> None:
        status, answer = world.someone.send("PATCH", path, patch, "application/strategic-merge-patch+json", fieldManager=manager)
        assert status == 200, answer

    write("kubectl-edit", {"metadata": {"labels": {"by-hand": "yes"}, "annotations": {"note": "by hand"}, "finalizers": ["example.com/hand"]}})
    write("kubectl-patch", {"spec": {"revisionHistoryLimit": 3, "template": {"spec": {"containers": [
        {"name": "web", "env": [{"name": "DEBUG", "value": "1"}], "imagePullPolicy": "Always"}, {"name": "sidecar", "image": "debug:1"}]}}}})
    write("kubectl-rollout", {"spec": {"template": {"metadata": {"annotations": {others.RESTARTED: "2026-01-01T00:00:00Z"}}}}})
    write("injector", {"metadata": {"annotations": {"injected": "true"}}, "spec": {"template": {"spec": {"containers": [
        {"name": "proxy", "image": "proxy:1"}]}}}})
    assert operations(run(world, name, [body]))[f"Deployment.apps {world.namespace}/{body['metadata']['name']}"] == "configured"
    live = world.live(path) or {}
    metadata, pod = live["metadata"], live["spec"]["template"]["spec"]
    assert "by-hand" not in metadata["labels"] and "note" not in metadata["annotations"]
    assert metadata["finalizers"] == ["example.com/hand"], "how an object ends is no state of Git's"
    assert live["spec"]["revisionHistoryLimit"] == 10, "a field with a default goes back to it"
    containers = {one["name"]: one for one in pod["containers"]}
    assert set(containers) == {"web", "proxy"}
    assert containers["web"]["env"] == [{"name": "A", "value": "1"}]
    assert containers["web"]["imagePullPolicy"] == "IfNotPresent"
    assert metadata["annotations"]["injected"] == "true"
    assert live["spec"]["template"]["metadata"]["annotations"] == {others.RESTARTED: "2026-01-01T00:00:00Z"}
    assert run(world, name, [body], check_mode=True).result()["in_sync"]
