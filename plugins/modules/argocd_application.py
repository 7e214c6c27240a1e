#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_application
short_description: Applications of Argo CD
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes, changes and deletes Applications through the Kubernetes API, one of them or a list in one task.
  - An Application that Argo CD can do nothing with is a failure here, with the reason. What can be known before is checked before anything is
    written (an unknown project or destination, a repository that the project does not permit, an invalid sync option), and the rest is what
    Argo CD says when it has looked at the Application for the first time.
  - Deleting says what becomes of the objects that the Application made.
options:
  applications:
    description: Several Applications, each with the options of one. Excludes them.
    type: list
    elements: dict
    suboptions:
      name: &name
        description: Name of the Application. Required.
        type: str
      namespace: &namespace
        description: Namespace of the Application, where Argo CD looks for it.
        type: str
        default: argocd
      labels: &labels
        description: Labels.
        type: dict
      annotations: &annotations
        description: Annotations.
        type: dict
      project: &project
        description: The project, V(default) when left out.
        type: str
      source: &source
        description: Where the manifests come from.
        type: dict
        suboptions: &one_source
          repoURL:
            description: URL of the repository.
            type: str
          targetRevision:
            description: Branch, tag or commit. For a chart its version. C(HEAD) when left out.
            type: str
          path:
            description: Folder in the repository.
            type: str
          chart:
            description: Name of a chart in a Helm repository, in the place of O(source.path).
            type: str
          ref:
            description: Name by which other sources use files of this one.
            type: str
          name:
            description: Name of this source.
            type: str
          tagPrefix:
            description: What stands before the version in the repository's tags.
            type: str
          helm:
            description: How Helm renders it, in Argo CD's own keys.
            type: dict
          kustomize:
            description: How Kustomize renders it, in Argo CD's own keys.
            type: dict
          directory:
            description: How plain manifests are read, in Argo CD's own keys.
            type: dict
          plugin:
            description: The plugin that renders it, in Argo CD's own keys.
            type: dict
      sources: &sources
        description: Several sources, in the place of O(source).
        type: list
        elements: dict
        suboptions: *one_source
      destination: &destination
        description: Where the objects go.
        type: dict
        suboptions:
          server:
            description: URL of the cluster's API server. The cluster that Argo CD runs in is C(https://kubernetes.default.svc).
            type: str
          name:
            description: Name of the cluster in Argo CD, in the place of O(destination.server).
            type: str
          namespace:
            description: Namespace for objects that name none.
            type: str
      syncPolicy: &sync_policy
        description: How and when it is synced.
        type: dict
        suboptions:
          automated:
            description:
              - Sync by itself. V({}) means on, with Argo CD's defaults. Left out it is off, and a switch that was on is taken away.
            type: dict
            suboptions:
              prune:
                description: Delete what is no longer in Git.
                type: bool
              selfHeal:
                description: Sync again when the cluster was changed.
                type: bool
              allowEmpty:
                description: Allow a sync that deletes everything.
                type: bool
              enabled:
                description: Whether it is on.
                type: bool
          syncOptions:
            description: Sync options, such as V(CreateNamespace=true).
            type: list
            elements: str
          retry:
            description: How a failed sync is tried again.
            type: dict
            suboptions:
              limit:
                description: How often.
                type: int
              refresh:
                description: Whether a newer commit is taken then.
                type: bool
              backoff:
                description: How long to wait in between.
                type: dict
                suboptions:
                  duration:
                    description: The first time, such as V(5s).
                    type: str
                  factor:
                    description: By which factor it grows.
                    type: int
                  maxDuration:
                    description: The longest time.
                    type: str
          managedNamespaceMetadata:
            description: What the namespace gets that V(CreateNamespace=true) makes.
            type: dict
            suboptions:
              labels:
                description: Labels.
                type: dict
              annotations:
                description: Annotations.
                type: dict
      ignoreDifferences: &ignore_differences
        description: Differences that do not count.
        type: list
        elements: dict
        suboptions:
          group:
            description: API group.
            type: str
          kind:
            description: Kind.
            type: str
            required: true
          name:
            description: Name.
            type: str
          namespace:
            description: Namespace.
            type: str
          jsonPointers:
            description: Fields, as JSON pointers.
            type: list
            elements: str
          jqPathExpressions:
            description: Fields, as paths of jq.
            type: list
            elements: str
          managedFieldsManagers:
            description: Field managers whose fields do not count.
            type: list
            elements: str
      info: &info
        description: What Argo CD's pages show of it.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name.
            type: str
            required: true
          value:
            description: Value.
            type: str
            required: true
      revisionHistoryLimit: &revision_history_limit
        description: How many revisions Argo CD remembers.
        type: int
  name: *name
  namespace: *namespace
  labels: *labels
  annotations: *annotations
  project: *project
  source: *source
  sources: *sources
  destination: *destination
  syncPolicy: *sync_policy
  ignoreDifferences: *ignore_differences
  info: *info
  revisionHistoryLimit: *revision_history_limit
  deletion:
    description:
      - What becomes of the objects of an Application that is deleted.
      - V(refuse) fails while it has any, and names them.
      - V(cascade) has Argo CD delete them, and waits until that is done.
      - V(orphan) leaves them in place, without the annotation by which Argo CD knew them.
    type: str
    choices: [refuse, cascade, orphan]
    default: refuse
  wait:
    description:
      - Whether to wait until Argo CD has looked at each Application as it is now. An Application with an error condition is a failure then.
      - It is not waited for a sync.
    type: bool
    default: true
extends_documentation_fragment:
  - nordic.gitops.argocd
  - nordic.gitops.argocd_api
  - nordic.gitops.connection
"""

EXAMPLES = r"""
- name: The payment gateway, as Git has it
  nordic.gitops.argocd_application:
    name: production-payment-gateway
    source:
      repoURL: https://git.example.no/platform/manifests.git
      targetRevision: main
      path: apps/payment-gateway/production
    destination:
      server: https://kubernetes.default.svc
      namespace: payment
    syncPolicy:
      automated:
        prune: true
        selfHeal: true
      syncOptions:
        - CreateNamespace=true

- name: One Application for each service
  nordic.gitops.argocd_application:
    applications:
      - name: catalogue
        project: shop
        source: {repoURL: "https://git.example.no/shop/manifests.git", path: catalogue}
        destination: {name: in-cluster, namespace: shop}
      - name: basket
        project: shop
        source: {repoURL: "https://git.example.no/shop/manifests.git", path: basket}
        destination: {name: in-cluster, namespace: shop}

- name: Hand the objects over to somebody else, without deleting one
  nordic.gitops.argocd_application:
    name: catalogue
    state: absent
    deletion: orphan
"""

RETURN = r"""
applications:
  description: Each Application, also of a run that failed.
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
    objects:
      description: The objects that it has in its destination. With O(state=absent).
      type: list
      elements: str
    released:
      description: The objects whose tracking annotation was taken away. With O(deletion=orphan).
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.argument_spec("applications", APPLICATION.whole, deletion=options.DELETION, wait=dict(type="bool", default=True))


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           required_together=[("argocd_server", "argocd_token")],
                           mutually_exclusive=[("name", "applications")], required_one_of=[("name", "applications")])
    run_module(module, APPLICATION)


if __name__ == "__main__":
    main()
