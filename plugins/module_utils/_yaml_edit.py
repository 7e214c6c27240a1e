# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change scalars of a YAML file in place: every byte that is not the value's own stays as it is.

A YAML library that loads and dumps, ruamel.yaml included, rewrites blank lines, indentation or folded blocks of the whole file. Here the
parser says only where each value stands, and the text around it is never written anew. What comes out is parsed again and compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused, yaml_problem

Path = Tuple[Union[str, int], ...]
Fact = Tuple[str, str, str]  # kind, value and anchor of a node

# A plain scalar may be written so anywhere, in flow collections too.
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+~=-]*(?::[A-Za-z0-9_./@+~=-]+)*\Z")
# What YAML 1.1, YAML 1.2 or Go's parsers may read as something else than text: errs on the side of quotes.
_NOT_TEXT = re.compile(
    r"""(?ix) [-+]?[0-9_]*\.?[0-9_]*(e[-+]?[0-9]*)? | [-+]?0[xob][0-9a-f_]+ | [-+]?[0-9_]+(:[0-9_.]+)+ | [-+]?\.?(inf|nan) | [-.~]* | <<? | =
    | null | true | false | yes | no | on | off | y | n | [0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}([t\s].*)? \Z""")

NODES = 200_000  # keys and values of one file: the largest bundles of definitions have half of it; so many take 150 MB
SLOW_NODES = 50_000  # where PyYAML's own parser is needed
LONGEST = 253  # characters of a key that a message shows: as long as the name of an object may be
LISTED = 10  # lines that a message names
DEPTH = 200  # deeper than any manifest; the interpreter's own limit differs by version and by caller


@dataclass(frozen=True)
class Node:
    """One node of a document. start, end: where it stands in the text, in characters; line counts from 1."""

    kind: str  # scalar, mapping, sequence, alias
    start: int
    end: int
    line: int
    column: int
    end_line: int = 0  # the last line with something of it
    value: str = ""  # of a scalar; an alias' name
    style: Optional[str] = None  # of a scalar: None for plain, ' " | >
    anchor: str = ""
    flow: bool = False
    items: Tuple[Any, ...] = field(default=())  # of a sequence: Nodes; of a mapping: pairs of Nodes

    def get(self, key: str) -> Optional[Node]:
        """The value of a mapping's key."""
        if self.kind != "mapping":
            return None
        return next((value for name, value in self.items if name.kind == "scalar" and name.value == key), None)

    def text(self, key: str) -> str:
        """The value of a mapping's key where that is a scalar, else ""."""
        found = self.get(key)
        return found.value if found is not None and found.kind == "scalar" else ""

    def children(self) -> Iterator[Tuple[Union[str, int], Node]]:
        if self.kind == "mapping":
            for name, value in self.items:
                yield name.value, value
        elif self.kind == "sequence":
            yield from enumerate(self.items)

    def walk(self, path: Path = ()) -> Iterator[Tuple[Path, Node]]:
        """This node and all below it, each with its path. Aliases are not followed."""
        yield path, self
        todo = [(path, self.children())]  # a path is made when its node's turn comes, or those of a deep list would fill the memory
        while todo:
            where, rest = todo[-1]
            step, node = next(rest, (0, None))
            if node is None:
                todo.pop()
                continue
            here = where + (step,)
            yield here, node
            if node.items:
                todo.append((here, node.children()))


@dataclass(frozen=True)
class Edit:
    """Put `text` in the place of the characters from start to end, so that `node` has another value, or (with key) one more entry.

    added: what stands at the end of `node` afterwards, in the place of another value.
    """

    start: int
    end: int
    text: str
    node: Node
    value: str = ""
    key: str = ""
    added: Tuple[Fact, ...] = ()


def documents(text: str, where: str) -> List[Node]:
    """The documents of a YAML (or JSON) text. where: the file's name, for messages."""
    import yaml

    # libyaml takes a tenth of the time. It does not count a byte order mark as a character, and puts the end of a text without a line end
    # on the next line; but for these two it says the same places as PyYAML's own parser.
    loader = yaml.SafeLoader if "\ufeff" in text else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    events = yaml.parse(text if text.endswith("\n") else text + "\n", Loader=loader)
    try:
        return _Reader(events, where, SLOW_NODES if loader is yaml.SafeLoader else NODES).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise Failure(f"is not valid YAML: {yaml_problem(error)}", f"{where}{line}", "A template cannot be edited.") from None
    except yaml.YAMLError as error:
        raise Failure(f"is not valid YAML: {' '.join(str(error).split())}", where, "A template cannot be edited.") from None
    except _TooDeep:
        raise Failure(f"is nested more than {DEPTH} deep", where) from None


class _TooDeep(Exception):
    """Nested beyond DEPTH."""


class TooLarge(Refused):
    """More nodes than are taken."""


class _Reader:
    """From the parser's events to nodes that know where they stand."""

    def __init__(self, events: Iterator[Any], where: str, nodes: int) -> None:
        self._events, self._where = events, where
        self._nodes, self._left = nodes, nodes

    def documents(self) -> List[Node]:
        found = []
        for event in self._events:
            if type(event).__name__ == "DocumentStartEvent":
                found.append(self._node(next(self._events), 0))
        return found

    def _node(self, event: Any, depth: int) -> Node:
        if depth > DEPTH:
            raise _TooDeep()
        self._left -= 1
        if self._left < 0:
            raise TooLarge(f"holds more than {self._nodes:,} keys and values", self._where, "Split it.")
        kind = type(event).__name__
        last = event.end_mark.line + (event.end_mark.column > 0 or event.end_mark.line == event.start_mark.line)
        here = dict(start=event.start_mark.index, line=event.start_mark.line + 1, column=event.start_mark.column, end_line=last)
        if kind == "AliasEvent":
            return Node("alias", end=event.end_mark.index, value=event.anchor, **here)
        if kind == "ScalarEvent":
            return Node("scalar", end=event.end_mark.index, value=event.value, style=event.style or None, anchor=event.anchor or "", **here)
        items: List[Any] = []
        while True:
            follower = next(self._events)
            if type(follower).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
                break
            node = self._node(follower, depth + 1)
            items.append((node, self._node(next(self._events), depth + 1)) if kind == "MappingStartEvent" else node)
        return Node("mapping" if kind == "MappingStartEvent" else "sequence", end=follower.end_mark.index, anchor=event.anchor or "",
                    flow=bool(event.flow_style), items=tuple(items), **here)


def set_scalar(text: str, document: Node, node: Node, value: str, where: str) -> Edit:
    """The edit that gives this scalar another value (text). Existing quotes stay; new ones come where another reader would see a number."""
    place = f"{where}:{node.line}"
    if node.kind == "alias":
        anchors = [str(one.line) for one in anchored(document).get(node.value, ())]
        raise Refused(f"the value is the alias *{node.value}", place, f"Change its anchor, in line {', '.join(anchors[:LISTED])}, or write the value itself.")
    if node.kind != "scalar":
        raise Refused(f"the value is a {node.kind}", place, "Name the path of one value.")
    used = [str(one.line) for one in aliases(document).get(node.anchor, ())] if node.anchor else []
    if used:
        raise Refused(f"the value has the anchor &{node.anchor}, and its alias would change too, in line {', '.join(used[:LISTED])}", place,
                      "Write the value of each place itself.")
    if node.style in ("|", ">"):
        raise Refused("the value is a block of text", place, "Write it on the line of its key.")
    start = _after_properties(text, node, place)
    if node.style == "'" and _printable(value):
        written = "'" + value.replace("'", "''") + "'"
    elif node.style:
        written = _double(value)
    else:
        written = _plain(value)
    # `key:` without a value: the node is empty and stands right behind the colon.
    space = "" if node.end > start or text[start - 1 : start] in (" ", "\t") else " "
    return Edit(start, node.end, space + written, node, value)


def anchored(document: Node) -> Dict[str, List[Node]]:
    """The nodes that have an anchor, by its name."""
    return _named(document)[0]


def aliases(document: Node) -> Dict[str, List[Node]]:
    """The aliases, by the name of their anchor."""
    return _named(document)[1]


def _named(document: Node) -> Tuple[Dict[str, List[Node]], Dict[str, List[Node]]]:
    """Found once for each document, as many values of it may be changed."""
    global _last  # pylint: disable=global-statement
    if _last[0] is not document:
        by_anchor: Dict[str, List[Node]] = {}
        by_alias: Dict[str, List[Node]] = {}
        for _path, node in document.walk():
            if node.kind == "alias":
                by_alias.setdefault(node.value, []).append(node)
            elif node.anchor:
                by_anchor.setdefault(node.anchor, []).append(node)
        _last = document, (by_anchor, by_alias)
    return _last[1]


_last: Tuple[Optional[Node], Tuple[Dict[str, List[Node]], Dict[str, List[Node]]]] = None, ({}, {})


def insert_key(text: str, node: Node, key: str, value: str, where: str) -> Edit:
    """The edit that gives a block mapping another key, on a line of its own after its first entry."""
    place = f"{where}:{node.line}"
    if node.kind != "mapping" or node.flow or not node.items:
        raise Refused(f"has no key {key}, and one can be added to a block of lines only", place, f"Write {key} once by hand.")
    first, after = node.items[0]
    end = text.find("\n", max(after.end - 1, first.end))
    if after.kind != "scalar" or after.style in ("|", ">") or end < 0 and after.end < len(text.rstrip("\r\n")):
        raise Refused(f"has no key {key}, and its first entry is not one line", place, f"Write {key} once by hand.")
    line_end = "\r\n" if "\r\n" in text else "\n"
    line = f"{' ' * first.column}{key}: {_plain(value)}"
    at, line = (len(text), line_end + line) if end < 0 else (end + 1, line + line_end)
    return Edit(at, at, line, node, value, key)


def append_item(text: str, document: Node, key: str, item: Mapping[str, str], where: str) -> Edit:
    """The edit that gives the list under a key of the document one more mapping, and the document the list where it has none."""
    listed = document.get(key)
    if not _of_lines(document, "mapping") or listed is not None and not _of_lines(listed, "sequence"):
        raise Refused(f"has no list {key} of lines, and an item can be added to one only", f"{where}:{(listed or document).line}",
                      f"Write the first item of {key} once by hand.")
    lists = [node for node in [listed, *(value for _name, value in document.items)] if node and _of_lines(node, "sequence")]
    dash = _before(text, lists[0].items[0]) if lists else "- "
    if not re.fullmatch(r"[ \t]*- +", dash):
        raise Refused("the list begins in a way of its own", f"{where}:{lists[0].line}", f"Write the first item of {key} once by hand.")
    lines = [f"{name}: {_plain(value)}" for name, value in item.items()]
    lines = [dash + lines[0], *(" " * len(dash) + line for line in lines[1:])]
    facts: Tuple[Fact, ...] = (("mapping", "", ""), *(("scalar", word, "") for pair in item.items() for word in pair), ("end", "mapping", ""))
    if listed is None:
        lines.insert(0, f"{key}:")
        facts = (("scalar", key, ""), ("sequence", "", ""), *facts, ("end", "sequence", ""))
    line_end = "\r\n" if "\r\n" in text else "\n"
    at = _line_after(text, listed or document)
    lead = "" if text[at - 1] == "\n" else line_end
    return Edit(at, at, lead + line_end.join(lines) + ("" if lead else line_end), listed or document, added=facts)


def _of_lines(node: Node, kind: str) -> bool:
    return node.kind == kind and not node.flow and bool(node.items)


def _before(text: str, node: Node) -> str:
    """What stands on a node's line before it."""
    return text[text.rfind("\n", 0, node.start) + 1 : node.start]


def _line_after(text: str, node: Node) -> int:
    """Where the line after the last one of a node begins; a block's own end is behind the comments that follow it."""
    while node.items and not node.flow:
        last = node.items[-1]
        node = last[1] if isinstance(last, tuple) else last
    end = node.end
    if node.style in ("|", ">"):
        end = node.start + len(text[node.start : node.end].rstrip())
    following = text.find("\n", end)
    return len(text) if following < 0 else following + 1


def apply(text: str, edits: Sequence[Edit], where: str) -> str:
    """The text after the edits. It is parsed again: all else must mean what it meant before."""
    result, last = [], 0
    for edit in sorted(edits, key=lambda one: one.start):
        if edit.start < last:
            raise Refused("two changes are of the same value", where)
        result += [text[last : edit.start], edit.text]
        last = edit.end
    changed = "".join([*result, text[last:]])
    expected = [fact for document in documents(text, where) for fact in _facts(document, edits)]
    if expected != [fact for document in documents(changed, where) for fact in _facts(document, ())]:
        raise Refused("the change would alter other values of the file", where, "Change it by hand, and report this file's form.")
    return changed


def _facts(document: Node, edits: Sequence[Edit]) -> Iterator[Fact]:
    """What a document means, node by node, once the edits are made."""
    values = {edit.node.start: edit.value for edit in edits if not edit.key and not edit.added}
    added: Dict[int, List[Tuple[str, str]]] = {}
    # A document begins where its first key does, which has no items.
    appended: Dict[Tuple[str, int], Tuple[Fact, ...]] = {(edit.node.kind, edit.node.start): edit.added for edit in edits if edit.added}
    for edit in edits:
        if edit.key:
            added.setdefault(edit.node.start, []).append((edit.key, edit.value))
    todo: List[Union[Node, Fact]] = [document]
    while todo:
        node = todo.pop()
        if isinstance(node, tuple):
            yield node
            continue
        value = values.get(node.start, node.value) if node.kind == "scalar" else node.value
        yield node.kind, value, node.anchor
        below: List[Union[Node, Fact]] = []
        for number, item in enumerate(node.items):
            below.extend(item if isinstance(item, tuple) else (item,))
            if number == 0 and node.kind == "mapping":
                below.extend(("scalar", word, "") for pair in added.get(node.start, ()) for word in pair)
        below.extend(appended.get((node.kind, node.start), ()))
        below.append(("end", node.kind, ""))
        todo.extend(reversed(below) if node.items else ())


def _after_properties(text: str, node: Node, place: str) -> int:
    """Where the value itself begins: an anchor and a tag stand before it and stay."""
    start = node.start
    while start < node.end and text[start] in "&!":
        found = re.compile(r"\S+[ \t]*").match(text, start)
        start = found.end() if found else node.end
        if text[start : start + 1] in ("\r", "\n"):
            raise Refused("the value stands on another line than its anchor or tag", place, "Write it on one line.")
    return min(start, node.end)


def _plain(value: str) -> str:
    """A plain scalar, or quotes where another reader would see a number, a date, a bool or null in it."""
    return value if _PLAIN.match(value) and reads_as_text(value) else _double(value)


def reads_as_text(value: str) -> bool:
    """Whether every reader of YAML takes this plain scalar for text."""
    return bool(value) and not _NOT_TEXT.fullmatch(value)


def _printable(value: str) -> bool:
    return all(" " <= sign < "\x7f" or sign > "\xa0" and sign.isprintable() for sign in value)


_ESCAPES: Dict[str, str] = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def _double(value: str) -> str:
    signs = [_ESCAPES.get(sign) or (sign if _printable(sign) else _escaped(sign)) for sign in value]
    return '"' + "".join(signs) + '"'


def _escaped(sign: str) -> str:
    number = ord(sign)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


# ---- paths: image.tag, spec.containers[0].image, data["a.b"]

_STEP = re.compile(r"""(?:^|\.)(?P<key>[^.\[\]"]+)|\[(?P<index>[0-9]+)\]|\["(?P<quoted>[^"]*)"\]""")


def parse_path(path: str) -> Path:
    """image.tag -> ("image", "tag"); list positions as [0], keys with dots as ["a.b"]."""
    steps: List[Union[str, int]] = []
    position = 0
    while position < len(path):
        found = _STEP.match(path, position)
        if not found:
            break
        if found.group("index") is not None:
            steps.append(int(found.group("index")))
        else:
            steps.append(found.group("key") if found.group("key") is not None else found.group("quoted"))
        position = found.end()
    if not steps or position < len(path):
        raise Failure(f"{path!r} is not a path", "path", 'Write image.tag, containers[0].image, or annotations["example.org/tag"].')
    return tuple(steps)


def write_path(path: Path) -> str:
    """The reverse of parse_path, but for a key that is too long to be shown."""
    result = ""
    for step in path:
        if isinstance(step, int):
            result += f"[{step}]"
            continue
        if len(step) > LONGEST:
            step = f"{step[:LONGEST]}…"
        if re.fullmatch(r'[^.\[\]"]+', step):
            result += f".{step}" if result else step
        else:
            result += f'["{step}"]'
    return result


def find(document: Node, path: Path) -> Optional[Node]:
    """The node at a path, None where there is none."""
    node: Optional[Node] = document
    for step in path:
        if node is None:
            return None
        if isinstance(step, int):
            node = node.items[step] if node.kind == "sequence" and step < len(node.items) else None
        else:
            node = node.get(step)
    return node
