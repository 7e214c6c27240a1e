# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the disk takes to keep a promise: etcd's own pattern of writing, measured in the folder that etcd has or will have.

etcd preallocates a segment of its write-ahead log, appends records of a few hundred to a few thousand bytes, and calls fdatasync() before it answers
(its own figure is wal_fsync_duration_seconds, and its documentation asks for a 99th percentile below 10 ms).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, PASS, WARN, Check, Finding
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.percentiles import histogram, percentile

# A segment of etcd's write-ahead log, and the size of record that its documentation measures with.
SEGMENT, RECORD = 64 * 1024 * 1024, 2300
# Seconds for our own measurement, and for fio's where it is there: together within 5 s.
SECONDS, SECONDS_BESIDE_FIO = 4.0, 2.3
# For a p99.9 there must be a thousand samples; a disk that is too slow to give them in time is slow enough to be refused.
FEWEST = 50
# Milliseconds at the 99th percentile: etcd's own line, and where a heartbeat of 100 ms is in danger.
GOOD, LIMIT = 10.0, 50.0


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of one fdatasync() each, in order of size."""

    ordered: Tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Latencies:
        return cls(tuple(sorted(samples)))

    def at(self, percent: float) -> float:
        return percentile(self.ordered, percent)

    def as_dict(self) -> Dict[str, Any]:
        return {
            "samples": len(self.ordered), "p50_ms": round(self.at(50), 4), "p99_ms": round(self.at(99), 4), "p999_ms": round(self.at(99.9), 4),
            "max_ms": round(self.ordered[-1], 4), "histogram": [list(entry) for entry in histogram(self.ordered)],
        }


def measure(folder: str, seconds: float = SECONDS) -> Latencies:
    """Append records to a preallocated file until the segment is full or the time is over. The file has no name: nothing is left behind."""
    handle, path = tempfile.mkstemp(prefix=".nordic.gitops-", dir=folder)
    try:
        os.unlink(path)
        try:
            os.posix_fallocate(handle, 0, SEGMENT)
        except OSError as error:
            # Where the file system cannot reserve, etcd too goes on with a file that grows.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        os.fsync(handle)
        record = os.urandom(RECORD)
        samples = []
        clock = time.perf_counter_ns
        end = clock() + int(seconds * 1e9)
        for _number in range(SEGMENT // RECORD):
            os.write(handle, record)
            begin = clock()
            os.fdatasync(handle)
            done = clock()
            samples.append((done - begin) / 1e6)
            if done > end and len(samples) >= FEWEST:
                break
        return Latencies.of(samples)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Fio:
    """What fio says of the same folder."""

    version: str
    samples: int
    p50: float
    p99: float
    p999: float

    def as_dict(self) -> Dict[str, Any]:
        return {"version": self.version, "samples": self.samples, "p50_ms": round(self.p50, 4), "p99_ms": round(self.p99, 4),
                "p999_ms": round(self.p999, 4)}


def fio_command(program: str, folder: str, seconds: float) -> Tuple[str, ...]:
    return (program, "--name=preflight", f"--directory={folder}", "--rw=write", "--ioengine=sync", "--fdatasync=1", f"--bs={RECORD}",
            f"--size={SEGMENT}", f"--runtime={int(seconds * 1000)}ms", "--percentile_list=50:99:99.9", "--output-format=json")


def fio(folder: str, seconds: float, program: Optional[str] = None) -> Optional[Fio]:
    """None where there is no fio, or it fails: it is a second opinion only."""
    program = program or shutil.which("fio")
    if not program:
        return None
    own = tempfile.mkdtemp(prefix=".nordic.gitops-", dir=folder)
    try:
        done = subprocess.run(fio_command(program, own, seconds), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + 60, check=False)
        report = json.loads(done.stdout[done.stdout.index(b"{"):])
        told = report["jobs"][0]["sync"]["lat_ns"]
        rank = {float(name): value / 1e6 for name, value in told["percentile"].items()}
        return Fio(report["fio version"], told["N"], rank[50.0], rank[99.0], rank[99.9])
    except (OSError, ValueError, KeyError, IndexError, subprocess.TimeoutExpired):
        return None
    finally:
        shutil.rmtree(own, ignore_errors=True)


def judge(own: Latencies, other: Optional[Fio], folder: str) -> Finding:
    p99 = own.at(99)
    # fio may find what we did not: the worse of the two counts.
    deciding = max(p99, other.p99 if other else 0.0)
    evidence = [f"{len(own.ordered)} records of {RECORD} bytes appended in {folder}, each followed by fdatasync(): p50 {own.at(50):.2f} ms, "
                f"p99 {p99:.2f} ms, p99.9 {own.at(99.9):.2f} ms, longest {own.ordered[-1]:.2f} ms"]
    data: Dict[str, Any] = {"folder": folder, **own.as_dict()}
    if other:
        evidence.append(f"{other.version} in the same folder: p50 {other.p50:.2f} ms, p99 {other.p99:.2f} ms, p99.9 {other.p999:.2f} ms")
        data["fio"] = other.as_dict()
    verdict = PASS if deciding <= GOOD else WARN if deciding <= LIMIT else FAIL
    return Finding(verdict, f"p99 {deciding:.2f} ms", tuple(evidence), data=data)


def check(folder: str) -> Finding:
    try:
        beside = shutil.which("fio") is not None
        own = measure(folder, SECONDS_BESIDE_FIO if beside else SECONDS)
        return judge(own, fio(folder, SECONDS_BESIDE_FIO) if beside else None, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Finding(FAIL, "no space to measure", (f"{folder}: {error.strerror} while {SEGMENT // 1024**2} MiB were reserved, as etcd does",),
                           "Make room on the file system.")
        return Finding(FAIL, "could not be measured", (f"{folder}: {error.strerror}",),
                       "Make the folder writable for root, on a file system that is mounted rw.")


ROWS = (
    Check(
        name="fsync_latency",
        family="disk",
        title="fsync latency",
        threshold=lambda profile: f"p99 ≤ {GOOD:.0f} ms, never > {LIMIT:.0f} ms",
        measure=lambda node: check(node.datastore_folder),
        why="A write to the cluster is answered when the disks of most etcd members have it. Above 10 ms everything is slow, above 50 ms members miss "
            "heartbeats and the cluster changes its leader again and again.",
        mend="Put the datastore on a local NVMe or SSD with power-loss protection, away from images and logs; on a virtual disk ask for guaranteed IOPS.",
        applies=lambda profile: profile.server and profile.datastore == "embedded",
    ),
)
