# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster where all is somewhere else than usual: another port, folder of snapshots and data, a node's name in a drop-in, a host name with capitals, a
proxy, variables in the play. And what is changed of it later: labels, tokens, URLs, names.

The tests are one cluster's life and go on where the one before ended.
"""

from __future__ import annotations

import json
import subprocess

import pytest
from fleet import Fleet
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG
from lab.s3 import S3Server

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(3600)]

NODES = {"control-a", "agent1.lab.example"}
DATA = "/var/lib/rancher/elsewhere"  # of the server alone
CONFIG = {"data-dir": DATA, "cluster-init": True, "https-listen-port": 7443, "etcd-snapshot-dir": "/srv/snapshots", "secrets-encryption": True,
          "tls-san": ["lb.example.no"], **SERVER_CONFIG}
PROXY = {"HTTP_PROXY": "http://proxy.example.no:3128", "NO_PROXY": "127.0.0.0/8,10.0.0.0/8,198.18.0.0/15,.svc,.cluster.local"}
SERVER = {"k3s_config": CONFIG, "k3s_drop_ins": {"20-name": {"node-name": "control-a"}}, "k3s_environment": PROXY}
AGENT = {"k3s_config": {}, "k3s_environment": PROXY}


def configure(fleet, server=None, agent=None):
    fleet.variables.write_text(json.dumps({"k3s_servers": {"vars": {**SERVER, **(server or {})}}, "k3s_agents": {"vars": {**AGENT, **(agent or {})}}}))


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start(["server1", "agent1"]) as hosts:
        hosts.run("agent1", "hostnamectl set-hostname Agent1.Lab.example && echo '%s lb.example.no' >> /etc/hosts" % hosts.addresses["server1"])
        yield Fleet(hosts)


def bootstrap(fleet, **variables):
    return fleet.run("bootstrap", k3s_binary=str(fleet.binaries["old"].path), **variables)


def ready(fleet):
    """The nodes that are."""
    return {name for name, node in fleet.nodes().items() if {"type": "Ready", "status": "True"}.items() <= {
        one["type"]: one for one in node["status"]["conditions"]}["Ready"].items()}


def pid(fleet, host="agent1"):
    return fleet.hosts.run(host, "systemctl show --property MainPID --value k3s k3s-agent")


def test_variables_of_a_play_make_the_cluster_that_those_of_an_inventory_make(fleet):
    """In a play of the user's own, as the role's README shows it; then the playbook, with the same in the inventory, changes nothing."""
    fleet.variables.write_text("{}")
    play = fleet.hosts.state / "own.yml"
    role = {"role": "nordic.gitops.k3s", "vars": {"k3s_environment": PROXY}}
    play.write_text(json.dumps([{"hosts": "k3s_servers:k3s_agents", "gather_facts": False, "any_errors_fatal": True, "roles": [role], "vars": {
        "k3s_config": "{{ %s if 'k3s_servers' in group_names else {} }}" % CONFIG,
        "k3s_drop_ins": "{{ %s if 'k3s_servers' in group_names else {} }}" % SERVER["k3s_drop_ins"]}}]))
    command = fleet.command("bootstrap", k3s_binary=str(fleet.binaries["old"].path))
    done = subprocess.run([str(play) if word.endswith("bootstrap.yml") else word for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert ready(fleet) == NODES
    assert ":7443" in fleet.hosts.run("agent1", "grep server: /etc/rancher/k3s/config.yaml")
    for name, unit in (("server1", "k3s"), ("agent1", "k3s-agent")):
        assert PROXY["HTTP_PROXY"] in fleet.hosts.run(name, f"tr '\\0' '\\n' < /proc/$(systemctl show --property MainPID --value {unit})/environ")
    configure(fleet)
    assert fleet.left_alone("bootstrap", k3s_binary=str(fleet.binaries["old"].path)) == 2


def test_labels_and_taints_that_come_and_go_later_are_those_of_the_node_and_restart_nothing(fleet):
    before = pid(fleet)
    configure(fleet, agent={"k3s_config": {"node-label": ["tier=front"], "node-taint": ["dedicated=gpu:NoSchedule"]}})
    bootstrap(fleet)
    node = fleet.nodes()["agent1.lab.example"]
    assert node["metadata"]["labels"]["tier"] == "front" and [taint["key"] for taint in node["spec"]["taints"]] == ["dedicated"]
    configure(fleet)
    bootstrap(fleet)
    node = fleet.nodes()["agent1.lab.example"]
    assert "tier" not in node["metadata"]["labels"] and not node["spec"].get("taints") and pid(fleet) == before


def test_a_url_that_is_set_later_reaches_the_agent_that_exists(fleet):
    url = "https://lb.example.no:7443"
    bootstrap(fleet, k3s_url=url)
    assert url in fleet.hosts.run("agent1", "cat /etc/rancher/k3s/config.yaml") and ready(fleet) == NODES
    assert fleet.left_alone("bootstrap", k3s_binary=str(fleet.binaries["old"].path), k3s_url=url) == 2


def test_a_url_without_its_scheme_is_refused_at_once(fleet):
    done = fleet.attempt("bootstrap", k3s_binary=str(fleet.binaries["old"].path), k3s_url="k3s.example.no:6443")
    assert done.code != 0 and "https://k3s.example.no:6443" in done.output, done.output[-3000:]


def test_another_token_for_agents_is_refused_before_anything_is_written_as_k3s_would_not_start_a_second_time_with_it(fleet):
    done = fleet.attempt("bootstrap", k3s_binary=str(fleet.binaries["old"].path), k3s_agent_token="another-token-for-agents-0123456789")
    assert done.code != 0 and "is not the token by which agents join this cluster" in done.output and "another-token" not in done.output, done.output[-3000:]
    assert "absent" in fleet.hosts.run("server1", "ls /etc/rancher/k3s/agent-token || echo absent") and ready(fleet) == NODES


def test_a_limit_to_an_agent_says_what_to_add_and_resets_nobody(fleet):
    command = [*fleet.command("bootstrap", k3s_binary=str(fleet.binaries["old"].path)), "--limit", "agent1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode != 0 and "--limit server1,agent1" in done.stdout and "reset" not in done.stdout.partition("fatal")[2], done.stdout[-3000:]


def test_a_mode_without_quotes_is_refused(fleet):
    configure(fleet, server={"k3s_config": {**CONFIG, "write-kubeconfig-mode": 416}})  # what YAML makes of 0640
    done = fleet.attempt("bootstrap", k3s_binary=str(fleet.binaries["old"].path))
    configure(fleet)
    assert done.code != 0 and "'0640'" in done.output.replace('"', "'"), done.output[-3000:]


def test_a_host_that_was_renamed_is_refused_before_it_registers_a_second_node(fleet):
    fleet.hosts.run("agent1", "hostnamectl set-hostname worker-7")
    done = fleet.attempt("bootstrap", k3s_binary=str(fleet.binaries["old"].path))
    fleet.hosts.run("agent1", "hostnamectl set-hostname Agent1.Lab.example")
    assert done.code != 0 and "agent1.lab.example" in done.output and "node-name" in done.output, done.output[-3000:]
    assert ready(fleet) == NODES


def test_snapshots_a_restore_and_an_upgrade_find_their_port_folder_and_name(fleet):
    fleet.kubectl("create configmap before")
    fleet.run("snapshot", k3s_snapshot_name="base")
    assert "base-" in fleet.hosts.run("server1", "ls /srv/snapshots")
    fleet.kubectl("create configmap after")
    # As when passwords changed after the snapshot: newer than what it holds, and another content.
    fleet.hosts.run("server1", f"echo 'another,somebody,somebody,' >> {DATA}/server/cred/passwd")
    fleet.run("restore", k3s_restore_name="base", k3s_restore_confirmed=True)
    found = fleet.kubectl("get configmaps -o name")
    assert "configmap/before" in found and "configmap/after" not in found and ready(fleet) == NODES
    fleet.run("upgrade", k3s_binary=str(fleet.binaries["new"].path))
    assert fleet.versions() == dict.fromkeys(NODES, fleet.binaries["new"].version) and "before-" in fleet.hosts.run("server1", "ls /srv/snapshots")


def kept(fleet):
    """What is on the server but the content of etcd."""
    return fleet.hosts.run("server1", f"find /srv/snapshots /etc/rancher /var/lib/nordic.gitops {DATA}/server/db "
                                      "-not -path '*/db/etcd*/*' -not -name 'db' | sort")


def test_a_new_key_for_secrets_is_made_at_the_port_and_in_the_folder_that_are_configured(fleet):
    status = f"k3s secrets-encrypt status --data-dir {DATA} --server https://127.0.0.1:7443 --output json"
    before = json.loads(fleet.hosts.run("server1", status))["activekey"]
    play = fleet.hosts.state / "key.yml"
    play.write_text(json.dumps([{"hosts": "k3s_servers:k3s_agents", "gather_facts": False, "tasks": [
        {"ansible.builtin.include_role": {"name": "nordic.gitops.k3s", "tasks_from": "rotate_encryption_key"}}]}]))
    done = subprocess.run([str(play) if word.endswith("bootstrap.yml") else word for word in fleet.command("bootstrap")], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert json.loads(fleet.hosts.run("server1", status))["activekey"] != before and ready(fleet) == NODES


def test_a_copy_in_s3_is_restored_and_check_mode_of_it_leaves_nothing_on_the_host(fleet):
    with S3Server(fleet.hosts.machine) as s3:
        store = {"endpoint": s3.url, "allow_http": True, "bucket": s3.bucket, "region": s3.region, "access_key": s3.access_key, "secret_key": s3.secret_key}
        given = {"k3s_restore_name": "away", "k3s_snapshot_s3": store}
        fleet.run("snapshot", k3s_snapshot_name="away", k3s_snapshot_s3=store)
        assert len(s3.objects()) == 1
        fleet.hosts.run("server1", "rm /srv/snapshots/away-*")
        fleet.kubectl("create configmap later")
        before = kept(fleet)
        done = subprocess.run([*fleet.command("restore", **given), "--check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0 and "Snapshot away-" in done.stdout and s3.secret_key not in done.stdout, done.stdout[-4000:]
        assert kept(fleet) == before
        fleet.run("restore", k3s_restore_confirmed=True, **given)
        assert "configmap/later" not in fleet.kubectl("get configmaps -o name") and ready(fleet) == NODES


def test_a_host_that_was_reset_joins_again(fleet):
    fleet.run("reset", k3s_hosts="agent1", k3s_reset_confirmed=True)
    fleet.run("bootstrap", k3s_binary=str(fleet.binaries["new"].path))
    assert ready(fleet) == NODES


def test_a_cluster_that_was_ended_does_not_come_back_with_a_reboot_and_its_snapshots_stay(fleet):
    fleet.run("snapshot", k3s_snapshot_name="last")
    fleet.run("reset", k3s_reset_confirmed=True)
    for name in ("server1", "agent1"):
        fleet.hosts.kill(name)
        fleet.hosts.boot(name)
        assert fleet.hosts.run(name, "systemctl is-active k3s k3s-agent; systemctl is-enabled k3s k3s-agent 2>/dev/null; true").split()[:2] == ["inactive"] * 2
    assert "last-control-a-" in fleet.hosts.run("server1", "ls /srv/snapshots")
