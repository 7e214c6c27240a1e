# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of Argo CD as code, against a real API server with the release's own definitions. What Argo CD itself does with them is tested
where it runs (test_argocd.py)."""

from __future__ import annotations

import base64
import json

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION, APPLICATIONSET, CLUSTER, KINDS, PROJECT, REPOSITORY
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.trust import STORES
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.modules import argocd_info
from argocd_tasks import MODULES, Tasks
from lab.proxy import GOES_WELL
from reconciling import Reconciler, config_map, get, operations, wait_until
from trusting import certificate, gpg_keys, ssh_key

GIT = "https://git.example.no/shop/manifests.git"
IN_CLUSTER = "https://kubernetes.default.svc"
GROUP = "argoproj.io"


@pytest.fixture(scope="module")
def kinds(cluster):
    """The release's definitions, for the tests of one module: they would be in the discovery that others count."""
    from lab import argocd

    definitions = [body for body in argocd.manifests() if body["kind"] == "CustomResourceDefinition"]
    cluster.kubectl("apply", "--server-side", "--filename", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": definitions}))
    path = "/apis/argoproj.io/v1alpha1/appprojects"
    wait_until(lambda: all(cluster.api.send("GET", path.replace("appprojects", body["spec"]["names"]["plural"]))[0] == 200 for body in definitions), 60)
    yield
    cluster.kubectl("delete", "--wait=false", "crd", *(body["metadata"]["name"] for body in definitions))


@pytest.fixture
def tasks(cluster, namespace, kinds):
    """Tasks in the test's own namespace, with a project that permits everything and no Argo CD to wait for."""
    cluster.kubectl("create", "--namespace", namespace, "--filename", "-", input=json.dumps({
        "apiVersion": f"{GROUP}/v1alpha1", "kind": "AppProject", "metadata": {"name": "default"},
        "spec": {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}}))
    for store in STORES:
        cluster.kubectl("create", "configmap", store.config_map, "--namespace", namespace)
    yield Tasks(cluster, namespace=namespace, wait=False)
    # No Argo CD is there that would take finalizers off, and its namespace could not go.
    for app in cluster.api.do("GET", f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/applications")["items"]:
        if app["metadata"].get("finalizers"):
            cluster.kubectl("patch", f"applications.{GROUP}", app["metadata"]["name"], "--namespace", namespace, "--type=merge", "--patch",
                            json.dumps({"metadata": {"finalizers": None}}))


def live(cluster, namespace, kind, name):
    return json.loads(cluster.kubectl("get", f"{kind}.{GROUP}" if kind != "secrets" else kind, name, "--namespace", namespace, "--output", "json",
                                      "--show-managed-fields"))


def application(name="web", **options):
    return {"name": name, "source": {"repoURL": GIT, "path": name}, "destination": {"server": IN_CLUSTER, "namespace": "shop"}, **options}


def listed(namespace, *objects):
    return [{**each, "namespace": namespace} for each in objects]


def told(result, option="applications"):
    return {each["name"]: each["operation"] for each in result[option]}


def secret(cluster, namespace, name):
    return {key: base64.b64decode(value).decode() for key, value in live(cluster, namespace, "secrets", name)["data"].items()}


# ---- the examples


def test_the_payment_gateway_of_the_article_is_what_git_says_and_a_second_run_changes_nothing(cluster, namespace, tasks):
    task = yaml.safe_load(MODULES[APPLICATION].EXAMPLES)[0]["nordic.gitops.argocd_application"]
    first = tasks(APPLICATION, **task)
    assert first["changed"] and told(first) == {"production-payment-gateway": "created"}
    spec = live(cluster, namespace, "applications", "production-payment-gateway")["spec"]
    assert spec["syncPolicy"] == {"automated": {"prune": True, "selfHeal": True}, "syncOptions": ["CreateNamespace=true"]}
    assert spec["project"] == "default" and spec["destination"] == {"server": IN_CLUSTER, "namespace": "payment"}
    second = tasks(APPLICATION, **task)
    assert not second["changed"] and told(second) == {"production-payment-gateway": "unchanged"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.option)
def test_each_example_runs_and_the_second_time_nothing_changes(kind, cluster, namespace, tasks):
    secrets = {"vault_git_password": "correct horse battery", "vault_bergen_token": "eyJh.bergen.token", "bergen_ca_certificate": "Q0E=",
               "vault_git_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"}
    with gpg_keys("releases@example.no") as (key,):
        public = {"company_ca": certificate("git.example.no")[0], "release_key": key.public}
    tasks(PROJECT, name="shop", sourceRepos=["*"], destinations=[{"server": "*", "name": "*", "namespace": "*"}])
    for task in yaml.safe_load(MODULES[kind].EXAMPLES):
        text = json.dumps(next(options for name, options in task.items() if name.startswith("nordic.gitops.")))
        for name, value in {**secrets, **public}.items():
            text = text.replace(f"{{{{ {name} }}}}", json.dumps(value)[1:-1])
        options = json.loads(text)
        if kind.option in options:
            options[kind.option] = listed(namespace, *options[kind.option])
        check = tasks(kind, check_mode=True, diff=True, **options)
        first = tasks(kind, diff=True, **options)
        assert check[kind.option] == first[kind.option] and check["changed"] == first["changed"]
        assert not any(value in json.dumps(first) for value in secrets.values())
        assert not tasks(kind, **options)["changed"], task["name"]


# ---- written, read, and written again


WHOLE = dict(
    project="shop", revisionHistoryLimit=3, labels={"team": "shop"}, annotations={"argocd.argoproj.io/sync-wave": "-5"},
    info=[{"name": "url", "value": "https://shop.example.no"}],
    sources=[{"repoURL": GIT, "path": "web", "targetRevision": "v1.2.0", "name": "app", "directory": {"recurse": True, "exclude": "*.md"}},
             {"repoURL": "https://charts.example.no", "chart": "redis", "targetRevision": "1.2.3", "helm": {
                 "releaseName": "cache", "valuesObject": {"replicas": 2, "auth": {"enabled": False, "empty": {}}}, "skipCrds": True,
                 "valueFiles": ["$values/redis.yaml"], "parameters": [{"name": "a", "value": "1", "forceString": True}]}},
             {"repoURL": GIT, "ref": "values"}],
    destination={"name": "in-cluster", "namespace": "shop"},
    syncPolicy={"automated": {}, "syncOptions": ["ServerSideApply=true", "PrunePropagationPolicy=background", "Prune=confirm"],
                "retry": {"limit": 3, "refresh": True, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}},
                "managedNamespaceMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
    ignoreDifferences=[{"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"], "managedFieldsManagers": ["hpa"]},
                       {"kind": "Secret", "name": "tls", "jqPathExpressions": [".data"]}])


def test_every_field_survives_writing_and_reading_and_absent_stays_absent(cluster, namespace, tasks):
    tasks(PROJECT, name="shop", sourceRepos=["*"], destinations=[{"server": "*", "name": "*", "namespace": "*"}])
    tasks(APPLICATION, name="whole", **WHOLE)
    spec = live(cluster, namespace, "applications", "whole")["spec"]
    assert spec == {key: value for key, value in WHOLE.items() if key not in ("labels", "annotations")}
    assert not tasks(APPLICATION, name="whole", **WHOLE)["changed"]


def test_automated_is_on_with_nothing_in_it_and_goes_when_it_is_left_out(cluster, namespace, tasks):
    """terraform-provider-argocd#81: options alone must not switch it on."""
    tasks(APPLICATION, **application(syncPolicy={"syncOptions": ["CreateNamespace=true"]}))
    assert "automated" not in live(cluster, namespace, "applications", "web")["spec"]["syncPolicy"]
    assert tasks(APPLICATION, **application(syncPolicy={"automated": {}, "syncOptions": ["CreateNamespace=true"]}))["changed"]
    assert live(cluster, namespace, "applications", "web")["spec"]["syncPolicy"]["automated"] == {}
    assert tasks(APPLICATION, **application(syncPolicy={"syncOptions": ["CreateNamespace=true"]}))["changed"]
    assert "automated" not in live(cluster, namespace, "applications", "web")["spec"]["syncPolicy"]


def test_what_a_person_added_by_hand_is_taken_back_and_an_operation_is_left_alone(cluster, namespace, tasks):
    tasks(APPLICATION, **application())
    patch = {"spec": {"syncPolicy": {"automated": {"prune": True}}, "source": {"targetRevision": "my-branch"}},
             "operation": {"sync": {"revision": "0" * 40}}}
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps(patch),
                    "--field-manager=kubectl-edit")
    result = tasks(APPLICATION, diff=True, **application())
    after = live(cluster, namespace, "applications", "web")
    assert result["changed"] and "syncPolicy" not in after["spec"] and "targetRevision" not in after["spec"]["source"]
    assert after["operation"] == {"sync": {"revision": "0" * 40}}
    assert "operation" not in result["diff"][0]["before"] and "my-branch" in result["diff"][0]["before"]
    assert not tasks(APPLICATION, **application())["changed"]


def test_what_controllers_write_is_no_difference(cluster, namespace, tasks):
    tasks(APPLICATION, **application())
    name = ("--namespace", namespace, "--type=merge", "--field-manager=argocd-application-controller", "--patch")
    cluster.kubectl("patch", f"applications.{GROUP}", "web", *name, json.dumps({
        "metadata": {"finalizers": ["post-delete-finalizer.argocd.argoproj.io"]},
        "status": {"sync": {"status": "Synced", "comparedTo": {"destination": {}}}, "health": {"status": "Healthy"}}}))
    assert not tasks(APPLICATION, **application())["changed"]
    assert live(cluster, namespace, "applications", "web")["metadata"]["finalizers"] == ["post-delete-finalizer.argocd.argoproj.io"]


def test_check_mode_writes_nothing_and_says_what_a_run_does(cluster, namespace, tasks):
    before = cluster.moment()
    result = tasks(APPLICATION, check_mode=True, diff=True, **application())
    assert result["changed"] and told(result) == {"web": "created"} and "repoURL" in result["diff"][0]["after"]
    assert not [each for each in cluster.audit(before) if each["verb"] in ("create", "patch", "update", "delete") and not each["dryRun"]]
    with pytest.raises(Exception, match="not found"):
        live(cluster, namespace, "applications", "web")


def test_a_list_of_fifty_is_one_list_and_one_write_each(cluster, namespace, tasks):
    fifty = listed(namespace, *(application(f"app-{number}") for number in range(50)))
    first = tasks(APPLICATION, applications=fifty)
    assert set(told(first).values()) == {"created"} and len(first["applications"]) == 50
    before = cluster.moment()
    assert not tasks(APPLICATION, applications=fifty)["changed"]
    asked = [each for each in cluster.audit(before) if each["resource"] == "applications"]
    assert [each["verb"] for each in asked] == ["list"]


# ---- nothing that is wrong gets to the cluster


BAD = {
    "no name": (APPLICATION, application(name=""), "name is missing"),
    "a bad name": (APPLICATION, application(name="Web_1"), "no valid name"),
    "no source": (APPLICATION, {"name": "web", "destination": {"server": IN_CLUSTER}}, "source is missing"),
    "two kinds of source": (APPLICATION, application(sources=[{"repoURL": GIT, "path": "."}]), "source and sources exclude each other"),
    "no repository": (APPLICATION, application(source={"path": "web"}), "source.repoURL is missing"),
    "no path": (APPLICATION, application(source={"repoURL": GIT}), "neither path nor chart"),
    "a path out of the repository": (APPLICATION, application(source={"repoURL": GIT, "path": "../other"}), "leads out of the repository"),
    "a chart without a version": (APPLICATION, application(source={"repoURL": GIT, "chart": "web"}), "the chart's version"),
    "two renderers": (APPLICATION, application(source={"repoURL": GIT, "path": "web", "helm": {"releaseName": "a"}, "directory": {"recurse": True}}),
                      "helm and directory"),
    "two destinations": (APPLICATION, application(destination={"server": IN_CLUSTER, "name": "in-cluster"}), "both server and name"),
    "no destination": (APPLICATION, application(destination={"namespace": "shop"}), "neither server nor name"),
    "an unknown sync option": (APPLICATION, application(syncPolicy={"syncOptions": ["CreateNamespaces=true"]}), "no sync option of Argo CD"),
    "a sync option without a value": (APPLICATION, application(syncPolicy={"syncOptions": ["CreateNamespace=yes"]}), "CreateNamespace=true or"),
    "a wave that is no number": (APPLICATION, application(annotations={"argocd.argoproj.io/sync-wave": "first"}), "no whole number"),
    "a duration that is none": (APPLICATION, application(syncPolicy={"retry": {"backoff": {"duration": "5 seconds"}}}), "no duration"),
    "an unknown key": (APPLICATION, application(source={"repoURL": GIT, "path": "web", "helm": {"releasename": "a"}}), "releasename"),
    "an unknown project": (APPLICATION, application(project="nobody"), "its project nobody does not exist; there are default"),
    "an unknown cluster": (APPLICATION, application(destination={"name": "bergen"}), "is no cluster that Argo CD knows"),
    "two generators in one": (APPLICATIONSET, {"name": "s", "generators": [{"list": {}, "git": {}}], "template": {"metadata": {"name": "a"}, "spec": {}}},
                              "has to name one generator"),
    "no template": (APPLICATIONSET, {"name": "s", "generators": [{"list": {}}]}, "template has to have"),
    "a policy without a comma": (PROJECT, {"name": "p", "roles": [{"name": "r", "policies": ["p, proj:p:r applications, sync, p/*, allow"]}]},
                                 r"roles\[0\].policies\[0\].*5 fields"),
    "a policy of another project": (PROJECT, {"name": "p", "roles": [{"name": "r", "policies": ["p, proj:p:r, applications, sync, q/*, allow"]}]},
                                    "has to begin with p/"),
    "a window that applies to nothing": (PROJECT, {"name": "p", "syncWindows": [{"kind": "deny", "schedule": "* * * * *", "duration": "1h"}]},
                                         "applies to nothing"),
    "a schedule of six fields": (PROJECT, {"name": "p", "syncWindows": [{"kind": "deny", "schedule": "0 * * * * *", "duration": "1h", "applications": ["*"]}]},
                                 "cron schedule of five fields"),
    "credentials in a URL": (REPOSITORY, {"url": "https://me:swordfish@git.example.no/a.git"}, "holds credentials"),
    "two ways to log in": (REPOSITORY, {"url": GIT, "access": {"password": "a-password", "bearerToken": "a-token"}}, "exclude each other"),
    "a key that is none": (REPOSITORY, {"url": "git@git.example.no:a.git", "access": {"sshPrivateKey": "not-a-key"}}, "no private key"),
    "a server that is no URL": (CLUSTER, {"server": "bergen"}, "the URL of an API server is needed"),
    "a certificate without its key": (CLUSTER, {"server": "https://b.example.no", "config": {"tlsClientConfig": {"certData": "QQ=="}}}, "belong together"),
    "a certificate that is no base64": (CLUSTER, {"server": "https://b.example.no", "config": {"tlsClientConfig": {"caData": "-----BEGIN"}}}, "no base64"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_written(case, cluster, namespace, tasks):
    kind, options, words = BAD[case]
    good = {APPLICATION: application("good"), PROJECT: {"name": "good"}, REPOSITORY: {"url": "https://git.example.no/good.git"},
            CLUSTER: {"server": "https://good.example.no"},
            APPLICATIONSET: {"name": "good", "generators": [{"list": {"elements": []}}], "template": {"metadata": {"name": "a"}, "spec": {
                "project": "default", "destination": {}}}}}[kind]
    before = cluster.moment()
    with pytest.raises(Failure, match=words) as caught:
        tasks(kind, **{kind.option: listed(namespace, good, options)})
    assert "swordfish" not in str(caught.value)
    assert not [each for each in cluster.audit(before) if each["verb"] in ("create", "patch", "update", "delete") and not each["dryRun"]]


def test_a_project_that_does_not_permit_it_refuses_and_says_what_it_permits(tasks):
    tasks(PROJECT, name="shop", sourceRepos=["https://git.example.no/shop/*"], destinations=[{"server": IN_CLUSTER, "namespace": "shop-*"}])
    with pytest.raises(Refused, match=r"does not permit the repository https://git.example.no/bank.git; it permits https://git.example.no/shop/\*"):
        tasks(APPLICATION, **application(project="shop", source={"repoURL": "https://git.example.no/bank.git", "path": "."}))
    with pytest.raises(Refused, match=r"does not permit the destination https://kubernetes.default.svc/bank; it permits .*/shop-\*"):
        tasks(APPLICATION, **application(project="shop", destination={"server": IN_CLUSTER, "namespace": "bank"}))
    assert tasks(APPLICATION, **application(project="shop", destination={"server": IN_CLUSTER, "namespace": "shop-web"}))["changed"]


def test_without_argo_cd_it_says_that_argo_cd_is_missing(cluster, namespace):
    account = cluster.service_account("nobody", [], namespace)
    with pytest.raises(Failure, match="forbidden|may not"):
        Tasks(cluster, namespace=namespace, wait=False)(APPLICATION, kubeconfig=account, **application())


# ---- two owners


def test_an_application_that_an_applicationset_makes_is_refused_with_its_name(cluster, namespace, tasks):
    tasks(APPLICATION, **application())
    tasks(APPLICATIONSET, name="all", generators=[{"list": {"elements": []}}], template={"metadata": {"name": "a"}, "spec": {
        "project": "default", "source": {"repoURL": GIT, "path": "."}, "destination": {"server": IN_CLUSTER}}})
    uid = live(cluster, namespace, "applicationsets", "all")["metadata"]["uid"]
    owner = {"metadata": {"ownerReferences": [{"apiVersion": f"{GROUP}/v1alpha1", "kind": "ApplicationSet", "name": "all", "uid": uid}]}}
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps(owner))
    for options in (application(), {"name": "web", "state": "absent", "deletion": "cascade"}):
        with pytest.raises(Refused, match="is made by the ApplicationSet all"):
            tasks(APPLICATION, **options)


# ---- tokens and credentials


def test_a_token_that_argo_cd_made_stays_when_the_project_is_written_again(cluster, namespace, tasks):
    """argo-cd#2718"""
    project = {"name": "shop", "roles": [{"name": "ci", "policies": ["p, proj:shop:ci, applications, sync, shop/*, allow"]}]}
    tasks(PROJECT, **project)
    token = {"iat": 1700000000, "id": "made-by-argo-cd"}
    roles = live(cluster, namespace, "appprojects", "shop")["spec"]["roles"]
    cluster.kubectl("patch", f"appprojects.{GROUP}", "shop", "--namespace", namespace, "--type=merge", "--field-manager=argocd-server", "--patch",
                    json.dumps({"spec": {"roles": [{**roles[0], "jwtTokens": [token]}]}}))
    changed = {**project, "description": "The shop", "roles": [{**project["roles"][0], "description": "CI"}]}
    assert tasks(PROJECT, **changed)["changed"]
    assert live(cluster, namespace, "appprojects", "shop")["spec"]["roles"][0]["jwtTokens"] == [token]
    assert not tasks(PROJECT, **changed)["changed"]
    with pytest.raises(Refused, match=r"would lose roles whose tokens are in use: ci \(1\)"):
        tasks(PROJECT, name="shop", roles=[])
    assert tasks(PROJECT, name="shop", revoke_tokens=True)["changed"]
    assert not live(cluster, namespace, "appprojects", "shop")["spec"].get("roles")


def test_a_token_that_is_made_during_the_task_stays(cluster, namespace, tasks, fault_proxy):
    role = {"name": "ci", "policies": ["p, proj:shop:ci, applications, sync, shop/*, allow"]}
    tasks(PROJECT, name="shop", roles=[role])
    token, writes = {"iat": 1700000001, "id": "just-now"}, []

    def made_before_the_first_write(method, path):
        if method == "PATCH" and "dryRun" not in path:
            if not writes:
                cluster.kubectl("patch", f"appprojects.{GROUP}", "shop", "--namespace", namespace, "--type=merge", "--field-manager=argocd-server",
                                "--patch", json.dumps({"spec": {"roles": [{**role, "jwtTokens": [token]}]}}))
            writes.append(path)
        return False

    fault_proxy.script(GOES_WELL, match=made_before_the_first_write)
    tasks(PROJECT, kubeconfig=str(fault_proxy.kubeconfig), name="shop", roles=[{**role, "description": "CI"}])
    found = live(cluster, namespace, "appprojects", "shop")["spec"]["roles"]
    assert found == [{**role, "description": "CI", "jwtTokens": [token]}] and len(writes) > 1


def test_a_password_that_changed_is_written_and_never_shown(cluster, namespace, tasks):
    """crossplane-contrib/provider-argocd#36"""
    first, second = "swordfish-one", "swordfish-two"
    tasks(REPOSITORY, url=GIT, access={"username": "argocd", "password": first})
    result = tasks(REPOSITORY, diff=True, url=GIT, access={"username": "argocd", "password": second})
    (name,) = [each["metadata"]["name"] for each in json.loads(cluster.kubectl("get", "secrets", "--namespace", namespace, "--output", "json"))["items"]]
    assert result["changed"] and secret(cluster, namespace, name)["password"] == second
    assert first not in json.dumps(result) and second not in json.dumps(result)
    assert base64.b64encode(first.encode()).decode() not in json.dumps(result)
    assert not tasks(REPOSITORY, url=GIT, access={"username": "argocd", "password": second})["changed"]


def test_a_repository_that_somebody_else_added_is_found_by_its_url(cluster, namespace, tasks):
    url = f"https://git.example.no/{namespace}.git"
    cluster.kubectl("create", "--namespace", namespace, "--filename", "-", input=json.dumps({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "by-hand", "labels": {"argocd.argoproj.io/secret-type": "repository"}},
        "stringData": {"url": f"https://Git.example.no/{namespace}", "type": "git", "password": "old-password"}}))
    assert told(tasks(REPOSITORY, url=url, access={"password": "new-password"}), "repositories") == {url: "configured"}
    assert secret(cluster, namespace, "by-hand") == {"url": url, "type": "git", "password": "new-password"}
    assert told(tasks(REPOSITORY, url=url, state="absent"), "repositories") == {url: "pruned"}
    assert not json.loads(cluster.kubectl("get", "secrets", "--namespace", namespace, "--output", "json"))["items"]


def test_a_cluster_that_gets_another_name_keeps_its_token(cluster, namespace, tasks):
    """argo-cd#5135"""
    server = "https://bergen.example.no:6443"
    config = {"bearerToken": "eyJh.the.token", "execProviderConfig": None, "tlsClientConfig": {"insecure": False}}
    tasks(CLUSTER, server=server, name="bergen", config=config)
    assert tasks(CLUSTER, server=f"{server}/", name="bergen-1")["changed"]
    (name,) = [each["metadata"]["name"] for each in json.loads(cluster.kubectl("get", "secrets", "--namespace", namespace, "--output", "json"))["items"]]
    found = secret(cluster, namespace, name)
    assert found["name"] == "bergen-1" and json.loads(found["config"])["bearerToken"] == "eyJh.the.token"
    assert not tasks(CLUSTER, server=server)["changed"]


def test_the_order_of_keys_in_a_clusters_configuration_is_no_difference(cluster, namespace, tasks):
    """terraform-provider-argocd#766"""
    server, arguments = "https://eks.example.no", ["--cluster", "shop", "--output", "json"]
    cluster.kubectl("create", "--namespace", namespace, "--filename", "-", input=json.dumps({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "by-hand", "labels": {"argocd.argoproj.io/secret-type": "cluster"}},
        "stringData": {"server": server, "name": "eks", "config": json.dumps({"tlsClientConfig": {"insecure": False}, "execProviderConfig": {
            "command": "aws", "args": arguments, "apiVersion": "client.authentication.k8s.io/v1"}}, indent=2)}}))
    options = {"server": server, "name": "eks", "config": {"execProviderConfig": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "aws", "args": arguments}}}
    tasks(CLUSTER, **options)
    assert secret(cluster, namespace, "by-hand")["config"].startswith("{\n")
    assert not tasks(CLUSTER, **options)["changed"]


# ---- what is trusted of repositories


def trusted(cluster, namespace):
    """The data of each ConfigMap."""
    return [get(cluster, namespace, "configmap", store.config_map).get("data", {}) for store in STORES]


def test_what_is_trusted_is_added_to_what_others_added_changed_and_taken_away_again(cluster, namespace, tasks, tmp_path):
    theirs, key, other = (ssh_key(tmp_path / name, "ed25519") for name in ("theirs", "key", "other"))
    (first, _key), (second, _key) = certificate("git.example.no"), certificate("git.example.no")
    with gpg_keys("one@example.no", "two@example.no") as (mine, yours):
        before = [{"b.example.no": first}, {"ssh_known_hosts": f"# by hand\ngit.example.no,git {theirs}"}, {yours.fingerprint[-16:]: yours.public}]
        for store, data in zip(STORES, before):
            cluster.kubectl("patch", "configmap", store.config_map, "--namespace", namespace, "--type=merge", "--field-manager=argocd-server", "--patch",
                            json.dumps({"data": data}))
        task = {"certificates": [{"serverName": "git.example.no", "certData": first}], "known_hosts": [f"git.example.no {key}"], "gpg_keys": [mine.public]}
        check = tasks(REPOSITORY, check_mode=True, diff=True, **task)
        assert trusted(cluster, namespace) == before
        done = tasks(REPOSITORY, diff=True, **task)
        assert done == check and len(done["diff"]) == 3 and done["repositories"] == []
        assert [done[store.option][0]["operation"] for store in STORES] == ["created", "configured", "created"]
        assert done["known_hosts"][0]["name"] == "git.example.no ssh-ed25519" and done["gpg_keys"][0]["name"] == mine.fingerprint[-16:]
        assert trusted(cluster, namespace) == [
            {"b.example.no": first, "git.example.no": first}, {"ssh_known_hosts": f"# by hand\ngit {theirs}\ngit.example.no {key}\n"},
            {yours.fingerprint[-16:]: yours.public, mine.fingerprint[-16:]: mine.public}]
        assert not tasks(REPOSITORY, **task)["changed"]
        # The names of what goes may be said alone; a line with another key is none of those that are there.
        assert tasks(REPOSITORY, certificates=[{"serverName": "git.example.no", "certData": second}])["certificates"][0]["operation"] == "configured"
        assert not tasks(REPOSITORY, state="absent", known_hosts=[f"git.example.no {other}"])["changed"]
        gone = {"certificates": [{"serverName": "git.example.no"}], "known_hosts": ["git.example.no"], "gpg_keys": [mine.fingerprint], "state": "absent"}
        assert tasks(REPOSITORY, check_mode=True, **gone)["changed"] and tasks(REPOSITORY, **gone)["changed"] and not tasks(REPOSITORY, **gone)["changed"]
        assert trusted(cluster, namespace) == [before[0], {"ssh_known_hosts": f"# by hand\ngit {theirs}\n"}, before[2]]


def test_an_entry_that_somebody_adds_during_the_task_stays(cluster, namespace, tasks, fault_proxy, tmp_path):
    key, writes = ssh_key(tmp_path, "ed25519"), []

    def added_before_the_first_write(method, path):
        if method == "PATCH" and not writes:
            writes.append(path)
            cluster.kubectl("patch", "configmap", "argocd-ssh-known-hosts-cm", "--namespace", namespace, "--type=merge", "--patch",
                            json.dumps({"data": {"ssh_known_hosts": f"other.example.no {key}\n"}}))
        return False

    fault_proxy.script(GOES_WELL, match=added_before_the_first_write)
    tasks(REPOSITORY, kubeconfig=str(fault_proxy.kubeconfig), known_hosts=[f"git.example.no {key}"])
    assert trusted(cluster, namespace)[1] == {"ssh_known_hosts": f"other.example.no {key}\ngit.example.no {key}\n"}


def test_nothing_is_written_when_one_of_what_is_to_be_trusted_is_wrong(cluster, namespace, tasks, tmp_path):
    line = f"git.example.no {ssh_key(tmp_path, 'ed25519')}"
    before = cluster.moment()
    with pytest.raises(Failure) as caught:
        tasks(REPOSITORY, url=GIT, known_hosts=[line, line, "git.example.no ssh-rsa AAAA"], gpg_keys=["a key"],
              certificates=[{"serverName": "git.example.no", "certData": "-----BEGIN CERTIFICATE-----"}])
    assert [line.partition(":")[0] for line in caught.value.details["errors"]] == ["certificates[0]", "known_hosts[2]", "known_hosts", "gpg_keys[0]"]
    with pytest.raises(Failure, match="url holds credentials"):
        tasks(REPOSITORY, url="https://me:swordfish@git.example.no/a.git", known_hosts=[line])
    assert not [each for each in cluster.audit(before) if each["verb"] in ("create", "patch", "update", "delete") and not each["dryRun"]]
    cluster.kubectl("delete", "configmap", "argocd-gpg-keys-cm", "--namespace", namespace)
    with pytest.raises(Failure, match="there is no ConfigMap argocd-gpg-keys-cm. Install Argo CD there first"):
        tasks(REPOSITORY, gpg_keys=["F7842A5CEAA9C0B1"], state="absent")


# ---- what only Argo CD can know


def test_an_application_that_no_argo_cd_looks_at_is_a_failure_that_names_the_setting(cluster, namespace, tasks):
    """argo-cd#20580"""
    with pytest.raises(Failure, match=f"watch the namespace {namespace} .application.namespaces in the ConfigMap argocd-cmd-params-cm") as caught:
        tasks(APPLICATION, wait=True, wait_timeout=1, **application())
    assert caught.value.details["changed"] and told(caught.value.details) == {"web": "created"}


# ---- absent


def test_deleting_an_application_says_what_becomes_of_its_objects_and_orphan_deletes_none(cluster, namespace, tasks):
    """argo-cd#10949, argo-cd#8179, argo-cd#6046"""
    tracking, finalizer = "argocd.argoproj.io/tracking-id", "resources-finalizer.argocd.argoproj.io"
    tasks(APPLICATION, **application())
    cluster.kubectl("create", "--namespace", namespace, "--filename", "-", input=json.dumps({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "annotations": {tracking: f"web:/ConfigMap:{namespace}/settings"}}}))
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--field-manager=argocd-application-controller",
                    "--patch", json.dumps({"metadata": {"finalizers": [finalizer]}, "status": {"resources": [
                        {"kind": "ConfigMap", "version": "v1", "namespace": namespace, "name": "settings", "status": "Synced"}]}}))
    with pytest.raises(Refused, match="would run on there with nobody in charge"):
        tasks(APPLICATION, **application(destination={"server": IN_CLUSTER, "namespace": "elsewhere"}))
    with pytest.raises(Refused, match=f"has 1 objects: ConfigMap {namespace}/settings. Say deletion: cascade"):
        tasks(APPLICATION, name="web", state="absent")
    before = cluster.moment()
    with pytest.raises(Failure, match=f"finalizers left: {finalizer}"):  # there is no controller that would take it off
        tasks(APPLICATION, name="web", state="absent", deletion="cascade", wait_timeout=1)
    with pytest.raises(Refused, match=f"is being deleted since .*finalizers left: {finalizer}"):
        tasks(APPLICATION, **application())
    check = tasks(APPLICATION, check_mode=True, name="web", state="absent", deletion="orphan")
    result = tasks(APPLICATION, name="web", state="absent", deletion="orphan")
    assert check["changed"] and result["changed"] and check["applications"][0]["objects"] == [f"ConfigMap {namespace}/settings"]
    assert result["applications"][0]["released"] == [f"ConfigMap {namespace}/settings"]
    settings = json.loads(cluster.kubectl("get", "configmap", "settings", "--namespace", namespace, "--output", "json"))
    assert tracking not in settings["metadata"].get("annotations", {})
    assert not [each for each in cluster.audit(before) if each["verb"] == "delete" and each["resource"] != "applications"]
    assert not tasks(APPLICATION, name="web", state="absent", deletion="orphan")["changed"]


def test_a_project_a_cluster_and_a_repository_that_are_used_are_kept_with_the_names_of_who_uses_them(cluster, namespace, tasks):
    """argo-cd#18361"""
    server = f"https://{namespace}.example.no"
    repository = f"https://git.example.no/{namespace}.git"
    tasks(PROJECT, name=namespace, sourceRepos=["*"], destinations=[{"server": "*", "namespace": "*"}])
    tasks(CLUSTER, server=server, name=namespace)
    tasks(REPOSITORY, url=repository)
    tasks(APPLICATION, **application(project=namespace, source={"repoURL": repository, "path": "."}, destination={"name": namespace, "namespace": "a"}))
    for kind, options in ((PROJECT, {"name": namespace}), (CLUSTER, {"server": server}), (REPOSITORY, {"url": repository})):
        with pytest.raises(Refused, match=f"is used by 1 Applications: {namespace}/web"):
            tasks(kind, state="absent", **options)
    tasks(APPLICATION, name="web", state="absent")
    for kind, options in ((PROJECT, {"name": namespace}), (CLUSTER, {"server": server}), (REPOSITORY, {"url": repository})):
        assert tasks(kind, state="absent", check_mode=True, **options)["changed"]
        assert tasks(kind, state="absent", **options)["changed"]
        assert not tasks(kind, state="absent", **options)["changed"]


def test_an_applicationset_without_protection_is_warned_of(tasks):
    """argo-cd#18212"""
    one = {"name": "all", "generators": [{"list": {"elements": []}}], "template": {"metadata": {"name": "a"}, "spec": {
        "project": "default", "source": {"repoURL": GIT, "path": "."}, "destination": {"server": IN_CLUSTER}}}}
    assert "when a generator finds nothing" in tasks(APPLICATIONSET, **one)["warnings"][0]
    assert not tasks(APPLICATIONSET, **one, syncPolicy={"preserveResourcesOnDeletion": True})["warnings"]
    assert not tasks(APPLICATIONSET, **one, syncPolicy={"applicationsSync": "create-update"})["warnings"]


# ---- argocd_sync


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("options, message", [
    ({"name": "nobody"}, "no Application of the name nobody in the namespace .*There are web"),
    ({"label_selector": "team=nobody"}, "no Application with the labels team=nobody"),
    ({"applicationset": "nobody"}, "no Application made by the ApplicationSet nobody"),
    ({"name": "web", "revision": "main"}, "takes .* from Git, where main is no full commit id. Leave it out to take the newest commit of HEAD"),
    ({"name": "web", "revisions": [COMMIT, COMMIT]}, "has 1 sources, and the task names 2 commits"),
])
def test_a_sync_of_something_else_than_an_application_at_a_commit_is_refused(options, message, namespace, tasks):
    tasks(APPLICATION, **application())
    with pytest.raises(Failure, match=message):
        tasks.sync(namespace=namespace, **options)


def test_a_sync_in_check_mode_writes_nothing(cluster, namespace, tasks):
    tasks(APPLICATION, **application())
    before = live(cluster, namespace, "applications", "web")["metadata"]["resourceVersion"]
    assert tasks.sync(check_mode=True, namespace=namespace, name="web", revision=COMMIT)["changed"]
    assert not tasks.sync(check_mode=True, namespace=namespace, name="web", operation="wait")["changed"]
    assert live(cluster, namespace, "applications", "web")["metadata"]["resourceVersion"] == before


def test_a_status_that_is_older_than_the_question_is_no_success(cluster, namespace, tasks):
    """argo-cd#5592, argo-cd#12211: it says all that could be wished for, and no Argo CD has looked since."""
    tasks(APPLICATION, **application())
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps({"status": {
        "sync": {"status": "Synced", "revision": COMMIT}, "health": {"status": "Healthy"}, "reconciledAt": "2099-01-01T00:00:00Z",
        "history": [{"id": 1, "revision": COMMIT, "deployedAt": "2026-01-01T00:00:00Z"}]}}))
    for operation in ("sync", "wait"):
        with pytest.raises(Failure, match="Argo CD did not look at it within 1 s. Does its application controller run"):
            tasks.sync(namespace=namespace, name="web", revision=COMMIT, operation=operation, wait_timeout=1)
    assert "operation" not in live(cluster, namespace, "applications", "web")


def test_abort_takes_away_an_operation_that_nobody_begins(cluster, namespace, tasks):
    """argo-cd#17155"""
    tasks(APPLICATION, **application())
    operation = {"sync": {"revision": COMMIT}, "initiatedBy": {"username": "astrid"}}
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps({"operation": operation}))
    told_before = tasks.sync(check_mode=True, namespace=namespace, name="web", operation="abort")
    assert told_before["changed"] and f"a sync of {COMMIT} by astrid" in told_before["applications"][0]["message"]
    assert "operation" in live(cluster, namespace, "applications", "web")
    assert tasks.sync(namespace=namespace, name="web", operation="abort")["applications"][0]["outcome"] == "aborted"
    assert "operation" not in live(cluster, namespace, "applications", "web")
    assert not tasks.sync(namespace=namespace, name="web", operation="abort")["changed"]


def test_abort_names_the_field_that_stays(cluster, namespace, tasks):
    """argo-cd#29741"""
    tasks(APPLICATION, **application())
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps({
        "operation": {"sync": {"revision": COMMIT}},
        "status": {"operationState": {"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "operation": {"sync": {"revision": COMMIT}}}}}))
    with pytest.raises(Failure, match="did not end within 1 s; left are operation and status.operationState.phase"):
        tasks.sync(namespace=namespace, name="web", operation="abort", wait_timeout=1)


# ---- reconcile, of Applications


def test_an_application_that_moves_to_another_folder_is_not_pruned_unasked(cluster, namespace, git_repo, tmp_path):
    """argo-cd#9934"""
    web = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "Application", "metadata": {"name": "web", "finalizers": ["resources-finalizer.argocd.argoproj.io"]},
           "spec": {"project": "default", "source": {"repoURL": GIT, "path": "."}, "destination": {"server": "https://kubernetes.default.svc"}}}
    every = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "ApplicationSet", "metadata": {"name": "all"}, "spec": {
        "generators": [], "template": {"metadata": {"name": "a"}, "spec": web["spec"]}}}
    git_repo.write("root/web.yaml", json.dumps(web))
    git_repo.write("root/all.yaml", json.dumps(every))
    git_repo.write("root/settings.yaml", config_map("settings"))
    git_repo.commit()
    run = Reconciler(name=namespace, namespace=namespace, repository=git_repo.url, path="root", kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path),
                     inventory_namespace=namespace)
    run()
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps({"status": {
        "resources": [{"kind": "Deployment", "group": "apps", "version": "v1", "namespace": "shop", "name": "web"}]}}))
    git_repo.git("mv", "root/web.yaml", "web.yaml")
    git_repo.git("mv", "root/all.yaml", "all.yaml")
    git_repo.commit()
    since = cluster.moment()
    for check_mode in (True, False):
        reasons = {change["object"]["kind"]: change["reason"] for change in run(check_mode)["changes"]}
        assert reasons == {"Application": "an Application is pruned only with prune_protected: true; it has Deployment shop/web",
                           "ApplicationSet": "an ApplicationSet is pruned only with prune_protected: true"}
    assert not [entry for entry in cluster.audit(since) if entry["namespace"] == namespace and entry["verb"] == "delete" and not entry["dryRun"]]
    assert operations(run(True, prune_protected=True)) == {"Application web": "pruned", "ApplicationSet all": "pruned"}
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


# ---- reconcile, from an Application


@pytest.mark.parametrize("change, message", [
    ({"metadata": {"finalizers": ["a.example.com/b"]}}, "Application .*/web: is being deleted|is being deleted"),
    ({"status": {"conditions": [{"type": "InvalidSpecError", "message": "no such project", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}},
     "Argo CD refuses it: no such project"),
    ({"spec": {"destination": {"server": "https://elsewhere.example.no"}}}, "its destination is https://elsewhere.example.no, and it was read from"),
    ({"spec": {"source": {"repoURL": "file:///srv/git/other-team.git"}}}, "a folder of the machine that this runs on"),
])
def test_a_reconcile_from_an_application_that_argo_cd_would_not_sync_is_refused(change, message, cluster, namespace, tasks, tmp_path):
    tasks(APPLICATION, **application())
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", json.dumps(change))
    if "metadata" in change:
        cluster.kubectl("delete", f"applications.{GROUP}", "web", "--namespace", namespace, "--wait=false")
    run = Reconciler(name=namespace, kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path), inventory_namespace=namespace)
    with pytest.raises(Refused, match=message):
        run(from_application=f"{namespace}/web")
    with pytest.raises(Failure, match=f"there is no Application other in the namespace {namespace}"):
        run(from_application=f"{namespace}/other")
    cluster.kubectl("patch", f"applications.{GROUP}", "web", "--namespace", namespace, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


@pytest.mark.parametrize("known, marked, taken", [
    ("", "", True), ("bergen", "bergen", True), ("", "bergen", False), ("oslo", "bergen", False), ("oslo", "", False)])
def test_an_object_of_another_argo_cd_is_not_taken_over_though_its_application_has_the_same_name(
        known, marked, taken, cluster, namespace, tasks, git_repo, tmp_path):
    """argo-cd#5431, argo-cd#11402"""
    git_repo.write("web/settings.yaml", config_map("settings"))
    git_repo.commit()
    cluster.kubectl("create", "configmap", "argocd-cm", "--namespace", namespace, f"--from-literal=installationID={known}")
    tasks(APPLICATION, **application(source={"repoURL": git_repo.url, "path": "web"}, destination={"server": IN_CLUSTER, "namespace": namespace}))
    marks = {"argocd.argoproj.io/tracking-id": f"web:/ConfigMap:{namespace}/settings", **({"argocd.argoproj.io/installation-id": marked} if marked else {})}
    cluster.kubectl("create", "--filename", "-", "--namespace", namespace, "--field-manager=argocd-controller", input=json.dumps({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "annotations": marks}, "data": {"key": "one"}}))
    run = Reconciler(name=namespace, repository=git_repo.url, kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path), inventory_namespace=namespace)
    if taken:
        run(from_application=f"{namespace}/web")
    else:
        with pytest.raises(Refused, match=f"ConfigMap {namespace}/settings belongs to Argo CD"):
            run(from_application=f"{namespace}/web")
    assert get(cluster, namespace, "configmap", "settings")["metadata"]["annotations"] == marks


# ---- argocd_info


def test_the_examples_of_argocd_info_run_and_an_application_that_is_not_there_is_not_in_the_result(namespace, tasks):
    tasks(APPLICATION, **application(source={"repoURL": GIT, "path": "web", "helm": {"parameters": [{"name": "password", "value": "swordfish"}]}}))
    for task in yaml.safe_load(argocd_info.EXAMPLES):
        for name, options in task.items():
            if name == "nordic.gitops.argocd_info":
                told_of = [each["name"] for each in tasks.info(**{**(options or {}), "namespace": namespace})]
                assert told_of == ([] if options else ["web"])
    (one,) = tasks.info(namespace=namespace)
    assert one["sources"] == [{"repository": GIT, "revision": "HEAD", "path": "web", "chart": "", "commit": ""}] and "swordfish" not in json.dumps(one)
    assert (one["sync"], one["health"], one["running"], one["last_sync"]) == ("", "", "", {})


def test_applications_that_may_not_be_read_are_an_error_and_no_empty_list(cluster, namespace, tasks):
    """argo-cd#13000"""
    nobody = cluster.user(f"nobody-{namespace}")
    with pytest.raises(Failure, match="forbidden"):
        tasks.info(namespace=namespace, kubeconfig=nobody)
