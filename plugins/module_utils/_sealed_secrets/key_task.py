# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module sealed_secrets_key does, one function for each of its states. Nothing here deletes a key."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import keys as sealing_keys
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import verify
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import WARN_BEFORE, Certificate, now
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.controller import Controller, arguments, controllers
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import API_VERSION, KIND, Body, Sealed
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import ACTIVE, LABEL, PRIVATE, RETIRED, Key
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.rewrite import render
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.source import controller_of


@dataclass
class Work:
    """What one task has to work with.

    read_backup: the backup's content, None where there is no file. write_backup: replaces it, encrypted, and reads it back.
    repository: the rendered SealedSecrets of the repository, None where no repository is given.
    """

    params: Mapping[str, Any]
    check_mode: bool
    read_backup: Callable[[], Optional[bytes]]
    write_backup: Callable[[bytes], None]
    repository: Callable[[], Optional[List[Sealed]]]
    notes: List[str] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return str(self.params["key_prefix"])

    def backup(self) -> Optional[List[Key]]:
        """Its keys; None where no backup is named, or none is there."""
        path = self.params["backup"]
        text = self.read_backup() if path else None
        return None if text is None else sealing_keys.parse(text, path)

    def needed_backup(self) -> List[Key]:
        backup = self.backup()
        if backup is not None:
            return backup
        if not self.params["backup"]:
            raise Failure("is needed", "backup", "Give the path of the backup.")
        raise Failure("there is no backup", self.params["backup"], "Make one with the state backed_up, while the keys are there.")


class Keys:
    """The keys of one controller, and what it seals with now."""

    def __init__(self, controller: Controller, work: Work) -> None:
        self.controller, self.work = controller, work
        self.all = sealing_keys.of_cluster(controller.cluster, controller.namespace, work.prefix)
        self.served: Optional[str] = None
        self.deployment = controller.deployment()
        if self.deployment is None and not controller.has_service():
            return  # it is not installed yet
        try:
            certificate = Certificate.parse(controller.certificate(), str(controller))
        except ApiError as error:
            work.notes.append(str(error))
        else:
            self.served = certificate.fingerprint
            if certificate.not_after - now() < WARN_BEFORE:
                work.notes.append(f"The certificate that the controller seals with, {certificate.fingerprint}, ends on {certificate.not_after:%Y-%m-%d}.")

    @property
    def sealing(self) -> Optional[str]:
        """The fingerprint of the key that seals now; of the one that will, while no controller answers."""
        found = sealing_keys.newest(self.all)
        return self.served or (found.fingerprint if found else None)

    def result(self, backup: Optional[Sequence[Key]], opened: Sequence[verify.Opening]) -> Dict[str, Any]:
        counted = verify.counts(opened)
        missing = sealing_keys.missing(self.all, list(backup)) if backup is not None else None
        lost = {key.fingerprint for key in missing} if missing is not None else None
        told = [{"name": key.name, "fingerprint": key.fingerprint, "active": key.active, "seals": key.fingerprint == self.sealing,
                 "created": key.not_before.isoformat(), "age_days": (now() - key.not_before).days,
                 "ends": key.certificate.not_after.isoformat() if key.certificate else None, "values": counted.get(key.fingerprint, 0),
                 "in_backup": None if lost is None else key.fingerprint not in lost} for key in self.all]
        return {"sealing_keys": told, "sealing": self.sealing, "unopened": [str(one) for one in opened if one.by is None],
                "missing_from_backup": [str(key) for key in missing] if missing is not None else None,
                "arguments": arguments(self.deployment) if self.deployment else None}


def sealed_in_cluster(cluster: Cluster) -> List[Sealed]:
    """Every SealedSecret of the cluster."""
    found = cluster.discover().find(API_VERSION, KIND)
    items = cluster.list(found)[0] if found else []
    return [Sealed(item, f"cluster, {item['metadata']['namespace']}") for item in items]


def _everything(work: Work, cluster: Optional[Cluster]) -> List[Sealed]:
    return [*(sealed_in_cluster(cluster) if cluster else []), *(work.repository() or [])]


def present(work: Work) -> Dict[str, Any]:
    """The keys, and a failure where there is none or where another one seals than is meant."""
    controller = Controller(work.params)
    cluster = controller.cluster
    around = {"controllers": controllers(cluster), "openshift": cluster.discover().find("security.openshift.io/v1", "SecurityContextConstraints") is not None}
    keys = Keys(controller, work)
    if not keys.all:
        raise Failure(f"there is no key of Sealed Secrets in the namespace {controller.namespace}", "",
                      "Is controller_namespace right? The controller makes a key at its first start.", **around)
    backup = work.backup()
    opened = verify.openings(_everything(work, controller.cluster), keys.all)
    result = keys.result(backup, opened)
    if result["missing_from_backup"]:
        work.notes.append(f"These keys are in no backup: {', '.join(result['missing_from_backup'])}.")
    _check_intended(work, keys)
    return {"changed": False, **around, **result}


def _check_intended(work: Work, keys: Keys) -> None:
    wanted = work.params["sealing_key"]
    if wanted and keys.sealing != wanted:
        raise Failure(f"the key that seals is {keys.sealing}, not {wanted}", str(keys.controller),
                      "The controller takes the active key whose certificate begins last. Retire the other one, or rotate.")


def backed_up(work: Work) -> Dict[str, Any]:
    """The backup holds every key of the cluster, and all that it held before."""
    before = work.backup() or []
    controller = Controller(work.params)
    keys = Keys(controller, work)
    if not keys.all:
        raise Failure(f"there is no key of Sealed Secrets in the namespace {controller.namespace}", "", "Is controller_namespace right?")
    bodies, new = sealing_keys.merged(before, keys.all)
    if new and not work.check_mode:
        work.write_backup(text_of(bodies))
    after = [*before, *new]
    return {"changed": bool(new), "backup": work.params["backup"], "added": [str(key) for key in new], **keys.result(after, [])}


def text_of(bodies: Sequence[Body]) -> bytes:
    """As kubectl takes it."""
    return render({"apiVersion": "v1", "kind": "List", "items": list(bodies)}).encode()


def restored(work: Work) -> Dict[str, Any]:
    """Every key of the backup is in the cluster, and a controller that runs has loaded them."""
    backup = work.needed_backup()
    bare = [key for key in backup if key.secret is None or key.certificate is None]
    if bare:
        raise Failure(f"holds {len(bare)} keys without their certificate, of which no Secret can be made", work.params["backup"])
    controller = Controller(work.params)
    cluster = controller.cluster
    there = {key.fingerprint for key in sealing_keys.of_cluster(cluster, controller.namespace, work.prefix)}
    new = [key for key in backup if key.fingerprint not in there]
    if not work.check_mode and new:
        _namespace(cluster, controller.namespace)
        for key in new:
            _create(cluster, controller.namespace, key)
        _reload(controller, work, sealing_keys.newest(sealing_keys.of_cluster(cluster, controller.namespace, work.prefix)))
    keys = Keys(controller, work)
    if not work.check_mode:
        _check_intended(work, keys)
    return {"changed": bool(new), "restored": [str(key) for key in new], **keys.result(backup, [])}


def _namespace(cluster: Cluster, name: str) -> None:
    namespaces = cluster.resource("v1", "Namespace")
    if cluster.get(namespaces, "", name) is None:
        try:
            cluster.create(namespaces, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        except ApiError as error:
            if error.status != 409:
                raise


def _create(cluster: Cluster, namespace: str, key: Key) -> None:
    """Under its own name; under another one where somebody else's Secret has it."""
    secrets = cluster.resource("v1", "Secret")
    body = key.clean()
    metadata = {**body["metadata"], "namespace": namespace}
    taken = cluster.get(secrets, namespace, metadata["name"])
    if taken is not None and (taken.get("data") or {}).get(PRIVATE) != body["data"][PRIVATE]:
        suffix = base64.b32encode(key.fingerprint.encode()[-5:]).decode("ascii").lower().rstrip("=")
        metadata = {**metadata, "name": f"{metadata['name']}-{suffix}", "labels": {LABEL: ACTIVE, **(metadata.get("labels") or {})}}
    try:
        cluster.create(secrets, {**body, "metadata": metadata})
    except ApiError as error:
        held = cluster.get(secrets, namespace, metadata["name"]) if error.status == 409 else None
        if held is None or (held.get("data") or {}).get(PRIVATE) != body["data"][PRIVATE]:
            raise  # else it is our own, whose first answer was lost


def _reload(controller: Controller, work: Work, expected: Optional[Key]) -> None:
    """The controller reads keys at its start only."""
    if controller.restart():
        if expected:
            controller.wait_for(expected.fingerprint)
    else:
        work.notes.append(f"No Deployment {controller.namespace}/{controller.name} runs; the controller loads the keys at its start.")


def rotated(work: Work) -> Dict[str, Any]:
    """A new key seals. With a backup, it is in the backup before anything is sealed with it."""
    controller = Controller(work.params)
    backup = work.backup()
    keys = Keys(controller, work)
    if keys.deployment is None:
        raise Failure("there is no such Deployment", f"Deployment {controller.namespace}/{controller.name}", "Give controller_name and controller_namespace.")
    newest = sealing_keys.newest(keys.all)
    # An earlier run was ended before the controller had it.
    owed = newest if newest is not None and keys.served is not None and newest.fingerprint != keys.served else None
    too_young = newest is not None and owed is None and (now() - newest.not_before).days < work.params["older_than"]
    if too_young:
        return {"changed": False, "rotated": None, **keys.result(backup, [])}
    if work.check_mode:
        return {"changed": True, "rotated": None, **keys.result(backup, [])}
    new = owed or sealing_keys.generate(keys.all, controller.namespace, work.prefix)
    if work.params["backup"]:
        bodies, added = sealing_keys.merged(backup or [], [*keys.all, new])
        if added:
            work.write_backup(text_of(bodies))
        backup = [*(backup or []), *added]
    if owed is None:
        _create(controller.cluster, controller.namespace, new)
    _reload(controller, work, new)
    after = Keys(controller, work)
    return {"changed": True, "rotated": str(new), **after.result(backup, [])}


def retired(work: Work) -> Dict[str, Any]:
    """The named keys are no longer loaded. Each has to be in the backup, to seal nothing, and not to be the one that seals."""
    controller = Controller(work.params)
    backup = work.needed_backup()
    keys = Keys(controller, work)
    named = work.params["keys"]
    unknown = sorted(set(named) - {key.name for key in keys.all} - {key.fingerprint for key in keys.all})
    if not named or unknown:
        there = ", ".join(str(key) for key in keys.all)
        raise Failure(f"there is no key {', '.join(unknown)}" if unknown else "no key is named", "keys", f"There are {there}.")
    chosen = [key for key in keys.all if (key.name in named or key.fingerprint in named) and key.active]
    counted = verify.counts(verify.openings(_everything(work, controller.cluster), keys.all))
    for key in chosen:
        why = _why_not(key, keys, backup, counted)
        if why:
            raise Refused(f"the key {key} {why}", "", "Nothing was changed.")
    if chosen and not work.check_mode:
        secrets = controller.cluster.resource("v1", "Secret")
        for key in chosen:
            ops = [{"op": "test", "path": "/metadata/uid", "value": key.metadata["uid"]},
                   {"op": "replace", "path": f"/metadata/labels/{LABEL.replace('/', '~1')}", "value": RETIRED}]
            controller.cluster.patch(secrets, controller.namespace, key.name, ops)
        _reload(controller, work, next((key for key in keys.all if key.fingerprint == keys.sealing), None))
    after = keys if work.check_mode else Keys(controller, work)
    return {"changed": bool(chosen), "retired": [str(key) for key in chosen], **after.result(backup, [])}


def _why_not(key: Key, keys: Keys, backup: Sequence[Key], counted: Mapping[str, int]) -> str:
    if key.fingerprint == keys.sealing:
        return "is the one that seals: rotate first"
    if not (key.metadata.get("labels") or {}).get(LABEL):
        return "has no label, so the controller loads it by its name: label it first"
    if sealing_keys.missing([key], list(backup)):
        return "is in no backup: back it up first"
    if counted.get(key.fingerprint):
        return f"still opens {counted[key.fingerprint]} values: seal them anew first (state resealed of sealed_secret)"
    return ""


def verified(work: Work) -> Dict[str, Any]:
    """Everything opens with the backup: what the repository has, and what the cluster has where it can be asked."""
    backup = work.needed_backup()
    repository = work.repository()
    controller = Controller(work.params) if repository is None else controller_of(work.params)
    bad: List[str] = []
    there = list(repository or [])
    missing: List[str] = []
    if controller is not None:
        cluster_keys = sealing_keys.of_cluster(controller.cluster, controller.namespace, work.prefix)
        missing = [str(key) for key in sealing_keys.missing(cluster_keys, backup)]
        bad += [f"the backup lacks the key {key} of the cluster" for key in missing]
        there += sealed_in_cluster(controller.cluster)
    opened = verify.openings(there, backup)
    lost = [str(one) for one in opened if one.by is None]
    bad += lost
    named = sorted({f"{one.namespace}/{one.name}" for one in there})
    result = {"verified": len(opened), "sealed_secrets": named, "lost": lost, "missing_from_backup": missing, "values": verify.counts(opened)}
    if bad:
        raise Failure(f"the backup does not open everything: {'; '.join(bad)}", work.params["backup"], "", **result)
    return {"changed": False, **result}


STATES: Dict[str, Callable[[Work], Dict[str, Any]]] = {
    "present": present, "backed_up": backed_up, "restored": restored, "rotated": rotated, "retired": retired, "verified": verified}
