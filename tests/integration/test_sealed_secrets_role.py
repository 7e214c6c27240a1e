# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role sealed_secrets with the chart of the release, on a cluster that runs the real controller for its Pods."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from canary import PRIVATE_KEY
from lab import places, sealed_secrets
from lab.web import serving
from reconciling import wait_until

NAMESPACE = "kube-system"
DEFINITION = "sealedsecrets.bitnami.com"


@pytest.fixture(scope="module")
def controllers(cluster):
    """Runs the Pods of controllers that the role installs."""
    with sealed_secrets.Controllers(cluster) as running:
        yield running
        running.uninstall(NAMESPACE)


@pytest.fixture
def ports():
    """Values that every installation on this machine needs: all Pods have its address."""
    return {"containerPorts": {"http": places.free_port(), "metrics": places.free_port()}}


@pytest.fixture
def role(cluster, binaries, tmp_path):
    """Runs the role with these variables. fails: what it says when it fails; unchanged: it has to find nothing to change."""
    (tmp_path / "vault-password").write_text("a password\n", encoding="ascii")

    def run(*arguments, fails="", unchanged=False, **variables):
        play = [{"name": "Role", "hosts": "localhost", "gather_facts": False, "roles": [{"role": "nordic.gitops.sealed_secrets"}]}]
        (tmp_path / "playbook.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
        given = {f"sealed_secrets_{name}": value for name, value in {"folder": str(tmp_path / "release"), "wait_timeout": 60, **variables}.items()}
        environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1",
                       "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{binaries}:{os.environ['PATH']}",
                       "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "vault-password")}
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "playbook.yml"), "--extra-vars", json.dumps(given),
                               *arguments],
                              env=environment, text=True, capture_output=True, timeout=400, check=False)
        output = done.stdout + done.stderr
        assert "Traceback (most recent call last)" not in output and PRIVATE_KEY not in output and (done.returncode != 0) == bool(fails), output
        assert fails in " ".join(output.split()), output
        assert not unchanged or "changed=0" in output, output
        return output

    return run


def get(cluster, kind, name, namespace=NAMESPACE):
    text = cluster.kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def events(cluster, namespace, name):
    """The types of the events of a SealedSecret."""
    items = json.loads(cluster.kubectl("get", "events", "--namespace", namespace, "--output", "json"))["items"]
    return {item["type"] for item in items if (item["involvedObject"]["kind"], item["involvedObject"]["name"]) == ("SealedSecret", name)}


def keys(cluster, namespace=NAMESPACE):
    return sorted(item["metadata"]["name"] for item in json.loads(
        cluster.kubectl("get", "secrets", "--namespace", namespace, "--selector", sealed_secrets.KEYS, "--output", "json"))["items"])


def test_installed_again_upgraded_and_removed_it_keeps_definition_keys_and_secrets(cluster, controllers, role, ports, namespace, tmp_path):
    options = {"source": str(sealed_secrets.chart()), "values": ports, "backup": str(tmp_path / "keys.yaml")}
    assert "changed=0" not in role("--check", **options) and get(cluster, "deployment", "sealed-secrets-controller") is None
    role(**options)
    certificate = controllers.ready(NAMESPACE)
    assert (tmp_path / "keys.yaml").read_text(encoding="ascii").startswith("$ANSIBLE_VAULT")
    assert get(cluster, "networkpolicy", "sealed-secrets-controller")
    role(**options, unchanged=True)
    (tmp_path / "certificate.pem").write_text(certificate, encoding="ascii")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": namespace}, "stringData": {"k": "v"}}
    cluster.kubectl("apply", "--filename", "-", input=controllers.seal(tmp_path / "certificate.pem", input=json.dumps(secret)))
    wait_until(lambda: get(cluster, "secret", "a", namespace))

    role(**{**options, "renew_period": "2160h"})
    arguments = get(cluster, "deployment", "sealed-secrets-controller")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--key-renew-period") + 1] == "2160h"
    before = keys(cluster)

    # The next release's chart no longer has the definition.
    without = tmp_path / "without"
    subprocess.run(["cp", "-R", str(sealed_secrets.chart()), str(without)], check=True)
    subprocess.run(["chmod", "-R", "u+w", str(without)], check=True)
    (without / "crds" / "bitnami.com_sealedsecrets.yaml").unlink()
    role(**{**options, "source": str(without)})
    assert get(cluster, "crd", DEFINITION) and get(cluster, "sealedsecret", "a", namespace) and get(cluster, "secret", "a", namespace)

    role("--check", state="absent")
    assert get(cluster, "deployment", "sealed-secrets-controller")
    role(state="absent")
    assert get(cluster, "deployment", "sealed-secrets-controller") is None and get(cluster, "networkpolicy", "sealed-secrets-controller") is None
    assert get(cluster, "crd", DEFINITION) and keys(cluster) == before and get(cluster, "secret", "a", namespace)
    role(state="absent", unchanged=True)


def test_the_definition_goes_only_when_asked_and_only_with_a_backup_that_opens_everything(cluster, controllers, role, ports, namespace, tmp_path):
    backup = str(tmp_path / "keys.yaml")
    role(source=str(sealed_secrets.chart()), values=ports)
    (tmp_path / "certificate.pem").write_text(controllers.ready(NAMESPACE), encoding="ascii")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": namespace}, "stringData": {"k": "v"}}
    cluster.kubectl("apply", "--filename", "-", input=controllers.seal(tmp_path / "certificate.pem", input=json.dumps(secret)))
    role(state="absent", delete_definition=True, fails="needs sealed_secrets_backup")
    role(state="absent", delete_definition=True, backup=backup, fails="there is no backup")
    assert get(cluster, "crd", DEFINITION) and get(cluster, "deployment", "sealed-secrets-controller")
    role(source=str(sealed_secrets.chart()), values=ports, backup=backup)
    before = keys(cluster)
    output = " ".join(role("--check", state="absent", delete_definition=True, backup=backup).split())
    assert f"the Secrets that were made of them: {namespace}/a." in output and get(cluster, "crd", DEFINITION), output
    role(state="absent", delete_definition=True, backup=backup)
    assert get(cluster, "crd", DEFINITION) is None and keys(cluster) == before

    # Into a cluster that has lost its keys, the role brings those of the backup before the controller makes one of its own.
    cluster.kubectl("delete", "secrets", "--namespace", NAMESPACE, "--selector", sealed_secrets.KEYS)
    role(source=str(sealed_secrets.chart()), values=ports, backup=backup)
    assert keys(cluster) == before and controllers.ready(NAMESPACE) == (tmp_path / "certificate.pem").read_text(encoding="ascii")
    role(source=str(sealed_secrets.chart()), values=ports, sealing_key="SHA256:of-another", fails="the key that seals is SHA256:")
    role(state="absent")


def test_a_release_by_url_needs_its_checksum_and_has_to_match_it(cluster, controllers, role, ports, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "sealed-secrets.tgz", "w:gz") as archive:
        archive.add(sealed_secrets.chart(), "sealed-secrets")
    digest = hashlib.sha256((served / "sealed-secrets.tgz").read_bytes()).hexdigest()
    with serving(served, "127.0.0.1") as url:
        options = {"source": f"{url}/sealed-secrets.tgz", "values": ports}
        role(**options, fails="sealed_secrets_checksum")
        role(**options, checksum="0" * 64, fails="checksum")
        role(**options, checksum=digest)
        role(**options, checksum=digest, unchanged=True)
    controllers.ready(NAMESPACE)
    role(source=str(served / "sealed-secrets.tgz"), checksum="0" * 64, fails="has the SHA-256")
    role(state="absent")


def test_a_servicemonitor_and_a_network_policy_are_there_exactly_when_they_are_asked_for(cluster, controllers, role, ports):
    options = {"source": str(sealed_secrets.chart()), "values": ports}
    role(**options, metrics=True, fails="ServiceMonitor")  # without the Prometheus operator there is no such kind
    names = {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    cluster.kubectl("apply", "--filename", "-", input=json.dumps({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names,
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}]}}))
    cluster.kubectl("wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com")
    try:
        role(**options, metrics=True, network_policy=False)
        controllers.ready(NAMESPACE)
        assert get(cluster, "networkpolicy", "sealed-secrets-controller") is None
        monitor = get(cluster, "servicemonitor", "sealed-secrets-controller")["spec"]
        chosen = monitor["selector"]["matchLabels"]
        found = [item for item in json.loads(cluster.kubectl("get", "services", "--namespace", NAMESPACE, "--output", "json"))["items"]
                 if chosen.items() <= item["metadata"].get("labels", {}).items()]
        assert [service["metadata"]["name"] for service in found] == ["sealed-secrets-controller-metrics"]
        assert [end["port"] for end in monitor["endpoints"]] == [port["name"] for port in found[0]["spec"]["ports"]] == ["metrics"]
        assert monitor["namespaceSelector"] == {"matchNames": [NAMESPACE]}
        status, text = cluster.api.send("GET", f"/api/v1/namespaces/{NAMESPACE}/services/http:sealed-secrets-controller-metrics:metrics/proxy/metrics")
        assert status == 200 and "sealed_secrets_controller_" in text

        role(**options)
        assert get(cluster, "servicemonitor", "sealed-secrets-controller") is None
        policy = get(cluster, "networkpolicy", "sealed-secrets-controller")["spec"]
        labels = get(cluster, "deployment", "sealed-secrets-controller")["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"] and policy["podSelector"]["matchLabels"].items() <= labels.items()
        # The ports of the chart's own Pods, for everyone, and none else.
        assert [{key: value for key, value in rule.items() if key != "ports"} for rule in policy["ingress"]] == [{}]
        assert [port["port"] for port in policy["ingress"][0]["ports"]] == [8080, 8081]
        role(state="absent")
    finally:
        cluster.kubectl("delete", "crd", "servicemonitors.monitoring.coreos.com")


def may(cluster, namespace, account, verb, resource, place, subresource=""):
    """Whether the API server allows it to this service account; in every namespace where the place is empty."""
    group = {"sealedsecrets": "bitnami.com", "roles": "rbac.authorization.k8s.io"}.get(resource, "")
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": f"system:serviceaccount:{namespace}:{account}",
                       "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
                       "resourceAttributes": {"namespace": place, "verb": verb, "group": group, "resource": resource, "subresource": subresource}}}
    return cluster.api.do("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]


@pytest.mark.parametrize("period", ["30d", "720", "-1h", "a month"])
def test_a_renewal_period_that_the_controller_would_not_take_is_refused_before_anything_is_written(cluster, role, period):
    role(source=str(sealed_secrets.chart()), renew_period=period, fails=f"it is {period}")
    assert get(cluster, "deployment", "sealed-secrets-controller") is None


def test_a_release_in_a_folder_that_a_neighbour_may_write_is_not_used(cluster, role, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    role(source=str(sealed_secrets.chart()), folder=str(shared / "release"), fails="the cache can be written by other users")
    assert get(cluster, "deployment", "sealed-secrets-controller") is None


def test_two_controllers_share_a_cluster_but_no_namespace(cluster, controllers, role, ports, tmp_path):
    teams = [cluster.namespace("team") for _each in range(2)]
    chart = str(sealed_secrets.chart())
    try:
        more = {"containerPorts": {"http": places.free_port(), "metrics": places.free_port()}}
        role(source=chart, name="one", namespace="sealing-one", namespaces=[teams[0]], values=ports)
        role(source=chart, name="two", namespace="sealing-two", values=more, fails=f"watches sealing-one, {teams[0]} already")
        role(source=chart, name="two", namespace="sealing-two", namespaces=teams, values=more, fails="already")
        role(source=chart, name="two", namespace="sealing-two", namespaces=[teams[1]], values=more)
        first, second = controllers.ready("sealing-one", "one"), controllers.ready("sealing-two", "two")
        assert first != second and get(cluster, "clusterrole", "one-unsealer") is None and get(cluster, "role", "one-unsealer", teams[0])
        for verb in ("list", "create", "update", "delete"):
            assert [place for place in (teams[0], "sealing-one", teams[1], "sealing-two", "default", "")
                    if may(cluster, "sealing-one", "one", verb, "secrets", place)] == [teams[0], "sealing-one"]
        assert may(cluster, "sealing-one", "one", "update", "sealedsecrets", teams[0], "status")
        for verb, resource in (("delete", "sealedsecrets"), ("update", "sealedsecrets"), ("list", "pods"), ("get", "configmaps"), ("create", "roles")):
            assert not may(cluster, "sealing-one", "one", verb, resource, teams[0])
        (tmp_path / "certificate.pem").write_text(second, encoding="ascii")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": teams[1]}, "stringData": {"k": "v"}}
        cluster.kubectl("apply", "--filename", "-", input=controllers.seal(tmp_path / "certificate.pem", input=json.dumps(secret)))
        wait_until(lambda: get(cluster, "secret", "a", teams[1]))
        # The first one has long been told of it when it has opened one of its own; a failure is seen as one in the same place.
        (tmp_path / "first.pem").write_text(first, encoding="ascii")
        for namespace, name in ((teams[0], "own"), (teams[1], "foreign")):
            secret["metadata"] = {"name": name, "namespace": namespace}
            cluster.kubectl("apply", "--filename", "-", input=controllers.seal(tmp_path / "first.pem", input=json.dumps(secret)))
        wait_until(lambda: events(cluster, teams[0], "own") and events(cluster, teams[1], "a") and events(cluster, teams[1], "foreign"))
        assert events(cluster, teams[1], "foreign") == {"Warning"}
        for namespace, name in ((teams[0], "own"), (teams[1], "a")):
            seen = get(cluster, "sealedsecret", name, namespace)
            assert [(each["type"], each["status"]) for each in seen["status"]["conditions"]] == [("Synced", "True")]
            assert seen["status"]["observedGeneration"] == seen["metadata"]["generation"] == 1 and events(cluster, namespace, name) == {"Normal"}
        assert get(cluster, "secret", "foreign", teams[1]) is None
        before = keys(cluster, "sealing-two")
        role(state="absent", name="two", namespace="sealing-two")
        assert get(cluster, "namespace", "sealing-two") and keys(cluster, "sealing-two") == before
        role(state="absent", name="one", namespace="sealing-one")
    finally:
        for name in (*teams, "sealing-one", "sealing-two"):
            cluster.remove_namespace(name)


def test_an_installation_that_never_becomes_available_fails_with_the_events_words(cluster, controllers, role, ports):
    """Here a quota lets no Pod be made."""
    namespace = cluster.namespace("quota")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}, "spec": {"hard": {"pods": "0"}}}
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(quota))
    try:
        wait_until(lambda: (get(cluster, "resourcequota", "none", namespace) or {}).get("status", {}).get("hard"))
        role(source=str(sealed_secrets.chart()), name="limited", namespace=namespace, values=ports, wait_timeout=10, fails="exceeded quota: none")
        role(state="absent", name="limited", namespace=namespace)
    finally:
        cluster.remove_namespace(namespace)


def test_on_openshift_user_and_group_are_left_to_the_platform(cluster, controllers, role, ports):
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    kind = {"kind": "SecurityContextConstraints", "plural": "securitycontextconstraints", "singular": "securitycontextconstraints"}
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                  "metadata": {"name": "securitycontextconstraints.security.openshift.io"},
                  "spec": {"group": "security.openshift.io", "scope": "Cluster", "names": kind, "versions": [{"name": "v1", "served": True, "storage": True,
                                                                                                              "schema": schema}]}}
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(definition))
    cluster.kubectl("wait", "--for=condition=Established", "crd/securitycontextconstraints.security.openshift.io")
    try:
        role(source=str(sealed_secrets.chart()), values=ports)
        spec = get(cluster, "deployment", "sealed-secrets-controller")["spec"]["template"]["spec"]
        assert "fsGroup" not in spec.get("securityContext", {}) and "runAsUser" not in spec["containers"][0]["securityContext"]
        assert spec["containers"][0]["securityContext"]["runAsNonRoot"] is True
        role(state="absent")
    finally:
        cluster.kubectl("delete", "crd", "securitycontextconstraints.security.openshift.io")


def test_the_manifests_of_a_release_are_installed_too_and_a_period_that_they_do_not_state_is_a_failure(cluster, controllers, role, ports, tmp_path):
    # The definition is that of the chart, which was removed: it stays, as the SealedSecrets do, and the manifests go on with it.
    role(source=str(sealed_secrets.chart()), values=ports)
    role(state="absent")
    values = sealed_secrets.values(keyrenewperiod="1h")
    (tmp_path / "controller.yaml").write_text(sealed_secrets.rendered(cluster, NAMESPACE, values), encoding="utf-8")
    role(source=str(tmp_path / "controller.yaml"), fails="renewal period of 1h, not 720h")
    role(source=str(tmp_path / "controller.yaml"), renew_period="1h", unchanged=True)
    role(state="absent")
    assert get(cluster, "crd", DEFINITION)
