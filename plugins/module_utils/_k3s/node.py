# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of one node. Each looks first, refuses what is wrong before it changes anything, and changes only what differs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import platform
import re
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import (
    BINARY, CONFIG_DIR, DATA_DIR, HOME, ROLES, adoption, archive, binary, configuration, files, flags)
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import Source
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Etcd, EtcdFailure, admit
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import Change, ManagedFile
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import (
    Health, StillWaiting, Wait, has_cluster, has_embedded_etcd, node_name, wait_for_first_server, wait_until_up)
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_of, password_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.leftovers import remove_leftovers, stop_containers
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import Service
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import refuse_server_step

GRACE = 30.0  # seconds for a container to end by itself, as many as Kubernetes gives it
PENDING = os.path.join(HOME, "pending")  # why k3s must restart; it survives a run that was killed in between
UPGRADING = os.path.join(HOME, "upgrading")  # while it is there, the program that replaced the previous one has not come up yet


@dataclass(frozen=True)
class Spec:
    """What the caller wants of this node; None or empty where it says nothing."""

    role: str
    config: Mapping[str, Any] = field(default_factory=dict)
    drop_ins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    registries: Optional[Mapping[str, Any]] = None
    files: Mapping[str, Optional[str]] = field(default_factory=dict)
    token: str = ""
    agent_token: str = ""
    program: Optional[Source] = None
    images: Tuple[Source, ...] = ()
    sources_here: bool = False  # program and images name files of this node, not of the controller
    start: bool = True
    restart: bool = True
    wait: bool = True
    wait_timeout: float = 480.0
    rotate_certificates: bool = False
    progress: Mapping[str, Any] = field(default_factory=dict)  # patience, and what an earlier call of the task said of its waiting
    voters: int = 0
    keep_quorum: bool = True
    authority: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    adopt: bool = False
    check_mode: bool = False
    here: Mapping[str, str] = field(default_factory=dict)  # the configuration that this node has, where it is not this call's to decide

    @property
    def data_dir(self) -> str:
        return configuration.data_dir(self.configured)

    @property
    def configured(self) -> Dict[str, Any]:
        """As k3s reads it."""
        return {**configuration.merged(self.config, self.drop_ins), **self.here}


@dataclass
class Outcome:
    """What was done, or in check mode would be."""

    changes: List[str] = field(default_factory=list)
    diffs: List[Dict[str, str]] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)  # checksums of files that the controller must send before anything is changed
    started: bool = False
    restarted: bool = False
    restart_needed: List[str] = field(default_factory=list)
    rolled_back: bool = False
    version: str = ""
    previous_version: str = ""
    seconds: Dict[str, float] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    waiting: Dict[str, Any] = field(default_factory=dict)  # why, and what the next call has to know to wait on

    def result(self, diff: bool) -> Dict[str, Any]:
        result: Dict[str, Any] = {
            "changed": bool(self.changes), "changes": self.changes, "started": self.started, "restarted": self.restarted,
            "restart_needed": bool(self.restart_needed), "restart_reasons": self.restart_needed, "version": self.version or None,
            "previous_version": self.previous_version or None, "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }
        if self.missing:
            result["missing"] = self.missing
        if self.waiting:
            result["waiting"] = self.waiting
        if diff:
            result["diff"] = self.diffs
        return result


class Installation:
    """k3s on this host."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.service = Service(spec.role)
        self.outcome = Outcome()
        self.started_at = 0.0  # when this call started k3s
        without_kubelet = configuration.is_true(spec.configured.get("disable-agent"))
        self.health = Health(spec.role, spec.data_dir, node_name(spec.configured), not without_kubelet,
                             bool(spec.configured.get("datastore-endpoint")), configuration.port(spec.configured))

    # The states

    def present(self) -> Outcome:
        """Installed, configured and running; what differs is changed, and k3s restarted only for that."""
        self._install(upgrade=False)
        if self.outcome.missing and not self.spec.check_mode:
            return self.outcome
        self._run()
        return self.outcome

    def staged(self) -> Outcome:
        """The program is on the node, verified and not installed: what version it is says the program itself, here where it is to run."""
        path = self._program()
        if not self.outcome.missing:
            self.outcome.version = str(binary.version_of(path or BINARY))
        return self.outcome

    def upgraded(self) -> Outcome:
        """As present, with another version of the program: the previous one comes back when the new one does not come up."""
        before = binary.sha256_of(BINARY)
        if not before:
            raise Failure("k3s is not installed here, so there is nothing to upgrade", BINARY, "Use state present.")
        self._install(upgrade=True)
        if self.outcome.missing and not self.spec.check_mode:
            return self.outcome
        return self._or_rolled_back(self._run)

    def _or_rolled_back(self, step: Callable[[], None]) -> Outcome:
        try:
            step()
        except Failure as failure:
            # A program that has come up before is not what is wrong, and its database is no longer the previous one's.
            if self.spec.check_mode or not os.path.exists(UPGRADING) or not self._previous_differs():
                raise
            raise self._roll_back(failure) from failure
        if not self.spec.check_mode and self.spec.wait and not self.outcome.restart_needed and self.service.state().runs:
            _forget(UPGRADING)
        return self.outcome

    def waited_on(self, state: str) -> Outcome:
        """An earlier call of the task has done all but to wait for the end of it."""
        self.health.reported = self.spec.progress.get("reported")
        if state == "upgraded":
            return self._or_rolled_back(self._wait_until_up)
        self._wait_until_up()
        return self.outcome

    def rolled_back(self) -> Outcome:
        """The program from before the last upgrade, restarted."""
        if not binary.sha256_of(binary.PREVIOUS):
            raise Failure("no previous program is kept here", binary.PREVIOUS, "Only an upgrade leaves one.")
        if not self._previous_differs():
            return self.outcome
        self.outcome.version, self.outcome.previous_version = str(binary.version_of(binary.PREVIOUS)), str(binary.version_of(BINARY))
        self.outcome.changes.append(f"{BINARY} is replaced: {self.outcome.previous_version} becomes {self.outcome.version} again")
        self.outcome.restarted = self.outcome.rolled_back = True
        if not self.spec.check_mode:
            _set_pending([self.outcome.changes[-1]])
            binary.install(binary.PREVIOUS, BINARY)
            _forget(UPGRADING)
            with self._timed("restart"):
                self._restart()
        return self.outcome

    def restarted(self) -> Outcome:
        """Restarted with the quorum kept; nothing of the installation is changed."""
        if not self.service.state().loaded:
            raise Failure(f"there is no {self.service.name}.service on this host", hint="Use state present.")
        self.outcome.changes.append(f"{self.service.name}.service is restarted" + (" with new certificates" if self.spec.rotate_certificates else ""))
        self.outcome.restarted = True
        if not self.spec.check_mode:
            with self._timed("restart"):
                self._restart()
        return self.outcome

    def stopped(self) -> Outcome:
        """k3s and its containers are stopped; the unit stays enabled, so that the host brings them back when it boots."""
        spec, outcome, state = self.spec, self.outcome, self.service.state()
        if state.active != "inactive":
            outcome.changes.append(f"{self.service.name}.service is stopped")
            if not spec.check_mode:
                if spec.keep_quorum and state.runs:
                    self._may_stop()
                self.service.stop()
        outcome.changes += stop_containers(GRACE, spec.check_mode)
        return outcome

    def rejoined(self) -> Outcome:
        """Part of a cluster that was restored elsewhere: its configuration begins or joins as `config` says, and a token of another CA
        forgets that one. Nothing else of the configuration is touched."""
        if not self.service.state().loaded:
            raise Failure(f"there is no {self.service.name}.service on this host", hint="Use state present.")
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
            wait_for_first_server(str(joins), self._wait)
        self._run()
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
        self._take_down(everything=False)
        return self.outcome

    def absent(self) -> Outcome:
        """Nothing of k3s is left."""
        self._take_down(everything=True)
        return self.outcome

    # Installing

    def _install(self, upgrade: bool) -> None:
        spec, outcome = self.spec, self.outcome
        self._refuse_other_role()
        flags.refuse_reserved(_places(spec))
        self._refuse_contradictions()
        self._refuse_loss()
        program = self._program()
        to_come = bool(outcome.missing)
        if not program and not to_come and not os.path.exists(BINARY):
            raise Failure("k3s is not installed, and no binary is given", BINARY, "Give binary, or binary_url with checksum.")
        images = self._images()
        if outcome.missing and not spec.check_mode:
            return
        self._refuse_other_token()
        wanted = self._files()
        changes = [change for change in map(files.compare, wanted) if change]
        self._check(changes, program, upgrade)
        links = binary.missing_links(BINARY)

        reasons = [change.reason for change in changes if self._restarts(change)]
        if program or to_come:
            what = f"{BINARY} is replaced" if os.path.exists(BINARY) else f"{BINARY} is installed"
            if outcome.previous_version and outcome.version and outcome.previous_version != outcome.version:
                what += f": {outcome.previous_version} becomes {outcome.version}"
            outcome.changes.append(what)
            reasons.insert(0, what)
        outcome.changes += [change.reason for change in changes]
        outcome.changes += [f"image archive {source.name} is copied" for source, _path in images]
        outcome.changes += [f"{name} is linked to k3s" for name in links]
        outcome.diffs += [change.diff() for change in changes]
        state = self.service.state()
        if not state.enabled:
            outcome.changes.append(f"{self.service.name}.service is enabled")
        earlier = pending()
        reasons += [f"image archive {source.name} is imported when k3s starts" for source, _path in images if archive.waits_for_a_start(source.name)]
        if state.runs or state.starts:
            outcome.restart_needed = earlier + [reason for reason in reasons if reason not in earlier]
        if spec.check_mode:
            return

        with self._timed("install"):
            os.makedirs(HOME, mode=0o700, exist_ok=True)
            if outcome.restart_needed and outcome.restart_needed != earlier:
                _set_pending(outcome.restart_needed)
            if program:
                if os.path.exists(BINARY):
                    binary.keep_previous(BINARY)
                if upgrade:
                    files.write_whole(UPGRADING, f"{outcome.version}\n")
                binary.install(program, BINARY)
            for source, path in images:
                self._install_image(source, str(path), state.runs)
            for change in changes:
                change.write()
            for name in links:
                os.symlink(os.path.basename(BINARY), os.path.join(os.path.dirname(BINARY), name))
            if not state.enabled:
                self.service.enable()  # which has systemd read its units again
            elif state.needs_reload or any(change.path.startswith(self.service.path) for change in changes):
                self.service.reload()
            shutil.rmtree(binary.STAGED, ignore_errors=True)

    def _restarts(self, change: Change) -> bool:
        """Whether k3s has to be restarted for it."""
        return (change.content_differs and change.path.startswith((CONFIG_DIR, self.spec.data_dir, self.service.path))
                and not self._is_for_the_node_alone(change))

    def differences(self) -> Dict[str, List[str]]:
        """What of its files a run would change, and what of that restarts k3s."""
        changes = [change for change in map(files.compare, self._files()) if change]
        return {"changes": [change.reason for change in changes], "restarts": [change.reason for change in changes if self._restarts(change)]}

    def _is_for_the_node_alone(self, change: Change) -> bool:
        """Labels and taints: k3s reads them when it registers the node, and a restart for them would be for nothing."""
        return (change.path.endswith(".yaml") and change.before is not None and change.wanted.text is not None
                and has_cluster(self.spec.role, self.spec.data_dir) and {key.rstrip("+") for key in change.keys} <= {"node-label", "node-taint"})

    def _program(self) -> Optional[str]:
        """The path of a verified program that is to be installed, if the installed one is another."""
        source, spec = self.spec.program, self.spec
        if source is None:
            return None
        if spec.sources_here and source.path:
            path: Optional[str] = binary.on_this_node(source)
            source = Source(path=source.path, checksum=binary.sha256_of(source.path))
        installed = binary.sha256_of(BINARY)
        if installed and installed == source.checksum:
            return None
        if not (spec.sources_here and source.path):
            if spec.check_mode and source.url:
                self.outcome.missing.append(source.checksum)  # not downloaded to look at
                return None
            path = binary.fetched(source)
        if not path:
            self.outcome.missing.append(source.checksum)
            return None
        binary.refuse_other_machine(path)
        os.chmod(path, 0o755) if path.startswith(binary.STAGED) else None
        return path

    def _images(self) -> List[Tuple[Source, Optional[str]]]:
        """The image archives that are not in their place, with the path of each one's verified content, or none where it is still to be sent."""
        found: List[Tuple[Source, Optional[str]]] = []
        for source in self.spec.images:
            archive.form_of(source.name)
            here = self.spec.sources_here and source.path
            checksum = source.checksum or (binary.sha256_of(binary.on_this_node(source)) if here else "")
            if binary.sha256_of(self._image_path(source)) == checksum:
                continue
            path = binary.on_this_node(source) if here else binary.fetched(source) if not self.spec.check_mode or not source.url else None
            found.append((source, path))
            if not path:
                self.outcome.missing.append(checksum)
        return found

    def _image_path(self, source: Source) -> str:
        return os.path.join(self.spec.data_dir, "agent/images", source.name)

    def _install_image(self, source: Source, path: str, runs: bool) -> None:
        target = self._image_path(source)
        binary.install(path, target, 0o644)
        if not runs or archive.waits_for_a_start(source.name):
            return  # k3s imports what is there whenever it starts
        refusal = archive.take(target)
        if refusal:
            os.unlink(target)  # so that the next run tries again
            raise Failure(refusal, target, "Is it an archive of container images?")

    def _files(self) -> List[ManagedFile]:
        spec = self.spec
        config = dict(spec.config)
        wanted = []
        for option, name in files.TOKEN_FILES.items():
            path = os.path.join(CONFIG_DIR, name)
            value = getattr(spec, option)
            if option == "agent_token" and spec.role == "agent":
                continue
            there = files.read(path)
            if value:
                # The long form of the same token, with the CA's hash, is no other token.
                same = there is not None and password_of(there.strip()) == password_of(value) and has_cluster(spec.role, spec.data_dir)
                wanted.append(ManagedFile(path, there if same else value + "\n", secret=True))
            elif option == "agent_token" and there is not None:
                self.outcome.notes.append(f"{path} of an earlier run stays, and new agents need it: "
                                          "give it as agent_token, or remove the file from all servers")
            if value or there is not None:
                config[f"{option.replace('_', '-')}-file"] = path
        wanted.append(ManagedFile(os.path.join(CONFIG_DIR, "config.yaml"), files.to_yaml(dict(sorted(config.items())))))
        folder = os.path.join(CONFIG_DIR, "config.yaml.d")
        names = {f"{name}.yaml" for name in spec.drop_ins}
        wanted += [ManagedFile(os.path.join(folder, f"{name}.yaml"), files.to_yaml(dict(sorted(values.items())))) for name, values in spec.drop_ins.items()]
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            if name in names or not name.endswith((".yaml", ".yml")):
                continue
            if (files.read(path) or "").startswith(files.MARK):
                wanted.append(ManagedFile(path, None))
            else:
                self.outcome.notes.append(f"{path} is read by k3s too, and was not written by this module: it stays")
        path = os.path.join(CONFIG_DIR, "registries.yaml")
        if spec.registries:
            wanted.append(ManagedFile(path, files.to_yaml(spec.registries)))
        elif spec.registries is not None:
            wanted.append(ManagedFile(path, None))
        wanted += [ManagedFile(_allowed(path, spec.data_dir), text) for path, text in spec.files.items()]
        wanted.append(ManagedFile(self.service.path, files.unit(spec.role), 0o644))
        variables, drop_in = os.path.join(CONFIG_DIR, "environment"), self.service.drop_in
        if spec.environment:
            wanted.append(ManagedFile(variables, files.environment(spec.environment), secret=True))
            wanted.append(ManagedFile(drop_in, files.MARK + f"[Service]\nEnvironmentFile={variables}\n", 0o644))
        else:
            wanted += [ManagedFile(path, None) for path in (variables, drop_in) if (files.read(path) or "").startswith(files.MARK)]
        return wanted

    # What is refused

    def _refuse_other_role(self) -> None:
        for role in ROLES:
            if role != self.spec.role and os.path.exists(Service(role).path):
                raise Failure(f"this host is a k3s {role} already", Service(role).path, "Take it out of its cluster first, with state absent.")

    def _refuse_contradictions(self) -> None:
        configured = self.spec.configured
        if configured.get("datastore-endpoint") and configured.get("cluster-init"):
            raise Failure("datastore-endpoint and cluster-init are both set: the datastore is either external or embedded",
                          hint="Remove cluster-init to use the external datastore, or datastore-endpoint for embedded etcd.")
        if configured.get("server") and configured.get("cluster-init"):
            raise Failure("server and cluster-init are both set: a server either joins a cluster or begins one", hint="Only the first server has cluster-init.")
        if self.spec.role == "agent" and not configured.get("server"):
            raise Failure("an agent needs the URL of a server to join", hint="Set server in config, for example https://server1:6443.")

    def _refuse_loss(self) -> None:
        """Of arguments and variables of a unit that somebody else wrote."""
        rows = [] if self.spec.adopt else adoption.lost(configuration.adopted(), self.spec.configured, self.spec.environment)
        if rows:
            raise Failure(f"k3s was set up by something else, with what is not in the configuration: {adoption.table(rows)}", self.service.path,
                          "Put it into config (variables into environment), or set adopt to go on without it. Nothing was changed.",
                          lost=[list(row) for row in rows])

    def _refuse_other_token(self) -> None:
        """The token of a cluster is not changed by a file: its datastore is encrypted with it, and every node has it."""
        given, spec = self.spec.token, self.spec
        if re.search(r"\s", given + spec.agent_token):
            raise Failure("a token has white space in it", "token" if re.search(r"\s", given) else "agent_token", "Give the token alone, without a line break.")
        if not given:
            if spec.role == "agent" and not os.path.exists(os.path.join(CONFIG_DIR, "token")):
                raise Failure("an agent needs the cluster's token", "token", "It is in /var/lib/rancher/k3s/server/token on a server.")
            if spec.role == "server" and spec.configured.get("server") and not os.path.exists(os.path.join(CONFIG_DIR, "token")) \
                    and not has_cluster("server", spec.data_dir):
                raise Failure("a server that joins needs the cluster's token", "token", "It is in /var/lib/rancher/k3s/server/token on a server.")
            return
        # An agent takes another one, as when the servers got an agent token; whether it is theirs, they say.
        begun = spec.role == "server" and (has_cluster(spec.role, spec.data_dir) or self.service.state().active in ("active", "activating"))
        for path in (os.path.join(CONFIG_DIR, "token"), os.path.join(spec.data_dir, "server/token")):
            there = (files.read(path) or "").strip()
            if begun and there and password_of(there) != password_of(given):
                raise Failure("the token given is not the one of the cluster that this node belongs to", path,
                              "Leave the token out to keep the node's own. `k3s token rotate` on a server changes a cluster's token.")

    def _check(self, changes: List[Change], program: Optional[str], upgrade: bool) -> None:
        """What the program itself decides: its version, and the configuration keys that it takes."""
        outcome = self.outcome
        there = os.path.exists(BINARY)
        installed = binary.version_of(BINARY) if there and (program or not self.spec.start or upgrade) else None
        if program:
            new = binary.version_of(program)
            outcome.version = str(new)
            if installed:
                outcome.previous_version = str(installed)
                running = has_cluster(self.spec.role, self.spec.data_dir)
                if running and new != installed and not upgrade:
                    raise Failure(f"k3s {installed} is installed, and {new} is given", BINARY,
                                  "Use the playbook upgrade.yml (state upgraded), which keeps workloads served and rolls back.")
                refusal = refuse_server_step(installed, new) if running and new != installed else ""
                if refusal:
                    raise Failure(refusal, BINARY)
        program = program or (BINARY if there else None)
        written = any(change.path.startswith(CONFIG_DIR) and change.path.endswith(".yaml") and change.content_differs for change in changes)
        if program and (written or outcome.version):
            flags.refuse_unknown(program, self.spec.role, _places(self.spec))
        elif not program:
            outcome.notes.append("whether k3s takes these configuration keys is known when its program is on the node")

    # Running

    def _run(self) -> None:
        spec, outcome = self.spec, self.outcome
        state = self.service.state()
        if not state.runs and not state.starts:
            if not spec.start:
                return
            outcome.started = True
            outcome.changes.append(f"{self.service.name}.service is started")
            if spec.check_mode:
                return
            with self._timed("start"):
                joins = spec.configured.get("server")
                if joins and not has_cluster(spec.role, spec.data_dir):
                    wait_for_first_server(str(joins), self._wait)
                _clear_pending()
                self._begin("start")
        elif outcome.restart_needed and spec.restart:
            outcome.restarted = True
            outcome.changes.append(f"{self.service.name}.service is restarted")
            if not spec.check_mode:
                with self._timed("restart"):
                    self._restart()
            outcome.restart_needed = []
            return
        if spec.wait and not spec.check_mode:
            self._wait_until_up()

    @property
    def _wait(self) -> Wait:
        told = self.spec.progress
        return Wait(self.spec.wait_timeout, float(told.get("patience") or math.inf), float(told.get("spent") or 0), float(told.get("since") or 0),
                    int(told.get("restarts", -1)))

    def _begin(self, verb: str) -> None:
        self.started_at = time.time()
        self.service.begin(verb)

    def _wait_until_up(self) -> None:
        with self._timed("wait"):
            wait_until_up(self.health, self.service, self._wait)
        # Not before: each of this server's own writes would wait for a second voter that only starts.
        if self.spec.voters and has_embedded_etcd(self.spec.data_dir):
            with self._timed("admit"):
                admit(Etcd.of_node(self.spec.data_dir), self.spec.voters, time.sleep, time.monotonic)

    def _restart(self) -> None:
        """One server at a time is the caller's; that this one may go is asked here, whoever calls."""
        spec = self.spec
        if self.service.state().runs:
            self._may_stop()
        self.health.remember()
        if spec.rotate_certificates:
            self.service.stop()
            self._rotate_certificates()
        self._begin("restart")
        _clear_pending()
        if spec.wait:
            time.sleep(1)  # until systemd has taken the old process down, which would answer as if it were the new one
            wait_until_up(self.health, self.service, self._wait)

    def _may_stop(self) -> None:
        """etcd can spare this server, or another one's API answers; and it does not lead any more."""
        objection = self._wait.ask(self.health.objection_to_stop)
        if objection:
            raise Failure(f"k3s is not stopped: {objection}", self.health.name, "Mend the other servers first. Nothing was restarted.")
        self._hand_over_leadership()

    def _hand_over_leadership(self) -> None:
        """Before the leader stops; otherwise the others notice its absence only after an election time-out, without writes meanwhile."""
        if not has_embedded_etcd(self.spec.data_dir) or self.spec.role != "server":
            return
        with contextlib.suppress(EtcdFailure):  # then they elect one, a few seconds later
            etcd = Etcd.of_node(self.spec.data_dir)
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

    def _previous_differs(self) -> bool:
        previous = binary.sha256_of(binary.PREVIOUS)
        return bool(previous) and previous != binary.sha256_of(BINARY)

    def _roll_back(self, failure: Failure) -> Failure:
        """The previous program, restarted; answers with what to tell."""
        was = binary.version_of(binary.PREVIOUS)
        binary.install(binary.PREVIOUS, BINARY)
        _forget(UPGRADING)
        self.outcome.rolled_back = True
        self.health.remember()
        self.service.begin("restart")
        told = f"the new version does not come up: {failure.what}"
        details = {"rolled_back": True, "previous_version": str(was)}
        try:
            time.sleep(1)
            wait_until_up(self.health, self.service, Wait(self.spec.wait_timeout))
        except Failure as again:
            return Failure(f"{told}. {was} is installed again, and does not come up either: {again.what}", failure.where,
                           failure.hint, **{**details, "healthy": False})
        _clear_pending()
        return Failure(f"{told}. {was} is installed again and runs.", failure.where, failure.hint, **{**details, "healthy": True})

    # Taking down

    def _take_down(self, everything: bool) -> None:
        spec, outcome = self.spec, self.outcome
        if not everything:
            self._refuse_other_role()
        services = [Service(role) for role in ROLES] if everything else [self.service]
        for service in services:
            state = service.state()
            if state.active != "inactive":
                outcome.changes.append(f"{service.name}.service is stopped")
                if not spec.check_mode:
                    service.stop()
            if state.enabled and not everything:
                outcome.changes.append(f"{service.name}.service is disabled")  # or a reboot would begin a new cluster
                if not spec.check_mode:
                    service.disable()
            if everything and (os.path.exists(service.path) or state.enabled):
                outcome.changes.append(f"{service.path} is removed")
                if not spec.check_mode:
                    service.remove()
        outcome.changes += remove_leftovers(spec.data_dir, everything, spec.check_mode, configuration.precious(spec.configured))
        if not everything:
            self._forget_the_ca()
        if not spec.check_mode:
            _clear_pending()
            if everything:
                shutil.rmtree(HOME, ignore_errors=True)

    def _forget_the_ca(self) -> None:
        """A token's long form names the CA of the cluster that has ended; a new cluster has another one."""
        for name in files.TOKEN_FILES.values():
            path = os.path.join(CONFIG_DIR, name)
            there = (files.read(path) or "").strip()
            change = files.compare(ManagedFile(path, password_of(there) + "\n", secret=True)) if there else None
            if change:
                self.outcome.changes.append(f"{path} is kept without the ended cluster's CA")
                if not self.spec.check_mode:
                    change.write()

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.outcome.seconds[stage] = self.outcome.seconds.get(stage, 0.0) + time.monotonic() - begun


STATES: Dict[str, Callable[[Installation], Outcome]] = {
    "present": Installation.present, "staged": Installation.staged, "upgraded": Installation.upgraded, "rolled_back": Installation.rolled_back, "restarted": Installation.restarted,
    "stopped": Installation.stopped, "rejoined": Installation.rejoined, "reset": Installation.reset, "absent": Installation.absent}


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
        return STATES[state](Installation(spec))
    folder = os.path.dirname(HOME)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "k3s.lock"), "w", encoding="ascii") as lock:
        os.chmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _as_far_as_patience(state, Installation(spec))


def _as_far_as_patience(state: str, node: Installation) -> Outcome:
    """The state, or what is waited for. Where k3s was started already, the next call has nothing but to wait; else it begins anew."""
    begun, told = time.monotonic(), node.spec.progress
    try:
        return node.waited_on(state) if told.get("since") else STATES[state](node)
    except StillWaiting as waiting:
        since = node.started_at or float(told.get("since") or 0)
        node.outcome.waiting = {"why": waiting.why, "spent": round(float(told.get("spent") or 0) + time.monotonic() - begun, 1), "since": since,
                                "restarts": waiting.restarts if since else -1, "reported": node.health.reported}
        return node.outcome


def _joins_so(text: str, keys: Mapping[str, Any]) -> bool:
    """Whether a configuration file has these join keys and no others."""
    there = {key: files.plain_value(text, key) for key in files.top_level(text) if key in ("server", "cluster-init")}
    return {key: value.lower() for key, value in there.items()} == {key: str(value).lower() for key, value in keys.items()}


def _places(spec: Spec) -> Dict[str, Mapping[str, Any]]:
    """The configuration by the words of the task that set it."""
    return {"config": spec.config, **{f"drop_ins.{name}": values for name, values in spec.drop_ins.items()}}


def _allowed(path: str, data_dir: str) -> str:
    clean = os.path.normpath(path)
    if not clean.startswith((CONFIG_DIR + "/", data_dir + "/", DATA_DIR + "/")):
        raise Failure(f"{path!r} is not below {CONFIG_DIR} or {data_dir}", "files", "Other files are another task's, such as ansible.builtin.copy.")
    name = os.path.relpath(clean, CONFIG_DIR)
    if name in ("config.yaml", "registries.yaml", "token", "agent-token", "environment") or name.startswith("config.yaml.d/"):
        raise Failure(f"{path!r} is written from an option of its own", "files", "Use config, drop_ins, registries, environment, token or agent_token.")
    return clean


def pending() -> List[str]:
    """Why k3s still has to restart since an earlier run."""
    text = files.read(PENDING)
    try:
        return [str(reason) for reason in json.loads(text)] if text else []
    except ValueError:
        return ["an earlier run was interrupted"]


def _set_pending(reasons: List[str]) -> None:
    files.write_whole(PENDING, json.dumps(reasons))


def _clear_pending() -> None:
    _forget(PENDING)


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
