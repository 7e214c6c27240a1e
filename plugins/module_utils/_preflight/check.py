# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is: a row with a name, a threshold, a measurement and the words for a person; and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Tuple

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._preflight.host import Host
    from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

PASS, WARN, FAIL, ACCEPTED, NOT_APPLICABLE = "pass", "warn", "fail", "accepted", "not applicable"
# From what stops an installation to what concerns nobody: the order of every summary.
VERDICTS = (FAIL, WARN, ACCEPTED, PASS, NOT_APPLICABLE)


@dataclass(frozen=True)
class Finding:
    """What one check found on one node.

    value: what was measured, in a few words.
    evidence: where it was read, and what it said, one sentence each.
    mend: how to mend just this; the row's own words where it is empty.
    data: what a report draws (JSON types only).
    """

    verdict: str
    value: str
    evidence: Tuple[str, ...] = ()
    mend: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One row of the table of checks.

    name: what a person accepts it by.
    threshold: what passes, by profile.
    measure: looks at the node and judges.
    applies: whether this profile needs it at all.
    """

    name: str
    family: str
    title: str
    threshold: Callable[[Profile], str]
    measure: Callable[[Host], Finding]
    why: str
    mend: str
    applies: Callable[[Profile], bool] = lambda profile: True


@dataclass(frozen=True)
class Result:
    """A finding with its row, and with what a person accepted."""

    check: Check
    finding: Finding
    threshold: str
    accepted: bool
    seconds: float

    @property
    def verdict(self) -> str:
        return ACCEPTED if self.accepted and self.finding.verdict in (WARN, FAIL) else self.finding.verdict

    def as_dict(self) -> Dict[str, Any]:
        return {
            "name": self.check.name,
            "family": self.check.family,
            "title": self.check.title,
            "value": self.finding.value,
            "threshold": self.threshold,
            "verdict": self.verdict,
            "found": self.finding.verdict,
            "evidence": list(self.finding.evidence),
            "why": self.check.why,
            "mend": self.finding.mend or self.check.mend,
            "data": dict(self.finding.data),
            "seconds": round(self.seconds, 3),
        }


def worst(*verdicts: str) -> str:
    """The verdict of a check that looked at several things."""
    return min(verdicts, key=VERDICTS.index) if verdicts else PASS
