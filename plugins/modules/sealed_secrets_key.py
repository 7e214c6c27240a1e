#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sealed_secrets_key
short_description: Back up, restore, rotate, retire and verify the keys of Sealed Secrets
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Keeps the private keys of a Sealed Secrets controller, without which no SealedSecret in Git can be opened, in a file that Ansible
    Vault encrypts.
  - It never deletes a key, neither from the cluster nor from a backup.
options:
  state:
    description:
      - V(present) changes nothing. It fails where there is no key, or where another one than O(sealing_key) seals, and returns all
        keys with their age, whether they are in the O(backup), and how many values each of them opens.
      - V(backed_up) adds every key of the cluster to O(backup). Keys that it holds already stay in it.
      - V(restored) creates every key of O(backup) in the cluster, and restarts a controller that runs, so that it loads them. Before the
        controller is installed is the best time, because a controller that finds no key makes one of its own.
      - V(rotated) makes a new key, writes it into O(backup) where one is given, and restarts the controller. It fails unless the controller
        seals with the new key in time. Values that older keys sealed can still be opened.
      - V(retired) has the controller no longer load O(keys). Each has to be in O(backup), must not be the one that seals, and must open
        nothing in the cluster and in O(repository). The Secrets stay in the cluster, with another label.
      - V(verified) fails unless every SealedSecret in O(repository) and in the cluster opens with O(backup), and unless O(backup) holds
        every key of the cluster. It names file, line, object and key of each value that does not open. Without a connection to a cluster,
        only the repository is looked at.
    type: str
    choices: [present, backed_up, restored, rotated, retired, verified]
    default: present
  backup:
    description:
      - The backup, a List of Secrets encrypted by Ansible Vault. C(ansible-vault view) shows it, and C(kubectl create) takes what that shows.
      - V(restored), V(retired) and V(verified) also read one that is not encrypted, as C(kubectl get secret --output yaml) writes it.
      - Needed with O(state=backed_up), O(state=restored), O(state=retired) and O(state=verified).
    type: path
  keys:
    description: Names or fingerprints of the keys to retire.
    type: list
    elements: str
    default: []
  key_prefix:
    description: The prefix of the keys' names. A key with just this name, and without a label, is of an old controller and counts too.
    type: str
    default: sealed-secrets-key
  sealing_key:
    description: Fingerprint of the key that is meant to seal. With O(state=present) and O(state=restored), another one is a failure.
    type: str
  older_than:
    description: With O(state=rotated), how many days old the key that seals has to be for a new one to be made.
    type: int
    default: 0
  vault_password:
    description: Password to encrypt and decrypt O(backup) with. Those of the run, C(--vault-password-file) and the like, when left out.
    type: str
  vault_id:
    description: Vault ID to encrypt O(backup) with. The first one of the run when left out.
    type: str
  repository:
    description: A Git repository of manifests whose SealedSecrets count too, rendered as M(nordic.gitops.reconcile) renders it.
    type: str
    required: false
  path:
    description: The folder of O(repository), relative to its root.
    type: str
    default: "."
  namespace:
    description: The namespace of objects in O(repository) that state none.
    type: str
extends_documentation_fragment:
  - nordic.gitops.sealing
  - nordic.gitops.git
  - nordic.gitops.connection
attributes:
  check_mode:
    support: full
    description: Says what a run would do.
  diff_mode:
    support: none
    description: There is nothing to show that is no secret.
  idempotent:
    support: partial
    details: O(state=rotated) makes a new key each time unless O(older_than) is set.
    description: A second run changes nothing.
seealso:
  - module: nordic.gitops.sealed_secret
  - module: nordic.gitops.reconcile
"""

EXAMPLES = r"""
- name: Back up the keys, after each renewal
  nordic.gitops.sealed_secrets_key:
    state: backed_up
    backup: vault/sealing-keys.yaml

- name: Everything in Git opens with the backup
  nordic.gitops.sealed_secrets_key:
    state: verified
    backup: vault/sealing-keys.yaml
    repository: https://git.example.no/platform/manifests.git
    path: clusters/production

- name: Bring the keys into a new cluster, before the controller is installed
  nordic.gitops.sealed_secrets_key:
    state: restored
    backup: vault/sealing-keys.yaml

- name: A new key each quarter, in the backup before it seals anything
  nordic.gitops.sealed_secrets_key:
    state: rotated
    older_than: 90
    backup: vault/sealing-keys.yaml

- name: Which keys are there, how old are they, and what do they open
  nordic.gitops.sealed_secrets_key:
    backup: vault/sealing-keys.yaml
  register: keys
"""

RETURN = r"""
sealing_keys:
  description: The keys of the cluster, oldest first. Not with O(state=verified).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Secret.
      type: str
    fingerprint:
      description: Of the public key, as C(ssh-keygen -l) writes it.
      type: str
    active:
      description: Whether the controller loads it.
      type: bool
    seals:
      description: Whether it is the one that seals now.
      type: bool
    created:
      description: When its certificate begins.
      type: str
    age_days:
      description: The same in days.
      type: int
    ends:
      description: When its certificate ends. Its values can be opened after that too.
      type: str
    values:
      description: How many values in the cluster and in O(repository) it opens. Counted with O(state=present).
      type: int
    in_backup:
      description: Whether O(backup) holds it. Null without a backup.
      type: bool
sealing:
  description: Fingerprint of the key that seals now.
  returned: success
  type: str
missing_from_backup:
  description: The keys that are in no backup. Null without a backup.
  returned: success
  type: list
  elements: str
unopened:
  description: The values that no key of the cluster opens. With O(state=present).
  returned: success
  type: list
  elements: str
controllers:
  description: Every controller of Sealed Secrets in the cluster, with C(name), C(namespace) and the C(namespaces) it watches, none for all.
  returned: when O(state=present), also when there is no key yet
  type: list
  elements: dict
openshift:
  description: Whether the cluster is OpenShift.
  returned: when O(state=present), also when there is no key yet
  type: bool
arguments:
  description: The arguments of the controller's Deployment by name. Null where there is none.
  returned: success
  type: dict
added:
  description: The keys that were added to O(backup).
  returned: when O(state=backed_up)
  type: list
  elements: str
restored:
  description: The keys that were created in the cluster.
  returned: when O(state=restored)
  type: list
  elements: str
rotated:
  description: The new key. Null where the old one is young enough, and in check mode.
  returned: when O(state=rotated)
  type: str
retired:
  description: The keys that are no longer loaded.
  returned: when O(state=retired)
  type: list
  elements: str
verified:
  description: How many values were tried.
  returned: when O(state=verified)
  type: int
sealed_secrets:
  description: The SealedSecrets that were tried, as C(namespace/name).
  returned: when O(state=verified)
  type: list
  elements: str
lost:
  description: The values that do not open, with file, line, object and key.
  returned: when O(state=verified)
  type: list
  elements: str
"""
