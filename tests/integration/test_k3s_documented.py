# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command of README, docs/k3s.md and docs/operations.md, as it is written there, from a folder as a user has it, with the inventory of docs/k3s.md.

The tests are a cluster's life and go on where the one before ended.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess

import pytest
import yaml
from lab import images, k3s
from lab.hosts import Hosts
from lab.hosts.k3s import SERVER_CONFIG
from workspace import places

pytestmark = [pytest.mark.hosts, pytest.mark.full, pytest.mark.timeout(3600)]

PLAYBOOKS = {path.stem for path in (places.CHECKOUT / "roles" / "k3s" / "tasks").glob("*.yml")} | {"bootstrap", "preflight", "snapshot", "upgrade"}
SNAPSHOT = "nightly-server1-1790000000"


def documented():
    """The commands, with what Markdown puts around them taken off."""
    found = []
    for name in ("README.md", "docs/k3s.md", "docs/operations.md"):
        text = (places.CHECKOUT / name).read_text(encoding="utf-8").replace("\\\n", "")
        found += [command.strip() for command in re.findall(r"ansible-playbook nordic\.gitops\.(?:%s) [^`\n]+" % "|".join(sorted(PLAYBOOKS)), text)]
    return list(dict.fromkeys(re.sub(" +", " ", command) for command in found))


def command(playbook, *words):
    """The one documented command of this playbook that has these words."""
    (found,) = [one for one in documented() if one.startswith(f"ansible-playbook nordic.gitops.{playbook} ") and all(word in one for word in words)]
    RUN.add(found)
    return found


RUN = set()


class User:
    """A folder with inventory.yml and files, and a home of its own."""

    def __init__(self, hosts, folder):
        self.hosts, self.folder = hosts, folder
        (folder / "files").mkdir()
        for name, release in (("k3s", "old"), ("k3s-v1.31.4", "new")):
            shutil.copy(k3s.binary(release).path, folder / "files" / name)
            (folder / "files" / name).chmod(0o644)  # as a download is
        (folder / "bin").mkdir()
        (folder / "bin" / "kubectl").symlink_to(k3s.binary("old").path)
        (folder / "inventory.yml").write_text(yaml.safe_dump(self.inventory()), encoding="utf-8")

    def inventory(self):
        """docs/k3s.md's, at the lab's addresses."""
        text = (places.CHECKOUT / "docs" / "k3s.md").read_text(encoding="utf-8")
        told = yaml.safe_load(re.search(r"    # inventory\.yml\n((?:    .*\n)+)", text).group(1))
        for group in ("k3s_servers", "k3s_agents"):
            for name, host in told[group]["hosts"].items():
                host["ansible_host"] = self.hosts.addresses[name]
        told["k3s_servers"]["vars"]["k3s_config"].update(SERVER_CONFIG)
        lab = yaml.safe_load(self.hosts.inventory.read_text(encoding="utf-8"))["all"]["vars"]
        told["all"] = {"vars": {**lab, "k3s_images": [{"path": str(path)} for path in images.tars()], "k3s_wait_timeout": 1200,
                                "preflight_accept": ["virtualisation", "fsync_latency", "disk_kind"]}}
        return told

    def types(self, line):
        """Into a shell, in that folder."""
        variables = {**os.environ, "HOME": str(self.folder), "PWD": str(self.folder), "PATH": f"{os.environ['PATH']}:{self.folder / 'bin'}"}
        return subprocess.run(["bash", "-c", line], cwd=self.folder, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=3000, check=False)

    def does(self, line):
        done = self.types(line)
        assert done.returncode == 0, done.stdout[-8000:]
        assert "FAILED - RETRYING" not in done.stdout and "[WARNING]" not in done.stdout
        return done.stdout

    def configmaps(self):
        return set(self.hosts.run("server1", "k3s kubectl get configmaps -o name").split())


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    with Hosts.start(["server1", "agent1"]) as hosts:
        yield User(hosts, folder)
    shutil.rmtree(folder)


def test_preflight(user):
    """Hosts of the lab are containers, which is refused; the command runs to its report."""
    done = user.types(command("preflight"))
    assert "virtualisation" in done.stdout and "Traceback" not in done.stdout, done.stdout[-4000:]


def test_a_first_cluster_and_its_kubeconfig_for_a_person(user):
    user.does(command("bootstrap", "k3s_kubeconfig=~/.kube/config"))
    nodes = user.does("kubectl --context k3s get nodes")
    assert "server1" in nodes and "agent1" in nodes and k3s.binary("old").version in nodes


def test_bootstrap_in_check_mode_of_what_is_there_already(user):
    assert len(re.findall(r"changed=0 .*failed=0", user.does(command("bootstrap", "--check")))) == 2


def test_a_snapshot_and_a_restore_from_it(user):
    user.hosts.run("server1", "k3s kubectl create configmap before")
    user.does(command("snapshot"))
    user.hosts.run("server1", "k3s kubectl create configmap after")
    user.does(command("restore", "k3s_restore_name"))
    assert "configmap/before" in user.configmaps() and "configmap/after" not in user.configmaps()


def test_a_node_that_is_gone_is_replaced(user):
    """There is none of that name, so that only the rest of it has something to do."""
    user.does(command("replace"))


def test_all_hosts_are_lost_and_the_cluster_comes_back(user):
    path = user.hosts.run("server1", "ls /var/lib/rancher/k3s/server/db/snapshots/nightly-*").split()[0]
    (user.folder / SNAPSHOT).write_bytes(base64.b64decode(user.hosts.run("server1", f"base64 {path}")))
    token = user.hosts.run("server1", "cat /etc/rancher/k3s/token").strip()
    for name in ("server1", "agent1"):
        user.hosts.kill(name)
        user.hosts.boot(name, fresh=True)
    user.does(command("restore", SNAPSHOT).replace("k3s_token=...", f"k3s_token={token}"))
    assert "configmap/before" in user.configmaps()


def test_an_upgrade(user):
    user.does(command("upgrade"))
    assert set(user.hosts.run("server1", "k3s kubectl get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}").split()) == {k3s.binary("new").version}


def test_a_reboot_of_all_hosts(user):
    user.does(command("power"))


def test_a_node_is_removed(user):
    assert "agent1 is not part of the cluster any more" in user.does(command("remove"))


def test_the_end(user):
    user.does(command("reset"))
    assert user.hosts.run("server1", "systemctl is-active k3s", check=False).strip() == "inactive"


def test_no_documented_command_was_left_out():
    assert RUN == set(documented())
