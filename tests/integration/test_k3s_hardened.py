# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CIS profile, the key of Secrets and the certificates on real hosts with the real k3s, which each host fetches itself from a web server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from fleet import SERVERS, Fleet
from lab.hosts import Hosts
from lab.web import serving

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(1200)]

SECRET, PLAIN = "the-content-of-a-secret-0123456789", "the-content-of-a-config-map-0123456789"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: web, image: "nordic.gitops/web:1", securityContext: {privileged: true}}]}
"""
ROTATE = """
- hosts: k3s_servers:k3s_agents
  tasks:
    - ansible.builtin.include_role: {name: nordic.gitops.k3s, tasks_from: %s}
"""


@pytest.fixture(scope="module")
def fleet():
    with Hosts.start([*SERVERS, "agent1"]) as hosts:
        yield Fleet(hosts)


@pytest.fixture(scope="module")
def by_url(fleet):
    """k3s on a web server of this machine, as the hosts see it."""
    old = fleet.binaries["old"]
    path = Path(old.path)
    with serving(path.parent, fleet.hosts.machine) as url:
        yield {"k3s_binary_url": f"{url}/{path.name}", "k3s_checksum": old.sha256, "k3s_version": old.version, "k3s_cis": True}


@pytest.fixture(scope="module")
def hardened(fleet, by_url):
    fleet.run("bootstrap", **by_url)
    fleet.is_whole(*SERVERS, "agent1")
    fleet.kubectl(f"create secret generic kept --from-literal=word={SECRET}")
    fleet.kubectl(f"create configmap kept --from-literal=word={PLAIN}")
    return fleet


def rotate(fleet, folder, what):
    (folder / f"{what}.yml").write_text(ROTATE % what, encoding="utf-8")
    return fleet.run(str(folder / what), k3s_cis=True)


def pids(fleet):
    return [fleet.hosts.run(name, "systemctl show --property MainPID --value k3s") for name in SERVERS]


def encryption(fleet, name="server1"):
    return json.loads(fleet.hosts.run(name, "k3s secrets-encrypt status --output json"))


def counted(fleet, word, path):
    return int(fleet.hosts.run("server1", f"cat {path} | grep -a -o {word} | wc -l"))


def test_a_second_run_changes_nothing_and_downloads_nothing(hardened, by_url):
    assert hardened.left_alone("bootstrap", **by_url) == 4


def test_a_download_with_another_content_is_refused(hardened, by_url):
    done = hardened.attempt("upgrade", **{**by_url, "k3s_checksum": "0" * 64, "k3s_version": hardened.binaries["new"].version})
    assert done.code != 0 and "what was downloaded has SHA-256" in done.output, done.output[-3000:]
    assert set(hardened.versions().values()) == {hardened.binaries["old"].version} and hardened.cordoned() == []


def test_secrets_are_encrypted_in_the_datastore(hardened):
    database = "/var/lib/rancher/k3s/server/db/etcd/member/*/*"
    assert counted(hardened, PLAIN, database) > 0, "the search finds nothing at all"
    assert counted(hardened, SECRET, database) == 0


def test_what_was_done_is_in_the_audit_log_without_the_contents_of_secrets(hardened):
    log = "/var/lib/rancher/k3s/server/logs/audit.log"
    entries = [json.loads(line) for line in hardened.hosts.run("server1", f"grep -h '\"verb\":\"create\"' {log}").splitlines()]
    created = {(entry["objectRef"]["resource"], entry["objectRef"].get("name")): entry for entry in entries if "objectRef" in entry}
    assert created["secrets", "kept"]["level"] == "Metadata" and created["secrets", "kept"]["user"]["username"] == "system:admin"
    assert counted(hardened, SECRET, log) == counted(hardened, PLAIN, log) == 0


def test_pods_are_held_to_the_restricted_level_outside_of_the_system(hardened):
    said = hardened.hosts.run("server1", "k3s kubectl create -f - 2>&1", input=POD, check=False)
    assert 'violates PodSecurity "restricted:latest"' in said
    assert "created" in hardened.kubectl("create --dry-run=server -n kube-system -f -", input=POD)


def test_check_mode_of_a_new_key_says_what_it_would_do_and_does_nothing(hardened, tmp_path):
    before = encryption(hardened), pids(hardened)
    (tmp_path / "key.yml").write_text(ROTATE % "rotate_encryption_key", encoding="utf-8")
    done = subprocess.run([*hardened.command(str(tmp_path / "key"), k3s_cis=True), "--check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    assert done.returncode == 0 and "A new key is made on server1" in done.stdout and "restarted on server1, server2, server3" in done.stdout, done.stdout
    assert (encryption(hardened), pids(hardened)) == before


def test_the_key_of_secrets_is_replaced_on_all_servers(hardened, tmp_path):
    before = encryption(hardened)
    rotate(hardened, tmp_path, "rotate_encryption_key")
    told = {name: encryption(hardened, name) for name in SERVERS}
    assert {one["activekey"] for one in told.values()}.isdisjoint({before["activekey"]})
    assert len({one["activekey"] for one in told.values()}) == 1 and all(one["hashmatch"] for one in told.values()), told
    hardened.is_whole(*SERVERS, "agent1")
    for name in SERVERS:
        assert hardened.hosts.run(name, "k3s kubectl get secret kept -o jsonpath='{.data.word}' | base64 -d") == SECRET


def test_all_certificates_are_renewed_one_server_at_a_time(hardened, tmp_path):
    paths = {name: "/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt" for name in SERVERS}
    paths["agent1"] = "/var/lib/rancher/k3s/agent/client-kubelet.crt"
    before = {name: hardened.hosts.run(name, f"sha256sum < {path}") for name, path in paths.items()}
    rotate(hardened, tmp_path, "rotate_certificates")
    hardened.is_whole(*SERVERS, "agent1")
    assert not [name for name, path in paths.items() if hardened.hosts.run(name, f"sha256sum < {path}") == before[name]]
    assert hardened.takes_writes()
