# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real k3s in two versions, so that an upgrade can be tested, and what its nodes need beside it.

    for name, k3s in k3s.binaries().items():    # old, new
        k3s.version, k3s.path, k3s.sha256

Built from Go modules (components.py), packaged as k3s packages itself (selfextracting.py). NORDIC_K3S_BINARY and
NORDIC_K3S_BINARY_OLD name ready ones instead, for a check against another version.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Iterable, Tuple

from lab import components, images, places, selfextracting
from lab.build import Say, cached, locked, print_line
from lab.components import ACTIONLINT, CNI, FLANNEL, K3S_NEW, K3S_OLD, REGISTRY, VERSITYGW, Module
from lab.errors import LabError

# Name -> its module, and the variable that names a ready binary.
RELEASES: Dict[str, Tuple[Module, str]] = {"old": (K3S_OLD, "NORDIC_K3S_BINARY_OLD"), "new": (K3S_NEW, "NORDIC_K3S_BINARY")}

# runc 1.1.14 for both: it is what runs the pods, not what is upgraded, and so it is built once.
RUNC = replace(K3S_NEW, tags="seccomp apparmor", stamps=(("main.version", "1.1.14-k3s1"),), overlay=())


@dataclass(frozen=True)
class Binary:
    """One k3s. version is what it says itself: v1.30.5+k3s1."""

    version: str
    path: Path
    sha256: str

    def facts(self) -> Dict[str, str]:
        """For a report."""
        return {"version": self.version, "binary": str(self.path), "sha256": self.sha256}


def binaries(say: Say = print_line, releases: Iterable[str] = tuple(RELEASES)) -> Dict[str, Binary]:
    """old and new, or one of them, built if they are neither named nor cached."""
    return {name: binary(name, say) for name in releases}


def binary(name: str, say: Say = print_line) -> Binary:
    """One of them."""
    if name not in RELEASES:
        raise LabError(f"the lab has no k3s named {name}; there are {', '.join(RELEASES)}")
    module, variable = RELEASES[name]
    named = os.environ.get(variable)
    if named:
        path = Path(named).expanduser().absolute()
        return Binary(version_of(path, variable), path, _sha256(path))
    path = _built(module, say)
    return Binary(_stamp(module), path, _sha256(path))


def are_there() -> bool:
    """Whether all of them can be had without building."""
    return all(os.environ.get(variable) or path_of(module).exists() for module, variable in RELEASES.values())


def build_all(say: Say = print_line) -> Dict[str, Path]:
    """Name -> path of everything that is here to be built, in the order in which tests come to need it (tests/integration/conftest.py)."""
    built = {f"image {path.name}": path for path in images.tars(say)}
    for release in ("new", "old"):
        one = binary(release, say)
        built[f"k3s {one.version}"] = one.path
    for module in (VERSITYGW, REGISTRY, ACTIONLINT):
        built.update({name: cached(module, name, say) for name, _package in module.packages})
    return built


def version_of(path: Path, variable: str = "") -> str:
    """What `k3s --version` says."""
    said = f"{variable}={path}" if variable else str(path)
    try:
        answer = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        raise LabError(f"{said}: {error.strerror or error}; it has to be the path of a k3s binary") from None
    match = re.match(r"k3s version (v\S+)", answer.stdout)
    if not match:
        raise LabError(f"{said}: `--version` ended with {answer.returncode} and no version of k3s in:\n"
                       + (answer.stdout + answer.stderr).strip()[-500:])
    return match.group(1)


def _stamp(module: Module) -> str:
    return dict(module.stamps)[f"{components.K3S_PATH}/pkg/version.Version"]


def _shim(module: Module) -> Module:
    stamps = tuple(stamp for stamp in module.stamps if stamp[0].startswith("github.com/containerd/"))
    return replace(module, tags="no_btrfs", stamps=stamps, overlay=())


def _launcher(module: Module) -> Module:
    stamps = tuple(stamp for stamp in module.stamps if stamp[0].startswith(f"{components.K3S_PATH}/"))
    return replace(module, tags="urfave_cli_no_docs", cgo=False, stamps=stamps, overlay=selfextracting.READER)


def _key(module: Module) -> str:
    parts = [module.key, _shim(module).key, _launcher(module).key, RUNC.key, CNI.key, FLANNEL.key, selfextracting.signature()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def path_of(module: Module) -> Path:
    """Where the finished k3s is, or will be."""
    return places.cache() / "k3s" / f"{_stamp(module)}-{_key(module)}" / "k3s"


def _built(module: Module, say: Say) -> Path:
    target = path_of(module)
    if target.exists():
        return target
    _require_system()
    version = _stamp(module)
    with locked(target.parent / ".k3s.lock", f"k3s {version}", say):
        if target.exists():
            return target
        for left in target.parent.glob(".k3s-*/"):
            shutil.rmtree(left)  # by a build that was killed
        programs = {"k3s": cached(module, "k3s-server", say), "runc": cached(RUNC, "runc", say),
                    "containerd-shim-runc-v2": cached(_shim(module), "containerd-shim-runc-v2", say)}
        for plugins in (CNI, FLANNEL):
            programs.update({name: cached(plugins, name, say) for name, _package in plugins.packages})
        with tempfile.TemporaryDirectory(prefix=".k3s-", dir=target.parent) as scratch:
            built = selfextracting.make(cached(_launcher(module), "k3s", say), programs, Path(scratch), say)
            _smoke(built, version, Path(scratch))
            built.replace(target)
        say(f"  k3s {version}: {target.stat().st_size / 1e6:.0f} MB in {target}")
    return target


def _require_system() -> None:
    """Say what is missing before the minutes of compiling, not after."""
    missing = [program for program in ("gcc", "pkg-config", "zstd") if not shutil.which(program)]
    if "pkg-config" not in missing and subprocess.run(["pkg-config", "--exists", "libseccomp"], check=False).returncode:
        missing.append("libseccomp's headers")
    if missing:
        raise LabError(f"to build k3s this machine lacks {', '.join(missing)}; bindep.txt names the packages (profile test)")


def _smoke(path: Path, version: str, scratch: Path) -> None:
    """It says its version, unpacks what it carries, and the server in it starts."""
    for arguments, expected in ((["--version"], f"k3s version {version} "), (["kubectl", "version", "--client"], f"Client Version: {version}\n"),
                                (["server", "--help"], "--cluster-init"), (["ctr", "--version"], "ctr "), (["crictl", "--version"], "crictl ")):
        answer = subprocess.run([str(path), *arguments], capture_output=True, text=True, timeout=300, check=False, cwd=scratch,
                                env={**os.environ, "K3S_DATA_DIR": str(scratch / "data"), "HOME": str(scratch)})
        if answer.returncode or expected not in answer.stdout:
            raise LabError(f"the k3s that was built is none: `k3s {' '.join(arguments)}` ended with {answer.returncode}, without `{expected}`:\n"
                           + (answer.stdout + answer.stderr).strip()[-2000:])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
