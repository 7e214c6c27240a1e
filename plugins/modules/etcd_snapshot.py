#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_snapshot
short_description: Save, verify, copy, prune and restore snapshots of k3s' embedded etcd
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Works on a server of a k3s cluster with embedded etcd, with nothing but Python and k3s there.
  - A snapshot is verified by restoring it. k3s itself restores it into a second etcd in namespaces of its own, beside the running cluster,
    and the module reads it there. It takes about 15 seconds and nothing of the cluster notices.
  - Copies go to S3-compatible storage, encrypted to a certificate, so that no node has the key that opens them.
options:
  state:
    description:
      - V(present) saves a snapshot unless there is one of this O(name) that is not older than O(max_age), and copies it to O(s3).
      - V(absent) deletes the snapshot O(file), or all of O(name) that this server saved, here and in O(s3).
      - V(pruned) deletes all but the newest O(keep) of O(name) that this server saved, here and in O(s3).
      - V(verified) restores the snapshot aside and says what is in it.
      - V(staged) does the same and keeps the restored database ready. It refuses a snapshot of another minor version than O(binary) and one
        that is older than O(max_age).
      - V(restored) puts the staged database in the place of the live one. k3s must be stopped on all servers.
        The live database is never deleted but renamed, as RV(set_aside) tells.
        The playbook C(nordic.gitops.restore) does all of it in the right order.
      - V(discarded) deletes databases that restores have set aside on this server, either the one of this O(name) or all that were set aside
        longer than O(max_age) ago. M(nordic.gitops.etcd_snapshot_info) lists them.
    type: str
    choices: [present, absent, pruned, verified, staged, restored, discarded]
    default: present
  name:
    description:
      - Which snapshots belong together, such as V(nightly) or V(before-v1.30.5). k3s adds the node and the time.
      - For V(verified) and V(staged) the newest of this name is meant.
      - For V(discarded) the name of the database, such as V(etcd.before-20261129T081500Z-2c26b46b68ff).
    type: str
  file:
    description: One snapshot by its file's name in O(folder) or O(s3), or by its absolute path on this server.
    type: str
  max_age:
    description:
      - How old a snapshot may be, in seconds. Any age when left out. V(0) with O(state=present) always saves a new one.
      - For V(discarded) how long ago a database may have been set aside to be kept.
    type: int
  keep:
    description: How many of O(name) stay.
    type: int
    default: 5
  verify:
    description: Whether O(state=present) also verifies the snapshot before it is copied.
    type: bool
    default: false
  recipient:
    description:
      - A certificate in PEM. Copies are encrypted to it with AES-256-GCM, as C(openssl cms) does and undoes.
      - Copies are not encrypted without it.
    type: str
  private_key:
    description: The private key in PEM that opens an encrypted copy, for V(verified) and V(staged). It is never written to a disk.
    type: str
  digest:
    description: For V(restored), what RV(digest) was when the snapshot was staged.
    type: str
  join:
    description:
      - For V(restored), whether this server is one of the others. Its database is set aside, and it joins the server that restored
        when k3s starts.
    type: bool
    default: false
  authority:
    description:
      - With O(join), what RV(authority) was when the snapshot was staged. Certificates of another cluster are set aside with the database.
    type: str
  again:
    description:
      - Whether a snapshot that this server was restored from already is restored once more. What was written since is in the database
        that is set aside.
    type: bool
    default: false
  folder:
    description: Where k3s keeps its snapshots. Below O(data_dir) when left out.
    type: path
  data_dir:
    description: The data folder of k3s.
    type: path
    default: /var/lib/rancher/k3s
  binary:
    description: The k3s program.
    type: path
    default: /usr/local/bin/k3s
extends_documentation_fragment:
  - nordic.gitops.s3
attributes:
  check_mode:
    support: full
    description: V(verified) and V(staged) verify all the same, and leave nothing behind.
  diff_mode:
    support: none
    description: A snapshot has no fields to compare.
  idempotent:
    support: full
    description: A snapshot of a name is saved once, unless O(max_age) asks for a newer one, and restored once, unless O(again) asks for it.
seealso:
  - module: nordic.gitops.etcd_snapshot_info
requirements:
  - root on the node
  - OpenSSL 3 for O(recipient) and O(private_key)
"""

EXAMPLES = r"""
- name: A snapshot every night, proved to restore, and an encrypted copy that never leaves Norway
  nordic.gitops.etcd_snapshot:
    name: nightly
    max_age: 43200
    verify: true
    recipient: "{{ lookup('ansible.builtin.file', 'backup-recipient.crt') }}"
    s3:
      endpoint: https://s3.no-osl-1.example.no
      region: no-osl-1
      allowed_regions: [no-osl-1, no-bgo-1]
      bucket: cluster-snapshots
      folder: production
      access_key: "{{ vault_s3_access_key }}"
      secret_key: "{{ vault_s3_secret_key }}"

- name: The last seven nights stay
  nordic.gitops.etcd_snapshot:
    name: nightly
    state: pruned
    keep: 7

- name: Prove that last night's snapshot restores, and is not older than a day
  nordic.gitops.etcd_snapshot:
    name: nightly
    state: verified
    max_age: 86400
  register: proof

- name: Databases that restores set aside more than 30 days ago go
  nordic.gitops.etcd_snapshot:
    state: discarded
    max_age: 2592000

- name: Say what is in it
  ansible.builtin.debug:
    msg: "{{ proof.content.objects | dict2items | map(attribute='value') | sum }} objects of {{ proof.content.taken }}"
"""

RETURN = r"""
snapshot:
  description: The snapshot that was saved or found.
  returned: when there is one
  type: dict
  contains:
    file:
      description: Its name.
      type: str
      sample: nightly-server1-1790000000
    path:
      description: Where it is on this server.
      type: str
    size:
      description: Its bytes.
      type: int
    taken:
      description: When k3s saved it.
      type: str
copy:
  description: Where its copy is, with O(s3).
  returned: with O(state=present) and O(s3)
  type: dict
  sample: {"file": "nightly-server1-1790000000.cms", "url": "https://s3.no-osl-1.example.no/cluster-snapshots/production/nightly-server1-1790000000.cms"}
content:
  description: What was read from the etcd that was restored from it.
  returned: when it was verified
  type: dict
  contains:
    digest:
      description: The SHA-256 of the database.
      type: str
    keys:
      description: How many keys Kubernetes has in it.
      type: int
    objects:
      description: How many objects of each resource.
      type: dict
      sample: {"configmaps": 12, "pods": 40, "secrets": 9}
    nodes:
      description: The nodes and their versions.
      type: dict
      sample: {"server1": "v1.30.5+k3s1"}
    revision:
      description: etcd's revision.
      type: int
    taken:
      description: The newest heartbeat of a node in it. The time by which a snapshot's age is judged, for nothing can alter it.
      type: str
    version:
      description: The newest version of its nodes.
      type: str
digest:
  description: The SHA-256 of the database, by which O(state=restored) knows it.
  returned: with O(state=staged)
  type: str
restored:
  description: Whether this server was restored from this very snapshot already.
  returned: with O(state=staged)
  type: bool
authority:
  description: The fingerprint of the CA of the cluster that the snapshot is of, as RV(nordic.gitops.k3s_info#module:ca_fingerprint).
  returned: with O(state=staged)
  type: str
set_aside:
  description: Where the database from before the restore is kept until V(discarded) is asked for. Null when there was none.
  returned: with O(state=restored)
  type: str
removed:
  description: The files, or the databases, that were deleted on this server.
  returned: with O(state=absent), O(state=pruned) and O(state=discarded)
  type: list
  elements: str
removed_copies:
  description: The files that were deleted in O(s3).
  returned: with O(state=absent) and O(state=pruned)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, DATA_DIR
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import S3_SPEC, Unsigned
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.snapshot_states import STATES, run

SPEC = dict(
    state=dict(type="str", choices=list(STATES), default="present"),
    name=dict(type="str"),
    file=dict(type="str"),
    max_age=dict(type="int"),
    keep=dict(type="int", default=5),
    verify=dict(type="bool", default=False),
    recipient=dict(type="str"),
    private_key=dict(type="str", no_log=True),
    digest=dict(type="str"),
    join=dict(type="bool", default=False),
    authority=dict(type="str"),
    again=dict(type="bool", default=False),
    folder=dict(type="path"),
    data_dir=dict(type="path", default=DATA_DIR),
    binary=dict(type="path", default=BINARY),
    s3=dict(type="dict", options=S3_SPEC),
)


def main():
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        required_if=[("state", "present", ["name"]), ("state", "pruned", ["name"]), ("state", "restored", ["digest"]),
                     ("state", "absent", ["name", "file"], True), ("state", "verified", ["name", "file"], True),
                     ("state", "staged", ["name", "file"], True), ("state", "discarded", ["name", "max_age"], True)],
        mutually_exclusive=[("name", "file")],
    )
    try:
        result = run(module.params["state"], module.params, module.check_mode)
    except Unsigned as unsigned:
        module.exit_json(**masked({"changed": False, "unsigned": unsigned.requests}))  # the action plugin runs it again with their URLs
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(**masked(result))


if __name__ == "__main__":
    main()
