# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a fleet, on values alone: what is declared against what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._instance import guard, provider
from ansible_collections.nordic.gitops.plugins.module_utils._instance.plan import ON_DRIFT, Options, make_plan, metadata_of, metadata_steps, pair_ports
from ansible_collections.nordic.gitops.plugins.module_utils._instance.provider import (
    Flavor,
    Floating,
    Image,
    Instance,
    Limit,
    Named,
    Port,
    ServerGroup,
    Volume,
    Wanted,
    WantedPort,
    WantedVolume,
    World,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FLEET = "shop"
IMAGES = [Image("i-1", "ubuntu"), Image("i-2", "ubuntu"), Image("i-3", "debian")]
FLAVORS = [Flavor("f-1", "small", 1, 1024, 10), Flavor("f-2", "large", 4, 4096, 20)]
NETWORKS = [Named("n-1", "private"), Named("n-2", "storage")]
GROUP = ServerGroup("g-1", "spread")
ADDRESSES = ["10.0.0.5", "10.0.0.6"]

ports = st.lists(
    st.builds(
        lambda network, groups: WantedPort(network, groups=groups, manage_groups=True),
        st.sampled_from(NETWORKS),
        st.sampled_from([(), ("s-1",), ("s-1", "s-2")]),
    ),
    max_size=3,
)
volumes = st.dictionaries(st.sampled_from(["data", "logs"]), st.integers(1, 5), max_size=2).map(
    lambda sizes: tuple(WantedVolume(label, size) for label, size in sorted(sizes.items()))
)
wanted = st.builds(
    lambda image, flavor, ports, volumes, boot, key, zone, metadata, mark, state, protected, group, floating: Wanted(
        "a",
        state,
        image,
        image.name,
        flavor,
        key,
        zone,
        "",
        group,
        tuple(ports),
        boot,
        volumes,
        floating,
        metadata,
        "x" if mark else "",
        mark,
        (),
        protected,
    ),
    st.sampled_from(IMAGES),
    st.sampled_from(FLAVORS),
    ports,
    volumes,
    st.sampled_from([None, WantedVolume("root", 10)]),
    st.sampled_from(["", "k"]),
    st.sampled_from(["", "z-1", "z-2"]),
    st.dictionaries(st.sampled_from(["role", "cluster"]), st.sampled_from(["x", "y"])),
    st.sampled_from(["", "m1", "m2"]),
    st.sampled_from(["present", "started", "stopped"]),
    st.booleans(),
    st.sampled_from([None, GROUP]),
    st.sampled_from([None, Floating("", "", "", "n-9")]),
)
actions = st.fixed_dictionaries({name: st.sampled_from([action for action in allowed if action != "refuse"]) for name, allowed in ON_DRIFT.items()})
options = st.builds(lambda on_drift: Options(on_drift, allow_data_loss=True), actions)


def made(one: Wanted, number: int = 1) -> Instance:
    """As the cloud has it right after it was created so."""
    boot = [Volume("v-root", "", one.boot_volume.size, server_id="a-1", fleet=FLEET, instance="a", label="root", bootable=True)] if one.boot_volume else []
    return Instance(
        "a-1",
        "a",
        "SHUTOFF" if one.state == "stopped" else "ACTIVE",
        image_id="" if one.boot_volume else one.image.id,
        flavor=replace(one.flavor, id=""),
        key=one.key,
        zone=one.zone or "z-1",
        server_groups=(one.server_group.id,) if one.server_group else (),
        metadata=metadata_of(FLEET, one),
        ports=tuple(Port(f"p-{number}", f"a|{port.network.name}", port.network, (), port.groups, fleet=FLEET, server_id="a-1")
                    for number, port in enumerate(one.ports)),
        volumes=tuple(
            [
                *boot,
                *(Volume(f"v-{volume.label}", "", volume.size, server_id="a-1", fleet=FLEET, instance="a", label=volume.label) for volume in one.volumes),
            ]
        ),
        floating=(Floating("fl", "203.0.113.5", "p-0", fleet=FLEET),) if one.floating else (),
    )


def world(*instances: Instance) -> World:
    return World(tuple(instances), volumes=tuple(volume for one in instances for volume in one.volumes))


def carried_out(change) -> Instance:
    """What the executor makes of it, on values."""
    one, now = change.wanted, change.instance
    if change.operation in ("create", "replace"):
        fresh = made(one)
        if change.operation == "replace" and one.boot_volume is None and now.boots_from_volume:
            return fresh
        # A volume that is kept has the size that it had, or the larger one; one that nobody declares stays behind.
        sizes = {volume.label: volume.size for volume in (now.volumes if now else ())}
        return replace(fresh, volumes=tuple(replace(volume, size=max(volume.size, sizes.get(volume.label, 0))) for volume in fresh.volumes))
    if change.operation == "rebuild":
        now = replace(now, image_id=one.image.id, key=one.key, metadata={**metadata_of(FLEET, one)})
    if change.operation in ("resize", "rebuild") and change.has("flavor"):
        now = replace(now, flavor=replace(one.flavor, id=""))
    if change.has("metadata"):
        add, remove = metadata_steps(FLEET, one, now)
        now = replace(now, metadata={**{key: value for key, value in now.metadata.items() if key not in remove}, **add})
    if change.has("networks"):
        pairs, missing, surplus = pair_ports(one, now)
        kept = [port for port in now.ports if port not in surplus]
        now = replace(
            now, ports=tuple([*kept, *(Port(f"n-{number}", f"a|{want.network.name}", want.network, (), want.groups, fleet=FLEET)
                                       for number, want in enumerate(missing))])
        )
    if change.has("security_groups"):
        pairs, _missing, _surplus = pair_ports(one, now)
        groups = {port.id: want.groups for want, port in pairs}
        now = replace(now, ports=tuple(replace(port, groups=groups.get(port.id, port.groups)) for port in now.ports))
    if change.has("volumes"):
        sizes = {want.label: want.size for want in (*one.volumes, *([one.boot_volume] if one.boot_volume and now.boots_from_volume else []))}
        have = {volume.label: volume for volume in now.volumes}
        grown = [replace(volume, size=max(volume.size, sizes.get(volume.label, 0))) for volume in now.volumes]
        new = [
            Volume(f"v-{label}", "", size, server_id="a-1", fleet=FLEET, instance="a", label=label)
            for label, size in sizes.items()
            if label not in have and label != "root"
        ]
        now = replace(now, volumes=tuple([*grown, *new]))
    if change.has("extra_volumes"):
        labels = {want.label for want in one.volumes}
        now = replace(now, volumes=tuple(volume for volume in now.volumes if volume.label in labels or volume.bootable))
    if change.has("floating_address"):
        now = replace(now, floating=(Floating("fl", "203.0.113.5", "p-0", fleet=FLEET),) if one.floating else ())
    if change.has("power"):
        now = replace(now, status="SHUTOFF" if one.state == "stopped" else "ACTIVE")
    return now


@given(wanted)
def test_what_was_made_as_declared_is_left_alone(one):
    for action in ("report", "replace"):
        plan = make_plan(
            FLEET, [one], world(made(one)), Options({name: action for name, allowed in ON_DRIFT.items() if action in allowed}, allow_data_loss=True)
        )
        assert [change.operation for change in plan.changes] == ["unchanged"], plan.table()


@settings(max_examples=400)
@given(wanted, wanted, options)
def test_a_second_run_finds_nothing_to_do(before, after, chosen):
    instance = replace(made(before), metadata={**made(before).metadata, "somebody": "else"})
    change = make_plan(FLEET, [after], world(instance), chosen).changes[0]
    if change.operation == "refuse":
        # Only what nothing can be done about, or what is protected: a volume or a root disk that would become smaller.
        assert any(words in " ".join(change.reasons) for words in ("smaller", "protected")), change.reasons
        return
    again = make_plan(FLEET, [after], world(carried_out(change)), chosen).changes[0]
    assert again.operation in ("unchanged", "report"), again.reasons


@given(wanted, wanted)
def test_the_plan_is_minimal(before, after):
    """Every difference that it names is one, and what does not differ is not named."""
    change = make_plan(FLEET, [after], world(made(before)), Options()).changes[0]
    named = {difference.field for difference in change.differences}
    assert ("image" in named) == (before.image.id != after.image.id)
    assert ("flavor" in named) == (before.flavor != after.flavor)
    assert ("key" in named) == (before.key != after.key)
    assert ("user_data" in named) == (before.user_data_mark != after.user_data_mark)
    assert ("metadata" in named) == ((before.metadata, before.protected) != (after.metadata, after.protected))
    assert ("server_group" in named) == (after.server_group is not None and before.server_group is None)


@given(wanted, wanted, actions)
def test_no_root_disk_is_destroyed_without_the_option(before, after, on_drift):
    change = make_plan(FLEET, [after], world(made(before)), Options(on_drift)).changes[0]
    assert not (change.writes and change.destroys)


@given(wanted, wanted, actions)
def test_metadata_of_others_stays(before, after, on_drift):
    instance = replace(made(before), metadata={**made(before).metadata, "somebody": "else"})
    _add, remove = metadata_steps(FLEET, after, instance)
    assert "somebody" not in remove and not [key for key in remove if key == provider.FLEET]


def simple(name: str, state: str = "present", **more) -> Wanted:
    return Wanted(name, state, IMAGES[0], "ubuntu", FLAVORS[0], **more)


def there(name: str, **more) -> Instance:
    return replace(made(simple(name)), id=f"{name}-id", name=name, **more)


def test_only_what_carries_the_mark_of_the_fleet_is_pruned():
    neighbours = [there("a-1", metadata={}), there("b", metadata={provider.FLEET: "shop-2"})]
    plan = make_plan(FLEET, [simple("a")], World((there("a"), there("old")), tuple(neighbours)), Options(prune=True))
    assert {change.name: change.operation for change in plan.changes} == {"a": "unchanged", "old": "delete"}


def test_what_is_no_longer_declared_is_reported_unless_pruned():
    plan = make_plan(FLEET, [simple("a")], World((there("a"), there("old"))), Options())
    assert plan.of("undeclared")[0].name == "old" and not plan.writes


@pytest.mark.parametrize("protection", [{"locked": True}, {"metadata": {provider.FLEET: FLEET, provider.PROTECTED: "true"}}])
def test_what_is_protected_is_not_pruned(protection):
    plan = make_plan(FLEET, [simple("a")], World((there("a"), there("old", **protection))), Options(prune=True))
    assert plan.of("skipped")[0].name == "old" and not plan.writes


def test_no_more_than_the_limit_is_pruned():
    plan = make_plan(FLEET, [simple("a")], World((there("a"), there("b"), there("c"))), Options(prune=True))
    with pytest.raises(Refused, match="would delete 2 of 3 instances that are no longer declared, prune_limit is 50%: b, c"):
        guard.guard(plan, Options(prune=True))
    guard.guard(plan, Options(prune=True, prune_limit="2"))


def test_a_deleted_image_is_a_warning_and_the_plan_stays_empty():
    plan = make_plan(FLEET, [replace(simple("a"), image=None)], World((there("a"),)), Options({"image": "replace"}, allow_data_loss=True))
    assert plan.changes[0].operation == "unchanged" and "no longer in the cloud" in plan.warnings[0]


def test_a_name_of_an_instance_that_is_not_ours_is_refused():
    plan = make_plan(FLEET, [simple("a")], World((), (there("a", metadata={provider.FLEET: "other"}),)), Options())
    assert plan.changes[0].reasons == ("the name is taken by the instance a-id, which belongs to the fleet other, not to shop",)


def test_two_instances_of_one_name_are_refused_with_both_ids():
    plan = make_plan(FLEET, [simple("a")], World((there("a"), replace(there("a"), id="twin"))), Options())
    assert plan.changes[0].operation == "refuse" and "a-id, twin" in plan.changes[0].reasons[0]


def test_a_creation_that_failed_is_done_again_and_one_under_way_is_waited_for():
    failed = there("a", status="ERROR", launched=False, fault="No valid host")
    assert make_plan(FLEET, [simple("a")], World((failed,)), Options()).changes[0].reasons == ("its creation failed and is done again: No valid host",)
    building = there("a", status="BUILD", launched=False)
    assert make_plan(FLEET, [simple("a")], World((building,)), Options()).changes[0].operation == "create"


@pytest.mark.parametrize("status", ["ACTIVE", "ERROR", "SHUTOFF", "DELETED"])
def test_one_that_is_being_deleted_makes_room_for_the_next_and_is_not_deleted_again(status):
    """A killed run may have made the next one already; then there are two of the name, and one is meant."""
    going = there("a", status=status, task="" if status == "DELETED" else "deleting")
    change = make_plan(FLEET, [simple("a")], World((going,)), Options()).changes[0]
    assert change.operation == "create" and change.begins_anew and not change.destroys and "is being deleted" in change.reasons[0]
    assert make_plan(FLEET, [replace(simple("a"), image=None)], World((going,)), Options()).changes[0].operation == "refuse"
    next_one = replace(there("a"), id="next")
    for both in ((going, next_one), (next_one, going)):
        assert make_plan(FLEET, [simple("a")], World(both), Options()).counts() == {"unchanged": 1}
    mine = Port("p", "a|private", NETWORKS[0], fleet=FLEET, server_id="a-id")
    plan = make_plan(FLEET, [simple("a", ports=(WantedPort(NETWORKS[0]),))], World((replace(going, ports=(mine,)),), ports=(mine,)), Options())
    assert not any(guard.needs(plan).values()), "what it gives up is taken over"


def test_an_instance_that_ran_and_is_in_error_is_not_touched_unasked():
    dead = there("a", status="ERROR", fault="disk on fire")
    assert make_plan(FLEET, [simple("a")], World((dead,)), Options()).changes[0].operation == "report"
    change = make_plan(FLEET, [simple("a")], World((dead,)), Options({"status": "replace"})).changes[0]
    assert change.operation == "refuse" and "allow_data_loss" in change.reasons[0]


def test_the_quota_of_the_whole_fleet_is_counted_and_by_how_much_it_is_exceeded():
    plan = make_plan(FLEET, [simple(name, ports=(WantedPort(NETWORKS[0]),)) for name in "abc"], World(), Options())
    assert guard.needs(plan)["cores"] == 3 and guard.needs(plan)["ports"] == 3
    with pytest.raises(Refused, match="cores: 3 more are needed, 8 of 10 are in use, so it is exceeded by 1"):
        guard.quota(plan, [Limit("cores", 10, 8), Limit("ram", -1, 0)])


def test_a_full_server_group_is_seen_before_the_first_is_made():
    group = ServerGroup("g", "spread", "anti-affinity", ("x", "y"), 3)
    plan = make_plan(FLEET, [simple(name, server_group=group) for name in "ab"], World(), Options())
    with pytest.raises(Refused, match="members of the server group spread: 2 more are needed, 2 of 3 are in use"):
        guard.quota(plan, [])


def test_the_table_begins_with_what_needs_attention():
    plan = make_plan(FLEET, [simple("a"), simple("new")], World((there("a"), there("old"))), Options(prune=True))
    assert [line.split()[:2] for line in plan.table().splitlines()] == [
        ["OPERATION", "INSTANCE"],
        ["delete", "old"],
        ["create", "new"],
        ["unchanged", "a"],
    ]


@pytest.mark.parametrize("limit", ["", "-1", "200%", "half", "%"])
def test_a_limit_that_is_none_is_refused(limit):
    plan = make_plan(FLEET, [simple("a")], World((there("a"), there("b"))), Options(prune=True))
    with pytest.raises(Exception, match="prune_limit is"):
        guard.guard(plan, Options(prune=True, prune_limit=limit))


def test_only_parts_that_were_made_for_an_instance_are_its_own():
    one = there("a")
    mine = Volume("v", "", fleet=FLEET, instance="a"), Port("p", "a|private", NETWORKS[0], fleet=FLEET), Floating("f", "203.0.113.5", fleet=FLEET)
    for part in mine:
        assert one.owns(part)
        assert not one.owns(replace(part, fleet="shop-2")) and not one.owns(replace(part, fleet=""))
        assert not there("b", metadata={}).owns(replace(part, fleet=""))
    assert not one.owns(replace(mine[0], instance="a-1")) and not one.owns(replace(mine[1], name="a-1|private"))


def test_a_boot_volume_that_was_given_is_not_said_to_be_rebuilt():
    given = WantedVolume("root", 10, "", Volume("v-own", "own", 10, server_id="a-1"))
    instance = replace(made(simple("a")), image_id="", volumes=(Volume("v-own", "own", 10, server_id="a-1", bootable=True),))
    same = simple("a", boot_volume=given)
    assert make_plan(FLEET, [same], world(instance), Options()).changes[0].operation == "unchanged"
    for action in ("rebuild", "replace"):
        change = make_plan(FLEET, [replace(same, image=IMAGES[2])], world(instance), Options({"image": action}, allow_data_loss=True)).changes[0]
        assert change.operation == "refuse" and "would boot the same system again" in change.reasons[0]
    change = make_plan(FLEET, [replace(same, state="rebuilt")], world(instance), Options(allow_data_loss=True)).changes[0]
    assert change.operation == "refuse" and "nothing to rebuild it from" in change.reasons[0]
    assert make_plan(FLEET, [replace(same, image=IMAGES[2])], world(instance), Options()).changes[0].operation == "report"


ELSEWHERE = {
    "port": ({"ports": (WantedPort(NETWORKS[0], port=Port("p-9", "theirs", NETWORKS[0], server_id="b-1")),)}, "the port p-9 is in use by b-1"),
    "volume": ({"volumes": (WantedVolume("theirs", 1, volume=Volume("v-9", "theirs", 1, server_id="b-1")),)}, "theirs .v-9. is attached to b-1"),
    "boot volume": ({"boot_volume": WantedVolume("root", 1, volume=Volume("v-9", "theirs", 1, server_id="b-1"))}, "theirs .v-9. is attached to b-1"),
    "floating address": ({"floating": Floating("f-9", "203.0.113.9", "p-9", "n-9")}, "203.0.113.9 is in use by the port p-9, not of this fleet"),
}


@pytest.mark.parametrize("part", ELSEWHERE)
@pytest.mark.parametrize("operation", ["create", "replace", "update"])
def test_what_another_instance_has_is_taken_from_nobody(part, operation):
    more, words = ELSEWHERE[part]
    one = simple("a", zone="z-2" if operation == "replace" else "", **more)
    now, chosen = made(simple("a")), Options({"zone": "replace"}, allow_data_loss=True)
    plan = make_plan(FLEET, [one], World() if operation == "create" else World((now,)), chosen)
    if plan.changes[0].operation == "refuse":
        assert "it is attached to another instance" in " ".join(plan.changes[0].reasons)
        return
    if part == "boot volume" and operation == "update":
        assert not plan.changes[0].writes  # it takes effect only with a replacement
        return
    assert plan.changes[0].operation == operation
    with pytest.raises(Refused, match=words):
        guard.guard(plan, chosen)
    # One that is deleted in the same run gives up what it has.
    theirs = replace(made(simple("a")), id="b-1", name="b", ports=(Port("p-9", "theirs", NETWORKS[0], server_id="b-1"),))
    going = replace(chosen, prune=True, prune_limit="100%")
    plan = make_plan(FLEET, [one], World((theirs,) if operation == "create" else (now, theirs)), going)
    guard.guard(plan, going)


def test_a_volume_that_two_instances_have_is_not_handed_on():
    """It never becomes free, so the old one would be gone and the new one would never come."""
    one = simple("a", volumes=(WantedVolume("data", 1),))
    now = replace(made(one), status="ERROR", volumes=(replace(made(one).volumes[0], shared=True),))
    chosen = Options({"status": "replace"}, allow_data_loss=True)
    with pytest.raises(Refused, match="is attached to another instance too, so it cannot be handed on"):
        guard.guard(make_plan(FLEET, [one], world(now), chosen), chosen)


def test_a_replacement_promises_only_the_addresses_that_it_hands_on():
    one = simple("a", ports=(WantedPort(NETWORKS[0]),), zone="z-2")
    surplus = Port("p-2", "a|storage", NETWORKS[1], ("10.1.0.9",), fleet=FLEET, server_id="a-1")
    kept = Port("p-1", "a|private", NETWORKS[0], ("10.0.0.5",), fleet=FLEET, server_id="a-1")
    chosen = Options({"zone": "replace"}, allow_data_loss=True)
    change = make_plan(FLEET, [one], world(replace(made(simple("a")), ports=(kept, surplus))), chosen).changes[0]
    assert change.operation == "replace" and change.keeps == ("address 10.0.0.5",)


def test_what_an_absent_instance_left_is_told():
    left = World(ports=(Port("p-1", "a|private", NETWORKS[0], fleet=FLEET),), volumes=(Volume("v-1", "a-data", 3, fleet=FLEET, instance="a", label="data"),))
    assert make_plan(FLEET, [simple("a", "absent")], left, Options()).leftovers == ("port a|private (p-1)", "volume a-data (v-1), 3 GB")
    assert make_plan(FLEET, [simple("a")], left, Options()).leftovers == ()


def test_a_volume_that_is_left_and_larger_is_refused_at_once():
    """Made anew with it, the instance would be refused by the very next run."""
    left = World(volumes=(Volume("v-1", "a-data", 3, fleet=FLEET, instance="a", label="data"),))
    change = make_plan(FLEET, [simple("a", volumes=(WantedVolume("data", 2),))], left, Options()).changes[0]
    assert change.operation == "refuse" and "a volume cannot become smaller" in change.reasons[0]


def test_a_failed_instance_that_somebody_locked_is_not_removed():
    failed = Instance("a-1", "a", "ERROR", launched=False, locked=True, metadata={provider.FLEET: FLEET})
    change = make_plan(FLEET, [simple("a")], World((failed,)), Options()).changes[0]
    assert change.operation == "refuse" and "the provider has locked it" in change.reasons[0]
