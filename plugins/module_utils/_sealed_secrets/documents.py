# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SealedSecrets in files: every document counts, and so does every item of a List."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import label, scope_of
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.rewrite import render, rewrite
from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole

API_VERSION, KIND = "bitnami.com/v1alpha1", "SealedSecret"
SUFFIXES = (".yaml", ".yml", ".json")

Body = Dict[str, Any]


@dataclass(frozen=True)
class Sealed:
    """One SealedSecret, and where it stands."""

    body: Body
    where: str
    fallback: str = ""  # the namespace of one that names none

    @property
    def metadata(self) -> Body:
        return self.body.get("metadata") or {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        return str(self.metadata.get("namespace") or self.fallback)

    @property
    def scope(self) -> str:
        """What the controller opens it with: the annotations of the SealedSecret itself, never those of its template."""
        return scope_of(self.metadata.get("annotations"))

    @property
    def bound_to(self) -> bytes:
        return label(self.scope, self.namespace, self.name)

    @property
    def blobs(self) -> Dict[str, str]:
        return {str(key): str(blob) for key, blob in ((self.body.get("spec") or {}).get("encryptedData") or {}).items()}

    def __str__(self) -> str:
        return f"{self.where}: SealedSecret {self.namespace + '/' if self.namespace else ''}{self.name}"


def objects(body: Any) -> Iterator[Tuple[Tuple[int, ...], Body]]:
    """(place, object) of a document: itself, or each item of a List."""
    if isinstance(body, dict) and str(body.get("kind", "")).endswith("List") and isinstance(body.get("items"), list):
        for number, item in enumerate(body["items"]):
            if isinstance(item, dict):
                yield (number,), item
    elif isinstance(body, dict):
        yield (), body


class File:
    """A file of manifests as it is now."""

    def __init__(self, path: str, shown: str = "") -> None:
        self.path, self.shown = path, shown or path
        self.exists = os.path.lexists(path)
        if os.path.islink(path):
            raise Failure("is a symbolic link", self.shown, "Name the file that it leads to.")
        if self.exists and not os.path.isfile(path):
            raise Failure("is no regular file", self.shown)
        self.data = b""
        if self.exists:
            try:
                with open(path, "rb") as stream:
                    self.data = stream.read(yaml_strict.MAX_FILE + 1)
                self.mode = os.stat(path).st_mode & 0o7777
            except OSError as error:
                raise Failure(f"cannot be read: {error.strerror}", self.shown) from None
        self.documents = manifests(self.data, self.shown)
        self.bodies = [document.body for document in self.documents]

    def sealed(self, namespace: str = "") -> List[Tuple[Tuple[int, ...], Sealed]]:
        """(place, SealedSecret) of each; the place is the document's number and, in a List, the item's."""
        found = []
        for number, document in enumerate(self.documents):
            lines = document.item_lines
            for place, body in objects(document.body):
                if body.get("kind") == KIND and str(body.get("apiVersion", "")).startswith("bitnami.com/"):
                    line = lines[place[0]] if place and len(lines) > place[0] else document.line
                    where = f"{self.shown}:{line}"
                    check(body, where)
                    found.append(((number, *place), Sealed(body, where, namespace)))
        return found

    def replaced(self, changes: Mapping[Tuple[int, ...], Body], added: List[Body]) -> bytes:
        """The file's bytes with these SealedSecrets changed and those added at its end."""
        bodies = [_with(body, {place[1:]: changed for place, changed in changes.items() if place[0] == number}) for number, body in enumerate(self.bodies)]
        data = rewrite(self.data, self.shown, bodies) if self.bodies else self.data
        for body in added:
            data = data + (b"" if not data or data.endswith(b"\n") else b"\n") + b"---\n" + render(body).encode()
        return data

    def write(self, data: bytes) -> None:
        """Whole or not at all, with the mode that it had."""
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        write_whole(self.path, data, self.mode if self.exists else 0o644)


def manifests(data: bytes, where: str) -> List[yaml_strict.Parsed]:
    """All documents, or a Failure with the first thing that is wrong."""
    documents, failures = yaml_strict.parse(data, where)
    if failures:
        raise failures[0]
    return documents


def check(body: Body, where: str) -> None:
    """A SealedSecret whose parts have the types that the rest relies on."""
    for path in (("metadata",), ("metadata", "annotations"), ("spec",), ("spec", "encryptedData"), ("spec", "template"), ("spec", "template", "metadata"),
                 ("spec", "template", "metadata", "annotations"), ("spec", "template", "data")):
        part: Any = body
        for step in path:
            part = part.get(step) if isinstance(part, dict) else None
            part = {} if part is None else part
        if not isinstance(part, dict):
            raise Failure(f"{'.'.join(path)} of this SealedSecret is no mapping", where)
    blobs = (body.get("spec") or {}).get("encryptedData") or {}
    wrong = sorted(key for key, blob in blobs.items() if not isinstance(blob, str))
    if wrong:
        raise Failure(f"encryptedData.{wrong[0]} is no text", where)
    if (body.get("spec") or {}).get("data"):
        raise Failure("has spec.data, the form of sealed-secrets before 0.7 with all values in one", where, "Seal it anew with encryptedData.")


def files(path: str) -> List[str]:
    """The file itself, or all manifests below a folder that speak of SealedSecrets, in their order."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise Failure("does not exist", path)
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            file = os.path.join(folder, name)
            if name.endswith(SUFFIXES) and not os.path.islink(file) and os.path.isfile(file):
                with open(file, "rb") as stream:
                    data = stream.read(yaml_strict.MAX_FILE + 1)
                if KIND.encode() in data or len(data) > yaml_strict.MAX_FILE:  # one that is too large is not passed over, but refused where it is read
                    found.append(file)
    return found


def find(sealed: List[Tuple[Tuple[int, ...], Sealed]], name: str, namespace: Optional[str]) -> List[Tuple[Tuple[int, ...], Sealed]]:
    """Those of a name; of a namespace too, where it is stated on both sides."""
    return [(place, one) for place, one in sealed
            if (not name or one.name == name) and (not namespace or not one.namespace or one.namespace == namespace)]


def _with(body: Any, changes: Mapping[Tuple[int, ...], Body]) -> Any:
    if () in changes:
        return changes[()]
    if not changes:
        return body
    items = [changes.get((number,), item) for number, item in enumerate(body["items"])]
    return {**body, "items": items}
