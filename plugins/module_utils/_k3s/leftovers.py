# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stopped k3s leaves on a node: containers, mounts, network interfaces, firewall rules, data. All of it found by its own mark."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from typing import Dict, List, Set

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, CONFIG_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import LINKS

KUBELET_DIR = "/var/lib/kubelet"
RUN_DIRS = ("/run/k3s", "/run/flannel")
NODE_DIR = "/etc/rancher/node"  # the node's password, which a new cluster does not know
CNI_DIRS = ("/var/lib/cni", "/etc/cni/net.d")
INTERFACES = re.compile(r"(cni0|flannel[.0-9v-]*|flannel-(?:wg|v6.*)|kube-ipvs0)\Z")
RULES = re.compile(r"KUBE-|CNI-|flannel", re.IGNORECASE)
KEPT = ("agent/images", "data")  # by a reset: what the next start needs again, and no cluster's state


def remove_leftovers(data_dir: str, everything: bool, check_mode: bool) -> List[str]:
    """Sentences about what was removed, or in check mode would be. k3s itself is stopped already."""
    told: List[str] = []
    containers = _containers()
    if containers:
        told.append("containers are ended")
        if not check_mode:
            _end(containers)
    mounts = _mounts(data_dir)
    if mounts:
        told.append(f"{len(mounts)} mounts are taken down")
        if not check_mode:
            for place in mounts:
                subprocess.run(["umount", "--lazy", place], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    told += _network(check_mode)
    told += _remove(_folders(data_dir, everything), check_mode)
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


def _end(processes: Set[int]) -> None:
    for number in processes:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    end = time.monotonic() + 10
    while time.monotonic() < end and any(os.path.exists(f"/proc/{number}/exe") for number in processes):
        time.sleep(0.1)


def _mounts(data_dir: str) -> List[str]:
    """Below k3s' folders, deepest first; the folders themselves may be mounts of the administrator's, and stay."""
    below = tuple(folder + "/" for folder in (*RUN_DIRS, data_dir, KUBELET_DIR)) + ("/run/netns/cni-",)
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as stream:
        places = [line.split()[1].replace("\\040", " ") for line in stream]
    return sorted((place for place in places if place.startswith(below)), key=len, reverse=True)


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


def _folders(data_dir: str, everything: bool) -> List[str]:
    found = [KUBELET_DIR, *RUN_DIRS, NODE_DIR, *(folder for folder in CNI_DIRS if _is_k3s(folder))]
    if everything:
        links = [os.path.join(os.path.dirname(BINARY), name) for name in LINKS]
        scripts = [f"{os.path.dirname(BINARY)}/{name}" for name in ("k3s-killall.sh", "k3s-uninstall.sh", "k3s-agent-uninstall.sh")]
        return [*found, data_dir, CONFIG_DIR, BINARY, *(path for path in links if os.path.islink(path) and os.readlink(path) in ("k3s", BINARY)), *scripts]
    kept = {os.path.join(data_dir, name.partition("/")[0]) for name in KEPT}
    if os.path.isdir(data_dir):
        for name in sorted(os.listdir(data_dir)):
            path = os.path.join(data_dir, name)
            if path not in kept:
                found.append(path)
            elif name not in KEPT:
                found += [os.path.join(path, inner) for inner in sorted(os.listdir(path)) if f"{name}/{inner}" not in KEPT]
    return found


def _is_k3s(folder: str) -> bool:
    """Another container engine on the host may use CNI's usual folders; k3s keeps its own elsewhere, but for flannel's leases."""
    return folder == "/var/lib/cni" and os.path.isdir(os.path.join(folder, "networks", "cbr0"))


def _remove(paths: List[str], check_mode: bool) -> List[str]:
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
        if not os.path.isdir(path) or os.path.islink(path):
            os.unlink(path)
        elif mounted:
            for name in os.listdir(path):
                inner = os.path.join(path, name)
                if os.path.isdir(inner) and not os.path.islink(inner):
                    shutil.rmtree(inner, ignore_errors=True)
                else:
                    os.unlink(inner)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return told


def _output(*command: str) -> str:
    """Standard output, "" where the program is not there or complains."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
