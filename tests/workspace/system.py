# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System packages by bindep: installed when we are root on a Debian, else named."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

from .places import CHECKOUT, Problem, locked, say, state


def require(environment: Path, *profiles: str) -> None:
    """Every package of bindep.txt under `profiles` is there afterwards, or the run ends and says which is not."""
    missing = _missing(environment, *profiles)
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Problem("system packages are missing: %s. Install them, or run this as root on a Debian" % " ".join(missing))
    with locked(state() / "apt.lock"), _no_service_started():
        say("installing system packages: %s …" % " ".join(missing))
        apt = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]):
            # dpkg's own lock may be held for a while by the machine's automatic updates.
            outcome = subprocess.run(command + ["-o", "DPkg::Lock::Timeout=300"], stdin=subprocess.DEVNULL, stdout=sys.stderr, env=apt, check=False)
            if outcome.returncode:
                raise Problem("`%s` failed with exit code %d; its own words are above" % (" ".join(command), outcome.returncode))
    missing = _missing(environment, *profiles)
    if missing:
        raise Problem("apt-get installed the system packages, yet bindep still misses %s" % " ".join(missing))


@contextlib.contextmanager
def _no_service_started():
    """We want sshd's binary for a server on loopback, not a machine that answers ssh because somebody ran its tests."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _missing(environment: Path, *profiles: str) -> List[str]:
    command = [str(environment / "bin" / "bindep"), "--brief", "--file", str(CHECKOUT / "bindep.txt"), *profiles]
    outcome = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    # 0: nothing is missing; 1: the missing packages, one a line; anything else is bindep's own trouble.
    if outcome.returncode == 0:
        return []
    if outcome.returncode == 1 and outcome.stdout.strip() and "Traceback" not in outcome.stderr:
        return outcome.stdout.split()
    raise Problem("bindep failed: %s" % (outcome.stderr.strip() or outcome.stdout.strip()))
