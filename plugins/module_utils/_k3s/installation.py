# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed on a node: program, images, files and the unit. It looks, refuses what is wrong, and writes what differs."""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import (
    BINARY, CONFIG_DIR, HOME, ROLES, adoption, archive, binary, configuration, files, flags, refusals, unfinished)
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import Source
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import Change, ManagedFile
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import password_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import Service
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Outcome, Spec


class Installation:
    """k3s as it lies on this host."""

    def __init__(self, spec: Spec, host: Host, outcome: Outcome) -> None:
        self.spec, self.host, self.outcome = spec, host, outcome
        self.service = host.service(spec.role)

    def install(self, upgrade: bool) -> None:
        spec, outcome = self.spec, self.outcome
        refuse_other_role(spec.role)
        flags.refuse_reserved(_places(spec))
        refusals.contradictions(spec.role, spec.configured)
        self._refuse_loss()
        program = self.program()
        to_come = bool(outcome.missing)
        if not program and not to_come and not os.path.exists(BINARY):
            raise Failure("k3s is not installed, and no O(binary) is given", BINARY, "Give O(binary), or O(binary_url) with O(checksum).")
        images = self._images()
        if outcome.missing and not spec.check_mode:
            return
        self._refuse_other_token()
        wanted = self.files()
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
        earlier = unfinished.pending()
        reasons += [f"image archive {source.name} is imported when k3s starts" for source, _path in images if archive.waits_for_a_start(source.name)]
        if state.runs or state.starts:
            outcome.restart_needed = earlier + [reason for reason in reasons if reason not in earlier]
        if spec.check_mode:
            return

        with self.outcome.timed("install", self.host.monotonic):
            os.makedirs(HOME, mode=0o700, exist_ok=True)
            if outcome.restart_needed and outcome.restart_needed != earlier:
                unfinished.set_pending(outcome.restart_needed)
            if program:
                if os.path.exists(BINARY):
                    binary.keep_previous(BINARY)
                if upgrade:
                    unfinished.set_upgrading(outcome.version)
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
                and not is_for_the_node_alone(change, self.host.has_cluster(self.spec.role, self.spec.data_dir)))

    def differences(self) -> Dict[str, List[str]]:
        """What of its files a run would change, and what of that restarts k3s."""
        changes = [change for change in map(files.compare, self.files()) if change]
        return {"changes": [change.reason for change in changes], "restarts": [change.reason for change in changes if self._restarts(change)]}

    def program(self) -> Optional[str]:
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

    def files(self) -> List[ManagedFile]:
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
                same = there is not None and password_of(there.strip()) == password_of(value) and self.host.has_cluster(spec.role, spec.data_dir)
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
        wanted += [ManagedFile(refusals.allowed(path, spec.data_dir), text) for path, text in spec.files.items()]
        wanted.append(ManagedFile(self.service.path, files.unit(spec.role), 0o644))
        variables, drop_in = os.path.join(CONFIG_DIR, "environment"), self.service.drop_in
        if spec.environment:
            wanted.append(ManagedFile(variables, files.environment(spec.environment), secret=True))
            wanted.append(ManagedFile(drop_in, files.MARK + f"[Service]\nEnvironmentFile={variables}\n", 0o644))
        else:
            wanted += [ManagedFile(path, None) for path in (variables, drop_in) if (files.read(path) or "").startswith(files.MARK)]
        return wanted

    def _refuse_loss(self) -> None:
        """Of arguments and variables of a unit that somebody else wrote."""
        rows = [] if self.spec.adopt else adoption.lost(configuration.adopted(), self.spec.configured, self.spec.environment)
        if rows:
            raise Failure(f"k3s was set up by something else, with what is not in the configuration: {adoption.table(rows)}", self.service.path,
                          "Put it into O(config) (variables into O(environment)), or set O(adopt) to go on without it. Nothing was changed.",
                          lost=[list(row) for row in rows])

    def _refuse_other_token(self) -> None:
        spec = self.spec
        paths = (os.path.join(CONFIG_DIR, "token"), os.path.join(spec.data_dir, "server/token"))
        tokens = {path: text.strip() for path, text in ((path, self.host.read(path)) for path in paths) if text is not None}
        part = self.host.has_cluster(spec.role, spec.data_dir)
        refusals.token(spec, tokens, part, part or self.service.state().active in ("active", "activating"))

    def _check(self, changes: List[Change], program: Optional[str], upgrade: bool) -> None:
        """What the program itself decides: its version, and the configuration keys that it takes."""
        outcome = self.outcome
        there = os.path.exists(BINARY)
        installed = self.host.version_of(BINARY) if there and (program or not self.spec.start or upgrade) else None
        if program:
            new = self.host.version_of(program)
            outcome.version = str(new)
            if installed:
                outcome.previous_version = str(installed)
            refusals.version(installed, new, self.host.has_cluster(self.spec.role, self.spec.data_dir), upgrade)
        program = program or (BINARY if there else None)
        written = any(change.path.startswith(CONFIG_DIR) and change.path.endswith(".yaml") and change.content_differs for change in changes)
        if program and (written or outcome.version):
            flags.refuse_unknown(program, self.spec.role, _places(self.spec))
        elif not program:
            outcome.notes.append("whether k3s takes these configuration keys is known when its program is on the node")


def refuse_other_role(wanted: str) -> None:
    for role in ROLES:
        if role != wanted and os.path.exists(Service(role).path):
            raise Failure(f"this host is a k3s {role} already", Service(role).path, "Take it out of its cluster first: O(state=absent).")


def is_for_the_node_alone(change: Change, registered: bool) -> bool:
    """Labels and taints: k3s reads them when it registers the node, and a restart for them would be for nothing."""
    return (change.path.endswith(".yaml") and change.before is not None and change.wanted.text is not None and registered
            and {key.rstrip("+") for key in change.keys} <= {"node-label", "node-taint"})


def _places(spec: Spec) -> Dict[str, Mapping[str, Any]]:
    """The configuration by the words of the task that set it."""
    return {"O(config)": spec.config, **{f"O(drop_ins).{name}": values for name, values in spec.drop_ins.items()}}
