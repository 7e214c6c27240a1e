#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sealed_secret
short_description: Seal secrets into a file of a manifest repository, changing only what changed
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Writes a SealedSecret into a file, as C(kubeseal) makes it, or updates the one that is there. The controller of Sealed Secrets
    opens it in the cluster.
  - A value that did not change keeps its ciphertext, so Git shows a change only where a value changed. All other bytes of the file
    stay as they are, comments, order and quotes included.
  - Whether a value changed is known from a backup of the controller's keys (O(backup)), from a keyed fingerprint
    (O(fingerprint_key)), or from the live Secret where the cluster can be asked. Where none of them tells, the value is sealed anew
    and a warning says so.
  - The scope of a value is never widened unless O(allow_wider_scope) is set, and the annotations of the SealedSecret and of its
    template always agree with it.
  - No value is in any output, diff or temporary file.
options:
  state:
    description:
      - V(present) seals the given values into the file O(path).
      - V(resealed) seals everything that an older key sealed in O(path), which may be a folder, with the controller's current key.
        The values stay. It needs a O(backup) of the keys, or a connection that may read them in the cluster.
      - V(validated) fails and names every value in O(path), which may be a folder, that does not open, by a O(backup) where one is
        given, else by the controller's own word.
    type: str
    choices: [present, resealed, validated]
    default: present
  path:
    description:
      - The file. It is created where it does not exist.
      - It may hold several documents and Lists. The SealedSecret is found in it by O(name) and O(namespace), and added at its end
        where it is missing.
    type: path
    required: true
  name:
    description: Name of the SealedSecret. It may be left out where O(path) holds exactly one.
    type: str
  namespace:
    description:
      - Namespace of the SealedSecret. Without it the namespace that the file states counts.
      - The scopes V(strict) and V(namespace-wide) need a namespace from one of the two. That of the kubeconfig is never used.
    type: str
  scope:
    description:
      - Where the values can be opened, under the same name in the same namespace (V(strict)), under any name in the same namespace
        (V(namespace-wide)), or anywhere in the cluster (V(cluster-wide)).
      - The scope of the file when left out, V(strict) for a new one.
    type: str
    choices: [strict, namespace-wide, cluster-wide]
  data:
    description: The values by key, as text. Exactly these bytes are sealed, in UTF-8.
    type: dict
  data_base64:
    description: The values by key, as base64. For binary values.
    type: dict
  data_files:
    description: Files by key, whose content is the value, byte for byte.
    type: dict
  src:
    description:
      - A file with one or more Secrets to seal, as Kubernetes manifests. It may be encrypted by Ansible Vault.
      - Every document and every item of a List is sealed, or nothing is written.
    type: path
  type:
    description: Type of the Secret, such as V(kubernetes.io/tls).
    type: str
  immutable:
    description: Whether the Secret is immutable.
    type: bool
  labels:
    description: Labels of the Secret, added to those that are there.
    type: dict
  annotations:
    description: Annotations of the Secret, added to those that are there.
    type: dict
  template:
    description:
      - Further keys of the Secret as Go templates, which the controller fills with the values when it opens them.
      - A template that does not parse, or that names a key which is not there, is refused. So is a secret that lies open in it, or in
        O(labels) or O(annotations), as M(nordic.gitops.secrets_check) judges it.
    type: dict
  merge:
    description: Whether keys and templates of the file that are not given stay. Without it the SealedSecret holds what is given and nothing else.
    type: bool
    default: true
  allow_wider_scope:
    description: Whether the scope may be widened.
    type: bool
    default: false
  certificate:
    description:
      - The certificate to seal with, as a path or as a C(http) or C(https) URL. The controller's current one when left out.
      - The Service inside of a cluster is such a URL, C(http://sealed-secrets-controller.kube-system.svc:8080/v1/cert.pem).
      - Where a connection to a cluster is configured, a certificate of another key than its controller seals with is refused.
    type: str
  certificate_cache:
    description:
      - Folder where fetched certificates are kept. They are used, with a warning, while their source cannot be reached and until
        they expire. It must not be writable for other users.
    type: path
    default: ~/.cache/nordic.gitops/certificates
  allow_other_certificate:
    description: Whether O(certificate) may be of another key than the cluster's controller seals with.
    type: bool
    default: false
  backup:
    description:
      - Files with private keys of the controller, as M(nordic.gitops.sealed_secrets_key) or C(kubectl get secret --output yaml) writes
        them, or in PEM format. They may be encrypted by Ansible Vault.
    type: list
    elements: path
    default: []
  vault_password:
    description: Password for files encrypted by Ansible Vault. Those of the run, C(--vault-password-file) and the like, when left out.
    type: str
  fingerprint_key:
    description:
      - A secret of at least 16 characters, kept in Ansible Vault. With it, the annotation C(nordic.gitops/fingerprints) of the
        SealedSecret tells by a keyed hash whether a value changed, without any key of the controller and without a cluster.
      - Without the key nothing can be learned from the annotation.
    type: str
  wait:
    description:
      - Whether to wait until the cluster has the Secret, with these keys and values. For files that something else brings to the cluster.
    type: bool
    default: false
  wait_timeout:
    description: How long to wait, in seconds.
    type: int
    default: 120
extends_documentation_fragment:
  - nordic.gitops.sealing
  - nordic.gitops.connection
attributes:
  check_mode:
    support: full
    description: Says which values a run would seal.
  diff_mode:
    support: full
    description: The file before and after. Ciphertext is shortened, a value sealed anew is shown as C((sealed anew\)).
  idempotent:
    support: partial
    details: Where nothing tells whether a value changed, it is sealed anew.
    description: A second run with the same values changes no byte.
requirements:
  - detect-secrets >= 1.5, with O(template), O(labels) or O(annotations)
seealso:
  - module: nordic.gitops.sealed_secrets_key
  - module: nordic.gitops.secrets_check
  - plugin: nordic.gitops.seal
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Seal the password of the database
  nordic.gitops.sealed_secret:
    path: manifests/shop/db-pass.yaml
    name: db-pass
    namespace: shop
    data:
      password: "{{ vault_db_password }}"

- name: Seal offline, with a certificate from the repository, and tell by a fingerprint what changed
  nordic.gitops.sealed_secret:
    path: manifests/shop/api.yaml
    name: api
    namespace: shop
    certificate: manifests/sealing.pem
    fingerprint_key: "{{ vault_fingerprint_key }}"
    data:
      token: "{{ vault_api_token }}"
    template:
      config.ini: |
        [api]
        token = {{ '{{' }} .token {{ '}}' }}

- name: Seal a TLS certificate from files
  nordic.gitops.sealed_secret:
    path: manifests/shop/web-tls.yaml
    name: web-tls
    namespace: shop
    type: kubernetes.io/tls
    data_files:
      tls.crt: /etc/ssl/shop/fullchain.pem
      tls.key: /etc/ssl/shop/key.pem

- name: Seal every Secret of a file that Ansible Vault encrypts
  nordic.gitops.sealed_secret:
    path: manifests/shop/secrets.yaml
    src: vault/shop-secrets.yaml

- name: Everything in the repository opens
  nordic.gitops.sealed_secret:
    path: manifests
    state: validated

- name: Seal what older keys sealed with the current key
  nordic.gitops.sealed_secret:
    path: manifests
    state: resealed
    backup: [vault/sealing-keys.yaml]
"""

RETURN = r"""
path:
  description: The file, or the folder.
  returned: success
  type: str
secrets:
  description: Each SealedSecret.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    namespace:
      description: Its namespace.
      type: str
    scope:
      description: Its scope.
      type: str
    operation:
      description: V(created), V(configured) or V(unchanged). Not with O(state=validated).
      type: str
    sealed:
      description: Keys whose value was sealed anew.
      type: list
      elements: str
    kept:
      description: Keys that were given and whose ciphertext stayed. With O(state=present).
      type: list
      elements: str
    removed:
      description: Keys that were removed. With O(state=present).
      type: list
      elements: str
    proofs:
      description: By which proof it is known that a value did not change, V(private key), V(fingerprint) or V(live Secret). With O(state=present).
      type: dict
    file:
      description: The file. With O(state=resealed).
      type: str
    where:
      description: File and line. With O(state=validated).
      type: str
files:
  description: The files that were changed, relative to O(path) where it is a folder.
  returned: when O(state=resealed)
  type: list
  elements: str
certificate:
  description: The certificate that was sealed with, its C(fingerprint), C(not_after) and C(source).
  returned: when O(state=present) or O(state=resealed)
  type: dict
lost:
  description: The values that do not open, with file, line, name and key.
  returned: failure
  type: list
  elements: str
"""
