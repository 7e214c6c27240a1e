# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows of docs/ci and of this repository fit their platform's schema, are pinned, may do no more than they need, and hold no cluster's credential."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import check_text
from lab import build
from lab.components import ACTIONLINT

SCHEMAS = {"github": "vendor.github-workflows", "forgejo": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
PLACES = {"github": ".github/workflows/deliver.yml", "forgejo": ".forgejo/workflows/deliver.yml", "gitlab": ".gitlab-ci.yml"}
PINNED = re.compile(r"@(?:[0-9a-f]{40}|sha256:[0-9a-f]{64})\b")


def workflow(checkout, name):
    return checkout / "docs" / "ci" / f"{name}.yml"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_workflow_fits_the_schema_of_its_platform(bench, checkout, name):
    command = (str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", SCHEMAS[name])
    outcome = bench.run(*command, str(workflow(checkout, name)), cwd=checkout)
    assert outcome.code == 0, outcome.output


def test_a_workflow_with_a_mistake_is_found(bench, checkout, tmp_path):
    (tmp_path / "bad.yml").write_text("on: push\njobs: {test: {runs-on: x, steps: [{uses: 1}]}}\n")
    command = (str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", SCHEMAS["github"])
    assert bench.run(*command, str(tmp_path / "bad.yml"), cwd=checkout).code != 0


# Forgejo takes labels of its own, and actions by their address.
IGNORED = {"github": (), "forgejo": ("-ignore", 'label "docker" is unknown', "-ignore",
                                     'specifying action "https://data.forgejo.org/[^"]+" in invalid format')}


@pytest.mark.parametrize("name", IGNORED)
def test_a_workflow_passes_actionlint_which_finds_a_mistake_in_it(bench, checkout, tmp_path, name):
    """It knows expressions, events, permissions and, by shellcheck, the commands of each step."""
    command = (str(build.cached(ACTIONLINT, "actionlint")), *IGNORED[name])
    outcome = bench.run(*command, str(workflow(checkout, name)), cwd=checkout)
    assert outcome.code == 0, outcome.output
    text = workflow(checkout, name).read_text()
    for right, wrong, said in (("steps.build.outputs", "steps.built.outputs", "built"), ("needs: test", "needs: tests", "tests"),
                               ('"$REPOSITORY"', "$REPOSITORY", "SC2086")):
        assert right in text
        (tmp_path / "bad.yml").write_text(text.replace(right, wrong, 1))
        outcome = bench.run(*command, str(tmp_path / "bad.yml"), cwd=checkout)
        assert outcome.code != 0 and said in outcome.output, outcome.output


@pytest.mark.parametrize("name", SCHEMAS)
def test_everything_that_a_workflow_brings_in_is_pinned_by_digest(checkout, name):
    lines = workflow(checkout, name).read_text().splitlines()
    used = [line for line in lines if re.search(r"\b(?:uses|image): ", line)]
    assert used and [line for line in used if not PINNED.search(line)] == []


@pytest.mark.parametrize("name", ["github", "forgejo"])
def test_a_workflow_has_the_least_permissions_and_waits_for_its_turn(checkout, name):
    body = yaml.safe_load(workflow(checkout, name).read_text())
    assert body["permissions"] == {} and body["concurrency"]["cancel-in-progress"] is False
    assert {job: set(one["permissions"].values()) for job, one in body["jobs"].items()} == {"test": {"read"}, "deliver": {"read", "write"}}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_workflow_never_starts_on_what_it_pushes(checkout, name):
    """It writes to another repository than the one whose pushes start it, and has no credential to write to its own."""
    text = workflow(checkout, name).read_text()
    assert "git push" not in text and "contents: write" not in text
    if name == "gitlab":
        (step,) = [job for job in yaml.safe_load(text).values() if isinstance(job, dict) and "ansible-playbook deliver.yml" in job.get("script", ())]
        given = step["variables"]
    else:
        steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
        checkouts = [step for step in steps if "checkout" in step.get("uses", "")]
        assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)
        (step,) = [step for step in steps if "ansible-playbook deliver.yml" in step.get("run", "")]
        given = step["env"]
        assert given["MANIFESTS_TOKEN"] == "${{ secrets.MANIFESTS_TOKEN }}"
    assert set(given) <= {"IMAGE", "TAG", "DIGEST", "MANIFESTS_TOKEN"}  # no credential for the repository whose pushes start it
    page = (checkout / "docs" / "ci.md").read_text(encoding="utf-8")
    (play,) = next(yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "image_update" in block)
    options = play["tasks"][0]["nordic.gitops.image_update"]
    assert len(play["tasks"]) == 1 and options["repository"].endswith("/manifests.git") and "MANIFESTS_TOKEN" in options["git_password"]


def test_a_pipeline_of_gitlab_waits_for_the_one_before_it(checkout):
    jobs = [job for job in yaml.safe_load(workflow(checkout, "gitlab").read_text()).values() if isinstance(job, dict)]
    delivers = [job for job in jobs if "ansible-playbook deliver.yml" in job.get("script", ())]
    assert len(delivers) == 1 and delivers[0]["resource_group"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_workflow_holds_a_credential_of_a_cluster_or_a_secret(checkout, name):
    assert check_text(workflow(checkout, name).read_text(), PLACES[name]) == []


# What the project's own repository runs.

OWN = ("test", "release")


def own(checkout, name):
    return checkout / ".github" / "workflows" / f"{name}.yml"


def test_the_projects_own_workflows_are_these(checkout):
    assert sorted(path.stem for path in (checkout / ".github" / "workflows").iterdir()) == sorted(OWN)


def test_actionlint_finds_nothing_in_an_own_workflow_and_finds_a_mistake(bench, checkout, tmp_path):
    actionlint = str(build.cached(ACTIONLINT, "actionlint"))
    outcome = bench.run(actionlint, "-no-color", *(str(own(checkout, name)) for name in OWN), cwd=checkout)
    assert outcome.code == 0, outcome.output
    (tmp_path / "bad.yml").write_text(own(checkout, "test").read_text().replace("matrix.core", "matrix.kernel"))
    assert "kernel" in bench.run(actionlint, "-no-color", str(tmp_path / "bad.yml"), cwd=checkout).output


@pytest.mark.parametrize("name", OWN)
def test_an_own_workflow_is_pinned_has_the_least_permissions_and_calls_targets_that_exist(checkout, name):
    text = own(checkout, name).read_text()
    body = yaml.safe_load(text)
    assert body["permissions"] == {}
    assert all(one["permissions"] == {"contents": "write" if name == "release" else "read"} for one in body["jobs"].values())
    steps = [step for job in body["jobs"].values() for step in job["steps"]]
    assert all(PINNED.search(step["uses"]) for step in steps if "uses" in step)
    assert all(step["with"]["persist-credentials"] is False for step in steps if "checkout" in step.get("uses", ""))
    targets = set(re.findall(r"(?m)^([a-z-]+):", (checkout / "Makefile").read_text()))
    called = {word for step in steps for word in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert called and called <= targets
    assert "pull_request_target" not in text and "secrets." not in text


def test_the_matrix_begins_with_the_oldest_ansible_core_that_is_promised(checkout):
    rows = yaml.safe_load(own(checkout, "test").read_text())["jobs"]["matrix"]["strategy"]["matrix"]["include"]
    promised = re.search(r"requires_ansible: '>=([0-9.]+)\.0'", (checkout / "meta" / "runtime.yml").read_text()).group(1)
    assert rows[0]["core"] == promised
