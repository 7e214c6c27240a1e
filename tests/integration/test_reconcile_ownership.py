# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose field it is: what Git removes goes whoever else holds it, what others edited comes back, what controllers own stays theirs."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from reconciling import config_map, get, manifest, operations, wait_until


def workload(kind="Deployment", strategy="", container="", pod="", name="web"):
    """A workload with one container that no node takes; the parts are lines of its own."""
    more = {"StatefulSet": "  serviceName: s\n  replicas: 0\n", "Deployment": "  paused: true\n"}.get(kind, "")
    return manifest(kind, name, "apps/v1", more=f"""spec:
{more}{strategy}  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      nodeSelector: {{no: where}}
{pod}      containers:
        - name: web
          image: registry.example/web:1
{container}""")


def service(ports, more=""):
    return manifest("Service", "web", more=f"spec:\n  selector: {{app: web}}\n{more}  ports: {ports}\n")


def content(live):
    """What a person would compare: no bookkeeping of the server's."""
    metadata = {key: live["metadata"].get(key) for key in ("labels", "annotations") if live["metadata"].get(key)}
    metadata.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
    return {**{key: value for key, value in live.items() if key not in ("metadata", "status")}, "metadata": metadata}


def edit(cluster, namespace, target, patch, manager="kubectl-edit", kind="json"):
    cluster.kubectl("patch", "-n", namespace, *target, f"--type={kind}", f"--field-manager={manager}", "--patch", json.dumps(patch))


def replace(path, value):
    return [{"op": "replace", "path": path, "value": value}]


def swap(base, old, new, value):
    """One member of a union in the place of another."""
    return [{"op": "remove", "path": f"{base}/{old}"}, {"op": "add", "path": f"{base}/{new}", "value": value}]


CONTAINER = "/spec/template/spec/containers/0"
WEB, SERVICE = ("deployment/web",), ("service/web",)
HTTP = "          livenessProbe: {httpGet: {path: /, port: 80}}\n"

# What Git has, what a colleague makes of it: (manifest, object, JSON patch).
EDITS = {
    "a Service's port": (service("[{name: http, port: 80, targetPort: 8080}]"), SERVICE, replace("/spec/ports/0/port", 83)),
    "a Service's protocol": (service("[{name: dns, port: 53}]"), SERVICE, replace("/spec/ports/0/protocol", "UDP")),
    "two ports of a Service exchanged": (
        service("[{name: a, port: 80}, {name: b, port: 81}]"), SERVICE,
        replace("/spec/ports", [{"name": "b", "port": 80, "protocol": "TCP"}, {"name": "a", "port": 81, "protocol": "TCP"}])),
    "a container's port": (workload(container="          ports: [{name: http, containerPort: 80}]\n"), WEB,
                           replace(f"{CONTAINER}/ports/0/containerPort", 83)),
    "a container's name": (workload(container=HTTP), WEB, replace(f"{CONTAINER}/name", "other")),
    "a volume's mount path": (
        workload(pod="      volumes: [{name: data, emptyDir: {}}]\n", container="          volumeMounts: [{name: data, mountPath: /data}]\n"), WEB,
        replace(f"{CONTAINER}/volumeMounts/0/mountPath", "/other")),
    "a probe's handler": (workload(container=HTTP), WEB,
                          swap(f"{CONTAINER}/livenessProbe", "httpGet", "exec", {"command": ["true"]})),
    "a hook's handler": (
        workload(container="          lifecycle: {preStop: {exec: {command: [sleep, '5']}}}\n"), WEB,
        swap(f"{CONTAINER}/lifecycle/preStop", "exec", "httpGet", {"path": "/", "port": 80})),
    "a volume's kind": (workload(pod="      volumes: [{name: data, emptyDir: {}}]\n"), WEB,
                        swap("/spec/template/spec/volumes/0", "emptyDir", "configMap", {"name": "x"})),
    "a volume's kind, back": (workload(pod="      volumes: [{name: data, configMap: {name: x}}]\n"), WEB,
                              swap("/spec/template/spec/volumes/0", "configMap", "secret", {"secretName": "x"})),
    "an env value": (workload(container="          env: [{name: A, value: one}]\n"), WEB,
                     swap(f"{CONTAINER}/env/0", "value", "valueFrom", {"secretKeyRef": {"name": "s", "key": "k"}})),
    "an env's source": (workload(container="          env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n"), WEB,
                        swap(f"{CONTAINER}/env/0", "valueFrom", "value", "one")),
    "a strategy": (workload(strategy="  strategy: {type: Recreate}\n"), WEB,
                   replace("/spec/strategy", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})),
    "a strategy that is a default": (workload(), WEB, replace("/spec/strategy", {"type": "Recreate"})),
    "a strategy, with a label beside it": (workload(strategy="  strategy: {type: Recreate}\n"), WEB, [
        {"op": "replace", "path": "/spec/strategy", "value": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
        {"op": "add", "path": "/metadata/labels/by", "value": "hand"}]),
    "an update strategy": (workload("StatefulSet", strategy="  updateStrategy: {type: OnDelete}\n"), ("statefulset/web",),
                           replace("/spec/updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})),
    "a budget's side": (
        manifest("PodDisruptionBudget", "web", "policy/v1", more="spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n"), ("pdb/web",),
        swap("/spec", "minAvailable", "maxUnavailable", 1)),
    "an Ingress' backend": (
        manifest("Ingress", "web", "networking.k8s.io/v1", more="spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}\n"),
        ("ingress/web",), swap("/spec/defaultBackend", "service", "resource", {"kind": "Bucket", "name": "b", "apiGroup": "example.com"})),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_a_key_of_a_list_or_a_member_of_a_union_is_healed_and_check_mode_says_so(cluster, run, git_repo, namespace, what):
    text, target, patch = EDITS[what]
    git_repo.write("web.yaml", text)
    git_repo.commit()
    run()
    kind = target[0].partition("/")[0]
    before = content(get(cluster, namespace, kind, "web"))
    edit(cluster, namespace, target, patch)
    assert content(get(cluster, namespace, kind, "web")) != before
    planned = run(check_mode=True, diff=True)
    assert not planned["in_sync"]
    done = run(diff=True)
    assert operations(done) == operations(planned) and list(operations(done).values()) == ["configured"]
    assert planned["diff"] == done["diff"]
    assert content(get(cluster, namespace, kind, "web")) == before
    again = run()
    assert not again["changed"] and again["in_sync"] and again["dry_runs"] == 0


@pytest.mark.parametrize("way", ["apply", "apply --server-side", "create"])
def test_what_kubectl_made_is_adopted_with_other_members_of_unions_and_other_ports(cluster, run, git_repo, namespace, way):
    before = (workload(container=HTTP, pod="      volumes: [{name: data, emptyDir: {}}]\n", strategy="  strategy: {type: RollingUpdate}\n")
              + "---\n" + service("[{name: http, port: 80, targetPort: 8080}]"))
    cluster.kubectl(*way.split(), "-n", namespace, "-f", "-", input=before)
    git_repo.write("web.yaml", workload(
        container="          livenessProbe: {exec: {command: ['true']}}\n", pod="      volumes: [{name: data, configMap: {name: x}}]\n",
        strategy="  strategy: {type: Recreate}\n"))
    git_repo.write("svc.yaml", service("[{name: http, port: 81, targetPort: 8080}]"))
    git_repo.commit()
    planned = run(check_mode=True)
    assert operations(run()) == operations(planned) == {"Deployment web": "configured", "Service web": "configured"}
    spec = get(cluster, namespace, "deployment", "web")["spec"]
    assert list(spec["template"]["spec"]["containers"][0]["livenessProbe"])[0] == "exec" and spec["strategy"] == {"type": "Recreate"}
    assert set(spec["template"]["spec"]["volumes"][0]) == {"name", "configMap"}
    assert [port["port"] for port in get(cluster, namespace, "service", "web")["spec"]["ports"]] == [81]
    again = run()
    assert not again["changed"] and again["in_sync"]


# ---- in Git


STRATEGIES = {
    "Recreate after the default": ("Deployment", "", "  strategy: {type: Recreate}\n"),
    "Recreate after an explicit RollingUpdate": (
        "Deployment", "  strategy: {type: RollingUpdate}\n", "  strategy: {type: Recreate}\n"),
    "Recreate with a null": ("Deployment", "", "  strategy: {type: Recreate, rollingUpdate: null}\n"),
    "OnDelete of a StatefulSet": ("StatefulSet", "", "  updateStrategy: {type: OnDelete}\n"),
    "OnDelete of a DaemonSet": ("DaemonSet", "", "  updateStrategy: {type: OnDelete}\n"),
}


@pytest.mark.parametrize("what", STRATEGIES)
def test_git_changes_a_strategy_whose_parameters_the_server_had_filled_in(cluster, run, git_repo, namespace, what):
    kind, old, new = STRATEGIES[what]
    git_repo.write("web.yaml", workload(kind, old))
    git_repo.commit()
    run()
    git_repo.write("web.yaml", workload(kind, new))
    git_repo.commit()
    planned = run(check_mode=True)
    assert operations(run()) == operations(planned) == {f"{kind} web": "configured"}
    spec = get(cluster, namespace, kind, "web")["spec"]
    assert (spec.get("strategy") or spec["updateStrategy"])["type"] in ("Recreate", "OnDelete")
    again = run()
    assert not again["changed"] and again["in_sync"]


def test_git_names_a_volume_where_the_server_had_filled_in_an_empty_one(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", workload(pod="      volumes: [{name: a, emptyDir: {}}, {name: data}]\n"))
    git_repo.commit()
    run()
    git_repo.write("web.yaml", workload(pod="      volumes: [{name: data, configMap: {name: x}}]\n"))
    git_repo.commit()
    planned = run(check_mode=True)
    assert operations(run()) == operations(planned) == {"Deployment web": "configured"}
    assert get(cluster, namespace, "deployment", "web")["spec"]["template"]["spec"]["volumes"] == [
        {"name": "data", "configMap": {"name": "x", "defaultMode": 420}}]


# ---- what Git removes, and others hold too


def three(first="1", second=None):
    more = "" if second is None else f"  b: '{second}'\n"
    text = manifest("ConfigMap", "settings", more=f"data:\n  a: '{first}'\n{more}")
    return text.replace("  name: settings\n", "  name: settings\n  labels: {app: shop}\n") if second is not None else text


HOLDERS = {
    "kubectl apply --server-side": ("apply", "--server-side"),
    "kubectl apply": ("apply",),
    "helm": ("apply", "--server-side", "--field-manager=helm"),
    "Flux": ("apply", "--server-side", "--field-manager=kustomize-controller"),
    "Argo CD": ("apply", "--server-side", "--field-manager=argocd-controller"),
    "some-operator": ("apply", "--server-side", "--field-manager=some-operator"),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_git_removes_goes_in_the_same_run_though_somebody_else_holds_it_too(cluster, run, git_repo, namespace, holder):
    sidecar = "        - name: sidecar\n          image: registry.example/side:1\n"
    git_repo.write("a.yaml", three(second="2"))
    probes = HTTP + HTTP.replace("liveness", "readiness") + "          lifecycle: {preStop: {httpGet: {path: /, port: 80}}}\n"
    debug = "          args: [--debug]\n          env: [{name: A, value: '1'}, {name: B, value: '2'}]\n"
    git_repo.write("web.yaml", workload(container=debug + probes + sidecar))
    git_repo.commit()
    run()
    for name in ("a.yaml", "web.yaml"):
        cluster.kubectl(*HOLDERS[holder], "-n", namespace, "-f", "-", input=(git_repo.path / name).read_text())
    git_repo.write("a.yaml", three())
    git_repo.write("web.yaml", workload(container="          env: [{name: A, value: '1'}]\n          readinessProbe: {exec: {command: ['true']}}\n"))
    git_repo.commit()
    planned = run(check_mode=True, diff=True)
    done = run(diff=True)
    assert done["diff"] == planned["diff"]
    assert operations(done) == operations(planned) == {"ConfigMap settings": "configured", "Deployment web": "configured"}
    settings = get(cluster, namespace, "configmap", "settings")
    assert settings["data"] == {"a": "1"} and "app" not in settings["metadata"]["labels"]
    containers = get(cluster, namespace, "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in containers] == ["web"] and "args" not in containers[0]
    assert containers[0]["env"] == [{"name": "A", "value": "1"}]
    # A struct goes with the last field of it that is set, and what the server had filled into it.
    assert not {"livenessProbe", "lifecycle"} & set(containers[0]) and "httpGet" not in containers[0]["readinessProbe"]
    again = run()
    assert not again["changed"] and again["in_sync"] and again["dry_runs"] == 0


def test_what_git_removes_while_it_changes_the_api_version_goes_in_the_same_run(cluster, run, git_repo, namespace):
    def scaler(version, more=""):
        return manifest("HorizontalPodAutoscaler", "web", f"autoscaling/{version}", more=f"""spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: nobody}}
  maxReplicas: 3
{more}""")

    first = scaler("v1", "  minReplicas: 2\n")
    git_repo.write("h.yaml", first)
    git_repo.commit()
    run(wait=False)
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", input=first)  # a colleague holds it too
    git_repo.write("h.yaml", scaler("v2"))
    git_repo.commit()
    planned = operations(run(wait=False, check_mode=True))
    done = run(wait=False)
    assert operations(done) == planned == {"HorizontalPodAutoscaler web": "configured"} and done["in_sync"]
    assert get(cluster, namespace, "hpa", "web")["spec"]["minReplicas"] == 1  # the server's default
    assert not run(wait=False)["changed"]


def test_what_git_removes_and_a_controller_holds_too_is_left_and_named_or_refused_when_asked(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", three(second="2"))
    git_repo.commit()
    run()
    cluster.kubectl(*HOLDERS["some-operator"], "-n", namespace, "-f", "-", input=three(second="2"))
    git_repo.write("a.yaml", three())
    git_repo.commit()
    with pytest.raises(Refused, match=r"\.data\.b \(some-operator\)"):
        run(on_conflict="fail")
    for _time in range(2):
        kept = run(on_conflict="keep")
        assert {item["field"] for item in kept["conflicts"]} == {".data.b", ".metadata.labels.app"} and not kept["in_sync"]
        assert get(cluster, namespace, "configmap", "settings")["data"] == {"a": "1", "b": "2"}
    assert not kept["changed"]
    forced = run()
    assert get(cluster, namespace, "configmap", "settings")["data"] == {"a": "1"} and len(forced["conflicts"]) == 2
    assert run()["in_sync"]


def test_an_object_that_moves_to_another_reconcile_loses_what_git_no_longer_has(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", three(second="2"))
    git_repo.commit()
    run(name=f"{namespace}-other")
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", input=three(second="2"))
    git_repo.write("a.yaml", three())
    git_repo.commit()
    assert operations(run(adopt="always")) == {"ConfigMap settings": "configured"}
    assert get(cluster, namespace, "configmap", "settings")["data"] == {"a": "1"}
    assert run()["in_sync"]


def test_what_a_controller_put_beside_ours_into_a_map_that_git_removes_stays(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a", annotations="mine: 'yes'"))
    git_repo.commit()
    run()
    edit(cluster, namespace, ("configmap/a",), {"metadata": {"annotations": {"theirs": "yes"}}}, "some-operator", "merge")
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    assert get(cluster, namespace, "configmap", "a")["metadata"]["annotations"] == {"theirs": "yes"}
    assert not run()["changed"]


@pytest.mark.parametrize("manager", ["kustomize-controller", "helm", "argocd-controller", "argocd-application-controller", "OpenAPI-Generator",
                                     "kubectl"])
@pytest.mark.parametrize("server_side", [True, False])
def test_what_a_former_tool_set_goes_when_git_removes_it_or_never_had_it(cluster, run, git_repo, namespace, manager, server_side):
    debug = "          args: [--debug]\n          env: [{name: A, value: '1'}, {name: B, value: '2'}]\n"
    text = workload(container=debug)
    theirs = text.replace("  name: web\n", "  name: web\n  annotations: {former: tool}\n", 1)
    cluster.kubectl(*(["apply", "--server-side"] if server_side else ["create"]), f"--field-manager={manager}", "-n", namespace, "-f", "-", input=theirs)
    git_repo.write("web.yaml", text)
    git_repo.commit()
    planned = run(check_mode=True, adopt="always")
    assert operations(run(adopt="always")) == operations(planned) == {"Deployment web": "configured"}
    assert "former" not in get(cluster, namespace, "deployment", "web")["metadata"].get("annotations", {})
    git_repo.write("web.yaml", workload(container="          env: [{name: A, value: '1'}]\n"))
    git_repo.commit()
    done = run(diff=True)
    assert operations(done) == {"Deployment web": "configured"} and "--debug" in done["diff"][0]["before"]
    container = get(cluster, namespace, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "1"}] and "args" not in container
    again = run()
    assert not again["changed"] and again["in_sync"]


def test_a_field_that_an_operator_writes_with_a_former_tools_library_is_no_drift_afterwards(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    edit(cluster, namespace, ("configmap/a",), {"metadata": {"annotations": {"operator": "was here"}}}, "OpenAPI-Generator", "merge")
    assert not run()["changed"]
    assert get(cluster, namespace, "configmap", "a")["metadata"]["annotations"] == {"operator": "was here"}


# ---- a run that fails


def books(cluster, namespace, kind, name):
    entries = get(cluster, namespace, kind, name)["metadata"]["managedFields"]
    return sorted(json.dumps({key: value for key, value in entry.items() if key != "time"}, sort_keys=True) for entry in entries)


@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "made"])
def test_what_anybody_adds_to_an_object_that_git_only_adds_to_stays_and_what_git_sets_comes_back(cluster, run, git_repo, namespace, adopted):
    """Flux' annotation ssa: Merge, on what others fill: a Secret of Argo CD, a ConfigMap that an operator and people write."""
    git_repo.write("a.yaml", config_map("shared", "one", "kustomize.toolkit.fluxcd.io/ssa: Merge"))
    git_repo.commit()
    if adopted:
        cluster.kubectl("create", "configmap", "shared", "-n", namespace, "--from-literal=made=by-hand", "--field-manager=kubectl-create")
    else:
        run()
    for manager in ("kubectl-edit", "argocd-server", "k9s", "an-operator"):
        edit(cluster, namespace, ("configmap/shared",), {"data": {manager: "added"}}, manager, "merge")
    planned = run(check_mode=True)
    assert operations(run()) == operations(planned) == ({"ConfigMap shared": "configured"} if adopted else {})
    added = dict.fromkeys(("kubectl-edit", "argocd-server", "k9s", "an-operator"), "added")
    data = {**added, "key": "one", **({"made": "by-hand"} if adopted else {})}
    assert get(cluster, namespace, "configmap", "shared")["data"] == data
    edit(cluster, namespace, ("configmap/shared",), {"data": {"key": "by hand"}}, "kubectl-edit", "merge")
    assert operations(run())["ConfigMap shared"] == "configured"
    assert get(cluster, namespace, "configmap", "shared")["data"] == data and not run()["changed"]
    # Without the annotation people's fields are drift again, an operator's are not.
    git_repo.write("a.yaml", config_map("shared", "one"))
    git_repo.commit()
    run()
    assert set(get(cluster, namespace, "configmap", "shared")["data"]) == {"key", "an-operator", "argocd-server"}


def test_a_refused_write_leaves_the_object_and_its_managed_fields_as_they_were(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", service("[{name: http, port: 80}]"))
    git_repo.commit()
    run()
    edit(cluster, namespace, SERVICE, replace("/spec/ports/0/port", 83))
    git_repo.write("web.yaml", service("[{name: http, port: 80, targetPort: not_a_name}]"))
    git_repo.commit()
    before = books(cluster, namespace, "service", "web")
    for check_mode in (True, False):
        with pytest.raises(Failure, match="targetPort"):
            run(check_mode=check_mode)
        assert books(cluster, namespace, "service", "web") == before
    git_repo.write("web.yaml", service("[{name: http, port: 80}]"))
    git_repo.commit()
    run()
    assert [port["port"] for port in get(cluster, namespace, "service", "web")["spec"]["ports"]] == [80]


POLICY = """apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  failurePolicy: Fail
  matchConstraints: {{resourceRules: [{{apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [configmaps]}}]}}
  validations: [{{expression: "!has(oldObject.metadata.labels) || !('team' in oldObject.metadata.labels) || 'team' in object.metadata.labels",
                  message: keep the team}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec:
  policyName: {name}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}
"""


def test_what_the_server_does_not_let_go_is_named_each_time_and_not_called_in_sync(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    cluster.kubectl("label", "configmap", "a", "-n", namespace, "team=x")
    cluster.kubectl("apply", "-f", "-", input=POLICY.format(name=namespace))
    try:
        wait_until(lambda: denied_by(cluster, namespace))
        before = books(cluster, namespace, "configmap", "a")
        for _time in range(2):
            planned, done = run(check_mode=True), run()
            assert not planned["in_sync"] and not done["in_sync"] and not done["changed"] and not planned["changed"]
            assert "metadata.labels.team" in json.dumps(done["changes"])
            assert books(cluster, namespace, "configmap", "a") == before
    finally:
        cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", namespace)
    wait_until(lambda: not denied_by(cluster, namespace))
    assert operations(run()) == {"ConfigMap a": "configured"}
    assert run()["in_sync"]


def denied_by(cluster, namespace):
    try:
        cluster.kubectl("label", "configmap", "a", "-n", namespace, "team-", "--dry-run=server")
    except Exception as error:
        return "keep the team" in str(error)
    return False


# ---- what controllers own


def test_an_aggregated_role_is_never_written_again_and_never_loses_its_rules(cluster, run, git_repo, namespace):
    role = manifest("ClusterRole", namespace, "rbac.authorization.k8s.io/v1", more=(
        f"aggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{to: {namespace}}}}}]}}\nrules: []\n"))
    part = manifest("ClusterRole", f"{namespace}-part", "rbac.authorization.k8s.io/v1", more=(
        "rules: [{apiGroups: [''], resources: [services], verbs: [get]}]\n")).replace("metadata:\n", f"metadata:\n  labels: {{to: {namespace}}}\n")
    git_repo.write("r.yaml", role + "---\n" + part)
    git_repo.commit()
    try:
        run()
        wait_until(lambda: get(cluster, namespace, "clusterrole", namespace).get("rules"))
        again = run()
        assert not again["changed"] and again["in_sync"]
        # As a version of ours did that set the rules, and a colleague who fills them in by hand.
        entry = {"rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]}
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=nordic-gitops", "-f", "-", input=json.dumps({
            **json.loads(json.dumps({key: get(cluster, namespace, "clusterrole", namespace)[key] for key in ("apiVersion", "kind", "aggregationRule")})),
            "metadata": {"name": namespace, "labels": get(cluster, namespace, "clusterrole", namespace)["metadata"]["labels"]}, **entry}))
        edit(cluster, namespace, (f"clusterrole/{namespace}",), {"rules": entry["rules"] * 2}, kind="merge")
        wait_until(lambda: get(cluster, namespace, "clusterrole", namespace)["rules"] == entry["rules"])
        since = cluster.moment()
        run()
        assert get(cluster, namespace, "clusterrole", namespace)["rules"] == entry["rules"]
        emptied = [one for one in cluster.audit(since) if one["resource"] == "clusterroles" and one["verb"] == "patch"
                   and "clusterrole-aggregation" in (one["userAgent"] or "")]
        assert emptied == [], "the rules were gone for a moment"
        assert not run()["changed"]
    finally:
        cluster.kubectl("delete", "clusterrole", namespace, f"{namespace}-part", "--ignore-not-found")


EMPTY = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {}
  labels: {}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {}
    spec:
      imagePullSecrets: []
      initContainers: []
      nodeSelector: {}
      tolerations: []
      topologySpreadConstraints: []
      volumes: []
      affinity: {}
      securityContext: {}
      containers:
        - name: web
          image: registry.example/web:1
          args: []
          env: []
          envFrom: []
          ports: []
          volumeMounts: []
          resources: {}
          securityContext: {}
"""


def test_empty_maps_and_lists_ask_for_nothing_whatever_controllers_write(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", EMPTY)
    git_repo.write("a.yaml", manifest("ConfigMap", "a", more="data: {}\n"))
    git_repo.commit()
    run()
    wait_until(lambda: get(cluster, namespace, "deployment", "web")["metadata"].get("annotations"))
    assert not run()["changed"]
    edit(cluster, namespace, ("configmap/a",), {"data": {"ca.crt": "x"}}, "some-operator", "merge")
    edit(cluster, namespace, WEB, {"spec": {"template": {"metadata": {"annotations": {"injected": "yes"}}, "spec": {"containers": [
        {"name": "web", "env": [{"name": "INJECTED", "value": "1"}], "resources": {"limits": {"cpu": "1"}}}]}}}}, "some-operator", "strategic")
    again = run()
    assert not again["changed"] and again["in_sync"] and again["dry_runs"] == 0
    assert get(cluster, namespace, "configmap", "a")["data"] == {"ca.crt": "x"}
    git_repo.write("web.yaml", EMPTY.replace("registry.example/web:1", "registry.example/web:2"))
    git_repo.commit()
    run()
    container = get(cluster, namespace, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] and container["resources"]["limits"] and container["image"].endswith(":2")
    assert not run()["changed"]


def test_a_map_or_a_list_that_git_empties_loses_our_keys_and_keeps_the_others(cluster, run, git_repo, namespace):
    full = EMPTY.replace("  annotations: {}\n  labels", "  annotations: {mine: 'yes'}\n  labels").replace(
        "env: []", "env: [{name: MINE, value: '1'}]").replace("args: []", "args: [--mine]")
    git_repo.write("web.yaml", full)
    git_repo.commit()
    run()
    edit(cluster, namespace, WEB, {"metadata": {"annotations": {"theirs": "yes"}}, "spec": {"template": {"spec": {"containers": [
        {"name": "web", "env": [{"name": "THEIRS", "value": "1"}]}]}}}}, "some-operator", "strategic")
    git_repo.write("web.yaml", EMPTY)
    git_repo.commit()
    planned = run(check_mode=True)
    assert operations(run()) == operations(planned) == {"Deployment web": "configured"}
    live = get(cluster, namespace, "deployment", "web")
    container = live["spec"]["template"]["spec"]["containers"][0]
    assert "mine" not in live["metadata"]["annotations"] and live["metadata"]["annotations"]["theirs"] == "yes"
    assert container["env"] == [{"name": "THEIRS", "value": "1"}] and "args" not in container
    assert not run()["changed"]


# ---- custom kinds


CRD = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}}
{more}  versions:
{versions}
"""
VERSION = """    - name: {name}
      served: true
      storage: {storage}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {{type: object, properties: {properties}}}
            status: {{type: object, properties: {{phase: {{type: string}}}}}}
"""
SHAPES = ("{args: {type: array, items: {type: string}}, whole: {type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: string}},"
          " nets: {type: array, x-kubernetes-list-type: set, items: {type: string}}, free: {type: object, x-kubernetes-preserve-unknown-fields: true},"
          " size: {type: integer}}")


def definition(group, *versions, properties=SHAPES, more=""):
    return CRD.format(group=group, more=more, versions="".join(
        VERSION.format(name=name, storage=str(name == versions[0]).lower(), properties=properties) for name in versions))


def test_atomic_lists_and_maps_of_a_custom_kind_are_proved_from_its_schema(cluster, run, git_repo, group):
    git_repo.write("crd.yaml", definition(group, "v1"))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more="spec: {args: [a, b], whole: {a: b}, free: {list: [1, {x: y}]}}\n"))
    git_repo.commit()
    run()
    wait_until(lambda: run()["dry_runs"] == 0, seconds=30)  # its schema is published a moment after the definition
    again = run()
    assert again["dry_runs"] == 0 and again["in_sync"] and not again["changed"]


def test_a_status_is_written_where_the_definition_has_no_status_subresource(cluster, run, git_repo, namespace, group):
    git_repo.write("crd.yaml", definition(group, "v1"))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more="spec: {size: 1}\nstatus: {phase: Open}\n"))
    git_repo.commit()
    run()
    assert get(cluster, namespace, f"widgets.{group}", "w")["status"] == {"phase": "Open"}
    edit(cluster, namespace, (f"widgets.{group}/w",), {"status": {"phase": "Closed"}}, kind="merge")
    assert operations(run()) == {"Widget w": "configured"}
    again = run()
    assert again["in_sync"] and not again["changed"]


@pytest.mark.parametrize("placeholder", ["Cg==", "''"])
def test_a_placeholder_for_a_certificate_is_left_to_its_injector(cluster, run, git_repo, namespace, group, placeholder):
    conversion = f"""  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig:
        caBundle: {placeholder}
        service: {{name: converter, namespace: default, path: /convert}}
"""
    git_repo.write("crd.yaml", definition(group, "v1", more=conversion) + "---\n" + config_map("after"))
    git_repo.commit()
    run(wait_timeout=20)
    certificate = base64.b64encode(open(cluster.ca_file, "rb").read()).decode()
    edit(cluster, namespace, (f"crd/widgets.{group}",), {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": certificate}}}}},
         "cainjector", "merge")
    again = run()
    assert not again["changed"] and again["in_sync"]
    live = get(cluster, namespace, "crd", f"widgets.{group}")
    assert live["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] == certificate


def test_a_manager_of_a_version_that_is_no_longer_served_holds_nothing_up(cluster, run, git_repo, namespace, group):
    git_repo.write("crd.yaml", definition(group, "v1", "v1beta1"))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1beta1", more="spec: {size: 1, args: [a]}\n"))
    git_repo.commit()
    run()
    cluster.kubectl("apply", "--server-side", "--field-manager=some-operator", "-n", namespace, "-f", "-", input=manifest(
        "Widget", "w", f"{group}/v1beta1", more="spec: {size: 1}\n"))
    git_repo.write("crd.yaml", definition(group, "v1", properties=SHAPES.replace("size: {type: integer}", "height: {type: integer}")))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more="spec: {args: [b]}\n"))
    git_repo.commit()
    run()
    live = get(cluster, namespace, f"widgets.{group}", "w")
    assert live["spec"] == {"args": ["b"]}
    wait_until(lambda: run()["dry_runs"] == 0, seconds=30)
    again = run()
    assert again["in_sync"] and not again["changed"]


def test_a_set_of_thousands_of_items_is_proved_in_sync(run, git_repo, group):
    git_repo.write("crd.yaml", definition(group, "v1"))
    nets = json.dumps([f"10.{number // 250}.{number % 250}.0/24" for number in range(6000)])
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more=f"spec: {{nets: {nets}}}\n"))
    git_repo.commit()
    run()
    result = run()
    assert not result["changed"] and result["dry_runs"] == 0
