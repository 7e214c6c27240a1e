# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests may run beside each other, and which this run leaves out and says so."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All tests on the cluster go to one worker: they count its requests and time its answers, so they must be alone with it.

    Tests with hosts go to that worker too, after those: a k3s that starts takes both cores of a small machine, and
    would be in the figures of whatever runs beside it.
    """
    for item in items:
        alone = "cluster" in getattr(item, "fixturenames", ()) or item.get_closest_marker("hosts")
        if alone and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("cluster"))
    items.sort(key=lambda item: bool(item.get_closest_marker("hosts")))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.get_closest_marker("full") and not os.environ.get("NORDIC_FULL"):
        pytest.skip("`make test-full` runs it")  # said in the summary as NOT RUN (tests/conftest.py)
    if item.get_closest_marker("hosts"):
        from lab.hosts import impediment

        problem = impediment()
        if problem and os.environ.get("NORDIC_WITHOUT_HOSTS"):
            pytest.skip(f"{problem}, and NORDIC_WITHOUT_HOSTS is set")  # said in the summary as NOT RUN (tests/conftest.py)
        if problem:
            pytest.fail(f"{problem}. NORDIC_WITHOUT_HOSTS=1 leaves the tests with hosts out, and says so at the end.", pytrace=False)
