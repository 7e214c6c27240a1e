# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: instances
short_description: Instances of a cloud as hosts
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Reads the instances of a fleet, or of a project, and makes hosts and groups of them. The file's name ends in C(instances.yml) or C(instances.yaml).
  - Texts from the provider are never templates. What somebody wrote into metadata stays text.
  - By default only ACTIVE instances are hosts, without those that are being deleted. An instance without an address of the wanted kind has no
    C(ansible_host), and a warning says so.
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [nordic.gitops.instances]
  fleet:
    description: Only instances of this fleet.
    type: str
  statuses:
    description:
      - Instances in other states to add, such as V(ERROR), V(DELETING), or V(all). They are in the group C(status_STATUS) and have no
        C(ansible_host), so that a play can name and remove them but not connect to them.
    type: list
    elements: str
    default: []
  groups_by:
    description: The metadata whose values become groups, such as C(role_server).
    type: list
    elements: str
    default: [role, cluster]
  group_names:
    description: Groups by the value of the metadata C(role), such as C(k3s_servers) for V(server).
    type: dict
    default: {}
extends_documentation_fragment:
  - constructed
  - inventory_cache
  - nordic.gitops.cloud
  - nordic.gitops.address
requirements:
  - openstacksdk >= 1.5, for OpenStack
  - libvirt-python, for libvirt
"""

EXAMPLES = r"""
# shop.instances.yml
plugin: nordic.gitops.instances
cloud: nordic
region: no-oslo-1
fleet: shop
group_names:
  server: k3s_servers
  agent: k3s_agents
address:
  network: private
"""

import hashlib
import json
import os
import re
from typing import Any, Dict

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var as unsafe

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance.facts import AddressRule, facts
from ansible_collections.nordic.gitops.plugins.module_utils._instance.options import CLOUD_SPEC, provider_of
from ansible_collections.nordic.gitops.plugins.module_utils._instance.provider import DELETING
from ansible_collections.nordic.gitops.plugins.module_utils._instance.residency import check_project
from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import make_private

# A host's name is a variable too, which ansible-core 2.17 and 2.18 would run as a template. Anybody in a project may give an instance any name.
HOST_NAME = re.compile(r"[^\x00-\x20\x7f{}]+")
ANSIBLES_OWN = ("localhost", "127.0.0.1", "::1", "all", "ungrouped")  # the controller, and groups that are always there
FILE_CACHES = ("jsonfile", "pickle", "yaml")  # the cache plugins that keep files in the folder cache_connection


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "nordic.gitops.instances"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("instances.yml", "instances.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        # The file may say something else than when the answer was kept.
        asked = {name: self.get_option(name) for name in ("cloud", "clouds_file", "region", "project_id", "libvirt", "fleet", "address")}
        key = "%s_%s" % (self.get_cache_key(path), hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:12])
        use = cache and self.get_option("cache")
        self._check_cache(path)
        found = None
        if use:
            try:
                found = self._cache[key]
            except KeyError:
                pass
        if found is None:
            found = self._ask(path)
            if self.get_option("cache"):
                self._cache[key] = found
        for one in found:
            self._add(one)

    def _check_cache(self, path: str) -> None:
        """Ansible's cache plugins take what lies in their folder from whoever put it there, and pickle runs it."""
        folder = self.get_option("cache_connection")
        if self.get_option("cache") and folder and self.get_option("cache_plugin").rpartition(".")[2] in FILE_CACHES:
            try:
                make_private(os.path.expanduser(os.path.expandvars(folder)), "cache_connection")
            except Failure as failure:
                raise AnsibleParserError("%s: %s" % (path, failure)) from None

    def _ask(self, path: str) -> Any:
        params: Dict[str, Any] = {name: self.get_option(name) for name in CLOUD_SPEC}
        try:
            cloud = provider_of(params)
            check_project(params["project_id"], cloud.place())
            rule = AddressRule.of(self.get_option("address"))
            fleet = self.get_option("fleet")
            found = cloud.world(fleet, []).instances if fleet else cloud.everything()
            return [facts(one, rule) for one in sorted(found, key=lambda each: (each.name, each.id))]
        except Failure as failure:
            raise AnsibleParserError("%s: %s" % (path, failure)) from None

    def _add(self, one: Dict[str, Any]) -> None:
        wanted = {status.upper() for status in self.get_option("statuses")}
        status = "DELETING" if one["task"] in DELETING else one["status"]
        active = status == "ACTIVE"
        if not active and not wanted & {status, "ALL"}:
            return
        name, own = one["name"], re.sub(r"[^A-Za-z0-9-]", "_", one["id"])
        if name in ANSIBLES_OWN or not HOST_NAME.fullmatch(name):
            self.display.warning("The name of an instance is none for a host of Ansible: %r; it is the host %s." % (name, own))
            name = own
        if name in self.inventory.hosts:
            name = "%s-%s" % (name, own)
            self.display.warning("Two instances have the name %s; the second is the host %s." % (one["name"], name))
        name = self.inventory.add_host(name) or name
        address = one["address"] if active else None
        if active and address is None:
            self.display.warning("The instance %s has no address that the option address allows, so it has no ansible_host." % name)
        if address is not None:
            self.inventory.set_variable(name, "ansible_host", unsafe(address))
        self.inventory.set_variable(name, "instance", unsafe(one))
        if not active:
            self._group("status_%s" % status.lower(), name)
        for field in ("fleet", "zone"):
            if one[field]:
                self._group("%s_%s" % (field, one[field]), name)
        self._group("region_%s" % self.get_option("region"), name)
        for key in self.get_option("groups_by"):
            if key in one["metadata"]:
                self._group("%s_%s" % (key, one["metadata"][key]), name)
        named = self.get_option("group_names").get(one["metadata"].get("role"))
        if named and active:
            self._group(named, name)
        strict = self.get_option("strict")
        variables = {"instance": unsafe(one), **({"ansible_host": unsafe(address)} if address else {})}
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _group(self, group: str, host: str) -> None:
        self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(group)), host)
