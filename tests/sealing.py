# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module sealed_secret in a test's own process, and keys made for a test."""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
from pathlib import Path
from typing import Any, Dict, List, Optional

import yaml
from ansible_collections.nordic.gitops.plugins.action.sealed_secret import SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import task
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import label, scope_of, unseal
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import LABEL, Key
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

DEFAULTS = {name: spec.get("default") for name, spec in SPEC.items()}
DAY = datetime.timedelta(days=1)


@functools.lru_cache(maxsize=None)
def key(name: str = "sealed-secrets-keyabcde", begin: int = -1, days: int = 365, labels: Optional[str] = "active", curve: bool = False) -> Key:
    """A key of the controller whose certificate begins so many days from now; the same one for the same arguments."""
    pem, certificate = pair(begin, days, curve)
    return Key.of_secret(secret(name, pem, certificate, labels), name)


def pair(begin: int = -1, days: int = 365, curve: bool = False, address: str = "") -> Any:
    """(private key, certificate) as PEM; with an address, that of a web server there."""
    private = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, 2048)
    start = datetime.datetime.now(datetime.timezone.utc) + begin * DAY
    builder = (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(private.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + days * DAY))
    if address:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=True)
    certificate = builder.sign(private, hashes.SHA256())
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return pem, certificate.public_bytes(serialization.Encoding.PEM)


def secret(name: str, pem: bytes, certificate: bytes, labels: Optional[str] = "active", namespace: str = "kube-system") -> Dict[str, Any]:
    """A key as the controller keeps it."""
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": namespace, **({"labels": {LABEL: labels}} if labels else {})},
            "data": {"tls.key": base64.b64encode(pem).decode(), "tls.crt": base64.b64encode(certificate).decode()}}


class Sealing:
    """The module with a certificate of this test, offline."""

    def __init__(self, folder: Path, **params: Any) -> None:
        self.folder, self.key = folder, key()
        self.path = folder / "sealed.yaml"
        (folder / "certificate.pem").write_bytes(self.key.certificate.pem)
        self.params = {**DEFAULTS, "path": str(self.path), "certificate": str(folder / "certificate.pem"), "name": "db", "namespace": "shop",
                       "certificate_cache": str(folder / "cache"), **params}
        self.notes: List[str] = []

    def __call__(self, check_mode: bool = False, diff: bool = False, keys: Any = (), manifest: Optional[bytes] = None, **params: Any) -> Dict[str, Any]:
        self.notes = []
        params = {**self.params, **params}
        if manifest is not None:
            params.update(name=None, src="secrets.yaml")
        if params["state"] == "resealed":
            return task.resealed(params, list(keys), check_mode, diff, self.notes)
        if params["state"] == "validated":
            return task.validated(params, list(keys), self.notes)
        return task.present(params, manifest, list(keys), check_mode, diff, self.notes)

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def bodies(self) -> List[Dict[str, Any]]:
        return [body for body in yaml.safe_load_all(self.text) if body]

    def opened(self, number: int = 0, with_key: Optional[Key] = None) -> Dict[str, bytes]:
        """What a controller would make of the file's SealedSecret."""
        body = self.bodies()[number]
        bound = label(scope_of(body["metadata"].get("annotations")), body["metadata"].get("namespace", ""), body["metadata"]["name"])
        return {name: unseal([(with_key or self.key).private_key], blob, bound)[1] for name, blob in body["spec"]["encryptedData"].items()}
