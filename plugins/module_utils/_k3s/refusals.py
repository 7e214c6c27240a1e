# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with what a node is to be, by values alone. Each raises Failure with what to do."""

from __future__ import annotations

import os
import re
from typing import Any, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, CONFIG_DIR, DATA_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import password_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Spec
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version, refuse_server_step


def contradictions(role: str, configured: Mapping[str, Any]) -> None:
    if configured.get("datastore-endpoint") and configured.get("cluster-init"):
        raise Failure("datastore-endpoint and cluster-init are both set: the datastore is either external or embedded",
                      hint="Remove cluster-init to use the external datastore, or datastore-endpoint for embedded etcd.")
    if configured.get("server") and configured.get("cluster-init"):
        raise Failure("server and cluster-init are both set: a server either joins a cluster or begins one", hint="Only the first server has cluster-init.")
    if role == "agent" and not configured.get("server"):
        raise Failure("an agent needs the URL of a server to join", hint="Set server in O(config), for example https://server1:6443.")


def token(spec: Spec, tokens: Mapping[str, str], part: bool, begun: bool) -> None:
    """The token of a cluster is not changed by a file: its datastore is encrypted with it, and every node has it.

    tokens: those that are on the node, by their files. part: whether the node is part of a cluster; begun: or k3s is about to be one.
    """
    given, own = spec.token, os.path.join(CONFIG_DIR, "token")
    if re.search(r"\s", given + spec.agent_token):
        raise Failure("a token has white space in it", "O(token)" if re.search(r"\s", given) else "O(agent_token)",
                      "Give the token alone, without a line break.")
    if not given:
        if spec.role == "agent" and own not in tokens:
            raise Failure("an agent needs the cluster's token", "O(token)", "It is in /var/lib/rancher/k3s/server/token on a server.")
        if spec.role == "server" and spec.configured.get("server") and own not in tokens and not part:
            raise Failure("a server that joins needs the cluster's token", "O(token)", "It is in /var/lib/rancher/k3s/server/token on a server.")
        return
    # An agent takes another one, as when the servers got an agent token; whether it is theirs, they say.
    for path, there in tokens.items():
        if spec.role == "server" and begun and there and password_of(there) != password_of(given):
            raise Failure("the token given is not the one of the cluster that this node belongs to", path,
                          "Leave the token out to keep the node's own. `k3s token rotate` on a server changes a cluster's token.")


def version(installed: Optional[Version], new: Version, part: bool, upgrade: bool) -> None:
    """part: whether the node is part of a cluster."""
    if installed is None or not part or new == installed:
        return
    if not upgrade:
        raise Failure(f"k3s {installed} is installed, and {new} is given", BINARY,
                      "Use the playbook upgrade, which keeps workloads served and rolls back.")
    refusal = refuse_server_step(installed, new)
    if refusal:
        raise Failure(refusal, BINARY)


def allowed(path: str, data_dir: str) -> str:
    """A file of the option `files`, as it is written."""
    clean = os.path.normpath(path)
    if not clean.startswith((CONFIG_DIR + "/", data_dir + "/", DATA_DIR + "/")):
        raise Failure(f"{path!r} is not below {CONFIG_DIR} or {data_dir}", "O(files)", "Other files are another task's, such as ansible.builtin.copy.")
    name = os.path.relpath(clean, CONFIG_DIR)
    if name in ("config.yaml", "registries.yaml", "token", "agent-token", "environment") or name.startswith("config.yaml.d/"):
        raise Failure(f"{path!r} is written from an option of its own", "O(files)",
                      "Use O(config), O(drop_ins), O(registries), O(environment), O(token) or O(agent_token).")
    return clean
