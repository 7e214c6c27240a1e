# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of manifests becomes objects once, and all that is wrong with it is told at once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from trees import MemoryTree

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import render as module
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import glob, kind_of_folder
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.files import Files
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import Rendered, RenderOptions, render

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: '1'}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: 'correct horse'}\n"


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


@pytest.fixture
def rendered(cache):
    def render_it(content, path=".", **options) -> Rendered:
        return render(MemoryTree(content, path), RenderOptions(**options), cache)

    return render_it


@pytest.fixture
def failure(rendered):
    def failure_of(content, path=".", **options) -> Failure:
        with pytest.raises(Failure) as caught:
            rendered(content, path, **options)
        return caught.value

    return failure_of


def names(result):
    return [document.body["metadata"]["name"] for document in result.documents]


# --- the directory renderer -----------------------------------------------------------------------------------------


def test_manifests_are_found_at_any_depth_in_the_order_of_their_paths(rendered):
    result = rendered(
        {
            "b.yaml": CONFIG % "b",
            "a/z.yml": CONFIG % "z",
            "a/c.json": json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}),
        }
    )
    assert result.renderer == "directory"
    assert names(result) == ["c", "z", "b"]


def test_without_recurse_only_the_folder_itself_is_read(rendered):
    assert names(rendered({"b.yaml": CONFIG % "b", "a/z.yml": CONFIG % "z"}, recurse=False)) == ["b"]


def test_other_files_are_no_manifests(rendered):
    assert names(rendered({"a.yaml": CONFIG % "a", "README.md": "x: [", "b.yaml.tpl": "{{", "c.YAML": "[", "jsonnet.jsonnet": "{"})) == ["a"]


def test_places_name_the_path_in_the_repository_and_the_line(rendered):
    result = rendered({"web/all.yaml": f"# shop\n{CONFIG % 'a'}---\n{CONFIG % 'b'}"}, path="apps/shop")
    assert [document.where for document in result.documents] == ["apps/shop/web/all.yaml:2", "apps/shop/web/all.yaml:7"]


def test_items_of_any_list_kind_are_objects_of_their_own(rendered):
    result = rendered({"l.yaml": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n"
        "- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: ConfigMap\n    metadata: {name: b}\n"
        "---\napiVersion: v1\nkind: SecretList\nitems:\n- metadata: {name: c}\n---\napiVersion: v1\nkind: List\nitems:\n")})
    assert names(result) == ["a", "b", "c"]
    assert result.documents[2].body == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c"}}
    assert [document.line for document in result.documents] == [4, 7, 17]


def test_empty_documents_are_nothing(rendered):
    assert names(rendered({"a.yaml": f"---\n# only a comment\n---\nnull\n---\n{CONFIG % 'a'}---\n", "empty.yaml": ""})) == ["a"]


@pytest.mark.parametrize(
    "patterns, expected",
    [
        (dict(include=("*.yaml",)), ["a", "deep", "x"]),
        (dict(include=("a.yaml",)), ["a"]),
        (dict(include=("{a,x}.yaml",)), ["a", "x"]),
        (dict(include=("sub/*",)), ["deep"]),
        (dict(exclude=("sub/**",)), ["a", "x"]),
        (dict(exclude=("?.yaml",)), ["deep"]),
        (dict(exclude=("[a-w].yaml",)), ["deep", "x"]),
        (dict(exclude=("[!a].yaml",)), ["a", "deep"]),
        (dict(include=("*.yaml",), exclude=("x*",)), ["a", "deep"]),
        (dict(include=("a.yaml", "x.yaml")), ["a", "x"]),
        (dict(exclude=("*p.yaml",)), ["a", "x"]),
    ],
)
def test_include_and_exclude_are_argo_cd_s_globs(rendered, patterns, expected):
    assert names(rendered({"a.yaml": CONFIG % "a", "x.yaml": CONFIG % "x", "sub/deep.yaml": CONFIG % "deep"}, **patterns)) == expected


@pytest.mark.parametrize("pattern", ["[", "{a", "a[b"])
def test_a_malformed_pattern_is_named(pattern):
    with pytest.raises(Failure, match="the pattern"):
        glob(pattern)


@given(some.text("ab*?[]{},\\!^-/.", max_size=12), some.text("ab/.-", max_size=8))
def test_any_pattern_matches_or_is_refused(pattern, name):
    try:
        glob(pattern).match(name)
    except Failure as failure:
        assert "pattern" in failure.what


def test_an_excluded_file_may_be_broken(rendered):
    assert names(rendered({"a.yaml": CONFIG % "a", "values.yaml": "{{ x"}, exclude=("values.yaml",))) == ["a"]


def test_a_file_with_argo_cd_s_marker_is_left_out(rendered):
    assert names(rendered({"a.yaml": CONFIG % "a", "v.yaml": "# +argocd:skip-file-rendering\nreplicas: 2\n"})) == ["a"]


def test_a_file_kept_elsewhere_by_git_lfs_is_named(failure):
    assert "a.yaml: is a Git LFS pointer" in str(failure({"a.yaml": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}))


def test_a_folder_without_manifests_says_what_was_looked_for(failure):
    assert (
        str(failure({"README.md": "x"}, "apps/shop"))
        == "apps/shop: holds no manifest: looked for *.yaml *.yml *.json. Check `path`, `include` and `exclude`. "
        "If Git is meant to have no object left, set allow_empty: true."
    )
    assert "include x*" in str(failure({"a.yaml": ""}, "apps", include=("x*",)))
    assert "not below it" in str(failure({"a/a.yaml": ""}, "apps", recurse=False))


def test_a_folder_without_manifests_is_empty_when_that_is_allowed(rendered):
    assert rendered({"README.md": "x"}, allow_empty=True).documents == []


def test_too_large_a_file_is_refused_before_it_is_read(cache):
    class Heavy(MemoryTree):
        def entries(self):
            return (entry._replace(size=100 << 20) for entry in super().entries())

    tree = Heavy({"crds.yaml": CONFIG % "a"}, "apps")
    with pytest.raises(Failure, match=r"apps/crds.yaml: is 100 MiB, the limit for one file is 64 MiB"):
        render(tree, RenderOptions(), cache)
    assert "crds.yaml" not in tree.reads


@pytest.mark.parametrize(
    "files, kind",
    [
        (["a.yaml"], "directory"),
        (["Chart.yaml"], "helm"),
        (["kustomization.yaml"], "kustomize"),
        (["kustomization.yml"], "kustomize"),
        (["Kustomization"], "kustomize"),
        (["Chart.yaml", "kustomization.yaml"], "kustomize"),
        (["sub/Chart.yaml"], "directory"),
        (["chart.yaml"], "directory"),
    ],
)
def test_the_renderer_is_the_one_that_argo_cd_would_choose(files, kind):
    assert kind_of_folder(Files(MemoryTree(dict.fromkeys(files, ""), "apps"), "apps"), "apps") == kind


def test_an_unknown_renderer_is_named(failure):
    assert "renderer 'jsonnet' is unknown. Choose auto, directory, kustomize, helm" in str(failure({"a.yaml": ""}, renderer="jsonnet"))


# --- errors ---------------------------------------------------------------------------------------------------------


def test_every_error_of_a_tree_is_told_at_once(failure):
    found = failure({"a.yaml": "a: [\n---\nkind: ConfigMap\n", "b.yaml": CONFIG % "7", "c.yaml": CONFIG % "ok", "d.yaml": "- x\n"}, "apps")
    assert found.where == "apps"
    assert found.what.startswith("5 errors in what Git holds:\n- apps/a.yaml:1: YAML: ")
    assert [text.split(": ")[0] for text in found.details["errors"]] == ["apps/a.yaml:1", "apps/a.yaml:3", "apps/a.yaml:3", "apps/b.yaml:1", "apps/d.yaml:1"]


def test_one_error_is_told_with_its_own_place(failure):
    found = failure({"b.yaml": CONFIG % "7"}, "apps")
    assert (found.where, found.what, found.hint) == ("apps/b.yaml:1", "ConfigMap 7: metadata.name is an integer, must be a string", "Quote it.")


def test_a_long_list_of_errors_is_cut_in_the_text_and_whole_in_the_details(failure):
    found = failure({f"{n}.yaml": CONFIG % n for n in range(100, 150)})
    assert found.what.count("\n- ") == 20 and "(+30 more)" in found.what
    assert len(found.details["errors"]) == 50


# --- the cache ------------------------------------------------------------------------------------------------------


class Unread:
    """The same tree, of which nothing may be read."""

    def __init__(self, tree):
        self.id, self.path = tree.id, tree.path


def test_an_unchanged_tree_is_never_read_again(cache):
    tree = MemoryTree({"a.yaml": CONFIG % "a", "s.yaml": SECRET})
    first = render(tree, RenderOptions(), cache)
    again = render(Unread(tree), RenderOptions(), cache)
    assert (first.cached, again.cached) == (False, True)
    assert again.documents == first.documents and again.renderer == "directory"


def test_a_cached_render_loads_no_yaml(cache):
    tree = MemoryTree({"a.yaml": CONFIG % "a"})
    render(tree, RenderOptions(), cache)
    program = (
        "import sys\n"
        "from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render\n"
        "class Tree: id, path = sys.argv[1:3]\n"
        "print(render(Tree, RenderOptions(), sys.argv[3]).cached, 'yaml' in sys.modules, 'subprocess' in sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, tree.id, tree.path, cache],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert answer.stdout == "True False False\n", answer.stderr


@pytest.mark.parametrize("change", [
    dict(recurse=False), dict(include=("a*",)), dict(exclude=("b*",)), dict(namespace="shop"), dict(values={"a": 1}), dict(allow_empty=True),
])
def test_other_options_are_another_render(cache, change):
    tree = MemoryTree({"a.yaml": CONFIG % "a"})
    render(tree, RenderOptions(), cache)
    assert not render(tree, RenderOptions(**change), cache).cached
    assert render(tree, RenderOptions(**change), cache).cached


def test_another_tree_or_path_is_another_render(cache):
    tree = MemoryTree({"a.yaml": CONFIG % "a"})
    render(tree, RenderOptions(), cache)
    assert not render(MemoryTree({"a.yaml": CONFIG % "b"}), RenderOptions(), cache).cached
    assert not render(MemoryTree(tree.content, "apps"), RenderOptions(), cache).cached


def test_the_cache_is_for_its_owner_alone(cache):
    render(MemoryTree({"s.yaml": SECRET}), RenderOptions(), cache)
    entries = os.listdir(cache)
    assert len(entries) == 1
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(cache, entries[0])).st_mode) == 0o600


@pytest.mark.parametrize("content", [
    b"", b"{", b"null", b"[]", b"{}", b'{"format": 0}', b"\xff", b"[" * 100_000,
    b'{"format": %d, "renderer": "directory", "stamp": "", "root": "", "reads": {}, "notes": [], "documents": [["f", 1, 2]]}' % module.FORMAT,
    b'{"format": %d, "renderer": "directory", "stamp": "", "root": "", "reads": {}, "notes": [], "documents": [["f"]]}' % module.FORMAT,
    b'{"format": %d, "renderer": "x", "stamp": "", "root": "", "reads": {}, "notes": [], "documents": []}' % module.FORMAT,
])
def test_a_corrupt_entry_is_written_anew(cache, content):
    tree = MemoryTree({"a.yaml": CONFIG % "a"})
    render(tree, RenderOptions(), cache)
    entry = os.path.join(cache, os.listdir(cache)[0])
    with open(entry, "wb") as file:
        file.write(content)
    again = render(tree, RenderOptions(), cache)
    assert not again.cached and names(again) == ["a"]
    assert render(tree, RenderOptions(), cache).cached


def test_an_entry_that_others_could_write_is_not_trusted(cache):
    tree = MemoryTree({"a.yaml": CONFIG % "a"})
    render(tree, RenderOptions(), cache)
    os.chmod(os.path.join(cache, os.listdir(cache)[0]), 0o666)
    assert not render(tree, RenderOptions(), cache).cached


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = render(MemoryTree({"a.yaml": CONFIG % "a"}), RenderOptions(), str(blocked / "cache"))
    assert names(result) == ["a"]
    assert "the render cache cannot be written" in result.notes[0]


def test_the_cache_keeps_what_was_used_last(cache):
    trees = [MemoryTree({"a.yaml": CONFIG % f"n{number}"}) for number in range(module.KEPT + 5)]
    for age, tree in enumerate(trees):
        render(tree, RenderOptions(), cache)
        for entry in os.scandir(cache):  # the clock of a fast disk may not move between two of them
            os.utime(entry.path, (entry.stat().st_atime, entry.stat().st_mtime - 10))
        render(trees[0], RenderOptions(), cache)
    assert len(os.listdir(cache)) == module.KEPT
    assert render(trees[0], RenderOptions(), cache).cached
    assert render(trees[-1], RenderOptions(), cache).cached
    assert not render(trees[1], RenderOptions(), cache).cached


def test_many_runs_may_render_the_same_tree_at_once(cache):
    tree = MemoryTree({f"{number}.yaml": CONFIG % f"n{number}" for number in range(50)})
    results, errors = [], []

    def run():
        try:
            for _turn in range(5):
                results.append(names(render(tree, RenderOptions(), cache)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(result == results[0] for result in results) and len(results) == 40
    assert len(os.listdir(cache)) == 1


def test_failures_are_not_cached(cache):
    with pytest.raises(Failure):
        render(MemoryTree({"a.yaml": "a: ["}), RenderOptions(), cache)
    assert not os.path.exists(cache)


def test_values_that_are_no_json_are_named(failure):
    assert "values cannot be written as JSON" in str(failure({"a.yaml": ""}, values={"a": object()}))


# --- anything -------------------------------------------------------------------------------------------------------

word = some.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "namespace",
        "labels",
        "data",
        "spec",
        "items",
        "List",
        "v1",
        "Secret",
        "ConfigMap",
        "Pod",
        "containers",
        "env",
        "ports",
        "template",
        "stringData",
        "subjects",
        "value",
        "generateName",
        "annotations",
        "apps/v1",
        "Deployment",
        "é",
        "no",
    ]
)
anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | word | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(word, inner, max_size=5),
    max_leaves=25,
)
objects = some.fixed_dictionaries(
    {
        "apiVersion": some.sampled_from(["v1", "apps/v1", "batch/v1", "x.io/v1"]) | anything,
        "kind": some.sampled_from(
            ["Secret", "ConfigMap", "Pod", "Deployment", "CronJob", "Service", "RoleBinding", "List", "PodList"]
        )
        | anything,
    },
    optional={
        "metadata": some.dictionaries(word, anything, max_size=4) | anything,
        "spec": anything,
        "data": anything,
        "stringData": anything,
        "items": anything,
        "binaryData": anything,
        "template": anything,
    },
)


@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
@given(some.lists(objects | anything, min_size=1, max_size=4))
def test_any_objects_are_documents_or_failures(tmp_path_factory, bodies):
    lines = "\n---\n".join(json.dumps(body) for body in bodies)
    try:
        result = render(MemoryTree({"a.yaml": lines}), RenderOptions(), str(tmp_path_factory.getbasetemp() / "any"))
    except Failure as failure:
        assert "a.yaml:" in str(failure)
        return
    for document in result.documents:
        assert isinstance(document.body["metadata"]["name"], str)
        json.dumps(document.body, allow_nan=False)


@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    some.dictionaries(
        some.sampled_from(["a.yaml", "b.json", "c.yml", "sub/d.yaml", "x.md"]),
        some.binary(max_size=120) | some.text("{}[]:,-&*!|>'\"#ab1.~<\n ", max_size=80).map(str.encode),
        min_size=1,
    )
)
def test_any_bytes_give_documents_or_failures(tmp_path_factory, content):
    try:
        render(MemoryTree(content), RenderOptions(), str(tmp_path_factory.getbasetemp() / "bytes"))
    except Failure as failure:
        assert str(failure)
