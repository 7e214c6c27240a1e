# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator's credentials of a cluster, merged into a kubeconfig that holds other clusters too. On the controller, by PyYAML."""

from __future__ import annotations

import copy
import os
import stat
import tempfile
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

LISTS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))


def merged(existing: str, fetched: str, name: str, server: str, make_current: bool) -> str:
    """The new text of the file: one cluster, user and context called `name`, everything else as it was."""
    # Plain text, as Ansible marks its own with where it comes from, and YAML refuses that.
    name, server = f"{name}", f"{server}"
    kubeconfig, source = _loaded(existing, "the kubeconfig on the controller"), _loaded(fetched, "the kubeconfig on the server")
    try:
        entries: Dict[str, Any] = {key: source[plural][0][key] for plural, key in LISTS if key != "context"}
    except (KeyError, IndexError, TypeError) as error:
        raise Failure(f"has no cluster or no user ({error})", "the kubeconfig on the server", "Has k3s started there?") from error
    entries["cluster"] = {**entries["cluster"], "server": server}
    entries["context"] = {"cluster": name, "user": name}
    before = copy.deepcopy(kubeconfig)
    for plural, key in LISTS:
        listed: List[Dict[str, Any]] = kubeconfig.get(plural) or []
        there = next((entry for entry in listed if entry.get("name") == name), None)
        if there is None:
            listed.append({"name": name, key: entries[key]})
        elif key == "context":
            there[key] = {**(there.get(key) or {}), **entries[key]}  # a namespace that a person has set there stays
        else:
            there[key] = entries[key]
        kubeconfig[plural] = listed
    if make_current or not kubeconfig.get("current-context"):
        kubeconfig["current-context"] = name
    for key, value in (("apiVersion", "v1"), ("kind", "Config")):
        kubeconfig.setdefault(key, value)
    return existing if kubeconfig == before and existing else _dumped(kubeconfig)


def write(path: str, text: str) -> bool:
    """Whether the file had to be written. Only its owner can read it, and a link is followed, not replaced."""
    path = os.path.realpath(os.path.expanduser(path))
    try:
        with open(path, encoding="utf-8") as stream:
            there: Tuple[str, int] = (stream.read(), stat.S_IMODE(os.fstat(stream.fileno()).st_mode))
    except FileNotFoundError:
        there = ("", -1)
    if there == (text, 0o600):
        return False
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=".kubeconfig-", dir=folder)  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
    return True


def _loaded(text: str, where: str) -> Dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise Failure(f"is no YAML: {str(error).splitlines()[0]}", where, "Mend or remove it; nothing was written.") from error
    if not isinstance(value, dict):
        raise Failure("is no kubeconfig", where, "Mend or remove it; nothing was written.")
    return value


def _dumped(kubeconfig: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(kubeconfig), sort_keys=False, default_flow_style=False)
