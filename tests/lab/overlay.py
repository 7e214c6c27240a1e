# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single files of a dependency, other than they are, for one build: `go build -overlay` reads them in place of the module's.

The module in Go's cache stays as it is and keeps its checksum, and nothing of it is kept here: an edit names one line by a
part of its text, and a file is one of our own.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Union

from lab import golang
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.components import Module

# Go indexes a package of its module cache once; the index knows of no file and no import that an overlay adds.
ENV = {"GODEBUG": "goindex=0"}


@dataclass(frozen=True)
class Edit:
    """In this file of this package the text `find`, which is in it exactly once, becomes `put`."""

    package: str
    file: str
    find: str
    put: str


@dataclass(frozen=True)
class File:
    """This file of this package is ours: `source`, from the folder of the components. It may be new to the package."""

    package: str
    file: str
    source: str


Change = Union[Edit, File]


def signature(module: "Module") -> str:
    """All that the overlay consists of, for the key of a binary."""
    sources = [(module.root / change.source).read_text() for change in module.overlay if isinstance(change, File)]
    return json.dumps([[asdict(change) for change in module.overlay], sources])


def write(module: "Module", go: golang.Toolchain, folder: Path) -> Path:
    """The file for `go build -overlay`; what it names is in this folder, too."""
    places = _folders(module, go)
    edited: Dict[Path, str] = {}
    replaced: Dict[str, str] = {}
    for change in module.overlay:
        path = places[change.package] / change.file
        if isinstance(change, File):
            replaced[str(path)] = str(module.root / change.source)
        else:
            edited[path] = _edit(edited.get(path) or path.read_text(), change)
    for number, (path, text) in enumerate(edited.items()):
        copy = folder / f"overlay-{number}-{path.name}"
        copy.write_text(text)
        replaced[str(path)] = str(copy)
    listing = folder / "overlay.json"
    listing.write_text(json.dumps({"Replace": replaced}))
    return listing


def _edit(text: str, change: Edit) -> str:
    count = text.count(change.find)
    if count != 1:
        raise LabError(f"{change.package}/{change.file} has `{change.find.strip()}` {count} times, once was expected: "
                       "another version of it needs another overlay (tests/lab/components.py)")
    return text.replace(change.find, change.put)


def _folders(module: "Module", go: golang.Toolchain) -> Dict[str, Path]:
    """Where Go's module cache has these packages; they are fetched if need be."""
    packages: List[str] = sorted({change.package for change in module.overlay})
    command = [str(go.path), "list", "-find", "-f", "{{.ImportPath}}\t{{.Dir}}", *packages]
    answer = subprocess.run(command, cwd=module.folder, env=go.env(module.cgo), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LabError(f"{module.name}: where are {', '.join(packages)}? go list:\n{answer.stderr.strip()}")
    return {package: Path(folder) for package, folder in (line.split("\t") for line in answer.stdout.splitlines())}
