# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argo CD's access policies, read as it reads them: one that it cannot read has it deny every request, or not start at all."""

from __future__ import annotations

import csv
import re
from typing import List

IN_PROJECT = ("applications", "applicationsets", "repositories", "write-repositories", "clusters", "logs", "exec")
ACTIONS = ("get", "create", "update", "delete", "sync", "rollback", "override", "action", "*")
_ROLE = re.compile(r"[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?\Z")


def fields_of(line: str) -> List[str]:
    """The fields of one line."""
    return [field.strip() for field in next(csv.reader([line], skipinitialspace=True), [])]


def problems_of_role(policy: str, project: str, role: str) -> List[str]:
    """What is wrong with one policy of a project's role: p, proj:PROJECT:ROLE, RESOURCE, ACTION, PROJECT/OBJECT, allow or deny."""
    if not _ROLE.match(role):
        return [f"{role} is no valid name of a role"]
    fields = fields_of(policy)
    if len(fields) != 6:
        return [f"{policy} has {len(fields)} fields, not the six of p, proj:{project}:{role}, applications, sync, {project}/*, allow"]
    found = []
    kind, subject, resource, action, target, effect = fields
    if kind != "p":
        found.append(f"it begins with {kind}; a role has policies (p) and no groups (g)")
    if subject != f"proj:{project}:{role}":
        found.append(f"the subject {subject} has to be proj:{project}:{role}")
    if resource not in IN_PROJECT:
        found.append(f"{resource} is no resource of a project; there are {', '.join(IN_PROJECT)}")
    if action.split("/")[0] not in ACTIONS:
        found.append(f"{action} is no action; there are {', '.join(ACTIONS)}")
    if not target.startswith(f"{project}/"):
        found.append(f"the object {target} has to begin with {project}/")
    if effect not in ("allow", "deny"):
        found.append(f"it ends with {effect}, which is neither allow nor deny")
    return found
