# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`, which is `python -m bench`.

BENCH_CASES (401,5001) and BENCH_ROUNDS (5) say what is run. The full run replaces docs/benchmarks whole; any other writes a folder of its
own and prints its name, so that figures of two runs never stand in one table. BENCH_OUTPUT names the folder in both cases.
BENCH_TURNS names the peers' turns to run, for work on the bench itself.
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
from typing import Any, Dict, List, Sequence

from lab.cluster import Cluster
from lab.errors import LabError
from workspace import collection
from workspace.places import CHECKOUT, of_this_checkout

from . import report
from .audit import Audit
from .case import Case
from .controllers import Controllers
from .measure import Broken
from .peers import SMALL, TESTS
from .race import Race
from .server import Server
from .workload import services_in

CASES = (401, 5001)
ROUNDS = 5
PUBLISHED = CHECKOUT / "docs" / "benchmarks"
PICTURE = "benchmarks.png"


def main(arguments: Sequence[str] = ()) -> int:
    options = _options(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print("[%2d:%02d] %s" % (minutes, seconds, line), file=sys.stderr, flush=True)

    try:
        with tempfile.TemporaryDirectory(prefix="nordic-bench-") as folder:
            outcome = measure(options, Path(folder), say)
    except (Broken, LabError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted, nothing was written", file=sys.stderr)
        return 130
    output = options.output or (PUBLISHED if _is_full(options) else of_this_checkout() / "bench")
    write(outcome, output)
    _show(outcome, output, say)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    env = os.environ
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=env.get("BENCH_CASES") or ",".join(map(str, CASES)), help="numbers of objects (default: %(default)s)")
    parser.add_argument("--rounds", default=env.get("BENCH_ROUNDS") or str(ROUNDS), help="how often each peer has its turn (default: %(default)s)")
    parser.add_argument("--turns", default=env.get("BENCH_TURNS") or "", help="only these of %s" % ", ".join(turn.name for turn in SMALL))
    parser.add_argument(
        "--patience",
        type=float,
        default=5.0,
        help="seconds to wait at most for a quiet machine before each measurement (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=env.get("BENCH_OUTPUT") or None, help="where the results go")
    options = parser.parse_args(list(arguments))
    try:
        options.cases = sorted({int(each) for each in options.cases.replace(",", " ").split()})
        for case in options.cases:
            services_in(case)
        options.rounds = int(options.rounds)
    except ValueError as error:
        parser.error("BENCH_CASES and BENCH_ROUNDS: %s" % error)
    if not options.cases or options.rounds < 1:
        parser.error("there is nothing to measure: BENCH_CASES=%s, BENCH_ROUNDS=%s" % (options.cases, options.rounds))
    options.turns = tuple(options.turns.replace(",", " ").split())
    unknown = set(options.turns) - {turn.name for turn in SMALL}
    if unknown:
        parser.error("BENCH_TURNS: there is no %s, only %s" % (", ".join(sorted(unknown)), ", ".join(turn.name for turn in SMALL)))
    return options


def _is_full(options: argparse.Namespace) -> bool:
    return tuple(options.cases) == CASES and options.rounds >= ROUNDS and not options.turns


def measure(options: argparse.Namespace, folder: Path, say: Any) -> Dict[str, Any]:
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
        settings = {"cases": options.cases, "rounds": options.rounds, "turns": list(options.turns) or "all", "plot": PICTURE,
                    "when": time.strftime("%Y-%m-%d", time.gmtime())}
        return report.results(race.figures, settings, cases[0], server.version())


def write(outcome: Dict[str, Any], output: Path) -> None:
    """Replace what an earlier run left, all of it, once everything is ready: a table and a plot of two runs would not fit together."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=str(output.parent)) as new:
        results = Path(new) / "results.json"
        results.write_text(json.dumps(outcome, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (Path(new) / "README.md").write_text(report.markdown(outcome), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "bench.plot", str(results), str(Path(new) / PICTURE)], check=True, cwd=str(TESTS))
        output.mkdir(exist_ok=True)
        for name in ("results.json", "README.md", PICTURE):
            shutil.copyfile(Path(new) / name, output / name)


def _show(outcome: Dict[str, Any], output: Path, say: Any) -> None:
    print((output / "README.md").read_text(encoding="utf-8"))
    missed: List[str] = [check["name"] for check in outcome["checks"] if not check["holds"]]
    say("%d of %d figures hold%s" % (len(outcome["checks"]) - len(missed), len(outcome["checks"]), "; not: " + "; ".join(missed) if missed else ""))
    say("written: %s" % output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
