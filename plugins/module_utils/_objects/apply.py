# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply one object, for real or as the server's dry run."""

from __future__ import annotations

from typing import Any

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Policy


def send(cluster: Any, change: Change, policy: Policy, dry_run: bool = False) -> Body:
    """Apply a change's body.

    Without force where no object is expected, so that one which appears meanwhile is not taken over unseen; and with
    on_conflict: fail, where only what people's tools hold is taken. (A dry run of known conflicts decides nothing.)
    """
    if change.before is None or policy.on_conflict == "fail" and not (dry_run and change.conflicts):
        try:
            return cluster.apply(change.resource, change.body, force=False, dry_run=dry_run)[0]
        except Failure as error:
            managers = [manager for _field, manager in getattr(error, "conflicts", ())]
            people = [manager for manager in managers if ownership.is_person(manager) or manager == ownership.FIELD_MANAGER]
            if change.before is None or not managers or people != managers:
                raise
    return cluster.apply(change.resource, change.body, force=True, dry_run=dry_run)[0]
