# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every plugin that reads a Git repository; _git/source.py reads them."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  repository:
    description:
      - The repository, as C(https://), C(http://), C(ssh://), C(git://) or C(file://) URL, as C(user@host:path), or as an absolute path.
      - No other transport is taken, no submodule is followed, and nothing of the repository is ever executed.
      - Credentials in the URL work, but O(git_username) and O(git_password) are the better place for them.
    type: str
    required: true
  revision:
    description:
      - A branch, a tag, a full or a short commit, or V(HEAD) for the branch that the server names as its own.
      - Where a branch and a tag have the same name, write C(refs/heads/NAME) or C(refs/tags/NAME).
      - With a full commit that is in the cache, the server is not asked at all. Any other revision asks it once.
      - A short commit needs the whole history once, since nothing less can tell whether it is the only one that begins so.
        A branch or tag that is named like the beginning of a commit is refused.
    type: str
    default: HEAD
  git_username:
    description: User name for C(https) and C(ssh). With O(git_password) alone, C(git) is sent, which suits access tokens of most servers.
    type: str
  git_password:
    description:
      - Password or access token for C(https) and C(http).
      - It is sent to the host of O(repository) only, never put into an argument, the cache or a message.
    type: str
  git_ssh_key:
    description: Path of a private key without passphrase for C(ssh). Without it, the user's agent and own keys are tried.
    type: path
  git_ssh_known_hosts:
    description:
      - Path of a file with the host keys to trust, in the format of C(known_hosts). Without it, C(~/.ssh/known_hosts) counts.
      - A host whose key is unknown or another one is never talked to.
    type: path
  git_ca_cert:
    description: Path of the CA certificates that the server's certificate is checked against for C(https), in PEM format.
    type: path
  verify_signatures:
    description: Whether to refuse a commit that is not signed by one of the O(trusted_keys). The commit itself is what counts, not a signed tag.
    type: bool
    default: false
  trusted_keys:
    description:
      - Path of a file of keys whose signature counts, needed with O(verify_signatures).
      - Either GPG public keys (C(gpg --export), armoured or not), or an allowed signers file for ssh keys (see C(man ssh-keygen)).
      - The keys and the trust of the user who runs this do not count. Keys are judged at the present time, whatever time the commit names.
    type: path
  reachable_from:
    description:
      - The name of a branch or tag that must have the commit in its history. Any other commit is refused, whoever signed it.
      - It needs the whole history of the repository once, and what is new of it later.
    type: str
  git_cache:
    description:
      - Folder for the copies of repositories, which may be removed at any time. Neither it nor any folder above it may belong to, or be
        writable for, other users.
      - C($XDG_CACHE_HOME/nordic.gitops/git) when left out, where that variable is unset C(~/.cache/nordic.gitops/git).
    type: path
  git_timeout:
    description: Seconds that one command of Git may take, and that is waited for another process that fetches the same repository.
    type: int
    default: 120
  allow_unsandboxed:
    description:
      - The file names of the programs (C(git), C(gpg), C(ssh-keygen), C(helm), C(kustomize), C(kubectl)) that may run on the repository's
        files where this machine has no sandbox for them, which is bubblewrap, Landlock (Linux 5.13 or later), or root.
      - The guide C(docs/security.md) says what a sandbox keeps from them.
    type: list
    elements: str
    default: []
notes:
  - Needs Git 2.32 or later. O(verify_signatures) needs GnuPG, or OpenSSH 8.9 or later, for the kind of keys in O(trusted_keys).
requirements:
  - git >= 2.32
"""
