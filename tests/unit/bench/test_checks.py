# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a figure holds is told as it is."""

from __future__ import annotations

import pytest

from bench import checks
from bench.checks import AtMost, Count
from bench.peers import CALL, HEAL, KUBECTL, MODULE, NOOP, PEERS, VARIANTS
from bench.race import Figure

RATIO = AtMost("no-op", 401, NOOP, MODULE, (KUBECTL,), 1 / 3)
WRITES = Count("heal", 401, HEAL, (CALL, MODULE), "writes", 10, "writes", exactly=True)
PEAK = Count("memory", 5001, NOOP, (MODULE,), "peak", 300, "MB")
OTHERS = Count("requests", 5001, NOOP, (CALL, MODULE), "other requests", 0, "requests")


def seconds(peer, *figures, case=401, operation=NOOP):
    return [Figure(case, number, operation, peer, each) for number, each in enumerate(figures)]


def asked(peer, *requests, case=401, operation=HEAL):
    return [Figure(case, number, operation, peer, 1.0, requests=each) for number, each in enumerate(requests)]


def test_a_ratio_within_its_limit_holds():
    check = RATIO.evaluate(seconds(MODULE, 0.5, 0.4, 9.0) + seconds(KUBECTL, 2.0, 2.0, 2.0))
    assert check == {"name": "no-op", "ratio": 0.25, "limit": 0.3333, "holds": True, "compared_with": KUBECTL}


def test_a_ratio_beyond_its_limit_is_reported_as_not_holding():
    assert RATIO.evaluate(seconds(MODULE, 1.0) + seconds(KUBECTL, 2.0))["holds"] is False


def test_exactly_the_limit_holds_although_it_is_no_round_number():
    assert RATIO.evaluate(seconds(MODULE, 1.0) + seconds(KUBECTL, 3.0))["holds"] is True


def test_the_quickest_way_of_a_peer_is_the_one_to_beat():
    rule = AtMost("whole call", 401, NOOP, CALL, VARIANTS, 1 / 2)
    figures = seconds(CALL, 3.0) + seconds(VARIANTS[0], 10.0) + seconds(VARIANTS[1], 5.0) + seconds(VARIANTS[2], 7.0)
    check = rule.evaluate(figures)
    assert (check["compared_with"], check["ratio"], check["holds"]) == (VARIANTS[1], 0.6, False)


def test_figures_of_another_case_or_operation_are_not_compared():
    others = seconds(KUBECTL, 2.0, case=5001) + seconds(KUBECTL, 2.0, operation=HEAL)
    assert RATIO.evaluate(seconds(MODULE, 0.1) + others) is None


@pytest.mark.parametrize("figures", [seconds(MODULE, 1.0), seconds(KUBECTL, 1.0), []], ids=["no peer", "not us", "nothing"])
def test_without_both_sides_in_this_run_there_is_no_check(figures):
    assert RATIO.evaluate(figures) is None


@pytest.mark.parametrize("writes, holds", [((10, 10), True), ((10, 11), False), ((9, 10), False), ((0,), False)])
def test_each_heal_has_to_write_exactly_what_was_damaged(writes, holds):
    check = WRITES.evaluate(asked(CALL, *({"write": count, "write: patch": count} for count in writes)))
    assert check["holds"] is holds


def test_the_worst_round_is_shown():
    check = WRITES.evaluate(asked(CALL, {"write": 10}, {"write": 12}, {"write": 11}))
    assert (check["ratio"], check["holds"]) == (12, False)


def test_one_round_above_the_memory_limit_breaks_it():
    figures = [Figure(5001, 0, NOOP, MODULE, 1.0, peak_mb=120.0), Figure(5001, 1, NOOP, MODULE, 1.0, peak_mb=301.0)]
    assert PEAK.evaluate(figures)["holds"] is False
    assert PEAK.evaluate(figures[:1])["holds"] is True


@pytest.mark.parametrize("requests, holds", [
    ({"discovery": 2, "list": 9}, True),
    ({"discovery": 2, "list": 9, "get": 1}, False),
    ({"list": 9, "dry run": 1}, False),
    ({"list": 9, "write": 1, "write: patch": 1}, False),
    ({"list": 9, "watch": 1}, False),
])
def test_a_no_op_may_list_and_discover_and_nothing_else(requests, holds):
    check = OTHERS.evaluate(asked(CALL, requests, case=5001, operation=NOOP))
    assert check["holds"] is holds
    assert check["ratio"] == (0 if holds else 1), "a write is one request and not one for each of its names"


def test_every_rule_compares_peers_that_a_turn_measures():
    from bench.peers import LIMIT, STAGE, turns

    for rule in checks.RULES:
        measured = {each for turn in turns(rule.case) for each in turn.operations}
        if any(peer == MODULE for _ignored, peer in measured):
            measured |= {(operation, STAGE) for operation, peer in measured if peer == MODULE}
        measured |= {(operation, LIMIT) for operation, peer in measured if peer.startswith("replay")}
        names = rule.ours if isinstance(rule, Count) else (rule.ours,) + rule.others
        for name in names:
            assert (rule.operation, name) in measured, "%s: nobody measures %s" % (rule.name, name)


def test_every_turn_names_known_peers():
    from bench.peers import LARGE, SMALL

    assert {peer for turn in SMALL + LARGE for _ignored, peer in turn.of_round(0)} <= set(PEERS)
