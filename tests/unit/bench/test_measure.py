# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process is measured as the kernel counts it, and one that failed has no figure."""

from __future__ import annotations

import os
import sys

import pytest

from bench.measure import Broken, run

ENV = dict(os.environ)


def test_seconds_and_processor_time_are_those_of_the_process(tmp_path):
    slept = run([sys.executable, "-S", "-c", "import time; time.sleep(0.3)"], ENV, tmp_path)
    assert 0.3 <= slept.seconds
    assert slept.cpu_seconds < slept.seconds


def test_the_peak_is_that_of_the_process_alone_and_counts_what_it_gave_back(tmp_path):
    lean = run([sys.executable, "-S", "-c", "pass"], ENV, tmp_path)
    large = run([sys.executable, "-S", "-c", "x = bytearray(b'1') * 300_000_000; del x"], ENV, tmp_path)
    assert large.peak_mb > 280
    assert lean.peak_mb < 40


def test_a_failed_peer_has_no_figure_and_its_own_words_are_shown(tmp_path):
    with pytest.raises(Broken, match="(?s)exit code 3.*no such cluster"):
        run([sys.executable, "-S", "-c", "print('no such cluster'); raise SystemExit(3)"], ENV, tmp_path)


def test_a_peer_that_hangs_is_ended(tmp_path):
    with pytest.raises(Broken, match="exit code -9"):
        run([sys.executable, "-S", "-c", "import time; time.sleep(60)"], ENV, tmp_path, timeout=0.3)


def test_nothing_is_left_where_it_ran(tmp_path):
    assert run([sys.executable, "-S", "-c", "print('x' * 100_000)"], ENV, tmp_path).output == "x" * 100_000 + "\n"
    assert not list(tmp_path.iterdir())
