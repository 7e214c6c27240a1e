# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts one command, waits for it and prints what it cost: `launcher.py OUTPUT TIMEOUT COMMAND …`.

A program of its own, without anything but the interpreter: Linux counts the memory of the process that starts another one towards the
peak of that other one, so whoever starts it has to be smaller than whatever is measured.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time


def main(output: str, timeout: str, *command: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        sys.exit("%s was not found" % command[0])
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    start = time.perf_counter()
    pid = os.posix_spawn(program, command, os.environ, file_actions=actions)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, float(timeout))
    try:
        _ignored, status, usage = os.wait4(pid, 0)
    except BaseException:  # Ctrl-C: nothing that was started here stays
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    seconds = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(
        '{"seconds": %r, "cpu_seconds": %r, "peak_kb": %d, "exit": %d}'
        % (seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
