#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_preflight
short_description: Measure whether a machine can carry a node of k3s
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Looks at a machine before k3s is installed on it, or while it runs there. Virtualisation, kernel, modules, eBPF by real system calls,
    control groups, sysctls, time, network, ports, disks, and how long the datastore's folder takes for an C(fdatasync) as etcd does it.
  - Every check has a name, a value, a threshold by profile, a verdict, the evidence, why it matters and how to mend it.
  - The task fails where a check fails that is not in O(accept), and lists all of them at once. The result is there in both cases.
  - What concerns several nodes (ports, MTU, clocks) needs O(peers). The role P(nordic.gitops.preflight#role) does the three steps,
    O(state=listening) on all nodes, O(state=checked) on all nodes, O(state=stopped) on all nodes.
options:
  state:
    description:
      - V(checked) runs the checks.
      - V(listening) starts a short-lived process that holds the ports k3s will need, as far as they are free, so that the other nodes can try
        them. It answers only who knows its nonce, which the result has, and ends when all of O(peers) have been checked, or after two minutes
        without a question.
      - V(stopped) ends that process and waits until its ports are free.
    type: str
    choices: [checked, listening, stopped]
    default: checked
  role:
    description: What the node is to become.
    type: str
    choices: [server, agent]
    default: server
  cni:
    description:
      - What connects the pods. V(flannel), V(flannel-host-gw) and V(flannel-wireguard) are backends of k3s' own.
      - V(none) is any other, whose own requirements are not known here.
    type: str
    choices: [flannel, flannel-host-gw, flannel-wireguard, cilium, calico, calico-ebpf, none]
    default: flannel
  datastore:
    description: V(embedded) is etcd on the servers themselves, V(external) a database elsewhere.
    type: str
    choices: [embedded, external]
    default: embedded
  data_dir:
    description:
      - The C(data-dir) that k3s gets. Disk, free space and fsync latency are measured there, for a server in C(server/db/etcd) below it
        if that exists.
      - When it is named, it must exist and be writable, so that a disk that is not mounted is noticed. When it is left out, it is
        C(/var/lib/rancher/k3s), or the nearest folder above that exists.
    type: path
  name:
    description: The node's name among O(peers). The host name when left out.
    type: str
  node_name:
    description: The C(node-name) that k3s gets. The host name, which is what k3s takes, when left out.
    type: str
  address:
    description: The address by which the other nodes reach this one. That of the default route when left out, as for k3s.
    type: str
  peers:
    description:
      - What O(state=listening) returned as RV(peer) on every node, this one included, unaltered.
      - Without it the checks between nodes are not applicable.
    type: list
    elements: dict
    default: []
  endpoints:
    description: Places that must be near, each asked 20 times.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What a person calls it.
        type: str
        required: true
      address:
        description: C(HOST:PORT) for a TCP connection, C([ADDRESS]:PORT) for IPv6, or C(icmp://HOST) for an ICMP echo.
        type: str
        required: true
      limit:
        description: Milliseconds that the median must stay below.
        type: float
        default: 5.0
  accept:
    description: Checks, by name, whose finding is known and taken. They are reported as accepted, with what was found.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Measures in check mode as well. What it writes for that is removed before it ends.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: full
    description: Never reports a change.
notes:
  - Needs root on the node, Python and nothing else. C(fio) is asked for a second opinion where it is installed.
  - A check takes few seconds, most of them for the fsync latency, which writes at most 64 MiB beside etcd's own files.
requirements:
  - python >= 3.9
seealso:
  - plugin: nordic.gitops.preflight_report
    plugin_type: filter
  - plugin: nordic.gitops.preflight_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Can this machine be a server with Cilium?
  nordic.gitops.node_preflight:
    role: server
    cni: cilium
    endpoints:
      - name: exchange
        address: fix.exchange.example.no:443
        limit: 5
  become: true

- name: A laboratory's agent, where containers are known and taken
  nordic.gitops.node_preflight:
    role: agent
    accept:
      - virtualisation
  become: true

- name: Hold the ports for the others to try
  nordic.gitops.node_preflight:
    state: listening
    name: "{{ inventory_hostname }}"
  become: true
  register: listener

- name: Check the node and its way to every other one
  nordic.gitops.node_preflight:
    name: "{{ inventory_hostname }}"
    peers: "{{ ansible_play_hosts | map('extract', hostvars, ['listener', 'peer']) | list }}"
  become: true

- name: Give the ports back
  nordic.gitops.node_preflight:
    state: stopped
  become: true
"""

RETURN = r"""
passed:
  description: Whether no check failed, apart from those that were accepted.
  returned: state is checked
  type: bool
verdict:
  description: The most serious verdict of all checks.
  returned: state is checked
  type: str
  sample: warn
counts:
  description: Checks by verdict.
  returned: state is checked
  type: dict
  sample: {"fail": 0, "warn": 2, "accepted": 1, "pass": 18, "not_applicable": 2}
checks:
  description: Every check, in the order of the report.
  returned: state is checked
  type: list
  elements: dict
  contains:
    name:
      description: What O(accept) takes.
      type: str
      sample: fsync_latency
    family:
      description: V(machine), V(kernel), V(time), V(network) or V(disk).
      type: str
    title:
      description: The name for people.
      type: str
    value:
      description: What was measured.
      type: str
      sample: p99 1.31 ms
    threshold:
      description: What passes, for this profile.
      type: str
      sample: p99 ≤ 10 ms, never > 50 ms
    verdict:
      description: V(pass), V(warn), V(fail), V(accepted) or V(not applicable).
      type: str
    found:
      description: The verdict before anything was accepted.
      type: str
    evidence:
      description: Where it was read and what it said.
      type: list
      elements: str
    why:
      description: Why it matters.
      type: str
    mend:
      description: How to mend it.
      type: str
    data:
      description: Figures, such as the histogram of C(fsync_latency) as pairs of an upper bound in milliseconds and a count.
      type: dict
    seconds:
      description: How long the check took.
      type: float
peers:
  description: What this node learnt of every other one.
  returned: state is checked
  type: list
  elements: dict
  contains:
    name:
      description: The other node.
      type: str
    address:
      description: Its address.
      type: str
    ports:
      description: Each port that this node must reach there, V(open), V(runs) where a program of the cluster has it, or what stopped it.
      type: dict
    skew_s:
      description: Seconds that its clock is ahead.
      type: float
    uncertainty_s:
      description: How exactly that is known.
      type: float
    rtt_ms:
      description: The shortest round trip.
      type: float
    mtu:
      description: The largest packet that goes there and comes back whole.
      type: int
    promised_mtu:
      description: What the interfaces of both promise.
      type: int
    silence:
      description: Why something was not measured.
      type: str
dismissed:
  description:
    - Whether every listener knows that this node is done with it. When it is so on all nodes of O(peers), all listeners have ended,
      and O(state=stopped) has nothing to do.
  returned: state is checked
  type: bool
profile:
  description: The O(role), O(cni) and O(datastore) that the thresholds are for.
  returned: state is checked
  type: dict
node:
  description: The node's C(name), C(hostname), C(address), C(kernel), C(architecture) and C(system).
  returned: state is checked
  type: dict
measured_at:
  description: When, by the node's own clock, in UTC.
  returned: state is checked
  type: str
seconds:
  description: How long all checks took.
  returned: state is checked
  type: float
peer:
  description: This node's listener, for O(peers) of the others. Its nonce is worthless once the listener has ended.
  returned: state is listening
  type: dict
stopped:
  description: Whether a listener ran.
  returned: state is stopped
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import NAMES, peers, preflight, require_root
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.options import Options

SPEC = dict(
    state=dict(type="str", choices=["checked", "listening", "stopped"], default="checked"),
    role=dict(type="str", choices=["server", "agent"], default="server"),
    cni=dict(type="str", choices=["flannel", "flannel-host-gw", "flannel-wireguard", "cilium", "calico", "calico-ebpf", "none"], default="flannel"),
    datastore=dict(type="str", choices=["embedded", "external"], default="embedded"),
    data_dir=dict(type="path"),
    name=dict(type="str"),
    node_name=dict(type="str"),
    address=dict(type="str"),
    peers=dict(type="list", elements="dict", default=[]),
    endpoints=dict(type="list", elements="dict", default=[], options=dict(
        name=dict(type="str", required=True),
        address=dict(type="str", required=True),
        limit=dict(type="float", default=5.0),
    )),
    accept=dict(type="list", elements="str", default=[]),
)


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        options = Options.of(module.params, NAMES)
        require_root()
        if module.params["state"] == "listening":
            module.exit_json(changed=False, peer=masked(peers.listen(Machine(), options.name, options.address, options.profile).as_dict()))
        if module.params["state"] == "stopped":
            module.exit_json(changed=False, stopped=masked(peers.stop()))
        report = preflight(Host(Machine(), options))
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    if report.passed:
        module.exit_json(**masked(report.result()))
    module.fail_json(msg=masked(report.failure()), **masked(report.result()))


if __name__ == "__main__":
    main()
