# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/tutorial.md, every command as it is written there, in its order."""

from __future__ import annotations

import re
import subprocess
import textwrap

import pytest
from lab import argocd
from lab.repository import git_env
from workspace import places

PAGE = (places.CHECKOUT / "docs" / "tutorial.md").read_text(encoding="utf-8")
# What opens and ends the shell and its cluster; here it is the one of the tests.
AROUND = ["make cluster WITH=argocd", "make cluster-shell", "exit", "make cluster-down"]


def commands():
    return [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.built("Argo CD")
@pytest.mark.xdist_group("argocd")
def test_the_tutorial_is_followed_to_the_letter(tmp_path):
    (inventory,) = re.findall(r"    # inventory\.yml\n((?:    .*\n)+)", PAGE)
    (tmp_path / "inventory.yml").write_text(textwrap.dedent(inventory), encoding="utf-8")
    typed = [line for line in commands() if line not in AROUND]
    assert [line for line in commands() if line in AROUND] == AROUND
    with argocd.shared() as cluster:
        environment = {**git_env(), **{name: value for name, value in cluster.env().items() if name in ("KUBECONFIG", "PATH", "KUBECACHEDIR")},
                       "LC_ALL": "C.UTF-8", "HOME": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1", "PWD": str(tmp_path)}
        try:
            said = {}
            for line in typed:
                done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
                assert done.returncode == 0 and "[WARNING]" not in done.stdout, f"{line}\n{done.stdout}"
                said[line] = done.stdout
            (image,) = [text for line, text in said.items() if "containers[0].image" in line]
            assert image.endswith(":1.28") and "production-web" in said["kubectl --namespace argocd get applications"]
        finally:
            for name in ("root", "production-web", "production-platform"):
                cluster.kubectl("delete", "application", name, "--namespace", "argocd", "--ignore-not-found")
            cluster.kubectl("delete", "appproject", "apps", "--namespace", "argocd", "--ignore-not-found")
            cluster.remove_namespace("web")
