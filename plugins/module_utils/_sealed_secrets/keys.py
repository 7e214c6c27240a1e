# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private keys: Secrets in the controller's namespace, and backups of them."""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import PREFIX, crypto
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate, fingerprint, now
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import Body, manifests, objects

LABEL = f"{PREFIX}sealed-secrets-key"
ACTIVE, RETIRED = "active", "retired"
PRIVATE, PUBLIC = "tls.key", "tls.crt"
VALID_FOR = datetime.timedelta(days=3650)  # as the controller's own
SIZE = 4096


@dataclass(frozen=True)
class Key:
    """One key pair. It prints without the private part."""

    private_key: Any
    fingerprint: str
    certificate: Optional[Certificate] = None
    secret: Optional[Body] = None  # as it was read, None for a key that is PEM alone

    @classmethod
    def of_secret(cls, secret: Body, where: str) -> Key:
        data = secret.get("data")
        data = data if isinstance(data, dict) else {}
        if PRIVATE not in data:
            raise Failure(f"holds no {PRIVATE}", where, "A key of the controller is a Secret of the type kubernetes.io/tls.")
        private_key = parse_private(_decoded(data, PRIVATE, where), where)
        certificate = Certificate.parse(_decoded(data, PUBLIC, where), where) if data.get(PUBLIC) else None
        found = fingerprint(private_key.public_key())
        if certificate and certificate.fingerprint != found:
            raise Failure(f"its {PRIVATE} and its {PUBLIC} do not belong together", where)
        return cls(private_key, found, certificate, secret)

    @property
    def metadata(self) -> Body:
        return (self.secret or {}).get("metadata") or {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name") or "")

    @property
    def active(self) -> bool:
        """Whether the controller loads it at its start. One without the label is loaded by its name, which is the prefix."""
        return (self.metadata.get("labels") or {}).get(LABEL, ACTIVE) == ACTIVE

    @property
    def not_before(self) -> datetime.datetime:
        return self.certificate.not_before if self.certificate else datetime.datetime.fromtimestamp(0, datetime.timezone.utc)

    def clean(self) -> Body:
        """The Secret without what belongs to the cluster that it was read from."""
        if self.secret is None:
            raise AssertionError("a key that is PEM alone has no Secret")
        metadata = {name: self.metadata[name] for name in ("name", "namespace", "labels", "annotations") if self.metadata.get(name)}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": self.secret.get("type", "kubernetes.io/tls"),
                "data": {name: self.secret["data"][name] for name in sorted(self.secret["data"])}}

    def __repr__(self) -> str:
        return f"Key({self.fingerprint})"

    def __str__(self) -> str:
        return f"{self.name or 'a key'} ({self.fingerprint})"


def parse_private(pem: bytes, where: str) -> Any:
    tools = crypto()
    try:
        found = tools.private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise Failure(f"holds a private key that cannot be read ({type(error).__name__})", where) from None
    except Exception as error:  # UnsupportedAlgorithm
        raise Failure(f"holds a private key that cannot be read ({type(error).__name__})", where) from None
    if not isinstance(found, tools.private_type):
        raise Failure("holds a private key that is not RSA", where, "Sealed Secrets knows RSA keys only.")
    return found


def parse(text: bytes, where: str) -> List[Key]:
    """The keys of a backup: PEM, Secrets, a List of them, several documents. All of them, or a Failure."""
    if re.match(rb"\s*-----BEGIN", text) and b"PRIVATE KEY-----" in text:
        blocks = re.findall(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", text, re.DOTALL)
        privates = [parse_private(block, where) for block in blocks]
        found = [Key(private, fingerprint(private.public_key())) for private in privates]
    else:
        found = []
        for number, document in enumerate(manifests(text, where), 1):
            for place, body in objects(document.body):
                at = f"{where}, document {number}" + (f", item {place[0] + 1}" if place else "")
                if body.get("kind") != "Secret":
                    raise Failure(f"is a {body.get('kind') or 'document without a kind'}, not a Secret", at,
                                  "A backup holds the controller's keys and nothing else.")
                found.append(Key.of_secret(body, at))
    if not found:
        raise Failure("holds no key", where, "It is empty, or was cut off.")
    return list({key.fingerprint: key for key in found}.values())


def of_cluster(cluster: Cluster, namespace: str, prefix: str) -> List[Key]:
    """All keys of a controller, oldest first: with the label, whatever its value, and the one without label that is named like the prefix."""
    secrets = cluster.resource("v1", "Secret")
    found = {item["metadata"]["name"]: item for item in cluster.list(secrets, namespace, LABEL)[0]}
    if prefix not in found:
        legacy = cluster.get(secrets, namespace, prefix)
        if legacy:
            found[prefix] = legacy
    keys = [Key.of_secret(secret, f"Secret {namespace}/{name}") for name, secret in found.items()]
    return sorted(keys, key=lambda key: (key.not_before, key.name))


def newest(keys: List[Key]) -> Optional[Key]:
    """The key that a controller which starts now would seal with."""
    return max((key for key in keys if key.active and key.certificate), key=lambda key: key.not_before, default=None)


def generate(keys: List[Key], namespace: str, prefix: str) -> Key:
    """A new key, newer than all others by its certificate, as that is what the controller goes by."""
    import secrets

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa

    encoding = crypto().encodings
    private_key = rsa.generate_private_key(65537, SIZE)
    begin = max([now().replace(microsecond=0)] + [key.not_before + datetime.timedelta(seconds=1) for key in keys])
    name = x509.Name([])
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private_key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(begin + VALID_FOR)
                   .sign(private_key, hashes.SHA256()))
    pem = private_key.private_bytes(encoding.Encoding.PEM, encoding.PrivateFormat.TraditionalOpenSSL, encoding.NoEncryption())
    data = {PRIVATE: pem, PUBLIC: certificate.public_bytes(encoding.Encoding.PEM)}
    suffix = "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _each in range(5))  # as generateName does it
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
              "metadata": {"name": f"{prefix}{suffix}", "namespace": namespace, "labels": {LABEL: ACTIVE}},
              "data": {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}}
    return Key.of_secret(secret, f"Secret {namespace}/{prefix}{suffix}")


def missing(keys: List[Key], backup: List[Key]) -> List[Key]:
    """Keys that are in no backup."""
    held = {key.fingerprint for key in backup}
    return [key for key in keys if key.fingerprint not in held]


def merged(backup: List[Key], keys: List[Key]) -> Tuple[List[Body], List[Key]]:
    """(the Secrets of a backup that holds both, the keys that are new in it). Nothing that an older backup holds is left out."""
    new = missing(keys, backup)
    held = {key.fingerprint: key for key in [*keys, *backup] if key.secret}
    bodies: Dict[str, Body] = {}
    for key in [*backup, *new]:
        if key.fingerprint not in held:
            raise Failure(f"holds the key {key.fingerprint} without its certificate, so no Secret can be made of it",
                          "the backup", "Keep that file, and give the path of a new one.")
        bodies[key.fingerprint] = held[key.fingerprint].clean()
    return list(bodies.values()), new


def _decoded(data: Body, name: str, where: str) -> bytes:
    try:
        return base64.b64decode(str(data[name]), validate=False)
    except (binascii.Error, ValueError):
        raise Failure(f"its {name} is not base64", where, "It was cut off, or altered.") from None
