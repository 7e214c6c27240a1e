#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: reconcile
short_description: Make a Kubernetes cluster what a Git repository says
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Renders a folder of a Git repository at one commit, compares the result with the cluster, and writes only what differs.
    What somebody changed, scaled, deleted or added by hand goes back to what Git says, and what Git no longer has is pruned.
  - Every write is a server-side apply by the field manager C(nordic-gitops), several at once, in an order that lets each object
    find what it needs (CustomResourceDefinitions and Namespaces first). An unchanged cluster is recognised from one LIST per kind.
  - The objects of one reconcile form an ApplySet (KEP-3659). Its parent is the ConfigMap C(nordic-gitops-NAME) in
    O(inventory_namespace), which also keeps two runs of the same name from writing at the same time.
  - Hooks of Argo CD and of Helm run as in Argo CD, in phases and waves and with their delete policies, when a new commit changes something.
    RV(hooks) says what came of them. They are no members of the ApplySet.
options:
  name:
    description:
      - The name of this reconcile. It decides which objects belong together, and so what is pruned.
      - Never give two repositories or paths the same name in one cluster. The inventory records which it was, and a run from
        elsewhere that would prune is refused unless O(move) is set.
    type: str
    required: true
  repository:
    description:
      - The repository, as C(https://), C(http://), C(ssh://), C(git://) or C(file://) URL, as C(user@host:path), or as an absolute path.
        Needed unless O(from_application) is set.
      - No other transport is taken, no submodule is followed, and nothing of the repository is ever executed.
      - Credentials in the URL work, but O(git_username) and O(git_password) are the better place for them.
    type: str
    required: false # the fragment's is
  from_application:
    description:
      - An Application of Argo CD. The cluster becomes what a sync of it would make it, also where Argo CD itself is gone.
      - V(NAME) in the namespace C(argocd) or V(NAMESPACE/NAME), read from the cluster, or the path of a file that holds it and ends in
        C(.yaml), C(.yml) or C(.json).
      - It takes the place of O(revision), O(path), O(renderer), O(recurse), O(include), O(exclude), O(values_files),
        O(values), O(release_name) and O(namespace). The Application's C(helm), C(kustomize) and C(directory) are followed.
      - With O(repository), an Application of another repository is refused. It is needed with O(git_username), O(git_password) and
        O(git_ssh_key), and where an Application of the cluster names a folder of this machine, as whoever may write an Application could
        have the credentials sent elsewhere, or have read what only this task may read.
      - Of its C(syncPolicy), C(CreateNamespace=true) creates the namespace, C(Force=true) means O(replace_immutable=true) and
        C(automated.allowEmpty) means O(allow_empty=true), within O(prune_limit). Objects are pruned only where both C(automated.prune) and
        O(prune) are true.
      - Objects that carry the tracking id of this Application are taken over, and keep it, so Argo CD finds them as its own. What Git lost
        before the first run of this O(name) is not pruned, as no run of it has applied it.
      - After a run that changed something, Argo CD is asked to look at the Application anew. One that was gone and comes back with self-heal
        would otherwise go back to the commit that it knew before, for a moment.
      - Whatever a reconcile cannot do as Argo CD does is refused by the name of the field, such as several sources, a chart from a Helm
        repository, and plugins. What the Application's project forbids is not checked here.
    type: str
    version_added: 1.0.0
  path:
    description: The folder of the repository to render, relative to its root.
    type: str
    default: .
  renderer:
    description:
      - How the folder becomes objects.
      - V(auto) chooses as Argo CD does, V(helm) where there is a C(Chart.yaml), V(kustomize) where there is a C(kustomization.yaml),
        C(kustomization.yml) or C(Kustomization), and V(directory) otherwise.
      - V(directory) reads plain YAML and JSON files.
    type: str
    choices: [auto, directory, kustomize, helm]
    default: auto
  recurse:
    description: Whether V(directory) reads the folders below O(path) too.
    type: bool
    default: true
  include:
    description: Only files that match one of these patterns, relative to O(path), are read by V(directory). All when empty.
    type: list
    elements: str
    default: []
  exclude:
    description: Files that match one of these patterns, relative to O(path), are not read by V(directory).
    type: list
    elements: str
    default: []
  values_files:
    description: Values files for V(helm), relative to O(path), later ones win.
    type: list
    elements: str
    default: []
  values:
    description: Values for V(helm), stronger than O(values_files).
    type: dict
    default: {}
  release_name:
    description: The release's name for V(helm). O(name) when left out.
    type: str
  helm_binary:
    description: The helm program. Found on E(PATH) when left out.
    type: path
  kustomize_binary:
    description: The kustomize or kubectl program. Found on E(PATH) when left out, kustomize first.
    type: path
  render_limits:
    description:
      - How much of the repository one run takes. Beyond a limit the run is refused, with the file and the limit.
      - 5,000 objects of a real team come to less than a tenth of them.
    type: dict
    suboptions:
      files:
        description: Files, 100000 when left out.
        type: int
      size:
        description: MiB of the files together, and MiB that helm or kustomize write, 64 when left out.
        type: int
      values:
        description: Keys, values, lists and mappings in all manifests together, 2000000 when left out. YAML aliases count as often as they stand.
        type: int
      seconds:
        description: Seconds of reading, and of helm or kustomize, 120 when left out.
        type: int
      memory:
        description: MiB of memory that helm or kustomize may take, 1024 when left out.
        type: int
  namespace:
    description: The namespace for namespaced objects that state none. Without it such an object is an error.
    type: str
  allowed_kinds:
    description:
      - The kinds that the repository may hold, as C(ConfigMap) or C(Deployment.apps), or a pattern such as C(*.networking.k8s.io). All when empty.
      - Whatever else Git holds, or would be pruned, refuses the run before anything is written.
    type: list
    elements: str
    default: []
  allowed_namespaces:
    description:
      - The namespaces that the repository may put objects into, or patterns such as V(shop-*). All when empty.
      - With it, cluster-scoped objects are refused unless O(allowed_kinds) names their kinds.
    type: list
    elements: str
    default: []
  inventory_namespace:
    description: The namespace of the ConfigMap that keeps the inventory. It must exist.
    type: str
    default: default
  adopt:
    description:
      - What to do about an object that Git has, and that exists without belonging to this reconcile.
      - V(unowned) takes it over unless it belongs to another reconcile, to a controller, or to Argo CD, Flux, Helm, kapp or cli-utils.
      - V(never) refuses the run and names the object.
      - V(always) takes over even what belongs to others.
    type: str
    choices: [never, unowned, always]
    default: unowned
  prune:
    description:
      - Whether to delete objects of this reconcile that Git no longer has.
      - Nothing is pruned after any error, while an object is not healthy (with O(wait=true)), when it was copied rather than applied,
        or when an annotation says to keep it (C(nordic.gitops/prune) or C(kustomize.toolkit.fluxcd.io/prune) V(disabled),
        C(argocd.argoproj.io/sync-options) V(Prune=false), C(helm.sh/resource-policy) V(keep)).
    type: bool
    default: true
  prune_limit:
    description:
      - How much one run may prune or replace, as a number of objects or as a percentage of those of this reconcile in the cluster.
        The run is refused beyond it.
      - Up to 10 objects are always within a percentage other than V(0%).
    type: str
    default: 50%
  prune_protected:
    description:
      - Whether CustomResourceDefinitions, Namespaces, and Applications and ApplicationSets of Argo CD are pruned too. Each takes everything
        that depends on it along.
    type: bool
    default: false
  allow_empty:
    description: Whether to allow an empty render, which may prune everything.
    type: bool
    default: false
  allow_rollback:
    description:
      - Whether, with O(verify_signatures), a branch or tag may lead to a commit that does not have the one enforced last in its history.
      - The signature of an old commit is as good as that of the newest. Without this option a server that shows an old state of the branch,
        or another repository of the same signer, is refused. A full commit as O(revision) is always taken at its word.
      - Without O(verify_signatures) a branch that leads back to an older commit is followed, with a warning, unless this option is set.
    type: bool
    default: false
  on_conflict:
    description:
      - What to do about a field that Git sets and another controller holds with another value.
        The fields of a person's tool (C(kubectl), C(k9s), Lens) are no conflict, they are drift.
      - V(force) takes the field.
      - V(fail) refuses the run before anything is written and lists object, field and manager.
      - V(keep) leaves the field to the other manager.
    type: str
    choices: [force, fail, keep]
    default: force
  replace_immutable:
    description:
      - Whether an object is deleted and created again when Git changes an immutable field of it.
      - The annotation C(argocd.argoproj.io/sync-options) V(Replace=true) on an object allows it for that object alone.
        Namespaces and CustomResourceDefinitions are never replaced.
      - Where data may be deleted with an object, only the annotation allows it. These are PersistentVolumeClaims, PersistentVolumes, StatefulSets
        with C(persistentVolumeClaimRetentionPolicy.whenDeleted) V(Delete), objects that own PersistentVolumeClaims, and custom resources with a
        finalizer.
      - An object is replaced only when nothing but immutable fields is in the way, when it belongs to this reconcile and nothing
        says that it must not be deleted, and when the server's dry run accepts the new object. If the creation fails all the
        same, the old object is put back.
    type: bool
    default: false
  move:
    description:
      - Whether this O(name) may move to another repository, O(path) or O(namespace) than the inventory records. Without it such a
        run is refused when it would prune, because another repository, path or namespace has created these objects.
    type: bool
    default: false
  expect:
    description:
      - The RV(plan_id) of a plan that check mode showed. The run applies just that plan, or is refused when Git or the cluster
        changed since. So a plan can be shown, approved and then applied, as in a workflow of AWX.
    type: str
  verify:
    description:
      - V(auto) proves from the LISTs that an object is in sync, and asks the server's dry run only where that is not possible.
      - V(full) asks the server's dry run about every object. It finds what no list shows, such as an admission webhook that was
        changed since.
    type: str
    choices: [auto, full]
    default: auto
  wait:
    description: Whether to wait until every object is healthy, and until pruned objects are gone. Check mode never waits.
    type: bool
    default: true
  wait_timeout:
    description: How long to wait, in seconds, for health, for a pruned object to go, and for another run of the same name.
    type: int
    default: 300
  health_rules:
    description:
      - How a kind says that it is healthy, as CEL expressions with the names and the meaning of Flux' C(healthCheckExprs). A rule takes the place
        of the collection's own for that kind. Every other kind is judged by the rules in the collection's C(docs/health.md).
      - An expression may use C(apiVersion), C(kind), C(metadata), C(spec), C(status), and C(data). A field that the object does not have
        makes it false. Each evaluation is bounded to 1 second.
      - An object that is being deleted, or whose C(status.observedGeneration) is not its generation, is judged without the rule.
    type: list
    elements: dict
    default: []
    suboptions:
      api_version:
        description: The kind's C(apiVersion). The rule holds for all versions of the group.
        type: str
        required: true
        aliases: [apiVersion]
      kind:
        description: The kind.
        type: str
        required: true
      inProgress:
        description: True while the controller is at work. Asked first.
        type: str
      failed:
        description: True when only a person can mend it. Asked second.
        type: str
      current:
        description: True when the object is healthy. Asked last. While no expression is true, the object is in progress.
        type: str
        required: true
extends_documentation_fragment:
  - nordic.gitops.git
  - nordic.gitops.connection
attributes:
  check_mode:
    support: full
    description: Says what a run would do, checked by the server's dry run. What cannot be checked before other objects exist says so.
  diff_mode:
    support: full
    description: The fields that Git sets, before and after, one diff for each object. Values of Secrets are masked.
  idempotent:
    support: full
    description: A second run of the same commit writes nothing.
notes:
  - The user needs the verbs get, list, create, patch, and delete for the kinds in the repository, watch with O(wait=true), and the same
    for ConfigMaps in O(inventory_namespace). The guide in the collection's folder C(docs) has a Role that works.
requirements:
  - python >= 3.9
  - cel-python >= 0.4, with O(health_rules)
seealso:
  - plugin: nordic.gitops.git
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Bring the cluster to what the branch main says, and wait until it is healthy
  nordic.gitops.reconcile:
    name: shop
    repository: https://git.example.no/platform/manifests.git
    revision: main
    path: clusters/production/shop

- name: Wait for a kind whose status is described by a rule of your own
  nordic.gitops.reconcile:
    name: shop
    repository: https://git.example.no/platform/manifests.git
    revision: main
    path: clusters/production/shop
    health_rules:
      - apiVersion: example.com/v1
        kind: Database
        inProgress: status.stage in ['restoring', 'replaying']
        failed: status.stage == 'lost' || has(status.failure)
        current: status.stage == 'serving' && status.replicas >= spec.replicas

- name: See what a tag would change, object by object
  nordic.gitops.reconcile:
    name: shop
    repository: https://git.example.no/platform/manifests.git
    revision: v2.4.0
    path: clusters/production/shop
  check_mode: true
  diff: true

- name: A Helm chart in the repository, in a namespace of its own, never more than 20 objects pruned
  nordic.gitops.reconcile:
    name: web
    repository: https://git.example.no/platform/manifests.git
    path: charts/web
    namespace: web
    values_files:
      - values-production.yaml
    values:
      replicas: 3
    prune_limit: "20"

- name: Only commits signed by the release team, and never take a field from another controller
  nordic.gitops.reconcile:
    name: payments
    repository: ssh://git@git.example.no/platform/manifests.git
    git_ssh_key: /etc/nordic/deploy_key
    git_ssh_known_hosts: /etc/nordic/known_hosts
    verify_signatures: true
    trusted_keys: /etc/nordic/allowed_signers
    path: clusters/production/payments
    on_conflict: fail

- name: What the Application of Argo CD would make of the cluster, while Argo CD itself is gone
  nordic.gitops.reconcile:
    name: payment-gateway
    from_application: /srv/backup/production-payment-gateway.yaml
"""

RETURN = r"""
commit:
  description: The full id of the commit that was enforced. Null when the run failed before the revision was found.
  returned: always
  type: str
  sample: 3f786850e387550fdab836ed7e6dc881de23001b
signer:
  description: Who signed the commit, when O(verify_signatures) is set.
  returned: always
  type: str
  sample: release@example.no SHA256:uNiVztksCsDhcc0u9e8BrqzOYTNi0iXgKkxFDBXQmIs
renderer:
  description: The renderer that was used.
  returned: always
  type: str
  sample: kustomize
render_cached:
  description: Whether the folder was unchanged since an earlier run, and so not rendered again.
  returned: always
  type: bool
plan_id:
  description: Identifies what the run would do, or did, to which objects. O(expect) takes it. Null when the run failed before it had a plan.
  returned: always
  type: str
  sample: 8c9d1f0b5a6e4d3c2b1a0f9e8d7c6b5a
sandbox:
  description:
    - The sandbox that kustomize or helm ran in, V(bubblewrap), V(landlock), V(mount namespace), or V(none) where O(allow_unsandboxed) names it.
    - Empty when neither was run.
    - That of Git is RV(git_sandbox).
  returned: always
  type: str
  sample: landlock
git_sandbox:
  description: The sandbox that Git ran in, with the same values as RV(sandbox).
  returned: always
  type: str
  sample: landlock
counts:
  description: Objects by operation.
  returned: always
  type: dict
  sample: {"created": 0, "configured": 2, "unchanged": 398, "pruned": 8, "skipped": 0, "failed": 0}
changes:
  description: Every object that is not simply unchanged, in the order of writing.
  returned: always
  type: list
  elements: dict
  contains:
    operation:
      description:
        - V(created), V(configured) or V(pruned) for what was done, in check mode for what would be done.
        - V(failed) for what the server refused.
        - V(skipped) for an object that would be pruned and is kept, and for what a failed run did not come to.
      type: str
    object:
      description: The object's C(group), C(kind), C(namespace) and C(name).
      type: dict
    reason:
      description: Why, with the field and both values where a field differs.
      type: str
      sample: .spec.replicas is 9, Git says 2
    source:
      description: File and line in the repository.
      type: str
      sample: cart/deployment.yaml:1
    unverified:
      description: In check mode, why the server could not be asked about this object.
      type: str
hooks:
  description:
    - The hooks that the run had to run, in check mode those that it would run, each once for every phase. Empty when there was no reason to run any.
    - A hook is no object of the inventory, so it is not in RV(counts) and RV(changes), and RV(in_sync) does not depend on it.
  returned: always
  type: list
  elements: dict
  contains:
    object:
      description: The object's C(group), C(kind), C(namespace) and C(name).
      type: dict
    phase:
      description: When it runs, V(PreSync), V(Sync), V(PostSync) or V(SyncFail).
      type: str
    wave:
      description: Its wave within the phase.
      type: int
    delete_policy:
      description: When it is deleted, of V(BeforeHookCreation), V(HookSucceeded) and V(HookFailed).
      type: list
      elements: str
    status:
      description:
        - V(Succeeded), V(Failed), or V(Running) where O(wait_timeout) was over before its end.
        - V(NotRun) for what the run did not come to, and for V(SyncFail) when nothing failed.
        - V(Planned) in check mode. V(Deleted) for one that an earlier run left which did not come to its end, and that Git no longer has.
      type: str
    message:
      description: Why it failed, with the events and the end of the logs, or what happens to the object that is there.
      type: str
    source:
      description: File and line in the repository.
      type: str
conflicts:
  description: Fields that Git sets and another controller holds with another value.
  returned: always
  type: list
  elements: dict
  contains:
    object:
      description: The object's C(group), C(kind), C(namespace) and C(name).
      type: dict
    field:
      description: The field's path, as the server writes it.
      type: str
    manager:
      description: The other field manager.
      type: str
dry_runs:
  description: How many objects the server's dry run had to be asked about.
  returned: always
  type: int
in_sync:
  description:
    - Whether the cluster is what Git says. A forced server-side apply would change nothing, and nothing is left to prune.
    - In check mode, whether it is so already. Never after a failure.
  returned: always
  type: bool
healthy:
  description: Whether every object is healthy. Null when that is not known, because objects were written with O(wait=false).
  returned: always
  type: bool
unhealthy:
  description: The objects that are not healthy.
  returned: always
  type: list
  elements: dict
  contains:
    object:
      description: The object's C(group), C(kind), C(namespace) and C(name).
      type: dict
    status:
      description: Its health, V(InProgress), V(Failed), V(Terminating), V(NotFound) or V(Unknown).
      type: str
    message:
      description: What it waits for, or what failed.
      type: str
still_there:
  description: Pruned objects that are still there, because a finalizer holds them.
  returned: always
  type: list
  elements: dict
  contains:
    group:
      description: The object's API group.
      type: str
    kind:
      description: The object's kind.
      type: str
    namespace:
      description: The object's namespace, empty for a cluster-scoped object.
      type: str
    name:
      description: The object's name.
      type: str
errors:
  description: What went wrong, one text for each error. Empty after a success.
  returned: always
  type: list
  elements: str
seconds:
  description: Seconds by stage, C(fetch), C(render), C(plan), C(apply), C(wait), C(prune) and C(hooks), of those that the run came to.
  returned: always
  type: dict
"""

import gc

from ansible_collections.nordic.gitops.plugins.module_utils import _kept_bytecode  # noqa: F401  pylint: disable=unused-import # first of all

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC, Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import HiddenType, masked, one_line
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import reconcile
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.report import result_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.source import Source

SPEC = dict(
    name=dict(type="str", required=True),
    from_application=dict(type="str"),
    path=dict(type="str", default="."),
    renderer=dict(type="str", choices=["auto", "directory", "kustomize", "helm"], default="auto"),
    recurse=dict(type="bool", default=True),
    include=dict(type="list", elements="str", default=[]),
    exclude=dict(type="list", elements="str", default=[]),
    values_files=dict(type="list", elements="str", default=[]),
    values=dict(type=HiddenType("dict"), default={}),
    release_name=dict(type="str"),
    helm_binary=dict(type="path"),
    kustomize_binary=dict(type="path"),
    render_limits=dict(type="dict", options=dict(
        files=dict(type="int"), size=dict(type="int"), values=dict(type="int"), seconds=dict(type="int"), memory=dict(type="int"))),
    namespace=dict(type="str"),
    allowed_kinds=dict(type="list", elements="str", default=[]),
    allowed_namespaces=dict(type="list", elements="str", default=[]),
    inventory_namespace=dict(type="str", default="default"),
    adopt=dict(type="str", choices=["never", "unowned", "always"], default="unowned"),
    prune=dict(type="bool", default=True),
    prune_limit=dict(type="str", default="50%"),
    prune_protected=dict(type="bool", default=False),
    allow_empty=dict(type="bool", default=False),
    allow_rollback=dict(type="bool", default=False),
    on_conflict=dict(type="str", choices=["force", "fail", "keep"], default="force"),
    replace_immutable=dict(type="bool", default=False),
    move=dict(type="bool", default=False),
    expect=dict(type="str"),
    verify=dict(type="str", choices=["auto", "full"], default="auto"),
    wait=dict(type="bool", default=True),
    wait_timeout=dict(type="int", default=300),
    health_rules=dict(type="list", elements="dict", default=[], options=dict(
        api_version=dict(type="str", required=True, aliases=["apiVersion"]),
        kind=dict(type="str", required=True),
        inProgress=dict(type="str"),
        failed=dict(type="str"),
        current=dict(type="str", required=True),
    )),
)

# Manifests and answers are trees that are kept to the end. Python would look through all of them for cycles after each 700 new objects.
NEW_OBJECTS = 100_000


ARGUMENTS = {**SPEC, **GIT_SPEC, **CONNECTION_SPEC, "repository": {**GIT_SPEC["repository"], "required": False}}
TOGETHER = dict(required_one_of=[("repository", "from_application")])


def run(params, check_mode, diff, progress):
    """The module's result, "failed" and "msg" in it where it failed. The action plugin calls it, too."""
    gc.set_threshold(NEW_OBJECTS)
    try:
        cluster = Cluster.of(params)
        notes: list[str] = []
        if params["from_application"]:
            from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.from_application import as_options, hand_back

            params, notes = as_options(params, cluster)
        options = Options.of(params, check_mode, diff)
        report = reconcile(Source.of(params), cluster, options, lambda text: progress(one_line(text)))
        if params["from_application"] and report.result()["changed"] and not check_mode:
            notes = [*notes, *hand_back(params["from_application"], cluster)]
    except Failure as failure:
        return {**masked(result_of(failure)), "failed": True, "msg": masked(str(failure))}
    return {**masked(report.result()), "warnings": masked([*notes, *report.notes])}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, **TOGETHER, supports_check_mode=True)
    # What it says meanwhile nobody could see: Ansible reads what a module prints when it has ended.
    result = run(module.params, module.check_mode, module._diff, lambda text: None)
    gc.freeze()  # this process ends: without it Python looks through everything once more, 24 ms of 310 for 401 objects
    if result.pop("failed", False):
        module.fail_json(**result)
    for note in result.pop("warnings"):
        module.warn(note)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
