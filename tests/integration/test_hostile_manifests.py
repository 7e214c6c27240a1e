# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository that means harm, or that an odd editor wrote, through the whole reconcile: refused at its place with nothing written,
or stored exactly as kubectl would store it."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from lab.repository import Repository
from reconciling import Reconciler, config_map, get, operations


@pytest.fixture
def canary(tmp_path):
    """A file that comes into being when something of the repository is run."""
    return tmp_path / "canary"


@pytest.fixture
def hostile(cluster, options, git_repo, binaries):
    """What the reconcile of a good file beside the files given says; everything stays unwritten."""
    def said(files=None, make=None, **more):
        git_repo.write("a.yaml", config_map("good"))
        for name, content in (files or {}).items():
            git_repo.write(name, content)
        if make is None:
            git_repo.commit()
        else:
            make(git_repo)
        run = Reconciler(**{**options, "helm_binary": str(Path(binaries) / "helm"), "kustomize_binary": str(Path(binaries) / "kubectl"), **more})
        since = cluster.moment()
        with pytest.raises(Failure) as caught:
            run()
        wrote = [(entry["verb"], entry["name"]) for entry in cluster.audit(since)
                 if entry["userAgent"] == "nordic.gitops" and entry["verb"] not in ("get", "list", "watch")]
        assert wrote == []
        assert "Traceback" not in str(caught.value)
        return str(caught.value)

    return said


LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 12))
OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"

FILES = {
    "a billion laughs": (OBJECT + LAUGHS, ["x.yaml:", "alias"]),
    "a depth that no reader survives": (OBJECT + "data: " + "[" * 100_000, ["x.yaml:4", "nested"]),
    "a key twice": (OBJECT + "data: {a: '1', b: '2', a: '3'}\n", ["x.yaml:4", "'a' is set twice"]),
    "a tab as indentation": (OBJECT + "data:\n\ta: b\n", ["x.yaml:5", "tab"]),
    "Latin-1": ((OBJECT + "data: {name: Bodø}\n").encode("latin-1"), ["x.yaml:4", "UTF-8"]),
    "UTF-16": ((OBJECT + "data: {name: Bodø}\n").encode("utf-16"), ["x.yaml:1"]),
    "a NUL": ((OBJECT + "data: {name: \"a\0b\"}\n").encode(), ["x.yaml:4"]),
    "a Python object": (OBJECT + "data: !!python/object/apply:os.system ['true']\n", ["x.yaml:4", "tag"]),
    "a document behind three dots": (OBJECT + "...\n" + OBJECT, ["x.yaml:5", "Begin every document but the first with `---`"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_is_refused_at_its_line_and_in_time(hostile, case):
    content, words = FILES[case]
    begin, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = hostile({"x.yaml": content})
    assert time.process_time() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KiB
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} is not in: {message}"


def test_a_file_of_100_mb_is_refused_before_it_is_read(hostile):
    def make(repository):
        repository.git("config", "core.compression", "1")
        os.truncate(repository.write("x.yaml", "#"), 100_000_000)
        repository.commit()

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = hostile(make=make)
    assert message.startswith("x.yaml: is 95 MiB, the limit for one file is 64 MiB")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 60_000  # KiB


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../etc/hostname", "../../outside.yaml", "../link.yaml"])
def test_a_link_out_of_the_repository_is_refused(hostile, target):
    def make(repository):
        (repository.path.parent / "outside.yaml").write_text(config_map("outside"))
        (repository.path / "apps").mkdir()
        os.symlink(target, repository.path / "apps" / "x.yaml")
        os.symlink("../outside.yaml", repository.path / "link.yaml")
        repository.commit()

    message = hostile(make=make, path="apps")
    assert "apps/x.yaml" in message and "link" in message


def test_a_link_out_of_the_folder_shows_what_the_repository_has_there(run, git_repo):
    git_repo.write("outside.yaml", config_map("outside"))
    git_repo.write("apps/a.yaml", config_map("good"))
    os.symlink("../outside.yaml", git_repo.path / "apps" / "x.yaml")
    git_repo.commit()
    assert operations(run(path="apps")) == {"ConfigMap good": "created", "ConfigMap outside": "created"}


@pytest.mark.parametrize("path", ["../", "apps/../..", "/etc", ".git", "apps/\x00", "--upload-pack=x"])
def test_a_path_that_leads_elsewhere_is_refused(hostile, path):
    message = hostile(path=path)
    assert repr(path) in message or f"{path.strip('/')}: there is no such" in message


def test_a_submodule_is_refused_and_never_fetched(hostile, tmp_path, canary):
    def make(repository):
        other = Repository(tmp_path / "other")
        other.write("x.yaml", config_map("x"))
        head = other.commit()
        repository.write(".gitmodules", f'[submodule "m"]\n\tpath = m\n\turl = ext::sh -c "touch {canary}"\n')
        repository.git("add", "--all")
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{head},m")
        repository.git("commit", "--quiet", "--message", "a submodule")

    message = hostile(make=make)
    assert "m" in message and "submodule" in message and not canary.exists()


def test_no_hook_filter_or_attribute_of_the_repository_runs(run, git_repo, canary):
    git_repo.write("a.yaml", config_map("good"))
    git_repo.write(".gitattributes", "*.yaml filter=evil diff=evil merge=evil\n")
    git_repo.write("hooks/post-checkout", f"#!/bin/sh\ntouch {canary}\n").chmod(0o755)
    git_repo.commit()
    for hook in ("post-checkout", "pre-receive", "post-update", "reference-transaction", "fsmonitor-watchman"):
        path = git_repo.path / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {canary}\n")
        path.chmod(0o755)
    for key in ("filter.evil.smudge", "filter.evil.clean", "diff.evil.textconv", "core.fsmonitor", "core.sshCommand", "uploadpack.packObjectsHook"):
        git_repo.git("config", key, f"touch {canary}; cat")
    assert operations(run()) == {"ConfigMap good": "created"}
    assert not canary.exists()


@pytest.fixture
def listener():
    """A socket that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_remote_base_is_refused_and_never_fetched(hostile, listener):
    message = hostile({"app/kustomization.yaml": f"namePrefix: a-\nresources:\n  - {listener}/base.yaml\n"}, path="app")
    assert "app/kustomization.yaml:1" in message and f"{listener}/base.yaml is remote" in message


@pytest.mark.parametrize("text", [
    "generators: [plugin.yaml]", "transformers: [plugin.yaml]", "validators: [plugin.yaml]",
])
def test_a_plugin_of_kustomize_is_refused_and_never_run(hostile, canary, text):
    plugin = ("apiVersion: v1\nkind: Evil\nmetadata:\n  name: evil\n  annotations:\n    config.kubernetes.io/function: |\n"
              "      exec: {path: ./evil.sh}\n")
    message = hostile({"app/kustomization.yaml": text + "\n", "app/plugin.yaml": plugin, "app/evil.sh": f"#!/bin/sh\ntouch {canary}\n"}, path="app")
    assert "app/plugin.yaml:1" in message and "function" in message
    assert not canary.exists()


@pytest.mark.parametrize("repository", ["{}", "file:///etc", "alias:stable", "oci://127.0.0.1/charts"])
def test_a_remote_dependency_of_a_chart_is_refused_and_never_fetched(hostile, listener, repository):
    chart = ("apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n"
             f"  - {{name: redis, version: 1.0.0, repository: '{repository.format(listener)}'}}\n")
    message = hostile({"web/Chart.yaml": chart, "web/templates/a.yaml": config_map("a")}, path="web")
    assert "web/Chart.yaml" in message and "redis" in message and "commit charts/" in message


def test_a_chart_reads_no_file_or_variable_of_the_machine_and_asks_no_cluster(cluster, namespace, run, git_repo, binaries, monkeypatch):
    """Templates may try: what they get is nothing."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    git_repo.write("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
    git_repo.write("web/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n"
                   '  file: {{ .Files.Get "/etc/hostname" | quote }}\n  above: {{ .Files.Get "../../../etc/hostname" | quote }}\n'
                   '  cluster: {{ lookup "v1" "Namespace" "" "" | toJson | quote }}\n  host: {{ getHostByName "localhost" | quote }}\n')
    git_repo.commit()
    run(path="web", helm_binary=str(Path(binaries) / "helm"))
    data = get(cluster, namespace, "configmap", "a")["data"]
    assert data == {"file": "", "above": "", "cluster": "{}", "host": ""}


# ---- odd, and stored as kubectl stores it

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\n  annotations: {{}}\n"

ODD = {
    "a byte order mark": b"\xef\xbb\xbf" + (HEAD.format("bom") + "data: {a: b}\n").encode(),
    "Windows line ends": (HEAD.format("crlf") + "data:\n  text: |\n    one\n    two\n  a: b\n").replace("\n", "\r\n").encode(),
    "words of YAML 1.1, quoted": (HEAD.format("quoted") + "data: {no: 'no', '012': '012', flag: 'off', '1e3': '1e3', y: 'y', day: '2001-01-01'}\n").encode(),
    "blocks, folds and anchors": (HEAD.format("blocks") + "data:\n  folded: >-\n    one\n    two\n\n    three\n  kept: |+\n    x\n\n"
                                  "  base: &b same\n  again: *b\n").encode(),
    "letters of everywhere": (HEAD.format("letters") + "data: {name: 'Bodø 東京 🚀', esc: \"\\u00e5\\x41\\t\", nbsp: 'a\u00a0b'}\n").encode(),
    "keys that are no text": (HEAD.format("keys") + "data: {1: one, true: two, 012: three, 1.5: four}\n").encode(),
    "JSON": b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "json"}, "data": {"a": "\\u00e5"}}',
    "merge keys": (HEAD.format("merge") + "data:\n  <<: {a: one, b: two}\n  b: three\n").encode(),
}

# Free-form fields, where a number, a date or a boolean stays one: the stored object shows how it was read.
WIDGET = """apiVersion: {group}/v1
kind: Widget
metadata: {{name: surprises}}
spec:
  words: [no, No, off, yes, on, y, n, ~, null, true]
  octal: 012
  octals: [0o12, 0777, 08, -012, 0_7]
  thousand: 1e3
  floats: [1.0, 1., .5, 1e-3, 1E+3, 6.02e23, 12e03]
  date: 2001-01-01
  stamps: [2001-12-14t21:59:43.10-05:00, 2001-12-14 21:59:43]
  sixty: 12:30:45
  hex: [0x1F, 0b101, 0x]
  under: [1_000, 1__0]
  big: [9223372036854775807, 1000000000000]
  version: [1.10, "1.10", 1.2.3, v1]
  empty: [~, '', "", {{}}, []]
"""
CRD = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}}}
"""


def test_what_an_odd_editor_wrote_is_stored_as_kubectl_stores_it(cluster, namespace, options, git_repo, tmp_path):
    """The same files, applied by us and by kubectl into two namespaces: the stored objects are the same."""
    group, other = f"{namespace}.example.com", cluster.namespace()
    crd = tmp_path / "crd.yaml"
    crd.write_text(CRD.format(group=group))
    cluster.kubectl("apply", "-f", str(crd))
    try:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/widgets.{group}", "--timeout=20s")
        folder = tmp_path / "files"
        folder.mkdir()
        for number, content in enumerate((*ODD.values(), WIDGET.format(group=group).encode())):
            name = f"{number}.json" if content.startswith(b"{") else f"{number}.yaml"
            git_repo.write(name, content)
            (folder / name).write_bytes(content)
        git_repo.commit()
        run = Reconciler(**{**options, "inventory_namespace": "default"})
        run()
        cluster.kubectl("apply", "--server-side", "-n", other, "-f", str(folder))
        ours, theirs = _stored(cluster, namespace, group), _stored(cluster, other, group)
        assert len(ours) == len(ODD) + 1
        assert ours == theirs
        assert not run()["changed"]
    finally:
        cluster.remove_namespace(other)
        cluster.kubectl("delete", "crd", f"widgets.{group}", "--ignore-not-found", "--wait=false")
        cluster.kubectl("delete", "configmap", f"nordic-gitops-{namespace}", "-n", "default", "--ignore-not-found")


def _stored(cluster, namespace, group):
    items = json.loads(cluster.kubectl("get", f"configmaps,widgets.{group}", "-n", namespace, "-o", "json"))["items"]
    return {item["metadata"]["name"]: json.dumps({key: item.get(key) for key in ("data", "spec")}, sort_keys=True) for item in items
            if item["metadata"]["name"] != "kube-root-ca.crt"}
