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
  observed:
    description:
      - By host, the result of M(nordic.gitops.k3s_info) on it, which must have been told by O(nordic.gitops.k3s_info#module:wanted) what the host is
        to be.
    type: dict
    required: true
  operation:
    description:
      - What is planned. V(bootstrap) makes a cluster, or changes one. V(restore) brings one back to a snapshot, which is refused while a server
        that is not in O(observed) may be alive.
    type: str
    choices: [bootstrap, restore]
    default: bootstrap
  restore_on:
    description: The host that restores. The server that begins the cluster when left out.
    type: str
  lost:
    description: Servers of the cluster that are not in O(observed) and gone for good, for O(operation=restore). One that answers is refused all the same.
    type: list
    elements: str
    default: []
  unseen:
    description: The names of servers of the cluster that are not in O(observed), as with C(--limit).
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
- name: Observe every host, and say what it is to be
  nordic.gitops.k3s_info:
    wanted:
      role: "{{ 'server' if inventory_hostname in groups.k3s_servers else 'agent' }}"
      address: "{{ ansible_host }}"
      config: "{{ k3s_config | default({}) }}"
  register: k3s_now

- name: Plan
  nordic.gitops.k3s_plan:
    observed: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'k3s_now'))) }}"
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
hosts:
  description:
    - By host, what the tasks of the role do with it. C(config) are the keys that make it begin or join; a host of the cluster keeps those it has.
      C(node_name) is the name of its Node.
    - With O(operation=bootstrap), C(install) and C(start) are arguments of M(nordic.gitops.k3s), C(start) is null where k3s is not to be started.
      C(removes_old_node) says that the cluster still has a Node of it, which goes before it joins. C(marks) are the labels and taints of its Node,
      null where there are none to give or to take.
  returned: success
  type: dict
data_dir:
  description: The data folder of the server that others join.
  returned: with O(operation=bootstrap)
  type: str
kubeconfig:
  description: The file of that server with the administrator's kubeconfig.
  returned: with O(operation=bootstrap)
  type: str
turns:
  description:
    - The hosts that run, in the order in which to restart or upgrade them, one server in each turn with etcd's leader last, then one agent, then all
      other agents.
  returned: with O(operation=bootstrap)
  type: list
  elements: list
token_from:
  description: On which host (C(node)) and in which file (C(path)) the cluster's token is. Null when there is none yet.
  returned: success
  type: dict
token_needed:
  description: The hosts that have no token yet.
  returned: success
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
kubelet_sysctls:
  description: The kernel's settings on which the kubelet insists with C(protect-kernel-defaults).
  returned: success
  type: dict
  sample: {"kernel.panic": 10, "vm.overcommit_memory": 1}
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
