# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of another kind, on real hosts with the real k3s: the datastore outside of it, and both families of addresses."""

from __future__ import annotations

import pytest
from fleet import Fleet
from lab import build, places, processes
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(1200)]

WEB = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nordic.gitops/web:1", imagePullPolicy: Never}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


@pytest.fixture
def outside(tmp_path):
    """Starts an etcd of its own on this machine, and says by which URL hosts reach it."""
    running = []

    def start(hosts: Hosts) -> str:
        url, peer = f"http://{hosts.machine}:{places.free_port()}", f"http://127.0.0.1:{places.free_port()}"
        running.append(processes.spawn(
            [str(build.build(["etcd"])["etcd"]), "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"], tmp_path / "etcd.log"))
        return url

    yield start
    for process in running:
        processes.end(process)


def all_are_ready(fleet, *names):
    assert {name: {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] for name, node in fleet.nodes().items()} == dict.fromkeys(
        names, "True")


def test_two_servers_and_an_agent_with_an_external_datastore(outside):
    with Hosts.start(["server1", "server2", "agent1"]) as hosts:
        fleet = Fleet(hosts)
        fleet.configure({**SERVER_CONFIG, "datastore-endpoint": outside(hosts)}, {})
        fleet.run("bootstrap", k3s_binary=str(fleet.binaries["new"].path))
        all_are_ready(fleet, "server1", "server2", "agent1")
        assert fleet.left_alone("bootstrap", k3s_binary=str(fleet.binaries["new"].path)) == 3
        assert "No such file" in hosts.run("server1", "ls /var/lib/rancher/k3s/server/db/etcd/member 2>&1", check=False)
        # Either server can be spared, and what was written meanwhile is there for both.
        hosts.run("server1", "systemctl stop k3s")
        fleet.kubectl("create configmap alone", on="server2")
        hosts.run("server1", "systemctl start k3s")
        assert "configmap/alone" in fleet.kubectl("get configmap -o name", on="server1")


def test_pods_and_services_have_an_address_of_each_family_on_a_cluster_of_both():
    with Hosts.start(["server1", "agent1"]) as hosts:
        fleet = Fleet(hosts)
        addresses = {name: hosts.run(name, "ip -6 -oneline address show scope global | grep -o 'fd[0-9a-f:]*' | head -1").strip() for name in hosts.names}
        assert all(addresses.values()), "the hosts have no IPv6: is it off on this machine?"
        both = {"node-ip": "{{ ansible_host }},{{ %s[inventory_hostname] }}" % addresses}
        fleet.configure({**SERVER_CONFIG, **both, "cluster-init": True, "cluster-cidr": "10.42.0.0/16,fd00:42::/56",
                         "service-cidr": "10.43.0.0/16,fd00:43::/112", "flannel-ipv6-masq": True}, both)
        fleet.run("bootstrap", k3s_binary=str(fleet.binaries["new"].path))
        all_are_ready(fleet, "server1", "agent1")
        assert fleet.left_alone("bootstrap", k3s_binary=str(fleet.binaries["new"].path)) == 2
        fleet.kubectl("apply -f -", input=WEB)
        fleet.kubectl("rollout status daemonset web --timeout=120s")
        assert len(fleet.kubectl("get service web -o jsonpath='{.spec.clusterIPs[*]}'").split()) == 2
        for name in ("server1", "agent1"):
            for address in fleet.kubectl("get pods -l app=web -o jsonpath='{.items[*].status.podIPs[*].ip}'").split():
                shown = f"[{address}]" if ":" in address else address
                asks = f"import urllib.request as u; print(u.urlopen('http://{shown}:8080/', timeout=5).status)"
                assert hosts.run(name, f'python3 -c "{asks}"').strip() == "200", (name, address)
