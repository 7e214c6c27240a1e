# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks below k3s' folders: of which kind, through every layer, and how much is free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "afs", "lustre", "virtiofs")
GIB = 1024**3
# Bytes: (too little to install and pull images, enough for a while), by role.
SPACE = {"server": (5 * GIB, 20 * GIB), "agent": (5 * GIB, 20 * GIB)}
# The kubelet evicts pods below 10 % of space and 5 % of inodes (its default eviction thresholds are imagefs 15 %, nodefs 10 %, inodes 5 %).
SHARE, INODES = 0.15, 0.05

# From what etcd likes to what it must not be on.
NVME, SSD, VIRTUAL, UNKNOWN, ROTATIONAL, REMOTE, MEMORY = "NVMe", "SSD", "virtual disk", "unknown", "rotational", "network", "memory"
ORDER = (NVME, SSD, VIRTUAL, UNKNOWN, ROTATIONAL, REMOTE, MEMORY)


@dataclass(frozen=True)
class Disk:
    """kind: of the slowest device below; layers: from the folder down to it."""

    kind: str
    layers: Tuple[str, ...]
    evidence: Tuple[str, ...]


def disk_of(machine: Machine, folder: str, device: str = "") -> Disk:
    """device: "major:minor" as stat() says it; where it is no block device, the mount's source leads on."""
    mount = machine.mount_of(folder)
    layers = [f"{folder} on {mount.kind}"]
    if mount.kind in NETWORK:
        return Disk(REMOTE, (*layers, mount.source), (f"{folder} is on {mount.kind} from {mount.source}",))
    if mount.kind in ("tmpfs", "ramfs"):
        return Disk(MEMORY, tuple(layers), (f"{folder} is on {mount.kind}: its content is gone after a reboot",))
    if mount.kind == "overlay":
        for option in mount.options.split(","):
            if option.startswith("upperdir=") and machine.exists(option[len("upperdir="):]):
                below = disk_of(machine, option[len("upperdir="):])
                return Disk(below.kind, (*layers, *below.layers), below.evidence)
    number = device if device and not device.startswith("0:") else mount.device
    if not number.startswith("0:") and machine.exists(f"/sys/dev/block/{number}"):
        name = machine.target(f"/sys/dev/block/{number}").rpartition("/")[2]
    elif mount.source.startswith("/dev/"):
        name = machine.target(mount.source).rpartition("/")[2]
    else:
        return Disk(UNKNOWN, (*layers, mount.source), (f"{folder} is on {mount.kind} of {mount.source}, which names no block device",))
    kinds: List[Tuple[str, str]] = []
    _descend(machine, name, layers, kinds, 0)
    kind = max((kind for kind, _sentence in kinds), key=ORDER.index)
    return Disk(kind, tuple(layers), tuple(sentence for _kind, sentence in kinds))


def _descend(machine: Machine, name: str, layers: List[str], kinds: List[Tuple[str, str]], depth: int) -> None:
    """From a partition to its disk, from device mapper, RAID and loop devices to what they are made of."""
    if depth > 16:  # layers that lead to themselves would be a broken /sys
        kinds.append((UNKNOWN, f"{name}: more than 16 layers"))
        return
    here = f"/sys/class/block/{name}"
    if machine.exists(f"{here}/partition"):
        layers.append(f"{name} (partition)")
        return _descend(machine, machine.target(here).rpartition("/")[0].rpartition("/")[2], layers, kinds, depth + 1)
    slaves = machine.names(f"{here}/slaves")
    if slaves:
        label = machine.text(f"{here}/dm/name") or machine.text(f"{here}/md/level")
        layers.append(f"{name} ({label})" if label else name)
        for slave in slaves:
            _descend(machine, slave, layers, kinds, depth + 1)
        return None
    backing = machine.text(f"{here}/loop/backing_file")
    if backing:
        below = disk_of(machine, backing)
        layers += [f"{name} (loop)", *below.layers]
        kinds += [(below.kind, sentence) for sentence in below.evidence]
        return None
    layers.append(name)
    kinds.append(_device(machine, name))
    return None


def _device(machine: Machine, name: str) -> Tuple[str, str]:
    rotational = machine.number(f"/sys/class/block/{name}/queue/rotational")
    model = machine.text(f"/sys/class/block/{name}/device/model")
    called = f"{name} ({model})" if model else name
    if name.startswith("nvme"):
        return NVME, f"{called} is an NVMe device"
    if name.startswith(("zram", "ram", "pmem")):
        return (SSD if name.startswith("pmem") else MEMORY), f"{called} is memory"
    if name.startswith(("rbd", "nbd", "drbd")):
        return REMOTE, f"{called} is a disk over the network"
    sentence = f"/sys/class/block/{name}/queue/rotational is {rotational}"
    virtual = name.startswith(("vd", "xvd")) or model in ("QEMU HARDDISK", "Virtual disk", "Virtual Disk", "PersistentDisk", "Volume")
    if virtual:
        # The hypervisor's word: QEMU calls every disk rotational unless it is told otherwise.
        if rotational == 0:
            return SSD, f"{called} is a virtual disk, {sentence}"
        return VIRTUAL, f"{called} is a virtual disk, {sentence}, which says little of a virtual disk"
    if rotational == 0:
        return SSD, f"{called}: {sentence}"
    return (ROTATIONAL if rotational == 1 else UNKNOWN), f"{called}: {sentence if rotational == 1 else 'its kind is not told'}"


def kind(disk: Disk, profile: Profile) -> Finding:
    if disk.kind in (NVME, SSD):
        verdict = PASS
    elif disk.kind in (VIRTUAL, UNKNOWN):
        verdict = WARN
    elif disk.kind == MEMORY or profile.etcd:
        verdict = FAIL
    else:
        verdict = WARN
    return Finding(verdict, f"{disk.kind}: {' → '.join(disk.layers[1:]) or disk.layers[0]}", (*disk.evidence, "layers: " + " → ".join(disk.layers)),
                   data={"kind": disk.kind, "layers": list(disk.layers)})


# ---- free space


@dataclass(frozen=True)
class Room:
    """What statvfs(3) says of a folder, for root's own use."""

    folder: str
    free: int
    total: int
    free_inodes: int
    inodes: int

    @classmethod
    def of(cls, folder: str) -> Room:
        found = os.statvfs(folder)
        return cls(folder, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files)


def space(rooms: Sequence[Room], profile: Profile) -> Finding:
    least, good = SPACE[profile.role]
    verdicts = [PASS]
    evidence = []
    for room in rooms:
        share = room.free / room.total if room.total else 1.0
        evidence.append(f"statvfs({room.folder}): {room.free / GIB:.1f} of {room.total / GIB:.1f} GiB free ({share:.0%})")
        verdicts.append(FAIL if room.free < least else WARN if room.free < good or share < SHARE else PASS)
    tightest = min(rooms, key=lambda room: room.free)
    return Finding(worst(*verdicts), f"{tightest.free / GIB:.1f} GiB free in {tightest.folder}", tuple(evidence))


def inodes(rooms: Sequence[Room]) -> Finding:
    verdicts = [PASS]
    evidence = []
    values = []
    for room in rooms:
        if not room.inodes:  # Btrfs and ZFS make them as they are needed
            evidence.append(f"statvfs({room.folder}): the file system does not count inodes")
            continue
        share = room.free_inodes / room.inodes
        values.append((share, room))
        evidence.append(f"statvfs({room.folder}): {room.free_inodes} of {room.inodes} inodes free ({share:.0%})")
        verdicts.append(FAIL if share < INODES else WARN if share < 3 * INODES else PASS)
    if not values:
        return Finding(PASS, "not limited", tuple(evidence))
    share, room = min(values, key=lambda entry: entry[0])
    return Finding(worst(*verdicts), f"{share:.0%} free in {room.folder}", tuple(evidence))


def existing(folder: str) -> str:
    """The folder, or the nearest one above it: the file system that it will be on."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder.rstrip("/")) or "/"
    return folder


def device_of(folder: str) -> str:
    number = os.stat(folder).st_dev
    return f"{os.major(number)}:{os.minor(number)}"


ROWS = (
    Check(
        name="disk_kind",
        family="disk",
        title="Kind of disk",
        threshold=lambda profile: "NVMe or SSD",
        measure=lambda node: kind(disk_of(node.machine, os.path.realpath(node.state_folder), device_of(node.state_folder)), node.profile),
        why="etcd writes every change to the disk before it answers. A rotating or remote disk answers in tens of milliseconds, and leaders change.",
        mend="Put the datastore's folder on a local NVMe or SSD. For a virtual disk ask the hypervisor's operator what is below; fsync_latency measures it.",
    ),
    Check(
        name="disk_space",
        family="disk",
        title="Free space",
        threshold=lambda profile: "≥ {0} GiB, better ≥ {1} GiB and {2:.0%}".format(*(size // GIB for size in SPACE[profile.role]), SHARE),
        measure=lambda node: space([Room.of(folder) for folder in node.folders], node.profile),
        why="A full disk stops etcd for good, until somebody makes room and defragments; the kubelet throws pods out before.",
        mend="Make the file system larger, or put k3s' data on another one (data-dir).",
    ),
    Check(
        name="disk_inodes",
        family="disk",
        title="Free inodes",
        threshold=lambda profile: f"≥ {INODES:.0%}, better ≥ {3 * INODES:.0%}",
        measure=lambda node: inodes([Room.of(folder) for folder in node.folders]),
        why="Images are hundreds of thousands of small files. Without inodes nothing can be written, though there is space.",
        mend="Remove small files, or make the file system anew with more inodes (mkfs.ext4 -i).",
    ),
)
