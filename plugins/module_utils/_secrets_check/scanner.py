# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys and tokens by detect-secrets' rules, line by line."""

from __future__ import annotations

from typing import Iterable, List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import MissingLibrary
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.finding import Finding

# Rules that guess from randomness, from names or from numbers: digests, references and addresses are what manifests are made of. Names are
# judged by structure (kubernetes.py).
GUESSING = ("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector", "IPPublicDetector")


def scan(file: str, lines: Iterable[Tuple[int, str]]) -> List[Finding]:
    """Findings in these numbered lines."""
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import transient_settings
    except ImportError as error:
        raise MissingLibrary("detect-secrets", error) from None
    rules: List[str] = sorted(rule.__name__ for rule in dict(get_mapping_from_secret_type_to_class()).values())
    with transient_settings({"plugins_used": [{"name": name} for name in rules if name not in GUESSING]}):
        return [Finding(file, number, f"holds a secret ({found.type})") for number, line in lines for found in scan_line(line)]
