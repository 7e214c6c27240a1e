# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, name servers, MTU, endpoints and ports: real sockets where there is something to ask, values where there is something to judge."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import endpoints, network, ports
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.endpoints import Endpoint, Heard
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.network import Answer
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import PeerResult
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.ports import Port
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import CNIS, Profile
from machines import lay_out


@pytest.mark.parametrize(("name", "good"), [
    ("server1", True), ("node-1.oslo.example.no", True), ("Server1.Lab.example", True), ("node_1", False), ("-node", False), ("localhost", False),
    ("localhost.localdomain", False), ("", False), ("a" * 64, False), ("a..b", False)])
def test_a_host_name_is_one_that_kubernetes_takes(name, good):
    assert (network.name(name).verdict == "pass") is good


@pytest.mark.parametrize(("found", "given", "registered"), [
    ("Server1", "", "server1"), ("node_1", "Node-1", "node-1"), ("node_1", "", None), ("a", "b_c", None)])
def test_the_name_that_is_judged_is_the_one_that_k3s_registers(found, given, registered):
    finding = network.name(found, given)
    assert (finding.verdict, finding.value) == (("pass", registered) if registered else ("fail", given or found))


# ---- MTU


def met(mtu, promised=1500, silence=""):
    return PeerResult("other", "10.0.0.2", {}, mtu=mtu, promised=promised, silence=silence)


@pytest.mark.parametrize(("peers", "verdict"), [
    ([met(1500)], "pass"), ([met(9000, 9000)], "pass"), ([met(1450)], "fail"), ([met(1500), met(1400)], "fail"), ([met(1280, 1280)], "fail"),
    ([met(None, silence="nothing comes back")], "warn"), ([], "not applicable"),
])
def test_a_path_that_carries_less_than_the_interfaces_promise_is_refused(peers, verdict):
    finding = network.mtu(peers)
    assert finding.verdict == verdict
    if verdict == "fail" and peers[-1].mtu < 1450:
        assert str(peers[-1].mtu) in finding.value


# ---- DNS


@contextlib.contextmanager
def name_server(number, answers=True):
    """A socket on port 53 of a loopback address of its own."""
    address = f"127.{os.getpid() % 250 + 1}.{number}.53"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((address, 53))
        one.settimeout(5)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    data, sender = one.recvfrom(512)
                    if answers:
                        # REFUSED is an answer: the server is there.
                        one.sendto(data[:2] + struct.pack(">H", 0x8185) + data[4:], sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield address


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 is root's")
def test_a_name_server_that_answers_anything_is_there_and_a_silent_one_is_not(monkeypatch):
    monkeypatch.setattr(network, "DNS_TIMEOUT", 0.2)
    with name_server(1) as address:
        assert network.ask(address).seconds is not None
    with name_server(2, answers=False) as address:
        assert network.ask(address).trouble == "no answer in 0 s, asked 2 times"
    assert network.ask("127.77.77.77").trouble == "Connection refused"


@pytest.mark.parametrize(("answers", "verdict"), [
    ((Answer("10.0.0.53", 0.01),), "pass"), ((Answer("10.0.0.53", 0.01), Answer("10.0.0.54", None, "no answer")), "fail"), ((), "warn"),
    ((Answer("10.0.0.53", 0.9),), "warn"), ((Answer("127.0.0.53", 0.01),), "warn"), (tuple(Answer(f"10.0.0.{n}", 0.01) for n in range(4)), "warn"),
])
def test_name_servers_are_judged_as_pods_will_meet_them(answers, verdict):
    assert network.dns("/etc/resolv.conf", answers).verdict == verdict


def test_behind_systemd_resolved_its_upstream_servers_count_as_for_k3s(tmp_path):
    stub = {"etc/resolv.conf": "# stub\nnameserver 127.0.0.53\noptions edns0\n"}
    assert network.nameservers(lay_out(tmp_path / "a", stub)) == ("/etc/resolv.conf", ("127.0.0.53",))
    upstream = {**stub, "run/systemd/resolve/resolv.conf": "nameserver 10.0.0.53\nsearch example.no\n"}
    assert network.nameservers(lay_out(tmp_path / "b", upstream)) == ("/run/systemd/resolve/resolv.conf", ("10.0.0.53",))


# ---- endpoints


@pytest.mark.parametrize(("address", "shown"), [
    ("fix.example.no:443", "tcp fix.example.no:443"), ("tcp://10.0.0.1:9878", "tcp 10.0.0.1:9878"), ("[2001:db8::1]:443", "tcp [2001:db8::1]:443"),
    ("icmp://10.0.0.1", "icmp 10.0.0.1"), ("icmp://2001:db8::1", "icmp 2001:db8::1"),
])
def test_an_endpoint_is_read(address, shown):
    assert str(Endpoint.of({"name": "x", "address": address, "limit": 5})) == shown


@pytest.mark.parametrize("address", ["fix.example.no", "https://fix.example.no", "host:port", "host:0", "host:70000", "", "2001:db8::1:443", "icmp://",
                                     "a b:1"])
def test_an_address_that_is_none_is_refused_with_how_to_write_it(address):
    with pytest.raises(Failure) as failure:
        Endpoint.of({"name": "exchange", "address": address, "limit": 5})
    assert "endpoints: exchange" in str(failure.value)
    assert "HOST:PORT" in str(failure.value) or "1 to 65535" in str(failure.value)


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(Failure):
        Endpoint.of({"name": "x", "address": "a:1", "limit": 0})


@pytest.fixture
def endpoint():
    """A TCP server of this machine."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(64)
        yield Endpoint("near", "127.0.0.1", one.getsockname()[1], 100.0)


def test_a_tcp_endpoint_is_asked_twenty_times_and_a_closed_one_is_told(endpoint):
    (near, closed) = endpoints.listen_to([endpoint, Endpoint("gone", "127.0.0.1", 1, 5.0)])
    assert len(near.times) == near.asked == 20 and near.loss == 0
    finding = endpoints.judge([near, closed])
    assert finding.verdict == "fail"
    assert finding.evidence[0] == "gone (tcp 127.0.0.1:1): Connection refused"
    assert finding.data["endpoints"][0]["median_ms"] <= finding.data["endpoints"][0]["p95_ms"]
    assert endpoints.judge([near]).verdict == "pass"


def test_a_name_that_nobody_knows_is_told_as_such():
    (heard,) = endpoints.listen_to([Endpoint("x", "no-such-name.invalid", 443, 5.0)])
    assert "the name is not known" in endpoints.judge([heard]).evidence[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets are root's")
def test_an_endpoint_is_asked_by_icmp():
    (heard,) = endpoints.listen_to([Endpoint("self", "127.0.0.1", None, 100.0)])
    assert len(heard.times) == 20, heard
    assert endpoints.judge([heard]).verdict == "pass"


def test_the_checksum_is_that_of_rfc_1071():
    """Its own example, and odd lengths."""
    assert endpoints.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert endpoints.checksum(b"\x01") == endpoints.checksum(b"\x01\x00")


@pytest.mark.parametrize(("times", "asked", "verdict"), [
    ((1.0,) * 20, 20, "pass"), ((6.0,) * 20, 20, "fail"), ((1.0,) * 17 + (9.0,) * 3, 20, "warn"), ((1.0,) * 18, 20, "warn"), ((1.0,) * 19, 20, "pass"),
    ((), 3, "fail"), ((5.0,) * 20, 20, "fail"),
])
def test_an_endpoint_is_judged_by_its_median_its_tail_and_its_loss(times, asked, verdict):
    assert endpoints.judge([Heard(Endpoint("x", "h", 1, 5.0), times, asked, "lost")]).verdict == verdict


def test_without_endpoints_there_is_nothing_to_judge():
    assert endpoints.judge([]).verdict == "not applicable"


# ---- ports


def numbers(found):
    return {str(port) for port in found}


def test_what_a_node_listens_on_and_must_reach_follows_from_its_profile():
    server, agent = Profile(), Profile("agent")
    assert numbers(ports.shared_ports(server)) == {"6443/tcp", "2379/tcp", "2380/tcp", "10250/tcp", "8472/udp"}
    assert numbers(ports.shared_ports(agent)) == {"10250/tcp", "8472/udp"}
    assert numbers(ports.reachable_ports(agent, server)) == {"6443/tcp", "10250/tcp", "8472/udp"}
    assert numbers(ports.reachable_ports(server, agent)) == {"10250/tcp", "8472/udp"}
    assert "2380/tcp" in numbers(ports.reachable_ports(server, server))
    external = Profile(datastore="external")
    assert not {"2379/tcp", "2380/tcp", "2381/tcp"} & numbers(ports.own_ports(external))
    assert numbers(ports.shared_ports(Profile("agent", "flannel-wireguard"))) == {"10250/tcp", "51820/udp"}
    assert "4240/tcp" in numbers(ports.shared_ports(Profile("agent", "cilium")))
    assert "4789/udp" in numbers(ports.shared_ports(Profile("agent", "calico")))


@pytest.mark.parametrize("cni", CNIS)
def test_every_shared_port_is_reached_by_somebody_and_every_reached_one_is_listened_on(cni):
    for role in ("server", "agent"):
        listening = Profile(role, cni)
        reached = set()
        for asking in (Profile("server", cni), Profile("agent", cni)):
            reached |= numbers(ports.reachable_ports(asking, listening))
        assert reached == numbers(ports.shared_ports(listening))


LISTENS = "import socket, sys; one = socket.create_server(('127.0.0.1', 0)); print(one.getsockname()[1], flush=True); sys.stdin.read()"


def test_a_port_that_is_held_is_found_with_its_holder():
    # A process of its own: a socket of this one lives on, for a moment, in whatever another thread of the test run forks before it execs.
    with subprocess.Popen([sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = Port(int(process.stdout.readline()), "tcp", "x", lambda profile: True, lambda profile: True)
        held = ports.in_use(Machine(), [port])
        comm = pathlib.Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8").strip()
    assert held == {str(port): f"{comm} (pid {process.pid})"}
    assert ports.in_use(Machine(), [port]) == {}


def test_a_socket_of_the_kernel_has_no_process(tmp_path):
    line = "  0: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0000000000000000 0\n"
    machine = lay_out(tmp_path, {"proc/net/udp": "head\n" + line})
    assert ports.holder(machine, Port(8472, "udp", "x", lambda profile: True, lambda profile: True)) == ports.KERNEL


@pytest.mark.parametrize(("held", "verdict"), [
    ({}, "pass"),
    ({"6443/tcp": "k3s-server (pid 7)", "10010/tcp": "containerd (pid 9)", "8472/udp": "the kernel"}, "pass"),
    ({"6443/tcp": "haproxy (pid 7)"}, "fail"),
    ({"6443/tcp": "k3s-server (pid 7)", "10250/tcp": "python3 (pid 8)"}, "fail"),
    ({"6443/tcp": "the kernel"}, "fail"),
    ({"10250/tcp": "kubelet (pid 7)"}, "fail"),
    ({"2379/tcp": "etcd (pid 7)"}, "fail"),
    ({"6443/tcp": "containerd (pid 7)"}, "fail"),
])
def test_a_port_held_by_the_cluster_itself_is_no_finding_and_by_anybody_else_it_is(held, verdict):
    finding = ports.free(held, Profile())
    assert finding.verdict == verdict
    if verdict == "fail":
        assert finding.evidence[0].split(" is held by ")[1].split()[0] in held["6443/tcp" if "6443/tcp" in held and len(held) == 1 else list(held)[-1]]


def test_a_running_node_says_so():
    assert ports.free({"6443/tcp": "k3s-server (pid 7)"}, Profile()).value == "13 free, 1 held by this node's own k3s"


@pytest.mark.parametrize(("outcomes", "verdict"), [
    ({"6443/tcp": "open", "10250/tcp": "runs"}, "pass"),
    ({"6443/tcp": "no answer in 2 s: dropped on the way"}, "fail"),
    ({"6443/tcp": "runs", "8472/udp": "unprobed: the kernel has it"}, "pass"),
    ({"8472/udp": "unprobed: the kernel has it"}, "warn"),
])
def test_reachable_is_open_or_in_use_and_what_could_not_be_tried_is_said(outcomes, verdict):
    finding = ports.reachable([("other", "10.0.0.2", outcomes)])
    assert finding.verdict == verdict
    assert finding.evidence


def test_alone_there_is_nobody_to_reach():
    assert ports.reachable([]).verdict == "not applicable"
