# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
short_description: How long each step took
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Turns moments at which steps were done into the seconds that each took. The first one is when all began.
options:
  _input:
    description: The moments, with C(step) and C(at), in seconds since 1970.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show
  ansible.builtin.debug:
    msg: "{{ [{'step': 'begun', 'at': 100.0}, {'step': 'stopped', 'at': 104.5}] | nordic.gitops.timeline }}"
"""

RETURN = r"""
_value:
  description: The steps without the first one, each with its C(seconds) and those C(since_begin).
  type: list
  elements: dict
"""


def timeline(moments):
    begun = float(moments[0]["at"])
    return [{"step": moment["step"], "seconds": round(float(moment["at"]) - float(before["at"]), 1), "since_begin": round(float(moment["at"]) - begun, 1)}
            for before, moment in zip(moments, moments[1:])]


class FilterModule:
    """The filter by its name."""

    def filters(self):
        return {"timeline": timeline}
