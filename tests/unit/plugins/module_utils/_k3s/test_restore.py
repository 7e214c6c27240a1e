# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored database goes into place by renames, and a run that was killed between any two of them is finished by the next."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import configuration, restore, snapshot_states, verification
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.verification import Content, Place

DIGEST, OTHER = "d" * 64, "e" * 64
NOW = 1795940100.0  # 2026-11-29T08:15:00Z
ASIDE = "etcd.before-20261129T081500Z-dddddddddddd"


class Killed(BaseException):
    """What SIGKILL does, at one place."""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def server(folder, authority="ours", database="live"):
    """A server with a live database."""
    for name in restore.AUTHORITIES:
        write(folder / "server" / "tls" / name, authority)
    write(folder / "server" / "cred" / "passwd", authority)
    write(folder / "server" / "db" / "etcd" / "member" / "data", database)
    return Place(str(folder), "k3s")


def stage(folder, authority="ours", digest=DIGEST):
    """Its database holds the snapshot's digest."""
    scratch = folder / "server" / "db" / "nordic-scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for name in restore.AUTHORITIES:
        write(scratch / "server" / "tls" / name, authority)
    write(scratch / "server" / "cred" / "passwd", authority)
    write(scratch / "server" / "db" / "etcd" / "member" / "data", digest)
    write(scratch / "content.json", json.dumps(Content(digest, 1, 1, 1, {"namespaces": 4}, {"s1": "v1.30.5+k3s1"}, 0.0).__dict__))


def live(folder):
    return (folder / "server" / "db" / "etcd" / "member" / "data").read_text()


def kept(folder):
    """What is in the databases that were set aside, the oldest first."""
    return [(folder / "server" / "db" / one.name / "member" / "data").read_text() for one in restore.listed(Place(str(folder), "k3s"))]


def dying(patched, survived):
    """The step after so many renames kills the run."""
    left = [survived]

    def at(step):
        def call(*arguments):
            if not left[0]:
                raise Killed()
            left[0] -= 1
            return step(*arguments)
        return call

    for name in ("rename", "replace"):
        patched.setattr(f"os.{name}", at(getattr(os, name)))  # fake: an injected fault


def test_the_staged_database_is_the_live_one_and_the_old_one_is_kept(tmp_path):
    place = server(tmp_path)
    stage(tmp_path)
    aside = restore.put_in_place(place, DIGEST, False, NOW)
    assert live(tmp_path) == DIGEST and aside == str(tmp_path / "server" / "db" / ASIDE) and kept(tmp_path) == ["live"]
    assert restore.is_done(place, DIGEST) and restore.mark(place)["step"] == "restored"
    assert not (tmp_path / "server" / "db" / "nordic-scratch").exists()


def test_k3s_is_told_to_forget_the_password_of_a_lost_host_of_this_name(tmp_path):
    """Else a new host of the same name never becomes Ready: the snapshot has the old one's password."""
    place = server(tmp_path)
    stage(tmp_path)
    restore.put_in_place(place, DIGEST, False, NOW)
    assert (tmp_path / "server" / "db" / "reset-flag").exists()


def test_certificates_stay_when_they_are_the_clusters_own(tmp_path):
    place = server(tmp_path)
    stage(tmp_path)
    restore.put_in_place(place, DIGEST, False, NOW)
    assert os.listdir(tmp_path / "server" / "tls") and not [name for name in os.listdir(tmp_path / "server") if "before" in name]


@pytest.mark.parametrize("authority", ["ours", "theirs"])
def test_passwords_that_may_be_newer_than_the_snapshot_are_set_aside_so_that_k3s_writes_its_own(tmp_path, authority):
    """k3s would end: cred/passwd newer than datastore."""
    place = server(tmp_path)
    stage(tmp_path, authority)
    restore.put_in_place(place, DIGEST, False, NOW)
    assert [path.name for path in (tmp_path / "server" / "cred").iterdir()] == [ASIDE.replace("etcd", "passwd")]


def test_a_snapshot_with_other_authorities_brings_them_along(tmp_path):
    place = server(tmp_path)
    stage(tmp_path, "theirs")
    restore.put_in_place(place, DIGEST, False, NOW)
    assert (tmp_path / "server" / "tls" / "service.key").read_text() == "theirs"
    assert (tmp_path / "server" / "cred" / ASIDE.replace("etcd", "passwd")).read_text() == "theirs"
    assert (tmp_path / "server" / ASIDE.replace("etcd", "tls") / "service.key").read_text() == "ours"


def test_a_new_host_without_a_database_is_restored_too(tmp_path):
    place = Place(str(tmp_path), "k3s")
    stage(tmp_path)
    assert restore.put_in_place(place, DIGEST, False, NOW) is None
    assert live(tmp_path) == DIGEST and (tmp_path / "server" / "tls" / "service.key").exists()


@pytest.mark.parametrize("authority", ["ours", "theirs"])
@pytest.mark.parametrize("survived", range(9))
def test_a_restore_killed_between_two_steps_is_finished_by_the_next(tmp_path, monkeypatch, survived, authority):
    place = server(tmp_path)
    stage(tmp_path, authority)
    with monkeypatch.context() as patched:
        dying(patched, survived)
        try:
            restore.put_in_place(place, DIGEST, False, NOW)
        except Killed:
            pass
    if not restore.is_done(place, DIGEST):
        # What the next run does: verify again where the staged one is not whole, then the same step.
        if restore.staged(place, DIGEST) is None:
            stage(tmp_path, authority)
        restore.put_in_place(place, DIGEST, False, NOW)
    assert live(tmp_path) == DIGEST and restore.is_done(place, DIGEST)
    assert (tmp_path / "server" / "tls" / "service.key").read_text() == authority and not (tmp_path / "server" / "cred" / "passwd").exists()
    assert "live" in kept(tmp_path)


def test_one_snapshot_another_and_the_first_again_delete_no_database(tmp_path):
    """Also within one second. What was written between two restores is as much the only copy as what was there at first."""
    place = server(tmp_path)
    for step, digest in enumerate((DIGEST, OTHER, DIGEST)):
        stage(tmp_path, digest=digest)
        restore.put_in_place(place, digest, False, NOW)
        write(tmp_path / "server" / "db" / "etcd" / "member" / "data", f"written after {step}")
    assert sorted(kept(tmp_path)) == ["live", "written after 0", "written after 1"] and live(tmp_path) == "written after 2"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=strategies.lists(strategies.tuples(strategies.sampled_from([DIGEST, OTHER]), strategies.booleans(), strategies.integers(0, 9),
                                                strategies.sampled_from(["ours", "theirs"])), min_size=1, max_size=9))
def test_every_database_that_ever_was_live_is_still_there_whatever_was_killed(tmp_path, monkeypatch, steps):
    """Snapshots and joins in any order, each killed after any number of renames, in one second or several."""
    folder = tmp_path / str(random.getrandbits(60))
    place, written = server(folder, database="0"), ["0"]
    for number, (digest, join, survived, authority) in enumerate(steps, 1):
        if not join:
            stage(folder, authority, digest)
        with monkeypatch.context() as patched:
            dying(patched, survived)
            try:
                (restore.set_aside if join else restore.put_in_place)(place, digest, False, NOW + number // 2)
            except Killed:
                pass
        if (folder / "server" / "db" / "etcd").exists():  # k3s runs again, and somebody writes
            with open(folder / "server" / "db" / "etcd" / "member" / "data", "a", encoding="utf-8") as stream:
                stream.write(f"|{number}")
            written.append(live(folder))
    everything = [*kept(folder), *([live(folder)] if (folder / "server" / "db" / "etcd").exists() else [])]
    assert [text for text in written if not any(one.startswith(text) for one in everything)] == []


def test_the_others_set_theirs_aside(tmp_path):
    place = server(tmp_path)
    (tmp_path / "server" / "db" / "snapshots").mkdir()
    restore.set_aside(place, DIGEST, False, NOW)
    assert not (tmp_path / "server" / "db" / "etcd").exists() and (tmp_path / "server" / "db" / "snapshots").exists()
    assert restore.mark(place) == {"digest": DIGEST, "step": "joined"} and kept(tmp_path) == ["live"]


@pytest.mark.parametrize("step", [restore.put_in_place, restore.set_aside])
def test_nothing_is_moved_under_a_k3s_that_runs(tmp_path, step):
    place = server(tmp_path)
    stage(tmp_path)
    with pytest.raises(Refused, match="k3s runs on this server"):
        step(place, DIGEST, True, NOW)
    assert live(tmp_path) == "live"


def test_a_database_of_another_snapshot_is_not_put_in_place(tmp_path):
    place = server(tmp_path)
    stage(tmp_path)
    with pytest.raises(Failure, match="no verified database of this snapshot"):
        restore.put_in_place(place, OTHER, False, NOW)
    assert live(tmp_path) == "live"


def discard(folder, check_mode=False, now=NOW, **chosen):
    given = {"data_dir": str(folder), "binary": "k3s", "folder": None, "s3": None, "name": None, "max_age": None, **chosen}
    return snapshot_states.run("discarded", given, check_mode, now)


@pytest.fixture
def three_aside(tmp_path):
    """Set aside by a restore of each of three days, the last one with certificates; and one by an earlier version of the collection."""
    place = server(tmp_path)
    for day, authority in enumerate(("ours", "ours", "theirs")):
        stage(tmp_path, authority)
        restore.put_in_place(place, DIGEST, False, NOW + 86400 * day)
    write(tmp_path / "server" / "db" / "etcd.before-eeeeeeeeeeee" / "member" / "data", "of an earlier version")
    return tmp_path


def test_databases_that_were_set_aside_are_listed_with_their_time_and_the_snapshot_that_took_their_place(three_aside):
    told = snapshot_states.info(snapshot_states.Request({"data_dir": str(three_aside), "binary": "k3s", "folder": None}, False, NOW))["set_aside"]
    assert {one["name"]: one["since"] for one in told if one["digest"] == DIGEST[:12]} == {
        ASIDE: "2026-11-29T08:15:00Z", ASIDE.replace("1129", "1130"): "2026-11-30T08:15:00Z", ASIDE.replace("1129", "1201"): "2026-12-01T08:15:00Z"}
    assert [one["size"] for one in told if one["digest"] == OTHER[:12]] == [len("of an earlier version")]


def test_only_the_database_that_is_named_goes(three_aside):
    assert discard(three_aside, check_mode=True, name=ASIDE) == {"changed": True, "removed": [ASIDE]} and len(kept(three_aside)) == 4
    assert discard(three_aside, name=ASIDE) == {"changed": True, "removed": [ASIDE]} and len(kept(three_aside)) == 3
    assert not discard(three_aside, name=ASIDE)["changed"]
    assert not discard(three_aside, name="etcd")["changed"] and not discard(three_aside, name=ASIDE[:-1])["changed"]
    assert live(three_aside) == DIGEST


def test_only_databases_that_are_old_enough_go_with_their_certificates(three_aside):
    before = len(kept(three_aside))
    removed = discard(three_aside, max_age=86400, now=NOW + 86400 * 2 + 1)["removed"]
    assert {ASIDE, ASIDE.replace("1129", "1130")} <= set(removed) and before - len(removed) == len(kept(three_aside))
    assert (three_aside / "server" / ASIDE.replace("1129", "1201").replace("etcd", "tls")).exists()
    discard(three_aside, name=ASIDE.replace("1129", "1201"))
    assert not [name for name in os.listdir(three_aside / "server") if "before" in name]
    assert not [path for path in (three_aside / "server" / "cred").glob("passwd.before-*") if path.name.replace("passwd", "etcd") in removed]


def test_by_age_nothing_goes_while_this_server_has_no_live_database(three_aside):
    """As after a restore that was killed, or a reset: one of them may be the only copy."""
    shutil.rmtree(three_aside / "server" / "db" / "etcd")
    with pytest.raises(Refused, match="may be the only copy"):
        discard(three_aside, max_age=0, now=NOW + 86400 * 9)
    assert len(kept(three_aside)) == 4
    assert discard(three_aside, name=ASIDE)["removed"] == [ASIDE]


def test_a_database_on_a_mount_point_is_refused(tmp_path, monkeypatch):
    place = server(tmp_path)
    stage(tmp_path)
    monkeypatch.setattr("os.path.ismount", lambda path: path == place.database)  # fake: an injected fault
    with pytest.raises(Refused, match="mount point"):
        restore.put_in_place(place, DIGEST, False, NOW)
    assert live(tmp_path) == "live"


@pytest.mark.parametrize("text", ["etcd-arg: [wal-dir=/fast/wal]\n", "etcd-arg+:\n- --wal-dir=/fast/wal # NVMe\n", "etcd-arg: 'wal-dir=/fast/wal'\n"])
def test_a_database_whose_log_is_somewhere_else_is_left_alone(tmp_path, monkeypatch, text):
    """A snapshot restored beside it, to look at it, would open the log of the database that is live."""
    write(tmp_path / "etc" / "config.yaml.d" / "50-disk.yaml", text)
    monkeypatch.setattr(configuration, "CONFIG_DIR", str(tmp_path / "etc"))  # fake: of the host
    place = server(tmp_path)
    stage(tmp_path)
    for step in (lambda: verification.verify(place, "a-snapshot"), lambda: restore.put_in_place(place, DIGEST, False, NOW),
                 lambda: restore.set_aside(place, DIGEST, False, NOW)):
        with pytest.raises(Refused, match="etcd keeps its log at /fast/wal"):
            step()
    assert live(tmp_path) == "live" and kept(tmp_path) == []


def test_certificates_on_another_file_system_are_copied(tmp_path, monkeypatch):
    place, rename = server(tmp_path), os.rename
    stage(tmp_path, "theirs")

    def across(source, target):
        if "nordic-scratch" in source and "/db/" not in target:
            raise OSError(18, "Invalid cross-device link")  # fake: an injected fault
        return rename(source, target)

    monkeypatch.setattr("os.rename", across)  # fake: an injected fault
    restore.put_in_place(place, DIGEST, False, NOW)
    assert live(tmp_path) == DIGEST and (tmp_path / "server" / "tls" / "service.key").read_text() == "theirs"
