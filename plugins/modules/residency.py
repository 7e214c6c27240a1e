#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: residency
short_description: Refuses what lies where data may not be
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Compares regions, availability zones and endpoints with what is allowed, before a play makes anything.
  - O(residency) has to name something. With a cloud, its own catalog is compared too.
  - Without one, only O(targets) are, such as registries and storage for snapshots.
  - The result is evidence for the audit, with the time at which the provider answered.
options:
  targets:
    description: URLs or hosts to check as well. A registry, a bucket for snapshots, a Git server.
    type: list
    elements: str
    default: []
  services:
    description: The services of the catalog that are going to be used.
    type: list
    elements: str
    choices: [compute, network, image, volume]
    default: [compute, network, image]
  catalog:
    description: Whether the catalog of the cloud is compared. Without it no credentials are needed.
    type: bool
    default: true
extends_documentation_fragment:
  - nordic.gitops.cloud
  - nordic.gitops.residency
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
- name: Norway only, says the law
  nordic.gitops.residency:
    cloud: nordic
    region: no-oslo-1
    residency:
      regions: [no-oslo-1]
      endpoint_hosts: ["*.example.no", 127.0.0.1]
    targets:
      - https://registry.example.no
      - https://snapshots.example.no
  register: proof

- name: Only the targets, without a cloud
  nordic.gitops.residency:
    region: no-oslo-1
    catalog: false
    residency:
      endpoint_hosts: ["*.example.no"]
    targets: [registry.example.no]
"""

RETURN = r"""
evidence:
  description: What was asked for, what is allowed, what the provider answered, and when.
  returned: success
  type: dict
"""

import datetime

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance import residency
from ansible_collections.nordic.gitops.plugins.module_utils._instance.options import CLOUD_SPEC, RESIDENCY_SPEC, provider_of
from ansible_collections.nordic.gitops.plugins.module_utils._instance.provider import Place
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked

SPEC = dict(
    residency=RESIDENCY_SPEC,
    targets=dict(type="list", elements="str", default=[]),
    services=dict(type="list", elements="str", choices=["compute", "network", "image", "volume"], default=["compute", "network", "image"]),
    catalog=dict(type="bool", default=True),
)


def run(params):
    rule = residency.Residency.of(params["residency"] or {})
    region = params["region"]
    residency.check_region(rule, region)
    for target in params["targets"]:
        residency.check_url(rule, target, "the target %s" % target)
    if params["catalog"]:
        place = provider_of(params).place()
        residency.check_project(params["project_id"], place)
        residency.check_place(rule, region, place, params["services"])
    else:
        place = Place("none", region, "", {}, {}, datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))
    return dict(residency.evidence(rule, region, place, []), targets=params["targets"])


def main():
    module = AnsibleModule(argument_spec=dict(**CLOUD_SPEC, **SPEC), supports_check_mode=True)
    try:
        found = run(module.params)
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(changed=False, evidence=masked(found))


if __name__ == "__main__":
    main()
