# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host: an overlay over the common file system, a systemd-nspawn around it, power on and off.

Everything here runs inside the supervisor's own mount and process namespaces (supervisor.py), where /run/rootfs is the
common file system and /run/state the folder of this set of hosts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import List, Optional

from lab import processes
from lab.errors import LabError
from lab.hosts import cgroups, network
from lab.hosts.ground import furnish, write

ROOTFS = Path("/run/rootfs")
STATE = Path("/run/state")
# How nspawn ends when the host asked for a reboot and no unit of the machine's systemd is there to do it.
REBOOT = 133


class Machine:
    """name; process: its nspawn, while it is on."""

    def __init__(self, name: str, subnet: network.Subnet, index: int, disk: Optional[str]) -> None:
        self.name = name
        self.subnet = subnet
        self.index = index
        self.group = f"{subnet.name}/{name}"
        self.disk = disk
        self.folder = STATE / "machines" / name
        self.root = self.folder / "root"
        self.log = self.folder / "console.log"
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.booted = False
        self.ended: Optional[int] = None
        self._notices: Optional[socket.socket] = None

    # Its disk

    def install(self, hosts_file: str, public_key: str, host_key: Path) -> None:
        """A disk as a provider hands it out: our key may log in, the host has its name and its own host key."""
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True)
        # /var is a folder of the machine's own file system, not of the overlay: containerd cannot put an overlay on an overlay,
        # and what etcd's folder takes to fsync shall be what the disk takes.
        subprocess.run(["cp", "--archive", "--reflink=auto", str(ROOTFS / "var"), str(self.folder / "var")], check=True)
        upper = self.folder / "upper"
        furnish(upper)
        write(upper / "etc" / "hostname", f"{self.name}\n")
        write(upper / "etc" / "hosts", hosts_file)
        write(upper / "root" / ".ssh" / "authorized_keys", public_key, 0o600)
        (upper / "root").chmod(0o700)
        (upper / "root" / ".ssh").chmod(0o700)
        write(upper / "etc" / "ssh" / "ssh_host_ed25519_key", host_key.read_text(), 0o600)
        write(upper / "etc" / "ssh" / "ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text())
        if os.environ.get("GOGC"):  # for k3s as for the programs of the embedded cluster
            write(upper / "etc" / "systemd" / "system.conf.d" / "go.conf", f"[Manager]\nDefaultEnvironment=GOGC={os.environ['GOGC']}\n")
        self._mount()

    def _mount(self) -> None:
        layers = f"lowerdir={ROOTFS},upperdir={self.folder}/upper,workdir={self.folder}/work"
        mount("-t", "overlay", "overlay", "-o", layers, str(self.root))
        mount("--bind", str(self.folder / "var"), str(self.root / "var"))
        if self.disk:
            rancher = self.root / "var" / "lib" / "rancher"
            rancher.mkdir(mode=0o755)
            image = self.folder / "disk"
            with image.open("wb") as file:
                file.truncate(size_in_bytes(self.disk))
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
            # The loop device goes with the mount, and the mount with the supervisor's namespace.
            mount("-o", "loop", str(image), str(rancher))
            (rancher / "lost+found").rmdir()

    def wipe(self) -> None:
        """Remove the disk: what is installed next is a new host in the old one's place."""
        subprocess.run(["umount", "--no-mtab", "--recursive", str(self.root)], check=True)
        shutil.rmtree(self.folder)

    # Its power

    def boot(self) -> None:
        network.plug(self.subnet, self.index, self.name)
        doors = cgroups.create(self.group)
        self.booted, self.ended = False, None
        self._listen()
        command = [
            "systemd-nspawn", f"--directory={self.root}", f"--machine={self.name}", f"--hostname={self.name}",
            # No systemd or D-Bus of the machine takes part.
            "--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{self.name}",
            "--capability=all", "--system-call-filter=@keyring bpf perf_event_open",
            "--bind=/dev/kmsg", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--notify-ready=yes", "--boot",
        ]
        modules = Path("/lib/modules")
        if modules.is_dir():
            command.insert(-1, f"--bind-ro={modules.resolve()}:/lib/modules")

        ask = processes.dying_with_us()

        def enter() -> None:
            ask()
            for door in doors:
                door.write_text("0")

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=enter,
                env={"PATH": os.environ.get("PATH", os.defpath), "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1", "NOTIFY_SOCKET": str(self.folder / "notices")})

    def _listen(self) -> None:
        """nspawn hands on what the host's systemd says when all that it starts at boot has started."""
        self._close()
        path = self.folder / "notices"
        path.unlink(missing_ok=True)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(path))
        self._notices.setblocking(False)

    def _close(self) -> None:
        """From then on nothing is said to us: a socket that nobody reads fills, and the host's systemd would stand still before it."""
        if self._notices:
            self._notices.close()
            self._notices = None

    def look(self) -> bool:
        """Take in what has happened; True when it is up: booted, with all that it starts at boot."""
        with contextlib.suppress(BlockingIOError):
            while self._notices:
                self.booted = b"READY=1" in self._notices.recv(4096).splitlines()
                if self.booted:
                    self._close()
        if self.process and self.process.poll() is not None:
            code = self._end(self.process.returncode)
            if code == REBOOT:
                self.boot()
        return self.booted

    @property
    def on(self) -> bool:
        return self.process is not None

    def kill(self) -> None:
        """Power off as a broken cable does it: no process of the host gets to know."""
        if not self.process:
            return
        for child in _children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        processes.end(self.process)
        self._end(-signal.SIGKILL)

    def _end(self, code: int) -> int:
        self.process, self.booted, self.ended = None, False, code
        network.unplug(self.name)
        cgroups.remove(self.group)
        return code

    def last_words(self) -> str:
        return processes.last_lines(self.log, 20)


def _children(process: int) -> List[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def mount(*arguments: str) -> None:
    answer = subprocess.run(["mount", "--no-mtab", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LabError(f"mount {' '.join(arguments)}: {answer.stderr.strip()}")


def size_in_bytes(text: str) -> int:
    """700m, 2g or a plain number."""
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    number, unit = (text[:-1], units[text[-1].lower()]) if text[-1:].lower() in units else (text, 1)
    if not number.isdigit() or int(number) * unit < 8 << 20:
        raise LabError(f"{text} is no size of a disk; at least 8m, for example 700m or 2g")
    return int(number) * unit


def wait_for(machines: List[Machine], within: float, meanwhile: object = None) -> None:
    """Until all of them are up."""
    end = time.monotonic() + within
    while True:
        # Each is looked at, not only the first that is late: one that reboots has to be started.
        up = [machine.look() for machine in machines]
        if all(up):
            return
        for machine in machines:
            if machine.ended is not None:
                raise LabError(f"{machine.name} did not boot, systemd-nspawn ended with {machine.ended}; its last lines:\n{machine.last_words()}")
        if time.monotonic() > end:
            late = [machine for machine in machines if not machine.booted]
            raise LabError(f"waited {within:.0f} s for {', '.join(one.name for one in late)} to boot; the console's last lines:\n{late[0].last_words()}")
        if callable(meanwhile):
            meanwhile()
        time.sleep(0.02)
