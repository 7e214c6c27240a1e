# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module k3s on one real host: what is refused before anything is changed, what is left alone, and where no secret is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import Any

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import health

from fleet import TOKEN, K3sHost
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG

pytestmark = [pytest.mark.hosts, pytest.mark.built("k3s"), pytest.mark.timeout(900)]

S3_KEY = "the-s3-key-of-this-test-0123456789"


@pytest.fixture(scope="module")
def hosts():
    with Hosts.start(["server1"]) as started:
        yield started


@pytest.fixture
def fresh(hosts, tmp_path):
    """A host without k3s."""
    machine = K3sHost(hosts, tmp_path)
    machine.clean()
    return machine


@pytest.fixture(scope="module")
def serving(hosts, tmp_path_factory):
    """A host with a server that these tests share, each leaving it as it was."""
    machine = K3sHost(hosts, tmp_path_factory.mktemp("serving"))
    machine.clean()
    answer = machine.k3s(config=SERVER_CONFIG, token=TOKEN)
    assert answer.result["started"] and not answer.result.get("failed"), answer.message
    return machine


def refused(machine: K3sHost, **options: Any) -> str:
    """The message; and nothing was changed for it."""
    answer = machine.k3s(**options)
    assert answer.result.get("failed"), answer.result
    assert machine.traces() == ""
    return answer.message


def test_a_key_that_k3s_does_not_take_is_refused_with_the_one_that_was_meant(fresh):
    message = refused(fresh, config={"tls_san": ["a"], "flanel-backend": "none"}, drop_ins={"50-x": {"nonsense": True}})
    assert "config: k3s server has no option tls_san, did you mean tls-san?" in message
    assert "did you mean flannel-backend" in message and "drop_ins.50-x: k3s server has no option nonsense" in message


def test_a_servers_key_on_an_agent_is_said_to_be_one(fresh):
    message = refused(fresh, role="agent", config={"server": "https://a:6443", "cluster-cidr": "10.0.0.0/8"}, token=TOKEN)
    assert "k3s agent has no option cluster-cidr, it is one of servers" in message


REFUSED = [
    ({"checksum": "0" * 64}, "nothing was changed"),
    ({"binary": "/etc/hostname"}, "not a Linux executable"),
    ({"binary": "/no/such/k3s"}, "no such file on the controller; it was looked for at"),
    ({"binary": "no/such/k3s"}, "no/such/k3s: there is no such file on the controller; it was looked for at"),
    ({"environment": {"K3S_TOKEN": "x"}}, "k3s' own variable"),
    ({"environment": {"NOT A NAME": "x"}}, "a text of one line"),
    ({"config": {"write-kubeconfig-mode": "0666"}}, "everybody could write"),
    ({"binary": "/no/such/k3s", "remote_src": True}, "no such file on this node"),
    ({"binary": None}, "no binary is given"),
    ({"binary": None, "remote_src": True, "images": [{"path": "/etc/hostname.tar"}]}, "no binary is given"),
    ({"config": {"token": TOKEN}}, "Use token: it goes into a file of mode 0600"),
    ({"config": {"tls-san": {"a": 1}}}, "A value is text"),
    ({"config": {"datastore-endpoint": "postgres://x", "cluster-init": True}}, "either external or embedded"),
    ({"config": {"server": "https://a:6443", "cluster-init": True}}, "either joins a cluster or begins one"),
    ({"config": {"server": "https://a:6443"}}, "needs the cluster's token"),
    ({"role": "agent", "token": TOKEN}, "needs the URL of a server"),
    ({"role": "agent", "config": {"server": "https://a:6443"}}, "needs the cluster's token"),
    ({"token": "two words"}, "white space"),
    ({"files": {"/etc/passwd": "x"}}, "not below /etc/rancher/k3s"),
    ({"files": {"/etc/rancher/k3s/../../passwd": "x"}}, "not below /etc/rancher/k3s"),
    ({"files": {"/etc/rancher/k3s/token": "x"}}, "an option of its own"),
    ({"drop_ins": {"../x": {}}}, "not a file name"),
    ({"images": [{"path": "/etc/hostname"}]}, "is not an archive that k3s imports"),
    ({"rotate_certificates": True}, "`state: restarted` alone"),
    ({"state": "upgraded"}, "nothing to upgrade"),
    ({"state": "restarted", "binary": None}, "there is no k3s.service"),
]


@pytest.fixture(scope="module")
def refusals(hosts, tmp_path_factory):
    """What came of each of them on a host without k3s, and what they left there. In one playbook: a run for each would take minutes."""
    machine = K3sHost(hosts, tmp_path_factory.mktemp("refused"))
    machine.clean()
    return machine.each([options for options, _said in REFUSED]), machine.traces()


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[said for _options, said in REFUSED])
def test_bad_input_is_refused_before_anything_is_changed(refusals, number):
    answers, traces = refusals
    assert answers[number].result.get("failed") and REFUSED[number][1] in answers[number].message, answers[number].result
    assert traces == ""


def test_every_kind_of_cluster_is_only_configuration(fresh):
    """Rendered, and accepted by the binary: nothing starts here."""
    config = {**SERVER_CONFIG, "datastore-endpoint": "postgres://k3s:pass@db:5432/k3s", "cluster-cidr": "10.42.0.0/16,fd00:42::/56",
              "service-cidr": "10.43.0.0/16,fd00:43::/112", "flannel-backend": "none", "disable-network-policy": True, "disable-agent": True,
              "node-label": ["disk=nvme"], "node-taint": ["dedicated=x:NoSchedule"], "kubelet-arg": ["max-pods=200"], "etcd-s3": True,
              "etcd-s3-secret-key": S3_KEY, "secrets-encryption": True, "protect-kernel-defaults": True}
    answer = fresh.k3s(config=config, drop_ins={"50-more": {"kubelet-arg+": ["v=1"]}}, start=False, token=TOKEN)
    assert not answer.result.get("failed") and not answer.result["started"], answer.message
    written = yaml.safe_load(fresh.run("cat /etc/rancher/k3s/config.yaml"))
    assert written == {**config, "token-file": "/etc/rancher/k3s/token"}
    assert yaml.safe_load(fresh.run("cat /etc/rancher/k3s/config.yaml.d/50-more.yaml")) == {"kubelet-arg+": ["v=1"]}
    modes = fresh.run("stat -c '%a %U' /etc/rancher/k3s/config.yaml /etc/rancher/k3s/token /etc/rancher/k3s/config.yaml.d/50-more.yaml")
    assert set(modes.splitlines()) == {"600 root"}
    for secret in (TOKEN, S3_KEY, "k3s:pass"):
        assert secret not in answer.output
        # Ansible writes a module's arguments to the host's log.
        assert fresh.run(f"journalctl --boot --no-pager | grep -c -- '[{secret[0]}]{secret[1:]}'; true").strip() == "0"
    assert re.search(r"ansible-nordic\.gitops\.k3s\[\d+\]: Invoked with", fresh.run("journalctl --boot --no-pager"))
    again = fresh.k3s(config=config, start=False, drop_ins={"50-more": {"kubelet-arg+": ["v=1"]}})
    assert not again.result["changed"], again.result
    gone = fresh.k3s(config=config, start=False)
    assert gone.result["changes"] == ["/etc/rancher/k3s/config.yaml.d/50-more.yaml will be removed"]


OTHERS_UNIT = """[Service]
EnvironmentFile=-/etc/systemd/system/k3s.service.env
ExecStart=/usr/local/bin/k3s \\
    server \\
\t'--cluster-init' \\
\t'--flannel-backend=host-gw' \\
\t'--data-dir=/var/lib/rancher/other' \\

"""


def test_a_host_of_the_install_script_is_adopted_with_nothing_lost_or_not_at_all(fresh):
    unit = "/etc/systemd/system/k3s.service"
    fresh.hosts.run("server1", f"cat > {unit}", input=OTHERS_UNIT)
    fresh.hosts.run("server1", f"cat > {unit}.env", input="K3S_TOKEN='the-others-token-1'\nHTTP_PROXY='http://u:hunter2@proxy'\n")
    refused_one = fresh.k3s(config=SERVER_CONFIG, token=TOKEN, start=False)
    assert refused_one.result.get("failed") and "hunter2" not in refused_one.output
    for lost in ("flannel-backend: host-gw would be lost", "data-dir: /var/lib/rancher/other would be lost", "environment HTTP_PROXY"):
        assert lost in refused_one.message, refused_one.message
    assert fresh.run(f"cat {unit}").strip() == OTHERS_UNIT.strip() and fresh.run("ls /usr/local/bin/k3s 2>/dev/null; true") == ""
    wanted = {**SERVER_CONFIG, "flannel-backend": "host-gw", "data-dir": "/var/lib/rancher/other"}
    taken = fresh.k3s(config=wanted, environment={"HTTP_PROXY": "http://u:hunter3@proxy"}, token=TOKEN, start=False)
    assert not taken.result.get("failed") and "hunter3" not in taken.output, taken.message
    assert "host-gw" in fresh.run("cat /var/lib/nordic.gitops/k3s/replaced/*/etc/systemd/system/k3s.service")
    assert fresh.run("systemctl show --property EnvironmentFiles --value k3s").count("/etc/rancher/k3s/environment") == 1
    assert fresh.run("stat -c %a /etc/rancher/k3s/environment").strip() == "600"
    assert not fresh.k3s(config=wanted, environment={"HTTP_PROXY": "http://u:hunter3@proxy"}, token=TOKEN, start=False).result["changed"]
    gone = fresh.k3s(config=wanted, token=TOKEN, start=False)
    assert len(gone.result["changes"]) == 2 and "environment" in str(gone.result["changes"])


def test_a_mode_without_quotes_is_refused(fresh):
    assert 'Write the mode in quotes, such as "0640"' in refused(fresh, config={"write-kubeconfig-mode": 0o640})


def test_check_mode_says_what_the_run_then_does(fresh):
    options = {"config": SERVER_CONFIG, "token": TOKEN, "start": False}
    told, done = fresh.k3s(check=True, **options), fresh.k3s(**options)
    assert told.result["changes"] == done.result["changes"] and told.result["changed"]


def test_check_mode_of_an_image_archive_says_what_the_run_then_does(fresh, tmp_path):
    installed = {"config": SERVER_CONFIG, "token": TOKEN, "start": False}
    fresh.k3s(**installed)
    (tmp_path / "pause.tar").write_bytes(b"an archive")
    archive = {**installed, "binary": None, "images": [{"path": str(tmp_path / "pause.tar")}]}
    told, done = fresh.k3s(check=True, **archive), fresh.k3s(**archive)
    assert told.result["changes"] == done.result["changes"] == ["image archive pause.tar is copied"]


def test_a_second_run_changes_nothing_and_is_one_command_on_the_host(serving):
    answer = serving.k3s(config=SERVER_CONFIG)
    assert not answer.result["changed"] and not answer.result["restart_needed"], answer.result
    task = answer.output.partition("TASK [Sample]")[2].partition("TASK [")[0]
    assert len(re.findall(r"SSH: EXEC", task)) == 1


def test_the_token_is_in_no_argument_no_environment_no_log_and_no_output(serving):
    answer = serving.k3s(config=SERVER_CONFIG, token=TOKEN)
    assert TOKEN not in answer.output
    # The pattern is not itself in the shell's arguments.
    pattern = f"[{TOKEN[0]}]{TOKEN[1:]}"
    assert serving.run(f"cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c -- '{pattern}'; true").strip() == "0"
    assert serving.run(f"journalctl --boot --no-pager | grep -c -- '{pattern}'; true").strip() == "0"
    files = serving.run(f"grep -rl -- '{pattern}' /etc /var/lib/rancher/k3s/server/token /var/lib/nordic.gitops 2>/dev/null; true").split()
    assert files and all(serving.run(f"stat -Lc %a {file}").strip() == "600" for file in files), files


def test_another_token_is_refused_on_a_node_of_a_cluster(serving):
    answer = serving.k3s(config=SERVER_CONFIG, token="not-the-one-0123456789")
    assert answer.result.get("failed") and "not the one of the cluster" in answer.message and "not-the-one" not in answer.output


def test_a_restart_that_is_owed_is_made_up_for(serving):
    changed = {**SERVER_CONFIG, "kubelet-arg": ["max-pods=99"]}
    for _run in range(2):  # the second one finds the file as it shall be, and still knows
        answer = serving.k3s(config=changed, restart=False)
        assert answer.result["restart_needed"] and not answer.result["restarted"] and "kubelet-arg" in str(answer.result["restart_reasons"])
    answer = serving.k3s(config=changed)
    assert answer.result["restarted"] and not answer.result["restart_needed"], answer.result
    assert not serving.k3s(config=changed).result["changed"]
    assert serving.k3s(config=SERVER_CONFIG).result["restarted"]


def test_a_file_that_somebody_opened_to_all_is_closed_without_a_restart(serving):
    serving.run("chmod 644 /etc/rancher/k3s/config.yaml")
    answer = serving.k3s(config=SERVER_CONFIG)
    assert answer.result["changes"] == ["/etc/rancher/k3s/config.yaml has mode 0644, not 0600"] and not answer.result["restart_needed"]


def test_other_peoples_drop_ins_stay_and_are_named(serving):
    serving.run("mkdir -p /etc/rancher/k3s/config.yaml.d; echo 'debug: false' > /etc/rancher/k3s/config.yaml.d/99-mine.yaml")
    answer = serving.k3s(config=SERVER_CONFIG)
    serving.run("rm /etc/rancher/k3s/config.yaml.d/99-mine.yaml")
    assert not answer.result["changed"] and "99-mine.yaml" in str(answer.result["warnings"])


CHARTS = """
apiVersion: v1
kind: List
items:
  - {apiVersion: helm.cattle.io/v1, kind: HelmChart, metadata: {name: web, namespace: kube-system}, spec: {chart: web, repo: 'https://charts.example.com'}}
  - {apiVersion: helm.cattle.io/v1, kind: HelmChart, metadata: {name: old, namespace: kube-system}, spec: {chart: web, helmVersion: v2}}
"""


def test_health_reads_of_a_helm_chart_and_a_node_what_k3s_itself_writes(serving):
    serving.run(f"k3s kubectl apply -f - <<'END'\n{CHARTS}END\n")
    end, charts = time.monotonic() + 120, {}
    while not all((charts.get(name) or {}).get("status") for name in ("web", "old")) and time.monotonic() < end:
        charts = {one["metadata"]["name"]: one for one in json.loads(serving.run("k3s kubectl get helmcharts -n kube-system -o json"))["items"]}
    assert health(charts["web"]).status == "Current" and charts["web"]["status"]["jobName"] == "helm-install-web"
    assert health({**charts["web"], "status": {}}).status == "InProgress"
    assert health(charts["old"]) == ("Failed", "Unsupported version: Only Helm v3 charts are supported")
    node = json.loads(serving.run("k3s kubectl get nodes -o json"))["items"][0]
    assert health(node) == ("Current", "")


def test_the_controller_of_sealed_secrets_runs_as_a_pod_and_opens_what_was_sealed_for_it(serving, binaries, tmp_path):
    """The role brings the release's chart; the certificate comes through the API server's proxy."""
    from lab import images, sealed_secrets

    archives = [{"path": str(images.tar(image))} for image in (images.IMAGES[0], images.SEALED_SECRETS)]
    answer = serving.k3s(config=SERVER_CONFIG, images=archives)
    assert not answer.result.get("failed"), answer.message
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(serving.run("cat /etc/rancher/k3s/k3s.yaml").replace("127.0.0.1", serving.hosts.addresses["server1"]), encoding="utf-8")
    kubeconfig.chmod(0o600)
    program = images.SEALED_SECRETS
    values = {"image": {"tag": program.names[0].rpartition(":")[2]}, "command": [f"/{program.binary}"]}
    sealed = {"path": str(tmp_path / "db-pass.yaml"), "name": "db-pass", "namespace": "default", "data": {"password": "S3cure"}}
    tasks = [{"name": "Install", "ansible.builtin.include_role": {"name": "nordic.gitops.sealed_secrets"}},
             {"name": "Seal", "nordic.gitops.sealed_secret": sealed},
             {"name": "Apply", "ansible.builtin.command": f"kubectl --kubeconfig {kubeconfig} apply --filename {sealed['path']}"},
             {"name": "Wait", "nordic.gitops.sealed_secret": {**sealed, "wait": True}},
             {"name": "Remove", "ansible.builtin.include_role": {"name": "nordic.gitops.sealed_secrets"}, "vars": {"sealed_secrets_state": "absent"}}]
    variables = {"sealed_secrets_source": str(sealed_secrets.chart()), "sealed_secrets_values": values, "sealed_secrets_folder": str(tmp_path / "release")}
    playbook = tmp_path / "sealed.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}]), encoding="utf-8")
    done = subprocess.run(["ansible-playbook", str(playbook)], text=True, capture_output=True, timeout=600, check=False,
                          env={**os.environ, "HOME": str(tmp_path), "K8S_AUTH_KUBECONFIG": str(kubeconfig), "PATH": f"{binaries}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert serving.run("k3s kubectl get secret db-pass -o jsonpath='{.data.password}' | base64 -d") == "S3cure"


def test_absent_leaves_nothing_and_is_done_once(serving):
    assert serving.k3s(state="absent", binary=None).result["changed"]
    left = serving.run("ls -d /usr/local/bin/* /etc/rancher/k3s /var/lib/rancher/k3s /var/lib/kubelet /var/lib/nordic.gitops/k3s 2>/dev/null; "
                       "iptables-save | grep -E 'KUBE|CNI'; ip -br link | grep -E 'cni|flannel'; ls /etc/systemd/system | grep '^k3s'; true")
    assert left == ""
    assert not serving.k3s(state="absent", binary=None).result["changed"]
