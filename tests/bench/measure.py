# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process from start to exit: seconds, processor time and peak memory as the kernel counts them."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence


@dataclass(frozen=True)
class Process:
    """What one process cost. `peak_mb` is its resident peak (of the process or of a child it waited for, whichever is larger)."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str


class Broken(Exception):
    """A peer that did not do its work: a number for it would be a lie, so the run ends."""


def run(command: Sequence[str], env: Dict[str, str], folder: Path, timeout: float = 900) -> Process:
    """Run `command` and count. Its output goes to a file, so that no pipe between the two slows it down.

    wait4 reports the peak that a process inherits from the moment of its start, too, when it is larger than its own. The bench itself
    therefore stays smaller than whatever it measures (report and plot are a process of their own).
    """
    with tempfile.TemporaryFile(dir=str(folder)) as output:
        start = time.perf_counter()
        process = subprocess.Popen(list(command), env=env, cwd=str(folder), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        watchdog = threading.Timer(timeout, os.kill, (process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            watchdog.cancel()
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise Broken("`%s` ended with exit code %s:\n%s" % (" ".join(command), process.returncode, text[-3000:]))
    return Process(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def own_peak_mb() -> float:
    """The bench's own peak, reported beside the figures because it is the least that a measured peak can be."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
