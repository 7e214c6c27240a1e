# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine is: bare metal, a virtual machine by which hypervisor, or a container, with the evidence."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, PASS, WARN, Check, Finding
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine

# The kernel's first namespaces have these inode numbers since they exist (include/linux/proc_ns.h): no container can have them.
FIRST_PID, FIRST_USER = "pid:[4026531836]", "user:[4026531837]"
WHOLE_USER_MAP = ["0", "0", "4294967295"]

# What an image or a runtime leaves in files, and a machine's root folder made from a container image has too.
WEAK = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"))

CGROUPS = ((r"/(?:docker|docker-[0-9a-f]{12,})", "docker"), (r"/(?:lxc|lxc\.payload|lxc\.monitor)[./]", "lxc"), (r"/kubepods", "kubernetes"),
           (r"/libpod", "podman"), (r"/machine\.slice/systemd-nspawn|/payload$", "systemd-nspawn"))

# (what DMI or the CPU says, the hypervisor): the first that is found counts.
DMI = (("QEMU", "kvm"), ("KVM", "kvm"), ("OpenStack", "kvm"), ("Amazon EC2", "kvm"), ("Google", "kvm"), ("DigitalOcean", "kvm"), ("Hetzner", "kvm"),
       ("Red Hat", "kvm"), ("Proxmox", "kvm"), ("VMware", "vmware"), ("VMW", "vmware"), ("innotek", "virtualbox"), ("VirtualBox", "virtualbox"),
       ("Xen", "xen"), ("Bochs", "bochs"), ("Parallels", "parallels"), ("BHYVE", "bhyve"), ("Hyper-V", "hyper-v"), ("Virtual Machine", "hyper-v"))
# By systemd-detect-virt, where it says another word than people do.
NAMES = {"microsoft": "hyper-v", "oracle": "virtualbox", "qemu": "qemu without kvm", "amazon": "kvm", "google": "kvm"}

ACCEPTABLE = ("bare metal", "kvm")


@dataclass(frozen=True)
class Kind:
    """name: "kvm", "lxc", "bare metal" …; sort: "container", "machine" or "metal"."""

    name: str
    sort: str
    evidence: Tuple[str, ...]


def detected() -> str:
    """systemd's word for the hypervisor, which it asks the CPU for: DMI is missing on small ones such as Firecracker. "" where it says nothing."""
    try:
        done = subprocess.run(["systemd-detect-virt", "--vm"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if done.returncode else done.stdout.strip()


def kind_of(machine: Machine, hypervisor: Callable[[], str] = lambda: "") -> Kind:
    """hypervisor: systemd's word for it, which no file tells."""
    return _container(machine) or _virtual(machine, hypervisor) or Kind("bare metal", "metal", tuple(_metal(machine)))


def _container(machine: Machine) -> Optional[Kind]:
    names: List[str] = []
    evidence: List[str] = []

    def says(name: str, sentence: str) -> None:
        names.append(name)
        evidence.append(sentence)

    if machine.exists("/proc/vz") and not machine.exists("/proc/bc"):
        says("openvz", "/proc/vz exists and /proc/bc does not: inside of an OpenVZ container")
    if re.search(r"microsoft|WSL", machine.release, re.IGNORECASE):
        says("wsl", f"/proc/sys/kernel/osrelease is {machine.release}")
    for file in ("/run/systemd/container", "/run/host/container-manager"):
        if machine.text(file):
            says(machine.text(file), f"{file} says {machine.text(file)}")
    for entry in machine.bytes("/proc/1/environ").split(b"\0"):
        if entry.startswith(b"container=") and entry != b"container=":
            name = entry[len(b"container="):].decode("utf-8", "replace")
            says(name, f"/proc/1/environ has container={name}")
    for line in machine.lines("/proc/1/cgroup"):
        for pattern, name in CGROUPS:
            if re.search(pattern, line):
                says(name, f"/proc/1/cgroup has {line}")
                break
    pid, user = machine.link("/proc/1/ns/pid"), machine.link("/proc/1/ns/user")
    if pid and pid != FIRST_PID:
        says("", f"PID 1 is in {pid}, the kernel's own PID 1 is in {FIRST_PID}")
    elif machine.text("/proc/2/comm") not in ("kthreadd", "") or (machine.text("/proc/1/comm") and not machine.exists("/proc/2")):
        says("", "PID 2 is not the kernel's kthreadd: processes are in a PID namespace")
    if user and user != FIRST_USER:
        says("", f"PID 1 is in {user}, the kernel's own PID 1 is in {FIRST_USER}")
    mapped = machine.text("/proc/1/uid_map").split()
    if mapped and mapped != WHOLE_USER_MAP:
        says("", f"/proc/1/uid_map is {' '.join(mapped)}: a user namespace, root here is not root of the kernel")
    if evidence:
        for file, name in WEAK:
            if machine.exists(file):
                says(name, f"{file} exists")
    if not evidence:
        return None
    return Kind(next((name for name in names if name), "container"), "container", tuple(dict.fromkeys(evidence)))


def _virtual(machine: Machine, hypervisor: Callable[[], str]) -> Optional[Kind]:
    evidence: List[str] = []
    names: List[str] = []
    flagged = "hypervisor" in _cpu_flags(machine)
    if flagged:
        evidence.append("/proc/cpuinfo has the flag hypervisor")
        told = hypervisor()
        if told:
            names.append(NAMES.get(told, told))
            evidence.append(f"systemd-detect-virt says {told}")
    if machine.text("/sys/hypervisor/type") == "xen":
        if "control_d" in machine.text("/proc/xen/capabilities"):
            return Kind("xen dom0", "machine", ("/proc/xen/capabilities says control_d: the first domain of Xen",))
        names.append("xen")
        evidence.append("/sys/hypervisor/type is xen")
    for field in ("sys_vendor", "product_name", "board_vendor", "bios_vendor"):
        value = machine.text(f"/sys/class/dmi/id/{field}")
        # A hypervisor's own vendor on bare metal (Google, Red Hat, Amazon) is no evidence without the CPU's flag, where the CPU has one.
        for pattern, name in DMI:
            if pattern in value and (flagged or not _has_flags(machine)) and not (name == "hyper-v" and "Microsoft" not in _dmi(machine)):
                names.append(name)
                evidence.append(f"/sys/class/dmi/id/{field} is {value}")
                break
    compatible = machine.text("/proc/device-tree/hypervisor/compatible")
    if compatible:
        names.append("kvm" if "kvm" in compatible else "xen" if "xen" in compatible else compatible)
        evidence.append(f"/proc/device-tree/hypervisor/compatible is {compatible}")
    if "kvm-clock" in machine.text("/sys/devices/system/clocksource/clocksource0/available_clocksource").split():
        names.append("kvm")
        evidence.append("/sys/devices/system/clocksource/clocksource0 offers kvm-clock")
    if not evidence:
        return None
    # KVM calls itself Hyper-V to the CPU's first leaf where it was made comfortable for Windows.
    name = "kvm" if names[:1] == ["hyper-v"] and "kvm" in names else (names or ["unknown hypervisor"])[0]
    return Kind(name, "machine", tuple(evidence))


def _metal(machine: Machine) -> List[str]:
    evidence = ["PID 1 is in the kernel's own PID namespace"] if machine.link("/proc/1/ns/pid") == FIRST_PID else []
    if _has_flags(machine):
        evidence.append("/proc/cpuinfo has no flag hypervisor")
    product = _dmi(machine)
    return evidence + ([f"DMI says {product}"] if product else ["DMI says nothing"])


def _dmi(machine: Machine) -> str:
    return " ".join(filter(None, (machine.text(f"/sys/class/dmi/id/{field}") for field in ("sys_vendor", "product_name"))))


def _has_flags(machine: Machine) -> bool:
    """Only x86 tells in its flags whether there is a hypervisor."""
    return bool(_cpu_flags(machine)) and machine.architecture in ("x86_64", "i686", "i386")


def _cpu_flags(machine: Machine) -> List[str]:
    for line in machine.lines("/proc/cpuinfo"):
        if line.startswith("flags"):
            return line.partition(":")[2].split()
    return []


def judge(kind: Kind) -> Finding:
    data = {"kind": kind.name, "sort": kind.sort}
    if kind.sort == "container":
        return Finding(FAIL, f"container: {kind.name}", kind.evidence, "Install on a KVM virtual machine or on bare metal.", data=data)
    verdict = PASS if kind.name in ACCEPTABLE else WARN
    return Finding(verdict, kind.name if kind.sort == "metal" else f"virtual machine: {kind.name}", kind.evidence, data=data)


ROWS = (
    Check(
        name="virtualisation",
        family="machine",
        title="Virtualisation",
        threshold=lambda profile: "KVM or bare metal",
        measure=lambda node: judge(kind_of(node.machine, detected)),
        why="A container shares its host's kernel: modules, sysctls, eBPF and cgroups are somebody else's, so that a node breaks when the host "
            "changes, and whoever breaks out of a pod is on the host of strangers.",
        mend="Use a KVM virtual machine or bare metal; accept it only where the hypervisor is known to be as good.",
    ),
)
