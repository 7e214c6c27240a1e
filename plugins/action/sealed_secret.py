# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seals on the controller: the plain values stay in this process, and a backup's keys too."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Dict, List, Mapping, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import keys as sealing_keys
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import task
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.source import CERTIFICATE_SPEC
from ansible_collections.nordic.gitops.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.nordic.gitops.plugins.plugin_utils._vault import Vault

VALUES = ("data", "data_base64", "data_files", "src")

SPEC: Dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "resealed", "validated"], "default": "present"},
    "path": {"type": "path", "required": True},
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "scope": {"type": "str", "choices": ["strict", "namespace-wide", "cluster-wide"]},
    "data": {"type": "dict", "no_log": True},
    "data_base64": {"type": "dict", "no_log": True},
    "data_files": {"type": "dict"},
    "src": {"type": "path"},
    "type": {"type": "str"},
    "immutable": {"type": "bool"},
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
    "template": {"type": "dict"},
    "merge": {"type": "bool", "default": True},
    "allow_wider_scope": {"type": "bool", "default": False},
    "backup": {"type": "list", "elements": "path", "default": []},
    "vault_password": {"type": "str", "no_log": True},
    "fingerprint_key": {"type": "str", "no_log": True},
    "wait": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 120},
    **CERTIFICATE_SPEC,
    **CONNECTION_SPEC,
}
OF_ONE = ("name", "data", "data_base64", "data_files", "type", "immutable", "labels", "annotations", "template")


class ActionModule(ControllerAction):
    """One file, or for resealed and validated a folder of them."""

    SPEC: ClassVar[Mapping[str, Any]] = SPEC
    RULES: ClassVar[Mapping[str, Any]] = {"mutually_exclusive": [("src", option) for option in OF_ONE]}
    SECRET: ClassVar[Tuple[str, ...]] = ("data", "data_base64", "vault_password", "fingerprint_key", "api_key", "password")

    def act(self, params: Dict[str, Any], notes: List[str]) -> Dict[str, Any]:
        vault = Vault(self._loader, params["vault_password"])
        keys = [key for path in params["backup"] for key in sealing_keys.parse(vault.read(path), path)]
        params["path"] = os.path.abspath(params["path"])
        if params["state"] == "present":
            manifest = vault.read(params["src"]) if params["src"] else None
            return task.present(params, manifest, keys, self.check_mode, self.diff_mode, notes)
        if params["state"] == "resealed":
            return task.resealed(params, keys, self.check_mode, self.diff_mode, notes)
        return task.validated(params, keys, notes)
