# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer `helm`: a chart of the repository, rendered by `helm template` without network, plugins or cluster."""

from __future__ import annotations

import json
import os
import re
from typing import Dict, List, Mapping, Sequence, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import subcharts, tool, yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERRORS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import CHART, flatten
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files, join, outside
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.kustomize import failed, outer_reads
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.told import masked_words

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions

HOOK = "helm.sh/hook"
# Hooks of events that a reconcile never is: applied as ordinary objects they would run at once.
NEVER = frozenset(("pre-delete", "post-delete", "pre-rollback", "post-rollback", "test", "test-success", "test-failure"))

_SOURCE = re.compile(rb"^# Source: (.+?)\s*$", re.MULTILINE)
_POSITION = re.compile(r"(?P<chart>[^\s():]+)/(?P<file>(?:charts/[^\s():]+/)?(?:templates|crds)/[^\s():]+)(?::(?P<line>\d+))?")


def find(options: RenderOptions) -> tool.Tool:
    return tool.find(options.helm_binary, ("helm",), "helm_binary", "the renderer helm")


def render_helm(files: Files, path: str, options: RenderOptions, binary: tool.Tool, failures: List[Failure], notes: List[str],
                ) -> Tuple[List[Document], Dict[str, str]]:
    """The objects, and the object id of every values file outside of the chart."""
    for _place, failure, _is_submodule in files.refused_below(path):
        raise failure  # helm reads the whole folder
    chart = [file.path for file in files.under(path)]
    if files.get(join(path, CHART)) is None:
        raise Failure(f"has no {CHART}, so it is no chart", path, "Point `path` at the chart, or choose another renderer.")
    values_files = [_values_file(files, path, name) for name in options.values_files]
    needed = sorted({*chart, *values_files})
    content = files.read(needed)
    _refuse_missing_dependencies(content, path, subcharts.judge(content, path))
    with tool.Scratch() as scratch:
        for name in chart:
            scratch.write(name, content[name])
        folder = os.path.join(scratch.repository, *path.split("/"))
        # helm splits an option's value at commas, so no name of the repository's, or of the caller's temporary folder, stands in one.
        values = [scratch.keep(f"values-{number}.yaml", content[name]) for number, name in enumerate(values_files)]
        if options.values:
            values.append(scratch.keep("values.json", json.dumps(options.values).encode()))
        # Its own name is the chart's folder, whatever the repository's is: messages begin with it.
        arguments = [
            "template", "--include-crds", "--skip-tests",
            *([f"--namespace={options.namespace}"] if options.namespace else []),
            *([f"--kube-version={options.kube_version}"] if options.kube_version else []),
            *[f"--api-versions={version}" for version in options.api_versions],
            *[f"--values={os.path.relpath(name, folder)}" for name in values],
            "--", options.release_name or "release", ".",
        ]
        output, words, code = tool.run(binary, arguments, folder, scratch.home, options.timeout,
                                       options.allow_unsandboxed, options.bounds)
        if code:
            words = scratch.words(words)
            for value, name in zip(values, values_files):
                words = words.replace(os.path.relpath(value, folder), name)
            raise _failed(masked_words(words, content, options.values) or f"ended with code {code}", files, path)
    return _documents(output, files, path, failures, notes), outer_reads(files, needed)


def _documents(output: bytes, files: Files, path: str, failures: List[Failure], notes: List[str]) -> List[Document]:
    """helm writes a comment with the template's name before each object; it is the only thing known of its place."""
    documents: List[Document] = []
    name = join(path, "templates")
    for part in re.split(rb"^---[^\S\n]*$", output, flags=re.MULTILINE):
        source = _SOURCE.search(part)
        if source:
            name = join(path, source.group(1).decode("utf-8", "replace").partition("/")[2])
        # helm itself lets the last of two equal keys win, and charts in the field rely on it.
        twice: List[Failure] = []
        parsed, problems = yaml_strict.parse(part, f"{name} (rendered)", twice, files.budget)
        failures.extend(problems)
        notes.extend(str(problem) for problem in twice)
        del notes[ERRORS:]
        if len(failures) >= ERRORS:
            break
        for document in parsed:
            for item in flatten(document.body, name, 0, (), failures):
                if _applies(item, notes):
                    documents.append(item)
    return documents


def _applies(document: Document, notes: List[str]) -> bool:
    metadata = document.body.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    hook = annotations.get(HOOK) if isinstance(annotations, dict) else None
    events = {event.strip() for event in hook.split(",")} if isinstance(hook, str) else set()
    if not events or events - NEVER:
        return True
    notes.append(f"{document.where}: left out, a helm hook of {hook} only")
    return False


def _failed(words: str, files: Files, path: str) -> Failure:
    words = words.replace("Use --debug flag to render out invalid YAML", "").strip()
    found = _POSITION.search(words)
    place = join(path, CHART)
    if found and files.get(join(path, found.group("file"))):
        # A YAML error counts the lines of what the template became, so it has no line here.
        place = join(path, found.group("file")) + (f":{found.group('line')}" if found.group("line") else "")
    return failed(words, path, "helm", place)


def _values_file(files: Files, path: str, name: str) -> str:
    """Relative to the chart, or with a leading / to the repository's root, as Argo CD means them."""
    if "://" in name:
        raise Refused(f"values_files: {name.partition('://')[0]}://… is remote; values come from the repository only", path)
    target = join(".", name.lstrip("/")) if name.startswith("/") else join(path, name)
    if outside(target):
        raise Refused(f"values_files: {name} is outside of the repository", path)
    if files.get(target) is None:
        raise Failure(f"values_files: {target} is not in the repository", path)
    return target


def _refuse_missing_dependencies(content: Mapping[str, bytes], path: str, present: Sequence[str]) -> None:
    """A chart is rendered with what the repository holds: dependencies must be vendored under charts/, under whatever folder or file name."""
    for name in (CHART, "requirements.yaml"):
        declared = join(path, name)
        if declared not in content:
            continue
        documents, problems = yaml_strict.parse(content[declared], declared)
        if problems:
            raise problems[0]
        body = documents[0].body if documents and isinstance(documents[0].body, dict) else {}
        dependencies = body.get("dependencies")
        for dependency in dependencies if isinstance(dependencies, list) else ():
            wanted = str(dependency.get("name")) if isinstance(dependency, dict) else str(dependency)
            if wanted not in present:
                raise Refused(f"the chart depends on {wanted}, which is not under {join(path, 'charts')}", declared,
                              "Charts are not fetched: run `helm dependency update` and commit charts/.")
