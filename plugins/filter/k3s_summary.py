# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: k3s_summary
short_description: What a run of the role k3s did, one line for each host
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Each host with the version that it runs and what was changed there, and a line with the number of hosts and the seconds.
positional: _input, vars, new, seconds
options:
  _input:
    description: The names of the hosts.
    type: list
    elements: str
    required: true
  vars:
    description: Their variables, C(hostvars). What the role registered there is read.
    type: dict
    required: true
  new:
    description: Hosts that joined the cluster in this run.
    type: list
    elements: str
    required: true
  seconds:
    description: How long the run took.
    type: float
    required: true
"""

EXAMPLES = r"""
- name: Sum up
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | nordic.gitops.k3s_summary(hostvars, [], 12.5) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def k3s_summary(hosts, variables, new, seconds):
    lines = [f"{host}: {_version(variables[host])}, {_changes(host, variables[host], new)}" for host in hosts]
    return [*lines, f"{len(hosts)} node{'' if len(hosts) == 1 else 's'}, {float(seconds):.1f} s"]


def _version(known):
    """What a new host says afterwards, what the installation found, or what ran before."""
    return next((version for version in (_of(known, name, "version") for name in ("k3s_after", "k3s_installed", "k3s_now")) if version), "no k3s yet")


def _changes(host, known, new):
    return "new in the cluster" if host in new else "; ".join(_of(known, "k3s_installed", "changes") or []) or "unchanged"


def _of(known, result, value):
    return (known[result] if result in known else {}).get(value)


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"k3s_summary": k3s_summary}
