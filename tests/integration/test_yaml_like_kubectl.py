# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our reading of YAML beside kubectl's own, which is the library of Argo CD, Flux and the API server too.

Each text becomes a file of its own; one kubectl call reads a folder of them (`label --local` asks no server).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# NORDIC_YAML_EXAMPLES=2000 for a long hunt; each example is a folder of TEXTS files.
EXAMPLES = int(os.environ.get("NORDIC_YAML_EXAMPLES", "10"))
TEXTS = 120

REFUSED = "refused"

# What we refuse on purpose although kubectl reads it: it would drop something, or decide it silently. And `[a:]`, which
# libyaml cannot read.
ON_PURPOSE = (
    "is set twice", "tag ", "follows `...`", "is merged over", "`<<` twice", "nested deeper", "cannot be a key",
    "excessive aliasing", "while scanning a tag", "found unexpected ':'",
)

# What libyaml reads although go-yaml does not; refusing it would need another parser and protect nobody.
READ_ANYWAY = (r"\/",)


@pytest.fixture(scope="session")
def kubectl(binaries):
    return str(Path(binaries) / "kubectl")


def read_by_kubectl(kubectl: str, texts: list) -> list:
    """What kubectl makes of each text, or REFUSED."""
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(texts):
            Path(folder, f"{number:05d}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        answer = subprocess.run(
            [kubectl, "label", "--local", "--overwrite", "-o", "json", "-f", folder, "read=by-kubectl"],
            capture_output=True, text=True, env={"HOME": folder, "KUBECONFIG": os.devnull, "PATH": ""}, timeout=120, check=False)
    found: dict = {}
    decoder = json.JSONDecoder(parse_int=yaml_strict._json_int, parse_float=yaml_strict._json_float)
    rest, end = answer.stdout, 0
    while rest[end:].strip():
        end += len(rest[end:]) - len(rest[end:].lstrip())
        body, end = decoder.raw_decode(rest, end)
        assert body["metadata"]["labels"].pop("read") == "by-kubectl"
        found.setdefault(body["metadata"]["name"], []).append(body["spec"])
    return [found.get(f"n{number}", REFUSED) for number in range(len(texts))]


def read_by_us(text) -> tuple:
    documents, failures = yaml_strict.parse(text if isinstance(text, bytes) else text.encode(), "it.yaml")
    if failures:
        return REFUSED, str(failures[0])
    return [document.body["spec"] for document in documents if isinstance(document.body, dict)], ""


def compare(kubectl: str, specs: list, what_both_read: bool = False) -> None:
    """specs: texts of a `spec` field, from its colon to the end of the document.

    what_both_read: leave out what kubectl refuses. libyaml is newer than the parser that go-yaml v2 was written after
    and knows more of YAML 1.2's flow syntax; reading more is no misreading.
    """
    texts = [f"apiVersion: v1\nkind: X\nmetadata: {{name: n{number}, labels: {{}}}}\nspec:{spec}\n"
             for number, spec in enumerate(specs)]
    different = []
    for spec, theirs, (ours, why) in zip(specs, read_by_kubectl(kubectl, texts), map(read_by_us, texts)):
        if ours == REFUSED and (theirs == REFUSED or any(words in why for words in ON_PURPOSE)):
            continue
        if theirs == REFUSED and (what_both_read or any(words in spec for words in READ_ANYWAY)):
            continue
        if json.dumps(ours, sort_keys=True) != json.dumps(theirs, sort_keys=True):
            different.append(f"{spec!r}: kubectl {theirs!r}, we {ours!r} {why}")
    assert not different, "\n".join(different)


SURPRISES = """
yes Yes YES yEs no No NO on On ON oN off Off OFF y Y n N true True TRUE tRUE false False FALSE
~ null Null NULL nULL nil None
0 -0 +0 00 007 012 -012 08 09 019 0o12 0O17 0o8 -0o7 0x1F 0X1f -0x1F 0xG 0x 0b101 0B11 0b2 0b -0b1 +0b1 0b-1 0b+1 -0b-1
1_000 1__0 1_ _1 +_1 0_7 0x_F 0b_1 1_000.5 1_0e1_0 .1_0 .1__0 ._1 .1_ .1e1_0
1e3 1E3 1e+3 1e-3 1.5e3 1e 1e+ e3 1.0 1. .5 -.5 +.5 . .. ... -. +. .e3 1.e5 1..2 1.2.3 0.10 -0.0 0e0 0.1e-3
1e20 1e21 1e22 123456789012345678 9007199254740993 9223372036854775807 9223372036854775808 -9223372036854775808
-9223372036854775809 18446744073709551615 18446744073709551616 +18446744073709551615 0xFFFFFFFFFFFFFFFF 0x10000000000000000
1e308 1e309 -1e400 .5e400 1e-400 0.30000000000000004 1e-7 100000000000000000000000000000000000
.inf .Inf .INF +.inf -.inf .iNF inf Infinity .nan .NaN .NAN .nAN nan
12:30:45 1:2 190:20:30.15 2001-01-01 2001-1-1 2001-13-45 2001-01-01T00:00:00Z 2001-12-14t21:59:43.10-05:00 0001-01-01
= < << - -- --- --- + ? ! & * % @ ` | > ' " {} [] , # a#b a:b a: :a ::
1.2.3.4 10.0.0.0/8 1m 100Mi 0.5Gi v1 1h30m +1 -1 - 1 1-1 1+1 0x1p-2 1e3m 1,000 $1 ${A} {{x}}
"1" '1' "yes" 'null' "" '' "\\n" "\\x41" "\\u00e9" "\\/" "a\\
b" 'it''s' !!str 1 !!str yes !!int 1 !!int "1" !!int a !!float 1 !!float "1.5" !!bool yes !!bool 1 !!null ~ !!null "" !!null a
! 1 ! "1" ! yes &a 1 {a: 1} {a} {a,b: 1} [1,2,] [,] [a b, c] {a: {b: [1]}} {"a":1} {a:1} {"a":b} [a: b] {? a : b}
"""


def test_the_table_of_surprises_is_read_as_kubectl_reads_it(kubectl):
    words = [word for line in SURPRISES.splitlines() for word in line.split(" ") if word]
    lines = [line for line in SURPRISES.splitlines() if line]
    compare(kubectl, [f" {text}" for text in words + lines])


@pytest.mark.parametrize("form", [" {%s: 1}", "\n  %s: 1", "\n  ? %s\n  : 1", " [%s]", "\n- %s", "\n- %s: 1\n- 2"])
def test_keys_and_items_are_read_as_kubectl_reads_them(kubectl, form):
    words = [word for line in SURPRISES.splitlines() for word in line.split(" ") if word]
    compare(kubectl, [form % word for word in words])


STRUCTURES = [
    "\n  a: |\n    x\n    y\n",
    "\n  a: |-\n    x\n\n",
    "\n  a: |+\n    x\n\n",
    "\n  a: >\n    x\n    y\n\n    z\n",
    "\n  a: |2\n      x\n",
    "\n  a: |\n    ---\n    x\n",
    "\n  a: |\n\n    x\n     y\n   \n",
    "\n  a: \"x\n    y\"\n",
    "\n  a: 'x\n\n    y'\n",
    "\n  a: x\n    y\n",
    "\n  a:\n  b:\n",
    "\n  a: # c\n  b: x # y\n  c: x#y\n",
    "\n\ta: 1\n",
    "\n  a:\t1\n",
    "\n  a: 1\t\n",
    "\n  - a\n  -\n  - ~\n",
    "\n- a\n- - b\n  - c\n",
    "\n  a:\n  - 1\n  b: 2\n",
    "\n  a: &x {k: 1}\n  b: *x\n",
    "\n  a: &x 1\n  b: [*x, *x]\n",
    "\n  a: &x 1\n  a2: &x 2\n  b: *x\n",
    "\n  a: *nope\n",
    "\n  a: &x [*x]\n",
    "\n  a: &x {k: 1, l: 2}\n  b:\n    <<: *x\n    l: 3\n",
    "\n  a: &x {k: 1}\n  y: &y {k: 2, z: 3}\n  b:\n    <<: [*x, *y]\n",
    "\n  b:\n    <<: {k: 1}\n    k: 2\n",
    "\n  b:\n    <<: 1\n",
    "\n  b:\n    <<: []\n",
    "\n  b:\n    '<<': 1\n",
    "\n  a: &x [1]\n  b:\n    <<: *x\n",
    "\n  b:\n    <<: ~\n",
    "\n  b:\n    <<: [{k: 1}, {k: 2}]\n",
    "\n  &k key: 1\n  b: *k\n",
    "\n  a: &k key\n  *k : 1\n",
    "\n  ? {a: 1}\n  : 2\n",
    "\n  ? [a]\n  : 2\n",
    "\n  a: !!map {b: 1}\n  c: !!seq [1]\n",
    "\n  a: &x {k: 1, l: 2}\n  b:\n    !!merge <<: *x\n    l: 3\n",
    " 1\n---\n",
    " 1\n--- # comment\n",
    " 1\n--- x\n",
    " 1\n---x\n",
    " 1\n...\n",
    " 1\n...\n---\n",
    "\n  a: 1\n b: 2\n",
    "\n  a: 1\n   b: 2\n",
    " {a: 1\n",
    " [1\n",
    " 'a\n",
    " \"\\q\"\n",
    " \"\\ud800\"\n",
    " \"\\U0001F600\"\n",
    " é\n",
    " \U0001f600\n",
    " a\u00a0b\n",
    " a\u2028b\n",
    " a\u0085b\n",
    " \"a\u2028b\"\n",
    " \ufeffa\n",
    " a\ufeffb\n",
    " \x00\n",
    " \x07\n",
    " a\x7fb\n",
    " a\u0080b\n",
    " \ufffe\n",
    " @a\n",
    " `a\n",
    " %a\n",
    " a%b\n",
    " - a\n",
    " a: b\n",
    " a - b\n",
    " [a, [b, {c: d}]]\n",
    " {a: [}\n",
    "\n  a: 1\n  A: 2\n",
    "\n  ? a\n  ? b\n",
    "\n  : 1\n",
    " {: 1}\n",
    " [? a : b]\n",
    " {a: b: c}\n",
    " [a, b]: c\n",
    "\n  \"a\":1\n",
    " {\"a\":1, 'b':2}\n",
    " a\r\n",
    "\r\n  a: |\r\n    x\r\n    y\r\n",
    " a\rb\n",
    "\n  a: \"x\r\n    y\"\r\n",
    "\n  a: |\n    x\ty\n",
    "\n  a: >-\n    x\n      y\n    z\n",
    "\n  a: |x\n",
    "\n  a: |0\n    x\n",
    "\n  a: |9\n    x\n",
    "\n  a: >1+\n    x\n",
]


def test_structures_are_read_as_kubectl_reads_them(kubectl):
    compare(kubectl, STRUCTURES)


def test_files_with_a_mark_or_other_line_ends_are_read_as_kubectl_reads_them(kubectl):
    body = "apiVersion: v1\nkind: X\nmetadata: {name: n0, labels: {}}\nspec: |\n  a\n  b\n"
    as_json = '{"apiVersion":"v1","kind":"X","metadata":{"name":"n0","labels":{}},"spec":[1.0,1e3,12345678901234567890,"\\u00e9\\ud83d\\ude00","\\/",0.1,-0]}'
    for text in (
        body.encode(), b"\xef\xbb\xbf" + body.encode(), body.replace("\n", "\r\n").encode(), b"---\n" + body.encode(),
        b"\n\n# c\n---\n---\n" + body.encode() + b"---\n\n", b"%YAML 1.1\n---\n" + body.encode(), body.encode()[:-1],
        as_json.encode(), b"\n\t " + as_json.encode(), as_json.encode() + b"\n---\n", b"\xef\xbb\xbf" + as_json.encode(),
        as_json.replace(",", ",\n\t").encode(), as_json.replace("1e3", "1e999").encode(), as_json[:-1].encode(),
    ):
        theirs = read_by_kubectl(kubectl, [text])[0]
        ours, why = read_by_us(text)
        assert ours == theirs, (text, why)


def test_other_encodings_are_refused_where_kubectl_puts_a_replacement_character(kubectl):
    body = b"apiVersion: v1\nkind: X\nmetadata: {name: n0, labels: {}}\nspec: |\n  "
    assert read_by_kubectl(kubectl, [body + b"\xff\n"]) == [["\ufffd\n"]]
    assert read_by_us(body + b"\xff\n") == (
        REFUSED, "it.yaml:5: is not UTF-8: invalid start byte at byte 66 (0xff). Save it as UTF-8.")
    assert "UTF-16" in read_by_us((body + b"x\n").decode().encode("utf-16"))[1]


scalar_like = st.one_of(
    st.text("0123456789_.+-eExXoObB:", min_size=1, max_size=12),
    st.text("0123456789", min_size=15, max_size=30),
    st.text("yYnNtTfFoOaAeEsSlLuUrR~", min_size=1, max_size=5),
    st.integers().map(str), st.integers().map(hex), st.integers().map(oct), st.integers().map(bin), st.integers(0, 2**70).map(lambda n: f"0{n:o}"),
    st.floats().map(repr), st.floats().map(lambda x: f"{x:f}"), st.dates().map(str), st.datetimes().map(str), st.times().map(str),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1, max_size=12),
)
# No shrinking: the message names the one text of a list that differs.
hunt = settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 10, suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.reuse, Phase.generate))


@hunt
@given(st.lists(scalar_like, min_size=TEXTS // 2, max_size=TEXTS, unique=True))
def test_any_plain_scalar_is_read_as_kubectl_reads_it(kubectl, words):
    compare(kubectl, [f" {word}" for word in words])


@hunt
@given(st.lists(scalar_like, min_size=TEXTS // 2, max_size=TEXTS, unique=True))
def test_any_key_is_read_as_kubectl_reads_it(kubectl, words):
    compare(kubectl, [f"\n  {word}: 1" for word in words])


@hunt
@given(st.lists(st.text("ab1:-?[]{},#&*!|>'\"% \n\t", min_size=1, max_size=24), min_size=TEXTS // 2, max_size=TEXTS, unique=True))
def test_any_small_document_that_kubectl_reads_is_read_the_same(kubectl, texts):
    compare(kubectl, ["\n  " + text for text in texts], what_both_read=True)
