# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of snapshots on a real S3 server: sent, listed, fetched, deleted, encrypted, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import s3 as snapshot_s3
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import snapshot, snapshot_states
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import Store
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.snapshot import Snapshot
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.s3_signer import Signer
from lab import k3s
from lab.forward_proxy import relay
from lab.s3 import S3Server

pytestmark = pytest.mark.built("S3 server")

FILE = "nightly-server1-1790000000"


@pytest.fixture(scope="module")
def server():
    with S3Server(tls=True) as running:
        yield running


def store_of(server, **changes):
    params = dict(endpoint=server.url, bucket=server.bucket, region=server.region, allowed_regions=[server.region], folder="production",
                  access_key=server.access_key, secret_key=server.secret_key, session_token=None, ca_path=server.ca_file, allow_http=False, timeout=10)
    params.update(changes)
    return dataclasses.replace(Store.of(params), sign=lambda asked: Signer(params, "present").url(asked, time.time()))


@pytest.fixture
def store(server):
    store = store_of(server)
    yield store
    for item in store.list():
        store.delete(item.name)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b"every secret of the cluster" * 40_000)
    return Snapshot(FILE, path.stat().st_size, 1790000000, str(path))


def test_what_was_sent_is_listed_and_comes_back(store, saved, tmp_path):
    snapshot.upload(store, saved, None, {"node": "server1"})
    assert [(one.file, one.size, one.encrypted) for one in snapshot.there(store)] == [(FILE, saved.size, False)]
    assert store.head(FILE)[1]["node"] == "server1"
    got = snapshot.download(store, FILE, str(tmp_path / "elsewhere"), None)
    assert (tmp_path / "elsewhere" / FILE).read_bytes() == (tmp_path / FILE).read_bytes()
    assert (tmp_path / "elsewhere" / FILE).stat().st_mode & 0o777 == 0o600 and got.size == saved.size


def test_a_bucket_that_is_a_host_of_its_own_is_addressed_as_one(saved, tmp_path):
    """The bucket 127 in the domain 0.0.1: a host that every machine finds without a name server."""
    with S3Server(bucket="127", domain="0.0.1") as server:
        store = store_of(server, endpoint=f"http://0.0.1:{server.port}", allow_http=True, virtual_host=True)
        store.place()
        snapshot.upload(store, saved, None, {"node": "server1"})
        assert server.objects() == [f"production/{FILE}"] and [one.file for one in snapshot.there(store)] == [FILE]
        snapshot.download(store, FILE, str(tmp_path / "elsewhere"), None)
        store.delete(FILE)
        assert server.objects() == []


def test_an_encrypted_copy_is_useless_to_the_store_and_opens_with_the_key(server, store, saved, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "crt", "-subj", "/CN=backup"],
                   cwd=tmp_path, check=True, capture_output=True)
    snapshot.upload(store, saved, (tmp_path / "crt").read_text(), {})
    assert b"secret of the cluster" not in server.path(f"production/{FILE}.cms").read_bytes()
    with pytest.raises(Failure, match="it is encrypted"):
        snapshot.download(store, f"{FILE}.cms", str(tmp_path / "a"), None)
    snapshot.download(store, f"{FILE}.cms", str(tmp_path / "b"), (tmp_path / "key").read_text())
    assert (tmp_path / "b" / FILE).read_bytes() == (tmp_path / FILE).read_bytes()
    assert [path.name for path in (tmp_path / "b").iterdir()] == [FILE]


def test_more_objects_than_one_answer_holds_are_all_listed(server, store):
    folder = server.path("production")
    folder.mkdir(exist_ok=True)
    for number in range(1005):
        (folder / f"n-s1-{1790000000 + number}").write_bytes(b"x")
    assert len(snapshot.there(store)) == 1005


def test_only_the_named_object_is_deleted_and_twice_is_no_error(store, saved):
    snapshot.upload(store, saved, None, {})
    store.put("other-server1-1790000001", saved.path, {})
    store.delete(FILE)
    store.delete(FILE)
    assert [item.name for item in store.list()] == ["other-server1-1790000001"]


def test_a_wrong_key_is_told_without_it(server, saved):
    with pytest.raises(Failure) as told:
        store_of(server, secret_key="not-the-secret").put(FILE, saved.path, {})
    assert "SignatureDoesNotMatch" in str(told.value) and "not-the-secret" not in str(told.value)


class EndsEveryPut(socketserver.StreamRequestHandler):
    """In front of a real server: the connection ends once a PUT begins, as with a server that refuses and does not read on."""

    def handle(self):
        head = self.request.recv(65536)
        if head.startswith(b"PUT"):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with socket.create_connection(self.server.behind) as far:
            far.sendall(head)
            relay(self.request, far)


@pytest.mark.parametrize(("secret", "said"), [("not-the-secret", "SignatureDoesNotMatch"), (None, "(reset by peer|Broken pipe|closed connection)")])
def test_a_refusal_is_told_when_the_server_ends_the_connection_before_it_has_read_all(saved, secret, said):
    with S3Server() as plain, socketserver.ThreadingTCPServer(("127.0.0.1", 0), EndsEveryPut) as front:
        front.behind = (plain.address, plain.port)
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, daemon=True).start()
        store = store_of(plain, endpoint=f"http://127.0.0.1:{front.server_address[1]}", secret_key=secret or plain.secret_key, allow_http=True,
                         ca_path=None)
        with pytest.raises(Failure, match=f"PUT failed: .*{said}"):
            dataclasses.replace(store, sleep=lambda seconds: None).put(FILE, saved.path, {})  # fake: the clock
        front.shutdown()


def test_a_bucket_that_is_not_there_is_told(server, saved):
    with pytest.raises(Failure, match="no such bucket"):
        snapshot.upload(store_of(server, bucket="nowhere"), saved, None, {})


def test_a_server_whose_authority_is_unknown_gets_nothing(server, saved):
    with pytest.raises(Failure, match="certificate verify failed"):
        store_of(server, ca_path=None).put(FILE, saved.path, {})


def test_a_short_outage_is_waited_for(server, store, saved):
    server.stop()
    pauses = []

    def restart(seconds):
        pauses.append(seconds)
        server.start()

    patient = Store(**{**store.__dict__, "sleep": restart})
    patient.put(FILE, saved.path, {})
    assert pauses == [0.5] and store.head(FILE)[0].size == saved.size


def asked_for(store, folder, check_mode=False, **params):
    """What a name or a file means on a server without snapshots of its own."""
    given = {"data_dir": str(folder), "binary": "k3s", "folder": None, "s3": None, "name": None, "file": None, "private_key": None, "state": "staged", **params}
    request = snapshot_states.Request(given, check_mode, 0)
    request.store = store
    return request


def test_a_copy_of_a_longer_name_is_not_restored_in_the_place_of_the_one_that_was_named(store, saved, tmp_path):
    """nightly-prod of host a looks like nightly of host prod-a: only the metadata tells them apart."""
    store.put("nightly-server1-1790000000", saved.path, {"node": "server1"})
    store.put("nightly-prod-a-1790000009", saved.path, {"node": "a"})
    assert asked_for(store, tmp_path / "one", name="nightly").found().file == "nightly-server1-1790000000"
    assert asked_for(store, tmp_path / "two", name="nightly-prod").found().file == "nightly-prod-a-1790000009"
    with pytest.raises(Failure, match="no snapshot of the name night"):
        asked_for(store, tmp_path / "three", name="night").found()


def test_copies_of_another_server_are_not_deleted_though_their_names_look_the_same(store, saved, tmp_path):
    """nightly of host prod-a, and nightly-prod of host a, in one bucket."""
    (tmp_path / "host" / "server" / "db" / "etcd").mkdir(parents=True)
    (tmp_path / "host" / "server" / "db" / "etcd" / "name").write_text("prod-a-12345678")
    for file, node in (("nightly-prod-a-1790000001", "a"), ("nightly-prod-a-1790000002", "prod-a"), ("nightly-prod-a-1790000003", "prod-a")):
        store.put(file, saved.path, {"node": node})
    wanted = {"name": "nightly", "keep": 1, "state": "pruned"}
    assert snapshot_states.pruned(asked_for(store, tmp_path / "host", **wanted))["removed_copies"] == ["nightly-prod-a-1790000002"]
    assert snapshot_states.absent(asked_for(store, tmp_path / "host", **{**wanted, "state": "absent"}))["removed_copies"] == ["nightly-prod-a-1790000003"]
    assert [one.file for one in snapshot.there(store)] == ["nightly-prod-a-1790000001"]


@pytest.mark.parametrize(("state", "check_mode", "stays"), [("staged", False, True), ("staged", True, False), ("verified", False, False)])
def test_a_copy_that_was_only_looked_at_does_not_stay(store, saved, tmp_path, state, check_mode, stays):
    snapshot.upload(store, saved, None, {})
    request = asked_for(store, tmp_path / "host", check_mode, file=FILE, state=state)
    assert (tmp_path / FILE).read_bytes() == open(request.found().path, "rb").read()
    request.close()
    there = {path.name for path in tmp_path.rglob("*")} - {FILE} if stays else {path.name for path in tmp_path.rglob("*")}
    assert there == ({"host", "server", "db", "snapshots"} if stays else {FILE})


def test_a_file_that_arrives_with_another_content_is_refused_by_the_store(server, store, saved, monkeypatch):
    """As when a byte is altered on its way: what is sent is not what was read for its digest."""
    monkeypatch.setattr(snapshot_s3.base64, "b64encode", lambda digest: b"AAAAAAAAAAAAAAAAAAAAAA==")  # fake: a damaged file
    with pytest.raises(Failure, match="PUT failed: .*(BadDigest|InvalidDigest)"):
        store.put(FILE, saved.path, {})
    assert server.objects() == []


def test_tasks_copy_list_and_prune_and_no_key_of_the_store_is_on_the_node(server, store, tmp_path):
    """By Ansible itself, on this machine as the node: three snapshots that k3s saved, copied one after the other, of which two go."""
    etcd, folder = tmp_path / "k3s" / "server" / "db" / "etcd", tmp_path / "snapshots"
    for path in (etcd, folder):
        path.mkdir(parents=True)
    (etcd / "name").write_text("server1-12345678")
    option = {"endpoint": server.url, "bucket": server.bucket, "region": server.region, "folder": "production", "access_key": server.access_key,
              "secret_key": server.secret_key, "ca_path": server.ca_file}
    common = {"name": "nightly", "data_dir": str(tmp_path / "k3s"), "folder": str(folder), "s3": option, "binary": str(k3s.binary("new").path)}
    listed = {"nordic.gitops.etcd_snapshot_info": {"data_dir": common["data_dir"], "folder": str(folder), "s3": option}}
    tasks = []
    for number in range(3):
        file = str(folder / f"nightly-server1-179000000{number}")
        tasks += [{"ansible.builtin.copy": {"content": "x" * 1000, "dest": file, "mode": "0600"}}, {"nordic.gitops.etcd_snapshot": common}]
    tasks += [{"nordic.gitops.etcd_snapshot": common}, listed, {"nordic.gitops.etcd_snapshot": {**common, "state": "pruned", "keep": 1, "binary": "/none"}},
              listed, {"nordic.gitops.etcd_snapshot": {**common, "s3": {**option, "region": "us-east-1", "allowed_regions": []}}, "ignore_errors": True}]
    for number, task in enumerate(tasks):
        task = tasks[number] = {**task, "register": f"answer{number}"}
    kept = tmp_path / "results.json"
    results = "{{ [%s] | to_json }}" % ", ".join(f"answer{number}" for number in range(len(tasks)))
    tasks.append({"ansible.builtin.copy": {"content": results, "dest": str(kept), "mode": "0600"}})
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(["ansible-playbook", "-vvvv", str(tmp_path / "play.yml")], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote"), "ANSIBLE_PIPELINING": "0"},
                          check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    answers = json.loads(kept.read_text())
    assert [answers[number]["changed"] for number in (1, 3, 5, 6)] == [True, True, True, False]
    assert [one["file"] for one in answers[7]["copies"]] == [f"nightly-server1-179000000{number}" for number in range(3)]
    assert answers[8]["removed_copies"] == answers[8]["removed"] == ["nightly-server1-1790000000", "nightly-server1-1790000001"]
    assert [one["file"] for one in answers[9]["copies"]] == ["nightly-server1-1790000002"]
    assert "is not one of those allowed" in answers[10]["msg"]
    assert server.secret_key not in done.stdout and "X-Amz-Signature" not in done.stdout
    sent = list((tmp_path / "remote").rglob("AnsiballZ_*"))
    assert len(sent) > len(tasks), "each module leaves what was sent to the node"
    for path in sent:
        subprocess.run([sys.executable, str(path), "explode"], check=True, capture_output=True)
    arguments = "".join(path.read_text() for path in (tmp_path / "remote").rglob("args"))
    assert "X-Amz-Signature" in arguments and server.secret_key not in arguments
