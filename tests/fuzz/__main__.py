# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m fuzz [TARGET …]: each target for FUZZ_MINUTES of processor time (10), with new input every time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings
from lab import build, components

from . import targets

ROUND = 500  # examples between two looks at the clock


def main(names: list[str]) -> int:
    minutes = float(os.environ.get("FUZZ_MINUTES", "10"))
    targets.KUSTOMIZE = str(Path(build.bin_folder(tuple(components.BINARIES))) / "kubectl")
    for name in names or targets.TARGETS:
        examples = ROUND if name != "kustomization" else ROUND // 20
        target = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))(targets.TARGETS[name])
        begin, runs = _seconds(), 0
        while _seconds() - begin < minutes * 60:
            target()  # raises with the smallest input that breaks it
            runs += examples
        print(f"{name}: {(_seconds() - begin) / 60:.1f} minutes of processor time, {runs:,} executions", flush=True)
    return 0


def _seconds() -> float:
    """Processor time, that of kustomize too."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
