# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of Argo CD: from its figures to its checks, its page and its picture."""

from __future__ import annotations

import pytest
from bench import __main__ as command
from bench import argocd, report

from .test_report import MACHINE


def part(made=3.0, unchanged=2.0, ended=0.1):
    seconds = {(argocd.MADE, argocd.OURS): [made] * 3, (argocd.MADE, argocd.LOOP): [30.0] * 2, (argocd.UNCHANGED, argocd.OURS): [unchanged] * 3,
               (argocd.UNCHANGED, argocd.LOOP): [30.0] * 2, (argocd.ENDED, argocd.SYNC): [ended] * 20, (argocd.ENDED, argocd.WAIT): [0.2] * 20}
    found = argocd.outcome(3, seconds)
    return {**found, "machine": MACHINE, "versions": found.pop("peers"), "when": "2020-01-03"}


@pytest.mark.parametrize("figures, holds", [({}, [True] * 3), ({"made": 7.0}, [False, True, True]), ({"unchanged": 3.1}, [True, False, True]),
                                            ({"ended": 0.31}, [True, True, False])])
def test_each_figure_holds_up_to_its_limit(figures, holds):
    assert [check["holds"] for check in part(**figures)["checks"]] == holds


def test_the_part_of_argo_cd_has_a_table_for_each_operation_and_a_picture(tmp_path):
    text = report.markdown({"argocd": part()})
    assert "![Argo CD](argocd.png)" in text and text.count("| | seconds |") == 3 and "| argocd app wait | 0.20 s" in text
    command.write({"argocd": part()}, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "README.md", "argocd.png"}
