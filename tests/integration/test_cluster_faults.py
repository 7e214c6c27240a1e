# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests over a network that drops, delays, truncates, and a server that is busy: done once, or failed clearly."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab.proxy import CUT, DROP, GOES_WELL, LOSE, delay, status

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.discovery import Resource

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", True, ())


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def passing():
    return Time()


@pytest.fixture
def client(fault_proxy, passing):
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig}, clock=passing.clock, sleep=passing.sleep)
    client.discover()  # it was reached once
    return client


def config_map(namespace, name="a", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"test": "faults"}},
        "data": data or {"a": "1"},
    }


PASSING = [DROP, LOSE, CUT, status(429), status(503), status(500), status(504), delay(0.2)]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_passing_fault_is_not_noticed_by_who_asked(client, fault_proxy, namespace, fault):
    for verb in (
        lambda: client.apply(CONFIG_MAPS, config_map(namespace))[0]["data"] == {"a": "1"},
        lambda: client.get(CONFIG_MAPS, namespace, "a")["data"] == {"a": "1"},
        lambda: "a" in [item["metadata"]["name"] for item in client.list(CONFIG_MAPS, namespace)[0]],
        lambda: client.discover(refresh=True).find("v1", "ConfigMap") == client.resource("v1", "ConfigMap"),
    ):
        fault_proxy.script(fault)
        assert verb()
    stored = client.get(CONFIG_MAPS, namespace, "a")
    fault_proxy.script(fault)
    assert client.delete(CONFIG_MAPS, namespace, "a", stored["metadata"]["uid"]) is True
    assert sum(client.retried.values()) == (0 if fault.kind == "delay" else 5)


def test_retry_after_is_honoured(client, fault_proxy, passing, namespace):
    fault_proxy.script(status(429, retry_after=7), status(503, retry_after=2))
    client.apply(CONFIG_MAPS, config_map(namespace))
    assert [int(pause) for pause in passing.slept] == [7, 2]
    assert client.retried == {"apply: 429 TooManyRequests": 1, "apply: 503 ServiceUnavailable": 1}


def test_pauses_grow_and_stay_below_five_seconds(client, fault_proxy, passing):
    fault_proxy.script(*[status(503)] * 9)
    client.list(CONFIG_MAPS, "default")
    assert len(passing.slept) == 9 and max(passing.slept) <= 5.0
    assert passing.slept[0] <= 0.1 and passing.slept[6] > passing.slept[0] * 10


def test_a_server_that_stays_busy_is_given_up_on_after_the_patience(fault_proxy, passing):
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig}, patience=30, clock=passing.clock, sleep=passing.sleep)
    fault_proxy.randomly(1.0, [status(503, message="the server is on holiday")])
    with pytest.raises(ApiError, match="the server is on holiday") as caught:
        client.list(CONFIG_MAPS, "default")
    assert caught.value.status == 503 and caught.value.retryable and 20 < passing.now <= 30


def test_a_retry_after_beyond_the_patience_fails_at_once(client, fault_proxy, passing):
    fault_proxy.script(status(429, retry_after=3600))
    with pytest.raises(ApiError) as caught:
        client.list(CONFIG_MAPS, "default")
    assert caught.value.status == 429 and passing.slept == []


def test_an_unexplained_500_is_asked_three_times(client, fault_proxy):
    fault_proxy.randomly(1.0, [status(500)])
    with pytest.raises(ApiError):
        client.list(CONFIG_MAPS, "default")
    assert client.requests["list"] == 3


def test_a_webhook_that_is_not_up_yet_is_waited_for(client, fault_proxy, namespace):
    down = status(500, message='Internal error occurred: failed calling webhook "w": connect: connection refused')
    fault_proxy.script(*[down] * 6)
    assert client.apply(CONFIG_MAPS, config_map(namespace))[0]["data"] == {"a": "1"}
    assert client.requests["apply"] == 7


def test_a_refusal_is_not_asked_again(client, fault_proxy, namespace):
    for refusal in (status(403), status(404), status(409), status(413), status(422), status(400)):
        client.requests.clear()
        fault_proxy.script(refusal)
        with pytest.raises(ApiError):
            client.apply(CONFIG_MAPS, config_map(namespace))
        assert client.requests == {"apply": 1}, refusal


def test_a_lost_answer_to_a_delete_is_still_a_deletion(client, fault_proxy, namespace):
    stored, _created = client.apply(CONFIG_MAPS, config_map(namespace))
    fault_proxy.script(LOSE)
    assert client.delete(CONFIG_MAPS, namespace, "a", stored["metadata"]["uid"]) is True
    assert client.requests["delete"] == 2  # the second was told 404
    assert client.delete(CONFIG_MAPS, namespace, "a", stored["metadata"]["uid"]) is False


def test_a_lost_delete_never_hits_the_object_that_took_the_name(client, fault_proxy, namespace):
    """The answer is lost, a colleague makes a new object of the same name, and the second attempt spares it."""
    old, _created = client.apply(CONFIG_MAPS, config_map(namespace))

    def colleague(_pause):
        fault_proxy.cluster.kubectl("-n", namespace, "create", "configmap", "a", "--from-literal=whose=theirs")

    hurried = Cluster.of({"kubeconfig": fault_proxy.kubeconfig}, sleep=colleague)
    hurried.discover()
    fault_proxy.script(LOSE)
    with pytest.raises(ApiError) as caught:
        hurried.delete(CONFIG_MAPS, namespace, "a", old["metadata"]["uid"])
    assert caught.value.stale
    assert client.get(CONFIG_MAPS, namespace, "a")["data"] == {"whose": "theirs"}


def test_a_patch_with_a_test_never_happens_twice(client, fault_proxy, namespace):
    client.apply(CONFIG_MAPS, config_map(namespace))
    ops = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "2"}]
    fault_proxy.script(DROP)
    assert client.patch(CONFIG_MAPS, namespace, "a", ops)["data"] == {"a": "2"}
    ops = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "replace", "path": "/data/a", "value": "3"}]
    fault_proxy.script(LOSE)
    with pytest.raises(ApiError) as caught:
        client.patch(CONFIG_MAPS, namespace, "a", ops)
    assert caught.value.status == 422 and caught.value.lost
    assert client.get(CONFIG_MAPS, namespace, "a")["data"] == {"a": "3"}


def test_a_patch_without_a_test_is_sent_once_unless_it_was_turned_away(client, fault_proxy, namespace):
    client.apply(CONFIG_MAPS, config_map(namespace))
    ops = [{"op": "add", "path": "/data/b", "value": "2"}]
    for fault in (DROP, LOSE, status(503)):
        client.requests.clear()
        fault_proxy.script(fault)
        with pytest.raises(ApiError):
            client.patch(CONFIG_MAPS, namespace, "a", ops)
        assert client.requests == {"patch": 1}
    fault_proxy.script(status(429))
    assert client.patch(CONFIG_MAPS, namespace, "a", ops)["data"] == {"a": "1", "b": "2"}


def test_a_lost_create_says_that_there_is_one_already(client, fault_proxy, namespace):
    fault_proxy.script(LOSE)
    with pytest.raises(ApiError) as caught:
        client.create(CONFIG_MAPS, config_map(namespace))
    assert caught.value.reason == "AlreadyExists" and caught.value.lost


def test_a_slow_answer_is_not_waited_for_for_ever(fault_proxy):
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig}, read_timeout=0.5)
    client.discover()
    fault_proxy.script(delay(3))
    assert client.list(CONFIG_MAPS, "default")[0]
    assert client.retried == {"list: read timeout": 1}


def test_an_address_where_nobody_listens_fails_soon_and_says_what_to_check(passing):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ApiError, match="cannot be reached: Connection refused.*kubeconfig") as caught:
            Cluster.of({"host": url, "api_key": "sesame"}, clock=passing.clock, sleep=passing.sleep).discover()
    assert 0 < passing.now <= 2 * 3.0  # both requests of discovery share this clock
    assert url in str(caught.value) and caught.value.status == 0 and caught.value.retryable
    assert "sesame" not in str(caught.value)


def test_a_server_that_was_there_before_is_waited_for_while_it_restarts(client, fault_proxy, namespace):
    fault_proxy.script(*[DROP] * 12)
    assert client.apply(CONFIG_MAPS, config_map(namespace))[1]
    assert client.retried == {"apply: connection broken": 12}


def test_something_that_is_no_api_server_is_told_from_one(fault_proxy):
    from lab.forward_proxy import ForwardProxy

    with ForwardProxy() as other:
        with pytest.raises(ApiError, match="405") as caught:
            Cluster.of({"host": other.url, "api_key": "sesame"}).discover()
    assert "sesame" not in str(caught.value)
    with pytest.raises(ApiError, match="400.*HTTP request to an HTTPS server"):
        Cluster.of({"host": fault_proxy.cluster.url.replace("https", "http"), "api_key": "x"}).discover()


def test_a_watch_that_breaks_ends_and_can_be_taken_up(client, fault_proxy, namespace):
    _items, version = client.list(CONFIG_MAPS, namespace)
    client.apply(CONFIG_MAPS, config_map(namespace))
    fault_proxy.script(CUT)
    assert list(client.watch(CONFIG_MAPS, namespace, "test=faults", version, 5)) == []  # cut in the middle of the event
    fault_proxy.script(DROP, status(429))
    watch = client.watch(CONFIG_MAPS, namespace, "test=faults", version, 5)
    kind, body = next(watch)
    watch.close()
    assert (kind, body["metadata"]["name"]) == ("ADDED", "a")


def test_a_deletion_whose_two_answers_are_lost_is_a_deletion_after_one_repetition(client, fault_proxy, namespace):
    stored = client.apply(CONFIG_MAPS, config_map(namespace))[0]
    fault_proxy.script(LOSE, CUT)  # what is cut is the 404 of the repetition: its status says enough
    assert client.delete(CONFIG_MAPS, namespace, "a", stored["metadata"]["uid"])
    assert fault_proxy.scripted == 0 and client.retried == {"delete: connection broken": 1}


def test_sixty_objects_survive_a_bad_network(fault_proxy, namespace):
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig}, patience=600)  # however slow the machine is
    client.discover()
    faults = [DROP, LOSE, CUT, status(429), status(503)] * 7  # within the first 140 of the 121 requests and their repetitions
    fault_proxy.script(*[met for fault in faults for met in (None, None, None, fault)])
    with ThreadPoolExecutor(8) as pool:
        stored = list(
            pool.map(lambda i: client.apply(CONFIG_MAPS, config_map(namespace, f"n{i}", i=str(i)))[0], range(60))
        )
        listed = {item["metadata"]["name"]: item["data"] for item in client.list(CONFIG_MAPS, namespace)[0]}
        assert {name: data for name, data in listed.items() if name.startswith("n")} == {
            f"n{i}": {"i": str(i)} for i in range(60)
        }
        assert all(
            pool.map(
                lambda body: client.delete(CONFIG_MAPS, namespace, body["metadata"]["name"], body["metadata"]["uid"]),
                stored,
            )
        )
    assert fault_proxy.scripted == 0 and fault_proxy.faults == len(faults)
    assert len(faults) - _cut_when_gone(fault_proxy.requests) <= sum(client.retried.values())
    left = [item["metadata"]["name"] for item in client.list(CONFIG_MAPS, namespace)[0]]
    assert [name for name in left if name.startswith("n")] == []


def _cut_when_gone(requests):
    """How many answers to a repeated deletion were cut: such a 404 needs no repetition. Which requests these are is a matter of the threads."""
    gone, count = set(), 0
    for request in requests:
        if request.method == "DELETE":
            count += request.fault == CUT and request.path in gone
            if request.fault in (None, LOSE, CUT):
                gone.add(request.path)
    return count


def test_no_failure_shows_the_token(fault_proxy, cluster, namespace):
    client = Cluster.of({"kubeconfig": fault_proxy.kubeconfig}, patience=0)
    shown = []
    for fault in (DROP, LOSE, CUT, status(401), status(403), status(429), status(500), status(503), GOES_WELL):
        fault_proxy.script(fault, fault)
        try:
            client.apply(CONFIG_MAPS, config_map(namespace))
        except ApiError as error:
            shown.append(f"{error} {error!r} {error.args} {json.dumps(error.details)} {error.__context__!r}")
    assert len(shown) == 8
    assert [text for text in shown if cluster.admin_token in text or "Bearer" in text] == []
