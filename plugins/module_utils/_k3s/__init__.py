# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s on one node. It needs nothing there but Python's standard library. What judges all nodes together is plugin_utils/_k3s.

    info.py              what a node is now, beside what it is to be
    node.py              the states of one node: present, restarted, upgraded, reset, absent
    configuration.py     all configuration files of a node as one mapping, and what follows from it: port, data folder, names
    adoption.py          a setup by k3s' install script, so that nothing of it is lost unseen
    files.py             configuration, registries, tokens and the unit, as files that are compared and written
    flags.py             which configuration keys this binary takes
    binary.py            the program and the images: checksums, installing, the previous one kept for a rollback
    spec.py              what the caller wants, and what was done, as values; host.py what is outside: files, systemd, etcd, the clock
    installation.py      program, images, files and unit of a node; refusals.py what is wrong with what is wanted, by values alone
    running.py           k3s started, restarted, waited for, rolled back; unfinished.py what an interrupted run has left to do
    taking_down.py       the end of k3s on a node, or of its cluster there
    service.py           systemd's unit of k3s
    health.py            whether a node is up, and the wait until it is
    membership.py        a node as a member of the cluster: drained, uncordoned, labelled, removed
    leave.py             a server that leaves its cluster for good
    leftovers.py         what a reset removes
    manifests.py         the manifests that k3s deploys by itself
    selinux.py           files get the label that the policy has for their place
    servers.py           the servers that files of a host name (database.py: those of etcd's own), and whether they answer
    api.py               the Kubernetes API, etcd.py the embedded etcd, both from the node itself
    snapshot.py          snapshots of etcd, snapshot_states.py the states of the module etcd_snapshot
    verification.py      a snapshot restored beside the running cluster (isolation.py) and read
    restore.py           the restored database put in the place of the live one, which is set aside
    version.py           versions, and the steps between them that Kubernetes allows
"""

from __future__ import annotations

ROLES = ("server", "agent")
BINARY = "/usr/local/bin/k3s"
CONFIG_DIR = "/etc/rancher/k3s"
DATA_DIR = "/var/lib/rancher/k3s"
PASSWORDS = "server/cred/passwd"  # in the data folder: what nodes join with, which k3s keeps in the datastore too
HOME = "/var/lib/nordic.gitops/k3s"  # what these modules keep on a node; never anything of k3s' own
