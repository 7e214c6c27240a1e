# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was really asked of the API server, counted from its own audit log and not from what a client says of itself."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List

from lab.cluster import Cluster

WRITES = ("create", "update", "patch", "delete", "deletecollection")

# The documents in which a server says what it serves: the API groups, their resources, the schemas, its version.
DISCOVERY = re.compile(r"^/(version|api|apis|api/[^/]+|apis/[^/]+|apis/[^/]+/[^/]+|openapi(/.*)?)/?$")


class Audit:
    """Reads what the log gains, line by line: kept whole, the events of 5,001 objects would make the bench larger than what it measures."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._file = open(cluster.audit_log, "rb")  # pylint: disable=consider-using-with
        self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> "Audit":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def skip(self) -> None:
        """Forget what happened until now."""
        self._cluster.moment()
        self._file.seek(0, os.SEEK_END)

    def counts(self) -> Dict[str, int]:
        """The kinds of requests since the last call."""
        self._cluster.moment()
        return count(self._events())

    def _events(self) -> Iterator[Dict[str, Any]]:
        for line in self._file:
            event = json.loads(line)
            if not event.get("userAgent", "").startswith("lab-moment-"):
                yield event


def count(events: Iterable[Dict[str, Any]]) -> Dict[str, int]:
    """Requests by kind: discovery, list, watch, get, write, dry run, other; for writes the verb as well."""
    kinds: Counter = Counter()
    for event in events:
        # Of a watch the start is logged and the end; every other request counts when it is answered.
        if event["stage"] == ("ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"):
            kinds.update(kinds_of(event))
    return dict(sorted(kinds.items()))


def kinds_of(event: Dict[str, Any]) -> List[str]:
    path, _ignored, query = event["requestURI"].partition("?")
    verb = event["verb"]
    if "objectRef" not in event:
        return ["discovery"] if verb == "get" and DISCOVERY.match(path) else ["other"]
    if verb in WRITES:
        return ["dry run"] if "dryRun=" in query else ["write", "write: " + verb]
    return [verb if verb in ("list", "watch", "get") else "other"]
