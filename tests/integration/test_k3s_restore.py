# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of three servers and an agent: nothing is lost, nothing lives on beside, and nobody's mistake stops a cluster.

The tests go on where the one before ended.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Dict, List

import pytest
import yaml
from fleet import SERVERS, Fleet
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG

pytestmark = [pytest.mark.hosts, pytest.mark.built("k3s"), pytest.mark.timeout(5400)]

NODES = (*SERVERS, "agent1")


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start(NODES) as hosts:
        running = Fleet(hosts)
        running.run("bootstrap", k3s_binary=str(running.binaries["new"].path))
        for name in ("first", "second"):
            running.kubectl(f"create configmap {name}")
            hosts.run("server1", f"k3s etcd-snapshot save --name {name}")
        running.kubectl("create configmap third")
        yield running


def processes(fleet: Fleet) -> Dict[str, str]:
    """The process of k3s on each host: another one after a restart."""
    return {name: fleet.hosts.run(name, "systemctl show --property MainPID --value k3s k3s-agent") for name in NODES}


def written(fleet: Fleet) -> List[str]:
    found = fleet.kubectl("get configmap -o name").split()
    return [name for name in ("first", "second", "third", "fourth", "fifth") if f"configmap/{name}" in found]


def set_aside(fleet: Fleet, host: str) -> List[str]:
    return fleet.hosts.run(host, "cd /var/lib/rancher/k3s/server/db; ls -d etcd.before-* 2>/dev/null; true").split()


def test_a_restore_that_leaves_servers_out_is_refused_while_they_may_live(fleet):
    before = processes(fleet)
    command = [*fleet.command("restore", k3s_restore_name="first", k3s_restore_confirmed=True), "--limit", "server1,agent1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode != 0 and "server2, server3 are servers of the inventory, and not part of this run" in done.stdout, done.stdout[-3000:]
    # Whatever the user says of them: the cluster says that they live.
    command = [*fleet.command("restore", k3s_restore_name="first", k3s_restore_confirmed=True, k3s_restore_lost=["server2", "server3"]), "--limit", "server1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode != 0 and "server2, server3 are servers of this cluster and alive" in done.stdout, done.stdout[-3000:]
    assert processes(fleet) == before


def test_servers_that_no_inventory_names_are_asked_though_k3s_runs_on_no_server_of_the_run(fleet):
    """The database on disk names them. One that does not answer has to be said to be lost."""
    inventory = yaml.safe_load(fleet.hosts.inventory.read_text())
    groups = inventory["all"]["children"]
    groups["k3s_servers"]["hosts"] = {"server1": groups["k3s_servers"]["hosts"]["server1"]}
    groups["k3s_agents"]["hosts"] = {}
    alone = fleet.hosts.inventory.with_name("alone.yml")  # paths in it are relative to it
    alone.write_text(yaml.safe_dump(inventory))
    command = fleet.command("restore", k3s_restore_name="first", k3s_restore_confirmed=True)
    command[command.index(str(fleet.hosts.inventory))] = str(alone)

    def refusal():
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode != 0
        return " ".join(done.stdout.split())

    fleet.hosts.run("server1", "systemctl stop k3s")
    told = refusal()
    others = ", ".join(fleet.hosts.addresses[name] for name in ("server2", "server3"))  # etcd's database has no name of who joined
    assert f"{others} are servers of this cluster and alive" in told, told[-3000:]
    for name in ("server2", "server3"):
        fleet.hosts.run(name, "systemctl stop k3s")
    told = refusal()
    assert "are members of etcd in the database on disk" in told and f"k3s_restore_lost=[{others.replace(', ', ',')}]" in told, told[-3000:]
    assert [set_aside(fleet, name) for name in SERVERS] == [[], [], []]
    fleet.run("power", k3s_power="start")
    fleet.is_whole(*NODES)
    assert written(fleet) == ["first", "second", "third"]


def test_a_restore_that_nobody_confirmed_says_what_it_would_do_and_stops_nothing(fleet):
    before = processes(fleet)
    done = fleet.attempt("restore", k3s_restore_name="first")
    assert done.code != 0 and "k3s_restore_confirmed=true" in done.output and "Nothing was stopped" in done.output, done.output[-3000:]
    assert "server1 is restored from the snapshot" in done.output
    assert processes(fleet) == before and written(fleet) == ["first", "second", "third"]


def test_one_snapshot_another_and_the_first_again_keep_every_database(fleet):
    for number, (name, expected) in enumerate([("first", ["first"]), ("second", ["first", "second"]), ("first", ["first"])], 1):
        fleet.run("restore", k3s_restore_name=name, k3s_restore_confirmed=True)
        assert written(fleet) == expected
        fleet.is_whole(*NODES)
        assert [len(set_aside(fleet, host)) for host in SERVERS] == [number] * 3


def test_a_restore_that_was_done_already_says_so_and_stops_nothing(fleet):
    before = processes(fleet)
    output = fleet.run("restore", k3s_restore_name="first")
    assert "was restored from" in output and "Nothing is stopped" in output and "FAILED - RETRYING" not in output
    assert processes(fleet) == before and len(set_aside(fleet, "server1")) == 3


def test_the_next_bootstrap_finds_nothing_to_change(fleet):
    assert fleet.left_alone("bootstrap", k3s_binary=str(fleet.binaries["new"].path)) == 4


def test_a_configuration_that_k3s_cannot_start_with_ends_with_the_first_server(fleet):
    before = processes(fleet)
    bad: Dict[str, Any] = {"cluster-init": True, **SERVER_CONFIG, "kubelet-arg": ["max-pods=no-number"]}
    fleet.configure(bad, {})
    # Also in a play of the user's own, which does not say any_errors_fatal.
    play = fleet.hosts.state / "own.yml"
    play.write_text(json.dumps([{"hosts": "k3s_servers:k3s_agents", "gather_facts": False, "roles": ["nordic.gitops.k3s"]}]))
    command = fleet.command("bootstrap", k3s_binary=str(fleet.binaries["new"].path), k3s_wait_timeout=120)
    command = [str(play) if word.endswith("bootstrap.yml") else word for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    now = processes(fleet)
    assert done.returncode != 0, done.stdout[-3000:]
    assert len([name for name in SERVERS if now[name] != before[name]]) == 1 and fleet.takes_writes()
    fleet.configure({"cluster-init": True, **SERVER_CONFIG}, {})
    fleet.run("bootstrap", k3s_binary=str(fleet.binaries["new"].path))
    fleet.is_whole(*NODES)
