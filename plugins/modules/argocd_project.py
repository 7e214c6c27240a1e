#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_project
short_description: Projects of Argo CD
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes, changes and deletes projects (AppProjects) through the Kubernetes API, one of them or a list in one task.
  - Tokens that Argo CD made for a role stay valid, also one that is made during the task. They go with their role only where O(revoke_tokens) says so.
  - Policies of roles are read before anything is written. Argo CD would deny every request for one that it cannot read.
  - A project that Applications still use, in whichever namespace, is not deleted.
options:
  projects:
    description: Several projects, each with the options of one. Excludes them.
    type: list
    elements: dict
    suboptions:
      name: &name
        description: Name of the project. Required.
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
      description: &description
        description: What it is for.
        type: str
      sourceRepos: &sourceRepos
        description: Repositories that its Applications may use. Patterns are allowed, V(!) in front of one forbids.
        type: list
        elements: str
      sourceNamespaces: &sourceNamespaces
        description: Namespaces beside Argo CD's own in which its Applications may be.
        type: list
        elements: str
      destinations: &destinations
        description: Where its Applications may deploy.
        type: list
        elements: dict
        suboptions:
          server:
            description: URL of the cluster's API server, or a pattern.
            type: str
          name:
            description: Name of the cluster, or a pattern.
            type: str
          namespace:
            description: Namespace, or a pattern.
            type: str
      clusterResourceWhitelist: &clusterResourceWhitelist
        description: Kinds without a namespace that are allowed.
        type: list
        elements: dict
        suboptions: &named_kind
          group:
            description: API group.
            type: str
            required: true
          kind:
            description: Kind.
            type: str
            required: true
          name:
            description: Name, or a pattern.
            type: str
      clusterResourceBlacklist: &clusterResourceBlacklist
        description: Kinds without a namespace that are forbidden.
        type: list
        elements: dict
        suboptions: *named_kind
      namespaceResourceWhitelist: &namespaceResourceWhitelist
        description: Kinds in namespaces that are allowed.
        type: list
        elements: dict
        suboptions: &any_kind
          group:
            description: API group.
            type: str
            required: true
          kind:
            description: Kind.
            type: str
            required: true
      namespaceResourceBlacklist: &namespaceResourceBlacklist
        description: Kinds in namespaces that are forbidden.
        type: list
        elements: dict
        suboptions: *any_kind
      roles: &roles
        description: Roles of the project.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the role.
            type: str
            required: true
          description:
            description: What it is for.
            type: str
          policies:
            description:
              - What the role may do, such as V(p, proj:shop:deploy, applications, sync, shop/*, allow).
            type: list
            elements: str
          groups:
            description: Groups of the identity provider that have the role.
            type: list
            elements: str
      syncWindows: &syncWindows
        description: When Applications may be synced, and when not.
        type: list
        elements: dict
        suboptions:
          kind:
            description: Whether the window allows or denies.
            type: str
            required: true
            choices: [allow, deny]
          schedule:
            description: When it opens, as a cron schedule.
            type: str
            required: true
          duration:
            description: How long it is open, such as V(90m).
            type: str
            required: true
          applications:
            description: Names of Applications, or patterns.
            type: list
            elements: str
          namespaces:
            description: Namespaces, or patterns.
            type: list
            elements: str
          clusters:
            description: Clusters, or patterns.
            type: list
            elements: str
          manualSync:
            description: Whether a sync that a person starts is allowed all the same.
            type: bool
          timeZone:
            description: The schedule's time zone, such as V(Europe/Oslo).
            type: str
          andOperator:
            description: Whether all of C(applications), C(namespaces) and C(clusters) have to match.
            type: bool
          description:
            description: What it is for.
            type: str
      orphanedResources: &orphanedResources
        description: Whether Argo CD looks for objects that no Application has.
        type: dict
        suboptions:
          warn:
            description: Whether it warns of them.
            type: bool
          ignore:
            description: Objects that do not count.
            type: list
            elements: dict
            suboptions:
              group:
                description: API group.
                type: str
              kind:
                description: Kind.
                type: str
              name:
                description: Name, or a pattern.
                type: str
      permitOnlyProjectScopedClusters: &permitOnlyProjectScopedClusters
        description: Whether only clusters of this project are allowed.
        type: bool
      destinationServiceAccounts: &destinationServiceAccounts
        description: Service accounts that Argo CD acts as.
        type: list
        elements: dict
        suboptions:
          server:
            description: URL of the cluster's API server, or a pattern.
            type: str
            required: true
          namespace:
            description: Namespace, or a pattern.
            type: str
          defaultServiceAccount:
            description: Name of the service account.
            type: str
            required: true
  name: *name
  namespace: *namespace
  labels: *labels
  annotations: *annotations
  description: *description
  sourceRepos: *sourceRepos
  sourceNamespaces: *sourceNamespaces
  destinations: *destinations
  clusterResourceWhitelist: *clusterResourceWhitelist
  clusterResourceBlacklist: *clusterResourceBlacklist
  namespaceResourceWhitelist: *namespaceResourceWhitelist
  namespaceResourceBlacklist: *namespaceResourceBlacklist
  roles: *roles
  syncWindows: *syncWindows
  orphanedResources: *orphanedResources
  permitOnlyProjectScopedClusters: *permitOnlyProjectScopedClusters
  destinationServiceAccounts: *destinationServiceAccounts
  revoke_tokens:
    description: Whether tokens are taken away together with a role that is no longer there.
    type: bool
    default: false
extends_documentation_fragment:
  - nordic.gitops.argocd
  - nordic.gitops.argocd_api
  - nordic.gitops.connection
"""

EXAMPLES = r"""
- name: The shop's team may deploy into its own namespaces
  nordic.gitops.argocd_project:
    name: shop
    description: The shop
    sourceRepos: ["https://git.example.no/shop/*"]
    destinations:
      - server: https://kubernetes.default.svc
        namespace: shop-*
    roles:
      - name: deploy
        policies:
          - p, proj:shop:deploy, applications, sync, shop/*, allow
        groups: [shop-developers]
    syncWindows:
      - kind: deny
        schedule: "0 16 * * 5"
        duration: 64h
        timeZone: Europe/Oslo
        applications: ["*"]

- name: Nothing may use the default project
  nordic.gitops.argocd_project:
    name: default
    sourceRepos: []
    destinations: []
"""

RETURN = r"""
projects:
  description: Each project, also of a run that failed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
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
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import PROJECT
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.argument_spec("projects", PROJECT.whole, revoke_tokens=dict(type="bool", default=False, no_log=False))


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           required_together=[("argocd_server", "argocd_token")],
                           mutually_exclusive=[("name", "projects")], required_one_of=[("name", "projects")])
    run_module(module, PROJECT)


if __name__ == "__main__":
    main()
