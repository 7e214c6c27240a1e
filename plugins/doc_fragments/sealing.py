# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which modules find the controller of Sealed Secrets and its certificate; _sealed_secrets reads them."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  controller_name:
    description: Name of the controller's Service and Deployment.
    type: str
    default: sealed-secrets-controller
  controller_namespace:
    description: Namespace of the controller and its keys.
    type: str
    default: kube-system
  timeout:
    description: How long to wait, in seconds, for one answer of the controller, and for a new key to be the one that seals.
    type: int
    default: 60
notes:
  - It runs on the Ansible controller, in Ansible's own process, whatever the task's host is. No value and no key is copied to
    a host, and paths are those of the Ansible controller.
requirements:
  - cryptography >= 41
"""
