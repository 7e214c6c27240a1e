# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles and histograms of latencies."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from typing import List, Sequence, Tuple

# Ten steps a decade from 10 µs to 10 s: fine enough to see two peaks, few enough to draw.
DECADES = (-2, 4)
STEPS = 10
BOUNDS = tuple(10 ** (step / STEPS) for step in range(DECADES[0] * STEPS, DECADES[1] * STEPS + 1))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Between the two samples that enclose it. percent: above 0 and below 100, to a tenth."""
    if not ordered:
        raise ValueError("no samples")
    if len(ordered) == 1:  # which statistics takes since Python 3.13 only
        return ordered[0]
    return statistics.quantiles(ordered, n=1000, method="inclusive")[round(percent * 10) - 1]


def histogram(samples: Sequence[float]) -> List[Tuple[float, int]]:
    """(upper bound, number of samples up to it and above the one before), from the first to the last bin that has any."""
    counts = [0] * (len(BOUNDS) + 1)
    for sample in samples:
        counts[bisect_left(BOUNDS, sample)] += 1
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return []
    bounds = [*BOUNDS, math.inf]
    # JSON has no infinity: what is beyond the last bound is told with the next power of ten.
    return [(round(bounds[place], 5) if place < len(BOUNDS) else 10.0 ** (DECADES[1] + 1), counts[place])
            for place in range(filled[0], filled[-1] + 1)]
