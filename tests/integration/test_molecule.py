# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every molecule scenario of the collection, by name, with all that `molecule test` does: converge, idempotence and verify included.

A scenario whose molecule.yml has platforms runs on hosts of the lab (extensions/molecule/shared). Where they cannot be it fails, or
is reported as NOT RUN when NORDIC_WITHOUT_HOSTS asks for that; so are in `make test` the ones that only `make test-full` runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional

import pytest
import yaml
from lab import build
from lab.components import CLUSTER_BINARIES
from lab.hosts import k3s, rootfs, stop_detached
from workspace import collection, environ, places

SCENARIOS = {path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
             for path in sorted((places.CHECKOUT / "extensions" / "molecule").glob("*/molecule.yml"))}

# The others take minutes each, or show what test_preflight shows too, and are left to `make test-full`.
IN_EVERY_RUN = ("reconcile", "sealed-secrets", "single", "ha", "upgrade", "restore")

# On one set of hosts, in this order: to make a cluster of four takes as long as what the last two show with it. Each can be run alone.
IN_TURN = ("ha", "upgrade", "restore")

TASK = """---
- name: Sample
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Sample
      ansible.builtin.debug:
        msg: Hello
      changed_when: {changed}
      failed_when: {failed}
"""


def run_molecule(folder: Path, scenario: str, home: Path, hosts: Optional[Path] = None) -> subprocess.CompletedProcess[str]:
    """folder: a real one named …/ansible_collections/nordic/gitops. hosts: the folder of those that the scenario takes over and leaves."""
    variables = environ.variables(Path(sys.prefix), folder.parents[2], home)
    # Of a socket's path the kernel takes 107 bytes, and ssh and Ansible append to this folder's.
    sockets = tempfile.mkdtemp(prefix="ssh-")
    # Molecule keeps its state by the scenario's name; two checkouts must not meet in it.
    variables.update(
        MOLECULE_EPHEMERAL_DIRECTORY=str(home / "molecule" / scenario),
        MOLECULE_GLOB="extensions/molecule/*/molecule.yml",
        ANSIBLE_FORCE_COLOR="0",
        ANSIBLE_SSH_CONTROL_PATH_DIR=sockets,
        NORDIC_SCENARIO_HOSTS=str(hosts or ""),
        HOME=str(home),
    )
    if scenario == "site":  # its roles render a chart and a kustomization
        variables["PATH"] = f"{build.bin_folder((*CLUSTER_BINARIES, 'helm'))}:{variables['PATH']}"
    try:
        return subprocess.run(["molecule", "test", "--scenario-name", scenario], cwd=folder, env=variables, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=3600, check=False)
    finally:
        # Molecule ends them itself, unless it hung.
        stop_detached(home / "molecule" / scenario / "hosts")
        for folder in (home / "molecule" / scenario, sockets):
            shutil.rmtree(folder, ignore_errors=True)


def releases(definition):
    """The k3s of the lab that a scenario needs, as ../shared/create.yml finds them: new, old,new or none."""
    if "create" not in (definition.get("provisioner") or {}).get("playbooks", {}):
        return ""
    return definition["provisioner"]["inventory"]["group_vars"]["all"].get("lab_releases", "new")


def parameters():
    for name in [*IN_TURN, *(name for name in SCENARIOS if name not in IN_TURN)]:
        definition = SCENARIOS[name]
        part = "k3s" if releases(definition) else "hosts"
        # What has hosts of its own may go to another worker; the tests of a scenario stay together, or it would run once for each.
        marks = [pytest.mark.xdist_group("in_turn" if name in IN_TURN else name)]
        marks += [pytest.mark.hosts, pytest.mark.built(part)] if definition.get("platforms") else []
        marks += [] if name in IN_EVERY_RUN else [pytest.mark.full]
        yield pytest.param(name, marks=marks)


@pytest.fixture(scope="module")
def hosts_in_turn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in-turn") / "hosts"
    yield folder
    stop_detached(folder)


@pytest.fixture(scope="module")
def outcome(request, tmp_path_factory):
    """What came of the scenario."""
    # What is built for long is so before the time of the test counts.
    if SCENARIOS[request.param].get("platforms"):
        rootfs.make()
    if releases(SCENARIOS[request.param]):
        k3s.variables(releases(SCENARIOS[request.param]).split(","))
    hosts = request.getfixturevalue("hosts_in_turn") if request.param in IN_TURN else None
    done = run_molecule(collection.copied("molecule") / collection.NAME, request.param, tmp_path_factory.mktemp("home"), hosts)
    if done.returncode and hosts:
        stop_detached(hosts)  # the next one shall not suffer for this one
    return done


@pytest.mark.parametrize("outcome", list(parameters()), indirect=True)
def test_molecule(outcome, tell):
    if outcome.returncode:
        pytest.fail(outcome.stdout, pytrace=False)
    assert "idempotence" in outcome.stdout.lower()
    for took in re.findall(r'"msg": "(.* were back after .*)"', outcome.stdout)[:1]:
        tell(took)


# A second test of the group also keeps the worker free of a further group until the first, which takes minutes, has ended.
@pytest.mark.parametrize("outcome", list(parameters()), indirect=True)
def test_no_scenario_makes_ansible_warn(outcome):
    """Every user would read it at every run."""
    assert re.findall(r"^\[WARNING\]: .*", outcome.stdout, re.M) == []


def test_the_scenarios_of_every_run_are_there():
    assert set(IN_EVERY_RUN) <= set(SCENARIOS)


@pytest.mark.parametrize(("changed", "failed", "said"), [(True, False, "Idempotence test failed"), (False, True, "FAILED!")])
def test_a_scenario_that_changes_twice_or_fails_fails_the_run(tmp_path, changed, failed, said):
    folder = tmp_path / collection.NAME
    scenario = folder / "extensions" / "molecule" / "sample"
    scenario.mkdir(parents=True)
    shutil.copy(places.CHECKOUT / "extensions" / "molecule" / "config.yml", scenario.parent)
    (folder / "galaxy.yml").write_text("namespace: nordic\nname: gitops\nversion: 1.0.0\n", encoding="utf-8")
    (scenario / "molecule.yml").write_text("---\n", encoding="utf-8")
    for name in ("create", "verify", "destroy"):
        (scenario / f"{name}.yml").write_text(TASK.format(changed=False, failed=False), encoding="utf-8")
    (scenario / "converge.yml").write_text(TASK.format(changed=changed, failed=failed), encoding="utf-8")
    done = run_molecule(folder, "sample", tmp_path / "home")
    assert done.returncode != 0 and said.lower() in done.stdout.lower(), done.stdout
