# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypt a file to a certificate, by openssl's CMS (RFC 5652, with the authenticated AES-256-GCM of RFC 5083 and 5084).

No node ever holds the private key. `openssl cms -decrypt` on any machine opens the file, with no tool of ours.
"""

from __future__ import annotations

import os
import subprocess
import threading
from typing import List, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

SUFFIX = ".cms"
TIMEOUT = 1800


def encrypt(source: str, target: str, certificate: str) -> None:
    """certificate: PEM text of the recipient."""
    recipient = f"{target}.pem"
    try:
        _write(recipient, certificate)
        about = _openssl(["x509", "-in", recipient, "-noout", "-text"], "recipient", "Give a certificate in PEM.")
        # RSA with PKCS #1 v1.5 is only kept for old readers; keys on curves know no padding.
        padding = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"] if b"rsaEncryption" in about else []
        _openssl(["cms", "-encrypt", "-binary", "-stream", "-aes-256-gcm", "-outform", "DER", "-in", source, "-out", f"{target}.part",
                  "-recip", recipient, *padding], source, "This needs OpenSSL 3 on the node.")
        os.chmod(f"{target}.part", 0o600)
        os.replace(f"{target}.part", target)
    finally:
        _remove(recipient, f"{target}.part")


def decrypt(source: str, target: str, private_key: str) -> None:
    """private_key: PEM text; it goes to openssl through a pipe and never onto a disk."""
    with open(os.open(f"{target}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"):
        pass
    reader, writer = os.pipe()
    try:
        feed = threading.Thread(target=_feed, args=(writer, private_key.encode()), daemon=True)
        feed.start()
        _openssl(["cms", "-decrypt", "-binary", "-inform", "DER", "-in", source, "-inkey", f"/dev/fd/{reader}", "-out", f"{target}.part"], source,
                 "Is this the private key of the certificate it was encrypted to, and is the file whole?", [reader])
        os.replace(f"{target}.part", target)
    finally:
        os.close(reader)
        _remove(f"{target}.part")


def _feed(writer: int, data: bytes) -> None:
    with os.fdopen(writer, "wb") as pipe:
        try:
            pipe.write(data)
        except BrokenPipeError:
            pass  # openssl ended before it read the key, and says why


def _openssl(arguments: List[str], where: str, hint: str, descriptors: Sequence[int] = ()) -> bytes:
    try:
        done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              pass_fds=descriptors, timeout=TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise Failure("there is no openssl on this node", where, "Install OpenSSL 3.") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"openssl did not end within {TIMEOUT} seconds", where) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Failure(f"openssl {arguments[0]}: {said[0] if said else f'exit code {done.returncode}'}", where, hint)
    return done.stdout


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _remove(*paths: str) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
