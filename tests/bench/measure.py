# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process from start to exit: seconds, processor time and peak memory as the kernel counts them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence

LAUNCHER = Path(__file__).with_name("launcher.py")


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
    """Run `command` and count. Its output goes to a file, so that no pipe between the two slows it down."""
    with tempfile.TemporaryDirectory(dir=str(folder)) as place:
        output = Path(place) / "output"
        launched = subprocess.run(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(output), str(timeout), *command],
            env=env, cwd=str(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True,
        )
        text = output.read_text(encoding="utf-8", errors="replace")
    counted = json.loads(launched.stdout)
    if counted["exit"]:
        raise Broken("`%s` ended with exit code %s:\n%s" % (" ".join(command), counted["exit"], text[-3000:]))
    return Process(counted["seconds"], counted["cpu_seconds"], counted["peak_kb"] / 1024, text)
