# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit: the PATCH requests of our own apply stage sent again with no logic at all.

The same bytes, the same HTTP library (the connection pool of urllib3), as many threads and connections as the apply stage had, connections
open before the clock starts as they are for the apply stage (it comes after the LISTs). Nothing is parsed, decided, ordered or retried:
a thread takes the next request and sends it. Only what must be there first (Namespaces) is sent ahead, inside the measured time.

`python -m bench.replay REQUESTS KUBECONFIG` prints what it took as JSON.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

from .server import Access

AHEAD = re.compile(r"^/api/v1/namespaces/[^/?]+(\?|$)")

# The record of what belongs to a reconcile is not one of the objects, so its writing is no part of the limit.
INVENTORY = re.compile(r"^/api/v1/namespaces/default/(configmaps|secrets)/")


def replay(requests: List[Dict[str, Any]], access: Access, threads: int, folder: Path) -> Dict[str, Any]:
    pool = access.pool(threads, folder)
    # urllib3 hands connections out last in, first out: opened at the same time or the pool would open one and use it again and again.
    barrier = threading.Barrier(threads)

    def connect() -> None:
        barrier.wait()
        pool.urlopen("GET", "/version", headers=access.headers)

    _in_threads(threads, connect)

    ready = [(each["path"], each["body"].encode(), dict(each["headers"], **access.headers)) for each in requests if not INVENTORY.match(each["path"])]
    ahead = [each for each in ready if AHEAD.match(each[0])]
    rest = iter([each for each in ready if not AHEAD.match(each[0])])
    statuses: List[int] = []

    def send() -> None:
        # One iterator shared by all threads: `next` of a list's iterator is one step of the interpreter.
        for path, body, headers in rest:
            statuses.append(pool.urlopen("PATCH", path, body=body, headers=headers).status)

    start = time.perf_counter()
    for path, body, headers in ahead:
        statuses.append(pool.urlopen("PATCH", path, body=body, headers=headers).status)
    _in_threads(threads, send)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "threads": threads, "requests": len(ready), "statuses": dict(Counter(statuses))}


def _in_threads(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work) for _turn in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    recorded = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[1]).parent
    json.dump(replay(recorded["requests"], Access.of(Path(sys.argv[2])), recorded["threads"], folder), sys.stdout)


if __name__ == "__main__":
    main()
