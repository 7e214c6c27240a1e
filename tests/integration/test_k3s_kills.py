# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks killed with SIGKILL at random moments: the next run finishes what they began, and etcd never lost its quorum by our doing.

NORDIC_KILLS says how many times (10), NORDIC_SEED makes the moments those of an earlier run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pytest
from lab import k3s
from lab.hosts import Hosts
from workspace import places

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(5400)]

SERVERS = ("server1", "server2", "server3")
KILLS = int(os.environ.get("NORDIC_KILLS", "10"))
SEED = int(os.environ.get("NORDIC_SEED", "0")) or random.randrange(1, 1 << 31)
CONFIG = {"cluster-init": True, "disable": ["coredns", "local-storage", "metrics-server", "servicelb", "traefik"]}


class Fleet:
    """Three hosts, and the playbooks on them."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.binaries = k3s.binaries()

    def command(self, playbook, **variables):
        given = {"k3s_config": CONFIG, "k3s_token": "the-token-of-this-test-0123456789", "k3s_wait_timeout": 300, "k3s_snapshot_verify": False, **variables}
        return ["ansible-playbook", "-i", str(self.hosts.inventory), str(places.CHECKOUT / "playbooks" / f"{playbook}.yml"), "-e", json.dumps(given)]

    def run(self, playbook, **variables):
        done = subprocess.run(self.command(playbook, **variables), capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        return done.stdout

    def killed(self, after, playbook, **variables):
        """Begin a playbook and kill it, with every process that it started on this machine, after so many seconds. True if it was still running."""
        process = subprocess.Popen(self.command(playbook, **variables), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(after)
            return False
        except subprocess.TimeoutExpired:
            return True
        finally:
            with_all = process.pid
            try:
                os.killpg(with_all, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def kubectl(self, words):
        return self.hosts.run("server1", f"k3s kubectl {words}")

    def is_whole(self):
        """Three Ready nodes, three voters, nothing cordoned."""
        nodes = json.loads(self.kubectl("get nodes -o json"))["items"]
        ready = [node["metadata"]["name"] for node in nodes
                 if any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"]) and not node["spec"].get("unschedulable")]
        voters = [node["metadata"]["name"] for node in nodes if any(one["type"] == "EtcdIsVoter" and one["status"] == "True" for one in node["status"]["conditions"])]
        assert sorted(ready) == sorted(voters) == list(SERVERS)


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start(SERVERS) as hosts:
        yield Fleet(hosts)


def test_a_bootstrap_killed_at_any_moment_is_finished_by_the_next(fleet, tell):
    moments = random.Random(SEED)
    binary = str(fleet.binaries["old"].path)
    for _kill in range(KILLS):
        fleet.killed(moments.uniform(1, 90), "bootstrap", k3s_binary=binary)
    fleet.run("bootstrap", k3s_binary=binary)
    fleet.is_whole()
    authorities = {fleet.hosts.run(name, "sha256sum < /var/lib/rancher/k3s/server/tls/server-ca.crt") for name in SERVERS}
    assert len(authorities) == 1
    tell(f"bootstrap killed {KILLS} times with NORDIC_SEED={SEED}")


def test_a_restore_killed_at_any_moment_is_finished_by_the_next(fleet, tell):
    moments = random.Random(SEED + 1)
    fleet.kubectl("create configmap kept")
    fleet.hosts.run("server1", "k3s etcd-snapshot save --name kills")
    fleet.kubectl("create configmap lost")
    reached = [fleet.killed(moments.uniform(2, 70), "restore", k3s_restore_name="kills") for _kill in range(KILLS)]
    fleet.run("restore", k3s_restore_name="kills")
    fleet.is_whole()
    found = fleet.kubectl("get configmaps -o name").split()
    assert "configmap/kept" in found and "configmap/lost" not in found
    assert "changed=0" in fleet.run("restore", k3s_restore_name="kills")
    tell(f"restore killed {sum(reached)} times with NORDIC_SEED={SEED}")


def test_an_upgrade_killed_at_any_moment_is_finished_by_the_next_and_keeps_the_quorum(fleet, tell):
    moments = random.Random(SEED + 2)
    new = fleet.binaries["new"]
    for _kill in range(KILLS):
        fleet.killed(moments.uniform(5, 120), "upgrade", k3s_binary=str(new.path))
        # Whatever it was doing, two of three voters are there at once: a write goes through within the time of an election.
        end, wrote = time.monotonic() + 15, False
        while not wrote and time.monotonic() < end:
            wrote = any("configured" in fleet.hosts.run(name, "k3s kubectl label --overwrite namespace default kill=$RANDOM 2>&1 && echo configured", check=False)
                        for name in SERVERS)
        assert wrote, f"no server takes a write; NORDIC_SEED={SEED}"
    fleet.run("upgrade", k3s_binary=str(new.path))
    fleet.is_whole()
    assert set(json.loads(fleet.kubectl("get nodes -o jsonpath='[{range .items[*]}\"{.status.nodeInfo.kubeletVersion}\",{end}\"\"]'"))) - {""} == {new.version}
    tell(f"upgrade killed {KILLS} times with NORDIC_SEED={SEED}")
