# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots as files: whole or not, of which version, what of k3s' configuration a second k3s must not have."""

from __future__ import annotations

import hashlib
import zipfile

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import verification
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version

NOW = 1_790_000_000.0


def a_snapshot(path, pages=4):
    data = bytes(range(256)) * 16 * pages
    path.write_bytes(data + hashlib.sha256(data).digest())
    return path


def content(**changes):
    values = dict(digest="d" * 64, size=1, revision=1, keys=1, objects={}, nodes={"a": "v1.30.3+k3s1", "b": "v1.30.5+k3s1"}, taken=NOW - 60)
    return verification.Content(**{**values, **changes})


def test_a_whole_snapshot_states_its_own_digest(tmp_path):
    path = a_snapshot(tmp_path / "s")
    assert verification.digest_of(str(path)) == hashlib.sha256(path.read_bytes()[:-32]).hexdigest()


@pytest.mark.parametrize("cut", [1, 32, 4096, 4096 + 32, 3 * 4096])
def test_a_snapshot_that_was_cut_short_is_found(tmp_path, cut):
    path = a_snapshot(tmp_path / "s")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(Failure, match="cut short|differs"):
        verification.digest_of(str(path))


@pytest.mark.parametrize("at", [0, 5000, -1])
def test_one_flipped_bit_is_found(tmp_path, at):
    path = a_snapshot(tmp_path / "s")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(Failure, match="SHA-256 differs"):
        verification.digest_of(str(path))


def test_a_database_with_an_archive_inside_is_no_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("x", "y")
    path = tmp_path / "s"
    path.write_bytes(bytes(4096) + (tmp_path / "z").read_bytes())
    assert zipfile.is_zipfile(path) and not verification._compressed(str(path)) and verification._compressed(str(tmp_path / "z"))


def test_a_verification_that_fails_leaves_nothing_behind_and_what_an_earlier_one_kept(tmp_path):
    """Neither what it unpacked, nor a lock, nor a folder that it needed."""
    with zipfile.ZipFile(tmp_path / "nightly.zip", "w") as archive:
        archive.writestr("nightly", "every secret of the cluster")
    with pytest.raises(Failure, match="cut short"):
        verification.verify(verification.Place(str(tmp_path / "k3s"), "k3s"), str(tmp_path / "nightly.zip"))
    assert [path.name for path in tmp_path.iterdir()] == ["nightly.zip"]
    place = verification.Place(str(tmp_path / "other"), "k3s")
    kept = tmp_path / "other" / "server" / "db" / "nordic-scratch" / "content.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    (tmp_path / "cut").write_bytes(b"x" * 10)
    with pytest.raises(Failure, match="cut short"):
        verification.verify(place, str(tmp_path / "cut"), keep=True)
    assert sorted(path.name for path in kept.parent.parent.rglob("*")) == ["content.json", "nordic-scratch"]


def test_the_newest_node_tells_the_version():
    assert content().version == Version.of("v1.30.5+k3s1")
    assert content(nodes={"a": "strange"}).version is None


@pytest.mark.parametrize("binary", ["v1.29.4+k3s1", "v1.31.0+k3s1", "v1.36.3+k3s1"])
def test_a_snapshot_of_another_minor_version_is_refused_with_the_way_out(binary):
    with pytest.raises(Refused, match=r"it is of v1.30.5\+k3s1, and the binary here is .*Install a k3s of v1.30 first"):
        verification.usable(content(), Version.of(binary), None, NOW)


def test_another_patch_version_is_not_refused():
    verification.usable(content(), Version.of("v1.30.14+k3s2"), None, NOW)


def test_a_snapshot_older_than_the_limit_is_refused():
    verification.usable(content(), Version.of("v1.30.5+k3s1"), 61, NOW)
    with pytest.raises(Refused, match=r"it is 3 hours old \(of 2026-09-21T11:13:20Z\), the limit is 2 hours"):
        verification.usable(content(taken=NOW - 3 * 3600), Version.of("v1.30.5+k3s1"), 7200, NOW)


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("/registry/pods/shop/cart", "pods"),
        ("/registry/minions/server1", "nodes"),
        ("/registry/services/specs/default/kubernetes", "services"),
        ("/registry/services/endpoints/default/kubernetes", "endpoints"),
        ("/registry/namespaces/default", "namespaces"),
        ("/registry/apiregistration.k8s.io/apiservices/v1.", "apiservices.apiregistration.k8s.io"),
        ("/registry/helm.cattle.io/helmcharts/kube-system/traefik", "helmcharts.helm.cattle.io"),
        ("/registry/masterleases/10.0.0.1", "masterleases"),
        ("/registry/health", ""),
    ],
)
def test_a_key_is_counted_under_its_resource(key, resource):
    assert verification.resource_of(key) == resource


def test_what_would_join_others_or_write_outside_is_taken_out_of_the_configuration(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text('token: "t"\nserver: https://10.0.0.1:6443\n"datastore-endpoint": x\ntls-san:\n  - a\nnode-ip:\n- 10.0.0.2\n- fd00::2\n'
                    "server-side: kept\netcd-s3: true\nlog: /var/log/k3s.log\nwrite-kubeconfig: /srv/config\nnode-label+:\n  - server: x\n", encoding="utf-8")
    verification._without(str(path), verification.LEFT_OUT)
    assert path.read_text(encoding="utf-8") == 'token: "t"\ntls-san:\n  - a\nserver-side: kept\nnode-label+:\n  - server: x\n'
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_address_is_the_one_etcd_was_told(tmp_path):
    place = verification.Place(str(tmp_path), "k3s")
    folder = tmp_path / "server" / "db" / "etcd"
    folder.mkdir(parents=True)
    for text, address in (("name: a\nadvertise-client-urls: https://10.1.2.3:2379\n", "10.1.2.3"),
                          ("advertise-client-urls: https://[fd00::5]:2379\n", "fd00::5")):
        (folder / "config").write_text(text, encoding="ascii")
        assert place.address() == address


def test_k3s_reason_is_found_in_its_log(tmp_path):
    log = tmp_path / "log"
    log.write_text('time="t" level=info msg="Starting"\ntime="t" level=fatal msg="starting kubernetes: no \\"x\\""\ntime="t" level=info msg="end"\n',
                   encoding="utf-8")
    assert verification._last_words(str(log)) == 'starting kubernetes: no \\"x\\"'
    assert verification._last_words(str(tmp_path / "none")) == "it said nothing"


def test_a_verification_waits_for_the_one_that_a_killed_run_left(tmp_path):
    pauses = []
    place = verification.Place(str(tmp_path), "k3s")
    with verification.one_at_a_time(place):
        def ends(seconds):
            pauses.append(seconds)
            holder.__exit__(None, None, None)

        holder = verification.one_at_a_time(verification.Place(str(tmp_path / "other"), "k3s"))
        holder.__enter__()
        patient = verification.Place(str(tmp_path / "other"), "k3s", sleep=ends)
        with verification.one_at_a_time(patient):
            assert pauses == [0.5]
