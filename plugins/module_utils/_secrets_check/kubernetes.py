# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that Kubernetes' files hold, found by structure: neither the order of keys nor the distance between them matters.

Each value is judged by itself. That a file is encrypted by its looks, or that other values of it are placeholders, excuses none.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import itertools
import re
from typing import Iterator, List, Sequence, Set, Tuple, Union

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.finding import Finding
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import Node, TooLarge, anchored, documents, write_path

# What stands for a secret and is none: ${NAME}, $(NAME), {{ template }}, <path:…> and <NAME>, sops' ENC[…], vals' ref+…, op://…
_STANDS_FOR = r"""(?xs) \s* (?: %s \$\{[^}]*\} | \$\([^)]*\) | <[^<>]*> | %%[A-Za-z_]+%% | ENC\[[^\]]*\] | ref\+\S+ | op://\S+
    | \$[A-Z_][A-Z0-9_]* ) \s*"""
_PLACEHOLDER = re.compile(_STANDS_FOR % "")
_PLACEHOLDER_OR_TEMPLATE = re.compile(_STANDS_FOR % r"\$?\{\{.*?\}\} |")  # where there is a }} to come
# Names of variables and of values of charts that hold a secret themselves, not the name of a place where one is.
_NAME = re.compile(
    r"(?i)(?:^|[-_.]|(?<=[a-z]))(?:password|passwd|passphrase|token|api[-_]?key|private[-_]?key|secret[-_]?key|access[-_]?key|client[-_]?secret)\Z")
_VARIABLE = re.compile(r"(?i)(?:password|passwd|passphrase|token|secret|api_?key|private_?key|secret_?key|access_?key)\Z")
_ACTION = re.compile(r"(?s)\{\{.*?\}\}")
# In a line of a template: a name that says it is a secret, with a value of its own, or a password in a URL.
_LITERAL = re.compile(
    r"""(?ix) (?:password|passwd|passphrase|token|secret|api[-_]?key|private[-_]?key|access[-_]?key) ["']? \s* [:=] \s* ["']? (?!["'{$<]|\s*$) \S
    | ://[^/\s:@]*:(?!\{\{|\$)[^/\s@]+@""")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SUFFIXES = (".yaml", ".yml", ".json")


# A file with none of these holds nothing that is looked for by structure. A backslash or a tag may spell any of them.
_WORDS = re.compile(r"(?i)secret|passw|passphrase|token|(?:api|private|access)[-_]?key|last-applied|\\|!")
# As much as one file may have for its structure to be judged: four times what the API server takes for one object.
MAX_CHARACTERS = 6 << 20
MAX_FINDINGS = 1000  # of one file
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*\{\{[^\n]*\}\}[ \t]*$", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{[^\n]*?\}\}")
_KIND_LINE = re.compile(r"""^\s*(?:-\s+)?[{,]?\s*["']?kind["']?\s*:\s*["']?Secret(?:List)?\b""", re.MULTILINE)
_DATA_LINE = re.compile(r"""^(?P<indent>\s*)(?:-\s+)?["']?(?P<field>data|stringData)["']?\s*:\s*(?P<rest>.*?)\s*,?$""")
_VALUE_LINE = re.compile(r"""^(?P<indent>\s*)["']?(?P<key>[^\s"':#{}]+)["']?\s*:\s+(?P<value>\S.*?)\s*,?$""")


def findings(text: str, file: str) -> List[Finding]:
    """Every secret that lies open in a YAML or JSON file. What cannot be read (a template) is judged by its lines."""
    if not _WORDS.search(text):
        return []
    if len(text) > MAX_CHARACTERS:
        return [Finding(file, 1, f"the file is too large to be judged by its structure: {len(text) >> 20} MiB, more than {MAX_CHARACTERS >> 20}. "
                                 "Split it, or exclude it")]
    try:
        found = (Finding(file, line, what) for document, first in _documents(text, file) for line, what in _judged(document, first))
        return sorted(set(itertools.islice(found, MAX_FINDINGS)))
    except TooLarge as large:
        return [Finding(file, 1, f"the file cannot be judged by its structure: it {large.what}. Split it, or exclude it")]


def sealed_lines(text: str, file: str) -> Set[int]:
    """The lines of values that are encrypted by SealedSecrets: any text may look like a token."""
    lines: Set[int] = set()
    if len(text) > MAX_CHARACTERS:
        return lines
    try:
        for document, first in _documents(text, file):
            for path, node in document.walk() if isinstance(document, Node) else ():
                if node.kind == "scalar" and "encryptedData" in path:
                    lines.update(range(first + node.line, first + node.end_line + 1))
    except TooLarge:
        lines.clear()
    return lines


def _documents(text: str, file: str) -> Iterator[Tuple[Union[Node, str], int]]:
    """Each document, or its text where it cannot be read, and the number of lines in front of it. One that cannot be read hides no other."""
    try:
        yield from ((document, 0) for document in documents(text, file))
        return
    except TooLarge:
        raise
    except Failure:
        pass
    starts = [0, *(found.start() for found in _SEPARATOR.finditer(text)), len(text)]
    first = 0
    for begin, end in zip(starts, starts[1:]):
        part = text[begin:end]
        yield from ((document, first) for document in _read(part, file))
        first += part.count("\n")


def _read(part: str, file: str) -> Sequence[Union[Node, str]]:
    """A document as it is; as JSON that is indented by tabs; without the lines that are a template's, and with what a template writes left open."""
    without = _TEMPLATE.sub("${T}", _DIRECTIVE.sub("", part.replace("\t", " ")))
    for text in (part, without):
        try:
            return documents(text, file)
        except TooLarge:
            raise
        except Failure:
            continue
    return [without]


def _judged(document: Union[Node, str], first: int) -> Iterator[Tuple[int, str]]:
    if isinstance(document, str):
        yield from ((first + line, what) for line, what in _by_lines(document))
        return
    known = _Anchors(document)
    is_object = document.get("kind") is not None
    for path, node in document.walk():
        if node.kind == "mapping":
            yield from ((first + line, what) for line, what in _in_mapping(path, node, known))
        elif not is_object and path and isinstance(path[-1], str) and _NAME.search(path[-1]) and _is_open(known.of(node)):
            yield first + node.line, f"{write_path(path)} holds a value, and its name says that it is a secret"


def _by_lines(text: str) -> Iterator[Tuple[int, str]]:
    """The Secrets of a text that is no YAML (yet): what stands below data and stringData, by its indentation."""
    if not _KIND_LINE.search(text):
        return
    field, depth = "", -1
    for number, line in enumerate(text.split("\n"), 1):
        indent = len(line) - len(line.lstrip())
        if field and line.strip() and indent <= depth:
            field = ""
        begins = _DATA_LINE.match(line)
        if begins:
            field, depth = begins.group("field"), indent
            if begins.group("rest").strip("{} ") and not _is_placeholder(begins.group("rest")):
                yield number, f"a Secret in a file that is not valid YAML: {field} is not encrypted"
            continue
        value = _VALUE_LINE.match(line) if field else None
        if value and not _is_placeholder(value.group("value").strip("\"'")) and value.group("value") not in ('""', "''", "null", "~"):
            yield number, f"a Secret in a file that is not valid YAML: {field}.{value.group('key')} is not encrypted"


class _Anchors:
    """What the aliases of a document mean, and the entries of a mapping with those that it merges."""

    def __init__(self, document: Node) -> None:
        self._anchors = anchored(document)
        self._starts = {name: [node.start for node in nodes] for name, nodes in self._anchors.items()}
        self._left = UNFOLDED

    def of(self, node: Node) -> Node:
        """The node itself, or what an alias means: the nearest anchor of its name in front of it."""
        if node.kind != "alias":
            return node
        number = bisect.bisect_left(self._starts.get(node.value, ()), node.start)
        return self._anchors[node.value][number - 1] if number else node

    def entries(self, node: Node, key: str = "", line: int = 0, depth: int = 0) -> Iterator[Tuple[str, Node, int]]:
        """(key, value, line) of each entry, or of each of one key: kubectl takes the last of several, so each is judged. line: where an alias
        stands by which it is reached, else that of the value."""
        node = self.of(node)
        if node.kind != "mapping" or depth > MERGES:
            return
        for name, value in node.items:
            self._left -= 1
            if self._left < 0:
                raise TooLarge(f"unfolds to more than {UNFOLDED:,} keys by its aliases", "")
            if self.of(name).value == "<<":
                merged = self.of(value)
                for each in merged.items if merged.kind == "sequence" else (value,):
                    yield from self.entries(each, key, line or value.line, depth + 1)
            elif not key or self.of(name).value == key:
                yield self.of(name).value, value, line or value.line

    def texts(self, node: Node, key: str) -> List[str]:
        return [self.of(value).value for _key, value, _line in self.entries(node, key) if self.of(value).kind == "scalar"]


MERGES = 5  # of mappings that merge others
UNFOLDED = 2_000_000  # keys that are looked at in one document, those behind an alias as often as it stands


def _in_mapping(path: Tuple[object, ...], node: Node, known: _Anchors) -> Iterator[Tuple[int, str]]:
    kinds = known.texts(node, "kind")
    if "Secret" in kinds:
        yield from _secret(node, known)
    if "SecretList" in kinds:
        for _key, items, _line in known.entries(node, "items"):
            for item in known.of(items).items if known.of(items).kind == "sequence" else ():
                yield from _secret(item, known)
    if "SealedSecret" in kinds:
        name = _name_of(known.of(node))
        for _key, spec, _line in known.entries(node, "spec"):
            for _key, template, _line in known.entries(spec, "template"):
                for field in ("data", "stringData"):
                    yield from _open_values(template, field, f"SealedSecret {name}: spec.template.{field}", False, known, templates=True)
                yield from _annotation(template, f"SealedSecret {name}: spec.template", known)
        yield from _annotation(node, f"SealedSecret {name}", known)
    if not kinds and path and isinstance(path[-1], int) and len(path) > 1 and path[-2] == "env":
        for name in known.texts(node, "name"):
            for _key, value, line in known.entries(node, "value"):
                if _VARIABLE.search(name) and _is_open(known.of(value)):
                    yield line, f"the variable {name} holds a value, and its name says that it is a secret"


def _secret(node: Node, known: _Anchors) -> Iterator[Tuple[int, str]]:
    name = _name_of(known.of(node))
    for field in ("data", "stringData"):
        yield from _open_values(node, field, f"Secret {name}: {field}", field == "data", known)
    yield from _annotation(node, f"Secret {name}", known)


def _name_of(node: Node) -> str:
    metadata = node.get("metadata")
    if metadata is None:
        return ""
    namespace, name = metadata.text("namespace"), metadata.text("name")
    return f"{namespace}/{name}" if namespace else name


def _open_values(node: Node, field: str, where: str, encoded: bool, known: _Anchors, templates: bool = False) -> Iterator[Tuple[int, str]]:
    for _field, values, at in known.entries(node, field):
        for key, value, line in known.entries(values):
            if _is_open(known.of(value), encoded) and not (templates and _takes_its_secrets_from_actions(known.of(value).value)):
                # Both ends of an alias: either may be the line that a commit adds.
                for place in sorted({line, at if values.kind == "alias" else line, known.of(value).line}):
                    yield place, f"{where}.{key} is not encrypted"


def _takes_its_secrets_from_actions(text: str) -> bool:
    """Whether a template, such as a whole configuration file, has an action wherever its own words say that a secret stands there."""
    if "}}" not in text or not _ACTION.search(text):
        return False
    return not any(_LITERAL.search(line) for line in _ACTION.sub("{{}}", text[: text.rfind("}}") + 2]).splitlines() + [text[text.rfind("}}") + 2 :]])


def _annotation(node: Node, where: str, known: _Anchors) -> Iterator[Tuple[int, str]]:
    for _key, metadata, _line in known.entries(node, "metadata"):
        for _key, annotations, _line in known.entries(metadata, "annotations"):
            for _key, _value, line in known.entries(annotations, LAST_APPLIED):
                yield line, f"{where}: the annotation {LAST_APPLIED} holds the whole Secret"


def _is_open(node: Node, encoded: bool = False) -> bool:
    text = node.value
    if encoded:
        try:
            text = base64.b64decode(text, validate=False).decode("utf-8", "replace") if not _is_placeholder(text) else text
        except (binascii.Error, ValueError):
            pass  # no base64: judged as it stands
    plain = node.kind == "scalar" and not node.style and text.lower() in ("", "null", "~", "true", "false")
    return node.kind == "scalar" and bool(text.strip()) and not plain and not _is_placeholder(text)


def _is_placeholder(text: str) -> bool:
    """Whether it is made of nothing but what stands for a secret. Each piece is looked at once: a repeated group would try every way to
    divide the text."""
    place, templates = 0, text.rfind("}}")
    while place < len(text):
        found = (_PLACEHOLDER_OR_TEMPLATE if place <= templates else _PLACEHOLDER).match(text, place)
        if not found:
            return False
        place = found.end()
    return bool(text)
