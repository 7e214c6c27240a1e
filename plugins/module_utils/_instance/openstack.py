# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances on OpenStack."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._errors import Failure
from . import provider
from .provider import (
    Flavor,
    Floating,
    Image,
    Instance,
    Key,
    Limit,
    Named,
    Place,
    Port,
    ServerGroup,
    Volume,
    Wanted,
    WantedPort,
    WantedVolume,
    World,
)
from .rest import Answer, Rest, answers_checked, chunks, in_words, word
from .watch import pause

POLL = 0.5
ENDED_WITHIN = 60.0  # what a request began of which the answer was lost
PORTS_AT_ONCE = 50
REVISIONS = 5  # attempts at what somebody else changes meanwhile
FREE = "nordic.gitops: free"


@answers_checked
class OpenStack:
    """A Provider."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        self.rest = Rest(access)

    @property
    def requests(self) -> int:
        return self.rest.requests

    def place(self) -> Place:
        return self.rest.place()

    # Look-ups: only what the own project may use, for administrators too

    def images(self) -> List[Image]:
        mine = self.rest.project_id
        return [
            Image(one["id"], one.get("name") or "", int(one.get("min_disk") or 0), int(one.get("min_ram") or 0))
            for one in self.rest.every("image", "/images", "images")
            if one.get("status") == "active" and (one.get("owner") == mine or one.get("visibility") in ("public", "shared", "community"))
        ]

    def flavors(self) -> List[Flavor]:
        return [Flavor(one["id"], one["name"], one["vcpus"], one["ram"], one["disk"]) for one in self.rest.every("compute", "/flavors/detail", "flavors")]

    def sized(self, vcpus: int, ram: int, disk: int) -> Optional[Flavor]:
        return None

    def _networks(self) -> List[Dict[str, Any]]:
        mine = self.rest.project_id
        return [
            one
            for one in self.rest.every("network", "/networks", "networks")
            if one.get("project_id") == mine or one.get("shared") or one.get("router:external")
        ]

    def networks(self) -> List[Named]:
        return [Named(one["id"], one["name"]) for one in self._networks()]

    def external_networks(self) -> List[Named]:
        return [Named(one["id"], one["name"]) for one in self._networks() if one.get("router:external")]

    def addresses_at_first_boot(self, network: Named) -> bool:
        return False

    def subnets(self) -> List[Tuple[Named, str, str]]:
        return [(Named(one["id"], one["name"]), one["network_id"], one["cidr"]) for one in self.rest.every("network", "/subnets", "subnets")]

    def security_groups(self) -> List[Named]:
        return [
            Named(one["id"], one["name"])
            for one in self.rest.every("network", "/security-groups", "security_groups", project_id=self.rest.project_id, fields=["id", "name"])
        ]

    def keys(self) -> List[Key]:
        return [
            Key(one["keypair"]["name"], one["keypair"]["name"], one["keypair"].get("public_key") or "", one["keypair"].get("fingerprint") or "")
            for one in self.rest.every("compute", "/os-keypairs", "keypairs")
        ]

    def zones(self) -> List[str]:
        return [one["zoneName"] for one in self.rest.get("compute", "/os-availability-zone")["availabilityZoneInfo"] if one["zoneState"]["available"]]

    def volume_zones(self) -> List[str]:
        return [one["zoneName"] for one in self.rest.get("volume", "/os-availability-zone")["availabilityZoneInfo"] if one["zoneState"]["available"]]

    def volume_types(self) -> List[Named]:
        return [Named(one["id"], one["name"]) for one in self.rest.every("volume", "/types", "volume_types")]

    def server_groups(self) -> List[ServerGroup]:
        limit = int(self.rest.get("compute", f"/os-quota-sets/{self.rest.project_id}")["quota_set"].get("server_group_members", -1))
        return [
            ServerGroup(one["id"], one["name"], one.get("policy") or "", tuple(one["members"]), max(limit, 0))
            for one in self.rest.get("compute", "/os-server-groups")["server_groups"]
        ]

    def port(self, wanted: str) -> Port:
        found = list(self.rest.every("network", "/ports", "ports", project_id=self.rest.project_id, **{"id" if _is_id(wanted) else "name": wanted}))
        if len(found) != 1:
            raise Failure(
                f"there is no port {wanted}" if not found else f"{len(found)} ports have the name {wanted}: {', '.join(one['id'] for one in found)}",
                hint="Give one of these IDs." if found else "",
            )
        return self._port(found[0], {})

    def volume(self, wanted: str) -> Volume:
        if _is_id(wanted):
            found = self.rest.find("volume", f"/volumes/{wanted}")
            if found:
                return _volume(found["volume"])
        named = [one for one in self.rest.every("volume", "/volumes/detail", "volumes", name=wanted) if one["name"] == wanted]
        if len(named) != 1:
            raise Failure(
                f"there is no volume {wanted}" if not named else f"{len(named)} volumes have the name {wanted}: {', '.join(one['id'] for one in named)}",
                hint="Give one of these IDs." if named else "",
            )
        return _volume(named[0])

    def taken(self, network_id: str, addresses: Sequence[str]) -> List[Port]:
        found: List[Port] = []
        for some in chunks(addresses):
            found += [
                self._port(one, {})
                for one in self.rest.every("network", "/ports", "ports", network_id=network_id, fixed_ips=[f"ip_address={address}" for address in some])
            ]
        return found

    def limits(self) -> List[Limit]:
        compute = self.rest.get("compute", "/limits")["limits"]["absolute"]
        network = self.rest.get("network", f"/quotas/{self.rest.project_id}/details.json")["quota"]
        found = [
            Limit("instances", compute["maxTotalInstances"], compute["totalInstancesUsed"]),
            Limit("cores", compute["maxTotalCores"], compute["totalCoresUsed"]),
            Limit("ram", compute["maxTotalRAMSize"], compute["totalRAMUsed"]),
            Limit("ports", int(network["port"]["limit"]), int(network["port"]["used"])),
        ]
        if "floatingip" in network:
            found.append(Limit("floating_addresses", int(network["floatingip"]["limit"]), int(network["floatingip"]["used"])))
        if "volume" in self.rest.place().endpoints:
            volume = self.rest.get("volume", "/limits")["limits"]["absolute"]
            found += [
                Limit("volumes", volume["maxTotalVolumes"], volume["totalVolumesUsed"]),
                Limit("gigabytes", volume["maxTotalVolumeGigabytes"], volume["totalGigabytesUsed"]),
            ]
        return found

    # Instances

    def world(self, fleet: str, names: Sequence[str]) -> World:
        servers = {one["id"]: one for one in self.rest.every("compute", "/servers/detail", "servers", tags=_tag(fleet))}
        missing = sorted(set(names) - {one["name"] for one in servers.values()})
        # Of another fleet, of nobody, or of this one with its tag removed. The API takes the name as a pattern, so it is compared again.
        for some in chunks(missing):
            pattern = "^(%s)$" % "|".join(re.escape(name) for name in some)
            servers.update((one["id"], one) for one in self.rest.every("compute", "/servers/detail", "servers", name=pattern) if one["name"] in names)
        mine = self.rest.project_id
        networks: Dict[str, str] = {}
        ports = list(self.rest.every("network", "/ports", "ports", project_id=mine, description=_mark(fleet)))
        volumes: List[Dict[str, Any]] = []
        if "volume" in self.rest.place().endpoints:
            volumes = list(self.rest.every("volume", "/volumes/detail", "volumes", metadata=_python({provider.FLEET: fleet})))
        self._nothing_hidden(fleet, ports, volumes, servers)
        ours = [one for one in servers.values() if one["metadata"].get(provider.FLEET) == fleet]
        if "volume" in self.rest.place().endpoints:
            volumes += self._volumes_of_others(ours, {one["id"] for one in volumes})
        ports += self._ports_of_others(ours, {one["mac_address"] for one in ports})
        # Those that somebody gave carry no mark, and Nova hears of a floating address late.
        have = {one["id"] for one in ports}
        floating = [one for one in self.rest.every("network", "/floatingips", "floatingips", project_id=mine)
                    if one.get("description") == _mark(fleet) or one.get("port_id") in have]
        if ports:
            networks = {one["id"]: one["name"] for one in self.rest.every("network", "/networks", "networks", fields=["id", "name"])}
        port_values = [self._port(one, networks) for one in ports]
        volume_values = [_volume(one) for one in volumes]
        floating_values = [_floating(one, port_values) for one in floating]
        made = [_instance(one, port_values, volume_values, floating_values) for one in servers.values()]
        if ours:
            made = self._with_groups(made)
        return World(
            tuple(one for one in made if one.fleet == fleet),
            tuple(one for one in made if one.fleet != fleet and one.name in names),
            tuple(one for one in port_values if one.fleet == fleet),
            tuple(one for one in volume_values if one.fleet == fleet),
            tuple(one for one in floating_values if one.fleet == fleet),
        )

    def _nothing_hidden(
        self, fleet: str, ports: Sequence[Mapping[str, Any]], volumes: Sequence[Mapping[str, Any]], servers: Dict[str, Dict[str, Any]]
    ) -> None:
        """A list leaves out the servers of a cell whose database does not answer, and they would be made a second time. Their ports and volumes
        tell of them. It leaves out those that are deleted and not yet reclaimed too, which hold their ports and volumes."""
        used = {at["server_id"]: f"volume {one['name']}" for one in volumes for at in one.get("attachments") or () if at.get("server_id")}
        used.update({one["device_id"]: f"port {one['name']}" for one in ports
                     if one.get("device_id") and str(one.get("device_owner")).startswith("compute:")})
        if set(used) <= set(servers):
            return
        # Another run may have made them since the first list.
        servers.update((one["id"], one) for one in self.rest.every("compute", "/servers/detail", "servers", tags=_tag(fleet)))
        for server, part in used.items():
            if server in servers:
                continue
            found = self.rest.find("compute", f"/servers/{word(server)}")
            # One of a cell that is down is told without its metadata.
            metadata = found["server"].get("metadata", {provider.FLEET: fleet}) if found else {}
            if found and metadata.get(provider.FLEET) == fleet and found["server"].get("status") == "SOFT_DELETED":
                servers[server] = found["server"]
            elif metadata.get(provider.FLEET) == fleet:
                raise Failure(f"the instance {server} has the {part} of this fleet, and Nova does not list it", self.rest.url("compute"),
                              "Is one of its cells down, or was the tag of the fleet removed? Nothing was changed.")

    def _with_groups(self, instances: Sequence[Instance]) -> List[Instance]:
        """A list of servers does not tell their groups, a list of groups tells their servers."""
        groups: Dict[str, List[str]] = {}
        for group in self.rest.get("compute", "/os-server-groups")["server_groups"]:
            for member in group["members"]:
                groups.setdefault(member, []).append(group["id"])
        return [replace(one, server_groups=tuple(groups.get(one.id, ()))) for one in instances]

    def _ports_of_others(self, servers: Sequence[Mapping[str, Any]], known: Iterable[str]) -> List[Dict[str, Any]]:
        """Ports that somebody gave or attached."""
        seen = set(known)
        wanted = [
            one["id"] for one in servers if any(address["OS-EXT-IPS-MAC:mac_addr"] not in seen for some in one["addresses"].values() for address in some)
        ]
        return [
            port for some in chunks(wanted) for port in self.rest.every("network", "/ports", "ports", device_id=some) if port["mac_address"] not in seen
        ]

    def _volumes_of_others(self, servers: Sequence[Mapping[str, Any]], known: Iterable[str]) -> List[Dict[str, Any]]:
        seen = set(known)
        wanted = [volume["id"] for one in servers for volume in one.get("os-extended-volumes:volumes_attached", []) if volume["id"] not in seen]
        found = [self.rest.find("volume", f"/volumes/{volume}") for volume in wanted]
        return [one["volume"] for one in found if one]

    def statuses(self, fleet: str) -> Dict[str, Instance]:
        return {one["id"]: _instance(one, (), (), ()) for one in self.rest.every("compute", "/servers/detail", "servers", tags=_tag(fleet))}

    def get(self, instance_id: str) -> Optional[Instance]:
        found = self.rest.find("compute", f"/servers/{word(instance_id)}")
        return _instance(found["server"], (), (), ()) if found else None

    def everything(self) -> List[Instance]:
        return [_instance(one, (), (), ()) for one in self.rest.every("compute", "/servers/detail", "servers")]

    def console(self, instance_id: str, lines: int = 20) -> str:
        try:
            return str(self._action(instance_id, {"os-getConsoleOutput": {"length": lines}}).get("output") or "")
        except Answer:
            return ""  # it has none yet, or the cloud offers none

    # Ports

    def create_ports(self, fleet: str, wanted: Sequence[Tuple[str, WantedPort]]) -> List[Port]:
        # So many that one answer comes in time.
        return [port for start in range(0, len(wanted), PORTS_AT_ONCE) for port in self._create_ports(fleet, wanted[start : start + PORTS_AT_ONCE])]

    def _create_ports(self, fleet: str, wanted: Sequence[Tuple[str, WantedPort]]) -> List[Port]:
        body = []
        for name, want in wanted:
            one: Dict[str, Any] = {"name": name, "network_id": want.network.id, "description": _mark(fleet)}
            if want.manage_groups:
                one["security_groups"] = list(want.groups)
            if want.address or want.subnet_id:
                one["fixed_ips"] = [
                    {**({"subnet_id": want.subnet_id} if want.subnet_id else {}), **({"ip_address": want.address} if want.address else {})}
                ]
            body.append(one)
        names = [name for name, _want in wanted]

        def made() -> Optional[Dict[str, Any]]:
            found = [
                one
                for one in self.rest.every("network", "/ports", "ports", description=_mark(fleet), project_id=self.rest.project_id)
                if one["name"] in names and not one.get("device_id")
            ]
            return {"ports": found} if len(found) == len(names) else None

        try:
            answer = self.rest.send("POST", "network", "/ports", {"ports": body}, made=made)
        except Answer as wrong:
            raise in_words(wrong, f"ports {', '.join(names)}") from None
        by_name = {one["name"]: one for one in answer["ports"]}
        return [self._port(by_name[name], {want.network.id: want.network.name}) for name, want in wanted]

    def delete_port(self, port_id: str, last_user: str = "") -> None:
        self._delete_unused("port", f"/ports/{port_id}", "device_id", ["", last_user])

    def _delete_unused(self, kind: str, path: str, field: str, users: Sequence[str]) -> None:
        """Neutron deletes what is in use too. It compares the revision, so that nobody takes it between the question and the deletion."""
        for _attempt in range(REVISIONS):
            found = self.rest.find("network", path)
            if found is None:
                return
            user = found[kind].get(field) or ""
            if user not in users:
                raise Failure(f"{path[1:]} is in use by {user}, so it is not deleted")
            try:
                self.rest.delete("network", path, {"If-Match": f"revision_number={found[kind]['revision_number']}"})
                return
            except Answer as wrong:
                if wrong.code != 412:
                    raise
        raise Failure(f"{path[1:]} changes all the time, so it is not deleted", hint="Run it again.")

    def keep_port(self, fleet: str, name: str, port_id: str) -> None:
        found = self.rest.get("network", f"/ports/{port_id}")["port"]
        # Nova names no port that it makes.
        mine = {"name": name, "description": _mark(fleet)} if name and not found["name"] and not found["description"] else {}
        self.rest.send("PUT", "network", f"/ports/{port_id}", {"port": {"device_id": "", "device_owner": "", **mine}})

    def set_groups(self, port_id: str, groups: Sequence[str]) -> None:
        self.rest.send("PUT", "network", f"/ports/{port_id}", {"port": {"security_groups": list(groups)}})

    def _port(self, one: Mapping[str, Any], networks: Mapping[str, str]) -> Port:
        description = one.get("description") or ""
        return Port(
            one["id"],
            one["name"],
            Named(one["network_id"], networks.get(one["network_id"], one["network_id"])),
            tuple(fixed["ip_address"] for fixed in one.get("fixed_ips", [])),
            tuple(one.get("security_groups") or ()),
            one.get("mac_address", ""),
            description[len(_mark("")) :] if description.startswith(_mark("")) else "",
            one.get("device_id") or "",
        )

    # Volumes

    def create_volume(self, fleet: str, instance: str, wanted: WantedVolume, zone: str, image: Optional[Image]) -> Volume:
        marks = {provider.FLEET: fleet, provider.INSTANCE: instance, provider.VOLUME: wanted.label}
        body: Dict[str, Any] = {"name": f"{instance}-{wanted.label}", "size": wanted.size, "metadata": marks}
        body.update(
            {key: value for key, value in (("volume_type", wanted.type), ("availability_zone", zone), ("imageRef", image.id if image else "")) if value}
        )

        def made() -> Optional[Dict[str, Any]]:
            found = list(self.rest.every("volume", "/volumes/detail", "volumes", metadata=_python(marks)))
            return {"volume": found[0]} if found else None

        try:
            return _volume(self.rest.send("POST", "volume", "/volumes", {"volume": body}, made=made)["volume"])
        except Answer as wrong:
            raise in_words(wrong, f"volume {wanted.label} of {instance}") from None

    def wait_volume(self, volume_id: str, status: str, timeout: float) -> Volume:
        begin = time.monotonic()
        while True:
            found = self.rest.find("volume", f"/volumes/{volume_id}")
            if found is None:
                raise Failure(f"the volume {volume_id} vanished")
            volume = _volume(found["volume"])
            if volume.status == status:
                return volume
            if volume.status.startswith("error"):
                raise Failure(f"the volume {volume.name} ({volume_id}) is in state {volume.status}")
            if time.monotonic() - begin > timeout:
                raise Failure(f"the volume {volume.name} ({volume_id}) is still {volume.status}, not {status}, after {timeout:.0f} s")
            time.sleep(pause(begin))

    def delete_volume(self, volume_id: str) -> None:
        self.rest.delete("volume", f"/volumes/{volume_id}")

    def grow_volume(self, volume_id: str, size: int) -> None:
        try:
            self.rest.send("POST", "volume", f"/volumes/{volume_id}/action", {"os-extend": {"new_size": size}}, made=lambda: None)
        except Answer as wrong:
            # It may be at it, or done, since a request of which the answer was lost.
            found = self.rest.find("volume", f"/volumes/{volume_id}")
            if found is None or found["volume"]["status"] != "extending" and found["volume"]["size"] < size:
                raise in_words(wrong, f"volume {volume_id}") from None

    def rename_volume(self, volume_id: str, name: str, label: str) -> None:
        self.rest.send("PUT", "volume", f"/volumes/{volume_id}", {"volume": {"name": name}})
        self.rest.send("PUT", "volume", f"/volumes/{volume_id}/metadata/{word(provider.VOLUME)}", {"meta": {provider.VOLUME: label}})

    def attach(self, instance_id: str, volume_id: str) -> None:
        path = f"/servers/{instance_id}/os-volume_attachments"

        def made() -> Optional[Any]:
            return next((one for one in self.rest.get("compute", path)["volumeAttachments"] if one["volumeId"] == volume_id), None)

        self.rest.send("POST", "compute", path, {"volumeAttachment": {"volumeId": volume_id}}, made=made)

    def detach(self, instance_id: str, volume_id: str) -> None:
        self.rest.delete("compute", f"/servers/{instance_id}/os-volume_attachments/{volume_id}")

    def attach_port(self, instance_id: str, port_id: str) -> None:
        path = f"/servers/{instance_id}/os-interface"

        def made() -> Optional[Any]:
            return next((one for one in self.rest.get("compute", path)["interfaceAttachments"] if one["port_id"] == port_id), None)

        try:
            self.rest.send("POST", "compute", path, {"interfaceAttachment": {"port_id": port_id}}, made=made)
        except Answer as wrong:
            # Nova answers when it is done; after a time-out it may still be at it, and refuses the second request for that.
            end = time.monotonic() + ENDED_WITHIN
            while wrong.code in (400, 409) and made() is None and time.monotonic() < end:
                time.sleep(1)
            if made() is None:
                raise

    def detach_port(self, instance_id: str, port_id: str) -> None:
        self.rest.delete("compute", f"/servers/{instance_id}/os-interface/{port_id}")

    # Floating addresses

    def assign_floating(self, fleet: str, instance: str, wanted: Floating, port_id: str) -> Floating:
        """wanted.id: this one. Else a new one of the network; never one that merely is free."""
        if wanted.id:
            answer = self.rest.send("PUT", "network", f"/floatingips/{wanted.id}", {"floatingip": {"port_id": port_id}})
            return _floating(answer["floatingip"], ())
        mark = f"{_mark(fleet)}"
        body = {"floating_network_id": wanted.network_id, "port_id": port_id, "description": mark}

        def made() -> Optional[Any]:
            found = list(self.rest.every("network", "/floatingips", "floatingips", port_id=port_id))
            return {"floatingip": found[0]} if found else None

        try:
            return _floating(self.rest.send("POST", "network", "/floatingips", {"floatingip": body}, made=made)["floatingip"], ())
        except Answer as wrong:
            raise in_words(wrong, f"floating address of {instance}") from None

    def floating_by_address(self, address: str) -> Optional[Floating]:
        found = list(self.rest.every("network", "/floatingips", "floatingips", floating_ip_address=address, project_id=self.rest.project_id))
        return _floating(found[0], ()) if found else None

    def release_floating(self, floating_id: str, ports: Sequence[str]) -> None:
        self._delete_unused("floatingip", f"/floatingips/{floating_id}", "port_id", ["", *ports])

    def unassign_floating(self, floating_id: str) -> None:
        self.rest.send("PUT", "network", f"/floatingips/{floating_id}", {"floatingip": {"port_id": None}})

    # Verbs

    def create(self, fleet: str, wanted: Wanted, metadata: Mapping[str, str], ports: Sequence[str], boot: str, volumes: Sequence[str]) -> str:
        import base64

        server: Dict[str, Any] = {
            "name": wanted.name,
            "flavorRef": wanted.flavor.id,
            "metadata": dict(metadata),
            "tags": [_tag(fleet)],
            "networks": [{"port": port} for port in ports] or "none",
        }
        devices: List[Dict[str, Any]] = []
        if boot:
            devices.append({"uuid": boot, "source_type": "volume", "destination_type": "volume", "boot_index": 0, "delete_on_termination": False})
        else:
            if wanted.image is None:
                raise Failure(f"there is no image {wanted.image_name}", wanted.name)
            server["imageRef"] = wanted.image.id
            if volumes:
                devices.append(
                    {"uuid": wanted.image.id, "source_type": "image", "destination_type": "local", "boot_index": 0, "delete_on_termination": True}
                )
        devices += [
            {"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": -1, "delete_on_termination": False} for volume in volumes
        ]
        if devices:
            server["block_device_mapping_v2"] = devices
        if wanted.key:
            server["key_name"] = wanted.key
        if wanted.zone:
            server["availability_zone"] = wanted.zone
        if wanted.user_data:
            server["user_data"] = base64.b64encode(wanted.user_data.encode()).decode()
        body: Dict[str, Any] = {"server": server}
        if wanted.server_group:
            body["OS-SCH-HNT:scheduler_hints"] = {"group": wanted.server_group.id}

        def made() -> Optional[Any]:
            # Not the one that it replaces, which may be listed for a while.
            found = [one for one in self.rest.every("compute", "/servers/detail", "servers", tags=_tag(fleet))
                     if one["name"] == wanted.name and not _instance(one, (), (), ()).leaving]
            return {"server": found[0]} if found else None

        try:
            return str(self.rest.send("POST", "compute", "/servers", body, made=made)["server"]["id"])
        except Answer as wrong:
            raise in_words(wrong, f"{wanted.name} was not created") from None

    def delete(self, instance_id: str) -> None:
        self.rest.delete("compute", f"/servers/{instance_id}")

    def delete_for_good(self, instance_id: str) -> None:
        try:
            self._action(instance_id, {"forceDelete": None})
        except Answer as wrong:
            if wrong.code != 404:
                raise in_words(wrong, f"instance {instance_id}") from None

    def start(self, instance_id: str) -> None:
        self._in_state(instance_id, {"os-start": None}, "ACTIVE")

    def stop(self, instance_id: str) -> None:
        self._in_state(instance_id, {"os-stop": None}, "SHUTOFF")

    def power_off(self, instance_id: str) -> None:
        """Nova does it by itself, after a time of its own."""

    def _in_state(self, instance_id: str, action: Mapping[str, Any], status: str) -> None:
        try:
            self._action(instance_id, action)
        except Answer as wrong:
            now = self.get(instance_id)
            if wrong.code != 409 or now is None or now.status != status:
                raise in_words(wrong, f"instance {instance_id}") from None

    def resize(self, instance_id: str, flavor: Flavor) -> None:
        self._begin(instance_id, {"resize": {"flavorRef": flavor.id}}, "resize", ("RESIZE", "VERIFY_RESIZE"))

    def confirm_resize(self, instance_id: str) -> None:
        try:
            self._action(instance_id, {"confirmResize": None})
        except Answer as wrong:
            # The cloud may have confirmed it by itself, or be at it since a request of which the answer was lost.
            end = time.monotonic() + ENDED_WITHIN
            while True:
                now = self.get(instance_id)
                if now is not None and now.status in provider.READY:
                    return
                if now is None or wrong.code not in (400, 404, 409) or time.monotonic() > end:
                    raise in_words(wrong, f"instance {instance_id}") from None
                time.sleep(POLL)

    def rebuild(self, instance_id: str, wanted: Wanted, metadata: Mapping[str, str]) -> None:
        import base64

        if wanted.image is None:
            raise Failure(f"there is no image {wanted.image_name}", wanted.name)
        body: Dict[str, Any] = {
            "imageRef": wanted.image.id,
            "metadata": dict(metadata),
            "key_name": wanted.key or None,
            "user_data": base64.b64encode(wanted.user_data.encode()).decode() if wanted.user_data else None,
        }
        self._begin(instance_id, {"rebuild": body}, "rebuild", ("REBUILD",))

    def _begin(self, instance_id: str, action: Mapping[str, Any], task: str, statuses: Sequence[str]) -> None:
        try:
            self._action(instance_id, action)
        except Answer as wrong:
            # A conflict with itself: it is at it since a request of which the answer was lost.
            now = self.get(instance_id)
            if wrong.code != 409 or now is None or not (now.task.startswith(task) or now.status in statuses):
                raise in_words(wrong, f"instance {instance_id}") from None

    def _action(self, instance_id: str, action: Mapping[str, Any]) -> Any:
        # Sent again when no answer came: what it asks for is a state, and one that is there already answers 409.
        return self.rest.send("POST", "compute", f"/servers/{instance_id}/action", action, made=lambda: None)

    def set_metadata(self, instance_id: str, add: Mapping[str, str], remove: Sequence[str]) -> None:
        if add:
            self.rest.send("POST", "compute", f"/servers/{instance_id}/metadata", {"metadata": dict(add)}, made=lambda: None)
        for key in remove:
            self.rest.delete("compute", f"/servers/{instance_id}/metadata/{word(key)}")

    # One writer: a security group that nothing uses, whose description is changed only by whoever knows its revision

    def lock(self, fleet: str, holder: str, takes_over: bool, patience: float) -> str:
        controller = holder.split("/")[0]
        since, last = time.monotonic(), None
        while True:
            group = self._lock_of(fleet)
            held = group["description"]
            if held != last:
                since, last = time.monotonic(), held
            mine = takes_over and held.startswith(f"{_held(controller)}/")
            if held == FREE or mine or time.monotonic() - since > patience:
                if self._swap(group, _held(holder)):
                    return str(group["id"])
                continue
            time.sleep(1)

    def _lock_of(self, fleet: str) -> Dict[str, Any]:
        name = f"nordic-gitops-lock-{fleet}"

        def those() -> List[Dict[str, Any]]:
            found = self.rest.every("network", "/security-groups", "security_groups", name=name, project_id=self.rest.project_id)
            return sorted(found, key=lambda one: (one["created_at"], one["id"]))

        found = those()
        if not found:
            made = self.rest.send(
                "POST",
                "network",
                "/security-groups",
                {"security_group": {"name": name, "description": FREE}},
                made=lambda: ({"security_group": those()[0]} if those() else None),
            )["security_group"]
            # Two that begin at once both see both after a second, which is how exactly the cloud tells time, and agree on the first.
            time.sleep(1.1)
            found = those()
            if found and found[0]["id"] != made["id"]:
                self.rest.delete("network", f"/security-groups/{made['id']}")
        return found[0]

    def _swap(self, group: Mapping[str, Any], description: str) -> bool:
        try:
            self.rest.send(
                "PUT",
                "network",
                f"/security-groups/{group['id']}",
                {"security_group": {"description": description}},
                headers={"If-Match": f"revision_number={group['revision_number']}"},
            )
        except Answer as wrong:
            if wrong.code == 412:
                return False
            raise in_words(wrong, "the lock of the fleet") from None
        return True

    def renew(self, lock_id: str, holder: str) -> None:
        for _attempt in range(REVISIONS):
            group = self.rest.get("network", f"/security-groups/{lock_id}")["security_group"]
            if not group["description"].startswith(_held(holder)):
                break
            # Refused also when it was done by a request of which the answer was lost.
            if self._swap(group, f"{_held(holder)} {int(time.time())}"):
                return
        raise Failure("another run has taken the lock of the fleet, so this one stops")

    def unlock(self, lock_id: str, holder: str) -> None:
        group = self.rest.get("network", f"/security-groups/{lock_id}")["security_group"]
        if group["description"].startswith(_held(holder)):
            self._swap(group, FREE)


def _held(holder: str) -> str:
    return f"nordic.gitops: held by {holder}"


def _tag(fleet: str) -> str:
    return f"{provider.FLEET}:{fleet}"


def _mark(fleet: str) -> str:
    """In the description of ports and floating addresses, by which they can be listed."""
    return f"{provider.FLEET}={fleet}"


def _python(values: Mapping[str, str]) -> str:
    """Cinder takes a filter by metadata as a dictionary in Python's notation."""
    return "{%s}" % ", ".join(f"'{key}': '{value}'" for key, value in values.items())


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", text) is not None


def _volume(one: Mapping[str, Any]) -> Volume:
    marks = one.get("metadata") or {}
    at = (one.get("attachments") or [{}])[0]
    return Volume(
        one["id"],
        one.get("name") or "",
        one["size"],
        one.get("volume_type") or "",
        one.get("availability_zone") or "",
        one["status"],
        at.get("server_id") or "",
        at.get("device") or "",
        (one.get("volume_image_metadata") or {}).get("image_id", ""),
        marks.get(provider.FLEET, ""),
        marks.get(provider.INSTANCE, ""),
        marks.get(provider.VOLUME, ""),
        str(one.get("bootable")).lower() == "true",
        len(one.get("attachments") or []) > 1,
    )


def _floating(one: Mapping[str, Any], ports: Iterable[Port]) -> Floating:
    description = one.get("description") or ""
    ours = description.startswith(_mark(""))
    port = next((port for port in ports if port.id == one.get("port_id")), None)
    return Floating(
        one["id"],
        one["floating_ip_address"],
        one.get("port_id") or "",
        one["floating_network_id"],
        description[len(_mark("")) :] if ours else "",
        port.name.split("|")[0] if port else "",
    )


def _instance(one: Mapping[str, Any], ports: Sequence[Port], volumes: Sequence[Volume], floating: Sequence[Floating]) -> Instance:
    flavor = one["flavor"]
    image = one.get("image")
    own_ports = [port for port in ports if port.server_id == one["id"]]
    attached = [volume["id"] for volume in one.get("os-extended-volumes:volumes_attached", [])]
    own_volumes = sorted((volume for volume in volumes if volume.id in attached), key=lambda volume: (len(volume.device), volume.device))
    ids = {port.id: port for port in own_ports}
    addresses = tuple(
        {
            "network": network,
            "address": address["addr"],
            "version": int(address["version"]),
            "kind": address.get("OS-EXT-IPS:type", "fixed"),
            "mac": address.get("OS-EXT-IPS-MAC:mac_addr", ""),
        }
        for network, some in one["addresses"].items()
        for address in some
    )
    # Nova hears of floating addresses late, Neutron knows them.
    known = {address["address"] for address in addresses}
    addresses += tuple(
        {
            "network": ids[its.port_id].network.name,
            "address": its.address,
            "version": 6 if ":" in its.address else 4,
            "kind": "floating",
            "mac": ids[its.port_id].mac,
        }
        for its in floating
        if its.port_id in ids and its.address not in known
    )
    return Instance(
        one["id"],
        one["name"],
        one["status"],
        one.get("OS-SRV-USG:launched_at", "not told") is not None,
        one.get("OS-EXT-STS:task_state") or "",
        (one.get("fault") or {}).get("message", ""),
        image["id"] if isinstance(image, dict) else "",
        Flavor("", flavor.get("original_name", ""), flavor.get("vcpus", 0), flavor.get("ram", 0), flavor.get("disk", 0)),
        one.get("key_name") or "",
        one.get("OS-EXT-AZ:availability_zone") or "",
        (),
        bool(one.get("locked")),
        one.get("created", ""),
        one.get("hostId", ""),
        dict(one["metadata"]),
        addresses,
        tuple(own_ports),
        tuple(own_volumes),
        tuple(address for address in floating if address.port_id in ids),
    )


__all__ = ["OpenStack"]
