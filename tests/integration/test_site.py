# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook site: what it refuses and plans with no cluster at all, and its stages with the real Argo CD and Sealed Secrets beside the cluster.

Hosts that become a cluster by it are those of the molecule scenario `site`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lab import places, sealed_secrets
from reconciling import config_map

IN_CLUSTER = "https://kubernetes.default.svc"
SERVERS = {"k3s_servers": {"hosts": {"server1": {"ansible_host": "192.0.2.11"}}}}


@pytest.fixture
def site(tmp_path):
    """Runs the playbook in a folder of its own; fails: what it says when it fails; unchanged: it has to find nothing to change."""
    (tmp_path / "vault-password").write_text("a password\n", encoding="ascii")
    (tmp_path / "here").mkdir()

    def run(*arguments, inventory=None, playbook="site", fails="", unchanged=False, path="", **variables):
        told = {**(SERVERS if inventory is None else inventory), "all": {"vars": variables}}
        (tmp_path / "here" / "inventory.yml").write_text(yaml.safe_dump(told), encoding="utf-8")
        environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1",
                       "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"], "PWD": str(tmp_path / "here"),
                       "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "vault-password"), "K8S_AUTH_KUBECONFIG": "/does/not/exist"}
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), f"nordic.gitops.{playbook}", "--inventory", "inventory.yml", *arguments],
                              cwd=tmp_path / "here", env=environment, text=True, capture_output=True, timeout=900, check=False)
        output = done.stdout + done.stderr
        assert "Traceback (most recent call last)" not in output and (done.returncode != 0) == bool(fails), output
        assert fails in " ".join(output.split()), output
        assert not fails or "changed=0" in output, output
        assert not unchanged or "changed=0" in output, output
        return output

    return run


@pytest.fixture
def manifests(git_repo):
    """A repository whose root Application has one other, which has one ConfigMap."""
    git_repo.write("environments/production/shop.yaml", yaml.safe_dump({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "production-shop", "namespace": "argocd"},
        "spec": {"project": "default", "source": {"repoURL": git_repo.url, "targetRevision": "main", "path": "shop"},
                 "destination": {"server": IN_CLUSTER, "namespace": "shop"},
                 "syncPolicy": {"automated": {"prune": True, "selfHeal": True}, "syncOptions": ["CreateNamespace=true"]}}}))
    git_repo.write("shop/settings.yaml", config_map("settings", "one"))
    git_repo.commit()
    return git_repo


@pytest.mark.parametrize(("inventory", "arguments", "variables", "fails"), [
    ({}, (), {}, "The inventory has no server. Add a host to the group k3s_servers, or set instance_groups with a group named server."),
    ({}, (), {"instance_groups": [{"name": "agent", "count": 2}]}, "The inventory has no server."),
    ({}, ("--tags", "k3s"), {"instance_groups": [{"name": "server", "count": 1}]}, "The instances are not in the inventory. Run the stage provision too."),
    (SERVERS, (), {}, "sealed_secrets_source, argocd_source, site_repository are not set."),
    (SERVERS, ("--skip-tags", "sealed_secrets,applications"), {}, "argocd_source is not set."),
    (SERVERS, ("--tags", "argo"), {}, "argo: there is no such stage. There are provision, preflight, k3s, sealed_secrets, argocd, applications."),
    (SERVERS, ("--tags", "argocd"), {"argocd_source": "install.yaml"}, "The stage argocd needs a cluster, and there is no kubeconfig"),
    (SERVERS, ("--tags", "applications"), {"site_repository": "file:///nowhere"}, "The stage applications needs a cluster, and there is no kubeconfig"),
])
def test_an_inventory_without_servers_and_a_stage_without_its_prerequisite_are_refused(site, inventory, arguments, variables, fails):
    site(*arguments, inventory=inventory, fails=fails, **variables)


SOURCES = {"sealed_secrets_source": "/srv/sealed-secrets", "argocd_source": "/srv/install.yaml"}


def test_a_repository_that_is_not_there_or_lacks_the_folder_is_refused_before_the_first_stage(site, manifests, tmp_path):
    site(fails="there is no Git repository at this path", site_repository=f"file://{tmp_path / 'nothing'}", **SOURCES)
    said = site(fails="environments/staging: there is no such file or folder", site_repository=manifests.url, site_path="environments/staging", **SOURCES)
    assert "PLAY [Measure" not in said and "production" in said


def seal(binaries, git_repo, tmp_path, name="db", file="shop/db.yaml"):
    """Commit a SealedSecret of a key of its own; the key as a List of Secrets."""
    from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import keys
    from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.key_task import text_of

    key = keys.generate([], "kube-system", "sealed-secrets-key")
    certificate = tmp_path / f"{name}.pem"
    certificate.write_bytes(base64.b64decode(key.secret["data"]["tls.crt"]))
    secret = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": {"password": "from-a-vault"}})
    git_repo.write(file, subprocess.run([str(binaries / "kubeseal"), "--cert", str(certificate), "--format", "yaml"], input=secret, text=True, check=True,
                                        capture_output=True).stdout)
    git_repo.commit()
    return text_of([key.clean()])


def test_a_backup_that_does_not_open_what_the_repository_holds_is_named_before_the_first_stage(site, manifests, binaries, tmp_path):
    backup = tmp_path / "keys.yaml"
    options = {"site_repository": manifests.url, "sealed_secrets_backup": str(backup), **SOURCES}
    seal(binaries, manifests, tmp_path)
    site(fails="The repository holds SealedSecrets, such as shop/db.yaml, and there is no file", **options)
    site(fails="and sealed_secrets_backup is not set", **{**options, "sealed_secrets_backup": None})
    backup.write_bytes(seal(binaries, manifests, tmp_path, "other", "shop/other.yaml"))
    said = site(fails="1 do not open: shop/db.yaml:2: SealedSecret shop/db, key password", **options)
    assert "PLAY [Measure" not in said and not (tmp_path / "here" / "kubeconfig").exists()


def test_the_first_stage_that_fails_ends_the_run(site, manifests):
    inventory = {"k3s_servers": {"hosts": {"server1": {"ansible_host": "127.0.0.1", "ansible_port": places.free_port()}}}}
    said = site(inventory=inventory, fails="Connection refused", site_repository=manifests.url, preflight_report="", **SOURCES)
    assert "PLAY [Measure" in said and "PLAY [Install" not in said and "PLAY [Make the root Application" not in said and "PLAY [Sum up]" not in said


def test_check_mode_names_what_comes_into_a_cluster_that_is_not_there_yet(site, manifests, binaries, tmp_path):
    """The plan of instances and nodes is that of their own roles, and theirs to test."""
    backup = tmp_path / "keys.yaml"
    backup.write_bytes(seal(binaries, manifests, tmp_path))
    said = site("--check", "--extra-vars", "preflight_hosts=all:!all k3s_hosts=all:!all", site_repository=manifests.url,
                sealed_secrets_backup=str(backup), **SOURCES)
    plan = " ".join(said.split())
    for stage in (f"The keys of {backup} are restored first. Sealed Secrets is installed from /srv/sealed-secrets.",
                  "Argo CD is installed from /srv/install.yaml.",
                  f"The root Application is made of {manifests.url}, folder environments/production, at {manifests.git('rev-parse', 'HEAD')[:12]}"):
        assert stage in plan, said
    assert not (tmp_path / "here" / "kubeconfig").exists()


def test_a_platform_is_not_resurrected_without_the_snapshot_or_the_keys_that_it_needs(site, manifests, binaries, tmp_path):
    backup, snapshots = tmp_path / "keys.yaml", tmp_path / "snapshots"
    snapshots.mkdir()
    options = {"site_repository": manifests.url, "sealed_secrets_backup": str(backup), "resurrect_snapshots": str(snapshots), **SOURCES}
    seal(binaries, manifests, tmp_path)
    site(playbook="resurrect", fails=f"{snapshots} has no snapshot. Leave resurrect_snapshots out for a new cluster", **options)
    (tmp_path / "here" / "kubeconfig").write_text("that of the lost cluster\n", encoding="ascii")
    del options["resurrect_snapshots"]
    said = site(playbook="resurrect", fails="The repository holds SealedSecrets, such as shop/db.yaml, and there is no file", **options)
    assert "PLAY [Measure" not in said
    site(playbook="resurrect", inventory={}, fails="The inventory has no server.", **options)


def test_a_lost_platform_is_planned_from_the_newest_snapshot_or_as_a_new_cluster(site, manifests, binaries, tmp_path):
    backup, snapshots = tmp_path / "keys.yaml", tmp_path / "snapshots"
    snapshots.mkdir()
    for number, name in enumerate(("nightly-1", "nightly-3", "nightly-2")):
        (snapshots / name).write_bytes(b"")
        os.utime(snapshots / name, (number, number))
    backup.write_bytes(seal(binaries, manifests, tmp_path))
    options = {"site_repository": manifests.url, "sealed_secrets_backup": str(backup), **SOURCES}
    nobody = ("--check", "--extra-vars", "preflight_hosts=all:!all k3s_hosts=all:!all")
    (tmp_path / "here" / "kubeconfig").write_text("that of the lost cluster\n", encoding="ascii")
    said = " ".join(site(*nobody, playbook="resurrect", **options).split())
    assert f"The keys of {backup} are restored first." in said and "The root Application is made of" in said
    (tmp_path / "here" / "kubeconfig").unlink()
    said = site(*nobody, "-v", playbook="resurrect", resurrect_snapshots=str(snapshots), **options)
    assert f'"resurrect_snapshot": "{snapshots / "nightly-2"}"' in said


# ---- with the real Argo CD


@pytest.fixture(scope="module")
def argo(argo):
    """A cluster with Argo CD beside it, and a runner for the Pods of Sealed Secrets."""
    with sealed_secrets.Controllers(argo):
        yield argo


@pytest.fixture
def platform(argo, site, binaries, tmp_path):
    """Runs stages of the playbook on that cluster."""
    from lab import argocd

    ports = {"containerPorts": {"http": places.free_port(), "metrics": places.free_port()}}

    def run(*arguments, **variables):
        # Relative paths are those of the folder in which Ansible is started.
        here = tmp_path / "here"
        (here / "files").mkdir(exist_ok=True)
        shutil.copy(argo.kubeconfig, here / "files" / "kubeconfig")
        shutil.copy(argocd.tree() / "manifests" / "install.yaml", here / "files" / "install.yaml")
        shutil.copytree(sealed_secrets.chart(), here / "files" / "chart", copy_function=shutil.copyfile, dirs_exist_ok=True)
        given = {"k3s_kubeconfig": "files/kubeconfig", "k3s_kubeconfig_context": "lab", "sealed_secrets_source": "files/chart",
                 "sealed_secrets_values": ports, "sealed_secrets_backup": str(tmp_path / "keys.yaml"), "sealed_secrets_folder": str(tmp_path / "ss"),
                 "argocd_source": "files/install.yaml", "argocd_folder": str(tmp_path / "argocd"), "site_wait_timeout": 120,
                 **variables}
        return site(*(arguments or ("--skip-tags", "provision,preflight,k3s")), path=str(binaries), **given)

    yield run


@pytest.mark.built("Argo CD")
@pytest.mark.xdist_group("argocd")
def test_from_a_cluster_to_a_sealed_secret_that_an_application_brings_and_a_second_run_changes_nothing(argo, platform, manifests, binaries, tmp_path):
    (tmp_path / "keys.yaml").write_bytes(seal(binaries, manifests, tmp_path))
    try:
        said = platform(site_repository=manifests.url)
        head = manifests.git("rev-parse", "HEAD")
        assert f"production-shop: Synced, Healthy at {head[:8]}" in said and f"root: Synced, Healthy at {head[:8]}" in said
        secret = json.loads(argo.kubectl("get", "secret", "db", "--namespace", "shop", "--output", "json"))
        assert secret["data"] == {"password": "ZnJvbS1hLXZhdWx0"}
        platform(site_repository=manifests.url, unchanged=True)
        platform("--check", "--skip-tags", "provision,preflight,k3s", site_repository=manifests.url, unchanged=True)
        manifests.write("shop/settings.yaml", config_map("settings", "two"))
        head = manifests.commit()
        assert f"production-shop: Synced, Healthy at {head[:8]}" in platform("--tags", "applications", site_repository=manifests.url)
    finally:
        for name in ("root", "production-shop"):
            argo.kubectl("delete", "application", name, "--namespace", "argocd", "--ignore-not-found")
        argo.kubectl("delete", "namespace", "shop", "--ignore-not-found")
