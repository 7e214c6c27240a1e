# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file's SealedSecret and a wanted Secret: the SealedSecret as it has to be, with the blobs kept whose value did not change."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import template
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import CLUSTER_WIDE, SCOPE_ANNOTATIONS, SCOPES, STRICT, label, seal
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import API_VERSION, KIND, Body, Sealed
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.proof import (
    FINGERPRINTS,
    Fingerprints,
    PrivateKeys,
    Proof,
    read_fingerprints,
    write_fingerprints,
)
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.wanted import Wanted

SHORTEST_LEAK = 8  # bytes of a value that are looked for in what is not sealed


@dataclass(frozen=True)
class Options:
    """How to seal."""

    certificate: Certificate
    proofs: Sequence[Proof] = ()
    fingerprints: Optional[Fingerprints] = None
    merge: bool = True
    allow_wider_scope: bool = False


@dataclass
class Outcome:
    """The SealedSecret as it has to be, and what became of each key."""

    body: Body
    name: str
    namespace: str
    scope: str
    sealed: List[str] = field(default_factory=list)
    kept: Dict[str, str] = field(default_factory=dict)  # key -> by which proof
    removed: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def sealed_secret(existing: Optional[Sealed], wanted: Wanted, options: Options) -> Outcome:
    """The new SealedSecret; the old one is not touched."""
    name = wanted.name or (existing.name if existing else "")
    namespace = wanted.namespace or (existing.namespace if existing else "")
    where = wanted.where or (str(existing) if existing else "")
    if not name:
        raise Failure("the SealedSecret has no name", where, "Give the option name.")
    scope = _scope(existing, wanted, options, where)
    if scope != CLUSTER_WIDE and not namespace:
        raise Failure(f"a value of the scope {scope} is bound to a namespace, and none is given", where,
                      "Give the option namespace, or state it in the file. The kubeconfig's own namespace is never used.")
    body = copy.deepcopy(existing.body) if existing else _new(name, namespace)
    outcome = Outcome(body, name, namespace, scope)
    _seal_values(outcome, existing, wanted, options, label(scope, namespace, name))
    _describe(outcome, wanted, options)
    problems = _template_problems(outcome)
    if problems:
        raise Failure(problems[0], where)
    return outcome


def _scope(existing: Optional[Sealed], wanted: Wanted, options: Options, where: str) -> str:
    before = existing.scope if existing else None
    scope = wanted.scope or before or STRICT
    if before and SCOPES.index(scope) > SCOPES.index(before) and not options.allow_wider_scope:
        raise Refused(f"the scope would be widened from {before} to {scope}", where,
                      "Then the values can be opened under other names. Set allow_wider_scope if that is meant.")
    return scope


def _new(name: str, namespace: str) -> Body:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": dict(metadata), "spec": {"encryptedData": {}, "template": {"metadata": dict(metadata)}}}


def _seal_values(outcome: Outcome, existing: Optional[Sealed], wanted: Wanted, options: Options, bound_to: bytes) -> None:
    blobs: Dict[str, str] = existing.blobs if existing else {}
    rebound = existing is not None and existing.bound_to != bound_to
    values = dict(wanted.values)
    if existing and rebound and options.merge:
        values.update(_opened(existing, [key for key in blobs if key not in values], options))
    marks: Dict[str, str] = {}
    after: Dict[str, str] = {}
    for key in [*blobs, *sorted(set(values) - set(blobs))]:
        if key not in values:
            if options.merge:
                after[key] = blobs[key]
            else:
                outcome.removed.append(key)
            continue
        proof = None if existing is None or rebound or key not in blobs else _proof(existing, key, values[key], options.proofs)
        if proof:
            after[key] = blobs[key]
            outcome.kept[key] = proof
        else:
            after[key] = seal(options.certificate.public_key, values[key], bound_to)
            outcome.sealed.append(key)
        if options.fingerprints:
            marks[key] = options.fingerprints.of(bound_to, key, after[key], values[key])
    if not after:
        raise Failure("no value is left to seal", wanted.where or str(existing or outcome.name), "Give data, data_base64 or data_files.")
    outcome.body.setdefault("spec", {})["encryptedData"] = after
    unknown = sorted(set(outcome.sealed) & set(blobs))
    if unknown and not rebound and existing and not _can_tell(existing, unknown, options):
        outcome.notes.append(f"{existing}: nothing told whether {', '.join(unknown)} changed, so it was sealed anew. A backup of the keys, a "
                             "fingerprint_key or the live Secret tells.")
    _annotate(outcome, marks, options)


def _opened(existing: Sealed, keys: Sequence[str], options: Options) -> Dict[str, bytes]:
    """The values of keys that are not given but have to be bound to another scope, namespace or name."""
    found: Dict[str, bytes] = {}
    for key in keys:
        for proof in options.proofs:
            value = proof.open(existing, key) if isinstance(proof, PrivateKeys) else None
            if value is not None:
                found[key] = value
                break
        else:
            raise Failure(f"the value of {key} is bound to another scope, namespace or name, and cannot be opened to seal it anew", str(existing),
                          "Give its value, or a backup of the keys.")
    return found


def _proof(existing: Sealed, key: str, value: bytes, proofs: Sequence[Proof]) -> Optional[str]:
    for proof in proofs:
        same = proof.same(existing, key, value)
        if same is not None:
            return proof.name if same else None
    return None


def _can_tell(existing: Sealed, keys: Sequence[str], options: Options) -> bool:
    """A fingerprint that is there and differs, or a key that opened the blob, says that the value is another one."""
    marks = read_fingerprints(existing.metadata.get("annotations") or {}) if options.fingerprints else {}
    for key in keys:
        opens = any(isinstance(proof, PrivateKeys) and proof.open(existing, key) is not None for proof in options.proofs)
        live = any(proof.name == "live Secret" for proof in options.proofs)
        if key not in marks and not opens and not live:
            return False
    return True


def _annotate(outcome: Outcome, marks: Mapping[str, str], options: Options) -> None:
    """Scope on the SealedSecret and on its template, which always agree; fingerprints on the SealedSecret alone."""
    metadata = outcome.body.setdefault("metadata", {})
    wanted = {name: "true" for scope, name in SCOPE_ANNOTATIONS.items() if scope == outcome.scope}
    inner = (outcome.body["spec"].get("template") or {}).get("metadata") or {}
    for part in (metadata, _template(outcome, "metadata") if wanted else inner):
        annotations = {name: value for name, value in (part.get("annotations") or {}).items() if name not in SCOPE_ANNOTATIONS.values() or name in wanted}
        annotations.update(wanted)
        if part is metadata and options.fingerprints:
            after = outcome.body["spec"]["encryptedData"]
            kept = {key: mark for key, mark in read_fingerprints(annotations).items() if key in after}
            annotations[FINGERPRINTS] = write_fingerprints({**kept, **marks})
        if annotations:
            part["annotations"] = annotations
        elif part.get("annotations"):
            del part["annotations"]


def _template(outcome: Outcome, name: str) -> Body:
    """spec.template, or its metadata, made where it is missing: most SealedSecrets need none."""
    spec_template: Body = outcome.body["spec"].get("template") or {}
    outcome.body["spec"]["template"] = spec_template
    if name != "metadata":
        return spec_template
    if not spec_template.get("metadata"):
        spec_template["metadata"] = {"name": outcome.name, **({"namespace": outcome.namespace} if outcome.namespace else {})}
    metadata: Body = spec_template["metadata"]
    return metadata


def _describe(outcome: Outcome, wanted: Wanted, options: Options) -> None:
    for name, value in (("type", wanted.type), ("immutable", wanted.immutable)):
        if value is not None:
            _template(outcome, "")[name] = value
    for name in ("labels", "annotations"):
        given = getattr(wanted, name)
        if given:
            metadata = _template(outcome, "metadata")
            metadata[name] = {**(metadata.get(name) or {}), **given}
    if wanted.template:
        spec_template = _template(outcome, "")
        spec_template["data"] = {**((spec_template.get("data") or {}) if options.merge else {}), **wanted.template}


def _template_problems(outcome: Outcome) -> List[str]:
    keys = set(outcome.body["spec"]["encryptedData"])
    texts = (outcome.body["spec"].get("template") or {}).get("data") or {}
    found = ((key, template.problem(str(text), keys)) for key, text in texts.items())
    return [f"the template {key} does not work, {problem}" for key, problem in found if problem]


def leak(bodies: Sequence[Any], values: Mapping[str, bytes]) -> Optional[Tuple[str, str]]:
    """(path, key) of the first text that holds a value in plain, as JSON or as base64. Names of objects are no such text: they are chosen."""
    searched: List[Tuple[str, str]] = []
    for key, value in values.items():
        if len(value) >= SHORTEST_LEAK:
            plain = value.decode("utf-8", "replace")
            escaped = (json.dumps(plain, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
            searched += [(key, form) for form in {plain, *escaped, base64.b64encode(value).decode("ascii").rstrip("=")}]
    if not searched:
        return None
    for body in bodies:
        for path, text in _texts(body, ()):
            for key, needle in searched:
                if needle in text:
                    return ".".join(path), key
    return None


# Where the names of objects stand: somebody's value may well be one of them.
_CHOSEN = frozenset((("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("spec", "encryptedData"),
                     ("spec", "template", "metadata", "name"), ("spec", "template", "metadata", "namespace")))


def _texts(value: Any, path: Tuple[str, ...]) -> Iterator[Tuple[Tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, child in value.items():
            if (*path, str(key)) not in _CHOSEN:
                yield from _texts(child, (*path, str(key)))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _texts(child, () if path == ("items",) else (*path, str(number)))
    elif isinstance(value, str):
        yield path, value
