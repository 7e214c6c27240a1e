# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances as Ansible's users have them: modules, inventory, role and playbooks, on a real OpenStack."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance.ready import Login, wait
from lab.openstack import PEER
from provisioning import Fleet, asleep
from workspace import places

pytestmark = pytest.mark.timeout(1800)
PLAYBOOKS = places.CHECKOUT / "playbooks"


@pytest.fixture
def ansible(cloud, tmp_path, monkeypatch):
    """Runs a command of Ansible with the cloud's clouds.yaml as the user's own."""
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", cloud.clouds_file)
    monkeypatch.chdir(tmp_path)

    def run(*command, fails=False):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500, check=False, env=dict(os.environ)
        )
        assert (done.returncode != 0) == fails, done.stdout[-6000:]
        assert cloud.clouds["nordic"]["auth"]["password"] not in done.stdout
        return done.stdout

    return run


def listing(text):
    """What ansible-inventory says; it marks texts that are never templates."""
    return json.loads(text, object_hook=lambda value: value.get("__ansible_unsafe", value))


def test_the_first_server_of_the_documentation_is_made_by_its_text(cloud, ansible, tmp_path):
    text = (places.CHECKOUT / "docs" / "provision.md").read_text(encoding="utf-8")
    play = yaml.safe_load(re.search(r"test_instances_ansible.py -->\n```yaml\n(.*?)```", text, re.DOTALL).group(1))
    (tmp_path / "first.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    fleet = Fleet(cloud, name="oslo")
    try:
        told = ansible("ansible-playbook", "first.yml", "--check", "--diff")
        assert "+oslo-k8s-control-01: create" in told and fleet.servers() == []
        ansible("ansible-playbook", "first.yml")
        server = fleet.server("k8s-control-01")
        assert (server.status, server.flavor.original_name, server.flavor.vcpus, server.flavor.ram) == ("ACTIVE", "cv-nvme-16gb", 4, 16384)
        assert "changed=0" in ansible("ansible-playbook", "first.yml")
        ansible(
            "ansible",
            "localhost",
            "-m",
            "nordic.gitops.kvm_instance",
            "-a",
            "cloud=nordic region=no-oslo-1 fleet=oslo name=oslo-k8s-control-01 state=absent",
        )
        assert fleet.left() == {"servers": 0, "ports": 0, "volumes": 0, "floating": 0}
    finally:
        fleet.clean()


def test_the_fleet_of_the_readme_is_made_by_its_text(cloud, ansible, tmp_path):
    text = (places.CHECKOUT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "shop.yml").write_text(re.search(r"```yaml\n(# shop.yml\n.*?)```", text, re.DOTALL).group(1), encoding="utf-8")
    fleet = Fleet(cloud, name="shop")
    try:
        ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
        made = {one.name: (one.status, one.flavor.original_name) for one in fleet.servers()}
        assert made == {f"shop-{role}-{number}": ("ACTIVE", flavor) for role, flavor in (("server", "cv-nvme-8gb"), ("agent", "cv-nvme-4gb"))
                        for number in (1, 2, 3)}
    finally:
        fleet.clean()


def test_the_inventory_of_the_documentation_is_listed(cloud, ansible, tmp_path):
    text = (places.CHECKOUT / "docs" / "provision.md").read_text(encoding="utf-8")
    (tmp_path / "shop.instances.yml").write_text(re.search(r"```yaml\n(# shop.instances.yml\n.*?)```", text, re.DOTALL).group(1), encoding="utf-8")
    shown = re.search(r"-i shop.instances.yml --graph\n(@all:.*?)```", text, re.DOTALL).group(1)
    fleet = Fleet(cloud, name="shop")
    try:
        fleet.run(*({"name": f"shop-{role}-1", "metadata": {"role": role}} for role in ("server", "agent")), zone="no-oslo-1a")
        # Groups come in any order, each with its own hosts below it.
        assert groups(ansible("ansible-inventory", "-i", "shop.instances.yml", "--graph")) == groups(shown)
    finally:
        fleet.clean()


def groups(graph):
    found = {}
    for line in graph[graph.index("@all:") :].splitlines():
        name = line.strip("| -")
        if name.startswith("@"):
            group = name
            found[group] = []
        elif name:
            found[group].append(name)
    return found


@pytest.mark.parametrize("plugin", ["kvm_instance", "instance_info", "residency"])
def test_the_examples_of_each_module_run(cloud, ansible, tmp_path, plugin):
    code = (places.CHECKOUT / "plugins" / "modules" / f"{plugin}.py").read_text(encoding="utf-8")
    tasks = yaml.safe_load(re.search(r'EXAMPLES = r"""(.*?)"""', code, re.DOTALL).group(1))
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    try:
        if plugin == "residency":
            # The lab's registry is nowhere; the catalog of the lab is on the loopback, which the example allows.
            assert "changed=0" in ansible("ansible-playbook", "play.yml")
        else:
            ansible("ansible-playbook", "play.yml")
    finally:
        for name in ("oslo", "shop"):
            Fleet(cloud, name=name).clean()


def test_a_fleet_is_provisioned_and_listed(cloud, fleet, ansible, tmp_path):
    """Three servers and an agent from a few lines; the inventory plugin agrees with add_host."""
    variables = {
        "instance_cloud": "nordic",
        "instance_region": "no-oslo-1",
        "instance_fleet": fleet.name,
        "instance_image": "ubuntu-24-04-lts",
        "instance_flavor": "cv-nvme-2gb",
        "instance_networks": [{"network": "private"}],
        "instance_residency": {"regions": ["no-oslo-1"]},
        "instance_record": str(tmp_path / "record.json"),
        "instance_metadata": {"cluster": "shop"},
        "instance_groups": [{"name": "server", "count": 3, "options": {"volumes": [{"label": "data", "size": 1}]}}, {"name": "agent", "count": 1}],
    }
    (tmp_path / "shop.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump(
            [
                {"import_playbook": str(PLAYBOOKS / "provision.yml")},
                {
                    "hosts": "k3s_servers:k3s_agents",
                    "gather_facts": False,
                    "tasks": [{"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} at {{ ansible_host }}"}}],
                },
            ]
        ),
        encoding="utf-8",
    )
    out = ansible("ansible-playbook", "play.yml", "-e", "@shop.yml")
    assert f"create     {fleet.name}-server-1" in out and "It takes of the quota: cores 4" in out
    added = dict(re.findall(rf'"msg": "({fleet.name}\S+) at (\S+)"', out))
    assert len(added) == 4
    assert "changed=0" in ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")

    fleet.sdk.compute.set_server_metadata(fleet.server("agent-1"), evil="{{ lookup('pipe', 'touch owned') }}")
    inventory = {
        "plugin": "nordic.gitops.instances",
        "cloud": "nordic",
        "region": "no-oslo-1",
        "fleet": fleet.name,
        "group_names": {"server": "k3s_servers", "agent": "k3s_agents"},
        "keyed_groups": [{"key": "instance.status", "prefix": "is"}],
        "compose": {"zone": "instance.zone"},
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    (tmp_path / "shop.instances.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    listed = listing(ansible("ansible-inventory", "-i", "shop.instances.yml", "--list"))
    assert {name: host["ansible_host"] for name, host in listed["_meta"]["hostvars"].items()} == added
    assert sorted(listed["k3s_servers"]["hosts"]) == [f"{fleet.name}-server-{number}" for number in (1, 2, 3)]
    assert len(listed["is_ACTIVE"]["hosts"]) == 4 and {"cluster_shop", "region_no_oslo_1", "zone_no_oslo_1a"} & set(listed)
    assert f"@role_agent:\n  |  |--{fleet.name}-agent-1" in ansible("ansible-inventory", "-i", "shop.instances.yml", "--graph")
    # What somebody wrote into metadata stays text, also in a template that shows it.
    shown = ansible("ansible", "-i", "shop.instances.yml", "k3s_agents", "-m", "ansible.builtin.debug", "-a", "msg={{ instance.metadata.evil }}")
    assert "lookup('pipe'" in shown and not (tmp_path / "owned").exists()

    cloud.connect("admin").compute.reset_server_state(fleet.server("agent-1").id, "error")
    (tmp_path / "all.instances.yml").write_text(yaml.safe_dump({**inventory, "cache": False, "statuses": ["all"]}), encoding="utf-8")
    listed = listing(ansible("ansible-inventory", "-i", "all.instances.yml", "--list"))
    assert listed["status_error"]["hosts"] == [f"{fleet.name}-agent-1"] and "ansible_host" not in listed["_meta"]["hostvars"][f"{fleet.name}-agent-1"]
    with asleep(cloud):
        fleet.sdk.compute.delete_server(fleet.server("server-3"))
        listed = listing(ansible("ansible-inventory", "-i", "all.instances.yml", "--list"))
    assert listed["status_deleting"]["hosts"] == [f"{fleet.name}-server-3"] and "ansible_host" not in listed["_meta"]["hostvars"][f"{fleet.name}-server-3"]
    assert listed["k3s_servers"]["hosts"] == [f"{fleet.name}-server-1", f"{fleet.name}-server-2"]
    # The cache still has the four of before, and does not answer another question.
    assert len(listing(ansible("ansible-inventory", "-i", "shop.instances.yml", "--list"))["_meta"]["hostvars"]) == 4
    (tmp_path / "shop.instances.yml").write_text(yaml.safe_dump({**inventory, "address": {"network": "storage"}}), encoding="utf-8")
    shown = ansible("ansible-inventory", "-i", "shop.instances.yml", "--list")
    assert f"The instance {fleet.name}-server-1 has no address that the option address allows, so it has no ansible_host." in " ".join(shown.split())
    assert '"ansible_host"' not in shown


def test_an_instance_that_somebody_renamed_is_no_host_of_the_play(cloud, fleet, ansible, tmp_path):
    """Its name may be a template, which old versions of Ansible run, or that of the controller."""
    variables = {
        "instance_cloud": "nordic",
        "instance_region": "no-oslo-1",
        "instance_fleet": fleet.name,
        "instance_image": "ubuntu-24-04-lts",
        "instance_flavor": "cv-nvme-2gb",
        "instance_networks": [{"network": "private"}],
        "instance_groups": [{"name": "server", "count": 1}],
    }
    (tmp_path / "shop.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    hosts = "{{ groups['all'] | map('regex_replace', '^', '=') | join(' ') }}"
    show = {"ansible.builtin.debug": {"msg": hosts + " {{ hostvars['localhost'].instance is defined }}"}}
    plays = [{"import_playbook": str(PLAYBOOKS / "provision.yml")}, {"hosts": "localhost", "gather_facts": False, "tasks": [show]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    fleet.run(*fleet.named("x", "y"))
    renamed = [fleet.server("x"), fleet.server("y")]
    try:
        for server, name in zip(renamed, ("{{ lookup('pipe', 'touch owned') }}", "localhost")):
            fleet.sdk.compute.update_server(server, name=name)
        out = ansible("ansible-playbook", "play.yml", "-e", "@shop.yml")
        assert f'"msg": "={fleet.name}-server-1 False"' in out and not (tmp_path / "owned").exists(), out[-2000:]
    finally:
        for server in renamed:
            fleet.sdk.compute.update_server(server, name=server.name)


def test_a_recorded_fleet_is_not_made_anew_in_another_project_or_region(cloud, fleet, ansible, tmp_path):
    """Valid credentials of the wrong place find nothing there."""
    variables = {
        "instance_cloud": "nordic",
        "instance_region": "no-oslo-1",
        "instance_fleet": fleet.name,
        "instance_image": "ubuntu-24-04-lts",
        "instance_flavor": "cv-nvme-2gb",
        "instance_networks": [{"network": "private"}],
        "instance_record": str(tmp_path / "record.json"),
        "instance_groups": [{"name": "server", "count": 1}],
    }
    (tmp_path / "shop.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    neighbour = Fleet(cloud, "neighbour", fleet.name)
    ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
    recorded = (tmp_path / "record.json").read_text()
    for playbook, more in (("provision", {}), ("provision", {"instance_prune": True}), ("resurrect", {"instance_lost": [f"{fleet.name}-server-1"]})):
        wrong = json.dumps({"instance_cloud": "neighbour", **more})
        said = ansible("ansible-playbook", str(PLAYBOOKS / f"{playbook}.yml"), "-e", "@shop.yml", "-e", wrong, fails=True)
        assert "Nothing was looked for in it, and nothing was changed." in said
        wrong = json.dumps({"instance_region": "us-east-1", **more})
        said = ansible("ansible-playbook", str(PLAYBOOKS / f"{playbook}.yml"), "-e", "@shop.yml", "-e", wrong, fails=True)
        assert f"is the record of the fleet {fleet.name} in no-oslo-1" in said
    assert (tmp_path / "record.json").read_text() == recorded and neighbour.servers() == []
    assert "changed=0" in ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")


@pytest.mark.parametrize("dead", [False, True], ids=["deleted", "in ERROR"])
def test_a_lost_instance_is_resurrected_with_every_field_as_it_was(cloud, fleet, ansible, tmp_path, dead):
    variables = {
        "instance_cloud": "nordic",
        "instance_region": "no-oslo-1",
        "instance_fleet": fleet.name,
        "instance_image": "ubuntu-24-04-lts",
        "instance_flavor": "cv-nvme-2gb",
        "instance_networks": [{"network": "private"}],
        "instance_record": str(tmp_path / "record.json"),
        "instance_groups": [{"name": "server", "count": 2, "options": {"volumes": [{"label": "data", "size": 1}], "user_data": "#!/bin/sh\ntrue\n"}}],
    }
    (tmp_path / "shop.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
    lost = fleet.server("server-2")
    for names, words in (([], "instance_lost names no instance"), (["server-2", lost.name], "server-2: not both declared in the variables and recorded in")):
        said = ansible("ansible-playbook", str(PLAYBOOKS / "resurrect.yml"), "-e", "@shop.yml", "-e", json.dumps({"instance_lost": names}), fails=True)
        assert words in said
    if dead:
        cloud.connect("admin").compute.reset_server_state(lost.id, "error")
        # What it was stays in the record, also after a run that saw it dead.
        recorded = (tmp_path / "record.json").read_text()
        assert "changed=0" in ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
        assert (tmp_path / "record.json").read_text() == recorded
    else:
        fleet.sdk.compute.delete_server(lost)
        fleet.sdk.compute.wait_for_delete(lost, interval=0.3, wait=600)
    told = ansible("ansible-playbook", str(PLAYBOOKS / "resurrect.yml"), "-e", "@shop.yml", "-e", json.dumps({"instance_lost": [lost.name]}))
    assert f"{lost.name} create " in told and (f"{lost.name} remove the old one " in told) == dead
    # No zone is declared, so the cloud chose one, and could choose another one now.
    assert fleet.server("server-2").availability_zone == lost.availability_zone
    assert fleet.server("server-2").id != lost.id and len(fleet.servers()) == len(fleet.volumes()) == len(fleet.ports()) == 2


def test_what_does_not_exist_yet_is_made_with_the_ports_that_preflight_checks(cloud, fleet, ansible, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{PEER}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.delenv("OS_CLIENT_CONFIG_FILE")
    variables = {
        "instance_cloud": "nordic",
        "instance_clouds_file": cloud.clouds_file,
        "instance_region": "no-oslo-1",
        "instance_fleet": fleet.name,
        "instance_network": {"name": f"{fleet.name}-net", "cidr": "10.99.0.0/24"},
        "instance_security_group": {"name": f"{fleet.name}-nodes", "cni": "cilium", "remote": "10.99.0.0/24"},
    }
    (tmp_path / "shop.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    try:
        for wrong, words in (({"instance_project_id": "0123"}, "0123 is expected"),
                             ({"instance_residency": {"endpoint_hosts": ["*.example.no"]}}, "which is not an allowed host")):
            assert words in ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml", "-e", json.dumps(wrong), fails=True)
            assert not list(fleet.sdk.network.networks(name=f"{fleet.name}-net"))
        ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
        group = fleet.sdk.network.find_security_group(f"{fleet.name}-nodes")
        opened = {
            (rule["protocol"], rule["port_range_min"]) for rule in group.security_group_rules if rule["direction"] == "ingress" and rule["port_range_min"]
        }
        assert opened == {("tcp", 6443), ("tcp", 2379), ("tcp", 2380), ("tcp", 10250), ("udp", 8472), ("tcp", 4240)}
        assert "changed=0" in ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
        (tmp_path / "shop.yml").write_text(yaml.safe_dump({**{name: value for name, value in variables.items() if "cloud" not in name},
                                                           "instance_auth": dict(cloud.clouds["nordic"]["auth"])}), encoding="utf-8")
        assert "changed=0" in ansible("ansible-playbook", str(PLAYBOOKS / "provision.yml"), "-e", "@shop.yml")
    finally:
        for network in fleet.sdk.network.networks(name=f"{fleet.name}-net"):
            fleet.sdk.network.delete_network(network)
        for group in fleet.sdk.network.security_groups(name=f"{fleet.name}-nodes"):
            fleet.sdk.network.delete_security_group(group)


def test_no_secret_is_in_any_output(cloud, fleet, ansible, tmp_path):
    task = {
        "nordic.gitops.kvm_instance": {
            "region": "no-oslo-1",
            "fleet": fleet.name,
            "name": f"{fleet.name}-a",
            "image": "debian-13",
            "flavor": "cv-nvme-2gb",
            "networks": [],
            "auth": {**cloud.clouds["nordic"]["auth"]},
            "fingerprint_key": "hush-hush-key",
            "user_data": "#!/bin/sh\necho hush-hush-data\n",
        }
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]), encoding="utf-8")
    out = ansible("ansible-playbook", "-vvv", "--diff", "play.yml")
    assert "hush-hush" not in out


def test_the_wait_for_ssh_ends_when_a_server_answers_or_says_what_it_heard(git_ssh):
    port = int(git_ssh.url.split("@")[1].split("/")[0].split(":")[1])
    wait("a", "127.0.0.1", "ssh", Login(port=port), 20, lambda: "")
    with pytest.raises(Failure, match="ssh at 127.0.0.1:1 does not answer after 0 s: .*refused.*\nlast line"):
        wait("a", "127.0.0.1", "ssh", Login(port=1), 0, lambda: "\nlast line")
    with pytest.raises(Failure, match="has no address"):
        wait("a", None, "ssh", Login(), 0, lambda: "")
