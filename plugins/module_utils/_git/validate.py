# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revisions, paths and URLs that come from outside, checked before Git sees them."""

from __future__ import annotations

import os
import re
from typing import Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import MAX_PATH_BYTES
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import CONTROL, full_url, one_line, url as with_secrets_known, without_credentials

TRANSPORTS = ("file", "git", "ssh", "http", "https")

_HELPER = re.compile(r"^[A-Za-z0-9+.-]*::")
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)$", re.DOTALL)
_SCP = re.compile(r"^(?:([A-Za-z0-9_][\w.+-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):(?!/?/)?(.+)$", re.DOTALL)
_HOST = re.compile(r"^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]{1,5})?$")
FULL_COMMIT = re.compile(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")
SHORT_COMMIT = re.compile(r"^[0-9a-f]{4,63}$")
_NOT_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def checked_revision(revision: Optional[str], option: str = "revision") -> str:
    """A branch, tag, commit or HEAD, by the rules of git check-ref-format; none of the operators of git rev-parse."""
    text = "HEAD" if revision is None else revision
    hint = "Write a branch, a tag, a full or short commit, or HEAD."
    if not text:
        raise Failure(f"the {option} is empty", option, hint)
    shown = one_line(repr(text), 120)
    if text.startswith("-"):
        raise Refused(f"the {option} {shown} starts with a dash, so Git would read it as an option", option, hint)
    components = text.split("/")
    if (
        _NOT_IN_A_REF.search(text)
        or CONTROL.search(text)
        or text == "@"
        or text.endswith(".")
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in components)
        or len(text.encode("utf-8", "replace")) > 1024
    ):
        raise Refused(f"the {option} {shown} can't be the name of a branch or tag, nor a commit", option, hint)
    return text


def checked_path(path: Optional[str]) -> str:
    """A path in the repository, "" for its root: relative, "/" separated, without any .. in it."""
    text = "." if path is None else path
    hint = "Write it relative to the repository's root, such as apps/web."
    if not text:
        raise Failure("the path is empty", "path", hint + ' The root itself is ".".')
    shown = one_line(repr(text), 120)
    if CONTROL.search(text):
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
    text = full_url(with_secrets_known(repository or ""))
    shown = one_line(without_credentials(text), 200)
    hint = "Write https://, ssh://, git:// or file:// and the rest, user@host:path, or an absolute path."
    if not text.strip():
        raise Failure("no repository is given", "repository", hint)
    if CONTROL.search(text):
        raise Refused(f"the URL {shown!r} has a control character in it", "repository", hint)
    if text.startswith("-"):
        raise Refused(f"{shown!r} starts with a dash, so Git would read it as an option", "repository", hint)
    if _HELPER.match(text):
        raise Refused(f"{shown!r} names a transport helper, which could run any command", "repository", f"Only {', '.join(TRANSPORTS)} are taken.")
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
        if CONTROL.search(username + (password or "")) or username.startswith("-"):
            raise Refused(f"the user name or password in the URL {shown} has a dash in front or a control character", "repository", hint)
        if scheme == "git":
            raise Failure("git:// knows no users", shown, "Leave out what stands before the @.")
        if scheme == "ssh":
            if colon:
                raise Failure("a password in an ssh:// URL is never used", shown, "Give a key as git_ssh_key, or load it into an agent.")
            host = f"{userinfo}@{host}"
    return f"{scheme}://{host}/{path.rstrip('/')}", username, password


def did_you_mean(name: str, names: Sequence[str], kind: str = "It has") -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    # A name given without its folder is the commonest slip of all.
    near += [known for known in names if known.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1] and known not in near]
    if near:
        return f"Did you mean {' or '.join(near[:3])}?"
    if not names:
        return ""
    return f"{kind} {', '.join(sorted(names)[:10])}{', …' if len(names) > 10 else ''}."
