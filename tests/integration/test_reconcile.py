# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is promised of one reconcile, on the real API server."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from lab import microservices
from reconciling import autoscaler, config_map, deployment, exists, get, manifest, operations, wait_until


# ---- enforcing


def test_a_first_run_creates_what_git_has_and_a_second_writes_nothing(cluster, run, git_repo):
    git_repo.write("web.yaml", deployment("web") + "---\n" + config_map("settings"))
    commit = git_repo.commit()
    first = run()
    assert operations(first) == {"ConfigMap settings": "created", "Deployment web": "created"}
    assert first["changed"] and first["in_sync"] and first["commit"] == commit
    assert set(first["seconds"]) == {"fetch", "render", "plan", "apply", "wait", "prune"}
    since = cluster.moment()
    second = run()
    assert not second["changed"] and second["in_sync"] and second["dry_runs"] == 0
    assert second["counts"]["unchanged"] == 2 and second["changes"] == []
    verbs = {entry["verb"] for entry in cluster.audit(since) if "nordic.gitops" in (entry["userAgent"] or "")}
    assert verbs <= {"get", "list"}


def test_a_first_run_lists_no_kind_twice_where_its_namespace_is_new(cluster, run, git_repo, namespace):
    inner = f"{namespace}-inner"
    objects = microservices.write(git_repo.path, 1, inner)
    git_repo.commit()
    asked = []
    try:
        for told in (dict(check_mode=True), dict(wait=False), dict(wait=False)):
            since = cluster.moment()
            result = run(**told)
            asked.append(Counter(entry["resource"] for entry in cluster.audit(since) if entry["userAgent"] == "nordic.gitops" and entry["verb"] == "list"))
        assert result["counts"]["unchanged"] == objects and len(asked[2]) == 9
        # Each kind once, the ConfigMap of the inventory, and the Namespace without its label: may it be adopted?
        assert asked[2] == Counter(asked[2].keys()) + Counter(["configmaps"])
        assert asked[0] == asked[1] == asked[2] + Counter(["namespaces"])
    finally:
        cluster.remove_namespace(inner)


def test_a_chart_sees_the_version_and_the_kinds_of_the_cluster_and_new_kinds_of_it_are_put_on_record(
        cluster, run, git_repo, namespace, group, binaries):
    git_repo.write("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\nkubeVersion: '>= 1.30.0-0'\n")
    git_repo.write("web/templates/a.yaml", config_map("a", '"{{ .Capabilities.KubeVersion.Version }}"')
                   + f'{{{{ if .Capabilities.APIVersions.Has "{group}/v1/Widget" }}}}\n---\n' + manifest("ServiceAccount", "widgets") + "{{ end }}\n")
    git_repo.commit()
    chart = dict(path="web", helm_binary=str(Path(binaries) / "helm"))
    assert operations(run(**chart)) == {"ConfigMap a": "created"}
    version = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert get(cluster, namespace, "configmap", "a")["data"] == {"key": version}
    assert not run(**chart)["changed"]

    def served():
        return Cluster.of({"kubeconfig": str(cluster.kubeconfig)}).discover().preferred(group, "Widget")

    cluster.kubectl("apply", "-f", "-", input=CRD.format(group=group))
    wait_until(served)
    planned = operations(run(check_mode=True, **chart))
    assert operations(run(**chart)) == planned == {"ServiceAccount widgets": "created"}
    assert not run(**chart)["changed"]
    # The commit was settled, and yet the next run must find what it came to mean.
    record = get(cluster, namespace, "configmap", f"nordic-gitops-{namespace}")["metadata"]["annotations"]
    assert record["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap,ServiceAccount"
    cluster.kubectl("delete", "crd", f"widgets.{group}")
    wait_until(lambda: not served())
    assert operations(run(**chart)) == {"ServiceAccount widgets": "pruned"}


@pytest.mark.parametrize("damage", ["edit", "scale", "label", "env"])
def test_what_a_colleague_changed_by_kubectl_is_healed_by_one_write_and_two_for_the_record(cluster, run, git_repo, namespace, damage):
    git_repo.write("web.yaml", deployment("web", replicas=2))
    git_repo.commit()
    run()
    target = ("-n", namespace, "deployment/web")
    {
        "edit": lambda: cluster.kubectl("set", "image", *target, "web=registry.example/web:evil"),
        "scale": lambda: cluster.kubectl("scale", *target, "--replicas=5"),
        "label": lambda: cluster.kubectl("label", *target, "added=by-hand"),
        "env": lambda: cluster.kubectl("set", "env", *target, "ADDED=by-hand"),
    }[damage]()
    since = cluster.moment()
    result = run()
    assert operations(result) == {"Deployment web": "configured"}
    writes = [entry for entry in cluster.audit(since) if "nordic.gitops" in (entry["userAgent"] or "")
              and entry["verb"] not in ("get", "list", "watch") and not entry["dryRun"] and entry["code"] < 300]
    assert sorted(entry["resource"] for entry in writes) == ["configmaps", "configmaps", "deployments"]
    assert {entry["name"] for entry in writes if entry["resource"] == "configmaps"} == {f"nordic-gitops-{namespace}"}
    live = get(cluster, namespace, "deployment", "web")
    container = live["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.example/web:1"
    assert live["spec"]["replicas"] == 2
    assert "added" not in live["metadata"]["labels"]
    assert [item["name"] for item in container["env"]] == ["FIRST", "SECOND"]
    assert not run()["changed"]


def test_changes_of_a_local_repository_that_are_not_committed_cause_a_warning(run, git_repo):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    assert operations(run()) == {"ConfigMap a": "created"} and not run.notes
    git_repo.write("a.yaml", config_map("a", "two"))
    for check_mode in (True, False):
        assert not run(check_mode=check_mode)["changed"] and [note for note in run.notes if "not committed" in note and "a.yaml" in note]


def test_a_deleted_object_comes_back(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.commit()
    run()
    cluster.kubectl("delete", "configmap", "settings", "-n", namespace)
    result = run()
    assert operations(result) == {"ConfigMap settings": "created"} and result["changes"][0]["reason"] == "somebody deleted it"
    assert exists(cluster, namespace, "configmap", "settings")


def test_an_object_that_is_being_deleted_is_created_again_once_it_is_gone(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.commit()
    run()
    cluster.kubectl("patch", "configmap", "settings", "-n", namespace, "--type=merge",
                    "--patch", '{"metadata":{"finalizers":["example.com/hold"]}}')
    cluster.kubectl("delete", "configmap", "settings", "-n", namespace, "--wait=false")
    timer = threading.Timer(1.0, lambda: cluster.kubectl("patch", "configmap", "settings", "-n", namespace, "--type=merge",
                                                         "--patch", '{"metadata":{"finalizers":null}}'))
    timer.start()
    result = run()
    timer.join()
    assert operations(result) == {"ConfigMap settings": "created"}
    assert "deletionTimestamp" not in get(cluster, namespace, "configmap", "settings")["metadata"]


def test_a_restart_by_kubectl_rollout_is_left_alone(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    cluster.kubectl("rollout", "restart", "deployment/web", "-n", namespace)
    assert not run()["changed"]
    annotations = get(cluster, namespace, "deployment", "web")["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in annotations


def test_the_number_of_replicas_is_left_to_an_autoscaler_but_not_switched_off(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web", replicas=2))
    git_repo.commit()
    run()
    git_repo.write("hpa.yaml", autoscaler("web"))
    git_repo.commit()
    planned, done = run(check_mode=True, diff=True), run(diff=True)
    assert done["diff"] == planned["diff"] and len(done["diff"]) == len(done["changes"])
    assert all(item.get("prepared") or item["before"] != item["after"] for item in done["diff"])
    # Of the Deployment only who manages its number changes, and its diff says so.
    told, = [item["prepared"] for item in done["diff"] if "prepared" in item]
    assert operations(done)["Deployment web"] == "configured" and len(done["diff"]) == 2
    assert told.startswith(f"Deployment.apps {namespace}/web (web.yaml:1): ") and "replicas" in told
    # The hand-over must never pass through the default, 1.
    assert get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 2
    cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=4")
    assert not run()["changed"]
    cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=0")
    result = run()
    assert operations(result) == {"Deployment web": "configured"}
    assert get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 2
    assert not run()["changed"]


def test_objects_applied_by_kubectl_are_adopted_and_its_leftovers_removed(cluster, run, git_repo, namespace):
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=deployment("web", more="") .replace(
        "metadata:\n  name: web\n", "metadata:\n  name: web\n  labels: {left: over}\n"))
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    assert operations(run()) == {"Deployment web": "configured"}
    metadata = get(cluster, namespace, "deployment", "web")["metadata"]
    assert "left" not in metadata["labels"]
    assert "kubectl.kubernetes.io/last-applied-configuration" not in metadata.get("annotations", {})
    second = run()
    assert not second["changed"] and second["dry_runs"] == 0


# ---- order


CRD = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{size: {{type: integer}}}}}}}}}}}}
"""


def test_a_crd_a_namespace_and_what_needs_them_come_in_one_run(cluster, run, git_repo, namespace, group):
    inner = f"{namespace}-inner"
    git_repo.write("a-widget.yaml", manifest("Widget", "first", f"{group}/v1", inner, "spec: {size: 3}\n"))
    git_repo.write("b-namespace.yaml", manifest("Namespace", inner))
    git_repo.write("c-crd.yaml", CRD.format(group=group))
    git_repo.commit()
    try:
        planned = run(check_mode=True)
        assert set(operations(planned).values()) == {"created"} and planned["counts"]["created"] == 3
        assert [change["object"]["kind"] for change in planned["changes"] if "unverified" in change] == ["Widget"]
        result = run(wait=True)
        assert operations(result) == operations(planned)
        assert not run()["changed"]
    finally:
        cluster.remove_namespace(inner)


def test_a_wave_begins_only_when_the_one_before_is_healthy(cluster, run, git_repo, namespace):
    git_repo.write("first.yaml", manifest("Job", "first", "batch/v1", annotations='argocd.argoproj.io/sync-wave: "-1"', more="""spec:
  template: {spec: {restartPolicy: Never, nodeSelector: {no: where}, containers: [{name: a, image: registry.example/a:1}]}}
"""))
    git_repo.write("second.yaml", config_map("second"))
    git_repo.commit()
    with pytest.raises(Failure, match="Job.batch .*/first") as caught:
        run(wait_timeout=3)
    assert "was not applied" in str(caught.value)
    assert not exists(cluster, namespace, "configmap", "second")


def test_a_dependency_is_written_first(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a", annotations=f"config.kubernetes.io/depends-on: /namespaces/{namespace}/ConfigMap/b"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    stamps = [get(cluster, namespace, "configmap", name)["metadata"]["resourceVersion"] for name in ("b", "a")]
    assert int(stamps[0]) < int(stamps[1])


# ---- prune


def test_what_git_no_longer_has_is_pruned_and_what_was_never_ours_stays(cluster, run, git_repo, namespace):
    cluster.kubectl("create", "configmap", "foreign", "-n", namespace)
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.write("s.yaml", manifest("ServiceAccount", "only"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.remove("s.yaml")  # the last of its kind
    git_repo.commit()
    planned = run(check_mode=True)
    assert exists(cluster, namespace, "configmap", "b")
    result = run(wait=True)
    assert operations(result) == operations(planned) == {"ConfigMap b": "pruned", "ServiceAccount only": "pruned"}
    assert not exists(cluster, namespace, "configmap", "b") and not exists(cluster, namespace, "serviceaccount", "only")
    assert exists(cluster, namespace, "configmap", "foreign") and exists(cluster, namespace, "configmap", "a")
    assert not run()["changed"]


def test_waves_are_pruned_in_the_reverse_of_their_order(cluster, run, git_repo):
    for name, wave in (("a", "5"), ("b", "-1"), ("c", "0")):
        git_repo.write(f"{name}.yaml", config_map(name, annotations=f'argocd.argoproj.io/sync-wave: "{wave}"'))
    git_repo.write("stays.yaml", config_map("stays"))
    git_repo.commit()
    run()
    for name in "abc":
        git_repo.remove(f"{name}.yaml")
    git_repo.commit()
    since = cluster.moment()
    run()
    assert [entry["name"] for entry in cluster.audit(since) if entry["verb"] == "delete" and not entry["dryRun"]] == ["a", "c", "b"]


def test_a_namespace_that_depends_on_another_object_is_there_before_its_content(cluster, run, git_repo, namespace):
    inner = f"{namespace}-inner"
    git_repo.write("space.yaml", manifest("Namespace", inner, annotations=f"config.kubernetes.io/depends-on: /namespaces/{namespace}/ConfigMap/first"))
    git_repo.write("first.yaml", config_map("first", namespace=namespace))
    git_repo.write("inside.yaml", config_map("inside", namespace=inner))
    git_repo.commit()
    try:
        assert set(operations(run()).values()) == {"created"}
        assert exists(cluster, inner, "configmap", "inside") and not run()["changed"]
    finally:
        cluster.remove_namespace(inner)


@pytest.mark.parametrize("annotation", ["nordic.gitops/prune: disabled", "kustomize.toolkit.fluxcd.io/prune: disabled",
                                        "argocd.argoproj.io/sync-options: Prune=false", "helm.sh/resource-policy: keep"])
def test_an_object_that_asks_to_stay_is_skipped_with_the_reason(cluster, run, git_repo, namespace, annotation):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b", annotations=annotation))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.commit()
    result = run()
    assert operations(result) == {"ConfigMap b": "skipped"} and not result["changed"]
    assert annotation.split(": ")[0] in result["changes"][0]["reason"]
    assert exists(cluster, namespace, "configmap", "b")
    assert operations(run()) == {"ConfigMap b": "skipped"}


def test_a_copy_that_an_operator_made_with_our_label_is_never_pruned(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    copy = get(cluster, namespace, "configmap", "a")
    copy["metadata"] = {"name": "copy", "namespace": namespace, "labels": copy["metadata"]["labels"]}
    cluster.kubectl("create", "-f", "-", input=json.dumps(copy))
    result = run()
    assert operations(result) == {"ConfigMap copy": "skipped"} and "was not applied by" in result["changes"][0]["reason"]
    assert exists(cluster, namespace, "configmap", "copy")


def test_an_empty_render_prunes_nothing_unless_told(cluster, run, git_repo, namespace):
    git_repo.write("apps/a.yaml", config_map("a"))
    git_repo.commit()
    run(path="apps")
    git_repo.remove("apps/a.yaml")
    git_repo.write("apps/README", "nothing here\n")
    git_repo.commit()
    with pytest.raises(Failure):
        run(path="apps")
    assert exists(cluster, namespace, "configmap", "a")
    assert operations(run(path="apps", allow_empty=True, prune_limit="100%")) == {"ConfigMap a": "pruned"}


def test_more_than_the_limit_is_refused_with_names_and_numbers(cluster, run, git_repo, namespace):
    for index in range(14):
        git_repo.write(f"{index}.yaml", config_map(f"c{index}"))
    git_repo.commit()
    run()
    for index in range(11):
        git_repo.remove(f"{index}.yaml")
    git_repo.commit()
    with pytest.raises(Refused, match="would prune 11 of 14 objects, prune_limit is 50%.*ConfigMap .*/c0"):
        run()
    assert exists(cluster, namespace, "configmap", "c0")
    assert run(prune_limit="11")["counts"]["pruned"] == 11


def test_a_namespace_is_pruned_only_when_asked_and_stays_on_record_until_then(cluster, run, git_repo, namespace):
    inner = f"{namespace}-inner"
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("n.yaml", manifest("Namespace", inner))
    git_repo.commit()
    run()
    git_repo.remove("n.yaml")
    git_repo.commit()
    assert operations(run()) == {f"Namespace {inner}": "skipped"}
    assert operations(run(prune_protected=True)) == {f"Namespace {inner}": "pruned"}


def test_nothing_is_pruned_after_an_error(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.write("bad.yaml", manifest("Service", "bad", more="spec: {ports: [{port: 99999999}]}\n"))
    git_repo.commit()
    with pytest.raises(Failure, match=r"bad.yaml:1: Service .*/bad.*spec.ports"):
        run()
    assert exists(cluster, namespace, "configmap", "b")


def test_nothing_is_pruned_while_something_is_not_healthy(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.write("web.yaml", deployment("web").replace("      containers:", "      nodeSelector: {no: where}\n      containers:"))
    git_repo.commit()
    with pytest.raises(Failure, match="Deployment.apps .*/web") as caught:
        run(wait=True, wait_timeout=4)
    assert "nodes are available" in str(caught.value)
    assert exists(cluster, namespace, "configmap", "b")


def test_prune_off_says_what_is_left(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    git_repo.remove("b.yaml")
    git_repo.commit()
    result = run(prune=False)
    assert operations(result) == {"ConfigMap b": "skipped"} and not result["in_sync"]
    assert operations(run()) == {"ConfigMap b": "pruned"}


# ---- ownership


def test_an_object_of_another_reconcile_is_refused_unless_adopt_is_always(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run(name=f"{namespace}-other")
    with pytest.raises(Refused, match=f"a.yaml:1: ConfigMap .*/a belongs to the reconcile {namespace}-other .inventory_namespace {namespace}."):
        run()
    assert operations(run(adopt="always")) == {"ConfigMap a": "configured"}
    # It left the other set, so that one neither prunes nor fights for it.
    git_repo.remove("a.yaml")
    git_repo.write("c.yaml", config_map("c"))
    git_repo.commit()
    assert operations(run(name=f"{namespace}-other")) == {"ConfigMap c": "created"}
    assert exists(cluster, namespace, "configmap", "a")


def test_an_object_of_a_set_without_a_parent_is_refused_by_its_id(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run(name=f"{namespace}-other")
    cluster.kubectl("delete", "-n", namespace, "configmap", f"nordic-gitops-{namespace}-other")
    with pytest.raises(Refused, match="a.yaml:1: ConfigMap .*/a belongs to another ApplySet .applyset-.*, whose parent was not found"):
        run()


@pytest.mark.parametrize("mark, tool", [("labels: {kustomize.toolkit.fluxcd.io/name: apps}", "Flux"),
                                        ("annotations: {argocd.argoproj.io/tracking-id: 'x:/ConfigMap:y/a'}", "Argo CD"),
                                        ("annotations: {objectset.rio.cattle.io/id: ''}", "k3s"),
                                        ("annotations: {meta.helm.sh/release-name: web}", "Helm")])
def test_an_object_of_another_tool_is_refused_by_its_name(cluster, run, git_repo, namespace, mark, tool):
    cluster.kubectl("create", "-n", namespace, "-f", "-",
                    input=config_map("a").replace("  name: a\n", f"  name: a\n  {mark}\n"))
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    with pytest.raises(Refused, match=f"belongs to {tool}"):
        run()


def test_adopt_never_refuses_what_exists(cluster, run, git_repo, namespace):
    cluster.kubectl("create", "configmap", "a", "-n", namespace)
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    with pytest.raises(Refused, match="adopt: unowned takes it over"):
        run(adopt="never")
    assert operations(run()) == {"ConfigMap a": "configured"}


def test_kubectl_understands_the_inventory(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    parent = get(cluster, namespace, "configmap", f"nordic-gitops-{namespace}")["metadata"]
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert parent["annotations"]["applyset.kubernetes.io/tooling"].startswith("nordic.gitops/v")
    identity = parent["labels"]["applyset.kubernetes.io/id"]
    listed = cluster.kubectl("get", "configmap", "-n", namespace, "-l", f"applyset.kubernetes.io/part-of={identity}", "-o", "name")
    assert listed.split() == ["configmap/a"]
    # kubectl computes the same id for this parent and refuses it for what it is: another tool's.
    with pytest.raises(Exception, match="nordic.gitops"):
        cluster.kubectl("apply", "-n", namespace, "--server-side", "--prune", f"--applyset=configmaps/nordic-gitops-{namespace}", "-f", "-",
                        input=config_map("z"))


# ---- conflicts


@pytest.fixture
def conflicting(cluster, run, git_repo, namespace):
    """A controller that holds the number of replicas with another value than Git's."""
    git_repo.write("web.yaml", deployment("web", replicas=2))
    git_repo.commit()
    run()
    cluster.kubectl("patch", "deployment", "web", "-n", namespace, "--type=merge", "--field-manager=some-controller",
                    "--patch", '{"spec":{"replicas":7}}')
    return run


def test_a_conflict_is_returned_as_data_and_forced_by_default(cluster, conflicting, namespace):
    result = conflicting()
    assert [(item["object"]["name"], item["field"], item["manager"]) for item in result["conflicts"]] == [
        ("web", ".spec.replicas", "some-controller")]
    assert get(cluster, namespace, "deployment", "web")["spec"]["replicas"] == 2
    assert not conflicting()["changed"]


def test_a_conflict_fails_the_run_before_anything_is_written_when_asked(cluster, conflicting, git_repo, namespace):
    git_repo.write("new.yaml", config_map("new"))
    git_repo.commit()
    with pytest.raises(Refused, match=r"Deployment.apps .*/web .spec.replicas \(some-controller\)") as caught:
        conflicting(on_conflict="fail")
    assert caught.value.details["conflicts"][0]["manager"] == "some-controller"
    assert not exists(cluster, namespace, "configmap", "new")


def test_a_field_is_left_to_the_other_manager_when_asked(cluster, conflicting, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web", image="registry.example/web:2", replicas=2))
    git_repo.commit()
    result = conflicting(on_conflict="keep")
    live = get(cluster, namespace, "deployment", "web")
    assert live["spec"]["replicas"] == 7 and live["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
    assert len(result["conflicts"]) == 1 and not result["in_sync"]
    again = conflicting(on_conflict="keep")
    assert not again["changed"] and len(again["conflicts"]) == 1 and not again["in_sync"]


# ---- immutable fields


def test_an_immutable_field_fails_with_the_way_to_allow_it_and_is_replaced_when_allowed(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    uid = get(cluster, namespace, "deployment", "web")["metadata"]["uid"]
    git_repo.write("web.yaml", deployment("web").replace("{app: web}", "{app: other}"))
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Failure, match=r"web.yaml:1: Deployment.apps .*spec.selector.*immutable.*replace_immutable: true"):
            run(check_mode=check_mode)
    assert operations(run(check_mode=True, replace_immutable=True)) == {"Deployment web": "configured"}
    assert operations(run(replace_immutable=True)) == {"Deployment web": "configured"}
    assert get(cluster, namespace, "deployment", "web")["metadata"]["uid"] != uid
    assert not run()["changed"]


# ---- check mode and diff


def test_check_mode_writes_nothing_and_diff_shows_only_the_fields_of_the_intent(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    git_repo.write("web.yaml", deployment("web", image="registry.example/web:2"))
    git_repo.commit()
    since = cluster.moment()
    planned = run(check_mode=True, diff=True)
    assert all(entry["dryRun"] for entry in cluster.audit(since)
               if entry["verb"] not in ("get", "list", "watch") and "nordic.gitops" in (entry["userAgent"] or ""))
    done = run(diff=True)
    assert planned["diff"] == done["diff"] and len(done["diff"]) == 1
    diff = done["diff"][0]
    assert "image: registry.example/web:1" in diff["before"] and "image: registry.example/web:2" in diff["after"]
    assert "status" not in diff["after"] and "uid" not in diff["after"] and "imagePullPolicy" not in diff["after"]


def test_the_planned_diff_of_new_objects_is_the_real_one_with_their_labels(cluster, run, git_repo, namespace):
    labelled = config_map("a").replace("metadata:", "metadata:\n  labels: {team: payments}", 1)
    secret = manifest("Secret", "s", more="stringData: {password: hunter2}\n")
    git_repo.write("all.yaml", "---\n".join([labelled, deployment("web"), secret]))
    git_repo.commit()
    planned, done = run(check_mode=True, diff=True), run(diff=True)
    assert planned["diff"] == done["diff"] and len(done["diff"]) == 3
    assert all(diff["before"] == "" for diff in done["diff"])
    text = "".join(diff["after"] for diff in done["diff"])
    assert "team: payments" in text and "image: registry.example/web:1" in text and "hunter2" not in text
    assert "uid" not in text and "imagePullPolicy" not in text


def test_the_planned_diff_of_what_a_colleague_added_is_the_real_one(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    cluster.kubectl("label", "configmap", "a", "-n", namespace, "added=by-hand")
    planned, done = run(check_mode=True, diff=True), run(diff=True)
    assert planned["diff"] == done["diff"]
    assert "added: by-hand" in done["diff"][0]["before"] and "added" not in done["diff"][0]["after"]


def test_a_secret_is_masked_in_the_diff_and_never_in_the_result(cluster, run, git_repo, namespace):
    git_repo.write("s.yaml", manifest("Secret", "s", more="stringData: {password: hunter2, user: astrid}\n"))
    git_repo.commit()
    run()
    git_repo.write("s.yaml", manifest("Secret", "s", more="stringData: {password: hunter3, user: astrid}\n"))
    git_repo.commit()
    result = run(diff=True)
    text = json.dumps(result)
    for secret in ("hunter2", "hunter3", "aHVudGVyMg", "aHVudGVyMw"):
        assert secret not in text
    assert "password: '*** (before)'" in result["diff"][0]["before"] and "user: '***'" in result["diff"][0]["after"]


def test_verify_full_asks_the_server_about_everything(run, git_repo):
    git_repo.write("web.yaml", deployment("web") + "---\n" + config_map("settings"))
    git_repo.commit()
    run()
    result = run(verify="full")
    assert result["dry_runs"] == 2 and not result["changed"] and result["in_sync"]


def test_a_namespace_that_is_not_there_is_named(run, git_repo):
    git_repo.write("a.yaml", config_map("a", namespace="not-there"))
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Failure, match="a.yaml:1: ConfigMap not-there/a.*namespaces.*not found"):
            run(check_mode=check_mode)
