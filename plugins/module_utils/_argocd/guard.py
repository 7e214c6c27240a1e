# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything is written. Each rule is a function that says why, in its own sentence, or nothing."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._argocd.follow import made_by, troubles
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import (
    APPLICATION,
    APPLICATIONSET,
    ARGOPROJ,
    CLUSTER,
    IN_CLUSTER,
    PROJECT,
    REPOSITORY,
    SECRET_TYPE,
    Body,
    Kind,
    decoded,
    same_url,
)
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.operation import few, status_of
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import full_url, one_line


class World:
    """What is there beside the objects of a task; each LIST is asked for once, and only by a rule that needs it."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self._known: Dict[Any, List[Body]] = {}

    def objects(self, kind: str, namespace: str = "") -> List[Body]:
        """The objects of one of Argo CD's own kinds, in all namespaces where none is named."""
        return self._list(ARGOPROJ, kind, namespace, "")

    def secrets(self, namespace: str, kind: str) -> List[Body]:
        """The Secrets that are repositories, credential templates or clusters."""
        return self._list("v1", "Secret", namespace, f"{SECRET_TYPE}={kind}")

    def _list(self, api_version: str, kind: str, namespace: str, selector: str) -> List[Body]:
        key = api_version, kind, namespace, selector
        if key not in self._known:
            resource = self.cluster.resource(api_version, kind)
            self._known[key] = self.cluster.list(resource, namespace, selector)[0]
        return self._known[key]


Rule = Callable[[Body, Optional[Body], World], str]


# ---- present


def is_not_generated(_params: Body, live: Optional[Body], _world: World) -> str:
    """What an ApplicationSet makes it would make again at once."""
    owner = made_by(live) if live else ""
    return f"is made by the ApplicationSet {owner}, which would undo this in seconds; change that one" if owner else ""


def is_not_owned(_params: Body, live: Optional[Body], _world: World) -> str:
    """What another controller keeps, such as the Secret of a SealedSecret, it would write or make again."""
    for owner in (live or {}).get("metadata", {}).get("ownerReferences") or ():
        if owner.get("controller") is True and not made_by(live or {}):
            return f"belongs to the {one_line(str(owner.get('kind')), 60)} {one_line(str(owner.get('name')), 260)}, which would undo this; change that one"
    return ""


def is_not_being_deleted(_params: Body, live: Optional[Body], _world: World) -> str:
    """An object on its way out takes its workloads with it, whatever is written into it."""
    metadata = (live or {}).get("metadata") or {}
    if not metadata.get("deletionTimestamp"):
        return ""
    left = ", ".join(metadata.get("finalizers") or ()) or "none"
    return f"is being deleted since {metadata['deletionTimestamp']} (finalizers left: {left}); wait until it is gone"


def stays_where_it_is(params: Body, live: Optional[Body], _world: World) -> str:
    """With another destination Argo CD forgets what it made at the old one."""
    there = resources_of(live)
    if not there:
        return ""
    old, new = ((live or {}).get("spec") or {}).get("destination") or {}, params.get("destination") or {}
    if (old.get("server"), old.get("name"), old.get("namespace")) == (new.get("server"), new.get("name"), new.get("namespace")):
        return ""
    return (f"has {len(there)} objects at {_place(old)}, which would run on there with nobody in charge when it moves to {_place(new)}: {few(there)}. "
            "Delete it first, with deletion: cascade, or with deletion: orphan if they are to stay")


def has_a_project(params: Body, _live: Optional[Body], world: World) -> str:
    """Argo CD stores an Application of an unknown project, and never does anything with it."""
    if _projects_of(params, world):
        return ""
    return f"its project {params.get('project', 'default')} does not exist; there are {_names(world.objects('AppProject'))}"


def is_permitted(params: Body, _live: Optional[Body], world: World) -> str:
    """The project permits the repositories and the destination."""
    projects = _projects_of(params, world)
    if len(projects) != 1:  # of several Argo CDs; which of them is in charge only that one knows
        return ""
    project = projects[0]
    name, spec = project["metadata"]["name"], project.get("spec") or {}
    sources = params.get("sources") or [params.get("source") or {}]
    for source in sources:
        if not _permits_repository(spec.get("sourceRepos") or (), source.get("repoURL", "")):
            return f"the project {name} does not permit the repository {source.get('repoURL')}; it permits {', '.join(spec.get('sourceRepos') or ()) or 'none'}"
    destination = params.get("destination") or {}
    if not any(_permits_destination(one, destination) for one in spec.get("destinations") or ()):
        permitted = ", ".join(_place(one) for one in spec.get("destinations") or ()) or "none"
        return f"the project {name} does not permit the destination {_place(destination)}; it permits {permitted}"
    return ""


def has_a_destination(params: Body, _live: Optional[Body], world: World) -> str:
    """The destination is a cluster that Argo CD knows."""
    destination = params.get("destination") or {}
    if destination.get("server") in (IN_CLUSTER, None) and destination.get("name") in ("in-cluster", None):
        return ""
    known = world.secrets(params["namespace"], "cluster")
    for secret in known:
        if destination.get("server") and decoded(secret, "server").rstrip("/") == destination["server"].rstrip("/"):
            return ""
        if destination.get("name") and decoded(secret, "name") == destination["name"]:
            return ""
    names = ", ".join(["in-cluster", *sorted(decoded(secret, "name") for secret in known)])
    return f"its destination {_place(destination)} is no cluster that Argo CD knows; there are {names}"


def keeps_tokens(params: Body, live: Optional[Body], _world: World) -> str:
    """A role that goes takes with it the tokens by which somebody's CI logs in."""
    kept = {role["name"] for role in params.get("roles") or ()}
    lost = [f"{role['name']} ({len(role['jwtTokens'])})" for role in ((live or {}).get("spec") or {}).get("roles") or ()
            if role.get("jwtTokens") and role["name"] not in kept]
    if not lost or params.get("revoke_tokens"):
        return ""
    return f"would lose roles whose tokens are in use: {', '.join(lost)}. revoke_tokens: true takes them away"


# ---- absent


def nothing_lives_of_it(params: Body, live: Optional[Body], world: World) -> str:
    """Deleting an Application deletes what it made, or leaves it behind with nobody in charge: which of them has to be said."""
    if params["deletion"] != "refuse" or live is None:
        return ""
    if live["kind"] == "ApplicationSet":
        made = [key["metadata"]["name"] for key in _generated(live, world)]
        what = f"has made {len(made)} Applications: {few(made)}" if made else ""
    else:
        there = resources_of(live)
        what = f"has {len(there)} objects: {few(there)}" if there else ""
    return f"{what}. Say deletion: cascade to delete them too, or deletion: orphan to leave them in place" if what else ""


def can_cascade(params: Body, live: Optional[Body], _world: World) -> str:
    """Argo CD deletes nothing for an Application whose destination or project it does not find, and keeps it for ever."""
    if params["deletion"] != "cascade" or live is None:
        return ""
    found = [trouble for trouble in troubles(live) if trouble.startswith(("InvalidSpecError", "UnknownError"))]
    return f"cannot be deleted with its objects: {'; '.join(found)}. Correct that, or say deletion: orphan" if found else ""


def is_not_used(kind: Kind) -> Rule:
    """What Applications need is not taken from them."""

    def rule(params: Body, live: Optional[Body], world: World) -> str:
        if live is None:
            return ""
        users = [f"{app['metadata']['namespace']}/{app['metadata']['name']}" for app in world.objects("Application")
                 if _is_of(app, live["metadata"]["namespace"], world) and _uses(kind, params, live, app, world)]
        return f"is used by {len(users)} Applications: {few(users)}" if users else ""

    return rule


def _uses(kind: Kind, params: Body, live: Body, app: Body, world: World) -> bool:
    spec = app.get("spec") or {}
    if kind is PROJECT:
        return bool(spec.get("project", "default") == live["metadata"]["name"])
    if kind is CLUSTER:
        destination = spec.get("destination") or {}
        return bool(destination.get("name") and destination["name"] == decoded(live, "name")
                    or destination.get("server") and destination["server"].rstrip("/") == decoded(live, "server").rstrip("/"))
    urls = [source.get("repoURL", "") for source in spec.get("sources") or [spec.get("source") or {}]]
    url = full_url(params["url"])
    if params.get("template"):
        return False  # which of several templates an Application's repository takes is Argo CD's choice
    others = [decoded(secret, "url") for secret in world.secrets(params["namespace"], "repo-creds")]
    return any(same_url(each, url) for each in urls) and not any(url.startswith(other) for other in others)


PRESENT: Mapping[str, Tuple[Rule, ...]] = {
    APPLICATION.option: (is_not_generated, is_not_owned, is_not_being_deleted, has_a_project, has_a_destination, is_permitted, stays_where_it_is),
    APPLICATIONSET.option: (is_not_owned, is_not_being_deleted),
    PROJECT.option: (is_not_owned, is_not_being_deleted, keeps_tokens),
    REPOSITORY.option: (is_not_owned, is_not_being_deleted),
    CLUSTER.option: (is_not_owned, is_not_being_deleted),
}
ABSENT: Mapping[str, Tuple[Rule, ...]] = {
    APPLICATION.option: (is_not_generated, is_not_owned, nothing_lives_of_it, can_cascade),
    APPLICATIONSET.option: (is_not_owned, nothing_lives_of_it),
    PROJECT.option: (is_not_owned, is_not_used(PROJECT)),
    REPOSITORY.option: (is_not_owned, is_not_used(REPOSITORY)),
    CLUSTER.option: (is_not_owned, is_not_used(CLUSTER)),
}
# Rules about what an earlier task of the same play may make: in check mode that task has made nothing.
NEEDS_OTHERS: Tuple[Rule, ...] = (has_a_project, has_a_destination)


# ---- what they know


def resources_of(live: Optional[Body]) -> List[str]:
    """The objects that an Application has in its destination, as Argo CD last saw them."""
    found = []
    for each in status_of(live or {}).get("resources") or ():
        if each.get("health", {}).get("status") == "Missing" or each.get("hook"):
            continue
        kind = f"{each['kind']}.{each['group']}" if each.get("group") else each["kind"]
        found.append(f"{kind} {each['namespace']}/{each['name']}" if each.get("namespace") else f"{kind} {each['name']}")
    return found


def _generated(live: Body, world: World) -> List[Body]:
    return [app for app in world.objects("Application", live["metadata"]["namespace"]) if made_by(app) == live["metadata"]["name"]]


def _projects_of(params: Body, world: World) -> List[Body]:
    """The Application's project: beside it, or where Argo CD is when Applications may be elsewhere."""
    named = [one for one in world.objects("AppProject") if one["metadata"]["name"] == params.get("project", "default")]
    return [one for one in named if one["metadata"].get("namespace") == params.get("namespace")] or named


def _is_of(app: Body, namespace: str, world: World) -> bool:
    """Whether an Application belongs to the Argo CD of a namespace: a namespace with projects has an Argo CD of its own."""
    there = app["metadata"]["namespace"]
    return bool(there == namespace or there not in {one["metadata"]["namespace"] for one in world.objects("AppProject")})


def _place(destination: Mapping[str, Any]) -> str:
    return f"{destination.get('name') or destination.get('server') or '-'}/{destination.get('namespace') or '-'}"


def _names(objects: List[Body]) -> str:
    return ", ".join(sorted({one["metadata"]["name"] for one in objects})) or "none"


def _permits_repository(patterns: Any, url: str) -> bool:
    denied = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    if any(_matches(pattern, url, "/") for pattern in denied):
        return False
    return any(pattern == "*" or _matches(pattern, url, "/") or same_url(pattern, url) for pattern in patterns if not pattern.startswith("!"))


def _permits_destination(permitted: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    namespace = wanted.get("namespace") or ""
    if not _matches(permitted.get("namespace") or "", namespace) and namespace:
        return False
    if wanted.get("name"):
        # By which of both a project names the cluster is its own choice, and only Argo CD can look one up by the other.
        return _matches(permitted.get("name") or "", wanted["name"]) or bool(permitted.get("server"))
    return _matches(permitted.get("server") or "", wanted.get("server") or "") or not permitted.get("server")


def _matches(pattern: str, text: str, separator: str = "") -> bool:
    """A glob as Argo CD reads it: * stops at a separator where there is one, ** does not."""
    places = {0}  # where in the text the pattern may have come to; never more than the text is long, however many stars there are
    for part in re.split(r"(\*\*|\*|\?)", pattern):
        if part == "?":
            places = {place + 1 for place in places if place < len(text)}
        elif part in ("*", "**"):
            reached = set()
            for place in places:
                while place not in reached and place <= len(text):
                    reached.add(place)
                    if part == "*" and separator and text.startswith(separator, place):
                        break
                    place += 1
            places = reached
        else:
            places = {place + len(part) for place in places if text.startswith(part, place)}
    return len(text) in places
