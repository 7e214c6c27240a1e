# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several servers of OpenStack that share their imports, with the Python of OpenStack's own environment.

    python launch.py PROGRAMS.json

Each program is {"log": file, "argv": […], "env": {…}} and either "wsgi" (a module with an `application`) and "port", or "main" (MODULE:FUNCTION).
What they import first, in common, is imported once and forked: three nova-compute cost the start of one. The first that ends ends all.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List, NoReturn

PR_SET_PDEATHSIG = 1


def serve(program: Dict[str, Any]) -> None:
    os.environ.update(program["env"])
    sys.argv[:] = program["argv"]
    if "main" in program:
        module, function = program["main"].split(":")
        getattr(importlib.import_module(module), function)()
        return
    import waitress

    application = importlib.import_module(program["wsgi"]).application
    waitress.serve(application, host="127.0.0.1", port=program["port"], threads=10, ident=None)


def child(program: Dict[str, Any], parent: int) -> NoReturn:
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            log = os.open(program["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            serve(program)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def main(file: str) -> int:
    order = json.loads(Path(file).read_text())
    os.environ.update(order["env"])
    for module in order["imports"]:
        importlib.import_module(module)
    parent = os.getpid()
    children: List[int] = []
    for program in order["programs"]:
        process = os.fork()
        if not process:
            child(program, parent)
        children.append(process)
    ended, _status = os.wait()
    log = Path(order["programs"][children.index(ended)]["log"])
    print("%s ended by itself:" % log.name, *log.read_text(errors="replace").splitlines()[-12:], sep="\n", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
