# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of instances: from its figures to its checks, its page and its picture."""

from __future__ import annotations

import json

from bench import __main__ as command
from bench import instances, report

MACHINE = {"processor": "x", "cores": 2, "memory_mb": 2048, "kernel": "Linux 6"}


def figure(operation, peer, seconds, **more):
    return {"case": "instances", "operation": operation, "peer": peer, "seconds": seconds, **more}


def part(seconds=10.0):
    figures = [figure(instances.MAKE, instances.OURS, seconds), figure(instances.MAKE, instances.THEIRS, 60.0), figure(instances.MAKE, instances.CREATE, 5.0),
               figure(instances.AGAIN, instances.OURS, 2.0), figure(instances.AGAIN, instances.THEIRS, 40.0),
               figure(instances.REPLACE, instances.OURS, 5.5, steps={"create": 1.0}), figure(instances.REPLACE, instances.CREATE, 5.0),
               figure(instances.LIST, instances.API, 1.0), figure(instances.LIST, instances.INFO, 3.0, peak_mb=120.0)]
    return {**instances.outcome(figures, 1), "machine": MACHINE, "versions": {"nova": "1"}, "when": "2020-01-03"}


def test_each_figure_of_instances_is_compared_with_its_limit():
    checks = part()["checks"]
    assert [round(check["ratio"], 2) for check in checks] == [0.17, 0.05, 1.1, 2.0, 120.0] and all(check["holds"] for check in checks)
    assert [check["holds"] for check in part(seconds=30.0)["checks"]] == [False, True, True, True, True]


def test_the_part_has_a_page_and_a_picture(tmp_path):
    text = report.markdown({"instances": part()})
    assert "## Instances" in text and "The steps of a replacement: create 1.0 s." in text
    command.write({"instances": part()}, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "README.md", "instances.png"}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["instances"]["when"] == "2020-01-03"
