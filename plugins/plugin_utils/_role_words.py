# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's failure in the words of whoever uses the role k3s: a person who set k3s_binary has never heard of the option `binary`."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Dict, Mapping, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

ROLE = "nordic.gitops.k3s"
# With an underscore a word is nothing but an option. The others are words of English too, so what stands before them tells.
OPTIONS = ("agent_token", "binary_url", "drop_ins", "remote_src", "wait_timeout")
WORDS = ("adopt", "binary", "checksum", "config", "environment", "files", "images", "registries", "token")
BEFORE = ("Use ", "use ", "Give ", "Set ", "set ", "Leave ", "into ", "option ", "of ", ", ")
SENTENCES = (
    ("with state absent", "by the playbook reset with k3s_reset_remove=true"), ("Use state present", "Use the playbook bootstrap"),
    (" (state upgraded)", ""), ("no binary is given", "no k3s_binary is given"), ("or set force", "or set k3s_drain_force"),
    ("Set delete_emptydir_data", "Set k3s_drain_delete_emptydir_data"), ("by `private_key`", "by `k3s_restore_private_key`"),
    ("`etcd_snapshot` with `state: pruned` removes old snapshots", "The playbook snapshot removes old ones, as k3s_snapshot_keep says"),
    ("`state: pruned` removes old snapshots", "the playbook snapshot removes old ones, as k3s_snapshot_keep says"))
# The options of etcd_snapshot have the name of what the role does with it.
SNAPSHOT = {"s3": "k3s_snapshot_s3", "recipient": "k3s_snapshot_recipient", "name": "k3s_restore_name", "file": "k3s_restore_file",
            "max_age": "k3s_restore_max_age", "private_key": "k3s_restore_private_key"}

_PLACE = re.compile(rf"(^|; )({'|'.join((*OPTIONS, *WORDS))})(?=[.:]| is | has )")
_SNAPSHOT = re.compile(rf"(^|; )({'|'.join(SNAPSHOT)})(?=[.:])")
_OPTION = re.compile(rf"(?<![\w./-])({'|'.join(OPTIONS)})(?![\w/-])")
_WORD = re.compile(rf"({'|'.join(map(re.escape, BEFORE))})({'|'.join(WORDS)})(?![\w/.-])")


def in_roles_words(result: Dict[str, Any], task_vars: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """The result of a task, whose message names the role's variables if the task is one of the role."""
    if result.get("failed") and (task_vars or {}).get("ansible_role_name") == ROLE:
        result["msg"] = said(str(result.get("msg", "")))
    return result


def said(message: str) -> str:
    for words, ours in SENTENCES:
        message = message.replace(words, ours)
    message = _SNAPSHOT.sub(lambda found: found.group(1) + SNAPSHOT[found.group(2)], message)
    message = _PLACE.sub(r"\1k3s_\2", message)
    message = _OPTION.sub(r"k3s_\1", message)
    return _WORD.sub(r"\1k3s_\2", message)


class InRolesWords(ActionBase):
    """Runs MODULE on its host, and says in the role's words what it refuses in a task of the role."""

    MODULE: ClassVar[str] = ""
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            result.update(self.execute(dict(self._task.args), task_vars))
        except Failure as failure:
            result.update(failed=True, msg=str(failure), **failure.details)
        return in_roles_words(result, task_vars)

    def execute(self, arguments: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        done: Dict[str, Any] = self._execute_module(module_name=self.MODULE, module_args=arguments, task_vars=task_vars)
        return done
