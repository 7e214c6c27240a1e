# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten objects damaged as a colleague would with kubectl: edited, scaled, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from lab import microservices

from .server import Server
from .workload import NAMESPACE

CORE = "/api/v1/namespaces/%s/" % NAMESPACE
APPS = "/apis/apps/v1/namespaces/%s/" % NAMESPACE
NETWORK = "/apis/networking.k8s.io/v1/namespaces/%s/" % NAMESPACE
SCALING = "/apis/autoscaling/v2/namespaces/%s/" % NAMESPACE
POLICY = "/apis/policy/v1/namespaces/%s/" % NAMESPACE


@dataclass(frozen=True)
class Damage:
    what: str
    collection: str
    service: int
    patch: Any = None  # a JSON patch; None deletes

    @property
    def path(self) -> str:
        return self.collection + microservices.names(self.service + 1)[self.service]


def _replace(path: str, value: Any) -> List[Dict[str, Any]]:
    return [{"op": "replace", "path": path, "value": value}]


# Two services suffice for ten objects, so that the smallest case has them too.
DAMAGES: Tuple[Damage, ...] = (
    Damage("another image", APPS + "deployments/", 0, _replace("/spec/template/spec/containers/0/image", "registry.example.com/mine:latest")),
    Damage("a value of a ConfigMap edited", CORE + "configmaps/", 0, _replace("/data/LOG_LEVEL", "trace")),
    Damage("a Service deleted", CORE + "services/", 0),
    Damage("an Ingress sent elsewhere", NETWORK + "ingresses/", 0, _replace("/spec/rules/0/host", "elsewhere.example.com")),
    Damage("an autoscaler's limit raised", SCALING + "horizontalpodautoscalers/", 0, _replace("/spec/maxReplicas", 60)),
    Damage("a memory limit raised", APPS + "deployments/", 1, _replace("/spec/template/spec/containers/0/resources/limits/memory", "8Gi")),
    Damage("a ConfigMap deleted", CORE + "configmaps/", 1),
    Damage("a Service's port changed", CORE + "services/", 1, _replace("/spec/ports/0/targetPort", 8081)),
    Damage("a NetworkPolicy opened", NETWORK + "networkpolicies/", 1, _replace("/spec/ingress/0/ports/0/port", 22)),
    Damage("a disruption budget switched off", POLICY + "poddisruptionbudgets/", 1, _replace("/spec/minAvailable", 0)),
)


def damage(server: Server) -> None:
    for each in DAMAGES:
        if each.patch is None:
            server.request("DELETE", each.path)
        else:
            server.request("PATCH", each.path + "?fieldManager=kubectl-edit", each.patch, content="application/json-patch+json")


def paths() -> List[str]:
    return [each.path for each in DAMAGES]
