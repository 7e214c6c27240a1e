# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A little of what `make fuzz` does for as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import targets
from hypothesis import settings

EXAMPLES = {"kustomization": 25}  # each that passes the judge starts kustomize


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_that_comes_in_ends_in_a_traceback_or_reads_the_host(name, binaries):
    targets.KUSTOMIZE = str(Path(binaries) / "kubectl")
    settings(max_examples=EXAMPLES.get(name, 200), deadline=None)(targets.TARGETS[name])()
