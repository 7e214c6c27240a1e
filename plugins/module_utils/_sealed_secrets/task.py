# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module sealed_secret does, one function for each of its states."""

from __future__ import annotations

import base64
import hmac
import os
import re
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import health
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import source as sources
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import verify, wanted
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.controller import Controller
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import API_VERSION, KIND, Body, File, Sealed, files, find
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import Key, of_cluster
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.proof import Fingerprints, Live, PrivateKeys, Proof, has_status, opened, owned
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.seal import Options, Outcome, leak, sealed_secret

_BLOB = re.compile(r"\bA[A-Za-z0-9+/]{15}[A-Za-z0-9+/]{100,}={0,2}")
POLL = 0.5

Place = Tuple[int, ...]


def present(params: Mapping[str, Any], manifest: Optional[bytes], keys: Sequence[Key], check_mode: bool, diff_mode: bool, notes: List[str]) -> Dict[str, Any]:
    """The file holds the values, sealed; a blob whose value did not change keeps its bytes."""
    asked = wanted.of_manifest(manifest, params["src"], params) if manifest is not None else [wanted.of_options(params)]
    notes += [f"The value of {key} is one line that ends in a newline, which is sealed with it." for one in asked for key in one.newlines()]
    file = File(params["path"])
    source = sources.find(params, notes)
    fingerprints = Fingerprints(params["fingerprint_key"]) if params["fingerprint_key"] else None
    cluster = source.controller.cluster if source.controller else None
    proofs: List[Proof] = [PrivateKeys(list(keys))] if keys else []
    proofs += [fingerprints] if fingerprints else []
    proofs += [Live(cluster, notes)] if cluster else []
    options = Options(source.certificate, proofs, fingerprints, params["merge"], params["allow_wider_scope"])

    there = file.sealed(params["namespace"] or "")
    changes: Dict[Place, Body] = {}
    added: List[Body] = []
    outcomes: List[Tuple[str, Outcome]] = []
    for one in asked:
        place, existing = _target(file, there, one)
        outcome = sealed_secret(existing, one, options)
        notes += outcome.notes
        operation = "created" if existing is None else "unchanged" if outcome.body == existing.body else "configured"
        if existing is None:
            added.append(outcome.body)
        elif operation == "configured":
            changes[place] = outcome.body
        outcomes.append((operation, outcome))
    data = file.replaced(changes, added)
    _refuse_leaks(data, file, asked)
    _refuse_open(data, file, asked)
    changed = data != file.data
    if changed and not check_mode:
        file.write(data)
    result: Dict[str, Any] = {"changed": changed, "path": file.path, "certificate": source.result(), "secrets": [_told(*each) for each in outcomes]}
    if diff_mode and changed:
        result["diff"] = _diff(file, data)
    if params["wait"] and not check_mode:
        if cluster is None:
            raise Failure("there is no connection to a cluster to wait in", "wait", "Give kubeconfig, or host and api_key.")
        for (_operation, outcome), one in zip(outcomes, asked):
            wait(cluster, outcome, one.values, params["wait_timeout"])
    return result


def _target(file: File, there: List[Tuple[Place, Sealed]], one: wanted.Wanted) -> Tuple[Place, Optional[Sealed]]:
    """The SealedSecret of the file that is meant, or none where a new one is added."""
    if file.exists and not there:
        held = ", ".join(f"{body.get('kind')} {(body.get('metadata') or {}).get('name')}" for body in file.bodies if isinstance(body, dict))
        raise Refused(f"holds no SealedSecret{', but ' + held if held else ': it is empty'}", file.shown, "Give the path of another file, or remove this one.")
    found = find(there, one.name, one.namespace)
    if len(found) > 1:
        raise Failure(f"holds {len(found)} SealedSecrets that may be meant: {', '.join(str(sealed) for _place, sealed in found)}", file.shown,
                      "Give name and namespace.")
    return found[0] if found else ((), None)


def _refuse_leaks(data: bytes, file: File, asked: Sequence[wanted.Wanted]) -> None:
    from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import manifests

    found = leak([document.body for document in manifests(data, file.shown)], {key: value for one in asked for key, value in one.values.items()})
    if found:
        raise Refused(f"{found[0]} would show the value of {found[1]} in plain, or as base64", file.shown, "Remove it there: the file is meant for Git.")


def _refuse_open(data: bytes, file: File, asked: Sequence[wanted.Wanted]) -> None:
    """What is written beside the sealed values is looked at as before a push: it is all that can hold a secret in plain."""
    if not any(one.template or one.labels or one.annotations for one in asked):
        return
    from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import added_lines, check_text

    before, after = (_BLOB.sub("", text.decode("utf-8", "replace")) for text in (file.data, data))
    found = check_text(after, file.shown, added_lines(after, before))
    if found:
        raise Refused(found[0].what, f"{file.shown}:{found[0].line}", "Nothing was written. Give it in data, where it is sealed.")


def _told(operation: str, outcome: Outcome) -> Dict[str, Any]:
    return {"name": outcome.name, "namespace": outcome.namespace, "scope": outcome.scope, "operation": operation, "sealed": sorted(outcome.sealed),
            "kept": sorted(outcome.kept), "removed": sorted(outcome.removed), "proofs": dict(sorted(outcome.kept.items()))}


def _diff(file: File, data: bytes) -> Dict[str, str]:
    """With each blob shortened: what is sealed anew is random, and check mode promises no bytes of it."""
    return {"before_header": file.shown, "after_header": file.shown, "before": _short(file.data), "after": _short(data, _blobs(file.data))}


def _short(data: bytes, known: Any = None) -> str:
    def cut(match: "re.Match[str]") -> str:
        return f"{match.group(0)[:16]}…" if known is None or match.group(0) in known else "(sealed anew)"

    return _BLOB.sub(cut, data.decode("utf-8", "replace"))


def _blobs(data: bytes) -> Any:
    return frozenset(_BLOB.findall(data.decode("utf-8", "replace")))


def wait(cluster: Cluster, outcome: Outcome, values: Mapping[str, bytes], seconds: float, clock: Callable[[], float] = time.monotonic,
         sleep: Callable[[float], None] = time.sleep) -> None:
    """Until the live Secret is what was sealed. A condition of an earlier attempt neither fails it nor passes it."""
    expected = set(outcome.body["spec"]["encryptedData"]) | set((outcome.body["spec"].get("template") or {}).get("data") or {})
    templated = set((outcome.body["spec"].get("template") or {}).get("data") or {})
    where = f"SealedSecret {outcome.namespace}/{outcome.name}"
    end = clock() + seconds
    while True:
        found = cluster.discover(refresh=cluster.discover().find(API_VERSION, KIND) is None).find(API_VERSION, KIND)
        resource = cluster.get(found, outcome.namespace, outcome.name) if found else None
        state = "it is not in the cluster yet"
        if resource is not None:
            state = "the cluster has it with other values"
            if (resource["spec"].get("encryptedData") or {}) == outcome.body["spec"]["encryptedData"]:
                secret = cluster.get(cluster.resource("v1", "Secret"), outcome.namespace, outcome.name)
                if secret and owned(secret, resource) and set(secret.get("data") or {}) == expected and _holds(secret, values, templated) \
                        and (opened(resource) or not has_status(resource)):
                    return
                verdict = health({**resource, "apiVersion": API_VERSION, "kind": KIND})
                state = "the controller has not opened it" + (f": {verdict.message}" if verdict.message else "")
        if clock() > end:
            raise Failure(f"was not opened after {seconds:.0f} s: {state}", where, "Is the file in the branch that the cluster follows?")
        sleep(POLL)


def _holds(secret: Body, values: Mapping[str, bytes], templated: Any) -> bool:
    data = secret.get("data") or {}
    return all(hmac.compare_digest(base64.b64decode(data[key]), value) for key, value in values.items() if key not in templated)


def _all(params: Mapping[str, Any], notes: List[str]) -> List[Tuple[File, List[Tuple[Place, Sealed]]]]:
    """Every file with SealedSecrets; in a folder, a chart's template is left to its chart, and said."""
    found = []
    is_folder = os.path.isdir(params["path"])
    for path in files(params["path"]):
        try:
            file = File(path, os.path.relpath(path, params["path"]) if is_folder else path)
            sealed = file.sealed(params["namespace"] or "")
        except Failure as failure:
            if is_folder and _in_a_chart(path, params["path"]):
                notes.append(f"{failure} It is a chart's template and was left out.")
                continue
            raise
        if sealed:
            found.append((file, sealed))
    if not found:
        raise Failure("holds no SealedSecret", params["path"])
    return found


def _in_a_chart(path: str, root: str) -> bool:
    folder = os.path.dirname(path)
    while folder.startswith(root) and folder != root:
        if os.path.basename(folder) == "templates" and os.path.exists(os.path.join(os.path.dirname(folder), "Chart.yaml")):
            return True
        folder = os.path.dirname(folder)
    return False


def resealed(params: Mapping[str, Any], keys: Sequence[Key], check_mode: bool, diff_mode: bool, notes: List[str]) -> Dict[str, Any]:
    """Blobs of older keys sealed with the certificate's. One that no key opens is named, and nothing is written."""
    there = _all(params, notes)
    source = sources.find(params, notes)
    private = list(keys) or _keys_of_the_cluster(params, source)
    everything = [sealed for _file, found in there for _place, sealed in found]
    opened = verify.openings(everything, private)
    lost = [str(one) for one in opened if one.by is None]
    if lost:
        raise Failure(f"{len(lost)} of {len(opened)} values are opened by no key, so nothing was sealed anew: {'; '.join(lost)}", "", "", lost=lost)
    fingerprints = Fingerprints(params["fingerprint_key"]) if params["fingerprint_key"] else None
    told, diffs, writes = [], [], []
    for file, found in there:
        changes: Dict[Place, Body] = {}
        for place, sealed in found:
            body, names = verify.resealed(sealed, [one for one in opened if one.sealed is sealed], source.certificate, fingerprints)
            if names:
                changes[place] = body
            told.append({"name": sealed.name, "namespace": sealed.namespace, "scope": sealed.scope, "file": file.shown,
                         "operation": "configured" if names else "unchanged", "sealed": sorted(names)})
        if changes:
            data = file.replaced(changes, [])
            writes.append((file, data))
            diffs.append(_diff(file, data))
    if not check_mode:
        for file, data in writes:
            file.write(data)
    result: Dict[str, Any] = {"changed": bool(writes), "path": params["path"], "certificate": source.result(), "secrets": told,
                              "files": [file.shown for file, _data in writes]}
    if diff_mode and diffs:
        result["diff"] = diffs
    return result


def _keys_of_the_cluster(params: Mapping[str, Any], source: sources.Source) -> List[Key]:
    controller = source.controller
    if controller is None:
        raise Failure("there is no key to open the values with", "", "Give a backup of the keys, or a connection to the cluster that has them.")
    return of_cluster(controller.cluster, controller.namespace, params.get("key_prefix") or "sealed-secrets-key")


def validated(params: Mapping[str, Any], keys: Sequence[Key], notes: List[str]) -> Dict[str, Any]:
    """Every SealedSecret opens: with the keys of a backup where one is given, else the controller says so."""
    there = [sealed for _file, found in _all(params, notes) for _place, sealed in found]
    if keys:
        bad = [str(one) for one in verify.openings(there, keys) if one.by is None]
    else:
        controller = Controller(params)
        bad = []
        for sealed in there:
            body = {**sealed.body, "metadata": {**sealed.metadata, **({"namespace": sealed.namespace} if sealed.namespace else {})}}
            try:
                if not controller.opens(body):
                    bad.append(f"{sealed}: the controller cannot open it")
            except ApiError as error:
                raise Failure(f"the controller could not be asked: {error}", str(sealed)) from error
    told = [{"name": sealed.name, "namespace": sealed.namespace, "scope": sealed.scope, "where": sealed.where} for sealed in there]
    if bad:
        raise Failure(f"{len(bad)} do not open: {'; '.join(bad)}", "", "", lost=bad, secrets=told)
    return {"changed": False, "path": params["path"], "secrets": told}
