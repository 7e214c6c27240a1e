# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that hold no bytes: Nova's fake driver neither reads nor writes."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from cinder import interface
from cinder.volume import driver


@interface.volumedriver
class Volumes(driver.VolumeDriver):
    VERSION = "1.0"
    CI_WIKI_NAME = "none"

    def check_for_setup_error(self) -> None:
        pass

    def get_volume_stats(self, refresh: bool = False) -> Dict[str, Any]:
        return {"volume_backend_name": self.configuration.safe_get("volume_backend_name"), "vendor_name": "nordic", "driver_version": self.VERSION,
                "storage_protocol": "lab", "total_capacity_gb": 100000, "free_capacity_gb": 100000, "multiattach": False}

    def create_volume(self, volume: Any) -> None:
        pass

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        pass

    def create_cloned_volume(self, volume: Any, source: Any) -> None:
        pass

    def clone_image(self, context: Any, volume: Any, location: Any, meta: Any, service: Any) -> Tuple[Dict[str, Any], bool]:
        return {}, True

    def delete_volume(self, volume: Any) -> None:
        pass

    def extend_volume(self, volume: Any, size: int) -> None:
        pass

    def create_snapshot(self, snapshot: Any) -> None:
        pass

    def delete_snapshot(self, snapshot: Any) -> None:
        pass

    def ensure_export(self, context: Any, volume: Any) -> None:
        pass

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        pass

    def remove_export(self, context: Any, volume: Any) -> None:
        pass

    def initialize_connection(self, volume: Any, connector: Any) -> Dict[str, Any]:
        return {"driver_volume_type": "lab", "data": {}}

    def terminate_connection(self, volume: Any, connector: Any, **_more: Any) -> None:
        pass
