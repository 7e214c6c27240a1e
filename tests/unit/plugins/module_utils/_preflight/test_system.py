# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory, swap, sysctls, entropy and time."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import clock, system
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import PeerResult
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile
from machines import lay_out


@pytest.mark.parametrize(("mib", "role", "verdict"), [(3900, "server", "pass"), (1200, "server", "warn"), (900, "server", "fail"),
                                                      (900, "agent", "pass"), (300, "agent", "fail")])
def test_memory_is_judged_by_the_role(tmp_path, mib, role, verdict):
    machine = lay_out(tmp_path, {"proc/meminfo": f"MemTotal: {mib * 1024} kB\nMemFree: 1 kB\n"})
    assert system.memory(machine, Profile(role)).verdict == verdict


def test_a_server_on_one_cpu_is_warned_of_an_agent_is_not():
    assert [system.cpus(1, Profile(role)).verdict for role in ("server", "agent")] == ["warn", "pass"]


def test_swap_is_found_with_its_size(tmp_path):
    head = "Filename\tType\tSize\tUsed\tPriority\n"
    assert system.swap(lay_out(tmp_path / "off", {"proc/swaps": head})).verdict == "pass"
    finding = system.swap(lay_out(tmp_path / "on", {"proc/swaps": head + "/dev/zram0 partition 2097148 0 100\n/swap.img file 1048576 0 -2\n"}))
    assert (finding.verdict, finding.value) == ("warn", "3071 MiB")
    assert len(finding.evidence) == 2


def settings(**others):
    values = {row.name: row.wanted for row in system.SYSCTLS}
    values.update({name.replace("__", "."): value for name, value in others.items()})
    return {"proc/sys/" + name.replace(".", "/"): f"{value}\n" for name, value in values.items()}


def test_sysctls_as_wanted_pass_and_more_than_the_least_passes_too(tmp_path):
    assert system.sysctls(lay_out(tmp_path, settings(fs__inotify__max_user_instances=8192)), Profile()).verdict == "pass"


def test_a_sysctl_that_differs_is_told_with_the_line_that_mends_it(tmp_path):
    finding = system.sysctls(lay_out(tmp_path, settings(fs__inotify__max_user_instances=128)), Profile())
    assert finding.verdict == "warn"
    assert finding.evidence == ("fs.inotify.max_user_instances is 128, wanted at least 512: each container and each watch of the kubelet takes one: "
                                "'too many open files'",)
    assert "fs.inotify.max_user_instances=512" in finding.mend


def test_a_machine_that_stops_when_one_pod_is_out_of_memory_is_refused(tmp_path):
    assert system.sysctls(lay_out(tmp_path, settings(vm__panic_on_oom=1)), Profile()).verdict == "fail"


@pytest.mark.parametrize(("bits", "ready", "verdict"), [(256, True, "pass"), (3500, True, "pass"), (40, True, "warn"), (0, False, "fail")])
def test_entropy_is_what_the_kernel_says_and_what_getrandom_does(tmp_path, bits, ready, verdict):
    machine = lay_out(tmp_path, {"proc/sys/kernel/random/entropy_avail": f"{bits}\n"})
    assert system.entropy(machine, lambda: ready).verdict == verdict


def test_this_machine_has_random_numbers():
    assert system.random_is_ready()
    assert system.entropy(Machine(), system.random_is_ready).verdict in ("pass", "warn")


# ---- time


def test_the_kernel_is_asked_about_its_clock():
    found = clock.kernel_clock()
    assert found is not None and found.error_seconds >= 0
    assert clock.sync(found).verdict in ("pass", "warn")


def test_a_clock_that_nobody_keeps_is_a_warning_and_one_that_is_kept_passes():
    assert clock.sync(clock.KernelClock(False, 16.0)).verdict == "warn"
    assert clock.sync(clock.KernelClock(True, 0.004)).verdict == "pass"
    assert clock.sync(clock.KernelClock(True, 3.0)).verdict == "warn"
    assert clock.sync(None).verdict == "warn"


@pytest.mark.parametrize(("skew", "uncertainty", "verdict"), [
    (0.0002, 0.0001, "pass"), (-0.4, 0.001, "pass"), (0.7, 0.001, "warn"), (-600.0, 0.001, "fail"), (600.0, 0.2, "fail"),
    (0.9, 0.6, "pass"),  # a slow line, not a wrong clock
])
def test_skew_is_judged_in_both_directions_less_what_is_not_known(skew, uncertainty, verdict):
    finding = clock.skew([PeerResult("other", "10.0.0.2", {}, skew=skew, uncertainty=uncertainty)])
    assert finding.verdict == verdict
    assert f"other is {abs(skew):.3f} s {'ahead' if skew > 0 else 'behind'}" in finding.evidence[0]


def test_a_node_that_could_not_be_asked_is_a_warning_with_the_reason():
    finding = clock.skew([PeerResult("other", "10.0.0.2", {}, silence="no TCP port of its listener can be reached")])
    assert finding.verdict == "warn" and "no TCP port" in finding.evidence[0]
    assert clock.skew([]).verdict == "not applicable"
