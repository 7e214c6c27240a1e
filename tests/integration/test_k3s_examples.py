# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of the modules' documentation, on real hosts with the real k3s; and check mode says of each what the run then does.

The tests are a cluster's life and go on where the one before ended.
"""

from __future__ import annotations

import gzip
import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from lab import images, k3s
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG
from lab.s3 import S3Server
from lab.web import serving

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(3600)]

ADMIN = "/etc/rancher/k3s/k3s.yaml"


class House:
    """Two hosts, and all that the examples name, at hand."""

    def __init__(self, hosts: Hosts, s3: S3Server, folder: Path, files: str) -> None:
        self.hosts, self.folder = hosts, folder
        self.new = k3s.binaries()["new"]
        server = hosts.addresses["server1"]
        self.here = {
            "https://files.example.no/k3s/v1.30.5%2Bk3s1": files, "0123456789abcdef" * 4: self.new.sha256,
            "https://k3s.example.no:6443": f"https://{server}:6443",
            "~/.kube/config": str(folder / "kubeconfig"), "fix.exchange.example.no:443": f"{server}:22",
            "https://s3.no-osl-1.example.no": s3.url, '"cluster-snapshots"': json.dumps(s3.bucket),
        }
        self.variables = {"vault_k3s_token": "the-token-of-this-test-0123456789", "vault_s3_access_key": s3.access_key, "vault_s3_secret_key": s3.secret_key}
        self._provide(s3)

    def _provide(self, s3: S3Server) -> None:
        files = self.folder / "files"
        files.mkdir()
        (files / "k3s").symlink_to(self.new.path)
        (files / "sha256sum-amd64.txt").write_text(f"{self.new.sha256}  k3s\n", encoding="ascii")
        archives = {path.name: path.read_bytes() for path in images.tars()}
        (files / "k3s-airgap-images-amd64.tar.zst").write_bytes(subprocess.run(
            ["zstd", "-c"], input=archives["mirrored-pause-3.6.tar"], capture_output=True, check=True).stdout)
        (files / "web.tgz").write_bytes(gzip.compress(archives["web-1.tar"], 1))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "backup-recipient.key", "-out", "backup-recipient.crt",
                        "-subj", "/CN=backup"], cwd=files, check=True, capture_output=True)
        self.hosts.run("server1", "cat > /etc/ssl/certs/lab-s3.pem", input=Path(s3.ca_file).read_text(encoding="ascii"))

    def examples(self, module: str) -> List[Dict[str, Any]]:
        """As they are documented, with what is here in the place of what they name."""
        text = json.dumps(yaml.safe_load(importlib.import_module(f"ansible_collections.nordic.gitops.plugins.modules.{module}").EXAMPLES))
        for there, here in self.here.items():
            text = text.replace(there, here)
        return json.loads(text)

    def play(self, hosts: str, tasks: List[Dict[str, Any]], check: bool = False, fails: bool = False) -> List[Dict[str, Any]]:
        """What each task registered on the first of the hosts."""
        tasks = [{"register": f"result_{number}", **task} for number, task in enumerate(tasks)]
        names = ", ".join(task["register"] for task in tasks)
        kept = self.folder / "results.json"
        told = {"ansible.builtin.copy": {"dest": str(kept), "content": "{{ [%s] | to_json }}" % names, "mode": "0600"}, "delegate_to": "localhost",
                "run_once": True, "check_mode": False, "become": False, "vars": {
                    "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}}
        if fails:
            tasks = [{**task, "ignore_errors": True} for task in tasks]
        (self.folder / "play.yml").write_text(yaml.safe_dump([{"hosts": hosts, "gather_facts": False, "tasks": [*tasks, told]}]), encoding="utf-8")
        done = subprocess.run(["ansible-playbook", "-i", str(self.hosts.inventory), "-e", json.dumps(self.variables), "--diff", *(["--check"] if check else []),
                               str(self.folder / "play.yml")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        return json.loads(kept.read_text(encoding="utf-8"))

    def does(self, hosts: str, *tasks: Dict[str, Any]) -> List[Dict[str, Any]]:
        """Run, after check mode has said of the first task what it would do, and done nothing."""
        before = self.state()
        (said, *_rest) = self.play(hosts, [tasks[0]], check=True)
        assert self.state() == before
        done = self.play(hosts, list(tasks))
        assert said["changed"] == done[0]["changed"], (said, done[0])
        return done

    def images(self) -> str:
        return self.hosts.run("server1", "k3s ctr --namespace k8s.io images ls -q")

    def state(self) -> str:
        """Whatever a module could have changed."""
        return "\n".join(self.hosts.run(name, "find /etc/rancher /etc/systemd/system /usr/local/bin /var/lib/rancher/k3s/server/db/snapshots -type f "
                                              "-printf '%p %s %T@\\n' 2>/dev/null | sort; systemctl show -p MainPID -p UnitFileState k3s k3s-agent; "
                                              f"[ ! -e {ADMIN} ] || k3s kubectl get nodes -o custom-columns=N:.metadata.name,U:.spec.unschedulable",
                                        check=False) for name in ("server1", "agent1"))


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    with Hosts.start(["server1", "agent1"]) as hosts:
        machine = hosts.machine
        with serving(folder / "files", machine) as url, S3Server(machine, tls=True, region="no-osl-1") as s3:
            yield House(hosts, s3, folder, url)
    shutil.rmtree(folder)


def test_node_preflight(house):
    server, agent, *peers = house.examples("node_preflight")
    (refused,) = house.play("server1", [server], fails=True)
    assert "checks" in refused, refused
    assert refused["failed"] and [check["name"] for check in refused["checks"] if check["verdict"] == "fail"].count("virtualisation") == 1
    (taken,) = house.play("agent1", [agent], fails=True)
    assert "virtualisation" in [check["name"] for check in taken["checks"] if check["verdict"] == "accepted"]
    for task in peers:
        task["nordic.gitops.node_preflight"]["accept"] = ["virtualisation"]
    met = house.play("server1:agent1", peers, fails=True)[1]
    assert {"agent1"} <= set(json.dumps(met).split('"')), "the other one was not met"


def test_the_only_server(house):
    only, _first, _agent, offline, renew, stop, remove = house.examples("k3s")
    only["nordic.gitops.k3s"]["config"]["disable"] = SERVER_CONFIG["disable"]
    assert house.does("server1", only)[0]["version"] == house.new.version
    assert house.hosts.run("server1", f"stat -c %a {ADMIN}").strip() == "640"
    looked = house.play("server1", house.examples("k3s_info"))
    assert looked[0]["datastore"] == "sqlite" and looked[2]["skipped"]

    offline["nordic.gitops.k3s"]["config"] = SERVER_CONFIG
    assert "mirrored-pause" not in house.images()
    done = house.does("server1", offline)[0]
    # No zstd on this host: k3s itself imports it, at its start.
    assert done["restarted"] and "image archive k3s-airgap-images-amd64.tar.zst is copied" in done["changes"] and "mirrored-pause:3.6" in house.images()
    offline["nordic.gitops.k3s"]["images"].append({"path": "files/web.tgz"})
    done = house.does("server1", offline)[0]
    assert not done["restarted"] and done["changes"] == ["image archive web.tgz is copied"] and "nordic.gitops/web:1" in house.images()
    assert "registry.example.no" in house.hosts.run("server1", "cat /etc/rancher/k3s/registries.yaml /var/lib/rancher/k3s/agent/etc/containerd/certs.d/*/*")
    certificate = "sha256sum < /var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt"
    before = house.hosts.run("server1", certificate)
    assert house.does("server1", renew)[0]["restarted"] and house.hosts.run("server1", certificate) != before
    assert house.does("server1", stop)[0]["changes"][0] == "k3s.service is stopped"
    assert house.does("server1", remove)[0]["changed"]
    assert not house.play("server1", [remove])[0]["changed"]


def test_the_first_of_several_and_an_agent(house):
    _only, first, agent, *_others = house.examples("k3s")
    first["nordic.gitops.k3s"]["config"].update(SERVER_CONFIG)
    house.does("server1", first)
    assert "k3s.example.no" in house.hosts.run(
        "server1", "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName")
    house.does("agent1", agent)
    assert house.hosts.run("server1", "k3s kubectl get nodes -l disk=nvme -o name").strip() == "node/agent1"


def test_k3s_plan(house):
    (_looked, planned) = house.play("server1:agent1", house.examples("k3s_plan"))
    assert planned["datastore"] == "etcd" and planned["new"] == [] and planned["turns"] == [["server1"], ["agent1"]]


def test_k3s_node(house):
    drained, uncordoned, removed, absent = house.examples("k3s_node")
    cordoned = "k3s kubectl get node agent1 -o jsonpath={.spec.unschedulable}"
    assert house.does("server1", drained)[0]["changed"] and house.hosts.run("server1", cordoned) == "true"
    assert house.does("server1", uncordoned)[0]["changed"] and house.hosts.run("server1", cordoned) == ""
    assert not house.does("server1", absent)[0]["changed"]
    (refused,) = house.play("server1", [removed], check=True, fails=True)
    assert "the last server" in refused["msg"]


def test_k3s_manifests(house):
    (house.folder / "files" / "shop.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop, namespace: default}\n", encoding="utf-8")
    put, _prune = house.examples("k3s_manifests")
    assert house.does("server1", put)[0]["changed"] and not house.play("server1", [put])[0]["changed"]


def test_k3s_kubeconfig(house):
    merge, of_user = house.examples("k3s_kubeconfig")
    (said,) = house.play("server1", [merge], check=True)
    assert said["changed"] and not (house.folder / "kubeconfig").exists()
    house.play("server1", [merge])
    assert yaml.safe_load((house.folder / "kubeconfig").read_text(encoding="utf-8"))["current-context"] == "production"
    assert not house.play("server1", [merge])[0]["changed"]
    house.hosts.run("server1", "useradd --create-home ops")
    (done, again) = house.play("server1", [of_user, of_user])
    assert done["changed"] and not again["changed"]


def test_etcd_snapshot(house):
    save, prune, prove, discard, say = house.examples("etcd_snapshot")
    save["nordic.gitops.etcd_snapshot"]["s3"]["ca_path"] = "/etc/ssl/certs/lab-s3.pem"
    # Check mode refuses what the run would refuse.
    told = [house.play("agent1", [{**save, "ignore_errors": True}], check=check)[0]["msg"] for check in (True, False)]
    assert told[0] == told[1] and "no embedded etcd" in told[0]
    saved = house.does("server1", save)[0]
    assert saved["changed"] and not house.play("server1", [save])[0]["changed"], "it is young enough"
    assert not house.does("server1", prune)[0]["changed"] and not house.does("server1", discard)[0]["changed"]
    told = house.does("server1", prove, say)
    assert re.fullmatch(r"[1-9][0-9]+ objects of 20.*Z", told[1]["msg"]), told
    looked = house.play("server1", house.examples("etcd_snapshot_info"))
    assert looked[0]["snapshots"][-1]["file"] == saved["snapshot"]["file"]
