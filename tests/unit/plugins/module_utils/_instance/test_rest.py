# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud that is broken, or that means harm, costs a run its success: no traceback, no memory, no time without end."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
import zlib

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance import rest
from ansible_collections.nordic.gitops.plugins.module_utils._instance.openstack import OpenStack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


class Cloud(http.server.BaseHTTPRequestHandler):
    """An identity service as it has to be, and whatever server.said writes for every other request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path.startswith("/v3/auth"):
            place = {"interface": "public", "region": "oslo", "region_id": "oslo"}
            catalog = [{"type": kind, "id": kind, "name": kind, "endpoints": [{**place, "id": kind, "url": f"{here}/{kind}"}]}
                       for kind in ("compute", "network", "image")]
            token = {"token": {"methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z",
                               "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
                               "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}}, "roles": [], "catalog": catalog}}
            self.send(json.dumps(token).encode(), 201, X_Subject_Token="token")
        elif self.path.rstrip("/") in ("", "/v3"):
            version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{here}/v3/"}]}
            self.send(json.dumps({"version": version} if self.path.startswith("/v3") else {"versions": {"values": [version]}}).encode())
        else:
            self.server.asked += 1
            try:
                self.server.said(self)
            except OSError:
                self.close_connection = True

    do_POST = do_PUT = do_DELETE = do_GET

    def send(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def cloud():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cloud) as server:
        server.daemon_threads, server.block_on_close, server.asked = True, False, 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        auth = {"auth_url": f"http://127.0.0.1:{server.server_address[1]}/v3", "username": "u", "password": "open-sesame", "project_name": "p",
                "user_domain_id": "default", "project_domain_id": "default"}
        server.access = {"auth": auth, "region": "oslo", "timeout": 10}
        yield server
        server.shutdown()


def test_pages_without_end_come_to_an_end(cloud, monkeypatch):
    monkeypatch.setattr(rest, "PAGES", 5)
    cloud.said = lambda asked: asked.send(json.dumps({"flavors": [{"id": str(cloud.asked)}], "flavors_links": [{"rel": "next"}]}).encode())
    with pytest.raises(Failure, match="the list of flavors has no end"):
        list(rest.Rest(cloud.access).every("compute", "/flavors", "flavors"))
    assert cloud.asked == 6
    cloud.said = lambda asked: asked.send(json.dumps({"flavors": [{"id": "again"}], "flavors_links": [{"rel": "next"}]}).encode())
    with pytest.raises(Failure, match="the list of flavors has no end"):
        list(rest.Rest(cloud.access).every("compute", "/flavors", "flavors"))


def test_a_small_answer_that_unfolds_fills_no_memory(cloud, monkeypatch):
    monkeypatch.setattr(rest, "MAX_ANSWER", 1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b'{"a": "' + b"a" * (64 << 20)) + packer.flush()
    cloud.said = lambda asked: asked.send(bomb, Content_Encoding="gzip")
    with pytest.raises(Failure, match="the answer is too long"):
        rest.Rest(cloud.access).get("compute", "/flavors")


def test_an_answer_that_comes_byte_by_byte_is_given_up_on(cloud, monkeypatch):
    def drip(asked):
        asked.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        for _byte in range(100_000):
            asked.wfile.write(b" ")
            time.sleep(0.0005)

    monkeypatch.setattr(rest, "PATIENCE", 0.1)
    monkeypatch.setattr(rest, "PACE", 1 << 20)
    cloud.said = drip
    with pytest.raises(Failure, match="the answer comes too slowly"):
        rest.Rest(cloud.access).get("compute", "/flavors")


def test_what_a_cloud_says_forges_no_line_and_moves_no_cursor(cloud):
    said = "no\x1b[2J\r\nfatal: [web1]: FAILED!\u2028\x9bA"
    for body in (json.dumps({"forbidden": {"message": said}}).encode(), said.encode(), b"[" * 100_000):
        cloud.said = lambda asked, body=body: asked.send(body, 403)
        with pytest.raises(Failure, match="HTTP 403") as told:
            rest.Rest(cloud.access).get("compute", "/flavors")
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", str(told.value)) and len(str(told.value)) < 1000


ANY = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4)), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["flavors", "images", "servers", "networks", "ports", "id", "name", "links", "metadata", "addresses", "status", "limits", "absolute", "vcpus", "ram",
         "disk", "extra_specs", "zoneName", "availabilityZoneInfo", "security_groups", "keypairs", "keypair", "next", "rel", "flavors_links"]),
        inner, max_size=5)), max_leaves=20)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(ANY, st.sampled_from(["images", "flavors", "networks", "security_groups", "keys", "zones", "limits", "everything"]))
def test_whatever_json_a_cloud_answers_a_caller_gets_a_value_or_a_failure(cloud, answer, method):
    cloud.said = lambda asked: asked.send(json.dumps(answer).encode())
    if not hasattr(cloud, "provider"):
        cloud.provider = OpenStack(cloud.access)
    try:
        getattr(cloud.provider, method)()
    except Failure as failure:
        assert "Traceback" not in str(failure)
