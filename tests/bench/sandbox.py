# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sandbox costs: `python3 -B tests/workspace dev python -m bench.sandbox`.

Each tool is run with it and without it in turns, every second round in the other order; compared are the medians of the wall time. A run that
finds nothing new is the module's own part of it: the branch resolved, the tree found, the render taken from the cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render
from lab import build
from lab.repository import Repository

ROUNDS = 40
A_TOOL, NO_OP = 30.0, 5.0  # milliseconds that the sandbox may add

Run = Callable[[], None]
STARTED = _sandbox.start


def bare(command_: Sequence[str], _policy: _sandbox.Policy, folder: str, environment: Mapping[str, str], feeds: bool = True) -> _sandbox.Running:
    """A tool as anybody would start it."""
    return _sandbox.Running(subprocess.Popen(command_, cwd=folder, env=dict(environment), start_new_session=True, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, stdin=subprocess.PIPE if feeds else subprocess.DEVNULL), "")


def cases(folder: Path) -> Dict[str, Tuple[Run, float]]:
    """What is run, and how many milliseconds the sandbox may add to it."""
    repository = Repository(folder / "repository")
    repository.write("apps/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    repository.commit()
    kustomization = folder / "kustomization"
    kustomization.mkdir()
    (kustomization / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    shutil.copy(repository.path / "apps" / "a.yaml", kustomization)
    kubectl, git = str(build.build(["kubectl"], build.silent)["kubectl"]), shutil.which("git") or "git"
    environment = {"PATH": os.environ["PATH"], "HOME": str(kustomization)}

    def tool(program: str, *arguments: str) -> Run:
        def run() -> None:
            ended = _sandbox.run([program, *arguments], _sandbox.Policy(program=program, write=[str(kustomization)]), str(kustomization), environment)
            if ended.status:
                raise RuntimeError(ended.err)
        return run

    options = {"repository": repository.url, "git_cache": str(folder / "cache")}

    def unchanged() -> None:
        with Mirror(Source.of(options)) as mirror:
            tree = mirror.tree(mirror.resolve("main"), "apps")
            render(tree, RenderOptions(), str(folder / "cache" / "render"), root=tree)

    unchanged()
    return {"git version": (tool(git, "version"), A_TOOL), "kubectl kustomize": (tool(kubectl, "kustomize", "."), A_TOOL),
            "a run that finds nothing new": (unchanged, NO_OP)}


def measure(run: Run, rounds: int) -> Dict[str, float]:
    """Milliseconds: medians with and without, the median of what each round's two are apart, and what the quickest of each are apart."""
    found: Dict[str, List[float]] = {"with": [], "without": []}
    for number in range(rounds):
        for turn in ("with", "without") if number % 2 else ("without", "with"):
            _sandbox.start = STARTED if turn == "with" else bare
            begin = time.perf_counter()
            run()
            found[turn].append(1000 * (time.perf_counter() - begin))
    _sandbox.start = STARTED
    return {**{turn: statistics.median(row) for turn, row in found.items()}, "quickest": min(found["with"]) - min(found["without"]),
            "apart": statistics.median(one - other for one, other in zip(found["with"], found["without"]))}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.sandbox", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(list(arguments))
    holds = True
    print("sandboxes here: %s" % ", ".join(each for each in _sandbox.PROTECTIONS if _sandbox._available(each)))
    with tempfile.TemporaryDirectory(prefix="nordic-bench-") as folder:
        for name, (run, limit) in cases(Path(folder)).items():
            row = measure(run, options.rounds)
            holds = holds and row["apart"] <= limit
            print("%s: %.1f ms with, %.1f ms without, %.1f ms apart (at most %.0f: %s), the quickest of each %.1f ms apart" % (
                name, row["with"], row["without"], row["apart"], limit, "yes" if row["apart"] <= limit else "no", row["quickest"]))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
