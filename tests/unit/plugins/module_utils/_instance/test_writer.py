# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock of a fleet writes; who may have lost it does not."""

from __future__ import annotations

import inspect
import threading

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance import libvirt, openstack, provider, writer

READS = {
    "requests", "place", "images", "flavors", "sized", "networks", "external_networks", "addresses_at_first_boot", "subnets", "security_groups", "keys",
    "zones", "volume_zones", "volume_types", "server_groups", "port", "volume", "taken", "limits", "world", "statuses", "get", "everything", "console",
    "wait_volume", "floating_by_address",
}
LOCK = {"lock", "renew", "unlock"}


class Cloud:
    """Answers what it is told about a lock."""

    def __init__(self):
        self.asked, self.answers = 0, {}

    def renew(self, _lock, _holder):
        self.asked += 1
        if self.asked in self.answers:
            raise Failure(self.answers[self.asked])


@pytest.mark.parametrize("kind", [openstack.OpenStack, libvirt.Libvirt])
def test_every_method_of_a_provider_is_known_to_read_or_to_write(kind):
    methods = {name for name in vars(provider.Provider) if not name.startswith("_")}
    assert methods == READS | LOCK | set(provider.WRITES) and not READS & set(provider.WRITES)
    for name in methods - {"requests"}:
        assert list(inspect.signature(getattr(kind, name)).parameters) == list(inspect.signature(getattr(provider.Provider, name)).parameters), name


def test_nothing_is_written_without_the_lock():
    calls = []

    class Provider:
        def __getattr__(self, name):
            return lambda *_arguments: calls.append(name)

    def lost():
        raise Failure("lost")

    for name in READS - {"requests"}:
        getattr(writer.Guarded(Provider(), lost), name)()
    assert set(calls) == READS - {"requests"}
    for name in provider.WRITES:
        with pytest.raises(Failure, match="lost"):
            getattr(writer.Guarded(Provider(), lost), name)()
    assert set(calls) == READS - {"requests"}


@pytest.mark.parametrize("which", [0, 1], ids=["stopped", "suspended"])
def test_whoever_stood_still_asks_before_it_goes_on(which):
    """The monotonic clock of a machine that is suspended stands still too, the other one may be set back."""
    cloud, clocks = Cloud(), [0.0, 0.0]
    one = writer.Writer(cloud, "lock", "me", lambda: tuple(clocks))
    clocks[1 - which] -= 1000
    one.check()
    assert cloud.asked == 0
    clocks[which] += writer.KNOWN_FOR + 1
    one.check()
    one.check()
    assert cloud.asked == 1
    clocks[which] += writer.KNOWN_FOR + 1
    cloud.answers[2] = "another run has taken the lock of the fleet, so this one stops"
    for _each in "12":
        with pytest.raises(Failure, match="another run has taken"):
            one.check()
    assert cloud.asked == 2


def test_one_lost_answer_is_no_loss_of_the_lock_and_silence_is():
    cloud, clocks = Cloud(), [0.0, 0.0]
    one = writer.Writer(cloud, "lock", "me", lambda: tuple(clocks))
    cloud.answers = {1: "no answer", 3: "no answer", 4: "no answer"}
    clocks[0] += writer.KNOWN_FOR + 1
    one.check()
    one.check()
    assert cloud.asked == 2
    clocks[0] += writer.KNOWN_FOR + 1
    one.check()
    clocks[0] += writer.PATIENCE - writer.RENEW
    with pytest.raises(Failure, match="no answer"):
        one.check()


def test_the_thread_that_renews_ends_with_the_run_or_the_lock(monkeypatch):
    monkeypatch.setattr(writer, "RENEW", 0.0)
    cloud, ended = Cloud(), threading.Event()
    cloud.answers = {3: "another run has taken the lock"}
    one = writer.Writer(cloud, "lock", "me")
    one.keep(ended)
    assert cloud.asked == 3
    with pytest.raises(Failure, match="another run"):
        one.check()
    ended.set()
    other = writer.Writer(cloud, "lock", "me")
    other.keep(ended)
    other.check()
    assert cloud.asked == 3
