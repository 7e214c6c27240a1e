# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: health
short_description: The health of a Kubernetes object
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - What an object's own status says about it, by the rules that M(nordic.gitops.reconcile) waits with. The table of the rules is in the
    collection's C(docs/health.md).
  - The object is judged as it is. Nothing is asked of the cluster.
positional: _input, health_rules
options:
  _input:
    description: The object as the API server returned it, with C(apiVersion), C(kind), C(metadata), C(spec), and C(status). Nothing, if there is none.
    type: dict
    required: true
  health_rules:
    description: Rules of your own, as in the option O(nordic.gitops.reconcile#module:health_rules). They need C(cel-python) on the controller.
    type: list
    elements: dict
    default: []
seealso:
  - module: nordic.gitops.reconcile
"""

EXAMPLES = r"""
- name: Go on only when the Deployment is healthy
  ansible.builtin.assert:
    that: verdict.status == 'Current'
    fail_msg: "{{ verdict.status }}: {{ verdict.message }}"
  vars:
    cart: "{{ query('kubernetes.core.k8s', api_version='apps/v1', kind='Deployment', namespace='shop', resource_name='cart') }}"
    verdict: "{{ cart | first | default(none) | nordic.gitops.health }}"

- name: Judge a kind by a rule of your own
  ansible.builtin.debug:
    msg: "{{ database | nordic.gitops.health(health_rules=rules) }}"
  vars:
    rules:
      - apiVersion: example.com/v1
        kind: Database
        current: status.stage == 'serving'
"""

RETURN = r"""
_value:
  description: The verdict.
  type: dict
  contains:
    status:
      description: V(Current), V(InProgress), V(Failed), V(Terminating), V(NotFound), or V(Unknown).
      type: str
    message:
      description: What is missing, in plain words. For a healthy object what is worth knowing, often nothing.
      type: str
  sample: {"status": "InProgress", "message": "1 of 3 replicas updated"}
"""

from ansible.errors import AnsibleFilterError

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import health as judge
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_cel import read_rules


def health(obj, health_rules=None):
    if obj is not None and not isinstance(obj, dict):
        raise AnsibleFilterError(f"nordic.gitops.health judges one object, not a {type(obj).__name__}")
    if not isinstance(health_rules or [], list) or not all(isinstance(row, dict) for row in health_rules or []):
        raise AnsibleFilterError("health_rules must be a list of dictionaries")
    try:
        rules = read_rules([{**row, "api_version": row.get("api_version") or row.get("apiVersion")} for row in health_rules or []])
    except Failure as failure:
        raise AnsibleFilterError(str(failure)) from failure
    return judge(obj, rules)._asdict()


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"health": health}
