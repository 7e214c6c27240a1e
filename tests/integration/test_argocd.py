# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules say of Applications, with the real Argo CD beside the cluster."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION, APPLICATIONSET, PROJECT, REPOSITORY
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.modules import argocd_admin, argocd_sync
from argocd_tasks import Tasks, run_role
from reconciling import Reconciler, config_map, deployment, operations, wait_until
from trusting import certificate, gpg_keys, ssh_key

IN_CLUSTER = "https://kubernetes.default.svc"
APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
# Building Argo CD takes longer than everything else of the lab.
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("argocd")]


@pytest.fixture
def namespace(argo):
    """A new namespace in that cluster."""
    name = argo.namespace("argo")
    yield name
    argo.remove_namespace(name)


@pytest.fixture
def tasks(argo):
    return Tasks(argo)


@pytest.fixture
def app(argo, tasks, namespace, git_repo):
    """Makes an Application of the folder `app`, which holds one ConfigMap, into the test's namespace; its name."""
    made = []

    def make(name="", **options):
        made.append(name or namespace)
        if not (git_repo.path / "app").exists():
            push(git_repo)
        options = {"source": {"repoURL": git_repo.url, "path": "app", "targetRevision": "main"}, "destination": {"server": IN_CLUSTER, "namespace": namespace},
                   **options}
        tasks(APPLICATION, name=made[-1], **options)
        return made[-1]

    yield make
    for name in made:
        argo.api.send("PATCH", f"{APPLICATIONS}/{name}", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
        argo.api.send("DELETE", f"{APPLICATIONS}/{name}")


def push(repository, value="one", name="settings", more=""):
    """Commit a ConfigMap with this value; the commit."""
    repository.write(f"app/{name}.yaml", config_map(name, value) + more)
    return repository.commit()


def live(argo, name):
    return argo.api.do("GET", f"{APPLICATIONS}/{name}")


def only(result):
    (one,) = result["applications"]
    return one


def value(argo, namespace, name="settings"):
    return argo.api.do("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")["data"]["key"]


def failing_hook(name, phase="PreSync", pod="failed", policy="BeforeHookCreation"):
    return yaml.safe_dump({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "annotations": {"argocd.argoproj.io/hook": phase, "argocd.argoproj.io/hook-delete-policy": policy}},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"annotations": {"lab/pod": pod}}, "spec": {
            "restartPolicy": "Never", "containers": [{"name": "migrate", "image": "registry.example/migrate:1"}]}}}})


def test_the_lab_has_the_real_argo_cd_beside_its_cluster(argo):
    from lab.argocd import Server
    from lab.components import ARGOCD

    server = Server(argo)
    assert server.do("GET", "/api/version")["Version"].startswith(ARGOCD.version)
    assert server.send("GET", "/api/v1/applications", token="nobody")[0] == 401
    assert [each["name"] for each in server.do("GET", "/api/v1/clusters")["items"]] == ["in-cluster"]


# ---- at exactly this commit


def test_a_sync_ends_when_everything_is_well_at_exactly_this_commit_and_a_second_one_does_nothing(argo, tasks, app, namespace, git_repo):
    first = push(git_repo, "one")
    name = app()
    assert only(tasks.sync(check_mode=True, name=name))["outcome"] == "synced" and "operation" not in live(argo, name)
    done = tasks.sync(name=name, revision=first)
    one = only(done)
    assert done["changed"] and (one["outcome"], one["revision"], one["sync"], one["health"]) == ("synced", first, "Synced", "Healthy")
    assert one["objects"] == [{"object": f"ConfigMap {namespace}/settings", "status": "Synced", "message": "configmap/settings created", "hook": "",
                               "failed": False}]
    assert value(argo, namespace) == "one"
    again = tasks.sync(name=name, revision=first)
    assert not again["changed"] and only(again)["outcome"] == "unchanged"
    assert live(argo, name)["status"]["operationState"]["finishedAt"] == one["finished_at"]


def test_without_a_commit_the_newest_one_is_synced_however_long_argo_cd_has_known_an_older_one(argo, tasks, app, namespace, git_repo):
    """argo-cd#7680, argo-cd#12211"""
    name = app()
    tasks.sync(name=name)
    second = push(git_repo, "two")
    assert only(tasks.sync(name=name))["revision"] == second and value(argo, namespace) == "two"


def test_a_commit_that_changes_nothing_of_the_application_is_still_the_one_that_is_synced(argo, tasks, app, git_repo):
    """A hook of that commit may do something else: argo-cd#9830."""
    name = app()
    tasks.sync(name=name)
    git_repo.write("elsewhere/other.yaml", config_map("other"))
    second = git_repo.commit()
    done = tasks.sync(name=name, revision=second)
    assert done["changed"] and only(done)["revision"] == second
    assert live(argo, name)["status"]["history"][-1]["revision"] == second


def test_a_newer_commit_is_told_apart_by_what_it_changes(argo, tasks, app, namespace, git_repo):
    """argo-cd#16601"""
    first = push(git_repo, "one")
    name = app()
    git_repo.write("elsewhere/other.yaml", config_map("other"))
    newer = git_repo.commit()
    one = only(tasks.sync(name=name, revision=first))
    assert (one["outcome"], one["revisions"], one["newer_revisions"]) == ("synced", [first], [newer])
    newest = push(git_repo, "two")
    with pytest.raises(Failure, match=f"was synced at {first}, and its branch is at {newest} now, which changes ConfigMap {namespace}/settings"):
        tasks.sync(name=name, revision=first)


def test_a_difference_that_passes_is_not_taken_for_one_of_a_newer_commit(argo, tasks, app, namespace, git_repo):
    """As right after a sync, when Argo CD has not seen yet what it wrote."""
    first = push(git_repo, "one")
    name = app()
    tasks.sync(name=name)
    git_repo.write("elsewhere/other.yaml", config_map("other"))
    newer = git_repo.commit()

    def change(text):
        argo.kubectl("patch", "configmap", "settings", "--namespace", namespace, "--type=merge", "--patch", json.dumps({"data": {"key": text}}))

    def change_back():
        wait_until(lambda: live(argo, name)["status"]["sync"] == {**live(argo, name)["status"]["sync"], "status": "OutOfSync", "revision": newer}, 60)
        change("one")

    change("by hand")
    thread = threading.Thread(target=change_back)
    thread.start()
    one = only(tasks.sync(name=name, revision=first, operation="wait"))
    thread.join()
    assert (one["outcome"], one["revisions"], one["newer_revisions"]) == ("unchanged", [first], [newer])


def test_an_older_commit_of_an_application_that_syncs_itself_is_refused(tasks, app, git_repo):
    """argo-cd#10367"""
    first = push(git_repo, "one")
    second = push(git_repo, "two")
    name = app(syncPolicy={"automated": {}})
    tasks.sync(name=name, operation="wait")
    with pytest.raises(Failure, match=f"is synced by itself, and its branch is at {second}: it would go back there from {first} at once"):
        tasks.sync(name=name, revision=first)


def test_waiting_sees_what_argo_cd_does_by_itself(argo, tasks, app, namespace, git_repo):
    name = app(syncPolicy={"automated": {"prune": True, "selfHeal": True}})
    second = push(git_repo, "two")
    waited = tasks.sync(name=name, operation="wait", revision=second)
    assert not waited["changed"] and only(waited)["outcome"] == "unchanged" and value(argo, namespace) == "two"


@pytest.mark.parametrize("number", range(5))
def test_while_others_push_a_sync_never_returns_for_another_commit(number, argo, tasks, app, namespace, git_repo):
    """argo-cd#5592, argo-cd#12141, akuity/kargo#6357: pushes and refreshes of others at every moment, and a status that is older than all."""
    name, stop, pushed = app(), threading.Event(), []

    def others():
        while not stop.is_set():
            pushed.append(push(git_repo, f"other-{len(pushed)}", "others"))
            argo.kubectl("annotate", "applications", name, "--namespace", "argocd", "--overwrite", "argocd.argoproj.io/refresh=normal")
            stop.wait(0.05 * (number + 1))

    asked = push(git_repo, f"asked-{number}")
    racer = threading.Thread(target=others)
    racer.start()
    try:
        one = only(tasks.sync(name=name, revision=asked))
        assert one["revision"] == asked and one["outcome"] == "synced"
    except Failure as failure:
        assert f"was synced at {asked}, and its branch is at " in str(failure)
    finally:
        stop.set()
        racer.join()
    assert value(argo, namespace) == f"asked-{number}"
    assert live(argo, name)["status"]["history"][-1]["revision"] == asked


def test_a_hundred_syncs_in_a_race_end_at_their_own_commit_and_a_hundred_broken_ones_fail(argo, tasks, app, namespace, git_repo):
    """Others push to the repository and refresh the Application all the while; an operation that fails is never told by the status before it."""
    name, stop, turn, failed = app(), threading.Event(), threading.Lock(), []

    def commit(value, broken):
        with turn:
            git_repo.write("app/settings.yaml", config_map("settings", value))
            git_repo.write("app/bad.yaml", f"apiVersion: v1\nkind: Service\nmetadata: {{name: bad}}\nspec: {{ports: [{{port: {99999 if broken else 80}}}]}}\n")
            return git_repo.commit()

    def others():
        number = 0
        try:
            while not stop.is_set():
                number += 1
                with turn:
                    git_repo.write("elsewhere/other.yaml", config_map("other", f"other-{number}"))
                    git_repo.commit()
                argo.kubectl("annotate", "applications", name, "--namespace", "argocd", "--overwrite", "argocd.argoproj.io/refresh=normal")
                stop.wait(0.02 * (number % 20))
        except BaseException as error:
            failed.append(error)

    racer = threading.Thread(target=others)
    racer.start()
    try:
        for number in range(100):
            asked = commit(f"asked-{number}", broken=False)
            one = only(tasks.sync(name=name, revision=asked))
            assert (one["outcome"], one["revision"]) == ("synced", asked) and value(argo, namespace) == f"asked-{number}"
            assert live(argo, name)["status"]["history"][-1]["revision"] == asked
            broken = commit(f"broken-{number}", broken=True)
            with pytest.raises(Failure, match=f"the sync of {broken} failed: .*\n  Service {namespace}/bad: .*99999"):
                tasks.sync(name=name, revision=broken, retry={"limit": 0})
    finally:
        stop.set()
        racer.join()
    assert not failed


def test_each_of_several_sources_is_synced_at_its_own_commit(argo, tasks, app, namespace, git_repo, tmp_path):
    from lab.repository import Repository

    other = Repository(tmp_path / "other")
    other.write("more/limits.yaml", config_map("limits", "low"))
    mine, theirs = push(git_repo), other.commit()
    name = app(sources=[{"repoURL": git_repo.url, "path": "app", "targetRevision": "main"}, {"repoURL": other.url, "path": "more", "targetRevision": "main"}],
               source=None)
    one = only(tasks.sync(name=name, revisions=[mine, theirs]))
    assert one["revisions"] == [mine, theirs] and value(argo, namespace, "limits") == "low"
    with pytest.raises(Refused, match="has 2 sources, and the task names 1 commits"):
        tasks.sync(name=name, revision=mine)
    other.write("more/limits.yaml", config_map("limits", "high"))
    later = other.commit()
    assert only(tasks.sync(name=name))["revisions"] == [mine, later] and value(argo, namespace, "limits") == "high"


def test_many_applications_are_synced_at_once_by_name_label_or_applicationset(argo, tasks, app, namespace, git_repo):
    for number in range(6):
        git_repo.write(f"many/{number}/settings.yaml", config_map(f"settings-{number}"))
    commit = git_repo.commit()
    tasks(APPLICATIONSET, name=namespace, generators=[{"list": {"elements": [{"number": str(number)} for number in range(6)]}}], goTemplate=True,
          syncPolicy={"preserveResourcesOnDeletion": True},
          template={"metadata": {"name": f"{namespace}-{{{{ .number }}}}", "labels": {"team": namespace}}, "spec": {
              "project": "default", "source": {"repoURL": git_repo.url, "path": "many/{{ .number }}", "targetRevision": "main"},
              "destination": {"server": IN_CLUSTER, "namespace": namespace}}})
    names = [f"{namespace}-{number}" for number in range(6)]
    wait_until(lambda: all(argo.api.send("GET", f"{APPLICATIONS}/{name}")[0] == 200 for name in names))
    done = tasks.sync(applicationset=namespace)
    assert {each["name"]: (each["outcome"], each["revision"]) for each in done["applications"]} == {name: ("synced", commit) for name in names}
    assert {each["outcome"] for each in tasks.sync(label_selector=f"team={namespace}")["applications"]} == {"unchanged"}
    assert [each["name"] for each in tasks.sync(names=names[:2])["applications"]] == names[:2]
    tasks(APPLICATIONSET, name=namespace, state="absent", deletion="orphan")
    tasks(APPLICATION, applications=[{"name": name} for name in names], state="absent", deletion="orphan")


# ---- failed as soon as that is certain


@pytest.fixture
def tree(argo, app, namespace, git_repo):
    """Makes a root Application, below it one that has a ConfigMap and one that has a third; their names. options: of the first child."""
    names = [f"{namespace}-{name}" for name in ("child", "middle", "grandchild")]

    def child(name, path, **options):
        return yaml.safe_dump({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name, "namespace": "argocd"},
            "spec": {"project": "default", "source": {"repoURL": git_repo.url, "path": path, "targetRevision": "main"},
                     "destination": {"server": IN_CLUSTER, "namespace": namespace},
                     "syncPolicy": {"automated": {}, "retry": {"limit": 1, "backoff": {"duration": "1s", "factor": 1, "maxDuration": "1s"}}}, **options}})

    def make(**options):
        git_repo.write("root/child.yaml", child(names[0], "child", **options))
        git_repo.write("root/middle.yaml", child(names[1], "middle"))
        git_repo.write("middle/grandchild.yaml", child(names[2], "grandchild"))
        for path in ("child", "grandchild"):
            git_repo.write(f"{path}/settings.yaml", config_map(path, "one"))
        git_repo.commit()
        return app(source={"repoURL": git_repo.url, "path": "root", "targetRevision": "main"}), names

    yield make
    for name in names:
        argo.api.send("DELETE", f"{APPLICATIONS}/{name}")


def test_a_root_is_done_when_every_application_below_it_is_at_its_commit_to_the_last_level(argo, tasks, tree, namespace, git_repo):
    """argo-cd#15830, argo-cd#6708"""
    root, names = tree()
    done = tasks.sync(name=root)
    commit = git_repo.git("rev-parse", "HEAD").strip()
    told = {each["name"]: each for each in done["applications"]}
    assert list(told) == [root, *names] and [each["parent"] for each in done["applications"]] == ["", root, root, names[1]]
    assert {each["revision"] for each in told.values()} == {commit} and {each["health"] for each in told.values()} == {"Healthy"}
    assert value(argo, namespace, "grandchild") == "one" and not tasks.sync(name=root)["changed"]
    git_repo.write("grandchild/settings.yaml", config_map("grandchild", "two"))
    second = git_repo.commit()
    assert {each["revision"] for each in tasks.sync(name=root)["applications"]} == {second} and value(argo, namespace, "grandchild") == "two"
    git_repo.write("grandchild/settings.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n")
    git_repo.commit()
    with pytest.raises(Failure, match=f"Application argocd/{names[2]}: ") as caught:
        tasks.sync(name=root)
    assert [each["outcome"] for each in caught.value.details["applications"]] == ["synced", "unchanged", "unchanged", "failed"]
    # Without its children the root is well.
    assert [each["name"] for each in tasks.sync(name=root, children=False)["applications"]] == [root]


def test_a_child_that_nobody_syncs_is_a_failure_that_says_so(tasks, tree):
    root, names = tree(syncPolicy={})
    with pytest.raises(Failure, match=f"Application argocd/{names[0]}: is OutOfSync at .*Nobody syncs it, as auto-sync is off. Sync it by its name, or say"):
        tasks.sync(name=root)


def test_a_sync_waits_for_the_operation_of_somebody_else_and_then_runs_its_own(argo, tasks, app, namespace, git_repo):
    """argo-cd#4505: another operation is already in progress."""
    first = push(git_repo, "one", more="---\n" + failing_hook("migrate", pod="pending"))
    name = app()
    second = push(git_repo, "two")
    argo.kubectl("patch", "applications.argoproj.io", name, "--namespace", "argocd", "--type=merge", "--patch", json.dumps(
        {"operation": {"sync": {"revision": first}, "initiatedBy": {"username": "astrid"}}}))
    wait_until(lambda: argo.api.send("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/migrate")[0] == 200, 60)
    results = []
    thread = threading.Thread(target=lambda: results.append(tasks.sync(name=name, revision=second)))
    thread.start()
    wait_until(lambda: "argocd.argoproj.io/refresh" not in live(argo, name)["metadata"].get("annotations", {}), 60)
    assert live(argo, name)["status"]["operationState"]["operation"]["initiatedBy"] == {"username": "astrid"}
    tasks.sync(name=name, operation="abort")
    thread.join(120)
    (done,) = results
    assert only(done)["outcome"] == "synced" and only(done)["revision"] == second and value(argo, namespace) == "two"


def test_an_object_that_the_server_refuses_is_a_failure_with_its_message(tasks, app, namespace, git_repo):
    git_repo.write("app/bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n")
    commit = push(git_repo)
    name = app()
    began = time.monotonic()
    with pytest.raises(Failure, match=f"the sync of {commit} failed: .*\n  Service {namespace}/bad: .*99999") as caught:
        tasks.sync(name=name, retry={"limit": 0})
    assert time.monotonic() - began < 60 and caught.value.details["changed"]
    assert [each["object"] for each in only(caught.value.details)["objects"] if each["failed"]] == [f"Service {namespace}/bad"]


def test_what_the_server_says_of_a_secret_is_not_passed_on(tasks, app, git_repo):
    """argo-cd#16193"""
    git_repo.write("app/secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: 4711471147, user: swordfish-one}\n")
    push(git_repo)
    name = app()
    with pytest.raises(Failure) as caught:
        tasks.sync(name=name, retry={"limit": 0})
    assert "Secret" in str(caught.value)
    assert "swordfish-one" not in str(caught.value) + json.dumps(caught.value.details) and "4711471147" not in str(caught.value)


def test_a_hook_that_fails_is_a_failure_that_names_it_and_its_pod(tasks, app, namespace, git_repo):
    git_repo.write("app/migrate.yaml", failing_hook("migrate"))
    push(git_repo)
    name = app()
    with pytest.raises(Failure) as caught:
        tasks.sync(name=name, retry={"limit": 0})
    assert f"Job.batch {namespace}/migrate (hook PreSync)" in str(caught.value)
    assert f"Pod {namespace}/migrate-" in str(caught.value) and "event BackoffLimitExceeded" in str(caught.value)


def test_a_hook_that_cannot_start_ends_the_wait_with_its_pod_and_its_message(argo, tasks, app, namespace, git_repo):
    """argo-cd#15593"""
    git_repo.write("app/migrate.yaml", failing_hook("migrate", pod="image-pull-backoff"))
    push(git_repo)
    name = app()
    with pytest.raises(Failure, match=f"Pod {namespace}/migrate-.*, container migrate: ImagePullBackOff: Back-off pulling image"):
        tasks.sync(name=name)
    ended = tasks.sync(name=name, operation="abort")
    assert ended["changed"] and only(ended)["outcome"] == "aborted"
    found = live(argo, name)
    assert "operation" not in found and found["status"]["operationState"]["phase"] == "Failed"
    assert not tasks.sync(name=name, operation="abort")["changed"]


def test_an_operation_that_is_tried_again_and_again_is_told_at_once_and_abort_ends_it(argo, tasks, app, namespace, git_repo):
    """argo-cd#11494"""
    git_repo.write("app/bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n")
    broken = push(git_repo)
    name = app()
    with pytest.raises(Failure, match="did not end within 6 s.*, and goes on"):
        tasks.sync(name=name, retry={"limit": 5, "backoff": {"duration": "1h"}}, wait_timeout=6)
    git_repo.remove("app/bad.yaml")
    mended = git_repo.commit()
    with pytest.raises(Failure, match=f"a sync of {broken} by nordic.gitops runs since .*, has failed 1 times with 4 retries left"):
        tasks.sync(name=name)
    one = only(tasks.sync(name=name, abort=True))
    assert (one["outcome"], one["revision"]) == ("synced", mended) and value(argo, namespace) == "one"


def test_a_path_that_does_not_exist_is_a_failure_with_argo_cds_words(tasks, app, git_repo):
    push(git_repo)
    name = app()
    git_repo.remove("app")
    git_repo.write("elsewhere/a.yaml", config_map("a"))
    git_repo.commit()
    with pytest.raises(Failure, match="ComparisonError: .*app: app path does not exist"):
        tasks.sync(name=name)


def test_what_has_to_be_pruned_is_named_and_prune_deletes_it(argo, tasks, app, namespace, git_repo):
    push(git_repo, name="extra")
    push(git_repo)
    name = app()
    tasks.sync(name=name)
    git_repo.remove("app/extra.yaml")
    commit = git_repo.commit()
    with pytest.raises(Failure, match=f"is OutOfSync, as ConfigMap {namespace}/extra is no longer in the repository; prune: true deletes it"):
        tasks.sync(name=name)
    one = only(tasks.sync(name=name, prune=True))
    assert one["revision"] == commit and argo.api.send("GET", f"/api/v1/namespaces/{namespace}/configmaps/extra")[0] == 404


def test_a_workload_that_stays_degraded_is_a_failure_that_says_why(tasks, app, namespace, git_repo):
    text = deployment("web", more="  progressDeadlineSeconds: 1\n") .replace("labels: {app: web}}", 'labels: {app: web}, annotations: {lab/pod: crash-loop}}')
    git_repo.write("app/web.yaml", text)
    push(git_repo)
    name = app()
    with pytest.raises(Failure, match=f"and Degraded.*\n  Deployment.apps {namespace}/web: .*CrashLoopBackOff"):
        tasks.sync(name=name, wait_timeout=90)


@pytest.mark.parametrize("stopped, told", [
    ("argocd-application-controller", "Argo CD did not look at it within 3 s. Does its application controller run"),
    ("argocd-repo-server", "Argo CD did not look at it within 3 s. Does its application controller run, does it reach the repository"),
])
def test_a_part_of_argo_cd_that_does_not_answer_is_said_and_an_old_status_is_no_success(stopped, told, argo, tasks, app, git_repo):
    from lab import argocd

    name = app()
    tasks.sync(name=name)
    push(git_repo, "two")
    with argocd.stopped(argo, stopped), pytest.raises(Failure, match=told):
        tasks.sync(name=name, wait_timeout=3)
    assert only(tasks.sync(name=name))["outcome"] == "synced"


def test_a_closed_sync_window_is_a_failure_and_leaves_no_operation_behind(argo, tasks, app, namespace, git_repo):
    """argo-cd#25361"""
    tasks(PROJECT, name=namespace, sourceRepos=["*"], destinations=[{"server": "*", "namespace": "*"}],
          syncWindows=[{"kind": "deny", "schedule": "* * * * *", "duration": "1h", "applications": ["*"]}])
    name = app(project=namespace)
    with pytest.raises(Failure, match=f"a sync window of the project {namespace} is closed"):
        tasks.sync(name=name)
    wait_until(lambda: "operation" not in live(argo, name) and live(argo, name)["status"]["operationState"]["phase"] == "Failed")


# ---- without a sync


def test_a_dry_run_changes_nothing(argo, tasks, app, namespace):
    name = app()
    done = tasks.sync(name=name, dry_run=True)
    assert not done["changed"] and only(done)["outcome"] == "dry_run"
    assert only(done)["objects"][0]["message"] == "configmap/settings created (dry run)"
    assert argo.api.send("GET", f"/api/v1/namespaces/{namespace}/configmaps/settings")[0] == 404


def test_only_the_chosen_objects_are_synced(argo, tasks, app, namespace, git_repo):
    push(git_repo, name="other")
    push(git_repo)
    name = app()
    done = tasks.sync(name=name, resources=[{"kind": "ConfigMap", "name": "other"}])
    assert [each["object"] for each in only(done)["objects"]] == [f"ConfigMap {namespace}/other"]
    assert argo.api.send("GET", f"/api/v1/namespaces/{namespace}/configmaps/settings")[0] == 404


def test_each_example_of_argocd_sync_runs(argo, tasks, app, namespace, git_repo):
    git_repo.write("app/web.yaml", deployment("payment-gateway"))
    commit = push(git_repo)
    name = app(labels={"team": namespace})
    for task in yaml.safe_load(argocd_sync.EXAMPLES):
        text = json.dumps(task["nordic.gitops.argocd_sync"]).replace("production-payment-gateway", name).replace("{{ pushed.commit }}", commit)
        options = json.loads(text.replace("team=shop", f"team={namespace}"))
        if "applicationset" not in options:
            assert {each["outcome"] for each in tasks.sync(**options)["applications"]} <= {"synced", "unchanged", "dry_run"}, task["name"]


# ---- argocd_admin


def test_the_administrators_password_is_set_once_and_the_first_one_goes(argo, tasks):
    """argo-helm#347: a login stays valid until the password changes, however often the task runs."""
    from lab import argocd

    first = argocd.Server(argo)
    secrets = "/api/v1/namespaces/argocd/secrets"
    initial = argo.api.do("GET", f"{secrets}/argocd-initial-admin-secret")

    def keys():
        return argo.api.do("GET", f"{secrets}/argocd-secret")["data"]

    before = keys()
    (task,) = yaml.safe_load(argocd_admin.EXAMPLES)
    options = {**task["nordic.gitops.argocd_admin"], "admin_password": "correct horse æøå"}
    try:
        with pytest.raises(Refused, match="the first password is the only way in"):
            tasks.admin()
        assert tasks.admin(check_mode=True, **options) == {"changed": True, "password_changed": True, "first_secret_removed": True}
        assert keys() == before and first.send("GET", "/api/v1/account")[0] == 200
        time.sleep(1)  # a login of the very second in which the password changes stays valid: Argo CD counts in seconds
        assert tasks.admin(**options) == {"changed": True, "password_changed": True, "first_secret_removed": True}
        assert argo.api.send("GET", f"{secrets}/argocd-initial-admin-secret")[0] == 404
        wait_until(lambda: first.send("GET", "/api/v1/account")[0] == 401)
        login = {"username": "admin", "password": options["admin_password"]}
        wait_until(lambda: first.send("POST", "/api/v1/session", login)[0] == 200)
        token = first.do("POST", "/api/v1/session", login)["token"]
        assert first.send("POST", "/api/v1/session", {**login, "password": first.password})[0] == 401
        after = keys()
        assert {key: text for key, text in after.items() if not key.startswith("admin.password")} == {
            key: text for key, text in before.items() if not key.startswith("admin.password")}
        assert tasks.admin(**options) == {"changed": False, "password_changed": False, "first_secret_removed": False}
        assert keys() == after and first.send("GET", "/api/v1/account", token=token)[0] == 200
    finally:
        argo.api.send("PATCH", f"{secrets}/argocd-secret", {"data": before}, "application/merge-patch+json")
        argo.api.send("POST", secrets, {key: initial[key] for key in ("apiVersion", "kind", "type", "data")} | {
            "metadata": {"name": initial["metadata"]["name"], "namespace": "argocd"}})
        wait_until(lambda: argocd.Server(argo).token)


# ---- argocd_repository


def test_argo_cd_reads_what_a_task_says_is_trusted_and_both_keep_what_the_other_added(argo, tasks, tmp_path):
    from lab import argocd

    server = argocd.Server(argo)
    key, other, (pem, _private) = ssh_key(tmp_path / "a", "ed25519"), ssh_key(tmp_path / "b", "ed25519"), certificate("git.example.no")
    with gpg_keys("releases@example.no") as (gpg,):
        task = {"certificates": [{"serverName": "git.example.no", "certData": pem}], "known_hosts": [f"[git.example.no]:2222 {key}"], "gpg_keys": [gpg.public]}
        gone = {**task, "state": "absent"}

        def certificates():
            return {(each["serverName"], each["certType"]) for each in server.do("GET", "/api/v1/certificates")["items"]}

        before = certificates()
        try:
            assert tasks(REPOSITORY, **task)["changed"]
            wait_until(lambda: certificates() == before | {("git.example.no", "https"), ("[git.example.no]:2222", "ssh")})
            (found,) = server.do("GET", "/api/v1/gpgkeys")["items"]
            assert (found["keyID"], found["fingerprint"]) == (gpg.fingerprint[-16:], gpg.fingerprint)
            added = {"items": [{"serverName": "other.example.no", "certType": "ssh", "certSubType": "ssh-ed25519",
                                "certData": base64.b64encode(other.split()[1].encode()).decode()}]}
            server.do("POST", "/api/v1/certificates", added)
            assert not tasks(REPOSITORY, **task)["changed"] and ("github.com", "ssh") in before
        finally:
            tasks(REPOSITORY, **gone)
        wait_until(lambda: certificates() == before | {("other.example.no", "ssh")})
        assert not server.do("GET", "/api/v1/gpgkeys").get("items")
        tasks(REPOSITORY, known_hosts=["other.example.no"], state="absent")


# ---- the role, with an Argo CD that manages itself


def test_argo_cd_manages_itself_from_a_folder_that_the_role_writes_and_a_second_run_changes_nothing(argo, tasks, tmp_path):
    """argo-cd#10831, argo-helm#1765"""
    from lab import argocd

    bare = tmp_path / "manifests.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)

    def git(*arguments):
        return subprocess.run(["git", "-C", str(bare), *arguments], capture_output=True, text=True, check=True).stdout

    def get(kind, name):
        text = argo.kubectl("get", kind, name, "--namespace", "argocd", "--output", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    options = {"source": str(argocd.tree() / "manifests" / "install.yaml"), "self_managed": True, "manifests_repository": f"file://{bare}",
               "cm": {"url": "https://argocd.example.no"}, "wait_timeout": 60}
    server = argocd.Server(argo)
    secrets = get("secret", "argocd-secret")["data"]
    try:
        assert "changed=0" not in run_role(argo, tmp_path, "--check", **options)
        assert not git("for-each-ref") and get("deployment", "argocd-server") is None
        run_role(argo, tmp_path, **options)
        assert {line.split("/")[-1] for line in git("ls-tree", "-r", "--name-only", "main").splitlines()} == {
            "kustomization.yaml", "namespace.yaml", "definitions.yaml", "manifests.yaml"}
        status = live(argo, "argocd")["status"]
        assert (status["sync"]["status"], status["health"]["status"]) == ("Synced", "Healthy") and not follow.troubles(live(argo, "argocd"))
        assert get("deployment", "argocd-server")["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"].startswith("argocd:")
        assert get("configmap", "argocd-cm")["data"]["url"] == "https://argocd.example.no"
        run_role(argo, tmp_path, unchanged=True, **options)
        run_role(argo, tmp_path, "--check", unchanged=True, **options)
        assert git("rev-list", "--count", "main").strip() == "1"
        # What is changed goes by way of Git, and Argo CD is who applies it.
        since = argo.moment()
        run_role(argo, tmp_path, **{**options, "cm": {"url": "https://argocd.example.com"}})
        assert get("configmap", "argocd-cm")["data"]["url"] == "https://argocd.example.com" and git("rev-list", "--count", "main").strip() == "2"
        who = {each["userAgent"].split("/")[0] for each in argo.audit(since) if each["name"] == "argocd-cm" and each["verb"] in ("patch", "update")}
        assert who == {"argocd-application-controller"}
        # A controller that does not run cannot mend itself.
        argo.kubectl("delete", "deployment", "argocd-server", "--namespace", "argocd")
        with argocd.stopped(argo, "argocd-application-controller"):
            run_role(argo, tmp_path, fails="Argo CD did not look at it within 5 s", **{**options, "wait_timeout": 5})
            assert get("deployment", "argocd-server")
        run_role(argo, tmp_path, **options)
        run_role(argo, tmp_path, unchanged=True, **options)
        assert get("secret", "argocd-secret")["data"] == secrets and server.send("GET", "/api/v1/account")[0] == 200
    finally:
        if get("applications.argoproj.io", "argocd"):
            tasks(APPLICATION, name="argocd", state="absent", deletion="orphan")
        argo.kubectl("delete", "deployments,statefulsets,networkpolicies", "--all", "--namespace", "argocd")
        argo.kubectl("patch", "configmap", "argocd-cm", "--namespace", "argocd", "--type=merge", "--patch", '{"data": {"url": null}}')
        tasks(PROJECT, name="argocd", state="absent")


# ---- hand-over


def deletions(argo, since, namespace):
    """What anybody deleted in the namespace."""
    return [(entry["resource"], entry["name"]) for entry in argo.audit(since)
            if entry["namespace"] == namespace and not entry["dryRun"] and entry["verb"] in ("delete", "deletecollection")]


def uids(argo, namespace):
    return {each["metadata"]["name"]: each["metadata"]["uid"] for resource in ("pods", "configmaps") for each in
            argo.api.do("GET", f"/api/v1/namespaces/{namespace}/{resource}")["items"]}


def test_objects_are_handed_over_both_ways_and_no_pod_restarts(argo, tasks, app, namespace, git_repo, tmp_path):
    git_repo.write("app/web.yaml", deployment("web", replicas=3))
    commit = push(git_repo)
    run = Reconciler(name=namespace, namespace=namespace, repository=git_repo.url, path="app", kubeconfig=str(argo.kubeconfig), wait=True, wait_timeout=60,
                     git_cache=str(tmp_path / "cache"), inventory_namespace=namespace)
    run()
    before, since = uids(argo, namespace), argo.moment()

    name = app()
    assert only(tasks.sync(name=name))["revision"] == commit
    assert uids(argo, namespace) == before and not deletions(argo, since, namespace)

    # What reconcile no longer finds in Git belongs to the Application now.
    git_repo.write("elsewhere/settings.yaml", config_map("elsewhere"))
    git_repo.commit()
    kept = run(path="elsewhere", move=True, prune_limit="100%")
    reasons = {change["object"]["name"]: change["reason"] for change in kept["changes"] if change["operation"] == "skipped"}
    assert reasons == dict.fromkeys(("web", "settings"), f"belongs to the Application {name} of Argo CD")
    git_repo.git("reset", "--quiet", "--hard", commit)
    before = {key: value for key, value in uids(argo, namespace).items() if key != "elsewhere"}

    since = argo.moment()
    gone = tasks(APPLICATION, name=name, state="absent", deletion="orphan")
    assert {text.split()[0] for each in gone["applications"] for text in each["released"]} == {"ConfigMap", "Deployment.apps"}
    taken = run(move=True, prune_limit="100%")
    assert taken["in_sync"] and not {"created", "skipped"} & set(operations(taken).values())
    assert {key: value for key, value in uids(argo, namespace).items() if key in before} == before
    assert deletions(argo, since, namespace) == [("configmaps", "elsewhere")]


def held(argo, namespace):
    """Every object of the namespace that somebody put there, without what the server and the managers write into its metadata."""
    found = {}
    for path in ("/api/v1/namespaces/{}/configmaps", "/api/v1/namespaces/{}/services", "/apis/apps/v1/namespaces/{}/deployments"):
        for each in argo.api.do("GET", path.format(namespace))["items"]:
            metadata = each["metadata"]
            if metadata["name"] == "kube-root-ca.crt" or metadata["name"].startswith("nordic-gitops-"):
                continue
            labels = {key: text for key, text in metadata.get("labels", {}).items() if not key.startswith("applyset.kubernetes.io/")}
            notes = {key: text for key, text in metadata.get("annotations", {}).items() if not key.startswith(("kubectl.kubernetes.io/", "deployment."))}
            found[path.rpartition("/")[2], metadata["name"]] = {**{key: part for key, part in each.items() if key not in ("metadata", "status")},
                                                                "labels": labels, "annotations": notes, "uid": metadata["uid"]}
    return found


@pytest.fixture
def reconcile_of(argo, namespace, tmp_path, monkeypatch, git_repo):
    """A reconcile from an Application, beside the Argo CD that has it."""
    monkeypatch.setenv("PATH", f"{argo.bin}:{os.environ['PATH']}")
    return Reconciler(name=namespace, repository=git_repo.url, kubeconfig=str(argo.kubeconfig), git_cache=str(tmp_path / "cache"),
                      inventory_namespace=namespace, wait=True, wait_timeout=60)


CHART = {"Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n", "values.yaml": "color: red\nport: 1\n", "production.yaml": "color: green\n",
         "templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-values}\ndata:\n  all: {{ toJson .Values | quote }}\n"
                             "  place: {{ .Release.Namespace }}\n"}
FOLDER = {"web.yaml": deployment("web", replicas=2), "deeper/below.yaml": config_map("below"), "out.yaml": config_map("out")}
KUSTOMIZED = {"kustomization.yaml": "resources: [web.yaml]\nimages: [{name: registry.example/web, newTag: '2'}, {name: other, newTag: '1'}]\n"
                                    "commonAnnotations: {a: b}\n", "web.yaml": deployment("web", replicas=2)}


@pytest.mark.parametrize("files, source", [
    (FOLDER, {}),
    (FOLDER, {"directory": {"recurse": True, "exclude": "{out,nothing}.yaml"}}),
    (FOLDER, {"directory": {"recurse": True, "include": "*w*.yaml"}}),
    (KUSTOMIZED, {}),
    (KUSTOMIZED, {"kustomize": {"namePrefix": "pre-", "nameSuffix": "-post", "images": ["registry.example/web=registry.example/mirror/web:3"],
                                "replicas": [{"name": "web", "count": 3}], "commonLabels": {"team": "payment"}, "commonAnnotations": {"c": "æ"}}}),
    (KUSTOMIZED, {"kustomize": {"images": ["registry.example/web@sha256:" + "a" * 64], "commonLabels": {"team": "payment"}, "labelWithoutSelector": True,
                                "labelIncludeTemplates": True}}),
    (KUSTOMIZED, {"kustomize": {"images": ["registry.example/web:7"], "commonLabels": {"team": "payment"}, "labelWithoutSelector": True}}),
    (CHART, {}),
    (CHART, {"helm": {"releaseName": "gateway", "valueFiles": ["production.yaml"], "values": "port: 3\nextra: yes\n", "parameters": [
        {"name": "number", "value": "7"}, {"name": "text", "value": "7", "forceString": True}, {"name": "labels.a\\.b", "value": "x,y"},
        {"name": "deep.on", "value": "True"}, {"name": "version", "value": "0.10"}, {"name": "zero", "value": "007"}, {"name": "none", "value": "null"},
        {"name": "minus", "value": "-3"}, {"name": "plus", "value": "+3"}, {"name": "big", "value": "9" * 25}, {"name": "empty", "value": ""}]}}),
    (CHART, {"helm": {"valuesObject": {"color": "blue", "list": [1, {"a": "b"}]}, "valueFiles": ["/app/production.yaml"]}}),
])
def test_a_reconcile_from_an_application_makes_what_argo_cd_makes(files, source, argo, tasks, app, namespace, git_repo, reconcile_of):
    for path, text in files.items():
        git_repo.write(f"app/{path}", text)
    commit = git_repo.commit()
    name = app(source={"repoURL": git_repo.url, "path": "app", "targetRevision": "main", **source})
    tasks.sync(name=name)
    before, since = held(argo, namespace), argo.moment()
    assert before
    done = reconcile_of(from_application=name)
    assert done["commit"] == commit and done["in_sync"] and held(argo, namespace) == before and not deletions(argo, since, namespace)
    assert set(operations(done).values()) <= {"configured", "unchanged"}
    assert not reconcile_of(from_application=name)["changed"]
    # Argo CD has nothing to do either.
    assert only(tasks.sync(name=name))["outcome"] == "unchanged"


def test_while_argo_cd_is_gone_a_reconcile_from_the_application_heals_prunes_and_hands_back(argo, tasks, app, namespace, git_repo, reconcile_of):
    from lab import argocd

    git_repo.write("app/web.yaml", deployment("web", replicas=3))
    push(git_repo, name="extra")
    push(git_repo)
    name = app(syncPolicy={"automated": {"prune": True, "selfHeal": True}, "syncOptions": ["CreateNamespace=true"]})
    tasks.sync(name=name, operation="wait")
    before, since = uids(argo, namespace), argo.moment()
    with argocd.stopped(argo, "argocd-application-controller"):
        reconcile_of(from_application=name)
        # Argo CD would go back to the commit that it knew before, and make again what was pruned.
        assert live(argo, name)["metadata"]["annotations"]["argocd.argoproj.io/refresh"] == "normal"
        argo.kubectl("patch", "configmap", "settings", "--namespace", namespace, "--type=merge", "--patch", '{"data": {"key": "by hand"}}')
        git_repo.remove("app/extra.yaml")
        push(git_repo, name="later")
        planned = reconcile_of(True, from_application=name)
        done = reconcile_of(from_application=name)
        assert operations(done) == operations(planned) and planned["plan_id"] == done["plan_id"]
        assert operations(done)["ConfigMap extra"] == "pruned" and operations(done)["ConfigMap later"] == "created" and done["in_sync"]
        assert value(argo, namespace) == "one" and not reconcile_of(from_application=name)["changed"]
    (one,) = tasks.sync(name=name, operation="wait")["applications"]
    assert one["revision"] == done["commit"] and (one["sync"], one["health"]) == ("Synced", "Healthy")
    assert {key: uid for key, uid in uids(argo, namespace).items() if key in before} == {key: uid for key, uid in before.items() if key != "extra"}
    assert deletions(argo, since, namespace) == [("configmaps", "extra")]


def test_what_another_application_has_is_not_taken_over(argo, tasks, app, namespace, git_repo, reconcile_of):
    name = app()
    tasks.sync(name=name)
    other = app(name=f"{namespace}-other")
    with pytest.raises(Refused, match=f"ConfigMap {namespace}/settings belongs to Argo CD .argocd.argoproj.io/tracking-id: {name}:"):
        reconcile_of(from_application=other, name=other)


# ---- argocd_info


def test_info_says_who_synced_which_commit_and_what_is_out_of_sync_and_why(argo, tasks, app, namespace, git_repo):
    git_repo.write("app/web.yaml", deployment("web"))
    push(git_repo, name="extra")
    first = push(git_repo)
    name = app(labels={"team": namespace})
    (before,) = tasks.info(name=name)
    assert before["last_sync"] == {} and before["history"] == [] and before["sync"] == "OutOfSync"
    assert {each["reason"] for each in before["out_of_sync"]} == {"it is not in the cluster"}
    tasks.sync(name=name)
    (one,) = tasks.info(label_selector=f"team={namespace}")
    assert (one["sync"], one["health"], one["automated"], one["out_of_sync"], one["unhealthy"], one["running"]) == ("Synced", "Healthy", False, [], [], "")
    assert one["images"] == ["registry.example/web:1"] and one["destination"] == {"cluster": IN_CLUSTER, "namespace": namespace}
    assert one["sources"] == [{"repository": git_repo.url, "revision": "main", "path": "app", "chart": "", "commit": first}]
    assert [(each["commits"], each["by"]) for each in one["history"]] == [([first], "nordic.gitops")]
    assert (one["last_sync"]["phase"], one["last_sync"]["commits"], one["last_sync"]["errors"]) == ("Succeeded", [first], [])
    git_repo.remove("app/extra.yaml")
    push(git_repo, "two")
    with pytest.raises(Failure, match="is OutOfSync, as"):
        tasks.sync(name=name)
    argo.kubectl("patch", "configmap", "settings", "--namespace", namespace, "--type=merge", "--patch", '{"data": {"key": "by hand"}}')
    wait_until(lambda: len(tasks.info(name=name)[0]["out_of_sync"]) == 2, 60)
    assert tasks.info(name=name)[0]["out_of_sync"] == [
        {"object": f"ConfigMap {namespace}/extra", "reason": "it is no longer in the repository"},
        {"object": f"ConfigMap {namespace}/settings", "reason": "it differs from the repository"}]


def test_info_tells_the_error_of_an_application_and_the_end_of_a_sync_that_failed(tasks, app, namespace, git_repo):
    git_repo.write("app/bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n")
    push(git_repo)
    name = app()
    with pytest.raises(Failure):
        tasks.sync(name=name, retry={"limit": 0})
    (one,) = tasks.info(name=name)
    assert one["last_sync"]["phase"] == "Failed" and any(f"Service {namespace}/bad" in line for line in one["last_sync"]["errors"])
    git_repo.remove("app")
    git_repo.write("elsewhere/a.yaml", config_map("a"))
    git_repo.commit()
    with pytest.raises(Failure):
        tasks.sync(name=name)
    (one,) = tasks.info(name=name)
    assert one["sync"] == "Unknown" and any("app path does not exist" in line for line in one["conditions"])
