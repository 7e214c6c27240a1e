# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock of a reconcile is read from an annotation, which anybody may write who may write ConfigMaps."""

from __future__ import annotations

import os
import socket

from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import inventory
from hypothesis import example, given
from hypothesis import strategies as st

HERE = f"{socket.gethostname()}/{inventory._boot()}"


@given(st.one_of(st.text(max_size=40), st.text(st.characters(categories=("Nd", "No", "Nl")), max_size=12).map(lambda pid: f"{HERE}/{pid}/1/x")))
@example(f"{HERE}/²/1/x")
@example(f"{HERE}/{'9' * 5000}/1/x")
@example("/" * 100)
def test_a_holder_that_is_no_process_here_is_never_taken_for_a_dead_one_by_mistake(holder):
    assert inventory._is_dead(holder) in (True, False)


def test_a_process_that_runs_is_not_dead_and_one_that_has_ended_is():
    pid = os.getpid()
    assert not inventory._is_dead(f"{HERE}/{pid}/{inventory._born(pid)}/x")
    assert inventory._is_dead(f"{HERE}/{pid}/1/x")
