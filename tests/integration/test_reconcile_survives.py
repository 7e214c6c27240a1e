# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reconcile that is killed, disturbed, or run twice at once: the cluster ends as one commit, and nothing foreign is touched."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.apply import WRITERS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import EXPIRE_SECONDS, Inventory, Moved
from lab import proxy
from reconciling import Reconciler, config_map, deployment, manifest, outcome, start

KILLS = int(os.environ.get("NORDIC_KILLS", "20"))
SERVICES = 16


@pytest.fixture
def options(options):
    return {**options, "wait_timeout": 60, "prune_limit": "100%"}


def write(git_repo, version, services=SERVICES):
    """A commit in which every object says which version it is, and each version has objects of its own."""
    for name in os.listdir(git_repo.path):
        if name.endswith(".yaml"):
            git_repo.remove(name)
    for index in range(services):
        git_repo.write(f"web-{index}.yaml", deployment(f"web-{index}", image=f"registry.example/web:{version}"))
        git_repo.write(f"settings-{index}.yaml", config_map(f"settings-{index}", version))
        git_repo.write(f"own-{index}.yaml", config_map(f"{version}-{index}", version))
        git_repo.write(f"account-{index}.yaml", manifest("ServiceAccount", f"account-{index}"))
    return git_repo.commit(version)


def state(cluster, namespace):
    """{"ConfigMap name": version} of everything in the namespace that a version marks."""
    items = json.loads(cluster.kubectl("get", "deployments,configmaps,serviceaccounts", "-n", namespace, "-o", "json"))["items"]
    found = {}
    for item in items:
        name = item["metadata"]["name"]
        if name.startswith("nordic-gitops-") or name in ("kube-root-ca.crt", "default"):
            continue
        if item["kind"] == "Deployment":
            found[f"Deployment {name}"] = item["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]
        else:
            found[f"{item['kind']} {name}"] = (item.get("data") or {}).get("key", "")
    return found


def whole(version, services=SERVICES):
    """The state that one commit of write() means."""
    expected = {"ConfigMap foreign": "untouched"}
    for index in range(services):
        expected.update({f"Deployment web-{index}": version, f"ConfigMap settings-{index}": version,
                         f"ConfigMap {version}-{index}": version, f"ServiceAccount account-{index}": ""})
    return expected


@pytest.fixture
def foreign(cluster, namespace):
    cluster.kubectl("create", "configmap", "foreign", "-n", namespace, "--from-literal=key=untouched")


def test_a_run_killed_at_any_moment_is_finished_by_the_next_one(cluster, namespace, options, git_repo, foreign):
    """SIGKILL during a first sync, an update with its prune, and a prune alone, at moments drawn from how long each takes."""
    chance = random.Random(20261123)
    run = Reconciler(**options)
    killed = through = writing = 0
    begin = time.monotonic()
    write(git_repo, "v0", services=2)
    process = start(**options)
    assert "failed" not in outcome(process)
    typical = time.monotonic() - begin  # start-up included, so that kills fall into every stage
    while killed < KILLS:
        attempt = killed + through
        version, services = f"v{attempt + 1}", (SERVICES, 2, SERVICES, 1)[attempt % 4]
        commit = write(git_repo, version, services)
        process = start(**options)
        time.sleep(chance.uniform(0.1, 1.3) * typical)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        else:
            through += 1
            typical *= 0.9  # the first run was the slower one
        process.communicate()
        seen = state(cluster, namespace)
        writing += seen != whole(version, services) and any(value == version for value in seen.values())
        result = run()
        assert result["commit"] == commit and result["in_sync"]
        assert state(cluster, namespace) == whole(version, services), f"after kill {attempt}"
        assert not run()["changed"]
    print(f"{killed} runs were killed, {writing} of them half way through their writes; {through} were through before")
    assert writing >= 1


def test_two_runs_of_one_name_at_once_end_as_one_commit_never_a_mix(cluster, namespace, options, git_repo, foreign, tmp_path):
    commits = {write(git_repo, "red"): "red"}
    git_repo.branch("blue")
    commits[write(git_repo, "blue")] = "blue"
    for attempt in range(4):
        processes = [start(**{**options, "revision": revision, "git_cache": str(tmp_path / revision)})
                     for revision in (("main", "blue"), ("blue", "main"))[attempt % 2]]
        results = [outcome(process) for process in processes]
        for result in results:
            assert "failed" not in result, result["msg"]
        # What the parent has on record is what the cluster is.
        parent = json.loads(cluster.kubectl("get", "configmap", f"nordic-gitops-{namespace}", "-n", namespace, "-o", "json"))
        version = commits[parent["metadata"]["annotations"]["nordic.gitops/commit"]]
        assert state(cluster, namespace) == whole(version)


def test_a_heal_that_meets_a_new_commit_never_leaves_a_mix(cluster, namespace, options, git_repo, foreign, tmp_path):
    """The one writer that takes no lock: healing deleted objects of the old commit while another run brings the new one."""
    commits = {write(git_repo, "red"): "red"}
    Reconciler(**options)()
    git_repo.branch("blue")
    commits[write(git_repo, "blue")] = "blue"
    for _attempt in range(4):
        Reconciler(**options)(revision="main")
        cluster.kubectl("delete", "configmap", "-n", namespace, *[f"red-{index}" for index in range(SERVICES)])
        healer = start(**{**options, "revision": "main", "git_cache": str(tmp_path / "a")})
        time.sleep(0.15)
        bringer = start(**{**options, "revision": "blue", "git_cache": str(tmp_path / "b")})
        for result in (outcome(healer), outcome(bringer)):
            assert "failed" not in result, result["msg"]
        parent = json.loads(cluster.kubectl("get", "configmap", f"nordic-gitops-{namespace}", "-n", namespace, "-o", "json"))
        assert state(cluster, namespace) == whole(commits[parent["metadata"]["annotations"]["nordic.gitops/commit"]])


# ---- the lock


@pytest.fixture
def inventories(cluster, namespace):
    """Two runs' views of one inventory."""
    client = Cluster.of({"kubeconfig": str(cluster.kubeconfig)})
    resource = client.discover().find("v1", "ConfigMap")
    return [Inventory(client, resource, namespace, namespace).read() for _index in range(2)]


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_of_two_first_runs_only_one_gets_the_lock(inventories):
    one, two = inventories
    one.lock([("", "ConfigMap")], ["a"], 5)
    with pytest.raises(Moved):
        two.lock([("", "Secret")], ["b"], 5)
    one.commit_record("c1", "d", [("", "ConfigMap")], ["a"])
    two.read().lock([("", "Secret")], ["b"], 5)
    assert two.kinds == {("", "ConfigMap"), ("", "Secret")}
    two.unlock()


def test_a_second_run_waits_and_then_fails_clearly(inventories):
    one, two = inventories
    one.lock([("", "ConfigMap")], ["a"], 5)
    clock = FakeClock()
    with pytest.raises(Failure, match="another reconcile of this name is at work.*raise wait_timeout"):
        two.read().lock([], [], 3, clock, clock.sleep)
    assert 3 <= clock.now < 5
    one.unlock()


def test_the_lock_of_a_dead_run_elsewhere_is_taken_over_after_its_heartbeat_stood_still(inventories):
    one, two = inventories
    one._me = "another-machine/x/1/2/3"
    one.lock([("", "ConfigMap")], ["a"], 5)
    one._stop.set()
    one._beat.join()
    clock = FakeClock()
    with pytest.raises(Moved):
        two.read().lock([], [], 300, clock, clock.sleep)
    assert EXPIRE_SECONDS < clock.now < EXPIRE_SECONDS + 2
    two.lock([], [], 5)
    # The dead one wakes up: it must not write any more.
    with pytest.raises(Failure):
        one.commit_record("c", "d", [], [])
    assert two.read().kinds == {("", "ConfigMap")}


def test_the_lock_of_a_dead_process_on_this_machine_is_taken_over_at_once(inventories):
    one, two = inventories
    one._me = one._me.split("/")[0] + "/" + one._me.split("/")[1] + "/1999999999/12345/x"
    one.lock([], [], 5)
    one._stop.set()
    one._beat.join()
    clock = FakeClock()
    with pytest.raises(Moved):
        two.read().lock([], [], 300, clock, clock.sleep)
    assert clock.now == 0


def test_a_run_that_let_go_and_ended_after_it_was_seen_at_work_does_not_hold_the_next_one_up(inventories):
    """The next one takes the dead one's mark off, and meets what that one wrote last: it has to look again."""
    one, two = inventories
    one._me = one._me.split("/")[0] + "/" + one._me.split("/")[1] + "/1999999999/12345/x"
    one.lock([], [], 5)
    two.read()
    one.commit_record("c1", "d", [], [])
    writes, write = [], two._write

    def counted(body, seen):
        writes.append(seen)
        assert len(writes) < 5, "the same write again and again"
        return write(body, seen)

    two._write = counted
    clock = FakeClock()
    with pytest.raises(Moved):
        two.lock([], [], 300, clock, clock.sleep)
    assert len(writes) == 1 and two.commit == "c1"


# ---- faults

FAULTS = {
    "drops": [proxy.DROP, proxy.LOSE],
    "delays": [proxy.delay(0.4)],
    "truncates": [proxy.CUT],
    "429": [proxy.status(429, retry_after=1)],
    "500": [proxy.status(500)],
    "503": [proxy.status(503)],
    "everything": [proxy.DROP, proxy.LOSE, proxy.delay(0.2), proxy.CUT, proxy.status(429, retry_after=1), proxy.status(503)],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_on_a_bad_network_it_converges_or_fails_clearly_and_then_converges(cluster, namespace, options, git_repo, foreign,
                                                                           fault_proxy, kind):
    write(git_repo, "v1", services=4)
    Reconciler(**options)()
    write(git_repo, "v2", services=3)
    bad = Reconciler(**{**options, "kubeconfig": str(fault_proxy.kubeconfig)})
    fault_proxy.randomly(0.15, FAULTS[kind], seed=7)
    try:
        bad()
    except Failure as failure:
        assert str(failure) and "Traceback" not in str(failure)
        # What the old commit had and the new one has not: an error prunes nothing.
        assert f"ConfigMap v1-{0}" in state(cluster, namespace)
    assert fault_proxy.faults > 0
    fault_proxy.calm()
    Reconciler(**options)()
    assert state(cluster, namespace) == whole("v2", 3)


@pytest.mark.parametrize("verb", ["GET", "PATCH"])
def test_a_server_that_goes_away_fails_the_run_and_prunes_nothing(cluster, namespace, options, git_repo, foreign, fault_proxy, verb):
    write(git_repo, "v1", services=3)
    Reconciler(**options)()
    write(git_repo, "v2", services=3)
    bad = Reconciler(**{**options, "kubeconfig": str(fault_proxy.kubeconfig)})
    fault_proxy.randomly(1.0, [proxy.status(403, message="Forbidden")], match=lambda method, path: method == verb and "/configmaps" in path
                         and "/configmaps/nordic-gitops-" not in path)
    with pytest.raises(Failure, match="ConfigMap"):
        bad()
    assert {f"ConfigMap v1-{index}" for index in range(3)} <= set(state(cluster, namespace))


def test_a_server_that_stops_answering_is_waited_for_once_and_not_for_every_object(cluster, namespace, options, git_repo, foreign, fault_proxy):
    write(git_repo, "v1", services=40)
    bad = Reconciler(**{**options, "kubeconfig": str(fault_proxy.kubeconfig)})
    bad.tuning = {"patience": 2.0}
    fault_proxy.randomly(1.0, [proxy.status(503)], match=lambda method, path: method == "PATCH" and "/configmaps/settings" in path)
    with pytest.raises(Failure, match="ConfigMap .*/settings"):
        bad()
    assert len({request.path for request in fault_proxy.requests if request.fault}) <= WRITERS
