# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One case laid out on disk: the repository, what each peer is given, and the environment that all of them run in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import yaml

from . import workload
from .measure import Broken, Process, run

RECONCILE = "nordic.gitops.reconcile"

# The same for every ansible-playbook call: no facts are gathered, nothing is coloured, the interpreter is known.
ANSIBLE_CFG = """[defaults]
gathering = explicit
nocows = true
nocolor = true
localhost_warning = false
retry_files_enabled = false
deprecation_warnings = false
host_key_checking = false
"""


class Case:
    def __init__(self, objects: int, folder: Path, binaries: Path, collections: Path):
        self.objects = objects
        self.folder = folder
        self.binaries = binaries
        self.collections = collections
        self.repository = folder / "repository"
        self.all_in_one = folder / "all.yaml"
        self.kubeconfig = folder / "kubeconfig"
        self.payload = folder / "module.py"
        self.recorded = folder / "recorded.json"
        self.caches = folder / "caches"
        self.scratch = folder / "scratch"

    def lay_out(self) -> None:
        for each in (self.repository, self.caches, self.scratch, self.folder / "home"):
            each.mkdir(parents=True)
        workload.write(self.repository, self.objects)
        workload.write_as_one_file(self.repository, self.all_in_one)
        self._commit()
        (self.folder / "ansible.cfg").write_text(ANSIBLE_CFG, encoding="utf-8")
        for name, task in self._tasks().items():
            play = {"name": name, "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [dict({"name": name}, **task)]}
            (self.folder / (name + ".yml")).write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")

    def _commit(self) -> None:
        git = ["git", "-C", str(self.repository), "-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "commit.gpgsign=false"]
        for command in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "--message=Services of the shop"]):
            subprocess.run(git + command, check=True, env=self.env())

    def _tasks(self) -> Dict[str, Dict[str, Any]]:
        """One task for each way to say it; `src` is the quickest way to hand kubernetes.core.k8s many documents."""
        k8s = {"state": "present", "src": str(self.all_in_one), "kubeconfig": str(self.kubeconfig)}
        ours = {"name": "bench", "repository": "file://%s" % self.repository, "kubeconfig": str(self.kubeconfig), "wait": False}
        return {
            "ping": {"ansible.builtin.ping": {}},
            "reconcile": {RECONCILE: ours},
            "k8s": {"kubernetes.core.k8s": k8s},
            "k8s-apply": {"kubernetes.core.k8s": dict(k8s, apply=True)},
            "k8s-server-side": {"kubernetes.core.k8s": dict(k8s, apply=True, server_side_apply={"field_manager": "ansible"})},
        }

    def env(self) -> Dict[str, str]:
        """Every cache that a peer keeps (discovery, schemas, the Git mirror, rendered documents) lies in one folder, so that it can go."""
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(self.binaries), os.environ.get("PATH", "")]),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.caches / "xdg"),
            "KUBECACHEDIR": str(self.caches / "kubectl"),
            "TMPDIR": str(self.caches / "tmp"),
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "home" / ".ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.scratch / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.scratch / "remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
        }

    def cold(self) -> None:
        """As on a machine that has seen neither the repository nor the cluster. What is compiled of the programs stays, theirs and ours."""
        bytecode, aside = self.caches / "xdg" / "nordic.gitops" / "bytecode", self.folder / "bytecode"
        if bytecode.exists():
            bytecode.rename(aside)
        shutil.rmtree(self.caches)
        (self.caches / "tmp").mkdir(parents=True)
        if aside.exists():
            bytecode.parent.mkdir(mode=0o700, parents=True)
            aside.rename(bytecode)

    def run(self, command: Sequence[str], **more: str) -> Process:
        return run(command, dict(self.env(), **more), self.scratch)

    def playbook(self, name: str) -> List[str]:
        return [str(Path(sys.executable).parent / "ansible-playbook"), str(self.folder / (name + ".yml"))]

    def kubectl(self, *arguments: str) -> List[str]:
        return [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]

    def keep_payload(self) -> None:
        """Run our task once and keep the file that Ansible made of the module: executed alone, it is the module as in every real run."""
        self.run(self.playbook("reconcile"), ANSIBLE_KEEP_REMOTE_FILES="1")
        found = sorted((self.scratch / "remote").glob("*/AnsiballZ_reconcile.py"))
        if not found:
            raise Broken("ansible-playbook left no AnsiballZ_reconcile.py under %s, so the module cannot be measured alone" % (self.scratch / "remote"))
        shutil.copy(found[-1], self.payload)

    def point_at(self, kubeconfig: Path) -> None:
        """The kubeconfig that every command of this case names now means the API server itself."""
        shutil.copy(kubeconfig, self.kubeconfig)


def result_of(process: Process) -> Dict[str, Any]:
    """The module's own answer: one line of JSON, the last one."""
    lines = [line for line in process.output.splitlines() if line.startswith("{")]
    if not lines:
        raise Broken("the module printed no result:\n%s" % process.output[-3000:])
    return json.loads(lines[-1])
