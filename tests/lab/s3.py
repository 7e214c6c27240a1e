# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real S3 server (versitygw) on a folder, for snapshots that leave their node.

    with S3Server("10.0.0.1", bucket="snapshots", tls=True) as s3:
        s3.endpoint, s3.bucket, s3.access_key, s3.secret_key, s3.region, s3.ca_file
        s3.objects()            # the keys in the bucket
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from lab import places, processes
from lab.build import Say, cached, silent
from lab.certificates import Authority
from lab.components import VERSITYGW
from lab.errors import LabError

PATIENCE = 30.0


class S3Server:
    """On one address of this machine; the port is the one asked for, or a free one."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, *, bucket: str = "snapshots", access_key: str = "nordic",
                 secret_key: str = "", region: str = "eu-north-1", tls: bool = False, domain: str = "", say: Say = silent) -> None:
        self.address, self.port, self.bucket, self.region = address, port, bucket, region
        self.access_key, self.secret_key = access_key, secret_key or secrets.token_urlsafe(24)
        self.tls, self.domain, self.say = tls, domain, say  # domain: each bucket is a host in it
        self.ca_file = ""
        self.folder = Path()
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def endpoint(self) -> str:
        """host:port, as k3s' etcd-s3-endpoint wants it."""
        return f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.endpoint}"

    def objects(self) -> List[str]:
        """The keys of what is in the bucket now."""
        root = self.folder / "buckets" / self.bucket
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and ".sgwtmp" not in path.parts)

    def path(self, key: str) -> Path:
        """The file that is this object."""
        return self.folder / "buckets" / self.bucket / key

    def stop(self) -> None:
        """The server goes away, as in an outage; what it stores stays."""
        if self._process:
            processes.end(self._process)
            self._process = None

    def start(self) -> None:
        """Start it, or start it again on the same port."""
        program = cached(VERSITYGW, "versitygw", self.say)
        attempts = 1 if self.port else 5
        for _attempt in range(attempts):
            port = self.port or places.free_port()
            log = self.folder / "server.log"
            command = [str(program), "--port", f"{self.address}:{port}", "--region", self.region, "--quiet"]
            if self.domain:
                command += ["--virtual-domain", f"{self.domain}:{port}"]
            if self.tls:
                certificate, key = Authority(self.folder / "tls").server("s3", (self.address, "localhost"))
                self.ca_file = str(self.folder / "tls" / "ca.crt")
                command += ["--cert", str(certificate), "--key", str(key)]
            # The keys in the environment: everybody can read a command line.
            self._process = processes.spawn([*command, "posix", str(self.folder / "buckets")], log, env=self._env())
            if self._answers(port):
                self.port = port
                return
            words = processes.last_lines(log)
            self.stop()
            if "in use" not in words:
                break
        raise LabError(f"versitygw did not start on {self.address}:{port}; its last lines:\n{words}")

    def _env(self) -> Dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VGW_", "ROOT_"))}
        return {**kept, "ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}

    def _answers(self, port: int) -> bool:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process and self._process.poll() is None:
            try:
                socket.create_connection((self.address, port), 1).close()
                # If another server owns the port, ours is about to find that out.
                time.sleep(0.05)
                return self._process.poll() is None
            except OSError:
                time.sleep(0.02)
        return False

    def __enter__(self) -> "S3Server":
        self.folder = Path(tempfile.mkdtemp(prefix="nordic-s3-"))
        try:
            (self.folder / "buckets" / self.bucket).mkdir(parents=True)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
