# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of writing and of deleting."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.service import allocated, without_node_ports, without_what_the_old_one_holds
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Intent, Ref, defined_kind
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import (
    DEPENDS_ON,
    WAVE,
    Step,
    deletion_steps,
    rank,
    steps,
)


def intent(kind: str, name: str, api_version: str = "v1", namespace: str = "n", spec: Any = None, **annotations: str) -> Intent:
    marks = {{"wave": WAVE, "after": DEPENDS_ON}[key]: value for key, value in annotations.items()}
    body: Dict[str, Any] = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "annotations": marks}}
    if spec is not None:
        body["spec"] = spec
    return Intent(Ref(api_version.rpartition("/")[0], kind, namespace, name), api_version, body, f"{name}.yaml:1")


def deployment(name: str, **annotations: str) -> Intent:
    return intent("Deployment", name, "apps/v1", **annotations)


def crd(kind: str, group: str, **annotations: str) -> Intent:
    return intent("CustomResourceDefinition", f"{kind.lower()}s.{group}", "apiextensions.k8s.io/v1", "",
                  {"group": group, "names": {"kind": kind}}, **annotations)


def names(found: List[Step]) -> List[List[str]]:
    return [[ref.name for ref in step.refs] for step in found]


def test_definitions_come_first_and_webhooks_last_whatever_the_order_in_git() -> None:
    found = steps([
        intent("ValidatingWebhookConfiguration", "hook", "admissionregistration.k8s.io/v1", ""), deployment("web"),
        intent("Service", "web-service"), intent("StorageClass", "fast", "storage.k8s.io/v1", ""), intent("Widget", "own", "example.com/v1"),
        intent("Namespace", "n", namespace=""), crd("Widget", "example.com"), intent("Secret", "token"), intent("ServiceAccount", "runner")])
    assert names(found) == [["widgets.example.com", "n"], ["fast"], ["runner", "web-service"], ["token"], ["web", "own"], ["hook"]]
    assert not any(step.health for step in found)


def test_a_service_account_is_there_before_the_secret_with_its_token_is_written() -> None:
    secret, account = Ref("", "Secret", "n", "token"), Ref("", "ServiceAccount", "n", "robot")
    assert rank(account) < rank(secret)


def test_the_order_does_not_depend_on_the_order_in_git() -> None:
    intents = [deployment("b"), deployment("a"), intent("Service", "s"), intent("ConfigMap", "c", namespace="m"), intent("ConfigMap", "c")]
    assert steps(intents) == steps(intents[::-1])


def test_kinds_of_the_same_name_in_other_groups_are_other_kinds() -> None:
    assert rank(Ref("serving.knative.dev", "Service", "n", "s")) != rank(Ref("", "Service", "n", "s"))


def test_a_wave_waits_for_the_health_of_the_wave_before_it() -> None:
    found = steps([deployment("late", wave="5"), deployment("first", wave="-1"), deployment("middle"), intent("ConfigMap", "settings")])
    assert names(found) == [["first"], ["settings"], ["middle"], ["late"]]
    assert [step.health for step in found] == [False, True, False, True]


@pytest.mark.parametrize("wave", ["soon", "1.5", "", "0x1"])
def test_a_wave_that_is_no_number_is_told_with_its_place(wave: str) -> None:
    with pytest.raises(Failure) as error:
        steps([deployment("web", wave=wave)])
    assert WAVE in str(error.value) and "web.yaml:1" in str(error.value)


def test_a_namespace_moves_to_the_wave_of_the_first_object_inside() -> None:
    found = steps([intent("Namespace", "n", namespace=""), deployment("early", wave="-3"), deployment("other", wave="2")])
    assert names(found) == [["n"], ["early"], ["other"]]
    assert [step.health for step in found] == [False, False, True]


def test_a_crd_moves_to_the_wave_of_the_first_object_of_its_kind() -> None:
    found = steps([crd("Widget", "example.com", wave="4"), intent("Widget", "own", "example.com/v1", wave="-2"), deployment("web")])
    assert names(found) == [["widgets.example.com"], ["own"], ["web"]]


def test_a_crd_of_another_group_stays_in_its_wave() -> None:
    found = steps([crd("Widget", "other.example", wave="4"), intent("Widget", "own", "example.com/v1", wave="-2")])
    assert names(found) == [["own"], ["widgets.other.example"]]


def test_what_depends_on_another_object_comes_after_it_is_healthy() -> None:
    found = steps([deployment("app", after="apps/namespaces/n/Deployment/queue"), deployment("queue", after="/namespaces/n/ConfigMap/settings"),
                   intent("ConfigMap", "settings")])
    assert names(found) == [["settings"], ["queue"], ["app"]]
    assert [step.health for step in found] == [False, True, True]


def test_it_comes_after_the_deepest_of_its_dependencies() -> None:
    found = steps([deployment("a"), deployment("b", after="apps/namespaces/n/Deployment/a"),
                   deployment("c", after="apps/namespaces/n/Deployment/a, apps/namespaces/n/Deployment/b")])
    assert names(found) == [["a"], ["b"], ["c"]]


def test_a_cluster_scoped_dependency_is_named_without_a_namespace() -> None:
    found = steps([deployment("app", after="storage.k8s.io/StorageClass/fast"), intent("StorageClass", "fast", "storage.k8s.io/v1", "")])
    assert names(found) == [["fast"], ["app"]]


@pytest.mark.parametrize("circle", [("a", "a"), ("b", "a"), ("c", "a", "b")])
def test_a_circle_is_told_with_all_that_are_in_it(circle: tuple) -> None:
    intents = [deployment(name, after=f"apps/namespaces/n/Deployment/{dependency}")
               for name, dependency in zip(sorted(set(circle)), circle)]
    with pytest.raises(Failure) as error:
        steps(intents)
    assert "circle" in str(error.value) and all(f"n/{name}" in str(error.value) for name in circle)


@pytest.mark.parametrize("text", ["Deployment/a", "apps/namespaces/n/Deployment", "apps/ns/n/Deployment/a", "a", "apps//namespaces/n/Deployment/a"])
def test_a_dependency_that_cannot_be_read_is_told_with_its_place(text: str) -> None:
    with pytest.raises(Failure) as error:
        steps([deployment("app", after=text), deployment("a")])
    assert "app.yaml:1" in str(error.value) and "GROUP" in str(error.value)


def test_a_dependency_on_what_is_not_rendered_is_refused() -> None:
    with pytest.raises(Failure, match="not rendered"):
        steps([deployment("app", after="apps/namespaces/n/Deployment/elsewhere")])


def test_nothing_has_no_steps() -> None:
    assert steps([]) == [] and deletion_steps({}) == []


def test_deletion_is_the_reverse_of_writing() -> None:
    intents = [deployment("web"), intent("Service", "web"), crd("Widget", "example.com"), intent("Namespace", "n", namespace=""),
               intent("ValidatingWebhookConfiguration", "hook", "admissionregistration.k8s.io/v1", ""), intent("Widget", "own", "example.com/v1")]
    written = [ref for step in steps(intents) for ref in step.refs]
    deleted = [ref for step in deletion_steps({one.ref: one.body for one in intents}) for ref in step.refs]
    assert deleted == written[::-1]


def test_the_last_wave_is_deleted_first_and_a_namespace_and_a_crd_last_of_all() -> None:
    intents = [deployment("early", wave="-1"), intent("ConfigMap", "late", wave="3"), deployment("late", wave="3"), intent("Widget", "own", "example.com/v1"),
               crd("Widget", "example.com", wave="9"), intent("Namespace", "n", namespace="", wave="9"), deployment("odd", wave="by hand")]
    deleted = [{ref.name for ref in step.refs} for step in deletion_steps({one.ref: one.body for one in intents})]
    assert deleted == [{"late"}, {"late"}, {"own", "odd"}, {"early"}, {"widgets.example.com", "n"}]


def test_what_is_in_a_namespace_or_of_a_kind_that_depends_on_others_comes_after_it() -> None:
    space = intent("Namespace", "n", namespace="", after="policy.example/Policy/p")
    definition = crd("Widget", "example.com", after="/Namespace/n")
    policy = intent("Policy", "p", "policy.example/v1", "")
    found = steps([deployment("web"), intent("Widget", "own", "example.com/v1", "other"), space, definition, policy])
    assert names(found) == [["p"], ["n"], ["web"], ["widgets.example.com"], ["own"]]


def test_a_namespace_that_depends_on_its_own_content_is_a_circle() -> None:
    with pytest.raises(Failure, match="circle: Namespace n -> ConfigMap n/c -> Namespace n"):
        steps([intent("Namespace", "n", namespace="", after="/namespaces/n/ConfigMap/c"), intent("ConfigMap", "c")])


def test_what_depends_on_another_object_is_gone_before_that_is_deleted() -> None:
    intents = [intent("ConfigMap", "operator"), intent("ConfigMap", "instance", after="/namespaces/n/ConfigMap/operator"),
               intent("ConfigMap", "user", after="/namespaces/n/ConfigMap/instance, /namespaces/n/ConfigMap/operator"), intent("ConfigMap", "alone")]
    found = deletion_steps({one.ref: one.body for one in intents})
    assert [({ref.name for ref in step.refs}, {ref.name for ref in step.gone}) for step in found] == [
        ({"user", "alone"}, set()), ({"instance"}, {"user"}), ({"operator"}, {"user", "instance"})]


def test_dependencies_that_somebody_spoilt_do_not_keep_the_rest_from_being_deleted() -> None:
    intents = [intent("ConfigMap", "a", after="/namespaces/n/ConfigMap/b"), intent("ConfigMap", "b", after="/namespaces/n/ConfigMap/a"),
               intent("ConfigMap", "c", after="nonsense"), intent("ConfigMap", "d", after="/namespaces/n/ConfigMap/elsewhere")]
    assert {ref.name for step in deletion_steps({one.ref: one.body for one in intents}) for ref in step.refs} == set("abcd")


def test_a_chain_of_thousands_of_dependencies_is_put_in_order() -> None:
    chain = [intent("ConfigMap", f"c{number}", after=f"/namespaces/n/ConfigMap/c{number - 1}" if number else "") for number in range(3000)]
    chain[0].body["metadata"]["annotations"].clear()
    assert names(steps(chain)) == [[f"c{number}"] for number in range(3000)]
    deleted = [ref.name for step in deletion_steps({one.ref: one.body for one in chain}) for ref in step.refs]
    assert deleted == [f"c{number}" for number in reversed(range(3000))]


def test_a_role_is_written_before_its_binding() -> None:
    rbac = "rbac.authorization.k8s.io/v1"
    assert names(steps([intent("RoleBinding", "app", rbac), intent("Role", "app", rbac)])) == [["app"], ["app"]]
    assert [step.refs[0].kind for step in steps([intent("RoleBinding", "app", rbac), intent("Role", "app", rbac)])] == ["Role", "RoleBinding"]


JSON = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "80", "None", "a/b/c", "/namespaces/n/ConfigMap/c"]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["group", "names", "kind", "versions", "ports", "nodePort", "clusterIP", "annotations", "roleRef", "name", WAVE,
                                         DEPENDS_ON]), inner, max_size=4),
                    max_leaves=12)


@given(spec=JSON, role=JSON, metadata=JSON, kind=st.sampled_from(["CustomResourceDefinition", "Service", "RoleBinding", "ConfigMap"]))
def test_whatever_an_object_looks_like_inside_its_place_in_the_order_is_found(spec: Any, role: Any, metadata: Any, kind: str) -> None:
    groups = {"CustomResourceDefinition": "apiextensions.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1"}
    one = intent(kind, "c", groups.get(kind, "v1"), spec=spec)
    one.body.update(roleRef=role)
    odd = {**one.body, "metadata": metadata}
    assert [ref for step in deletion_steps({one.ref: odd}) for ref in step.refs] == [one.ref]
    assert [ref for step in steps([one]) for ref in step.refs] == [one.ref]
    assert isinstance(allocated(one.ref, odd), set)
    plan._role_of(Change("created", one.ref, body=odd))
    without_what_the_old_one_holds({**odd, "apiVersion": "v1", "kind": "Service"}, {})
    if isinstance(spec, dict):
        assert not any(isinstance(value, tuple) for value in allocated(one.ref, without_node_ports(odd)))
    assert isinstance(defined_kind(odd), tuple)
