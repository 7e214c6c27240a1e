# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Git says at one tree, as objects: rendered once, judged once, written the way the server holds it, then cached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TYPE_CHECKING

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import register_object
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document
from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import check_private, make_private, read_own
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERROR_CHARACTERS, ERRORS, Bounds, Budget

if TYPE_CHECKING:
    from ansible_collections.nordic.gitops.plugins.module_utils._git import Tree
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.tool import Tool

# Part of each cache key: to be raised when reading, judging or normalising gives another result for the same tree.
FORMAT = 5
KEPT = 64  # renders kept in the cache
ABANDONED = 3600  # seconds after which a half-written cache file is nobody's any more
SHOWN = 20  # errors shown of one kind: enough to see the pattern, few enough to read

RENDERERS = ("directory", "kustomize", "helm")


@dataclass(frozen=True)
class RenderOptions:
    """How a tree becomes objects."""

    renderer: str = "auto"  # or one of RENDERERS
    recurse: bool = True
    include: Tuple[str, ...] = ()
    exclude: Tuple[str, ...] = ()
    values_files: Tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    release_name: str = ""
    namespace: str = ""  # helm's .Release.Namespace; objects without a namespace are placed later
    helm_binary: str = ""
    kustomize_binary: str = ""
    kustomization: Mapping[str, Any] = field(default_factory=dict)  # fields that the folder's kustomization gets beside its own
    kube_version: str = ""
    api_versions: Tuple[str, ...] = ()
    allow_empty: bool = False
    timeout: float = 120.0  # seconds that kustomize or helm may take
    bounds: Bounds = Bounds()
    allow_unsandboxed: Tuple[str, ...] = ()  # tools that may run where this machine has no sandbox for them

    def deciding(self) -> Dict[str, Any]:
        """The options that decide what a tree renders to."""
        chosen = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("timeout", "allow_unsandboxed", "bounds")}
        if not self.kustomization:
            del chosen["kustomization"]
        return {**chosen, "values": dict(self.values or {})}


@dataclass(frozen=True)
class Rendered:
    """The objects of one tree, validated and normalised."""

    documents: List[Document]
    renderer: str
    cached: bool
    notes: Tuple[str, ...] = ()  # what a person should know though it is no error
    protection: str = ""  # the sandbox that kustomize or helm ran in; "" where neither was run


# What a cluster is, for a chart that asks: its version, and the API versions that it serves.
Serves = Callable[[], Tuple[str, Tuple[str, ...]]]
# What only a cluster can say of documents that are refused anyhow, so that all that is wrong is told at once.
AlsoWrong = Callable[[Sequence[Document]], List[str]]


def render(tree: Tree, options: RenderOptions, cache_folder: str, root: Optional[Tree] = None, serves: Optional[Serves] = None,
           also_wrong: Optional[AlsoWrong] = None) -> Rendered:
    """Render a tree, or take what the same tree rendered to before. All that is wrong in it is one Failure.

    tree: id, path, files() and read_many(). root: the tree of the commit's root, which lets kustomize and values files
    use other folders of the same repository. serves: asked where a chart is rendered, which may depend on the answer.
    """
    cache = _Cache(cache_folder, _key(tree, options))
    entry = cache.load()
    if entry is not None and _still_holds(entry, options, tree, root, serves):
        return Rendered(_documents(entry), entry["renderer"], True, tuple(entry["notes"]))

    entry = _render(tree, options, root, serves, also_wrong)
    protection = entry.pop("protection")
    notes = tuple(entry["notes"]) + cache.store(entry)
    return Rendered(_documents(entry), entry["renderer"], False, notes, protection)


def _documents(entry: Dict[str, Any]) -> List[Document]:
    """The objects of a render; the values of its Secrets are masked from now on, whoever prints them."""
    for _file, _line, body in entry["documents"]:
        register_object(body)
    return [Document(body, file, line) for file, line, body in entry["documents"]]


def _render(tree: Tree, options: RenderOptions, root: Optional[Tree], serves: Optional[Serves],
            also_wrong: Optional[AlsoWrong]) -> Dict[str, Any]:
    # Only what must be rendered needs YAML (30 ms to import), so nothing of it is imported above.
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import directory, helm, kustomize, tool
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.normalise import normalise
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.validate import wrong_with

    path = _path_of(tree)
    files = Files(tree, path, root, Budget(options.bounds))
    name = options.renderer if options.renderer != "auto" else directory.kind_of_folder(files, path)
    if name not in RENDERERS:
        raise Failure(f"renderer {name!r} is unknown", hint=f"Choose auto, {', '.join(RENDERERS)}.")
    failures: List[Failure] = []
    notes: List[str] = []
    reads: Dict[str, str] = {}
    stamp = protection = ""
    if name == "helm" and serves is not None:
        options = for_cluster(options, *serves())
    if name == "directory":
        documents = directory.render_directory(files, path, options, failures, notes)
    else:
        binary = (kustomize if name == "kustomize" else helm).find(options)
        stamp = _stamp(binary, options)
        protection = tool.protection(binary, options.allow_unsandboxed)
        if name == "kustomize":
            documents, reads = kustomize.render_kustomize(files, path, options, binary, failures)
        else:
            documents, reads = helm.render_helm(files, path, options, binary, failures, notes)
    for document in documents:
        if len(failures) >= ERRORS:
            break
        failures.extend(wrong_with(document))
    if failures and also_wrong is not None:
        with contextlib.suppress(Failure):  # of the cluster: the first error is the one to tell
            failures.extend(Failure(*reversed(text.split(": ", 1))) for text in also_wrong(documents))
    _raise(failures, path)
    return {
        "format": FORMAT,
        "renderer": name,
        "stamp": stamp,
        "protection": protection,
        "root": root.id if root is not None else "",
        "reads": reads,
        "links": files.linked(),
        "notes": notes,
        "documents": [(document.file, document.line, normalise(document.body)) for document in documents],
    }


def for_cluster(options: RenderOptions, version: str, api_versions: Tuple[str, ...]) -> RenderOptions:
    """The options for a chart that goes to this cluster. A version that helm cannot read (of a server built by hand) stays out."""
    known = version if re.fullmatch(r"v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?", version) else ""
    readable = tuple(name for name in api_versions if re.fullmatch(r"[0-9A-Za-z./-]+", name))
    return replace(options, kube_version=options.kube_version or known, api_versions=options.api_versions or readable)


def _stamp(binary: Tool, options: RenderOptions) -> str:
    """What tells the render of another binary, or for another cluster, from this one."""
    cluster = json.dumps([options.kube_version, options.api_versions])
    return f"{binary.stamp} {hashlib.sha256(cluster.encode()).hexdigest()[:16]}"


def _path_of(tree: Tree) -> str:
    return os.path.normpath(tree.path or ".")


def _raise(failures: List[Failure], path: str) -> None:
    for failure in failures:
        failure.what = failure.what if len(failure.what) <= ERROR_CHARACTERS else failure.what[:ERROR_CHARACTERS] + "…"
    if len(failures) == 1:
        raise failures[0]
    if failures:
        count = f"more than {ERRORS}" if len(failures) > ERRORS else str(len(failures))
        failures = sorted(failures[:ERRORS], key=_place)
        shown = "\n".join(f"- {failure}" for failure in failures[:SHOWN])
        more = f"\n(+{len(failures) - SHOWN} more)" if len(failures) > SHOWN else ""
        raise Failure(f"{count} errors in what Git holds:\n{shown}{more}", path, errors=[str(failure) for failure in failures])


def _place(failure: Failure) -> Tuple[str, int]:
    file, _colon, line = failure.where.rpartition(":")
    return (file, int(line)) if re.fullmatch("[0-9]{1,9}", line) else (failure.where, 0)


def _still_holds(entry: Dict[str, Any], options: RenderOptions, tree: Tree, root: Optional[Tree], serves: Optional[Serves]) -> bool:
    """Whether what a cached render read outside of the tree is the same: the binary, the cluster, and files of other folders."""
    if entry["renderer"] != "directory":
        from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import helm, kustomize

        if entry["renderer"] == "helm" and serves is not None:
            options = for_cluster(options, *serves())
        if _stamp((kustomize if entry["renderer"] == "kustomize" else helm).find(options), options) != entry["stamp"]:
            return False
    reads, links = entry["reads"], entry["links"]
    if not (reads or links) or root is None or root.id == entry["root"]:
        return not (reads or links) or root is not None
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files

    files = Files(tree, _path_of(tree), root)
    try:
        return (not links or files.linked() == links) and all(
            file is not None and file.oid == oid for file, oid in ((files.get(path), oid) for path, oid in reads.items()))
    except Failure:
        return False


def _key(tree: Tree, options: RenderOptions) -> str:
    try:
        text = json.dumps([FORMAT, tree.id, tree.path, options.deciding()], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise Failure(f"values cannot be written as JSON: {error}", "values") from None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Cache:
    """One render per file. The files may hold Secrets, as the mirror of the repository does: only we may read them."""

    def __init__(self, folder: str, key: str) -> None:
        self._folder = folder
        self._file = os.path.join(folder, f"{key}.json")

    def load(self) -> Optional[Dict[str, Any]]:
        """The entry; None where there is none, or none that can be trusted."""
        if os.path.lexists(self._folder):
            check_private(self._folder, "git_cache")
        try:
            entry = json.loads(read_own(self._file) or b"")
            if entry["format"] != FORMAT or not _complete(entry):
                return None
            os.utime(self._file)  # the ones used last are kept
            return entry
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def store(self, entry: Dict[str, Any]) -> Tuple[str, ...]:
        """Write it whole or not at all; a cache that cannot be written costs time, not the run."""
        half = f"{self._file}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            make_private(self._folder, "git_cache")
            data = json.dumps(entry, separators=(",", ":"), check_circular=False).encode("utf-8")
            with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(data)
            os.replace(half, self._file)
            self._prune()
        except Refused:
            raise
        except (Failure, OSError) as error:
            return (f"the render cache cannot be written: {getattr(error, 'strerror', error)}: {self._folder}",)
        return ()

    def _prune(self) -> None:
        ages = []
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            try:
                age = os.stat(path).st_mtime
                if name.endswith(".json"):
                    ages.append((age, path))
                elif ".json." in name and time.time() - age > ABANDONED:
                    os.remove(path)
            except OSError:
                continue  # another run pruned it
        for _age, path in sorted(ages)[:-KEPT]:
            try:
                os.remove(path)
            except OSError:
                continue


def _complete(entry: Dict[str, Any]) -> bool:
    return (
        entry["renderer"] in RENDERERS
        and isinstance(entry["stamp"], str) and isinstance(entry["root"], str)
        and isinstance(entry["reads"], dict) and isinstance(entry["links"], dict) and isinstance(entry["notes"], list)
        and isinstance(entry["documents"], list)
        and all(isinstance(body, dict) and isinstance(file, str) and isinstance(line, int)
                for file, line, body in entry["documents"])
    )
