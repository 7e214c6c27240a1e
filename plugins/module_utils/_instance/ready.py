# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a guest is what its user needs: ssh answers, and cloud-init has ended without errors."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Tuple

from .._errors import Failure
from .._masked_text import one_line

WAITS = ("active", "ssh", "cloud_init")
PAUSE = 2.0
# It waits in the guest, for a minute at most: each login, and each start of cloud-init, takes time from what is waited for. Without --wait,
# which does not return when a stage never ran or no datasource was found.
STATUS = (
    "n=0; while [ $n -lt 20 ] && ! [ -e /run/cloud-init/result.json ]; do sleep 3; n=$((n+1)); done; cloud-init status --format json"
)
STAGES = ("init-local", "init", "modules-config", "modules-final")


@dataclass(frozen=True)
class Login:
    """How ssh gets in."""

    user: str = ""
    port: int = 22
    key_file: str = ""
    known_hosts: str = ""

    @classmethod
    def of(cls, options: Optional[Mapping[str, Any]]) -> "Login":
        given = options or {}
        if not 1 <= int(given.get("port") or 22) <= 65535:
            raise Failure(f"ssh.port is {given['port']}", hint="It is between 1 and 65535.")
        return cls(given.get("user") or "", int(given.get("port") or 22), given.get("private_key_file") or "", given.get("known_hosts_file") or "")

    def command(self, address: str, words: str) -> List[str]:
        options = [
            "BatchMode=yes",
            "ConnectTimeout=10",
            # A guest that restarts meanwhile does not say goodbye.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "StrictHostKeyChecking=accept-new",
            *([f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else []),
        ]
        command = ["ssh", "-p", str(self.port)]
        for option in options:
            command += ["-o", option]
        if self.key_file:
            command += ["-i", self.key_file]
        return [*command, *(["-l", self.user] if self.user else []), "--", address, words]


def wait(name: str, address: Optional[str], until: str, login: Login, timeout: float, console: Callable[[], str]) -> None:
    """Returns when it is ready; the failure says what was last heard."""
    if until == "active":
        return
    if not address:
        raise Failure(f"{name} has no address by which it could be reached{console()}",
                      hint="Neither the provider nor an agent in the guest tells one. The option address says which one it is to be.")
    end = time.monotonic() + timeout
    heard = "nothing was heard of it"
    while True:
        heard = _ssh_banner(address, login.port)
        if not heard:
            break
        if time.monotonic() > end:
            raise Failure(
                f"{name}: ssh at {address}:{login.port} does not answer after {timeout:.0f} s: {heard}{console()}", hint="Run it again to resume."
            )
        time.sleep(PAUSE)
    if until != "cloud_init":
        return
    patience = 120.0
    while True:
        done, heard = cloud_init_of(login, address, min(patience, end - time.monotonic()))
        if done:
            return
        patience *= 2  # a guest that is slow to log in is given longer the next time
        if time.monotonic() > end:
            raise Failure(f"{name}: cloud-init has not ended after {timeout:.0f} s: {heard}{console()}", hint="Run it again to resume.")
        time.sleep(PAUSE)


def _ssh_banner(address: str, port: int) -> str:
    """Empty when an ssh server answers, else why not."""
    try:
        with socket.create_connection((address, port), 5) as connection:
            connection.settimeout(10)
            banner = connection.recv(256)
    except OSError as error:
        return str(error)
    return "" if banner.startswith(b"SSH-") else f"it says {banner[:40]!r}"


def cloud_init_of(login: Login, address: str, within: float) -> Tuple[bool, str]:
    """(it has ended well, else what is known). Failure when it ended badly: more waiting would not help."""
    try:
        asked = subprocess.run(
            login.command(address, STATUS),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(5.0, within),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "ssh did not return"
    if asked.returncode == 255:
        return False, asked.stderr.strip()[-300:]
    try:
        status = json.loads(asked.stdout)
    except (ValueError, RecursionError):
        status = None
    if not isinstance(status, dict):
        raise Failure(f"cloud-init on {address} does not say how it is: {one_line(asked.stderr or asked.stdout, 300)}")
    return judge(status)


def _texts(value: Any) -> List[str]:
    """What a guest lists, whatever it is."""
    return [one_line(str(one), 500) for one in (value if isinstance(value, list) else [value])] if value else []


def judge(status: Mapping[str, Any]) -> Tuple[bool, str]:
    """Of `cloud-init status --format json`: (it has ended well, else what is known); Failure when it ended with errors."""
    errors, levels = _texts(status.get("errors")), status.get("recoverable_errors")
    recoverable = [
        f"{one_line(str(level), 40)}: {text}"
        for level, texts in (levels.items() if isinstance(levels, dict) else ())
        if level not in ("INFO", "DEBUG", "DEPRECATED")
        for text in _texts(texts)
    ]
    stages = {stage: status[stage] for stage in STAGES if isinstance(status.get(stage), dict)}
    failed = [f"stage {stage}: {error}" for stage, what in stages.items() for error in _texts(what.get("errors"))]
    state, detail = (one_line(str(status.get(field) or ""), 300) for field in ("status", "detail"))
    if state == "disabled":
        raise Failure(f"cloud-init did not start: it is disabled ({detail or one_line(str(status.get('extended_status') or 'no reason given'), 300)})")
    final = stages.get("modules-final", {})
    # Ended: the status says so, and where stages are told, the last one has a finish.
    ended = state in ("done", "error", "degraded") and (not stages or final.get("finished") is not None or state == "error")
    if state == "error" or (ended and (errors or failed or recoverable)):
        raise Failure(
            "cloud-init failed: " + "; ".join(dict.fromkeys([*failed, *errors, *recoverable]))
            if errors or failed or recoverable
            else f"cloud-init failed: {detail or 'it does not say why'}"
        )
    if ended:
        return True, ""
    at = next((stage for stage, what in stages.items() if what.get("start") is not None and what.get("finished") is None), "")
    return False, f"status {state}{f', in stage {at}' if at else ''}" if state not in ("not run", "not started") else "it has not started"
