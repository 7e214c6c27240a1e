# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers a host's files name, where none can be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import is_own
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.servers import BALANCER, own_addresses, recorded_members, recorded_servers


def test_the_addresses_of_this_host_are_its_own() -> None:
    found = own_addresses()
    assert not {"127.0.0.1", "::1"} & set(found)
    # A link-local one needs its interface to be bound.
    assert all(is_own(address) for address in found if not address.startswith("fe80:"))


def test_an_agent_names_the_servers_of_its_load_balancer_and_none_of_another_cluster_answers(tmp_path: Path) -> None:
    path = tmp_path / BALANCER
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"ServerURL": "https://10.0.0.1:6443", "ServerAddresses": ["127.0.0.1:1", "[::1]:1", "127.0.0.1:1", ""]}), encoding="utf-8")
    assert recorded_servers(str(tmp_path)) == [{"address": "127.0.0.1", "answers": False}, {"address": "::1", "answers": False}]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ServerAddresses": 3}', '{"ServerAddresses": null}'])
def test_a_record_that_makes_no_sense_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / BALANCER
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert recorded_servers(str(tmp_path)) == [] and recorded_members(str(tmp_path)) == []
