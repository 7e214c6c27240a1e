# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instances of a control plane are replaced one at a time: a real k3s on hosts, a real libvirt, and the playbook gate between them.

The guests of libvirt have empty disks. Each stands for the host of its name, which is lost as soon as its instance is let go.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fleet import SERVERS, Fleet
from lab import k3s
from lab.hosts import Hosts
from lab.libvirt import VirtHost
from provisioning import VirtFleet
from workspace import places


def real(test):
    """With k3s and libvirt."""
    for mark in (pytest.mark.hosts, pytest.mark.full, pytest.mark.built("libvirt"), pytest.mark.timeout(3600)):
        test = mark(test)
    return test


def answers(*sick):
    """What k3s_info tells on the servers that answer; the one that is away does not."""
    members = [{"node": name, "name": f"{name}-1", "address": "192.0.2.1", "voter": True, "healthy": name not in sick} for name in SERVERS]
    nodes = [{"name": name, "ready": True} for name in SERVERS]
    return {name: {"node_name": name, "nodes": nodes, "etcd": {"members": members, "quorum": 2, "alarms": []}, "datastore": "etcd", "trouble": None}
            for name in SERVERS if name not in sick}


CASES = {
    "all is well": (answers(), "server2", ""),
    "one is away": (answers("server3"), "server2", "etcd would have 1 healthy voters without it, and needs 2, as server3 does not answer"),
    "nobody answers": ({}, "server1", "no other server of the cluster answers"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gate_judges_what_the_servers_tell(case, tmp_path):
    """How each kind of answer is judged: tests/unit/plugins/plugin_utils/_k3s/test_gate.py."""
    found, node, objection = CASES[case]
    hosts = {name: {"ansible_connection": "local", **({"gate_found": found[name]} if name in found else {})} for name in SERVERS}
    (tmp_path / "hosts.yml").write_text(json.dumps({"k3s_servers": {"hosts": hosts}}), encoding="utf-8")
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(places.CHECKOUT / "playbooks" / "gate.yml"), "--start-at-task", "Judge", "-e",
               f"gate_node={node}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
    assert (done.returncode != 0) == bool(objection), done.stdout
    assert (f"{node} has to stay: {objection}." if objection else f"The cluster can spare {node}.") in done.stdout, done.stdout


@pytest.fixture(scope="module")
def cluster():
    with Hosts.start(list(SERVERS)) as hosts:
        made = Fleet(hosts)
        made.run("bootstrap", k3s_binary=str(k3s.binary("new").path))
        yield made


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    image = tmp_path_factory.mktemp("image") / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
    with VirtHost.start() as host:
        made = VirtFleet(host, image)
        yield made


def gate(cluster, name, lost=""):
    """The command of the option gate; a host that it lets go is lost."""
    command = cluster.command("gate", gate_node=name)
    if not lost:
        return command
    kill = [sys.executable, "-B", "-m", "lab", "hosts", "kill", "--state", str(cluster.hosts.state), name]
    script = 'gate=$1; kill=$2; log=$3; eval "$gate" && eval "$kill" && echo "$4" >> "$log"'
    return ["sh", "-c", script, "sh", _words(command), f"cd {places.CHECKOUT / 'tests'} && {_words(kill)}", lost, name]


def _words(command):
    import shlex

    return shlex.join(command)


@real
def test_a_control_plane_is_replaced_one_at_a_time(cluster, instances, tmp_path):
    log = tmp_path / "let-go"
    servers = [{"name": name} for name in SERVERS]

    def run(user_data, fails=False):
        given = dict(user_data=user_data, on_drift={"user_data": "replace"}, allow_data_loss=True, gate=gate(cluster, "{name}", str(log)), wait_timeout=120)
        return str(instances.fails(*servers, **given)) if fails else instances.run(*servers, **given)

    instances.run(*servers, user_data="#!/bin/sh\n# old\n")
    for number, name in enumerate(SERVERS):
        if number + 1 < len(SERVERS):
            # etcd has two of three without this one; the next one has to wait until it is back.
            said = run("#!/bin/sh\n# new\n", fails=True)
            assert f"the gate does not let {SERVERS[number + 1]} be changed (replace)" in said
            assert f"{SERVERS[number + 1]} has to stay" in said and f"1 healthy voters without it, and needs 2, as {name} does not answer" in said, said
        else:
            assert run("#!/bin/sh\n# new\n")["counts"] == {"unchanged": 2, "replace": 1}
        assert log.read_text().split() == list(SERVERS[: number + 1])
        # The new host of that name joins, as the documentation says.
        cluster.hosts.boot(name, fresh=True)
        cluster.run("replace", k3s_replaced_node=name, k3s_binary=str(k3s.binary("new").path))
        cluster.is_whole(*SERVERS, within=240)
    assert not run("#!/bin/sh\n# new\n")["changed"] and log.read_text().split() == list(SERVERS)


@real
def test_the_gate_says_why_a_node_has_to_stay(cluster):
    def judged(name):
        done = subprocess.run(gate(cluster, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
        return done.returncode, json.dumps(done.stdout)

    assert judged("server2")[0] == 0
    # Of an instance whose name no node has, nobody knows what the cluster would lose.
    code, said = judged("shop-server-2")
    assert code != 0 and "shop-server-2 has to stay: the cluster has no node of this name, it has server1, server2, server3" in said, said
    cluster.hosts.run("server3", "systemctl stop k3s")
    code, said = judged("server1")
    assert code != 0 and "server1 has to stay: etcd would have 1 healthy voters without it, and needs 2, as server3 does not answer" in said, said
    # It is down anyway.
    assert judged("server3")[0] == 0
