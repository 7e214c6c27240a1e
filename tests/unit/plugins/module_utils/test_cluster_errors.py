# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server's refusals, read: answers as kube-apiserver 1.37 gives them."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import ApiError, from_response


def refused(status, message, reason="", details=None, verb="apply", headers=None):
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}
    if reason:
        body["reason"] = reason
    if details:
        body["details"] = details
    return from_response(
        status, headers or {}, json.dumps(body).encode(), "Deployment.apps shop/web", verb, "https://10.0.0.1:6443"
    )


def test_a_conflict_names_each_field_and_its_manager():
    error = refused(
        409,
        "Apply failed with 2 conflicts: …",
        "Conflict",
        {
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "kube-controller-manager" with subresource "scale" using apps/v1',
                    "field": ".spec.replicas",
                },
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "o\\"dd name" using v1 at 2026-01-02T03:04:05Z',
                    "field": '.spec.template.spec.containers[name="web"].image',
                },
            ]
        },
    )
    assert error.conflicts == [
        (".spec.replicas", "kube-controller-manager"),
        ('.spec.template.spec.containers[name="web"].image', 'o"dd name'),
    ]
    assert not error.stale and not error.immutable and not error.retryable


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (
            409,
            "Conflict",
            'Operation cannot be fulfilled on configmaps "x": the object has been modified; please apply your changes to '
            "the latest version and try again",
        ),
        (
            409,
            "Conflict",
            'Operation cannot be fulfilled on ConfigMap "x": the UID in the precondition (123) does not match the UID in '
            "record (a51e). The object might have been deleted and then recreated",
        ),
        (422, "Invalid", 'ConfigMap "x" is invalid: metadata.uid: Invalid value: "1": field is immutable'),
    ],
)
def test_another_object_than_the_one_seen_is_stale_and_not_immutable(status, reason, message):
    error = refused(status, message, reason)
    assert error.stale and error.conflicts == [] and not error.immutable and not error.retryable


@pytest.mark.parametrize(
    "message",
    [
        'Deployment.apps "x" is invalid: spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable',
        'Service "x" is invalid: spec.clusterIPs[0]: Invalid value: ["10.0.0.9"]: may not change once set',
        'StatefulSet.apps "x" is invalid: spec: Forbidden: updates to statefulset spec for fields other than …',
        'Pod "x" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`',
        'PersistentVolumeClaim "x" is invalid: spec: Forbidden: spec is immutable after creation except …',
        'Widget.example.com "x" is invalid: spec.size: Invalid value: "string": size is immutable',
        'Secret "x" is invalid: data: Forbidden: field is immutable when `immutable` is set',
        'PriorityClass.scheduling.k8s.io "x" is invalid: value: Forbidden: may not be changed in an update.',
    ],
)
def test_an_immutable_field_is_known_as_one(message):
    assert refused(422, message, "Invalid").immutable


def test_a_difference_of_go_structures_is_not_shown():
    difference = '@@ -105,7 +105,7 @@\n    "Env": [\n     {\n      "Name": "A",\n-     "Value": "1",\n+     "Value": "2",\n'
    error = refused(422, f'Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.tolerations`\n{difference}', "Invalid")
    assert error.immutable and str(error).startswith('Deployment.apps shop/web: Pod "p" is invalid: spec: Forbidden: pod updates may not change fields')
    assert "Env" not in str(error) and "@@" not in str(error)


def test_an_invalid_field_is_not_immutable():
    error = refused(
        422,
        'Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0',
        "Invalid",
        {"causes": [{"reason": "FieldValueInvalid", "message": "Invalid value: -1", "field": "spec.replicas"}]},
    )
    assert not error.immutable and error.fields == ["spec.replicas"]


@pytest.mark.parametrize(
    ("status", "message", "fields"),
    [
        (
            500,
            "failed to create typed patch object (default/x; apps/v1, Kind=Deployment): errors:\n"
            '  .spec.template.spec.containers[name="c"].imag: field not declared in schema\n'
            "  .spec.replica: field not declared in schema",
            ['.spec.template.spec.containers[name="c"].imag', ".spec.replica"],
        ),
        (
            500,
            "failed to create typed patch object (default/x; /v1, Kind=ConfigMap): .data.a: expected string, got "
            "&value.valueUnstructured{Value:1}",
            [".data.a"],
        ),
        (
            400,
            'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field '
            '"spec.replica", duplicate field "spec.paused"',
            ["spec.replica", "spec.paused"],
        ),
    ],
)
def test_a_field_that_the_schema_refuses_is_named(status, message, fields):
    error = refused(status, message)
    assert error.fields == fields
    assert "\n" not in str(error) and str(error).startswith("Deployment.apps shop/web: ")
    assert not error.retryable


def test_a_denied_request_says_verb_kind_namespace_and_user():
    message = (
        'deployments.apps "web" is forbidden: User "anna" cannot patch resource "deployments" in API group "apps" in '
        'the namespace "shop"'
    )
    error = refused(403, message, "Forbidden")
    assert message in str(error) and "Role" in error.hint and not error.retryable


def test_an_admission_policy_speaks_for_itself():
    error = refused(403, 'admission webhook "policy.example" denied the request: no latest tags', "Forbidden")
    assert "no latest tags" in str(error) and error.hint == ""


def test_a_lapsed_login_says_what_to_renew():
    error = refused(401, "Unauthorized", "Unauthorized")
    assert "https://10.0.0.1:6443" in str(error) and "renew the token" in str(error) and not error.retryable


@pytest.mark.parametrize(
    ("status", "reason", "message", "details", "verb", "again"),
    [
        (429, "TooManyRequests", "too many requests", {"retryAfterSeconds": 2}, "apply", True),
        (503, "ServiceUnavailable", "apiserver is shutting down", None, "list", True),
        (504, "Timeout", "request did not complete within requested timeout", None, "apply", True),
        (500, "InternalError", 'failed calling webhook "w": … connect: connection refused', None, "apply", True),
        (500, "", "etcdserver: request timed out", None, "apply", True),
        (500, "", "etcdserver: leader changed", None, "apply", True),
        (500, "", 'failed calling webhook "w": x509: certificate signed by unknown authority', None, "apply", False),
        (500, "", "failed to create typed patch object (a; v1, Kind=B): .x: no", None, "apply", False),
        (409, "Conflict", "the object has been modified", {"kind": "resourcequotas"}, "apply", True),
        (409, "AlreadyExists", 'configmaps "x" already exists', {"kind": "configmaps"}, "apply", True),
        (409, "AlreadyExists", 'configmaps "x" already exists', {"kind": "configmaps"}, "create", False),
        (404, "NotFound", 'configmaps "x" not found', {"kind": "configmaps"}, "get", False),
        (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", None, "apply", False),
    ],
)
def test_only_what_may_pass_is_tried_again(status, reason, message, details, verb, again):
    assert refused(status, message, reason, details, verb).retryable is again


def test_an_internal_error_without_explanation_is_tried_three_times_only():
    error = refused(500, "Internal error occurred: something", "InternalError")
    assert error.retryable and error.tries == 3


@pytest.mark.parametrize(("value", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("Wed, 21 Oct 2026", None)])
def test_retry_after_is_read_in_seconds(value, seconds):
    assert refused(429, "later", headers={"Retry-After": value}).retry_after == seconds


def test_a_load_balancers_own_page_is_told_without_its_markup():
    error = from_response(
        502,
        {"Content-Type": "text/html"},
        b"<html><head><title>502 Bad Gateway</title></head></html>",
        "ConfigMap",
        "list",
        "https://10.0.0.1",
    )
    assert str(error) == "ConfigMap: answered 502 502 Bad Gateway" and error.retryable


def test_a_missing_namespace_says_that_it_must_come_first():
    error = refused(404, 'namespaces "shop" not found', "NotFound", {"kind": "namespaces", "name": "shop"})
    assert "must exist before" in error.hint


def test_the_details_are_json():
    error = refused(409, "no", "Conflict", {"causes": [{"reason": "FieldManagerConflict", "message": "x", "field": "y"}]})
    assert json.loads(json.dumps(error.details)) == {
        "status": 409,
        "reason": "Conflict",
        "causes": [{"field": "y", "message": "x", "reason": "FieldManagerConflict"}],
    }


def test_what_else_than_an_immutable_field_is_refused_is_told_apart() -> None:
    causes = [{"field": "spec.selector", "message": "Invalid value: {}: field is immutable", "reason": "FieldValueInvalid"},
              {"field": "spec.template.spec.containers[0].imagePullPolicy", "message": 'Unsupported value: "Sometimes"', "reason": "FieldValueNotSupported"}]
    both = ApiError("invalid", status=422, causes=causes)
    assert both.immutable and both.other_fields == ["spec.template.spec.containers[0].imagePullPolicy"]
    assert ApiError("invalid", status=422, causes=causes[:1]).other_fields == []


TEMPLATE = json.dumps({"metadata": {"labels": {"app": "web", "note": 'a ": " and a } in a text'}}, "spec": {"containers": [{"name": "a", "image": "i"}] * 50}})
GO = 'core.PodTemplateSpec{ObjectMeta:v1.ObjectMeta{Name:"", Labels:map[string]string{"app":"we: b"}}, Spec:core.PodSpec{Volumes:[]core.Volume(nil), ' + \
    "Containers:[]core.Container{" + ", ".join(['core.Container{Name:"a", Image:"registry.example/a:1"}'] * 50) + "}}}"


@pytest.mark.parametrize("value", [TEMPLATE, GO, f"&{GO}", json.dumps("x" * 3000), "9" * 500])
def test_a_long_value_is_never_told_whole_and_the_reason_behind_it_is(value):
    said = f"Invalid value: {value}: field is immutable"
    error = refused(422, f'Job.batch "m" is invalid: [spec.template: {said}, spec.completions: Invalid value: 3: field is immutable]', "Invalid",
                    {"causes": [{"reason": "FieldValueInvalid", "field": "spec.template", "message": said}]})
    assert "spec.template: Invalid value: " in str(error) and len(str(error)) < 300
    assert "spec.completions: Invalid value: 3: field is immutable" in str(error)
    assert error.immutable and not error.other_fields and error.fields == ["spec.template"]
    assert len(json.dumps(error.details)) < 600


def test_what_to_do_comes_before_a_page_of_a_policy_s_words():
    error = refused(403, "the policy says: " + "no " * 400, "Forbidden")
    error.hint = "Ask for an exception."
    assert str(error).startswith("Deployment.apps shop/web: Ask for an exception. the policy says: no no")
