# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is deleted, scaled down, leaked or called in sync that must not be: the rare moments, on the real API server."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import threading
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import EXPIRE_SECONDS, Inventory
from lab import proxy
from reconciling import DEFAULTS, autoscaler, config_map, deployment, get, manifest, operations, wait_until


def crd(group, kind, versions, storage="v1", more=""):
    plural = kind.lower() + "s"
    text = manifest("CustomResourceDefinition", f"{plural}.{group}", "apiextensions.k8s.io/v1", more=f"""spec:
  group: {group}
  scope: Namespaced
  names: {{kind: {kind}, plural: {plural}, singular: {kind.lower()}, listKind: {kind}List}}
  versions:
""")
    for version in versions:
        text += f"""    - name: {version}
      served: true
      storage: {str(version == storage).lower()}
      schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""
    return text


# ---- prune


def test_objects_that_move_to_a_version_that_comes_with_the_same_commit_are_not_pruned(cluster, run, git_repo, namespace, group):
    git_repo.write("crd.yaml", crd(group, "Widget", ["v1"]))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more="spec: {size: 1}\n"))
    git_repo.commit()
    run()
    uid = get(cluster, namespace, f"widgets.{group}", "w")["metadata"]["uid"]
    git_repo.write("crd.yaml", crd(group, "Widget", ["v1", "v2"]))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v2", more="spec: {size: 2}\n"))
    git_repo.commit()
    planned = run(check_mode=True)
    result = run()
    live = get(cluster, namespace, f"widgets.{group}", "w")
    assert live and live["metadata"]["uid"] == uid and live["spec"] == {"size": 2}
    assert operations(result) == operations(planned) == {f"CustomResourceDefinition widgets.{group}": "configured",
                                                         "Widget w": "configured"}
    assert not run()["changed"]


def test_a_set_whose_parent_somebody_deleted_still_finds_what_git_no_longer_has(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("s.yaml", manifest("ServiceAccount", "only"))
    git_repo.commit()
    run()
    cluster.kubectl("delete", "configmap", f"nordic-gitops-{namespace}", "-n", namespace)
    git_repo.remove("s.yaml")  # the last of its kind: only the parent's record names it
    git_repo.commit()
    planned = operations(run(check_mode=True))
    assert operations(run()) == planned == {"ServiceAccount only": "pruned"}


def test_a_set_whose_parent_somebody_deleted_still_finds_what_is_in_a_namespace_that_git_no_longer_names(cluster, run, git_repo, namespace):
    other = cluster.namespace()
    try:
        git_repo.write("a.yaml", config_map("a"))
        git_repo.write("b.yaml", config_map("b", namespace=other))
        git_repo.commit()
        run()
        cluster.kubectl("delete", "configmap", f"nordic-gitops-{namespace}", "-n", namespace)
        git_repo.remove("a.yaml")
        git_repo.remove("b.yaml")
        git_repo.write("c.yaml", config_map("c"))  # new: nothing that Git names now is in the set
        git_repo.commit()
        planned = operations(run(check_mode=True))
        assert operations(run()) == planned == {"ConfigMap a": "pruned", "ConfigMap b": "pruned", "ConfigMap c": "created"}
        assert get(cluster, other, "configmap", "b") is None
    finally:
        cluster.remove_namespace(other)


def test_a_parent_deleted_during_a_run_is_written_again_whole(cluster, run, git_repo, namespace, monkeypatch):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("s.yaml", manifest("ServiceAccount", "only"))
    git_repo.commit()
    run()
    git_repo.remove("s.yaml")
    git_repo.write("a.yaml", config_map("a", "two"))
    commit = git_repo.commit()
    commit_record = Inventory.commit_record

    def deleted_before(self, *args):
        cluster.kubectl("delete", "configmap", self.name, "-n", namespace)
        commit_record(self, *args)

    monkeypatch.setattr(Inventory, "commit_record", deleted_before)  # fake: the moment of the fault; the real one follows
    assert operations(run()) == {"ConfigMap a": "configured", "ServiceAccount only": "pruned"}
    annotations = get(cluster, namespace, "configmap", f"nordic-gitops-{namespace}")["metadata"]["annotations"]
    assert annotations["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap" and annotations["nordic.gitops/commit"] == commit
    assert not run()["changed"]


@pytest.mark.parametrize("how, outcome", [("label", "pruned"), ("annotate", "skipped")])
def test_what_changed_since_it_was_listed_is_judged_again_before_it_is_pruned(cluster, run, git_repo, namespace, monkeypatch, how, outcome):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.commit()
    check_lock = Inventory.check_lock

    def changed_before(self):
        cluster.kubectl(how, "configmap", "b", "-n", namespace, "nordic.gitops/prune=disabled", "--overwrite")
        check_lock(self)

    monkeypatch.setattr(Inventory, "check_lock", changed_before)  # fake: the moment of the fault; the real one follows
    assert operations(run()) == {"ConfigMap b": outcome}
    assert bool(get(cluster, namespace, "configmap", "b")) == (outcome == "skipped")


def test_a_group_that_does_not_answer_is_named_and_nothing_of_it_forgotten(cluster, run, git_repo, namespace, group):
    git_repo.write("crd.yaml", crd(group, "Widget", ["v1"]))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1"))
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    git_repo.remove("crd.yaml")
    git_repo.remove("w.yaml")
    git_repo.commit()
    cluster.kubectl("delete", "crd", f"widgets.{group}")
    with silent(cluster, namespace, group):
        with pytest.raises(Failure, match=f"{group}.*does not answer"):
            run()
        annotations = get(cluster, namespace, "configmap", f"nordic-gitops-{namespace}")["metadata"]["annotations"]
        assert f"Widget.{group}" in annotations["applyset.kubernetes.io/contains-group-kinds"]
    assert run()["in_sync"]


def test_nothing_of_a_chart_is_pruned_while_an_api_that_it_may_ask_for_does_not_answer(cluster, run, git_repo, namespace, group, binaries):
    git_repo.write("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
    git_repo.write("web/templates/a.yaml", config_map("a"))
    git_repo.write("web/templates/b.yaml", config_map("b"))
    git_repo.commit()
    chart = dict(path="web", helm_binary=str(Path(binaries) / "helm"))
    run(**chart)
    git_repo.remove("web/templates/b.yaml")
    git_repo.write("web/templates/a.yaml", config_map("a", "two"))
    git_repo.commit()
    with silent(cluster, namespace, group):
        planned = run(check_mode=True, **chart)
        result = run(**chart)
        assert operations(result) == operations(planned) == {"ConfigMap a": "configured", "ConfigMap b": "skipped"}
        assert not result["in_sync"] and f"{group} does not answer" in next(
            change["reason"] for change in result["changes"] if change["operation"] == "skipped")
    assert operations(run(**chart)) == {"ConfigMap b": "pruned"}


@contextlib.contextmanager
def silent(cluster, namespace, group):
    """The group comes from an aggregated API server that is down."""
    cluster.kubectl("apply", "-f", "-", input=manifest("APIService", f"v1.{group}", "apiregistration.k8s.io/v1", more=f"""spec:
  group: {group}
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {{name: nobody, namespace: {namespace}}}
"""))
    try:
        wait_until(lambda: Cluster.of({"kubeconfig": str(cluster.kubeconfig)}).discover().stale.get(group))
        yield
    finally:
        cluster.kubectl("delete", "apiservice", f"v1.{group}")
    wait_until(lambda: group not in Cluster.of({"kubeconfig": str(cluster.kubeconfig)}).discover().stale)


# ---- autoscalers


@pytest.mark.parametrize("way", ["kubectl apply", "kubectl edit"])
def test_replicas_that_a_person_set_under_an_autoscaler_are_not_reset_to_one(cluster, run, git_repo, namespace, way):
    if way == "kubectl apply":
        cluster.kubectl("apply", "-n", namespace, "-f", "-", input=deployment("web", replicas=5) + "---\n" + autoscaler("web"))
    git_repo.write("web.yaml", deployment("web", replicas=5).replace("  replicas: 5\n", ""))
    git_repo.write("hpa.yaml", autoscaler("web"))
    git_repo.commit()
    run()
    if way == "kubectl edit":
        # Its first look raises 1 to 2, also over what is written while it looks.
        wait_until(lambda: get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 2)
        cluster.kubectl("patch", "deployment", "web", "-n", namespace, "--type=merge", "--field-manager=kubectl-edit",
                        "--patch", '{"spec":{"replicas":5}}')
        run()
    assert get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 5
    assert not run()["changed"]


def test_the_hand_over_to_keda_does_not_pass_through_one_replica(cluster, run, git_repo, namespace):
    definition = crd("keda.sh", "ScaledObject", ["v1alpha1"], "v1alpha1")
    cluster.kubectl("apply", "-f", "-", input=definition)
    try:
        cluster.kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh")
        git_repo.write("web.yaml", deployment("web", replicas=5))
        git_repo.commit()
        run()
        git_repo.write("keda.yaml", manifest("ScaledObject", "web", "keda.sh/v1alpha1", more="""spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 0
"""))
        git_repo.commit()
        run()
        assert get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 5
        cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=0")  # which is KEDA's to decide
        assert not run()["changed"]
    finally:
        cluster.kubectl("delete", "crd", "scaledobjects.keda.sh", "--wait=false")


def test_replicas_come_back_to_git_when_the_autoscaler_leaves_it(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web", replicas=3))
    git_repo.write("hpa.yaml", autoscaler("web"))
    git_repo.commit()
    run()
    cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=6")
    git_repo.remove("hpa.yaml")
    git_repo.commit()
    assert operations(run()) == {"Deployment web": "configured", "HorizontalPodAutoscaler web": "pruned"}
    assert get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 3
    assert not run()["changed"]


# ---- what is never replaced or taken away


def claim(name, more="", size="1Gi"):
    return manifest("PersistentVolumeClaim", name, more=f"""spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: {size}}}}}
{more}""")


def test_a_volume_claim_is_never_replaced_by_the_general_option(cluster, run, git_repo, namespace):
    git_repo.write("data.yaml", claim("data", "  storageClassName: slow\n"))
    git_repo.commit()
    run()
    uid = get(cluster, namespace, "pvc", "data")["metadata"]["uid"]
    git_repo.write("data.yaml", claim("data", "  storageClassName: fast\n"))
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Failure, match="data.yaml:1: PersistentVolumeClaim .*Replace=true"):
            run(replace_immutable=True, check_mode=check_mode)
    assert get(cluster, namespace, "pvc", "data")["metadata"]["uid"] == uid


def test_a_stateful_set_whose_claims_would_be_deleted_with_it_is_never_replaced_by_the_general_option(cluster, run, git_repo, namespace):
    def database(service, policy):
        return manifest("StatefulSet", "db", "apps/v1", more=f"""spec:
  replicas: 0
  serviceName: {service}
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: {policy}}}
  selector: {{matchLabels: {{app: db}}}}
  template: {{metadata: {{labels: {{app: db}}}}, spec: {{containers: [{{name: db, image: registry.example/db:1}}]}}}}
  volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}]
""")

    def uid():
        return get(cluster, namespace, "statefulset", "db")["metadata"]["uid"]

    git_repo.write("db.yaml", database("one", "Delete"))
    git_repo.commit()
    run()
    before = uid()
    git_repo.write("db.yaml", database("two", "Delete"))
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Failure, match="db.yaml:1: StatefulSet.apps .*Replace=true .* deleted, with its data, and created again"):
            run(replace_immutable=True, check_mode=check_mode)
    assert uid() == before
    git_repo.write("db.yaml", database("one", "Retain"))  # its claims would stay
    git_repo.commit()
    run()
    git_repo.write("db.yaml", database("two", "Retain"))
    git_repo.commit()
    assert operations(run(replace_immutable=True)) == {"StatefulSet db": "configured"}
    assert uid() != before


def test_an_adopted_claim_keeps_the_immutable_fields_that_git_does_not_mention(cluster, run, git_repo, namespace):
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=claim("data", "  storageClassName: slow\n"))
    uid = get(cluster, namespace, "pvc", "data")["metadata"]["uid"]
    git_repo.write("data.yaml", claim("data"))
    git_repo.commit()
    planned = operations(run(check_mode=True))
    assert operations(run()) == planned == {"PersistentVolumeClaim data": "configured"}
    live = get(cluster, namespace, "pvc", "data")
    assert live["metadata"]["uid"] == uid and live["spec"]["storageClassName"] == "slow"
    assert not run()["changed"]


def test_a_finalizer_and_an_owner_that_a_person_set_stay(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    cluster.kubectl("create", "configmap", "owner", "-n", namespace)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": get(cluster, namespace, "configmap", "owner")["metadata"]["uid"]}
    cluster.kubectl("patch", "configmap", "a", "-n", namespace, "--type=merge", "--patch",
                    json.dumps({"metadata": {"finalizers": ["example.com/backup"], "ownerReferences": [owner], "labels": {"x": "y"}}}))
    assert operations(run()) == {"ConfigMap a": "configured"}
    metadata = get(cluster, namespace, "configmap", "a")["metadata"]
    assert metadata["finalizers"] == ["example.com/backup"] and metadata["ownerReferences"][0]["name"] == "owner"
    assert "x" not in metadata["labels"]
    cluster.kubectl("patch", "configmap", "a", "-n", namespace, "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')
    assert not run()["changed"]


def test_several_things_added_in_one_list_go_and_the_others_stay(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    wanted = get(cluster, namespace, "deployment", "web")["spec"]["template"]["spec"]["containers"]
    containers = copy.deepcopy(wanted)
    containers[0]["env"] = [{"name": "A", "value": "1"}] + containers[0]["env"][:1] + [{"name": "B/~1", "value": "2"}] + containers[0]["env"][1:]
    containers.insert(0, {"name": "early", "image": "registry.example/x:1"})
    containers.append({"name": "late", "image": "registry.example/x:1"})
    # Not a replace: its controller writes the status at the same time, and one of the two would be refused.
    edit = {"metadata": {"annotations": {"a.b/c": "1"}}, "spec": {"template": {"spec": {"containers": containers}}}}
    cluster.kubectl("patch", "deployment", "web", "-n", namespace, "--type=merge", "--patch", json.dumps(edit))
    assert operations(run()) == {"Deployment web": "configured"}
    live = get(cluster, namespace, "deployment", "web")
    assert live["spec"]["template"]["spec"]["containers"] == wanted and "a.b/c" not in live["metadata"].get("annotations", {})
    assert not run()["changed"]


# ---- going away


def test_what_lives_in_a_namespace_that_is_being_deleted_comes_back_with_it(cluster, run, git_repo, namespace):
    inner = f"{namespace}-inner"
    git_repo.write("n.yaml", manifest("Namespace", inner))
    git_repo.write("a.yaml", config_map("a", namespace=inner))
    git_repo.write("h.yaml", manifest("ConfigMap", "held", namespace=inner))
    git_repo.commit()
    try:
        run()
        hold = '{"metadata":{"finalizers":["example.com/hold"]}}'
        for name in ("a", "held"):
            cluster.kubectl("patch", "configmap", name, "-n", inner, "--type=merge", "--patch", hold)
        cluster.kubectl("patch", "namespace", inner, "--type=merge", "--patch", '{"metadata":{"finalizers":["example.com/hold"]}}')
        cluster.kubectl("delete", "namespace", inner, "--wait=false")

        def let_go():
            for name in ("a", "held"):
                cluster.kubectl("patch", "configmap", name, "-n", inner, "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')
            cluster.kubectl("patch", "namespace", inner, "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')

        timer = threading.Timer(1.0, let_go)
        timer.start()
        result = run()
        timer.join()
        assert operations(result) == {f"Namespace {inner}": "created", "ConfigMap a": "created", "ConfigMap held": "created"}
        assert get(cluster, inner, "configmap", "a") and get(cluster, inner, "configmap", "held")
        assert not run()["changed"]
    finally:
        cluster.remove_namespace(inner)


# ---- waves and health


def test_a_wave_that_is_not_healthy_holds_the_next_one_in_later_runs_too(cluster, run, git_repo, namespace):
    git_repo.write("first.yaml", manifest("Job", "first", "batch/v1", annotations='argocd.argoproj.io/sync-wave: "-1"', more="""spec:
  template: {spec: {restartPolicy: Never, nodeSelector: {no: where}, containers: [{name: a, image: registry.example/a:1}]}}
"""))
    git_repo.write("second.yaml", config_map("second"))
    git_repo.commit()
    for _run in range(2):
        with pytest.raises(Failure, match="Job.batch .*/first.*was not applied") as caught:
            run(wait_timeout=2)
        assert "Everything was applied" not in str(caught.value)
        assert get(cluster, namespace, "configmap", "second") is None


def test_what_was_unhealthy_before_is_waited_for_though_nothing_is_written(run, git_repo):
    git_repo.write("s.yaml", manifest("Service", "lb", more="spec: {type: LoadBalancer, selector: {a: b}, ports: [{port: 80}]}\n"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    for _run in range(2):
        with pytest.raises(Failure, match="Service .*/lb") as caught:
            run(wait=True, wait_timeout=1)
        assert caught.value.details["healthy"] is False


def test_a_run_that_ends_unhealthy_does_not_claim_what_it_did_not_do(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.write("s.yaml", manifest("Service", "lb", more="spec: {type: LoadBalancer, selector: {a: b}, ports: [{port: 80}]}\n"))
    git_repo.commit()
    with pytest.raises(Failure) as caught:
        run(wait=True, wait_timeout=1)
    details = caught.value.details
    assert details["counts"]["pruned"] == 0 and details["counts"]["created"] == 1 and not details["in_sync"]
    assert {change["operation"] for change in details["changes"]} == {"created", "skipped"}
    assert get(cluster, namespace, "configmap", "b")


def test_check_mode_and_run_agree_on_what_prune_off_leaves(run, git_repo):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.commit()
    assert run(prune=False, check_mode=True)["in_sync"] is run(prune=False)["in_sync"] is False


# ---- conflicts


@pytest.fixture
def held_arguments(cluster, run, git_repo, namespace):
    """A controller that holds a list, which merges as a whole, with another value than Git's."""
    git_repo.write("web.yaml", deployment("web", more="          args: [serve, --port=80]\n"))
    git_repo.commit()
    run()
    cluster.kubectl("patch", "deployment", "web", "-n", namespace, "--type=json", "--field-manager=some-controller", "--patch",
                    '[{"op":"replace","path":"/spec/template/spec/containers/0/args","value":["serve","--port=81"]}]')
    return run


def arguments(cluster, namespace):
    return get(cluster, namespace, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_a_list_that_a_controller_holds_is_a_conflict_like_any_field(cluster, held_arguments, namespace):
    with pytest.raises(Refused, match=r"containers.*args.*some-controller"):
        held_arguments(on_conflict="fail")
    kept = held_arguments(on_conflict="keep")
    assert arguments(cluster, namespace) == ["serve", "--port=81"] and not kept["in_sync"]
    forced = held_arguments()
    assert arguments(cluster, namespace) == ["serve", "--port=80"]
    assert [item["manager"] for item in forced["conflicts"]] == ["some-controller"]


def test_fail_takes_what_people_hold_and_labels_of_controllers_are_no_conflict(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    cluster.kubectl("set", "image", "-n", namespace, "deployment/web", "web=registry.example/web:evil")
    cluster.kubectl("patch", "deployment", "web", "-n", namespace, "--type=merge", "--field-manager=some-controller",
                    "--patch", '{"metadata":{"annotations":{"some":"thing"}}}')
    git_repo.write("web.yaml", deployment("web").replace("  name: web\n", "  name: web\n  annotations: {mine: 'yes'}\n", 1))
    git_repo.commit()
    result = run(on_conflict="fail")
    assert operations(result) == {"Deployment web": "configured"} and result["conflicts"] == []
    annotations = get(cluster, namespace, "deployment", "web")["metadata"]["annotations"]
    assert annotations["some"] == "thing" and annotations["mine"] == "yes"


# ---- what is shown


def test_a_secret_does_not_leak_by_what_kubectl_keeps_in_an_annotation(cluster, run, git_repo, namespace):
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=manifest("Secret", "s", more="stringData: {password: hunter2}\n"))
    git_repo.write("s.yaml", manifest("Secret", "s", more="stringData: {password: hunter3}\n"))
    git_repo.commit()
    for check_mode in (True, False):
        text = json.dumps(run(diff=True, check_mode=check_mode))
        for secret in ("hunter2", "hunter3", "aHVudGVyMg", "aHVudGVyMw"):
            assert secret not in text


def test_the_planned_diff_of_a_replacement_is_the_real_one(run, git_repo):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    git_repo.write("web.yaml", deployment("web").replace("{app: web}", "{app: other}"))
    git_repo.commit()
    planned, done = (run(check_mode=mode, diff=True, replace_immutable=True) for mode in (True, False))
    assert "app: web" in done["diff"][0]["before"] and planned["diff"][0]["before"] == done["diff"][0]["before"]
    assert [change["reason"] for change in planned["changes"]] == [change["reason"] for change in done["changes"]]


@pytest.mark.parametrize("kind, api_version", [("TokenReview", "authentication.k8s.io/v1"), ("Binding", "v1")])
def test_a_kind_that_cannot_be_kept_is_named_with_its_place(run, git_repo, kind, api_version):
    git_repo.write("k.yaml", manifest(kind, "k", api_version))
    git_repo.commit()
    with pytest.raises(Failure, match=f"k.yaml:1: {kind} k: .*cannot"):
        run()


# ---- the lock


@pytest.fixture
def through_proxy(cluster, namespace, fault_proxy):
    """An inventory that is asked for by way of a bad network."""
    client = Cluster.of({"kubeconfig": str(fault_proxy.kubeconfig)})
    return Inventory(client, client.discover().find("v1", "ConfigMap"), namespace, namespace)


def test_a_lost_answer_about_the_lock_is_not_taken_for_another_run(fault_proxy, through_proxy):
    def parent(method, path):
        return method in ("POST", "PATCH") and "/configmaps" in path

    inventory = through_proxy.read()
    fault_proxy.script(proxy.LOSE, match=parent)  # the creating POST
    inventory.lock([("", "ConfigMap")], ["a"], 5)
    fault_proxy.script(proxy.LOSE, match=parent)  # a heartbeat
    inventory.renewed -= EXPIRE_SECONDS  # a heartbeat is due
    inventory.check_lock()
    fault_proxy.script(proxy.LOSE, match=parent)  # the last write
    inventory.commit_record("c1", "d", [("", "ConfigMap")], ["a"])
    assert inventory.read().commit == "c1"
    fault_proxy.script(proxy.LOSE, match=parent)  # taking up a parent that is there
    inventory.lock([], [], 5)
    inventory.unlock()
    assert fault_proxy.faults == 4


def test_a_run_that_slept_asks_for_its_lock_again_before_it_writes_on(cluster, namespace, through_proxy):
    sleeper = through_proxy.read()
    sleeper.lock([], [], 5)
    sleeper.check_lock()
    other = Inventory(sleeper.cluster, sleeper.resource, namespace, namespace).read()
    other.live = other._write(other._parent(set(), set(), "", "", "another-machine/x/1/2/3"), other._seen())
    sleeper.check_lock()  # nothing is asked while the lock cannot have been taken over
    sleeper.renewed -= EXPIRE_SECONDS
    with pytest.raises(Failure, match="took over"):
        sleeper.check_lock()
    with pytest.raises(Failure, match="took over"):
        sleeper.unlock()
    assert through_proxy.read().live["metadata"]["annotations"]["nordic.gitops/holder"] == "another-machine/x/1/2/3"


def test_a_waiting_run_that_could_not_look_does_not_take_a_live_ones_lock(cluster, namespace, through_proxy):
    holder = through_proxy.read()
    holder._me = "another-machine/x/1/2/3"
    holder.lock([], [], 5)
    clock = [0.0]

    def sleep(seconds):
        clock[0] += 20.0 if clock[0] == 0.0 else seconds  # the API server did not answer for a while: neither of us

    waiting = Inventory(holder.cluster, holder.resource, namespace, namespace).read()
    with pytest.raises(Failure, match="another reconcile of this name is at work"):
        waiting.lock([], [], 25, lambda: clock[0], sleep)
    holder.check_lock()
    holder.unlock()


# ---- a server that goes away


def test_a_server_that_stops_answering_is_not_asked_for_each_object(options, git_repo, fault_proxy):
    for index in range(60):
        git_repo.write(f"{index}.yaml", config_map(f"c{index}"))
    git_repo.commit()
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import reconcile
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import WRITERS
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.source import Source

    params = {**DEFAULTS, **options, "kubeconfig": str(fault_proxy.kubeconfig)}
    fault_proxy.randomly(1.0, [proxy.DROP], match=lambda method, path: method == "PATCH" and "/configmaps/c" in path)
    with pytest.raises(Failure, match="connection broke"):
        reconcile(Source.of(params), Cluster.of(params, patience=2.0), Options.of(params, False, False), print)
    assert len({request.path for request in fault_proxy.requests if request.fault}) <= WRITERS


# ---- signatures


def test_a_branch_with_a_good_signature_never_leads_back_behind_what_was_enforced(run, git_repo, tmp_path):
    key = tmp_path / "signing"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "signers").write_text("astrid@example.com " + " ".join((tmp_path / "signing.pub").read_text().split()[:2]) + "\n")
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key))):
        git_repo.git("config", name, value)
    run.options.update(verify_signatures=True, trusted_keys=str(tmp_path / "signers"))

    def commit(value):
        git_repo.write("a.yaml", config_map("a", value=value))
        return git_repo.commit(value, "--gpg-sign")

    first, second = commit("first"), commit("second")
    assert run()["commit"] == second
    git_repo.git("reset", "--hard", first)
    for check_mode in (True, False):
        with pytest.raises(Refused, match=f"main leads to the commit {first[:12]}, which does not have {second[:12]} in its history.*allow_rollback: true"):
            run(check_mode=check_mode, revision="main")
    diverged = commit("diverged")
    with pytest.raises(Refused, match=f"the commit {diverged[:12]}, which does not have {second[:12]} in its history"):
        run()
    assert run(revision=first)["commit"] == first  # a full commit is what the user has asked for
    assert run()["commit"] == diverged  # a descendant of what is on record now
    git_repo.git("reset", "--hard", first)
    assert run(allow_rollback=True)["commit"] == first


def test_a_branch_that_leads_back_without_signatures_is_followed_and_said(run, git_repo):
    def commit(value, when):
        git_repo.write("a.yaml", config_map("a", value=value))
        git_repo.git("add", "--all")
        git_repo.git("commit", "--quiet", "--message", value, env={"GIT_COMMITTER_DATE": f"2026-01-0{when}T00:00:00Z"})
        return git_repo.head()

    first = commit("first", 1)
    assert run()["commit"] == first
    second = commit("second", 2)
    assert run()["commit"] == second and not run.notes
    git_repo.git("reset", "--hard", first)
    for check_mode in (True, False):
        assert run(check_mode=check_mode)["commit"] == first
        assert [note for note in run.notes if f"HEAD leads back: to the commit {first[:12]}" in note and second[:12] in note and "verify_signatures" in note]
    git_repo.git("reset", "--hard", second)
    assert run()["commit"] == second and not run.notes
    git_repo.git("reset", "--hard", first)
    assert run(allow_rollback=True)["commit"] == first and not run.notes
    assert run(revision=second)["commit"] == second and run(revision=first)["commit"] == first and not run.notes  # a full commit is the user's word
    run(revision=second)
    git_repo.git("reset", "--hard", second)
    reverted = commit("first", 3)  # what git revert makes: a new commit with the old content
    assert run()["commit"] == reverted and not run.notes
