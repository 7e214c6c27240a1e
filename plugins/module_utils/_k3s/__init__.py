# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s on one node, and the plan across nodes. What runs on a node needs nothing but Python's standard library.

    node.py      the states of one node: present, restarted, upgraded, reset, absent
    plan.py      judges all nodes of a cluster together, and says who begins and who joins (pure, on the controller)
    info.py      what a node is now
    files.py     configuration, drop-ins, registries, tokens and the unit, as files that are compared and written
    flags.py     which configuration keys this binary takes
    binary.py    the program and the images: checksums, installing, the previous one kept for a rollback
    service.py   systemd's unit of k3s
    api.py       the Kubernetes API, etcd.py the embedded etcd, both from the node itself
    version.py   versions, and the steps between them that Kubernetes allows
"""

from __future__ import annotations

ROLES = ("server", "agent")
BINARY = "/usr/local/bin/k3s"
CONFIG_DIR = "/etc/rancher/k3s"
DATA_DIR = "/var/lib/rancher/k3s"
HOME = "/var/lib/nordic.gitops/k3s"  # what these modules keep on a node; never anything of k3s' own
