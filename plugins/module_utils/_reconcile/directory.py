# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer `directory`: the YAML and JSON files of a folder as they are."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Iterable, List

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document

SUFFIXES = (".yaml", ".yml", ".json")
# A file that carries this comment is no manifest: Argo CD's own marker.
SKIP_MARKER = b"+argocd:skip-file-rendering"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def render_directory(files: Files, path: str, options: Any, failures: List[Failure]) -> List[Document]:
    """Every object of the folder's manifests, in the order of their paths; what is wrong is added to `failures`."""
    chosen = manifests(files, path, options)
    if not chosen:
        if options.allow_empty:
            return []
        raise Failure(
            f"holds no manifest: looked for {' '.join('*' + suffix for suffix in SUFFIXES)}"
            f"{'' if options.recurse else ' in the folder itself, not below it'}{_filters(options)}",
            path, "Check `path`, `include` and `exclude`. If Git is meant to have no object left, set allow_empty: true.")
    documents: List[Document] = []
    content = files.read(chosen)
    for name in chosen:
        data = content[name]
        if SKIP_MARKER in data:
            continue
        if data.startswith(LFS_POINTER):
            failures.append(Failure("is a Git LFS pointer, not the file itself", name, "Commit the file without LFS."))
            continue
        parsed, problems = yaml_strict.parse(data, name)
        failures.extend(problems)
        for document in parsed:
            documents.extend(flatten(document.body, name, document.line, document.item_lines, failures))
    return documents


def manifests(files: Files, path: str, options: Any) -> List[str]:
    """The paths of the manifests, by suffix, `recurse`, `exclude` and `include`, in that order, as Argo CD does it."""
    include, exclude = _patterns(options.include), _patterns(options.exclude)
    prefix = "" if path == "." else path + "/"
    chosen = []
    for file in files.under(path):
        name = file.path[len(prefix):]
        if not options.recurse and "/" in name:
            continue
        if any(pattern.match(name) for pattern in exclude):
            continue
        if include and not any(pattern.match(name) for pattern in include):
            continue
        if name.endswith(SUFFIXES):
            chosen.append(file.path)
    return sorted(chosen)


def _filters(options: Any) -> str:
    return "".join(f", {name} {', '.join(getattr(options, name))}" for name in ("include", "exclude") if getattr(options, name))


def _patterns(globs: Iterable[str]) -> List[re.Pattern]:
    return [glob(text) for text in globs]


def glob(text: str) -> re.Pattern:
    """Argo CD's glob over the path below the rendered folder: `*` and `**` cross `/`, `?` is one character, {a,b}, [a-z]."""
    result, index, depth = [], 0, 0
    while index < len(text):
        char = text[index]
        if char == "*":
            result.append(".*")
            while text[index + 1:index + 2] == "*":
                index += 1
        elif char == "?":
            result.append(".")
        elif char == "[":
            end = text.find("]", index + 2)
            if end < 0:
                raise Failure(f"the pattern {text!r} has a [ without its ]", hint="Write \\[ for the character itself.")
            inner = text[index + 1:end]
            negated = inner.startswith(("!", "^"))
            inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner[1:] if negated else inner)
            result.append(f"[{'^' if negated else ''}{inner}]")
            index = end
        elif char == "{":
            depth += 1
            result.append("(?:")
        elif char == "," and depth:
            result.append("|")
        elif char == "}" and depth:
            depth -= 1
            result.append(")")
        elif char == "\\" and index + 1 < len(text):
            index += 1
            result.append(re.escape(text[index]))
        else:
            result.append(re.escape(char))
        index += 1
    if depth:
        raise Failure(f"the pattern {text!r} has a {{ without its }}", hint="Write \\{ for the character itself.")
    try:
        return re.compile("".join(result) + r"\Z", re.DOTALL)
    except re.error as error:
        raise Failure(f"the pattern {text!r} is malformed: {error}") from None


def flatten(body: Any, file: str, line: int, item_lines: Iterable[int], failures: List[Failure]) -> List[Document]:
    """One document, or the items of a List of any kind, as the object each is."""
    where = f"{file}:{line}" if line else file
    if not isinstance(body, dict):
        failures.append(Failure("holds no object: a manifest is a mapping with apiVersion and kind", where,
                                "If the file is no manifest, leave it out with `exclude`."))
        return []
    kind, items = body.get("kind"), body.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and "items" in body and isinstance(items, (list, type(None)))):
        return [Document(body, file, line)]
    documents: List[Document] = []
    lines = list(item_lines)
    lines = lines if len(lines) == len(items or ()) else [line] * len(items or ())
    for item, item_line in zip(items or (), lines):
        if isinstance(item, dict) and kind != "List":
            # A typed list (ConfigMapList) need not repeat what its items are.
            item = {"apiVersion": body.get("apiVersion"), "kind": kind[:-len("List")], **item}
        documents.extend(flatten(item, file, item_line, (), failures))
    return documents


def kind_of_folder(files: Files, path: str) -> str:
    """Which renderer Argo CD would choose; where a folder has both, its walk in the order of names ends at kustomize."""
    names = {posixpath.basename(file.path) for file in files.under(path)
             if posixpath.dirname(file.path) == ("" if path == "." else path)}
    if names & set(KUSTOMIZATIONS):
        return "kustomize"
    return "helm" if CHART in names else "directory"


KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
CHART = "Chart.yaml"
