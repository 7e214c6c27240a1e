# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deleted comes back or was not ours to keep: replacements and prunes, on the real API server."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from lab import proxy
from reconciling import Reconciler, config_map, deployment, exists, get, manifest, operations, wait_until, widget

REPLACE = "argocd.argoproj.io/sync-options: Replace=true"


def writes(cluster, since):
    return [(entry["verb"], entry["resource"], entry["name"]) for entry in cluster.audit(since)
            if entry["verb"] not in ("get", "list", "watch") and not entry["dryRun"] and entry["code"] < 300
            and "nordic.gitops" in (entry["userAgent"] or "")]


@pytest.fixture
def replaceable(run, git_repo):
    """A Deployment and a Service that Git had in another way before."""
    git_repo.write("web.yaml", deployment("web"))
    git_repo.write("beside.yaml", config_map("beside"))
    git_repo.write("s.yaml", manifest("Service", "s", more="spec: {type: NodePort, selector: {a: b}, ports: [{port: 80}]}\n"))
    git_repo.commit()
    run()
    git_repo.write("beside.yaml", config_map("beside", "two"))
    return run


SLIPS = {
    "an invalid field": deployment("web").replace("{app: web}", "{app: other}").replace(
        "name: web\n          image", "name: web\n          imagePullPolicy: Sometimes\n          image"),
    "an invalid name": deployment("web").replace("{app: web}", "{app: other}").replace("- name: web", "- name: Web_1"),
    "a label that the selector does not match": deployment("web").replace("matchLabels: {app: web}", "matchLabels: {app: other}"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_an_object_that_could_not_be_created_again_is_not_deleted(cluster, replaceable, git_repo, namespace, slip):
    uid = get(cluster, namespace, "deployment", "web")["metadata"]["uid"]
    git_repo.write("web.yaml", SLIPS[slip])
    git_repo.commit()
    since = cluster.moment()
    for check_mode in (True, False):
        with pytest.raises(Failure, match=r"web.yaml:1: Deployment.apps .*/web") as caught:
            replaceable(replace_immutable=True, check_mode=check_mode)
        assert not caught.value.details["changed"]
    assert get(cluster, namespace, "deployment", "web")["metadata"]["uid"] == uid
    assert writes(cluster, since) == []


def test_an_address_out_of_range_deletes_no_service(cluster, replaceable, git_repo, namespace):
    uid = get(cluster, namespace, "service", "s")["metadata"]["uid"]
    git_repo.write("s.yaml", manifest("Service", "s", more="spec: {clusterIP: 203.0.113.7, type: NodePort, selector: {a: b}, ports: [{port: 80}]}\n"))
    git_repo.commit()
    since = cluster.moment()
    for check_mode in (True, False):
        with pytest.raises(Failure, match="s.yaml:1: Service .*clusterIP"):
            replaceable(replace_immutable=True, check_mode=check_mode)
    assert get(cluster, namespace, "service", "s")["metadata"]["uid"] == uid and writes(cluster, since) == []


def test_a_service_is_replaced_though_it_holds_its_node_port_until_then(cluster, replaceable, git_repo, namespace):
    spec = get(cluster, namespace, "service", "s")["spec"]
    taken, port = spec["clusterIP"], spec["ports"][0]["nodePort"]
    other = ".".join([*taken.split(".")[:3], "251" if not taken.endswith(".251") else "252"])
    git_repo.write("s.yaml", manifest("Service", "s", more=f"spec: {{clusterIP: {other}, type: NodePort, selector: {{a: b}}, "
                                                           f"ports: [{{port: 80, nodePort: {port}}}]}}\n"))
    git_repo.commit()
    planned = replaceable(replace_immutable=True, check_mode=True)
    done = replaceable(replace_immutable=True)
    assert operations(planned) == operations(done) == {"Service s": "configured", "ConfigMap beside": "configured"}
    live = get(cluster, namespace, "service", "s")["spec"]
    assert live["clusterIP"] == other and live["ports"][0]["nodePort"] == port
    assert not replaceable()["changed"]


@pytest.fixture
def policy(cluster, namespace):
    """A policy that refuses to create Deployments in the test's namespace whose label app is not web."""
    name = f"{namespace}-policy"
    cluster.kubectl("apply", "-f", "-", input=f"""
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
    resourceRules: [{{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}}]
  validations: [{{expression: "object.spec.selector.matchLabels.app == 'web'", message: only web may be created}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec: {{policyName: {name}, validationActions: [Deny]}}
""")
    yield
    cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)


def test_a_policy_that_refuses_the_creation_keeps_the_object(cluster, run, git_repo, namespace, policy):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    run()
    uid = get(cluster, namespace, "deployment", "web")["metadata"]["uid"]
    git_repo.write("web.yaml", deployment("web").replace("{app: web}", "{app: other}"))
    git_repo.commit()

    def refused():
        try:
            run(replace_immutable=True, check_mode=True)
        except Failure as failure:
            return "only web may be created" in str(failure)
        return False

    wait_until(refused)  # the server takes a moment to enforce a new policy
    with pytest.raises(Failure, match="cannot be created again, so it is not deleted.*only web may be created"):
        run(replace_immutable=True)
    assert get(cluster, namespace, "deployment", "web")["metadata"]["uid"] == uid


def limited(cluster, namespace, verbs):
    """The kubeconfig options of a user who may do only these verbs with Deployments, and everything else in the namespace."""
    cluster.kubectl("create", "serviceaccount", "limited", "-n", namespace)
    cluster.kubectl("create", "role", "limited", "-n", namespace, f"--verb={verbs}", "--resource=deployments.apps")
    cluster.kubectl("create", "role", "rest", "-n", namespace, "--verb=get,list,watch,create,patch,delete", "--resource=configmaps,services")
    for role in ("limited", "rest"):
        cluster.kubectl("create", "rolebinding", role, "-n", namespace, f"--role={role}", f"--serviceaccount={namespace}:limited")
    token = cluster.kubectl("create", "token", "limited", "-n", namespace).strip()
    return {"kubeconfig": None, "host": cluster.url, "ca_cert": str(cluster.ca_file), "api_key": token}


@pytest.mark.parametrize("verbs, missing", [("get,list,watch,patch,delete", "create"), ("get,list,watch,patch,create", "delete")])
def test_a_user_who_may_not_do_both_replaces_nothing(cluster, replaceable, git_repo, namespace, verbs, missing):
    uid = get(cluster, namespace, "deployment", "web")["metadata"]["uid"]
    user = limited(cluster, namespace, verbs)
    git_repo.write("web.yaml", deployment("web").replace("{app: web}", "{app: other}"))
    git_repo.commit()
    since = cluster.moment()
    for check_mode in (True, False):
        with pytest.raises(Failure, match=f"cannot {missing}"):
            replaceable(replace_immutable=True, check_mode=check_mode, **user)
    assert get(cluster, namespace, "deployment", "web")["metadata"]["uid"] == uid and writes(cluster, since) == []


def test_an_object_whose_creation_fails_all_the_same_is_put_back_and_the_run_says_so(cluster, options, git_repo, namespace, fault_proxy):
    git_repo.write("web.yaml", deployment("web", replicas=3))
    git_repo.commit()
    run = Reconciler(**options)
    run()
    cluster.kubectl("annotate", "deployment", "web", "-n", namespace, "team=platform", "--field-manager=some-controller")
    old = get(cluster, namespace, "deployment", "web")
    git_repo.write("web.yaml", deployment("web").replace("{app: web}", "{app: other}"))
    git_repo.commit()
    deleted = []

    def creation(method, path):
        deleted.extend([path] if method == "DELETE" and "/deployments/web" in path and "dryRun" not in path else [])
        return method == "PATCH" and "/deployments/web" in path and "dryRun" not in path and len(deleted) > 1

    fault_proxy.script(proxy.status(403, message="the quota is used up"), match=creation)
    bad = Reconciler(**{**options, "kubeconfig": str(fault_proxy.kubeconfig), "replace_immutable": True})
    with pytest.raises(Failure, match="quota is used up.*was put back as it had been") as caught:
        bad()
    assert caught.value.details["changed"] and operations(caught.value.details) == {"Deployment web": "failed"}
    live = get(cluster, namespace, "deployment", "web")
    assert live["metadata"]["uid"] != old["metadata"]["uid"] and live["spec"]["replicas"] == 3
    assert live["spec"]["selector"] == old["spec"]["selector"] and live["metadata"]["annotations"]["team"] == "platform"
    # It is ours as before: the next run can do what this one could not.
    assert operations(run(replace_immutable=True)) == {"Deployment web": "configured"}
    assert not run()["changed"]


def job(image, annotations=""):
    return manifest("Job", "migrate", "batch/v1", annotations=annotations, more=f"""spec:
  suspend: true
  template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: "registry.example/a:{image}"}}]}}}}
""")


def test_a_job_that_changes_is_told_in_one_readable_sentence_with_what_replaces_it(run, git_repo):
    for image in (1, 2):
        git_repo.write("j.yaml", job(image))
        git_repo.commit()
        if image == 1:
            run()
    with pytest.raises(Failure, match="Set replace_immutable: true") as caught:
        run()
    told = str(caught.value)
    assert "j.yaml:1: Job.batch" in told and "field is immutable" in told and len(told) < 700, told


def test_a_job_whose_template_changes_is_replaced(cluster, run, git_repo, namespace):
    git_repo.write("j.yaml", job(1))
    git_repo.commit()
    run()
    git_repo.write("j.yaml", job(2))
    git_repo.commit()
    planned = run(replace_immutable=True, check_mode=True)
    assert operations(run(replace_immutable=True)) == operations(planned) == {"Job migrate": "configured"}
    assert get(cluster, namespace, "job", "migrate")["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
    assert not run()["changed"]


KEPT = ["nordic.gitops/prune: disabled", "kustomize.toolkit.fluxcd.io/prune: disabled", "helm.sh/resource-policy: keep",
        "client.lifecycle.config.k8s.io/deletion: detach", "argocd.argoproj.io/sync-options: 'Replace=true,Delete=false'"]


@pytest.mark.parametrize("annotation", KEPT)
def test_what_says_that_it_must_not_be_deleted_is_not_replaced(cluster, run, git_repo, namespace, annotation):
    def job(image):
        return manifest("Job", "migrate", "batch/v1", annotations=annotation, more=f"""spec:
  suspend: true
  template: {{spec: {{restartPolicy: Never, containers: [{{name: a, image: "registry.example/a:{image}"}}]}}}}
""")

    git_repo.write("j.yaml", job(1))
    git_repo.commit()
    run()
    uid = get(cluster, namespace, "job", "migrate")["metadata"]["uid"]
    git_repo.write("j.yaml", job(2))
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Refused, match=f"must not be replaced: its annotation {annotation.split(':')[0]}"):
            run(replace_immutable=True, check_mode=check_mode)
    assert get(cluster, namespace, "job", "migrate")["metadata"]["uid"] == uid


def made_by(cluster, namespace, owner, name, kind="ConfigMap", spec=None):
    """Create what belongs to another object, as an operator does."""
    reference = {key: owner["metadata"][key] for key in ("name", "uid")}
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": kind, **({"spec": spec} if spec else {}), "metadata": {
        "name": name, "ownerReferences": [{**reference, "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}]}}))
    return get(cluster, namespace, kind.lower(), name)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_an_object_with_which_a_volume_claim_would_be_deleted_is_not_replaced_by_the_general_option(cluster, run, git_repo, namespace, group, steps):
    git_repo.write("w.yaml", widget(group, 1))
    git_repo.commit()
    run()
    owner = get(cluster, namespace, f"widgets.{group}", "w")
    uid = owner["metadata"]["uid"]
    for number in range(steps):
        owner = made_by(cluster, namespace, owner, f"between-{number}")
    made_by(cluster, namespace, owner, "data", "PersistentVolumeClaim", {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
    git_repo.write("w.yaml", widget(group, 2))
    git_repo.commit()
    since = cluster.moment()
    for check_mode in (True, False):
        with pytest.raises(Refused, match=f"w.yaml:21: Widget.* must not be replaced.* PersistentVolumeClaim {namespace}/data.*Replace=true"):
            run(replace_immutable=True, check_mode=check_mode)
    assert get(cluster, namespace, f"widgets.{group}", "w")["metadata"]["uid"] == uid and writes(cluster, since) == []
    git_repo.write("w.yaml", widget(group, 2, REPLACE))
    git_repo.commit()
    assert operations(run()) == {"Widget w": "configured"}
    assert get(cluster, namespace, f"widgets.{group}", "w")["metadata"]["uid"] != uid


def test_a_custom_resource_whose_controller_deletes_something_with_it_is_not_replaced_by_the_general_option(cluster, run, git_repo, namespace, group):
    git_repo.write("w.yaml", widget(group, 1))
    git_repo.commit()
    run()
    cluster.kubectl("patch", f"widgets.{group}", "w", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["example.org/database"]}}')
    uid = get(cluster, namespace, f"widgets.{group}", "w")["metadata"]["uid"]
    git_repo.write("w.yaml", widget(group, 2))
    git_repo.commit()
    since = cluster.moment()
    for check_mode in (True, False):
        with pytest.raises(Failure, match="w.yaml:21: Widget.* Value is immutable.*Replace=true .*example.org/database") as caught:
            run(replace_immutable=True, check_mode=check_mode)
        assert "replace_immutable" not in str(caught.value)
    live = get(cluster, namespace, f"widgets.{group}", "w")["metadata"]
    assert live["uid"] == uid and "deletionTimestamp" not in live and [what for what in writes(cluster, since) if what[1] == "widgets"] == []
    cluster.kubectl("patch", f"widgets.{group}", "w", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert operations(run(replace_immutable=True)) == {"Widget w": "configured"}


def test_git_cannot_have_deleted_what_is_not_ours(cluster, run, git_repo, namespace):
    """Whoever may write to the repository only: an unowned claim that says that it must stay, Replace=true in Git, prune off, limit 0."""
    claim = "spec: {{accessModes: [{}], resources: {{requests: {{storage: 1Gi}}}}}}\n"
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=manifest("PersistentVolumeClaim", "data", more=claim.format("ReadWriteOnce")))
    uid = get(cluster, namespace, "pvc", "data")["metadata"]["uid"]
    git_repo.write("data.yaml", manifest("PersistentVolumeClaim", "data", annotations=REPLACE, more=claim.format("ReadWriteMany")))
    git_repo.commit()
    for adopt in ("unowned", "always"):
        with pytest.raises(Refused, match="data.yaml:1: PersistentVolumeClaim .*does not belong to this reconcile"):
            run(prune=False, prune_limit="0", adopt=adopt)
    assert get(cluster, namespace, "pvc", "data")["metadata"]["uid"] == uid


def test_a_replacement_counts_against_the_limit(cluster, replaceable, git_repo, namespace):
    git_repo.write("web.yaml", deployment("web").replace("{app: web}", "{app: other}"))
    git_repo.commit()
    with pytest.raises(Refused, match="would prune 0 and replace 1 of 3 objects, prune_limit is 0"):
        replaceable(replace_immutable=True, prune_limit="0")


def test_copies_with_our_label_do_not_raise_the_limit(cluster, run, git_repo, namespace):
    for index in range(40):
        git_repo.write(f"{index}.yaml", config_map(f"c{index}"))
    git_repo.commit()
    run()
    labels = get(cluster, namespace, "configmap", "c0")["metadata"]["labels"]
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"copy-{index}", "labels": labels}} for index in range(30)]}))
    for index in range(30):
        git_repo.remove(f"{index}.yaml")
    git_repo.commit()
    with pytest.raises(Refused, match="would prune 30 of 40 objects, prune_limit is 50%"):
        run()
    assert exists(cluster, namespace, "configmap", "c0")


def forged(cluster, namespace, body, labels):
    """An object with our label and our field manager's name, by a user who may write it."""
    cluster.kubectl("apply", "--server-side", "--field-manager=nordic-gitops", "-n", namespace, "-f", "-",
                    input=json.dumps({**body, "metadata": {**body["metadata"], "labels": labels}}))


def test_a_forged_field_manager_prunes_nothing_where_the_inventory_has_no_record(cluster, run, git_repo, namespace):
    elsewhere = cluster.namespace()
    try:
        git_repo.write("a.yaml", config_map("a"))
        git_repo.commit()
        run()
        labels = get(cluster, namespace, "configmap", "a")["metadata"]["labels"]
        forged(cluster, elsewhere, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"a": "b"}}, labels)
        forged(cluster, namespace, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "theirs"}}, labels)
        # Git brings objects to the namespace and of the kind in this very run: they are on record only afterwards.
        git_repo.write("b.yaml", config_map("b", namespace=elsewhere) + "---\n" + manifest("ServiceAccount", "mine"))
        git_repo.commit()
        result = run()
        assert operations(result) == {"ConfigMap b": "created", "ServiceAccount mine": "created", "ConfigMap theirs": "skipped",
                                      "ServiceAccount theirs": "skipped"}
        assert exists(cluster, elsewhere, "configmap", "theirs") and exists(cluster, namespace, "serviceaccount", "theirs")
    finally:
        cluster.remove_namespace(elsewhere)


def test_a_forged_object_is_not_put_on_record_by_the_run_that_skips_it(cluster, run, git_repo, namespace):
    second, elsewhere = cluster.namespace(), cluster.namespace()
    try:
        git_repo.write("a.yaml", config_map("a") + "---\n" + config_map("b", namespace=second))
        git_repo.commit()
        run()
        labels = get(cluster, namespace, "configmap", "a")["metadata"]["labels"]
        forged(cluster, elsewhere, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"a": "b"}}, labels)
        for value in ("two", "three"):  # each run writes, and so records
            git_repo.write("a.yaml", config_map("a", value) + "---\n" + config_map("b", namespace=second))
            git_repo.commit()
            assert operations(run()) == {"ConfigMap a": "configured", "ConfigMap theirs": "skipped"}
        assert exists(cluster, elsewhere, "configmap", "theirs")
    finally:
        cluster.remove_namespace(second)
        cluster.remove_namespace(elsewhere)


def test_what_a_controller_owns_is_not_adopted_unasked(cluster, run, git_repo, namespace):
    cluster.kubectl("create", "configmap", "owner", "-n", namespace)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": True,
             "uid": get(cluster, namespace, "configmap", "owner")["metadata"]["uid"]}
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "ownerReferences": [owner]}}))
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    with pytest.raises(Refused, match="a.yaml:1: ConfigMap .*/a belongs to ConfigMap owner, which controls it; adopt: always"):
        run()
    assert operations(run(adopt="always")) == {"ConfigMap a": "configured"}
