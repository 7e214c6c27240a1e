#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_node
short_description: A node as a member of its k3s cluster, drained, given back, healthy, or removed
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Runs on a server of the cluster and asks its API and its etcd with the credentials that k3s keeps there.
    For an agent, delegate the task to a server.
options:
  name:
    description: The node's name in Kubernetes.
    type: str
    required: true
  state:
    description:
      - V(drained) cordons the node and evicts its pods as PodDisruptionBudgets allow. A drain that fails gives the node back.
        A budget that can never allow it, and pods that O(force) or O(delete_emptydir_data) would have to allow, are refused at once,
        also in check mode, before anything is evicted.
      - V(uncordoned) gives the node back that V(drained) cordoned. A node that somebody else cordoned stays so.
      - V(healthy) waits until the node is Ready, all members of etcd answer, the controllers have a leader at work and all workloads are available.
      - V(absent) removes a node that will not come back, its member of etcd (while a quorum is left), its Node and its password,
        so that a new host may join under its name. A node that is alive is refused.
      - V(member_removed) takes the server it runs on out of its cluster. Its member of etcd is removed while the others keep a quorum, and k3s
        is stopped and disabled there, as it would join again otherwise. The last server is refused. V(absent), on another server, removes
        what is left of it.
      - V(readmitted) removes its password alone, so that a host that has another one than the cluster knows can join under the name.
      - V(marked) gives the node the O(labels) and O(taints), and takes away those that an earlier call gave it and this one does not. Labels and
        taints of others stay. k3s itself applies C(node-label) and C(node-taint) only when the node registers.
    type: str
    choices: [drained, uncordoned, healthy, absent, member_removed, readmitted, marked]
    required: true
  stopped:
    description: For V(absent), whether k3s has just been stopped on the node, so that nobody has to wait until Kubernetes misses it.
    type: bool
    default: false
  version:
    description: For V(healthy), the version that its kubelet shall report.
    type: str
  tolerate:
    description: For V(healthy), workloads that need not be available, as RV(unavailable) lists them.
    type: list
    elements: str
    default: []
  workloads:
    description: For V(healthy), whether the workloads must be available too.
    type: bool
    default: true
  voters:
    description:
      - For V(healthy), on a server that others are joining, how many voting members embedded etcd shall have. Those who join become voters
        as soon as they have caught up, until there are so many or none came for 30 seconds.
    type: int
  labels:
    description: For V(marked), labels as C(key=value).
    type: list
    elements: str
    default: []
  taints:
    description: For V(marked), taints as C(key=value:effect).
    type: list
    elements: str
    default: []
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 300
  progress:
    description: How far the task has waited. It is set by the task itself, which shows what is waited for every few seconds.
    type: dict
    default: {}
  delete_emptydir_data:
    description: Whether pods with an C(emptyDir) are evicted too. What is in it ends with the pod. The metrics server of k3s has one.
    type: bool
    default: true
  force:
    description: Whether pods that nothing would create again are evicted too.
    type: bool
    default: false
  data_dir:
    description: The data folder of k3s.
    type: path
    default: /var/lib/rancher/k3s
  binary:
    description: The k3s program.
    type: path
    default: /usr/local/bin/k3s
attributes:
  check_mode:
    support: full
    description: V(healthy) waits all the same.
  diff_mode:
    support: none
    description: There is nothing to compare.
  idempotent:
    support: full
    description: A node that is drained, given back or gone stays so.
requirements:
  - root on the node
"""

EXAMPLES = r"""
- name: Move the pods away before the agent's kernel is replaced
  nordic.gitops.k3s_node:
    name: agent1
    state: drained
    timeout: 600
  delegate_to: server1

- name: Give it back, unless somebody had cordoned it before
  nordic.gitops.k3s_node:
    name: agent1
    state: uncordoned
  delegate_to: server1

- name: server3 is not to be a server any more
  nordic.gitops.k3s_node:
    name: server3
    state: member_removed

- name: server3 burnt down
  nordic.gitops.k3s_node:
    name: server3
    state: absent
  delegate_to: server1
"""

RETURN = r"""
evicted:
  description: The pods that had to move, or would have to.
  returned: with O(state=drained)
  type: list
  elements: str
  sample: [shop/cart-6d4cf56db6-x7k2p]
cordoned_by:
  description: V(us), or V(somebody else) when the node was cordoned before. Such a node stays cordoned.
  returned: with O(state=drained)
  type: str
held:
  description: Which PodDisruptionBudgets hold which pods, or the pods that may not be evicted.
  returned: when a drain failed
  type: list
  elements: str
unavailable:
  description: Workloads that have fewer pods available than they want.
  returned: with O(state=drained) and O(state=healthy)
  type: list
  elements: str
  sample: [Deployment shop/cart]
seconds:
  description: How long it took until all was well.
  returned: with O(state=healthy)
  type: float
removed:
  description: What was removed, or would be.
  returned: with O(state=absent), O(state=member_removed) and O(state=readmitted)
  type: list
  elements: str
  sample: [etcd member server3-5f0bd1f2, node server3, password of server3]
marks:
  description: What was changed, or would be.
  returned: with O(state=marked)
  type: list
  elements: str
  sample: [label tier=front, label disk is removed]
"""

import math
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, DATA_DIR, membership
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import StillWaiting
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.leave import leave

SPEC = dict(
    name=dict(type="str", required=True),
    state=dict(type="str", choices=["drained", "uncordoned", "healthy", "absent", "member_removed", "readmitted", "marked"],
               required=True),
    stopped=dict(type="bool", default=False),
    version=dict(type="str"),
    tolerate=dict(type="list", elements="str", default=[]),
    workloads=dict(type="bool", default=True),
    voters=dict(type="int"),
    labels=dict(type="list", elements="str", default=[]),
    taints=dict(type="list", elements="str", default=[]),
    timeout=dict(type="int", default=300),
    progress=dict(type="dict", default={}),
    delete_emptydir_data=dict(type="bool", default=True),
    force=dict(type="bool", default=False),
    data_dir=dict(type="path", default=DATA_DIR),
    binary=dict(type="path", default=BINARY),
)


def run(params, check_mode):
    cluster = membership.Cluster.of_server(params["data_dir"], params["binary"])
    name, timeout = params["name"], params["timeout"]
    if params["state"] == "drained":
        before = membership.unavailable(cluster.api)
        result = membership.drain(cluster, name, timeout, params["delete_emptydir_data"], params["force"], check_mode)
        return {**result, "unavailable": before}
    if params["state"] == "uncordoned":
        return {"changed": membership.uncordon(cluster, name, check_mode)}
    if params["state"] == "healthy":
        told = params["progress"]
        begun, spent = time.monotonic(), float(told.get("spent") or 0)
        try:
            seconds = membership.wait_healthy(cluster, name, params["version"] or "", params["tolerate"] if params["workloads"] else None, timeout,
                                              params["voters"] or 0, float(told.get("patience") or math.inf), spent)
        except StillWaiting as waiting:
            return {"changed": False, "waiting": {"why": waiting.why, "spent": round(spent + time.monotonic() - begun, 1)}}
        return {"changed": False, "seconds": round(seconds, 1), "unavailable": membership.unavailable(cluster.api)}
    if params["state"] == "marked":
        return membership.mark(cluster, name, params["labels"], params["taints"], check_mode)
    if params["state"] == "readmitted":
        return membership.readmit(cluster, name, timeout, check_mode)
    if params["state"] == "member_removed":
        return leave(cluster, name, check_mode)
    return membership.remove(cluster, name, timeout, check_mode, params["stopped"])


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(**masked(result))


if __name__ == "__main__":
    main()
