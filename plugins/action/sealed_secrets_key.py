# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the keys of Sealed Secrets on the controller: they are read, encrypted and decrypted in this process."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.source import Source
from ansible_collections.nordic.gitops.plugins.module_utils._whole_file import write_whole
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.controller import CONTROLLER_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import KIND, Sealed, check
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.key_task import STATES, Work
from ansible_collections.nordic.gitops.plugins.modules.reconcile import SPEC as RECONCILE
from ansible_collections.nordic.gitops.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.nordic.gitops.plugins.plugin_utils._vault import Vault

SPEC: Dict[str, Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
    "backup": {"type": "path"},
    "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "key_prefix": {"type": "str", "default": "sealed-secrets-key", "no_log": False},
    "sealing_key": {"type": "str", "no_log": False},
    "older_than": {"type": "int", "default": 0},
    "vault_password": {"type": "str", "no_log": True},
    "vault_id": {"type": "str"},
    "path": {"type": "str", "default": "."},
    "namespace": {"type": "str"},
    **GIT_SPEC,
    "repository": {"type": "str"},
    **CONTROLLER_SPEC,
    **CONNECTION_SPEC,
}
# How the folder is rendered: as the module reconcile does it unless it is told otherwise.
RENDERING: Dict[str, Any] = {**{name: option.get("default") for name, option in RECONCILE.items()}, "name": "sealed-secrets"}


class ActionModule(ControllerAction):
    """One state, one function of key_task.py."""

    SPEC: ClassVar[Mapping[str, Any]] = SPEC
    RULES: ClassVar[Mapping[str, Any]] = {"required_if": [("state", state, ["backup"]) for state in ("backed_up", "restored", "retired", "verified")]}
    SECRET: ClassVar[Tuple[str, ...]] = ("vault_password", "git_password", "api_key", "password")

    def act(self, params: Dict[str, Any], notes: List[str]) -> Dict[str, Any]:
        vault = Vault(self._loader, params["vault_password"], params["vault_id"])
        if params["backup"]:
            params["backup"] = os.path.abspath(os.path.expanduser(params["backup"]))

        def read_backup() -> Optional[bytes]:
            return vault.read(params["backup"]) if os.path.exists(params["backup"]) else None

        def write_backup(text: bytes) -> None:
            path = params["backup"]
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            aside = f"{path}.new"
            write_whole(aside, vault.encrypt(text))
            if vault.read(aside) != text:
                raise Failure("the new backup could not be read back; the old one stays", aside)
            os.replace(aside, path)

        def repository() -> Optional[List[Sealed]]:
            if not params["repository"]:
                return None
            source = Source.of({**RENDERING, **params})
            found = []
            documents = source.render(source.resolve()).documents
            if not documents:
                raise Failure("renders to no object, so nothing could be verified", params["repository"], "Is path right?")
            for document in documents:
                if document.body.get("kind") == KIND:
                    check(document.body, f"{document.file}:{document.line}")
                    found.append(Sealed(document.body, f"{document.file}:{document.line}", params["namespace"] or ""))
            return found

        if params["state"] in ("backed_up", "rotated") and params["backup"]:
            vault.encrypt(b"")  # without a password to encrypt with, nothing is begun
        return STATES[params["state"]](Work(params, self.check_mode, read_backup, write_backup, repository, notes))
