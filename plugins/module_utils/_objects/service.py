# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Service has for itself in the whole cluster: node ports and addresses, which no other one can have until it gives them up."""

from __future__ import annotations

import copy
from typing import Any, List, Optional, Set

from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Ref


def allocated(ref: Ref, body: Optional[Body]) -> Set[Any]:
    """The node ports, as (protocol, port), and the addresses that a Service has for itself."""
    spec = (body or {}).get("spec")
    if (ref.group, ref.kind) != ("", "Service") or not isinstance(spec, dict):
        return set()
    ports = {(str(port.get("protocol") or "TCP"), str(port["nodePort"])) for port in _ports(spec) if port.get("nodePort")}
    return ports | {spec[field] for field in ("clusterIP", "healthCheckNodePort") if isinstance(spec.get(field), (str, int))
                    and spec[field] not in ("", "None")}


def without_what_the_old_one_holds(body: Body, live: Body) -> Body:
    """A Service less the node ports and addresses that its predecessor frees: until then the server finds them allocated."""
    spec = body.get("spec")
    if (body.get("apiVersion"), body.get("kind")) != ("v1", "Service") or not isinstance(spec, dict):
        return body
    held, spec = live.get("spec") or {}, copy.deepcopy(spec)
    taken = {port.get("nodePort") for port in _ports(held)}
    for port in _ports(spec):
        if isinstance(port.get("nodePort"), int) and port["nodePort"] in taken:
            del port["nodePort"]
    for name in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
        if name in spec and spec[name] == held.get(name) and spec[name] != "None":
            del spec[name]
    return {**body, "spec": spec}


def without_node_ports(body: Body) -> Body:
    """A Service that gives up its node ports for others that the server chooses. Its ports get other names for that moment: the server
    would give a port of the same name the same node port again (patchAllocatedValues in pkg/registry/core/service/storage)."""
    spec = copy.deepcopy(body["spec"])
    for number, port in enumerate(_ports(spec)):
        port.pop("nodePort", None)
        port["name"] = f"moving-{number}"
    return {**body, "spec": spec}


def bound_to(body: Body, live: Body) -> Body:
    """A Service as an apply sends it for just this version of it, any other object as it is.

    After a write the server may try the next one on the version before, from its cache, and then again. A node port that the first try took
    is not given back then (registry.Store.Update), and the second one finds it allocated. Bound to a version, the first try takes nothing.
    """
    if (body.get("apiVersion"), body.get("kind")) != ("v1", "Service"):
        return body
    return {**body, "metadata": {**body["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}}


def _ports(spec: Body) -> List[Body]:
    ports = spec.get("ports")
    return [port for port in ports if isinstance(port, dict)] if isinstance(ports, list) else []
