# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of snapshots: where they may go, and what a store can answer."""

from __future__ import annotations

import dataclasses
import http.server
import socketserver
import threading
import tracemalloc

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import s3

PARAMS = {"endpoint": "https://s3.no-osl-1.example.no", "bucket": "snapshots", "region": "no-osl-1", "allowed_regions": None, "folder": "/production/",
          "signed": None, "ca_path": None, "allow_http": False, "timeout": 60}


def test_a_region_that_is_not_allowed_is_refused_by_its_name():
    with pytest.raises(Refused, match="region us-east-1 is not one of those allowed: no-osl-1, no-bgo-1"):
        s3.Store.of({**PARAMS, "region": "us-east-1", "allowed_regions": ["no-osl-1", "no-bgo-1"]})


def test_an_empty_list_of_regions_allows_none():
    with pytest.raises(Refused, match="allowed: none"):
        s3.Store.of({**PARAMS, "allowed_regions": []})


def test_plain_http_is_refused_unless_it_is_asked_for():
    with pytest.raises(Refused, match="clear text"):
        s3.Store.of({**PARAMS, "endpoint": "http://10.0.0.1:9000"})
    assert s3.Store.of({**PARAMS, "endpoint": "http://10.0.0.1:9000", "allow_http": True}).endpoint == "http://10.0.0.1:9000"


@pytest.mark.parametrize("endpoint", ["s3.example.no", "ftp://s3.example.no", "https://", "https://s3.example.no/bucket", "https://u:p@s3.example.no"])
def test_an_endpoint_that_is_none_is_told(endpoint):
    with pytest.raises(Failure, match="endpoint"):
        s3.Store.of({**PARAMS, "endpoint": endpoint})


def test_a_store_shows_no_signed_url():
    request = s3.request("HEAD")
    store = s3.Store.of({**PARAMS, "signed": {s3.label(request): "https://hush"}})
    assert store.sign(request) == "https://hush" and "hush" not in repr(store) + str(store)
    assert str(store) == "https://s3.no-osl-1.example.no/snapshots/production"


def test_a_server_that_is_not_there_is_tried_again_and_then_told():
    pauses = []
    store = s3.Store("https://127.0.0.1:1", "b", "r", "", lambda request: "https://127.0.0.1:1/b", timeout=1, sleep=pauses.append)
    with pytest.raises(Failure, match="refused"):
        store.list()
    assert pauses == [0.5, 1.0, 2.0, 4.0]


# ---- a server that is none, or that means harm


class Answers(socketserver.StreamRequestHandler):
    """Says the next of server.said to each request, the last one again and again: raw bytes, or a function that writes."""

    def handle(self):
        while self.rfile.readline().strip():
            pass
        said = self.server.said.pop(0) if len(self.server.said) > 1 else self.server.said[0]
        try:
            said(self.wfile) if callable(said) else self.wfile.write(said)
        except OSError:
            pass


@pytest.fixture
def hostile(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads, server.said = True, []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.store = s3.Store.of({**PARAMS, "endpoint": f"http://127.0.0.1:{server.server_address[1]}", "allow_http": True, "timeout": 10})
        url = f"{server.store.endpoint}/snapshots?X-Amz-Signature=hush"
        server.store = dataclasses.replace(server.store, sign=lambda request: url, sleep=lambda seconds: None)  # fake: the clock
        yield server
        server.shutdown()


def answer(body, status="200 OK", length=None):
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def page(*keys, size="1", truncated=False):
    more = "<IsTruncated>true</IsTruncated>" if truncated else ""
    return f"<L>{''.join(f'<Contents><Key>{key}</Key><Size>{size}</Size></Contents>' for key in keys)}{more}</L>".encode()


BOMB = b'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 16) for n in range(8)) + b"]><L><Contents><Key>&i;</Key></Contents></L>"


@pytest.mark.parametrize("said, words", [
    (answer(page("production/a", truncated=True)), "the list of objects has no end"),
    (answer(BOMB), "is not XML"),
    (answer(BOMB.decode().encode("utf-16")), "is not XML"),
    (answer(b"<?xml version='1.0' encoding='nothing'?><L/>"), "is not XML"),
    (answer(b"<a>" * 100_000), "is not XML"),
    (answer(b"\xff\xfe"), "is not XML"),
    (answer(page("production/a", size="many")), "where a size should be"),
    (answer(page("production/a", size="\u00b2")), "where a size should be"),
    (answer(page("production/a", size="9" * 5000)), "where a size should be"),
    (answer(b"x", length=5), "GET failed|is not XML"),
    (b"SSH-2.0-OpenSSH_9\r\n\r\n", "GET failed"),
    (b"", "GET failed"),
    (answer(BOMB, "400 Bad Request"), "HTTP 400"),
    (answer(b"<Error><Code>A</Code></Error>", "403 Forbidden", length=10**9), "GET failed: (HTTP 403|A)"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "GET failed"),
])
def test_whatever_a_store_answers_to_a_list_is_told_in_a_sentence(hostile, said, words):
    hostile.said = [said]
    with pytest.raises(Failure, match=words) as told:
        hostile.store.list()
    assert "hush" not in str(told.value)


def test_what_the_controller_has_not_signed_is_asked_of_it_before_anything_is_sent():
    store = s3.Store.of({**PARAMS, "endpoint": "https://127.0.0.1:1"})
    with pytest.raises(s3.Unsigned) as told:
        store.prepare(s3.requests_of_put("a-1", {"node": "server1"}))
    assert told.value.requests == [s3.request("HEAD", "a-1"), s3.request("HEAD"), s3.request("PUT", "a-1", metadata={"node": "server1"}), s3.request("GET")]
    with pytest.raises(s3.Unsigned):
        store.list()


def test_a_list_of_several_answers_is_asked_for_after_the_last_name_of_each(hostile):
    asked = []
    store = dataclasses.replace(hostile.store, sign=lambda request: asked.append(request["after"]) or hostile.store.sign(request))
    hostile.said = [answer(page("production/a", "production/c", truncated=True)), answer(page("production/d"))]
    assert [item.name for item in store.list()] == ["a", "c", "d"] and sorted(set(asked)) == ["", "production/c"]


def test_a_key_of_another_folder_is_no_object_of_this_one(hostile):
    hostile.said = [answer(page("production/a", "elsewhere/../../x", "production/"))]
    assert [item.name for item in hostile.store.list()] == ["a"]


def endless(file):
    file.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        file.write(b"x" * (1 << 16))


def test_an_answer_without_end_fills_no_memory_and_no_disk(hostile, tmp_path, monkeypatch):
    hostile.said = [endless]
    tracemalloc.start()
    try:
        with pytest.raises(Failure, match="the store sends more than 8 MiB"):
            hostile.store.list()
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(s3, "MAX_OBJECT", 4 << 20)
    with pytest.raises(Failure, match="the store sends more than 4 MiB"):
        hostile.store.get("a", str(tmp_path / "a"))
    assert (tmp_path / "a").stat().st_size <= 4 << 20


def test_an_answer_that_comes_byte_by_byte_is_given_up_on(hostile, monkeypatch):
    def drip(file):
        file.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _byte in range(10_000):
            file.write(b"x")
            threading.Event().wait(0.01)

    monkeypatch.setattr(s3, "PATIENCE", 0.1)
    hostile.said = [drip]
    with pytest.raises(Failure, match="the store answers too slowly"):
        hostile.store.list()


@pytest.mark.parametrize("length", ["many", "-1", "9" * 40])
def test_a_size_that_is_none_is_told(hostile, length):
    hostile.said = [answer(b"", length=length)]
    with pytest.raises(Failure, match="where a size should be|HEAD failed"):
        hostile.store.head("a")
