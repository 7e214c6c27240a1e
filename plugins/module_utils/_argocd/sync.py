# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Syncs Applications at exactly one commit, or waits until they are.

Each Application takes the same way: a refresh, so that its status is newer than our question; the operation, or the wait for somebody else's;
one more refresh when the operation has ended, so that the sync status and the health are newer than its end. A status counts only when it is
proven to be newer and speaks of the wanted commit. Everything else is either waited for or, once nothing can come of it any more, a failure.
"""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import choice, evidence, follow, operation, options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.answers import connected
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.ending import end
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import Body
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.operation import Commits
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line

WRITERS = 8
# How long something must stay that may pass by itself: Degraded while a Pod restarts, OutOfSync until Argo CD has seen what it wrote.
GRACE = 15.0
# How long a Pod may fail to start, and how often the Pods are looked at meanwhile.
STUCK = 30.0
LOOK_AT_PODS = 5.0
# How long an operation that nobody has taken up is left to the controller before it is taken away.
TAKEN_UP = 5.0
TICK = 1.0  # seconds after which the time alone is looked at


class Undone(Exception):
    """Why one Application did not come to where it was to be."""


@dataclass
class Course:
    """One Application on its way. step: what is waited for."""

    key: follow.Key
    live: Body
    commits: Commits = ()
    step: str = "look"
    asked: Optional[follow.Asked] = None
    asked_at: float = 0.0
    stamp: str = ""
    version: int = 0  # an older object is one from before our last write
    outcome: str = ""
    message: str = ""
    newer: Commits = ()
    began: bool = False  # our operation was written
    ended: Set[str] = field(default_factory=set)  # operations of others that we ended
    since: Dict[str, float] = field(default_factory=dict)
    pods_seen_at: float = 0.0
    details: List[Body] = field(default_factory=list)
    mode: str = "sync"
    partial: bool = False  # some of the objects, or a dry run
    parent: str = ""  # of a child: the Application that made it

    @property
    def name(self) -> str:
        return f"Application {self.key[0]}/{self.key[1]}"


class Sync:
    """All Applications of a task, by one watch."""

    def __init__(self, cluster: Any, params: Mapping[str, Any], check_mode: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.cluster, self.check_mode, self.clock = cluster, check_mode, clock
        self.params = options.given(options.SYNC, params)
        self.mode = str(params["operation"])
        self.partial = bool(self.params.get("resources")) or bool(params["dry_run"])
        self.courses: List[Course] = []
        self.pool = ThreadPoolExecutor(WRITERS)

    # ---- the way, top down

    def run(self) -> None:
        self.resource = choice.resource(self.cluster)
        self.courses = [Course(follow.key_of(live), live, mode=self.mode, partial=self.partial)
                        for live in choice.at_least_one(self.cluster, self.resource, self.params)]
        self._refuse()
        if self.check_mode:
            for course in self.courses:
                self._foresee(course)
            return
        until = self.clock() + self.params["wait_timeout"]
        level = self.courses
        while level:
            self._finish(level, until)
            level = self._children(level) if self.mode != "abort" and not self.partial and self.params["children"] else []
            self.courses = [*self.courses, *level]
        failed = [f"{course.name}: {course.message}" for course in self.courses if course.outcome == "failed"]
        if failed:
            raise Failure("\n".join(failed), "", "", errors=failed)

    def _finish(self, courses: List[Course], until: float) -> None:
        """Until each of them has come to its end, or the time is up."""
        if self.mode != "abort":
            self._each(courses, self._look)
        wanted = {course.key for course in courses}
        for states in follow.follow(self.cluster, self.resource, wanted, until, self.clock, TICK):
            for course in courses:
                course.live = states.get(course.key, {})
            self._each([course for course in courses if not course.outcome], self._advance)
            if all(course.outcome for course in courses):
                break
        for course in courses:
            if not course.outcome:
                self._fail(course, self._unfinished(course))

    def _children(self, parents: List[Course]) -> List[Course]:
        """The Applications that these have made, or that their ApplicationSets have. Argo CD takes a parent for healthy while they are not."""
        known, found = {course.key for course in self.courses}, []
        there: Dict[str, List[Body]] = {}
        for parent in parents:
            if parent.outcome == "failed" or not operation.is_in_cluster(parent.live):
                continue
            for each in operation.status_of(parent.live).get("resources") or ():
                if each.get("group") != "argoproj.io" or each["kind"] not in ("Application", "ApplicationSet") or each.get("hook"):
                    continue
                namespace = each.get("namespace") or parent.key[0]
                if namespace not in there:
                    there[namespace] = self.cluster.list(self.resource, namespace)[0]
                names = [each["name"]] if each["kind"] == "Application" else [
                    live["metadata"]["name"] for live in there[namespace] if follow.made_by(live) == each["name"]]
                lives = {live["metadata"]["name"]: live for live in there[namespace]}
                for name in names:
                    if (namespace, name) not in known:
                        known.add((namespace, name))
                        found.append(Course((namespace, name), lives.get(name, {}), mode="wait", parent=parent.key[1]))
        return found

    def _refuse(self) -> None:
        """What can be known to be wrong before anything is written, of all Applications at once."""
        found = [f"{course.name} {problem}" for course in self.courses for problem in self._problems(course.live)]
        if found:
            raise Refused("\n".join(found), "", "", errors=found)

    def _problems(self, live: Body) -> List[str]:
        deleted = live["metadata"].get("deletionTimestamp")
        if deleted and self.mode != "abort":
            return [f"is being deleted since {deleted}."]
        sources, given = operation.sources_of(live), self._given()
        if given and len(given) != len(sources):
            return [f"has {len(sources)} sources, and the task names {len(given)} commits; revisions needs one for each source, in their order."]
        return [f"takes {one_line(source.get('repoURL') or '')} from Git, where {commit} is no full commit id. Leave it out to take the newest commit of "
                f"{one_line(source.get('targetRevision') or 'HEAD')}."
                for source, commit in zip(sources, given) if not source.get("chart") and not _is_commit(commit) and not _is_oci(source)]

    def _given(self) -> Commits:
        return tuple(self.params.get("revisions") or ([self.params["revision"]] if self.params.get("revision") else ()))

    # ---- one Application, one step

    def _advance(self, course: Course) -> None:
        """Look at an Application as it is now, and do what comes next."""
        if not course.live:
            raise Undone("was deleted meanwhile")
        if follow.version_of(course.live) < course.version:
            return
        if course.mode == "abort":
            self._abort(course)
        elif course.step == "look":
            if self._is_fresh(course):
                self._decide(course)
        elif course.step == "others":
            self._wait_for_others(course)
        elif course.step == "run":
            self._watch_ours(course)
        elif self._is_fresh(course):
            self._judge(course)

    def _look(self, course: Course) -> None:
        """Ask for a status that is newer than now."""
        course.asked = follow.refresh(self.cluster, self.resource, course.key, bool(self.params.get("hard_refresh")) and course.step == "look")
        course.version, course.asked_at = course.asked.version, self.clock()

    def _is_fresh(self, course: Course) -> bool:
        if course.asked is None:
            return False
        if follow.is_fresh(course.live, course.asked):
            return True
        # An ApplicationSet may have taken our stamp off, and a comparison within the second of our question proves nothing: one of a later second does.
        if follow.REFRESH not in (course.live["metadata"].get("annotations") or {}) and self.clock() - course.asked_at > TICK:
            first = course.asked.at
            self._look(course)
            course.asked = course.asked._replace(at=first)
        return False

    def _decide(self, course: Course) -> None:
        """With a status that is newer than our question: is there anything to do?"""
        live = course.live
        troubles = follow.troubles(live) if not operation.is_busy(live) else []
        if [trouble for trouble in troubles if not trouble.startswith("SyncError")]:
            raise Undone("; ".join(troubles))
        if not course.commits:
            course.commits = () if course.parent else self._given()
            course.commits = course.commits or self._newest(live)
            if not course.commits:
                raise Undone("Argo CD found no commit for it")
        if operation.is_busy(live):
            course.step = "others"
            self._wait_for_others(course)
            return
        if course.mode == "wait" or self._is_done(course):
            course.step = "judge"
            self._judge(course)
            return
        there = self._commits(live)
        if operation.is_automated(live) and there != course.commits and not self.params.get("dry_run"):
            raise Undone(f"is synced by itself, and its branch is at {_spoken(there)}: it would go back there from {_spoken(course.commits)} at once")
        self._start(course)

    def _newest(self, live: Body) -> Commits:
        """The commits that Argo CD has just resolved the sources to; () while two of one repository differ, between which a commit landed."""
        found = self._commits(live)
        sources = operation.sources_of(live)
        known: Dict[Any, str] = {}
        for source, commit in zip(sources, found):
            place = (source.get("repoURL"), source.get("targetRevision"), source.get("chart"))
            if known.setdefault(place, commit) != commit:
                raise Undone(f"Argo CD resolved {one_line(source.get('targetRevision') or 'HEAD')} of {one_line(source.get('repoURL') or '')} to two "
                             f"commits, {known[place]} and {commit}: one landed in between. Run it again, or say which by revisions")
        return found if len(found) == len(sources) and all(found) else ()

    @staticmethod
    def _commits(live: Body) -> Commits:
        return operation.commits_in(operation.status_of(live).get("sync"))

    def _is_done(self, course: Course) -> bool:
        """Whether the last whole sync was of these commits and everything is as it left it. Another commit may have hooks of its own."""
        state = operation.state_of(course.live)
        return (not course.partial and (operation.status_of(course.live).get("sync") or {}).get("status") == operation.SYNCED
                and self._commits(course.live) == course.commits == operation.synced_commits(course.live)
                and state.get("phase", operation.SUCCEEDED) == operation.SUCCEEDED)

    def _start(self, course: Course) -> None:
        """Write our operation, into an Application in which none is."""
        stamp = str(uuid.uuid4())

        def patch(live: Body) -> Optional[List[Body]]:
            if operation.is_busy(live):
                return None
            return [{"op": "add", "path": "/operation", "value": operation.new(live, course.commits, stamp, self.params)}]

        written = follow.change(self.cluster, self.resource, course.key, patch) or {}
        course.version = follow.version_of(written)
        if operation.is_ours(written.get("operation"), stamp):
            course.stamp, course.began, course.step = stamp, True, "run"
        else:
            course.step = "others"

    def _watch_ours(self, course: Course) -> None:
        """Our operation, until it has ended. What another one says is never its result."""
        state = operation.state_of(course.live)
        if not operation.is_ours(state.get("operation"), course.stamp):
            if not operation.is_ours(course.live.get("operation"), course.stamp):
                raise Undone("somebody took our operation away before it began" + (
                    f": {operation.described(course.live)}" if operation.is_busy(course.live) else ""))
            return
        course.details = operation.results(state)
        phase = state.get("phase")
        if phase == operation.RUNNING and str(state.get("message", "")).startswith(operation.BLOCKED):
            self._end(course)
            raise Undone(f"a sync window of the project {one_line(str((course.live.get('spec') or {}).get('project')))} is closed; the operation was ended")
        if operation.is_busy(course.live):
            waited_for = [each for each in (state.get("syncResult") or {}).get("resources") or () if each.get("hookPhase") == operation.RUNNING]
            self._not_stuck(course, waited_for, f"the sync of {_spoken(course.commits)} cannot go on, and is left to itself (operation: abort ends it)")
            return
        if phase != operation.SUCCEEDED:
            raise Undone("\n  ".join([f"the sync of {_spoken(course.commits)} failed: {operation.failure(state)[0]}", *operation.failure(state)[1:],
                                      *evidence.of_hooks(self.cluster, course.live, state)]))
        reached = operation.commits_in(state.get("syncResult"))
        if reached != course.commits:
            raise Undone(f"Argo CD synced {_spoken(reached)}, not {_spoken(course.commits)}")
        if course.partial:
            course.outcome = "dry_run" if self.params.get("dry_run") else "synced"
            return
        course.step = "judge"
        self._look(course)

    def _wait_for_others(self, course: Course) -> None:
        """Somebody else's operation, until it has ended; then our question is asked anew."""
        live = course.live
        if operation.is_busy(live):
            running = operation.commits_in(((operation.state_of(live).get("operation") or live.get("operation") or {}).get("sync")))
            if course.mode == "sync" and self.params.get("abort") and running != course.commits:
                self._end(course)
            elif operation.is_retrying(live) and running != course.commits:
                raise Undone(f"{operation.described(live)}. abort: true ends it")
            return
        course.step = "look"
        self._look(course)

    def _judge(self, course: Course) -> None:
        """A status that is newer than the end of the operation: is the Application where it was to be?"""
        live, state = course.live, operation.state_of(course.live)
        sync = operation.status_of(live).get("sync") or {}
        there = self._commits(live)
        if operation.is_busy(live):
            running = operation.commits_in((state.get("operation") or live.get("operation") or {}).get("sync"))
            if running and running != course.commits:
                raise Undone(f"it was to be at {_spoken(course.commits)}, and {operation.described(live)}")
            course.since.clear()
            return
        troubles = follow.troubles(live)
        if troubles:
            raise Undone("; ".join(troubles))
        if state.get("phase") in ("Failed", "Error") and operation.commits_in(state.get("syncResult")) == course.commits:
            raise Undone("\n  ".join([f"the sync of {_spoken(course.commits)} failed: {operation.failure(state)[0]}", *operation.failure(state)[1:],
                                      *evidence.of_hooks(self.cluster, live, state)]))
        if there != course.commits:
            if not self._holds_at_another(course, there, str(sync.get("status"))):
                return
        elif sync.get("status") != operation.SYNCED:
            self._not_synced(course)
            return
        self._healthy(course)

    def _holds_at_another(self, course: Course, there: Commits, status: str) -> bool:
        """The branch went on. What the last sync left is still what it was, unless that sync was of another commit."""
        live = course.live
        if operation.synced_commits(live) != course.commits:
            raise Undone(f"it was to be at {_spoken(course.commits)}, and Argo CD has it at {_spoken(there)}")
        course.newer = there
        if status == operation.SYNCED:
            return True
        # Argo CD may compare before it has seen what it has just written itself.
        names = operation.few([operation.called(each) for each in operation.out_of_sync(live)])
        self._lasting(course, "OutOfSync", f"was synced at {_spoken(course.commits)}, and its branch is at {_spoken(there)} now, which changes {names or 'it'}")
        return False

    def _not_synced(self, course: Course) -> None:
        different = operation.out_of_sync(course.live)
        surplus = [operation.called(each) for each in different if each.get("requiresPruning")]
        names = operation.few([operation.called(each) for each in different])
        if course.mode == "sync" and surplus and not self.params.get("prune") and len(surplus) == len(different):
            raise Undone(f"is OutOfSync, as {operation.few(surplus)} is no longer in the repository; prune: true deletes it")
        if course.parent and not operation.is_automated(course.live):
            self._lasting(course, "OutOfSync", f"is OutOfSync at {_spoken(course.commits)}: {names}. Nobody syncs it, as auto-sync is off. "
                                               "Sync it by its name, or say children: false")
        elif course.mode == "sync" or operation.is_automated(course.live) and self._tried(course):
            self._lasting(course, "OutOfSync", f"is still OutOfSync after it was synced at {_spoken(course.commits)}: {names}")

    def _tried(self, course: Course) -> bool:
        """Whether auto-sync has done with this commit what it does once for each."""
        return operation.commits_in(operation.state_of(course.live).get("syncResult")) == course.commits

    def _healthy(self, course: Course) -> None:
        health = operation.status_of(course.live).get("health") or {}
        status = health.get("status")
        if status == "Healthy" or self.params.get("health") is False:
            course.outcome = "synced" if course.began else "unchanged"
        elif status in ("Degraded", "Suspended", "Missing"):
            told = "\n  ".join([f"is synced at {_spoken(course.commits)} and {status}" + (f": {health['message']}" if health.get("message") else "")])
            self._lasting(course, str(status), told, lambda: evidence.of_objects(self.cluster, course.live))
        else:
            course.since = {what: since for what, since in course.since.items() if what == "stuck"}
            self._not_stuck(course, operation.status_of(course.live).get("resources") or (), f"is synced at {_spoken(course.commits)} and {status}")

    def _not_stuck(self, course: Course, objects: Iterable[Mapping[str, Any]], told: str) -> None:
        """A Pod that cannot start for a while is a failure: whoever waits for it waits for ever."""
        now = self.clock()
        if now - course.pods_seen_at < LOOK_AT_PODS:
            return
        course.pods_seen_at = now
        pods = evidence.stuck_pods(self.cluster, course.live, objects)
        if not pods:
            course.since.pop("stuck", None)
        elif now - course.since.setdefault("stuck", now) >= STUCK:
            raise Undone("\n  ".join([told, *pods]))

    def _lasting(self, course: Course, what: str, told: str, more: Callable[[], List[str]] = list) -> None:
        """A failure when this has been so for a while, without anything else in between."""
        since = course.since.setdefault(what, self.clock())
        for other in set(course.since) - {what}:
            del course.since[other]
        if self.clock() - since >= GRACE:
            raise Undone("\n  ".join([told, *more()]))

    # ---- ending an operation

    def _abort(self, course: Course) -> None:
        if not operation.is_busy(course.live):
            course.outcome = "aborted" if course.ended else "unchanged"
            return
        self._end(course)

    def _end(self, course: Course) -> None:
        """End the operation that runs; one that the controller has not taken up for a while is taken away."""
        waiting = self.clock() - course.since.setdefault("end", self.clock()) < TAKEN_UP

        def patch(live: Body) -> Optional[List[Body]]:
            phase = operation.state_of(live).get("phase")
            if phase == operation.RUNNING:
                return [{"op": "add", "path": "/status/operationState/phase", "value": operation.TERMINATING}]
            if phase != operation.TERMINATING and live.get("operation") and not waiting:
                return [{"op": "remove", "path": "/operation"}]
            return None

        course.message = operation.described(course.live)
        written = follow.change(self.cluster, self.resource, course.key, patch) or {}
        if follow.version_of(written) != follow.version_of(course.live):
            course.version = follow.version_of(written)
        course.ended.add(course.message)

    # ---- the ends

    def _unfinished(self, course: Course) -> str:
        """What was waited for when the time was up."""
        live, seconds = course.live, self.params["wait_timeout"]
        if not live:
            return "was deleted meanwhile"
        if self.mode == "abort":
            left = [name for name, there in (("operation", bool(live.get("operation"))),
                                             ("status.operationState.phase", operation.state_of(live).get("phase") == operation.TERMINATING)) if there]
            return f"its operation did not end within {seconds} s; left are {' and '.join(left) or 'none'}: {operation.described(live)}"
        if course.step == "look" or course.step == "judge" and not self._is_fresh(course):
            return (f"Argo CD did not look at it within {seconds} s. Does its application controller run, does it reach the repository, and does it watch "
                    f"the namespace {course.key[0]} (application.namespaces in the ConfigMap argocd-cmd-params-cm)?")
        if course.step == "others":
            return f"after {seconds} s {operation.described(live)}"
        if course.step == "run":
            if not operation.state_of(live) or not operation.is_ours(operation.state_of(live).get("operation"), course.stamp):
                return f"Argo CD did not begin the sync within {seconds} s. Does its application controller run? operation: abort takes it away"
            lines = [f"the sync of {_spoken(course.commits)} did not end within {seconds} s ({operation.words(operation.state_of(live))}), and goes on"]
            return "\n  ".join([*lines, *evidence.of_objects(self.cluster, live), *evidence.of_hooks(self.cluster, live, operation.state_of(live))])
        sync, health = (operation.status_of(live).get(part) or {} for part in ("sync", "health"))
        names = operation.few([operation.called(each) for each in operation.out_of_sync(live)])
        lines = [f"after {seconds} s at {_spoken(self._commits(live))} it is {sync.get('status')} and {health.get('status')}" + (f": {names}" if names else "")]
        if course.mode == "wait" and sync.get("status") == operation.OUT_OF_SYNC and not operation.is_automated(live):
            lines.append("nobody syncs it: auto-sync is off")
        return "\n  ".join([*lines, *evidence.of_objects(self.cluster, live)])

    def _foresee(self, course: Course) -> None:
        """What a run would do, from what Argo CD saw last: nothing is written."""
        busy = operation.is_busy(course.live)
        if self.mode == "abort":
            course.outcome, course.message = ("aborted", operation.described(course.live)) if busy else ("unchanged", "")
            return
        course.commits = self._given() or self._commits(course.live)
        done = self.mode == "wait" or self._is_done(course) and not busy
        course.outcome = "unchanged" if done else "dry_run" if self.params.get("dry_run") else "synced"

    def _fail(self, course: Course, message: str) -> None:
        course.outcome, course.message = "failed", message

    def _each(self, courses: List[Course], work: Callable[[Course], None]) -> None:
        def one(course: Course) -> None:
            try:
                work(course)
            except Undone as undone:
                self._fail(course, str(undone))
            except Failure as failure:
                self._fail(course, str(failure))

        if len(courses) == 1:
            one(courses[0])
            return
        list(self.pool.map(one, courses))

    def result(self) -> Body:
        """The same however it ends."""
        told = []
        for course in self.courses:
            status, state = operation.status_of(course.live), operation.state_of(course.live)
            ours = bool(course.stamp) and operation.is_ours(state.get("operation"), course.stamp)
            told.append({
                "name": course.key[1], "namespace": course.key[0], "parent": course.parent, "outcome": course.outcome, "message": course.message,
                "revision": course.commits[0] if len(course.commits) == 1 else "", "revisions": list(course.commits), "newer_revisions": list(course.newer),
                "sync": str((status.get("sync") or {}).get("status") or ""), "health": str((status.get("health") or {}).get("status") or ""),
                "started_at": str(state.get("startedAt") or "") if ours else "", "finished_at": str(state.get("finishedAt") or "") if ours else "",
                "objects": course.details,
            })
        changed = any((course.began or course.ended or self.check_mode and course.outcome in ("synced", "aborted"))
                      and not self.params.get("dry_run") for course in self.courses)
        return {"changed": changed, "applications": told}


def _is_commit(text: str) -> bool:
    return len(text) in (40, 64) and not set(text) - set("0123456789abcdef")


def _is_oci(source: Mapping[str, Any]) -> bool:
    return str(source.get("repoURL", "")).startswith("oci://")


def _spoken(commits: Commits) -> str:
    return ", ".join(commits) or "no commit"


def sync(params: Mapping[str, Any], check_mode: bool) -> Body:
    """The module's result; a Failure carries what is known of each Application."""
    run = Sync(connected(params), params, check_mode)
    try:
        run.run()
    except Failure as failure:
        failure.details = {**run.result(), **failure.details}
        raise
    return run.result()


def run_module(module: Any) -> None:
    """A module's whole work, and its end."""
    end(module, lambda: sync(module.params, module.check_mode))
