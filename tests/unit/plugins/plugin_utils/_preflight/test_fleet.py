# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table on the terminal and the page across the fleet, from the results of hosts."""

from __future__ import annotations

import html.parser
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.nordic.gitops.plugins.filter.preflight_report import preflight_report
from ansible_collections.nordic.gitops.plugins.filter.preflight_table import preflight_table
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import CHECKS, NAMES, Report, fsync, virtualisation
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import Finding, Result, worst
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.fleet import Fleet
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.page import page
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.table import table
from hypothesis import given
from hypothesis import strategies as st

SLOW = fsync.judge(fsync.Latencies.of([60.0 + number / 100 for number in range(200)]), None, "/var/lib/rancher/k3s/server/db/etcd")
FAST = fsync.judge(fsync.Latencies.of([0.2 + number / 1000 for number in range(2000)]), fsync.Fio("fio-3.33", 2000, 0.3, 2.2, 2.9), "/var/lib/rancher/k3s")
CONTAINER = virtualisation.judge(virtualisation.Kind("lxc", "container", ("/proc/1/environ has container=lxc", "PID 1 is in pid:[4026532930]")))


def result(name, accept=(), role="server", **found):
    """What the module returns for a host on which every check passes, but those that are given."""
    profile = Profile(role)
    options = Options(profile, name, "10.0.0.1", None, tuple(accept), (), ())
    results = tuple(Result(check, found.get(check.name, Finding("pass", "good", ("it is good",))), check.threshold(profile), check.name in accept, 0.01)
                    for check in CHECKS)
    return Report(Host(Machine(), options), results, 4.2).result()


PEER = {"name": "b", "address": "10.0.0.2",
        "ports": {"6443/tcp": "open", "2380/tcp": "no answer in 2 s: dropped on the way", "8472/udp": "unprobed: the kernel has it"},
        "skew_s": -0.0021, "uncertainty_s": 0.0001, "rtt_ms": 0.31, "mtu": 1450, "promised_mtu": 1500, "silence": ""}
ENDPOINTS = Finding("fail", "exchange 7.10 ms", ("exchange (tcp x:443): median 7.10 ms",), data={"endpoints": [
    {"name": "exchange", "address": "tcp x:443", "limit_ms": 5.0, "loss": 0.05, "median_ms": 7.1, "p95_ms": 9.2, "verdict": "fail"},
    {"name": "store", "address": "icmp y", "limit_ms": 5.0, "loss": 1.0, "verdict": "fail"}]})
FLEET = {
    "a": {**result("a", fsync_latency=SLOW, virtualisation=CONTAINER, endpoints=ENDPOINTS), "peers": [PEER]},
    "b": result("b", accept=["virtualisation"], fsync_latency=FAST, virtualisation=CONTAINER),
    "c": result("c", role="agent"),
    "d": {"unreachable": True, "msg": "Failed to connect to the host via ssh"},
}


# ---- verdicts of a node


def test_a_finding_that_was_accepted_is_shown_as_found_and_does_not_fail_the_node():
    (check,) = [check for check in FLEET["b"]["checks"] if check["name"] == "virtualisation"]
    assert (check["verdict"], check["found"], check["value"]) == ("accepted", "fail", "container: lxc")
    assert FLEET["b"]["passed"] and FLEET["b"]["counts"]["accepted"] == 1 and FLEET["b"]["verdict"] == "accepted"


def test_a_check_that_passes_is_not_made_accepted_by_being_accepted():
    taken = result("a", accept=NAMES)
    assert taken["counts"] == {"fail": 0, "warn": 0, "accepted": 0, "pass": len(CHECKS), "not_applicable": 0} and taken["verdict"] == "pass"


def test_the_failure_lists_every_failed_check_with_evidence_and_mending():
    options = Options(Profile(), "a", "", None, (), (), ())
    found = {"virtualisation": CONTAINER, "fsync_latency": SLOW}
    results = tuple(Result(check, found.get(check.name, Finding("pass", "")), "", False, 0) for check in CHECKS)
    message = Report(Host(Machine(), options), results, 1).failure()
    assert message.startswith("2 checks failed on a (server, flannel, embedded datastore). virtualisation: container: lxc (/proc/1/environ has ")
    assert "Install on a KVM virtual machine or on bare metal." in message
    assert "fsync_latency: p99 6" in message and "Put the datastore on a local NVMe" in message


@given(st.lists(st.sampled_from(["fail", "warn", "accepted", "pass", "not applicable"]), min_size=1))
def test_the_worst_verdict_is_the_most_serious_in_any_order(verdicts):
    assert worst(*verdicts) == worst(*reversed(verdicts)) == worst(*sorted(verdicts))
    assert worst(*verdicts) in verdicts and worst(*verdicts, "fail") == "fail"


# ---- the fleet


def test_a_host_without_a_result_is_silent_and_refused():
    fleet = Fleet.of(FLEET)
    assert dict(fleet.silent) == {"d": "Failed to connect to the host via ssh"}
    assert fleet.failed == ["a", "d"] and fleet.verdict == "fail"
    assert Fleet.of({"x": None, "y": {}}).failed == ["x", "y"]


def test_the_same_finding_on_two_hosts_is_told_once_though_a_number_differs():
    other = virtualisation.judge(virtualisation.Kind("lxc", "container", ("/proc/1/environ has container=lxc", "PID 1 is in pid:[4026599999]")))
    (group,) = Fleet.of({"a": result("a", virtualisation=CONTAINER), "b": result("b", virtualisation=other)}).groups()
    assert group.hosts == ("a", "b")


def test_findings_come_the_most_serious_first():
    assert [group.check["verdict"] for group in Fleet.of(FLEET).groups()] == ["fail", "fail", "fail", "accepted"]


def test_what_is_no_dictionary_is_refused_in_words():
    with pytest.raises(Failure, match="Give a dictionary from host to the result"):
        Fleet.of([1])
    for show in (preflight_table, preflight_report):
        with pytest.raises(AnsibleFilterError, match="Give a dictionary"):
            show("x")


# ---- the table


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_of_the_table_is_wider_than_the_terminal(width):
    many = {f"server{number}.oslo.example.no": result("a", virtualisation=CONTAINER, fsync_latency=SLOW) for number in range(7)}
    assert max(len(line) for line in preflight_table(many, width).splitlines()) <= width
    assert max(len(line) for line in preflight_table(FLEET, width).splitlines()) <= width


def test_the_table_has_every_check_of_every_host_and_says_what_to_do():
    text = table(FLEET)
    for name in NAMES:
        assert re.search(rf"^{name} ", text, re.MULTILINE), name
    assert "FAIL container: lxc" in text and "accepted container: lxc" in text
    assert "FAIL fsync_latency on a: p99 61.97 ms (wanted: p99 ≤ 10 ms, never > 50 ms)" in text.replace("61.98", "61.97")
    assert "FAIL d was not measured: Failed to connect to the host via ssh" in text
    assert text.splitlines()[-1].startswith("4 hosts: 3 fail, 0 warn, 1 accepted") and text.endswith("not to be used: a, d.")
    assert table({"c": FLEET["c"]}).endswith("all of them may carry a node.")


# ---- the page


class Outline(html.parser.HTMLParser):
    """What is open, and everything that a page refers to."""

    VOID = {"meta", "br", "line"}

    def __init__(self):
        super().__init__()
        self.open, self.refers, self.targets, self.tags = [], [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.targets.add(named.get("id"))
        self.refers += [named[name] for name in ("src", "href", "xlink:href", "action", "data") if name in named]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


def outline(text):
    found = Outline()
    found.feed(text)
    found.close()
    assert not found.open, found.open
    return found


def test_the_page_is_whole_and_needs_nothing_but_itself():
    text = page(FLEET, "Oslo", 1_790_000_000)
    found = outline(text)
    assert all(reference.startswith("#") and reference[1:] in found.targets for reference in found.refers) and found.refers
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(found.tags)
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert "2026-09-21" in text


def test_the_page_has_the_histogram_of_each_host_that_was_measured_with_every_sample():
    text = page(FLEET)
    assert text.count("<svg") == 2
    for title in ("of 200", "of 2000"):
        counts = [int(count) for count in re.findall(rf"<title>up to [\d.e-]+ ms: (\d+) {title}</title>", text)]
        assert sum(counts) == int(title.split()[1])
    assert "fio here: p99 2.20 ms" in text


def test_the_slowest_disk_is_told_by_what_decided_about_it():
    assert re.search(r"2\.20 ms\W.{1,60}slowest fsync p99", page({"b": FLEET["b"]}), re.DOTALL)


def test_the_page_tells_what_was_refused_accepted_and_not_measured():
    text = page(FLEET)
    assert "Refused: 2 of 4 hosts must not carry a node" in text
    assert "by its name, <code>virtualisation</code>; it was found as: fail" in text
    assert "Failed to connect to the host via ssh" in text
    assert "1 blocked</span> 2380/tcp" in text and "MTU 1450 of 1500" in text and "clock −2.1 ms" in text
    assert "7.10 ms" in text and "100%" in text


def test_a_fleet_without_a_finding_says_so():
    assert "Ready: every check passes" in page({"c": FLEET["c"]})
    assert "Accepted by name: virtualisation." in page({"b": FLEET["b"]})


def test_a_page_without_any_result_is_still_a_page():
    outline(page({}))
    assert "Refused: 1 of 1 host must" in page({"d": FLEET["d"]})


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x>', "a&b<c"])
def test_what_a_host_says_of_itself_is_text_and_never_markup(hostile):
    poisoned = result(hostile, virtualisation=Finding("fail", hostile, (hostile,), hostile), fsync_latency=SLOW)
    poisoned["node"] = dict.fromkeys(poisoned["node"], hostile)
    poisoned["peers"] = [{**PEER, "name": hostile, "silence": hostile, "ports": {hostile: hostile}}]
    text = page({hostile: poisoned, "silent": {"msg": hostile}}, hostile)
    found = outline(text)
    assert not {"script", "img"} & set(found.tags) and hostile not in text
