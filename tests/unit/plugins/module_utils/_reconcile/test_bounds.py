# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a repository holds, one render ends, takes a bounded amount of memory, and says the limit in one sentence.

Processor time is not compared with a clock: a case that took minutes of it, or gigabytes, is run in a process that may have neither.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import kustomize
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.bounds import Bounds
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import glob
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render
from hypothesis import given
from hypothesis import strategies as some
from trees import MemoryTree

MEMORY = 400 << 20
SECONDS = 30  # of processor time

# What each made of little, before: gigabytes, minutes or megabytes of errors.
CASES = {
    "aliases of aliases": '"a: &a [x,x,x,x,x,x,x,x,x,x]\\n" + '
                          '"".join(f"{chr(98+n)}: &{chr(98+n)} [{\', \'.join([\'*\' + chr(97+n)] * 10)}]\\n" for n in range(8))',
    "aliases of a large anchor": '"a: &a [" + "[]," * 30000 + "]\\nb: [" + "*a, " * 2500 + "]\\n"',
    "merges of a large mapping": '"a: &a {" + ", ".join(f"k{n}: {n}" for n in range(8000)) + "}\\n" + "".join(f"b{n}: {{<<: *a}}\\n" for n in range(1000))',
    "many JSON documents": '"{}\\n" * 80_000',
    "JSON documents and one that is none": '"{}\\n" * 80_000 + "{x"',
    "JSON lists": '"{\\"a\\": [" + "[]," * 3_000_000 + "[]]}"',
    "JSON that is deep": '"{\\"a\\":" * 100_000',
    "YAML that is deep": '"a: " + "[" * 100_000',
    "an object nested 1,200 deep": '"apiVersion: v1\\nkind: A\\nmetadata: {name: a}\\nspec: " + "{a: " * 1200 + "1" + "}" * 1200',
    "faults": '"---\\napiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: A_}\\ndata: {a: 1, b: 2, c: 3, d: 4}\\n" * 5000',
    "documents that are no YAML": '"---\\n[\\n" * 100_000',
    "a fault with a long key": '"apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: a}\\ndata: {? " + "k" * 900_000 + " : 1}\\n"',
    "many pairs of one key": '"apiVersion: v1\\nkind: A\\n" + "a: 1\\n" * 50_000',
    "separators": '"---\\n" * 1_000_000',
    "anchors": '"".join(f"- &a{n} x\\n" for n in range(200_000))',
    "comments": '"# x\\n" * 5_000_000',
    "one long scalar": '"a: " + "x" * (20 << 20)',
    "a large list of maps": '"apiVersion: v1\\nkind: List\\nitems: [" + "{}," * 700_000 + "]"',
}

NOTHING_WRONG = ("separators", "comments")

RUN = """
import json, resource, sys
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render
from trees import MemoryTree
resource.setrlimit(resource.RLIMIT_CPU, (%d, %d))
text = eval(sys.argv[1])
try:
    render(MemoryTree({"a.yaml": text}), RenderOptions(), sys.argv[2])
    said = ""
except Failure as failure:
    said = str(failure) + json.dumps(failure.details)
# Not ru_maxrss: that is inherited from whoever starts a program.
with open("/proc/self/status") as status:
    print(json.dumps([next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")), said]))
""" % (SECONDS, SECONDS)


@pytest.mark.parametrize("case", CASES)
def test_no_file_takes_more_than_its_share_of_memory_or_time(case, tmp_path):
    import json

    done = subprocess.run([sys.executable, "-c", RUN, CASES[case], str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    peak, said = json.loads(done.stdout)
    assert peak < MEMORY, f"{peak >> 20} MiB"
    assert len(said) < 200_000 and bool(said) is (case not in NOTHING_WRONG)


def test_a_limit_is_told_with_its_file_and_raised_by_its_option(tmp_path):
    tree = MemoryTree({"a.yaml": "apiVersion: v1\nkind: A\nmetadata: {name: a}\n", "b.yaml": "a: [1, 2, 3, 4, 5, 6, 7, 8]\n"})

    def refusal(**limits):
        with pytest.raises(Refused) as caught:
            render(tree, RenderOptions(bounds=Bounds(**limits)), str(tmp_path))
        return str(caught.value)

    assert refusal(values=12).startswith("b.yaml:1: the manifests hold more than 12 keys and values together")
    assert "2 files are more than the 1 of one render" in refusal(files=1)
    assert "more than 0 MiB together" in refusal(size=0)
    assert "render_limits" in refusal(values=12) and "render_limits" in refusal(files=1)


@pytest.mark.parametrize("limits", [{"values": 0}, {"size": -1}])
def test_a_limit_that_cannot_be_is_named(limits):
    with pytest.raises(Failure, match="render_limits: "):
        Bounds.of({"render_limits": limits})


def test_an_alias_counts_as_often_as_it_stands(tmp_path):
    text = "apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: &x [1, 2, 3, 4]\ny: [%s]\n"
    bounds = Bounds(values=100)
    assert render(MemoryTree({"a.yaml": text % ", ".join(["*x"] * 10)}), RenderOptions(bounds=bounds), str(tmp_path)).documents
    with pytest.raises(Refused, match="aliases count as often"):
        render(MemoryTree({"a.yaml": text % ", ".join(["*x"] * 30)}), RenderOptions(bounds=bounds), str(tmp_path))


@pytest.mark.parametrize("pattern", ["*-*-*-*x", "*-*-*-*-*-*-*-*-*x", "?*?*?*?*x", "{*-,*-}*-*-*x", "*[a-]*[a-]*[a-]*x"])
def test_no_pattern_takes_more_than_a_search(pattern):
    """Four stars and 400 dashes took 9 s, each further star 400 times as long."""
    assert glob(pattern).match("-" * 5000) is False
    assert glob(pattern).match("-" * 5000 + "x") is True


def test_a_pattern_that_unfolds_without_end_is_refused():
    with pytest.raises(Failure, match="unfolds to more than 1000 patterns"):
        glob("{a,b}" * 20)


@given(some.text("ab-*?", max_size=8), some.text("ab-", max_size=10))
def test_a_pattern_matches_what_the_shell_s_does(pattern, name):
    from fnmatch import fnmatchcase

    assert glob(pattern).match(name) == fnmatchcase(name, pattern)


@pytest.mark.parametrize("entry", ["configMapGenerator: {name: a, files: *names}", "patches: {path: a.yaml, target: *names}"])
def test_entries_of_a_kustomization_count_as_often_as_they_stand(entry):
    """4,000 lists of 4,000 names took seconds; 16 million entries are more than a kustomization may have."""
    names = ", ".join(f"f{number}.yaml" for number in range(4000))
    field, _colon, one = entry.partition(": ")
    text = f"commonAnnotations: {{a: &names [{names}]}}\n{field}: [{', '.join([one] * 4000)}]\n"
    with pytest.raises(Failure, match="excessive aliasing") as caught:
        kustomize.reachable(Files(MemoryTree({"kustomization.yaml": text, "a.yaml": "a: 1\n"}), "."), ".")
    assert len(str(caught.value)) < 1000


def test_four_thousand_entries_of_four_thousand_files_are_each_looked_up_once():
    files = {f"f{number}.yaml": "a: 1\n" for number in range(4000)}
    tree = MemoryTree({**files, "kustomization.yaml": "resources:\n" + "".join(f"- {name}\n" for name in files)})
    assert kustomize.reachable(Files(tree, "."), ".") == {"kustomization.yaml", *files}
    assert len(tree.reads) < 10_000
