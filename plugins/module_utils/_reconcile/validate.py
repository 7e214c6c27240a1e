# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be said about one object without a cluster: each rule yields every field it refuses, by its path."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import BUILT_IN_GROUPS, Body, Document
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERRORS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import is_marked

# etcd refuses a request of more than 1.5 MiB (--max-request-bytes), whatever the API server accepts.
MAX_OBJECT = 1_572_864
# What the values of one ConfigMap or Secret may take (MaxSecretSize of the API's own validation).
MAX_DATA = 1_048_576


class Wrong(NamedTuple):
    """One refused field. No value of a Secret may be put into `what`."""

    field: str
    what: str
    hint: str = ""


Rule = Callable[[Body], Iterator[Wrong]]

_QUOTE = "Quote it."
_QUOTE_BOOLEAN = "Quote it: YAML reads yes, no, on, off, y and n as booleans."
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_QUALIFIED = re.compile(r"(?:[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?\Z")
_API_VERSION = re.compile(r"(?:[a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", re.IGNORECASE)
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]*\Z")
_NO_NAME = re.compile(r"[/%\s\x00-\x1f\x7f]")  # what the API server refuses in a path segment, or what is surely a slip
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")

_TYPES = {bool: "a boolean", int: "an integer", float: "a number", type(None): "null", dict: "a mapping", list: "a list",
          str: "a string"}


def type_of(value: Any) -> str:
    return _TYPES.get(type(value), type(value).__name__)


def not_a_string(field: str, value: Any) -> Wrong:
    """The commonest slip of all: a value that YAML takes for something else than the text it looks like."""
    hint = _QUOTE_BOOLEAN if isinstance(value, bool) else _QUOTE if isinstance(value, (int, float)) else ""
    return Wrong(field, f"is {type_of(value)}, must be a string", hint)


def describe(body: Body) -> str:
    """The object as a message names it, however incomplete it is."""
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    kind = body.get("kind") if isinstance(body.get("kind"), str) else "object"
    path = "/".join(str(part) for part in (namespace, name) if isinstance(part, (str, int, float)) and part != "")
    return f"{kind} {path}" if path else f"{kind} without a name"


def identity(body: Body) -> Iterator[Wrong]:
    for field, pattern in (("apiVersion", _API_VERSION), ("kind", _KIND)):
        value = body.get(field)
        if value is None or value == "":
            yield Wrong(field, "is missing", "If the file is no manifest, leave it out with `exclude`.")
        elif not isinstance(value, str):
            yield not_a_string(field, value)
        elif not pattern.match(value):
            yield Wrong(field, f"{value!r} is malformed")


def metadata_is_a_mapping(body: Body) -> Iterator[Wrong]:
    if not isinstance(body.get("metadata", {}), (dict, type(None))):
        yield Wrong("metadata", f"is {type_of(body['metadata'])}, must be a mapping")


# Kinds whose names are whatever a path may hold; Namespaces and Services are labels of a host name.
_ANY_NAME = ("rbac.authorization.k8s.io",)
_LABEL_NAMES = (("v1", "Namespace"), ("v1", "Service"))


def name(body: Body) -> Iterator[Wrong]:
    metadata = _mapping(body.get("metadata"))
    value = metadata.get("name")
    if value is None or value == "":
        if isinstance(metadata.get("generateName"), str) and metadata["generateName"] and is_marked(body):
            yield from _built_in_name(body, metadata["generateName"] + "a")  # a hook has a name of its own at each commit
        elif metadata.get("generateName"):
            yield Wrong("metadata.generateName", "gives the object another name on every run",
                        "Give it a fixed metadata.name.")
        else:
            yield Wrong("metadata.name", "is missing")
    elif not isinstance(value, str):
        yield not_a_string("metadata.name", value)
    elif len(value) > 253 or value in (".", "..") or _NO_NAME.search(value):
        yield Wrong("metadata.name", f"{value[:60]!r} is no valid name",
                    "A name has at most 253 characters, no white space, no / and no %.")
    else:
        yield from _built_in_name(body, value)


def _built_in_name(body: Body, value: str) -> Iterator[Wrong]:
    """What the API server itself says of the names of its own kinds; of others their definition decides."""
    version = str(body.get("apiVersion"))
    group = version.rpartition("/")[0]
    if group not in BUILT_IN_GROUPS or group in _ANY_NAME or body.get("kind") == "IPAddress":
        return
    if (version, body.get("kind")) in _LABEL_NAMES:
        if not _NAMESPACE.match(value):
            yield Wrong("metadata.name", f"{value[:80]!r} is no valid name",
                        "At most 63 lower-case letters, digits and dashes, no dash at either end.")
    elif not _SUBDOMAIN.match(value):
        yield Wrong("metadata.name", f"{value[:80]!r} is no valid name",
                    "At most 253 lower-case letters, digits, dashes and dots; each part between dots begins and ends with a letter or digit.")


def namespace(body: Body) -> Iterator[Wrong]:
    value = _mapping(body.get("metadata")).get("namespace")
    if value is None or value == "":
        return
    if not isinstance(value, str):
        yield not_a_string("metadata.namespace", value)
    elif not _NAMESPACE.match(value):
        yield Wrong("metadata.namespace", f"{value[:80]!r} is no valid namespace",
                    "At most 63 lower-case letters, digits and dashes, no dash at either end.")


# Where a built-in kind holds the metadata of what it creates.
_TEMPLATES: Tuple[Tuple[str, ...], ...] = (
    ("spec", "template"), ("spec", "jobTemplate"), ("spec", "jobTemplate", "spec", "template"), ("template",),
)


def labels_and_annotations(body: Body) -> Iterator[Wrong]:
    yield from _strings(body, ("metadata",), ("labels", "annotations"))
    for path in _TEMPLATES:
        yield from _strings(body, path + ("metadata",), ("labels", "annotations"))


def selectors(body: Body) -> Iterator[Wrong]:
    if body.get("apiVersion") == "v1":
        yield from _strings(body, ("spec",), ("selector",), kinds=("Service", "ReplicationController"))
    elif str(body.get("apiVersion")).startswith(("apps/", "batch/", "policy/")):
        yield from _strings(body, ("spec", "selector"), ("matchLabels",))


def _strings(body: Body, path: Tuple[str, ...], fields: Tuple[str, ...], kinds: Tuple[str, ...] = ()) -> Iterator[Wrong]:
    if kinds and body.get("kind") not in kinds:
        return
    parent: Any = body
    for step in path:
        parent = parent.get(step) if isinstance(parent, dict) else None
    if not isinstance(parent, dict):
        return
    for field in fields:
        mapping = parent.get(field)
        where = ".".join(path + (field,))
        if mapping is None:
            continue
        if not isinstance(mapping, dict):
            yield Wrong(where, f"is {type_of(mapping)}, must be a mapping")
            continue
        for key, value in mapping.items():
            key = str(key)
            if not isinstance(value, str):
                yield not_a_string(f"{where}[{key[:80]}]", value)
            yield from _label_or_annotation(field, where, key, value)


def _label_or_annotation(field: str, where: str, key: str, value: Any) -> Iterator[Wrong]:
    if field not in ("labels", "annotations", "matchLabels", "selector"):
        return
    if not _QUALIFIED.match(key if field != "annotations" else key.lower()) or len(key.partition("/")[0]) > 253:
        yield Wrong(f"{where}[{key[:80]}]", "is no valid key",
                    "At most 63 letters, digits, dashes, underscores and dots, a letter or digit at both ends; in front a host name and a slash.")
    elif field != "annotations" and isinstance(value, str) and not _LABEL_VALUE.match(value):
        yield Wrong(f"{where}[{key}]", f"{value[:80]!r} is no valid label",
                    "At most 63 letters, digits, dashes, underscores and dots, a letter or digit at both ends.")


_POD_SPECS: Dict[str, Tuple[str, ...]] = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "PodTemplate": ("template", "spec"),
    **{kind: ("spec", "template", "spec") for kind in (
        "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job")},
}
_POD_GROUPS = ("v1", "apps/v1", "batch/v1")


def containers(body: Body) -> Iterator[Tuple[str, Body]]:
    """Every container of a built-in workload with the path it has in the object."""
    path = _POD_SPECS.get(str(body.get("kind"))) if body.get("apiVersion") in _POD_GROUPS else None
    if path is None:
        return
    spec: Any = body
    for step in path:
        spec = spec.get(step) if isinstance(spec, dict) else None
    if not isinstance(spec, dict):
        return
    for field in ("initContainers", "containers", "ephemeralContainers"):
        items = spec.get(field)
        for index, container in enumerate(items if isinstance(items, list) else ()):
            if isinstance(container, dict):
                yield f"{'.'.join(path)}.{field}[{container.get('name', index)}]", container


def environment(body: Body) -> Iterator[Wrong]:
    for path, container in containers(body):
        for field in ("command", "args"):
            texts = container.get(field)
            for index, text in enumerate(texts if isinstance(texts, list) else ()):
                if not isinstance(text, str):
                    yield not_a_string(f"{path}.{field}[{index}]", text)
        variables = container.get("env")
        for variable in variables if isinstance(variables, list) else ():
            if isinstance(variable, dict) and not isinstance(variable.get("value", ""), (str, type(None))):
                yield not_a_string(f"{path}.env[{variable.get('name')}].value", variable["value"])


def config_map(body: Body) -> Iterator[Wrong]:
    if body.get("apiVersion") == "v1" and body.get("kind") == "ConfigMap":
        yield from _strings(body, (), ("data",))
        yield from _base64(body, "binaryData")
        yield from _data_keys(body, ("data", "binaryData"))


def secret(body: Body) -> Iterator[Wrong]:
    if body.get("apiVersion") == "v1" and body.get("kind") == "Secret":
        yield from _strings(body, (), ("stringData",))
        yield from _base64(body, "data")
        yield from _data_keys(body, ("data", "stringData"))


def _base64(body: Body, field: str) -> Iterator[Wrong]:
    values = body.get(field)
    if values is None:
        return
    if not isinstance(values, dict):
        yield Wrong(field, f"is {type_of(values)}, must be a mapping")
        return
    for key, value in values.items():
        if not isinstance(value, str):
            yield not_a_string(f"{field}[{key}]", value)
        elif not _BASE64.match(value.replace("\n", "").replace("\r", "")):
            hint = "Encode it, or put the plain text under stringData." if field == "data" else "Encode it."
            yield Wrong(f"{field}[{key}]", "is not valid base64", hint)


def _data_keys(body: Body, fields: Tuple[str, ...]) -> Iterator[Wrong]:
    for field in fields:
        for key in _mapping(body.get(field)):
            if not _DATA_KEY.match(key) or key in (".", ".."):
                yield Wrong(f"{field}[{key[:60]}]", "is no valid key",
                            "A key has at most 253 letters, digits, dashes, underscores and dots.")


# Where a kind whose values are limited together holds them: as they are, and in base64.
_VALUES = {"ConfigMap": ("data", "binaryData"), "Secret": ("stringData", "data")}


class Field(NamedTuple):
    """A field of a kind that later stages look into, and what must be there where it is set."""

    path: Tuple[str, ...]  # "*" is each item of a list
    type: type
    required: bool = False


# Kubernetes itself would refuse another type, but only when the object is applied, with others already written.
_TARGET = (Field(("spec",), dict), Field(("spec", "scaleTargetRef"), dict),
           *(Field(("spec", "scaleTargetRef", name), str) for name in ("apiVersion", "kind", "name")))
_WORKLOAD = (Field(("spec",), dict), Field(("spec", "template"), dict), Field(("spec", "template", "spec"), dict),
             Field(("spec", "template", "spec", "containers"), list), Field(("spec", "template", "spec", "containers", "*"), dict))
STRUCTURES: Dict[Tuple[str, str], Tuple[Field, ...]] = {
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        Field(("spec",), dict), Field(("spec", "group"), str, True), Field(("spec", "scope"), str, True),
        Field(("spec", "names"), dict, True), Field(("spec", "names", "kind"), str, True), Field(("spec", "names", "plural"), str, True),
        Field(("spec", "versions"), list, True), Field(("spec", "versions", "*"), dict), Field(("spec", "versions", "*", "name"), str, True),
        Field(("spec", "versions", "*", "served"), bool, True), Field(("spec", "versions", "*", "storage"), bool, True),
        Field(("spec", "versions", "*", "schema"), dict), Field(("spec", "versions", "*", "schema", "openAPIV3Schema"), dict),
        Field(("spec", "conversion"), dict), Field(("spec", "conversion", "webhook"), dict),
        Field(("spec", "conversion", "webhook", "clientConfig"), dict)),
    ("autoscaling", "HorizontalPodAutoscaler"): (*_TARGET, Field(("spec", "minReplicas"), int)),
    ("keda.sh", "ScaledObject"): (*_TARGET, Field(("spec", "minReplicaCount"), int)),
    **{("apps", kind): _WORKLOAD for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")},
    ("batch", "Job"): _WORKLOAD,
    ("", "Pod"): (Field(("spec",), dict), Field(("spec", "containers"), list), Field(("spec", "containers", "*"), dict)),
    ("", "Service"): (Field(("spec",), dict), Field(("spec", "ports"), list), Field(("spec", "ports", "*"), dict)),
    ("", "PersistentVolumeClaim"): (Field(("spec",), dict),),
    **{("rbac.authorization.k8s.io", kind): (Field(("roleRef",), dict), Field(("subjects",), list), Field(("subjects", "*"), dict))
       for kind in ("RoleBinding", "ClusterRoleBinding")},
    **{("rbac.authorization.k8s.io", kind): (Field(("rules",), list), Field(("rules", "*"), dict), Field(("aggregationRule",), dict))
       for kind in ("Role", "ClusterRole")},
}


def structure(body: Body) -> Iterator[Wrong]:
    kind = (str(body.get("apiVersion")).rpartition("/")[0], str(body.get("kind")))
    for field in STRUCTURES.get(kind, ()):
        yield from _typed(body, field.path, field, "")


def _typed(value: Any, path: Tuple[str, ...], field: Field, where: str) -> Iterator[Wrong]:
    """What is wrong at one field; a parent of another type is told by its own row."""
    step, rest = path[0], path[1:]
    if step == "*":
        for index, item in enumerate(value if isinstance(value, list) else ()):
            if rest:
                yield from _typed(item, rest, field, f"{where}[{index}]")
            elif not isinstance(item, field.type):
                yield Wrong(f"{where}[{index}]", f"is {type_of(item)}, must be {_TYPES[field.type]}")
        return
    if not isinstance(value, dict):
        return
    inner, place = value.get(step), f"{where}.{step}" if where else step
    if rest:
        yield from _typed(inner, rest, field, place)
    elif inner is None:
        if field.required:
            yield Wrong(place, f"is missing, must be {_TYPES[field.type]}")
    elif not isinstance(inner, field.type) or field.type is int and isinstance(inner, bool):
        yield Wrong(place, f"is {type_of(inner)}, must be {_TYPES[field.type]}")


def size(body: Body) -> Iterator[Wrong]:
    plain, encoded = _VALUES.get(str(body.get("kind")), ("", "")) if body.get("apiVersion") == "v1" else ("", "")
    lengths = {f"{encoded}[{key[:60]}]": len(value) * 3 // 4 - value.count("=")
               for key, value in _mapping(body.get(encoded)).items()
               if isinstance(value, str) and key not in _mapping(body.get(plain))}
    lengths.update((f"{plain}[{key[:60]}]", len(value.encode("utf-8", "replace")))
                   for key, value in _mapping(body.get(plain)).items() if isinstance(value, str))
    if sum(lengths.values()) > MAX_DATA:
        largest = max(lengths, key=lambda field: lengths[field])
        yield Wrong(largest.partition("[")[0], f"holds {sum(lengths.values())} bytes, a {body['kind']} takes at most {MAX_DATA}; "
                    f"the largest is {largest}", "Split it.")
        return
    length = len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
    if length > MAX_OBJECT:
        yield Wrong("", f"is {length} bytes, etcd takes at most {MAX_OBJECT}", "Split it.")


def _mapping(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}


RULES: Tuple[Rule, ...] = (
    identity, metadata_is_a_mapping, name, namespace, labels_and_annotations, selectors, structure, environment, config_map, secret,
    size,
)


def wrong_with(document: Document) -> List[Failure]:
    """Everything the rules refuse in one document, each as a Failure of its own."""
    body = document.body
    if body.get("apiVersion") is None and body.get("kind") is None:
        return [Failure("holds no Kubernetes object: apiVersion and kind are missing", document.where,
                        "If the file is no manifest, leave it out with `exclude`.")]
    return [
        Failure(
            f"{describe(body)}: {wrong.field + ' ' if wrong.field else ''}{wrong.what}", document.where, wrong.hint,
            object=describe(body), field=wrong.field,
        )
        for wrong in itertools.islice((wrong for rule in RULES for wrong in rule(body)), ERRORS)
    ]
