# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a tool on files that nobody vouches for: it reads its own folder and its program, has no network, has limits, and ends with us.

    policy = Policy(program=path, write=[folder], read=[file], network=False, limits=Limits(seconds=60), remove=[folder], allowed=False)
    ended = run([path, "template", "."], policy, folder, environment, feed=b"")      # Ended(status, out, err, protection)
    process = subprocess.Popen(wrapped([path, "cat-file", "--batch"], policy), env=environment_of(environment), …)   # for a long talk

One of PROTECTIONS is active, the first that this machine has: bubblewrap where it is installed, else Landlock with a filter of system
calls, else (for root) a mount namespace. Where there is none, a tool is refused, unless the user has allowed it by name. The limits, and
the end with its parent, hold everywhere on Linux. Whoever calls wrapped() does so in a thread that lives as long as the tool: Linux
tells of the end of the thread that started a process.

The cost is 16 ms of processor time a tool (median of 30 starts of /bin/true beside a bare one, Python 3.11), nearly all of it the start of
the Python between.
"""

from __future__ import annotations

import functools
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox_child
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused

PROTECTIONS = ("bubblewrap", "landlock", "mount namespace")
NONE = "none"  # the user allowed the tool by name

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")
# What a program that is linked dynamically needs beside itself.
LIBRARIES = ("/usr", "/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload",
             "/etc/alternatives", "/etc/localtime", "/nix/store")
# What finding a host and trusting it takes.
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
           "/etc/passwd", "/etc/group", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/ssh", "/etc/krb5.conf",
           "/etc/krb5.conf.d", "/etc/gnutls")


@dataclass(frozen=True)
class Limits:
    """What one tool may take. It is ended, or its own call fails, beyond it."""

    seconds: float = 120.0
    memory: int = 1 << 30  # bytes that it may have allocated
    output: int = 64 << 20  # bytes on stdout
    errors: int = 64 << 10  # bytes on stderr that are kept
    file: int = 64 << 20  # bytes of one file that it writes
    files: int = 1024  # open at once


@dataclass(frozen=True)
class Policy:
    """What one tool may do. Every path is absolute; what does not exist is left out."""

    program: str
    write: Sequence[str] = ()  # folders that it may read and write
    read: Sequence[str] = ()
    network: bool = False
    limits: Limits = field(default_factory=Limits)
    remove: Sequence[str] = ()  # folders that are removed if we are killed
    allowed: bool = False  # whether the user lets it run where no protection can be had
    protections: Sequence[str] = PROTECTIONS


class Ended(NamedTuple):
    """A tool that has ended by itself."""

    status: int  # exit code, or less than 0 for a signal
    out: bytes
    err: str
    protection: str


def protection_for(policy: Policy) -> str:
    """The protection that a tool gets here; raises Refused where there is none and the user has not allowed that."""
    for protection in policy.protections:
        if _available(protection):
            return protection
    name = os.path.basename(policy.program)
    if policy.allowed:
        return NONE
    raise Refused(f"{name} cannot be shut in here: {_why_not()}", hint=f"Install bubblewrap, or accept the risk with allow_unsandboxed: [{name}].")


def run(command: Sequence[str], policy: Policy, folder: str, environment: Mapping[str, str], feed: bytes = b"") -> Ended:
    """Run it to its end. More time or output than allowed is a Failure, and the tool is ended."""
    name = os.path.basename(command[0])
    protection = protection_for(policy)
    process = subprocess.Popen(
        wrapped(command, policy, folder), cwd=folder, env=environment_of(environment), start_new_session=True,
        stdin=subprocess.PIPE if feed else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = _talk(process, name, policy.limits, feed)
        status = process.wait()
    finally:
        end(process)
    words = err.decode("utf-8", "replace")
    if status == _sandbox_child.REFUSED and _sandbox_child.MARK in words:
        raise Failure(f"{name} could not be started in its sandbox ({protection}): {words.partition(_sandbox_child.MARK)[2].strip()}",
                      hint="Is it the program itself, rather than a script that starts it?")
    if status == -signal.SIGXCPU:
        raise Failure(f"{name} used more than {policy.limits.seconds:g} seconds of processor time", hint="It was stopped.")
    return Ended(status, out, words, protection)


def wrapped(command: Sequence[str], policy: Policy, folder: str = "/") -> List[str]:
    """The command that runs a command under the policy; start it with environment_of(its environment)."""
    protection = protection_for(policy)
    name, program = command[0], os.path.realpath(command[0])
    programs = [*_programs(program), *DEVICES[:1]]
    readable = [*DEVICES, *(NETWORK if policy.network else ()), *policy.read]
    inner = [program, name, *command[1:]]
    if protection == "bubblewrap":
        bwrap = _bubblewrap() or ""
        inner = [bwrap, bwrap, *_for_bubblewrap(programs, readable, policy, folder), "--", program, *command[1:]]
    limits = policy.limits
    numbers = [limits.memory, max(int(limits.seconds), 1), limits.file, limits.files]
    lists: List[str] = []
    for paths in (programs, readable, [*policy.write, "/dev/null"], policy.remove):
        lists += [str(len(paths)), *paths]
    return [sys.executable, "-I", "-S", "-c", _source(), str(os.getpid()), protection, "network" if policy.network else "", *map(str, numbers), *lists, *inner]


def environment_of(environment: Mapping[str, str]) -> Dict[str, str]:
    """The environment of the wrapped command: the tool's own. Python itself may need the caller's LD_LIBRARY_PATH, the tool must not get it."""
    result = dict(environment)
    if "LD_LIBRARY_PATH" in result:
        result[_sandbox_child.LIBRARY_PATH] = result["LD_LIBRARY_PATH"]
    if "LD_LIBRARY_PATH" in os.environ:
        result["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return result


def end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started, and close its pipes."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            try:
                stream.close()
            except BrokenPipeError:
                pass


def _talk(process: subprocess.Popen[bytes], name: str, limits: Limits, feed: bytes) -> Tuple[bytes, bytes]:
    deadline = time.monotonic() + limits.seconds
    out, err, rest = bytearray(), bytearray(), memoryview(feed)
    with selectors.DefaultSelector() as selector:
        for stream, kept in ((process.stdout, out), (process.stderr, err)):
            selector.register(stream, selectors.EVENT_READ, kept)  # type: ignore[arg-type]
        if process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, None)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if left <= 0:
                raise Failure(f"{name} did not end within {limits.seconds:g} seconds", hint="It was stopped.")
            for key, _events in ready:
                if key.data is None:
                    rest = _feed(selector, key, rest)
                    continue
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.data is out or len(err) < limits.errors:
                    key.data.extend(chunk)
                if len(out) > limits.output:
                    raise Failure(f"{name} wrote more than {limits.output >> 20} MiB", hint="It was stopped.")
    try:
        process.wait(max(deadline - time.monotonic(), 0.01))
    except subprocess.TimeoutExpired:
        raise Failure(f"{name} did not end within {limits.seconds:g} seconds", hint="It was stopped.") from None
    return bytes(out), bytes(err)


def _feed(selector: selectors.BaseSelector, key: selectors.SelectorKey, rest: memoryview) -> memoryview:
    try:
        rest = rest[os.write(key.fd, rest[: 1 << 16]):]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        rest = rest[:0]  # it ended before it read; its exit status says why
    if not rest:
        selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]  # a pipe
    return rest


@functools.lru_cache(maxsize=None)
def _source() -> str:
    """The source of the process between, from wherever this collection's code came: a folder, or the zip file of a module."""
    source = _sandbox_child.__loader__.get_source(_sandbox_child.__name__)  # type: ignore[union-attr]
    if not source:
        raise Failure("the code of the sandbox cannot be read", "_sandbox_child.py", "Install the collection with its sources.")
    # Ansible's own loader, by which plugins come, answers with bytes: as text these would be a program that does nothing, successfully.
    return source.decode("utf-8") if isinstance(source, bytes) else str(source)


def _programs(program: str) -> List[str]:
    """A static program needs nothing beside itself, any other the system's libraries."""
    return [program, *(() if _static(program) else (path for path in LIBRARIES if os.path.lexists(path)))]


def _static(program: str) -> bool:
    """Whether it is a 64-bit ELF file whose program headers name no loader (elf(5))."""
    import struct

    try:
        with open(program, "rb") as file:
            start = file.read(1 << 12)
        order = {1: "<", 2: ">"}[start[5]]
        headers, = struct.unpack_from(order + "Q", start, 32)
        size, count = struct.unpack_from(order + "HH", start, 54)
        types = [struct.unpack_from(order + "I", start, headers + number * size)[0] for number in range(count)]
    except (OSError, IndexError, KeyError, struct.error):
        return False
    return start[:5] == b"\x7fELF\x02" and 3 not in types  # PT_INTERP


def _available(protection: str) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    if protection == "bubblewrap":
        return _bubblewrap() is not None
    if protection == "landlock":
        return _landlock_version() > 0 and os.uname().machine in _sandbox_child.SOCKET
    return os.geteuid() == 0 and _may_mount()


def _why_not() -> str:
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no Landlock and no namespaces"
    return "bubblewrap is not installed or may not make namespaces, the kernel has no Landlock, and this is not root with CAP_SYS_ADMIN"


@functools.lru_cache(maxsize=None)
def _bubblewrap() -> Optional[str]:
    """Its path, where it works: a system may forbid it the namespaces that it needs."""
    import shutil

    path, true = shutil.which("bwrap"), shutil.which("true")
    if not path or not true:
        return None
    probe = [path, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--", true]
    try:
        done = subprocess.run(probe, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return path if done.returncode == 0 else None


def _for_bubblewrap(programs: Sequence[str], readable: Sequence[str], policy: Policy, folder: str) -> List[str]:
    arguments = ["--unshare-all", *(["--share-net"] if policy.network else []), "--die-with-parent", "--cap-drop", "ALL", "--dev", "/dev"]
    for path in (*programs, *readable):
        if path.startswith("/dev/"):
            continue
        if os.path.islink(path) and path in LIBRARIES and os.path.isdir(path):  # /bin, /lib
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind-try", path, path]
    for path in policy.write:
        arguments += ["--bind", path, path]
    return [*arguments, "--chdir", folder]


@functools.lru_cache(maxsize=None)
def _landlock_version() -> int:
    import ctypes

    try:
        return int(ctypes.CDLL(None).syscall(_sandbox_child.LANDLOCK_CREATE_RULESET, None, 0, 1))
    except (OSError, AttributeError):
        return 0


@functools.lru_cache(maxsize=None)
def _may_mount() -> bool:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    except (OSError, StopIteration, ValueError):
        return False
    return bool(effective >> 21 & 1)  # CAP_SYS_ADMIN
