# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s' configuration of one node as one mapping, whichever files its keys are in, and what follows from it."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import CONFIG_DIR, DATA_DIR, adoption, files

PORT = 6443
# Servers take these when the cluster begins, and end when they differ later. With k3s' default of each.
FIXED = {"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16", "cluster-dns": "10.43.0.10", "cluster-domain": "cluster.local"}


def merged(config: Mapping[str, Any], drop_ins: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    """As k3s reads it: drop-ins after the file, by name. `key+` adds to a list."""
    found = dict(config)
    for name in sorted(drop_ins):
        for key, value in drop_ins[name].items():
            if key.endswith("+"):
                key, value = key[:-1], [*_items(found.get(key[:-1])), *_items(value)]
            found[key] = value
    return found


def of_this_node(drop_ins_only: bool = False) -> Dict[str, str]:
    """The plain values of the files on this node, and of a unit with arguments that somebody else wrote.

    drop_ins_only: without config.yaml, which the role writes anew: what somebody edited there is not what will be.
    """
    found: Dict[str, str] = {}
    for path in paths()[1 if drop_ins_only else 0:]:
        found.update({key: value if isinstance(value, str) else "" for key, value in files.readable_values(path).items()})
    for key, value in adopted().config.items():
        if not isinstance(value, list):
            found[key] = "true" if value is True else str(value)
    return found


def adopted() -> adoption.Found:
    """How somebody else set k3s up here, if so."""
    for name in ("k3s", "k3s-agent"):
        found = adoption.found(f"/etc/systemd/system/{name}.service", os.path.join(CONFIG_DIR, "config.yaml"))
        if found != adoption.Found():
            return found
    return adoption.Found()


def paths() -> List[str]:
    """The files that k3s reads, in its order."""
    folder = os.path.join(CONFIG_DIR, "config.yaml.d")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(CONFIG_DIR, "config.yaml"), *(os.path.join(folder, name) for name in names if name.endswith((".yaml", ".yml")))]


def data_dir(config: Mapping[str, Any]) -> str:
    return str(config.get("data-dir") or DATA_DIR)


def port(config: Mapping[str, Any]) -> int:
    """Where the server's API and supervisor listen."""
    value = str(config.get("https-listen-port") or PORT)
    return int(value) if re.fullmatch("[0-9]{1,5}", value) else PORT


def snapshot_dir(config: Mapping[str, Any]) -> str:
    return str(config.get("etcd-snapshot-dir") or os.path.join(data_dir(config), "server/db/snapshots"))


def precious(config: Mapping[str, Any]) -> List[str]:
    """Folders with what may be the only copy of something, wherever the configuration puts them: snapshots, and the volumes of pods."""
    return [snapshot_dir(config), *([str(config["default-local-storage-path"])] if config.get("default-local-storage-path") else [])]


def log_of_etcd() -> str:
    """Where etcd keeps its log, if that is not beside its database; "" where it is."""
    told = [value for path in paths() for key, value in files.readable_values(path).items() if key.rstrip("+") == "etcd-arg"]
    for argument in (item for value in [*told, adopted().config.get("etcd-arg")] for item in _items(value)):
        found = re.match(r"(?:--)?wal-dir=(.+)", str(argument))
        if found:
            return found.group(1)
    return ""


def is_true(value: Any) -> bool:
    return str(value).lower() == "true"


def with_join_keys(text: str, keys: Mapping[str, Any]) -> str:
    """A configuration file's text with other keys that make a node begin or join a cluster; all other lines stay."""
    kept, dropped = [], False
    for line in text.splitlines():
        if not line.startswith((" ", "-", "#")) and line.strip():
            dropped = bool(re.match(r"[\"']?(?:server|cluster-init)[\"']?\s*:", line))
        if not dropped:
            kept.append(line)
    added = files.to_yaml(dict(keys))[len(files.MARK):] if keys else ""
    return "".join(f"{line}\n" for line in kept) + added


def _items(value: Any) -> List[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
