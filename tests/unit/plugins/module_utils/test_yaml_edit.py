# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scalars of a YAML file are changed in place, and no other byte."""

from __future__ import annotations

import pytest
import ruamel.yaml
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import (
    append_item, apply, documents, find, insert_key, parse_path, reads_as_text, set_scalar, write_path)
from random_yaml import at, changes, loaded

CASES = 500


def changed(text, path, value, document=0):
    node = documents(text, "app.yaml")[document]
    return apply(text, [set_scalar(text, node, find(node, parse_path(path)), value, "app.yaml")], "app.yaml")


@settings(max_examples=CASES, deadline=None)
@given(changes())
def test_only_the_bytes_of_the_value_change_whatever_the_file_looks_like(change):
    text, document, number, path, node, value, aliases = change
    if aliases:
        with pytest.raises(Refused, match=f"its alias would change too, in line {', '.join([str(one.line) for one in aliases][:10])}"):
            set_scalar(text, document, node, value, "app.yaml")
        return
    edit = set_scalar(text, document, node, value, "app.yaml")
    after = apply(text, [edit], "app.yaml")

    assert node.start <= edit.start and edit.end == node.end
    assert after == text[:edit.start] + edit.text + text[edit.end:]
    expected = loaded(text)
    holder = at(expected[number], path[:-1])
    holder[path[-1]] = value
    assert loaded(after) == expected
    # Whoever reads it next, by YAML 1.1 or 1.2, finds text.
    if not (text[node.start:node.start + 1] == "!"):
        assert at(list(yaml.safe_load_all(after.replace("\ufeff", "")))[number], path) == value
        second = ruamel.yaml.YAML(typ="safe", pure=True)
        assert at(list(second.load_all(after.replace("\ufeff", "")))[number], path) == value
    again = documents(after, "app.yaml")[number]
    assert apply(after, [set_scalar(after, again, find(again, path), value, "app.yaml")], "app.yaml") == after


@pytest.mark.parametrize(
    "value", "6801028 72225e2 09334553 1.10 1e5 .5 +1 0o17 0b1 0x1F 1_000 1:20 .inf .NaN yes No y N on OFF true null ~ 2020-01-01 - =".split())
def test_what_a_reader_takes_for_something_else_is_written_in_quotes(value):
    assert not reads_as_text(value)
    assert changed("tag: old\n", "tag", value) == f'tag: "{value}"\n'


@pytest.mark.parametrize("value", "1.2.3 v1 main-4f2a abc 2026.11.29-rc1 1.4.2_b sha256:abc host:5000/app:1.0".split())
def test_what_every_reader_takes_for_text_is_written_plain(value):
    assert changed("tag: old\n", "tag", value) == f"tag: {value}\n"


@pytest.mark.parametrize("before, after", [
    ("a: 'x' # {}\n", "a: 'new' # {}\n"), ('a: "x"\n', 'a: "new"\n'), ("a: &b x\n", "a: &b new\n"), ("a: !!str x\n", "a: !!str new\n"),
    ("a:\nb: 1\n", "a: new\nb: 1\n"), ("a: # why\n", "a: new # why\n"), ("{a: x, b: 1}\n", "{a: new, b: 1}\n"), ('{"a": "x"}', '{"a": "new"}'),
    ("a: x\r\nb: 1\r\n", "a: new\r\nb: 1\r\n"), ("a: x", "a: new")])
def test_quotes_anchors_tags_comments_and_line_ends_stay(before, after):
    assert changed(before, "a", "new") == after


@pytest.mark.parametrize("text, path, sentence", [
    ("a: &x 1\nb: *x\n", "a", "its alias would change too, in line 2"),
    ("a: &x 1\nb: *x\nc: [*x, *x]\n", "a", "its alias would change too, in line 2, 3, 3"),
    ("a: &x 1\nb: *x\n", "b", "the value is the alias *x. Change its anchor, in line 1"),
    ("a:\n  b: 1\n", "a", "the value is a mapping"),
    ("a: |\n  text\n", "a", "the value is a block of text")])
def test_what_cannot_be_done_alone_is_refused(text, path, sentence):
    with pytest.raises(Refused, match=sentence.replace("*", r"\*")):
        changed(text, path, "2")


def test_a_key_is_added_on_a_line_of_its_own():
    text = "images:\n- name: web  # ours\n  newName: other\n"
    node = documents(text, "k.yaml")[0]
    entry = find(node, ("images", 0))
    assert apply(text, [insert_key(text, entry, "newTag", "1.10", "k.yaml")], "k.yaml") == (
        'images:\n- name: web  # ours\n  newTag: "1.10"\n  newName: other\n')


@pytest.mark.parametrize("text", ["images: [{name: web}]\n", "images:\n- name: >-\n    web\n"])
def test_a_key_that_has_no_line_of_its_own_is_refused(text):
    node = documents(text, "k.yaml")[0]
    with pytest.raises(Refused, match="has no key newTag"):
        insert_key(text, find(node, ("images", 0)), "newTag", "1", "k.yaml")


def appended(text):
    node = documents(text, "k.yaml")[0]
    return apply(text, [append_item(text, node, "images", {"name": "web", "newTag": "1.10"}, "k.yaml")], "k.yaml")


@pytest.mark.parametrize("text, at, written", [
    ("images:\n- name: api  # ours\n  newTag: a  # b\n# end\nresources: []\n", "# end", '- name: web\n  newTag: "1.10"\n'),
    ("images:\n  - name: api\n    newTag: >-\n      a\n\nlast: 1\n", "\nlast", '  - name: web\n    newTag: "1.10"\n'),
    ("images:\n-   {name: api}", "", '\n-   name: web\n    newTag: "1.10"'),
    ("images:\r\n- name: api\r\nlast: 1\r\n", "last", '- name: web\r\n  newTag: "1.10"\r\n'),
    ("# top\nresources:\n  - web.yaml\n# end\n", "# end", 'images:\n  - name: web\n    newTag: "1.10"\n'),
    ("namePrefix: a", "", '\nimages:\n- name: web\n  newTag: "1.10"'), ("a: {b: c}\n---\nb: 1\n", "---", 'images:\n- name: web\n  newTag: "1.10"\n')])
def test_an_item_is_added_to_a_list_or_with_its_list_and_no_other_byte(text, at, written):
    place = text.index(at) if at else len(text)
    assert appended(text) == text[:place] + written + text[place:]


@pytest.mark.parametrize("text", ["images: []\n", "images: [{name: a}]\n", "images:\n", "{a: 1}\n", "images: a\n", "- a\n", "images:\n- - a\n- b\n"])
def test_an_item_that_has_no_lines_of_its_own_is_refused_or_stands_where_it_should(text):
    try:
        after = appended(text)
    except Failure:
        return
    assert yaml.safe_load(after)["images"] == [*yaml.safe_load(text)["images"], {"name": "web", "newTag": "1.10"}]


def test_a_change_that_would_alter_another_value_is_refused():
    text = "a: 1\nb: 2\n"
    node = documents(text, "app.yaml")[0]
    edit = set_scalar(text, node, find(node, ("a",)), "x", "app.yaml")
    wider = type(edit)(edit.start, text.index("2"), "x\nb: ", edit.node, "x\nc")
    with pytest.raises(Refused, match="would alter other values"):
        apply(text, [wider], "app.yaml")


@pytest.mark.parametrize("text, sentence", [("a: {{ .Values.x }}-1\n", "app.yaml:1: is not valid YAML"), ("a: [1\n", "is not valid YAML"),
                                            ("a: \x00\n", "is not valid YAML"),
                                            ("[" * 5000, "is nested more than 200 deep")])
def test_what_is_no_yaml_is_named(text, sentence):
    with pytest.raises(Failure, match=sentence):
        changed(text, "a", "1")


@given(some.lists(some.one_of(some.integers(0, 99), some.text("abc.[]/- ", min_size=1)), min_size=1))
def test_a_path_is_read_back_as_it_was_written(steps):
    if isinstance(steps[0], int):
        steps = ["a", *steps]
    assert parse_path(write_path(tuple(steps))) == tuple(steps)


@pytest.mark.parametrize("path", ["", ".", "a..b", "a[", "a[x]", "[0", "a]"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(Failure, match="is not a path"):
        parse_path(path)


PIECES = ["a: b", "c: 'x'", '  d: "é😀"', "# e", "- 1", "- - 2\n  - 3", "f:", "  >-", "  text", "|", "---", "...", "{g: h, ", "[1, 2]", "}", "&i ", "*i",
          " ", "\t", "\r\n", "!!str ", "? j", ": k", "\u2028", "\x85", "'", '"', "\n", "<<: "]


@settings(max_examples=CASES)
@given(some.lists(some.sampled_from(PIECES).flatmap(lambda text: some.sampled_from([text, text + "\n"])), max_size=10).map("".join))
def test_places_are_the_same_for_both_parsers_so_that_the_fast_one_may_be_used(text):
    """But for the byte order mark, which libyaml does not count: such a file is read by PyYAML's own parser."""
    def places(loader):
        try:
            return [(type(event).__name__, event.start_mark.index, event.end_mark.index, event.start_mark.line, event.end_mark.line, event.end_mark.column,
                     getattr(event, "value", None), getattr(event, "style", None) or None, getattr(event, "anchor", None))
                    for event in yaml.parse(text + "\n", Loader=loader) if not isinstance(event, (yaml.DocumentStartEvent, yaml.DocumentEndEvent))]
        except yaml.YAMLError:
            return None

    fast, slow = places(yaml.CSafeLoader), places(yaml.SafeLoader)
    assert fast is None or slow is None or fast == slow  # each refuses a few odd texts that the other takes


def test_a_byte_order_mark_stays_where_it_is():
    assert changed("\ufeffimage: a # b\n", "image", "c") == "\ufeffimage: c # b\n"
