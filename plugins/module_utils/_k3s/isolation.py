# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a second k3s beside the real one without their meeting: in its own network, its own processes, its own view of the folders.

Everything is gone when this process ends in any way, since the kernel ends what is in a PID namespace with its first process.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
from typing import Any, Callable, Dict, Mapping, NoReturn

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCGIFINDEX, IFF_UP = 0x8913, 0x8914, 0x8916, 0x891C, 0x8933, 1


def run_isolated(work: Callable[[], Any], binds: Mapping[str, str], address: str) -> Any:
    """What work() returns (JSON types), run where each folder of binds (target: source) hides the real one, with a loopback
    device alone that also carries the address. A Failure of it is raised here."""
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    child = _fork(libc)
    if child == 0:
        os.close(reader)
        _outer(libc, work, binds, address, writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
    finally:
        _end(child)
    if not said:
        raise Failure("the process that restores it was killed", hint="Is there enough memory? The kernel's log tells.")
    answer = json.loads(said)
    if "failure" in answer:
        raise Failure(*answer["failure"])
    return answer["value"]


def _outer(libc: Any, work: Callable[[], Any], binds: Mapping[str, str], address: str, writer: int) -> NoReturn:
    """Enter the namespaces; only a child of this process is inside of the one for processes."""
    try:
        try:
            _call(libc, "unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
        except OSError as error:
            _tell(writer, {"failure": [f"the kernel gives no namespace of its own: {error.strerror}", "", "This needs root and CAP_SYS_ADMIN."]})
            os._exit(0)
        inner = _fork(libc)
        if inner == 0:
            _tell(writer, _answer(lambda: _inside(libc, work, binds, address)))
            os._exit(0)
        os.close(writer)
        os.waitpid(inner, 0)
    finally:
        os._exit(0)


def _inside(libc: Any, work: Callable[[], Any], binds: Mapping[str, str], address: str) -> Any:
    _call(libc, "mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    for target, source in binds.items():
        if os.path.isdir(target):
            _call(libc, "mount", source.encode(), target.encode(), None, MS_BIND, None)
    _loopback(address)
    return work()


def _answer(work: Callable[[], Any]) -> Dict[str, Any]:
    try:
        return {"value": work()}
    except Failure as failure:
        return {"failure": [failure.what, failure.where, failure.hint]}
    except Exception as error:
        return {"failure": [f"{type(error).__name__}: {error}", "", ""]}


def _tell(writer: int, answer: Dict[str, Any]) -> None:
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(answer).encode())


def _loopback(address: str) -> None:
    """lo up, with the node's own address: what is restored here shall be what the node's own etcd expects to be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        name = struct.pack("16s", b"lo")
        flags, = struct.unpack_from("h", fcntl.ioctl(handle, SIOCGIFFLAGS, name + bytes(24)), 16)
        fcntl.ioctl(handle, SIOCSIFFLAGS, name + struct.pack("h", flags | IFF_UP) + bytes(22))
        index, = struct.unpack_from("i", fcntl.ioctl(handle, SIOCGIFINDEX, name + bytes(24)), 16)
        if ":" not in address:
            alias = struct.pack("16s", b"lo:1")
            for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.255")):
                fcntl.ioctl(handle, request, alias + struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(value)) + bytes(8))
            return
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFADDR, struct.pack("=16sIi", socket.inet_pton(socket.AF_INET6, address), 128, index))


def _fork(libc: Any) -> int:
    """As os.fork(), of a child that never outlives this process, whenever that is killed."""
    alive, life = os.pipe()
    child = os.fork()
    if child:
        os.close(alive)  # life stays open as long as this process is there
        return child
    os.close(life)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([alive], [], [], 0)[0]:
        os._exit(0)  # killed before we had asked for the signal
    return 0


def _call(libc: Any, name: str, *arguments: Any) -> None:
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(child, 0)
