# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken out of a manifest since the server or a controller decides it."""

from __future__ import annotations

import base64
import copy
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import CA_BUNDLES, normalise

CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
PLACES = {
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", lambda ca: {"spec": {"conversion": {"webhook": {"clientConfig": ca}}}}),
    "ValidatingWebhookConfiguration": ("admissionregistration.k8s.io/v1", lambda ca: {"webhooks": [{"name": "a", "clientConfig": ca}]}),
    "MutatingWebhookConfiguration": ("admissionregistration.k8s.io/v1", lambda ca: {"webhooks": [{"name": "a", "clientConfig": ca}]}),
    "APIService": ("apiregistration.k8s.io/v1", lambda ca: {"spec": ca}),
}


def body(kind: str, api_version: str, **fields: Any) -> Dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **fields}


@pytest.mark.parametrize("kind", PLACES)
def test_a_ca_bundle_that_holds_no_certificate_is_left_to_its_injector(kind: str) -> None:
    api_version, place = PLACES[kind]
    for placeholder in ("Cg==", "", None, base64.b64encode(b"placeholder").decode()):
        given_body = body(kind, api_version, **place({"caBundle": placeholder, "service": {"name": "s"}}))
        before = copy.deepcopy(given_body)
        assert normalise(given_body) == body(kind, api_version, **place({"service": {"name": "s"}})) and given_body == before
    for kept in (CERTIFICATE, "not base64!", 7):
        given_body = body(kind, api_version, **place({"caBundle": kept}))
        assert normalise(given_body) == given_body


@pytest.mark.parametrize("rules", [[], [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]])
def test_the_rules_of_an_aggregated_role_are_the_control_planes(rules: Any) -> None:
    role = body("ClusterRole", "rbac.authorization.k8s.io/v1", rules=rules)
    assert normalise(role) == role
    selector = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    assert "rules" not in normalise({**role, "aggregationRule": selector})


def test_a_status_is_the_servers_for_every_kind_of_its_own_and_may_be_a_field_of_a_custom_kind() -> None:
    for kind, api_version in (("Deployment", "apps/v1"), ("CustomResourceDefinition", "apiextensions.k8s.io/v1")):
        assert "status" not in normalise(body(kind, api_version, status={"a": 1}))
    assert normalise(body("Widget", "example.com/v1", status={"a": 1}))["status"] == {"a": 1}


JSON = some.recursive(some.one_of(some.none(), some.booleans(), some.integers(), some.text(max_size=3)),
                      lambda child: some.one_of(some.lists(child, max_size=3), some.dictionaries(
                          some.sampled_from(["spec", "webhooks", "conversion", "webhook", "clientConfig", "caBundle"]), child, max_size=3)))


@given(some.sampled_from(sorted(CA_BUNDLES)), JSON, JSON)
def test_whatever_a_manifest_looks_like_it_is_normalised_once(kind: Any, spec: Any, webhooks: Any) -> None:
    once = normalise(body(kind[1], f"{kind[0]}/v1", spec=spec, webhooks=webhooks))
    assert normalise(once) == once
