# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs another object comes after it, and goes before it, on the real API server."""

from __future__ import annotations

import json
import threading

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import RULES as GUARD
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
from reconciling import config_map, definition, exists, get, manifest, operations, wait_until, widget

RBAC = "rbac.authorization.k8s.io/v1"


def unverified(result):
    return {change["object"]["name"]: change.get("unverified", "") for change in result["changes"]}


@pytest.fixture
def deployer(cluster, namespace):
    """The connection options of a user who may write Roles and RoleBindings, without the verbs bind and escalate."""
    cluster.kubectl("create", "serviceaccount", "deployer", "-n", namespace)
    cluster.kubectl("create", "role", "deployer", "-n", namespace, "--verb=get,list,watch,create,patch,delete",
                    "--resource=configmaps,serviceaccounts,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io")
    cluster.kubectl("create", "rolebinding", "deployer", "-n", namespace, "--role=deployer", f"--serviceaccount={namespace}:deployer")
    return {"kubeconfig": None, "host": cluster.url, "ca_cert": str(cluster.ca_file),
            "api_key": cluster.kubectl("create", "token", "deployer", "-n", namespace).strip()}


def binding(role, namespace):
    """A RoleBinding and, after it, its Role."""
    return manifest("RoleBinding", "app", RBAC, more=f"""roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {role}}}
subjects: [{{kind: ServiceAccount, name: app, namespace: {namespace}}}]
---
""") + manifest("Role", role, RBAC, more="rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]\n")


def test_a_deployer_without_the_verb_bind_brings_a_role_and_its_binding_in_one_run(run, git_repo, namespace, deployer):
    git_repo.write("r.yaml", binding("app", namespace))
    git_repo.commit()
    planned = run(check_mode=True, **deployer)
    assert "Role.rbac.authorization.k8s.io" in next(change["unverified"] for change in planned["changes"] if change["object"]["kind"] == "RoleBinding")
    assert operations(run(**deployer)) == operations(planned) == {"Role app": "created", "RoleBinding app": "created"}
    assert not run(**deployer)["changed"]


@pytest.mark.parametrize("who", ["an administrator", "a deployer without the verb bind"])
def test_a_binding_is_replaced_for_a_role_that_comes_with_the_same_commit(cluster, run, git_repo, namespace, deployer, who):
    user = deployer if who.startswith("a deployer") else {}
    git_repo.write("r.yaml", binding("one", namespace))
    git_repo.commit()
    run(**user)
    git_repo.write("r.yaml", binding("two", namespace))
    git_repo.commit()
    if not user:  # the server does not look up the role first
        with pytest.raises(Failure, match="r.yaml:1: RoleBinding.* roleRef: .*immutable.*replace_immutable: true"):
            run(check_mode=True)
    planned = run(check_mode=True, replace_immutable=True, **user)
    done = run(replace_immutable=True, **user)
    assert operations(done) == operations(planned) == {"Role two": "created", "RoleBinding app": "configured", "Role one": "pruned"}
    assert get(cluster, namespace, "rolebinding", "app")["roleRef"]["name"] == "two" and not run(**user)["changed"]


def test_check_mode_says_what_a_bare_pod_waits_for(cluster, run, git_repo, namespace):
    git_repo.write("p.yaml", manifest("Pod", "p", more="spec: {serviceAccountName: app, containers: [{name: a, image: registry.example/a:1}]}\n"))
    git_repo.write("s.yaml", manifest("ServiceAccount", "app"))
    git_repo.commit()
    planned = run(check_mode=True)
    assert unverified(planned)["p"] == f"it cannot be verified before ServiceAccount {namespace}/app, which this run writes first"
    assert operations(run()) == operations(planned)


@pytest.mark.parametrize("value", ["false", "true"])
def test_a_field_is_added_to_a_definition_and_used_in_one_commit(cluster, run, git_repo, namespace, group, value):
    git_repo.write("crd.yaml", definition(group, "{size: {type: integer}}"))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more="spec: {size: 1}\n"))
    git_repo.commit()
    run()
    git_repo.write("crd.yaml", definition(group, "{size: {type: integer}, extra: {type: object, properties: {enabled: {type: boolean}}}}"))
    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1", more=f"spec: {{size: 1, extra: {{enabled: {value}}}}}\n"))
    git_repo.commit()
    planned = run(check_mode=True)
    assert "CRD is changed" in unverified(planned)["w"]
    assert operations(run()) == operations(planned) == {f"CustomResourceDefinition widgets.{group}": "configured", "Widget w": "configured"}
    assert get(cluster, namespace, f"widgets.{group}", "w")["spec"]["extra"] == {"enabled": value == "true"}
    assert not run()["changed"]


@pytest.mark.parametrize("held", ["node port", "address"])
def test_a_service_takes_over_what_a_renamed_one_held(cluster, run, git_repo, namespace, held):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("s.yaml", manifest("Service", "old", more="spec: {type: NodePort, selector: {a: b}, ports: [{port: 80}]}\n"))
    git_repo.commit()
    run()
    spec = get(cluster, namespace, "service", "old")["spec"]
    more = f"clusterIP: {spec['clusterIP']}, ports: [{{port: 80}}]" if held == "address" else f"ports: [{{port: 80, nodePort: {spec['ports'][0]['nodePort']}}}]"
    git_repo.write("s.yaml", manifest("Service", "renamed", more=f"spec: {{type: NodePort, selector: {{a: b}}, {more}}}\n"))
    git_repo.commit()
    planned = run(check_mode=True)
    assert f"Service {namespace}/old is pruned" in unverified(planned)["renamed"]
    result = run()
    assert operations(result) == operations(planned) == {"Service renamed": "created", "Service old": "pruned"} and result["in_sync"]
    live = get(cluster, namespace, "service", "renamed")["spec"]
    assert live["clusterIP"] == spec["clusterIP"] if held == "address" else live["ports"][0]["nodePort"] == spec["ports"][0]["nodePort"]
    assert not run()["changed"]


def service(name, *ports, annotations=""):
    listed = ", ".join(f"{{name: p{number}, port: {80 + number}{f', nodePort: {port}' if port else ''}}}" for number, port in enumerate(ports))
    return manifest("Service", name, annotations=annotations, more=f"spec: {{type: NodePort, selector: {{app: {name}}}, ports: [{listed}]}}\n")


def ports_of(cluster, namespace, *names):
    return [[(port["name"], port["nodePort"]) for port in get(cluster, namespace, "service", name)["spec"]["ports"]] for name in names]


LATE = "argocd.argoproj.io/sync-wave: '1'"
EXCHANGES = {
    "two Services": ([service("a", 31911), service("b", 31912)], [service("a", 31912), service("b", 31911)]),
    "three in a circle": ([service("a", 31913), service("b", 31914), service("c", 31915)],
                          [service("a", 31914), service("b", 31915), service("c", 31913)]),
    "a row": ([service("a", 31916), service("b", 31917)], [service("a", 31917), service("b", 31918)]),
    "one to a new Service": ([service("a", 31919)], [service("a", 31920), service("b", 31919)]),
    "one that Git fixes no longer": ([service("a", 31921)], [service("a", 0), service("b", 31921)]),
    "some of several ports": ([service("a", 31922, 31923), service("b", 31924, 31925)], [service("a", 31924, 31923), service("b", 31922, 31925)]),
    "two of one Service": ([service("a", 31926, 31927)], [service("a", 31927, 31926)]),
    "from a later wave": ([service("a", 31928), service("b", 31929, annotations=LATE)], [service("a", 31929), service("b", 31928, annotations=LATE)]),
}


@pytest.mark.parametrize("case", EXCHANGES)
def test_services_exchange_their_node_ports_in_one_run(cluster, run, git_repo, namespace, case):
    before, after = EXCHANGES[case]
    git_repo.write("s.yaml", "---\n".join(before))
    git_repo.commit()
    run()
    git_repo.write("s.yaml", "---\n".join(after))
    git_repo.commit()
    planned = run(check_mode=True)
    done = run(diff=True)
    assert operations(done) == operations(planned)
    for text in after:
        name, wanted = yaml.safe_load(text)["metadata"]["name"], yaml.safe_load(text)["spec"]["ports"]
        there = ports_of(cluster, namespace, name)[0]
        assert [(port["name"], port.get("nodePort", number)) for port, (_name, number) in zip(wanted, there)] == there
    again = run(verify="full")
    assert not again["changed"] and again["in_sync"]
    assert "moving" not in str(done["diff"])


def test_a_node_port_is_given_up_though_a_person_held_it_too(cluster, run, git_repo, namespace):
    git_repo.write("s.yaml", service("a", 31931) + "---\n" + service("b", 31932))
    git_repo.commit()
    run()
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", input=service("a", 31931))
    git_repo.write("s.yaml", service("a", 31932) + "---\n" + service("b", 31931))
    git_repo.commit()
    run()
    assert ports_of(cluster, namespace, "a", "b") == [[("p0", 31932)], [("p0", 31931)]]
    assert not run()["changed"]


def test_an_object_whose_immutable_field_changes_with_its_definition_is_replaced_by_the_rules_of_the_plan(cluster, run, git_repo, namespace, group):
    git_repo.write("all.yaml", widget(group, 1, name="one"))
    git_repo.commit()
    run()
    uid = get(cluster, namespace, f"widgets.{group}", "one")["metadata"]["uid"]
    git_repo.write("all.yaml", widget(group, 2, name="one", fields=", color: {type: string}"))
    git_repo.commit()
    assert "before its CRD is changed" in unverified(run(check_mode=True))["one"]
    with pytest.raises(Failure) as refused:
        run()
    assert "immutable" in str(refused.value) and "replace_immutable: true" in str(refused.value)
    git_repo.write("all.yaml", widget(group, 2, name="one", fields=", color: {type: string}, tone: {type: string}"))
    git_repo.commit()
    with pytest.raises(Failure, match="prune_limit is 0"):
        run(replace_immutable=True, prune_limit="0")
    assert get(cluster, namespace, f"widgets.{group}", "one")["metadata"]["uid"] == uid
    git_repo.write("all.yaml", widget(group, 2, name="one", fields=", color: {type: string}, weight: {type: integer}"))
    git_repo.commit()
    done = run(replace_immutable=True, prune_limit="100%")
    replaced = get(cluster, namespace, f"widgets.{group}", "one")
    assert operations(done)["Widget one"] == "configured" and replaced["metadata"]["uid"] != uid and replaced["spec"]["size"] == 2
    assert not run()["changed"]


def test_what_depends_on_another_object_is_gone_before_that_is_pruned_also_in_later_runs(cluster, run, git_repo, namespace):
    depends = f"config.kubernetes.io/depends-on: /namespaces/{namespace}/ConfigMap/operator"
    git_repo.write("all.yaml", config_map("operator") + "---\n" + config_map("instance", annotations=depends) + "---\n" + config_map("stays"))
    git_repo.commit()
    run()
    cluster.kubectl("patch", "configmap", "instance", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["example.org/tidy"]}}')
    git_repo.write("all.yaml", config_map("stays"))
    git_repo.commit()
    for wait in (True, False):
        with pytest.raises(Failure, match="ConfigMap .*/instance.*example.org/tidy") as caught:
            run(wait=wait, wait_timeout=2)
        assert exists(cluster, namespace, "configmap", "operator") and not caught.value.details["in_sync"]
        assert [item["name"] for item in caught.value.details["still_there"]] == ["instance"]
    cluster.kubectl("patch", "configmap", "instance", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    result = run()
    assert operations(result) == {"ConfigMap operator": "pruned"} and result["in_sync"]


def test_while_something_pruned_is_still_there_nothing_is_in_sync(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("b.yaml", config_map("b"))
    git_repo.commit()
    run()
    cluster.kubectl("patch", "configmap", "b", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["example.org/tidy"]}}')
    git_repo.remove("b.yaml")
    git_repo.commit()
    first = run()
    assert operations(first) == {"ConfigMap b": "pruned"} and not first["in_sync"] and first["still_there"][0]["name"] == "b"
    second = run()
    assert operations(second) == {"ConfigMap b": "skipped"} and not second["in_sync"] and not second["changed"]
    cluster.kubectl("patch", "configmap", "b", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert run()["in_sync"]


# ---- between the plan and the writes


def before_the_writes(monkeypatch, act):
    """act happens after the plan was made and agreed to, before anything is written; once."""
    lock, done = Inventory.lock, []

    def locked(self, *args, **more):
        lock(self, *args, **more)
        if not done:
            done.append(act())

    monkeypatch.setattr(Inventory, "lock", locked)  # fake: the moment of the fault; the real one comes first


def test_an_object_that_vanishes_between_plan_and_write_is_created(cluster, run, git_repo, namespace, monkeypatch):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    cluster.kubectl("label", "configmap", "a", "-n", namespace, "added=by-hand")
    before_the_writes(monkeypatch, lambda: cluster.kubectl("delete", "configmap", "a", "-n", namespace))
    assert operations(run()) == {"ConfigMap a": "created"}
    assert "added" not in get(cluster, namespace, "configmap", "a")["metadata"]["labels"] and not run()["changed"]


def test_on_conflict_fail_holds_also_for_a_field_that_is_taken_after_the_plan(cluster, run, git_repo, namespace, monkeypatch):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    git_repo.write("a.yaml", config_map("a", "two"))
    git_repo.commit()
    before_the_writes(monkeypatch, lambda: cluster.kubectl("patch", "configmap", "a", "-n", namespace, "--type=merge", "--field-manager=some-controller",
                                                           "-p", '{"data":{"key":"theirs"}}'))
    with pytest.raises(Failure, match="some-controller") as caught:
        run(on_conflict="fail")
    assert get(cluster, namespace, "configmap", "a")["data"] == {"key": "theirs"} and not caught.value.details["changed"]


def test_what_appears_after_the_plan_is_not_taken_over_unseen(cluster, run, git_repo, namespace, monkeypatch):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    theirs = config_map("a", "theirs").replace("  name: a\n", "  name: a\n  annotations: {meta.helm.sh/release-name: web}\n")
    before_the_writes(monkeypatch, lambda: cluster.kubectl("create", "-n", namespace, "-f", "-", input=theirs))
    with pytest.raises(Failure, match="a.yaml:1: ConfigMap .*/a: belongs to Helm"):
        run()
    assert get(cluster, namespace, "configmap", "a")["data"] == {"key": "theirs"}


# ---- a plan that was agreed to


def test_only_the_plan_that_was_shown_is_applied(cluster, run, git_repo, namespace):
    git_repo.write("web.yaml", config_map("a") + "---\n" + config_map("b"))
    git_repo.commit()
    shown = run(check_mode=True)["plan_id"]
    assert shown == run(check_mode=True)["plan_id"]
    cluster.kubectl("create", "configmap", "b", "-n", namespace, "--from-literal=key=other")
    since = cluster.moment()
    with pytest.raises(Failure, match="changed since it was shown"):
        run(expect=shown)
    assert not exists(cluster, namespace, "configmap", "a")
    assert [entry for entry in cluster.audit(since) if entry["verb"] not in ("get", "list", "watch") and not entry["dryRun"]
            and entry["userAgent"] == "nordic.gitops"] == []
    again = run(check_mode=True)["plan_id"]
    result = run(expect=again)
    assert result["plan_id"] == again and operations(result) == {"ConfigMap a": "created", "ConfigMap b": "configured"}


def test_an_expected_plan_is_not_applied_to_what_moved_after_the_guard(cluster, run, git_repo, namespace, monkeypatch):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    run()
    cluster.kubectl("label", "configmap", "a", "-n", namespace, "added=by-hand")
    shown = run(check_mode=True)["plan_id"]
    before_the_writes(monkeypatch, lambda: cluster.kubectl("label", "configmap", "a", "-n", namespace, "more=by-hand"))
    with pytest.raises(Failure, match=f"changed since the plan {shown} was made"):
        run(expect=shown)
    assert get(cluster, namespace, "configmap", "a")["metadata"]["labels"]["more"] == "by-hand"


# ---- a refused run


def refusals(git_repo, namespace):
    """One case for each rule: what Git says then, and the options."""
    many = {f"{index}.yaml": None for index in range(11)}
    return {
        "no_foreign_objects": ({"theirs.yaml": config_map("theirs")}, {"adopt": "never"}),
        "no_other_source": ({}, {"path": "other"}),
        "no_conflict_when_it_must_fail": ({"held.yaml": config_map("held", "two")}, {"on_conflict": "fail"}),
        "nothing_beyond_what_is_allowed": ({"new.yaml": config_map("new")}, {"allowed_kinds": ["Secret"]}),
        "no_empty_render": ({**many, "held.yaml": None, "rest.yaml": None, "empty.yaml": "# nothing\n"}, {"prune_limit": "100%"}),
        "no_more_than_the_limit": (many, {}),
        "no_object_deleted_as_a_hook_with_prune_off": ({"held.yaml": config_map("held", annotations=DELETED_AFTERWARDS)}, {"prune": False}),
        "only_the_expected_plan": ({"new.yaml": config_map("new")}, {"expect": "0" * 32}),
    }


RULES = ["no_foreign_objects", "no_other_source", "nothing_beyond_what_is_allowed", "no_conflict_when_it_must_fail", "no_empty_render",
         "no_more_than_the_limit", "no_object_deleted_as_a_hook_with_prune_off", "only_the_expected_plan"]
DELETED_AFTERWARDS = "argocd.argoproj.io/hook: PostSync\nargocd.argoproj.io/hook-delete-policy: HookSucceeded"


@pytest.mark.parametrize("rule, first", [*((rule, False) for rule in RULES), ("no_foreign_objects", True), ("only_the_expected_plan", True)])
def test_a_refused_run_writes_nothing(cluster, run, git_repo, namespace, rule, first):
    assert {one.__name__ for one in GUARD} == set(RULES)
    for index in range(11):
        git_repo.write(f"{index}.yaml", config_map(f"c{index}"))
    git_repo.write("held.yaml", config_map("held"))
    git_repo.write("rest.yaml", config_map("rest"))
    git_repo.write("other/c.yaml", config_map("c"))
    git_repo.commit()
    if not first:
        run(recurse=False)
    cluster.kubectl("create", "configmap", "theirs", "-n", namespace)
    if not first:
        cluster.kubectl("patch", "configmap", "held", "-n", namespace, "--type=merge", "--field-manager=some-controller", "-p", '{"data":{"key":"x"}}')
    files, options = refusals(git_repo, namespace)[rule]
    for name, text in files.items():
        git_repo.remove(name) if text is None else git_repo.write(name, text)
    git_repo.commit()
    before = json.loads(cluster.kubectl("get", "configmaps", "-n", namespace, "-o", "json"))["items"]
    since = cluster.moment()
    with pytest.raises(Failure) as caught:
        run(**{"recurse": False, **options})
    assert not caught.value.details["changed"] and caught.value.details["commit"] and caught.value.details["plan_id"], caught.value
    assert [entry for entry in cluster.audit(since) if entry["userAgent"] == "nordic.gitops" and not entry["dryRun"]
            and entry["verb"] not in ("get", "list", "watch")] == []
    assert json.loads(cluster.kubectl("get", "configmaps", "-n", namespace, "-o", "json"))["items"] == before


def test_a_name_that_moves_is_refused_and_then_allowed(cluster, run, git_repo, namespace):
    git_repo.write("one/a.yaml", config_map("a"))
    git_repo.write("two/b.yaml", config_map("b"))
    git_repo.commit()
    run(path="one")
    with pytest.raises(Failure, match=f"the name {namespace} belongs to .* path one .*, not to .* path two .*move: true"):
        run(path="two")
    assert operations(run(path="two", move=True)) == {"ConfigMap b": "created", "ConfigMap a": "pruned"}
    assert not run(path="./two/")["changed"]


def test_a_name_that_is_used_for_a_second_namespace_is_refused_and_then_allowed(cluster, run, git_repo, namespace):
    other = cluster.namespace()
    try:
        git_repo.write("a.yaml", config_map("a"))
        git_repo.commit()
        run()
        for check_mode in (True, False):
            with pytest.raises(Failure, match=f"belongs to .* namespace {namespace}, not to .* namespace {other}, and 1 object.*move: true"):
                run(namespace=other, check_mode=check_mode)
        assert exists(cluster, namespace, "configmap", "a") and not exists(cluster, other, "configmap", "a")
        git_repo.write("a.yaml", config_map("a", namespace=namespace))
        git_repo.commit()
        assert run(namespace=other)["counts"]["pruned"] == 0  # the same objects
        assert not run(namespace="")["changed"]
        git_repo.write("a.yaml", config_map("a"))
        git_repo.commit()
        assert run(namespace=other, move=True)["counts"]["pruned"] == 1
    finally:
        cluster.remove_namespace(other)


def test_a_failed_run_says_what_it_did_and_what_it_did_not(cluster, run, git_repo, namespace):
    git_repo.write("old.yaml", config_map("old"))
    git_repo.commit()
    run()
    git_repo.remove("old.yaml")
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("bad.yaml", manifest("Service", "bad", more="spec: {clusterIP: 203.0.113.7, ports: [{port: 80}]}\n"))
    git_repo.write("z.yaml", manifest("CronJob", "z", "batch/v1",
                                      more="""spec: {schedule: "0 0 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never,
  containers: [{name: a, image: registry.example/a:1}]}}}}}
"""))
    commit = git_repo.commit()
    with pytest.raises(Failure) as caught:
        run()
    result = caught.value.details
    assert result["changed"] and result["commit"] == commit and not result["in_sync"]
    assert operations(result) == {"ConfigMap a": "created", "Service bad": "failed", "CronJob z": "skipped", "ConfigMap old": "skipped"}
    assert exists(cluster, namespace, "configmap", "a") and exists(cluster, namespace, "configmap", "old")


def test_new_secrets_in_a_few_namespaces_are_asked_for_by_name_and_never_in_the_whole_cluster(cluster, run, git_repo, namespace):
    other = cluster.namespace()
    try:
        for place in (namespace, other):
            git_repo.write(f"{place}.yaml", manifest("Secret", "s", namespace=place, more="stringData: {a: b}\n"))
        git_repo.write("a.yaml", config_map("a"))
        git_repo.commit()
        since = cluster.moment()
        run()
        asked = [entry for entry in cluster.audit(since) if entry["resource"] == "secrets" and entry["verb"] == "list"
                 and entry["userAgent"] == "nordic.gitops"]
        assert asked and all("labelSelector" in entry["uri"] or "fieldSelector" in entry["uri"] for entry in asked)
        assert {place for place in (namespace, other) for entry in asked if f"/namespaces/{place}/secrets" in entry["uri"]} == {namespace, other}
    finally:
        cluster.remove_namespace(other)


@pytest.mark.parametrize("left", ["no folder", "a file that is no manifest"])
def test_when_the_last_file_goes_allow_empty_is_named_and_works(cluster, run, git_repo, namespace, left):
    git_repo.write("README.md", "x\n")
    git_repo.write("apps/a.yaml", config_map("a"))
    git_repo.commit()
    run(path="apps")
    git_repo.remove("apps/a.yaml")
    if left != "no folder":
        git_repo.write("apps/README.md", "x\n")
    git_repo.commit()
    with pytest.raises(Failure, match="allow_empty: true"):
        run(path="apps")
    assert exists(cluster, namespace, "configmap", "a")
    assert operations(run(path="apps", allow_empty=True)) == {"ConfigMap a": "pruned"}


# ---- what is on its way out


def test_a_definition_that_is_being_deleted_is_named_with_what_holds_it_and_waited_for(cluster, run, git_repo, namespace, group):
    git_repo.write("all.yaml", definition(group, "{}") + "---\n" + manifest("Widget", "one", f"{group}/v1"))
    git_repo.commit()
    run()
    cluster.kubectl("patch", f"widgets.{group}", "one", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["example.org/tidy"]}}')
    cluster.kubectl("delete", "crd", f"widgets.{group}", "--wait=false")
    wait_until(lambda: "patch" not in next(item.verbs for item in Cluster.of({"kubeconfig": str(cluster.kubeconfig)}).discover() if item.group == group))
    for check_mode in (True, False):
        with pytest.raises(Failure, match=r"all.yaml:1: CustomResourceDefinition.* is being deleted since "
                                          r".*Widget .*/one with the finalizers example.org/tidy.*wait: true"):
            run(check_mode=check_mode)
    planned = run(check_mode=True, wait=True)
    timer = threading.Timer(1.0, lambda: cluster.kubectl("patch", f"widgets.{group}", "one", "-n", namespace, "--type=merge", "-p",
                                                         '{"metadata":{"finalizers":null}}'))
    timer.start()
    result = run(wait=True)
    timer.join()
    assert operations(result) == operations(planned) == {f"CustomResourceDefinition widgets.{group}": "created", "Widget one": "created"}
    assert not run()["changed"]


def test_a_namespace_that_the_server_never_deletes_gets_back_what_git_set_and_holds_up_nothing(cluster, run, git_repo, namespace):
    git_repo.write("all.yaml", config_map("one") + "---\n" + config_map("two") + """---
apiVersion: v1
kind: Namespace
metadata: {name: kube-node-lease, labels: {team: platform}}
""")
    git_repo.commit()
    run()
    git_repo.write("all.yaml", config_map("one"))
    git_repo.commit()
    assert operations(run()) == {"Namespace kube-node-lease": "skipped", "ConfigMap two": "pruned"}
    planned = run(check_mode=True, prune_protected=True)
    result = run(prune_protected=True)
    assert operations(result) == operations(planned) == {"Namespace kube-node-lease": "configured"} and result["in_sync"]
    labels = get(cluster, namespace, "namespace", "kube-node-lease")["metadata"]["labels"]
    assert labels == {"kubernetes.io/metadata.name": "kube-node-lease"}
    assert not run(prune_protected=True)["changed"]


def test_the_last_object_of_a_kind_is_found_in_whichever_version_answers(cluster, run, git_repo, namespace, group):
    """The preferred version needs a conversion webhook that nobody answers."""
    def definition(versions, conversion):
        return manifest("CustomResourceDefinition", f"widgets.{group}", "apiextensions.k8s.io/v1", more=f"""spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Widget, plural: widgets}}
{conversion}  versions:
""" + "".join(f"""    - name: {version}
      served: true
      storage: {str(version == "v1").lower()}
      schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
""" for version in versions))

    git_repo.write("w.yaml", manifest("Widget", "w", f"{group}/v1"))
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    cluster.kubectl("apply", "-f", "-", input=definition(["v1"], ""))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/widgets.{group}")
    wait_until(lambda: any(item.group == group for item in Cluster.of({"kubeconfig": str(cluster.kubeconfig)}).discover()))
    run()
    cluster.kubectl("apply", "-f", "-", input=definition(["v1", "v2"], f"""  conversion:
    strategy: Webhook
    webhook: {{conversionReviewVersions: [v1], clientConfig: {{service: {{name: nobody, namespace: {namespace}}}}}}}
"""))
    wait_until(lambda: len([item for item in Cluster.of({"kubeconfig": str(cluster.kubeconfig)}).discover() if item.group == group]) == 2)
    client = Cluster.of({"kubeconfig": str(cluster.kubeconfig)})
    assert client.list(client.resource(f"{group}/v1", "Widget"), namespace)[0]  # its storage is made anew: this waits for it
    git_repo.remove("w.yaml")
    git_repo.commit()
    run.tuning = {"patience": 1.0}
    assert operations(run()) == {"Widget w": "pruned"}
