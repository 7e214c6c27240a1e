# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kvm_instance on a real OpenStack that fails, is killed, or is used twice at once."""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._instance import execute, writer
from lab.openstack.proxy import CloudProxy, creates
from lab.proxy import CUT, DEAF, DROP, GOES_WELL, HOLD, LOSE, MUTE, delay, status
from provisioning import Fleet, asleep

pytestmark = pytest.mark.timeout(1800)
NOTHING = {"servers": 0, "ports": 0, "volumes": 0, "floating": 0}


@pytest.fixture
def proxy(monkeypatch):
    with CloudProxy() as running:
        monkeypatch.setenv("HTTP_PROXY", running.url)
        monkeypatch.setenv("http_proxy", running.url)
        yield running


@pytest.mark.parametrize("fault", [DROP, LOSE, CUT, status(429, retry_after=0), status(500), status(503, retry_after=0)], ids=str)
def test_a_request_that_creates_is_not_made_twice(fleet, proxy, fault):
    """Port, volume, server and floating address, each answered with this the first time."""
    ends = {"ports", "volumes", "servers", "floatingips"}

    def first(method, path):
        end = path.rsplit("/", 1)[1]
        if method == "POST" and end in ends:
            ends.discard(end)
            return True
        return False

    proxy.script(*[fault] * 4, match=first)
    fleet.run({"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}], "floating_address": {"network": "public"}})
    assert not ends and proxy.faults == 4
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 1}


@pytest.mark.full
def test_a_request_that_is_answered_too_late_is_not_made_twice(fleet, proxy):
    """The cloud is still at it when the client has given up."""
    proxy.script(delay(150), match=creates("/servers"))
    fleet.run(*fleet.named("a"), timeout=120)
    assert proxy.faults == 1 and fleet.left() == {"servers": 1, "ports": 1, "volumes": 0, "floating": 0}


def test_a_fleet_is_made_through_a_bad_network(fleet, proxy):
    """Every third request meets a fault, and each kind comes twice, however many requests a run makes."""
    kinds = [DROP, status(500), CUT, delay(0.5), LOSE, status(429, retry_after=0)]
    proxy.script(*[fault for kind in kinds * 2 for fault in (GOES_WELL, GOES_WELL, kind)])
    instances = [{"name": f"{fleet.name}-{number}", "volumes": [{"label": "data", "size": 1}]} for number in range(4)]
    while proxy.scripted:
        try:
            fleet.run(*instances)
        except Exception as error:
            assert fleet.name in str(error) or "answer" in str(error), error
    assert proxy.faults == 2 * len(kinds)
    fleet.run(*instances)
    assert fleet.left() == {"servers": 4, "ports": 4, "volumes": 4, "floating": 0}
    fleet.keeps(*instances)


def test_what_cannot_be_built_says_why_and_leaves_nothing(cloud, fleet):
    """No host has the room; each retry used to leave a port."""
    admin = cloud.connect("admin")
    flavor = admin.compute.create_flavor(name=f"{fleet.name}-wide", vcpus=390, ram=1000, disk=700000)
    try:
        for _attempt in range(3):
            said = str(fleet.fails({"name": f"{fleet.name}-a", "flavor": flavor.name, "volumes": [{"label": "d", "size": 1}]}, {"name": f"{fleet.name}-b"}))
            assert "went to ERROR" in said and "No valid host" in said
            assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 0, "floating": 0}
    finally:
        admin.compute.delete_flavor(flavor)
    assert fleet.run(*fleet.named("a", "b"))["counts"] == {"create": 1, "unchanged": 1}


def test_an_address_without_a_route_says_why_and_leaves_nothing(fleet):
    """The network has no router to the external one; each retry used to leave an address."""
    for _attempt in range(3):
        said = str(fleet.fails(*fleet.named("a"), networks=[{"network": "storage"}], floating_address={"network": "public"}))
        assert "is not reachable from subnet" in said, said
        assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 0, "floating": 0}
    assert fleet.run(*fleet.named("a"), networks=[{"network": "storage"}])["counts"] == {"unchanged": 1}


CHANGES = {
    "resize": ([LOSE], dict(flavor="cv-nvme-4gb", on_drift={"flavor": "resize"})),
    # As if the cloud had confirmed it by itself.
    "its confirmation": ([GOES_WELL, LOSE], dict(flavor="cv-nvme-4gb", on_drift={"flavor": "resize"})),
    "rebuild": ([LOSE], dict(image="debian-13", on_drift={"image": "rebuild"}, allow_data_loss=True)),
    "stop": ([LOSE], dict(state="stopped")),
    "growth of a volume": ([LOSE], dict(volumes=[{"label": "data", "size": 2}])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_which_the_answer_is_lost_is_made_once_and_is_a_success(fleet, proxy, change):
    """Asked for again, the cloud says that it is in conflict with itself."""
    faults, options = CHANGES[change]
    common = {"volumes": [{"label": "data", "size": 1}]}
    fleet.run(*fleet.named("a"), **common)
    proxy.script(*faults, match=creates("/action"))
    fleet.run(*fleet.named("a"), **{**common, **options})
    assert proxy.faults == 1
    fleet.keeps(*fleet.named("a"), **{**common, **options})


def test_a_rebuild_that_only_was_answered_fails(fleet, proxy):
    fleet.run(*fleet.named("a"))
    before = fleet.server("a").image.id
    proxy.script(status(202), match=creates("/action"))
    said = str(fleet.fails(*fleet.named("a"), image="debian-13", on_drift={"image": "rebuild"}, allow_data_loss=True))
    assert f"was rebuilt, and the cloud says that its image is {before}" in said and proxy.faults == 1


def test_one_that_vanishes_while_it_is_waited_for_is_named_and_the_next_run_finishes(fleet, proxy):
    proxy.script(status(404), match=lambda method, path: method == "GET" and re.search("/servers/[0-9a-f-]{36}$", path))
    said = str(fleet.fails(*fleet.named("a")))
    assert f"{fleet.name}-a (" in said and "vanished while this run waited until it is ACTIVE" in said and proxy.faults == 1, said
    fleet.run(*fleet.named("a"))
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 0, "floating": 0}
    fleet.keeps(*fleet.named("a"))


def test_a_deletion_that_ends_in_error_is_not_waited_for(cloud, fleet, proxy):
    fleet.run(*fleet.named("a"))
    cloud.connect("admin").compute.reset_server_state(fleet.server("a").id, "error")
    proxy.script(status(204), match=lambda method, path: method == "DELETE" and "/servers/" in path)
    said = str(fleet.fails(*fleet.named("a"), state="absent"))
    assert f"{fleet.name}-a (" in said and "could not be deleted" in said and proxy.faults == 1, said
    fleet.run(*fleet.named("a"), state="absent")
    assert fleet.left() == NOTHING


def test_a_quota_reached_meanwhile_leaves_what_was_made_and_the_next_run_finishes(fleet, proxy):
    proxy.script(None, status(403, message="Quota exceeded for instances"), match=creates("/servers"))
    said = fleet.fails(*fleet.named("a", "b"), parallel=1)
    assert "Quota exceeded for instances" in str(said) and fleet.left() == {"servers": 1, "ports": 1, "volumes": 0, "floating": 0}
    assert fleet.run(*fleet.named("a", "b"))["counts"] == {"create": 1, "unchanged": 1}


def declared(fleet, count):
    return [{"name": f"{fleet.name}-{number}", "volumes": [{"label": "data", "size": 1}]} for number in range(count)]


def begun(params):
    process = subprocess.Popen([sys.executable, "-m", "provisioning"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    process.stdin.write(json.dumps({"params": params}))
    process.stdin.close()
    return process


def started(fleet, count):
    return begun(fleet.params(instances=declared(fleet, count)))


@pytest.mark.parametrize("kills, count", [(3, 3), pytest.param(20, 10, marks=[pytest.mark.full, pytest.mark.timeout(3600)])])
def test_a_killed_run_is_finished_by_the_next_one(cloud, proxy, tell, kills, count):
    """Killed while it waits for the answer to a request that writes, which the cloud has heard of or not."""
    moments = [(number, fault) for number in range(2 * count + 2) for fault in (DEAF, MUTE)]
    told = []
    for number, fault in random.Random(kills).sample(moments, kills):
        fleet = Fleet(cloud)
        try:
            proxy.waiting.clear()
            proxy.script(*[GOES_WELL] * number, fault, match=lambda method, path: method != "GET" and "/auth/" not in path)
            process = started(fleet, count)
            while not proxy.waiting.wait(0.2):
                assert process.poll() is None, process.stdout.read()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            told.append(f"{number} {fault}")
            fleet.run(*declared(fleet, count))
            assert fleet.left() == {"servers": count, "ports": count, "volumes": count, "floating": 0}, (number, fault)
            assert {one.status for one in fleet.servers()} == {"ACTIVE"}
        finally:
            fleet.clean()
    tell(f"fleets of {count}: killed at their requests {', '.join(told)} and finished by the next run")


def test_an_instance_that_is_being_deleted_is_made_again_when_it_is_gone(cloud, fleet, proxy):
    """Until then the cloud lists it as ACTIVE."""
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}]}
    before = fleet.run(declared)["instances"][0]
    fleet.sdk.compute.set_server_metadata(before["id"], somebody="else")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with asleep(cloud):
            fleet.sdk.compute.delete_server(before["id"])
            told = fleet.run(declared, check=True)
            assert told["counts"] == {"create": 1} and "the one of this name is being deleted" in told["table"]
            assert fleet.run({**declared, "state": "absent"}, check=True)["counts"] == {"delete": 1}
            # Woken when the run waits for it.
            proxy.script(delay(0.1), match=lambda method, path: method == "GET" and path.endswith(f"/servers/{before['id']}"))
            run = pool.submit(fleet.run, declared)
            while not proxy.faults:
                assert not run.done(), run.result()
                time.sleep(0.1)
        after = run.result()["instances"][0]
    assert after["id"] != before["id"] and after["metadata"] == {"somebody": "else"}
    assert after["ports"] == before["ports"] and [volume["id"] for volume in after["volumes"]] == [volume["id"] for volume in before["volumes"]]
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 0}
    fleet.keeps(declared)


def replacing(fleet):
    more = {"volumes": [{"label": "data", "size": 1}], "floating_address": {"network": "public"}}
    return {"instances": [{"name": f"{fleet.name}-a", **more}], "user_data": "#!/bin/sh\n# new\n", "on_drift": {"user_data": "replace"},
            "allow_data_loss": True}


# The requests of a replacement that write: the lock, the shutdown, the deletion, the creation, the lock again.
@pytest.mark.parametrize("number, fault", [(number, fault) if number in (2, 3) else pytest.param(number, fault, marks=pytest.mark.full)
                                           for number in range(5) for fault in (DEAF, MUTE)], ids=str)
def test_a_killed_replacement_is_finished_with_the_same_addresses_and_volumes(fleet, proxy, number, fault):
    order = replacing(fleet)
    before = fleet.run(**{**order, "user_data": "#!/bin/sh\n# old\n"})["instances"][0]
    seen = proxy.faults
    proxy.waiting.clear()
    proxy.script(*[GOES_WELL] * number, fault, match=lambda method, path: method != "GET" and "/auth/" not in path)
    process = begun(fleet.params(**order))
    while not proxy.waiting.wait(0.2):
        assert process.poll() is None, process.stdout.read()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    after = fleet.run(**order)["instances"]
    assert proxy.faults == seen + 1 and len(after) == 1 and after[0]["id"] != before["id"] and after[0]["status"] == "ACTIVE"
    for same in ("addresses", "ports", "floating_addresses"):
        assert after[0][same] == before[same], same
    assert [volume["id"] for volume in after[0]["volumes"]] == [volume["id"] for volume in before["volumes"]]
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 1}
    fleet.keeps(**order)


@pytest.mark.parametrize("fault", [LOSE, status(403, message="Quota exceeded for instances")], ids=str)
def test_a_replacement_whose_creation_is_not_answered_or_refused_at_first_keeps_its_port_and_volume(fleet, proxy, fault):
    """It is asked for while the old one goes, which has its name and counts for the quota."""
    order = replacing(fleet)
    before = fleet.run(**{**order, "user_data": "#!/bin/sh\n# old\n"})["instances"][0]
    proxy.script(fault, match=creates("/servers"))
    done = fleet.run(**order)
    after = done["instances"][0]
    assert proxy.faults == 1 and after["id"] != before["id"] and after["ports"] == before["ports"]
    assert [step.get("failed", False) for step in done["steps"] if step["step"] == "create"] == ([False] if fault == LOSE else [True, False]), done["steps"]
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 1}
    fleet.keeps(**order)


@pytest.mark.parametrize("controllers", [1, 2])
def test_two_runs_at_once_make_no_instance_twice(fleet, monkeypatch, tmp_path, controllers):
    """On one controller the file's lock keeps them apart, on two the lock in the cloud."""
    folders = [tmp_path / str(number % controllers) for number in range(2)]
    processes = []
    for folder in folders:
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        processes.append(started(fleet, 4))
    results = [json.loads(process.stdout.read()) for process in processes]
    assert not [result["failed"] for result in results if "failed" in result]
    assert fleet.left() == {"servers": 4, "ports": 4, "volumes": 4, "floating": 0}
    assert sorted(result["changed"] for result in results) == [False, True]


def test_a_run_that_stood_still_removes_nothing_that_another_one_took_over(fleet, proxy, monkeypatch, tmp_path):
    """Stopped before its request to create reaches the cloud; another controller makes the instance with its port and volume, then its request is refused."""
    order = declared(fleet, 1)
    proxy.script(HOLD, match=creates("/servers"))
    process = begun(fleet.params(instances=order, timeout=600))
    while not proxy.waiting.wait(0.2):
        assert process.poll() is None, process.stdout.read()
    os.killpg(process.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(writer, "PATIENCE", 3.0)
    made = fleet.run(*order)["instances"][0]
    time.sleep(max(0.0, stopped + writer.KNOWN_FOR + 1 - time.monotonic()))
    os.killpg(process.pid, signal.SIGCONT)
    proxy.go_on.set()
    said = json.loads(process.stdout.read())["failed"]
    assert "is left to the next run (another run has taken the lock of the fleet" in said, said
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 0}
    assert [port.device_id for port in fleet.ports()] == [made["id"]] and [volume.status for volume in fleet.volumes()] == ["in-use"]
    fleet.keeps(*order)


def test_what_somebody_took_meanwhile_is_not_removed_by_a_run_that_fails(fleet, proxy, monkeypatch):
    """The lock is still its own; somebody who knows of none put the port and the volume that it had made into another server."""
    sdk = fleet.sdk
    monkeypatch.setattr(execute, "DROPPED_WITHIN", 1.0)
    proxy.script(HOLD, match=creates("/servers"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        run = pool.submit(fleet.fails, *declared(fleet, 1))
        try:
            while not proxy.waiting.wait(0.2):
                assert not run.done(), run.result()
            (port,), (volume,) = fleet.ports(), fleet.volumes()
            image, flavor = sdk.image.find_image("debian-13").id, sdk.compute.find_flavor("cv-nvme-2gb").id
            theirs = sdk.compute.create_server(name=f"{fleet.name}-theirs", image_id=image, flavor_id=flavor, networks=[{"port": port.id}])
            sdk.compute.wait_for_server(theirs, interval=0.3, wait=300)
            sdk.compute.create_volume_attachment(theirs, volume=volume)
            sdk.block_storage.wait_for_status(volume, "in-use", failures=["error"], interval=0.3, wait=300)
        finally:
            proxy.go_on.set()
        said = str(run.result())
    assert f"Left to the next run: port {port.id}, volume {volume.id}" in said, said
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 0}
    assert [one.device_id for one in fleet.ports()] == [theirs.id]


@pytest.mark.parametrize("fault", [GOES_WELL, DEAF, MUTE], ids=["whole", "killed before", "killed after"])
def test_the_port_of_a_network_that_somebody_attached_survives_a_replacement(fleet, proxy, fault):
    """The cloud made it for the instance, so it deletes it with the instance, and the address would be anybody's."""
    order = {**replacing(fleet), "instances": declared(fleet, 1)}
    before = fleet.run(**{**order, "user_data": "#!/bin/sh\n# old\n"})["instances"][0]
    (own,) = before["ports"]
    fleet.sdk.compute.delete_server_interface(own["id"], server=before["id"])
    while fleet.sdk.network.get_port(own["id"]).device_id:
        time.sleep(0.3)
    fleet.sdk.network.delete_port(own["id"])
    theirs = fleet.sdk.compute.create_server_interface(before["id"], net_id=own["network_id"])
    address = theirs.fixed_ips[0]["ip_address"]
    told = fleet.run(**order, check=True)["plan"][0]
    assert told["operation"] == "replace" and f"address {address}" in told["keeps"]
    if fault:
        proxy.script(fault, match=lambda method, path: method == "DELETE" and "/servers/" in path)
        process = begun(fleet.params(**order))
        while not proxy.waiting.wait(0.2):
            assert process.poll() is None, process.stdout.read()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    after = fleet.run(**order)["instances"][0]
    assert after["id"] != before["id"] and [(port["id"], port["addresses"], port["ours"]) for port in after["ports"]] == [(theirs.port_id, [address], True)]
    fleet.keeps(**order)
    fleet.run({"name": f"{fleet.name}-0", "state": "absent"}, delete_volumes=True)
    assert fleet.left() == NOTHING


def test_a_replaced_instance_whose_deletion_failed_is_removed_by_the_next_run(cloud, fleet):
    """It went to ERROR when the new one had its place, its port and its volume already."""
    order, sdk = replacing(fleet), fleet.sdk
    first = fleet.run(**{**order, "user_data": "#!/bin/sh\n# old\n"})["instances"][0]
    made = fleet.run(**order)["instances"][0]
    assert fleet.server("a").metadata["nordic:replaces"] == first["id"]
    image, flavor = sdk.image.find_image("debian-13").id, sdk.compute.find_flavor("cv-nvme-2gb").id
    old = sdk.compute.create_server(name=made["name"], image_id=image, flavor_id=flavor, networks="none", metadata={"nordic:fleet": fleet.name})
    sdk.compute.wait_for_server(old, interval=0.3, wait=600)
    sdk.compute.put(f"/servers/{old.id}/tags/nordic:fleet:{fleet.name}", microversion="2.72").raise_for_status()
    cloud.connect("admin").compute.reset_server_state(old.id, "error")
    assert "has 2 instances of this name" in str(fleet.fails(**order))
    sdk.compute.set_server_metadata(made["id"], **{"nordic:replaces": old.id})
    told = fleet.run(**order, check=True)
    assert told["counts"] == {"delete": 1, "unchanged": 1} and f"replaced by {made['id']}, and its deletion did not end (ERROR)" in told["table"]
    done = fleet.run(**order, prune_limit="0")
    assert done["plan"] == told["plan"] and [one["id"] for one in done["instances"]] == [made["id"]] and done["instances"][0]["ports"] == first["ports"]
    assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 1}
    fleet.keeps(**order)


def test_what_a_cloud_only_puts_aside_holds_nothing_that_a_replacement_needs(cloud, fleet, proxy):
    """Soft delete: the server keeps its ports and volumes for whoever restores it. A list does not have it."""
    order = replacing(fleet)
    absent = {"name": f"{fleet.name}-a", "state": "absent"}
    with cloud.soft_delete() as nova:
        proxy.instead[f"127.0.0.1:{cloud.ports['nova']}"] = nova
        before = fleet.run(**{**order, "user_data": "#!/bin/sh\n# old\n"})["instances"][0]
        after = fleet.run(**order)["instances"][0]
        assert after["id"] != before["id"] and after["ports"] == before["ports"]
        assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 1}
        gone = fleet.run(absent, delete_volumes=True)
        assert any(f"({after['id']}) can be restored until the cloud reclaims it" in text for text in gone["warnings"])
        assert fleet.left() == {"servers": 0, "ports": 1, "volumes": 1, "floating": 1}
        fleet.keeps(absent)
        said = str(fleet.fails(**{**order, "allow_data_loss": False}))
        assert f"Restore it (openstack server restore {after['id']})" in said
        fleet.sdk.compute.restore_server(after["id"])
        fleet.sdk.compute.wait_for_server(fleet.sdk.compute.get_server(after["id"]), interval=0.3, wait=300)  # a list has it only then
        fleet.keeps(**order)
        fleet.run(absent)
        third = fleet.run(**order)["instances"][0]
        assert third["id"] != after["id"] and [port["addresses"] for port in third["ports"]] == [port["addresses"] for port in before["ports"]]
        assert [one["id"] for one in third["volumes"]] == [one["id"] for one in before["volumes"]]
        assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 1}
        fleet.keeps(**order)
