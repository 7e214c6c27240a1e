# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet becomes what is declared. This is the sentence that the module kvm_instance is; each stage is a file of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence

from .._errors import Failure
from .._private_folder import make_private
from . import guard, residency, wanted
from .execute import Report, Run, Settings
from .facts import AddressRule, facts
from .lookup import Catalog
from .plan import ON_DRIFT, Options, Plan, make_plan
from .provider import Instance, Place, Provider, Wanted
from .ready import Login, wait
from .residency import Residency
from .writer import one_writer


@dataclass(frozen=True)
class Ask:
    """What the module was told."""

    params: Mapping[str, Any]
    check_mode: bool

    @property
    def fleet(self) -> str:
        return str(self.params["fleet"])

    def options(self) -> Options:
        given = {name: action for name, action in (self.params.get("on_drift") or {}).items() if action}
        for name, action in given.items():
            if action not in ON_DRIFT[name]:
                raise Failure(f"on_drift.{name} cannot be {action}", hint=f"It is one of: {', '.join(ON_DRIFT[name])}.")
        return Options(
            given, bool(self.params["allow_data_loss"]), bool(self.params["prune"]), str(self.params["prune_limit"]), bool(self.params["delete_volumes"])
        )

    def settings(self) -> Settings:
        for name, least in (("parallel", 1), ("wait_timeout", 0), ("shutdown_timeout", 0)):
            if int(self.params[name]) < least:
                raise Failure(f"{name} is {self.params[name]}", hint=f"It is at least {least}.")
        return Settings(
            int(self.params["parallel"]),
            float(self.params["wait_timeout"]),
            float(self.params["shutdown_timeout"]),
            tuple(self.params.get("gate") or ()),
            float(self.params["wait_timeout"]),
        )


def provision(cloud: Callable[[], Provider], ask: Ask) -> Dict[str, Any]:
    """Make the fleet what is declared. Raises Failure with what was done, in the schema of the result."""
    begin = time.monotonic()
    listed = wanted.entries(ask.params)
    options, settings, login = ask.options(), ask.settings(), Login.of(ask.params.get("ssh"))
    rule = Residency.of(ask.params.get("residency"))
    residency.check_region(rule, ask.params["region"])
    zones = [zone for one in listed for zone in _zones(one)]
    residency.check_zones(rule, zones)

    provider = cloud()
    place = provider.place()
    residency.check_project(ask.params.get("project_id"), place)
    residency.check_place(rule, ask.params["region"], place, _services(listed))
    proof = residency.evidence(rule, ask.params["region"], place, zones)

    catalog = Catalog(provider)
    declared = wanted.resolve(ask.params, listed, provider, catalog)
    if rule.zones:
        _check_chosen_zones(rule, declared, catalog)
    plan = _plan(provider, ask.fleet, declared, options, catalog)
    _judge(plan, options, provider, declared)
    report = Report()
    if plan.writes and not ask.check_mode:
        with _locked(provider, ask.fleet, place) as check:
            # What another run did while this one waited for the lock.
            plan = _plan(provider, ask.fleet, declared, options, catalog)
            _judge(plan, options, provider, declared)
            report = Run(provider, ask.fleet, plan, options, settings, _ready(provider, ask, login), check).carry_out()
    return _answer(provider, ask, plan, report, proof, declared, begin)


def _check_chosen_zones(rule: Residency, declared: Sequence[Wanted], catalog: Catalog) -> None:
    """Those that the options do not name."""
    for one in declared:
        if one.state == "absent":
            continue
        if not one.zone:
            residency.check_untold_zones(rule, one.name, catalog.zones)
        for want in (*one.volumes, *([one.boot_volume] if one.boot_volume else [])):
            if not want.volume and not (want.zone or one.volume_zone):
                residency.check_untold_zones(rule, f"the volume {want.label} of {one.name}", catalog.volume_zones)


def _plan(provider: Provider, fleet: str, declared: Sequence[Wanted], options: Options, catalog: Catalog) -> Plan:
    return make_plan(fleet, declared, provider.world(fleet, [one.name for one in declared]), options)


def _judge(plan: Plan, options: Options, provider: Provider, declared: Sequence[Wanted]) -> None:
    guard.guard(plan, options)
    if plan.of("create", "update", "resize", "rebuild", "replace"):
        # Those that get a port. What is to be changed must not lose its port for one that cannot be made.
        creating = {change.name for change in plan.changes if change.operation == "create" or change.writes and change.has("networks")}
        # What is deleted goes first, and an instance's own ports stay its own.
        going = {change.existing.id for change in plan.of("delete")}
        holders = {port.id: "" if instance.id in going else instance.name for instance in plan.world.instances for port in instance.ports}
        wanted.no_address_taken([one for one in declared if one.name in creating], provider, holders)
        if any(guard.needs(plan).values()):
            guard.quota(plan, provider.limits())


def _zones(one: Mapping[str, Any]) -> Iterator[str]:
    yield one.get("zone") or ""
    for volume in (*one["volumes"], *([one["boot_volume"]] if one.get("boot_volume") else [])):
        yield volume.get("zone") or ""


def _services(listed: Sequence[Mapping[str, Any]]) -> List[str]:
    volumes = any(one["volumes"] or one.get("boot_volume") for one in listed)
    return ["compute", "network", "image", *(["volume"] if volumes else [])]


def _ready(provider: Provider, ask: Ask, login: Login) -> Callable[[Instance, Wanted], None]:
    until, rule = ask.params["wait_for"], AddressRule.of(ask.params.get("address"))
    timeout = float(ask.params["wait_timeout"])

    def console(instance: Instance) -> str:
        lines = provider.console(instance.id, 15).splitlines()[-15:]
        return "\n".join(["\nThe end of its console log:", *lines]) if lines else ""

    def ready(instance: Instance, one: Wanted) -> None:
        if until == "active":
            return
        begin = time.monotonic()
        while True:
            now = next((each for each in provider.world(ask.fleet, [one.name]).instances if each.id == instance.id), None)
            address = rule.choose(now) if now else None
            # A provider that gives addresses tells them at once. Those in a bridge are heard of when the guest has booted.
            patience = timeout if now and any(not port.addresses for port in now.ports) else min(timeout, 60)
            if address or time.monotonic() - begin > patience:
                break
            time.sleep(1)
        wait(one.name, address, until, login, timeout, lambda: console(instance))

    return ready


@contextlib.contextmanager
def _locked(provider: Provider, fleet: str, place: Place) -> Iterator[Callable[[], None]]:
    """One writer a fleet: among runs that share a cache folder by a file that the kernel unlocks when one dies, anywhere else by a lock in the cloud.

    The file holds an ID of its own. Whoever has the file's lock knows that no other run alive has put this ID into the cloud's lock.
    """
    folder = os.path.join(_cache(), "fleets")
    make_private(folder, "XDG_CACHE_HOME")
    handle = os.open(os.path.join(folder, f"{place.project_id}-{fleet}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        own = os.pread(handle, 64, 0).decode("ascii", "replace").strip()
        if len(own) != 32:
            own = secrets.token_hex(16)
            os.pwrite(handle, own.encode(), 0)
        with one_writer(provider, fleet, f"{own}/{secrets.token_hex(8)}", takes_over=True) as check:
            yield check
    finally:
        os.close(handle)


def _cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "nordic.gitops")


def _answer(
    provider: Provider, ask: Ask, plan: Plan, report: Report, proof: Mapping[str, Any], declared: Sequence[Wanted], begin: float
) -> Dict[str, Any]:
    world = plan.world
    if report.done or report.failures:
        try:
            world = provider.world(ask.fleet, [one.name for one in declared])
        except Failure as failure:  # what was done is told nevertheless
            report.failed(str(failure))
    rule = AddressRule.of(ask.params.get("address"))
    instances = sorted(world.instances, key=lambda one: one.name)
    warnings = [*plan.warnings, *report.notes]
    twins = _twins(instances, rule)
    result: Dict[str, Any] = {
        "changed": plan.writes if ask.check_mode else any(step["step"] != "gate" for step in report.done),
        "fleet": ask.fleet,
        "plan": [change.result() for change in plan.changes],
        "table": plan.table(),
        "counts": plan.counts(),
        "instances": [facts(one, rule) for one in instances],
        "undeclared": [change.name for change in plan.of("undeclared", "skipped")],
        "leftovers": list(plan.leftovers),
        "evidence": dict(proof),
        "steps": report.done,
        "requests": provider.requests,
        "seconds": round(time.monotonic() - begin, 2),
        "warnings": warnings,
        "quota": {name: amount for name, amount in guard.needs(plan).items() if amount},
    }
    if report.failures or twins:
        raise Failure("; ".join([*report.failures, *twins]), **result)
    return result


def _twins(instances: Sequence[Instance], rule: AddressRule) -> List[str]:
    seen: Dict[str, str] = {}
    found = []
    for one in instances:
        address = rule.choose(one)
        if address and address in seen:
            found.append(f"{seen[address]} and {one.name} have one address: {address}")
        elif address:
            seen[address] = one.name
    return found


__all__ = ["Ask", "provision"]
