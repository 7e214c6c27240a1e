# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's cloud has before anybody uses it: projects, users, flavors, images, networks, zones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Mapping

from lab.openstack import settings

# name -> (vCPU, RAM in MB, disk in GB)
FLAVORS = {
    "cv-nvme-2gb": (1, 2048, 20),
    "cv-nvme-4gb": (2, 4096, 40),
    "cv-nvme-8gb": (2, 8192, 80),
    "cv-nvme-16gb": (4, 16384, 160),
    "cv-nvme-none": (4, 16384, 0),
    "cv-too-large": (5000, 4096, 10),
}
IMAGES = ("ubuntu-24-04-lts", "debian-13")
USERS = {"nordic": "platform", "colleague": "platform", "neighbour": "other"}


def cloud(ports: Mapping[str, int], user: str, password: str, project: str, region: str = settings.REGION) -> Dict[str, Any]:
    """An entry of clouds.yaml."""
    return {
        "auth": {
            "auth_url": f"http://127.0.0.1:{ports['keystone']}/v3",
            "username": user,
            "password": password,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": region,
        "identity_api_version": "3",
    }


def connect(ports: Mapping[str, int], password: str, project: str = "admin") -> Any:
    import openstack

    return openstack.connection.Connection(**cloud(ports, "admin", password, project))


def access(state: Path, ports: Mapping[str, int], password: str) -> Dict[str, Any]:
    """clouds.yaml in the state folder, and what it says."""
    clouds = {"admin": cloud(ports, "admin", password, "admin"), **{user: cloud(ports, user, password, project) for user, project in USERS.items()}}
    file = state / "clouds.yaml"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"clouds": clouds}, indent=1))  # JSON is YAML
    return {"clouds_file": str(file), "clouds": clouds, "ports": dict(ports), "region": settings.REGION}


def sow(ports: Mapping[str, int], password: str) -> None:
    """On empty databases, with the APIs running."""
    admin = connect(ports, password)
    identity = admin.identity
    roles = {name: identity.find_role(name) or identity.create_role(name=name) for name in ("admin", "member", "service", "reader")}
    default = identity.find_domain("Default")
    projects = {name: identity.create_project(name=name, domain_id=default.id) for name in ("service", "platform", "other")}
    service = identity.create_user(name="service", password=password, domain_id=default.id)
    for role in ("admin", "service"):
        identity.assign_project_role_to_user(projects["service"], service, roles[role])
    for name, project in USERS.items():
        user = identity.create_user(name=name, password=password, domain_id=default.id)
        identity.assign_project_role_to_user(projects[project], user, roles["member"])
    identity.create_region(id=settings.ABROAD)
    for kind, (name, path) in settings.ENDPOINTS.items():
        offered = next((one for one in identity.services(type=kind)), None) or identity.create_service(type=kind, name=name)
        for region, url in (
            (settings.REGION, f"http://127.0.0.1:{ports[name]}{path}"),
            (settings.ABROAD, f"https://{kind}.{settings.ABROAD}.example.com{path}"),
        ):
            if kind == "identity" and region == settings.REGION:
                continue
            identity.create_endpoint(service_id=offered.id, region_id=region, interface="public", url=url)


def zones(ports: Mapping[str, int], password: str) -> None:
    """Once the services are there: zones, flavors, images, networks."""
    admin = connect(ports, password)
    for zone in sorted(set(settings.HOSTS.values())):
        aggregate = admin.compute.create_aggregate(name=zone, availability_zone=zone)
        for host in (host for host, its in settings.HOSTS.items() if its == zone):
            admin.compute.add_host_to_aggregate(aggregate, host)
    for name, (vcpus, ram, disk) in FLAVORS.items():
        admin.compute.create_flavor(name=name, vcpus=vcpus, ram=ram, disk=disk)
    for name in IMAGES:
        # A real image's fields, and a few bytes: nobody boots it.
        admin.create_image(name, data=name.encode() * 64, disk_format="raw", container_format="bare", visibility="public", wait=True, min_disk=0)
    admin.block_storage.create_type(name="nvme")
    outside = admin.network.create_network(name="public", is_router_external=True)
    admin.network.create_subnet(network_id=outside.id, name="public", ip_version=4, cidr="203.0.113.0/24", is_dhcp_enabled=False)
    for project in ("platform", "other"):
        owner = admin.identity.find_project(project).id
        inside = admin.network.create_network(name="private", project_id=owner)
        subnet = admin.network.create_subnet(
            network_id=inside.id, name="private", ip_version=4, cidr="10.20.0.0/16", is_dhcp_enabled=False, project_id=owner
        )
        router = admin.network.create_router(name="private", project_id=owner, external_gateway_info={"network_id": outside.id})
        admin.network.add_interface_to_router(router, subnet_id=subnet.id)
    storage = admin.network.create_network(name="storage", project_id=admin.identity.find_project("platform").id)
    admin.network.create_subnet(
        network_id=storage.id, name="storage", ip_version=4, cidr="10.30.0.0/16", is_dhcp_enabled=False, gateway_ip=None, project_id=storage.project_id
    )


def is_served(ports: Mapping[str, int], password: str) -> bool:
    """Every service of Nova and Cinder has registered, and the scheduler of Cinder knows what each backend has room for."""
    admin = connect(ports, password)
    hosts = {one.host for one in admin.compute.services() if one.binary == "nova-compute" and one.state == "up"}
    volumes = [one for one in admin.block_storage.services() if one.binary == "cinder-volume" and one.state == "up"]
    if not (set(settings.HOSTS) <= hosts and len(volumes) >= len(settings.BACKENDS)):
        return False
    return {pool.name.rpartition("#")[2] for pool in admin.block_storage.backend_pools()} >= set(settings.BACKENDS)
