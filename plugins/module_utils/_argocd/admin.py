# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator of Argo CD: its password is the one that is given, and the first one, which Argo CD made, is nowhere to be read."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from typing import Any, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import bcrypt_hash, follow
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.answers import Checked
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.ending import end
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import Body, decoded, wrong_namespace
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import FIELD_MANAGER, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import register

SECRET, FIRST, SETTINGS = "argocd-secret", "argocd-initial-admin-secret", "argocd-cm"
HASH, SINCE = "admin.password", "admin.passwordMtime"


def administer(params: Mapping[str, Any], check_mode: bool) -> Body:
    """The module's result."""
    namespace, password = params["namespace"], params["admin_password"]
    for problem in wrong_namespace(namespace):
        raise Failure(problem, "namespace")
    cluster = Checked(Cluster.of(params))
    secrets = cluster.resource("v1", "Secret")
    live = cluster.get(secrets, namespace, SECRET)
    if live is None:
        raise Failure(f"there is no Secret {SECRET}", f"{cluster.url}, namespace {namespace}", "Install Argo CD there first.")
    if password is None:
        _refuse_the_only_way_in(cluster, namespace)
        changed = False
    else:
        register(password)
        problem = bcrypt_hash.wrong(password)
        if problem:
            raise Failure(f"admin_password {problem}", "admin_password")
        changed = not bcrypt_hash.matches(password, decoded(live, HASH))
        if changed and not check_mode:
            _write(cluster, secrets, live, password)
    first = cluster.get(secrets, namespace, FIRST)
    if first is not None and not check_mode:
        cluster.delete(secrets, namespace, FIRST, first["metadata"]["uid"])
    return {"changed": changed or first is not None, "password_changed": changed, "first_secret_removed": first is not None}


def _refuse_the_only_way_in(cluster: Any, namespace: str) -> None:
    settings = cluster.get(cluster.resource("v1", "ConfigMap"), namespace, SETTINGS) or {}
    if str((settings.get("data") or {}).get("admin.enabled")).lower() != "false":
        raise Refused(f"the first password is the only way in: no password is given, and admin.enabled is not false in the ConfigMap {SETTINGS}",
                      f"namespace {namespace}", "Give admin_password, or set admin.enabled to false first.")


def _write(cluster: Any, secrets: Any, live: Body, password: str) -> None:
    """With the time of the API server: a login of a later second stays valid, whatever this machine's clock says."""
    hashed = bcrypt_hash.new(password)
    register(hashed)

    def patch(body: Body, at: datetime) -> List[Body]:
        values = {HASH: hashed, SINCE: at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        if not body.get("data"):
            return [{"op": "add", "path": "/data", "value": encoded}]
        return [{"op": "add", "path": f"/data/{key}", "value": value} for key, value in encoded.items()]

    key = follow.key_of(live)
    asked = cluster.patch(secrets, *key, patch(live, datetime.now(timezone.utc)), dry_run=True)
    # Of our own entries: another's may be of a day when the server's clock was ahead, and nobody could log in until then.
    times = [follow.moment(entry.get("time")) for entry in asked["metadata"].get("managedFields") or () if entry.get("manager") == FIELD_MANAGER]
    now = max((time for time in times if time is not None), default=datetime.now(timezone.utc))

    def operations(body: Body) -> Optional[List[Body]]:
        return None if bcrypt_hash.matches(password, decoded(body, HASH)) else patch(body, now)

    follow.change(cluster, secrets, key, operations, live["metadata"]["uid"])


def run_module(module: Any) -> None:
    """A module's whole work, and its end."""
    end(module, lambda: administer(module.params, module.check_mode))
