# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a YAML or JSON file to other contents, whole mappings included, and leave every other byte as it is.

A library that writes the whole file anew, even one that keeps comments, folds blocks and indents in its own way. Here the parser only
says where a value begins and ends, and the text between is exchanged. Then the new text is parsed: unless it holds exactly what was
asked for, the edit is refused and the file stays (an alias that is used elsewhere, a shape that this does not know).
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import MissingLibrary, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict

_SEPARATOR = re.compile(r"^---[^\n]*$", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9+/=_.-]*\Z")

Edit = Tuple[int, int, str]  # from, to, what stands there afterwards


def rewrite(data: bytes, file: str, bodies: Sequence[Any]) -> bytes:
    """The file with its documents changed to these bodies, one for each document that yaml_strict.parse finds in it."""
    documents, failures = yaml_strict.parse(data, file)
    if failures:
        raise failures[0]
    before = [document.body for document in documents]
    if before == list(bodies):
        return data
    text = data.decode("utf-8")
    edits: List[Edit] = []
    for body, wanted, (offset, part) in zip(before, bodies, _parts(text, file, len(documents))):
        if body != wanted:
            edits += [(offset + begin, offset + end, new) for begin, end, new in _Part(part, file).edits(body, wanted)]
    for begin, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        text = text[:begin] + new + text[end:]
    after = text.encode("utf-8")
    found, failures = yaml_strict.parse(after, file)
    if failures or [document.body for document in found] != list(bodies):
        raise _refused(file)
    return after


def render(body: Any) -> str:
    """A new document, as kubectl writes one."""
    yaml = _yaml()
    fast = getattr(yaml, "CSafeDumper", None)

    class Dumper(fast or yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else _style(value))

    Dumper.add_representer(str, text)
    width = float("inf") if fast is None else -1  # each of the two has a way of its own to say that no line is folded
    return str(yaml.dump(body, Dumper=Dumper, sort_keys=False, width=width, allow_unicode=True, default_flow_style=False))


def _style(value: str) -> Any:
    """Quotes where another reader than ours would take the text for a number, a date or the like."""
    return None if _PLAIN.match(value) and isinstance(yaml_strict.typed(value), str) and not re.match(r"[0-9.+-]", value) else '"'


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingLibrary("PyYAML", error) from error
    return yaml


def _refused(file: str) -> Refused:
    return Refused("cannot be changed without touching other bytes (an alias, a merge key, or a value in a form of its own)", file,
                   "Change it by hand, or write it as plain YAML.")


def _parts(text: str, file: str, count: int) -> List[Tuple[int, str]]:
    """(offset, text) of each document."""
    parts, begin = [], 0
    for separator in _SEPARATOR.finditer(text):
        parts.append((begin, text[begin:separator.start()]))
        begin = separator.end()
    parts.append((begin, text[begin:]))
    yaml = _yaml()
    try:
        held = [(offset, part) for offset, part in parts if yaml.compose(part.replace("\ufeff", " "), Loader=_loader(yaml)) is not None]
    except yaml.YAMLError:  # JSON may be written in ways that are no YAML
        raise _refused(file) from None
    if len(held) != count:
        raise _refused(file)
    return held


def _loader(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Part:
    """One document's text and its nodes."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.yaml = _yaml()
        self.root = self.yaml.compose(text.replace("\ufeff", " "), Loader=_loader(self.yaml))
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def edits(self, before: Any, after: Any) -> List[Edit]:
        found: List[Edit] = []
        self._value(self.root, before, after, found)
        return found

    def _value(self, node: Any, before: Any, after: Any, found: List[Edit]) -> None:
        if before == after and type(before) is type(after):
            return
        if isinstance(before, dict) and isinstance(after, dict) and isinstance(node, self.yaml.MappingNode):
            self._mapping(node, before, after, found)
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) and isinstance(node, self.yaml.SequenceNode):
            for child, old, new in zip(node.value, before, after):
                self._value(child, old, new, found)
        elif isinstance(node, self.yaml.ScalarNode) and not isinstance(after, (dict, list)):
            begin, end = node.start_mark.index, node.end_mark.index
            old = self.text[begin:end]
            tail = old[len(old.rstrip()):] if node.style in ("|", ">") else ""
            found.append((begin, end, self._scalar(after, node.style) + tail))
        else:
            raise _refused(self.file)

    def _mapping(self, node: Any, before: Dict[str, Any], after: Dict[str, Any], found: List[Edit]) -> None:
        pairs = {key.value: (key, value) for key, value in node.value}
        kept: List[str] = []
        for name in before:
            if name not in pairs and (name not in after or after[name] != before[name]):
                raise _refused(self.file)  # merged in by `<<`
        for name, (_key, value) in pairs.items():
            if name in after and name in before:
                kept.append(name)
                if before[name] is None and isinstance(after[name], dict) and value.start_mark.index == value.end_mark.index:
                    found.append(self._below(pairs[name][0], node, after[name]))
                elif before[name] in (None, {}) and isinstance(after[name], dict) and after[name]:
                    found.append((value.start_mark.index, value.end_mark.index, self._flow(after[name])))
                else:
                    self._value(value, before[name], after[name], found)
        if not kept and after and pairs:
            found.append(self._exchange(node, pairs, after))
            return
        gone = [name for name in pairs if name in before and name not in after]
        for name in gone:
            found.append(self._removal(node, list(pairs), pairs, name))
        new = [name for name in after if name not in before]
        if new:
            self._additions(node, pairs, kept, {name: after[name] for name in new}, found)

    def _exchange(self, node: Any, pairs: Dict[str, Any], after: Dict[str, Any]) -> Edit:
        """All keys of a mapping by others."""
        if node.flow_style:
            return node.start_mark.index, node.end_mark.index, self._flow(after)
        first, last = pairs[list(pairs)[0]][0], pairs[list(pairs)[-1]][1]
        column = first.start_mark.column
        begin = first.start_mark.index - column
        if self.text[begin:first.start_mark.index].strip():
            raise _refused(self.file)
        return begin, self._line_end(last), self._block(after, column)

    def _additions(self, node: Any, pairs: Dict[str, Any], kept: List[str], new: Dict[str, Any], found: List[Edit]) -> None:
        if not kept:
            raise _refused(self.file)  # an empty mapping at the top
        if node.flow_style:
            last = pairs[list(pairs)[-1]][1].end_mark.index
            names = list(pairs)
            between = self.text[pairs[names[-2]][1].end_mark.index:pairs[names[-1]][0].start_mark.index] if len(names) > 1 else \
                "," + self.text[node.start_mark.index + 1:pairs[names[0]][0].start_mark.index]
            between = between if re.fullmatch(r"\s*,\s*", between) else ", "
            if between == ",":
                between = ", "
            found.append((last, last, "".join(f"{between}{self._quoted(name)}: {self._flow(value)}" for name, value in new.items())))
            return
        column = pairs[kept[0]][0].start_mark.column
        is_sorted = kept == sorted(kept)
        places: Dict[int, List[Tuple[str, Any]]] = {}
        for name in sorted(new) if is_sorted else new:
            earlier = [each for each in kept if each < name] if is_sorted else kept
            place = self._line_end(pairs[earlier[-1]][1]) if earlier else pairs[kept[0]][0].start_mark.index - column
            places.setdefault(place, []).append((name, new[name]))
        for place, entries in places.items():
            text = "".join(self._block({name: value}, column) for name, value in entries)
            if place and self.text[place - 1] != "\n":
                text = self.newline + text
            found.append((place, place, text))

    def _below(self, key: Any, mapping: Any, value: Dict[str, Any]) -> Edit:
        """A mapping under a key that has no value yet."""
        if mapping.flow_style:
            raise _refused(self.file)
        place = self._line_end(key)
        lead = "" if place and self.text[place - 1] == "\n" else self.newline
        return place, place, lead + self._block(value, key.start_mark.column + 2)

    def _removal(self, node: Any, names: List[str], pairs: Dict[str, Any], name: str) -> Edit:
        key, value = pairs[name]
        place = names.index(name)
        if node.flow_style:
            if place:
                return pairs[names[place - 1]][1].end_mark.index, value.end_mark.index, ""
            return key.start_mark.index, pairs[names[1]][0].start_mark.index, ""
        begin = key.start_mark.index - key.start_mark.column
        if self.text[begin:key.start_mark.index].strip():
            raise _refused(self.file)  # `- key: value` is on the line of its item
        return begin, self._line_end(value), ""

    def _line_end(self, node: Any) -> int:
        """Behind the line on which the last of a value stands, its comment included."""
        while getattr(node, "flow_style", None) is False and node.value:
            node = node.value[-1][1] if isinstance(node, self.yaml.MappingNode) else node.value[-1]
        end = node.end_mark.index
        if getattr(node, "style", None) in ("|", ">"):
            end = node.start_mark.index + len(self.text[node.start_mark.index:end].rstrip())
        elif end > node.start_mark.index and self.text[end - 1] == "\n":
            end -= 1
        following = self.text.find("\n", end)
        return len(self.text) if following < 0 else following + 1

    def _block(self, value: Dict[str, Any], column: int) -> str:
        lines = render(value).splitlines()
        return "".join((" " * column + line if line else "") + self.newline for line in lines)

    def _flow(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self._quoted(name)}: {self._flow(each)}" for name, each in value.items()) + "}"
        return self._scalar(value, '"')

    def _quoted(self, name: str) -> str:
        return self._scalar(name, '"')

    def _scalar(self, value: Any, style: Any) -> str:
        if value is None or isinstance(value, (bool, int, float)):
            return json.dumps(value)
        if style == "'" and "'" not in value and value.isprintable():
            return f"'{value}'"
        if style not in ("'", '"') and _style(value) is None:
            return str(value)
        return str(self.yaml.safe_dump(value, default_style='"', width=float("inf"), allow_unicode=True)).rstrip("\n")
