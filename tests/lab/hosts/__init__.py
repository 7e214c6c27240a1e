# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with a real systemd and sshd, as their user sees them. Linux, root.

    with Hosts.start(["server1", "server2", "agent1"]) as hosts:
        hosts.run("server1", "systemctl is-system-running")
        subprocess.run(["ansible", "all", "-i", hosts.inventory, "-m", "ping"])

They end with the `with` block, and also when this process ends in any other way. They reach one another and this machine
reaches them, and that is all: no way leads out. They are no prison: who is root there could be root on this machine.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from lab import build, places
from lab.errors import LabError
from lab.hosts import faults, rootfs
from lab.hosts.inventory import check_names, ssh_options
from lab.hosts.machine import size_in_bytes
from lab.supervisor import WELCOME

PROGRAMS = ("systemd-nspawn", "debootstrap", "ip", "unshare", "mount", "ssh", "ssh-keygen", "mkfs.ext4", "gcc")
CONTENTS = {"orders", "users", "hosts.json", "machines", "keys", "cage"}


class AlreadyRuns(LabError):
    """The folder has running hosts; join() uses them."""


def impediment() -> str:
    """Why this machine cannot have hosts; empty when it can."""
    if not sys.platform.startswith("linux"):
        return f"hosts need Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "hosts need root (mounts, network namespaces, systemd-nspawn)"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        return f"{', '.join(missing)} is not installed; bindep.txt names the packages (profile test)"
    return ""


class Hosts:
    """Attributes: inventory (a file), names, addresses (by name), key, known_hosts, state, seconds (how long the start took)."""

    def __init__(self, state: Path, info: Mapping[str, Any], hold: Any = None) -> None:
        self.state = state
        self.inventory = Path(info["inventory"])
        self.addresses: Dict[str, str] = dict(info["hosts"])
        self.names = list(self.addresses)
        self.key = Path(info["key"])
        self.known_hosts = Path(info["known_hosts"])
        self.seconds = float(info["seconds"])
        self._hold = hold

    # Starting and ending

    @classmethod
    def start(cls, names: Sequence[str], state: Optional[Path] = None, detached: bool = False, say: build.Say = build.silent,
              disks: Optional[Mapping[str, str]] = None, owner: int = 0) -> "Hosts":
        """Start them; booted and answering ssh when this returns. Detached they stay until stop_detached().

        owner: a process id; even detached ones end with this process, however it ends.
        disks: for a host that shall have little room in /var/lib/rancher, how much: {"server1": "700m"}.
        """
        problem = impediment()
        if problem:
            raise LabError(problem)
        check_names(names)
        for name, size in (disks or {}).items():
            if name not in names:
                raise LabError(f"a disk of {size} for {name}, which is none of the hosts {', '.join(names)}")
            size_in_bytes(size)
        system = rootfs.make(say)
        if state is None:
            state = Path(tempfile.mkdtemp(prefix="nordic-hosts-"))
        else:
            state = state.absolute()
            _take(state)
        orders = {"names": list(names), "disks": dict(disks or {}), "detached": detached, "owner": owner, "rootfs": str(system)}
        (state / "orders").write_text(json.dumps(orders))
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.hosts.supervisor", str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if detached else subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(places.HERE.parent)})
        try:
            info = _report(process, say)
        except BaseException:
            _release(process)
            raise
        if detached:
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()
            process.returncode = 0  # the supervisor goes on without us; Popen shall not warn that it still runs
            return cls(state, info)
        return cls(state, info, process)

    @classmethod
    def join(cls, state: Path) -> "Hosts":
        """Use hosts that another process started; while they are joined they stay."""
        state = state.absolute()
        connection = _connect(state)
        try:
            info = json.loads((state / "hosts.json").read_text())
        except (OSError, ValueError):
            connection.close()
            raise LabError(f"no hosts are ready in {state}") from None
        return cls(state, info, connection)

    def stop(self) -> None:
        """Let them go: attached ones end with their last user."""
        hold, self._hold = self._hold, None
        if isinstance(hold, subprocess.Popen):
            _release(hold)
        elif hold is not None:
            hold.close()

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.stop()

    # Using them

    def ssh(self, name: str) -> List[str]:
        """The command that logs in to a host; what is appended is run there."""
        if name not in self.addresses:
            raise LabError(f"no host {name}; there are {', '.join(self.names)}")
        return ["ssh", *ssh_options(self.state), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-i", str(self.key), f"root@{self.addresses[name]}"]

    def run(self, name: str, command: str, check: bool = True, input: Optional[str] = None, timeout: float = 300) -> str:
        """What a shell command prints on a host; LabError with its own words when it fails, unless check is False."""
        done = subprocess.run([*self.ssh(name), command], input=input, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
        if check and done.returncode:
            raise LabError(f"{name}: `{command}` ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @property
    def machine(self) -> str:
        """The address by which the hosts see this machine."""
        return self.run(self.names[0], "echo $SSH_CONNECTION").split()[0]

    def power(self) -> Dict[str, str]:
        """up, boots or off, by name."""
        answer: Dict[str, str] = self._ask(do="power")
        return answer

    def kill(self, name: str) -> None:
        """Power off without a word to anything that runs there. What was written is kept."""
        self._ask(do="kill", name=self._known(name))

    def boot(self, name: str, fresh: bool = False) -> None:
        """Power on; fresh: with an empty disk, as a new host under the old name and address."""
        self._ask(do="boot", name=self._known(name), fresh=fresh)

    # Faults

    def fault(self, name: str, fsync_ms: int = 0, clock_seconds: int = 0) -> None:
        """A slow disk, a wrong clock, or neither again, for programs of the host that start from now on (faults.py says which)."""
        self.run(name, faults.script(fsync_ms, clock_seconds), input=base64.b64encode(faults.library().read_bytes()).decode())

    def block(self, name: str, port: int, protocol: str = "tcp") -> None:
        """The host drops what comes in for this port, as a firewall does."""
        self.run(name, f"iptables -I INPUT -p {protocol} --dport {port} -j DROP")

    def unblock(self, name: str, port: int, protocol: str = "tcp") -> None:
        self.run(name, f"iptables -D INPUT -p {protocol} --dport {port} -j DROP")

    def _known(self, name: str) -> str:
        if name not in self.addresses:
            raise LabError(f"no host {name}; there are {', '.join(self.names)}")
        return name

    def _ask(self, **order: Any) -> Any:
        with contextlib.closing(_connect(self.state)) as connection:
            connection.settimeout(180)
            connection.sendall(json.dumps(order).encode())
            answer = json.loads(connection.makefile().readline() or '{"failed": "the supervisor ended"}')
        if "failed" in answer:
            raise LabError(answer["failed"])
        return answer["done"]


def _report(process: "subprocess.Popen[str]", say: build.Say) -> Dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        message = json.loads(line)
        if "progress" in message:
            say(f"  {message['progress']}")
        elif "ready" in message:
            ready: Dict[str, Any] = message["ready"]
            return ready
        else:
            raise LabError(f"the hosts did not start: {message['failed']}")
    words = process.stderr.read() if process.stderr else ""
    raise LabError(f"the hosts' supervisor ended before they were ready\n{words.strip()}")


def _release(process: "subprocess.Popen[str]") -> None:
    """Let go, and wait for the end unless the supervisor says that others still use the hosts."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    stays = any('"stays"' in line for line in process.stdout)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
    if stays:
        process.returncode = 0
    else:
        process.wait(60)


def _take(state: Path, within: float = 60.0) -> None:
    """Make the folder ours; what killed processes left there is removed, anything else is refused."""
    with contextlib.suppress(FileNotFoundError):
        contents = {entry.name for entry in state.iterdir()}
        if contents and not contents & CONTENTS:
            raise LabError(f"{state} holds other things; give a new or an empty folder as the hosts' state")

        def runs() -> None:
            if (state / "hosts.json").exists() and is_running(state):
                raise AlreadyRuns(f"hosts run in {state} already; `hosts stop` ends them")

        _wait_for_the_owner(state, within, f"other hosts start or end in {state}", runs)
        shutil.rmtree(state)
    state.mkdir(parents=True, mode=0o700)


def _wait_for_the_owner(state: Path, within: float, problem: str, meanwhile: Any = None) -> None:
    """Until no supervisor holds this folder."""
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + within
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if meanwhile:
                    meanwhile()
            if time.monotonic() > end:
                raise LabError(f"{problem}; waited {within:.0f} s")
            time.sleep(0.05)
    finally:
        os.close(folder)


def _connect(state: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    folder = None
    try:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        # By way of the open folder, as a socket's path has to be shorter than 108 bytes.
        connection.connect(f"/proc/self/fd/{folder}/users")
        # A connection to a supervisor that is about to end is accepted by the kernel, but nobody says welcome.
        connection.settimeout(60)
        if connection.recv(1) != WELCOME:
            raise ConnectionResetError("it ends")
    except OSError as error:
        connection.close()
        raise LabError(f"no hosts run in {state} ({error.strerror or error})") from None
    finally:
        if folder is not None:
            os.close(folder)
    return connection


def is_running(state: Path) -> bool:
    """A supervisor answers there."""
    try:
        _connect(state).close()
    except LabError:
        return False
    return True


def stop_detached(state: Path, within: float = 60.0) -> bool:
    """End detached hosts; False when there are none. What killed ones left is removed too."""
    state = state.absolute()
    if not (state / "orders").exists():
        return False
    ended = []

    def end() -> None:
        with contextlib.suppress(LabError, OSError), contextlib.closing(_connect(state)) as connection:
            connection.sendall(b'{"do": "end"}')
            ended.append(state)

    with contextlib.suppress(FileNotFoundError):
        _wait_for_the_owner(state, within, f"the hosts in {state} did not end", end)
    shutil.rmtree(state, ignore_errors=True)
    from lab.hosts.supervisor import sweep
    sweep()
    return bool(ended)
