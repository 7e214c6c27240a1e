# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of the module to what an instance must be, every name looked up, every mistake found before the first request that writes."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._errors import Failure
from . import lookup, provider, user_data
from .lookup import Catalog
from .provider import Flavor, Floating, Provider, Wanted, WantedPort, WantedVolume

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+\[\]_-]{0,62}")
FLEET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
METADATA_KEY = re.compile(r"[A-Za-z0-9 _.:-]{1,255}")
# Options of one instance, which the top level gives defaults for.
INHERITED = (
    "state",
    "image",
    "flavor",
    "key",
    "public_key",
    "networks",
    "security_groups",
    "server_group",
    "zone",
    "boot_volume",
    "volumes",
    "floating_address",
    "metadata",
    "user_data",
    "cloud_init",
    "protected",
)
DEFAULTS: Mapping[str, Any] = {"state": "present", "networks": [], "volumes": [], "metadata": {}, "protected": False}


def entries(params: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Each instance's options, those of the top level filled in."""
    top = {option: params[option] for option in INHERITED if params.get(option) is not None}
    listed = params.get("instances")
    if (listed is None) == (params.get("name") is None):
        raise Failure("give either name or instances")
    if listed is None and params.get("prune"):
        raise Failure("prune needs instances", hint="With name, every other instance of the fleet would be no longer declared.")
    if not FLEET.fullmatch(params["fleet"]):
        raise Failure(f"{params['fleet']!r} is no name for a fleet", hint="Letters, digits, dots, dashes and underscores; at most 40.")
    made = []
    for given in ([{"name": params["name"]}] if listed is None else listed):
        own = {option: value for option, value in given.items() if value is not None}
        both = {**DEFAULTS, **top, **own}
        # Metadata of the fleet and of the instance add up.
        both["metadata"] = {**(top.get("metadata") or {}), **(own.get("metadata") or {})}
        made.append(both)
    names = [one["name"] for one in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Failure(f"declared twice: {', '.join(twice)}")
    for one in made:
        _check_names(one)
    return made


def _check_names(one: Mapping[str, Any]) -> None:
    name = one["name"]
    if not NAME.fullmatch(name):
        raise Failure(
            f"{name!r} is no name for an instance",
            hint="Letters, digits, dots, plus signs, brackets, dashes and underscores; at most 63; it begins with a letter or digit.",
        )
    if name in ("localhost", "all", "ungrouped"):
        raise Failure(f"{name} is no name for an instance", hint="In an inventory it means something else.")
    for key, value in one["metadata"].items():
        if not METADATA_KEY.fullmatch(str(key)):
            raise Failure(f"the metadata key {str(key)[:60]!r} is not possible", name, "Letters, digits, spaces and -_:. only, at most 255.")
        if str(key).lower().startswith(provider.PREFIX):  # databases of clouds compare without case
            raise Failure(f"the metadata key {key} is reserved", name, f"Keys that begin with {provider.PREFIX} are marks of this collection.")
        if value is None:
            raise Failure(f"the metadata {key} has no value", name, "Leave it out, or write \"\".")
        if len(str(value)) > 255:
            raise Failure(f"the value of the metadata {key} has {len(str(value))} characters, 255 is the limit", name)
        _check_text(name, f"the metadata {key}", str(value))
    # They are recorded in one value, so that a later run knows which it set.
    together = len(",".join(map(str, one["metadata"])))
    if together > 255:
        raise Failure(f"the names of its metadata have {together} characters together, 255 is the limit", name)
    _check_text(name, "user_data", one.get("user_data") or "")
    if one["state"] == "absent":
        return
    for option in ("image", "flavor"):
        if not one.get(option):
            raise Failure(f"has no {option}", name)
    labels = [volume.get("label") or volume.get("volume") for volume in one["volumes"]]
    for volume in (*one["volumes"], *([one["boot_volume"]] if one.get("boot_volume") else [])):
        if bool(volume.get("volume")) == bool(volume.get("size")):
            raise Failure("a volume has either size, or volume for one that exists", name)
        if (volume.get("size") or 1) < 1:
            raise Failure(f"a volume has the size {volume['size']}", name, "It is at least 1 GB.")
        if not volume.get("volume") and volume is not one.get("boot_volume") and not volume.get("label"):
            raise Failure("a volume with a size needs a label", name, "The label tells a later run which of them it is.")
        if volume.get("size") and volume.get("label") and not LABEL.fullmatch(volume["label"]):
            raise Failure(f"{volume['label']!r} is no label for a volume", name,
                          "Letters, digits, dots, dashes and underscores; it begins with a letter or digit.")
    if one.get("boot_volume"):
        labels.append("root")
    if len(set(labels)) != len(labels):
        raise Failure(f"two volumes have one label: {', '.join(sorted(str(label) for label in labels))}", name)


def _check_text(name: str, what: str, text: str) -> None:
    """Ansible passes on bytes that are no UTF-8 as surrogates, which no API takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Failure(f"{what} is not text: character {error.start + 1} is no Unicode character", name) from None


def resolve(params: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], cloud: Provider, catalog: Catalog) -> List[Wanted]:
    """What each entry means."""
    made, problems = [], []
    for one in listed:
        try:
            made.append(_resolve(params, one, cloud, catalog))
        except Failure as failure:
            # All mistakes of a list at once, not one a run.
            problems.append(str(failure) if str(failure).startswith(one["name"]) else f"{one['name']}: {failure}")
    if problems:
        raise Failure("; ".join(problems) if len(problems) == 1 else f"{len(problems)} instances cannot be made: " + "; ".join(problems))
    _nothing_twice(made)
    return made


def _resolve(params: Mapping[str, Any], one: Mapping[str, Any], cloud: Provider, catalog: Catalog) -> Wanted:
    name = one["name"]
    if one["state"] == "absent":
        return Wanted(name, "absent")
    image = lookup.maybe("image", one["image"], catalog.images)
    flavor = _flavor(one["flavor"], cloud, catalog)
    if image and not one.get("boot_volume") and flavor.disk and image.min_disk > flavor.disk:
        raise Failure(f"the image {image.name} needs a disk of {image.min_disk} GB, {flavor.name} has {flavor.disk} GB")
    if image and image.min_ram > flavor.ram:
        raise Failure(f"the image {image.name} needs {image.min_ram} MB of RAM, {flavor.name} has {flavor.ram} MB")
    if not flavor.disk and not one.get("boot_volume"):
        raise Failure(f"the flavor {flavor.name} has no disk", hint="Give boot_volume.")
    zone = one.get("zone") or ""
    if zone and zone not in catalog.zones:
        raise lookup.unknown("availability zone", zone, catalog.zones)
    text = user_data.compose(name, one.get("user_data"), one.get("cloud_init"))
    groups = one.get("security_groups")
    group_ids = tuple(lookup.one("security group", group, catalog.security_groups).id for group in groups) if groups is not None else None
    volumes = tuple(_volume(volume, cloud, catalog) for volume in one["volumes"])
    boot = _volume({"label": "root", **one["boot_volume"]}, cloud, catalog) if one.get("boot_volume") else None
    server_group = lookup.one("server group", one["server_group"], catalog.server_groups) if one.get("server_group") else None
    return Wanted(
        name,
        one["state"],
        image,
        one["image"],
        flavor,
        _key(one, catalog),
        zone,
        _volume_zone(zone, catalog) if any(not want.volume and not want.zone for want in (*volumes, *filter(None, [boot]))) else "",
        server_group,
        tuple(_ports(one["networks"], group_ids, cloud, catalog)),
        boot,
        volumes,
        _floating(one.get("floating_address"), cloud, catalog),
        {str(key): str(value) for key, value in one["metadata"].items()},
        text,
        user_data.mark(text, params.get("fingerprint_key") or params["fleet"]),
        user_data.ssh_keys(text) if text else (),
        bool(one["protected"]),
    )


def _flavor(wanted: Any, cloud: Provider, catalog: Catalog) -> Flavor:
    sizes = re.fullmatch(r"\s*(\d+)\s*vcpus?\s*[,/]\s*(\d+)\s*MB(?:\s*[,/]\s*(\d+)\s*GB)?\s*", str(wanted), re.IGNORECASE)
    if not sizes:
        return lookup.one("flavor", wanted, catalog.flavors)
    vcpus, ram, disk = int(sizes[1]), int(sizes[2]), int(sizes[3] or 0)
    if not vcpus or not ram:
        raise Failure(f"a flavor of {wanted} has nothing to run on")
    own = cloud.sized(vcpus, ram, disk)
    if own is not None:
        return own
    fitting = [one for one in catalog.flavors if (one.vcpus, one.ram) == (vcpus, ram) and (not disk or one.disk == disk)]
    if len(fitting) == 1:
        found: Flavor = fitting[0]
        return found
    if fitting:
        raise Failure(f"{len(fitting)} flavors have {wanted}: {', '.join(sorted(one.name for one in fitting))}", hint="Give one of these names.")
    near = sorted(catalog.flavors, key=lambda one: (abs(one.ram - ram) / 1024 + abs(one.vcpus - vcpus) * 4))[:3]
    raise Failure(
        f"no flavor has {wanted}", hint="The nearest: " + ", ".join(f"{one.name} ({one.vcpus} vCPU, {one.ram} MB, {one.disk} GB)" for one in near) + "."
    )


def _key(one: Mapping[str, Any], catalog: Catalog) -> str:
    if not one.get("key"):
        return ""
    key = lookup.one("key pair", one["key"], catalog.keys)
    if one.get("public_key"):
        ours, theirs = user_data.fingerprint(one["public_key"]), user_data.fingerprint(key.public_key)
        if not ours:
            raise Failure("public_key is no public key of OpenSSH")
        if ours != theirs:
            raise Failure(
                f"the key pair {key.name} has another public key in the cloud: {theirs or key.fingerprint}, yours is {ours}",
                hint="With it nobody could log in. Use another name for yours, or remove that one.",
            )
    return str(key.name)


def _ports(networks: Iterable[Mapping[str, Any]], groups: Optional[Tuple[str, ...]], cloud: Provider, catalog: Catalog) -> Iterable[WantedPort]:
    for given in networks:
        own = given.get("security_groups")
        its = tuple(lookup.one("security group", group, catalog.security_groups).id for group in own) if own is not None else groups
        if given.get("port"):
            if given.get("network") or given.get("address") or given.get("subnet"):
                raise Failure("a network has either port, or network with subnet and address", hint=f"The port {given['port']} has its network and address.")
            port = cloud.port(given["port"])
            yield WantedPort(port.network, "", "", port, its if own is not None and its is not None else (), own is not None)
            continue
        if not given.get("network"):
            raise Failure("a network has neither network nor port")
        network = lookup.one("network", given["network"], catalog.networks)
        subnet, address = "", _address(given.get("address") or "")
        if given.get("subnet") or address:
            subnet = _subnet(network, given.get("subnet"), address, catalog)
        yield WantedPort(network, address, subnet, None, its or (), its is not None, bool(address) and cloud.addresses_at_first_boot(network))


def _address(given: str) -> str:
    """As a provider writes it: an IPv6 address has many forms, and any other would differ on every run."""
    try:
        return str(ipaddress.ip_address(given)) if given else ""
    except ValueError:
        raise Failure(f"{given} is no IP address") from None


def _subnet(network: Any, wanted: Optional[str], address: str, catalog: Catalog) -> str:
    here = [(subnet, cidr) for subnet, its, cidr in catalog.subnets if its == network.id]
    if wanted:
        chosen = lookup.one("subnet", wanted, [subnet for subnet, _cidr in here])
        here = [(subnet, cidr) for subnet, cidr in here if subnet.id == chosen.id]
    if not address:
        return here[0][0].id if here else ""
    parsed = ipaddress.ip_address(address)
    fitting = [subnet for subnet, cidr in here if parsed in ipaddress.ip_network(cidr)]
    if not fitting:
        raise Failure(
            f"the address {address} is in no subnet of the network {network.name}", hint=f"It has: {', '.join(cidr for _subnet, cidr in here) or 'none'}."
        )
    return str(fitting[0].id)


def _volume(given: Mapping[str, Any], cloud: Provider, catalog: Catalog) -> WantedVolume:
    if given.get("volume"):
        found = cloud.volume(given["volume"])
        return WantedVolume(given.get("label") or found.name or found.id, found.size, found.type, found)
    kind = given.get("type") or ""
    if kind:
        lookup.one("volume type", kind, catalog.volume_types)
    zone = given.get("zone") or ""
    if zone and zone not in catalog.volume_zones:
        raise lookup.unknown("availability zone for volumes", zone, catalog.volume_zones)
    return WantedVolume(given["label"], int(given["size"]), kind, None, zone)


def _volume_zone(zone: str, catalog: Catalog) -> str:
    """A volume's zone follows the instance's, where the cloud has volumes in it."""
    if zone and zone not in catalog.volume_zones:
        if len(catalog.volume_zones) > 1:
            raise Failure(
                f"the cloud has no volumes in the availability zone {zone}",
                hint=f"It has them in: {', '.join(catalog.volume_zones)}. Set the volume's zone.",
            )
        return ""
    return zone


def _floating(given: Optional[Mapping[str, Any]], cloud: Provider, catalog: Catalog) -> Optional[Floating]:
    if not given:
        return None
    if bool(given.get("network")) == bool(given.get("address")):
        raise Failure("floating_address has either network, for a new one, or address, for one that this project has")
    if given.get("address"):
        found = cloud.floating_by_address(_address(given["address"]))
        if found is None:
            raise Failure(f"this project has no floating address {given['address']}")
        return found
    return Floating("", "", "", lookup.one("external network", given["network"], catalog.external_networks).id)


def _nothing_twice(made: Sequence[Wanted]) -> None:
    seen: Dict[Tuple[str, str, str], str] = {}
    for one in made:
        parts = [("address", port.network.id, port.address) for port in one.ports if port.address]
        parts += [("port", "", port.port.id) for port in one.ports if port.port]
        parts += [("volume", "", each.volume.id) for each in (*one.volumes, *([one.boot_volume] if one.boot_volume else [])) if each.volume]
        parts += [("floating address", "", one.floating.address)] if one.floating and one.floating.address else []
        for part in parts:
            if part in seen:
                raise Failure(f"{seen[part]} and {one.name} both want the {part[0]} {part[2]}" if seen[part] != one.name
                              else f"{one.name} wants the {part[0]} {part[2]} twice")
            seen[part] = one.name


def no_address_taken(made: Sequence[Wanted], cloud: Provider, holders: Mapping[str, str]) -> None:
    """A fixed address that another port holds would fail half-way. holders: of ports of this fleet, which instance has it; empty when it goes."""
    by_network: Dict[str, Dict[str, str]] = {}
    for one in made:
        for port in one.ports:
            if port.address:
                by_network.setdefault(port.network.id, {})[port.address] = one.name
    for network, addresses in by_network.items():
        for holder in cloud.taken(network, sorted(addresses)):
            name = next((addresses[address] for address in holder.addresses if address in addresses), "")
            if name and holder.name.split("|")[0] != name and holders.get(holder.id, holder.id) not in ("", name):
                raise Failure(
                    f"the address {' '.join(holder.addresses)} that {name} wants is in use by the port {holder.id}"
                    f"{f' of {holder.server_id}' if holder.server_id else ''}"
                )
