# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stopped k3s leaves on a node: containers, mounts, network interfaces, firewall rules, data. All of it found by its own mark."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, CONFIG_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import LINKS

KUBELET_DIR = "/var/lib/kubelet"
RUN_DIRS = ("/run/k3s", "/run/flannel")
NODE_DIR = "/etc/rancher/node"  # the node's password, which a new cluster does not know
CNI_DIRS = ("/var/lib/cni", "/etc/cni/net.d")
INTERFACES = re.compile(r"(cni0|flannel[.0-9v-]*|flannel-(?:wg|v6.*)|kube-ipvs0)\Z")
RULES = re.compile(r"KUBE-|CNI-|flannel", re.IGNORECASE)
# What k3s makes in its data folder. Whatever else is there belongs to somebody else, as where data-dir is a whole disk.
OWN = ("agent", "data", "server", "storage")
# By a reset: what the next start needs again, and what may be the only copy of something. Snapshots restore the cluster that ended, in
# `storage` are the volumes of its pods.
DATA = ("server/db/snapshots", "storage")
KEPT = ("agent/images", "data", *DATA)


def remove_leftovers(data_dir: str, everything: bool, check_mode: bool, precious: Iterable[str] = ()) -> List[str]:
    """Sentences about what was removed, or in check mode would be. k3s itself is stopped already.

    precious: more folders with data, which k3s' configuration names: of snapshots and of volumes.
    """
    told: List[str] = []
    link, data_dir = data_dir, os.path.realpath(data_dir)  # mounts are listed by their real paths
    data = (*(os.path.join(data_dir, name) for name in DATA), *map(os.path.realpath, precious))
    containers = _containers()
    if containers:
        told.append("containers are ended")
        if not check_mode:
            _end(containers)
    mounts = _mounts(data_dir)
    if mounts:
        told.append(f"{len(mounts)} mounts are taken down")
        if not check_mode:
            _unmount(data_dir)
    told += _network(check_mode)
    told += _remove(_folders(data_dir, everything, data), data, check_mode)
    if everything and not check_mode:
        _remove_empty(data_dir, link)
    return told


def _containers() -> Set[int]:
    """k3s' containerd-shims and all that runs below them; a shim's parent is PID 1, so its program is its mark."""
    parents: Dict[int, int] = {}
    shims: Set[int] = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stream:
                parents[int(entry)] = int(stream.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{entry}/cmdline", "rb") as stream:
                words = stream.read().split(b"\0")
        except OSError:
            continue
        if b"containerd-shim" in words[0] and any(b"k3s/containerd" in word for word in words):
            shims.add(int(entry))
    found = set(shims)
    while True:
        more = {child for child, parent in parents.items() if parent in found and child not in found}
        if not more:
            return found
        found |= more


def stop_containers(grace: float, check_mode: bool) -> List[str]:
    """As a host does that is switched off: each program in a container is asked to end, and ended when the time is over."""
    containers = _containers()
    if not containers:
        return []
    if not check_mode:
        _signal(containers - _shims(containers), signal.SIGTERM, grace)
        _end(_containers())
    return ["containers are stopped"]


def _shims(processes: Set[int]) -> Set[int]:
    """They serve until what they started has ended."""
    found = set()
    for number in processes:
        with contextlib.suppress(OSError), open(f"/proc/{number}/cmdline", "rb") as stream:
            if b"containerd-shim" in stream.read().split(b"\0")[0]:
                found.add(number)
    return found


def _end(processes: Set[int]) -> None:
    _signal(processes, signal.SIGKILL, 10)


def _signal(processes: Set[int], number: signal.Signals, within: float) -> None:
    """Sent to each, and waited for until they have ended or the time is over."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    end = time.monotonic() + within
    while time.monotonic() < end and any(os.path.exists(f"/proc/{process}/exe") for process in processes):
        time.sleep(0.1)


def _unmount(data_dir: str) -> None:
    """All of them, before any folder is removed: in a volume that is still mounted the data of pods would be deleted."""
    for _round in range(5):  # one mount may lie over another one
        left = _mounts(data_dir)
        if not left:
            return
        for place in left:
            subprocess.run(["umount", "--lazy", place], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    left = _mounts(data_dir)
    if left:
        raise Failure(f"{len(left)} mounts cannot be taken down, so no folder was removed: {', '.join(left[:3])}", "umount",
                      "A volume of a pod may be in one of them. Find out who uses it with `fuser -vm`, take it down, and run this again.")


def _mounts(data_dir: str) -> List[str]:
    """Those that k3s' containers and pods made, deepest first. Others, such as a disk for the database or for volumes, are an
    administrator's, and stay mounted."""
    below = tuple(folder + "/" for folder in (*RUN_DIRS, os.path.join(data_dir, "agent", "containerd"), KUBELET_DIR)) + ("/run/netns/cni-",)
    return sorted((place for place in _mounted() if place.startswith(below)), key=len, reverse=True)


def _mounted() -> List[str]:
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as stream:
        return [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), line.split()[1]) for line in stream]


def _network(check_mode: bool) -> List[str]:
    told: List[str] = []
    present = os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else []
    listed = _output("ip", "-o", "link", "show") or "".join(f"0: {name}:\n" for name in present)
    for name in re.findall(r"^\d+: ([^:@]+)[:@]", listed, re.MULTILINE):
        attached = re.search(rf"^\d+: {re.escape(name)}[@:].* master cni0 ", listed, re.MULTILINE)
        if INTERFACES.match(name) or attached:
            told.append(f"network interface {name} is removed")
            if not check_mode:
                _output("ip", "link", "delete", name)
    for program in ("iptables", "ip6tables"):
        rules = _output(f"{program}-save")
        kept = [line for line in rules.splitlines() if not RULES.search(line)]
        if len(kept) != len(rules.splitlines()):
            told.append(f"{program} rules of Kubernetes are removed")
            if not check_mode:
                subprocess.run([f"{program}-restore"], input="\n".join(kept) + "\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
                               check=False)
    return told


def _folders(data_dir: str, everything: bool, data: Sequence[str]) -> List[str]:
    found = [KUBELET_DIR, *RUN_DIRS, NODE_DIR, *(folder for folder in CNI_DIRS if _is_k3s(folder))]
    own = [os.path.join(data_dir, name) for name in OWN]
    if everything:
        links = [os.path.join(os.path.dirname(BINARY), name) for name in LINKS]
        scripts = [f"{os.path.dirname(BINARY)}/{name}" for name in ("k3s-killall.sh", "k3s-uninstall.sh", "k3s-agent-uninstall.sh")]
        return [*found, *own, CONFIG_DIR, BINARY, *(path for path in links if os.path.islink(path) and os.readlink(path) in ("k3s", BINARY)), *scripts]
    kept = _kept(data_dir, data)
    return found + [path for folder in own for path in _without(folder, kept)]


def _without(path: str, kept: Sequence[str]) -> List[str]:
    """All of it that is not kept, as few paths as possible."""
    if not os.path.lexists(path) or path in kept:
        return []
    if not any(one.startswith(path + "/") for one in kept):
        return [path]
    return [inner for name in sorted(os.listdir(path)) for inner in _without(os.path.join(path, name), kept)]


def _kept(data_dir: str, data: Sequence[str]) -> List[str]:
    """Also databases from before a restore, with their certificates. What is empty goes."""
    found = [path for path in (*(os.path.join(data_dir, name) for name in KEPT), *data) if _holds_something(path)]
    for folder in (os.path.join(data_dir, "server"), os.path.join(data_dir, "server", "db")):
        found += [os.path.join(folder, name) for name in os.listdir(folder) if ".before-" in name] if os.path.isdir(folder) else []
    return found


def _remove_empty(data_dir: str, link: str) -> None:
    """The data folder itself, unless somebody else has something in it."""
    if os.path.isdir(data_dir) and not os.listdir(data_dir) and not os.path.ismount(data_dir):
        os.rmdir(data_dir)
        if os.path.islink(link):
            os.unlink(link)


def _holds_something(path: str) -> bool:
    return os.path.ismount(path) or (bool(os.listdir(path)) if os.path.isdir(path) else os.path.lexists(path))


def _is_k3s(folder: str) -> bool:
    """Another container engine on the host may use CNI's usual folders; k3s keeps its own elsewhere, but for flannel's leases."""
    return folder == "/var/lib/cni" and os.path.isdir(os.path.join(folder, "networks", "cbr0"))


def _remove(paths: List[str], data: Tuple[str, ...], check_mode: bool) -> List[str]:
    told: List[str] = []
    for path in paths:
        if not os.path.lexists(path):
            continue
        mounted = os.path.ismount(path)
        if mounted and not os.listdir(path):
            continue
        told.append(f"{path} is removed" if not mounted else f"{path} is emptied")
        if check_mode:
            continue
        _empty(path, data)
    return told


def _empty(path: str, data: Tuple[str, ...]) -> None:
    """Gone, but for mount points in it, which are emptied; an administrator has put them there. What is mounted for data is left alone."""
    if os.path.ismount(path) and any(path == folder or path.startswith(folder + "/") for folder in data):
        return
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    inner = [place for place in _mounted() if place == path or place.startswith(path + "/")]
    if not inner:
        shutil.rmtree(path, onerror=_told)
        return
    for name in os.listdir(path):
        _empty(os.path.join(path, name), data)
    if not os.path.ismount(path) and not os.listdir(path):
        os.rmdir(path)


def _told(_function: Any, path: str, error: Any) -> None:
    if not isinstance(error[1], FileNotFoundError):  # it went by itself, as what a container had mounted does
        raise Failure(f"cannot be removed: {getattr(error[1], 'strerror', error[1])}", path, "Is it immutable (`lsattr`), or still in use?") from error[1]


def _output(*command: str) -> str:
    """Standard output, "" where the program is not there or complains."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
