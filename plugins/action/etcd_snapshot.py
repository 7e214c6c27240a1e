# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs etcd_snapshot on its host, and signs on the controller what it has to ask the store of copies. In a task of the role k3s its messages name
the role's variables."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.s3_signer import Signer, with_signed_requests
from ansible_collections.nordic.gitops.plugins.plugin_utils._option_names import NamingAction


class ActionModule(NamingAction):
    """One execution without a store; with one the module is run again for what its answers make it ask."""

    MODULE = "nordic.gitops.etcd_snapshot"

    def execute(self, arguments: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        run, state = super().execute, arguments.get("state") or "present"
        if arguments.get("s3") is None:
            return run(arguments, task_vars)
        signer = Signer(arguments["s3"], state, arguments.get("name") or "", arguments.get("file") or "")
        if state != "present":
            return with_signed_requests(lambda given: run(given, task_vars), arguments, signer)
        # What is saved has a name only then; nothing of the second part saves or verifies anew.
        saved = run({key: value for key, value in arguments.items() if key != "s3"}, task_vars)
        if saved.get("failed") or not saved.get("snapshot"):
            return saved
        rest = {key: value for key, value in arguments.items() if key not in ("max_age", "verify")}
        copied = with_signed_requests(lambda given: run(given, task_vars), rest, signer)
        return {**saved, **copied, "changed": bool(saved.get("changed") or copied.get("changed"))}
