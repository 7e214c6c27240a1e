# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML and JSON become what Kubernetes' tools make of them, and everything silent in theirs has file and line in ours."""

from __future__ import annotations

import json
import struct

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.yaml_strict import parse


def read(text):
    documents, failures = parse(text if isinstance(text, bytes) else text.encode(), "app.yaml")
    assert not failures, [str(failure) for failure in failures]
    return [document.body for document in documents]


def refused(text):
    """The one reason why a text is refused."""
    documents, failures = parse(text if isinstance(text, bytes) else text.encode(), "app.yaml")
    assert len(failures) == 1, (documents, [str(failure) for failure in failures])
    return str(failures[0])


# tests/integration/test_yaml_like_kubectl.py compares thousands of these with kubectl; here is what a reader should know.
@pytest.mark.parametrize("text, value", [
    ("no", False), ("y", True), ("off", False), ("NO", False), ("nO", "nO"), ("~", None), ("", None), ("NULL", None),
    ("012", 10), ("08", 8), ("0o12", 10), ("0x1F", 31), ("0b11", 3), ("0b-1", -1), ("1_000", 1000), ("+1", 1), ("-0", 0),
    ("1e3", 1000), ("1.0", 1), ("1.5", 1.5), ("1e400", "1e400"), ("1e-7", 1e-07), ("-0.0", 0), (".5", 0.5), ("1.2.3", "1.2.3"),
    ("12:30:45", "12:30:45"), ("2001-01-01", "2001-01-01"), ("=", "="), ("100m", "100m"), ("1Gi", "1Gi"),
    ("9223372036854775807", 9223372036854775807), ("9223372036854775808", 9223372036854775808.0), ("-9223372036854775809", -9.223372036854776e18),
    ("18446744073709551615", 18446744073709551615.0), ("'012'", "012"), ('"no"', "no"), ("!!str 1", "1"), ("!!int '7'", 7), ("! 1", "1"),
    ("9" * 5000, "9" * 5000), ("0x" + "0" * 5000 + "1", 1),
])
def test_a_scalar_is_what_kubectl_makes_of_it(text, value):
    body = read(f"a: {text}\n")[0]
    assert json.dumps(body) == json.dumps({"a": value})


@pytest.mark.parametrize(
    "key, name",
    [
        ("1", "1"),
        ("y", "true"),
        ("off", "false"),
        ("1.50", "1.5"),
        ("1e6", "1e+06"),
        ("0x10", "16"),
        ("3.14159265358979", "3.1415927"),
        ("'1.50'", "1.50"),
        ("1e-5", "1e-05"),
        (".inf", ".inf"),
        ("1e300", ".inf"),
    ],
)
def test_a_key_is_the_text_that_kubectl_makes_of_it(key, name):
    assert list(read(f"{key}: 1\n")[0]) == [name]


@given(some.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_key_reads_back_as_the_same_32_bit_float(value):
    assert struct.pack("f", float(yaml_strict._float32(value))) == struct.pack("f", value)


@pytest.mark.parametrize("key", ["~", "18446744073709551615", "[a]", "{a: 1}"])
def test_a_key_that_json_cannot_have_is_refused(key):
    assert "app.yaml:2" in refused(f"a: 1\n? {key}\n: 1\n")


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan"])
def test_a_number_that_json_cannot_have_is_refused(text):
    assert refused(f"a: 1\nb: {text}\n") == f"app.yaml:2: {text} is no JSON number. Quote it if a string is meant."


def test_a_key_twice_is_refused_with_both_lines():
    assert (
        refused("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
        == "app.yaml:5: key 'c' is set twice, first at line 3. Only one of them would reach the cluster: remove the other."
    )


def test_keys_that_become_the_same_text_are_a_key_twice():
    assert "key '1' is set twice, first at line 1" in refused("1: a\n'1': b\n")


def test_a_key_twice_in_json_is_refused_with_both_lines():
    assert "app.yaml:3: key 'a' is set twice, first at line 2" in refused('{\n "a": 1,\n "a": 2\n}')


def test_a_chart_s_key_twice_is_told_and_the_last_one_holds():
    told = []
    documents, failures = parse(b"a: 1\na: 2\n", "app.yaml", told)
    assert not failures and documents[0].body == {"a": 2}
    assert "first at line 1" in str(told[0])


def test_every_document_has_the_line_it_starts_at():
    documents, _failures = parse(b"# intro\n\na: 1\n---\n# more\nb: 2\n--- # with a comment\n\n\nc: 3\n---\n---\n", "app.yaml")
    assert [(document.body, document.line) for document in documents] == [({"a": 1}, 3), ({"b": 2}, 6), ({"c": 3}, 10)]


def test_items_of_a_list_have_the_lines_they_start_at():
    documents, _failures = parse(b"kind: List\nitems:\n- a: 1\n- b: {c: 2}\n- d: 3\n", "app.yaml")
    assert documents[0].item_lines == (3, 4, 5)


def test_one_broken_document_hides_no_other_and_each_is_named():
    documents, failures = parse(b"a: [\n---\nb: 1\n---\n\tc: 1\n---\nd: 1\nd: 2\n", "app.yaml")
    assert [document.body for document in documents] == [{"b": 1}]
    assert [failure.where for failure in failures] == ["app.yaml:1", "app.yaml:5", "app.yaml:8"]


def test_a_document_marker_inside_a_block_is_text():
    assert read("a: |\n  ---\n  b\n---\nc: 1\n") == [{"a": "---\nb\n"}, {"c": 1}]


def test_a_marker_with_text_after_it_is_refused_as_kubectl_does():
    assert "app.yaml:2: invalid document separator: --- b" in refused("a: 1\n--- b\n")


def test_what_kubectl_would_drop_after_three_dots_is_refused():
    assert refused("a: 1\n...\nb: 2\n") == (
        "app.yaml:3: YAML: did not find expected <document start>. Begin every document but the first with `---` on a line of its own.")
    assert read("a: 1\n...\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_a_tab_as_indentation_is_named():
    assert refused("a:\n\tb: 1\n").startswith("app.yaml:2: YAML: while scanning for the next token")
    assert "tab" in refused("a:\n\tb: 1\n")


def test_a_byte_order_mark_and_windows_line_ends_change_nothing():
    plain = "a: 1\nb: |\n  x\n  y\n---\nc: 2\n"
    assert read(b"\xef\xbb\xbf" + plain.encode()) == read(plain.replace("\n", "\r\n")) == read(plain)


@pytest.mark.parametrize("data, words", [
    (b"a: 1\nb: \xff\n", "app.yaml:2: is not UTF-8: invalid start byte at byte 8 (0xff)"),
    ("a: 1\n".encode("utf-16"), "app.yaml:1: is UTF-16 or UTF-32"),
    ("a: 1\n".encode("utf-32"), "app.yaml:1: is UTF-16 or UTF-32"),
    *(("a: 1\n".encode(name), "app.yaml:1: is UTF-16 or UTF-32") for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
    (b"a: 1\nb: 2\nc: \x01\n", "app.yaml:3: control characters are not allowed (U+0001)"),
    (b"a: 1\nb: \"\xed\xa0\x80\"\n", "app.yaml:2: is not UTF-8"),
    (b'{"a": "\\ud800"}', "app.yaml:1"),
])
def test_what_is_no_plain_text_is_refused_with_its_line(data, words):
    assert words in refused(data)


@pytest.mark.parametrize(
    "text, tag",
    [
        ("!!python/object/apply:os.system ['true']", "a tag"),
        ("!!binary aGk=", "tag !!binary"),
        ("!own x", "a tag"),
        ("!own {a: 1}", "a tag"),
        ("!!set {a}", "tag !!set"),
        ("!!timestamp 2001-01-01", "tag !!timestamp"),
    ],
)
def test_a_tag_is_refused_and_named_if_it_is_one_of_yaml(text, tag):
    assert f"app.yaml:2: {tag} is refused" in refused(f"a: 1\nb: {text}\n")


def test_a_value_that_is_not_what_its_tag_says_is_refused_without_being_shown():
    assert refused("a: !!int hunter2\n") == "app.yaml:1: the value is no !!int"


def test_an_alias_is_a_copy_and_not_the_same_object():
    body = read("a: &x {k: [1]}\nb: *x\n")[0]
    assert body["a"] == body["b"] and body["a"] is not body["b"] and body["a"]["k"] is not body["b"]["k"]


def test_a_merge_key_gives_defaults_that_later_keys_override():
    assert read("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n")[0]["b"] == {"k": 1, "l": 3}
    assert read("b:\n  <<: [{k: 1}, {k: 2, m: 3}]\n")[0]["b"] == {"k": 1, "m": 3}


@pytest.mark.parametrize("key", ["!!merge <<", "!<tag:yaml.org,2002:merge> <<"])
def test_a_merge_key_with_its_tag_as_yaml_editors_write_it_is_one(key):
    assert read(f"a: &x {{k: 1, l: 2}}\nb:\n  {key}: *x\n  l: 3\n")[0]["b"] == {"k": 1, "l": 3}
    assert "merges a mapping" in refused(f"b:\n  {key}: 1\n") and "tag !!merge is refused" in refused("a: !!merge x\n")


def test_a_merge_over_a_key_before_it_is_refused_because_readers_disagree():
    assert "app.yaml:4: key 'k' of line 3 is merged over by `<<`" in refused("a: &x {k: 1}\nb:\n  k: 2\n  <<: *x\n")


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: *x\n", "app.yaml:1: an alias has no anchor before it. Quote the value if it begins with `*`."),
        ("a: &x [*x]\n", "anchor &x contains itself"),
        ("a: &x [1]\nb: {<<: *x}\n", "merges a mapping"),
        ("a: {<<: {a: 1}, <<: {b: 1}}\n", "`<<` twice"),
    ],
)
def test_a_wrong_alias_is_named(text, words):
    assert words in refused(text)


@pytest.mark.parametrize("start", ["!", "!!", "*", "&", "@", "`", "%", "| ", "'", '"', "[", "{", "? ", "- ", ", ", "!a!", "!<", "x: *", "{a: !", "\t"])
def test_a_password_without_quotes_that_reads_as_something_else_is_not_shown(start):
    """In the text of a Secret, whatever is wrong with it."""
    for text in (f"stringData:\n  a: {start}hunter2-word\n", f"stringData: {{a: {start}hunter2-word}}\n", f"stringData:\n  a: {start}hunter2-word: b\n"):
        assert "hunter2" not in " ".join(map(str, parse(text.encode(), "app.yaml")[1]))


def test_a_billion_laughs_end_before_they_begin():
    text = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9))
    assert "excessive aliasing" in refused(text)


def test_aliases_that_pile_up_depth_are_refused():
    text = "a0: &a0 " + "[" * 30 + "]" * 30 + "\n" + "".join(f"a{n}: &a{n} {'[' * 30}*a{n - 1}{']' * 30}\n" for n in range(1, 10))
    assert "nested deeper" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000,
        "a: " + "[" * 500 + "]" * 500,
        "{\"a\":" * 5000,
        "[" * 100_000,
        "- " * 3000 + "a",
        '{"a":' + "[" * 400 + "]" * 400 + "}",
    ],
)
def test_deep_nesting_is_refused_not_a_crash(text):
    assert "app.yaml:1" in refused(text)


def test_a_file_of_100_mb_is_refused():
    assert refused(b"#" * (100 << 20)) == "app.yaml: is 100 MiB, the limit for one file is 64 MiB. Split it, or leave it out with `exclude`."


def test_json_objects_may_follow_each_other():
    assert read('{"a": 1}\n{"b": 2.0, "c": 1e3}{"d": "\\ud83d\\ude00\\/"}') == [{"a": 1}, {"b": 2, "c": 1000}, {"d": "\U0001f600/"}]


@pytest.mark.parametrize("text", ['{"a": 1', '{"a": 1}}', '{"a": 1} x: 1', '{"a" 1}'])
def test_broken_json_is_refused_with_its_line(text):
    assert refused(text).startswith("app.yaml:1")


def test_the_pure_parser_reads_the_same_where_libyaml_is_missing(tmp_path):
    """PyYAML without libyaml has no CSafeLoader: the same text, read with and without it, in a process of its own."""
    import subprocess
    import sys

    program = (
        "import json, sys, yaml\n"
        "if sys.argv[1] == 'pure': del yaml.CSafeLoader\n"
        "from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.yaml_strict import parse\n"
        "documents, failures = parse(open(sys.argv[2], 'rb').read(), 'app.yaml')\n"
        "print(json.dumps([document.body for document in documents]), [failure.where for failure in failures])\n"
    )
    file = tmp_path / "app.yaml"
    file.write_bytes("a: 012\nb: &x {y: 1e3, z: é}\nc: *x\nd: |\n  x\n---\nbad: [\n---\nq: \u0001\n---\n e: '1'\n".encode())
    answers = {
        how: subprocess.run(
            [sys.executable, "-c", program, how, str(file)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for how in ("libyaml", "pure")
    }
    assert answers["pure"] == answers["libyaml"]
    assert answers["pure"].startswith('[{"a": 10, "b": {"true": 1000,')


# What a document may hold, as JSON has it.
values = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | some.text() | some.floats(allow_nan=False, allow_infinity=False),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner, max_size=4), max_leaves=12,
)


@given(some.dictionaries(some.text(max_size=8), values, max_size=5))
def test_json_reads_back_whole(body):
    found = read(json.dumps(body))
    expected = json.loads(json.dumps(body), parse_float=yaml_strict._json_float)
    assert json.dumps(found) == json.dumps([expected])


@given(some.dictionaries(some.text(max_size=8), values, min_size=1, max_size=5))
def test_what_pyyaml_writes_with_quotes_reads_back_whole(body):
    text = yaml.safe_dump(body, default_style='"', allow_unicode=True)
    assert json.dumps(read(text), sort_keys=True) == json.dumps([json.loads(json.dumps(body), parse_float=yaml_strict._json_float)], sort_keys=True)


@settings(max_examples=400)
@given(
    some.binary(max_size=200)
    | some.text(max_size=200).map(str.encode)
    | some.text("{}[]:,-?&*!|>'\"%@`#ab1.~<\t\r\n \x00\x85", max_size=80).map(str.encode)
)
def test_any_bytes_are_documents_or_failures_with_a_line(data):
    documents, failures = parse(data, "app.yaml")
    assert all(failure.where.startswith("app.yaml:") for failure in failures)
    json.dumps([document.body for document in documents], allow_nan=False).encode()
    assert all(document.line >= 1 for document in documents)
