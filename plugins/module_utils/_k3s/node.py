# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of one node. Each looks first, refuses what is wrong before it changes anything, and changes only what differs.

    installation.py   what lies on the node (refusals.py: what is wrong with it, by values alone)
    running.py        whether and which k3s runs
    taking_down.py    the end of it
"""

from __future__ import annotations

import fcntl
import os
import platform
import stat
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, CONFIG_DIR, HOME, configuration, files, unfinished
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import ManagedFile
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import StillWaiting, wait_for_first_server
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_of, password_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.installation import Installation
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.leftovers import stop_containers
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.running import Running
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Outcome, Spec
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.taking_down import take_down

GRACE = 30.0  # seconds for a container to end by itself, as many as Kubernetes gives it


class K3s:
    """k3s on this host."""

    def __init__(self, spec: Spec, host: Host = Host()) -> None:
        self.spec, self.host = spec, host
        self.outcome = Outcome()
        self.service = host.service(spec.role)
        self.installation = Installation(spec, host, self.outcome)
        self.running = Running(spec, host, self.outcome)

    # The states

    def present(self) -> Outcome:
        """Installed, configured and running; what differs is changed, and k3s restarted only for that."""
        self.installation.install(upgrade=False)
        if self.outcome.missing and not self.spec.check_mode:
            return self.outcome
        self.running.run()
        return self.outcome

    def staged(self) -> Outcome:
        """The program is on the node, verified and not installed: what version it is says the program itself, here where it is to run."""
        path = self.installation.program()
        if not self.outcome.missing:
            self.outcome.version = str(self.host.version_of(path or BINARY))
        return self.outcome

    def upgraded(self) -> Outcome:
        """As present, with another version of the program: the previous one comes back when the new one does not come up."""
        before = self.host.sha256_of(BINARY)
        if not before:
            raise Failure("k3s is not installed here, so there is nothing to upgrade", BINARY, "Use O(state=present).")
        self.installation.install(upgrade=True)
        if self.outcome.missing and not self.spec.check_mode:
            return self.outcome
        return self._or_rolled_back(self.running.run)

    def _or_rolled_back(self, step: Callable[[], None]) -> Outcome:
        try:
            step()
        except Failure as failure:
            # A program that has come up before is not what is wrong, and its database is no longer the previous one's.
            if self.spec.check_mode or not unfinished.is_upgrading() or not self.running.previous_differs():
                raise
            raise self.running.roll_back(failure) from failure
        if not self.spec.check_mode and self.spec.wait and not self.outcome.restart_needed and self.service.state().runs:
            unfinished.clear_upgrading()
        return self.outcome

    def waited_on(self, state: str) -> Outcome:
        """An earlier call of the task has done all but to wait for the end of it."""
        self.running.health.reported = self.spec.progress.get("reported")
        if state == "upgraded":
            return self._or_rolled_back(self.running.wait_until_up)
        self.running.wait_until_up()
        return self.outcome

    def restarted(self) -> Outcome:
        """Restarted with the quorum kept; nothing of the installation is changed."""
        if not self.service.state().loaded:
            raise Failure(f"there is no {self.service.name}.service on this host", hint="Use O(state=present).")
        self.outcome.changes.append(f"{self.service.name}.service is restarted" + (" with new certificates" if self.spec.rotate_certificates else ""))
        self.outcome.restarted = True
        if not self.spec.check_mode:
            with self.outcome.timed("restart", self.host.monotonic):
                self.running.restart()
        return self.outcome

    def stopped(self) -> Outcome:
        """k3s and its containers are stopped; the unit stays enabled, so that the host brings them back when it boots."""
        spec, outcome, state = self.spec, self.outcome, self.service.state()
        if state.active != "inactive":
            outcome.changes.append(f"{self.service.name}.service is stopped")
            if not spec.check_mode:
                if spec.keep_quorum and state.runs:
                    self.running.may_stop()
                self.service.stop()
        outcome.changes += stop_containers(GRACE, spec.check_mode)
        return outcome

    def rejoined(self) -> Outcome:
        """Part of a cluster that was restored elsewhere: its configuration begins or joins as `config` says, and a token of another CA
        forgets that one. Nothing else of the configuration is touched."""
        if not self.service.state().loaded:
            raise Failure(f"there is no {self.service.name}.service on this host", hint="Use O(state=present).")
        changes = [change for change in map(files.compare, self._join_files()) if change]
        self.outcome.changes += [change.reason for change in changes]
        self.outcome.diffs += [change.diff() for change in changes]
        if not self.spec.check_mode:
            for change in changes:
                change.write()
        if not self.service.state().enabled:
            self.outcome.changes.append(f"{self.service.name}.service is enabled")
            if not self.spec.check_mode:
                self.service.enable()
        self.outcome.restart_needed = [change.reason for change in changes] + (["the cluster was restored"] if self.spec.restart else [])
        spec, state, joins = self.spec, self.service.state(), self.spec.config.get("server")
        if joins and not spec.check_mode and (not (state.runs or state.starts) or spec.restart):
            wait_for_first_server(str(joins), self.running.patience)
        self.running.run()
        return self.outcome

    def _join_files(self) -> List[ManagedFile]:
        """The configuration files and tokens as they shall be for it."""
        found = []
        for path in configuration.paths():
            text = files.read(path)
            keys = self.spec.config if os.path.basename(path) == "config.yaml" else {}
            if text is not None and not _joins_so(text, keys):
                found.append(ManagedFile(path, configuration.with_join_keys(text, keys), stat.S_IMODE(os.stat(path).st_mode)))
        # A token's long form pins the CA.
        for name in files.TOKEN_FILES.values() if authority_of(self.spec.data_dir) != self.spec.authority else ():
            path = os.path.join(CONFIG_DIR, name)
            there = (files.read(path) or "").strip()
            if there != password_of(there):
                found.append(ManagedFile(path, password_of(there) + "\n", secret=True))
        return found

    def reset(self) -> Outcome:
        """No cluster any more: data, containers and network of k3s are gone; program, images and configuration stay."""
        take_down(self.spec, self.host, self.outcome, everything=False)
        return self.outcome

    def absent(self) -> Outcome:
        """Nothing of k3s is left."""
        take_down(self.spec, self.host, self.outcome, everything=True)
        return self.outcome


STATES: Dict[str, Callable[[K3s], Outcome]] = {
    "present": K3s.present, "staged": K3s.staged, "upgraded": K3s.upgraded, "restarted": K3s.restarted,
    "stopped": K3s.stopped, "rejoined": K3s.rejoined, "reset": K3s.reset, "absent": K3s.absent}


def ensure(state: str, spec: Spec) -> Outcome:
    """The node in this state. Two runs on one node take turns."""
    if platform.system() != "Linux":
        raise Failure(f"this host runs {platform.system()}", hint="k3s runs on Linux.")
    if os.geteuid() != 0:
        raise Failure("k3s is installed by root", hint="Add `become: true`.")
    if state not in ("present", "staged", "upgraded"):
        decided = ("server", "cluster-init") if state == "rejoined" else ()
        spec = replace(spec, here={key: value for key, value in configuration.of_this_node().items() if key not in decided})
    if spec.check_mode:
        return STATES[state](K3s(spec))
    folder = os.path.dirname(HOME)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "k3s.lock"), "w", encoding="ascii") as lock:
        os.chmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _as_far_as_patience(state, K3s(spec))


def _as_far_as_patience(state: str, node: K3s) -> Outcome:
    """The state, or what is waited for. Where k3s was started already, the next call has nothing but to wait; else it begins anew."""
    begun, told = time.monotonic(), node.spec.progress
    try:
        return node.waited_on(state) if told.get("since") else STATES[state](node)
    except StillWaiting as waiting:
        since = node.running.started_at or float(told.get("since") or 0)
        node.outcome.waiting = {"why": waiting.why, "spent": round(float(told.get("spent") or 0) + time.monotonic() - begun, 1), "since": since,
                                "restarts": waiting.restarts if since else -1, "reported": node.running.health.reported}
        return node.outcome


def _joins_so(text: str, keys: Mapping[str, Any]) -> bool:
    """Whether a configuration file has these join keys and no others."""
    there = {key: files.plain_value(text, key) for key in files.top_level(text) if key in ("server", "cluster-init")}
    return {key: value.lower() for key, value in there.items()} == {key: str(value).lower() for key, value in keys.items()}
