# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's OpenStack: real services, for this machine alone, gone with whoever it was for."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest
from lab import processes
from lab.cluster import is_running
from lab.openstack import Cloud, settings


def of(cloud):
    """Its processes: what the supervisor started, and what these started."""
    return psutil.Process(cloud.supervisor).children(recursive=True)


def test_all_services_answer_in_the_region_and_its_zones(cloud):
    sdk = cloud.connect("admin")
    assert {one.binary for one in sdk.compute.services()} == {"nova-compute", "nova-conductor", "nova-scheduler"}
    assert {one.name for one in sdk.compute.availability_zones()} - {"internal"} == set(settings.HOSTS.values())
    assert {endpoint.region_id for endpoint in sdk.identity.endpoints()} == {settings.REGION, settings.ABROAD}
    # Until then a volume would find no backend.
    assert {pool.name.rpartition("#")[2] for pool in sdk.block_storage.backend_pools()} == set(settings.BACKENDS)
    assert cloud.obituary() == ""


def test_it_listens_on_the_loopback_only(cloud):
    found = [connection.laddr for process in of(cloud) for connection in process.net_connections("inet") if connection.status == psutil.CONN_LISTEN]
    assert len(found) >= len(cloud.ports) - 1
    assert {address.ip for address in found} <= {"127.0.0.1", "::1"}


def test_copies_of_a_server_are_listed_as_it_is(cloud, fleet):
    """The bench lists so many of them."""
    fleet.run(*fleet.named("0"))
    cloud.copy(fleet.server("0"), [f"{fleet.name}-{number}" for number in range(1, 5)])
    try:
        found = fleet.run(*fleet.named("0"))
        assert not found["changed"] and found["undeclared"] == [f"{fleet.name}-{number}" for number in range(1, 5)]
        for field in ("id", "address"):
            assert len({one[field] for one in found["instances"]} - {None}) == 5, field
        assert [len(one["ports"]) for one in found["instances"]] == [1] * 5 and {one["status"] for one in found["instances"]} == {"ACTIVE"}
    finally:
        fleet.clean()


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_detached_one_ends_with_its_owner_and_leaves_nothing(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state = tmp_path / "cloud"
    cloud = Cloud.start(state, detached=True, owner=owner.pid)
    assert cloud.connect().compute.get("/servers").status_code == 200
    owner.kill()
    owner.wait()
    while is_running(state) or state.exists() or processes.naming(state):
        time.sleep(0.5)
