# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an Application's status says: when argocd_sync calls it a success, and which operation is its own."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow, operation
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.sync import GRACE, Course, Sync, Undone
from hypothesis import given
from hypothesis import strategies as st

OURS, NEWER = "a" * 40, "b" * 40
PARAMS = {"operation": "sync", "dry_run": False, "namespace": "argocd", "wait_timeout": 60, "name": "web"}

commits = st.sampled_from([OURS, NEWER, ""])
applications = st.fixed_dictionaries({
    "metadata": st.just({"name": "web", "namespace": "argocd", "resourceVersion": "7", "annotations": {}}),
    "spec": st.fixed_dictionaries({"source": st.just({"repoURL": "https://git.example.no/a", "path": "."}),
                                   "syncPolicy": st.sampled_from([{}, {"automated": {}}])}),
    "operation": st.sampled_from([None, {"sync": {"revision": OURS}}, {"sync": {"revision": NEWER}}]),
    "status": st.fixed_dictionaries({
        "sync": st.fixed_dictionaries({"status": st.sampled_from(["Synced", "OutOfSync", "Unknown"]), "revision": commits}),
        "health": st.fixed_dictionaries({"status": st.sampled_from(["Healthy", "Progressing", "Degraded", "Missing", "Suspended"])}),
        "history": st.lists(st.fixed_dictionaries({"revision": commits}), max_size=2),
        "conditions": st.sampled_from([[], [{"type": "ComparisonError", "message": "no"}]]),
        "operationState": st.fixed_dictionaries({
            "phase": st.sampled_from(["Running", "Succeeded", "Failed", "Error", "Terminating"]),
            "operation": st.fixed_dictionaries({"sync": st.fixed_dictionaries({"revision": commits})}),
            "syncResult": st.fixed_dictionaries({"revision": commits})}),
    }),
})


class NoCluster:
    """Whoever only judges asks nothing."""

    def discover(self):
        return self

    def find(self, _api_version, _kind):
        return None


def judged(live, mode="sync", clock=lambda: 0.0, since=None):
    run = Sync(NoCluster(), {**PARAMS, "operation": mode}, False, clock)
    course = Course(("argocd", "web"), live, (OURS,), "judge", follow.Asked("now", datetime.now(timezone.utc)), since=since or {})
    try:
        run._advance(course)
    except Undone as undone:
        course.outcome, course.message = "failed", str(undone)
    return course


@given(applications, st.sampled_from(["sync", "wait"]))
def test_success_is_never_another_commit_never_unhealthy_and_never_while_an_operation_runs(live, mode):
    course = judged(live, mode)
    if course.outcome in ("synced", "unchanged"):
        status = live["status"]
        assert status["sync"]["status"] == "Synced" and status["health"]["status"] == "Healthy" and not status["conditions"]
        assert not live["operation"] and status["operationState"]["phase"] not in ("Running", "Terminating")
        assert OURS in (status["sync"]["revision"], status["history"][-1]["revision"] if status["history"] else "")
        assert (status["operationState"]["phase"], status["operationState"]["syncResult"]["revision"]) not in (("Failed", OURS), ("Error", OURS))


@given(applications)
def test_what_stays_as_it_is_ends_in_a_verdict_unless_something_still_moves(live):
    """Synced at another commit, degraded, out of sync: none of it is waited for until the time is up."""
    course = judged(live, clock=lambda: GRACE * 10, since={"Degraded": 0.0, "Suspended": 0.0, "Missing": 0.0, "OutOfSync": 0.0})
    moves = operation.is_busy(live) or live["status"]["health"]["status"] == "Progressing"
    first = {what: 0.0 for what in course.since}
    again = judged(live, clock=lambda: GRACE * 10, since=first) if not moves and not course.outcome else course
    assert moves or again.outcome


@given(st.sampled_from(["Running", "Succeeded", "Failed", "Error"]), commits, commits)
def test_the_state_of_another_operation_is_never_the_result_of_ours(phase, theirs, newer):
    """argo-cd#5592, terraform-provider-argocd#110"""
    live = {"metadata": {"name": "web", "namespace": "argocd", "resourceVersion": "7"}, "operation": {"info": [{"name": operation.INFO, "value": "ours"}]},
            "status": {"operationState": {"phase": phase, "operation": {"sync": {"revision": theirs}}, "syncResult": {"revision": newer}}}}
    run = Sync(NoCluster(), PARAMS, False)
    course = Course(("argocd", "web"), live, (OURS,), "run", stamp="ours", began=True)
    run._advance(course)
    assert not course.outcome and course.step == "run"


def test_an_object_from_before_our_own_write_is_not_looked_at():
    run = Sync(NoCluster(), PARAMS, False)
    live = {"metadata": {"name": "web", "namespace": "argocd", "resourceVersion": "6"}}
    course = Course(("argocd", "web"), live, (OURS,), "run", stamp="ours", began=True, version=7)
    run._advance(course)
    assert not course.outcome
    course.version = 6
    with pytest.raises(Undone, match="somebody took our operation away"):
        run._advance(course)


def test_the_operation_always_has_the_full_commit_and_a_retry_never_takes_another_one():
    """argo-cd#26530, argo-cd#28778"""
    policy = {"syncOptions": ["CreateNamespace=true"], "retry": {"limit": 3, "refresh": True}}
    one = operation.new({"spec": {"source": {"path": "."}, "syncPolicy": policy}}, (OURS,), "stamp", {})
    assert one["sync"] == {"prune": False, "syncOptions": ["CreateNamespace=true"], "source": {"path": "."}, "revision": OURS}
    assert one["retry"] == {"limit": 3, "refresh": False} and operation.is_ours(one, "stamp")
    several = operation.new({"spec": {"sources": [{"path": "a"}, {"path": "b"}]}}, (OURS, NEWER), "stamp",
                            {"prune": True, "syncOptions": [], "retry": {"limit": 0}, "dry_run": True, "resources": [{"kind": "Pod", "name": "a"}]})
    assert several["sync"] == {"prune": True, "syncOptions": [], "sources": [{"path": "a"}, {"path": "b"}], "revisions": [OURS, NEWER], "dryRun": True,
                               "resources": [{"kind": "Pod", "name": "a"}]}
    assert several["retry"] == {"limit": 0, "refresh": False}


def test_two_sources_of_one_branch_at_two_commits_are_refused():
    """argo-cd#29716"""
    source = {"repoURL": "https://git.example.no/a", "targetRevision": "main"}
    live = {"spec": {"sources": [source, {**source, "path": "b"}]}, "status": {"sync": {"revisions": [OURS, NEWER]}}}
    with pytest.raises(Undone, match=f"resolved main of https://git.example.no/a to two commits, {OURS} and {NEWER}"):
        Sync(NoCluster(), PARAMS, False)._newest(live)
