# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering what a real Git repository holds, with the real kustomize (in kubectl) and helm."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import tool
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: '1'}\n"


@pytest.fixture
def rendered(git_repo, binaries, tmp_path):
    """Writes files, commits them, and renders one folder of the commit."""
    cache = tmp_path / "cache"

    def render_it(files=None, path=".", serves=None, **options):
        for name, content in (files or {}).items():
            git_repo.write(name, content)
        git_repo.commit()
        mirror = Mirror(Source.of({"repository": git_repo.url, "git_cache": str(cache / "git")}))
        try:
            commit = mirror.resolve("main")
            known = dict(kustomize_binary=str(Path(binaries) / "kubectl"), helm_binary=str(Path(binaries) / "helm"), release_name="shop")
            tree = mirror.tree(commit, path)
            return render(tree, RenderOptions(**{**known, **options}), str(cache / "render"), root=mirror.tree(commit), serves=serves)
        finally:
            mirror.close()

    return render_it


@pytest.fixture
def failure(rendered):
    def failure_of(files=None, path=".", **options):
        with pytest.raises(Failure) as caught:
            rendered(files, path, **options)
        return caught.value

    return failure_of


def names(result):
    return [document.body["metadata"]["name"] for document in result.documents]


# --- directory ------------------------------------------------------------------------------------------------------


def test_a_folder_of_a_commit_is_rendered_once_for_all_commits_that_hold_it(rendered):
    assert rendered({"apps/a.yaml": CONFIG % "a", "other.txt": "1"}, "apps").cached is False
    again = rendered({"other.txt": "2"}, "apps")
    assert again.cached and names(again) == ["a"]
    assert names(rendered({"apps/a.yaml": CONFIG % "b"}, "apps")) == ["b"]


def test_a_link_inside_the_folder_is_read_and_one_that_leads_out_is_refused(rendered, git_repo, failure):
    git_repo.write("apps/real.txt", CONFIG % "linked")
    os.symlink("real.txt", git_repo.path / "apps" / "link.yaml")
    assert names(rendered(path="apps")) == ["linked"]
    os.symlink("/etc/hostname", git_repo.path / "apps" / "out.yaml")
    found = failure(path="apps")
    assert isinstance(found, Refused) and "apps/out.yaml" in str(found)


def test_an_empty_folder_and_a_missing_one_are_two_different_errors(failure):
    assert "apps: holds no manifest" in str(failure({"apps/README.md": "x"}, "apps"))
    assert "nope" in str(failure(path="nope"))


# --- kustomize ------------------------------------------------------------------------------------------------------

OVERLAY = {
    "base/kustomization.yaml": "resources: [config.yaml]\n",
    "base/config.yaml": CONFIG % "a",
    "env/prod/kustomization.yaml": (
        "resources: [../../base]\nnamespace: shop\nconfigMapGenerator:\n- name: g\n  files: [text=one.txt]\n  envs: "
        "[more.env]\n  options: {disableNameSuffixHash: true}\npatches:\n- path: patch.yaml\n"
    ),
    "env/prod/patch.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: 'yes'}\n",
    "env/prod/one.txt": "one",
    "env/prod/more.env": "K=v\n",
}


def test_an_overlay_uses_a_base_of_another_folder(rendered):
    result = rendered(OVERLAY, "env/prod")
    assert result.renderer == "kustomize"
    found = {document.body["metadata"]["name"]: document.body for document in result.documents}
    assert found["a"]["data"] == {"a": "1", "b": "yes"} and found["a"]["metadata"]["namespace"] == "shop"
    assert found["g"]["data"] == {"text": "one", "K": "v"}
    assert {document.where for document in result.documents} == {"env/prod/kustomization.yaml"}


def test_a_changed_base_is_seen_and_a_change_elsewhere_is_not(rendered):
    rendered(OVERLAY, "env/prod")
    assert rendered({"elsewhere/x.yaml": "x: ["}, "env/prod").cached
    changed = rendered({"base/config.yaml": CONFIG % "a" + "immutable: true\n"}, "env/prod")
    assert not changed.cached and changed.documents[0].body["immutable"] is True


def test_another_kustomize_is_another_render(rendered, binaries, tmp_path):
    rendered(OVERLAY, "env/prod")
    copy = tmp_path / "kubectl"
    copy.symlink_to(Path(binaries) / "kubectl")
    assert rendered(None, "env/prod", kustomize_binary=str(copy)).cached is False


def test_components_and_built_in_transformers_are_run(rendered):
    result = rendered(
        {
            "kustomization.yaml": (
                "resources: [config.yaml]\ncomponents: [part]\ntransformers:\n- prefix.yaml\n- |\n  apiVersion: builtin\n  "
                "kind: PrefixSuffixTransformer\n  metadata: {name: s}\n  suffix: -z\n  fieldSpecs: [{path: metadata/name}]\n"
            ),
            "config.yaml": CONFIG % "a",
            "prefix.yaml": "apiVersion: builtin\nkind: PrefixSuffixTransformer\nmetadata: {name: p}\nprefix: x-\nfieldSpecs: [{path: metadata/name}]\n",
            "part/kustomization.yaml": (
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nlabels: [{pairs: {part: one}}]\nreplacements:\n"
                "- source: {kind: ConfigMap, fieldPath: metadata.name}\n  targets: [{select: {kind: ConfigMap}, fieldPaths: "
                "[data.a]}]\n"
            ),
        }
    )
    assert result.documents[0].body == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x-a-z", "labels": {"part": "one"}}, "data": {"a": "a"}}


REMOTE = [
    "resources: ['%s']",
    "bases: ['%s']",
    "components: ['%s']",
    "crds: ['%s']",
    "configurations: ['%s']",
    "patchesStrategicMerge: ['%s']",
    "generators: ['%s']",
    "transformers: ['%s']",
    "validators: ['%s']",
    "patches: [{path: '%s'}]",
    "patchesJson6902: [{path: '%s'}]",
    "replacements: [{path: '%s'}]",
    "openapi: {path: '%s'}",
    "configMapGenerator: [{name: a, files: ['k=%s']}]",
    "secretGenerator: [{name: a, files: ['%s']}]",
    "configMapGenerator: [{name: a, envs: ['%s']}]",
    "secretGenerator: [{name: a, env: '%s'}]",
    "generators: ['{apiVersion: builtin, kind: ConfigMapGenerator, metadata: {name: a}, files: [\"%s\"]}']",
]


@pytest.mark.parametrize("text", REMOTE)
def test_nothing_remote_is_fetched_by_any_field(failure, text):
    """The URL leads to a socket of our own: nobody may connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.yaml"
        found = failure({"kustomization.yaml": text % url})
        with pytest.raises(TimeoutError):
            server.accept()
    assert isinstance(found, Refused) and found.where == "kustomization.yaml:1"
    assert f"{url} is remote" in found.what


@pytest.mark.parametrize(
    "entry",
    [
        "https://example.com/a.yaml",
        "github.com/org/repo",
        "GitHub.com/org/repo//path?ref=v1",
        "git@example.com:org/repo",
        "ssh://git@example.com/repo",
        "git::https://example.com/r",
        "org-1234@github.com:a/b",
        "file:///etc",
        "example.com/repo.git",
        "example.com/repo.git//base",
        "example.com/_git/repo",
        "gh:org/repo",
        "s3::https://x/y",
        "host\\\\share",
        "repo?ref=main",
    ],
)
def test_every_form_of_a_remote_base_is_refused(failure, entry):
    found = failure({"kustomization.yaml": f"resources: [\"{entry}\"]\n"})
    assert isinstance(found, Refused) and "is remote" in found.what


def test_a_password_in_a_remote_base_is_not_shown(failure):
    assert "hunter2" not in str(failure({"kustomization.yaml": "resources: ['https://me:hunter2@example.com/r']\n"}))


@pytest.mark.parametrize(
    "text, words",
    [
        ("resources: [../x]", "resources: ../x is outside of the repository"),
        ("resources: [/etc/passwd]", "/etc/passwd is outside"),
        ("configMapGenerator: [{name: a, files: [../../etc/passwd]}]", "is outside"),
        ("patches: [{path: ../x.yaml}]", "is outside"),
        ("resources: [nope.yaml]", "resources: nope.yaml is not in the repository"),
        ("resources: [empty]", "empty: has no kustomization"),
        ("helmCharts: [{name: x, repo: 'https://x'}]", "helmCharts: kustomize would start helm"),
        ("helmChartInflationGenerator: [{chartName: x}]", "would start helm"),
        ("helmGlobals: {chartHome: x}", "would start helm"),
        ("generators: [exec.yaml]", "Exec of example.com/v1 is a plugin"),
        ("transformers: [container.yaml]", "config.kubernetes.io/function would run a function"),
        ("validators: [plugins]", "Exec of example.com/v1 is a plugin"),
        (
            "transformers: ['{apiVersion: builtin, kind: HelmChartInflationGenerator, metadata: {name: a}}']",
            "is a plugin",
        ),
        ("resources: [a: b]", "must be a list of strings"),
        ("resources: 7", "must be a list of strings"),
        ("- a", "is no kustomization"),
        ("a: 1\na: 2", "key 'a' is set twice"),
        ("resources: [&a a, *b]", "an alias has no anchor"),
    ],
)
def test_a_hostile_or_broken_kustomization_is_refused_in_its_own_words(failure, text, words):
    found = failure({
        "kustomization.yaml": text, "empty/x.txt": "", "exec.yaml": "apiVersion: example.com/v1\nkind: Exec\nmetadata: {name: a}\n",
        "container.yaml": "apiVersion: builtin\nkind: A\nmetadata: {name: a, annotations: {config.kubernetes.io/function: 'container: {image: x}'}}\n",
        "plugins/kustomization.yaml": "resources: [exec.yaml]\n", "plugins/exec.yaml": "apiVersion: example.com/v1\nkind: Exec\nmetadata: {name: a}\n",
    })
    assert words in str(found)


def test_kustomize_s_own_error_comes_with_its_words_and_place(failure):
    found = failure({"app/kustomization.yaml": "resources: [bad.yaml]\n", "app/bad.yaml": "a: 1\nb: [\n"}, "app")
    assert found.where.startswith("app/bad.yaml:") and "kustomize: accumulating resources" in found.what
    assert "invalid Kustomization" in str(failure({"app/kustomization.yaml": "resouces: []\n"}, "app"))
    assert "nordic.gitops-" not in str(found), "the scratch folder's path is nobody's business"


def test_bases_that_contain_each_other_end(failure):
    found = failure({"a/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yaml": "resources: [../a]\n"}, "a")
    assert "cycle" in str(found)


def test_a_missing_kustomize_says_what_to_do(failure):
    assert str(failure({"kustomization.yaml": ""}, kustomize_binary="no-such-kustomize")) == (
        "the renderer kustomize needs kustomize or kubectl, and no-such-kustomize is not an executable file. Install "
        "it, or give its path by `kustomize_binary`."
    )


def test_a_submodule_elsewhere_does_not_stop_an_overlay(rendered, git_repo, failure):
    git_repo.write("env/prod/kustomization.yaml", OVERLAY["env/prod/kustomization.yaml"])
    rendered(OVERLAY, "env/prod")
    git_repo.git("update-index", "--add", "--cacheinfo", f"160000,{git_repo.head()},vendor/module")
    git_repo.git("commit", "--quiet", "--message", "a submodule")
    (git_repo.path / "vendor" / "module").mkdir(parents=True)
    assert rendered(None, "env/prod").cached
    assert len(rendered({"env/prod/one.txt": "two"}, "env/prod").documents) == 2
    found = failure({"env/prod/kustomization.yaml": "resources: [../../vendor/module]\n"}, "env/prod")
    assert isinstance(found, Refused) and "submodule" in str(found)


# --- helm -----------------------------------------------------------------------------------------------------------

CHART = {
    "charts/web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 0.1.0\n",
    "charts/web/values.yaml": "size: small\n",
    "charts/web/prod.yaml": "size: large\n",
    "charts/web/templates/config.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n  namespace: {{ .Release.Namespace "
        "}}\ndata:\n  size: {{ .Values.size | quote }}\n"
        "  kube: {{ .Capabilities.KubeVersion.Version }}\n  looked: {{ lookup \"v1\" \"Secret\" \"kube-system\" \"a\" "
        "| toJson | quote }}\n  api: {{ .Capabilities.APIVersions.Has \"x.io/v1\" | quote }}\n  dns: {{ getHostByName "
        "\"localhost\" | quote }}\n"
    ),
    "charts/web/crds/thing.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.x.io}\n",
}


def config(result):
    return next(document.body for document in result.documents if document.body["kind"] == "ConfigMap")


def test_a_chart_is_rendered_with_its_values_and_crds(rendered):
    result = rendered(CHART, "charts/web", namespace="shop", kube_version="1.31.2", api_versions=("x.io/v1",))
    assert result.renderer == "helm"
    assert {document.where for document in result.documents} == {"charts/web/crds/thing.yaml", "charts/web/templates/config.yaml"}
    assert config(result) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop", "namespace": "shop"},
                              "data": {"size": "small", "kube": "v1.31.2", "looked": "{}", "api": "true", "dns": ""}}


def test_a_chart_is_rendered_again_for_a_cluster_that_serves_something_else(rendered):
    first = rendered(CHART, "charts/web", serves=lambda: ("v1.31.2+k3s1", ("v1", "x.io/v1", "x.io/v1/Thing")))
    assert (config(first)["data"]["kube"], config(first)["data"]["api"]) == ("v1.31.2+k3s1", "true")
    assert rendered({"other": "x"}, "charts/web", serves=lambda: ("v1.31.2+k3s1", ("v1", "x.io/v1", "x.io/v1/Thing"))).cached
    second = rendered({}, "charts/web", serves=lambda: ("v1.32.0", ("v1",)))
    assert not second.cached and (config(second)["data"]["kube"], config(second)["data"]["api"]) == ("v1.32.0", "false")


def test_a_version_that_helm_cannot_read_leaves_the_chart_helm_s_own(rendered):
    built_by_hand = rendered(CHART, "charts/web", serves=lambda: ("v0.0.0-master+$Format:%H$", ("v1",)))
    assert config(built_by_hand)["data"]["kube"] == config(rendered({}, "charts/web"))["data"]["kube"]


def test_what_is_no_chart_asks_no_cluster(rendered):
    asked = []
    for files in ({"apps/a.yaml": CONFIG % "a"}, {"apps/kustomization.yaml": "resources: [a.yaml]\n"}):
        rendered(files, "apps", serves=lambda: asked.append("it") or ("v1.32.0", ()))
        assert rendered({}, "apps", serves=lambda: asked.append("it") or ("v1.32.0", ())).cached
    assert not asked


@pytest.mark.parametrize(
    "options, size",
    [
        ({}, "small"),
        ({"values_files": ("prod.yaml",)}, "large"),
        ({"values_files": ("prod.yaml", "../../env/own.yaml")}, "own"),
        ({"values_files": ("/env/own.yaml", "prod.yaml")}, "large"),
        ({"values_files": ("prod.yaml",), "values": {"size": "inline"}}, "inline"),
        ({"values": {"size": "{{ é }}"}}, "{{ é }}"),
    ],
)
def test_later_values_win_and_inline_values_win_over_all(rendered, options, size):
    assert config(rendered({**CHART, "env/own.yaml": "size: own\n"}, "charts/web", **options))["data"]["size"] == size


def test_a_values_file_of_another_folder_is_part_of_the_render(rendered):
    files = {**CHART, "env/own.yaml": "size: own\n"}
    rendered(files, "charts/web", values_files=("/env/own.yaml",))
    assert rendered({"other": "x"}, "charts/web", values_files=("/env/own.yaml",)).cached
    changed = rendered({"env/own.yaml": "size: new\n"}, "charts/web", values_files=("/env/own.yaml",))
    assert not changed.cached and config(changed)["data"]["size"] == "new"


@pytest.mark.parametrize(
    "name, words",
    [
        ("https://me:hunter2@example.com/v.yaml", "https://… is remote"),
        ("../../../x.yaml", "is outside of the repository"),
        ("/../x", "is outside of the repository"),
        ("nope.yaml", "charts/web/nope.yaml is not in the repository"),
        ("--post-renderer=x", "is not in the repository"),
    ],
)
def test_values_come_from_the_repository_only(failure, name, words):
    found = failure(CHART, "charts/web", values_files=(name,))
    assert words in str(found) and "hunter2" not in str(found)


@pytest.mark.parametrize("option", ["release_name", "namespace", "kube_version"])
def test_no_option_of_ours_becomes_one_of_helm_s(failure, option):
    found = failure(CHART, "charts/web", **{option: "--post-renderer=touch"})
    assert "helm: " in str(found) or "--post-renderer=touch" in str(found)


def test_test_hooks_and_hooks_of_other_events_are_left_out_and_said(rendered):
    hook = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {0}\n  annotations: {{helm.sh/hook: '{1}'}}\n---\n"
    result = rendered(
        {
            **CHART,
            "charts/web/templates/hooks.yaml": "".join(
                hook.format(*pair)
                for pair in (
                    ("t", "test"),
                    ("d", "pre-delete"),
                    ("r", "post-rollback,post-delete"),
                    ("i", "pre-install,pre-delete"),
                )
            ),
        },
        "charts/web",
    )
    pods = [document.body for document in result.documents if document.body["kind"] == "Pod"]
    assert [pod["metadata"]["name"] for pod in pods] == ["i"]
    assert pods[0]["metadata"]["annotations"] == {"helm.sh/hook": "pre-install,pre-delete"}
    assert sorted(result.notes) == [
        "charts/web/templates/hooks.yaml: left out, a helm hook of post-rollback,post-delete only",
        "charts/web/templates/hooks.yaml: left out, a helm hook of pre-delete only",
    ]


def test_a_key_twice_in_a_chart_is_told_as_helm_itself_takes_it(rendered):
    result = rendered({**CHART, "charts/web/templates/twice.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: a\ntype: b\n"}, "charts/web")
    assert [document.body["type"] for document in result.documents if document.body["kind"] == "Secret"] == ["b"]
    assert "key 'type' is set twice" in result.notes[0]


@pytest.mark.parametrize(
    "template, where, words",
    [
        ("\n{{ fail \"no size\" }}", "charts/web/templates/bad.yaml:2", "no size"),
        ("\n\na: {{ .Values.a.b }}", "charts/web/templates/bad.yaml:3", "nil pointer"),
        ("\n{{ .Values.x", "charts/web/templates/bad.yaml:2", "unclosed action"),
        ("a: [1", "charts/web/templates/bad.yaml", "YAML parse error"),
        ("a: {{ include \"none\" . }}", "charts/web/templates/bad.yaml:1", "none"),
        ("apiVersion: v1\nkind: A\nmetadata: {}", "charts/web/templates/bad.yaml", "metadata.name is missing"),
    ],
)
def test_helm_s_own_error_comes_with_its_words_file_and_line(failure, template, where, words):
    found = failure({**CHART, "charts/web/templates/bad.yaml": template}, "charts/web")
    assert found.where == where and words in found.what
    assert "nordic.gitops-" not in str(found)


def test_a_chart_s_dependencies_must_be_in_the_repository(rendered, failure):
    needs = {
        **CHART,
        "charts/web/Chart.yaml": CHART["charts/web/Chart.yaml"]
        + "dependencies:\n- {name: cache, version: 1.x.x, repository: 'https://charts.example.com'}\n",
    }
    found = failure(needs, "charts/web")
    assert isinstance(found, Refused) and found.where == "charts/web/Chart.yaml"
    assert "the chart depends on cache, which is not under charts/web/charts" in found.what and "commit charts/" in found.hint
    result = rendered(
        {
            "charts/web/charts/cache/Chart.yaml": "apiVersion: v2\nname: cache\nversion: 1.0.0\n",
            "charts/web/charts/cache/templates/c.yaml": CONFIG % "cache",
        },
        "charts/web",
    )
    assert "charts/web/charts/cache/templates/c.yaml" in {document.where for document in result.documents}


def test_what_is_no_chart_is_no_chart(failure):
    assert "has no Chart.yaml" in str(failure({"a.yaml": CONFIG % "a"}, renderer="helm"))


def test_a_chart_can_be_read_as_a_folder_of_manifests_when_told(rendered):
    assert names(rendered({"Chart.yaml": "x: [", "a.yaml": CONFIG % "a"}, renderer="directory", exclude=("Chart.yaml",))) == ["a"]


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_chart_that_never_ends_is_stopped(failure):
    begin = time.monotonic()
    found = failure({**CHART, "charts/web/templates/long.yaml": "{{ range until 2000000000 }}{{ end }}"}, "charts/web", timeout=2.0)
    assert "helm did not end within 2 seconds" in str(found) or "memory" in str(found)
    assert time.monotonic() - begin < 30


def test_output_without_end_is_stopped(tmp_path):
    program = tmp_path / "yes.sh"
    program.write_text(
        "#!/bin/sh\nexec 2>&1\nwhile :; do echo "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; "
        "done\n"
    )
    program.chmod(0o755)
    limit, tool.MAX_OUTPUT = tool.MAX_OUTPUT, 1 << 20
    try:
        with pytest.raises(Failure, match="yes.sh wrote more than 1 MiB"):
            tool.run(tool.find(str(program), (), "x", "x"), [], str(tmp_path), str(tmp_path), 60)
    finally:
        tool.MAX_OUTPUT = limit


def test_a_renderer_sees_nothing_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("K8S_AUTH_API_KEY", "hunter2")
    program = tmp_path / "env.sh"
    program.write_text("#!/bin/sh\n/usr/bin/env\n")
    program.chmod(0o755)
    output, _words, code = tool.run(tool.find(str(program), (), "x", "x"), [], str(tmp_path), str(tmp_path), 60)
    seen = dict(line.split("=", 1) for line in output.decode().splitlines())
    assert code == 0 and "hunter2" not in output.decode()
    assert seen["HOME"] == str(tmp_path) and seen["HTTPS_PROXY"] == "http://127.0.0.1:9" and not os.path.exists(seen["PATH"])


def test_nothing_is_left_in_the_temporary_folder(rendered, failure, tmp_path, monkeypatch):
    import tempfile

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    tempfile.tempdir, before = None, tempfile.tempdir
    try:
        rendered(CHART, "charts/web")
        failure({**CHART, "charts/web/templates/bad.yaml": "{{ fail \"x\" }}"}, "charts/web")
        assert tempfile.gettempdir() == str(scratch)
    finally:
        tempfile.tempdir = before
    assert os.listdir(scratch) == []


def test_many_renders_at_once_do_not_disturb_each_other(rendered, git_repo, tmp_path, binaries):
    rendered(CHART, "charts/web")
    results = []

    def run():
        mirror = Mirror(Source.of({"repository": git_repo.url, "git_cache": str(tmp_path / "cache" / "git")}))
        try:
            tree = mirror.tree(mirror.resolve("main"), "charts/web")
            results.append(
                json.dumps(
                    [
                        document.body
                        for document in render(
                            tree, RenderOptions(helm_binary=str(Path(binaries) / "helm")), str(tmp_path / "many")
                        ).documents
                    ]
                )
            )
        finally:
            mirror.close()

    threads = [threading.Thread(target=run) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len(set(results)) == 1
