# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a Git server to a cluster that is in sync, and that is healthy: the same 401 objects by Argo CD, Flux, kluctl, kapp and reconcile."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import yaml
from lab import argocd, build, places, processes
from lab.argocd import until
from lab.cluster import Cluster, Moment
from lab.components import ARGOCD, CLUSTER_BINARIES, FLUX, KAPP, KLUCTL
from lab.gitservers import GitHttp
from lab.repository import Repository, git_env
from workspace import collection

from .measure import Broken
from .race import settle
from .server import Server
from .workload import NAMESPACE, write

OBJECTS = 401
IN_SYNC, HEALTHY, NOOP, HEAL = "in sync", "healthy", "no-op", "heal of one object"
OURS, ARGO, ARGO_SSA, BY_FLUX, BY_KLUCTL, BY_KAPP = (
    "nordic.gitops, whole ansible-playbook call", "Argo CD", "Argo CD, ServerSideApply", "Flux", "git clone, kluctl deploy", "git clone, kapp deploy")
HOW = {
    "start": "each turn has a cluster of its own, in which the engine runs and has nothing to do; the clock starts with the Application, with Flux's "
             "GitRepository and Kustomization, or with the command; no mirror and no render is kept from an earlier turn",
    "in sync": "when the last of the %d objects was written, from the API server's audit log; whether all of them are there is checked" % OBJECTS,
    "healthy": "by the engine's own word (Argo CD: Healthy and Synced; Flux: Ready, with wait; kapp and nordic.gitops: the command ends; kluctl does not "
               "wait for what it deploys: when every Deployment has its Pods). Argo CD is told that autoscalers and Ingresses are always healthy, as the "
               "cluster has neither metrics nor an Ingress controller",
    "no-op": "the command once more; Argo CD: a refresh that was asked for; Flux: a reconciliation of source and Kustomization that was asked for",
    "heal": "a ConfigMap was edited by hand; until it was written, from the audit log: Argo CD heals by itself, Flux when it is asked (by itself at its "
            "interval), the others by the command",
    "commands": "nordic.gitops keeps a mirror of the repository from the second call on; for kluctl and kapp the repository is cloned in each call, as in a "
                "pipeline",
}
EVERYTHING = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]
EDITED = "/api/v1/namespaces/%s/configmaps/cart" % NAMESPACE
APPLICATION = "/apis/argoproj.io/v1alpha1/namespaces/%s/applications/bench" % argocd.NAMESPACE
SETTINGS = "/api/v1/namespaces/%s/configmaps/argocd-cm" % argocd.NAMESPACE
WITHOUT_STATUS = ("autoscaling_HorizontalPodAutoscaler", "networking.k8s.io_Ingress")
SOURCE = "/apis/source.toolkit.fluxcd.io/v1/namespaces/default/gitrepositories/bench"
KUSTOMIZATION = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/default/kustomizations/bench"
PATIENCE = 300.0


class Engine:
    """One of the peers on one cluster, as the user `bench`."""

    parts: Tuple[str, ...] = ()
    waits = True  # sync() ends when all is healthy

    def __init__(self, cluster: Cluster, git: GitHttp, folder: Path) -> None:
        self.cluster, self.git, self.folder = cluster, git, folder
        self.kubeconfig = Path(cluster.user("bench", EVERYTHING))
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Ready, with nothing to do."""
        yield

    def sync(self) -> None:
        raise NotImplementedError

    def again(self) -> None:
        self.sync()

    def heal(self) -> None:
        self.sync()

    def get(self, path: str) -> Dict[str, Any]:
        found: Dict[str, Any] = self.cluster.api.do("GET", path)
        return found

    def create(self, *bodies: Any) -> None:
        self.cluster.kubectl("create", "--filename", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}),
                             kubeconfig=str(self.kubeconfig))

    def call(self, command: Sequence[str], **more: str) -> None:
        """One command that has to succeed, in a HOME of its own."""
        env = {**git_env(), "PATH": os.pathsep.join((str(self.cluster.bin), os.environ["PATH"])), "HOME": str(self.folder), "LC_ALL": "C.UTF-8",
               "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.folder / "kubectl"), **more}
        done = subprocess.run(list(command), cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise Broken("`%s` ended with %d:\n%s%s" % (" ".join(command[:3]), done.returncode, done.stdout[-2000:], done.stderr[-2000:]))


class Reconcile(Engine):
    """One task. What Python has compiled stays from turn to turn, as everybody's program does; no mirror, no render."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        options = {"name": "bench", "repository": self.git.url, "git_username": self.git.username, "git_password": self.git.password, "path": "app",
                   "kubeconfig": str(self.kubeconfig), "wait_timeout": int(PATIENCE)}
        play = {"name": "Bench", "hosts": "localhost", "connection": "local", "gather_facts": False,
                "tasks": [{"name": "Reconcile", "nordic.gitops.reconcile": options}]}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
        self.caches = self.folder / ".cache" / "nordic.gitops"
        self._play("--check")  # compiles
        for kept in self.caches.iterdir():
            if kept.name != "bytecode":
                shutil.rmtree(kept)
        yield

    def _play(self, *arguments: str) -> None:
        self.call([str(Path(sys.executable).parent / "ansible-playbook"), "play.yml", *arguments], ANSIBLE_HOME=str(self.folder / ".ansible"),
                  ANSIBLE_COLLECTIONS_PATH=str(collection.linked()), ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_INVENTORY_UNPARSED_WARNING="false")

    def sync(self) -> None:
        self._play()


class Cloned(Engine):
    """A command on a clone."""

    module = KAPP
    arguments: Tuple[str, ...] = ()

    def sync(self) -> None:
        shutil.rmtree(self.folder / "clone", ignore_errors=True)
        self.call(["git", "clone", "--quiet", "--depth", "1", self.git.url_with_credentials, "clone"])
        self.call([str(build.cached(self.module, self.module.name)), *self.arguments])


class Kapp(Cloned):
    arguments = ("deploy", "--app", "bench", "--namespace", "default", "--file", "clone/app", "--yes")


class Kluctl(Cloned):
    module = KLUCTL
    arguments = ("deploy", "--project-dir", "clone", "--yes", "--no-update-check")
    waits = False


class ArgoCd(Engine):
    parts = ("argocd",)
    options: Tuple[str, ...] = ()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        secret = {"type": "git", "url": self.git.url, "username": self.git.username, "password": self.git.password}
        self.create({"apiVersion": "v1", "kind": "Secret", "stringData": secret, "metadata": {
            "name": "bench", "namespace": argocd.NAMESPACE, "labels": {"argocd.argoproj.io/secret-type": "repository"}}})
        always = 'return {status = "Healthy"}'
        self.cluster.api.do("PATCH", SETTINGS, {"data": {"resource.customizations.health.%s" % kind: always for kind in WITHOUT_STATUS}},
                            "application/merge-patch+json")
        yield

    def sync(self) -> None:
        self.create(argocd.application("bench", self.git.url, NAMESPACE, source={
            "repoURL": self.git.url, "targetRevision": "main", "path": "app", "directory": {"recurse": True}},
            syncPolicy={"automated": {"prune": True, "selfHeal": True}, "syncOptions": list(self.options)}))
        until(self._is_well, "Argo CD to be in sync and healthy", PATIENCE)

    def _is_well(self) -> bool:
        status = self.get(APPLICATION).get("status", {})
        return (status.get("sync", {}).get("status"), status.get("health", {}).get("status"),
                status.get("operationState", {}).get("phase")) == ("Synced", "Healthy", "Succeeded")

    def again(self) -> None:
        self.cluster.api.do("PATCH", APPLICATION, {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}, "application/merge-patch+json")
        until(lambda: "argocd.argoproj.io/refresh" not in self.get(APPLICATION)["metadata"].get("annotations", {}), "the refresh of Argo CD", PATIENCE)

    def heal(self) -> None:
        """It does by itself."""


class ArgoCdServerSide(ArgoCd):
    options = ("ServerSideApply=true",)


class Flux(Engine):
    """source-controller and kustomize-controller beside the cluster, as they are released, with their defaults."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        for module in FLUX:
            self.cluster.kubectl("apply", "--server-side", "--filename", str(build.tree(module) / "config" / "crd" / "bases"))
        kinds = [path.rpartition("/")[0] for path in (SOURCE, KUSTOMIZATION)]
        until(lambda: all(self.cluster.api.send("GET", kind)[0] == 200 for kind in kinds), "the cluster to serve Flux's kinds")
        port = places.free_port()
        storage = ("--storage-path=%s" % (self.folder / "storage"), "--storage-addr=127.0.0.1:%d" % port, "--storage-adv-addr=127.0.0.1:%d" % port)
        (self.folder / "storage").mkdir(exist_ok=True)
        with contextlib.ExitStack() as stack:
            for module, more in zip(FLUX, (storage, ())):
                command = [str(build.cached(module, module.name)), *more, "--events-addr=", "--log-level=error",
                           *("--%s-addr=127.0.0.1:%d" % (name, places.free_port()) for name in ("metrics", "health"))]
                env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig), "RUNTIME_NAMESPACE": "default"}
                process = processes.spawn(command, self.folder / ("%s.log" % module.name), env)
                stack.callback(processes.end, process, 10)
            yield

    def sync(self) -> None:
        meta = {"name": "bench", "namespace": "default"}
        reference = {"kind": "GitRepository", "name": "bench"}
        self.create(
            {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"username": self.git.username, "password": self.git.password}},
            {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": meta, "spec": {
                "interval": "10m", "url": self.git.url, "ref": {"branch": "main"}, "secretRef": {"name": "bench"}}},
            {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": meta, "spec": {
                "interval": "10m", "path": "./app", "prune": True, "wait": True, "timeout": "5m", "sourceRef": reference}})
        until(self._is_ready, "Flux to be ready", PATIENCE)

    def _is_ready(self) -> bool:
        return any(one["type"] == "Ready" and one["status"] == "True" for one in self.get(KUSTOMIZATION).get("status", {}).get("conditions", []))

    def again(self) -> None:
        for path in (SOURCE, KUSTOMIZATION):
            asked = str(time.time())
            self.cluster.api.do("PATCH", path, {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": asked}}}, "application/merge-patch+json")
            until(lambda where=path, when=asked: self.get(where)["status"].get("lastHandledReconcileAt") == when, "Flux to reconcile", PATIENCE)

    def heal(self) -> None:
        self.again()


ENGINES: Dict[str, type] = {OURS: Reconcile, ARGO: ArgoCd, ARGO_SSA: ArgoCdServerSide, BY_FLUX: Flux, BY_KLUCTL: Kluctl, BY_KAPP: Kapp}
OPERATIONS = (IN_SYNC, HEALTHY, NOOP, HEAL)


@dataclass(frozen=True)
class Written:
    """The requests of the user `bench` that wrote something of the work, from the audit log."""

    cluster: Cluster

    def last(self, since: Moment) -> float:
        """When the last one was answered, in seconds since 1970."""
        until_now = self.cluster.moment()
        with open(self.cluster.audit_log, "rb") as log:
            log.seek(since.offset)
            events = [json.loads(line) for line in log.read(until_now.offset - since.offset).splitlines()]
        times = [event["stageTimestamp"] for event in events if _writes(event)]
        if not times:
            raise Broken("nothing was written")
        return datetime.datetime.strptime(max(times), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc).timestamp()


def _writes(event: Dict[str, Any]) -> bool:
    reference = event.get("objectRef", {})
    mine = reference.get("namespace") == NAMESPACE or (reference.get("resource"), reference.get("name")) == ("namespaces", NAMESPACE)
    return (mine and event["stage"] == "ResponseComplete" and event["verb"] in ("create", "update", "patch") and not reference.get("subresource")
            and reference.get("resource") != "events" and event["user"]["username"] in ("bench", "argocd") and "dryRun=" not in event["requestURI"]
            and event["responseStatus"]["code"] < 300)


def measure(rounds: int, folder: Path, say: Callable[[str], None], names: Sequence[str] = tuple(ENGINES)) -> Dict[str, Any]:
    """The part `gitops` of the results."""
    for module in (KAPP, KLUCTL, *FLUX):
        build.cached(module, module.name, say)
    argocd.program(say)
    repository = Repository(folder / "repository")
    write(folder / "repository" / "app", OBJECTS)
    services = sorted("app/services/%s" % path.name for path in (folder / "repository" / "app" / "services").iterdir())
    repository.write("deployment.yaml", yaml.safe_dump({"deployments": [{"path": "app"}, {"barrier": True}, *({"path": path} for path in services)]}))
    repository.write(".kluctl.yaml", "discriminator: bench\n")
    repository.commit()
    seconds: Dict[Tuple[str, str], List[float]] = {}
    with GitHttp(folder / "repository") as git:
        for number in range(rounds):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                say("gitops, round %d of %d: %s" % (number + 1, rounds, name))
                for operation, took in turn(name, git, folder / str(number), folder / "homes" / str(list(names).index(name))).items():
                    seconds.setdefault((operation, name), []).append(took)
                    say("    %-20s %7.2f s" % (operation, took))
    return outcome(rounds, seconds)


def turn(name: str, git: GitHttp, folder: Path, home: Path) -> Dict[str, float]:
    """Operation -> seconds, on a new cluster."""
    kind = ENGINES[name]
    folder.mkdir(exist_ok=True)
    with Cluster.start(folder / kind.__name__, binaries=(*CLUSTER_BINARIES, "helm"), parts=list(kind.parts)) as cluster:
        engine, written = kind(cluster, git, home), Written(cluster)
        server = Server(Path(cluster.kubeconfig), folder / ("%s-server" % kind.__name__))
        with engine.running():
            settle(5.0)
            since, began = cluster.moment(), time.time()
            engine.sync()
            if not engine.waits:
                until(server.rolled_out, "the Deployments to have their Pods", PATIENCE)
            found = {HEALTHY: time.time() - began, IN_SYNC: written.last(since) - began}
            there = server.count()
            if there != OBJECTS:
                raise Broken("after the sync by %s there are %d objects instead of %d" % (name, there, OBJECTS))
            until(server.rolled_out, "the Deployments to have their Pods", PATIENCE)
            settle(5.0)
            began = time.time()
            engine.again()
            found[NOOP] = time.time() - began
            good = server.objects([EDITED])
            since = cluster.moment()
            began = time.time()
            server.request("PATCH", EDITED + "?fieldManager=kubectl-edit", {"data": {"LOG_LEVEL": "trace"}}, content="application/merge-patch+json")
            engine.heal()
            until(lambda: server.objects([EDITED]) == good, "%s to heal a ConfigMap" % name, PATIENCE)
            found[HEAL] = written.last(since) - began
    return found


def outcome(rounds: int, seconds: Dict[Tuple[str, str], List[float]]) -> Dict[str, Any]:
    """Figures, summary and checks."""
    medians = {key: statistics.median(row) for key, row in seconds.items()}
    ours = medians[(IN_SYNC, OURS)]
    others = {name: medians[(IN_SYNC, name)] for name in (BY_FLUX, BY_KLUCTL, BY_KAPP)}
    quickest = min(others, key=lambda name: others[name])
    pairs = ((ARGO, 1 / 4), (ARGO_SSA, 1 / 4), (quickest, 1.0))
    checks = [{"name": "401 objects, in sync: %s" % name, "ratio": round(ours / medians[(IN_SYNC, name)], 4), "limit": limit,
               "holds": ours / medians[(IN_SYNC, name)] <= limit} for name, limit in pairs]
    order = sorted(seconds, key=lambda key: (OPERATIONS.index(key[0]), medians[key]))
    return {
        "settings": {"rounds": rounds, "objects": OBJECTS}, "how": HOW, "checks": checks,
        "summary": [{"case": "gitops", "operation": operation, "peer": name, "rounds": len(seconds[operation, name]),
                     "median": round(medians[operation, name], 4), "low": round(min(seconds[operation, name]), 4),
                     "high": round(max(seconds[operation, name]), 4)} for operation, name in order],
        "figures": [{"case": "gitops", "operation": operation, "peer": name, "seconds": round(each, 4)} for operation, name in order
                    for each in seconds[operation, name]],
        "peers": {"Argo CD": ARGOCD.version, "kapp": KAPP.version, "kluctl": KLUCTL.version, **{module.name: module.version for module in FLUX}},
    }
