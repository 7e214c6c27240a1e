# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random YAML files as people write them: comments, anchors and aliases, quotes, several documents, CRLF, tabs in strings, long lines; and values to set."""

from __future__ import annotations

import re

import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import documents
from hypothesis import assume
from hypothesis import strategies as some

WORDS = some.text("abcdefghijklmnopqrstuvwxyz", max_size=8).map(lambda text: f"k{text}")  # none that is null or a number
COMMENT = some.one_of(some.just(""), some.text("abc {}[]'\"&*!|>-:#% ", max_size=20).map(lambda text: f"  # {text}"))
PLAIN = some.from_regex(r"[a-z][a-z0-9./-]{0,12}", fullmatch=True)
LONG = some.just("x" * 300)
QUOTED = some.one_of(
    some.text("abc 1.{}#:\t'é☃", max_size=20).map(lambda text: "'" + text.replace("'", "''") + "'"),
    some.text("abc 1.{}#:'é☃", max_size=20).map(lambda text: '"' + text + '"'), some.just('"a\\tb"'), some.just("'a\tb'"))
SCALAR = some.one_of(PLAIN, QUOTED, LONG, some.just("1.10"), some.just("!!str b"), some.just(""),
                     some.just("{}"), some.just("[1, 'two', {three: 3}]"))
ANCHORED = some.sampled_from(["&anchor a", "&anchor 'b'", "*anchor", "*anchor"])


@some.composite
def mapping(draw, indent=0):
    lines = []
    for name in draw(some.lists(WORDS, min_size=1, max_size=4, unique=True)):
        pad = " " * indent
        lines += draw(some.lists(some.sampled_from(["", f"{pad}# note"]), max_size=2))
        shape = draw(some.sampled_from(["scalar", "scalar", "anchored", "block", "mapping", "sequence"] if indent < 6 else ["scalar", "anchored"]))
        if shape in ("scalar", "anchored"):
            lines.append(f"{pad}{name}: {draw(SCALAR if shape == 'scalar' else ANCHORED)}".rstrip(" ") + draw(COMMENT))
        elif shape == "block":
            lines += [f"{pad}{name}: {draw(some.sampled_from(['|', '>-', '|+']))}", f"{pad}  one", "", f"{pad}    two"]
        elif shape == "mapping":
            lines += [f"{pad}{name}:{draw(COMMENT)}", *draw(mapping(indent + 2))]
        else:
            lines.append(f"{pad}{name}:")
            lines += [f"{pad}- {draw(PLAIN)}{draw(COMMENT)}" for _item in range(draw(some.integers(1, 3)))]
    return lines


@some.composite
def files(draw):
    parts = draw(some.lists(mapping(), min_size=1, max_size=3))
    ending = draw(some.sampled_from(["\n", "\r\n"]))
    text = ending.join(ending.join(lines) if not number else "---" + ending + ending.join(lines) for number, lines in enumerate(parts))
    text = "".join(_named(part) for part in re.split(r"(?m)^(?=---)", text))
    return draw(some.sampled_from(["", "# head" + ending, "---" + ending, "\ufeff"])) + text + draw(some.sampled_from(["", ending, ending * 2]))


def _named(document):
    """Each anchor only once, and an alias of one that stands before it; a text where there is none."""
    count = 0

    def name(found):
        nonlocal count
        count += found[0] == "&anchor"
        return f"{found[0][0]}a{count}" if count else "a"

    return re.sub(r"[&*]anchor", name, document)


def scalars_of(document):
    """(path, node) of what may be set in a document."""
    return [(path, node) for path, node in document.walk() if node.kind == "scalar" and path and node.style not in ("|", ">")]


def loaded(text):
    return list(yaml.load_all(text, Loader=yaml.BaseLoader))


def at(value, path):
    for step in path:
        value = value[step]
    return value


VALUES = some.one_of(some.text(max_size=20).filter(lambda text: not any("\ud800" <= sign <= "\udfff" for sign in text)),
                     some.sampled_from(["6801028", "72225e2", "09334553", "1.10", "yes", "null", "~", "2020-01-01", "1:20", "0x1f", "-", "",
                                        "a: b", "a #b", "{a}", "it's", '"', "\\", "\ttab", "line\nbreak"]))


@some.composite
def changes(draw):
    """A file, one of its documents and that one's number, the path and the node of a value in it, another value, and the aliases of the node."""
    text = draw(files())
    parsed = documents(text, "app.yaml")
    number = draw(some.integers(0, len(parsed) - 1))
    scalars = scalars_of(parsed[number])
    assume(scalars)
    path, node = draw(some.sampled_from(scalars))
    aliases = [one for _where, one in parsed[number].walk() if one.kind == "alias" and one.value == node.anchor]
    return text, parsed[number], number, path, node, draw(VALUES), aliases
