# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_table
short_description: The results of node_preflight as a table for the terminal
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Checks down, hosts across, and below it every finding that needs a person's eye, with its evidence and how to mend it.
positional: _input, width
options:
  _input:
    description: What M(nordic.gitops.node_preflight) returned, by host. A host without C(checks) in its result is shown as not measured.
    type: dict
    required: true
  width:
    description: Columns of the terminal.
    type: int
    default: 120
seealso:
  - module: nordic.gitops.node_preflight
"""

EXAMPLES = r"""
- name: Show what was found on this host
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: preflight_result} | nordic.gitops.preflight_table).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The table, lines separated by a line feed.
  type: str
"""

from ansible.errors import AnsibleFilterError

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.table import table


def preflight_table(results, width=120):
    try:
        return table(results, int(width))
    except Failure as failure:
        raise AnsibleFilterError(str(failure)) from failure


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"preflight_table": preflight_table}
