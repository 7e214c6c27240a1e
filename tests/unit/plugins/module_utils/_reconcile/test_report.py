# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells a person: counts and reasons as data, a diff to read, and no secret in either."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Dict, Optional

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, FAILED, Health
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Conflict, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import Report, mask, result_of
from hypothesis import given
from hypothesis import strategies as st
from reconciling import assert_as_documented

WEB = Ref("apps", "Deployment", "shop", "web")
SECRET = Ref("", "Secret", "shop", "login")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def report(*changes: Change, check_mode: bool = False, waited: bool = False, health: Any = None, **more: Any) -> Report:
    """The report of a run that did all that was planned, or in check mode of the plan."""
    result = Report(check_mode, **{"diff": True, "commit": "3f78", "plan": Plan(changes), **more})
    for change in changes if not check_mode else ():
        if change.operation == "pruned":
            result.outcomes.deleted(change, change.before or {})
        elif change.operation in ("created", "configured"):
            result.outcomes.written(change, change.operation, change.before, change.after or {})
    result.outcomes.waited = waited
    result.outcomes.health.update(health or {})
    return result


def stored(ref: Ref, ours: Dict[str, Any], **body: Any) -> Dict[str, Any]:
    """An object as the server answers it: ours are the fields that our manager applied."""
    metadata = {"name": ref.name, "namespace": ref.namespace, "uid": "1", "resourceVersion": "7", "managedFields": [
        {"manager": "nordic-gitops", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": ours}]}
    return {"apiVersion": "v1", "kind": ref.kind, **body, "metadata": {**metadata, **body.get("metadata", {})}}


def changed(ref: Ref, before: Optional[Dict[str, Any]], after: Optional[Dict[str, Any]], operation: str = "configured") -> Change:
    intent = Intent(ref, "v1", after, "shop/web.yaml:4") if after is not None and operation != "pruned" else None
    return Change(operation, ref, "because", intent, None, after, before, after)


# ---- counts and words


def test_every_operation_is_counted_and_only_what_is_not_unchanged_is_listed():
    plan = [Change(operation, WEB._replace(name=f"{operation}-{number}"), "because")
            for operation, count in (("created", 2), ("configured", 1), ("unchanged", 5), ("pruned", 3), ("skipped", 1)) for number in range(count)]
    result = report(*plan).result()
    assert result["counts"] == {"created": 2, "configured": 1, "unchanged": 5, "pruned": 3, "skipped": 1, "failed": 0}
    assert len(result["changes"]) == 7 and result["changed"]
    assert result["changes"][0] == {"operation": "created", "reason": "because", "object": {
        "group": "apps", "kind": "Deployment", "namespace": "shop", "name": "created-0"}}


def test_nothing_to_do_is_no_change_whatever_was_skipped():
    result = report(Change("unchanged", WEB), Change("skipped", SECRET, "its annotation says so")).result()
    assert not result["changed"] and result["in_sync"] and result["diff"] == []


def test_a_change_names_its_place_and_what_could_not_be_verified():
    change = replace(changed(WEB, None, {"spec": {}}, "created"), unverified="its CRD is created by the same run")
    entry = report(change, check_mode=True, diff=False).result()["changes"][0]
    assert entry["source"] == "shop/web.yaml:4" and entry["unverified"] == "its CRD is created by the same run"


def test_check_mode_is_in_sync_only_when_there_is_nothing_to_do():
    for operation in ("created", "configured", "pruned"):
        assert not report(Change(operation, WEB), check_mode=True).result()["in_sync"]
        assert report(Change(operation, WEB)).result()["in_sync"]
    assert report(Change("unchanged", WEB), check_mode=True).result()["in_sync"]


def test_what_is_left_to_others_is_not_in_sync():
    change = replace(changed(WEB, None, {"spec": {"replicas": 2}}, "unchanged"),
                     conflicts=[Conflict(WEB, ".spec.replicas", "autoscaler")], body={"spec": {}}, partial=True)
    result = report(change).result()
    assert not result["in_sync"] and not result["changed"]
    assert result["conflicts"] == [{"field": ".spec.replicas", "manager": "autoscaler", "object": {
        "group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web"}}]


def test_health_is_unknown_after_a_write_that_was_not_waited_for():
    ill = {WEB: Health(FAILED, "its image cannot be pulled")}
    assert report(Change("created", WEB)).result()["healthy"] is None
    assert report(Change("created", WEB), waited=True, health={WEB: Health(CURRENT, "")}).result()["healthy"] is True
    result = report(Change("unchanged", WEB), health=ill).result()
    assert result["healthy"] is False
    assert result["unhealthy"] == [{"status": FAILED, "message": "its image cannot be pulled", "object": {
        "group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web"}}]


def test_a_result_is_json():
    change = changed(WEB, None, stored(WEB, {"f:spec": {}}, spec={"replicas": 1}), "created")
    result = report(change, seconds={"fetch": 0.123456}).result()
    assert json.loads(json.dumps(result)) == result and result["seconds"] == {"fetch": 0.123}


def test_a_failed_run_tells_what_it_did_what_failed_and_what_it_did_not_come_to():
    changes = [changed(WEB._replace(name=name), None, {"spec": {}}, "created") for name in ("done", "refused", "later")]
    changes.append(changed(SECRET, stored(SECRET, {}), None, "pruned"))
    failed = Report(plan=Plan(changes))
    with pytest.raises(Failure) as caught, failed.at_any_end():
        failed.outcomes.written(changes[0], "created", None, stored(WEB, {}))
        failed.outcomes.failed(changes[1], "denied by policy")
        raise Failure("the server refuses")
    result = caught.value.details
    assert result["changed"] and not result["in_sync"] and result["errors"] == ["the server refuses"]
    assert [(change["object"]["name"], change["operation"]) for change in result["changes"]] == [
        ("done", "created"), ("refused", "failed"), ("later", "skipped"), ("login", "skipped")]
    assert result["changes"][1]["reason"] == "denied by policy" and "not done" in result["changes"][2]["reason"]
    assert "nothing is pruned" in result["changes"][3]["reason"]


def test_a_plan_is_the_same_as_long_as_it_does_the_same_and_its_id_tells_no_secret():
    def plan(replicas: int, password: str, version: str) -> Plan:
        web = stored(WEB, {"f:spec": {"f:replicas": {}}}, spec={"replicas": replicas}, status={"seen": version}, metadata={"resourceVersion": version})
        login = stored(SECRET, {"f:data": {"f:password": {}}}, data={"password": password})
        return Plan((changed(WEB, web, {"spec": {"replicas": 2}}), changed(SECRET, login, {"data": {"password": password}})), commit="3f78")

    assert plan(9, "YQ==", "1").id == plan(9, "YQ==", "2").id != plan(8, "YQ==", "1").id
    assert plan(9, "YQ==", "1").id == plan(9, "Yg==", "1").id


# ---- the diff


def test_a_diff_shows_the_fields_that_git_sets_and_no_other():
    ours = {"f:spec": {"f:replicas": {}, "f:color": {}}}
    before = stored(WEB, ours, spec={"replicas": 9, "color": "green", "filledIn": True}, status={"ready": 9})
    after = stored(WEB, ours, spec={"replicas": 2, "color": "green", "filledIn": True}, status={"ready": 9})
    (diff,) = report(changed(WEB, before, after)).result()["diff"]
    assert yaml.safe_load(diff["before"]) == {"spec": {"replicas": 9, "color": "green"}}
    assert yaml.safe_load(diff["after"]) == {"spec": {"replicas": 2, "color": "green"}}
    assert diff["before_header"] == "Deployment.apps shop/web (live)" and diff["after_header"] == "Deployment.apps shop/web (shop/web.yaml:4)"


def test_a_field_that_git_no_longer_sets_is_seen_to_go():
    before = stored(WEB, {"f:spec": {"f:replicas": {}, "f:color": {}}}, spec={"replicas": 2, "color": "green"})
    after = stored(WEB, {"f:spec": {"f:replicas": {}}}, spec={"replicas": 2})
    (diff,) = report(changed(WEB, before, after)).result()["diff"]
    assert "color: green" in diff["before"] and "color" not in diff["after"]


def test_a_new_object_has_nothing_before_and_a_pruned_one_nothing_after():
    body = stored(WEB, {"f:spec": {"f:replicas": {}}}, spec={"replicas": 2})
    old = WEB._replace(name="old")
    created, pruned = report(changed(WEB, None, body, "created"), changed(old, body, None, "pruned")).result()["diff"]
    assert created["before"] == "" and "replicas: 2" in created["after"]
    assert pruned["after"] == "" and "replicas: 2" in pruned["before"]
    assert pruned["after_header"] == "Deployment.apps shop/old (not in Git)"


def test_text_of_everywhere_and_long_lines_are_shown_as_they_are():
    body = {"spec": {"text": "Bodø 東京 " + "word " * 200}}
    (diff,) = report(changed(WEB, None, body, "created")).result()["diff"]
    assert "Bodø 東京" in diff["after"] and len(diff["after"].splitlines()) == 2


def test_without_diff_mode_there_is_none():
    assert "diff" not in report(changed(WEB, None, {"spec": {}}, "created"), diff=False).result()


# ---- secrets


def secret(fields: Dict[str, str], **metadata: Any) -> Dict[str, Any]:
    ours: Dict[str, Any] = {"f:data": {f"f:{key}": {} for key in fields}}
    return stored(SECRET, ours, data=fields, metadata=metadata)


def test_a_diff_of_a_secret_says_which_keys_differ_and_never_a_value():
    before = secret({"user": "YXN0cmlk", "password": "aHVudGVyMg==", "gone": "Z29uZQ=="})
    after = secret({"user": "YXN0cmlk", "password": "aHVudGVyMw==", "new": "bmV3"})
    (diff,) = report(changed(SECRET, before, after)).result()["diff"]
    assert yaml.safe_load(diff["before"]) == {"data": {"user": "***", "password": "*** (before)", "gone": "*** (before)"}}
    assert yaml.safe_load(diff["after"]) == {"data": {"user": "***", "password": "*** (after)", "new": "*** (after)"}}


@pytest.mark.parametrize("operation", ["created", "configured", "pruned"])
def test_no_value_of_a_secret_is_in_any_result(operation):
    before = None if operation == "created" else secret({"password": "aHVudGVyMg=="})
    after = None if operation == "pruned" else secret({"password": "aHVudGVyMw=="})
    text = json.dumps(report(changed(SECRET, before, after, operation)).result())
    assert "aHVudGVy" not in text and "***" in text


def test_what_kubectl_keeps_of_a_secret_in_an_annotation_is_not_shown():
    kept = {LAST_APPLIED: json.dumps({"stringData": {"password": "hunter2"}}), "note": "seen"}
    sides = mask({"metadata": {"annotations": kept}}, {"data": {"password": "aHVudGVyMw=="}})
    assert "hunter2" not in json.dumps(sides) and sides[0]["metadata"]["annotations"]["note"] == "seen"


def test_masking_leaves_the_objects_themselves_alone():
    before = secret({"password": "aHVudGVyMg=="}, annotations={LAST_APPLIED: "x"})
    copy = json.loads(json.dumps(before))
    mask(before, before)
    assert before == copy


VALUES = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("XYZ0123456789", min_size=4, max_size=12), max_size=4)
PARTS = st.one_of(VALUES, st.none(), st.text("XYZ", min_size=4), st.lists(st.text("XYZ", min_size=4), max_size=2))


@given(before=PARTS, after=PARTS, part=st.sampled_from(["data", "stringData"]))
def test_no_value_survives_masking_and_a_difference_is_still_seen(before: Any, after: Any, part: str) -> None:
    masked = mask({part: before}, {part: after})
    values = [value for side in (before, after) for value in (side.values() if isinstance(side, dict) else side if isinstance(side, list) else [side]) if value]
    text = json.dumps(masked)
    assert not [value for value in values if value in text]
    if before != after and (before or after):
        assert masked[0] != masked[1]


# ---- one schema


def test_every_end_of_a_run_has_the_documented_result() -> None:
    conflicting = replace(changed(WEB, stored(WEB, {}), {"spec": {}}), conflicts=[Conflict(WEB, ".spec.replicas", "autoscaler")])
    ends = [report(conflicting, changed(SECRET, stored(SECRET, {}), None, "pruned"), diff=False).result(),
            report(conflicting, diff=False, check_mode=True, health={WEB: Health(FAILED, "no image")}).result(),
            result_of(Failure("bad option")), Report().result()]
    with pytest.raises(Failure) as caught, Report(plan=Plan((conflicting,))).at_any_end():
        raise Failure("the server refuses", errors=["one", "two"])
    ends.append(result_of(caught.value))
    assert ends[-1]["errors"] == ["one", "two"]
    for end in ends:
        assert_as_documented(end)
