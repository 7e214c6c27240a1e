# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does preflight's fsync latency agree with fio's? Both in the same folder, in turns: `python -m bench.fsync --folder DIR`.

A shared disk changes from second to second, so one pair of figures proves little: each round has both, every second one in the other order,
and what is compared is the median of the rounds' 99th percentiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from typing import Any, Dict, List, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._preflight import fsync

ROUNDS, SECONDS = 10, 2.3
# How far the two may be apart.
WITHIN = 0.15


class NoFio(Exception):
    """There is nothing to compare with."""


def compare(folder: str, rounds: int = ROUNDS, seconds: float = SECONDS) -> Dict[str, Any]:
    found: List[Dict[str, float]] = []
    for number in range(rounds):
        pair: Dict[str, float] = {}
        for turn in (("ours", "fio") if number % 2 == 0 else ("fio", "ours")):
            if turn == "ours":
                own = fsync.measure(folder, seconds)
                pair.update(ours_p50=own.at(50), ours_p99=own.at(99), ours_samples=len(own.ordered))
            else:
                other = fsync.fio(folder, seconds)
                if other is None:
                    raise NoFio("fio is not installed, or it failed; bindep.txt names the package (profile test)")
                pair.update(fio_p50=other.p50, fio_p99=other.p99, fio_samples=other.samples)
        found.append(pair)
    ours, theirs = (statistics.median(pair[name] for pair in found) for name in ("ours_p99", "fio_p99"))
    apart = abs(ours / theirs - 1)
    return {"folder": folder, "seconds": seconds, "rounds": found, "ours_p99_ms": ours, "fio_p99_ms": theirs, "apart": apart, "within": WITHIN,
            "holds": apart <= WITHIN}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.fsync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on the disk to measure (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement (default: %(default)s)")
    options = parser.parse_args(list(arguments))
    try:
        outcome = compare(options.folder, options.rounds, options.seconds)
    except NoFio as problem:
        print(f"bench.fsync: {problem}", file=sys.stderr)
        return 1
    for number, pair in enumerate(outcome["rounds"], 1):
        print("round %2d: ours p99 %7.3f ms (%5d samples), fio p99 %7.3f ms (%5d samples), p50 %.3f and %.3f ms" % (
            number, pair["ours_p99"], pair["ours_samples"], pair["fio_p99"], pair["fio_samples"], pair["ours_p50"], pair["fio_p50"]), file=sys.stderr)
    print("median p99: ours %.3f ms, fio %.3f ms, %.1f %% apart" % (outcome["ours_p99_ms"], outcome["fio_p99_ms"], 100 * outcome["apart"]), file=sys.stderr)
    print(json.dumps(outcome))
    return 0 if outcome["holds"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
