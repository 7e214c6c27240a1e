# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that owns a cluster's components, and leaves nothing behind when its users are gone.

Users of an attached cluster hold a connection to its socket. The kernel closes it however a user ends, SIGKILL
included; with the last one the components are ended and the state folder is removed. A detached cluster stays
until `cluster stop`, or as long as the process that it is started for. If the supervisor itself is killed, the
kernel kills the components (PR_SET_PDEATHSIG).

Started by lab.cluster as `python -m lab.supervisor STATE BIN [--detached OWNER] [--with PART]…`; it reports on its standard output,
one JSON object a line: {"progress": …}, then {"ready": …} or {"failed": …}.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

from lab import places, processes
from lab.api import Api
from lab.certificates import Authority, write_key, write_public_key
from lab.errors import LabError

NODES = ("node-1", "node-2", "node-3")
READY_WITHIN = 120.0
ADDRESS_TAKEN = "address already in use"
WELCOME = b"1"
SEALED_SECRETS, ARGOCD = "sealed-secrets", "argocd"
PARTS = (SEALED_SECRETS, ARGOCD)  # what may run beside the cluster
# In the state folder, the names of parts that are to be started beside it later, and why they were not.
ADDED, REFUSED = "added", "refused"

# Requests of tests are what is counted, so what the cluster does by itself is left out of the log.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "kwok", "lab"]
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*"]
# A deletion says in its body whether it is a dry run.
- level: Request
  verbs: [delete, deletecollection]
- level: Metadata
"""


class Taken(LabError):
    """A port was taken between the look and the bind."""


class Supervisor:
    """Starts the components, waits for the users, ends the components."""

    ready_within = READY_WITHIN

    def __init__(self, state: Path, bin_folder: Path, detached: bool, owner: int = 0, parts: Sequence[str] = ()) -> None:
        self.parts = parts
        self.state = state
        self.bin = bin_folder
        self.detached = detached
        self.owner = owner
        self.logs = state / "logs"
        self.running: Dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = False
        self.started = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            self._own()
            # Readable as soon as that process has ended.
            owner = [open(os.pidfd_open(self.owner), "rb", buffering=0)] if self.owner else []
            listener = self._listen()
            info = self._start()
            (self.state / "cluster.new").write_text(json.dumps(info))
            (self.state / "cluster.new").replace(self.state / "cluster.json")
            self._tell(ready=info)
            self.started = True
            self._serve(listener, owner if self.detached else [sys.stdin.buffer])
            return 0
        except LabError as error:
            self._tell(failed=str(error))
            return 1
        except Exception as error:  # the starter shows it; a traceback on a closed pipe would show nothing
            self._tell(failed=f"{type(error).__name__}: {error}")
            return 1
        finally:
            self._end()

    # Users

    def _own(self) -> None:
        """Lock the state folder as long as this process is there: whoever wants it next waits until it is removed."""
        fcntl.flock(os.open(self.state, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_EX)

    def _listen(self) -> socket.socket:
        # A relative name: the path of a Unix socket may not be longer than 107 bytes, that of a folder may.
        os.chdir(self.state)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("users")
        listener.listen(64)
        return listener

    def _serve(self, listener: socket.socket, users: List[Any]) -> None:
        """Until the last user is gone. The first is the starter's pipe (standard input), or the owner of a detached one, if it has one."""
        for_ever = not users
        while not self.stopping and (for_ever or users):
            ready, _ignored, _ignored = select.select([listener, *users], [], [], 1.0)
            for one in ready:
                if one is listener:
                    users.append(_welcome(listener))
                elif _has_left(one):
                    users.remove(one)
                    if one is sys.stdin.buffer and users:
                        self._tell(stays=True)
                    one.close()
            self._note_the_dead()
            if (self.state / ADDED).exists():
                self._add()
        # From here on nobody is welcomed: who tries to join sees the end, and starts another cluster.
        (self.state / "users").unlink()
        listener.close()

    def _add(self) -> None:
        """Start what Cluster.add asks for, beside a cluster that runs; what is in the cluster of it somebody else has installed."""
        asked, info = self.state / ADDED, json.loads((self.state / "cluster.json").read_text())
        parts = json.loads(asked.read_text())
        try:
            if SEALED_SECRETS in parts:
                self._sealed_secrets(self.pki)
            if ARGOCD in parts:
                info["argocd"] = self._argocd(self.pki, self.api)
        except LabError as error:
            (self.state / REFUSED).write_text(str(error))
        else:
            (self.state / "cluster.new").write_text(json.dumps({**info, "with": [*info["with"], *parts]}))
            (self.state / "cluster.new").replace(self.state / "cluster.json")
        asked.unlink()

    def _note_the_dead(self) -> None:
        """A component that ends by itself makes every request fail; the note says why (Cluster.obituary)."""
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[name]
                words = processes.last_lines(self.logs / f"{name}.log")
                with (self.state / "obituary").open("a") as note:
                    note.write(f"{name} ended by itself with {process.returncode}; its last lines:\n{words}\n")

    def _starter_is_gone(self) -> bool:
        ready, _ignored, _ignored = select.select([sys.stdin.buffer], [], [], 0)
        return bool(ready) and not os.read(sys.stdin.fileno(), 4096)

    def _stop(self, *_signal: Any) -> None:
        self.stopping = True

    def _tell(self, **message: Any) -> None:
        try:
            print(json.dumps(message), flush=True)
        except (BrokenPipeError, ValueError):
            pass

    # Components

    def _start(self) -> Dict[str, Any]:
        for attempt in range(1, 6):
            try:
                return self._start_once()
            except Taken as taken:
                self._end_components()
                self._tell(progress=f"{taken}; trying other ports ({attempt})")
        raise LabError("five times in a row a port was taken by somebody else while the cluster started")

    def _start_once(self) -> Dict[str, Any]:
        begin = time.monotonic()
        state = self.state
        shutil.rmtree(state / "etcd", ignore_errors=True)
        for folder in (self.logs, state / "pki"):
            folder.mkdir(exist_ok=True)

        etcd_url = self._etcd()
        pki = Authority(state / "pki")
        api = self._apiserver(etcd_url, pki)
        self._tell(progress=f"kube-apiserver answers after {time.monotonic() - begin:.1f} s")
        self._nodes(api)
        self._helpers(pki)
        self._wait_for("three nodes and the default service account", lambda: self._is_settled(api))
        self._tell(progress=f"nodes {', '.join(NODES)} are ready after {time.monotonic() - begin:.1f} s")
        if SEALED_SECRETS in self.parts:
            self._sealed_secrets(pki)
        self.pki, self.api = pki, api
        more: Dict[str, Any] = {}
        if ARGOCD in self.parts:
            from lab import argocd

            argocd.install(self.bin / "kubectl", state / "kubeconfig")
            more["argocd"] = self._argocd(pki, api)
        return {
            **more,
            "kubeconfig": str(state / "kubeconfig"), "url": self.url, "ca_file": str(pki.certificate),
            "admin_token": self.token, "audit_log": str(state / "audit.log"), "bin": str(self.bin),
            "supervisor": os.getpid(), "with": list(self.parts), "seconds": round(time.monotonic() - begin, 2),
        }

    def _etcd(self) -> str:
        client, peer = places.free_port(), places.free_port()
        url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self._spawn("etcd", [
            "--name=lab", f"--data-dir={self.state / 'etcd'}", "--log-level=warn",
            f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}", f"--initial-cluster=lab={peer_url}",
            # The data is thrown away at the end, so it need not survive a power cut; with fsync the figures of
            # tests and benchmarks would be those of the machine's disk. Every peer of a benchmark talks to this
            # same etcd, so no ratio gains by it.
            "--unsafe-no-fsync",
            "--snapshot-count=100000", "--auto-compaction-retention=0", "--quota-backend-bytes=4294967296",
        ])
        return url

    def _apiserver(self, etcd_url: str, pki: Authority) -> Api:
        state = self.state
        certificate, key = pki.server("kube-apiserver", ("localhost", "127.0.0.1", "::1", "10.96.0.1", "kubernetes",
                                                         "kubernetes.default", "kubernetes.default.svc"))
        write_public_key(write_key(state / "pki" / "service-account.key"), state / "pki" / "service-account.pub")
        self.token, own_token = secrets.token_hex(24), secrets.token_hex(24)
        tokens = state / "pki" / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{self.token},admin,admin,"system:masters"\n{own_token},lab,lab,"system:masters"\n')
        (state / "audit-policy.yaml").write_text(AUDIT_POLICY)
        port = places.free_port()
        self.url = f"https://127.0.0.1:{port}"
        self._spawn("kube-apiserver", [
            f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={port}",
            # Its endpoints would be this loopback address, which the API refuses for an Endpoints object.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--client-ca-file={pki.certificate}",
            f"--token-auth-file={tokens}", "--authorization-mode=RBAC", "--anonymous-auth=false", "--allow-privileged",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={state / 'pki' / 'service-account.pub'}",
            f"--service-account-signing-key-file={state / 'pki' / 'service-account.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--audit-policy-file={state / 'audit-policy.yaml'}", f"--audit-log-path={state / 'audit.log'}",
            # One file: a rotation would lose requests from a count.
            "--audit-log-maxsize=100000", "--audit-log-mode=blocking", "--profiling=false",
        ])
        write_kubeconfig(state / "kubeconfig", self.url, pki.certificate, {"token": self.token})
        api = Api(self.url, pki.certificate, own_token)
        self._wait_for("kube-apiserver to be ready", lambda: api.send("GET", "/readyz", timeout=5)[0] == 200)
        return api

    def _nodes(self, api: Api) -> None:
        for name in NODES:
            api.do("POST", "/api/v1/nodes", {
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {
                    "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                    "type": "kwok", "topology.kubernetes.io/zone": name.replace("node", "zone")}},
            })

    def _helpers(self, pki: Authority) -> None:
        controller = self._client(pki, "system:kube-controller-manager", ["system:masters"])
        manager_port, scheduler_port = places.free_port(), places.free_port()
        self._spawn("kube-controller-manager", [
            f"--kubeconfig={controller}", "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={manager_port}",
            f"--cert-dir={self.state / 'pki' / 'controller-manager'}",
            f"--service-account-private-key-file={self.state / 'pki' / 'service-account.key'}",
            f"--root-ca-file={pki.certificate}",
            # The default of 20 requests a second would be the bottleneck of a roll-out of 50 Deployments.
            "--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false",
            # A fake node has no machine that could die. Its heartbeat is late on a busy machine, or while the
            # benchmark pauses kwok, and the Pods of a node that was given up never become ready again.
            "--node-monitor-grace-period=24h",
        ])
        scheduler = self._client(pki, "system:kube-scheduler", ["system:masters"])
        self._spawn("kube-scheduler", [
            f"--kubeconfig={scheduler}", "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={scheduler_port}",
            f"--cert-dir={self.state / 'pki' / 'scheduler'}", "--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false",
        ])
        kwok = self._client(pki, "kwok", ["system:masters"])
        self._spawn("kwok", [
            f"--kubeconfig={kwok}", *(f"--config={stage}" for stage in sorted((places.HERE / "stages").glob("*.yaml"))),
            "--manage-all-nodes", "--node-lease-duration-seconds=40", "--node-ip=127.0.0.1",
        ])

    def _sealed_secrets(self, pki: Authority) -> None:
        from lab import sealed_secrets

        self.running["sealed-secrets"] = processes.spawn(sealed_secrets.command(self.url, str(pki.certificate), self.logs), self.logs / "sealed-secrets.log",
                                                         {**os.environ, sealed_secrets.TOKEN: self.token})

    def _argocd(self, pki: Authority, api: Api) -> Dict[str, Any]:
        from lab import argocd

        self._wait_for("the cluster to serve Argo CD's kinds", lambda: argocd.serves(api))
        ports = argocd.Ports.free()
        user = self._client(pki, "argocd", ["system:masters"])
        for name, (command, environment) in argocd.components(argocd.program(), user, self.bin, self.state, ports).items():
            (self.logs / f"{name}.log").unlink(missing_ok=True)
            self.running[name] = processes.spawn(command, self.logs / f"{name}.log", {**environment, **self._garbage()})
        self._wait_for("Argo CD to be ready", lambda: argocd.is_ready(api, ports))
        self._tell(progress="Argo CD answers")
        return {"port": ports.server, "processes": {name: process.pid for name, process in self.running.items() if name.startswith("argocd-")}}

    def _client(self, pki: Authority, name: str, groups: Sequence[str]) -> Path:
        certificate, key = pki.client(name, groups)
        file = self.state / "pki" / f"{name.replace(':', '_')}.kubeconfig"
        write_kubeconfig(file, self.url, pki.certificate, {"client-certificate": str(certificate), "client-key": str(key)})
        return file

    def _is_settled(self, api: Api) -> bool:
        for node in api.do("GET", "/api/v1/nodes")["items"]:
            conditions = node.get("status", {}).get("conditions", [])
            if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                return False
            if node["spec"].get("taints"):
                return False
        return api.send("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        log = self.logs / f"{name}.log"
        log.unlink(missing_ok=True)
        # HOME inside the state: no component shall read, or leave, anything in the user's own.
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.state)}
        env.update(self._garbage())
        self.running[name] = processes.spawn([str(self.bin / name), *arguments], log, env)

    def _garbage(self) -> Dict[str, str]:
        return {name: os.environ[name] for name in ("GOMAXPROCS", "GOGC") if os.environ.get(name)}

    def _wait_for(self, what: str, condition: Any) -> None:
        end = time.monotonic() + self.ready_within
        problem = ""
        while True:
            if self.stopping or not self.started and self._starter_is_gone():
                raise LabError("stopped while starting")
            for name, process in self.running.items():
                if process.poll() is not None:
                    words = processes.last_lines(self.logs / f"{name}.log")
                    kind = Taken if ADDRESS_TAKEN in words.lower() else LabError
                    raise kind(f"{name} ended with {process.returncode}; its last lines:\n{words}")
            try:
                if condition():
                    return
            except (OSError, LabError) as error:
                problem = f" ({error})"
            if time.monotonic() > end:
                ends = "\n".join(f"--- {name}\n{processes.last_lines(self.logs / f'{name}.log', 6)}" for name in self.running)
                raise LabError(f"waited {self.ready_within:.0f} s for {what}{problem}; the last lines of the logs:\n{ends}")
            time.sleep(0.05)

    def _end_components(self) -> None:
        # Killed, not asked: their data is thrown away, and kube-apiserver would wait for its watches to end.
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            processes.end(process)
        self.running.clear()

    def _end(self) -> None:
        self._end_components()
        os.chdir("/")
        shutil.rmtree(self.state, ignore_errors=True)


def _welcome(listener: socket.socket) -> socket.socket:
    connection, _ignored = listener.accept()
    with contextlib.suppress(OSError):
        connection.sendall(WELCOME)
    return connection


def _has_left(user: Any) -> bool:
    try:
        return not os.read(user.fileno(), 4096)
    except OSError:
        return True


def write_kubeconfig(file: Path, url: str, ca_file: Path, user: Dict[str, str], namespace: str = "default") -> None:
    """JSON is YAML, so no YAML library is needed."""
    file.touch(mode=0o600)
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": namespace}}],
    }, indent=1))


def main(arguments: Sequence[str]) -> int:
    state, bin_folder, *options = arguments
    owner = int(options[options.index("--detached") + 1]) if "--detached" in options else 0
    parts = [options[number + 1] for number, option in enumerate(options) if option == "--with"]
    return Supervisor(Path(state), Path(bin_folder), "--detached" in options, owner, parts).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
