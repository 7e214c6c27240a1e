# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenStack in a virtual environment of its own, in the cache that all checkouts share."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict

from lab import places, processes
from lab.build import Say, locked, silent
from lab.errors import LabError

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
PROGRAMS = ("mariadbd", "mariadb-install-db", "rabbitmq-server", "erl", "epmd")


def impediment() -> str:
    """Why this machine cannot have the cloud; empty when it can."""
    if not sys.platform.startswith("linux"):
        return f"the cloud needs Linux, this is {sys.platform}"
    missing = [program for program in PROGRAMS if not (shutil.which(program) or Path("/usr/sbin", program).exists())]
    return f"{', '.join(missing)} is not installed; bindep.txt names the packages (profile test)" if missing else ""


def environment(say: Say = silent) -> Path:
    """The environment with OpenStack, made when it is not there: about two minutes and 700 MB."""
    digest = hashlib.sha256((sys.version + REQUIREMENTS.read_text()).encode()).hexdigest()[:12]
    folder = places.cache() / "openstack" / f"venv-{digest}"
    complete = folder / "complete"
    if complete.exists():
        return folder
    with locked(folder.with_suffix(".lock"), "OpenStack", say):
        if not complete.exists():
            begin = time.monotonic()
            say("  OpenStack: installing (once; two minutes or three)")
            base = getattr(sys, "_base_executable", None) or sys.executable
            made = subprocess.run([base, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False)
            if made.returncode:
                raise LabError(f"no virtual environment for OpenStack: {made.stderr.strip() or made.stdout.strip()}")
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps",
                       "--quiet", f"--requirement={REQUIREMENTS}"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_env(), check=False,
                                  preexec_fn=processes.dying_with_us())
            if done.returncode:
                raise LabError(f"OpenStack could not be installed; the end of what pip said:\n{(done.stdout + done.stderr)[-3000:]}")
            complete.touch()
            say(f"  OpenStack: installed in {time.monotonic() - begin:.0f} s")
    return folder


def _env() -> Dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
