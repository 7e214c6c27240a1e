# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module k3s decides, by values alone: what is done with the service, and what is refused before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import refusals
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.running import next_step
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import State
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Outcome, Spec
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version

SERVER = Spec("server")
OWN, OF_K3S = "/etc/rancher/k3s/token", "/var/lib/rancher/k3s/server/token"


def state(active: str) -> State:
    return State(True, active, True, 1, 0, False)


@pytest.mark.parametrize(("active", "changed", "spec", "step"), [
    ("inactive", False, SERVER, "start"), ("failed", True, SERVER, "start"), ("inactive", True, replace(SERVER, start=False), ""),
    ("active", False, SERVER, "wait"), ("active", True, SERVER, "restart"), ("activating", True, SERVER, "restart"),
    ("active", True, replace(SERVER, restart=False), "wait"), ("activating", False, replace(SERVER, start=False), "wait")])
def test_the_service_is_started_restarted_or_waited_for_as_it_is_and_as_it_is_asked(active: str, changed: bool, spec: Spec, step: str) -> None:
    assert next_step(state(active), changed, spec) == step


@pytest.mark.parametrize(("role", "configured", "said"), [
    ("server", {"datastore-endpoint": "x", "cluster-init": True}, "either external or embedded"),
    ("server", {"server": "https://a:6443", "cluster-init": True}, "either joins a cluster or begins one"), ("agent", {}, "needs the URL of a server")])
def test_a_configuration_that_contradicts_itself_is_refused(role: str, configured: Dict[str, Any], said: str) -> None:
    with pytest.raises(Failure, match=said):
        refusals.contradictions(role, configured)


@pytest.mark.parametrize(("role", "configured"), [("server", {}), ("server", {"cluster-init": True}), ("agent", {"server": "https://a:6443"})])
def test_one_that_does_not_is_taken(role: str, configured: Dict[str, Any]) -> None:
    refusals.contradictions(role, configured)


@pytest.mark.parametrize(("spec", "tokens", "part", "begun", "said"), [
    (Spec("agent"), {}, False, False, "an agent needs the cluster's token"),
    (Spec("server", {"server": "https://a:6443"}), {}, False, False, "a server that joins needs the cluster's token"),
    (Spec("server", token="one"), {OWN: "two"}, True, True, "is not the one of the cluster"),
    (Spec("server", token="one"), {OF_K3S: f"K10{'a' * 64}::server:two"}, True, True, "is not the one of the cluster"),
    (Spec("server", token="one"), {OWN: "two"}, False, True, "is not the one of the cluster"),
    (Spec("server", token="o ne"), {}, False, False, "has white space"), (Spec("server", agent_token="o\nne"), {}, False, False, "has white space")])
def test_a_token_that_would_not_work_is_refused(spec: Spec, tokens: Dict[str, str], part: bool, begun: bool, said: str) -> None:
    with pytest.raises(Failure, match=said):
        refusals.token(spec, tokens, part, begun)


@pytest.mark.parametrize(("spec", "tokens", "part", "begun"), [
    (Spec("server"), {}, False, False), (Spec("agent"), {OWN: "one"}, False, False), (Spec("agent", token="one"), {OWN: "two"}, True, True),
    (Spec("server", {"server": "https://a:6443"}), {}, True, True), (Spec("server", token="one"), {OF_K3S: f"K10{'a' * 64}::server:one"}, True, True),
    (Spec("server", token="one"), {OWN: "two"}, False, False)])
def test_a_token_of_the_same_secret_or_of_nobody_yet_is_taken(spec: Spec, tokens: Dict[str, str], part: bool, begun: bool) -> None:
    refusals.token(spec, tokens, part, begun)


@pytest.mark.parametrize(("installed", "new", "part", "upgrade", "said"), [
    ("v1.30.3+k3s1", "v1.30.5+k3s1", True, False, "Use the playbook upgrade"), ("v1.30.5+k3s1", "v1.30.3+k3s1", True, True, "1.30.3"),
    ("v1.30.5+k3s1", "v1.32.1+k3s1", True, True, "1.32.1")])
def test_another_version_is_an_upgrade_and_a_step_that_kubernetes_forbids_is_refused(installed: str, new: str, part: bool, upgrade: bool, said: str) -> None:
    with pytest.raises(Failure, match=said):
        refusals.version(Version.of(installed), Version.of(new), part, upgrade)
    refusals.version(Version.of(installed), Version.of(new), False, upgrade)  # of a node that is part of no cluster
    refusals.version(None, Version.of(new), part, upgrade)
    refusals.version(Version.of(new), Version.of(new), part, upgrade)


@pytest.mark.parametrize(("path", "said"), [
    ("/etc/passwd", "is not below"), ("/etc/rancher/k3s/../../passwd", "is not below"), ("/etc/rancher/k3s/config.yaml", "option of its own"),
    ("/etc/rancher/k3s/config.yaml.d/x.yaml", "option of its own"), ("/etc/rancher/k3s/./token", "option of its own")])
def test_a_file_of_somebody_else_or_of_another_option_is_refused(path: str, said: str) -> None:
    with pytest.raises(Failure, match=said):
        refusals.allowed(path, "/srv/k3s")
    assert refusals.allowed("/srv/k3s/server/x/../psa.yaml", "/srv/k3s") == "/srv/k3s/server/psa.yaml"


def test_a_stage_is_timed_by_the_clock_that_is_given_also_when_it_fails() -> None:
    moments = iter([1.0, 3.5, 10.0, 14.0])
    outcome = Outcome()
    with pytest.raises(Failure), outcome.timed("wait", lambda: next(moments)):
        raise Failure("no")
    with outcome.timed("wait", lambda: next(moments)):
        pass
    assert outcome.seconds == {"wait": 6.5}
