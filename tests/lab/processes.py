# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that never outlive their parent, not even one that was killed with SIGKILL."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

PR_SET_PDEATHSIG = 1

# Loaded before any fork: between fork and exec nothing may allocate or import.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def dying_with_us() -> Callable[[], None]:
    """For preexec_fn: the kernel kills the child when the thread that forks it ends."""
    parent = os.getpid()

    def ask() -> None:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)  # it ended before the child had asked

    return ask


def die_with_parent() -> None:
    """For a child that is there: the kernel kills it when the thread that forked it ends; one that has ended already, it does not tell."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start a server in its own process group with its output in a file.

    Call it from a thread that lives as long as the server shall: Linux sends the death signal when the thread
    that forked ends (prctl(2)).
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env,
            start_new_session=True, preexec_fn=dying_with_us(), **options)


def end(process: subprocess.Popen[Any], grace: float = 0.0) -> None:
    """End the process and all of its group; with a grace period it is asked first."""
    if grace and process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[Any], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def naming(folder: Path) -> Dict[int, List[str]]:
    """Process id -> arguments, of all but this one that name a folder: those that were started for it, if its name is unique."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            if int(entry.name) != os.getpid() and any(str(folder) in argument for argument in arguments):
                found[int(entry.name)] = arguments
    return found


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for the message of an error."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 20000))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])
