# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health is a pure function: one table of objects as a server returns them, and a property over arbitrary ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import (
    HEALTH,
    STATUSES,
    Health,
    health,
    pods_reason,
)

TABLE = yaml.safe_load((Path(__file__).parent / "health_cases.yml").read_text())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["case"])
def test_health_says_what_is_missing(row: dict) -> None:
    found = health(row["of"])
    assert found.status == row["is"]
    if "says" in row:
        assert row["says"] in found.message
    else:
        assert found.message == "", "a row without `says` promises that there is nothing to say"


def test_every_row_of_the_health_table_has_a_case() -> None:
    tried = {(row["of"]["apiVersion"].rpartition("/")[0], row["of"]["kind"]) for row in TABLE}
    # These share a rule, made by _by_condition or _by_phase, with a kind that has a case.
    same_rule = {
        ("", "ReplicationController"),
        ("argoproj.io", "Workflow"),
        ("cert-manager.io", "Issuer"),
        ("cert-manager.io", "ClusterIssuer"),
        ("kustomize.toolkit.fluxcd.io", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "HelmRelease"),
        ("source.toolkit.fluxcd.io", "GitRepository"),
        ("source.toolkit.fluxcd.io", "HelmRepository"),
        ("source.toolkit.fluxcd.io", "OCIRepository"),
        ("external-secrets.io", "ExternalSecret"),
        ("gateway.networking.k8s.io", "Gateway"),
    }
    assert set(HEALTH) - tried == same_rule


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

WORDS = some.sampled_from(
    "True False Unknown Ready Available Progressing Established NamesAccepted Complete Failed Synced Reconciling Stalled AbleToScale ScalingActive "
    "PodScheduled ProgressDeadlineExceeded Running Pending Bound Lost Active OnDelete LoadBalancer CrashLoopBackOff ErrImagePull Healthy Degraded".split()
)
KEYS = some.sampled_from(
    "metadata spec status conditions type reason message generation observedGeneration deletionTimestamp finalizers replicas updatedReplicas readyReplicas "
    "availableReplicas paused suspend completions phase containerStatuses initContainerStatuses state lastState "
    "waiting terminated exitCode name health sync source "
    "comparedTo operationState loadBalancer ingress updateStrategy rollingUpdate partition startTime ttlSecondsAfterFinished desiredNumberScheduled".split()
)
SCALARS = (
    some.none() | some.booleans() | some.integers(-3, 5) | some.floats(allow_nan=True) | some.text(max_size=4) | WORDS
)
JSON = some.recursive(
    SCALARS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS | some.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
KINDS = some.sampled_from([*HEALTH, ("example.com", "Widget"), ("", "ConfigMap")])
CONDITIONS = some.lists(
    some.fixed_dictionaries(
        {"type": WORDS | JSON, "status": WORDS | JSON},
        optional={"reason": JSON, "message": JSON, "observedGeneration": JSON},
    ),
    max_size=4,
)


@some.composite
def objects(draw: some.DrawFn) -> dict:
    group, kind = draw(KINDS)
    status = draw(some.dictionaries(KEYS, JSON, max_size=8) | JSON)
    if isinstance(status, dict) and draw(some.booleans()):
        status["conditions"] = draw(CONDITIONS)
    return {
        "apiVersion": f"{group}/v1" if group else "v1",
        "kind": kind,
        "metadata": draw(JSON),
        "spec": draw(some.dictionaries(KEYS, JSON, max_size=5) | JSON),
        "status": status,
    }


@given(JSON | objects())
def test_health_answers_whatever_the_server_sends(value: object) -> None:
    found = health(value)
    assert found.status in STATUSES
    assert isinstance(found.message, str) and "\n" not in found.message


@given(some.lists(JSON | objects(), max_size=3))
def test_a_reason_is_one_line_whatever_the_pods_hold(pods: list) -> None:
    assert "\n" not in pods_reason(pods)
