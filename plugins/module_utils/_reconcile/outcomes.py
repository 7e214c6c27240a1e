# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of a plan, change by change, while the plan itself stays as it was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Conflict, Outcome, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import Health, Rules, health


@dataclass(frozen=True)
class HookOutcome:
    """What came of one hook in one phase."""

    status: str  # Planned, NotRun, Running, Succeeded, Failed
    message: str = ""
    wrote: bool = False
    after: Optional[Body] = None


class Outcomes:
    """Filled by the stages, also by several threads: each of its steps is one assignment."""

    def __init__(self) -> None:
        self.health_rules: Rules = {}
        self.by_ref: Dict[Ref, Outcome] = {}
        self.hooks: Dict[Tuple[str, Ref], HookOutcome] = {}  # by phase
        self.health: Dict[Ref, Health] = {}  # of what turned out to be unchanged, and of what was waited for
        self.conflicts: List[Conflict] = []  # found after the plan
        self.waited = False
        self.still_there: List[Ref] = []  # deleted, and held by a finalizer

    def get(self, change: Change) -> Optional[Outcome]:
        return self.by_ref.get(change.ref)

    def operation_of(self, ref: Ref) -> str:
        """What was done to an object, "" for nothing."""
        outcome = self.by_ref.get(ref)
        return outcome.operation if outcome else ""

    def written(self, change: Change, operation: str, before: Optional[Body], after: Body, incomplete: str = "") -> None:
        """An object was created or configured, or the write turned out to change nothing.

        incomplete: what of it stays though Git does not have it.
        """
        reason = incomplete or ("in sync" if operation == "unchanged" else change.reason)
        self.by_ref[change.ref] = Outcome(operation, reason, before, after, operation != "unchanged", change.resource, bool(incomplete))
        if operation == "unchanged":
            self.health[change.ref] = health(after, self.health_rules)

    def deleted(self, change: Change, live: Body) -> None:
        self.by_ref[change.ref] = Outcome("pruned", change.reason, live, None, wrote=True)

    def skipped(self, change: Change, live: Body, reason: str) -> None:
        self.by_ref[change.ref] = Outcome("skipped", reason, live, live)

    def failed(self, change: Change, reason: str, wrote: bool = False) -> None:
        self.by_ref[change.ref] = Outcome("failed", reason, change.before, None, wrote=wrote)
