# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types: mypy on what users depend on (module_utils, plugin_utils, modules, lookups, filters) and on the tests' own packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace import collection, places

MYPY = ("mypy", "--no-error-summary", "--no-color-output", "--hide-error-context", "--config-file", str(places.CHECKOUT / "mypy.ini"))


def check(bench, root: Path, *packages: str):
    arguments = [argument for package in packages for argument in ("-p", package)]
    return bench.run("env", f"MYPYPATH={root}", *MYPY, "--cache-dir", str(bench.home / ".mypy_cache"), *arguments, cwd=root)


def test_the_plugins_have_types_that_agree(bench, copy):
    root = copy.parents[2]
    packages = [f"ansible_collections.nordic.gitops.plugins.{folder}" for folder in ("module_utils", "plugin_utils", "modules", "lookup", "filter")
                if list((copy / "plugins" / folder).rglob("*.py"))]
    outcome = check(bench, root, *packages)
    if outcome.code:
        pytest.fail(outcome.output, pytrace=False)


def test_a_wrong_type_is_found(bench, planted):
    folder = planted({"plugins/module_utils/wrong.py": "def length(text: str) -> int:\n    return text\n"})
    outcome = check(bench, folder.parents[2], "ansible_collections.nordic.gitops.plugins.module_utils")
    assert outcome.code == 1 and "wrong.py" in outcome.output, outcome.output


def test_a_function_without_types_is_found(bench, planted):
    folder = planted({"plugins/module_utils/bare.py": "def length(text):\n    return len(text)\n"})
    outcome = check(bench, folder.parents[2], f"{'.'.join(collection.NAME.parts)}.plugins.module_utils")
    assert outcome.code == 1 and "bare.py" in outcome.output, outcome.output
