# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: unseal
short_description: Open one sealed value with a backup of the controller's keys
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Returns the value that a ciphertext of C(encryptedData) holds, for the day when the cluster is gone.
  - The value is a secret. Set C(no_log) on the task that uses it.
positional: _input, keys
options:
  _input:
    description: The ciphertext.
    type: str
    required: true
  keys:
    description:
      - The private keys, as the content of a backup. P(ansible.builtin.unvault#lookup) reads one that Ansible Vault encrypts.
    type: raw
    required: true
  scope:
    description: The scope that the value was sealed with.
    type: str
    choices: [strict, namespace-wide, cluster-wide]
    default: strict
  namespace:
    description: The namespace that it is bound to. Needed unless O(scope=cluster-wide).
    type: str
  name:
    description: The name that it is bound to. Needed with O(scope=strict).
    type: str
  base64:
    description: Whether to return the value as base64. For binary values.
    type: bool
    default: false
seealso:
  - plugin: nordic.gitops.seal
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look a password up in Git and in the backup
  ansible.builtin.set_fact:
    db_password: >-
      {{ (lookup('ansible.builtin.file', 'manifests/shop/db-pass.yaml') | from_yaml).spec.encryptedData.password
         | nordic.gitops.unseal(lookup('ansible.builtin.unvault', 'vault/sealing-keys.yaml'), namespace='shop', name='db-pass') }}
  no_log: true
"""

RETURN = r"""
_value:
  description: The value.
  type: str
"""

import base64 as b64

from ansible.errors import AnsibleFilterError

from ansible_collections.nordic.gitops.plugins.filter.seal import bound_to
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import blob
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import parse


def unseal(text, keys, scope=blob.STRICT, namespace=None, name=None, base64=False):
    try:
        label = bound_to(scope, namespace, name)
        private = [key.private_key for key in parse(keys.encode() if isinstance(keys, str) else bytes(keys), "the backup")]
        value = blob.unseal(private, str(text), label)[1]
    except Failure as failure:
        raise AnsibleFilterError(f"the sealed value: {failure}") from None
    if base64:
        return b64.b64encode(value).decode("ascii")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise AnsibleFilterError("the sealed value is no text: set base64") from None


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"unseal": unseal}
