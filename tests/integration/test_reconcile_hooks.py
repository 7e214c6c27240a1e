# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks on the real API server, with Jobs that the real controllers end. What Argo CD makes of the same is compared in test_argocd_hooks.py."""

from __future__ import annotations

import json
import os
import signal

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import HOOKS
from reconciling import config_map, definition, exists, get, manifest, operations, start, wait_until

HOOK = "argocd.argoproj.io/hook"
POLICY = "argocd.argoproj.io/hook-delete-policy"
WAVE = "argocd.argoproj.io/sync-wave"
# How each pod of a hook's Job ends in the lab.
COMPLETES, FAILS, HANGS = "", "failed", "pending"


def hook(name, phase="PreSync", policy="", wave="", pod=COMPLETES, image="1", more="", **other):
    """A Job as a hook."""
    marks = {HOOK: phase, **({POLICY: policy} if policy else {}), **({WAVE: wave} if wave else {}), **other}
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in marks.items() if value is not None)
    pods = f"metadata: {{annotations: {{lab/pod: {pod}}}}}, " if pod else ""
    return manifest("Job", name, "batch/v1", annotations=lines, more=f"""spec:
  backoffLimit: 0
  {more}
  template: {{{pods}spec: {{restartPolicy: Never, containers: [{{name: a, image: "registry.example/a:{image}"}}]}}}}
""")


def ran(result):
    """{"PreSync migrate": "Succeeded"}"""
    return {f"{one['phase']} {one['object']['name']}": one["status"] for one in result["hooks"]}


def writes(cluster, since, namespace, verbs=("create", "patch", "delete")):
    return [(entry["verb"], entry["name"]) for entry in cluster.audit(since)
            if entry["namespace"] == namespace and entry["verb"] in verbs and not entry["dryRun"] and not entry["subresource"]
            and entry["userAgent"].startswith("nordic.gitops") and not entry["name"].startswith("nordic-gitops-")]


def uid(cluster, namespace, name, kind="job"):
    found = get(cluster, namespace, kind, name)
    return found["metadata"]["uid"] if found else None


def record(cluster, namespace, run):
    found = get(cluster, run.options["inventory_namespace"], "configmap", f"nordic-gitops-{run.options['name']}")
    return found["metadata"]["annotations"].get(HOOKS)


def test_hooks_run_before_among_and_after_the_objects_and_are_no_members_of_the_inventory(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("z.yaml", config_map("late", annotations=f'{WAVE}: "2"'))
    git_repo.write("hooks.yaml", "---\n".join([hook("after", "PostSync"), hook("first", "PreSync", wave="-1"), hook("second", "PreSync"),
                                               hook("among", "Sync", wave="1"), hook("rescue", "SyncFail")]))
    git_repo.commit()
    planned = run(check_mode=True, diff=True)
    assert set(ran(planned).values()) == {"Planned"} and planned["changed"] and not exists(cluster, namespace, "job", "first")
    assert any("first" in part.get("after_header", "") for part in planned["diff"])
    since = cluster.moment()
    done = run()
    assert ran(done) == {"PreSync first": "Succeeded", "PreSync second": "Succeeded", "Sync among": "Succeeded", "PostSync after": "Succeeded",
                         "SyncFail rescue": "NotRun"}
    assert [name for _verb, name in writes(cluster, since, namespace)] == ["first", "second", "settings", "among", "late", "after"]
    assert operations(done) == {"ConfigMap settings": "created", "ConfigMap late": "created"}
    assert done["in_sync"] and done["plan_id"] == planned["plan_id"] and sum(done["counts"].values()) == 2
    labels = get(cluster, namespace, "job", "first")["metadata"]["labels"]
    assert OF in labels and "applyset.kubernetes.io/part-of" not in labels
    assert record(cluster, namespace, run).startswith("done ")


def test_a_second_run_asks_no_more_than_that_of_a_tree_without_hooks(cluster, run, git_repo, namespace):
    def requests():
        since = cluster.moment()
        result = run(wait=True)
        assert not result["changed"] and result["hooks"] == []
        return sorted((entry["verb"], entry["resource"]) for entry in cluster.audit(since) if entry["userAgent"].startswith("nordic.gitops"))

    git_repo.write("a.yaml", config_map("settings"))
    git_repo.commit()
    run()
    without = requests()
    git_repo.write("hooks.yaml", hook("migrate") + "---\n" + hook("after", "PostSync"))
    git_repo.commit()
    run()
    assert requests() == without


def test_hooks_do_not_run_when_drift_is_healed_and_run_again_for_a_new_commit_with_something_to_do(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("migrate"))
    git_repo.commit()
    run()
    first = uid(cluster, namespace, "migrate")
    cluster.kubectl("patch", "configmap", "settings", "-n", namespace, "--type=merge", "-p", '{"data": {"key": "drifted"}}')
    healed = run()
    assert operations(healed) == {"ConfigMap settings": "configured"} and healed["hooks"] == [] and uid(cluster, namespace, "migrate") == first
    cluster.kubectl("delete", "job", "migrate", "-n", namespace)
    assert run()["hooks"] == [] and not exists(cluster, namespace, "job", "migrate")  # a hook that is gone is no drift
    git_repo.write("a.yaml", config_map("settings", "two"))
    git_repo.commit()
    assert ran(run()) == {"PreSync migrate": "Succeeded"} and exists(cluster, namespace, "job", "migrate")
    second = uid(cluster, namespace, "migrate")
    git_repo.write("a.yaml", config_map("settings", "three"))
    git_repo.commit()
    planned = run(check_mode=True)
    assert "is deleted first" in planned["hooks"][0]["message"]
    assert ran(run()) == {"PreSync migrate": "Succeeded"} and uid(cluster, namespace, "migrate") not in (None, second)


def test_a_commit_that_changes_nothing_here_runs_no_hook_and_one_that_changes_only_a_hook_runs_it(cluster, run, git_repo, namespace):
    git_repo.write("app/a.yaml", config_map("settings"))
    git_repo.write("app/hooks.yaml", hook("migrate"))
    git_repo.commit()
    run(path="app")
    first = uid(cluster, namespace, "migrate")
    git_repo.write("elsewhere/a.yaml", "x")
    git_repo.commit()
    assert run(path="app")["hooks"] == [] and uid(cluster, namespace, "migrate") == first
    git_repo.write("app/hooks.yaml", hook("migrate", image="2"))
    git_repo.commit()
    assert ran(run(path="app")) == {"PreSync migrate": "Succeeded"} and uid(cluster, namespace, "migrate") != first
    git_repo.remove("app/hooks.yaml")
    git_repo.commit()
    assert run(path="app")["hooks"] == [] and exists(cluster, namespace, "job", "migrate")  # as Argo CD leaves it
    assert record(cluster, namespace, run) == ""


def test_a_hook_that_fails_stops_the_run_before_anything_else_and_runs_syncfail(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", "---\n".join([hook("migrate", pod=FAILS), hook("after", "PostSync"), hook("rescue", "SyncFail")]))
    git_repo.commit()
    with pytest.raises(Failure) as caught:
        run()
    told, result = str(caught.value), caught.value.details
    assert f"hooks.yaml:1: Job.batch {namespace}/migrate: the hook of PreSync failed: Failed: " in told and "BackoffLimitExceeded" in told, told
    assert ran(result) == {"PreSync migrate": "Failed", "PostSync after": "NotRun", "SyncFail rescue": "Succeeded"}
    assert result["changed"] and not result["in_sync"] and not exists(cluster, namespace, "configmap", "settings")
    assert not exists(cluster, namespace, "job", "after") and exists(cluster, namespace, "job", "rescue")
    assert "log of Pod" in result["hooks"][0]["message"]
    # The same commit once more is tried from the start.
    failed = uid(cluster, namespace, "migrate")
    with pytest.raises(Failure):
        run()
    assert uid(cluster, namespace, "migrate") != failed
    git_repo.write("hooks.yaml", hook("migrate", image="2"))
    git_repo.commit()
    assert ran(run()) == {"PreSync migrate": "Succeeded", "SyncFail rescue": "Deleted"} and exists(cluster, namespace, "configmap", "settings")
    assert not run()["changed"]


def test_a_failed_postsync_hook_is_a_failure_and_runs_again_though_all_objects_are_in_place(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("after", "PostSync", pod=FAILS, policy="HookSucceeded,BeforeHookCreation"))
    git_repo.commit()
    for _attempt in range(2):
        with pytest.raises(Failure, match="the hook of PostSync failed"):
            run()
        assert exists(cluster, namespace, "configmap", "settings") and exists(cluster, namespace, "job", "after")
        assert record(cluster, namespace, run) == f"unfinished batch/Job/{namespace}/after"


def test_an_object_that_the_server_refuses_runs_syncfail_and_not_postsync(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", manifest("Service", "one", more="spec: {type: NodePort, ports: [{port: 80, nodePort: 31999}]}\n"))
    git_repo.write("hooks.yaml", hook("before") + "---\n" + hook("after", "PostSync") + "---\n" + hook("rescue", "SyncFail", policy="HookFailed"))
    git_repo.write("b.yaml", manifest("Service", "two", more="spec: {type: NodePort, ports: [{port: 80, nodePort: 31999}]}\n"))
    git_repo.commit()
    with pytest.raises(Failure, match="already allocated") as caught:
        run()
    assert ran(caught.value.details) == {"PreSync before": "Succeeded", "PostSync after": "NotRun", "SyncFail rescue": "Succeeded"}
    wait_until(lambda: not exists(cluster, namespace, "job", "rescue"))


@pytest.mark.parametrize("policy, left", [("", True), ("HookSucceeded", False), ("HookFailed", True), ("HookSucceeded,HookFailed", False)])
def test_a_hook_is_left_or_deleted_after_a_success_as_its_policy_says(cluster, run, git_repo, namespace, policy, left):
    git_repo.write("hooks.yaml", hook("migrate", policy=policy))
    git_repo.commit()
    run()
    wait_until(lambda: exists(cluster, namespace, "job", "migrate") is left)


@pytest.mark.parametrize("policy, left", [("", True), ("HookSucceeded", True), ("HookFailed", False)])
def test_hooks_are_left_or_deleted_after_a_failure_as_their_policy_says_whichever_failed(cluster, run, git_repo, namespace, policy, left):
    git_repo.write("hooks.yaml", hook("well", policy=policy, wave="-1") + "---\n" + hook("migrate", policy=policy, pod=FAILS))
    git_repo.commit()
    with pytest.raises(Failure, match="the hook of PreSync failed"):
        run()
    for name in ("well", "migrate"):
        wait_until(lambda name=name: exists(cluster, namespace, "job", name) is left)


def test_a_hook_in_two_phases_runs_twice_and_is_one_object(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("both", "PreSync, PostSync"))
    git_repo.commit()
    since = cluster.moment()
    assert ran(run()) == {"PreSync both": "Succeeded", "PostSync both": "Succeeded"}
    assert writes(cluster, since, namespace) == [("patch", "both"), ("patch", "settings"), ("delete", "both"), ("patch", "both")]


def test_a_hook_with_a_generated_name_gets_one_for_its_commit_and_phase(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("x", "PreSync,PostSync").replace("name: x", "generateName: backup-"))
    one = git_repo.commit()
    assert ran(run()) == {f"PreSync backup-{one[:7]}-presync": "Succeeded", f"PostSync backup-{one[:7]}-postsync": "Succeeded"}
    assert not run()["changed"]
    git_repo.write("a.yaml", config_map("settings", "two"))
    two = git_repo.commit()
    run()
    assert all(exists(cluster, namespace, "job", f"backup-{commit[:7]}-presync") for commit in (one, two))


def test_helms_hooks_run_in_the_phases_and_waves_that_argo_cd_gives_them(cluster, run, git_repo, namespace):
    def helm(name, events, weight, policy=None):
        return hook(name, **{HOOK: None, "phase": None, "helm.sh/hook": events, "helm.sh/hook-weight": weight, "helm.sh/hook-delete-policy": policy})

    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", "---\n".join([helm("second", "pre-install,pre-upgrade", "5", "hook-succeeded"), helm("first", "pre-upgrade", "-5"),
                                               helm("after", "post-install", "0"), helm("tested", "test", "0")]).replace(f"    {HOOK}: null\n", ""))
    git_repo.commit()
    since = cluster.moment()
    done = run()
    assert {(one["object"]["name"], one["phase"], one["wave"]) for one in done["hooks"]} == {
        ("first", "PreSync", -5), ("second", "PreSync", 5), ("after", "PostSync", 0)}
    assert [name for verb, name in writes(cluster, since, namespace) if verb != "delete"] == ["first", "second", "settings", "after"]
    wait_until(lambda: not exists(cluster, namespace, "job", "second"))
    assert exists(cluster, namespace, "job", "first") and not exists(cluster, namespace, "job", "tested")
    assert any("left out, a hook of no phase of a sync" in note for note in run.notes)


def test_the_namespace_and_the_definition_of_a_hook_come_before_it(cluster, run, git_repo, namespace, group, request):
    other = f"{namespace}-new"
    request.addfinalizer(lambda: cluster.kubectl("delete", "namespace", other, "--ignore-not-found", "--wait=false"))
    git_repo.write("n.yaml", manifest("Namespace", other, annotations=f'{WAVE}: "5"'))
    git_repo.write("w.yaml", definition(group, "{size: {type: integer}}") + "---\n"
                   + manifest("Widget", "w", f"{group}/v1", namespace=other, annotations=f"{HOOK}: PreSync", more="spec: {size: 1}\n"))
    git_repo.write("hooks.yaml", hook("migrate", wave="-3").replace("  name: migrate", f"  name: migrate\n  namespace: {other}"))
    git_repo.commit()
    assert set(ran(run(check_mode=True)).values()) == {"Planned"}
    assert ran(run()) == {"PreSync migrate": "Succeeded", "PreSync w": "Succeeded"}
    assert not run()["changed"]


def test_a_job_that_cleans_itself_up_at_once_is_seen_to_end(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("quick", more="ttlSecondsAfterFinished: 0"))
    git_repo.commit()
    assert ran(run()) == {"PreSync quick": "Succeeded"}
    wait_until(lambda: not exists(cluster, namespace, "job", "quick"))


def test_a_failed_job_that_cleans_itself_up_is_a_failure(cluster, run, git_repo, namespace):
    git_repo.write("hooks.yaml", hook("quick", pod=FAILS, more="ttlSecondsAfterFinished: 0"))
    git_repo.commit()
    with pytest.raises(Failure, match="the hook of PreSync failed"):
        run()
    wait_until(lambda: not exists(cluster, namespace, "job", "quick"))


def test_a_job_that_is_there_and_may_not_be_deleted_first_is_told_not_to_have_run_again(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("once", policy="HookFailed"))
    git_repo.commit()
    assert run()["hooks"][0]["message"] == ""
    first = uid(cluster, namespace, "once")
    git_repo.write("a.yaml", config_map("settings", "two"))
    git_repo.commit()
    assert "did not run again" in run()["hooks"][0]["message"] and uid(cluster, namespace, "once") == first
    git_repo.write("hooks.yaml", hook("once", policy="HookFailed", image="2"))
    git_repo.commit()
    with pytest.raises(Failure, match="field is immutable.*Give the hook the delete policy BeforeHookCreation"):
        run()


def test_a_pod_that_runs_to_its_end_is_a_hook_that_is_waited_for(cluster, run, git_repo, namespace):
    pod = "spec: {restartPolicy: Never, containers: [{name: a, image: registry.example/a:1}]}\n"
    git_repo.write("hooks.yaml", manifest("Pod", "p", annotations=f"{HOOK}: PreSync\nlab/pod: failed", more=pod))
    git_repo.commit()
    with pytest.raises(Failure, match=f"Pod {namespace}/p: the hook of PreSync failed"):
        run()


def test_an_object_that_is_there_and_was_made_by_somebody_else_is_refused_before_anything_is_written(cluster, run, git_repo, namespace):
    cluster.kubectl("create", "job", "migrate", "-n", namespace, "--image=registry.example/theirs:1")
    theirs = uid(cluster, namespace, "migrate")
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("migrate"))
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Refused, match="was not made by a hook of this reconcile. Delete it, or give the hook another name"):
            run(check_mode=check_mode)
    assert uid(cluster, namespace, "migrate") == theirs and not exists(cluster, namespace, "configmap", "settings")


def test_a_hook_is_not_written_beyond_what_is_allowed(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("migrate"))
    git_repo.commit()
    with pytest.raises(Refused, match="beyond allowed_kinds"):
        run(allowed_kinds=["ConfigMap"])
    assert not exists(cluster, namespace, "job", "migrate")


def test_a_fault_in_a_hook_is_found_before_anything_is_written(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    for text, words in ((hook("migrate", more="parallelism: many"), "parallelism"), (hook("migrate", more="parallelism: -1"), "parallelism"),
                        (hook("migrate", "PreSnyc"), 'annotation argocd.argoproj.io/hook has "PreSnyc"'),
                        (hook("migrate", policy="HookSucceded"), 'hook-delete-policy has "HookSucceded"'),
                        (hook("migrate", wave="soon"), "not a whole number")):
        git_repo.write("hooks.yaml", text)
        git_repo.commit()
        with pytest.raises(Failure, match=words) as caught:
            run()
        assert "hooks.yaml:1" in str(caught.value)
        assert not exists(cluster, namespace, "configmap", "settings") and not exists(cluster, namespace, "job", "migrate")


def test_a_volume_that_is_a_hook_is_applied_again_and_never_deleted(cluster, run, git_repo, namespace):
    claim = manifest("PersistentVolumeClaim", "data", annotations=f"{HOOK}: PreSync",
                     more="spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}\n")
    git_repo.write("hooks.yaml", claim)
    git_repo.commit()
    with pytest.raises(Failure):
        run(wait_timeout=1)  # nothing binds it here
    first = uid(cluster, namespace, "data", "pvc")
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.commit()
    assert "is kept and applied again" in run(check_mode=True)["hooks"][0]["message"]
    with pytest.raises(Failure):
        run(wait_timeout=1)
    assert first and uid(cluster, namespace, "data", "pvc") == first


def test_a_custom_resource_that_owns_a_volume_is_applied_again_and_not_deleted(cluster, run, git_repo, namespace, group):
    def write(size):
        git_repo.write("w.yaml", definition(group, "{size: {type: integer}}") + "---\n"
                       + manifest("Widget", "w", f"{group}/v1", annotations=f"{HOOK}: PreSync\n{POLICY}: HookSucceeded,BeforeHookCreation",
                                  more=f"spec: {{size: {size}}}\n"))
        git_repo.commit()

    write(1)
    run()
    wait_until(lambda: not exists(cluster, namespace, f"widgets.{group}", "w"))
    git_repo.write("fails.yaml", hook("fails", pod=FAILS, wave="1"))
    write(2)
    with pytest.raises(Failure, match="the hook of PreSync failed"):
        run()  # so that the resource of the first wave stays
    owner = {"apiVersion": f"{group}/v1", "kind": "Widget", "name": "w", "uid": uid(cluster, namespace, "w", f"widgets.{group}")}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}
    cluster.api.do("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "ownerReferences": [owner]}, "spec": spec})
    git_repo.remove("fails.yaml")
    write(3)
    planned = run(check_mode=True)
    assert f"is kept and applied again, since it owns PersistentVolumeClaim {namespace}/data" in planned["hooks"][0]["message"]
    assert ran(run()) == {"PreSync w": "Succeeded", "PreSync fails": "Deleted"}
    live = get(cluster, namespace, f"widgets.{group}", "w")
    assert live["metadata"]["uid"] == owner["uid"] and live["spec"]["size"] == 3 and not live["metadata"].get("deletionTimestamp")
    assert exists(cluster, namespace, "pvc", "data")


def test_an_object_that_owns_a_volume_stays_when_git_turns_it_into_a_hook(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("database"))
    git_repo.commit()
    run()
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "database", "uid": uid(cluster, namespace, "database", "configmap")}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}
    cluster.api.do("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "ownerReferences": [owner]}, "spec": spec})
    git_repo.write("a.yaml", config_map("database", "two", annotations=f"{HOOK}: PreSync\n{POLICY}: HookSucceeded,BeforeHookCreation"))
    git_repo.commit()
    assert f"it owns PersistentVolumeClaim {namespace}/data" in run(check_mode=True)["hooks"][0]["message"]
    assert ran(run()) == {"PreSync database": "Succeeded"}
    live = get(cluster, namespace, "configmap", "database")
    assert live["metadata"]["uid"] == owner["uid"] and live["data"] == {"key": "two"} and exists(cluster, namespace, "pvc", "data")


def test_what_a_run_applied_as_an_object_and_is_a_hook_now_is_neither_pruned_nor_run_for_that_alone(cluster, run, git_repo, namespace):
    plain = hook("migrate").replace(f'    {HOOK}: "PreSync"\n', "").replace("  annotations:\n", "")
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", plain)
    git_repo.commit()
    run()
    # fake: as a version that ran no hooks left the parent
    parent = f"nordic-gitops-{run.options['name']}"
    cluster.kubectl("annotate", "configmap", parent, "-n", run.options["inventory_namespace"], f"{HOOKS}-")
    first = uid(cluster, namespace, "migrate")
    git_repo.write("hooks.yaml", hook("migrate"))
    git_repo.commit()
    done = run()
    assert done["hooks"] == [] and operations(done) == {} and uid(cluster, namespace, "migrate") == first
    assert not run()["changed"]
    git_repo.write("a.yaml", config_map("settings", "two"))
    git_repo.commit()
    assert ran(run()) == {"PreSync migrate": "Succeeded"} and uid(cluster, namespace, "migrate") != first


def test_what_argo_cd_skips_is_neither_applied_nor_pruned(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("b.yaml", config_map("other"))
    git_repo.commit()
    run()
    git_repo.write("a.yaml", config_map("settings", "two", annotations=f"{HOOK}: Skip"))
    git_repo.write("c.yaml", config_map("new", annotations=f"{HOOK}: PostDelete"))
    git_repo.commit()
    assert operations(run()) == {} and get(cluster, namespace, "configmap", "settings")["data"] == {"key": "one"}
    assert not exists(cluster, namespace, "configmap", "new")


def test_a_run_that_is_killed_while_a_hook_runs_is_resumed_and_the_hook_is_not_started_twice(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("hooks.yaml", hook("migrate", pod=HANGS))
    git_repo.commit()
    process = start(**run.options)
    wait_until(lambda: exists(cluster, namespace, "job", "migrate"), 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    first = uid(cluster, namespace, "migrate")
    assert record(cluster, namespace, run) == f"unfinished batch/Job/{namespace}/migrate"
    with pytest.raises(Failure, match="still running after 2 s") as caught:
        run(wait_timeout=2)
    assert ran(caught.value.details) == {"PreSync migrate": "Running"} and uid(cluster, namespace, "migrate") == first
    # Another commit does not wait for it: it is deleted with its Pod, and then made anew.
    git_repo.write("hooks.yaml", hook("migrate", image="2"))
    git_repo.commit()
    assert ran(run()) == {"PreSync migrate": "Succeeded"} and uid(cluster, namespace, "migrate") != first
    assert not run()["changed"]


def test_a_hook_that_a_killed_run_left_and_git_no_longer_has_is_deleted_by_the_next_run(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.commit()
    run()
    git_repo.write("hooks.yaml", hook("migrate", pod=HANGS))
    git_repo.commit()
    with pytest.raises(Failure, match="still running"):
        run(wait_timeout=1)
    git_repo.remove("hooks.yaml")
    git_repo.commit()
    planned = run(check_mode=True, diff=True)
    assert planned["changed"] and ran(planned) == {"PreSync migrate": "Planned"} and planned["diff"] and exists(cluster, namespace, "job", "migrate")
    with pytest.raises(Refused, match="beyond allowed_kinds"):
        run(allowed_kinds=["ConfigMap"])
    done = run(expect=planned["plan_id"])
    assert done["changed"] and ran(done) == {"PreSync migrate": "Deleted"}
    wait_until(lambda: not exists(cluster, namespace, "job", "migrate"))
    assert record(cluster, namespace, run) == ""
    assert not run()["changed"]


def test_what_a_failed_run_had_as_a_hook_and_git_has_as_an_object_stays_the_same_object(cluster, run, git_repo, namespace):
    git_repo.write("member.yaml", config_map("member"))
    git_repo.commit()
    run()
    # Of two hooks one ran, and the other one, an object until now, did not.
    git_repo.write("made.yaml", config_map("made", annotations=f'{HOOK}: PreSync\n{WAVE}: "-1"'))
    git_repo.write("member.yaml", config_map("member", annotations=f"{HOOK}: PostSync"))
    git_repo.write("fails.yaml", hook("fails", pod=FAILS))
    git_repo.commit()
    with pytest.raises(Failure, match="the hook of PreSync failed"):
        run()
    uids = [uid(cluster, namespace, name, "configmap") for name in ("made", "member")]
    git_repo.write("made.yaml", config_map("made"))
    git_repo.write("member.yaml", config_map("member"))
    git_repo.remove("fails.yaml")
    git_repo.commit()
    done = run()
    assert [uid(cluster, namespace, name, "configmap") for name in ("made", "member")] == uids and None not in uids
    assert done["in_sync"] and OF not in get(cluster, namespace, "configmap", "made")["metadata"]["labels"]
    assert not run()["changed"]


def test_an_object_that_was_to_be_a_hook_and_never_ran_is_deleted_by_the_rules_of_pruning_alone(cluster, run, git_repo, namespace):
    git_repo.write("member.yaml", config_map("member"))
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.commit()
    run()
    git_repo.write("member.yaml", config_map("member", annotations=f"{HOOK}: PostSync\n{POLICY}: HookFailed"))
    git_repo.write("fails.yaml", hook("fails", pod=FAILS))
    git_repo.commit()
    with pytest.raises(Failure, match="the hook of PreSync failed"):
        run()
    assert exists(cluster, namespace, "configmap", "member")  # it did not run, so it is not deleted after the failure
    git_repo.remove("member.yaml")
    git_repo.remove("fails.yaml")
    git_repo.commit()
    run(prune=False)
    assert exists(cluster, namespace, "configmap", "member")
    assert operations(run()) == {"ConfigMap member": "pruned"}


def test_objects_that_git_turns_into_hooks_are_within_prune_limit_and_stay_with_prune_off(cluster, run, git_repo, namespace):
    def write(number, marks):
        git_repo.write("a.yaml", "---\n".join(config_map(f"c{one}", annotations=marks if one < number else "") for one in range(4)))
        git_repo.commit()

    write(0, "")
    run()
    write(3, f"{HOOK}: PreSync\n{POLICY}: HookSucceeded")
    for check_mode in (True, False):
        with pytest.raises(Refused, match="would prune 0 and replace 3 of 4 objects, prune_limit is 2"):
            run(check_mode=check_mode, prune_limit="2")
        with pytest.raises(Refused, match="prune is off, and 3 objects are to be run as a hook and deleted afterwards"):
            run(check_mode=check_mode, prune=False)
    assert all(exists(cluster, namespace, "configmap", f"c{one}") for one in range(4))
    assert set(ran(run(prune_limit="3")).values()) == {"Succeeded"}
    wait_until(lambda: [exists(cluster, namespace, "configmap", f"c{one}") for one in range(4)] == [False] * 3 + [True])


def test_objects_live_in_a_namespace_and_bind_a_role_that_hooks_make(cluster, run, git_repo, namespace, request):
    other = f"{namespace}-new"
    request.addfinalizer(lambda: cluster.kubectl("delete", "namespace", other, "--ignore-not-found", "--wait=false"))
    git_repo.write("n.yaml", manifest("Namespace", other, annotations=f"{HOOK}: PreSync"))
    git_repo.write("a.yaml", config_map("settings", namespace=other))
    git_repo.write("r.yaml", manifest("Role", "reader", "rbac.authorization.k8s.io/v1", annotations=f"{HOOK}: PreSync", more="rules: []\n") + "---\n"
                   + manifest("RoleBinding", "reader", "rbac.authorization.k8s.io/v1",
                              more="roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\nsubjects: []\n"))
    git_repo.commit()
    assert set(ran(run(check_mode=True)).values()) == {"Planned"}
    done = run()
    assert set(ran(done).values()) == {"Succeeded"} and operations(done) == {"ConfigMap settings": "created", "RoleBinding reader": "created"}
    assert not run()["changed"]


def test_an_object_that_was_skipped_and_is_gone_from_git_is_pruned(cluster, run, git_repo, namespace):
    git_repo.write("a.yaml", config_map("settings"))
    git_repo.write("robot.yaml", manifest("ServiceAccount", "robot"))
    git_repo.commit()
    run()
    git_repo.write("robot.yaml", manifest("ServiceAccount", "robot", annotations=f"{HOOK}: Skip"))
    git_repo.commit()
    assert operations(run()) == {} and exists(cluster, namespace, "serviceaccount", "robot")
    git_repo.remove("robot.yaml")
    git_repo.commit()
    assert operations(run()) == {"ServiceAccount robot": "pruned"}


def test_a_hook_takes_no_field_of_another_manager_that_is_to_be_kept(cluster, run, git_repo, namespace):
    def write(value):
        git_repo.write("hooks.yaml", config_map("shared", value, annotations=f"{HOOK}: PreSync\n{POLICY}: HookFailed"))
        git_repo.commit()

    write("one")
    run()
    cluster.kubectl("patch", "configmap", "shared", "-n", namespace, "--type=merge", "-p", '{"data": {"key": "theirs"}}', "--field-manager=some-operator")
    write("two")
    for on_conflict in ("keep", "fail"):
        with pytest.raises(Failure, match='hooks.yaml:1: .*conflict with "some-operator"'):
            run(on_conflict=on_conflict)
    assert get(cluster, namespace, "configmap", "shared")["data"] == {"key": "theirs"}
    run()
    assert get(cluster, namespace, "configmap", "shared")["data"] == {"key": "two"}


def test_a_hook_that_needs_what_is_written_after_it_is_named_before_the_start(run, git_repo):
    git_repo.write("a.yaml", config_map("settings") + "---\n" + config_map("free"))
    git_repo.write("s.yaml", manifest("ServiceAccount", "robot") + "---\n" + manifest("ServiceAccount", "early", annotations=f"{HOOK}: PreSync"))
    pods = """spec:
  template: {spec: {serviceAccountName: %s, restartPolicy: Never, containers: [{name: a, image: registry.example/a:1, envFrom: [
    {configMapRef: {name: settings}}, {configMapRef: {name: free, optional: true}}]}]}}
"""
    git_repo.write("hooks.yaml", "---\n".join(manifest("Job", name, "batch/v1", annotations=f"{HOOK}: PreSync", more=pods % name)
                                              for name in ("robot", "early")))
    git_repo.commit()
    run(check_mode=True)
    found = [note.partition(" and needs ")[2].partition(",")[0].partition("/")[2] for note in run.notes]
    assert sorted(found) == ["robot", "settings", "settings"] and "hooks.yaml:1" in run.notes[0]
