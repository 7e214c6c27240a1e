# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit of a YAML file changes the bytes of the value and no others, or is refused."""

from __future__ import annotations

import copy
import difflib
import json

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.rewrite import render, rewrite
from hypothesis import given, settings
from hypothesis import strategies as st

FILE = b"""# who asks: the platform team
apiVersion: v1   # first
kind: "ConfigMap"
metadata:
  name:   'web'
  annotations: {}   # none yet
  labels:

data:
  # folded, with a blank line in it
  folded: >-
    one
    two

    three
  literal: |
    a: 1
      b: 2

  quoted: "x"
  single: 'y'   # stays
  plain: z
---
kind: List
items:
- {kind: A, data: {k: v}}
-   kind: B
    data: {
      "k": "v"
    }
"""


def bodies(data):
    documents, failures = yaml_strict.parse(data, "f.yaml")
    assert not failures
    return [document.body for document in documents]


def changed(data, change):
    """The file after a change of its parsed documents, and its lines that differ."""
    wanted = copy.deepcopy(bodies(data))
    change(wanted)
    after = rewrite(data, "f.yaml", wanted)
    assert bodies(after) == wanted
    lines = [line for line in difflib.ndiff(data.decode().splitlines(), after.decode().splitlines()) if line[:1] in "+-"]
    return after, lines


def setting(*path, value):
    def change(documents):
        part = documents
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ((0, "data", "plain"), "AgB+/=", "+   plain: AgB+/="),
        ((0, "data", "single"), "new", "+   single: 'new'   # stays"),
        ((0, "data", "quoted"), "new", '+   quoted: "new"'),
        ((0, "data", "plain"), "012", '+   plain: "012"'),
        ((0, "data", "plain"), "1e3", '+   plain: "1e3"'),
        ((0, "data", "plain"), "yes", '+   plain: "yes"'),
        ((0, "data", "new"), "v", "+   new: v"),
        ((0, "metadata", "annotations"), {"a/b": "true"}, '+   annotations: {"a/b": "true"}   # none yet'),
        ((0, "metadata", "labels"), {"a": "b"}, "+     a: b"),
        ((1, "items", 0, "data", "k"), "w", "+ - {kind: A, data: {k: w}}"),
        ((1, "items", 1, "data", "k"), "w", '+       "k": "w"'),
        ((1, "items", 0, "data", "l"), "w", '+ - {kind: A, data: {k: v, "l": "w"}}'),
    ],
)
def test_one_value_is_one_line(path, value, line):
    _after, lines = changed(FILE, setting(*path, value=value))
    assert line in lines and len([each for each in lines if each.startswith("+")]) == 1


def test_a_file_with_windows_line_ends_keeps_them():
    data = FILE.replace(b"\n", b"\r\n")
    after, _lines = changed(data, setting(0, "data", "new", value="v"))
    assert after.count(b"\n") == after.count(b"\r\n") == data.count(b"\r\n") + 1


def test_a_key_comes_to_its_place_among_sorted_ones_and_to_the_end_of_others():
    assert changed(b"a: 1 # one\nc: 3\n", setting(0, "b", value="x"))[0] == b"a: 1 # one\nb: x\nc: 3\n"
    assert changed(b"c: 1\na: 3", setting(0, "b", value="x"))[0] == b"c: 1\na: 3\nb: x\n"


def test_a_removed_key_takes_its_line_and_nothing_else():
    after, lines = changed(FILE, lambda documents: documents[0]["data"].pop("single"))
    assert lines == ["-   single: 'y'   # stays"]
    after, lines = changed(FILE, lambda documents: documents[0]["data"].pop("literal"))
    assert b"quoted" in after and len(lines) == 3


@pytest.mark.parametrize(
    "text",
    ["a: &x {k: v}\nb: *x\n", "base: &x\n  k: v\nb:\n  <<: *x\n  l: w\n", "a: &x v\nb: *x\n"],
    ids=["an alias of a mapping", "a merge key", "an alias of a value"],
)
def test_what_is_used_elsewhere_is_not_changed_there_too(text):
    data = text.encode()
    wanted = copy.deepcopy(bodies(data))
    if isinstance(wanted[0]["b"], dict):
        wanted[0]["b"]["k"] = "new"
    else:
        wanted[0]["b"] = "new"
    with pytest.raises(Refused, match="cannot be changed without touching other bytes") as caught:
        assert rewrite(data, "f.yaml", wanted) != data
    assert str(caught.value).startswith("f.yaml: ")


def test_an_unreadable_file_is_refused_with_its_line():
    with pytest.raises(Failure, match=r"f.yaml:2"):
        rewrite(b"a: 1\n\tb: 2\n", "f.yaml", [])


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Co", "Cn")), max_size=20)
keys = st.text("abcdefghij-._", min_size=1, max_size=5).filter(lambda key: key.strip("-._"))
values = st.one_of(words, st.booleans(), st.integers(-10, 10), st.just("x\ny\n"), st.sampled_from(["012", "null", "~", "1e3", "2001-01-01", "0x1", ""]))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, st.one_of(values, st.dictionaries(keys, values, max_size=4)), min_size=1, max_size=5),
       st.dictionaries(keys, st.one_of(values, st.dictionaries(keys, values, max_size=4)), max_size=5), st.booleans())
def test_any_change_of_a_mapping_is_what_was_asked_for_or_refused(before, added, as_json):
    data = (json.dumps(before, indent=2) if as_json else "# first\n" + render(before)).encode()
    assert bodies(data) == [before]
    wanted = [{**before, **added}]
    try:
        after = rewrite(data, "f.yaml", wanted)
    except Refused:
        return
    assert bodies(after) == wanted
    assert as_json or after.startswith(b"# first\n")
    assert rewrite(after, "f.yaml", wanted) == after
