# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's credentials are merged into a kubeconfig without touching what others have there."""

from __future__ import annotations

import base64
import os
import stat
import threading

import pytest
import yaml

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.plugin_utils._kubeconfig import merge_into, merged

FETCHED = yaml.safe_dump({
    "apiVersion": "v1", "kind": "Config", "current-context": "default",
    "clusters": [{"name": "default", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E="}}],
    "users": [{"name": "default", "user": {"client-certificate-data": "Q1JU", "client-key-data": "S0VZ"}}],
    "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}]})
OTHERS = yaml.safe_dump({
    "apiVersion": "v1", "kind": "Config", "current-context": "work", "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work:6443"}}], "users": [{"name": "work", "user": {"token": "t"}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "work", "namespace": "shop"}}], "extensions": [{"name": "x"}]})


SECOND = FETCHED.replace("Q0E=", "T1RIRVI=").replace("S0VZ", "S0VZMg==")  # another cluster's


def merge(existing: str, name: str = "k3s", server: str = "https://10.0.0.1:6443", current: bool = False, fetched: str = FETCHED, **options) -> dict:
    return yaml.safe_load(text(existing, name, server, current, fetched, **options))


def text(existing: str, name: str = "k3s", server: str = "https://10.0.0.1:6443", current: bool = False, fetched: str = FETCHED, **options) -> str:
    return merged(existing, fetched, name, server, current, **options).text


def test_a_new_file_has_the_cluster_by_its_reachable_address() -> None:
    made = merge("")
    assert made["clusters"] == [{"name": "k3s", "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority-data": "Q0E="}}]
    assert made["current-context"] == "k3s" and made["contexts"] == [{"name": "k3s", "context": {"cluster": "k3s", "user": "k3s"}}]


def test_other_clusters_stay_as_they_are() -> None:
    before, made = yaml.safe_load(OTHERS), merge(OTHERS)
    for plural in ("clusters", "users", "contexts"):
        assert made[plural][:1] == before[plural] and len(made[plural]) == 2
    assert {key: made[key] for key in ("current-context", "preferences", "extensions")} == {
        key: before[key] for key in ("current-context", "preferences", "extensions")}
    assert merge(OTHERS, current=True)["current-context"] == "k3s"


def test_a_second_merge_changes_not_a_byte() -> None:
    once = text("# my notes\n" + OTHERS)
    assert text(once) == once
    noted = "# my notes\n" + once
    assert text(noted) == noted


def test_a_new_address_and_new_credentials_replace_the_old_ones_and_a_namespace_stays() -> None:
    there = merge("", server="https://old:6443")
    there["contexts"][0]["context"]["namespace"] = "mine"
    made = merge(yaml.safe_dump(there))
    assert made["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443" and made["contexts"][0]["context"]["namespace"] == "mine"


def test_on_the_server_itself_the_address_is_the_one_that_k3s_wrote() -> None:
    assert merge("", server="")["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"


@pytest.mark.parametrize("answered", [
    "", "null", "a: [", "clusters: 1", "clusters: [{cluster: null}]", FETCHED.replace("server: https://127.0.0.1:6443", "other: 1"),
    FETCHED.replace("https://127.0.0.1:6443", "[a, b]"), FETCHED.replace("https://127.0.0.1:6443", "7")])
def test_a_server_that_answers_without_its_address_is_refused_in_a_sentence(answered: str) -> None:
    with pytest.raises(Failure):
        merged("", answered, "k3s", "", False)


@pytest.mark.parametrize(("existing", "fetched"), [("[1, 2]", FETCHED), ("a: [", FETCHED), ("", "{}"), ("", "clusters: []")])
def test_what_is_no_kubeconfig_is_refused_and_nothing_is_written(existing: str, fetched: str) -> None:
    with pytest.raises(Failure):
        merged(existing, fetched, "k3s", "https://a:6443", False)


def test_another_clusters_entries_of_the_same_name_are_refused_and_their_key_stays(tmp_path) -> None:
    """The default name is the same for every cluster."""
    path = tmp_path / "config"
    into(path)
    before = path.read_text()
    with pytest.raises(Refused, match="cluster k3s is another one, at https://10.0.0.1:6443") as refusal:
        into(path, fetched=SECOND, server="https://10.9.9.9:6443")
    assert "k3s_kubeconfig_context" in str(refusal.value) and path.read_text() == before
    into(path, fetched=SECOND, name="second", server="https://10.9.9.9:6443")
    assert {one["name"]: one["user"]["client-key-data"] for one in yaml.safe_load(path.read_text())["users"]} == {"k3s": "S0VZ", "second": "S0VZMg=="}


def test_a_cluster_that_was_made_anew_replaces_the_old_one_when_asked_and_a_copy_is_kept(tmp_path) -> None:
    path = tmp_path / "config"
    into(path)
    before = path.read_text()
    for fetched in (SECOND, FETCHED):  # also twice within one second
        assert into(path, fetched=fetched, replace=True)
    copies = sorted(tmp_path.glob("config.before-*"))
    assert len(copies) == 2 and copies[0].read_text() == before and "S0VZMg==" in copies[1].read_text()
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o600}


@pytest.mark.parametrize("existing", [
    {"users": [{"name": "k3s", "user": {"token": "t"}}], "contexts": [{"name": "w", "context": {"cluster": "work", "user": "k3s"}}]},
    {"users": [{"name": "k3s", "user": {"token": "t"}}]},
    {"contexts": [{"name": "k3s", "context": {"cluster": "work", "user": "work"}}]},
    {"clusters": [{"name": "k3s", "cluster": {"server": "https://work:6443"}}]},
    {"clusters": [{"name": "k3s", "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority": "/no/such/ca.crt"}}]}])
def test_names_that_others_use_are_refused_whichever_of_the_three_it_is(existing: dict) -> None:
    with pytest.raises(Refused):
        merge(yaml.safe_dump(existing))


def test_a_cluster_is_known_by_its_authority_whether_it_is_in_the_file_or_beside_it(tmp_path) -> None:
    (tmp_path / "ca.crt").write_bytes(base64.b64decode("Q0E=") + b"\n")
    there = {"clusters": [{"name": "k3s", "cluster": {"server": "https://vpn:6443", "certificate-authority": "ca.crt"}}]}
    made = merge(yaml.safe_dump(there), folder=str(tmp_path))
    assert made["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"


def test_what_a_person_added_to_our_entries_stays() -> None:
    once = text("").replace("    server:", "    proxy-url: socks5://localhost:1080  # the bastion\n    tls-server-name: k3s.example.no\n    server:")
    assert text(once) == once
    moved = text(once, server="https://10.0.0.2:6443")
    assert moved == once.replace("10.0.0.1", "10.0.0.2") and "# the bastion" in moved


@pytest.mark.parametrize("offset", ["", "  "])
def test_comments_order_and_indentation_of_the_rest_stay(offset: str) -> None:
    others = f"""# of my own
apiVersion: v1
kind: Config
contexts:   # first, as I like it
{offset}- context: {{cluster: work, user: "work"}}
{offset}  name: work
clusters:
{offset}- cluster:
{offset}    server: 'https://work:6443'   # over the VPN
{offset}  name: work
users:
{offset}- name: work
{offset}  user: {{token: t}}
current-context: work
"""
    made = text(others)
    lines = iter(made.splitlines())
    assert [line for line in others.splitlines() if line not in lines] == [], made


def into(path, fetched: str = FETCHED, name: str = "k3s", server: str = "https://10.0.0.1:6443", replace: bool = False, check_mode: bool = False) -> bool:
    return merge_into(str(path), fetched, name, server, False, replace, check_mode)[0]


def test_a_new_file_is_its_owners_alone(tmp_path) -> None:
    assert into(tmp_path / "kube" / "config", check_mode=True) and not (tmp_path / "kube").exists()
    assert into(tmp_path / "kube" / "config")
    assert stat.S_IMODE(os.stat(tmp_path / "kube" / "config").st_mode) == 0o600
    assert not into(tmp_path / "kube" / "config") and os.listdir(tmp_path / "kube") == ["config"]


def test_a_file_keeps_its_owner_and_mode_a_link_is_followed_and_an_open_one_is_told(tmp_path) -> None:
    real, link = tmp_path / "real", tmp_path / "sub" / "link"
    real.write_text(OTHERS, encoding="utf-8")
    real.chmod(0o640)
    if not os.geteuid():
        os.chown(real, 1234, 1235)
    link.parent.mkdir()
    link.symlink_to(real)
    changed, warnings = merge_into(str(link), FETCHED, "k3s", "https://a:6443", False, False, False)
    found = os.stat(real)
    assert changed and link.is_symlink() and stat.S_IMODE(found.st_mode) == 0o640 and "0640" in warnings[0]
    assert os.geteuid() or (found.st_uid, found.st_gid) == (1234, 1235)


def test_clusters_that_are_merged_at_the_same_time_are_all_there(tmp_path) -> None:
    names = [f"cluster{number}" for number in range(12)]
    threads = [threading.Thread(target=into, args=(tmp_path / "config",), kwargs={"name": name}) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["name"] for one in yaml.safe_load((tmp_path / "config").read_text())["clusters"]) == sorted(names)


def test_a_lock_that_stays_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ansible_collections.nordic.gitops.plugins.plugin_utils._kubeconfig.LOCK_SECONDS", 0.2)  # fake: the clock
    (tmp_path / "config.lock").touch()
    with pytest.raises(Failure, match="config.lock"):
        into(tmp_path / "config")
    assert (tmp_path / "config.lock").exists()


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("fetched", [
    LAUGHS + "clusters: [{cluster: {certificate-authority-data: *a11}}]\nusers: [{user: {client-certificate-data: *a11, client-key-data: *a11}}]\n",
    FETCHED.replace("S0VZ", "'\\e[2J'"), FETCHED.replace("S0VZ", "'S0VZ\n  exec: x'"), FETCHED.replace("S0VZ", "[S0VZ]"), "[" * 250_000, "#" * 1_000_000,
    "clusters: {}\nusers: 1\n"], ids=["aliases", "control characters", "two lines", "a list", "deep", "large", "no lists"])
def test_what_a_hostile_server_answers_is_refused_in_a_sentence_and_nothing_is_written(fetched) -> None:
    with pytest.raises(Failure) as caught:
        merge(OTHERS, fetched=fetched)
    assert len(str(caught.value)) < 1000 and "the kubeconfig on the server" in str(caught.value)


def test_no_program_no_file_and_no_address_of_a_hostile_server_gets_into_the_kubeconfig() -> None:
    hostile = yaml.safe_load(FETCHED)
    hostile["users"][0]["user"].update({"exec": {"command": "/bin/sh"}, "tokenFile": "/etc/shadow", "auth-provider": {"name": "x"}})
    hostile["clusters"][0]["cluster"].update({"server": "https://elsewhere", "proxy-url": "http://elsewhere", "insecure-skip-tls-verify": True})
    assert text("", fetched=yaml.safe_dump(hostile)) == text("")
