# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer `kustomize`: every reachable kustomization is judged before the binary sees a copy of just these files."""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any, Dict, Iterable, Iterator, List, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import tool, yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import KUSTOMIZATIONS, flatten
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files, join, outside
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document

MAX_FOLDERS = 1000

# Fields whose entries are files or folders of the repository.
FOLDERS_OR_FILES = ("resources", "bases", "components")
# Fields whose entries are configurations of plugins, inline or as files or folders.
PLUGINS = ("generators", "transformers", "validators")
FILES = ("crds", "configurations", "patchesStrategicMerge")
HELM = ("helmCharts", "helmChartInflationGenerator", "helmGlobals")
# Fields anywhere below that name files which kustomize loads; a URL there would be fetched.
PATH_FIELDS = frozenset(("path", "paths", "files", "file", "env", "envs", "valuesFile", "additionalValuesFiles"))
# Below these a `path` is a field of an object ("metadata/labels"), not a file.
FIELD_SPECS = ("fieldSpecs", "fields")

# What kustomize takes for a Git repository or a URL (api/internal/git/repospec.go), and a little more: a scheme, a
# user, a query, the scp form, a forwarded getter, a well-known host without a scheme.
_REMOTE = re.compile(r"[:@?\\]|^(www\.)?(github|gitlab|bitbucket)\.\w+/|/_git/|\.git(/|$)", re.IGNORECASE)

_MALFORMED = re.compile(r"MalformedYAMLError: yaml: line (\d+): .* in File: (\S+)")
_UNKNOWN_FIELD = re.compile(r'unknown field "([^"]+)"')


def find(options: Any) -> tool.Tool:
    return tool.find(options.kustomize_binary, ("kustomize", "kubectl"), "kustomize_binary", "the renderer kustomize")


def render_kustomize(files: Files, path: str, options: Any, binary: tool.Tool, failures: List[Failure],
                     ) -> Tuple[List[Document], Dict[str, str]]:
    """The objects, and the object id of every file they came from outside of the path."""
    needed = sorted(reachable(files, path))
    content = files.read(needed)
    arguments = ["kustomize"] if os.path.basename(binary.path).startswith("kubectl") else ["build"]
    with tool.Scratch() as scratch:
        for name, data in content.items():
            scratch.write(name, data)
        folder = os.path.join(scratch.repository, *path.split("/"))
        os.makedirs(folder, exist_ok=True)
        output, words, code = tool.run(binary, [*arguments, "."], folder, scratch.home, options.timeout)
        if code:
            words = scratch.words(words) or f"ended with code {code}"
            raise failed(words, path, "kustomize", _place(words, files, path))
    name = kustomization_of(files, path)
    documents: List[Document] = []
    parsed, problems = yaml_strict.parse(output, f"{name} (rendered)")
    failures.extend(problems)
    for document in parsed:
        documents.extend(flatten(document.body, name, 0, (), failures))
    return documents, outer_reads(files, needed)


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
    name = kustomization_of(files, path)
    field = _UNKNOWN_FIELD.search(words)
    for number, line in enumerate(files.read([name])[name].splitlines() if field else (), 1):
        if field and line.strip().lstrip(b"-{ ").startswith(field.group(1).encode() + b":"):
            return f"{name}:{number}"
    return name


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
        for field, target, is_plugin in _references(files, body, folder, name, where):
            if files.get(target) is None:
                if field in FOLDERS_OR_FILES + PLUGINS:
                    todo.append((target, is_plugin or plugins))
                    continue
                raise Failure(f"{field}: {target} is a folder, a file is needed", where)
            needed.add(target)
            if is_plugin or plugins and field in FOLDERS_OR_FILES:
                _judge_plugin_file(files, target)
        needed.update(_mentioned(files, body, folder))
    return needed


def _only_document(files: Files, name: str) -> Tuple[Dict[str, Any], str]:
    documents, problems = yaml_strict.parse(files.read([name])[name], name)
    if problems:
        raise problems[0]
    if not documents:
        return {}, name
    if len(documents) > 1 or not isinstance(documents[0].body, dict):
        raise Failure("is no kustomization: it must hold one mapping", name)
    return documents[0].body, f"{name}:{documents[0].line}"


def _references(files: Files, body: Dict[str, Any], folder: str, name: str, where: str) -> Iterator[Tuple[str, str, bool]]:
    """(field, path in the repository, names a plugin's configuration) of everything the kustomization refers to."""
    for field in HELM:
        if body.get(field) is not None:
            raise Refused(f"{field}: kustomize would start helm and fetch charts", where,
                          "Use the renderer helm on a chart in the repository.")
    for field in FOLDERS_OR_FILES:
        for entry in _list(body, field, where):
            yield field, _inside(files, entry, field, folder, where), False
    for field in PLUGINS:
        for entry in _list(body, field, where):
            inline = _inline(entry)
            if inline is None:
                yield field, _inside(files, entry, field, folder, where), True
                continue
            for config in inline:
                _judge_plugin(config, where)
                yield from ((field, target, False) for target in _paths_below(files, config, folder, where))
    for field in FILES:
        for entry in _list(body, field, where):
            if _inline(entry) is None:
                yield field, _inside(files, entry, field, folder, where), False
    rest = {key: value for key, value in body.items() if key not in FOLDERS_OR_FILES + PLUGINS + FILES}
    for target in _paths_below(files, rest, folder, where):
        yield "path", target, False


def _list(body: Dict[str, Any], field: str, where: str) -> List[str]:
    entries = body.get(field)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise Failure(f"{field} must be a list of strings", where)
    return entries


def _inline(entry: str) -> Any:
    """The objects of an entry that is YAML itself rather than a path; None for a path."""
    documents, problems = yaml_strict.parse(entry.encode("utf-8"), "inline")
    if "\n" in entry.strip() or any(isinstance(document.body, dict) for document in documents):
        if problems:
            raise problems[0]
        return [document.body for document in documents]
    return None


def _paths_below(files: Files, value: Any, folder: str, where: str) -> Iterator[str]:
    """Files named by the path fields anywhere below a value."""
    if isinstance(value, list):
        for child in value:
            yield from _paths_below(files, child, folder, where)
    if not isinstance(value, dict):
        return
    for key, child in value.items():
        if key in FIELD_SPECS:
            continue
        entries = child if isinstance(child, list) else [child]
        if key in PATH_FIELDS and all(isinstance(entry, str) for entry in entries):
            for entry in entries:
                if key == "paths" and _inline(entry) is not None:
                    continue
                # configMapGenerator: files may be "key=path"
                yield _inside(files, entry.rpartition("=")[2] if key == "files" else entry, key, folder, where)
        else:
            yield from _paths_below(files, child, folder, where)


def _inside(files: Files, entry: str, field: str, folder: str, where: str) -> str:
    if _REMOTE.search(entry):
        raise Refused(f"{field}: {_without_credentials(entry)} is remote; a kustomization may use the repository's own files only",
                      where, "Copy it into the repository.")
    target = join(folder, entry)
    if entry.startswith("/") or outside(target):
        raise Refused(f"{field}: {entry} is outside of the repository", where, "Copy it into the repository.")
    if files.get(target) is None and not files.has_folder(target):
        raise Failure(f"{field}: {entry} is not in the repository", where)
    return target


def _without_credentials(url: str) -> str:
    return re.sub(r"(?<=//)[^/@]*@|^[^/@]*:[^/@]*@", "", url)


def _judge_plugin_file(files: Files, name: str) -> None:
    documents, problems = yaml_strict.parse(files.read([name])[name], name)
    if problems:
        raise problems[0]
    for document in documents:
        _judge_plugin(document.body, f"{name}:{document.line}")
        for _target in _paths_below(files, document.body, posixpath.dirname(name) or ".", f"{name}:{document.line}"):
            pass  # kustomize resolves them itself; here only what is remote matters


def _judge_plugin(config: Any, where: str) -> None:
    """Only kustomize's own transformers and generators; never a program, a container, a script or helm."""
    config = config if isinstance(config, dict) else {}
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else {}
    for annotation in annotations if isinstance(annotations, dict) else ():
        if annotation.endswith("/function"):
            raise Refused(f"the annotation {annotation} would run a function", where, "Functions and plugins are not run.")
    if config.get("apiVersion") != "builtin" or str(config.get("kind")).startswith("HelmChart"):
        raise Refused(f"{config.get('kind')} of {config.get('apiVersion')} is a plugin", where,
                      "Only kustomize's own transformers and generators (apiVersion: builtin) are run.")


def _mentioned(files: Files, value: Any, folder: str) -> Set[str]:
    """Files that any string of a kustomization names: it may read them, so they are copied too."""
    found: Set[str] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, str) and len(item) < 1024 and "\n" not in item:
            for text in (item, item.rpartition("=")[2]):
                target = join(folder, text) if text and not text.startswith("/") else ""
                if target and not outside(target) and files.knows(target):
                    found.add(target)
    return found
