# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a tool on files that nobody vouches for: it reads its own folder and its program, has no network, has limits, and ends with us.

    policy = Policy(program=path, write=[folder], read=[file], network=False, limits=Limits(seconds=60), remove=[folder], allowed=False)
    ended = run([path, "template", "."], policy, folder, environment, feed=b"")      # Ended(status, out, err, protection)
    running = start([path, "cat-file", "--batch"], policy, folder, environment)      # for a long talk; end() it in any case

One of PROTECTIONS is active, the first that this machine has: bubblewrap where it is installed, else Landlock with a filter of system
calls, else (for root) a mount namespace. Where there is none, a tool is refused, unless the user has allowed it by name. The limits, and
the end with its parent, hold everywhere on Linux.

Two ways to start it, by what it is:
- A program that needs the system's libraries anyway (git, gpg, ssh-keygen) is started by a shell, which waits until a second shell
  watches over both. Landlock binds the thread that asks for it and all that this thread starts, so it is a thread of ours that does. This
  costs a millisecond or two, and Git is run a few times even where nothing has changed.
- A static program (helm, kustomize) sees no file of the system, so no shell either: a Python process between shuts it in, watches over it
  and removes its folder. So does it where a mount namespace is all there is. It costs 16 ms of processor time.
`python -m bench.sandbox` in tests measures both.
"""

from __future__ import annotations

import functools
import gc
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

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
    execute: Sequence[str] = ()  # programs that it starts, or folders of them, where they are not among the system's
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


class TooLate(Failure):
    """It did not end in time, and was ended."""


class TooLong(Failure):
    """It wrote more than it may, and was ended."""


def run(command: Sequence[str], policy: Policy, folder: str, environment: Mapping[str, str], feed: bytes = b"") -> Ended:
    """Run it to its end. More time or output than allowed is a Failure, and the tool is ended."""
    name = os.path.basename(command[0])
    running = start(command, policy, folder, environment, feeds=bool(feed))
    try:
        out, err = _talk(running.process, name, policy.limits, feed)
        status = running.process.wait()
    finally:
        running.end()
    words = err.decode("utf-8", "replace")
    if status in (126, 127, _sandbox_child.REFUSED) and _sandbox_child.MARK in words:
        reason = re.sub(r"^(line )?\d+: (exec: )?", "", words.partition(_sandbox_child.MARK)[2].strip())
        raise Failure(f"{name} could not be started in its sandbox ({running.protection}): {reason}",
                      hint="Is it the program itself, rather than a script that starts it?")
    if status == -signal.SIGXCPU:
        raise Failure(f"{name} used more than {policy.limits.seconds:g} seconds of processor time", hint="It was stopped.")
    return Ended(status, out, words, running.protection)


def start(command: Sequence[str], policy: Policy, folder: str, environment: Mapping[str, str], feeds: bool = True) -> Running:
    """Start it, with pipes to talk to it; feeds=False: with nothing on its stdin."""
    protection = protection_for(policy)
    if protection == "mount namespace" or _static(os.path.realpath(command[0])):
        return Running(subprocess.Popen(
            wrapped(command, policy, folder), cwd=folder, env=_environment_of_python(environment), start_new_session=True,
            stdin=subprocess.PIPE if feeds else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE), protection)
    return _start_watched(command, policy, protection, folder, environment, feeds)


class Running:
    """A tool at work."""

    def __init__(self, process: subprocess.Popen[bytes], protection: str) -> None:
        self.process, self.protection = process, protection
        self._watcher: Optional[subprocess.Popen[bytes]] = None
        self._life = -1  # the end of a pipe that closes when we end, however we end

    def watch(self, remove: Sequence[str]) -> None:
        """Have a process of its own end the tool with all that it started when we end, and then remove its folders."""
        theirs, self._life = os.pipe()
        try:
            self._watcher = subprocess.Popen([SHELL, "-c", _WATCHER, "watcher", str(self.process.pid), *remove], stdin=theirs, cwd="/",
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env={"PATH": os.defpath})
        finally:
            os.close(theirs)

    def end(self) -> None:
        """End it with all that it started, if it has not ended by itself, and close its pipes."""
        process = self.process
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except OSError:
                process.kill()
            process.wait()
            _released(process, time.monotonic() + 1)
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            self._watcher = None
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


SHELL = "/bin/sh"
# Becomes the tool when it is told to, which is when it is watched and has its limits; ends where nobody is left to tell.
_TOOL = 'read -r go && exec "$@"'
# Reads until we have ended. What was killed may still be in a call that makes a file, so what is removed is looked at until it is gone.
_WATCHER = (
    'read -r end; group=$1; shift; kill -KILL -- "-$group"; [ $# -gt 0 ] || exit; '
    'for again in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do kill -0 -- "-$group" || break; sleep 0.1; done; rm -rf -- "$@"'
)


def _start_watched(command: Sequence[str], policy: Policy, protection: str, folder: str, environment: Mapping[str, str], feeds: bool) -> Running:
    program = os.path.realpath(command[0])
    programs = [*dict.fromkeys((command[0], program, *_beside(program), *policy.execute, *_libraries()))]
    readable = [*DEVICES, *(NETWORK if policy.network else ()), *policy.read]
    confine: Optional[Callable[[], None]] = None
    inner = list(command)
    if protection == "bubblewrap":
        inner = [_bubblewrap() or "", *_for_bubblewrap(programs, readable, policy, folder), "--", *command]
    elif protection == "landlock":
        confine = functools.partial(_sandbox_child.landlock, [*programs, *DEVICES[:1]], readable, [*policy.write, *DEVICES[:1]], policy.network)

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen([SHELL, "-c", _TOOL, _sandbox_child.MARK.rstrip(": "), *inner], cwd=folder, env=dict(environment),
                                start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    running = Running(_in_a_thread(confine, begin) if confine else begin(), protection)
    try:
        running.watch(policy.remove)
        _sandbox_child.limit(running.process.pid, _numbers(policy.limits))
        stdin = running.process.stdin
        if stdin:
            os.write(stdin.fileno(), b"go\n")
            if not feeds:
                stdin.close()
                running.process.stdin = None
    except BrokenPipeError:
        pass  # it has ended; its words and its exit status say why
    except BaseException:
        running.end()
        raise
    return running


_CONFINED = threading.Lock()


def _in_a_thread(confine: Callable[[], None], begin: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """What begin() starts, from a thread that is confined and then gone. No other thread of ours is."""
    begun: List[subprocess.Popen[bytes]] = []
    errors: List[BaseException] = []

    def work() -> None:
        try:
            confine()
            begun.append(begin())
        except BaseException as error:  # it is raised again below, where the caller is
            errors.append(error)

    thread = threading.Thread(target=work, name="sandbox")
    with _CONFINED:
        # Python collects garbage in whichever thread allocates: a destructor that ends a process may not do so from this one.
        collects = gc.isenabled()
        gc.disable()
        try:
            thread.start()
            thread.join()
        finally:
            if collects:
                gc.enable()
    if errors and isinstance(errors[0], OSError):
        raise Failure(f"the sandbox can't be made: {errors[0]}")
    if errors:
        raise errors[0]
    return begun[0]


def wrapped(command: Sequence[str], policy: Policy, folder: str = "/") -> List[str]:
    """The command of the Python process that runs a command under the policy, in a thread that lives as long as the tool: Linux tells a
    process of the end of the thread that started it."""
    protection = protection_for(policy)
    name, program = command[0], os.path.realpath(command[0])
    programs = [program, *policy.execute, *(() if _static(program) else (*_beside(program), *_libraries())), *DEVICES[:1]]
    readable = [*DEVICES, *(NETWORK if policy.network else ()), *policy.read]
    inner = [program, name, *command[1:]]
    if protection == "bubblewrap":
        bwrap = _bubblewrap() or ""
        inner = [bwrap, bwrap, *_for_bubblewrap(programs, readable, policy, folder), "--", program, *command[1:]]
    lists: List[str] = []
    for paths in (programs, readable, [*policy.write, *DEVICES[:1]], policy.remove):
        lists += [str(len(paths)), *paths]
    return [sys.executable, "-I", "-S", "-c", _source(), str(os.getpid()), protection, "network" if policy.network else "",
            *map(str, _numbers(policy.limits)), *lists, *inner]


def _numbers(limits: Limits) -> List[int]:
    return [limits.memory, max(int(limits.seconds), 1), limits.file, limits.files, 0]


def _environment_of_python(environment: Mapping[str, str]) -> Dict[str, str]:
    """The environment of the wrapped command: the tool's own. Python itself may need the caller's LD_LIBRARY_PATH, the tool must not get it."""
    result = dict(environment)
    if "LD_LIBRARY_PATH" in result:
        result[_sandbox_child.LIBRARY_PATH] = result["LD_LIBRARY_PATH"]
    if "LD_LIBRARY_PATH" in os.environ:
        result["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return result


def _released(process: subprocess.Popen[bytes], deadline: float) -> None:
    """A killed helper is nobody's child here and ends a moment later: then its end of the pipes is closed with all else it held."""
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe and not pipe.closed:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _events in selector.select(max(deadline - time.monotonic(), 0)):
                if not os.read(key.fd, 1 << 16):
                    selector.unregister(key.fileobj)


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
                raise TooLate(f"{name} did not end within {limits.seconds:g} seconds", hint="It was stopped.")
            for key, _events in ready:
                if key.data is None:
                    rest = _feed(selector, key, rest)
                    continue
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                key.data.extend(chunk)
                if len(err) > limits.errors:
                    del err[limits.errors // 2 : -limits.errors // 2]  # what it says first and last tells most
                if len(out) > limits.output:
                    raise TooLong(f"{name} wrote more than {limits.output >> 20} MiB", hint="It was stopped.")
    try:
        process.wait(max(deadline - time.monotonic(), 0.01))
    except subprocess.TimeoutExpired:
        raise TooLate(f"{name} did not end within {limits.seconds:g} seconds", hint="It was stopped.") from None
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


def _libraries() -> List[str]:
    """What a program that is not static needs."""
    return [path for path in LIBRARIES if os.path.lexists(path)]


def _beside(program: str) -> List[str]:
    """The folders beside a program that was installed elsewhere than the system's own: it may start others from there."""
    prefix = os.path.dirname(os.path.dirname(program))
    if len(prefix) < 2 or any(program.startswith(f"{path}/") for path in LIBRARIES):
        return []
    return [path for path in (f"{prefix}/{name}" for name in ("bin", "lib", "lib64", "libexec", "share")) if os.path.isdir(path)]


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
