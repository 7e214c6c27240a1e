# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that owns the lab's libvirt: lab.supervisor's, with one component, which has all guests in its namespaces.

Started by lab.libvirt as `python -m lab.libvirt.supervisor STATE IMAGE [--detached OWNER]`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Sequence

from lab import processes
from lab.errors import LabError
from lab.hosts.network import free_subnet, ip
from lab.libvirt import library, python
from lab.supervisor import Supervisor

# What libvirt has on a machine, and where it is in the state folder.
FOLDERS = {"lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt", "etc": "/etc/libvirt"}
LIBVIRTD = """\
unix_sock_dir = "/run/libvirt"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
log_outputs = "2:stderr"
"""
QEMU = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""
NETWORK = """\
<network>
  <name>default</name>
  <forward mode="open"/>
  <bridge name="virbr0" stp="off" delay="0"/>
  <ip address="{router}" prefix="25">
    <dhcp><range start="{first}" end="{last}"/></dhcp>
  </ip>
</network>
"""
BRIDGE = "br0"
# Storage pools by their folders; one is small, so that it can be full.
POOLS = {"default": "images", "nvme": "nvme", "small": "small"}
POOL = '<pool type="dir"><name>{name}</name><target><path>{path}</path></target></pool>'


class VirtSupervisor(Supervisor):
    """bin is the guests' disk image, which need not be there yet."""

    def _start_once(self) -> Dict[str, Any]:
        begin = time.monotonic()
        self.logs.mkdir(exist_ok=True)
        self.subnet, self.hold = free_subnet()
        for name in (*FOLDERS, "run", *POOLS.values()):
            (self.state / name).mkdir(exist_ok=True)
        for name, target in (("python", python()), ("guest.qcow2", self.bin)):
            (self.state / name).unlink(missing_ok=True)
            (self.state / name).symlink_to(target)
        if self.bin.exists():
            (self.state / "guest.sha256").write_text(hashlib.sha256(self.bin.read_bytes()).hexdigest())
        (self.state / "etc" / "libvirtd.conf").write_text(LIBVIRTD)
        (self.state / "etc" / "qemu.conf").write_text(QEMU)
        for name, entry in (("passwd", "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin"), ("group", "libvirt-qemu:x:64055:")):
            (self.state / name).write_text(f"{Path('/etc', name).read_text().rstrip()}\n{entry}\n")
        self._spawn_libvirtd()
        socket = self.state / "run" / "libvirt-sock"
        self._wait_for("libvirtd's socket", socket.exists)
        uri = f"qemu:///system?socket={socket}"
        self._define(uri)
        return {"uri": uri, "supervisor": os.getpid(), "seconds": round(time.monotonic() - begin, 2)}

    def _spawn_libvirtd(self) -> None:
        state = shlex.quote(str(self.state))
        mounts = [f"mkdir -p {path} && mount --bind {state}/{name} {path}" for name, path in FOLDERS.items()]
        half = list(self.subnet.ipv4.subnets(new_prefix=25))
        script = [
            "set -e",
            "mount --make-rprivate /",
            # Else the interfaces that libvirt finds would be the machine's.
            "mount -t sysfs sysfs /sys",
            "mount -t tmpfs tmpfs /run",
            f"mkdir /run/libvirt && mount --bind {state}/run /run/libvirt",
            # Without control groups none of a guest is left when it is killed.
            "mount -t tmpfs tmpfs /sys/fs/cgroup",
            *mounts,
            # The user that Debian's package libvirt-daemon-system makes; libvirt looks for it though QEMU runs as root.
            *(f"mount --bind {state}/{name} /etc/{name}" for name in ("passwd", "group")),
            f"mount -t tmpfs -o size=16m tmpfs {state}/small",
            "ip link set lo up",
            # As its administrator has made it, with DHCP elsewhere.
            f"ip link add {BRIDGE} type bridge && ip link set {BRIDGE} up",
            "while ! ip link show uplink >/dev/null 2>&1; do sleep 0.05; done",
            f"ip addr add {half[0][2]}/25 dev uplink && ip link set uplink up",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            # Not by exec: the shell is the namespace's first process, and reaps what ends there. libvirt waits for that.
            "libvirtd --config /etc/libvirt/libvirtd.conf || exit $?",
        ]
        command = ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child=SIGKILL", "--mount-proc", "sh", "-c", "; ".join(script)]
        env = {"PATH": f"/usr/sbin:/sbin:{os.environ.get('PATH', '')}", "HOME": str(self.state), "LANG": "C.UTF-8"}
        process = processes.spawn(command, self.logs / "libvirtd.log", env)
        self.running["libvirtd"] = process
        # It is in its namespaces once their network is not ours.
        self._wait_for("libvirtd's network", lambda: os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        ip("link", "add", self.subnet.name, "type", "veth", "peer", "name", "uplink", "netns", str(process.pid))
        ip("addr", "add", f"{half[0][1]}/25", "dev", self.subnet.name)
        ip("link", "set", self.subnet.name, "up")
        ip("route", "add", str(half[1]), "via", str(half[0][2]))
        self.guests = half[1]

    def _define(self, uri: str) -> None:
        libvirt = library()
        network = NETWORK.format(router=self.guests[1], first=self.guests[10], last=self.guests[100])
        try:
            connection = libvirt.open(uri)
            connection.networkDefineXML(network).create()
            for name, folder in POOLS.items():
                connection.storagePoolDefineXML(POOL.format(name=name, path=self.state / folder)).create()
            connection.close()
        except libvirt.libvirtError as error:
            raise LabError(f"libvirt: {error}\n{processes.last_lines(self.logs / 'libvirtd.log')}") from None

    def _end_components(self) -> None:
        super()._end_components()
        # The cable goes with the other end's namespace, a moment after its last process.
        if hasattr(self, "subnet"):
            subprocess.run(["ip", "link", "delete", self.subnet.name], capture_output=True, check=False)
            self.hold.close()
        for name in (*FOLDERS, "run", *POOLS.values()):
            shutil.rmtree(self.state / name, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    state, image, *detached = arguments
    owner = int(detached[detached.index("--detached") + 1]) if detached else 0
    return VirtSupervisor(Path(state), Path(image), bool(detached), owner).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
