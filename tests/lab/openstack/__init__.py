# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real OpenStack, as its user sees it: Keystone, Nova (its driver runs no guests), Neutron, Glance, Cinder, Placement.

    with Cloud.start() as cloud:
        cloud.connect("nordic").compute.servers()

It ends with the `with` block, and also when this process ends in any other way.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from lab import build, places
from lab.cluster import Supervised
from lab.errors import LabError
from lab.openstack import install, settings

# On PYTHONPATH wherever the collection openstack.cloud runs.
PEER = install.HERE / "peer"


class Cloud(Supervised):
    """Attributes: clouds_file, clouds (the entries of clouds.yaml by name), ports, region, state, seconds (how long the start took)."""

    def __init__(self, state: Path, info: Mapping[str, Any], hold: Any = None) -> None:
        super().__init__(state, info, hold)
        self.clouds_file = str(info["clouds_file"])
        self.clouds: Dict[str, Any] = dict(info["clouds"])
        self.ports: Dict[str, int] = dict(info["ports"])
        self.region = str(info["region"])

    @classmethod
    def start(cls, state: Optional[Path] = None, detached: bool = False, say: build.Say = build.silent, owner: int = 0) -> "Cloud":
        """Start it; ready to use when this returns. Detached it stays until stop_detached(), or as long as the process `owner`."""
        problem = install.impediment()
        if problem:
            raise LabError(problem)
        venv = install.environment(say)
        return cls.launch("lab.openstack.supervisor", venv, state, detached, say, owner, "nordic-cloud-")

    def connect(self, name: str = "nordic") -> Any:
        """openstacksdk's connection as this user."""
        import openstack

        return openstack.connection.Connection(**self.clouds[name])


def shared() -> Cloud:
    """One for all workers of a pytest session; NORDIC_CLOUD=<state folder> uses a running one."""
    named = os.environ.get("NORDIC_CLOUD")
    if named:
        return Cloud.join(Path(named))
    state = Path(tempfile.gettempdir()) / f"nordic-cloud-{os.getuid()}-{os.environ['NORDIC_TEST_SESSION']}"
    with build.locked(places.cache() / "clouds" / "tests.lock", "the cloud of this test session", build.silent):
        try:
            return Cloud.join(state)
        except LabError:
            return Cloud.start(state, say=build.print_line)


__all__ = ["PEER", "Cloud", "settings", "shared"]
