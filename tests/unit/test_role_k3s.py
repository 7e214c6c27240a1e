# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role k3s offers what the module takes, as the module takes it; and what runs on the controller documents what it reads."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from ansible_collections.nordic.gitops.plugins.module_utils._k3s.options import SPEC, WANTED
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.system import SYSCTLS

ROLE = Path(__file__).resolve().parents[2] / "roles" / "k3s"
SPECS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
VARIABLES = SPECS["main"]["options"]
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
*_BEFORE, INSTALL = yaml.safe_load((ROLE / "tasks" / "install.yml").read_text(encoding="utf-8"))
# Files that others include.
PARTS = {"cis", "download", "install", "kubeconfig_users", "manifests", "new_host", "observe", "power_reboot", "power_start", "power_stop", "restart",
         "summary", "token"}
# What the role decides itself, by the plan.
DECIDED = {"state", "role", "start", "restart", "wait", "rotate_certificates", "voters", "authority", "keep_quorum", "progress"}


def test_every_option_of_the_module_is_handed_on_but_what_the_role_decides():
    assert set(SPEC) - {"rotate_certificates", "authority", "keep_quorum", "progress"} == set(INSTALL["nordic.gitops.k3s"])
    assert {f"k3s_{option}" for option in set(SPEC) - DECIDED} <= set(VARIABLES)


@pytest.mark.parametrize("option", sorted(set(SPEC) - DECIDED))
def test_a_variable_is_what_the_option_is(option):
    spec, variable = SPEC[option], VARIABLES[f"k3s_{option}"]
    assert variable["type"] == spec["type"] and variable.get("elements") == spec.get("elements")
    assert variable.get("no_log", False) == bool(spec.get("no_log", False))
    assert set(variable.get("options", {})) == set(spec.get("options", {}))


def test_the_module_brings_about_each_state_that_it_documents():
    documented = yaml.safe_load(importlib.import_module("ansible_collections.nordic.gitops.plugins.modules.k3s").DOCUMENTATION)["options"]["state"]
    assert documented["choices"] == SPEC["state"]["choices"]


def test_the_defaults_are_those_that_are_documented():
    documented = {}
    for entry in SPECS.values():
        documented.update({name: variable["default"] for name, variable in entry["options"].items() if "default" in variable})
    assert {name: value for name, value in DEFAULTS.items() if "{{" not in str(value)} == documented


def test_the_role_writes_the_settings_of_the_kernel_that_the_kubelet_insists_on():
    """As Kubernetes' pkg/kubelet/cm/container_manager_linux.go has them. Preflight asks for them by the same table."""
    insists = {"vm.overcommit_memory": 1, "vm.panic_on_oom": 0, "kernel.panic": 10, "kernel.panic_on_oops": 1, "kernel.keys.root_maxkeys": 1000000,
               "kernel.keys.root_maxbytes": 25000000}
    assert {row.name: row.wanted for row in SYSCTLS if row.kubelet} == insists


def test_an_upgrade_that_fails_installs_no_program_after_the_new_one_has_come_up():
    """The module alone rolls back, and only what did not come up: the database may be the new version's by then."""
    (upgrade,) = yaml.safe_load((ROLE / "tasks" / "upgrade_node.yml").read_text(encoding="utf-8"))
    assert [set(task) & {"nordic.gitops.k3s", "ansible.builtin.include_tasks"} for task in upgrade["rescue"]] == [set(), set()]
    assert not {"rolled_back", "downgraded"} & set(SPEC["state"]["choices"])


def test_new_hosts_of_a_restore_are_prepared_for_the_cis_profile_as_those_of_a_bootstrap_are():
    for name in ("main", "new_host"):
        tasks = [task.get("ansible.builtin.include_tasks", task.get("ansible.builtin.import_tasks"))
                 for task in yaml.safe_load((ROLE / "tasks" / f"{name}.yml").read_text(encoding="utf-8"))]
        assert "cis.yml" in tasks[:tasks.index("install.yml")]


def test_the_page_shows_the_tasks_of_the_role_as_they_are():
    shown = "".join(f"    {line}".rstrip() + "\n" for line in (ROLE / "tasks" / "main.yml").read_text(encoding="utf-8").splitlines())
    assert shown in (ROLE.parents[1] / "docs" / "k3s.md").read_text(encoding="utf-8")


def test_every_entry_point_of_the_role_is_documented():
    files = {path.stem for path in (ROLE / "tasks").glob("*.yml")} - PARTS
    assert files == set(SPECS)


def test_what_a_host_is_to_be_is_told_in_the_words_of_the_module_k3s_and_the_role_tells_all_of_it():
    documented = yaml.safe_load(importlib.import_module("ansible_collections.nordic.gitops.plugins.modules.k3s_info").DOCUMENTATION)["options"]["wanted"]
    assert set(WANTED) == set(documented["suboptions"])
    for name, entry in WANTED.items():
        for key in ("type", "elements", "default", "choices"):
            assert entry.get(key) == documented["suboptions"][name].get(key), (name, key)
        assert name in ("role", "address", "binary") or entry is SPEC[name]
    observed = yaml.safe_load((ROLE / "tasks" / "observe.yml").read_text())[-1]
    assert set(observed["nordic.gitops.k3s_info"]["wanted"]) == set(WANTED)


def test_the_roles_way_is_a_straight_line_from_what_is_observed_to_what_is_planned():
    """No task of it computes what the plan says: no program in Jinja, and no fact but the token of a new cluster."""
    tasks = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text(encoding="utf-8"))
    assert [task["name"] for task in tasks[:3]] == ["Observe", "Plan", "Show the plan"]
    assert [task["name"] for task in tasks if "ansible.builtin.set_fact" in task] == ["Make a token for a new cluster"]
    assert "{%" not in (ROLE / "tasks" / "main.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["k3s_plan", "k3s_kubeconfig"])
def test_what_runs_on_the_controller_reads_what_it_documents(name):
    action = importlib.import_module(f"ansible_collections.nordic.gitops.plugins.action.{name}")
    module = importlib.import_module(f"ansible_collections.nordic.gitops.plugins.modules.{name}")

    def same(spec, documented):
        assert set(spec) == set(documented)
        for option, entry in spec.items():
            for key in ("type", "elements", "default", "choices"):
                assert entry.get(key) == documented[option].get(key), (option, key)
            assert entry.get("required", False) == documented[option].get("required", False)
            if "options" in entry:
                same(entry["options"], documented[option]["suboptions"])

    same(action.SPEC, yaml.safe_load(module.DOCUMENTATION)["options"])
