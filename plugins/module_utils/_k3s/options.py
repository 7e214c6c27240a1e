# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's options, read once and handed down as a value."""

from __future__ import annotations

import re
from typing import Any, Mapping, Set

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import ROLES
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import Source, checksum_of, text_at
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import secrets_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.node import STATES
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Spec

SPEC = dict(
    state=dict(type="str", choices=list(STATES), default="present"),
    role=dict(type="str", choices=list(ROLES), default="server"),
    binary=dict(type="path"),
    binary_url=dict(type="str"),
    checksum=dict(type="str"),
    images=dict(type="list", elements="dict", default=[], options=dict(path=dict(type="path", required=True), checksum=dict(type="str"))),
    remote_src=dict(type="bool", default=False),
    config=dict(type="dict", default={}),
    drop_ins=dict(type="dict", default={}),
    registries=dict(type="dict"),
    files=dict(type="dict", default={}),
    token=dict(type="str", no_log=True),
    agent_token=dict(type="str", no_log=True),
    start=dict(type="bool", default=True),
    restart=dict(type="bool", default=True),
    wait=dict(type="bool", default=True),
    wait_timeout=dict(type="int", default=480),
    rotate_certificates=dict(type="bool", default=False),
    voters=dict(type="int"),
    progress=dict(type="dict", default={}),
    keep_quorum=dict(type="bool", default=True),
    authority=dict(type="str"),
    environment=dict(type="dict", default={}),
    adopt=dict(type="bool", default=False),
)


# What k3s_info is told of what its host is to be. The options of the module k3s, and what only the plan asks for.
WANTED = dict(
    **{name: SPEC[name] for name in ("config", "drop_ins", "registries", "files", "environment", "adopt", "token", "agent_token")},
    role=dict(type="str", choices=list(ROLES), required=True),
    address=dict(type="str"),
    binary=dict(type="str"),
)


def spec_of(params: Mapping[str, Any], check_mode: bool) -> Spec:
    if params["wait_timeout"] <= 0:
        raise Failure(f"O(wait_timeout) is {params['wait_timeout']}", hint="Write seconds, more than 0.")
    if params["rotate_certificates"] and params["state"] != "restarted":
        raise Failure("O(rotate_certificates) is for O(state=restarted) alone", hint="k3s renews certificates while it is stopped.")
    for name, values in params["drop_ins"].items():
        if not isinstance(values, dict):
            raise Failure(f"is {type(values).__name__}, not a dictionary", f"O(drop_ins).{name}", "Write k3s' configuration keys below the name.")
        if "/" in name or name.startswith("."):
            raise Failure(f"{name!r} is not a file name", "O(drop_ins)", "It becomes /etc/rancher/k3s/config.yaml.d/NAME.yaml.")
    for name, value in params["environment"].items():
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name) or not isinstance(value, (str, int)) or isinstance(value, bool) or "\n" in str(value):
            raise Failure("is not a variable with a text of one line", f"O(environment).{name}", 'Such as HTTPS_PROXY: "http://proxy.example.no:3128".')
        if name.startswith("K3S_"):
            raise Failure("is k3s' own variable", f"O(environment).{name}", "Set the key of O(config), or the option, that it stands for.")
    for path, text in params["files"].items():
        if text is not None and not isinstance(text, str):
            raise Failure(f"is {type(text).__name__}, not text", f"O(files).{path}", "Render it, for example by the filter to_nice_yaml.")
    return Spec(
        role=params["role"], config=params["config"], drop_ins=params["drop_ins"], registries=params["registries"], files=params["files"],
        token=(params["token"] or "").strip(), agent_token=(params["agent_token"] or "").strip(), program=_program(params),
        images=tuple(_source(image["path"], image["checksum"]) for image in params["images"]), sources_here=params["remote_src"],
        start=params["start"], restart=params["restart"], wait=params["wait"], wait_timeout=float(params["wait_timeout"]),
        rotate_certificates=params["rotate_certificates"], voters=params["voters"] or 0, keep_quorum=params["keep_quorum"], progress=params["progress"],
        authority=params["authority"] or "",
        environment={name: str(value) for name, value in params["environment"].items()}, adopt=params["adopt"], check_mode=check_mode)


def secrets(params: Mapping[str, Any]) -> Set[str]:
    """What must be in no output though it stands inside of a dictionary. Very short ones would blank out half of every message."""
    found = [secret for option in ("config", "drop_ins", "registries") for secret in secrets_of(params.get(option) or {})]
    found += [str(value) for value in (params.get("environment") or {}).values()]
    return {secret for secret in found if len(secret) > 3}


def _program(params: Mapping[str, Any]) -> Any:
    if params["binary"]:
        return _source(params["binary"], params["checksum"])
    if params["binary_url"]:
        source = Source(url=params["binary_url"])
        text = params["checksum"] or ""
        if re.match(r"(https?|file)://", text.strip()):
            text = text_at(text.strip())
        return Source(url=source.url, checksum=checksum_of(text, source.name.replace("%2B", "+")))
    return None


def _source(path: str, checksum: Any) -> Source:
    source = Source(path=path)
    return Source(path=path, checksum=checksum_of(checksum, source.name) if checksum else "")
