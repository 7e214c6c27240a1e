# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The credential plugin of a kubeconfig (users[].user.exec), run by the one runner of programs: with a time limit, and with its own words in
the error. The kubernetes package waits for it without end, only logs that it failed, and goes on without credentials.

What it answers is put into the kubeconfig in the place of "exec"; https://kubernetes.io/docs/reference/access-authn-authz/authentication/
#client-go-credential-plugins says what it is asked and answers.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

SECONDS = 120.0
EARLY = 60.0  # seconds before its end at which a credential is asked for again
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")  # relative to the kubeconfig that names them

Body = Dict[str, Any]


class Credential(NamedTuple):
    """What a plugin answered."""

    user: Body  # as a user of a kubeconfig has it
    end: Optional[datetime]

    @property
    def lapsed(self) -> bool:
        """Whether it has to be asked for again."""
        return self.end is not None and (self.end - datetime.now(timezone.utc)).total_seconds() < EARLY


class Plugin:
    """The plugin of the user of one context."""

    def __init__(self, kubeconfig: Body, name: str, user: Body, cluster: Body) -> None:
        self.kubeconfig, self._name, self._user, self._cluster = kubeconfig, name, user, cluster

    def ask(self) -> Credential:
        """Run it."""
        asked = self._user["exec"]
        version, command = asked.get("apiVersion"), asked.get("command")
        if not isinstance(version, str) or not isinstance(command, str):
            raise Failure("the credential plugin of the kubeconfig needs apiVersion and command")
        environment = {**os.environ, **{str(item["name"]): str(item["value"]) for item in asked.get("env") or ()}}
        if asked.get("interactiveMode") == "Always":
            raise Failure(f"the credential plugin {command} asks questions (interactiveMode: Always), and here nobody can answer",
                          hint="Log in before, or give api_key.")
        spec: Body = {"interactive": False}
        if asked.get("provideClusterInfo"):
            spec["cluster"] = self._about_the_cluster()
        environment["KUBERNETES_EXEC_INFO"] = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
        program = shutil.which(command, path=environment.get("PATH"))
        if program is None:
            raise Failure(f"the credential plugin {command} was not found, or is not executable", hint=str(asked.get("installHint") or ""))
        # Not in a sandbox: it is the user's own program, and may read whatever a login of theirs needs.
        policy = _sandbox.Policy(program=program, protections=(), allowed=True, limits=_sandbox.Limits(seconds=SECONDS, memory=1 << 40))
        ended = _sandbox.run([program, *map(str, asked.get("args") or ())], policy, os.getcwd(), environment)
        if ended.status:
            raise Failure(f"the credential plugin of the kubeconfig failed: {command} ended with {ended.status}: {ended.err.strip()[-1000:]}")
        return _read(ended.out, version, command)

    def with_credential(self, credential: Credential) -> Body:
        """The kubeconfig as it would be if its user had what the plugin answered."""
        own = {key: value for key, value in self._user.items() if key != "exec"}
        users = [{**user, "user": {**own, **credential.user}} if user.get("name") == self._name else user for user in self.kubeconfig["users"]]
        return {**self.kubeconfig, "users": users}

    def _about_the_cluster(self) -> Body:
        about = {key: value for key, value in self._cluster.items() if key not in ("extensions", "certificate-authority")}
        if "certificate-authority" in self._cluster:
            with open(self._cluster["certificate-authority"], "rb") as file:
                about["certificate-authority-data"] = base64.b64encode(file.read()).decode()
        for extension in self._cluster.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                about["config"] = extension.get("extension")
        return about


def _read(answer: bytes, version: str, command: str) -> Credential:
    try:
        found = json.loads(answer)
        status = found["status"]
        if found["apiVersion"] != version:
            raise Failure(f"the credential plugin {command} answers in {found['apiVersion']}, the kubeconfig says {version}")
        user: Body = {}
        if status.get("token"):
            user["token"] = str(status["token"])
        elif status.get("clientCertificateData"):
            for key, mine in (("clientCertificateData", "client-certificate-data"), ("clientKeyData", "client-key-data")):
                user[mine] = base64.b64encode(status[key].encode()).decode()
        else:
            raise KeyError("token")
        end = status.get("expirationTimestamp")
        return Credential(user, _moment(end) if end else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Failure(f"the credential plugin {command} answered with no ExecCredential that has a token, or a certificate and its key "
                      f"({type(error).__name__})") from None


def _moment(text: str) -> datetime:
    """A time of RFC 3339; Python 3.9 knows neither Z nor every number of digits after the second."""
    return datetime.fromisoformat(re.sub(r"\.[0-9]+", "", text).replace("Z", "+00:00"))


def plugin_of(kubeconfig: Any, paths: str, context: Optional[str]) -> Optional[Plugin]:
    """The credential plugin that a kubeconfig's context asks for; None where it has none, or where something is wrong with the kubeconfig,
    which the kubernetes package then says.

    kubeconfig: its content, or None for that of the files.
    """
    try:
        merged = _merged(paths) if kubeconfig is None else kubeconfig
        chosen = _named(merged["contexts"], context or merged["current-context"])["context"]
        user = _named(merged["users"], chosen["user"])["user"]
        cluster = _named(merged["clusters"], chosen["cluster"])["cluster"]
        # What a user has beside it is used first, as by kubectl.
        if not isinstance(user["exec"], Mapping) or any(key in user for key in ("auth-provider", "token", "tokenFile")):
            return None
        return Plugin(merged, chosen["user"], user, cluster)
    except (KeyError, TypeError, AttributeError, ValueError, OSError):
        return None


def _named(entries: List[Body], name: str) -> Body:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _merged(paths: str) -> Body:
    """The files of a kubeconfig as one, each file's own paths made absolute. Of two entries with a name the first counts, and the last
    current-context, as in the kubernetes package."""
    import yaml

    merged: Body = {"clusters": [], "contexts": [], "users": []}
    for file in map(os.path.expanduser, paths.split(os.pathsep)):
        if not os.path.isfile(file):
            continue
        with open(file, "rb") as stream:
            try:
                content = yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            except yaml.YAMLError as error:
                raise ValueError(file) from error
        if "current-context" in content:
            merged["current-context"] = content["current-context"]
        for kind, inner in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
            known = {entry["name"] for entry in merged[kind]}
            merged[kind] += [{**entry, inner: _absolute(entry.get(inner) or {}, os.path.dirname(os.path.abspath(file)))}
                             for entry in content.get(kind) or () if entry["name"] not in known]
    return merged


def _absolute(entry: Body, folder: str) -> Body:
    entry = {key: os.path.join(folder, value) if key in FILES and value else value for key, value in entry.items()}
    if "exec" in entry and os.sep in entry["exec"]["command"]:
        entry["exec"] = {**entry["exec"], "command": os.path.join(folder, entry["exec"]["command"])}
    return entry
