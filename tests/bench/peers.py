# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is measured, and by which command. A turn starts from a wiped cluster and ends when its last operation has been measured."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from .case import Case, result_of
from .measure import Broken, Process

CALL = "nordic.gitops, whole ansible-playbook call"
MODULE = "nordic.gitops, the module"
STAGE = "nordic.gitops, its apply stage"
REPLAY = "replay of its PATCH requests, the process"
LIMIT = "replay of its PATCH requests, no logic"
K8S = "kubernetes.core.k8s"
K8S_APPLY = "kubernetes.core.k8s, apply"
K8S_SERVER_SIDE = "kubernetes.core.k8s, server-side apply"
KUBECTL = "kubectl apply --server-side"
KUBECTL_FORCED = "kubectl apply --server-side --force-conflicts"
KUBECTL_DIFF = "kubectl diff --server-side"
PING = "ansible-playbook with one ping"

TESTS = Path(__file__).resolve().parents[1]

VARIANTS = (K8S, K8S_APPLY, K8S_SERVER_SIDE)

FIRST, NOOP, HEAL, DIFF, FLOOR = "first sync", "no-op", "heal", "diff", "floor"


@dataclass(frozen=True)
class Peer:
    name: str
    command: Callable[[Case], List[str]]
    facts: Callable[[Process], Dict[str, Any]] = lambda process: {}  # what its output says: at least `changed`
    env: Tuple[Tuple[str, str], ...] = ()

    def measure(self, case: Case) -> Tuple[Process, Dict[str, Any]]:
        process = case.run(self.command(case), **dict(self.env))
        return process, self.facts(process)


def _recap(process: Process) -> Dict[str, Any]:
    recap = re.search(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=0\s+failed=0\s+skipped=0", process.output)
    if not recap or recap.group(1) != "1":
        raise Broken("ansible-playbook did not run its one task well:\n%s" % process.output[-3000:])
    return {"changed": recap.group(2) != "0"}


def _module(process: Process) -> Dict[str, Any]:
    result = result_of(process)
    if result.get("failed"):
        raise Broken("the module failed: %s" % result.get("msg"))
    return {"changed": result["changed"], "stages": result.get("seconds", {}), "counts": result.get("counts", {})}


def _replay(process: Process) -> Dict[str, Any]:
    outcome = result_of(process)
    refused = {status: count for status, count in outcome["statuses"].items() if status not in ("200", "201")}
    if refused:
        raise Broken("the replay of the recorded requests was answered with %s" % refused)
    return {"stages": {"replay": outcome["seconds"]}, "threads": outcome["threads"], "requests": outcome["requests"]}


def _peer(name: str, command: Callable[[Case], List[str]], *more: Any, **also: Any) -> Tuple[str, Peer]:
    return name, Peer(name, command, *more, **also)


PEERS: Dict[str, Peer] = dict((
    _peer(CALL, lambda case: case.playbook("reconcile"), _recap),
    _peer(MODULE, lambda case: [sys.executable, str(case.payload)], _module),
    _peer(REPLAY, lambda case: [sys.executable, "-m", "bench.replay", str(case.recorded), str(case.kubeconfig)], _replay, env=(("PYTHONPATH", str(TESTS)),)),
    _peer(K8S, lambda case: case.playbook("k8s"), _recap),
    _peer(K8S_APPLY, lambda case: case.playbook("k8s-apply"), _recap),
    _peer(K8S_SERVER_SIDE, lambda case: case.playbook("k8s-server-side"), _recap),
    _peer(KUBECTL, lambda case: case.kubectl("apply", "--server-side", "--recursive", "-f", str(case.repository))),
    # Without it kubectl leaves what a colleague changed to the colleague and fails.
    _peer(KUBECTL_FORCED, lambda case: case.kubectl("apply", "--server-side", "--force-conflicts", "--recursive", "-f", str(case.repository))),
    # kubectl diff exits 1 when there is a difference: after its own apply there must be none.
    _peer(KUBECTL_DIFF, lambda case: case.kubectl("diff", "--server-side", "--recursive", "-f", str(case.repository))),
    _peer(PING, lambda case: case.playbook("ping"), _recap),
))


@dataclass(frozen=True)
class Turn:
    """The operations of one turn in their order: the first makes the state that the others find."""

    name: str
    operations: Tuple[Tuple[str, str], ...]  # (operation, peer)
    once: Tuple[Tuple[str, str], ...] = ()  # in the first round only: what would take too long to repeat
    rolled_out: bool = True  # after the first operation the controllers roll everything out, so that the next find a living state

    def of_round(self, number: int) -> Tuple[Tuple[str, str], ...]:
        return self.operations + (self.once if number == 0 else ())


# The module's first sync and the replay are the shortest, and what tells them apart is a tenth, while the next turn on the same machine may take
# a third longer. So each has four turns in a round, one next to the other; what a larger turn left behind (a server that tidies up) is felt by the
# one that comes first, which each of them is twice.
MODULE_FIRST, REPLAYED = Turn("module", ((FIRST, MODULE),)), Turn("replay", ((FIRST, REPLAY),))

SMALL: Tuple[Turn, ...] = (
    Turn("reconcile", ((FIRST, CALL), (NOOP, CALL), (HEAL, CALL))),
    Turn("module", MODULE_FIRST.operations + ((NOOP, MODULE), (HEAL, MODULE))),
    REPLAYED,
    Turn("k8s", ((FIRST, K8S), (NOOP, K8S))),
    REPLAYED,
    MODULE_FIRST,
    Turn("k8s-apply", ((FIRST, K8S_APPLY), (NOOP, K8S_APPLY))),
    MODULE_FIRST,
    REPLAYED,
    Turn("k8s-server-side", ((FIRST, K8S_SERVER_SIDE), (NOOP, K8S_SERVER_SIDE))),
    REPLAYED,
    MODULE_FIRST,
    Turn("kubectl", ((FIRST, KUBECTL), (NOOP, KUBECTL), (DIFF, KUBECTL_DIFF), (HEAL, KUBECTL_FORCED))),
    Turn("ping", ((FLOOR, PING),)),
)

# kubernetes.core.k8s stays out: one of its calls takes a minute and a half here. So does the roll-out of 1,250 Pods.
LARGE: Tuple[Turn, ...] = (
    Turn("reconcile", ((FIRST, CALL), (NOOP, CALL), (NOOP, MODULE)), rolled_out=False),
    Turn("kubectl", ((FIRST, KUBECTL), (NOOP, KUBECTL)), once=((DIFF, KUBECTL_DIFF),), rolled_out=False),
)

# From this size on a case has the turns of the large one.
LARGE_FROM = 2001


def turns(objects: int) -> Tuple[Turn, ...]:
    return LARGE if objects >= LARGE_FROM else SMALL
