# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Git repository as the source of truth: revision to commit, commit to files, without a work tree and without trust.

    Source    where the repository is and how to get in, checked         (source.py, validate.py)
    Mirror    its copy in the cache: resolve(revision) -> Commit, tree(commit, path) -> Tree         (mirror.py, cache.py)
    Tree      one folder at one commit: files(), read(), read_many()         (tree.py, objects.py)

A repository is untrusted input. Nothing of it is ever executed or checked out by Git: no hook, no submodule, no filter,
no transport but the five in TRANSPORTS, no path or symbolic link that leads out of the folder asked for.

Who talks to Git: command.py, and nobody else. Each command runs in the sandbox (_sandbox.py), with the network and the credentials only
where it talks to the server, and may then reach what needs.py names. Why not GitPython: it starts Git itself, with the caller's environment,
home and configuration and without a limit, where no sandbox can be put around it, so neither its commands nor its fetch and push may be used
on a repository that is not trusted. What is left of it is slower: its import takes 0.2 s, as long as a whole run on an unchanged cluster may
take beside Ansible; its index reads and writes each entry in Python (10,000 files: 0.3 s, Git 0.02 s), and its commits cannot be signed.
"""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.mirror import Mirror
from ansible_collections.nordic.gitops.plugins.module_utils._git.objects import Entry
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import GIT_SPEC, Source
from ansible_collections.nordic.gitops.plugins.module_utils._git.tree import Tree

__all__ = ["GIT_SPEC", "Commit", "Entry", "Mirror", "Source", "Tree"]
