# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of kinds. A row says what a kind's object is made of and what is wrong with one; what is done with it is the same for all."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils import _masked_text
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options, policies
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.options import Spec, given
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import SHORTEST_VALUE, full_url, one_line

Body = Dict[str, Any]
Params = Mapping[str, Any]

ARGOPROJ = "argoproj.io/v1alpha1"
SECRET_TYPE = "argocd.argoproj.io/secret-type"
IN_CLUSTER = "https://kubernetes.default.svc"
# Seen on the released programs' source (v2.8 to v3.6): what a sync option of an Application may be.
SYNC_OPTIONS: Dict[str, Tuple[str, ...]] = {
    **{name: ("true", "false") for name in (
        "ApplyOutOfSyncOnly", "ClientSideApplyMigration", "CreateNamespace", "FailOnSharedResource", "Force", "PruneLast", "Replace",
        "RespectIgnoreDifferences", "ServerSideApply", "SkipDryRunOnMissingResource", "Validate")},
    "Delete": ("true", "false", "confirm"), "Prune": ("true", "false", "confirm"),
    "PrunePropagationPolicy": ("foreground", "background", "orphan"),
}
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


@dataclass(frozen=True, eq=False)
class Kind:
    """One row.

    option: the list in a task and in the result. title: how a person calls one. spec: the options of one beside the common ones.
    problems: what is wrong with what a task says, as far as that can be known without a cluster.
    body: the object, with what must be kept of the live one. secret: the value of the label by which Argo CD knows its Secrets.
    same: whether a live object is the one that a task means, where its name does not say so.
    """

    option: str
    title: str
    api_version: str
    kind: str
    spec: Spec
    problems: Callable[[Body], List[str]]
    body: Callable[[Body, Optional[Body]], Body]
    named: Callable[[Body], str] = lambda params: str(params.get("name") or "")
    called: Callable[[Body], str] = lambda params: str(params.get("name") or "")
    secret: Callable[[Body], str] = lambda params: ""
    same: Optional[Callable[[Body, Body], bool]] = None

    @property
    def whole(self) -> Spec:
        """All options of one object."""
        return {**options.COMMON, **self.spec}

    def asked(self, params: Params) -> Body:
        """What a task says of one object, and nothing else."""
        return given(self.whole, params)


def _metadata(kind: Kind, params: Body, **more: Any) -> Body:
    metadata = {"name": kind.named(params), "namespace": params["namespace"], **more}
    for part in ("labels", "annotations"):
        values = {**{str(key): str(value) for key, value in (params.get(part) or {}).items()}, **(more.get(part) or {})}
        if values:
            metadata[part] = values
    return metadata


# ---- Application


def _sync_policy(policy: Params, where: str = "syncPolicy") -> List[str]:
    found = []
    for option in policy.get("syncOptions") or ():
        name, equals, value = option.partition("=")
        if name not in SYNC_OPTIONS:
            found.append(f"{where}.syncOptions: {option} is no sync option of Argo CD; there are {', '.join(sorted(SYNC_OPTIONS))}")
        elif not equals or value not in SYNC_OPTIONS[name]:
            found.append(f"{where}.syncOptions: {option} has to be {' or '.join(f'{name}={each}' for each in SYNC_OPTIONS[name])}")
    backoff = (policy.get("retry") or {}).get("backoff") or {}
    for name in ("duration", "maxDuration"):
        if backoff.get(name) and not _DURATION.match(backoff[name]):
            found.append(f"{where}.retry.backoff.{name}: {backoff[name]} is no duration such as 5s or 3m")
    return found


def _source(source: Params, where: str) -> List[str]:
    found = []
    if not source.get("repoURL"):
        found.append(f"{where}.repoURL is missing")
    if source.get("chart") and not source.get("targetRevision"):
        found.append(f"{where}.targetRevision is missing, the chart's version")
    if source.get("chart") and source.get("path"):
        found.append(f"{where} has both chart and path")
    if not source.get("chart") and not source.get("path") and not source.get("ref"):
        found.append(f"{where} has neither path nor chart; the root of a repository is the path .")
    path = source.get("path") or ""
    if path.startswith("/") or ".." in path.split("/"):
        found.append(f"{where}.path: {path} leads out of the repository")
    kinds = [name for name in ("helm", "kustomize", "directory", "plugin") if source.get(name)]
    if len(kinds) > 1:
        found.append(f"{where} has {' and '.join(kinds)}; Argo CD takes one of them")
    return found


def _application_problems(params: Body) -> List[str]:
    found = []
    if "source" in params and "sources" in params:
        found.append("source and sources exclude each other")
    elif "source" not in params and not params.get("sources"):
        found.append("source is missing")
    for number, source in enumerate(params.get("sources") or ()):
        found += _source(source, f"sources[{number}]")
    if "source" in params:
        found += _source(params["source"], "source")
    destination = params.get("destination") or {}
    if destination.get("server") and destination.get("name"):
        found.append("destination has both server and name; Argo CD takes one of them")
    if not destination.get("server") and not destination.get("name"):
        found.append(f"destination has neither server nor name; the cluster that Argo CD runs in is the server {IN_CLUSTER}")
    found += _sync_policy(params.get("syncPolicy") or {})
    automated = (params.get("syncPolicy") or {}).get("automated")
    if automated and automated.get("allowEmpty") and not automated.get("prune"):
        found.append("syncPolicy.automated.allowEmpty means nothing without prune")
    return found


def _application(params: Body, _live: Optional[Body]) -> Body:
    spec = {key: params[key] for key in options.APPLICATION if key in params}
    spec.setdefault("project", "default")
    return {"apiVersion": ARGOPROJ, "kind": "Application", "metadata": _metadata(APPLICATION, params), "spec": spec}


# ---- ApplicationSet


def _applicationset_problems(params: Body) -> List[str]:
    found = []
    if not params.get("generators"):
        found.append("generators is missing")
    for number, generator in enumerate(params.get("generators") or ()):
        if len([key for key in generator if key != "selector"]) != 1:
            found.append(f"generators[{number}] has to name one generator, such as list, git or clusters")
    template = params.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("metadata"), dict) or not isinstance(template.get("spec"), dict):
        found.append("template has to have metadata and spec")
    elif not template["metadata"].get("name"):
        found.append("template.metadata.name is missing")
    elif isinstance(template["spec"].get("syncPolicy"), dict):
        found += _sync_policy(template["spec"]["syncPolicy"], "template.spec.syncPolicy")
    return found


def _applicationset(params: Body, _live: Optional[Body]) -> Body:
    spec = {key: params[key] for key in options.APPLICATIONSET if key in params}
    return {"apiVersion": ARGOPROJ, "kind": "ApplicationSet", "metadata": _metadata(APPLICATIONSET, params), "spec": spec}


# ---- AppProject


def _project_problems(params: Body) -> List[str]:
    found = []
    seen = set()
    for number, role in enumerate(params.get("roles") or ()):
        where = f"roles[{number}]"
        if role["name"] in seen:
            found.append(f"{where}: the role {role['name']} is there twice")
        seen.add(role["name"])
        for line, policy in enumerate(role.get("policies") or ()):
            found += [f"{where}.policies[{line}]: {problem}" for problem in policies.problems_of_role(policy, params["name"], role["name"])]
    for number, destination in enumerate(params.get("destinations") or ()):
        if not destination.get("server") and not destination.get("name"):
            found.append(f"destinations[{number}] has neither server nor name")
    for number, window in enumerate(params.get("syncWindows") or ()):
        where = f"syncWindows[{number}]"
        if not any(window.get(part) for part in ("applications", "namespaces", "clusters")):
            found.append(f"{where} applies to nothing: it has neither applications nor namespaces nor clusters")
        if len(window["schedule"].split()) != 5:
            found.append(f"{where}.schedule: {window['schedule']} is no cron schedule of five fields")
        if not _DURATION.match(window["duration"]):
            found.append(f"{where}.duration: {window['duration']} is no duration such as 90m or 8h")
    return found


def _project(params: Body, live: Optional[Body]) -> Body:
    spec = {key: params[key] for key in options.PROJECT if key in params}
    if not any(spec.values()):
        spec.setdefault("description", "")  # a project without any spec is none that the API server takes
    there = {role["name"]: role for role in ((live or {}).get("spec") or {}).get("roles") or ()}
    if spec.get("roles"):
        # The list has one owner, and Argo CD keeps in it which tokens are valid: left out, they would be revoked.
        spec["roles"] = [{**role, "jwtTokens": there[role["name"]]["jwtTokens"]} if there.get(role["name"], {}).get("jwtTokens") else role
                         for role in spec["roles"]]
    return {"apiVersion": ARGOPROJ, "kind": "AppProject", "metadata": _metadata(PROJECT, params), "spec": spec}


# ---- Secrets of repositories and clusters


def encoded(values: Mapping[str, str]) -> Body:
    """Texts as a Secret holds them."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def decoded(secret: Mapping[str, Any], key: str) -> str:
    """One text of a Secret, "" where there is none."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key) or "").decode()
    except (TypeError, ValueError):
        return ""


def hidden(secret: Mapping[str, Any]) -> List[str]:
    """The values of a repository's or cluster's Secret that nobody may see. Its URL and its name are none, the credentials in a URL are; of a
    key that we do not know a value is one unless it is short."""
    config = decoded(secret, "config")
    found: List[Any] = [config, *(decoded(secret, key) for key in options.ACCESS_SECRETS)]
    for key in secret.get("data") or ():
        if key in ("url", "proxy", "server"):
            _masked_text.url(decoded(secret, key))  # registers what is secret in it
        elif key not in (*options.ACCESS_PUBLIC, "config") and len(decoded(secret, key)) >= SHORTEST_VALUE:
            found.append(decoded(secret, key))
    try:
        login = json.loads(config or "{}")
        found += [login.get("password"), login.get("bearerToken"), (login.get("tlsClientConfig") or {}).get("keyData")]
        found += [value for value in ((login.get("execProviderConfig") or {}).get("env") or {}).values()
                  if isinstance(value, str) and len(value) >= SHORTEST_VALUE]
    except (ValueError, AttributeError, RecursionError):
        pass  # it is no configuration that Argo CD could read
    return [value for value in found if value and isinstance(value, str)]


def _fnv(text: str) -> int:
    """FNV-1a, 32 bits, as Argo CD names its own Secrets: one that its command line made is found by whoever looks for ours."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def same_url(one: str, other: str) -> bool:
    """Whether Argo CD takes two URLs for the same repository: without regard to case, .git at the end, or how ssh is written."""
    return _plain(one) == _plain(other)


def _plain(url: str) -> str:
    text = url.strip().lower()
    if re.match(r"[^/:@]+@[^/:]+:", text):
        text = text.replace(":", "/", 1)
    text = text[len("ssh://"):] if text.startswith("ssh://") else text
    return text[:-len(".git")] if text.endswith(".git") else text


def _repository_type(params: Body) -> str:
    return "repo-creds" if params.get("template") else "repository"


def _repository_problems(params: Body) -> List[str]:
    found = []
    url = full_url(params.get("url") or "")
    if not url:
        return ["url is missing"]
    authority = url.partition("://")[2].partition("/")[0]
    if "@" in authority and not url.startswith("ssh://"):
        found.append("url holds credentials, which Argo CD shows to whoever may see the repository; use access.username and access.password")
    access = params.get("access") or {}
    if access.get("sshPrivateKey") and "PRIVATE KEY" not in access["sshPrivateKey"]:
        found.append("access.sshPrivateKey is no private key in PEM format")
    if access.get("sshPrivateKey") and re.match(r"https?://", url):
        found.append("access.sshPrivateKey is of no use for an http URL")
    ways = [name for name in ("password", "bearerToken", "sshPrivateKey", "githubAppPrivateKey", "gcpServiceAccountKey") if access.get(name)]
    if len(ways) > 1:
        found.append(f"access: {' and '.join(ways)} exclude each other")
    if access.get("githubAppPrivateKey") and not (access.get("githubAppID") and access.get("githubAppInstallationID")):
        found.append("access.githubAppPrivateKey needs githubAppID and githubAppInstallationID")
    if params.get("template") and params.get("name"):
        found.append("a credential template has no name")
    return found


def _repository_name(params: Body) -> str:
    prefix = "creds" if params.get("template") else "repo"
    return f"{prefix}-{_fnv(full_url(params['url']) + (params.get('project') or ''))}"


def _repository(params: Body, live: Optional[Body]) -> Body:
    values = {"url": full_url(params["url"]), "type": params.get("type") or "git"}
    values.update({key: params[key] for key in ("name", "project") if params.get(key)})
    for key, value in (params.get("access") or {}).items():
        values[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return _secret(REPOSITORY, params, live, values)


def _is_repository(params: Body, live: Body) -> bool:
    return same_url(decoded(live, "url"), full_url(params["url"])) and decoded(live, "project") == (params.get("project") or "")


def _cluster_problems(params: Body) -> List[str]:
    found = []
    server = params.get("server") or ""
    if not re.match(r"https?://[^/]+", server):
        found.append(f"server: {server or 'it is missing'}; the URL of an API server is needed")
    config = params.get("config") or {}
    tls = config.get("tlsClientConfig") or {}
    if tls.get("insecure") and tls.get("caData"):
        found.append("config.tlsClientConfig has both insecure and caData")
    for name in ("caData", "certData", "keyData"):
        if tls.get(name) and not _is_base64(tls[name]):
            found.append(f"config.tlsClientConfig.{name} is no base64")
    if bool(tls.get("certData")) != bool(tls.get("keyData")):
        found.append("config.tlsClientConfig: certData and keyData belong together")
    ways = [name for name in ("bearerToken", "awsAuthConfig", "execProviderConfig") if config.get(name)]
    if len(ways) > 1:
        found.append(f"config: {' and '.join(ways)} exclude each other")
    if params.get("clusterResources") is not None and not params.get("namespaces"):
        found.append("clusterResources means nothing without namespaces")
    return found


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _cluster_name(params: Body) -> str:
    server = params["server"].rstrip("/")
    host = (urlsplit(server).hostname or "").replace(":", "-")
    return f"cluster-{host}-{_fnv(server)}"


def _cluster(params: Body, live: Optional[Body]) -> Body:
    server = params["server"].rstrip("/")
    values = {"server": server, "name": params.get("name") or (decoded(live, "name") if live else "") or server}
    kept = decoded(live, "config") if live else ""
    if "config" in params:
        config = {"tlsClientConfig": {"insecure": False}, **params["config"]}
        config["tlsClientConfig"].setdefault("insecure", False)
        values["config"] = kept if _equal(kept, config) else json.dumps(config, sort_keys=True)
    elif kept:
        values["config"] = kept  # how Argo CD logs in there: a cluster that gets another name keeps its token
    else:
        values["config"] = json.dumps({"tlsClientConfig": {"insecure": False}})
    if params.get("namespaces"):
        values["namespaces"] = ",".join(params["namespaces"])
    if params.get("clusterResources") is not None:
        values["clusterResources"] = "true" if params["clusterResources"] else "false"
    for key in ("project", "shard"):
        if params.get(key) is not None:
            values[key] = str(params[key])
    return _secret(CLUSTER, params, live, values)


def _equal(text: str, config: Body) -> bool:
    try:
        return bool(json.loads(text) == config)
    except (ValueError, RecursionError):
        return False


def _is_cluster(params: Body, live: Body) -> bool:
    return decoded(live, "server").rstrip("/") == params["server"].rstrip("/")


def _secret(kind: Kind, params: Body, live: Optional[Body], values: Mapping[str, str]) -> Body:
    metadata = _metadata(kind, params, labels={SECRET_TYPE: kind.secret(params)})
    if live is not None:
        metadata["name"] = live["metadata"]["name"]  # whoever made it
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded(values)}


# ---- the table

APPLICATION = Kind("applications", "Application", ARGOPROJ, "Application", options.APPLICATION, _application_problems, _application)
APPLICATIONSET = Kind("applicationsets", "ApplicationSet", ARGOPROJ, "ApplicationSet", options.APPLICATIONSET, _applicationset_problems, _applicationset)
PROJECT = Kind("projects", "AppProject", ARGOPROJ, "AppProject", options.PROJECT, _project_problems, _project)
REPOSITORY = Kind("repositories", "repository", "v1", "Secret", options.REPOSITORY, _repository_problems, _repository, _repository_name,
                  lambda params: str(params.get("url") or ""), _repository_type, _is_repository)
CLUSTER = Kind("clusters", "cluster", "v1", "Secret", options.CLUSTER, _cluster_problems, _cluster, _cluster_name,
               lambda params: str(params.get("server") or ""), lambda params: "cluster", _is_cluster)

KINDS: Sequence[Kind] = (APPLICATION, APPLICATIONSET, PROJECT, REPOSITORY, CLUSTER)


def wrong_namespace(namespace: str) -> List[str]:
    """A name that is none would be another path of the API, and no name at all every namespace."""
    return [] if _NAMESPACE.match(namespace) else [f"namespace: {one_line(repr(namespace), 80)} is no valid name of a namespace"]


def wrong(kind: Kind, params: Body) -> List[str]:
    """Everything that is wrong with one object of a task."""
    named = kind.same is None
    if named and not params.get("name"):
        return ["name is missing"]
    if named and not _NAME.match(params["name"]):
        return [f"{params['name']} is no valid name: lower-case letters, digits, - and . are allowed"]
    return [*kind.problems(params), *_not_text(params)]


def _not_text(params: Body) -> List[str]:
    found = []
    for part in ("labels", "annotations"):
        for key, value in (params.get(part) or {}).items():
            if not isinstance(value, (str, int, float, bool)):
                found.append(f"{part}.{key} is no text")
    wave = (params.get("annotations") or {}).get("argocd.argoproj.io/sync-wave")
    if wave is not None and not re.match(r"-?[0-9]+\Z", str(wave)):
        found.append(f"annotations: the sync wave {wave} is no whole number")
    return found
