# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of each Application. Nothing that may hold a secret is passed on: of a source its place, of an object its name and its state."""

from __future__ import annotations

from typing import Any, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import choice, evidence, follow, operation
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.answers import Checked
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.ending import end
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import ARGOPROJ, Body
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line, url

LONGEST = 2000  # characters of a message


def info(params: Mapping[str, Any]) -> Body:
    """The module's result."""
    cluster = Checked(Cluster.of(params))
    resource = cluster.discover().find(ARGOPROJ, "Application")
    found = choice.chosen(cluster, resource, params) if resource else []
    return {"changed": False, "installed": resource is not None, "applications": [told(cluster, live) for live in found]}


def told(cluster: Any, live: Body) -> Body:
    """One Application."""
    status, spec = operation.status_of(live), live.get("spec") or {}
    sync, health = status.get("sync") or {}, status.get("health") or {}
    commits = operation.commits_in(sync)
    sources = [{"repository": url(str(source.get("repoURL") or "")), "revision": source.get("targetRevision") or "HEAD", "path": source.get("path") or "",
                "chart": source.get("chart") or "", "commit": commits[number] if number < len(commits) else ""}
               for number, source in enumerate(operation.sources_of(live))]
    destination = spec.get("destination") or {}
    return {
        "name": live["metadata"]["name"], "namespace": live["metadata"].get("namespace", ""), "project": spec.get("project") or "",
        "deleted_at": live["metadata"].get("deletionTimestamp") or "", "labels": live["metadata"].get("labels") or {},
        "applicationset": follow.made_by(live), "sources": sources,
        "destination": {"cluster": destination.get("name") or destination.get("server") or "", "namespace": destination.get("namespace") or ""},
        "automated": operation.is_automated(live), "sync": sync.get("status") or "", "health": health.get("status") or "",
        "reconciled_at": status.get("reconciledAt") or "", "images": operation.images_of(live), "history": operation.history_of(live),
        "last_sync": _last(live), "running": operation.described(live) if operation.is_busy(live) else "",
        "out_of_sync": [{"object": operation.called(each), "reason": _reason(cluster, live, each, number < evidence.LOOKED_AT)}
                        for number, each in enumerate(operation.out_of_sync(live))],
        "unhealthy": [] if health.get("status") in ("Healthy", None) else evidence.of_objects(cluster, live),
        "conditions": [f"{condition.get('type')}: {one_line(operation.without_reason(condition.get('message') or ''), LONGEST)}"
                       for condition in status.get("conditions") or ()],
    }


def _last(live: Body) -> Body:
    state = operation.state_of(live)
    if not state or operation.is_busy(live):
        return {}
    by = (state.get("operation") or {}).get("initiatedBy") or {}
    failed: List[str] = operation.failure(state) if state.get("phase") != operation.SUCCEEDED else []
    return {"phase": state.get("phase") or "", "commits": list(operation.commits_in(state.get("syncResult"))), "started_at": state.get("startedAt") or "",
            "finished_at": state.get("finishedAt") or "", "by": "auto-sync" if by.get("automated") else by.get("username") or "",
            "errors": [one_line(line, LONGEST) for line in failed]}


def _reason(cluster: Any, live: Body, each: Mapping[str, Any], look: bool) -> str:
    """Why an object is not what the repository says, as far as the cluster shows it, which is asked only about the first of many."""
    if each.get("requiresPruning"):
        return "it is no longer in the repository"
    if look and operation.is_in_cluster(live) and evidence.is_missing(cluster, each):
        return "it is not in the cluster"
    return "it differs from the repository"


def run_module(module: Any) -> None:
    """A module's whole work, and its end."""
    end(module, lambda: info(module.params))
