# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that somebody has taken over answers the controller in place of the module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

HONEST = {"node_name": "server1", "machine_id": "1", "architecture": "x86_64", "role": "server", "service": {"state": "active"}, "has_cluster": True,
          "ready": False, "version": "v1.30.3+k3s1", "datastore": "sqlite", "token_fingerprint": "t", "ca_fingerprint": "c",
          "data_dir": "/var/lib/rancher/k3s", "wanted": {"role": "server", "address": "10.0.0.1", "config": {}}}
# It says that it is a server of the cluster that is well: one that others would join, and whose token they would get.
HOSTILE = {**HONEST, "node_name": "agent1", "machine_id": "2", "ready": True, "data_dir": "/evil",
           "wanted": {"role": "server", "address": "10.6.6.6", "config": {}}}
PLAYS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Observe
      nordic.gitops.k3s_info:
        wanted: {role: "{{ wanted_role }}", address: "{{ wanted_address }}"}
      register: now
    - name: Plan
      nordic.gitops.k3s_plan:
        observed: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'now'))) }}"
      register: planned
      run_once: true
      failed_when: false
    - name: Show
      ansible.builtin.copy: {content: "{{ planned | to_json }}", dest: "{{ told }}", mode: "0600"}
      vars: {ansible_python_interpreter: "%s"}
      run_once: true
"""


def test_an_agent_that_says_it_is_a_server_is_joined_by_nobody(tmp_path):
    hosts = {}
    for name, answer, role, address in (("agent1", HOSTILE, "agent", "10.0.1.1"), ("server1", HONEST, "server", "10.0.0.1")):
        python = tmp_path / name
        python.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({**answer, 'changed': False})}\nEND\n")
        python.chmod(0o755)
        hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(python), "wanted_role": role, "wanted_address": address}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"told": str(tmp_path / "told")}}}))
    (tmp_path / "play.yml").write_text(PLAYS % sys.executable)
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")],
                          env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told").read_text())
    assert "bootstrap" not in told or told["bootstrap"] == "server1" and told["token_from"]["node"] == "server1" and "10.6.6.6" not in json.dumps(told)
    assert "bootstrap" in told or "is a k3s server and shall be an agent" in told["msg"], told
