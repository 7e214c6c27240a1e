# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator's credentials of a cluster, merged into a kubeconfig that holds other clusters too.

A cluster is known by its certificate authority. Entries of another one are never overwritten, and of the file only what is k3s' own is
changed: comments, other entries, and what a person added to ours (a proxy, a namespace) stay.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, MissingLibrary, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.yaml_strict import parse

LISTS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))
# Of k3s' own kubeconfig; whatever else an entry has is a person's.
OURS = {"cluster": ("server", "certificate-authority-data"), "user": ("client-certificate-data", "client-key-data"), "context": ("cluster", "user")}
LOCK_SECONDS = 10.0
LARGEST = 256 << 10  # characters of a server's kubeconfig


@dataclass(frozen=True)
class Merged:
    """The file's new text, and whether another cluster's entries go with it."""

    text: str
    replaces: str = ""


def merge_into(path: str, fetched: str, name: str, server: str, make_current: bool, replace: bool, check_mode: bool) -> Tuple[bool, List[str]]:
    """Whether the file changes, or would; and what to warn of. A link is followed, not replaced."""
    path = os.path.realpath(os.path.expanduser(path))
    with contextlib.nullcontext() if check_mode else _locked(path):
        existing = _read(path)
        done = merged(existing, fetched, name, server, make_current, replace, os.path.dirname(path))
        changed = done.text != existing
        if changed and not check_mode:
            if done.replaces:
                _keep_copy(path)
            _write(path, done.text)
        return changed, _warnings(path)


def merged(existing: str, fetched: str, name: str, server: str, make_current: bool, replace: bool = False, folder: str = "") -> Merged:
    """One cluster, user and context called `name`. server: its URL, where it is not to be the one that k3s wrote. folder: what a relative path in the
    file is relative to."""
    # Plain text, as Ansible marks its own with where it comes from, and YAML refuses that.
    name, server = f"{name}", f"{server}"
    if len(fetched) > LARGEST:
        raise Refused(f"has {len(fetched):,} characters, more than the {LARGEST:,} of any kubeconfig of k3s", "the kubeconfig on the server")
    kubeconfig, source = _loaded(existing, "the kubeconfig on the controller"), _answered(fetched, "the kubeconfig on the server")
    try:
        # Nothing else of it is taken: a server decides what we know of its cluster, not which program runs here (exec) or which file is read.
        wanted: Dict[str, Any] = {key: source[plural][0][key] for plural, key in LISTS if key != "context"}
        server = server or _url(wanted["cluster"]["server"])
        wanted["cluster"] = {"server": server, "certificate-authority-data": _base64(wanted["cluster"]["certificate-authority-data"])}
        wanted["user"] = {key: _base64(wanted["user"][key]) for key in OURS["user"]}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Failure(f"has no cluster or no user ({error})", "the kubeconfig on the server", "Has k3s started there?") from error
    wanted["context"] = {"cluster": name, "user": name}
    foreign = _foreign(kubeconfig, name, wanted["cluster"], folder)
    if foreign and not replace:
        raise Refused(f"{foreign}, and would be overwritten", "the kubeconfig on the controller",
                      "Give this cluster a name of its own (`context`, in the role k3s_kubeconfig_context). If the cluster was made anew and the old one is "
                      "gone, set `replace` (k3s_kubeconfig_replace): the file is copied first.")
    changed = False
    for plural, key in LISTS:
        changed = _put(kubeconfig, plural, key, name, wanted[key], bool(foreign)) or changed
    if (make_current or not kubeconfig.get("current-context")) and kubeconfig.get("current-context") != name:
        kubeconfig["current-context"], changed = name, True
    for key, value in (("apiVersion", "v1"), ("kind", "Config")):
        if key not in kubeconfig:
            kubeconfig[key], changed = value, True
    return Merged(_dumped(kubeconfig, existing) if changed else existing, foreign)


def _base64(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/]+=*", value):
        raise ValueError("what should be base64 is not")
    return f"{value}"


def _url(value: Any) -> str:
    if not isinstance(value, str) or not _host(value):
        raise ValueError("what should be the server's URL is not")
    return f"{value}"


def _put(kubeconfig: Any, plural: str, key: str, name: str, wanted: Mapping[str, str], anew: bool) -> bool:
    """Whether the entry had to be changed."""
    if not kubeconfig.get(plural):
        kubeconfig[plural] = []
    listed = kubeconfig[plural]
    there = _named(listed, name)
    if there is None:
        listed.append({"name": name, key: dict(wanted)})
        return True
    if anew or not isinstance(there.get(key), dict):
        before, there[key] = there.get(key), dict(wanted)
        return bool(before != wanted)
    before = dict(there[key])
    there[key].update({field: value for field, value in wanted.items() if there[key].get(field) != value})
    return bool(before != dict(there[key]))


def _foreign(kubeconfig: Any, name: str, wanted: Mapping[str, str], folder: str) -> str:
    """Whose the entries of this name are, when they are not this cluster's; or nothing."""
    cluster, user, context = (_named(kubeconfig.get(plural), name) for plural, _key in LISTS)
    if cluster is not None:
        there = cluster.get("cluster") or {}
        authority = _authority(there, folder)
        same = authority == _pem(wanted["certificate-authority-data"]) if authority else _host(there.get("server")) == _host(wanted["server"])
        if not same:
            return f"cluster {name} is another one, at {there.get('server')}, with another certificate authority"
    if context is not None and (context.get("context") or {}).get("cluster") != name:
        return f"context {name} is one of cluster {(context.get('context') or {}).get('cluster')}"
    if user is not None:
        others = [str(one.get("name")) for one in kubeconfig.get("contexts") or []
                  if (one.get("context") or {}).get("user") == name and (one.get("context") or {}).get("cluster") != name]
        if others:
            return f"user {name} is the one of context {others[0]}"
        if cluster is None:
            return f"user {name} belongs to no cluster of that name"
    return ""


def _authority(cluster: Mapping[str, Any], folder: str) -> bytes:
    if cluster.get("certificate-authority-data"):
        return _pem(str(cluster["certificate-authority-data"]))
    if cluster.get("certificate-authority"):
        with contextlib.suppress(OSError), open(os.path.join(folder, os.path.expanduser(str(cluster["certificate-authority"]))), "rb") as stream:
            return stream.read().strip()
        return b"a file that cannot be read"
    return b""


def _pem(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True).strip()
    except (binascii.Error, ValueError):
        return data.encode()


def _host(url: Any) -> str:
    return urlsplit(str(url or "")).netloc.lower()


def _named(listed: Any, name: str) -> Optional[Any]:
    return next((entry for entry in listed or [] if isinstance(entry, dict) and entry.get("name") == name), None)


# The file


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """By the lock that kubectl itself takes, so that nobody's change between reading and writing is lost."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    lock, end = f"{path}.lock", time.monotonic() + LOCK_SECONDS
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError as error:
            if time.monotonic() > end:
                raise Failure(f"another program has the file locked, for more than {LOCK_SECONDS:.0f} s", lock,
                              "If none is at work, remove the lock file.") from error
            time.sleep(0.1)
    try:
        yield
    finally:
        os.unlink(lock)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    """Whole or not at all. One that was there keeps its owner and mode; a new one is readable for its owner alone."""
    descriptor, aside = tempfile.mkstemp(prefix=".kubeconfig-", dir=os.path.dirname(path))  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if os.path.exists(path):
            found = os.stat(path)
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(aside, found.st_uid, found.st_gid)
            shutil.copystat(path, aside)
        os.rename(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def copy_name(path: str) -> str:
    return f"{path}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"


def _keep_copy(path: str) -> None:
    """Credentials that are replaced may be the only ones of a cluster that still lives."""
    copy, number = copy_name(path), 0
    while os.path.lexists(copy + (f".{number}" if number else "")):
        number += 1
    copy += f".{number}" if number else ""
    with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(_read(path))


def _warnings(path: str) -> List[str]:
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0
    return [f"{path} has mode {mode:04o}: others can read the administrator's credentials in it. `chmod 600` closes it."] if mode & 0o077 else []


# YAML that keeps what a person wrote


def _yaml(text: str) -> Any:
    try:
        from ruamel.yaml import YAML
    except ImportError as error:
        raise MissingLibrary("ruamel.yaml", error) from error
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    offset = re.search(r"^(?:clusters|users|contexts):[ ]*\n(?:[ ]*#.*\n)*([ ]*)- ", text, re.MULTILINE)
    spaces = len(offset.group(1)) if offset else 0
    yaml.indent(mapping=2, sequence=spaces + 2, offset=spaces)
    return yaml


def _loaded(text: str, where: str) -> Any:
    yaml = _yaml(text)
    try:
        value = yaml.load(text) if text.strip() else yaml.map()
    except Exception as error:  # ruamel has several kinds
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failure(f"is not valid YAML: {said}", where, "Mend or remove it; nothing was written.") from error
    if value is None:
        value = yaml.map()
    if not isinstance(value, dict):
        raise Failure("is not a kubeconfig", where, "Mend or remove it; nothing was written.")
    return value


def _answered(text: str, where: str) -> Any:
    """Within the bounds of what a stranger wrote: ruamel.yaml takes the square of the time for what is nested."""
    documents, failures = parse(text.encode(), where)
    if failures:
        raise failures[0]
    if len(documents) != 1 or not isinstance(documents[0].body, dict):
        raise Failure("is not a kubeconfig", where, "Has k3s started there?")
    return documents[0].body


def _dumped(kubeconfig: Any, existing: str) -> str:
    stream = io.StringIO()
    _yaml(existing).dump(kubeconfig, stream)
    return stream.getvalue()
