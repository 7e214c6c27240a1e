# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk below a folder, through every layer; space and inodes; fsync on real folders."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import disk, fsync
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.disk import GIB, Room
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile
from machines import lay_out, mountinfo

PCI = "sys/devices/pci0000:00"


def blocks(**disks):
    """Files and links of /sys: each disk as its number, its folder there, and what that folder says."""
    files, links = {}, {}
    for name, entry in disks.items():
        number, path, more = entry
        for key, value in more.items():
            if key == "slaves":
                for slave in value:
                    files[f"{path}/slaves/{slave}/.keep"] = ""
            else:
                files[f"{path}/{key}"] = str(value)
        files.setdefault(f"{path}/dev", number)
        for link in (f"sys/dev/block/{number}", f"sys/class/block/{name}"):
            links[link] = "../../" + path[len("sys/"):]
    return files, links


DISKS = blocks(
    nvme0n1=("259:0", f"{PCI}/0000:01:00.0/nvme/nvme0/nvme0n1", {"queue/rotational": 0, "device/model": "SAMSUNG MZQL2"}),
    nvme0n1p2=("259:2", f"{PCI}/0000:01:00.0/nvme/nvme0/nvme0n1/nvme0n1p2", {"partition": 2}),
    nvme1n1=("259:4", f"{PCI}/0000:02:00.0/nvme/nvme1/nvme1n1", {"queue/rotational": 0}),
    sda=("8:0", f"{PCI}/ata1/block/sda", {"queue/rotational": 1, "device/model": "ST4000NM"}),
    sda1=("8:1", f"{PCI}/ata1/block/sda/sda1", {"partition": 1}),
    sdb=("8:16", f"{PCI}/ata2/block/sdb", {"queue/rotational": 0, "device/model": "INTEL SSDSC2"}),
    sdc=("8:32", f"{PCI}/ata3/block/sdc", {"queue/rotational": 1, "device/model": "QEMU HARDDISK"}),
    vda=("254:0", f"{PCI}/virtio1/block/vda", {"queue/rotational": 1}),
    vdb=("254:16", f"{PCI}/virtio2/block/vdb", {"queue/rotational": 0}),
    rbd0=("251:0", "sys/devices/rbd/0/block/rbd0", {"queue/rotational": 0}),
    **{
        "dm-0": ("253:0", "sys/devices/virtual/block/dm-0", {"dm/name": "crypt", "slaves": ["nvme0n1p2"]}),
        "dm-1": ("253:1", "sys/devices/virtual/block/dm-1", {"dm/name": "vg-rancher", "slaves": ["dm-0"]}),
        "dm-2": ("253:2", "sys/devices/virtual/block/dm-2", {"dm/name": "vg-wide", "slaves": ["nvme1n1", "sda1"]}),
        "dm-3": ("253:3", "sys/devices/virtual/block/dm-3", {"dm/name": "ring", "slaves": ["dm-3"]}),
        "md0": ("9:0", "sys/devices/virtual/block/md0", {"md/level": "raid1", "slaves": ["sdb", "nvme1n1"]}),
        "loop0": ("7:0", "sys/devices/virtual/block/loop0", {"loop/backing_file": "/images/disk.img"}),
        "zram0": ("252:0", "sys/devices/virtual/block/zram0", {"queue/rotational": 0}),
    },
)


@pytest.mark.parametrize(
    ("mount", "kind", "path"),
    [
        ("259:2 / ext4 /dev/nvme0n1p2", "NVMe", "nvme0n1p2 (partition) → nvme0n1"),
        ("253:1 / xfs /dev/mapper/vg-rancher", "NVMe", "dm-1 (vg-rancher) → dm-0 (crypt) → nvme0n1p2 (partition) → nvme0n1"),
        ("253:2 / ext4 /dev/mapper/vg-wide", "rotational", "dm-2 (vg-wide) → nvme1n1 → sda1 (partition) → sda"),
        ("253:3 / ext4 /dev/mapper/ring", "unknown", "dm-3 (ring)"),
        ("9:0 / ext4 /dev/md0", "SSD", "md0 (raid1) → nvme1n1 → sdb"),
        ("8:16 / ext4 /dev/sdb", "SSD", "sdb"),
        ("8:1 / ext4 /dev/sda1", "rotational", "sda1 (partition) → sda"),
        ("8:32 / ext4 /dev/sdc", "virtual disk", "sdc"),
        ("254:0 / ext4 /dev/vda", "virtual disk", "vda"),
        ("254:16 / ext4 /dev/vdb", "SSD", "vdb"),
        ("251:0 / ext4 /dev/rbd0", "network", "rbd0"),
        ("252:0 / ext4 /dev/zram0", "memory", "zram0"),
        ("0:40 / tmpfs tmpfs", "memory", ""),
        ("0:41 / nfs4 filer:/k3s", "network", "filer:/k3s"),
        ("0:42 / zfs tank/k3s", "unknown", "tank/k3s"),
        ("0:43 / btrfs /dev/nvme0n1p2", "NVMe", "nvme0n1p2 (partition) → nvme0n1"),
    ],
)
def test_a_folders_disk_is_found_through_every_layer(tmp_path, mount, kind, path):
    files, links = DISKS
    machine = lay_out(tmp_path, {**files, "proc/self/mountinfo": mountinfo(mount)}, links)
    found = disk.disk_of(machine, "/var/lib/rancher")
    assert found.kind == kind, found
    assert " → ".join(found.layers[1:]).startswith(path), found.layers
    assert found.evidence


def test_a_loop_device_and_an_overlay_lead_to_what_is_below(tmp_path):
    files, links = DISKS
    machine = lay_out(tmp_path, {**files, "upper/x": "", "proc/self/mountinfo": mountinfo(
        "8:1 / ext4 /dev/sda1", "7:0 /mnt ext4 /dev/loop0", "0:50 /over overlay overlay rw,lowerdir=/l,upperdir=/upper,workdir=/w",
        "259:2 /images ext4 /dev/nvme0n1p2")}, links)
    assert disk.disk_of(machine, "/mnt").kind == "NVMe"
    assert disk.disk_of(machine, "/over").kind == "rotational"


@pytest.mark.parametrize(("kind", "profile", "verdict"), [
    ("NVMe", Profile(), "pass"), ("SSD", Profile(), "pass"), ("virtual disk", Profile(), "warn"), ("rotational", Profile(), "fail"),
    ("network", Profile(), "fail"), ("rotational", Profile("agent"), "warn"), ("memory", Profile("agent"), "fail"),
    ("rotational", Profile(datastore="external"), "warn"),
])
def test_a_kind_of_disk_is_judged_by_what_lies_on_it(kind, profile, verdict):
    assert disk.kind(disk.Disk(kind, ("/x on ext4", "x"), ("x",)), profile).verdict == verdict


def test_this_machines_own_disk_is_found():
    found = disk.disk_of(Machine(), os.path.realpath("/var/lib"), disk.device_of("/var/lib"))
    assert found.kind in disk.ORDER and found.evidence


@pytest.mark.parametrize(("free", "total", "verdict"), [(100, 200, "pass"), (15, 80, "warn"), (25, 1000, "warn"), (4, 80, "fail"), (0, 80, "fail")])
def test_free_space_is_judged_by_size_and_share(free, total, verdict):
    assert disk.space([Room("/x", free * GIB, total * GIB, 1, 1)], Profile()).verdict == verdict


@pytest.mark.parametrize(("free", "total", "verdict"), [(900, 1000, "pass"), (100, 1000, "warn"), (40, 1000, "fail"), (0, 0, "pass")])
def test_free_inodes_are_judged_by_share_and_not_where_there_is_no_limit(free, total, verdict):
    assert disk.inodes([Room("/x", 1, 1, free, total)]).verdict == verdict


def test_the_tightest_of_several_file_systems_decides():
    finding = disk.space([Room("/a", 100 * GIB, 200 * GIB, 1, 1), Room("/b", GIB, 200 * GIB, 1, 1)], Profile())
    assert finding.verdict == "fail" and "/b" in finding.value


# ---- fsync, on this machine's own disk


def test_measuring_leaves_nothing_behind_and_takes_the_time_it_was_given(tmp_path):
    found = fsync.measure(str(tmp_path), 0.3)
    assert list(tmp_path.iterdir()) == []
    assert len(found.ordered) >= fsync.FEWEST
    assert 0 < found.at(50) <= found.at(99) <= found.ordered[-1]


def test_fio_is_asked_for_the_same_pattern_and_leaves_nothing_behind(tmp_path):
    assert shutil.which("fio"), "fio is not installed; bindep.txt names the package (profile test)"
    found = fsync.fio(str(tmp_path), 0.3)
    assert found is not None and found.samples > 10 and 0 < found.p50 <= found.p99 <= found.p999
    assert list(tmp_path.iterdir()) == []


def test_a_fio_that_fails_is_no_fio(tmp_path):
    assert fsync.fio(str(tmp_path), 0.1, "/bin/false") is None
    assert fsync.fio(str(tmp_path), 0.1, "/no/such/fio") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_is_a_finding_with_the_reason_not_a_crash(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        finding = fsync.check(str(tmp_path))
        assert finding.verdict == "fail" and finding.value == "no space to measure"
        assert "No space left on device" in finding.evidence[0]
        assert list(tmp_path.iterdir()) == []
        assert disk.space([Room.of(str(tmp_path))], Profile()).verdict == "fail"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_read_only_disk_is_a_finding_with_the_reason(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], check=True)
    try:
        finding = fsync.check(str(tmp_path))
        assert finding.verdict == "fail" and "Read-only file system" in finding.evidence[0]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
