# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role k3s where no k3s is needed to see it: who has his turn, and what a run that fails leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys

import yaml
from workspace import places


def played(folder, tasks, servers, *options):
    """On this machine as each of the servers, which has no k3s."""
    (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    hosts = {name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} for name in servers}
    (folder / "hosts.yml").write_text(json.dumps({"k3s_servers": {"hosts": hosts}}), encoding="utf-8")
    return subprocess.run(["ansible-playbook", "--check", "-i", str(folder / "hosts.yml"), str(folder / "play.yml"), *options],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def test_a_restart_that_fails_ends_the_run_before_the_next_hosts_turn(tmp_path):
    """Also in a play of the user's own, which does not say any_errors_fatal. There is no k3s here, so the first turn fails."""
    done = played(tmp_path, [
        {"ansible.builtin.include_role": {"name": "nordic.gitops.k3s", "tasks_from": "rotate_certificates"}},
        {"ansible.builtin.debug": {"msg": "went on"}}], ["server1", "server2", "server3"])
    assert done.returncode != 0 and done.stdout.count("fatal: [") == 1 and "fatal: [server1]" in done.stdout, done.stdout
    assert "went on" not in done.stdout


def test_servers_that_a_run_leaves_out_are_named_in_the_order_of_the_inventory(tmp_path):
    servers = [f"server{number}" for number in range(1, 13)]
    tasks = [{"ansible.builtin.include_vars": {"file": str(places.CHECKOUT / "roles" / "k3s" / "vars" / "main.yml")}},
             {"ansible.builtin.debug": {"msg": "left out: {{ k3s_unseen | join(', ') }}"}, "vars": {"k3s_servers_group": "k3s_servers"}}]
    done = played(tmp_path, tasks, servers, "--limit", "server1")
    assert f"left out: {', '.join(servers[1:])}" in done.stdout, done.stdout


def test_hosts_that_have_to_be_restarted_have_their_turns_as_planned_and_no_others(tmp_path):
    tasks = yaml.safe_load((places.CHECKOUT / "roles" / "k3s" / "tasks" / "main.yml").read_text(encoding="utf-8"))
    (restarts,) = [task for task in tasks if task.get("ansible.builtin.include_tasks") == "restart.yml"]
    changed = ["server1", "server3", "server5", "server6"]
    done = played(tmp_path, [
        {"ansible.builtin.include_vars": {"file": str(places.CHECKOUT / "roles" / "k3s" / "vars" / "main.yml")}},
        {"ansible.builtin.set_fact": {"k3s_installed": {"restart_needed": "{{ inventory_hostname in changed }}"}}, "vars": {"changed": changed}},
        {"ansible.builtin.debug": {"msg": "turn of {{ item | sort | join(' and ') }}"}, "loop": restarts["loop"], "run_once": True,
         "vars": {"k3s_planned": {"turns": [["server2"], ["server3"], ["server1"], ["server4"], ["server5", "server6"]]}}},
    ], [f"server{number}" for number in range(1, 7)])
    assert [line.partition("turn of ")[2].rstrip('"') for line in done.stdout.splitlines() if "turn of" in line] == [
        "server3", "server1", "server5 and server6"], done.stdout


def test_two_manifests_of_one_name_are_refused_before_one_takes_the_others_place(tmp_path):
    """k3s knows neither their folders nor their endings."""
    names = ["a/shop.yaml", "b/shop.yaml.j2", "c/other.yaml"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("a: 1\n", encoding="utf-8")
    done = played(tmp_path, [
        {"ansible.builtin.include_role": {"name": "nordic.gitops.k3s", "tasks_from": "manifests"}, "vars": {"k3s_manifests": names}}], ["server1"])
    assert done.returncode != 0 and "another manifest has the name of a/shop.yaml" in done.stdout, done.stdout
    assert "another manifest has the name of c/other.yaml" not in done.stdout
