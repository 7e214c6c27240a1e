# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison with fio, made short: what it says follows from its rounds."""

from __future__ import annotations

import json
import statistics

import pytest
from bench import fsync


def test_every_round_has_both_and_the_medians_decide(tmp_path, capsys):
    code = fsync.main(["--folder", str(tmp_path), "--rounds", "2", "--seconds", "0.2"])
    told = capsys.readouterr()
    outcome = json.loads(told.out)
    assert len(outcome["rounds"]) == 2 and "round  2: ours p99" in told.err
    for name in ("ours_p99", "fio_p99"):
        assert outcome[f"{name}_ms"] == statistics.median(pair[name] for pair in outcome["rounds"])
    assert outcome["apart"] == pytest.approx(abs(outcome["ours_p99_ms"] / outcome["fio_p99_ms"] - 1))
    assert code == (0 if outcome["apart"] <= fsync.WITHIN else 1)
    assert list(tmp_path.iterdir()) == []


def test_without_fio_nothing_is_claimed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fsync.main(["--folder", str(tmp_path), "--rounds", "1", "--seconds", "0.1"]) == 1
    told = capsys.readouterr()
    assert "fio is not installed" in told.err and not told.out
