# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd's unit of k3s on this node."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

UNIT_DIR = "/etc/systemd/system"
NAMES = {"server": "k3s", "agent": "k3s-agent"}  # as everybody knows them
# What k3s says before it exits, and what it means.
MEANINGS = (
    (r"token CA hash does not match|CA hash does not match", "The token belongs to another cluster: its CA is not the one that this server has."),
    (r"401 Unauthorized|not authorized|invalid (?:bearer )?token|failed to validate token|password invalid|token is not valid",
     "The server does not accept this token: it must be the cluster's own."),
    (r"bootstrap data already found and encrypted with different token", "The datastore was made with another token: give that one."),
    (r"newer than datastore and could cause a cluster outage",
     "k3s was ended while it changed the file that it names, as by a reboot after a token was set. Move that file away on this server (`mv FILE FILE.old`): "
     "k3s writes it again from the datastore."),
    (r"Node password rejected|node password not set|duplicate hostname",
     "A node of this name is known with another password: two hosts have one name, or the host was reset or reinstalled. Remove the old one "
     "by `ansible-playbook nordic.gitops.replace -e k3s_replaced_node=NAME`."),
    (r"duplicate node name found", "etcd has a member of this node's name already: remove the lost one by the playbook replace."),
    (r"not a member of the etcd cluster|etcd cluster join failed: member .* is removed|has been removed from the (?:etcd )?cluster",
     "etcd's members have removed this server: reset it (playbook reset with k3s_hosts=NAME) and let it join again by bootstrap."),
    (r"address already in use", "Another program listens on a port that k3s needs."),
    (r"no space left on device", "The disk is full."),
    (r"inotify|too many open files", "The kernel allows too few inotify instances: raise fs.inotify.max_user_instances."),
    (r"failed to find memory cgroup", "The kernel has no memory cgroup: add cgroup_memory=1 cgroup_enable=memory to its command line."),
    (r"unknown flag|flag provided but not defined", "A part of k3s does not know one of the arguments in its configuration."),
    (r"x509: certificate has expired or is not yet valid", "A certificate is expired, or the clocks of the nodes differ."),
)
FINAL = 6  # so many of them, the first ones, are about tokens and names: no waiting mends them
BELIEVED = 4  # times that something was said before it is not taken for a moment of a start


@dataclass(frozen=True)
class State:
    """systemd's own words for the unit."""

    loaded: bool
    active: str  # active, activating, inactive, failed
    enabled: bool
    pid: int
    restarts: int
    needs_reload: bool

    @property
    def runs(self) -> bool:
        return self.active == "active"

    @property
    def starts(self) -> bool:
        return self.active in ("activating", "reloading")


class Service:
    """k3s.service or k3s-agent.service."""

    def __init__(self, role: str) -> None:
        self.name = NAMES[role]
        self.path = os.path.join(UNIT_DIR, f"{self.name}.service")
        self.drop_in = os.path.join(f"{self.path}.d", "50-nordic-environment.conf")

    def state(self) -> State:
        asked = ("LoadState", "ActiveState", "UnitFileState", "MainPID", "NRestarts", "NeedDaemonReload")
        told = dict(line.partition("=")[::2] for line in self._systemctl("show", "--property", ",".join(asked), self.name).splitlines())
        return State(told.get("LoadState") == "loaded", told.get("ActiveState", "inactive"), told.get("UnitFileState", "").startswith("enabled"),
                     int(told.get("MainPID") or 0), int(told.get("NRestarts") or 0), told.get("NeedDaemonReload") == "yes")

    def reload(self) -> None:
        self._systemctl("daemon-reload")

    def enable(self) -> None:
        self._systemctl("enable", "--quiet", self.name)

    def disable(self) -> None:
        self._systemctl("disable", "--quiet", self.name)

    def begin(self, verb: str) -> None:
        """start or restart, without waiting: how far it is, is asked of k3s, and systemd would give up where k3s tries again."""
        self._systemctl(verb, "--no-block", self.name)

    def stop(self) -> None:
        self._systemctl("stop", self.name)

    def remove(self) -> None:
        """Stopped, and no unit any more."""
        state = self.state()
        if state.active != "inactive":
            self.stop()
        if state.enabled:
            self.disable()
        # .env is the official installer's, with the token in it.
        for path in (self.path, self.path + ".env", self.drop_in):
            if os.path.exists(path):
                os.unlink(path)
        with contextlib.suppress(OSError):  # other drop-ins are somebody else's
            os.rmdir(os.path.dirname(self.drop_in))
        self.reload()
        subprocess.run(["systemctl", "reset-failed", self.name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def final_words(self, since: float) -> Tuple[List[str], str]:
        """What k3s says again and again and cannot mend itself, and what that means. It says some of it at level info."""
        for pattern, meaning in MEANINGS[:FINAL]:
            lines = [line for line in self._journal(since) if re.search(pattern, line)]
            if len(lines) >= BELIEVED:
                return [lines[-1][:400]], meaning
        return [], ""

    def last_words(self, since: float) -> Tuple[List[str], str]:
        """What k3s complained about since then, and what that means."""
        said = self._journal(since)
        lines = [line for line in said if re.search(r"level=(fatal|error)|^Error: |^E\d{4} |panic: ", line)]
        lines += [line for line in said if line not in lines and any(re.search(pattern, line) for pattern, _meaning in MEANINGS[:FINAL])]
        fatal = [line for line in lines if re.search("level=fatal|^Error: |panic: ", line)]
        chosen = (fatal or lines)[-3:]
        text = "\n".join(fatal or lines)
        meaning = next((sentence for pattern, sentence in MEANINGS if re.search(pattern, text)), "")
        return [line[:400] for line in chosen], meaning

    def _journal(self, since: float) -> List[str]:
        done = subprocess.run(["journalctl", "--unit", self.name, "--no-pager", "--output", "cat", "--since", f"@{since:.0f}", "--lines", "300"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace", check=False)
        return [line.strip() for line in done.stdout.splitlines()]

    def _systemctl(self, *arguments: str) -> str:
        for attempt in range(4):
            try:
                done = subprocess.run(["systemctl", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                      errors="replace", check=False)
            except FileNotFoundError as error:
                raise Failure("there is no systemctl", hint="These modules run k3s as a unit of systemd.") from error
            # While it reloads its units systemd may not answer for a moment.
            if not done.returncode or attempt == 3 or not re.search("Transport endpoint|Connection reset|Connection timed out|Failed to activate", done.stderr):
                break
            time.sleep(1)
        if done.returncode:
            raise Failure(f"`systemctl {' '.join(arguments)}`: {done.stderr.strip() or done.stdout.strip()}", hint="Is systemd running on this host?")
        return done.stdout
