# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as the stages see it: discover, list, get, apply, patch, delete, watch."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import quote, urlencode

from ansible_collections.nordic.gitops.plugins.module_utils._cache import cache_folder
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import answers, discovery, interface
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.discovery import Resource, Resources
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import ApiError, Expired, Malformed, TooMuch
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import CONNECTION_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.transport import Transport
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.watch import Watch
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url
from ansible_collections.nordic.gitops.plugins.module_utils._schema import Schemas, Type

__all__ = ["CONNECTION_SPEC", "FIELD_MANAGER", "ApiError", "Cluster", "Expired", "Resource", "Resources", "Type", "Watch"]

FIELD_MANAGER = "nordic-gitops"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

Body = Dict[str, Any]


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """An answer that is not what it says it is, told with its place."""
    try:
        yield
    except (Malformed, TooMuch) as error:
        error.where = error.where or where
        raise


class Cluster:
    """One API server. Threads may share it; as many requests are in flight as threads call it."""

    def __init__(self, transport: Transport, cache: str = "") -> None:
        self._transport = transport
        self._resources: Optional[Resources] = None
        self._discovering = threading.Lock()
        self._schemas = Schemas(self._document, os.path.join(cache or cache_folder(), "openapi"))

    @classmethod
    def of(cls, params: Mapping[str, Any], **tuning: Any) -> Cluster:
        """The cluster that the connection options name; tuning goes to Transport (patience, read_timeout, clock)."""
        return cls(Transport(params, **tuning), cache_folder(params.get("git_cache")))

    @property
    def url(self) -> str:
        return bare_url(self._transport.url)

    @property
    def requests(self) -> Counter[str]:
        """How many requests were sent, by verb, repeated ones included."""
        return self._transport.requests

    @property
    def retried(self) -> Counter[str]:
        """Why requests were repeated: {"apply: 503": 2}."""
        return self._transport.retried

    def discover(self, refresh: bool = False) -> Resources:
        """What the server serves; asked once, and again after CustomResourceDefinitions changed (refresh)."""
        known = self._resources
        if known is not None and not refresh:
            return known  # asked for with each object: no thread waits for another one here
        with self._discovering:
            if self._resources is None or refresh:
                with _told(self.url):
                    self._resources = self._discover()
                if refresh:
                    self._schemas.forget()
            return self._resources

    def schema(self, api_version: str, kind: str) -> Type:
        """How the server merges the fields of a kind; asked for where it is needed first, and kept on disk."""
        return self._schemas.kind(api_version, kind)

    def load_schemas(self, api_versions: Iterable[str] = ()) -> None:
        """Ask now for what schema() needs of these versions, beside something else that takes its time."""
        self._schemas.load(api_versions)

    def _document(self, path: str, query: Dict[str, str]) -> Any:
        return self._transport.send("discover", "GET", path, "", query).body

    def version(self) -> str:
        """The server's version, "v1.34.1+k3s1"."""
        with _told(self.url):
            return answers.text(self._transport.send("discover", "GET", "/version", "").body.get("gitVersion"), "gitVersion")

    def resource(self, api_version: str, kind: str, where: str = "") -> Resource:
        """The resource, or a Failure that says what may have been meant."""
        found = self.discover().find(api_version, kind)
        if found is None:
            raise Failure(
                f"the cluster serves no {kind} in {api_version}", where, self.discover().suggestion(api_version, kind)
            )
        return found

    def list(
        self, resource: interface.Resource, namespace: str = "", selector: str = "", metadata_only: bool = False, name: str = ""
    ) -> Tuple[List[Body], str]:
        """All objects, or the one of a name, and the resourceVersion to watch from. Items carry apiVersion and kind.

        The LIST is asked whole: with limit= a server may go to etcd instead of its cache (kubernetes#132088).
        """
        query = {"labelSelector": selector} if selector else {}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        for last_chance in (False, True):
            try:
                return self._pages(resource, namespace, dict(query), metadata_only)
            except ApiError as error:
                if error.status != 410 or last_chance:  # a server that paginates compacted what it was paging through
                    raise
        raise AssertionError("unreachable")

    def get(self, resource: interface.Resource, namespace: str, name: str) -> Optional[Body]:
        """The object, or None where there is none."""
        try:
            return self._object("get", "GET", resource, namespace, name)[1]
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, resource: interface.Resource, body: Body, dry_run: bool = False) -> Body:
        """The object as stored; ApiError 409 when there is one already, unlike apply, which would take it over.

        When the first answer was lost, that error may be about our own object: whoever asks must compare.
        """
        metadata = body["metadata"]
        namespace = metadata.get("namespace", "")
        where = resource.where(namespace, metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        stored = self._transport.send("create", "POST", resource.path(namespace), where, query, body).body
        with _told(where):
            return answers.check_metadata(stored)

    def apply(self, resource: interface.Resource, body: Body, force: bool = True, dry_run: bool = False) -> Tuple[Body, bool]:
        """Server-side apply: (the object as stored, whether it was created).

        Repeating it does no harm: the same fields by the same manager are the same object. When the first answer was
        lost, a created object is reported as not created. Unknown fields are refused (fieldValidation=Strict).
        """
        metadata = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        status, stored = self._object(
            "apply",
            "PATCH",
            resource,
            metadata.get("namespace", ""),
            metadata["name"],
            query,
            body,
            "application/apply-patch+yaml",  # JSON is YAML, and cheaper on both sides
        )
        return stored, status == 201

    def patch(
        self, resource: interface.Resource, namespace: str, name: str, ops: List[Dict[str, Any]], dry_run: bool = False
    ) -> Body:
        """JSON patch (RFC 6902). With a `test` first it is repeated when the answer is lost: a change that did happen
        makes the test fail then, so nothing can happen twice."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        repeatable = bool(ops) and ops[0].get("op") == "test"
        return self._object(
            "patch", "PATCH", resource, namespace, name, query, ops, "application/json-patch+json", repeatable
        )[1]

    def delete(
        self,
        resource: interface.Resource,
        namespace: str,
        name: str,
        uid: str,
        resource_version: str = "",
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> bool:
        """Delete the object that was seen with this uid (and resourceVersion). False: it was gone already.

        Another object of the same name is left alone: ApiError with .stale.
        """
        preconditions = {"uid": uid}
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        options: Body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": propagation,
        }
        if dry_run:
            options["dryRun"] = ["All"]
        path, where = resource.path(namespace, name), resource.where(namespace, name)
        try:
            self._transport.send("delete", "DELETE", path, where, body=options)
        except ApiError as error:
            if error.status == 404:
                return error.lost  # our own first attempt, whose answer was lost, is why it's gone
            raise
        return True

    def proxy(self, namespace: str, service: str, path: str, method: str = "GET", body: Any = None, repeatable: bool = True) -> bytes:
        """What a Service answers through the API server; service is scheme:name:port as the proxy has it."""
        where = f"Service {namespace}/{service.split(':')[1] if ':' in service else service}"
        return self._transport.raw("proxy", method, f"/api/v1/namespaces/{namespace}/services/{service}/proxy{path}", where, body, repeatable)

    def log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """The last lines that a container wrote."""
        query = urlencode({"container": container, "tailLines": lines, "limitBytes": 65536})
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/log?{query}"
        return self._transport.raw("log", "GET", path, f"log of Pod {namespace}/{pod}").decode("utf-8", "replace")

    def watch(
        self, resource: interface.Resource, namespace: str, selector: str, resource_version: str, timeout: float
    ) -> Watch:
        """Iterator of (type, object): every event after resource_version, BOOKMARKs included, for `timeout` seconds
        at most. It ends early when the connection breaks: watch again from the last object's resourceVersion.
        Raises Expired when the server no longer knows that version: list again. Any thread may close() it.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(timeout))),
        }
        if selector:
            query["labelSelector"] = selector
        path, where = resource.path(namespace), resource.where(namespace)
        return Watch(lambda: self._transport.stream("watch", path, where, query, timeout + 5), where, self._transport.bounds)

    def _object(
        self,
        verb: str,
        method: str,
        resource: interface.Resource,
        namespace: str,
        name: str,
        query: Optional[Dict[str, str]] = None,
        body: Any = None,
        content_type: str = "application/json",
        repeatable: bool = True,
    ) -> Tuple[int, Body]:
        answer = self._transport.send(
            verb,
            method,
            resource.path(namespace, name),
            resource.where(namespace, name),
            query,
            body,
            content_type,
            repeatable=repeatable,
        )
        with _told(resource.where(namespace, name)):
            return answer.status, answers.check_metadata(answer.body)

    def _pages(
        self, resource: interface.Resource, namespace: str, query: Dict[str, str], metadata_only: bool
    ) -> Tuple[List[Body], str]:
        items: List[Body] = []
        accept = METADATA_ONLY if metadata_only else "application/json"
        where, bounds = resource.where(namespace), self._transport.bounds
        budget, began = answers.Budget(bounds), time.monotonic()
        for _page in range(bounds.pages):
            body = self._transport.send("list", "GET", resource.path(namespace), where, query, accept=accept, budget=budget).body
            with _told(where):
                found, version, more = answers.items_of(body)
                for item in found:
                    item["apiVersion"], item["kind"] = resource.api_version, resource.kind
                items += found
                if not more:
                    return items, version
                if more == query.get("continue"):
                    raise Malformed("the pages of a LIST begin again")
            query["continue"] = more
            seconds, count = time.monotonic() - began, bounds.answer_bytes - budget.bytes
            if seconds > bounds.pause + count / bounds.pace:
                raise TooMuch(f"the pages of a LIST come too slowly: {count:,} bytes in {seconds:.0f} s", where,
                              "The server or the way to it is overloaded, or holds us up on purpose.")
        raise TooMuch(f"a LIST has more than {bounds.pages} pages", where, "Look at the API server or the aggregated API that sends them.")

    def _discover(self) -> Resources:
        def ask(path: str, accept: str = "application/json") -> Body:
            return self._transport.send("discover", "GET", path, "", accept=accept).body

        with ThreadPoolExecutor(8) as pool:
            core, groups = pool.map(lambda path: ask(path, discovery.AGGREGATED), ("/api", "/apis"))
            if core.get("kind") == groups.get("kind") == "APIGroupDiscoveryList":
                return discovery.from_aggregated(core, groups)
            stale: Dict[str, str] = {}

            def ask_group(version: str) -> Body:
                try:
                    return ask(f"/apis/{version}" if "/" in version else f"/api/{version}")
                except ApiError as error:
                    if "/" not in version:
                        raise
                    stale[version.rpartition("/")[0]] = error.what
                    return {"groupVersion": version}

            return discovery.from_plain(list(pool.map(ask_group, discovery.group_versions(core, groups))), stale)
