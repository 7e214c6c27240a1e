# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one object may not say, by rule; and how it is written the way the server holds it."""

from __future__ import annotations

import base64
import copy
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import normalise
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import MAX_DATA, MAX_OBJECT, wrong_with


def wrong(text: str) -> list:
    return [str(failure) for failure in wrong_with(Document(yaml.safe_load(text), "app.yaml", 3))]


POD = (
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {metadata: {labels: {a: 1}}, "
    "spec: {containers: [{name: c, env: [{name: PORT, value: 80}, {name: OK, value: '1'}, {name: R, valueFrom: "
    "{}}]}]}}}"
)

REFUSED = [
    (
        "kind: A\nmetadata: {name: a}",
        ["app.yaml:3: A a: apiVersion is missing. If the file is no manifest, leave it out with `exclude`."],
    ),
    (
        "apiVersion: v1\nmetadata: {name: a}",
        ["app.yaml:3: object a: kind is missing. If the file is no manifest, leave it out with `exclude`."],
    ),
    (
        "replicas: 2",
        [
            "app.yaml:3: holds no Kubernetes object: apiVersion and kind are missing. If the file is no manifest, leave it out with `exclude`."
        ],
    ),
    (
        "apiVersion: 1\nkind: A\nmetadata: {name: a}",
        ["app.yaml:3: A a: apiVersion is an integer, must be a string. Quote it."],
    ),
    ("apiVersion: a/b/c\nkind: A\nmetadata: {name: a}", ["app.yaml:3: A a: apiVersion 'a/b/c' is malformed"]),
    ("apiVersion: v1\nkind: ../x\nmetadata: {name: a}", ["app.yaml:3: ../x a: kind '../x' is malformed"]),
    ("apiVersion: v1\nkind: A", ["app.yaml:3: A without a name: metadata.name is missing"]),
    (
        "apiVersion: v1\nkind: A\nmetadata: [a]",
        [
            "app.yaml:3: A without a name: metadata is a list, must be a mapping",
            "app.yaml:3: A without a name: metadata.name is missing",
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {generateName: a-}",
        [
            "app.yaml:3: A without a name: metadata.generateName gives the object another name on every run. Give it a fixed metadata.name."
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: no}",
        [
            "app.yaml:3: A False: metadata.name is a boolean, must be a string. Quote it: YAML reads yes, no, on, off, y and n as booleans."
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: a/b}",
        [
            "app.yaml:3: A a/b: metadata.name 'a/b' is no valid name. A name has at most 253 characters, no white space, no / and no %."
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: '..'}",
        [
            "app.yaml:3: A ..: metadata.name '..' is no valid name. A name has at most 253 characters, no white space, no / and no %."
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: B_c}",
        [
            "app.yaml:3: A B_c/a: metadata.namespace 'B_c' is no valid namespace. At most 63 lower-case letters, digits and dashes, no dash at either end."
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: 7}",
        ["app.yaml:3: A 7/a: metadata.namespace is an integer, must be a string. Quote it."],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: a, labels: {on: 1}, annotations: {b: ~}}",
        [
            "app.yaml:3: A a: metadata.labels[True] is an integer, must be a string. Quote it.",
            "app.yaml:3: A a: metadata.annotations[b] is null, must be a string",
        ],
    ),
    (
        "apiVersion: v1\nkind: A\nmetadata: {name: a, labels: [b]}",
        ["app.yaml:3: A a: metadata.labels is a list, must be a mapping"],
    ),
    (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {port: 80, debug: true, none: ~, map: {}, ok: x}",
        [
            "app.yaml:3: ConfigMap a: data[port] is an integer, must be a string. Quote it.",
            "app.yaml:3: ConfigMap a: data[debug] is a boolean, must be a string. Quote it: YAML reads yes, no, on, off, y and n as booleans.",
            "app.yaml:3: ConfigMap a: data[none] is null, must be a string",
            "app.yaml:3: ConfigMap a: data[map] is a mapping, must be a string",
        ],
    ),
    (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {'a b': x}\nbinaryData: {c: '#'}",
        [
            "app.yaml:3: ConfigMap a: binaryData[c] is not valid base64. Encode it.",
            "app.yaml:3: ConfigMap a: data[a b] is no valid key. A key has at most 253 letters, digits, dashes, underscores and dots.",
        ],
    ),
    (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {v: 1}}",
        ["app.yaml:3: Service a: spec.selector[v] is an integer, must be a string. Quote it."],
    ),
    (
        POD,
        [
            "app.yaml:3: Deployment web: spec.template.metadata.labels[a] is an integer, must be a string. Quote it.",
            "app.yaml:3: Deployment web: spec.template.spec.containers[c].env[PORT].value is an integer, must be a string. Quote it.",
        ],
    ),
]


@pytest.mark.parametrize("text, expected", REFUSED)
def test_a_field_is_refused_by_its_path(text, expected):
    assert wrong(text) == expected


@pytest.mark.parametrize("text", [
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a.b-c}\ndata: {a_B.c-1: x}\nbinaryData: {z: ''}",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'system:Kube_x'}",
    "apiVersion: x.io/v1\nkind: Thing\nmetadata: {name: a}\nspec: {selector: {a: 1}, template: {spec: {containers: [{env: [{value: 1}]}]}}}\ndata: {a: 1}",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: ''}\ndata: {a: YWI=, b: '', c: \"YW\\nI=\\n\"}\nstringData: {x: ''}",
])
def test_what_the_server_takes_is_taken(text):
    assert wrong(text) == []


@pytest.mark.parametrize("value", ["hunter2!", "aGk", "aGk=x", "a", "=", "aG k=", "aGk==="])
def test_bad_base64_of_a_secret_names_the_field_and_never_the_value(value):
    found = wrong(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": value}}))
    assert found == ["app.yaml:3: Secret s: data[password] is not valid base64. Encode it, or put the plain text under stringData."]


def test_no_type_of_a_secret_s_value_shows_the_value():
    found = wrong("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 4711, b: [hunter2]}\nstringData: {c: 4711}")
    assert len(found) == 3 and not [text for text in found if "4711" in text or "hunter2" in text]


def test_an_object_that_etcd_would_refuse_is_refused():
    body = {"apiVersion": "v1", "kind": "Widget", "metadata": {"name": "a"}, "data": {"a": "é" * (MAX_OBJECT // 2)}}
    assert [str(failure) for failure in wrong_with(Document(body, "a.yaml", 1))] == [
        f"a.yaml:1: Widget a: is {MAX_OBJECT + 75} bytes, etcd takes at most {MAX_OBJECT}. Split it."
    ]


@pytest.mark.parametrize("kind, fields, named", [
    ("ConfigMap", {"data": {"small": "x", "a": "x" * MAX_DATA}}, "data[a]"),
    ("ConfigMap", {"binaryData": {"a": "eHh4" * (MAX_DATA // 3)}, "data": {"b": "xy"}}, "binaryData[a]"),
    ("Secret", {"stringData": {"a": "x" * MAX_DATA, "b": "y"}}, "stringData[a]"),
])
def test_more_values_than_one_object_may_hold_are_refused_by_their_field(kind, fields, named):
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "n"}, **fields}
    found = [str(failure) for failure in wrong_with(Document(body, "a.yaml", 1))]
    assert found == [f"a.yaml:1: {kind} n: {named[:-3]} holds {MAX_DATA + 1} bytes, a {kind} takes at most {MAX_DATA}; "
                     f"the largest is {named}. Split it."]


def test_exactly_what_one_object_may_hold_is_taken_and_string_data_counts_instead_of_the_same_key():
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}, "data": {"a": "eHh4"}, "stringData": {"a": "x" * MAX_DATA}}
    assert wrong_with(Document(body, "a.yaml", 1)) == []


# --- normalise ------------------------------------------------------------------------------------------------------


def normal(text: str) -> dict:
    body = yaml.safe_load(text)
    before = copy.deepcopy(body)
    result = normalise(body)
    assert body == before, "the argument was changed"
    assert normalise(result) == result, "twice is not once"
    return result


def test_string_data_is_folded_into_data_and_wins():
    body = normal("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: YQ==, b: Yg==}\nstringData: {b: é, c: ''}")
    assert body["data"] == {"a": "YQ==", "b": base64.b64encode("é".encode()).decode(), "c": ""} and "stringData" not in body


def test_folded_base64_becomes_what_the_server_writes():
    assert normal("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: \"YW\\nI=\\n\"}")["data"] == {"a": "YWI="}
    assert normal("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\nbinaryData: {a: \"YW\\nI=\"}")["binaryData"] == {"a": "YWI="}


def test_left_overs_of_the_server_are_dropped():
    body = normal(
        "apiVersion: v1\nkind: A\nstatus: {x: 1}\nmetadata: {name: a, namespace: '', uid: u, resourceVersion: '1', "
        "generation: 2, selfLink: s, creationTimestamp: ~, managedFields: [], finalizers: [f], annotations: "
        "{kubectl.kubernetes.io/last-applied-configuration: x, b: c}}"
    )
    assert body == {"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "finalizers": ["f"], "annotations": {"b": "c"}}}


def test_null_means_not_set_in_a_built_in_kind_only():
    assert normal(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, labels: ~}\nspec: {a: ~, b: [~, {c: ~}], d: {}, e: []}"
    ) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"b": [None, {}], "d": {}, "e": []},
    }
    for version in ("x.io/v1", "gateway.networking.k8s.io/v1", "apiextensions.k8s.io/v1"):
        assert normal(f"apiVersion: {version}\nkind: A\nmetadata: {{name: a}}\nspec: {{default: ~}}")["spec"] == {"default": None}


def test_empty_things_mean_something_except_the_subjects_of_a_binding():
    assert "subjects" not in normal("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: a}\nsubjects: []")
    assert normal(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: {}, egress: []}"
    )["spec"] == {"podSelector": {}, "egress": []}
    assert normal("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a}\nrules: []")["rules"] == []


@pytest.mark.parametrize(
    "kind, version, path",
    [
        ("Pod", "v1", "spec"),
        ("Deployment", "apps/v1", "spec.template.spec"),
        ("StatefulSet", "apps/v1", "spec.template.spec"),
        ("DaemonSet", "apps/v1", "spec.template.spec"),
        ("ReplicaSet", "apps/v1", "spec.template.spec"),
        ("Job", "batch/v1", "spec.template.spec"),
        ("CronJob", "batch/v1", "spec.jobTemplate.spec.template.spec"),
        ("PodTemplate", "v1", "template.spec"),
    ],
)
@pytest.mark.parametrize("field", ["containers", "initContainers"])
def test_ports_state_the_protocol_that_the_server_defaults(kind, version, path, field):
    def inside(spec):
        for step in reversed(path.split(".")):
            spec = {step: spec}
        return {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, **spec}

    given_ports = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
    wanted = [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]
    assert normal(json.dumps(inside({field: [{"name": "c", "ports": given_ports}]}))) == inside({field: [{"name": "c", "ports": wanted}]})


def test_a_service_s_ports_state_the_protocol_too_and_a_custom_kind_s_do_not():
    assert normal("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}")["spec"] == {"ports": [{"port": 1, "protocol": "TCP"}]}
    assert normal("apiVersion: x.io/v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}")["spec"] == {"ports": [{"port": 1}]}


some_json = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=4),
    lambda inner: some.lists(inner, max_size=3)
    | some.dictionaries(
        some.text(max_size=4)
        | some.sampled_from(["spec", "template", "containers", "ports", "protocol", "subjects", "data"]),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)


@given(
    some.sampled_from(["v1", "apps/v1", "batch/v1", "x.io/v1", "rbac.authorization.k8s.io/v1"]),
    some.sampled_from(["Pod", "Deployment", "Service", "CronJob", "ConfigMap", "RoleBinding", "Other"]),
    some.dictionaries(some.sampled_from(["spec", "data", "binaryData", "template", "subjects", "status"]), some_json),
)
def test_normalising_twice_is_normalising_once_for_any_object(version, kind, rest):
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, **rest}
    before = copy.deepcopy(body)
    once = normalise(body)
    assert body == before
    assert normalise(once) == once
