# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real OpenStack, as its user sees it: Keystone, Nova (its driver runs no guests), Neutron, Glance, Cinder, Placement.

    with Cloud.start() as cloud:
        cloud.connect("nordic").compute.servers()

It ends with the `with` block, and also when this process ends in any other way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from lab import build, places, processes
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

    @contextlib.contextmanager
    def soft_delete(self) -> Iterator[str]:
        """Another API of the same Nova, of which a deletion only puts a server aside, for an hour. Its host and port."""
        folder, port = self.state / "etc" / "nova-soft", places.free_port()
        shutil.copytree(self.state / "etc" / "nova", folder, dirs_exist_ok=True)
        (folder / "soft.conf").write_text("[DEFAULT]\nreclaim_instance_interval = 3600\n")
        order = settings.programs(self.state, self.ports)["nova"]
        api = {**order["programs"][0], "port": port, "log": str(self.state / "logs" / "nova-soft-api.log")}
        file = folder / "programs.json"
        env = {**order["env"], "OS_NOVA_CONFIG_DIR": str(folder), "OS_NOVA_CONFIG_FILES": "api-paste.ini;nova.conf;soft.conf"}
        file.write_text(json.dumps({"env": env, "imports": [], "programs": [api]}))
        python = install.environment() / "bin" / "python"
        process = processes.spawn([str(python), str(install.HERE / "launch.py"), str(file)], self.state / "logs" / "nova-soft.log",
                                  {**os.environ, "PYTHONPATH": str(install.HERE / "plugins")}, cwd=self.state)
        try:
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                if process.poll() is not None:
                    raise LabError(processes.last_lines(self.state / "logs" / "nova-soft-api.log"))
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            processes.end(process)

    def copy(self, server: Any, names: Sequence[str]) -> None:
        """Servers of these names as this one, which has one port: they can be listed, and nothing else, and were not made one after the other."""
        (port,) = self.connect().network.ports(device_id=server.id)
        order = {"server": server.id, "name": server.name, **_of(port)}
        order["copies"] = [
            {"server": str(uuid.uuid4()), "name": name, "port": str(uuid.uuid4()), "mac": f"fa:16:3f:00:{number >> 8:02x}:{number & 255:02x}",
             "address": f"{order['address'].rsplit('.', 2)[0]}.{200 + number // 250}.{1 + number % 250}"}
            for number, name in enumerate(names)
        ]
        done = subprocess.run([str(install.environment() / "bin" / "python"), str(install.HERE / "copies.py")], input=json.dumps(order), cwd=self.state,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"the server {server.name} was not copied:\n{done.stderr[-2000:]}")


def _of(port: Any) -> Dict[str, str]:
    return {"port": port.id, "mac": port.mac_address, "address": port.fixed_ips[0]["ip_address"]}


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
