# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the first run: its limits in seconds, and its page."""

from __future__ import annotations

from bench import first_run, report

MACHINE = {"processor": "x", "cores": 2, "memory_mb": 2048, "kernel": "Linux 6"}


def part(cold=100.0):
    seconds = {first_run.COLD: [cold], first_run.WARM: [20.0], first_run.UNIT: [50.0]}
    return {**first_run.outcome(seconds), "machine": MACHINE, "versions": {"python": "3"}, "when": "2020-01-03"}


def test_each_figure_has_its_limit():
    assert [(check["ratio"], check["limit"], check["holds"]) for check in part()["checks"]] == [(100, 120, True), (20, 40, True), (50, 60, True)]
    assert [check["holds"] for check in part(cold=130.0)["checks"]] == [False, True, True]


def test_the_part_has_a_page():
    text = report.markdown({"first_run": part()})
    assert "## First run" in text and "| first result, official binaries from a mirror | 100.0 s | ≤ 120.0 s | yes |" in text, text
