# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s' helpers for etcd against a real etcd, arranged as k3s arranges its own; and for the API against a real API server."""

from __future__ import annotations

import contextlib
import http.server
import os
import random
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import health, membership
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import Api, ApiFailure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.database import recorded_members
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Etcd, EtcdFailure, admit, wait_until
from lab.certificates import Authority
from lab.cluster import Cluster
from lab.etcdmembers import EtcdMembers
from lab.proxy import DEAF, DROP, status

ONE, TWO, THREE = "one-0badcafe", "two-0badcafe", "three-0badcafe"


def asked_at(members: EtcdMembers, name: str, timeout: float = 5.0) -> Etcd:
    """As k3s: the gateway's own port first. 2382 of the k3s node is a port of the lab's here."""
    member = members.members[name]
    return Etcd(str(members.folder), (member.http, member.grpc), timeout)


def settle(etcd: Etcd, question, seconds: float = 20) -> str:
    def ask() -> str:
        try:
            return question(etcd.view())
        except EtcdFailure as failure:
            return str(failure)

    return wait_until(ask, seconds, time.sleep, time.monotonic, 0.1)


@pytest.fixture
def three():
    with EtcdMembers(3) as members:
        for name in members.members:
            assert settle(asked_at(members, name), lambda view: view.trouble()) == ""
        yield members


def test_every_member_sees_the_same_cluster_and_itself(three):
    views = [asked_at(three, name).view() for name in three.members]
    assert {frozenset(member.name for member in view.members) for view in views} == {frozenset((ONE, TWO, THREE))}
    assert [view.own.name for view in views] == [ONE, TWO, THREE]
    assert len({view.leader for view in views}) == 1 and views[0].quorum == 2
    assert [view.may_stop() for view in views] == ["", "", ""]
    assert views[0].version.startswith("3.") and views[0].db_size > 0


def test_a_dead_member_is_seen_at_once_and_forbids_that_another_stops(three):
    three.kill(TWO)
    begun = time.monotonic()
    assert settle(asked_at(three, ONE), lambda view: "" if view.may_stop() else "nothing seen yet") == ""
    assert time.monotonic() - begun < 10
    view = asked_at(three, ONE).view()
    assert TWO in view.trouble() and TWO in view.may_stop()
    assert view.may_stop(view.member(TWO)) == ""
    three.start(TWO)
    assert settle(asked_at(three, ONE), lambda view: view.trouble()) == ""
    assert asked_at(three, ONE).view().may_stop() == ""


def test_a_member_that_hangs_is_no_healthy_one(three):
    three.freeze(TWO)
    assert settle(asked_at(three, ONE), lambda view: "" if TWO in view.trouble() else "nothing seen yet") == ""
    with pytest.raises(EtcdFailure, match="timed out after 1 s"):
        asked_at(three, TWO, timeout=1).view()


def test_without_a_quorum_there_is_no_view(three):
    three.kill(TWO)
    three.kill(THREE)
    with pytest.raises(EtcdFailure) as caught:
        while True:  # the killed ones' last answers may still count for a moment
            asked_at(three, ONE, timeout=10).view()
    assert caught.value.no_quorum


def test_the_database_on_disk_names_the_members_whether_etcd_runs_or_not(three):
    path = three.folder / ONE / "member/snap/db"

    def known():
        return {(member.id, member.name, member.peer_urls, member.learner) for member in recorded_members(str(path))}

    asked = {(member.id, member.name, member.peer_urls, member.learner) for member in asked_at(three, ONE).members()}
    assert wait_until(lambda: "" if known() == asked else "not written yet", 20, time.sleep, time.monotonic) == ""
    three.add_learner("four-0badcafe")
    assert wait_until(lambda: "" if len(known()) == 4 else "not written yet", 20, time.sleep, time.monotonic) == ""
    three.kill(ONE)
    assert sorted((name, learner) for _number, name, _urls, learner in known()) == [("", True), (ONE, False), (THREE, False), (TWO, False)]
    # And who of them lives.
    etcd = asked_at(three, TWO)
    assert {member.name for member in recorded_members(str(path)) if etcd.answers(member)} == {TWO, THREE}


def test_a_database_that_is_cut_short_or_damaged_is_told_in_a_sentence(three, tmp_path):
    three.kill(ONE)
    data = (three.folder / ONE / "member/snap/db").read_bytes()
    damaged = tmp_path / "db"
    for content in (b"", b"no database", data[:100], data[:8192], data[:4096] * 20, b"\0" * len(data)):
        damaged.write_bytes(content)
        with pytest.raises(Failure, match="is not a database of etcd, or is damaged"):
            recorded_members(str(damaged))
    chance = random.Random(3)
    for _round in range(200):
        content = bytearray(data)
        for _byte in range(chance.randrange(1, 40)):
            anywhere, in_a_header = chance.randrange(len(content)), 4096 * chance.randrange(len(content) // 4096) + chance.randrange(64)
            content[chance.choice((anywhere, in_a_header))] = chance.randrange(256)
        damaged.write_bytes(content)
        with contextlib.suppress(Failure):  # and no other error
            assert {member.name for member in recorded_members(str(damaged))}
    with pytest.raises(Failure, match="cannot be read: No such file"):
        recorded_members(str(tmp_path / "none"))


def test_leadership_moves_to_the_member_that_is_asked_for(three):
    view = asked_at(three, ONE).view()
    leader, other = view.leader, view.best_leader(view.leader)
    asked_at(three, leader.name).move_leader(other)
    assert settle(asked_at(three, ONE), lambda view: "" if view.leader == other else "not yet") == ""


def test_only_the_leader_moves_leadership(three):
    view = asked_at(three, ONE).view()
    follower = view.best_leader(view.leader)
    with pytest.raises(EtcdFailure, match="not leader"):
        asked_at(three, follower.name).move_leader(follower)


def test_a_lost_member_is_removed(three):
    three.kill(THREE)
    etcd = asked_at(three, ONE)
    # etcd itself refuses for the first seconds, as its own strict reconfiguration check wants.
    assert settle(etcd, lambda view: "" if THREE in view.trouble() else "nothing seen yet") == ""
    etcd.remove(etcd.view().member(THREE))
    view = etcd.view()
    assert {member.name for member in view.members} == {ONE, TWO} and "needs 2" in view.may_stop()


def test_a_learner_is_no_voter_and_answers_no_questions(three):
    three.add_learner("four-0badcafe")
    view = asked_at(three, ONE).view()
    assert [member.name for member in view.learners] == [""] and len(view.voters) == 3 and "learner" in view.may_stop()
    three.start("four-0badcafe")
    three.wait("four-0badcafe")
    with pytest.raises(EtcdFailure) as caught:
        while True:
            asked_at(three, "four-0badcafe").view()
    assert caught.value.learner


def test_a_learner_that_caught_up_is_a_voter_at_once(three):
    three.add_learner("four-0badcafe")
    three.start("four-0badcafe")
    begun = time.monotonic()
    assert admit(asked_at(three, ONE), 4, time.sleep, time.monotonic)
    assert time.monotonic() - begun < 10, "k3s itself looks every 15 s"
    view = asked_at(three, ONE).view()
    assert len(view.voters) == 4 and not view.learners


def test_a_learner_that_never_starts_is_waited_for_in_vain_and_not_promoted(three):
    three.add_learner("four-0badcafe")
    begun = time.monotonic()
    assert not admit(asked_at(three, ONE), 4, time.sleep, time.monotonic, quiet=1.5)
    assert time.monotonic() - begun >= 1.5
    assert len(asked_at(three, ONE).view().learners) == 1


def test_nothing_is_waited_for_where_the_voters_are_there(three):
    assert admit(asked_at(three, ONE), 3, pytest.fail, time.monotonic)


def test_a_server_without_embedded_etcd_says_so(tmp_path):
    with pytest.raises(EtcdFailure, match="without embedded etcd"):
        Etcd.of_node(str(tmp_path))


def test_nothing_that_answers_is_said_with_the_place(three):
    three.kill(ONE)
    with pytest.raises(EtcdFailure, match=rf"127.0.0.1:{three.members[ONE].http}.*refused"):
        asked_at(three, ONE).view()


@pytest.fixture
def local(cluster, tmp_path):
    return api_of(cluster, tmp_path)


def api_of(cluster, tmp_path):
    """By the data folder of a k3s server whose API server is the lab's."""
    certificate, key = Authority(cluster.state / "pki").client("k3s-admin", ["system:masters"])
    folder = tmp_path / "server" / "cred"
    folder.mkdir(parents=True)
    entries = {"server": cluster.url, "certificate-authority": cluster.ca_file, "client-certificate": certificate, "client-key": key}
    (folder / "admin.kubeconfig").write_text("".join(f"    {key}: {value}\n" for key, value in entries.items()), encoding="utf-8")
    return Api.of_node(str(tmp_path))


def test_the_api_server_of_the_node_is_asked(local):
    assert local.ready() == ""
    nodes = local.nodes()
    assert nodes and all(node.ready for node in nodes)
    assert local.node(nodes[0].name) == replace(nodes[0]) and local.node("nobody") is None


def test_a_refusal_carries_the_servers_words(local):
    with pytest.raises(ApiFailure) as caught:
        local.do("POST", "/api/v1/namespaces", {"metadata": {"name": "Not_A_Name"}})
    assert caught.value.status == 422 and "Not_A_Name" in caught.value.what


def test_a_connection_that_the_server_closed_is_opened_again(local):
    local.ready()
    local._connection.sock.shutdown(socket.SHUT_RDWR)
    assert local.nodes()


def test_services_follow_their_pods_where_controllers_are_at_work_and_the_question_leaves_nothing(cluster, local, tmp_path):
    asked = membership.Cluster(local, None, str(tmp_path), "k3s")
    assert membership.services_follow(asked) == ""
    services = local.do("GET", "/api/v1/namespaces/kube-system/services?labelSelector=nordic.gitops/probe")["items"]
    assert services == []


@pytest.mark.parametrize("fault", [status(503, retry_after=1), status(429), status(504), DROP, DEAF], ids=str)
def test_a_question_is_asked_again_of_a_server_that_is_too_busy_for_it(cluster, fault_proxy, fault):
    certificate, key = Authority(cluster.state / "pki").client("k3s-admin", ["system:masters"])
    slept = []

    def answered(verb, times, **options):
        """Whether the server itself answers, after so many faults: it does not know who asks, as the proxy passes no certificate on."""
        fault_proxy.script(*[fault] * times)
        with pytest.raises(ApiFailure) as caught:
            api = Api(fault_proxy.url, fault_proxy.ca_file, str(certificate), str(key), 1, sleep=slept.append, **options)
            api.do(verb, "/version", None if verb == "GET" else {})
        fault_proxy.script()
        return caught.value.status == 401

    assert answered("GET", 2) and len(slept) == 2
    assert not answered("GET", 3)
    # What changes something is sent once, and who asks in a loop of its own asks once.
    assert not answered("POST", 1) and not answered("GET", 1, attempts=1)


class Healthy(http.server.BaseHTTPRequestHandler):
    """A kubelet that is well."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_words):
        pass


def test_a_node_is_not_up_on_the_word_of_the_kubelet_that_ended(local, tmp_path, monkeypatch):
    name = local.nodes()[0].name
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as kubelet:
        threading.Thread(target=kubelet.serve_forever, daemon=True).start()
        monkeypatch.setattr(health, "KUBELET", (kubelet.server_address,))
        asked = health.Health("server", str(tmp_path), name)
        assert asked._node() == ""
        asked.remember()
        assert asked._node() == f"the kubelet of {name} has not reported since it was started"
        report(local, name)
        assert asked._node() == ""
        kubelet.shutdown()
    assert "does not answer" in asked._node()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as kubelet:
        threading.Thread(target=kubelet.serve_forever, daemon=True).start()
        monkeypatch.setattr(health, "KUBELET", (kubelet.server_address,))
        assert asked._node() == f"the kubelet of {name} has not reported since it was started"
        report(local, name)
        assert asked._node() == ""
        kubelet.shutdown()


def test_a_kubelet_that_listens_on_the_other_loopback_address_alone_is_asked_there(local, monkeypatch):
    """As on a cluster that knows IPv6 first."""
    with socket.socket() as nobody, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as kubelet:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        threading.Thread(target=kubelet.serve_forever, daemon=True).start()
        monkeypatch.setattr(health, "KUBELET", (nobody.getsockname(), kubelet.server_address))
        assert health.Health._kubelet() == ""
        kubelet.shutdown()
        monkeypatch.setattr(health, "KUBELET", (nobody.getsockname(),))
        assert "refused" in health.Health._kubelet()


def test_with_an_external_datastore_a_server_stops_only_while_another_ones_api_answers(cluster, local, tmp_path):
    """The nodes tell who the other servers are, and the API's endpoints where they answer."""
    address, port = urlsplit(cluster.url).hostname, urlsplit(cluster.url).port

    def objection(name):
        return health.Health("server", str(tmp_path), name, external=True, port=port).objection_to_stop()

    assert objection("alone") == "", "a cluster of one server has no other"
    assert health.is_own(address) and not health.is_own("192.0.2.1") and local.other_answers(address, port) and not local.other_answers(address, 1)
    label = {"node-role.kubernetes.io/control-plane": "true"}
    node = local.do("POST", "/api/v1/nodes", {"metadata": {"name": "server9", "labels": label}})["metadata"]["name"]
    try:
        def lives_at(there):
            local.do("PATCH", f"/api/v1/nodes/{node}/status", {"status": {"addresses": [{"type": "InternalIP", "address": there}]}},
                     "application/strategic-merge-patch+json")

        # The lab gives a new node an address of its own once.
        assert wait_until(lambda: "" if local.node(node).ready else f"{node} is not Ready", 60, time.sleep, time.monotonic, 0.1) == ""
        lives_at("240.0.0.1")  # nobody: a reserved address
        assert "no other server's API answers (server9)" in objection("server1")
        lives_at(address)
        assert objection("server1") == ""
    finally:
        local.do("DELETE", f"/api/v1/nodes/{node}")


def test_labels_and_taints_follow_the_configuration_and_those_of_others_stay(local, tmp_path):
    asked = membership.Cluster(local, None, str(tmp_path), "k3s")
    node = local.do("POST", "/api/v1/nodes", {"metadata": {"name": "marked1", "labels": {"theirs": "x"}},
                                              "spec": {"taints": [{"key": "theirs", "effect": "NoExecute"}]}})["metadata"]["name"]

    def now():
        there = local.do("GET", f"/api/v1/nodes/{node}")
        labels = {key: value for key, value in there["metadata"]["labels"].items() if "kubernetes.io" not in key}
        return labels, sorted(f"{one['key']}={one.get('value', '')}:{one['effect']}" for one in there["spec"].get("taints", [])
                              if "kubernetes.io" not in one["key"])

    try:
        said = membership.mark(asked, node, ["tier=front", "disk=nvme"], ["dedicated=gpu:NoSchedule"], True)
        assert said["changed"] and now() == ({"theirs": "x"}, ["theirs=:NoExecute"])
        assert membership.mark(asked, node, ["tier=front", "disk=nvme"], ["dedicated=gpu:NoSchedule"], False) == said
        assert now() == ({"theirs": "x", "tier": "front", "disk": "nvme"}, ["dedicated=gpu:NoSchedule", "theirs=:NoExecute"])
        assert not membership.mark(asked, node, ["tier=front", "disk=nvme"], ["dedicated=gpu:NoSchedule"], False)["changed"]
        membership.mark(asked, node, ["tier=back"], [], False)
        assert now() == ({"theirs": "x", "tier": "back"}, ["theirs=:NoExecute"])
        membership.mark(asked, node, [], [], False)
        assert now() == ({"theirs": "x"}, ["theirs=:NoExecute"])
        with pytest.raises(Failure, match="is not a taint"):
            membership.mark(asked, node, [], ["dedicated=gpu"], False)
    finally:
        local.do("DELETE", f"/api/v1/nodes/{node}")


def report(local, name):
    """As a kubelet does; the time has whole seconds."""
    time.sleep(1.1)
    ready = {"type": "Ready", "lastHeartbeatTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    local.do("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}}, "application/strategic-merge-patch+json")


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alone"},
       "spec": {"containers": [{"name": "one", "image": "nothing"}], "volumes": [{"name": "room", "emptyDir": {}}]}}


@pytest.mark.parametrize(("force", "rooms", "said"), [(False, True, "nothing would create these pods again"),
                                                      (True, False, "these pods have an emptyDir, which would end with them")])
def test_a_pod_that_a_drain_may_not_evict_is_named_before_anything_is_touched(cluster, local, namespace, tmp_path, force, rooms, said):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    local.do("POST", pods, {**POD, "spec": {**POD["spec"], "nodeName": local.nodes()[0].name}})
    try:
        asked = membership.Cluster(local, None, str(tmp_path), "k3s")
        node = local.nodes()[0].name
        for check_mode in (True, False):
            with pytest.raises(Refused, match=said) as refused:
                membership.drain(asked, node, 5, rooms, force, check_mode)
            assert f"{namespace}/alone" in refused.value.details["held"]
        assert not local.node(node).unschedulable
        assert f"{namespace}/alone" in membership.drain(asked, node, 5, True, True, True)["evicted"]
    finally:
        local.do("DELETE", f"{pods}/alone?gracePeriodSeconds=0")


def test_while_the_controllers_stand_still_a_drain_would_be_too_early(tmp_path):
    with Cluster.start(tmp_path / "own") as own:
        asked = membership.Cluster(api_of(own, tmp_path), None, str(tmp_path), "k3s")
        assert wait_until(lambda: membership.services_follow(asked), 30, time.sleep, time.monotonic) == ""
        manager = next(int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline")
                       if path.read_bytes().startswith(b"/") and f"--cert-dir={own.state}/pki/controller-manager".encode() in path.read_bytes())
        os.kill(manager, signal.SIGSTOP)
        assert "controllers do nothing" in membership.services_follow(asked)
        os.kill(manager, signal.SIGCONT)
        assert wait_until(lambda: membership.services_follow(asked), 30, time.sleep, time.monotonic) == ""
