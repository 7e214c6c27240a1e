# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a member of etcd may stop, by what one member sees."""

from __future__ import annotations

from typing import Iterable, Sequence

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import EtcdFailure, Member, View, wait_until


def member(number: int, learner: bool = False) -> Member:
    return Member(number, f"server{number}-0badcafe", (f"https://10.0.0.{number}:2380",), (f"https://10.0.0.{number}:2379",), learner)


def view(voters: int, sick: Sequence[int] = (), learners: Iterable[int] = (), own: int = 1, leader: int = 1, alarms: Sequence[str] = ()) -> View:
    members = [member(number) for number in range(1, voters + 1)] + [member(number, True) for number in learners]
    return View(tuple(members), own, leader, frozenset(item.id for item in members if item.id not in sick), tuple(alarms))


@pytest.mark.parametrize(("voters", "sick"), [(3, []), (5, []), (5, [4]), (4, [])])
def test_one_may_stop_while_a_quorum_stays(voters: int, sick: Sequence[int]) -> None:
    seen = view(voters, sick)
    assert [seen.may_stop(other) for other in seen.voters if other.id not in sick] == [""] * (voters - len(sick))


@pytest.mark.parametrize(("voters", "sick"), [(2, []), (3, [2]), (4, [2]), (5, [2, 3])])
def test_none_may_stop_when_the_quorum_would_be_lost(voters: int, sick: Sequence[int]) -> None:
    seen = view(voters, sick)
    for other in seen.voters:
        if other.id not in sick:
            assert f"needs {voters // 2 + 1}" in seen.may_stop(other)
    assert not sick or "server2-0badcafe" in seen.may_stop()


def test_a_member_that_is_dead_already_may_stop() -> None:
    assert view(3, sick=[2]).may_stop(member(2)) == ""


def test_a_cluster_of_one_has_no_quorum_to_lose() -> None:
    assert view(1).may_stop() == ""


def test_none_may_stop_while_a_learner_catches_up_but_the_learner_itself() -> None:
    seen = view(3, learners=[4])
    assert "server4-0badcafe" in seen.may_stop() and "learner" in seen.may_stop()
    assert seen.may_stop(member(4, True)) == ""
    assert "learner" in view(1, learners=[2]).may_stop()


def test_none_may_stop_without_a_leader_nor_one_that_etcd_does_not_know() -> None:
    assert "no leader" in view(3, leader=0).may_stop()
    assert "does not know this server" in view(3, own=9).may_stop()


def test_what_is_wrong_is_said() -> None:
    assert view(3).trouble() == ""
    assert "no leader" in view(3, leader=0).trouble()
    assert "NOSPACE" in view(3, alarms=["NOSPACE"]).trouble()
    assert "server2-0badcafe does not answer" in view(3, sick=[2]).trouble()
    assert "learner" in view(3, learners=[4]).trouble()


def test_a_member_is_found_by_its_name_its_node_and_its_address() -> None:
    seen = view(3)
    for name in ("server2-0badcafe", "server2", "10.0.0.2"):
        assert seen.member(name) == member(2)
    assert seen.member("server") is None


def test_a_node_that_is_called_as_etcd_calls_the_member_of_another_is_not_taken_for_that_one() -> None:
    """As with-node-id names nodes, by eight digits too."""
    web = Member(1, "web-0badcafe", ("https://10.0.0.1:2380",), (), False)
    other = Member(2, "web-0badcafe-12345678", ("https://10.0.0.2:2380",), (), False)
    seen = View((web, other), 1, 1, frozenset((1, 2)), ())
    assert (seen.member("web-0badcafe"), seen.member("web")) == (other, web)


def test_a_member_that_never_started_is_named_by_its_address() -> None:
    assert str(Member(7, "", ("https://10.0.0.7:2380",), (), True)) == "10.0.0.7 (not started)"


def test_another_healthy_voter_leads_instead() -> None:
    assert view(3, sick=[2]).best_leader() == member(3)
    assert view(1).best_leader() is None


def test_a_wait_ends_with_the_last_objection_or_none() -> None:
    now = [0.0]
    answers = iter(["not yet", "nearly", ""])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert wait_until(lambda: next(answers), 10, sleep, lambda: now[0]) == ""
    assert wait_until(lambda: "never", 3, sleep, lambda: now[0]) == "never" and now[0] == 4.0


@pytest.mark.parametrize("what", ["etcdserver: request timed out", "context deadline exceeded", "etcdserver: leader changed", "etcdserver: no leader"])
def test_a_lost_quorum_is_told_from_other_failures(what: str) -> None:
    assert EtcdFailure(what).no_quorum and not EtcdFailure("permission denied").no_quorum
