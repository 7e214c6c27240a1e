# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bcrypt, by the libcrypt of the system: every current Linux has one that knows it (libxcrypt)."""

from __future__ import annotations

import base64
import ctypes
import hmac
import re
import secrets

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

COST = 10  # as Argo CD's own
HIGHEST_COST = 14  # a second; a hash that takes longer to check is taken for another password's
LONGEST = 72  # bytes that bcrypt reads
_HASH = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53}\Z")
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def wrong(password: str) -> str:
    """Why bcrypt cannot hash it as it is."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:  # Python's way to keep bytes of a file or a variable that are not UTF-8
        return "is not UTF-8"
    if not size or size > LONGEST or "\0" in password:
        return f"has {size} bytes; bcrypt takes 1 to {LONGEST}, and no NUL"
    return ""


def matches(password: str, hashed: str) -> bool:
    """Whether a hash is of this password."""
    found = _HASH.match(hashed)
    if not found or int(found.group("cost")) > HIGHEST_COST:
        return False
    return hmac.compare_digest(_crypt(password, "$2b" + hashed[3:29])[3:], hashed[3:])


def new(password: str) -> str:
    """A hash with a salt of its own."""
    salt = base64.b64encode(secrets.token_bytes(16)).decode().rstrip("=").translate(str.maketrans(_BASE64, _BCRYPT))
    return _crypt(password, f"$2b${COST:02}${salt}")


def _crypt(password: str, setting: str) -> str:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            crypt = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        crypt.argtypes, crypt.restype = (ctypes.c_char_p, ctypes.c_char_p), ctypes.c_char_p
        hashed = (crypt(password.encode(), setting.encode()) or b"").decode("ascii", "replace")
        if _HASH.match(hashed):
            return hashed
    raise Failure("no libcrypt that knows bcrypt was found", "libcrypt.so.1, libcrypt.so.2",
                  "Install libxcrypt (the package libcrypt1 or libxcrypt), or run the task on a host that has it.")
