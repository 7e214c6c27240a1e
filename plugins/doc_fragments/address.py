# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option address; ADDRESS_SPEC of module_utils/_instance/options.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  address:
    description: Which address of an instance is meant. Modules and the inventory plugin choose by the same rule.
    type: dict
    suboptions:
      network:
        description: The name of the network. Any when left out.
        type: str
      kind:
        description: V(floating), V(fixed), or V(any), which prefers a floating one.
        type: str
        choices: [any, fixed, floating]
        default: any
      version:
        description: The IP version.
        type: int
        choices: [4, 6]
        default: 4
"""
