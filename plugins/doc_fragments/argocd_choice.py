# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Applications a task means; CHOICE of _argocd/options.py has the options themselves."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description: Name of one Application.
    type: str
  names:
    description: Names of several Applications.
    type: list
    elements: str
  namespace:
    description: Namespace of the Applications.
    type: str
    default: argocd
  label_selector:
    description: Applications with these labels, such as V(team=shop).
    type: str
  applicationset:
    description: Applications that this ApplicationSet makes.
    type: str
"""
