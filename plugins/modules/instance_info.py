#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_info
short_description: What instances there are
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Lists the instances of a fleet, or of the whole project, in all states.
  - It changes nothing.
options:
  fleet:
    description: Only instances of this fleet, with their ports and volumes. All of the project, without these, when left out.
    type: str
  names:
    description: Only instances with these names.
    type: list
    elements: str
  console_lines:
    description: How many lines of the end of the console log are returned for each instance. None by default.
    type: int
    default: 0
extends_documentation_fragment:
  - nordic.gitops.cloud
  - nordic.gitops.address
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
requirements:
  - openstacksdk >= 1.5, for OpenStack
  - libvirt-python, for libvirt
seealso:
  - module: nordic.gitops.kvm_instance
"""

EXAMPLES = r"""
- name: Look
  nordic.gitops.instance_info:
    cloud: nordic
    region: no-oslo-1
    fleet: shop
  register: found

- name: Save it, so that a lost instance can be made again as it was
  ansible.builtin.copy:
    content: "{{ found | to_nice_json }}"
    dest: shop.json
    mode: "0600"
"""

RETURN = r"""
instances:
  description: The instances, by name.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its ID.
      type: str
    name:
      description: Its name.
      type: str
    status:
      description: Its status in the words of OpenStack.
      type: str
      sample: ACTIVE
    task:
      description: What is being done to it.
      type: str
    fault:
      description: Why it is in ERROR.
      type: str
    address:
      description: The address that O(address) chooses, or null.
      type: str
    addresses:
      description: All of them.
      type: list
      elements: dict
    flavor:
      description: Name, C(vcpus), C(ram) in MB, C(disk) in GB.
      type: dict
    image:
      description: Name of the image that it was made from.
      type: str
    image_id:
      description: ID of that image.
      type: str
    key:
      description: Its key pair.
      type: str
    zone:
      description: Its availability zone.
      type: str
    fleet:
      description: The fleet that it belongs to.
      type: str
    locked:
      description: Whether the provider has locked it.
      type: bool
    protected:
      description: Whether it is protected from deletion.
      type: bool
    server_groups:
      description: IDs of its server groups.
      type: list
      elements: str
    created:
      description: When it was made.
      type: str
    metadata:
      description: Its metadata without the marks.
      type: dict
    marks:
      description: The marks of this collection.
      type: dict
    ports:
      description: Its ports, with O(fleet).
      type: list
      elements: dict
    volumes:
      description: Its volumes with C(path), by which a guest finds each in any order, with O(fleet).
      type: list
      elements: dict
    floating_addresses:
      description: Its floating addresses, with O(fleet).
      type: list
      elements: str
    console:
      description: The end of its console log, with O(console_lines).
      type: str
place:
  description: The region, the project and the endpoints that answered.
  returned: success
  type: dict
requests:
  description: How many requests were made.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance.facts import AddressRule, facts
from ansible_collections.nordic.gitops.plugins.module_utils._instance.options import ADDRESS_SPEC, CLOUD_SPEC, provider_of
from ansible_collections.nordic.gitops.plugins.module_utils._instance.residency import check_project
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked

SPEC = dict(
    fleet=dict(type="str"),
    names=dict(type="list", elements="str"),
    console_lines=dict(type="int", default=0),
    address=ADDRESS_SPEC,
)


def run(params):
    cloud = provider_of(params)
    place = cloud.place()
    check_project(params["project_id"], place)
    names = params["names"] or []
    found = cloud.world(params["fleet"], names).instances if params["fleet"] else cloud.everything()
    rule = AddressRule.of(params["address"])
    instances = []
    for one in sorted(found, key=lambda each: (each.name, each.id)):
        if names and one.name not in names:
            continue
        entry = facts(one, rule)
        if params["console_lines"]:
            entry["console"] = cloud.console(one.id, params["console_lines"])
        instances.append(entry)
    where = {"region": place.region, "project_id": place.project_id, "endpoints": dict(place.endpoints), "at": place.answered}
    return {"instances": instances, "place": where, "requests": cloud.requests}


def main():
    module = AnsibleModule(argument_spec=dict(**CLOUD_SPEC, **SPEC), supports_check_mode=True)
    try:
        result = run(module.params)
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(changed=False, **masked(result))


if __name__ == "__main__":
    main()
