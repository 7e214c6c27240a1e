# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artefact for Galaxy: it builds, installs into an empty folder, documents itself and reconciles from there, and holds what it should and no more."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest
import yaml

# One worker makes the artefact, and it is the one that is alone with the cluster, which the last of these tests needs.
pytestmark = pytest.mark.xdist_group("cluster")

HOLDS = {"plugins", "roles", "playbooks", "docs", "meta", "changelogs", "extensions"}
FILES = {"README.md", "LICENSE", "CHANGELOG.rst", "SECURITY.md", "requirements.txt", "MANIFEST.json", "FILES.json"}
LIMIT = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def artefact(bench, copy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("artefact")
    outcome = bench.run("ansible-galaxy", "collection", "build", "--output-path", str(folder), cwd=copy)
    assert outcome.code == 0, outcome.output
    (built,) = folder.glob("nordic-gitops-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(bench, artefact, tmp_path_factory) -> Path:
    """A collection root with nothing in it but the installed artefact."""
    root = tmp_path_factory.mktemp("installed")
    outcome = bench.run("ansible-galaxy", "collection", "install", "--offline", str(artefact), "-p", str(root), cwd=root, root=root)
    assert outcome.code == 0, outcome.output
    return root


def members(artefact: Path) -> set[str]:
    with tarfile.open(artefact) as archive:
        return {member.name for member in archive.getmembers() if member.isfile()}


def test_the_artefact_is_small_and_holds_what_a_user_needs_only(artefact):
    names = members(artefact)
    assert artefact.stat().st_size < LIMIT
    assert {name for name in names if "/" not in name} - FILES == set()
    assert {name.split("/")[0] for name in names if "/" in name} - HOLDS == set()
    assert not [name for name in names if "__pycache__" in name or name.startswith("extensions/molecule")]
    assert {"README.md", "LICENSE", "CHANGELOG.rst", "changelogs/changelog.yaml", "meta/runtime.yml"} <= names


def test_what_the_execution_environment_names_is_in_the_artefact(copy, artefact):
    named = yaml.safe_load((copy / "meta" / "execution-environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert set(named.values()) <= members(artefact)


def test_every_plugin_documents_itself_from_the_installed_artefact(bench, installed):
    here = installed / "ansible_collections" / "nordic" / "gitops"
    counted = 0
    for kind in ("module", "lookup", "filter", "inventory"):
        files = (here / "plugins" / ("modules" if kind == "module" else kind)).glob("[!_]*.py")
        names = sorted(f"nordic.gitops.{path.stem}" for path in files)
        if not names:
            continue
        outcome = bench.run("ansible-doc", "--json", "-t", kind, *names, cwd=installed, root=installed)
        assert outcome.code == 0, outcome.output
        docs = json.loads(outcome.output[outcome.output.index("{"):])
        assert [name for name in names if not (docs[name]["doc"]["short_description"] and docs[name]["examples"].strip())] == []
        counted += len(names)
    assert counted


def test_every_playbook_of_the_artefact_is_found_by_its_name_and_parses(bench, installed):
    here = installed / "ansible_collections" / "nordic" / "gitops"
    files = sorted((here / "playbooks").glob("*.yml"))
    outcome = bench.run("ansible-playbook", "--syntax-check", *(f"nordic.gitops.{path.stem}" for path in files), cwd=installed, root=installed)
    assert outcome.code == 0, outcome.output
    # It names each one that it found and could parse.
    assert [path for path in files if f"playbook: {path}\n" not in outcome.output] == [], outcome.output


def test_the_installed_artefact_reconciles_a_cluster_and_finds_it_in_sync_the_second_time(bench, installed, cluster, namespace, git_repo, tmp_path):
    """The demo's reconcile step as a user has it: the playbook by its name, nothing of the checkout in reach."""
    from lab import microservices

    services = 3
    objects = microservices.write(git_repo.path, services, namespace)
    git_repo.commit()
    given = {"reconcile_name": namespace, "reconcile_repository": git_repo.url, "reconcile_inventory_namespace": namespace,
             "reconcile_kubeconfig": str(cluster.kubeconfig), "reconcile_git_cache": str(tmp_path / "cache")}
    told = []
    for changed in (1, 0):
        outcome = bench.run("ansible-playbook", "-vvv", "nordic.gitops.reconcile", "-e", json.dumps(given), cwd=tmp_path, root=installed)
        assert outcome.code == 0 and re.search(rf"localhost +: ok=[0-9]+ +changed={changed} ", outcome.output), outcome.output
        assert '"in_sync": true' in outcome.output and '"healthy": true' in outcome.output, outcome.output
        # The collection of the artefact ran, and nothing of it from anywhere else.
        loaded = set(re.findall(r"^task path: (\S+/nordic/gitops)/", outcome.output, re.MULTILINE))
        assert loaded == {str(installed / "ansible_collections/nordic/gitops")}, outcome.output
        told.append(outcome.output)
    # The Namespace was there before, made by the test.
    assert f'"created": {objects - 1}' in told[0] and '"configured": 1' in told[0], told[0]
    assert f'"unchanged": {objects}' in told[1] and '"dry_runs": 0' in told[1], told[1]
    assert len(cluster.kubectl("get", "deployments", "-n", namespace, "-o", "name").split()) == services


def test_a_collection_without_a_version_is_not_built(bench, planted, tmp_path):
    folder = planted({"galaxy.yml": "---\nnamespace: nordic\nname: gitops\n"})
    assert bench.run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), cwd=folder).code != 0
