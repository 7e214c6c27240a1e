# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud, or a host with libvirt, has to offer here: a value in, a value out. A new provider is one file that implements Provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, Union

# Marks of ownership in the provider's own metadata.
FLEET = "nordic:fleet"
INSTANCE = "nordic:instance"
VOLUME = "nordic:volume"
IMAGE = "nordic:image"
IMAGE_NAME = "nordic:image_name"
USER_DATA = "nordic:user_data"
SSH_KEY = "nordic:ssh_key:"
DECLARED = "nordic:metadata"
PROTECTED = "nordic:protected"
REPLACES = "nordic:replaces"  # the instance whose place it took, whose deletion may not have ended
FLOATING = "nordic:floating_address"  # the one that was given, which is released by whoever gave it only
PREFIX = "nordic:"

READY = ("ACTIVE", "SHUTOFF")
# The methods of a Provider that change something in a fleet.
WRITES = (
    "create_ports", "delete_port", "set_groups", "create_volume", "delete_volume", "grow_volume", "rename_volume", "attach", "detach", "attach_port",
    "detach_port", "assign_floating", "release_floating", "unassign_floating", "create", "delete", "start", "stop", "power_off", "resize",
    "confirm_resize", "rebuild", "set_metadata", "keep_port", "delete_for_good",
)
DELETING = ("deleting", "soft-deleting")  # the tasks of an instance whose deletion has not ended


@dataclass(frozen=True)
class Named:
    id: str
    name: str


@dataclass(frozen=True)
class Image(Named):
    min_disk: int = 0
    min_ram: int = 0


@dataclass(frozen=True)
class Flavor(Named):
    vcpus: int = 0
    ram: int = 0
    disk: int = 0


@dataclass(frozen=True)
class Key(Named):
    public_key: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class ServerGroup(Named):
    policy: str = ""
    members: Tuple[str, ...] = ()
    limit: int = 0  # of members; 0: none is known


@dataclass(frozen=True)
class Port:
    """id: "" for one that is to be made."""

    id: str
    name: str
    network: Named
    addresses: Tuple[str, ...] = ()
    groups: Tuple[str, ...] = ()
    mac: str = ""
    fleet: str = ""
    server_id: str = ""


@dataclass(frozen=True)
class Volume:
    """label: the name under which an instance declares it, "" for one that nobody of ours made."""

    id: str
    name: str
    size: int = 0
    type: str = ""
    zone: str = ""
    status: str = ""
    server_id: str = ""
    device: str = ""
    image_id: str = ""
    fleet: str = ""
    instance: str = ""
    label: str = ""
    bootable: bool = False
    shared: bool = False  # more than one instance has it
    overlay: str = ""  # a file that stands on it, such as an external snapshot, and holds what was written since


@dataclass(frozen=True)
class Floating:
    id: str
    address: str
    port_id: str = ""
    network_id: str = ""
    fleet: str = ""
    instance: str = ""


@dataclass(frozen=True)
class Instance:
    """As the provider has it. launched: it ran once, so its disks may hold data."""

    id: str
    name: str
    status: str
    launched: bool = True
    task: str = ""
    fault: str = ""
    image_id: str = ""
    flavor: Flavor = Flavor("", "")
    key: str = ""
    zone: str = ""
    server_groups: Tuple[str, ...] = ()
    locked: bool = False
    created: str = ""
    host_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    addresses: Tuple[Mapping[str, Any], ...] = ()
    ports: Tuple[Port, ...] = ()
    volumes: Tuple[Volume, ...] = ()
    floating: Tuple[Floating, ...] = ()
    snapshots: int = 0  # that are lost with it

    @property
    def fleet(self) -> str:
        return self.metadata.get(FLEET, "")

    @property
    def protected(self) -> bool:
        return self.locked or self.metadata.get(PROTECTED) == "true"

    @property
    def leaving(self) -> bool:
        """Its deletion was asked for and has not ended; until then a cloud lists it, often as ACTIVE."""
        return self.task in DELETING or self.status == "DELETED" or self.put_aside

    @property
    def put_aside(self) -> bool:
        """It was deleted, and until the cloud reclaims it somebody may restore it; its ports and volumes are held for that."""
        return self.status == "SOFT_DELETED"

    @property
    def boots_from_volume(self) -> bool:
        return not self.image_id

    def lent(self, address: Floating) -> bool:
        """Whether the fleet made it, so that it is taken away when it is no longer declared. That releases none."""
        return bool(self.fleet) and address.fleet == self.fleet

    def owns(self, part: Union[Port, Volume, Floating]) -> bool:
        """Whether it was made for this instance. What was made for another one or another fleet, and what somebody gave, is never deleted with it."""
        if not self.fleet or part.fleet != self.fleet:
            return False
        if isinstance(part, Port):
            return part.name.split("|")[0] == self.name
        if isinstance(part, Floating):
            return part.address != self.metadata.get(FLOATING)
        return part.instance == self.name


@dataclass(frozen=True)
class WantedPort:
    """port: an existing one that somebody gave; it is never made or deleted. first_boot: a guest learns the address only then."""

    network: Named
    address: str = ""
    subnet_id: str = ""
    port: Optional[Port] = None
    groups: Tuple[str, ...] = ()
    manage_groups: bool = False
    first_boot: bool = False


@dataclass(frozen=True)
class WantedVolume:
    """volume: an existing one that somebody gave; it is attached, and never resized or deleted."""

    label: str
    size: int = 0
    type: str = ""
    volume: Optional[Volume] = None
    zone: str = ""  # "": that of the instance's volumes


@dataclass(frozen=True)
class Wanted:
    """One instance as it is declared, every name looked up."""

    name: str
    state: str = "present"
    image: Optional[Image] = None
    image_name: str = ""
    flavor: Flavor = Flavor("", "")
    key: str = ""
    zone: str = ""
    volume_zone: str = ""  # of its new volumes
    server_group: Optional[ServerGroup] = None
    ports: Tuple[WantedPort, ...] = ()
    boot_volume: Optional[WantedVolume] = None
    volumes: Tuple[WantedVolume, ...] = ()
    floating: Optional[Floating] = None  # address "": a new one of network_id
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str = ""
    user_data_mark: str = ""
    ssh_keys: Tuple[str, ...] = ()
    protected: bool = False


@dataclass(frozen=True)
class Limit:
    """One quota: none is -1."""

    name: str
    limit: int
    used: int


@dataclass(frozen=True)
class Place:
    """Where a request goes, in the provider's own words."""

    provider: str
    region: str
    project_id: str
    endpoints: Mapping[str, str]  # service -> URL
    regions: Mapping[str, Tuple[str, ...]]  # service -> the regions that its catalog lists
    answered: str  # when, RFC 3339


@dataclass(frozen=True)
class World:
    """All of one fleet that the provider has, and what is taken by others."""

    instances: Tuple[Instance, ...] = ()
    strangers: Tuple[Instance, ...] = ()  # another fleet's or nobody's, under a name that is wanted
    ports: Tuple[Port, ...] = ()  # of the fleet, those without an instance too
    volumes: Tuple[Volume, ...] = ()
    floating: Tuple[Floating, ...] = ()


class Provider(Protocol):
    """Every method talks to the provider, raises Failure, and retries what may be retried."""

    @property
    def requests(self) -> int:
        """How many were made."""

    def place(self) -> Place: ...

    # Look-ups: everything of that kind that this project may use

    def images(self) -> List[Image]: ...

    def flavors(self) -> List[Flavor]: ...

    def sized(self, vcpus: int, ram: int, disk: int) -> Optional[Flavor]:
        """A flavor of this size, where a provider has no flavors; else None."""

    def networks(self) -> List[Named]: ...

    def external_networks(self) -> List[Named]: ...

    def addresses_at_first_boot(self, network: Named) -> bool:
        """Whether a guest is told its fixed address in this network only when it first boots, as no DHCP knows it."""

    def subnets(self) -> List[Tuple[Named, str, str]]:
        """(subnet, id of its network, CIDR)"""

    def security_groups(self) -> List[Named]: ...

    def keys(self) -> List[Key]: ...

    def zones(self) -> List[str]: ...

    def volume_zones(self) -> List[str]: ...

    def volume_types(self) -> List[Named]: ...

    def server_groups(self) -> List[ServerGroup]: ...

    def port(self, wanted: str) -> Port: ...

    def volume(self, wanted: str) -> Volume: ...

    def taken(self, network_id: str, addresses: Sequence[str]) -> List[Port]:
        """The ports that hold one of these addresses."""

    def limits(self) -> List[Limit]: ...

    # Instances

    def world(self, fleet: str, names: Sequence[str]) -> World: ...

    def statuses(self, fleet: str) -> Dict[str, Instance]:
        """The instances of the fleet by id, without their parts; one request, for waiting."""

    def get(self, instance_id: str) -> Optional[Instance]:
        """One of them, or None when it is gone."""

    def everything(self) -> List[Instance]:
        """Every instance that this project has, without ports and volumes."""

    def console(self, instance_id: str, lines: int = 20) -> str: ...

    def create_ports(self, fleet: str, wanted: Sequence[Tuple[str, WantedPort]]) -> List[Port]:
        """Ports under these names, in one request where the provider can."""

    def delete_port(self, port_id: str, last_user: str = "") -> None:
        """Unless an instance has it. last_user: one that is gone, which the provider may still name."""

    def keep_port(self, fleet: str, name: str, port_id: str) -> None:
        """Take it from its instance, which is to be deleted, as the provider deletes the ports with it that it made itself. Those nobody named get the name."""

    def set_groups(self, port_id: str, groups: Sequence[str]) -> None: ...

    def create_volume(self, fleet: str, instance: str, wanted: WantedVolume, zone: str, image: Optional[Image]) -> Volume: ...

    def wait_volume(self, volume_id: str, status: str, timeout: float) -> Volume: ...

    def delete_volume(self, volume_id: str) -> None:
        """Unless an instance has it."""

    def grow_volume(self, volume_id: str, size: int) -> None: ...

    def rename_volume(self, volume_id: str, name: str, label: str) -> None: ...

    def attach(self, instance_id: str, volume_id: str) -> None: ...

    def detach(self, instance_id: str, volume_id: str) -> None: ...

    def attach_port(self, instance_id: str, port_id: str) -> None: ...

    def detach_port(self, instance_id: str, port_id: str) -> None: ...

    def assign_floating(self, fleet: str, instance: str, wanted: Floating, port_id: str) -> Floating: ...

    def floating_by_address(self, address: str) -> Optional[Floating]: ...

    def release_floating(self, floating_id: str, ports: Sequence[str]) -> None:
        """Delete it, unless it leads to another port than these."""

    def unassign_floating(self, floating_id: str) -> None: ...

    def create(self, fleet: str, wanted: Wanted, metadata: Mapping[str, str], ports: Sequence[str], boot: str, volumes: Sequence[str]) -> str:
        """The id of the new instance; it is being made when this returns."""

    def delete(self, instance_id: str) -> None: ...

    def delete_for_good(self, instance_id: str) -> None:
        """One that was put aside."""

    def start(self, instance_id: str) -> None: ...

    def stop(self, instance_id: str) -> None:
        """Ask the guest to shut down."""

    def power_off(self, instance_id: str) -> None:
        """For one that did not."""

    def resize(self, instance_id: str, flavor: Flavor) -> None: ...

    def confirm_resize(self, instance_id: str) -> None: ...

    def rebuild(self, instance_id: str, wanted: Wanted, metadata: Mapping[str, str]) -> None: ...

    def set_metadata(self, instance_id: str, add: Mapping[str, str], remove: Sequence[str]) -> None: ...

    # One writer

    def lock(self, fleet: str, holder: str, takes_over: bool, patience: float) -> str:
        """Be the only one that writes this fleet; the lock's id. takes_over: the last holder of this controller is known to be dead."""

    def renew(self, lock_id: str, holder: str) -> None: ...

    def unlock(self, lock_id: str, holder: str) -> None: ...
