# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read manifests as Kubernetes' own tooling reads them, but refuse what it would drop or decide silently.

kubectl, Argo CD and Flux split a file at lines that begin with `---` (apimachinery util/yaml), read each part by
go-yaml v2 (YAML 1.1 with its own table of scalars) and turn it into JSON (sigs.k8s.io/yaml). PyYAML resolves scalars
differently (`012`, `1e3`, `0o12`, `12:30:45`, dates), so only its parser is used here and the scalars are resolved by
go-yaml's rules. Where that library stays silent (duplicate keys, a second document after `...`, unknown tags) this
one says file and line.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import ERRORS, Budget

MAX_FILE = 64 * 1024 * 1024
MAX_DEPTH = 200  # the readers of the result recurse, and Python gives them a stack of 1,000 frames
# go-yaml v2 allows 99 % of a small document to come from aliases and 10 % of a large one.
ALIAS_RATIO_LOW, ALIAS_RATIO_HIGH = 400_000, 4_000_000

_SEPARATOR = re.compile(rb"^---([^\n]*)$", re.MULTILINE)

_NAMED: Dict[str, Any] = {}
for _value, _words in (
    (True, "y Y yes Yes YES true True TRUE on On ON"),
    (False, "n N no No NO false False FALSE off Off OFF"),
    (None, "~ null Null NULL"),
    (math.nan, ".nan .NaN .NAN"),
    (math.inf, ".inf .Inf .INF +.inf +.Inf +.INF"),
    (-math.inf, "-.inf -.Inf -.INF"),
):
    for _word in _words.split():
        _NAMED[_word] = _value
_NAMED[""] = None

# Only a plain scalar that begins with one of these can be anything but a string.
_HINTS = frozenset("+-0123456789yYnNtTfFoO~.")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([1-9][0-9]*|0))\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_DOT_FLOAT = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?\Z")
_SIGNED_BINARY = re.compile(r"0b([-+][01]+)\Z")  # go-yaml hands "-1" of "0b-1" to its integer parser

_YAML = "tag:yaml.org,2002:"
_STR, _INT, _FLT, _BOOL, _NULL = (_YAML + name for name in ("str", "int", "float", "bool", "null"))
_MERGE_TAG = _YAML + "merge"
_SCALAR_TAGS = (_STR, _INT, _FLT, _BOOL, _NULL)
_NAMES_OF_TAGS = ("str", "int", "float", "bool", "null", "map", "seq", "set", "omap", "pairs", "timestamp", "merge")


class Parsed(NamedTuple):
    """One YAML or JSON document of a file."""

    body: Any
    line: int  # 1-based line of its first value
    item_lines: Tuple[int, ...]  # lines of the mappings inside a top-level list of mappings: a List's items


def typed(text: str) -> Any:
    """What a plain (unquoted, untagged) scalar is to go-yaml v2: str, bool, None, int or float."""
    if text in _NAMED:
        return _NAMED[text]
    first = text[0]
    if first not in _HINTS:
        return text
    if first == ".":
        return _float_or(text, text) if _DOT_FLOAT.match(text) else text
    if first not in "+-0123456789":
        return text
    digits = text.replace("_", "")
    found = _INTEGER.match(digits)
    if found:
        sign, hexadecimal, binary, octal, decimal = found.groups()
        if decimal is None or len(decimal) < 25:  # Python limits a decimal's length; 25 digits are beyond uint64
            value = (
                int(hexadecimal, 16) if hexadecimal else int(binary, 2) if binary
                else int(octal, 8) if octal else int(decimal)
            )
            value = -value if sign == "-" else value
            if -(2**63) <= value < (2**63 if sign else 2**64):
                return value
    if _FLOAT.match(digits):
        return _float_or(digits, text)
    found = _SIGNED_BINARY.match(digits)
    if found and -(2**63) <= int(found.group(1), 2) < 2**63:
        return int(found.group(1), 2)
    return text


def _float_or(digits: str, text: str) -> Any:
    value = float(digits)
    return text if math.isinf(value) else value  # Go's parser refuses what overflows, so it stays a string


def number(value: float) -> Any:
    """A float as it comes out of Go's JSON writer and Kubernetes' reader: an int64 where it is whole."""
    if not value.is_integer():
        return value
    digits, _e, exponent = repr(value).partition("e")
    if not exponent:
        return int(value)
    # Go writes the shortest digits and fills up with zeros, which beyond 2^53 is not the float's exact value.
    whole, _dot, fraction = digits.partition(".")
    if int(exponent) > 18:
        return value
    written = int(whole + fraction.ljust(int(exponent), "0"))
    return written if -(2**63) <= written < 2**63 else value


def json_value(value: Any) -> Any:
    """A scalar as Kubernetes holds it: integers are int64, anything larger is a float."""
    kind = type(value)
    if kind is float:
        return number(value)
    if kind is int and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def json_key(value: Any) -> Optional[str]:
    """A mapping's key as sigs.k8s.io/yaml writes it into JSON; None where it refuses."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, float):
        return _float32(value)
    return None


def _float32(value: float) -> str:
    """Go's FormatFloat(value, 'g', -1, 32): the shortest digits that give the same 32-bit float."""
    if math.isnan(value):
        return ".nan"
    try:
        bits = struct.pack("f", value)
    except OverflowError:
        bits = struct.pack("f", math.copysign(math.inf, value))
    single = struct.unpack("f", bits)[0]
    if math.isinf(single):
        return ".inf" if single > 0 else "-.inf"
    text = next(text for text in (f"{single:.{n}e}" for n in range(10)) if struct.pack("f", float(text)) == bits)
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    digits, power = mantissa.lstrip("-").replace(".", ""), int(exponent)
    if power < -4 or power >= 6:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    whole, fraction = digits[: power + 1].ljust(power + 1, "0"), digits[power + 1:]
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def parse(data: bytes, file: str, twice: Optional[List[Failure]] = None, budget: Optional[Budget] = None) -> Tuple[List[Parsed], List[Failure]]:
    """All documents of one file and what is wrong with it, the first errors where there are many; empty documents are left out.

    twice: where given, the last of two equal keys wins as kubectl has it, and each such key is added here instead.
    budget: what the files of one render may hold together; beyond it Refused is raised, since what follows would count too.
    """
    budget = budget or Budget()
    try:
        _refuse_other_encodings(data, file)
    except Failure as problem:
        return [], [problem]
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    documents: List[Parsed] = []
    failures: List[Failure] = []
    for part, first_line, failure in _parts(data, file):
        if failure:
            failures.append(failure)
            continue
        try:
            documents.extend(_documents(part, first_line, file, twice, budget))
        except Refused:
            raise
        except Failure as problem:
            failures.append(problem)
            if len(failures) >= ERRORS:
                break
    return documents, failures


def too_large(size: int, file: str) -> Refused:
    """A file that is not read at all."""
    return Refused(f"is {size >> 20} MiB, the limit for one file is {MAX_FILE >> 20} MiB", file,
                   "Split it, or leave it out with `exclude`.")


def _refuse_other_encodings(data: bytes, file: str) -> None:
    if len(data) > MAX_FILE:
        raise too_large(len(data), file)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:  # a byte order mark, or a character of two or four bytes without one
        raise Failure("is UTF-16 or UTF-32, a manifest must be UTF-8", f"{file}:1", "Save it as UTF-8.")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Failure(f"is not UTF-8: {error.reason} at byte {error.start} (0x{data[error.start]:02x})",
                      f"{file}:{line}", "Save it as UTF-8.") from None


def _parts(data: bytes, file: str) -> List[Tuple[bytes, int, Optional[Failure]]]:
    """Cut at lines that begin with `---`, as apimachinery's YAMLReader does, with the line each part begins at."""
    parts: List[Tuple[bytes, int, Optional[Failure]]] = []
    begin, line = 0, 1
    for separator in _SEPARATOR.finditer(data):
        end = separator.start()
        parts.append((data[begin:end], line, None))
        line += data.count(b"\n", begin, end)
        rest = separator.group(1).strip()
        if rest and not rest.startswith(b"#"):
            parts.append((b"", line, Failure(
                f"invalid document separator: ---{separator.group(1).decode().rstrip()}", f"{file}:{line}",
                "kubectl accepts nothing but a comment after `---`; begin the document on the next line.")))
        begin = separator.end()
    # apimachinery ends every line: a block scalar that ends with the file has a last line break.
    parts.append((data[begin:] + (b"" if data.endswith(b"\n") else b"\n"), line, None))
    return [part for part in parts if part[2] or part[0].strip()]


def _documents(part: bytes, first_line: int, file: str, twice: Optional[List[Failure]], budget: Budget) -> List[Parsed]:
    if part.lstrip()[:1] == b"{":
        # No value is without one of these in front. Python's JSON reader cannot be stopped; where it may make too many, YAML's counts.
        most = sum(part.count(sign) for sign in (b",", b":", b"[", b"{"))
        documents = _json_stream(part, first_line, file) if most <= budget.values else None
        if documents is not None:
            budget.take_values(most, f"{file}:{first_line}")
            return documents
    return _yaml_document(part, first_line, file, twice, budget)


# --- JSON -----------------------------------------------------------------------------------------------------------

class _NotJson(ValueError):
    """Something that the YAML reader must judge, as kubectl does when its JSON reader gives up."""


def _json_stream(part: bytes, first_line: int, file: str) -> Optional[List[Parsed]]:
    """The objects of a JSON file, one after another as Go's decoder reads them; None where it is not JSON."""
    text = part.decode("utf-8")
    documents: List[Parsed] = []
    end = counted = 0
    line = first_line
    while True:
        begin = _JSON_SPACE.match(text, end).end()  # type: ignore[union-attr]  # matches the empty string too
        line += text.count("\n", counted, begin)
        counted = begin
        if begin == len(text):
            return documents
        try:
            body, end = _JSON.raw_decode(text, begin)
        except _NotJson:
            return None
        except RecursionError:
            raise _too_deep(file, line) from None
        except ValueError:
            return None
        _check_depth(body, file, line)
        if not isinstance(body, dict) or not _is_text(text[begin:end], body):
            return None
        documents.append(Parsed(body, line, ()))


def _is_text(source: str, body: Any) -> bool:
    """False where half a surrogate pair is escaped: Go would replace it silently."""
    if "\\ud" not in source.lower():
        return True
    try:
        json.dumps(body, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json_object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise _NotJson("a key twice: the YAML reader knows the lines")
    return body


def _json_float(text: str) -> Any:
    value = float(text)
    if math.isinf(value):
        raise _NotJson("beyond a float")
    return number(value)


def _json_int(text: str) -> Any:
    return json_value(int(text)) if len(text) < 25 else _json_float(text)


def _json_constant(text: str) -> Any:
    raise _NotJson(text)


_JSON = json.JSONDecoder(object_pairs_hook=_json_object, parse_float=_json_float, parse_int=_json_int,
                         parse_constant=_json_constant)
_JSON_SPACE = re.compile(r"[ \t\n\r]*")


def _check_depth(body: Any, file: str, line: int) -> None:
    level, depth = [body] if isinstance(body, (dict, list)) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep(file, line)
        level = [
            child for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, (dict, list))
        ]


def _too_deep(file: str, line: int) -> Failure:
    return Failure(f"is nested deeper than {MAX_DEPTH} levels", f"{file}:{line}", "No Kubernetes object needs that.")


# --- YAML -----------------------------------------------------------------------------------------------------------

_MERGE = object()  # the key of `<<: *defaults`
_NO_KEY = object()


class _Frame:
    """One collection that is being read."""

    __slots__ = ("value", "is_map", "key", "line", "lines", "merged", "anchor", "count")

    def __init__(self, value: Any, line: int, anchor: Optional[str], count: int) -> None:
        self.value = value
        self.is_map = isinstance(value, dict)
        self.key: Any = _NO_KEY
        self.line = line
        self.lines: Dict[Any, int] = {}
        self.merged: Optional[set] = None  # keys that came by a merge, which an explicit key may override
        self.anchor = anchor
        self.count = count


def _yaml_document(part: bytes, first_line: int, file: str, twice: Optional[List[Failure]], budget: Budget) -> List[Parsed]:
    import yaml

    loader = None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(part)  # without libyaml the same parser, slower
        return _build(yaml, loader, first_line, file, twice, budget)
    except yaml.reader.ReaderError as error:
        line = first_line + _line_of_offset(part, error)
        raise Failure(f"{error.reason} (U+{error.character:04X})", f"{file}:{line}",
                      "Remove the character, or write it as an escape in double quotes.") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_failure(error, part, first_line, file) from None
    except RecursionError:
        raise _too_deep(file, first_line) from None
    finally:
        if loader is not None:
            loader.dispose()


def _line_of_offset(part: bytes, error: Any) -> int:
    """libyaml counts bytes, the pure parser counts characters."""
    before = part[: error.position] if error.encoding == "?" else part.decode("utf-8")[: error.position].encode("utf-8")
    return before.count(b"\n")


def _syntax_failure(error: Any, part: bytes, first_line: int, file: str) -> Failure:
    mark = error.problem_mark or error.context_mark
    # What is missing at the end is missing on the last line that holds something.
    offset = min(mark.line if mark else 0, part.rstrip().count(b"\n"))
    what = ", ".join(words for words in (error.context, error.problem) if words)
    lines = part.split(b"\n")
    text = lines[offset] if offset < len(lines) else b""
    hint = ""
    if "<document start>" in what:
        hint = "Begin every document but the first with `---` on a line of its own."
    if "found unexpected ':'" in what:
        hint = "Quote the text that ends with a colon."
    if b"\t" in text[: len(text) - len(text.lstrip())] or "'\\t'" in what:
        hint = "The line is indented with a tab; YAML wants spaces."
    return Failure(f"YAML: {what}", f"{file}:{first_line + offset}", hint)


def _build(yaml: Any, loader: Any, first_line: int, file: str, twice: Optional[List[Failure]], budget: Budget) -> List[Parsed]:
    """Walk the parser's events with an explicit stack: deep input must not end in Python's recursion limit."""
    scalar_event, alias_event = yaml.ScalarEvent, yaml.AliasEvent
    mapping_start, sequence_start = yaml.MappingStartEvent, yaml.SequenceStartEvent
    mapping_end, sequence_end = yaml.MappingEndEvent, yaml.SequenceEndEvent
    document_start, stream_end = yaml.DocumentStartEvent, yaml.StreamEndEvent
    get_event = loader.get_event

    stack: List[_Frame] = []
    frame: Optional[_Frame] = None
    anchors: Dict[str, Optional[Tuple[Any, int]]] = {}
    item_lines: List[int] = []
    root: Any = None
    root_line = 0
    documents = count = aliased = events = merged = 0
    values = budget.values

    def fail(what: str, event: Any, hint: str = "") -> Failure:
        return Failure(what, f"{file}:{first_line + event.start_mark.line}", hint)

    while True:
        event = get_event()
        events += 1
        if not events & 0x3FFF:
            budget.check_time(f"{file}:{first_line + event.start_mark.line}")
        if count + merged > values:
            raise budget.too_many_values(f"{file}:{first_line + event.start_mark.line}")
        kind = type(event)
        if kind is scalar_event:
            count += 1
            tag, text = event.tag, event.value
            if tag is None or tag == "!":
                # `!` alone makes even a plain scalar a string; a quoted one is a string anyhow.
                value = typed(text) if tag is None and event.implicit[0] else text
            else:
                value = _tagged(tag, text, event, fail)
            if event.anchor is not None:
                anchors[event.anchor] = (value, 1)
            if frame is not None and frame.is_map and frame.key is _NO_KEY:
                frame.key = _begin_pair(frame, value, text, event, first_line, fail, twice)
                continue
            if isinstance(value, (float, int)) and not isinstance(value, bool):
                value = json_value(value)
                if isinstance(value, float) and not math.isfinite(value):
                    raise fail(f"{text} is no JSON number", event, "Quote it if a string is meant.")
        elif kind is mapping_start or kind is sequence_start:
            count += 1
            if len(stack) >= MAX_DEPTH:
                raise _too_deep(file, first_line + event.start_mark.line)
            if frame is not None and frame.is_map and frame.key is _NO_KEY:
                raise fail("a mapping's key is a mapping or a list, JSON has no such key", event)
            if event.tag is not None and event.tag != (_YAML + ("map" if kind is mapping_start else "seq")):
                raise _unknown_tag(event, fail)
            if event.anchor is not None:
                anchors[event.anchor] = None  # not complete: an alias to it would contain itself
            line = first_line + event.start_mark.line
            if kind is mapping_start and len(stack) == 2 and stack[0].is_map and not stack[1].is_map:
                item_lines.append(line)
            frame = _Frame({} if kind is mapping_start else [], line, event.anchor, count)
            stack.append(frame)
            if len(stack) == 1:
                root_line = line
            continue
        elif kind is mapping_end or kind is sequence_end:
            closed = stack.pop()
            value = closed.value
            if closed.anchor is not None:
                anchors[closed.anchor] = (value, count - closed.count + 1)
            frame = stack[-1] if stack else None
        elif kind is alias_event:
            if event.anchor not in anchors:
                raise fail("an alias has no anchor before it", event, "Quote the value if it begins with `*`.")  # its name may be a password
            known = anchors[event.anchor]
            if known is None:
                raise fail(f"anchor &{event.anchor} contains itself", event)
            original, size = known
            count += size
            aliased += size
            if aliased > 100 and count > 1000 and aliased / count > _allowed_alias_ratio(count):
                raise fail("contains excessive aliasing: its aliases expand to far more than it holds", event)
            if count > values:
                raise budget.too_many_values(f"{file}:{first_line + event.start_mark.line}")
            if frame is not None and frame.is_map and frame.key is _NO_KEY:
                if isinstance(original, (dict, list)):
                    raise fail("a mapping's key is a mapping or a list, JSON has no such key", event)
                frame.key = _begin_pair(frame, original, None, event, first_line, fail, twice)
                continue
            if frame is not None and frame.is_map and frame.key is _MERGE and not isinstance(original, dict):
                raise fail("`<<` merges a mapping, or a list of mappings", event)
            value = json_value(_copy(original))
            if isinstance(value, float) and not math.isfinite(value):
                raise fail(f"*{event.anchor} is no JSON number", event)
        elif kind is document_start:
            documents += 1
            if documents > 1:
                raise fail("a document follows `...` without `---`; kubectl would drop it silently", event,
                           "Put `---` on a line of its own before it.")
            continue
        elif kind is stream_end:
            budget.take_values(count + merged, f"{file}:{root_line}")
            if aliased:
                _check_depth(root, file, root_line)
            return [] if root is None else [Parsed(root, root_line, tuple(item_lines))]
        else:
            continue

        if frame is None:
            root = value
            root_line = root_line or first_line + event.start_mark.line
        elif not frame.is_map:
            frame.value.append(value)
        elif frame.key is _MERGE:
            merged += _merge(frame, value, event, fail)
            frame.key = _NO_KEY
        else:
            frame.value[frame.key] = value
            frame.key = _NO_KEY


def _begin_pair(frame: _Frame, value: Any, text: Optional[str], event: Any, first_line: int, fail: Any,
                twice: Optional[List[Failure]]) -> Any:
    """The key of a mapping's next pair, refused when the mapping has it already."""
    if text == "<<" and (event.implicit[0] or event.tag == _MERGE_TAG):
        if frame.merged is not None:
            raise fail("`<<` twice in one mapping", event, "Merge a list of mappings: `<<: [*a, *b]`.")
        return _MERGE
    key = value if isinstance(value, str) else json_key(value)
    if key is None:
        raise fail(f"`{text or value}` cannot be a key", event, "Quote it.")
    line = first_line + event.start_mark.line
    if key in frame.lines:
        failure = fail(f"key {key!r} is set twice, first at line {frame.lines[key]}", event,
                       "Only one of them would reach the cluster: remove the other.")
        if twice is None:
            raise failure
        if len(twice) < ERRORS:
            twice.append(failure)
    frame.lines[key] = line
    return key


def _merge(frame: _Frame, value: Any, event: Any, fail: Any) -> int:
    """Merge, and say how many pairs were looked at."""
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, dict) for source in sources):
        raise fail("`<<` merges a mapping, or a list of mappings", event)
    frame.merged = set()
    for source in reversed(sources):  # the first of the list wins
        for key, merged in source.items():
            if key in frame.lines:
                raise fail(f"key {key!r} of line {frame.lines[key]} is merged over by `<<`", event,
                           "YAML and Kubernetes' tools disagree on which of the two wins: put `<<` first.")
            frame.value[key] = merged
            frame.merged.add(key)
    return sum(map(len, sources))


def _tagged(tag: str, text: str, event: Any, fail: Any) -> Any:
    if tag == _MERGE_TAG and text == "<<":  # YAML editors write the merge key so
        return text
    if tag not in _SCALAR_TAGS:
        raise _unknown_tag(event, fail)
    if tag == _STR:
        return text
    value = typed(text)
    if tag == _FLT and isinstance(value, int):
        return float(value)
    wanted = {_INT: int, _FLT: float, _BOOL: bool, _NULL: type(None)}[tag]
    if value.__class__ is not wanted:
        raise fail(f"the value is no !!{tag[len(_YAML):]}", event)  # not shown: it may be a Secret's
    return value


def _unknown_tag(event: Any, fail: Any) -> Failure:
    name = event.tag.replace(_YAML, "")
    if name == "binary":
        return fail("tag !!binary is refused", event, "Write the base64 text itself as a plain string: Kubernetes decodes it, YAML must not.")
    if name in _NAMES_OF_TAGS:
        return fail(f"tag !!{name} is refused", event, "Remove the tag.")
    return fail("a tag is refused", event, "Remove it, or quote the value if it begins with `!`.")  # it may be a password


def _allowed_alias_ratio(count: int) -> float:
    if count <= ALIAS_RATIO_LOW:
        return 0.99
    if count >= ALIAS_RATIO_HIGH:
        return 0.10
    return 0.99 - 0.89 * (count - ALIAS_RATIO_LOW) / (ALIAS_RATIO_HIGH - ALIAS_RATIO_LOW)


def _copy(value: Any) -> Any:
    """An alias's own copy: what a later stage changes in one place must not change in the other."""
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_copy(child) for child in value]
    return value
