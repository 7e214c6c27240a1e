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
from typing import Dict, List, Sequence, Tuple

from lab import golang
from lab.build import Say
from lab.components import MODULES, Module
from lab.errors import LabError

# `replace k8s.io/api => ./staging/src/k8s.io/api`, alone or in a block.
STAGING = re.compile(r"^\s*(?:replace\s+)?(\S+)\s+=>\s+\./staging/\S+\s*$", re.MULTILINE)
# The first Go that knows `tool` in go.mod.
TOOL_LINES = (1, 24)
REPLACEMENT = re.compile(r"^\s*(?:replace\s+)?(\S+(?: v\S+)?)\s+=>\s+(\S+(?: v\S+)?)\s*(?://.*)?$", re.MULTILINE)


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
    go = golang.toolchain(module.go, say, module.toolchain)
    with tempfile.TemporaryDirectory(prefix=f"lock-{module.name}-") as scratch:
        mod = Path(scratch, "go.mod")
        if module.like:
            mod.write_text(_as_its_own(module, module.like))
            Path(scratch, "go.sum").write_text(_text(module.like.folder / "go.sum"))
        else:
            name = module.path if module.sources else f"nordic.gitops/lab/{module.name}"
            required = [*([] if module.sources else [(module.path, module.version)]), *module.requires]
            head = [f"module {name}", "", f"go {module.go}", "", *(f"require {path} {version}" for path, version in required)]
            mod.write_text("\n".join(head) + "\n")
            replaces = {path: f"{path} {module.staging}" for path in _staged(module, go, scratch)}
            if module.forks:
                tree = _tree(module, go)
                replaces = _forked(module, (tree / "go.mod").read_text())
                # Of some forks the public database has no checksum; the module's own list has.
                Path(scratch, "go.sum").write_bytes((tree / "go.sum").read_bytes())
            replaces.update(module.replaces)
            mod.write_text("\n".join([*head, "", *(f"replace {path} => {other}" for path, other in sorted(replaces.items()))]) + "\n")
        _name_programs(module, Path(scratch))
        # Errors are let pass here: a package for another system may miss something. What ours needs is proved next.
        _go(go, scratch, "mod", "tidy", "-e")
        _go(go, scratch, "list", "-mod=readonly", "-deps", "-tags", module.tags, *(package for _binary, package in module.packages),
            cgo=module.cgo)
        return mod.read_text(), _text(Path(scratch, "go.sum"))


def _name_programs(module: Module, folder: Path) -> None:
    """Tell `go mod tidy` which programs are wanted: by our own sources, or by a line in go.mod, or for an older Go by a file."""
    packages = sorted({package for _binary, package in module.packages})
    if module.sources:
        for source in module.folder.rglob("*.go"):
            copy = folder / source.relative_to(module.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    elif golang.numbers(module.go) >= TOOL_LINES:
        with (folder / "go.mod").open("a") as mod:
            mod.write("\n".join(["", "tool (", *(f"\t{package}" for package in packages), ")", ""]))
    else:
        imports = "".join(f"import _ {json.dumps(package)}\n" for package in packages)
        (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}")


def _forked(module: Module, text: str) -> Dict[str, str]:
    """The replacements of the module's own go.mod, without those forks that cannot be had."""
    replaces = {}
    for path, other in REPLACEMENT.findall(text):
        for pattern, ours in module.forks:
            if re.fullmatch(pattern, other):
                other = re.sub(pattern, ours, other)
                break
        if other:
            replaces[path] = other
    return replaces


def _as_its_own(module: Module, like: Module) -> str:
    """The other one's go.mod, with this version in the place of its own."""
    text = (like.folder / "go.mod").read_text()
    for theirs, ours in ((like.name, module.name), (f"{like.path} {like.version}", f"{module.path} {module.version}")):
        text = text.replace(theirs, ours, 1)
    return text


def _tree(module: Module, go: golang.Toolchain) -> Path:
    """The folder of the module's files in Go's cache.

    By way of a package, since not every registry that has the files answers questions about the module; by the one that
    holds the stamped version, since it imports next to nothing.
    """
    package = module.stamps[0][0].rpartition(".")[0]
    with tempfile.TemporaryDirectory(prefix=f"lock-{module.name}-") as scratch:
        Path(scratch, "go.mod").write_text(f"module nordic.gitops/lab/tree\n\ngo {module.go}\n\nrequire {module.path} {module.version}\n")
        Path(scratch, "tree.go").write_text(f"package tree\n\nimport _ {json.dumps(package)}\n")
        _go(go, scratch, "mod", "tidy")
        folder = Path(_go(go, scratch, "list", "-f", "{{.Dir}}", package).strip())
    while not (folder / "go.mod").exists():
        folder = folder.parent
    return folder


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _staged(module: Module, go: golang.Toolchain, scratch: str) -> List[str]:
    """Dependencies that live in the module's own tree: a module that is itself a dependency cannot reach them there."""
    if not module.staging:
        return []
    answer = json.loads(_go(go, scratch, "mod", "download", "-json", f"{module.path}@{module.version}"))
    return sorted(set(STAGING.findall(Path(answer["GoMod"]).read_text())))


def _go(go: golang.Toolchain, folder: str, *arguments: str, cgo: bool = False) -> str:
    answer = subprocess.run([str(go.path), *arguments], cwd=folder, env=go.env(cgo), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LabError(f"go {' '.join(arguments)}:\n{answer.stderr.strip()}")
    return answer.stdout
