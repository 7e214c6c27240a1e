# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revision resolved to."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Dict, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import one_line


@dataclass(frozen=True)
class Commit:
    """What a revision resolved to."""

    id: str
    tree: str
    signer: Optional[str]  # who signed it, once verify_signatures asked and the key was trusted
    author: str  # "Name <address>"
    time: str  # when it was committed, ISO 8601 in UTC
    subject: str


def parse_commit(oid: str, raw: bytes) -> Commit:
    header, _blank, message = raw.partition(b"\n\n")
    facts: Dict[str, str] = {}
    for line in header.decode("utf-8", "replace").splitlines():
        key, _space, value = line.partition(" ")
        facts.setdefault(key, value)
    author = facts.get("author", "").rpartition(">")[0] + ">"
    seconds = facts.get("committer", "").rpartition(">")[2].split()
    stamp = min(int(seconds[0]), 253402300799) if seconds and re.fullmatch("[0-9]{1,20}", seconds[0]) else 0
    first = message.decode("utf-8", "replace").strip().split("\n", 1)[0]
    return Commit(
        id=oid,
        tree=facts.get("tree", ""),
        signer=None,
        author=one_line(author, 200),
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp)),
        subject=one_line(first, 200),
    )
