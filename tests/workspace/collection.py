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


def copied(purpose: str = "copied") -> Path:
    """The collection root whose nordic/gitops is a copy of every file that Git knows or would take, brought up to date.

    purpose: a name of one's own for a copy that nobody else brings up to date meanwhile.
    """
    root = of_this_checkout() / purpose
    with locked(of_this_checkout() / (purpose + ".lock")):
        mirror(CHECKOUT, root / NAME, known_files(CHECKOUT))
    return root


def known_files(checkout: Path) -> Set[str]:
    """What Git tracks or would take, as it lies there now: a file deleted but not yet committed is none."""
    listing = subprocess.run(["git", "-C", str(checkout), "ls-files", "--cached", "--others", "--exclude-standard", "-z"], capture_output=True, check=False)
    if listing.returncode:
        raise Problem("the checks need %s to be a Git checkout: %s" % (checkout, listing.stderr.decode(errors="replace").strip()))
    names = {os.fsdecode(name) for name in listing.stdout.split(b"\0") if name}
    return {name for name in names if os.path.lexists(str(checkout / name)) and not (checkout / name).is_dir()}


def mirror(checkout: Path, target: Path, names: Set[str]) -> None:
    """Copy what differs in size, time or mode and remove what is no more, so that caches keyed by time stay warm."""
    target.mkdir(parents=True, exist_ok=True)
    folders = {str(parent) for name in names for parent in Path(name).parents}
    for path in sorted(target.rglob("*"), reverse=True):
        name = str(path.relative_to(target))
        if _is_a_cache(name):
            continue
        if path.is_dir() and not path.is_symlink():
            if name not in folders:
                shutil.rmtree(str(path))
        elif name not in names:
            path.unlink()
    for name in sorted(names):
        source, copy = checkout / name, target / name
        if _same(source, copy):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(str(copy)):
            copy.unlink()
        shutil.copy2(str(source), str(copy), follow_symlinks=False)


def _is_a_cache(name: str) -> bool:
    """What the checkers leave in the copy for their next run."""
    return name.split("/")[0] in (".ansible", ".mypy_cache") or name.startswith("tests/output") or name == "tests"


def _same(source: Path, copy: Path) -> bool:
    if not os.path.lexists(str(copy)):
        return False
    ours, theirs = source.lstat(), copy.lstat()
    return (ours.st_mode, ours.st_size, ours.st_mtime_ns) == (theirs.st_mode, theirs.st_size, theirs.st_mtime_ns)
