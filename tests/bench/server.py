# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's own hands on the API server: bring it to the same state for everyone, damage objects, look at them."""

from __future__ import annotations

import base64
import json
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

import urllib3
import yaml

from .measure import Broken
from .workload import NAMESPACE

PATIENCE = 300.0
APPS_PATH = "/apis/apps/v1/namespaces/%s/deployments" % NAMESPACE


@dataclass(frozen=True)
class Access:
    """How to reach a server, as its kubeconfig says."""

    url: str
    token: str = ""
    ca_data: str = ""
    client_cert_data: bytes = b""
    client_key_data: bytes = b""

    @classmethod
    def of(cls, kubeconfig: Path) -> "Access":
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        context = next(item["context"] for item in config["contexts"] if item["name"] == config["current-context"])
        cluster = next(item["cluster"] for item in config["clusters"] if item["name"] == context["cluster"])
        user = next(item["user"] for item in config["users"] if item["name"] == context["user"])
        return cls(
            cluster["server"],
            user.get("token", ""),
            _data(cluster, "certificate-authority").decode(),
            _data(user, "client-certificate"),
            _data(user, "client-key"),
        )

    def pool(self, connections: int, folder: Path) -> urllib3.connectionpool.HTTPConnectionPool:
        """The connection pool that every client of this kind uses. `folder` takes a client certificate, which ssl reads from files only."""
        parts = urlsplit(self.url)
        if parts.scheme == "http":
            return urllib3.HTTPConnectionPool(parts.hostname or "", parts.port, maxsize=connections, block=True, retries=False)
        context = ssl.create_default_context(cadata=self.ca_data or None)
        if self.client_cert_data:
            pair = []
            for name, data in (("client.crt", self.client_cert_data), ("client.key", self.client_key_data)):
                pair.append(folder / name)
                (folder / name).touch(mode=0o600)
                (folder / name).write_bytes(data)
            context.load_cert_chain(str(pair[0]), str(pair[1]))
        return urllib3.HTTPSConnectionPool(
            parts.hostname or "", parts.port, maxsize=connections, block=True, retries=False, ssl_context=context
        )

    @property
    def headers(self) -> Dict[str, str]:
        return {"Authorization": "Bearer " + self.token} if self.token else {}


def _data(part: Dict[str, Any], name: str) -> bytes:
    if part.get(name + "-data"):
        return base64.b64decode(part[name + "-data"])
    return Path(part[name]).read_bytes() if part.get(name) else b""


class Server:
    def __init__(self, kubeconfig: Path, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.access = Access.of(kubeconfig)
        self._pool = self.access.pool(8, folder)

    def request(self, method: str, path: str, body: Any = None, accept: Any = (200, 201, 202), content: str = "application/json") -> Any:
        headers = dict(self.access.headers, **{"Content-Type": content, "User-Agent": "nordic.gitops-bench"})
        response = self._pool.urlopen(method, path, body=None if body is None else json.dumps(body), headers=headers, timeout=120)
        if response.status not in accept:
            raise Broken("%s %s: the API server answered %d: %s" % (method, path, response.status, response.data.decode(errors="replace")[:500]))
        return json.loads(response.data)

    def version(self) -> str:
        return str(self.request("GET", "/version")["gitVersion"])

    def wipe(self) -> None:
        """Back to before the first sync: no Namespace, nothing in it, no record of an earlier run."""
        self._forget_inventories()
        if self.request("GET", "/api/v1/namespaces/" + NAMESPACE, accept=(200, 404)).get("kind") == "Namespace":
            self._empty_namespace()
            self._drop_namespace()

    def _forget_inventories(self) -> None:
        selector = "labelSelector=applyset.kubernetes.io/id"
        for kind in ("configmaps", "secrets"):
            self.request("DELETE", "/api/v1/namespaces/default/%s?%s" % (kind, selector))

    def _empty_namespace(self) -> None:
        # Owners before what they own, or a controller makes the owned anew in between.
        paths = self._collections()
        owners = [path for path in paths if path.rsplit("/", 1)[1] in ("deployments", "horizontalpodautoscalers", "services")]
        with ThreadPoolExecutor(8) as threads:
            for group in (owners, [path for path in paths if path not in owners]):
                list(threads.map(lambda path: self.request("DELETE", path + "?gracePeriodSeconds=0", accept=(200, 404, 405)), group))

    def _collections(self) -> List[str]:
        """The path of every kind of object that can be in the Namespace."""
        paths = []
        for root in ("/api", "/apis"):
            accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
            answer = self._pool.urlopen("GET", root, headers=dict(self.access.headers, **accept))
            for group in json.loads(answer.data)["items"]:
                version = group["versions"][0]
                prefix = root if root == "/api" else "%s/%s" % (root, group["metadata"]["name"])
                for resource in version["resources"]:
                    if resource["scope"] == "Namespaced" and "deletecollection" in resource["verbs"]:
                        paths.append("%s/%s/namespaces/%s/%s" % (prefix, version["version"], NAMESPACE, resource["resource"]))
        return paths

    def _drop_namespace(self) -> None:
        path = "/api/v1/namespaces/" + NAMESPACE
        deadline = time.monotonic() + PATIENCE
        body = self.request("DELETE", path, accept=(200, 202, 404, 409))
        while time.monotonic() < deadline:
            body = self.request("GET", path, accept=(200, 404))
            if body.get("kind") != "Namespace":
                return
            # The namespace controller does this where it runs; here nobody else might. The Namespace is empty by now.
            body["spec"] = {"finalizers": []}
            self.request("PUT", path + "/finalize", body, accept=(200, 404, 409))
            time.sleep(0.05)
        raise Broken("the Namespace %s did not go within %d s" % (NAMESPACE, PATIENCE))

    def objects(self, paths: List[str]) -> Dict[str, Optional[Dict[str, Any]]]:
        """What is there now, without what the server itself writes; None for what is not there."""
        found: Dict[str, Optional[Dict[str, Any]]] = {}
        for path in paths:
            body = self.request("GET", path, accept=(200, 404))
            found[path] = None if body.get("kind") == "Status" else {key: body[key] for key in ("spec", "data") if key in body}
        return found

    def rolled_out(self) -> bool:
        """Every Deployment has its Pods."""
        items = self.request("GET", APPS_PATH)["items"]
        return all(item["status"].get("observedGeneration") and item["status"].get("availableReplicas", 0) >= 1
                   and not item["status"].get("unavailableReplicas") for item in items)

    def count(self) -> int:
        """How many objects of the work are in the Namespace, itself included."""
        total = 1
        for path in (
            "/api/v1/namespaces/%s/serviceaccounts", "/api/v1/namespaces/%s/configmaps", "/api/v1/namespaces/%s/services",
            "/apis/apps/v1/namespaces/%s/deployments", "/apis/autoscaling/v2/namespaces/%s/horizontalpodautoscalers",
            "/apis/policy/v1/namespaces/%s/poddisruptionbudgets", "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
            "/apis/networking.k8s.io/v1/namespaces/%s/ingresses",
        ):
            answer = self.request("GET", path % NAMESPACE + "?labelSelector=app.kubernetes.io/part-of%3D" + NAMESPACE)
            total += len(answer["items"])
        return total
