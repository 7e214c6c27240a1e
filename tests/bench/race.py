# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run: rounds, in each round every peer's turn, in each turn its operations. Everything is measured in one run on one API server."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from . import damage
from .audit import Audit
from .case import Case
from .controllers import Controllers
from .measure import Broken
from .peers import FIRST, HEAL, LIMIT, MODULE, PEERS, REPLAY, STAGE, Turn, turns
from .recorder import Recorder
from .server import Server

QUIET = 0.10


@dataclass(frozen=True)
class Figure:
    """One raw figure."""

    case: int
    round: int
    operation: str
    peer: str
    seconds: float
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    requests: Dict[str, int] = field(default_factory=dict)
    facts: Dict[str, Any] = field(default_factory=dict)
    busy_before: float = 0.0  # what part of the processors something else used just before the clock started


class Race:
    def __init__(self, server: Server, audit: Audit, controllers: Controllers, kubeconfig: Path, say: Callable[[str], None],
                 only: Sequence[str] = (), patience: float = 5.0):
        self.server = server
        self.audit = audit
        self.controllers = controllers
        self.kubeconfig = kubeconfig
        self.say = say
        self.only = only
        self.patience = patience
        self.figures: List[Figure] = []

    def turns(self, objects: int) -> List[Turn]:
        return [turn for turn in turns(objects) if not self.only or turn.name in self.only]

    def prepare(self, case: Case) -> None:
        """Record our PATCH requests and keep the module's payload: one call that is not measured and warms what is always warm."""
        self.server.wipe()
        if any(turn.name in ("reconcile", "module", "replay") for turn in self.turns(case.objects)):
            self.say("%d objects: recording our own PATCH requests" % case.objects)
            with Recorder(self.server.access, case.scratch) as recorder:
                recorder.kubeconfig(case.kubeconfig)
                case.cold()
                case.keep_payload()
                recorder.write(case.recorded)
        case.point_at(self.kubeconfig)

    def rounds(self, case: Case, count: int) -> None:
        order = self.turns(case.objects)
        for number in range(count):
            # Each round begins with another peer, so that none always runs behind the same one.
            first = number % len(order)
            for turn in order[first:] + order[:first]:
                self.turn(case, turn, number, count)

    def turn(self, case: Case, turn: Turn, number: int, count: int) -> None:
        self.server.wipe()
        case.cold()
        rolled_out = False
        for position, (operation, name) in enumerate(turn.of_round(number)):
            if position == 1 and turn.rolled_out:
                # Not the peer's fault when the machine is too busy for it: said, kept with the figures, and measured all the same.
                rolled_out = self.controllers.work_until(self.server.rolled_out)
                if not rolled_out:
                    self.say("%5d objects: the controllers did not finish the roll-out in time" % case.objects)
            figure = self.measure(case, operation, name, number, rolled_out)
            self.figures.append(figure)
            self.say("%5d objects, round %d of %d: %-10s %-52s %7.2f s" % (case.objects, number + 1, count, operation, name, figure.seconds))
            self.figures.extend(_stages(figure))

    def measure(self, case: Case, operation: str, name: str, number: int, rolled_out: bool) -> Figure:
        before = None
        if operation == HEAL:
            before = self.server.objects(damage.paths())
            damage.damage(self.server)
        busy = settle(self.patience)
        self.audit.skip()
        process, facts = PEERS[name].measure(case)
        requests = self.audit.counts()
        facts["rolled_out"] = rolled_out
        self._verify(case, operation, name, before)
        return Figure(case.objects, number, operation, name, process.seconds, process.cpu_seconds, process.peak_mb, requests, facts, busy)

    def _verify(self, case: Case, operation: str, name: str, before: Any) -> None:
        """A peer that was quick because it did not do the work has no figure."""
        if operation == FIRST:
            there = self.server.count()
            if there != case.objects:
                raise Broken("after the first sync by %s there are %d objects instead of %d" % (name, there, case.objects))
        if operation == HEAL:
            after = self.server.objects(damage.paths())
            unhealed = [path for path in after if not _same(before[path], after[path])]
            if unhealed:
                raise Broken("%s left damaged: %s" % (name, ", ".join(unhealed)))


def _same(before: Any, after: Any) -> bool:
    """Equal but for what a Service gets anew when it was deleted."""
    if not before or not after:
        return before == after
    spec, other = (dict(each.get("spec") or {}) for each in (before, after))
    for name in ("clusterIP", "clusterIPs"):
        spec.pop(name, None)
        other.pop(name, None)
    return spec == other and before.get("data") == after.get("data")


def _stages(figure: Figure) -> List[Figure]:
    """The apply stage and the replay by their own clocks: both leave out starting Python, which is not what they are compared for."""
    stages = figure.facts.get("stages", {})
    if figure.operation != FIRST:
        return []
    if figure.peer == MODULE:
        return [Figure(figure.case, figure.round, FIRST, STAGE, stages["apply"])]
    if figure.peer == REPLAY:
        return [Figure(figure.case, figure.round, FIRST, LIMIT, stages["replay"])]
    return []


def settle(patience: float) -> float:
    """Wait until the machine is quiet, for so many seconds at most, so that nobody pays for what another left to do. Returns how busy it still is."""
    deadline = time.monotonic() + patience
    while True:
        busy = _busy(0.25)
        if busy <= QUIET or time.monotonic() > deadline:
            return round(busy, 3)


def _busy(seconds: float) -> float:
    def ticks() -> List[int]:
        return [int(each) for each in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]

    before = ticks()
    time.sleep(seconds)
    passed = [after - earlier for earlier, after in zip(before, ticks())]
    idle = passed[3] + passed[4]
    return 1.0 - idle / max(1, sum(passed))


def raw(figures: Sequence[Figure]) -> List[Dict[str, Any]]:
    return [asdict(figure) for figure in figures]
