# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in the format of Ansible Vault, with the passwords that this run of Ansible has."""

from __future__ import annotations

import os
from typing import Any, List, Optional, Tuple

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, get_file_vault_secret, is_encrypted, match_encrypt_secret

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

try:
    from ansible.parsing.vault import VaultSecretsContext
except ImportError:  # ansible-core before 2.19
    VaultSecretsContext = None

MAX_SIZE = 64 << 20


class Vault:
    """password: one of its own, in the place of the run's."""

    def __init__(self, loader: Any, password: Optional[str] = None, vault_id: Optional[str] = None) -> None:
        self._loader, self._password, self.vault_id = loader, password, vault_id
        self._known: Optional[List[Tuple[str, Any]]] = None

    def read(self, path: str) -> bytes:
        """The content of a file, decrypted where it is encrypted."""
        path = os.path.expanduser(path)
        try:
            with open(path, "rb") as stream:
                data = stream.read(MAX_SIZE)
        except OSError as error:
            raise Failure(f"cannot be read: {error.strerror}", path) from None
        if not is_encrypted(data):
            return data
        if not self._secrets:
            raise Failure("is encrypted by Ansible Vault, and this run has no vault password", path, _GIVE)
        try:
            return bytes(VaultLib(self._secrets).decrypt(data))
        except (AnsibleError, ValueError, IndexError, TypeError):  # Ansible's, and binascii's of a file that was cut off
            raise Failure("cannot be decrypted: the vault password is another one, or the file was cut off or altered", path, _GIVE) from None

    def encrypt(self, data: bytes) -> bytes:
        """With the vault ID of this object, or with the first password."""
        if not self._secrets:
            raise Failure("there is no vault password to encrypt with", "", _GIVE)
        try:
            vault_id, secret = match_encrypt_secret(self._secrets, encrypt_vault_id=self.vault_id)
            return bytes(VaultLib(self._secrets).encrypt(data, secret=secret, vault_id=self.vault_id and vault_id))
        except AnsibleError as error:
            raise Failure(f"Ansible Vault cannot encrypt: {error}", "", _GIVE) from None

    @property
    def _secrets(self) -> List[Tuple[str, Any]]:
        if self._known is None:
            self._known = [("default", VaultSecret(self._password.encode()))] if self._password else self._of_the_run()
        return self._known

    def _of_the_run(self) -> List[Tuple[str, Any]]:
        if VaultSecretsContext is not None:
            current = VaultSecretsContext.current(optional=True)
            return list(current.secrets) if current else []
        named = [*C.DEFAULT_VAULT_IDENTITY_LIST, *(context.CLIARGS.get("vault_ids") or ())]
        files = [*(context.CLIARGS.get("vault_password_files") or ()), *([C.DEFAULT_VAULT_PASSWORD_FILE] if C.DEFAULT_VAULT_PASSWORD_FILE else [])]
        found = []
        for vault_id, source in [*(each.split("@", 1) for each in named if "@" in each), *(("default", each) for each in files)]:
            if source in ("prompt", "prompt_ask_vault_pass"):
                continue  # a password that was typed is Ansible's alone: vault_password takes it from a variable
            secret = get_file_vault_secret(filename=source, vault_id=vault_id, loader=self._loader)
            secret.load()
            found.append((vault_id, secret))
        return found


_GIVE = "Run Ansible with --vault-password-file, or give vault_password."
