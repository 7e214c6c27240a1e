# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that lie open in what is to be pushed: by structure what Kubernetes adds, by detect-secrets what has a form of its own.

    kubernetes.py   Secrets, templates of SealedSecrets, environment variables, values of charts: a YAML text in, findings out
    scanner.py      private keys and tokens, line by line
    pipelines.py    credentials of a cluster in a CI pipeline
    commits.py      a checkout, or each commit of a range and only what it adds

No finding, and so no result and no message, holds a value.
"""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import check_commits, check_files
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.finding import Finding

__all__ = ["Finding", "check_commits", "check_files"]
