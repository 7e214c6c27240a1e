# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the intents come from: one folder of a repository at a revision, and how it is rendered."""

from __future__ import annotations

import os
import posixpath
from dataclasses import replace
from typing import Any, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _git
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.working_tree import not_committed
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url, full_value
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import Bounds
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import IN_NAMESPACE, source_digest
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import AlsoWrong, Rendered, RenderOptions, Serves, render

SHOWN = 5  # names in one note


class Source:
    """A folder of a Git repository, and the options to render it with."""

    def __init__(self, mirror: _git.Mirror, path: str, options: RenderOptions, cache_folder: str, application: str = "") -> None:
        self.mirror, self.path, self.options, self.cache_folder, self.application = mirror, path, options, cache_folder, application

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Source:
        """The source that the module's options name."""
        git = _git.Source.of(params)
        options = RenderOptions(
            renderer=params["renderer"], recurse=params["recurse"],
            include=tuple(params["include"]), exclude=tuple(params["exclude"]),
            values_files=tuple(params["values_files"]), values=full_value(params["values"]),
            release_name=params["release_name"] or params["name"], namespace=params["namespace"] or "",
            helm_binary=params["helm_binary"] or "", kustomize_binary=params["kustomize_binary"] or "",
            kustomization=params.get("kustomization") or {}, allow_empty=params["allow_empty"], allow_unsandboxed=tuple(params["allow_unsandboxed"]),
            bounds=Bounds.of(params), timeout=float(Bounds.of(params).seconds))
        return cls(_git.Mirror(git), params["path"], options, os.path.join(git.cache, "render"), params.get("application") or "")

    @property
    def origin(self) -> str:
        """The repository, the path and the namespace, as a person writes them; the same for every spelling of one URL."""
        url = bare_url(self.mirror.source.url.rstrip("/"))
        url = url[:-len(".git")] if url.endswith(".git") else url
        path = posixpath.normpath(self.path or ".")
        url = url if path == "." else f"{url} path {path}"
        return f"{url}{IN_NAMESPACE}{self.options.namespace}" if self.options.namespace else url

    @property
    def digest(self) -> str:
        """A fingerprint of what beside the commit decides the intent."""
        return source_digest(self.mirror.source.url, self.path, self.options.deciding())

    def protection(self) -> str:
        """The sandbox that Git runs in."""
        return self.mirror.protection()

    def resolve(self) -> _git.Commit:
        return self.mirror.resolve()

    def refuse_rollback(self, commit: str, recorded: str) -> Tuple[str, ...]:
        """Refuse a branch or tag that leads behind what was enforced last: an old commit has a good signature too, and a server that shows
        an old branch, or another repository of the same signer, would bring back what was mended since. A full commit is the user's word.

        Without signatures it is only said, where the mirror knows both commits: who may write to the branch decides what it is, teams do
        push branches back and name other ones, and to be certain would take the whole history of the repository.
        """
        git = self.mirror.source
        if not recorded or commit == recorded or git.revision == commit:
            return ()
        if not git.verify_signatures:
            now, last = self.mirror.known(commit), self.mirror.known(recorded)
            if now is None or last is None or now.time >= last.time:
                return ()
            return (f"{git.revision} leads back: to the commit {commit[:12]} of {now.time}, which is older than {recorded[:12]} of {last.time}, "
                    f"the commit that was enforced last. With verify_signatures this is refused.",)
        if not self.mirror.follows(commit, recorded):
            raise Refused(
                f"{git.revision} leads to the commit {commit[:12]}, which does not have {recorded[:12]} in its history, the commit that was enforced last",
                git.url, "Set allow_rollback: true, or name the full commit as revision, if that is meant.")
        return ()

    def render(self, commit: _git.Commit, serves: Optional[Serves] = None, also_wrong: Optional[AlsoWrong] = None) -> Rendered:
        try:
            tree = self.mirror.tree(commit, self.path)
        except Failure as failure:
            if "no such file or folder" not in failure.what:
                raise
            if self.options.allow_empty:  # Git keeps no folder without a file: this is how the last object goes
                return Rendered([], "directory", False)
            failure.hint = f"{failure.hint} If Git is meant to have no object left, set allow_empty: true.".strip()
            raise
        root = tree if tree.path in (".", "") else self.mirror.tree(commit)
        rendered = render(tree, self.options, self.cache_folder, root=root, serves=serves, also_wrong=also_wrong)
        if self.application:
            from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.from_application import refuse_what_only_argo_cd_does

            refuse_what_only_argo_cd_does([*(entry.path for entry in tree.entries()), *tree.refused], self.application)
        changes = not_committed(self.mirror.source.url, self.mirror.source.revision, commit, self.path or ".")
        if not changes:
            return rendered
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        note = f"changes that are not committed are not seen: {', '.join(changes[:SHOWN])}{more} in {self.mirror.source.url}"
        return replace(rendered, notes=rendered.notes + (note,))
