# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan. Each function can be killed anywhere: the next run's plan begins with what is there."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import functools
import subprocess
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, cast

from .._errors import Failure
from . import provider
from .plan import DISRUPTIVE, Change, Options, Plan, extra_volumes, metadata_of, metadata_steps, names_of_ports, pair_ports, volume_for
from .provider import READY, Instance, Port, Provider, Volume, Wanted, WantedPort, WantedVolume
from .watch import Watch, pause
from .writer import Guarded

DROPPED_WITHIN = 60.0


@dataclass(frozen=True)
class Settings:
    parallel: int = 10
    timeout: float = 600.0
    shutdown_timeout: float = 90.0
    gate: Tuple[str, ...] = ()
    gate_timeout: float = 600.0


@dataclass
class Report:
    """What was done, also by a run that failed."""

    done: List[Dict[str, Any]] = field(default_factory=list)
    failures: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def step(self, name: str, step: str) -> Iterator[None]:
        begin = time.monotonic()
        done: Dict[str, Any] = {"name": name, "step": step}
        try:
            yield
        except BaseException:
            done["failed"] = True
            raise
        finally:
            with self._guard:
                self.done.append({**done, "seconds": round(time.monotonic() - begin, 3)})

    def note(self, text: str) -> None:
        with self._guard:
            self.notes.append(text)

    def failed(self, text: str) -> None:
        with self._guard:
            self.failures.append(text)


class Run:
    def __init__(
        self,
        cloud: Provider,
        fleet: str,
        plan: Plan,
        options: Options,
        settings: Settings,
        ready: Callable[[Instance, Wanted], None],
        check: Callable[[], None],
    ) -> None:
        """ready: waits until a guest is what its user needs. check: raises when this run may not go on."""
        self.cloud = cast(Provider, Guarded(cloud, check))
        self.fleet, self.plan, self.options, self.settings, self.ready, self.check = fleet, plan, options, settings, ready, check
        self.report = Report()
        self.watch = Watch(self.cloud, fleet, settings.timeout)
        self.free_ports = {port.name: port for port in plan.world.ports if not port.server_id}
        self._made_ports: Dict[str, List[Port]] = {}
        self._failed: Set[str] = set()

    def carry_out(self) -> Report:
        self._each(self.plan.of("delete"), self._delete)
        creates = self.plan.of("create")
        self._each([change for change in creates if change.begins_anew], self._clear)
        self._make_ports([change for change in creates if not change.instance or change.begins_anew])
        self._each(creates, self._create)
        self._each(self.plan.of("update", "start", "stop"), self._update)
        if not self.report.failures:
            for change in self.plan.of(*DISRUPTIVE):
                self._each([change], self._disrupt)
                if self.report.failures:
                    break  # what interrupts instances stops at the first failure
        return self.report

    def _each(self, changes: Sequence[Change], act: Callable[[Change], None]) -> None:
        """All of them at once; one that fails stops no other."""
        changes = [change for change in changes if change.name not in self._failed]
        if not changes:
            return
        with concurrent.futures.ThreadPoolExecutor(min(self.settings.parallel, len(changes))) as pool:
            for change, future in [(change, pool.submit(self._safely, act, change)) for change in changes]:
                if not future.result() and not change.surplus:
                    self._failed.add(change.name)

    def _safely(self, act: Callable[[Change], None], change: Change) -> bool:
        try:
            self.check()
            act(change)
        except Failure as failure:
            self.report.failed(str(failure) if change.name in str(failure) else f"{change.name}: {failure}")
            return False
        return True

    # Delete

    def _delete(self, change: Change) -> None:
        instance = change.existing
        if change.surplus:
            self._end(instance)
            return
        with self.report.step(change.name, "delete"):
            self._shut_down(instance)
            if not self._delete_softly(instance):
                return
            for port in filter(instance.owns, instance.ports):
                self.cloud.delete_port(port.id, instance.id)
            for address in filter(instance.owns, instance.floating):
                self.cloud.release_floating(address.id, [port.id for port in instance.ports])
            for volume in filter(instance.owns, instance.volumes):
                if self.options.delete_volumes:
                    self.cloud.wait_volume(volume.id, "available", self.settings.timeout)
                    self.cloud.delete_volume(volume.id)

    def _delete_softly(self, instance: Instance) -> bool:
        """Whether it is gone, or the cloud has only put it aside, and somebody may restore it."""
        self.cloud.delete(instance.id)
        if self.watch.gone(instance.id, instance.name, for_good=False):
            return True
        self.report.note(f"{instance.name} ({instance.id}) can be restored until the cloud reclaims it, and has its ports, addresses and volumes until then")
        return False

    def _end(self, old: Instance) -> None:
        """Of one that was replaced only the deletion is left."""
        new = next((one for one in self.plan.world.instances if one.metadata.get(provider.REPLACES) == old.id), None)
        with self.report.step(old.name, "remove the old one"):
            self.cloud.delete(old.id)
            self.watch.gone(old.id, old.name)
            if new is not None:
                self._still_has(new, [port.id for port in new.ports], old)

    def _shut_down(self, instance: Instance) -> None:
        """The guest ends by itself, so that its file systems are clean; it is powered off only when it does not."""
        if instance.status == "ACTIVE" and not instance.leaving and (instance.volumes or instance.launched):
            self._stop(instance)

    def _stop(self, instance: Instance) -> None:
        self.cloud.stop(instance.id)

        def is_off(now: Instance) -> bool:
            return now.status == "SHUTOFF" and not now.task

        try:
            self.watch.until(instance.id, instance.name, "it is shut down", is_off, self.settings.shutdown_timeout, tolerate_error=True)
        except Failure:
            self.cloud.power_off(instance.id)
            self.report.note(f"{instance.name} did not shut down within {self.settings.shutdown_timeout:.0f} s and was powered off")

    # Create

    def _clear(self, change: Change) -> None:
        """One that never ran, so there is nothing on it, is removed. One that is being deleted is only waited for: if that fails, it stays."""
        old = change.existing
        with self.report.step(change.name, "wait until the old one is gone" if old.leaving else "remove the failed one"):
            now = None if old.leaving else self.cloud.get(old.id)
            if now is not None and now.launched:
                raise Failure(f"{old.name} ({old.id}) was {old.status} and is {now.status} now, so it is not removed", hint="Run it again.")
            if now is not None:
                self.cloud.delete(old.id)
            self.watch.gone(old.id, old.name)
            self.free_ports.update({port.name: replace(port, server_id="") for port in old.ports if old.owns(port)})

    def _make_ports(self, changes: Sequence[Change]) -> None:
        lacking: List[Tuple[str, WantedPort]] = []
        for change in changes:
            try:
                if change.name not in self._failed:
                    lacking += [(name, want) for name, want in names_of_ports(change.declared) if not want.port and not self._fitting(name, want)]
            except Failure as failure:
                self.report.failed(f"{change.name}: {failure}")
                self._failed.add(change.name)
        if not lacking:
            return
        with self.report.step("*", "ports"):
            try:
                made = self.cloud.create_ports(self.fleet, lacking)
            except Failure:
                # One bad entry refuses them all; alone, only its own instance fails.
                for change in changes:
                    mine = [(name, want) for name, want in lacking if name.split("|")[0] == change.name]
                    try:
                        for port in self.cloud.create_ports(self.fleet, mine) if mine else ():
                            self._own(change.name, port)
                    except Failure as failure:
                        self.report.failed(str(failure))
                        self._failed.add(change.name)
                return
            for port in made:
                self._own(port.name.split("|")[0], port)

    def _own(self, name: str, port: Port) -> None:
        self.free_ports[port.name] = port
        self._made_ports.setdefault(name, []).append(port)

    def _fitting(self, name: str, want: WantedPort) -> bool:
        """A port that an earlier run left serves if it is what is wanted; else it goes, as nothing uses it."""
        port = self.free_ports.get(name)
        if port is None:
            return False
        if port.network.id == want.network.id and (not want.address or want.address in port.addresses):
            if want.manage_groups and set(port.groups) != set(want.groups):
                self.cloud.set_groups(port.id, want.groups)
            return True
        self.cloud.delete_port(port.id)
        del self.free_ports[name]
        return False

    def _create(self, change: Change) -> None:
        wanted = change.declared
        if change.instance and not change.begins_anew:
            with self.report.step(change.name, "wait until ACTIVE"):
                made = self._until_active(change.instance.id, change.name)
            self._finish(made, wanted)
            return
        self._build(wanted, {}, _foreign(wanted, change.instance) if change.instance and change.instance.launched else {})

    def _build(self, wanted: Wanted, kept_ports: Mapping[int, Port], foreign: Mapping[str, str], old: Optional[Instance] = None) -> None:
        """A new instance with its ports and volumes. What this call made is removed again when it fails; nothing else is.

        old: one that gave up its ports and volumes, and is being deleted meanwhile.
        """
        made_volumes: List[Volume] = []
        server = ""
        marks = {**foreign, **metadata_of(self.fleet, wanted), **({provider.REPLACES: old.id} if old else {})}
        try:
            boot, volumes = self._volumes(wanted, made_volumes)
            names = {id(want): name for name, want in names_of_ports(wanted)}
            ports = []
            for number, want in enumerate(wanted.ports):
                port = want.port or kept_ports.get(number) or self.free_ports[names[id(want)]]
                ports.append(port.id)
            while True:
                try:
                    server = ""
                    with self.report.step(wanted.name, "create"):
                        server = self.cloud.create(self.fleet, wanted, marks, ports, boot, volumes)
                    with self.report.step(wanted.name, "wait until ACTIVE"):
                        instance = self._until_active(server, wanted.name)
                    break
                except Failure:
                    if old is None or not self._undone(server, wanted.name):
                        raise
                    # Quota and host had no room for both.
                    with self.report.step(wanted.name, "wait until the old one is gone"):
                        self.watch.gone(old.id, old.name)
                    old = None
        except Failure as failure:
            left = self._clean_up(wanted, server, made_volumes)
            raise Failure(f"{failure}{left}") from None
        if old is not None:
            self._take_over(old, instance, ports)
        self._finish(instance, wanted)

    def _undone(self, server: str, name: str) -> bool:
        """Whether an attempt that failed is out of the way: it was refused, or is removed as it never ran."""
        if server:
            now = self.cloud.get(server)
            if now is None or now.launched or now.status != "ERROR":
                return False
            self.cloud.delete(server)
            self.watch.gone(server, name)
        return True

    def _take_over(self, old: Instance, new: Instance, ports: Sequence[str]) -> None:
        """A cloud that began the deletion anew, as one of its services restarted, takes the ports from whoever has them."""
        with self.report.step(new.name, "wait until the old one is gone"):
            self.watch.gone(old.id, old.name)
            self._still_has(new, ports, old)

    def _still_has(self, new: Instance, ports: Sequence[str], old: Instance) -> None:
        for port in ports:
            if self.cloud.port(port).server_id != new.id:
                raise Failure(f"{new.name} ({new.id}) lost its port {port} to the deletion of {old.id}", hint="Run it again to attach it again.")

    def _until_active(self, server: str, name: str) -> Instance:
        return self.watch.until(server, name, "it is ACTIVE", lambda now: now.status == "ACTIVE" and not now.task)

    def _volumes(self, wanted: Wanted, made: List[Volume]) -> Tuple[str, List[str]]:
        known = list(self.plan.world.volumes)

        def one(want: WantedVolume, image: Any) -> Volume:
            volume = volume_for(want, wanted.name, self.fleet, known)
            if volume is None:
                volume = self.cloud.create_volume(self.fleet, wanted.name, want, want.zone or wanted.volume_zone, image)
                made.append(volume)
            return volume

        lot = [*([wanted.boot_volume] if wanted.boot_volume else []), *wanted.volumes]
        if not lot:
            return "", []
        with self.report.step(wanted.name, "volumes"):
            found = [one(want, wanted.image if want is wanted.boot_volume else None) for want in lot]
            for want, volume in zip(lot, found):
                self.cloud.wait_volume(volume.id, "available", self.settings.timeout)
                if not want.volume and want.size > volume.size:
                    self.cloud.grow_volume(volume.id, want.size)
                    self.cloud.wait_volume(volume.id, "available", self.settings.timeout)
        ids = [volume.id for volume in found]
        return (ids[0], ids[1:]) if wanted.boot_volume else ("", ids)

    def _clean_up(self, wanted: Wanted, server: str, volumes: Sequence[Volume]) -> str:
        """Remove what this run made for an instance that never ran; what cannot be removed is named and taken up by the next run."""
        left = []
        try:
            self.check()  # the run that took over may use it
            if server:
                now = self.cloud.get(server)
                if now is not None and now.launched:
                    return ""  # it runs; whoever waits for it waits again
                self.cloud.delete(server)
                self.watch.gone(server, wanted.name)
        except Exception as error:
            return f" What was made for it is left to the next run ({error})."
        for port in self._made_ports.get(wanted.name, []):
            left += _attempt(functools.partial(self.cloud.delete_port, port.id), f"port {port.id}")
        for volume in volumes:
            left += _attempt(functools.partial(self._drop, volume), f"volume {volume.id}")
        return f" Left to the next run: {', '.join(left)}." if left else ""

    def _drop(self, volume: Volume) -> None:
        """This run made it. What failed, or is still being made, goes; what somebody took meanwhile the provider does not delete."""
        try:
            self.cloud.wait_volume(volume.id, "available", DROPPED_WITHIN)
        finally:
            self.cloud.delete_volume(volume.id)

    def _finish(self, instance: Instance, wanted: Wanted) -> None:
        """What comes after an instance runs."""
        if wanted.floating:
            with self.report.step(wanted.name, "floating address"):
                world = self.cloud.world(self.fleet, [wanted.name])
                now = next((one for one in world.instances if one.id == instance.id), instance)
                self._float(now, wanted)
        if wanted.state == "stopped":
            self._update(Change("stop", wanted.name, wanted=wanted, instance=instance))
        else:
            with self.report.step(wanted.name, "wait for the guest"):
                self.ready(instance, wanted)

    def _float(self, instance: Instance, wanted: Wanted) -> None:
        if wanted.floating is None:
            return
        if any(not wanted.floating.address or address.address == wanted.floating.address for address in instance.floating):
            return
        pairs, _missing, _surplus = pair_ports(wanted, instance)
        # The first declared one; the provider lists ports in any order.
        port = next((port for want in wanted.ports for paired, port in pairs if paired is want), None)
        if port is None:
            raise Failure(f"{wanted.name} has no port for a floating address", hint="Declare its networks.")
        self.cloud.assign_floating(self.fleet, wanted.name, wanted.floating, port.id)

    # In place

    def _update(self, change: Change) -> None:
        wanted, instance = change.declared, change.existing
        if change.has("metadata"):
            with self.report.step(change.name, "metadata"):
                self.cloud.set_metadata(instance.id, *metadata_steps(self.fleet, wanted, instance))
        if change.has("networks") or change.has("security_groups"):
            with self.report.step(change.name, "ports"):
                self._update_ports(change, wanted, instance)
        if change.has("volumes") or change.has("extra_volumes"):
            with self.report.step(change.name, "volumes"):
                self._update_volumes(change, wanted, instance)
        if change.has("floating_address"):
            with self.report.step(change.name, "floating address"):
                if wanted.floating:
                    self._float(instance, wanted)
                else:
                    for address in filter(instance.lent, instance.floating):
                        self.cloud.unassign_floating(address.id)
        if change.has("power") or change.operation in ("start", "stop"):
            status = "SHUTOFF" if wanted.state == "stopped" else "ACTIVE"
            with self.report.step(change.name, "stop" if status == "SHUTOFF" else "start"):
                if status == "SHUTOFF":
                    self._stop(instance)
                else:
                    self.cloud.start(instance.id)
                now = self.watch.until(instance.id, change.name, f"it is {status}", lambda now: now.status == status and not now.task)
            if status == "ACTIVE":
                with self.report.step(change.name, "wait for the guest"):
                    self.ready(now, wanted)

    def _update_ports(self, change: Change, wanted: Wanted, instance: Instance) -> None:
        pairs, missing, surplus = pair_ports(wanted, instance)
        if change.has("security_groups"):
            for want, port in pairs:
                if want.manage_groups and set(want.groups) != set(port.groups):
                    self.cloud.set_groups(port.id, want.groups)
        if change.has("networks"):
            # What cannot be made or attached costs it nothing that it has.
            for port in self._ports_for(wanted, missing, instance):
                self.cloud.attach_port(instance.id, port.id)
            for port in surplus:
                self.cloud.detach_port(instance.id, port.id)
                self._until_free(port)
                self.cloud.delete_port(port.id)

    def _ports_for(self, wanted: Wanted, missing: Sequence[WantedPort], instance: Instance) -> List[Port]:
        # Beside what it has until then, which may be of the same network.
        names = {id(want): name for name, want in names_of_ports(replace(wanted, ports=tuple(missing)), [port.name for port in instance.ports])}
        lacking = [(names[id(want)], want) for want in missing if not want.port and not self._fitting(names[id(want)], want)]
        for port in self.cloud.create_ports(self.fleet, lacking) if lacking else ():
            self._own(wanted.name, port)
        return [want.port or self.free_ports[names[id(want)]] for want in missing]

    def _until_free(self, port: Port, old: Optional[Instance] = None) -> None:
        """old: the one that has it and is being deleted."""
        begin = time.monotonic()
        while self.cloud.port(port.id).server_id:
            if old is not None:
                self.watch.leaving(old.id, old.name)
            if time.monotonic() - begin > self.settings.timeout:
                raise Failure(f"the port {port.name} ({port.id}) is still in use")
            time.sleep(pause(begin))

    def _update_volumes(self, change: Change, wanted: Wanted, instance: Instance) -> None:
        known = [*instance.volumes, *self.plan.world.volumes]
        if change.has("volumes"):
            for want in (*wanted.volumes, *([wanted.boot_volume] if wanted.boot_volume else [])):
                volume = volume_for(want, wanted.name, self.fleet, known)
                boot = want is wanted.boot_volume
                if volume is not None and volume.server_id == instance.id:
                    if not want.volume and want.size > volume.size:
                        self.cloud.grow_volume(volume.id, want.size)
                        self.cloud.wait_volume(volume.id, "in-use", self.settings.timeout)
                elif not boot:
                    if volume is None:
                        near = instance.zone if instance.zone in self.cloud.volume_zones() else ""
                        volume = self.cloud.create_volume(self.fleet, wanted.name, want, want.zone or wanted.volume_zone or near, None)
                    self.cloud.wait_volume(volume.id, "available", self.settings.timeout)
                    self.cloud.attach(instance.id, volume.id)
                    self.cloud.wait_volume(volume.id, "in-use", self.settings.timeout)
        if change.has("extra_volumes"):
            for volume in extra_volumes(wanted, instance, known):
                self.cloud.detach(instance.id, volume.id)
                self.cloud.wait_volume(volume.id, "available", self.settings.timeout)

    # One at a time

    def _disrupt(self, change: Change) -> None:
        wanted, instance = change.declared, change.existing
        self._pass_gate(change)
        {"resize": self._resize, "rebuild": self._rebuild, "replace": self._replace}[change.operation](change, wanted, instance)

    def _pass_gate(self, change: Change) -> None:
        if not self.settings.gate:
            return
        command = [word.replace("{name}", change.name).replace("{operation}", change.operation) for word in self.settings.gate]
        end = time.monotonic() + self.settings.gate_timeout
        refused = f"the gate does not let {change.name} be changed ({change.operation})"
        said = ""
        with self.report.step(change.name, "gate"):
            while True:
                self.check()
                left = max(1.0, end - time.monotonic())
                try:
                    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=left, check=False)
                except OSError as error:
                    raise Failure(f"{refused}: {error}") from None
                except subprocess.TimeoutExpired:  # which would tell the whole command, and what is secret in it
                    raise Failure(f"{refused}: {said or f'it did not answer within {left:.0f} s'}") from None
                if done.returncode == 0:
                    return
                # A playbook tells its reason on one of them, and ends with a summary.
                said = f"{done.stdout.strip()}\n{done.stderr.strip()}".strip()[-3000:]
                if time.monotonic() > end:
                    raise Failure(f"{refused}: {said}")
                time.sleep(2)

    def _resize(self, change: Change, wanted: Wanted, instance: Instance) -> None:
        if instance.status not in ("VERIFY_RESIZE", "RESIZE"):
            self._update(change)
            with self.report.step(change.name, "resize"):
                self.cloud.resize(instance.id, wanted.flavor)
        flavor = (wanted.flavor.vcpus, wanted.flavor.ram)

        def is_there(now: Instance) -> bool:
            return now.status == "VERIFY_RESIZE" or (now.status in READY and not now.task and (now.flavor.vcpus, now.flavor.ram) == flavor)

        with self.report.step(change.name, "confirm"):
            now = self.watch.until(instance.id, change.name, "it is resized", is_there)
            if now.status == "VERIFY_RESIZE":
                self.cloud.confirm_resize(instance.id)
            now = self.watch.until(instance.id, change.name, "its resize is confirmed", lambda now: now.status in READY and not now.task)
        if now.status == "ACTIVE":
            self.ready(now, wanted)

    def _rebuild(self, change: Change, wanted: Wanted, instance: Instance) -> None:
        image = wanted.image.id if wanted.image else ""
        with self.report.step(change.name, "rebuild"):
            self.cloud.rebuild(instance.id, wanted, {**_foreign(wanted, instance), **metadata_of(self.fleet, wanted)})
            now = self.watch.until(instance.id, change.name, "it is rebuilt", lambda now: now.status in READY and not now.task)
        if now.image_id != image:
            raise Failure(f"{change.name} was rebuilt, and the cloud says that its image is {now.image_id}, not {image}")
        self._update(change)
        if change.has("flavor"):
            self._resize(replace(change, differences=tuple(one for one in change.differences if one.field == "flavor")), wanted, now)
        elif now.status == "ACTIVE":
            self.ready(now, wanted)

    def _replace(self, change: Change, wanted: Wanted, instance: Instance) -> None:
        """The same name, addresses and volumes on a new instance."""
        pairs, missing, surplus = pair_ports(wanted, instance)
        # Before anything goes: what the new one needs beyond what it takes over.
        fresh = self._ports_for(wanted, missing, instance)
        kept: Dict[int, Port] = {}
        for number, want in enumerate(wanted.ports):
            kept[number] = next((port for paired, port in pairs if paired is want), None) or fresh[next(i for i, one in enumerate(missing) if one is want)]
        with self.report.step(change.name, "shut down"):
            self._shut_down(instance)
        if wanted.boot_volume and (change.has("image") or wanted.state == "rebuilt"):
            self._keep_boot_volume(wanted, instance)
        taken_over = {port.id: port for port in (*kept.values(), *surplus)}
        lent = [(want, port) for want, port in pairs if not instance.owns(port)]
        names = names_of_ports(replace(wanted, ports=tuple(want for want, _port in lent)), [port.name for port in (*instance.ports, *fresh)])
        with self.report.step(change.name, "remove the old one"):
            for (name, want), (_want, port) in zip(names, lent):
                self.cloud.keep_port(self.fleet, "" if want.port else name, port.id)
            self.cloud.delete(instance.id)
            # A cloud ends the guest, then frees its ports, then its volumes, and only then its room: a member of a server group counts until it is gone.
            if not taken_over or lent or wanted.server_group or instance.server_groups:
                self.watch.gone(instance.id, instance.name)
            for port in taken_over.values():
                self._until_free(port, instance)
            for volume in instance.volumes:
                self.cloud.wait_volume(volume.id, "available", self.settings.timeout)
        for port in surplus:
            self.cloud.delete_port(port.id)
        for want, port in pairs:
            if want.manage_groups and set(want.groups) != set(port.groups):
                self.cloud.set_groups(port.id, want.groups)
        self._build(wanted, kept, _foreign(wanted, instance), instance)

    def _keep_boot_volume(self, wanted: Wanted, instance: Instance) -> None:
        """The old system stays under a name of its own; only a person deletes it."""
        label = wanted.boot_volume.label if wanted.boot_volume else ""
        for volume in instance.volumes:
            if volume.label == label and instance.owns(volume):
                name = f"{label}-until-{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
                self.cloud.rename_volume(volume.id, f"{wanted.name}-{name}", name)
                self.report.note(f"the old boot volume of {wanted.name} is kept: {volume.id} ({wanted.name}-{name})")
                known = [replace(one, label=name) if one.id == volume.id else one for one in self.plan.world.volumes]
                self.plan = replace(self.plan, world=replace(self.plan.world, volumes=tuple(known)))


def _foreign(wanted: Wanted, instance: Instance) -> Dict[str, str]:
    """Metadata that others wrote: it stays with the name."""
    declared = instance.metadata.get(provider.DECLARED, "").split(",")
    return {key: value for key, value in instance.metadata.items() if not key.startswith(provider.PREFIX) and key not in declared}


def _attempt(act: Callable[[], None], what: str) -> List[str]:
    try:
        act()
    except Exception:
        return [what]
    return []


__all__ = ["Report", "Run", "Settings"]
