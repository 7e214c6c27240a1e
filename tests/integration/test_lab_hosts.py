# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the lab: they are what a provider hands out, and nothing of them is left on the machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import build, places, processes
from lab.errors import LabError
from lab.hosts import AlreadyRuns, Hosts, cgroups, impediment, is_running, limits, rootfs

pytestmark = [pytest.mark.hosts, pytest.mark.built("hosts"), pytest.mark.timeout(900)]

PATIENCE = 180.0
TESTS = str(places.HERE.parent)


def lab(*arguments, **env):
    """The command line of the lab's hosts, started."""
    return subprocess.Popen([sys.executable, "-m", "lab", "hosts", *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": TESTS, **env})


def said(*arguments, **env):
    """Its exit code, output and errors, ended."""
    process = lab(*arguments, **env)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def ansible(hosts, pattern, module, arguments=""):
    """What an ad-hoc command of Ansible returns, by host."""
    done = subprocess.run(["ansible", pattern, "-i", str(hosts.inventory), "-m", module, *(["-a", arguments] if arguments else [])], text=True,
                          capture_output=True, timeout=PATIENCE, check=False, env={
                              **os.environ, "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline"})
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.split(" | ")[0]: json.loads(line.partition("=> ")[2]) for line in done.stdout.splitlines() if "=> " in line}


def soon(condition, within=PATIENCE):
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def name_on_the_machine(state):
    """What everything of this set of hosts is called on the machine."""
    subnet = json.loads((state / "hosts.json").read_text())["subnet"]
    second, third = map(int, re.match(r"198\.(\d+)\.(\d+)\.0/24", subnet).groups())
    return f"lab-hosts-{(second - 18) * 256 + third}"


def supervisors(state):
    """The process ids of a set's two supervising processes, the outer one first."""
    return sorted(number for number, words in processes.naming(state).items() if "lab.hosts.supervisor" in words and str(state) in words)


def cgroups_named(name):
    return [str(folder) for pattern in (name, f"*/{name}") for folder in Path("/sys/fs/cgroup").glob(pattern)]


def traces(state, name):
    """What is on the machine of a set of hosts: processes, cables, cgroups, mounts, loop devices, its folder."""
    found = [f"process {number}" for number in supervisors(state)]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"/{name}/" in (folder / "cgroup").read_text() and " Z " not in (folder / "stat").read_text():
                found.append(f"process {folder.name} in its cgroup")
        except OSError:
            continue
    found += [line for line in subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout.splitlines() if name in line]
    found += cgroups_named(name)
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line or name in line]
    found += [file.read_text() for file in Path("/sys/block").glob("loop*/loop/backing_file") if str(state) in file.read_text()]
    return found + ([str(state)] if state.exists() else [])


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    # A space in the path: people have them, and ssh splits some options at it.
    with Hosts.start(["server1", "agent1", "spare"], tmp_path_factory.mktemp("hosts") / "my hosts", disks={"spare": "100m"}) as running:
        yield running


class TestHosts:
    def test_they_boot_without_a_failed_unit(self, hosts, tell):
        for name in hosts.names:
            assert hosts.run(name, "systemctl is-system-running --wait", check=False) == "running\n", hosts.run(name, "systemctl --failed")
            assert hosts.run(name, "hostname; hostname -f; cat /etc/hostname").split() == [name] * 3
        assert len({hosts.run(name, "cat /etc/machine-id") for name in hosts.names}) == 3
        tell(f"lab: {len(hosts.names)} hosts booted in {hosts.seconds:.1f} s")

    def test_ansible_pings_them_reads_their_facts_and_manages_their_units(self, hosts):
        assert set(ansible(hosts, "all", "ping")) == {"server1", "agent1", "spare"}
        for group, name in (("k3s_servers", "server1"), ("k3s_agents", "agent1"), ("ungrouped", "spare")):
            assert list(ansible(hosts, group, "ping")) == [name]
        facts = ansible(hosts, "server1", "setup", "gather_subset=min,network")["server1"]["ansible_facts"]
        assert facts["ansible_service_mgr"] == "systemd" and facts["ansible_hostname"] == "server1"
        assert facts["ansible_default_ipv4"]["address"] == hosts.addresses["server1"]
        stopped = ansible(hosts, "server1", "systemd_service", "name=systemd-tmpfiles-clean.timer state=stopped")["server1"]
        assert stopped["changed"] and hosts.run("server1", "systemctl is-active systemd-tmpfiles-clean.timer", check=False) == "inactive\n"

    def test_systemd_answers_for_as_long_as_the_host_is_up(self, hosts):
        """It tells its container's manager of each reload; when nobody heard it, it stood still after a few."""
        for _turn in range(3):
            hosts.run("server1", "for turn in 1 2 3 4 5 6 7 8 9 10; do timeout 30 systemctl daemon-reload; done")
            hosts.run("server1", "timeout 30 systemctl start systemd-tmpfiles-clean")
        assert hosts.run("server1", "timeout 30 systemctl is-system-running") == "running\n"

    def test_ansible_reboots_one(self, hosts):
        before = hosts.run("agent1", "cat /proc/sys/kernel/random/boot_id; cat /etc/machine-id").split()
        assert ansible(hosts, "agent1", "reboot")["agent1"]["rebooted"]
        after = hosts.run("agent1", "cat /proc/sys/kernel/random/boot_id; cat /etc/machine-id").split()
        assert after[0] != before[0] and after[1] == before[1]

    def test_they_reach_one_another_by_name_and_nothing_else(self, hosts):
        assert "1 received" in hosts.run("server1", "ping -c 1 -W 5 agent1")
        assert "Net Unreachable" in hosts.run("server1", "ping -c 1 -W 5 192.0.2.200", check=False)
        # Not the machine's own addresses either, other than the end of the cable.
        elsewhere = "python3 -c 'import socket; socket.create_connection((\"192.0.2.200\", 80), 5)'"
        with pytest.raises(LabError, match="Network is unreachable|No route to host"):
            hosts.run("server1", elsewhere)

    def test_only_the_key_of_this_set_logs_in_and_only_to_the_right_host(self, hosts, tmp_path):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
        command = hosts.ssh("server1")
        stranger = [str(tmp_path / "key") if word == str(hosts.key) else word for word in command]
        assert "Permission denied" in subprocess.run([*stranger, "true"], capture_output=True, text=True, check=False).stderr
        other = [word.replace(hosts.addresses["server1"], "0.0.0.0") for word in command]
        assert subprocess.run([*other, "true"], capture_output=True, text=True, check=False).returncode == 255
        lines = hosts.known_hosts.read_text().splitlines()
        keys = [line.split(" ", 1)[1] for line in lines]
        (tmp_path / "known_hosts").write_text(f"{hosts.addresses['server1']} {keys[1]}\n")
        fooled = [word.replace(str(hosts.known_hosts), str(tmp_path / "known_hosts")) for word in command]
        assert "Host key verification failed" in subprocess.run([*fooled, "true"], capture_output=True, text=True, check=False).stderr

    def test_the_keys_are_readable_by_nobody_else(self, hosts):
        assert oct(hosts.state.stat().st_mode & 0o777) == "0o700"
        assert oct(hosts.key.stat().st_mode & 0o777) == "0o600"

    def test_a_host_that_lost_power_keeps_its_files_and_a_fresh_one_is_new(self, hosts):
        hosts.run("spare", "echo here > /etc/mine; echo here > /var/lib/rancher/mine; mkdir -p /var/lib/kubelet/pods; sync")
        hosts.run("spare", "nohup sleep 1000 >/dev/null 2>&1 &")
        identity = hosts.run("spare", "cat /etc/machine-id")
        hosts.kill("spare")
        assert hosts.power() == {"server1": "up", "agent1": "up", "spare": "off"}
        with pytest.raises(LabError):
            hosts.run("spare", "true")
        hosts.boot("spare")
        assert hosts.run("spare", "cat /etc/mine /var/lib/rancher/mine /etc/machine-id") == f"here\nhere\n{identity}"
        assert not hosts.run("spare", "pgrep sleep", check=False)
        with pytest.raises(LabError, match="spare is on"):
            hosts.boot("spare")
        hosts.kill("spare")
        hosts.boot("spare", fresh=True)
        assert hosts.run("spare", "ls /etc/mine /var/lib/rancher/mine /var/lib/kubelet", check=False) == ""
        assert hosts.run("spare", "cat /etc/machine-id") != identity

    def test_a_host_that_powers_itself_off_is_off(self, hosts):
        hosts.run("spare", "systemctl poweroff", check=False)
        assert soon(lambda: hosts.power()["spare"] == "off")
        hosts.boot("spare")
        assert hosts.power()["spare"] == "up"

    def test_what_kubelet_sets_in_the_kernel_stays_in_its_host(self, hosts):
        names = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
        before = [Path("/proc/sys", name).read_text() for name in names]
        for name in names:
            hosts.run("server1", f"echo 9 > /proc/sys/{name}")
        assert hosts.run("server1", "cat " + " ".join(f"/proc/sys/{name}" for name in names)).split() == ["9", "9", "9"]
        assert [Path("/proc/sys", name).read_text() for name in names] == before
        assert hosts.run("agent1", "cat /proc/sys/kernel/panic") == before[1]

    def test_each_host_has_cgroups_of_its_own_that_it_may_write(self, hosts):
        """Or the kubelets of all hosts meet in one /kubepods."""
        make = "for one in $(grep -oE '/sys/fs/cgroup\\S* cgroup2? rw' /proc/mounts | cut -d' ' -f1); do mkdir $one/kubepods && echo $one; done"
        made = [sorted(hosts.run(name, make).split()) for name in ("server1", "agent1")]
        assert made[0] == made[1] and made[0]
        assert not list(Path("/sys/fs/cgroup").glob("*/kubepods"))

    def test_a_little_disk_is_full_soon(self, hosts):
        words = hosts.run("spare", "dd if=/dev/zero of=/var/lib/rancher/x bs=1M count=200 2>&1; rm /var/lib/rancher/x", check=False)
        assert "No space left on device" in words
        hosts.run("spare", "dd if=/dev/zero of=/var/x bs=1M count=200; rm /var/x")

    def test_a_slow_disk_and_a_wrong_clock(self, hosts):
        measure = ("import os, time; file = os.open('/var/lib/x', os.O_RDWR | os.O_CREAT); begin = time.monotonic(); os.fdatasync(file); os.fsync(file); "
                   "print(time.monotonic() - begin, time.time())")

        def look():
            took, clock = map(float, hosts.run("agent1", f'python3 -c "{measure}"').split())
            return took, clock - time.time()

        hosts.fault("agent1", fsync_ms=150, clock_seconds=-600)
        took, skew = look()
        assert took >= 0.3 and -600 - 20 < skew < -600 + 20
        assert abs(int(hosts.run("agent1", "date +%s")) + 600 - time.time()) < 20
        hosts.fault("agent1", clock_seconds=7200)
        assert 7180 < look()[1] < 7220
        hosts.fault("agent1")
        assert abs(look()[1]) < 20
        assert hosts.run("agent1", "ls /etc/ld.so.preload /etc/lab-faults", check=False) == ""

    def test_a_blocked_port_is_dropped_until_it_is_free_again(self, hosts):
        reach = f"timeout 2 bash -c '< /dev/tcp/{hosts.addresses['agent1']}/22' && echo open"
        hosts.block("agent1", 22)
        try:
            assert hosts.run("server1", reach, check=False) == ""
        finally:
            # Through ssh there is no way now; it is the fault that is asked for.
            hosts.kill("agent1")
            hosts.boot("agent1")
        assert hosts.run("server1", reach) == "open\n"
        hosts.block("agent1", 4444)
        hosts.unblock("agent1", 4444)
        assert "4444" not in hosts.run("agent1", "iptables -S")

    def test_an_unknown_host_is_refused_with_the_known_ones(self, hosts):
        for use in (hosts.kill, hosts.boot, lambda name: hosts.run(name, "true")):
            with pytest.raises(LabError, match="no host server9; there are server1, agent1, spare"):
                use("server9")

    def test_two_sets_run_at_the_same_time_and_do_not_see_each_other(self, hosts):
        with Hosts.start(["server1", "agent1"]) as others:
            assert not set(others.addresses.values()) & set(hosts.addresses.values())
            assert others.run("agent1", "cat /etc/machine-id") != hosts.run("agent1", "cat /etc/machine-id")
            assert "1 received" in others.run("server1", "ping -c 1 -W 5 agent1")
            with pytest.raises(LabError, match="nreachable"):
                others.run("server1", f"ping -c 1 -W 5 {hosts.addresses['server1']}")
            state, name = others.state, name_on_the_machine(others.state)
            assert traces(state, name)
        assert not traces(state, name)
        assert hosts.run("server1", "hostname") == "server1\n"


class TestNothingIsLeft:
    """The promise that lets anybody press Ctrl-C, on the machine of their own."""

    def test_hosts_end_with_their_last_user_even_when_that_is_killed(self, tmp_path):
        state = tmp_path / "state"
        script = ("import sys, time; from pathlib import Path; from lab.hosts import Hosts\n"
                  "hosts = Hosts.start(['server1', 'agent1'], Path(sys.argv[1]), disks={'agent1': '50m'}); print('ready', flush=True); time.sleep(600)")
        user = subprocess.Popen([sys.executable, "-c", script, str(state)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": TESTS})
        assert user.stdout.readline() == "ready\n"
        user.stdout.close()
        name = name_on_the_machine(state)
        with Hosts.join(state) as hosts:
            user.kill()
            user.wait()
            time.sleep(1)  # more than one round of the supervisor's loop
            assert hosts.run("server1", "hostname") == "server1\n"
            assert len(traces(state, name)) > 10
        assert soon(lambda: not traces(state, name)), traces(state, name)

    def test_detached_hosts_stay_until_they_are_stopped(self, tmp_path):
        state = tmp_path / "state"
        code, out, err = said("start", "--state", state, "--names", "server1")
        assert (code, out) == (0, f"{state}/inventory/hosts.yml\n"), err
        name = name_on_the_machine(state)
        code, again, err = said("start", "--state", state, "--names", "server1")
        assert (code, again) == (0, out) and "Not needed: hosts run" in err
        code, _out, err = said("start", "--state", state, "--names", "server1,server2")
        assert code == 1 and "they are server1" in err
        with pytest.raises(AlreadyRuns):
            Hosts.start(["server1"], state)
        status = json.loads(said("status", "--json", "--state", state)[1])
        assert status["power"] == {"server1": "up"} and list(status["hosts"]) == ["server1"]
        assert said("ssh", "--state", state, "server1", "hostname") == (0, "server1\n", "")
        assert said("kill", "--state", state, "server1")[0] == 0
        assert json.loads(said("status", "--json", "--state", state)[1])["power"] == {"server1": "off"}
        assert said("boot", "--state", state, "server1")[0] == 0
        assert "are stopped" in said("stop", "--state", state)[2]
        assert not traces(state, name)
        assert "No hosts run" in said("stop", "--state", state)[2] and said("status", "--state", state)[0] == 1

    def test_detached_hosts_end_with_the_process_that_they_are_started_for(self, tmp_path):
        """So a test run that is killed in the middle of a molecule scenario leaves none."""
        state = tmp_path / "state"
        owner = subprocess.Popen(["sleep", "600"])
        assert said("start", "--state", state, "--names", "server1", NORDIC_LAB_OWNER=str(owner.pid))[0] == 0
        name = name_on_the_machine(state)
        time.sleep(1)
        assert is_running(state)
        owner.kill()
        owner.wait()
        assert soon(lambda: not traces(state, name)), traces(state, name)
        code, _out, err = said("start", "--state", state, "--names", "server1", NORDIC_LAB_OWNER=str(owner.pid))
        assert code == 1 and "No such process" in err and not state.exists()

    @pytest.mark.parametrize("victims", ["outer", "keeper", "both"])
    def test_killed_supervisors_take_the_hosts_along_and_the_next_stop_removes_the_rest(self, tmp_path, victims):
        state = tmp_path / "state"
        assert said("start", "--state", state, "--names", "server1", "--disk", "server1=50m")[0] == 0
        name, (outer, keeper) = name_on_the_machine(state), supervisors(state)
        if victims == "both":
            os.kill(outer, signal.SIGSTOP)  # so that it cannot clean up in between
        for number in {"outer": [outer], "keeper": [keeper], "both": [keeper, outer]}[victims]:
            os.kill(number, signal.SIGKILL)

        def alive():
            return [trace for trace in traces(state, name) if not trace.startswith(("/sys/fs/cgroup", str(state)))]

        assert soon(lambda: not alive()), alive()
        if victims == "keeper":
            assert soon(lambda: not traces(state, name)), traces(state, name)
        said("stop", "--state", state)
        assert not traces(state, name)

    def test_the_next_start_of_any_hosts_removes_the_cgroups_that_killed_ones_left(self, tmp_path):
        assert said("start", "--state", tmp_path / "one", "--names", "server1")[0] == 0
        name, (outer, keeper) = name_on_the_machine(tmp_path / "one"), supervisors(tmp_path / "one")
        os.kill(outer, signal.SIGKILL)
        assert soon(lambda: not Path(f"/proc/{keeper}").exists())
        # Another person's hosts may have started meanwhile, and have removed them.
        cgroups.create(f"{name}/server1")
        with Hosts.start(["server1"], tmp_path / "two"):
            assert not cgroups_named(name)
        # The folder of the killed ones is taken over by a start there.
        with Hosts.start(["agent1"], tmp_path / "one") as hosts:
            assert hosts.names == ["agent1"]
        assert not (tmp_path / "one").exists()

    def test_the_machines_limit_is_raised_for_them_and_put_back_by_the_last(self, tmp_path):
        """With the kernel's 128 inotify instances the fourth host with k3s starts no pod."""
        if not limits.BEFORE.exists():  # else other hosts run on this machine, and the limit stays theirs
            limits.SETTING.write_text("128\n")
        with Hosts.start(["server1"], tmp_path / "one"):
            before = limits.BEFORE.read_text()
            second = limits.raise_them()
            assert int(limits.SETTING.read_text()) >= limits.ENOUGH and limits.BEFORE.read_text() == before
            limits.lower(second)
            assert int(limits.SETTING.read_text()) >= limits.ENOUGH
        assert (limits.SETTING.read_text() == before) != limits.BEFORE.exists()

    def test_hosts_whose_folder_somebody_removes_end(self, tmp_path):
        """Else nobody could stop them any more."""
        state = tmp_path / "state"
        assert said("start", "--state", state, "--names", "server1")[0] == 0
        name = name_on_the_machine(state)
        (state / "orders").unlink()
        assert soon(lambda: not traces(state, name)), traces(state, name)

    def test_ctrl_c_while_they_start_ends_them(self, tmp_path):
        state = tmp_path / "state"
        start = lab("start", "--state", state, "--names", "server1,server2")
        assert soon((state / "machines" / "server2" / "console.log").exists)
        start.send_signal(signal.SIGINT)
        assert start.communicate(timeout=PATIENCE)[1].endswith("lab: interrupted\n")
        assert soon(lambda: not supervisors(state)) and not state.exists()

    def test_a_host_that_does_not_boot_says_so_with_its_consoles_last_words(self, tmp_path, monkeypatch):
        broken = tmp_path / "broken"
        subprocess.run(["cp", "-a", str(rootfs.make()), str(broken)], check=True)
        (broken / "sbin" / "init").unlink()
        (broken / "usr" / "lib" / "systemd" / "systemd").write_text("#!/bin/sh\necho no init today\nexit 7\n")
        monkeypatch.setenv("NORDIC_CACHE", str(tmp_path / "cache"))
        rootfs.folder().parent.mkdir(parents=True)
        broken.rename(rootfs.folder())
        with pytest.raises(LabError, match="server1 did not boot") as error:
            Hosts.start(["server1"], tmp_path / "state")
        assert "no init today" in str(error.value)
        assert not (tmp_path / "state").exists()


class TestBadInput:
    @pytest.mark.parametrize(("names", "words"), [
        ([], "no host is named"), (["Server1"], "no name for a host"), (["a_b"], "no name for a host"), (["localhost"], "no name for a host"),
        (["a", "b", "a"], "named twice: a"), ([f"h{number}" for number in range(201)], "room for 200"),
    ])
    def test_names_that_cannot_be_are_refused(self, names, words):
        with pytest.raises(LabError, match=words):
            Hosts.start(names)

    @pytest.mark.parametrize(("disks", "words"), [
        ({"a": "much"}, "no size of a disk"), ({"a": "1m"}, "at least 8m"), ({"b": "100m"}, "none of the hosts a"),
    ])
    def test_disks_that_cannot_be_are_refused(self, disks, words):
        with pytest.raises(LabError, match=words):
            Hosts.start(["a"], disks=disks)

    def test_a_folder_with_other_things_in_it_is_not_touched(self, tmp_path):
        (tmp_path / "mine").write_text("dear")
        with pytest.raises(LabError, match="holds other things"):
            Hosts.start(["server1"], tmp_path)
        code, _out, err = said("stop", "--state", tmp_path)
        assert "No hosts run" in err and (tmp_path / "mine").read_text() == "dear"

    def test_who_is_not_root_is_told(self):
        code = "import os; os.seteuid(65534); from lab.hosts import Hosts; Hosts.start(['server1'])"
        done = subprocess.run([sys.executable, "-c", f"import lab.hosts; {code}"], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": TESTS})
        assert "LabError: hosts need root" in done.stderr

    def test_what_is_not_installed_is_named(self, monkeypatch, tmp_path):
        assert impediment() == ""
        for program in ("ip", "ssh"):
            (tmp_path / program).symlink_to(shutil.which(program))
        monkeypatch.setenv("PATH", str(tmp_path))
        assert impediment().startswith("systemd-nspawn, debootstrap, unshare") and "bindep.txt" in impediment()


class TestFileSystem:
    """With a debootstrap of three lines in place of Debian."""

    @pytest.fixture
    def debootstrap(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NORDIC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        program = tmp_path / "debootstrap"

        def write(body):
            program.write_text(f'#!/bin/sh\nfor target; do :; done\nmkdir -p "$target/etc" "$target/var/lib/dbus"\n{body}\n')
            program.chmod(0o755)
        return write

    def make(self):
        return subprocess.Popen([sys.executable, "-c", "from lab.hosts import rootfs; print(rootfs.make(print))"], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": TESTS})

    def test_it_is_made_once_and_two_at_once_take_turns(self, debootstrap, tmp_path):
        debootstrap(f"echo x >> {tmp_path}/count; sleep 1")
        words = [process.communicate(timeout=PATIENCE)[0] for process in (self.make(), self.make())]
        assert {text.splitlines()[-1] for text in words} == {str(rootfs.folder())}
        assert (tmp_path / "count").read_text() == "x\n" and any("another process makes it, waiting" in text for text in words)
        assert (rootfs.folder() / "etc" / "machine-id").read_text() == ""

    def test_a_killed_one_is_made_anew_and_leaves_neither_mounts_nor_processes(self, debootstrap, tmp_path):
        debootstrap('mkdir "$target/proc"; mount -t tmpfs none "$target/proc"; touch "$target/begun" "$target/proc/begun"; sleep 600')
        making = self.make()
        assert soon(lambda: list((tmp_path / "cache").rglob("begun")))
        making.kill()
        making.communicate()
        assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]
        debootstrap("exit 0")
        made = rootfs.make(build.silent)
        assert made.exists() and not list((tmp_path / "cache").rglob("begun"))
        assert sorted(entry.name for entry in made.parent.iterdir()) == sorted([f".{made.name}.lock", made.name, "packages"])

    def test_the_words_of_a_debootstrap_that_fails_are_shown(self, debootstrap):
        debootstrap('mkdir "$target/debootstrap"; echo "no such mirror" > "$target/debootstrap/debootstrap.log"; echo E: gone; exit 1')
        with pytest.raises(LabError, match="(?s)debootstrap ended with 1.*E: gone.*no such mirror"):
            rootfs.make()
        assert not rootfs.folder().exists() and not is_running(rootfs.folder())
