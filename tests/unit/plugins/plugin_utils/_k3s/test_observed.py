# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that somebody has taken over answers what it likes: it can cost a run its success, and nothing else."""

from __future__ import annotations

import copy
from typing import Any, Dict, Iterator, Tuple

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import CONTROL
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.observed import as_asked
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import Fleet, make_plan
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.restore_plan import plan_restore

OTHERS: Tuple[Any, ...] = (
    None, "x", "²", 7, 1.5, True, [], [None], ["x"], [{}], {}, {"x": "y"}, "9" * 5000, "a\nfatal: forged\x1b[2J", "v1.30.3+k3s" + "9" * 900)


def server(name: str, number: int) -> Dict[str, Any]:
    return {
        "wanted": {"role": "server", "address": f"10.0.0.{number}", "binary": "k3s", "adopt": False, "config": {"node-name": name, "https-listen-port": 6443,
                   "node-label": ["a=b"], "node-ip": "10.0.0.9"}, "environment": ["A"], "changes": ["a"], "restarts": ["a"]},
        "role": "server", "service": {"state": "active"}, "restart_pending": ["x"], "node_name": name, "default_node_name": name, "hostname": name,
        "machine_id": f"id-{name}", "architecture": "x86_64", "data_dir": "/var/lib/rancher/k3s", "datastore": "etcd", "has_cluster": True,
        "server_url": "https://10.0.0.1:6443", "cluster_init": True, "registered_name": name, "fixed": {"cluster-cidr": "10.42.0.0/16"},
        "set_up_by_others": {"config": {"a": "b"}, "environment": ["B"]}, "token_fingerprint": "t", "ca_fingerprint": "c", "ready": True,
        "version": "v1.30.3+k3s1", "node": {"addresses": ["10.0.0.1"], "marked": True}, "nodes": [{"name": name, "ready": True, "roles": ["etcd"]}],
        "etcd": {"is_leader": True, "members": [{"node": name, "name": name, "healthy": True}]}, "addresses": ["10.0.0.1"],
        "recorded_members": [{"node": "gone", "address": "10.0.0.8", "answers": False}], "recorded_servers": [{"address": "10.0.0.8", "answers": False}],
        "record_trouble": None}


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def test_whatever_a_host_answers_the_plan_is_a_plan_or_a_sentence_that_names_it() -> None:
    answer, tried = server("server1", 1), 0
    for path in [path for path in places(answer) if path]:
        for other in OTHERS:
            changed = copy.deepcopy(answer)
            place: Any = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = other
            for plan in (make_plan, lambda fleet: plan_restore(fleet, "", ["gone"])):
                tried += 1
                try:
                    said = " ".join(plan(Fleet.of({"server1": changed, "server2": server("server2", 2)}, version="v1.31.1+k3s1")).summary)
                except Failure as failure:
                    said = str(failure)
                assert not CONTROL.search(said), (path, other, said)
    assert tried > 1000


def test_an_answer_of_another_type_is_told_with_its_host_and_place() -> None:
    with pytest.raises(Failure, match="what server1 answers is not what k3s_info tells: etcd.members is not a list. Look at that host"):
        Fleet.of({"server1": {**server("server1", 1), "etcd": {"members": {}}}})


def test_a_host_does_not_make_itself_a_server_nor_choose_where_others_join() -> None:
    told = {"changed": False, "wanted": {"role": "server", "address": "10.6.6.6", "config": {"node-name": "a"}}}
    asked = {"role": "agent", "address": "10.0.1.1", "config": {}}
    assert as_asked(asked, told) == {"changed": False, "wanted": {"role": "agent", "address": "10.0.1.1", "config": {"node-name": "a"}}}
    assert as_asked(None, told) == {"changed": False} and as_asked(asked, {"wanted": "server"}) == {}
    assert as_asked(asked, {"failed": True, "msg": "no"}) == {"failed": True, "msg": "no"}
