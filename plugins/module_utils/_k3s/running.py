# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s started, restarted, waited for, and put back to the program of before: what changes nothing but whether and which k3s runs."""

from __future__ import annotations

import contextlib
import math
import subprocess

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, binary, configuration, unfinished
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import EtcdFailure, admit
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import (
    Health, Wait, has_embedded_etcd, node_name, wait_for_first_server, wait_until_up)
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import State
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Outcome, Spec


def next_step(state: State, restart_needed: bool, spec: Spec) -> str:
    """What is done with the service: start, restart, wait until it is up, or nothing."""
    if not state.runs and not state.starts:
        return "start" if spec.start else ""
    return "restart" if restart_needed and spec.restart else "wait"


class Running:
    """k3s as it runs on this host."""

    def __init__(self, spec: Spec, host: Host, outcome: Outcome) -> None:
        self.spec, self.host, self.outcome = spec, host, outcome
        self.service = host.service(spec.role)
        self.started_at = 0.0  # when this call started k3s
        without_kubelet = configuration.is_true(spec.configured.get("disable-agent"))
        self.health = Health(spec.role, spec.data_dir, node_name(spec.configured), not without_kubelet,
                             bool(spec.configured.get("datastore-endpoint")), configuration.port(spec.configured))

    def run(self) -> None:
        spec, outcome = self.spec, self.outcome
        step = next_step(self.service.state(), bool(outcome.restart_needed), spec)
        if step == "start":
            outcome.started = True
            outcome.changes.append(f"{self.service.name}.service is started")
        elif step == "restart":
            outcome.restarted = True
            outcome.changes.append(f"{self.service.name}.service is restarted")
        if spec.check_mode:
            outcome.restart_needed = [] if step == "restart" else outcome.restart_needed
            return
        if step == "start":
            with outcome.timed("start", self.host.monotonic):
                joins = spec.configured.get("server")
                if joins and not self.host.has_cluster(spec.role, spec.data_dir):
                    wait_for_first_server(str(joins), self.patience)
                unfinished.clear_pending()
                self._begin("start")
        elif step == "restart":
            with outcome.timed("restart", self.host.monotonic):
                self.restart()
            outcome.restart_needed = []
            return
        if spec.wait and step:
            self.wait_until_up()

    @property
    def patience(self) -> Wait:
        told = self.spec.progress
        return Wait(self.spec.wait_timeout, float(told.get("patience") or math.inf), float(told.get("spent") or 0), float(told.get("since") or 0),
                    int(told.get("restarts", -1)))

    def _begin(self, verb: str) -> None:
        self.started_at = self.host.now()
        self.service.begin(verb)

    def wait_until_up(self) -> None:
        with self.outcome.timed("wait", self.host.monotonic):
            wait_until_up(self.health, self.service, self.patience)
        # Not before: each of this server's own writes would wait for a second voter that only starts.
        if self.spec.voters and has_embedded_etcd(self.spec.data_dir):
            with self.outcome.timed("admit", self.host.monotonic):
                admit(self.host.etcd(self.spec.data_dir), self.spec.voters, self.host.sleep, self.host.monotonic)

    def restart(self) -> None:
        """One server at a time is the caller's; that this one may go is asked here, whoever calls."""
        spec = self.spec
        if self.service.state().runs:
            self.may_stop()
        self.health.remember()
        if spec.rotate_certificates:
            self.service.stop()
            self._rotate_certificates()
        self._begin("restart")
        unfinished.clear_pending()
        if spec.wait:
            self.host.sleep(1)  # until systemd has taken the old process down, which would answer as if it were the new one
            wait_until_up(self.health, self.service, self.patience)

    def may_stop(self) -> None:
        """etcd can spare this server, or another one's API answers; and it does not lead any more."""
        objection = self.patience.ask(self.health.objection_to_stop)
        if objection:
            raise Failure(f"k3s is not stopped: {objection}", self.health.name, "Mend the other servers first. Nothing was restarted.")
        self._hand_over_leadership()

    def _hand_over_leadership(self) -> None:
        """Before the leader stops; otherwise the others notice its absence only after an election time-out, without writes meanwhile."""
        if not has_embedded_etcd(self.spec.data_dir) or self.spec.role != "server":
            return
        with contextlib.suppress(EtcdFailure):  # then they elect one, a few seconds later
            etcd = self.host.etcd(self.spec.data_dir)
            view = etcd.view()
            other = view.best_leader()
            if view.leader and view.leader == view.own and other:
                etcd.move_leader(other)

    def _rotate_certificates(self) -> None:
        done = subprocess.run([BINARY, "certificate", "rotate", "--data-dir", self.spec.data_dir], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        if done.returncode:
            self.service.begin("start")
            raise Failure(f"`k3s certificate rotate`: {done.stdout.strip()[-400:]}", hint="k3s is started again with the certificates it had.")

    def previous_differs(self) -> bool:
        previous = self.host.sha256_of(binary.PREVIOUS)
        return bool(previous) and previous != self.host.sha256_of(BINARY)

    def roll_back(self, failure: Failure) -> Failure:
        """The previous program, restarted; answers with what to tell."""
        was = self.host.version_of(binary.PREVIOUS)
        binary.install(binary.PREVIOUS, BINARY)
        unfinished.clear_upgrading()
        self.outcome.rolled_back = True
        self.health.remember()
        self.service.begin("restart")
        told = f"the new version does not come up: {failure.what}"
        details = {"rolled_back": True, "previous_version": str(was)}
        try:
            self.host.sleep(1)
            wait_until_up(self.health, self.service, Wait(self.spec.wait_timeout))
        except Failure as again:
            return Failure(f"{told}. {was} is installed again, and does not come up either: {again.what}", failure.where,
                           failure.hint, **{**details, "healthy": False})
        unfinished.clear_pending()
        return Failure(f"{told}. {was} is installed again and runs.", failure.where, failure.hint, **{**details, "healthy": True})
