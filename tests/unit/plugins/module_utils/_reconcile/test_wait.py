# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of waiting that need no cluster; the rest is in tests/integration/test_wait.py."""

from __future__ import annotations

import math
from typing import Any, Dict

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Resource
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.claims import used_by
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import Health
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import MOMENT, Target, _Board, _judge_health, _selects, unhealthy

WEB = Ref("apps", "Deployment", "shop", "web")
DATABASE = Ref("apps", "StatefulSet", "shop", "database")
WELL = Health("Current", "")


def test_nothing_is_told_when_everything_is_current() -> None:
    assert unhealthy({WEB: WELL, DATABASE: WELL}, 3.0, 60.0) is None


def test_a_time_out_says_how_long_was_waited_and_what_is_missing() -> None:
    failure = unhealthy({WEB: Health("InProgress", "0 of 2 replicas ready"), DATABASE: WELL}, 60.2, 60.0)
    assert str(failure) == (
        "1 of 2 objects are not healthy after 60 s (wait_timeout is 60 s): Deployment.apps shop/web is InProgress: "
        "0 of 2 replicas ready. Everything was applied. Correct the cause in Git and run again, or raise wait_timeout."
    )


def test_what_cannot_mend_itself_is_not_called_late() -> None:
    failure = unhealthy({WEB: Health("Failed", "its progress deadline passed"), DATABASE: WELL}, 12.0, 300.0)
    assert "will not change by themselves" in str(failure) and "wait_timeout" not in str(failure)


def test_a_long_list_is_cut_in_the_message_but_not_in_the_result() -> None:
    bad = {Ref("apps", "Deployment", "shop", f"web-{number:02}"): Health("Failed", "") for number in range(15)}
    failure = unhealthy(bad, 1.0, 60.0)
    assert failure is not None and "and 5 more" in failure.what and len(failure.details["errors"]) == 15


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ({"matchLabels": {"app": "web"}}, {"app": "web", "tier": "front"}, True),
        ({"matchLabels": {"app": "web"}}, {"app": "api"}, False),
        ({"matchLabels": {"app": "web"}}, None, False),
        ({}, {"app": "web"}, False),
        (None, {"app": "web"}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}, {"app": "api"}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, {"app": "web"}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {"app": "web"}, True),
        ({"matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}, {"app": "web"}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Resembles"}]}, {"app": "web"}, False),
    ],
)
def test_a_workload_finds_its_pods_as_kubernetes_does(selector: Any, labels: Any, matches: bool) -> None:
    assert _selects(selector, labels) is matches


@pytest.mark.parametrize(
    ("group", "kind", "body", "known"),
    [
        ("", "ConfigMap", {"data": {}}, True),
        ("", "Namespace", {"status": {"phase": "Active"}}, True),
        ("apps", "Deployment", {"metadata": {"generation": 1}}, False),
        ("apiextensions.k8s.io", "CustomResourceDefinition", {"status": {}}, False),
        ("rbac.authorization.k8s.io", "Role", {}, True),
        ("example.com", "Widget", {"metadata": {"generation": 1}}, False),
    ],
)
def test_only_what_its_answer_settles_is_not_watched(
    group: str, kind: str, body: Dict[str, Any], known: bool
) -> None:
    target = Target.of(Resource(group, "v1", kind, kind.lower() + "s", True, ()), body)
    assert (target.known is not None) is known


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


WIDGET = Ref("example.com", "Widget", "shop", "one")
WIDGETS = Resource("example.com", "v1", "Widget", "widgets", True, (), status=True)


def _board(clock: Clock, resource: Resource = WIDGETS) -> _Board:
    board = _Board({WIDGET: Target.of(resource, {})}, _judge_health, clock, 2.0)
    board.saw(WIDGET, {"apiVersion": "example.com/v1", "kind": "Widget"})
    return board


def test_a_custom_resource_without_a_status_is_in_progress_for_a_moment_and_then_current() -> None:
    clock = Clock()
    board = _board(clock)
    assert board.health[WIDGET] == Health("InProgress", "no controller has reported on it yet") and not board.reached()
    assert board.reported_by_nobody() == clock.now + MOMENT
    clock.now += MOMENT
    assert board.reported_by_nobody() == math.inf
    assert board.health[WIDGET] == Health("Current", "no controller reports on it") and board.reached()


def test_the_moment_of_a_custom_resource_does_not_begin_anew_with_each_event() -> None:
    clock = Clock()
    board = _board(clock)
    clock.now += MOMENT
    board.saw(WIDGET, {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"labels": {"a": "b"}}})
    assert board.reached()


def test_a_status_that_comes_within_the_moment_is_the_verdict() -> None:
    clock = Clock()
    board = _board(clock)
    board.saw(WIDGET, {"apiVersion": "example.com/v1", "kind": "Widget", "status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    clock.now += MOMENT
    assert board.reported_by_nobody() == math.inf and board.health[WIDGET].status == "InProgress"


def test_a_kind_without_the_subresource_status_has_nobody_to_report_on_it() -> None:
    assert _board(Clock(), WIDGETS._replace(status=False)).reached()


def test_a_users_rule_judges_its_kind_in_a_wait() -> None:
    rules = {("example.com", "Widget"): lambda obj: Health("Failed", "as the rule says")}
    board = _Board({WIDGET: Target.of(WIDGETS, {}, rules)}, _judge_health, Clock(), 2.0)
    board.saw(WIDGET, {"apiVersion": "example.com/v1", "kind": "Widget"})
    assert board.health[WIDGET] == Health("Failed", "as the rule says")


POD_SPEC = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}


@pytest.mark.parametrize(
    ("kind", "spec", "claims"),
    [
        ("Deployment", {"template": {"spec": POD_SPEC}}, {"data"}),
        ("Deployment", {"replicas": 0, "template": {"spec": POD_SPEC}}, set()),
        ("Deployment", {"paused": True, "template": {"spec": POD_SPEC}}, set()),
        ("Job", {"suspend": True, "template": {"spec": POD_SPEC}}, set()),
        ("CronJob", {"jobTemplate": {"spec": {"template": {"spec": POD_SPEC}}}}, set()),
        ("Pod", POD_SPEC, {"data"}),
        ("Pod", None, set()),
        ("StatefulSet", {"replicas": 2, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}, {"data-db-0", "data-db-1"}),
        ("StatefulSet", {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}, {"data-db-0"}),
        ("VirtualMachine", {"template": {"spec": POD_SPEC}}, {"data"}),
    ],
)
def test_the_claims_of_the_pods_that_an_object_makes_now_are_known(kind: str, spec: Any, claims: set) -> None:
    assert used_by({"kind": kind, "metadata": {"name": "db"}, "spec": spec}) == claims
