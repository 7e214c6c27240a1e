#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_snapshot_info
short_description: List the snapshots of k3s' embedded etcd
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Lists the snapshots on a server of a k3s cluster, and their copies in S3-compatible storage.
options:
  folder:
    description: Where k3s keeps its snapshots. Below O(data_dir) when left out.
    type: path
  data_dir:
    description: The data folder of k3s.
    type: path
    default: /var/lib/rancher/k3s
extends_documentation_fragment:
  - nordic.gitops.s3
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
  diff_mode:
    support: none
    description: Nothing is ever changed.
  idempotent:
    support: full
    description: Nothing is ever changed.
seealso:
  - module: nordic.gitops.etcd_snapshot
requirements:
  - root on the node
"""

EXAMPLES = r"""
- name: Which snapshots are there?
  nordic.gitops.etcd_snapshot_info:
  register: known

- name: The newest one
  ansible.builtin.debug:
    msg: "{{ known.snapshots | last }}"
"""

RETURN = r"""
node:
  description: This server's name in the cluster, which is part of the names of its snapshots.
  returned: success
  type: str
snapshots:
  description: The snapshots on this server, the oldest first.
  returned: success
  type: list
  elements: dict
  sample: [{"file": "nightly-server1-1790000000", "path": "/var/lib/rancher/k3s/server/db/snapshots/nightly-server1-1790000000",
            "size": 5242912, "taken": "2026-09-21T13:33:20Z"}]
copies:
  description: The copies in O(s3), of all servers, the oldest first.
  returned: success
  type: list
  elements: dict
  sample: [{"encrypted": true, "file": "nightly-server1-1790000000.cms", "size": 5243400, "taken": "2026-09-21T13:33:20Z"}]
restored:
  description: The digest of the snapshot that this server was last restored from, and as what. Empty when it never was.
  returned: success
  type: dict
  sample: {"digest": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "step": "joined"}
set_aside:
  description:
    - The databases that restores have set aside on this server, the oldest first. C(digest) is the beginning of the digest of the snapshot
      that took its place. O(nordic.gitops.etcd_snapshot#module:state=discarded) deletes them.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "etcd.before-20261129T081500Z-2c26b46b68ff", "path": "/var/lib/rancher/k3s/server/db/etcd.before-20261129T081500Z-2c26b46b68ff",
            "since": "2026-11-29T08:15:00Z", "digest": "2c26b46b68ff", "size": 67108864}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, DATA_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import S3_SPEC, Unsigned
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.snapshot_states import Request, info

SPEC = dict(
    folder=dict(type="path"),
    data_dir=dict(type="path", default=DATA_DIR),
    s3=dict(type="dict", options=S3_SPEC),
)


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = info(Request({"binary": BINARY, **module.params}, module.check_mode, 0))
    except Unsigned as unsigned:
        module.exit_json(**masked({"changed": False, "unsigned": unsigned.requests}))  # the action plugin runs it again with their URLs
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(**masked(result))


if __name__ == "__main__":
    main()
