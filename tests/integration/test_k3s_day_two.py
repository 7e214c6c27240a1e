# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's life after its first day, on real hosts with the real k3s: manifests, people's kubeconfigs, stopped, started, rebooted, made smaller.

The tests are one cluster's life and go on where the one before ended.
"""

from __future__ import annotations

import time

import pytest
import yaml
from fleet import SERVERS, Fleet
from lab import k3s
from lab.hosts import Hosts
from lab.web import serving

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(3600)]

GREETING = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting, namespace: shop}
data: {text: "{{ not a template }}"}
"""
PAGE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: page, namespace: default}
data: {servers: "{{ groups.k3s_servers | length }}"}
"""
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.no}
spec:
  group: example.no
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""
WIDGET = """
apiVersion: example.no/v1
kind: Widget
metadata: {name: cog, namespace: default}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: beside-the-cog, namespace: default}
"""
THEIRS = PAGE.replace("page", "theirs")
OTHER_CLUSTER = """
apiVersion: v1
kind: Config
current-context: other
clusters: [{name: other, cluster: {server: "https://other.example.no:6443"}}]
users: [{name: other, user: {token: "the-other-token"}}]
contexts: [{name: other, context: {cluster: other, user: other}}]
"""
NODES = (*SERVERS, "agent1")
MANIFESTS = "/var/lib/rancher/k3s/server/manifests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user has beside the inventory, and a mirror of k3s' releases."""
    place = tmp_path_factory.mktemp("user")
    binary = k3s.binary("new")
    release = place / "mirror" / binary.version
    release.mkdir(parents=True)
    (release / "k3s").symlink_to(binary.path)
    (release / "sha256sum-amd64.txt").write_text(f"{binary.sha256}  k3s\n", encoding="ascii")
    (place / "greeting.yaml").write_text(GREETING, encoding="utf-8")
    (place / "page.yaml.j2").write_text(PAGE, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def release(folder):
    """The variables of a user who names a version and a mirror that only the controller reaches."""
    with serving(folder / "mirror", "127.0.0.1") as url:
        yield {"k3s_binary": None, "k3s_version": k3s.binary("new").version, "k3s_release_url": url, "k3s_download": "controller",
               "k3s_download_folder": str(folder / "downloads"), "k3s_manifests": [str(folder / "greeting.yaml"), str(folder / "page.yaml.j2")],
               "k3s_kubeconfig_users": ["ops"]}


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start(NODES) as hosts:
        for name in SERVERS:
            hosts.run(name, "useradd --create-home ops && install -d -o ops -g ops -m 700 ~ops/.kube")
        hosts.run("server1", "install -o ops -g ops -m 600 /dev/stdin ~ops/.kube/config", input=OTHER_CLUSTER)
        yield Fleet(hosts)


def eventually(question, within=60.0):
    """True as soon as it is."""
    end = time.monotonic() + within
    while not question() and time.monotonic() < end:
        time.sleep(1)
    return question()


def there(fleet, what):
    return fleet.kubectl(f"get {what} --ignore-not-found -o name").strip()


def test_hosts_without_a_way_to_the_mirror_get_the_release_from_the_controller(fleet, release, folder):
    said = fleet.run("bootstrap", **release)
    assert "FAILED - RETRYING" not in said
    fleet.is_whole(*NODES)
    assert set(fleet.versions().values()) == {release["k3s_version"]}
    assert sorted(path.name for path in (folder / "downloads").iterdir()) == ["k3s", "sha256sum-amd64.txt"]


def test_manifests_are_deployed_and_templates_rendered_as_their_host_sees_it(fleet):
    assert eventually(lambda: there(fleet, "configmap/page") and there(fleet, "configmap/greeting -n shop"))
    assert fleet.kubectl("get configmap page -o jsonpath={.data.servers}") == str(len(SERVERS))
    assert fleet.kubectl("get configmap greeting -n shop -o jsonpath={.data.text}") == "{{ not a template }}"


def test_a_user_of_each_server_has_the_cluster_beside_the_others_of_his_own_file(fleet):
    for name in SERVERS:
        nodes = fleet.hosts.run(name, "runuser -u ops -- env K3S_CONFIG_FILE=/dev/null KUBECONFIG=$(echo ~ops)/.kube/config "
                                      "kubectl --context k3s get nodes -o name")
        assert "agent1" in nodes
        assert fleet.hosts.run(name, "stat -c '%a %U' ~ops/.kube/config").split() == ["600", "ops"]
    kept = yaml.safe_load(fleet.hosts.run("server1", "cat ~ops/.kube/config"))
    assert kept["current-context"] == "other" and [one["name"] for one in kept["clusters"]] == ["other", "k3s"]


def test_the_next_run_leaves_everything_as_it_is(fleet, release):
    assert fleet.left_alone("bootstrap", **release) == len(NODES)


def test_a_manifest_that_gets_another_name_keeps_what_k3s_made_for_it(fleet, release, folder):
    """Deleted and made again, a database would have lost its data."""
    identity = fleet.kubectl("get configmap page -o jsonpath={.metadata.uid}")
    (folder / "leaf.yaml.j2").write_text(PAGE, encoding="utf-8")
    fleet.run("bootstrap", **{**release, "k3s_manifests": [str(folder / name) for name in ("greeting.yaml", "leaf.yaml.j2")]})
    owner = "{.metadata.annotations['objectset\\.rio\\.cattle\\.io/owner-name']}"
    assert eventually(lambda: fleet.kubectl(f"get configmap page --ignore-not-found -o jsonpath=\"{owner}\"") == "leaf")
    assert fleet.kubectl("get configmap page -o jsonpath={.metadata.uid}") == identity
    fleet.run("bootstrap", **release)
    assert eventually(lambda: fleet.kubectl(f"get configmap page --ignore-not-found -o jsonpath=\"{owner}\"") == "page")
    assert fleet.kubectl("get configmap page -o jsonpath={.metadata.uid}") == identity


def test_a_manifest_of_a_kind_that_is_not_there_any_more_can_be_taken_out(fleet, release, folder):
    fleet.kubectl("apply -f -", input=WIDGETS)
    (folder / "widget.yaml").write_text(WIDGET, encoding="utf-8")
    fleet.run("bootstrap", **{**release, "k3s_manifests": [*release["k3s_manifests"], str(folder / "widget.yaml")]})
    assert eventually(lambda: there(fleet, "widgets/cog") and there(fleet, "configmap/beside-the-cog"))
    fleet.kubectl("delete crd widgets.example.no")
    fleet.run("bootstrap", **release)
    assert eventually(lambda: not there(fleet, "configmap/beside-the-cog"))
    assert fleet.left_alone("bootstrap", **release) == len(NODES)


def test_a_manifest_that_is_taken_out_goes_with_what_k3s_made_for_it_and_nothing_else(fleet, release):
    fleet.hosts.run("server1", f"cat > {MANIFESTS}/theirs.yaml", input=THEIRS)
    assert eventually(lambda: there(fleet, "configmap/theirs"))
    fleet.kubectl("create configmap by-hand -n shop")
    said = fleet.run("bootstrap", **{**release, "k3s_manifests": release["k3s_manifests"][1:]})
    assert eventually(lambda: not there(fleet, "configmap/greeting -n shop"))
    assert there(fleet, "configmap/page") and there(fleet, "configmap/theirs") and there(fleet, "configmap/by-hand -n shop")
    assert "Namespace shop stays" in said
    assert all("greeting" not in fleet.hosts.run(name, f"ls {MANIFESTS}") for name in SERVERS)
    fleet.run("bootstrap", **{**release, "k3s_manifests": []})
    assert eventually(lambda: not there(fleet, "configmap/page")) and there(fleet, "configmap/theirs")


def test_to_stop_a_cluster_is_asked_for_and_to_start_it_makes_it_whole(fleet):
    refused = fleet.attempt("power", k3s_power="stop")
    assert refused.code != 0 and ", ".join(["agent1", *SERVERS]) in refused.output and "k3s_power_confirmed=true" in refused.output
    fleet.is_whole(*NODES)
    fleet.run("power", k3s_power="stop", k3s_power_confirmed=True)
    for name in NODES:
        assert fleet.hosts.run(name, "systemctl is-active k3s k3s-agent; pgrep -f '[c]ontainerd-shim'; true").split() == ["inactive", "inactive"]
    assert fleet.left_alone("power", k3s_power="stop", k3s_power_confirmed=True) == len(NODES)
    fleet.run("power", k3s_power="start")
    fleet.is_whole(*NODES)
    assert fleet.left_alone("power", k3s_power="start") == len(NODES)


def booted(fleet):
    """When each host's system came up."""
    return {name: float(fleet.hosts.run(name, "stat -c %Y /run/systemd/system")) for name in NODES}


def test_a_cluster_is_rebooted_host_by_host_agents_first_and_takes_writes_after_each(fleet):
    before = booted(fleet)
    fleet.run("power", k3s_power="reboot", k3s_power_confirmed=True)
    after = booted(fleet)
    assert all(after[name] > before[name] for name in NODES)
    assert sorted(NODES, key=lambda name: after[name]) == ["agent1", *SERVERS]
    fleet.is_whole(*NODES)


def test_a_server_that_etcd_cannot_spare_is_not_removed(fleet):
    fleet.hosts.run("server3", "systemctl stop k3s")
    refused = fleet.attempt("remove", k3s_removed_host="server2")
    assert refused.code != 0 and "1 healthy voters of 2 and no quorum" in refused.output, refused.output[-4000:]
    assert fleet.cordoned() == []
    fleet.hosts.run("server3", "systemctl start k3s")
    fleet.is_whole(*NODES, within=240)


@pytest.mark.parametrize(("given", "said"), [({}, "Give the name that the host has"), ({"k3s_removed_host": "server"}, "server is not one of the hosts")])
def test_a_removal_without_the_exact_name_of_a_host_changes_nothing(fleet, given, said):
    refused = fleet.attempt("remove", **given)
    assert refused.code != 0 and said in refused.output
    fleet.is_whole(*NODES)


@pytest.mark.parametrize("name", ["agent1", "server3", "server2"])
def test_a_removed_node_leaves_nothing_in_the_cluster_and_nothing_of_it_on_the_host(fleet, name):
    said = fleet.run("remove", k3s_removed_host=name)
    assert f"{name} is not part of the cluster any more" in said
    left = NODES[:NODES.index(name)]
    fleet.is_whole(*left)
    assert there(fleet, f"secret/{name}.node-password.k3s -n kube-system") == "" and fleet.takes_writes()
    assert fleet.hosts.run(name, "systemctl is-active k3s k3s-agent; ls -d /var/lib/rancher/k3s/server/db /etc/rancher/node 2>/dev/null; true").split() == [
        "inactive", "inactive"]
    assert fleet.left_alone("remove", k3s_removed_host=name) == len(NODES)
    fleet.is_whole(*left)


def test_the_last_server_is_not_removed(fleet):
    refused = fleet.attempt("remove", k3s_removed_host="server1")
    assert refused.code != 0 and "use the playbook reset" in refused.output, refused.output[-3000:]
    fleet.is_whole("server1")
