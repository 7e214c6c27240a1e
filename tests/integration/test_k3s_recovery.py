# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The day it burnt down: all hosts are gone, and what is left is one snapshot on the controller and the token.

The tests go on where the one before ended.
"""

from __future__ import annotations

import base64
import time

import pytest
from fleet import Fleet
from lab.hosts import Hosts

pytestmark = [pytest.mark.hosts, pytest.mark.built("k3s"), pytest.mark.timeout(5400)]

NODES = ("server1", "agent1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A snapshot of a cluster whose hosts are gone."""
    with Hosts.start(NODES) as hosts:
        lost = Fleet(hosts)
        lost.run("bootstrap", k3s_binary=str(lost.binaries["new"].path))
        lost.kubectl("create configmap precious")
        hosts.run("server1", "k3s etcd-snapshot save --name disaster")
        path = hosts.run("server1", "ls /var/lib/rancher/k3s/server/db/snapshots/disaster-*").strip()
        snapshot = tmp_path_factory.mktemp("saved") / path.rpartition("/")[2]
        snapshot.write_bytes(base64.b64decode(hosts.run("server1", f"base64 {path}")))
    return snapshot


@pytest.fixture(scope="module")
def fleet():
    """New hosts of the same names, with empty disks."""
    with Hosts.start(NODES) as hosts:
        yield Fleet(hosts)


def restore(fleet, saved, **variables):
    return fleet.attempt("restore", k3s_restore_src=str(saved), k3s_binary=str(fleet.binaries["new"].path), **variables)


def process(fleet):
    return fleet.hosts.run("server1", "systemctl show --property MainPID --value k3s")


def test_new_hosts_of_the_same_names_are_the_cluster_again(saved, fleet, tell):
    begun = time.monotonic()
    done = restore(fleet, saved, k3s_restore_confirmed=True)
    assert done.code == 0 and "FAILED - RETRYING" not in done.output, done.output[-6000:]
    tell(f"a server and an agent with empty disks are back in {time.monotonic() - begun:.0f} s")
    fleet.is_whole(*NODES)
    assert "configmap/precious" in fleet.kubectl("get configmaps -o name")


def test_the_same_restore_again_says_so_and_stops_nothing(saved, fleet):
    before = process(fleet)
    done = restore(fleet, saved)
    assert done.code == 0 and "Nothing is stopped" in done.output, done.output[-4000:]
    assert process(fleet) == before


def test_the_next_bootstrap_finds_the_cluster_as_it_is_to_be(fleet):
    assert fleet.left_alone("bootstrap", k3s_binary=str(fleet.binaries["new"].path)) == 2


def test_a_restore_that_is_asked_for_again_keeps_what_was_written_since(saved, fleet):
    fleet.kubectl("create configmap since")
    before = process(fleet)
    refused = restore(fleet, saved, k3s_restore_again=True)
    assert refused.code != 0 and "k3s_restore_confirmed=true" in refused.output and process(fleet) == before, refused.output[-4000:]
    done = restore(fleet, saved, k3s_restore_again=True, k3s_restore_confirmed=True)
    assert done.code == 0, done.output[-6000:]
    fleet.is_whole(*NODES)
    found = fleet.kubectl("get configmaps -o name")
    assert "configmap/precious" in found and "configmap/since" not in found
    aside = fleet.hosts.run("server1", "ls -d /var/lib/rancher/k3s/server/db/etcd.before-*/member").split()
    assert len(aside) == 1
