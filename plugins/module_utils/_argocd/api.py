# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argo CD's own API with a token, in the place of the Kubernetes API: the same kinds, the same rules, another way in.

It has neither a dry run nor field ownership, and it gives back no secret. So an object's spec is compared as a whole, credentials are sent
whenever a task has some, as nobody can say whether they are another ones, and what Argo CD did not take of an object is seen in its answer.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit

from ansible.module_utils.urls import open_url

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import (
    APPLICATION, APPLICATIONSET, ARGOPROJ, CLUSTER, PROJECT, REPOSITORY, SECRET_TYPE, Body, decoded, encoded)
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import Item, Manager
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.discovery import Resource, Resources
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import ApiError
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url, full_url, one_line, register

TIMEOUT = 30.0
REFRESH_TIMEOUT = 10.0  # its answer comes when Argo CD has looked; whoever waits for that goes on waiting
LARGEST = 1 << 27
TRIES = 4
BUSY = (429, 502, 503, 504)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FAILED_PRECONDITION, ABORTED = 9, 10  # gRPC's codes of an operation that runs already, and of a write that came too late

SERVED = Resources([Resource("argoproj.io", "v1alpha1", "Application", "applications", True, ()),
                    Resource("argoproj.io", "v1alpha1", "ApplicationSet", "applicationsets", True, ()),
                    Resource("argoproj.io", "v1alpha1", "AppProject", "appprojects", True, ()),
                    Resource("", "v1", "Secret", "secrets", True, ())])
PATHS = {"Application": ("applications", "appNamespace"), "ApplicationSet": ("applicationsets", "appsetNamespace"), "AppProject": ("projects", "")}
SECRETS = {"repository": "repositories", "repo-creds": "repocreds", "cluster": "clusters"}
_RELATION = {"Application": "applications", "ApplicationSet": "applicationsets", "AppProject": "projects", "repository": "repositories",
             "repo-creds": "repositories", "cluster": "clusters"}


class Late(Failure):
    """No answer in time."""


class Server:
    """argocd-server, asked as a cluster is; it knows Argo CD's own kinds and nothing else."""

    sees_objects = False

    def __init__(self, address: str, token: str, validate_certs: bool = True, ca_cert: str = "") -> None:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise Failure(f"argocd_server is no address: {bare_url(address)}", "argocd_server", "Write https://argocd.example.no.")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise Failure("argocd_server is not https, and everybody on the way could read the token", "argocd_server", "Write https://….")
        register(token)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._token, self._validate, self._ca = token, validate_certs, ca_cert or None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Server":
        """The server that a task's options name."""
        if params.get("ca_cert") and not isinstance(params["ca_cert"], str):
            raise Failure("ca_cert has to be the path of a file", "ca_cert")
        return cls(params["argocd_server"], params["argocd_token"], params.get("validate_certs") is not False, params.get("ca_cert") or "")

    # ---- what a cluster is asked

    def discover(self, refresh: bool = False) -> Resources:
        return SERVED

    def resource(self, api_version: str, kind: str, where: str = "") -> Resource:
        found = SERVED.find(api_version, kind)
        if found is None:
            raise Failure(f"Argo CD's API does not show a {kind} in {api_version}", where or self.url)
        return found

    def list(self, resource: Any, namespace: str = "", selector: str = "", metadata_only: bool = False, name: str = "") -> Tuple[List[Body], str]:
        if resource.kind == "Secret":
            wanted = selector.partition("=")[2]
            found = [secret for kind in ([wanted] if wanted else SECRETS) for secret in self._secrets(kind, namespace)]
            return found, "0"
        path, scope = PATHS[resource.kind]
        query = {scope: namespace} if scope and namespace else {}
        if selector:
            query["selector"] = selector
        items = self.do("GET", path, query, right=f"{path}, get").get("items") or []
        found = [{**item, "apiVersion": ARGOPROJ, "kind": resource.kind} for item in items]
        return [item for item in found if not namespace or item["metadata"].get("namespace") == namespace], "0"

    def get(self, resource: Any, namespace: str, name: str) -> Optional[Body]:
        return next((each for each in self.list(resource, namespace)[0] if each["metadata"]["name"] == name), None)

    def patch(self, resource: Any, namespace: str, name: str, ops: List[Dict[str, Any]], dry_run: bool = False) -> Body:
        """What argocd_sync writes into an Application, each as the request that Argo CD has for it."""
        live = self.get(resource, namespace, name) or {}
        project = str((live.get("spec") or {}).get("project") or "default")
        query = {"appNamespace": namespace, "project": project}
        path, right = f"applications/{quote(name, safe='')}", f"{project}/{name}"
        for op in ops:
            if op["path"] == "/operation" and op["op"] == "add":
                request = {**_request_of(op["value"]), "name": name, **query}
                return self._typed(self.do("POST", f"{path}/sync", {}, request, right=f"applications, sync, {right}"))
            if op["path"] in ("/operation", "/status/operationState/phase"):
                self.do("DELETE", f"{path}/operation", query, right=f"applications, sync, {right}")
                return self.get(resource, namespace, name) or live
            if op["path"].endswith("/argocd.argoproj.io~1refresh"):
                try:
                    return self._typed(self.do("GET", path, {**query, "refresh": str(op.get("value") or "normal")},
                                               right=f"applications, get, {right}", timeout=REFRESH_TIMEOUT))
                except Late:
                    return self.get(resource, namespace, name) or live  # still with the annotation of the refresh
        raise Failure("Argo CD's API has no request for this", resource.where(namespace, name))

    def watch(self, resource: Any, namespace: str, selector: str, resource_version: str, timeout: float) -> "Stream":
        return Stream(self, f"{self.url}/api/v1/stream/applications?" + urlencode({"appNamespace": namespace} if namespace else {}), timeout)

    # ---- requests

    def do(self, method: str, path: str, query: Mapping[str, str], body: Any = None, right: str = "", timeout: float = TIMEOUT) -> Body:
        """The answer of a request that succeeded. right: what the token needs for it."""
        address = f"{self.url}/api/v1/{path}" + (f"?{urlencode(query)}" if query else "")
        for number in range(TRIES):
            try:
                with self.open(method, address, body, timeout) as answer:
                    text = answer.read(LARGEST + 1)
                if len(text) > LARGEST:
                    raise Failure("answers with more than 128 MiB", self.url)
                found = json.loads(text or b"{}")
                return found if isinstance(found, dict) else {}
            except HTTPError as error:
                if error.code in BUSY and number < TRIES - 1 and method == "GET":
                    time.sleep(2 ** number / 2)
                    continue
                raise self._refusal(error, right) from None
            except (URLError, OSError, ValueError) as error:
                if isinstance(getattr(error, "reason", error), (TimeoutError, socket.timeout)):
                    raise Late(f"Argo CD's API did not answer within {timeout:.0f} s", self.url) from None
                if method == "GET" and isinstance(getattr(error, "reason", error), ConnectionError) and number < TRIES - 1:
                    time.sleep(2 ** number / 2)
                    continue
                raise Failure(f"Argo CD's API cannot be reached: {one_line(str(getattr(error, 'reason', error)), 300)}", self.url) from None
        raise Failure("Argo CD's API does not answer", self.url)

    def open(self, method: str, address: str, body: Any, timeout: float) -> Any:
        return open_url(address, data=None if body is None else json.dumps(body), method=method, timeout=timeout, validate_certs=self._validate,
                        ca_path=self._ca, follow_redirects="none", use_netrc=False,
                        headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"})

    def _refusal(self, error: HTTPError, right: str) -> ApiError:
        try:
            said = json.loads(error.read(1 << 16) or b"{}")
            message, code = one_line(str(said.get("message") or said.get("error") or error.reason), 1000), said.get("code")
        except (ValueError, AttributeError):
            message, code = one_line(str(error.reason), 200), None
        if error.code == 401:
            return ApiError(f"Argo CD does not take the token: {message}", self.url, "Make a new one.", status=401)
        if error.code == 403:
            return ApiError(f"missing or not permitted: {message}", self.url, f"The token needs the right {right}." if right else "", status=403)
        stale = code == ABORTED or code == FAILED_PRECONDITION and "operation is already in progress" in message
        return ApiError(message, self.url, status=409 if stale else error.code, reason="Conflict" if stale else "")

    @staticmethod
    def _typed(body: Body) -> Body:
        return {**body, "apiVersion": ARGOPROJ, "kind": "Application"}

    # ---- repositories and clusters, as the Secrets that they are

    def _secrets(self, kind: str, namespace: str) -> Iterator[Body]:
        for item in self.do("GET", SECRETS[kind], {}, right=f"{_RELATION[kind]}, get").get("items") or ():
            values = {key: item[key] for key in (*options.ACCESS_TEXTS, *options.ACCESS_NUMBERS, *options.ACCESS_SWITCHES, "type", "name", "project", "shard",
                                                 "clusterResources", "server") if item.get(key) not in (None, "", False, 0)}
            if kind != "cluster":
                values["url"] = item.get("repo") or item.get("url") or ""
            elif item.get("namespaces"):
                values["namespaces"] = ",".join(item["namespaces"])
            texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
            yield {"apiVersion": "v1", "kind": "Secret", "data": encoded(texts), "metadata": {
                "name": texts.get("server") or texts.get("url") or "-", "namespace": namespace or options.NAMESPACE, "uid": "-", "resourceVersion": "0",
                "labels": {SECRET_TYPE: kind, **(item.get("labels") or {})}, "annotations": item.get("annotations") or {}}}


class Stream:
    """Events of Applications: each that is there first, then each that changes."""

    def __init__(self, server: Server, address: str, timeout: float) -> None:
        self._server, self._address, self._timeout = server, address, timeout
        self._answer: Any = None

    def __iter__(self) -> Iterator[Tuple[str, Body]]:
        end = time.monotonic() + self._timeout
        try:
            self._answer = self._server.open("GET", self._address, None, max(0.1, self._timeout))
            for line in self._answer:
                text = line.decode("utf-8", "replace").strip()
                event = (json.loads(text[text.index("{"):]).get("result") or {}) if "{" in text else {}
                app = event.get("application") or {}
                if app.get("metadata"):
                    yield str(event.get("type")), Server._typed(app)
                if time.monotonic() > end:
                    return
        except HTTPError as error:
            raise self._server._refusal(error, "applications, get") from None
        except (OSError, ValueError):
            return  # the time is up, or the connection broke: whoever follows asks again

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()


def _request_of(wanted: Mapping[str, Any]) -> Body:
    """Argo CD's request for an operation."""
    sync = wanted["sync"]
    found: Body = {"prune": sync["prune"], "dryRun": bool(sync.get("dryRun")), "syncOptions": {"items": sync["syncOptions"]}, "infos": wanted["info"],
                   "retryStrategy": wanted["retry"]}
    if sync.get("resources"):
        found["resources"] = sync["resources"]
    if "revisions" in sync:
        found.update(revisions=sync["revisions"], sourcePositions=list(range(1, len(sync["revisions"]) + 1)))
    else:
        found["revision"] = sync["revision"]
    return found


# ---- the five kinds


class ApiManager(Manager):
    """The objects of one task, through Argo CD's API."""

    def _resource(self) -> Any:
        return self.cluster.resource(self.kind.api_version, self.kind.kind)

    def look(self) -> None:
        super().look()
        for item in self.items:
            if item.live is None and self.absent:
                self._is_gone_for_certain(item)

    def _is_gone_for_certain(self, item: Item) -> None:
        """A list does not show what the token may not see, and that is no proof that nothing is there."""
        relation, action, target = self._right(item, "get").split(", ", 2)
        if self.kind.same is not None:
            target = f"{item.params['project']}/*" if item.params.get("project") else "*"  # a URL has no place in this path
        if self.cluster.do("GET", f"account/can-i/{relation}/{action}/{quote(target)}", {}).get("value") != "yes":
            raise ApiError("missing or not permitted", self._called(item), f"The token needs the right {relation}, {action}, {target}.", status=403)

    def _decide(self, item: Item) -> Any:
        body = self.kind.body(item.params, item.live)
        item.after, hidden = body, False
        if self.kind.same is not None:
            item.after, differs, hidden = self._of_a_secret(item, body)
        else:
            live = item.live or {}
            differs = [] if _plain(live.get("spec")) == _plain(body.get("spec")) else ["spec"]
            for part in ("labels", "annotations"):
                there = (live.get("metadata") or {}).get(part) or {}
                differs += [f"metadata.{part}.{key}" for key, value in (body["metadata"].get(part) or {}).items() if there.get(key) != value]
        if item.live is None:
            item.operation, item.reason = "created", "new"
        elif differs:
            item.operation, item.reason = "configured", f"{', '.join(differs)} differs"
        elif hidden:
            item.operation, item.reason = "configured", "its credentials cannot be compared, as Argo CD's API does not show them, and are sent again"
        else:
            item.operation, item.reason = "unchanged", "is there"
        return None

    def _of_a_secret(self, item: Item, body: Body) -> Tuple[Body, List[str], bool]:
        """(what is sent, the keys that differ, whether it has something that cannot be compared)"""
        data = dict(body["data"])
        if "config" not in item.params and item.live is not None:
            data.pop("config", None)  # how Argo CD logs in there stays
        wanted = {key: decoded({"data": data}, key) for key in data}
        secret = [key for key in wanted if key in options.ACCESS_SECRETS or key == "config"]
        there = {key: decoded(item.live or {}, key) for key in wanted}
        nothing = ("", "false", "0", "git")
        differs = [key for key in wanted if key not in secret and wanted[key] != there[key] and not (wanted[key] in nothing and there[key] in nothing)]
        return {**body, "data": data}, [] if item.live is None else differs, bool(secret)

    def ask(self) -> None:
        """There is no dry run: what Argo CD does not take is seen when it is sent."""

    def write(self) -> None:
        def one(item: Item) -> None:
            if item.operation != "unchanged":
                answer = self._put(item)
                lost = _lost(_plain((item.after or {}).get("spec")), _plain(answer.get("spec")), "spec") if self.kind.same is None else []
                if lost:
                    raise Failure(f"Argo CD does not know {', '.join(lost)}, and has left it out", self._called(item))
            item.done = True

        if not self.check_mode:
            self._each(one, self.items, "not everything could be written")
        super().write()

    def _put(self, item: Item) -> Body:
        body, live = item.after or {}, item.live
        path = self._place(item)[0]
        right = self._right(item, "create" if live is None else "update")
        collection = path.partition("/")[0]
        if self.kind is APPLICATION:
            where = collection if live is None else path
            return dict(self.cluster.do("POST" if live is None else "PUT", where, {"validate": "true"}, _over(live, body), right))
        if self.kind is APPLICATIONSET:
            whole = _over(live, body)
            whole["metadata"] = {key: value for key, value in whole["metadata"].items() if key != "resourceVersion"}
            return dict(self.cluster.do("POST", collection, {"upsert": "true"}, whole, right))
        if self.kind is PROJECT:
            return dict(self.cluster.do("POST" if live is None else "PUT", collection if live is None else path, {}, {"project": _over(live, body)}, right))
        values = {key: _typed(key, decoded(body, key)) for key in body["data"]}
        metadata = {part: body["metadata"].get(part) or {} for part in ("labels", "annotations")}
        metadata["labels"] = {key: value for key, value in metadata["labels"].items() if key != SECRET_TYPE}
        if self.kind is CLUSTER:
            if live is None:
                return dict(self.cluster.do("POST", collection, {}, {**values, **metadata}, right))
            fields = [key for key in values if key != "server"] + [part for part, there in metadata.items() if there]
            return dict(self.cluster.do("PUT", f"{path}?{urlencode([('updatedFields', field) for field in fields])}", {}, {**values, **metadata}, right))
        values[("url" if item.params.get("template") else "repo")] = values.pop("url")
        return dict(self.cluster.do("POST", collection, {"upsert": "true"}, values, right))

    def remove(self) -> None:
        how = str(self.params.get("deletion") or "refuse")
        for item in self.items:
            item.operation, item.reason = ("pruned", "state: absent") if item.live is not None else ("unchanged", "is not there")
        if self.kind is APPLICATIONSET and how == "orphan" and any(item.live for item in self.items):
            raise Failure("Argo CD's API cannot delete an ApplicationSet without its Applications", "", "Do that through the Kubernetes API.")

        def one(item: Item) -> None:
            if item.live is not None:
                path, query = self._place(item)
                cascade = {"cascade": "true" if how == "cascade" else "false"} if self.kind is APPLICATION else {}
                self.cluster.do("DELETE", path, {**query, **cascade}, right=self._right(item, "delete"))
                self._until_gone(item)
            item.done = True

        if not self.check_mode:
            self._each(one, self.items, "not everything could be deleted")

    def _until_gone(self, item: Item) -> None:
        end = time.monotonic() + self.params["wait_timeout"]
        while True:
            there = [live for live in self.cluster.list(self.resource, item.params["namespace"], f"{SECRET_TYPE}={self.kind.secret(item.params)}"
                                                        if self.kind.same else "")[0] if self._is(item, live)]
            if not there:
                return
            if time.monotonic() > end:
                left = ", ".join(there[0]["metadata"].get("finalizers") or ()) or "none"
                raise Failure(f"is still there {self.params['wait_timeout']} s after it was deleted; finalizers left: {left}", self._called(item))
            time.sleep(0.2)

    def _place(self, item: Item) -> Tuple[str, Dict[str, str]]:
        """The path of an object, and what else names it."""
        params = item.params
        if self.kind is REPOSITORY:
            kind = self.kind.secret(params)
            of_project = {"appProject": params["project"]} if params.get("project") and not params.get("template") else {}
            there = decoded(item.live or {}, "url") or self.kind.called(params)
            return f"{SECRETS[kind]}/{quote(full_url(there), safe='')}", of_project
        if self.kind is CLUSTER:
            return f"clusters/{quote(decoded(item.live or {}, 'server') or params['server'].rstrip('/'), safe='')}", {}
        path, scope = PATHS[self.kind.kind]
        project = str(((item.live or {}).get("spec") or {}).get("project") or params.get("project") or "default")
        more = {"project": project} if self.kind is APPLICATION else {}
        return f"{path}/{quote(params['name'], safe='')}", {**({scope: params["namespace"]} if scope else {}), **more}

    def _right(self, item: Item, action: str) -> str:
        kind = self.kind.secret(item.params) if self.kind.same else self.kind.kind
        name = self.kind.called(item.params)
        of_project = item.params.get("project") or ("default" if self.kind is APPLICATION else "")
        if self.kind is APPLICATIONSET:
            of_project = ((item.params.get("template") or {}).get("spec") or {}).get("project") or "*"
        return f"{_RELATION[kind]}, {action}, {of_project}/{name}" if of_project else f"{_RELATION[kind]}, {action}, {name}"

    def _diff(self, item: Item) -> Optional[Body]:
        import yaml  # only a task that shows a diff pays for it

        from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import mask

        def spoken(body: Optional[Body]) -> Body:
            if not body:
                return {}
            return {"data": body["data"]} if self.kind.same else {"spec": body.get("spec")}

        before, after = spoken(item.live), spoken(None if self.absent else item.after)
        if self.kind.same is not None:
            before, after = mask({"kind": "Secret", **before} if before else {}, {"kind": "Secret", **after} if after else {})
        if before == after:
            return None
        texts = [yaml.safe_dump(side, allow_unicode=True, width=4096) if side else "" for side in (before, after)]
        return {"before": texts[0], "after": texts[1], "before_header": f"{self._called(item)} (live)", "after_header": f"{self._called(item)} (task)"}


def _over(live: Optional[Body], body: Body) -> Body:
    """The object with what others keep in its metadata."""
    if live is None:
        return body
    metadata: Body = {key: live["metadata"][key] for key in ("finalizers", "resourceVersion") if live["metadata"].get(key)}
    for part in ("labels", "annotations"):
        metadata[part] = {**(live["metadata"].get(part) or {}), **(body["metadata"].get(part) or {})}
    return {**body, "metadata": {**body["metadata"], **metadata}}


def _typed(key: str, text: str) -> Any:
    """A Secret's text as the API has it."""
    if key in options.ACCESS_SWITCHES or key == "clusterResources":
        return text == "true"
    if key in options.ACCESS_NUMBERS or key == "shard":
        return int(text)
    if key == "namespaces":
        return text.split(",")
    return json.loads(text) if key == "config" else text


def _plain(value: Any) -> Any:
    """Without what Argo CD leaves out of its answers: nothing, "", 0, false. `automated: {}` means on, and stays."""
    if isinstance(value, dict):
        found = {key: _plain(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner not in (None, "", 0, False, [], {}) or key == "automated" and inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _lost(wanted: Any, there: Any, path: str) -> List[str]:
    """The places of what is not in the answer."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return [lost for key, value in wanted.items() for lost in (_lost(value, there[key], f"{path}.{key}") if key in there else [f"{path}.{key}"])]
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        return [lost for number, pair in enumerate(zip(wanted, there)) for lost in _lost(*pair, f"{path}[{number}]")]
    return []
