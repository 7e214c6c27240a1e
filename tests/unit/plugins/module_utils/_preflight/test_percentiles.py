# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles and histograms, against themselves."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.fsync import Fio, Latencies, judge
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.percentiles import BOUNDS, histogram, percentile
from hypothesis import given
from hypothesis import strategies as st

SAMPLES = st.lists(st.floats(min_value=1e-4, max_value=1e6, allow_nan=False), min_size=1, max_size=300)


@given(SAMPLES)
def test_a_percentile_is_never_outside_of_the_samples_and_never_falls(samples):
    ordered = sorted(samples)
    values = [percentile(ordered, percent) for percent in (0.1, 50, 95, 99, 99.9)]
    assert all(low <= high * (1 + 1e-9) for low, high in zip(values, values[1:]))
    assert ordered[0] * (1 - 1e-9) <= values[0] and values[-1] <= ordered[-1] * (1 + 1e-9)


@given(SAMPLES)
def test_every_sample_is_in_exactly_one_bin_of_the_histogram(samples):
    bins = histogram(samples)
    assert sum(count for _bound, count in bins) == len(samples)
    assert [bound for bound, _count in bins] == sorted({bound for bound, _count in bins})
    for bound, total in zip((bound for bound, _count in bins), running(bins)):
        if bound <= BOUNDS[-1]:
            # A bound is rounded for the report, so a sample may sit on its edge.
            assert sum(sample <= bound * (1 - 1e-3) for sample in samples) <= total <= sum(sample <= bound * (1 + 1e-3) for sample in samples)
    json.dumps(bins, allow_nan=False)


def running(bins):
    total = 0
    for _bound, count in bins:
        total += count
        yield total


def test_no_samples_have_no_percentile():
    with pytest.raises(ValueError):
        percentile([], 50)
    assert histogram([]) == []


@pytest.mark.parametrize(("milliseconds", "verdict"), [(0.3, "pass"), (9.9, "pass"), (12, "warn"), (49, "warn"), (51, "fail"), (60, "fail")])
def test_the_verdict_on_fsync_is_against_10_and_50_milliseconds(milliseconds, verdict):
    assert judge(Latencies.of([0.1] * 90 + [milliseconds] * 10), None, "/x").verdict == verdict


def test_the_99th_percentile_decides_not_one_hiccup():
    assert judge(Latencies.of([0.2] * 2000 + [400.0]), None, "/x").verdict == "pass"


def test_what_fio_finds_and_we_did_not_counts():
    finding = judge(Latencies.of([0.2] * 1000), Fio("fio-3.33", 1000, 1.0, 61.0, 70.0), "/x")
    assert finding.verdict == "fail" and finding.value == "p99 61.00 ms"
    assert "fio-3.33 in the same folder" in finding.evidence[1]
