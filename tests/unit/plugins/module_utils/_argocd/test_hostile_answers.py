# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a broken or hostile API server, or whoever may write an object of Argo CD, can do with it: cost a run its success, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils import _masked_text
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import choice, evidence, follow, guard, info, operation, removal
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.answers import Checked, checked
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION, CLUSTER, PROJECT, REPOSITORY, hidden, wrong_namespace
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import Manager
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.options import CLUSTER as CLUSTER_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.options import given
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.sync import Course, Sync, Undone
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Expired
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.discovery import Resource
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

APPLICATIONS = Resource("argoproj.io", "v1alpha1", "Application", "applications", True, ("list", "watch"))
SECRETS = Resource("", "v1", "Secret", "secrets", True, ("list",))
OTHERS = {"AppProject": Resource("argoproj.io", "v1alpha1", "AppProject", "appprojects", True, ("list",)),
          "Pod": Resource("", "v1", "Pod", "pods", True, ("list",)), "Event": Resource("", "v1", "Event", "events", True, ("list",)),
          "Deployment": Resource("apps", "v1", "Deployment", "deployments", True, ("list",)), "Secret": SECRETS, "Application": APPLICATIONS}
COMMIT = "a" * 40


def metadata(name="web", **more):
    return {"name": name, "namespace": "argocd", "uid": f"uid-{name}", "resourceVersion": "7", **more}


def application():
    entry = {"kind": "Deployment", "group": "apps", "version": "v1", "name": "web", "namespace": "shop", "status": "OutOfSync", "message": "m", "hook": False,
             "hookType": "PreSync", "hookPhase": "Running", "requiresPruning": False, "health": {"status": "Degraded", "message": "h"}}
    source = {"repoURL": "https://git.example.no/a", "targetRevision": "main", "path": "p", "chart": "", "ref": ""}
    work = {"sync": {"revision": COMMIT, "revisions": [COMMIT]}, "initiatedBy": {"username": "u", "automated": True}, "retry": {"limit": 5},
            "info": [{"name": "n", "value": "v"}]}
    return {
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": metadata(),
        "spec": {"project": "default", "source": source, "sources": [source], "destination": {"server": guard.IN_CLUSTER, "namespace": "shop"},
                 "syncPolicy": {"automated": {"enabled": True}, "syncOptions": ["Prune=true"], "retry": {"limit": 2}}},
        "operation": work,
        "status": {
            "sync": {"status": "Synced", "revision": COMMIT, "revisions": [COMMIT]}, "health": {"status": "Degraded", "message": "why"},
            "reconciledAt": "2026-01-01T00:00:00Z", "summary": {"images": ["a:1"]}, "resources": [dict(entry, hook=None)],
            "conditions": [{"type": "SyncError", "message": "m"}],
            "history": [{"id": 1, "deployStartedAt": "t", "deployedAt": "t", "revision": COMMIT, "revisions": [COMMIT], "initiatedBy": {"username": "u"}}],
            "operationState": {"phase": "Running", "message": "m", "startedAt": "s", "finishedAt": "f", "retryCount": 1, "operation": work,
                               "syncResult": {"revision": COMMIT, "revisions": [COMMIT], "resources": [entry]}},
        },
    }


def pod():
    status = [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}, "lastState": {"terminated": {"exitCode": 1}}}]
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata("pod", namespace="shop"),
            "status": {"initContainerStatuses": status, "containerStatuses": status}}


def deployment():
    return {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata(namespace="shop", generation=1),
            "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": {"observedGeneration": 1}}


def event():
    return {"kind": "Event", "apiVersion": "v1", "metadata": metadata("e", namespace="shop"), "type": "Warning", "reason": "r", "message": "m",
            "lastTimestamp": "t", "involvedObject": {"uid": "uid-web"}}


def project():
    return {"kind": "AppProject", "apiVersion": "argoproj.io/v1alpha1", "metadata": metadata("default"), "spec": {
        "sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*", "name": "*"}], "roles": [{"name": "ci", "jwtTokens": [{"iat": 1}]}]}}


def secret(**values):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"kind": "Secret", "apiVersion": "v1", "metadata": metadata("repo", labels={"argocd.argoproj.io/secret-type": "repository"}), "data": data}


class Server:
    """Answers with these objects, whatever their shape."""

    url = "https://api.example.no"

    def __init__(self, **objects):
        self.objects = {"Application": application(), "Pod": pod(), "Event": event(), "Deployment": deployment(), "AppProject": project(),
                        "Secret": secret(url="https://git.example.no/a"), **objects}
        self.deleted, self.patched = [], []

    def discover(self):
        return self

    def find(self, api_version, kind):
        return OTHERS.get(kind)

    def resource(self, api_version, kind, where=""):
        return OTHERS[kind]

    def list(self, resource, namespace="", selector=""):
        return [self.objects[resource.kind]], "7"

    def get(self, resource, namespace, name):
        return self.objects[resource.kind]

    def patch(self, resource, namespace, name, ops):
        self.patched.append((resource.kind, name, ops))
        return self.objects[resource.kind]

    def delete(self, resource, namespace, name, uid, propagation="Background"):
        self.deleted.append(uid)

    def log(self, namespace, name, container, lines):
        return "a\n\x1b[2Jb"


def places(value, path=()):
    """Every place of a JSON value, the whole of it too."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def with_other(body, path, other):
    changed = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = other
    return changed


def everything(server):
    """Whatever reads an answer."""
    cluster = Checked(server)
    applications = choice.resource(cluster)
    for live in choice.chosen(cluster, applications, {"namespace": "argocd"}):
        info.told(cluster, live)
        evidence.of_hooks(cluster, live, operation.state_of(live))
        evidence.of_one(cluster, cluster.get(OTHERS["Deployment"], "shop", "web"))
        evidence.stuck_pods(cluster, live, operation.status_of(live).get("resources") or ())
        follow.troubles(live)
        follow.is_fresh(live, follow.Asked("s", follow.moment("2026-01-01T00:00:00Z")))
        world = guard.World(cluster)
        params = {"name": "web", "namespace": "argocd", "deletion": "refuse", "url": "https://git.example.no/a", "server": "https://a", "roles": [],
                  "source": {"repoURL": "https://git.example.no/a"}, "destination": {"server": "https://other", "namespace": "x"}}
        for rules in (guard.PRESENT, guard.ABSENT):
            for rule in rules[APPLICATION.option]:
                rule(params, live, world)
            for rule in rules[PROJECT.option]:
                rule(params, cluster.get(OTHERS["AppProject"], "argocd", "default"), world)
        course = Course(("argocd", "web"), live, (COMMIT,), "run", stamp="v", began=True)
        run = Sync(cluster, {"operation": "sync", "prune": False, "dry_run": False, "wait_timeout": 1, "namespace": "argocd"}, False)
        for step in ("look", "others", "run", "judge"):
            course.step, course.asked = step, follow.Asked("s", follow.moment("2020-01-01T00:00:00Z"))
            try:
                run._advance(course)
            except Undone:
                pass
        run._unfinished(course)
        run.courses = [course]
        run.result()
    live = cluster.get(SECRETS, "argocd", "repo")
    _masked_text.register(*hidden(live))
    REPOSITORY.same({"url": "https://git.example.no/a"}, live)
    CLUSTER.same({"server": "https://a"}, live)


OTHER_VALUES = (None, "x", "²", 7, 1.5, True, [], [None], ["x"], [{}], {}, {"x": "y"}, {"x": [None]})


@pytest.mark.parametrize("kind", ["Application", "Pod", "Event", "Deployment", "AppProject", "Secret"])
def test_whatever_stands_in_any_place_of_an_answer_is_read_or_refused_by_its_place(kind):
    body = Server().objects[kind]
    everything(Server())
    tried = 0
    for path in places(body):
        for other in OTHER_VALUES if path and path not in (("metadata",), ("kind",), ("apiVersion",)) else ():
            tried += 1
            try:
                everything(Server(**{kind: with_other(body, path, other)}))
            except Failure as refused:
                assert kind in refused.where or "namespace" in refused.where, (path, other, str(refused))
    assert tried > 50


@pytest.mark.parametrize("what, sentence", [
    ({"status": []}, "Application.argoproj.io argocd/web: status is not a mapping"),
    ({"status": {"history": {}}}, "status.history is not a list"),
    ({"status": {"operationState": {"retryCount": "1"}}}, "status.operationState.retryCount is not a number"),
    ({"status": {"resources": [{"kind": "Pod"}]}}, r"status.resources\[0\].name is missing"),
    ({"metadata": {"name": "web", "namespace": "argocd", "resourceVersion": "7"}}, "metadata.uid is missing"),
])
def test_an_answer_of_another_type_is_told_with_its_place(what, sentence):
    with pytest.raises(Failure, match=sentence):
        checked(APPLICATIONS, {**application(), **what})


def test_the_logs_of_the_last_pods_of_a_workload_are_read_however_many_there_are():
    class Many(Server):
        read = ()

        def list(self, resource, namespace="", selector=""):
            if resource.kind != "Pod":
                return [], "7"
            return [{**pod(), "metadata": metadata(f"pod{number}", namespace="shop", creationTimestamp=f"2026-01-01T00:{number:02}:00Z")}
                    for number in reversed(range(60))], "7"

        def log(self, namespace, name, container, lines):
            self.read = (*self.read, name)
            return "x" * 100_000 + "\n" + "y\n" * 100_000

    server = Many()
    told = evidence.of_one(Checked(server), deployment())
    assert set(server.read) == {"pod57", "pod58", "pod59"} and sum(map(len, told)) < 50_000


def test_a_kind_that_is_only_called_like_one_of_kubernetes_is_not_taken_for_it():
    job = {"kind": "Job", "apiVersion": "batch.example.com/v1", "metadata": metadata(), "spec": {"selector": "tier=batch"}}
    assert not any("log of" in text for text in evidence.of_one(Checked(Server()), job))


@pytest.mark.parametrize("version", ["²", "٣", "9" * 5000, "", "-1"])
def test_a_version_that_is_no_number_is_none(version):
    live = application()
    live["metadata"]["resourceVersion"] = version
    assert follow.version_of(live) == 0


# ---- what is shown

FORGED = "fine\nfatal: [web]: FAILED! => forged\r\x1b[2Jmore\u202e"


def test_no_line_and_no_sign_of_a_status_is_forged():
    live = application()
    for path in [path for path in places(live["status"]) if path]:
        place = live["status"]
        for key in path[:-1]:
            place = place[key]
        if isinstance(place[path[-1]], str) and path[-1] not in ("status", "phase"):
            place[path[-1]] = FORGED
    live["spec"]["source"]["repoURL"] = live["spec"]["sources"][0]["repoURL"] = FORGED
    live["status"]["operationState"]["phase"] = "Failed"
    state = operation.state_of(live)
    said = [*follow.troubles(live), operation.described(live), *operation.failure(state), *map(str, operation.results(state))]
    course = Course(("argocd", "web"), live, ("b" * 40,), "judge", asked=follow.Asked("s", follow.moment("2020-01-01T00:00:00Z")))
    task = {"operation": "sync", "revisions": ["x"], "prune": False, "dry_run": False, "wait_timeout": 1, "namespace": "a"}
    run = Sync(Checked(Server(Application=live)), task, False)
    said += [run._unfinished(course).replace("\n  ", " "), *run._problems(live)]
    for text in said:
        assert not _masked_text.CONTROL.search(text), text


@pytest.mark.parametrize("secret_is_named", [True, False])
def test_the_servers_words_on_a_secret_are_left_out_wherever_argo_cd_repeats_them(secret_is_named):
    live = application()
    words = 'one or more objects failed to apply, reason: Secret "db" is invalid: expected string, got &value.valueUnstructured{Value:hunter2}'
    live["status"]["operationState"].update(message=words, phase="Running")
    if secret_is_named:
        live["status"]["operationState"]["syncResult"]["resources"][0].update(kind="Secret", status="SyncFailed", message=words)
    live["status"]["conditions"] = [{"type": "SyncError", "message": f"Failed last sync attempt to [{COMMIT}]: {words}"}]
    told = json.dumps([info.told(Checked(Server(Application=live)), live), follow.troubles(live), operation.described(live),
                       operation.failure(operation.state_of(live))])
    assert "hunter2" not in told and "objects failed to apply" in told


def test_every_secret_of_an_access_is_known_whatever_key_it_has():
    config = {"bearerToken": "token-1234", "password": 7, "tlsClientConfig": {"keyData": "a2V5LWRhdGE="},
              "execProviderConfig": {"command": "x", "env": {"AWS_SECRET_ACCESS_KEY": "env-secret", "N": 1}}}
    live = secret(url="https://bot:url-secret@git.example.no/a", proxy="http://bot:proxy-secret@proxy", username="robot", password="pass-word",
                  somethingNew="new-secret", insecure="true", config=json.dumps(config))
    _masked_text.forget()
    _masked_text.register(*hidden(live))
    told = _masked_text.masked_text("token-1234 a2V5LWRhdGE= env-secret url-secret proxy-secret pass-word new-secret robot true")
    assert [word for word in told.split() if word != _masked_text.MASK] == ["robot", "true"]
    for odd in ('[]', '"x"', '{"tlsClientConfig": []}', '{"execProviderConfig": {"env": []}}', "[" * 100_000, "\0"):
        assert hidden(secret(config=odd)) == [odd]


def test_the_environment_of_a_clusters_login_program_is_not_shown_and_written_as_given():
    kind = CLUSTER_SPEC["config"]["options"]["execProviderConfig"]["options"]["env"]["type"]
    value = kind({"TOKEN": "hunter2"})
    assert "hunter2" not in str(value)
    config = given(CLUSTER_SPEC, {"server": "https://a", "config": {"execProviderConfig": {"command": "x", "env": value}}})["config"]
    assert config == {"execProviderConfig": {"command": "x", "env": {"TOKEN": "hunter2"}}}


# ---- what is deleted

def test_an_application_that_was_made_again_after_it_was_judged_is_neither_changed_nor_deleted():
    judged, server = application(), Server()
    server.objects["Application"]["metadata"]["uid"] = "another"
    for how in ("refuse", "cascade", "orphan"):
        with pytest.raises(Failure, match="was deleted and made again by somebody else meanwhile. Run it again"):
            removal.remove(Checked(server), APPLICATIONS, judged, how, 1)
    assert server.deleted == [] and server.patched == []


@pytest.mark.parametrize("kind", [APPLICATION, PROJECT, REPOSITORY, CLUSTER])
def test_what_another_controller_keeps_is_neither_written_nor_deleted(kind):
    live = secret(url="https://git.example.no/a")
    live["metadata"]["ownerReferences"] = [{"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "name": "repo\n", "uid": "u", "controller": True}]
    for rules in (guard.PRESENT, guard.ABSENT):
        found = [rule({}, live, None) for rule in rules[kind.option] if rule is guard.is_not_owned]
        assert found == ["belongs to the SealedSecret repo, which would undo this; change that one"]
    live["metadata"]["ownerReferences"][0]["controller"] = False
    assert guard.is_not_owned({}, live, None) == ""


@pytest.mark.parametrize("namespace", ["", ".", "..", "a/b", "a b", "-x", "--kubeconfig=x", "a\nb", "A", "x" * 64])
def test_a_namespace_that_is_none_is_refused_before_anything_is_asked(namespace):
    """An empty one would be all of them, and an Application of the name in any of them."""
    assert wrong_namespace(namespace)
    manager = Manager(APPLICATION, None, {"state": "absent", "name": "web", "namespace": namespace, "applications": None, "deletion": "cascade"}, False, [])
    with pytest.raises(Failure, match="is no valid name of a namespace"):
        manager.check()
    with pytest.raises(Failure, match="is no valid name of a namespace"):
        choice.chosen(None, None, {"namespace": namespace})


# ---- what it costs

def test_a_pattern_of_many_stars_is_looked_for_in_linear_time():
    began = time.process_time()
    assert not guard._matches("*-" * 200 + "x", "-" * 2_000, "/")
    assert guard._matches("*-" * 200, "-" * 2_000, "/")
    assert time.process_time() - began < 10


@pytest.mark.parametrize("answer", ["410", "nothing", "bookmarks without metadata"])
def test_a_server_that_ends_each_watch_at_once_is_asked_with_pauses(answer):
    """The clock stands still but for our own pauses."""
    now, asked = [0.0], []

    class Watch:
        def __iter__(self):
            if answer == "410":
                raise Expired("gone", "", "", status=410)
            return iter([("BOOKMARK", {}), ("SOMETHING", "x")] if answer == "bookmarks without metadata" else [])

        def close(self):
            pass

    class Ending(Server):
        def list(self, *given):
            asked.append("list")
            return super().list(*given)

        def watch(self, *given):
            asked.append("watch")
            return Watch()

    def sleep(seconds):
        now[0] += seconds

    for _states in follow.follow(Checked(Ending()), APPLICATIONS, {("argocd", "web")}, 60.0, lambda: now[0], sleep=sleep):
        pass
    assert 60.0 <= now[0] < 61 and len(asked) < 60


def test_of_many_objects_out_of_sync_the_cluster_is_asked_about_the_first_alone():
    live, server = application(), Server()
    live["status"]["resources"] *= 5_000
    live["status"]["health"]["status"] = "Healthy"
    asked = []
    server.get = lambda resource, namespace, name: asked.append(name)
    assert len(info.told(Checked(server), live)["out_of_sync"]) == 5_000 and len(asked) <= evidence.LOOKED_AT


def test_an_error_of_the_server_is_no_traceback():
    server = Server()

    def fail(*_given):
        raise ApiError("no", "there", status=500)

    server.get = fail
    assert info.told(Checked(server), application())["unhealthy"]
