# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that never outlives its parent. What runs apart is tested where it runs: in the restore of a real k3s."""

from __future__ import annotations

import signal
import subprocess
import sys

# The parent is killed in the moment between the fork and the child's request for the signal.
PROGRAM = """
import ctypes, os, sys, time
sys.path[:0] = {path!r}
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.isolation import _fork

class Libc:
    def prctl(self, *arguments):
        if {killed}:
            parent = os.getppid()
            os.kill(parent, 9)
            while os.getppid() == parent:
                time.sleep(0.01)
        return ctypes.CDLL(None).prctl(*arguments)

child = _fork(Libc())
if child:
    os.waitpid(child, 0)
else:
    print("here", flush=True)
    os._exit(0)
"""


def fork(killed):
    program = PROGRAM.format(path=sys.path, killed=killed)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_a_child_ends_though_its_parent_was_killed_before_the_child_could_ask_for_that():
    parent = fork(killed=True)
    assert (parent.returncode, parent.stdout, parent.stderr) == (-signal.SIGKILL, "", "")


def test_a_child_whose_parent_is_there_does_its_work():
    parent = fork(killed=False)
    assert (parent.returncode, parent.stdout, parent.stderr) == (0, "here\n", "")
