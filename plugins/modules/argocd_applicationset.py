#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_applicationset
short_description: ApplicationSets of Argo CD
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Makes, changes and deletes ApplicationSets through the Kubernetes API, one of them or a list in one task.
  - Warns of one whose Applications, and their objects, are deleted when its generator finds nothing for once.
options:
  applicationsets:
    description: Several ApplicationSets, each with the options of one. Excludes them.
    type: list
    elements: dict
    suboptions:
      name: &name
        description: Name of the ApplicationSet. Required.
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
      generators: &generators
        description: What makes the parameters, each in Argo CD's own keys. Required.
        type: list
        elements: dict
      template: &template
        description: The Application that is made for each set of parameters, in Argo CD's own keys. Required.
        type: dict
      templatePatch: &templatePatch
        description: A patch of the template, itself a template.
        type: str
      goTemplate: &goTemplate
        description: Whether the template is one of Go.
        type: bool
      goTemplateOptions: &goTemplateOptions
        description: Options of Go's templates, such as V(missingkey=error).
        type: list
        elements: str
      strategy: &strategy
        description: In which order Applications are synced, in Argo CD's own keys.
        type: dict
      syncPolicy: &syncPolicy
        description: What becomes of Applications.
        type: dict
        suboptions:
          preserveResourcesOnDeletion:
            description: Whether the objects of an Application stay when it is deleted.
            type: bool
          applicationsSync:
            description: What may be done with Applications that are there.
            type: str
            choices: [create-only, create-update, create-delete, sync]
      preservedFields: &preservedFields
        description: What others may set on Applications.
        type: dict
        suboptions:
          annotations:
            description: Annotations.
            type: list
            elements: str
          labels:
            description: Labels.
            type: list
            elements: str
      ignoreApplicationDifferences: &ignoreApplicationDifferences
        description: Fields of Applications that others may set.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the Application, all when left out.
            type: str
          jsonPointers:
            description: Fields, as JSON pointers.
            type: list
            elements: str
          jqPathExpressions:
            description: Fields, as paths of jq.
            type: list
            elements: str
  name: *name
  namespace: *namespace
  labels: *labels
  annotations: *annotations
  generators: *generators
  template: *template
  templatePatch: *templatePatch
  goTemplate: *goTemplate
  goTemplateOptions: *goTemplateOptions
  strategy: *strategy
  syncPolicy: *syncPolicy
  preservedFields: *preservedFields
  ignoreApplicationDifferences: *ignoreApplicationDifferences
  deletion:
    description:
      - What becomes of the Applications of an ApplicationSet that is deleted.
      - V(refuse) fails while there are any, and names them.
      - V(cascade) deletes them, and with them what they made where they say so.
      - V(orphan) leaves the Applications in place.
    type: str
    choices: [refuse, cascade, orphan]
    default: refuse
extends_documentation_fragment:
  - nordic.gitops.argocd
  - nordic.gitops.argocd_api
  - nordic.gitops.connection
"""

EXAMPLES = r"""
- name: One Application for each environment
  nordic.gitops.argocd_applicationset:
    name: catalogue
    goTemplate: true
    goTemplateOptions: ["missingkey=error"]
    generators:
      - list:
          elements:
            - environment: staging
            - environment: production
    syncPolicy:
      preserveResourcesOnDeletion: true
    template:
      metadata:
        name: "catalogue-{{ '{{' }}.environment{{ '}}' }}"
      spec:
        project: shop
        source:
          repoURL: https://git.example.no/shop/manifests.git
          targetRevision: main
          path: "catalogue/{{ '{{' }}.environment{{ '}}' }}"
        destination:
          name: in-cluster
          namespace: "shop-{{ '{{' }}.environment{{ '}}' }}"
"""

RETURN = r"""
applicationsets:
  description: Each ApplicationSet, also of a run that failed.
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
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATIONSET
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.argument_spec("applicationsets", APPLICATIONSET.whole, deletion=options.DELETION)


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           required_together=[("argocd_server", "argocd_token")],
                           mutually_exclusive=[("name", "applicationsets")], required_one_of=[("name", "applicationsets")])
    run_module(module, APPLICATIONSET)


if __name__ == "__main__":
    main()
