# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Medians and spreads."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Sequence


@dataclass(frozen=True)
class Spread:
    """What is said about a row of figures: the middle one, the lowest and the highest, how many. No mean: one hiccup would move it."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        if not figures:
            raise ValueError("there is nothing to take a median of")
        return cls(statistics.median(figures), min(figures), max(figures), len(figures))

    def __str__(self) -> str:
        if self.count == 1:
            return "%.2f s" % self.median
        return "%.2f s (%.2f to %.2f)" % (self.median, self.low, self.high)
