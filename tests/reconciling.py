# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconcile of a test: the module's own options and defaults, run in the test's process so that a Failure can be looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Sequence

import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import reconcile
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.from_application import as_options, hand_back
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import result_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.source import Source
from ansible_collections.nordic.gitops.plugins.modules.reconcile import RETURN, SPEC

# Most tests are about what is written, and many of their objects would never get healthy: those about health wait.
DEFAULTS = {**{name: spec.get("default") for name, spec in {**SPEC, **GIT_SPEC, **CONNECTION_SPEC}.items()}, "wait": False}


class Reconciler:
    """Runs the reconcile of one repository under one name; options are those of the module."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.tuning: Dict[str, Any] = {}  # of the API client: patience in seconds
        self.cluster: Any = None  # the API client of the last run, for its count of requests
        self.progress: List[str] = []
        self.notes: Sequence[str] = ()  # the warnings of the last run
        self.warnings: Sequence[str] = ()  # and those of the Application that it was from

    def __call__(self, check_mode: bool = False, diff: bool = False, **options: Any) -> Dict[str, Any]:
        params = {**DEFAULTS, **self.options, **options}
        self.cluster = Cluster.of(params, **self.tuning)
        if params["from_application"]:
            params, self.warnings = as_options(params, self.cluster)
        try:
            report = reconcile(Source.of(params), self.cluster, Options.of(params, check_mode, diff), self.progress.append)
        except Failure as failure:
            assert_as_documented(result_of(failure))
            raise
        self.notes = report.notes
        result = report.result()
        if params["from_application"] and result["changed"] and not check_mode:
            self.warnings = [*self.warnings, *hand_back(params["from_application"], self.cluster)]
        assert_as_documented(result)
        return result


DOCUMENTED = {**yaml.safe_load(RETURN), "changed": {"type": "bool"}}
TYPES = {"str": str, "bool": bool, "dict": dict, "list": list, "int": int}


def assert_as_documented(result: Dict[str, Any]) -> None:
    """Whatever way a run ends, its result has the documented keys, each of its documented type."""
    _assert_as_documented({key: value for key, value in result.items() if key != "diff"}, DOCUMENTED)


def _assert_as_documented(result: Dict[str, Any], keys: Dict[str, Any], whole: bool = True) -> None:
    assert set(result) <= set(keys) and (not whole or set(result) == set(keys)), set(result) ^ set(keys)
    for key, value in result.items():
        spec = keys[key]
        # null only where no value can be said for the whole run
        assert value is None and whole or isinstance(value, TYPES[spec["type"]]), (key, value)
        for item in value or () if spec["type"] == "list" else ():
            if "contains" in spec:
                _assert_as_documented(item, spec["contains"], whole=False)
            else:
                assert isinstance(item, TYPES[spec["elements"]]), (key, item)


def start(**options: Any) -> "subprocess.Popen[str]":
    """The same reconcile as a process of its own; its output is one line, JSON, with "failed" where it failed."""
    return subprocess.Popen([sys.executable, "-X", "faulthandler", "-m", "reconciling", json.dumps(options)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


def outcome(process: "subprocess.Popen[str]", timeout: float = 120) -> Dict[str, Any]:
    """What a started reconcile answered; one that hangs says where."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        raise AssertionError(f"no end after {timeout:.0f} s:\n{process.communicate()[1]}") from None
    assert out, err
    return json.loads(out.splitlines()[-1])


def operations(result: Dict[str, Any]) -> Dict[str, str]:
    """{"ConfigMap web": "created"} of what a run did."""
    return {f"{change['object']['kind']} {change['object']['name']}": change["operation"] for change in result["changes"]}


def get(cluster: Any, namespace: str, kind: str, name: str) -> Any:
    """An object as it is in the cluster, with its managed fields; None where there is none."""
    text = cluster.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found", "--show-managed-fields")
    return json.loads(text) if text.strip() else None


def exists(cluster: Any, namespace: str, kind: str, name: str) -> bool:
    """Whether the cluster has an object."""
    return get(cluster, namespace, kind, name) is not None


def wait_until(check: Callable[[], Any], seconds: float = 20) -> None:
    """Returns once check is true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.1)


def manifest(kind: str, name: str, api_version: str = "v1", namespace: str = "", more: str = "", annotations: str = "") -> str:
    """A small YAML document; more is appended as it is, annotations are "key: value" lines."""
    lines = [f"apiVersion: {api_version}", f"kind: {kind}", "metadata:", f"  name: {name}"]
    if namespace:
        lines.append(f"  namespace: {namespace}")
    if annotations:
        lines += ["  annotations:"] + [f"    {line}" for line in annotations.splitlines()]
    return "\n".join(lines) + "\n" + more


def definition(group, properties):
    """The definition of the kind Widget, with these properties of its spec."""
    return manifest("CustomResourceDefinition", f"widgets.{group}", "apiextensions.k8s.io/v1", more=f"""spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Widget, plural: widgets}}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {properties}
""")


def widget(group, size, annotations="", name="w", fields=""):
    """A custom resource whose size cannot change, with its definition, which may have more fields (", color: {type: string}")."""
    properties = "{size: {type: integer, x-kubernetes-validations: [{rule: self == oldSelf, message: Value is immutable}]}" + fields + "}"
    return definition(group, properties) + "---\n" + manifest("Widget", name, f"{group}/v1", annotations=annotations, more=f"spec: {{size: {size}}}\n")


def autoscaler(name, minimum=2):
    return manifest("HorizontalPodAutoscaler", name, "autoscaling/v2", more=f"""spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  minReplicas: {minimum}
  maxReplicas: 9
  metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 70}}}}}}]
""")


def config_map(name: str, value: str = "one", annotations: str = "", namespace: str = "") -> str:
    """A ConfigMap with one key."""
    return manifest("ConfigMap", name, namespace=namespace, annotations=annotations, more=f"data:\n  key: {value}\n")


def deployment(name: str, image: str = "registry.example/web:1", replicas: int = 1, more: str = "") -> str:
    """A Deployment with one container."""
    return manifest("Deployment", name, "apps/v1", more=f"""spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: web
          image: {image}
          env:
            - {{name: FIRST, value: a}}
            - {{name: SECOND, value: b}}
{more}""")


def _main() -> None:
    try:
        print(json.dumps(Reconciler(**json.loads(sys.argv[1]))()))
    except Failure as failure:
        print(json.dumps({**result_of(failure), "failed": True, "msg": str(failure)}))


if __name__ == "__main__":
    _main()
