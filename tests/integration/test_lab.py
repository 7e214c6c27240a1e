# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every other test relies on: the lab's parts are real, and leave nothing behind."""

from __future__ import annotations

import subprocess

import pytest

from lab import proxy
from lab.errors import LabError
from lab.repository import git_env


def clone(url, folder, **env):
    return subprocess.run(["git", "clone", "--quiet", url, str(folder)], capture_output=True, text=True, timeout=60,
                          env={**git_env(), **env})


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
            subprocess.run(["git", *command], cwd=tmp_path / "clone", check=True, env=git_env(), timeout=60)
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


class TestFaultProxy:
    def ask(self, fault_proxy, method="GET", path="/version", body=None):
        from pathlib import Path
        from lab.api import Api
        return Api(fault_proxy.url, Path(fault_proxy.ca_file), fault_proxy.cluster.admin_token).send(method, path, body)

    def test_without_faults_it_is_the_server(self, fault_proxy):
        assert "kube-system" in fault_proxy.cluster.kubectl("get", "namespaces", kubeconfig=fault_proxy.kubeconfig)

    def test_a_script_is_played_in_order(self, fault_proxy):
        fault_proxy.script(proxy.status(429, retry_after=3), proxy.GOES_WELL, proxy.status(503), proxy.DROP, proxy.CUT)
        assert [self.ask(fault_proxy)[0] for _ in range(3)] == [429, 200, 503]
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
            for _ in range(30):
                self.ask(fault_proxy)
            return [str(one.fault) for one in fault_proxy.requests]
        first = run()
        assert first == run()
        assert 4 < sum(fault != "None" for fault in first) < 20
