# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Git and its helpers write when they fail, and what to tell a person then: a table."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import one_line


class KnownError(NamedTuple):
    patterns: Tuple[str, ...]  # one of them in what Git wrote
    what: str
    hint: str
    transient: bool = False
    refused: bool = False


NO_REPOSITORY = "there is no such repository, or it may not be seen with these credentials"

# The first row that matches is the answer, so what is more telling comes first.
KNOWN_ERRORS: Tuple[KnownError, ...] = (
    KnownError(
        (r"could not fetch [0-9a-f]+ from promisor remote", r"lazy fetching disabled", r"missing (blob|tree|commit) [0-9a-f]{40}"),
        "the repository is a clone that lacks objects (a partial clone)",
        "Give the repository that it was cloned from, or fetch all of it: git fetch --refetch --no-filter.",
    ),
    KnownError(
        (r"dubious ownership", r"unsafe repository"),
        "the repository belongs to another user, and Git refuses to read it",
        "Run as its owner, hand the folder over with chown, or read it over ssh or https.",
    ),
    KnownError(
        (r"transport '[^']*' not allowed", r"Protocol \S+ (not supported|disabled)", r"disabled in libcurl"),
        "the server sent us on to a transport that isn't allowed",
        "Give the repository's final URL.",
        refused=True,
    ),
    KnownError(
        (r"REMOTE HOST IDENTIFICATION HAS CHANGED", r"host key for .* has changed"),
        "the server's ssh host key isn't the one that is known: this may be an attack",
        "Ask the server's owner for its new key; only then replace it in git_ssh_known_hosts (or ~/.ssh/known_hosts).",
    ),
    KnownError(
        (r"Host key verification failed", r"No \S+ host key is known", r"key is not known by any other"),
        "the server's ssh host key isn't known",
        "Get it with ssh-keyscan, compare its fingerprint with the server's owner, and give the file as git_ssh_known_hosts.",
    ),
    KnownError(
        (r"UNPROTECTED PRIVATE KEY FILE", r"bad permissions"),
        "ssh refuses the private key since others can read it",
        "Make it readable for its owner alone: chmod 600.",
    ),
    KnownError(
        (r"Load key .*: (invalid format|error in libcrypto)", r"incorrect passphrase"),
        "ssh can't read the private key",
        "Give an OpenSSH private key without a passphrase as git_ssh_key, or load it into an agent.",
    ),
    KnownError(
        (r"could not read (Username|Password)", r"terminal prompts disabled"),
        "the server asks for a user name and password",
        "Give git_username and git_password (a token will do).",
    ),
    KnownError(
        (
            r"Authentication failed",
            r"Invalid username or (token|password)",
            r"HTTP Basic: Access denied",
            r"Permission denied \(",
            r"Too many authentication failures",
            r"returned error: 401",
        ),
        "the server refuses the credentials",
        "Check git_username and git_password, or git_ssh_key, and that they may read this repository.",
    ),
    KnownError(
        (r"returned error: 403", r"[Ff]orbidden"),
        "the server knows the user but forbids reading",
        "Give credentials that may read this repository.",
    ),
    KnownError(
        (r"SSL certificate", r"certificate verif", r"server verification failed", r"SSL_ERROR", r"unable to get local issuer"),
        "the server's TLS certificate can't be verified",
        "Give its certificate authority as git_ca_cert.",
    ),
    KnownError(
        (r"error setting certificate (file|verify locations)", r"problem with the SSL CA"),
        "the file of the certificate authority can't be used",
        "Give a PEM file as git_ca_cert.",
    ),
    KnownError(
        (
            r"Could not resolve (host|proxy)",
            r"Name or service not known",
            r"Temporary failure in name resolution",
            r"unable to look up",
            r"nodename nor servname",
        ),
        "the host's name can't be found",
        "Check the URL and this machine's name resolution.",
        transient=True,
    ),
    KnownError(
        (
            r"does not appear to be a git repository",
            r"[Rr]epository .*not found",
            r"access denied or repository not exported",
            r"returned error: 404",
            r"not valid: is this a git repository",
            r"Project not found",
            r"could not be found or you don't have permission",
            r"invalid gitfile format",
            r"not a git repository: [^'\n]",  # with quotes it is our own mirror, and damaged
        ),
        NO_REPOSITORY,
        "Check the URL, and the credentials.",
    ),
    KnownError(
        (r"'[^']*' is not a git command", r"git-upload-pack: (command )?not found"),
        "the server has no Git on it",
        "Install Git there, or give another URL.",
    ),
    KnownError(
        (r"No space left on device", r"Disk quota exceeded"),
        "there is no space left on the disk",
        "Make space in the folder git_cache, or give another.",
    ),
    KnownError(
        (r"[Oo]ut of memory", r"Cannot allocate memory", r"failed to (malloc|allocate)", r"unable to create thread"),
        "the repository sent an object that needs more memory than one fetch may take",
        "Keep large files elsewhere; nothing with manifests in it needs so much.",
        refused=True,
    ),
    KnownError(
        (r"File too large", r"died of signal 25"),
        "the repository sent more than one fetch may bring",
        "Split it, or keep large files elsewhere.",
        refused=True,
    ),
    KnownError(
        (
            r"Connection refused",
            r"Failed to connect",
            r"Couldn't connect",
            r"Could not connect",
            r"unable to connect",
            r"Network is unreachable",
            r"No route to host",
            r"[Cc]onnection timed out",
            r"Operation timed out",
            r"Connection closed by",
            r"Connection reset",
        ),
        "the server can't be reached",
        "Check the URL, the network and its proxy.",
        transient=True,
    ),
    KnownError(
        (
            r"returned error: (429|5\d\d)",
            r"early EOF",
            r"hung up",
            r"RPC failed",
            r"unexpected disconnect",
            r"transfer closed",
            r"Empty reply",
            r"[Oo]peration too slow",
            r"Broken pipe",
            r"protocol error",
            r"bad line length",
            r"expected flush",
            r"unexpected (flush|line|packet)",
            r"expected response end",
            r"GnuTLS recv",
            r"SSL_read",
        ),
        "the connection broke or the server failed",
        "Try again later; the server's own log says more.",
        transient=True,
    ),
)


def known_error(said: str) -> Optional[KnownError]:
    for row in KNOWN_ERRORS:
        if any(re.search(pattern, said) for pattern in row.patterns):
            return row
    return None


def error_text(said: str) -> str:
    """The telling lines of Git's standard error, as one."""
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    polite = ("Please make sure", "and the repository exists", "warning:", "hint:", "remote: Enumerating", "remote: Counting", "remote: Total")
    telling = [line for line in lines if not line.startswith(polite)]
    return one_line("; ".join(telling or lines))
