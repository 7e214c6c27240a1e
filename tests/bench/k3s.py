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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from lab import golang, images, k3s
from lab.errors import LabError
from lab.hosts import Hosts
from lab.hosts.k3s import WITHOUT_IMAGES
from lab.k3s import RELEASES
from lab.traffic import Traffic, Writer
from workspace import collection

from .measure import Broken
from .stats import Spread

NAMES = ("server1", "server2", "server3", "agent1")
SERVERS = NAMES[:3]
OURS = "nordic.gitops, playbook bootstrap"
SCRIPT = "k3s' own install script, node after node"
AGAIN = "nordic.gitops, playbook bootstrap again"
UPGRADE = "nordic.gitops, playbook upgrade"
RESTORE = "nordic.gitops, playbook restore"
BOOTSTRAP = "3 servers and 1 agent, from hosts to all Ready"
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
    "unchanged": "the same playbook again on the cluster it made, %d times, each with connections of its own; every call of ssh, sftp and scp is counted"
                 % UNCHANGED_ROUNDS,
    "upgrade": "the playbook upgrade while 100 requests a second go to the node ports of all four nodes in turn, each on a connection of its own and none "
               "tried again, and a client writes to the API every 50 ms and turns to the next server when one does not take it",
    "restore": "the playbook restore on the three servers, after the upgrade; the snapshot lies on the first",
}


@dataclass(frozen=True)
class Rule:
    """A figure to reach. value: where it is in the part; binaries: which k3s made it."""

    name: str
    measurement: str
    value: Callable[[Dict[str, Any]], float]
    limit: float
    unit: str
    binaries: Tuple[str, ...]


RULES = (
    Rule("k3s, bootstrap of 3 servers and 1 agent: whole call / install script, node after node", "bootstrap",
         lambda part: _median(part, OURS) / _median(part, SCRIPT), 0.6, "", ("old",)),
    Rule("k3s, unchanged cluster of 4: whole call", "unchanged", lambda part: _median(part, AGAIN), 12, "s", ("old",)),
    Rule("k3s, upgrade of 4 nodes under 100 requests a second: requests that failed", "upgrade",
         lambda part: part["upgrade"]["requests"]["failed"], 0, "requests", ("old", "new")),
    Rule("k3s, upgrade of 4 nodes: API writes unavailable in total", "upgrade",
         lambda part: part["upgrade"]["writes"]["unavailable"], 2, "s", ("old", "new")),
    Rule("k3s, restore of 3 servers from a snapshot: whole call", "restore", lambda part: part["restore"]["seconds"], 60, "s", ("new",)),
)

Say = Callable[[str], None]


def measure(rounds: int, folder: Path, say: Say) -> Dict[str, Any]:
    """The part `k3s` of the results. What could be measured is in it, also when a later playbook failed; `broken` says which."""
    folder.mkdir(parents=True)
    found = k3s.binaries(say)
    turns: List[Tuple[str, float]] = []
    part: Dict[str, Any] = {"settings": {"rounds": rounds}, "binaries": binaries(found), "how": HOW, "script": [], "broken": {}}
    for number in range(rounds):
        for peer in order(number, rounds):
            say("k3s, round %d of %d: %s" % (number + 1, rounds, peer))
            with Hosts.start(NAMES, say=say) as hosts:
                site = Site(hosts, found, Path(tempfile.mkdtemp(dir=folder)))
                if peer == SCRIPT:
                    part["script"].append(site.install())
                    turns.append((peer, part["script"][-1]["seconds"]))
                else:
                    turns.append((peer, site.bootstrap()))
                say("  %.1f s" % turns[-1][1])
                if peer == OURS and number == rounds - 1:
                    _go_on(site, part, say)
    part["figures"] = figures(turns, part)
    part["summary"] = summary(part["figures"])
    return {"checks": checks(part), **part}


def order(number: int, rounds: int) -> Tuple[str, str]:
    """Turns alternate; the last one is ours, as what follows needs the cluster that ours made."""
    return (SCRIPT, OURS) if (rounds - number) % 2 else (OURS, SCRIPT)


def _go_on(site: "Site", part: Dict[str, Any], say: Say) -> None:
    """What is measured on a cluster that is there. A playbook that fails takes neither the others' figures nor the hours before with it."""
    for name, run in (("unchanged", site.unchanged), ("upgrade", site.upgrade), ("restore", site.restore)):
        say("k3s: %s" % name)
        try:
            part[name] = run(say)
        except (Broken, LabError, subprocess.TimeoutExpired) as error:
            say("  not measured: %s" % error)
            part["broken"][name] = str(error).split("\n", 1)[0]


def binaries(found: Mapping[str, k3s.Binary]) -> Dict[str, Dict[str, str]]:
    """Which k3s made the figures."""
    origin = {name: "named by %s" % variable if os.environ.get(variable) else "built from Go modules" for name, (_module, variable) in RELEASES.items()}
    return {name: {"version": one.version, "sha256": one.sha256, "origin": origin[name]} for name, one in found.items()}


def figures(turns: Sequence[Tuple[str, float]], part: Dict[str, Any]) -> List[Dict[str, Any]]:
    rows = [(BOOTSTRAP, peer, seconds) for peer, seconds in turns]
    rows += [("unchanged cluster of 4", AGAIN, seconds) for seconds in part.get("unchanged", {}).get("seconds", [])]
    if "upgrade" in part:
        rows.append(("upgrade of 4 nodes: API writes unavailable", UPGRADE, part["upgrade"]["writes"]["unavailable"]))
    if "restore" in part:
        rows.append(("restore of 3 servers", RESTORE, part["restore"]["seconds"]))
    return [{"case": "k3s", "operation": operation, "peer": peer, "seconds": round(seconds, 2)} for operation, peer, seconds in rows]


def summary(rows: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    entries = []
    limits = {AGAIN: 12, UPGRADE: 2, RESTORE: 60}
    for operation, peer in dict.fromkeys((row["operation"], row["peer"]) for row in rows):
        spread = Spread.of([row["seconds"] for row in rows if (row["operation"], row["peer"]) == (operation, peer)])
        entries.append({"case": "k3s", "operation": operation, "peer": peer, "rounds": spread.count, "median": round(spread.median, 2),
                        "low": round(spread.low, 2), "high": round(spread.high, 2), **({"limit": limits[peer]} if peer in limits else {})})
    return entries


def checks(part: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The figures to reach, each with the k3s that made it."""
    found = []
    for rule in RULES:
        check: Dict[str, Any] = {"name": rule.name, "limit": rule.limit, **({"unit": rule.unit} if rule.unit else {}),
                                 "binaries": [part["binaries"][name] for name in rule.binaries]}
        if rule.measurement in part["broken"]:
            found.append(dict(check, holds=False, broken=part["broken"][rule.measurement]))
        else:
            value = rule.value(part)
            found.append(dict(check, ratio=round(value, 4), holds=value <= rule.limit))
    return found


def _median(part: Dict[str, Any], peer: str) -> float:
    return float(next(entry["median"] for entry in part["summary"] if entry["peer"] == peer))


class Site:
    """One set of hosts, and what is run on them."""

    def __init__(self, hosts: Hosts, binaries: Dict[str, k3s.Binary], folder: Path) -> None:
        self.hosts = hosts
        self.binaries = binaries
        self.folder = folder
        self.images = images.tars()
        self.calls = folder / "calls"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(collection.linked()), "ANSIBLE_HOME": str(folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "False",
            **{"ANSIBLE_%s_EXECUTABLE" % program.upper(): str(self._counted(program)) for program in ("ssh", "sftp", "scp")},
        }
        (folder / "ansible.cfg").touch()  # nobody's own settings
        self.variables = folder / "variables.json"
        self._say_what_to_run("old")

    def _counted(self, program: str) -> Path:
        """The program, that leaves one byte for each call of it."""
        path = self.folder / program
        path.write_text('#!/bin/sh\nprintf . >>%s\nexec %s "$@"\n' % (shlex.quote(str(self.calls)), program), encoding="utf-8")
        path.chmod(0o755)
        return path

    def _say_what_to_run(self, which: str) -> None:
        config = {"k3s_binary": str(self.binaries[which].path), "k3s_images": [{"path": str(path)} for path in self.images],
                  "k3s_config": "{{ %s if inventory_hostname in groups.k3s_servers else {} }}" % json.dumps(WITHOUT_IMAGES)}
        self.variables.write_text(json.dumps(config), encoding="utf-8")

    def playbook(self, name: str, *more: str, callback: str = "ansible.builtin.default") -> Tuple[float, str]:
        """Seconds and output of a whole ansible-playbook call."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.hosts.inventory), "-e", "@%s" % self.variables, *more,
                   "nordic.gitops.%s" % name]
        # Connections that an earlier call left open would be a gift.
        env = {**self.env, "ANSIBLE_STDOUT_CALLBACK": callback, "ANSIBLE_SSH_CONTROL_PATH_DIR": tempfile.mkdtemp(dir=self.folder)}
        self.calls.write_text("", encoding="ascii")
        began = time.monotonic()
        done = subprocess.run(command, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=1200, check=False)
        if done.returncode:
            raise Broken("the playbook %s ended with %d\n%s" % (name, done.returncode, (done.stdout + done.stderr)[-6000:]))
        return time.monotonic() - began, done.stdout

    # What is measured

    def bootstrap(self) -> float:
        began = time.monotonic()
        self.playbook("bootstrap")
        self._all_ready(len(NAMES))
        return time.monotonic() - began

    def install(self) -> Dict[str, Any]:
        """As a person would with the install script: copy, run, wait, next node. copying: seconds of it, all in all; ready: when, by node."""
        script, token = _install_script(), secrets.token_hex(24)  # it may have to be fetched: before the clock runs
        server = "https://%s:6443" % self.hosts.addresses[NAMES[0]]
        began, copying, ready = time.monotonic(), 0.0, {}
        for number, name in enumerate(NAMES, 1):
            agent = name not in SERVERS
            since = time.monotonic()
            self.hosts.run(name, "mkdir -p /etc/rancher/k3s /var/lib/rancher/k3s/agent/images")
            self._copy([self.binaries["old"].path], name, "/usr/local/bin/k3s")
            self._copy([script], name, "/root/install.sh")
            self._copy(self.images, name, "/var/lib/rancher/k3s/agent/images/")
            copying += time.monotonic() - since
            config = {} if agent else dict(WITHOUT_IMAGES, **({"cluster-init": True} if number == 1 else {}))
            self.hosts.run(name, "cat > /etc/rancher/k3s/config.yaml && chmod 600 /etc/rancher/k3s/config.yaml", input=json.dumps(
                dict(config, token=token, **({"server": server} if number > 1 else {}))))
            self.hosts.run(name, "chmod 755 /usr/local/bin/k3s /root/install.sh && INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_SELINUX_RPM=true "
                                 "INSTALL_K3S_EXEC=%s /root/install.sh" % ("agent" if agent else "server"), timeout=600)
            self._all_ready(number)
            ready[name] = round(time.monotonic() - began, 1)
        return {"seconds": round(time.monotonic() - began, 2), "copying": round(copying, 1), "ready": ready}

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

    def unchanged(self, say: Say) -> Dict[str, Any]:
        seconds, calls = [], 0
        for _number in range(UNCHANGED_ROUNDS):
            took, output = self.playbook("bootstrap")
            changed = [line for line in output.splitlines() if " changed=" in line and " changed=0 " not in line]
            if changed:
                raise Broken("the cluster was not left alone\n%s" % "\n".join(changed))
            seconds.append(round(took, 2))
            calls = len(self.calls.read_text(encoding="ascii"))
        say("  %s s, %d round trips" % (", ".join("%.1f" % each for each in seconds), calls))
        return {"seconds": seconds, "round_trips": calls}

    def upgrade(self, say: Say) -> Dict[str, Any]:
        self.hosts.run(NAMES[0], "k3s kubectl apply -f -", input=SERVICE)
        self.hosts.run(NAMES[0], "k3s kubectl rollout status deployment/web --timeout=180s")
        credentials = self._credentials()
        addresses = self.hosts.addresses
        self._say_what_to_run("new")
        with Writer(["https://%s:6443" % addresses[name] for name in SERVERS], **credentials) as writer:
            with Traffic(["http://%s:%d/" % (addresses[name], NODE_PORT) for name in NAMES], rate=100) as traffic:
                seconds, _output = self.playbook("upgrade")
                time.sleep(5)  # what comes late is counted too
        told = self.hosts.run(NAMES[0], "k3s kubectl get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'").split()
        if told != [self.binaries["new"].version] * len(NAMES):
            raise Broken("after the upgrade the nodes run %s" % ", ".join(told))
        requests, writes = vars(traffic.report()), vars(writer.report())
        say("  %.1f s, %d of %d requests failed, writes unavailable for %.2f s" % (
            seconds, requests["failed"], requests["sent"], writes["unavailable"]))
        # What failed is told with addresses of this machine.
        for failure in requests["failures"] + writes["gaps"]:
            say("    %s" % failure)
        return {"seconds": round(seconds, 1), "requests": _without(requests, "failures", "answers"), "writes": _without(writes, "gaps")}

    def _credentials(self) -> Dict[str, Path]:
        tls = "/var/lib/rancher/k3s/server/tls"
        files = {"ca": "server-ca.crt", "certificate": "client-admin.crt", "key": "client-admin.key"}
        for name, file in files.items():
            target = self.folder / name
            target.touch(mode=0o600)
            target.write_text(self.hosts.run(NAMES[0], "cat %s/%s" % (tls, file)), encoding="ascii")
        return {name: self.folder / name for name in files}

    def restore(self, say: Say) -> Dict[str, Any]:
        self.hosts.run(NAMES[0], "k3s etcd-snapshot save --name bench")
        self.hosts.run(NAMES[0], "k3s kubectl create configmap written-after-the-snapshot")
        seconds, output = self.playbook("restore", "-e", "k3s_restore_name=bench", "-e", "k3s_restore_confirmed=true", callback="ansible.posix.json")
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
    """Out of the very module that this k3s is built from; it is in Go's module cache, and not in this repository."""
    module = RELEASES["old"][0]
    go = golang.toolchain(module.go, lambda line: None)
    # By way of a package, as `go mod download` wants to know more of a version than is served. It is fetched when it is not there, and checked.
    done = subprocess.run([str(go.path), "list", "-mod=readonly", "-find", "-f", "{{.Module.Dir}}", "%s/pkg/version" % module.path],
                          cwd=module.folder, env=go.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    script = Path(done.stdout.strip()) / "install.sh"
    if done.returncode or not script.is_file():
        raise Broken("k3s' own install script cannot be had: %s" % (done.stderr.strip() or script))
    return script
