# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that lie open are found by the structure of a file, and what only looks like one is left alone."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check import kubernetes
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import _text, check_text
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.kubernetes import findings

TOKEN = "ghp_" + "a1B2c3" * 6


def found(text, file="app.yaml"):
    return [(one.line, one.what) for one in check_text(text, file)]


@pytest.mark.parametrize("text, line, what", [
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData:\n  password: hunter2\n", 5,
     "Secret shop/db: stringData.password is not encrypted"),
    ("stringData:\n  password: hunter2\napiVersion: v1\nkind: Secret\nmetadata: {name: db}\n", 2, "Secret db: stringData.password is not encrypted"),
    ("a: 1\n---\nkind: List\nitems:\n- kind: Secret\n  metadata: {name: db}\n  data:\n    password: aHVudGVyMg==\n", 8,
     "Secret db: data.password is not encrypted"),
    ("kind: Secret\nmetadata: {name: db}\ndata:\n  key: |\n    aHVudGVy\n    Mg==\n", 4, "Secret db: data.key is not encrypted"),
    ('{"kind": "Secret", "metadata": {"name": "db"},\n "data": {"p": "aHVudGVyMg=="}}', 2, "Secret db: data.p is not encrypted"),
    ("kind: Secret\nmetadata: {name: db}\nstringData:\n  url: postgres://${USER}:hunter2@db\n", 4, "Secret db: stringData.url is not encrypted"),
    ("kind: Secret\nmetadata: {name: db}\ndata: {a: aHVudGVyMg==}\nsops: {version: 3}\n", 3, "Secret db: data.a is not encrypted"),
    ("kind: SealedSecret\nmetadata: {name: db}\nspec:\n  template:\n    data:\n      config: 'password: hunter2'\n", 6,
     "SealedSecret db: spec.template.data.config is not encrypted"),
    ("kind: SealedSecret\nmetadata: {name: db}\nspec:\n  template:\n    data:\n      app.ini: |\n        user = {{ .user }}\n"
     "        password = hunter2\n", 6,
     "SealedSecret db: spec.template.data.app.ini is not encrypted"),
    ("kind: SealedSecret\nmetadata: {name: db}\nspec:\n  template:\n    data:\n      url: postgres://app:hunter2@{{ .host }}/db\n", 6,
     "SealedSecret db: spec.template.data.url is not encrypted"),
    ("kind: Secret\nmetadata:\n  name: db\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{}'\n", 5,
     "Secret db: the annotation kubectl.kubernetes.io/last-applied-configuration holds the whole Secret"),
    ("kind: Deployment\nspec:\n  containers:\n  - env:\n    - name: DB_PASSWORD\n      value: hunter2\n", 6,
     "the variable DB_PASSWORD holds a value, and its name says that it is a secret"),
    ("auth:\n  rootPassword: hunter2\n", 2, "auth.rootPassword holds a value, and its name says that it is a secret"),
    ("auth:\n  api_key: 'abc'\n", 2, "auth.api_key holds a value, and its name says that it is a secret"),
    (f"note: {TOKEN}\n", 1, "holds a secret (GitHub Token)"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\n", 1, "holds a secret (Private Key)")])
def test_an_open_secret_is_found_with_the_line_of_its_value(text, line, what):
    assert (line, what) in found(text)
    assert (line, what) in found(text.replace("\n", "\r\n").replace("\r\n", "\n"))


@pytest.mark.parametrize("text", [
    "kind: SealedSecret\nmetadata: {name: db}\nspec:\n  encryptedData:\n    password: AgBy3i4OJSWK+PiTySYZZA9rO43cGDEq\n"
    "  template:\n    type: Opaque\n    data: {c: '{{ .password }}'}\n",
    "kind: SealedSecret\nmetadata: {name: db}\nspec:\n  template:\n    data:\n      app.ini: |\n        [api]\n        user = shop\n"
    "        token = {{ .token }}\n"
    "        password: '{{ .password }}'\n        url = postgres://app:{{ .password }}@db/shop\n      url: https://{{ .user }}:{{ .password }}@example.org\n",
    "kind: ExternalSecret\nspec:\n  data:\n  - secretKey: password\n    remoteRef: {key: db}\n",
    "kind: Deployment\nspec:\n  secretName: db\n  env:\n"
    "  - {name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}\n  - {name: TOKEN_FILE, value: /run/token}\n",
    "kind: Secret\nmetadata: {name: db}\nstringData:\n  a: ${PASSWORD}\n  b: '{{ .Values.password }}'\n  c: <path:kv/db#password>\n"
    "  d: ENC[AES256_GCM,data:x]\n  e: $(PW)\n  f: ''\n  g: ${{ secrets.X }}\n",
    "kind: Secret\nmetadata: {name: db}\ndata:\n  a: %s\n" % base64.b64encode(b"${PASSWORD}").decode(), "kind: Secret\nmetadata: {name: db}\ntype: Opaque\n",
    "existingSecret: db\ntokenTTL: 3600\npasswordKey: password\nautomountServiceAccountToken: true\npassword: \"\"\ntoken: null\napiKey: ${KEY}\n",
    "image: host:5000/app:1.0@sha256:%s\n" % ("a" * 64), "auth:\n  password: hunter2  # pragma: allowlist secret\n"])
def test_what_only_looks_like_a_secret_is_no_finding(text):
    assert found(text) == []


OPEN = "kind: Secret\nmetadata: {name: db}\nstringData:\n  p: hunter2\n"
P = "Secret db: stringData.p is not encrypted"


@pytest.mark.parametrize("text, line, what", [
    ("x: &d {p: hunter2}\nkind: Secret\nmetadata: {name: db}\nstringData: *d\n", 1, P),
    ("x: &d {p: hunter2}\nkind: Secret\nmetadata: {name: db}\nstringData: *d\n", 4, P),
    ("kind: Secret\nmetadata: {name: db}\nstringData: {<<: {p: hunter2}}\n", 3, P),
    ("x: &a hunter2\nkind: Secret\nmetadata: {name: db}\nstringData:\n  p: *a\n", 5, P),
    ("base: &b {kind: Secret, metadata: {name: db}, stringData: {p: hunter2}}\nobject:\n  <<: [*b]\n", 1, P),
    ("x: &a hunter2\npassword: *a\n", 2, "password holds a value, and its name says that it is a secret"),
    ("kind: ConfigMap\na: %s\n---\n%s" % ("[" * 1500 + "]" * 1500, OPEN), 7, P),
    ("kind: ConfigMap\na: {{ if x }}\n---\n" + OPEN, 7, P),
    (OPEN + "---\n{{ if }}}: [\n", 4, P),
    (OPEN + "{{ if x }}\nmore: true\n{{ end }}\n", 4, P),
    (OPEN + "  q: {{ .Values.q }}\n", 4, P),
    (OPEN + "x: [\n", 4, "a Secret in a file that is not valid YAML: stringData.p is not encrypted"),
    ("kind: Secret\nstringData: {p: hunter2}\nx: %s\n" % ("[" * 1500 + "]" * 1500), 2,
     "a Secret in a file that is not valid YAML: stringData is not encrypted"),
    ('{"kind":"Secret","metadata":{"name":"db"},\n\t"stringData":{\n\t\t"p":"hunter2"}}', 3, P),
    ("kind: SecretList\nitems:\n- metadata: {name: db}\n  stringData: {p: hunter2}\n", 4, P),
    ("kind: ConfigMap\nkind: Secret\nmetadata: {name: db}\nstringData: {p: hunter2}\n", 4, P),
    ("kind: Secret\nkind: ConfigMap\nmetadata: {name: db}\nstringData: {p: hunter2}\n", 4, P),
    ("kind: \"\\x53ecret\"\nmetadata: {name: db}\nstringData: {p: hunter2}\n", 3, P),
    ("kind: Secret\nmetadata: {name: db}\nstringData: {}\nstringData: {p: hunter2}\n", 4, P)])
def test_no_way_of_writing_hides_an_open_secret(text, line, what):
    assert (line, what) in found(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_file_in_another_encoding_is_read_as_readers_of_yaml_read_it(encoding):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    assert (4, P) in found(_text(mark + OPEN.encode(encoding)))


@pytest.mark.parametrize("text", [
    "kind: Secret\nmetadata: {name: db}\nstringData:\n  p: {{ .Values.p }}\n  {{- range .Values.more }}\n  {{ .name }}: {{ .value | quote }}\n  {{- end }}\n",
    "kind: Secret\nmetadata: {name: db}\ndata: {{ toYaml .Values.data | nindent 2 }}\n", "{{ if x }}\nkind: ConfigMap\ndata:\n  a: b\n{{ end }}\n"])
def test_a_template_that_leaves_its_values_open_is_no_finding(text):
    assert found(text) == []


@pytest.mark.parametrize("value", ["{{}}" * 5000 + "x", "${{}}" * 5000 + "x", "${{a}" * 5000 + "x", "${{a}" * 5000, "$(a" * 5000, "<a" * 5000, "ENC[" * 5000,
                                   "ref+" * 5000 + " x", "$A" * 5000 + " x y", " " * 50_000 + "x"])
def test_no_value_takes_more_than_a_look(value):
    """Each two pairs of braces more took twice as long: 40 never ended."""
    assert found("kind: Secret\nmetadata: {name: db}\nstringData:\n  p: '%s'\n" % value) in ([(4, P)], [])


def test_no_line_of_a_pipeline_takes_more_than_a_look():
    assert found("a: " + "_A" * 100_000 + "\n", ".gitlab-ci.yml") == []


def test_a_file_that_is_too_large_to_be_judged_is_said_to_be(monkeypatch):
    monkeypatch.setattr(kubernetes, "MAX_CHARACTERS", 1000)
    assert found("- a\n" * 1000) == []  # nothing in it can be a secret by its structure
    assert [what for _line, what in found(OPEN + "# x\n" * 1000)][0].startswith("the file is too large to be judged by its structure")


@given(some.text(some.sampled_from("{}$ab<>()[] "), max_size=30))
def test_what_stands_for_a_secret_is_what_the_pieces_say(text):
    one = r"\s*(?:\$?\{\{.*?\}\}|\$\{[^}]*\}|\$\([^)]*\)|<[^<>]*>)\s*"
    if re.fullmatch(f"(?:{one}){{1,6}}", text, re.DOTALL) is None:
        assert not kubernetes._is_placeholder(text) or len(text) > 12


def test_a_token_in_a_template_is_found_though_the_file_is_no_yaml():
    assert found(f"{{{{ if }}}}: [\n  token: {TOKEN}\n") == [(2, "holds a secret (GitHub Token)")]


def test_a_token_inside_of_a_sealed_value_is_none():
    assert found(f"kind: SealedSecret\nspec:\n  encryptedData:\n    a: {TOKEN}\n") == []


@given(some.text("Zz09", min_size=12), some.sampled_from(["data", "stringData"]))
def test_no_finding_holds_the_value(value, field):
    text = base64.b64encode(value.encode()).decode() if field == "data" else value
    (one,) = findings(f"kind: Secret\nmetadata: {{name: db}}\n{field}:\n  a: '{text}'\n", "app.yaml")
    assert value not in str(one) and text not in str(one.as_dict())


PIPELINES = (".github/workflows/ci.yml", ".forgejo/workflows/ci.yaml", ".gitlab-ci.yml", ".gitlab/ci/deploy.yml", ".woodpecker.yml",
             "templates/build.gitlab-ci.yml")


@pytest.mark.parametrize("file", PIPELINES)
@pytest.mark.parametrize("line", ["    KUBECONFIG: ${{ secrets.PROD_KUBECONFIG }}", "    - kubectl apply -f .", "    - helm  upgrade web chart",
                                  "  K8S_AUTH_API_KEY: $TOKEN", "  uses: azure/k8s-set-context@v4", "    - argocd app sync web",
                                  "    STAGING_KUBECONFIG_FILE: x"])
def test_a_pipeline_with_a_cluster_credential_is_refused(file, line):
    assert any("a credential of the cluster" in what for _line, what in found(f"jobs:\n{line}\n", file))


@pytest.mark.parametrize("file, line", [("docs/ci.yml", "- kubectl apply -f ."), (".gitlab-ci.yml", "- kubectl version --client"),
                                        (".gitlab-ci.yml", "# KUBECONFIG is not needed"), (".gitlab-ci.yml", "- kubectl kustomize production"),
                                        (".gitlab-ci.yml", "- helm template chart")])
def test_what_needs_no_cluster_is_no_finding(file, line):
    assert found(f"{line}\n", file) == []
