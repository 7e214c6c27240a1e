# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether one object may be deleted and created again, because an immutable field of it changed."""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import CRD, NAMESPACE, Change, Policy, annotations_of


def may_replace(change: Change, policy: Policy) -> bool:
    """Whether an object may be deleted and created again for an immutable field; never what takes others with it, and what
    holds data only where the object itself asks for it."""
    if (change.ref.group, change.ref.kind) in (NAMESPACE, CRD):
        return False
    options_text = annotations_of(change.body or {}).get("argocd.argoproj.io/sync-options", "")
    asked = {part.strip() for part in options_text.split(",")}
    return bool({"Replace=true", "Force=true"} & asked) or policy.replace_immutable and not holds_data(change)


def holds_data(change: Change) -> bool:
    """Whether the data goes with the object."""
    return (change.ref.group, change.ref.kind) in (("", "PersistentVolumeClaim"), ("", "PersistentVolume"))
