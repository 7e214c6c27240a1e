# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What shuts a tool in, and the process between ours and a static one: it ends the tool and removes its files when we are killed.

_sandbox.py hands the source of this file to a Python of its own (python -I -S -c), so it imports nothing of the collection and as
little as it can otherwise: what it costs is paid for every tool.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

import _signal as signal  # the same functions without the enumerations, which take 7 ms to import

TYPE_CHECKING = False  # typing would take 8 ms
if TYPE_CHECKING:
    from typing import Any, Iterator, List, NoReturn, Sequence

REFUSED = 125  # the exit code of a tool that was not started; the reason is on stderr after this mark
MARK = "nordic.gitops sandbox: "
LIMITS = ("RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE")
LIBRARY_PATH = "NORDIC_GITOPS_LD_LIBRARY_PATH"

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38

# linux/landlock.h. The system calls have the same numbers on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1, 2, 4, 8, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# Every right to files that a version of Landlock knows, by version; what is not handled is allowed.
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}

# (AUDIT_ARCH_…, the number of socket(2)), by os.uname().machine
SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198), "riscv64": (0xC00000F3, 198),
          "ppc64le": (0xC0000015, 326), "s390x": (0x80000016, 359)}
IO_URING_SETUP = 425  # it could open a socket without socket(2)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET = 0x00020000, 0x08000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x2, 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2


def main(words: Iterator[str]) -> NoReturn:
    """Words: our parent, the protection, whether there is a network, the limits, four lists each with its length in front, the command."""
    parent, protection, network = int(next(words)), next(words), next(words) == "network"
    limits = [int(next(words)) for _name in LIMITS]
    programs, readable, writable, removed = ([next(words) for _count in range(int(next(words)))] for _list in range(4))
    command = list(words)
    libc = ctypes.CDLL(None, use_errno=True)
    library_path = os.environ.pop(LIBRARY_PATH, None)
    os.environ.pop("LD_LIBRARY_PATH", None)
    if library_path is not None:
        os.environ["LD_LIBRARY_PATH"] = library_path

    tool = 0

    def end(*_signal: Any) -> NoReturn:
        if tool:
            os.kill(tool, signal.SIGKILL)
            os.waitpid(tool, 0)
        for folder in removed:
            _remove(folder)
        os.killpg(0, signal.SIGKILL)  # what the tool has started, and ourselves
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        end()
    ourselves = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    tool = os.fork()
    if tool == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != ourselves:
                os._exit(1)
            if protection == "landlock":
                landlock(programs, readable, writable, network)
            elif protection == "mount namespace":
                _mount_namespace(libc, programs, readable, writable, network)
            limit(0, limits)
            os.execve(command[0], command[1:], os.environ)
        except OSError as error:
            os.write(2, f"{MARK}{error.strerror or error}: {error.filename or command[0]}\n".encode("utf-8", "surrogateescape"))
        finally:
            os._exit(REFUSED)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    for standard in (0, 1, 2):
        os.close(standard)  # whoever reads them sees the end of the tool, not ours
    _pid, status = os.waitpid(tool, 0)
    tool = 0
    if os.WIFSIGNALED(status):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(ourselves, os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _remove(folder: str) -> None:
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            _quietly(os.unlink, os.path.join(place, name))
        for name in folders:
            path = os.path.join(place, name)
            _quietly(os.unlink if os.path.islink(path) else os.rmdir, path)
    _quietly(os.rmdir, folder)


def _quietly(call: Any, path: str) -> None:
    try:
        call(path)
    except OSError:
        pass


def limit(process: int, limits: Sequence[int]) -> None:
    """Give a process (0: this one) its LIMITS; where a lower one holds already, that stays."""
    if not hasattr(resource, "prlimit"):
        return  # not Linux
    for name, wanted in zip(LIMITS, limits):
        number = getattr(resource, name)
        hard = resource.prlimit(process, number)[1]
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.prlimit(process, number, (wanted, wanted))


def _call(libc: Any, name: str, *arguments: Any) -> int:
    result = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(result)


def _bytes(*numbers: int, size: int = 8) -> bytes:
    return b"".join(number.to_bytes(size, sys.byteorder) for number in numbers)


def landlock(programs: Sequence[str], readable: Sequence[str], writable: Sequence[str], network: bool) -> None:
    """Shut the calling thread in, with all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = _call(libc, "syscall", LANDLOCK_CREATE_RULESET, None, 0, 1)
    rights = RIGHTS[min(version, max(RIGHTS))]
    # Binding and connecting by TCP from version 4 on, abstract sockets and signals to other processes from version 6 on.
    attributes = _bytes(rights) + (_bytes(0 if network else 3) if version >= 4 else b"") + (_bytes(0 if network else 3) if version >= 6 else b"")
    ruleset = _call(libc, "syscall", LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for paths, allowed in ((programs, EXECUTE | READ_FILE | READ_DIR), (readable, READ_FILE | READ_DIR), (writable, rights & ~EXECUTE)):
            for path in paths:
                _allow(libc, ruleset, path, allowed & rights)
        _call(libc, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _call(libc, "syscall", LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    if not network:
        _no_sockets(libc)


def _allow(libc: Any, ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there, or below a folder that we may not enter: what we may not read the tool may not either
    try:
        _call(libc, "syscall", LANDLOCK_ADD_RULE, ruleset, 1, _bytes(rights if os.path.isdir(path) else rights & OF_FILES) + _bytes(place, size=4), 0)
    finally:
        os.close(place)


def _no_sockets(libc: Any) -> None:
    """Neither Landlock of any version nor of this one keeps a tool from UDP and from sockets in the file system; a filter of calls does."""
    machine = os.uname().machine
    if machine not in SOCKET:
        raise OSError(0, f"no sockets can be forbidden on {machine}")
    architecture, socket = SOCKET[machine]
    load, jump_if, jump_if_above, answer = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050000 | 13, 0x7FFF0000
    program = [
        (load, 0, 0, 4), (jump_if, 1, 0, architecture), (answer, 0, 0, kill),  # the calls of another architecture have other numbers
        (load, 0, 0, 0), (jump_if_above, 3, 0, 0x40000000),  # x32
        (jump_if, 2, 0, socket), (jump_if, 1, 0, IO_URING_SETUP), (answer, 0, 0, allow), (answer, 0, 0, refuse),
    ]
    code = b"".join(_bytes(what, size=2) + _bytes(yes, no, size=1) + _bytes(value, size=4) for what, yes, no, value in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]

    _call(libc, "prctl", PR_SET_SECCOMP, 2, ctypes.byref(Filter(len(program), ctypes.addressof(buffer))), 0, 0)


def _mount_namespace(libc: Any, programs: List[str], readable: List[str], writable: List[str], network: bool) -> None:
    """A file system that holds nothing else, for root on a kernel without Landlock."""
    here = os.getcwd()
    _call(libc, "unshare", CLONE_NEWNS | CLONE_NEWIPC | (0 if network else CLONE_NEWNET))
    _call(libc, "mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    # Opened in the namespace that they are mounted in, and before the new root hides what lies below /tmp.
    places = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC), path in writable)
              for path in (*programs, *readable, *writable) if os.path.exists(path)]
    _call(libc, "mount", b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID, b"mode=0755")
    os.mkdir("/tmp/.old")
    for path, place, writes in places:
        target = "/tmp" + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):  # /bin, /lib
            os.symlink(os.readlink(path), target)
            continue
        if os.path.isdir(f"/proc/self/fd/{place}"):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600))
        _call(libc, "mount", f"/proc/self/fd/{place}".encode(), os.fsencode(target), None, MS_BIND | MS_REC, None)
        if not writes:
            _call(libc, "mount", b"none", os.fsencode(target), None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, None)
    _call(libc, "syscall", {"x86_64": 155, "ppc64le": 203, "s390x": 217}.get(os.uname().machine, 41), b"/tmp", b"/tmp/.old")
    os.chdir("/")
    _call(libc, "umount2", b"/.old", MNT_DETACH)
    os.chdir(here)
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # so that root's tool can mount nothing again
    _call(libc, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


if __name__ == "__main__":
    main(iter(sys.argv[1:]))
