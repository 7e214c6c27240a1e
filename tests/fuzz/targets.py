# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold whatever comes in: a Failure, or a result that what follows can use; never another exception, never a file of the host."""

from __future__ import annotations

import copy
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Resource, Resources
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import kubeconfig_value
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git.objects import Damaged, _entries
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import kustomize, subcharts, yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import flatten
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import health
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.intents import intents_of, unknown_kinds
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import normalise
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import steps
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import wrong_with
from hypothesis import given, note
from hypothesis import strategies as some
from trees import MemoryTree

KUSTOMIZE = ""  # kubectl or kustomize, set by whoever runs the targets

SCALARS = some.one_of(some.none(), some.booleans(), some.integers(-2**70, 2**70), some.floats(allow_nan=False, allow_infinity=False), some.text(max_size=12))
VALUES = some.recursive(SCALARS, lambda inner: some.one_of(some.lists(inner, max_size=4), some.dictionaries(some.text(max_size=8), inner, max_size=4)),
                        max_leaves=12)

# --- the loader of YAML and JSON ------------------------------------------------------------------------------------

PIECES = some.sampled_from([
    "a", "b: ", "- ", "? ", ": ", "[", "]", "{", "}", ", ", "\n", "\n  ", "\n---\n", "...\n", "&x ", "*x", "<<: ", "!!merge ", "!!str ", "!!int ", "! ",
    "|\n  ", ">-\n ",
    "'", '"', "\\", "#", " ", "\t", "\r", "0x1", "1e3", "012", "~", "yes", ".nan", "%YAML 1.1\n", "\ufeff", "\x00", "\x85", "\U0001f600", "@", "`",
    "apiVersion: v1\n", "kind: List\n", "items:\n"])
TEXTS = some.one_of(some.lists(PIECES, max_size=30).map("".join), VALUES.map(json.dumps), some.text(max_size=60))


@given(some.one_of(TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")), some.binary(max_size=60)))
def loader(data: bytes) -> None:
    """Documents are what JSON can say, and all that is wrong is a Failure with its line."""
    try:
        documents, problems = yaml_strict.parse(data, "a.yaml", [] if len(data) % 2 else None)
    except Failure as failure:
        documents, problems = [], [failure]
    assert all(problem.where.startswith("a.yaml") for problem in problems)
    failures: List[Failure] = []
    for document in documents:
        assert json.loads(json.dumps(document.body, allow_nan=False)) == document.body and document.line >= 1
        for item in flatten(document.body, "a.yaml", document.line, document.item_lines, failures):
            wrong_with(item)


# --- the judge of kustomizations, beside kustomize itself -----------------------------------------------------------

CANARY = "canary-of-the-host"
ENTRIES = some.sampled_from([
    "a.yaml", "./a.yaml", "base", "base/../a.yaml", "../outside.yaml", "../outside", "../../etc/hostname", "/etc/hostname", "x=a.yaml", "k=../outside.yaml",
    "http://127.0.0.1:9/x.yaml", "HTTP://127.0.0.1:9/x", "git::http://127.0.0.1:9/x", "a@b:c/d", "name@host/org/repo", "file:///etc", "github.com/a/b",
    "plugins", "p.yaml",
    "{apiVersion: builtin, kind: PatchTransformer, metadata: {name: p}, Path: ../outside.yaml}",
    "{apiVersion: builtin, kind: ConfigMapGenerator, metadata: {name: g}, files: [k=../outside.yaml]}",
    "apiVersion: builtin\nkind: ReplacementTransformer\nmetadata: {name: r}\nreplacements: [{path: ../outside.yaml}]\n", "http://127.0.0.1:9/x: y", "",
    "\n", "- a"])
FIELDS = some.sampled_from([*kustomize.KUSTOMIZATION, "path", "files", "envs", "env", "patch", "target", "name", "literals", "options", "source", "targets"])


def _spelt(name: str, how: int) -> str:
    return (name, name, name, name.capitalize(), name.upper(), name.replace("s", "\u017f", 1), name.replace("k", "\u212a", 1), name + " ")[how]


KEYS = some.builds(_spelt, FIELDS, some.integers(0, 7))
LEAVES = some.one_of(ENTRIES, ENTRIES, some.booleans(), some.none())
TREES = some.recursive(LEAVES, lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(KEYS, inner, max_size=3)), max_leaves=8)
KUSTOMIZATIONS = some.dictionaries(KEYS, some.one_of(some.lists(some.one_of(ENTRIES, some.dictionaries(KEYS, TREES, max_size=3)), max_size=3), TREES),
                                   max_size=4)


@given(KUSTOMIZATIONS, some.one_of(some.none(), KUSTOMIZATIONS))
def kustomization(top: Dict[str, Any], plugins: Any) -> None:
    """What the judge lets pass reads nothing outside of the repository, when kustomize itself builds it with nothing to stop it."""
    files = {
        "kustomization.yaml": json.dumps(top), "a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        "base/kustomization.yaml": "resources: [b.yaml]\n", "base/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
        "p.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npatch: '[]'\ntarget: {kind: ConfigMap}\n",
        "plugins/kustomization.yaml": json.dumps({"resources": ["../p.yaml"], **(plugins or {})}),
    }
    try:
        needed = kustomize.reachable(Files(MemoryTree(files), "."), ".")
    except Failure:
        return
    assert needed <= set(files)
    if not KUSTOMIZE:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("outside.yaml", f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {CANARY}}}\n"),
                           ("outside/kustomization.yaml", f"namePrefix: {CANARY}\nconfigMapGenerator: [{{name: x}}]\n"),
                           *((f"repository/{name}", text) for name, text in files.items())):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        command = [KUSTOMIZE, *(["kustomize"] if KUSTOMIZE.endswith("kubectl") else ["build", "--load-restrictor", "LoadRestrictionsNone"]), "."]
        if KUSTOMIZE.endswith("kubectl"):
            command.append("--load-restrictor=LoadRestrictionsNone")
        built = subprocess.run(command, cwd=Path(folder) / "repository", capture_output=True, text=True, timeout=120, check=False,
                               env={"HOME": folder, "PATH": folder, "HTTP_PROXY": "http://127.0.0.1:9"})
        note(built.stderr)
        assert CANARY not in built.stdout + built.stderr and "/etc/" not in built.stderr and "127.0.0.1:9" not in built.stderr


# --- the judge of charts --------------------------------------------------------------------------------------------

REFERENCES = some.sampled_from(["#/a", "#", "file:///etc/passwd", "http://127.0.0.1:9/", "other.json", "", "http://json-schema.org/draft-07/schema#",
                                "../x#/y"])
SCHEMA_KEYS = some.sampled_from(["$ref", "$schema", "$id", "$dynamicRef", "properties", "allOf", "a"])
SCHEMAS = some.recursive(some.one_of(REFERENCES, some.booleans()),
                         lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(SCHEMA_KEYS, inner, max_size=3)), max_leaves=8)


def _packed(name: str, data: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def _leads_out(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_leads_out, value))
    return isinstance(value, dict) and any(
        key in ("$ref", "$dynamicRef") and isinstance(child, str) and child.partition("#")[0] not in ("", "http://json-schema.org/draft-07/schema")
        or _leads_out(child) for key, child in value.items())


@given(SCHEMAS, some.integers(0, 3), some.lists(some.tuples(some.integers(0, 400), some.integers(0, 255)), max_size=3))
def chart(schema: Any, depth: int, damage: List[Any]) -> None:
    """A schema that leads out does not pass, however deep it is packed; a damaged package is a Failure."""
    name, data = "sub/values.schema.json", json.dumps(schema).encode()
    for _level in range(depth):
        data, name = _packed(name, data), "sub/charts/sub.tgz"
    whole = bytearray(data)
    for place, byte in damage:
        if place < len(whole):
            whole[place] = byte
    try:
        subcharts.judge({"charts/sub.tgz" if depth else "values.schema.json": bytes(whole)}, ".")
    except Failure:
        return
    assert bytes(whole) != data or not _leads_out(schema)


# --- what looks into an object's structure --------------------------------------------------------------------------

VERBS = ("get", "list", "patch", "create", "delete", "watch")
SERVED = Resources([Resource(group, version, kind, kind.lower() + "s", True, VERBS) for group, version, kind in (
    ("", "v1", "ConfigMap"), ("", "v1", "Secret"), ("", "v1", "Service"), ("", "v1", "Pod"), ("apps", "v1", "Deployment"), ("apps", "v1", "StatefulSet"),
    ("batch", "v1", "Job"), ("autoscaling", "v2", "HorizontalPodAutoscaler"), ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"), ("", "v1", "PersistentVolumeClaim"))])
CONTAINER = {"name": "c", "image": "x", "env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 80}]}
POD = {"containers": [CONTAINER], "initContainers": [CONTAINER], "volumes": [{"name": "v", "configMap": {"name": "c"}}]}
WORKLOAD = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD}}
STATUS = {"observedGeneration": 1, "replicas": 2, "readyReplicas": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "y"}],
          "phase": "Bound"}
OBJECTS: List[Dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "binaryData": {"c": "eA=="}},
    {"apiVersion": "v1", "kind": "Secret", "data": {"a": "eA=="}, "stringData": {"b": "x"}, "type": "Opaque"},
    {"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}},
    {"apiVersion": "v1", "kind": "Pod", "spec": POD},
    {"apiVersion": "apps/v1", "kind": "Deployment", "spec": WORKLOAD},
    {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {**WORKLOAD, "volumeClaimTemplates": [{"metadata": {"name": "v"}}]}},
    {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": POD}}},
    {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
     "spec": {"minReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}},
    {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {
        "group": "x.io", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}]}},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": {"kind": "Role", "name": "r"},
     "subjects": [{"kind": "User", "name": "u"}]},
    {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"]}},
    {"apiVersion": "x.io/v1", "kind": "Thing", "spec": {"a": [1, 2]}},
]


def _places(value: Any, path: Any = ()) -> List[Any]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in _places(child, (*path, key)))]


@some.composite
def _broken(draw: Any, objects: Any) -> Dict[str, Any]:
    """An object in which a few places hold anything at all."""
    body = copy.deepcopy(draw(some.sampled_from(objects)))
    body["metadata"] = {"name": "a", "namespace": "n", "labels": {"a": "b"}, "annotations": {
        draw(some.sampled_from(["argocd.argoproj.io/sync-wave", "config.kubernetes.io/depends-on", "helm.sh/hook", "a"])):
            draw(some.sampled_from(["1", "x", "/v1/b", ""]))}}
    for _number in range(draw(some.integers(0, 3))):
        place = draw(some.sampled_from(_places(body)[1:]))
        target = body
        for step in place[:-1]:
            target = target[step] if isinstance(target, list) or step in target else {}
        if isinstance(target, (dict, list)) and (isinstance(target, dict) or place[-1] < len(target)):
            target[place[-1]] = draw(VALUES)
    return body


@given(some.lists(_broken(OBJECTS), min_size=1, max_size=3))
def manifests(bodies: List[Dict[str, Any]]) -> None:
    """Whatever Git holds is told by its path, or goes through all that comes before the cluster is asked."""
    documents = [Document(body, "a.yaml", number) for number, body in enumerate(bodies, 1)]
    unknown_kinds(documents, SERVED)
    if any(wrong_with(document) for document in documents):
        return
    normal = [Document(normalise(document.body), document.file, document.line) for document in documents]
    assert [normalise(document.body) for document in normal] == [document.body for document in normal]
    try:
        steps(intents_of(normal, SERVED, "n", {"set": "ours"}, []))
    except Failure as failure:
        assert "a.yaml" in str(failure)


# --- what a server answers ------------------------------------------------------------------------------------------


@given(_broken([{**body, "status": STATUS} for body in OBJECTS]))
def answers(live: Dict[str, Any]) -> None:
    """The health of an object is one of its words, whatever its status holds."""
    assert health(live).message is not None


FIELD_KEYS = some.one_of(some.sampled_from([".", "f:spec", "f:metadata", "f:labels", "f:a", "f:data", "f:containers", 'k:{"name":"c"}', 'k:{"port":80}',
                                            "k:{", "k:[]", "k:{}", 'k:{"name":{}}',
                                            'v:"x"', "v:1", "v:", "v:{}", "i:0", "i:9", "i:x", "i:-1", "x:y", "f:", ""]),
                         some.text(max_size=6))
FIELDS_V1 = some.recursive(some.just({}), lambda inner: some.dictionaries(FIELD_KEYS, inner, max_size=4), max_leaves=10)


@given(_broken([body for body in OBJECTS if "spec" in body or "data" in body]), FIELDS_V1, FIELDS_V1)
def fields_v1(body: Dict[str, Any], ours: Dict[str, Any], theirs: Dict[str, Any]) -> None:
    """managedFields may say anything: what cannot be proven is a finding."""
    if wrong_with(Document(body, "a.yaml", 1)):
        return
    live = copy.deepcopy(body)
    live["metadata"]["managedFields"] = [
        {"manager": ownership.FIELD_MANAGER, "operation": "Apply", "apiVersion": body["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": ours},
        {"manager": "kubectl-edit", "operation": "Update", "apiVersion": body["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": theirs}]
    ownership.examine(body, live)
    ownership.leftovers(live, body)
    ownership.contested(body, live)
    ownership.dotted(tuple(theirs))


# --- a kubeconfig and a tree of Git ---------------------------------------------------------------------------------


@given(VALUES)
def kubeconfig(value: Any) -> None:
    """A kubeconfig given as a value is taken, or refused with a TypeError, which Ansible tells as a wrong option."""
    try:
        taken = kubeconfig_value(value)
    except TypeError:
        return
    assert str(taken) is not None


@given(some.one_of(some.binary(max_size=80),
                   some.lists(some.tuples(some.sampled_from([b"40000", b"100644", b"120000", b"160000", b"0", b"9" * 30]), some.binary(max_size=8)),
                              max_size=4).map(lambda items: b"".join(mode + b" " + name + b"\0" + bytes(20) for mode, name in items))))
def git_tree(data: bytes) -> None:
    """A tree object is entries, or damaged."""
    try:
        entries = list(_entries(data, 40))
    except Damaged:
        return
    assert all(len(entry.oid) == 40 for entry in entries)


TARGETS: Dict[str, Callable[[], None]] = {function.__name__: function for function in (
    loader, kustomization, chart, manifests, answers, fields_v1, kubeconfig, git_tree)}
