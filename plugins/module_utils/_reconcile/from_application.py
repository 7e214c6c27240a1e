# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Application of Argo CD as the reconcile's own options: the cluster becomes what a sync of the Application would make it.

What these options cannot say is refused by the field's name. Only a run that names an Application imports this file.
"""

from __future__ import annotations

import os
import re
from copy import deepcopy
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import checked_repository
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import full_value, one_line, url
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import NAMESPACE, Body, Document
from ansible_collections.nordic.gitops.plugins.module_utils._shape import MAPPING, SWITCH, TEXT, WORD, Shape, check

API_VERSION = "argoproj.io/v1alpha1"
ARGOCD = "argocd"  # the namespace of an Application whose name stands alone
IN_CLUSTER = "https://kubernetes.default.svc"
FILES = (".yaml", ".yml", ".json")
LARGEST = 1 << 20
DEEPEST = 30  # keys of a parameter's name; helm takes no more
CREDENTIALS = ("git_username", "git_password", "git_ssh_key")
# What an Application says, with the values that say nothing.
TAKEN: Mapping[str, Any] = {
    "revision": "HEAD", "path": ".", "renderer": "auto", "recurse": True, "include": [], "exclude": [], "values_files": [],
    "values": {}, "release_name": None, "namespace": None,
}
SHAPE: Shape = {
    "metadata!": {"name!": WORD, "namespace": WORD},
    "spec!": {
        "source": {
            "repoURL": WORD, "targetRevision": WORD, "path": WORD, "chart": WORD,
            "directory": {"recurse": SWITCH, "include": WORD, "exclude": WORD},
            "helm": {"valueFiles": [WORD], "values": TEXT, "valuesObject": MAPPING, "releaseName": WORD, "namespace": WORD,
                     "parameters": [{"name!": WORD, "value": TEXT, "forceString": SWITCH}], "ignoreMissingValueFiles": SWITCH},
            "kustomize": {"namePrefix": WORD, "nameSuffix": WORD, "namespace": WORD, "images": [WORD], "replicas": [{"name!": WORD}],
                          "commonLabels": {"*": TEXT}, "commonAnnotations": {"*": TEXT}, "labelWithoutSelector": SWITCH,
                          "labelIncludeTemplates": SWITCH, "commonAnnotationsEnvsubst": SWITCH},
        },
        "sources": [MAPPING],
        "destination": {"server": WORD, "name": WORD, "namespace": WORD},
        "syncPolicy": {"automated": {"enabled": SWITCH, "prune": SWITCH, "allowEmpty": SWITCH}, "syncOptions": [WORD],
                       "managedNamespaceMetadata": {"labels": {"*": TEXT}, "annotations": {"*": TEXT}}},
    },
}
SPEC = ("project", "source", "sources", "destination", "syncPolicy", "ignoreDifferences", "info", "revisionHistoryLimit")
SOURCE = ("repoURL", "targetRevision", "path", "chart", "name", "ref", "directory", "helm", "kustomize", "plugin")
DIRECTORY = ("recurse", "include", "exclude")
# passCredentials is about repositories that are never asked; without skipSchemaValidation no more is accepted than with it.
HELM = ("valueFiles", "values", "valuesObject", "parameters", "releaseName", "namespace", "version", "passCredentials", "ignoreMissingValueFiles",
        "skipTests", "skipSchemaValidation")
KUSTOMIZE = ("namePrefix", "nameSuffix", "namespace", "images", "replicas", "commonLabels", "commonAnnotations", "labelWithoutSelector",
             "labelIncludeTemplates", "forceCommonLabels", "forceCommonAnnotations", "commonAnnotationsEnvsubst", "version")
# What the reconcile does anyhow, or what makes no difference to what is there in the end.
NO_DIFFERENCE = ("ApplyOutOfSyncOnly", "ClientSideApplyMigration", "Delete", "FailOnSharedResource", "PruneLast", "PrunePropagationPolicy", "Replace",
                 "RespectIgnoreDifferences", "ServerSideApply", "SkipDryRunOnMissingResource", "Validate")
_NAME = re.compile(r"(?:(?P<namespace>[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)/)?(?P<name>[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)\Z")
_IMAGE = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<new>[^@=]+?)(?::(?P<tag>[A-Za-z0-9._-]+))?(?:@(?P<digest>[A-Za-z0-9:]+))?\Z")
_PARAMETER = re.compile(r"(?:[^\\.\[\]=,{}]|\\\.)+(?:\.(?:[^\\.\[\]=,{}]|\\\.)+)*\Z")
_RANGE = re.compile(r"[*^~<>=|, ]|v?[0-9]+(\.[0-9]+)*\.[xX]\b")  # of versions, of which Argo CD takes the newest tag
_VARIABLE = re.compile(r"\$\{?(ARGOCD_[A-Z_]+)")


def as_options(params: Mapping[str, Any], cluster: Any) -> Tuple[Dict[str, Any], List[str]]:
    """The options of a run that names an Application, and what a person should know of them."""
    given = [name for name, nothing in TAKEN.items() if full_value(params.get(name)) not in (None, nothing)]
    if given:
        raise Failure(f"from_application and {', '.join(given)} exclude each other", "from_application")
    text = params["from_application"]
    is_file = text.endswith(FILES)
    app = _of_file(text) if is_file else _of_cluster(text, cluster)
    namespace, name = app["metadata"].get("namespace") or ARGOCD, app["metadata"]["name"]
    where = f"{text}: Application {name}" if is_file else f"Application {namespace}/{name}"
    check(app, SHAPE, "", lambda what: Failure(what, where))
    spec = app["spec"]
    _only(spec, SPEC, "spec", where)
    destination = spec.get("destination") or {}
    notes = _destination(destination, cluster, is_file, where)
    found = {**params, **TAKEN, **_source(spec, name, destination.get("namespace") or "", where), "namespace": destination.get("namespace") or None}
    found["repository"] = _repository(params, found["repository"], is_file, where)
    _sync_policy(spec, found, where)
    found["installation"] = "" if is_file else _installation(cluster, namespace)
    return {**found, "application": name, "tracked_by": (name, f"{namespace}_{name}")}, notes


def hand_back(text: str, cluster: Any) -> List[str]:
    """After a run that changed something: have Argo CD resolve the branch anew before it does anything else. One that was gone and comes back
    with self-heal makes the cluster first what the commit says that it knew before, and restarts Pods for nothing. What could not be asked."""
    if text.endswith(FILES):
        return []  # the Application may be nowhere, or in another cluster
    from ansible_collections.nordic.gitops.plugins.module_utils._argocd import answers, follow

    found = _NAME.match(text)
    key = (found.group("namespace") or ARGOCD, found.group("name")) if found else ("", "")
    try:
        follow.refresh(answers.Checked(cluster), cluster.resource(API_VERSION, "Application"), key, hard=False)
    except Failure as failure:
        return [f"Argo CD could not be asked to look at the Application {key[0]}/{key[1]} anew ({failure.what}). With self-heal it may go back to the "
                "commit that it knew before, until it looks at the branch again."]
    return []


def _of_file(path: str) -> Body:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict

    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Failure(f"from_application cannot be read: {error.strerror}", path) from None
    if len(data) > LARGEST:
        raise Failure(f"from_application is larger than {LARGEST >> 20} MiB", path)
    documents, problems = yaml_strict.parse(data, path)
    if problems:
        raise problems[0]
    bodies = [document.body for document in documents if document.body is not None]
    if len(bodies) != 1 or not isinstance(bodies[0], dict) or bodies[0].get("kind") != "Application" or bodies[0].get("apiVersion") != API_VERSION:
        raise Failure(f"from_application has to be a file with one Application of {API_VERSION} and nothing else", path)
    check(bodies[0], {"metadata!": SHAPE["metadata!"]}, "", lambda what: Failure(what, path))
    return dict(bodies[0])


def _of_cluster(text: str, cluster: Any) -> Body:
    found = _NAME.match(text)
    if not found:
        raise Failure(f"from_application is {one_line(text, 100)!r}", "from_application",
                      f"Write NAME, NAMESPACE/NAME, or the path of a file that ends in {', '.join(FILES)}.")
    namespace, name = found.group("namespace") or ARGOCD, found.group("name")
    resource = cluster.discover().find(API_VERSION, "Application")
    if resource is None:
        raise Failure(f"the cluster serves no Application in {API_VERSION}", cluster.url, "Give the Application as a file.")
    live = cluster.get(resource, namespace, name)
    if live is None:
        raise Failure(f"there is no Application {name} in the namespace {namespace}", cluster.url, "Write NAMESPACE/NAME for another namespace.")
    where = f"Application {namespace}/{name}"
    if live["metadata"].get("deletionTimestamp"):
        raise Refused("is being deleted", where, "Give the Application as a file if its objects are to be there.")
    check(live, {"status": {"conditions": [{"type": TEXT, "message": TEXT}]}}, "", lambda what: Failure(what, where))
    for condition in (live.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "InvalidSpecError":
            raise Refused(f"Argo CD refuses it: {one_line(condition.get('message') or '', 500)}", where)
    return dict(live)


def _installation(cluster: Any, namespace: str) -> str:
    """The id that an Argo CD has where several of them write into one cluster."""
    settings = cluster.get(cluster.resource("v1", "ConfigMap"), namespace, "argocd-cm") or {}
    return str((settings.get("data") or {}).get("installationID") or "")


def _destination(destination: Mapping[str, Any], cluster: Any, is_file: bool, where: str) -> List[str]:
    server, name = destination.get("server"), destination.get("name")
    if (server or IN_CLUSTER).rstrip("/") in (IN_CLUSTER, str(cluster.url).rstrip("/")) and name in (None, "", "in-cluster"):
        return []
    if is_file:
        return [f"{where}: its destination is {url(name or server or '')}; the run is for {cluster.url}, the cluster of the connection's options"]
    raise Refused(f"its destination is {url(name or server or '')}, and it was read from {cluster.url}", where,
                  "Give the Application as a file, and the connection of its destination.")


def _repository(params: Mapping[str, Any], wanted: str, is_file: bool, where: str) -> Any:
    """The Application's repository, which the task has to name too where it gives away more than the Application: whoever may write one
    could get the task's credentials sent to a server of theirs, or have read what only the task may read."""
    named = params.get("repository")
    if named:
        if _spelling(named) != _spelling(wanted):
            raise Refused(f"spec.source.repoURL is {wanted}, and the option repository is {url(named)}", where,
                          "Correct the one that is wrong. Credentials are sent to no repository but the option's.")
        return named
    given = [option for option in CREDENTIALS if params.get(option)]
    if given:
        raise Failure(f"from_application and {', '.join(given)} need repository", "from_application",
                      "Write the Application's repoURL as repository, so that no one who may write an Application can have the credentials sent elsewhere.")
    if not is_file and _spelling(wanted).startswith("file://"):
        raise Refused(f"spec.source.repoURL is {wanted}, a folder of the machine that this runs on", where, "Write it as repository too if it is meant.")
    return wanted


def _spelling(repository: str) -> str:
    text = checked_repository(repository)[0].rstrip("/")
    return text[:-len(".git")] if text.endswith(".git") else text


def _source(spec: Mapping[str, Any], name: str, namespace: str, where: str) -> Dict[str, Any]:
    sources = spec.get("sources") or []
    if len(sources) > 1:
        raise Refused(f"spec.sources: it has {len(sources)} sources, and a reconcile has one", where, "Run one reconcile for each, with options of its own.")
    source = sources[0] if sources else spec.get("source") or {}
    check({"spec": {"source": source}}, {"spec": {"source": SHAPE["spec!"]["source"]}}, "", lambda what: Failure(what, where))
    _only(source, SOURCE, "spec.source", where)
    for field in ("chart", "plugin"):
        if source.get(field):
            raise Refused(f"spec.source.{field}: only what is in a Git repository can be rendered", where)
    if not source.get("repoURL"):
        raise Failure("spec.source.repoURL is missing", where)
    if source["repoURL"].startswith("oci://"):
        raise Refused("spec.source.repoURL: only what is in a Git repository can be rendered", where)
    revision = source.get("targetRevision") or "HEAD"
    if _RANGE.search(revision):
        raise Refused(f"spec.source.targetRevision: {one_line(revision, 100)} is a range of versions", where, "Write a branch, a tag or a commit.")
    found: Dict[str, Any] = {"repository": url(source["repoURL"]), "revision": revision, "path": source.get("path") or ".", "release_name": name,
                             "recurse": False, "include": [], "exclude": []}
    explicit = [kind for kind in ("directory", "helm", "kustomize") if source.get(kind) is not None]
    if len(explicit) > 1:
        raise Failure(f"spec.source has {' and '.join(explicit)}; Argo CD takes one of them", where)
    if explicit:
        found["renderer"] = explicit[0]
        found.update({"directory": _directory, "helm": _helm, "kustomize": _kustomize}[explicit[0]](source[explicit[0]], namespace, where))
    return found


def _directory(options: Mapping[str, Any], _namespace: str, where: str) -> Dict[str, Any]:
    _only(options, DIRECTORY, "spec.source.directory", where)
    return {"recurse": bool(options.get("recurse")), **{part: [options[part]] for part in ("include", "exclude") if options.get(part)}}


def _helm(options: Mapping[str, Any], namespace: str, where: str) -> Dict[str, Any]:
    place = "spec.source.helm"
    _only(options, HELM, place, where)
    if options.get("namespace") and options["namespace"] != namespace:
        raise Refused(f"{place}.namespace is not the destination's namespace, and a reconcile has one", where)
    if options.get("ignoreMissingValueFiles") and options.get("valueFiles"):
        raise Refused(f"{place}.ignoreMissingValueFiles: a values file that is missing is an error here", where, "Name only those that exist.")
    _no_variables(options.get("valueFiles") or (), f"{place}.valueFiles", where)
    found: Dict[str, Any] = {"values_files": list(options.get("valueFiles") or ()), "values": _values(options, place, where)}
    return {**found, **({"release_name": options["releaseName"]} if options.get("releaseName") else {})}


def _values(options: Mapping[str, Any], place: str, where: str) -> Dict[str, Any]:
    values: Any = deepcopy(options.get("valuesObject")) or None
    if values is None and options.get("values"):
        from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict

        documents, problems = yaml_strict.parse(options["values"].encode("utf-8", "replace"), f"{place}.values")
        if problems:
            raise Failure(f"{place}.values: {problems[0].what}", where)
        values = documents[0].body if documents else None
    if values is not None and not isinstance(values, dict):
        raise Failure(f"{place}.values is not a mapping", where)
    values = values or {}
    # helm takes them in the order of the command line: --set first, then --set-string.
    for parameter in sorted(options.get("parameters") or (), key=lambda one: bool(one.get("forceString"))):
        _set(values, parameter, f"{place}.parameters: {parameter['name']}", where)
    return values


def _set(values: Dict[str, Any], parameter: Mapping[str, Any], place: str, where: str) -> None:
    """One parameter of helm, as its --set or --set-string reads it."""
    name, text = parameter["name"], parameter.get("value") or ""
    _no_variables([text], place, where, shown=False)
    if not _PARAMETER.match(name) or "\\" in text or text.startswith(("{", "[")):
        raise Refused(f"{place}: a list, or a part of one, cannot be taken from a parameter", where, "Write it in valuesObject.")
    keys = [key.replace("\\.", ".") for key in re.split(r"(?<!\\)\.", name)]
    if len(keys) > DEEPEST:
        raise Refused(f"{place} is nested more than {DEEPEST} levels deep", where)
    for key in keys[:-1]:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[keys[-1]] = text if parameter.get("forceString") else _typed(text)


def _typed(text: str) -> Any:
    known = {"true": True, "false": False, "null": None}
    if text.lower() in known:
        return known[text.lower()]
    return int(text) if re.match(r"(0|[+-]?[1-9][0-9]{0,17})\Z", text) else text


def _kustomize(options: Mapping[str, Any], _namespace: str, where: str) -> Dict[str, Any]:
    """The fields of the kustomization that Argo CD edits before it builds it."""
    place = "spec.source.kustomize"
    _only(options, KUSTOMIZE, place, where)
    found: Dict[str, Any] = {part: options[part] for part in ("namePrefix", "nameSuffix", "namespace", "commonAnnotations") if options.get(part)}
    _no_variables(options.get("images") or (), f"{place}.images", where)
    _no_variables((options.get("commonLabels") or {}).values(), f"{place}.commonLabels", where)
    if options.get("commonAnnotationsEnvsubst"):
        _no_variables((options.get("commonAnnotations") or {}).values(), f"{place}.commonAnnotations", where, shown=False)
    if options.get("images"):
        found["images"] = [_image(text, f"{place}.images", where) for text in options["images"]]
    if options.get("replicas"):
        found["replicas"] = [{"name": one["name"], "count": _count(one.get("count"), f"{place}.replicas: {one['name']}", where)} for one in options["replicas"]]
    if options.get("commonLabels") and options.get("labelWithoutSelector"):
        found["labels"] = [{"pairs": dict(options["commonLabels"]), "includeTemplates": bool(options.get("labelIncludeTemplates"))}]
    elif options.get("commonLabels"):
        found["commonLabels"] = dict(options["commonLabels"])
    return {"kustomization": found}


def _image(text: str, place: str, where: str) -> Dict[str, str]:
    found = _IMAGE.match(text)
    if not found or found.group("tag") and found.group("digest") or not (found.group("name") or found.group("tag") or found.group("digest")):
        raise Refused(f"{place}: {one_line(text, 200)} is none of IMAGE:TAG, IMAGE@DIGEST and IMAGE=NEW_IMAGE:TAG", where)
    image = {"name": found.group("name") or found.group("new"), "newName": found.group("new") if found.group("name") else "",
             "newTag": found.group("tag") or "", "digest": found.group("digest") or ""}
    return {key: value for key, value in image.items() if value}


def _count(value: Any, place: str, where: str) -> int:
    count = int(value) if isinstance(value, str) and re.match(r"[0-9]{1,9}\Z", value) else value
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 10 ** 9:
        raise Failure(f"{place} has no number of replicas", where)
    return count


def _sync_policy(spec: Mapping[str, Any], found: Dict[str, Any], where: str) -> None:
    policy = spec.get("syncPolicy") or {}
    options = dict(text.partition("=")[::2] for text in policy.get("syncOptions") or ())
    unknown = sorted(set(options) - {*NO_DIFFERENCE, "CreateNamespace", "Force", "Prune"})
    if unknown:
        raise Refused(f"spec.syncPolicy.syncOptions: {one_line(unknown[0], 100)} is not known here", where)
    if spec.get("ignoreDifferences") and options.get("RespectIgnoreDifferences") == "true":
        raise Refused("spec.ignoreDifferences: with RespectIgnoreDifferences=true a sync leaves these fields alone, and a reconcile does not", where,
                      "Take the fields out of Git, or give a file without ignoreDifferences.")
    automated = policy.get("automated")
    automated = None if automated is None or automated.get("enabled") is False else automated
    found["prune"] = bool(found["prune"] and automated and automated.get("prune")) and options.get("Prune", "true") == "true"
    found["allow_empty"] = bool(found["allow_empty"] or automated and automated.get("allowEmpty"))
    found["replace_immutable"] = bool(found["replace_immutable"] or options.get("Force") == "true")
    if options.get("CreateNamespace") == "true" and found["namespace"]:
        wanted = policy.get("managedNamespaceMetadata") or {}
        metadata = {part: dict(wanted[part]) for part in ("labels", "annotations") if wanted.get(part)}
        found["create_namespace"] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": found["namespace"], **metadata}}


def _only(values: Mapping[str, Any], known: Iterable[str], place: str, where: str) -> None:
    for key in values:
        if key not in known and values[key] not in (None, "", False, [], {}):
            raise Refused(f"{place}.{one_line(str(key), 60)}: a reconcile has no option for it", where)


def _no_variables(texts: Iterable[str], place: str, where: str, shown: bool = True) -> None:
    """Of Argo CD's build environment, or of another source. shown: whether the text itself may be, which could be a password with a $ in it."""
    for text in texts:
        if "$" in text:
            named = one_line(text, 100) if shown else ", ".join(_VARIABLE.findall(text)) or "a value with a $ in it"
            raise Refused(f"{place}: {named} needs a variable of Argo CD", where, "Write its value.")


# ---- in the course of a run


def refuse_what_only_argo_cd_does(names: Iterable[str], application: str) -> None:
    """A folder whose own files change the Application."""
    overriding = {".argocd-source.yaml", f".argocd-source-{application}.yaml"} & set(names)
    if overriding:
        raise Refused(f"{sorted(overriding)[0]} changes the Application's source, and a reconcile does not read it", application,
                      "Write what it says into the Application.")


def namespaces_to_create(cluster: Any, wanted: Body, labels: Mapping[str, str], documents: Sequence[Document]) -> List[Document]:
    """The destination's namespace, where the Application creates it and Git does not have it. Argo CD never deletes it, and neither does this.

    One that somebody else made is left to them, unless the Application says what is to be in it.
    """
    name = wanted["metadata"]["name"]
    if any(document.body.get("kind") == NAMESPACE[1] and _metadata(document.body).get("name") == name for document in documents):
        return []
    live = cluster.get(cluster.resource("v1", "Namespace"), "", name)
    theirs = (live or {}).get("metadata", {}).get("labels") or {}
    if live is not None and len(wanted["metadata"]) == 1 and not all(theirs.get(key) == value for key, value in labels.items()):
        return []
    metadata = {**wanted["metadata"], "annotations": {**wanted["metadata"].get("annotations", {}), "nordic.gitops/prune": "disabled"}}
    return [Document({**wanted, "metadata": metadata}, "syncPolicy of the Application: CreateNamespace=true", 0)]


def _metadata(body: Body) -> Mapping[str, Any]:
    return body.get("metadata") or {}
