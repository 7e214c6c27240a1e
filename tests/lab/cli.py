# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, List, Optional

from lab import build, places
from lab.components import BINARIES, MODULES
from lab.errors import LabError

# Stands for all that the lab's hosts need.
HOSTS = "hosts"


def main(arguments: Optional[List[str]] = None) -> int:
    options = _parser().parse_args(arguments)
    # Asked to end, a build ends its compiler first; the default action would not give it the time.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(options.run(options) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _interrupt(*_signal: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("build", help="build components into the cache")
    one.add_argument("components", nargs="*", metavar="COMPONENT", help=f"any of {', '.join(BINARIES)}, hosts; all by default")
    one.set_defaults(run=_build)

    one = commands.add_parser("k3s", help="print the two k3s and the images for their nodes as JSON, built where needed")
    one.set_defaults(run=_k3s)

    one = commands.add_parser("bin", help="print a folder with all the binaries, built where needed")
    one.set_defaults(run=_bin)

    one = commands.add_parser("lock", help="write go.mod and go.sum of components anew (asks the Go module proxy)")
    one.add_argument("modules", nargs="*", metavar="MODULE", help=f"any of {', '.join(m.name for m in MODULES)}; all by default")
    one.set_defaults(run=_lock)

    cluster = commands.add_parser("cluster", help="a cluster that stays until it is stopped").add_subparsers(
        required=True, metavar="COMMAND")
    for name, run, text in (("start", _start, "start it and print the path of its kubeconfig"),
                            ("stop", _stop, "end it"), ("status", _status, "say whether it runs")):
        one = cluster.add_parser(name, help=text)
        one.add_argument("--state", type=Path, default=places.default_state(), help="its folder (default: %(default)s)")
        one.set_defaults(run=run)
        if name == "status":
            one.add_argument("--json", action="store_true", help="print all of what is known of it")

    one = commands.add_parser("microservices", help="write a Git tree of microservices")
    from lab import microservices
    microservices.arguments(one)
    one.set_defaults(run=microservices.run)
    return parser


def _say(line: str) -> None:
    # Standard output is for the one path that a script takes from it.
    print(line, file=sys.stderr, flush=True)


def _build(options: argparse.Namespace) -> None:
    wanted = options.components or [*BINARIES, HOSTS]
    built = build.build([name for name in wanted if name != HOSTS], _say)
    for name, path in built.items():
        print(f"{name}: {path}", flush=True)
    if HOSTS in wanted:
        from lab import k3s
        for name, path in k3s.build_all(_say).items():
            print(f"{name}: {path}", flush=True)


def _k3s(_options: argparse.Namespace) -> None:
    from lab import images, k3s
    found = {name: binary.facts() for name, binary in k3s.binaries(_say).items()}
    print(json.dumps({**found, "images": [str(path) for path in images.tars(_say)]}, indent=2))


def _bin(_options: argparse.Namespace) -> None:
    print(build.bin_folder(tuple(BINARIES), _say))


def _lock(options: argparse.Namespace) -> None:
    from lab import lock
    lock.lock(options.modules, _say)


def _start(options: argparse.Namespace) -> None:
    from lab.cluster import AlreadyRuns, Cluster

    begin = time.monotonic()
    _say(f"Starting a cluster in {options.state}")
    try:
        cluster = Cluster.start(options.state, detached=True, say=_say)
    except AlreadyRuns as runs:
        _say(f"Not needed: {runs}.")
        cluster = Cluster.join(options.state)
    else:
        _say(f"Ready after {time.monotonic() - begin:.1f} s. Its kubeconfig:")
    print(cluster.kubeconfig)


def _stop(options: argparse.Namespace) -> None:
    from lab.cluster import stop_detached
    _say("The cluster is stopped." if stop_detached(options.state) else f"No cluster runs in {options.state}.")


def _status(options: argparse.Namespace) -> int:
    from lab.cluster import is_running
    if not is_running(options.state):
        _say(f"No cluster runs in {options.state}.")
        return 1
    info = json.loads((options.state / "cluster.json").read_text())
    print(json.dumps(info, indent=2) if options.json else info["kubeconfig"])
    return 0
