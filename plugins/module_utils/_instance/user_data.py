# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is told at its first boot: made of the options, checked before anything exists, and recognised later."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import tempfile
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from .._errors import Failure, MissingLibrary, yaml_problem

CLOUD_CONFIG = "#cloud-config"
# What cloud-init takes for the first line (its documentation, "User data formats").
BEGINNINGS = (
    CLOUD_CONFIG,
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#cloud-config-archive",
    "## template:",
    "Content-Type: multipart",
    "MIME-Version:",
)
LIMIT = 65535  # of the base64 text, in Nova
# Lists of cloud-config in which an empty entry makes cloud-init drop the whole part.
COMMANDS = ("runcmd", "bootcmd")


def compose(name: str, text: Optional[str], config: Optional[Mapping[str, Any]]) -> str:
    """Of user_data and cloud_init, checked; both become one multi-part document."""
    try:
        import yaml
    except ImportError as error:
        raise MissingLibrary("PyYAML", error) from error

    parts: List[Tuple[str, str]] = []
    if config is not None:
        parts.append(("cloud-config", f"{CLOUD_CONFIG}\n{yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)}"))
    if text:
        parts.append((_kind(name, text), text))
    if not parts:
        return ""
    made = parts[0][1] if len(parts) == 1 else _multipart(parts)
    size = len(base64.b64encode(made.encode("utf-8", "surrogatepass")))
    if size > LIMIT:
        raise Failure(
            f"user_data takes {size} bytes in base64, {LIMIT} is the limit", name, "Move what is large to an image or a download with a checksum."
        )
    for kind, part in parts:
        if kind == "cloud-config":
            _check_config(name, part, yaml)
    return made


def _kind(name: str, text: str) -> str:
    first = text.lstrip("\ufeff").split("\n", 1)[0].rstrip()
    if not first.startswith(BEGINNINGS):
        raise Failure(
            f"user_data begins with {first[:40]!r}, so cloud-init would ignore it",
            name,
            f"It begins with {CLOUD_CONFIG}, with #! of a script, or with another of cloud-init's headers.",
        )
    return (
        "cloud-config"
        if first.startswith(CLOUD_CONFIG) and not first.startswith("#cloud-config-archive")
        else "x-shellscript" if first.startswith("#!") else "plain"
    )


def _multipart(parts: List[Tuple[str, str]]) -> str:
    from email.mime.multipart import MIMEMultipart
    from email.mime.text import MIMEText

    # A fixed boundary: the same parts are the same text, or every run would see a difference.
    boundary = "==" + hashlib.sha256("".join(text for _kind, text in parts).encode()).hexdigest()[:32] + "=="
    message = MIMEMultipart(boundary=boundary)
    for number, (kind, text) in enumerate(parts):
        part = MIMEText(text, kind, "utf-8")
        part.add_header("Content-Disposition", "attachment", filename=f"part-{number}")
        message.attach(part)
    return message.as_string()


def _check_config(name: str, text: str, yaml: Any) -> None:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise Failure(f"user_data is not YAML, {where}{yaml_problem(error)}", name, "cloud-init would drop all of it.") from None
    except (RecursionError, ValueError, TypeError) as error:  # nested too deep, a date that is none, a key that cannot be one
        raise Failure(f"user_data cannot be read: {error}", name, "cloud-init would drop all of it.") from None
    if config is not None and not isinstance(config, dict):
        raise Failure(f"user_data is a {type(config).__name__}, not a mapping", name)
    for key in COMMANDS:
        entries = (config or {}).get(key, [])
        if not isinstance(entries, list):
            raise Failure(f"user_data: {key} is no list{_line_of(text, key)}", name)
        for number, entry in enumerate(entries, 1):
            if not entry:
                raise Failure(f"user_data: entry {number} of {key} is empty{_line_of(text, key)}", name, "cloud-init would drop all of them.")
    _schema(name, text)


def _line_of(text: str, key: str) -> str:
    number = next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"{key}:")), 0)
    return f" (line {number})" if number else ""


def _schema(name: str, text: str) -> None:
    """cloud-init's own judgement, where it is installed."""
    program = shutil.which("cloud-init")
    if not program:
        return
    handle, path = tempfile.mkstemp(suffix=".yaml")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run(
            [program, "schema", "--config-file", path], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    finally:
        os.unlink(path)
    said = (done.stdout + done.stderr).replace(path, "user_data").strip()
    if done.returncode and "nvalid" in said:
        raise Failure(f"user_data does not follow cloud-init's schema: {said[-600:]}", name)


def mark(text: str, key: str) -> str:
    """What is recorded of user_data in the instance's metadata. Without the key nobody can try values of a secret against it."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest() if text else ""


def fingerprint(public_key: str) -> str:
    """SHA256:… as ssh-keygen -l shows it; "" for what is no public key."""
    words = public_key.split()
    for number, word in enumerate(words[:-1]):
        if word.startswith(("ssh-", "ecdsa-", "sk-")):
            try:
                return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(words[number + 1], validate=True)).digest()).decode().rstrip("=")
            except ValueError:
                return ""
    return ""


def ssh_keys(text: str) -> Tuple[str, ...]:
    """Fingerprints of the keys that cloud-config lets in."""
    import yaml

    if not text.startswith(CLOUD_CONFIG):
        found = text.split(CLOUD_CONFIG)[1:]
        text = found[0] if found else ""
    try:
        config: Dict[str, Any] = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        return ()
    return tuple(sorted({mark for mark in map(fingerprint, set(_keys(config))) if mark})) if isinstance(config, dict) else ()


def _keys(config: Mapping[str, Any]) -> Iterator[str]:
    """Each list once, however many aliases lead to it."""
    users = config.get("users")
    lists: Dict[int, List[Any]] = {}
    for holder in (config, *(user for user in (users if isinstance(users, list) else []) if isinstance(user, dict))):
        for name in ("ssh_authorized_keys", "ssh-authorized-keys"):
            keys = holder.get(name)
            if isinstance(keys, list):
                lists[id(keys)] = keys
    for keys in lists.values():
        yield from (key for key in keys if isinstance(key, str))
