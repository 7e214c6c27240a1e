# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab is made of. Another real part is another row, and `lab lock` for its go.mod and go.sum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Tuple

from lab import places
from lab.errors import LabError

COMPONENTS_FOLDER = places.HERE / "components"
LINK_FLAGS = ("-s", "-w")


@dataclass(frozen=True)
class Module:
    """One Go module by version, with its own go.mod because the requirements of two such trees conflict.

    go: the language version its go.mod asks for, which is also the oldest toolchain that builds it.
    packages: binary -> its main package.
    stamps: Go variables set at link time, as the project's own release does.
    staging: the module replaces dependencies by folders of its own tree, released apart under this version.
    """

    name: str
    path: str
    version: str
    go: str
    packages: Tuple[Tuple[str, str], ...]
    stamps: Tuple[Tuple[str, str], ...] = ()
    staging: str = ""
    root: Path = COMPONENTS_FOLDER

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def flags(self) -> Tuple[str, ...]:
        """The flags of `go build`; equal flags are what lets Go's build cache be used by all binaries."""
        stamps = [f"-X {variable}={value}" for variable, value in self.stamps]
        return ("-trimpath", "-mod=readonly", "-ldflags", " ".join([*LINK_FLAGS, *stamps]))

    @property
    def key(self) -> str:
        """Names the folder of the binaries: anything that changes a binary changes the key."""
        parts = [self.path, self.version, json.dumps(self.packages), json.dumps(self.flags)]
        for file in ("go.mod", "go.sum"):
            try:
                parts.append((self.folder / file).read_text())
            except FileNotFoundError:
                raise LabError(f"{self.folder / file} is missing; `python -m lab lock {self.name}` writes it") from None
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _kubernetes(version: str, go: str) -> Module:
    major, minor, _patch = version[1:].split(".")
    package = "k8s.io/component-base/version"
    return Module(
        "kubernetes", "k8s.io/kubernetes", version, go,
        tuple((name, f"k8s.io/kubernetes/cmd/{name}")
              for name in ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler")),
        stamps=((f"{package}.gitVersion", version), (f"{package}.gitMajor", major), (f"{package}.gitMinor", minor),
                (f"{package}.gitTreeState", "clean")),
        staging="v0." + version.split(".", 1)[1])


MODULES: Tuple[Module, ...] = (
    Module("etcd", "go.etcd.io/etcd/server/v3", "v3.6.16", "1.26.0", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    _kubernetes("v1.37.2", "1.26.0"),
    Module("kwok", "sigs.k8s.io/kwok", "v0.8.0", "1.26.0", (("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    Module("helm", "helm.sh/helm/v4", "v4.3.1", "1.26.0", (("helm", "helm.sh/helm/v4/cmd/helm"),)),
)

# In this order they are built: what a cluster needs first comes first.
BINARIES: Dict[str, Module] = {binary: module for module in MODULES for binary, _package in module.packages}
CLUSTER_BINARIES = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kwok")


def versions() -> Dict[str, str]:
    """Binary -> version, for reports."""
    return {binary: module.version for binary, module in BINARIES.items()}
