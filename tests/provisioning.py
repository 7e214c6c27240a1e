# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module kvm_instance as its user has it, in this process: options as Ansible checks them, and what comes of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from typing import Any, Callable, Dict, Iterator, List

import psutil
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance.fleet import Ask, provision
from ansible_collections.nordic.gitops.plugins.module_utils._instance.options import CLOUD_SPEC, FLEET_SPEC, INSTANCE_SPEC, provider_of
from lab.openstack.settings import HOSTS

SPEC = {**CLOUD_SPEC, **FLEET_SPEC, **INSTANCE_SPEC}


class Failed(Exception):
    """What fail_json would show."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.details = failure.details


@contextlib.contextmanager
def asleep(cloud: Any) -> Iterator[None]:
    """No host of the cloud does anything meanwhile, so that what is deleted stays listed, as ACTIVE."""
    # They are forked by one that imported what all of Nova shares, so that only their logs tell them apart.
    hosts = [process for process in psutil.Process(cloud.supervisor).children(recursive=True)
             if "nova-compute" in os.path.basename(os.readlink(f"/proc/{process.pid}/fd/1"))]
    assert len(hosts) == len(HOSTS), hosts
    for host in hosts:
        host.suspend()
    try:
        yield
    finally:
        for host in hosts:
            host.resume()


class Runs:
    """One fleet of a test. Its names begin with the fleet's, so that tests do not meet."""

    def __init__(self, name: str, defaults: Dict[str, Any]) -> None:
        self.name = name or f"t{secrets.token_hex(3)}"
        self.defaults = defaults

    def named(self, *suffixes: str) -> List[Dict[str, Any]]:
        return [{"name": f"{self.name}-{suffix}"} for suffix in suffixes]

    def params(self, **options: Any) -> Dict[str, Any]:
        given = {"fleet": self.name, "wait_timeout": 600, **self.defaults, **options}
        checked = ArgumentSpecValidator(SPEC).validate({name: value for name, value in given.items() if value is not None})
        if checked.error_messages:
            raise Failed(Failure("; ".join(checked.error_messages)))
        return dict(checked.validated_parameters)

    def run(self, *instances: Dict[str, Any], check: bool = False, provider: Callable[[Any], Any] = provider_of, **options: Any) -> Dict[str, Any]:
        """The result; Failed when the module would fail."""
        params = self.params(**({"instances": list(instances)} if instances else {}), **options)
        try:
            return provision(lambda: provider(params), Ask(params, check))
        except Failure as failure:
            raise Failed(failure) from failure

    def keeps(self, *instances: Dict[str, Any], **options: Any) -> None:
        """A run changes nothing, and has nothing to report about a declared instance."""
        result = self.run(*instances, **options)
        assert not result["changed"] and set(result["counts"]) <= {"unchanged", "undeclared"}, result["table"]

    def fails(self, *instances: Dict[str, Any], check: bool = False, **options: Any) -> Failed:
        """How it failed; a success is none."""
        try:
            self.run(*instances, check=check, **options)
        except Failed as failed:
            return failed
        raise AssertionError("it did not fail")


class Fleet(Runs):
    """In the project of this user. What the cloud says is asked by way of openstacksdk's own objects."""

    def __init__(self, cloud: Any, user: str = "nordic", name: str = "") -> None:
        place = {"cloud": user, "clouds_file": cloud.clouds_file, "region": cloud.region}
        super().__init__(name, {**place, "image": "ubuntu-24-04-lts", "flavor": "cv-nvme-2gb", "networks": [{"network": "private"}]})
        self.cloud, self.user = cloud, user
        self.sdk = cloud.connect(user)

    def servers(self) -> List[Any]:
        return sorted((one for one in self.sdk.compute.servers(details=True) if one.name.startswith(self.name)), key=lambda one: one.name)

    def server(self, suffix: str) -> Any:
        found = [one for one in self.servers() if one.name == f"{self.name}-{suffix}"]
        assert len(found) == 1, found
        return found[0]

    def ports(self) -> List[Any]:
        return [one for one in self.sdk.network.ports() if one.name.startswith(self.name)]

    def volumes(self) -> List[Any]:
        return [one for one in self.sdk.block_storage.volumes() if one.name.startswith(self.name)]

    def floating(self) -> List[Any]:
        return [one for one in self.sdk.network.ips() if self.name in (one.description or "").split("=")]

    def left(self) -> Dict[str, int]:
        return {"servers": len(self.servers()), "ports": len(self.ports()), "volumes": len(self.volumes()), "floating": len(self.floating())}

    def clean(self) -> None:
        for one in self.servers():
            self.sdk.compute.unlock_server(one)
            self.sdk.compute.delete_server(one, force=False)
        for one in self.servers():
            self.sdk.compute.wait_for_delete(one, interval=0.3, wait=600)
        for address in self.floating():
            self.sdk.network.delete_ip(address)
        for port in self.ports():
            self.sdk.network.delete_port(port)
        for volume in self.volumes():
            # A run that was killed a moment ago may still be heard of.
            self.sdk.block_storage.wait_for_status(volume, "available", failures=["error"], interval=0.3, wait=600)
            self.sdk.block_storage.delete_volume(volume)
        for group in self.sdk.network.security_groups(name=f"nordic-gitops-lock-{self.name}"):
            self.sdk.network.delete_security_group(group)


class VirtFleet(Runs):
    """On the lab's host with libvirt. What it has is asked of libvirt's own objects."""

    def __init__(self, host: Any, image: Any, name: str = "", **libvirt: Any) -> None:
        self.host, self.image = host, image
        options = {
            "uri": host.uri,
            # Those of a disk under /tmp on a machine of any kind.
            "cache": "writeback",
            "io": "threads",
            "emulation": True,
            "images": [{"name": "debian-12", "path": str(image), "checksum": f"sha256:{hashlib.sha256(image.read_bytes()).hexdigest()}"}],
            **libvirt,
        }
        size = {"flavor": "1 vCPU, 256 MB, 2 GB", "image": "debian-12", "networks": [{"network": "default"}]}
        super().__init__(name, {"region": "no-oslo-1", "libvirt": options, "shutdown_timeout": 1, **size})

    def domains(self) -> Dict[str, Any]:
        return {one.name(): one for one in self.host.connect().listAllDomains() if one.name().startswith(self.name)}

    def files(self, pool: str = "default") -> List[str]:
        found = self.host.connect().storagePoolLookupByName(pool)
        found.refresh()
        return sorted(one for one in found.listVolumes() if f"+{self.name}" in one)

    def clean(self) -> None:
        for domain in self.domains().values():
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(self.host.libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | self.host.libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
        for pool in ("default", "nvme", "small"):
            for name in self.files(pool):
                self.host.connect().storagePoolLookupByName(pool).storageVolLookupByName(name).delete()


def main() -> None:
    """One run in a process of its own, which a test can kill: options as JSON on standard input, the result on standard output."""
    import json
    import sys

    order = json.load(sys.stdin)
    try:
        print(json.dumps(provision(lambda: provider_of(order["params"]), Ask(order["params"], False))))
    except Failure as failure:
        print(json.dumps({"failed": str(failure)}))


if __name__ == "__main__":
    main()
