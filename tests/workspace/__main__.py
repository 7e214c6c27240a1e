# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands behind the Makefile: `python3 tests/workspace COMMAND …`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List

if not __package__:  # run as a folder: python3 tests/workspace
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    __package__ = "workspace"

from . import collection, environ, python, system
from .places import CHECKOUT, Problem, of_this_checkout, say, state

USAGE = """usage: python3 tests/workspace COMMAND …

  run COMMAND …   run COMMAND with what the collection needs (requirements.txt) and the collection on Ansible's path
  dev COMMAND …   the same with what the tests and the benchmark need (requirements-dev.txt, bindep.txt)
  unit [ARG …]    the tests that need neither cluster nor host
  test [ARG …]    every test: pytest with the checkers, the cluster being built in the background meanwhile
  test-full [ARG …]  the same with the longer molecule scenarios
  build FOLDER    the artefact for Ansible Galaxy, into FOLDER
  changelog       CHANGELOG.rst and changelogs/changelog.yaml from the fragments, in the tree
  clean           remove what this checkout left in the state folder, and nothing of another checkout
"""


def run(arguments: List[str]) -> int:
    return _become(arguments, environ.variables(python.environment("run")))


def dev(arguments: List[str]) -> int:
    return _become(arguments, environ.variables(_dev_environment()))


def unit(arguments: List[str]) -> int:
    environment = _dev_environment()
    workers = [] if "-n" in arguments else ["-n", str(os.cpu_count() or 1)]
    return _become([str(environment / "bin" / "python"), "-m", "pytest", "-q", *workers, "tests/unit", *arguments], environ.variables(environment))


def test(arguments: List[str]) -> int:
    environment = _dev_environment()
    variables = environ.variables(environment)
    # Three workers keep two cores busy, as tests with hosts mostly wait. Which tests stay together, and what comes when, is said by
    # tests/integration/conftest.py.
    workers = [] if "-n" in arguments else ["-n", "3", "--dist", "loadgroup", "--no-loadscope-reorder"]
    with _building_the_lab(variables):
        command = [str(environment / "bin" / "python"), "-m", "pytest", *workers, *arguments]
        return subprocess.run(command, env=variables, cwd=str(CHECKOUT), check=False).returncode


def test_full(arguments: List[str]) -> int:
    os.environ["NORDIC_FULL"] = "1"
    return test(arguments)


def build(arguments: List[str]) -> int:
    folder = Path(arguments[0] if arguments else ".").absolute()
    variables = environ.variables(python.environment("run"), collection.copied())
    command = ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder)]
    return subprocess.run(command, env=variables, cwd=str(collection.copied() / collection.NAME), check=False).returncode


def changelog(arguments: List[str]) -> int:
    """Made in the copy, since antsibull-changelog wants a collection's path, and brought back."""
    variables = environ.variables(_dev_environment(), collection.copied())
    copy = collection.copied() / collection.NAME
    command = ["antsibull-changelog", "release", "--reload-plugins", "--update-existing", *arguments]
    outcome = subprocess.run(command, env=variables, cwd=str(copy), check=False).returncode
    if outcome == 0:
        for name in ("CHANGELOG.rst", "changelogs/changelog.yaml"):
            shutil.copyfile(str(copy / name), str(CHECKOUT / name))
        kept = {path.name for path in (copy / "changelogs" / "fragments").glob("*")}
        for fragment in (CHECKOUT / "changelogs" / "fragments").glob("*.y*ml"):
            if fragment.name not in kept:
                fragment.unlink()
    return outcome


def clean(arguments: List[str]) -> int:
    shutil.rmtree(str(of_this_checkout()), ignore_errors=True)
    for name in (".ansible", ".hypothesis", ".mypy_cache", ".pytest_cache", "tests/output", "changelogs/.plugin-cache.yaml"):
        path = CHECKOUT / name
        if path.is_dir():
            shutil.rmtree(str(path))
        elif path.exists():
            path.unlink()
    for folder in list(CHECKOUT.rglob("__pycache__")):
        shutil.rmtree(str(folder), ignore_errors=True)
    say("what other checkouts share (Python environments, the built cluster) stays in %s" % state())
    return 0


def _dev_environment() -> Path:
    environment = python.environment("dev")
    system.require(environment, "dev", "test")
    return environment


def _become(arguments: List[str], variables: Dict[str, str]) -> int:
    """Be replaced by the command, so that Ctrl-C, exit codes and the terminal are its own."""
    if not arguments:
        raise Problem("which command?")
    try:
        os.execvpe(arguments[0], arguments, variables)
    except FileNotFoundError as error:
        raise Problem("no such command: %s" % arguments[0]) from error


@contextlib.contextmanager
def _building_the_lab(variables: Dict[str, str]) -> Iterator[None]:
    """Have the lab's parts built beside the tests that do not need them; a test that needs one waits for that one."""
    command = [str(Path(variables["VIRTUAL_ENV"]) / "bin" / "python"), "-m", "lab", "build"]
    # Those of Debian's and PyPI's packages are mostly waiting for them, so they come beside what is compiled.
    builds = [subprocess.Popen([*command, *parts], env=variables, cwd=str(CHECKOUT), stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
              for parts in ([], ["rootfs", "libvirt"], ["openstack"])]
    try:
        yield
    finally:
        for build in builds:
            if build.poll() is None:
                os.killpg(build.pid, signal.SIGTERM)
        for build in builds:
            build.wait()


COMMANDS = {"run": run, "dev": dev, "unit": unit, "test": test, "test-full": test_full, "build": build, "changelog": changelog, "clean": clean}


def main(arguments: List[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except Problem as problem:
        say("error: %s" % problem)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
