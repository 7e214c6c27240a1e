# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's servers as files of this host name them, for when no etcd and no API can be asked; and whether each of them answers."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import database, files
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Etcd, EtcdFailure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import authority_at
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_of

# An agent's k3s keeps there which servers it may ask.
BALANCER = "agent/etc/k3s-agent-load-balancer.json"


def recorded_members(data_dir: str) -> List[Dict[str, Any]]:
    """The members that etcd's database here names. One that answers takes this server's certificate, so it is of the same cluster."""
    path = database.path_of(data_dir)
    if not os.path.exists(path):
        return []
    members = database.recorded_members(path)
    try:
        etcd: Optional[Etcd] = Etcd.of_node(data_dir)
    except EtcdFailure:
        etcd = None
    return [{"name": member.name, "node": member.node, "address": member.address, "voter": not member.learner,
             "answers": bool(etcd and member.peer_urls and etcd.answers(member))} for member in members]


def recorded_servers(data_dir: str) -> List[Dict[str, Any]]:
    """The servers that an agent knows, with what they say which cluster they are of."""
    authority = authority_of(data_dir)
    try:
        told = json.loads(files.read(os.path.join(data_dir, BALANCER)) or "{}")
        addresses = [str(address) for address in told.get("ServerAddresses") or [] if address]
    except (Failure, ValueError, AttributeError, TypeError):
        return []  # k3s writes it anew at its next start
    return [{"address": urlsplit(f"//{address}").hostname or address,
             "answers": authority is not None and authority_at(f"https://{address}") == authority} for address in sorted(set(addresses))]


def own_addresses() -> List[str]:
    """Of this host, without those of the loopback interface."""
    found = set()
    lines = (files.read("/proc/net/fib_trie") or "").splitlines()
    for line, following in zip(lines, lines[1:]):
        if following.strip() == "/32 host LOCAL":
            found.add(line.split()[-1])
    for line in (files.read("/proc/net/if_inet6") or "").splitlines():
        found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    return sorted(address for address in found if not address.startswith("127.") and address != "::1")
