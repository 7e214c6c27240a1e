# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: git
short_description: Read files of a Git repository at one commit
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Returns the content of files, the listing of folders, or the commit that a revision means, from a repository by any transport,
    without a work tree on the controller.
  - All paths of one call are read at the same commit, even when somebody pushes in the middle.
  - A copy of the repository is kept in O(git_cache). A repository that has not changed costs one question to its server.
options:
  _terms:
    description:
      - Paths in the repository, relative to its root. The root itself is V(.).
      - Symbolic links are followed inside the repository, and refused where they lead out of it.
    type: list
    elements: str
    required: true
  result:
    description:
      - What to return for each path.
      - V(content) is the text of a file, which must be UTF-8. It is returned as it is stored, with its last line end.
      - V(base64) is a file of any kind, encoded.
      - V(listing) is the list of all files in a folder and the folders below it, as paths relative to that folder.
      - V(commit) is the full id of the commit that O(revision) means now, once it is certain that the path exists in it.
        To pin what several tasks read, look it up once and give it to them as O(revision).
    type: str
    choices: [content, base64, listing, commit]
    default: content
extends_documentation_fragment:
  - nordic.gitops.git
seealso:
  - module: nordic.gitops.reconcile
"""

EXAMPLES = r"""
- name: Read one manifest of the default branch
  ansible.builtin.debug:
    msg: "{{ lookup('nordic.gitops.git', 'apps/web.yaml', repository='https://git.example.com/acme/platform.git') | from_yaml }}"

- name: Pin the commit of a branch, then read two files at it
  ansible.builtin.set_fact:
    web: "{{ query('nordic.gitops.git', 'apps/web.yaml', 'apps/api.yaml', repository=platform, revision=pinned) }}"
  vars:
    platform: https://git.example.com/acme/platform.git
    pinned: "{{ lookup('nordic.gitops.git', '.', repository=platform, revision='main', result='commit') }}"

- name: Do something for each file of a folder
  ansible.builtin.debug:
    msg: "{{ item }}"
  loop: "{{ lookup('nordic.gitops.git', 'apps', repository='https://git.example.com/acme/platform.git', revision='v1.0.0', result='listing') }}"

- name: Log in with an access token, and check the server's certificate against an own authority
  ansible.builtin.debug:
    msg: "{{ lookup('nordic.gitops.git', 'apps/web.yaml', **private) }}"
  vars:
    private:
      repository: https://git.example.com/acme/platform.git
      git_username: deploy
      git_password: "{{ lookup('ansible.builtin.env', 'GIT_TOKEN') }}"
      git_ca_cert: /etc/pki/acme-ca.pem

- name: Log in by ssh, with a deploy key and the server's host key
  ansible.builtin.debug:
    msg: "{{ lookup('nordic.gitops.git', 'apps/web.yaml', **private) }}"
  vars:
    private:
      repository: ssh://git@git.example.com/acme/platform.git
      git_ssh_key: /etc/ansible/deploy_key
      git_ssh_known_hosts: /etc/ansible/known_hosts

- name: Read only what one of the maintainers has signed
  ansible.builtin.debug:
    msg: "{{ lookup('nordic.gitops.git', 'apps/web.yaml', **signed) }}"
  vars:
    signed:
      repository: https://git.example.com/acme/platform.git
      verify_signatures: true
      trusted_keys: /etc/ansible/maintainers
"""

RETURN = r"""
_raw:
  description:
    - One item for each path, in the order asked for.
    - A string for O(result=content), O(result=base64) and O(result=commit), a list of strings for O(result=listing).
  type: list
  elements: raw
"""

import base64
import difflib

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        try:
            self._check_names(kwargs)
            self.set_options(var_options=variables, direct=kwargs)
            options = self.get_options()
            paths = [_checked_term(term, number) for number, term in enumerate(terms, 1)]
            if not paths:
                raise Failure("no path is given", "nordic.gitops.git", "Give at least one, relative to the repository's root.")
            answer = _ANSWERS[options["result"]]
            with Mirror(Source.of(options)) as mirror:
                commit = mirror.resolve()
                return [answer(mirror, commit, path) for path in paths]
        except Failure as failure:
            raise AnsibleLookupError(str(failure)) from None

    def _check_names(self, given):
        """Ansible itself passes over an option that it does not know, and a typing error would go unseen."""
        known = self.option_definitions
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(set(known) - {'_terms'}))}."
                raise Failure(f"there is no option {name}", "nordic.gitops.git", hint)


def _checked_term(term, number):
    if not isinstance(term, str):
        kind = "a list" if isinstance(term, (list, tuple)) else f"of type {type(term).__name__}"
        raise Failure(
            f"term {number} is {kind}, not a path", "nordic.gitops.git", "To give a list of paths, write query('nordic.gitops.git', *paths, ...)."
        )
    if not term:
        raise Failure(f"term {number} is empty", "nordic.gitops.git", 'Give a path relative to the repository\'s root, which itself is ".".')
    return term


def _content(mirror, commit, path):
    try:
        return mirror.read(commit, path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"the file is not UTF-8 text (byte {error.start})", path, "Ask for result='base64'.") from None


def _base64(mirror, commit, path):
    return base64.b64encode(mirror.read(commit, path)).decode("ascii")


def _listing(mirror, commit, path):
    return [entry.path for entry in mirror.tree(commit, path).files()]


def _commit(mirror, commit, path):
    mirror.find(commit, path)
    return commit.id


_ANSWERS = {"content": _content, "base64": _base64, "listing": _listing, "commit": _commit}
