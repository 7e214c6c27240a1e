# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a server may leave for good, by what etcd and the Nodes say."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import Node
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Member, View
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.leave import objection, without_etcd
from hypothesis import given
from hypothesis import strategies as st


def member(number: int, learner: bool = False) -> Member:
    return Member(number, f"server{number}-0badcafe", (f"https://10.0.0.{number}:2380",), (), learner)


@given(st.integers(1, 7), st.sets(st.integers(2, 7)), st.booleans())
def test_what_is_left_always_has_a_quorum(voters, sick, joining):
    members = [member(number) for number in range(1, voters + 1)] + ([member(9, True)] if joining else [])
    view = View(tuple(members), 1, 1, frozenset(one.id for one in members if one.id not in sick))
    left = [one for one in view.voters if one.id != 1]
    fine = bool(left) and not joining and 2 * sum(one.id not in sick for one in left) > len(left)
    assert (objection(view) == "") is fine


def test_the_last_server_and_those_that_are_in_the_way_are_named():
    assert objection(View((member(1),), 1, 1, frozenset({1}))) == "it is the last server of the cluster"
    assert "server2-0badcafe does not answer" in objection(View((member(1), member(2)), 1, 1, frozenset({1})))
    assert "server3-0badcafe now, which is a learner" in objection(View((member(1), member(2), member(3, True)), 1, 1, frozenset({1, 2, 3})))


def node(name: str, ready: bool = True, **labels: str) -> Node:
    item: Dict[str, Any] = {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}
    return Node.of(item)


SERVER = {"node-role.kubernetes.io/control-plane": "true"}


@pytest.mark.parametrize(("nodes", "said"), [
    ([node("server1", **SERVER), node("agent1")], "it is the last server of the cluster"),
    ([node("server1", **SERVER), node("server2", False, **SERVER)], "no other server is Ready (server2)"),
    ([node("server1", **SERVER), node("server2", **SERVER)], "")])
def test_with_another_datastore_the_nodes_tell(nodes, said):
    assert without_etcd(nodes, "server1") == said
