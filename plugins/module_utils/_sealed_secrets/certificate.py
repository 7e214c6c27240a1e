# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate to seal with: read, judged, and kept for the time when its source cannot be reached."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import re
import threading
import warnings
from dataclasses import dataclass
from typing import Any, Callable, List

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url
from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import check_private, make_private
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import crypto
from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole

WARN_BEFORE = datetime.timedelta(days=30)
MAX_SIZE = 1 << 20
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """A certificate of a sealing key. The fingerprint is the public key's, as ssh-keygen and the controller write it."""

    pem: bytes
    public_key: Any
    not_before: datetime.datetime
    not_after: datetime.datetime
    fingerprint: str

    @classmethod
    def parse(cls, data: bytes, where: str) -> Certificate:
        """The first certificate of a PEM text, as kubeseal takes it."""
        tools = crypto()
        from cryptography import x509

        found = _PEM.search(data)
        if not found:
            raise Failure("holds no certificate in PEM format", where, "Give the certificate that the controller serves at /v1/cert.pem.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a serial number or a date that the package finds odd
                # Its extensions are not looked at: the controller's key usage is one that the package refuses to read.
                parsed = x509.load_pem_x509_certificate(found.group(0))
                public_key = parsed.public_key()
        except Exception as error:  # the package's parser has errors of several types
            raise Failure(f"holds a certificate that cannot be read ({type(error).__name__})", where) from None
        if not isinstance(public_key, tools.public_type):
            raise Failure(f"has a key of type {type(public_key).__name__.strip('_')}, Sealed Secrets needs RSA", where)
        return cls(found.group(0) + b"\n", public_key, _utc(parsed, "not_valid_before"), _utc(parsed, "not_valid_after"), fingerprint(public_key))

    def usable(self, where: str, now: datetime.datetime) -> Certificate:
        """Itself, or a Failure that gives the end date."""
        if now > self.not_after:
            raise Failure(f"the certificate expired on {self.not_after:%Y-%m-%d} ({self.fingerprint})", where,
                          "What it sealed can still be opened. Seal with the certificate that the controller serves now.")
        return self


def fingerprint(public_key: Any) -> str:
    """SHA256:…"""
    tools = crypto()
    encoding = tools.encodings
    openssh = public_key.public_bytes(encoding.Encoding.OpenSSH, encoding.PublicFormat.OpenSSH).split()[1]
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(openssh)).digest()).decode("ascii").rstrip("=")


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _utc(parsed: Any, name: str) -> datetime.datetime:
    value = getattr(parsed, f"{name}_utc", None)  # cryptography 42 and later
    return value if value is not None else getattr(parsed, name).replace(tzinfo=datetime.timezone.utc)


# Sources


def from_file(path: str) -> bytes:
    """What a file holds."""
    path = os.path.expanduser(path)
    try:
        with open(path, "rb") as stream:
            return stream.read(MAX_SIZE)
    except OSError as error:
        raise Failure(f"the certificate cannot be read: {error.strerror}", path) from None


def from_url(url: str, timeout: float) -> bytes:
    """What a web server answers, or the controller's Service inside of a cluster."""
    from ansible.module_utils.urls import open_url

    shown = bare_url(url)
    answers: List[bytes] = []
    errors: List[Exception] = []

    def ask() -> None:
        try:
            with open_url(url, timeout=timeout) as answer:
                answers.append(answer.read(MAX_SIZE))
        except Exception as error:  # urllib's, ssl's, http.client's, socket's
            errors.append(error)

    # The time-out of a socket is for each piece of an answer: one that comes byte by byte would never end.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout)
    if answers:
        return answers[0]
    words, status = f"no whole answer within {timeout:g} seconds", 0
    if errors:
        words = str(getattr(errors[0], "reason", "") or errors[0]) or type(errors[0]).__name__
        status = getattr(errors[0], "code", 0)  # a server that answers with an error was reached
    raise ApiError(f"the certificate cannot be fetched: {words.replace(url, shown)}", shown, status=status)


class Cache:
    """Certificates that were fetched once, by source. They are public; who may write them decides what is sealed for whom."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.expanduser(folder)

    def fetch(self, source: str, ask: Callable[[], bytes], notes: List[str]) -> Certificate:
        """What the source answers now; what it answered last when it cannot be reached and that has not expired."""
        file = os.path.join(self.folder, hashlib.sha256(source.encode()).hexdigest() + ".pem")
        try:
            answer = ask()
        except Failure as failure:
            kept = self._load(file)
            if kept is None or kept.not_after < now() or not _unreachable(failure):
                raise
            notes.append(f"{failure} The certificate of an earlier run is used, {kept.fingerprint}, which ends on {kept.not_after:%Y-%m-%d}.")
            return kept
        certificate = Certificate.parse(answer, source)
        self._store(file, certificate)
        return certificate

    def _load(self, file: str) -> Any:
        try:
            check_private(self.folder, "certificate_cache")
            with open(file, "rb") as stream:
                return Certificate.parse(stream.read(MAX_SIZE), file)
        except (OSError, Failure):
            return None

    def _store(self, file: str, certificate: Certificate) -> None:
        try:
            make_private(self.folder, "certificate_cache")
            write_whole(file, certificate.pem)
        except (OSError, Failure):
            pass  # the next run asks again


def _unreachable(failure: Failure) -> bool:
    return getattr(failure, "status", 0) in (0, 502, 503, 504)
