# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packed module compiles what it imports once, and finds the same files as without that."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict

from ansible_collections.nordic.gitops.plugins.module_utils import _compiled_once

PACKAGE = "ansible_collections/nordic/gitops/plugins/module_utils"

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


def imported(archive: Path, first: str) -> Dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(first=first), str(archive)], check=True, capture_output=True, text=True)
    found: Dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_packed_module_compiles_each_file_that_it_imports_once(tmp_path: Path) -> None:
    archive = tmp_path / "payload.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        folder = ""
        for part in PACKAGE.split("/"):
            folder += part + "/"
            packed.writestr(f"{folder}__init__.py", "")
        packed.writestr(f"{PACKAGE}/_compiled_once.py", Path(_compiled_once.__file__).read_text(encoding="utf-8"))
        packed.writestr(f"{PACKAGE}/_other.py", "")
        packed.writestr(f"{PACKAGE}/_alone.py", "VALUE = 1\n")
        packed.writestr(f"{PACKAGE}/_folder/__init__.py", "")
        packed.writestr(f"{PACKAGE}/_folder/inner.py", "VALUE = 2\n")
    here = [f"{archive}/{PACKAGE}/{name}" for name in ("_alone.py", "_folder/__init__.py", "_folder/inner.py")]
    plain, once = imported(archive, "_other"), imported(archive, "_compiled_once")
    assert plain["told"] == once["told"] and once["told"]["inner"] == [here[2], 2, "VALUE = 2\n"]
    assert [once["counts"][name] for name in here] == [1, 1, 1]
    # If this fails, Python does so by itself, and _compiled_once.py can go.
    assert [plain["counts"][name] for name in here] == [2, 2, 2]
