#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: argocd_sync
short_description: Sync Applications of Argo CD at exactly one commit
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Syncs Applications, or only waits for them, through the Kubernetes API and with no login to Argo CD.
  - Success means that each Application is synced and healthy at the commit that was asked for. A status counts only when Argo CD computed it
    after the question, and after the end of the sync. The status of an older commit is never taken for the result.
  - Failure comes as soon as it is certain, with the message of each object, the events, and the logs of hooks that failed.
options:
  operation:
    description:
      - V(sync) starts a sync, unless the last one was of this commit and nothing has changed since.
      - V(wait) starts nothing, and waits for what somebody else or Argo CD itself starts.
      - V(abort) ends the operation that runs, and waits until none is left.
    type: str
    choices: [sync, wait, abort]
    default: sync
  revision:
    description:
      - The full commit id, or the version of a chart, for Applications with one source.
      - When left out, Argo CD looks up the newest commit of the Application's own C(targetRevision) first, and that one is synced.
    type: str
  revisions:
    description: The same for an Application with several sources, one for each of them in their order.
    type: list
    elements: str
  prune:
    description: Delete what is no longer in the repository.
    type: bool
    default: false
  dry_run:
    description: Have Argo CD try the sync without changing anything.
    type: bool
    default: false
  resources:
    description:
      - Sync only these objects. Hooks do not run then.
      - Success then means that the sync succeeded at the commit. The rest of the Application is not looked at.
    type: list
    elements: dict
    suboptions:
      group:
        description: API group. Empty for the core group.
        type: str
      kind:
        description: Kind.
        type: str
        required: true
      name:
        description: Name.
        type: str
        required: true
      namespace:
        description: Namespace.
        type: str
  syncOptions:
    description: Sync options of this sync, such as V(ServerSideApply=true), in the place of the Application's own.
    type: list
    elements: str
  retry:
    description: How this sync is tried again, in the place of the Application's own. It is always the same commit that is tried again.
    type: dict
    suboptions:
      limit:
        description: How often.
        type: int
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
  abort:
    description: End an operation that runs for another commit, instead of waiting for its end.
    type: bool
    default: false
  hard_refresh:
    description: Have Argo CD render the manifests anew, whatever it has in its cache.
    type: bool
    default: false
  health:
    description: Wait until the Application is healthy, too.
    type: bool
    default: true
  children:
    description:
      - Wait for the Applications below each Application, too, to the last level, until each is synced and healthy at its own newest commit. These
        are Applications that it has made itself, and those of its ApplicationSets.
      - Children are never synced by this module. One that nobody syncs is a failure.
      - Without meaning for O(dry_run), O(resources) and O(operation=abort).
    type: bool
    default: true
    version_added: 1.0.0
  wait_timeout:
    description: Timeout for all of it, in seconds.
    type: int
    default: 300
extends_documentation_fragment:
  - nordic.gitops.argocd_choice
  - nordic.gitops.argocd_api
  - nordic.gitops.connection
attributes:
  check_mode:
    support: partial
    description: Says what a run would do.
    details: It speaks from what Argo CD saw last. Nothing is written, so a commit that it has not seen yet is not known.
  diff_mode:
    support: none
    description: Argo CD makes the changes. RV(applications[].objects) has what was done with each object.
  idempotent:
    support: full
    description: An Application that was synced at this commit and has not changed since is not synced again.
notes:
  - An Application that Argo CD syncs by itself goes back to its branch at once, so another commit than the branch's is refused.
  - An operation for the same commit that runs already, such as one of auto-sync, is waited for.
  - An operation for another commit that has failed and is being tried again is a failure at once, unless O(abort=true).
  - When the time is up, the operation goes on. O(operation=abort) ends it.
seealso:
  - module: nordic.gitops.argocd_application
  - module: nordic.gitops.argocd_info
"""

EXAMPLES = r"""
- name: The payment gateway at the commit that the pipeline has just pushed
  nordic.gitops.argocd_sync:
    name: production-payment-gateway
    revision: "{{ pushed.commit }}"

- name: The root of all Applications, and every Application below it
  nordic.gitops.argocd_sync:
    name: production-payment-gateway
    operation: wait

- name: Wait until Argo CD has brought all Applications of the team to the newest commit by itself
  nordic.gitops.argocd_sync:
    label_selector: team=shop
    operation: wait
    wait_timeout: 600

- name: Sync what an ApplicationSet makes, and delete what is no longer in the repository
  nordic.gitops.argocd_sync:
    applicationset: shop
    prune: true

- name: Would it be accepted?
  nordic.gitops.argocd_sync:
    name: production-payment-gateway
    dry_run: true

- name: Only one Deployment
  nordic.gitops.argocd_sync:
    name: production-payment-gateway
    resources:
      - group: apps
        kind: Deployment
        name: payment-gateway

- name: End a sync that hangs
  nordic.gitops.argocd_sync:
    name: production-payment-gateway
    operation: abort
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
    parent:
      description: The Application that this one is a child of, empty for those that the task means.
      type: str
    outcome:
      description: V(synced), V(unchanged), V(dry_run), V(aborted) or V(failed).
      type: str
    message:
      description: Why it failed, or which operation was ended.
      type: str
    revision:
      description: The commit that it is synced at, for an Application with one source.
      type: str
    revisions:
      description: The commit of each source.
      type: list
      elements: str
    newer_revisions:
      description: The commit of each source that the branch has by now, when that is a later one.
      type: list
      elements: str
    sync:
      description: Argo CD's sync status.
      type: str
    health:
      description: Argo CD's health status.
      type: str
    started_at:
      description: When the sync of this task began.
      type: str
    finished_at:
      description: When the sync of this task ended.
      type: str
    objects:
      description: What the sync of this task did with each object.
      type: list
      elements: dict
      contains:
        object:
          description: Kind, namespace and name.
          type: str
        status:
          description: V(Synced), V(Pruned), V(PruneSkipped) or V(SyncFailed), and of a hook its phase.
          type: str
        message:
          description: What the server said.
          type: str
        hook:
          description: The phase that it is a hook of, empty for any other object.
          type: str
        failed:
          description: Whether this is why the sync failed.
          type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._argocd import options
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.sync import run_module
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC

SPEC = {**options.SYNC, **options.API}


def main():
    module = AnsibleModule(argument_spec=dict(**SPEC, **CONNECTION_SPEC), supports_check_mode=True,
                           required_together=[("argocd_server", "argocd_token")],
                           mutually_exclusive=[("name", "names"), ("revision", "revisions")],
                           required_one_of=[("name", "names", "label_selector", "applicationset")])
    run_module(module)


if __name__ == "__main__":
    main()
