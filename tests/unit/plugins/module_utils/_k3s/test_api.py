# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a Node, and of the kubeconfig that k3s writes for itself."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import Api, Node

ITEM: Dict[str, Any] = {
    "metadata": {"name": "server1", "uid": "u", "labels": {"node-role.kubernetes.io/etcd": "true", "node-role.kubernetes.io/control-plane": "true",
                                                           "kubernetes.io/os": "linux"}},
    "spec": {"unschedulable": True},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "EtcdIsVoter", "status": "False"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "server1"}],
        "nodeInfo": {"kubeletVersion": "v1.30.3+k3s1", "machineID": "m", "architecture": "amd64"},
    },
}


def test_a_node_is_read() -> None:
    node = Node.of(ITEM)
    assert (node.name, node.ready, node.roles, node.version, node.unschedulable, node.addresses, node.etcd_voter) == (
        "server1", True, ("control-plane", "etcd"), "v1.30.3+k3s1", True, ("10.0.0.1",), False)


def test_a_node_that_is_not_ready_says_why_in_the_kubelets_words() -> None:
    item = {**ITEM, "status": {"conditions": [{"type": "Ready", "status": "False", "message": "cni plugin not initialized"}]}}
    assert (Node.of(item).ready, Node.of(item).message, Node.of(item).etcd_voter) == (False, "cni plugin not initialized", None)


def test_a_node_that_has_only_just_registered_is_not_ready() -> None:
    node = Node.of({"metadata": {"name": "new"}})
    assert not node.ready and "not reported yet" in node.message


def test_a_node_without_credentials_says_that_k3s_has_not_started(tmp_path) -> None:
    with pytest.raises(Failure, match="has not started on this node yet"):
        Api.of_node(str(tmp_path))


def test_a_kubeconfig_that_lacks_something_is_named(tmp_path) -> None:
    path = tmp_path / "agent" / "kubelet.kubeconfig"
    path.parent.mkdir()
    path.write_text("clusters:\n- cluster:\n    server: https://127.0.0.1:6444\n", encoding="utf-8")
    with pytest.raises(Failure) as caught:
        Api.of_node(str(tmp_path))
    assert str(path) in str(caught.value) and "client-key" in str(caught.value)
