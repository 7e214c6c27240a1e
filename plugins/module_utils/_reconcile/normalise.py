# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write an object the way the API server will hold it, where that is certain, so that a comparison is literal.

Only differences that the server makes whatever its version are taken away. Doing it twice changes nothing.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import BUILT_IN_GROUPS, CRD, Body
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import containers

# Written by the server; in Git they are left-overs of `kubectl get -o yaml`, and a resourceVersion would make every
# second apply fail.
SERVER_METADATA = ("creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink",
                   "deletionTimestamp", "deletionGracePeriodSeconds")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def normalise(body: Body) -> Body:
    """The same object with what the server would change or ignore taken away; the argument is left as it is."""
    result = dict(body)
    result["metadata"] = _metadata(result.get("metadata") or {})
    version, kind = result.get("apiVersion"), str(result.get("kind"))
    group = version.rpartition("/")[0] if isinstance(version, str) else ""
    if group in BUILT_IN_GROUPS:
        result = _without_nulls(result)
    if group in BUILT_IN_GROUPS or (group, kind) == CRD:
        result.pop("status", None)  # of a custom kind it may be a field like any other (intents.py)
    if version == "v1" and kind == "Secret":
        _fold_string_data(result)
    elif version == "v1" and kind == "ConfigMap":
        _canonical_base64(result, "binaryData")
    elif group == "rbac.authorization.k8s.io" and kind in ("RoleBinding", "ClusterRoleBinding"):
        if result.get("subjects") == []:
            del result["subjects"]  # the server drops it and counts a change at every apply (kubernetes#131175)
    elif group == "rbac.authorization.k8s.io" and kind == "ClusterRole" and result.get("aggregationRule"):
        result.pop("rules", None)  # the control plane fills them in; ours would be gone a moment later, and so would be its own until then
    elif version == "v1" and kind == "Service":
        result = _with_protocols(result)
    elif (group, kind) in CA_BUNDLES:
        result = _copy(result)
        for client in CA_BUNDLES[(group, kind)](result):
            if isinstance(client, dict) and "caBundle" in client and not _may_be_a_certificate(client["caBundle"]):
                del client["caBundle"]
    if version in ("v1", "apps/v1", "batch/v1"):
        result = _with_container_protocols(result)
    return result


def _at(body: Any, *keys: str) -> Any:
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _clients_of_webhooks(body: Body) -> List[Any]:
    webhooks = body.get("webhooks")
    return [_at(webhook, "clientConfig") for webhook in webhooks] if isinstance(webhooks, list) else []


# Where a kind has a caBundle, which an injector fills in later: cert-manager's, or the operator's own.
CA_BUNDLES: Dict[Tuple[str, str], Callable[[Body], List[Any]]] = {
    CRD: lambda body: [_at(body, "spec", "conversion", "webhook", "clientConfig")],
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _clients_of_webhooks,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _clients_of_webhooks,
    ("apiregistration.k8s.io", "APIService"): lambda body: [_at(body, "spec")],
}


def _may_be_a_certificate(text: Any) -> bool:
    """False for a placeholder, such as the line feed that kubebuilder writes: the server would wait for a certificate, or refuse it."""
    try:
        return b"-----BEGIN" in base64.b64decode(text or "", validate=True)
    except (TypeError, ValueError, binascii.Error):
        return True  # the server says what is wrong with it


def _metadata(metadata: Dict[str, Any]) -> Dict[str, Any]:
    result = {key: value for key, value in metadata.items() if key not in SERVER_METADATA}
    if not result.get("namespace", "set"):
        del result["namespace"]
    annotations = result.get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        result["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return result


def _without_nulls(value: Any) -> Any:
    """Fields that are null taken away; items of lists stay, their order and number mean something."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) if isinstance(child, (dict, list)) else child
                for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) if isinstance(child, (dict, list)) else child for child in value]
    return value


def _fold_string_data(secret: Body) -> None:
    """stringData is write-only: the server folds it into data and never shows who owns it (kubernetes#108008)."""
    _canonical_base64(secret, "data")
    plain = secret.pop("stringData", None)
    if plain:
        folded = {key: base64.b64encode(text.encode("utf-8")).decode("ascii") for key, text in plain.items()}
        secret["data"] = {**secret.get("data", {}), **folded}


def _canonical_base64(body: Body, field: str) -> None:
    """One spelling for the same bytes: the server decodes and encodes again."""
    values = body.get(field)
    if not isinstance(values, dict):
        return
    try:
        body[field] = {key: base64.b64encode(base64.b64decode(text)).decode("ascii") for key, text in values.items()}
    except (TypeError, ValueError, binascii.Error):
        return  # validation names it; here it stays as it is


def _with_protocols(owner: Body) -> Body:
    """`ports` with the protocol the server defaults: it is part of the list's key in managedFields (SMD #130)."""
    spec = owner.get("spec")
    if not isinstance(spec, dict) or not _lacks_protocol(spec.get("ports")):
        return owner
    return {**owner, "spec": {**spec, "ports": _ports(spec["ports"])}}


def _lacks_protocol(ports: Any) -> bool:
    return isinstance(ports, list) and any(isinstance(port, dict) and not port.get("protocol") for port in ports)


def _ports(ports: Any) -> Any:
    return [{**port, "protocol": port.get("protocol") or "TCP"} if isinstance(port, dict) else port for port in ports]


def _with_container_protocols(body: Body) -> Body:
    for _path, container in containers(body):
        if _lacks_protocol(container.get("ports")):
            break
    else:
        return body
    result = _copy(body)
    for _path, container in containers(result):
        if _lacks_protocol(container.get("ports")):
            container["ports"] = _ports(container["ports"])
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_copy(child) for child in value]
    return value
