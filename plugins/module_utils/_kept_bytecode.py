# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the bytecode of this collection, as Python keeps that of everything that is installed.

Ansible sends a module as a zip file. Python compiles each file of it in each run, and even twice: zipimport compiles it to find its name,
throws that away, and compiles it again to run it. On the controller Ansible loads what a collection has, and compiles it in each run, too.
Measured gain (a reconcile that finds nothing to do, the median of nine runs each in turns, 72 files of this collection):
- a packed module, processor seconds: 0.46 s with what is kept, 0.59 s where each file is only not compiled twice, 0.72 s without this;
- a call of ansible-playbook, on the controller: processor seconds 0.67 s without, 0.56 s with this.

The bytecode lies in the user's private cache, next to the Git mirror, and is used only as long as nobody else can write there; who can write
to a home folder can run programs as its user without that. A file's name says which Python it belongs to, and which payload or collection;
that of an installed collection notes each source with its size and its times, also the one that nobody can set: of an image that is built to
be reproducible, or of a package, all files of two versions may have one and the same time of change.

A module imports this before anything else, an action plugin calls begin_installed() and keep(). Without these nothing changes but the time.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import marshal
import os
import sys
import zipfile
import zipimport
from types import CodeType
from typing import Any, Dict, Optional, Sequence, Tuple

FILES = 16  # payloads and collections whose bytecode is kept; each is below 2 MB
PACKAGES = ("ansible/", "ansible_collections/")  # of the payload; what else it holds is another at each run
INSTALLED = __name__.rpartition(".module_utils.")[0]  # this collection's plugins
Stamp = Tuple[int, ...]
UNCHANGED: Stamp = ()  # the stamp of what the name of its file stands for already


class Kept:
    """The bytecode of one payload's or collection's modules, by their names. key: which one, and which Python."""

    def __init__(self, key: Tuple[Any, ...]) -> None:
        from ansible_collections.nordic.gitops.plugins.module_utils._cache import cache_folder
        from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import is_private, read_own

        name = hashlib.sha256(repr((importlib.util.MAGIC_NUMBER, sys.flags.optimize, *key)).encode()).hexdigest()
        folder = os.path.join(os.path.dirname(cache_folder()), "bytecode")
        self._file = os.path.join(folder, name)
        self._codes: Dict[str, Tuple[Stamp, bytes]] = {}
        self._compiled: Dict[str, Tuple[Stamp, bytes]] = {}
        if is_private(folder):
            digest, _line, content = (read_own(self._file) or b"").partition(b"\n")
            if digest == hashlib.sha256(content).hexdigest().encode():
                self._codes = marshal.loads(content)
                with contextlib.suppress(OSError):
                    os.utime(self._file)  # the ones used last are kept

    def code_of(self, name: str, stamp: Stamp) -> Optional[CodeType]:
        """The module's code, if it is kept, of a source with this stamp."""
        kept = self._codes.get(name)
        return marshal.loads(kept[1]) if kept is not None and kept[0] == stamp else None

    def add(self, name: str, stamp: Stamp, code: CodeType) -> None:
        """A module that had to be compiled."""
        self._compiled[name] = (stamp, marshal.dumps(code))

    def keep(self) -> None:
        """Write what is new. A cache that can't be written costs time, not the run."""
        from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
        from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import make_private
        from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole

        if not self._compiled:
            return
        folder = os.path.dirname(self._file)
        self._codes, self._compiled = {**self._codes, **self._compiled}, {}
        content = marshal.dumps(self._codes)
        with contextlib.suppress(OSError, Failure):
            make_private(folder, "XDG_CACHE_HOME")
            write_whole(self._file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content, lasting=False)
            files = sorted((os.path.join(folder, name) for name in os.listdir(folder)), key=lambda file: os.stat(file).st_mtime)
            for file in files[:-FILES]:
                os.unlink(file)


def _payload(archive: str) -> Tuple[Any, ...]:
    """The payload's files by name, size and checksum: a zip file that somebody made to have the same is run already."""
    with zipfile.ZipFile(archive) as payload:
        files = sorted((each.filename, each.CRC, each.file_size) for each in payload.infolist() if each.filename.startswith(PACKAGES))
    return (files,)


class KeepingImporter(zipimport.zipimporter):
    """Finds modules in a zip file, as its base class does."""

    kept: Kept
    only: str

    def get_filename(self, fullname: str) -> str:
        """The file of a module, without the compiler."""
        end = "/__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}/{self.prefix}{fullname.rpartition('.')[2]}{end}"

    def get_code(self, fullname: str) -> CodeType:
        """A module's code, compiled only if it is not kept."""
        if self.archive != self.only:
            return super().get_code(fullname)
        code = self.kept.code_of(fullname, UNCHANGED)
        if code is None:
            code = super().get_code(fullname)
            self.kept.add(fullname, UNCHANGED, code)
        return code


class KeepingLoader(importlib.machinery.SourceFileLoader):
    """Loads a source file, as its base class does; nothing is written beside it, where it would be in the way of `ansible-galaxy verify`."""

    kept: Kept

    def get_code(self, fullname: str) -> Optional[CodeType]:
        """A module's code, compiled only if it is not kept."""
        facts = os.stat(self.path)
        stamp = (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
        code = self.kept.code_of(fullname, stamp)
        if code is None:
            code = self.source_to_code(self.get_data(self.path), self.path)
            self.kept.add(fullname, stamp, code)
        return code


class KeepingFinder:
    """Finds this collection's modules and what they share in the folders where Ansible found the packages around them."""

    def __init__(self) -> None:
        self._finders: Dict[str, importlib.machinery.FileFinder] = {}

    def find_spec(self, fullname: str, path: Optional[Sequence[str]] = None, _target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        """The module's place, None for what is not of this collection."""
        if not fullname.startswith((f"{INSTALLED}.module_utils.", f"{INSTALLED}.modules.")):
            return None
        for folder in path or ():
            finder = self._finders.get(folder)
            if finder is None:
                finder = self._finders[folder] = importlib.machinery.FileFinder(folder, (KeepingLoader, importlib.machinery.SOURCE_SUFFIXES))
            spec = finder.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                return spec
        return None


def keep() -> None:
    """At the end of a task in Ansible's own process, which ends without a word: keep what it compiled."""
    kept = getattr(KeepingLoader, "kept", None)
    if kept is not None:
        kept.keep()


def _begin_payload(archive: str) -> None:
    """Import from this zip file by the class above from now on."""
    sys.path_hooks.insert(0, KeepingImporter)
    for place in [place for place in sys.path_importer_cache if place.startswith(archive)]:
        del sys.path_importer_cache[place]  # else folders that were looked into keep the finder that they have
    KeepingImporter.only = ""
    kept = Kept(_payload(archive))
    KeepingImporter.kept, KeepingImporter.only = kept, archive
    atexit.register(kept.keep)


def begin_installed() -> None:
    """In Ansible's own process: import this collection's files by the classes above from now on, where Ansible's loader is at work, which
    keeps nothing. Any other keeps bytecode by itself, or is meant not to."""
    # A loop runs all its items in one process.
    if type(_loader).__module__.startswith("ansible.") and not hasattr(KeepingLoader, "kept"):
        KeepingLoader.kept = Kept((os.path.dirname(os.path.abspath(__file__)),))
        sys.meta_path.insert(0, KeepingFinder())


_loader = globals()["__loader__"]
if isinstance(_loader, zipimport.zipimporter):
    _begin_payload(_loader.archive)
