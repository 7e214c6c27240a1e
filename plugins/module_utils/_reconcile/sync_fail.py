# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows when a run with hooks fails: the hooks of SyncFail, and the deletion of hooks that say HookFailed."""

from __future__ import annotations

from typing import Callable, Sequence, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import apply
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import Inventory
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import SYNC_FAIL, Step
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.outcomes import Outcomes
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import Plan
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.run_hooks import delete_by_policy

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster


def run_sync_fail(cluster: Cluster, plan: Plan, steps: Sequence[Step], inventory: Inventory, options: Options, outcomes: Outcomes,
                  progress: Callable[[str], None], failure: Failure) -> None:
    """Run the hooks of SyncFail. What goes wrong here is told after the failure that they run for."""
    if failure.retryable or inventory.is_lost:
        return  # nobody would answer, or another run is at work

    def try_to(work: Callable[[], None]) -> None:
        try:
            work()
        except Failure as second:
            errors = failure.details.get("errors") or [str(failure)]
            failure.what = f"{failure.what}. After that: {second}"
            failure.details = {**failure.details, "errors": [*errors, str(second)]}

    try_to(lambda: apply(cluster, plan, [step for step in steps if step.phase == SYNC_FAIL], inventory, options, outcomes, progress))
    try_to(lambda: delete_by_policy(cluster, plan, inventory, options, outcomes, succeeded=False))
