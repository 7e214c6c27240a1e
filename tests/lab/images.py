# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images without a registry: one static program each, in a tar that `k3s ctr images import` takes.

A node takes it also from its folder agent/images when it starts. The layout is that of the OCI image specification, with
containerd's annotation for the name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from lab import places
from lab.build import Say, cached, locked, print_line
from lab.components import BINARIES, COREDNS, PODS, Module

# The architecture of the machine that builds; that of its nodes, too.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
MEDIA = "application/vnd.oci.image"


@dataclass(frozen=True)
class Image:
    """names: all under which it is known. binary: the program of the module that it runs. user: nobody, but for low ports."""

    names: Tuple[str, ...]
    module: Module
    binary: str
    environment: Tuple[Tuple[str, str], ...] = ()
    user: str = "65534:65534"

    @property
    def file(self) -> str:
        """The name of its tar."""
        return self.names[0].rpartition("/")[2].replace(":", "-") + ".tar"


WEB = "nordic.gitops/web"
IMAGES: Tuple[Image, ...] = (
    # The names that k3s 1.30 and 1.36 ask for.
    Image(tuple(f"docker.io/rancher/mirrored-pause:{version}" for version in ("3.6", "3.10.2")), PODS, "pause"),
    *(Image((f"{WEB}:{version}",), PODS, "web", (("VERSION", version),)) for version in ("1", "2")),
    # Likewise; the program is the one that components.py says.
    Image(tuple(f"docker.io/rancher/mirrored-coredns-coredns:{version}" for version in ("1.10.1", "1.11.3", "1.14.6")), COREDNS, "coredns", user="0:0"),
)

# The controller of Sealed Secrets, as its chart names it. Only the nodes of its own test need it.
SEALED_SECRETS = Image((f"docker.io/bitnami/sealed-secrets-controller:{BINARIES['sealed-secrets-controller'].version[1:]}",),
                       BINARIES["sealed-secrets-controller"], "sealed-secrets-controller", user="1001:1001")


def tars(say: Say = print_line) -> List[Path]:
    """A tar for each image, built if it is not cached."""
    return [tar(image, say) for image in IMAGES]


def tar(image: Image, say: Say = print_line) -> Path:
    """The image's tar, built if it is not cached."""
    parts = [image.module.key, json.dumps([image.names, image.binary, image.environment, image.user]), Path(__file__).read_text()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = places.cache() / "images" / key / image.file
    if target.exists():
        return target
    with locked(target.parent / ".lock", image.names[0], say):
        if not target.exists():
            program = cached(image.module, image.binary, say)
            aside = target.with_suffix(".new")
            write(aside, image, program)
            aside.replace(target)
    return target


def write(target: Path, image: Image, program: Path) -> None:
    """An image of one file, /<name of the program>, that runs it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as packed:
        _add(packed, program.name, program.read_bytes(), 0o755)
    architecture = ARCHITECTURE[os.uname().machine]
    platform = {"architecture": architecture, "os": "linux"}
    config = _json({**platform, "config": {"Entrypoint": [f"/{program.name}"], "User": image.user,
                                           "Env": [f"{name}={value}" for name, value in image.environment]},
                    "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]}})
    manifest = _json({"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json",
                      "config": _described(f"{MEDIA}.config.v1+json", config),
                      "layers": [_described(f"{MEDIA}.layer.v1.tar", layer.getvalue())]})
    index = _json({"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [
        {**_described(f"{MEDIA}.manifest.v1+json", manifest), "platform": platform,
         "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}}
        for name in image.names]})
    with tarfile.open(target, "w") as packed:
        _add(packed, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(packed, "index.json", index)
        for blob in (layer.getvalue(), config, manifest):
            _add(packed, "blobs/" + _digest(blob).replace(":", "/"), blob)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _described(media: str, content: bytes) -> Dict[str, Any]:
    return {"mediaType": media, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
