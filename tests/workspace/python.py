# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpreters and virtual environments."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from .places import CHECKOUT, Problem, locked, say, state

# ansible-core 2.19 runs on these; modules run on older ones too (tests/config.yml).
CONTROLLERS = ((3, 11), (3, 12), (3, 13))

# Requirement files by the name of the environment: what runs the collection, and what checks and measures it.
REQUIREMENTS = {
    "run": ("requirements.txt",),
    "dev": ("requirements.txt", "requirements-dev.txt"),
}
CONSTRAINTS = "tests/workspace/constraints.txt"

# The other releases of ansible-core that the collection promises to run with, and a Python for each (the constraints have 2.19).
CORES = {"==2.17.*": ((3, 12), (3, 11), (3, 10)), "==2.18.*": ((3, 12), (3, 13), (3, 11)), ">=2.20": ((3, 13), (3, 12), (3, 14))}


def interpreter() -> str:
    """The Python that environments are made with: this one when it fits, else the newest of the machine that does."""
    # Inside a virtual environment it is the one beneath that counts: theirs may be gone tomorrow.
    here = getattr(sys, "_base_executable", None) or sys.executable
    if sys.version_info[:2] in CONTROLLERS and _usable(here):
        return here
    for version, path in sorted(interpreters().items(), reverse=True):
        if version in CONTROLLERS and _usable(path):
            return path
    raise Problem(
        "no Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip was found (this one is %s, %s). Install one "
        "(Debian and Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12 …" % (sys.version.split()[0], sys.executable)
    )


def interpreters() -> Dict[Tuple[int, int], str]:
    """Every CPython 3 of this machine that starts, by version: those on PATH and those that pyenv keeps, active or not."""
    found: Dict[Tuple[int, int], str] = {}
    for folder in _folders():
        for path in sorted(folder.glob("python3.*")):
            if not re.fullmatch(r"python3\.\d+", path.name):
                continue
            version = (3, int(path.name.split(".")[1]))
            if version not in found and _starts(path):
                found[version] = str(path)
    return found


def _folders() -> List[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    versions = sorted(pyenv.glob("versions/3.*/bin"), key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.parent.name)], reverse=True)
    # A pyenv shim of a version that is not active exists and exits 127, so the shims stay out and the real folders come in.
    on_path = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part and Path(part).name != "shims"]
    return versions + on_path


def _starts(path: Path) -> bool:
    try:
        return subprocess.run([str(path), "-c", ""], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _usable(path: str) -> bool:
    # Debian has python3 without venv and ensurepip unless python3-venv is there.
    check = [path, "-c", "import ensurepip, venv"]
    return subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def environment(name: str) -> Path:
    """The virtual environment `name`, made when it is not there. One that was interrupted is made anew, out of pip's own cache."""
    return _made(name, interpreter(), REQUIREMENTS[name], (CHECKOUT / CONSTRAINTS).read_text(encoding="utf-8"))


def with_core(core: str) -> Path:
    """The virtual environment that runs the collection and its unit tests with another ansible-core, such as 2.17.* of CORES."""
    found = interpreters()
    fitting = [version for version in CORES[core] if version in found]
    if not fitting:
        raise Problem("ansible-core %s needs one of Python %s" % (core, ", ".join("%d.%d" % version for version in CORES[core])))
    # What pins the core, or what only one core has, is not for this one.
    constraints = re.sub(r"(?m)^ansible.*\n", "", (CHECKOUT / CONSTRAINTS).read_text(encoding="utf-8"))
    return _made("core", found[fitting[0]], REQUIREMENTS["run"], constraints, ["ansible-core" + core, "hypothesis", "pytest", "pytest-timeout", "pytest-xdist"])


def _made(name: str, python: str, requirements: Tuple[str, ...], constraints: str, more: Sequence[str] = ()) -> Path:
    version = subprocess.run([python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True).stdout
    wanted = [constraints, *((CHECKOUT / part).read_text(encoding="utf-8") for part in requirements), *more]
    digest = hashlib.sha256("\0".join([python, version, *wanted]).encode())
    folder = state() / "venvs" / ("%s-%s" % (name, digest.hexdigest()[:12]))
    complete = folder / "complete"
    if complete.exists():
        return folder
    with locked(folder.with_suffix(".lock"), "waiting for another process that makes the Python environment %s …" % folder):
        if not complete.exists():
            say("making the Python environment %s from %s (once; a minute or three) …" % (folder, ", ".join([*requirements, *more])))
            _run([python, "-m", "venv", "--clear", str(folder)])
            (folder / "constraints.txt").write_text(constraints, encoding="utf-8")
            _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                  "--constraint=%s" % (folder / "constraints.txt"), *more]
                 + ["--requirement=%s" % (CHECKOUT / part) for part in requirements])
            complete.touch()
    return folder


def _run(command: List[str], env: Optional[Dict[str, str]] = None) -> None:
    outcome = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=env, check=False)
    if outcome.returncode:
        raise Problem("`%s` failed with exit code %d; its own words are above" % (" ".join(command), outcome.returncode))
