# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health rules that a user writes: what they may say, what is refused, and that an evaluation ends."""

from __future__ import annotations

import sys
import time
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import health_cel
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import STATUSES, Health, health
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_cel import LONGEST, SECONDS, read_rules

DATABASE = {
    "api_version": "example.com/v1",
    "kind": "Database",
    "inProgress": "status.stage in ['restoring', 'replaying']",
    "failed": "status.stage == 'lost' || has(status.failure)",
    "current": "status.conditions.exists(e, e.type == 'Serving' && e.status == 'True')",
}
RULES = read_rules([DATABASE])


def database(**status: Any) -> Dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Database", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ({"stage": "restoring"}, "InProgress"),
        ({"stage": "lost"}, "Failed"),
        ({"stage": "x", "failure": "disk"}, "Failed"),
        ({"stage": "serving", "conditions": [{"type": "Serving", "status": "True"}]}, "Current"),
        ({"stage": "restoring", "conditions": [{"type": "Serving", "status": "True"}]}, "InProgress"),
        ({"stage": "serving", "conditions": [{"type": "Serving", "status": "False"}]}, "InProgress"),
        ({}, "InProgress"),
        ({"observedGeneration": 1, "conditions": [{"type": "Serving", "status": "True"}]}, "InProgress"),
    ],
)
def test_the_expressions_are_asked_as_flux_asks_them(status: Dict[str, Any], verdict: str) -> None:
    assert health(database(**status), RULES).status == verdict


def test_a_rule_holds_for_its_kind_in_every_version_and_for_no_other() -> None:
    assert health({**database(stage="lost"), "apiVersion": "example.com/v2"}, RULES).status == "Failed"
    assert health(database(stage="x", failure="disk"), RULES).status == "Failed"
    assert health({**database(stage="x", failure="disk"), "kind": "Other"}, RULES).status == "Current"


def test_a_rule_takes_the_place_of_the_collections_own() -> None:
    rules = read_rules([{"api_version": "v1", "kind": "ConfigMap", "current": "has(data.ready)"}])
    assert health({"apiVersion": "v1", "kind": "ConfigMap", "data": {}}, rules).status == "InProgress"
    assert health({"apiVersion": "v1", "kind": "ConfigMap", "data": {"ready": "x"}}, rules).status == "Current"


def test_what_is_being_deleted_is_terminating_whatever_a_rule_says() -> None:
    obj = database(conditions=[{"type": "Serving", "status": "True"}])
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert health(obj, RULES).status == "Terminating"


def test_a_missing_field_is_told_and_no_error() -> None:
    found = health(database(), RULES)
    assert "no such member in mapping: 'stage'" in found.message and "activation" not in found.message


@pytest.mark.parametrize(
    ("row", "where", "said"),
    [
        ({"current": "status.(x"}, "health_rules[1].current", "not a CEL expression"),
        ({"current": "status.x = 1"}, "health_rules[1].current", "not a CEL expression"),
        ({"failed": "statuss.x == 1"}, "health_rules[1].failed", "unknown name statuss"),
        ({"inProgress": "ready(status)"}, "health_rules[1].inProgress", "no function ready"),
        ({"current": "status.x.isReady()"}, "health_rules[1].current", "no function isReady"),
        ({"current": "[1].reduce(a, b, 0, a + b) == 1"}, "health_rules[1].current", "no function reduce"),
        ({"current": "true || " * LONGEST + "true"}, "health_rules[1].current", "characters"),
        ({"current": "(" * 1500 + "true" + ")" * 1500}, "health_rules[1].current", "nested too deeply"),
        ({"current": ""}, "health_rules[1]", "are required"),
        ({"kind": ""}, "health_rules[1]", "are required"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_its_place(row: Dict[str, str], where: str, said: str) -> None:
    with pytest.raises(Failure) as error:
        read_rules([{**DATABASE, **row}])
    assert error.value.where == where and said in str(error.value)


def test_two_rules_for_one_kind_are_refused() -> None:
    with pytest.raises(Failure, match=r"health_rules\[2\]: there is another rule for Database.example.com"):
        read_rules([DATABASE, {**DATABASE, "api_version": "example.com/v2"}])


@pytest.mark.parametrize(
    "expression",
    [
        "status.n.all(a, status.n.all(b, status.n.all(c, status.n.all(d, a + b + c + d >= 0))))",
        "status.s" + ".map(a, a + a)" * 60 + " == status.s",
        "status.n" + ".map(a, status.n)" * 12 + " == status.n",
        "status.t.matches('(a+)+$')",
    ],
)
def test_an_evaluation_ends_whatever_it_is_made_of(expression: str) -> None:
    rules = read_rules([{**DATABASE, "inProgress": "", "failed": "", "current": expression}])
    obj = database(n=list(range(500)), s=["aaaaaaaaaa"], t="a" * 5000 + "b")
    began = time.process_time()
    found = health(obj, rules)
    # Processor time, so that a busy machine does not matter: the limit, and what one step may add to it.
    assert time.process_time() - began < SECONDS * 10
    assert found.status == "InProgress"


def test_an_expression_that_is_neither_true_nor_false_is_told() -> None:
    rules = read_rules([{**DATABASE, "inProgress": "", "failed": "", "current": "spec.replicas"}])
    assert "not true or false" in health(database(), rules).message


def test_a_machine_without_the_library_is_told_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    health_cel._library.cache_clear()
    monkeypatch.setitem(sys.modules, "celpy", None)
    try:
        with pytest.raises(Failure, match="cel-python>=0.4"):
            read_rules([DATABASE])
    finally:
        health_cel._library.cache_clear()


def test_nobody_needs_the_library_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celpy", None)
    assert read_rules([]) == {}


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=3) | some.sampled_from(["Serving", "True", "lost"]),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from("stage failure conditions type status".split()), inner, max_size=4),
    max_leaves=15,
)


@given(JSON, JSON)
def test_a_rule_answers_whatever_the_server_sends(status: Any, metadata: Any) -> None:
    found = health({"apiVersion": "example.com/v1", "kind": "Database", "metadata": metadata, "status": status}, RULES)
    assert found.status in STATUSES and isinstance(found, Health) and "\n" not in found.message
