# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is alive leaves its cluster for good. Everything that would be lost by it is refused before anything is changed."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import Node
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import EtcdFailure, View
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.membership import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import Service

LAST = "The cluster would end with it: the playbook reset does that, and asks first."


def leave(cluster: Cluster, name: str, check_mode: bool) -> Dict[str, Any]:
    """Run on the server itself: its member of etcd is removed, and k3s is stopped and disabled at once, as a k3s that was removed from etcd
    joins again when systemd starts it anew."""
    view = cluster.etcd.view() if cluster.etcd else None
    refusal = objection(view) if view else without_etcd(cluster.api.nodes(), name)
    if refusal:
        raise Refused(refusal, f"server {name}", LAST if "last server" in refusal else "Mend the other servers first. Nothing was changed.")
    done = ([f"etcd member {view.own}"] if view and view.own else []) + ["k3s.service is stopped and disabled"]
    if check_mode:
        return {"changed": True, "removed": done}
    if cluster.etcd and view and view.own:
        other = view.best_leader()
        if view.leader == view.own and other:
            with contextlib.suppress(EtcdFailure):  # then the others elect one, a few seconds later
                cluster.etcd.move_leader(other)
        cluster.etcd.remove(view.own)
    service = Service("server")
    service.stop()
    service.disable()
    return {"changed": True, "removed": done}


def objection(view: View) -> str:
    """Why etcd cannot do without this member, or nothing. Counted as etcd does, among the voters that are left."""
    if view.own is None:
        return ""
    left = [member for member in view.voters if member.id != view.own.id]
    if not left:
        return "it is the last server of the cluster"
    joining = [member for member in view.learners if member.id != view.own.id]
    if joining:
        return f"etcd admits {', '.join(map(str, joining))} now, which is a learner still"
    healthy = [member for member in left if member.id in view.healthy_ids]
    if len(healthy) >= len(left) // 2 + 1:
        return ""
    sick = ", ".join(str(member) for member in left if member.id not in view.healthy_ids)
    return f"etcd would have {len(healthy)} healthy voters of {len(left)} and no quorum: {sick} does not answer"


def without_etcd(nodes: List[Node], name: str) -> str:
    """With another datastore the Nodes tell which servers there are."""
    others = [node for node in nodes if node.name != name and {"control-plane", "master"} & set(node.roles)]
    if not others:
        return "it is the last server of the cluster"
    return "" if any(node.ready for node in others) else f"no other server is Ready ({', '.join(node.name for node in others)})"
