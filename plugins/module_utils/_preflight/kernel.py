# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel: its version, what it was built with, and the modules that k3s and the CNI need."""

from __future__ import annotations

import gzip
import subprocess
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

# ---- version: (the least that works, the least that works well)

VERSIONS: Mapping[str, Tuple[Tuple[int, int], Tuple[int, int]]] = {
    # WireGuard is part of the kernel since 5.6.
    "flannel-wireguard": ((5, 6), (5, 8)),
    # Both ask for 5.10 in their own documentation; RHEL 8 has what they need in its 4.18.
    "cilium": ((5, 10), (5, 10)),
    "calico-ebpf": ((5, 10), (5, 10)),
}
# Kubernetes: 5.8 is where cgroup v2 is complete.
OTHERS = ((4, 19), (5, 8))


def versions(profile: Profile) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    return VERSIONS.get(profile.cni, OTHERS)


def version(machine: Machine, profile: Profile) -> Finding:
    least, good = versions(profile)
    found = machine.kernel()
    evidence = (f"/proc/sys/kernel/osrelease is {machine.release}",)
    if ".el8" in machine.release and found == (4, 18) and profile.cni != "flannel-wireguard":
        return Finding(WARN, machine.release, evidence + ("a kernel of RHEL 8, to which Red Hat brought what later kernels have",))
    return Finding(FAIL if found < least else WARN if found < good else PASS, machine.release or "unknown", evidence)


# ---- configuration: (symbol, what it is for, whether a node works without, for which profile)


@dataclass(frozen=True)
class Symbol:
    name: str
    purpose: str
    needed: bool = True
    applies: Callable[[Profile], bool] = lambda profile: True


SYMBOLS = (
    *(Symbol(name, "containers") for name in (
        "NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS", "CGROUPS", "CGROUP_DEVICE", "CGROUP_FREEZER", "CGROUP_SCHED", "CPUSETS", "MEMCG",
        "CGROUP_PIDS", "KEYS", "POSIX_MQUEUE", "OVERLAY_FS", "SECCOMP_FILTER")),
    Symbol("CFS_BANDWIDTH", "CPU limits"),
    Symbol("CGROUP_HUGETLB", "limits of huge pages", needed=False),
    Symbol("VETH", "pods' interfaces"),
    *(Symbol(name, "kube-proxy and network policy", applies=lambda profile: not profile.ebpf) for name in (
        "BRIDGE", "BRIDGE_NETFILTER", "NF_CONNTRACK", "NF_NAT", "NETFILTER_XT_MATCH_ADDRTYPE", "NETFILTER_XT_MATCH_CONNTRACK",
        "NETFILTER_XT_MATCH_COMMENT", "NETFILTER_XT_MATCH_MULTIPORT", "NETFILTER_XT_MARK", "NETFILTER_XT_MATCH_STATISTIC")),
    Symbol("IP_SET", "network policy", needed=False, applies=lambda profile: not profile.ebpf),
    Symbol("VXLAN", "the overlay between nodes", applies=lambda profile: profile.vxlan),
    Symbol("WIREGUARD", "flannel's encrypted backend", applies=lambda profile: profile.cni == "flannel-wireguard"),
    *(Symbol(name, "eBPF", applies=lambda profile: profile.ebpf) for name in (
        "BPF", "BPF_SYSCALL", "BPF_JIT", "NET_CLS_BPF", "NET_CLS_ACT", "NET_SCH_INGRESS", "CGROUP_BPF", "PERF_EVENTS", "FIB_RULES")),
    Symbol("DEBUG_INFO_BTF", "eBPF programs that fit any kernel", applies=lambda profile: profile.ebpf),
    Symbol("NET_SCH_FQ", "Cilium's bandwidth manager", needed=False, applies=lambda profile: profile.cni == "cilium"),
    Symbol("XFRM_USER", "Cilium's IPsec", needed=False, applies=lambda profile: profile.cni == "cilium"),
    Symbol("BLK_DEV_DM", "encrypted and logical volumes", needed=False),
    Symbol("PSI", "pressure figures of the kubelet", needed=False),
)


def configuration(machine: Machine) -> Tuple[str, Dict[str, str]]:
    """The file that tells how the kernel was built, and symbol by symbol "y", "m" or a value."""
    packed = machine.bytes("/proc/config.gz")
    if packed:
        return "/proc/config.gz", _symbols(gzip.decompress(packed).decode("utf-8", "replace"))
    for file in (f"/boot/config-{machine.release}", f"/lib/modules/{machine.release}/config", f"/usr/lib/modules/{machine.release}/config"):
        text = machine.text(file)
        if text:
            return file, _symbols(text)
    return "", {}


def _symbols(text: str) -> Dict[str, str]:
    pairs = (line[len("CONFIG_"):].split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_") and "=" in line)
    return {name: value.strip('"') for name, value in pairs}


def config(machine: Machine, profile: Profile) -> Finding:
    file, symbols = configuration(machine)
    if not file:
        return Finding(WARN, "not to be read", ("neither /proc/config.gz nor /boot/config-RELEASE exists",),
                       "Nothing, where the checks kernel_modules and ebpf pass: they ask the running kernel. Else install the kernel's own package.")
    wanted = [symbol for symbol in SYMBOLS if symbol.applies(profile)]
    missing = [symbol for symbol in wanted if symbols.get(symbol.name) not in ("y", "m")]
    evidence = [f"{file}: CONFIG_{symbol.name} is not set ({symbol.purpose}{'' if symbol.needed else ', can be done without'})" for symbol in missing]
    verdict = worst(PASS, *(FAIL if symbol.needed else WARN for symbol in missing))
    if not missing:
        return Finding(PASS, f"all {len(wanted)} options", (f"{file} has every option that {profile} needs",))
    return Finding(verdict, f"{len(missing)} of {len(wanted)} options missing", tuple(evidence), data={"missing": [symbol.name for symbol in missing]})


# ---- modules


@dataclass(frozen=True)
class Module:
    name: str
    symbol: str
    purpose: str
    needed: bool = True
    applies: Callable[[Profile], bool] = lambda profile: True


MODULES = (
    Module("overlay", "OVERLAY_FS", "containers' file systems"),
    Module("br_netfilter", "BRIDGE_NETFILTER", "network policy and services between pods of one node", applies=lambda profile: not profile.ebpf),
    Module("nf_conntrack", "NF_CONNTRACK", "services", applies=lambda profile: profile.cni != "cilium"),
    Module("iptable_nat", "IP_NF_NAT", "services by legacy iptables", needed=False, applies=lambda profile: not profile.ebpf),
    Module("nf_tables", "NF_TABLES", "services by iptables of today", needed=False, applies=lambda profile: not profile.ebpf),
    Module("xt_comment", "NETFILTER_XT_MATCH_COMMENT", "kube-proxy's rules", applies=lambda profile: not profile.ebpf),
    Module("veth", "VETH", "pods' interfaces"),
    Module("vxlan", "VXLAN", "the overlay between nodes", applies=lambda profile: profile.vxlan),
    Module("wireguard", "WIREGUARD", "flannel's encrypted backend", applies=lambda profile: profile.cni == "flannel-wireguard"),
    Module("wireguard", "WIREGUARD", "encryption between nodes, if it is switched on later", needed=False,
           applies=lambda profile: profile.cni != "flannel-wireguard"),
    Module("cls_bpf", "NET_CLS_BPF", "eBPF at interfaces", applies=lambda profile: profile.ebpf),
    Module("sch_ingress", "NET_SCH_INGRESS", "eBPF at interfaces", applies=lambda profile: profile.ebpf),
    Module("dm_crypt", "DM_CRYPT", "encrypted volumes", needed=False),
)

BUILT_IN, LOADED, LOADABLE, MISSING = "built in", "loaded", "loadable", "missing"


def state_of(module: Module, machine: Machine, symbols: Mapping[str, str], modprobe: Callable[[str], bool]) -> Tuple[str, str]:
    """Whether the kernel has a module, and how that is known."""
    if any(line.split()[:1] == [module.name] for line in machine.lines("/proc/modules")):
        return LOADED, "/proc/modules"
    folder = f"/lib/modules/{machine.release}"
    for line in machine.lines(f"{folder}/modules.builtin"):
        if _module_name(line) == module.name:
            return BUILT_IN, f"{folder}/modules.builtin"
    if symbols.get(module.symbol) == "y":
        return BUILT_IN, f"CONFIG_{module.symbol}=y"
    if machine.exists(f"/sys/module/{module.name}"):
        return LOADED if machine.exists(f"/sys/module/{module.name}/initstate") else BUILT_IN, f"/sys/module/{module.name}"
    for line in machine.lines(f"{folder}/modules.dep"):
        if _module_name(line.partition(":")[0]) == module.name:
            return LOADABLE, f"{folder}/modules.dep"
    if modprobe(module.name):
        return LOADABLE, "modprobe -n"
    return MISSING, "neither loaded nor built in, and there is no file to load"


def _module_name(path: str) -> str:
    return path.strip().rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def modprobe(name: str) -> bool:
    """Whether modprobe would find the module, by an alias too."""
    try:
        done = subprocess.run(["modprobe", "--dry-run", "--quiet", name], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def modules(machine: Machine, profile: Profile, ask: Optional[Callable[[str], bool]] = None) -> Finding:
    _file, symbols = configuration(machine)
    states: Dict[str, str] = {}
    evidence: List[str] = []
    verdicts = [PASS]
    for module in MODULES:
        if not module.applies(profile):
            continue
        state, source = state_of(module, machine, symbols, ask or modprobe)
        states[module.name] = state
        if state == MISSING:
            verdicts.append(FAIL if module.needed else WARN)
            evidence.append(f"{module.name} is missing ({module.purpose}): {source}")
        else:
            evidence.append(f"{module.name} is {state} ({source})")
    missing = [name for name, state in states.items() if state == MISSING]
    value = f"missing: {', '.join(missing)}" if missing else f"all {len(states)} there"
    # What is missing comes first, since it is what a person looks for.
    evidence.sort(key=lambda sentence: " is missing " not in sentence)
    return Finding(worst(*verdicts), value, tuple(evidence), data={"modules": states})


ROWS = (
    Check(
        name="kernel_version",
        family="kernel",
        title="Kernel version",
        threshold=lambda profile: "≥ {0[0]}.{0[1]}, better ≥ {1[0]}.{1[1]}".format(*versions(profile)),
        measure=lambda node: version(node.machine, node.profile),
        why="An old kernel lacks what the CNI and the container runtime are built on, and no longer gets security fixes.",
        mend="Install a newer kernel of the distribution and reboot.",
    ),
    Check(
        name="kernel_config",
        family="kernel",
        title="Kernel options",
        threshold=lambda profile: f"{sum(symbol.needed for symbol in SYMBOLS if symbol.applies(profile))} options set",
        measure=lambda node: config(node.machine, node.profile),
        why="What was left out when the kernel was built cannot be switched on later: pods would not start, or services not answer.",
        mend="Use the distribution's own kernel (on Debian and Ubuntu linux-image-generic or linux-image-cloud), or set the options and build anew.",
    ),
    Check(
        name="kernel_modules",
        family="kernel",
        title="Kernel modules",
        threshold=lambda profile: ", ".join(module.name for module in MODULES if module.needed and module.applies(profile)),
        measure=lambda node: modules(node.machine, node.profile),
        why="k3s and the CNI load these modules when they start. Where one is missing, the node starts and its pods cannot talk.",
        mend="Install the modules of the running kernel (on Ubuntu linux-modules-extra-$(uname -r), on RHEL kernel-modules-extra) and reboot.",
    ),
)
