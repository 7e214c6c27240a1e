# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place where a secret lies open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line

# The mark that detect-secrets reads, for its findings and for ours.
ALLOWED = "pragma: allowlist secret"


@dataclass(frozen=True, order=True)
class Finding:
    """file: in the repository; line: from 1; what: what lies there, never its value; commit: the one that adds it, "" for a file as it is."""

    file: str
    line: int
    what: str
    commit: str = ""

    def __str__(self) -> str:
        return f"{one_line(self.file, 500)}:{self.line}: {self.what}" + (f" (commit {self.commit[:12]})" if self.commit else "")

    def as_dict(self) -> Dict[str, Any]:
        return {"file": self.file, "line": self.line, "what": self.what, "commit": self.commit}
