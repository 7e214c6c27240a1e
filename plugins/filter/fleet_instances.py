# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_instances
short_description: Numbered instances from a few lines
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Turns groups, such as three servers and three agents, into the option O(nordic.gitops.kvm_instance#module:instances) of M(nordic.gitops.kvm_instance).
positional: _input, fleet
options:
  _input:
    description:
      - The groups. Each has a C(name), which becomes the metadata C(role), a C(count), and C(options), which every one of its instances gets.
      - The instances are named C(FLEET-NAME-NUMBER).
    type: list
    elements: dict
    required: true
  fleet:
    description: The name of the fleet.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show
  ansible.builtin.debug:
    msg: "{{ [{'name': 'server', 'count': 3, 'options': {'flavor': 'cv-nvme-8gb'}}] | nordic.gitops.fleet_instances('shop') }}"
"""

RETURN = r"""
_value:
  description: The instances.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleFilterError


def fleet_instances(groups, fleet):
    made = []
    for group in groups:
        try:
            name, count = str(group["name"]), int(group["count"])
            if count < 0:
                raise ValueError("count is negative")
        except (KeyError, TypeError, ValueError) as error:
            raise AnsibleFilterError("a group of instances has a name and a count: %s (%r)" % (group, error)) from error
        options = dict(group.get("options") or {})
        for number in range(1, count + 1):
            metadata = dict({"role": name}, **(options.get("metadata") or {}))
            made.append(dict(options, name="%s-%s-%d" % (fleet, name, number), metadata=metadata))
    return made


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"fleet_instances": fleet_instances}
