# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: playbooks/demo.yml, and nothing left behind however it ends. `make demo-down` ends one that was kept.

The playbook would do alone. What it can't: show the progress of a first build while it runs (a task shows its output
at its end), and clean up after Ctrl-C (Ansible leaves without running an `always`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab import build, places, processes
from lab.cluster import is_running, stop_detached
from lab.errors import LabError


def kept() -> Path:
    """The folder of this checkout's demo that was kept."""
    return places.default_state("demos")


def down() -> bool:
    """End the kept demo; False when there is none."""
    found = kept().is_dir()
    _end(kept())
    return found


def main() -> int:
    signal.signal(signal.SIGTERM, _as_interrupt)
    keep = os.environ.get("DEMO_KEEP", "").lower() in ("1", "true", "yes", "on", "y", "t")
    try:
        build.bin_folder(say=lambda line: print(line, file=sys.stderr, flush=True))
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if keep and is_running(kept() / "cluster"):
        print("demo: a kept one runs already. `make cluster-shell` explores it, `make demo-down` ends it.", file=sys.stderr)
        return 1
    # Only the last part of the demo needs them.
    later = subprocess.Popen(["nice", sys.executable, "-B", "-m", "lab", "build", "helm", "sealed-secrets-controller", "argocd"], cwd=places.HERE.parent,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    folder = _empty(kept()) if keep else Path(tempfile.mkdtemp(prefix="nordic-demo-"))
    # A module that is interrupted tidies up after us, or never. Not in the folder: the playbook removes that.
    temporary = tempfile.mkdtemp(prefix="nordic-demo-modules-")
    finished = False
    try:
        code = _play(folder, temporary)
        finished = True
        return code
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    finally:
        if later.poll() is None:
            later.terminate()
            later.wait()
        if not (keep and finished):
            _end(folder)
        shutil.rmtree(temporary, ignore_errors=True)


def _empty(folder: Path) -> Path:
    _end(folder)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _play(folder: Path, temporary: str) -> int:
    checkout = places.HERE.parent.parent
    told = {
        "DEMO_FOLDER": str(folder),
        "TMPDIR": temporary,
        "ANSIBLE_STDOUT_CALLBACK": "story",
        "ANSIBLE_CALLBACK_PLUGINS": str(places.HERE / "callback"),
    }
    command = ["ansible-playbook", str(checkout / "playbooks" / "demo.yml"), *sys.argv[1:]]
    process = subprocess.Popen(command, env={**os.environ, **told}, cwd=checkout)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # by the terminal it has come already, by SIGTERM to us alone it has not
        process.wait()
        raise


def _end(folder: Path, within: float = 30.0) -> None:
    """End the cluster and remove the folder. Interrupted at the wrong moment, the cluster is only just starting."""
    stop_detached(folder / "cluster")
    end = time.monotonic() + within
    while time.monotonic() < end:
        left = processes.naming(folder)
        if not left:
            break
        for number, arguments in left.items():
            # The supervisor ends its components, in their order.
            if "lab" in arguments or "lab.supervisor" in arguments:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGTERM)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _as_interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
