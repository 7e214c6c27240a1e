# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a guest is ready: what `cloud-init status --format json` says, and which address is meant."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance import nocloud, ready
from ansible_collections.nordic.gitops.plugins.module_utils._instance.facts import AddressRule
from ansible_collections.nordic.gitops.plugins.module_utils._instance.fleet import _twins
from ansible_collections.nordic.gitops.plugins.module_utils._instance.libvirt import _reachable
from ansible_collections.nordic.gitops.plugins.module_utils._instance.provider import Instance
from hypothesis import given
from hypothesis import strategies as some

DONE = {"start": 1.0, "finished": 2.0, "errors": []}


def status(word: str, **more):
    return {"status": word, "errors": [], "recoverable_errors": {}, **more}


def test_done_means_that_the_last_stage_has_ended():
    stages = {"init-local": DONE, "init": DONE, "modules-config": DONE}
    assert ready.judge(status("done", **stages, **{"modules-final": DONE})) == (True, "")
    assert ready.judge(status("done", **stages, **{"modules-final": {"start": 1.0, "finished": None, "errors": []}})) == (
        False,
        "status done, in stage modules-final",
    )
    assert ready.judge(status("done")) == (True, "")  # before 22.4 it tells no stages


def test_what_has_not_started_is_told_from_what_runs():
    assert ready.judge(status("not run")) == (False, "it has not started")
    assert ready.judge(status("running", init={"start": 1.0, "finished": None})) == (False, "status running, in stage init")


@pytest.mark.parametrize(
    "told, words",
    [
        (status("disabled", detail="no datasource"), "did not start: it is disabled"),
        (status("error", **{"modules-config": {"start": 1.0, "finished": 2.0, "errors": ["no such package"]}}), "stage modules-config: no such package"),
        (status("done", errors=["runcmd failed"], **{"modules-final": DONE}), "runcmd failed"),
        (status("done", recoverable_errors={"WARNING": ["part dropped"]}, **{"modules-final": DONE}), "WARNING: part dropped"),
        (status("error", detail="stopped"), "stopped"),
    ],
)
def test_errors_and_recoverable_errors_fail_with_their_text(told, words):
    with pytest.raises(Failure, match=words):
        ready.judge(told)


def addresses(*some):
    return Instance("i", "a", "ACTIVE", addresses=tuple(dict(zip(("network", "address", "version", "kind"), one)) for one in some))


def test_one_rule_chooses_the_address():
    host = addresses(
        ("private", "10.0.0.5", 4, "fixed"),
        ("private", "203.0.113.7", 4, "floating"),
        ("storage", "10.1.0.5", 4, "fixed"),
        ("private", "fd00::5", 6, "fixed"),
    )
    assert AddressRule().choose(host) == "203.0.113.7"
    assert AddressRule(kind="fixed").choose(host) == "10.0.0.5"
    assert AddressRule("storage").choose(host) == "10.1.0.5"
    assert AddressRule(version=6).choose(host) == "fd00::5"
    assert AddressRule("storage", "floating").choose(host) is None


def test_two_guests_with_one_address_are_both_named():
    """Guests of one image share a machine-id, by which DHCP may take them for one; the seed has each known by its MAC."""
    pair = [Instance(name, name, "ACTIVE", addresses=addresses(("private", "10.0.0.5", 4, "fixed")).addresses) for name in "ab"]
    assert _twins(pair, AddressRule()) == ["a and b have one address: 10.0.0.5"]
    assert nocloud.interface("52:54:00:00:00:01") == {"match": {"macaddress": "52:54:00:00:00:01"}, "dhcp4": True, "dhcp-identifier": "mac"}


VALUES = some.recursive(some.none() | some.booleans() | some.floats() | some.text(max_size=8),
                        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3), max_leaves=6)


@given(some.dictionaries(some.sampled_from(["status", "errors", "recoverable_errors", "detail", *ready.STAGES]), VALUES))
def test_whatever_a_guest_says_of_itself_is_an_answer_or_a_failure_of_one_line(told):
    try:
        assert ready.judge(told)[0] in (True, False)
    except Failure as failure:
        assert str(failure).isprintable()


@given(some.lists(some.text() | some.ip_addresses().map(str) | some.sampled_from(["fe80::1", "127.0.0.1", "::", "192.0.2.7", "2001:db8::7"])))
def test_only_addresses_that_can_be_reached_are_taken_from_a_guest(told):
    found = _reachable(told)
    assert all(not ipaddress.ip_address(one).is_link_local and not ipaddress.ip_address(one).is_loopback for one in found)
    assert [one for one in ("192.0.2.7", "2001:db8::7") if one in told] == [one for one in dict.fromkeys(found) if one in ("192.0.2.7", "2001:db8::7")]
