# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the API server may have said 401: a bare "Unauthorized" leaves a person guessing."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Optional


YEAR_10000 = 253402300800.0


def lapsed(config: Any) -> str:
    """Which of the credentials has expired, and when; "" when none has, as far as it can be read here."""
    for setting in config.auth_settings().values():
        end = token_end(str(setting.get("value") or ""))
        if end is not None and end <= time.time():
            return f"the token expired on {_moment(end)}"
    end = certificate_end(config.cert_file) if config.cert_file else None
    if end is not None and end <= time.time():
        return f"the client certificate {config.cert_file} expired on {_moment(end)}"
    return ""


def token_end(value: str) -> Optional[float]:
    """Seconds since the epoch at which a JSON Web Token ends (RFC 7519 exp); None for any other token."""
    parts = value.rpartition(" ")[2].split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = float(claims["exp"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return end if 0 <= end < YEAR_10000 else None


def certificate_end(path: str) -> Optional[float]:
    """Seconds since the epoch at which the certificate ends."""
    try:
        from cryptography import x509

        with open(path, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
    except (ImportError, OSError, ValueError):
        return None
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc.timestamp()
    from datetime import timezone

    return certificate.not_valid_after.replace(tzinfo=timezone.utc).timestamp()


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
