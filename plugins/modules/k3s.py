#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s
short_description: Install, configure, restart, upgrade, reset or remove k3s on one node
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes one host a k3s server or agent, from a binary that is verified by its SHA-256, with k3s' own configuration keys.
    Nothing is downloaded by a shell script, and nothing but Python's standard library is needed on the host.
  - Changes only what differs, says what that was, and restarts k3s only when something it reads at its start has changed.
    Before a server with embedded etcd stops, etcd is asked whether the others keep the quorum, and leadership is handed over.
  - A restart that a killed run owes is made up for by the next run.
  - Binary and image archives are copied from the controller only when the host has other ones. A run that finds nothing to do
    is one command on the host.
  - The order across hosts is M(nordic.gitops.k3s_plan)'s and the role's; this module knows its own host only.
options:
  state:
    description:
      - V(present) installs, configures and starts k3s.
      - V(staged) brings the program to the host, verified and not installed, and tells its RV(version). It needs O(binary) or O(binary_url).
      - V(upgraded) is V(present) with another version of k3s. When it does not come up within O(wait_timeout), the previous binary
        is installed and started again, and the task fails. A downgrade and a skipped minor version are refused.
      - V(restarted) restarts k3s, whatever the reason.
      - V(stopped) stops k3s and its containers, and leaves the unit enabled. Containers get 30 seconds to end by themselves.
      - V(rejoined) makes a node part of its cluster again that was restored on another server, and is what the playbook
        C(nordic.gitops.restore) needs. C(server) and C(cluster-init) of its configuration files become those of O(config), a token
        that pins another CA than O(authority) no longer does, and k3s is restarted, or with O(restart=false) only started.
      - V(reset) ends the node's membership with its database, containers and network, and disables the unit. Program, images and
        configuration stay, and so do snapshots, databases that a restore set aside, and the volumes in C(storage).
      - V(absent) removes k3s and all that belongs to it, also snapshots and volumes, unless they are on a disk that is mounted there.
      - Neither V(reset) nor V(absent) takes the node out of the cluster that it leaves; on the last server they end the cluster.
    type: str
    choices: [present, staged, upgraded, restarted, stopped, rejoined, reset, absent]
    default: present
  role:
    description: Whether the host is a server (control plane and, unless told otherwise, workloads) or an agent (workloads only).
    type: str
    choices: [server, agent]
    default: server
  binary:
    description:
      - Path of the k3s program on the controller, or on the host with O(remote_src). A relative one is looked for where Ansible looks for
        files of the play or the role, then beside the inventory, then in the current folder.
      - It is copied to C(/usr/local/bin/k3s) when the host has another one. C(kubectl), C(crictl) and C(ctr) become links to it
        where there is no such program yet.
    type: path
  binary_url:
    description:
      - URL that the host itself gets the program from, over C(https), C(http) or C(file). It needs O(checksum).
    type: str
  checksum:
    description:
      - The SHA-256 of the program, or k3s' own C(sha256sum-ARCH.txt), by its text or by its path on the controller, with a line for the
        file's name. With O(binary_url) it may be the URL of that file.
      - Needed with O(binary_url). With O(binary) it is compared before anything is copied.
    type: str
  images:
    description:
      - Archives of container images, put into C(agent/images) of the data folder, for hosts without a registry.
      - k3s imports them when it starts. A running k3s imports a new one at once, or is restarted for it where the host has nothing to
        unpack it with, such as C(zstd) for a C(.tar.zst).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the archive on the controller, or on the host with O(remote_src).
        type: path
        required: true
      checksum:
        description: The SHA-256, or the text of k3s' own C(sha256sum-ARCH.txt).
        type: str
  remote_src:
    description: Whether O(binary) and O(images) are on the host already.
    type: bool
    default: false
  config:
    description:
      - k3s' own configuration keys, the content of C(/etc/rancher/k3s/config.yaml).
      - Each is checked against what this binary takes, as C(k3s server --help) tells, before anything is changed.
      - C(token), C(agent-token) and their files are the options O(token) and O(agent_token).
    type: dict
    default: {}
  drop_ins:
    description:
      - More of them by name, each a file in C(/etc/rancher/k3s/config.yaml.d). k3s reads them in the order of their names.
        A key with C(+) at its end adds to the values before it.
      - A drop-in that an earlier run wrote and that is no longer here is removed. Other files in that folder stay.
    type: dict
    default: {}
  registries:
    description:
      - The content of C(/etc/rancher/k3s/registries.yaml), which is mirrors and credentials of image registries.
      - An empty dictionary removes the file. Without this option it is left alone.
    type: dict
  files:
    description:
      - Further files that k3s' arguments name, such as an audit policy or an admission configuration, by absolute path below
        C(/etc/rancher/k3s) or the data folder. The value is the content. A null removes the file.
      - k3s is restarted when one of them changes.
    type: dict
    default: {}
  token:
    description:
      - The cluster's secret, written to C(/etc/rancher/k3s/token) with mode 0600 and given to k3s by the file's name.
      - Without it the file that is there is used. On a node that belongs to a cluster another token is refused.
    type: str
  agent_token:
    description:
      - A secret that lets agents join, and no servers. Set it on all servers. On agents it is the O(token).
    type: str
  start:
    description: Whether k3s is started when it does not run.
    type: bool
    default: true
  restart:
    description:
      - Whether a running k3s is restarted when that is needed. Otherwise RV(restart_needed) says so, and so does every later run
        until it was restarted.
    type: bool
    default: true
  wait:
    description:
      - Whether to wait until the node is up, which means that its API server (on a server) and its kubelet answer, that its Node
        is Ready, and that embedded etcd counts it as a voter.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds to wait for the node, for the first server when it joins one, and for a moment when etcd can spare it.
      - An agent of k3s 1.36 may need 450, when its network policy controller has to wait for the kubelet's next report.
    type: int
    default: 480
  rotate_certificates:
    description: With O(state=restarted), whether all of k3s' own certificates of this node are renewed (C(k3s certificate rotate)).
    type: bool
    default: false
  voters:
    description:
      - With O(state=present) on a server that others are joining, how many voting members embedded etcd shall have in the end. The module
        then makes voters of those who join as soon as etcd finds that they have caught up, where k3s looks only every 15 seconds.
      - It stays until there are so many, or until none came for 30 seconds, and fails for none that does not come.
    type: int
  progress:
    description: How far the task has waited. It is set by the task itself, which shows what is waited for every few seconds.
    type: dict
    default: {}
  keep_quorum:
    description:
      - With O(state=stopped) on a server, whether it is stopped only while etcd keeps its quorum without it, or with an external datastore while
        another server's API answers. V(false) is for stopping a whole cluster.
    type: bool
    default: true
  environment:
    description:
      - Variables of the service, such as C(HTTPS_PROXY) and C(NO_PROXY). They are secrets, and are written to a file that only root reads.
        k3s is restarted when one of them changes.
      - k3s' own, C(K3S_*), are keys of O(config) or options.
    type: dict
    default: {}
  adopt:
    description:
      - On a host where something else set k3s up, such as k3s' install script, whether what its unit, its variables and its configuration
        file say may be lost or changed. Otherwise that is refused with a list, unless O(config) and O(environment) say the same.
      - The unit and the configuration file that are replaced are kept below C(/var/lib/nordic.gitops/k3s/replaced).
    type: bool
    default: false
  authority:
    description: With O(state=rejoined), the fingerprint of the cluster's CA, as RV(nordic.gitops.k3s_info#module:ca_fingerprint) tells it.
    type: str
attributes:
  check_mode:
    description: Can run without changing anything, and tells what a real run would do.
    support: full
    details:
      - Configuration keys cannot be checked while the host has no k3s binary yet.
  diff_mode:
    description: Shows each file before and after, with secrets masked.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: partial
    details:
      - O(state=restarted) always restarts.
seealso:
  - module: nordic.gitops.k3s_info
  - module: nordic.gitops.k3s_plan
"""

EXAMPLES = r"""
- name: The only server of a small cluster
  nordic.gitops.k3s:
    binary: files/k3s
    config:
      write-kubeconfig-mode: "0640"
      disable: [traefik]

- name: The first of several servers with embedded etcd
  nordic.gitops.k3s:
    binary: files/k3s
    checksum: "{{ lookup('ansible.builtin.file', 'files/sha256sum-amd64.txt') }}"
    config:
      cluster-init: true
      tls-san: [k3s.example.no]
    token: "{{ vault_k3s_token }}"

- name: An agent that gets the program from a web server of the house
  nordic.gitops.k3s:
    role: agent
    binary_url: https://files.example.no/k3s/v1.30.5%2Bk3s1/k3s
    checksum: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    config:
      server: https://k3s.example.no:6443
      node-label: [disk=nvme]
    token: "{{ vault_k3s_token }}"

- name: Without a registry, with a mirror for what is missing
  nordic.gitops.k3s:
    binary: files/k3s
    images:
      - path: files/k3s-airgap-images-amd64.tar.zst
    registries:
      mirrors:
        docker.io:
          endpoint: [https://registry.example.no]

- name: Renew the certificates of one server
  nordic.gitops.k3s:
    state: restarted
    rotate_certificates: true

- name: Stop k3s and its containers before the disk is replaced
  nordic.gitops.k3s:
    state: stopped

- name: Remove k3s
  nordic.gitops.k3s:
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed and why, one sentence each. In check mode, what would be.
  returned: success
  type: list
  elements: str
  sample: ["/etc/rancher/k3s/config.yaml differs in tls-san", "k3s.service is restarted"]
started:
  description: Whether k3s was started.
  returned: success
  type: bool
restarted:
  description: Whether k3s was restarted.
  returned: success
  type: bool
restart_needed:
  description: Whether k3s still has to be restarted, which is so when O(restart) is V(false) and something it reads at its start changed.
  returned: success
  type: bool
restart_reasons:
  description: Why it has to be restarted.
  returned: success
  type: list
  elements: str
version:
  description: The version that was installed. Null when the program did not change.
  returned: success
  type: str
previous_version:
  description: The version that it replaced.
  returned: success
  type: str
rolled_back:
  description: Whether the previous version was installed again.
  returned: when state is upgraded and the new version did not come up
  type: bool
unknown_keys:
  description: Configuration keys that this binary does not take.
  returned: when there are some
  type: list
  elements: str
seconds:
  description: Seconds by stage.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.node import ensure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.options import SPEC, secrets, spec_of


class Module(AnsibleModule):
    """Knows the secrets inside of dictionaries, which no option's no_log covers, before it writes its arguments to the host's log."""

    def _log_invocation(self):
        self.no_log_values.update(secrets(self.params))
        super()._log_invocation()


def main():
    module = Module(argument_spec=SPEC, supports_check_mode=True, mutually_exclusive=[("binary", "binary_url")],
                    required_by={"binary_url": ["checksum"]})
    module.no_log_values.update(secrets(module.params))
    try:
        outcome = ensure(module.params["state"], spec_of(module.params, module.check_mode))
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    for note in outcome.notes:
        module.warn(masked(note))
    module.exit_json(**masked(outcome.result(module._diff)))


if __name__ == "__main__":
    main()
