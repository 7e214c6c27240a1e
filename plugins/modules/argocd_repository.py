#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_repository
short_description: Repositories of Argo CD, credential templates, certificates, known hosts and GPG keys
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes, changes and deletes what Argo CD knows of repositories through the Kubernetes API, one of them or a list in one task.
  - A repository that Argo CD's command line or pages made is found by its URL and kept up to date where it is.
  - A password that changed is written. What the Secret holds is compared, and not what Argo CD's API says of it.
  - A repository that Applications still use is not deleted, unless a credential template covers it.
  - Certificates, known hosts and GPG keys are entries of lists that Argo CD's command line and other tasks share. What others added stays.
options:
  repositories:
    description: Several repositories, each with the options of one. Excludes them.
    type: list
    elements: dict
    suboptions:
      name: &name
        description: How Argo CD's pages call the repository.
        type: str
      namespace: &namespace
        description: Namespace of Argo CD.
        type: str
        default: argocd
      labels: &labels
        description: Labels.
        type: dict
      annotations: &annotations
        description: Annotations.
        type: dict
      url: &url
        description: URL of the repository, or how the URLs begin that a credential template is for. Required.
        type: str
      type: &type
        description: What it is.
        type: str
        choices: [git, helm, oci]
        default: git
      template: &template
        description: Whether this is a credential template.
        type: bool
        default: false
      project: &project
        description: The project that the repository belongs to.
        type: str
      access: &access
        description: How Argo CD gets at the repository.
        type: dict
        suboptions:
          username:
            description: User name.
            type: str
          tlsClientCertData:
            description: Client certificate, in PEM format.
            type: str
          githubAppEnterpriseBaseUrl:
            description: URL of the API of GitHub Enterprise.
            type: str
          proxy:
            description: Proxy on the way to the repository.
            type: str
          noProxy:
            description: What is reached without the proxy.
            type: str
          password:
            description: Password or access token.
            type: str
          bearerToken:
            description: Bearer token.
            type: str
          sshPrivateKey:
            description: SSH private key, in PEM format.
            type: str
          tlsClientCertKey:
            description: Private key of the client certificate, in PEM format.
            type: str
          githubAppPrivateKey:
            description: Private key of a GitHub App, in PEM format.
            type: str
          gcpServiceAccountKey:
            description: Key of a Google Cloud service account, in JSON.
            type: str
          githubAppID:
            description: ID of the GitHub App.
            type: int
          githubAppInstallationID:
            description: ID of the GitHub App's installation.
            type: int
          depth:
            description: How many commits are fetched.
            type: int
          insecure:
            description: Whether the server's certificate is not verified.
            type: bool
          insecureIgnoreHostKey:
            description: Whether the server's SSH key is not verified.
            type: bool
          enableLfs:
            description: Whether files in Git LFS are fetched.
            type: bool
          enableOCI:
            description: Whether a Helm repository is an OCI registry.
            type: bool
          forceHttpBasicAuth:
            description: Whether credentials are sent before the server asks for them.
            type: bool
          useAzureWorkloadIdentity:
            description: Whether to log in by the workload identity of Azure.
            type: bool
  certificates:
    description:
      - TLS certificates of servers, or of the authorities that issued theirs, which Argo CD trusts beside those of its image.
      - Only the servers that are named are touched. O(name) to O(access) say nothing of them.
    type: list
    elements: dict
    version_added: 1.0.0
    suboptions:
      serverName:
        description: The server's name, without a port.
        type: str
        required: true
      certData:
        description:
          - One or several certificates in PEM format. Needed with O(state=present).
        type: str
  known_hosts:
    description:
      - SSH keys of servers, each a line of C(known_hosts) as C(ssh-keyscan) prints it.
      - A key of the same host and type is replaced, and everything else in the list stays.
      - With O(state=absent), a host, or a host and a type, is enough. A whole line removes only that key.
    type: list
    elements: str
    version_added: 1.0.0
  gpg_keys:
    description:
      - GPG public keys by which commits may be signed, each as C(gpg --export --armor) prints it.
      - With O(state=absent), the key's ID or fingerprint is enough.
    type: list
    elements: str
    version_added: 1.0.0
  name: *name
  namespace: *namespace
  labels: *labels
  annotations: *annotations
  url: *url
  type: *type
  template: *template
  project: *project
  access: *access
extends_documentation_fragment:
  - nordic.gitops.argocd
  - nordic.gitops.argocd_api
  - nordic.gitops.connection
"""

EXAMPLES = r"""
- name: The manifests, with a password from the vault
  nordic.gitops.argocd_repository:
    url: https://git.example.no/platform/manifests.git
    access:
      username: argocd
      password: "{{ vault_git_password }}"

- name: One key for all repositories of the shop
  nordic.gitops.argocd_repository:
    url: git@git.example.no:shop/
    template: true
    access:
      sshPrivateKey: "{{ vault_git_key }}"

- name: Trust the company's own authority, the Git server's SSH keys, and the key that signs releases
  nordic.gitops.argocd_repository:
    certificates:
      - serverName: git.example.no
        certData: "{{ company_ca }}"
    known_hosts:
      - git.example.no ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl
    gpg_keys:
      - "{{ release_key }}"

- name: No longer trust a key
  nordic.gitops.argocd_repository:
    gpg_keys: [F7842A5CEAA9C0B1]
    state: absent
"""

RETURN = r"""
repositories:
  description: Each repository, also of a run that failed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its URL.
      type: str
    namespace:
      description: Its namespace.
      type: str
    operation:
      description: V(created), V(configured), V(pruned), V(unchanged) or V(failed).
      type: str
    reason:
      description: Why.
      type: str
certificates:
  description: Each certificate, by the server's name, with the same keys as a repository.
  returned: when O(certificates) is set
  type: list
  elements: dict
known_hosts:
  description: Each key, by host and type, with the same keys as a repository.
  returned: when O(known_hosts) is set
  type: list
  elements: dict
gpg_keys:
  description: Each GPG key, by its ID, with the same keys as a repository.
  returned: when O(gpg_keys) is set
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import REPOSITORY
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.argument_spec("repositories", REPOSITORY.whole, **options.TRUST)


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           required_together=[("argocd_server", "argocd_token")],
                           mutually_exclusive=[("url", "repositories")], required_one_of=[("url", "repositories", *options.TRUST)])
    run_module(module, REPOSITORY)


if __name__ == "__main__":
    main()
