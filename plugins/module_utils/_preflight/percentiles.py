# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles and histograms of latencies. Its own, since importing Python's statistics takes longer than a measurement of a clock."""

from __future__ import annotations

import math
from typing import List, Sequence, Tuple

# Ten steps a decade from 10 µs to 10 s: fine enough to see two peaks, few enough to draw.
DECADES = (-2, 4)
STEPS = 10
BOUNDS = tuple(10 ** (step / STEPS) for step in range(DECADES[0] * STEPS, DECADES[1] * STEPS + 1))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Between the two samples that enclose it, as statistics.quantiles(method="inclusive") does."""
    if not ordered:
        raise ValueError("no samples")
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def histogram(samples: Sequence[float]) -> List[Tuple[float, int]]:
    """(upper bound, number of samples up to it and above the one before), from the first to the last bin that has any."""
    counts = [0] * (len(BOUNDS) + 1)
    for sample in samples:
        counts[_bin(sample)] += 1
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return []
    bounds = [*BOUNDS, math.inf]
    # JSON has no infinity: what is beyond the last bound is told with the next power of ten.
    return [(round(bounds[place], 5) if place < len(BOUNDS) else 10.0 ** (DECADES[1] + 1), counts[place])
            for place in range(filled[0], filled[-1] + 1)]


def _bin(sample: float) -> int:
    low, high = 0, len(BOUNDS)
    while low < high:
        middle = (low + high) // 2
        if BOUNDS[middle] < sample:
            low = middle + 1
        else:
            high = middle
    return low
