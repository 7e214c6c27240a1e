# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argo CD's own API in the place of the Kubernetes API; API of _argocd/options.py has the options themselves."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  argocd_server:
    description:
      - URL of Argo CD's own API, such as V(https://argocd.example.no), for who has a token of Argo CD and no access to the Kubernetes API. Of the
        connection's options, O(ca_cert) and O(validate_certs) are for it then, and all others are without meaning.
      - The options, what is checked before anything is sent, and the result are the same. This API has no dry run and shows no secrets, so check
        mode is not judged by a server, and credentials are sent with each run that has some. An object's spec becomes exactly what the task says.
      - Logs, events and the state of single objects are not shown by it, so messages of failures have less to tell.
    type: str
    version_added: 1.0.0
  argocd_token:
    description:
      - Token of an account of Argo CD, or of a project's role. A right that it lacks is named.
    type: str
    version_added: 1.0.0
"""
