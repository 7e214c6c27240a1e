# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s' files as values: YAML that any parser reads back, differences that name the key, and no secret in what is shown."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import (
    MASK, Change, ManagedFile, compare, mask, plain_value, readable_values, secrets_of, to_yaml, top_level, unit)

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(), st.none())
VALUES: Any = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)), max_leaves=8)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_written_is_what_a_yaml_parser_reads(value: Any) -> None:
    read = yaml.safe_load(to_yaml(value))
    assert (read or {}) == value


@pytest.mark.parametrize("text", ["yes", "on", "1.0", "0x10", "null", "~", "", "2026-11-25", "a: b", "#x",
                                  "- x", "12:30:00", "1e3", "Ja æøå", "0o7", "=", "!tag"])
def test_text_that_looks_like_another_type_stays_text(text: str) -> None:
    assert yaml.safe_load(to_yaml({"key": text, "list": [text]})) == {"key": text, "list": [text]}


def test_a_readable_value_is_not_quoted() -> None:
    assert "node-name: server1\n" in to_yaml({"node-name": "server1"})


REGISTRIES = {"mirrors": {"docker.io": {"endpoint": ["https://user:hunter2@mirror.example.no"]}},
              "configs": {"mirror.example.no": {"auth": {"username": "anna", "password": "hunter2"}, "tls": {"ca_file": "/etc/ca.crt"}}}}
CONFIG = {"token-file": "/etc/rancher/k3s/token", "datastore-endpoint": "postgres://k3s:hunter2@db:5432/k3s", "etcd-s3-secret-key": "hunter2",
          "etcd-s3-access-key": "hunter2", "vpn-auth": "name=tailscale,joinKey=hunter2", "etcd-s3": True, "agent-token": "hunter2", "tls-san": ["a"]}


@pytest.mark.parametrize("value", [REGISTRIES, CONFIG])
def test_no_secret_is_in_what_is_shown_and_everything_else_is(value: Any) -> None:
    shown = mask(to_yaml(value))
    assert "hunter2" not in shown and MASK in shown
    for text in ("token-file", "tls-san", "etcd-s3: true") if value is CONFIG else ("anna", "ca_file", "mirror.example.no"):
        assert text in shown


def test_a_secret_of_several_lines_is_masked_whole() -> None:
    assert "hunter" not in mask("token:\n- hunter2\n- hunter3\nnode-name: x\n") and "node-name: x" in mask("token:\n- hunter2\nnode-name: x\n")


@pytest.mark.parametrize("value", [REGISTRIES, CONFIG])
def test_the_secrets_inside_of_dictionaries_are_known(value: Any) -> None:
    assert all("hunter2" in secret for secret in secrets_of(value)) and len(secrets_of(value)) >= 2
    assert "/etc/rancher/k3s/token" not in secrets_of(value)


@pytest.mark.parametrize("endpoint", [
    "mysql://k3s:pa/ss@tcp(10.0.0.5:3306)/k3s", "mysql://k3s:p@ss-w0rd@tcp(10.0.0.5:3306)/k3s", "mysql://k3s:with space@tcp(a)/k",
    "postgres://db:5432/k3s?user=k3s&password=hunter22secret", "nats://tok3nsecret@nats:4222", "http://etcd:2379"])
def test_an_external_datastores_endpoint_is_a_secret_as_a_whole_wherever_its_password_is(endpoint: str) -> None:
    for key in ("datastore-endpoint", "datastore-endpoint+"):
        shown = mask(to_yaml({key: endpoint, "debug": True}))
        assert not [part for part in (endpoint, "pa/ss", "w0rd", "space", "hunter22", "tok3n", "tcp(") if part in shown] and "debug: true" in shown
        assert secrets_of({key: endpoint}) == [endpoint]


@pytest.mark.parametrize(("url", "secret"), [("http://u:pa/ss@proxy:3128", "u:pa/ss"), ("http://u:p@ss@proxy", "u:p@ss"), ("https://t0ken@host", "t0ken")])
def test_the_credentials_of_any_url_are_masked_up_to_its_last_at_sign(url: str, secret: str) -> None:
    assert secrets_of({"etcd-s3-proxy": url}) == [secret] and secret not in mask(to_yaml({"etcd-s3-proxy": url}))


def test_a_difference_names_the_keys(tmp_path) -> None:
    path = str(tmp_path / "config.yaml")
    Change(ManagedFile(path, to_yaml({"tls-san": ["a"], "debug": True, "node-name": "x"})), None, None).write()
    change = compare(ManagedFile(path, to_yaml({"tls-san": ["a", "b"], "node-name": "x", "selinux": True})))
    assert change and change.reason == f"{path} differs in debug, selinux, tls-san"


def test_a_file_is_written_whole_with_its_mode_and_then_nothing_differs(tmp_path) -> None:
    wanted = ManagedFile(str(tmp_path / "new" / "token"), "secret\n", secret=True)
    change = compare(wanted)
    assert change and change.reason.endswith("is missing")
    change.write()
    assert stat.S_IMODE(os.stat(wanted.path).st_mode) == 0o600 and compare(wanted) is None
    assert os.listdir(tmp_path / "new") == ["token"]


def test_a_mode_that_is_too_open_is_a_difference(tmp_path) -> None:
    wanted = ManagedFile(str(tmp_path / "token"), "secret\n")
    Change(wanted, None, None).write()
    os.chmod(wanted.path, 0o644)
    change = compare(wanted)
    assert change and "mode 0644, not 0600" in change.reason and not change.content_differs


def test_a_file_that_shall_not_be_is_removed(tmp_path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("x", encoding="utf-8")
    change = compare(ManagedFile(str(path), None))
    assert change and "will be removed" in change.reason
    change.write(str(tmp_path / "home"))
    assert not path.exists() and compare(ManagedFile(str(path), None)) is None
    assert [kept.read_text(encoding="utf-8") for kept in (tmp_path / "home").rglob("old.yaml")] == ["x"]


def test_a_file_of_somebody_elses_is_kept_each_time_it_is_replaced_and_one_of_ours_is_not(tmp_path) -> None:
    """A registries.yaml with credentials, a token: it may be the only one."""
    path, home = tmp_path / "registries.yaml", tmp_path / "home"
    for number in range(3):  # within one second, too
        path.write_text(f"theirs {number}\n", encoding="utf-8")
        change = compare(ManagedFile(str(path), to_yaml({"mirrors": {}})))
        assert change
        change.write(str(home))
    kept = [one for one in home.rglob("*") if one.is_file()]
    assert sorted(one.read_text(encoding="utf-8") for one in kept) == [f"theirs {number}\n" for number in range(3)]
    assert {stat.S_IMODE(one.stat().st_mode) for one in kept} == {0o600} and all(str(one).endswith(str(path)) for one in kept)
    ours = compare(ManagedFile(str(path), to_yaml({"mirrors": {"a": {}}})))
    assert ours
    ours.write(str(home))
    os.chmod(path, 0o644)
    closed = compare(ManagedFile(str(path), to_yaml({"mirrors": {"a": {}}})))
    assert closed
    closed.write(str(home))
    assert len([one for one in home.rglob("*") if one.is_file()]) == 3


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "Make room"), (errno.EROFS, "read-only"), (errno.EACCES, "immutable")])
def test_a_disk_that_takes_nothing_is_a_sentence_and_the_old_file_is_whole(tmp_path, monkeypatch, number: int, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml({"a": 1}), encoding="utf-8")
    change = compare(ManagedFile(str(path), to_yaml({"a": 2})))

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))  # fake: an injected fault

    monkeypatch.setattr("os.fsync", full)  # fake: an injected fault
    assert change
    with pytest.raises(Failure, match=said) as failure:
        change.write(str(tmp_path / "home"))
    assert str(path) in str(failure.value) and path.read_text(encoding="utf-8") == to_yaml({"a": 1}) and os.listdir(tmp_path) == ["config.yaml"]


@pytest.mark.parametrize("path", ["folder", "file/config.yaml"])
def test_a_folder_where_a_file_should_be_and_a_file_where_a_folder_should_be_are_sentences(tmp_path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="Move it away|move it away") as failure:
        compare(ManagedFile(str(tmp_path / path), "x"))
    assert str(tmp_path / path) in str(failure.value)


def test_a_link_or_a_folder_is_never_replaced(tmp_path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("link", "."):
        with pytest.raises(Failure, match="only regular files are replaced"):
            compare(ManagedFile(str(tmp_path / name), "x"))


def test_the_diff_shows_no_secret_but_that_there_is_another_one(tmp_path) -> None:
    wanted = ManagedFile(str(tmp_path / "token"), "hunter3\n", secret=True)
    diff = Change(wanted, "hunter2\n", 0o600).diff()
    assert "hunter" not in str(diff) and diff["before"] != diff["after"]


def test_the_top_level_of_other_peoples_yaml_is_read() -> None:
    text = "# comment\nserver: 'https://a:6443'\ntls-san:\n- a\n- b\n\"node-name\": \"x\"\nwrite-kubeconfig-mode: 0640\n"
    assert list(top_level(text)) == ["server", "tls-san", "node-name", "write-kubeconfig-mode"]
    assert [plain_value(text, key) for key in ("server", "tls-san", "node-name", "nothing")] == ["https://a:6443", "", "x", ""]


@pytest.mark.parametrize("text", [
    "data-dir: /data/k3s # our disk", "data-dir: '/data/k3s'  # our disk", 'data-dir: "/data/k3s" # our disk', "data-dir:   /data/k3s   ",
    "data-dir: /data/k3s\n  # our disk\nnode-name: a", "data-dir:\n  /data/k3s", "\ufeffdata-dir: /data/k3s", "data-dir: /data/k3s\r\nnode-name: a\r\n",
    "---\ndata-dir: /data/k3s\n...", "data-dir: /data/k3s\ntls-san: [a, 'b', \"c\"] # d\nnode-label:\n- e=f # g\n"])
def test_a_folder_that_somebody_else_configured_is_that_folder_however_it_is_written(tmp_path, text: str) -> None:
    """Read wrong, the host would have no cluster, or a reset would not know what it must keep."""
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("utf-8"))
    assert readable_values(str(path))["data-dir"] == "/data/k3s" == plain_value(text, "data-dir")


@pytest.mark.parametrize("text", ["data-dir: >-\n  /data", "{token: hunter2, data-dir: /data}", "  token: hunter2", "data-dir: !!str /data",
                                  "data-dir: &a /data",
                                  "? data-dir\n: /data", "data-dir: /data\n  /k3s", 'data-dir: "/data\n  /k3s"', "node-name: a\ndata-dir"])
def test_what_is_not_understood_of_other_peoples_yaml_is_refused_without_showing_it(tmp_path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Failure) as caught:
        readable_values(str(path))
    assert "form of YAML that is not read here" in str(caught.value) and "hunter2" not in str(caught.value)


def as_text(node: Any) -> Any:
    """A scalar or a list as k3s takes it, None of anything else."""
    if isinstance(node, yaml.MappingNode):
        return None
    if isinstance(node, yaml.SequenceNode):
        return [as_text(item) for item in node.value]
    words = {"~": "", "null": "", "yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
    return words.get(node.value.lower(), node.value) if node.style is None else node.value


SCRIBBLES = st.one_of(st.text(alphabet="ab /#'\"\\:,[]{}&*!|>%@`?-~é", max_size=12), st.sampled_from(("yes", "True", "~", "null", "https://a:6443")))
WRITTEN = st.one_of(
    SCRIBBLES, SCRIBBLES.map(lambda text: "'" + text.replace("'", "''") + "' # c"), SCRIBBLES.map(json.dumps),
    st.lists(SCRIBBLES, max_size=3).map(json.dumps), st.lists(SCRIBBLES, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    st.lists(SCRIBBLES, max_size=3).map(lambda items: "".join(f"\n  - {item}" for item in items)), SCRIBBLES.map(lambda text: f"\n  {text}"))


@given(st.lists(st.tuples(st.sampled_from(("a", "b-c", "d+", '"e"', "f g")), WRITTEN), max_size=4))
def test_other_peoples_yaml_is_read_as_a_yaml_parser_reads_it_or_refused(tmp_path_factory, entries: Any) -> None:
    text = "".join(f"{key}: {value}\n" for key, value in entries)
    path = tmp_path_factory.mktemp("read") / "config.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        ours = readable_values(str(path))
    except Failure:
        return
    try:
        theirs = yaml.compose(text)
    except yaml.YAMLError:
        return  # k3s does not start with it
    assert ours == {key.value: as_text(value) for key, value in (theirs.value if theirs else [])}


@pytest.mark.parametrize("role", ["server", "agent"])
def test_the_unit_names_no_secret_and_downloads_nothing(role: str) -> None:
    text = unit(role)
    assert f"ExecStart=/usr/local/bin/k3s {role}\n" in text and "Type=notify" in text and "KillMode=process" in text and "Delegate=yes" in text
    assert "token" not in text.lower() and "http" not in text.replace("https://docs.k3s.io", "")
