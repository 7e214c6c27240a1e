# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a folder is private: nobody but this user and root can have put anything into it, or can put another in its place.

Asked before each read and each write of a cache, of the folder and of everything that leads to it. A folder of somebody else could hold a
Git configuration that runs a program as us, or trees and renders that nobody signed.
"""

from __future__ import annotations

import os
import stat
from typing import Iterator, List, Optional, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused

LINKS = 40  # the kernel's own limit (ELOOP)


def make_private(path: str, option: str) -> None:
    """Make the folder, where it is not there, for us alone; refuse it where others could have a hand in it."""
    missing: List[str] = []
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    check_parents(folder, option)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass  # another process of ours was quicker, or somebody else: that is what the check below tells
        except OSError as error:
            raise Failure(f"the cache can't be used: {error.strerror}", folder, f"Give a folder of your own as {option}.") from None
    check_private(path, option)


def is_private(path: str) -> bool:
    """Whether the folder is there and check_private() would take it, for what is only kept to save time."""
    try:
        check_private(path, "")
    except Failure:
        return False
    return True


def read_own(file: str) -> Optional[bytes]:
    """What a file of a private folder holds; None where there is none that this user alone can have written."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as handle:
            facts = os.fstat(handle.fileno())
            return handle.read() if facts.st_uid == os.geteuid() and not facts.st_mode & 0o022 else None
    except OSError:
        return None


def check_private(path: str, option: str) -> None:
    """Refuse a folder that is there, unless it and all that leads to it is ours, or root's, and writable for nobody else."""
    facts = check_parents(path, option)
    if not stat.S_ISDIR(facts.st_mode):
        raise Refused("the cache can't be used: this is not a folder", path, f"Give a folder of your own as {option}.")
    if facts.st_mode & 0o022:
        raise Refused("the cache can be written by other users", path, f"Give a folder of your own as {option}, or chmod it to 0700.")


def check_parents(path: str, option: str) -> os.stat_result:
    """Refuse a path where any part of it, or of what its links lead to, belongs to other users or can be replaced by them."""
    own = {0, os.geteuid()}
    facts = os.lstat("/")
    for place, facts in _steps(path, option):
        if facts.st_uid not in own:
            raise Refused(f"the cache belongs to another user (uid {facts.st_uid})", place, f"Give a folder of your own as {option}.")
        if stat.S_ISDIR(facts.st_mode) and _others_may_replace(facts):
            raise Refused("the cache can be written by other users", place, f"Give a folder as {option} that no other user can replace, or correct its mode.")
    return facts


def _others_may_replace(facts: os.stat_result) -> bool:
    if facts.st_mode & stat.S_ISVTX:
        return False  # as /tmp: everybody makes files there, and nobody replaces those of others
    return bool(facts.st_mode & stat.S_IWOTH or facts.st_mode & stat.S_IWGRP and not _group_is_ours(facts.st_gid))


def _group_is_ours(gid: int) -> bool:
    """Root's group (an execution environment runs as any user in it), and the group that a distribution makes for each user alone."""
    if gid == 0:
        return True
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and gid == user.pw_gid and set(group.gr_mem) <= {user.pw_name}


def _steps(path: str, option: str) -> Iterator[Tuple[str, os.stat_result]]:
    """Each folder and each link on the way from the root to what the path means, as the kernel walks it."""
    todo = [part for part in os.path.abspath(path).split("/") if part][::-1]
    here, links = "/", 0
    seen: Set[str] = set()
    yield here, os.lstat(here)
    while todo:
        part = todo.pop()
        if part == "..":
            here = os.path.dirname(here)
            continue
        if part == ".":
            continue
        place = os.path.join(here, part)
        try:
            facts = os.lstat(place)
        except OSError as error:
            raise Failure(f"the cache can't be used: {error.strerror}", place, f"Give a folder of your own as {option}.") from None
        if place not in seen:
            seen.add(place)
            yield place, facts
        if not stat.S_ISLNK(facts.st_mode):
            here = place
            continue
        links += 1
        if links > LINKS:
            raise Refused("its symbolic links lead in a circle", path)
        target = os.readlink(place)
        todo += [each for each in target.split("/") if each][::-1]
        if target.startswith("/"):
            here = "/"
