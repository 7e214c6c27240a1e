# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's resources and settings: memory, CPUs, swap, sysctls, entropy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, List

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

MIB = 1024 * 1024
# MiB: (a k3s server alone takes about 750; what it needs to work), (what k3s' own documentation asks for, less what firmware keeps).
MEMORY = {"server": (1000, 1900), "agent": (400, 480)}
CPUS = {"server": 2, "agent": 1}
# Since Linux 5.18 the pool counts 256 when it is initialised, before up to 4096.
ENTROPY = 200


def memory(machine: Machine, profile: Profile) -> Finding:
    least, good = MEMORY[profile.role]
    found = 0
    for line in machine.lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            found = int(line.split()[1]) // 1024
    return Finding(FAIL if found < least else WARN if found < good else PASS, f"{found} MiB", (f"/proc/meminfo: MemTotal is {found} MiB",),
                   data={"mib": found})


def cpus(count: int, profile: Profile) -> Finding:
    return Finding(PASS if count >= CPUS[profile.role] else WARN, str(count), (f"this process may run on {count} CPUs",), data={"cpus": count})


def swap(machine: Machine) -> Finding:
    areas = [line.split() for line in machine.lines("/proc/swaps")[1:] if line.split()]
    if not areas:
        return Finding(PASS, "none", ("/proc/swaps is empty",))
    return Finding(WARN, f"{sum(int(area[2]) for area in areas) // 1024} MiB", tuple(f"/proc/swaps: {area[0]}, {area[2]} KiB" for area in areas))


@dataclass(frozen=True)
class Sysctl:
    """One setting that k3s does not make itself. wanted: the value, or the least value."""

    name: str
    wanted: int
    least: bool
    purpose: str
    verdict: str = WARN
    kubelet: bool = False  # whether the kubelet insists on it with protect-kernel-defaults; the role k3s writes these for the CIS profile
    applies: Callable[[Profile], bool] = lambda profile: True

    def holds(self, value: int) -> bool:
        return value >= self.wanted if self.least else value == self.wanted


SYSCTLS = (
    Sysctl("fs.inotify.max_user_instances", 512, True, "each container and each watch of the kubelet takes one: 'too many open files'"),
    Sysctl("fs.inotify.max_user_watches", 65536, True, "each watched file of a pod takes one"),
    Sysctl("fs.file-max", 65536, True, "open files of the whole machine", FAIL),
    Sysctl("kernel.pid_max", 32768, True, "processes and threads of all pods", FAIL),
    Sysctl("user.max_user_namespaces", 1, True, "pods with hostUsers: false"),
    Sysctl("vm.overcommit_memory", 1, False, "the kubelet's protect-kernel-defaults, which the CIS benchmark asks for", kubelet=True),
    Sysctl("vm.panic_on_oom", 0, False, "one pod that is out of memory must not stop the machine", FAIL, kubelet=True),
    Sysctl("kernel.panic", 10, False, "protect-kernel-defaults: a node that panicked comes back by itself", kubelet=True),
    Sysctl("kernel.panic_on_oops", 1, False, "protect-kernel-defaults: a node with a damaged kernel does not go on", kubelet=True),
    Sysctl("kernel.keys.root_maxkeys", 1000000, True, "protect-kernel-defaults: a key for each container", kubelet=True),
    Sysctl("kernel.keys.root_maxbytes", 25000000, True, "protect-kernel-defaults: keys for each container", kubelet=True),
)


def sysctls(machine: Machine, profile: Profile) -> Finding:
    wanted = [row for row in SYSCTLS if row.applies(profile)]
    problems: List[str] = []
    mends: List[str] = []
    verdicts = [PASS]
    for row in wanted:
        value = machine.number("/proc/sys/" + row.name.replace(".", "/"))
        if not row.holds(value):
            problems.append(f"{row.name} is {value if value >= 0 else 'not there'}, wanted {'at least ' if row.least else ''}{row.wanted}: {row.purpose}")
            mends.append(f"{row.name}={row.wanted}")
            verdicts.append(row.verdict)
    if not problems:
        return Finding(PASS, f"all {len(wanted)} as wanted", tuple(f"{row.name} {'≥' if row.least else '='} {row.wanted}" for row in wanted))
    return Finding(worst(*verdicts), f"{len(problems)} of {len(wanted)} differ", tuple(problems),
                   f"Put these into /etc/sysctl.d/90-kubelet.conf and run sysctl --system: {' '.join(mends)}.")


def entropy(machine: Machine, ready: Callable[[], bool]) -> Finding:
    available = machine.number("/proc/sys/kernel/random/entropy_avail")
    evidence = (f"/proc/sys/kernel/random/entropy_avail is {available}", f"getrandom() {'answers at once' if ready() else 'would block'}")
    if not ready():
        return Finding(FAIL, "not initialised", evidence)
    return Finding(PASS if available >= ENTROPY else WARN, f"{available} bits", evidence)


def random_is_ready() -> bool:
    try:
        return len(os.getrandom(32, os.GRND_NONBLOCK)) == 32
    except BlockingIOError:
        return False


ROWS = (
    Check(
        name="memory",
        family="machine",
        title="Memory",
        threshold=lambda profile: "≥ {0} MiB, better ≥ {1}".format(*MEMORY[profile.role]),
        measure=lambda node: memory(node.machine, node.profile),
        why="A server that runs out of memory takes its etcd member along, and then the next one gets its load.",
        mend="Give the machine more memory.",
    ),
    Check(
        name="cpus",
        family="machine",
        title="CPUs",
        threshold=lambda profile: f"≥ {CPUS[profile.role]}",
        measure=lambda node: cpus(len(os.sched_getaffinity(0)), node.profile),
        why="On one CPU etcd's heartbeats wait behind the API server's work, and leaders change under load.",
        mend="Give the machine more CPUs.",
    ),
    Check(
        name="swap",
        family="machine",
        title="Swap",
        threshold=lambda profile: "none",
        measure=lambda node: swap(node.machine),
        why="Pages of etcd and the API server that are swapped out answer in seconds; memory limits of pods no longer mean memory.",
        mend="Run swapoff -a and remove the swap entries from /etc/fstab (and systemd's .swap units and zram).",
    ),
    Check(
        name="sysctls",
        family="machine",
        title="Sysctls",
        threshold=lambda profile: f"{len(SYSCTLS)} settings",
        measure=lambda node: sysctls(node.machine, node.profile),
        why="k3s sets forwarding and conntrack itself. These it does not, and they stop a node months later, or the kubelet in its hardened profile.",
        mend="Put the values into /etc/sysctl.d and run sysctl --system.",
    ),
    Check(
        name="entropy",
        family="machine",
        title="Entropy",
        threshold=lambda profile: f"≥ {ENTROPY} bits, getrandom() does not block",
        measure=lambda node: entropy(node.machine, random_is_ready),
        why="Keys and certificates are made in the first seconds of a cluster. Without entropy the start hangs, or keys are weak.",
        mend="Give the virtual machine a virtio-rng device; on a kernel before 5.6 install rng-tools or haveged.",
    ),
)
