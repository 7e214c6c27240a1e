# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's own code comes compiled out of the cache, or out of the zip as ever; never anything else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils import _startup

PACKAGE = "ansible_collections/nordic/gitops/plugins/module_utils"
SHOW = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.nordic.gitops.plugins.module_utils import _startup
from ansible_collections.nordic.gitops.plugins.module_utils import thing
print(thing.VALUE, thing.__file__)
"""


@pytest.fixture
def payload(tmp_path):
    """Makes a zip as Ansible sends it, whose module `thing` has this value."""

    def make(value):
        path = tmp_path / ("payload-%s.zip" % value)
        with zipfile.ZipFile(path, "w") as archive:
            folders = PACKAGE.split("/")
            for depth in range(1, len(folders) + 1):
                archive.writestr("/".join(folders[:depth]) + "/__init__.py", "")
            archive.writestr(PACKAGE + "/_startup.py", Path(_startup.__file__).read_text(encoding="utf-8"))
            archive.writestr(PACKAGE + "/thing.py", "VALUE = %r\n" % value)
            archive.writestr("sitecustomize.py", "raise SystemExit('not ours to keep')\n")
        return path

    return make


def show(payload, cache):
    env = dict(os.environ, XDG_CACHE_HOME=str(cache))
    answer = subprocess.run([sys.executable, "-S", "-c", SHOW, str(payload)], env=env, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    value, path = answer.stdout.split(maxsplit=1)
    return value, path.strip()


def kept(cache):
    return sorted((cache / "nordic.gitops" / "bytecode").iterdir())


def test_the_code_is_imported_compiled_and_not_out_of_the_zip(payload, tmp_path):
    archive = payload("one")
    for _run in range(2):
        value, path = show(archive, tmp_path / "cache")
        assert value == "one"
        assert path.startswith(str(tmp_path / "cache"))
    (folder,) = kept(tmp_path / "cache")
    assert list((folder / PACKAGE / "__pycache__").glob("thing.*.pyc"))
    assert folder.stat().st_mode & 0o077 == 0, "nobody else looks in or writes there"
    assert not (folder / "sitecustomize.py").exists()


def test_other_code_never_runs_in_place_of_the_one_that_was_sent(payload, tmp_path):
    assert [show(payload(value), tmp_path / "cache")[0] for value in ("one", "two", "one")] == ["one", "two", "one"]
    assert len(kept(tmp_path / "cache")) == 2


def test_without_a_folder_to_write_the_module_runs_out_of_the_zip(payload, tmp_path):
    (tmp_path / "file").write_text("in the way")
    archive = payload("one")
    assert show(archive, tmp_path / "file") == ("one", "%s/%s/thing.py" % (archive, PACKAGE))


def test_several_first_runs_at_once_agree(payload, tmp_path):
    archive, env = payload("one"), dict(os.environ, XDG_CACHE_HOME=str(tmp_path / "cache"))
    runs = [subprocess.Popen([sys.executable, "-S", "-c", SHOW, str(archive)], env=env, stdout=subprocess.PIPE, text=True) for _turn in range(4)]
    assert {run.communicate()[0].split()[0] for run in runs} == {"one"}
    assert len(kept(tmp_path / "cache")) == 1, "and nothing half done is left"


def test_a_folder_of_another_user_is_not_trusted(payload, tmp_path, monkeypatch):
    archive = payload("one")
    package = type(sys)("somebodys_package")
    package.__path__ = [str(archive) + "/somebodys_package"]
    monkeypatch.setitem(sys.modules, "somebodys_package", package)
    _startup.from_bytecode(str(archive), str(tmp_path / "cache"))
    assert len(package.__path__) == 2

    package.__path__ = package.__path__[1:]
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # fake: who we are, since only root can make a folder of somebody else
    _startup.from_bytecode(str(archive), str(tmp_path / "cache"))
    assert package.__path__ == [str(archive) + "/somebodys_package"]


def test_what_nobody_ran_for_long_is_removed(payload, tmp_path):
    show(payload("one"), tmp_path / "cache")
    (old,) = kept(tmp_path / "cache")
    ago = time.time() - (_startup.KEPT_DAYS + 1) * 86400
    os.utime(old, (ago, ago))
    show(payload("two"), tmp_path / "cache")
    (left,) = kept(tmp_path / "cache")
    assert left != old
