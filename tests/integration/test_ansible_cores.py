# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every release of ansible-core that is promised, besides the one that all other tests run with."""

from __future__ import annotations

import subprocess

import pytest
from fleet import Fleet
from lab import images
from lab.hosts import Hosts
from workspace import environ, places, python

PLAYBOOKS = sorted(str(path) for path in (places.CHECKOUT / "playbooks").glob("*.yml"))
# What runs on the controller, and the templates of roles. What runs on a host knows nothing of ansible-core but its AnsibleModule.
ON_THE_CONTROLLER = ("tests/unit/plugins/plugin_utils", "tests/unit/plugins/test_filter_health.py", "tests/unit/plugins/test_filter_k3s.py",
                     "tests/unit/test_role_k3s.py", "tests/unit/test_role_preflight.py", "tests/unit/test_role_reconcile.py",
                     "tests/integration/test_k3s_role.py")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module", params=sorted(python.CORES))
def variables(request):
    """The environment of a command that runs with this ansible-core."""
    return environ.variables(python.with_core(request.param))


@pytest.fixture(scope="module")
def run(variables):
    def command(*words):
        done = subprocess.run(words, cwd=places.CHECKOUT, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        return done.returncode, done.stdout

    return command


def test_every_playbook_is_read(run):
    code, said = run("ansible-playbook", "--syntax-check", "-i", "localhost,", *PLAYBOOKS)
    assert code == 0, said


def test_what_runs_on_the_controller_passes_its_tests(run):
    code, said = run("python", "-m", "pytest", "-q", *ON_THE_CONTROLLER)
    assert code == 0, said[-6000:]


@pytest.mark.full
@pytest.mark.hosts
@pytest.mark.built("k3s")
@pytest.mark.timeout(3600)
def test_a_server_and_an_agent_are_made_restored_and_upgraded(variables, monkeypatch):
    with Hosts.start(["server1", "agent1"]) as hosts, monkeypatch.context() as patch:
        fleet = Fleet(hosts)
        old, new = (fleet.binaries[name] for name in ("old", "new"))
        images.tars()
        for name, value in variables.items():  # from here on ansible-playbook is that of this ansible-core
            patch.setenv(name, value)
        fleet.run("bootstrap", k3s_binary=str(old.path))
        assert fleet.left_alone("bootstrap", k3s_binary=str(old.path)) == 2
        fleet.kubectl("create configmap before")
        fleet.run("snapshot", k3s_snapshot_name="base")
        fleet.kubectl("create configmap after")
        fleet.run("restore", k3s_restore_name="base", k3s_restore_confirmed=True)
        found = fleet.kubectl("get configmaps -o name")
        assert "configmap/before" in found and "configmap/after" not in found
        fleet.run("upgrade", k3s_binary=str(new.path))
        assert fleet.versions() == {"server1": new.version, "agent1": new.version}
