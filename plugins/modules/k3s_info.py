#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_info
short_description: What a host is as a k3s node
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Reads what is installed, configured and running on one host, and with O(cluster) what its k3s says about etcd and the nodes.
  - Changes nothing, and tells no secret. Of the token there is a fingerprint, so that hosts can be compared.
  - With M(nordic.gitops.k3s_plan) the results of all hosts become a plan.
options:
  cluster:
    description: Whether to ask the running k3s about etcd's members and about the nodes.
    type: bool
    default: true
  wanted:
    description:
      - What this host is to be. The result then has RV(wanted) beside what it is, which M(nordic.gitops.k3s_plan) plans with.
      - It is templated for each host by itself, so it does not matter whether a variable is one of the play, a group, a role or the host.
    type: dict
    suboptions:
      role:
        description: Whether it is to be a server or an agent.
        type: str
        choices: [server, agent]
        required: true
      address:
        description: The address or name by which the other hosts reach it.
        type: str
      config:
        description: As the option O(nordic.gitops.k3s#module:config), with C(cluster-init) where a single server is to have embedded etcd.
        type: dict
        default: {}
      drop_ins:
        description: As the option O(nordic.gitops.k3s#module:drop_ins).
        type: dict
        default: {}
      registries:
        description: As the option O(nordic.gitops.k3s#module:registries).
        type: dict
      files:
        description: As the option O(nordic.gitops.k3s#module:files).
        type: dict
        default: {}
      environment:
        description: As the option O(nordic.gitops.k3s#module:environment).
        type: dict
        default: {}
      adopt:
        description: As the option O(nordic.gitops.k3s#module:adopt).
        type: bool
        default: false
      token:
        description: As the option O(nordic.gitops.k3s#module:token).
        type: str
      agent_token:
        description: As the option O(nordic.gitops.k3s#module:agent_token).
        type: str
      binary:
        description: Which program it gets. The same text means the same program.
        type: str
  salt:
    description:
      - A value of this play, for example random, that makes the token's fingerprint. Hosts can be compared when it was the same.
      - Without it there is no fingerprint.
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
  - module: nordic.gitops.k3s_plan
"""

EXAMPLES = r"""
- name: Look
  nordic.gitops.k3s_info:
  register: k3s_now

- name: Look, and compare with what the host is to be
  nordic.gitops.k3s_info:
    wanted:
      role: server
      address: "{{ ansible_host }}"
      config:
        cluster-init: true
  register: k3s_now

- name: Stop when etcd could not spare this server
  ansible.builtin.assert:
    that: k3s_now.etcd.may_stop
    fail_msg: "{{ k3s_now.etcd.objection }}"
  when: k3s_now.etcd is not none

- name: Renew certificates in time
  nordic.gitops.k3s:
    state: restarted
    rotate_certificates: true
  when: k3s_now.certificates.days_left is not none and k3s_now.certificates.days_left < 60
"""

RETURN = r"""
wanted:
  description:
    - What the host is to be, with C(config) as k3s reads it, drop-ins included and secrets masked.
    - C(changes) are the files that differ, one sentence each, and C(restarts) those of them that k3s has to be restarted for. Both are empty on a
      host that belongs to no cluster yet.
  returned: when O(wanted) was given
  type: dict
installed:
  description: Whether the k3s program is there.
  returned: success
  type: bool
version:
  description: Its version.
  returned: success
  type: str
  sample: v1.30.5+k3s1
binary:
  description: Its path.
  returned: success
  type: str
binary_sha256:
  description: Its SHA-256.
  returned: success
  type: str
role:
  description: V(server), V(agent), or null when there is no unit of either.
  returned: success
  type: str
service:
  description: The unit's C(name), C(state) in systemd's words, whether it is C(enabled), its C(pid) and how often systemd had to start it again (C(restarts)).
  returned: success
  type: dict
restart_pending:
  description: Why k3s has to be restarted since an earlier run, one sentence each.
  returned: success
  type: list
  elements: str
node_name:
  description: The name of its Node.
  returned: success
  type: str
default_node_name:
  description: The name that its Node has where C(config.yaml) says nothing of it, from the drop-ins and the host's own name.
  returned: success
  type: str
hostname:
  description: The host's own name.
  returned: success
  type: str
machine_id:
  description: The content of C(/etc/machine-id).
  returned: success
  type: str
architecture:
  description: The processor, as C(uname -m) says it.
  returned: success
  type: str
data_dir:
  description: The folder of k3s' data.
  returned: success
  type: str
datastore:
  description: V(etcd) for the embedded one, V(sqlite), V(external), or null where there is none.
  returned: success
  type: str
has_cluster:
  description: Whether the host belongs to a cluster. It does from k3s' first start until V(reset) or V(absent).
  returned: success
  type: bool
server_url:
  description: The server that it joined by, as its configuration says.
  returned: success
  type: str
cluster_init:
  description: Whether its configuration says C(cluster-init).
  returned: success
  type: bool
https_port:
  description: The port of its API server and supervisor, as its configuration says.
  returned: success
  type: int
  sample: 6443
snapshot_dir:
  description: The folder of its snapshots of etcd.
  returned: success
  type: str
registered_name:
  description: The name of the Node that this host has registered. Null when it has none.
  returned: success
  type: str
fixed:
  description: Of its configuration the keys that k3s takes only when a cluster begins, such as C(cluster-cidr).
  returned: success
  type: dict
set_up_by_others:
  description:
    - What the unit of k3s says that something else than this collection wrote, as k3s' install script does. C(config) has the keys of its
      arguments, its variables and its configuration file, with secrets masked, C(environment) the names of other variables.
  returned: success
  type: dict
token_fingerprint:
  description: Equal on hosts with the same token and the same O(salt). Null without token or salt.
  returned: success
  type: str
agent_token_fingerprint:
  description: On a server, the same of the token by which agents join. Null without it or salt.
  returned: success
  type: str
ca_fingerprint:
  description: Equal on all hosts of one cluster, once they have started. The SHA-256 of the cluster's CA certificate.
  returned: success
  type: str
certificates:
  description: How many there are (C(count)), and the one that expires first (C(first_expiry), C(first_name), C(days_left)).
  returned: success
  type: dict
snapshots:
  description: How many snapshots of etcd are in the local folder.
  returned: success
  type: int
manifests:
  description: Manifests that M(nordic.gitops.k3s_manifests) put here, or whose objects it still has to delete.
  returned: success
  type: list
  elements: str
ready:
  description: Whether its Node is Ready. Null when k3s does not run.
  returned: with O(cluster)
  type: bool
node:
  description: >-
    Its Node, with C(name), C(ready), C(message), C(roles), C(version), C(unschedulable), C(addresses), and whether this collection C(marked) it
    with labels or taints.
  returned: with O(cluster)
  type: dict
nodes:
  description: All Nodes, from a server.
  returned: with O(cluster)
  type: list
  elements: dict
etcd:
  description:
    - C(members) with C(name), C(node), C(id), C(address), C(voter), C(healthy) and C(leader). How many C(voters), C(healthy_voters)
      and C(learners) there are, the C(quorum), the C(leader), and whether that C(is_leader) this server.
    - Whether this server C(may_stop), and the C(objection) if not. C(alarms), C(version) and C(database_bytes).
    - Null without embedded etcd, or when it gives no answer, which is in RV(trouble) then.
  returned: with O(cluster)
  type: dict
trouble:
  description: Why something could not be asked.
  returned: with O(cluster)
  type: str
addresses:
  description: The host's own addresses.
  returned: with O(cluster)
  type: list
  elements: str
recorded_members:
  description:
    - Where etcd gives no answer, the members that its database on this server names, with C(name), C(node), C(address) and C(voter), and whether
      the member there C(answers) to this server's certificate.
  returned: with O(cluster)
  type: list
  elements: dict
recorded_servers:
  description: On an agent, the C(address) of each server that its k3s knows, and whether a server of the same cluster C(answers) there.
  returned: with O(cluster)
  type: list
  elements: dict
record_trouble:
  description: Why the database on this server cannot be read. Null when it can, or when there is none.
  returned: with O(cluster)
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.info import observe
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.options import WANTED, secrets
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked

SPEC = dict(
    cluster=dict(type="bool", default=True),
    salt=dict(type="str"),
    wanted=dict(type="dict", options=WANTED),
)


class Module(AnsibleModule):
    """Knows the secrets inside of dictionaries, which no option's no_log covers, before it writes its arguments to the host's log."""

    def _log_invocation(self):
        self.no_log_values.update(secrets(self.params["wanted"] or {}))
        super()._log_invocation()


def main():
    module = Module(argument_spec=SPEC, supports_check_mode=True)
    try:
        found = observe(module.params["salt"] or "", module.params["cluster"], module.params["wanted"])
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(changed=False, **masked(found))


if __name__ == "__main__":
    main()
