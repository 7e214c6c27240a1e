#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_cluster
short_description: Clusters of Argo CD
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes, changes and deletes what Argo CD knows of the clusters that it deploys to, through the Kubernetes API, one of them or a list in one task.
  - A cluster is found by its server, whoever added it. Without O(config) it keeps the credentials that it has.
  - A cluster that Applications still use is not deleted.
options:
  clusters:
    description: Several clusters, each with the options of one. Excludes them.
    type: list
    elements: dict
    suboptions:
      name: &name
        description: Name of the cluster in Argo CD. Its server when left out for a new one.
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
      server: &server
        description: URL of the API server. Required.
        type: str
      namespaces: &namespaces
        description: The namespaces that Argo CD manages there, all when left out.
        type: list
        elements: str
      clusterResources: &clusterResources
        description: Whether it manages objects without a namespace, too, where O(namespaces) is set.
        type: bool
      project: &project
        description: The project that the cluster belongs to.
        type: str
      shard: &shard
        description: The shard of the application controller that manages it.
        type: int
      config: &config
        description: How Argo CD logs in.
        type: dict
        suboptions:
          username:
            description: User name.
            type: str
          password:
            description: Password.
            type: str
          bearerToken:
            description: Token of a service account.
            type: str
          tlsClientConfig:
            description: TLS.
            type: dict
            suboptions:
              insecure:
                description: Whether the server's certificate is not verified.
                type: bool
              serverName:
                description: Name in the server's certificate.
                type: str
              caData:
                description: The authority's certificate, in PEM format, as base64.
                type: str
              certData:
                description: Client certificate, in PEM format, as base64.
                type: str
              keyData:
                description: Private key of the client certificate, in PEM format, as base64.
                type: str
          awsAuthConfig:
            description: Login at EKS.
            type: dict
            suboptions:
              clusterName:
                description: Name of the cluster.
                type: str
              roleARN:
                description: Role.
                type: str
              profile:
                description: Profile.
                type: str
          execProviderConfig:
            description: A program that gets the credentials.
            type: dict
            suboptions:
              command:
                description: The program.
                type: str
              args:
                description: Its arguments.
                type: list
                elements: str
              env:
                description: Its environment.
                type: dict
              apiVersion:
                description: API version of what it prints.
                type: str
              installHint:
                description: What to do where it is missing.
                type: str
          disableCompression:
            description: Whether answers are not compressed.
            type: bool
  name: *name
  namespace: *namespace
  labels: *labels
  annotations: *annotations
  server: *server
  namespaces: *namespaces
  clusterResources: *clusterResources
  project: *project
  shard: *shard
  config: *config
extends_documentation_fragment:
  - nordic.gitops.argocd
  - nordic.gitops.argocd_api
  - nordic.gitops.connection
"""

EXAMPLES = r"""
- name: The cluster in Bergen
  nordic.gitops.argocd_cluster:
    name: bergen
    server: https://bergen.example.no:6443
    labels:
      environment: production
    config:
      bearerToken: "{{ vault_bergen_token }}"
      tlsClientConfig:
        caData: "{{ bergen_ca_certificate }}"
"""

RETURN = r"""
clusters:
  description: Each cluster, also of a run that failed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its server.
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
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import CLUSTER
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.argument_spec("clusters", CLUSTER.whole)


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           required_together=[("argocd_server", "argocd_token")],
                           mutually_exclusive=[("server", "clusters")], required_one_of=[("server", "clusters")])
    run_module(module, CLUSTER)


if __name__ == "__main__":
    main()
