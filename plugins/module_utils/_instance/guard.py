# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a plan is not carried out: each rule refuses in its own words, before the first request that writes."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

from .plan import Change, Options, Plan, names_of_ports, volume_for
from .provider import Limit, Wanted
from .._errors import Failure, Refused


def guard(plan: Plan, options: Options) -> None:
    for rule in RULES:
        problem = rule(plan, options)
        if problem:
            raise Refused(problem, plan=[change.result() for change in plan.changes], table=plan.table())


def nothing_that_is_refused(plan: Plan, options: Options) -> Optional[str]:
    refused = plan.of("refuse")
    if refused:
        return "nothing was changed: " + "; ".join(f"{change.name}: {' '.join(change.reasons)}" for change in refused)
    return None


def no_more_than_the_limit(plan: Plan, options: Options) -> Optional[str]:
    pruned = [change for change in plan.of("delete") if change.wanted is None and not change.surplus]
    limit = _limit(options.prune_limit, len(plan.world.instances))
    if len(pruned) > limit:
        return (
            f"would delete {len(pruned)} of {len(plan.world.instances)} instances that are no longer declared, prune_limit is {options.prune_limit}: "
            f"{', '.join(change.name for change in pruned)}"
        )
    return None


def nothing_that_another_has(plan: Plan, options: Options) -> Optional[str]:
    """A volume, port or floating address that was given is taken from nobody. An instance would be gone before its successor was refused it."""
    going = {change.existing.id for change in plan.changes if change.operation == "delete" or change.begins_anew}
    going |= {instance.id for instance in plan.world.instances if instance.leaving and not instance.put_aside}
    ports = {port.id for port in plan.world.ports} | {port.id for instance in plan.world.instances for port in instance.ports}
    found = []
    for change in plan.of("create", "replace", "update", "resize", "rebuild"):
        one, own = change.declared, {"", change.instance.id if change.instance else "", *going}
        anew = change.operation in ("create", "replace")
        for want in one.ports if anew or change.has("networks") else ():
            if want.port and want.port.server_id not in own:
                found.append(f"{change.name}: the port {want.port.id} is in use by {want.port.server_id}")
        given = (*one.volumes, *([one.boot_volume] if one.boot_volume else [])) if anew or change.has("volumes") else ()
        for volume in (each.volume for each in given):
            if volume and volume.server_id not in own:
                found.append(f"{change.name}: the volume {volume.name or volume.id} ({volume.id}) is attached to {volume.server_id}")
            elif volume and volume.overlay and not volume.server_id:
                found.append(f"{change.name}: {volume.overlay} stands on the volume {volume.name}, so nobody else may write to it")
        if one.floating and one.floating.port_id and one.floating.port_id not in ports and (anew or change.has("floating_address")):
            found.append(f"{change.name}: the floating address {one.floating.address} is in use by the port {one.floating.port_id}, not of this fleet")
        if anew:
            for each in given:
                volume = volume_for(each, one.name, plan.fleet, plan.world.volumes)
                if volume and not each.volume and volume.server_id not in own:
                    found.append(f"{change.name}: its volume {volume.name} ({volume.id}) is attached to {volume.server_id}")
            found += [f"{change.name}: {volume.overlay}, such as of an external snapshot, holds what was last written to its volume {volume.name}. "
                      "Merge it first (virsh blockcommit --active --pivot)"
                      for volume in plan.world.volumes if volume.instance == change.name and volume.overlay]
        if change.operation == "replace":
            found += [f"{change.name}: its volume {volume.name or volume.id} ({volume.id}) is attached to another instance too, so it cannot be handed on"
                      for volume in change.existing.volumes if volume.shared]
    return f"nothing was changed: {'; '.join(found)}" if found else None


RULES = (nothing_that_is_refused, no_more_than_the_limit, nothing_that_another_has)


def _limit(text: str, total: int) -> int:
    try:
        if text.endswith("%"):
            share = float(text[:-1])
            if 0 <= share <= 100:
                # One of three is what a person means who takes a third machine away; half of one is none.
                return int(total * share / 100)
        elif int(text) >= 0:
            return int(text)
    except ValueError:
        pass
    raise Failure(f"prune_limit is {text}", hint="It is a number of instances, or a share such as 50%.")


def quota(plan: Plan, limits: Sequence[Limit]) -> None:
    """The whole fleet fits, or nothing is made."""
    known = {limit.name: limit for limit in limits}
    over: List[str] = []
    for name, amount in needs(plan).items():
        limit = known.get(name)
        if amount > 0 and limit and limit.limit >= 0 and limit.used + amount > limit.limit:
            over.append(
                f"{name}: {amount} more are needed, {limit.used} of {limit.limit} are in use, so it is exceeded by {limit.used + amount - limit.limit}"
            )
    over += _groups_over(plan)
    if over:
        raise Refused("the quota does not hold the whole fleet, so nothing was made. " + "; ".join(over), over=over)


def needs(plan: Plan) -> Mapping[str, int]:
    """What the plan takes beyond what is in use."""
    need = dict.fromkeys(("instances", "cores", "ram", "ports", "volumes", "gigabytes", "floating_addresses"), 0)
    for change in plan.of("create"):
        if change.instance and not change.begins_anew:
            continue  # it is there, and counted
        _count(need, change.declared, plan)
        if change.instance and not change.instance.put_aside:  # it goes first; what is put aside is not counted
            need["instances"] -= 1
            need["cores"] -= change.instance.flavor.vcpus
            need["ram"] -= change.instance.flavor.ram
    for change in plan.of("resize", "rebuild", "replace"):
        if change.wanted and change.instance and change.has("flavor"):
            need["cores"] += change.wanted.flavor.vcpus - change.instance.flavor.vcpus
            need["ram"] += change.wanted.flavor.ram - change.instance.flavor.ram
    for change in plan.of("update", "resize", "rebuild", "replace"):
        for difference in change.differences:
            if difference.field == "volumes" and difference.note == "made and attached" and change.wanted:
                label = str(difference.after).partition(".")[2]
                need["volumes"] += 1
                need["gigabytes"] += next(volume.size for volume in change.wanted.volumes if volume.label == label)
            if difference.field == "floating_address" and difference.after == "a new address":
                need["floating_addresses"] += 1
    return need


def _count(need: Dict[str, int], one: Wanted, plan: Plan) -> None:
    need["instances"] += 1
    need["cores"] += one.flavor.vcpus
    need["ram"] += one.flavor.ram
    going = {change.instance.id for change in plan.of("create") if change.instance and change.begins_anew}
    have = {port.name for port in plan.world.ports if not port.server_id or port.server_id in going}
    need["ports"] += sum(1 for name, want in names_of_ports(one) if not want.port and name not in have)
    labels = {volume.label for volume in plan.world.volumes if volume.instance == one.name}
    for volume in (*one.volumes, *([one.boot_volume] if one.boot_volume else [])):
        if not volume.volume and volume.label not in labels:
            need["volumes"] += 1
            need["gigabytes"] += volume.size
    if one.floating and not one.floating.address and not any(address.instance == one.name for address in plan.world.floating):
        need["floating_addresses"] += 1


def _groups_over(plan: Plan) -> List[str]:
    new: Dict[str, List[Change]] = {}
    for change in plan.of("create"):
        if change.wanted and change.wanted.server_group and not change.instance:
            new.setdefault(change.wanted.server_group.id, []).append(change)
    over = []
    for changes in new.values():
        group = changes[0].wanted.server_group if changes[0].wanted else None
        if group and group.limit and len(group.members) + len(changes) > group.limit:
            over.append(
                f"members of the server group {group.name}: {len(changes)} more are needed, {len(group.members)} of {group.limit} are in use, "
                f"so it is exceeded by {len(group.members) + len(changes) - group.limit}"
            )
    return over
