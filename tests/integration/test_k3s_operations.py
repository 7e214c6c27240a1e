# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong while a cluster is operated, on real hosts with the real k3s: refused in time, stopped with nothing broken, gone on with."""

from __future__ import annotations

import subprocess
import time

import pytest
from fleet import OURS, SERVERS, Fleet
from lab.hosts import Hosts

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(2400)]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers:
        - name: web
          image: nordic.gitops/web:1
          imagePullPolicy: Never
          readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
"""
BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: %s, namespace: default}
spec: {minAvailable: %d, selector: {matchLabels: {app: %s}}}
"""
ON_SERVERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: %(name)s, namespace: default}
spec:
  replicas: %(replicas)d
  selector: {matchLabels: {of: %(name)s}}
  template:
    metadata: {labels: {of: %(name)s, app: held}}
    spec:
      nodeSelector: {node-role.kubernetes.io/control-plane: "true"}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {of: %(name)s}}}]
      containers:
        - {name: web, image: "nordic.gitops/web:%(image)s", imagePullPolicy: Never}
"""


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start([*SERVERS, "agent1"]) as hosts:
        running = Fleet(hosts)
        running.run("bootstrap", k3s_binary=str(running.binaries["old"].path))
        running.kubectl("apply -f -", input=WEB)
        running.kubectl("rollout status deployment web --timeout=120s")
        yield running


def upgrade(fleet, **variables):
    return fleet.attempt("upgrade", k3s_binary=str(fleet.binaries["new"].path), **variables)


def untouched(fleet):
    assert set(fleet.versions().values()) == {fleet.binaries["old"].version} and fleet.cordoned() == []


def test_a_budget_that_can_never_allow_a_drain_is_named_before_anything_is_touched(fleet):
    fleet.kubectl("apply -f -", input=BUDGET % ("web", 4, "web"))
    fleet.kubectl("wait pdb web --for=jsonpath={.status.currentHealthy}=4 --timeout=60s")
    done = upgrade(fleet)
    assert done.code != 0 and "can never be drained" in done.output and "PodDisruptionBudget default/web wants 4 of 4" in done.output, done.output[-3000:]
    untouched(fleet)
    fleet.kubectl("delete pdb web")


def test_a_budget_that_holds_a_drain_up_gives_the_node_back_when_the_time_is_over(fleet):
    """Three of four pods shall be healthy, and one cannot become so: the budget allows nothing for as long as that is so.

    Each server has one of the three, as any may be the first to be upgraded.
    """
    for name, replicas, image in (("held", 3, "1"), ("unwell", 1, "none")):
        fleet.kubectl("apply -f -", input=ON_SERVERS % {"name": name, "replicas": replicas, "image": image})
    fleet.kubectl("rollout status deployment held --timeout=120s")
    fleet.kubectl("apply -f -", input=BUDGET % ("held", 3, "held"))
    fleet.kubectl("wait pdb held --for=jsonpath={.status.expectedPods}=4 --timeout=60s")
    done = upgrade(fleet, k3s_drain_timeout=15)
    assert done.code != 0 and "default/held (3 healthy of 3 needed) holds" in done.output, done.output[-4000:]
    assert "No other node was touched" in done.output
    untouched(fleet)
    fleet.kubectl("delete pdb held")
    fleet.kubectl("delete deployment held unwell")


def test_a_wrong_checksum_changes_no_node(fleet):
    done = upgrade(fleet, k3s_checksum="0" * 64)
    assert done.code != 0 and "SHA-256" in done.output, done.output[-3000:]
    untouched(fleet)


def test_a_disk_without_room_for_a_snapshot_stops_the_upgrade_before_the_first_node(fleet):
    folder = "/var/lib/rancher/k3s/server/db/snapshots"
    fleet.hosts.run("server1", f"mkdir -p {folder} && mount -t tmpfs -o size=32m tmpfs {folder}")
    try:
        done = upgrade(fleet, k3s_upgrade_snapshot_max_age=0)
    finally:
        fleet.hosts.run("server1", f"umount {folder}")
    assert done.code != 0 and "MiB are free" in done.output, done.output[-3000:]
    untouched(fleet)


def test_a_snapshot_that_is_too_old_or_altered_stops_a_restore_before_anything_is_stopped(fleet):
    fleet.hosts.run("server1", "k3s etcd-snapshot save --name base")
    began = fleet.hosts.run("server1", "systemctl show --property MainPID --value k3s")
    time.sleep(3)
    done = fleet.attempt("restore", k3s_restore_name="base", k3s_restore_max_age=1)
    assert done.code != 0 and "the limit is 1 seconds" in done.output, done.output[-3000:]
    path = fleet.hosts.run("server1", "ls -d /var/lib/rancher/k3s/server/db/snapshots/base-*").strip()
    fleet.hosts.run("server1", f"head -c 64 /dev/urandom | dd of={path} bs=1 seek=50000 conv=notrunc status=none")
    done = fleet.attempt("restore", k3s_restore_name="base")
    assert done.code != 0 and "SHA-256 differs" in done.output, done.output[-3000:]
    assert fleet.hosts.run("server1", "systemctl show --property MainPID --value k3s") == began
    fleet.hosts.run("server1", f"rm {path}")


def test_a_new_k3s_that_does_not_start_leaves_every_node_on_the_old_one_and_touches_no_second(fleet, tmp_path):
    """It says its version and its options, and what it carries is broken."""
    nodes = [*SERVERS, "agent1"]
    content = bytearray(fleet.binaries["new"].path.read_bytes())
    middle = len(content) // 2
    content[middle:middle + 4096] = bytes(4096)
    broken = tmp_path / "k3s"
    broken.write_bytes(content)

    def began():
        return {name: fleet.hosts.run(name, "systemctl show --property MainPID --value k3s k3s-agent | xargs") for name in nodes}

    before = began()
    done = fleet.attempt("upgrade", k3s_binary=str(broken), k3s_wait_timeout=60, k3s_upgrade_snapshot_max_age=86400)
    assert done.code != 0 and f"{fleet.binaries['old'].version} is installed again and runs" in done.output, done.output[-4000:]
    assert "No other node was touched" in done.output
    assert len([name for name, process in began().items() if process != before[name]]) == 1
    assert {fleet.hosts.run(name, "sha256sum /usr/local/bin/k3s").split()[0] for name in nodes} == {fleet.binaries["old"].sha256}
    fleet.is_whole(*nodes)
    untouched(fleet)


def test_a_node_that_dies_in_the_middle_of_its_upgrade_stops_it_and_the_next_run_goes_on(fleet):
    """And a node that an administrator cordoned stays cordoned."""
    fleet.kubectl("cordon agent1")
    new = fleet.binaries["new"]
    process = subprocess.Popen(fleet.command("upgrade", k3s_binary=str(new.path)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    victim = ""
    end = time.monotonic() + 400
    while not victim and time.monotonic() < end and process.poll() is None:
        for name in SERVERS:
            # It has the new program, and k3s restarts with it.
            if new.version in fleet.hosts.run(name, "/usr/local/bin/k3s --version", check=False):
                victim = name
        time.sleep(0.5)
    assert victim, process.communicate()[0][-4000:]
    fleet.hosts.kill(victim)
    output, _nothing = process.communicate(timeout=900)
    assert process.returncode != 0, output[-4000:]
    left = next(name for name in SERVERS if name != victim)
    assert fleet.takes_writes(), "the other two lost their quorum"
    versions = fleet.versions(left)
    assert [name for name, version in versions.items() if name != victim and version != fleet.binaries["old"].version] == []

    again = upgrade(fleet)  # while it is away nothing more is risked
    assert again.code != 0 and fleet.takes_writes()
    assert {version for name, version in fleet.versions(left).items() if name != victim} == {fleet.binaries["old"].version}

    fleet.hosts.boot(victim)
    end = time.monotonic() + 240
    while time.monotonic() < end and fleet.hosts.run(victim, "k3s kubectl get --raw /readyz", check=False) != "ok":
        time.sleep(2)
    done = upgrade(fleet)
    assert done.code == 0, done.output[-6000:]
    assert set(fleet.versions().values()) == {new.version}
    nodes = fleet.nodes()
    assert fleet.cordoned() == ["agent1"] and not [name for name, node in nodes.items() if OURS in node["metadata"].get("annotations", {})]
    assert "Every node runs" in fleet.run("upgrade", k3s_binary=str(new.path))
    fleet.kubectl("uncordon agent1")


def test_two_bootstraps_at_once_make_one_cluster():
    """Of two people, each on a controller of his own and without a token in the inventory, so that each makes one."""
    with Hosts.start(SERVERS) as hosts:
        begun = Fleet(hosts)
        given = {"k3s_binary": str(begun.binaries["old"].path), "k3s_token": None}
        limited = begun.command("bootstrap", **given) + ["--limit", "server2"]
        done = subprocess.run(limited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode != 0 and "or the hosts would begin a second cluster" in done.stdout, done.stdout[-3000:]

        two = [subprocess.Popen(begun.command("bootstrap", **given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _one in range(2)]
        told = [one.communicate(timeout=900)[0] for one in two]
        for one, output in zip(two, told):
            assert one.returncode == 0 or "token" in output, output[-4000:]
        begun.run("bootstrap", **given)
        begun.is_whole(*SERVERS)
        assert len(begun.authorities()) == 1
        assert begun.left_alone("bootstrap", **given) == 3


def test_the_only_node_of_a_cluster_is_upgraded_though_its_pods_have_nowhere_to_go():
    with Hosts.start(["server1"]) as hosts:
        alone = Fleet(hosts)
        alone.run("bootstrap", k3s_binary=str(alone.binaries["old"].path))
        alone.kubectl("apply -f -", input=WEB)
        alone.kubectl("rollout status deployment web --timeout=120s")
        alone.run("upgrade", k3s_binary=str(alone.binaries["new"].path))
        assert alone.versions() == {"server1": alone.binaries["new"].version}
        alone.is_whole("server1")
        assert alone.kubectl("get deployment web -o jsonpath={.status.availableReplicas}") == "4"
