# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a server's kubeconfig and merges it on the controller, in one step: the credentials are in no result and no variable."""

from __future__ import annotations

import base64
import os
from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.plugin_utils._kubeconfig import merge_into

SPEC: Dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "context": {"type": "str", "required": True},
    "server": {"type": "str", "required": True},
    "current": {"type": "bool", "default": False},
    "replace": {"type": "bool", "default": False},
    "src": {"type": "path", "default": "/etc/rancher/k3s/k3s.yaml"},
}


class ActionModule(ActionBase):
    """One read on the host."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(SPEC)
        there = self._execute_module(module_name="ansible.legacy.slurp", module_args={"src": options["src"]}, task_vars=task_vars)
        if there.get("failed"):
            if self._task.check_mode:  # k3s would have written it by then
                return {**result, "changed": True, "path": options["path"], "context": options["context"]}
            return {**result, "failed": True, "msg": f"{options['src']}: {there.get('msg')}. Is this a k3s server that has started?"}
        path = os.path.realpath(os.path.expanduser(options["path"]))
        try:
            changed, warnings = merge_into(path, base64.b64decode(there["content"]).decode(), options["context"], options["server"], options["current"],
                                           options["replace"], self._task.check_mode)
        except Failure as failure:
            return {**result, "failed": True, "msg": str(failure)}
        except (OSError, UnicodeDecodeError) as error:
            return {**result, "failed": True, "msg": f"{path}: cannot be read or written: {getattr(error, 'strerror', None) or error}"}
        return {**result, "changed": changed, "path": path, "context": options["context"], "warnings": warnings}
