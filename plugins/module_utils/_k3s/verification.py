# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a snapshot beside the running cluster and read what it holds.

k3s' own `server --cluster-reset --cluster-reset-restore-path` does it, isolated from everything that runs (isolation.py): etcd really opens the
database, and k3s opens the cluster's keys in it with this server's token. What comes out is the database that a restore puts in place,
so what was verified is what will run, and the cluster stands still only while k3s restarts.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import configuration, protobuf
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.isolation import run_isolated
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import version_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import Etcd, EtcdFailure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import write_whole
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version

TIMEOUT = 300.0
BUSY = 120.0  # seconds to wait for another verification on this server
PAGE = 4096  # bbolt's; a snapshot is a database of whole pages and the SHA-256 of them
ROOM = 256 * 1024 * 1024  # what etcd writes beside the database: two segments of its log, ahead of their use
KEYS = 5000  # in one answer
ROOT = "/registry/"
# The storage names of the API server that are not the resource's own.
RENAMED = {"minions": "nodes", "services/specs": "services", "services/endpoints": "endpoints"}
CONFIG = "/etc/rancher"
# Of the configuration that a verification does without: with them k3s would join others, or write where the one that runs does.
LEFT_OUT = ("server", "datastore-endpoint", "etcd-s3", "node-ip", "log", "write-kubeconfig")


@dataclass(frozen=True)
class Content:
    """What a snapshot holds, as it was read from the etcd that was restored from it."""

    digest: str
    size: int
    revision: int
    keys: int
    objects: Dict[str, int]
    nodes: Dict[str, str]  # name: version of the kubelet
    taken: float  # the newest heartbeat of a node in it; 0 when there is none

    @property
    def version(self) -> Optional[Version]:
        """The newest one that ran in the cluster."""
        found = []
        for text in self.nodes.values():
            with contextlib.suppress(Failure):
                found.append(Version.of(text))
        return max(found) if found else None

    def result(self) -> Dict[str, Any]:
        return {**asdict(self), "version": str(self.version or ""), "taken": _moment(self.taken)}


@dataclass(frozen=True)
class Place:
    """This server's folders and its k3s."""

    data_dir: str
    binary: str
    sleep: Callable[[float], None] = time.sleep

    @property
    def server(self) -> str:
        return os.path.join(self.data_dir, "server")

    @property
    def database(self) -> str:
        return os.path.join(self.server, "db", "etcd")

    @property
    def scratch(self) -> str:
        """On the file system of the database: putting it in place is a rename then."""
        return os.path.join(self.server, "db", "nordic-scratch")

    def version(self) -> Version:
        return version_of(self.binary)

    def address(self) -> str:
        """The one that this server's etcd has: from k3s' configuration of it, else the one that leads out of the host."""
        with contextlib.suppress(OSError), open(os.path.join(self.database, "config"), encoding="utf-8") as stream:
            found = re.search(r"^advertise-client-urls: https://(\[[^\]\s]+\]|[^:\s]+):\d+", stream.read(), re.MULTILINE)
            if found and found.group(1) not in ("127.0.0.1", "[::1]"):
                return found.group(1).strip("[]")
        for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((anywhere, 9))
                return str(probe.getsockname()[0])
        return "127.0.0.1"


def digest_of(path: str) -> str:
    """The SHA-256 that the snapshot's own last 32 bytes state, after they were found to be true."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            if size <= PAGE or size % PAGE != hashlib.sha256().digest_size:
                raise Failure(f"these {size} bytes are not a complete snapshot of etcd: it was cut short, or is another file", path, "Use another one.")
            digest, left = hashlib.sha256(), size - hashlib.sha256().digest_size
            while left:
                chunk = file.read(min(1 << 20, left))
                digest.update(chunk)
                left -= len(chunk)
            stated = file.read()
    except OSError as error:
        raise Failure(f"it cannot be read: {error.strerror}", path) from error
    if stated != digest.digest():
        raise Failure("it was changed after it was saved: its SHA-256 differs", path, "Use another one.")
    return digest.hexdigest()


def verify(place: Place, snapshot: str, keep: bool = False) -> Content:
    """Restore and read it. With keep the restored database stays, for restore.put_in_place; else nothing is left."""
    refuse_log_elsewhere()
    with one_at_a_time(place):
        ours = False  # whether what is in the scratch folder is of this verification, not the kept database of an earlier one
        try:
            if _compressed(snapshot):
                _clear(place)
                ours = True
                snapshot = _unpacked(place, snapshot)
            digest = digest_of(snapshot)
            kept = staged(place, digest)
            if kept is not None and keep:
                return kept
            if not ours:
                _clear(place)
                ours = True
            content = _restored(place, snapshot, digest)
            if keep:
                write_whole(os.path.join(place.scratch, "content.json"), json.dumps(asdict(content)))
            ours = not keep
            return content
        finally:
            if ours:
                shutil.rmtree(place.scratch, ignore_errors=True)


def staged(place: Place, digest: str) -> Optional[Content]:
    """What is kept of an earlier verification of this very snapshot, and is whole."""
    try:
        with open(os.path.join(place.scratch, "content.json"), encoding="utf-8") as stream:
            content = Content(**json.load(stream))
    except (OSError, ValueError, TypeError):
        return None
    return content if content.digest == digest and os.path.isdir(os.path.join(place.scratch, "server", "db", "etcd", "member")) else None


def refuse_log_elsewhere() -> None:
    """etcd would open a restored database with the log of the live one, and write into that."""
    folder = configuration.log_of_etcd()
    if folder:
        raise Refused(f"etcd keeps its log at {folder} (wal-dir in etcd-arg), and a snapshot is restored without it", folder,
                      "Stop k3s, move that folder to server/db/etcd/member/wal in k3s' data folder, take wal-dir out of k3s_config, and run the playbook "
                      "bootstrap.")


def usable(content: Content, version: Version, max_age: Optional[float], now: float) -> None:
    """Refuse a snapshot of another minor version than the binary's, or one that is too old."""
    theirs = content.version
    if theirs is None:
        raise Refused("it contains no node with a version", content.digest[:12], "Is it a snapshot of k3s?")
    if theirs.minors_after(version):
        raise Refused(f"it is of {theirs}, and the binary here is {version}", "the snapshot",
                      f"Install a k3s of v{theirs.major}.{theirs.minor} first, restore, and upgrade then.")
    if max_age is not None and content.taken and now - content.taken > max_age:
        raise Refused(f"it is {_span(now - content.taken)} old (of {_moment(content.taken)}), the limit is {_span(max_age)}", "the snapshot",
                      "Everything written since would be lost. Choose a newer one, or a longer limit.")


# Restoring


def _restored(place: Place, snapshot: str, digest: str) -> Content:
    size = os.path.getsize(snapshot)
    free = shutil.disk_usage(os.path.dirname(place.scratch)).free
    if free < 2 * size + ROOM:
        raise Failure(f"{free >> 20} MiB are free, and restoring {size >> 20} MiB needs {(2 * size + ROOM) >> 20}", os.path.dirname(place.scratch),
                      "Make room: O(state=pruned) removes old snapshots.")
    address = place.address()
    server = _furnish(place, snapshot, address)
    # The server's own folder last: the others' sources lie in it.
    binds = {os.path.join(place.data_dir, "agent"): _folder(place, "agent"), CONFIG: _folder(place, "etc"), "/run/k3s": _folder(place, "run"),
             place.server: server}
    for target in binds:  # on a new host some are not there yet, and what is not there cannot be hidden
        os.makedirs(target, mode=0o700, exist_ok=True)
    log = os.path.join(place.server, "log")
    revision, keys, objects, nodes, taken = run_isolated(lambda: _reset_and_read(place, log), binds, address)
    return Content(digest, size, revision, keys, objects, nodes, taken)


def _furnish(place: Place, snapshot: str, address: str) -> str:
    """A server folder with what k3s asks of one that restores, and k3s' configuration without what would make it join others."""
    server = _folder(place, "server")
    for name in ("tls", "cred"):
        if os.path.isdir(os.path.join(place.server, name)):
            shutil.copytree(os.path.join(place.server, name), os.path.join(server, name))
    for name in ("token", "agent-token"):
        if os.path.exists(os.path.join(place.server, name)):
            shutil.copy2(os.path.join(place.server, name), os.path.join(server, name))
        elif os.path.exists(os.path.join(CONFIG, "k3s", name)):  # a new host; k3s restores only where it finds its own file
            shutil.copy2(os.path.join(CONFIG, "k3s", name), os.path.join(server, name))
    for name in ("agent", "run"):
        _folder(place, name)
    # k3s moves the database away before it restores, and fails where there is none.
    os.makedirs(os.path.join(server, "db", "etcd"), mode=0o700)
    target = os.path.join(server, "db", "restored.db")
    try:
        os.link(snapshot, target)
    except OSError:
        shutil.copyfile(snapshot, target)
    etc = os.path.join(_folder(place, "etc"), "k3s")
    if os.path.isdir(os.path.join(CONFIG, "k3s")):
        shutil.copytree(os.path.join(CONFIG, "k3s"), etc)
    drop_ins = os.path.join(etc, "config.yaml.d")
    os.makedirs(drop_ins, mode=0o700, exist_ok=True)
    for folder, _folders, names in os.walk(etc):
        for name in names:
            if name.endswith((".yaml", ".yml")) and name != "registries.yaml":
                _without(os.path.join(folder, name), LEFT_OUT)
    write_whole(os.path.join(drop_ins, "zz-nordic-scratch.yaml"), f'node-ip: "{address}"\n')
    return server


def _without(path: str, keys: Tuple[str, ...]) -> None:
    """Take top-level keys out of a file of k3s' configuration: it is flat, a key's list is indented or begins with a dash."""
    with open(path, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    kept: List[str] = []
    drop = False
    for line in lines:
        key = re.match(r"[\"']?([A-Za-z0-9_-]+)\+?[\"']?\s*:", line)
        if key:
            drop = key.group(1) in keys
        if not drop:
            kept.append(line)
    write_whole(path, "\n".join(kept) + "\n")


def _reset_and_read(place: Place, log: str) -> Tuple[int, int, Dict[str, int], Dict[str, str], float]:
    """Inside of the namespaces. etcd answers while k3s finishes the reset, so there is no need to start it once more, as a rule."""
    path = os.path.join(place.server, "db", "restored.db")
    found = None
    with _k3s(place, log, ["--cluster-reset", f"--cluster-reset-restore-path={path}"]) as process:
        end = time.monotonic() + TIMEOUT
        while process.poll() is None:
            if time.monotonic() > end:
                raise Failure(f"k3s did not restore it within {TIMEOUT:.0f} s: {_last_words(log)}", "the snapshot")
            if found is None:
                found = _try_to_read(place)
            place.sleep(0.2)
    os.unlink(path)
    if process.returncode:
        raise Failure(f"k3s does not restore it: {_last_words(log)}", "the snapshot", "Is the token of this server the one of the cluster it is from?")
    if found is None:  # a large one, or a slow disk
        with _k3s(place, log, ["--disable-apiserver", "--disable-controller-manager", "--disable-scheduler", "--disable-agent",
                               "--etcd-disable-snapshots"]) as process:
            end = time.monotonic() + TIMEOUT
            while found is None and process.poll() is None and time.monotonic() < end:
                found = _try_to_read(place)
                place.sleep(0.2)
    if found is None:
        raise Failure(f"the restored database cannot be opened: {_last_words(log)}", "the snapshot", "Use another one.")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place.server, "db", "reset-flag"))  # k3s' reminder to itself, which a start removes
    if not found[2].get("namespaces"):
        raise Failure(f"it opens, but contains no Kubernetes data: {found[1]} keys and no namespace", "the snapshot", "Use another one.")
    return found


@contextlib.contextmanager
def _k3s(place: Place, log: str, arguments: List[str]) -> Iterator[subprocess.Popen]:
    with open(log, "ab") as output:
        process = subprocess.Popen([place.binary, "server", *arguments, "--data-dir", place.data_dir], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output, env=clean_environment(), start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _try_to_read(place: Place) -> Optional[Tuple[int, int, Dict[str, int], Dict[str, str], float]]:
    try:
        return read(Etcd.of_node(place.data_dir))
    except EtcdFailure:
        return None  # not there yet, or not there any more


# Reading


def read(etcd: Etcd) -> Tuple[int, int, Dict[str, int], Dict[str, str], float]:
    """Revision, keys, objects by resource, nodes with their versions, and the newest heartbeat."""
    objects: Dict[str, int] = {}
    keys = revision = 0
    for revision, key, _value in _range(etcd, ROOT, keys_only=True):
        keys += 1
        resource = resource_of(key)
        if resource:
            objects[resource] = objects.get(resource, 0) + 1
    nodes = {}
    for _revision, key, value in _range(etcd, f"{ROOT}minions/"):
        with contextlib.suppress(ValueError, UnicodeDecodeError):
            nodes[key.rsplit("/", 1)[1]] = b"".join(protobuf.find(protobuf.object_of(value), 3, 7, 7)).decode()
    taken = 0.0
    for _revision, _key, value in _range(etcd, f"{ROOT}leases/kube-node-lease/"):
        with contextlib.suppress(ValueError):
            taken = max([taken, *map(float, protobuf.find(protobuf.object_of(value), 2, 4, 1))])
    return revision, keys, dict(sorted(objects.items())), nodes, taken


def resource_of(key: str) -> str:
    """A key's resource as kubectl names it: /registry/apps.example.no/widgets/ns/a is widgets.apps.example.no."""
    parts = key[len(ROOT):].split("/")
    if len(parts) < 2:
        return ""
    for size in (2, 1):
        name = "/".join(parts[:size])
        if name in RENAMED:
            return RENAMED[name]
    return f"{parts[1]}.{parts[0]}" if "." in parts[0] and len(parts) > 2 else parts[0]


def _range(etcd: Etcd, prefix: str, keys_only: bool = False) -> Iterator[Tuple[int, str, bytes]]:
    begin, end = prefix.encode(), prefix[:-1].encode() + bytes([ord(prefix[-1]) + 1])
    while True:
        answer = etcd.ask("/v3/kv/range", {"key": _b64(begin), "range_end": _b64(end), "keys_only": keys_only, "limit": str(KEYS)})
        revision, found = int(answer["header"]["revision"]), answer.get("kvs") or []
        for entry in found:
            begin = base64.b64decode(entry["key"])
            yield revision, begin.decode("utf-8", "replace"), base64.b64decode(entry.get("value") or "")
        if not answer.get("more"):
            return
        begin += b"\0"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Files


@contextlib.contextmanager
def one_at_a_time(place: Place) -> Iterator[None]:
    """One verification at a time on a server; the lock goes with the process."""
    folder = os.path.dirname(place.scratch)
    with _there(folder), _opened(folder) as lock:
        # A run that was killed may have left its module at work here for some seconds more.
        end = time.monotonic() + BUSY
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise Failure(f"another snapshot is being verified here, for more than {BUSY:.0f} s", place.scratch, "Wait for it.") from error
            place.sleep(0.5)
        yield


@contextlib.contextmanager
def _there(folder: str) -> Iterator[None]:
    """The folder, made where it is missing. What is made and still empty at the end goes: check mode leaves nothing."""
    made, above = [], folder
    while not os.path.isdir(above):
        made.append(above)
        above = os.path.dirname(above)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                os.rmdir(path)


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    """A folder can be locked itself, so no file of a lock stays behind."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _clear(place: Place) -> None:
    shutil.rmtree(place.scratch, ignore_errors=True)
    os.makedirs(place.scratch, mode=0o700)


def _compressed(path: str) -> bool:
    """By its first bytes: a database may well hold an archive, and is_zipfile() would find the end of that."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"
    return False


def _unpacked(place: Place, snapshot: str) -> str:
    """k3s keeps one file in its zip."""
    target = os.path.join(place.scratch, "unpacked")
    try:
        with zipfile.ZipFile(snapshot) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise Failure(f"the archive holds {len(names)} files, and one of k3s holds one", snapshot)
            with archive.open(names[0]) as source, open(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise Failure(f"the archive does not unpack: {error}", snapshot, "Use another one.") from error
    return target


def _folder(place: Place, name: str) -> str:
    path = os.path.join(place.scratch, name)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def clean_environment() -> Dict[str, str]:
    """Nothing of K3S_*: a token or a URL there would be stronger than the configuration."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def _last_words(log: str) -> str:
    """k3s' reason: its last fatal or error line, without its time."""
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, os.path.getsize(log) - 65536))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "it said nothing"
    for mark in ("level=fatal", "level=error", "panic", '"level":"fatal"', '"level":"panic"'):
        for line in reversed(lines):
            if mark in line:
                found = re.search(r'msg="((?:[^"\\]|\\.)*)"', line)
                return (found.group(1) if found else line)[:500]
    return (lines[-1] if lines else "it said nothing")[:500]


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def _span(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
