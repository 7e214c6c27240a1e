# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role preflight offers the module's options as the module has them, and its documentation tells of every check and port."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import CHECKS, NAMES
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import VERDICTS
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.ports import PORTS
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import CNIS, DATASTORES, ROLES, Profile
from ansible_collections.nordic.gitops.plugins.modules.node_preflight import SPEC

CHECKOUT = Path(__file__).resolve().parents[2]
ROLE = CHECKOUT / "roles" / "preflight"
VARIABLES = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
BLOCK = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())[0]
LISTENING, CHECKED = (task["nordic.gitops.node_preflight"] for task in BLOCK["block"])
GUIDE = (CHECKOUT / "docs" / "preflight.md").read_text(encoding="utf-8")
# What the role itself decides.
ITS_OWN = {"state", "name", "peers"}
EXTRA = {"preflight_fail", "preflight_table", "preflight_report", "preflight_title"}


def test_every_option_of_the_module_is_a_variable():
    assert set(VARIABLES) - EXTRA == {f"preflight_{option}" for option in set(SPEC) - ITS_OWN}


def test_every_option_is_handed_on():
    assert set(CHECKED) == set(SPEC)
    assert set(LISTENING) == {"state", "role", "cni", "datastore", "name", "address"}
    (stopping,) = (task["nordic.gitops.node_preflight"] for task in BLOCK["always"])
    assert [LISTENING["state"], CHECKED["state"], stopping["state"]] == ["listening", "checked", "stopped"]


@pytest.mark.parametrize("option", sorted(set(SPEC) - ITS_OWN))
def test_a_variable_is_what_the_option_is(option):
    spec, variable = SPEC[option], VARIABLES[f"preflight_{option}"]
    for key in ("type", "elements", "choices"):
        assert variable.get(key) == spec.get(key), key
    if option != "role":
        assert variable.get("default") == spec.get("default")
    for name, sub in spec.get("options", {}).items():
        assert {key: value for key, value in variable["options"][name].items() if key != "description"} == sub
    value = f"preflight_{option}"
    if option == "node_name":  # k3s' own key names the node where the role k3s is configured too
        assert CHECKED[option] == f"{{{{ {value} | default((k3s_config | default({{}}))['node-name'] | default(omit)) }}}}"
        return
    assert CHECKED[option] == (f"{{{{ {value} }}}}" if value in DEFAULTS else f"{{{{ {value} | default(omit) }}}}")


def test_the_choices_are_those_that_the_checks_know():
    assert (tuple(SPEC["role"]["choices"]), tuple(SPEC["cni"]["choices"]), tuple(SPEC["datastore"]["choices"])) == (ROLES, CNIS, DATASTORES)


def test_the_roles_own_defaults_are_documented():
    assert set(DEFAULTS) == EXTRA | {"preflight_role"}
    for name in ("preflight_fail", "preflight_table", "preflight_title"):
        assert DEFAULTS[name] == VARIABLES[name]["default"]


# ---- the rows, and the page about them


def test_no_two_checks_have_one_name_and_each_says_why_and_how_to_mend():
    assert len(set(NAMES)) == len(NAMES)
    for check in CHECKS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", check.name)
        assert check.why.endswith(".") and check.mend.endswith("."), check.name
        for role in ROLES:
            for cni in CNIS:
                assert check.threshold(Profile(role, cni)), check.name


def rows(heading):
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("| ")][1:]


def test_the_page_has_every_check_and_no_other():
    assert [row[0].strip("`") for row in rows("Checks")] == sorted(NAMES, key=[row[0].strip("`") for row in rows("Checks")].index)
    assert {row[0].strip("`") for row in rows("Checks")} == set(NAMES)


def test_the_page_has_every_verdict_and_every_profile():
    assert {row[0].strip("`") for row in rows("Verdicts")} == set(VERDICTS)
    section = GUIDE.split("\n## Profiles\n")[1].split("\n## ")[0]
    for choice in (*ROLES, *CNIS, *DATASTORES):
        assert f"`{choice}`" in section


def test_the_page_has_every_port_with_who_listens_and_who_comes():
    profiles = [Profile(role, cni, datastore) for role in ROLES for cni in CNIS for datastore in DATASTORES]
    told = {row[0]: row for row in rows("Ports")}
    assert list(told) == [str(port) for port in PORTS]
    for port in PORTS:
        _number, purpose, on, to = told[str(port)]
        assert purpose == port.purpose
        for cni in CNIS:
            if f"`{cni}`" in on:
                assert any(port.on(profile) for profile in profiles if profile.cni == cni)
        listening, coming = [profile for profile in profiles if port.on(profile)], [profile for profile in profiles if port.to(profile)]
        if " with `" in on:
            assert {profile.cni for profile in listening} == set(re.findall(r"`([^`]+)`", on))
        if on.startswith("servers"):
            assert all(profile.server for profile in listening) and on.endswith("with etcd") == all(profile.etcd for profile in listening)
        if to == "the node itself":
            assert not coming
        elif to == "servers with etcd":
            assert all(profile.etcd for profile in coming) and coming
        else:
            assert to == "all" and {profile.role for profile in coming} == set(ROLES)
