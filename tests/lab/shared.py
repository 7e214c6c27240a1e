# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster for all workers of a pytest session: two would not fit two cores."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lab import build, places
from lab.cluster import Cluster
from lab.components import BINARIES
from lab.errors import LabError


def cluster() -> Cluster:
    """Join the session's cluster, or start it when this process is the first to ask.

    There is no count of users to go wrong: each holds a connection to the cluster's supervisor, and the kernel
    closes those of a worker that crashed.
    """
    named = os.environ.get("NORDIC_CLUSTER")
    if named:
        return Cluster.join(Path(named))
    session = os.environ["NORDIC_TEST_SESSION"]
    state = Path(tempfile.gettempdir()) / f"nordic-cluster-{os.getuid()}-{session}"
    with build.locked(places.cache() / "clusters" / "tests.lock", "the cluster of this test session", build.silent):
        try:
            return Cluster.join(state)
        except LabError:
            return Cluster.start(state, say=build.print_line, binaries=tuple(BINARIES))
