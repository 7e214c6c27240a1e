# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: seal
short_description: Seal one value for the controller of Sealed Secrets
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Returns the ciphertext that C(kubeseal --raw) prints, for a template or a Helm value. It is another one at each call, so use
    M(nordic.gitops.sealed_secret) for files that are kept in Git.
positional: _input, certificate
options:
  _input:
    description: The value, as text or as bytes.
    type: raw
    required: true
  certificate:
    description: The certificate, as PEM text or as a path.
    type: str
    required: true
  scope:
    description: Where the value can be opened.
    type: str
    choices: [strict, namespace-wide, cluster-wide]
    default: strict
  namespace:
    description: The namespace that it is bound to. Needed unless O(scope=cluster-wide).
    type: str
  name:
    description: The name that it is bound to. Needed with O(scope=strict).
    type: str
seealso:
  - module: nordic.gitops.sealed_secret
  - plugin: nordic.gitops.unseal
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a Helm value
  ansible.builtin.copy:
    content: |
      password: {{ vault_db_password | nordic.gitops.seal('manifests/sealing.pem', namespace='shop', name='db-pass') }}
    dest: manifests/shop/values.yaml
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The ciphertext, as base64.
  type: str
"""

from ansible.errors import AnsibleFilterError

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import blob
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate, from_file, now


def bound_to(scope, namespace, name):
    if scope not in blob.SCOPES:
        raise Failure(f"the scope has to be one of {', '.join(blob.SCOPES)}", "scope")
    if scope != blob.CLUSTER_WIDE and not namespace:
        raise Failure(f"the scope {scope} needs a namespace", "namespace")
    if scope == blob.STRICT and not name:
        raise Failure("the scope strict needs a name", "name")
    return blob.label(scope, str(namespace or ""), str(name or ""))


def seal(value, certificate, scope=blob.STRICT, namespace=None, name=None):
    try:
        if not isinstance(value, (str, bytes)):
            raise Failure(f"the value is of the type {type(value).__name__}, not text", "", "Quote it.")
        given = str(certificate)
        pem, where = (given.encode(), "certificate") if "-----BEGIN" in given else (from_file(given), given)
        usable = Certificate.parse(pem, where).usable(where, now())
        return blob.seal(usable.public_key, value.encode() if isinstance(value, str) else bytes(value), bound_to(scope, namespace, name))
    except Failure as failure:
        raise AnsibleFilterError(str(failure)) from None


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"seal": seal}
