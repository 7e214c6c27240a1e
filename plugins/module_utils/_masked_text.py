# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exit for text: no secret, no control character and no forged line of a repository, a server or a tool reaches a person.

Whoever learns a secret registers it once, at the edge where it comes in: register("token"), register_object(manifest).
Whoever passes on what somebody else wrote says one_line(text), which masks before it cuts. What leaves a module or a plugin goes
through masked(), whatever it is made of.
"""

from __future__ import annotations

import re
import threading
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set

MASK = "********"
SHORTEST = 3  # characters of a secret; one of two letters would mask every other word
SHORTEST_VALUE = 6  # of a value in a Secret object, where "true" and "5432" stand beside passwords
SHORTEST_LINE = 8  # of one line of a longer secret: the lines of a PEM file, not its brackets

# What a terminal obeys instead of showing: C0 and C1 codes, separators of lines, signs that turn the direction of text; and lone surrogates.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _Secrets:
    """The secrets of this process in every form in which they may be met, by their first three characters: looking for a thousand of
    them costs what looking for one does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Set[str] = set()
        self._new: List[str] = []
        self._by_start: Dict[str, List[str]] = {}

    def add(self, secret: str) -> None:
        with self._lock:
            if secret not in self._known:
                self._known.add(secret)
                self._new.append(secret)

    def clear(self) -> None:
        with self._lock:
            self._known, self._new, self._by_start = set(), [], {}

    def index(self) -> Dict[str, List[str]]:
        """Made when text is masked: most runs register secrets and have nothing to say."""
        if self._new:
            with self._lock:
                changed = dict(self._by_start)
                for form in {form for secret in self._new for form in forms(secret)}:
                    start = form[:SHORTEST]
                    changed[start] = sorted({*changed.get(start, ()), form}, key=len, reverse=True)
                self._by_start, self._new = changed, []
        return self._by_start


_secrets = _Secrets()


def register(*secrets: Optional[str]) -> None:
    """Never show these, nor what they look like in a URL, in base64, in JSON, in HTML or in a message of Python or Go."""
    for secret in secrets:
        if isinstance(secret, str) and len(secret.strip()) >= SHORTEST and secret.strip("*"):
            _secrets.add(secret)


def forget() -> None:
    """Of a process that goes on to something else: what was secret there is an ordinary word here."""
    _secrets.clear()


def register_login(username: Optional[str], password: Optional[str]) -> None:
    """A password, and what an Authorization header makes of it."""
    register(password)
    if password:
        register(f"{username or ''}:{password}")


def register_object(manifest: Any) -> None:
    """The values of a Secret; any other object has none."""
    if not isinstance(manifest, dict) or manifest.get("kind") != "Secret" or manifest.get("apiVersion") != "v1":
        return
    import base64

    for part, encoded in (("data", True), ("stringData", False)):
        values = manifest.get(part)
        for value in values.values() if isinstance(values, dict) else ():
            if not isinstance(value, str) or len(value) < SHORTEST_VALUE:
                continue
            if not encoded:
                register(value)
                continue
            register(value)
            try:
                plain = base64.b64decode(value, validate=False).decode("utf-8")
            except ValueError:
                continue  # bytes that nobody can print
            if len(plain) >= SHORTEST_VALUE:
                register(plain)


class Url(str):
    """A URL that prints without the credentials in it, in the log, in the returned invocation and in messages; `full` has them."""

    full: str


def url(value: Any) -> Any:
    """An option's value, its credentials registered and kept from whoever prints it."""
    if not isinstance(value, str) or "://" not in value or isinstance(value, Url):
        return value
    authority = re.split(r"[\s'\"]", value.partition("://")[2])[0].rpartition("@")[0]
    if not authority:
        return value
    from urllib.parse import unquote

    username, colon, password = authority.partition(":")
    if colon:
        register_login(unquote(username), unquote(password))
        register(password)
    elif value.lower().startswith("http"):
        register(username, unquote(username))  # a token alone in front of the @
    shown = Url(without_credentials(value))
    shown.full = value
    return shown


def full_url(value: str) -> str:
    """The URL with its credentials, for the one who connects."""
    return value.full if isinstance(value, Url) else value


class UrlType(str):
    """The type of an option, documented as the "str" that it is to a person; Ansible calls a type that is callable, before anything is logged."""

    def __call__(self, value: Any) -> Any:
        if isinstance(value, (dict, list, tuple)):
            raise TypeError("a URL is text")
        return url(value if isinstance(value, str) else str(value))


class Hidden(str):
    """An option's value that may hold secrets anywhere: it prints as a mask, `full` is what was given."""

    full: Any


def full_value(value: Any) -> Any:
    """What was given, for the one who uses it."""
    return value.full if isinstance(value, Hidden) else value


class HiddenType(str):
    """The type of a dictionary whose values nobody prints, documented as the "dict" that it is. no_log would mask each number and word of it
    in all that a module says."""

    def __call__(self, value: Any) -> Any:
        from ansible.module_utils.common.validation import check_type_dict

        hidden = Hidden(MASK)
        hidden.full = check_type_dict(value)
        return hidden


def forms(secret: str) -> Iterator[str]:
    """The secret, and each way of writing it that a server, a library or a tool has."""
    import json  # by whoever has something to mask: most runs have not
    from urllib.parse import quote, quote_plus

    texts = {secret, secret.strip(), " ".join(CONTROL.sub(" ", secret).split())}
    texts.update(line.strip() for line in re.split(r"[\r\n]+", secret) if len(line.strip()) >= SHORTEST_LINE)
    found = set()
    for text in texts:
        data = text.encode("utf-8", "replace")
        escaped = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], repr(data)[2:-1]}
        found.update(escaped)
        found.update(form.replace("/", "\\/") for form in escaped)
        for safe in ("", "/", "/:", "!~*'()"):
            percent = quote(text, safe=safe, errors="replace")
            found.update((percent, re.sub("%..", lambda part: part.group().lower(), percent)))
        found.add(quote_plus(text, errors="replace"))
        found.add(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;"))
        found.add(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;").replace("'", "&#x27;"))
        found.update(_in_base64(data))
    return (form for form in found if len(form) >= SHORTEST)


def _in_base64(data: bytes) -> Iterator[str]:
    """What is certain to be seen of the data where base64 encodes it with something in front and something behind."""
    import base64

    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        whole = encode(data).decode()
        yield whole
        yield whole.rstrip("=")
        for before in range(3):
            text = encode(b"\0" * before + data).decode()
            certain = text[(0, 2, 3)[before]:(before + len(data)) * 8 // 6]
            if len(certain) >= 6:
                yield certain


def _mask(text: str, index: Dict[str, List[str]]) -> str:
    """The text with each stretch that holds a secret replaced; secrets that overlap are one stretch."""
    if not index or len(text) < SHORTEST:
        return text
    result: List[str] = []
    shown = begin = end = 0  # text[begin:end] is the stretch that is found now, text[:shown] is in the result
    for place in range(len(text) - SHORTEST + 1):
        candidates = index.get(text[place:place + SHORTEST])
        if not candidates:
            continue
        for form in candidates:
            if text.startswith(form, place):
                if place > end or end == 0:
                    if end:
                        result += (text[shown:begin], MASK)
                        shown = end
                    begin = place
                end = max(end, place + len(form))
                break
    if end:
        result += (text[shown:begin], MASK)
        shown = end
    result.append(text[shown:])
    return "".join(result)


def bare_url(address: str) -> str:
    """One URL, in any form that Git, go-getter or a browser takes, without user name and password."""
    return re.sub(r"(?<=//)[^/?#]*@|^[^/@]*:[^/]*@", "", address)


def without_credentials(text: str, *secrets: Optional[str]) -> str:
    """The text with nothing of user:password@ in any URL, nor any of the secrets themselves."""
    text = re.sub(r"(https?://)[^\s'\"]*@", r"\1", text)
    text = re.sub(r"(://)[^\s/@'\"]*:[^\s/@'\"]*@", r"\1", text)
    return masked_text(text, secrets)


def masked_text(text: str, also: Iterable[Optional[str]] = ()) -> str:
    """The text, line breaks as they are, without any secret; `also`: secrets that count for this text alone, such as a chart's values."""
    index = _secrets.index()
    more = _Secrets()
    for secret in also:
        if secret and len(secret) >= SHORTEST and secret.strip("*"):
            more.add(secret)
    if more.index():
        text = _mask(text, more.index())
    text = _mask(text, index)
    if "://" in text:
        text = re.sub(r"(?<=://)[^\s/@'\"<>]*:[^\s/@'\"<>]*@|(?<=http://)[^\s/@'\"<>]+@|(?<=https://)[^\s/@'\"<>]+@", "", text)
    return text


def one_line(text: str, limit: int = 300, also: Iterable[Optional[str]] = ()) -> str:
    """What a server, a tool or a commit says, fit to be printed: masked, without control characters, one line, not endless."""
    text = masked_text(" ".join(CONTROL.sub(" ", masked_text(text, also)).split()), also)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def lines(text: str) -> str:
    """A text of several lines that is our own, made of parts that need not be: masked, without control characters."""
    once = masked_text(text)
    shown = _CONTROL_IN_LINES.sub(" ", once)
    return shown if text == once == shown else masked_text(shown)  # nothing to hide: the second look would see the same


def masked(value: Any) -> Any:
    """A module's result, or any part of it. What identifies an object ("object": group, kind, namespace, name) is never a secret, and
    stays as it is also where a Secret holds the same word."""
    if isinstance(value, str):
        return lines(value)
    if isinstance(value, dict):
        return {_key(key): _identity(item) if key == "object" and isinstance(item, dict) else masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item) for item in value]
    return value


def _key(key: Any) -> Any:
    return CONTROL.sub(" ", key) if isinstance(key, str) else key


def _identity(item: Dict[Any, Any]) -> Dict[Any, Any]:
    return {_key(key): _key(value) for key, value in item.items()}
