# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the module's own code as bytecode.

Ansible sends a module as a zip file, and Python compiles everything it imports out of a zip on every run; zipimport even
compiles each file twice, for its name and for its code. For a reconcile that finds nothing to do that is a quarter of its
processor time. So the code of the zip is kept once, compiled, in the user's cache folder, and the packages are pointed
there. The folder's name is a fingerprint of the zip's content, so a changed file is another folder. The zip holds code
alone, never arguments.

A module imports this before anything else. Where it cannot be done (no zip, no cache folder to write, one that belongs to
somebody else), nothing happens and Python imports from the zip.
"""

from __future__ import annotations

import os
import sys
import zipfile
from typing import Any, List

KEPT_DAYS = 30  # a version of the code that nobody ran for so long is removed


def from_bytecode(archive: str, cache: str) -> None:
    """Let the packages that came from `archive` find the rest of their modules compiled, below `cache`."""
    with zipfile.ZipFile(archive) as code:
        files = [info for info in code.infolist() if info.filename.endswith(".py") and info.filename.startswith(("ansible/", "ansible_collections/"))]
        folder = os.path.join(cache, _fingerprint(files))
        if not os.path.isdir(folder):
            _keep(code, files, cache, folder)
    for place in (cache, folder):
        owner = os.lstat(place)
        if owner.st_uid != os.geteuid() or owner.st_mode & 0o022:
            return  # somebody else could have put code there
    os.utime(folder)
    for module in list(sys.modules.values()):
        paths = getattr(module, "__path__", None)
        if isinstance(paths, list) and paths and paths[0].startswith(archive + os.sep):
            paths.insert(0, folder + paths[0][len(archive):])


def _fingerprint(files: List[zipfile.ZipInfo]) -> str:
    from hashlib import sha256

    parts = ["%s %d %d" % (info.filename, info.CRC, info.file_size) for info in files]
    return sha256("\n".join([sys.version] + sorted(parts)).encode()).hexdigest()[:32]


def _keep(code: zipfile.ZipFile, files: List[zipfile.ZipInfo], cache: str, folder: str) -> None:
    """Unpack and compile aside, then rename: another run sees all of it or none."""
    import compileall
    import shutil
    import tempfile

    os.makedirs(cache, mode=0o700, exist_ok=True)
    _forget(cache)
    aside = tempfile.mkdtemp(prefix=".new-", dir=cache)
    try:
        code.extractall(aside, files)
        # Its file names in messages are those of the folder's later place. The files never change there, so no time is compared.
        compileall.compile_dir(aside, quiet=2, stripdir=aside, prependdir=folder, invalidation_mode=_unchecked())
        os.rename(aside, folder)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not os.path.isdir(folder):  # else another run was quicker
            raise


def _unchecked() -> Any:
    from py_compile import PycInvalidationMode

    return PycInvalidationMode.UNCHECKED_HASH


def _forget(cache: str) -> None:
    import shutil
    import time

    oldest = time.time() - KEPT_DAYS * 86400
    for entry in os.scandir(cache):
        if entry.stat(follow_symlinks=False).st_mtime < oldest:
            shutil.rmtree(entry.path, ignore_errors=True)


def _cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "nordic.gitops", "bytecode")


def _begin() -> None:
    archive = getattr(globals().get("__loader__"), "archive", None)
    if archive:
        try:
            from_bytecode(archive, _cache())
        except (OSError, ValueError, ImportError, TypeError):
            pass  # only slower


_begin()
