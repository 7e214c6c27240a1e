# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reset removes, what it keeps, and what nothing may ever delete: data in something that is mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import configuration, leftovers

GONE = ("server/db/etcd/member/snap/db", "server/db/state.db", "server/tls/server-ca.crt", "server/token", "agent/client-kubelet.crt", "agent/containerd/x")
STAYS = ("server/db/snapshots/nightly-server1-1790000000", "server/db/etcd.before-20261129T081500Z-dddddddddddd/member/data",
         "server/tls.before-20261129T081500Z-dddddddddddd/service.key", "storage/pvc-1/orders.db", "agent/images/pause.tar", "data/current")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for name in (*GONE, *STAYS):
        (tmp_path / "k3s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "k3s" / name).write_text(name, encoding="utf-8")
    return tmp_path / "k3s"


def files_of(folder: Path) -> List[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def reset(data_dir: Path, *precious: Path, everything: bool = False) -> List[str]:
    """The part of it that is below the data folder."""
    data = [str(data_dir / name) for name in leftovers.DATA] + [str(path) for path in precious]
    folders = [path for path in leftovers._folders(str(data_dir), everything, data) if path.startswith(str(data_dir))]
    return leftovers._remove(folders, tuple(data), False)


def test_a_reset_keeps_what_may_be_the_only_copy_of_something(data_dir):
    assert reset(data_dir) and files_of(data_dir) == sorted(STAYS)
    assert reset(data_dir) == []


def test_a_reset_leaves_no_empty_folder_for_what_was_not_there(data_dir):
    for name in STAYS[:4]:
        os.unlink(data_dir / name)
    leftovers_of_tests = [path for path in data_dir.rglob("*before*") if path.is_dir()]
    for path in leftovers_of_tests:
        for inner in sorted(path.rglob("*"), reverse=True):
            inner.rmdir()
        path.rmdir()
    (data_dir / "storage" / "pvc-1").rmdir()
    reset(data_dir)
    assert sorted(os.listdir(data_dir)) == ["agent", "data"]


@pytest.mark.parametrize("place", ["snapshots-of-mine", "server/snapshots", "server/db/mine", "agent/volumes"])
def test_a_reset_keeps_snapshots_and_volumes_wherever_the_configuration_puts_them(data_dir, place):
    (data_dir / place).mkdir()
    (data_dir / place / "nightly-server1-1790000000").write_text("the only copy", encoding="utf-8")
    reset(data_dir, data_dir / place)
    assert files_of(data_dir) == sorted([*STAYS, f"{place}/nightly-server1-1790000000"])


def test_where_the_configuration_puts_them_is_asked_of_every_file_that_k3s_reads():
    assert configuration.precious({"data-dir": "/data"}) == ["/data/server/db/snapshots"]
    assert configuration.precious({"etcd-snapshot-dir": "/data/s", "default-local-storage-path": "/data/v"}) == ["/data/s", "/data/v"]


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_not_of_k3s_in_its_data_folder_stays_as_where_that_is_a_whole_disk(data_dir, everything):
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "orders.db").write_text("somebody else's", encoding="utf-8")
    assert reset(data_dir, everything=everything)
    assert "postgres/orders.db" in files_of(data_dir)
    leftovers._remove_empty(str(data_dir), str(data_dir))
    assert "postgres/orders.db" in files_of(data_dir)
    if everything:
        assert os.listdir(data_dir) == ["postgres"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_data_folder_that_is_a_link_is_reset_and_removed_where_it_leads_to(data_dir, tmp_path, monkeypatch, everything):
    link = tmp_path / "link"
    link.symlink_to(data_dir)
    # Of this machine nothing: neither its processes, its network nor folders elsewhere.
    for name in ("_containers", "_mounts", "_network"):
        monkeypatch.setattr(leftovers, name, lambda *_arguments: [])  # fake: of the host
    folders = leftovers._folders
    monkeypatch.setattr(leftovers, "_folders", lambda *arguments: [path for path in folders(*arguments) if path.startswith(str(tmp_path))])  # fake: the host's
    assert leftovers.remove_leftovers(str(link), everything, False)
    assert not data_dir.exists() and not link.is_symlink() if everything else files_of(data_dir) == sorted(STAYS)


def test_no_folder_is_removed_while_a_mount_in_it_cannot_be_taken_down(data_dir, monkeypatch):
    volume = f"{leftovers.RUN_DIRS[0]}/volume of a pod"
    monkeypatch.setattr(leftovers, "_mounted", lambda: [volume])  # fake: an injected fault, umount that fails
    with pytest.raises(Failure, match="1 mounts cannot be taken down, so no folder was removed: /run/k3s/volume of a pod"):
        leftovers._unmount(str(data_dir))


def test_a_disk_of_an_administrators_below_the_data_folder_stays_mounted(data_dir, monkeypatch):
    disks = [str(data_dir), f"{data_dir}/server/db", f"{data_dir}/storage", f"{data_dir}/agent/containerd"]
    ours = [f"{data_dir}/agent/containerd/io.containerd.runtime.v2.task/x/rootfs", "/var/lib/kubelet/pods/a/volumes/b", "/run/netns/cni-1"]
    monkeypatch.setattr(leftovers, "_mounted", lambda: [*disks, *ours, "/var/lib/kubelet", "/home"])  # fake: mounts need root
    assert sorted(leftovers._mounts(str(data_dir))) == sorted(ours)


def test_a_folder_with_a_mount_in_it_is_emptied_and_the_mount_point_stays(data_dir, monkeypatch):
    disk = data_dir / "server" / "db" / "etcd"
    monkeypatch.setattr(leftovers, "_mounted", lambda: [str(disk)])  # fake: mounts need root
    monkeypatch.setattr("os.path.ismount", lambda path: path == str(disk))  # fake: mounts need root
    leftovers._empty(str(data_dir / "server"), ())
    assert disk.is_dir() and os.listdir(disk) == [] and os.listdir(data_dir / "server") == ["db"]


@pytest.mark.parametrize("disk", ["storage", "storage/pvc-1", "server/db/snapshots"])
def test_not_even_the_removal_of_all_deletes_what_is_on_a_disk_for_volumes_or_snapshots(data_dir, monkeypatch, disk):
    monkeypatch.setattr(leftovers, "_mounted", lambda: [str(data_dir / disk)])  # fake: mounts need root
    monkeypatch.setattr("os.path.ismount", lambda path: path == str(data_dir / disk))  # fake: mounts need root
    kept = files_of(data_dir / disk)
    leftovers._remove([str(data_dir)], tuple(str(data_dir / name) for name in leftovers.DATA), False)
    assert kept and files_of(data_dir / disk) == kept and files_of(data_dir) == [f"{disk}/{name}" for name in kept]
