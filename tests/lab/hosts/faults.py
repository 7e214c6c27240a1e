# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hardware faults of one host: a disk whose fsync is slow, a clock that is wrong. By a preloaded library (faults.c).

So they reach what uses the host's C library: Python, fio, date, sshd. They do not reach Go programs, which call the kernel
themselves: k3s goes on with the true clock and the true disk. Linux has no clock of day per container (time namespaces cover
the monotonic clocks alone), and where a device mapper is missing a disk cannot be delayed below the file system.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

from lab import build, places
from lab.errors import LabError

SOURCE = places.HERE / "hosts" / "faults.c"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
LIBRARY = "/usr/local/lib/lab-faults.so"
SETTINGS = "/etc/lab-faults"
PRELOAD = "/etc/ld.so.preload"


def library() -> Path:
    """The library, compiled when it is not in the cache."""
    key = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), " ".join(FLAGS).encode(), platform.machine().encode()])).hexdigest()[:16]
    file = places.cache() / "hosts" / f"faults-{key}.so"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with build.locked(file.with_suffix(".lock"), "the library of faults", build.silent):
            new = file.with_suffix(f".{os.getpid()}")
            done = subprocess.run(["gcc", *FLAGS, "-o", str(new), str(SOURCE)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise LabError(f"{SOURCE} could not be compiled:\n{done.stderr.strip()}")
            new.replace(file)
    return file


def script(fsync_ms: int, clock_seconds: int) -> str:
    """What a host's shell does, the library on its standard input in base64, so that programs started from then on have these faults, or none."""
    if not fsync_ms and not clock_seconds:
        return f"rm -f {PRELOAD} {SETTINGS}"
    # Put into place whole: a program may be starting at this moment.
    return (f"set -e; base64 -d > {LIBRARY}.new; chmod 755 {LIBRARY}.new; mv {LIBRARY}.new {LIBRARY}; "
            f"printf 'fsync_ms %d\\nclock_seconds %d\\n' {fsync_ms:d} {clock_seconds:d} > {SETTINGS}.new; mv {SETTINGS}.new {SETTINGS}; "
            f"echo {LIBRARY} > {PRELOAD}.new; mv {PRELOAD}.new {PRELOAD}")
