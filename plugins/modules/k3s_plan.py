#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_plan
short_description: Judge all hosts of a k3s cluster together, and plan who begins, who joins and in which order
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Takes what M(nordic.gitops.k3s_info) found on each host and what each shall be, and refuses what cannot become a good cluster,
    with all reasons at once and what to do about each.
  - Refused are an even number of servers with embedded etcd, two hosts with one name or one machine-id, one binary for different
    processors, a datastore both external and embedded, hosts of two clusters, tokens that differ, a downgrade, a skipped minor
    version, agents newer than their servers, a host that changes its role, and a cluster that would begin while servers were not
    looked at.
  - The server that others join is one of the cluster that exists, whatever the inventory's order, so there is never a second cluster.
  - It runs on the controller and talks to nobody.
options:
  nodes:
    description: The hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The inventory's name of the host.
        type: str
        required: true
      role:
        description: What it shall be.
        type: str
        choices: [server, agent]
        required: true
      address:
        description: The address or name by which the other hosts reach it. O(nodes[].name) when left out.
        type: str
      info:
        description: The result of M(nordic.gitops.k3s_info) on it.
        type: dict
        required: true
      config:
        description: k3s' own configuration keys for it, without those that make it begin or join a cluster.
        type: dict
        default: {}
      drop_ins:
        description: More of them by name, as the option O(nordic.gitops.k3s#module:drop_ins) has them.
        type: dict
        default: {}
      binary:
        description: Which binary it gets. The same text means the same binary.
        type: str
      environment:
        description: The names of the variables that its service gets.
        type: list
        elements: str
        default: []
      adopt:
        description: Whether a setup by something else may lose what O(nodes[].config) and O(nodes[].environment) do not say.
        type: bool
        default: false
  operation:
    description:
      - What is planned. V(bootstrap) makes a cluster, or changes one. V(restore) brings one back to a snapshot, which is refused while a server
        that is not among O(nodes) may be alive.
    type: str
    choices: [bootstrap, restore]
    default: bootstrap
  restore_on:
    description: The host that restores. The server that begins the cluster when left out.
    type: str
  lost:
    description: Hosts of O(unseen) that are gone for good, for O(operation=restore).
    type: list
    elements: str
    default: []
  unseen:
    description: The names of servers of the cluster that are not among O(nodes), as with C(--limit).
    type: list
    elements: str
    default: []
  url:
    description: A fixed URL to join by, such as a load balancer's. The first server's own when left out.
    type: str
  version:
    description: The version of k3s that the hosts shall have, as far as it is known.
    type: str
  token:
    description: The token that the cluster shall have, or has.
    type: str
  agent_token:
    description: The agents' own token.
    type: str
  salt:
    description: The value that M(nordic.gitops.k3s_info) was given. Without it tokens are not compared.
    type: str
attributes:
  check_mode:
    description: Reads only, so check mode is the same.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - module: nordic.gitops.k3s
  - module: nordic.gitops.k3s_info
"""

EXAMPLES = r"""
- name: Look at every host
  nordic.gitops.k3s_info:
  register: k3s_now

- name: Plan
  nordic.gitops.k3s_plan:
    nodes: >-
      {%- set nodes = [] -%}
      {%- for host in groups.k3s_servers + groups.k3s_agents -%}
        {{- nodes.append({'name': host, 'role': 'server' if host in groups.k3s_servers else 'agent',
                          'address': hostvars[host].ansible_host, 'info': hostvars[host].k3s_now}) -}}
      {%- endfor -%}
      {{- nodes -}}
  register: k3s_planned
  run_once: true
"""

RETURN = r"""
bootstrap:
  description: The server that begins the cluster, or that others join.
  returned: with O(operation=bootstrap)
  type: str
order:
  description: All hosts, that one first, then the other servers, then the agents.
  returned: with O(operation=bootstrap)
  type: list
  elements: str
new:
  description: Those that belong to no cluster yet, in the same order. With O(operation=restore) those where k3s is not installed.
  returned: success
  type: list
  elements: str
datastore:
  description: V(etcd), V(sqlite) or V(external).
  returned: with O(operation=bootstrap)
  type: str
url:
  description: The URL to join by.
  returned: success
  type: str
config:
  description: By host, the configuration keys that make it begin or join. A host of the cluster keeps those it has.
  returned: success
  type: dict
restart_order:
  description: All hosts in the order in which to restart or upgrade them, servers first, etcd's leader the last of them.
  returned: with O(operation=bootstrap)
  type: list
  elements: str
token_from:
  description: On which host (C(node)) and in which file (C(path)) the cluster's token is. Null when there is none yet.
  returned: success
  type: dict
token_needed:
  description: The hosts that have no token yet.
  returned: with O(operation=bootstrap)
  type: list
  elements: str
restores:
  description: The server that restores.
  returned: with O(operation=restore)
  type: str
servers:
  description: All servers, that one first.
  returned: with O(operation=restore)
  type: list
  elements: str
agents:
  description: All agents.
  returned: with O(operation=restore)
  type: list
  elements: str
absent_nodes:
  description: Nodes of the cluster that are not among the hosts.
  returned: with O(operation=restore)
  type: list
  elements: str
node_names:
  description: By host, the name of its Node.
  returned: with O(operation=bootstrap)
  type: dict
merged:
  description: By host, its configuration keys as k3s reads them, drop-ins included. Keys that hold a secret are left out.
  returned: with O(operation=bootstrap)
  type: dict
rejoining:
  description: Those of RV(new) that the cluster still has a Node of, as after a reset. It has to go before they join.
  returned: with O(operation=bootstrap)
  type: list
  elements: str
summary:
  description: The plan in sentences.
  returned: success
  type: list
  elements: str
objections:
  description: Why there is no plan, one sentence or two for each reason.
  returned: failure
  type: list
  elements: str
"""
