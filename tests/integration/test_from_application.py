# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconcile from the file of an Application, where there is no Argo CD. What Argo CD itself makes of the same is compared in test_argocd.py."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from reconciling import Reconciler, config_map, deployment, get, operations

IN_CLUSTER = "https://kubernetes.default.svc"
SETTINGS = config_map("settings", "one")


@pytest.fixture
def application(git_repo, namespace, tmp_path):
    """Writes the file of an Application of the folder `app`, into the test's namespace; its path."""
    def write(source=None, metadata=None, destination=None, name="payment.yaml", **spec):
        body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "payment", **(metadata or {})}, "spec": {
            "project": "default", "source": {"repoURL": git_repo.url, "path": "app", "targetRevision": "main", **(source or {})},
            "destination": {"server": IN_CLUSTER, "namespace": namespace, **(destination or {})}, **spec}}
        path = tmp_path / name
        path.write_text(json.dumps(body), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def run(cluster, namespace, tmp_path, binaries, monkeypatch):
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    return Reconciler(name=namespace, kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path / "cache"), inventory_namespace=namespace, wait_timeout=30)


def push(git_repo, text=SETTINGS, name="settings"):
    git_repo.write(f"app/{name}.yaml", text)
    return git_repo.commit()


def test_the_namespace_is_created_stays_and_belongs_to_whoever_made_it_first(cluster, namespace, run, application, git_repo, request):
    other = f"{namespace}-made"
    request.addfinalizer(lambda: cluster.kubectl("delete", "namespace", other, "--ignore-not-found", "--wait=false"))
    push(git_repo)
    policy = {"syncOptions": ["CreateNamespace=true"], "automated": {"prune": True, "allowEmpty": True}}
    file = application(destination={"namespace": other}, syncPolicy=policy)
    assert operations(run(True, from_application=file)) == {f"Namespace {other}": "created", "ConfigMap settings": "created"}
    assert get(cluster, "", "namespace", other) is None
    assert operations(run(from_application=file)) == {f"Namespace {other}": "created", "ConfigMap settings": "created"}
    assert not run(from_application=file)["changed"]
    # A second Application of the same namespace leaves it to the first.
    push(git_repo, config_map("second"), "second")
    two = application(source={"directory": {"include": "second.yaml"}}, destination={"namespace": other}, name="second.yaml", metadata={"name": "second"},
                      syncPolicy=policy)
    assert operations(run(name=f"{namespace}-second", from_application=two)) == {"ConfigMap second": "created"}
    git_repo.remove("app")
    git_repo.write("README.md", "nothing")
    git_repo.commit()
    assert "pruned" in operations(run(from_application=file, prune_limit="100%")).values()
    assert get(cluster, "", "namespace", other)["metadata"].get("deletionTimestamp") is None
    assert get(cluster, other, "configmap", "settings") is None


def test_the_namespace_gets_what_the_application_says_of_it(cluster, namespace, run, application, git_repo):
    push(git_repo)
    file = application(syncPolicy={"syncOptions": ["CreateNamespace=true"], "managedNamespaceMetadata": {"labels": {"team": "payment"}}})
    run(from_application=file)
    assert get(cluster, "", "namespace", namespace)["metadata"]["labels"]["team"] == "payment"
    assert not run(from_application=file)["changed"]


def test_objects_are_pruned_only_where_the_application_prunes(cluster, namespace, run, application, git_repo):
    push(git_repo)
    push(git_repo, config_map("old"), "old")
    run(from_application=application())
    git_repo.remove("app/old.yaml")
    git_repo.commit()
    for policy in ({}, {"automated": {}}, {"automated": {"prune": True, "enabled": False}}, {"automated": {"prune": True}, "syncOptions": ["Prune=false"]}):
        run(from_application=application(syncPolicy=policy))
        assert get(cluster, namespace, "configmap", "old"), policy
    pruning = application(syncPolicy={"automated": {"prune": True}})
    assert "pruned" not in operations(run(from_application=pruning, prune=False)).values()
    assert operations(run(from_application=pruning))["ConfigMap old"] == "pruned"


def test_a_folder_is_read_as_argo_cd_reads_it(cluster, namespace, run, application, git_repo):
    push(git_repo)
    push(git_repo, config_map("below"), "deeper/below")
    push(git_repo, config_map("out"), "out")
    assert operations(run(True, from_application=application())) == {"ConfigMap settings": "created", "ConfigMap out": "created"}
    file = application(source={"directory": {"recurse": True, "exclude": "out.yaml"}})
    assert operations(run(True, from_application=file)) == {"ConfigMap settings": "created", "ConfigMap below": "created"}
    file = application(source={"directory": {"recurse": True, "include": "{out,deeper/*}.yaml"}})
    assert operations(run(True, from_application=file)) == {"ConfigMap out": "created", "ConfigMap below": "created"}


def test_kustomize_is_edited_as_argo_cd_edits_it(cluster, namespace, run, application, git_repo):
    git_repo.write("app/kustomization.yaml", "resources: [web.yaml]\nimages: [{name: registry.example/web, newTag: '2'}, {name: other, newTag: '1'}]\n")
    push(git_repo, deployment("web"), "web")
    file = application(source={"kustomize": {
        "namePrefix": "pre-", "nameSuffix": "-post", "images": ["registry.example/web=registry.example/mirror/web:3"],
        "replicas": [{"name": "web", "count": "2"}], "commonLabels": {"team": "payment"}, "labelWithoutSelector": True,
        "commonAnnotations": {"note": "æ \U0001f600"}}})
    run(from_application=file)
    live = get(cluster, namespace, "deployment", "pre-web-post")
    assert live["spec"]["replicas"] == 2 and live["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/mirror/web:3"
    assert live["metadata"]["labels"]["team"] == "payment" and "team" not in live["spec"]["selector"]["matchLabels"]
    assert live["metadata"]["annotations"]["note"] == "æ \U0001f600"
    assert not run(from_application=file)["changed"]
    # The same folder without the Application is another render.
    assert "Deployment web" in operations(run(True, repository=git_repo.url, path="app", namespace=namespace, move=True))


def test_helm_gets_the_parameters_as_on_its_command_line(cluster, namespace, run, application, git_repo):
    git_repo.write("app/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
    git_repo.write("app/values.yaml", "color: red\nport: 1\nlabels: {}\n")
    git_repo.write("app/production.yaml", "color: green\nport: 2\n")
    git_repo.write("app/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata:\n"
                   "  all: {{ toJson .Values | quote }}\n  place: {{ .Release.Namespace }}\n")
    git_repo.commit()
    file = application(source={"helm": {
        "valueFiles": ["production.yaml"], "values": "port: 3\nextra: yes\n", "releaseName": "gateway",
        "parameters": [{"name": "number", "value": "7"}, {"name": "text", "value": "7", "forceString": True}, {"name": "labels.a\\.b", "value": "x,y"},
                       {"name": "deep.on", "value": "True"}, {"name": "version", "value": "0.10"}, {"name": "zero", "value": "007"}]}})
    run(from_application=file)
    data = get(cluster, namespace, "configmap", "gateway")["data"]
    assert json.loads(data["all"]) == {"color": "green", "port": 3, "extra": True, "number": 7, "text": "7", "labels": {"a.b": "x,y"}, "deep": {"on": True},
                                       "version": "0.10", "zero": "007"}
    assert data["place"] == namespace


def hook(phase):
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "annotations": {"argocd.argoproj.io/hook": phase}}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "registry.example/a:1"}]}}}})


def test_the_hooks_of_an_application_are_run(cluster, namespace, run, application, git_repo):
    push(git_repo, hook("PreSync"), "migrate")
    push(git_repo)
    done = run(from_application=application())
    assert [(one["phase"], one["status"]) for one in done["hooks"]] == [("PreSync", "Succeeded")] and operations(done) == {"ConfigMap settings": "created"}
    assert not run(from_application=application())["changed"]


def test_a_hook_that_argo_cd_left_is_deleted_before_it_runs_again_and_stays_argo_cds(cluster, namespace, run, application, git_repo):
    cluster.kubectl("create", "job", "migrate", "-n", namespace, "--image=registry.example/a:0")
    push(git_repo, hook("PreSync"), "migrate")
    with pytest.raises(Refused, match="was not made by a hook of this reconcile"):
        run(from_application=application())
    tracking = f"payment:batch/Job:{namespace}/migrate"
    cluster.kubectl("annotate", "job", "migrate", "-n", namespace, f"argocd.argoproj.io/tracking-id={tracking}")
    assert run(from_application=application())["hooks"][0]["status"] == "Succeeded"
    live = get(cluster, namespace, "job", "migrate")
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/a:1"
    assert live["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] == tracking


@pytest.mark.parametrize("options, message", [
    ({"source": {"chart": "web"}}, "spec.source.chart: only what is in a Git repository"),
    ({"source": {"plugin": {"name": "x"}}}, "spec.source.plugin: only what is in a Git repository"),
    ({"source": {"repoURL": "oci://registry.example/web"}}, "spec.source.repoURL: only what is in a Git repository"),
    ({"source": {"repoURL": None}}, "spec.source.repoURL is missing"),
    ({"source": {"targetRevision": "v1.*"}}, "spec.source.targetRevision: v1.\\* is a range of versions"),
    ({"source": {"targetRevision": "1.2.x"}}, "spec.source.targetRevision: 1.2.x is a range of versions"),
    ({"source": None, "sources": [{"repoURL": "a"}, {"repoURL": "b"}]}, "spec.sources: it has 2 sources"),
    ({"source": {"somethingNew": {"a": 1}}}, "spec.source.somethingNew: a reconcile has no option for it"),
    ({"source": {"directory": {"jsonnet": {"tlas": [{"name": "a", "value": "b"}]}}}}, "spec.source.directory.jsonnet: a reconcile has no option"),
    ({"source": {"directory": {}, "helm": {}}}, "spec.source has directory and helm; Argo CD takes one of them"),
    ({"source": {"helm": {"skipCrds": True}}}, "spec.source.helm.skipCrds: a reconcile has no option"),
    ({"source": {"helm": {"fileParameters": [{"name": "a", "path": "b"}]}}}, "spec.source.helm.fileParameters: a reconcile has no option"),
    ({"source": {"helm": {"valueFiles": ["$values/a.yaml"]}}}, "spec.source.helm.valueFiles: \\$values/a.yaml needs a variable of Argo CD"),
    ({"source": {"helm": {"valueFiles": ["a.yaml"], "ignoreMissingValueFiles": True}}}, "ignoreMissingValueFiles: a values file that is missing"),
    ({"source": {"helm": {"namespace": "elsewhere"}}}, "spec.source.helm.namespace is not the destination's namespace"),
    ({"source": {"helm": {"values": "- a"}}}, "spec.source.helm.values is not a mapping"),
    ({"source": {"helm": {"values": "a: ["}}}, "spec.source.helm.values: "),
    ({"source": {"helm": {"parameters": [{"name": "a[0]", "value": "b"}]}}}, "spec.source.helm.parameters: a\\[0\\]: a list"),
    ({"source": {"helm": {"parameters": [{"name": "a", "value": "{b,c}"}]}}}, "spec.source.helm.parameters: a: a list"),
    ({"source": {"helm": {"parameters": [{"name": "a", "value": "$ARGOCD_APP_NAME"}]}}}, "ARGOCD_APP_NAME needs a variable of Argo CD"),
    ({"source": {"helm": {"parameters": [{"name": "a", "value": 5}]}}}, "spec.source.helm.parameters\\[0\\].value is not a text"),
    ({"source": {"kustomize": {"images": ["web"]}}}, "spec.source.kustomize.images: web is none of"),
    ({"source": {"kustomize": {"patches": [{"patch": "a"}]}}}, "spec.source.kustomize.patches: a reconcile has no option"),
    ({"source": {"kustomize": {"components": ["a"]}}}, "spec.source.kustomize.components: a reconcile has no option"),
    ({"source": {"kustomize": {"replicas": [{"name": "web", "count": "many"}]}}}, "replicas: web has no number of replicas"),
    ({"syncPolicy": {"syncOptions": ["Surprise=true"]}}, "spec.syncPolicy.syncOptions: Surprise is not known here"),
    ({"syncPolicy": {"syncOptions": ["RespectIgnoreDifferences=true"]}, "ignoreDifferences": [{"kind": "Deployment"}]}, "spec.ignoreDifferences: "),
    ({"sourceHydrator": {"drySource": {"repoURL": "a"}}}, "spec.sourceHydrator: a reconcile has no option"),
    ({"metadata": {"name": None}}, "metadata.name is missing"),
])
def test_what_a_reconcile_cannot_do_as_argo_cd_does_is_refused_by_name(options, message, cluster, namespace, run, application, git_repo):
    push(git_repo)
    since = cluster.moment()
    with pytest.raises(Failure, match=message):
        run(from_application=application(**{**options, "source": options.get("source") or {}}))
    assert not [entry for entry in cluster.audit(since) if entry["namespace"] == namespace and entry["verb"] in ("create", "patch", "update", "delete")]


@pytest.mark.parametrize("name, text, message", [
    (".argocd-source.yaml", "helm: {}\n", ".argocd-source.yaml changes the Application's source"),
    (".argocd-source-payment.yaml", "helm: {}\n", ".argocd-source-payment.yaml changes the Application's source"),
])
def test_a_folder_with_what_only_argo_cd_reads_is_refused(name, text, message, namespace, cluster, run, application, git_repo):
    push(git_repo)
    git_repo.write(f"app/{name}", text)
    git_repo.write("app/.argocd-source-other.yaml", "helm: {}\n")
    git_repo.commit()
    file = application(source={"directory": {"exclude": ".argocd*"}})
    for _again in range(2):  # from Git, and from the cache of renders
        with pytest.raises(Failure, match=message):
            run(from_application=file)
    assert get(cluster, namespace, "configmap", "settings") is None


@pytest.mark.parametrize("text, message", [
    ("", "one Application of argoproj.io/v1alpha1 and nothing else"),
    ("kind: ConfigMap\napiVersion: v1\n", "one Application of argoproj.io/v1alpha1 and nothing else"),
    ("a: [", "expected|while parsing|flow"),
    ("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\nspec: [1]\n", "spec is not a mapping"),
    ("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\n---\nkind: Namespace\n", "one Application of argoproj.io/v1alpha1"),
    ("#" * ((1 << 20) + 1), "larger than 1 MiB"),
])
def test_a_file_that_is_no_application_is_said(text, message, run, tmp_path):
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(Failure, match=message):
        run(from_application=str(tmp_path / "a.yaml"))


def test_an_application_goes_with_no_other_word_on_what_to_render(run, application, tmp_path):
    with pytest.raises(Failure, match="from_application and path, recurse, values exclude each other"):
        run(from_application=application(), path="app", recurse=False, values={"a": 1})
    with pytest.raises(Failure, match="from_application cannot be read: No such file"):
        run(from_application=str(tmp_path / "missing.yaml"))
    with pytest.raises(Failure, match="from_application is '../a'"):
        run(from_application="../a")
    with pytest.raises(Failure, match="serves no Application in argoproj.io/v1alpha1|there is no Application payment in the namespace nowhere"):
        run(from_application="nowhere/payment")


def test_another_destination_in_a_file_is_said(cluster, namespace, run, application, git_repo):
    push(git_repo)
    run(from_application=application(destination={"server": "https://elsewhere.example.no"}))
    assert "its destination is https://elsewhere.example.no; the run is for" in run.warnings[0] and get(cluster, namespace, "configmap", "settings")
