# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Sealed Secrets controller beside the embedded cluster, in the place of the Pods of its Deployment.

kwok's nodes run nothing. This runs the real controller for each of its Pods: with the Pod's arguments and service account, until
the Pod is deleted. So what changes the Deployment, or restarts it, has the effect that it has on a real cluster.

    with Controllers(cluster) as controllers:      Pods of the controller run as processes
        controllers.install("kube-system")         the chart of the release, as `helm template` renders it
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from lab import build, golang, places, processes
from lab.api import Api
from lab.components import BINARIES
from lab.errors import LabError

CONTROLLER, KUBESEAL = "sealed-secrets-controller", "kubeseal"
KEYS = "sealedsecrets.bitnami.com/sealed-secrets-key"
IMAGE = "sealed-secrets-controller"  # the last part of the image's name, without its tag
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# A mount namespace of its own: the controller reads its service account where a Pod has it, and the machine keeps its own /run.
ENTER = f'mount -t tmpfs none /run && mkdir -p /run/{ACCOUNT.split("/", 3)[3]} && cp "$1"/* {ACCOUNT}/ && shift && exec "$@"'
TOKEN = "LAB_TOKEN"  # the variable by which the process gets it: an argument would be in every list of processes
POLL = 0.2


def tree() -> Path:
    """The files of the release: the chart is in helm/sealed-secrets."""
    module = BINARIES[CONTROLLER]
    go = golang.toolchain(module.go, build.silent)
    answer = subprocess.run([str(go.path), "mod", "download", "-json", module.path], cwd=module.folder, env=go.env(), capture_output=True,
                            text=True, check=False)
    if answer.returncode:
        raise LabError(f"go mod download {module.path}: {answer.stderr.strip() or answer.stdout.strip()}")
    return Path(json.loads(answer.stdout)["Dir"])


def chart() -> Path:
    """The chart that the release ships."""
    return tree() / "helm" / "sealed-secrets"


def address() -> str:
    """One of the machine's own that is not the loopback: the API server proxies to no loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses a route
            found = str(probe.getsockname()[0])
        except OSError as error:
            raise LabError("the machine has no address beside the loopback; the API server reaches the controller of Sealed Secrets by one") from error
    return found


class Controllers:
    """Runs the controller's Pods of a cluster as processes, from a thread of a process of its own."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.kubeseal = build.build([KUBESEAL], build.silent)[KUBESEAL]
        self.logs = Path(tempfile.mkdtemp(prefix="nordic-sealed-secrets-"))
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> "Controllers":
        build.build([CONTROLLER], build.silent)
        self._process = processes.spawn(command(self.cluster.url, self.cluster.ca_file, self.logs), self.logs / "runner.log",
                                        {**os.environ, "PYTHONPATH": str(places.HERE.parent), TOKEN: self.cluster.admin_token})
        return self

    def __exit__(self, *_exception: Any) -> None:
        if self._process:
            processes.end(self._process, 10)
        shutil.rmtree(self.logs, ignore_errors=True)

    def install(self, namespace: str, **more: Any) -> str:
        """Install the chart; the certificate that the controller then serves."""
        install(self.cluster, namespace, values(**more))
        return self.ready(namespace)

    def uninstall(self, namespace: str) -> None:
        """Remove the chart, its definition and the keys."""
        self.cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "--filename", "-", input=rendered(self.cluster, namespace, values()))
        self.cluster.kubectl("delete", "secrets", "--namespace", namespace, "--selector", KEYS)

    def ready(self, namespace: str, name: str = CONTROLLER) -> str:
        """The certificate that the controller serves through the API server, once it does."""
        try:
            return ready(self.cluster, namespace, name)
        except LabError as error:
            said = "\n".join(f"--- {log.name}\n{processes.last_lines(log)}" for log in self.logs.glob("*.log"))
            raise LabError(f"{error}\n{said}") from None

    def seal(self, certificate: Path, *arguments: str, input: str = "") -> str:
        """What kubeseal prints."""
        done = subprocess.run([str(self.kubeseal), "--cert", str(certificate), *arguments], input=input, capture_output=True, text=True,
                              env=self.cluster.env(), check=False)
        if done.returncode:
            raise LabError(f"kubeseal {shlex.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def command(url: str, ca_file: str, logs: Path) -> List[str]:
    """The process that runs the Pods; the token comes by its environment."""
    return [sys.executable, "-m", "lab.sealed_secrets", url, str(ca_file), str(logs)]


def values(**more: Any) -> Dict[str, Any]:
    """Values of the chart, with ports that are free on this machine."""
    return {"fullnameOverride": CONTROLLER, "containerPorts": {"http": places.free_port(), "metrics": places.free_port()}, **more}


def ready(cluster: Any, namespace: str, name: str = CONTROLLER, within: float = 60.0) -> str:
    """The certificate that a controller serves through the API server, once it does."""
    end = time.monotonic() + within
    while True:
        status, answer = cluster.api.send("GET", f"/api/v1/namespaces/{namespace}/services/http:{name}:http/proxy/v1/cert.pem")
        if status == 200:
            return str(answer)
        if time.monotonic() > end:
            raise LabError(f"the controller in {namespace} did not answer within {within:.0f} s: {status} {answer}")
        time.sleep(POLL)


def rendered(cluster: Any, namespace: str, given: Mapping[str, Any]) -> str:
    """The chart of the release, as helm renders it."""
    helm = build.build(["helm"], build.silent)["helm"]
    done = subprocess.run([str(helm), "template", "sealed-secrets", str(chart()), "--include-crds", "--namespace", namespace, "--values", "-"],
                          input=json.dumps(dict(given)), capture_output=True, text=True, env=cluster.env(), check=False)
    if done.returncode:
        raise LabError(f"helm template sealed-secrets: {done.stderr.strip()}")
    return done.stdout


def install(cluster: Any, namespace: str, given: Mapping[str, Any]) -> None:
    """Apply the chart of the release by kubectl."""
    with contextlib.suppress(LabError):
        cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", input=rendered(cluster, namespace, given))


class Runner:
    """The loop: Pods of the controller that kwok runs become processes, and their address is this machine's."""

    def __init__(self, url: str, ca_file: Path, token: str, logs: Path) -> None:
        self.api, self.ca_file, self.logs = Api(url, ca_file, token), ca_file, logs
        self.host, self.port = self.api.host, self.api.port
        self.binary = build.build([CONTROLLER], build.silent)[CONTROLLER]
        self.address = address()
        self.running: Dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_signal: self.stopping.set())
        try:
            while not self.stopping.wait(POLL):
                with contextlib.suppress(OSError, LabError):  # the API server ends first: the next look finds it gone or back
                    self.look()
        finally:
            for process in self.running.values():
                processes.end(process)

    def look(self) -> None:
        pods: Dict[Any, Dict[str, Any]] = {}
        for pod in self.api.do("GET", "/api/v1/pods?fieldSelector=status.phase=Running")["items"]:
            if _is_ours(pod) and "deletionTimestamp" not in pod["metadata"]:
                # All have this machine's address: of two Pods with one port, which a rolling update has for a moment, the newer one runs.
                place = tuple(_arguments(pod))
                pods[place] = max(pods.get(place, pod), pod, key=lambda each: (each["metadata"]["creationTimestamp"],
                                                                               each["metadata"]["uid"] not in self.running))
        chosen = {pod["metadata"]["uid"]: pod for pod in pods.values()}
        for uid in set(self.running) - set(chosen):
            processes.end(self.running.pop(uid), 5)
        for uid, pod in chosen.items():
            if uid not in self.running or self.running[uid].poll() is not None:
                self.running[uid] = self.start(pod)
            if pod["status"].get("podIP") != self.address:
                self.api.do("PATCH", f"{_path(pod)}/status", {"status": {"podIP": self.address, "podIPs": [{"ip": self.address}]}},
                            "application/merge-patch+json")

    def start(self, pod: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        answer = self.api.do("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{pod['spec']['serviceAccountName']}/token",
                             {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        account = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.logs))
        (account / "token").write_text(answer["status"]["token"])
        (account / "namespace").write_text(namespace)
        (account / "ca.crt").write_text(self.ca_file.read_text())
        environment = {"PATH": os.environ["PATH"], "KUBERNETES_SERVICE_HOST": self.host, "KUBERNETES_SERVICE_PORT": str(self.port)}
        mount = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-euc", ENTER, "sh", str(account)]
        return processes.spawn([*mount, str(self.binary), *_arguments(pod)], self.logs / f"{name}.log", environment)


def _is_ours(pod: Mapping[str, Any]) -> bool:
    image = pod["spec"]["containers"][0]["image"]
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0] == IMAGE


def _arguments(pod: Mapping[str, Any]) -> List[str]:
    return list(pod["spec"]["containers"][0].get("args", []))


def _path(pod: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


if __name__ == "__main__":
    Runner(sys.argv[1], Path(sys.argv[2]), os.environ[TOKEN], Path(sys.argv[3])).run()
