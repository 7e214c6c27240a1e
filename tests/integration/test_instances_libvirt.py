# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kvm_instance on a real libvirt with QEMU. Most guests here have an empty disk: what is asked is libvirt. One boots."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from xml.etree import ElementTree as xml

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance.libvirt import Libvirt, _record
from lab import processes
from lab.cluster import is_running
from lab.libvirt import VirtHost, python
from provisioning import VirtFleet

pytestmark = [pytest.mark.xdist_group("virt"), pytest.mark.hosts, pytest.mark.built("libvirt"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def virt():
    with VirtHost.start() as running:
        yield running


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A disk image with nothing on it."""
    path = tmp_path_factory.mktemp("image") / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "2G"], check=True)
    return path


@pytest.fixture
def fleet(virt, empty):
    made = VirtFleet(virt, empty)
    yield made
    made.clean()


def environment():
    """Of a process that needs libvirt-python."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(python()), os.environ["PYTHONPATH"]])}


def tree(fleet, suffix):
    return xml.fromstring(fleet.domains()[f"{fleet.name}-{suffix}"].XMLDesc())


def test_a_fleet_is_made_as_checked_and_a_second_run_changes_nothing(fleet):
    told = fleet.run(*fleet.named("1", "11"), metadata={"role": "server"}, check=True)
    assert told["counts"] == {"create": 2} and not fleet.domains() and not fleet.files()
    first = fleet.run(*fleet.named("1", "11"), metadata={"role": "server"})
    assert first["plan"] == told["plan"] and [one["status"] for one in first["instances"]] == ["ACTIVE", "ACTIVE"]
    assert len({one["address"] for one in first["instances"]} - {None}) == 2
    assert first["evidence"]["answered"]["provider"] == "libvirt"
    second = fleet.run(*fleet.named("1", "11"), metadata={"role": "server"})
    assert not second["changed"] and second["counts"] == {"unchanged": 2}, second["table"]
    assert fleet.run(*fleet.named("1"), metadata={"role": "server"})["undeclared"] == [f"{fleet.name}-11"]
    gone = fleet.run(*fleet.named("1"), metadata={"role": "server"}, prune=True)
    assert gone["counts"] == {"unchanged": 1, "delete": 1} and list(fleet.domains()) == [f"{fleet.name}-1"]


def test_the_disk_is_an_overlay_of_the_image_and_nvme_is_used_as_it_is_meant(virt, empty):
    fleet = VirtFleet(virt, empty, cache="none", io="native", firmware="uefi")
    try:
        fleet.run(*fleet.named("a"), volumes=[{"label": "data", "size": 1, "type": "nvme"}, {"label": "logs", "size": 1}])
        domain = tree(fleet, "a")
        disks = {disk.find("target").get("dev"): disk for disk in domain.iterfind("devices/disk")}
        assert [disks[name].find("source").get("file").rsplit("/", 1)[1].split("+")[0] for name in ("vda", "vdb", "vdc")] == ["_disk", "data", "logs"]
        assert "/nvme/" in disks["vdb"].find("source").get("file")
        assert {(disks[name].find("driver").get("cache"), disks[name].find("driver").get("io")) for name in disks} == {("none", "native")}
        backing = disks["vda"].find("backingStore/source").get("file")
        assert "/debian-12." in backing and "OVMF" in domain.findtext("os/loader") and fleet.domains()[f"{fleet.name}-a"].autostart() == 1
        paths = [volume["path"] for volume in fleet.run(*fleet.named("a"), volumes=[{"label": "data", "size": 1}, {"label": "logs", "size": 1}],
                                                        on_drift={"volumes": "report"})["instances"][0]["volumes"]]
        assert paths == [f"/dev/disk/by-id/virtio-{disks[name].findtext('serial')}" for name in ("vdb", "vdc")]
        # The nvram file of this guest goes with it, the firmware's template stays.
        nvram = domain.findtext("os/nvram")
        assert os.path.exists(domain.find("os/nvram").get("template")) and nvram
        fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
        assert fleet.files("nvme") and os.path.exists(domain.find("os/nvram").get("template"))
    finally:
        fleet.clean()


def test_volumes_and_addresses_survive_a_replacement(virt, fleet):
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}], "user_data": "#!/bin/sh\ntrue\n"}
    first = fleet.run(declared)["instances"][0]
    changed = {**declared, "user_data": "#!/bin/sh\nfalse\n"}
    seed = (virt.images / f"_seed+{fleet.name}-a+{fleet.name}").read_bytes()
    told = fleet.run(changed)
    assert not told["changed"] and "takes effect only with rebuild or replace" in told["table"]
    assert (virt.images / f"_seed+{fleet.name}-a+{fleet.name}").read_bytes() == seed
    assert "destroys the root disk" in str(fleet.fails(changed, on_drift={"user_data": "replace"}))
    done = fleet.run(changed, on_drift={"user_data": "replace"}, allow_data_loss=True)
    second = done["instances"][0]
    assert second["id"] != first["id"] and (virt.images / f"_seed+{fleet.name}-a+{fleet.name}").read_bytes() != seed
    assert (second["addresses"], second["ports"], second["volumes"]) == (first["addresses"], first["ports"], first["volumes"])
    # A guest that does not shut down is powered off, and that is said.
    assert any("did not shut down within 1 s and was powered off" in text for text in done["warnings"])
    fleet.keeps(changed)


def test_a_volume_grows_in_place_and_what_is_on_it_stays(virt, fleet):
    def declared(size):
        return {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": size}]}

    fleet.run(declared(1), state="stopped")
    path = virt.images / f"data+{fleet.name}-a+{fleet.name}"
    subprocess.run(["qemu-io", "-c", "write -P 0x5a 1M 64k", str(path)], check=True, stdout=subprocess.DEVNULL)
    for state, size in (("stopped", 2), ("started", 2), ("started", 3)):
        fleet.run(declared(size), state=state)
        assert json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", str(path)], check=True, capture_output=True).stdout)[
            "virtual-size"] == size * 1024**3
    subprocess.run(["qemu-io", "-U", "-r", "-c", "read -P 0x5a 1M 64k", str(path)], check=True, stdout=subprocess.DEVNULL)
    assert "a volume cannot become smaller" in str(fleet.fails(declared(1)))
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
    assert fleet.files() == [path.name]


def test_a_volume_that_is_taken_over_grows_at_once(fleet):
    def declared(size, **more):
        return {"name": f"{fleet.name}-a", "boot_volume": {"size": 2 + size}, "volumes": [{"label": "data", "size": size}], **more}

    fleet.run(declared(1))
    fleet.run(declared(2, user_data="#!/bin/sh\ntrue\n"), on_drift={"user_data": "replace"})
    fleet.keeps(declared(2, user_data="#!/bin/sh\ntrue\n"))
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
    assert "a volume cannot become smaller" in str(fleet.fails(declared(1)))
    fleet.run(declared(3))
    fleet.keeps(declared(3))


def test_a_disk_of_the_user_is_attached_and_never_deleted(virt, fleet):
    own = f"{fleet.name}-own.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(virt.images / own), "1G"], check=True)
    declared = {"name": f"{fleet.name}-a", "volumes": [{"volume": own}, {"label": "ours", "size": 1}]}
    assert [volume["ours"] for volume in fleet.run(declared)["instances"][0]["volumes"]] == [False, True]
    fleet.keeps(declared)
    gone = fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, delete_volumes=True)
    assert (virt.images / own).exists() and fleet.files() == [] and any(own in kept for kept in gone["plan"][0]["keeps"])
    (virt.images / own).unlink()


def test_a_volume_of_a_name_that_two_pools_have_is_neither_attached_nor_deleted(virt, fleet):
    """The file of the default pool was taken for the one that the guest has, and deleted, or attached, in its place."""
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1, "type": "nvme"}]}
    fleet.run(declared)
    (name,) = fleet.files("nvme")
    twin = virt.images / name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(twin), "1G"], check=True)
    try:
        for options in ({}, {"state": "absent"}):
            said = str(fleet.fails({**declared, **options}, delete_volumes=True))
            assert f"the volume {name} is in several pools: " in said and str(twin) in said
        assert fleet.files("nvme") == [name] and twin.exists()
        given = {"name": f"{fleet.name}-b", "volumes": [{"volume": name}]}
        assert "is in several pools" in str(fleet.fails(given))
    finally:
        twin.unlink()
    fleet.keeps(declared)
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, delete_volumes=True)
    assert fleet.files("nvme") == fleet.files() == []


def test_a_volume_that_was_made_for_another_fleet_is_never_deleted(virt, empty, fleet):
    """Its name says whose it is, and a user's own disk may have such a name too."""
    other = VirtFleet(virt, empty)
    try:
        other.run(*other.named("x"), volumes=[{"label": "data", "size": 1}])
        other.run({"name": f"{other.name}-x", "state": "absent"})
        (volume,) = other.files()
        made = fleet.run(*fleet.named("a"), volumes=[{"volume": volume}])["instances"][0]
        assert [one["ours"] for one in made["volumes"]] == [False]
        fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, delete_volumes=True)
        assert other.files() == [volume] and fleet.files() == []
    finally:
        other.clean()


def test_the_real_power_state_is_read_and_enforced(fleet):
    fleet.run(*fleet.named("a", "b"))
    fleet.domains()[f"{fleet.name}-a"].destroy()
    fleet.keeps(*fleet.named("a", "b"))
    done = fleet.run(*fleet.named("a", "b"), state="started")
    assert done["counts"] == {"start": 1, "unchanged": 1} and fleet.domains()[f"{fleet.name}-a"].isActive()


def test_a_resize_keeps_the_disk_and_the_marks(fleet):
    fleet.run(*fleet.named("a"))
    fleet.domains()[f"{fleet.name}-a"].destroy()
    done = fleet.run(*fleet.named("a"), flavor="2 vCPU, 384 MB, 3 GB", on_drift={"flavor": "resize"})
    assert done["counts"] == {"resize": 1}
    domain = tree(fleet, "a")
    assert (domain.findtext("vcpu"), domain.findtext("memory")) == ("2", str(384 * 1024)) and not fleet.domains()[f"{fleet.name}-a"].isActive()
    fleet.keeps(*fleet.named("a"), flavor="2 vCPU, 384 MB, 3 GB")
    assert "would become smaller" in str(fleet.fails(*fleet.named("a"), on_drift={"flavor": "resize"}))


def test_metadata_and_networks_change_in_place(fleet):
    fleet.run(*fleet.named("a"), metadata={"role": "server", "old": "x"})
    before = fleet.domains()[f"{fleet.name}-a"].UUIDString()
    done = fleet.run(*fleet.named("a"), metadata={"role": "agent <&> '\""}, networks=[{"network": "default"}, {"network": "default", "address": None}])
    one = done["instances"][0]
    assert (one["id"], one["metadata"], len(one["ports"])) == (before, {"role": "agent <&> '\""}, 2)
    fleet.keeps(*fleet.named("a"), metadata={"role": "agent <&> '\""}, networks=[{"network": "default"}, {"network": "default"}])


def test_a_dead_instance_comes_back_with_what_it_was(virt, fleet):
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}]}
    before = fleet.run(declared)["instances"][0]
    fleet.domains()[f"{fleet.name}-a"].destroy()
    (virt.images / f"_disk+{fleet.name}-a+{fleet.name}").unlink()
    told = fleet.run(declared)
    assert told["counts"] == {"report": 1} and "is gone" in told["table"]
    after = fleet.run(declared, on_drift={"status": "replace"}, allow_data_loss=True)["instances"][0]
    assert after["status"] == "ACTIVE" and [after[field] for field in ("ports", "addresses", "volumes")] == [
        before[field] for field in ("ports", "addresses", "volumes")]


def test_an_instance_whose_definition_was_lost_gets_its_disk_back(virt, fleet):
    before = fleet.run(*fleet.named("a"))["instances"][0]
    path = virt.images / f"_disk+{fleet.name}-a+{fleet.name}"
    domain = fleet.domains()[f"{fleet.name}-a"]
    domain.destroy()
    domain.undefine()
    subprocess.run(["qemu-io", "-c", "write -P 0x5a 1M 64k", str(path)], check=True, stdout=subprocess.DEVNULL)
    after = fleet.run(*fleet.named("a"))["instances"][0]
    assert after["addresses"] == before["addresses"]
    subprocess.run(["qemu-io", "-U", "-r", "-c", "read -P 0x5a 1M 64k", str(path)], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def held(path):
    """Another process has it open, and locked, so QEMU is not let at it."""
    holder = subprocess.Popen(["qemu-io", "-f", "raw", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdin.write(b"length\n")
    holder.stdin.flush()
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.stdin.close()
        holder.wait()


def test_a_disk_that_was_found_survives_a_creation_that_fails(virt, fleet):
    """It may be the only copy of what is on it. The domain that did not start stays defined, and the next run removes it."""
    fleet.run(*fleet.named("a"))
    path, own = virt.images / f"_disk+{fleet.name}-a+{fleet.name}", virt.images / f"{fleet.name}-own.raw"
    domain = fleet.domains()[f"{fleet.name}-a"]
    domain.destroy()
    domain.undefine()
    subprocess.run(["qemu-io", "-c", "write -P 0x5a 1M 64k", str(path)], check=True, stdout=subprocess.DEVNULL)
    own.write_bytes(b"\0" * 1024**2)
    declared = {"name": f"{fleet.name}-a", "volumes": [{"volume": own.name}]}
    try:
        with held(own):
            for _attempt in range(2):
                assert "was not created" in str(fleet.fails(declared)) and fleet.domains()
        assert fleet.run(declared)["instances"][0]["status"] == "ACTIVE"
        subprocess.run(["qemu-io", "-U", "-r", "-c", "read -P 0x5a 1M 64k", str(path)], check=True, stdout=subprocess.DEVNULL)
    finally:
        fleet.clean()
        own.unlink()


def test_a_guest_that_ran_before_it_was_recorded_keeps_its_disk(virt, fleet):
    """The run was killed between the start and the record of it, and the guest has been at work since."""
    fleet.run(*fleet.named("a"))
    path = virt.images / f"_disk+{fleet.name}-a+{fleet.name}"
    provider, domain = Libvirt(fleet.params(instances=[])), fleet.domains()[f"{fleet.name}-a"]
    provider._write_record(domain, {**_record(xml.fromstring(domain.XMLDesc())), "launched": False})
    fleet.keeps(*fleet.named("a"))
    domain.destroy()
    subprocess.run(["qemu-io", "-c", "write -P 0x5a 1M 2M", str(path)], check=True, stdout=subprocess.DEVNULL)
    assert fleet.run(*fleet.named("a"))["instances"][0]["status"] == "ACTIVE"
    subprocess.run(["qemu-io", "-U", "-r", "-c", "read -P 0x5a 1M 2M", str(path)], check=True, stdout=subprocess.DEVNULL)


def test_a_rebuilt_guest_is_told_both_of_its_ports(virt, fleet):
    networks = [{"network": "default"}, {"network": "default"}]
    macs = sorted(port["mac"] for port in fleet.run(*fleet.named("a"), networks=networks)["instances"][0]["ports"])
    fleet.run(*fleet.named("a"), networks=networks, state="rebuilt", allow_data_loss=True)
    assert sorted(one["match"]["macaddress"] for one in seed_of(virt, fleet, "a", "network-config")["ethernets"].values()) == macs


def test_a_disk_that_qemu_may_not_open_is_named_with_what_to_look_at(virt, fleet):
    """QEMU runs as nobody here; AppArmor denies in the same words."""
    path = virt.images / f"{fleet.name}-denied.raw"
    path.write_bytes(b"\0" * 1024**2)
    path.chmod(0o600)
    provider = Libvirt(fleet.params(instances=[]))
    try:
        with pytest.raises(Failure) as told, provider._saying("a guest"):
            provider.host.createXML(
                f"<domain type='qemu'><name>{fleet.name}-denied</name><memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os>"
                f"<devices><disk type='file'><driver name='qemu' type='raw'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk></devices>"
                "<seclabel type='static' model='dac' relabel='no'><label>+65534:+65534</label></seclabel></domain>")
        assert f"QEMU's user may not open {path}. Look at the owner and mode of it and of each folder above it" in str(told.value), str(told.value)
    finally:
        path.unlink()


def test_only_what_carries_the_mark_of_the_fleet_is_touched(virt, empty, fleet):
    """Fleets a and a-b and a domain of nobody, on one host."""
    other = VirtFleet(virt, empty, name=f"{fleet.name}-b")
    stranger = virt.connect().defineXML(
        f"<domain type='qemu'><name>{fleet.name}-own</name><memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os></domain>")
    try:
        fleet.run(*fleet.named("x", "y"))
        other.run(*other.named("x"))
        assert "the name is taken by the instance" in str(fleet.fails({"name": stranger.name()}))
        assert "belongs to the fleet" in str(fleet.fails({"name": f"{other.name}-x"}))
        fleet.run(*fleet.named("x"), prune=True, delete_volumes=True)
        assert sorted(fleet.domains()) == sorted([f"{fleet.name}-b-x", f"{fleet.name}-own", f"{fleet.name}-x"])
        fleet.run(*fleet.named("x"), protected=True)
        assert "it is protected" in str(fleet.fails({"name": f"{fleet.name}-x", "state": "absent"}))
    finally:
        other.clean()


def test_what_was_written_since_an_external_snapshot_is_neither_lost_nor_overwritten(virt, fleet):
    """As programs for backups make them: the guest goes on in an overlay, and the volume below holds what was before."""
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}]}
    first = fleet.run(declared)["instances"][0]
    domain = fleet.domains()[f"{fleet.name}-a"]
    flags = virt.libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | virt.libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    domain.snapshotCreateXML("<domainsnapshot><name>backup</name></domainsnapshot>", flags)
    disks = sorted(disk.find("source").get("file") for disk in tree(fleet, "a").iterfind("devices/disk") if disk.find("source").get("file").endswith(".backup"))
    assert len(disks) == 2, disks
    again = fleet.run(declared)
    assert not again["changed"], again["table"]
    refused = fleet.fails({**declared, "user_data": "#!/bin/sh\ntrue\n"}, on_drift={"user_data": "replace"}, allow_data_loss=True)
    assert "holds what was last written to its volume" in str(refused)
    assert "stands on its disk" in str(fleet.fails({**declared, "state": "rebuilt"}, allow_data_loss=True))
    assert fleet.domains()[f"{fleet.name}-a"].UUIDString() == first["id"] and all(os.path.exists(path) for path in disks)
    domain.destroy()
    domain.undefine()
    assert "holds what was last written to its volume" in str(fleet.fails(declared))
    assert not fleet.domains()


def test_an_image_on_which_disks_stand_is_attached_to_nobody(virt, fleet):
    """Written to, it would spoil each of them, whoever they belong to."""
    fleet.run(*fleet.named("a"))
    base = os.path.basename(next(tree(fleet, "a").iterfind("devices/disk/backingStore/source")).get("file"))
    assert f"{base} " in str(fleet.fails(*fleet.named("b"), volumes=[{"volume": base}]))
    fleet.domains()[f"{fleet.name}-a"].destroy()
    fleet.domains()[f"{fleet.name}-a"].undefine()
    assert f"stands on the volume {base}" in str(fleet.fails(*fleet.named("b"), volumes=[{"volume": base}]))
    assert not fleet.domains()


def test_a_clone_and_a_renamed_domain_are_not_taken_for_the_own(virt, fleet):
    fleet.run(*fleet.named("a"), networks=[])
    clone = xml.fromstring(fleet.domains()[f"{fleet.name}-a"].XMLDesc(virt.libvirt.VIR_DOMAIN_XML_INACTIVE))
    clone.find("name").text = f"{fleet.name}-clone"
    clone.remove(clone.find("uuid"))
    for device in [*clone.iterfind("devices/disk")]:
        clone.find("devices").remove(device)
    virt.connect().defineXML(xml.tostring(clone, "unicode"))
    done = fleet.run(*fleet.named("a"), networks=[], prune=True, prune_limit="100%")
    assert done["counts"] == {"unchanged": 1} and f"{fleet.name}-clone" in fleet.domains()
    assert "the name is taken" in str(fleet.fails(*fleet.named("a", "clone")))
    domain = fleet.domains()[f"{fleet.name}-a"]
    domain.destroy()
    domain.rename(f"{fleet.name}-old")
    assert f"is in use by the domain {domain.UUIDString()}" in str(fleet.fails(*fleet.named("a"), networks=[]))
    assert sorted(fleet.domains()) == [f"{fleet.name}-clone", f"{fleet.name}-old"]


def test_snapshots_and_checkpoints_and_a_saved_state_go_only_as_asked(fleet):
    fleet.run(*fleet.named("a", "b", "c"))
    domains = fleet.domains()
    domains[f"{fleet.name}-a"].snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    domains[f"{fleet.name}-b"].checkpointCreateXML("<domaincheckpoint><name>before</name></domaincheckpoint>")
    domains[f"{fleet.name}-c"].managedSave()
    assert "it has 1 snapshots, which hold data" in str(fleet.fails({"name": f"{fleet.name}-a", "state": "absent"}))
    told = fleet.run(prune=True, prune_limit="100%", instances=[], check=True)
    assert told["counts"] == {"skipped": 1, "delete": 2}
    changed = dict(user_data="#!/bin/sh\ntrue\n", on_drift={"user_data": "replace"})
    assert "it destroys the root disk and the snapshots" in str(fleet.fails(*fleet.named("a"), **changed))
    assert fleet.domains()[f"{fleet.name}-a"].snapshotNum() == 1 and f"_disk+{fleet.name}-a+{fleet.name}" in fleet.files()
    fleet.run(*({**one, "state": "absent"} for one in fleet.named("b", "c")))
    done = fleet.run({"name": f"{fleet.name}-a", "state": "absent"}, allow_data_loss=True)
    assert "snapshots" in done["plan"][0]["destroys"] and fleet.domains() == {} and fleet.files() == []


def test_a_guest_in_a_bridge_keeps_the_mac_address_that_a_dhcp_knows_it_by(virt, fleet):
    one = fleet.run(*fleet.named("a"), networks=[{"network": "br0"}])["instances"][0]
    interface = tree(fleet, "a").find("devices/interface")
    assert (interface.get("type"), interface.find("source").get("bridge")) == ("bridge", "br0") and one["address"] is None
    again = fleet.run(*fleet.named("a"), networks=[{"network": "bridge:br0"}])
    assert not again["changed"], again["table"]
    failed = fleet.fails(*fleet.named("a", "b"), networks=[{"network": "br0"}], wait_for="ssh", wait_timeout=1)
    assert "has no address by which it could be reached" in str(failed)
    after = fleet.run(*fleet.named("a"), networks=[{"network": "br0"}], user_data="#!/bin/sh\n", on_drift={"user_data": "replace"}, allow_data_loss=True)
    assert after["instances"][0]["ports"][0]["mac"] == one["ports"][0]["mac"] and after["instances"][0]["id"] != one["id"]
    moved = fleet.run(*fleet.named("a"), networks=[{"network": "default"}, {"network": "br0"}], user_data="#!/bin/sh\n")
    assert moved["counts"]["update"] == 1 and len(moved["instances"][0]["ports"]) == 2
    assert "is in no subnet of the network br0. It has: none" in str(fleet.fails(*fleet.named("c"), networks=[{"network": "br0", "address": "192.0.2.9"}]))


def seed_of(virt, fleet, suffix, file):
    seed = virt.images / f"_seed+{fleet.name}-{suffix}+{fleet.name}"
    done = subprocess.run(["xorriso", "-osirrox", "on", "-indev", str(seed), "-concat", "append", "-", f"/{file}", "--"], check=True, capture_output=True)
    return json.loads(done.stdout)


def test_a_fixed_address_without_dhcp_is_told_to_the_guest(virt, fleet):
    network = virt.connect().networkDefineXML(
        "<network><name>static</name><forward mode='open'/><bridge name='virbr7' stp='off'/><ip address='198.51.100.1' prefix='24'/>"
        "<ip family='ipv6' address='2001:db8::1' prefix='64'/></network>")
    network.create()
    networks = [{"network": "default"}, {"network": "static", "address": "198.51.100.7"}, {"network": "static", "address": "2001:DB8:0::7"}]
    try:
        made = fleet.run(*fleet.named("a"), networks=networks)["instances"][0]
        assert {"198.51.100.7", "2001:db8::7"} <= {each["address"] for each in made["addresses"]}
        told = list(seed_of(virt, fleet, "a", "network-config")["ethernets"].values())
        assert told[0]["dhcp4"] and told[1]["addresses"] == ["198.51.100.7/24"] and told[2]["addresses"] == ["2001:db8::7/64"]
        assert (told[1]["gateway4"], told[2]["gateway6"]) == ("198.51.100.1", "2001:db8::1")
        assert told[1]["nameservers"] == {"addresses": ["198.51.100.1"]}
        fleet.keeps(*fleet.named("a"), networks=networks)
        assert "the address 198.51.100.7 that" in str(fleet.fails(*fleet.named("b"), networks=networks[1:2]))
        # Another address would take its interface away, and never reach the guest.
        networks[1] = {"network": "static", "address": "198.51.100.8"}
        drifted = fleet.run(*fleet.named("a"), networks=networks)
        assert not drifted["changed"] and "only at its first boot" in drifted["table"]
        after = fleet.run(*fleet.named("a"), networks=networks, on_drift={"networks": "replace"}, allow_data_loss=True)["instances"][0]
        assert "198.51.100.8" in {each["address"] for each in after["addresses"]} and after["id"] != made["id"]
        assert list(seed_of(virt, fleet, "a", "network-config")["ethernets"].values())[1]["addresses"] == ["198.51.100.8/24"]
        fleet.keeps(*fleet.named("a"), networks=networks)
    finally:
        fleet.clean()
        network.destroy()
        network.undefine()


def test_a_pool_without_files_is_refused(virt, fleet):
    """The kernel need not know LVM for that."""
    definition = "<pool type='logical'><name>vg0</name><source><name>vg0</name></source><target><path>/dev/vg0</path></target></pool>"
    pool = virt.connect().storagePoolDefineXML(definition)
    try:
        said = str(VirtFleet(virt, fleet.image, name=fleet.name, pool="vg0").fails(*fleet.named("a")))
        assert "the storage pool vg0 is of type logical. Instances need a pool whose volumes are files: dir, fs, netfs." in said, said
        assert "there is no volume type vg0" in str(fleet.fails(*fleet.named("a"), volumes=[{"label": "data", "size": 1, "type": "vg0"}]))
    finally:
        pool.undefine()


def test_a_user_without_permission_is_told_so(virt, fleet):
    """As nobody, who may not even enter the folder of the socket."""
    context = multiprocessing.get_context("fork")
    told = context.Queue()

    def as_nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        told.put(str(fleet.fails(*fleet.named("a"))))

    process = context.Process(target=as_nobody)
    process.start()
    said = told.get(timeout=60)
    process.join()
    assert "no connection to libvirt" in said and "The user has to be in the group libvirt there, or root." in said, said


def test_a_domain_that_could_not_start_is_finished_by_the_next_run(virt, fleet):
    """QEMU is not let at a volume; the domain stays defined."""
    own = virt.images / f"{fleet.name}-own.raw"
    own.write_bytes(b"\0" * 1024**2)
    declared = {"name": f"{fleet.name}-a", "volumes": [{"volume": own.name}]}
    with held(own):
        said = str(fleet.fails(declared))
        assert f"{fleet.name}-a was not created" in said and own.name in said
    assert fleet.run(declared)["instances"][0]["status"] == "ACTIVE" and len(fleet.domains()) == 1
    fleet.clean()
    own.unlink()


@pytest.mark.parametrize("moment", range(6))
def test_a_killed_run_is_finished_by_the_next_one(virt, fleet, moment):
    """Killed as soon as this many of its volumes and domains are there."""
    declared = [{"name": one["name"], "volumes": [{"label": "data", "size": 1}]} for one in fleet.named("a", "b")]
    process = subprocess.Popen([sys.executable, "-m", "provisioning"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
                               env=environment())
    process.stdin.write(json.dumps({"params": fleet.params(instances=declared)}))
    process.stdin.close()
    while len(list(virt.images.glob(f"*+{fleet.name}*"))) + len(fleet.domains()) <= moment:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    fleet.run(*declared)
    assert len(fleet.domains()) == 2 and all(one.isActive() for one in fleet.domains().values())
    kinds = sorted(name.split("+")[0] for name in fleet.files())
    assert kinds == sorted(["_console", "_disk", "_seed", "data"] * 2)
    fleet.keeps(*declared)


def test_two_runs_at_once_make_no_instance_twice(fleet, monkeypatch, tmp_path):
    """As on two controllers, so that the lock on the host is what keeps them apart."""
    results = []

    def go(number):
        results.append(fleet.run(*fleet.named("a", "b", "c")))

    first = threading.Thread(target=go, args=(1,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    (tmp_path / "one").mkdir()
    first.start()
    while not list(fleet.host.images.glob(f"_lock*+{fleet.name}")):
        time.sleep(0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    (tmp_path / "two").mkdir()
    go(2)
    first.join()
    assert sorted(result["changed"] for result in results) == [False, True] and len(fleet.domains()) == 3
    assert not [name for name in fleet.files() if name.startswith("_lock")]


def test_an_image_gets_its_name_only_when_it_is_whole(virt, fleet, empty):
    """The upload broke off; and another content under the same name is another image."""
    base = next(name for name in (one["image_id"] for one in fleet.run(*fleet.named("a"))["instances"]))
    fleet.run({"name": f"{fleet.name}-a", "state": "absent"})
    (virt.images / base).unlink()
    (virt.images / f"{base}.partial").write_bytes(b"half")
    fleet.run(*fleet.named("a"))
    assert (virt.images / base).stat().st_size > 1000 and not (virt.images / f"{base}.partial").exists()


def test_the_inventory_lists_the_fleet(virt, fleet, tmp_path):
    made = fleet.run(*fleet.named("a"), metadata={"role": "server"})["instances"][0]
    file = tmp_path / "edge.instances.yml"
    file.write_text(json.dumps({"plugin": "nordic.gitops.instances", "libvirt": {"uri": virt.uri}, "region": "no-oslo-1", "fleet": fleet.name}))
    listed = json.loads(subprocess.run(["ansible-inventory", "-i", str(file), "--list"], check=True, capture_output=True, text=True, env=environment()).stdout)
    assert listed["role_server"]["hosts"] == [made["name"]]
    assert made["address"] in str(listed["_meta"]["hostvars"][made["name"]]["ansible_host"])


def test_a_host_is_reached_by_ssh(virt, empty, git_ssh, tmp_path):
    relay = tmp_path / "nc"
    relay.write_text(f"""#!{sys.executable}
import os, socket, sys, threading
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[-1])
def copy(source, target):
    while True:
        piece = os.read(source, 65536)
        if not piece:
            os._exit(0)
        while piece:
            piece = piece[os.write(target, piece):]
threading.Thread(target=copy, args=(0, peer.fileno()), daemon=True).start()
copy(peer.fileno(), 1)
""", encoding="utf-8")
    relay.chmod(0o755)
    where = f"qemu+ssh://{git_ssh.url.split('//')[1].split('/')[0]}/system?socket={virt.state}/run/libvirt-sock&keyfile={git_ssh.key}"
    fleet = VirtFleet(virt, empty, uri=f"{where}&no_verify=1&proxy=netcat&netcat={relay}")
    try:
        assert fleet.run(*fleet.named("a"))["counts"] == {"create": 1}
        fleet.keeps(*fleet.named("a"))
    finally:
        fleet.clean()
    assert "no connection to libvirt" in str(VirtFleet(virt, empty, uri=where.replace(str(git_ssh.key), str(git_ssh.other_key)) + "&no_verify=1").fails(
        *fleet.named("a")))


def test_a_detached_host_ends_with_its_owner_and_leaves_nothing(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state = tmp_path / "virt"
    host = VirtHost.start(state, detached=True, owner=owner.pid)
    assert host.connect().listAllDomains() == []
    host.connect().close()
    owner.kill()
    owner.wait()
    while is_running(state) or state.exists() or processes.naming(state):
        time.sleep(0.2)


def test_a_full_pool_is_named(virt, tmp_path):
    image = tmp_path / "large.raw"
    image.write_bytes(os.urandom(24 * 1024**2))
    fleet = VirtFleet(virt, image, pool="small")
    assert "The pool is full." in str(fleet.fails(*fleet.named("a"))) and not fleet.domains()


MISTAKES = {
    # A data volume of this name would go with the instance.
    "label": ({"volumes": [{"label": "_seed", "size": 1}]}, "'_seed' is no label for a volume"),
    "name": ({"instances": [{"name": "a+b"}]}, "'a+b' is no name for an instance on libvirt"),
    "flavor": ({"flavor": "small"}, "there is no flavor small"),
    "no size of the disk": ({"flavor": "1 vCPU, 256 MB"}, "has no disk"),
    "smaller than its image": ({"flavor": "1 vCPU, 256 MB, 1 GB"}, "the image debian-12 needs a disk of 2 GB"),
    "image": ({"image": "debian-13"}, "there is no image debian-13"),
    "network": ({"networks": [{"network": "defalt"}]}, "there is no network defalt. Close ones: default"),
    "key": ({"key": "mine"}, "there is no key pair mine"),
    "security group": ({"security_groups": ["web"]}, "there is no security group web"),
    "zone": ({"zone": "mars"}, "there is no availability zone mars"),
    "address": ({"networks": [{"network": "default", "address": "192.0.2.1"}]}, "is in no subnet of the network default"),
    "volume": ({"volumes": [{"volume": "gone"}]}, "there is no volume gone"),
    "volume type": ({"volumes": [{"label": "d", "size": 1, "type": "nvm"}]}, "there is no volume type nvm. Close ones: nvme"),
    "too much memory": ({"flavor": "1 vCPU, 9000000 MB, 2 GB"}, "ram: 9000000 more are needed"),
    "region without hosts": ({"residency": {"regions": ["no-oslo-1"]}}, "does not know which region it is in"),
    "host": ({"residency": {"endpoint_hosts": ["*.example.no"]}}, "which is not an allowed host"),
    "cloud too": ({"cloud": "nordic"}, "give either libvirt or cloud"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_before_anything_is_made(fleet, case):
    options, words = MISTAKES[case]
    said = str(fleet.fails(**{"instances": fleet.named("a"), **options}))
    assert words in said and not fleet.domains() and not fleet.files()


def test_what_is_wrong_with_the_host_is_said(virt, empty, fleet):
    def said(**libvirt):
        return str(VirtFleet(virt, empty, name=fleet.name, **libvirt).fails(*fleet.named("a")))

    assert "no connection to libvirt" in said(uri="qemu:///system?socket=/nowhere") and "Is libvirtd, or virtqemud, running there?" in said(
        uri="qemu:///system?socket=/nowhere")
    assert "has the SHA-256" in said(images=[{"name": "debian-12", "path": str(empty), "checksum": f"sha256:{'0' * 64}"}])
    assert "is no checksum" in said(images=[{"name": "debian-12", "path": str(empty), "checksum": "md5:0"}])
    assert "cannot be read" in said(images=[{"name": "debian-12", "path": "/nowhere", "checksum": f"sha256:{'0' * 64}"}])
    assert "there is no storage pool nowhere. There are: default, nvme, small." in said(pool="nowhere")
    provider = Libvirt({**fleet.defaults, "libvirt": {**fleet.defaults["libvirt"], "emulation": False}})
    provider._kvm = False
    with pytest.raises(Exception, match="KVM cannot run a guest on this host. Allow emulation"):
        provider._runs_kvm()


@pytest.mark.full  # where guests are emulated it takes minutes
@pytest.mark.timeout(5400)
def test_a_guest_boots_and_comes_back_from_a_destroyed_disk_with_the_same_keys_and_address(virt, tmp_path, tell):
    """cloud-init runs to its end without errors, ssh answers; the second guest has the first one's address and host key."""
    keys = {}
    for name in ("user", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
        keys[name] = (tmp_path / name).read_text(), (tmp_path / f"{name}.pub").read_text()
    fleet = VirtFleet(virt, virt.image, firmware="uefi")
    fleet.defaults.update(
        flavor="1 vCPU, 512 MB, 2 GB", shutdown_timeout=300, wait_for="cloud_init", wait_timeout=2400,
        ssh={"user": "debian", "private_key_file": str(tmp_path / "user"), "known_hosts_file": str(tmp_path / "known_hosts")},
        cloud_init={
            "ssh_authorized_keys": [keys["user"][1]],
            "ssh_keys": {"ed25519_private": keys["host"][0], "ed25519_public": keys["host"][1]},
            "ssh_deletekeys": False,
            "runcmd": [["sh", "-c", "echo $(hostname) > /run/hello"]],
        },
    )
    declared = {"name": f"{fleet.name}-a", "volumes": [{"label": "data", "size": 1}]}
    try:
        begin = time.monotonic()
        before = fleet.run(declared)["instances"][0]
        first = time.monotonic() - begin
        login = ["ssh", "-i", str(tmp_path / "user"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o",
                 f"UserKnownHostsFile={tmp_path / 'strict'}", f"debian@{before['address']}"]
        # The host key is the one that was given, not one that the guest made.
        (tmp_path / "strict").write_text(f"{before['address']} {keys['host'][1]}")
        said = subprocess.run([*login, f"cat /run/hello; ls {before['volumes'][0]['path']}; cloud-init query instance_id"], check=True, capture_output=True,
                              text=True).stdout
        assert said.split() == [before["name"], before["volumes"][0]["path"], before["id"]]
        assert before["name"] in fleet.run(declared, check=True)["table"]
        # What the guest's agent tells serves where no DHCP of libvirt knows an address.
        provider = Libvirt(fleet.params(instances=[]))
        assert provider._heard(fleet.domains()[before["name"]])[before["ports"][0]["mac"]] == [before["address"]]
        fleet.domains()[before["name"]].destroy()
        (virt.images / f"_disk+{before['name']}+{fleet.name}").unlink()
        begin = time.monotonic()
        done = fleet.run(declared, on_drift={"status": "replace"}, allow_data_loss=True)
        after = done["instances"][0]
        second = time.monotonic() - begin
        assert [after[field] for field in ("addresses", "ports", "volumes")] == [before[field] for field in ("addresses", "ports", "volumes")]
        said = subprocess.run([*login, "cloud-init query instance_id"], check=True, capture_output=True, text=True).stdout
        assert said.strip() == after["id"] != before["id"]
        console = provider.console(after["id"], 50)
        assert "login:" in console or "cloud-init" in console
        fleet.keeps(declared, wait_for="active")
        tell(f"a guest ({fleet.domains()[after['name']].XMLDesc().split(chr(39))[1]}): cloud-init done after {first:.0f} s, resurrected in {second:.0f} s: "
             + ", ".join(f"{step['step']} {step['seconds']}" for step in done["steps"]))
    finally:
        fleet.clean()
