# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of Argo CD's kinds without a cluster: names, URLs, patterns, policies, and which status answers a request."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow, guard, options, policies
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION, CLUSTER, REPOSITORY, same_url
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("server, name", [
    ("http://foo", "cluster-foo-752281925"),
    ("http://thelongestdomainnameintheworld.argocd-project.com:3000", "cluster-thelongestdomainnameintheworld.argocd-project.com-2721640553"),
    ("http://[fe80::1ff:fe23:4567:890a]:8000", "cluster-fe80--1ff-fe23-4567-890a-664858999"),
])
def test_a_cluster_gets_the_secret_that_argo_cd_itself_would_make(server, name):
    """The values of Argo CD's own test of URIToSecretName."""
    assert CLUSTER.named({"server": server}) == name


def test_a_repository_of_a_project_is_another_one():
    url = "https://git.example.no/a.git"
    names = {REPOSITORY.named({"url": url}), REPOSITORY.named({"url": url, "project": "shop"}), REPOSITORY.named({"url": url, "template": True})}
    assert len(names) == 3


@pytest.mark.parametrize("one, other, same", [
    ("https://git.example.no/a.git", "https://Git.example.no/a", True),
    ("git@git.example.no:shop/a.git", "ssh://git@git.example.no/shop/a", True),
    ("https://git.example.no/a", "https://git.example.no/b", False),
    ("https://git.example.no/a", "http://git.example.no/a", False),
])
def test_one_repository_may_be_written_in_several_ways(one, other, same):
    assert same_url(one, other) is same


@pytest.mark.parametrize("patterns, url, permitted", [
    (["*"], "https://git.example.no/shop/a.git", True),
    (["https://git.example.no/shop/*"], "https://git.example.no/shop/a.git", True),
    (["https://git.example.no/*"], "https://git.example.no/shop/a.git", False),
    (["https://git.example.no/**"], "https://git.example.no/shop/a.git", True),
    (["*", "!https://git.example.no/bank/*"], "https://git.example.no/bank/a.git", False),
    (["https://git.example.no/shop/a"], "https://git.example.no/shop/a.git", True),
    ([], "https://git.example.no/shop/a.git", False),
])
def test_a_projects_repositories_are_patterns(patterns, url, permitted):
    world = World({"sourceRepos": patterns, "destinations": [{"server": "*", "namespace": "*"}]})
    problem = guard.is_permitted({"source": {"repoURL": url}, "destination": {"server": "a", "namespace": "b"}}, None, world)
    assert ("does not permit the repository" not in problem) is permitted


@pytest.mark.parametrize("destination, permitted", [
    ({"server": "https://kubernetes.default.svc", "namespace": "shop-web"}, True),
    ({"server": "https://kubernetes.default.svc", "namespace": "bank"}, False),
    ({"server": "https://bergen.example.no", "namespace": "shop-web"}, False),
    # The project names the cluster by its server: which name that has, only Argo CD knows.
    ({"name": "in-cluster", "namespace": "shop-web"}, True),
])
def test_a_projects_destinations_are_patterns(destination, permitted):
    world = World({"sourceRepos": ["*"], "destinations": [{"server": "https://kubernetes.default.svc", "namespace": "shop-*"}]})
    problem = guard.is_permitted({"source": {"repoURL": "a"}, "destination": destination}, None, world)
    assert ("does not permit the destination" not in problem) is permitted


class World:
    """One project."""

    def __init__(self, spec):
        self.spec = spec

    def objects(self, kind, namespace=""):
        return [{"metadata": {"name": "default"}, "spec": self.spec}]


@pytest.mark.parametrize("policy", [
    "p, proj:shop:ci, applications, sync, shop/*, allow",
    'p, proj:shop:ci, applications, action/apps/Deployment/restart, "shop/web", allow',
    "p,proj:shop:ci,logs,get,shop/web,deny",
])
def test_a_policy_that_argo_cd_reads_has_no_problem(policy):
    assert not policies.problems_of_role(policy, "shop", "ci")


@given(st.lists(st.sampled_from(["p", "g", "proj:shop:ci", "applications", "sync", "shop/*", "allow", "", "x"]), max_size=8))
def test_a_policy_of_any_other_form_has_one(fields):
    """Whatever the fields are, only one order of them is a policy."""
    right = fields == ["p", "proj:shop:ci", "applications", "sync", "shop/*", "allow"]
    assert bool(policies.problems_of_role(", ".join(fields), "shop", "ci")) is not right


def test_what_a_task_leaves_out_is_left_out_and_what_is_empty_stays_empty():
    params = {name: None for name in APPLICATION.whole}
    params.update(name="web", namespace="argocd", syncPolicy={"automated": {"prune": None, "selfHeal": None, "allowEmpty": None, "enabled": None},
                                                              "syncOptions": None, "retry": None, "managedNamespaceMetadata": None})
    assert options.given(APPLICATION.whole, params) == {"name": "web", "namespace": "argocd", "syncPolicy": {"automated": {}}}


ASKED = follow.Asked("2026-11-29T12:00:00.123456+00:00", datetime(2026, 11, 29, 12, 0, 0, tzinfo=timezone.utc))
OWNED = [{"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "name": "all"}]


@pytest.mark.parametrize("annotations, reconciled, owners, fresh", [
    ({follow.REFRESH: "hard", follow.REFRESH_TIMESTAMP: ASKED.stamp}, "2026-11-29T12:00:09Z", [], False),
    # 3.6 and later take both away, only when they are what was read before the comparison.
    ({}, "2026-11-29T12:00:00Z", [], True),
    # An earlier one leaves the second: the time alone is proof, and not within the same second.
    ({follow.REFRESH_TIMESTAMP: ASKED.stamp}, "2026-11-29T12:00:00Z", [], False),
    ({follow.REFRESH_TIMESTAMP: ASKED.stamp}, "2026-11-29T12:00:01Z", [], True),
    # Who rewrites the object takes annotations away without any comparison.
    ({}, "2026-11-29T12:00:00Z", OWNED, False),
    ({}, "2026-11-29T12:00:01Z", OWNED, True),
    ({}, None, OWNED, False),
])
def test_a_status_is_fresh_only_with_proof(annotations, reconciled, owners, fresh):
    """argo-cd#10500"""
    live = {"metadata": {"annotations": annotations, "ownerReferences": owners}, "status": {"reconciledAt": reconciled}}
    assert follow.is_fresh(live, ASKED) is fresh


def test_an_application_that_cannot_be_looked_at_has_troubles_and_one_that_only_warns_has_none():
    conditions = [{"type": "SharedResourceWarning", "message": "a"}, {"type": "InvalidSpecError", "message": "b"}]
    assert follow.troubles({"status": {"conditions": conditions}}) == ["InvalidSpecError: b"]
    assert follow.troubles({"status": {"conditions": conditions[:1], "sync": {"status": "OutOfSync"}}}) == []
    assert follow.troubles({"status": {"sync": {"status": "Unknown"}}}) == ["its sync status is Unknown"]
