# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored database goes into place by renames, and a run that was killed between any two of them is finished by the next."""

from __future__ import annotations

import json
import shutil

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import restore
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.scratch import Content, Place

DIGEST = "d" * 64
CONTENT = Content(DIGEST, 1, 1, 1, {"namespaces": 4}, {"s1": "v1.30.5+k3s1"}, 0.0)


class Killed(BaseException):
    """What SIGKILL does, at one place."""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def server(folder, authority="ours"):
    """A server with a live database."""
    for name in restore.AUTHORITIES:
        write(folder / "server" / "tls" / name, authority)
    write(folder / "server" / "cred" / "passwd", authority)
    write(folder / "server" / "db" / "etcd" / "member" / "data", "live")
    return Place(str(folder), "k3s")


def stage(folder, authority="ours"):
    scratch = folder / "server" / "db" / "nordic-scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for name in restore.AUTHORITIES:
        write(scratch / "server" / "tls" / name, authority)
    write(scratch / "server" / "cred" / "passwd", authority)
    write(scratch / "server" / "db" / "etcd" / "member" / "data", "snapshot's")
    write(scratch / "content.json", json.dumps(CONTENT.__dict__))


def live(folder):
    return (folder / "server" / "db" / "etcd" / "member" / "data").read_text()


def test_the_staged_database_is_the_live_one_and_the_old_one_is_kept(tmp_path):
    place = server(tmp_path)
    stage(tmp_path)
    aside = restore.put_in_place(place, DIGEST, running=False)
    assert live(tmp_path) == "snapshot's" and aside.endswith("etcd.before-dddddddddddd")
    assert (tmp_path / "server" / "db" / "etcd.before-dddddddddddd" / "member" / "data").read_text() == "live"
    assert restore.is_done(place, DIGEST) and restore.mark(place)["step"] == "restored"
    assert not (tmp_path / "server" / "db" / "nordic-scratch").exists()
    assert restore.forget(place) == 1 and live(tmp_path) == "snapshot's"


def test_certificates_stay_when_they_are_the_clusters_own(tmp_path):
    place = server(tmp_path)
    stage(tmp_path)
    restore.put_in_place(place, DIGEST, running=False)
    assert not (tmp_path / "server" / "tls.before-dddddddddddd").exists()


def test_a_snapshot_with_other_authorities_brings_them_along(tmp_path):
    place = server(tmp_path)
    stage(tmp_path, "theirs")
    restore.put_in_place(place, DIGEST, running=False)
    assert (tmp_path / "server" / "tls" / "service.key").read_text() == "theirs" == (tmp_path / "server" / "cred" / "passwd").read_text()


def test_a_new_host_without_a_database_is_restored_too(tmp_path):
    place = Place(str(tmp_path), "k3s")
    stage(tmp_path)
    assert restore.put_in_place(place, DIGEST, running=False) is None
    assert live(tmp_path) == "snapshot's" and (tmp_path / "server" / "tls" / "service.key").exists()


@pytest.mark.parametrize("authority", ["ours", "theirs"])
@pytest.mark.parametrize("survived", range(9))
def test_a_restore_killed_between_two_steps_is_finished_by_the_next(tmp_path, monkeypatch, survived, authority):
    place = server(tmp_path)
    stage(tmp_path, authority)
    left = [survived]

    def dying(step):
        def call(*arguments):
            if not left[0]:
                raise Killed()
            left[0] -= 1
            return step(*arguments)
        return call

    with monkeypatch.context() as patched:
        for name in ("rename", "replace"):
            patched.setattr(f"os.{name}", dying(getattr(restore.os, name)))  # fake: an injected fault
        try:
            restore.put_in_place(place, DIGEST, running=False)
        except Killed:
            pass
    if not restore.is_done(place, DIGEST):
        # What the next run does: verify again where the staged one is not whole, then the same step.
        if restore.staged(place, DIGEST) is None:
            stage(tmp_path, authority)
        restore.put_in_place(place, DIGEST, running=False)
    assert live(tmp_path) == "snapshot's" and restore.is_done(place, DIGEST)
    assert (tmp_path / "server" / "tls" / "service.key").read_text() == authority == (tmp_path / "server" / "cred" / "passwd").read_text()
    assert (tmp_path / "server" / "db" / "etcd.before-dddddddddddd" / "member" / "data").read_text() == "live"


def test_the_others_set_theirs_aside_once(tmp_path):
    place = server(tmp_path)
    (tmp_path / "server" / "db" / "snapshots").mkdir()
    restore.set_aside(place, DIGEST, running=False)
    assert not (tmp_path / "server" / "db" / "etcd").exists() and (tmp_path / "server" / "db" / "snapshots").exists()
    assert restore.mark(place) == {"digest": DIGEST, "step": "joined"}


@pytest.mark.parametrize("step", [restore.put_in_place, restore.set_aside])
def test_nothing_is_moved_under_a_k3s_that_runs(tmp_path, step):
    place = server(tmp_path)
    stage(tmp_path)
    with pytest.raises(Refused, match="k3s runs on this server"):
        step(place, DIGEST, running=True)
    assert live(tmp_path) == "live"


def test_a_database_of_another_snapshot_is_not_put_in_place(tmp_path):
    place = server(tmp_path)
    stage(tmp_path)
    with pytest.raises(Failure, match="no verified database of this snapshot"):
        restore.put_in_place(place, "e" * 64, running=False)
    assert live(tmp_path) == "live"
