# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every host boots from: a small Debian, made once into the cache and never written to again. What a host is told beyond that is in ground.py.

Hosts have no route out, so whatever a role, k3s or a test wants of the system is in here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import List

from lab import build, places, processes
from lab.errors import LabError

SUITE = "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "kmod", "procps", "ca-certificates", "openssl",
    # What k3s and its network call.
    "iptables", "nftables", "conntrack", "ipset", "socat", "ethtool", "iproute2",
    # What tests and node_preflight measure with.
    "fio", "iputils-ping",
)

# Each host gets its own of the first ones. The kernel's settings are the machine's: Debian's idea of them is not put upon it at each boot.
REMOVED = ("etc/hostname", "usr/lib/sysctl.d/*", "etc/ssh/ssh_host_*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
           "var/lib/apt/lists/*", "var/log/*.log")


def folder() -> Path:
    """Where it is, or will be: whatever changes its content changes the name."""
    recipe = json.dumps([2, SUITE, PACKAGES, REMOVED])
    return places.cache() / "hosts" / f"debian-{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def make(say: build.Say = build.silent) -> Path:
    """The folder of the finished file system, made when it is not there."""
    target = folder()
    if target.exists():
        return target
    with build.locked(target.with_name(f".{target.name}.lock"), "the hosts' file system", say):
        if target.exists():
            return target
        for left in target.parent.glob(f".{target.name}-*"):
            shutil.rmtree(left)  # by a build that was killed
        begin = time.monotonic()
        say(f"  the hosts' file system: Debian {SUITE}, by debootstrap")
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            made = Path(scratch) / "root"
            _debootstrap(made, say)
            _strip(made)
            made.chmod(0o755)
            made.rename(target)
        say(f"  the hosts' file system: made in {time.monotonic() - begin:.0f} s")
    return target


def _debootstrap(target: Path, say: build.Say) -> None:
    packages = places.cache() / "hosts" / "packages"
    packages.mkdir(exist_ok=True)
    # In namespaces of its own: what it mounts and starts ends with it, even when it is killed.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc",
               "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--cache-dir={packages}", SUITE, str(target)]
    begin = told = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True, preexec_fn=processes.dying_with_us())
    words: List[str] = []
    reader = threading.Thread(target=lambda: words.extend(line.rstrip() for line in process.stdout or ()), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            time.sleep(0.1)
            now = time.monotonic()
            if now - told >= build.HEARTBEAT:
                told = now
                say(f"  the hosts' file system: {now - begin:.0f} s, {words[-1] if words else 'starting'}")
    finally:
        processes.end(process)
        reader.join(5)
    if process.returncode:
        log = target / "debootstrap" / "debootstrap.log"
        raise LabError(f"debootstrap ended with {process.returncode}; its last lines:\n" + "\n".join(words[-10:])
                       + (f"\nand of its log:\n{processes.last_lines(log, 10)}" if log.exists() else ""))


def _strip(root: Path) -> None:
    for pattern in REMOVED:
        for left in root.glob(pattern):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
    # Empty, not absent: then the host's first boot writes one of its own.
    (root / "etc" / "machine-id").write_text("")
    (root / "var" / "lib" / "dbus" / "machine-id").unlink(missing_ok=True)
