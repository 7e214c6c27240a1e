# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline of docs/ci.md from the image's push to the manifest repository's commit, with a real registry and a real Git server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from canary import Canary
from lab.gitservers import GitHttp
from lab.registry import Registry
from lab.repository import Repository
from workspace import places

pytestmark = pytest.mark.built("registry")

MANIFEST = "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: web\n        image: %s  # set by the pipeline\n"
CI = places.CHECKOUT / "docs" / "ci"


def playbook():
    """deliver.yml, as docs/ci.md has it."""
    text = (CI.parent / "ci.md").read_text(encoding="utf-8")
    return next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "image_update" in block)


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def deliver(git_repo, git_http, tmp_path):
    """Runs deliver.yml with the variables of a workflow, against this manifest repository."""
    git_repo.git("config", "http.receivepack", "true")
    text = playbook()
    assert "https://git.example.org/example/manifests.git" in text
    user = f"git_password: \"{{{{ lookup('ansible.builtin.env', 'MANIFESTS_TOKEN') }}}}\"\n        git_username: {git_http.username}"
    text = text.replace("https://git.example.org/example/manifests.git", git_http.url)
    text = text.replace("git_password: \"{{ lookup('ansible.builtin.env', 'MANIFESTS_TOKEN') }}\"", user)
    (tmp_path / "deliver.yml").write_text(text, encoding="utf-8")

    def run(**variables):
        environment = {**os.environ, "HOME": str(tmp_path / "home"), "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1",
                       "MANIFESTS_TOKEN": git_http.password, **variables}
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "deliver.yml"), "-vvvv"], env=environment, text=True,
                              capture_output=True, timeout=300, check=False)
        output = done.stdout + done.stderr
        assert done.returncode == 0 and git_http.password not in output, output
        return output

    return run


def test_an_image_that_was_pushed_is_committed_by_its_tag_and_the_registrys_digest_and_once(git_repo, registry, deliver):
    old = registry.push("nordic.gitops/web:1", "example/web:1")
    git_repo.write("production/web.yaml", MANIFEST % f"{registry.host}/example/web:1@{old}")
    first = git_repo.commit("1")
    commit = "72225e2" + "0" * 33
    digest = registry.push("nordic.gitops/web:2", f"example/web:{commit}")
    assert digest != old and registry.digest(f"example/web:{commit}") == digest
    variables = {"IMAGE": f"{registry.host}/example/web", "TAG": commit, "DIGEST": digest}
    assert "changed=1" in deliver(**variables)
    assert git_repo.git("show", "main:production/web.yaml") + "\n" == MANIFEST % f"{registry.host}/example/web:{commit}@{digest}"
    assert git_repo.git("rev-parse", "main~1") == first and git_repo.git("log", "-1", "--format=%an <%ae>", "main") == "Pipeline <pipeline@example.org>"
    assert "changed=0" in deliver(**variables) and git_repo.git("rev-parse", "main~1") == first


@pytest.mark.parametrize("name", ["github", "forgejo", "gitlab"])
def test_a_pipeline_whose_commit_is_no_longer_the_newest_stops_and_no_command_line_has_its_token(tmp_path, name):
    """The very lines of the shipped workflow, in the shell that its platform uses, against a server that asks for the token."""
    application = Repository(tmp_path / "application.git")
    older, newer = application.commit("older"), application.commit("newer")
    body = yaml.safe_load((CI / f"{name}.yml").read_text(encoding="utf-8"))
    if name == "gitlab":
        script = body["deliver"]["script"]
        lines = "\n".join(line for line in script[:script.index("pip install --quiet ansible-core PyYAML detect-secrets")] if "apt-get" not in line)
    else:
        (lines,) = [step["run"] for step in body["jobs"]["deliver"]["steps"] if step.get("name") == "Stop if a newer commit is there"]
    canary = Canary("token")

    class Looking(list):
        def append(self, request):
            canary.look()  # whoever asks has not got its answer yet
            super().append(request)

    with GitHttp(application.path, username="gitlab-ci-token" if name == "gitlab" else "x", password=canary["token"]) as server:
        server.requests = Looking()
        for commit, code in ((newer, 0), (older, 1)):
            variables = {"REPOSITORY": server.url, "BRANCH": "refs/heads/main", "COMMIT": commit, "TOKEN": canary["token"], "CI_JOB_TOKEN": canary["token"],
                         "CI_PROJECT_URL": server.url.rpartition(".git")[0], "CI_COMMIT_BRANCH": "main", "CI_COMMIT_SHA": commit,
                         "CI_REPOSITORY_URL": server.url_with_credentials, "PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_TERMINAL_PROMPT": "0"}
            with canary.watched():
                left = "\nenv | sed -n 's/^GIT_CONFIG.*/left to the next command/p'"
                done = subprocess.run(["bash", "-eo", "pipefail", "-c", lines + left], env=variables, text=True, capture_output=True, check=False)
            output = done.stdout + done.stderr
            assert done.returncode == code and (newer in output) == bool(code) and "left to" not in output, output
            canary.check("the output", output)
        assert any(b"remote-http" in line for line in canary.command_lines) and {status for _method, _path, status in server.requests} == {200}
