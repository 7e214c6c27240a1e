# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Applications a task means: by name, by label, or by the ApplicationSet that makes them."""

from __future__ import annotations

from typing import Any, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import follow, operation
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import ARGOPROJ, Body, wrong_namespace
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure


def resource(cluster: Any) -> Any:
    """What the API server calls an Application."""
    found = cluster.discover().find(ARGOPROJ, "Application")
    if found is None:
        raise Failure(f"the cluster serves no Application in {ARGOPROJ}", cluster.url, "Install Argo CD first.")
    return found


def chosen(cluster: Any, applications: Any, params: Mapping[str, Any]) -> List[Body]:
    """Those that are there; all of the namespace when nothing is said."""
    for problem in wrong_namespace(params["namespace"]):
        raise Failure(problem, "namespace")
    found: List[Body] = cluster.list(applications, params["namespace"], params.get("label_selector") or "")[0]
    if params.get("applicationset"):
        found = [live for live in found if follow.made_by(live) == params["applicationset"]]
    names = _names(params)
    return sorted((live for live in found if not names or live["metadata"]["name"] in names),
                  key=lambda live: names.index(live["metadata"]["name"]) if names else live["metadata"]["name"])


def at_least_one(cluster: Any, applications: Any, params: Mapping[str, Any]) -> List[Body]:
    """The same, where a name that is missing, or none at all, is an error and never an empty list."""
    found = chosen(cluster, applications, params)
    namespace = params["namespace"]
    there = {live["metadata"]["name"] for live in found}
    missing = [name for name in _names(params) if name not in there]
    if missing:
        known = sorted(live["metadata"]["name"] for live in cluster.list(applications, namespace)[0])
        raise Failure(f"no Application of the name {', '.join(missing)} in the namespace {namespace}", cluster.url,
                      f"There are {operation.few(known) or 'none'}.")
    if not found:
        what = f"made by the ApplicationSet {params['applicationset']}" if params.get("applicationset") else f"with the labels {params.get('label_selector')}"
        raise Failure(f"no Application {what} in the namespace {namespace}", cluster.url)
    return found


def _names(params: Mapping[str, Any]) -> List[str]:
    return list(dict.fromkeys(params.get("names") or ([params["name"]] if params.get("name") else [])))
