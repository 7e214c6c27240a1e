# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until objects are healthy, or gone: one LIST and one watch per kind, whatever the number of objects."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.claims import used_by, without_consumer
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import (
    CURRENT,
    FAILED,
    IN_PROGRESS,
    NOT_FOUND,
    UNKNOWN,
    Health,
    Rules,
    health,
    is_unreported,
    pods_reason,
)
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Ref

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Resource

# How long "nothing is in progress, something failed" must last before it ends the wait. A Deployment that failed before
# shows its old ProgressDeadlineExceeded for a moment after it was corrected; a crashed Pod is Failed until it restarts.
GRACE = 2.0
# How long a custom resource without a status may be one that its controller has not seen yet. Then there is no controller that
# reports on it.
MOMENT = 3.0

# So many threads watch, each one kind (in one namespace, for a user without cluster-wide rights); what is more is listed in turn by a few.
WATCHERS = 12
LISTERS = 4
LIST_SECONDS = 2.0  # how often each of those is listed, or as often as the listers come round

Clock = Callable[[], float]
Progress = Callable[[str], None]


CLAIM = ("", "PersistentVolumeClaim")


class Target(NamedTuple):
    """What was applied, so that an older state of the same object is not taken for its result."""

    resource: Resource
    generation: int = 0  # as the apply returned it; 0: any
    uid: str = ""  # as the apply returned it; "": any
    vanishes: bool = False  # a Job with ttlSecondsAfterFinished: its absence means that it finished
    known: Optional[Health] = None  # its health, where the answer to the apply said all there is to wait for
    rules: Optional[Rules] = None  # the user's own
    claims: FrozenSet[str] = frozenset()  # PersistentVolumeClaims that its Pods use
    pending: Optional[Body] = None  # a PersistentVolumeClaim that is not bound, as the apply returned it

    @classmethod
    def of(cls, resource: Resource, obj: Body, rules: Optional[Rules] = None) -> Target:
        """The target for an object as the server returned it."""
        metadata, spec = obj.get("metadata") or {}, obj.get("spec") or {}
        whole = {**obj, "apiVersion": resource.api_version, "kind": resource.kind}
        found = health(whole, rules)
        # A custom resource without a status may be one that its controller has not seen yet; what comes with Kubernetes
        # has a rule of its own, or, like a ConfigMap, nobody who would report on it.
        known = found if found.status == CURRENT and _comes_with_kubernetes(resource.group) else None
        vanishes = _has_ttl(resource.kind, spec)
        pending = obj if (resource.group, resource.kind) == CLAIM and known is None else None
        return cls(resource, metadata.get("generation") or 0, metadata.get("uid") or "", vanishes, known, rules, used_by(whole), pending)


def _comes_with_kubernetes(group: str) -> bool:
    return "." not in group or group.endswith(".k8s.io")


def wait(
    cluster: Cluster,
    targets: Mapping[Ref, Target],
    timeout: float,
    progress: Optional[Progress] = None,
    clock: Clock = time.monotonic,
    selector: str = "",
    grace: float = GRACE,
) -> Dict[Ref, Health]:
    """The health of every target, once all are Current, once no more change is to be expected, or after `timeout` s.

    It ends early when every object is Current, Failed or deleted and at least one is not Current: no later event could
    mend it by itself. Until then a Failed object may still recover. What is not Current at the end is told with its
    Pods' own reason.
    selector: a label selector that all targets match, to keep everything else off the wire.
    """
    result = {ref: target.known for ref, target in targets.items() if target.known is not None}
    result.update(_unused_claims(cluster, targets))
    board = _Board({ref: target for ref, target in targets.items() if ref not in result}, _judge_health, clock, grace)
    board.moment = min(MOMENT, timeout / 2)  # a person who waits less than the moment asks how it is now
    _follow(cluster, board, timeout, progress, selector)
    result.update(_with_pod_reasons(cluster, board))
    return {ref: result[ref] for ref in targets}


def _unused_claims(cluster: Cluster, targets: Mapping[Ref, Target]) -> Dict[Ref, Health]:
    """Claims that bind once a Pod uses them, while no object of this wait makes such a Pod: no time would bind them."""
    pending = {ref: target.pending for ref, target in targets.items() if target.pending is not None}
    if not pending:
        return {}
    used = {Ref(*CLAIM, ref.namespace, name) for ref, target in targets.items() for name in target.claims}
    found = without_consumer(cluster, pending, used)
    return {ref: Health(CURRENT, f"not bound: its class {name} waits for the first Pod that uses it") for ref, name in found.items()}


# Waits for what other objects need to exist at all: CustomResourceDefinitions Established, Namespaces Active.
# Nothing of it is Failed and then well again by itself, except for names that another definition is about to free.
wait_established = functools.partial(wait, grace=0.5)


def wait_gone(cluster: Cluster, targets: Mapping[Ref, Target], timeout: float, progress: Optional[Progress] = None) -> Dict[Ref, Health]:
    """Wait until deleted objects have disappeared: NotFound, or Terminating with the finalizers that hold it."""
    board = _Board(targets, _judge_gone, time.monotonic, grace=0.0, goal=NOT_FOUND)
    _follow(cluster, board, timeout, progress, "")
    return dict(board.health)


def until_gone(cluster: Cluster, change: Change, live: Body, timeout: float, hint: str) -> None:
    """Wait until one object that was deleted to be made again has disappeared; raises a Failure with this hint where it does not."""
    found = wait_gone(cluster, {change.ref: Target(change.served, 0, live["metadata"]["uid"])}, timeout)[change.ref]
    if found.status != NOT_FOUND:
        raise Failure(f"is still there after {timeout:g} s: {found.message}", hint=hint)


def unhealthy(result: Mapping[Ref, Health], seconds: float, timeout: float, done: str = "Everything was applied.") -> Optional[Failure]:
    """The failure that tells a person what a wait ended with, or None when everything is Current. done: how far the run came."""
    bad = {ref: found for ref, found in result.items() if found.status != CURRENT}
    if not bad:
        return None
    lines = [
        f"{ref} is {found.status}{': ' + found.message if found.message else ''}" for ref, found in sorted(bad.items())
    ]
    late = any(found.status not in (FAILED, NOT_FOUND) for found in bad.values())
    ended = (
        f"after {seconds:.0f} s (wait_timeout is {timeout:.0f} s)"
        if late
        else f"and will not change by themselves (seen after {seconds:.0f} s)"
    )
    shown = "; ".join(lines[:10]) + (f"; and {len(lines) - 10} more" if len(lines) > 10 else "")
    return Failure(
        f"{len(bad)} of {len(result)} objects are not healthy {ended}: {shown}",
        hint=f"{done} Correct the cause in Git and run again" + (", or raise wait_timeout." if late else "."),
        errors=lines,
    )


# One board holds what is known; a follower per kind writes on it; the caller's own thread reads it.

Judge = Callable[[Target, Body], Optional[Health]]


def _judge_health(target: Target, obj: Body) -> Optional[Health]:
    """The target's health by this object; None when it shows a state from before the apply."""
    metadata = obj.get("metadata") or {}
    if target.uid and metadata.get("uid") != target.uid:
        return Health(NOT_FOUND, "deleted and created again by somebody else during the wait")
    if (metadata.get("generation") or 0) < target.generation:
        return None
    return _outcome_of_ended_job(obj) or health(obj, target.rules)


def _judge_gone(target: Target, obj: Body) -> Optional[Health]:
    metadata = obj.get("metadata") or {}
    if target.uid and metadata.get("uid") != target.uid:
        return Health(NOT_FOUND, "gone, another object has its name now")
    if not metadata.get("deletionTimestamp"):
        return Health(IN_PROGRESS, "still there, its deletion has not begun")
    return health(obj)


def _has_ttl(kind: Any, spec: Any) -> bool:
    return kind == "Job" and isinstance(spec, dict) and spec.get("ttlSecondsAfterFinished") is not None


def _outcome_of_ended_job(obj: Body) -> Optional[Health]:
    """How a Job with ttlSecondsAfterFinished ended, which its clean-up (it is Terminating then) does not change."""
    if not _has_ttl(obj.get("kind"), obj.get("spec")):
        return None
    found = health({**obj, "metadata": {key: value for key, value in (obj.get("metadata") or {}).items() if key != "deletionTimestamp"}})
    return found if found.status == FAILED or found == Health(CURRENT, "") else None  # one that is held has words for it


class _Board:
    """The health of every target, kept countable: an event costs the same with ten targets or with ten thousand."""

    def __init__(
        self, targets: Mapping[Ref, Target], judge: Judge, clock: Clock, grace: float, goal: str = CURRENT
    ) -> None:
        self.targets = dict(targets)
        self.judge, self.clock, self.grace, self.goal = judge, clock, grace, goal
        self.changed = threading.Condition()
        self.health: Dict[Ref, Health] = {ref: Health(UNKNOWN, "not looked at yet") for ref in targets}
        self.counts: Dict[str, int] = {UNKNOWN: len(targets)}
        self.seen: Dict[Ref, Body] = {}
        self.ended_since: Optional[float] = None
        self.moment = MOMENT
        self.unreported: Dict[Ref, float] = {}  # since when an object without a status is known
        self.error: Optional[BaseException] = None
        self.trouble = ""  # the last connection error, for the message if time runs out over it

    def saw(self, ref: Ref, obj: Body) -> None:
        target = self.targets.get(ref)
        if target is None:
            return
        found = self.judge(target, obj) or Health(IN_PROGRESS, "the server does not show this version yet")
        unreported = self.goal == CURRENT == found.status and target.resource.status and is_unreported(obj, target.rules)
        with self.changed:
            self.seen[ref] = obj
            if not unreported:
                self.unreported.pop(ref, None)
            elif self.clock() < self.unreported.setdefault(ref, self.clock()) + self.moment:
                found = Health(IN_PROGRESS, "no controller has reported on it yet")
            self._set(ref, found)

    def reported_by_nobody(self) -> float:
        """Let the moment of each object without a status pass; returns when the next one's does."""
        with self.changed:
            now = self.clock()
            for ref, since in self.unreported.items():
                if now >= since + self.moment and self.health[ref].status == IN_PROGRESS:
                    self._set(ref, Health(CURRENT, "no controller reports on it"))
            return min((since + self.moment for since in self.unreported.values() if now < since + self.moment), default=math.inf)

    def missed(self, ref: Ref, last: Optional[Body] = None) -> None:
        """The object is not there (any more); `last` is its last state where a watch told it."""
        target = self.targets.get(ref)
        if target is None:
            return
        uid = ((last or {}).get("metadata") or {}).get("uid")
        if self.goal == CURRENT and target.uid and uid and uid != target.uid:
            return  # the end of a predecessor, replaced by the one we wait for
        with self.changed:
            self.unreported.pop(ref, None)
            known = _outcome_of_ended_job(last or self.seen.get(ref) or {})
            if self.goal == NOT_FOUND:
                self._set(ref, Health(NOT_FOUND, "gone"))
            elif known:
                self._set(ref, known)
            elif target.vanishes and last is None:
                self._set(ref, Health(CURRENT, "finished and cleaned up (ttlSecondsAfterFinished)"))
            else:
                self._set(
                    ref,
                    Health(NOT_FOUND, "deleted during the wait" if ref in self.seen else "not in the cluster any more"),
                )

    def _set(self, ref: Ref, found: Health) -> None:
        before = self.health[ref]
        if before == found:
            return
        self.health[ref] = found
        self.counts[before.status] -= 1
        self.counts[found.status] = self.counts.get(found.status, 0) + 1
        if not self._nothing_more_to_expect():
            self.ended_since = None
        elif self.ended_since is None:
            self.ended_since = self.clock()
        self.changed.notify_all()

    def reached(self) -> bool:
        return self.counts.get(self.goal, 0) == len(self.targets)

    def _nothing_more_to_expect(self) -> bool:
        if self.goal != CURRENT:
            return False
        return sum(self.counts.get(status, 0) for status in (CURRENT, FAILED, NOT_FOUND)) == len(self.targets)

    def fail(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    def line(self) -> str:
        done = self.counts.get(self.goal, 0)
        text = f"{done} of {len(self.targets)} {'healthy' if self.goal == CURRENT else 'gone'}"
        late = next((ref for ref in sorted(self.health) if self.health[ref].status != self.goal), None)
        return f"{text}, waiting for {late} ({self.health[late].message})" if late else text


def _follow(cluster: Cluster, board: _Board, timeout: float, progress: Optional[Progress], selector: str) -> None:
    """Keep the board up to date until its goal is reached, nothing more is to be expected, or the time is over."""
    if not board.targets:
        return
    deadline = board.clock() + timeout
    followers = _Followers(cluster, board, selector, deadline)
    try:
        followers.start(_scopes(board.targets))
        with board.changed:
            told_at, told = board.clock(), ""
            while board.error is None:
                next_moment = board.reported_by_nobody()
                if board.reached():
                    break
                now = board.clock()
                ends = deadline if board.ended_since is None else min(deadline, board.ended_since + board.grace)
                if now >= ends:
                    break
                if progress and now - told_at >= 1.0:
                    line = board.line()
                    told_at = now
                    if line != told:
                        progress(line)
                        told = line
                until = min(ends, next_moment) - now
                board.changed.wait(min(until, 1.0) if progress else until)
    finally:
        followers.stop()
    if board.error is not None:
        raise board.error
    if board.trouble and not board.reached():
        for ref, found in board.health.items():
            if found.status not in (CURRENT, NOT_FOUND):
                board.health[ref] = Health(found.status, f"{found.message}; last connection error: {board.trouble}")


Scope = Tuple["Resource", str, Tuple[Ref, ...]]  # resource, namespace ("" for all), the targets in it


def _scopes(targets: Mapping[Ref, Target]) -> List[Scope]:
    """One scope per kind: its only namespace, or the whole cluster."""
    kinds: Dict[Resource, List[Ref]] = {}
    for ref, target in targets.items():
        kinds.setdefault(target.resource, []).append(ref)
    scopes = []
    for resource, refs in kinds.items():
        namespaces = {ref.namespace for ref in refs}
        scopes.append((resource, namespaces.pop() if len(namespaces) == 1 else "", tuple(refs)))
    return scopes


def _by_namespace(scope: Scope) -> List[Scope]:
    resource, _namespace, refs = scope
    return [
        (resource, namespace, tuple(ref for ref in refs if ref.namespace == namespace))
        for namespace in sorted({ref.namespace for ref in refs})
    ]


class _Followers:
    """The threads of one wait, a bounded number. They end with it: each open watch is closed, which wakes the thread that reads it."""

    def __init__(self, cluster: Cluster, board: _Board, selector: str, deadline: float) -> None:
        self.cluster, self.board, self.selector, self.deadline = cluster, board, selector, deadline
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.threads: List[threading.Thread] = []
        self.streams: List[Any] = []
        self.watching = 0
        self.listed: Deque[Tuple[float, Scope]] = deque()  # when each is due, and what no watcher is left for
        self.listers = 0

    def start(self, scopes: Iterable[Scope]) -> None:
        for scope in scopes:
            with self.lock:
                if self.over.is_set():
                    return
                if self.watching < WATCHERS:
                    self.watching += 1
                    self._start(self._watch_one, scope)
                else:
                    self.listed.append((0.0, scope))
                    if self.listers < min(LISTERS, len(self.listed)):
                        self.listers += 1
                        self._start(self._list_in_turn)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=self._run, args=(work, *arguments), name="wait-follower", daemon=True)
        thread.start()
        self.threads.append(thread)

    def stop(self) -> None:
        self.over.set()
        with self.lock:
            streams, threads = list(self.streams), list(self.threads)
        for stream in streams:
            stream.close()
        # They are daemons: one that is still connecting to a dead server must not hold the answer back.
        patience = time.monotonic() + 2.0
        for thread in threads:
            thread.join(max(0.0, patience - time.monotonic()))

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # a thread has no caller: the board hands it to the one who waits
            if not self.over.is_set():
                self.board.fail(error)

    def _watch_one(self, scope: Scope) -> None:
        split = self._follow(scope)
        with self.lock:
            self.watching -= 1
        self.start(split)

    def _list_in_turn(self) -> None:
        while not self.over.is_set():
            with self.lock:
                due, scope = self.listed.popleft() if self.listed else (0.0, None)
            if scope is None:
                if self.over.wait(0.1):
                    return
                continue
            if self.over.wait(max(0.0, due - time.monotonic())):
                return
            split: List[Scope] = []
            try:
                self._list(*scope)
                self.board.trouble = ""
            except Failure as error:
                split = self._explained(scope, error)
            with self.lock:
                self.listed.extend((time.monotonic() + LIST_SECONDS, one) for one in split or [scope])

    def _explained(self, scope: Scope, error: Failure) -> List[Scope]:
        """What an error of a LIST means for a scope: the scopes to ask instead, none for the same one later; raises what is final."""
        resource, namespace, refs = scope
        status = error.status
        if status == 403 and not namespace and resource.namespaced:
            # Rights in the namespaces of the targets are enough, though they cost a request for each.
            return _by_namespace(scope)
        if status == 404:  # the kind itself is gone, its definition was deleted
            for ref in refs:
                self.board.missed(ref)
        elif error.retryable:
            self.board.trouble = str(error)
        elif status != 410:
            raise error
        return []

    def _follow(self, scope: Scope) -> List[Scope]:
        """Watch until the wait is over; returns the scopes to follow instead where this user may not see all of this one."""
        resource, namespace, refs = scope
        version, pause = "", 0.0
        while not self.over.wait(pause):
            try:
                if not version:
                    version = self._list(resource, namespace, refs)
                    self.board.trouble = ""
                if self.over.is_set():
                    return []
                began = self.board.clock()
                version = self._watch(resource, namespace, version)
                # A server or proxy that ends each watch at once must not be asked without a pause.
                pause = 0.0 if self.board.clock() - began > 1.0 else min(2.0, pause * 2 or 0.1)
            except Failure as error:
                split = self._explained(scope, error)
                if split:
                    return split
                if error.status in (404, 410):  # 410: older than what the server still knows: look again from the start
                    version = ""
                # Also after 410: a server that answers each watch so must not be listed in a loop without a pause.
                pause = min(5.0, pause * 2 or 0.1)
        return []

    def _list(self, resource: Resource, namespace: str, refs: Iterable[Ref]) -> str:
        items, version = self.cluster.list(resource, namespace, self.selector)
        found = {_ref(resource, item): item for item in items}
        for ref in refs:
            if ref in found:
                self.board.saw(ref, found[ref])
            else:
                self.board.missed(ref)
        return version

    def _watch(self, resource: Resource, namespace: str, version: str) -> str:
        """Read one watch to its end; returns the version to go on from."""
        stream = self.cluster.watch(
            resource, namespace, self.selector, version, max(1, int(self.deadline - self.board.clock()) + 1)
        )
        with self.lock:
            self.streams.append(stream)
            if self.over.is_set():  # it was opened while stop() closed the others
                stream.close()
        try:
            for kind, obj in stream:
                if self.over.is_set():
                    break
                version = (obj.get("metadata") or {}).get("resourceVersion") or version
                if kind == "DELETED":
                    self.board.missed(_ref(resource, obj), obj)
                elif kind in ("ADDED", "MODIFIED"):
                    self.board.saw(
                        _ref(resource, obj), {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
                    )
                self.board.trouble = ""
        finally:
            with self.lock:
                self.streams.remove(stream)
            stream.close()
        return version


def _ref(resource: Resource, obj: Body) -> Ref:
    metadata = obj.get("metadata") or {}
    return Ref(resource.group, resource.kind, metadata.get("namespace") or "", metadata.get("name") or "")


# Why a workload does not get ready is known by its Pods alone.

WORKLOADS = (
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
)
ONE_LIST_FROM = 4  # so many namespaces with trouble: one LIST of all Pods is cheaper than one for each


def _with_pod_reasons(cluster: Cluster, board: _Board) -> Dict[Ref, Health]:
    result = dict(board.health)
    stuck = [
        ref
        for ref, found in result.items()
        if found.status in (IN_PROGRESS, FAILED) and (ref.group, ref.kind) in WORKLOADS and ref in board.seen
    ]
    if not stuck:
        return result
    try:
        pods = _pods(cluster, sorted({ref.namespace for ref in stuck}))
    except Failure as error:
        for ref in stuck:
            result[ref] = Health(result[ref].status, f"{result[ref].message}; its Pods could not be read: {error.what}")
        return result
    for ref in stuck:
        selector = (board.seen[ref].get("spec") or {}).get("selector")
        own = [
            pod
            for pod in pods
            if pod["metadata"].get("namespace") == ref.namespace and _selects(selector, pod["metadata"].get("labels"))
        ]
        reason = pods_reason(own) or ("" if own else "it has no Pods")
        if reason:
            result[ref] = Health(result[ref].status, f"{result[ref].message}; {reason}")
    return result


def _pods(cluster: Cluster, namespaces: List[str]) -> List[Body]:
    resource = cluster.resource("v1", "Pod")
    if len(namespaces) >= ONE_LIST_FROM:
        return cluster.list(resource)[0]
    return [pod for namespace in namespaces for pod in cluster.list(resource, namespace)[0]]


def _selects(selector: Any, labels: Any) -> bool:
    """Whether a workload's spec.selector matches the labels. An empty one matches nothing, as workloads refuse it."""
    selector, labels = selector or {}, labels or {}
    equal, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not equal and not expressions:
        return False
    return all(labels.get(key) == value for key, value in equal.items()) and all(
        {
            "In": labels.get(one.get("key")) in (one.get("values") or ()),
            "NotIn": labels.get(one.get("key")) not in (one.get("values") or ()),
            "Exists": one.get("key") in labels,
            "DoesNotExist": one.get("key") not in labels,
        }.get(one.get("operator"), False)
        for one in expressions
    )
