# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a repository is and how to get in: the options, and the isolated environment that they make for Git."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._cache import cache_folder
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import TRANSPORTS, checked_repository, checked_revision
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import CONTROL, UrlType, one_line, register, register_login

GIT_SPEC: Dict[str, Dict[str, Any]] = dict(
    repository=dict(type=UrlType("str"), required=True),
    revision=dict(type="str", default="HEAD"),
    git_username=dict(type="str"),
    git_password=dict(type="str", no_log=True),
    git_ssh_key=dict(type="path", no_log=False),
    git_ssh_known_hosts=dict(type="path"),
    git_ca_cert=dict(type="path"),
    verify_signatures=dict(type="bool", default=False),
    trusted_keys=dict(type="path", no_log=False),
    reachable_from=dict(type="str"),
    git_cache=dict(type="path"),
    git_timeout=dict(type="int", default=120),
    allow_unsandboxed=dict(type="list", elements="str", default=[]),
)

OLDEST_GIT = (2, 32)  # the first that knows GIT_CONFIG_GLOBAL; GIT_CONFIG_COUNT came with 2.31

# Every command of ours runs with exactly this configuration; no file of the system, the user or the repository adds to it.
SETTINGS: Tuple[Tuple[str, str], ...] = (
    ("protocol.allow", "never"),
    *((f"protocol.{name}.allow", "always") for name in TRANSPORTS),
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    # A pack appears whole or not at all. Loose objects would appear one by one: a killed fetch could leave a commit without its tree.
    ("fetch.unpackLimit", "1"),
    ("transfer.unpackLimit", "1"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("transfer.bundleURI", "false"),
    # fsckObjects stays off: it refuses old, harmless repositories, and what it protects, a checkout by Git, never happens here.
    # index-pack checks every object's id anyway, and Tree checks each name, mode and size that it uses.
    ("transfer.fsckObjects", "false"),
    # A stalled transfer ends after half a minute, long before git_timeout.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
    ("core.commitGraph", "false"),
    # Mirror follows a redirect itself, and within the host alone.
    ("http.followRedirects", "false"),
    # What one fetch may have in memory: large blobs are streamed, and what deltas are made of is not kept.
    ("core.bigFileThreshold", "16m"),
    ("core.deltaBaseCacheLimit", "32m"),
    ("pack.threads", "1"),
)

# The caller's variables that a Git command may see. Any other GIT_, SSH_ or locale variable changes what Git does or says.
# HOME is not among them: Git would send what ~/.netrc has for a host, and after a redirect for the next one. ssh finds its own files without it.
PASSED_ON = frozenset(
    "PATH USER LOGNAME TMPDIR SSH_AUTH_SOCK KRB5CCNAME KRB5_CONFIG "
    "http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR".split()
)


@dataclass(frozen=True)
class Source:
    """Where a repository is and how to get in. Holds secrets, so it never prints them."""

    url: str  # without user name and password
    revision: str = "HEAD"
    username: Optional[str] = field(default=None, repr=False)
    password: Optional[str] = field(default=None, repr=False)
    ssh_key: Optional[str] = None
    ssh_known_hosts: Optional[str] = None
    ca_cert: Optional[str] = None
    verify_signatures: bool = False
    trusted_keys: Optional[str] = None
    cache: str = ""
    timeout: int = 120
    reachable_from: str = ""
    allow_unsandboxed: Tuple[str, ...] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Source:
        """From options named as in GIT_SPEC, all checked; nothing is contacted."""
        url, username, password = checked_repository(params["repository"])
        username = params.get("git_username") or username
        password = params.get("git_password") or password
        if not url.startswith(("http://", "https://")):
            if params.get("git_password"):
                raise Failure("git_password is for http and https", url, "For ssh give git_ssh_key, or load the key into an agent.")
            url = _with_user(url, params.get("git_username"))
        for name, text in (("git_username", username), ("git_password", password)):
            if text and CONTROL.search(text):
                raise Failure(f"{name} has a line break or another control character in it", name, "Was it read from a file with its last line end?")
        register_login(username, password)
        if url.startswith("http") and not password:
            register(username)  # a token alone in front of the @ is a user name by its place and a secret by its meaning
        files = {}
        for name in ("git_ssh_key", "git_ssh_known_hosts", "git_ca_cert", "trusted_keys"):
            files[name] = _readable(name, params.get(name))
        if params.get("verify_signatures") and not files["trusted_keys"]:
            raise Failure(
                "verify_signatures needs trusted_keys",
                "trusted_keys",
                "Give a file of GPG public keys, or an allowed signers file for ssh keys (see ssh-keygen, ALLOWED SIGNERS).",
            )
        timeout = int(params.get("git_timeout") or 120)
        if timeout < 1:
            raise Failure(f"git_timeout is {timeout}, it must be at least 1 second", "git_timeout")
        return cls(
            url=url,
            revision=checked_revision(params.get("revision")),
            username=username,
            password=password,
            ssh_key=files["git_ssh_key"],
            ssh_known_hosts=files["git_ssh_known_hosts"],
            ca_cert=files["git_ca_cert"],
            verify_signatures=bool(params.get("verify_signatures")),
            trusted_keys=files["trusted_keys"],
            cache=cache_folder(params.get("git_cache")),
            timeout=timeout,
            reachable_from=checked_revision(params["reachable_from"], "reachable_from") if params.get("reachable_from") else "",
            allow_unsandboxed=tuple(params.get("allow_unsandboxed") or ()),
        )

    @property
    def secrets(self) -> Tuple[Optional[str], ...]:
        # A token alone in front of the @ is a user name by its place and a secret by its meaning.
        return (self.password, self.username if self.url.startswith("http") and not self.password else None)

    def environment(self) -> Dict[str, str]:
        """The whole environment of a Git command: credentials travel here, never in arguments or a stored configuration."""
        env = {name: value for name, value in os.environ.items() if name in PASSED_ON}
        env.update(
            HOME=os.devnull,
            LC_ALL="C",
            LANGUAGE="C",
            GIT_CONFIG_NOSYSTEM="1",
            GIT_CONFIG_SYSTEM=os.devnull,
            GIT_CONFIG_GLOBAL=os.devnull,
            GIT_ATTR_NOSYSTEM="1",
            GIT_TERMINAL_PROMPT="0",
            GIT_ALLOW_PROTOCOL=":".join(TRANSPORTS),
            GIT_NO_REPLACE_OBJECTS="1",
            GIT_NO_LAZY_FETCH="1",
            GIT_OPTIONAL_LOCKS="0",
            GIT_SSH_COMMAND=shlex.join(self._ssh()),
            GIT_SSH_VARIANT="ssh",
            SSH_ASKPASS_REQUIRE="never",
        )
        settings = list(SETTINGS)
        if self.ca_cert:
            settings.append(("http.sslCAInfo", self.ca_cert))
        if self.password or (self.username and self.url.startswith("http")):
            # Asked only for this one server: a redirect to another host or from https to http gets nothing.
            origin = "/".join(self.url.split("/")[:3])
            settings.append((f"credential.{origin}.helper", _CREDENTIAL_HELPER))
            env[_USERNAME] = self.username or "git"
            env[_PASSWORD] = self.password or ""
        return {**env, **as_variables(settings)}

    def _ssh(self) -> List[str]:
        # The user's ~/.ssh/config stays in force (aliases, ProxyJump) but for what would ask, forward, or trust a stranger.
        command = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oUpdateHostKeys=no", "-oConnectTimeout=20"]
        command += ["-oServerAliveInterval=10", "-oServerAliveCountMax=3", "-oForwardAgent=no", "-oForwardX11=no"]
        command += ["-oClearAllForwardings=yes", "-oPermitLocalCommand=no", "-oControlMaster=no"]
        if self.ssh_key:
            command += ["-oIdentitiesOnly=yes", "-oIdentityFile=" + _ssh_word(self.ssh_key)]
        if self.ssh_known_hosts:
            command += ["-oUserKnownHostsFile=" + _ssh_word(self.ssh_known_hosts), f"-oGlobalKnownHostsFile={os.devnull}"]
        return command


_USERNAME = "NORDIC_GITOPS_GIT_USERNAME"
_PASSWORD = "NORDIC_GITOPS_GIT_PASSWORD"
# Run by Git through sh; it names the variables, so neither its own text nor any argument holds a secret.
_CREDENTIAL_HELPER = f'!f() {{ test "$1" = get || exit 0; printf "username=%s\\npassword=%s\\n" "${_USERNAME}" "${_PASSWORD}"; }}; f'


def as_variables(settings: Sequence[Tuple[str, str]]) -> Dict[str, str]:
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def _ssh_word(path: str) -> str:
    """A path as a value of ssh -o: percent signs are tokens there, spaces separate, quotes quote."""
    return '"' + path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"') + '"'


def _with_user(url: str, username: Optional[str]) -> str:
    if not username or url.startswith("file://"):
        return url
    if url.startswith("git://"):
        raise Failure("git:// knows no users", url, "Leave out git_username.")
    if username.startswith("-") or not re.match(r"^[\w.+-]+$", username):
        raise Refused(f"git_username {one_line(username, 60)!r} can't be a user name for ssh", "git_username")
    scheme, separator, rest = url.rpartition("://")
    host = rest.split("/")[0]
    return url if "@" in host else f"{scheme}{separator}{username}@{rest}"


def _readable(name: str, path: Optional[str]) -> Optional[str]:
    if not path:
        return None
    full = os.path.abspath(os.path.expanduser(path))
    if CONTROL.search(full):
        raise Failure(f"{name} has a control character in its path", name)
    try:
        with open(full, "rb"):
            return full
    except OSError as error:
        raise Failure(f"{name} can't be read: {error.strerror}", full) from None
