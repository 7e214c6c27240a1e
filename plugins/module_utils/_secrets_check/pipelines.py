# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipelines that hold a credential of a cluster, or use one: they are to commit to the manifest repository and nothing else."""

from __future__ import annotations

import re
from typing import Iterable, List, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.finding import Finding

# Where the platforms look for pipelines.
_PIPELINE = re.compile(r"(?:\.(?:github|forgejo|gitea)/workflows/[^/]+\.ya?ml|(?:.*\.)?gitlab-ci\.ya?ml|\.gitlab/ci/.+\.ya?ml|\.woodpecker(?:/.+)?\.ya?ml)\Z")
_CREDENTIAL = re.compile(
    r"""(?x) (?<![A-Za-z0-9]) ( (?<!_)[A-Z0-9_]*KUBE_?CONFIG[A-Z0-9_]* | K8S_AUTH_[A-Z_]+ | KUBE(?:RNETES)?_(?:TOKEN|SERVER|CA\w*)
    | ARGOCD_(?:AUTH_TOKEN|PASSWORD|SERVER)
    | azure/(?:k8s-set-context|aks-set-context)@ | kubectl\s+(?:apply|create|replace|patch|set|delete|rollout|edit)
    | helm\s+(?:upgrade|install|rollback|uninstall) | argocd\s+(?:login|app\s+(?:sync|set)) | flux\s+(?:reconcile|bootstrap) )""")


def is_pipeline(file: str) -> bool:
    return bool(_PIPELINE.match(file))


def findings(file: str, lines: Iterable[Tuple[int, str]]) -> List[Finding]:
    """The lines of a pipeline that name a cluster's credential, or a command that needs one."""
    found = []
    for number, line in lines:
        match = _CREDENTIAL.search(line.split(" #", 1)[0]) if not line.lstrip().startswith("#") else None
        if match:
            what = f"the pipeline uses {match.group(1).strip('@')}: it needs a credential of the cluster, which a pipeline must not hold"
            found.append(Finding(file, number, what))
    return found
