# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running embedded Kubernetes, as its user sees it.

    with Cluster.start() as cluster:
        cluster.kubectl("get", "nodes")

It ends with the `with` block, and also when this process ends in any other way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from lab import build, places
from lab.api import Api
from lab.certificates import Authority
from lab.components import CLUSTER_BINARIES
from lab.errors import LabError
from lab.supervisor import ADDED, REFUSED, WELCOME, write_kubeconfig

Rule = Mapping[str, Any]


class AlreadyRuns(LabError):
    """The folder has a running cluster; join() uses it."""


@dataclass(frozen=True)
class Moment:
    """A place in the audit log: everything answered before it is in the log before it."""

    offset: int


class Supervised:
    """What a supervisor process keeps running in a state folder. Attributes: state, seconds (how long the start took)."""

    def __init__(self, state: Path, info: Mapping[str, Any], hold: Any = None) -> None:
        self.state = state
        self.seconds = float(info["seconds"])
        self.supervisor = int(info["supervisor"])
        self._hold = hold

    @classmethod
    def launch(cls, supervisor: str, programs: Path, state: Optional[Path], detached: bool, say: build.Say, owner: int, prefix: str,
               parts: Sequence[str] = ()) -> Any:
        """Start one; ready to use when this returns. Detached it stays until stop_detached().

        supervisor: the module that is run, with the folder of its programs.
        owner: a process id; even a detached one ends with this process, however it ends. parts: what runs beside it.
        """
        if state is None:
            state = Path(tempfile.mkdtemp(prefix=prefix))
        else:
            state = state.absolute()
            _take(state)
        command = [sys.executable, "-m", supervisor, str(state), str(programs)]
        process = subprocess.Popen(
            command + (["--detached", str(owner)] if detached else []) + [word for part in parts for word in ("--with", part)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not detached else subprocess.DEVNULL, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(places.HERE.parent)})
        hold = _Hold(process)
        try:
            info = _report(process, say)
        except BaseException:
            hold.release()
            raise
        if detached:
            hold.leave()
            return cls(state, info)
        return cls(state, info, hold)

    @classmethod
    def join(cls, state: Path) -> Any:
        """Use one that another process started; while it is joined it stays."""
        state = state.absolute()
        connection = _connect(state)
        try:
            info = json.loads((state / "cluster.json").read_text())
            # A connection to one that is about to end is accepted by the kernel, but nobody says welcome.
            connection.settimeout(10)
            if connection.recv(1) != WELCOME:
                raise ConnectionError
        except (OSError, ValueError):
            connection.close()
            raise LabError(f"no cluster is ready in {state}") from None
        return cls(state, info, connection)

    def stop(self) -> None:
        """Let it go: an attached one ends with its last user."""
        hold, self._hold = self._hold, None
        if isinstance(hold, _Hold):
            hold.release()
        elif hold is not None:
            hold.close()

    def obituary(self) -> str:
        """What a component said that ended by itself; empty when all is well."""
        try:
            return (self.state / "obituary").read_text()
        except FileNotFoundError:
            return ""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.stop()


class Cluster(Supervised):
    """Attributes: kubeconfig, url, ca_file, admin_token, audit_log, bin, state, seconds (how long the start took)."""

    def __init__(self, state: Path, info: Mapping[str, Any], hold: Any = None) -> None:
        super().__init__(state, info, hold)
        self.kubeconfig = str(info["kubeconfig"])
        self.url = str(info["url"])
        self.ca_file = str(info["ca_file"])
        self.admin_token = str(info["admin_token"])
        self.audit_log = str(info["audit_log"])
        self.bin = str(info["bin"])
        self.parts = tuple(info["with"])
        self.argocd = dict(info.get("argocd", {}))  # of lab.argocd, where it runs beside
        self.api = Api(self.url, Path(self.ca_file), self.admin_token)

    @classmethod
    def start(cls, state: Optional[Path] = None, detached: bool = False, say: build.Say = build.silent,
              binaries: Iterable[str] = CLUSTER_BINARIES, owner: int = 0, parts: Sequence[str] = ()) -> "Cluster":
        """Start one; ready to use when this returns. Detached it stays until stop_detached(), or as long as the process `owner`."""
        started: Cluster = cls.launch("lab.supervisor", build.bin_folder(binaries, say), state, detached, say, owner, "nordic-cluster-", parts)
        return started

    def add(self, parts: Sequence[str], within: float = 180.0) -> None:
        """Start real controllers beside it, for what somebody has installed in it meanwhile."""
        state = self.state
        missing = [part for part in parts if part not in json.loads((state / "cluster.json").read_text())["with"]]
        if not missing:
            return
        (state / REFUSED).unlink(missing_ok=True)
        (state / "added.new").write_text(json.dumps(missing))
        (state / "added.new").replace(state / ADDED)
        end = time.monotonic() + within
        while (state / ADDED).exists():
            if time.monotonic() > end:
                raise LabError(f"{', '.join(missing)} did not start within {within:.0f} s")
            time.sleep(0.1)
        if (state / REFUSED).exists():
            raise LabError((state / REFUSED).read_text())

    # Using it

    def kubectl(self, *arguments: str, input: Optional[str] = None, kubeconfig: Optional[str] = None) -> str:
        """The output of kubectl; LabError with its own words when it fails."""
        command = [f"{self.bin}/kubectl", "--kubeconfig", kubeconfig or self.kubeconfig, *arguments]
        answer = subprocess.run(command, input=input, capture_output=True, text=True, env=self.env(), check=False)
        if answer.returncode:
            raise LabError(f"kubectl {' '.join(arguments)}: {answer.stderr.strip() or answer.stdout.strip()}\n{self.obituary()}".strip())
        return answer.stdout

    def env(self) -> Dict[str, str]:
        """An environment in which kubectl and helm are found and talk to this cluster."""
        return {**os.environ, "KUBECONFIG": self.kubeconfig, "PATH": f"{self.bin}{os.pathsep}{os.environ.get('PATH', '')}",
                # kubectl's discovery cache outside the user's home: it would outlive this cluster.
                "KUBECACHEDIR": str(self.state / "kubectl-cache")}

    def namespace(self, prefix: str = "test") -> str:
        """A new namespace, with its default service account in place."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.api.do("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def remove_namespace(self, name: str) -> None:
        """Begin its deletion; the controller manager does the rest in the background."""
        self.api.send("DELETE", f"/api/v1/namespaces/{name}")

    # Other people

    def user(self, name: str, rules: Sequence[Rule] = (), namespace: str = "default") -> str:
        """The kubeconfig of a user (client certificate) who may do what these RBAC rules say, in all namespaces."""
        self._grant(name, {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}, rules)
        certificate, key = self._people().client(name, file=f"user-{secrets.token_hex(8)}")
        return self._write(name, {"client-certificate": str(certificate), "client-key": str(key)}, namespace)

    def service_account(self, name: str, rules: Sequence[Rule] = (), namespace: str = "default") -> str:
        """The kubeconfig of a service account (bearer token, so it also works through the fault proxy)."""
        self.api.send("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts",
                      {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        self._grant(f"{namespace}-{name}", {"kind": "ServiceAccount", "name": name, "namespace": namespace}, rules)
        answer = self.api.do("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
                             {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        return self._write(name, {"token": answer["status"]["token"]}, namespace)

    def expired(self) -> str:
        """The kubeconfig of an administrator whose client certificate ended yesterday."""
        certificate, key = self._people().client("late", ["system:masters"], expired=True, file=f"late-{secrets.token_hex(8)}")
        return self._write("late", {"client-certificate": str(certificate), "client-key": str(key)}, "default")

    def kubeconfig_with(self, user: Mapping[str, str], url: Optional[str] = None, ca_file: Optional[str] = None) -> str:
        """A kubeconfig with this `user` entry, for another address (a proxy) if one is given."""
        return self._write("custom", dict(user), "default", url, ca_file)

    def _people(self) -> Authority:
        return Authority(self.state / "pki")

    def _grant(self, name: str, subject: Mapping[str, str], rules: Sequence[Rule]) -> None:
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": f"lab-{name}"},
                "rules": [dict(rule) for rule in rules]}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                   "metadata": {"name": f"lab-{name}"}, "subjects": [dict(subject)],
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"lab-{name}"}}
        for plural, body in (("clusterroles", role), ("clusterrolebindings", binding)):
            self.api.do("PATCH", f"/apis/rbac.authorization.k8s.io/v1/{plural}/lab-{name}?fieldManager=lab&force=true", body,
                        "application/apply-patch+yaml")

    def _write(self, name: str, user: Dict[str, str], namespace: str, url: Optional[str] = None,
               ca_file: Optional[str] = None) -> str:
        folder = self.state / "kubeconfigs"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}-{secrets.token_hex(4)}"
        write_kubeconfig(file, url or self.url, Path(ca_file or self.ca_file), user, namespace)
        return str(file)

    # What was asked of the API server

    def moment(self) -> Moment:
        """Now, for audit(): a request of our own is seen in the log, so all answered before it is there too."""
        marker = f"lab-moment-{secrets.token_hex(8)}"
        self.api.send("GET", "/version", headers={"User-Agent": marker})
        end = time.monotonic() + 10
        size = 0
        while time.monotonic() < end:
            size = os.stat(self.audit_log).st_size
            with open(self.audit_log, "rb") as log:
                log.seek(max(0, size - 200_000))
                if marker.encode() in log.read(size):
                    return Moment(size)
            time.sleep(0.01)
        raise LabError(f"a request did not come to the audit log {self.audit_log} within 10 s")

    def audit(self, since: Moment, until: Optional[Moment] = None) -> List[Dict[str, Any]]:
        """The requests between two moments, without those of the cluster's own components.

        Each has verb, group, resource, subresource, namespace, name, dryRun, user, userAgent, code and uri.
        """
        until = until or self.moment()
        with open(self.audit_log, "rb") as log:
            log.seek(since.offset)
            lines = log.read(until.offset - since.offset).splitlines()
        found: Dict[str, Dict[str, Any]] = {}
        for line in lines:
            event = json.loads(line)
            agent = event.get("userAgent", "")
            if agent.startswith("lab-moment-"):
                continue
            reference = event.get("objectRef", {})
            uri = event["requestURI"]
            dry_run = "dryRun=All" in uri or bool((event.get("requestObject") or {}).get("dryRun"))
            # A watch has two events, its start and its end; the later one replaces the earlier one.
            found[event["auditID"]] = {
                "verb": event["verb"], "group": reference.get("apiGroup", ""), "resource": reference.get("resource", ""),
                "subresource": reference.get("subresource", ""), "namespace": reference.get("namespace", ""),
                "name": reference.get("name", ""), "dryRun": dry_run, "user": event["user"].get("username", ""),
                "userAgent": agent, "code": event.get("responseStatus", {}).get("code", 0), "uri": uri,
            }
        return list(found.values())


class _Hold:
    """The starter's own hold on an attached cluster: the supervisor's standard input."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def leave(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        # The supervisor goes on without us; Popen shall not warn that it still runs.
        self.process.returncode = 0

    def release(self) -> None:
        """Let go, and wait for the end unless the supervisor says that others still use the cluster."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        stays = any("stays" in line for line in self.process.stdout)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        if stays:
            self.process.returncode = 0
        else:
            self.process.wait(30)


def _report(process: "subprocess.Popen[str]", say: build.Say) -> Dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        message = json.loads(line)
        if "progress" in message:
            say(f"  {message['progress']}")
        elif "ready" in message:
            ready: Dict[str, Any] = message["ready"]
            return ready
        else:
            raise LabError(f"the cluster did not start: {message['failed']}")
    words = process.stderr.read() if process.stderr else ""
    raise LabError(f"the cluster's supervisor ended before the cluster was ready\n{words.strip()}")


def _take(state: Path, within: float = 30.0) -> None:
    """Make the folder ours; what a killed supervisor left there is removed, anything else is refused."""
    with contextlib.suppress(FileNotFoundError):
        contents = {entry.name for entry in state.iterdir()}
        if contents and not contents & {"pki", "users", "cluster.json"}:
            raise LabError(f"{state} holds other things; give a new or an empty folder as the cluster's state")
        _wait_for_the_last_owner(state, within)
        shutil.rmtree(state)
    state.mkdir(parents=True, mode=0o700)


def _wait_for_the_last_owner(state: Path, within: float) -> None:
    """A supervisor that ends removes this folder; the next one must not begin in it before that."""
    def runs() -> None:
        if (state / "cluster.json").exists() and is_running(state):
            raise AlreadyRuns(f"a cluster runs in {state} already; `cluster stop` ends it")

    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _wait_for_lock(folder, within, f"another cluster starts or ends in {state}", runs)
    finally:
        os.close(folder)


def _wait_for_lock(folder: int, within: float, problem: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + within
    while not _try_lock(folder):
        meanwhile()
        if time.monotonic() > end:
            raise LabError(f"{problem}; waited {within:.0f} s")
        time.sleep(0.05)


def _try_lock(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connect(state: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    folder = None
    try:
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        # By way of the open folder, as a socket's path has to be shorter than 108 bytes.
        connection.connect(f"/proc/self/fd/{folder}/users")
    except OSError as error:
        connection.close()
        raise LabError(f"no cluster runs in {state} ({error.strerror})") from None
    finally:
        if folder is not None:
            os.close(folder)
    return connection


def is_running(state: Path) -> bool:
    """A supervisor answers there."""
    try:
        _connect(state).close()
    except LabError:
        return False
    return True


def stop_detached(state: Path, within: float = 20.0) -> bool:
    """End a detached cluster; False when there is none. What a killed one left is removed too."""
    state = state.absolute()
    try:
        info = json.loads((state / "cluster.json").read_text())
    except (OSError, ValueError):
        return False
    running = is_running(state)
    if running:
        # Its lock on the folder is seen to go when the process does; the folder itself goes a little before that.
        folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.kill(int(info["supervisor"]), signal.SIGTERM)
            _wait_for_lock(folder, within, f"the cluster in {state} did not end (process {info['supervisor']})")
        finally:
            os.close(folder)
    shutil.rmtree(state, ignore_errors=True)
    return running
