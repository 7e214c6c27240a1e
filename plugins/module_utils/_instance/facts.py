# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An instance in a result, and the one rule that chooses its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from . import provider
from .provider import Instance


@dataclass(frozen=True)
class AddressRule:
    """Which address a host is reached by: of this network (any when empty), of this kind, of this IP version."""

    network: str = ""
    kind: str = "any"
    version: int = 4

    @classmethod
    def of(cls, options: Optional[Mapping[str, Any]]) -> "AddressRule":
        given = options or {}
        return cls(given.get("network") or "", given.get("kind") or "any", int(given.get("version") or 4))

    def choose(self, instance: Instance) -> Optional[str]:
        """The first that fits, in the provider's order; a floating one before a fixed one where both are welcome."""
        fitting = [
            one
            for one in instance.addresses
            if one["version"] == self.version and self.network in ("", one["network"]) and self.kind in ("any", one["kind"])
        ]
        ordered = sorted(fitting, key=lambda one: one["kind"] != "floating")
        return str(ordered[0]["address"]) if ordered else None


def facts(instance: Instance, rule: AddressRule) -> Dict[str, Any]:
    volumes = [
        {
            "id": volume.id,
            "label": volume.label or None,
            "name": volume.name,
            "size": volume.size,
            "type": volume.type or None,
            "device": volume.device or None,
            # virtio gives a guest the first 20 characters of the serial number; the kernel's device names follow no order.
            "path": f"/dev/disk/by-id/virtio-{volume.id[:20]}",
            "ours": instance.owns(volume),
        }
        for volume in instance.volumes
    ]
    return {
        "id": instance.id,
        "name": instance.name,
        "status": instance.status,
        "task": instance.task or None,
        "fault": instance.fault or None,
        "address": rule.choose(instance),
        "addresses": sorted((dict(address) for address in instance.addresses), key=lambda one: (one["network"], one["kind"], one["address"])),
        "flavor": {"name": instance.flavor.name, "vcpus": instance.flavor.vcpus, "ram": instance.flavor.ram, "disk": instance.flavor.disk},
        "image_id": instance.metadata.get(provider.IMAGE) or instance.image_id or None,
        "image": instance.metadata.get(provider.IMAGE_NAME),
        "key": instance.key or None,
        "zone": instance.zone or None,
        "fleet": instance.fleet or None,
        "locked": instance.locked,
        "protected": instance.protected,
        "server_groups": list(instance.server_groups),
        "created": instance.created,
        "metadata": {key: value for key, value in instance.metadata.items() if not key.startswith(provider.PREFIX)},
        "marks": {key: value for key, value in instance.metadata.items() if key.startswith(provider.PREFIX) and key != provider.REPLACES},
        "ports": [
            {
                "id": port.id,
                "network": port.network.name,
                "network_id": port.network.id,
                "addresses": list(port.addresses),
                "mac": port.mac,
                "security_groups": sorted(port.groups),
                "ours": instance.owns(port),
            }
            for port in sorted(instance.ports, key=lambda port: port.mac)
        ],
        "volumes": volumes,
        "floating_addresses": [address.address for address in instance.floating],
    }
