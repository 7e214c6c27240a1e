# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Git repository as the source of truth: revision to commit, commit to files, without a work tree and without trust.

    Source    where the repository is and how to get in, checked
    Mirror    its copy in the cache: resolve(revision) -> Commit, tree(commit, path) -> Tree
    Tree      one folder at one commit: files(), read(), export()

A repository is untrusted input. Nothing of it is ever executed or checked out by Git: no hook, no submodule, no filter,
no transport but the five in TRANSPORTS, no path or symbolic link that leads out of the folder asked for.

Who talks to Git: GitPython reads the objects (Tree). The few commands that resolve and fetch go through _Command instead:
GitPython adds its variables to a copy of the caller's whole environment, so a GIT_DIR or GIT_CONFIG_PARAMETERS of the caller
(a playbook run from a Git hook has them) would reach a command that carries credentials; its time-out leaves the helpers
that Git started (ssh, git-remote-https) alone; and importing it takes longer than everything an unchanged repository needs.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused

GIT_SPEC: Dict[str, Dict[str, Any]] = dict(
    repository=dict(type="str", required=True),
    revision=dict(type="str", default="HEAD"),
    git_username=dict(type="str"),
    git_password=dict(type="str", no_log=True),
    git_ssh_key=dict(type="path", no_log=False),
    git_ssh_known_hosts=dict(type="path"),
    git_ca_cert=dict(type="path"),
    verify_signatures=dict(type="bool", default=False),
    trusted_keys=dict(type="path", no_log=False),
    git_cache=dict(type="path"),
    git_timeout=dict(type="int", default=120),
)

TRANSPORTS = ("file", "git", "ssh", "http", "https")

# What a folder of manifests can sensibly need, and far below what would hurt the machine that reads it.
MAX_FILE_BYTES = 20 * 1024 * 1024  # the API server takes 3 MiB per object; the largest bundles of CRDs have about 10 MiB
MAX_TREE_BYTES = 512 * 1024 * 1024  # what one run reads or exports in all
MAX_FILES = 100_000  # 50,000 objects, a file each, twice over; also ends a tree that unfolds itself for ever
MAX_OUTPUT_BYTES = 64 * 1024 * 1024  # of one Git command: MAX_FILES lines of a listing with room to spare
MAX_PACK_BYTES = 2 * 1024 * 1024 * 1024  # of one fetch, on disk
MAX_PATH_BYTES = 4096  # PATH_MAX
MAX_PACKS = 50  # each fetch leaves one; a mirror with more is made anew, which is cheaper to get right than a garbage collection

ATTEMPTS = 3  # of a command that the network broke; what the server refused is not asked again
PAUSE = 0.5  # seconds before the second attempt, doubled before the third

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
)

# The caller's variables that a Git command may see. Any other GIT_, SSH_ or locale variable changes what Git does or says.
PASSED_ON = frozenset(
    "PATH HOME USER LOGNAME TMPDIR SSH_AUTH_SOCK KRB5CCNAME KRB5_CONFIG "
    "http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR".split()
)


# ---- what may be asked -----------------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_HELPER = re.compile(r"^[A-Za-z0-9+.-]*::")
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)$", re.DOTALL)
_SCP = re.compile(r"^(?:([A-Za-z0-9_][\w.+-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):(?!/?/)?(.+)$", re.DOTALL)
_HOST = re.compile(r"^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]{1,5})?$")
_FULL_COMMIT = re.compile(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")
_SHORT_COMMIT = re.compile(r"^[0-9a-f]{4,63}$")
_NOT_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def without_credentials(text: str, *secrets: Optional[str]) -> str:
    """The text with nothing of user:password@ in any URL, nor any of the secrets themselves, plain or percent-encoded."""
    text = re.sub(r"(https?://)[^\s'\"]*@", r"\1", text)
    text = re.sub(r"(://)[^\s/@'\"]*:[^\s/@'\"]*@", r"\1", text)
    for secret in secrets:
        if secret:
            text = text.replace(secret, "********")
            if not secret.isalnum():
                from urllib.parse import quote

                for encoded in {quote(secret, safe=""), quote(secret)} - {secret}:
                    text = text.replace(encoded, "********")
    return text


def one_line(text: str, limit: int = 300) -> str:
    """What a server or a commit says, fit to be printed: no control characters, one line, not endless."""
    text = " ".join(_CONTROL.sub(" ", text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def checked_revision(revision: Optional[str]) -> str:
    """A branch, tag, commit or HEAD, by the rules of git check-ref-format; none of the operators of git rev-parse."""
    text = "HEAD" if revision is None else revision
    hint = "Write a branch, a tag, a full or short commit, or HEAD."
    if not text:
        raise Failure("the revision is empty", "revision", hint)
    shown = one_line(repr(text), 120)
    if text.startswith("-"):
        raise Refused(f"the revision {shown} starts with a dash, so Git would read it as an option", "revision", hint)
    components = text.split("/")
    if (
        _NOT_IN_A_REF.search(text)
        or _CONTROL.search(text)
        or text == "@"
        or text.endswith(".")
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in components)
        or len(text.encode("utf-8", "replace")) > 1024
    ):
        raise Refused(f"the revision {shown} can't be the name of a branch or tag, nor a commit", "revision", hint)
    return text


def checked_path(path: Optional[str]) -> str:
    """A path in the repository, "" for its root: relative, "/" separated, without any .. in it."""
    text = "." if path is None else path
    hint = "Write it relative to the repository's root, such as apps/web."
    if not text:
        raise Failure("the path is empty", "path", hint + ' The root itself is ".".')
    shown = one_line(repr(text), 120)
    if _CONTROL.search(text):
        raise Refused(f"the path {shown} has a control character in it", "path", hint)
    if text.startswith("/"):
        raise Refused(f"the path {shown} is absolute", "path", hint)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"the path {shown} has .. in it", "path", hint)
    if len(text.encode()) > MAX_PATH_BYTES:
        raise Refused(f"the path {shown} is longer than {MAX_PATH_BYTES} bytes", "path", hint)
    return "/".join(parts)


def checked_repository(repository: str) -> Tuple[str, Optional[str], Optional[str]]:
    """The URL without credentials, and the user name and password that stood in it."""
    text = repository or ""
    shown = one_line(without_credentials(text), 200)
    hint = "Write https://, ssh://, git:// or file:// and the rest, user@host:path, or an absolute path."
    if not text.strip():
        raise Failure("no repository is given", "repository", hint)
    if _CONTROL.search(text):
        raise Refused(f"the URL {shown!r} has a control character in it", "repository", hint)
    if text.startswith("-"):
        raise Refused(f"{shown!r} starts with a dash, so Git would read it as an option", "repository", hint)
    if _HELPER.match(text):
        raise Refused(
            f"{shown!r} names a transport helper, which could run any command", "repository", f"Only {', '.join(TRANSPORTS)} are taken."
        )
    url = _URL.match(text)
    if url:
        return _checked_url(url.group(1).lower(), url.group(2), shown, hint)
    if text.startswith("~/"):
        text = os.path.expanduser(text)
    if text.startswith("/"):
        return "file://" + text.replace("%", "%25").rstrip("/"), None, None
    scp = _SCP.match(text)
    if scp and not scp.group(3).startswith("-"):
        return text, scp.group(1), None
    raise Failure(f"{shown!r} is neither a URL nor an absolute path", "repository", hint)


def _checked_url(scheme: str, rest: str, shown: str, hint: str) -> Tuple[str, Optional[str], Optional[str]]:
    if scheme not in TRANSPORTS:
        raise Refused(f"the transport {one_line(scheme, 40)}:// isn't allowed", shown, f"Only {', '.join(TRANSPORTS)} are taken.")
    if scheme == "file":
        if not rest.startswith("/"):
            raise Failure("a file:// URL holds an absolute path and no host", shown, "Write file:///srv/git/repo.git.")
        return "file://" + (rest.rstrip("/") or "/"), None, None

    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    # Git decodes a percent sign after our checks, so a host may not hide a dash behind one.
    if not _HOST.match(host):
        raise Refused(f"the host in {shown} can't be read", "repository", hint)
    if not path.strip("/"):
        raise Failure(f"{shown} names a host but no repository on it", "repository", hint)
    if scheme in ("http", "https") and ("?" in path or "#" in path):
        raise Refused("a repository's URL has no query in it", shown.split("?")[0].split("#")[0], "Give a token as git_password.")
    username: Optional[str] = None
    password: Optional[str] = None
    if at:
        from urllib.parse import unquote

        name, colon, secret = userinfo.partition(":")
        username, password = unquote(name), unquote(secret) if colon else None
        if _CONTROL.search(username + (password or "")) or username.startswith("-"):
            raise Refused(f"the user name or password in the URL {shown} has a dash in front or a control character", "repository", hint)
        if scheme == "git":
            raise Failure("git:// knows no users", shown, "Leave out what stands before the @.")
        if scheme == "ssh":
            if colon:
                raise Failure("a password in an ssh:// URL is never used", shown, "Give a key as git_ssh_key, or load it into an agent.")
            host = f"{userinfo}@{host}"
    return f"{scheme}://{host}/{path.rstrip('/')}", username, password


def is_full_commit(revision: str) -> bool:
    return bool(_FULL_COMMIT.match(revision))


# ---- the source ------------------------------------------------------------------------------------------------------


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
            if text and _CONTROL.search(text):
                raise Failure(f"{name} has a line break or another control character in it", name, "Was it read from a file with its last line end?")
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
            cache=_cache_folder(params.get("git_cache")),
            timeout=timeout,
        )

    @property
    def secrets(self) -> Tuple[Optional[str], ...]:
        # A token alone in front of the @ is a user name by its place and a secret by its meaning.
        return (self.password, self.username if self.url.startswith("http") and not self.password else None)

    def environment(self) -> Dict[str, str]:
        """The whole environment of a Git command: credentials travel here, never in arguments or a stored configuration."""
        env = {name: value for name, value in os.environ.items() if name in PASSED_ON}
        env.update(
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
        return {**env, **_as_variables(settings)}

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


def _as_variables(settings: Sequence[Tuple[str, str]]) -> Dict[str, str]:
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
    if _CONTROL.search(full):
        raise Failure(f"{name} has a control character in its path", name)
    try:
        with open(full, "rb"):
            return full
    except OSError as error:
        raise Failure(f"{name} can't be read: {error.strerror}", full) from None


def _cache_folder(path: Optional[str]) -> str:
    if path:
        return os.path.abspath(os.path.expanduser(path))
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "nordic.gitops", "git")


# ---- one command -----------------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    status: int
    out: bytes
    err: str


class _Command:
    """Git commands in a sealed environment, each in a session of its own so that a time-out ends its helpers too."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._environment = source.environment()

    def __call__(self, folder: Optional[str], *arguments: str, feed: bytes = b"", **variables: str) -> _Answer:
        # Without a mirror GIT_DIR names none: Git must not find a repository in whatever folder the caller stands in.
        environment = {**self._environment, "GIT_DIR": folder or os.devnull, **variables}
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                env=environment,
                cwd=folder or "/",
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise Failure("the program git isn't installed", "git", "Install Git 2.32 or later where this runs.") from None
        with process:
            try:
                _limit_file_size(process.pid)
                if feed:
                    assert process.stdin is not None
                    try:
                        process.stdin.write(feed)
                        process.stdin.close()
                    except BrokenPipeError:
                        pass  # it ended before it read; its exit status says why
                out, err = self._collect(process, time.monotonic() + self._source.timeout)
                return _Answer(process.wait(), out, err.decode("utf-8", "replace"))
            except BaseException:
                _end(process)
                raise

    def _collect(self, process: subprocess.Popen[bytes], deadline: float) -> Tuple[bytes, bytes]:
        """Both outputs, neither of them endless: a server decides how much a command prints."""
        assert process.stdout is not None and process.stderr is not None
        out, err = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, out)
            selector.register(process.stderr, selectors.EVENT_READ, err)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._too_late()
                for key, _events in selector.select(left):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.data is err and len(err) > (1 << 16):
                        del err[: 1 << 15]
                        err += chunk
                    else:
                        key.data.extend(chunk)
                if len(out) > MAX_OUTPUT_BYTES:
                    raise Refused(f"Git's answer is longer than {MAX_OUTPUT_BYTES >> 20} MiB", self._source.url)
        try:
            process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            raise self._too_late() from None
        return bytes(out), bytes(err)

    def _too_late(self) -> Failure:
        return Failure(f"no answer within {self._source.timeout} seconds", self._source.url, "Check the network, or raise git_timeout.")


def _limit_file_size(pid: int) -> None:
    """No fetch fills the disk: the limit is inherited by whatever the command starts. Linux only, as prlimit is."""
    try:
        import resource

        resource.prlimit(pid, resource.RLIMIT_FSIZE, (MAX_PACK_BYTES, MAX_PACK_BYTES))
    except (ImportError, AttributeError, OSError, ValueError):
        pass  # another system, a lower hard limit that already holds, or a command that has ended


def _end(process: subprocess.Popen[bytes]) -> None:
    """First politely, so that Git removes its temporary files; the whole group, so that no helper stays."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except (ProcessLookupError, PermissionError):
            return
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            continue


# ---- what Git said, and what it means ------------------------------------------------------------------------------------


class _Meaning(NamedTuple):
    pattern: str  # in what Git wrote
    what: str
    hint: str
    transient: bool = False
    refused: bool = False


_NO_REPOSITORY = "there is no such repository, or it may not be seen with these credentials"

# The first row that matches is the answer, so what is more telling comes first.
MEANINGS: Tuple[_Meaning, ...] = (
    _Meaning(r"dubious ownership|unsafe repository", "the repository belongs to another user, and Git refuses to read it", "Run as its owner, hand the folder over with chown, or read it over ssh or https."),
    _Meaning(r"transport '[^']*' not allowed|Protocol \S+ (not supported|disabled)|disabled in libcurl", "the server sent us on to a transport that isn't allowed", "Give the repository's final URL.", refused=True),
    _Meaning(r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed", "the server's ssh host key isn't the one that is known: this may be an attack", "Ask the server's owner for its new key; only then replace it in git_ssh_known_hosts (or ~/.ssh/known_hosts)."),
    _Meaning(r"Host key verification failed|No \S+ host key is known|key is not known by any other", "the server's ssh host key isn't known", "Get it with ssh-keyscan, compare its fingerprint with the server's owner, and give the file as git_ssh_known_hosts."),
    _Meaning(r"UNPROTECTED PRIVATE KEY FILE|bad permissions", "ssh refuses the private key since others can read it", "Make it readable for its owner alone: chmod 600."),
    _Meaning(r"Load key .*: (invalid format|error in libcrypto)|incorrect passphrase", "ssh can't read the private key", "Give an OpenSSH private key without a passphrase as git_ssh_key, or load it into an agent."),
    _Meaning(r"could not read (Username|Password)|terminal prompts disabled", "the server asks for a user name and password", "Give git_username and git_password (a token will do)."),
    _Meaning(r"Authentication failed|Invalid username or (token|password)|HTTP Basic: Access denied|Permission denied \(|Too many authentication failures|returned error: 401", "the server refuses the credentials", "Check git_username and git_password, or git_ssh_key, and that they may read this repository."),
    _Meaning(r"returned error: 403|[Ff]orbidden", "the server knows the user but forbids reading", "Give credentials that may read this repository."),
    _Meaning(r"SSL certificate|certificate verif|server verification failed|SSL_ERROR|unable to get local issuer", "the server's TLS certificate can't be verified", "Give its certificate authority as git_ca_cert."),
    _Meaning(r"error setting certificate (file|verify locations)|problem with the SSL CA", "the file of the certificate authority can't be used", "Give a PEM file as git_ca_cert."),
    _Meaning(r"Could not resolve (host|proxy)|Name or service not known|Temporary failure in name resolution|unable to look up|nodename nor servname", "the host's name can't be found", "Check the URL and this machine's name resolution.", transient=True),
    _Meaning(r"does not appear to be a git repository|[Rr]epository .*not found|access denied or repository not exported|returned error: 404|not valid: is this a git repository|Project not found|could not be found or you don't have permission|not a git repository: '", _NO_REPOSITORY, "Check the URL, and the credentials."),
    _Meaning(r"'[^']*' is not a git command|git-upload-pack: (command )?not found", "the server has no Git on it", "Install Git there, or give another URL."),
    _Meaning(r"No space left on device|Disk quota exceeded", "there is no space left on the disk", "Make space in the folder git_cache, or give another."),
    _Meaning(r"File too large|file size limit|signal 25", f"the repository sent more than {MAX_PACK_BYTES >> 30} GiB", "Split it, or keep large files elsewhere.", refused=True),
    _Meaning(r"Connection refused|Failed to connect|Couldn't connect|Network is unreachable|No route to host|[Cc]onnection timed out|Operation timed out|unable to connect|Connection closed by|Connection reset|Could not connect", "the server can't be reached", "Check the URL, the network and its proxy.", transient=True),
    _Meaning(r"returned error: (429|5\d\d)|early EOF|hung up|RPC failed|unexpected disconnect|transfer closed|Empty reply|operation too slow|Operation too slow|Broken pipe|protocol error|bad line length|GnuTLS recv|SSL_read", "the connection broke or the server failed", "Try again later; the server's own log says more.", transient=True),
)


def meaning(said: str) -> Optional[_Meaning]:
    for row in MEANINGS:
        if re.search(row.pattern, said):
            return row
    return None


def words(said: str) -> str:
    """The telling lines of Git's standard error, as one."""
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    boring = ("Please make sure", "and the repository exists", "warning:", "hint:", "remote: Enumerating", "remote: Counting", "remote: Total")
    telling = [line for line in lines if not line.startswith(boring)]
    return one_line("; ".join(telling or lines))


# ---- what comes back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Commit:
    """What a revision resolved to."""

    id: str
    tree: str
    signer: Optional[str]  # who signed it, once verify_signatures asked and the key was trusted
    author: str  # "Name <address>"
    time: str  # when it was committed, ISO 8601 in UTC
    subject: str


class Entry(NamedTuple):
    """One file of a tree."""

    path: str  # relative to the tree
    mode: str  # "100644" or "100755"
    oid: str
    size: int


class Tree:
    """One folder at one commit. Its id is the id of that folder: same id, same content, whatever the commit."""

    def __init__(self, mirror: Mirror, commit: Commit, path: str, oid: str) -> None:
        self._mirror = mirror
        self.commit = commit
        self.path = path or "."
        self.id = oid
        self._entries: Optional[Dict[str, Entry]] = None
        self._refused: Dict[str, Failure] = {}

    def files(self) -> Iterator[Entry]:
        """Every file, by path. A submodule, or a link that leads out of the folder, is refused rather than left out:
        what such a place held before would otherwise look deleted."""
        entries = self._listing()
        for refusal in self._refused.values():
            raise refusal
        return iter(entries.values())

    def read(self, path: str) -> bytes:
        return next(self.read_many([path]))[1]

    def read_many(self, paths: Iterable[str]) -> Iterator[Tuple[str, bytes]]:
        """Each path with its content, in the order asked for; too large a file is refused before it is read."""
        total = 0
        for path in paths:
            entry = self._entry(checked_path(path))
            self._check_size(entry)
            total += entry.size
            if total > MAX_TREE_BYTES:
                raise Refused(f"the files hold more than {MAX_TREE_BYTES >> 20} MiB in all", self._where(""), "Set path to a smaller folder.")
            yield path, self._mirror.content(self.commit, entry.oid, entry.size, self._where(entry.path))

    def export(self, folder: str, within: str = ".") -> None:
        """Write the files into an empty or new folder, for programs that read from disk.

        Plain files only: a link becomes a copy of what it leads to. What files() refuses is refused here too,
        but only under `within`; elsewhere it is left out, as a tool that needs it will say by itself.
        """
        entries = self._listing()
        scope = checked_path(within)
        for path, refusal in self._refused.items():
            if _is_under(path, scope) or _is_under(scope, path):
                raise refusal
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.listdir(folder):
            raise Failure("the folder to write into isn't empty", folder)
        made: Set[str] = {""}
        for path, content in self.read_many(entries):
            parent = ""
            try:
                for part in path.split("/")[:-1]:
                    parent = f"{parent}/{part}" if parent else part
                    if parent not in made:
                        os.mkdir(os.path.join(folder, parent), 0o700)
                        made.add(parent)
                # O_EXCL: two names that are one on this disk (upper and lower case) must not overwrite each other.
                handle = os.open(os.path.join(folder, path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            except FileExistsError:
                raise Refused("two entries have the same name on this disk", self._where(path), "Rename one of them.") from None
            except OSError as error:
                raise Failure(f"the file can't be written: {error.strerror}", os.path.join(folder, path)) from None
            with os.fdopen(handle, "wb") as file:
                file.write(content)

    def _where(self, path: str) -> str:
        return "/".join(part for part in (self.path if self.path != "." else "", path) if part) or "."

    def _entry(self, path: str) -> Entry:
        entries = self._listing()
        if path in entries:
            return entries[path]
        for refused, refusal in self._refused.items():
            if _is_under(path, refused):
                raise refusal
        if any(name.startswith(path + "/") for name in entries) or not path:
            raise Failure("this is a folder, not a file", self._where(path))
        raise Failure("there is no such file", self._where(path), _did_you_mean(path, list(entries)), commit=self.commit.id)

    def _check_size(self, entry: Entry) -> None:
        if entry.size > MAX_FILE_BYTES:
            raise Refused(
                f"the file has {entry.size:,} bytes, more than the {MAX_FILE_BYTES:,} that a file of manifests may have",
                self._where(entry.path),
                "Split it, or keep it out of this folder.",
            )

    def _listing(self) -> Dict[str, Entry]:
        if self._entries is None:
            entries: Dict[str, Entry] = {}
            links: List[Entry] = []
            for entry in self._mirror.listing(self.commit, self.id):
                where = self._where(entry.path)
                _check_name(entry.path, where)
                if entry.path in entries or entry.path in self._refused:
                    raise Refused("the tree names this file twice, so what it holds depends on the reader", where)
                if entry.mode == "160000":
                    self._refused[entry.path] = Refused(
                        "this is a submodule, and submodules are not followed", where, "Copy its files into the repository."
                    )
                elif entry.mode == "120000":
                    links.append(entry)
                    entries[entry.path] = entry  # keeps its place in the order
                else:
                    entries[entry.path] = entry
            if links:
                entries = self._followed(entries, links)
            self._entries = entries
        return self._entries

    def _followed(self, entries: Dict[str, Entry], links: Sequence[Entry]) -> Dict[str, Entry]:
        """The entries with each link replaced by what it leads to inside this very folder, as Git itself works it out."""
        targets = self._mirror.follow(self.commit, self.id, [link.path for link in links])
        result: Dict[str, Entry] = {}
        found = dict(zip((link.path for link in links), targets))
        for path, entry in entries.items():
            if path not in found:
                result[path] = entry
                continue
            kind, oid, size = found[path]
            where = self._where(path)
            if kind == "blob":
                result[path] = Entry(path, "100644", oid, size)
            elif kind == "tree":
                self._spread(result, path, oid, where)
            elif kind == "loop":
                self._refused[path] = Refused("this symbolic link leads back to itself", where)
            elif kind == "symlink":
                self._refused[path] = Refused(
                    f"this symbolic link leads out of {self.path if self.path != '.' else 'the repository'}", where, "Put a copy of the file in its place."
                )
            else:
                self._refused[path] = Failure("this symbolic link leads to nothing", where, "Correct or remove it.")
        return result

    def _spread(self, result: Dict[str, Entry], path: str, oid: str, where: str) -> None:
        for entry in self._mirror.listing(self.commit, oid):
            _check_name(entry.path, where)
            inner = f"{path}/{entry.path}"
            if entry.mode in ("120000", "160000"):
                # A link to a folder that holds links again may unfold for ever; nobody has manifests that need it.
                self._refused[inner] = Refused("this symbolic link leads to a folder with links or submodules in it", where)
                continue
            result[inner] = entry._replace(path=inner)
            if len(result) > MAX_FILES:
                raise Refused(f"the tree has more than {MAX_FILES:,} files", self._where(""), "Set path to a smaller folder.")


def _is_under(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(folder + "/")


def _check_name(path: str, where: str) -> None:
    """Git stores what it is given: a tree made by hand can name .., an absolute path or a line break."""
    if _CONTROL.search(path):
        raise Refused(f"the file name {one_line(repr(path), 200)} is not plain UTF-8 text", "the repository's tree")
    if len(path.encode()) > MAX_PATH_BYTES or any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/")):
        raise Refused("no file may have such a path", one_line(where, 200))


def _did_you_mean(asked: str, names: Sequence[str], kind: str = "It has") -> str:
    import difflib

    near = difflib.get_close_matches(asked, names, n=3, cutoff=0.6)
    # A name given without its folder is the commonest slip of all.
    near += [name for name in names if name.rsplit("/", 1)[-1] == asked.rsplit("/", 1)[-1] and name not in near][:3]
    if near:
        return f"Did you mean {' or '.join(near[:3])}?"
    if not names:
        return ""
    return f"{kind} {', '.join(sorted(names)[:10])}{', …' if len(names) > 10 else ''}."


# ---- the mirror ------------------------------------------------------------------------------------------------------


class _Damaged(Exception):
    """The mirror can't be used, for a reason that isn't the server's: it is made anew."""


class Mirror:
    """The copy of one repository in the cache.

        <cache>/<hash of the URL>/lock       held by the one process that fetches
                                 /current    a link to the generation in use, replaced in one step
                                 /<name>     a generation: a bare repository; in-use is locked (shared) by each reader

    A generation is only ever added to. Whatever is wrong with it, the remedy is the same: fetch into a new one, switch the link,
    and remove the old one once no reader holds it. So a process killed at any moment leaves at worst a folder to sweep away.
    refs/commits/<id> says that this commit and all its files are there.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._git = _Command(source)
        self._home = os.path.join(source.cache, hashlib.sha256(source.url.encode()).hexdigest()[:32])
        self._folder = ""
        self._in_use: Optional[IO[bytes]] = None
        self._reader: Any = None

    # -- resolving

    def resolve(self, revision: Optional[str] = None) -> Commit:
        """The commit of a revision. Asks the server at most once when nothing has changed, and never for a full commit that is here."""
        asked = checked_revision(revision) if revision is not None else self.source.revision
        self._enter()
        if is_full_commit(asked):
            commit = self._commit(asked) if self._has(asked) else None
            if commit is None:
                self._fetch_commit(asked)
                commit = self._commit(asked)
        else:
            commit = self._resolve_name(asked)
        if commit is None:
            raise Failure(f"{asked} is there, but it is not a commit", self.source.url, "Give the id of a commit.")
        if self.source.verify_signatures:
            return self._verified(commit)
        return commit

    def _resolve_name(self, asked: str) -> Optional[Commit]:
        for _attempt in range(ATTEMPTS):
            ref, oid, tips = self._ask(asked)
            if not ref:
                oid = self._short_commit(asked, tips)
                return self._commit(oid)
            commit = self._commit(oid) if self._has(oid) else None
            if commit is None:
                try:
                    self._fetch([f"+{oid}:refs/commits/{oid}"], oid)
                except _Gone:
                    continue  # a push came between the two questions
                commit = self._commit(oid)
            return commit
        raise Failure(f"{asked} changes faster than it can be fetched", self.source.url, "Try again.")

    def _ask(self, asked: str) -> Tuple[str, str, Dict[str, str]]:
        """The ref that is meant and the object it points to; for what may be a short commit, all the refs as well."""
        maybe_short = bool(_SHORT_COMMIT.match(asked))
        if asked == "HEAD" or asked.startswith("refs/"):
            candidates = [asked]
        else:
            candidates = [f"refs/heads/{asked}", f"refs/tags/{asked}"]
        refs = self._refs([] if maybe_short else candidates)
        found = [name for name in candidates if name in refs]
        if len(found) > 1:
            raise Failure(
                f"{asked} is both a branch and a tag",
                self.source.url,
                f"Write {found[0]} ({refs[found[0]][:12]}) or {found[1]} ({refs[found[1]][:12]}).",
            )
        if found:
            return found[0], refs[found[0]], refs
        if maybe_short:
            return "", "", refs
        raise self._unknown(asked)

    def _refs(self, patterns: Sequence[str]) -> Dict[str, str]:
        try:
            answer = self._network(None, "ls-remote", "--", self.source.url, *patterns)
        except _Damaged as error:  # no mirror had a part in it: Git's own words are all there is
            raise Failure(f"git ls-remote failed: {error}", self.source.url) from None
        refs = {}
        for line in answer.out.decode("utf-8", "replace").splitlines():
            oid, _tab, name = line.partition("\t")
            if _FULL_COMMIT.match(oid) and not name.endswith("^{}"):
                refs[name] = oid
        return refs

    def _unknown(self, asked: str) -> Failure:
        refs = self._refs([])
        if not refs:
            return Failure("the repository is empty: it has no branch and no tag", self.source.url, "Push a commit to it.")
        if asked == "HEAD":
            what, names = "the repository's HEAD points to a branch that it does not have", [name.split("/", 2)[2] for name in refs if name.startswith("refs/heads/")]
            return Failure(what, self.source.url, _did_you_mean("main", names, "Name a revision; the branches are"), revision=asked)
        names = [name if asked.startswith("refs/") else name.split("/", 2)[-1] for name in refs if name.startswith(("refs/heads/", "refs/tags/"))]
        return Failure(f"there is no branch, tag or commit {asked}", self.source.url, _did_you_mean(asked, names, "There are"), revision=asked)

    def _short_commit(self, prefix: str, tips: Mapping[str, str]) -> str:
        """The one commit whose id begins so. Only the whole history can tell whether it is the only one, so it is fetched;
        not again while the server's branches and tags are where they were."""
        wanted = {name[len("refs/") :]: oid for name, oid in tips.items() if name.startswith(("refs/heads/", "refs/tags/"))}
        if not wanted:
            raise self._unknown(prefix)
        if self._history() != wanted:
            self._fetch(["+refs/heads/*:refs/history/heads/*", "+refs/tags/*:refs/history/tags/*"], "", whole=True)
        answer = self._git(self._folder, "rev-parse", f"--disambiguate={prefix}")
        ids = answer.out.decode().split()
        kinds = self._git(self._folder, "cat-file", "--batch-check=%(objecttype)", feed=answer.out).out.decode().split() if ids else []
        commits = [oid for oid, kind in zip(ids, kinds) if kind == "commit"]
        if not commits:
            raise self._unknown(prefix)
        if len(commits) > 1:
            raise Failure(f"{prefix} is the beginning of {len(commits)} commits", self.source.url, f"Give more of it: {', '.join(commits[:5])}.")
        self._note(commits[0])
        return commits[0]

    def _history(self) -> Dict[str, str]:
        """The branches and tags whose whole history the mirror has."""
        if not self._folder or os.path.exists(os.path.join(self._folder, "shallow")):
            return {}
        answer = self._git(self._folder, "for-each-ref", "--format=%(objectname) %(refname)", "refs/history")
        lines = (line.split(" ", 1) for line in answer.out.decode("utf-8", "replace").splitlines())
        return {name[len("refs/history/") :]: oid for oid, name in lines}

    def _fetch_commit(self, oid: str) -> None:
        """A commit by its id: most servers hand it out; from the others all branches and tags are fetched to look for it."""
        try:
            self._fetch([f"+{oid}:refs/commits/{oid}"], oid)
        except _Gone as gone:
            if gone.final:
                raise self._unknown(oid) from None
            self._fetch(["+refs/heads/*:refs/history/heads/*", "+refs/tags/*:refs/history/tags/*"], "", whole=True)
            if self._commit(oid) is None:
                raise self._unknown(oid) from None
            self._note(oid)

    def _note(self, oid: str) -> None:
        self._git(self._folder, "update-ref", f"refs/commits/{oid}", oid)

    def _has(self, oid: str) -> bool:
        return bool(self._folder) and os.path.exists(os.path.join(self._folder, "refs", "commits", oid))

    def _commit(self, oid: str) -> Optional[Commit]:
        """The commit as the mirror has it (a tag is followed to its commit); None where it isn't readable or no commit."""
        header, raw = self._raw_commit(oid)
        return _parse_commit(header, raw) if header else None

    def _raw_commit(self, oid: str) -> Tuple[str, bytes]:
        if not self._folder:
            return "", b""
        answer = self._git(self._folder, "cat-file", "--batch", feed=oid.encode() + b"^{commit}\n")
        header, _newline, rest = answer.out.partition(b"\n")
        fields = header.split()
        if answer.status or len(fields) != 3 or fields[1] != b"commit":
            return "", b""
        return fields[0].decode(), rest[: int(fields[2])]

    # -- fetching

    def _network(self, folder: Optional[str], *arguments: str) -> _Answer:
        """A command that talks to the server; tried again when the network, not the server's answer, was the trouble."""
        for attempt in range(ATTEMPTS):
            answer = self._git(folder, *arguments)
            if answer.status == 0:
                return answer
            row = meaning(answer.err)
            if row is None or not row.transient or attempt == ATTEMPTS - 1:
                break
            time.sleep(PAUSE * 2**attempt)
        return self._judged(answer, row)

    def _judged(self, answer: _Answer, row: Optional[_Meaning]) -> _Answer:
        said = without_credentials(words(answer.err), *self.source.secrets)
        if re.search(r"not our ref|unadvertised object|couldn't find remote ref|no such remote ref", answer.err):
            raise _Gone(final="not our ref" in answer.err)
        if row is None:
            if "shallow capabilities" in answer.err or "does not support shallow" in answer.err:
                raise _NoShallow
            raise _Damaged(said or f"git ended with status {answer.status}")
        failure = Refused if row.refused else Failure
        if self.source.url.startswith("file://") and row.what == _NO_REPOSITORY:
            row = row._replace(what="there is no Git repository at this path", hint="Check the path, and that this user may read it.")
        raise failure(row.what, self.source.url, row.hint, git=said)

    def _fetch(self, refspecs: Sequence[str], oid: str, whole: bool = False) -> None:
        """Fetch into the current generation, or into a new one where there is none, it is worn out, or it is damaged."""
        with self._alone():
            self._enter()
            # Another process may have fetched it while we waited; unless the very object is unreadable, there's nothing to do.
            if oid and self._has(oid) and self._commit(oid) is not None:
                return
            try:
                if self._folder and not self._worn() and not (oid and self._has(oid)):
                    return self._fetch_into(self._folder, refspecs, whole)
            except _Damaged:
                pass
            self._renew(refspecs, whole, oid)

    def _renew(self, refspecs: Sequence[str], whole: bool, oid: str) -> None:
        name = f"{time.time_ns():x}-{os.getpid()}"
        folder = os.path.join(self._home, name)
        try:
            self._create(folder, oid)
            self._fetch_into(folder, refspecs, whole)
        except _Damaged as damage:
            raise Failure(f"git fetch failed: {damage}", self.source.url) from None
        else:
            link = os.path.join(self._home, "current")
            _remove(link + ".new")
            os.symlink(name, link + ".new")
            os.replace(link + ".new", link)
            self._enter()
        finally:
            self._sweep()

    def _create(self, folder: str, oid: str) -> None:
        version = self._git(None, "version").out.decode("utf-8", "replace")
        numbers = re.search(r"(\d+)\.(\d+)", version)
        if not numbers or (int(numbers.group(1)), int(numbers.group(2))) < OLDEST_GIT:
            raise Failure(f"{one_line(version)} is too old", "git", f"Install Git {'.'.join(map(str, OLDEST_GIT))} or later where this runs.")
        os.mkdir(folder, 0o700)
        object_format = "sha256" if len(oid or self._any_oid()) == 64 else "sha1"
        answer = self._git(folder, "init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", "--", folder)
        if answer.status:
            raise Failure(f"the mirror can't be made: {words(answer.err)}", folder, "Check the folder git_cache.")
        with open(os.path.join(folder, "in-use"), "xb"):
            pass

    def _any_oid(self) -> str:
        """An object id of the repository, whose length tells how it hashes; asked only where no commit is known yet."""
        return next(iter(self._refs([]).values()), "")

    def _fetch_into(self, folder: str, refspecs: Sequence[str], whole: bool) -> None:
        # One commit without its history is all a reconcile reads. A mirror that has the history keeps it.
        empty = not os.path.exists(os.path.join(folder, "refs", "commits")) and not os.path.exists(os.path.join(folder, "refs", "history"))
        shallow = os.path.exists(os.path.join(folder, "shallow"))
        depth = ["--depth=2147483647"] if whole and shallow else ["--depth=1"] if not whole and (empty or shallow) else []
        arguments = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force", "--prune" if whole else "--no-prune"]
        try:
            self._network(folder, *arguments, *depth, "--", self.source.url, *refspecs)
        except _NoShallow:  # a server that speaks the dumb http protocol
            self._network(folder, *arguments, "--", self.source.url, *refspecs)

    def _worn(self) -> bool:
        try:
            return len(os.listdir(os.path.join(self._folder, "objects", "pack"))) > 3 * MAX_PACKS
        except OSError:
            return True

    # -- sharing the cache with other processes

    def _enter(self) -> None:
        """Hold on to the current generation, if there is one; whoever wants to remove it sees that."""
        for _race in range(10):
            try:
                name = os.readlink(os.path.join(self._home, "current"))
            except OSError:
                name = ""
            folder = os.path.join(self._home, name)
            if not re.match(r"^[0-9a-f]+-[0-9]+$", name):
                return self._hold("", None)
            if folder == self._folder:
                return None
            try:
                handle = open(os.path.join(folder, "in-use"), "rb")
            except OSError:
                return self._hold("", None)
            fcntl.flock(handle, fcntl.LOCK_SH)
            # The one who removes a generation takes in-use away first, under the lock: still there means it will stay.
            if os.path.exists(os.path.join(folder, "in-use")):
                return self._hold(folder, handle)
            handle.close()
        return self._hold("", None)

    def _hold(self, folder: str, handle: Optional[IO[bytes]]) -> None:
        self._reader = None
        if self._in_use:
            self._in_use.close()
        self._folder, self._in_use = folder, handle

    def close(self) -> None:
        """Let go of the mirror; it may be entered again."""
        self._hold("", None)

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only process that changes this mirror. The kernel lets go of the lock when a process dies, however it dies."""
        try:
            _private_folder(self.source.cache)
            _private_folder(self._home)
            handle = open(os.path.join(self._home, "lock"), "ab")
        except OSError as error:
            raise Failure(f"the cache can't be used: {error.strerror}", error.filename or self.source.cache, "Give a folder of your own as git_cache.") from None
        with handle:
            deadline = time.monotonic() + self.source.timeout
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        raise Failure(f"the mirror can't be locked: {error.strerror}", handle.name, "Give a folder on a local disk as git_cache.") from None
                if time.monotonic() > deadline:
                    raise Failure(
                        f"another process has been fetching this repository for more than {self.source.timeout} seconds",
                        self.source.url,
                        f"Wait for it to end, or raise git_timeout. The lock is {handle.name}.",
                    )
                time.sleep(0.05)
            yield

    def _sweep(self) -> None:
        """Remove every generation that is neither current nor held by a reader."""
        import shutil

        for name in os.listdir(self._home):
            folder = os.path.join(self._home, name)
            if name in ("lock", "current") or folder == self._folder or not os.path.isdir(folder):
                continue
            try:
                with open(os.path.join(folder, "in-use"), "rb") as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(os.path.join(folder, "in-use"))
            except FileNotFoundError:
                pass  # killed while it was made
            except OSError:
                continue  # somebody reads it
            # The Git of a killed process may still be writing there; what it leaves is swept by the next one.
            shutil.rmtree(folder, ignore_errors=True)

    # -- reading

    def tree(self, commit: Commit, path: Optional[str] = ".") -> Tree:
        """The folder `path` at that commit."""
        inside = checked_path(path)
        if not inside:
            return Tree(self, commit, "", commit.tree)
        kind, oid, _size = self.find(commit, inside)
        if kind != "tree":
            raise Failure("this is a file, not a folder", inside, commit=commit.id)
        return Tree(self, commit, inside, oid)

    def read(self, commit: Commit, path: str) -> bytes:
        """One file at that commit, without listing the folder around it."""
        inside = checked_path(path)
        kind, oid, size = self.find(commit, inside)
        if kind != "blob":
            raise Failure("this is a folder, not a file", inside or ".", commit=commit.id)
        folder, _slash, name = inside.rpartition("/")
        tree = Tree(self, commit, folder, commit.tree)
        tree._check_size(Entry(name, "100644", oid, size))
        return self.content(commit, oid, size, inside)

    def find(self, commit: Commit, path: str) -> Tuple[str, str, int]:
        """("tree" or "blob", id, size) of what is at that path, links followed inside the repository only."""
        inside = checked_path(path)
        ((kind, oid, size),) = self.follow(commit, commit.tree, [inside])
        if kind in ("tree", "blob"):
            return kind, oid, size
        if kind == "symlink":
            raise Refused("this path leads out of the repository through a symbolic link", inside, "Put a copy of the file in its place.")
        if kind == "loop":
            raise Refused("this symbolic link leads back to itself", inside)
        if kind in ("commit", "submodule"):
            raise Refused("this is a submodule, and submodules are not followed", inside, "Copy its files into the repository.")
        if kind == "dangling":
            raise Failure("this symbolic link leads to nothing", inside, "Correct or remove it.")
        raise Failure("there is no such file or folder", inside, self._nearby(commit, inside), commit=commit.id)

    def _nearby(self, commit: Commit, path: str) -> str:
        """What there is instead: names like it in the nearest folder that exists."""
        parts = path.split("/")
        for depth in range(len(parts) - 1, -1, -1):
            folder = "/".join(parts[:depth])
            ((kind, oid, _size),) = self.follow(commit, commit.tree, [folder])
            if kind == "tree":
                names = [entry.path for entry in self.listing(commit, oid, recurse=False)]
                names = [one_line(f"{folder}/{name}" if folder else name, 100) for name in names]
                asked = "/".join(parts[: depth + 1])
                return _did_you_mean(asked, names, f"{folder or 'The root'} has")
        return ""

    def follow(self, commit: Commit, tree: str, paths: Sequence[str]) -> List[Tuple[str, str, int]]:
        """(kind, id, size) for each path; kind is Git's own word where there is no such object: missing, symlink, loop, dangling, notdir."""
        result: List[Tuple[str, str, int]] = []
        # What is fed must fit into a pipe, since nothing is read from the command before all of it is written.
        for start in range(0, len(paths), 12):
            some = paths[start : start + 12]
            result += self._repaired(commit, lambda some=some: self._follow(tree, some))  # type: ignore[misc]
        return result

    def _follow(self, tree: str, paths: Sequence[str]) -> List[Tuple[str, str, int]]:
        feed = b"".join(f"{tree}:{path}\n".encode() for path in paths)
        answer = self._git(self._folder, "cat-file", "--batch-check", "--follow-symlinks", feed=feed)
        result: List[Tuple[str, str, int]] = []
        rest = answer.out
        while rest and len(result) < len(paths):
            line, _newline, rest = rest.partition(b"\n")
            fields = line.split()
            if len(fields) == 3 and _FULL_COMMIT.match(fields[0].decode("ascii", "replace")):
                result.append((fields[1].decode(), fields[0].decode(), int(fields[2])))
            elif line.endswith(b" missing"):
                result.append(("missing", "", 0))
            elif fields and fields[0] in (b"symlink", b"loop", b"dangling", b"notdir") and fields[1].isdigit():
                rest = rest[int(fields[1]) + 1 :]  # the rest of the link, which may hold a line break
                result.append((fields[0].decode(), "", 0))
            elif line.endswith(b" submodule"):
                result.append(("submodule", "", 0))
            else:
                raise _Damaged(words(answer.err) or line.decode("utf-8", "replace"))
        if len(result) < len(paths):
            raise _Damaged(words(answer.err))
        if all(kind == "missing" for kind, _oid, _size in result):
            self._check_tree(tree)
        return result

    def _check_tree(self, tree: str) -> None:
        """Git says missing of a path that isn't in the tree, and of a tree that isn't in the mirror."""
        if self._git(self._folder, "cat-file", "-t", tree).out != b"tree\n":
            raise _Damaged(f"the tree {tree} is missing")

    def listing(self, commit: Commit, tree: str, recurse: bool = True) -> Iterator[Entry]:
        """All the files of a tree, or with recurse=False its own entries, as they are stored: links and submodules too."""
        return iter(self._repaired(commit, lambda: self._listing(tree, recurse)))

    def _listing(self, tree: str, recurse: bool) -> List[Entry]:
        arguments = ["git", "ls-tree", "-z", "-l", "--full-tree", *(["-r"] if recurse else []), tree]
        process = self._gitpython().execute(arguments, as_process=True, env=self._for_reading())
        try:
            out = process.stdout.read(MAX_OUTPUT_BYTES + 1)
        finally:
            process.stdout.close()  # ends a listing that has more to say
        if len(out) > MAX_OUTPUT_BYTES or out.count(b"\0") > MAX_FILES:
            raise Refused(f"the tree has more than {MAX_FILES:,} files", self.source.url, "Set path to a smaller folder.")
        said = process.stderr.read().decode("utf-8", "replace")
        try:
            status = process.wait()
        except Exception as error:  # GitPython's own, which is not imported by name so that this file loads without it
            raise _Damaged(words(said) or words(str(error))) from None
        if status:
            raise _Damaged(words(said))
        entries = []
        for line in out.split(b"\0")[:-1]:
            facts, _tab, name = line.partition(b"\t")
            mode, _kind, oid, size = facts.decode().split()
            entries.append(Entry(name.decode("utf-8", "surrogateescape"), mode, oid, 0 if size == "-" else int(size)))
        return entries

    def content(self, commit: Commit, oid: str, size: int, where: str) -> bytes:
        """A blob's bytes, whose hash is compared with its id: Git does not do that when it reads a pack."""
        return self._repaired(commit, lambda: self._content(oid, size, where))

    def _content(self, oid: str, size: int, where: str) -> bytes:
        if self._reader is None:
            self._reader = self._gitpython().execute(
                ["git", "cat-file", "--batch"], as_process=True, istream=subprocess.PIPE, env=self._for_reading()
            )
        try:
            self._reader.stdin.write(oid.encode() + b"\n")
            self._reader.stdin.flush()
            header = self._reader.stdout.readline().split()
            if header != [oid.encode(), b"blob", str(size).encode()]:
                raise _Damaged(f"the object {oid} of {where} can't be read")
            content = self._reader.stdout.read(size + 1)[:size]
        except (OSError, _Damaged) as error:
            self._reader = None  # what it says next would answer another question
            raise _Damaged(str(error)) from None
        if _object_id(content, len(oid)) != oid:
            self._reader = None
            raise _Damaged(f"the object {oid} of {where} is damaged")
        return bytes(content)

    def _repaired(self, commit: Commit, work: Any) -> Any:
        """The work's result; when the mirror turns out to be damaged, it is made anew and the work done once more."""
        try:
            self._enter_for(commit)
            return work()
        except _Damaged:
            pass
        with self._alone():
            damaged, oid = self._folder, commit.id
            self._enter()
            try:
                if self._folder and self._folder != damaged:  # another process has been quicker
                    try:
                        return work()
                    except _Damaged:
                        pass
                self._renew([f"+{oid}:refs/commits/{oid}"], False, oid)
            except _Gone:
                raise Failure(f"the mirror is damaged, and the server no longer has the commit {oid}", self.source.url, "Name a revision that it has.") from None
        try:
            return work()
        except _Damaged as damage:
            raise Failure(f"the repository can't be read: {damage}", self.source.url, "Check it with git fsck.") from None

    def _enter_for(self, commit: Commit) -> None:
        if not self._folder:
            self._enter()
        if not self._folder:
            raise _Damaged("there is no mirror")

    def _gitpython(self) -> Any:
        try:
            import git
        except ImportError as error:
            raise Failure(f"the Python package GitPython can't be imported: {error}", "GitPython", "Install it where this runs: pip install GitPython.") from None
        return git.Git(self._folder)

    def _for_reading(self) -> Dict[str, str]:
        """GitPython adds these to the caller's environment; those that would lead it to other objects are overruled here."""
        nothing = dict.fromkeys(
            (name for name in os.environ if name.startswith("GIT_") and not name.startswith("GIT_PYTHON_")), ""
        )
        local = {
            "GIT_DIR": self._folder,
            "GIT_COMMON_DIR": self._folder,
            "GIT_OBJECT_DIRECTORY": os.path.join(self._folder, "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        for name in ("GIT_EXEC_PATH", "GIT_TRACE"):
            nothing.pop(name, None)
        return {**nothing, **_as_variables(SETTINGS), **local}

    # -- signatures

    def _verified(self, commit: Commit) -> Commit:
        from dataclasses import replace

        return replace(commit, signer=self._signer(commit))

    def _signer(self, commit: Commit) -> str:
        """Who signed it, by a key in trusted_keys; otherwise nobody gets past here."""
        assert self.source.trusted_keys
        _id, raw = self._raw_commit(commit.id)
        header = raw.partition(b"\n\n")[0]
        signature = re.search(rb"^gpgsig(?:-sha256)? -----BEGIN ([A-Z ]+)-----", header, re.MULTILINE)
        label = f"the commit {commit.id[:12]} by {commit.author}"
        if not signature:
            raise Refused(f"{label} is not signed", self.source.url, "Sign it with one of the trusted keys.", commit=commit.id)
        made_with = "ssh" if signature.group(1) == b"SSH SIGNATURE" else "gpg" if signature.group(1).startswith(b"PGP") else ""
        trusted = _kind_of_keys(self.source.trusted_keys)
        if made_with != trusted:
            raise Refused(
                f"{label} is signed with {'an ssh key' if made_with == 'ssh' else 'a GPG key' if made_with else 'neither a GPG nor an ssh key'}, "
                f"but trusted_keys holds {'ssh' if trusted == 'ssh' else 'GPG'} keys",
                self.source.url,
                "Give keys of the same kind as trusted_keys.",
                commit=commit.id,
            )
        signer, complaint = self._ssh_signer(commit.id) if made_with == "ssh" else self._gpg_signer(commit.id)
        if not signer:
            raise Refused(f"{label} {complaint}", self.source.url, f"The trusted keys are in {self.source.trusted_keys}.", commit=commit.id)
        return signer

    def _ssh_signer(self, oid: str) -> Tuple[str, str]:
        keys = _as_variables([*SETTINGS, ("gpg.ssh.allowedSignersFile", str(self.source.trusted_keys))])
        answer = self._git(self._folder, "verify-commit", "--raw", oid, **keys)
        good = re.search(r'^Good "git" signature for (.+) with (\S+) key (\S+)$', answer.err, re.MULTILINE)
        if answer.status == 0 and good:
            return one_line(f"{good.group(1)} {good.group(3)}"), ""
        if "cannot run ssh-keygen" in answer.err:
            raise Failure("the program ssh-keygen isn't installed", "ssh-keygen", "Install OpenSSH 8.2 or later where this runs.")
        key = re.search(r'^Good "git" signature with (\S+) key (\S+)$', answer.err, re.MULTILINE)
        if key:
            return "", f"is signed by the {key.group(1)} key {key.group(2)}, which is not trusted"
        return "", f"has a signature that can't be verified: {words(answer.err)}"

    def _gpg_signer(self, oid: str) -> Tuple[str, str]:
        import shutil
        import tempfile

        # A key ring of its own: neither the user's keys nor his trust count, only the file.
        ring = tempfile.mkdtemp(prefix="keys-")
        try:
            trusted = self._import_keys(ring)
            answer = self._git(self._folder, "verify-commit", "--raw", oid, GNUPGHOME=ring)
        finally:
            shutil.rmtree(ring, ignore_errors=True)
        status: Dict[str, List[str]] = {}
        for line in answer.err.splitlines():
            if line.startswith("[GNUPG:] "):
                word, *rest = line[len("[GNUPG:] ") :].split(" ")
                status.setdefault(word, rest)
        # The last field of VALIDSIG is the primary key's fingerprint, whichever subkey signed.
        if answer.status == 0 and "GOODSIG" in status and status.get("VALIDSIG", [""])[-1] in trusted:
            return one_line(f"{' '.join(status['GOODSIG'][1:])} {status['VALIDSIG'][-1]}"), ""
        for word, complaint in (
            ("REVKEYSIG", "is signed by a key that was revoked"),
            ("EXPKEYSIG", "is signed by a key that has expired"),
            ("EXPSIG", "has a signature that has expired"),
            ("BADSIG", "has a signature that does not fit its content"),
        ):
            if word in status:
                return "", f"{complaint}: {one_line(' '.join(status[word][1:]) or status[word][0])}"
        for word in ("NO_PUBKEY", "ERRSIG", "VALIDSIG"):
            if word in status:
                return "", f"is signed by the GPG key {status[word][0]}, which is not trusted"
        if "cannot run gpg" in answer.err:
            raise _NO_GPG
        return "", f"has a signature that can't be verified: {words(answer.err)}"

    def _import_keys(self, ring: str) -> Set[str]:
        command = ["gpg", "--homedir", ring, "--batch", "--no-autostart", "--status-fd", "1", "--import", "--", str(self.source.trusted_keys)]
        environment = {**self._git._environment, "GNUPGHOME": ring}
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.source.timeout, check=False)
        except FileNotFoundError:
            raise _NO_GPG from None
        except subprocess.TimeoutExpired:
            raise Failure(f"gpg did not end within {self.source.timeout} seconds", str(self.source.trusted_keys)) from None
        prints = set(re.findall(r"^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]+)$", done.stdout.decode("utf-8", "replace"), re.MULTILINE))
        if not prints:
            raise Failure("trusted_keys holds no GPG public key", str(self.source.trusted_keys), "Make the file with gpg --export --armor.")
        return prints


_NO_GPG = Failure("the program gpg isn't installed", "gpg", "Install GnuPG where this runs.")


class _Gone(Exception):
    """The server has no such object, or (final=False) does not hand it out by its id."""

    def __init__(self, final: bool) -> None:
        super().__init__("not available")
        self.final = final


class _NoShallow(Exception):
    """The server can't send a commit without its history."""


def _parse_commit(oid: str, raw: bytes) -> Commit:
    header, _blank, message = raw.partition(b"\n\n")
    facts: Dict[str, str] = {}
    for line in header.decode("utf-8", "replace").splitlines():
        key, _space, value = line.partition(" ")
        facts.setdefault(key, value)
    author = facts.get("author", "").rpartition(">")[0] + ">"
    seconds = facts.get("committer", "").rpartition(">")[2].split()
    stamp = min(int(seconds[0]), 253402300799) if seconds and seconds[0].isdigit() else 0
    first = message.decode("utf-8", "replace").strip().split("\n", 1)[0]
    return Commit(
        id=oid,
        tree=facts.get("tree", ""),
        signer=None,
        author=one_line(author, 200),
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp)),
        subject=one_line(first, 200),
    )


def _object_id(content: bytes, digits: int) -> str:
    digest = hashlib.sha256() if digits == 64 else hashlib.sha1(usedforsecurity=False)  # usedforsecurity: Git's ids, on a FIPS machine too
    digest.update(b"blob %d\0" % len(content))
    digest.update(content)
    return digest.hexdigest()


def _kind_of_keys(path: str) -> str:
    """What the file holds: "gpg" (armoured, or binary, whose first byte has its top bit set, or a key box) or "ssh"."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if b"-----BEGIN PGP" in start or start[:1] >= b"\x80" or start[8:12] == b"KBXf":
        return "gpg"
    return "ssh"


def _private_folder(path: str) -> None:
    """Make the folder, or make sure that nobody else could have put something into it."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    facts = os.stat(path)
    if facts.st_uid not in (os.geteuid(), 0):
        raise Refused(f"the cache belongs to another user (uid {facts.st_uid})", path, "Give a folder of your own as git_cache.")
    if facts.st_mode & 0o022:
        raise Refused("the cache can be written by other users", path, "Give a folder of your own as git_cache, or chmod it to 0700.")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
