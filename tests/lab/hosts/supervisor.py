# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes that own a set of hosts, and leave nothing behind when its users are gone.

Two processes: a keeper in mount and process namespaces of its own, and the one that made it. Processes, mounts, network
namespaces, bridge and cables of the hosts exist only inside the keeper's namespaces, so the kernel ends them with the keeper,
however that ends. The first process waits for that and removes the two things that stay: cgroups and the state folder. If it
is killed too, the next start of any hosts removes the cgroups, and a stop or start with the same folder the rest.

Users of an attached set hold a connection to its socket, as with the embedded cluster (lab.supervisor); a detached set stays
until `hosts stop`. Through the same socket hosts are switched off and on.

Started by lab.hosts as `python -m lab.hosts.supervisor STATE`, with the orders as JSON in the file `orders` there; it reports on
standard output, one JSON object a line: {"progress": …}, then {"ready": …} or {"failed": …}.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

from lab import processes
from lab.errors import LabError
from lab.hosts import cgroups, limits, network
from lab.hosts.inventory import Host, write_inventory, write_known_hosts
from lab.hosts.machine import STATE, Machine, mount, wait_for
from lab.supervisor import WELCOME

BOOTED_WITHIN = 120.0
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000


def main(arguments: Sequence[str]) -> int:
    state = Path(arguments[0])
    orders = json.loads((state / "orders").read_text())
    # Held as long as this process is there: whoever wants the folder next waits until it is removed.
    fcntl.flock(os.open(state, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_EX)
    sweep()
    try:
        # Seen from here, as the keeper's numbers of processes are its own.
        owner = [os.pidfd_open(orders["owner"])] if orders["owner"] else []
        subnet, hold = network.free_subnet()
    except (LabError, OSError) as error:
        tell(failed=str(error))
        shutil.rmtree(state, ignore_errors=True)
        return 1
    limit = limits.raise_them()
    alive, life = os.pipe()
    unshare(CLONE_NEWPID)
    keeper = os.fork()
    if keeper == 0:
        hold.close()
        os.close(limit)
        os.close(life)
        os._exit(Keeper(state, orders, subnet, [alive, *owner]).run())
    os.close(alive)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _signal(keeper, signal.SIGTERM))
    _pid, status = os.waitpid(keeper, 0)
    # The keeper was the first process of its namespace: at this point every process that came from it is dead.
    cgroups.remove(subnet.name)
    limits.lower(limit)
    shutil.rmtree(state, ignore_errors=True)
    return os.waitstatus_to_exitcode(status)


def sweep() -> None:
    """Remove what is left of sets of hosts whose processes were killed, all of them: cgroups and a raised limit."""
    for number in cgroups.sets():
        subnet = network.Subnet(number)
        hold = subnet.claim()
        if hold:
            cgroups.remove(subnet.name, within=1)
            hold.close()
    limits.restore()


def unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tell(**message: Any) -> None:
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(json.dumps(message), flush=True)


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


class Keeper:
    """Starts the hosts, waits for the users, ends."""

    def __init__(self, state: Path, orders: Dict[str, Any], subnet: network.Subnet, ends: List[int]) -> None:
        self.state = state
        self.names: List[str] = orders["names"]
        self.disks: Dict[str, str] = orders["disks"]
        self.rootfs = orders["rootfs"]
        self.detached = bool(orders["detached"])
        self.subnet = subnet
        # Readable as soon as the process that made this one has ended, or the owner.
        self.ends = ends
        self.machines: Dict[str, Machine] = {}
        self.stopping = False

    def run(self) -> int:
        processes.die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            self._move_in()
            listener = self._listen()
            info = self._start()
            (STATE / "hosts.new").write_text(json.dumps(info, indent=1))
            (STATE / "hosts.new").replace(STATE / "hosts.json")
            tell(ready=info)
            self._serve(listener)
            return 0
        except LabError as error:
            tell(failed=str(error))
        except subprocess.CalledProcessError as error:
            tell(failed=f"{error}: {(error.stderr or b'').decode(errors='replace').strip()}")
        except Exception as error:  # the starter shows it; a traceback on a closed pipe would show nothing
            tell(failed=f"{type(error).__name__}: {error}")
        return 1

    def _stop(self, *_signal: Any) -> None:
        self.stopping = True

    def _move_in(self) -> None:
        """A view of the machine in which /run is ours alone: what is mounted from now on, nobody else sees, and it ends with us."""
        unshare(CLONE_NEWNS)
        mount("--make-rprivate", "/")
        cage = self.state / "cage"
        cage.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(cage))
        for name, source in (("state", self.state), ("rootfs", Path(self.rootfs))):
            (cage / name).mkdir()
            mount("--bind", str(source), str(cage / name))
        mount("--move", str(cage), "/run")
        mount("-t", "proc", "proc", "/proc")

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(STATE / "users"))
        listener.listen(64)
        return listener

    # Start

    def _start(self) -> Dict[str, Any]:
        begin = time.monotonic()
        network.build(self.subnet)
        keys = STATE / "keys"
        keys.mkdir(mode=0o700)
        _key(keys / "root")
        hosts: List[Host] = []
        text = network.hosts_file(self.subnet, self.names)
        for index, name in enumerate(self.names):
            _key(keys / name)
            hosts.append(Host(name, self.subnet.host(index), (keys / f"{name}.pub").read_text().strip()))
            self.machines[name] = Machine(name, self.subnet, index, self.disks.get(name))
            self._install(name, text)
            self._is_wanted()
        for machine in self.machines.values():
            machine.boot()
        wait_for(list(self.machines.values()), BOOTED_WITHIN, self._is_wanted)
        # What is written is for those outside, where the folder has its own name.
        write_known_hosts(STATE / "known_hosts", hosts)
        (STATE / "inventory").mkdir()
        write_inventory(STATE / "inventory" / "hosts.yml", hosts, self.state)
        seconds = time.monotonic() - begin
        tell(progress=f"{', '.join(self.names)}: booted after {seconds:.1f} s")
        return {
            "inventory": str(self.state / "inventory" / "hosts.yml"), "hosts": {host.name: host.address for host in hosts},
            "key": str(self.state / "keys" / "root"), "known_hosts": str(self.state / "known_hosts"), "subnet": str(self.subnet.ipv4),
            "consoles": str(self.state / "machines"), "seconds": round(seconds, 2),
        }

    def _install(self, name: str, hosts_file: str) -> None:
        keys = STATE / "keys"
        self.machines[name].install(hosts_file, (keys / "root.pub").read_text(), keys / name)

    def _is_wanted(self) -> None:
        # The starter says nothing on its pipe before the hosts are ready: what is there to read is its end. Detached or not.
        ready, _ignored, _ignored = select.select([*self.ends, sys.stdin.buffer], [], [], 0)
        if self.stopping or ready:
            raise LabError("stopped while starting")

    # Users

    def _serve(self, listener: socket.socket) -> None:
        """Until the last user is gone. The starter's pipe (standard input) is the first user."""
        users: List[Any] = [] if self.detached else [sys.stdin.buffer]
        # Without their folder nobody could find them again.
        while not self.stopping and (self.detached or users) and (STATE / "orders").exists():
            ready, _ignored, _ignored = select.select([*self.ends, listener, *users], [], [], 0.2)
            if set(self.ends) & set(ready):
                return
            for one in ready:
                if one is listener:
                    users.append(_welcome(listener))
                else:
                    said = _heard(one)
                    if said:
                        self._obey(one, said)
                        continue
                    users.remove(one)
                    if one is sys.stdin.buffer and users:
                        tell(stays=True)
                    one.close()
            for machine in self.machines.values():
                machine.look()
        # From here on nobody is welcomed: who tries to join sees the end.
        (STATE / "users").unlink(missing_ok=True)
        listener.close()

    def _obey(self, user: Any, said: bytes) -> None:
        if not isinstance(user, socket.socket):
            return
        try:
            order = json.loads(said)
            answer = {"done": getattr(self, f"do_{order.pop('do')}")(**order)}
        except (LabError, subprocess.CalledProcessError) as error:
            answer = {"failed": str(error)}
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            answer = {"failed": f"not understood: {error!r}"}
        with contextlib.suppress(OSError):
            user.sendall(json.dumps(answer).encode() + b"\n")

    def do_power(self) -> Dict[str, str]:
        """Each host's state."""
        return {name: "up" if machine.booted else "boots" if machine.on else "off" for name, machine in self.machines.items()}

    def do_end(self) -> None:
        """`hosts stop`."""
        self.stopping = True

    def do_kill(self, name: str) -> None:
        self.machines[name].kill()

    def do_boot(self, name: str, fresh: bool = False) -> None:
        machine = self.machines[name]
        if machine.on:
            raise LabError(f"{name} is on")
        if fresh:
            machine.wipe()
            self._install(name, network.hosts_file(self.subnet, self.names))
        machine.boot()
        wait_for([machine], BOOTED_WITHIN)


def _key(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", str(file)],
                   check=True, capture_output=True, stdin=subprocess.DEVNULL)


def _welcome(listener: socket.socket) -> socket.socket:
    connection, _ignored = listener.accept()
    with contextlib.suppress(OSError):
        connection.sendall(WELCOME)
    return connection


def _heard(user: Any) -> bytes:
    try:
        return os.read(user.fileno(), 65536)
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
