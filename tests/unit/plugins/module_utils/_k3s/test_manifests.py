# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of k3s' folder of manifests are ours, and which objects go with one that is taken out."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.manifests import OWNER, OWNER_KIND, Manifests, check_name, of_owner, said


@pytest.fixture
def manifests(tmp_path):
    return Manifests(str(tmp_path / "data"), str(tmp_path / "home"))


def put(manifests, **wanted):
    changes = manifests.changes({f"{name}.yaml": text for name, text in wanted.items()})
    for change in changes:
        manifests.put(change)
    return [change.path.rpartition("/")[2] for change in changes]


def test_only_what_was_put_there_goes_again(manifests, tmp_path):
    assert put(manifests, one="a: 1", two="b: 2") == ["one.yaml", "two.yaml"]
    theirs = tmp_path / "data" / "server" / "manifests" / "theirs.yaml"
    theirs.write_text("c: 3\n", encoding="utf-8")
    assert put(manifests, one="a: 1", two="b: 2") == []
    assert put(manifests, two="b: 2") == ["one.yaml"]
    assert theirs.read_text(encoding="utf-8") == "c: 3\n" and manifests.ours() == ["two.yaml"] and manifests.waiting() == ["one.yaml"]


def test_a_manifest_that_comes_back_is_not_waited_for_any_more(manifests):
    put(manifests, one="a: 1")
    put(manifests)
    assert manifests.waiting() == ["one.yaml"]
    put(manifests, one="a: 2")
    assert manifests.waiting() == []


def test_somebody_elses_file_of_the_name_is_kept_aside(manifests, tmp_path):
    folder = tmp_path / "data" / "server" / "manifests"
    folder.mkdir(parents=True)
    (folder / "one.yaml").write_text("theirs: true\n", encoding="utf-8")
    put(manifests, one="a: 1")
    assert [path.read_text(encoding="utf-8") for path in (tmp_path / "home" / "replaced").rglob("one.yaml")] == ["theirs: true\n"]


def test_a_file_with_a_secret_is_in_no_diff(manifests):
    for text in ('{"kind": "Secret", "data": {"a": "aHVudGVyMg=="}}', "apiVersion: v1\nkind: 'Secret'\ndata: {a: aHVudGVyMg==}"):
        (change,) = manifests.changes({"one.yaml": text})
        assert "aHVudGVyMg" not in str(change.diff())


@pytest.mark.parametrize("name", ["../one.yaml", "one.txt", "One.yaml", ".yaml", "a/b.yaml", "traefik.yaml", "coredns.yml"])
def test_a_name_that_k3s_would_not_take_or_would_overwrite_is_refused(name):
    with pytest.raises(Failure):
        check_name(name)


def test_two_manifests_that_k3s_would_take_for_one_are_refused(manifests):
    with pytest.raises(Failure, match="shop.yaml and shop.yml are one to k3s"):
        manifests.changes({"shop.yml": "a: 1", "shop.yaml": "b: 2"})


def made(kind, name, owner="one", owner_kind="k3s.cattle.io/v1, Kind=Addon"):
    return {"kind": kind, "metadata": {"name": name, "annotations": {OWNER: owner, OWNER_KIND: owner_kind}}}


def test_objects_go_that_k3s_made_for_this_file_but_not_what_holds_others_or_data():
    objects = [made("ConfigMap", "ours"), made("ConfigMap", "of-two", "one-more"),
               made("ConfigMap", "of-a-chart", owner_kind="helm.cattle.io/v1, Kind=HelmChart"),
               {"kind": "ConfigMap", "metadata": {"name": "by-hand"}}, made("Namespace", "shop"), made("PersistentVolumeClaim", "data"),
               made("CustomResourceDefinition", "widgets.example.com")]
    goes, stays = of_owner(objects, "one")
    assert list(map(said, goes)) == ["ConfigMap ours"]
    assert list(map(said, stays)) == ["Namespace shop", "PersistentVolumeClaim data", "CustomResourceDefinition widgets.example.com"]
