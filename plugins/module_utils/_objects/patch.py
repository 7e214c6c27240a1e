# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take back what people added to one object: what an apply alone cannot do."""

from __future__ import annotations

import copy
import re
from typing import Any, List, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change

REPLICAS = ("f:spec", "f:replicas")


def take_back(live: Body, leftovers: Sequence[ownership.Leftover], replicas: Optional[int], hand_over: bool) -> List[Body]:
    """The JSON patch for what an apply cannot do; it holds only for the version that was seen, [] when there is nothing."""
    ops: List[Body] = [{"op": "remove", "path": "".join("/" + str(step).replace("~", "~0").replace("/", "~1")
                                                        for step in item.pointer)} for item in leftovers]
    if replicas is not None:
        ops.append({"op": "replace", "path": "/spec/replicas", "value": replicas})
    # A claim on a field that has a default would outlive the removal: the default comes back under the same owner.
    managers = ownership.without_people(live) if leftovers else live["metadata"].get("managedFields") or []
    if hand_over:
        # Leaving replicas out of an apply that owned them would set them to the default, 1, before the autoscaler looks.
        managers = [_without_replicas(entry) for entry in managers]
    if leftovers or hand_over:
        ops.append({"op": "replace", "path": "/metadata/managedFields", "value": managers})
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]}
    return [test] + ops if ops else []


def _without_replicas(entry: Body) -> Body:
    if entry.get("manager") != ownership.FIELD_MANAGER or entry.get("operation") != "Apply":
        return entry
    fields = entry.get("fieldsV1") or {}
    spec = {key: child for key, child in fields.get(REPLICAS[0], {}).items() if key != REPLICAS[1]}
    return {**entry, "fieldsV1": {**fields, REPLICAS[0]: spec}}


def send_patch(cluster: Any, change: Change, dry_run: bool = False) -> Body:
    """Take back what people added. What the server does not let go (it is immutable, or its own by now) stays, no longer theirs."""
    ref, patch = change.ref, change.patch
    while True:
        try:
            return cluster.patch(change.resource, ref.namespace, ref.name, patch, dry_run=dry_run)
        except Failure as error:
            if not getattr(error, "immutable", False) and (getattr(error, "status", None) != 422 or getattr(error, "stale", False)):
                raise
            rest = [op for op in patch if op["op"] != "remove" or not any(_overlap(op["path"], field) for field in getattr(error, "fields", ()))]
            if len(rest) == len(patch):
                rest = [op for op in patch if op["op"] != "remove"]
                if len(rest) == len(patch):
                    raise
            patch = rest


def _overlap(pointer: str, field: str) -> bool:
    """Whether a JSON pointer and a field as the server names it (spec.ports[0].name) are one place, or one holds the other."""
    left = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    right = re.findall(r"[^.\[\]]+", field)
    return all(mine == theirs for mine, theirs in zip(left, right))


def taken_back(after: Body, change: Change) -> Body:
    """What an apply's dry run answers, less what the patch before it takes back: the server cannot rehearse one after the other."""
    result = copy.deepcopy(after)
    for leftover in ownership.leftovers(after, change.body or {}):
        place = result
        for step in leftover.pointer[:-1]:
            place = place[step]
        del place[leftover.pointer[-1]]  # a list's last items come first, so the others keep their places
    return result
