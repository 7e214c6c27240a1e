# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the server's refusal of one object with its place in the repository, and with what to do."""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.replace import lost_with
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Change


def explain(error: Failure, change: Change) -> Failure:
    """The server's error, told with the place in the repository and, where that helps, with what to do."""
    where = f"{change.intent.where}: {change.ref}" if change.intent else str(change.ref)
    hint = error.hint
    if error.immutable:
        lost = lost_with(change)
        hint = "Set " + ("" if lost else "replace_immutable: true, or ")
        hint += "the annotation argocd.argoproj.io/sync-options: Replace=true on the object, to have it deleted"
        hint += (f", with {lost}," if lost else "") + " and created again."
        if change.hook:
            hint = "Give the hook the delete policy BeforeHookCreation (helm.sh/hook-delete-policy: before-hook-creation), to have it deleted first."
        if (change.ref.group, change.ref.kind) in (NAMESPACE, CRD):
            hint = "It is never replaced, for that would delete everything that depends on it."
    error.where, error.hint = where, hint
    return error
