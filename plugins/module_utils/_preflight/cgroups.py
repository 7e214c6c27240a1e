# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups: the version, and the controllers that the kubelet asks for."""

from __future__ import annotations

from typing import List

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine

NEEDED = ("cpu", "cpuset", "memory", "pids")
ONLY_V1 = ("cpuacct", "devices", "freezer")
# Limits of block devices and huge pages, which not every cluster uses.
USEFUL_V1, USEFUL_V2 = ("blkio", "hugetlb"), ("io", "hugetlb")


def version_of(machine: Machine) -> int:
    """2 where /sys/fs/cgroup itself is cgroup2; 1 where controllers are mounted one by one, beside a cgroup2 or not; 0 where nothing is mounted."""
    kinds = {mount.path: mount.kind for mount in machine.mounts()}
    if kinds.get("/sys/fs/cgroup") == "cgroup2":
        return 2
    return 1 if "cgroup" in kinds.values() else 0


def judge(machine: Machine) -> Finding:
    version = version_of(machine)
    if version == 2:
        there = machine.text("/sys/fs/cgroup/cgroup.controllers").split()
        evidence = [f"/sys/fs/cgroup is cgroup2 with {' '.join(there)}"]
        needed, useful = list(NEEDED), list(USEFUL_V2)
    elif version == 1:
        mounted = [name for mount in machine.mounts() if mount.kind == "cgroup" for name in mount.options.split(",")]
        there = [name for name in mounted if name in NEEDED + ONLY_V1 + USEFUL_V1]
        hybrid = any(mount.kind == "cgroup2" for mount in machine.mounts())
        evidence = [f"cgroup v1{' beside an empty cgroup2' if hybrid else ''} is mounted with {' '.join(sorted(set(there)))}",
                    "a kubelet of Kubernetes 1.35 or later starts with cgroup v1 only if it is told fail-cgroupv1=false"]
        needed, useful = list(NEEDED + ONLY_V1), list(USEFUL_V1)
    else:
        return Finding(FAIL, "none", ("no cgroup file system is mounted",), "Mount cgroup2 at /sys/fs/cgroup, as systemd does at boot.")
    missing: List[str] = [name for name in needed if name not in there]
    wanting: List[str] = [name for name in useful if name not in there]
    for line in machine.lines("/proc/cgroups"):
        name, _hierarchy, _count, enabled = (line.split() + ["", "", "", ""])[:4]
        if name in missing and enabled == "0":
            evidence.append(f"/proc/cgroups: {name} is disabled (kernel command line)")
    evidence += [f"the controller {name} is missing" for name in missing]
    evidence += [f"the controller {name} is missing, which most clusters can do without" for name in wanting]
    verdict = worst(PASS, *([FAIL] if missing else []), *([WARN] if version == 1 else []))
    value = f"v{version}" + (f", missing: {' '.join(missing)}" if missing else ", all controllers" if not wanting else f", without {' '.join(wanting)}")
    return Finding(verdict, value, tuple(evidence), data={"version": version, "controllers": sorted(set(there))})


ROWS = (
    Check(
        name="cgroups",
        family="kernel",
        title="Control groups",
        threshold=lambda profile: f"v2 with {', '.join(NEEDED)}",
        measure=lambda node: judge(node.machine),
        why="Limits and requests of pods are control groups. Without a controller its limit is not enforced, and one pod takes the node down. "
            "Kubernetes ends its support of cgroup v1.",
        mend="Boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory (on a Raspberry Pi in cmdline.txt). To stay with cgroup v1, give the "
             "kubelet fail-cgroupv1=false and accept this check.",
    ),
)
