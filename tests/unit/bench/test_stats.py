# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Medians and spreads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import Spread

SECONDS = st.floats(min_value=0.001, max_value=1e6, allow_nan=False)


def test_one_hiccup_does_not_move_the_median():
    assert Spread.of([2.0, 2.1, 2.2, 2.1, 90.0]) == Spread(2.1, 2.0, 90.0, 5)


def test_an_even_number_of_rounds_takes_the_middle_of_the_two_in_the_middle():
    assert Spread.of([4.0, 1.0, 2.0, 3.0]).median == 2.5


def test_no_figures_have_no_median():
    with pytest.raises(ValueError):
        Spread.of([])


@given(st.lists(SECONDS, min_size=1, max_size=20))
def test_the_order_of_rounds_does_not_matter_and_the_median_lies_in_the_spread(figures):
    spread = Spread.of(figures)
    assert spread == Spread.of(sorted(figures, reverse=True))
    assert spread.low <= spread.median <= spread.high


def test_a_single_round_claims_no_spread():
    assert str(Spread.of([1.234])) == "1.23 s"
    assert str(Spread.of([1.0, 2.0, 3.0])) == "2.00 s (1.00 to 3.00)"
