# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module kvm_instance on a real OpenStack: making, keeping and changing instances."""

from __future__ import annotations

import re

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._instance.openstack import OpenStack
from ansible_collections.nordic.gitops.plugins.module_utils._instance.user_data import fingerprint
from provisioning import Fleet

pytestmark = pytest.mark.timeout(1800)
NOTHING = {"servers": 0, "ports": 0, "volumes": 0, "floating": 0}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ours"


def test_a_fleet_is_made_as_checked_and_a_second_run_changes_nothing(fleet):
    instances = [{"name": f"{fleet.name}-{suffix}"} for suffix in ("1", "11", "a.b+c[1]")]
    told = fleet.run(*instances, metadata={"role": "server"}, check=True)
    assert told["changed"] and told["counts"] == {"create": 3} and fleet.left() == NOTHING
    first = fleet.run(*instances, metadata={"role": "server"})
    assert first["plan"] == told["plan"] and "create" in first["table"] and first["quota"]["cores"] == 3
    assert [one["status"] for one in first["instances"]] == ["ACTIVE"] * 3
    assert all(one["address"].startswith("10.20.") for one in first["instances"])
    assert {one.metadata["role"] for one in fleet.servers()} == {"server"}
    assert first["evidence"]["answered"]["region"] == "no-oslo-1" and first["evidence"]["at"]
    second = fleet.run(*instances, metadata={"role": "server"})
    assert not second["changed"] and second["counts"] == {"unchanged": 3} and second["steps"] == []
    few = fleet.run(instances[0], metadata={"role": "server"})
    assert few["requests"] == second["requests"] and few["undeclared"] == sorted(one["name"] for one in instances[1:])


def test_everything_that_is_declared_is_there(fleet):
    sdk = fleet.sdk
    group = sdk.compute.create_server_group(name=f"{fleet.name}-spread", policy="anti-affinity")
    sdk.compute.create_keypair(name=f"{fleet.name}-key", public_key=KEY)
    rules = sdk.network.create_security_group(name=f"{fleet.name}-rules")
    try:
        declared = dict(
            key=f"{fleet.name}-key",
            public_key=KEY,
            server_group=group.name,
            zone="no-oslo-1b",
            security_groups=[rules.name],
            boot_volume={"size": 10, "type": "nvme"},
            networks=[{"network": "private", "address": "10.20.77.7"}, {"network": "storage", "subnet": "storage", "security_groups": []}],
            volumes=[{"label": "data", "size": 3, "type": "nvme"}, {"label": "logs", "size": 2}],
            floating_address={"network": "public"},
            flavor="4 vCPU, 16384 MB, 160 GB",
            cloud_init={"packages": ["git"]},
            user_data="#!/bin/sh\ntrue\n",
            metadata={"role": "server"},
        )
        result = fleet.run({"name": f"{fleet.name}-a", **declared})
        server, facts = fleet.server("a"), result["instances"][0]
        assert server.key_name == f"{fleet.name}-key" and server.availability_zone == "no-oslo-1b"
        assert server.flavor.original_name == "cv-nvme-16gb"
        assert [volume["label"] for volume in facts["volumes"]] == ["root", "data", "logs"]
        assert all(volume["path"] == f"/dev/disk/by-id/virtio-{volume['id'][:20]}" for volume in facts["volumes"])
        # A volume's zone follows its instance's.
        assert {volume.availability_zone for volume in fleet.volumes()} == {"no-oslo-1b"} and {
            one.volume_type for one in fleet.volumes() if one.size != 2
        } == {"nvme"}
        groups = {port["network"]: port["security_groups"] for port in facts["ports"]}
        assert groups == {"private": [rules.id], "storage": []}
        assert "10.20.77.7" in facts["ports"][0]["addresses"] + facts["ports"][1]["addresses"]
        assert facts["floating_addresses"] and facts["address"] == facts["floating_addresses"][0]
        assert sdk.compute.get_server_group(group.id).member_ids == [server.id]
        again = fleet.run({"name": f"{fleet.name}-a", **declared})
        assert again["counts"] == {"unchanged": 1}, again["table"]
        assert again["instances"][0]["server_groups"] == [group.id]
        # A key that was taken from the list is named, with the fact that it still lets people in.
        without = fleet.run({"name": f"{fleet.name}-a", **{**declared, "key": None, "public_key": None}}, check=True)
        assert without["counts"] == {"report": 1} and f"{fleet.name}-key may still open it" in without["table"]
    finally:
        fleet.clean()
        sdk.compute.delete_server_group(group)
        sdk.compute.delete_keypair(f"{fleet.name}-key")
        sdk.network.delete_security_group(rules)


def test_another_image_is_refused_while_it_would_destroy_the_root_disk(fleet):
    fleet.run(*fleet.named("a"))
    before = fleet.server("a")
    reported = fleet.run(*fleet.named("a"), image="debian-13")
    assert not reported["changed"] and reported["counts"] == {"report": 1}
    for action in ("rebuild", "replace"):
        words = [str(fleet.fails(*fleet.named("a"), image="debian-13", on_drift={"image": action}, check=check)) for check in (True, False)]
        assert words[0] == words[1] and f"to {action} it destroys the root disk, which allow_data_loss allows" in words[0]
    assert fleet.server("a").id == before.id
    fleet.run(*fleet.named("a"), image="debian-13", on_drift={"image": "rebuild"}, allow_data_loss=True)
    after = fleet.server("a")
    assert after.id == before.id and after.image.id == fleet.sdk.image.find_image("debian-13").id
    fleet.keeps(*fleet.named("a"), image="debian-13")


def test_addresses_and_volumes_survive_a_replacement(fleet):
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 2}], "user_data": "#!/bin/sh\ntrue\n"}
    first = fleet.run(declared)["instances"][0]
    fleet.sdk.compute.set_server_metadata(first["id"], somebody="else")
    changed = {**declared, "user_data": "#!/bin/sh\nfalse\n"}
    told = fleet.run(changed)
    assert not told["changed"] and "takes effect only with rebuild or replace" in told["table"]
    done = fleet.run(changed, on_drift={"user_data": "replace"}, allow_data_loss=True)
    second = done["instances"][0]
    assert second["id"] != first["id"] and [step["step"] for step in done["steps"]][:2] == ["shut down", "remove the old one"]
    for kept in ("ports", "addresses", "metadata"):
        assert second[kept] == {**{"metadata": {"somebody": "else"}}, **{"ports": first["ports"], "addresses": first["addresses"]}}[kept]
    assert [volume["id"] for volume in second["volumes"]] == [volume["id"] for volume in first["volumes"]]
    assert not fleet.run(changed)["changed"] and fleet.left() == {"servers": 1, "ports": 1, "volumes": 1, "floating": 0}


def test_a_new_system_on_a_boot_volume_leaves_the_old_volume(fleet):
    declared = {"name": f"{fleet.name}-a", "boot_volume": {"size": 5}}
    first = fleet.run(declared)["instances"][0]
    # The API shows no image for such an instance; what the volume was made of is compared.
    fleet.keeps(declared)
    done = fleet.run({**declared, "image": "debian-13"}, on_drift={"image": "replace"})
    assert any("the old boot volume" in text and first["volumes"][0]["id"] in text for text in done["warnings"])
    assert len(fleet.volumes()) == 2 and done["instances"][0]["volumes"][0]["id"] != first["volumes"][0]["id"]


def test_a_volume_grows_in_place_and_never_shrinks(fleet):
    def declared(size):
        return {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": size}]}

    before = fleet.run(declared(2))["instances"][0]["volumes"][0]
    after = fleet.run(declared(4))["instances"][0]["volumes"][0]
    assert (after["id"], after["size"]) == (before["id"], 4)
    assert "a volume cannot become smaller" in str(fleet.fails(declared(1)))
    reported = fleet.run({"name": f"{fleet.name}-a"})
    assert not reported["changed"] and "extra_volumes" in reported["table"]
    fleet.run({"name": f"{fleet.name}-a"}, on_drift={"extra_volumes": "update"})
    assert [(one.id, one.status) for one in fleet.volumes()] == [(before["id"], "available")]
    fleet.run(declared(4))
    assert [one.status for one in fleet.volumes()] == ["in-use"]


def test_a_volume_is_made_elsewhere_where_cinder_lacks_the_zone_of_nova(cloud, fleet):
    """Added to an instance that runs in a zone that Cinder does not know and would refuse. A host of Nova is in that zone meanwhile."""
    admin = cloud.connect("admin").compute
    (home,) = [one for one in admin.aggregates() if one.availability_zone == "no-oslo-1b"]
    other = admin.create_aggregate(name=f"{fleet.name}-zone", availability_zone=f"{fleet.name}-zone")
    admin.remove_host_from_aggregate(home, "lab-3")
    admin.add_host_to_aggregate(other, "lab-3")
    try:
        fleet.run(*fleet.named("a"), zone=f"{fleet.name}-zone")
        declared = dict(volumes=[{"label": "data", "size": 1}])
        made = fleet.run(*fleet.named("a"), **declared)["instances"][0]
        assert made["zone"] == f"{fleet.name}-zone" and [volume["label"] for volume in made["volumes"]] == ["data"]
        fleet.keeps(*fleet.named("a"), **declared)
    finally:
        fleet.clean()
        admin.remove_host_from_aggregate(other, "lab-3")
        admin.delete_aggregate(other)
        admin.add_host_to_aggregate(home, "lab-3")


def test_a_resize_is_confirmed_and_a_stopped_instance_stays_stopped(fleet):
    fleet.run(*fleet.named("a", "b"), state="stopped")
    assert {one.status for one in fleet.servers()} == {"SHUTOFF"}
    fleet.run({"name": f"{fleet.name}-a", "state": "started"}, {"name": f"{fleet.name}-b", "state": "stopped"})
    assert [one.status for one in fleet.servers()] == ["ACTIVE", "SHUTOFF"]
    done = fleet.run(*fleet.named("a", "b"), flavor="cv-nvme-4gb", on_drift={"flavor": "resize"})
    assert [(one.status, one.flavor.original_name) for one in fleet.servers()] == [("ACTIVE", "cv-nvme-4gb"), ("SHUTOFF", "cv-nvme-4gb")]
    assert done["counts"] == {"resize": 2}
    assert "would become smaller" in str(fleet.fails(*fleet.named("a", "b"), on_drift={"flavor": "resize"}))
    fleet.run(*fleet.named("a"), state="rebuilt", flavor="cv-nvme-4gb", allow_data_loss=True)
    assert fleet.server("a").status == "ACTIVE"


def test_networks_groups_metadata_and_addresses_change_in_place(fleet):
    rules = fleet.sdk.network.create_security_group(name=f"{fleet.name}-rules")
    try:
        fleet.run(*fleet.named("a"), metadata={"role": "server", "old": "x"}, floating_address={"network": "public"})
        before = fleet.server("a")
        fleet.sdk.compute.set_server_metadata(before, somebody="else")
        changed = dict(networks=[{"network": "private"}, {"network": "storage"}], security_groups=[rules.name], metadata={"role": "agent"})
        told = fleet.run(*fleet.named("a"), **changed, check=True)
        done = fleet.run(*fleet.named("a"), **changed)
        assert done["plan"] == told["plan"] and done["counts"] == {"update": 1}
        server = fleet.server("a")
        assert server.id == before.id and {key: value for key, value in server.metadata.items() if "nordic" not in key} == {
            "role": "agent",
            "somebody": "else",
        }
        assert set(server.addresses) == {"private", "storage"} and {tuple(port.security_group_ids) for port in fleet.ports()} == {(rules.id,)}
        # The address is no longer used, and it is kept.
        assert [(one.port_id) for one in fleet.floating()] == [None]
        fleet.keeps(*fleet.named("a"), **changed)
        fleet.run(*fleet.named("a"), metadata={"role": "agent"})
        assert set(fleet.server("a").addresses) == {"private"} and len(fleet.ports()) == 1
    finally:
        fleet.clean()
        fleet.sdk.network.delete_security_group(rules)


def test_ports_are_made_before_others_are_given_up(fleet):
    """The new one may be refused, here as somebody took its address since it was looked at; the instance would have no network."""
    fleet.run(*fleet.named("a"), networks=[{"network": "private", "address": "10.20.66.6"}])
    (before,) = fleet.ports()
    network = fleet.sdk.network.find_network("private", project_id=fleet.sdk.current_project_id)
    params = dict(networks=[{"network": "private", "address": "10.20.66.7"}])

    sdk, theirs_name = fleet.sdk, f"{fleet.name}-theirs"

    class Late(OpenStack):
        def create_ports(self, fleet, wanted):
            sdk.network.create_port(network_id=network.id, name=theirs_name, fixed_ips=[{"ip_address": "10.20.66.7"}])
            return super().create_ports(fleet, wanted)

    failed = fleet.fails(*fleet.named("a"), provider=Late, **params)
    assert "10.20.66.7" in str(failed) and fleet.server("a").addresses["private"][0]["addr"] == "10.20.66.6"
    assert [(step["step"], step["failed"]) for step in failed.details["steps"]] == [("ports", True)]
    (theirs,) = sdk.network.ports(name=theirs_name)
    assert {port.id for port in fleet.ports()} == {before.id, theirs.id}
    fleet.sdk.network.delete_port(theirs)
    after = fleet.run(*fleet.named("a"), **params)["instances"][0]
    assert [port["addresses"] for port in after["ports"]] == [["10.20.66.7"]] and len(fleet.ports()) == 1
    fleet.keeps(*fleet.named("a"), **params)
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
    assert fleet.left() == NOTHING


def test_a_floating_address_that_is_named_is_never_released(fleet):
    """It was made for the instance once; since it is declared by its number, for a DNS entry perhaps, it is the user's."""
    (address,) = fleet.run(*fleet.named("a"), floating_address={"network": "public"})["instances"][0]["floating_addresses"]
    named = dict(floating_address={"address": address})
    assert fleet.run(*fleet.named("a"), **named)["counts"] == {"update": 1}
    fleet.keeps(*fleet.named("a"), **named)
    assert fleet.run(*fleet.named("a"))["instances"][0]["floating_addresses"] == []
    fleet.keeps(*fleet.named("a"))
    changed = dict(named, user_data="#!/bin/sh\n")
    replaced = fleet.run(*fleet.named("a"), **changed, on_drift={"user_data": "replace"}, allow_data_loss=True)["instances"][0]
    assert replaced["floating_addresses"] == [address]
    told = fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, check=True)
    assert told["plan"][0]["destroys"] == ["root disk"]
    fleet.run(instances=[], prune=True, prune_limit="100%")
    assert [(one.floating_ip_address, one.port_id) for one in fleet.floating()] == [(address, None)]
    again = fleet.run(*fleet.named("a"), **named)["instances"][0]
    assert again["floating_addresses"] == [address]
    fleet.run(*fleet.named("a"), floating_address={"network": "public"})
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
    assert fleet.left() == NOTHING


def test_only_what_carries_the_mark_of_the_fleet_is_deleted(cloud, fleet):
    """Fleets a and a-b and an unmarked server a-1, in one project."""
    other = Fleet(cloud, name=f"{fleet.name}-b")
    fleet.run(*fleet.named("x", "y"))
    other.run(*other.named("x"))
    network = fleet.sdk.network.find_network("private", project_id=fleet.sdk.current_project_id)
    stranger = fleet.sdk.compute.create_server(
        name=f"{fleet.name}-1",
        flavor_id=fleet.sdk.compute.find_flavor("cv-nvme-2gb").id,
        image_id=fleet.sdk.image.find_image("debian-13").id,
        networks=[{"uuid": network.id}],
    )
    fleet.sdk.compute.wait_for_server(stranger, interval=0.3, wait=600)
    # Named as ours are, without the mark: a port, and the floating address of somebody's server.
    port = fleet.sdk.network.create_port(network_id=network.id, name=f"{fleet.name}-y|private|2")
    theirs = next(fleet.sdk.network.ports(device_id=stranger.id))
    address = fleet.sdk.network.create_ip(floating_network_id=fleet.sdk.network.find_network("public").id, port_id=theirs.id)
    assert "the name is taken by the instance" in str(fleet.fails({"name": stranger.name}))
    assert "belongs to the fleet" in str(fleet.fails({"name": f"{other.name}-x"}))
    undeclared = fleet.run(*fleet.named("x"))
    assert undeclared["undeclared"] == [f"{fleet.name}-y"] and not undeclared["changed"]
    fleet.sdk.compute.lock_server(fleet.server("y"))
    assert fleet.run(*fleet.named("x"), prune=True, prune_limit="100%")["counts"] == {"unchanged": 1, "skipped": 1}
    fleet.sdk.compute.unlock_server(fleet.server("y"))
    done = fleet.run(*fleet.named("x"), prune=True)
    assert done["counts"] == {"unchanged": 1, "delete": 1}
    assert [one.name for one in fleet.servers()] == sorted([f"{fleet.name}-1", f"{fleet.name}-b-x", f"{fleet.name}-x"])
    assert fleet.sdk.network.get_port(port.id).id and fleet.sdk.network.get_ip(address.id).port_id == theirs.id
    fleet.sdk.network.delete_ip(address)
    assert "prune_limit" in str(fleet.fails(*fleet.named("new"), prune=True, prune_limit="0"))


def test_a_volume_and_a_port_of_somebody_else_are_used_and_never_deleted(fleet):
    network = fleet.sdk.network.find_network("private", project_id=fleet.sdk.current_project_id)
    port = fleet.sdk.network.create_port(network_id=network.id, name=f"{fleet.name}-own")
    volume = fleet.sdk.block_storage.create_volume(name=f"{fleet.name}-own", size=1)
    fleet.sdk.block_storage.wait_for_status(volume, "available", wait=600, interval=0.3)
    declared = {"name": f"{fleet.name}-a", "networks": [{"port": port.name}], "volumes": [{"volume": volume.name}, {"label": "ours", "size": 1}]}
    first = fleet.run(declared)["instances"][0]
    assert not fleet.run(declared)["changed"] and not first["ports"][0]["ours"]
    second = fleet.run({**declared, "user_data": "#!/bin/sh\n"}, on_drift={"user_data": "replace"}, allow_data_loss=True)["instances"][0]
    assert second["ports"][0]["mac"] == first["ports"][0]["mac"] and second["addresses"] == first["addresses"]
    gone = fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, delete_volumes=True)
    assert [one.id for one in fleet.volumes()] == [volume.id] and [one.id for one in fleet.ports()] == [port.id]
    assert any(volume.id in kept for kept in gone["plan"][0]["keeps"])


def test_what_was_made_for_another_instance_or_fleet_is_used_and_never_deleted(cloud, fleet):
    """Port, volume and floating address with the mark of another fleet: of an instance of it that was deleted, for example."""
    other, sdk = Fleet(cloud), fleet.sdk
    network = sdk.network.find_network("private", project_id=sdk.current_project_id)
    try:
        port = sdk.network.create_port(network_id=network.id, name=f"{other.name}-x|private", description=f"nordic:fleet={other.name}")
        address = sdk.network.create_ip(floating_network_id=sdk.network.find_network("public").id, description=f"nordic:fleet={other.name}")
        other.run(*other.named("x"), volumes=[{"label": "data", "size": 1}], networks=[])
        other.run({"name": f"{other.name}-x", "state": "absent"})
        (volume,) = other.volumes()
        given = dict(networks=[{"port": port.id}], volumes=[{"volume": volume.id}], floating_address={"address": address.floating_ip_address})
        made = fleet.run(*fleet.named("a"), **given)["instances"][0]
        assert [one["ours"] for one in (*made["ports"], *made["volumes"])] == [False, False] and made["floating_addresses"] == [address.floating_ip_address]
        fleet.keeps(*fleet.named("a"), **given)
        without = fleet.run(*fleet.named("a"), networks=[], on_drift={"extra_volumes": "update"})
        assert not without["changed"], without["table"]
        gone = fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, delete_volumes=True)
        assert gone["plan"][0]["destroys"] == ["root disk"] and any(volume.id in kept for kept in gone["plan"][0]["keeps"])
        assert sdk.network.get_port(port.id).id and sdk.network.get_ip(address.id).id and sdk.block_storage.get_volume(volume.id).status == "available"
    finally:
        fleet.clean()
        other.clean()


def test_a_boot_volume_that_an_earlier_instance_left_is_not_taken_for_a_new_system(fleet):
    declared = {"name": f"{fleet.name}-a", "boot_volume": {"size": 5}}
    before = fleet.run(declared)["instances"][0]
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
    said = str(fleet.fails({**declared, "image": "debian-13"}))
    assert f"its boot volume {before['volumes'][0]['id']} is left of an earlier instance" in said and fleet.servers() == []
    assert fleet.run(declared)["instances"][0]["volumes"][0]["id"] == before["volumes"][0]["id"]


def test_an_address_in_use_is_seen_before_a_port_is_given_up_for_it(fleet):
    fleet.run(*fleet.named("a", "b"))
    before = {port.id for port in fleet.ports()}
    taken = next(port for port in fleet.ports() if port.name == f"{fleet.name}-b|private").fixed_ips[0]["ip_address"]
    said = str(fleet.fails({"name": f"{fleet.name}-a", "networks": [{"network": "private", "address": taken}]}))
    assert f"the address {taken} that {fleet.name}-a wants is in use" in said and {port.id for port in fleet.ports()} == before


def test_a_key_that_was_taken_out_of_the_user_data_is_reported_with_its_fingerprint(fleet):
    keys = [KEY, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS leaver"]
    fleet.run(*fleet.named("a", "b"), cloud_init={"ssh_authorized_keys": keys})
    told = fleet.run(*fleet.named("a", "b"), cloud_init={"ssh_authorized_keys": keys[:1]})
    assert not told["changed"] and told["counts"] == {"report": 2}
    assert told["table"].count(f"{fingerprint(keys[1])} may still open it") == 2 and fingerprint(keys[0]) not in told["table"]


def test_a_resize_is_finished_by_the_next_run_and_somebody_elses_is_left_to_them(fleet):
    """A run that was killed after it asked for the resize left it so."""
    fleet.run(*fleet.named("a"))
    server, sdk = fleet.server("a"), fleet.sdk
    sdk.compute.resize_server(server, sdk.compute.find_flavor("cv-nvme-4gb"))
    sdk.compute.wait_for_server(server, status="VERIFY_RESIZE", interval=0.3, wait=600)
    theirs = fleet.run(*fleet.named("a"), on_drift={"flavor": "resize"})
    assert theirs["counts"] == {"report": 1} and "a resize is to be confirmed" in theirs["table"]
    done = fleet.run(*fleet.named("a"), flavor="cv-nvme-4gb", on_drift={"flavor": "resize"})
    assert done["counts"] == {"resize": 1} and fleet.server("a").status == "ACTIVE"
    fleet.keeps(*fleet.named("a"), flavor="cv-nvme-4gb")


def test_an_instance_that_is_started_is_waited_for_as_a_new_one(fleet):
    fleet.run(*fleet.named("a"), state="stopped")
    said = str(fleet.fails(*fleet.named("a"), state="started", wait_for="ssh", wait_timeout=20))
    assert f"{fleet.name}-a: ssh at 10.20." in said and "does not answer after 20 s" in said and fleet.server("a").status == "ACTIVE"


def test_a_protected_instance_is_neither_deleted_nor_replaced(fleet):
    fleet.run(*fleet.named("a"), protected=True, zone="no-oslo-1a")
    assert "it is protected" in str(fleet.fails({"name": f"{fleet.name}-a", "state": "absent"}))
    assert "so it is not replaced" in str(
        fleet.fails(*fleet.named("a"), protected=True, zone="no-oslo-1b", on_drift={"zone": "replace"}, allow_data_loss=True)
    )
    fleet.run(*fleet.named("a"), protected=False)
    assert fleet.run({"name": f"{fleet.name}-a", "state": "absent"})["counts"] == {"delete": 1} and fleet.left() == NOTHING
    fleet.keeps({"name": f"{fleet.name}-a", "state": "absent"})


def test_the_gate_decides_one_at_a_time(fleet, tmp_path):
    fleet.run(*fleet.named("a", "b"))
    log = tmp_path / "gate"
    gate = ["sh", "-c", f"echo {{name}} {{operation}} >> {log}; test $(wc -l < {log}) -le 1"]
    failed = fleet.fails(*fleet.named("a", "b"), flavor="cv-nvme-4gb", on_drift={"flavor": "resize"}, gate=gate, wait_timeout=60)
    assert f"the gate does not let {fleet.name}-b be changed (resize)" in str(failed)
    assert log.read_text().splitlines()[0] == f"{fleet.name}-a resize"
    assert [one.flavor.original_name for one in fleet.servers()] == ["cv-nvme-4gb", "cv-nvme-2gb"]
    assert [step["name"] for step in failed.details["steps"] if step["step"] == "confirm"] == [f"{fleet.name}-a"]


def test_a_gate_that_is_slow_still_says_why_and_its_command_is_not_told(fleet):
    """Its command may hold a token."""
    fleet.run(*fleet.named("a"))
    order = dict(flavor="cv-nvme-4gb", on_drift={"flavor": "resize"}, wait_timeout=10)
    said = str(fleet.fails(*fleet.named("a"), **order, gate=["sh", "-c", "sleep 4; echo no quorum; exit 1", "a-token"]))
    assert said.endswith("be changed (resize): no quorum"), said
    said = str(fleet.fails(*fleet.named("a"), **order, gate=["sh", "-c", "sleep 100", "a-token"]))
    assert "it did not answer within 10 s" in said and "a-token" not in said, said
    said = str(fleet.fails(*fleet.named("a"), **order, gate=["/nowhere/gate", "a-token"]))
    assert "/nowhere/gate" in said and "a-token" not in said, said
    fleet.keeps(*fleet.named("a"))


def test_an_image_that_left_the_cloud_changes_nothing(cloud, fleet):
    image = fleet.sdk.create_image(f"{fleet.name}-image", data=b"x" * 512, disk_format="raw", container_format="bare", wait=True)
    fleet.run(*fleet.named("a"), image=image.name)
    fleet.sdk.image.delete_image(image)
    again = fleet.run(*fleet.named("a"), image=image.name, on_drift={"image": "replace"}, allow_data_loss=True)
    assert not again["changed"] and any("no longer in the cloud" in text for text in again["warnings"])


def test_a_dead_instance_comes_back_with_what_it_was(cloud, fleet):
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}]}
    before = fleet.run(declared)["instances"][0]
    cloud.connect("admin").compute.reset_server_state(before["id"], "error")
    told = fleet.run(declared)
    assert told["counts"] == {"report": 1} and "status: ERROR -> ACTIVE" in told["table"]
    # Each run reads it anew.
    cloud.connect("admin").compute.reset_server_state(before["id"], "active")
    assert fleet.run(declared)["counts"] == {"unchanged": 1}
    cloud.connect("admin").compute.reset_server_state(before["id"], "error")
    after = fleet.run(declared, on_drift={"status": "replace"}, allow_data_loss=True)["instances"][0]
    assert after["status"] == "ACTIVE" and re.sub("'id': '[^']*'", "", str(after["ports"])) == re.sub("'id': '[^']*'", "", str(before["ports"]))
    assert [volume["id"] for volume in after["volumes"]] == [volume["id"] for volume in before["volumes"]]


def test_a_replacement_needs_no_room_for_two(cloud, fleet):
    """The one host of this zone holds one of this flavor; the new one is asked for while the old one goes."""
    admin = cloud.connect("admin")
    flavor = admin.compute.create_flavor(name=f"{fleet.name}-wide", vcpus=1, ram=1000, disk=400000)
    try:
        declared = {"name": f"{fleet.name}-a", "flavor": flavor.name, "zone": "no-oslo-1b"}
        before = fleet.run(declared)["instances"][0]
        for number in range(3):
            after = fleet.run(declared, user_data=f"#!/bin/sh\n# {number}\n", on_drift={"user_data": "replace"}, allow_data_loss=True)["instances"][0]
            assert after["status"] == "ACTIVE" and after["ports"] == before["ports"]
            assert fleet.left() == {"servers": 1, "ports": 1, "volumes": 0, "floating": 0}
    finally:
        admin.compute.delete_flavor(flavor)


def test_two_instances_of_one_name_are_refused_with_all_ids(fleet):
    sdk = fleet.sdk
    image, flavor = sdk.image.find_image("debian-13").id, sdk.compute.find_flavor("cv-nvme-2gb").id

    def somebody(name, metadata):
        made = sdk.compute.create_server(name=name, flavor_id=flavor, image_id=image, networks="none", metadata=metadata)
        return sdk.compute.wait_for_server(made, interval=0.3, wait=600).id

    fleet.run(*fleet.named("a"))
    twin = somebody(f"{fleet.name}-a", {"nordic:fleet": fleet.name})
    sdk.compute.put(f"/servers/{twin}/tags/nordic:fleet:{fleet.name}", microversion="2.72").raise_for_status()
    said = str(fleet.fails(*fleet.named("a"), prune=True))
    assert f"the fleet {fleet.name} has 2 instances of this name" in said and all(one.id in said for one in fleet.servers())
    ids = [somebody(f"{fleet.name}-b", {}) for _each in "12"]
    said = str(fleet.fails(*fleet.named("b")))
    assert "the name is taken by 2 instances" in said and all(one in said for one in ids)
    assert len(fleet.servers()) == 4


def test_an_instance_that_the_cloud_does_not_list_is_not_made_again(fleet):
    """As those of a cell that is down: their ports tell of them. Here it lost its tag and its name."""
    fleet.run(*fleet.named("a"))
    server = fleet.server("a")
    fleet.sdk.compute.delete(f"/servers/{server.id}/tags/nordic:fleet:{fleet.name}", microversion="2.72").raise_for_status()
    fleet.sdk.compute.update_server(server, name=f"{fleet.name}-renamed")
    said = str(fleet.fails(*fleet.named("a")))
    assert f"the instance {server.id} has the port {fleet.name}-a|private of this fleet, and Nova does not list it" in said
    assert fleet.left() == {**NOTHING, "servers": 1, "ports": 1}


def test_a_server_group_without_room_is_refused_before_the_first_is_made(cloud, fleet):
    admin, project = cloud.connect("admin").compute, fleet.sdk.current_project_id
    group = fleet.sdk.compute.create_server_group(name=f"{fleet.name}-spread", policy="soft-anti-affinity")
    admin.put(f"/os-quota-sets/{project}", json={"quota_set": {"server_group_members": 2}}).raise_for_status()
    try:
        fleet.run(*fleet.named("a"), server_group=group.name)
        said = str(fleet.fails(*fleet.named("a", "b", "c"), server_group=group.name))
        assert f"members of the server group {group.name}: 2 more are needed, 1 of 2 are in use, so it is exceeded by 1" in said
        assert fleet.left() == {**NOTHING, "servers": 1, "ports": 1}
        done = fleet.run(*fleet.named("a", "b"), server_group=group.name)
        assert done["counts"] == {"unchanged": 1, "create": 1}, done["table"]
    finally:
        admin.delete(f"/os-quota-sets/{project}").raise_for_status()
        fleet.clean()
        fleet.sdk.compute.delete_server_group(group)


@pytest.mark.parametrize("mode", [True, False])
def test_an_empty_fleet_is_a_fleet(fleet, mode):
    assert fleet.run(check=mode, instances=[])["counts"] == {}
