# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs k3s_node on its host, and says every few seconds what it waits for."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.plugin_utils._progress import waited_out
from ansible_collections.nordic.gitops.plugins.plugin_utils._option_names import with_names

MODULE = "nordic.gitops.k3s_node"


class ActionModule(ActionBase):
    """One execution, unless it waits for long."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")
        result.update(waited_out(lambda arguments: self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars),
                                 self._task.args, lambda text: self._display.display(f"{host}: {text}")))
        return with_names(result, MODULE, task_vars)
