# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s' files on a node as values: rendered, compared with what is there, shown without secrets, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils import _whole_file
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, CONFIG_DIR, HOME
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.selinux import relabel

MARK = "# Written by nordic.gitops: the next run writes it again.\n"
TOKEN_FILES = {"token": "token", "agent_token": "agent-token"}  # the module's option, and both k3s' key and the file's name
MASK = "********"

# Keys whose value is a secret, of k3s' configuration and of registries.yaml. A key that names a file is none.
# datastore-endpoint has a password in it in many forms, of which its drivers take some unescaped; so the whole of it is a secret.
_SECRET_KEY = re.compile(
    r"(?i)(^|[-_.])(token|agent-token|secret-key|access-key|session-token|password|auth|vpn-auth|identity_?token|datastore-endpoint)\Z")
# Up to the last @, as a password may hold one, or a slash.
_PASSWORD_IN_URL = re.compile(r"(?<=://)\S+(?=@)")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*\Z")
_NOT_PLAIN = re.compile(r"(?i)(y|n|yes|no|on|off|true|false|null|~|[-+.0-9_exabcdef]+)\Z")  # YAML would read another type
_ENTRY = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s#\"'\[\]{}&*!|>%@`,?-][^:#]*?)\s*:(?:\s+(.*))?$")  # a key at the beginning of its line
_DOCUMENT = re.compile(r"(---|\.\.\.)(\s+#.*)?\s*\Z")
_COMMENT = re.compile(r"(^|\s)#.*\Z")
_ITEM = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,"'\[\]{}#&*!|>%@`?](?:[^,\[\]{}#]*[^,\[\]{}#\s])?)"""
_WORDS = {"~": "", "null": "", "yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_AS_KEYS = "Write it as `key: value`, a key at the beginning of each line, lists as lines with a dash."
_NOT_PRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # by YAML 1.2, section 5.1; below 0x20 JSON escapes itself


@dataclass(frozen=True)
class ManagedFile:
    """A file as it shall be; text None means that there shall be none."""

    path: str
    text: Optional[str]
    mode: int = 0o600
    secret: bool = False  # the whole of it


@dataclass(frozen=True)
class Change:
    """A file that is not as it shall be."""

    wanted: ManagedFile
    before: Optional[str]
    before_mode: Optional[int]

    @property
    def path(self) -> str:
        return self.wanted.path

    @property
    def reason(self) -> str:
        if self.wanted.text is None:
            return f"{self.path} will be removed"
        if self.before is None:
            return f"{self.path} is missing"
        if self.before != self.wanted.text:
            keys = _keys_that_differ(self.before, self.wanted.text)
            return f"{self.path} differs" + (f" in {', '.join(keys)}" if keys and not self.wanted.secret else "")
        return f"{self.path} has mode {self.before_mode:04o}, not {self.wanted.mode:04o}"

    @property
    def keys(self) -> List[str]:
        """The top-level keys that differ."""
        return _keys_that_differ(self.before or "", self.wanted.text or "")

    @property
    def content_differs(self) -> bool:
        return self.before != self.wanted.text

    def diff(self) -> Dict[str, str]:
        """For Ansible's diff mode, without secrets."""
        def shown(text: Optional[str], mode: Optional[int]) -> str:
            if text is None:
                return ""
            return f"# mode {mode:04o}\n" + (MASK + "\n" if self.wanted.secret else mask(text))

        before, after = shown(self.before, self.before_mode), shown(self.wanted.text, self.wanted.mode)
        if self.content_differs and before == after:
            after = after.rstrip("\n") + " (another one)\n"  # else a changed secret would show no difference
        return {"before_header": self.path, "after_header": self.path, "before": before, "after": after}

    def write(self, home: str = HOME) -> None:
        """Somebody else's file is kept before it is replaced or removed."""
        try:
            if self.before is not None and self.content_differs and not self.before.startswith(MARK):
                keep(self.path, home)
            if self.wanted.text is None:
                os.unlink(self.path)
                return
        except OSError as error:
            raise unwritable(self.path, error) from error
        write_whole(self.path, self.wanted.text, self.wanted.mode)


def write_whole(path: str, text: str, mode: int = 0o600) -> None:
    """The one way in which files are written. Aside, then renamed: k3s and a killed run see the old one or the new one, whole."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _whole_file.write_whole(path, text.encode("utf-8"), mode)
        relabel(path)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str, error: OSError) -> Failure:
    """With what to do. The file that was there is whole."""
    hint = {errno.ENOSPC: "Make room on that file system.", errno.EDQUOT: "Make room on that file system.",
            errno.EROFS: "The file system is mounted read-only: `mount -o remount,rw` it, or see `dmesg` for why the kernel did that.",
            errno.EACCES: "Is it immutable (`lsattr`), or does a security policy forbid it?", errno.EPERM: "Is it immutable (`lsattr`)?",
            errno.ENOTDIR: "A file is where a folder should be: move it away."}.get(error.errno or 0, "")
    return Failure(f"cannot be written: {error.strerror or error}", path, hint)


def keep(path: str, home: str = HOME) -> str:
    """A copy, under a name of its own, of a file that these modules did not write and are about to replace. Where it is."""
    folder = os.path.join(home, "replaced", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    number = 0
    while os.path.lexists(place := os.path.join(folder + (f".{number}" if number else ""), path.lstrip("/"))):
        number += 1
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    with open(path, "rb") as source, open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        copy.write(source.read())
        copy.flush()
        os.fsync(copy.fileno())
    return place


def compare(wanted: ManagedFile) -> Optional[Change]:
    """None where the file is as it shall be."""
    try:
        found = os.lstat(wanted.path)
    except FileNotFoundError:
        return None if wanted.text is None else Change(wanted, None, None)
    except OSError as error:
        raise unwritable(wanted.path, error) from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a link" if stat.S_ISLNK(found.st_mode) else "not a regular file"
        raise Failure(f"is {kind}, and only regular files are replaced", wanted.path, "Move it away, or put its content into the task.")
    with open(wanted.path, encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    mode = stat.S_IMODE(found.st_mode)
    if text == wanted.text and mode == wanted.mode:
        return None
    return Change(wanted, text, mode)


def read(path: str) -> Optional[str]:
    """A file's text, or None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", path, "A regular file is expected there.") from error


# YAML, of which these files need mappings, lists and scalars alone. The controller has PyYAML and a node has none; text written there would cost users
# what the module k3s can do by itself: a drop-in or a join key that is compared and changed by key, also where the host runs it without the role.


def to_yaml(value: Mapping[str, Any]) -> str:
    """Text that any YAML parser reads as this value. A string is written as JSON, which is YAML too."""
    return MARK + "".join(f"{line}\n" for line in _mapping(value))


def _mapping(value: Mapping[str, Any]) -> List[str]:
    lines: List[str] = []
    for key, item in value.items():
        head = f"{_scalar(str(key))}:"
        if isinstance(item, Mapping) and item:
            lines += [head, *("  " + line for line in _mapping(item))]
        elif isinstance(item, (list, tuple)) and item:
            lines += [head, *_list(item)]
        else:
            lines.append(f"{head} {_scalar(item)}")
    return lines


def _list(items: Any) -> List[str]:
    lines: List[str] = []
    for item in items:
        inner = _mapping(item) if isinstance(item, Mapping) and item else _list(item) if isinstance(item, (list, tuple)) and item else [_scalar(item)]
        lines += ["  - " + inner[0], *("    " + line for line in inner[1:])]
    return lines


def _scalar(item: Any) -> str:
    if isinstance(item, str) and _PLAIN.match(item) and not _NOT_PLAIN.match(item):
        return item
    return _NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(item, ensure_ascii=False))


def top_level(text: str) -> Dict[str, str]:
    """The mapping's entries as text, key by key: enough to see which differ, and to read what is plain."""
    found: Dict[str, str] = {}
    key = ""
    for line in _lines(text):
        begun = _ENTRY.match(line)
        if begun:
            key = begun.group(1).strip("\"'")
            found[key] = begun.group(2) or ""
        elif key:
            found[key] += "\n" + line
    return found


def _lines(text: str) -> List[str]:
    """Without comments that have a line of their own, and without the marks of a document."""
    return [line for line in text.lstrip("\ufeff").splitlines() if line.strip() and not line.lstrip().startswith("#") and not _DOCUMENT.match(line)]


def plain_value(text: Optional[str], key: str) -> str:
    """A top-level scalar of a YAML file, "" where it is absent or no scalar."""
    value = value_of(top_level(text or "").get(key, ""))
    return value if isinstance(value, str) else ""


def readable_values(path: str) -> Dict[str, Any]:
    """The top-level scalars and lists of a file that anybody may have written. What is not understood is refused: a data folder that is read wrong
    would be a host without a cluster."""
    text = read(path) or ""
    begun = False
    for line in _lines(text):
        is_key = bool(_ENTRY.match(line))
        begun = begun or is_key
        if not begun or not is_key and not line.startswith((" ", "-")):
            number = [line.strip("\ufeff") for line in text.splitlines()].index(line) + 1
            raise Failure(f"line {number} is in a form of YAML that is not read here", path, _AS_KEYS)  # not shown: there may be a token in it
    found = {key: value_of(entry) for key, entry in top_level(text).items()}
    for key, value in found.items():
        if value is None:
            raise Failure(f"{key} is in a form of YAML that is not read here", path, _AS_KEYS)
    return found


def value_of(entry: str) -> Any:
    """A scalar as text, a list of them, or None where it is neither on one line."""
    first, *rest = entry.split("\n")
    if first.lstrip().startswith("["):
        return _flow(" ".join([first, *rest]).strip())
    if _COMMENT.sub("", first).strip():
        return None if rest else _scalar_of(first)
    if not rest or re.match(r"\s*-(\s|$)", rest[0]):
        listed = [re.match(r"\s*-(?:\s+(.*))?$", line) for line in rest]
        items = [_scalar_of(item.group(1) or "") if item else None for item in listed]
        return None if None in items else items if rest else ""
    return _scalar_of(rest[0]) if len(rest) == 1 else None


def _flow(text: str) -> Optional[List[str]]:
    inner = re.match(rf"\[\s*((?:{_ITEM}\s*,\s*)*(?:{_ITEM})?)\s*\]\s*(?:\s#.*)?\Z", text)
    items = [_scalar_of(item) for item in re.findall(_ITEM, inner.group(1))] if inner else [None]
    return None if None in items else [str(item) for item in items]


def _scalar_of(text: str) -> Optional[str]:
    """As YAML 1.1 reads it, which k3s does; None where that takes more than these lines."""
    text = text.strip()
    quoted = re.match(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')(?:\s+#.*)?\Z""", text)
    if quoted and text.startswith("'"):
        return quoted.group(1)[1:-1].replace("''", "'")
    if quoted:
        try:
            return str(json.loads(quoted.group(1)))
        except ValueError:
            return None
    text = _COMMENT.sub("", text).strip()
    if text.startswith(tuple("\"'[]{}&*!|>%@`,?")) or re.match(r"-(\s|$)|.*:(\s|$)", text):
        return None
    return _WORDS.get(text.lower(), text)


def _keys_that_differ(before: str, after: str) -> List[str]:
    old, new = top_level(before), top_level(after)
    return [key for key in sorted(set(old) | set(new)) if old.get(key) != new.get(key)]


# Secrets


def mask(text: str) -> str:
    """A YAML file's text for people, without the values of secret keys and the passwords in URLs."""
    lines, hidden_below = [], -1
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if hidden_below >= 0 and (indent > hidden_below or line.lstrip().startswith("- ") and indent >= hidden_below):
            continue
        hidden_below = -1
        entry = re.match(r"(\s*(?:- )?[\"']?([^\s:\"']+)[\"']?\s*:)(.*)$", line)
        # registries.yaml has a mapping `auth` whose inner keys are judged themselves.
        if entry and _SECRET_KEY.search(entry.group(2).rstrip("+")) and not (entry.group(2) == "auth" and not entry.group(3).strip()):
            line = f"{entry.group(1)} {MASK}"
            hidden_below = indent
        lines.append(_PASSWORD_IN_URL.sub(MASK, line))
    return "".join(f"{line}\n" for line in lines)


def secrets_of(value: Any, key: str = "") -> List[str]:
    """The secret values inside of a configuration, for Ansible to keep out of every result and log."""
    if isinstance(value, Mapping):
        return [secret for inner, item in value.items() for secret in secrets_of(item, str(inner).rstrip("+"))]
    if isinstance(value, (list, tuple)):
        return [secret for item in value for secret in secrets_of(item, key)]
    text = "" if value is None else str(value)
    if _SECRET_KEY.search(key):
        return [text] if text else []
    return _PASSWORD_IN_URL.findall(text)


def environment(variables: Mapping[str, str]) -> str:
    """A file that systemd reads variables from, as nobody but root can; what stands in a unit everybody may ask for."""
    lines = []
    for name, value in sorted(variables.items()):
        quoted = re.sub(r'([\\"$`])', r"\\\1", str(value))
        lines.append(f'{name}="{quoted}"\n')
    return MARK + "".join(lines)


# The unit


def unit(role: str, binary: str = BINARY, config_dir: str = CONFIG_DIR) -> str:
    """systemd's unit: k3s says itself when it is up, its containers outlive a restart, and nothing is downloaded.

    Configuration comes from files alone, so no secret is in the unit, in argv or in the environment. A node that joins exits
    while the first server is not up yet; it tries again after two seconds.
    """
    config = "" if config_dir == CONFIG_DIR else f" --config {config_dir}/config.yaml"
    return f"""{MARK}[Unit]
Description=k3s {role}
Documentation=https://docs.k3s.io
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart={binary} {role}{config}
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=2s

[Install]
WantedBy=multi-user.target
"""
