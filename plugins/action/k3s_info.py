# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs k3s_info on its host. In a task of the role k3s its messages name the role's variables."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.observed import as_asked
from ansible_collections.nordic.gitops.plugins.plugin_utils._option_names import NamingAction


class ActionModule(NamingAction):
    """One execution."""

    MODULE = "nordic.gitops.k3s_info"

    def execute(self, arguments: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        return as_asked(arguments.get("wanted"), super().execute(arguments, task_vars))
