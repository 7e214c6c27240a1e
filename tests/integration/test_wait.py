# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting, on a real cluster: what ends it, how soon, with which words, and for how many requests."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Tuple

import pytest
from lab.proxy import CUT, status

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import (
    LISTERS,
    WATCHERS,
    Target,
    unhealthy,
    wait,
    wait_established,
    wait_gone,
)

ALL = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


@pytest.fixture
def client(cluster: Any) -> Cluster:
    return Cluster.of({"kubeconfig": cluster.kubeconfig})


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("wait-")] == []


def apply(client: Cluster, body: Dict[str, Any]) -> Tuple[Ref, Target]:
    resource = client.resource(body["apiVersion"], body["kind"])
    stored, _created = client.apply(resource, body)
    metadata = stored["metadata"]
    return Ref(resource.group, resource.kind, metadata.get("namespace", ""), metadata["name"]), Target.of(
        resource, stored
    )


def until_served(client: Cluster, api_version: str, kind: str) -> None:
    """Discovery shows a kind a moment after its definition is Established; on a busy machine that is longer than a request takes."""
    end = time.monotonic() + 30
    while not client.discover(refresh=True).find(api_version, kind):
        assert time.monotonic() < end, f"the API server does not serve {kind} in {api_version}"
        time.sleep(0.1)


def deployment(namespace: str, name: str, behaves: str = "", spec: Any = None, **pod: Any) -> Dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"test": namespace}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"lab/pod": behaves} if behaves else {}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "app", "image": "example.com/app:1"}],
                    **pod,
                },
            },
            **(spec or {}),
        },
    }


def job(namespace: str, name: str, behaves: str = "", **spec: Any) -> Dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "backoffLimit": 0,
            **spec,
            "template": {
                "metadata": {"annotations": {"lab/pod": behaves} if behaves else {}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "example.com/app:1"}]},
            },
        },
    }


def config(namespace: str, name: str, **metadata: Any) -> Dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, **metadata}}


@contextmanager
def meanwhile(act: Any, after: float = 0.5) -> Iterator[None]:
    """Somebody else does something during the wait."""
    timer = threading.Timer(after, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@contextmanager
def taking(at_most: float, at_least: float = 0.0) -> Iterator[None]:
    """at_most: a wait that ends too late takes its whole time-out, which is at least twice as long; no machine is so slow otherwise."""
    began = time.monotonic()
    yield
    assert at_least <= time.monotonic() - began <= at_most


def test_a_wait_costs_one_list_and_one_watch_per_kind(cluster: Any, client: Cluster, namespace: str) -> None:
    bodies = [deployment(namespace, f"web-{number}", spec={"replicas": 2}) for number in range(10)]
    bodies += [job(namespace, f"once-{number}") for number in range(5)]
    targets = dict(apply(client, body) for body in bodies)
    before = cluster.moment()
    result = wait(client, targets, 600)
    assert {found.status for found in result.values()} == {"Current"} and len(result) == 15
    asked = sorted((one["verb"], one["resource"]) for one in cluster.audit(before))
    assert asked == [("list", "deployments"), ("list", "jobs"), ("watch", "deployments"), ("watch", "jobs")]


def test_what_nothing_could_change_is_not_asked_for(cluster: Any, client: Cluster, namespace: str) -> None:
    targets = dict([apply(client, deployment(namespace, "web")), apply(client, config(namespace, "web"))])
    before = cluster.moment()
    assert wait(client, targets, 30) == {ref: ("Current", "") for ref in targets}
    assert {one["resource"] for one in cluster.audit(before)} == {"deployments"}


def test_the_selector_keeps_other_objects_off_the_wire(cluster: Any, client: Cluster, namespace: str) -> None:
    targets = dict([apply(client, deployment(namespace, "web"))])
    before = cluster.moment()
    wait(client, targets, 30, selector=f"test={namespace}")
    asked = cluster.audit(before)
    assert asked and all(f"labelSelector=test%3D{namespace}" in one["uri"] for one in asked)


def test_an_unschedulable_deployment_ends_in_time_with_its_pods_own_reason(client: Cluster, namespace: str) -> None:
    targets = dict(
        [
            apply(client, deployment(namespace, "nowhere", nodeSelector={"disk": "none"})),
            apply(client, deployment(namespace, "fine")),
        ]
    )
    with taking(at_least=3.0, at_most=60):
        result = wait(client, targets, 3)
    stuck = result[Ref("apps", "Deployment", namespace, "nowhere")]
    assert stuck.status == "InProgress"
    assert (
        stuck.message.startswith("0 of 1 replicas ready; Pod nowhere-")
        and "Unschedulable: 0/3 nodes are available" in stuck.message
    )
    assert result[Ref("apps", "Deployment", namespace, "fine")] == ("Current", "")
    failure = unhealthy(result, 3.0, 3.0)
    assert str(failure).startswith(
        f"1 of 2 objects are not healthy after 3 s (wait_timeout is 3 s): Deployment.apps {namespace}/nowhere is InProgress"
    )


@pytest.mark.parametrize(
    ("behaves", "says"),
    [("image-pull-backoff", "container app: ImagePullBackOff"), ("crash-loop", "CrashLoopBackOff: last exit code 1")],
)
def test_a_deployment_past_its_deadline_fails_fast_and_says_why(
    client: Cluster, namespace: str, behaves: str, says: str
) -> None:
    targets = dict(
        [
            apply(client, deployment(namespace, "broken", behaves, {"progressDeadlineSeconds": 1})),
            apply(client, deployment(namespace, "fine")),
        ]
    )
    with taking(at_most=300):
        result = wait(client, targets, 600)
    broken = result[Ref("apps", "Deployment", namespace, "broken")]
    assert broken.status == "Failed" and "its progress deadline passed" in broken.message and says in broken.message


def test_a_failed_object_may_recover_while_another_is_in_progress(client: Cluster, namespace: str) -> None:
    blocked = {"nodeSelector": {"disk": "none"}}
    targets = dict(
        [
            apply(client, deployment(namespace, "late", spec={"progressDeadlineSeconds": 1}, **blocked)),
            apply(client, deployment(namespace, "slow", **blocked)),
        ]
    )
    resource = client.resource("apps/v1", "Deployment")
    unblock = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
    lines: list = []

    def mend() -> None:
        for name in ("late", "slow"):
            client.patch(resource, namespace, name, unblock)

    with meanwhile(mend, after=4.0), taking(at_least=4.0, at_most=300):
        result = wait(client, targets, 600, progress=lines.append)
    assert {found.status for found in result.values()} == {"Current"}
    assert any("when its progress deadline passed" in line for line in lines), lines


def test_the_status_of_an_older_generation_is_not_taken_for_the_result(client: Cluster, namespace: str) -> None:
    wait(client, dict([apply(client, deployment(namespace, "web"))]), 30)
    ref, target = apply(client, deployment(namespace, "web", nodeSelector={"disk": "none"}))
    assert target.generation == 2
    assert wait(client, {ref: target}, 2)[ref].status == "InProgress"


def test_a_target_newer_than_what_the_server_shows_is_waited_for(client: Cluster, namespace: str) -> None:
    ref, target = apply(client, deployment(namespace, "web"))
    found = wait(client, {ref: target._replace(generation=target.generation + 1)}, 2)[ref]
    assert found == ("InProgress", "the server does not show this version yet")


def test_a_job_is_waited_for_until_it_is_complete(client: Cluster, namespace: str) -> None:
    ref, target = apply(client, job(namespace, "migrate", completions=3, parallelism=1))
    assert wait(client, {ref: target}, 30) == {ref: ("Current", "")}
    stored = client.get(target.resource, namespace, "migrate")
    assert stored and stored["status"]["succeeded"] == 3


def test_a_job_that_failed_ends_the_wait(client: Cluster, namespace: str) -> None:
    ref, target = apply(client, job(namespace, "migrate", "failed"))
    with taking(at_most=300):
        found = wait(client, {ref: target}, 600)[ref]
    assert found.status == "Failed" and found.message.startswith("BackoffLimitExceeded")


def test_a_job_cleaned_up_after_it_finished_counts_as_finished(client: Cluster, namespace: str) -> None:
    ref, target = apply(client, job(namespace, "brief", ttlSecondsAfterFinished=0))
    assert wait(client, {ref: target}, 30)[ref].status == "Current"
    assert wait_gone(client, {ref: target}, 30)[ref].status == "NotFound"
    assert wait(client, {ref: target}, 30) == {ref: ("Current", "finished and cleaned up (ttlSecondsAfterFinished)")}


def test_a_claim_without_a_volume_times_out_and_says_what_is_missing(client: Cluster, namespace: str) -> None:
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "none",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    ref, target = apply(
        client,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": namespace},
            "spec": claim,
        },
    )
    found = wait(client, {ref: target}, 1)[ref]
    assert found.status == "InProgress" and "no volume bound yet" in found.message


def test_an_autoscaler_without_a_metrics_server_is_no_reason_to_wait(client: Cluster, namespace: str) -> None:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1,
        "maxReplicas": 3,
    }
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": spec,
    }
    targets = dict([apply(client, deployment(namespace, "web")), apply(client, autoscaler)])
    with taking(at_most=300):
        assert {found.status for found in wait(client, targets, 600).values()} == {"Current"}


def test_an_object_deleted_during_the_wait_is_not_found_and_ends_it(client: Cluster, namespace: str) -> None:
    ref, target = apply(client, deployment(namespace, "nowhere", nodeSelector={"disk": "none"}))
    with meanwhile(lambda: client.delete(target.resource, namespace, "nowhere", target.uid)), taking(at_most=300):
        assert wait(client, {ref: target}, 600) == {ref: ("NotFound", "deleted during the wait")}


def test_another_object_of_the_same_name_is_not_the_one_waited_for(client: Cluster, namespace: str) -> None:
    ref, target = apply(client, deployment(namespace, "web"))
    client.delete(target.resource, namespace, "web", target.uid)
    apply(client, deployment(namespace, "web"))
    assert wait(client, {ref: target}, 30) == {
        ref: ("NotFound", "deleted and created again by somebody else during the wait")
    }


@pytest.fixture
def widgets(client: Cluster, namespace: str) -> Iterator[Dict[str, Any]]:
    """The definition of a kind of its own, with a status; removed afterwards."""
    group = f"{namespace}.example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    yield {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    resource = client.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    left = client.get(resource, "", f"widgets.{group}")
    if left:
        client.delete(resource, "", f"widgets.{group}", left["metadata"]["uid"])


def test_a_custom_resource_is_waited_for_by_its_ready_condition(
    cluster: Any, client: Cluster, namespace: str, widgets: Dict[str, Any]
) -> None:
    definition, target = apply(client, widgets)
    space, space_target = apply(client, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    established = wait_established(client, {definition: target, space: space_target}, 30)
    assert {found.status for found in established.values()} == {"Current"}
    until_served(client, f"{namespace}.example.com/v1", "Widget")

    kind = f"widgets.{namespace}.example.com"
    widget = {
        "apiVersion": f"{namespace}.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"size": 1},
    }
    ref, waited = apply(client, widget)

    def ready(value: str, generation: int) -> None:
        condition = {
            "type": "Ready",
            "status": value,
            "reason": "Provisioning",
            "message": "the disk is being made",
            "observedGeneration": generation,
        }
        cluster.kubectl(
            "patch",
            kind,
            "one",
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": {"conditions": [condition]}}),
        )

    ready("False", 1)
    assert wait(client, {ref: waited}, 1) == {ref: ("InProgress", "Provisioning: the disk is being made")}
    with meanwhile(lambda: ready("True", 1)), taking(at_most=300):
        assert wait(client, {ref: waited}, 600) == {ref: ("Current", "")}
    ref, waited = apply(client, {**widget, "spec": {"size": 2}})
    assert wait(client, {ref: waited}, 1)[ref].status == "InProgress", "Ready still speaks of the first generation"


def test_objects_whose_definition_is_deleted_are_gone(client: Cluster, namespace: str, widgets: Dict[str, Any]) -> None:
    definition, target = apply(client, widgets)
    wait_established(client, {definition: target}, 30)
    until_served(client, f"{namespace}.example.com/v1", "Widget")
    widget = {
        "apiVersion": f"{namespace}.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "one", "namespace": namespace},
    }
    ref, waited = apply(client, widget)
    client.delete(target.resource, "", definition.name, target.uid)
    with taking(at_most=300):
        assert wait_gone(client, {ref: waited, definition: target}, 600) == {
            ref: ("NotFound", "gone"),
            definition: ("NotFound", "gone"),
        }


def test_a_deletion_that_hangs_names_the_finalizer_that_holds_it(client: Cluster, namespace: str) -> None:
    held, held_target = apply(client, config(namespace, "held", finalizers=["example.com/backup"]))
    free, free_target = apply(client, config(namespace, "free"))
    kept, kept_target = apply(client, config(namespace, "kept"))
    for ref, target in ((held, held_target), (free, free_target)):
        client.delete(target.resource, namespace, ref.name, target.uid)
    with taking(at_least=1.0, at_most=60):
        result = wait_gone(client, {held: held_target, free: free_target, kept: kept_target}, 1)
    assert result[held] == ("Terminating", "being deleted, held by the finalizer example.com/backup")
    assert result[free] == ("NotFound", "gone")
    assert result[kept] == ("InProgress", "still there, its deletion has not begun")

    release = [{"op": "remove", "path": "/metadata/finalizers"}]
    with meanwhile(lambda: client.patch(held_target.resource, namespace, "held", release)), taking(at_most=300):
        assert wait_gone(client, {held: held_target}, 600) == {held: ("NotFound", "gone")}


def test_a_watch_too_old_for_the_server_begins_again_with_a_list(fault_proxy: Any, namespace: str) -> None:
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig})
    ref, target = apply(client, deployment(namespace, "nowhere", nodeSelector={"disk": "none"}))
    fault_proxy.script(status(410, message="too old resource version"), match=lambda method, path: "watch=true" in path)
    before = len(fault_proxy.requests)
    unblock = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
    with meanwhile(lambda: client.patch(target.resource, namespace, "nowhere", unblock), after=1.0), taking(at_most=300):
        assert wait(client, {ref: target}, 600)[ref].status == "Current"
    asked = [one.path for one in fault_proxy.requests[before:] if one.method == "GET"]
    assert len([path for path in asked if "watch=true" not in path]) == 2 and fault_proxy.faults == 1


def test_a_broken_watch_is_taken_up_again_without_another_list(fault_proxy: Any, namespace: str) -> None:
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig})
    ref, target = apply(client, deployment(namespace, "nowhere", nodeSelector={"disk": "none"}))
    fault_proxy.script(CUT, CUT, status(503, retry_after=0), match=lambda method, path: "watch=true" in path)
    before = len(fault_proxy.requests)
    unblock = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
    with meanwhile(lambda: client.patch(target.resource, namespace, "nowhere", unblock), after=1.0), taking(at_most=300):
        assert wait(client, {ref: target}, 600)[ref].status == "Current"
    asked = [one.path for one in fault_proxy.requests[before:] if one.method == "GET"]
    assert len([path for path in asked if "watch=true" not in path]) == 1
    assert fault_proxy.faults == 3


def test_a_server_that_is_away_for_a_while_delays_the_answer_only(fault_proxy: Any, namespace: str) -> None:
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig})
    ref, target = apply(client, deployment(namespace, "web"))
    fault_proxy.down()
    with meanwhile(lambda: fault_proxy.down(False), after=1.5), taking(at_least=1.0, at_most=300):
        assert wait(client, {ref: target}, 600) == {ref: ("Current", "")}


def test_a_time_out_holds_though_the_server_does_not_answer(fault_proxy: Any, namespace: str) -> None:
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig})
    ref, target = apply(client, deployment(namespace, "web"))
    fault_proxy.down()
    with taking(at_least=2.0, at_most=60):
        assert wait(client, {ref: target}, 2)[ref].status == "Unknown"
    fault_proxy.down(False)
    deadline = time.monotonic() + 20
    while any(thread.name.startswith("wait-") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.1)


def test_rights_in_the_namespaces_alone_are_enough(cluster: Any, client: Cluster, namespace: str) -> None:
    other = cluster.namespace()
    try:
        targets = dict(apply(client, deployment(space, "web")) for space in (namespace, other))
        limited = Cluster.of({"kubeconfig": cluster.service_account("waiter", [], namespace)})
        for space in (namespace, other):
            cluster.kubectl(
                "create",
                "rolebinding",
                "waiter",
                "-n",
                space,
                "--clusterrole=view",
                f"--serviceaccount={namespace}:waiter",
            )
        result = wait(limited, targets, 30)
        assert {found.status for found in result.values()} == {"Current"} and len(result) == 2
    finally:
        cluster.remove_namespace(other)


def test_many_namespaces_without_rights_beyond_them_take_a_bounded_number_of_threads(cluster: Any, client: Cluster, namespace: str) -> None:
    spaces = [namespace, *(cluster.namespace() for _number in range(14))]
    try:
        limited = Cluster.of({"kubeconfig": cluster.service_account("waiter", [], namespace)})
        for space in spaces:
            cluster.kubectl("create", "rolebinding", "waiter", "-n", space, "--clusterrole=view", f"--serviceaccount={namespace}:waiter")
            cluster.kubectl("create", "configmap", "a", "-n", space)
        config_maps, accounts = client.resource("v1", "ConfigMap"), client.resource("v1", "ServiceAccount")

        def targets(generation: int) -> Dict[Ref, Target]:
            return {**{Ref("", "ConfigMap", space, "a"): Target(config_maps, generation) for space in spaces},
                    **{Ref("", "ServiceAccount", space, "default"): Target(accounts, generation) for space in spaces}}

        seen = []

        def count(_line: str) -> None:
            seen.append(sum(thread.name.startswith("wait-") for thread in threading.enumerate()))

        found = wait(limited, targets(0), 30)
        assert {health.status for health in found.values()} == {"Current"} and len(found) == 30
        found = wait(limited, targets(99), 4, count)  # a generation that never comes
        assert {health.status for health in found.values()} == {"InProgress"}
        assert seen and max(seen) <= WATCHERS + LISTERS
    finally:
        for space in spaces[1:]:
            cluster.remove_namespace(space)


def test_missing_rights_end_the_wait_with_the_kind_they_miss(cluster: Any, client: Cluster, namespace: str) -> None:
    targets = dict(
        [
            apply(client, deployment(namespace, "nowhere", nodeSelector={"disk": "none"})),
            apply(client, job(namespace, "once")),
        ]
    )
    limited = Cluster.of({"kubeconfig": cluster.service_account("half", [{**ALL, "apiGroups": ["apps"]}], namespace)})
    with taking(at_most=300), pytest.raises(ApiError, match="jobs.batch is forbidden"):
        wait(limited, targets, 600)


def test_nothing_to_wait_for_asks_nothing(cluster: Any, client: Cluster) -> None:
    before = cluster.moment()
    assert wait(client, {}, 600) == {} and wait_gone(client, {}, 600) == {}
    assert cluster.audit(before) == []
