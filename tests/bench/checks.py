# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures to reach, as data, and whether this run reached them. A figure is only ever compared with another one of the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from .peers import CALL, FIRST, HEAL, KUBECTL, LIMIT, MODULE, NOOP, STAGE, VARIANTS
from .race import Figure
from .stats import Spread

# What a no-op may ask the API server for.
READS = ("list", "discovery")


@dataclass(frozen=True)
class AtMost:
    """Our median is at most `limit` times the median of the quickest of `others`."""

    name: str
    case: int
    operation: str
    ours: str
    others: Tuple[str, ...]
    limit: float

    def evaluate(self, figures: Sequence[Figure]) -> Optional[Dict[str, Any]]:
        mine = _seconds(figures, self.case, self.operation, self.ours)
        theirs = {name: seconds for name in self.others for seconds in [_seconds(figures, self.case, self.operation, name)] if seconds}
        if not mine or not theirs:
            return None
        quickest = min(theirs, key=lambda name: Spread.of(theirs[name]).median)
        ratio = Spread.of(mine).median / Spread.of(theirs[quickest]).median
        return _check(self.name, ratio, self.limit, ratio <= self.limit, compared_with=quickest)


@dataclass(frozen=True)
class Count:
    """A figure that each round has to keep to, so the worst round is what is shown."""

    name: str
    case: int
    operation: str
    ours: Tuple[str, ...]
    what: str
    limit: float
    unit: str
    exactly: bool = False

    def evaluate(self, figures: Sequence[Figure]) -> Optional[Dict[str, Any]]:
        found = [VALUES[self.what](figure) for figure in figures
                 if (figure.case, figure.operation) == (self.case, self.operation) and figure.peer in self.ours]
        if not found:
            return None
        worst = max(found, key=lambda value: abs(value - self.limit)) if self.exactly else max(found)
        holds = worst == self.limit if self.exactly else worst <= self.limit
        return _check(self.name, worst, self.limit, holds, unit=self.unit)


VALUES = {
    "peak": lambda figure: figure.peak_mb,
    "writes": lambda figure: figure.requests.get("write", 0),
    "other requests": lambda figure: sum(count for kind, count in figure.requests.items() if kind not in READS and ": " not in kind),
}

Rule = Union[AtMost, Count]

RULES: Tuple[Rule, ...] = (
    AtMost("401 objects, first sync: whole call / kubernetes.core.k8s", 401, FIRST, CALL, VARIANTS, 1 / 2),
    AtMost("401 objects, first sync: the module / kubectl", 401, FIRST, MODULE, (KUBECTL,), 1.0),
    AtMost("401 objects, first sync: the apply stage / the replay", 401, FIRST, STAGE, (LIMIT,), 1.2),
    AtMost("401 objects, no-op: whole call / kubernetes.core.k8s", 401, NOOP, CALL, VARIANTS, 1 / 3),
    AtMost("401 objects, no-op: the module / kubectl", 401, NOOP, MODULE, (KUBECTL,), 1 / 3),
    AtMost("5,001 objects, no-op: whole call / kubectl", 5001, NOOP, CALL, (KUBECTL,), 1 / 8),
    Count("5,001 objects, no-op: peak memory of the module", 5001, NOOP, (MODULE,), "peak", 300, "MB"),
    Count("5,001 objects, no-op: requests that are neither LIST nor discovery", 5001, NOOP, (CALL, MODULE), "other requests", 0, "requests"),
    Count("401 objects, 10 damaged, heal: writes, two of them for the record", 401, HEAL, (CALL, MODULE), "writes", 12, "writes", exactly=True),
)


def evaluate(figures: Sequence[Figure], rules: Iterable[Rule] = RULES) -> List[Dict[str, Any]]:
    """One entry for each rule that this run has figures for."""
    return [check for rule in rules for check in [rule.evaluate(figures)] if check]


def _check(name: str, ratio: float, limit: float, holds: bool, **more: Any) -> Dict[str, Any]:
    return dict({"name": name, "ratio": round(ratio, 4), "limit": round(limit, 4), "holds": holds}, **more)


def _seconds(figures: Sequence[Figure], case: int, operation: str, peer: str) -> List[float]:
    return [figure.seconds for figure in figures if (figure.case, figure.operation, figure.peer) == (case, operation, peer)]
