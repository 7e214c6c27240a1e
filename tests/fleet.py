# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s on hosts of the lab, as its operators have it: the playbooks of the collection and kubectl on all of them, or the module on one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Set

import yaml

from lab import images, k3s
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG
from workspace import places

SERVERS = ("server1", "server2", "server3")
CONFIG: Dict[str, Any] = {"cluster-init": True, **SERVER_CONFIG}
TOKEN = "the-token-of-this-test-0123456789"
OURS = "nordic.gitops/cordoned"


class Run(NamedTuple):
    """What came of a playbook."""

    code: int
    output: str


class _Binaries(Dict[str, k3s.Binary]):
    """Each of the lab's k3s is built when a test first asks for it."""

    def __missing__(self, name: str) -> k3s.Binary:
        self[name] = k3s.binary(name)
        return self[name]


class Fleet:
    """The hosts of the groups k3s_servers and k3s_agents, and the playbooks on them."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.binaries = _Binaries()
        self.variables = hosts.state / "variables.yml"
        self.configure(CONFIG, {})

    def configure(self, servers: Dict[str, Any], agents: Dict[str, Any]) -> None:
        """k3s_config of both groups."""
        # JSON is YAML.
        self.variables.write_text(json.dumps({"k3s_servers": {"vars": {"k3s_config": servers}}, "k3s_agents": {"vars": {"k3s_config": agents}}}))

    def command(self, playbook: str, **variables: Any) -> List[str]:
        given = {"k3s_token": TOKEN, "k3s_wait_timeout": 1200, "k3s_snapshot_verify": False,
                 "k3s_images": [{"path": str(path)} for path in images.tars()], **variables}
        given = {name: value for name, value in given.items() if value is not None}
        return ["ansible-playbook", "-i", str(self.hosts.inventory), "-i", str(self.variables),
                str(places.CHECKOUT / "playbooks" / f"{playbook}.yml"), "-e", json.dumps(given)]

    def run(self, playbook: str, **variables: Any) -> str:
        """It must succeed."""
        done = self.attempt(playbook, **variables)
        assert done.code == 0, done.output[-8000:]
        return done.output

    def left_alone(self, playbook: str, **variables: Any) -> int:
        """On how many hosts the playbook, which must succeed, changes nothing."""
        return len(re.findall(r"changed=0 .*failed=0", self.run(playbook, **variables)))

    def attempt(self, playbook: str, **variables: Any) -> Run:
        done = subprocess.run(self.command(playbook, **variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600, check=False)
        return Run(done.returncode, done.stdout)

    def killed(self, after: float, playbook: str, **variables: Any) -> bool:
        """Begin a playbook and kill it, with every process that it started on this machine, after so many seconds.

        Whether it still ran; if not, it must have succeeded.
        """
        with tempfile.TemporaryFile("w+") as told:
            process = subprocess.Popen(self.command(playbook, **variables), stdout=told, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = process.wait(after)
            except subprocess.TimeoutExpired:
                return True
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            told.seek(0)
            assert code == 0, told.read()[-8000:]
            return False

    def kubectl(self, words: str, on: str = "server1", input: str = "") -> str:
        return self.hosts.run(on, f"k3s kubectl {words}", input=input)

    def nodes(self, on: str = "server1") -> Dict[str, Dict[str, Any]]:
        return {node["metadata"]["name"]: node for node in json.loads(self.kubectl("get nodes -o json", on))["items"]}

    def versions(self, on: str = "server1") -> Dict[str, str]:
        return {name: node["status"]["nodeInfo"]["kubeletVersion"] for name, node in self.nodes(on).items()}

    def authorities(self) -> Set[str]:
        """The CAs of all servers: a cluster has one."""
        return {self.hosts.run(name, "sha256sum < /var/lib/rancher/k3s/server/tls/server-ca.crt") for name in SERVERS}

    def cordoned(self, on: str = "server1") -> List[str]:
        return [name for name, node in self.nodes(on).items() if node["spec"].get("unschedulable")]

    def takes_writes(self, within: float = 15.0) -> bool:
        """Some server does, which no etcd without a quorum lets it. The time is that of an election."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            for name in SERVERS:
                if self.hosts.power().get(name) != "up":
                    continue
                said = self.hosts.run(name, "timeout 5 k3s kubectl label --overwrite namespace default wrote=$RANDOM$RANDOM 2>&1", check=False)
                if "labeled" in said:
                    return True
        return False

    def is_whole(self, *names: str, within: float = 45.0) -> None:
        """All nodes Ready, all servers voters, nothing cordoned. k3s writes a new voter onto its Node some seconds after etcd has made it one."""
        end = time.monotonic() + within
        lacking = self._lacking(names)
        while lacking and time.monotonic() < end:
            time.sleep(1)
            lacking = self._lacking(names)
        assert lacking == []

    def _lacking(self, names: Sequence[str]) -> List[str]:
        nodes = self.nodes()
        found = [f"{name} should not be there" for name in nodes if name not in names]
        for name in names:
            told = nodes.get(name, {"status": {}, "spec": {}})
            true = {one["type"] for one in told["status"].get("conditions", []) if one["status"] == "True"}
            found += [f"{name} is not {wanted}" for wanted in ("Ready", *(["EtcdIsVoter"] if name in SERVERS else [])) if wanted not in true]
            found += [f"{name} is cordoned"] if told["spec"].get("unschedulable") else []
        return found


class Answer(NamedTuple):
    """What came of the module."""

    result: Dict[str, Any]
    output: str  # of ansible-playbook at -vvvv

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))


class K3sHost:
    """The host server1, and the module k3s on it, with the lab's k3s of this name unless a test gives another binary."""

    def __init__(self, hosts: Hosts, folder: Path, release: str = "new") -> None:
        self.hosts, self.folder = hosts, folder
        self.binary = k3s.binary(release)

    def k3s(self, check: bool = False, **options: Any) -> Answer:
        return self.each([options], check)[0]

    def each(self, cases: Sequence[Mapping[str, Any]], check: bool = False) -> List[Answer]:
        """What comes of the module with each of these options, one after the other in one playbook; they share its output."""
        kept = self.folder / "results.json"
        tasks: List[Dict[str, Any]] = []
        for number, options in enumerate(cases):
            options = {"binary": str(self.binary.path), "wait_timeout": 240, **options}
            options = {name: value for name, value in options.items() if value is not None}
            tasks.append({"name": "Sample", "nordic.gitops.k3s": options, "register": "answer%d" % number, "ignore_errors": True})
        results = "{{ [%s] | to_json }}" % ", ".join("answer%d" % number for number in range(len(cases)))
        tasks.append({"ansible.builtin.copy": {"content": results, "dest": str(kept), "mode": "0600"}, "delegate_to": "localhost", "check_mode": False,
                      "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})
        playbook = self.folder / "play.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "server1", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
        done = subprocess.run(["ansible-playbook", "-vvvv", "--diff", *(["--check"] if check else []), "-i", str(self.hosts.inventory), str(playbook)],
                              text=True, capture_output=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [Answer(result, done.stdout + done.stderr) for result in json.loads(kept.read_text(encoding="utf-8"))]

    def run(self, command: str) -> str:
        return self.hosts.run("server1", command)

    def traces(self) -> str:
        return self.run("ls -d /usr/local/bin/k3s /etc/rancher/k3s /var/lib/rancher/k3s /etc/systemd/system/k3s*.service 2>/dev/null; true")

    def clean(self) -> None:
        if self.traces():
            self.k3s(state="absent", binary=None)
