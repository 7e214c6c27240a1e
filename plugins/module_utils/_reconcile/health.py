# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an object's own status says about it, as one pure function: object in, status and plain words out.

The rules are those of kstatus, with the differences that a person who waits for a release needs: a Job is done when it
completed (not when it started), a load balancer has an address, a Pod that failed has failed. What Git itself asks to
stand still (a paused Deployment, a suspended Job) is Current, for no time will change it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

CURRENT = "Current"
IN_PROGRESS = "InProgress"
FAILED = "Failed"
TERMINATING = "Terminating"
NOT_FOUND = "NotFound"
UNKNOWN = "Unknown"
STATUSES = (CURRENT, IN_PROGRESS, FAILED, TERMINATING, NOT_FOUND, UNKNOWN)


class Health(NamedTuple):
    status: str  # one of STATUSES
    message: str  # what is missing, in plain words; for a Current object what is worth knowing, often nothing


Rule = Callable[[Dict[str, Any]], Health]


def health(obj: Any) -> Health:
    """The health of one object as the server returned it; None means that the server has no such object."""
    if obj is None:
        return Health(NOT_FOUND, "not in the cluster")
    if not isinstance(obj, dict) or not isinstance(obj.get("kind"), str):
        return Health(UNKNOWN, "not an object with a kind")
    rule = HEALTH.get((_group(obj), obj["kind"]), _custom)
    found = _generic(obj) or rule(obj)
    return Health(found.status, _line(found.message)) if found.message else found


# Reading values that the server does not promise: a custom resource may hold anything anywhere.


def _map(value: Any, *path: str) -> Dict[str, Any]:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _items(value: Any, *path: str) -> List[Dict[str, Any]]:
    found = _map(value, *path[:-1]).get(path[-1])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _text(value: Any, *path: str) -> str:
    found = _map(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else ""


def _number(value: Any, *path: str) -> Optional[int]:
    found = _map(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _count(value: Any, *path: str, default: int = 0) -> int:
    found = _number(value, *path)
    return default if found is None else found


def _line(text: str) -> str:
    return " ".join(text.split())


def _group(obj: Dict[str, Any]) -> str:
    version = obj.get("apiVersion")
    return version.rpartition("/")[0] if isinstance(version, str) else ""


def _condition(obj: Dict[str, Any], kind: str) -> Dict[str, Any]:
    """The condition of that type, or an empty one. One that speaks of an older generation is not an answer yet."""
    generation = _number(obj, "metadata", "generation")
    for condition in _items(obj, "status", "conditions"):
        if condition.get("type") != kind:
            continue
        seen = _number(condition, "observedGeneration")
        if generation is not None and seen is not None and seen != generation:
            return {}
        return condition
    return {}


def _is(condition: Dict[str, Any], value: str) -> bool:
    return condition.get("status") == value


def _words(condition: Dict[str, Any], otherwise: str = "") -> str:
    """A condition's reason and message, the way a person would quote them."""
    parts = [_text(condition, key).strip() for key in ("reason", "message")]
    return ": ".join(part for part in parts if part) or otherwise


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _current(message: str = "") -> Health:
    return Health(CURRENT, message)


def _waiting(message: str) -> Health:
    return Health(IN_PROGRESS, message)


def _failed(message: str) -> Health:
    return Health(FAILED, message)


def _unseen() -> Health:
    return _waiting("its controller has not seen this version yet")


# Rules that hold for every kind.


def _generic(obj: Dict[str, Any]) -> Optional[Health]:
    # Every object of every run passes here, so what most of them do not have costs them nothing.
    metadata, status = obj.get("metadata"), obj.get("status")
    if isinstance(metadata, dict) and isinstance(metadata.get("deletionTimestamp"), str):
        return Health(TERMINATING, _why_it_stays(obj))
    if not status or not isinstance(status, dict):
        return None
    if "observedGeneration" in status:
        generation, seen = _number(metadata, "generation"), _number(status, "observedGeneration")
        if generation is not None and seen is not None and generation != seen:
            return _unseen()
    if "conditions" in status:
        reconciling = _condition(obj, "Reconciling")
        if _is(reconciling, "True"):
            return _waiting(_words(reconciling, "its controller is at work"))
        stalled = _condition(obj, "Stalled")
        if _is(stalled, "True"):
            return _failed(_words(stalled, "its controller gave up"))
    return None


NAMESPACE_LEFT = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
)


def _why_it_stays(obj: Dict[str, Any]) -> str:
    finalizers = _map(obj, "metadata").get("finalizers")
    names = [str(name) for name in finalizers] if isinstance(finalizers, list) else []
    message = "being deleted"
    if names:
        message += f", held by the {'finalizer' if len(names) == 1 else 'finalizers'} {', '.join(names)}"
    # A Namespace says itself what is left inside (NamespaceStatus in the API reference).
    conditions = [_condition(obj, kind) for kind in NAMESPACE_LEFT]
    return "; ".join([message, *(_words(condition) for condition in conditions if _is(condition, "True"))])


def _custom(obj: Dict[str, Any]) -> Health:
    """A kind without a rule of its own: Ready where it speaks of Ready, otherwise nothing to wait for."""
    if obj.get("status") and any(one.get("type") == "Ready" for one in _items(obj, "status", "conditions")):
        return _by_condition("Ready")(obj)
    return _current()


def _by_condition(kind: str, failing: Tuple[str, ...] = ()) -> Rule:
    """Current when that condition is True; Failed when it is False for one of the reasons in `failing` ("*": any)."""

    def rule(obj: Dict[str, Any]) -> Health:
        condition = _condition(obj, kind)
        if not condition:
            return _unseen()
        if _is(condition, "True"):
            return _current()
        if _is(condition, "False") and ("*" in failing or condition.get("reason") in failing):
            return _failed(_words(condition, f"{kind} is False"))
        return _waiting(_words(condition, f"{kind} is {condition.get('status') or 'not known'}"))

    return rule


def _by_phase(current: Tuple[str, ...], failed: Tuple[str, ...]) -> Rule:
    def rule(obj: Dict[str, Any]) -> Health:
        phase, message = _text(obj, "status", "phase"), _text(obj, "status", "message")
        words = ": ".join(part for part in (phase, message) if part)
        if phase in current:
            return _current("" if phase == current[0] else words)
        if phase in failed:
            return _failed(words)
        return _waiting(words) if phase else _unseen()

    return rule


# Workloads.


def _deployment(obj: Dict[str, Any]) -> Health:
    wanted = _count(obj, "spec", "replicas", default=1)
    ready = _count(obj, "status", "readyReplicas")
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    if _map(obj, "spec").get("paused") is True:
        return _current(f"paused by its own spec, {ready} of {wanted} replicas ready")
    progressing = _condition(obj, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return _failed(f"{ready} of {wanted} replicas ready when its progress deadline passed{_because(obj)}")
    existing, updated = _count(obj, "status", "replicas"), _count(obj, "status", "updatedReplicas")
    if updated < wanted:
        return _waiting(f"{updated} of {wanted} replicas updated{_because(obj)}")
    if existing > updated:
        return _waiting(f"{_plural(existing - updated, 'old replica')} still to end")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} replicas ready{_because(obj)}")
    available = _count(obj, "status", "availableReplicas")
    if available < wanted:
        return _waiting(f"{available} of {wanted} replicas available (ready for minReadySeconds)")
    if not _is(_condition(obj, "Available"), "True"):
        return _waiting(_words(_condition(obj, "Available"), "not available yet"))
    return _current()


def _because(obj: Dict[str, Any]) -> str:
    """A quota or an admission webhook that refuses the Pods is told by the workload alone: there is no Pod to ask."""
    failure = _condition(obj, "ReplicaFailure")
    return f" ({_words(failure)})" if _is(failure, "True") and _words(failure) else ""


def _replica_set(obj: Dict[str, Any]) -> Health:
    wanted = _count(obj, "spec", "replicas", default=1)
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    ready, existing = _count(obj, "status", "readyReplicas"), _count(obj, "status", "replicas")
    if _is(_condition(obj, "ReplicaFailure"), "True"):
        return _failed(f"{existing} of {wanted} replicas could be created{_because(obj)}")
    if existing > wanted:
        return _waiting(f"{_plural(existing - wanted, 'replica')} still to end")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} replicas ready")
    if _count(obj, "status", "availableReplicas") < wanted:
        return _waiting(
            f"{_count(obj, 'status', 'availableReplicas')} of {wanted} replicas available (ready for minReadySeconds)"
        )
    return _current()


def _stateful_set(obj: Dict[str, Any]) -> Health:
    wanted = _count(obj, "spec", "replicas", default=1)
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    ready, existing = _count(obj, "status", "readyReplicas"), _count(obj, "status", "replicas")
    if existing > wanted:
        return _waiting(f"{_plural(existing - wanted, 'replica')} still to end")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} replicas ready")
    available = _number(obj, "status", "availableReplicas")
    if available is not None and available < wanted:
        return _waiting(f"{available} of {wanted} replicas available (ready for minReadySeconds)")
    now, later = _text(obj, "status", "currentRevision"), _text(obj, "status", "updateRevision")
    if _text(obj, "spec", "updateStrategy", "type") == "OnDelete":
        # Only a person deletes the old Pods, so there is nothing that waiting could bring.
        return _current(
            "" if now == later else "the old Pods stay until somebody deletes them (updateStrategy OnDelete)"
        )
    partition = _count(obj, "spec", "updateStrategy", "rollingUpdate", "partition")
    due, updated = max(wanted - partition, 0), _count(obj, "status", "updatedReplicas")
    if now != later and updated < due:
        return _waiting(f"{updated} of {due} replicas updated")
    if now != later and not partition:
        return _waiting("the last old replica is still to be replaced")
    return _current(
        f"{_plural(wanted - updated, 'replica')} kept at the old revision by its partition"
        if now != later and updated < wanted
        else ""
    )


def _daemon_set(obj: Dict[str, Any]) -> Health:
    wanted = _number(obj, "status", "desiredNumberScheduled")
    if _number(obj, "status", "observedGeneration") is None or wanted is None:
        return _unseen()
    updated, ready = _count(obj, "status", "updatedNumberScheduled"), _count(obj, "status", "numberReady")
    scheduled, available = _count(obj, "status", "currentNumberScheduled"), _count(obj, "status", "numberAvailable")
    if scheduled < wanted:
        return _waiting(f"on {scheduled} of {_plural(wanted, 'node')}")
    if updated < wanted and _text(obj, "spec", "updateStrategy", "type") != "OnDelete":
        return _waiting(f"updated on {updated} of {_plural(wanted, 'node')}")
    if ready < wanted:
        return _waiting(f"ready on {ready} of {_plural(wanted, 'node')}")
    if available < wanted:
        return _waiting(f"available (ready for minReadySeconds) on {available} of {_plural(wanted, 'node')}")
    return _current("" if wanted else "no node matches it")


def _job(obj: Dict[str, Any]) -> Health:
    for kind, result in (("Complete", CURRENT), ("Failed", FAILED)):
        condition = _condition(obj, kind)
        if _is(condition, "True"):
            return Health(result, "" if result == CURRENT else _words(condition, "failed"))
    if _map(obj, "spec").get("suspend") is True:
        return _current("suspended by its own spec")
    failed = _count(obj, "status", "failed")
    trouble = f", {_plural(failed, 'Pod')} failed" if failed else ""
    done, active = _count(obj, "status", "succeeded"), _count(obj, "status", "active")
    wanted = _number(obj, "spec", "completions")
    if not _text(obj, "status", "startTime"):
        return _waiting("not started yet")
    if wanted is None:  # a work queue: one success ends it
        return _waiting(f"{_plural(active, 'Pod')} at work{trouble}")
    return _waiting(f"{done} of {_plural(wanted, 'completion')}, {_plural(active, 'Pod')} at work{trouble}")


def _cron_job(obj: Dict[str, Any]) -> Health:
    return _current("suspended by its own spec" if _map(obj, "spec").get("suspend") is True else "")


# Reasons of a waiting container which say that it will not start by itself as it is. The kubelet has some twenty
# (pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go); Argo CD knows them by this pattern.
def _is_trouble(reason: str) -> bool:
    return reason.startswith("Err") or reason.endswith(("Error", "BackOff")) or reason == "InvalidImageName"


def _pod(obj: Dict[str, Any]) -> Health:
    phase = _text(obj, "status", "phase")
    if phase == "Succeeded":
        return _current("ran to its end")
    if phase == "Failed":
        return _failed(_pod_reason(obj) or _words(_map(obj, "status"), "failed"))
    trouble = next((reason for _name, reason, _message in _waiting_containers(obj) if _is_trouble(reason)), "")
    if trouble:
        return _failed(_pod_reason(obj))
    if phase == "Running" and _is(_condition(obj, "Ready"), "True"):
        return _current()
    return _waiting(_pod_reason(obj) or ("running, not ready yet" if phase == "Running" else "not started yet"))


def _statuses(pod: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [status for key in ("initContainerStatuses", "containerStatuses") for status in _items(pod, "status", key)]


def _waiting_containers(pod: Dict[str, Any]) -> List[Tuple[str, str, str]]:
    """(container, reason, message) of each container that waits for something."""
    found = []
    for status in _statuses(pod):
        state = _map(status, "state", "waiting")
        if _text(state, "reason"):
            found.append((_text(status, "name"), _text(state, "reason"), _text(state, "message")))
    return found


def _last_end(status: Dict[str, Any]) -> str:
    """How a container ended the last time: "last exit code 137 (OOMKilled)"."""
    end = _map(status, "lastState", "terminated") or _map(status, "state", "terminated")
    code = _number(end, "exitCode")
    if code is None:
        return ""
    reason = _text(end, "reason")
    return f"last exit code {code}" + (f" ({reason})" if reason and reason not in ("Error", "Completed") else "")


def _pod_reason(pod: Dict[str, Any]) -> str:
    """Why this Pod does not run, as the scheduler or the kubelet put it; empty when nothing is wrong with it."""
    scheduled = _condition(pod, "PodScheduled")
    if _is(scheduled, "False"):
        return _words(scheduled, "not scheduled yet")
    statuses = {_text(status, "name"): status for status in _statuses(pod)}
    waits = _waiting_containers(pod)
    for container, reason, message in sorted(waits, key=lambda wait: not _is_trouble(wait[1])):
        if not _is_trouble(reason):
            continue
        end = _last_end(statuses.get(container, {})) if reason == "CrashLoopBackOff" else ""
        told = ": ".join(part for part in (reason, end or message) if part)
        return f"container {container}: {told}"
    for container, status in statuses.items():
        if _number(status, "state", "terminated", "exitCode") not in (0, None):
            return f"container {container}: {_last_end(status)}"
    if _text(pod, "status", "phase") == "Failed":
        return _words(_map(pod, "status"), "failed")
    for container, reason, message in waits:
        if reason not in ("ContainerCreating", "PodInitializing"):
            return f"container {container}: " + ": ".join(part for part in (reason, message) if part)
    if _text(pod, "status", "phase") == "Running" and not _is(_condition(pod, "Ready"), "True"):
        late = [
            name
            for name, status in statuses.items()
            if status.get("ready") is False and "running" in _map(status, "state")
        ]
        return (
            f"container {late[0]}: running, its readiness probe has not passed"
            if late
            else _words(_condition(pod, "Ready"))
        )
    return ""


def pods_reason(pods: Iterable[Any]) -> str:
    """Why a workload's Pods do not run, in one line: the commonest reason first, with the Pods that have it.

    Pods on their way out are left out: what holds an old Pod says nothing about the new ones.
    """
    reasons: Dict[str, List[str]] = {}
    for pod in pods:
        if (
            not isinstance(pod, dict)
            or _text(pod, "metadata", "deletionTimestamp")
            or _text(pod, "status", "phase") == "Succeeded"
        ):
            continue
        reason = _pod_reason(pod)
        if reason:
            reasons.setdefault(reason, []).append(_text(pod, "metadata", "name"))
    told = []
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1]))[:3]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        told.append(f"Pod {names[0]}{more}: {reason}")
    return _line("; ".join(told))


# Storage and network.


def _claim(obj: Dict[str, Any]) -> Health:
    phase = _text(obj, "status", "phase")
    if phase == "Bound":
        return _current()
    if phase == "Lost":
        return _failed("Lost: the volume it was bound to is gone")
    # A class with volumeBindingMode WaitForFirstConsumer looks the same; only the class and the Pods could tell.
    return _waiting("Pending: no volume bound yet (a class with WaitForFirstConsumer binds once a Pod uses the claim)")


def _service(obj: Dict[str, Any]) -> Health:
    if _text(obj, "spec", "type") == "LoadBalancer" and not _items(obj, "status", "loadBalancer", "ingress"):
        return _waiting("no external address yet (it comes from a load balancer controller)")
    return _current()


def _ingress(obj: Dict[str, Any]) -> Health:
    # Many clusters route without ever writing an address here, so waiting for one would wait for ever.
    return _current("" if _items(obj, "status", "loadBalancer", "ingress") else "no address yet")


# Policy and autoscaling.


def _disruption_budget(obj: Dict[str, Any]) -> Health:
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    allowed = _condition(obj, "DisruptionAllowed")
    if allowed.get("reason") == "SyncFailed":
        return _waiting(_words(allowed))
    healthy, wanted = _count(obj, "status", "currentHealthy"), _count(obj, "status", "desiredHealthy")
    if healthy < wanted:
        return _waiting(f"{healthy} of {wanted} Pods that it protects are healthy")
    return _current()


def _autoscaler(obj: Dict[str, Any]) -> Health:
    """An autoscaler is Current unless its own spec is at fault.

    Missing metrics are not a failure: every fresh one reports FailedGet…Metric until its Pods have run for a while, and
    on a cluster without a metrics server it stays so, though the workload runs as it should. A target that it cannot
    read may still come in the same run. Its controller takes 15 s for a first look (one resync period), so an empty
    status is no reason to wait. What it says is kept in the message.
    """
    told = []
    for kind in ("AbleToScale", "ScalingActive"):
        condition = _condition(obj, kind)
        if not _is(condition, "False"):
            continue
        reason = _text(condition, "reason")
        if reason.startswith("Invalid") or reason == "AmbiguousSelector":
            return _failed(_words(condition))
        if reason == "FailedGetScale":
            return _waiting(_words(condition))
        if reason != "ScalingDisabled":
            told.append(_words(condition))
    return _current("not scaling: " + "; ".join(told) if told else "")


# What extends the API.


def _definition(obj: Dict[str, Any]) -> Health:
    accepted, established = _condition(obj, "NamesAccepted"), _condition(obj, "Established")
    if _is(accepted, "False"):
        return _failed(_words(accepted, "its names are not accepted"))
    if _is(established, "True"):
        return _current()
    return _waiting(_words(established, "not established yet"))


# Argo CD's own kinds, for a cluster that carries it.


def _argo_application(obj: Dict[str, Any]) -> Health:
    state, message = _text(obj, "status", "health", "status"), _text(obj, "status", "health", "message")
    sync = _text(obj, "status", "sync", "status")
    operation = _map(obj, "status", "operationState")
    wanted, compared = _map(obj, "spec", "source"), _map(obj, "status", "sync", "comparedTo", "source")
    # An Application has no observedGeneration: its status may speak of the source it had before.
    if any(
        wanted.get(key) != compared.get(key)
        for key in ("repoURL", "path", "targetRevision", "chart")
        if wanted and compared
    ):
        return _unseen()
    if not sync and not state:
        return _unseen()
    words = f"{sync or 'not compared'}, {state or 'health not known'}{': ' + message if message else ''}"
    if state == "Degraded":
        return _failed(words)
    if operation.get("phase") in ("Failed", "Error"):
        return _failed(
            ": ".join(part for part in (f"sync {operation.get('phase')}", _text(operation, "message")) if part)
        )
    if sync == "Synced" and state in ("Healthy", "Suspended"):
        return _current("" if state == "Healthy" else words)
    return _waiting(words)


def _argo_application_set(obj: Dict[str, Any]) -> Health:
    error = _condition(obj, "ErrorOccurred")
    if _is(error, "True"):
        return _failed(_words(error))
    return _by_condition("ResourcesUpToDate")(obj)


ARGO, FLUX_SOURCE = "argoproj.io", "source.toolkit.fluxcd.io"

# One row a kind. A kind that is not here is Current unless it has a condition Ready which says otherwise.
HEALTH: Dict[Tuple[str, str], Rule] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("", "ReplicationController"): _replica_set,
    ("", "Pod"): _pod,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _by_phase(("Bound", "Available", "Released"), ("Failed",)),
    ("", "Namespace"): _by_phase(("Active",), ()),
    ("", "Node"): _by_condition("Ready"),
    ("", "Service"): _service,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _by_condition("Available"),
    (ARGO, "Application"): _argo_application,
    (ARGO, "ApplicationSet"): _argo_application_set,
    (ARGO, "Rollout"): _by_phase(("Healthy", "Paused"), ("Degraded",)),
    (ARGO, "Workflow"): _by_phase(("Succeeded",), ("Failed", "Error")),
    ("bitnami.com", "SealedSecret"): _by_condition("Synced", failing=("*",)),
    # These controllers always write Ready; until they did, an empty status would pass for healthy.
    ("cert-manager.io", "Certificate"): _by_condition("Ready"),
    ("cert-manager.io", "Issuer"): _by_condition("Ready"),
    ("cert-manager.io", "ClusterIssuer"): _by_condition("Ready"),
    ("kustomize.toolkit.fluxcd.io", "Kustomization"): _by_condition("Ready"),
    ("helm.toolkit.fluxcd.io", "HelmRelease"): _by_condition("Ready"),
    (FLUX_SOURCE, "GitRepository"): _by_condition("Ready"),
    (FLUX_SOURCE, "HelmRepository"): _custom,  # one of type oci has no status at all
    (FLUX_SOURCE, "OCIRepository"): _by_condition("Ready"),
    ("external-secrets.io", "ExternalSecret"): _by_condition("Ready"),
    ("gateway.networking.k8s.io", "Gateway"): _by_condition("Programmed"),
}
