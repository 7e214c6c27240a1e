# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role argocd with the manifests of the release, on a cluster whose nodes only say that the Pods run."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml
from argocd_tasks import run_role
from lab import argocd
from lab.web import serving
from trusting import ssh_key

DEFINITIONS = ["applications.argoproj.io", "applicationsets.argoproj.io", "appprojects.argoproj.io"]


@pytest.fixture(scope="module", autouse=True)
def no_definitions_left(cluster):
    """They stay when the role removes Argo CD, and other tests begin without them."""
    yield
    cluster.kubectl("delete", "--ignore-not-found", "crd", *DEFINITIONS)


@pytest.fixture
def namespace(cluster):
    """A name for a namespace that the role makes."""
    name = cluster.namespace("argocd")
    cluster.kubectl("delete", "namespace", name)
    yield name
    cluster.remove_namespace(name)
    # What has no namespace is of the name of the release, and would be another installation's too.
    cluster.kubectl("delete", "--ignore-not-found", "clusterrole,clusterrolebinding", "argocd-application-controller", "argocd-server",
                    "argocd-applicationset-controller")


@pytest.fixture
def role(cluster, namespace, tmp_path):
    """Runs the role with these variables. fails: what it says when it fails; unchanged: it has to find nothing to change."""
    return partial(run_role, cluster, tmp_path, namespace=namespace)


def source(name="install.yaml"):
    return str(argocd.tree() / "manifests" / name)


def get(cluster, kind, name, namespace):
    text = cluster.kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def test_installed_configured_upgraded_and_removed_it_keeps_definitions_and_secrets(cluster, role, namespace):
    options = {"source": source(), "cm": {"url": "https://argocd.example.no", "admin.enabled": False, "dex.config": {"connectors": [{"type": "github"}]}},
               "rbac_cm": {"policy.default": "role:readonly"}, "registry": "registry.example.no/mirror", "close_default_project": True,
               "patches": [{"patch": yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "argocd-server"},
                                                     "spec": {"replicas": 2}})}]}
    assert "changed=0" not in role("--check", **options) and get(cluster, "deployment", "argocd-server", namespace) is None
    role(**options)
    data = get(cluster, "configmap", "argocd-cm", namespace)["data"]
    assert data["url"] == "https://argocd.example.no" and data["admin.enabled"] == "false"
    assert yaml.safe_load(data["dex.config"]) == {"connectors": [{"type": "github"}]}
    server = get(cluster, "deployment", "argocd-server", namespace)
    assert server["status"]["readyReplicas"] == 2
    assert server["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.no/mirror/argoproj/argocd:v3.6.1"
    redis = get(cluster, "deployment", "argocd-redis", namespace)["spec"]["template"]["spec"]["containers"][0]["image"]
    assert redis.startswith("registry.example.no/mirror/docker/library/redis:")
    subjects = get(cluster, "clusterrolebinding", "argocd-application-controller", namespace)["subjects"]
    assert [subject["namespace"] for subject in subjects] == [namespace]
    assert get(cluster, "appproject", "default", namespace)["spec"]["sourceRepos"] == []
    # What Argo CD's own programs put there is theirs, and is there after each run: argo-cd#10831.
    cluster.kubectl("patch", "secret", "argocd-secret", "--namespace", namespace, "--type=merge", "--field-manager=argocd-server", "--patch",
                    json.dumps({"stringData": {"server.secretkey": "made by the server"}}))
    role(**options, unchanged=True)
    role(**{**options, "cm": {"url": "https://argocd.example.no"}})
    data = get(cluster, "configmap", "argocd-cm", namespace)["data"]
    assert "url" in data and "dex.config" not in data and "admin.enabled" not in data
    assert "server.secretkey" in get(cluster, "secret", "argocd-secret", namespace)["data"]

    cluster.kubectl("create", "--filename", "-", input=json.dumps({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "web", "namespace": namespace},
        "spec": {"project": "default", "source": {"repoURL": "https://git.example.no/a", "path": "."},
                 "destination": {"server": "https://kubernetes.default.svc"}}}))
    role(state="absent", fails="There are 1 Applications: web. Delete them first with nordic.gitops.argocd_application")
    assert get(cluster, "deployment", "argocd-server", namespace)
    cluster.kubectl("delete", "application", "web", "--namespace", namespace)
    role(state="absent")
    assert get(cluster, "deployment", "argocd-server", namespace) is None and get(cluster, "appproject", "default", namespace)
    assert all(get(cluster, "crd", name, namespace) for name in DEFINITIONS) and get(cluster, "namespace", namespace, namespace)
    role(state="absent", unchanged=True)


FILLED_BY_OTHERS = [("secret", "argocd-secret"), ("secret", "argocd-notifications-secret"), ("configmap", "argocd-tls-certs-cm"),
                    ("configmap", "argocd-gpg-keys-cm")]


def test_what_others_keep_in_its_secrets_and_certificates_stays_when_it_is_taken_over_upgraded_and_removed(cluster, role, namespace):
    """argo-cd#10831. Argo CD's own key and the administrator's password, what somebody put there as Argo CD's documentation says, keys that were added."""
    cluster.kubectl("create", "namespace", namespace)
    release = [body for body in argocd.manifests() if body["kind"] not in ("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding")]
    cluster.kubectl("apply", "--namespace", namespace, "--filename", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": release}))

    def fill(key, manager):
        for kind, name in FILLED_BY_OTHERS:
            field = "stringData" if kind == "secret" else "data"
            cluster.kubectl("patch", kind, name, "--namespace", namespace, "--type=merge", f"--field-manager={manager}", "--patch",
                            json.dumps({field: {key: f"of {manager}"}}))

    def kept():
        return [sorted(get(cluster, kind, name, namespace).get("data") or {}) for kind, name in FILLED_BY_OTHERS]

    fill("one", "argocd-server")
    fill("two", "kubectl-patch")
    role(source=source())
    assert kept() == [["one", "two"]] * 4
    fill("three", "kubectl-edit")
    fill("four", "argocd-server")
    role(source=source(), unchanged=True)
    role(source=source(), cm={"url": "https://argocd.example.no"})
    assert kept() == [["four", "one", "three", "two"]] * 4
    role(state="absent")
    assert kept() == [["four", "one", "three", "two"]] * 4 and get(cluster, "deployment", "argocd-server", namespace) is None
    role(source=source("core-install.yaml"))
    assert kept() == [["four", "one", "three", "two"]] * 4


@pytest.fixture
def chart(tmp_path):
    """A Helm chart of the release: its definitions, its objects, and one that the values say something about."""
    folder = tmp_path / "chart"
    (folder / "crds").mkdir(parents=True)
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: argo-cd\nversion: 1.0.0\n", encoding="utf-8")
    bodies = argocd.manifests("core-install.yaml")
    definitions = [body for body in bodies if body["kind"] == "CustomResourceDefinition"]
    (folder / "crds" / "crds.yaml").write_text(yaml.safe_dump_all(definitions), encoding="utf-8")
    text = yaml.safe_dump_all(body for body in bodies if body not in definitions).replace("{{", '{{ "{{" }}')
    text = text.replace("namespace: argocd", "namespace: {{ .Release.Namespace }}")
    (folder / "templates" / "release.yaml").write_text(text, encoding="utf-8")
    (folder / "templates" / "extra.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\ndata:\n  color: {{ .Values.color | default \"red\" | quote }}\n"
        "  password: {{ if .Values.draw }}{{ randAlphaNum 8 }}{{ else }}none{{ end }}\n", encoding="utf-8")
    return folder


def test_a_helm_chart_is_installed_configured_and_upgraded_like_the_manifests(cluster, role, namespace, chart, tmp_path):
    options = {"source": str(chart), "values": {"color": "blue"}, "cm": {"url": "https://argocd.example.no"}, "registry": "registry.example.no/mirror"}
    role(**options)
    assert get(cluster, "configmap", "extra", namespace)["data"] == {"color": "blue", "password": "none"}
    assert get(cluster, "configmap", "argocd-cm", namespace)["data"]["url"] == "https://argocd.example.no"
    controller = get(cluster, "statefulset", "argocd-application-controller", namespace)
    assert controller["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example.no/mirror/argoproj/argocd:")
    assert controller["status"]["readyReplicas"] == 1
    package = subprocess.run([f"{cluster.bin}/helm", "package", str(chart), "--destination", str(tmp_path)], capture_output=True, text=True, check=True)
    packed = package.stdout.split()[-1]
    options = {**options, "source": packed, "checksum": hashlib.sha256(Path(packed).read_bytes()).hexdigest()}
    role(**options, unchanged=True)
    # Nothing that would be another one with each run gets to the cluster, and what was drawn is not shown.
    (chart / "templates" / "job.yaml").write_text(
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: init\n  annotations:\n    helm.sh/hook: pre-install\nspec: {}\n", encoding="utf-8")
    for source, values, told in ((packed, {"draw": True}, "each run would change it. Set it in argocd_values. It is in: password"),
                                 (str(chart), {}, "The chart has hooks, which are not run")):
        assert "argo-cd/templates/job.yaml" in role(source=source, values=values, fails=told) or values
    assert get(cluster, "configmap", "extra", namespace)["data"] == {"color": "blue", "password": "none"}
    role(source=str(tmp_path / "nowhere"), fails=f"{tmp_path}/nowhere/Chart.yaml does not exist")
    role(state="absent")
    assert get(cluster, "configmap", "extra", namespace) is None and get(cluster, "crd", DEFINITIONS[0], namespace)


def test_known_hosts_come_with_the_release_and_those_that_others_added_stay(cluster, role, namespace, tmp_path):
    def lines():
        return get(cluster, "configmap", "argocd-ssh-known-hosts-cm", namespace)["data"]["ssh_known_hosts"].splitlines()

    release = next(body for body in argocd.manifests() if body["metadata"]["name"] == "argocd-ssh-known-hosts-cm")["data"]["ssh_known_hosts"]
    release = [line for line in release.splitlines() if not line.startswith("#")]
    role(source=source("core-install.yaml"))
    assert lines() == release
    added = f"git.example.no {ssh_key(tmp_path, 'ed25519')}"
    text = "".join(f"{line}\n" for line in [*release[:-1], added])  # and somebody lost one of them
    cluster.kubectl("patch", "configmap", "argocd-ssh-known-hosts-cm", "--namespace", namespace, "--type=merge", "--field-manager=argocd-server",
                    "--patch", json.dumps({"data": {"ssh_known_hosts": text}}))
    role(source=source("core-install.yaml"))
    assert lines() == [*release[:-1], added, release[-1]]
    role(source=source("core-install.yaml"), unchanged=True)
    role(state="absent")
    assert added in lines()
    own = {"patch": yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-ssh-known-hosts-cm"},
                                    "data": {"ssh_known_hosts": added}})}
    role(source=source("core-install.yaml"), patches=[own])
    assert lines() == [added]
    role(source=source("core-install.yaml"), patches=[own], unchanged=True)


def test_the_administrators_password_is_kept_or_the_first_one_goes_with_a_disabled_administrator(cluster, role, namespace):
    def data():
        return get(cluster, "secret", "argocd-secret", namespace).get("data") or {}

    def first():
        cluster.kubectl("create", "secret", "generic", "argocd-initial-admin-secret", "--namespace", namespace, "--from-literal=password=first")

    password = "correct horse 4711"
    # Another installation's definitions are there already; this one's namespace and Secret come with the run.
    definitions = [document for document in yaml.safe_load_all(Path(source()).read_text(encoding="utf-8"))
                   if document and document["kind"] == "CustomResourceDefinition"]
    cluster.kubectl("apply", "--server-side", "--filename", "-", input="\n---\n".join(map(json.dumps, definitions)))
    assert password not in role("--check", "--diff", "-vvv", source=source(), admin_password=password, close_default_project=True)
    said = role("--diff", "-vvv", source=source(), admin_password=password)
    hashed = data()
    assert set(hashed) == {"admin.password", "admin.passwordMtime"} and password not in said and base64.b64decode(hashed["admin.password"]).decode() not in said
    first()
    role("--check", source=source(), admin_password=password)
    assert get(cluster, "secret", "argocd-initial-admin-secret", namespace)
    role(source=source(), admin_password=password)
    assert data() == hashed and get(cluster, "secret", "argocd-initial-admin-secret", namespace) is None
    role(source=source(), admin_password=password, unchanged=True)
    first()
    role(source=source(), unchanged=True)  # it may be the only way in
    assert data() == hashed and get(cluster, "secret", "argocd-initial-admin-secret", namespace)
    role(source=source(), cm={"admin.enabled": False})
    assert data() == hashed and get(cluster, "secret", "argocd-initial-admin-secret", namespace) is None
    role(source=source(), admin_password="x" * 73, fails="admin_password has 73 bytes; bcrypt takes 1 to 72")


def test_it_is_not_installed_over_an_application_that_is_being_deleted(cluster, role, namespace):
    """argo-cd#6046"""
    role(source=source("core-install.yaml"))
    assert get(cluster, "deployment", "argocd-server", namespace) is None and get(cluster, "statefulset", "argocd-application-controller", namespace)
    cluster.kubectl("create", "--filename", "-", input=json.dumps({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": {"name": "web", "namespace": namespace, "finalizers": ["resources-finalizer.argocd.argoproj.io"]},
        "spec": {"project": "default", "source": {"repoURL": "https://git.example.no/a", "path": "."},
                 "destination": {"server": "https://kubernetes.default.svc"}}}))
    cluster.kubectl("delete", "application", "web", "--namespace", namespace, "--wait=false")
    role(source=source("core-install.yaml"), fails="web is being deleted. An Argo CD that is installed now would finish that, and delete the workloads")
    cluster.kubectl("patch", "application", "web", "--namespace", namespace, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def test_a_release_by_url_needs_its_checksum_and_has_to_match_it(cluster, role, namespace, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "core-install.yaml").write_bytes(Path(source("core-install.yaml")).read_bytes())
    digest = hashlib.sha256((served / "core-install.yaml").read_bytes()).hexdigest()
    role(fails="argocd_source has to be one of the release's manifests")
    with serving(served, "127.0.0.1") as url:
        role(source=f"{url}/core-install.yaml", fails="with argocd_checksum where it is a URL")
        role(source=f"{url}/core-install.yaml", checksum="0" * 64, fails="checksum")
        role("--check", source=f"{url}/core-install.yaml", checksum=digest)
    role(source=str(served / "core-install.yaml"), checksum="0" * 64, fails="has the SHA-256")
    assert get(cluster, "statefulset", "argocd-application-controller", namespace) is None
