# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of one object, under the name that they had."""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import BUILT_IN_GROUPS, Body, Change, Conflict, Document, Intent, Ref

__all__ = ["BUILT_IN_GROUPS", "Body", "Change", "Conflict", "Document", "Intent", "Ref"]
