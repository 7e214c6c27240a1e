# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real registry of container images (distribution) on a folder, and crane, which pushes to it.

    with Registry() as registry:
        registry.push("nordic.gitops/web:1", "example/web:1.4.2")    # an image of the lab; its digest
        registry.digest("example/web:1.4.2")
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Optional

from lab import images, places, processes
from lab.build import cached, silent
from lab.components import REGISTRY
from lab.errors import LabError

PATIENCE = 30.0


class Registry:
    """host: its address, which is the first part of its images' names."""

    def __init__(self) -> None:
        self.host = ""
        self.folder = Path()
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> "Registry":
        self.folder = Path(tempfile.mkdtemp(prefix="nordic-registry-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: Any) -> None:
        if self._process:
            processes.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        program, config, log = cached(REGISTRY, "registry", silent), self.folder / "config.yml", self.folder / "server.log"
        for _attempt in range(5):  # somebody may be quicker with a port
            self.host = f"127.0.0.1:{places.free_port()}"
            # JSON is YAML.
            config.write_text(json.dumps({"version": "0.1", "storage": {"filesystem": {"rootdirectory": str(self.folder / "images")}},
                                          "http": {"addr": self.host}}))
            self._process = processes.spawn([str(program), "serve", str(config)], log, {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"})
            if self._answers():
                return
            processes.end(self._process)
        raise LabError(f"the registry did not start; its last lines:\n{processes.last_lines(log)}")

    def _answers(self) -> bool:
        end = time.monotonic() + PATIENCE
        while self._process and self._process.poll() is None and time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1) as answer:
                    return bool(answer.status == 200)
            except OSError:
                time.sleep(0.05)
        return False

    def push(self, name: str, reference: str) -> str:
        """Push the image of the lab that has this name, such as nordic.gitops/web:1, as example/web:1.4.2; its digest."""
        image = next(each for each in images.IMAGES if name in each.names)
        layout = self.folder / "layout"
        with tarfile.open(images.tar(image, silent)) as tar:
            tar.extractall(layout, filter="data")
        try:
            return self._crane("push", str(layout), f"{self.host}/{reference}").rpartition("@")[2]
        finally:
            shutil.rmtree(layout)

    def digest(self, reference: str) -> str:
        """What a pull of this reference gets."""
        return self._crane("digest", f"{self.host}/{reference}")

    def _crane(self, *arguments: str) -> str:
        done = subprocess.run([str(cached(REGISTRY, "crane", silent)), *arguments, "--insecure"], capture_output=True, text=True, check=False,
                              env={"PATH": os.environ["PATH"], "HOME": str(self.folder)})
        if done.returncode:
            raise LabError(f"crane {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()
