# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the binaries that the projects release themselves, where releases.json pins their digest. What it doesn't, is built.

NORDIC_RELEASES names a mirror, where each file lies under the host and the path that it has at its project's:
MIRROR/dl.k8s.io/v1.37.2/bin/linux/amd64/kubectl. NORDIC_LAB is `download` (a binary that can't be had is an error), `build`
(nothing is taken), or not set (what can't be had is built, and a line says why).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import queue
import re
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from lab import places
from lab.components import BINARIES, COMPONENTS_FOLDER, Module
from lab.errors import LabError

PINS = COMPONENTS_FOLDER / "releases.json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ANSWER_WITHIN = 3.0  # seconds, name resolution included
STALLED_AFTER = 30.0  # seconds without a byte
CHUNK = 1 << 20
SMALL = 4 << 20  # bytes; what a project publishes about its files is smaller
Say = Callable[[str], None]


class NotToBeHad(LabError):
    """There is no official binary for this machine now: build it."""


@dataclass(frozen=True)
class Release:
    """Where a project publishes a binary; {version} is as in components.py, {number} the same without its v.

    file: host and path of the file for linux and {arch}.
    digests: host and path of what the project publishes about it: a digest alone, lines of sha256sum, or GitHub's JSON of a release.
    member: the binary's path where the file is an archive.
    storage: the hosts to which the project's own server may send for the file.
    """

    file: str
    digests: str
    member: str = ""
    storage: Tuple[str, ...] = ()

    def named(self, template: str, version: str, arch: str) -> str:
        return template.format(version=version, number=version.lstrip("v"), arch=arch)


def _kubernetes(name: str) -> Release:
    file = f"dl.k8s.io/{{version}}/bin/linux/{{arch}}/{name}"
    return Release(file, f"{file}.sha256", storage=("cdn.dl.k8s.io",))


GITHUB_STORAGE = ("objects.githubusercontent.com", "release-assets.githubusercontent.com")
RELEASES: Dict[str, Release] = {
    "etcd": Release("github.com/etcd-io/etcd/releases/download/{version}/etcd-{version}-linux-{arch}.tar.gz",
                    "github.com/etcd-io/etcd/releases/download/{version}/SHA256SUMS", "etcd-{version}-linux-{arch}/etcd", GITHUB_STORAGE),
    **{name: _kubernetes(name) for name in ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler")},
    "kwok": Release("github.com/kubernetes-sigs/kwok/releases/download/{version}/kwok-linux-{arch}",
                    "api.github.com/repos/kubernetes-sigs/kwok/releases/tags/{version}", storage=GITHUB_STORAGE),
    "helm": Release("get.helm.sh/helm-{version}-linux-{arch}.tar.gz", "get.helm.sh/helm-{version}-linux-{arch}.tar.gz.sha256sum", "linux-{arch}/helm"),
    "kubeseal": Release("github.com/bitnami-labs/sealed-secrets/releases/download/{version}/kubeseal-{number}-linux-{arch}.tar.gz",
                        "github.com/bitnami-labs/sealed-secrets/releases/download/{version}/sealed-secrets_{number}_checksums.txt",
                        "kubeseal", GITHUB_STORAGE),
}


def way() -> str:
    """NORDIC_LAB, checked."""
    chosen = os.environ.get("NORDIC_LAB", "")
    if chosen not in ("", "build", "download"):
        raise LabError(f"NORDIC_LAB is {chosen!r}; it can be build or download")
    return chosen


def official(module: Module, binary: str, say: Say) -> Optional[Path]:
    """The project's own binary, verified; None where it is to be built, with a line that says why."""
    chosen = way()
    if chosen == "build" or BINARIES.get(binary) is not module:
        return None
    try:
        return fetched(RELEASES.get(binary), module, binary, pins(), say)
    except NotToBeHad as reason:
        if chosen == "download":
            raise LabError(f"{reason} (NORDIC_LAB=download)") from None
        say(f"  {reason}, so it is built from Go modules")
        return None


def pins(file: Optional[Path] = None) -> Dict[str, Any]:
    """Binary -> version, digests by architecture, and where they were published."""
    loaded: Dict[str, Any] = json.loads((file or PINS).read_text())
    return loaded


def fetched(release: Optional[Release], module: Module, binary: str, pinned: Mapping[str, Any], say: Say) -> Path:
    """The binary in the cache, loaded if it is not there, once for all who want it."""
    from lab.build import locked

    what = f"{binary} {module.version}"
    if release is None:
        raise NotToBeHad(f"{what}: its project releases no binary")
    arch = ARCHITECTURES.get(platform.machine(), "")
    pin = pinned.get(binary, {})
    digest = pin.get("sha256", {}).get(arch, "") if pin.get("version") == module.version else ""
    if not arch:
        raise NotToBeHad(f"{what}: there is no release for {platform.machine()}")
    if not digest:
        raise NotToBeHad(f"{what}: no digest of its release for {arch} is pinned (`make digests`)")
    path = places.cache() / "kubernetes" / f"{binary}-{module.version}-{digest[:16]}" / binary
    if path.exists():
        return path
    with _disk(path.parent), locked(path.parent / f".{binary}.lock", what, say):
        if not path.exists():
            # We hold the lock, so what is aside belongs to a load that was killed.
            for left in path.parent.glob(f".{binary}-*"):
                left.unlink()
            _load(release, module.version, arch, digest, path, what, say)
    return path


def _load(release: Release, version: str, arch: str, digest: str, path: Path, what: str, say: Say) -> None:
    """Load into this file, which appears when it is whole and verified."""
    begin = time.monotonic()
    address = release.named(release.file, version, arch)
    with _aside(path) as loaded, _aside(path) as extracted:
        found = _stream(address, release.storage, loaded, what, say)
        if found != digest:
            raise NotToBeHad(f"{what}: {_url(address)} is not what was pinned and was removed: its SHA-256 is {found}, releases.json has {digest}")
        whole = loaded
        if release.member:
            _extract(loaded, release.named(release.member, version, arch), extracted, what)
            whole = extracted
        whole.chmod(0o755)
        whole.replace(path)
    say(f"  {what}: official binary from {_url(address)}, verified, {time.monotonic() - begin:.1f} s")


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A file beside this one that is gone afterwards, unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """No room, or no right to write, ends the run: what is built would need the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise LabError(f"{folder} can't be written: {error.strerror or error} (NORDIC_CACHE names another folder)") from error


def _stream(address: str, storage: Sequence[str], target: Path, what: str, say: Say) -> str:
    """Write the answer into the file; its SHA-256."""
    from lab.build import HEARTBEAT

    url, digest, done = _url(address), hashlib.sha256(), 0
    with _asked(url, storage, what) as answer, target.open("wb") as file:
        if "html" in (answer.headers.get("Content-Type") or ""):
            raise NotToBeHad(f"{what}: {url} answered with a web page instead of the file")
        length = int(answer.headers.get("Content-Length") or 0)
        told = time.monotonic()
        while True:
            try:
                chunk = answer.read(CHUNK)
            except OSError as error:
                raise NotToBeHad(f"{what}: {url} broke off after {done:,} bytes: {error}") from error
            if not chunk:
                break
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if time.monotonic() - told >= HEARTBEAT:
                told = time.monotonic()
                say(f"  {what}: {done >> 20} of {length >> 20} MB")
    if done < length:
        raise NotToBeHad(f"{what}: {url} was cut short: {done:,} of {length:,} bytes")
    return digest.hexdigest()


def _extract(archive: Path, member: str, target: Path, what: str) -> None:
    """One file of the archive; the digest was right, so that what does not fit is a row of RELEASES."""
    with tarfile.open(archive, "r:gz") as tar:
        try:
            source = tar.extractfile(member)
        except KeyError:
            source = None
        if source is None:
            raise LabError(f"{what}: its archive has no file {member}")
        with target.open("wb") as file:
            for chunk in iter(lambda: source.read(CHUNK), b""):
                file.write(chunk)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to the same host, and to where the project keeps its files."""

    def __init__(self, storage: Sequence[str]) -> None:
        self.storage = storage

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.hostname != old.hostname and not (new.scheme == "https" and new.hostname in self.storage):
            raise _Elsewhere(f"leads to another host, {new.hostname}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Elsewhere(Exception):
    pass


@contextlib.contextmanager
def _asked(url: str, storage: Sequence[str], what: str) -> Iterator[Any]:
    """The answer, where one comes in time. In a thread of its own, since looking a name up knows no limit of time."""
    opener = urllib.request.build_opener(_Redirects(storage))
    answers: "queue.Queue[Any]" = queue.Queue()

    def ask() -> None:
        try:
            answers.put(opener.open(url, timeout=STALLED_AFTER))
        except Exception as error:  # of whatever kind, it is for the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_WITHIN)
    except queue.Empty:
        raise NotToBeHad(f"{what}: {url} did not answer within {ANSWER_WITHIN:.0f} seconds") from None
    if isinstance(answer, urllib.error.HTTPError):
        reason = "the proxy asks for a password" if answer.code == 407 else f"the answer was {answer.code} {answer.reason}"
        raise NotToBeHad(f"{what}: {url}: {reason}")
    if isinstance(answer, Exception):
        raise NotToBeHad(f"{what}: {url} {'' if isinstance(answer, _Elsewhere) else 'can not be reached: '}{getattr(answer, 'reason', answer)}")
    with answer:
        yield answer


def _url(address: str) -> str:
    mirror = os.environ.get("NORDIC_RELEASES", "").rstrip("/")
    return f"{mirror}/{address}" if mirror else f"https://{address}"


def pin(say: Say) -> None:
    """Write into releases.json what the projects publish about the versions of components.py."""
    written: Dict[str, Any] = {}
    for binary, release in RELEASES.items():
        version = BINARIES[binary].version
        digests, published = {}, []
        for arch in ARCHITECTURES.values():
            name = release.named(release.file, version, arch).rpartition("/")[2]
            address = release.named(release.digests, version, arch)
            with _asked(_url(address), release.storage, f"{binary} {version}") as answer:
                text = answer.read(SMALL).decode("utf-8", "replace")
            digests[arch] = _digest_of(name, text, _url(address))
            say(f"  {binary} {version} {arch}: {digests[arch]}, published in {_url(address)}")
            if f"https://{address}" not in published:
                published.append(f"https://{address}")
        written[binary] = {"version": version, "sha256": digests, "published": published}
    PINS.write_text(json.dumps(written, indent=2) + "\n")
    say(f"  written: {PINS}")


def _digest_of(name: str, text: str, url: str) -> str:
    """The file's SHA-256 in what its project publishes."""
    found = ""
    if text.lstrip().startswith("{"):
        try:
            assets = json.loads(text).get("assets", [])
        except ValueError:
            assets = []
        found = next((str(asset.get("digest", "")) for asset in assets if asset.get("name") == name), "").removeprefix("sha256:")
    else:
        lines = [line.split() for line in text.splitlines() if line.strip()]
        found = next((words[0] for words in lines if len(words) == 2 and words[1].lstrip("*") == name), "")
        if not found and len(lines) == 1 and len(lines[0]) == 1:
            found = lines[0][0]
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise LabError(f"{url} has no SHA-256 of {name}")
    return found
