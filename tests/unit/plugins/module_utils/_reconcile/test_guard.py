# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each safety rule alone, in the words that a person reads."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import KEEP, KEEPING, RULES, guard
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Conflict, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options, PruneLimit
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan


def options(**changed: Any) -> Options:
    values: Dict[str, Any] = {
        "name": "shop", "namespace": "", "inventory_namespace": "default", "adopt": "unowned", "prune": True,
        "prune_limit": PruneLimit.of("50%"), "prune_protected": False, "allow_empty": False, "on_conflict": "force",
        "replace_immutable": False, "verify": "auto", "wait": True, "wait_timeout": 60.0, "check_mode": False, "diff": False}
    return Options(**{**values, **changed})


def live(kind: str = "ConfigMap", name: str = "c", namespace: str = "n", group: str = "", applied: bool = True, **metadata: Any) -> Change:
    """An object of the set that Git no longer has."""
    entry = {"manager": "nordic-gitops", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {f"f:{PART_OF}": {}}}}}
    before = {"metadata": {"name": name, "uid": name, "managedFields": [entry] if applied else [], **metadata}}
    return Change("pruned", Ref(group, kind, namespace, name), "no longer in Git", None, None, None, before)


def wanted(operation: str = "unchanged", kind: str = "ConfigMap", name: str = "kept", namespace: str = "n",
           conflicts: Optional[List[Conflict]] = None, reason: str = "in sync") -> Change:
    ref = Ref("", kind, namespace, name)
    return Change(operation, ref, reason, Intent(ref, "v1", {}, f"{name}.yaml:1"), conflicts=conflicts or [])


def plan(*changes: Change, owned: int = 100) -> Plan:
    return Plan(list(changes), owned=owned)


def test_what_git_no_longer_has_is_pruned() -> None:
    change = live()
    guard(plan(change, wanted()), options())
    assert change.operation == "pruned"


def kept(change: Change, *others: Change, **changed: Any) -> str:
    """The reason for which the guard keeps an object that would be pruned."""
    guard(plan(change, wanted(), *others), options(**changed))
    assert change.operation == "skipped"
    return change.reason


def test_nothing_is_pruned_when_prune_is_off() -> None:
    assert kept(live(), prune=False) == "prune is off"


@pytest.mark.parametrize("key, value", [(key, value) for key, values in KEEP for value in values])
def test_nothing_is_pruned_that_says_so_itself(key: str, value: str) -> None:
    assert value in kept(live(annotations={key: value})) and key in kept(live(annotations={key: f"Validate=false, {value}"}))


@pytest.mark.parametrize("key", [key for key, _values in KEEP])
def test_another_value_of_such_an_annotation_keeps_nothing(key: str) -> None:
    change = live(annotations={key: "Prune=true"})
    guard(plan(change, wanted()), options())
    assert change.operation == "pruned"


def test_nothing_is_deleted_twice() -> None:
    assert "being deleted already" in kept(live(deletionTimestamp="2026-01-01T00:00:00Z"))


def test_what_a_controller_made_goes_with_its_owner_only() -> None:
    assert kept(live(ownerReferences=[{"kind": "ReplicaSet", "name": "web-1", "controller": True}])) == "belongs to ReplicaSet web-1"
    change = live(ownerReferences=[{"kind": "Node", "name": "one"}])
    guard(plan(change, wanted()), options())
    assert change.operation == "pruned"


def test_a_copy_that_carries_our_label_is_not_ours() -> None:
    assert "was not applied by nordic-gitops" in kept(live(applied=False))


@pytest.mark.parametrize("group, kind", [("apiextensions.k8s.io", "CustomResourceDefinition"), ("", "Namespace")])
def test_no_crd_and_no_namespace_is_pruned_unasked(group: str, kind: str) -> None:
    assert "prune_protected" in kept(live(kind, "x", "", group))
    change = live(kind, "x", "", group)
    guard(plan(change, wanted()), options(prune_protected=True))
    assert change.operation == "pruned"


def test_a_kind_that_is_only_called_namespace_is_no_namespace() -> None:
    change = live("Namespace", "x", "", "example.com")
    guard(plan(change, wanted()), options())
    assert change.operation == "pruned"


@pytest.mark.parametrize("operation", ["created", "configured", "unchanged", "skipped"])
def test_no_namespace_is_pruned_that_git_still_fills(operation: str) -> None:
    change, inside = live("Namespace", "full", ""), wanted(operation, namespace="full")
    if operation == "skipped":
        inside.intent = None
    assert "Git still has ConfigMap full/kept in it" in kept(change, inside, prune_protected=True)


def test_an_empty_render_prunes_nothing_unasked() -> None:
    with pytest.raises(Refused, match="renders to nothing.*allow_empty"):
        guard(plan(live(), owned=1), options())
    guard(plan(live(), owned=1), options(allow_empty=True))


def test_an_empty_render_of_an_empty_set_is_nothing_to_refuse() -> None:
    guard(plan(owned=0), options())


def test_no_more_is_pruned_than_the_limit_and_the_refusal_names_what() -> None:
    doomed = [live(name=f"c{number}") for number in range(7)]
    with pytest.raises(Refused) as error:
        guard(plan(*doomed, wanted(), owned=20), options(prune_limit=PruneLimit.of("6")))
    assert "would prune 7 of 20" in str(error.value) and "ConfigMap n/c0" in str(error.value) and "and 2 more" in str(error.value)
    guard(plan(*doomed, wanted(), owned=20), options(prune_limit=PruneLimit.of("7")))


def test_what_is_kept_does_not_count_against_the_limit() -> None:
    staying = [live(name=f"c{number}", annotations={"nordic.gitops/prune": "disabled"}) for number in range(9)]
    guard(plan(*staying, live(name="goes"), wanted(), owned=10), options(prune_limit=PruneLimit.of("1")))


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
    assert error.value.details["conflicts"] == [{"object": "ConfigMap n/kept", "field": ".data.k", "manager": "some-operator"}]
    for choice in ("force", "keep"):
        guard(plan(change()), options(on_conflict=choice))


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(Refused) as error:
        guard(plan(live(), wanted("skipped", reason="belongs to Flux"), owned=1), options(prune_limit=PruneLimit.of("0")))
    assert "belongs to Flux" in str(error.value) and "prune_limit" in str(error.value)


def test_every_rule_says_nothing_about_a_plan_that_changes_nothing() -> None:
    calm = plan(wanted())
    assert [rule(calm, options()) for rule in RULES] == [""] * len(RULES)
    assert [rule(live(), calm, options()) for rule in KEEPING] == [""] * len(KEEPING)


def test_every_rule_of_the_file_is_in_one_of_the_two_tables() -> None:
    public = {value for name, value in vars(sys.modules[guard.__module__]).items()
              if callable(value) and getattr(value, "__module__", "") == guard.__module__ and not name.startswith("_") and value is not guard}
    assert public == set(RULES) | set(KEEPING)
