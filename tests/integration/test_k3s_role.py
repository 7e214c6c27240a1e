# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role k3s where no k3s is needed to see it: who has his turn, and what a run that fails leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_restart_that_fails_ends_the_run_before_the_next_hosts_turn(tmp_path):
    """Also in a play of the user's own, which does not say any_errors_fatal. There is no k3s here, so the first turn fails."""
    play = [{"hosts": "all", "gather_facts": False, "tasks": [
        {"ansible.builtin.include_role": {"name": "nordic.gitops.k3s", "tasks_from": "rotate_certificates"}},
        {"ansible.builtin.debug": {"msg": "went on"}}]}]
    (tmp_path / "play.yml").write_text(json.dumps(play), encoding="utf-8")
    hosts = {f"server{number}": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} for number in (1, 2, 3)}
    (tmp_path / "hosts.yml").write_text(json.dumps({"k3s_servers": {"hosts": hosts}}), encoding="utf-8")
    done = subprocess.run(["ansible-playbook", "--check", "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode != 0 and done.stdout.count("fatal: [") == 1 and "fatal: [server1]" in done.stdout, done.stdout
    assert "went on" not in done.stdout
