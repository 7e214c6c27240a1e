#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets_check
short_description: Refuse secrets that lie open in a manifest repository
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Looks for secrets in a checkout, or in each commit of a range, and fails when it finds one.
  - Private keys and tokens are found by the rules of C(detect-secrets). Values of C(Secret) objects, of templates of C(SealedSecret) objects,
    of environment variables and of Helm values are found by the structure of the file.
  - A CI pipeline (GitHub, Forgejo, Gitea, GitLab, Woodpecker) that holds a credential of a cluster, or runs a command that needs one, is a
    finding too. A pipeline commits to the manifest repository and nothing else.
  - Placeholders, such as C(${NAME}), C({{ template }}), C(<NAME>) and values that sops has encrypted, are no finding. Each value is judged
    by itself.
  - "A line with the comment C(pragma: allowlist secret) is passed over."
  - No result and no message holds the value of a finding.
options:
  path:
    description: The root folder of a Git checkout.
    type: path
    required: true
  commits:
    description:
      - A range of commits, such as C(origin/main..HEAD). Each commit is checked, and only the lines that it adds, so that a secret is found
        which a later commit removes again.
      - Without it the files are checked as they are in the work tree, whether they are committed or not.
    type: str
  exclude:
    description: Files or folders to pass over, as paths or shell patterns.
    type: list
    elements: str
    default: []
  allow_unsandboxed:
    description:
      - V(git), where this machine has no sandbox for it, which is bubblewrap, Landlock (Linux 5.13 or later), or root, and it may run without.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: The module changes nothing, so that check mode is the same.
    support: full
  diff_mode:
    description: Nothing changes.
    support: none
  idempotent:
    description: The module changes nothing.
    support: full
requirements:
  - git >= 2.32
  - detect-secrets >= 1.5
seealso:
  - module: nordic.gitops.image_update
"""

EXAMPLES = r"""
- name: Refuse a merge request that adds a secret in any of its commits
  nordic.gitops.secrets_check:
    path: "{{ playbook_dir }}"
    commits: origin/main..HEAD

- name: Check the whole tree, but for the fixtures of tests
  nordic.gitops.secrets_check:
    path: "{{ playbook_dir }}"
    exclude: [tests/fixtures]
"""

RETURN = r"""
findings:
  description: Every place where a secret lies open. The module fails when there is one.
  returned: always, unless the check itself could not be made
  type: list
  elements: dict
  contains:
    file:
      description: The file in the repository.
      type: str
    line:
      description: The line of the value, counted from 1.
      type: int
    what:
      description: What lies there, without the value.
      type: str
      sample: "Secret shop/db: data.password is not encrypted"
    commit:
      description: The full id of the commit that adds it, empty without O(commits).
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check import check_commits, check_files

SPEC = dict(
    path=dict(type="path", required=True),
    commits=dict(type="str"),
    exclude=dict(type="list", elements="str", default=[]),
    allow_unsandboxed=dict(type="list", elements="str", default=[]),
)
SHOWN = 20  # findings in the message; all of them are in the result


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    try:
        if params["commits"] is None:
            found = check_files(params["path"], params["exclude"], params["allow_unsandboxed"])
        else:
            found = check_commits(params["path"], params["commits"], params["exclude"], params["allow_unsandboxed"])
    except Failure as failure:
        module.fail_json(msg=str(failure), **failure.details)
    findings = [one.as_dict() for one in found]
    if found:
        more = [f"(+{len(found) - SHOWN} more)"] if len(found) > SHOWN else []
        module.fail_json(msg=masked("\n".join([
            f"{len(found)} secrets lie open. Seal or remove them, and change each one that was pushed already.", *map(str, found[:SHOWN]), *more])),
            findings=masked(findings))
    module.exit_json(changed=False, findings=masked(findings))


if __name__ == "__main__":
    main()
