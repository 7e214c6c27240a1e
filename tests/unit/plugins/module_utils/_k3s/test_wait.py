# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting in several calls: each tells what it waits for, and together they wait no longer than one would."""

from __future__ import annotations

import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import membership
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import ApiFailure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import StillWaiting, Wait
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import BELIEVED, Service
from ansible_collections.nordic.gitops.plugins.plugin_utils._progress import PATIENCE, together, waited_out


def test_a_call_whose_patience_is_over_says_what_it_waits_for():
    with pytest.raises(StillWaiting, match="no quorum"):
        Wait(timeout=600, patience=0).ask(lambda: "no quorum")


def test_the_time_that_earlier_calls_spent_counts():
    assert Wait(timeout=600, patience=0, spent=600).ask(lambda: "no quorum") == "no quorum"


def test_what_is_there_is_not_waited_for():
    assert Wait(timeout=0, patience=0).ask(lambda: "") == ""


def test_an_answer_is_asked_for_again_until_it_is_there():
    answers = iter(["one", "two", ""])
    assert Wait(timeout=600).ask(lambda: next(answers), pause=0) == ""


def test_a_clock_of_its_own_begins_with_each_call():
    first = Wait(600)
    assert 0 <= first.passed <= time.monotonic() - first.begun + 1


class Host:
    """A module that needs so many calls."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, arguments):
        self.asked.append(arguments)
        return self.answers.pop(0)


def test_each_call_waits_on_where_the_one_before_ended_and_all_are_one_result():
    waits = {"why": "node server1 is not ready", "spent": 8.2, "since": 1790000000.0, "restarts": 0, "reported": None}
    host = Host({"changed": True, "changes": ["k3s.service is started"], "started": True, "seconds": {"start": 0.1}, "version": "v1", "waiting": waits},
                {"changed": False, "changes": [], "started": False, "seconds": {"wait": 8.0}, "version": None, "waiting": {**waits, "spent": 16.4}},
                {"changed": False, "changes": [], "started": False, "seconds": {"wait": 1.5}, "version": None})
    told = []
    result = waited_out(host, {"state": "present"}, told.append)
    assert told == ["node server1 is not ready (8 s)", "node server1 is not ready (16 s)"]
    assert host.asked[0] == {"state": "present", "progress": {"patience": PATIENCE}}
    assert host.asked[2]["progress"] == {**waits, "spent": 16.4, "patience": PATIENCE}
    assert result == {"changed": True, "changes": ["k3s.service is started"], "started": True, "seconds": {"start": 0.1, "wait": 9.5}, "version": "v1"}


def test_a_failure_ends_it_with_its_own_words():
    host = Host({"changed": True, "waiting": {"why": "x", "spent": 8.0}}, {"failed": True, "msg": "it says: no space left"})
    assert waited_out(host, {}, lambda text: None) == {"failed": True, "msg": "it says: no space left"}


def test_what_is_still_due_after_the_last_call_is_what_counts():
    assert together({"restart_needed": True, "changes": ["a"]}, {"restart_needed": False, "changes": ["a", "b"]}) == {
        "restart_needed": False, "changes": ["a", "b"]}


class Away:
    """An API that does not answer."""  # fake: the fault

    def __getattr__(self, _name):
        raise ApiFailure("no answer", "https://127.0.0.1:6443")


def test_a_node_is_not_readmitted_by_a_server_that_says_again_and_again_why_it_cannot_start(tmp_path):
    """The rest of the time is not waited for."""
    service = Service("server")
    said = 'level=fatal msg="/k3s/server/cred/passwd newer than datastore and could cause a cluster outage."'
    service._journal = lambda since: [said] * BELIEVED  # fake: k3s
    with pytest.raises(Failure, match="k3s does not start: .*newer than datastore.*Move that file away"):
        membership.readmit(membership.Cluster(Away(), None, str(tmp_path), "k3s", service=service), "agent1", 3600, False)
