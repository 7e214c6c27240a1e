# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's options as values, each refused in words where it makes no sense."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.endpoints import Endpoint
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import Peer
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile

DATA_DIR = "/var/lib/rancher/k3s"


@dataclass(frozen=True)
class Options:
    """data_dir: None where nobody named it, so that it need not be there yet."""

    profile: Profile
    name: str
    address: str
    data_dir: Optional[str]
    accept: Tuple[str, ...]
    endpoints: Tuple[Endpoint, ...]
    peers: Tuple[Peer, ...]
    node_name: str = ""

    @classmethod
    def of(cls, params: Dict[str, Any], names: Tuple[str, ...]) -> Options:
        """names: of the checks."""
        unknown = [name for name in params["accept"] if name not in names]
        if unknown:
            raise Failure(f"there is no check {', '.join(map(repr, unknown))}", "accept", f"The checks are {', '.join(names)}.")
        data_dir = params["data_dir"]
        if data_dir is not None:
            _usable(data_dir)
        peers = tuple(Peer.of(value) for value in params["peers"])
        name = params["name"] or os.uname().nodename
        if peers and name not in [peer.name for peer in peers]:
            raise Failure(f"the node {name!r} itself is not among {', '.join(peer.name for peer in peers)}", "peers",
                          "Start the listener of this node too (state: listening), and give both the same name.")
        twice = sorted({peer.name for peer in peers if [other.name for other in peers].count(peer.name) > 1})
        if twice:
            raise Failure(f"{', '.join(twice)} is there more than once", "peers", "Give every node a name of its own.")
        return cls(Profile(params["role"], params["cni"], params["datastore"]), name, params["address"] or "", data_dir, tuple(params["accept"]),
                   tuple(Endpoint.of(value) for value in params["endpoints"]), peers, params["node_name"] or "")

    @property
    def own(self) -> Optional[Peer]:
        return next((peer for peer in self.peers if peer.name == self.name), None)


def _usable(folder: str) -> None:
    if not os.path.isabs(folder):
        raise Failure("is not an absolute path", f"data_dir {folder!r}", "Give k3s' data-dir from the root folder on.")
    if not os.path.exists(folder):
        # k3s would create it, on whichever disk happens to be there when the right one is not mounted.
        raise Failure("does not exist", f"data_dir {folder!r}",
                      "Mount its disk and create it, or leave the option out to measure where k3s' own default will be.")
    if not os.path.isdir(folder):
        raise Failure("is not a folder", f"data_dir {folder!r}", "Name the folder that k3s gets as its data-dir.")
    # Root passes access(2) on a mount that is read-only, statvfs(3) tells.
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise Failure("is not writable", f"data_dir {folder!r}", "Mount it read-write, and run with become: true.")
