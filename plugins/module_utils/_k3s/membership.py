# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node as a member of the cluster, asked and changed from a server: emptied, given back, healthy with all around it, removed for good."""

from __future__ import annotations

import math
import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple
from urllib.parse import quote

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import ADMIN, MERGE, Api, ApiFailure, Node
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Etcd, EtcdFailure, View, admit, wait_until
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import StillWaiting
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import Service
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, health

# On a node that we cordoned, written together with the cordon itself: who finds it may give the node back, and nobody else's cordon is lifted.
OURS = "nordic.gitops/cordoned"
PAUSE = 0.5
PROBE, PROBE_NAMESPACE, PROBE_SECONDS = "nordic.gitops/probe", "kube-system", 5.0
CONTROLLERS = 60.0  # seconds; one that was killed is missed after 15
# Whose holders do what an upgrade relies on: without the first, a pod that is gone stays behind its Service.
LEASES = ("kube-controller-manager", "kube-scheduler")
WORKLOADS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}


@dataclass(frozen=True)
class Cluster:
    """How this server reaches the cluster. etcd is None where the cluster has another datastore."""

    api: Api
    etcd: Optional[Etcd]
    data_dir: str
    binary: str
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    service: Service = field(default_factory=lambda: Service("server"))

    @classmethod
    def of_server(cls, data_dir: str, binary: str) -> Cluster:
        if not os.path.exists(os.path.join(data_dir, ADMIN)):
            raise Failure("this host is not a k3s server", os.path.join(data_dir, ADMIN), "Run it on one, or delegate it to one.")
        try:
            etcd: Optional[Etcd] = Etcd.of_node(data_dir) if os.path.isdir(os.path.join(data_dir, "server/db/etcd/member")) else None
        except EtcdFailure:
            etcd = None
        return cls(Api.of_node(data_dir), etcd, data_dir, binary)

    def node(self, name: str) -> Node:
        found = self.api.node(name)
        if found is None:
            raise Failure("the cluster has no node of this name", name, f"It has {', '.join(node.name for node in self.api.nodes())}.")
        return found

    def patch(self, name: str, body: Mapping[str, Any]) -> None:
        self.api.do("PATCH", f"/api/v1/nodes/{quote(name)}?fieldManager=nordic-gitops", body, MERGE)


# Emptied and given back


def drain(cluster: Cluster, name: str, timeout: int, delete_emptydir_data: bool, force: bool, check_mode: bool) -> Dict[str, Any]:
    """Cordon and evict, as PodDisruptionBudgets allow. A drain that fails gives the node back as it was."""
    node = cluster.node(name)
    pods = evictable(cluster.api, name)
    held = held_forever(pods, cluster.api)
    if held:
        raise Refused(f"it can never be drained: {'; '.join(held)}", f"node {name}",
                      "Add a replica or relax the PodDisruptionBudget. Nothing was evicted.", held=held)
    orphans = [] if force else [_name(pod) for pod in pods if not any(owner.get("controller") for owner in pod["metadata"].get("ownerReferences") or [])]
    if orphans:
        raise Refused(f"nothing would create these pods again: {', '.join(orphans)}", f"node {name}",
                      "Delete them, give them a controller such as a Deployment, or set O(force). Nothing was evicted.", held=orphans)
    rooms = [] if delete_emptydir_data else [_name(pod) for pod in pods if any("emptyDir" in volume for volume in pod["spec"].get("volumes") or [])]
    if rooms:
        raise Refused(f"these pods have an emptyDir, which would end with them: {', '.join(rooms)}", f"node {name}",
                      "Set O(delete_emptydir_data) when what is in it may go. Nothing was evicted.", held=rooms)
    names = [_name(pod) for pod in pods]
    result = {"changed": bool(pods) or not node.unschedulable, "evicted": names, "cordoned_by": "somebody else" if _anothers(node) else "us"}
    if check_mode:
        return result
    if not node.unschedulable:
        cluster.patch(name, {"metadata": {"annotations": {OURS: "true"}}, "spec": {"unschedulable": True}})
    if not pods:
        return result
    objection = wait_until(lambda: services_follow(cluster), CONTROLLERS, cluster.sleep, cluster.clock)
    if objection:
        uncordon(cluster, name, False)
        raise Failure(objection, f"draining node {name}", "Nothing was evicted: requests would go to pods that are gone.")
    begun = cluster.clock()
    arguments = ["drain", name, "--ignore-daemonsets", f"--timeout={timeout}s"]
    arguments += ["--delete-emptydir-data"] if delete_emptydir_data else []
    arguments += ["--force"] if force else []
    try:
        _kubectl(cluster, arguments, timeout + 30)
    except Failure as failure:
        left = evictable(cluster.api, name)
        uncordon(cluster, name, False)
        reasons = [f"{budget} holds {_name(pod)}" for pod in left for budget in _holding(pod, cluster.api)]
        raise Failure(f"{'; '.join(reasons) or failure.what}", f"draining node {name}",
                      f"{len(pods) - len(left)} of {len(pods)} pods left it within {cluster.clock() - begun:.0f} s. "
                      + ("It was given back to the scheduler." if not _anothers(node) else "It stays cordoned, as it was."),
                      held=reasons) from failure
    return result


def uncordon(cluster: Cluster, name: str, check_mode: bool) -> bool:
    """Give a node back that we cordoned. One that somebody else cordoned stays so."""
    node = cluster.node(name)
    if OURS not in node.annotations:
        return False
    if not check_mode:
        cluster.patch(name, {"metadata": {"annotations": {OURS: None}}, "spec": {"unschedulable": None}})
    return True


def services_follow(cluster: Cluster) -> str:
    """Why a pod that ends now would stay behind its Service, or nothing. A controller that has just begun to lead renews its lease seconds
    before it does any work, so it is given some: the EndpointSlice of a Service that selects nothing."""
    api, services = cluster.api, f"/api/v1/namespaces/{PROBE_NAMESPACE}/services"
    try:
        for left in api.do("GET", f"{services}?labelSelector={quote(PROBE)}")["items"]:  # by a run that was killed
            _delete(api, f"{services}/{left['metadata']['name']}")
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"generateName": "nordic-gitops-probe-", "labels": {PROBE: "true"}},
                   "spec": {"clusterIP": "None", "selector": {PROBE: "nothing"}, "ports": [{"port": 1}]}}
        probe = api.do("POST", services, service)["metadata"]["name"]
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{PROBE_NAMESPACE}/endpointslices?labelSelector={quote('kubernetes.io/service-name=' + probe)}"
        try:
            end = cluster.clock() + PROBE_SECONDS
            while not api.do("GET", slices)["items"]:
                if cluster.clock() > end:
                    return f"the cluster's controllers do nothing: after {PROBE_SECONDS:.0f} s a Service has no EndpointSlice"
                cluster.sleep(0.1)
        finally:
            _delete(api, f"{services}/{probe}")
    except ApiFailure as failure:
        return str(failure)
    return ""


def evictable(api: Api, name: str) -> List[Dict[str, Any]]:
    """The pods that a drain has to move: none of a DaemonSet, none of the kubelet's own, none that ended."""
    pods = api.do("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{quote(name)}")["items"]
    return [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            and "kubernetes.io/config.mirror" not in (pod["metadata"].get("annotations") or {})
            and not any(owner.get("kind") == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or [])]


def held_forever(pods: Sequence[Mapping[str, Any]], api: Api) -> List[str]:
    """Budgets that would forbid an eviction even when every pod is healthy: a drain can only time out on them."""
    held = []
    for pod in pods:
        for budget in _budgets(api, pod):
            status = budget.get("status") or {}
            wanted, there = status.get("desiredHealthy", 0), status.get("expectedPods", 0)
            if there and wanted >= there:
                held.append(f"PodDisruptionBudget {_name(budget)} wants {wanted} of {there} pods healthy at all times, and {_name(pod)} is one of them")
    return sorted(set(held))


def _holding(pod: Mapping[str, Any], api: Api) -> List[str]:
    found = []
    for budget in _budgets(api, pod):
        status = budget.get("status") or {}
        if not status.get("disruptionsAllowed"):
            found.append(f"PodDisruptionBudget {_name(budget)} ({status.get('currentHealthy', 0)} healthy of {status.get('desiredHealthy', 0)} needed)")
    return found


def _budgets(api: Api, pod: Mapping[str, Any]) -> List[Dict[str, Any]]:
    namespace = pod["metadata"]["namespace"]
    budgets = api.do("GET", f"/apis/policy/v1/namespaces/{quote(namespace)}/poddisruptionbudgets")["items"]
    return [budget for budget in budgets if selects((budget.get("spec") or {}).get("selector"), pod["metadata"].get("labels") or {})]


def selects(selector: Optional[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Kubernetes' LabelSelector: null selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets(one, labels) for one in selector.get("matchExpressions") or [])


def _meets(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    return {"In": labels.get(key) in values, "NotIn": labels.get(key) not in values,
            "Exists": key in labels, "DoesNotExist": key not in labels}[expression["operator"]]


def _anothers(node: Node) -> bool:
    return node.unschedulable and OURS not in node.annotations


# Labels and taints, which k3s gives a node only when it registers

LABELLED, TAINTED = "nordic.gitops/labels", "nordic.gitops/taints"  # which of them are ours, so that they go again when they are not wanted any more


def mark(cluster: Cluster, name: str, labels: Sequence[str], taints: Sequence[str], check_mode: bool) -> Dict[str, Any]:
    """The node has these labels (key=value) and taints (key=value:effect), and no longer those that an earlier call gave it. Others stay."""
    there = cluster.api.do("GET", f"/api/v1/nodes/{quote(name)}")
    metadata, spec = there["metadata"], there.get("spec") or {}
    annotations, current = metadata.get("annotations") or {}, metadata.get("labels") or {}
    wanted = dict(_pair(label) for label in labels)
    before = [key for key in annotations.get(LABELLED, "").split(",") if key]
    changed: Dict[str, Optional[str]] = {key: value for key, value in wanted.items() if current.get(key) != value}
    changed.update({key: None for key in before if key not in wanted and key in current})
    ours = [_taint(taint) for taint in taints]
    forgotten = {tuple(one.split(":", 1)) for one in annotations.get(TAINTED, "").split(",") if one} | {(one["key"], one["effect"]) for one in ours}
    listed = [one for one in spec.get("taints") or [] if (one["key"], one["effect"]) not in forgotten]
    kept = {LABELLED: ",".join(sorted(wanted)) or None, TAINTED: ",".join(sorted(f"{one['key']}:{one['effect']}" for one in ours)) or None}
    body: Dict[str, Any] = {"metadata": {}}
    if changed:
        body["metadata"]["labels"] = changed
    if any(annotations.get(key) != value for key, value in kept.items()):
        body["metadata"]["annotations"] = kept
    if _differ(spec.get("taints") or [], [*listed, *ours]):
        body["spec"] = {"taints": [*listed, *ours]}
    told = [f"label {key}={value}" if value is not None else f"label {key} is removed" for key, value in sorted(changed.items())]
    told += [f"taints are {', '.join(taints) or 'none of ours'}"] if "spec" in body else []
    differs = body != {"metadata": {}}
    if differs and not check_mode:
        cluster.patch(name, body)
    return {"changed": differs, "marks": told}


def _pair(label: str) -> Tuple[str, str]:
    key, _sign, value = str(label).partition("=")
    return key, value


def _taint(text: str) -> Dict[str, str]:
    head, sign, effect = str(text).rpartition(":")
    key, _sign, value = head.partition("=")
    if not sign or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise Failure(f"{text!r} is not a taint", "node-taint", "Write key=value:NoSchedule, or PreferNoSchedule or NoExecute.")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _differ(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists of taints differ."""
    def plain(taints: Sequence[Mapping[str, Any]]) -> List[Tuple[str, str, str]]:
        return sorted((taint["key"], taint["effect"], taint.get("value") or "") for taint in taints)
    return plain(one) != plain(other)


# Healthy


def wait_healthy(cluster: Cluster, name: str, version: str, tolerate: Optional[Iterable[str]], timeout: float, voters: int = 0,
                 patience: float = math.inf, spent: float = 0.0) -> float:
    """Seconds until the node, etcd, the controllers and all workloads (none when tolerate is None) are well; a Failure with what is not
    when the time is over, of which earlier calls have spent some. voters: so many members of etcd are admitted then."""
    begun = cluster.clock()
    seen: Dict[str, str] = {}
    tolerated = None if tolerate is None else set(tolerate)
    while True:
        objection = _objection(cluster, name, version, tolerated, seen)
        if not objection:
            if voters and cluster.etcd:
                admit(cluster.etcd, voters, cluster.sleep, cluster.clock)
            return cluster.clock() - begun + spent
        if cluster.clock() - begun + spent >= timeout:
            raise Failure(objection, f"node {name}", f"It was not well for {timeout:.0f} s.")
        if cluster.clock() - begun >= patience:
            raise StillWaiting(f"node {name}: {objection}")
        cluster.sleep(PAUSE)


def _objection(cluster: Cluster, name: str, version: str, tolerated: Optional[Set[str]], seen: Dict[str, str]) -> str:
    try:
        # First, as a server that is a learner still has no API server and no Ready node.
        trouble = _etcd_trouble(cluster.etcd) if cluster.etcd else ""
        if trouble:
            return trouble
        node = cluster.api.node(name)
        if node is None:
            return "it is not in the cluster"
        if not node.ready:
            return f"it is not Ready: {node.message}"
        if version and node.version != version:
            return f"its kubelet reports {node.version}, not {version}"
        idle = _idle(cluster.api, seen)
        if idle:
            return f"{' and '.join(idle)} has no leader at work yet"
        waiting = [] if tolerated is None else [one for one in unavailable(cluster.api) if one not in tolerated]
        return f"not all pods are available of {', '.join(waiting)}" if waiting else ""
    except (ApiFailure, EtcdFailure) as failure:
        return str(failure)


def _etcd_trouble(etcd: Etcd) -> str:
    """What is wrong with etcd. A learner that has caught up becomes a voter at once: the next server can join then."""
    view = etcd.view()
    for learner in view.learners:
        try:
            etcd.promote(learner)
        except EtcdFailure:
            pass  # it has not caught up yet, or is a voter meanwhile
    return view.trouble()


def _idle(api: Api, seen: Dict[str, str]) -> List[str]:
    """Controllers whose lease was not renewed since the first look. Two looks need no clock that all servers agree on."""
    found = []
    for lease in api.do("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")["items"]:
        name, renewed = lease["metadata"]["name"], (lease.get("spec") or {}).get("renewTime") or ""
        if name in LEASES and seen.setdefault(name, renewed) == renewed:
            found.append(name)
    return found


def unavailable(api: Api) -> List[str]:
    """Workloads that are not healthy, by the verdict that everything else waits with."""
    return sorted(f"{kind} {_name(item)}" for plural, kind in WORKLOADS.items() for item in api.do("GET", f"/apis/apps/v1/{plural}")["items"]
                  if health({**item, "apiVersion": "apps/v1", "kind": kind}).status != CURRENT)


# Removed for good


def remove(cluster: Cluster, name: str, timeout: float, check_mode: bool, stopped: bool = False) -> Dict[str, Any]:
    """A node that will not come back: its etcd member, its Node and its password go, so that a host may come under its name.

    stopped: k3s was stopped there by whoever asks; a Node says Ready for 40 s more.
    """
    view = _view(cluster)
    member = view.member(name) if view else None
    node = cluster.api.node(name)
    secret = f"/api/v1/namespaces/kube-system/secrets/{quote(name)}.node-password.k3s"
    password = _there(cluster.api, secret)
    done = ([f"etcd member {member}"] if member else []) + ([f"node {name}"] if node else []) + ([f"password of {name}"] if password else [])
    if not done:
        return {"changed": False, "removed": []}
    if not stopped or member:
        _refuse_living(cluster, name, view, node, timeout)
    if view is not None and member is not None:
        _refuse_without_quorum(view, member)
    if check_mode:
        return {"changed": True, "removed": done}
    if member is not None and cluster.etcd:
        cluster.etcd.remove(member)
    if node is not None:
        cluster.api.do("DELETE", f"/api/v1/nodes/{quote(name)}")
    end = cluster.clock() + timeout
    while node is not None and cluster.api.node(name) is not None:
        # k3s itself takes the node's finalizer away, after it has looked for the member.
        if cluster.clock() > end:
            raise Failure(f"it is still there {timeout:.0f} s after it was deleted", f"node {name}", "`kubectl get node -o yaml` shows its finalizers.")
        cluster.sleep(PAUSE)
    if _there(cluster.api, secret):
        cluster.api.do("DELETE", secret)
    return {"changed": True, "removed": done}


def readmit(cluster: Cluster, name: str, timeout: float, check_mode: bool) -> Dict[str, Any]:
    """A node's password goes: its host has another one than the cluster knows, as after a restore or on new disks. It sets its own anew."""
    secret = f"/api/v1/namespaces/kube-system/secrets/{quote(name)}.node-password.k3s"
    end, begun = cluster.clock() + timeout, time.time()
    while True:
        try:
            there = _there(cluster.api, secret)
            break
        except ApiFailure as failure:
            said, meaning = cluster.service.final_words(begun)
            if meaning:
                raise Failure(f"k3s does not start: {' | '.join(said)}", f"{cluster.service.name}.service", meaning) from failure
            if cluster.clock() > end:
                raise
            cluster.sleep(PAUSE)
    if there and not check_mode:
        _delete(cluster.api, secret)
    return {"changed": there, "removed": [f"password of {name}"] if there else []}


def _view(cluster: Cluster) -> Optional[View]:
    if cluster.etcd is None:
        return None
    try:
        return cluster.etcd.view()
    except EtcdFailure as failure:
        if failure.no_quorum:
            raise Refused("etcd has no quorum, so no member can be removed", "etcd",
                          "Start one of its servers again, or restore a snapshot: playbooks/restore.yml.") from failure
        raise


def _refuse_living(cluster: Cluster, name: str, view: Optional[View], node: Optional[Node], timeout: float) -> None:
    """A raft connection tells of a server at once; of an agent only its heartbeat does, which Kubernetes misses after 40 s."""
    member = view.member(name) if view else None
    if view is not None and member is not None:
        if member.id in view.healthy_ids:
            raise Refused("its etcd answers: it is alive", f"node {name}", "Stop k3s there first, or do not replace it.")
        return
    end = cluster.clock() + timeout
    while node is not None and node.ready:
        if cluster.clock() > end:
            raise Refused("it is Ready", f"node {name}", "Stop k3s there first, or do not replace it.")
        cluster.sleep(PAUSE)
        node = cluster.api.node(name)


def _refuse_without_quorum(view: View, member: Any) -> None:
    voters = [other for other in view.voters if other.id != member.id]
    healthy = [other for other in voters if other.id in view.healthy_ids]
    if len(healthy) < len(voters) // 2 + 1:
        raise Refused(f"{len(healthy)} of the {len(voters)} voters left answer, fewer than a quorum", "etcd", "Start one of the other servers first.")


def _delete(api: Api, path: str) -> None:
    try:
        api.do("DELETE", path)
    except ApiFailure as failure:
        if failure.status != 404:
            raise


def _there(api: Api, path: str) -> bool:
    try:
        api.do("GET", path)
        return True
    except ApiFailure as failure:
        if failure.status == 404:
            return False
        raise


def _kubectl(cluster: Cluster, arguments: List[str], timeout: float) -> str:
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                   "KUBECONFIG": os.path.join(cluster.data_dir, ADMIN)}
    try:
        done = subprocess.run([cluster.binary, "kubectl", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise Failure("there is no k3s here", cluster.binary) from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"kubectl did not end within {timeout:.0f} s", "kubectl") from error
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith("error")]
        raise Failure(lines[-1] if lines else f"exit code {done.returncode}", "kubectl")
    return done.stdout.decode("utf-8", "replace")


def _name(item: Mapping[str, Any]) -> str:
    metadata = item["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])


__all__: Tuple[str, ...] = ("Cluster", "drain", "mark", "readmit", "remove", "uncordon", "wait_healthy")
