# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away certificate authority for one cluster or one server."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import List, Sequence, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new P-256 key in a file only its owner can read; RSA would cost a tenth of a second each."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    return key


def write_public_key(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    """The public half in a file."""
    path.write_bytes(key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


class Authority:
    """Its certificate is <folder>/ca.crt."""

    def __init__(self, folder: Path, name: str = "nordic.gitops lab") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate = folder / "ca.crt"
        key_file = folder / "ca.key"
        if key_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self.key = key
            self.subject = x509.load_pem_x509_certificate(self.certificate.read_bytes()).subject
            return
        self.key = write_key(key_file)
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)
        certificate = (
            x509.CertificateBuilder().subject_name(self.subject).issuer_name(self.subject)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY).not_valid_after(now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str, hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1")) -> Tuple[Path, Path]:
        """Certificate and key of a server that answers under these names."""
        return self._issue(name, [], list(hosts), [ExtendedKeyUsageOID.SERVER_AUTH], expired=False)

    def peer(self, name: str, hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1")) -> Tuple[Path, Path]:
        """Certificate and key of one that answers under these names and asks others of its kind."""
        return self._issue(name, [], list(hosts), [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], expired=False)

    def client(self, name: str, groups: Sequence[str] = (), expired: bool = False, file: str = "") -> Tuple[Path, Path]:
        """Certificate and key of a Kubernetes user (common name) in groups (organisations)."""
        return self._issue(name, list(groups), [], [ExtendedKeyUsageOID.CLIENT_AUTH], expired, file)

    def _issue(self, name: str, groups: List[str], hosts: List[str], purposes: List[x509.ObjectIdentifier],
               expired: bool, file: str = "") -> Tuple[Path, Path]:
        stem = self.folder / (file or name.replace(":", "_").replace("/", "_"))
        certificate_file, key_file = stem.with_suffix(".crt"), stem.with_suffix(".key")
        key = write_key(key_file)
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
        now = datetime.datetime.now(datetime.timezone.utc)
        begin, finish = (now - 2 * DAY, now - DAY) if expired else (now - DAY, now + 365 * DAY)
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name(attributes)).issuer_name(self.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(begin).not_valid_after(finish)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False))
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate_file, key_file


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
