# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the whole way from Git to the cluster: from its figures to its checks, its page and its picture."""

from __future__ import annotations

import pytest
from bench import __main__ as command
from bench import gitops, report

from .test_report import MACHINE

SECONDS = {gitops.OURS: 4.0, gitops.ARGO: 30.0, gitops.ARGO_SSA: 40.0, gitops.BY_FLUX: 20.0, gitops.BY_KLUCTL: 9.0, gitops.BY_KAPP: 5.0}


def part(**figures):
    took = {**SECONDS, **{getattr(gitops, name): value for name, value in figures.items()}}
    found = gitops.outcome(3, {(operation, name): [each, each + 0.5, each - 0.5] for operation in gitops.OPERATIONS for name, each in took.items()})
    return {**found, "machine": MACHINE, "versions": found.pop("peers"), "when": "2020-01-03"}


@pytest.mark.parametrize("figures, holds", [
    ({}, [True] * 3), ({"ARGO": 15.0}, [False, True, True]), ({"ARGO_SSA": 15.0}, [True, False, True]), ({"BY_KLUCTL": 3.9}, [True, True, False]),
    ({"BY_KAPP": 4.0}, [True] * 3)])
def test_each_figure_holds_up_to_its_limit_and_the_quickest_of_the_others_is_the_one_to_reach(figures, holds):
    assert [check["holds"] for check in part(**figures)["checks"]] == holds


def test_the_part_has_a_table_for_each_operation_and_a_picture(tmp_path):
    text = report.markdown({"gitops": part()})
    assert "![From Git to the cluster](gitops.png)" in text and text.count("| | seconds |") == len(gitops.OPERATIONS)
    command.write({"gitops": part()}, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "README.md", "gitops.png"}


@pytest.mark.parametrize("changed, counts", [
    ({}, True), ({"verb": "get"}, False), ({"requestURI": "/x?dryRun=All"}, False), ({"responseStatus": {"code": 409}}, False),
    ({"user": {"username": "system:kube-controller-manager"}}, False), ({"stage": "RequestReceived"}, False),
    ({"objectRef": {"resource": "deployments", "namespace": "bench", "subresource": "status"}}, False),
    ({"objectRef": {"resource": "configmaps", "namespace": "default"}}, False), ({"objectRef": {"resource": "namespaces", "name": "bench"}}, True)])
def test_what_counts_as_written_is_what_an_engine_wrote_of_the_work(changed, counts):
    event = {"verb": "patch", "stage": "ResponseComplete", "requestURI": "/x", "responseStatus": {"code": 200}, "user": {"username": "bench"},
             "objectRef": {"resource": "deployments", "namespace": "bench", "name": "cart"}}
    assert gitops._writes({**event, **changed}) is counts
