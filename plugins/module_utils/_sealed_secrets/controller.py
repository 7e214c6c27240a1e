# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller in a cluster: what it answers through the API server, and its Deployment."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import Body

OTHER_WAYS = "Give controller_name and controller_namespace, or the certificate itself as a file or URL (certificate)."
RESTARTED = "kubectl.kubernetes.io/restartedAt"
POLL = 0.5

CONTROLLER_SPEC: Dict[str, Dict[str, Any]] = {
    "controller_name": {"type": "str", "default": "sealed-secrets-controller"},
    "controller_namespace": {"type": "str", "default": "kube-system"},
    "timeout": {"type": "int", "default": 60},
}


class Controller:
    """timeout: seconds for one answer, and for a new certificate to be served."""

    def __init__(self, params: Mapping[str, Any], cluster: Optional[Cluster] = None) -> None:
        self.name, self.namespace, self.timeout = params["controller_name"], params["controller_namespace"], float(params["timeout"])
        self.cluster = cluster or Cluster.of(params, patience=min(10.0, self.timeout), read_timeout=self.timeout)
        self._port: Optional[str] = None

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.name}"

    def certificate(self) -> bytes:
        """The PEM that it serves. A failure lists the Services that may have been meant."""
        try:
            return self._ask("/v1/cert.pem")
        except ApiError as error:
            if not error.status:
                raise
            found = self._services()
            there = f"The cluster has {', '.join(found)}." if found else "The cluster has no Service of Sealed Secrets."
            raise ApiError(f"the controller does not answer: {error.what}", str(self), f"{there} {OTHER_WAYS}", status=error.status,
                           reason=error.reason) from None

    def opens(self, body: Body) -> bool:
        """Whether it can open a SealedSecret."""
        try:
            self._ask("/v1/verify", "POST", body)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True

    def _ask(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        return self.cluster.proxy(self.namespace, f"http:{self.name}:{self._port_name()}", path, method, body)

    def _port_name(self) -> str:
        """Of the Service's first port, as kubeseal takes it; a port without a name is asked for without one."""
        if self._port is None:
            try:
                service = self.cluster.get(self.cluster.resource("v1", "Service"), self.namespace, self.name)
            except ApiError as error:
                if error.status != 403:
                    raise
                return "http"  # who may use the proxy need not be allowed to read the Service
            if service is None:
                raise ApiError("there is no such Service", str(self), status=404)
            self._port = str((service["spec"].get("ports") or [{}])[0].get("name") or "")
        return self._port

    def _services(self) -> List[str]:
        try:
            items = self.cluster.list(self.cluster.resource("v1", "Service"))[0]
        except ApiError:
            return []
        found = [item["metadata"] for item in items]
        return sorted(f"{one['namespace']}/{one['name']}" for one in found
                      if "sealed-secrets" in one["name"] or (one.get("labels") or {}).get("app.kubernetes.io/name") == "sealed-secrets")

    def has_service(self) -> bool:
        return self.cluster.get(self.cluster.resource("v1", "Service"), self.namespace, self.name) is not None

    # Its Deployment

    def deployment(self) -> Optional[Body]:
        return self.cluster.get(self.cluster.resource("apps/v1", "Deployment"), self.namespace, self.name)

    def restart(self) -> bool:
        """As kubectl rollout restart does it; False where there is no Deployment that runs."""
        deployment = self.deployment()
        if deployment is None or not deployment["spec"].get("replicas", 1):
            return False
        annotations = deployment["spec"]["template"]["metadata"].get("annotations")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if annotations and annotations.get(RESTARTED) == stamp:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
        path = "/spec/template/metadata/annotations"
        change = [{"op": "add", "path": f"{path}/{RESTARTED.replace('/', '~1')}", "value": stamp}] if annotations is not None else \
            [{"op": "add", "path": path, "value": {RESTARTED: stamp}}]
        guard = {"op": "test", "path": "/metadata/uid", "value": deployment["metadata"]["uid"]}
        self.cluster.patch(self.cluster.resource("apps/v1", "Deployment"), self.namespace, self.name, [guard, *change])
        return True

    def wait_for(self, fingerprint: str, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        """Until the key of this fingerprint is the one that seals."""
        end = clock() + self.timeout
        seen = "nothing"
        while True:
            try:
                seen = Certificate.parse(self._ask("/v1/cert.pem"), str(self)).fingerprint
            except (ApiError, Failure) as failure:
                seen = str(failure)
            if seen == fingerprint:
                return
            if clock() > end:
                raise Failure(f"does not seal with the key {fingerprint} after {self.timeout:.0f} s, but answers: {seen}", str(self),
                              "The key is in the cluster. Look at the controller's log, and run it again.")
            sleep(POLL)


def arguments(deployment: Mapping[str, Any]) -> Dict[str, str]:
    """The controller's flags: {"key-renew-period": "720h"}."""
    given = [str(each) for container in deployment["spec"]["template"]["spec"]["containers"][:1] for each in container.get("args") or []]
    found: Dict[str, str] = {}
    for number, each in enumerate(given):
        if each.startswith("--"):
            name, equals, value = each[2:].partition("=")
            following = given[number + 1] if number + 1 < len(given) and not given[number + 1].startswith("--") else "true"
            found[name] = value if equals else following
    return found


def watched(deployment: Mapping[str, Any]) -> List[str]:
    """The namespaces whose SealedSecrets a controller opens; none stands for all."""
    flags = arguments(deployment)
    more = [name for name in flags.get("additional-namespaces", "").split(",") if name]
    own = str(deployment["metadata"]["namespace"])
    return sorted({own, *more}) if more or flags.get("all-namespaces") == "false" else []


def controllers(cluster: Cluster) -> List[Dict[str, Any]]:
    """Every Deployment of the cluster that runs a controller of Sealed Secrets, and what it watches."""
    try:
        items = cluster.list(cluster.resource("apps/v1", "Deployment"))[0]
    except ApiError as error:
        if error.status != 403:
            raise
        return []
    return [{"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"], "namespaces": watched(item)} for item in items
            if any("sealed-secrets-controller" in str(container.get("image")) for container in item["spec"]["template"]["spec"]["containers"])]
