# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of the modules of Argo CD, run in the test's process so that a Failure can be looked at; options as Ansible validates them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Mapping

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import APPLICATION, APPLICATIONSET, CLUSTER, PROJECT, REPOSITORY
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.admin import administer
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.info import info
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.manage import manage
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.sync import sync
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC
from ansible_collections.nordic.gitops.plugins.modules import (
    argocd_admin,
    argocd_application,
    argocd_applicationset,
    argocd_cluster,
    argocd_info,
    argocd_project,
    argocd_repository,
    argocd_sync,
)

MODULES = {APPLICATION: argocd_application, APPLICATIONSET: argocd_applicationset, PROJECT: argocd_project, REPOSITORY: argocd_repository,
           CLUSTER: argocd_cluster}


class Tasks:
    """tasks(APPLICATION, name="web", …) is a task of argocd_application."""

    def __init__(self, cluster: Any, **defaults: Any) -> None:
        self.cluster, self.defaults = cluster, defaults

    def __call__(self, kind: Any, check_mode: bool = False, diff: bool = False, **options: Any) -> Dict[str, Any]:
        spec = {**MODULES[kind].SPEC, **CONNECTION_SPEC}
        known = {name: value for name, value in self.defaults.items() if name in spec and not (name == "namespace" and kind.option in options)}
        return manage(kind, self._validated(spec, {**known, **options}), check_mode, diff)

    def sync(self, check_mode: bool = False, **options: Any) -> Dict[str, Any]:
        """A task of argocd_sync."""
        way = {name: value for name, value in self.defaults.items() if name in ("argocd_server", "argocd_token", "kubeconfig")}
        return sync(self._validated({**argocd_sync.SPEC, **CONNECTION_SPEC}, {**way, **options}), check_mode)

    def admin(self, check_mode: bool = False, **options: Any) -> Dict[str, Any]:
        """A task of argocd_admin."""
        return administer(self._validated({**argocd_admin.SPEC, **CONNECTION_SPEC}, options), check_mode)

    def info(self, **options: Any) -> Any:
        """What argocd_info says of each Application."""
        return info(self._validated({**argocd_info.SPEC, **CONNECTION_SPEC}, options))["applications"]

    def _validated(self, spec: Mapping[str, Any], options: Mapping[str, Any]) -> Dict[str, Any]:
        outcome = ArgumentSpecValidator(spec).validate({"kubeconfig": str(self.cluster.kubeconfig), **options})
        assert not outcome.error_messages, outcome.error_messages
        return dict(outcome.validated_parameters)


def run_role(cluster: Any, folder: Path, *arguments: str, fails: str = "", unchanged: bool = False, **variables: Any) -> str:
    """Runs the role argocd with these variables. fails: what it says when it fails; unchanged: it has to find nothing to change."""
    play = [{"name": "Role", "hosts": "localhost", "gather_facts": False, "roles": [{"role": "nordic.gitops.argocd"}]}]
    (folder / "playbook.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    given = {f"argocd_{name}": value for name, value in {"folder": str(folder / "release"), **variables}.items()}
    environment = {**os.environ, "ANSIBLE_HOME": str(folder / "ansible"), "HOME": str(folder / "home"), "ANSIBLE_NOCOLOR": "1",
                   "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{cluster.bin}:{os.environ['PATH']}"}
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(folder / "playbook.yml"), "--extra-vars", json.dumps(given),
                           *arguments], env=environment, text=True, capture_output=True, timeout=500, check=False)
    output = done.stdout + done.stderr
    assert "Traceback (most recent call last)" not in output and (done.returncode != 0) == bool(fails), output
    assert fails in " ".join(output.split()), output
    assert not unchanged or "changed=0" in output, output
    return output
