#!/usr/bin/python
# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_kubeconfig
short_description: Merge a k3s cluster's kubeconfig into a file on the controller, or of a user on the server
version_added: 1.0.0
author:
  - nordic.gitops contributors (@nordic-gitops)
description:
  - Reads the administrator's kubeconfig on a server and merges it into a file on the controller, under a name of its own and with an
    address that is reachable from there. Other clusters, users and contexts of the file stay as they are, and so do its comments, its owner
    and its mode, and what somebody added to the cluster's own entries, such as C(proxy-url), C(tls-server-name) or a namespace.
  - Entries of the name that belong to another cluster, which has another certificate authority, are refused and not overwritten.
  - A new file is readable for its owner only. The credentials are in no result, no variable and no log.
options:
  path:
    description: The file on the controller. It is created when it does not exist.
    type: path
  user:
    description:
      - A user of the server. Instead of a file on the controller, C(.kube/config) in this user's home is merged, read and written as that user.
    type: str
  context:
    description: The name of the cluster, the user and the context in it.
    type: str
    required: true
  server:
    description:
      - The URL of the API server as seen from where the file is used, instead of the loopback address in k3s' own. Needed with O(path).
    type: str
  current:
    description: Whether the context becomes the current one. It does anyway where the file has none.
    type: bool
    default: false
  replace:
    description:
      - Whether entries of the name are replaced though they belong to another cluster, as after a cluster was made anew.
        The file is copied to C(PATH.before-TIME) first.
    type: bool
    default: false
  src:
    description: The kubeconfig on the server.
    type: path
    default: /etc/rancher/k3s/k3s.yaml
attributes:
  check_mode:
    description: Can run without changing anything, and tells whether a real run would.
    support: full
  diff_mode:
    description: The file is made of credentials, so no difference is shown.
    support: none
  idempotent:
    description: A second run changes nothing.
    support: full
seealso:
  - module: nordic.gitops.k3s
requirements:
  - ruamel.yaml on the controller
"""

EXAMPLES = r"""
- name: Let kubectl know the new cluster
  nordic.gitops.k3s_kubeconfig:
    path: ~/.kube/config
    context: production
    server: https://k3s.example.no:6443

- name: Let a person on the server use kubectl
  nordic.gitops.k3s_kubeconfig:
    user: ops
    context: production
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
context:
  description: The context in it.
  returned: success
  type: str
"""
