#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_info
short_description: List Applications of Argo CD and their state
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Says of each Application where it comes from, at which commit it is, who synced it when, which images run, and what is out of sync and why.
  - Reads the Kubernetes API, with no login to Argo CD. All Applications of the namespace when none is chosen.
extends_documentation_fragment:
  - nordic.gitops.argocd_choice
  - nordic.gitops.connection
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
notes:
  - The state is what Argo CD saw last, at C(reconciled_at). M(nordic.gitops.argocd_sync) proves it to be new.
  - An Application that does not exist is not in the result. One that may not be read is an error.
  - Parameters and values of a source are left out, as they may hold secrets.
seealso:
  - module: nordic.gitops.argocd_sync
"""

EXAMPLES = r"""
- name: All Applications
  nordic.gitops.argocd_info:
  register: argocd

- name: Which of them are not at their commit, and why?
  ansible.builtin.debug:
    msg: "{{ argocd.applications | selectattr('sync', 'ne', 'Synced') | map(attribute='out_of_sync') | list }}"

- name: Who deployed the payment gateway, and when?
  nordic.gitops.argocd_info:
    name: production-payment-gateway
"""

RETURN = r"""
installed:
  description: Whether the cluster knows Argo CD's kinds at all.
  returned: success
  type: bool
applications:
  description: The Applications, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    namespace:
      description: Namespace.
      type: str
    deleted_at:
      description: Since when it is being deleted. Empty when it is not.
      type: str
    project:
      description: Project.
      type: str
    labels:
      description: Labels.
      type: dict
    applicationset:
      description: The ApplicationSet that makes it, empty for any other.
      type: str
    sources:
      description: Each source, with C(repository), C(revision), C(path), C(chart) and the C(commit) that Argo CD compared with.
      type: list
      elements: dict
    destination:
      description: C(cluster) and C(namespace).
      type: dict
    automated:
      description: Whether Argo CD syncs it by itself.
      type: bool
    sync:
      description: V(Synced), V(OutOfSync) or V(Unknown).
      type: str
    health:
      description: V(Healthy), V(Progressing), V(Degraded), V(Suspended), V(Missing) or V(Unknown).
      type: str
    reconciled_at:
      description: When Argo CD compared it last.
      type: str
    images:
      description: The images that run.
      type: list
      elements: str
    history:
      description: Each sync that Argo CD remembers, the newest first, with C(id), C(commits), C(by), C(started_at) and C(deployed_at).
      type: list
      elements: dict
    last_sync:
      description:
        - The last sync, with C(phase), C(commits), C(by), C(started_at), C(finished_at), and when it failed C(errors).
        - Empty before the first one and while one runs.
      type: dict
    running:
      description: The sync that runs, in words. Empty when none does.
      type: str
    out_of_sync:
      description: The objects that differ from the repository, with C(object) and C(reason).
      type: list
      elements: dict
      sample: [{"object": "Deployment.apps shop/web", "reason": "it differs from the repository"}]
    unhealthy:
      description: Each object that is not healthy, with what its Pods and events say. Empty when the Application is healthy.
      type: list
      elements: str
    conditions:
      description: What Argo CD warns of.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.info import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = options.CHOICE


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True, mutually_exclusive=[("name", "names")])
    run_module(module)


if __name__ == "__main__":
    main()
