# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a container a ground that k3s stands on like on a machine, so that no role needs to know of it.

Written onto each host's disk when it is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

# The ground under a host, before anything else of it starts.
GROUND = """\
#!/bin/sh
set -eu
# kubelet and runc want mounts of theirs to be seen in pods.
mount --make-rshared /
# Where the machine has cgroup v1, nspawn leaves the controllers read-only; without `bind` it is the file system, everybody's, that is remounted.
for controller in /sys/fs/cgroup/*/; do
    controller=${controller%/}
    if mountpoint --quiet "$controller" && [ ! -L "$controller" ]; then
        mount -o remount,bind,rw "$controller"
    fi
done
# The kernel has only one of each of these, and kubelet writes them: a file of the host's own keeps that from the machine.
for sysctl in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    if [ -e "/proc/sys/$sysctl" ]; then
        mkdir -p "/run/lab-sysctl/${sysctl%/*}"
        cat "/proc/sys/$sysctl" > "/run/lab-sysctl/$sysctl"
        mount --bind "/run/lab-sysctl/$sysctl" "/proc/sys/$sysctl"
    fi
done
"""

# What k3s reads of its own folder, for two things that a role shall not have to know. Before each start of k3s and not once with
# the host, as that folder comes and goes and the version changes.
# 1. runc makes a pod's pause process less likely to be killed when memory is short. Where the machine's root lacks CAP_SYS_RESOURCE
#    (virtual machines for tests often do) the kernel refuses that and no pod starts, unless containerd is told to leave it.
#    containerd 1 (k3s up to 1.31) has it from k3s' template, where a key before the table is read as one in it; containerd 2 from an
#    import, as it refuses such a key.
# 2. kubelet 1.35 and later refuses cgroup v1, unless told not to.
BEFORE_K3S = """\
#!/bin/sh
set -eu
minor=$(k3s --version | sed -n 's/^k3s version v1\\.\\([0-9]*\\).*/\\1/p')
[ -n "$minor" ] || exit 0
etc=/var/lib/rancher/k3s/agent/etc
bounding=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
if [ $(( 0x$bounding >> 24 & 1 )) = 0 ]; then
    template=$etc/containerd/config.toml.tmpl
    if [ "$minor" -lt 32 ]; then
        mkdir -p "$etc/containerd"
        [ -e "$template" ] ||
            printf '%s\\n' 'plugins."io.containerd.grpc.v1.cri".restrict_oom_score_adj = true # lab' '{{ template "base" . }}' > "$template"
    else
        ! grep -qs '# lab' "$template" || rm "$template"
        mkdir -p "$etc/containerd/config-v3.toml.d"
        printf '%s\\n' 'version = 3' "[plugins.'io.containerd.cri.v1.runtime']" 'restrict_oom_score_adj = true' \\
            > "$etc/containerd/config-v3.toml.d/lab.toml"
    fi
fi
if [ "$minor" -ge 35 ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "$etc/kubelet.conf.d"
    printf '%s\\n' 'apiVersion: kubelet.config.k8s.io/v1beta1' 'kind: KubeletConfiguration' 'failCgroupV1: false' > "$etc/kubelet.conf.d/90-lab.conf"
fi
"""
K3S_UNIT = "[Service]\nExecStartPre=/usr/local/sbin/lab-before-k3s\n"

FILES: Dict[str, Tuple[int, str]] = {
    "usr/local/sbin/lab-ground": (0o755, GROUND),
    "etc/systemd/system/lab-ground.service": (0o644, """\
[Unit]
Description=The ground of a host of the lab
DefaultDependencies=no
Before=sysinit.target systemd-sysctl.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-ground
"""),
    "usr/local/sbin/lab-before-k3s": (0o755, BEFORE_K3S),
    # For k3s.service and k3s-….service, in a place where no installer and no role looks.
    "usr/local/lib/systemd/system/k3s.service.d/lab.conf": (0o644, K3S_UNIT),
    "usr/local/lib/systemd/system/k3s-.service.d/lab.conf": (0o644, K3S_UNIT),
    # The kernel's log is the machine's, /dev/kmsg is there because kubelet does not start without it.
    "etc/systemd/journald.conf.d/lab.conf": (0o644, "[Journal]\nReadKMsg=no\nStorage=persistent\nSystemMaxUse=200M\n"),
    "etc/ssh/sshd_config.d/lab.conf": (0o644, "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n"
                                              "MaxStartups 100\nMaxSessions 100\n"),
    "etc/resolv.conf": (0o644, "# No name server: the names of the hosts are in /etc/hosts.\n"),
}
MASKED = ("console-getty.service", "getty.target", "systemd-journald-audit.socket", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
          "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "systemd-udevd.service",
          # Of the machine's kernel, and a third of the time of a boot.
          "dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount")


def furnish(root: Path) -> None:
    """Write it, below the root of a file system or of a layer of one."""
    for name, (mode, text) in FILES.items():
        write(root / name, text, mode)
    units = root / "etc" / "systemd" / "system"
    wanted = units / "sysinit.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "lab-ground.service").symlink_to("/etc/systemd/system/lab-ground.service")
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """A file with its mode, and the folders it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)
    file.chmod(mode)
