# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files are snapshots, which belong together, and which of them go."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import snapshot
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.verification import Place
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.snapshot import Snapshot


def some(*files):
    return [Snapshot(file, 1, int(snapshot.FILE.match(file).group("epoch"))) for file in files]


def test_only_snapshots_are_listed_the_oldest_first(tmp_path):
    for name in ("nightly-s1-1790000002", "nightly-s1-1790000001.zip", "nightly-s1-1790000000.cms", ".nordic-x", "readme", "nightly-s1-1790000003.part"):
        (tmp_path / name).write_text("x")
    assert [one.file for one in snapshot.here(str(tmp_path))] == ["nightly-s1-1790000001.zip", "nightly-s1-1790000002"]
    assert snapshot.here(str(tmp_path / "none")) == []


def test_a_name_that_begins_another_name_is_not_taken_for_it():
    mine = some("up-s1-1790000001", "up-date-s1-1790000002", "up-s1-b-1790000003", "up-s2-1790000004.cms")
    assert [one.file for one in snapshot.of_name(mine, "up", "s1")] == ["up-s1-1790000001"]
    assert [one.file for one in snapshot.of_name(mine, "up", "s2")] == ["up-s2-1790000004.cms"]


def test_the_newest_stay_whatever_their_order():
    mine = some("n-s1-1790000003", "n-s1-1790000001", "n-s1-1790000002")
    assert [one.file for one in snapshot.outdated(mine, 1)] == ["n-s1-1790000001", "n-s1-1790000002"]
    assert snapshot.outdated(mine, 3) == [] == snapshot.outdated(mine, 9)


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a/b", "x" * 200, "a;b", "a\nb"])
def test_a_name_that_could_be_something_else_is_refused(name):
    with pytest.raises(Failure, match="cannot be a snapshot's name"):
        snapshot.check_name(name)


def test_the_node_is_the_one_its_member_of_etcd_is_named_after(tmp_path):
    (tmp_path / "server" / "db" / "etcd").mkdir(parents=True)
    (tmp_path / "server" / "db" / "etcd" / "name").write_text("rack-2-server1-0badcafe")
    assert snapshot.node_of(Place(str(tmp_path), "k3s")) == "rack-2-server1"


def test_a_node_without_etcd_saves_nothing_and_says_why(tmp_path):
    with pytest.raises(Failure, match="no embedded etcd"):
        snapshot.save(Place(str(tmp_path), "k3s"), str(tmp_path / "snapshots"), "x")


def test_files_that_k3s_never_knew_are_deleted_all_the_same(tmp_path):
    (tmp_path / "n-s1-1790000001").write_text("x")
    snapshot.delete(Place(str(tmp_path), str(tmp_path / "no-k3s")), str(tmp_path), snapshot.here(str(tmp_path)))
    assert not list(tmp_path.iterdir())
