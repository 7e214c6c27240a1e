# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release of Argo CD ships, from its Go module."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import yaml

from lab import build, golang
from lab.components import ARGOCD
from lab.errors import LabError


def tree() -> Path:
    """The files of the release: the manifests are in manifests/."""
    go = golang.toolchain(ARGOCD.go, build.silent, ARGOCD.toolchain)
    answer = subprocess.run([str(go.path), "mod", "download", "-json", ARGOCD.path], cwd=ARGOCD.folder, env=go.env(), capture_output=True,
                            text=True, check=False)
    if answer.returncode:
        raise LabError(f"go mod download {ARGOCD.path}: {answer.stderr.strip() or answer.stdout.strip()}")
    return Path(json.loads(answer.stdout)["Dir"])


def manifests(name: str = "install.yaml") -> List[Dict[str, Any]]:
    """The objects of one of the release's files."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [body for body in yaml.load_all((tree() / "manifests" / name).read_text(), loader) if body]  # SafeLoader, or the same in C
