# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task asks to be sealed, as values: from its options, or from Secrets in a manifest."""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import SCOPE_ANNOTATIONS, STRICT, scope_of
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import manifests, objects

# Copies of the whole object, its values included, that other tools leave on a live one.
LAST_APPLIED = ("kubectl.kubernetes.io/last-applied-configuration", "kubecfg.ksonnet.io/last-applied-configuration")
MAX_SECRET = 1 << 20  # of Kubernetes, all values together
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True)
class Wanted:
    """A Secret that is to be sealed. It prints without its values."""

    name: str
    namespace: str
    scope: Optional[str]  # None: as the file has it
    values: Mapping[str, bytes] = field(repr=False)
    type: Optional[str] = None
    immutable: Optional[bool] = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    template: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    def __post_init__(self) -> None:
        where = self.where
        if self.name and not _NAME.match(self.name):
            raise Failure(f"{self.name!r} is not a valid name of a Secret", where, "Lower-case letters, digits, - and . are allowed.")
        if self.namespace and not _NAMESPACE.match(self.namespace):
            raise Failure(f"{self.namespace!r} is not a valid namespace", where)
        wrong = sorted(key for key in [*self.values, *self.template] if not _KEY.match(key) or key in (".", ".."))
        if wrong:
            raise Failure(f"{wrong[0]!r} is not a valid key of a Secret", where, "Letters, digits, -, _ and . are allowed.")
        total = sum(map(len, self.values.values()))
        if total > MAX_SECRET:
            raise Failure(f"its values have {total} bytes, the limit for one Secret is {MAX_SECRET}", where)
        for name in self.annotations:
            if name in SCOPE_ANNOTATIONS.values():
                raise Failure(f"the annotation {name} would change the scope", where, "Use the option scope.")

    def newlines(self) -> List[str]:
        """Keys whose value is one line that ends in a newline: seldom meant, and a login with it fails."""
        return sorted(key for key, value in self.values.items() if value.endswith(b"\n") and value.count(b"\n") == 1 and len(value) > 1)


def of_options(params: Mapping[str, Any]) -> Wanted:
    """The one Secret of the options name, namespace, data, data_base64, data_files and what describes it."""
    values: Dict[str, bytes] = {}
    for option, read in (("data", _text), ("data_base64", _base64), ("data_files", _file)):
        for key, value in (params.get(option) or {}).items():
            if key in values:
                raise Failure(f"the key {key} is given twice", option)
            values[str(key)] = read(value, f"{option}.{key}")
    return Wanted(params.get("name") or "", params.get("namespace") or "", params.get("scope"), values, params.get("type"), params.get("immutable"),
                  _strings(params, "labels"), _strings(params, "annotations"), _strings(params, "template"))


def of_manifest(data: bytes, where: str, params: Mapping[str, Any]) -> List[Wanted]:
    """Every Secret of a manifest: each document, each item of a List. All of them, or a Failure that names the bad one."""
    documents = manifests(data, where)
    found = []
    for number, document in enumerate(documents, 1):
        for place, body in objects(document.body):
            at = f"{where}, document {number}" + (f", item {place[0] + 1}" if place else "")
            if body.get("kind") != "Secret" or body.get("apiVersion") != "v1":
                raise Failure(f"is a {body.get('kind') or 'document without a kind'}, not a Secret", at, "Only Secrets of the API version v1 can be sealed.")
            found.append(_of_secret(body, at, params))
    if not found:
        raise Failure("holds no Secret", where, "It is empty, or only comments.")
    return found


def _of_secret(body: Mapping[str, Any], at: str, params: Mapping[str, Any]) -> Wanted:
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise Failure("has no metadata", at)
    at = f"{at} ({metadata.get('name') or 'without a name'})"
    values: Dict[str, bytes] = {}
    for option, read in (("data", _base64), ("stringData", _text)):  # stringData wins, as in the API server
        part = body.get(option) or {}
        if not isinstance(part, dict):
            raise Failure(f"{option} is no mapping", at)
        values.update({str(key): read(value, f"{at}: {option}.{key}") for key, value in part.items()})
    name, namespace = str(metadata.get("name") or ""), str(metadata.get("namespace") or "")
    if not name:
        raise Failure("has no name", at, "Give it metadata.name.")
    if params.get("namespace") and namespace and namespace != params["namespace"]:
        raise Failure(f"is in the namespace {namespace}, the option says {params['namespace']}", at)
    if not values:
        raise Failure("has no value", at, "data and stringData are empty.")
    annotations = _strings(metadata, "annotations", at)
    stated = scope_of(annotations)
    kept = {key: value for key, value in annotations.items() if key not in LAST_APPLIED and key not in SCOPE_ANNOTATIONS.values()}
    scope = params.get("scope") or (stated if stated != STRICT else None)
    return Wanted(name, namespace or params.get("namespace") or "", scope, values, body.get("type"), body.get("immutable"),
                  _strings(metadata, "labels", at), kept, {}, at)


def _strings(params: Mapping[str, Any], option: str, where: str = "") -> Dict[str, str]:
    given = params.get(option) or {}
    if not isinstance(given, dict):
        raise Failure(f"{option} is no mapping", where)
    wrong = sorted(str(key) for key, value in given.items() if not isinstance(value, str))
    if wrong:
        raise Failure(f"{option}.{wrong[0]} is no text", where, "Quote it.")
    return {str(key): str(value) for key, value in given.items()}


def _text(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise Failure(f"is of the type {type(value).__name__}, not text", where, "Quote it: which bytes are meant would be a guess.")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise Failure("is no valid Unicode text", where, "Give binary values as base64.") from None


def _base64(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode("".join(str(value or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise Failure("is not base64", where) from None


def _file(value: Any, where: str) -> bytes:
    try:
        with open(os.path.expanduser(str(value)), "rb") as stream:
            return stream.read(MAX_SECRET + 1)
    except OSError as error:
        raise Failure(f"the file {value} cannot be read: {error.strerror}", where) from None
