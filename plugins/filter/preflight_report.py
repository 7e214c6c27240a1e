# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_report
short_description: The results of node_preflight as one HTML page
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - A page across the fleet that needs nothing else, neither a script nor a network. All checks of all hosts, the histogram of the fsync latency
    of each, what every node measured of every other one, the findings with evidence and mending, and the method.
positional: _input, title
options:
  _input:
    description: What M(nordic.gitops.node_preflight) returned, by host. A host without C(checks) in its result is shown as not measured.
    type: dict
    required: true
  title:
    description: The page's heading.
    type: str
    default: Preflight
seealso:
  - module: nordic.gitops.node_preflight
"""

EXAMPLES = r"""
- name: Write the report
  ansible.builtin.copy:
    content: "{{ results | nordic.gitops.preflight_report('Production in Oslo') }}"
    dest: /srv/audit/preflight.html
    mode: "0644"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from ansible.errors import AnsibleFilterError

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.page import page


def preflight_report(results, title="Preflight"):
    try:
        return page(results, str(title))
    except Failure as failure:
        raise AnsibleFilterError(str(failure)) from failure


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"preflight_report": preflight_report}
