# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure whether a machine can carry a node of k3s, before it is trusted with one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import (
    cgroups,
    clock,
    disk,
    ebpf,
    endpoints,
    fsync,
    kernel,
    network,
    ports,
    security,
    system,
    virtualisation,
)
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, NOT_APPLICABLE, VERDICTS, Check, Finding, Result, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.host import Host

# Every check there is, in the order of a report. The one of fsync is last, with the machine to itself.
CHECKS: Tuple[Check, ...] = (
    *virtualisation.ROWS,
    *system.ROWS,
    *kernel.ROWS,
    *ebpf.ROWS,
    *cgroups.ROWS,
    *clock.ROWS,
    *network.ROWS,
    *ports.ROWS,
    *security.ROWS,
    *endpoints.ROWS,
    *disk.ROWS,
    *fsync.ROWS,
)
NAMES = tuple(check.name for check in CHECKS)


@dataclass(frozen=True)
class Report:
    node: Host
    results: Tuple[Result, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.of(FAIL)

    def of(self, verdict: str) -> List[Result]:
        return [result for result in self.results if result.verdict == verdict]

    def result(self) -> Dict[str, Any]:
        options, machine = self.node.options, self.node.machine
        return {
            "changed": False,
            "passed": self.passed,
            "verdict": worst(*(result.verdict for result in self.results)),
            "counts": {verdict.replace(" ", "_"): len(self.of(verdict)) for verdict in VERDICTS},
            "checks": [result.as_dict() for result in self.results],
            "peers": [peer.as_dict() for peer in self.node.peers],
            "dismissed": self.node.peer_results.dismissed,
            "profile": {"role": options.profile.role, "cni": options.profile.cni, "datastore": options.profile.datastore},
            "node": {"name": options.name, "hostname": os.uname().nodename, "address": options.own.address if options.own else options.address,
                     "kernel": machine.release, "architecture": machine.architecture, "system": _system(machine.lines("/etc/os-release"))},
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(self.seconds, 2),
        }

    def failure(self) -> str:
        """Every failed check with its evidence and how to mend it, for a person who sees nothing else."""
        failed = self.of(FAIL)
        sentences = [f"{result.check.name}: {result.finding.value} ({'; '.join(result.finding.evidence[:3])}). "
                     f"{result.finding.mend or result.check.mend}" for result in failed]
        count = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
        return f"{count} failed on {self.node.options.name} ({self.node.profile}). " + " | ".join(sentences)


def preflight(node: Host) -> Report:
    """Every check that the node's profile asks for, one after another."""
    begin = time.monotonic()
    results = tuple(_run(check, node) for check in CHECKS)
    return Report(node, results, time.monotonic() - begin)


def _run(check: Check, node: Host) -> Result:
    begin = time.monotonic()
    if check.applies(node.profile):
        try:
            finding = check.measure(node)
        except OSError as error:
            # One thing that the machine refuses to tell must not hide all the others.
            finding = Finding(FAIL, "could not be measured", (str(error),))
    else:
        finding = Finding(NOT_APPLICABLE, f"not for {node.profile}")
    return Result(check, finding, check.threshold(node.profile), check.name in node.options.accept, time.monotonic() - begin)


def require_root() -> None:
    if os.geteuid() != 0:
        raise Failure("preflight must be root: bpf(), other processes and the datastore's folder are root's", "node_preflight", "Set become: true.")


def _system(lines: List[str]) -> str:
    for line in lines:
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "unknown"
