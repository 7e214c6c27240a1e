# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_rules
short_description: The rules of a security group for nodes of k3s
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - The ports that M(nordic.gitops.node_preflight) checks between nodes, from the same table, as rules for C(openstack.cloud.security_group).
positional: _input, remote
options:
  _input:
    description: What connects the pods, as O(nordic.gitops.node_preflight#module:cni).
    type: str
    required: true
  remote:
    description: The network, in CIDR notation, that the nodes are in.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show
  ansible.builtin.debug:
    msg: "{{ 'flannel' | nordic.gitops.firewall_rules('10.20.0.0/16') }}"
"""

RETURN = r"""
_value:
  description: The rules.
  type: list
  elements: dict
"""

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.ports import shared_ports
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile


def firewall_rules(cni, remote):
    ports = {str(port): port for role in ("server", "agent") for port in shared_ports(Profile(role, cni, "embedded"))}
    return [
        {
            "protocol": port.protocol,
            "port_range_min": port.number,
            "port_range_max": port.number,
            "remote_ip_prefix": remote,
            "direction": "ingress",
            "ether_type": "IPv6" if ":" in remote else "IPv4",
            "description": port.purpose,
        }
        for _name, port in sorted(ports.items(), key=lambda one: one[1].number)
    ]


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"firewall_rules": firewall_rules}
