# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""1,000 values sealed: by kubeseal one by one, by kubeseal 20 in a call, and by the module sealed_secret. Offline, with one certificate."""

from __future__ import annotations

import base64
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import task
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import STRICT, label, seal
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import generate
from lab import build
from workspace import collection

from .measure import Broken

SECRETS, VALUES = 50, 20
EACH, TOGETHER = "kubeseal --raw, one call for each value", "kubeseal, one call for 20 values"
ALONE, FIRST, AGAIN, CALL = "nordic.gitops, sealing alone", "nordic.gitops, the module's work, first", "nordic.gitops, the module's work, nothing changed", \
    "nordic.gitops, whole ansible-playbook call, first"
OPERATION = "1,000 values"
HOW = {
    "kubeseal": "with --cert, so it talks to no cluster; its processes one after another",
    "sealing alone": "the encryption of the 1,000 values in one process that runs",
    "the module's work": "from the manifest of 50 Secrets to the written file, in one process that runs, a fingerprint key as the proof",
    "whole call": "ansible-playbook with one task that seals the manifest, from start to exit",
}
# (name, ours, theirs, at most)
LIMITS = (
    ("sealing alone: 1,000 kubeseal calls", ALONE, EACH, 1 / 50),
    ("sealing alone: 50 kubeseal calls of 20 values", ALONE, TOGETHER, 1 / 5),
    ("the whole call: 1,000 kubeseal calls", CALL, EACH, 1 / 5),
    ("nothing changed: the first", AGAIN, FIRST, 1 / 2),
)


def measure(rounds: int, folder: Path, say: Callable[[str], None]) -> Dict[str, Any]:
    """The part `sealing` of the results."""
    folder.mkdir(parents=True)
    bench = Sealing(folder)
    turns: Dict[str, Callable[[], float]] = {EACH: bench.one_by_one, TOGETHER: bench.together, ALONE: bench.alone, CALL: bench.call, FIRST: bench.first,
                                             AGAIN: bench.again}
    seconds: Dict[str, List[float]] = {name: [] for name in turns}
    for number in range(rounds):
        order = list(turns)
        start = number % 4
        for name in [*(order[:4][start:] + order[:4][:start]), FIRST, AGAIN]:  # the last two belong together
            say("sealing, round %d: %s" % (number + 1, name))
            seconds[name].append(turns[name]())
    medians = {name: statistics.median(row) for name, row in seconds.items()}
    checks: List[Dict[str, Any]] = []
    for name, ours, theirs, limit in LIMITS:
        ratio = medians[ours] / medians[theirs]
        checks.append({"name": name, "ratio": round(ratio, 4), "limit": limit, "holds": ratio <= limit})
    checks.append({"name": "nothing changed: bytes changed", "ratio": bench.changed, "limit": 0, "holds": bench.changed == 0, "unit": "bytes"})
    summary = [{"case": "sealing", "operation": OPERATION, "peer": name, "rounds": len(row), "median": round(medians[name], 4), "low": round(min(row), 4),
                "high": round(max(row), 4)} for name, row in seconds.items()]
    figures = [{"case": "sealing", "operation": OPERATION, "peer": name, "seconds": round(each, 4)} for name, row in seconds.items() for each in row]
    return {"settings": {"rounds": rounds, "secrets": SECRETS, "values": SECRETS * VALUES}, "how": HOW, "checks": checks, "summary": summary,
            "figures": figures,
            "kubeseal": bench.version()}


class Sealing:
    """The values and the certificate on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.changed = folder, 0
        self.kubeseal = str(build.build(["kubeseal"], build.silent)["kubeseal"])
        chance = random.Random(1)
        self.values = {f"secret-{number:02d}": {f"key-{key:02d}": chance.randbytes(24).hex() for key in range(VALUES)} for number in range(SECRETS)}
        key = generate([], "kube-system", "bench-")
        assert key.certificate is not None
        self.certificate: Certificate = key.certificate
        (folder / "certificate.pem").write_bytes(key.certificate.pem)
        manifests = [self.manifest(name) for name in self.values]
        (folder / "secrets.yaml").write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
        module = {"path": str(folder / "call.yaml"), "src": str(folder / "secrets.yaml"), "certificate": str(folder / "certificate.pem"),
                  "fingerprint_key": "0123456789abcdef"}
        play = [{"name": "Seal", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"name": "Seal",
                                                                                                                "nordic.gitops.sealed_secret": module}]}]
        (folder / "play.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
        self.env = {**os.environ, "HOME": str(folder), "ANSIBLE_HOME": str(folder / ".ansible"), "ANSIBLE_COLLECTIONS_PATH": str(collection.linked()),
                    "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_LOCALHOST_WARNING": "false"}
        for name in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG"):
            self.env.pop(name, None)

    def manifest(self, name: str) -> Dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": self.values[name]}

    def version(self) -> str:
        return subprocess.run([self.kubeseal, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]

    def _kubeseal(self, arguments: List[str], given: str) -> None:
        done = subprocess.run([self.kubeseal, "--cert", str(self.folder / "certificate.pem"), *arguments], input=given, capture_output=True, text=True,
                              env=self.env, check=False)
        if done.returncode or not done.stdout:
            raise Broken("kubeseal: %s" % done.stderr)

    def one_by_one(self) -> float:
        began = time.perf_counter()
        for name, values in self.values.items():
            for value in values.values():
                self._kubeseal(["--raw", "--namespace", "shop", "--name", name], value)
        return time.perf_counter() - began

    def together(self) -> float:
        manifests = [json.dumps(self.manifest(name)) for name in self.values]
        began = time.perf_counter()
        for each in manifests:
            self._kubeseal(["--format", "yaml"], each)
        return time.perf_counter() - began

    def alone(self) -> float:
        began = time.perf_counter()
        sealed = [seal(self.certificate.public_key, value.encode(), label(STRICT, "shop", name)) for name,
                  values in self.values.items() for value in values.values()]
        took = time.perf_counter() - began
        if len({base64.b64decode(each) for each in sealed}) != SECRETS * VALUES:
            raise Broken("two values have the same ciphertext")
        return took

    def call(self) -> float:
        (self.folder / "call.yaml").unlink(missing_ok=True)
        began = time.perf_counter()
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(self.folder / "play.yml")], capture_output=True, text=True,
                              env=self.env, check=False)
        took = time.perf_counter() - began
        if done.returncode or "changed=1" not in done.stdout:
            raise Broken("ansible-playbook: %s%s" % (done.stdout[-2000:], done.stderr[-2000:]))
        return took

    def first(self) -> float:
        (self.folder / "work.yaml").unlink(missing_ok=True)
        took, result = self._work()
        if not result["changed"] or sum(len(one["sealed"]) for one in result["secrets"]) != SECRETS * VALUES:
            raise Broken("the module did not seal the values: %s" % result)
        return took

    def again(self) -> float:
        before = (self.folder / "work.yaml").read_bytes()
        took, result = self._work()
        after = (self.folder / "work.yaml").read_bytes()
        self.changed += sum(one != other for one, other in zip(before, after)) + abs(len(before) - len(after))
        if result["changed"]:
            raise Broken("the module sealed what had not changed")
        return took

    def _work(self) -> Any:
        from ansible_collections.nordic.gitops.plugins.action.sealed_secret import SPEC

        params = {**{name: spec.get("default") for name, spec in SPEC.items()}, "path": str(self.folder / "work.yaml"), "src": "secrets.yaml",
                  "certificate": str(self.folder / "certificate.pem"), "fingerprint_key": "0123456789abcdef"}
        manifest = (self.folder / "secrets.yaml").read_bytes()
        kept = {name: os.environ.pop(name) for name in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG") if name in os.environ}
        home = os.environ.get("HOME", "")
        os.environ["HOME"] = str(self.folder)  # no kubeconfig of somebody's own is looked at
        try:
            began = time.perf_counter()
            result = task.present(params, manifest, [], False, False, [])
            return time.perf_counter() - began, result
        finally:
            os.environ.update(kept, HOME=home)
