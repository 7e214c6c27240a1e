# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks share: the copy of the checkout they look at, a way to run a checker, and small collections with a defect planted in them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import pytest
from workspace import collection, environ, places

# The least that every checker takes for a collection and finds nothing in.
SOUND = {
    "galaxy.yml": "---\nnamespace: nordic\nname: gitops\nversion: 1.0.0\nreadme: README.md\nauthors:\n  - somebody\ndescription: A sample.\n"
                  "license:\n  - GPL-3.0-or-later\ntags:\n  - cloud\n",
    "README.md": "# A sample\n",
    "CHANGELOG.rst": "Changes\n=======\n",
    "meta/runtime.yml": "---\nrequires_ansible: '>=2.17.0'\n",
}


@dataclass(frozen=True)
class Outcome:
    """How a checker ended and what it said, both streams in one."""

    code: int
    output: str


@dataclass(frozen=True)
class Bench:
    """The place where checkers run: the environment that runs these tests, and a home of their own."""

    environment: Path
    home: Path

    def run(self, *command: str, cwd: Path, root: Path | None = None, timeout: float = 1800) -> Outcome:
        """root: the collection root that Ansible searches (default: the one that holds cwd).

        timeout: seconds; only what hangs should meet it. ansible-test makes its environments first, 15 min of it beside compilers.
        """
        variables = environ.for_checkers(self.environment, self.home)
        variables["ANSIBLE_COLLECTIONS_PATH"] = str(root or _root_of(cwd))
        done = subprocess.run(command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=timeout, check=False)
        return Outcome(done.returncode, done.stdout)


def _root_of(cwd: Path) -> Path:
    for folder in (cwd, *cwd.parents):
        if folder.name == "ansible_collections":
            return folder.parent
    return cwd


@pytest.fixture(scope="session")
def checkout() -> Path:
    return places.CHECKOUT


@pytest.fixture(scope="session")
def copy() -> Path:
    """The checkout as a real folder named like the collection, without what Git ignores."""
    return collection.copied() / collection.NAME


@pytest.fixture(scope="session")
def bench() -> Bench:
    home = places.state() / "home"
    home.mkdir(parents=True, exist_ok=True)
    return Bench(Path(sys.prefix), home)


@pytest.fixture
def planted(tmp_path):
    """A function that writes a small sound collection with the given files in it, and returns its folder."""

    def plant(files: Mapping[str, str]) -> Path:
        folder = tmp_path / collection.NAME
        for name, text in {**SOUND, **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return folder

    return plant
