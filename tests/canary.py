# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random secrets that a run is given, looked for wherever it may leave something: output, files, Git objects, command lines, the system's log."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, Iterator, List, Set, Union

PRIVATE_KEY = "PRIVATE" + " KEY-----"  # what each of them has in PEM
OTHERS = ("pytest-of-", "nordic-")  # folders of tests and of the lab below /tmp, where the cluster keeps its own Secrets
POLL = 0.02


class Canary:
    """Its values by their names. more: texts that must not be found either."""

    def __init__(self, *names: str, more: Iterable[str] = ()) -> None:
        self.values: Dict[str, str] = {name: f"{name}-{secrets.token_hex(16)}" for name in names}
        self._random: FrozenSet[bytes] = frozenset(form for value in self.values.values() for form in _forms(value))
        self._all = self._random | {form for value in more for form in _forms(value)}
        self.logged = ""  # what was told to the system's log while watched
        self.command_lines: Set[bytes] = set()

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def check(self, where: object, content: Union[str, bytes]) -> None:
        """Fail where any of them is in this content."""
        self._check(where, content, self._all)

    @staticmethod
    def _check(where: object, content: Union[str, bytes], forms: Iterable[bytes]) -> None:
        held = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        found = [form for form in forms if form in held]
        assert not found, f"{where} holds {found}"

    def check_files(self, *roots: Path, but: Iterable[Path] = ()) -> int:
        """Every file below these folders but those that the test itself has written; how many there were."""
        mine, count = set(but), 0
        for root in roots:
            for path in root.rglob("*"):
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    if path.is_file() and path not in mine:
                        self.check(path, path.read_bytes())
                        count += 1
        return count

    def check_objects(self, repository: Path) -> int:
        """Every object of a Git repository, as Git reads it; how many there were."""
        def cat(how: str) -> bytes:
            return subprocess.run(["git", "cat-file", how, "--batch-all-objects"], cwd=repository, check=True, capture_output=True).stdout

        self.check(repository, cat("--batch"))
        return len(cat("--batch-check").splitlines())

    def look(self) -> None:
        """Take note of the command lines that there are now, such as while a server answers."""
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.command_lines.add(entry.read_bytes())

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What runs meanwhile shows none of them in the process list or the system's log, and leaves none in a file of /tmp."""
        began = time.time()
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(POLL):
                self.look()

        watcher = threading.Thread(target=watch)
        watcher.start()
        told: List[str] = []
        try:
            with _system_log(told):
                yield
        finally:
            ended.set()
            watcher.join()
        self.logged = "".join(told)
        self.check("the system's log", self.logged)
        self.check("the process list", b"\n".join(self.command_lines))
        for path in Path("/tmp").iterdir():
            with contextlib.suppress(OSError):
                if path.name.startswith(OTHERS) or path.lstat().st_mtime < began:
                    continue
                for file in path.rglob("*") if path.is_dir() else [path]:
                    if file.is_file():
                        self._check(file, file.read_bytes(), self._random)  # a key there may be anybody's


def _forms(value: str) -> Iterator[bytes]:
    """As it is, quoted in a URL, and inside of anything that is base64, where it begins at one of three places."""
    yield value.encode()
    yield urllib.parse.quote(value, safe="").encode()
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + value.encode()).rstrip(b"=")
        yield coded[(shift * 8 + 5) // 6:-1]


@contextlib.contextmanager
def _system_log(told: List[str]) -> Iterator[None]:
    """The journal's words, or those that come to the socket where nothing keeps a log; one test at a time has that."""
    began = time.time()
    with open("/tmp/nordic-system-log.lock", "w", encoding="ascii") as turn, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            log.connect("/dev/log")
            somebody = True
        except OSError:
            somebody = False
        if somebody:
            yield
            told.append(subprocess.run(["journalctl", "--since", f"@{began:.0f}", "--output", "cat"], capture_output=True, text=True, check=True).stdout)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/dev/log")  # of a test that was killed
        log.bind("/dev/log")
        log.setblocking(False)
        ended = threading.Event()

        def hear() -> None:
            while True:
                last = ended.is_set()
                with contextlib.suppress(BlockingIOError):
                    while True:
                        told.append(log.recv(1 << 20).decode("utf-8", "replace") + "\n")
                if last:
                    return
                ended.wait(POLL)

        listener = threading.Thread(target=hear)
        listener.start()
        try:
            yield
        finally:
            os.unlink("/dev/log")
            ended.set()
            listener.join()
