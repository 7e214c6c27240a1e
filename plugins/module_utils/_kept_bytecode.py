# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the bytecode of a packed module, as Python keeps that of everything that is installed.

Ansible sends a module as a zip file. Python compiles each file of it in each run, and even twice: zipimport compiles it to find its name,
throws that away, and compiles it again to run it. Measured gain (a reconcile that finds nothing to do, processor seconds, the median of nine
runs each in turns, 72 files of this collection): 0.46 s with what is kept, 0.59 s where each file is only not compiled twice, 0.72 s without this.

The bytecode lies in the user's private cache, next to the Git mirror, and is used only as long as nobody else can write there; who can write
to a home folder can run programs as its user without that. Its name says which Python and which files it belongs to.

A module imports this before anything else. Without that import nothing changes but the time; outside of a zip file it does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import marshal
import os
import sys
import zipfile
import zipimport
from types import CodeType
from typing import Dict, Optional

FILES = 16  # payloads whose bytecode is kept; each is below 2 MB
PACKAGES = ("ansible/", "ansible_collections/")  # of the payload; what else it holds is another at each run


class Kept:
    """The bytecode of one payload's modules, by their names."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        self._codes: Dict[str, bytes] = {}
        self._compiled: Dict[str, bytes] = {}
        self._file = ""

    def begin(self, folder: str) -> None:
        """Use what an earlier run left in the folder, and leave there at the end what is new."""
        from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import is_private, read_own

        self._file = os.path.join(folder, self._key())
        if is_private(folder):
            digest, _line, content = (read_own(self._file) or b"").partition(b"\n")
            if digest == hashlib.sha256(content).hexdigest().encode():
                self._codes = marshal.loads(content)
                with contextlib.suppress(OSError):
                    os.utime(self._file)  # the ones used last are kept
        atexit.register(self.keep)

    def code_of(self, name: str) -> Optional[CodeType]:
        """The module's code, if it is kept."""
        code = self._codes.get(name)
        return None if code is None else marshal.loads(code)

    def add(self, name: str, code: CodeType) -> None:
        """A module that had to be compiled."""
        self._compiled[name] = marshal.dumps(code)

    def keep(self) -> None:
        """Write what is new. A cache that can't be written costs time, not the run."""
        from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
        from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import make_private
        from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole

        if not self._compiled:
            return
        folder = os.path.dirname(self._file)
        content = marshal.dumps({**self._codes, **self._compiled})
        with contextlib.suppress(OSError, Failure):
            make_private(folder, "XDG_CACHE_HOME")
            write_whole(self._file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content, lasting=False)
            files = sorted((os.path.join(folder, name) for name in os.listdir(folder)), key=lambda file: os.stat(file).st_mtime)
            for file in files[:-FILES]:
                os.unlink(file)

    def _key(self) -> str:
        """This Python, and the payload's files by name, size and checksum: a zip file that somebody made to have the same is run already."""
        with zipfile.ZipFile(self.archive) as payload:
            files = sorted((each.filename, each.CRC, each.file_size) for each in payload.infolist() if each.filename.startswith(PACKAGES))
        return hashlib.sha256(repr((importlib.util.MAGIC_NUMBER, sys.flags.optimize, files)).encode()).hexdigest()


class KeepingImporter(zipimport.zipimporter):
    """Finds modules in a zip file, as its base class does."""

    kept: Kept

    def get_filename(self, fullname: str) -> str:
        """The file of a module, without the compiler."""
        end = "/__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}/{self.prefix}{fullname.rpartition('.')[2]}{end}"

    def get_code(self, fullname: str) -> CodeType:
        """A module's code, compiled only if it is not kept."""
        if self.archive != self.kept.archive:
            return super().get_code(fullname)
        code = self.kept.code_of(fullname)
        if code is None:
            code = super().get_code(fullname)
            self.kept.add(fullname, code)
        return code


def begin(archive: str) -> None:
    """Import from this zip file by the class above from now on."""
    KeepingImporter.kept = Kept(archive)
    sys.path_hooks.insert(0, KeepingImporter)
    for place in [place for place in sys.path_importer_cache if place.startswith(archive)]:
        del sys.path_importer_cache[place]  # else folders that were looked into keep the finder that they have
    from ansible_collections.nordic.gitops.plugins.module_utils._cache import cache_folder

    KeepingImporter.kept.begin(os.path.join(os.path.dirname(cache_folder()), "bytecode"))


_loader = globals()["__loader__"]
if isinstance(_loader, zipimport.zipimporter):
    begin(_loader.archive)
