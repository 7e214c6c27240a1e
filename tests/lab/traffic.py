# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's users and an API's writer, who count what they were refused while something happens to the cluster.

    with Traffic(["http://10.0.0.1:30080/", …], rate=100) as traffic:
        upgrade()
    assert not traffic.report().failed

Both run in a process of their own, bounded in rate, count and time: `python -m lab.traffic requests|writes FILE` reads its orders
from the file, prints one line when the first answer came, and its report when its standard input ends.
"""

from __future__ import annotations

import collections
import errno
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence
from urllib.parse import urlsplit

from lab import places
from lab.errors import LabError

RATE_LIMIT = 500  # requests a second; more would measure this machine
TIME_LIMIT = 1800.0
PATIENCE = 3.0  # seconds for one request; a user would have gone by then
# Below those that the kernel hands out. A port comes round after 200 s at 100 requests a second: before that, connection tracking on a node
# would take a new request for one of an old connection, and send it to the pod that had that one. Users with addresses of their own do not meet that.
PORTS = range(11000, 31000)
KEPT = 50  # failures that are told one by one
READY = "ready"


@dataclass(frozen=True)
class Requests:
    """What the users of the service saw. Each request had a connection of its own, and none was tried again."""

    sent: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    answers: Dict[str, int]
    failures: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Writes:
    """What the API's writer saw, who goes to the next server when one does not take a write. unavailable: from the beginning of the first
    attempt that failed to the end of the next write that succeeded, added up."""

    written: int
    refused: int
    seconds: float
    unavailable: float
    longest: float
    gaps: List[str] = field(default_factory=list)


class _Program:
    """A generator in its own process, begun when its first request was answered."""

    kind = ""

    def __init__(self, orders: Mapping[str, Any]) -> None:
        self._orders = tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8")
        json.dump(dict(orders), self._orders)
        self._orders.flush()
        self._report: Any = None
        environment = {**os.environ, "PYTHONPATH": str(places.HERE.parent)}
        self._process = subprocess.Popen([sys.executable, "-B", "-m", "lab.traffic", self.kind, self._orders.name], text=True, env=environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if line.strip() != READY:
            raise LabError(f"nothing answers: {line.strip() or self._process.communicate()[1].strip()}")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def end(self) -> None:
        if self._report is None:
            out, errors = self._process.communicate()
            self._orders.close()
            if self._process.returncode:
                raise LabError(f"the generator of {self.kind} broke: {errors.strip()[-500:]}")
            self._report = json.loads(out)


class Traffic(_Program):
    """rate requests a second, in turn to each of the URLs."""

    kind = "requests"

    def __init__(self, urls: Sequence[str], rate: int = 100, limit: float = TIME_LIMIT) -> None:
        super().__init__({"urls": list(urls), "rate": rate, "limit": limit})

    def report(self) -> Requests:
        self.end()
        return Requests(**self._report)


class Writer(_Program):
    """One write every pause seconds, to a ConfigMap. credentials: files ca, certificate, key."""

    kind = "writes"

    def __init__(self, servers: Sequence[str], ca: Path, certificate: Path, key: Path, pause: float = 0.05, limit: float = TIME_LIMIT) -> None:
        super().__init__({"servers": list(servers), "ca": str(ca), "certificate": str(certificate), "key": str(key), "pause": pause, "limit": limit})

    def report(self) -> Writes:
        self.end()
        return Writes(**self._report)


# In the process of its own


def send_requests(orders: Mapping[str, Any], stop: threading.Event) -> Requests:
    """An open loop: a request begins at its time, whatever became of those before it."""
    urls, rate = list(orders["urls"]), int(orders["rate"])
    if not 0 < rate <= RATE_LIMIT:
        raise LabError(f"{rate} requests a second are not between 1 and {RATE_LIMIT}")
    answers: Dict[str, int] = collections.Counter()
    failures: List[str] = []
    took: List[float] = []
    lock = threading.Lock()
    begin = time.monotonic()

    def one(number: int) -> None:
        url = urls[number % len(urls)]
        at = time.monotonic()
        try:
            word = _get(url, PORTS[number % len(PORTS)])
            failure = ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = f"{time.strftime('%H:%M:%S')} +{at - begin:.2f} s, after {time.monotonic() - at:.2f} s: {url}: {type(error).__name__} {error}"
        with lock:
            took.append(time.monotonic() - at)
            if failure:
                failures.append(failure)
            else:
                answers[word] += 1

    number = 0
    with ThreadPoolExecutor(int(rate * PATIENCE) + 1) as pool:
        while not stop.is_set() and time.monotonic() - begin < min(orders["limit"], TIME_LIMIT):
            pool.submit(one, number)
            number += 1
            stop.wait(max(0.0, begin + number / rate - time.monotonic()))
    took.sort()
    return Requests(number, len(failures), round(time.monotonic() - begin, 1), _share(took, 0.5), _share(took, 0.99), _share(took, 1),
                    dict(answers), failures[:KEPT])


def _share(took: Sequence[float], share: float) -> float:
    """The milliseconds within which this share of all was answered."""
    return round(1000 * took[min(len(took) - 1, int(share * len(took)))], 1) if took else 0.0


def _get(url: str, port: int = 0) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=PATIENCE, source_address=("", port) if port else None)
    try:
        try:
            connection.connect()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            connection.source_address = None  # another program has this port; the kernel gives one then
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(4096)
    finally:
        connection.close()
    if answer.status != 200:
        raise ValueError(f"answered {answer.status}")
    return body.decode("utf-8", "replace").split("\n")[0].split()[0] if body.strip() else ""


def write(orders: Mapping[str, Any], stop: threading.Event) -> Writes:
    tls = ssl.create_default_context(cafile=orders["ca"])
    tls.load_cert_chain(orders["certificate"], orders["key"])
    servers = list(orders["servers"])
    written = refused = turn = 0
    gaps: List[float] = []
    told: List[str] = []
    begin = time.monotonic()
    failing_since, why = 0.0, ""
    connections: Dict[str, http.client.HTTPSConnection] = {}
    while time.monotonic() - begin < min(orders["limit"], TIME_LIMIT) and not (stop.is_set() and not failing_since):
        at = time.monotonic()
        server = servers[turn % len(servers)]
        try:
            _patch(connections, server, tls, written)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connections.pop(server, None)
            refused += 1
            turn += 1
            if not failing_since:
                failing_since, why = at, f"{server}: {type(error).__name__} {error}"
            time.sleep(0.01)  # all of them may be down
            continue
        written += 1
        if failing_since:
            gap = time.monotonic() - failing_since
            gaps.append(gap)
            told.append(f"{time.strftime('%H:%M:%S')} +{failing_since - begin:.2f} s for {gap:.3f} s: {why}")
            failing_since = 0.0
        stop.wait(max(0.0, at + orders["pause"] - time.monotonic()))
    if failing_since:
        gaps.append(time.monotonic() - failing_since)
        told.append(f"+{failing_since - begin:.2f} s to the end: {why}")
    return Writes(written, refused, round(time.monotonic() - begin, 1), round(sum(gaps), 3), round(max(gaps, default=0.0), 3), told[:KEPT])


def _patch(connections: Dict[str, http.client.HTTPSConnection], server: str, tls: ssl.SSLContext, number: int) -> None:
    connection = connections.get(server)
    if connection is None:
        parts = urlsplit(server)
        connection = connections[server] = http.client.HTTPSConnection(parts.hostname or "", parts.port or 6443, timeout=PATIENCE, context=tls)
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lab-writer"}, "data": {"number": str(number)}})
    connection.request("PATCH", "/api/v1/namespaces/default/configmaps/lab-writer?fieldManager=lab&force=true", body,
                       {"Content-Type": "application/apply-patch+yaml"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 201):
        raise ValueError(f"answered {answer.status} {text[:200]!r}")


def main() -> int:
    kind, path = sys.argv[1:]
    orders = json.loads(Path(path).read_text(encoding="utf-8"))
    work = {"requests": send_requests, "writes": write}[kind]
    if kind == "requests":
        for url in orders["urls"]:
            try:
                _get(url)
            except (OSError, http.client.HTTPException, ValueError) as error:
                print(f"{url}: {error}", flush=True)
                return 1
    print(READY, flush=True)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print(json.dumps(work(orders, stop).__dict__), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
