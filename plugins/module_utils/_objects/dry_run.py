# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the server's dry run what an apply of one object would do: it alone knows defaults, admission and webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Sequence, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.apply import known_of, send, until_accepted
from ansible_collections.nordic.gitops.plugins.module_utils._objects.compare import compare, left_to_others, unchanged, version
from ansible_collections.nordic.gitops.plugins.module_utils._objects.explain import explain
from ansible_collections.nordic.gitops.plugins.module_utils._objects.merge import fields_of, merged, with_structs, without
from ansible_collections.nordic.gitops.plugins.module_utils._objects.patch import claims_of, content_patch, replaced, same, send_patch
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Path, Policy, TakeBack
from ansible_collections.nordic.gitops.plugins.module_utils._schema import Type

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._cluster.interface import Cluster

LOOKS = 5  # how often an object that its controllers keep writing is compared anew


def dry_run(cluster: Cluster, change: Change, policy: Policy, minimum: Optional[int], looks: int = LOOKS) -> Change:
    """The change as the server would do it: configured or unchanged, decided. Raises the server's refusal, explained."""
    before = change.before
    try:
        if change.take is not None and not change.writes:
            after, not_released = send_patch(cluster, change, dry_run=True)
            return partly_taken_back(replace(change, after=after), not_released) if not_released else replace(change, after=after)
        after = _ask(cluster, change, policy)
        for _attempt in range(LOOKS):
            if before is None or change.take is not None or version(before) == version(after):
                break
            # A controller wrote since the LIST (a status, a revision): what it changed is no difference of ours.
            before = cluster.get(change.served, change.ref.namespace, change.ref.name)
            change = replace(change, before=before)
            after = _ask(cluster, change, policy)
    except Failure as error:
        live = cluster.get(change.served, change.ref.namespace, change.ref.name) if looks and error.stale else None
        if live is not None:  # what is taken back was found in the version that was listed, and a controller wrote since
            change = compare(change, live, policy, minimum, known_of(cluster, change))
            if change.operation != "unchanged":
                return dry_run(cluster, change, policy, minimum, looks - 1)
            return replace(change, after=live)
        raise explain(error, change) from None
    if before is None or change.take is not None or not unchanged(before, after):
        return replace(change, undecided=False, writes=True, after=after,
                       reason=change.reason or "the server's dry run says that it would change")
    return replace(change, undecided=False, writes=False, operation="unchanged", after=after,
                   reason=left_to_others(change.conflicts) if change.conflicts else "in sync")


def _ask(cluster: Cluster, change: Change, policy: Policy) -> Body:
    """What the server answers to the dry run of a write (apply.write)."""
    schema = known_of(cluster, change).schema

    def request(live: Body, take: Optional[TakeBack], beside: Sequence[Path]) -> Body:
        if take is None:
            return send(cluster, change, policy, dry_run=True)
        if not schema.how:  # the server does not say how the kind merges: what is taken back is subtracted from its answer
            return without(send(cluster, change, policy, dry_run=True), [item.path for item in take.leftovers])
        return _both(cluster, change, live, take, schema, beside)

    return until_accepted(cluster, change, request)


def _both(cluster: Cluster, change: Change, live: Body, take: TakeBack, schema: Type, beside: Sequence[Path] = ()) -> Body:
    """Taking back and applying as one request: the merged object, which the server has no way to be asked about."""
    body = change.body or {}
    ours = [{**entry, "fieldsV1": fields_of(body, schema)} if ownership.is_own(entry) else entry
            for entry in claims_of(live, take, body["apiVersion"], beside)[-1]["value"]]
    gone = with_structs([*(item.path for item in take.leftovers), *take.removed, *beside], [entry.get("fieldsV1") or {} for entry in ours], schema)
    result = merged(without(live, gone), body, schema)
    ops = [same(live), *content_patch(live, result), replaced(ours)]
    answer: Body = cluster.patch(change.served, change.ref.namespace, change.ref.name, ops, dry_run=True)
    # The server takes this for an update of ours beside our apply.
    return {**answer, "metadata": {**answer["metadata"], "managedFields": ours}}


def partly_taken_back(change: Change, not_released: Sequence[Path]) -> Change:
    """The change when the server refuses to let go what was to be taken back."""
    reason = reason_not_released(not_released)
    before = change.before
    if before is not None and change.after is not None and unchanged(before, change.after):
        return replace(change, operation="unchanged", take=None, postponed=True, reason=reason)
    return replace(change, postponed=True, reason=f"{change.reason}; {reason}")


def reason_not_released(paths: Sequence[Path]) -> str:
    """Why an object is not in sync though nothing more of it can be written."""
    return f"the server does not let go {', '.join(map(ownership.dotted, paths))}, which is not in Git"
