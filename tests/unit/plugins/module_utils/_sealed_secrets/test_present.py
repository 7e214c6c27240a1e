# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module sealed_secret writes, and what it refuses to write, without a cluster."""

from __future__ import annotations

import base64
import difflib
import itertools
import json
import os
import secrets as random_secrets
import socket
import ssl
import threading

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.action.sealed_secrets_key import SPEC as KEY_SPEC
from ansible_collections.nordic.gitops.plugins.filter.unseal import unseal
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import key_task
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import keys as sealing_keys
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import SCOPE_ANNOTATIONS, SCOPES
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import from_url
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.documents import File, files
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.seal import Options, sealed_secret
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.wanted import Wanted
from lab.web import serving
from sealing import Sealing, key, pair

TOKEN = "ghp_" + "a1B2c3" * 6
FINGERPRINT_KEY = "0123456789abcdef-of-a-test"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch, tmp_path):
    """Nothing of a developer's own: no kubeconfig is found."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture
def seal(tmp_path):
    return Sealing(tmp_path)


def lines(before, after):
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:1] in "+-"]


# Nothing changes that did not change


@pytest.mark.parametrize("proof", ["backup", "fingerprint"])
def test_the_same_values_change_no_byte_and_one_value_changes_its_line_alone(seal, proof):
    more = {"keys": [seal.key]} if proof == "backup" else {"fingerprint_key": FINGERPRINT_KEY}
    first = seal(data={"password": "hunter2hunter2", "user": "shop"}, **more)
    assert first["changed"] and first["secrets"][0]["operation"] == "created"
    before, stat = seal.text, seal.path.stat()
    again = seal(data={"password": "hunter2hunter2", "user": "shop"}, **more)
    assert (seal.path.stat().st_mtime_ns, seal.path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)
    assert not again["changed"] and seal.text == before and again["secrets"][0]["kept"] == ["password", "user"]
    other = seal(data={"password": "another password", "user": "shop"}, **more)
    assert other["secrets"][0]["sealed"] == ["password"] and other["secrets"][0]["kept"] == ["user"]
    marks = 2 if proof == "fingerprint" else 0  # the annotation's line too
    assert len(lines(before, seal.text)) - marks in (2, 3, 4) and len([line for line in lines(before, seal.text) if line[0] == "+"]) == 1 + marks // 2
    assert seal.opened() == {"password": b"another password", "user": b"shop"} and not seal.notes


def test_where_nothing_tells_whether_a_value_changed_it_is_sealed_anew_and_said(seal):
    seal(data={"password": "one"})
    before = seal.text
    assert seal(data={"password": "one"})["changed"] and seal.text != before
    assert "nothing told whether password changed" in seal.notes[0] and not any("one" == word for word in seal.notes[0].split())


def test_a_fingerprint_is_worth_nothing_without_its_key_and_does_not_cover_an_exchanged_blob(seal, tmp_path):
    seal(data={"password": "one"}, fingerprint_key=FINGERPRINT_KEY)
    assert seal(data={"password": "one"}, fingerprint_key="another-key-0123456789")["changed"]
    seal(data={"password": "one"}, fingerprint_key=FINGERPRINT_KEY)
    other = Sealing(tmp_path / "other") if (tmp_path / "other").mkdir() is None else None
    other(data={"password": "two"})
    mine, theirs = (body["spec"]["encryptedData"]["password"] for body in (seal.bodies()[0], other.bodies()[0]))
    seal.path.write_text(seal.text.replace(mine, theirs), encoding="utf-8")
    assert seal.opened() == {"password": b"two"}
    assert seal(data={"password": "one"}, fingerprint_key=FINGERPRINT_KEY)["changed"] and seal.opened() == {"password": b"one"}
    with pytest.raises(Failure, match="fewer than 16 characters"):
        seal(data={"password": "one"}, fingerprint_key="short")


def test_values_that_are_not_given_stay_and_without_merge_they_go(seal):
    seal(data={"a": "1", "b": "2"})
    kept = seal.bodies()[0]["spec"]["encryptedData"]["a"]
    seal(data={"b": "3"})
    assert seal.bodies()[0]["spec"]["encryptedData"]["a"] == kept and seal.opened() == {"a": b"1", "b": b"3"}
    assert seal(data={"b": "3"}, merge=False, keys=[seal.key])["secrets"][0]["removed"] == ["a"]
    assert seal.opened() == {"b": b"3"}


COMMENTED = """\
# The database of the shop.
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret   # by the platform team
metadata:
  namespace: "shop"
  name: 'db'
  annotations: {}  # none
spec:
  template:
    metadata: {name: db, namespace: shop, annotations: {note: "x"}}
    data:
      banner: >-
        one line
        and another one


        after two blank ones
  encryptedData:
    # rotated in May
    password: 'OLD'  # ask the DBA

    user: "OLD"
...
"""


def test_comments_order_quotes_and_folded_blocks_of_the_file_stay_byte_for_byte(seal):
    seal.path.write_text(COMMENTED, encoding="utf-8")
    os.chmod(seal.path, 0o640)
    seal(data={"password": "new one", "user": "shop"})
    blobs = seal.bodies()[0]["spec"]["encryptedData"]
    assert seal.text == COMMENTED.replace("'OLD'", f"'{blobs['password']}'").replace('"OLD"', f'"{blobs["user"]}"')
    assert seal.path.stat().st_mode & 0o777 == 0o640
    before = seal.text
    assert not seal(data={"password": "new one", "user": "shop"}, keys=[seal.key])["changed"] and seal.text == before


def test_check_mode_writes_nothing_and_shows_what_the_run_then_does(seal):
    would = seal(check_mode=True, diff=True, data={"password": "hunter2hunter2"})
    assert would["changed"] and not seal.path.exists()
    assert seal(diff=True, data={"password": "hunter2hunter2"}) == would
    assert "(sealed anew)" in would["diff"]["after"] and "hunter2" not in json.dumps(would)


# Scope


@pytest.mark.parametrize(("before", "after"), list(itertools.product(SCOPES, SCOPES)))
def test_blob_and_both_annotations_agree_and_a_wider_scope_needs_its_own_option(seal, before, after):
    seal(data={"password": "one", "user": "two"}, scope=before)
    wider = SCOPES.index(after) > SCOPES.index(before)
    if wider:
        text = seal.text
        with pytest.raises(Refused, match=f"would be widened from {before} to {after}"):
            seal(data={"password": "one"}, scope=after, keys=[seal.key])
        assert seal.text == text
    seal(data={"password": "one"}, scope=after, keys=[seal.key], allow_wider_scope=wider)
    body = seal.bodies()[0]
    for annotations in (body["metadata"].get("annotations", {}), body["spec"]["template"]["metadata"].get("annotations", {})):
        assert annotations == ({SCOPE_ANNOTATIONS[after]: "true"} if after in SCOPE_ANNOTATIONS else {})
    assert seal.opened() == {"password": b"one", "user": b"two"}


def test_a_value_that_is_not_given_is_not_left_behind_in_another_scope(seal):
    seal(data={"password": "one", "user": "two"}, scope="cluster-wide")
    text = seal.text
    with pytest.raises(Failure, match="the value of user is bound to another scope"):
        seal(data={"password": "one"}, scope="strict")
    assert seal.text == text


def test_a_template_that_claims_a_wider_scope_is_brought_back_to_that_of_the_sealedsecret(seal):
    seal(data={"password": "one"}, annotations={"note": "x"})
    text = seal.text
    seal.path.write_text(text.replace("note: x", "note: x\n        sealedsecrets.bitnami.com/cluster-wide: \"true\""), encoding="utf-8")
    assert "cluster-wide" in seal.text
    seal(data={"password": "one"}, keys=[seal.key])
    assert seal.text == text and seal.opened() == {"password": b"one"}


@pytest.mark.parametrize("annotation", SCOPE_ANNOTATIONS.values())
def test_no_annotation_of_the_template_can_widen_the_scope(seal, annotation):
    with pytest.raises(Failure, match="would change the scope"):
        seal(data={"a": "1"}, annotations={annotation: "true"})


def test_the_namespace_comes_from_the_option_or_the_file_and_from_nowhere_else(seal, tmp_path, monkeypatch):
    kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "namespace": "mine"}}]}
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "own"))
    (tmp_path / "own").write_text(json.dumps(kubeconfig), encoding="utf-8")
    for scope in ("strict", "namespace-wide"):
        with pytest.raises(Failure, match="bound to a namespace, and none is given"):
            seal(data={"a": "1"}, namespace=None, scope=scope)
    seal(data={"a": "1"}, namespace=None, scope="cluster-wide")
    assert "namespace" not in seal.bodies()[0]["metadata"] and not [line for line in seal.text.splitlines() if "mine" in line]
    seal.path.unlink()
    seal(data={"a": "1"})
    seal(data={"a": "2"}, namespace=None)
    assert seal.opened() == {"a": b"2"}


# The bytes


@pytest.mark.parametrize("value", [b"", b"a", b"a\n", b"\r\n", b"\0", b"a\nb\n", "æ漢🔑".encode(), bytes(range(256)), b"x" * (1 << 20)],
                         ids=["nothing", "one", "newline", "crlf", "nul", "lines", "unicode", "binary", "1 MiB"])
def test_the_bytes_that_are_sealed_are_the_bytes_that_are_given(seal, tmp_path, value):
    (tmp_path / "value").write_bytes(value)
    given = {"data_base64": {"a": base64.b64encode(value).decode()}, "data_files": {"b": str(tmp_path / "value")}}
    if len(value) < 1 << 20:
        try:
            given["data"] = {"c": value.decode()}
        except UnicodeDecodeError:
            pass
        seal(**given)
    else:
        seal(data_files=given["data_files"])
    assert set(seal.opened().values()) == {value}
    warned = value.endswith(b"\n") and value.count(b"\n") == 1 and len(value) > 1
    given_keys = sorted(key for values in given.values() for key in values)
    assert [note.split(" is one line that ends in a newline")[0] for note in sorted(seal.notes) if "newline" in note] == \
        ([f"The value of {key}" for key in given_keys] if warned else [])


@pytest.mark.parametrize("value", [5432, 1.5, True, None, ["a"], {"a": "b"}], ids=repr)
def test_a_value_that_is_no_text_is_refused_by_its_key_and_not_shown(seal, value):
    with pytest.raises(Failure, match=r"data\.port: is of the type") as caught:
        seal(data={"port": value})
    assert str(value) not in str(caught.value) or value is None


@pytest.mark.parametrize(("encoding", "words"), [("utf-16", "is UTF-16 or UTF-32"), ("utf-16-be", "is UTF-16 or UTF-32"), ("utf-32", "is UTF-16 or UTF-32"),
                                                 ("latin-1", "UTF-8")])
def test_input_in_another_encoding_is_refused_and_the_file_keeps_every_byte(seal, encoding, words):
    seal(data={"a": "1"})
    text = seal.text
    manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: æ}\n".encode(encoding)
    with pytest.raises(Failure, match=words):
        seal(manifest=manifest)
    assert seal.text == text


def test_empty_input_is_refused_and_the_file_keeps_every_byte(seal):
    seal(data={"a": "1"})
    text = seal.text
    for manifest in (b"", b"# nothing\n", b"---\n---\n"):
        with pytest.raises(Failure, match="holds no Secret"):
            seal(manifest=manifest)
    with pytest.raises(Failure, match="no value"):
        seal(name="other", data={})
    assert seal.text == text


# Manifests


def manifest(name="db", namespace="shop", **more):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": {"password": f"of-{name}-12345"}, **more}


def as_yaml(*documents):
    return yaml.safe_dump_all(documents).encode()


@pytest.mark.parametrize("form", ["documents", "List", "a List behind a document"])
def test_every_document_and_every_item_of_a_list_is_sealed(seal, form):
    secrets = [manifest("one"), manifest("two"), manifest("three")]
    if form == "documents":
        given = as_yaml(*secrets)
    else:
        rest = secrets if form == "List" else secrets[1:]
        given = as_yaml(*secrets[:len(secrets) - len(rest)], {"apiVersion": "v1", "kind": "List", "items": rest})
    result = seal(manifest=given)
    assert [one["name"] for one in result["secrets"]] == ["one", "two", "three"]
    assert [seal.opened(number) for number in range(3)] == [{"password": f"of-{name}-12345".encode()} for name in ("one", "two", "three")]
    assert not seal(manifest=given, keys=[seal.key])["changed"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}, "document 2: is a ConfigMap, not a Secret"),
        (manifest(name=""), "document 2 .*has no name"),
        (manifest("x", stringData={}), "document 2 .x.: has no value"),
        (manifest("x", stringData={"a": 1}), "document 2 .x.: stringData.a: is of the type int"),
        (manifest("x", data={"a": "%%%"}), "document 2 .x.: data.a: is not base64"),
        (manifest("X_X"), "document 2 .X_X.: 'X_X' is not a valid name"),
        (manifest("x", "elsewhere"), "document 2 .x.: is in the namespace elsewhere, the option says shop"),
    ],
    ids=["another kind", "no name", "no value", "no text", "no base64", "bad name", "another namespace"],
)
def test_a_bad_document_is_named_by_its_position_and_name_and_nothing_is_written(seal, bad, words):
    with pytest.raises(Failure, match=words):
        seal(manifest=as_yaml(manifest(), bad))
    assert not seal.path.exists()


def test_a_secret_read_back_from_the_cluster_leaves_no_plain_value_in_the_file(seal):
    canary = random_secrets.token_hex(12)
    applied = json.dumps(manifest(stringData={"password": canary}))
    live = manifest(stringData={}, data={"password": base64.b64encode(canary.encode()).decode()})
    live["metadata"].update(uid="1", resourceVersion="2", creationTimestamp="x", managedFields=[{}], ownerReferences=[{}], generation=1,
                            annotations={"kubectl.kubernetes.io/last-applied-configuration": applied, "note": "kept"})
    seal(manifest=as_yaml(live))
    assert canary not in seal.text and base64.b64encode(canary.encode()).decode() not in seal.text
    metadata = seal.bodies()[0]["spec"]["template"]["metadata"]
    assert metadata == {"name": "db", "namespace": "shop", "annotations": {"note": "kept"}} and seal.opened() == {"password": canary.encode()}


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "base64"])
@pytest.mark.parametrize(("where", "path"), [("annotations", "spec.template.metadata.annotations.tool/copy"), ("labels",
                                                                                                               "spec.template.metadata.labels.tool/copy"),
                                             ("template", "spec.template.data.tool_copy")])
def test_an_annotation_a_label_or_a_template_that_shows_a_value_is_refused_by_its_name(seal, where, path, coded):
    canary = random_secrets.token_hex(12)
    shown = base64.b64encode(canary.encode()).decode() if coded else canary
    name = "tool_copy" if where == "template" else "tool/copy"
    with pytest.raises(Refused, match=path) as caught:
        seal(data={"password": canary}, **{where: {name: f"x-{shown}"}})
    assert canary not in str(caught.value) and shown not in str(caught.value) and not seal.path.exists()


@pytest.mark.parametrize("value", ['"quoted" and long', "pässword-ß-long", "two\nlines of it", "back\\slash-long"])
def test_a_copy_of_the_whole_object_in_an_annotation_is_found_whatever_its_json_escapes(seal, value):
    for text in (json.dumps({"data": value}), json.dumps({"data": value}, ensure_ascii=False)):
        with pytest.raises(Refused, match="spec.template.metadata.annotations.tool/copy would show the value of password"):
            seal(data={"password": value}, annotations={"tool/copy": text})


@pytest.mark.parametrize("given, what", [
    ({"template": {"app.ini": "user = {{ .k }}\npassword = hunter2\n"}}, "spec.template.data.app.ini is not encrypted"),
    ({"template": {"password": "hunter2"}}, "spec.template.data.password is not encrypted"),
    ({"annotations": {"note": TOKEN}}, "holds a secret (GitHub Token)"), ({"labels": {"l": TOKEN}}, "holds a secret (GitHub Token)")])
def test_what_would_be_found_before_a_push_is_not_written(seal, given, what):
    with pytest.raises(Refused) as refused:
        seal(data={"k": "a value"}, **given)
    assert what in str(refused.value) and "Nothing was written. Give it in data" in str(refused.value) and not seal.path.exists()
    assert "hunter2" not in str(refused.value) and TOKEN not in str(refused.value)


@pytest.mark.parametrize("value", ["seven77", "eight888"])
def test_from_8_bytes_on_a_value_may_not_be_shown(seal, value):
    if len(value) == 8:
        with pytest.raises(Refused, match="annotations.note would show the value of k"):
            seal(data={"k": value}, annotations={"note": f"x {value} y"})
    else:  # so short a text is in others by chance
        assert seal(data={"k": value}, annotations={"note": f"x {value} y"})["changed"]


def test_another_document_of_the_file_that_shows_a_value_is_refused_too(seal):
    seal(data={"a": "1"})
    seal.path.write_text(seal.text + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {url: 'db://u:hunter2hunter2@h'}\n", encoding="utf-8")
    with pytest.raises(Refused, match="data.url"):
        seal(data={"a": "hunter2hunter2"})


# The file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n", "holds no SealedSecret, but ConfigMap web"),
        ("", "holds no SealedSecret: it is empty"),
        ("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db}\nspec: {encryptedData: [1]}\n",
         "spec.encryptedData of this SealedSecret is no mapping"),
        ("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db}\nspec: {data: AgA=}\n", "spec.data"),
        ("a: [\n", "YAML"),
    ],
    ids=["another kind", "empty", "no mapping", "the old form", "no YAML"],
)
def test_a_file_that_is_no_sealedsecret_is_refused_and_stays(seal, content, words):
    seal.path.write_text(content, encoding="utf-8")
    with pytest.raises(Failure, match=words):
        seal(data={"a": "1"})
    assert seal.text == content


def test_of_several_sealedsecrets_the_named_one_is_meant_and_without_a_name_all_are_listed(seal):
    seal(manifest=as_yaml(manifest("one"), manifest("two")))
    before = seal.bodies()[0]
    seal(name="two", data={"password": "x"})
    assert seal.bodies()[0] == before and seal.opened(1) == {"password": b"x"}
    with pytest.raises(Failure, match=r"holds 2 SealedSecrets.*shop/one.*shop/two"):
        seal(name=None, data={"password": "x"})
    seal(name="three", data={"a": "1"})
    assert [body["metadata"]["name"] for body in seal.bodies()] == ["one", "two", "three"]


def test_what_is_no_regular_file_is_refused_and_not_waited_for(seal):
    os.mkfifo(seal.path)
    with pytest.raises(Failure, match="is no regular file"):
        seal(data={"a": "1"})


def test_a_file_that_is_too_large_is_refused_and_not_passed_over(tmp_path):
    (tmp_path / "small.yaml").write_text("kind: SealedSecret\n", encoding="utf-8")
    (tmp_path / "other.yaml").write_text("kind: ConfigMap\n", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.yaml")
    with open(tmp_path / "large.yaml", "wb") as file:
        file.truncate(1 << 40)  # no disk holds it, and no memory
    assert files(str(tmp_path)) == [str(tmp_path / name) for name in ("large.yaml", "small.yaml")]
    with pytest.raises(Refused, match="the limit for one file is"):
        File(str(tmp_path / "large.yaml"))


@pytest.mark.parametrize("slow", ["head", "body"])
def test_a_certificate_that_comes_byte_by_byte_is_not_waited_for_without_end(slow):
    def drip():
        connection = server.accept()[0]
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" if slow == "body" else b"HTTP/1.1 200 OK\r\nX-A: ")
            while not told.wait(0.05):
                connection.sendall(b"a")
        except OSError:
            pass
        finally:
            connection.close()

    told = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(Failure, match="no whole answer within 1 seconds"):
                from_url(f"http://127.0.0.1:{server.getsockname()[1]}/v1/cert.pem", 1.0)
        finally:
            told.set()
            thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_certificate_comes_from_a_url_and_from_its_cache_only_while_nothing_answers_there(seal, tmp_path, monkeypatch, scheme):
    newer, served = key("newer", begin=0), tmp_path / "served" / "v1" / "cert.pem"
    served.parent.mkdir(parents=True)
    served.write_bytes(seal.key.certificate.pem)
    context = https(tmp_path) if scheme == "https" else None
    with serving(tmp_path / "served", "127.0.0.1", context) as url:
        given = f"{url}/v1/cert.pem"
        if context:
            with pytest.raises(Failure, match="CERTIFICATE_VERIFY_FAILED"):  # whoever answers there is not who was meant
                seal(certificate=given, data={"a": "1"})
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.crt"))
        told = seal(certificate=given, data={"a": "1"})["certificate"]
        assert seal.opened() == {"a": b"1"} and told["fingerprint"] == seal.key.fingerprint and told["source"] == given
        served.write_bytes(newer.certificate.pem)
        assert seal(certificate=given, data={"a": "2"})["certificate"]["fingerprint"] == newer.fingerprint and not seal.notes[1:]
        before = seal.text
        served.unlink()
        with pytest.raises(Failure, match="the certificate cannot be fetched"):  # there is an answer: that one is not kept
            seal(certificate=given, data={"a": "3"})
        assert seal.text == before
    seal(certificate=given, data={"a": "3"})
    assert f"The certificate of an earlier run is used, {newer.fingerprint}" in " ".join(seal.notes) and seal.opened(with_key=newer) == {"a": b"3"}
    with pytest.raises(Failure, match="the certificate cannot be fetched"):
        seal(certificate=f"{url}/v1/other.pem", data={"a": "4"})


def https(folder):
    """A server's context; its certificate, which nobody has signed, is server.crt."""
    private, certificate = pair(address="127.0.0.1")
    (folder / "server.key").write_bytes(private)
    (folder / "server.crt").write_bytes(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(folder / "server.crt"), str(folder / "server.key"))
    return context


def test_a_symbolic_link_is_not_followed(seal, tmp_path):
    (tmp_path / "elsewhere").write_text("x", encoding="utf-8")
    seal.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="symbolic link"):
        seal(data={"a": "1"})
    assert (tmp_path / "elsewhere").read_text(encoding="utf-8") == "x"


def test_json_files_are_edited_in_place_too(seal):
    seal(data={"a": "1"})
    body = seal.bodies()[0]
    seal.path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    seal(data={"b": "2"})
    assert seal.opened() == {"a": b"1", "b": b"2"} and json.loads(seal.text)["spec"]["encryptedData"]["a"] == body["spec"]["encryptedData"]["a"]


def test_type_immutable_labels_annotations_and_templates_are_written_and_kept(seal):
    described = {"type": "kubernetes.io/basic-auth", "immutable": True, "labels": {"app": "shop"}, "annotations": {"sealedsecrets.bitnami.com/managed": "true"},
                 "template": {"url": "db://{{ .user }}:{{ .password | urlquery }}@db\n"}}
    seal(data={"user": "u", "password": "p"}, **described)
    template = seal.bodies()[0]["spec"]["template"]
    assert template == {"metadata": {"name": "db", "namespace": "shop", "labels": {"app": "shop"}, "annotations": described["annotations"]},
                        "type": described["type"], "immutable": True, "data": described["template"]}
    assert not seal(data={"user": "u", "password": "p"}, keys=[seal.key], **described)["changed"]
    assert not seal(data={"user": "u"}, keys=[seal.key])["changed"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ .password", "line 1: {{ is not closed"), ("{{ if .password }}x", "{{ if }} has no {{ end }}"), ("a\n{{ end }}",
                                                                                                             "line 2: {{ end }} without a beginning"),
        ("{{ .password | b46enc }}", "there is no function b46enc, did you mean b64enc"), ('{{ "a }}', "is not closed"), ("{{ (.password }}", "parentheses"),
        ("{{ .pasword }}", ".pasword is no key of this Secret, did you mean .password"), ("{{ .db-pass }}", "a field cannot hold a dash"), ("{{ }}",
                                                                                                                                            "is empty"),
        ('{{ env "HOME" }}', "there is no function env"), ("{{/* x }}", "a comment is not closed"), ("{{ else }}", "{{ else }} without"),
    ],
)
def test_a_template_that_does_not_parse_is_refused_with_its_line(seal, text, words):
    with pytest.raises(Failure) as caught:
        seal(data={"password": "p"}, template={"config": text})
    assert words in str(caught.value) and "the template config" in str(caught.value) and not seal.path.exists()


@pytest.mark.parametrize("text", ["{{ .password }}", '{{- if eq .password "}}" -}} x {{- else -}} y {{- end -}}',
                                  "{{/* a }} b */}}{{ $x := .password }}{{ $x | b64enc }}",
                                  "{{ range $k, $v := . }}{{ $k }}={{ $v }} {{ end }}", '{{ index . "tls.key" }}', "{{ printf `%s` .password | quote }}",
                                  "{{ $.password }}",
                                  "{{ with .password }}{{ . }}{{ .anything }}{{ end }}", "{{ .password | trunc -3 }}"])
def test_a_template_that_a_controller_takes_is_not_refused(seal, text):
    seal(data={"password": "p", "tls.key": "k"}, template={"config": text})


# The certificate


def test_an_expired_certificate_is_refused_with_its_end(seal, tmp_path):
    old = key("old", begin=-60, days=30)
    (tmp_path / "certificate.pem").write_bytes(old.certificate.pem)
    with pytest.raises(Failure, match=f"expired on {old.certificate.not_after:%Y-%m-%d}"):
        seal(data={"a": "1"})
    assert not seal.path.exists()


def test_what_the_key_of_an_expired_certificate_sealed_is_opened_verified_and_sealed_anew(seal):
    old = key("old", begin=-60, days=30)
    sealed = sealed_secret(None, Wanted("db", "shop", "strict", {"a": b"1"}), Options(old.certificate)).body
    seal.path.write_text(yaml.safe_dump(sealed), encoding="utf-8")
    backup = yaml.safe_dump(old.secret)
    assert unseal(sealed["spec"]["encryptedData"]["a"], backup, namespace="shop", name="db") == "1"
    assert [each["name"] for each in seal(state="validated", keys=[old])["secrets"]] == ["db"]
    params = {**{name: spec.get("default") for name, spec in KEY_SPEC.items()}, "backup": "keys.yaml"}
    in_git = [each for _place, each in File(str(seal.path)).sealed()]
    told = key_task.verified(key_task.Work(params, False, backup.encode, lambda _text: None, lambda: in_git))
    assert told["verified"] == 1 and told["lost"] == [] and told["values"] == {old.fingerprint: 1}
    assert seal(state="resealed", keys=[old])["files"] == [str(seal.path)] and seal.opened() == {"a": b"1"}


def test_a_certificate_that_ends_within_30_days_is_a_warning(seal, tmp_path):
    soon = key("soon", begin=-1, days=20)
    (tmp_path / "certificate.pem").write_bytes(soon.certificate.pem)
    seal(data={"a": "1"})
    assert f"ends on {soon.certificate.not_after:%Y-%m-%d}" in seal.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [(pair(curve=True)[1], "RSA"), (b"", "holds no certificate"), (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
     (pair()[0], "holds no certificate")],
    ids=["EC", "empty", "broken", "a private key"],
)
def test_what_is_no_usable_certificate_is_refused(seal, tmp_path, content, words):
    (tmp_path / "certificate.pem").write_bytes(content)
    with pytest.raises(Failure, match=words):
        seal(data={"a": "1"})


def test_of_two_certificates_in_a_file_the_first_counts(seal, tmp_path):
    (tmp_path / "certificate.pem").write_bytes(b"# chain\n" + seal.key.certificate.pem + key("other").certificate.pem)
    seal(data={"a": "1"})
    assert seal.opened() == {"a": b"1"}


# Resealing and validating


def test_only_what_an_older_key_sealed_is_sealed_anew_and_nothing_else_changes(seal, tmp_path):
    new = key("new", begin=0)
    (tmp_path / "tree").mkdir()
    for name in ("a", "b"):
        seal(path=str(tmp_path / "tree" / f"{name}.yaml"), name=name, data={"x": f"of {name}", "y": "z"})
    (tmp_path / "certificate.pem").write_bytes(new.certificate.pem)
    seal(path=str(tmp_path / "tree" / "b.yaml"), name="b", data={"y": "newer"}, keys=[seal.key])
    untouched = (tmp_path / "tree" / "note.yaml")
    untouched.write_text("# SealedSecret is only spoken of here\na: 1\n", encoding="utf-8")
    newest = sealed_secret(None, Wanted("c", "shop", "strict", {"x": b"1"}), Options(new.certificate)).body
    (tmp_path / "tree" / "c.yaml").write_text(yaml.safe_dump(newest), encoding="utf-8")
    before = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "tree").iterdir()}
    times = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (untouched, tmp_path / "tree" / "c.yaml")}
    options = {"state": "resealed", "path": str(tmp_path / "tree"), "keys": [seal.key, new]}
    would = seal(check_mode=True, **options)
    assert before == {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "tree").iterdir()}
    done = seal(**options)
    assert done == would and done["files"] == ["a.yaml", "b.yaml"] and [one["sealed"] for one in done["secrets"]] == [["x", "y"], ["x"], []]
    assert times == {name: ((tmp_path / "tree" / name).stat().st_mtime_ns, (tmp_path / "tree" / name).stat().st_ino) for name in times}
    after = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "tree").iterdir()}
    assert after["note.yaml"] == before["note.yaml"] and len([line for line in lines(before["b.yaml"], after["b.yaml"]) if line[0] == "+"]) == 1
    seal.path = tmp_path / "tree" / "a.yaml"
    assert seal.opened(with_key=new) == {"x": b"of a", "y": b"z"}
    assert not seal(**options)["changed"]


def test_a_blob_of_another_cluster_is_named_and_nothing_is_written(seal, tmp_path):
    foreign = key("foreign")
    (tmp_path / "tree").mkdir()
    seal(path=str(tmp_path / "tree" / "a.yaml"), name="a", data={"x": "1"})
    (tmp_path / "certificate.pem").write_bytes(foreign.certificate.pem)
    seal(path=str(tmp_path / "tree" / "b.yaml"), name="b", data={"good": "1", "bad": "2"})
    before = (tmp_path / "tree" / "a.yaml").read_bytes()
    for state in ("resealed", "validated"):
        with pytest.raises(Failure) as caught:
            seal(state=state, path=str(tmp_path / "tree"), keys=[seal.key])
        assert caught.value.details["lost"] == [f"b.yaml:2: SealedSecret shop/b, key {name}: no key opens it" for name in ("bad", "good")]
    assert (tmp_path / "tree" / "a.yaml").read_bytes() == before


def test_each_item_of_a_list_is_validated_and_a_wide_one_may_have_another_name(seal):
    items = [sealed_secret(None, Wanted(name, "shop", scope, {"k": b"v"}), Options(seal.key.certificate)).body
             for name, scope in (("a", "strict"), ("b", "strict"), ("c", "namespace-wide"), ("d", "cluster-wide"))]
    for item, name, namespace in zip(items[1:], ("renamed", "renamed", "renamed"), ("shop", "shop", "elsewhere")):
        item["metadata"].update(name=name, namespace=namespace)
    seal.path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
    with pytest.raises(Failure) as caught:
        seal(state="validated", keys=[seal.key])
    assert len(caught.value.details["lost"]) == 1 and "SealedSecret shop/renamed, key k: no key opens it" in caught.value.details["lost"][0]
    items[1]["metadata"]["name"] = "b"
    seal.path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
    assert len(seal(state="validated", keys=[seal.key])["secrets"]) == 4
    items[2]["metadata"]["namespace"] = "elsewhere"  # as kustomize's `namespace` for another environment
    seal.path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
    with pytest.raises(Failure, match="elsewhere/renamed, key k: no key opens it; it was sealed for the namespace shop"):
        seal(state="validated", keys=[seal.key])


def test_a_renamed_sealedsecret_says_what_it_was_sealed_for(seal):
    seal(data={"a": "1"})
    seal(name="other", data={"a": "1"})
    seal.path.write_text(seal.text.replace("name: other", "name: another", 1), encoding="utf-8")
    with pytest.raises(Failure, match="shop/another, key a: no key opens it"):
        seal(state="validated", keys=[seal.key])
    seal.path.write_text(seal.text.replace("name: db", "name: db2", 1) + seal.text.replace("name: another", "name: third", 1), encoding="utf-8")
    with pytest.raises(Failure, match="shop/db2, key a: no key opens it; it was sealed for shop/db"):
        seal(state="validated", keys=[seal.key])


@pytest.mark.parametrize("damage", ["cut", "flipped", "no base64", "short"])
def test_a_damaged_blob_is_named(seal, damage):
    seal(data={"a": "hello"})
    blob = seal.bodies()[0]["spec"]["encryptedData"]["a"]
    raw = bytearray(base64.b64decode(blob))
    raw[-1] ^= 1
    broken = {"cut": base64.b64encode(bytes(raw[:100])).decode(), "flipped": base64.b64encode(bytes(raw)).decode(), "no base64": blob[:9] + "*" + blob[10:],
              "short": "AA=="}[damage]
    seal.path.write_text(seal.text.replace(blob, broken), encoding="utf-8")
    with pytest.raises(Failure, match={"cut": "too short", "flipped": "altered", "no base64": "not base64", "short": "too short"}[damage]):
        seal(state="validated", keys=[seal.key])


def test_a_chart_template_is_left_out_and_said_and_elsewhere_it_is_an_error(seal, tmp_path):
    chart = tmp_path / "tree" / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: c\n", encoding="utf-8")
    template = "kind: SealedSecret\nmetadata:\n  name: {{ .Release.Name }}\n"
    (chart / "templates" / "s.yaml").write_text(template, encoding="utf-8")
    seal(path=str(tmp_path / "tree" / "a.yaml"), data={"x": "1"})
    seal(state="validated", path=str(tmp_path / "tree"), keys=[seal.key])
    assert "chart/templates/s.yaml" in seal.notes[0]
    (tmp_path / "tree" / "loose.yaml").write_text(template, encoding="utf-8")
    with pytest.raises(Failure, match="loose.yaml"):
        seal(state="validated", path=str(tmp_path / "tree"), keys=[seal.key])


# Keys


def test_a_backup_is_read_from_secrets_lists_several_documents_and_pem():
    one, two = key("one"), key("two", labels=None)
    listed = {"apiVersion": "v1", "kind": "List", "items": [one.secret, two.secret]}
    for text in (as_yaml(one.secret, two.secret), as_yaml(listed), json.dumps(listed).encode(), as_yaml(listed, one.secret)):
        assert [found.fingerprint for found in sealing_keys.parse(text, "b")] == [one.fingerprint, two.fingerprint]
    pem = base64.b64decode(one.secret["data"]["tls.key"]) + base64.b64decode(two.secret["data"]["tls.key"])
    assert [found.fingerprint for found in sealing_keys.parse(pem, "b")] == [one.fingerprint, two.fingerprint]


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda text: b"", "holds no key"), (lambda text: text[:text.rindex(b"tls.key") + 200], "cannot be read|not base64|without a kind"),
     (lambda text: text.replace(b"Secret", b"ConfigMap"), "not a Secret"),
     (lambda text: text.replace(b"tls.key", b"tls.kex"), "holds no tls.key"), (lambda text: text.replace(b"\n---\n", b"\n"), "is set twice")],
    ids=["empty", "cut off", "another kind", "no key", "two listings joined without a separator"],
)
def test_a_backup_that_is_not_whole_is_refused(change, words):
    with pytest.raises(Failure, match=words):
        sealing_keys.parse(change(as_yaml(key("one").secret, key("two").secret)), "b")


def test_a_key_prints_without_its_private_part():
    assert str(key("one")) == f"one ({key('one').fingerprint})" and repr(key("one")) == f"Key({key('one').fingerprint})"
