# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s on hosts with a real systemd: how long a cluster takes to bootstrap, to be left alone, to be upgraded and to be restored.

The peer of the bootstrap is k3s' own install script, out of the module that the lab's k3s is built from, used as its documentation says:
the first server, then each further node when the one before it is Ready.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from lab import golang, images, k3s
from lab.components import K3S_NEW
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG
from lab.k3s import RELEASES
from lab.traffic import Traffic, Writer
from workspace import collection

from .measure import Broken
from .stats import Spread

NAMES = ("server1", "server2", "server3", "agent1")
SERVERS = NAMES[:3]
OURS = "nordic.gitops, playbook bootstrap"
SCRIPT = "k3s' own install script, node after node"
OPERATION = "3 servers and 1 agent, from hosts to all Ready"
UNCHANGED_ROUNDS = 3
NODE_PORT = 30080
SERVICE = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints:
      - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {{matchLabels: {{app: web}}}}}}
      containers:
      - name: web
        image: {images.WEB}:1
        imagePullPolicy: Never
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 1}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web}}
spec: {{minAvailable: 3, selector: {{matchLabels: {{app: web}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
"""

HOW = {
    "bootstrap": "each turn begins with new hosts that answer ssh and have nothing of k3s; both sides copy the program and the images to them by ssh "
                 "within the measured time, and end when the fourth node is Ready; turns alternate",
    "unchanged": "the same playbook again on the cluster it made, %d times; each call of ssh is counted" % UNCHANGED_ROUNDS,
    "upgrade": "the playbook upgrade while 100 requests a second go to the node ports of all four nodes in turn, each on a connection of its own and none "
               "tried again, and a client writes to the API every 50 ms and turns to the next server when one does not take it",
    "restore": "the playbook restore on the three servers; the snapshot lies on the first",
}
Say = Callable[[str], None]


def measure(rounds: int, folder: Path, say: Say) -> Dict[str, Any]:
    """The part `k3s` of the results."""
    folder.mkdir(parents=True)
    found = k3s.binaries(say)
    turns: List[Tuple[str, float]] = []
    part: Dict[str, Any] = {}
    for number in range(rounds):
        last = number == rounds - 1
        # Turns alternate; what follows the last round needs the cluster that ours made.
        for peer in (OURS, SCRIPT) if number % 2 == (rounds % 2) else (SCRIPT, OURS):
            say("k3s, round %d of %d: %s" % (number + 1, rounds, peer))
            with Hosts.start(NAMES, say=say) as hosts:
                site = Site(hosts, found, Path(tempfile.mkdtemp(dir=folder)))
                turns.append((peer, site.bootstrap() if peer == OURS else site.install()))
                say("  %.1f s" % turns[-1][1])
                if last and peer == OURS:
                    part = {"unchanged": site.unchanged(), "upgrade": site.upgrade(say), "restore": site.restore(say)}
    origin = {name: "named by %s" % variable if os.environ.get(variable) else "built from Go modules" for name, (_module, variable) in RELEASES.items()}
    part = {
        "binaries": {name: {"version": one.version, "sha256": one.sha256, "origin": origin[name]} for name, one in found.items()},
        "how": HOW, "summary": _summary(turns), "figures": _figures(turns), **part,
    }
    return {"checks": checks(part), **part}


def _figures(turns: Sequence[Tuple[str, float]]) -> List[Dict[str, Any]]:
    return [{"case": "k3s", "operation": OPERATION, "peer": peer, "seconds": round(seconds, 2)} for peer, seconds in turns]


def _summary(turns: Sequence[Tuple[str, float]]) -> List[Dict[str, Any]]:
    entries = []
    for peer in (OURS, SCRIPT):
        spread = Spread.of([seconds for name, seconds in turns if name == peer])
        entries.append({"case": "k3s", "operation": OPERATION, "peer": peer, "rounds": spread.count, "median": round(spread.median, 2),
                        "low": round(spread.low, 2), "high": round(spread.high, 2)})
    return entries


def checks(part: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The figures to reach."""
    median = {entry["peer"]: entry["median"] for entry in part["summary"]}
    rows: Tuple[Tuple[str, float, float, str], ...] = (
        ("k3s, bootstrap of 3 servers and 1 agent: whole call / install script, node after node", median[OURS] / median[SCRIPT], 0.6, ""),
        ("k3s, unchanged cluster of 4: whole call", Spread.of(part["unchanged"]["seconds"]).median, 12, "s"),
        ("k3s, upgrade of 4 nodes under 100 requests a second: requests that failed", part["upgrade"]["requests"]["failed"], 0, "requests"),
        ("k3s, upgrade of 4 nodes: API writes unavailable in total", part["upgrade"]["writes"]["unavailable"], 2, "s"),
        ("k3s, restore of 3 servers from a snapshot: whole call", part["restore"]["seconds"], 60, "s"),
    )
    return [{"name": name, "ratio": round(value, 4), "limit": limit, "holds": value <= limit, **({"unit": unit} if unit else {})}
            for name, value, limit, unit in rows]


class Site:
    """One set of hosts, and what is run on them."""

    def __init__(self, hosts: Hosts, binaries: Dict[str, k3s.Binary], folder: Path) -> None:
        self.hosts = hosts
        self.binaries = binaries
        self.folder = folder
        self.images = images.tars()
        self.calls = folder / "ssh-calls"
        ssh = folder / "ssh"
        ssh.write_text('#!/bin/sh\nprintf . >>%s\nexec ssh "$@"\n' % shlex.quote(str(self.calls)), encoding="utf-8")
        ssh.chmod(0o755)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(collection.linked()), "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_EXECUTABLE": str(ssh), "ANSIBLE_FORKS": "10", "ANSIBLE_LOCALHOST_WARNING": "False",
        }
        self.variables = folder / "variables.json"
        self._say_what_to_run("old")

    def _say_what_to_run(self, which: str) -> None:
        config = {"k3s_binary": str(self.binaries[which].path), "k3s_images": [{"path": str(path)} for path in self.images],
                  "k3s_config": "{{ %s if inventory_hostname in groups.k3s_servers else {} }}" % json.dumps(SERVER_CONFIG)}
        self.variables.write_text(json.dumps(config), encoding="utf-8")

    def playbook(self, name: str, *more: str, callback: str = "ansible.builtin.default") -> Tuple[float, str]:
        """Seconds and output of a whole ansible-playbook call."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.hosts.inventory), "-e", "@%s" % self.variables, *more,
                   "nordic.gitops.%s" % name]
        began = time.monotonic()
        done = subprocess.run(command, cwd=self.folder, env={**self.env, "ANSIBLE_STDOUT_CALLBACK": callback}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace", timeout=1500, check=False)
        if done.returncode:
            raise Broken("the playbook %s ended with %d:\n%s" % (name, done.returncode, (done.stdout + done.stderr)[-5000:]))
        return time.monotonic() - began, done.stdout

    # What is measured

    def bootstrap(self) -> float:
        seconds, _output = self.playbook("bootstrap")
        self._all_ready(1)
        return seconds

    def install(self) -> float:
        """As a person would with the install script: copy, run, wait, next node."""
        script, token = _install_script(), secrets.token_hex(24)
        server = "https://%s:6443" % self.hosts.addresses[NAMES[0]]
        began = time.monotonic()
        for number, name in enumerate(NAMES, 1):
            agent = name not in SERVERS
            self.hosts.run(name, "mkdir -p /etc/rancher/k3s /var/lib/rancher/k3s/agent/images")
            self._copy([self.binaries["old"].path], name, "/usr/local/bin/k3s")
            self._copy([script], name, "/root/install.sh")
            self._copy(self.images, name, "/var/lib/rancher/k3s/agent/images/")
            config = {} if agent else dict(SERVER_CONFIG, **({"cluster-init": True} if number == 1 else {}))
            self.hosts.run(name, "cat > /etc/rancher/k3s/config.yaml && chmod 600 /etc/rancher/k3s/config.yaml", input=json.dumps(
                dict(config, token=token, **({"server": server} if number > 1 else {}))))
            self.hosts.run(name, "chmod 755 /usr/local/bin/k3s /root/install.sh && INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_SELINUX_RPM=true "
                                 "INSTALL_K3S_EXEC=%s /root/install.sh" % ("agent" if agent else "server"), timeout=600)
            self._all_ready(number)
        return time.monotonic() - began

    def _copy(self, sources: Sequence[Path], name: str, target: str) -> None:
        *options, login = self.hosts.ssh(name)[1:]
        done = subprocess.run(["scp", "-q", *options, *map(str, sources), "%s:%s" % (login, target)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Broken("scp to %s: %s" % (name, done.stderr.strip()))

    def _all_ready(self, count: int, within: float = 300.0) -> None:
        """At least so many nodes are there, and all of them are Ready."""
        end = time.monotonic() + within
        while True:
            told = self.hosts.run(NAMES[0], "k3s kubectl get nodes --no-headers", check=False)
            states = [line.split()[1] for line in told.splitlines() if len(line.split()) > 2]
            if len(states) >= count and set(states) == {"Ready"}:
                return
            if time.monotonic() > end:
                raise Broken("%d nodes were not Ready after %.0f s:\n%s" % (count, within, told))
            time.sleep(0.3)

    def unchanged(self) -> Dict[str, Any]:
        seconds, calls = [], 0
        for _number in range(UNCHANGED_ROUNDS):
            self.calls.write_text("", encoding="ascii")
            took, output = self.playbook("bootstrap")
            changed = [line for line in output.splitlines() if " changed=" in line and " changed=0 " not in line]
            if changed:
                raise Broken("the cluster was not left alone:\n%s" % "\n".join(changed))
            seconds.append(round(took, 2))
            calls = len(self.calls.read_text(encoding="ascii"))
        return {"seconds": seconds, "round_trips": calls}

    def upgrade(self, say: Say) -> Dict[str, Any]:
        self.hosts.run(NAMES[0], "k3s kubectl apply -f -", input=SERVICE)
        self.hosts.run(NAMES[0], "k3s kubectl rollout status deployment/web --timeout=180s")
        credentials = self._credentials()
        addresses = self.hosts.addresses
        self._say_what_to_run("new")
        say("k3s: upgrade under 100 requests a second")
        with Writer(["https://%s:6443" % addresses[name] for name in SERVERS], **credentials) as writer:
            with Traffic(["http://%s:%d/" % (addresses[name], NODE_PORT) for name in NAMES], rate=100) as traffic:
                seconds, _output = self.playbook("upgrade")
                time.sleep(5)  # what comes late is counted too
        versions = self.hosts.run(NAMES[0], "k3s kubectl get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'").split()
        if versions != [self.binaries["new"].version] * len(NAMES):
            raise Broken("after the upgrade the nodes run %s" % ", ".join(versions))
        requests, writes = vars(traffic.report()), vars(writer.report())
        say("  %.1f s, %d of %d requests failed, writes unavailable for %.2f s" % (
            seconds, requests["failed"], requests["sent"], writes["unavailable"]))
        # What failed is told with addresses of this machine.
        for failure in requests["failures"] + writes["gaps"]:
            say("    %s" % failure)
        return {"seconds": round(seconds, 1), "requests": _without(requests, "failures"), "writes": _without(writes, "gaps")}

    def _credentials(self) -> Dict[str, Path]:
        tls = "/var/lib/rancher/k3s/server/tls"
        files = {"ca": "server-ca.crt", "certificate": "client-admin.crt", "key": "client-admin.key"}
        for name, file in files.items():
            target = self.folder / name
            target.touch(mode=0o600)
            target.write_text(self.hosts.run(NAMES[0], "cat %s/%s" % (tls, file)), encoding="ascii")
        return {name: self.folder / name for name in files}

    def restore(self, say: Say) -> Dict[str, Any]:
        say("k3s: restore")
        self.hosts.run(NAMES[0], "k3s etcd-snapshot save --name bench")
        self.hosts.run(NAMES[0], "k3s kubectl create configmap written-after-the-snapshot")
        seconds, output = self.playbook("restore", "-e", "k3s_restore_name=bench", callback="ansible.posix.json")
        if self.hosts.run(NAMES[0], "k3s kubectl get configmap written-after-the-snapshot --ignore-not-found").strip():
            raise Broken("what was written after the snapshot is still there")
        self._all_ready(len(NAMES))
        result = _find(json.loads(output[output.index("{"):]), "k3s_restore_result")
        if not result:
            raise Broken("the playbook restore told no timeline")
        say("  %.1f s" % seconds)
        return {"seconds": round(seconds, 1), "timeline": result["timeline"]}


def _without(values: Dict[str, Any], *names: str) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _find(value: Any, name: str) -> Optional[Any]:
    """The first value of this name, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get(name), dict):
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        return next((found for found in (_find(each, name) for each in value) if found), None)
    return None


def _install_script() -> Path:
    """Out of the very module that the lab's k3s is built from; it is in Go's module cache, and not in this repository."""
    go = golang.toolchain(K3S_NEW.go, lambda line: None)
    done = subprocess.run([str(go.path), "mod", "download", "-json", "%s@%s" % (K3S_NEW.path, K3S_NEW.version)], cwd="/", env=go.env(),
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken("k3s' own install script cannot be had: %s" % (done.stderr or done.stdout).strip())
    return Path(json.loads(done.stdout)["Dir"]) / "install.sh"
