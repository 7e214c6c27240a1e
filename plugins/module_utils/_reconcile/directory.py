# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer `directory`: the YAML and JSON files of a folder as they are."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Iterable, List, NamedTuple, Sequence, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import lfs
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ALTERNATIVES, ERRORS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files, join
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions

SUFFIXES = (".yaml", ".yml", ".json")
# A file that carries this comment is no manifest: Argo CD's own marker.
SKIP_MARKER = b"+argocd:skip-file-rendering"


def render_directory(files: Files, path: str, options: RenderOptions, failures: List[Failure], notes: List[str]) -> List[Document]:
    """Every object of the folder's manifests, in the order of their paths; what is wrong is added to `failures`."""
    chosen = manifests(files, path, options)
    _refuse_where_manifests_may_be(files, path, options, notes)
    if not chosen:
        if options.allow_empty:
            return []
        raise Failure(
            f"holds no manifest: looked for {' '.join('*' + suffix for suffix in SUFFIXES)}"
            f"{'' if options.recurse else ' in the folder itself, not below it'}{_filters(options)}",
            path, "Check `path`, `include` and `exclude`. If Git is meant to have no object left, set allow_empty: true.")
    chosen = _without_charts(chosen, failures)
    documents: List[Document] = []
    for name, data in files.each(chosen):
        if SKIP_MARKER in data:
            continue
        if lfs.is_pointer(data):
            failures.append(lfs.pointer(name))
            continue
        parsed, problems = yaml_strict.parse(data, name, budget=files.budget)
        failures.extend(problems)
        for document in parsed:
            if posixpath.basename(name) in KUSTOMIZATIONS and _is_kustomization(document.body):
                failures.append(Failure("is a kustomization, and the renderer directory does not build it", name,
                                        f"Point `path` at {posixpath.dirname(name) or '.'}, or leave it out with `exclude`."))
                continue
            documents.extend(flatten(document.body, name, document.line, document.item_lines, failures))
        if len(failures) >= ERRORS:
            break
    return documents


def manifests(files: Files, path: str, options: RenderOptions) -> List[str]:
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


def _without_charts(chosen: List[str], failures: List[Failure]) -> List[str]:
    """The manifests without those of charts, each of which is one error instead of one for every template."""
    charts = [posixpath.dirname(name) for name in chosen if posixpath.basename(name) == CHART]
    for chart in charts:
        failures.append(Failure("is a Helm chart, and the renderer directory does not render it", join(chart or ".", CHART),
                                f"Point `path` at {chart or '.'} with renderer: helm, or leave it out with `exclude`."))
    return [name for name in chosen if not any(not chart or name.startswith(chart + "/") for chart in charts)]


def _is_kustomization(body: Any) -> bool:
    version = body.get("apiVersion") if isinstance(body, dict) else ""
    return version is None and "kind" not in body or isinstance(version, str) and version.startswith("kustomize.config.k8s.io/")


def _refuse_where_manifests_may_be(files: Files, path: str, options: RenderOptions, notes: List[str]) -> None:
    """A submodule, or a link with a manifest's name, that is not followed: what it held before would otherwise look deleted.
    What recurse, exclude or include leaves out, and what is no manifest, decides nothing."""
    include, exclude = _patterns(options.include), _patterns(options.exclude)
    prefix = "" if path == "." else path + "/"
    for place, failure, is_submodule in files.refused_below(path):
        name = place[len(prefix):]
        if not options.recurse and ("/" in name or is_submodule) or any(pattern.match(name) or pattern.match(name + "/") for pattern in exclude):
            continue
        if is_submodule:
            if include and not any(pattern.may_match_below(name) for pattern in include):
                continue
            raise failure
        if not name.endswith(SUFFIXES):
            notes.append(f"{failure.where}: left out, {failure.what}")
        elif not include or any(pattern.match(name) for pattern in include):
            raise failure


def _filters(options: RenderOptions) -> str:
    return "".join(f", {name} {', '.join(getattr(options, name))}" for name in ("include", "exclude") if getattr(options, name))


def _patterns(globs: Iterable[str]) -> List[Glob]:
    return [glob(text) for text in globs]


class _Piece(NamedTuple):
    """What stands between two stars: so many single characters."""

    pattern: re.Pattern
    width: int


class Glob:
    """Argo CD's glob over the path below the rendered folder: `*` and `**` cross `/`, `?` is one character, {a,b}, [a-z].

    Each piece between two stars is searched for once, from the left: a pattern takes the time of a search, however many stars it has.
    """

    def __init__(self, alternatives: Sequence[Sequence[_Piece]]) -> None:
        self._alternatives = alternatives

    def match(self, name: str) -> bool:
        return any(_matches(pieces, name) for pieces in self._alternatives)

    def may_match_below(self, folder: str) -> bool:
        """False where nothing below the folder can match."""
        return any(pieces[0].width > len(folder) or pieces[0].pattern.match(folder + "/") for pieces in self._alternatives)


def _matches(pieces: Sequence[_Piece], name: str) -> bool:
    """The first piece stands at the beginning, the last one at the end, and each other at the first place after the one before it."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return first.pattern.fullmatch(name) is not None
    found = first.pattern.match(name)
    for piece in pieces[1:-1]:
        found = found and piece.pattern.search(name, found.end())
    return found is not None and len(name) - last.width >= found.end() and last.pattern.fullmatch(name, len(name) - last.width) is not None


def glob(text: str) -> Glob:
    """The pattern, or a Failure that says what is wrong with it."""
    alternatives: List[List[str]] = [[]]  # of regular expressions for one character each, and of stars
    stack: List[Tuple[List[List[str]], List[List[str]]]] = []  # what stands before each open brace, and its alternatives so far
    index = 0
    while index < len(text):
        char = text[index]
        if char == "{":
            stack.append((alternatives, []))
            alternatives = [[]]
        elif char == "," and stack:
            stack[-1][1].extend(alternatives)
            alternatives = [[]]
        elif char == "}" and stack:
            before, inside = stack.pop()
            inside.extend(alternatives)
            if len(before) * len(inside) > ALTERNATIVES:
                raise Failure(f"the pattern {text[:60]!r} unfolds to more than {ALTERNATIVES} patterns", hint="Write several patterns.")
            alternatives = [first + second for first in before for second in inside]
        else:
            one, index = _one(text, index)
            for alternative in alternatives:
                alternative.append(one)
        index += 1
    if stack:
        raise Failure(f"the pattern {text!r} has a {{ without its }}", hint="Write \\{ for the character itself.")
    try:
        return Glob([_pieces(alternative) for alternative in alternatives])
    except re.error as error:
        raise Failure(f"the pattern {text!r} is malformed: {error}") from None


def _one(text: str, index: int) -> Tuple[str, int]:
    """The regular expression of the character that stands at this place of a pattern, or a star; and where it ends."""
    char = text[index]
    if char == "*":
        while text[index + 1:index + 2] == "*":
            index += 1
        return "*", index
    if char == "?":
        return ".", index
    if char == "[":
        end = text.find("]", index + 2)
        if end < 0:
            raise Failure(f"the pattern {text!r} has a [ without its ]", hint="Write \\[ for the character itself.")
        inner = text[index + 1:end]
        negated = inner.startswith(("!", "^"))
        inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner[1:] if negated else inner)
        return f"[{'^' if negated else ''}{inner}]", end
    if char == "\\" and index + 1 < len(text):
        index += 1
    return re.escape(text[index]), index


def _pieces(alternative: Sequence[str]) -> List[_Piece]:
    pieces: List[List[str]] = [[]]
    for one in alternative:
        if one == "*":
            pieces.append([])
        else:
            pieces[-1].append(one)
    return [_Piece(re.compile("".join(piece), re.DOTALL), len(piece)) for piece in pieces]


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
    places = [*(file.path for file in files.under(path)), *(place for place, _failure, _is_submodule in files.refused_below(path))]
    names = {posixpath.basename(place) for place in places if posixpath.dirname(place) == ("" if path == "." else path)}
    if names & set(KUSTOMIZATIONS):
        return "kustomize"
    return "helm" if CHART in names else "directory"


KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
CHART = "Chart.yaml"
