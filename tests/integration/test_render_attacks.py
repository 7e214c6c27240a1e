# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What whoever writes to the repository may try with kustomize and helm: to read the host, to reach the network, to outlive the run."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import kustomize
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: '1'}\n"
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: web\nversion: 0.1.0\n",
    "values.yaml": "size: small\n",
    "templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {size: {{ .Values.size | quote }}}\n",
}


@pytest.fixture
def rendered(git_repo, binaries, tmp_path):
    def render_it(files, path=".", **options):
        for name, content in files.items():
            place = git_repo.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
        git_repo.commit()
        mirror = Mirror(Source.of({"repository": git_repo.url, "git_cache": str(tmp_path / "cache")}))
        try:
            commit = mirror.resolve("main")
            known = dict(kustomize_binary=str(Path(binaries) / "kubectl"), helm_binary=str(Path(binaries) / "helm"))
            return render(mirror.tree(commit, path), RenderOptions(**{**known, **options}), str(tmp_path / "render"), root=mirror.tree(commit))
        finally:
            mirror.close()

    return render_it


@pytest.fixture
def refused(rendered):
    def refusal(files, path=".", **options):
        with pytest.raises(Failure) as caught:
            rendered(files, path, **options)
        return caught.value

    return refusal


@pytest.fixture
def server():
    """A URL on loopback that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x.yaml"
        with pytest.raises(TimeoutError):
            listening.accept()


# --- kustomize ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "Resources: ['%s']", "re\u017fources: ['%s']", "RESOURCES: ['%s']", "Crds: ['%s']", "openAPI: {path: '%s'}", "openapi: {Path: '%s'}",
    "configMapGenerator: [{name: a, Files: ['k=%s']}]", "configMapGenerator: [{name: a, file\u017f: ['k=%s']}]",
    "secretGenerator: [{name: a, ENVS: ['%s']}]", "patches: [{Path: '%s'}]", "patches: [{patch: '{}', PATH: '%s'}]",
    "replacements: [{Path: '%s'}]", "Component\u017f: ['%s']", "\u212aind: x\nBases: ['%s']",
    "generators: ['{apiVersion: builtin, kind: ConfigMapGenerator, metadata: {name: a}, Files: [\"%s\"]}']",
    "transformers: ['{apiVersion: builtin, kind: PatchTransformer, metadata: {name: a}, Path: \"%s\"}']",
    "transformers: ['{apiVersion: builtin, kind: ReplacementTransformer, metadata: {name: a}, replacements: [{PATH: \"%s\"}]}']",
    "transformers: ['{apiVersion: builtin, kind: ValueAddTransformer, metadata: {name: a}, value: x, targetFilePath: \"%s\"}']",
    "transformers: ['{apiVersion: builtin, kind: PatchStrategicMergeTransformer, metadata: {name: a}, paths: [\"%s\"]}']",
    "patchesStrategicMerge: ['%s: x']", "transformers: ['%s: x']", "generators: [' %s']",
])
def test_no_spelling_of_a_field_hides_a_url(refused, server, text):
    found = refused({"kustomization.yaml": text % server})
    assert isinstance(found, Refused) and ("unknown field" in found.what or "is remote" in found.what), found
    assert found.where.startswith("kustomization.yaml")


def test_a_field_in_another_case_is_told_with_its_name(refused):
    assert str(refused({"kustomization.yaml": "re\u017fources: [a.yaml]\n", "a.yaml": CONFIG % "a"})) == (
        'kustomization.yaml:1: kustomize: invalid Kustomization: unknown field "re\u017fources". Did you mean resources?')


PLUGINS = {
    "kustomization.yaml": "resources: [a.yaml]\ntransformers: [plugins]\n",
    "a.yaml": CONFIG % "a",
    "plugins/one.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npatch: '[]'\ntarget: {kind: ConfigMap}\n",
}


def test_a_folder_of_plugins_is_taken(rendered):
    files = {**PLUGINS, "plugins/kustomization.yaml": "resources: [one.yaml, more]\n", "plugins/more/kustomization.yaml": "resources: [two.yaml]\n",
             "plugins/more/two.yaml": "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: q}\nprefix: x-\nfieldSpecs: [{path: metadata/name}]\n"}
    assert [document.body["metadata"]["name"] for document in rendered(files).documents] == ["x-a"]


@pytest.mark.parametrize("field", [
    "patches: [{patch: '[{op: add, path: /path, value: /etc/passwd}]', target: {kind: PatchTransformer}}]", "namePrefix: x",
    "patchesStrategicMerge: ['{apiVersion: builtin, kind: PatchTransformer, metadata: {name: p}, path: /etc/passwd}']",
    "transformers: ['{apiVersion: builtin, kind: HashTransformer, metadata: {name: h}}']", "components: [c]", "replacements: [{path: r.yaml}]",
    "configMapGenerator: [{name: x}]", "generators: [g.yaml]", "vars: []", "commonAnnotations: {config.kubernetes.io/function: x}",
])
def test_what_configures_plugins_is_not_rewritten_after_it_was_judged(refused, field):
    found = refused({**PLUGINS, "plugins/kustomization.yaml": f"resources: [one.yaml]\n{field}\n", "plugins/r.yaml": "[]", "plugins/g.yaml": "x: 1"})
    assert isinstance(found, Refused) and "what configures plugins" in found.what and found.where == "plugins/kustomization.yaml:2"


def test_a_file_of_plugins_names_files_of_the_repository_only(refused, server):
    for entry, words in ((server, "is remote"), ("../../x", "is outside"), ("/etc/passwd", "is outside")):
        found = refused({**PLUGINS, "kustomization.yaml": "transformers: [plugins/one.yaml]\n",
                         "plugins/one.yaml": f"apiVersion: builtin\nkind: PatchTransformer\nmetadata: {{name: p}}\npath: {entry}\n"})
        assert words in found.what and found.where == "plugins/one.yaml:1"


@pytest.mark.parametrize("entry", ["web@prod.yaml", "a:b.yaml", "x?y.yaml", "my.git/a.yaml", "name@host/org/a.yaml"])
def test_a_file_may_have_a_name_that_only_looks_remote(rendered, entry):
    kustomization = f"resources: ['./{entry}']\nconfigMapGenerator: [{{name: g, files: ['k={entry}']}}]\n"
    assert len(rendered({"kustomization.yaml": kustomization, entry: CONFIG % "a"}).documents) == 2


def test_a_folder_may_have_such_a_name_too(rendered, refused):
    files = {"kustomization.yaml": "resources: [./env@prod/base/x]\n", "env@prod/base/x/kustomization.yaml": "resources: [a.yaml]\n",
             "env@prod/base/x/a.yaml": CONFIG % "a"}
    assert len(rendered(files).documents) == 1
    found = refused({"kustomization.yaml": "resources: [env@prod/base/x]\n"})
    assert found.hint == "Write ./env@prod/base/x."


@pytest.mark.parametrize("text", [
    "commonLabels: {env: production, path: a, files: b, Resources: c}", "labels: [{pairs: {env: production, paths: x}, includeSelectors: true}]",
    "commonAnnotations: {file: x, envs: 'a:b@c'}", "generatorOptions: {labels: {env: x}, annotations: {path: here}}",
    "configMapGenerator: [{name: g, literals: ['a=http://example.com'], options: {labels: {env: x}}}]",
])
def test_a_key_that_a_user_chose_names_no_file(rendered, text):
    assert rendered({"kustomization.yaml": f"resources: [a.yaml]\n{text}\n", "a.yaml": CONFIG % "a"}).documents


def test_every_field_known_here_is_one_of_kustomize(refused):
    """A field that kustomize does not have would be refused by it as unknown, before anything else."""
    fields = [name for name in kustomize.KUSTOMIZATION if name not in (*kustomize.HELM, "apiVersion", "kind")]
    assert "unknown field" not in str(refused({"kustomization.yaml": "".join(f"{name}:\n" for name in fields)}))
    assert "unknown field" in str(refused({"kustomization.yaml": "fields:\n"}))


# --- helm -----------------------------------------------------------------------------------------------------------


def packed(files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return raw.getvalue()


SUB = {"sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 0.1.0\n", "sub/templates/b.yaml": CONFIG % "b"}


@pytest.mark.parametrize("schema", [
    {"$ref": "URL"}, {"$ref": "file:///etc/passwd"}, {"properties": {"size": {"$ref": "URL#/a"}}}, {"$ref": "other.json"}, {"$ref": "../../x"},
    {"allOf": [{"not": {"$dynamicRef": "URL"}}]}, {"$recursiveRef": "URL"}, {"$schema": "URL"}, {"$id": "file:///etc/", "$ref": "passwd"},
    {"definitions": {"a": {"$ref": "#/b", "b": {"$ref": "/etc/passwd"}}}},
])
@pytest.mark.parametrize("place", ["values.schema.json", "charts/sub/values.schema.json", "charts/sub.tgz", "charts/sub.tgz in charts/mid.tgz"])
def test_a_schema_that_leads_out_of_its_chart_is_refused(refused, server, schema, place):
    text = json.dumps(schema).replace("URL", server)
    files = {**CHART, "charts/sub/Chart.yaml": SUB["sub/Chart.yaml"]}
    if place == "charts/sub.tgz":
        files = {**CHART, place: packed({**SUB, "sub/values.schema.json": text})}
    elif " in " in place:
        inner = packed({**SUB, "sub/values.schema.json": text})
        files = {**CHART, "charts/mid.tgz": packed({"mid/Chart.yaml": "apiVersion: v2\nname: mid\nversion: 0.1.0\n", "mid/charts/sub.tgz": inner})}
    else:
        files[place] = text
    found = refused(files)
    assert isinstance(found, Refused) and "out of the chart" in found.what and found.where.startswith(place.rpartition(" in ")[2])


def test_a_schema_that_stays_in_its_chart_is_used(rendered, refused):
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"s": {"enum": ["small"]}},
              "properties": {"size": {"$ref": "#/definitions/s"}, "$ref": {"type": "string"}}}
    files = {**CHART, "values.schema.json": json.dumps(schema)}
    assert rendered(files).documents
    assert "size" in refused(files, values={"size": "large"}).what


@pytest.mark.parametrize("name", ["v,/etc/hostname", "a,b=c", "-x", "é ü", "a=b{c}"])
def test_a_values_file_is_one_file_whatever_its_name(rendered, name):
    result = rendered({**CHART, name: "size: mine\n"}, values_files=(name,))
    assert result.documents[0].body["data"]["size"] == "mine"


def test_a_values_file_in_an_error_has_its_own_name(refused):
    assert "odd,name.yaml" in str(refused({**CHART, "odd,name.yaml": "size: [\n"}, values_files=("odd,name.yaml",)))


@pytest.mark.parametrize("place", ["charts/sub-fork", "charts/sub.tgz", "charts/anything-1.0.tgz"])
def test_a_dependency_goes_by_its_chart_s_name(rendered, place):
    files = {**CHART, "Chart.yaml": CHART["Chart.yaml"] + "dependencies: [{name: sub, version: '*', repository: 'https://charts.example.com'}]\n"}
    if place.endswith(".tgz"):
        files[place] = packed(SUB)
    else:
        files.update({name.replace("sub", place, 1): content for name, content in SUB.items()})
    assert len(rendered(files).documents) == 2


def test_a_dependency_that_is_not_there_is_refused(refused):
    files = {**CHART, "Chart.yaml": CHART["Chart.yaml"] + "dependencies: [{name: redis, version: '*'}]\n", "charts/sub.tgz": packed(SUB)}
    assert "the chart depends on redis, which is not under charts" in str(refused(files))


def test_a_packed_chart_that_unfolds_without_end_is_refused(refused):
    found = refused({**CHART, "charts/bomb.tgz": packed({**SUB, "sub/big": bytes(200 << 20)})})
    assert isinstance(found, Refused) and "unfold to more than 128 MiB" in found.what


# --- links, submodules, pointers -------------------------------------------------------------------------------------


def link(git_repo, place, target):
    path = git_repo.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.fixture
def names(rendered):
    return lambda files, path=".", **options: [document.body["metadata"]["name"] for document in rendered(files, path, **options).documents]


def test_links_inside_of_the_repository_are_followed_and_their_changes_seen(rendered, names, git_repo):
    link(git_repo, "apps/web/LICENSE", "../../LICENSE")
    link(git_repo, "apps/web/shared.yaml", "../../base/one.yaml")
    link(git_repo, "apps/web/more", "../../base/more")
    assert names({"LICENSE": "x", "base/one.yaml": CONFIG % "one", "base/more/two.yaml": CONFIG % "two"}, "apps/web") == ["two", "one"]
    assert rendered({"elsewhere": "x"}, "apps/web").cached
    assert names({"base/one.yaml": CONFIG % "changed"}, "apps/web") == ["two", "changed"]
    assert names({"base/more/three.yaml": CONFIG % "three"}, "apps/web") == ["three", "two", "changed"]


@pytest.mark.parametrize("options", [{"exclude": ("node/*",)}, {"recurse": False}, {"include": ("*.yaml",)}])
def test_a_link_that_is_left_out_decides_nothing(names, git_repo, options):
    link(git_repo, "node/bin", "/usr/bin/node")
    link(git_repo, "node/gone", "nowhere")
    assert names({"a.yaml": CONFIG % "a"}, **options) == ["a"]


@pytest.mark.parametrize("options", [{"exclude": ("node/*",)}, {"recurse": False}, {"include": ("a*.yml", "b.yaml")}])
def test_a_link_with_a_manifest_s_name_that_is_left_out_decides_nothing(names, git_repo, options):
    link(git_repo, "node/out.yaml", "/etc/hostname")
    assert names({"b.yaml": CONFIG % "b"}, **options) == ["b"]


def test_a_link_that_is_no_manifest_is_left_out_and_told(rendered, refused, git_repo):
    link(git_repo, "LICENSE", "/usr/share/common-licenses/GPL-3")
    result = rendered({"a.yaml": CONFIG % "a"})
    assert len(result.documents) == 1 and result.notes[0].startswith("LICENSE: left out, this symbolic link leads out of the repository")
    link(git_repo, "b.yaml", "/etc/hostname")
    assert "b.yaml: this symbolic link leads out of the repository" in str(refused({}))


@pytest.mark.parametrize("options, words", [
    ({}, "submodule"), ({"include": ("*.yaml",)}, "submodule"), ({"exclude": ("vendor/*",)}, ""), ({"exclude": ("vendor/module/**",)}, ""),
    ({"recurse": False}, ""), ({"include": ("apps/*.yaml",)}, "")])
def test_a_submodule_that_is_left_out_decides_nothing(names, refused, git_repo, options, words):
    git_repo.write("apps/a.yaml", CONFIG % "a")
    git_repo.write("b.yaml", CONFIG % "b")
    git_repo.commit()
    git_repo.git("update-index", "--add", "--cacheinfo", f"160000,{git_repo.head()},vendor/module")
    git_repo.git("commit", "--quiet", "--message", "a submodule")
    (git_repo.path / "vendor" / "module").mkdir(parents=True)
    if words:
        assert words in str(refused({}, **options))
    else:
        assert names({}, **options)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12\n" % ("0" * 64)


@pytest.mark.parametrize("files, options, place", [
    ({"kustomization.yaml": "configMapGenerator: [{name: a, files: [ca.bin]}]\n", "ca.bin": POINTER}, {}, "ca.bin"),
    ({"kustomization.yaml": "secretGenerator: [{name: a, envs: [e]}]\n", "e": POINTER}, {}, "e"),
    ({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": POINTER}, {}, "a.yaml"),
    ({"kustomization.yaml": POINTER}, {}, "kustomization.yaml"),
    ({**CHART, "charts/sub.tgz": POINTER}, {}, "charts/sub.tgz"),
    ({**CHART, "files/logo.bin": POINTER}, {}, "files/logo.bin"),
    ({**CHART, "Chart.yaml": POINTER}, {}, "Chart.yaml"),
    ({**CHART, "prod.yaml": POINTER}, {"values_files": ("prod.yaml",)}, "prod.yaml"),
    ({"a.yaml": POINTER}, {}, "a.yaml"),
])
def test_a_pointer_of_git_lfs_is_named_and_refused_anywhere(refused, files, options, place):
    found = refused(files, **options)
    assert (found.where, found.what) == (place, "is a Git LFS pointer, not the file itself")


# --- a working tree -------------------------------------------------------------------------------------------------


def test_changes_that_are_not_committed_are_told(git_repo, tmp_path):
    from ansible_collections.nordic.gitops.plugins.module_utils._git.working_tree import not_committed

    git_repo.write("apps/a.yaml", CONFIG % "a")
    git_repo.write("apps/.gitignore", "ignored.yaml\n")
    git_repo.write("other/b.yaml", CONFIG % "b")
    git_repo.commit()
    mirror = Mirror(Source.of({"repository": git_repo.url, "git_cache": str(tmp_path / "cache")}))
    commit = mirror.resolve("main")

    def told(path="apps", revision="main"):
        return not_committed(git_repo.url, revision, commit, path)

    assert told() == [] and told(".") == [] and told(revision="HEAD") == []
    git_repo.write("apps/ignored.yaml", "x")
    git_repo.write("other/b.yaml", CONFIG % "changed")
    assert told() == [] and told(".") == ["other/b.yaml"]
    git_repo.write("apps/new.yaml", "x")
    git_repo.write("apps/a.yaml", CONFIG % "z")
    assert told() == ["apps/a.yaml", "apps/new.yaml"]
    git_repo.git("add", "--all")
    assert told() == ["apps/a.yaml", "apps/new.yaml"] and told(revision="v1") == []
    git_repo.git("config", "core.fsmonitor", f"touch {tmp_path}/canary")
    git_repo.git("config", "filter.x.clean", f"touch {tmp_path}/canary; cat")
    git_repo.write("apps/.gitattributes", "*.yaml filter=x\n")
    git_repo.write("apps/a.yaml", CONFIG % "y")
    assert "apps/a.yaml" in told() and not (tmp_path / "canary").exists()
    mirror.close()


# --- the end of a run -----------------------------------------------------------------------------------------------

RUN = """
import sys
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render
url, cache, binary = sys.argv[1:]
mirror = Mirror(Source.of({"repository": url, "git_cache": cache}))
render(mirror.tree(mirror.resolve("main")), RenderOptions(helm_binary=binary, values={"password": "hunter2"}), cache + "/render")
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_module_leaves_neither_helm_nor_its_values(git_repo, binaries, tmp_path, sign):
    for name, content in CHART.items():
        git_repo.write(name, content)
    git_repo.write("templates/long.yaml", '{{ range until 2000 }}{{ range until 100000 }}{{ sha256sum "x" }}{{ end }}{{ end }}')
    git_repo.commit()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", RUN, git_repo.url, str(tmp_path / "cache"), str(Path(binaries) / "helm")]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)}) as module:
        wait_until(lambda: list(scratch.glob("*/home/values.json")) and running(scratch))
        module.send_signal(sign)
    wait_until(lambda: not os.listdir(scratch) and not running(scratch))


def test_a_folder_that_nobody_removed_is_removed_by_the_next_render(git_repo, binaries, tmp_path):
    for name, content in CHART.items():
        git_repo.write(name, content)
    git_repo.commit()
    old, new = tmp_path / "scratch" / "nordic.gitops-old", tmp_path / "scratch" / "nordic.gitops-new"
    for folder in (old, new):
        (folder / "home").mkdir(parents=True)
    os.utime(old, (1, 1))
    command = [sys.executable, "-c", RUN, git_repo.url, str(tmp_path / "cache"), str(Path(binaries) / "helm")]
    subprocess.run(command, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")}, check=True)
    assert sorted(os.listdir(tmp_path / "scratch")) == ["nordic.gitops-new"]


def test_the_result_says_which_sandbox_was_active(rendered):
    first, again = rendered(CHART), rendered({})
    assert first.protection in ("bubblewrap", "landlock", "mount namespace") and (again.cached, again.protection) == (True, "")


def running(folder):
    from lab.processes import naming

    return naming(Path(folder))


def wait_until(true):
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
