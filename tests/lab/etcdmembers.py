# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An etcd of several members on loopback ports, arranged as k3s arranges its own: HTTP apart from gRPC, certificates asked for.

    with EtcdMembers(3) as etcd:
        etcd.kill("two-0badcafe")
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from lab import build, places, processes
from lab.certificates import Authority
from lab.errors import LabError

NAMES = ("one-0badcafe", "two-0badcafe", "three-0badcafe", "four-0badcafe", "five-0badcafe")


@dataclass
class Running:
    """A member's ports, and its process while it runs."""

    name: str
    grpc: int
    http: int
    peer: int
    process: Optional[subprocess.Popen[bytes]] = None


class EtcdMembers:
    """Attributes: folder (with the certificates under k3s' names), members by name."""

    def __init__(self, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nordic-etcd-"))
        self.members: Dict[str, Running] = {}
        self._binary = str(build.build(["etcd"], build.silent)["etcd"])
        authority = Authority(self.folder)
        authority.peer("peer-server-client")
        authority.client("client")
        for name in ("server-ca.crt", "peer-ca.crt"):
            (self.folder / name).symlink_to("ca.crt")
        for name in NAMES[:count]:
            self.members[name] = Running(name, places.free_port(), places.free_port(), places.free_port())

    def __enter__(self) -> "EtcdMembers":
        everyone = self._cluster(self.members.values())
        for name in self.members:
            self.start(name, everyone, "new")
        for name in self.members:
            self.wait(name)
        return self

    def __exit__(self, *_error: Any) -> None:
        for member in self.members.values():
            if member.process:
                processes.end(member.process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str, cluster: str = "", state: str = "existing") -> None:
        """Start a member, for the first time or again."""
        member = self.members[name]
        grpc, http, peer = (f"{scheme}://127.0.0.1:{port}" for scheme, port in
                            (("https", member.grpc), ("https", member.http), ("https", member.peer)))
        trust = (f"--{kind}trusted-ca-file={self.folder / 'ca.crt'}" for kind in ("", "peer-"))
        pairs = (f"--{kind}{what}-file={self.folder / 'peer-server-client'}.{suffix}" for kind in ("", "peer-")
                 for what, suffix in (("cert", "crt"), ("key", "key")))
        member.process = processes.spawn([
            self._binary, f"--name={name}", f"--data-dir={self.folder / name}", "--log-level=warn", "--unsafe-no-fsync",
            f"--listen-client-urls={grpc}", f"--listen-client-http-urls={http}", f"--advertise-client-urls={grpc}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={cluster or self._cluster(self.members.values())}",
            f"--initial-cluster-state={state}", "--client-cert-auth", "--peer-client-cert-auth", *trust, *pairs], self.folder / f"{name}.log")

    def wait(self, name: str, seconds: float = 30) -> None:
        """Until its HTTP port is open."""
        member, end = self.members[name], time.monotonic() + seconds
        while not _listens(member.http):
            assert member.process
            if member.process.poll() is not None or time.monotonic() > end:
                raise LabError(f"etcd member {name} did not start; its last lines:\n{processes.last_lines(self.folder / f'{name}.log')}")
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """As a machine that loses its power."""
        process = self.members[name].process
        assert process
        processes.end(process)

    def freeze(self, name: str) -> None:
        """As a machine that hangs: connections stay open and nothing answers."""
        process = self.members[name].process
        assert process
        os.kill(process.pid, signal.SIGSTOP)

    def add_learner(self, name: str) -> None:
        """Tell the others about one that has not started, as k3s does when a server joins."""
        member = self.members[name] = Running(name, places.free_port(), places.free_port(), places.free_port())
        first = next(iter(self.members.values()))
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        body = json.dumps({"peerURLs": [f"https://127.0.0.1:{member.peer}"], "isLearner": True}).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{first.http}/v3/cluster/member/add", body, {"Content-Type": "application/json"})
        end = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(request, timeout=10, context=context).close()
                return
            except urllib.error.HTTPError:  # for five seconds after a start etcd takes no new member
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _cluster(self, members: Any) -> str:
        listed: List[str] = [f"{member.name}=https://127.0.0.1:{member.peer}" for member in members]
        return ",".join(listed)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
