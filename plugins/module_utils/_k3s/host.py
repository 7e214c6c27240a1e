# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is outside of the states of a node: files, programs, systemd, etcd and the clock of this host. They are given to each part, so that what a part
decides can be seen without a host."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import binary, files, health
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Etcd
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import Service
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version


@dataclass(frozen=True)
class Host:
    """This one; a test says otherwise."""

    read: Callable[[str], Optional[str]] = files.read
    sha256_of: Callable[[str], str] = binary.sha256_of
    version_of: Callable[[str], Version] = binary.version_of
    has_cluster: Callable[[str, str], bool] = health.has_cluster
    service: Callable[[str], Service] = Service
    etcd: Callable[[str], Etcd] = Etcd.of_node
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
