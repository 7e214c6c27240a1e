# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A broken or hostile API server costs a run its success and nothing else: no memory, no time without end, no traceback, no secret."""

from __future__ import annotations

import base64
import http.server
import json
import re
import subprocess
import sys
import threading
import time
import zlib

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.answers import Bounds, Budget, parse
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.discovery import Resource
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import Malformed, TooMuch
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import Target, wait
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True, ("get", "list", "watch"))
TOKEN = "sesame-opens-this-door"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.path)
        self.server.answer(self)

    do_POST = do_PATCH = do_DELETE = do_GET

    def send(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    """An HTTP server that answers what a test tells it to: server.answer = lambda handler: handler.send(body)."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as answering:
        answering.daemon_threads, answering.block_on_close = True, False
        answering.asked = []
        answering.url = f"http://127.0.0.1:{answering.server_address[1]}"
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        yield answering
        answering.shutdown()


def client(server, **tuning):
    return Cluster.of({"host": server.url, "api_key": TOKEN}, patience=0.5, **tuning)


def a_list(*items, **metadata):
    return json.dumps({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7", **metadata}, "items": list(items)}).encode()


def config_map(name="a", **more):
    return {"metadata": {"name": name, "namespace": "x", "uid": name, **more}}


PEAK = """
import json, sys
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.discovery import Resource
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
try:
    Cluster.of({"host": sys.argv[1], "api_key": "sesame"}, patience=0.5).list(Resource("", "v1", "ConfigMap", "configmaps", True, ()))
except Failure as failure:
    # Not ru_maxrss: that is inherited from whoever starts a program.
    with open("/proc/self/status") as status:
        print(json.dumps([str(failure), next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))]))
"""


def packed(parts):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(part) for part in parts] + [packer.flush()])


BOMBS = {
    "one long text": [b'{"items": ["', *[b"a" * (1 << 20)] * 900, b'"]}'],
    "empty lists": [b'{"items": [', *[b"[]," * (1 << 20)] * 30, b"[]]}"],
    "empty mappings": [b'{"items": [', *[b"{}," * (1 << 20)] * 30, b"{}]}"],
    "short texts": [b'{"items": [', *[b'"ab",' * (1 << 20)] * 20, b'""]}'],
    "numbers": [b'{"items": [', *[b"1.5," * (1 << 20)] * 30, b"1]}"],
    # One sign that Python needs 4 bytes for makes it keep every sign of that text so.
    "a text with one emoji": [b'{"items": ["', "\U0001f600".encode(), *[b"a" * (1 << 20)] * 127, b'"]}'],
    "a text with one escaped emoji": [b'{"items": ["\\ud83d\\ude00', *[b"a" * (1 << 20)] * 127, b'"]}'],
    "escaped quotes around an emoji": [b'{"items": ["', *[b"a" * (1 << 20)] * 50, b'\\"\\ud83d\\ude00\\"', *[b"a" * (1 << 20)] * 50, b'"]}'],
    "texts with an emoji each": [b'{"items": [', *[b'"\\ud83d\\ude00' + b"a" * 1000 + b'",'] * 120_000, b'""]}'],
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_answer_of_a_few_kib_that_unfolds_fills_no_memory(server, bomb):
    body = packed(BOMBS[bomb])
    assert len(body) < 1 << 20
    server.answer = lambda handler: handler.send(body, Content_Encoding="gzip")
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{PEAK}", server.url], capture_output=True, text=True, check=True)
    message, kib = json.loads(done.stdout)
    assert re.search("has more than 128 MiB|has more values than", message)
    assert kib < 400 * 1024


PAGES = {
    "mappings": lambda page: [config_map(f"name-{number:06}-{page}") for number in range(8000)],
    "mappings of one key": lambda page: [config_map(data={f"k{key}": {"v": f"w{number}-{key}"} for key in range(5)}) for number in range(2000)],
    "texts": lambda page: [config_map(data=[f"t{page}-{number}" for number in range(60_000)])],
    "large texts": lambda page: [config_map(data="a" * 1_000_000)],
    "large texts with an emoji each": lambda page: [config_map(data="\U0001f600" + "a" * 1_000_000)],
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_without_end_fill_no_memory(server, page):
    """What an endless LIST holds until it is refused is kept as Python's values, which take more than the bytes that came."""
    server.answer = lambda handler: handler.send(
        json.dumps(json.loads(a_list(**{"continue": str(len(server.asked))})) | {"items": PAGES[page](len(server.asked))}, ensure_ascii=False).encode())
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{PEAK}", server.url], capture_output=True, text=True, check=True)
    message, kib = json.loads(done.stdout)
    assert re.search("has more than [0-9]+ MiB|has more values than|more than 200 pages", message)
    assert kib < 400 * 1024, (len(server.asked), kib)


@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.text(st.sampled_from('a"\\\u00e9\u2014\U0001f600'), max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)), max_leaves=20), st.booleans())
def test_an_answer_is_read_as_it_is_whatever_signs_it_has(value, escaped):
    data = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass" if escaped else "replace")
    assert parse(data, Budget(Bounds())) == json.loads(data)


@pytest.mark.parametrize("data", [b'"\\\xe2\x80\x94"', b'"\xe2\x80"', b'\xe2\x80\x94', b'"\xff"', b'"a" \xe2\x80\x94'])
def test_signs_where_json_has_none_are_refused(data):
    with pytest.raises(ValueError):
        parse(data, Budget(Bounds()))


def test_pages_that_come_slowly_without_end_come_to_an_end(server):
    def answer(handler):
        time.sleep(0.1)
        handler.send(a_list(config_map(), **{"continue": str(len(server.asked))}))

    server.answer = answer
    with pytest.raises(TooMuch, match="the pages of a LIST come too slowly"):
        client(server, bounds=Bounds(pause=0.5, pace=1_000_000)).list(CONFIG_MAPS)
    assert len(server.asked) <= 6


@pytest.mark.full
@pytest.mark.parametrize("of", ["a head", "a body", "pages"])
def test_a_byte_or_a_page_a_second_ends_within_thirty(server, of):
    """With the bounds that everybody has; the server counts, so it does not matter how fast the machine is."""
    sent = []
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"

    def drip(handler):
        try:
            if of == "pages":
                sent.append(1)
                time.sleep(1)
                handler.send(a_list(config_map(), **{"continue": str(len(sent))}))
                return
            handler.wfile.write(answer if of == "a body" else b"")
            for byte in (b" " * 100_000 if of == "a body" else answer.replace(b"OK", b"O" * 5000)):
                handler.wfile.write(bytes([byte]))
                sent.append(1)
                time.sleep(1)
        except OSError:
            handler.close_connection = True

    server.answer = drip
    with pytest.raises((ApiError, TooMuch), match="too slowly"):
        Cluster.of({"host": server.url, "api_key": TOKEN}).list(CONFIG_MAPS)
    assert 10 < len(sent) <= 30


@pytest.mark.parametrize("depth", [251, 1_200, 200_000])
@pytest.mark.parametrize("shape", ['{"a":%s}', "[%s]", '[1,{"b":%s},"]}"]'])
def test_an_object_that_is_nested_without_end_is_refused(server, depth, shape):
    before, after = shape.split("%s")
    levels = depth // (before.count("[") + before.count("{")) + 1
    nested = before * levels + "1" + after * levels
    body = a_list(config_map()).replace(b'"uid": "a"', b'"uid": "a", "deep": ' + nested.encode())
    server.answer = lambda handler: handler.send(body)
    with pytest.raises(TooMuch, match="ConfigMap: the answer is nested more than 250 levels deep"):
        client(server).list(CONFIG_MAPS)


@given(st.recursive(st.one_of(st.none(), st.text(st.sampled_from('ab[]{}"\\,:'), max_size=8)), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.text(st.sampled_from('ab[]{}"\\'), max_size=3), inner, max_size=3)), max_leaves=30), st.integers(1, 6))
def test_the_depth_of_an_answer_is_that_of_its_values_whatever_its_texts_hold(value, depth):
    def levels(part):
        inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else None
        return 0 if inside is None else 1 + max(map(levels, inside), default=0)

    budget = Budget(Bounds(depth=depth))
    if levels(value) > depth:
        with pytest.raises(TooMuch, match="nested more than"):
            parse(json.dumps(value).encode(), budget)
    else:
        assert parse(json.dumps(value).encode(), budget) == value


def test_pages_without_end_come_to_an_end(server):
    server.answer = lambda handler: handler.send(a_list(config_map(), **{"continue": str(len(server.asked))}))
    with pytest.raises(TooMuch, match="a LIST has more than 200 pages"):
        client(server).list(CONFIG_MAPS)
    assert len(server.asked) == 200


def test_pages_that_begin_again_are_seen(server):
    server.answer = lambda handler: handler.send(a_list(config_map(), **{"continue": "again"}))
    with pytest.raises(Malformed, match="the pages of a LIST begin again"):
        client(server).list(CONFIG_MAPS)
    assert len(server.asked) == 2


def test_all_pages_of_a_list_share_one_bound(server):
    server.answer = lambda handler: handler.send(a_list(config_map(), text="a" * 100_000, **{"continue": str(len(server.asked))}))
    with pytest.raises(TooMuch):
        client(server, bounds=Bounds(answer_bytes=1_000_000)).list(CONFIG_MAPS)
    assert len(server.asked) == 10


@pytest.mark.parametrize("answer", [{"kind": "ConfigMapList"}, {"kind": "Status", "status": "Success"}, {}, {"items": {}}, {"items": ["a"]},
                                    {"items": [{}]}, {"items": [{"metadata": {"name": ""}}]}, {"items": [config_map(labels=[])]}, []], ids=str)
def test_an_answer_that_is_no_list_is_not_taken_for_an_empty_one(server, answer):
    server.answer = lambda handler: handler.send(json.dumps(answer).encode())
    with pytest.raises(Malformed, match="ConfigMap"):
        client(server).list(CONFIG_MAPS)


def test_a_list_that_go_writes_as_null_is_empty(server):
    server.answer = lambda handler: handler.send(b'{"kind": "ConfigMapList", "metadata": {}, "items": null}')
    assert client(server).list(CONFIG_MAPS) == ([], "")


ANY = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(
    ["Status", "v1", "apps/v1", "ConfigMap", "7", "BOOKMARK", "APIGroupDiscoveryList", "²"])), lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
            ["kind", "apiVersion", "items", "metadata", "name", "labels", "annotations", "managedFields", "ownerReferences", "finalizers", "uid",
             "resourceVersion", "continue", "message", "details", "causes", "field", "reason", "code", "retryAfterSeconds", "versions", "version",
             "groups", "preferredVersion", "groupVersion", "resources", "resource", "responseKind", "verbs", "scope", "namespaced", "gitVersion",
             "type", "object", "fieldsV1", "generation"]), inner, max_size=6)), max_leaves=25)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150)
@given(ANY, st.sampled_from([200, 201, 302, 400, 403, 404, 409, 410, 422]))
@example({"kind": "Status", "message": ["a"], "details": {"causes": [5, {"field": 7}], "retryAfterSeconds": "nan"}}, 422)
@example({"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": 5}}]}, 200)
@example({"type": "ERROR", "object": {"code": "410", "message": {}, "reason": []}}, 200)
def test_whatever_json_a_server_answers_a_caller_gets_a_value_or_a_failure(server, answer, status):
    body = json.dumps(answer).encode()
    server.answer = lambda handler: handler.send(body, status)
    wrong = 0
    for call in (
        lambda cluster: cluster.list(CONFIG_MAPS, "x"),
        lambda cluster: cluster.get(CONFIG_MAPS, "x", "a"),
        lambda cluster: cluster.apply(CONFIG_MAPS, config_map()),
        lambda cluster: cluster.create(CONFIG_MAPS, config_map()),
        lambda cluster: cluster.patch(CONFIG_MAPS, "x", "a", []),
        lambda cluster: cluster.delete(CONFIG_MAPS, "x", "a", "uid"),
        lambda cluster: cluster.version(),
        lambda cluster: list(cluster.discover()),
        lambda cluster: list(cluster.watch(CONFIG_MAPS, "x", "", "1", 1)),
    ):
        try:
            call(Cluster.of({"host": server.url, "api_key": TOKEN}, patience=0.0))
        except Failure as failure:
            assert "Traceback" not in str(failure)
            wrong += 1
    assert wrong or status < 300


@pytest.mark.parametrize("slow", ["head", "body"])
def test_a_byte_now_and_then_is_no_answer(server, slow):
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"

    def drip(handler):
        try:
            handler.wfile.write(answer if slow == "body" else b"")
            for byte in (b" " * 100_000 if slow == "body" else answer.replace(b"OK", b"O" * 5000)):
                handler.wfile.write(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            handler.close_connection = True

    server.answer = drip
    with pytest.raises(ApiError, match="the answer comes too slowly"):
        client(server, bounds=Bounds(pause=0.3, pace=10_000)).list(CONFIG_MAPS)
    assert len(server.asked) == 1


def test_a_watch_may_be_silent_for_longer_than_an_answer_may_be_slow(server):
    def events(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for name in ("a", "b"):
            handler.wfile.write(json.dumps({"type": "ADDED", "object": config_map(name)}).encode() + b"\n")
            handler.wfile.flush()
            time.sleep(0.5)

    server.answer = events
    found = list(client(server, bounds=Bounds(pause=0.1, pace=1_000_000)).watch(CONFIG_MAPS, "x", "", "1", 5))
    assert [obj["metadata"]["name"] for _kind, obj in found] == ["a", "b"]


def test_an_event_without_end_is_refused(server):
    server.answer = lambda handler: handler.send(b'{"type": "' + b"A" * 3_000_000)
    with pytest.raises(TooMuch, match="an event of a watch has more than"):
        list(client(server, bounds=Bounds(event_bytes=1 << 20)).watch(CONFIG_MAPS, "x", "", "1", 5))


def test_a_watch_that_always_says_expired_is_not_a_storm_of_lists(server):
    def answer(handler):
        if "watch=true" in handler.path:
            handler.send(b'{"kind": "Status", "code": 410, "message": "too old"}', 410)
        else:
            handler.send(a_list())

    server.answer = answer
    wait(client(server), {Ref("", "ConfigMap", "x", "a"): Target(CONFIG_MAPS)}, 2.5, grace=30.0)
    lists = [path for path in server.asked if "watch=true" not in path]
    assert 2 <= len(lists) <= 8  # after pauses of 0.2, 0.4, 0.8 … s


def echoes(handler):
    header = handler.headers["Authorization"]
    login = base64.b64encode(f"robot:{TOKEN}".encode()).decode()
    return [f"{'x' * 280} you sent {header}", f"<html>{header}</html>", f"login {login}", f"{login}", json.dumps({"headers": {"Authorization": header}})]


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("kind", ["Status", "text", "html"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_a_gateway_that_echoes_the_token_shows_it_to_nobody(server, which, kind, status):
    def answer(handler):
        said = echoes(handler)[which]
        body = json.dumps({"kind": "Status", "message": said, "details": {"causes": [{"field": said, "message": said}]}}) if kind == "Status" else said
        handler.send(body.encode(), status, Content_Type={"Status": "application/json", "text": "text/plain", "html": "text/html"}[kind])

    server.answer = answer
    with pytest.raises(Failure) as caught:
        client(server).list(CONFIG_MAPS)
    shown = str(caught.value) + json.dumps(caught.value.details)
    inside = base64.b64encode(TOKEN.encode()).decode()[4:12]
    assert TOKEN not in shown and TOKEN[:10] not in shown and inside not in shown


def test_what_a_server_says_forges_no_line_and_moves_no_cursor(server):
    said = "no\x1b[2J\r\nfatal: [web1]: FAILED!\u2028\x9bA\u202e"
    server.answer = lambda handler: handler.send(json.dumps({"kind": "Status", "message": said, "reason": "Forbidden"}).encode(), 403)
    with pytest.raises(Failure) as caught:
        client(server).list(CONFIG_MAPS)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u202e]", str(caught.value))
