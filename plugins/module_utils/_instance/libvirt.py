# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances on a host with libvirt and QEMU.

What a cloud keeps apart is kept by other means here, so that the same plan serves:
  - the marks of an instance are in its domain's metadata; those of a volume in its name, LABEL+INSTANCE+FLEET;
  - a port is a MAC address that follows from fleet, instance and network, with a reservation in the network's DHCP; it outlives the domain;
  - an image is a volume of the pool that carries no mark; a flavor is a size; a volume type is a pool; the only zone is the host;
  - the root disk is an overlay of its image, and goes with its instance; data volumes stay. So a pool has to be one whose volumes are files.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import re
import threading
import time
import uuid
from dataclasses import replace
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple
from xml.etree import ElementTree as xml

from .._errors import Failure, MissingLibrary
from . import lookup, nocloud, provider
from .plan import pair_ports
from .provider import Flavor, Floating, Image, Instance, Key, Limit, Named, Place, Port, ServerGroup, Volume, Wanted, WantedPort, WantedVolume, World

SPACE = "https://nordic.gitops/instance/1"
GIB = 1024**3
OWN_MAC = r"52:54(:[0-9a-f]{2}){4}"
POLL = 0.3
WRITTEN = 1024**2  # a new overlay takes less
# Pools whose volumes are files. An overlay needs one, and a copy on a device (LVM) that a killed run left half-made would look like a whole disk.
FILE_POOLS = ("dir", "fs", "netfs")
# Labels of what is no data volume; no declared label begins so.
ROOT, SEED, CONSOLE, LOCK = "_disk", "_seed", "_console", "_lock"
# A boot sector: it writes a letter to the serial port and has the machine reset.
PROBE = bytes.fromhex("baf803b04beeb0fee664f4ebfd").ljust(510, b"\0") + b"\x55\xaa"
PROBED_WITHIN = 10.0
SHUT_DOWN_WITHIN = 90.0
COMMIT = "Merge it first (virsh blockcommit --active --pivot)."


class Libvirt:
    """A Provider."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        try:
            import libvirt
        except ImportError as error:
            raise MissingLibrary("libvirt-python", error) from error
        self.api = libvirt
        options = access["libvirt"]
        self.uri, self.region = str(options["uri"]), str(access["region"])
        self.default_pool = str(options.get("pool") or "default")
        self.declared = {one["name"]: one for one in options.get("images") or []}
        self.emulation, self.uefi, self.autostart = bool(options.get("emulation")), options.get("firmware") == "uefi", bool(options.get("autostart"))
        self.cache, self.io = options.get("cache") or "none", options.get("io") or "native"
        self._asked = 0
        self._count, self._pools_lock, self._images_lock = threading.Lock(), threading.Lock(), threading.Lock()
        self._kvm: Optional[bool] = None
        self._paths: Dict[str, Set[str]] = {}
        self._networks_of_ports: Dict[str, Named] = {}
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # it would print to standard error
        self.host = self._connect()

    def _connect(self) -> Any:
        try:
            return self.api.open(self.uri)
        except self.api.libvirtError as error:
            said = str(error)
            hint = "Is libvirtd, or virtqemud, running there?"
            if "ermission denied" in said or "authentication" in said.lower():
                hint = "The user has to be in the group libvirt there, or root."
            raise Failure(f"no connection to libvirt: {said}", self.uri.partition("?")[0], hint) from None

    @property
    def requests(self) -> int:
        return self._asked

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        """libvirt's own words, of what was to be done."""
        with self._count:
            self._asked += 1
        try:
            yield
        except self.api.libvirtError as error:
            said, hint = str(error), ""
            if "No space left" in said or "not enough free space" in said.lower():
                hint = "The pool is full."
            elif "ermission denied" in said:
                path = re.search(r"'(/[^']+)'", said)
                hint = (
                    f"QEMU's user may not open {path[1] if path else 'a file of it'}. Look at the owner and mode of it and of each folder above it, "
                    "and at what AppArmor or SELinux denied (dmesg, ausearch)."
                )
            raise Failure(f"{what}: {said}", self.uri.partition("?")[0], hint) from None

    # Where

    def place(self) -> Place:
        with self._saying("the host"):
            name = self.host.getHostname()
            own = xml.fromstring(self.host.getCapabilities()).findtext("host/uuid") or ""
        services = ("compute", "network", "image", "volume")
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return Place("libvirt", self.region, own, dict.fromkeys(services, f"libvirt://{name}"), dict.fromkeys(services, (self.region,)), now)

    # Look-ups

    def _know_pool(self) -> None:
        """The default pool exists, runs, and is of a kind that serves."""
        with self._saying("pools"):
            pools = {one.name(): one for one in self.host.listAllStoragePools()}
            if self.default_pool not in pools:
                raise lookup.unknown("storage pool", self.default_pool, list(pools))
            pool = pools[self.default_pool]
            if _pool_type(pool) not in FILE_POOLS:
                raise Failure(f"the storage pool {self.default_pool} is of type {_pool_type(pool)}",
                              hint=f"Instances need a pool whose volumes are files: {', '.join(FILE_POOLS)}.")
            if not pool.isActive():
                raise Failure(f"the storage pool {self.default_pool} is not active", hint=f"Start it: virsh pool-start {self.default_pool}.")

    def _pools(self) -> List[Any]:
        """The active ones of a kind that serves."""
        return [one for one in self.host.listAllStoragePools() if one.isActive() and _pool_type(one) in FILE_POOLS]

    def images(self) -> List[Image]:
        self._know_pool()
        found = {name: _gib(one[2]) for name, one in self._files().items() if not _marks(name)[0] and not name.endswith(".partial")}
        images = [Image(name, name, size) for name, size in found.items() if name not in self.declared]
        for name, given in self.declared.items():
            base = _base_name(given)
            if base not in found:
                _check(given)
            images.append(Image(base, name, found[base] if base in found else _virtual_size(given["path"])))
        return images

    def flavors(self) -> List[Flavor]:
        return []

    def sized(self, vcpus: int, ram: int, disk: int) -> Optional[Flavor]:
        return Flavor("", f"{vcpus} vCPU, {ram} MB, {disk} GB", vcpus, ram, disk)

    def networks(self) -> List[Named]:
        with self._saying("networks"):
            found = [Named(one.name(), one.name()) for one in self.host.listAllNetworks()]
            taken = {one.bridgeName() for one in self.host.listAllNetworks() if _has_bridge(one)}
        bridges: List[Named] = []
        with contextlib.suppress(self.api.libvirtError):  # not every build has the interface driver
            listed = self.host.listAllInterfaces()
            bridges = [Named(f"bridge:{one.name()}", one.name()) for one in listed if xml.fromstring(one.XMLDesc()).get("type") == "bridge"]
        return found + [one for one in bridges if one.name not in taken]

    def external_networks(self) -> List[Named]:
        return []

    def addresses_at_first_boot(self, network: Named) -> bool:
        return any(name == network.id and tree.find("ip/dhcp") is None for name, tree in self._network_trees())

    def subnets(self) -> List[Tuple[Named, str, str]]:
        with self._saying("networks"):
            listed = [(one.name(), xml.fromstring(one.XMLDesc())) for one in self.host.listAllNetworks()]
        return [(Named(str(cidr), str(cidr)), name, str(cidr)) for name, tree in listed for _ip, cidr in _subnets(tree)]

    def security_groups(self) -> List[Named]:
        return []

    def keys(self) -> List[Key]:
        return []

    def zones(self) -> List[str]:
        with self._saying("the host"):
            return [self.host.getHostname()]

    def volume_zones(self) -> List[str]:
        return self.zones()

    def volume_types(self) -> List[Named]:
        with self._saying("pools"):
            return [Named(one.name(), one.name()) for one in self._pools()]

    def server_groups(self) -> List[ServerGroup]:
        return []

    def port(self, wanted: str) -> Port:
        for one in self._domains():
            for port in one.ports:
                if wanted in (port.id, port.name):
                    return port
        for name, tree in self._network_trees():
            for host in tree.iterfind("ip/dhcp/host"):
                if host.get("mac") == wanted:
                    return Port(wanted, wanted, Named(name, name), tuple(filter(None, [host.get("ip")])), (), wanted)
        if re.fullmatch(OWN_MAC, wanted):
            return Port(wanted, wanted, Named("", ""), (), (), wanted)  # of a network that keeps no reservations; nothing has it now
        raise Failure(f"there is no port {wanted}", hint="A port is named by its MAC address here.")

    def volume(self, wanted: str) -> Volume:
        found = [one for one in self._volumes() if wanted in (one.id, one.name)]
        if len(found) != 1:
            raise Failure(f"there is no volume {wanted}", hint="Name it as its pool does.")
        self._only(found[0].name)
        return found[0]

    def taken(self, network_id: str, addresses: Sequence[str]) -> List[Port]:
        found = []
        for name, tree in self._network_trees():
            if name != network_id:
                continue
            for host in tree.iterfind("ip/dhcp/host"):
                if host.get("ip") in addresses:
                    mac = host.get("mac") or ""
                    found.append(Port(mac, host.get("name") or mac, Named(name, name), (host.get("ip") or "",), (), mac))
            reserved = {port.mac for port in found}
            # Of a network without DHCP each guest was told its own.
            for instance in self._domains():
                for port in instance.ports:
                    if port.network.id == network_id and port.mac not in reserved and set(port.addresses) & set(addresses):
                        reserved.add(port.mac)
                        found.append(port)
            for lease in self._leases(name):
                if lease["ipaddr"] in addresses and lease["mac"] not in reserved:
                    found.append(Port(lease["mac"], lease["mac"], Named(name, name), (lease["ipaddr"],), (), lease["mac"]))
        return found

    def limits(self) -> List[Limit]:
        with self._saying("the host's memory"):
            total = int(self.host.getInfo()[1])
            used = sum(int(one.maxMemory()) // 1024 for one in self.host.listAllDomains() if one.isActive())
        with self._saying(f"pool {self.default_pool}"):
            _state, size, allocated, _free = self.host.storagePoolLookupByName(self.default_pool).info()
        return [Limit("ram", total, used), Limit("gigabytes", size // GIB, -(-allocated // GIB))]

    # Instances

    def world(self, fleet: str, names: Sequence[str]) -> World:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise Failure(f"{name!r} is no name for an instance on libvirt", hint="Letters, digits, dots, dashes and underscores.")
        volumes = self._volumes()
        for volume in volumes:
            if volume.fleet == fleet:
                self._only(volume.name)
        instances = self._domains(volumes)
        mine = [one for one in instances if one.fleet == fleet]
        wanted = {*names, *(one.name for one in mine)}
        used = {port.mac for one in instances for port in one.ports}
        ports = [port for one in mine for port in one.ports if port.fleet]
        ports += [port for port in self._reserved(fleet, wanted) if port.mac not in used]
        return World(
            tuple(mine),
            tuple(one for one in instances if one.fleet != fleet and one.name in names),
            tuple(ports),
            tuple(one for one in volumes if one.fleet == fleet and not one.label.startswith("_")),
            (),
        )

    def statuses(self, fleet: str) -> Dict[str, Instance]:
        return {one.id: one for one in self._domains() if one.fleet == fleet}

    def get(self, instance_id: str) -> Optional[Instance]:
        return next((one for one in self._domains() if one.id == instance_id), None)

    def everything(self) -> List[Instance]:
        return self._domains()

    def console(self, instance_id: str, lines: int = 20) -> str:
        domain = self._domain(instance_id)
        log = xml.fromstring(domain.XMLDesc()).find("devices/serial/log")
        name = os.path.basename(log.get("file") or "") if log is not None else ""
        if name not in self._files(fresh=True):
            return ""
        try:
            volume = self._lookup(name)
            size = volume.info()[2]
            start = max(0, size - 200 * max(lines, 1))
            return self._read(volume, start, size - start).decode(errors="replace") if size else ""
        except (Failure, self.api.libvirtError):
            return ""  # it has none yet

    def _domains(self, volumes: Optional[Sequence[Volume]] = None) -> List[Instance]:
        known = self._volumes() if volumes is None else volumes
        with self._saying("domains"):
            zone = self.host.getHostname()
            found = []
            for domain in self.host.listAllDomains():
                with contextlib.suppress(self.api.libvirtError):  # it went meanwhile
                    found.append((domain, domain.XMLDesc(), domain.state(), self._snapshots(domain)))
        leases = {lease["mac"]: lease["ipaddr"] for name, _tree in self._network_trees() for lease in self._leases(name)}
        reserved = {host.get("mac"): host.get("ip") for _name, tree in self._network_trees() for host in tree.iterfind("ip/dhcp/host")}
        files = {path: (name, size) for name, (_pool, path, size, *_more) in self._files().items()}
        known_addresses = {**leases, **reserved}
        return [
            replace(self._instance(domain, xml.fromstring(text), state, zone, known, known_addresses, files), snapshots=snapshots)
            for domain, text, state, snapshots in found
        ]

    def _instance(
        self,
        domain: Any,
        tree: xml.Element,
        state: Sequence[int],
        zone: str,
        volumes: Sequence[Volume],
        addresses: Mapping[Any, Any],
        files: Mapping[str, Tuple[str, int]],
    ) -> Instance:
        name, own = domain.name(), domain.UUIDString()
        record = _record(tree)
        if record.get("uuid", own) != own:
            record = {}  # a clone, which somebody made: the mark was copied with all else
        metadata = {str(key): str(value) for key, value in (record.get("metadata") or {}).items()}
        fleet = metadata.get(provider.FLEET, "")
        sources = [_source(disk) for disk in tree.iterfind("devices/disk")]
        root = next((one for one in sources if os.path.basename(one).startswith(f"{ROOT}+")), "")
        launched = bool(record.get("launched", True)) or _status(self.api, state[0]) == "ACTIVE"  # killed before it was recorded
        fault = ""
        if fleet and not launched:
            fault = "its domain was defined and never started"
        elif root and root not in files:
            fault = f"its disk {root} is gone"
        static: Mapping[str, Any] = record.get("static") or {}
        macs = [_attribute(one, "mac", "address") for one in tree.iterfind("devices/interface")]
        heard = self._heard(domain) if _status(self.api, state[0]) == "ACTIVE" and any(mac not in addresses and mac not in static for mac in macs) else {}
        ports = []
        for one in tree.iterfind("devices/interface"):
            mac, source = _attribute(one, "mac", "address"), one.find("source")
            where = (source.get("network") or "") if source is not None else ""
            bridge = (source.get("bridge") or "") if source is not None else ""
            network = Named(where, where) if where else Named(f"bridge:{bridge}", bridge)
            alias = next((port for port in _names(name, network.name) if _mac(fleet, port) == mac), "") if fleet else ""
            fixed = [str(addresses[mac])] if addresses.get(mac) else [str(text).partition("/")[0] for text in static.get(mac, [])] or heard.get(mac, [])
            ports.append(Port(mac, alias or mac, network, tuple(fixed), (), mac, fleet if alias else "", own))
        attached = [next(volume for volume in volumes if volume.device == source) for source in sources if any(v.device == source for v in volumes)]
        return Instance(
            own,
            name,
            _status(self.api, state[0]) if not fault else "ERROR",
            launched,
            "",
            fault,
            metadata.get(provider.IMAGE, "") if root else "",
            Flavor("", "", int(tree.findtext("vcpu") or 0), int(tree.findtext("memory") or 0) // 1024, int(record.get("disk") or 0)),
            "",
            zone,
            (),
            False,
            str(record.get("created") or ""),
            zone,
            metadata,
            tuple(
                {"network": port.network.name, "address": address, "version": 6 if ":" in address else 4, "kind": "fixed", "mac": port.mac}
                for port in ports
                for address in port.addresses
            ),
            tuple(ports),
            tuple(one for one in attached if not one.label.startswith("_")),
        )

    def _snapshots(self, domain: Any) -> int:
        try:
            return int(domain.snapshotNum())
        except self.api.libvirtError:
            return 0  # this kind of domain has none

    def _heard(self, domain: Any) -> Dict[str, List[str]]:
        """Addresses by MAC that the guest's agent tells: in a bridge no DHCP of libvirt knows them. (The host's ARP table does, and libvirt 9.0
        fails to read it.)"""
        found: Dict[str, List[str]] = {}
        with contextlib.suppress(self.api.libvirtError):  # it has no agent, or none that runs yet
            for one in domain.interfaceAddresses(self.api.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT).values():
                found[str(one.get("hwaddr"))] = _reachable([str(address.get("addr")) for address in one.get("addrs") or []])
        return found

    def _domain(self, instance_id: str) -> Any:
        with self._saying(f"instance {instance_id}"):
            return self.host.lookupByUUIDString(instance_id)

    # Ports: reservations in the DHCP of a network

    def _network_trees(self) -> List[Tuple[str, xml.Element]]:
        with self._saying("networks"):
            return [(one.name(), xml.fromstring(one.XMLDesc())) for one in self.host.listAllNetworks()]

    def _leases(self, network: str) -> List[Dict[str, Any]]:
        try:
            return [one for one in self.host.networkLookupByName(network).DHCPLeases() if one.get("mac")]
        except self.api.libvirtError:
            return []  # it is not active, or has no DHCP

    def _reserved(self, fleet: str, names: Iterable[str]) -> List[Port]:
        """Reservations of this fleet, also those whose instance is gone: the reservation says the instance, and the MAC proves whose it is."""
        found = []
        for network, tree in self._network_trees():
            hosts = {host.get("mac"): host for host in tree.iterfind("ip/dhcp/host")}
            instances = {*names, *((host.get("name") or "").split(".")[0] for host in hosts.values())}
            for instance in sorted(filter(None, instances)):
                for name in _names(instance, network):
                    host = hosts.get(_mac(fleet, name))
                    if host is not None:
                        mac = host.get("mac") or ""
                        found.append(Port(mac, name, Named(network, network), tuple(filter(None, [host.get("ip")])), (), mac, fleet))
        return found

    def create_ports(self, fleet: str, wanted: Sequence[Tuple[str, WantedPort]]) -> List[Port]:
        made = []
        trees = dict(self._network_trees())
        for name, want in wanted:
            mac = _mac(fleet, name)
            tree = trees.get(want.network.id)
            address = want.address
            if tree is not None and tree.find("ip/dhcp") is not None:
                address = address or self._free_address(want.network.name)
                self._reserve(want.network.name, name, mac, address)
            self._networks_of_ports[mac] = want.network
            made.append(Port(mac, name, want.network, (address,) if address else (), (), mac, fleet))
        return made

    def _free_address(self, network: str) -> str:
        tree = dict(self._network_trees())[network]
        used = {host.get("ip") for host in tree.iterfind("ip/dhcp/host")} | {lease["ipaddr"] for lease in self._leases(network)}
        for entry in tree.iterfind("ip/dhcp/range"):
            first, last = (ipaddress.ip_address(entry.get(end) or "") for end in ("start", "end"))
            for number in range(int(first), int(last) + 1):
                if str(ipaddress.ip_address(number)) not in used:
                    return str(ipaddress.ip_address(number))
        raise Failure(f"the DHCP range of the network {network} has no free address")

    def _reserve(self, network: str, name: str, mac: str, address: str) -> None:
        instance, _bar, rest = name.partition("|")
        number = rest.rpartition("|")[2] if "|" in rest else ""
        host = xml.Element("host", {"mac": mac, "ip": address})
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", instance):
            host.set("name", f"{instance}{f'.{number}' if number else ''}")
        self._update_network(network, self.api.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, host, f"address {address} of {instance}")

    def _update_network(self, network: str, command: int, host: xml.Element, what: str) -> None:
        with self._saying(what):
            found = self.host.networkLookupByName(network)
            flags = self.api.VIR_NETWORK_UPDATE_AFFECT_CONFIG if found.isPersistent() else 0
            if found.isActive():
                flags |= self.api.VIR_NETWORK_UPDATE_AFFECT_LIVE
            found.update(command, self.api.VIR_NETWORK_SECTION_IP_DHCP_HOST, -1, xml.tostring(host, "unicode"), flags)

    def delete_port(self, port_id: str, last_user: str = "") -> None:
        user = next((port.server_id for one in self._domains() for port in one.ports if port.mac == port_id and one.id != last_user), "")
        if user:
            raise Failure(f"the port {port_id} is in use by {user}, so it is not deleted")
        for name, tree in self._network_trees():
            for host in tree.iterfind("ip/dhcp/host"):
                if host.get("mac") == port_id:
                    self._update_network(name, self.api.VIR_NETWORK_UPDATE_COMMAND_DELETE, host, f"port {port_id}")

    def keep_port(self, fleet: str, name: str, port_id: str) -> None:
        """A reservation outlives each domain."""

    def set_groups(self, port_id: str, groups: Sequence[str]) -> None:
        raise Failure("libvirt has no security groups", port_id, "Leave security_groups out.")

    def attach_port(self, instance_id: str, port_id: str) -> None:
        reserved = next((name for name, tree in self._network_trees() for host in tree.iterfind("ip/dhcp/host") if host.get("mac") == port_id), "")
        network = self._networks_of_ports.get(port_id) or (Named(reserved, reserved) if reserved else None)
        if network is None:
            raise Failure(f"no network is known of the port {port_id}", hint="Name the network instead of the port.")
        self._device(instance_id, _interface(network, port_id), True)

    def detach_port(self, instance_id: str, port_id: str) -> None:
        tree = xml.fromstring(self._domain(instance_id).XMLDesc())
        for one in tree.iterfind("devices/interface"):
            if _attribute(one, "mac", "address") == port_id:
                self._device(instance_id, one, False)

    def _device(self, instance_id: str, device: xml.Element, attach: bool) -> None:
        domain = self._domain(instance_id)
        with self._saying(f"{'attach to' if attach else 'detach from'} {domain.name()}"):
            flags = self.api.VIR_DOMAIN_AFFECT_CONFIG | (self.api.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0)
            (domain.attachDeviceFlags if attach else domain.detachDeviceFlags)(xml.tostring(device, "unicode"), flags)

    # Volumes

    def _files(self, fresh: bool = False) -> Dict[str, Tuple[str, str, int, int, str, str]]:
        """Every volume of every active pool: name -> (pool, path, capacity, allocation, format, backing file). A name in two pools is the default pool's."""
        found: Dict[str, Tuple[str, str, int, int, str, str]] = {}
        paths: Dict[str, Set[str]] = {}
        with self._pools_lock, self._saying("pools"):
            for pool in sorted(self._pools(), key=lambda one: one.name() == self.default_pool):
                with contextlib.suppress(self.api.libvirtError):  # busy with another job: then what it knows serves
                    pool.refresh()
                for volume in pool.listAllVolumes():
                    with contextlib.suppress(self.api.libvirtError):  # it went meanwhile
                        _kind, capacity, allocation = volume.info()
                        tree = xml.fromstring(volume.XMLDesc())
                        form = "qcow2" if _attribute(tree, "target/format", "type") == "qcow2" else "raw"
                        backing = tree.findtext("backingStore/path") or ""
                        found[volume.name()] = (pool.name(), volume.path(), capacity, allocation, form, backing)
                        paths.setdefault(volume.name(), set()).add(volume.path())
        self._paths = paths
        return found

    def _only(self, name: str) -> None:
        """Two files of one name cannot be told apart, and the wrong one would be attached, or deleted."""
        several = self._paths.get(name, set())
        if len(several) > 1:
            raise Failure(f"the volume {name} is in several pools: {', '.join(sorted(several))}", hint="Rename or remove what is not in use.")

    def _volumes(self) -> List[Volume]:
        """Whoever has an overlay has all that it stands on: attached elsewhere, a file below it would change under it."""
        files = self._files()
        below = {path: backing for _pool, path, _capacity, _used, _format, backing in files.values()}
        above = {backing: name for name, (_pool, _path, _capacity, _used, _format, backing) in files.items() if backing}
        users: Dict[str, Set[str]] = {}
        with self._saying("domains"):
            for domain in self.host.listAllDomains():
                with contextlib.suppress(self.api.libvirtError):
                    texts = [domain.XMLDesc(), *([domain.XMLDesc(self.api.VIR_DOMAIN_XML_INACTIVE)] if domain.isPersistent() else [])]
                    for disk in (disk for text in texts for disk in xml.fromstring(text).iterfind("devices/disk")):
                        chain = [_source(disk), *(source.get("file") or "" for source in disk.iterfind(".//backingStore/source"))]
                        while below.get(chain[-1]) and below[chain[-1]] not in chain:
                            chain.append(below[chain[-1]])
                        for path in chain:
                            users.setdefault(path, set()).add(domain.UUIDString())
            zone = self.host.getHostname()
        made = []
        for name, (pool, path, capacity, _allocation, _format, _backing) in files.items():
            label, instance, fleet = _marks(name)
            using = sorted(users.get(path, ()))
            status, user = ("in-use", using[0]) if using else ("available", "")
            made.append(
                Volume(_serial(name), name, _gib(capacity), pool, zone, status, user, path, "", fleet, instance, label, label == "root",
                       len(using) > 1, above.get(path, ""))
            )
        return made

    def _lookup(self, name: str) -> Any:
        for pool in sorted(self._pools(), key=lambda one: one.name() != self.default_pool):
            with contextlib.suppress(self.api.libvirtError):
                return pool.storageVolLookupByName(name)
        raise Failure(f"there is no volume {name}")

    def create_volume(self, fleet: str, instance: str, wanted: WantedVolume, zone: str, image: Optional[Image]) -> Volume:
        name = f"{wanted.label}+{instance}+{fleet}"
        pool = wanted.type or self.default_pool
        if image is not None:
            self._system_disk(name, pool, wanted.size, image)
        else:
            with self._saying(f"volume {wanted.label} of {instance}"):
                self._make(pool, name, wanted.size * GIB, "qcow2")
        return next(one for one in self._volumes() if one.name == name)

    def _make(self, pool: str, name: str, size: int, form: str, backing: str = "", backing_form: str = "", source: Any = None) -> Any:
        tree = xml.Element("volume")
        xml.SubElement(tree, "name").text = name
        xml.SubElement(tree, "capacity", unit="bytes").text = str(size)
        if form == "qcow2":
            xml.SubElement(tree, "allocation").text = "0"
        target = xml.SubElement(tree, "target")
        xml.SubElement(target, "format", type=form)
        if form == "qcow2":
            # libvirt's default is the version before, which cannot keep the bitmaps of checkpoints (incremental backups).
            xml.SubElement(target, "compat").text = "1.1"
        if backing:
            chain = xml.SubElement(tree, "backingStore")
            xml.SubElement(chain, "path").text = backing
            xml.SubElement(chain, "format", type=backing_form)
        found = self.host.storagePoolLookupByName(pool)
        text = xml.tostring(tree, "unicode")
        with self._pools_lock:
            return found.createXML(text) if source is None else found.createXMLFrom(text, source)

    def _system_disk(self, name: str, pool: str, size: int, image: Image) -> None:
        """A root disk of the image. One that is there already, of the same image, is used: it may be the only copy of what is on it."""
        with self._images_lock:
            base = self._base(image)
        _pool, path, capacity, _used, form, _backing = self._files()[base]
        if size * GIB < capacity:
            raise Failure(f"{name} would have {size} GB, its image {image.name} has {_gib(capacity)} GB")
        existing = self._files().get(name)
        if existing is not None:
            backing = xml.fromstring(self._lookup(name).XMLDesc()).findtext("backingStore/path") or ""
            if backing and backing != path:
                raise Failure(
                    f"the disk {name} is left of an earlier instance, made of {os.path.basename(backing)}, not of {base}",
                    hint="Declare that image to use what is on it, or delete the volume from its pool.",
                )
            return
        with self._saying(f"disk {name}"):
            self._make(pool, name, size * GIB, "qcow2", path, form)

    def _base(self, image: Image) -> str:
        """The image's volume. It gets its name only when it is whole and its checksum was right."""
        if image.id in self._files():
            return image.id
        given = self.declared.get(image.name)
        if given is None:
            raise Failure(f"there is no image {image.name}")
        form = "qcow2" if _is_qcow2(given["path"]) else "raw"
        partial = f"{image.id}.partial"
        with self._saying(f"image {image.name}"):
            if partial in self._files():
                self._lookup(partial).delete()  # of an upload that was broken off
            size = os.path.getsize(given["path"])
            upload = self._make(self.default_pool, partial, size, "raw")
            digest = self._send(upload, given["path"])
            if digest != _digest(given):
                upload.delete()
                raise Failure(f"the image {image.name} changed while it was uploaded", given["path"])
            with self._pools_lock:
                self.host.storagePoolLookupByName(self.default_pool).refresh()
            capacity = self._lookup(partial).info()[1]
            self._make(self.default_pool, image.id, capacity, form, source=self._lookup(partial))
            self._lookup(partial).delete()
        return image.id

    def _send(self, volume: Any, path: str) -> str:
        """Upload a file; its SHA-256."""
        digest = hashlib.sha256()
        stream = self.host.newStream()
        volume.upload(stream, 0, os.path.getsize(path))
        with open(path, "rb") as file:

            def read(_stream: Any, size: int, _data: Any) -> bytes:
                piece = file.read(size)
                digest.update(piece)
                return piece

            stream.sendAll(read, None)
        stream.finish()
        return digest.hexdigest()

    def _write(self, volume: Any, content: bytes) -> None:
        stream = self.host.newStream()
        volume.upload(stream, 0, len(content))
        left = memoryview(content)

        def read(_stream: Any, size: int, _data: Any) -> bytes:
            nonlocal left
            piece, left = bytes(left[:size]), left[size:]
            return piece

        stream.sendAll(read, None)
        stream.finish()

    def _read(self, volume: Any, start: int, size: int) -> bytes:
        stream = self.host.newStream()
        volume.download(stream, start, size)
        pieces: List[bytes] = []
        stream.recvAll(lambda _stream, piece, _data: pieces.append(piece), None)
        stream.finish()
        return b"".join(pieces)

    def wait_volume(self, volume_id: str, status: str, timeout: float) -> Volume:
        end = time.monotonic() + timeout
        while True:
            found = next((one for one in self._volumes() if one.id == volume_id), None)
            if found is None:
                raise Failure(f"the volume {volume_id} vanished")
            if found.status == status:
                return found
            if time.monotonic() > end:
                raise Failure(f"the volume {found.name} is still {found.status}, not {status}, after {timeout:.0f} s")
            time.sleep(POLL)

    def _named(self, volume_id: str) -> Optional[str]:
        return next((name for name in self._files() if _serial(name) == volume_id), None)

    def delete_volume(self, volume_id: str) -> None:
        found = next((one for one in self._volumes() if one.id == volume_id), None)
        if found is None:
            return
        if found.server_id or found.overlay:
            raise Failure(f"the volume {found.name} is in use by {found.server_id or found.overlay}, so it is not deleted")
        with self._saying(f"volume {found.name}"):
            self._lookup(found.name).delete()

    def grow_volume(self, volume_id: str, size: int) -> None:
        volume = next((one for one in self._volumes() if one.id == volume_id), None)
        if volume is None:
            raise Failure(f"the volume {volume_id} vanished")
        with self._saying(f"volume {volume.name}"):
            domain = self.host.lookupByUUIDString(volume.server_id) if volume.server_id else None
            if domain is not None and domain.isActive():
                domain.blockResize(volume.device, size * GIB, self.api.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
            else:
                self._lookup(volume.name).resize(size * GIB)

    def rename_volume(self, volume_id: str, name: str, label: str) -> None:
        """libvirt has no such thing: a whole copy under the new name, then the old one goes."""
        volume = next((one for one in self._volumes() if one.id == volume_id), None)
        if volume is None:
            raise Failure(f"the volume {volume_id} vanished")
        with self._saying(f"volume {volume.name}"):
            source = self._lookup(volume.name)
            self._make(volume.type, f"{label}+{volume.instance}+{volume.fleet}", source.info()[1], "qcow2", source=source)
            source.delete()

    def attach(self, instance_id: str, volume_id: str) -> None:
        name = self._named(volume_id)
        if name is None:
            raise Failure(f"the volume {volume_id} vanished")
        tree = xml.fromstring(self._domain(instance_id).XMLDesc())
        taken = {_attribute(disk, "target", "dev") for disk in tree.iterfind("devices/disk")}
        target = next(f"vd{letter}" for letter in "bcdefghijklmnopqrstuvwxyz" if f"vd{letter}" not in taken)
        self._device(instance_id, self._disk(name, target), True)

    def detach(self, instance_id: str, volume_id: str) -> None:
        tree = xml.fromstring(self._domain(instance_id).XMLDesc())
        for disk in tree.iterfind("devices/disk"):
            if _serial(os.path.basename(_source(disk))) == volume_id:
                self._device(instance_id, disk, False)

    # Floating addresses: a cloud's

    def assign_floating(self, fleet: str, instance: str, wanted: Floating, port_id: str) -> Floating:
        raise Failure("libvirt has no floating addresses", instance, "Use a network that is a bridge.")

    def floating_by_address(self, address: str) -> Optional[Floating]:
        return None

    def release_floating(self, floating_id: str, ports: Sequence[str]) -> None:
        raise Failure("libvirt has no floating addresses")

    def unassign_floating(self, floating_id: str) -> None:
        raise Failure("libvirt has no floating addresses")

    # Verbs

    def create(self, fleet: str, wanted: Wanted, metadata: Mapping[str, str], ports: Sequence[str], boot: str, volumes: Sequence[str]) -> str:
        own = str(uuid.uuid4())
        volumes_now = self._volumes()
        names = {volume.id: volume.name for volume in volumes_now}
        root = names[boot] if boot else f"{ROOT}+{wanted.name}+{fleet}"
        user = next((volume.server_id for volume in volumes_now if volume.name == root), "")
        if user:
            raise Failure(f"{wanted.name} was not created: its disk {root} is in use by the domain {user}", hint="Was that one renamed or cloned?")
        found = root in self._files()
        if not boot:
            if wanted.image is None:
                raise Failure(f"there is no image {wanted.image_name}", wanted.name)
            self._system_disk(root, self.default_pool, wanted.flavor.disk, wanted.image)
        disks = [root, *(names[volume] for volume in volumes)]
        pairs = list(zip(wanted.ports, ports))
        record = {
            "uuid": own,
            "metadata": dict(metadata),
            "launched": False,
            "found_disk": found,
            "disk": wanted.flavor.disk,
            "static": self._seed(fleet, wanted, own, pairs),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        tree = self._tree(own, fleet, wanted, record, disks, [(want.network, mac) for want, mac in pairs])
        with self._saying(f"{wanted.name} was not created"):
            domain = self.host.defineXML(xml.tostring(tree, "unicode"))
            if self.autostart:
                domain.setAutostart(1)
            domain.create()
            self._write_record(domain, {**record, "launched": True})
        return own

    def _seed(self, fleet: str, wanted: Wanted, own: str, pairs: Sequence[Tuple[WantedPort, str]]) -> Dict[str, List[str]]:
        """The addresses that the guest is told itself, by MAC: those of networks without DHCP."""
        trees = dict(self._network_trees())
        static: Dict[str, List[str]] = {}
        interfaces: List[Dict[str, Any]] = []
        routed: Set[int] = set()
        for want, mac in pairs:
            tree = trees.get(want.network.id)
            if tree is None or tree.find("ip/dhcp") is not None or not want.address:
                interfaces.append(nocloud.interface(mac))
                continue
            address = ipaddress.ip_address(want.address)
            here, cidr = next((one, cidr) for one, cidr in _subnets(tree) if address in cidr)
            static[mac] = [f"{want.address}/{cidr.prefixlen}"]
            # The host is a router only of networks that it forwards, and one default route is enough.
            router = str(here.get("address")) if tree.find("forward") is not None and address.version not in routed else ""
            routed.update({address.version} if router else ())
            dns = tree.find("dns")
            resolver = "" if dns is not None and dns.get("enable") == "no" else str(here.get("address"))
            interfaces.append(nocloud.interface(mac, static[mac], router, resolver))
        content = nocloud.image(own, wanted.name, wanted.user_data, interfaces)
        name = f"{SEED}+{wanted.name}+{fleet}"
        with self._saying(f"the seed of {wanted.name}"):
            if name in self._files():
                self._lookup(name).delete()
            self._write(self._make(self.default_pool, name, len(content), "raw"), content)
        return static

    def _tree(
        self, own: str, fleet: str, wanted: Wanted, record: Mapping[str, Any], disks: Sequence[str], ports: Sequence[Tuple[Named, str]]
    ) -> xml.Element:
        kind = "kvm" if self._runs_kvm() else "qemu"
        tree = xml.Element("domain", type=kind)
        xml.SubElement(tree, "name").text = wanted.name
        xml.SubElement(tree, "uuid").text = own
        tree.append(_metadata(record))
        xml.SubElement(tree, "memory", unit="MiB").text = str(wanted.flavor.ram)
        xml.SubElement(tree, "vcpu").text = str(wanted.flavor.vcpus)
        system = xml.SubElement(tree, "os", {"firmware": "efi"} if self.uefi else {})
        xml.SubElement(system, "type", arch="x86_64", machine="q35").text = "hvm"
        if self.uefi:
            # A cloud image's boot loader is seldom signed for Secure Boot, and whose keys are trusted is the owner's to say.
            firmware = xml.SubElement(system, "firmware")
            for name in ("secure-boot", "enrolled-keys"):
                xml.SubElement(firmware, "feature", enabled="no", name=name)
        xml.SubElement(system, "boot", dev="hd")
        features = xml.SubElement(tree, "features")
        for name in ("acpi", "apic"):
            xml.SubElement(features, name)
        xml.SubElement(tree, "cpu", mode="host-passthrough" if kind == "kvm" else "maximum")
        devices = xml.SubElement(tree, "devices")
        for name, letter in zip(disks, "abcdefghijklmnopqrstuvwxyz"):
            devices.append(self._disk(name, f"vd{letter}"))
        # No CD-ROM: kernels for clouds (Debian's genericcloud) have no driver of one.
        seed = self._disk(f"{SEED}+{wanted.name}+{fleet}", "vdz")
        xml.SubElement(seed, "readonly")
        devices.append(seed)
        for network, mac in ports:
            devices.append(_interface(network, mac))
        serial = xml.SubElement(devices, "serial", type="pty")
        root = self._files()[disks[0]]
        xml.SubElement(serial, "log", file=os.path.join(os.path.dirname(root[1]), f"{CONSOLE}+{wanted.name}+{fleet}"), append="on")
        channel = xml.SubElement(devices, "channel", type="unix")
        xml.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
        random = xml.SubElement(devices, "rng", model="virtio")
        xml.SubElement(random, "backend", model="random").text = "/dev/urandom"
        return tree

    def _disk(self, name: str, target: str) -> xml.Element:
        _pool, path, _capacity, _allocation, form, _backing = self._files()[name]
        disk = xml.Element("disk", type="file", device="disk")
        xml.SubElement(disk, "driver", name="qemu", type=form, cache=self.cache, io=self.io, discard="unmap")
        xml.SubElement(disk, "source", file=path)
        xml.SubElement(disk, "target", dev=target, bus="virtio")
        # By it the guest finds the volume, in whatever order devices come.
        xml.SubElement(disk, "serial").text = _serial(name)
        return disk

    def _runs_kvm(self) -> bool:
        """Whether KVM runs a guest here, which the device /dev/kvm alone does not say: a boot sector is run, on the processor that guests have."""
        if self._kvm is None:
            self._kvm = self._probe()
        if not self._kvm and not self.emulation:
            raise Failure("KVM cannot run a guest on this host", self.uri.partition("?")[0],
                          "Allow emulation by libvirt.emulation, which is many times slower.")
        return self._kvm

    def _probe(self) -> bool:
        capabilities = xml.fromstring(self.host.getCapabilities())
        if not any(domain.get("type") == "kvm" for domain in capabilities.iterfind("guest/arch[@name='x86_64']/domain")):
            return False
        name = f"probe-{uuid.uuid4().hex[:12]}"
        tree = xml.fromstring(
            f"<domain type='kvm'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>"
            "<features><acpi/></features><cpu mode='host-passthrough'/><on_reboot>destroy</on_reboot><devices><serial type='null'/></devices></domain>"
        )
        volume = domain = None
        try:
            volume = self._make(self.default_pool, f"{name}++", len(PROBE), "raw")
            self._write(volume, PROBE)
            disk = xml.SubElement(tree[-1], "disk", type="file", device="disk")
            xml.SubElement(disk, "source", file=volume.path())
            xml.SubElement(disk, "target", dev="sda", bus="sata")
            domain = self.host.createXML(xml.tostring(tree, "unicode"))
            end = time.monotonic() + PROBED_WITHIN
            while time.monotonic() < end:
                if not any(one.name() == name for one in self.host.listAllDomains()):
                    return True
                time.sleep(0.1)
            return False
        except self.api.libvirtError:
            return False
        finally:
            for left in (domain and domain.destroy, volume and volume.delete):
                with contextlib.suppress(self.api.libvirtError):
                    if left:
                        left()

    def delete(self, instance_id: str) -> None:
        """Its disk goes before its definition, so that what a killed run left is known by its mark. The disk of an
        instance that never ran stays when it was there before, or is written: it is an earlier one's."""
        found = self.get(instance_id)
        if found is None:
            return
        domain = self._domain(instance_id)
        files = self._files(fresh=True)
        own = f"{ROOT}+{found.name}+{found.fleet}"
        found_disk = _record(xml.fromstring(domain.XMLDesc())).get("found_disk") or (own in files and files[own][3] > WRITTEN)
        labels = (SEED, CONSOLE) if found_disk and not found.launched else (ROOT, SEED, CONSOLE)
        with self._saying(f"instance {found.name}"):
            if domain.isActive():
                domain.destroy()
            for name in files:
                label, instance, fleet = _marks(name)
                if (instance, fleet) == (found.name, found.fleet) and label in labels:
                    self._lookup(name).delete()
            flags = (
                self.api.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | self.api.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | self.api.VIR_DOMAIN_UNDEFINE_NVRAM
                | self.api.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            )
            domain.undefineFlags(flags)

    def delete_for_good(self, instance_id: str) -> None:
        """libvirt puts none aside."""

    def start(self, instance_id: str) -> None:
        domain = self._domain(instance_id)
        with self._saying(f"start {domain.name()}"):
            if not domain.isActive():
                domain.create()

    def stop(self, instance_id: str) -> None:
        domain = self._domain(instance_id)
        with self._saying(f"stop {domain.name()}"):
            if domain.isActive():
                domain.shutdown()

    def power_off(self, instance_id: str) -> None:
        domain = self._domain(instance_id)
        with self._saying(f"power off {domain.name()}"):
            if domain.isActive():
                domain.destroy()

    def resize(self, instance_id: str, flavor: Flavor) -> None:
        domain = self._domain(instance_id)
        was_active = bool(domain.isActive())
        self.stop(instance_id)
        end = time.monotonic() + SHUT_DOWN_WITHIN
        with self._saying(f"resize {domain.name()}"):
            while domain.isActive():
                if time.monotonic() > end:
                    raise Failure(f"{domain.name()} did not shut down within {SHUT_DOWN_WITHIN:.0f} s, so it was not resized", hint="Stop it first.")
                time.sleep(POLL)
            tree = xml.fromstring(domain.XMLDesc(self.api.VIR_DOMAIN_XML_INACTIVE))
            for field, value in (("memory", flavor.ram * 1024), ("currentMemory", flavor.ram * 1024), ("vcpu", flavor.vcpus)):
                node = tree.find(field)
                if node is not None:
                    node.text = str(value)
            root = next((os.path.basename(_source(disk)) for disk in tree.iterfind("devices/disk") if f"{ROOT}+" in _source(disk)), "")
            if root and flavor.disk * GIB > self._files()[root][2]:
                self._lookup(root).resize(flavor.disk * GIB)
            domain = self.host.defineXML(xml.tostring(tree, "unicode"))
            self._write_record(domain, {**_record(tree), "disk": flavor.disk})
            if was_active:
                domain.create()

    def confirm_resize(self, instance_id: str) -> None:
        """There is nothing to confirm."""

    def rebuild(self, instance_id: str, wanted: Wanted, metadata: Mapping[str, str]) -> None:
        found = self.get(instance_id)
        if found is None or wanted.image is None:
            raise Failure(f"there is no image {wanted.image_name}" if found else f"the instance {instance_id} vanished", wanted.name)
        domain = self._domain(instance_id)
        root = f"{ROOT}+{found.name}+{found.fleet}"
        above = next((volume.overlay for volume in self._volumes() if volume.name == root), "")
        if above:
            raise Failure(f"{found.name} was not rebuilt: {above}, such as of an external snapshot, stands on its disk {root}", hint=COMMIT)
        with self._saying(f"rebuild {found.name}"):
            if domain.isActive():
                domain.destroy()
            if root in self._files():
                self._lookup(root).delete()
            self._system_disk(root, self.default_pool, found.flavor.disk, wanted.image)
            pairs = [(want, port.mac) for want, port in pair_ports(wanted, found)[0]]
            # Another instance-id, or cloud-init takes the new system for one that has had its first boot.
            self._seed(found.fleet, wanted, str(uuid.uuid4()), pairs)
            domain.create()
            # After the start, so that the next run does it again when this one is killed before.
            self._write_record(domain, {**_record(xml.fromstring(domain.XMLDesc())), "metadata": dict(metadata), "launched": True})

    def set_metadata(self, instance_id: str, add: Mapping[str, str], remove: Sequence[str]) -> None:
        domain = self._domain(instance_id)
        record = _record(xml.fromstring(domain.XMLDesc()))
        kept = {key: value for key, value in (record.get("metadata") or {}).items() if key not in remove}
        with self._saying(f"metadata of {domain.name()}"):
            self._write_record(domain, {**record, "metadata": {**kept, **add}})

    def _write_record(self, domain: Any, record: Mapping[str, Any]) -> None:
        flags = self.api.VIR_DOMAIN_AFFECT_CONFIG | (self.api.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0)
        element = f"<instance>{_escaped(json.dumps(record))}</instance>"
        domain.setMetadata(self.api.VIR_DOMAIN_METADATA_ELEMENT, element, "nordic", SPACE, flags)

    # One writer: a volume that only one can make. Whoever takes over a dead one makes the next number.

    def lock(self, fleet: str, holder: str, takes_over: bool, patience: float) -> str:
        controller = holder.split("/")[0]
        since, last = time.monotonic(), ""
        while True:
            number, held = self._lock_of(fleet)
            if (number, held) != last:
                since, last = time.monotonic(), (number, held)  # type: ignore[assignment]
            free = not number or (takes_over and held.startswith(f"{controller}/")) or time.monotonic() - since > patience
            if free and self._take(fleet, number + 1, holder):
                for old in range(1, number + 1):
                    self._drop(f"{LOCK}{old}++{fleet}")
                return f"{LOCK}{number + 1}++{fleet}"
            time.sleep(1)

    def _lock_of(self, fleet: str) -> Tuple[int, str]:
        numbers = [int(found[1]) for found in (re.fullmatch(rf"{LOCK}(\d+)\+\+{re.escape(fleet)}", name) for name in self._files()) if found]
        if not numbers:
            return 0, ""
        try:
            content = self._read(self._lookup(f"{LOCK}{max(numbers)}++{fleet}"), 0, 512)
        except (Failure, self.api.libvirtError):
            content = b""
        return max(numbers), content.rstrip(b"\0").decode(errors="replace")

    def _take(self, fleet: str, number: int, holder: str) -> bool:
        try:
            volume = self._make(self.default_pool, f"{LOCK}{number}++{fleet}", 512, "raw")
        except self.api.libvirtError as error:
            if error.get_error_code() == self.api.VIR_ERR_STORAGE_VOL_EXIST:
                return False
            raise Failure(f"the lock of the fleet: {error}") from None
        self._write(volume, holder.encode().ljust(512, b"\0"))
        return True

    def _drop(self, name: str) -> None:
        with contextlib.suppress(Failure, self.api.libvirtError):
            self._lookup(name).delete()

    def renew(self, lock_id: str, holder: str) -> None:
        fleet = lock_id.split("++")[1]
        number, held = self._lock_of(fleet)
        if f"{LOCK}{number}++{fleet}" != lock_id or not held.startswith(holder):
            raise Failure("another run has taken the lock of the fleet, so this one stops")
        with self._saying("the lock of the fleet"):
            self._write(self._lookup(lock_id), f"{holder} {int(time.time())}".encode().ljust(512, b"\0"))

    def unlock(self, lock_id: str, holder: str) -> None:
        number, held = self._lock_of(lock_id.split("++")[1])
        if held.startswith(holder):
            self._drop(lock_id)


def _status(api: Any, state: int) -> str:
    """A guest that crashed is off, so that what is to run is started."""
    return {
        api.VIR_DOMAIN_RUNNING: "ACTIVE",
        api.VIR_DOMAIN_BLOCKED: "ACTIVE",
        api.VIR_DOMAIN_SHUTDOWN: "ACTIVE",
        api.VIR_DOMAIN_SHUTOFF: "SHUTOFF",
        api.VIR_DOMAIN_CRASHED: "SHUTOFF",
        api.VIR_DOMAIN_PAUSED: "PAUSED",
    }.get(state, "UNKNOWN")


def _record(tree: xml.Element) -> Dict[str, Any]:
    """What this collection wrote into a domain's metadata; {} where it wrote nothing, or somebody spoilt it."""
    node = tree.find(f"metadata/{{{SPACE}}}instance")
    try:
        found = json.loads(node.text or "{}") if node is not None else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _metadata(record: Mapping[str, Any]) -> xml.Element:
    return xml.fromstring(f'<metadata><nordic:instance xmlns:nordic="{SPACE}">{_escaped(json.dumps(record))}</nordic:instance></metadata>')


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _source(disk: xml.Element) -> str:
    node = disk.find("source")
    return (node.get("file") or node.get("dev") or "") if node is not None else ""


def _attribute(tree: xml.Element, path: str, name: str) -> str:
    node = tree.find(path)
    return (node.get(name) or "") if node is not None else ""


def _interface(network: Named, mac: str) -> xml.Element:
    bridge = network.id.startswith("bridge:")
    device = xml.Element("interface", type="bridge" if bridge else "network")
    xml.SubElement(device, "mac", address=mac)
    xml.SubElement(device, "source", {"bridge" if bridge else "network": network.name})
    xml.SubElement(device, "model", type="virtio")
    return device


def _has_bridge(network: Any) -> bool:
    return xml.fromstring(network.XMLDesc()).find("bridge") is not None


def _subnets(network: xml.Element) -> List[Tuple[xml.Element, Any]]:
    found = []
    for one in network.iterfind("ip"):
        size = one.get("prefix") or one.get("netmask")
        if one.get("address") and size:
            found.append((one, ipaddress.ip_network(f"{one.get('address')}/{size}", strict=False)))
    return found


def _reachable(told: Iterable[str]) -> List[str]:
    """The addresses in what a guest tells, which may be anything; IPv4 first."""
    found = []
    for text in told:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(text)
            if not (address.is_link_local or address.is_loopback or address.is_unspecified or address.is_multicast):
                found.append(str(address))
    return sorted(found, key=lambda address: ":" in address)


def _pool_type(pool: Any) -> str:
    return xml.fromstring(pool.XMLDesc()).get("type") or ""


def _names(instance: str, network: str) -> List[str]:
    """What plan.names_of_ports may call the ports of an instance in one network."""
    return [f"{instance}|{network}", *(f"{instance}|{network}|{number}" for number in range(2, 9))]


def _mac(fleet: str, port: str) -> str:
    """Locally administered, and the same whenever the same port is made again."""
    digest = hashlib.sha256(f"{fleet}/{port}".encode()).hexdigest()
    return "52:54:" + ":".join(digest[at : at + 2] for at in range(0, 8, 2))


def _marks(name: str) -> Tuple[str, str, str]:
    """(label, instance, fleet); empty ones for a volume that is not ours."""
    parts = name.split("+")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _serial(name: str) -> str:
    """The ID of a volume, and the serial number that its guest sees: 20 characters are what virtio shows."""
    return hashlib.sha256(name.encode()).hexdigest()[:20]


def _gib(size: int) -> int:
    return -(-size // GIB)


def _digest(image: Mapping[str, Any]) -> str:
    kind, _colon, digest = str(image["checksum"]).partition(":")
    if kind != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise Failure(f"{image['checksum']!r} is no checksum", image["name"], "Write it as sha256:…, with 64 hexadecimal digits.")
    return digest.lower()


def _base_name(image: Mapping[str, Any]) -> str:
    """Another content is another name, as overlays need theirs for ever."""
    return f"{image['name']}.{_digest(image)[:16]}"


def _is_qcow2(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"QFI\xfb"


def _virtual_size(path: str) -> int:
    """In GB, rounded up."""
    with open(path, "rb") as file:
        head = file.read(32)
    return _gib(int.from_bytes(head[24:32], "big") if head[:4] == b"QFI\xfb" else os.path.getsize(path))


def _check(image: Mapping[str, Any]) -> None:
    """The file is there, and is what its checksum says."""
    digest = hashlib.sha256()
    try:
        with open(image["path"], "rb") as file:
            for piece in iter(lambda: file.read(1024 * 1024), b""):
                digest.update(piece)
    except OSError as error:
        raise Failure(f"the image {image['name']} cannot be read: {error.strerror}", image["path"]) from None
    if digest.hexdigest() != _digest(image):
        raise Failure(f"the image {image['name']} has the SHA-256 {digest.hexdigest()}, {_digest(image)} is expected", image["path"])


__all__ = ["Libvirt"]
