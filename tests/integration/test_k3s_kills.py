# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks killed with SIGKILL at random moments: the next run finishes what they began, and etcd never lost its quorum by our doing.

NORDIC_KILLS says how many times (10), NORDIC_SEED makes the moments those of an earlier run. A playbook that was through before its moment
came is not counted: what it made is looked at, taken back, and the kills go on.
"""

from __future__ import annotations

import os
import random
import re

import pytest
from fleet import SERVERS, Fleet
from lab.hosts import Hosts

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(5400)]

KILLS = int(os.environ.get("NORDIC_KILLS", "10"))
SEED = int(os.environ.get("NORDIC_SEED", "0")) or random.randrange(1, 1 << 31)


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start(SERVERS) as hosts:
        yield Fleet(hosts)


def test_a_bootstrap_killed_at_any_moment_is_finished_by_the_next(fleet, tell):
    moments = random.Random(SEED)
    binary = str(fleet.binaries["old"].path)

    def whole():
        fleet.is_whole(*SERVERS)
        assert len(fleet.authorities()) == 1

    killed = through = 0
    while killed < KILLS:
        if fleet.killed(moments.uniform(1, 60), "bootstrap", k3s_binary=binary):
            killed += 1
            continue
        through += 1
        whole()
        fleet.run("reset", k3s_reset_confirmed=True)
    fleet.run("bootstrap", k3s_binary=binary)
    whole()
    tell(f"bootstrap killed {killed} times with NORDIC_SEED={SEED}, {through + 1} clusters came of it")


def test_a_restore_killed_at_any_moment_is_finished_by_the_next(fleet, tell):
    moments = random.Random(SEED + 1)
    fleet.kubectl("create configmap kept")
    fleet.hosts.run("server1", "k3s etcd-snapshot save --name kills")
    fleet.kubectl("create configmap lost")
    killed = through = 0
    while killed < KILLS:
        # Each begins anew, so that there is something to kill; the last word is that of a run that only finishes.
        if fleet.killed(moments.uniform(2, 50), "restore", k3s_restore_name="kills", k3s_restore_again=True, k3s_restore_confirmed=True):
            killed += 1
        else:
            through += 1
    fleet.run("restore", k3s_restore_name="kills", k3s_restore_confirmed=True)
    fleet.is_whole(*SERVERS)
    found = fleet.kubectl("get configmaps -o name").split()
    assert "configmap/kept" in found and "configmap/lost" not in found
    assert not re.search(r"changed=[1-9]", fleet.run("restore", k3s_restore_name="kills", k3s_restore_confirmed=True))
    tell(f"restore killed {killed} times with NORDIC_SEED={SEED}, {through} came through between")


def try_to_write(fleet, name):
    """Create a configmap on the first server that takes one. Whether any did: none can while etcd has no quorum."""
    for server in SERVERS:
        said = fleet.hosts.run(server, f"timeout 5 k3s kubectl --request-timeout 4s create configmap {name} 2>&1", check=False)
        if "configmap/" + name + " created" in said:
            return True
    return False


def databases_with(fleet, name, pattern):
    """On how many servers a database whose folder fits the pattern has this configmap: as a key of its file, or of etcd's log beside it."""
    search = f"grep -rlaF /registry/configmaps/default/{name} /var/lib/rancher/k3s/server/db/{pattern}/member"
    return sum(bool(fleet.hosts.run(server, search, check=False).strip()) for server in SERVERS)


def test_restores_of_two_snapshots_in_random_order_with_random_kills_lose_no_database(fleet, tell):
    """Three times three of them. Each database is marked while it is live: the whole cluster's on every server, that of a cluster which a kill left
    half restored wherever it was. All marks must stay, and the last snapshot asked for runs."""
    moments = random.Random(SEED + 3)
    fleet.run("bootstrap", k3s_binary=str(fleet.binaries["old"].path))
    for name in ("one", "two"):
        fleet.kubectl(f"create configmap in-{name}")
        fleet.hosts.run("server1", f"k3s etcd-snapshot save --name {name}")
    whole, between, last, killed = [], [], "", 0
    for number, name in enumerate(moments.choice(("one", "two")) for _restore in range(9)):
        whole.append(f"live-{number}")
        fleet.kubectl(f"create configmap {whole[-1]}")
        for kill in range(moments.randrange(3)):
            killed += fleet.killed(moments.uniform(2, 60), "restore", k3s_restore_name=moments.choice(("one", "two")), k3s_restore_again=True,
                                   k3s_restore_confirmed=True)
            mark = f"between-{number}-{kill}"
            between += [mark] if try_to_write(fleet, mark) else []
        # Whoever asks again for what was restored last says so; for another snapshot a run that only finishes is enough.
        fleet.run("restore", k3s_restore_name=name, k3s_restore_again=name == last, k3s_restore_confirmed=True)
        last = name
        fleet.is_whole(*SERVERS)
        found = {one for one in fleet.kubectl("get configmaps -o name").split() if one.startswith(("configmap/in-", "configmap/live-"))}
        assert found == {"configmap/in-one", *(["configmap/in-two"] if name == "two" else [])}, f"NORDIC_SEED={SEED}"
        assert {mark: databases_with(fleet, mark, "etcd.before-*") for mark in whole} == dict.fromkeys(whole, 3), f"NORDIC_SEED={SEED}"
        assert [mark for mark in between if not databases_with(fleet, mark, "etcd*")] == [], f"NORDIC_SEED={SEED}"
    tell(f"9 restores with {killed} kills and NORDIC_SEED={SEED}: all {len(whole) + len(between)} marked databases are kept")


def test_an_upgrade_killed_at_any_moment_is_finished_by_the_next_and_keeps_the_quorum(fleet, tell):
    moments = random.Random(SEED + 2)
    old, new = fleet.binaries["old"], fleet.binaries["new"]

    def upgraded():
        fleet.is_whole(*SERVERS)
        assert set(fleet.versions().values()) == {new.version}

    killed = through = 0
    while killed < KILLS:
        if fleet.killed(moments.uniform(5, 90), "upgrade", k3s_binary=str(new.path)):
            killed += 1
            # Whatever it was doing, two of three voters are there.
            assert fleet.takes_writes(), f"no server takes a write; NORDIC_SEED={SEED}"
            continue
        through += 1
        upgraded()
        # There is no way back to an older version but a new cluster.
        fleet.run("reset", k3s_reset_confirmed=True)
        fleet.run("bootstrap", k3s_binary=str(old.path))
    fleet.run("upgrade", k3s_binary=str(new.path))
    upgraded()
    tell(f"upgrade killed {killed} times with NORDIC_SEED={SEED}, {through + 1} clusters came to the new version")
