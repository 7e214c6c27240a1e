# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health is a pure function: one table of objects as a server returns them, and a property over arbitrary ones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import (
    HEALTH,
    ROWS,
    STATUSES,
    Health,
    health,
    pods_reason,
    rule_of,
)
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_rules import (
    FAILED_TYPES,
    READY_TYPES,
    RULES,
    STILL_TYPES,
    SUMMARY,
    WORDS,
    WORKING_TYPES,
    kinds_of,
)

TABLE = yaml.safe_load((Path(__file__).parent / "health_cases.yml").read_text())


REFERENCES = {"Healthy": "Current", "Suspended": "Current", "Progressing": "InProgress", "Degraded": "Failed", "Missing": "NotFound"}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["case"])
def test_health_says_what_is_missing(row: dict) -> None:
    found = health(row["of"])
    assert found.status == row["is"]
    if "says" in row:
        assert row["says"] in found.message
    else:
        assert found.message == "", "a row without `says` promises that there is nothing to say"


def test_no_case_is_told_twice() -> None:
    assert not [case for case, times in Counter(row["case"] for row in TABLE).items() if times > 1]


def test_the_table_has_the_cases_and_kinds_that_the_documentation_promises() -> None:
    assert len(TABLE) >= 250
    assert len({_key(row["of"]) for row in TABLE}) >= 80


def test_where_kstatus_or_argo_cd_would_say_otherwise_a_case_says_why_we_differ() -> None:
    for row in TABLE:
        said = {REFERENCES.get(row[name], row[name]) for name in ("kstatus", "argo") if name in row}
        assert row["is"] not in said, row["case"]
        assert bool(said) == bool(row.get("why")), row["case"]


def _key(obj: dict) -> tuple:
    return obj.get("apiVersion", "").rpartition("/")[0], obj["kind"]


def test_every_rule_has_a_case() -> None:
    tried = {_key(row["of"]) for row in TABLE}
    assert not set(HEALTH) - tried
    used = [rule_of(*key) for key in tried]
    assert not [rule.kinds for rule in RULES if not any(rule is one for one in used)]


def test_no_kind_has_two_rules() -> None:
    named = Counter([*HEALTH, *(key for rule in RULES for key in kinds_of(rule))])
    # Rollout has a row for its phases and a function for the statuses of old that have none.
    assert {key for key, times in named.items() if times > 1} == {("argoproj.io", "Rollout")}


def test_no_word_and_no_type_of_condition_has_two_meanings() -> None:
    words = Counter(word for meaning in WORDS.values() for word in meaning.split())
    types = Counter([*READY_TYPES, *FAILED_TYPES, *WORKING_TYPES, *STILL_TYPES])
    assert not [word for word, times in (words + types).items() if times > 1]
    assert not [word for word in words if word != "".join(character for character in word.lower() if character.isalnum())]


def test_every_word_of_a_rule_has_a_meaning() -> None:
    for rule in RULES:
        assert set(rule.words.values()) | {rule.other} <= set(WORDS), rule.kinds


def test_an_object_that_is_not_there_is_not_found() -> None:
    assert health(None) == Health("NotFound", "not in the cluster")


def _pod(name: str, reason: str, message: str = "", **more: object) -> dict:
    waiting = {"reason": reason, "message": message}
    return {
        "kind": "Pod",
        "metadata": {"name": name, **more},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "app", "state": {"waiting": waiting}}]},
    }


def test_pods_with_the_same_reason_are_told_once_and_the_commonest_first() -> None:
    pods = [
        _pod("a", "ErrImagePull", "denied"),
        _pod("b", "ImagePullBackOff", "back-off"),
        _pod("c", "ImagePullBackOff", "back-off"),
    ]
    assert (
        pods_reason(pods)
        == "Pod b and 1 more: container app: ImagePullBackOff: back-off; Pod a: container app: ErrImagePull: denied"
    )


def test_a_pod_on_its_way_out_says_nothing_about_the_new_ones() -> None:
    assert pods_reason([_pod("old", "CrashLoopBackOff", deletionTimestamp="2026-01-01T00:00:00Z")]) == ""


def test_a_pod_that_is_fine_gives_no_reason() -> None:
    assert (
        pods_reason(
            [
                {
                    "kind": "Pod",
                    "metadata": {"name": "a"},
                    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
                }
            ]
        )
        == ""
    )


# Any JSON, and JSON whose keys and words are those that the rules look for, so that they are reached.

PATHS = " ".join(" ".join((rule.state, rule.counts, rule.equal, rule.errors, rule.parts, rule.holds, rule.off, rule.runs, rule.seen)) for rule in RULES)
TYPES = {kind.rstrip("?!") for rule in RULES for kind in f"{rule.ready} {rule.failed} {rule.working} {rule.still}".split()}
WORD = some.sampled_from(
    sorted({*" ".join(WORDS.values()).split(), *TYPES, *SUMMARY, *READY_TYPES, *FAILED_TYPES, *WORKING_TYPES, *STILL_TYPES,
            *(word for rule in RULES for word in rule.words)})
    + "True False Unknown Reconciling Stalled AbleToScale ScalingActive PodScheduled ProgressDeadlineExceeded ReplicaFailure OnDelete LoadBalancer "
      "ReplicaSetCreateError FailureTarget CrashLoopBackOff Never 2/3 7".split()
)
KEY = some.sampled_from(
    sorted(set(re.findall(r"[A-Za-z]+", PATHS)))
    + "type reason message generation observedGeneration deletionTimestamp finalizers annotations labels updatedReplicas suspend completions containerStatuses "
      "initContainerStatuses lastState waiting terminated exitCode name sync source comparedTo operationState loadBalancer updateStrategy startTime "
      "ttlSecondsAfterFinished desiredNumberScheduled currentPodHash blueGreen canary strategy externalIPs expectedPods".split()
)
SCALARS = (
    some.none() | some.booleans() | some.integers(-3, 5) | some.floats(allow_nan=True) | some.text(max_size=4) | WORD
)
JSON = some.recursive(
    SCALARS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEY | some.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
KINDS = some.sampled_from([*HEALTH, *ROWS, ("example.com", "Widget"), ("example.com", "BackupJob"), ("", "ConfigMap")])
CONDITIONS = some.lists(
    some.fixed_dictionaries(
        {"type": WORD | JSON, "status": some.sampled_from(["True", "False", "Unknown", True, False]) | JSON},
        optional={"reason": WORD | JSON, "message": JSON, "observedGeneration": JSON, "lastTransitionTime": JSON, "severity": JSON},
    ),
    max_size=4,
)


@some.composite
def statuses(draw: some.DrawFn) -> object:
    status = draw(some.dictionaries(KEY, JSON, max_size=8) | JSON)
    if isinstance(status, dict) and draw(some.booleans()):
        status["conditions"] = draw(CONDITIONS)
        part = draw(some.sampled_from(["parents", "listeners", "ancestors", "ingress", "podStatus"]))
        status[part] = draw(some.lists(some.fixed_dictionaries({"conditions": CONDITIONS}), max_size=2) | JSON)
    return status


@some.composite
def objects(draw: some.DrawFn) -> dict:
    group, kind = draw(KINDS)
    group = group.replace("*", "x")
    return {
        "apiVersion": f"{group}/v1" if group else "v1",
        "kind": kind,
        "metadata": draw(JSON),
        "spec": draw(some.dictionaries(KEY, JSON, max_size=5) | JSON),
        "status": draw(statuses()),
    }


@given(JSON | objects())
def test_health_answers_whatever_the_server_sends(value: object) -> None:
    found = health(value)
    assert found.status in STATUSES
    assert isinstance(found.message, str) and "\n" not in found.message


def _turned(value: object, order: Random) -> object:
    """The same value with keys, conditions and what else is a set in the API in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: _shuffled(value[key], order) if key == "conditions" else _turned(value[key], order) for key in keys}
    return [_turned(item, order) for item in value] if isinstance(value, list) else value


def _shuffled(value: object, order: Random) -> object:
    turned = _turned(value, order)
    if isinstance(turned, list):
        order.shuffle(turned)
    return turned


@given(objects(), some.randoms(use_true_random=False))
def test_the_order_of_conditions_and_keys_does_not_change_the_verdict(value: dict, order: Random) -> None:
    assert health(_turned(value, order)).status == health(value).status


def test_the_order_of_conditions_and_keys_does_not_change_the_verdict_of_any_case() -> None:
    for row in TABLE:
        for seed in range(5):
            assert health(_turned(row["of"], Random(seed))).status == row["is"], row["case"]


@given(objects())
def test_judging_an_object_does_not_change_it(value: dict) -> None:
    before = repr(value)
    health(value)
    assert repr(value) == before


@given(some.lists(JSON | objects(), max_size=3))
def test_a_reason_is_one_line_whatever_the_pods_hold(pods: list) -> None:
    assert "\n" not in pods_reason(pods)
