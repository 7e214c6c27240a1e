#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_manifests
short_description: Manifests and charts that k3s deploys by itself
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Puts files into C(server/manifests) of k3s' data folder, which k3s applies when they change. A chart is a C(HelmChart) in one.
  - Removes those that an earlier run put there and that are not among O(manifests) any more. Files that others put there stay.
  - k3s leaves the objects of a file that is gone. They are deleted in a second step, O(state=pruned), once no server has the file any more.
options:
  state:
    description:
      - V(present) writes and removes files on this server.
      - V(pruned) deletes the objects of files that were removed here, as far as k3s made them for that file and no other file of O(manifests) names them,
        as one does after a file was renamed. Namespaces, PersistentVolumes,
        PersistentVolumeClaims and CustomResourceDefinitions stay and are named in RV(left), since others may have something in them.
    type: str
    choices: [present, pruned]
    default: present
  manifests:
    description:
      - The content of each file by its name, such as C(shop.yaml). All that there are to be.
      - k3s tells files apart by their names without the ending, so two of the same name are refused.
    type: dict
    default: {}
  data_dir:
    description: The data folder of k3s.
    type: path
    default: /var/lib/rancher/k3s
attributes:
  check_mode:
    description: Can run without changing anything, and tells whether a real run would.
    support: full
  diff_mode:
    description: Shows each file before and after, but for those with a Secret in them.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
requirements:
  - root on the server
seealso:
  - module: nordic.gitops.k3s
"""

EXAMPLES = r"""
- name: A chart that k3s installs
  nordic.gitops.k3s_manifests:
    manifests:
      shop.yaml: "{{ lookup('ansible.builtin.file', 'shop.yaml') }}"
  register: manifests

- name: Delete the objects of manifests that were taken out
  nordic.gitops.k3s_manifests:
    state: pruned
  when: manifests.waiting | length > 0
"""

RETURN = r"""
changes:
  description: What was changed, one sentence each.
  returned: success
  type: list
  elements: str
waiting:
  description: Files that were removed, and whose objects are still to be deleted.
  returned: with O(state=present)
  type: list
  elements: str
deleted:
  description: The objects that were deleted, or would be.
  returned: with O(state=pruned)
  type: list
  elements: str
  sample: [ConfigMap default/greeting]
left:
  description: The objects of removed files that stay.
  returned: with O(state=pruned)
  type: list
  elements: str
  sample: [Namespace shop]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import DATA_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.manifests import SECRET, Manifests, delete_objects

SPEC = dict(
    state=dict(type="str", choices=["present", "pruned"], default="present"),
    manifests=dict(type="dict", default={}),
    data_dir=dict(type="path", default=DATA_DIR),
)


class Module(AnsibleModule):
    """Knows which manifests are secret before it writes its arguments to the host's log."""

    def _log_invocation(self):
        self.no_log_values.update(str(text) for text in self.params["manifests"].values() if SECRET.search(str(text)))
        super()._log_invocation()


def put(manifests, wanted, check_mode):
    changes = manifests.changes({name: str(text) for name, text in wanted.items()})
    gone = [change.path.rpartition("/")[2] for change in changes if change.wanted.text is None]
    if not check_mode:
        for change in changes:
            manifests.put(change)
    return {"changed": bool(changes), "changes": [change.reason for change in changes], "diff": [change.diff() for change in changes],
            "waiting": sorted({*manifests.waiting(), *gone} - set(wanted))}


def main():
    module = Module(argument_spec=SPEC, supports_check_mode=True)
    manifests = Manifests(module.params["data_dir"])
    try:
        if module.params["state"] == "present":
            result = put(manifests, module.params["manifests"], module.check_mode)
        else:
            waiting = manifests.waiting()
            deleted, left = delete_objects(manifests, module.check_mode)
            result = {"changed": bool(waiting), "changes": [f"{one} is deleted" for one in deleted], "deleted": deleted, "left": left}
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    for one in result.get("left", []):
        module.warn(masked(f"{one} stays, as others may have something in it. Delete it by kubectl when nobody needs it."))
    module.exit_json(**masked(result))


if __name__ == "__main__":
    main()
