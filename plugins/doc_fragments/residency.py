# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option residency; RESIDENCY_SPEC of module_utils/_instance/options.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  residency:
    description:
      - Where data may lie. Everything else is refused before the first request that makes something.
      - The region is checked as it is asked for, and as the catalog of the provider has it for each service that is used.
      - Anything is allowed when left out.
    type: dict
    suboptions:
      regions:
        description: Allowed regions, such as V(no-oslo-1).
        type: list
        elements: str
      zones:
        description:
          - Allowed availability zones.
          - An instance or a volume that names no zone comes into any that the provider chooses, so then all that it has must be allowed.
        type: list
        elements: str
      endpoint_hosts:
        description: Allowed hosts of endpoints. C(*) stands for any characters.
        type: list
        elements: str
"""
