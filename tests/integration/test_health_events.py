# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health at each watch event of a real cluster: never Current before it is, and Current with the first event that shows it.

The truth is told by others: by the Pods as the server had them at that moment, and by the rules of `kubectl rollout status`. Time is that of the events,
their resourceVersions, so nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import Health, health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import Target, wait
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Ref

PATIENCE = 120  # seconds until a test gives up; no verdict depends on it


class Event(NamedTuple):
    version: int  # resourceVersion: etcd's own count, the same for all kinds
    kind: str
    gone: bool
    obj: Dict[str, Any]

    @property
    def name(self) -> str:
        return self.obj["metadata"]["name"]


class Recorder:
    """Every event of some kinds in a namespace, in the server's order."""

    def __init__(self, client: Cluster, namespace: str, *kinds: Tuple[str, str]) -> None:
        self.client, self.namespace = client, namespace
        self.kinds = [*kinds, ("v1", "Pod")]
        self.events: List[Event] = []
        self.changed = threading.Condition()
        self.over = threading.Event()
        self.threads = []
        for kind in self.kinds:
            items, version = client.list(client.resource(*kind), namespace)
            assert not items
            self.threads.append(threading.Thread(target=self._follow, args=(*kind, version), daemon=True))
            self.threads[-1].start()

    def _follow(self, api_version: str, kind: str, version: str) -> None:
        resource = self.client.resource(api_version, kind)
        while not self.over.is_set():
            for type_, obj in self.client.watch(resource, self.namespace, "", version, 2):
                version = obj["metadata"]["resourceVersion"]
                if type_ in ("ADDED", "MODIFIED", "DELETED"):
                    with self.changed:
                        self.events.append(Event(int(version), kind, type_ == "DELETED", {"apiVersion": api_version, "kind": kind, **obj}))
                        self.changed.notify_all()

    def close(self) -> None:
        """Stop, once every event until now is here: those of one kind may lag behind another's."""
        if not self.over.is_set():
            for kind in self.kinds:
                self._catch_up(*kind)
        self.over.set()
        for thread in self.threads:
            thread.join()
        self.events.sort()

    def _catch_up(self, api_version: str, kind: str) -> None:
        items, now = self.client.list(self.client.resource(api_version, kind), self.namespace)
        there = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}
        ends = time.monotonic() + PATIENCE
        with self.changed:
            while True:
                latest = {event.name: event for event in sorted(self.events) if event.kind == kind}
                if all(name in latest and latest[name].version >= version for name, version in there.items()) and not any(
                        name not in there and not event.gone and event.version <= int(now) for name, event in latest.items()):
                    return
                assert time.monotonic() < ends, f"the watch of {kind} does not come to what a LIST shows"
                self.changed.wait(1.0)

    def until(self, kind: str, name: str, holds: Callable[[Dict[str, Any]], bool]) -> Dict[str, Any]:
        """The latest state of an object, once it is as asked for."""
        ends = time.monotonic() + PATIENCE
        with self.changed:
            while True:
                latest = next((event for event in sorted(self.events, reverse=True) if (event.kind, event.name) == (kind, name)), None)
                if latest is not None and not latest.gone and holds(latest.obj):
                    return latest.obj
                assert time.monotonic() < ends, f"{kind} {name} did not come to it: {latest and latest.obj.get('status')}"
                self.changed.wait(1.0)

    def verdicts(self, kind: str, name: str) -> List[Tuple[Event, Health, List[Dict[str, Any]]]]:
        """(event, verdict, the Pods at that moment) of each event of one object."""
        return [(event, verdict, moments[-1]) for event, verdict, moments in self.told(kind, name)]

    def told(self, kind: str, name: str) -> List[Tuple[Event, Health, List[List[Dict[str, Any]]]]]:
        """(event, verdict, the Pods at each moment since its controller last wrote the status) of each event of one object.

        A status is worked out from what its controller has seen, and written a moment later: what it tells was true after the status before it.
        """
        pods: Dict[str, Dict[str, Any]] = {}
        moments: List[List[Dict[str, Any]]] = [[]]
        status: Any = None
        found = []
        for event in self.events:
            if event.kind == "Pod":
                pods.pop(event.name, None)
                if not event.gone:
                    pods[event.name] = event.obj
                moments = [*moments, [pod for pod in pods.values() if not pod["metadata"].get("deletionTimestamp")]]
            if (event.kind, event.name) == (kind, name) and not event.gone:
                found.append((event, health(event.obj), moments))
                if event.obj.get("status") != status:
                    status, moments = event.obj.get("status"), moments[-1:]
        return found


@pytest.fixture
def client(cluster: Any) -> Cluster:
    return Cluster.of({"kubeconfig": cluster.kubeconfig})


@pytest.fixture
def record(client: Cluster, namespace: str) -> Iterator[Callable[..., Recorder]]:
    recorders: List[Recorder] = []

    def start(*kinds: Tuple[str, str]) -> Recorder:
        recorders.append(Recorder(client, namespace, *kinds))
        return recorders[-1]

    yield start
    for recorder in recorders:
        recorder.close()


def apply(client: Cluster, body: Dict[str, Any]) -> Dict[str, Any]:
    return client.apply(client.resource(body["apiVersion"], body["kind"]), body)[0]


def workload(namespace: str, kind: str, replicas: Optional[int] = 2, image: str = "example.com/app:1", behaves: str = "", **spec: Any) -> Dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}), **({"serviceName": "web"} if kind == "StatefulSet" else {}),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"lab/pod": behaves} if behaves else {}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": image}]},
            },
            **spec,
        },
    }


def count(obj: Dict[str, Any], name: str) -> int:
    return (obj.get("status") or {}).get(name, 0)


def rolled_out(obj: Dict[str, Any]) -> bool:
    """What ends `kubectl rollout status` of a Deployment, and that no more replicas are left than it wants, which kubectl does not ask."""
    wanted, status = obj["spec"].get("replicas", 1), obj.get("status") or {}
    return (status.get("observedGeneration", 0) >= obj["metadata"]["generation"] and count(obj, "updatedReplicas") >= wanted
            and count(obj, "replicas") <= count(obj, "updatedReplicas") and count(obj, "availableReplicas") >= count(obj, "updatedReplicas")
            and count(obj, "replicas") <= wanted)


def is_ready(pod: Dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod.get("status", {}).get("conditions", []))


def images(pods: List[Dict[str, Any]]) -> List[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in pods if is_ready(pod)]


def is_current(obj: Dict[str, Any]) -> bool:
    return health(obj).status == "Current"


def generation(stored: Dict[str, Any]) -> Callable[[Dict[str, Any]], bool]:
    """Current at the generation that was written."""
    return lambda obj: obj["metadata"]["generation"] >= stored["metadata"]["generation"] and is_current(obj)


def test_a_deployment_is_current_just_when_its_pods_are_what_its_spec_asks_for(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("apps/v1", "Deployment"))
    steps = [
        workload(namespace, "Deployment", 2),
        workload(namespace, "Deployment", 2, "example.com/app:2"),  # a roll-out
        workload(namespace, "Deployment", 2, "example.com/app:bad", "image-pull-backoff"),  # an image that is missing
        workload(namespace, "Deployment", 2, "example.com/app:2"),  # it is reverted half-way
        workload(namespace, "Deployment", 4, "example.com/app:2"),
        workload(namespace, "Deployment", 1, "example.com/app:2"),
        workload(namespace, "Deployment", 0, "example.com/app:2"),
    ]
    for body in steps:
        stored = apply(client, body)
        if "bad" in str(body):
            seen.until("Pod", _pod_of(seen, "example.com/app:bad"), lambda pod: bool(pod["status"].get("containerStatuses")))
        else:
            seen.until("Deployment", "web", generation(stored))
    seen.close()
    told = seen.told("Deployment", "web")
    for event, verdict, moments in told:
        wanted, image = event.obj["spec"]["replicas"], event.obj["spec"]["template"]["spec"]["containers"][0]["image"]
        assert (verdict.status == "Current") == rolled_out(event.obj), (event.obj["status"], verdict)
        if verdict.status == "Current":
            assert any(images(pods) == [image] * wanted == [pod["spec"]["containers"][0]["image"] for pod in pods] for pods in moments), (event, verdict)
    assert {verdict.status for _event, verdict, _pods in told} == {"InProgress", "Current"}
    assert told[-1][1].status == "Current"


def _pod_of(seen: Recorder, image: str) -> str:
    ends = time.monotonic() + PATIENCE
    with seen.changed:
        while True:
            for event in seen.events:
                if event.kind == "Pod" and event.obj["spec"]["containers"][0]["image"] == image:
                    return event.name
            assert time.monotonic() < ends
            seen.changed.wait(1.0)


def test_a_deployment_that_its_spec_pauses_is_current_at_each_event_that_shows_its_generation(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("apps/v1", "Deployment"))
    apply(client, workload(namespace, "Deployment", 2, paused=True))
    seen.until("Deployment", "web", is_current)
    seen.close()
    for event, verdict, pods in seen.verdicts("Deployment", "web"):
        assert (verdict.status == "Current") == (count(event.obj, "observedGeneration") == 1) and not pods


def test_a_deployment_that_a_quota_refuses_fails_with_the_servers_words_and_is_never_current(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("apps/v1", "Deployment"))
    apply(client, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": namespace}, "spec": {"hard": {"pods": "0"}}})
    quota = client.resource("v1", "ResourceQuota")
    ends = time.monotonic() + PATIENCE
    while not client.get(quota, namespace, "small").get("status", {}).get("hard"):
        assert time.monotonic() < ends
        time.sleep(0.1)
    apply(client, workload(namespace, "Deployment", 1))
    seen.until("Deployment", "web", lambda obj: health(obj).status == "Failed")
    seen.close()
    told = [verdict for _event, verdict, _pods in seen.verdicts("Deployment", "web")]
    assert "exceeded quota" in told[-1].message and "Current" not in {verdict.status for verdict in told}
    first = next(number for number, (event, _verdict, _pods) in enumerate(seen.verdicts("Deployment", "web"))
                 if any(one["type"] == "ReplicaFailure" for one in (event.obj.get("status") or {}).get("conditions", [])))
    assert told[first].status == "Failed", "the first event that has the reason tells it"


@pytest.fixture
def denying(client: Cluster, namespace: str) -> Iterator[None]:
    """A policy that admits no ReplicaSet in the namespace; it takes a moment until the API server enforces it."""
    name = f"deny-{namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {"failurePolicy": "Fail",
                 "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
                                                         "resources": ["replicasets"]}]},
                 "validations": [{"expression": "false", "message": "no ReplicaSet tonight"}]}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"],
                 "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}}}
    stored = [apply(client, policy), apply(client, binding)]
    replica_sets = client.resource("apps/v1", "ReplicaSet")
    probe = {**workload(namespace, "ReplicaSet", 0), "metadata": {"name": "probe", "namespace": namespace}}
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            made = client.apply(replica_sets, probe)[0]
        except Exception as error:
            assert "no ReplicaSet tonight" in str(error)
            break
        client.delete(replica_sets, namespace, "probe", made["metadata"]["uid"])
        assert time.monotonic() < ends
        time.sleep(0.1)
    yield
    for obj in stored:
        client.delete(client.resource(obj["apiVersion"], obj["kind"]), "", name, obj["metadata"]["uid"])


def test_a_deployment_whose_replica_set_admission_refuses_fails_with_the_policys_words(client: Cluster, namespace: str, record: Any, denying: None) -> None:
    seen = record(("apps/v1", "Deployment"))
    apply(client, workload(namespace, "Deployment", 1))
    seen.until("Deployment", "web", lambda obj: health(obj).status == "Failed")
    seen.close()
    told = [verdict for _event, verdict, _pods in seen.verdicts("Deployment", "web")]
    assert "ReplicaSetCreateError" in told[-1].message and "no ReplicaSet tonight" in told[-1].message
    assert "Current" not in {verdict.status for verdict in told}


def at_revision(pods: List[Dict[str, Any]], revision: str) -> int:
    return sum(pod["metadata"]["labels"].get("controller-revision-hash") == revision and is_ready(pod) for pod in pods)


def test_a_stateful_set_is_current_just_when_its_pods_have_the_revision_that_is_due(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("apps/v1", "StatefulSet"))
    held_back = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
    steps = [
        workload(namespace, "StatefulSet", 3),
        workload(namespace, "StatefulSet", 3, "example.com/app:2"),
        workload(namespace, "StatefulSet", 3, "example.com/app:3", **held_back),  # one of three by its partition
        workload(namespace, "StatefulSet", 3, "example.com/app:2"),  # reverted
        workload(namespace, "StatefulSet", 1, "example.com/app:2"),
        workload(namespace, "StatefulSet", 0, "example.com/app:2"),
    ]
    for body in steps:
        seen.until("StatefulSet", "web", generation(apply(client, body)))
    seen.close()
    told = seen.told("StatefulSet", "web")
    for event, verdict, moments in told:
        spec, status = event.obj["spec"], event.obj.get("status") or {}
        due = spec["replicas"] - (spec["updateStrategy"].get("rollingUpdate") or {}).get("partition", 0)
        if verdict.status == "Current":
            assert any(len(pods) == spec["replicas"] == sum(map(is_ready, pods)) and at_revision(pods, status["updateRevision"]) >= due
                       for pods in moments), (status, verdict)
        elif status.get("observedGeneration") == event.obj["metadata"]["generation"]:
            # What is not Current lacks something that its own status shows.
            assert (count(event.obj, "readyReplicas") < spec["replicas"] or count(event.obj, "replicas") > spec["replicas"]
                    or count(event.obj, "updatedReplicas") < due or count(event.obj, "availableReplicas") < spec["replicas"]
                    or due == spec["replicas"] and status["currentRevision"] != status["updateRevision"]), (status, verdict)
    assert told[-1][1].status == "Current"


def test_a_stateful_set_whose_roll_out_is_reverted_half_way_is_not_current_while_a_pod_has_the_other_revision(
    client: Cluster, namespace: str, record: Any
) -> None:
    seen = record(("apps/v1", "StatefulSet"))
    seen.until("StatefulSet", "web", generation(apply(client, workload(namespace, "StatefulSet", 3))))
    apply(client, workload(namespace, "StatefulSet", 3, "example.com/app:bad", "image-pull-backoff"))
    seen.until("StatefulSet", "web", lambda obj: count(obj, "updatedReplicas") == 1 and count(obj, "readyReplicas") == 2)
    stored = apply(client, workload(namespace, "StatefulSet", 3))
    # A Pod that never gets ready holds its StatefulSet until a person deletes it (known issue "forced rollback"). Only that one: the
    # controller may have made its successor already, and to delete this would make true states of the status false ones.
    seen.until("StatefulSet", "web", lambda obj: count(obj, "observedGeneration") == stored["metadata"]["generation"])
    pod = client.get(client.resource("v1", "Pod"), namespace, "web-2")
    if pod is not None and pod["spec"]["containers"][0]["image"] == "example.com/app:bad":
        try:
            client.delete(client.resource("v1", "Pod"), namespace, "web-2", pod["metadata"]["uid"])
        except Failure as error:
            assert error.status in (404, 409), error  # the controller was quicker
    seen.until("StatefulSet", "web", generation(stored))
    seen.close()
    for event, verdict, moments in seen.told("StatefulSet", "web"):
        if verdict.status == "Current":
            image = event.obj["spec"]["template"]["spec"]["containers"][0]["image"]
            assert [image] * 3 in map(images, moments), (event.obj["status"], verdict)


def test_a_daemon_set_is_current_just_when_each_node_has_its_new_pod(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("apps/v1", "DaemonSet"))
    for image in ("example.com/app:1", "example.com/app:2"):
        seen.until("DaemonSet", "web", generation(apply(client, workload(namespace, "DaemonSet", None, image))))
    seen.close()
    for event, verdict, moments in seen.told("DaemonSet", "web"):
        image, wanted = event.obj["spec"]["template"]["spec"]["containers"][0]["image"], count(event.obj, "desiredNumberScheduled")
        complete = (count(event.obj, "observedGeneration") == event.obj["metadata"]["generation"]
                    and count(event.obj, "updatedNumberScheduled") >= wanted and count(event.obj, "numberAvailable") >= wanted)
        assert (verdict.status == "Current") == (complete and "status" in event.obj), (event.obj.get("status"), verdict)
        if verdict.status == "Current" and wanted:
            assert [image] * wanted in map(images, moments), (event.obj["status"], verdict)


def job(namespace: str, behaves: str = "", **spec: Any) -> Dict[str, Any]:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": namespace},
            "spec": {"backoffLimit": 0, **spec, "template": {"metadata": {"annotations": {"lab/pod": behaves} if behaves else {}}, "spec": {
                "restartPolicy": "Never", "containers": [{"name": "app", "image": "example.com/app:1"}]}}}}


def test_a_job_is_current_only_once_it_is_complete(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("batch/v1", "Job"))
    apply(client, job(namespace))
    seen.until("Job", "once", is_current)
    seen.close()
    for event, verdict, pods in seen.verdicts("Job", "once"):
        complete = any(one["type"] == "Complete" and one["status"] == "True" for one in (event.obj.get("status") or {}).get("conditions", []))
        assert (verdict.status == "Current") == complete
        assert not complete or [pod["status"]["phase"] for pod in pods] == ["Succeeded"]


def test_a_job_that_fails_is_failed_and_never_current(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("batch/v1", "Job"))
    apply(client, job(namespace, "failed"))
    seen.until("Job", "once", lambda obj: any(one["type"] == "Failed" for one in obj.get("status", {}).get("conditions", [])))
    seen.close()
    told = [verdict.status for _event, verdict, _pods in seen.verdicts("Job", "once")]
    assert told[-1] == "Failed" and "Current" not in told


def test_a_job_that_is_suspended_while_its_pod_runs_is_current_once_the_pod_is_gone(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("batch/v1", "Job"))
    apply(client, job(namespace, "pending"))
    seen.until("Job", "once", lambda obj: count(obj, "active") == 1)
    seen.until("Job", "once", generation(apply(client, job(namespace, "pending", suspend=True))))
    seen.close()
    for event, verdict, pods in seen.verdicts("Job", "once"):
        if verdict.status == "Current":
            assert event.obj["spec"]["suspend"] and not pods and not count(event.obj, "active")


@pytest.fixture
def late_class(client: Cluster, namespace: str) -> Iterator[str]:
    """A class that binds once a Pod uses the claim, and one volume of it on the first node."""
    name = f"late-{namespace}"
    node = client.list(client.resource("v1", "Node"))[0][0]["metadata"]["name"]
    made = [
        apply(client, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner",
                       "volumeBindingMode": "WaitForFirstConsumer"}),
        apply(client, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name, "local": {"path": "/data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}}),
    ]
    yield name
    for obj in made:
        client.delete(client.resource(obj["apiVersion"], obj["kind"]), "", name, obj["metadata"]["uid"])


def claim(namespace: str, storage: str) -> Dict[str, Any]:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": namespace},
            "spec": {"storageClassName": storage, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}


def target(client: Cluster, body: Dict[str, Any]) -> Tuple[Ref, Target]:
    resource = client.resource(body["apiVersion"], body["kind"])
    stored = apply(client, body)
    return Ref(resource.group, resource.kind, stored["metadata"].get("namespace", ""), stored["metadata"]["name"]), Target.of(resource, stored)


def test_a_claim_that_waits_for_its_first_consumer_holds_no_wait_that_has_none(client: Cluster, namespace: str, late_class: str) -> None:
    ref, alone = target(client, claim(namespace, late_class))
    found = wait(client, {ref: alone}, PATIENCE)
    assert found[ref] == ("Current", f"not bound: its class {late_class} waits for the first Pod that uses it")


def test_a_claim_is_waited_for_until_it_is_bound_when_a_pod_of_the_same_wait_uses_it(client: Cluster, namespace: str, late_class: str, record: Any) -> None:
    seen = record(("v1", "PersistentVolumeClaim"))
    user = workload(namespace, "Deployment", 1)
    user["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    targets = dict([target(client, claim(namespace, late_class)), target(client, user)])
    found = wait(client, targets, PATIENCE)
    assert {verdict.status for verdict in found.values()} == {"Current"}
    seen.until("PersistentVolumeClaim", "data", is_current)
    seen.close()
    for event, verdict, _pods in seen.verdicts("PersistentVolumeClaim", "data"):
        assert (verdict.status == "Current") == (event.obj["status"].get("phase") == "Bound")


def test_an_autoscaler_is_current_once_its_controller_found_its_target(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("autoscaling/v1", "HorizontalPodAutoscaler"))
    apply(client, workload(namespace, "Deployment", 1))
    apply(client, {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": namespace},
                   "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 3}})
    seen.until("HorizontalPodAutoscaler", "web", is_current)
    seen.close()
    told = seen.verdicts("HorizontalPodAutoscaler", "web")
    for event, verdict, _pods in told:
        annotations = event.obj["metadata"].get("annotations") or {}
        assert (verdict.status == "Current") == ("autoscaling.alpha.kubernetes.io/conditions" in annotations), verdict
    assert told[0][1].status == "InProgress"


def test_a_disruption_budget_is_current_at_each_event_of_its_controller_that_shows_enough_pods(client: Cluster, namespace: str, record: Any) -> None:
    seen = record(("policy/v1", "PodDisruptionBudget"))
    apply(client, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": namespace},
                   "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}})
    seen.until("PodDisruptionBudget", "web", is_current)  # no Pod yet, and nothing wrong
    apply(client, workload(namespace, "Deployment", 2))
    seen.until("PodDisruptionBudget", "web", lambda obj: count(obj, "currentHealthy") == 2)
    seen.close()
    for event, verdict, pods in seen.verdicts("PodDisruptionBudget", "web"):
        status = event.obj.get("status") or {}
        if verdict.status == "Current":
            assert status["observedGeneration"] == 1 and (status["expectedPods"] == 0 or status["currentHealthy"] >= min(2, status["expectedPods"]))
        else:
            assert not status.get("observedGeneration") or status["currentHealthy"] < 2
    assert seen.verdicts("PodDisruptionBudget", "web")[-1][1].status == "Current"
