# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance may do to an inventory by the name that somebody gave it."""

from __future__ import annotations

import pytest
from ansible.inventory.data import InventoryData
from ansible_collections.nordic.gitops.plugins.inventory.instances import InventoryModule
from ansible_collections.nordic.gitops.plugins.module_utils._instance.facts import AddressRule, facts
from ansible_collections.nordic.gitops.plugins.module_utils._instance.provider import Instance

OPTIONS = {"statuses": ["ACTIVE"], "region": "no-oslo-1", "groups_by": ["role"], "group_names": {}, "strict": False, "compose": {}, "groups": {},
           "keyed_groups": []}


class Plugin(InventoryModule):
    def get_option(self, option, hostvars=None):
        return OPTIONS[option]


@pytest.mark.parametrize("name, host", [
    ("web-1", "web-1"),
    ("a.b+c[1]", "a.b+c[1]"),
    ("sørvær-1", "sørvær-1"),
    ("{{ lookup('pipe', 'id') }}", "id-1"),
    ("{%raw%}", "id-1"),
    ("web-1\n[all:vars]", "id-1"),
    ("localhost", "id-1"),
    ("127.0.0.1", "id-1"),
    ("all", "id-1"),
])
def test_a_name_is_neither_run_nor_taken_for_the_controller(name, host):
    plugin = Plugin()
    plugin.inventory = InventoryData()
    address = {"network": "private", "address": "10.0.0.5", "version": 4, "kind": "fixed", "mac": ""}
    one = facts(Instance("id-1", name, "ACTIVE", metadata={"role": "{{ 1 + 1 }}"}, addresses=(address,)), AddressRule())
    plugin._add(one)
    assert list(plugin.inventory.hosts) == [host]
    assert plugin.inventory.hosts[host].vars["ansible_host"] == "10.0.0.5" and plugin.inventory.hosts[host].vars["instance"]["name"] == name
    assert not any("{" in group for group in plugin.inventory.groups)
