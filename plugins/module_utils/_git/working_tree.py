# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local repository holds that is not committed: whoever edits a file and runs the playbook should not have to find out why nothing happens."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from typing import Dict, List, Tuple
from urllib.parse import unquote

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line

SUFFIXES = (".yaml", ".yml", ".json")


def not_committed(url: str, revision: str, commit: Commit, path: str) -> List[str]:
    """The files below a path that differ from the commit, where the URL leads to a folder in which this very branch is checked out.

    A look at the index tells a clean folder in 3 ms; only what that cannot tell is asked of Git, in a sandbox, since the repository's own
    configuration may name programs. An answer that cannot be had is none.
    """
    scheme, _separator, folder = url.partition("://")
    folder = os.path.realpath(unquote(folder))
    if scheme != "file" or not os.path.isdir(os.path.join(folder, ".git")) or revision not in ("HEAD", _branch(folder)):
        return []
    try:
        if _is_clean(folder, path, commit.tree):
            return []
    except (OSError, ValueError, IndexError, struct.error):
        pass  # an index of another format
    git = shutil.which("git")
    if git is None:
        return []
    policy = _sandbox.Policy(program=git, read=(folder,), limits=_sandbox.Limits(seconds=30, output=4 << 20))
    command = [git, "-c", "core.fsmonitor=false", "-c", "status.renames=false", "status", "--porcelain", "-z", "--untracked-files=all",
               "--ignore-submodules=all", "--", path]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_OPTIONAL_LOCKS": "0",
                   "GIT_LITERAL_PATHSPECS": "1", "HOME": os.devnull, "LC_ALL": "C"}
    try:
        ended = _sandbox.run(command, policy, folder, environment)
    except Failure:
        return []
    return sorted(one_line(os.fsdecode(entry[3:]), 200) for entry in ended.out.split(b"\0") if len(entry) > 3) if ended.status == 0 else []


def _branch(folder: str) -> str:
    try:
        with open(os.path.join(folder, ".git", "HEAD"), encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip().partition("refs/heads/")[2]
    except OSError:
        return ""


def _is_clean(folder: str, path: str, tree: str) -> bool:
    """Whether the index is the commit's tree, and each file below the path is as the index has it, with no manifest beside them."""
    with open(os.path.join(folder, ".git", "index"), "rb") as file:
        data = file.read()
    known, end = _entries(data)
    if _cached_tree(data, end) != tree:
        return False
    top = os.fsencode(folder)
    prefix = b"" if path in ("", ".") else os.fsencode(path) + b"/"
    for name, (seconds, nanoseconds, size) in known.items():
        if name.startswith(prefix):
            status = os.lstat(os.path.join(top, name))
            if (int(status.st_mtime), status.st_size & 0xFFFFFFFF) != (seconds, size) or not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                return False
            if nanoseconds and status.st_mtime_ns % 1_000_000_000 != nanoseconds:
                return False
    start = os.path.join(top, prefix.rstrip(b"/")) if prefix else top
    for place, folders, names in os.walk(start):
        folders[:] = [one for one in folders if one != b".git"]
        below = place[len(top):].strip(b"/")
        for name in names:
            if name.decode("utf-8", "replace").endswith(SUFFIXES) and (below + b"/" + name if below else name) not in known:
                return False
    return True


def _entries(data: bytes) -> Tuple[Dict[bytes, Tuple[int, int, int]], int]:
    """Name: (modified: seconds, nanoseconds; size) of every entry of an index, and where its extensions begin (gitformat-index(5))."""
    signature, version, count = struct.unpack_from(">4sII", data)
    if signature != b"DIRC" or version not in (2, 3):
        raise ValueError
    entries: Dict[bytes, Tuple[int, int, int]] = {}
    place = 12
    for _number in range(count):
        seconds, nanoseconds = struct.unpack_from(">II", data, place + 8)
        size, = struct.unpack_from(">I", data, place + 36)
        flags, = struct.unpack_from(">H", data, place + 60)
        begin = place + (64 if flags & 0x4000 else 62)
        end = data.index(b"\0", begin)
        entries[data[begin:end]] = (seconds, nanoseconds, size)
        place += (end - place) // 8 * 8 + 8
    return entries, place


def _cached_tree(data: bytes, place: int) -> str:
    """The tree that the index is, where Git noted it: "" after something was added."""
    while place + 8 <= len(data) - 20:
        name, size = struct.unpack_from(">4sI", data, place)
        if name == b"TREE":
            _path, _zero, rest = data[place + 8:place + 8 + size].partition(b"\0")
            counts, _newline, rest = rest.partition(b"\n")
            return rest[:20].hex() if int(counts.split()[0]) >= 0 else ""
        place += 8 + size
    return ""
