# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A k3s that something else set up, as k3s' own install script does: arguments in the unit, variables in a file beside it.

Ours reads configuration files alone. So what the other unit says is read, and nothing of it is lost without being said.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import files

SHORT = {"d": "data-dir", "t": "token", "s": "server", "c": "config", "i": "node-ip"}
# k3s' variables and the keys that they stand for.
VARIABLES = {
    "K3S_AGENT_TOKEN": "agent-token", "K3S_CLUSTER_INIT": "cluster-init", "K3S_CONFIG_FILE": "config", "K3S_DATASTORE_CAFILE": "datastore-cafile",
    "K3S_DATASTORE_CERTFILE": "datastore-certfile", "K3S_DATASTORE_ENDPOINT": "datastore-endpoint", "K3S_DATASTORE_KEYFILE": "datastore-keyfile",
    "K3S_DATA_DIR": "data-dir", "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode", "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig",
    "K3S_LB_SERVER_PORT": "lb-server-port", "K3S_NODE_NAME": "node-name", "K3S_RESOLV_CONF": "resolv-conf", "K3S_ROOTLESS": "rootless",
    "K3S_SELINUX": "selinux", "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server"}
# Planned, or an option of its own that the role fills from the cluster.
ELSEWHERE = ("server", "cluster-init", "token", "token-file", "agent-token", "agent-token-file")


@dataclass(frozen=True)
class Found:
    """How k3s was set up by somebody else; empty where there is none, or where it is ours."""

    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def result(self) -> Dict[str, Any]:
        """Without secrets: only that there is one."""
        return {"config": {key: files.MASK if files.secrets_of(value, key) else value for key, value in self.config.items()},
                "environment": sorted(self.environment)}


def found(unit_path: str, config_path: str) -> Found:
    """By the unit, the file of variables beside it, and a configuration file that was not written by us."""
    unit = files.read(unit_path)
    if unit is None or unit.startswith(files.MARK):
        return Found()
    config: Dict[str, Any] = {}
    text = files.read(config_path) or ""
    if not text.startswith(files.MARK):
        config.update(_from_yaml(config_path))
    variables = _variables(unit)
    for path in _environment_files(unit):
        if os.path.isfile(path):
            variables.update(_assignments(files.read(path) or ""))
    config.update({VARIABLES[name]: value for name, value in variables.items() if name in VARIABLES and value})
    config.update(arguments(unit))  # the strongest
    return Found(config, {name: value for name, value in variables.items() if name not in VARIABLES})


def arguments(unit: str) -> Dict[str, Any]:
    """k3s' arguments in ExecStart. One that is given more than once is a list, one without a value is true."""
    line = re.search(r"^ExecStart=(.+)$", re.sub(r"\\\n\s*", " ", unit), re.MULTILINE)
    words = shlex.split(line.group(1)) if line else []
    config: Dict[str, Any] = {}
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        option = re.match(r"--?([a-z0-9][a-z0-9-]*)(?:=(.*))?\Z", word, re.DOTALL)
        if not option:
            continue
        key, value = SHORT.get(option.group(1), option.group(1)), option.group(2)
        if value is None and place < len(words) and not words[place].startswith("-"):
            value, place = words[place], place + 1
        new: Any = True if value is None or value == "true" else value
        if key in config:
            new = [*(config[key] if isinstance(config[key], list) else [config[key]]), new]
        config[key] = new
    return config


def lost(there: Found, config: Mapping[str, Any], environment: Mapping[str, str]) -> List[Tuple[str, str, str]]:
    """What the configuration that is wanted does not say, or says differently: key, value there, value wanted."""
    told = []
    for key, value in sorted(there.config.items()):
        if key in ELSEWHERE or key in config and (value == files.MASK or _items(config[key]) == _items(value)):
            continue
        secret = value == files.MASK or files.secrets_of(value, key)
        told.append((key, files.MASK if secret else _shown(value), "" if key not in config else files.MASK if secret else _shown(config[key])))
    names = there.environment
    told += [(f"environment {name}", files.MASK, "") for name in sorted(names) if name not in environment]
    return told


def table(rows: List[Tuple[str, str, str]]) -> str:
    """For a message: one line each."""
    return "; ".join(f"{key}: {was}" + (f" would become {now}" if now else " would be lost") for key, was, now in rows)


def _items(value: Any) -> List[str]:
    return sorted(str(item).lower() if isinstance(item, bool) else str(item) for item in (value if isinstance(value, list) else [value]))


def _shown(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def _variables(unit: str) -> Dict[str, str]:
    told: Dict[str, str] = {}
    for line in re.findall(r"^Environment=(.+)$", unit, re.MULTILINE):
        told.update(word.partition("=")[::2] for word in shlex.split(line) if "=" in word)
    return told


def _environment_files(unit: str) -> List[str]:
    """Those that our unit does not read."""
    return [path for path in re.findall(r"^EnvironmentFile=-?(\S+)$", unit, re.MULTILINE) if not path.startswith(("/etc/default/", "/etc/sysconfig/"))]


def _assignments(text: str) -> Dict[str, str]:
    told = {}
    for line in text.splitlines():
        name, sign, value = line.strip().partition("=")
        if sign and re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name):
            try:
                told[name] = " ".join(shlex.split(value))
            except ValueError:
                told[name] = value
    return told


def _from_yaml(path: str) -> Dict[str, Any]:
    """Plain values and plain lists, which is all that k3s reads."""
    return {key.rstrip("+"): True if value == "true" else value for key, value in files.readable_values(path).items()}
