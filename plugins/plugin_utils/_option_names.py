# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a message of the k3s modules names an option.

A module marks it as Ansible's documentation does, O(binary) or O(state=absent), since it cannot know who reads: a person who set k3s_binary has never
heard of the option binary. The name is chosen here, where the message is shown.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Dict, Mapping, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

ROLE = "nordic.gitops.k3s"
_INSTALLS = {"state=present": "the playbook bootstrap", "state=absent": "the playbook reset with k3s_reset_remove=true"}
# By module, what stands for its options in the role. Those of the first two have the name of their variable but for the prefix.
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "nordic.gitops.k3s": _INSTALLS,
    "nordic.gitops.k3s_info": _INSTALLS,
    "nordic.gitops.k3s_node": {"force": "k3s_drain_force", "delete_emptydir_data": "k3s_drain_delete_emptydir_data"},
    "nordic.gitops.etcd_snapshot": {
        "s3": "k3s_snapshot_s3", "recipient": "k3s_snapshot_recipient", "name": "k3s_restore_name", "file": "k3s_restore_file",
        "max_age": "k3s_restore_max_age", "private_key": "k3s_restore_private_key", "state=pruned": "the playbook snapshot"},
}
PREFIXED = ("nordic.gitops.k3s", "nordic.gitops.k3s_info")

_OPTION = re.compile(r"(?<![A-Za-z])O\(([a-z0-9_]+)(?:=([a-z]+))?\)")


def named(message: str, module: str, in_role: bool) -> str:
    """The message with the names that its reader knows."""
    def name(found: re.Match[str]) -> str:
        option, value = found.groups()
        variable = VARIABLES.get(module, {}).get(found.group(0)[2:-1]) if in_role else None
        if variable:
            return variable
        if value:
            return f"`{option}: {value}`"
        return f"k3s_{option}" if in_role and module in PREFIXED else str(option)

    return _OPTION.sub(name, message)


def with_names(result: Dict[str, Any], module: str, task_vars: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """The result of a task of this module, whose message names variables of the role if the task is one of it."""
    if result.get("failed"):
        result["msg"] = named(str(result.get("msg", "")), module, (task_vars or {}).get("ansible_role_name") == ROLE)
    return result


class NamingAction(ActionBase):
    """Runs MODULE on its host."""

    MODULE: ClassVar[str] = ""
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            result.update(self.execute(dict(self._task.args), task_vars))
        except Failure as failure:
            result.update(failed=True, msg=str(failure), **failure.details)
        return with_names(result, self.MODULE, task_vars)

    def execute(self, arguments: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        done: Dict[str, Any] = self._execute_module(module_name=self.MODULE, module_args=arguments, task_vars=task_vars)
        return done
