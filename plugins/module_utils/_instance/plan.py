# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about a fleet: what is declared against what there is. No request is made here."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._errors import Failure
from . import provider
from .provider import Instance, Port, Volume, Wanted, WantedPort, WantedVolume, World

# What may be done about a difference, by field; the first is the default. What can be changed while the guest runs is changed, all else reported.
ON_DRIFT: Mapping[str, Tuple[str, ...]] = {
    "image": ("report", "rebuild", "replace", "refuse"),
    "flavor": ("report", "resize", "replace", "refuse"),
    "user_data": ("report", "rebuild", "replace", "refuse"),
    "key": ("report", "rebuild", "replace", "refuse"),
    "zone": ("report", "replace", "refuse"),
    "server_group": ("report", "replace", "refuse"),
    "networks": ("update", "report", "replace", "refuse"),
    "security_groups": ("update", "report", "refuse"),
    "floating_address": ("update", "report", "refuse"),
    "metadata": ("update", "report", "refuse"),
    "volumes": ("update", "report", "refuse"),
    "extra_volumes": ("report", "update", "refuse"),
    "status": ("report", "replace", "refuse"),
}
# From the mildest to the strongest: an instance's operation is the strongest of its differences.
STRENGTH = ("unchanged", "report", "start", "stop", "update", "resize", "rebuild", "replace", "refuse")
WRITES = ("create", "update", "resize", "rebuild", "replace", "delete", "start", "stop")
# These interrupt what runs on the instance, so they are done one at a time, behind the gate.
DISRUPTIVE = ("resize", "rebuild", "replace")


@dataclass(frozen=True)
class Options:
    on_drift: Mapping[str, str] = field(default_factory=dict)
    allow_data_loss: bool = False
    prune: bool = False
    prune_limit: str = "50%"
    delete_volumes: bool = False

    def action(self, name: str) -> str:
        return self.on_drift.get(name) or ON_DRIFT[name][0]


@dataclass(frozen=True)
class Difference:
    field: str
    before: Any
    after: Any
    action: str
    note: str = ""

    def __str__(self) -> str:
        text = f"{self.field}: {_shown(self.before)} -> {_shown(self.after)}"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True)
class Change:
    """operation: create, update, resize, rebuild, replace, delete, start, stop, unchanged, report, undeclared, skipped, refuse."""

    operation: str
    name: str
    reasons: Tuple[str, ...] = ()
    differences: Tuple[Difference, ...] = ()
    destroys: Tuple[str, ...] = ()
    keeps: Tuple[str, ...] = ()
    wanted: Optional[Wanted] = None
    instance: Optional[Instance] = None
    surplus: bool = False  # another one has its place, its ports and its volumes

    @property
    def writes(self) -> bool:
        return self.operation in WRITES

    @property
    def begins_anew(self) -> bool:
        """The one of this name is no more than in the way: its creation failed, or it is being deleted."""
        return self.operation == "create" and self.instance is not None and (self.instance.status == "ERROR" or self.instance.leaving)

    @property
    def declared(self) -> Wanted:
        if self.wanted is None:
            raise Failure(f"{self.name} is not declared")
        return self.wanted

    @property
    def existing(self) -> Instance:
        if self.instance is None:
            raise Failure(f"{self.name} does not exist")
        return self.instance

    def has(self, name: str) -> bool:
        """This field differs, and something is done about it."""
        return any(one.field == name and one.action not in ("report", "refuse") for one in self.differences)

    def result(self) -> Dict[str, Any]:
        return {
            "operation": self.operation,
            "name": self.name,
            "id": self.instance.id if self.instance else None,
            "reasons": list(self.reasons),
            "differences": [
                {"field": one.field, "before": one.before, "after": one.after, "action": one.action, "note": one.note} for one in self.differences
            ],
            "destroys": list(self.destroys),
            "keeps": list(self.keeps),
        }


@dataclass(frozen=True)
class Plan:
    changes: Tuple[Change, ...]
    world: World = World()
    leftovers: Tuple[str, ...] = ()  # ports, volumes and addresses of the fleet that no instance has
    warnings: Tuple[str, ...] = ()
    fleet: str = ""

    @property
    def writes(self) -> bool:
        return any(change.writes for change in self.changes)

    def of(self, *operations: str) -> List[Change]:
        return [change for change in self.changes if change.operation in operations]

    def counts(self) -> Dict[str, int]:
        counts: Dict[str, int] = {}
        for change in self.changes:
            counts[change.operation] = counts.get(change.operation, 0) + 1
        return counts

    def table(self) -> str:
        """For a person: one line an instance, what needs attention first."""
        order = ("refuse", "delete", "replace", "rebuild", "resize", "create", "update", "start", "stop", "undeclared", "skipped", "report", "unchanged")
        rows = [("OPERATION", "INSTANCE", "REASON")]
        for change in sorted(self.changes, key=lambda one: (order.index(one.operation), one.name)):
            words = {"update": "update in place", "report": "drift, reported"}.get(change.operation, change.operation)
            text = "; ".join([*change.reasons, *(["destroys " + ", ".join(change.destroys)] if change.destroys else [])])
            rows.append((words, change.name, text))
        first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
        return "\n".join(f"{row[0]:<{first}}  {row[1]:<{second}}  {row[2]}".rstrip() for row in rows)


def make_plan(fleet: str, wanted: Sequence[Wanted], world: World, options: Options) -> Plan:
    by_name: Dict[str, List[Instance]] = {}
    for instance in world.instances:
        by_name.setdefault(instance.name, []).append(instance)
    strangers: Dict[str, List[Instance]] = {}
    for stranger in world.strangers:
        strangers.setdefault(stranger.name, []).append(stranger)
    surplus = _replaced(world)
    declared, present = {one.name for one in wanted}, {one.name for one in wanted if one.state != "absent"}
    changes = [_end_of(instance, surplus[instance.id]) for instance in world.instances
               if instance.id in surplus and (instance.name in declared or options.prune)]
    warnings: List[str] = []
    for one in wanted:
        # A run that was killed may have made the next one before the last was gone.
        these = [instance for instance in by_name.get(one.name, []) if instance.id not in surplus]
        found = [instance for instance in these if not instance.leaving] or these[:1]
        if len(found) > 1:
            changes.append(
                Change(
                    "refuse",
                    one.name,
                    (f"the fleet {fleet} has {len(found)} instances of this name: {', '.join(i.id for i in found)}. " "Delete the surplus ones",),
                    wanted=one,
                )
            )
        elif found:
            changes.append(_for_existing(one, found[0], world, options, warnings))
        elif one.name in strangers:
            changes.append(_for_stranger(fleet, one, strangers[one.name]))
        else:
            changes.append(_for_missing(one, world))
    changes += [_for_undeclared(instance, options) for instance in sorted(world.instances, key=lambda each: (each.name, each.id))
                if instance.name not in declared and not instance.put_aside and instance.id not in surplus]
    return Plan(tuple(changes), world, tuple(_leftovers(world, present)), tuple(warnings), fleet)


def _replaced(world: World) -> Dict[str, Instance]:
    """Those whose deletion failed when another one had their place already, which says so: ID -> that one."""
    by_id = {instance.id: instance for instance in world.instances if not instance.leaving and not instance.protected}
    found: Dict[str, Instance] = {}
    for instance in world.instances:
        old = by_id.get(instance.metadata.get(provider.REPLACES, ""))
        if old is not None and old.id != instance.id and old.name == instance.name and not instance.leaving:
            found[old.id] = instance
    return found


def _end_of(instance: Instance, successor: Instance) -> Change:
    reason = f"replaced by {successor.id}, and its deletion did not end ({instance.status})"
    root = () if instance.boots_from_volume else ("root disk",)
    return Change("delete", instance.name, (reason,), destroys=root, instance=instance, surplus=True)


def _for_missing(one: Wanted, world: World) -> Change:
    if one.state == "absent":
        return Change("unchanged", one.name, wanted=one)
    if one.image is None:
        return Change("refuse", one.name, (f"there is no image {one.image_name}",), wanted=one)
    kept = [volume for volume in world.volumes if volume.instance == one.name]
    old = [volume for volume in kept if one.boot_volume and not one.boot_volume.volume and volume.label == one.boot_volume.label]
    if old and old[0].image_id and old[0].image_id != one.image.id:
        said = f"its boot volume {old[0].id} is left of an earlier instance, made of the image {old[0].image_id}, not of {one.image.name} ({one.image.id})"
        return Change("refuse", one.name, (f"{said}. Declare that image to use what is on it, or delete the volume",), wanted=one)
    sizes = {want.label: want.size for want in (*one.volumes, *([one.boot_volume] if one.boot_volume else [])) if not want.volume}
    larger = [f"{volume.label} ({volume.id}) has {volume.size} GB" for volume in kept if volume.size > sizes.get(volume.label, volume.size)]
    if larger:
        return Change("refuse", one.name, (f"a volume cannot become smaller, and of an earlier instance {', '.join(larger)}",), wanted=one)
    keeps = tuple(f"volume {volume.label} ({volume.id})" for volume in kept if volume.label)
    return Change("create", one.name, ("declared, and does not exist",), keeps=keeps, wanted=one)


def _for_stranger(fleet: str, one: Wanted, strangers: Sequence[Instance]) -> Change:
    if len(strangers) > 1:
        whose = ", ".join(f"{stranger.id} ({f'of the fleet {stranger.fleet}' if stranger.fleet else 'of no fleet'})" for stranger in strangers)
        return Change("refuse", one.name, (f"the name is taken by {len(strangers)} instances that do not belong to {fleet}: {whose}",), wanted=one)
    stranger = strangers[0]
    whose = f"the fleet {stranger.fleet}" if stranger.fleet else "no fleet"
    return Change("refuse", one.name, (f"the name is taken by the instance {stranger.id}, which belongs to {whose}, not to {fleet}",), wanted=one)


def _for_undeclared(instance: Instance, options: Options) -> Change:
    if not options.prune:
        return Change("undeclared", instance.name, ("belongs to this fleet and is no longer declared; prune deletes it",), instance=instance)
    if instance.protected:
        return Change("skipped", instance.name, (f"no longer declared, but {_protection(instance)}",), instance=instance)
    if instance.snapshots and not options.allow_data_loss:
        return Change("skipped", instance.name, (f"no longer declared, but {_snapshots(instance)}",), instance=instance)
    return _deletion(instance, "no longer declared", options, None)


def _deletion(instance: Instance, reason: str, options: Options, one: Optional[Wanted]) -> Change:
    ours = [volume for volume in instance.volumes if instance.owns(volume)] if options.delete_volumes else []
    gone = tuple(f"volume {volume.label}" for volume in ours) + tuple(f"floating address {one.address}" for one in instance.floating if instance.owns(one))
    keeps = tuple(f"volume {volume.label or volume.name} ({volume.id})" for volume in instance.volumes if volume not in ours)
    root = () if instance.boots_from_volume or not instance.launched else ("root disk",)
    gone += ("snapshots",) if instance.snapshots else ()
    return Change("delete", instance.name, (reason,), destroys=root + gone, keeps=keeps, wanted=one, instance=instance)


def _protection(instance: Instance) -> str:
    return "the provider has locked it" if instance.locked else "it is protected (metadata %s)" % provider.PROTECTED


def _snapshots(instance: Instance) -> str:
    return f"it has {instance.snapshots} snapshots, which hold data and are deleted only with allow_data_loss"


def _for_existing(one: Wanted, instance: Instance, world: World, options: Options, warnings: List[str]) -> Change:
    if instance.put_aside:
        return _for_put_aside(one, instance, world, options)
    if one.state == "absent":
        if instance.protected:
            return Change("refuse", one.name, (f"is to be absent, but {_protection(instance)}",), wanted=one, instance=instance)
        if instance.snapshots and not options.allow_data_loss:
            return Change("refuse", one.name, (f"is to be absent, but {_snapshots(instance)}",), wanted=one, instance=instance)
        return _deletion(instance, "declared absent", options, one)
    if instance.leaving:
        anew = _for_missing(one, world)
        return anew if anew.operation == "refuse" else replace(anew, reasons=("the one of this name is being deleted",), instance=instance)
    if not instance.launched:
        if instance.status == "ERROR" and instance.locked:
            return Change("refuse", one.name, (f"its creation failed, and {_protection(instance)}, so it is not made anew",), wanted=one, instance=instance)
        if instance.status == "ERROR":
            return Change(
                "create",
                one.name,
                (f"its creation failed and is done again: {instance.fault or 'the cloud does not say why'}",),
                wanted=one,
                instance=instance,
            )
        return Change("create", one.name, (f"its creation is under way ({instance.status})",), wanted=one, instance=instance)
    if instance.status in ("VERIFY_RESIZE", "RESIZE"):
        # What this module began, and a killed run did not end. Anybody else's is theirs to confirm or to revert.
        ours = instance.status == "RESIZE" or (instance.flavor.vcpus, instance.flavor.ram) == (one.flavor.vcpus, one.flavor.ram)
        ours = ours and options.action("flavor") == "resize" and not instance.locked
        return Change("resize" if ours else "report", one.name, (f"a resize is to be confirmed ({instance.status})",), wanted=one, instance=instance)
    differences = [
        *_of_image(one, instance, options, warnings),
        *_of_flavor(one, instance, options),
        *_of_values(one, instance, options),
        *_of_ports(one, instance, options),
        *_of_volumes(one, instance, world, options),
        *_of_floating(one, instance, options),
        *_of_metadata(one, instance, options),
        *_of_power(one, instance),
    ]
    # A volume cannot be rebuilt without losing what it holds, so such an instance gets a new one and the old one is kept.
    if instance.boots_from_volume:
        differences = [replace(diff, action="replace") if diff.action == "rebuild" else diff for diff in differences]
    return _judged(one, instance, differences, options)


def _for_put_aside(one: Wanted, instance: Instance, world: World, options: Options) -> Change:
    """The cloud keeps what is deleted for a while; what it holds is not there for another one meanwhile."""
    held = "it was deleted, and the cloud keeps it with its ports and volumes until it reclaims it"
    if one.state == "absent":
        return Change("unchanged", one.name, (held,), wanted=one, instance=instance)
    anew = _for_missing(one, world)
    if anew.operation == "refuse":
        return anew
    if not instance.boots_from_volume and not options.allow_data_loss:
        advice = f"Restore it (openstack server restore {instance.id}), or have it deleted for good, with its root disk, by allow_data_loss"
        return Change("refuse", one.name, (f"{held}. {advice}",), wanted=one, instance=instance)
    lost = () if instance.boots_from_volume else ("root disk",)
    return replace(anew, reasons=(f"{held}; it is deleted for good",), destroys=lost, instance=instance)


def _judged(one: Wanted, instance: Instance, differences: List[Difference], options: Options) -> Change:
    actions = [diff.action for diff in differences]
    operation = max(["unchanged", *actions], key=STRENGTH.index)
    reasons = tuple(str(diff) for diff in differences)
    if one.state == "rebuilt" and _was_given(one.boot_volume):
        return Change("refuse", one.name, ("it boots from a volume that was given, so there is nothing to rebuild it from",), tuple(differences),
                      wanted=one, instance=instance)
    if one.state == "rebuilt" and operation != "refuse":
        operation, reasons = "replace" if instance.boots_from_volume else max(operation, "rebuild", key=STRENGTH.index), ("asked for: rebuilt", *reasons)
        if one.image is None:
            return Change(
                "refuse", one.name, (f"there is no image {one.image_name} to rebuild it from",), tuple(differences), wanted=one, instance=instance
            )
    destroys: Tuple[str, ...] = ()
    keeps: Tuple[str, ...] = ()
    if operation in ("rebuild", "replace"):
        if not instance.boots_from_volume:
            destroys = ("root disk",)
        if instance.snapshots:
            destroys += ("snapshots",)
        ports = [port for _want, port in pair_ports(one, instance)[0]] if operation == "replace" else instance.ports
        keeps = tuple(f"volume {volume.label or volume.id}" for volume in instance.volumes) + tuple(
            f"address {address}" for port in ports for address in port.addresses
        )
    made = Change(operation, one.name, reasons, tuple(differences), destroys, keeps, one, instance)
    if made.writes and instance.locked:
        return replace(made, operation="refuse", reasons=(f"the provider has locked it, so it is not changed: {'; '.join(reasons)}",))
    if operation == "replace" and instance.protected:
        return replace(made, operation="refuse", reasons=(f"{_protection(instance)}, so it is not replaced: {'; '.join(reasons)}",))
    if operation == "replace" and one.image is None and not instance.boots_from_volume:
        return replace(made, operation="refuse", reasons=(f"there is no image {one.image_name} to replace it with: {'; '.join(reasons)}",))
    if destroys and not options.allow_data_loss:
        lost = " and the ".join(destroys)
        return replace(made, operation="refuse", reasons=(f"to {operation} it destroys the {lost}, which allow_data_loss allows: {'; '.join(reasons)}",))
    return made


def _was_given(volume: Optional[WantedVolume]) -> bool:
    return volume is not None and volume.volume is not None


def _of_image(one: Wanted, instance: Instance, options: Options, warnings: List[str]) -> Iterable[Difference]:
    recorded = instance.metadata.get(provider.IMAGE) or instance.image_id or next((volume.image_id for volume in instance.volumes if volume.image_id), "")
    name = instance.metadata.get(provider.IMAGE_NAME, "")
    if one.image is None:
        if one.image_name in (recorded, name):
            warnings.append(f"{one.name}: the image {one.image_name} that it was made from is no longer in the cloud")
        else:
            yield Difference("image", name or recorded, one.image_name, "refuse", "there is no such image")
    elif recorded and one.image.id != recorded:
        note = "the cloud has a new image of this name" if name == one.image.name else ""
        action = options.action("image")
        if action in ("rebuild", "replace") and _was_given(one.boot_volume):
            action, note = "refuse", "it boots from a volume that was given, and would boot the same system again"
        elif action == "replace" and instance.boots_from_volume:
            note = "; ".join(filter(None, [note, "the old boot volume is kept"]))
        yield Difference("image", f"{name} {recorded}".strip(), f"{one.image.name} {one.image.id}", action, note)


def _of_flavor(one: Wanted, instance: Instance, options: Options) -> Iterable[Difference]:
    before, after = instance.flavor, one.flavor
    if (before.vcpus, before.ram, before.disk) == (after.vcpus, after.ram, after.disk) and (not before.name or before.name == after.name):
        return
    action = options.action("flavor")
    note = ""
    if action == "resize" and after.disk < before.disk and not instance.boots_from_volume:
        action, note = "refuse", f"the root disk would become smaller: {before.disk} GB to {after.disk} GB"
    elif action == "resize":
        note = "restarts it"
    yield Difference("flavor", before.name, after.name, action, note)


def _of_values(one: Wanted, instance: Instance, options: Options) -> Iterable[Difference]:
    if instance.status == "ERROR":
        yield Difference("status", "ERROR", "ACTIVE", options.action("status"), instance.fault)
    if one.key != instance.key:
        action = options.action("key")
        yield Difference(
            "key",
            instance.key or None,
            one.key or None,
            action,
            "" if action in ("rebuild", "replace") else f"{instance.key or 'its present keys'} may still open it",
        )
    if one.zone and one.zone != instance.zone:
        yield Difference("zone", instance.zone, one.zone, options.action("zone"))
    if one.server_group and one.server_group.id not in instance.server_groups:
        yield Difference("server_group", ", ".join(instance.server_groups) or None, one.server_group.name, options.action("server_group"))
    if one.user_data_mark != instance.metadata.get(provider.USER_DATA, ""):
        recorded = {value for key, value in instance.metadata.items() if key.startswith(provider.SSH_KEY)}
        gone = sorted(recorded - set(one.ssh_keys))
        action = options.action("user_data")
        notes = [] if action in ("rebuild", "replace") else ["takes effect only with rebuild or replace"]
        if gone and notes:
            notes.append(f"{', '.join(gone)} may still open it")
        yield Difference("user_data", "as it was made", "as declared", action, "; ".join(notes))


def pair_ports(one: Wanted, instance: Instance) -> Tuple[List[Tuple[WantedPort, Port]], List[WantedPort], List[Port]]:
    """(which port is which, what is missing, what is ours and surplus)"""
    left = list(instance.ports)
    pairs, missing = [], []
    # Those with the most to say choose first.
    for want in sorted(one.ports, key=lambda port: (port.port is None, not port.address, not port.subnet_id)):
        found = next((port for port in left if fits(want, port)), None)
        if found:
            left.remove(found)
            pairs.append((want, found))
        else:
            missing.append(want)
    return pairs, missing, [port for port in left if instance.owns(port)]


def fits(want: WantedPort, port: Port) -> bool:
    if want.port:
        return port.id == want.port.id
    return port.network.id == want.network.id and (not want.address or want.address in port.addresses)


def _of_ports(one: Wanted, instance: Instance, options: Options) -> Iterable[Difference]:
    pairs, missing, surplus = pair_ports(one, instance)
    if missing or surplus:
        action, note = options.action("networks"), ""
        if action == "update" and any(want.first_boot for want in missing):
            action, note = "report", "a guest learns a fixed address in this network only at its first boot, so it takes effect with replace"
        yield Difference(
            "networks",
            [_port(port) for port in instance.ports],
            [_port(port) for _want, port in pairs] + [_wanted_port(want) for want in missing],
            action,
            note,
        )
    for want, port in pairs:
        if want.manage_groups and set(want.groups) != set(port.groups):
            yield Difference("security_groups", sorted(port.groups), sorted(want.groups), options.action("security_groups"), f"port {port.id}")


def names_of_ports(one: Wanted, taken: Sequence[str] = ()) -> List[Tuple[str, WantedPort]]:
    """The name of each port of ours says whose it is, so that a later run takes up what an earlier one left. taken: names that it has in use."""
    used = set(taken)
    named = []
    for want in one.ports:
        first = f"{one.name}|{want.network.name}"
        name = next(name for name in itertools.chain([first], (f"{first}|{number}" for number in itertools.count(2))) if name not in used)
        used.add(name)
        named.append((name, want))
    return named


def _port(port: Port) -> str:
    return f"{port.network.name} {' '.join(port.addresses)}".strip()


def _wanted_port(want: WantedPort) -> str:
    return _port(want.port) if want.port else f"{want.network.name} {want.address}".strip()


def volume_for(want: WantedVolume, name: str, fleet: str, volumes: Iterable[Volume]) -> Optional[Volume]:
    """The volume that is meant, made earlier or given."""
    if want.volume:
        return next((volume for volume in volumes if volume.id == want.volume.id), want.volume)
    return next((volume for volume in volumes if (volume.fleet, volume.instance, volume.label) == (fleet, name, want.label)), None)


def _of_volumes(one: Wanted, instance: Instance, world: World, options: Options) -> Iterable[Difference]:
    action = options.action("volumes")
    known = [*instance.volumes, *world.volumes]
    declared = [*one.volumes, *([one.boot_volume] if one.boot_volume else [])]
    for want in declared:
        volume = volume_for(want, one.name, instance.fleet, known)
        boot = want is one.boot_volume
        what = f"volumes.{want.label}"
        if volume is None or volume.server_id != instance.id:
            if boot:
                yield Difference("volumes", None, what, "report", "a boot volume takes effect only when the instance is replaced")
            elif volume is not None and volume.server_id:
                yield Difference("volumes", f"{what} on {volume.server_id}", f"{what} on {instance.id}", "refuse", "it is attached to another instance")
            else:
                yield Difference("volumes", None, what, action, "attached" if volume else "made and attached")
            continue
        if want.volume:
            continue
        if want.size > volume.size:
            yield Difference("volumes", f"{what} {volume.size} GB", f"{what} {want.size} GB", action, "grows in place")
        elif want.size < volume.size:
            yield Difference("volumes", f"{what} {volume.size} GB", f"{what} {want.size} GB", "refuse", "a volume cannot become smaller")
        if want.type and volume.type and want.type != volume.type:
            yield Difference("volumes", f"{what} of type {volume.type}", f"{what} of type {want.type}", "report", "the type of a volume is not changed")
    for volume in extra_volumes(one, instance, known):
        yield Difference("extra_volumes", f"{volume.label} {volume.id}", None, options.action("extra_volumes"), "it is kept when detached")


def extra_volumes(one: Wanted, instance: Instance, known: Sequence[Volume]) -> List[Volume]:
    """Those that were made for it and are no longer declared."""
    declared = [*one.volumes, *([one.boot_volume] if one.boot_volume else [])]
    meant = {volume.id for volume in (volume_for(want, one.name, instance.fleet, known) for want in declared) if volume is not None}
    return [volume for volume in instance.volumes
            if instance.owns(volume) and volume.id not in meant and not (volume.bootable and instance.boots_from_volume)]


def _of_floating(one: Wanted, instance: Instance, options: Options) -> Iterable[Difference]:
    action = options.action("floating_address")
    have = instance.floating
    if one.floating is None:
        for address in filter(instance.lent, have):
            yield Difference("floating_address", address.address, None, action, "the address is kept")
    elif one.floating.address:
        if one.floating.address not in [address.address for address in have]:
            yield Difference("floating_address", [address.address for address in have], one.floating.address, action)
    elif not have:
        yield Difference("floating_address", None, "a new address", action)


def metadata_of(fleet: str, one: Wanted, instance: Optional[Instance] = None) -> Dict[str, str]:
    """All that an instance made now carries. What a running one was made from stays as it was recorded."""
    marks = {provider.FLEET: fleet, provider.DECLARED: ",".join(sorted(one.metadata))[:255]}
    if one.protected:
        marks[provider.PROTECTED] = "true"
    if one.floating and one.floating.address:
        marks[provider.FLOATING] = one.floating.address
    if instance is None:
        if one.image:
            marks.update({provider.IMAGE: one.image.id, provider.IMAGE_NAME: one.image.name[:255]})
        if one.user_data_mark:
            marks[provider.USER_DATA] = one.user_data_mark
        marks.update({f"{provider.SSH_KEY}{number}": key for number, key in enumerate(one.ssh_keys)})
    return {**one.metadata, **marks}


def metadata_steps(fleet: str, one: Wanted, instance: Instance) -> Tuple[Dict[str, str], List[str]]:
    """(what is set, what is removed); what others wrote stays."""
    want = metadata_of(fleet, one, instance)
    have = instance.metadata
    declared = [key for key in have.get(provider.DECLARED, "").split(",") if key]
    gone = [key for key in declared if key not in one.metadata and key in have]
    if provider.PROTECTED in have and not one.protected:
        gone.append(provider.PROTECTED)
    if provider.FLOATING in have and one.floating and not one.floating.address:
        gone.append(provider.FLOATING)
    return {key: value for key, value in want.items() if have.get(key) != value}, sorted(set(gone))


def _of_metadata(one: Wanted, instance: Instance, options: Options) -> Iterable[Difference]:
    add, remove = metadata_steps(instance.fleet, one, instance)
    if add or remove:
        have = instance.metadata
        keys = sorted({*add, *remove})
        yield Difference(
            "metadata", {key: have[key] for key in keys if key in have}, {key: add[key] for key in keys if key in add}, options.action("metadata")
        )


def _of_power(one: Wanted, instance: Instance) -> Iterable[Difference]:
    if one.state == "started" and instance.status == "SHUTOFF":
        yield Difference("power", "SHUTOFF", "ACTIVE", "start")
    elif one.state == "stopped" and instance.status == "ACTIVE":
        yield Difference("power", "ACTIVE", "SHUTOFF", "stop")
    elif one.state in ("started", "stopped") and instance.status not in ("ACTIVE", "SHUTOFF", "ERROR"):
        yield Difference("power", instance.status, "ACTIVE" if one.state == "started" else "SHUTOFF", "report", "only ACTIVE and SHUTOFF are changed")


def _leftovers(world: World, declared: Iterable[str]) -> Iterable[str]:
    """What a killed run, or a deleted instance, left of this fleet. A declared instance takes its own up again."""
    names = set(declared)
    for port in world.ports:
        if not port.server_id and port.name.split("|")[0] not in names:
            yield f"port {port.name} ({port.id})"
    for volume in world.volumes:
        if not volume.server_id and volume.instance not in names:
            yield f"volume {volume.name} ({volume.id}), {volume.size} GB"
    for address in world.floating:
        if not address.port_id and address.instance not in names:
            yield f"floating address {address.address} ({address.id})"


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={part}" for key, part in value.items()) or "none"
    return str(value)
