# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The k3s program and the image archives on a node: verified by SHA-256 before they are used, replaced whole, one previous kept."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
import urllib.error
from dataclasses import dataclass
from typing import List, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import HOME
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.selinux import relabel
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version

STAGED = os.path.join(HOME, "staged")  # what arrived from the controller and is not in its place yet, by its checksum
PREVIOUS = os.path.join(HOME, "previous")
DOWNLOAD_SECONDS = 60  # without a byte
LINKS = ("kubectl", "crictl", "ctr")
# ELF's e_machine, and what Python's platform.machine() says there.
MACHINES = {62: ("x86_64", "amd64"), 183: ("aarch64", "arm64"), 40: ("armv7l", "armv6l", "armv8l", "arm"), 22: ("s390x",), 243: ("riscv64",)}
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Source:
    """Where a file comes from: a path on this node, a URL, or the controller (then it is in STAGED once it is needed)."""

    path: str = ""
    url: str = ""
    checksum: str = ""

    @property
    def name(self) -> str:
        return os.path.basename(self.path or self.url.partition("?")[0])


def sha256_of(path: str) -> str:
    """"" where there is no such file."""
    total = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                total.update(block)
    except FileNotFoundError:
        return ""
    return total.hexdigest()


def checksum_of(text: str, name: str) -> str:
    """A SHA-256 from what a person gives: the sum alone, or the content of k3s' own sha256sum-ARCH.txt with a line for `name`."""
    text = text.strip()
    if _SHA256.fullmatch(text):
        return text.lower()
    rows = re.findall(r"^([0-9a-fA-F]{64})[ \t]+\*?(\S+)[ \t]*$", text, re.MULTILINE)
    found = {total.lower() for total, file in rows if os.path.basename(file) == name}
    if len(found) == 1:
        return found.pop()
    if not rows:
        raise Failure(f"O(checksum) is {text[:60]!r}", hint="Give a SHA-256 (64 hexadecimal digits), or the text of k3s' own sha256sum file.")
    raise Failure(f"O(checksum) has no line for {name}, but for {', '.join(sorted({file for _total, file in rows})[:8])}",
                  hint="Is this the sha256sum file of the same release and architecture?")


def fetched(source: Source, home: str = HOME) -> Optional[str]:
    """A verified file on this node with the source's content; None when the controller has not sent it yet."""
    if source.url:
        return _download(source, home)
    staged = os.path.join(home, "staged", source.checksum)
    if source.checksum and sha256_of(staged) == source.checksum:
        return staged
    return None


def on_this_node(source: Source) -> str:
    """A file that a person named on the node itself, verified."""
    total = sha256_of(source.path)
    if not total:
        raise Failure("there is no such file on this node", source.path, "Leave O(remote_src) out when the file is on the controller.")
    if source.checksum and total != source.checksum:
        raise Failure(f"has SHA-256 {total}, not {source.checksum}", source.path, "The file or the checksum is a wrong one; nothing was changed.")
    return source.path


def _download(source: Source, home: str) -> str:
    from ansible.module_utils.urls import open_url  # with all of http and TLS, for those who download only

    target = os.path.join(home, "staged", source.checksum)
    if sha256_of(target) == source.checksum:
        return target
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=".download-", dir=os.path.dirname(target))
    shown = bare_url(source.url)
    try:
        with os.fdopen(descriptor, "wb") as stream, open_url(source.url, http_agent="nordic.gitops", timeout=DOWNLOAD_SECONDS) as answer:
            shutil.copyfileobj(answer, stream, 1 << 20)
            stream.flush()
            os.fsync(stream.fileno())
        total = sha256_of(aside)
        if total != source.checksum:
            raise Failure(f"what was downloaded has SHA-256 {total}, not {source.checksum}", shown,
                          "The file or the checksum is a wrong one; nothing was changed.")
        os.rename(aside, target)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Failure(f"cannot be downloaded: {getattr(error, 'reason', error)}", shown,
                      "The node itself asks for it; use O(binary) to send it from the controller.") from error
    finally:
        if os.path.exists(aside):
            os.unlink(aside)
    return target


def text_at(url: str) -> str:
    """A small text file, such as a release's list of checksums."""
    from ansible.module_utils.urls import open_url

    shown = bare_url(url)
    try:
        with open_url(url, http_agent="nordic.gitops", timeout=DOWNLOAD_SECONDS) as answer:
            return str(answer.read(1 << 20).decode("utf-8", "replace"))
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Failure(f"cannot be downloaded: {getattr(error, 'reason', error)}", shown,
                      "The node itself asks for it. Does this release exist there? Without a way out use O(binary), from the controller.") from error


def refuse_other_machine(path: str) -> None:
    """Raises when the program is for another processor than this node's."""
    with open(path, "rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF":
        raise Failure("is not a Linux executable", path, "Give the k3s binary itself.")
    machine = struct.unpack(">H" if head[5] == 2 else "<H", head[18:20])[0]
    here = platform.machine()
    if here not in MACHINES.get(machine, ()):
        raise Failure(f"is a program for {MACHINES.get(machine, ('another machine',))[0]}, and this host is {here}", path,
                      "Give each architecture its own binary, by the variables of a group.")


def version_of(path: str) -> Version:
    """As the program says itself."""
    try:
        done = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                              timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"cannot be run: {error}", path, "Is this a k3s binary for this machine?") from error
    said = re.match(r"\S+ version (v\S+)", done.stdout)  # the first word is the file's own name
    if done.returncode or not said:
        raise Failure(f"`--version` says {(done.stdout + done.stderr).strip()[:200]!r}", path, "Is this a k3s binary for this machine?")
    return Version.of(said.group(1))


def install(source: str, target: str, mode: int = 0o755) -> None:
    """Copied aside and renamed: a running k3s goes on from the old file, and a full disk or a kill leaves the old one in place."""
    folder = os.path.dirname(target)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=".nordic-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream, open(source, "rb") as content:
            while os.sendfile(stream.fileno(), content.fileno(), None, 4 << 20):
                # Not all of it at the end: etcd's own writes would wait for it, and the API with them.
                os.fdatasync(stream.fileno())
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(aside, target)
    except OSError as error:
        os.unlink(aside)
        raise Failure(f"cannot be written: {error}", target, "What was there before is untouched.") from error
    relabel(target)


def keep_previous(target: str, home: str = HOME) -> None:
    """The program that runs now, for a rollback. A hard link where the file system allows, so that it costs nothing."""
    previous = os.path.join(home, "previous")
    os.makedirs(home, mode=0o700, exist_ok=True)
    aside = previous + ".new"
    if os.path.lexists(aside):
        os.unlink(aside)
    try:
        os.link(target, aside)
    except OSError:
        shutil.copy2(target, aside)
    os.rename(aside, previous)


def missing_links(binary: str) -> List[str]:
    """kubectl and the others beside k3s, where the name leads to nothing yet."""
    folder = os.path.dirname(binary)
    return [name for name in LINKS if not os.path.lexists(os.path.join(folder, name)) and not shutil.which(name)]
