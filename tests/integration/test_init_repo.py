# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook init_repo: a manifest repository that is ready to push, and that people change afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lab.repository import git_env

URL = "https://git.example.no/platform/manifests.git"


@pytest.fixture
def init(tmp_path):
    """Runs the playbook; fails: what it says when it fails; unchanged: it has to find nothing to do."""
    def run(*arguments, fails="", unchanged=False, **variables):
        given = {f"init_repo_{name}": value for name, value in {"path": "manifests", "url": URL, **variables}.items()}
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "nordic.gitops.init_repo", "--extra-vars", json.dumps(given), *arguments],
                              cwd=tmp_path, text=True, capture_output=True, timeout=300, check=False,
                              env={**git_env(), "LC_ALL": "C.UTF-8", "ANSIBLE_HOME": str(tmp_path / "ansible"), "HOME": str(tmp_path / "home"),
                                   "ANSIBLE_NOCOLOR": "1", "PWD": str(tmp_path)})
        output = done.stdout + done.stderr
        assert "Traceback (most recent call last)" not in output and "[WARNING]" not in output and (done.returncode != 0) == bool(fails), output
        assert fails in " ".join(output.split()), output
        assert not unchanged or "changed=0" in output, output
        return output

    return run


@pytest.fixture
def git(tmp_path):
    def run(*words):
        return subprocess.run(["git", "-C", str(tmp_path / "manifests"), *words], env=git_env(), text=True, capture_output=True, check=True).stdout.strip()

    return run


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts[:1]}


def test_a_new_repository_is_committed_and_names_where_it_is_pushed_to(init, git, tmp_path):
    assert "README.md" in init("--check") and not (tmp_path / "manifests").exists()
    said = init(apps=["web", "payment-gateway"], environments=["production", "staging"], ci=["github", "gitlab", "forgejo"])
    folder = tmp_path / "manifests"
    assert git("status", "--porcelain") == "" and git("remote", "get-url", "origin") == URL and "push --set-upstream origin HEAD" in said
    assert {"apps/payment-gateway/deployment.yaml", "environments/staging/payment-gateway/kustomization.yaml", "platform/project.yaml",
            ".github/workflows/check.yml", ".gitlab-ci.yml", ".forgejo/workflows/check.yml", "ci/deliver-gitlab.yml"} <= files(folder)
    application = yaml.safe_load((folder / "environments/production/payment-gateway.yaml").read_text(encoding="utf-8"))
    assert application["metadata"]["name"] == "production-payment-gateway" and application["spec"]["source"]["repoURL"] == URL
    assert application["spec"]["syncPolicy"] == {"automated": {"prune": True, "selfHeal": True}, "syncOptions": ["CreateNamespace=true"]}
    init(apps=["web", "payment-gateway"], environments=["production", "staging"], ci=["github", "gitlab", "forgejo"], unchanged=True)


def test_what_it_writes_renders_with_the_tag_that_pipelines_commit_and_holds_no_open_secret(init, binaries, tmp_path):
    init(image="registry.example.no:5000/shop/web:1.2", ci=["github", "gitlab", "forgejo"])
    folder = tmp_path / "manifests"
    done = subprocess.run([str(binaries / "kubectl"), "kustomize", str(folder / "environments/production/web")], text=True, capture_output=True, check=True)
    kinds = {body["kind"]: body for body in yaml.safe_load_all(done.stdout)}
    assert kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.no:5000/shop/web:1.2" and "Service" in kinds
    assert all(list(yaml.safe_load_all((folder / name).read_text(encoding="utf-8"))) for name in files(folder) if name.endswith((".yml", ".yaml")))
    check = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "ci/check.yml"], cwd=folder, text=True, capture_output=True, check=False,
                           env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"})
    assert check.returncode == 0, check.stdout + check.stderr


def test_what_a_person_changed_deleted_or_had_before_stays(init, git, tmp_path):
    folder = tmp_path / "manifests"
    (folder / "platform").mkdir(parents=True)
    (folder / "platform" / "project.yaml").write_text("# mine\n", encoding="utf-8")
    init()
    # Not made by the playbook, so not committed by it either.
    assert git("status", "--porcelain") == "?? platform/project.yaml" and (folder / "platform/project.yaml").read_text(encoding="utf-8") == "# mine\n"
    (folder / "README.md").write_text("Ours\n", encoding="utf-8")
    git("rm", "--quiet", "apps/web/service.yaml")
    git("commit", "--quiet", "--all", "--message", "Ours")
    (folder / "apps/web/deployment.yaml").write_text("# a change that is not committed\n", encoding="utf-8")
    (folder / "staged.yaml").write_text("a: 1\n", encoding="utf-8")
    git("add", "staged.yaml")
    git("remote", "add", "origin2", "https://git.example.no/other.git")
    before = git("rev-parse", "HEAD")
    init(unchanged=True)
    assert git("rev-parse", "HEAD") == before and (folder / "README.md").read_text(encoding="utf-8") == "Ours\n"
    assert not (folder / "apps/web/service.yaml").exists()
    init(apps=["web", "catalogue"], url="https://git.example.no/elsewhere.git")
    assert (folder / "apps/catalogue/service.yaml").exists() and git("remote", "get-url", "origin") == URL
    assert set(git("show", "--name-only", "--format=").split()) == {
        "apps/catalogue/deployment.yaml", "apps/catalogue/kustomization.yaml", "apps/catalogue/service.yaml", "environments/production/catalogue.yaml",
        "environments/production/catalogue/kustomization.yaml"}
    assert (folder / "apps/web/deployment.yaml").read_text(encoding="utf-8") == "# a change that is not committed\n"
    assert "A  staged.yaml" in git("status", "--porcelain")


def test_a_run_that_was_killed_before_its_commit_is_finished_by_the_next(init, git, tmp_path):
    init()
    git("update-ref", "-d", "HEAD")
    git("rm", "--quiet", "-r", "--cached", ".")
    (tmp_path / "manifests" / "README.md").unlink()
    init()
    assert git("status", "--porcelain") == "" and "README.md" in git("ls-files").split()
    init(unchanged=True)


@pytest.mark.parametrize("variables", [
    {"url": "https://me:hunter2@git.example.no/a.git"}, {"apps": ["Web"]}, {"apps": ["../web"]}, {"environments": []}, {"ci": ["jenkins"]}])
def test_bad_input_is_refused_before_anything_is_made(init, variables, tmp_path):
    said = init(fails="init_repo_path and init_repo_url are needed, the URL without a password", **variables)
    assert not (tmp_path / "manifests").exists() and "hunter2@" not in said.split("TASK")[-1]
