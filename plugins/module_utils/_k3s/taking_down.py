# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of k3s on a node, or of its cluster there."""

from __future__ import annotations

import os
import shutil

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import CONFIG_DIR, HOME, ROLES, configuration, files, unfinished
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import ManagedFile
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import password_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.installation import refuse_other_role
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.leftovers import remove_leftovers
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Outcome, Spec


def take_down(spec: Spec, host: Host, outcome: Outcome, everything: bool) -> None:
    """everything: k3s itself too, not only its cluster."""
    if not everything:
        refuse_other_role(spec.role)
    services = [host.service(role) for role in (ROLES if everything else (spec.role,))]
    for service in services:
        state = service.state()
        if state.active != "inactive":
            outcome.changes.append(f"{service.name}.service is stopped")
            if not spec.check_mode:
                service.stop()
        if state.enabled and not everything:
            outcome.changes.append(f"{service.name}.service is disabled")  # or a reboot would begin a new cluster
            if not spec.check_mode:
                service.disable()
        if everything and (os.path.exists(service.path) or state.enabled):
            outcome.changes.append(f"{service.path} is removed")
            if not spec.check_mode:
                service.remove()
    outcome.changes += remove_leftovers(spec.data_dir, everything, spec.check_mode, configuration.precious(spec.configured))
    if not everything:
        _forget_the_ca(spec, outcome)
    if not spec.check_mode:
        unfinished.clear_pending()
        if everything:
            shutil.rmtree(HOME, ignore_errors=True)


def _forget_the_ca(spec: Spec, outcome: Outcome) -> None:
    """A token's long form names the CA of the cluster that has ended; a new cluster has another one."""
    for name in files.TOKEN_FILES.values():
        path = os.path.join(CONFIG_DIR, name)
        there = (files.read(path) or "").strip()
        change = files.compare(ManagedFile(path, password_of(there) + "\n", secret=True)) if there else None
        if change:
            outcome.changes.append(f"{path} is kept without the ended cluster's CA")
            if not spec.check_mode:
                change.write()
