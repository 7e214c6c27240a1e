# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command of ours finds in its environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional

from . import collection, python
from .places import CHECKOUT, of_this_checkout, state


def variables(environment: Path, root: Optional[Path] = None, home: Optional[Path] = None) -> Dict[str, str]:
    """The environment of a command that uses the collection under `root` (default: the checkout itself, linked)."""
    root = root or collection.linked()
    ours = dict(os.environ)
    # The virtual environment of somebody's shell, a pyenv pin or a user's ansible.cfg must not decide what our commands run with.
    for name in ("PYTHONHOME", "PYENV_VERSION", "ANSIBLE_CONFIG", "ANSIBLE_LIBRARY", "ANSIBLE_ROLES_PATH", "__PYVENV_LAUNCHER__"):
        ours.pop(name, None)
    ours.update(
        VIRTUAL_ENV=str(environment),
        PATH=os.pathsep.join([str(environment / "bin"), os.environ.get("PATH", os.defpath)]),
        PYTHONPATH=os.pathsep.join([str(root), str(CHECKOUT / "tests")]),
        ANSIBLE_COLLECTIONS_PATH=str(root),
        ANSIBLE_HOME=str((home or of_this_checkout()) / ".ansible"),
        ANSIBLE_LOCALHOST_WARNING="False",
        ANSIBLE_INVENTORY_UNPARSED_WARNING="False",
        ANSIBLE_NOCOWS="True",
        NORDIC_CACHE=str(state()),
    )
    return ours


def for_checkers(environment: Path, home: Path) -> Dict[str, str]:
    """The environment of ansible-test: a home of ours, and the real folder of every interpreter of the machine on PATH."""
    ours = variables(environment, collection.copied(), home)
    folders: List[str] = [str(environment / "bin")]
    folders += [str(Path(path).parent) for path in python.interpreters().values()]
    # A shim of an interpreter that is not active would be taken for the interpreter; it exits 127.
    folders += [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(part).name != "shims"]
    ours.update(PATH=os.pathsep.join(dict.fromkeys(folders)), HOME=str(home))
    ours.pop("PYTHONPATH")
    return ours
