# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One sealed value, as pkg/crypto of sealed-secrets writes it.

    uint16 length of R | R = RSA-OAEP-SHA256(session key, label) | AES-256-GCM(session key, nonce 0, value), as base64

The label binds a value to its scope: the namespace and the name, the namespace alone, or nothing.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any, Iterable, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, MissingLibrary

STRICT, NAMESPACE_WIDE, CLUSTER_WIDE = "strict", "namespace-wide", "cluster-wide"
SCOPES = (STRICT, NAMESPACE_WIDE, CLUSTER_WIDE)  # from the narrowest to the widest
PREFIX = "sealedsecrets.bitnami.com/"
SCOPE_ANNOTATIONS = {NAMESPACE_WIDE: f"{PREFIX}namespace-wide", CLUSTER_WIDE: f"{PREFIX}cluster-wide"}

_SESSION_KEY = 32
_NONCE = bytes(12)  # each session key seals one value only


class Unopened(Failure):
    """No key opens this blob for this scope, namespace and name."""


def crypto() -> Any:
    """The parts of the package cryptography that this one needs."""
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as error:
        raise MissingLibrary("cryptography", error) from error

    class Crypto:
        AESGCM, OAEP, MGF1, SHA256 = aead.AESGCM, padding.OAEP, padding.MGF1, hashes.SHA256
        private_key, public_type, private_type = serialization.load_pem_private_key, rsa.RSAPublicKey, rsa.RSAPrivateKey
        encodings = serialization

    return Crypto


def label(scope: str, namespace: str, name: str) -> bytes:
    """What a blob of this scope is bound to."""
    if scope == CLUSTER_WIDE:
        return b""
    return (namespace if scope == NAMESPACE_WIDE else f"{namespace}/{name}").encode()


def scope_of(annotations: Optional[Mapping[str, Any]]) -> str:
    """The scope that annotations state; cluster-wide wins, as in the controller."""
    for scope in reversed(SCOPES[1:]):
        if (annotations or {}).get(SCOPE_ANNOTATIONS[scope]) == "true":
            return scope
    return STRICT


def seal(public_key: Any, value: bytes, bound_to: bytes) -> str:
    """The blob of a value; another one each time."""
    tools = crypto()
    session_key = os.urandom(_SESSION_KEY)
    wrapped = public_key.encrypt(session_key, _oaep(tools, bound_to))
    sealed = tools.AESGCM(session_key).encrypt(_NONCE, value, None)
    return base64.b64encode(len(wrapped).to_bytes(2, "big") + wrapped + sealed).decode("ascii")


def unseal(private_keys: Iterable[Any], text: str, bound_to: bytes) -> Tuple[Any, bytes]:
    """(the key that opened it, the value); Unopened when none does."""
    from cryptography.exceptions import InvalidTag

    tools = crypto()
    wrapped, sealed = parts(text)
    for private_key in private_keys:
        if private_key.key_size != len(wrapped) * 8:
            continue
        try:
            session_key = private_key.decrypt(wrapped, _oaep(tools, bound_to))
        except ValueError:
            continue
        try:
            return private_key, tools.AESGCM(session_key).decrypt(_NONCE, sealed, None)
        except (InvalidTag, ValueError):
            raise Unopened("was altered after it was sealed") from None
    raise Unopened("no key opens it")


def parts(text: str) -> Tuple[bytes, bytes]:
    """(the wrapped session key, the sealed value)"""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unopened("is not base64") from None
    length = int.from_bytes(blob[:2], "big")
    if len(blob) < 2 or len(blob) < 2 + length:
        raise Unopened("is too short for a sealed value")
    return blob[2:2 + length], blob[2 + length:]


def _oaep(tools: Any, bound_to: bytes) -> Any:
    return tools.OAEP(mgf=tools.MGF1(tools.SHA256()), algorithm=tools.SHA256(), label=bound_to or None)
