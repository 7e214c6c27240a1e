# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Argo CD beside the embedded cluster, in the place of the Pods of its Deployments, which kwok's nodes do not run.

The namespace `argocd` has what the release's manifests put there, without the workloads; those are processes of the cluster's
supervisor, each of them allowed everything, as the release's own roles allow it.

    with shared() as cluster:            a cluster with Argo CD beside it, one for all workers of a pytest session
        server = Server(cluster)         its API, with a token of the administrator
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import yaml

from lab import build, places
from lab.components import ARGOCD, CLUSTER_BINARIES, KUSTOMIZE
from lab.errors import LabError

NAMESPACE = "argocd"
REDIS = "redis-server"
# What the release runs as Pods. Users of the lab's cluster are of no other kind.
WORKLOADS = ("Deployment", "StatefulSet", "NetworkPolicy")
# What the repository server runs beside git.
SCRIPTS = ("gpg-wrapper.sh", "git-verify-wrapper.sh")
READY_WITHIN = 120.0


def program(say: build.Say = build.silent) -> Path:
    """Argo CD's program, built where it is not in the cache; Redis is Debian's."""
    if not shutil.which(REDIS):
        raise LabError(f"Argo CD needs {REDIS}, which this machine does not have; bindep.txt names the package (profile test)")
    build.cached(KUSTOMIZE, "kustomize", say)
    return build.cached(ARGOCD, "argocd", say)


def tree() -> Path:
    """The files of the release: the manifests are in manifests/."""
    return build.tree(ARGOCD)


def manifests(name: str = "install.yaml") -> List[Dict[str, Any]]:
    """The objects of one of the release's files."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [body for body in yaml.load_all((tree() / "manifests" / name).read_text(), loader) if body]  # SafeLoader, or the same in C


@dataclass(frozen=True)
class Ports:
    """Where the processes listen."""

    redis: int
    repo_server: int
    server: int
    others: Tuple[int, ...]

    @classmethod
    def free(cls) -> "Ports":
        return cls(places.free_port(), places.free_port(), places.free_port(), tuple(places.free_port() for _number in range(6)))


def components(argocd: Path, kubeconfig: Path, tools: Path, state: Path, ports: Ports) -> Dict[str, Tuple[List[str], Dict[str, str]]]:
    """Name -> (command, environment) of each process, in the order in which they are started; tools: the folder of helm and kubectl."""
    home = state / "argocd"
    shutil.rmtree(home, ignore_errors=True)
    folders = {"ARGOCD_TLS_DATA_PATH": "tls", "ARGOCD_SSH_DATA_PATH": "ssh", "ARGOCD_GPG_DATA_PATH": "gpg", "ARGOCD_GNUPGHOME": "gnupg",
               "ARGOCD_PLUGINSOCKFILEPATH": "plugins", "TMPDIR": "tmp"}
    for folder in folders.values():
        (home / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / "ssh" / "ssh_known_hosts").touch()
    path = os.pathsep.join((str(home / "bin"), str(tools), os.environ.get("PATH", "")))
    environment = {"PATH": path, "HOME": str(home), "KUBECONFIG": str(kubeconfig),
                   # Its service account is the kubeconfig's user.
                   "ARGOCD_FAKE_IN_CLUSTER": "true", "ARGOCD_GPG_ENABLED": "false",
                   **{name: str(home / folder) for name, folder in folders.items()}}
    redis, repo_server = f"127.0.0.1:{ports.redis}", f"127.0.0.1:{ports.repo_server}"
    asked = ["--redis", redis, "--repo-server", repo_server, "--namespace", NAMESPACE]
    metrics = [str(port) for port in ports.others]
    programs = {
        "argocd-repo-server": ["--redis", redis, "--address", "127.0.0.1", "--port", str(ports.repo_server),
                               "--metrics-address", "127.0.0.1", "--metrics-port", metrics[0]],
        "argocd-application-controller": [*asked, "--metrics-port", metrics[1]],
        "argocd-server": [*asked, "--insecure", "--address", "127.0.0.1", "--port", str(ports.server),
                          "--metrics-address", "127.0.0.1", "--metrics-port", metrics[2]],
        "argocd-applicationset-controller": ["--argocd-repo-server", repo_server, "--namespace", NAMESPACE, "--metrics-addr", f"127.0.0.1:{metrics[3]}",
                                             "--probe-addr", f"127.0.0.1:{metrics[4]}", "--webhook-addr", f"127.0.0.1:{metrics[5]}"],
    }
    started = {"argocd-redis": ([REDIS, "--bind", "127.0.0.1", "--port", str(ports.redis), "--save", "", "--appendonly", "no",
                                 "--dir", str(home / "tmp")], {"PATH": environment["PATH"], "HOME": str(home)})}
    (home / "bin").mkdir()
    for script in SCRIPTS:
        (home / "bin" / script).write_bytes((tree() / "hack" / script).read_bytes())
        (home / "bin" / script).chmod(0o755)
    (home / "bin" / "kustomize").symlink_to(build.cached(KUSTOMIZE, "kustomize", build.silent))
    # Git asks it for the password of a repository.
    (home / "bin" / "argocd").symlink_to(argocd)
    for name, arguments in programs.items():
        # As in the release's image. The name says what the program is, and becomes its field manager.
        (home / "bin" / name).symlink_to(argocd)
        started[name] = ([str(home / "bin" / name), *arguments], environment)
    return started


def install(kubectl: Path, kubeconfig: Path) -> None:
    """What the release's manifests make, without the workloads."""
    wanted = [body for body in manifests() if body["kind"] not in WORKLOADS]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for bodies in ([namespace], wanted):
        command = [str(kubectl), "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "apply", "--server-side", "--force-conflicts", "--filename", "-"]
        done = subprocess.run(command, input=json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}), capture_output=True, text=True,
                              env={**os.environ, "KUBECACHEDIR": str(kubeconfig.parent / "kubectl-cache")}, check=False)
        if done.returncode:
            raise LabError(f"the manifests of Argo CD {ARGOCD.version} could not be applied: {done.stderr.strip()}")


@contextlib.contextmanager
def shared() -> Any:
    """A cluster of its own, so that no other test's requests are counted with Argo CD's; NORDIC_ARGOCD=<state folder> uses a running one."""
    from lab.cluster import Cluster

    named = os.environ.get("NORDIC_ARGOCD")
    if named:
        with Cluster.join(Path(named)) as cluster:
            yield cluster
        return
    state = Path(tempfile.gettempdir()) / f"nordic-argocd-{os.getuid()}-{os.environ['NORDIC_TEST_SESSION']}"
    with build.locked(places.cache() / "clusters" / "argocd.lock", "the Argo CD of this test session", build.silent):
        try:
            cluster = Cluster.join(state)
        except LabError:
            program(build.print_line)
            cluster = Cluster.start(state, say=build.print_line, binaries=(*CLUSTER_BINARIES, "helm"), parts=["argocd"])
    with cluster:
        yield cluster


class Server:
    """argocd-server's API over HTTP, as its command line and its users reach it."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.port = int(cluster.argocd["port"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = self._first_password()
        self.token = str(self.do("POST", "/api/v1/session", {"username": "admin", "password": self.password})["token"])

    def _first_password(self) -> str:
        secret = self.cluster.api.do("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/argocd-initial-admin-secret")
        return base64.b64decode(secret["data"]["password"]).decode()

    def send(self, method: str, path: str, body: Any = None, token: str = "") -> Tuple[int, Any]:
        """(status, answer)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            bearer = token or getattr(self, "token", "")
            headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def do(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """The answer to a request that has to succeed."""
        status, answer = self.send(method, path, body, token)
        if status >= 300:
            raise LabError(f"{method} {path}: {status} {answer}")
        return answer


@contextlib.contextmanager
def stopped(cluster: Any, name: str) -> Any:
    """While this lasts the component does not run: as it is when its node is lost, or under a load that lets it do nothing."""
    process = int(cluster.argocd["processes"][name])
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def serves(api: Any) -> bool:
    """Whether the cluster serves Argo CD's kinds: argocd-server ends where it cannot make the project `default` as it starts."""
    return all(api.send("GET", f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/{plural}")[0] == 200
               for plural in ("appprojects", "applications", "applicationsets"))


def answers(port: int) -> bool:
    """Whether argocd-server serves its API."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz?full=true")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def is_ready(api: Any, ports: Ports) -> bool:
    """argocd-server answers, with the administrator's first password and the project that every Application has by default."""
    if not answers(ports.server):
        return False
    paths = (f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/appprojects/default",
             f"/api/v1/namespaces/{NAMESPACE}/secrets/argocd-initial-admin-secret")
    return all(api.send("GET", path)[0] == 200 for path in paths)


def until(condition: Any, what: str, within: float = READY_WITHIN) -> Any:
    """What the condition returns, once that is true."""
    end = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise LabError(f"waited {within:.0f} s for {what}")
        time.sleep(0.1)


def application(name: str, repository: str, namespace: str, **spec: Any) -> Mapping[str, Any]:
    """An Application as a person writes it: the folder `app` of a repository, into a namespace of this cluster."""
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"project": "default", "source": {"repoURL": repository, "targetRevision": "main", "path": "app"},
                     "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace}, **spec}}
