# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server serves, from either form of discovery, and what was meant by a kind that it doesn't."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Resource, discovery
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure


def version(name, *resources, freshness="Current"):
    return {
        "version": name,
        "freshness": freshness,
        "resources": [
            {
                "resource": plural,
                "responseKind": {"group": "", "version": name, "kind": kind},
                "scope": scope,
                "verbs": ["get", "list"],
                "subresources": [{"subresource": "status"}],
            }
            for plural, kind, scope in resources
        ],
    }


CORE = {
    "kind": "APIGroupDiscoveryList",
    "items": [
        {
            "metadata": {"name": ""},
            "versions": [version("v1", ("configmaps", "ConfigMap", "Namespaced"), ("nodes", "Node", "Cluster"))],
        }
    ],
}
GROUPS = {
    "kind": "APIGroupDiscoveryList",
    "items": [
        {
            "metadata": {"name": "networking.k8s.io"},
            "versions": [
                version("v1", ("ingresses", "Ingress", "Namespaced")),
                version("v1beta1", ("ingresses", "Ingress", "Namespaced")),
            ],
        },
        {
            "metadata": {"name": "apps"},
            "versions": [version("v1", ("deployments", "Deployment", "Namespaced"))],
        },
        {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale"}]},
    ],
}


@pytest.fixture
def served():
    return discovery.from_aggregated(CORE, GROUPS)


def test_a_kind_is_found_by_its_api_version_and_name(served):
    assert served.find("apps/v1", "Deployment") == Resource(
        "apps", "v1", "Deployment", "deployments", True, ("get", "list")
    )
    assert served.find("v1", "Node").namespaced is False
    assert served.find("networking.k8s.io/v1beta1", "Ingress").version == "v1beta1"
    assert served.find("apps/v1beta1", "Deployment") is None
    assert len(served) == len(list(served)) == 5


def test_the_preferred_version_is_the_servers_first(served):
    assert served.preferred("networking.k8s.io", "Ingress").api_version == "networking.k8s.io/v1"
    assert served.preferred("", "ConfigMap").api_version == "v1"
    assert served.preferred("apps", "Ingress") is None


@pytest.mark.parametrize(
    ("api_version", "kind", "words"),
    [
        ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1 Ingress?"),
        ("apps/v1", "Deploymnet", "apps/v1 Deployment?"),
        ("apps/v1", "deployment", "apps/v1 Deployment?"),
        ("v1", "ingresses", "networking.k8s.io/v1 Ingress?"),
        ("example.com/v1", "Widget", "CustomResourceDefinition"),
        ("metrics.k8s.io/v1beta1", "PodMetrics", "APIService"),
    ],
)
def test_an_unknown_kind_gets_a_hint(served, api_version, kind, words):
    assert words in served.suggestion(api_version, kind)


def test_a_group_whose_server_is_down_does_not_hide_the_others(served):
    assert list(served.stale) == ["metrics.k8s.io"]
    assert served.find("v1", "ConfigMap") is not None


def test_an_old_servers_discovery_gives_the_same():
    groups = {
        "groups": [
            {
                "name": "apps",
                "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
                "versions": [
                    {"groupVersion": "apps/v1beta1", "version": "v1beta1"},
                    {"groupVersion": "apps/v1", "version": "v1"},
                ],
            }
        ]
    }
    assert discovery.group_versions({"versions": ["v1"]}, groups) == ["v1", "apps/v1", "apps/v1beta1"]
    deployment = {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["list"]}
    served = discovery.from_plain(
        [
            {
                "groupVersion": "v1",
                "resources": [
                    {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": ["list"]},
                    {"name": "nodes/status", "kind": "Node", "namespaced": False, "verbs": ["get"]},
                ],
            },
            {"groupVersion": "apps/v1", "resources": [deployment, dict(deployment, name="deployments/status")]},
            {"groupVersion": "apps/v1beta1", "resources": [deployment]},
        ],
        {"metrics.k8s.io": "503"},
    )
    assert served.preferred("apps", "Deployment") == Resource("apps", "v1", "Deployment", "deployments", True, ("list",))
    assert served.find("v1", "Node").plural == "nodes" and served.stale == {"metrics.k8s.io": "503"}
    assert not served.find("apps/v1beta1", "Deployment").status
    assert len(served) == 3


def test_helm_is_told_each_version_and_each_kind_of_it_also_of_a_server_that_is_down():
    lists = {"items": [
        {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "deployments", "responseKind": {"kind": "Deployment"}}]}]},
        {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale"}]}]}
    assert discovery.from_aggregated(lists).api_versions == ("apps/v1", "apps/v1/Deployment", "metrics.k8s.io/v1beta1")
    core = {"groupVersion": "v1", "resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]}
    assert discovery.from_plain([core, {"groupVersion": "metrics.k8s.io/v1beta1"}], {}).api_versions == ("metrics.k8s.io/v1beta1", "v1", "v1/Pod")


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (Resource("", "v1", "ConfigMap", "configmaps", True, ()), ("shop", "a"), "/api/v1/namespaces/shop/configmaps/a"),
        (Resource("", "v1", "ConfigMap", "configmaps", True, ()), ("", ""), "/api/v1/configmaps"),
        (Resource("", "v1", "Node", "nodes", False, ()), ("ignored", "n1"), "/api/v1/nodes/n1"),
        (
            Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False, ()),
            ("", "system:node/../x?y"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode%2F..%2Fx%3Fy",
        ),
    ],
)
def test_a_path_leads_to_the_object_and_nowhere_else(resource, arguments, path):
    assert resource.path(*arguments) == path


@pytest.mark.parametrize(("namespace", "name"), [("shop", ".."), ("..", "web"), (".", ""), ("", ".")])
def test_a_name_of_dots_is_refused(namespace, name):
    with pytest.raises(Failure, match="are not valid names"):
        Resource("", "v1", "ConfigMap", "configmaps", True, ()).path(namespace, name)


def test_where_reads_as_a_person_says_it():
    deployment = Resource("apps", "v1", "Deployment", "deployments", True, ())
    assert deployment.where("shop", "web") == "Deployment.apps shop/web"
    assert deployment.where() == "Deployment.apps"
    assert Resource("", "v1", "Node", "nodes", False, ()).where("", "n1") == "Node n1"
