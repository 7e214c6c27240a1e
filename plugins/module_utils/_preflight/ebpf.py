# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eBPF, asked of the running kernel: what Cilium needs, what Calico needs, what runc needs with cgroup v2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight import bpf, cgroups
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

BTF = "/sys/kernel/btf/vmlinux"
JIT = "/proc/sys/net/core/bpf_jit_enable"


@dataclass(frozen=True)
class Need:
    """What one user of eBPF cannot do without."""

    who: str
    maps: Tuple[str, ...]
    programs: Tuple[str, ...]
    btf: bool
    jit: bool


NEEDS = {
    "cilium": Need("Cilium", ("hash", "array", "program array", "perf event array", "per-CPU hash", "LRU hash", "longest prefix trie"),
                   ("socket filter", "traffic classifier", "XDP", "cgroup connect"), btf=False, jit=True),
    "calico-ebpf": Need("Calico's eBPF data plane", ("hash", "array", "program array", "perf event array", "LRU hash", "longest prefix trie"),
                        ("traffic classifier", "XDP", "cgroup connect"), btf=True, jit=True),
}
# With cgroup v2 the list of devices that a container may open is an eBPF program.
RUNC = Need("runc with cgroup v2", ("hash",), ("cgroup device",), btf=False, jit=False)


def needs_of(machine: Machine, profile: Profile) -> List[Need]:
    found = [RUNC] if cgroups.version_of(machine) == 2 else []
    return found + ([NEEDS[profile.cni]] if profile.cni in NEEDS else [])


def judge(probe: bpf.Probe, machine: Machine, profile: Profile) -> Finding:
    needs = needs_of(machine, profile)
    btf, jit = machine.bytes(BTF)[:2] in (b"\x9f\xeb", b"\xeb\x9f"), machine.number(JIT)
    problems: List[str] = []
    verdicts = [PASS]
    for need in needs:
        for kind, names, answers in (("map", need.maps, probe.maps), ("program", need.programs, probe.programs)):
            for name in names:
                if answers[name]:
                    problems.append(f"bpf() makes no {kind} of kind {name}: {answers[name]} ({need.who} needs it)")
                    verdicts.append(FAIL)
        if need.btf and not btf:
            problems.append(f"{BTF} is not there: the kernel has no BTF ({need.who} needs it)")
            verdicts.append(FAIL)
        if need.jit and jit == 0:
            problems.append(f"{JIT} is 0: every packet is interpreted ({need.who} is slow without JIT)")
            verdicts.append(WARN)
        if need is not RUNC and probe.ran:
            problems.append(f"a program that was loaded does not run: {probe.ran}")
            verdicts.append(FAIL)
    works = [f"bpf() makes maps of kind {', '.join(name for name, answer in probe.maps.items() if not answer) or 'none'}",
             f"bpf() loads programs of kind {', '.join(name for name, answer in probe.programs.items() if not answer) or 'none'}"]
    if not probe.stored:
        works.append("a value stored in a map was found again")
    if not probe.ran:
        works.append(f"a program of three instructions ran in the kernel and returned {bpf.ANSWER}")
    works.append(f"{BTF} is {'there' if btf else 'not there'}; {JIT} is {jit if jit >= 0 else 'not there'}")
    if any(mount.kind == "bpf" for mount in machine.mounts()):
        works.append("a bpf file system is mounted")
    data = {"maps": dict(probe.maps), "programs": dict(probe.programs), "btf": btf, "jit": jit}
    value = problems[0].partition(" (")[0] if problems else "maps, programs, " + ("BTF, " if btf else "no BTF, ") + ("JIT" if jit != 0 else "no JIT")
    if not needs:
        return Finding(NOT_APPLICABLE, value, tuple(works), data=data)
    return Finding(worst(*verdicts), value, tuple(problems + works), data=data)


def threshold(profile: Profile) -> str:
    need = NEEDS.get(profile.cni)
    if not need:
        return "with cgroup v2: device programs load"
    return f"{len(need.maps)} kinds of map, {len(need.programs)} of program{', BTF' if need.btf else ''}, JIT"


ROWS = (
    Check(
        name="ebpf",
        family="kernel",
        title="eBPF",
        threshold=threshold,
        measure=lambda node: judge(bpf.probe(), node.machine, node.profile),
        why="Cilium and Calico's eBPF data plane are programs in the kernel. Whether it takes them is not told by its version: lockdown, seccomp, "
            "a container or a lean build forbid what the version promises.",
        mend="Use a kernel with CONFIG_BPF_SYSCALL, CONFIG_BPF_JIT, CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF, run as root outside of containers, "
             "set net.core.bpf_jit_enable to 1; or choose a CNI without eBPF.",
    ),
)
