# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's credentials are merged into a kubeconfig without touching what others have there."""

from __future__ import annotations

import os
import stat

import pytest
import yaml

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.kubeconfig import merged, write

FETCHED = yaml.safe_dump({
    "apiVersion": "v1", "kind": "Config", "current-context": "default",
    "clusters": [{"name": "default", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E="}}],
    "users": [{"name": "default", "user": {"client-certificate-data": "Q1JU", "client-key-data": "S0VZ"}}],
    "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}]})
OTHERS = yaml.safe_dump({
    "apiVersion": "v1", "kind": "Config", "current-context": "work", "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work:6443"}}], "users": [{"name": "work", "user": {"token": "t"}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "work", "namespace": "shop"}}], "extensions": [{"name": "x"}]})


def merge(existing: str, name: str = "k3s", server: str = "https://10.0.0.1:6443", current: bool = False) -> dict:
    return yaml.safe_load(merged(existing, FETCHED, name, server, current))


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
    once = merged("# my notes\n" + OTHERS, FETCHED, "k3s", "https://a:6443", False)
    assert merged(once, FETCHED, "k3s", "https://a:6443", False) == once
    noted = "# my notes\n" + once
    assert merged(noted, FETCHED, "k3s", "https://a:6443", False) == noted


def test_a_new_address_and_new_credentials_replace_the_old_ones_and_a_namespace_stays() -> None:
    there = yaml.safe_load(merged("", FETCHED, "k3s", "https://old:6443", False))
    there["contexts"][0]["context"]["namespace"] = "mine"
    made = merge(yaml.safe_dump(there))
    assert made["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443" and made["contexts"][0]["context"]["namespace"] == "mine"


@pytest.mark.parametrize(("existing", "fetched"), [("[1, 2]", FETCHED), ("a: [", FETCHED), ("", "{}"), ("", "clusters: []")])
def test_what_is_no_kubeconfig_is_refused_and_nothing_is_written(existing: str, fetched: str) -> None:
    with pytest.raises(Failure):
        merged(existing, fetched, "k3s", "https://a:6443", False)


def test_the_file_is_its_owners_alone_and_a_link_is_followed(tmp_path) -> None:
    real, link = tmp_path / "real", tmp_path / "sub" / "link"
    real.write_text("x", encoding="utf-8")
    real.chmod(0o644)
    link.parent.mkdir()
    link.symlink_to(real)
    assert write(str(link), "y") and link.is_symlink() and real.read_text(encoding="utf-8") == "y"
    assert stat.S_IMODE(os.stat(real).st_mode) == 0o600 and not write(str(link), "y")
