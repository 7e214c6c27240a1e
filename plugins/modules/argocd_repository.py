#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_repository
short_description: Repositories of Argo CD and credential templates
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes, changes and deletes what Argo CD knows of repositories through the Kubernetes API, one of them or a list in one task.
  - A repository that Argo CD's command line or pages made is found by its URL and kept up to date where it is.
  - A password that changed is written. What the Secret holds is compared, and not what Argo CD's API says of it.
  - A repository that Applications still use is not deleted, unless a credential template covers it.
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
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import REPOSITORY
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.argument_spec("repositories", REPOSITORY.whole)


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           mutually_exclusive=[("url", "repositories")], required_one_of=[("url", "repositories")])
    run_module(module, REPOSITORY)


if __name__ == "__main__":
    main()
