# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes go.mod and go.sum of a component from its row in components.py; nobody edits them by hand."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import List, Sequence, Tuple

from lab import golang
from lab.build import Say
from lab.components import MODULES, Module
from lab.errors import LabError

# `replace k8s.io/api => ./staging/src/k8s.io/api`, alone or in a block.
STAGING = re.compile(r"^\s*(?:replace\s+)?(\S+)\s+=>\s+\./staging/\S+\s*$", re.MULTILINE)


def lock(names: Sequence[str], say: Say) -> None:
    """Lock these modules, or all."""
    unknown = set(names) - {module.name for module in MODULES}
    if unknown:
        raise LabError(f"unknown module {', '.join(sorted(unknown))}; there are {', '.join(module.name for module in MODULES)}")
    for module in MODULES:
        if names and module.name not in names:
            continue
        say(f"  {module.name} {module.version}: resolving")
        for file, content in zip(("go.mod", "go.sum"), resolve(module, say)):
            module.folder.mkdir(parents=True, exist_ok=True)
            path = module.folder / file
            changed = not path.exists() or path.read_text() != content
            path.write_text(content)
            say(f"  {path}: {'written' if changed else 'unchanged'}")


def resolve(module: Module, say: Say) -> Tuple[str, str]:
    """The contents of go.mod and go.sum."""
    go = golang.toolchain(module.go, say)
    with tempfile.TemporaryDirectory(prefix=f"lock-{module.name}-") as scratch:
        lines = [f"module nordic.gitops/lab/{module.name}", "", f"go {module.go}", "",
                 f"require {module.path} {module.version}", ""]
        lines += ["tool (", *sorted(f"\t{package}" for _binary, package in module.packages), ")", ""]
        lines += [f"replace {path} => {path} {module.staging}" for path in _staged(module, go, scratch)]
        mod = Path(scratch, "go.mod")
        mod.write_text("\n".join(lines) + "\n")
        _go(go, scratch, "mod", "tidy")
        return mod.read_text(), Path(scratch, "go.sum").read_text()


def _staged(module: Module, go: golang.Toolchain, scratch: str) -> List[str]:
    """Dependencies that live in the module's own tree: a module that is itself a dependency cannot reach them there."""
    if not module.staging:
        return []
    answer = json.loads(_go(go, scratch, "mod", "download", "-json", f"{module.path}@{module.version}"))
    return sorted(set(STAGING.findall(Path(answer["GoMod"]).read_text())))


def _go(go: golang.Toolchain, folder: str, *arguments: str) -> str:
    answer = subprocess.run([str(go.path), *arguments], cwd=folder, env=go.env(), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LabError(f"go {' '.join(arguments)}:\n{answer.stderr.strip()}")
    return answer.stdout
