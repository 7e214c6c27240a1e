# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From documents to intents: kind, scope, namespace, our label, and what is refused."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Resource, Resources
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import intents_of
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document, Intent, Ref

VERBS = ("get", "list", "patch", "delete")
SERVED = Resources([
    Resource("", "v1", "ConfigMap", "configmaps", True, VERBS), Resource("", "v1", "Namespace", "namespaces", False, VERBS),
    Resource("apps", "v1", "Deployment", "deployments", True, VERBS), Resource("apps", "v1", "StatefulSet", "statefulsets", True, VERBS),
    Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, VERBS),
    Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False, VERBS),
])


def document(kind: str, name: str, api_version: str = "v1", namespace: str = "", line: int = 1, spec: Any = None, **metadata: Any) -> Document:
    body: Dict[str, Any] = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}}
    if namespace:
        body["metadata"]["namespace"] = namespace
    if spec is not None:
        body["spec"] = spec
    return Document(body, "all.yaml", line)


def settled(*documents: Document, namespace: str = "shop") -> List[Intent]:
    return intents_of(documents, SERVED, namespace, {"set": "ours"})


def refused(*documents: Document, namespace: str = "shop") -> str:
    with pytest.raises(Failure) as error:
        settled(*documents, namespace=namespace)
    return str(error.value)


def autoscaler(target: str, kind: str = "Deployment", api_version: str = "apps/v1", namespace: str = "") -> Document:
    return document("HorizontalPodAutoscaler", target, "autoscaling/v2", namespace,
                    spec={"scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": target}, "minReplicas": 2})


def test_every_intent_carries_the_label_of_its_set_and_keeps_its_own() -> None:
    first, second = settled(document("ConfigMap", "a", labels={"app": "x"}), document("ConfigMap", "b", labels=None))
    assert first.body["metadata"]["labels"] == {"app": "x", "set": "ours"} and second.body["metadata"]["labels"] == {"set": "ours"}


def test_the_label_of_the_set_cannot_be_written_over_by_git() -> None:
    (intent,) = settled(document("ConfigMap", "a", labels={"set": "theirs"}))
    assert intent.body["metadata"]["labels"] == {"set": "ours"}


def test_the_documents_are_left_as_they_were() -> None:
    one = document("ConfigMap", "a", labels={"app": "x"})
    settled(one)
    assert one.body == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"app": "x"}}}


def test_an_object_without_a_namespace_goes_to_the_default_one() -> None:
    stated, default = settled(document("ConfigMap", "a", namespace="own"), document("ConfigMap", "a"))
    assert (stated.ref.namespace, default.ref.namespace) == ("own", "shop")
    assert default.body["metadata"]["namespace"] == "shop" and default.where == "all.yaml:1"


def test_a_cluster_scoped_object_gets_no_namespace() -> None:
    (intent,) = settled(document("Namespace", "shop"))
    assert intent.ref == Ref("", "Namespace", "", "shop") and "namespace" not in intent.body["metadata"]


def test_an_object_without_a_namespace_is_refused_where_there_is_no_default() -> None:
    message = refused(document("ConfigMap", "a", line=7), namespace="")
    assert "all.yaml:7" in message and "no namespace" in message


def test_the_namespace_of_a_cluster_scoped_object_is_left_out_with_a_note() -> None:
    notes: List[str] = []
    intent, = intents_of([document("Namespace", "a", namespace="b", line=3)], SERVED, "shop", {}, notes)
    assert intent.ref.namespace == "" and "namespace" not in intent.body["metadata"]
    assert notes == ['all.yaml:3: Namespace a: is cluster-scoped, its metadata.namespace "b" is left out']


def test_the_same_object_twice_is_refused_with_both_places() -> None:
    message = refused(document("ConfigMap", "a", line=1), document("ConfigMap", "a", namespace="shop", line=9))
    assert "all.yaml:9" in message and "all.yaml:1" in message and "twice" in message


def test_the_same_name_in_other_namespaces_or_kinds_is_not_the_same_object() -> None:
    assert len(settled(document("ConfigMap", "a"), document("ConfigMap", "a", namespace="b"), document("Deployment", "a", "apps/v1"))) == 3


def test_an_unknown_kind_is_refused_with_what_may_have_been_meant() -> None:
    message = refused(document("Deploymnet", "a", "apps/v1"))
    assert "Deploymnet" in message and "apps/v1" in message and "Deployment" in message


def test_a_kind_whose_crd_is_in_the_repository_is_known() -> None:
    def definition(scope: str, served: bool = True) -> Document:
        return document("CustomResourceDefinition", "widgets.example.com", "apiextensions.k8s.io/v1", spec={
            "group": "example.com", "scope": scope, "names": {"kind": "Widget"}, "versions": [{"name": "v1", "served": served}]})

    own = document("Widget", "w", "example.com/v1")
    assert settled(definition("Namespaced"), own)[1].ref == Ref("example.com", "Widget", "shop", "w")
    assert settled(definition("Cluster"), own)[1].ref == Ref("example.com", "Widget", "", "w")
    assert "does not know Widget" in refused(definition("Namespaced", served=False), own)
    assert "does not know Widget" in refused(definition("Namespaced"), document("Widget", "w", "example.com/v2"))


def test_all_errors_are_told_at_once_and_counted_beyond_twenty() -> None:
    message = refused(*[document("Nothing", f"n{number}", line=number) for number in range(1, 31)])
    assert message.count("all.yaml:") == 20 and "(+10 more)" in message


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_the_replicas_of_what_is_autoscaled_are_left_to_the_autoscaler(kind: str) -> None:
    spec = {"replicas": 3, "paused": True}
    intent, _autoscaler = settled(document(kind, "web", "apps/v1", spec=spec), autoscaler("web", kind))
    assert intent.body["spec"] == {"paused": True} and spec["replicas"] == 3


def test_the_replicas_of_everything_else_are_gits() -> None:
    found = settled(document("Deployment", "web", "apps/v1", spec={"replicas": 3}), autoscaler("other"), autoscaler("web", "StatefulSet"),
                    autoscaler("web", namespace="elsewhere"))
    assert found[0].body["spec"] == {"replicas": 3}
