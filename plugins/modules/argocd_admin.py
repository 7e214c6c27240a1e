#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_admin
short_description: The administrator's password of Argo CD
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes the password of Argo CD's user C(admin) the given one, through the Kubernetes API, and removes the Secret
    C(argocd-initial-admin-secret) with the first password, which Argo CD made.
  - The given password is checked against the hash in the Secret C(argocd-secret). Only where it does not match, a new hash is written,
    which ends the sessions of C(admin). Other keys of that Secret are never touched.
options:
  namespace:
    description: Namespace of Argo CD.
    type: str
    default: argocd
  admin_password:
    description:
      - The password in plain text, at most 72 bytes, as from Ansible Vault.
      - Without it only the first password's Secret is removed. That is refused unless C(admin.enabled) is V(false) in the ConfigMap
        C(argocd-cm), as nobody could log in as C(admin) afterwards.
    type: str
extends_documentation_fragment:
  - nordic.gitops.connection
attributes:
  check_mode:
    support: full
    description: Says what a run would change.
  diff_mode:
    support: none
    description: There is nothing but secrets to show.
  idempotent:
    support: full
    description: A second run with the same password writes nothing.
requirements:
  - a libcrypt that knows bcrypt (libxcrypt, which every current Linux distribution has), with O(admin_password)
seealso:
  - module: nordic.gitops.argocd_project
"""

EXAMPLES = r"""
- name: The administrator's password, and the first one gone
  nordic.gitops.argocd_admin:
    admin_password: "{{ vault_argocd_password }}"
"""

RETURN = r"""
password_changed:
  description: Whether another password was valid until now.
  returned: success
  type: bool
first_secret_removed:
  description: Whether the Secret with the first password was still there.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._argocd.admin import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.options import NAMESPACE
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = dict(
    namespace=dict(type="str", default=NAMESPACE),
    admin_password=dict(type="str", no_log=True),
)


def main():
    run_module(AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True))


if __name__ == "__main__":
    main()
