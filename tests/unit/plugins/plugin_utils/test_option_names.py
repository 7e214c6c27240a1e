# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads when a module of k3s fails: the options of a task, or the variables of the role."""

from __future__ import annotations

import importlib
import re

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.plugin_utils._option_names import PREFIXED, VARIABLES, named, with_names
from workspace import places

K3S, NODE, SNAPSHOT = "nordic.gitops.k3s", "nordic.gitops.k3s_node", "nordic.gitops.etcd_snapshot"
SAID = [
    (K3S, "O(config): k3s server has no option tls_san; O(drop_ins).50-x: k3s server has no option nonsense",
     "config: k3s server has no option tls_san; drop_ins.50-x: k3s server has no option nonsense",
     "k3s_config: k3s server has no option tls_san; k3s_drop_ins.50-x: k3s server has no option nonsense"),
    (K3S, "k3s is not installed, and no O(binary) is given. Give O(binary), or O(binary_url) with O(checksum).",
     "k3s is not installed, and no binary is given. Give binary, or binary_url with checksum.",
     "k3s is not installed, and no k3s_binary is given. Give k3s_binary, or k3s_binary_url with k3s_checksum."),
    (K3S, "this host is a k3s agent already. Take it out of its cluster first: O(state=absent).",
     "this host is a k3s agent already. Take it out of its cluster first: `state: absent`.",
     "this host is a k3s agent already. Take it out of its cluster first: the playbook reset with k3s_reset_remove=true."),
    (K3S, "there is no k3s.service on this host. Use O(state=present).", "there is no k3s.service on this host. Use `state: present`.",
     "there is no k3s.service on this host. Use the playbook bootstrap."),
    (NODE, "node agent1: these pods have an emptyDir. Set O(delete_emptydir_data) when what is in it may go.",
     "node agent1: these pods have an emptyDir. Set delete_emptydir_data when what is in it may go.",
     "node agent1: these pods have an emptyDir. Set k3s_drain_delete_emptydir_data when what is in it may go."),
    (SNAPSHOT, "O(s3).region: region eu-west-1 is not one of those allowed: eu-north-1.",
     "s3.region: region eu-west-1 is not one of those allowed: eu-north-1.",
     "k3s_snapshot_s3.region: region eu-west-1 is not one of those allowed: eu-north-1."),
    (SNAPSHOT, "it is encrypted. Give the private key of its recipient by O(private_key).",
     "it is encrypted. Give the private key of its recipient by private_key.",
     "it is encrypted. Give the private key of its recipient by k3s_restore_private_key."),
    (SNAPSHOT, "Make room: O(state=pruned) removes old snapshots.", "Make room: `state: pruned` removes old snapshots.",
     "Make room: the playbook snapshot removes old snapshots."),
    (SNAPSHOT, "there is no k3s here. Install it, or give its path by O(binary).", "there is no k3s here. Install it, or give its path by binary.",
     "there is no k3s here. Install it, or give its path by binary."),
    (K3S, "after 480 s node server1 is not ready: /etc/rancher/k3s/config.yaml: no such file, token, binary, FOO(x)",
     "after 480 s node server1 is not ready: /etc/rancher/k3s/config.yaml: no such file, token, binary, FOO(x)",
     "after 480 s node server1 is not ready: /etc/rancher/k3s/config.yaml: no such file, token, binary, FOO(x)"),
]
SOURCES = sorted((places.CHECKOUT / "plugins" / "module_utils" / "_k3s").glob("*.py"))


@pytest.mark.parametrize(("module", "message", "task", "role"), SAID, ids=[str(number) for number in range(len(SAID))])
def test_a_failure_names_what_the_person_wrote(module, message, task, role):
    assert named(message, module, False) == task and named(message, module, True) == role


def test_a_task_outside_of_the_role_reads_the_modules_own_options():
    for variables in ({}, {"ansible_role_name": "company.platform.k3s"}, None):
        assert with_names({"failed": True, "msg": "Give O(binary)."}, K3S, variables)["msg"] == "Give binary."
    assert with_names({"failed": True, "msg": "Give O(binary)."}, K3S, {"ansible_role_name": "nordic.gitops.k3s"})["msg"] == "Give k3s_binary."
    assert with_names({"changed": True}, K3S, {}) == {"changed": True}


def options_of(module):
    return yaml.safe_load(importlib.import_module(f"ansible_collections.nordic.gitops.plugins.modules.{module.rpartition('.')[2]}").DOCUMENTATION)["options"]


def test_messages_name_only_options_that_there_are():
    marked = {mark for path in SOURCES for mark in re.findall(r"O\(([a-z0-9_]+(?:=[a-z]+)?)\)", path.read_text(encoding="utf-8"))}
    known = {name for module in ("k3s", "k3s_node", "etcd_snapshot") for name in (*options_of(module), *(
        f"state={choice}" for choice in options_of(module)["state"]["choices"]))} | {"s3"}
    assert len(marked) > 20 and marked <= known


def test_what_stands_for_an_option_in_the_role_is_a_variable_of_it():
    specs = yaml.safe_load((places.CHECKOUT / "roles" / "k3s" / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    variables = {name for entry in specs.values() for name in entry["options"]}
    for module, names in VARIABLES.items():
        assert {name for name in names.values() if " " not in name} <= variables
    assert set(PREFIXED) <= set(VARIABLES)
