# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What helm and kustomize say when they fail: they quote their input, so whatever in it may be secret is masked."""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, Set

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import SHORTEST_VALUE, masked_text
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import Budget

MAX_WORDS = 4000  # characters of a tool's message; helm repeats a whole template

_SECRET_KEY = re.compile(r"pass|secret|token|key|credential|auth|private|cert|dsn|conn|license|salt|hash", re.IGNORECASE)
_MENTIONS_SECRET = re.compile(rb"kind['\"]?\s*:\s*['\"]?Secret|secretGenerator|SecretGenerator", re.IGNORECASE)
_PAIR = re.compile(r"^[^\n]*?[:=][ \t]*(\S[^\n]*?)[ \t]*$", re.MULTILINE)


def masked_words(words: str, content: Mapping[str, bytes], values: Any = None) -> str:
    """A tool's message without anything that may be secret in the files or the values that it was given, and not endless."""
    known = set(_of_values(values, all_of_them=True))
    for path, data in content.items():
        known.update(_of_file(path, data))
    text = masked_text(words, known)
    return text if len(text) <= MAX_WORDS else text[:MAX_WORDS] + "…"


def _of_values(value: Any, all_of_them: bool, secret: bool = False) -> Iterator[str]:
    """The texts below a value: those under a key that sounds secret, and of inline values every other that is no mere word."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _of_values(child, all_of_them, secret or bool(_SECRET_KEY.search(str(key))))
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from _of_values(child, all_of_them, secret)
    elif isinstance(value, str) and (secret or all_of_them and len(value) >= SHORTEST_VALUE):
        yield value
    elif secret and isinstance(value, (int, float)) and not isinstance(value, bool) and len(str(value)) >= SHORTEST_VALUE:
        yield str(value)


def _of_file(path: str, data: bytes) -> Set[str]:
    """What may be secret in one file: the values of Secrets, what a generator makes one of, and what stands under such a key."""
    text = data.decode("utf-8", "replace")
    if not path.endswith((".yaml", ".yml", ".json", ".tpl")):
        # Only what names it knows whether it becomes a Secret; a template or a program is never a single line.
        return {text.strip(), *(part for line in text.splitlines()[:1000] for part in (line.partition("=")[2].strip(),) if len(part) >= SHORTEST_VALUE)}
    found: Set[str] = set()
    if _MENTIONS_SECRET.search(data):
        # As text: a file that the tool cannot read is the very one that it quotes.
        for value in _PAIR.findall(text):
            found.update(_scalars(value))
        for line in text.splitlines():
            found.update(_scalars(line.strip().lstrip("- ")))
    if not path.endswith(".tpl") and b"{{" not in data:
        found.update(_of_yaml(data, path))
    return {value for value in found if len(value) >= SHORTEST_VALUE}


def _scalars(value: str) -> Iterator[str]:
    """A value of one line, without its quotes and its key: "password=x", 'x', x."""
    for text in (value, value.partition("=")[2], value.partition(": ")[2]):
        text = text.strip().strip(",[]{}").strip()
        yield text
        yield text.strip("\"'")


def _of_yaml(data: bytes, path: str) -> Iterator[str]:
    from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict

    try:
        documents, _problems = yaml_strict.parse(data, path, [], Budget())
    except Failure:
        return
    for document in documents:
        whole = isinstance(document.body, dict) and document.body.get("kind") == "Secret"
        for part in ("data", "stringData") if whole else ():
            yield from _of_values(document.body.get(part), all_of_them=True, secret=True)
        yield from _of_values(document.body, all_of_them=False)
