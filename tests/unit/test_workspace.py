# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workspace around a checkout: interpreters, locks, the copy, and a checkout in an awkward folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from workspace import collection, places, python

HERE = places.CHECKOUT


@pytest.fixture
def clone(tmp_path) -> Path:
    """A Git checkout with a space in its path, of a few files of this one."""
    folder = tmp_path / "my clones" / "gitops"
    shutil.copytree(HERE / "tests" / "workspace", folder / "tests" / "workspace", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "galaxy.yml", "requirements.txt", ".gitignore"):
        shutil.copy(HERE / name, folder)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def in_clone(clone: Path, code: str, tmp_path: Path) -> str:
    """What Python code prints that runs in the clone's own workspace, with a state folder of its own."""
    variables = dict(os.environ, NORDIC_CACHE=str(tmp_path / "state folder"), PYTHONPATH=str(clone / "tests"), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True).stdout.strip()


def test_the_checkout_appears_as_the_collection_whatever_its_path(clone, tmp_path):
    root = Path(in_clone(clone, "from workspace import collection; print(collection.linked())", tmp_path))
    (clone / "galaxy.yml").write_text("edited", encoding="utf-8")
    assert (root / collection.NAME / "galaxy.yml").read_text(encoding="utf-8") == "edited"
    copy = Path(in_clone(clone, "from workspace import collection; print(collection.copied())", tmp_path))
    assert (copy / collection.NAME / "galaxy.yml").read_text(encoding="utf-8") == "edited"
    assert not (copy / collection.NAME).is_symlink()


def test_two_checkouts_share_no_folder(clone, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(clone, other)
    code = "from workspace import places; print(places.of_this_checkout())"
    assert in_clone(clone, code, tmp_path) != in_clone(other, code, tmp_path)


def test_the_copy_follows_every_change_and_nothing_that_git_ignores(clone, tmp_path):
    target = tmp_path / "copy"

    def copied():
        collection.mirror(clone, target, collection.known_files(clone))
        return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}

    first = copied()
    assert "galaxy.yml" in first and "tests/workspace/places.py" in first
    (clone / "new").mkdir()
    (clone / "new" / "file.txt").write_text("1", encoding="utf-8")
    (clone / "__pycache__").mkdir()
    (clone / "__pycache__" / "x.pyc").write_text("", encoding="utf-8")
    assert copied() - first == {"new/file.txt"}
    (clone / "new" / "file.txt").unlink()
    (clone / "new").rmdir()
    (clone / "new").write_text("a file where a folder was", encoding="utf-8")
    assert copied() - first == {"new"}
    (clone / "new").unlink()
    (target / "tests" / "output").mkdir()
    (target / "tests" / "output" / "kept").write_text("what a checker leaves for its next run", encoding="utf-8")
    assert copied() - first == {"tests/output/kept"}
    assert first - copied() == set()


def test_the_copy_leaves_what_did_not_change_untouched(clone, tmp_path):
    target = tmp_path / "copy"
    collection.mirror(clone, target, collection.known_files(clone))
    before = (target / "galaxy.yml").stat().st_ino
    collection.mirror(clone, target, collection.known_files(clone))
    assert (target / "galaxy.yml").stat().st_ino == before


def test_a_folder_that_is_no_git_checkout_is_named(tmp_path):
    with pytest.raises(places.Problem, match="to be a Git checkout"):
        collection.known_files(tmp_path)


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        with places.locked(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_environment_that_was_interrupted_is_made_anew_and_a_complete_one_is_not(clone, tmp_path):
    """Without requirements, so that this asks no package index."""
    for name in ("requirements.txt", "tests/workspace/constraints.txt"):
        (clone / name).write_text("# nothing\n", encoding="utf-8")
    code = "from workspace import python; print(python.environment('run'))"
    made = Path(in_clone(clone, code, tmp_path))
    assert (made / "complete").exists()
    (made / "complete").unlink()
    (made / "half").write_text("left by a killed run", encoding="utf-8")
    assert Path(in_clone(clone, code, tmp_path)) == made
    assert not (made / "half").exists()
    (made / "kept").write_text("", encoding="utf-8")
    assert Path(in_clone(clone, code, tmp_path)) == made
    assert (made / "kept").exists()


def test_the_interpreter_is_one_that_ansible_core_runs_on():
    version = subprocess.run([python.interpreter(), "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True).stdout
    assert tuple(int(part) for part in version.split()) in python.CONTROLLERS


def test_every_interpreter_found_starts_and_has_the_version_it_is_listed_under():
    for version, path in python.interpreters().items():
        said = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True).stdout
        assert tuple(int(part) for part in said.split()) == version


def test_an_unknown_command_prints_the_usage():
    done = subprocess.run([sys.executable, "-B", str(HERE / "tests" / "workspace"), "no-such-command"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage:" in done.stderr


def test_make_works_from_another_folder(tmp_path):
    done = subprocess.run(["make", "--no-print-directory", "-C", str(HERE), "help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "make demo" in done.stdout


def test_tests_of_one_group_run_in_one_worker(tmp_path):
    """Sanity is run once, and what counts the cluster's requests is alone with it, only if this holds."""
    (tmp_path / "test_sample.py").write_text(
        "import os, pathlib, pytest\n"
        "pytestmark = pytest.mark.xdist_group('one')\n"
        "@pytest.mark.parametrize('number', range(8))\n"
        "def test_it(number):\n"
        "    with open(pathlib.Path(__file__).with_name('workers'), 'a') as handle:\n"
        "        handle.write(os.environ['PYTEST_XDIST_WORKER'] + ' ')\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), "-n", "2", "--dist", "loadgroup", str(tmp_path / "test_sample.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers").read_text(encoding="utf-8").split()
    assert len(workers) == 8 and len(set(workers)) == 1
