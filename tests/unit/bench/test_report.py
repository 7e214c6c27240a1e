# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table says what the run found, good or bad."""

from __future__ import annotations

import json

import pytest

from bench import __main__ as command
from bench import checks, k3s, plot, report, workload
from bench.peers import CALL, FIRST, KUBECTL, LIMIT, MODULE, NOOP, REPLAY, STAGE
from bench.race import Figure
from lab import microservices

SETTINGS = {"cases": [401], "rounds": 2, "turns": "all", "when": "2020-01-01"}
MACHINE = {"processor": "a processor", "cores": 2, "memory_mb": 4096, "kernel": "Linux 6"}


def outcome(figures):
    return {
        "settings": SETTINGS, "machine": MACHINE, "versions": {"python": "3.11"},
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


def k3s_part(**upgrade):
    turns = [(k3s.OURS, 50.0), (k3s.SCRIPT, 100.0), (k3s.SCRIPT, 120.0), (k3s.OURS, 54.0)]
    requests = {"sent": 9000, "failed": 0, "p50_ms": 2.0, "p99_ms": 9.0, "max_ms": 80.0}
    binary = {"version": "v1", "sha256": "00", "origin": "built from Go modules"}
    part = {
        "binaries": {"old": binary, "new": dict(binary, version="v2")}, "how": k3s.HOW, "summary": k3s._summary(turns), "figures": k3s._figures(turns),
        "unchanged": {"seconds": [6.0, 5.0, 7.0], "round_trips": 12},
        "upgrade": {"seconds": 90.0, "requests": dict(requests, **upgrade), "writes": {"unavailable": 1.25, "longest": 0.5}},
        "restore": {"seconds": 41.0, "timeline": [{"step": "all servers stopped", "seconds": 3.0, "since_begin": 9.0}]},
    }
    return {"checks": k3s.checks(part), "when": "2020-01-01", "machine": MACHINE, **part}


def test_the_k3s_part_says_what_holds_and_what_does_not():
    text = report.markdown({"k3s": k3s_part()})
    assert "whole call / install script, node after node | 0.47 | ≤ 0.60 | yes |" in text
    assert "| k3s, unchanged cluster of 4: whole call | 6.0 s | ≤ 12.0 s | yes |" in text
    assert "requests that failed | 0 | ≤ 0 | yes |" in text
    assert "| all servers stopped | 9.0 s |" in text and "| ssh round trips | 12 |" in text
    assert "requests that failed | 3 | ≤ 0 | **no** |" in report.markdown({"k3s": k3s_part(failed=3)})


def test_the_plot_has_a_panel_for_the_bootstrap():
    assert [(title, len(entries)) for title, entries in plot.panels(k3s_part())] == [(k3s.OPERATION, 2)]


def test_a_part_that_was_not_measured_again_stays_as_it_was(tmp_path):
    command.write({"k3s": k3s_part()}, tmp_path / "out")
    command.write(dict(command._kept(tmp_path / "out"), **parts(no_op(0.4))), tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert kept["k3s"]["unchanged"]["seconds"] == [6.0, 5.0, 7.0]
    assert [check["name"] for check in kept["checks"]] == [check["name"] for part in ("reconcile", "k3s") for check in kept[part]["checks"]]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "README.md", "benchmarks.png", "k3s.png"}
