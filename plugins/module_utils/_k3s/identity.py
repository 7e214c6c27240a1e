# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells one cluster from another on a node: its CA, and the secret part of its token."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Optional

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import files


def password_of(token: str) -> str:
    """The secret part of a token, which is the same in its short and its long form (K10HASH::server:SECRET)."""
    found = re.match(r"K10[0-9a-f]{64}::(?:[^:]+:)?(.*)\Z", token, re.DOTALL)
    return found.group(1) if found else token


def authority_of(data_dir: str) -> Optional[str]:
    """Which cluster this node belongs to: the SHA-256 of the CA that every node of it trusts. No secret."""
    for name in ("server/tls/server-ca.crt", "agent/server-ca.crt"):
        text = files.read(os.path.join(data_dir, name))
        if text:
            return authority_in(text)
    return None


def authority_in(text: str) -> str:
    """The same of a CA's certificates in PEM."""
    return hashlib.sha256("".join(re.findall("[A-Za-z0-9+/=]{20,}", text)).encode()).hexdigest()
