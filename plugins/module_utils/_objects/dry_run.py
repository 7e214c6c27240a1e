# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the server's dry run what an apply of one object would do: it alone knows defaults, admission and webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import send
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import compare, left_to_others, unchanged, version
from ansible_collections.nordic.gitops.plugins.module_utils._objects.explain import explain
from ansible_collections.nordic.gitops.plugins.module_utils._objects.patch import send_patch, taken_back
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Change, Policy

LOOKS = 5  # how often an object that its controllers keep writing is compared anew


def dry_run(cluster: Any, change: Change, policy: Policy, minimum: Optional[int], check_mode: bool, looks: int = LOOKS) -> Change:
    """The change as the server would do it: configured or unchanged, decided. Raises the server's refusal, explained."""
    before = change.before
    try:
        alone = not change.writes and not change.undecided
        if change.patch and (alone or check_mode):  # what the server refuses of it, it refuses in check mode too
            answer = send_patch(cluster, change, dry_run=True)
            if alone:
                return replace(change, after=answer)
        after = send(cluster, change, policy, dry_run=True)
        for _attempt in range(LOOKS):
            if before is None or version(before) == version(after):
                break
            # A controller wrote since the LIST (a status, a revision): what it changed is no difference of ours.
            before = cluster.get(change.resource, change.ref.namespace, change.ref.name)
            change = replace(change, before=before)
            after = send(cluster, change, policy, dry_run=True)
    except Failure as error:
        live = cluster.get(change.resource, change.ref.namespace, change.ref.name) if looks and getattr(error, "stale", False) else None
        if live is not None:  # the patch holds for the version that was listed, and a controller wrote since
            change = compare(change, live, policy, minimum)
            if change.operation != "unchanged":
                return dry_run(cluster, change, policy, minimum, check_mode, looks - 1)
            return replace(change, after=live)
        raise explain(error, change) from None
    writes = before is None or not unchanged(before, after)
    if writes:
        return replace(change, undecided=False, writes=True, after=taken_back(after, change) if change.patch else after,
                       reason=change.reason or "the server's dry run says that it would change")
    if change.patch:
        return replace(change, undecided=False, writes=False)
    return replace(change, undecided=False, writes=False, operation="unchanged", after=after,
                   reason=left_to_others(change.conflicts) if change.conflicts else "in sync")
