#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_update
short_description: Set image tags, digests and chart versions in a manifest repository by one commit
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Changes the tag or digest of images, single values, and versions of chart dependencies in the files of a Git repository, and pushes
    the result as one commit. All other bytes of all files stay as they are, comments, quotes and line ends included.
  - It needs write access to that one repository and nothing else. It never talks to a cluster.
  - No work tree is made. When somebody else pushes meanwhile, the change is made again on top of theirs. When they changed the same value,
    the task stops and names both values.
  - When the branch already holds what is asked for, nothing is committed and the task reports C(ok).
options:
  images:
    description:
      - Images to set, by their name, wherever they stand in O(images[].files). In manifests that is C(image) of every container, init
        container and ephemeral container of any kind, in lists too. In a kustomization it is the entry of C(images) with this
        C(name) or C(newName).
      - Where the places of one image hold different values, the task refuses to guess. Select with O(images[].files) or
        O(images[].container), or use O(values).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The whole name of the image, with its registry where the manifests write it, without tag and digest.
        type: str
        required: true
      tag:
        description: The new tag. It is refused where a digest stands beside the old one, unless O(images[].digest) is given too.
        type: str
      digest:
        description: The new digest, such as C(sha256:) and 64 hexadecimal digits. Without O(images[].tag), an old tag is removed.
        type: str
      files:
        description: Files, or folders whose YAML and JSON files are searched, relative to the repository's root.
        type: list
        elements: str
        default: ['.']
      container:
        description: Only containers of this name.
        type: str
      add:
        description:
          - Whether to add an entry to C(images) of the kustomization that O(images[].files) names, where it has none for this image.
            Without it, an image that is nowhere is a failure.
        type: bool
        default: false
  values:
    description:
      - Single values to set, each by its file and path.
      - A value that is a secret is refused, as M(nordic.gitops.secrets_check) judges it, and is shown nowhere. Seal it with
        M(nordic.gitops.sealed_secret) instead.
    type: list
    elements: dict
    default: []
    suboptions:
      file:
        description: The file in the repository.
        type: str
        required: true
      path:
        description:
          - The value's path, such as C(image.tag), C(spec.containers[0].image) or C(annotations["example.org/tag"]). It must exist.
        type: str
        required: true
      value:
        description: The new value. It is written in quotes where a reader would take it for a number, a date, a boolean or null.
        type: str
        required: true
      document:
        description: Which document of a file with several, counted from 0.
        type: int
  dependencies:
    description: Versions of the dependencies of Helm charts. C(Chart.yaml) and C(Chart.lock), with its digest, change in the same commit.
    type: list
    elements: dict
    default: []
    suboptions:
      chart:
        description: The folder of the chart in the repository.
        type: str
        default: .
      name:
        description: The name of the dependency, or its alias.
        type: str
        required: true
      version:
        description: The exact new version.
        type: str
        required: true
  author:
    description: Author and committer, as C(Name <address>).
    type: str
    required: true
  commit_message:
    description: The commit's message. C({summary}) stands for what changes, such as C(shop/web 1.4.1 -> 1.4.2).
    type: str
    default: Update {summary}
  trailers:
    description: Trailers at the end of the message, by their key, such as C(Signed-off-by) or C(Build).
    type: dict
    default: {}
  signing_key:
    description: Path of a private key that signs the commit, an OpenSSH key or an exported GPG key, without a passphrase.
    type: path
  review_branch:
    description:
      - Push to this branch instead, for a merge request. It is made anew from O(revision) each time.
      - A commit on it that this module did not make is never overwritten, the task refuses and names it.
    type: str
extends_documentation_fragment:
  - nordic.gitops.git
attributes:
  check_mode:
    description: Fetches and plans, and tells whether a real run would commit.
    support: full
  diff_mode:
    description: Shows the lines that change.
    support: full
  idempotent:
    description: A second run finds what it asks for and commits nothing.
    support: full
requirements:
  - detect-secrets >= 1.5, with O(values)
notes:
  - O(revision) is the branch that is changed, V(HEAD) for the repository's default branch. A tag or a commit is refused.
seealso:
  - module: nordic.gitops.reconcile
  - module: nordic.gitops.sealed_secret
  - module: nordic.gitops.secrets_check
"""

EXAMPLES = r"""
- name: Deploy the image that this pipeline has pushed
  nordic.gitops.image_update:
    repository: https://git.example.org/shop/manifests.git
    revision: main
    git_password: "{{ lookup('ansible.builtin.env', 'MANIFESTS_TOKEN') }}"
    author: Pipeline <pipeline@example.org>
    images:
      - name: registry.example.org/shop/web
        tag: 1.4.2
        files: [production]

- name: Set a value of a chart and a dependency's version, on a branch for review
  nordic.gitops.image_update:
    repository: ssh://git@git.example.org/shop/manifests.git
    git_ssh_key: /etc/ci/deploy_key
    git_ssh_known_hosts: /etc/ci/known_hosts
    author: Pipeline <pipeline@example.org>
    signing_key: /etc/ci/signing_key
    review_branch: update/cart
    commit_message: "Cart: {summary}"
    trailers:
      Build: "1742"
    values:
      - file: charts/cart/values.yaml
        path: image.tag
        value: "20261129"
    dependencies:
      - chart: charts/cart
        name: redis
        version: 18.1.0
"""

RETURN = r"""
commit:
  description: The full id of the commit that holds what was asked for. Empty in check mode where it would be made.
  returned: success
  type: str
base:
  description: The full id of the branch's commit that the change was made on.
  returned: success
  type: str
branch:
  description: The branch that holds the commit, without C(refs/heads/).
  returned: success
  type: str
places:
  description: Every place of what was asked for, also those that needed no change.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description: The file in the repository.
      type: str
    line:
      description: The line in it, counted from 1.
      type: int
    path:
      description: The path of the value.
      type: str
      sample: spec.template.spec.containers[0].image
    before:
      description: The value as it was.
      type: str
    after:
      description: The value as it is now.
      type: str
    changed:
      description: Whether it had to be changed.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC, Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._image_update import update
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.options import SPEC, request_of, secrets


NOT_SHOWN = "NOT_LOGGING_PARAMETER"  # as Ansible writes it for an option with no_log


class Module(AnsibleModule):
    """Writes no value to the host's log: only the file that it is for tells whether it is a secret, and it is refused then."""

    def _log_invocation(self):
        values = self.params["values"]
        self.params["values"] = [{**one, "value": NOT_SHOWN} for one in values]
        super()._log_invocation()
        self.params["values"] = values


def main():
    module = Module(argument_spec=dict(**SPEC, **GIT_SPEC), supports_check_mode=True)
    try:
        request = request_of(module.params)
        with Mirror(Source.of(module.params)) as mirror:
            result = update(mirror, request, module.check_mode, module.debug)
    except Failure as failure:
        module.no_log_values.update([*getattr(failure, "values", ()), *(secrets(module.params) if module.params["values"] else ())])
        module.fail_json(msg=str(failure), **failure.details)
    module.exit_json(diff=masked([{"prepared": result.plan.diff()}] if module._diff else []), **masked(result.as_dict()))


if __name__ == "__main__":
    main()
