# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a cluster can spare a node, by what its servers tell. Whatever is not known is an objection."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Sequence, Tuple

import pytest
from ansible_collections.nordic.gitops.plugins.filter.gate_objections import gate_objections
from hypothesis import given
from hypothesis import strategies as st

SERVERS = ("server1", "server2", "server3")
NOBODY = ["no other server of the cluster answers"]


def etcd(*names: str, sick: Sequence[str] = (), learners: Sequence[str] = (), alarms: Sequence[str] = ()) -> Dict[str, Any]:
    members = [{"node": name, "name": f"{name}-1", "address": "192.0.2.1", "voter": name not in learners, "healthy": name not in (*sick, *learners)}
               for name in names]
    return {"members": members, "quorum": sum(one["voter"] for one in members) // 2 + 1, "alarms": list(alarms)}


def answer(name: str, members: Any, unready: Sequence[str] = (), trouble: Any = None, datastore: str = "etcd") -> Dict[str, Any]:
    nodes = [{"name": one, "ready": one not in unready} for one in (*SERVERS, "agent1")]
    return {"node_name": name, "nodes": nodes, "etcd": members, "trouble": trouble, "datastore": datastore}


def answers(members: Any, of: Sequence[str] = SERVERS, **more: Any) -> List[Any]:
    """Of these servers; the others are unreachable, or have no k3s that runs."""
    silent = [{"unreachable": True, "msg": "no route"}, {"failed": True, "msg": "no Python"}, {"node_name": "server9", "nodes": None, "etcd": None}]
    return [answer(name, members, **more) for name in of] + silent[: 3 - len(of)]


CASES = {
    "all is well": (answers(etcd(*SERVERS)), "server2", []),
    "its name in capital letters": (answers(etcd(*SERVERS)), "Server2", []),
    "an agent": (answers(etcd(*SERVERS)), "agent1", []),
    "one is away": (answers(etcd(*SERVERS, sick=["server3"]), SERVERS[:2]), "server2",
                    ["etcd would have 1 healthy voters without it, and needs 2, as server3 does not answer"]),
    "it is the one that is away": (answers(etcd(*SERVERS, sick=["server3"]), SERVERS[:2], unready=["server3"]), "server3", []),
    "one of two": (answers(etcd(*SERVERS[:2]), SERVERS[:2]), "server2", ["etcd would have 1 healthy voters without it, and needs 2"]),
    "one is joining": (answers(etcd(*SERVERS, "server4", learners=["server4"])), "server2", ["etcd admits server4"]),
    "one that has no name yet is joining": (answers(etcd(*SERVERS, "", learners=[""])), "server2", ["etcd admits -1"]),
    "it is the one that is joining": (answers(etcd(*SERVERS, learners=["server3"])), "server3", []),
    "an alarm": (answers(etcd(*SERVERS, alarms=["NOSPACE"])), "agent1", ["etcd has raised NOSPACE"]),
    "another node is not Ready": (answers(etcd(*SERVERS), unready=["agent1"]), "server2", ["not Ready: agent1"]),
    "two things at once": (answers(etcd(*SERVERS, sick=["server1"]), unready=["server1"]), "server2",
                           ["etcd would have 1 healthy voters without it, and needs 2, as server1 does not answer", "not Ready: server1"]),
    "a name that is no node's": (answers(etcd(*SERVERS)), "shop-server-2",
                                 ["the cluster has no node of this name, it has agent1, server1, server2, server3"]),
    "a part of a name": (answers(etcd(*SERVERS)), "server", ["the cluster has no node of this name, it has agent1, server1, server2, server3"]),
    "no name": (answers(etcd(*SERVERS)), " ", ["no node is named"]),
    "the only server": (answers(etcd("server1"), ["server1"]), "server1", NOBODY),
    "nobody answers": (answers(None, []), "server1", NOBODY),
    "an external datastore": (answers(None, datastore="external"), "server2", []),
    "SQLite and an agent": (answers(None, ["server1"], datastore="sqlite"), "agent1", []),
    "no members of etcd": (answers(None, ["server1"]), "agent1", ["server1 tells nothing of etcd's members"]),
    "no answer of etcd": (answers(None, trouble="etcd gives no answer"), "server2", ["etcd gives no answer"]),
    "trouble on one server, which the others judge": (
        [answer("server1", None, trouble="etcd gives no answer"), *answers(etcd(*SERVERS, sick=["server1"]), ["server2", "server3"])], "server1", []),
    "servers that see different things": ([answer("server1", etcd(*SERVERS)), answer("server3", etcd(*SERVERS, sick=["server1"]))], "server2",
                                          ["etcd would have 1 healthy voters without it, and needs 2, as server1 does not answer"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_node_is_spared_only_when_nothing_speaks_against_it(case: str) -> None:
    found, node, said = CASES[case]
    assert gate_objections(found, node) == said


def places_of(value: Any, path: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [place for key, inner in items for place in [(*path, key), *places_of(inner, (*path, key))]]


WELL = answer("server1", etcd("server1", "server2", "server3"))
# What a rule reads only to say who it is, or in a case that this is not; and whether server2 is well, which is to go.
UNREAD = {("datastore",), ("nodes", 1, "ready"), ("etcd", "members", 1, "healthy"),
          *(("etcd", "members", number, field) for number in range(3) for field in ("name", "address"))}
READ = [place for place in places_of(WELL) if isinstance(place[-1], str) and place not in UNREAD]


@pytest.mark.parametrize("place", READ, ids=lambda place: ".".join(map(str, place)))
def test_a_field_that_is_missing_is_an_objection(place: Sequence[Any]) -> None:
    assert gate_objections([WELL], "server2") == []
    spoilt = copy.deepcopy(WELL)
    holder = spoilt
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    assert gate_objections([spoilt], "server2"), place


JUNK = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))


@given(st.sampled_from(READ), JUNK)
def test_whatever_a_server_tells_is_judged_and_no_voter_that_is_sick_becomes_healthy(place: Sequence[Any], junk: Any) -> None:
    found = answer("server1", etcd("server1", "server2", "server3", sick=["server3"]))
    holder: Any = found
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = junk
    said = gate_objections([found], "server2")
    assert all(isinstance(one, str) for one in said)
    if place[0] != "etcd":
        assert said


@given(st.sets(st.integers(0, 4), max_size=4), st.integers(0, 4), st.integers(1, 5))
def test_etcd_has_its_quorum_while_a_spared_server_is_away(sick: Any, leaving: int, count: int) -> None:
    names = [f"server{number}" for number in range(count)]
    members = etcd(*names, sick=[f"server{number}" for number in sick])
    nodes = [{"name": name, "ready": True} for name in names]
    told = [{"node_name": name, "nodes": nodes, "etcd": members, "trouble": None, "datastore": "etcd"} for name in names]
    if not gate_objections(told, f"server{leaving}"):
        assert len([name for number, name in enumerate(names) if number not in sick and number != leaving]) > count // 2
