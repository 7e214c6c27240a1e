# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs k3s_info on its host. What it refuses in a task of the role k3s is said in the role's words."""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.plugin_utils._role_words import InRolesWords


class ActionModule(InRolesWords):
    """One execution."""

    MODULE = "nordic.gitops.k3s_info"
