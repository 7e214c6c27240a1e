# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs k3s_plan in the controller's own process: it is pure, so neither a host nor another Python takes part."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.system import SYSCTLS
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.plan import Fleet, make_plan
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.restore_plan import plan_restore

SPEC: Dict[str, Any] = {
    "observed": {"type": "dict", "required": True},
    "operation": {"type": "str", "choices": ["bootstrap", "restore"], "default": "bootstrap"},
    "restore_on": {"type": "str"},
    "lost": {"type": "list", "elements": "str", "default": []},
    "unseen": {"type": "list", "elements": "str", "default": []},
    "url": {"type": "str"},
    "version": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "agent_token": {"type": "str", "no_log": True},
    "salt": {"type": "str"},
}


class ActionModule(ActionBase):
    """No connection, no transfer."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(SPEC)
        try:
            fleet = Fleet.of(options["observed"], options["url"] or "", options["version"] or "", options["token"] or "", options["agent_token"] or "",
                             options["salt"] or "", options["unseen"])
            plan = plan_restore(fleet, options["restore_on"] or "", options["lost"]) if options["operation"] == "restore" else make_plan(fleet)
        except Failure as failure:
            return {**result, "failed": True, "msg": str(failure), **failure.details}
        return {**result, "changed": False, **plan.result(), "kubelet_sysctls": {row.name: row.wanted for row in SYSCTLS if row.kubelet}}
