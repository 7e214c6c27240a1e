# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other clients do to an object, and what people do to Git: a Step says what is changed, how it is sent, and as whom."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple
from urllib.parse import urlencode

import urllib3
from hypothesis import strategies as some

Body = Dict[str, Any]
Path = Tuple[Any, ...]

PEOPLE = ("kubectl-edit", "kubectl-patch", "kubectl-client-side-apply", "kubectl", "Lens")
CONTROLLERS = ("before-first-apply", "kube-controller-manager", "argocd-controller", "helm", "some-operator")
OURS = "nordic-gitops"
RESTARTED = "kubectl.kubernetes.io/restartedAt"

KEPT_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


class Step(NamedTuple):
    """One change. at and to choose among whatever the object has by then, so that steps need not know the object."""

    what: str
    how: str
    manager: str
    at: int
    to: int


class Someone:
    """Another client of the API server; its requests may fail (an invalid change): then nothing happened."""

    def __init__(self, cluster: Any) -> None:
        self.url = cluster.url
        self.pool = urllib3.PoolManager(maxsize=8, ca_certs=cluster.ca_file,
                                        headers={"Authorization": f"Bearer {cluster.admin_token}", "Accept": "application/json"})

    def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str) -> Tuple[int, Any]:
        answer = self.pool.request(method, f"{self.url}{path}?{urlencode(query)}", body=None if body is None else json.dumps(body),
                                   headers={**self.pool.headers, "Content-Type": content_type})
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(answer.data) if is_json else {"message": answer.data.decode()}


# ---- what is changed


def nodes(value: Any, path: Path = ()) -> Iterator[Tuple[Path, Any]]:
    """Every place of an object that a client may change, outermost first."""
    if path:
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        if not path and key in ("apiVersion", "kind", "status") or path == ("metadata",) and key in KEPT_METADATA:
            continue
        yield from nodes(child, path + (key,))


def at(body: Any, path: Path) -> Any:
    for key in path:
        body = body[key]
    return body


def _choose(body: Body, number: int, fits: Callable[[Path, Any], bool] = lambda path, value: True) -> Any:
    found = [path for path, value in nodes(body) if path != ("metadata",) and path != ("spec",) and fits(path, value)]
    return found[number % len(found)] if found else None


def _changed(body: Body, path: Any, value: Any) -> Body:
    result = copy.deepcopy(body)
    if path is not None:
        at(result, path[:-1])[path[-1]] = value
    return result


TEXTS = ("web2", "1", "1000m", "1k", "true", "", "Recreate", "RollingUpdate", "Always", "v1", "UDP", "TCP", "*", "HTTPS")
NOTATIONS = {"1": ("1000m", 1, "1e0"), "1000m": ("1", 1), "500m": ("0.5", 0.5), "0.5": ("500m",), "1k": ("1000", "1e3", 1000), "1e3": ("1000", "1k"),
             "1E3": ("1k",), "1000": ("1k", "1e3"), "1Gi": ("1024Mi", "1073741824"), "1024Mi": ("1Gi", "1073741824"), "1Ki": ("1024", "1024000m"),
             "1024": ("1Ki",), "1073741824": ("1Gi", "1048576Ki"), "2": ("2000m",), "2000m": ("2",), "1.5": ("1500m",), "1500m": ("1.5",),
             "1536Mi": ("1.5Gi", "1610612736"), "1.5Gi": ("1536Mi",), "100m": ("0.1",), "0": ("0m", 0), "2M": ("2000k", "2000000", "2e6"), "5": ("5000m",),
             "1200": ("12e2",), "1T": ("1000G",)}


def _other(value: Any, number: int) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 + number % 3
    if isinstance(value, float):
        return value * 2
    if isinstance(value, str):
        return TEXTS[number % len(TEXTS)]
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    if isinstance(value, dict):
        return {} if value else {"x": "y"}
    return "was null"


def _set(body: Body, _intent: Body, step: Step) -> Body:
    path = _choose(body, step.at, lambda _path, value: not isinstance(value, dict))
    return body if path is None else _changed(body, path, _other(at(body, path), step.to))


def _notation(body: Body, _intent: Body, step: Step) -> Body:
    path = _choose(body, step.at, lambda _path, value: isinstance(value, (str, int)) and str(value) in NOTATIONS)
    if path is None:
        return body
    others = NOTATIONS[str(at(body, path))]
    return _changed(body, path, others[step.to % len(others)])


def _remove(body: Body, _intent: Body, step: Step) -> Body:
    path = _choose(body, step.at)
    result = copy.deepcopy(body)
    if path is not None:
        del at(result, path[:-1])[path[-1]]
    return result


def _empty(body: Body, _intent: Body, step: Step) -> Body:
    path = _choose(body, step.at)
    if path is None:
        return body
    value = at(body, path)
    return _changed(body, path, {} if isinstance(value, dict) else [] if isinstance(value, list) else ("", 0, None)[step.to % 3])


def _null(body: Body, _intent: Body, step: Step) -> Body:
    return _changed(body, _choose(body, step.at, lambda path, _value: isinstance(path[-1], str)), None)


def _reorder(body: Body, _intent: Body, step: Step) -> Body:
    path = _choose(body, step.at, lambda _path, value: isinstance(value, list) and len(value) > 1)
    if path is None:
        return body
    items = at(body, path)
    return _changed(body, path, items[::-1] if step.to % 2 else items[1:] + items[:1])


def _repeat(body: Body, _intent: Body, step: Step) -> Body:
    """One more item of a list, like one that is there."""
    path = _choose(body, step.at, lambda _path, value: isinstance(value, list) and bool(value))
    if path is None:
        return body
    items = at(body, path)
    item = copy.deepcopy(items[step.to % len(items)])
    if isinstance(item, dict) and "name" in item:
        item["name"] = f"{item['name']}-more"
    for key, value in ({"port": 99, "containerPort": 99, "ip": "10.9.9.9", "mountPath": "/more", "topologyKey": "rack"}.items()
                       if isinstance(item, dict) else ()):
        if key in item:
            item[key] = value
    place = step.to % (len(items) + 1)
    return _changed(body, path, items[:place] + [item] + items[place:])


def _add(body: Body, _intent: Body, step: Step) -> Body:
    """A field that nobody set."""
    result = copy.deepcopy(body)
    containers = [path for path, _value in nodes(body) if path and path[-1] == "containers"]
    additions: List[Tuple[Path, str, Any]] = [
        (("metadata", "labels"), "added", "yes"), (("metadata", "annotations"), "added", "yes"),
        (("metadata", "annotations"), "empty", ""), (("metadata",), "finalizers", ["example.com/z", "example.com/a"])]
    if "spec" in body:
        additions += [(("spec",), key, value) for key, value in (
            ("minReadySeconds", 3), ("revisionHistoryLimit", 10), ("type", "NodePort"), ("sessionAffinity", "ClientIP"), ("minReplicas", 1),
            ("replicas", 1), ("ingressClassName", "traefik"), ("free", {"x": [1, {"y": None}]}), ("maybe", None), ("whole", {"a": "1"}),
            ("egress", [{}]), ("externalIPs", []), ("externalIPs", ["192.0.2.9"]))]
    if "data" in body:
        additions.append((("data",), "added", "eWVz"))
    for path in containers:
        additions += [(path[:-1], "securityContext", {"runAsUser": 5}), (path[:-1], "schedulerName", "default-scheduler"),
                      (path[:-1], "hostNetwork", False), (path + (0,), "env", [{"name": "ADDED", "value": "1"}]),
                      (path + (0,), "imagePullPolicy", "Always"), (path + (0,), "resources", {"requests": {"cpu": "1000m"}})]
        if path[:-2]:
            additions += [(path[:-2] + ("metadata", "annotations"), RESTARTED, "2026-01-01T00:00:00Z")]
    where, key, value = additions[step.to % len(additions)]
    parent: Any = result
    for part in where:
        if isinstance(parent, dict) and parent.get(part) is None:
            parent[part] = {}
        parent = parent[part]
    parent[key] = value
    return result


def _as_in_git(body: Body, intent: Body, step: Step) -> Body:
    """Somebody puts back by hand what Git says: the same values, but no longer our fields."""
    result = copy.deepcopy(body)
    paths = [path for path, value in nodes(intent) if not isinstance(value, (dict, list))]
    for path in [paths[step.at % len(paths)]] if step.to % 2 and paths else paths:
        node: Any = result
        try:
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = at(intent, path)
        except (KeyError, IndexError, TypeError):
            continue
    return result


KEYS: Dict[str, Any] = {"port": 99, "containerPort": 98, "mountPath": "/moved", "topologyKey": "rack", "ip": "10.9.9.8", "protocol": "UDP",
                        "name": "renamed"}


def _key(body: Body, _intent: Body, step: Step) -> Body:
    """What an item of a list is told by."""
    path = _choose(body, step.at, lambda path, value: isinstance(path[-1], int) and isinstance(value, dict) and any(key in value for key in KEYS))
    if path is None:
        return body
    keys = [key for key in KEYS if key in at(body, path)]
    key = keys[step.to % len(keys)]
    return _changed(body, path + (key,), KEYS[key])


# One member of a union in the place of another: (what is there, what comes, its value).
MEMBERS: Tuple[Tuple[str, str, Any], ...] = (
    ("httpGet", "exec", {"command": ["true"]}), ("exec", "tcpSocket", {"port": 81}), ("tcpSocket", "httpGet", {"path": "/x", "port": 81}),
    ("emptyDir", "configMap", {"name": "cfg"}), ("configMap", "secret", {"secretName": "s"}), ("secret", "emptyDir", {}), ("projected", "emptyDir", {}),
    ("value", "valueFrom", {"fieldRef": {"fieldPath": "metadata.namespace"}}), ("valueFrom", "value", "other"),
    ("minAvailable", "maxUnavailable", 1), ("maxUnavailable", "minAvailable", 1),
    ("rollingUpdate", "type", "Recreate"), ("rollingUpdate", "type", "OnDelete"))
STRATEGIES = ({"type": "Recreate"}, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}, {"type": "OnDelete"},
              {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})


def _member(body: Body, _intent: Body, step: Step) -> Body:
    """Another member of a union."""
    path = _choose(body, step.at, lambda path, value: path[-1] in ("strategy", "updateStrategy") or isinstance(value, dict)
                   and any(old in value for old, _new, _value in MEMBERS))
    if path is None:
        return body
    if path[-1] in ("strategy", "updateStrategy"):
        return _changed(body, path, STRATEGIES[step.to % len(STRATEGIES)])
    result = copy.deepcopy(body)
    node = at(result, path)
    fitting = [member for member in MEMBERS if member[0] in node]
    old, new, value = fitting[step.to % len(fitting)]
    del node[old]
    node[new] = copy.deepcopy(value)
    return result


WHATS: Dict[str, Callable[[Body, Body, Step], Body]] = {
    "set": _set, "notation": _notation, "remove": _remove, "empty": _empty, "null": _null, "reorder": _reorder, "repeat": _repeat,
    "add": _add, "as in Git": _as_in_git, "key": _key, "member": _member,
}


# ---- how it is sent


def merge_patch(before: Any, after: Any) -> Any:
    """RFC 7386."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch = {key: None for key in before if key not in after}
    patch.update({key: merge_patch(before.get(key), value) for key, value in after.items()
                  if key not in before or json.dumps(before[key], sort_keys=True) != json.dumps(value, sort_keys=True)})
    return patch


def _bare(body: Body) -> Body:
    metadata = {key: value for key, value in body["metadata"].items() if key not in KEPT_METADATA or key in ("name", "namespace")}
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}


def _prune(body: Body, keep: Any) -> Body:
    """Only the part of a body that has the top fields of another: what a client would apply that sets just these."""
    return {**{key: value for key, value in body.items() if key in keep}, "apiVersion": body["apiVersion"], "kind": body["kind"]}


def act(someone: Someone, path: str, live: Body, intent: Body, earlier: List[Body], step: Step) -> int:
    """Carry a step out; the status of the answer."""
    query = {"fieldManager": step.manager}
    if step.how == "scale":
        return someone.send("PATCH", f"{path}/scale", {"spec": {"replicas": step.to % 4}}, "application/merge-patch+json", **query)[0]
    if step.how == "status":
        status = {"status": {"observedGeneration": step.to, "replicas": step.to % 2, "conditions": [
            {"type": "Seen", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}
        return someone.send("PATCH", f"{path}/status", status, "application/merge-patch+json", **query)[0]
    if step.how == "cleared":
        body = {**live, "metadata": {**live["metadata"], "managedFields": [{}]}}
        return someone.send("PUT", path, body, **query)[0]
    if step.how == "books":
        return someone.send("PUT", path, _forge(live, earlier, step), **query)[0]
    if step.how.startswith("apply"):
        # From the intent, so that our own name is used as another copy of this tool with another commit would.
        body = WHATS[step.what](_bare(intent), intent, step)
        if step.how == "apply part":
            body = _prune(body, ("metadata", list(body)[-1]))
        manager = OURS if step.how == "apply as us" else step.manager
        return someone.send("PATCH", path, body, "application/apply-patch+yaml", fieldManager=manager, force="true")[0]
    after = WHATS[step.what](live, intent, step)
    if step.how == "put with old books":  # the change goes unnoticed: the client sends the books of before
        someone.send("PUT", path, after, **query)
        now = someone.send("GET", path)[1]
        if "metadata" not in now:
            return 500
        body = {**now, "metadata": {**now["metadata"], "managedFields": live["metadata"].get("managedFields")}}
        return someone.send("PUT", path, body, **query)[0]
    if step.how == "put":
        return someone.send("PUT", path, after, **query)[0]
    if step.how == "json patch":
        ops = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in after.items() if value is not live.get(key) and key in live]
        return someone.send("PATCH", path, ops, "application/json-patch+json", **query)[0]
    kind = "application/strategic-merge-patch+json" if step.how == "strategic" else "application/merge-patch+json"
    return someone.send("PATCH", path, merge_patch(live, after), kind, **query)[0]


def _forge(live: Body, earlier: List[Body], step: Step) -> Body:
    """managedFields as a client may rewrite them: the oldest, one entry less, another name, one path more or less in ours."""
    entries = copy.deepcopy(live["metadata"].get("managedFields") or [])
    ours = [entry for entry in entries if entry.get("manager") == OURS and entry.get("operation") == "Apply"]
    way = step.to % 8
    if way == 0 and earlier:
        entries = copy.deepcopy(earlier[0]["metadata"].get("managedFields") or [])
    elif way == 1 and entries:
        del entries[step.at % len(entries)]
    elif way == 2 and entries:
        entries[step.at % len(entries)]["manager"] = step.manager
    elif way == 3:
        for entry in ours:
            entry["operation"] = "Update"
    elif way == 4 and ours:
        entries.append({**ours[0], "apiVersion": "apps/v1beta1"})
    elif way == 5:
        entries = [entry for entry in entries if entry in ours]
    elif ours:
        trees = list(_trees(ours[0].get("fieldsV1") or {}))
        node, key = trees[step.at % len(trees)] if trees else ({}, "")
        if way == 6:
            node.pop(key, None)
        else:
            node["f:more"] = {}
    return {**live, "metadata": {**live["metadata"], "managedFields": entries}}


def _trees(node: Dict[str, Any]) -> Iterator[Tuple[Dict[str, Any], str]]:
    for key, child in node.items():
        yield node, key
        yield from _trees(child)


HOWS = ("put", "merge patch", "merge patch", "strategic", "json patch", "apply", "apply part", "apply as us", "apply as us", "scale", "status",
        "cleared", "books", "books", "put with old books", "put with old books")
STEPS = some.builds(Step, some.sampled_from(sorted(WHATS)), some.sampled_from(HOWS), some.sampled_from(PEOPLE + CONTROLLERS + (OURS,)),
                    some.integers(0, 60), some.integers(0, 23))


# ---- what happens to Git meanwhile


def _follow(intent: Body, live: Body, step: Step) -> Body:
    """Git takes over a part of what is live (somebody exported it), defaults and all."""
    path = _choose(live, step.at)
    if path is None:
        return intent
    result = copy.deepcopy(intent)
    node: Any = result
    for part in path[:-1]:
        if isinstance(node, dict):
            if not isinstance(node.get(part), (dict, list)):
                node[part] = {}
            node = node[part]
        elif isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            return intent
    if isinstance(node, dict) and isinstance(path[-1], str):
        node[path[-1]] = copy.deepcopy(at(live, path))
    elif isinstance(node, list) and isinstance(path[-1], int):
        node[path[-1]:path[-1] + 1] = [copy.deepcopy(at(live, path))]
    return result


def commit(intent: Body, live: Body, step: Step) -> Body:
    """The intent of the next commit."""
    if step.how in ("put", "apply", "apply part", "merge patch"):
        return _follow(intent, live, step)
    if step.what in ("as in Git",):
        return intent
    return WHATS[step.what](intent, intent, step)


COMMITS = some.one_of(some.none(), some.none(), STEPS)
