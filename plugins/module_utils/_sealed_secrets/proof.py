# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How it is known that a blob holds the very value that is to be sealed, so that the blob can stay.

Each proof says True (the same), False (another one) or None (it cannot tell). Ciphertext is random, so nothing can be seen in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Dict, List, Mapping, Optional, Protocol

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, health
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import Unopened, unseal
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import API_VERSION, KIND, Body, Sealed
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import Key

FINGERPRINTS = "nordic.gitops/fingerprints"
SHORTEST_KEY = 16  # characters; a short one could be guessed from a fingerprint and a guessed value


class Proof(Protocol):
    """One way to know."""

    name: str

    def same(self, sealed: Sealed, key: str, value: bytes) -> Optional[bool]:
        """Whether the blob of this key holds this value."""


class PrivateKeys:
    """The blob is opened."""

    name = "private key"

    def __init__(self, keys: List[Key]) -> None:
        self.keys = keys

    def open(self, sealed: Sealed, key: str) -> Optional[bytes]:
        try:
            return unseal([one.private_key for one in self.keys], sealed.blobs[key], sealed.bound_to)[1]
        except Unopened:
            return None

    def same(self, sealed: Sealed, key: str, value: bytes) -> Optional[bool]:
        found = self.open(sealed, key)
        return None if found is None else hmac.compare_digest(found, value)


class Fingerprints:
    """An annotation holds a keyed hash of value and blob together: a blob that somebody exchanged has another one."""

    name = "fingerprint"

    def __init__(self, secret: str) -> None:
        if len(secret) < SHORTEST_KEY:
            raise Failure(f"has fewer than {SHORTEST_KEY} characters", "fingerprint_key", "Make a random one and keep it in Ansible Vault.")
        self._secret = hashlib.sha256(b"nordic.gitops sealed secrets\0" + secret.encode()).digest()

    def of(self, bound_to: bytes, key: str, blob: str, value: bytes) -> str:
        parts = (bound_to, key.encode(), blob.encode(), value)
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return base64.urlsafe_b64encode(hmac.new(self._secret, message, hashlib.sha256).digest()[:16]).decode("ascii").rstrip("=")

    def same(self, sealed: Sealed, key: str, value: bytes) -> Optional[bool]:
        kept = read_fingerprints(sealed.metadata.get("annotations") or {}).get(key, "")
        return True if hmac.compare_digest(kept, self.of(sealed.bound_to, key, sealed.blobs[key], value)) else None


def read_fingerprints(annotations: Mapping[str, Any]) -> Dict[str, str]:
    """Data key -> fingerprint."""
    return dict(entry.split("=", 1) for entry in str(annotations.get(FINGERPRINTS) or "").split() if "=" in entry)


def write_fingerprints(fingerprints: Mapping[str, str]) -> str:
    return " ".join(f"{key}={fingerprints[key]}" for key in sorted(fingerprints))


class Live:
    """The cluster's SealedSecret has this blob, the controller has opened it, and nobody has changed the Secret since."""

    name = "live Secret"

    def __init__(self, cluster: Cluster, notes: List[str]) -> None:
        self.cluster, self.notes = cluster, notes
        self._kept: Dict[str, Any] = {}

    def same(self, sealed: Sealed, key: str, value: bytes) -> Optional[bool]:
        pair = self._pair(sealed)
        if pair is None:
            return None
        resource, secret = pair
        if (resource["spec"].get("encryptedData") or {}).get(key) != sealed.blobs[key]:
            return None
        held = (secret.get("data") or {}).get(key)
        if held is None or not _untouched(secret, key):
            return None
        return True if hmac.compare_digest(base64.b64decode(held), value) else None

    def _pair(self, sealed: Sealed) -> Any:
        place = f"{sealed.namespace}/{sealed.name}"
        if place not in self._kept:
            self._kept[place] = self._ask(sealed)
        return self._kept[place]

    def _ask(self, sealed: Sealed) -> Any:
        if not sealed.namespace:
            return None
        try:
            found = self.cluster.discover().find(API_VERSION, KIND)
            resource = self.cluster.get(found, sealed.namespace, sealed.name) if found else None
            if resource is None or not opened(resource):
                return None
            secret = self.cluster.get(self.cluster.resource("v1", "Secret"), sealed.namespace, sealed.name)
        except ApiError as error:
            self.notes.append(f"The live Secret cannot be compared: {error}")
            return None
        return (resource, secret) if secret and owned(secret, resource) else None


def opened(resource: Body) -> bool:
    """The controller has opened this SealedSecret as it is now: its verdict, of this very generation."""
    seen = (resource.get("status") or {}).get("observedGeneration")
    return seen == resource["metadata"].get("generation") and health({**resource, "apiVersion": API_VERSION, "kind": KIND}).status == CURRENT


def has_status(resource: Body) -> bool:
    """Whether the controller writes one: of blobs that do not open it leaves the Secret of those before in place, and only the status says so."""
    return "observedGeneration" in (resource.get("status") or {})


def owned(secret: Body, resource: Body) -> bool:
    """The Secret was made from this SealedSecret."""
    return any(owner.get("uid") == resource["metadata"]["uid"] for owner in secret["metadata"].get("ownerReferences") or [])


def _untouched(secret: Body, key: str) -> bool:
    """Whoever wrote the owner reference, which is the controller, is also the last and only one who wrote this key."""
    entries = secret["metadata"].get("managedFields") or []
    controllers = {entry.get("manager") for entry in entries if "f:ownerReferences" in (entry.get("fieldsV1", {}).get("f:metadata") or {})}
    writers = {entry.get("manager") for entry in entries if f"f:{key}" in (entry.get("fieldsV1", {}).get("f:data") or {})}
    return len(controllers) == 1 and writers == controllers
