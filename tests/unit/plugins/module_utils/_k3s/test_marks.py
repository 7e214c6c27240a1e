# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of a configuration restarts k3s: labels and taints of a node that is registered do not, as k3s would not read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import files
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.installation import is_for_the_node_alone


@pytest.mark.parametrize(("before", "after", "alone"), [
    ({"node-label": ["a=b"], "debug": True}, {"debug": True}, True), ({"debug": True}, {"node-taint": ["a=b:NoSchedule"], "debug": True}, True),
    ({"node-label": ["a=b"]}, {"node-label": ["a=c"], "debug": True}, False), ({"debug": True}, {}, False)])
def test_labels_and_taints_of_a_registered_node_restart_nothing(tmp_path: Path, before: dict, after: dict, alone: bool) -> None:
    path = str(tmp_path / "config.yaml")
    change = files.Change(files.ManagedFile(path, files.to_yaml(after)), files.to_yaml(before), 0o600)
    assert is_for_the_node_alone(change, registered=True) is alone


def test_they_do_where_no_node_is_registered_yet(tmp_path: Path) -> None:
    change = files.Change(files.ManagedFile(str(tmp_path / "config.yaml"), files.to_yaml({"node-label": ["a=b"]})), files.to_yaml({}), 0o600)
    assert not is_for_the_node_alone(change, registered=False)
