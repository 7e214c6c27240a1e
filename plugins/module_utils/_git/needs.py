# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Git has to reach on this machine to talk to one server: a repository on the disk, certificates, tickets, and the files of ssh."""

from __future__ import annotations

import os
import shlex
from typing import Iterator, List, Mapping, NamedTuple, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import Source

ALTERNATES = 10  # repositories that borrow objects of one another
# The values of `ssh -G` that are files, however the user's own configuration names them.
_SSH_FILES = frozenset("identityfile certificatefile userknownhostsfile globalknownhostsfile identityagent revokedhostkeys pkcs11provider "
                       "securitykeyprovider".split())


class Needs(NamedTuple):
    execute: List[str]
    read: List[str]


def of(source: Source, environment: Mapping[str, str]) -> Needs:
    scheme, separator, rest = source.url.partition("://")
    if scheme == "file":
        if "%" in rest:  # most paths have none, and the import takes longer than the rest
            from urllib.parse import unquote

            rest = unquote(rest)
        return Needs([], repository(rest))
    read = [path for path in (source.ca_cert, environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")) if path]
    if scheme in ("http", "https"):
        return Needs([], [*read, *_kerberos(environment)])
    if scheme == "git" and separator:
        return Needs([], [])
    return _ssh(source, environment)


def repository(path: str) -> List[str]:
    """All the folders that a repository on the disk is made of: a work tree may have its repository elsewhere, and that may borrow objects."""
    return [*dict.fromkeys(folder for found in _repository(path) for folder in (found, os.path.realpath(found)))]


def _repository(path: str) -> Iterator[str]:
    todo, seen = [path, f"{path}.git"], 0
    while todo and seen < ALTERNATES:
        here = os.path.realpath(todo.pop(0))
        seen += 1
        yield here
        if os.path.isfile(f"{here}/.git"):  # a work tree, or a submodule
            todo += [os.path.join(here, line[len("gitdir: "):]) for line in _lines(f"{here}/.git") if line.startswith("gitdir: ")]
        for home in (here, f"{here}/.git"):
            todo += [os.path.join(home, line) for line in _lines(f"{home}/commondir")]
            objects = f"{home}/objects"
            borrowed = [os.path.normpath(os.path.join(objects, line)) for line in _lines(f"{objects}/info/alternates") if not line.startswith("#")]
            # Only what looks like a store of objects: a repository must not open the rest of the machine to what it makes of Git.
            todo += [os.path.dirname(each) for each in borrowed if os.path.basename(each) == "objects" and os.path.isdir(f"{each}/pack")]


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in file.read(1 << 16).splitlines() if line and "\0" not in line]
    except OSError:
        return []


def _kerberos(environment: Mapping[str, str]) -> List[str]:
    caches = environment.get("KRB5CCNAME") or f"FILE:/tmp/krb5cc_{os.geteuid()}"
    kind, separator, path = caches.partition(":")
    files = [path if separator else caches] if not separator or kind in ("FILE", "DIR") else []
    return [*files, *filter(None, environment.get("KRB5_CONFIG", "").split(":")), "/var/lib/sss/pubconf"]


def _ssh(source: Source, environment: Mapping[str, str]) -> Needs:
    """The user's ~/.ssh/config stays in force, and names files anywhere. ssh itself says which, by the rules that it follows."""
    import pwd
    import shutil

    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = "/"  # a user without a name, for whom ssh does nothing but say so
    read = [os.path.join(home, ".ssh"), *filter(None, (source.ssh_key, source.ssh_known_hosts, environment.get("SSH_AUTH_SOCK"))), *_kerberos(environment)]
    program = shutil.which("ssh", path=environment.get("PATH"))
    execute = [os.path.realpath(program)] if program else []
    for name, value in _configuration(environment, source.url) if program else ():
        if name in _SSH_FILES:
            read += [each for each in (_expanded(word, home) for word in _words(value)) if each.startswith("/")]
        elif name == "proxycommand" and value != "none":
            # A program of the user's own choice: what it reads nobody knows but its user.
            execute += [home, "/opt", "/snap"]
    return Needs(execute, read)


def _configuration(environment: Mapping[str, str], url: str) -> Iterator[Sequence[str]]:
    """The (name, value) lines of `ssh -G` for this server."""
    authority = url.partition("://")[2].partition("/")[0] if "://" in url else url.partition(":")[0]
    host, colon, port = authority.rpartition(":") if authority.rpartition(":")[2].isdigit() else (authority, "", "")
    user, at, name = host.rpartition("@")
    command = [*shlex.split(environment["GIT_SSH_COMMAND"]), *(["-p", port] if colon else []), "-G", "--", f"{user}{at}{name.strip('[]')}"]
    # The user's own configuration may run programs (Match exec), so ssh is not shut in here: like each fetch by ssh, it does what it says there.
    policy = _sandbox.Policy(program=command[0], protections=(), allowed=True, limits=_sandbox.Limits(seconds=20, output=1 << 20))
    try:
        said = _sandbox.run(command, policy, "/", environment).out
    except (OSError, Failure):
        return
    for line in said.decode("utf-8", "surrogateescape").splitlines():
        key, _space, value = line.partition(" ")
        yield key.lower(), value


def _words(value: str) -> List[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return [value]


def _expanded(word: str, home: str) -> str:
    if word.startswith("~/"):
        return os.path.join(home, word[2:])
    return word.replace("%d", home)
