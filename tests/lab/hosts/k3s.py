# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scenario is told of the lab's k3s, as variables of an inventory.

lab_k3s: the binaries `old` and `new`, or the one that was asked for (each with version, binary, sha256), and the `images` as tar files,
on this machine.
lab_k3s_config: what of k3s' own configuration the lab needs, by group. What a host needs for k3s is its own business (ground.py).
"""

from __future__ import annotations

from typing import Any, Dict, Iterable

from lab import build

# Their images come from a registry, and there is none. Agents do not know this key.
WITHOUT_IMAGES = {"disable": ["coredns", "local-storage", "metrics-server", "servicelb", "traefik"]}
# Each of these three makes two RSA keys whenever it starts, for a port that no test asks: a sixth of a start's processor time.
UNSERVED = {f"kube-{name}-arg": ["secure-port=0"] for name in ("cloud-controller-manager", "controller-manager", "scheduler")}
SERVER_CONFIG = {**WITHOUT_IMAGES, **UNSERVED}


def variables(releases: Iterable[str], say: build.Say = build.silent) -> Dict[str, Any]:
    """An inventory that holds them, built where needed."""
    from lab import images, k3s

    found: Dict[str, Any] = {name: binary.facts() for name, binary in k3s.binaries(say, releases).items()}
    found["images"] = [str(path) for path in images.tars(say)]
    return {
        "all": {"vars": {"lab_k3s": found, "lab_k3s_config": {}}},
        "k3s_servers": {"vars": {"lab_k3s_config": SERVER_CONFIG}},
    }
