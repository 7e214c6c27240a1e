# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two views of the checkout as the collection `nordic.gitops`, since Ansible finds a collection by its folder's name.

The link serves ansible-playbook and pytest: what is edited is what runs. The copy serves ansible-test, ansible-galaxy and the
linters: ansible-test refuses a path that goes through a link, and none of them may leave anything in the tree.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Set

from .places import CHECKOUT, Problem, locked, of_this_checkout

NAME = Path("ansible_collections") / "nordic" / "gitops"


def linked() -> Path:
    """The collection root (what ANSIBLE_COLLECTIONS_PATH and PYTHONPATH name) whose nordic/gitops is the checkout itself."""
    root = of_this_checkout() / "linked"
    link = root / NAME
    with locked(of_this_checkout() / "linked.lock"):
        if not link.is_symlink() or os.readlink(str(link)) != str(CHECKOUT):
            link.parent.mkdir(parents=True, exist_ok=True)
            new = link.with_name("gitops.new")
            if new.is_symlink():
                new.unlink()
            new.symlink_to(CHECKOUT)
            new.replace(link)
    return root


def copied() -> Path:
    """The collection root whose nordic/gitops is a copy of every file that Git knows or would take, brought up to date."""
    root = of_this_checkout() / "copied"
    with locked(of_this_checkout() / "copied.lock"):
        _mirror(root / NAME, _files())
    return root


def _files() -> Set[str]:
    listing = subprocess.run(["git", "-C", str(CHECKOUT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"], capture_output=True, check=False)
    if listing.returncode:
        raise Problem("the checks need %s to be a Git checkout: %s" % (CHECKOUT, listing.stderr.decode(errors="replace").strip()))
    names = {os.fsdecode(name) for name in listing.stdout.split(b"\0") if name}
    return {name for name in names if os.path.lexists(str(CHECKOUT / name)) and not (CHECKOUT / name).is_dir()}


def _mirror(target: Path, names: Set[str]) -> None:
    """Copy what differs in size, time or mode and remove what is no more, so that caches keyed by time stay warm."""
    target.mkdir(parents=True, exist_ok=True)
    folders = {str(parent) for name in names for parent in Path(name).parents}
    for path in sorted(target.rglob("*"), reverse=True):
        name = str(path.relative_to(target))
        if path.is_dir() and not path.is_symlink():
            if name not in folders:
                shutil.rmtree(str(path))
        elif name not in names:
            path.unlink()
    for name in sorted(names):
        source, copy = CHECKOUT / name, target / name
        if _same(source, copy):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(str(copy)):
            copy.unlink()
        shutil.copy2(str(source), str(copy), follow_symlinks=False)


def _same(source: Path, copy: Path) -> bool:
    if not os.path.lexists(str(copy)):
        return False
    ours, theirs = source.lstat(), copy.lstat()
    return (stat.S_IFMT(ours.st_mode), ours.st_mode, ours.st_size, ours.st_mtime_ns) == (stat.S_IFMT(theirs.st_mode), theirs.st_mode, theirs.st_size, theirs.st_mtime_ns)
