# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer `kustomize`: every reachable kustomization is judged before the binary sees a copy of just these files."""

from __future__ import annotations

import json
import os
import posixpath
import re
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import tool, yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import KUSTOMIZATIONS, flatten
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files, join, outside
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.told import masked_words
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import type_of
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions

MAX_FOLDERS = 1000

HELM = ("helmCharts", "helmChartInflationGenerator", "helmGlobals")


class Names(NamedTuple):
    """What a string is to kustomize: the name of a file, of a file or folder, either of them or a plugin's configuration, or a patch."""

    folders: bool = False
    plugins: bool = False
    keyed: bool = False  # "key=path", as configMapGenerator takes it
    inline: bool = False  # YAML itself, or a path


FILE, FOLDER, KEYED_FILE = Names(), Names(folders=True), Names(keyed=True)
PLUGIN, PATCH = Names(folders=True, plugins=True, inline=True), Names(inline=True)
ANY = None  # nothing that kustomize opens

# The fields of kustomize's types, exactly as it writes them (api/types/kustomization.go and the files beside it; api/internal/builtins
# for its transformers and generators). Go's JSON reader takes them in any case, and with letters that fold to theirs ("\u017f" for s): a
# field that is not written like this is refused, at every level, for what it names would not be seen here.
_PATCH = {"path": FILE, "patch": ANY, "target": ANY, "options": ANY}
_REPLACEMENT = {"path": FILE, "source": ANY, "sourceValue": ANY, "targets": ANY}
_GENERATOR = {"namespace": ANY, "name": ANY, "behavior": ANY, "literals": ANY, "options": ANY, "type": ANY,
              "files": [KEYED_FILE], "envs": [FILE], "env": FILE}
KUSTOMIZATION: Dict[str, Any] = {
    **dict.fromkeys((
        "apiVersion", "kind", "metadata", "namePrefix", "nameSuffix", "namespace", "commonLabels", "labels", "commonAnnotations", "images",
        "imageTags", "replicas", "vars", "sortOptions", "generatorOptions", "buildMetadata", *HELM), ANY),
    "openapi": {"path": FILE, "version": ANY},
    "patchesStrategicMerge": [PATCH], "patchesJson6902": [_PATCH], "patches": [_PATCH],
    "replacements": [_REPLACEMENT],
    "resources": [FOLDER], "components": [FOLDER], "bases": [FOLDER],
    "crds": [FILE], "configurations": [FILE],
    "configMapGenerator": [_GENERATOR], "secretGenerator": [_GENERATOR],
    "generators": [PLUGIN], "transformers": [PLUGIN], "validators": [PLUGIN],
}
# A folder of plugins' configurations only collects them: what could rewrite one that was judged has no place there.
PLUGINS_KUSTOMIZATION = {name: KUSTOMIZATION[name] for name in ("apiVersion", "kind", "metadata", "resources")}

_OBJECT = {"apiVersion": ANY, "kind": ANY, "metadata": ANY}
_FIELDS = {"fieldSpecs": ANY}
_BUILT_IN: Dict[str, Dict[str, Any]] = {
    "AnnotationsTransformer": {"annotations": ANY, **_FIELDS},
    "ConfigMapGenerator": _GENERATOR,
    "HashTransformer": {},
    "IAMPolicyGenerator": {"cloud": ANY, "kubernetesService": ANY, "serviceAccount": ANY},
    "ImageTagTransformer": {"imageTag": ANY, **_FIELDS},
    "LabelTransformer": {"labels": ANY, **_FIELDS},
    "NamespaceTransformer": {"unsetOnly": ANY, "setRoleBindingSubjects": ANY, **_FIELDS},
    "PatchJson6902Transformer": {"target": ANY, "path": FILE, "jsonOp": ANY},
    "PatchStrategicMergeTransformer": {"paths": [PATCH], "patches": ANY},
    "PatchTransformer": _PATCH,
    "PrefixSuffixTransformer": {"prefix": ANY, "suffix": ANY, **_FIELDS},
    "PrefixTransformer": {"prefix": ANY, **_FIELDS},
    "ReplacementTransformer": {"replacements": [_REPLACEMENT]},
    "ReplicaCountTransformer": {"replica": ANY, **_FIELDS},
    "SecretGenerator": _GENERATOR,
    "SortOrderTransformer": {"sortOptions": ANY},
    "SuffixTransformer": {"suffix": ANY, **_FIELDS},
    "ValueAddTransformer": {"value": ANY, "targets": ANY, "targetFilePath": FILE},
}
BUILT_IN = {kind: {**_OBJECT, **known} for kind, known in _BUILT_IN.items()}

# What kustomize takes for a URL or a Git repository even where a file or folder has this name (api/internal/git/repospec.go, in all its
# versions): a scheme, a forwarded getter, a well-known host; and for a folder, a user of ssh.
_URL = re.compile(r"^[a-z][a-z0-9+.-]*:(//|:)|^https?:|^gh:|^(www\.)?(github|gitlab|bitbucket)\.\w+[/:]", re.IGNORECASE)
_SSH = re.compile(r"^[a-z][a-z0-9-]*@", re.IGNORECASE)
# And what is surely meant so where there is nothing of this name.
_REMOTE = re.compile(r"[:@?\\]|/_git/|\.git(/|$)", re.IGNORECASE)

_MALFORMED = re.compile(r"MalformedYAMLError: yaml: line (\d+): .* in File: (\S+)")


def find(options: RenderOptions) -> tool.Tool:
    return tool.find(options.kustomize_binary, ("kustomize", "kubectl"), "kustomize_binary", "the renderer kustomize")


def render_kustomize(files: Files, path: str, options: RenderOptions, binary: tool.Tool, failures: List[Failure],
                     ) -> Tuple[List[Document], Dict[str, str]]:
    """The objects, and the object id of every file they came from outside of the path."""
    needed = sorted(reachable(files, path))
    content = files.read(needed)
    arguments = ["kustomize"] if os.path.basename(binary.path).startswith("kubectl") else ["build"]
    with tool.Scratch() as scratch:
        for name, data in content.items():
            scratch.write(name, data)
        if options.kustomization:
            name = kustomization_of(files, path)
            body = edited(*_only_document(files, name), options.kustomization)
            scratch.write(name, json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        folder = os.path.join(scratch.repository, *path.split("/"))
        os.makedirs(folder, exist_ok=True)
        output, words, code = tool.run(binary, [*arguments, "."], folder, scratch.home, options.timeout,
                                       options.allow_unsandboxed, options.bounds)
        if code:
            words = masked_words(scratch.words(words), content) or f"ended with code {code}"
            raise failed(words, path, "kustomize", _place(words, files, path))
    name = kustomization_of(files, path)
    documents: List[Document] = []
    parsed, problems = yaml_strict.parse(output, f"{name} (rendered)", budget=files.budget)
    failures.extend(problems)
    for document in parsed:
        documents.extend(flatten(document.body, name, 0, (), failures))
    return documents, outer_reads(files, needed)


def edited(body: Mapping[str, Any], where: str, edits: Mapping[str, Any]) -> Dict[str, Any]:
    """The kustomization after `kustomize edit`: mappings and lists get entries, those of the same name are replaced."""
    result = dict(body)
    for field, value in edits.items():
        there = result.get(field)
        if isinstance(value, (dict, list)) and there is not None and not isinstance(there, type(value)):
            raise Failure(f"{field} is {type_of(there)}, must be a {'mapping' if isinstance(value, dict) else 'list'}", where)
        if isinstance(value, dict):
            result[field] = {**(there or {}), **value}
        elif isinstance(value, list):
            names = [entry["name"] for entry in value if "name" in entry]
            result[field] = [*(entry for entry in there or () if not isinstance(entry, dict) or entry.get("name") not in names), *value]
        else:
            result[field] = value
    return result


def outer_reads(files: Files, names: Iterable[str]) -> Dict[str, str]:
    """The object ids of files outside of the rendered folder: its own id does not tell when they change."""
    return {name: file.oid for name in names for file in [files.get(name)] if file and not files.inside(name)}


def failed(words: str, path: str, name: str, place: str = "") -> Failure:
    """The tool's own words, at the file and line they name where they do."""
    words = re.sub(r"^(Error: |error: )+", "", words)
    return Failure(f"{name}: {words}", place or path)


def _place(words: str, files: Files, path: str) -> str:
    found = _MALFORMED.search(words)
    name = join(path, found.group(2)) if found else ""
    if found and files.get(name):
        return f"{name}:{found.group(1)}"
    return kustomization_of(files, path)


def _line_of(files: Files, name: str, field: str) -> str:
    for number, line in enumerate(files.read([name])[name].splitlines(), 1):
        if line.strip().lstrip(b"-{ ").startswith(field.encode() + b":"):
            return f"{name}:{number}"
    return ""


def kustomization_of(files: Files, folder: str) -> str:
    names = [join(folder, name) for name in KUSTOMIZATIONS if files.get(join(folder, name))]
    if not names:
        raise Failure(f"has no kustomization: looked for {', '.join(KUSTOMIZATIONS)}", folder)
    if len(names) > 1:
        raise Failure(f"has {len(names)} kustomizations: {', '.join(map(posixpath.basename, names))}", folder,
                      "Keep one of them.")
    return names[0]


def reachable(files: Files, path: str) -> Set[str]:
    """Every file that kustomize may read from here; refuses all that leads elsewhere or runs anything."""
    needed: Set[str] = set()
    seen: Set[Tuple[str, bool]] = set()
    todo: List[Tuple[str, bool]] = [(path, False)]
    while todo:
        folder, plugins = todo.pop()
        if (folder, plugins) in seen:
            continue
        seen.add((folder, plugins))
        if len(seen) > MAX_FOLDERS:
            raise Refused(f"reaches more than {MAX_FOLDERS} kustomizations", path)
        name = kustomization_of(files, folder)
        needed.add(name)
        body, where = _only_document(files, name)
        _refuse_helm(body, where)
        known = PLUGINS_KUSTOMIZATION if plugins else KUSTOMIZATION
        try:
            references = list(_named(body, known, "", where))
        except _UnknownField as refusal:
            refusal.where = _line_of(files, name, refusal.field) or where
            raise
        for field, entry, names in references:
            for target, is_plugin in _targets(files, entry, names, field, folder, where):
                is_plugin = is_plugin or plugins
                if files.get(target) is None:
                    if not names.folders:
                        raise Failure(f"{field}: {target} is a folder, a file is needed", where)
                    todo.append((target, is_plugin))
                    continue
                needed.add(target)
                if is_plugin:
                    needed.update(_judge_plugin_file(files, target))
    return needed


def _only_document(files: Files, name: str) -> Tuple[Dict[str, Any], str]:
    documents = files.parse(name)
    if not documents:
        return {}, name
    if len(documents) > 1 or not isinstance(documents[0].body, dict):
        raise Failure("is no kustomization: it must hold one mapping", name)
    return documents[0].body, f"{name}:{documents[0].line}"


def _refuse_helm(body: Dict[str, Any], where: str) -> None:
    for field in HELM:
        if body.get(field) is not None:
            raise Refused(f"{field}: kustomize would start helm and fetch charts", where,
                          "Use the renderer helm on a chart in the repository.")


def _named(value: Any, known: Any, path: str, where: str) -> Iterator[Tuple[str, str, Names]]:
    """(field, text, what the text is) of everything below a value that kustomize may open; refuses fields that it does not have."""
    if known is ANY or value is None:
        return
    if isinstance(known, Names):
        if not isinstance(value, str):
            raise Failure(f"{path} is {type_of(value)}, must be a string", where)
        yield path, value, known
    elif isinstance(known, list):
        strings = isinstance(known[0], Names)
        if not isinstance(value, list) or strings and not all(isinstance(item, str) for item in value):
            raise Failure(f"{path} must be a list of {'strings' if strings else 'mappings'}", where)
        for number, item in enumerate(value):
            yield from _named(item, known[0], path if strings else f"{path}[{number}]", where)
    elif not isinstance(value, dict):
        raise Failure(f"{path} is {type_of(value)}, must be a mapping", where)
    else:
        for key, child in value.items():
            if key not in known:
                raise _unknown(key, known, path, where)
            yield from _named(child, known[key], f"{path}.{key}" if path else key, where)


class _UnknownField(Refused):
    """A field that is not one of kustomize's, or not in this place."""

    field = ""


def _unknown(key: str, known: Dict[str, Any], path: str, where: str) -> _UnknownField:
    refusal = _UnknownField(*_why_unknown(key, known, path, where))
    refusal.field = key
    return refusal


def _why_unknown(key: str, known: Dict[str, Any], path: str, where: str) -> Tuple[str, str, str]:
    import difflib

    if known is PLUGINS_KUSTOMIZATION and key in KUSTOMIZATION:
        return (f"{key}: what configures plugins may not be built by anything but resources", where,
                "Write the configurations as they are, in files that resources names.")
    folded = {name.casefold(): name for name in known}
    near = [folded[key.casefold()]] if key.casefold() in folded else difflib.get_close_matches(key, known, n=1)
    within = f" in {path}" if path else ""
    return f'kustomize: invalid Kustomization: unknown field "{key[:60]}"{within}', where, f"Did you mean {near[0]}?" if near else ""


def _targets(files: Files, entry: str, names: Names, field: str, folder: str, where: str) -> Iterator[Tuple[str, bool]]:
    """The files and folders that one string names, and whether each configures plugins."""
    if names.inline:
        documents = _inline(files, entry, where)
        if documents is not None:
            if names.plugins:
                for config in documents:
                    yield from ((target, False) for target in _judge_plugin(files, config, folder, where))
            return
    text = entry.rpartition("=")[2] if names.keyed else entry
    yield _inside(files, text, field, folder, where, names.folders), names.plugins


def _inline(files: Files, entry: str, where: str) -> Optional[List[Any]]:
    """The documents of an entry that is YAML itself; None for a path. kustomize tries both, so what it could open is a path here:
    it opens nothing with a line break or a brace in front."""
    if "\n" not in entry.strip() and not entry.lstrip().startswith("{"):
        return None
    documents, problems = yaml_strict.parse(entry.encode("utf-8"), where.rpartition(":")[0] or where, budget=files.budget)
    if problems:
        raise Failure(f"YAML in a string: {problems[0].what}", where, problems[0].hint)
    return [document.body for document in documents]


def _inside(files: Files, entry: str, field: str, folder: str, where: str, folders: bool) -> str:
    target = join(folder, entry)
    leaves = entry.startswith("/") or outside(target)
    exists = not leaves and bool(entry) and (files.get(target) is not None or files.has_folder(target))
    if _URL.search(entry) or not exists and _REMOTE.search(entry):
        raise Refused(f"{field}: {bare_url(entry)} is remote; a kustomization may use the repository's own files only",
                      where, "Copy it into the repository.")
    if folders and exists and _SSH.search(entry):
        raise Refused(f"{field}: kustomize takes {entry} for a user's repository on a host", where, f"Write ./{entry}.")
    if leaves:
        raise Refused(f"{field}: {entry} is outside of the repository", where, "Copy it into the repository.")
    if not exists:
        raise Failure(f"{field}: {entry} is not in the repository", where)
    return target


def _judge_plugin_file(files: Files, name: str) -> Set[str]:
    documents = files.parse(name)
    folder = posixpath.dirname(name) or "."
    return {target for document in documents for target in _judge_plugin(files, document.body, folder, f"{name}:{document.line}")}


def _judge_plugin(files: Files, config: Any, folder: str, where: str) -> List[str]:
    """The files that a plugin's configuration names. Only kustomize's own transformers and generators; never a program, a container, a
    script or helm."""
    config = config if isinstance(config, dict) else {}
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else {}
    for annotation in annotations if isinstance(annotations, dict) else ():
        if annotation.endswith("/function"):
            raise Refused(f"the annotation {annotation} would run a function", where, "Functions and plugins are not run.")
    known = BUILT_IN.get(str(config.get("kind"))) if config.get("apiVersion") == "builtin" else None
    if known is None:
        raise Refused(f"{config.get('kind')} of {config.get('apiVersion')} is a plugin", where,
                      "Only kustomize's own transformers and generators (apiVersion: builtin) are run.")
    return [target for field, entry, names in _named(config, known, "", where)
            for target, _is_plugin in _targets(files, entry, names, field, folder, where)]
