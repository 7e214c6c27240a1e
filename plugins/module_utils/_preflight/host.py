# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node as the checks see it: its files, its options, and what is learnt once and judged by several checks."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Dict, Mapping, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight import peers, ports
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.disk import existing
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.options import DATA_DIR, Options
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import PeerResult, PeerResults
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile


class Host:
    machine: Machine
    options: Options

    def __init__(self, machine: Machine, options: Options) -> None:
        self.machine = machine
        self.options = options

    @property
    def profile(self) -> Profile:
        return self.options.profile

    @property
    def data_dir(self) -> str:
        return self.options.data_dir or DATA_DIR

    @cached_property
    def datastore_folder(self) -> str:
        """Where etcd writes, or will write: the member's own folder, else the nearest one above it that exists."""
        return existing(os.path.join(self.data_dir, "server", "db", "etcd"))

    @cached_property
    def state_folder(self) -> str:
        return self.datastore_folder if self.profile.etcd else existing(self.data_dir)

    @cached_property
    def folders(self) -> Tuple[str, ...]:
        """Where k3s, its images and its pods write, one for each file system."""
        found: Dict[int, str] = {}
        for folder in (self.state_folder, existing(os.path.join(self.data_dir, "agent")), existing("/var/lib/kubelet"), existing("/var/log/pods")):
            found.setdefault(os.stat(folder).st_dev, folder)
        return tuple(found.values())

    @cached_property
    def held(self) -> Mapping[str, str]:
        """Ports that somebody has. While this run's own listener is there, only what it saw before it took them is true."""
        own = self.options.own
        return own.held if own else ports.in_use(self.machine, ports.own_ports(self.profile))

    @cached_property
    def peer_results(self) -> PeerResults:
        own = self.options.own
        return peers.ask_all(self.machine, own, self.options.peers) if own else PeerResults((), False)

    @property
    def peers(self) -> Tuple[PeerResult, ...]:
        return self.peer_results.results
