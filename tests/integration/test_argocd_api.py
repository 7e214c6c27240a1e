# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of Argo CD, and argocd_sync, through Argo CD's own API with a token, against the real argocd-server."""

from __future__ import annotations

import base64
import json

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils import _masked_text
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION, APPLICATIONSET, CLUSTER, PROJECT, REPOSITORY
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from argocd_tasks import Tasks
from reconciling import config_map

IN_CLUSTER = "https://kubernetes.default.svc"
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("argocd")]


@pytest.fixture
def server(argo):
    from lab import argocd

    return argocd.Server(argo)


@pytest.fixture
def namespace(argo):
    name = argo.namespace("api")
    yield name
    argo.remove_namespace(name)


@pytest.fixture
def tasks(argo, server):
    """Tasks with nothing but the token: the kubeconfig is of a cluster that does not answer."""
    return Tasks(argo, argocd_server=server.url, argocd_token=server.token, kubeconfig="/nowhere")


def application(namespace, git_repo, **options):
    if not (git_repo.path / "app").exists():
        git_repo.write("app/settings.yaml", config_map("settings", "one"))
        git_repo.commit()
    return {"name": namespace, "source": {"repoURL": git_repo.url, "path": "app", "targetRevision": "main"},
            "destination": {"server": IN_CLUSTER, "namespace": namespace}, **options}


def example(kind, argo, namespace, git_repo):
    """(what makes one, what changes it, what names it)"""
    set_of = {"name": namespace, "generators": [{"list": {"elements": []}}], "syncPolicy": {"preserveResourcesOnDeletion": True},
              "template": {"metadata": {"name": "{{name}}"}, "spec": {
                  "project": "default", "source": {"repoURL": git_repo.url, "path": "app"},
                  "destination": {"server": IN_CLUSTER, "namespace": namespace}}}}
    app = application(namespace, git_repo, syncPolicy={"syncOptions": ["CreateNamespace=true"], "retry": {"limit": 3}}, labels={"team": "shop"})
    url = f"https://git.example.no/{namespace}/"
    login = {"bearerToken": argo.admin_token, "tlsClientConfig": {"insecure": True}}  # Argo CD looks whether it is taken
    return {
        APPLICATION: (app, {"syncPolicy": {"automated": {}}}, {"name": namespace, "deletion": "cascade"}),
        APPLICATIONSET: (set_of, {"goTemplate": True}, {"name": namespace}),
        PROJECT: ({"name": namespace, "sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "shop"}],
                   "roles": [{"name": "ci", "policies": [f"p, proj:{namespace}:ci, applications, get, {namespace}/*, allow"]}]},
                  {"description": "The shop"}, {"name": namespace}),
        REPOSITORY: ({"url": url, "template": True}, {"type": "helm"}, {"url": url, "template": True}),
        CLUSTER: ({"server": argo.url, "name": namespace, "namespaces": ["a", "b"], "config": login}, {"name": f"{namespace}-1"}, {"server": argo.url}),
    }[kind]


@pytest.mark.parametrize("kind", [APPLICATION, APPLICATIONSET, PROJECT, REPOSITORY, CLUSTER], ids=lambda kind: kind.option)
def test_each_kind_is_made_changed_and_removed_and_a_second_run_changes_nothing(kind, argo, tasks, namespace, git_repo):
    made, change, named = example(kind, argo, namespace, git_repo)

    def told(result):
        return result["changed"], [each["operation"] for each in result[kind.option]]

    assert told(tasks(kind, check_mode=True, **made)) == (True, ["created"]) and told(tasks(kind, state="absent", **named)) == (False, ["unchanged"])
    assert told(tasks(kind, diff=True, **made)) == (True, ["created"])
    made.pop("config", None)  # of which nobody can say whether it is another one
    assert told(tasks(kind, **made)) == (False, ["unchanged"])
    check = tasks(kind, check_mode=True, diff=True, **{**made, **change})
    assert told(check) == (True, ["configured"]) and check["diff"][0]["before"] != check["diff"][0]["after"]
    done = tasks(kind, diff=True, **{**made, **change})
    assert told(done) == told(check) and done["diff"] == check["diff"] and told(tasks(kind, **{**made, **change})) == (False, ["unchanged"])
    assert told(tasks(kind, check_mode=True, state="absent", **named)) == (True, ["pruned"])
    assert told(tasks(kind, state="absent", **named)) == (True, ["pruned"]) and told(tasks(kind, state="absent", **named)) == (False, ["unchanged"])


def test_both_ways_in_see_the_same_application(argo, tasks, namespace, git_repo):
    made, _change, named = example(APPLICATION, argo, namespace, git_repo)
    tasks(APPLICATION, **made)
    direct = Tasks(argo)
    assert direct(APPLICATION, check_mode=True, **made)["applications"][0]["operation"] in ("unchanged", "configured")
    direct(APPLICATION, **made)
    assert not direct(APPLICATION, **made)["changed"] and not tasks(APPLICATION, **made)["changed"]
    tasks(APPLICATION, state="absent", **named)


def test_credentials_that_cannot_be_compared_are_sent_and_never_shown(argo, tasks, namespace):
    """crossplane-contrib/provider-argocd#36, argo-cd#5135"""
    url, password = f"https://git.example.no/{namespace}/", "swordfish-one"
    tasks(REPOSITORY, url=url, template=True, access={"username": "argocd", "password": password})
    again = tasks(REPOSITORY, diff=True, url=url, template=True, access={"username": "argocd", "password": password})
    assert again["changed"] and "cannot be compared" in again["repositories"][0]["reason"] and password not in json.dumps(_masked_text.masked(again))
    tasks(REPOSITORY, url=url, template=True, state="absent")
    server, login = argo.url, {"bearerToken": argo.admin_token, "tlsClientConfig": {"insecure": True}}
    tasks(CLUSTER, server=server, name=namespace, config=login)
    assert tasks(CLUSTER, server=server, name=f"{namespace}-1")["changed"]
    secrets = argo.api.do("GET", "/api/v1/namespaces/argocd/secrets?labelSelector=argocd.argoproj.io/secret-type=cluster")["items"]
    (config,) = [base64.b64decode(each["data"]["config"]).decode() for each in secrets if base64.b64decode(each["data"]["server"]).decode() == server]
    assert json.loads(config)["bearerToken"] == argo.admin_token
    tasks(CLUSTER, server=server, state="absent")


def test_what_is_wrong_is_named_as_it_is_through_the_kubernetes_api(tasks, namespace, git_repo):
    made = application(namespace, git_repo)
    for change, told in (({"project": "nobody"}, "its project nobody does not exist"),
                         ({"destination": {"name": "bergen"}}, "is no cluster that Argo CD knows"),
                         ({"source": {"repoURL": git_repo.url}}, "neither path nor chart")):
        with pytest.raises(Failure, match=told):
            tasks(APPLICATION, **{**made, **change})
    with pytest.raises(Failure, match="Argo CD does not know spec.source.directory.recurs, and has left it out"):
        tasks(APPLICATION, **{**made, "source": {**made["source"], "directory": {"recurs": True, "recurse": True}}})
    tasks(APPLICATION, name=namespace, state="absent", deletion="orphan")
    with pytest.raises(Failure, match="known_hosts: only through the Kubernetes API"):
        tasks(REPOSITORY, known_hosts=["git.example.no"], state="absent")


def test_a_token_without_the_right_is_named_and_is_never_taken_for_absent(argo, server, tasks, namespace, git_repo):
    """argo-cd#13000, argo-cd#20005"""
    tasks(PROJECT, name=namespace, sourceRepos=["*"], destinations=[{"server": "*", "namespace": "*"}],
          roles=[{"name": "reader", "policies": [f"p, proj:{namespace}:reader, applications, get, {namespace}/*, allow"]}])
    token = server.do("POST", f"/api/v1/projects/{namespace}/roles/reader/token", {"expiresIn": 0})["token"]
    tasks(APPLICATION, **application(namespace, git_repo, project=namespace))
    reader = Tasks(argo, argocd_server=server.url, argocd_token=token, kubeconfig="/nowhere")
    with pytest.raises(Failure, match=f"missing or not permitted: .*The token needs the right applications, sync, {namespace}/{namespace}") as caught:
        reader.sync(name=namespace)
    assert token not in str(caught.value)
    with pytest.raises(Failure, match="missing or not permitted. The token needs the right clusters, get, "):
        reader(CLUSTER, server="https://b.example.no", state="absent")
    with pytest.raises(Failure, match="Argo CD does not take the token"):
        Tasks(argo, argocd_server=server.url, argocd_token="eyJh.not.one", kubeconfig="/nowhere").sync(name=namespace)
    # A token that was made by Argo CD stays when the project is written again: argo-cd#2718.
    tasks(PROJECT, name=namespace, sourceRepos=["*"], destinations=[{"server": "*", "namespace": "*"}], description="The shop",
          roles=[{"name": "reader", "policies": [f"p, proj:{namespace}:reader, applications, get, {namespace}/*, allow"]}])
    assert server.send("GET", f"/api/v1/applications/{namespace}?project={namespace}", token=token)[0] == 200
    tasks(APPLICATION, name=namespace, project=namespace, state="absent", deletion="orphan")
    tasks(PROJECT, name=namespace, state="absent")


def test_a_sync_ends_at_exactly_this_commit_through_argo_cds_api_too(argo, tasks, namespace, git_repo):
    tasks(APPLICATION, **application(namespace, git_repo))
    first = git_repo.git("rev-parse", "HEAD").strip()
    done = tasks.sync(name=namespace)
    assert done["changed"] and (done["applications"][0]["outcome"], done["applications"][0]["revision"]) == ("synced", first)
    assert argo.api.do("GET", f"/api/v1/namespaces/{namespace}/configmaps/settings")["data"]["key"] == "one"
    assert not tasks.sync(name=namespace)["changed"]
    git_repo.write("app/settings.yaml", config_map("settings", "two"))
    second = git_repo.commit()
    assert tasks.sync(name=namespace, revision=second)["applications"][0]["revision"] == second
    git_repo.write("app/bad.yaml", yaml.safe_dump({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 99999}]}}))
    git_repo.commit()
    with pytest.raises(Failure, match=f"Service {namespace}/bad"):
        tasks.sync(name=namespace, retry={"limit": 0})
    with pytest.raises(Refused, match="has .* objects"):
        tasks(APPLICATION, name=namespace, state="absent")
    tasks(APPLICATION, name=namespace, state="absent", deletion="cascade")
    assert argo.api.send("GET", f"/api/v1/namespaces/{namespace}/configmaps/settings")[0] == 404


def test_an_argo_cd_whose_controller_is_gone_is_said_and_an_old_status_is_no_success(argo, tasks, namespace, git_repo):
    from lab import argocd

    tasks(APPLICATION, **application(namespace, git_repo))
    tasks.sync(name=namespace)
    with argocd.stopped(argo, "argocd-application-controller"):
        with pytest.raises(Failure, match="Argo CD did not look at it within 1 s"):
            tasks.sync(name=namespace, wait_timeout=1)
    assert not tasks.sync(name=namespace)["changed"]
    tasks(APPLICATION, name=namespace, state="absent", deletion="cascade")


@pytest.mark.parametrize("address, told", [
    ("http://argocd.example.no", "is not https"), ("ftp://argocd.example.no", "no address"), ("https://", "no address"),
    ("https://127.0.0.1:1", "cannot be reached")])
def test_an_address_that_is_none_or_does_not_answer_is_named(address, told, argo):
    with pytest.raises(Failure, match=told):
        Tasks(argo, argocd_server=address, argocd_token="eyJh.the.token", kubeconfig="/nowhere").sync(name="web")
