# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of Argo CD's kinds have in common; _argocd/options.py has the options themselves."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state:
    description: Whether the objects are there.
    type: str
    choices: [present, absent]
    default: present
  wait_timeout:
    description: How long to wait for what Argo CD has to do, in seconds.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Says what a run would do. The API server's own dry run has judged it.
  diff_mode:
    support: full
    description: The fields that the task sets or set, before and after. Values of Secrets are masked.
  idempotent:
    support: full
    description: A second run changes nothing.
notes:
  - Options that Argo CD has a key for have Argo CD's own name, so that a manifest can be copied into a task.
  - What a task does not mention is left alone. What it mentioned before and no longer does is taken away, and so is what a person added by hand
    with kubectl and the like, which is known from the field managers.
  - All objects of a task are checked before the first of them is written.
"""
