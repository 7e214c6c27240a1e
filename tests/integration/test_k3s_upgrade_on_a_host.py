# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module k3s takes one real host from one version to another, back when that fails, and no other way."""

from __future__ import annotations

import pytest

from fleet import TOKEN, K3sHost
from lab import k3s
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG

pytestmark = [pytest.mark.hosts, pytest.mark.built("k3s"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def new():
    return k3s.binary("new")


@pytest.fixture(scope="module")
def serving(new, tmp_path_factory):
    """A host with a server of the old version; the last of these tests upgrades it."""
    with Hosts.start(["server1"]) as hosts:
        host = K3sHost(hosts, tmp_path_factory.mktemp("serving"), "old")
        answer = host.k3s(config=SERVER_CONFIG, token=TOKEN)
        assert answer.result["started"] and not answer.result.get("failed"), answer.message
        yield host


def test_another_version_is_not_slipped_in(serving, new):
    answer = serving.k3s(config=SERVER_CONFIG, binary=str(new.path))
    assert answer.result.get("failed") and "Use the playbook upgrade" in answer.message


def test_an_upgrade_that_does_not_come_up_is_rolled_back(serving, new, tmp_path):
    """The new program says its version and its options, and what it carries is broken, as after a disk error on the builder's side."""
    content = bytearray(new.path.read_bytes())
    middle = len(content) // 2
    content[middle:middle + 4096] = bytes(4096)
    broken = tmp_path / "k3s"
    broken.write_bytes(content)
    answer = serving.k3s(state="upgraded", config=SERVER_CONFIG, binary=str(broken), wait_timeout=60)
    assert answer.result.get("failed") and answer.result["rolled_back"] and answer.result["healthy"], answer.message
    assert f"{serving.binary.version} is installed again and runs" in answer.message
    installed = serving.run("sha256sum /usr/local/bin/k3s").split()[0]
    assert installed == serving.binary.sha256 and "Ready" in serving.run("kubectl get nodes")


def test_an_upgrade_restarts_with_the_new_version_and_a_downgrade_is_refused(serving, new):
    old = serving.binary
    answer = serving.k3s(state="upgraded", config=SERVER_CONFIG, binary=str(new.path))
    assert not answer.result.get("failed"), answer.message
    assert (answer.result["previous_version"], answer.result["version"], answer.result["restarted"]) == (old.version, new.version, True)
    assert not serving.k3s(state="upgraded", config=SERVER_CONFIG, binary=str(new.path)).result["changed"]
    back = serving.k3s(state="upgraded", config=SERVER_CONFIG, binary=str(old.path))
    assert back.result.get("failed") and "is older than" in back.message


def test_a_program_that_came_up_is_not_taken_back_when_something_else_fails_later(serving, new):
    """The database is the new version's by then."""
    wrong = {**SERVER_CONFIG, "kube-apiserver-arg": ["no-such-flag=1"]}
    answer = serving.k3s(state="upgraded", config=wrong, binary=str(new.path), wait_timeout=60)
    assert answer.result.get("failed") and not answer.result.get("rolled_back"), answer.message
    assert serving.run("sha256sum /usr/local/bin/k3s").split()[0] == new.sha256
    mended = serving.k3s(state="upgraded", config=SERVER_CONFIG, binary=str(new.path))
    assert not mended.result.get("failed"), mended.message
