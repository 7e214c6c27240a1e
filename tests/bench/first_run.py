# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new user waits for: `make demo` in a fresh clone with an empty cache and official binaries from a mirror, again, and `make unit`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from lab import build, releases
from lab.components import BINARIES
from lab.web import serving
from workspace.places import CHECKOUT

from .measure import Broken

COLD, WARM, UNIT = "make demo, empty cache, official binaries from a mirror", "make demo, again", "make unit, environment ready"
OPERATION = "from a clone to the first result"
HOW = {
    "cold": "a fresh clone and an empty NORDIC_CACHE, so that the Python environment is installed and the mirror's digests were just pinned; "
            "pip's own cache and the packages of the system are as they were",
    "mirror": "a web server on the loopback with the releases' layout; its files are the lab's binaries, built from the same versions",
    "unit": "in this checkout, after one run that is not counted",
}
# (name, what, at most seconds)
LIMITS = (("first result, official binaries from a mirror", COLD, 120.0), ("the demo again", WARM, 40.0), ("the unit tests", UNIT, 60.0))


def measure(folder: Path, say: Callable[[str], None]) -> Dict[str, Any]:
    """The part `first_run` of the results: one round, since nothing is cold twice."""
    folder.mkdir(parents=True)
    mirror(folder / "mirror", say)
    clone = folder / "clone"
    _run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], folder, {})
    seconds: Dict[str, List[float]] = {}
    with serving(folder / "mirror", "127.0.0.1") as url:
        pinned = {"NORDIC_RELEASES": url, "PYTHONPATH": str(clone / "tests")}
        _run([sys.executable, "-m", "lab", "digests"], clone, pinned)
        told = {"NORDIC_RELEASES": url, "NORDIC_LAB": "download", "NORDIC_CACHE": str(folder / "cache")}
        for name in (COLD, WARM):
            say("first run: %s" % name)
            seconds[name] = [_run(["make", "demo"], clone, told)]
    say("first run: %s" % UNIT)
    _run(["make", "unit"], CHECKOUT, {})
    seconds[UNIT] = [_run(["make", "unit"], CHECKOUT, {})]
    return outcome(seconds)


def outcome(seconds: Dict[str, List[float]]) -> Dict[str, Any]:
    """Figures, summary and checks."""
    summary = [{"case": "first_run", "operation": OPERATION, "peer": name, "rounds": 1, "median": round(row[0], 2), "low": round(row[0], 2),
                "high": round(row[0], 2)} for name, row in seconds.items()]
    figures = [{"case": "first_run", "operation": OPERATION, "peer": name, "seconds": round(row[0], 2)} for name, row in seconds.items()]
    checks = [{"name": name, "ratio": round(seconds[what][0], 2), "limit": limit, "unit": "s", "holds": seconds[what][0] <= limit}
              for name, what, limit in LIMITS]
    return {"settings": {"rounds": 1}, "how": HOW, "summary": summary, "figures": figures, "checks": checks}


def mirror(folder: Path, say: Callable[[str], None]) -> None:
    """The releases' layout, filled with the lab's own binaries, which stand for both architectures."""
    for binary, release in releases.RELEASES.items():
        version, digests = BINARIES[binary].version, ""
        built = build.cached(BINARIES[binary], binary, say)
        for arch in releases.ARCHITECTURES.values():
            file = folder / release.named(release.file, version, arch)
            file.parent.mkdir(parents=True, exist_ok=True)
            if release.member:
                with tarfile.open(file, "w:gz", compresslevel=1) as archive:
                    archive.add(built, release.named(release.member, version, arch))
            else:
                shutil.copyfile(built, file)
            line = "%s  %s\n" % (hashlib.sha256(file.read_bytes()).hexdigest(), file.name)
            published = folder / release.named(release.digests, version, arch)
            published.parent.mkdir(parents=True, exist_ok=True)
            digests = digests + line if "{arch}" not in release.digests else line
            published.write_text(digests)


def _run(command: List[str], folder: Path, more: Dict[str, str]) -> float:
    """Seconds of a command that a user types in a shell of their own, which knows nothing of ours."""
    ours = ("ANSIBLE_", "PYTHON", "VIRTUAL_ENV", "NORDIC_", "BENCH_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env["PATH"] = os.pathsep.join(part for part in env["PATH"].split(os.pathsep) if Path(part) != Path(sys.executable).parent)
    if "NORDIC_CACHE" in os.environ:
        env["NORDIC_CACHE"] = os.environ["NORDIC_CACHE"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env={**env, **more}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise Broken("%s: %s" % (" ".join(command), done.stdout[-3000:]))
    return took
