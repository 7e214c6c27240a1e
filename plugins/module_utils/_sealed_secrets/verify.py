# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key opens which blob, and sealing anew what an older key sealed."""

from __future__ import annotations

import copy
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import Unopened, seal, unseal
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import Body, Sealed
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import Key
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.proof import FINGERPRINTS, Fingerprints, read_fingerprints, write_fingerprints

THREADS = 8  # the package lets other threads run while it computes
MOST_GUESSES = 200


@dataclass(frozen=True)
class Opening:
    """One blob, and the key that opens it."""

    sealed: Sealed
    key: str
    by: Optional[Key] = None
    value: bytes = field(default=b"", repr=False)
    why: str = ""  # where none does

    def __str__(self) -> str:
        return f"{self.sealed}, key {self.key}: {self.why}"


def openings(sealed: Sequence[Sealed], keys: Sequence[Key]) -> List[Opening]:
    """All blobs in their order. One that does not open says for what it was sealed, where that can be found out."""
    newest_first = sorted(keys, key=lambda key: key.not_before, reverse=True)
    by_private = {id(key.private_key): key for key in newest_first}
    privates = [key.private_key for key in newest_first]
    guesses = list(dict.fromkeys(label for one in sealed for label in (one.bound_to, f"{one.namespace}/{one.name}".encode(), one.namespace.encode(), b"")))

    def look(item: Tuple[Sealed, str, str]) -> Opening:
        one, key, blob = item
        try:
            private, value = unseal(privates, blob, one.bound_to)
        except Unopened as unopened:
            return Opening(one, key, why=unopened.what + _guess(privates, blob, guesses))
        return Opening(one, key, by_private[id(private)], value)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(look, [(one, key, blob) for one in sealed for key, blob in one.blobs.items()]))


def _guess(privates: Sequence[object], blob: str, guesses: Sequence[bytes]) -> str:
    for label in guesses[:MOST_GUESSES]:
        try:
            unseal(privates, blob, label)
        except Unopened:
            continue
        text = label.decode()
        return f"; it was sealed for {text}" if "/" in text else f"; it was sealed for the namespace {text}" if text else "; it was sealed cluster-wide"
    return ""


def counts(opened: Iterable[Opening]) -> Dict[str, int]:
    """How many blobs each key opens, by its fingerprint."""
    return dict(Counter(one.by.fingerprint for one in opened if one.by))


def resealed(sealed: Sealed, opened: Sequence[Opening], certificate: Certificate, fingerprints: Optional[Fingerprints]) -> Tuple[Body, List[str]]:
    """(the SealedSecret with every blob of an older key sealed anew, the keys of those). Scope, name and template stay."""
    body = copy.deepcopy(sealed.body)
    changed: List[str] = []
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    marks = read_fingerprints(annotations)
    for one in opened:
        if one.by is None or one.by.fingerprint == certificate.fingerprint:
            continue
        blob = seal(certificate.public_key, one.value, sealed.bound_to)
        body["spec"]["encryptedData"][one.key] = blob
        changed.append(one.key)
        if fingerprints and one.key in marks:
            marks[one.key] = fingerprints.of(sealed.bound_to, one.key, blob, one.value)
    if changed and fingerprints and marks:
        annotations[FINGERPRINTS] = write_fingerprints(marks)
    return body, changed
