# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gate_objections
short_description: Why a cluster cannot spare a node
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Judges what M(nordic.gitops.k3s_info) returned on the servers of a cluster, for the playbook C(nordic.gitops.gate).
  - A node can be spared when etcd keeps its quorum without it, admits no other member and takes writes, and every other node is Ready.
  - Whatever is not known is an objection.
positional: _input, node
options:
  _input:
    description: The results of M(nordic.gitops.k3s_info), of failed and unreachable hosts too.
    type: list
    elements: dict
    required: true
  node:
    description: The node's name in Kubernetes.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars, 'k3s_now') | nordic.gitops.gate_objections('server-1') }}"
"""

RETURN = r"""
_value:
  description: One sentence for each objection. Empty when the node can be spared.
  type: list
  elements: str
"""

from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.gate import objections


def gate_objections(answers, node):
    return objections(answers, str(node or ""))


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"gate_objections": gate_objections}
