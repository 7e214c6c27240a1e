# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault beside good objects is known before any of them is written."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from reconciling import config_map, deployment

GOOD = config_map("good")


def first(text, before, after):
    assert before in text
    return text.replace(before, after, 1)


CASES = {
    "an unknown field": (first(deployment("web"), "replicas", "replica"), [".spec.replica", "not declared in schema", "Did you mean replicas?"]),
    "an unknown field deep inside": (first(deployment("web"), "image", "imagee"), ["containers[0].imagee", "Did you mean image?"]),
    "a mapping for a list": ("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}], externalIPs: {a: b}}\n",
                             [".spec.externalIPs is a mapping, must be a list"]),
    "an unquoted y": ("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}], externalName: y}\n",
                      [".spec.externalName is a boolean, must be a string", "Quote it"]),
    "text for a number": (first(deployment("web"), "replicas: 1", "replicas: one"), [".spec.replicas is a string, must be an integer"]),
    "a namespace that is not there": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere-at-all}\n",
                                      ["namespaces \"nowhere-at-all\" not found", "Add it to Git, or create it"]),
    "a malformed name": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n", ["'Bad_Name' is no valid name"]),
    "a malformed label": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {'a b': c}}\n", ["metadata.labels[a b] is no valid key"]),
    "a label that is too long": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a: %s}}\n" % ("x" * 64), ["is no valid label"]),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_written_beside_a_fault_that_can_be_known_before(run, git_repo, cluster, namespace, case):
    text, words = CASES[case]
    git_repo.write("good.yaml", GOOD)
    git_repo.write("x.yaml", text)
    git_repo.commit()
    for check_mode in (True, False):
        with pytest.raises(Failure) as caught:
            run(check_mode=check_mode)
        assert all(word in str(caught.value) for word in ["x.yaml:1", *words]), str(caught.value)
    assert cluster.kubectl("get", "configmap", "good", "-n", namespace, "--ignore-not-found", "-o", "name").strip() == ""


def test_a_misspelt_kind_is_told_together_with_the_other_faults(run, git_repo):
    git_repo.write("a.yaml", "apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: web}\n")
    git_repo.write("b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {port: 80}\n")
    git_repo.commit()
    with pytest.raises(Failure) as caught:
        run()
    assert "Did you mean apps/v1 Deployment?" in str(caught.value) and "data[port] is an integer" in str(caught.value)


def test_every_kind_that_the_server_serves_fits_its_own_schema(cluster, namespace):
    """What the server itself answers for objects of many kinds is never a fault here."""
    import json

    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.precheck import wrong_fields

    connected = Cluster.of({"kubeconfig": str(cluster.kubeconfig)})
    seen = 0
    for resource in connected.discover():
        if "list" not in resource.verbs:
            continue
        for body in connected.list(resource)[0][:50]:
            body = json.loads(json.dumps(body))
            assert wrong_fields(body, connected.schema(resource.api_version, resource.kind)) == [], resource
            seen += 1
    assert seen > 20
