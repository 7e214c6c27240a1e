# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench` in its smallest form: the real parts, one round, 17 objects. It has a cluster of its own, since it pauses the controllers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

from bench.peers import CALL, FIRST, HEAL, KUBECTL, LIMIT, MODULE, NOOP, STAGE, TESTS

# One worker runs all of these, so that the measurement is made once.
pytestmark = pytest.mark.xdist_group("bench")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "results"
    env = {name: value for name, value in os.environ.items() if not name.startswith("BENCH_")}
    env.update(BENCH_CASES="17", BENCH_ROUNDS="1", BENCH_TURNS="reconcile,module,replay,kubectl", BENCH_OUTPUT=str(folder))
    ended = subprocess.run([sys.executable, "-m", "bench", "--patience", "0"], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return {"results": json.loads((folder / "results.json").read_text(encoding="utf-8")), "folder": folder, "progress": ended.stderr, "table": ended.stdout}


def figures(outcome, operation, peer):
    return [each for each in outcome["results"]["reconcile"]["figures"] if (each["operation"], each["peer"]) == (operation, peer)]


def test_every_peer_is_measured_in_one_run(outcome):
    for operation, peer in ((FIRST, CALL), (FIRST, MODULE), (FIRST, STAGE), (FIRST, LIMIT), (FIRST, KUBECTL), (NOOP, CALL), (NOOP, MODULE), (NOOP, KUBECTL)):
        measured = figures(outcome, operation, peer)
        assert len(measured) == (4 if operation == FIRST and peer in (MODULE, STAGE, LIMIT) else 1), "%s by %s" % (operation, peer)
        assert all(each["seconds"] > 0 for each in measured)


def test_the_replay_sends_what_the_apply_stage_sent(outcome):
    replay = next(each for each in outcome["results"]["reconcile"]["figures"] if each["peer"].startswith("replay") and each["facts"])
    assert replay["facts"]["requests"] == 17
    assert replay["requests"]["write: patch"] == 17


def test_a_no_op_of_ours_only_lists_and_discovers(outcome):
    for peer in (CALL, MODULE):
        assert set(figures(outcome, NOOP, peer)[0]["requests"]) == {"discovery", "list"}


def test_ten_damaged_objects_are_healed_by_ten_writes_and_two_for_the_record(outcome):
    for peer in (CALL, MODULE):
        assert figures(outcome, HEAL, peer)[0]["requests"]["write"] == 10 + 2


def test_results_table_and_plot_are_written_and_progress_is_shown(outcome):
    assert {path.name for path in outcome["folder"].iterdir()} == {"results.json", "README.md", "benchmarks.png"}
    assert (outcome["folder"] / "benchmarks.png").read_bytes().startswith(b"\x89PNG")
    assert KUBECTL in outcome["table"]
    assert "round 1 of 1" in outcome["progress"]
    assert {"python", "ansible-core", "kubectl", "kube-apiserver", "kubernetes.core", "nordic.gitops"} <= set(outcome["results"]["reconcile"]["versions"])


def test_nothing_of_the_machine_but_its_size_is_published(outcome):
    text = json.dumps(outcome["results"])
    for private in (tempfile.gettempdir(), str(TESTS), os.uname().nodename):
        assert private not in text
