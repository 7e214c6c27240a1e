# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table says what the run found, good or bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import checks, fsync, k3s, plot, report, sealing, workload
from bench.peers import CALL, FIRST, KUBECTL, LIMIT, MODULE, NOOP, REPLAY, STAGE
from bench.race import Figure
from lab import microservices
from lab.k3s import Binary

SETTINGS = {"cases": [401], "rounds": 2, "turns": "all"}
MACHINE = {"processor": "a processor", "cores": 2, "memory_mb": 4096, "kernel": "Linux 6"}


def outcome(figures):
    return {
        "when": "2020-01-01", "settings": SETTINGS, "machine": MACHINE, "versions": {"python": "3.11"},
        "how": report.HOW, "checks": checks.evaluate(figures), "summary": report.summary(figures), "figures": report.raw(figures),
    }


def parts(figures):
    return {"reconcile": outcome(figures)}


def no_op(ours):
    return [
        Figure(401, 0, NOOP, MODULE, ours, 0.3, 60.0, {"list": 9, "discovery": 2}),
        Figure(401, 0, NOOP, KUBECTL, 2.0, 1.0, 70.0, {"write": 401, "write: patch": 401}),
    ]


def test_a_figure_that_does_not_hold_stands_in_the_table_as_such():
    text = report.markdown(parts(no_op(1.9)))
    assert "| 401 objects, no-op: the module / kubectl | 0.95 | ≤ 0.33 | **no** |" in text
    assert "| 401 objects, no-op: the module / kubectl | 0.20 | ≤ 0.33 | yes |" in report.markdown(parts(no_op(0.4)))


def test_a_run_without_any_figure_to_reach_says_so():
    text = report.markdown(parts([Figure(17, 0, NOOP, KUBECTL, 1.0)]))
    assert "none: this run measured no pair that has one" in text


def test_the_quickest_stands_first_and_requests_are_counted_once():
    text = report.markdown(parts(no_op(0.4)))
    assert text.index("**%s**" % MODULE) < text.index(KUBECTL + " |")
    assert "| write 401 |" in text


def test_the_replay_is_shown_by_its_own_clock_alone():
    figures = [Figure(401, 0, FIRST, REPLAY, 3.0), Figure(401, 0, FIRST, LIMIT, 2.0), Figure(401, 0, FIRST, MODULE, 3.0), Figure(401, 0, FIRST, STAGE, 2.2)]
    shown = {entry["peer"]: entry["median"] for entry in report.summary(figures)}
    assert shown == {LIMIT: 2.0, STAGE: 2.2, MODULE: 3.0}


def test_the_results_keep_every_raw_figure_and_are_json():
    figures = no_op(0.4) + [Figure(401, 1, NOOP, CALL, 1.5)]
    kept = json.loads(json.dumps(outcome(figures)))
    assert [(each["round"], each["peer"], each["seconds"]) for each in kept["figures"]] == [(0, MODULE, 0.4), (0, KUBECTL, 2.0), (1, CALL, 1.5)]
    assert {tuple(sorted(check)) for check in kept["checks"]} >= {("compared_with", "holds", "limit", "name", "ratio")}


@pytest.mark.parametrize("arguments, full", [
    ([], True),
    (["--rounds", "9"], True),
    (["--rounds", "3"], False),
    (["--cases", "401"], False),
    (["--cases", "401,5001"], True),
    (["--cases", "fsync"], True),
    (["--cases", "k3s"], True),
    (["--cases", "sealing"], True),
    (["--cases", "sealing", "--rounds", "1"], False),
    (["--cases", "k3s", "--k3s-rounds", "1"], False),
    (["--cases", "17,k3s"], False),
    (["--cases", "401,5001,17"], False),
    (["--turns", "kubectl"], False),
])
def test_only_a_full_run_replaces_what_the_readme_shows(monkeypatch, arguments, full):
    for name in ("BENCH_CASES", "BENCH_ROUNDS", "BENCH_K3S_ROUNDS", "BENCH_TURNS", "BENCH_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    assert command._is_full(command._options(arguments)) is full


def test_the_environment_chooses_cases_and_rounds(monkeypatch):
    monkeypatch.setenv("BENCH_CASES", "401")
    monkeypatch.setenv("BENCH_ROUNDS", "3")
    options = command._options([])
    assert (options.cases, options.rounds) == ([401], 3)


@pytest.mark.parametrize("name, value, words", [
    ("BENCH_CASES", "400", "1 + 8"),
    ("BENCH_CASES", "many", "many"),
    ("BENCH_CASES", " ", "nothing to measure"),
    ("BENCH_ROUNDS", "0", "nothing to measure"),
    ("BENCH_K3S_ROUNDS", "0", "nothing to measure"),
    ("BENCH_TURNS", "helm", "there is no helm"),
])
def test_what_cannot_be_measured_is_refused_by_name(monkeypatch, capsys, name, value, words):
    for each in ("BENCH_CASES", "BENCH_ROUNDS", "BENCH_K3S_ROUNDS", "BENCH_TURNS", "BENCH_OUTPUT"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        command._options([])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("objects, services", [(17, 2), (401, 50), (5001, 625)])
def test_a_case_is_a_number_of_objects(objects, services):
    assert workload.services_in(objects) == services


def test_all_documents_in_one_file_begin_with_the_namespace(tmp_path):
    workload.write(tmp_path / "tree", 17)
    workload.write_as_one_file(tmp_path / "tree", tmp_path / "all.yaml")
    documents = (tmp_path / "all.yaml").read_text(encoding="utf-8").split("---\n")[1:]
    assert len(documents) == 1 + 2 * microservices.OBJECTS_PER_SERVICE
    assert "kind: Namespace" in documents[0]


REQUESTS = {"sent": 9000, "failed": 0, "p50_ms": 2.0, "p99_ms": 9.0, "max_ms": 80.0}


def k3s_part(broken=(), **upgrade):
    turns = [(k3s.OURS, 50.0), (k3s.SCRIPT, 100.0), (k3s.SCRIPT, 120.0), (k3s.OURS, 54.0)]
    binary = {"version": "v1", "sha256": "00", "origin": "built from Go modules"}
    part = {
        "when": "2020-01-01", "machine": MACHINE, "versions": {"python": "3.11"}, "settings": {"rounds": 2}, "how": k3s.HOW,
        "binaries": {"old": binary, "new": dict(binary, version="v2", sha256="11", origin="named by NORDIC_K3S_BINARY")},
        "script": [{"seconds": 100.0, "copying": 8.0, "ready": {}}, {"seconds": 120.0, "copying": 10.0, "ready": {}}],
        "unchanged": {"seconds": [6.0, 5.0, 7.0], "round_trips": 12},
        "upgrade": {"seconds": 90.0, "requests": dict(REQUESTS, **upgrade), "writes": {"unavailable": 1.25, "longest": 0.5}},
        "restore": {"seconds": 41.0, "timeline": [{"step": "all servers stopped", "seconds": 3.0, "since_begin": 9.0}]},
    }
    part = {name: value for name, value in part.items() if name not in broken}
    part["broken"] = {name: "the playbook %s ended with 2" % name for name in broken}
    part["figures"] = k3s.figures(turns, part)
    part["summary"] = k3s.summary(part["figures"])
    return {"checks": k3s.checks(part), **part}


def test_the_k3s_part_says_what_holds_and_what_does_not():
    text = report.markdown({"k3s": k3s_part()})
    assert "whole call / install script, node after node | 0.47 | ≤ 0.60 | yes |" in text
    assert "| k3s, unchanged cluster of 4: whole call | 6.0 s | ≤ 12.0 s | yes |" in text
    assert "requests that failed | 0 | ≤ 0 | yes |" in text
    assert "| all servers stopped | 3.0 s | 9.0 s |" in text and "made 12 round trips of ssh" in text
    assert "requests that failed | 3 | ≤ 0 | **no** |" in report.markdown({"k3s": k3s_part(failed=3)})


def test_each_figure_of_k3s_says_which_binary_made_it():
    made_by = {check["name"]: [(one["version"], one["sha256"], one["origin"]) for one in check["binaries"]] for check in k3s_part()["checks"]}
    old, new = ("v1", "00", "built from Go modules"), ("v2", "11", "named by NORDIC_K3S_BINARY")
    assert made_by["k3s, bootstrap of 3 servers and 1 agent: whole call / install script, node after node"] == [old]
    assert made_by["k3s, upgrade of 4 nodes: API writes unavailable in total"] == [old, new]
    assert made_by["k3s, restore of 3 servers from a snapshot: whole call"] == [new]
    text = report.markdown({"k3s": k3s_part()})
    assert "- k3s v2 (new): named by NORDIC_K3S_BINARY, SHA-256 11." in text


def test_a_binary_that_was_named_is_not_called_built(monkeypatch):
    monkeypatch.setenv("NORDIC_K3S_BINARY", "/somewhere/k3s")
    monkeypatch.delenv("NORDIC_K3S_BINARY_OLD", raising=False)
    found = k3s.binaries({name: Binary("v1", Path("/somewhere/k3s"), "00") for name in ("old", "new")})
    assert {name: one["origin"] for name, one in found.items()} == {"old": "built from Go modules", "new": "named by NORDIC_K3S_BINARY"}
    assert "/somewhere" not in json.dumps(found)


def test_a_playbook_that_failed_has_no_figure_and_does_not_hold():
    part = k3s_part(broken=("upgrade",))
    text = report.markdown({"k3s": part})
    assert "requests that failed | not measured | ≤ 0 | **no** |" in text and "- upgrade: not measured, the playbook upgrade ended with 2." in text
    assert "| k3s, restore of 3 servers from a snapshot: whole call | 41.0 s | ≤ 60.0 s | yes |" in text
    assert [check["holds"] for check in part["checks"]] == [True, True, False, False, True]


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_turns_of_the_bootstrap_alternate_and_ours_is_the_last(rounds):
    turns = [peer for number in range(rounds) for peer in k3s.order(number, rounds)]
    assert turns.count(k3s.OURS) == turns.count(k3s.SCRIPT) == rounds and turns[-1] == k3s.OURS
    firsts = [k3s.order(number, rounds)[0] for number in range(rounds)]
    assert all(first != second for first, second in zip(firsts, firsts[1:]))


def test_the_plot_has_a_panel_for_each_measurement_and_draws_its_limit(tmp_path):
    drawn = plot.panels(k3s_part())
    assert [(title, len(entries)) for title, entries in drawn][0] == (k3s.BOOTSTRAP, 2)
    assert [entries[0].get("limit") for _title, entries in drawn] == [None, 12, 2, 60]
    assert len(plot.panels(k3s_part(broken=("upgrade", "restore")))) == 2


def fsync_part():
    rounds = [{"ours_p50": 0.5, "ours_p99": 1.0, "fio_p50": 0.5, "fio_p99": 1.1}] * 2
    entry = {"case": "fsync", "operation": fsync.OPERATION, "rounds": 2, "median": 1.0, "low": 0.9, "high": 1.1}
    return {
        "when": "2020-01-02", "machine": MACHINE, "versions": {"fio": "3.33"}, "settings": {"rounds": 2, "seconds": 2.3}, "how": fsync.HOW,
        "checks": [{"name": "fsync, median of 2 p99: apart from fio's", "ratio": 9.09, "limit": 15.0, "holds": True, "unit": "%"}],
        "summary": [dict(entry, peer="nordic.gitops, preflight"), dict(entry, peer="fio")], "rounds": rounds,
        "figures": [{"case": "fsync", "operation": fsync.OPERATION, "peer": "fio", "milliseconds": 1.1}],
    }


def test_the_fsync_part_tells_every_round_and_the_version_of_fio():
    text = report.markdown({"fsync": fsync_part()})
    assert "apart from fio's | 9.1 % | ≤ 15.0 % | yes |" in text
    assert "| 2 | 1.000 ms | 1.100 ms | 0.500 ms | 0.500 ms |" in text and "fio 3.33" in text


def sealing_part():
    entry = {"case": "sealing", "operation": sealing.OPERATION, "rounds": 2, "median": 1.0, "low": 0.9, "high": 1.1}
    return {
        "when": "2020-01-03", "machine": MACHINE, "versions": {"kubeseal": "0.36.0"}, "settings": {"rounds": 2}, "how": sealing.HOW,
        "checks": [{"name": name, "ratio": 0.01, "limit": limit, "holds": True} for name, _ours, _theirs, limit in sealing.LIMITS],
        "summary": [dict(entry, peer=peer) for peer in (sealing.EACH, sealing.ALONE)], "figures": [],
    }


def test_the_sealing_part_tells_its_figures_and_the_version_of_kubeseal():
    text = report.markdown({"sealing": sealing_part()})
    assert "| sealing alone: 1,000 kubeseal calls | 0.01 | ≤ 0.02 | yes |" in text and "kubeseal 0.36.0" in text and "![Sealing](sealing.png)" in text


def test_a_part_that_was_not_measured_again_stays_as_it_was(tmp_path):
    command.write({"k3s": k3s_part(), "fsync": fsync_part()}, tmp_path / "out")
    command.write(dict(command._kept(tmp_path / "out"), **parts(no_op(0.4))), tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert kept["k3s"]["unchanged"]["seconds"] == [6.0, 5.0, 7.0]
    assert [check["name"] for check in kept["checks"]] == [check["name"] for part in ("reconcile", "k3s", "fsync") for check in kept[part]["checks"]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "README.md", "benchmarks.png", "k3s.png", "fsync.png"}
    assert [kept[part]["when"] for part in ("k3s", "fsync")] == ["2020-01-01", "2020-01-02"]


def options(*arguments):
    return command._options(["--cases", "k3s", "--k3s-rounds", "2", *arguments])


def test_a_run_that_measured_ends_well_whatever_the_figures_are(tmp_path):
    told = []
    assert command.publish(options("--output", str(tmp_path / "out")), {"k3s": k3s_part(failed=3)}, [], told.append) == 0
    assert told[0] == "4 of 5 figures hold; not: k3s, upgrade of 4 nodes under 100 requests a second: requests that failed"


def test_what_broke_is_told_and_does_not_take_the_rest_with_it(tmp_path, capsys):
    assert command.publish(options("--output", str(tmp_path / "out")), {"k3s": k3s_part()}, ["fsync: fio is not installed"], print) == 1
    assert "bench: fsync: fio is not installed" in capsys.readouterr().err
    assert "k3s" in json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))


def test_a_run_in_which_something_broke_is_not_published(monkeypatch):
    monkeypatch.delenv("BENCH_OUTPUT", raising=False)
    assert command.place(options(), []) == command.PUBLISHED
    assert command.place(options(), ["k3s: upgrade was not measured"]) != command.PUBLISHED
