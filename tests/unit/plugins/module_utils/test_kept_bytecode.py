# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packed module compiles what it imports once, in the first run that a host sees, and finds the same files as without that; so does
Ansible's own process on the controller, with the collection that is installed there."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils import _kept_bytecode

PACKAGE = "ansible_collections/nordic/gitops/plugins/module_utils"
NEEDED = ("_kept_bytecode", "_cache", "_errors", "_masked_text", "_private_folder", "_whole_file")
MODULES = ("_alone.py", "_folder/__init__.py", "_folder/inner.py")

# Counts what is compiled, imports as a module does, and tells what each module says of itself.
PROGRAM = """
import builtins, collections, json, sys
counts, compiles = collections.Counter(), builtins.compile
def counted(source, filename, *more, **options):
    counts[str(filename)] += 1
    return compiles(source, filename, *more, **options)
builtins.compile = counted
sys.path.insert(0, sys.argv[1])
from ansible_collections.nordic.gitops.plugins.module_utils import {first}
from ansible_collections.nordic.gitops.plugins.module_utils import _alone
from ansible_collections.nordic.gitops.plugins.module_utils._folder import inner
told = {{module.__name__.rpartition(".")[2]: [module.__file__, module.VALUE, module.__loader__.get_source(module.__name__)] for module in (_alone, inner)}}
print(json.dumps({{"counts": {{name: count for name, count in counts.items() if name.startswith(sys.argv[1])}}, "told": told}}))
"""


def payload(archive: Path, value: int = 2) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        folder = ""
        for part in PACKAGE.split("/"):
            folder += part + "/"
            packed.writestr(f"{folder}__init__.py", "")
        for name in NEEDED:
            packed.writestr(f"{PACKAGE}/{name}.py", (Path(_kept_bytecode.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        packed.writestr(f"{PACKAGE}/_other.py", "")
        packed.writestr(f"{PACKAGE}/_alone.py", "VALUE = 1\n")
        packed.writestr(f"{PACKAGE}/_folder/__init__.py", "")
        packed.writestr(f"{PACKAGE}/_folder/inner.py", f"VALUE = {value}\n")
    return archive


def imported(archive: Path, caches: Path, first: str = "_kept_bytecode", python: str = sys.executable) -> Dict[str, Any]:
    done = subprocess.run([python, "-c", PROGRAM.format(first=first), str(archive)], check=True, capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(caches)})
    assert done.stderr == ""
    found: Dict[str, Any] = json.loads(done.stdout)
    return found


def compiled(found: Dict[str, Any], archive: Path) -> List[int]:
    return [found["counts"].get(f"{archive}/{PACKAGE}/{name}", 0) for name in MODULES]


def kept_files(caches: Path) -> List[Path]:
    return sorted((caches / "nordic.gitops" / "bytecode").glob("*"))


def test_a_packed_module_compiles_each_file_once_and_the_next_run_none(tmp_path: Path) -> None:
    archive, caches = payload(tmp_path / "payload.zip"), tmp_path / "caches"
    plain = imported(archive, caches, "_other")
    assert kept_files(caches) == []
    first, second = imported(archive, caches), imported(archive, caches)
    assert plain["told"] == first["told"] == second["told"]
    assert second["told"]["inner"] == [f"{archive}/{PACKAGE}/_folder/inner.py", 2, "VALUE = 2\n"]
    assert (compiled(first, archive), compiled(second, archive)) == ([1, 1, 1], [0, 0, 0])
    # If this fails, Python does so by itself, and get_filename can go.
    assert compiled(plain, archive) == [2, 2, 2]


def test_a_file_that_changed_is_compiled_again_though_it_has_the_same_name_and_size(tmp_path: Path) -> None:
    caches = tmp_path / "caches"
    imported(payload(tmp_path / "payload.zip"), caches)
    changed = imported(payload(tmp_path / "payload.zip", value=3), caches)
    assert changed["told"]["inner"][1] == 3
    assert len(kept_files(caches)) == 2


def test_a_payload_that_lies_elsewhere_is_the_same(tmp_path: Path) -> None:
    caches = tmp_path / "caches"
    imported(payload(tmp_path / "one.zip"), caches)
    other = payload(tmp_path / "other.zip")
    with zipfile.ZipFile(other, "a") as packed:
        packed.writestr("sitecustomize.py", "# Ansible writes the payload's own path here\n")
    assert compiled(imported(other, caches), other) == [0, 0, 0]


def forged(file: Path) -> None:
    """Bytecode as somebody else would leave it: well-formed, and with another value."""
    codes = {f"{PACKAGE.replace('/', '.')}._alone": (_kept_bytecode.UNCHANGED, marshal.dumps(compile("VALUE = 'forged'", "forged", "exec")))}
    content = marshal.dumps(codes)
    file.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_a_folder_that_others_may_write_is_neither_read_nor_written(tmp_path: Path, mode: int) -> None:
    archive, caches = payload(tmp_path / "payload.zip"), tmp_path / "caches"
    imported(archive, caches)
    file, = kept_files(caches)
    forged(file)
    assert imported(archive, caches)["told"]["_alone"][1] == "forged"  # so it would be used, if it could be ours
    forged(file)
    before = file.read_bytes()
    file.parent.chmod(mode)
    assert imported(archive, caches)["told"]["_alone"][1] == 1
    assert kept_files(caches) == [file] and file.read_bytes() == before


def test_a_file_that_others_may_write_or_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    archive, caches = payload(tmp_path / "payload.zip"), tmp_path / "caches"
    imported(archive, caches)
    file, = kept_files(caches)
    forged(file)
    file.chmod(0o666)
    assert imported(archive, caches)["told"]["_alone"][1] == 1
    forged(file)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert imported(archive, caches)["told"]["_alone"][1] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    archive, caches = payload(tmp_path / "payload.zip"), tmp_path / "caches"
    imported(archive, caches)
    file, = kept_files(caches)
    forged(file)
    os.chown(file, 12345, 12345)
    assert imported(archive, caches)["told"]["_alone"][1] == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"0" * 64 + b"\nabc", None], ids=["empty", "one line", "another digest", "cut short"])
def test_a_file_that_is_not_whole_is_made_anew(tmp_path: Path, content: Any) -> None:
    archive, caches = payload(tmp_path / "payload.zip"), tmp_path / "caches"
    imported(archive, caches)
    file, = kept_files(caches)
    file.write_bytes(file.read_bytes()[:-10] if content is None else content)
    assert compiled(imported(archive, caches), archive) == [1, 1, 1]
    assert compiled(imported(archive, caches), archive) == [0, 0, 0]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    archive = payload(tmp_path / "payload.zip")
    (tmp_path / "caches").write_text("a file, where a folder should be", encoding="utf-8")
    assert compiled(imported(archive, tmp_path / "caches"), archive) == [1, 1, 1]


def test_the_payloads_used_last_are_kept(tmp_path: Path) -> None:
    caches = tmp_path / "caches"
    imported(payload(tmp_path / "first.zip"), caches)
    first, = kept_files(caches)
    for number in range(_kept_bytecode.FILES + 3):
        (first.parent / str(number)).write_bytes(b"")
        os.utime(first.parent / str(number), (number, number))
    os.utime(first, (0, 0))
    imported(payload(tmp_path / "first.zip"), caches)  # older than all others, and used
    imported(payload(tmp_path / "second.zip", value=3), caches)
    assert len(kept_files(caches)) == _kept_bytecode.FILES and first in kept_files(caches)


# ---- an installed collection, in Ansible's own process

OURS = "ansible_collections/nordic/gitops/plugins/"
# What is needed to read what is kept. (Of plugins Ansible keeps the bytecode itself.)
ALWAYS = {f"module_utils/{name}.py" for name in NEEDED if name != "_whole_file"}
COUNTING = f"""
import builtins, os, sys
def opened(event, arguments):
    if event == "open" and "nordic.gitops/bytecode/" in str(arguments[0]) and arguments[2] & os.O_ACCMODE == os.O_RDONLY:
        os.environ["OPENED"] += "x"
        with builtins.open(os.environ["COMPILED"] + ".opened", "w") as log:
            log.write(os.environ["OPENED"])
os.environ["OPENED"] = ""
sys.addaudithook(opened)
compiles = builtins.compile
def counted(source, filename, *more, **options):
    if {OURS!r} in str(filename) and "/plugins/action/" not in str(filename):
        with open(os.environ["COMPILED"], "a") as log:
            log.write(str(filename) + "\\n")
    return compiles(source, filename, *more, **options)
builtins.compile = counted
"""
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - nordic.gitops.reconcile: {name: bytecode, repository: "file:///nowhere", kubeconfig: /nowhere}
      loop: [1, 2, 3]
"""


class Controller:
    """An installed copy of the collection, and ansible-playbook to run it with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plugins = folder, folder / "collections" / OURS
        source = Path(_kept_bytecode.__file__).parents[1]
        for part in ("action", "modules", "module_utils", "doc_fragments", "plugin_utils"):
            shutil.copytree(source / part, self.plugins / part, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "counting").mkdir()
        (folder / "counting" / "sitecustomize.py").write_text(COUNTING, encoding="utf-8")
        (folder / "play.yml").write_text(PLAY, encoding="utf-8")

    def files(self) -> Set[Path]:
        return {path for part in ("modules", "module_utils", "plugin_utils") for path in (self.plugins / part).rglob("*")}

    def compiled(self) -> Set[str]:
        """What one run of the play compiles of the collection; a file that is compiled twice is a mistake."""
        log = self.folder / "compiled"
        log.write_text("", encoding="utf-8")
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}",
             str(self.folder / "play.yml")], check=False, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder / "home"), "XDG_CACHE_HOME": str(self.folder / "caches"),
                 "PYTHONPATH": str(self.folder / "counting"), "COMPILED": str(log), "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections")})
        assert done.returncode == 2 and "/nowhere" in done.stdout, done.stdout + done.stderr
        names = [line.partition(OURS)[2] for line in log.read_text(encoding="utf-8").splitlines()]
        assert not [name for name in set(names) if names.count(name) > 1]
        return set(names)


def test_ansible_compiles_an_installed_collection_once_and_writes_nothing_into_it(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    files = controller.files()
    first = controller.compiled()
    assert {"modules/reconcile.py", "module_utils/_reconcile/__init__.py", "module_utils/_objects/ownership.py"} < first
    assert controller.compiled() == ALWAYS & first
    assert controller.files() == files
    changed = controller.plugins / "module_utils" / "_objects" / "ownership.py"
    changed.write_text(changed.read_text(encoding="utf-8"), encoding="utf-8")
    assert controller.compiled() == ALWAYS & first | {"module_utils/_objects/ownership.py"}
    assert controller.compiled() == ALWAYS & first


def test_a_source_of_the_same_size_and_time_is_another_one(tmp_path: Path) -> None:
    """As files of two versions are in an image or a package that is built to be reproducible."""
    controller = Controller(tmp_path)
    first = controller.compiled()
    changed = controller.plugins / "module_utils" / "_objects" / "ownership.py"
    facts = changed.stat()
    changed.write_text(changed.read_text(encoding="utf-8").replace("Copyright", "copyright"), encoding="utf-8")
    os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (changed.stat().st_mtime_ns, changed.stat().st_size) == (facts.st_mtime_ns, facts.st_size)
    assert controller.compiled() == ALWAYS & first | {"module_utils/_objects/ownership.py"}


def test_the_items_of_a_loop_share_what_was_read(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    controller.compiled()
    controller.compiled()
    assert (tmp_path / "compiled.opened").read_text(encoding="utf-8") == "x"


def test_what_others_may_write_is_not_run_by_ansible(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    first = controller.compiled()
    kept, = kept_files(tmp_path / "caches")
    kept.parent.chmod(0o777)
    assert controller.compiled() == first
