# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is to become. The thresholds follow from it."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("server", "agent")
# The first three are backends of k3s' own flannel; "none" is any other that brings its own requirements.
CNIS = ("flannel", "flannel-host-gw", "flannel-wireguard", "cilium", "calico", "calico-ebpf", "none")
DATASTORES = ("embedded", "external")


@dataclass(frozen=True)
class Profile:
    role: str = "server"
    cni: str = "flannel"
    datastore: str = "embedded"

    @property
    def server(self) -> bool:
        return self.role == "server"

    @property
    def etcd(self) -> bool:
        return self.server and self.datastore == "embedded"

    @property
    def ebpf(self) -> bool:
        """Whether packets go through eBPF programs."""
        return self.cni in ("cilium", "calico-ebpf")

    @property
    def vxlan(self) -> bool:
        return self.cni in ("flannel", "cilium", "calico", "calico-ebpf")

    def __str__(self) -> str:
        kept = "" if not self.server else f", {self.datastore} datastore"
        return f"{self.role}, {self.cni}{kept}"
