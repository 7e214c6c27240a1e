# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listener and who asks it, over this machine's loopback: real sockets, a thread for the process."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import stat
import threading
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import peers, ports
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import Peer, Sockets
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.ports import Port
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile
from hypothesis import given
from hypothesis import strategies as st


def everybody(_profile):
    return True


@contextlib.contextmanager
def listener(tmp_path, now=time.time):
    """One TCP and one UDP socket that answer; yields the peer."""
    sockets = Sockets([], [])
    for protocol in ("tcp", "udp"):
        one = ports.bind(Port(0, protocol, "", everybody, everybody), socket.AF_INET)
        one.setblocking(False)
        (sockets.tcp if protocol == "tcp" else sockets.udp).append(one)
    tcp, udp = sockets.tcp[0].getsockname()[1], sockets.udp[0].getsockname()[1]
    peer = Peer("other", "127.0.0.1", Profile(), secrets.token_hex(16), (), {}, tcp, udp, 1500)
    state = tmp_path / "listener.json"
    peers._remember(str(state), peer, socket.AF_INET)
    thread = threading.Thread(target=peers.serve, args=(sockets, peer.nonce, str(state), now), daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        peers.stop(str(state))
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("wrong", [600.0, -600.0, 0.0])
def test_a_clock_that_is_wrong_by_ten_minutes_is_measured_to_the_millisecond(tmp_path, wrong):
    with listener(tmp_path, lambda: time.time() + wrong) as peer:
        skew, uncertainty, rtt = peers._clock(peer.address, peer.extra_tcp, peer.nonce)
    assert abs(skew - wrong) < 0.25 and abs(skew - wrong) <= uncertainty + 0.05
    assert rtt == pytest.approx(2 * uncertainty)


def test_the_path_carries_what_loopback_promises(tmp_path):
    with listener(tmp_path) as peer:
        assert peers.path_mtu(peer.address, peer.extra_udp, peer.nonce, 1500, 0.01) == 1500
        assert peers.path_mtu(peer.address, peer.extra_udp, peer.nonce, 9000, 0.01) == 9000


@given(st.integers(576, 9000), st.integers(576, 9000))
def test_the_largest_packet_is_found_whatever_it_is(carried, promised):
    asked = []

    def passes(size):
        asked.append(size)
        return size <= carried

    assert peers._largest(passes, 576, promised) == min(carried, promised)
    assert len(asked) <= 20


def test_where_nothing_passes_there_is_no_mtu():
    assert peers._largest(lambda size: False, 576, 1500) is None


def test_a_stranger_gets_no_byte_from_a_listener(tmp_path):
    with listener(tmp_path) as peer:
        for word in (b"GET / HTTP/1.1\r\n\r\n", b"0" * 32 + b"\n", peer.nonce.encode() + b" start\n"):
            with socket.create_connection(("127.0.0.1", peer.extra_tcp), timeout=3) as one:
                one.sendall(word)
                with contextlib.suppress(ConnectionResetError):
                    assert one.recv(100) == b""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(0.3)
            one.connect(("127.0.0.1", peer.extra_udp))
            one.send(b"x" * 400)
            with pytest.raises(socket.timeout):
                one.recv(1000)


def test_an_answer_is_never_longer_than_the_question(tmp_path):
    """So nobody can be flooded by a listener."""
    with listener(tmp_path) as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.connect(("127.0.0.1", peer.extra_udp))
        one.send(peer.nonce.encode())
        assert one.recv(1000) == peer.nonce.encode()


def test_a_listener_ends_when_nobody_asks_and_forgets_its_state(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "IDLE", 0.2)
    with listener(tmp_path):
        deadline = time.monotonic() + 10
        while (tmp_path / "listener.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not (tmp_path / "listener.json").exists()


def test_a_listener_ends_when_the_last_of_all_nodes_is_done_with_it_and_not_before(tmp_path):
    with listener(tmp_path) as peer:
        for name in ("a", "b", "a", "b"):
            assert peers._dismiss(peer.address, [peer.extra_tcp], peer.nonce, f"done 3 {name}\n")
            assert peers._clock(peer.address, peer.extra_tcp, peer.nonce)[2] > 0
        assert not peers._dismiss(peer.address, [peer.extra_tcp], "f" * 32, "done 3 c\n")
        assert peers._clock(peer.address, peer.extra_tcp, peer.nonce)[2] > 0
        assert peers._dismiss(peer.address, [peer.extra_tcp], peer.nonce, "done 3 c\n")
        assert not (tmp_path / "listener.json").exists()
        with pytest.raises(OSError):
            peers._clock(peer.address, peer.extra_tcp, peer.nonce)


def test_the_way_to_end_a_listener_is_nobody_elses_to_read(tmp_path):
    with listener(tmp_path):
        assert stat.S_IMODE(os.stat(tmp_path / "listener.json").st_mode) == 0o600


def test_what_lies_where_the_state_belongs_is_not_followed(tmp_path):
    """A link that somebody left there must not make root write elsewhere."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "listener.json").symlink_to(tmp_path / "victim")
    with listener(tmp_path):
        assert (tmp_path / "victim").read_text() == "untouched"


def test_stopping_where_nothing_listens_is_no_error(tmp_path):
    assert peers.stop(str(tmp_path / "nothing.json")) is False
    (tmp_path / "old.json").write_text(json.dumps({"host": "127.0.0.1", "port": 1, "nonce": "x"}))
    assert peers.stop(str(tmp_path / "old.json")) is False
    assert not (tmp_path / "old.json").exists()


# ---- what came of a port


def peer_with(bound=(), held=None, address="127.0.0.1", tcp=1, nonce="0" * 32):
    return Peer("other", address, Profile(), nonce, tuple(bound), held or {}, tcp, 1, 1500)


def test_a_port_whose_listener_answers_is_open(tmp_path):
    with listener(tmp_path) as peer:
        port = Port(peer.extra_tcp, "tcp", "x", everybody, everybody)
        assert peers._try(peer_with([str(port)], tcp=peer.extra_tcp, nonce=peer.nonce), port) == "open"
        datagram = Port(peer.extra_udp, "udp", "x", everybody, everybody)
        assert peers._try(peer_with([str(datagram)], nonce=peer.nonce), datagram) == "open"


def test_a_listener_that_refuses_means_a_firewall_since_it_said_that_it_is_there():
    port = Port(1, "tcp", "x", everybody, everybody)
    assert peers._try(peer_with(["1/tcp"]), port) == "refused though the listener is there: a firewall rejects it"


def test_somebody_else_who_answers_in_the_listeners_place_is_no_success():
    """A proxy or load balancer between the nodes."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = Port(one.getsockname()[1], "tcp", "x", everybody, everybody)

        def greet():
            connection, _address = one.accept()
            with connection:
                connection.sendall(b"220 mail.example.no\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        assert peers._try(peer_with([str(port)]), port) == "something else than this run's listener answers"
        thread.join()


def test_a_port_of_a_running_node_is_tried_and_a_kernels_port_is_not():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = Port(one.getsockname()[1], "tcp", "x", everybody, everybody)
        assert peers._try(peer_with(held={str(port): "k3s-server (pid 7)"}), port) == "runs"
    assert peers._try(peer_with(held={str(port): "k3s-server (pid 7)"}), port).endswith("though k3s-server (pid 7) has it there")
    vxlan = Port(8472, "udp", "x", everybody, everybody)
    assert peers._try(peer_with(held={"8472/udp": "the kernel"}), vxlan).startswith("unprobed: the kernel")


# ---- own addresses, and what travels


def test_this_machine_has_an_address_and_its_interface_an_mtu():
    assert peers.own_mtu(Machine(), "127.0.0.1") == 65536
    address = peers.own_address(Machine())
    assert socket.inet_pton(peers.family_of(address), address)


def test_a_peer_survives_its_way_through_the_controller():
    peer = Peer("a", "10.0.0.1", Profile("agent", "cilium"), "ab" * 16, ("10250/tcp",), {"8472/udp": "the kernel"}, 40000, 40001, 9000)
    assert Peer.of(json.loads(json.dumps(peer.as_dict()))) == peer


@pytest.mark.parametrize("value", [{}, None, "x", {"name": "a"}, {**Peer("a", "h", Profile(), "n", (), {}, 1, 1, 1).as_dict(), "cni": "weave"}])
def test_what_is_no_peer_is_refused_with_what_to_do(value):
    with pytest.raises(Failure, match="Hand on the value `peer`"):
        Peer.of(value)
