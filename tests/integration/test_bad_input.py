# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads when the input is bad: the place, the field, what to do. And that nothing was written or pruned for it.

Each case is a repository whose earlier commit (ConfigMap old) is enforced already. The bad commit has ConfigMap good and no
longer has old, so whatever is done too early shows.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from lab.repository import Repository
from reconciling import Reconciler, config_map, deployment, manifest, operations

SECRET = manifest("Secret", "s", more="stringData: {key: hunter2}\n")
HPA = "spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n"
EVERY_VERB = ("get", "list", "watch", "create", "patch", "update", "delete")


class World:
    """One reconcile whose earlier commit is enforced. "NAMESPACE" in the files of a commit is the test's."""

    def __init__(self, cluster, namespace, repository, cache):
        self.cluster, self.namespace, self.repository = cluster, namespace, repository
        self.run = Reconciler(name=namespace, namespace=namespace, repository=repository.url, kubeconfig=str(cluster.kubeconfig),
                              git_cache=str(cache), inventory_namespace=namespace, wait_timeout=20)
        self._files = []
        self.commit({"old.yaml": config_map("old")})
        self.run()

    def commit(self, files):
        """Make these the repository's only files."""
        for name in self._files:
            self.repository.remove(name)
        self._files = list(files)
        for name, content in files.items():
            self.repository.write(name, content.replace("NAMESPACE", self.namespace))
        self.repository.commit()

    def names(self):
        paths = (f"{group}/namespaces/{self.namespace}/{plural}" for group, plural in
                 (("/api/v1", "configmaps"), ("/api/v1", "secrets"), ("/apis/apps/v1", "deployments")))
        found = {item["metadata"]["name"] for path in paths for item in self.cluster.api.do("GET", path)["items"]}
        return found - {"kube-root-ca.crt", f"nordic-gitops-{self.namespace}"}

    def writes(self, since):
        """Every object that a reconcile wrote or deleted, without the record of its own inventory."""
        return [(entry["verb"], entry["resource"], entry["name"]) for entry in self.cluster.audit(since)
                if entry["userAgent"] == "nordic.gitops" and entry["verb"] not in ("get", "list", "watch")
                and not entry["dryRun"] and entry["code"] < 300 and entry["name"] != f"nordic-gitops-{self.namespace}"]

    def messages(self, **options):
        """What check mode and the run itself say; neither may write anything."""
        since = self.cluster.moment()
        said = []
        for check_mode in (True, False):
            with pytest.raises(Failure) as caught:
                self.run(check_mode=check_mode, **options)
            said.append(str(caught.value))
        assert self.writes(since) == []
        assert self.names() == {"old"}
        return said


@pytest.fixture
def world(cluster, namespace, git_repo, tmp_path):
    return World(cluster, namespace, git_repo, tmp_path / "cache")


@pytest.fixture(scope="module")
def steady(cluster, tmp_path_factory):
    """A world that many tests share, as none of them changes it: that is what they prove."""
    folder = tmp_path_factory.mktemp("steady")
    namespace = cluster.namespace()
    yield World(cluster, namespace, Repository(folder / "repository"), folder / "cache")
    cluster.remove_namespace(namespace)


def says(message, words):
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} is not in: {message}"
    assert "Traceback" not in message and "hunter2" not in message


# ---- the repository holds something that can be known to be wrong before anything is written

WRONG = {
    "an unknown kind": ({"x.yaml": manifest("Deploymnet", "web", "apps/v1")},
                        ["x.yaml:1: Deploymnet web", "does not know Deploymnet in apps/v1", "Did you mean apps/v1 Deployment?"]),
    "a kind whose definition is nowhere": ({"x.yaml": manifest("Gadget", "g", "shop.example/v1")},
                                           ["x.yaml:1: Gadget g", "shop.example/v1", "CustomResourceDefinition missing"]),
    "a missing name": ({"x.yaml": "\napiVersion: v1\nkind: ConfigMap\nmetadata: {labels: {a: b}}\n"},
                       ["x.yaml:2: ConfigMap", "metadata.name is missing"]),
    "generateName": ({"x.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: migrate-}\n"},
                     ["x.yaml:1: Job", "metadata.generateName", "Give it a fixed metadata.name"]),
    "the same object twice": ({"x.yaml": "# again\n" + config_map("good")},
                              ["x.yaml:2: ConfigMap NAMESPACE/good", "is there twice", "first at a.yaml:1", "Remove one"]),
    "the same object in two versions": (
        {"x.yaml": manifest("HorizontalPodAutoscaler", "web", "autoscaling/v1", more=HPA) + "---\n"
         + manifest("HorizontalPodAutoscaler", "web", "autoscaling/v2", more=HPA)},
        ["x.yaml:7: HorizontalPodAutoscaler.autoscaling NAMESPACE/web", "is there twice", "first at x.yaml:1"]),
    "an apiVersion that is gone": ({"x.yaml": manifest("Ingress", "web", "extensions/v1beta1")},
                                   ["x.yaml:1: Ingress web", "extensions/v1beta1", "Did you mean networking.k8s.io/v1 Ingress?"]),
    "an apiVersion without its group": ({"x.yaml": manifest("Deployment", "web")},
                                        ["x.yaml:1: Deployment web", "in v1", "Did you mean apps/v1 Deployment?"]),
    "more values than a ConfigMap holds": ({"x.yaml": config_map("big", "x" * 1_100_000)},
                                           ["x.yaml:1: ConfigMap big", "data holds 1100000 bytes", "at most 1048576", "data[key]"]),
    "an object larger than etcd takes": ({"x.yaml": manifest("Deployment", "big", "apps/v1", annotations="a: " + "x" * 1_600_000)},
                                         ["x.yaml:1: Deployment big", "bytes, etcd takes at most 1572864", "Split it"]),
    "an object larger than a request may be": ({"x.yaml": manifest("Deployment", "big", "apps/v1", annotations="a: " + "x" * 3_300_000)},
                                               ["x.yaml:1: Deployment big", "bytes, etcd takes at most 1572864", "Split it"]),
    "a Secret with bad base64": ({"x.yaml": manifest("Secret", "s", more="data: {password: hunter2!}\n")},
                                 ["x.yaml:1: Secret s", "data[password]", "not valid base64", "stringData"]),
    "a YAML error": ({"x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n bad: [\n"}, ["x.yaml:5: YAML", "expected"]),
    "a key twice": ({"x.yaml": config_map("b") + "data: {key: two}\n"}, ["x.yaml:7", "'data' is set twice", "first at line 5"]),
    "a label that is no text": ({"x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {on: yes}}\n"},
                                ["x.yaml:1: ConfigMap a", "metadata.labels[", "must be a string", "Quote it"]),
    "a wave that is no number": ({"x.yaml": config_map("b", annotations="argocd.argoproj.io/sync-wave: first")},
                                 ["x.yaml:1: ConfigMap NAMESPACE/b", "sync-wave", '"first"', "not a whole number"]),
    "a wave that only Python reads as a number": ({"x.yaml": config_map("b", annotations='argocd.argoproj.io/sync-wave: "1_0"')},
                                                  ["x.yaml:1", '"1_0"', "not a whole number"]),
    "dependencies in a circle": (
        {"x.yaml": config_map("x", annotations="config.kubernetes.io/depends-on: /namespaces/NAMESPACE/ConfigMap/z"),
         "z.yaml": config_map("z", annotations="config.kubernetes.io/depends-on: /namespaces/NAMESPACE/ConfigMap/x")},
        ["x.yaml:1", "form a circle", "ConfigMap NAMESPACE/x -> ConfigMap NAMESPACE/z -> ConfigMap NAMESPACE/x"]),
    "a dependency that is nowhere": (
        {"x.yaml": config_map("x", annotations="config.kubernetes.io/depends-on: /namespaces/NAMESPACE/ConfigMap/nobody")},
        ["x.yaml:1: ConfigMap NAMESPACE/x", "names ConfigMap NAMESPACE/nobody", "not rendered here"]),
    "a dependency in another form": ({"x.yaml": config_map("x", annotations="config.kubernetes.io/depends-on: ConfigMap/y")},
                                     ["x.yaml:1: ConfigMap NAMESPACE/x", '"ConfigMap/y"', "Write GROUP/namespaces/"]),
    "a definition whose spec is a text": (
        {"x.yaml": manifest("CustomResourceDefinition", "a.shop.example", "apiextensions.k8s.io/v1", more="spec: hello\n")},
        ["x.yaml:1: CustomResourceDefinition a.shop.example: spec is a string, must be a mapping"]),
    "a definition whose names are a text": (
        {"x.yaml": manifest("CustomResourceDefinition", "a.shop.example", "apiextensions.k8s.io/v1", more="spec: {group: a.b, scope: Cluster, names: foo}\n")},
        ["x.yaml:1: CustomResourceDefinition a.shop.example: spec.names is a string, must be a mapping"]),
    "a definition whose versions are a number": (
        {"x.yaml": manifest("CustomResourceDefinition", "a.shop.example", "apiextensions.k8s.io/v1", more="spec: {group: a.b, scope: Cluster, versions: 5}\n")},
        ["x.yaml:1: CustomResourceDefinition a.shop.example: spec.versions is an integer, must be a list"]),
    "an autoscaler whose target is a list": (
        {"x.yaml": manifest("HorizontalPodAutoscaler", "web", "autoscaling/v2", more="spec: {maxReplicas: 2, scaleTargetRef: [web]}\n")},
        ["x.yaml:1: HorizontalPodAutoscaler web: spec.scaleTargetRef is a list, must be a mapping"]),
    "a folder of kustomizations": (
        {"apps/web/kustomization.yaml": "resources: [web.yaml]\n"},
        ["apps/web/kustomization.yaml: is a kustomization", "Point `path` at apps/web, or leave it out with `exclude`"]),
    "a folder of charts": (
        {"apps/web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n", "apps/web/templates/a.yaml": "{{ x }}: {{ y }}\n"},
        ["apps/web/Chart.yaml: is a Helm chart", "Point `path` at apps/web with renderer: helm"]),
    "the inventory itself": ({"x.yaml": config_map("nordic-gitops-NAMESPACE")},
                             ["x.yaml:1: ConfigMap NAMESPACE/nordic-gitops-NAMESPACE", "inventory", "choose another name"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_git_holds_is_refused_at_its_place_before_anything_is_written(steady, case):
    files, words = WRONG[case]
    steady.commit({"a.yaml": config_map("good"), **files})
    for message in steady.messages():
        says(message, [word.replace("NAMESPACE", steady.namespace) for word in words])


def test_an_object_without_a_namespace_is_refused_where_no_default_is_given(steady):
    steady.commit({"a.yaml": config_map("good"), "x.yaml": "\n\n" + config_map("b")})
    for message in steady.messages(namespace=""):
        says(message, ["a.yaml:1: ConfigMap good", "x.yaml:3: ConfigMap b", "has no namespace", "metadata.namespace", "option namespace"])


# ---- only the server can know

REFUSED = {
    "an unknown field": (deployment("web").replace("  replicas:", "  replcas:"), [".spec.replcas", "not declared in schema", "kubectl explain"]),
    "a wrong type": (deployment("web").replace("replicas: 1", "replicas: two"), [".spec.replicas", "is a string", "must be an integer"]),
    "a value out of bounds": (manifest("Service", "web", more="spec: {ports: [{port: 99999}]}\n"), ["spec.ports[0].port", "99999", "65535"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_server_refuses_is_told_by_place_object_and_field_and_prunes_nothing(world, case):
    text, words = REFUSED[case]
    world.commit({"a.yaml": config_map("good"), "x.yaml": "# a comment\n" + text})
    since = world.cluster.moment()
    with pytest.raises(Failure) as planned:
        world.run(check_mode=True)
    assert world.writes(since) == []
    with pytest.raises(Failure) as caught:
        world.run()
    for message in (str(planned.value), str(caught.value)):
        says(message, ["x.yaml:2:", f"{world.namespace}/web", *words])
    assert "old" in world.names() and "web" not in world.names()
    # What was written is what Git says, and the next commit finishes it.
    world.commit({"a.yaml": config_map("good")})
    world.run()
    assert world.names() == {"good"}


# ---- the repository cannot be had

OPTIONS = {
    "an unknown revision": (dict(revision="mian"), ["no branch, tag or commit mian", "Did you mean main?"]),
    "an unknown repository": (dict(repository="file:///nowhere/manifests.git"), ["file:///nowhere/manifests.git", "no Git repository"]),
    "an unknown path": (dict(path="apps/wbe"), ["apps/wbe", "no such file or folder", "Did you mean apps/web?"]),
    "a path that is a file": (dict(path="a.yaml"), ["a.yaml", "a file, not a folder"]),
    "a path out of the repository": (dict(path="apps/../../etc"), ["path", "'apps/../../etc'", ".. in it"]),
    "an empty folder": (dict(path="docs"), ["docs: holds no manifest", "*.yaml", "Check `path`"]),
    "include that matches nothing": (dict(include=["*.yam"]), ["holds no manifest", "include *.yam"]),
    "a name that no object may have": (dict(name="Shop_1"), ["name is 'Shop_1'", "lower-case"]),
    "a prune_limit that is no number": (dict(prune_limit="half"), ["prune_limit is 'half'", '"20"', '"50%"']),
    "a prune_limit beyond everything": (dict(prune_limit="150%"), ["prune_limit is '150%'"]),
    "a prune_limit below nothing": (dict(prune_limit="-1"), ["prune_limit is '-1'"]),
    "a prune_limit in other digits": (dict(prune_limit="²"), ["prune_limit is '²'"]),
    "a namespace that none can be": (dict(namespace="My_Shop"), ["namespace is 'My_Shop'", "lower-case"]),
    "an inventory_namespace that none can be": (dict(inventory_namespace="../etc"), ["inventory_namespace is '../etc'"]),
    "no inventory_namespace": (dict(inventory_namespace=""), ["inventory_namespace is ''"]),
    "an inventory_namespace that is not there": (dict(inventory_namespace="not-there"),
                                                 ["not-there", "not found", "inventory_namespace"]),
    "a negative wait_timeout": (dict(wait_timeout=-1), ["wait_timeout is -1"]),
    "a missing helm": (dict(renderer="helm", helm_binary="/nowhere/helm"), ["/nowhere/helm is not an executable", "`helm_binary`"]),
    "a missing kustomize": (dict(renderer="kustomize", kustomize_binary="/nowhere/kustomize"),
                            ["/nowhere/kustomize is not an executable", "`kustomize_binary`"]),
    "no chart": (dict(renderer="helm"), ["has no Chart.yaml"]),
    "no kustomization": (dict(renderer="kustomize"), ["has no kustomization", "kustomization.yaml"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_that_cannot_be_is_named_with_what_to_write(steady, binaries, case):
    options, words = OPTIONS[case]
    steady.commit({"a.yaml": config_map("good"), "apps/web/a.yaml": config_map("web"), "docs/README.md": "nothing here\n"})
    known = dict(helm_binary=str(Path(binaries) / "helm"), kustomize_binary=str(Path(binaries) / "kubectl"))
    for message in steady.messages(**{**known, **options}):
        says(message, words)


def test_wrong_git_credentials_are_named_without_being_shown(world, git_http):
    world.commit({"a.yaml": config_map("good")})
    for message in world.messages(repository=git_http.url, git_username="astrid", git_password="hunter2-wrong"):
        says(message, [git_http.url, "git_username", "git_password"])


def test_a_binary_that_is_nowhere_on_the_path_is_named_with_its_option(steady, monkeypatch, tmp_path):
    # A machine with git and nothing else.
    (tmp_path / "bin").mkdir()
    for program in ("git", "env"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    steady.commit({"web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n", "shop/kustomization.yaml": "namePrefix: a\n"})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for path, words in (("web", ["helm is not on PATH", "`helm_binary`"]), ("shop", ["kustomize or kubectl is not on PATH", "`kustomize_binary`"])):
        for message in steady.messages(path=path):
            says(message, words)


# ---- kustomize and helm say it themselves

CHART = {"Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n"}
TEMPLATE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata:\n  image: %s\n"

TOOLS = {
    "kustomize: a resource that is missing": ({"kustomization.yaml": "\nresources: [a.yaml, missing.yaml]\n", "a.yaml": config_map("a")},
                                              ["kustomization.yaml:2", "resources: missing.yaml is not in the repository"]),
    "kustomize: an unknown field": ({"kustomization.yaml": "namePrefix: a-\nresorces: [a.yaml]\n", "a.yaml": config_map("a")},
                                    ["kustomization.yaml:2: kustomize:", 'unknown field "resorces"']),
    "kustomize: a patch for nothing": (
        {"kustomization.yaml": "resources: [a.yaml]\npatches: [{path: p.yaml}]\n", "a.yaml": config_map("a"), "p.yaml": config_map("nope")},
        ["kustomization.yaml: kustomize:", "no resource matches strategic merge patch", "nope"]),
    "kustomize: broken YAML": ({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": "apiVersion: v1\nkind: [\n"},
                               ["a.yaml:2: kustomize:", "did not find expected node content"]),
    "helm: a value of nothing": ({**CHART, "templates/a.yaml": TEMPLATE % "{{ .Values.image.tag.name }}"},
                                 ["templates/a.yaml:5: helm:", "nil pointer", ".Values.image.tag.name"]),
    "helm: a template that cannot be read": ({**CHART, "templates/a.yaml": TEMPLATE % "{{ if }}"}, ["templates/a.yaml:5: helm:", "missing value for if"]),
    "helm: a value that the chart asks for": ({**CHART, "templates/a.yaml": TEMPLATE % '{{ required "give the image" .Values.image }}'},
                                              ["templates/a.yaml:5: helm:", "give the image"]),
    "helm: a template that gives no YAML": ({**CHART, "templates/a.yaml": TEMPLATE % "a: b: c"}, ["templates/a.yaml", "helm:", "mapping values"]),
    "helm: a chart without its version": ({"Chart.yaml": "apiVersion: v2\nname: web\n"}, ["Chart.yaml: helm:", "chart.metadata.version is required"]),
    "helm: a kind that is unknown": ({**CHART, "templates/a.yaml": manifest("ConfigMapp", "web")},
                                     ["templates/a.yaml: ConfigMapp web", "Did you mean v1 ConfigMap?"]),
}


@pytest.mark.parametrize("case", TOOLS)
def test_the_tools_own_words_come_with_file_and_line(steady, binaries, case):
    files, words = TOOLS[case]
    steady.commit({f"app/{name}": content for name, content in files.items()})
    options = dict(path="app", helm_binary=str(Path(binaries) / "helm"), kustomize_binary=str(Path(binaries) / "kubectl"))
    for message in steady.messages(**options):
        says(message, words)
        assert message.startswith("app/") and "/tmp" not in message


# ---- the cluster cannot be had


def test_an_expired_kubeconfig_says_since_when_and_what_to_renew(steady):
    steady.commit({"a.yaml": config_map("good")})
    for message in steady.messages(kubeconfig=steady.cluster.expired()):
        says(message, [steady.cluster.url, "401", "expired on ", " UTC", "renew"])


def test_a_cluster_that_is_not_there_fails_soon_and_says_where_it_was_looked_for(steady):
    steady.commit({"a.yaml": config_map("good")})
    nobody = steady.cluster.kubeconfig_with({"token": "hunter2"}, url="https://127.0.0.1:1")
    begin = time.monotonic()
    for message in steady.messages(kubeconfig=nobody):
        says(message, ["https://127.0.0.1:1", "cannot be reached", "Connection refused", "kubeconfig"])
    assert time.monotonic() - begin < 60  # the patience with one server that answered before


def test_a_kubeconfig_that_is_not_there_is_named(steady):
    steady.commit({"a.yaml": config_map("good")})
    for message in steady.messages(kubeconfig="/nowhere/kubeconfig"):
        says(message, ["/nowhere/kubeconfig"])


# ---- a right is missing


def may(resource, *verbs):
    return {"apiGroups": ["", "apps"], "resources": [resource], "verbs": list(verbs)}


@pytest.fixture
def somebody(cluster, namespace):
    """The kubeconfig of a service account of the test's namespace who may do anything to ConfigMaps, and what else is given."""
    return lambda *rules: cluster.service_account(namespace, [may("configmaps", *EVERY_VERB), *rules], namespace)


def test_who_may_not_list_a_kind_is_told_which_and_nothing_happens(world, somebody):
    world.commit({"a.yaml": config_map("good"), "s.yaml": SECRET})
    for message in world.messages(kubeconfig=somebody(may("secrets", "get", "create", "patch", "delete"))):
        says(message, ["Secret", 'cannot list resource "secrets"', f"serviceaccount:{world.namespace}:{world.namespace}", "Role"])


def test_who_may_not_write_a_kind_is_told_the_object_and_nothing_is_pruned(world, somebody):
    world.commit({"a.yaml": config_map("good"), "s.yaml": SECRET})
    kubeconfig = somebody(may("secrets", "get", "list"))
    for check_mode in (True, False):
        with pytest.raises(Failure) as caught:
            world.run(check_mode=check_mode, kubeconfig=kubeconfig)
        says(str(caught.value), [f"s.yaml:1: Secret {world.namespace}/s", 'cannot patch resource "secrets"', "Role"])
    assert "old" in world.names() and "s" not in world.names()


def test_who_may_not_delete_a_kind_is_told_the_object_and_nothing_at_all_is_pruned(world, somebody):
    world.commit({"old.yaml": config_map("old"), "s.yaml": SECRET})
    world.run()
    world.commit({"a.yaml": config_map("good")})
    kubeconfig = somebody(may("secrets", "get", "list", "create", "patch"))
    since = world.cluster.moment()
    for check_mode in (True, False):
        with pytest.raises(Failure) as caught:
            world.run(check_mode=check_mode, kubeconfig=kubeconfig)
        says(str(caught.value), [f"Secret {world.namespace}/s", 'cannot delete resource "secrets"', "nothing was pruned", "Role"])
    assert world.writes(since) == [] and world.names() == {"old", "s"}
    assert operations(world.run()) == {"ConfigMap good": "created", "ConfigMap old": "pruned", "Secret s": "pruned"}


def test_who_may_not_keep_the_inventory_is_told_so_in_check_mode_too(cluster, world, namespace):
    world.commit({"old.yaml": config_map("old"), "s.yaml": SECRET})
    kubeconfig = cluster.service_account(namespace, [may("secrets", *EVERY_VERB), may("configmaps", "get", "list")], namespace)
    for message in world.messages(kubeconfig=kubeconfig):
        says(message, [f"ConfigMap {namespace}/nordic-gitops-{namespace}", 'resource "configmaps"', "cannot ", "Role"])


def test_a_role_in_one_namespace_is_enough_when_everything_is_in_it(cluster, world, namespace):
    """Neither a ClusterRole nor a right on namespaces is needed, not for pruning and waiting either."""
    kubeconfig = cluster.service_account(namespace, (), namespace)
    cluster.kubectl("create", "role", "deployer", "-n", namespace, f"--verb={','.join(EVERY_VERB)}",
                    "--resource=configmaps,secrets,deployments.apps,pods")
    cluster.kubectl("create", "rolebinding", "deployer", "-n", namespace, "--role=deployer", f"--serviceaccount={namespace}:{namespace}")
    world.commit({"a.yaml": config_map("good"), "s.yaml": SECRET, "w.yaml": deployment("web")})
    planned = world.run(check_mode=True, kubeconfig=kubeconfig)
    result = world.run(kubeconfig=kubeconfig, wait=True)
    assert operations(planned) == operations(result) == {
        "ConfigMap good": "created", "Secret s": "created", "Deployment web": "created", "ConfigMap old": "pruned"}
    assert result["healthy"] and world.names() == {"good", "s", "web"}
    assert not world.run(kubeconfig=kubeconfig)["changed"]


def test_an_object_in_a_namespace_of_others_is_refused_by_that_namespace(cluster, world, namespace):
    kubeconfig = cluster.service_account(namespace, (), namespace)
    cluster.kubectl("create", "role", "deployer", "-n", namespace, f"--verb={','.join(EVERY_VERB)}", "--resource=configmaps")
    cluster.kubectl("create", "rolebinding", "deployer", "-n", namespace, "--role=deployer", f"--serviceaccount={namespace}:{namespace}")
    world.commit({"a.yaml": config_map("good"), "x.yaml": config_map("x", namespace="default")})
    for message in world.messages(kubeconfig=kubeconfig):
        says(message, ["ConfigMap", 'in the namespace "default"', "cannot list"])


# ---- somebody touched the inventory

RECORD = ("applyset.kubernetes.io/contains-group-kinds", "applyset.kubernetes.io/additional-namespaces", "nordic.gitops/commit",
          "nordic.gitops/source", "applyset.kubernetes.io/tooling")


def test_a_record_that_somebody_removed_is_found_again_from_the_objects(world):
    """The Secret's kind is in no commit any more: only the record told that there is one."""
    world.commit({"old.yaml": config_map("old"), "s.yaml": SECRET})
    world.run()
    world.commit({"old.yaml": config_map("old")})
    world.cluster.kubectl("annotate", "configmap", f"nordic-gitops-{world.namespace}", "-n", world.namespace,
                          *(f"{key}-" for key in RECORD))
    planned = world.run(check_mode=True)
    assert operations(planned) == operations(world.run()) == {"Secret s": "pruned"}
    assert world.names() == {"old"}
    assert not world.run()["changed"]


@pytest.mark.parametrize("damage", [
    ("annotate", "--overwrite", "applyset.kubernetes.io/contains-group-kinds=,,.,Foo.bar,$$$,ConfigMap"),
    ("annotate", "--overwrite", "applyset.kubernetes.io/additional-namespaces=../../x,No_Such,not-there"),
    ("label", "applyset.kubernetes.io/id-"),
], ids=["kinds that are none", "namespaces that are none", "no label"])
def test_a_record_that_makes_no_sense_stands_in_nobodys_way(world, damage):
    world.cluster.kubectl(damage[0], "configmap", f"nordic-gitops-{world.namespace}", "-n", world.namespace, *damage[1:])
    world.commit({"a.yaml": config_map("good")})
    planned = world.run(check_mode=True)
    assert operations(planned) == operations(world.run()) == {"ConfigMap good": "created", "ConfigMap old": "pruned"}
    metadata = json.loads(world.cluster.kubectl("get", "configmap", f"nordic-gitops-{world.namespace}", "-n", world.namespace, "-o", "json"))["metadata"]
    assert metadata["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert metadata["labels"]["applyset.kubernetes.io/id"].startswith("applyset-")


@pytest.mark.parametrize("damage, words", [
    (("label", "--overwrite", "applyset.kubernetes.io/id=mine"), ["label applyset.kubernetes.io/id is mine", "set it back"]),
    (("annotate", "--overwrite", "applyset.kubernetes.io/tooling=kubectl/v1.30"), ["an ApplySet of kubectl/v1.30", "another name"]),
], ids=["another id", "another tool"])
def test_an_inventory_that_became_somebody_elses_is_refused(world, damage, words):
    world.cluster.kubectl(damage[0], "configmap", f"nordic-gitops-{world.namespace}", "-n", world.namespace, *damage[1:])
    world.commit({"a.yaml": config_map("good")})
    for message in world.messages():
        says(message, [f"ConfigMap {world.namespace}/nordic-gitops-{world.namespace}", *words])


def test_a_deleted_inventory_is_made_anew_and_check_mode_knows_what_that_means(world):
    world.cluster.kubectl("delete", "configmap", f"nordic-gitops-{world.namespace}", "-n", world.namespace)
    world.commit({"a.yaml": config_map("good")})
    planned = world.run(check_mode=True)
    assert operations(planned) == operations(world.run()) == {"ConfigMap good": "created", "ConfigMap old": "pruned"}
    assert world.names() == {"good"}
