# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role reconcile offers the module's options, all of them, as the module has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.nordic.gitops.plugins.modules.reconcile import ARGUMENTS as MODULE
from ansible_collections.nordic.gitops.plugins.modules.reconcile import SPEC

ROLE = Path(__file__).resolve().parents[2] / "roles" / "reconcile"
VARIABLES = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
TASK = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())[0]["nordic.gitops.reconcile"]


def test_every_option_of_the_module_is_a_variable_and_nothing_else_but_the_summary():
    assert set(VARIABLES) - {"reconcile_summary"} == {f"reconcile_{option}" for option in MODULE}


def test_every_option_is_handed_on():
    assert set(TASK) == set(MODULE)


@pytest.mark.parametrize("option", sorted(MODULE))
def test_a_variable_is_what_the_option_is(option):
    spec, variable = MODULE[option], VARIABLES[f"reconcile_{option}"]
    assert variable["type"] == spec["type"]
    assert variable.get("elements") == spec.get("elements")
    assert variable.get("choices") == spec.get("choices")
    assert variable.get("required", False) == spec.get("required", False)
    assert variable.get("no_log", False) == bool(spec.get("no_log", False))
    assert variable.get("default") == spec.get("default")
    value = f"reconcile_{option}"
    needed = spec.get("required") or value in DEFAULTS
    assert TASK[option] == (f"{{{{ {value} }}}}" if needed else f"{{{{ {value} | default(omit) }}}}")


def test_the_roles_own_defaults_are_those_that_it_documents():
    assert DEFAULTS == {name: VARIABLES[name]["default"] for name in ("reconcile_summary",)}


def test_the_module_and_the_role_wait_unless_told_otherwise():
    assert SPEC["wait"]["default"] is True and VARIABLES["reconcile_wait"]["default"] is True
