#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_instance
short_description: Makes a fleet of KVM instances what it is declared to be
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Creates, updates, resizes, rebuilds, replaces and deletes instances on OpenStack, or on a host with libvirt, all of a fleet in one task and at once.
  - The whole plan is made, and judged, before the first request that changes something. In check mode the plan is the result, as data and as a table.
  - What it makes carries the mark of its fleet in the provider's own metadata. Nothing without that mark is ever changed or deleted.
  - Nothing is destroyed that may hold data without the option that says so. Volumes and fixed addresses survive a replacement.
  - Options of an instance at the top level are the defaults of each entry of O(instances).
  - Only one run at a time changes a fleet. Another one waits, also on another controller.
options:
  fleet:
    description: The name of the fleet. It is part of the mark of ownership.
    type: str
    required: true
  name:
    description: The name of the instance, when there is one. Either this or O(instances).
    type: str
  state: &state
    description:
      - V(present) makes the instance, and does about differences what O(on_drift) says. It does not start or stop one that exists.
      - V(started) and V(stopped) enforce the power state too.
      - V(absent) deletes it. Its volumes stay unless O(delete_volumes).
      - V(rebuilt) installs it anew from its image, on every run. It needs O(allow_data_loss), unless it boots from a volume, which is kept.
    type: str
    choices: [present, absent, rebuilt, started, stopped]
  image: &image
    description: Name or ID of the image. Required unless O(state=absent).
    type: str
  flavor: &flavor
    description: Name or ID of the flavor, or its size, such as V(4 vCPU, 16384 MB) or V(4 vCPU, 16384 MB, 160 GB). Required unless O(state=absent).
    type: str
  key: &key
    description: Name of the key pair.
    type: str
  public_key: &public_key
    description: The public key that this key pair must have. With another one in the cloud nobody could log in, so it is refused.
    type: str
  networks: &networks
    description:
      - The networks, in the order of the interfaces.
      - For each, a port is made that outlives the instance, so that a replaced instance has the same addresses.
    type: list
    elements: dict
    suboptions:
      network:
        description: Name or ID of the network.
        type: str
      subnet:
        description: Name or ID of the subnet.
        type: str
      address:
        description: The fixed address.
        type: str
      port:
        description: Name or ID of a port that exists. It is never deleted.
        type: str
      security_groups:
        description: The groups of this port. They win over those of the instance.
        type: list
        elements: str
  security_groups: &security_groups
    description: Names or IDs of the security groups of all ports. The cloud's default, and no comparison, when left out.
    type: list
    elements: str
  server_group: &server_group
    description: Name or ID of the server group, for example one with anti-affinity for a control plane.
    type: str
  zone: &zone
    description: The availability zone.
    type: str
  boot_volume: &boot_volume
    description: Boot from a volume that is made of the image. It survives the instance.
    type: dict
    suboptions:
      size:
        description: Its size in GB.
        type: int
      type:
        description: Its volume type.
        type: str
      zone:
        description: Its availability zone. That of the instance when left out.
        type: str
      volume:
        description: Name or ID of a bootable volume that exists. It is never deleted.
        type: str
  volumes: &volumes
    description: Data volumes, attached in this order. They survive the instance.
    type: list
    elements: dict
    suboptions:
      label:
        description: The name by which later runs know it. Required with a size. Letters, digits, dots, dashes and underscores.
        type: str
      size:
        description: Its size in GB. A larger one grows the volume, a smaller one is refused.
        type: int
      type:
        description: Its volume type.
        type: str
      zone:
        description: Its availability zone. That of the instance when left out.
        type: str
      volume:
        description: Name or ID of a volume that exists. It is attached, and never resized or deleted.
        type: str
  floating_address: &floating_address
    description: A floating address, on the first port. One that merely is free is never taken.
    type: dict
    suboptions:
      network:
        description: Name or ID of the external network, for a new address.
        type: str
      address:
        description: An address that this project has.
        type: str
  metadata: &metadata
    description: Metadata. Keys that others wrote stay. Keys that begin with C(nordic:) are marks of this collection.
    type: dict
  user_data: &user_data
    description:
      - What cloud-init is given at the first boot, as text. It is checked before anything is made.
      - With O(cloud_init) both become one multi-part document.
    type: str
  cloud_init: &cloud_init
    description: C(cloud-config) as a mapping.
    type: dict
  protected: &protected
    description: Whether the instance may not be deleted or replaced.
    type: bool
  on_drift:
    description:
      - What is done about a difference, by field. By default what can be changed while the guest runs is changed, and everything else is reported.
      - V(report) only says so. V(refuse) fails before anything is changed. V(update) changes it in place. V(resize) restarts the instance.
        V(rebuild) installs the image anew on the same instance. V(replace) makes a new instance with the same name, addresses and volumes.
    type: dict
    suboptions:
      image:
        description: Another image, also one that was uploaded anew under the same name.
        type: str
        choices: [rebuild, refuse, replace, report]
      flavor:
        description: Another flavor.
        type: str
        choices: [refuse, replace, report, resize]
      user_data:
        description: Other user data. It takes effect only at a first boot.
        type: str
        choices: [rebuild, refuse, replace, report]
      key:
        description: Another key pair.
        type: str
        choices: [rebuild, refuse, replace, report]
      zone:
        description: Another availability zone.
        type: str
        choices: [refuse, replace, report]
      server_group:
        description: Not a member of the server group.
        type: str
        choices: [refuse, replace, report]
      networks:
        description: A port that is missing, or one of ours that is no longer declared. By default V(update).
        type: str
        choices: [refuse, replace, report, update]
      security_groups:
        description: Other security groups. By default V(update).
        type: str
        choices: [refuse, report, update]
      floating_address:
        description: Another floating address. By default V(update). The old one is kept.
        type: str
        choices: [refuse, report, update]
      metadata:
        description: Other metadata. By default V(update).
        type: str
        choices: [refuse, report, update]
      volumes:
        description: A volume that is missing or smaller. By default V(update).
        type: str
        choices: [refuse, report, update]
      extra_volumes:
        description: A volume of ours that is attached and no longer declared. V(update) detaches it, and it is kept.
        type: str
        choices: [refuse, report, update]
      status:
        description: An instance that ran once and is in ERROR.
        type: str
        choices: [refuse, replace, report]
  allow_data_loss:
    description: Whether a rebuild or a replacement may destroy a root disk, and whether snapshots on a libvirt host go with their instance.
    type: bool
    default: false
  prune:
    description: Whether instances of this fleet that are no longer declared are deleted. They are reported otherwise. Needs O(instances).
    type: bool
    default: false
  prune_limit:
    description: How many may be deleted so in one run, as a number or as a share of the fleet.
    type: str
    default: 50%
  delete_volumes:
    description: Whether the volumes that this module made go with an instance that is deleted. All others are detached.
    type: bool
    default: false
  fingerprint_key:
    description:
      - The key of the fingerprint of user data in the instance's metadata, from which later runs see whether it differs.
      - The guest, and whoever may read metadata, sees the fingerprint. Without this key, guesses of a short secret can be tried against it.
    type: str
  parallel:
    description: How many instances are worked on at once. What interrupts an instance (resize, rebuild, replace) is always done one at a time.
    type: int
    default: 10
  wait_for:
    description:
      - When an instance is ready. V(active) is when the cloud says so, V(ssh) when its ssh server answers.
      - V(cloud_init) is when cloud-init has ended its last stage without errors, asked through ssh.
    type: str
    choices: [active, ssh, cloud_init]
    default: active
  wait_timeout:
    description: How long each wait may take, in seconds.
    type: int
    default: 600
  shutdown_timeout:
    description: How long a guest may take to shut down before it is stopped, replaced or deleted, in seconds. It is powered off then, with a warning.
    type: int
    default: 90
  ssh:
    description: How ssh logs in for O(wait_for).
    type: dict
    suboptions:
      user:
        description: The user.
        type: str
      port:
        description: The port.
        type: int
        default: 22
      private_key_file:
        description: The private key.
        type: path
      known_hosts_file:
        description: Where host keys are kept.
        type: path
  gate:
    description:
      - A command, and its arguments, that decides whether an instance may be interrupted. It runs before each resize, rebuild and replacement, until it
        ends with 0 or O(wait_timeout) is over. C({name}) and C({operation}) are filled in.
      - For the nodes of a cluster, the playbook C(nordic.gitops.gate) asks whether etcd has its quorum without this one and all others are Ready.
    type: list
    elements: str
  instances:
    description: The instances of the fleet. What an entry leaves out it takes from the option of the same name beside this one.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the instance.
        type: str
        required: true
      state: *state
      image: *image
      flavor: *flavor
      key: *key
      public_key: *public_key
      networks: *networks
      security_groups: *security_groups
      server_group: *server_group
      zone: *zone
      boot_volume: *boot_volume
      volumes: *volumes
      floating_address: *floating_address
      metadata: *metadata
      user_data: *user_data
      cloud_init: *cloud_init
      protected: *protected
extends_documentation_fragment:
  - nordic.gitops.cloud
  - nordic.gitops.address
  - nordic.gitops.residency
attributes:
  check_mode:
    description: Returns the plan that the run carries out.
    support: full
  diff_mode:
    description: Shows the differences of each instance.
    support: full
  idempotent:
    description: A second run changes nothing, except with O(state=rebuilt).
    support: partial
requirements:
  - openstacksdk >= 1.5, for OpenStack
  - libvirt-python, for libvirt
seealso:
  - module: nordic.gitops.instance_info
  - module: nordic.gitops.residency
"""

EXAMPLES = r"""
- name: The article's first server
  nordic.gitops.kvm_instance:
    cloud: nordic
    region: no-oslo-1
    fleet: oslo
    name: oslo-k8s-control-01
    image: ubuntu-24-04-lts
    flavor: cv-nvme-16gb
    networks:
      - network: private
    residency:
      regions: [no-oslo-1]

- name: Three servers and three agents
  nordic.gitops.kvm_instance:
    cloud: nordic
    region: no-oslo-1
    fleet: shop
    image: ubuntu-24-04-lts
    networks:
      - network: private
    metadata:
      cluster: shop
    instances:
      - {name: shop-server-1, flavor: cv-nvme-8gb, metadata: {role: server}}
      - {name: shop-server-2, flavor: cv-nvme-8gb, metadata: {role: server}}
      - {name: shop-server-3, flavor: cv-nvme-8gb, metadata: {role: server}}
      - {name: shop-agent-1, flavor: cv-nvme-4gb, metadata: {role: agent}}
      - {name: shop-agent-2, flavor: cv-nvme-4gb, metadata: {role: agent}}
      - {name: shop-agent-3, flavor: cv-nvme-4gb, metadata: {role: agent}}

- name: Take one away
  nordic.gitops.kvm_instance:
    cloud: nordic
    region: no-oslo-1
    fleet: oslo
    name: oslo-k8s-control-01
    state: absent
"""

RETURN = r"""
plan:
  description: What is done about each instance, and why.
  returned: success, and when a run failed after the plan was made
  type: list
  elements: dict
  sample: [{operation: resize, name: shop-agent-1, reasons: ['flavor: cv-nvme-4gb -> cv-nvme-8gb (restarts it)'], destroys: [], keeps: []}]
table:
  description: The same for a person to read.
  returned: success
  type: str
counts:
  description: How many instances each operation is about.
  returned: success
  type: dict
instances:
  description: The instances of the fleet afterwards, as M(nordic.gitops.instance_info) returns them.
  returned: success
  type: list
  elements: dict
undeclared:
  description: Instances of the fleet that are no longer declared, and stay.
  returned: success
  type: list
  elements: str
leftovers:
  description: Ports, volumes and addresses of the fleet that no declared instance has.
  returned: success
  type: list
  elements: str
evidence:
  description: For the audit. What was asked for, what was allowed, what the provider answered, and when.
  returned: success
  type: dict
quota:
  description: What the plan takes of the quota.
  returned: success
  type: dict
steps:
  description: What was done, with its seconds. The one that failed has C(failed).
  returned: success, and when a run failed
  type: list
  elements: dict
requests:
  description: How many requests were made.
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance.fleet import Ask, provision
from ansible_collections.nordic.gitops.plugins.module_utils._instance.options import CLOUD_SPEC, FLEET_SPEC, INSTANCE_SPEC, provider_of
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked


def diff_of(result):
    """Each instance before and after, the fields that differ."""
    before, after = [], []
    for change in result.get("plan", []):
        if change["operation"] in ("unchanged", "undeclared", "skipped"):
            continue
        before.append("%s: %s" % (change["name"], "absent" if change["operation"] == "create" else "present"))
        after.append("%s: %s" % (change["name"], "absent" if change["operation"] == "delete" else change["operation"]))
        for one in change["differences"]:
            before.append("  %s: %s" % (one["field"], one["before"]))
            after.append("  %s: %s (%s)" % (one["field"], one["after"], one["action"]))
    return {"before": "".join(line + "\n" for line in before), "after": "".join(line + "\n" for line in after)}


def main():
    module = AnsibleModule(argument_spec=dict(**CLOUD_SPEC, **FLEET_SPEC, **INSTANCE_SPEC), supports_check_mode=True)
    try:
        result = provision(lambda: provider_of(module.params), Ask(module.params, module.check_mode))
    except Failure as failure:
        for text in failure.details.pop("warnings", []):
            module.warn(masked(text))
        module.fail_json(msg=str(failure), **failure.details)
    for text in result.pop("warnings"):
        module.warn(masked(text))
    module.exit_json(diff=masked(diff_of(result)), **masked(result))


if __name__ == "__main__":
    main()
