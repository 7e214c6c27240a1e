# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs etcd_snapshot_info on its host, and signs on the controller what it has to ask the store of copies."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.s3_signer import Signer, with_signed_requests
from ansible_collections.nordic.gitops.plugins.plugin_utils._option_names import NamingAction


class ActionModule(NamingAction):
    """One execution without a store; with one the module is run again for each page of its list."""

    MODULE = "nordic.gitops.etcd_snapshot_info"

    def execute(self, arguments: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        run = super().execute
        if arguments.get("s3") is None:
            return run(arguments, task_vars)
        return with_signed_requests(lambda given: run(given, task_vars), arguments, Signer(arguments["s3"], "info"))
