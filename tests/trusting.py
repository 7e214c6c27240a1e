# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be trusted: certificates, SSH keys and GPG keys, made by the programs that people make them with."""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(name: str) -> Tuple[str, str]:
    """(a certificate, its private key) in PEM format."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1)
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=36500)).sign(key, hashes.SHA256()))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def ssh_key(folder: Path, kind: str) -> str:
    """TYPE KEY of ssh-keygen; the same one for a folder each time."""
    folder.mkdir(exist_ok=True)
    file = folder / f"key_{kind}"
    if not file.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)], check=True)
    return " ".join(Path(f"{file}.pub").read_text(encoding="utf-8").split()[:2])


class GpgKey(NamedTuple):
    fingerprint: str
    public: str
    private: str


class GpgKeys(List[GpgKey]):
    """All of a key ring; both: the public keys in one block."""

    both: str


@contextlib.contextmanager
def gpg_keys(*names: str) -> Iterator[GpgKeys]:
    """Keys of gpg, in a home on a path short enough for its sockets."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        def gpg(*arguments: str) -> str:
            return subprocess.run(["gpg", "--homedir", home, "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback", *arguments],
                                  capture_output=True, text=True, check=True).stdout

        try:
            found = GpgKeys()
            for name in names:
                gpg("--quick-generate-key", name, "ed25519", "sign", "0")
                lines = gpg("--list-keys", "--with-colons", name).splitlines()
                fingerprint = [line.split(":")[9] for line in lines if line.startswith("fpr:")][0]
                found.append(GpgKey(fingerprint, gpg("--export", "--armor", name), gpg("--export-secret-keys", "--armor", name)))
            found.both = gpg("--export", "--armor")
            yield found
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
