# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place judges health: no other file of the collection reads what a verdict is made of."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Set

import pytest

PLUGINS = Path(__file__).resolve().parents[5] / "plugins"
JUDGE = "module_utils/_objects/health"  # health.py, its rules and its CEL

VERDICTS = {
    "conditions", "phase", "observedGeneration", "readyReplicas", "availableReplicas", "updatedReplicas", "numberReady", "numberAvailable",
    "desiredHealthy", "currentHealthy", "disruptionsAllowed", "containerStatuses", "Ready", "Available", "Synced", "Progressing", "Established", "Degraded",
}
# What is no judgement of health.
ALLOWED: Dict[str, Set[str]] = {
    "module_utils/_argocd/answers.py": {"conditions", "phase", "containerStatuses"},  # which types an answer's fields have
    "module_utils/_argocd/evidence.py": {"containerStatuses"},  # which containers have a log, and what those wait for that cannot start
    "module_utils/_argocd/follow.py": {"conditions"},  # what Argo CD cannot do with an Application, in its own words
    "module_utils/_argocd/info.py": {"conditions", "phase"},  # what Argo CD says, passed on
    "module_utils/_argocd/operation.py": {"phase", "Synced"},  # of Argo CD's operation, and its own verdict
    "module_utils/_argocd/sync.py": {"phase", "Degraded"},  # the same
    "module_utils/_k3s/api.py": {"conditions", "Ready"},  # who votes in etcd, and when the kubelet reported last
    "module_utils/_k3s/membership.py": {"phase", "desiredHealthy", "currentHealthy", "disruptionsAllowed"},  # whether a drain may evict a Pod
    "module_utils/_objects/ownership.py": {"phase"},  # a default that the server writes into a template
    "module_utils/_reconcile/from_application.py": {"conditions"},  # what Argo CD refuses of an Application, in its own words
    "module_utils/_reconcile/report.py": {"phase"},  # of a sync, in which a hook runs
    "module_utils/_sealed_secrets/proof.py": {"observedGeneration"},  # the verdict must be about this very generation
}


def _names(path: Path) -> Set[str]:
    return {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


FILES = {str(path.relative_to(PLUGINS)): path for path in sorted(PLUGINS.rglob("*.py"))}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(JUDGE)])
def test_nothing_but_the_verdict_judges_health(name: str) -> None:
    assert _names(FILES[name]) & VERDICTS == ALLOWED.get(name, set())


# Who says that something is healthy, and so has to ask.
ASKS = (
    "filter/health.py", "module_utils/_reconcile/wait.py", "module_utils/_reconcile/outcomes.py", "module_utils/_reconcile/plan.py",
    "module_utils/_k3s/api.py", "module_utils/_k3s/membership.py", "module_utils/_sealed_secrets/proof.py", "module_utils/_sealed_secrets/task.py",
)


@pytest.mark.parametrize("name", ASKS)
def test_waiting_waves_k3s_sealed_secrets_and_the_filter_ask_the_one_verdict(name: str) -> None:
    imported = {
        f"{node.module}.{alias.name}" for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert "ansible_collections.nordic.gitops.plugins.module_utils._objects.health.health" in imported


def test_pruning_and_applying_wait_by_the_same_board() -> None:
    for name in ("module_utils/_reconcile/prune.py", "module_utils/_reconcile/apply.py"):
        assert "module_utils._reconcile.wait import" in FILES[name].read_text()
