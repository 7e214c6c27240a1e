# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each safety rule alone, in the words that a person reads."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Conflict, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import RULES, conflicts_refused, guard, limit_refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import Hook
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options, PruneLimit
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan


def hooked(name: str, *policies: str) -> Hook:
    intent = Intent(Ref("", "ConfigMap", "n", name), "v1", {}, f"{name}.yaml:1")
    return Hook("PreSync", 0, frozenset(policies), intent, Change("created", intent.ref, "", intent, replaces=True, hook=True))


@pytest.mark.parametrize("policies, prune, member, refused", [
    (("HookSucceeded",), False, True, True), (("BeforeHookCreation", "HookFailed"), False, True, True), (("BeforeHookCreation",), False, True, False),
    (("HookSucceeded",), True, True, False), (("HookSucceeded",), False, False, False)])
def test_with_prune_off_no_object_is_deleted_as_a_hook(policies: Any, prune: bool, member: bool, refused: bool) -> None:
    hook = hooked("web", *policies)
    found = plan(hooks=(hook,), given_up=(hook.change,) if member else ())
    if not refused:
        guard(found, options(prune=prune))
        return
    with pytest.raises(Refused, match="prune is off, and 1 object is to be run as a hook and deleted afterwards"):
        guard(found, options(prune=prune))


def test_an_object_that_becomes_a_hook_counts_for_the_limit_and_belongs_to_its_source() -> None:
    hook = hooked("web", "BeforeHookCreation")
    found = plan(hooks=(hook,), given_up=(hook.change,), owned=3)
    guard(found, options())
    with pytest.raises(Refused, match="would prune 0 and replace 1 of 3 objects, prune_limit is 0"):
        guard(found, options(prune_limit=PruneLimit.of("0")))
    with pytest.raises(Refused, match="belongs to git/a, not to git/b, and 1 objects of it would be pruned"):
        guard(plan(hooks=(hook,), given_up=(hook.change,), recorded_source="git/a", source="git/b"), options())


def test_what_an_unfinished_run_left_is_deleted_only_where_it_is_allowed() -> None:
    with pytest.raises(Refused, match="beyond allowed_namespaces"):
        guard(plan(left=(pruned(),)), options(allowed_namespaces=("m",)))


def options(**changed: Any) -> Options:
    values: Dict[str, Any] = {
        "name": "shop", "namespace": "", "inventory_namespace": "default", "adopt": "unowned", "prune": True,
        "prune_limit": PruneLimit.of("50%"), "prune_protected": False, "allow_empty": False, "on_conflict": "force",
        "replace_immutable": False, "move": False, "expect": "", "verify": "auto", "wait": True, "wait_timeout": 60.0,
        "check_mode": False, "diff": False}
    return Options(**{**values, **changed})


def pruned(name: str = "c") -> Change:
    return Change("pruned", Ref("", "ConfigMap", "n", name), "no longer in Git", None, None, None, {"metadata": {"name": name, "uid": name}})


def wanted(operation: str = "unchanged", kind: str = "ConfigMap", name: str = "kept", namespace: str = "n",
           conflicts: Optional[List[Conflict]] = None, reason: str = "in sync", replaces: bool = False) -> Change:
    ref = Ref("", kind, namespace, name)
    return Change(operation, ref, reason, Intent(ref, "v1", {}, f"{name}.yaml:1"), conflicts=conflicts or [], replaces=replaces)


def plan(*changes: Change, owned: int = 100, **more: Any) -> Plan:
    return Plan(changes, owned=owned, **more)


@pytest.mark.parametrize("allowed, change, beyond", [
    ({"allowed_kinds": ("ConfigMap",)}, wanted("created"), ""),
    ({"allowed_kinds": ("Deployment.apps", "Config*")}, wanted("unchanged"), ""),
    ({"allowed_kinds": ("Deployment.apps",)}, wanted("unchanged"), "allowed_kinds"),
    ({"allowed_kinds": ("configmap",)}, wanted("created"), "allowed_kinds"),
    ({"allowed_kinds": ("Secret",)}, pruned(), "allowed_kinds"),
    ({"allowed_namespaces": ("n",)}, wanted("created"), ""),
    ({"allowed_namespaces": ("shop-*",)}, wanted("created", namespace="shop-a"), ""),
    ({"allowed_namespaces": ("shop-*",)}, wanted("configured"), "allowed_namespaces"),
    ({"allowed_namespaces": ("m",)}, pruned(), "allowed_namespaces"),
    ({"allowed_namespaces": ("n",)}, wanted("created", "ClusterRole", namespace=""), "allowed_namespaces"),
    ({"allowed_namespaces": ("n",), "allowed_kinds": ("ClusterRole",)}, wanted("created", "ClusterRole", namespace=""), ""),
    ({"allowed_namespaces": ("n",), "allowed_kinds": ("ConfigMap",)}, wanted("created", "ClusterRole", namespace=""), "allowed_kinds and allowed_namespaces"),
])
def test_a_repository_touches_only_what_is_allowed(allowed: Dict[str, Any], change: Change, beyond: str) -> None:
    if not beyond:
        guard(plan(change), options(**allowed))
        return
    with pytest.raises(Refused, match=f"1 object is beyond {beyond}: .*{change.ref.name}"):
        guard(plan(change), options(**allowed, allow_empty=True))


def test_an_empty_render_prunes_nothing_unasked() -> None:
    with pytest.raises(Refused, match="renders to nothing.*allow_empty"):
        guard(plan(pruned(), owned=1), options())
    guard(plan(pruned(), owned=1), options(allow_empty=True))


def test_an_empty_render_of_an_empty_set_is_nothing_to_refuse() -> None:
    guard(plan(owned=0), options())


def test_no_more_is_pruned_than_the_limit_and_the_refusal_names_what() -> None:
    doomed = [pruned(f"c{number}") for number in range(7)]
    with pytest.raises(Refused) as error:
        guard(plan(*doomed, wanted(), owned=20), options(prune_limit=PruneLimit.of("6")))
    assert "would prune 7 of 20" in str(error.value) and "ConfigMap n/c0" in str(error.value) and "and 2 more" in str(error.value)
    guard(plan(*doomed, wanted(), owned=20), options(prune_limit=PruneLimit.of("7")))


def test_what_is_deleted_to_be_created_again_counts_against_the_limit() -> None:
    changes = [pruned(), wanted("configured", name="a", replaces=True), wanted("configured", name="b", replaces=True)]
    with pytest.raises(Refused, match="would prune 1 and replace 2 of 20 objects"):
        guard(plan(*changes, owned=20), options(prune_limit=PruneLimit.of("2")))
    guard(plan(*changes, owned=20), options(prune_limit=PruneLimit.of("3")))


def test_nothing_is_applied_while_something_of_others_is_in_the_way() -> None:
    with pytest.raises(Refused) as error:
        guard(plan(wanted("skipped", name="theirs", reason="belongs to Flux"), wanted("created", name="new")), options())
    assert "theirs.yaml:1" in str(error.value) and "belongs to Flux" in str(error.value)


def test_a_conflict_is_refused_only_when_asked_to() -> None:
    def change() -> Change:
        return wanted("configured", conflicts=[Conflict(Ref("", "ConfigMap", "n", "kept"), ".data.k", "some-operator")])

    with pytest.raises(Refused) as error:
        guard(plan(change()), options(on_conflict="fail"))
    assert ".data.k (some-operator)" in str(error.value)
    for choice in ("force", "keep"):
        guard(plan(change()), options(on_conflict=choice))


def test_another_repository_or_path_under_the_same_name_is_refused_unless_it_moved() -> None:
    moved = plan(wanted(), pruned(), recorded_source="https://git.example.org/a path x", source="https://git.example.org/a path y")
    with pytest.raises(Refused, match="belongs to https://git.example.org/a path x, not to https://git.example.org/a path y.*move: true"):
        guard(moved, options())
    guard(moved, options(move=True))
    guard(plan(wanted(), pruned(), source="https://git.example.org/a path y"), options())


def test_another_url_of_the_same_objects_is_not_refused() -> None:
    guard(plan(wanted("configured"), recorded_source="https://git.example.org/a", source="ssh://git.example.org/a"), options())


def test_only_the_expected_plan_is_applied() -> None:
    known = plan(wanted("created"))
    guard(known, options(expect=known.id))
    with pytest.raises(Refused, match="changed since it was shown"):
        guard(plan(wanted("created", name="other")), options(expect=known.id))


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(Refused) as error:
        guard(plan(pruned(), wanted("skipped", reason="belongs to Flux"), owned=1), options(prune_limit=PruneLimit.of("0")))
    assert "belongs to Flux" in str(error.value) and "prune_limit" in str(error.value) and len(error.value.details["errors"]) == 2


def test_every_rule_says_nothing_about_a_plan_that_changes_nothing() -> None:
    assert [rule(plan(wanted()), options()) for rule in RULES] == [""] * len(RULES)


def test_every_rule_of_the_file_is_in_the_table() -> None:
    public = {value for name, value in vars(sys.modules[guard.__module__]).items()
              if callable(value) and getattr(value, "__module__", "") == guard.__module__ and not name.startswith("_")}
    assert public - {guard, conflicts_refused, limit_refused} == set(RULES)
