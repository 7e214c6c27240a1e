# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`, which is `python -m bench`.

BENCH_CASES (401,5001,k3s,fsync,instances,sealing,image,argocd,gitops,first_run), BENCH_ROUNDS (5) and BENCH_K3S_ROUNDS (2) say what is run. The cases form
nine parts: reconcile (the numbers of objects), k3s, fsync, instances, sealing, image, argocd, gitops and first_run. A part is measured in one run, has tables
of its own, and says when, on what and with which versions: figures of two runs never stand in one table. A run of whole parts replaces just these in
docs/benchmarks; any other, and one in which something broke, writes a folder of its own and prints its name. It ends with 0 when everything was measured,
whatever the figures are.
BENCH_OUTPUT names the folder in both cases. BENCH_TURNS names the peers' turns to run, for work on the bench itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from lab.cluster import Cluster
from lab.errors import LabError
from workspace import collection
from workspace.places import CHECKOUT, of_this_checkout

from . import argocd, first_run, fsync, gitops, image, instances, k3s, report, sealing
from .audit import Audit
from .case import Case
from .controllers import Controllers
from .measure import Broken
from .peers import SMALL, TESTS
from .race import Race
from .server import Server
from .workload import services_in

CASES = (401, 5001)
APART = ("k3s", "fsync", "instances", "sealing", "image", "argocd", "gitops", "first_run")  # cases that are a part by themselves
ROUNDS, K3S_ROUNDS, INSTANCE_ROUNDS, GITOPS_ROUNDS = 5, 2, 2, 3
TURNS = sorted({turn.name for turn in SMALL})
PUBLISHED = CHECKOUT / "docs" / "benchmarks"


def main(arguments: Sequence[str] = ()) -> int:
    options = _options(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print("[%2d:%02d] %s" % (minutes, seconds, line), file=sys.stderr, flush=True)

    try:
        with tempfile.TemporaryDirectory(prefix="nordic-bench-") as folder:
            outcome, broken = measure(options, Path(folder), say)
    except KeyboardInterrupt:
        print("bench: interrupted, nothing was written", file=sys.stderr)
        return 130
    return publish(options, outcome, broken, say)


def publish(options: argparse.Namespace, outcome: Dict[str, Any], broken: Sequence[str], say: Any) -> int:
    """Write and show what was measured; the exit code."""
    for error in broken:
        print("bench: %s" % error, file=sys.stderr)
    if outcome:
        output = place(options, broken)
        write(dict(_kept(output) if _is_full(options) and not broken else {}, **outcome), output)
        _show(outcome, output, say)
    return 1 if broken else 0


def place(options: argparse.Namespace, broken: Sequence[str]) -> Path:
    """Where the results go."""
    return options.output or (PUBLISHED if _is_full(options) and not broken else of_this_checkout() / "bench")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    env = os.environ
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ",".join(map(str, CASES + APART))
    parser.add_argument("--cases", default=env.get("BENCH_CASES") or every, help="numbers of objects, %s (default: %%(default)s)" % ", ".join(APART))
    parser.add_argument("--rounds", default=env.get("BENCH_ROUNDS") or str(ROUNDS), help="how often each peer has its turn (default: %(default)s)")
    parser.add_argument("--k3s-rounds", default=env.get("BENCH_K3S_ROUNDS") or str(K3S_ROUNDS),
                        help="the same for k3s, where a round takes minutes (default: %(default)s)")
    parser.add_argument("--turns", default=env.get("BENCH_TURNS") or "", help="only these of %s" % ", ".join(TURNS))
    parser.add_argument(
        "--patience",
        type=float,
        default=5.0,
        help="seconds to wait at most for a quiet machine before each measurement (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=env.get("BENCH_OUTPUT") or None, help="where the results go")
    options = parser.parse_args(list(arguments))
    try:
        named = options.cases.replace(",", " ").split()
        options.apart = [each for each in APART if each in named]
        options.cases = sorted({int(each) for each in named if each not in APART})
        for case in options.cases:
            services_in(case)
        options.rounds, options.k3s_rounds = int(options.rounds), int(options.k3s_rounds)
    except ValueError as error:
        parser.error("BENCH_CASES, BENCH_ROUNDS and BENCH_K3S_ROUNDS: %s" % error)
    if not named or min(options.rounds, options.k3s_rounds) < 1:
        parser.error("there is nothing to measure: BENCH_CASES=%s, BENCH_ROUNDS=%s, BENCH_K3S_ROUNDS=%s" % (named, options.rounds, options.k3s_rounds))
    options.turns = tuple(options.turns.replace(",", " ").split())
    unknown = set(options.turns) - set(TURNS)
    if unknown:
        parser.error("BENCH_TURNS: there is no %s, only %s" % (", ".join(sorted(unknown)), ", ".join(TURNS)))
    return options


def _is_full(options: argparse.Namespace) -> bool:
    """Every part of the run is whole, so that it may stand in docs/benchmarks."""
    if options.turns or "k3s" in options.apart and options.k3s_rounds < K3S_ROUNDS:
        return False
    if {"sealing", "image", "argocd", "gitops"} & set(options.apart) and options.rounds < ROUNDS:
        return False
    return not options.cases or (tuple(options.cases) == CASES and options.rounds >= ROUNDS)


def _kept(output: Path) -> Dict[str, Any]:
    """The parts that an earlier run left there."""
    try:
        earlier = json.loads((output / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: earlier[name] for name in report.PARTS if name in earlier}


def measure(options: argparse.Namespace, folder: Path, say: Any) -> Tuple[Dict[str, Any], List[str]]:
    """Part -> what was found, and what broke: a part that breaks does not take the others' figures with it."""
    cases: Dict[str, Callable[[], Dict[str, Any]]] = {}
    if options.cases:
        cases["reconcile"] = lambda: _reconcile(options, folder, say)
    if "k3s" in options.apart:
        cases["k3s"] = lambda: _k3s(options, folder, say)
    if "fsync" in options.apart:
        cases["fsync"] = lambda: _fsync(say)
    if "instances" in options.apart:
        cases["instances"] = lambda: _instances(options, folder, say)
    if "sealing" in options.apart:
        cases["sealing"] = lambda: _sealing(options, folder, say)
    if "image" in options.apart:
        cases["image"] = lambda: _image(options, folder, say)
    if "argocd" in options.apart:
        cases["argocd"] = lambda: _argocd(options, folder, say)
    if "gitops" in options.apart:
        cases["gitops"] = lambda: _gitops(options, folder, say)
    if "first_run" in options.apart:
        cases["first_run"] = lambda: dict(first_run.measure(folder / "first_run", say), machine=report.machine(), versions=report.own_versions())
    found: Dict[str, Any] = {}
    broken: List[str] = []
    for name, part in cases.items():
        try:
            found[name] = dict(part(), when=time.strftime("%Y-%m-%d", time.gmtime()))
        except (Broken, LabError, fsync.NoFio, subprocess.TimeoutExpired) as error:
            broken.append("%s: %s" % (name, error))
            continue
        broken += ["%s: %s was not measured: %s" % (name, *item) for item in found[name].get("broken", {}).items()]
    return found, broken


def _k3s(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    return dict(k3s.measure(options.k3s_rounds, folder / "k3s", say), machine=report.machine(), versions=report.own_versions())


def _instances(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    return dict(instances.measure(min(options.rounds, INSTANCE_ROUNDS), folder / "instances", say), machine=report.machine(), versions=report.own_versions())


def _sealing(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    part = sealing.measure(options.rounds, folder / "sealing", say)
    return dict(part, machine=report.machine(), versions=dict(report.own_versions(), kubeseal=part.pop("kubeseal")))


def _image(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    part = image.measure(options.rounds, folder / "image", say)
    return dict(part, machine=report.machine(), versions=dict(report.own_versions(), **part.pop("peers")))


def _argocd(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    part = argocd.measure(options.rounds, folder / "argocd", say)
    return dict(part, machine=report.machine(), versions=dict(report.own_versions(), **part.pop("peers")))


def _gitops(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    part = gitops.measure(min(options.rounds, GITOPS_ROUNDS), folder / "gitops", say)
    return dict(part, machine=report.machine(), versions=dict(report.own_versions(), **part.pop("peers")))


def _fsync(say: Any) -> Dict[str, Any]:
    say("fsync: preflight's and fio's latency in turns, %d rounds" % fsync.ROUNDS)
    # Beside what this checkout has built, which is on a disk; the folder for temporary files may be memory.
    of_this_checkout().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fsync-", dir=of_this_checkout()) as folder:
        part = fsync.measure(Path(folder))
    return dict(part, machine=report.machine(), versions=dict(report.own_versions(), fio=part.pop("fio")))


def _reconcile(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
    say("starting a cluster")
    with Cluster.start(folder / "cluster", say=say) as cluster, Audit(cluster) as audit:
        kubeconfig = Path(cluster.kubeconfig)
        server = Server(kubeconfig, folder / "server")
        controllers = Controllers(cluster.supervisor)
        controllers.pause()
        race = Race(server, audit, controllers, kubeconfig, say, options.turns, options.patience)
        cases = [Case(objects, folder / str(objects), Path(cluster.bin), collection.linked()) for objects in options.cases]
        for case in cases:
            case.lay_out()
            race.prepare(case)
            race.rounds(case, options.rounds)
        settings = {"cases": options.cases, "rounds": options.rounds, "turns": list(options.turns) or "all"}
        return report.results(race.figures, settings, cases[0], server.version())


def write(parts: Dict[str, Any], output: Path) -> None:
    """Replace what an earlier run left, once everything is ready: a table and a plot of two runs would not fit together."""
    output.parent.mkdir(parents=True, exist_ok=True)
    outcome = {"checks": [check for name in report.PARTS if name in parts for check in parts[name]["checks"]], **parts}
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=str(output.parent)) as new:
        results = Path(new) / "results.json"
        results.write_text(json.dumps(outcome, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (Path(new) / "README.md").write_text(report.markdown(outcome), encoding="utf-8")
        pictures = [name for part, name in report.PICTURES.items() if part in parts]
        for part, name in report.PICTURES.items():
            if part in parts:
                subprocess.run([sys.executable, "-m", "bench.plot", str(results), part, str(Path(new) / name)], check=True, cwd=str(TESTS))
        output.mkdir(exist_ok=True)
        for name in ("results.json", "README.md", *pictures):
            shutil.copyfile(Path(new) / name, output / name)
        for name in set(report.PICTURES.values()) - set(pictures):
            (output / name).unlink(missing_ok=True)


def _show(parts: Dict[str, Any], output: Path, say: Any) -> None:
    print((output / "README.md").read_text(encoding="utf-8"))
    checks = [check for part in parts.values() for check in part["checks"]]
    missed: List[str] = [check["name"] for check in checks if not check["holds"]]
    say("%d of %d figures hold%s" % (len(checks) - len(missed), len(checks), "; not: " + "; ".join(missed) if missed else ""))
    say("written: %s" % output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
