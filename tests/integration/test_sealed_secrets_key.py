# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of the real controller: kept, lost, brought back."""

from __future__ import annotations

import base64
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import LABEL, Key, parse
from ansible_collections.nordic.gitops.plugins.modules.sealed_secrets_key import EXAMPLES
from canary import PRIVATE_KEY, Canary
from reconciling import wait_until
from sealing import DAY, pair, secret

NAMESPACE = "kube-system"
KEYS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


@pytest.fixture
def play(cluster, sealing, tmp_path):
    """ansible-playbook with these tasks; what each of them registered."""
    password = tmp_path / "vault-password"
    password.write_text("the password of the vault\n", encoding="ascii")

    def run(*tasks, fails=False, arguments=(), vault=True):
        told = []
        for number, options in enumerate(tasks):
            module = "sealed_secret" if "data" in options else "sealed_secrets_key"
            told.append({"name": "Keys", f"nordic.gitops.{module}": options, "register": f"told_{number}", "ignore_errors": fails})
        told.append({"name": "Tell", "ansible.builtin.copy": {"dest": str(tmp_path / "told.json"), "mode": "0600",
                                                              "content": "{{ [%s] | to_json }}" % ", ".join(
            f"told_{number}" for number in range(len(tasks)))}, "check_mode": False})
        (tmp_path / "playbook.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": told}]), encoding="utf-8")
        values = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1",
                  "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig),
                  **({"ANSIBLE_VAULT_PASSWORD_FILE": str(password)} if vault else {})}
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "playbook.yml"), *arguments], env=values, text=True,
                              capture_output=True, timeout=300, check=False, cwd=tmp_path)
        run.output = done.stdout + done.stderr
        assert done.returncode == 0 and "Traceback (most recent call last)" not in run.output, run.output
        results = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
        assert any(result.get("failed") for result in results) == fails, run.output
        assert "PRIVATE KEY" not in run.output and "PRIVATE KEY" not in json.dumps(results)
        return results[-1]

    run.password = password
    return run


@pytest.fixture
def sealed(cluster, play, namespace, tmp_path):
    """A SealedSecret in a Git repository and in the cluster, opened."""
    def make(name, value="a value"):
        play({"path": f"repository/{name}.yaml", "name": name, "namespace": namespace, "data": {"k": value}})
        cluster.kubectl("apply", "--filename", str(tmp_path / "repository" / f"{name}.yaml"))
        wait_until(lambda: cluster.api.send("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")[0] == 200)
        commit(tmp_path / "repository")

    return make


def commit(folder):
    for command in (["init", "--quiet"], ["add", "--all"], ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "commit",
                                                            "--quiet", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


def keys_of(cluster):
    return {item["metadata"]["name"]: item for item in json.loads(cluster.kubectl("get", "secrets", "--namespace", NAMESPACE, "--selector", LABEL, "--output",
                                                                                  "json"))["items"]}


def decrypted(play, path):
    return subprocess.run([str(Path(sys.executable).parent / "ansible-vault"), "view", "--vault-password-file", str(play.password), str(path)], check=True,
                          capture_output=True, env={**os.environ, "PAGER": "cat"}).stdout


def test_the_cluster_is_destroyed_and_with_the_backup_every_sealedsecret_opens_again(cluster, sealing, play, sealed, namespace, tmp_path):
    sealed("one", "the first value")
    backup, repository = str(tmp_path / "keys.yaml"), f"file://{tmp_path / 'repository'}"
    verify = {"state": "verified", "backup": backup, "repository": repository}
    assert "there is no backup" in play(verify, fails=True)["msg"]  # said before anything is destroyed
    assert play({"state": "backed_up", "backup": backup}, arguments=["--check"])["changed"] and not os.path.exists(backup)
    first = play({"state": "backed_up", "backup": backup})
    assert first["changed"] and len(first["added"]) == 1 and Path(backup).read_text(encoding="ascii").startswith("$ANSIBLE_VAULT;1.1;AES256")
    assert os.stat(backup).st_mode & 0o777 == 0o600
    bytes_before = Path(backup).read_bytes()
    assert not play({"state": "backed_up", "backup": backup})["changed"] and Path(backup).read_bytes() == bytes_before
    old = play({"state": "present"})["sealing"]

    # A key that came after the backup: what it sealed is lost without a new backup, and verify says so.
    assert play({"state": "rotated"})["changed"]
    sealed("two", "the second value")
    now = play({"state": "present", "backup": backup})
    (unsaved,) = now["missing_from_backup"]
    assert unsaved.endswith(f"({now['sealing']})") and now["sealing"] != old
    assert f"These keys are in no backup: {unsaved}." in " ".join(play.output.split())
    told = play(verify, fails=True)
    assert f"SealedSecret {namespace}/two, key k: no key opens it" in told["msg"] and "the backup lacks the key" in told["msg"] and "/one" not in told["msg"]
    assert [line.split(":")[0] for line in told["lost"]] == ["two.yaml", f"cluster, {namespace}"]
    again = play({"state": "backed_up", "backup": backup})
    assert len(again["added"]) == 1 and len(parse(decrypted(play, backup), "backup")) == 2
    assert play(verify)["verified"] == 4

    # Destroyed: controller, definition, keys and namespace.
    sealing.uninstall(NAMESPACE)
    wait_until(lambda: not keys_of(cluster) and cluster.api.send("GET", "/apis/bitnami.com/v1alpha1/sealedsecrets")[0] == 404, 60)
    for name in ("one", "two"):
        cluster.kubectl("delete", "secret", name, "--namespace", namespace, "--ignore-not-found")

    would = play({"state": "restored", "backup": backup}, arguments=["--check"])
    assert would["changed"] and len(would["restored"]) == 2 and not keys_of(cluster)
    assert len(play({"state": "restored", "backup": backup})["restored"]) == 2
    assert not play({"state": "restored", "backup": backup})["changed"]
    sealing.install(NAMESPACE, kubeClientQPS="1000", kubeClientBurst="1000")
    now = play({"state": "present", "backup": backup})
    assert now["missing_from_backup"] == [] and len(now["sealing_keys"]) == 2 and now["sealing"] != old
    cluster.kubectl("apply", "--filename", str(tmp_path / "repository"))
    for name, value in (("one", "the first value"), ("two", "the second value")):
        wait_until(lambda name=name: cluster.api.send("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")[0] == 200)
        assert base64.b64decode(cluster.api.do("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")["data"]["k"]).decode() == value
    assert play(verify)["verified"] == 4


def test_a_key_seals_from_its_rotation_on_and_is_retired_once_nothing_needs_it(cluster, sealing, play, sealed, namespace, tmp_path):
    backup, repository = str(tmp_path / "keys.yaml"), f"file://{tmp_path / 'repository'}"
    before = play({"state": "present"})
    assert before["missing_from_backup"] is None
    sealed("old", "x")
    assert not play({"state": "rotated", "older_than": 1, "backup": backup})["changed"]
    told = play({"state": "rotated", "backup": backup})
    new = told["sealing"]
    assert told["changed"] and new != before["sealing"] and told["missing_from_backup"] == [] and new in told["rotated"]
    assert new in {each.fingerprint for each in parse(decrypted(play, backup), "backup")}
    assert "sealing_key" not in play({"state": "present",
                                      "sealing_key": new}) and "the key that seals is" in play({"state": "present", "sealing_key": before["sealing"]},
                                                                                               fails=True)["msg"]

    listed = {each["fingerprint"]: each for each in play({"state": "present", "repository": repository, "backup": backup})["sealing_keys"]}
    old_key = listed[before["sealing"]]
    assert old_key["values"] == 2 and old_key["active"] and not old_key["seals"] and old_key["age_days"] == 0 and listed[new]["seals"]
    retire = {"state": "retired", "keys": [old_key["name"]], "backup": backup, "repository": repository}
    assert "still opens 2 values: seal them anew first" in play(retire, fails=True)["msg"]
    assert "is the one that seals" in play({**retire, "keys": [new]}, fails=True)["msg"]
    assert "there is no key nobody's" in play({**retire, "keys": ["nobody's"]}, fails=True)["msg"]

    run = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "nordic.gitops.reseal", "-e", f"reseal_checkout={tmp_path / 'repository'}",
                          "-e",
                          "reseal_author_name=Release", "-e", "reseal_author_email=release@example.com"], capture_output=True, text=True, check=False,
                         env={**os.environ, "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig), "HOME": str(tmp_path / "home")})
    assert run.returncode == 0, run.stdout + run.stderr
    log = subprocess.run(["git", "log", "--format=%an %s", "--name-only"], cwd=tmp_path / "repository", check=True, capture_output=True, text=True).stdout
    assert log.startswith("Release ") and log.count("\n\n") == 2 and "old.yaml" in log
    cluster.kubectl("apply", "--filename", str(tmp_path / "repository"))
    assert play({**retire}, arguments=["--check"])["retired"] == [f"{old_key['name']} ({before['sealing']})"]
    assert keys_of(cluster)[old_key["name"]]["metadata"]["labels"][LABEL] == "active"
    play(retire)
    assert keys_of(cluster)[old_key["name"]]["metadata"]["labels"][LABEL] == "retired"
    assert not play(retire)["changed"]
    after = {each["fingerprint"]: each for each in play({"state": "present", "backup": backup})["sealing_keys"]}
    assert not after[before["sealing"]]["active"] and after[before["sealing"]]["in_backup"]
    cluster.kubectl("delete", "secret", "old", "--namespace", namespace)
    wait_until(lambda: cluster.api.send("GET", f"/api/v1/namespaces/{namespace}/secrets/old")[0] == 200)  # the controller opens it with the new key alone


def test_the_key_without_a_label_is_backed_up_and_restored_too(cluster, sealing, play, tmp_path):
    legacy = secret("sealed-secrets-key", *pair(begin=-400), labels=None)
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(legacy))
    try:
        backup = str(tmp_path / "keys.yaml")
        told = play({"state": "backed_up", "backup": backup})
        assert any(each.startswith("sealed-secrets-key (") for each in told["added"])
        (listed,) = [each for each in play({"state": "present", "backup": backup})["sealing_keys"] if each["name"] == "sealed-secrets-key"]
        assert listed["in_backup"] and listed["age_days"] == 400 and not listed["seals"]
        cluster.kubectl("delete", "secret", "sealed-secrets-key", "--namespace", NAMESPACE)
        assert [each.partition(" ")[0] for each in play({"state": "restored", "backup": backup})["restored"]] == ["sealed-secrets-key"]
        held = json.loads(cluster.kubectl("get", "secret", "sealed-secrets-key", "--namespace", NAMESPACE, "--output", "json"))
        assert held["data"] == legacy["data"] and LABEL not in held["metadata"].get("labels", {})
        assert "has no label" in play({"state": "retired", "keys": ["sealed-secrets-key"], "backup": backup}, fails=True)["msg"]
    finally:
        cluster.kubectl("delete", "secret", "sealed-secrets-key", "--namespace", NAMESPACE, "--ignore-not-found")


@pytest.mark.parametrize("damage", ["wrong password", "cut off", "not a backup", "empty"])
def test_a_backup_that_cannot_be_read_changes_nothing(cluster, play, tmp_path, damage):
    backup = tmp_path / "keys.yaml"
    play({"state": "backed_up", "backup": str(backup)})
    if damage == "wrong password":
        play.password.write_text("another one\n", encoding="ascii")
    elif damage == "cut off":
        backup.write_bytes(backup.read_bytes()[:4000])
    else:
        backup.write_text("" if damage == "empty" else "kind: ConfigMap\n", encoding="ascii")
    bytes_before, there = backup.read_bytes(), keys_of(cluster)
    words = {"wrong password": "the vault password is another one", "cut off": "cut off or altered", "not a backup": "is a ConfigMap, not a Secret",
             "empty": "holds no key"}[damage]
    for state in ("restored", "backed_up", "verified"):
        assert words in play({"state": state, "backup": str(backup)}, fails=True)["msg"]
    assert backup.read_bytes() == bytes_before and keys_of(cluster) == there


def test_without_a_vault_password_nothing_is_begun(cluster, play, tmp_path):
    there = keys_of(cluster)
    for state in ("backed_up", "rotated"):
        assert "there is no vault password" in play({"state": state, "backup": str(tmp_path / "keys.yaml")}, fails=True, vault=False)["msg"]
    assert keys_of(cluster) == there and not (tmp_path / "keys.yaml").exists()
    assert play({"state": "backed_up", "backup": str(tmp_path / "keys.yaml"), "vault_password": "given here"}, vault=False)["changed"]


def test_a_backup_has_the_vault_id_that_is_asked_for_and_its_password_may_come_from_a_script(cluster, play, tmp_path):
    script, backup = tmp_path / "password.sh", str(tmp_path / "keys.yaml")
    script.write_text("#!/bin/sh\necho from a script\n", encoding="ascii")
    script.chmod(0o700)
    run = {"vault": False, "arguments": ["--vault-id", f"dev@{play.password}", "--vault-id", f"prod@{script}"]}
    assert play({"state": "backed_up", "backup": backup, "vault_id": "prod"}, **run)["changed"]
    assert Path(backup).read_text(encoding="ascii").startswith("$ANSIBLE_VAULT;1.2;AES256;prod\n")
    assert not play({"state": "backed_up", "backup": backup, "vault_id": "prod"}, **run)["changed"]
    assert play({"state": "present", "backup": backup}, **run)["missing_from_backup"] == []
    shown = subprocess.run([str(Path(sys.executable).parent / "ansible-vault"), "view", "--vault-id", f"prod@{script}", backup], check=True,
                           capture_output=True, env={**os.environ, "PAGER": "cat"}).stdout
    assert {each.name for each in parse(shown, "backup")} == set(keys_of(cluster))
    assert "Ansible Vault cannot encrypt" in play({"state": "backed_up", "backup": f"{backup}.new", "vault_id": "none"}, fails=True, **run)["msg"]


def test_a_controller_that_does_not_take_the_new_key_fails_the_rotation_and_the_next_run_finishes_it(cluster, sealing, play):
    """Its Deployment is paused: the restart does not happen."""
    cluster.kubectl("rollout", "pause", "deployment/sealed-secrets-controller", "--namespace", NAMESPACE)
    before = set(keys_of(cluster))
    told = play({"state": "rotated", "timeout": 2}, fails=True)
    assert "does not seal with the key" in told["msg"] and "after 2 s" in told["msg"]
    made = set(keys_of(cluster)) - before
    assert "does not seal with the key" in play({"state": "rotated", "timeout": 2}, fails=True)["msg"] and set(keys_of(cluster)) - before == made
    cluster.kubectl("rollout", "resume", "deployment/sealed-secrets-controller", "--namespace", NAMESPACE)
    # The resumed Deployment may restart the controller before this run looks: then there is nothing left to finish.
    play({"state": "rotated", "older_than": 1})
    assert set(keys_of(cluster)) - before == made and made == {each["name"] for each in play({"state": "present"})["sealing_keys"] if each["seals"]}


def test_a_key_whose_certificate_ends_within_30_days_is_a_warning_in_the_list(cluster, sealing, play, tmp_path):
    plain = tmp_path / "keys.yaml"
    private, certificate = pair(begin=0, days=20)
    plain.write_text(json.dumps(secret("sealed-secrets-keysoon", private, certificate)), encoding="ascii")
    soon = play({"state": "restored", "backup": str(plain)})["sealing"]
    try:
        (key,) = [each for each in play({"state": "present"})["sealing_keys"] if each["seals"]]
        end = datetime.datetime.now(datetime.timezone.utc) + 20 * DAY
        assert key["name"] == "sealed-secrets-keysoon" and key["fingerprint"] == soon and key["ends"][:7] == f"{end - DAY / 24:%Y-%m}"
        assert f"The certificate that the controller seals with, {soon}, ends on {key['ends'][:10]}." in " ".join(play.output.split())
        play({"state": "rotated"}, {"state": "present"})
        assert play({"state": "present"})["sealing"] != soon and "ends on" not in play.output
    finally:
        cluster.kubectl("delete", "secret", "sealed-secrets-keysoon", "--namespace", NAMESPACE)


def test_an_own_key_that_loses_to_one_of_the_controller_is_a_failure_and_stays(cluster, sealing, play, tmp_path):
    own = secret("sealed-secrets-keyown", *pair(begin=-400, days=3650))
    (tmp_path / "own.yaml").write_text(json.dumps(own), encoding="ascii")
    mine = Key.of_secret(own, "own").fingerprint
    told = play({"state": "restored", "backup": str(tmp_path / "own.yaml"), "sealing_key": mine}, fails=True)
    try:
        assert f", not {mine}" in told["msg"] and "takes the active key whose certificate begins last" in told["msg"]
        assert keys_of(cluster)["sealed-secrets-keyown"]["data"] == own["data"]
        now = play({"state": "present"})["sealing"]
        assert now != mine and not play({"state": "restored", "backup": str(tmp_path / "own.yaml"), "sealing_key": now})["changed"]
    finally:
        cluster.kubectl("delete", "secret", "sealed-secrets-keyown", "--namespace", NAMESPACE)


def test_where_no_controller_is_it_is_said_and_nothing_is_made(cluster, play, namespace, tmp_path):
    for place in (namespace, f"{namespace}-none"):
        there = {"controller_namespace": place, "backup": str(tmp_path / "keys.yaml")}
        for state in ("present", "backed_up"):
            assert f"there is no key of Sealed Secrets in the namespace {place}" in play({"state": state, **there}, fails=True)["msg"]
        assert f"Deployment {place}/sealed-secrets-controller: there is no such Deployment" in play({"state": "rotated", **there}, fails=True)["msg"]
        assert not cluster.kubectl("get", "secrets", "--namespace", place, "--selector", LABEL, "--output", "name") and not os.path.exists(there["backup"])


def test_reseal_commits_once_and_pushes_without_a_hook_and_leaves_a_dirty_checkout_alone(cluster, play, sealed, tmp_path):
    checkout, backup = tmp_path / "repository", str(tmp_path / "keys.yaml")
    canary = Canary("one", "two", more=[PRIVATE_KEY])
    for name in ("one", "two"):
        sealed(name, canary[name])
    (checkout / "apps").mkdir()
    (checkout / "one.yaml").rename(checkout / "apps" / "one.yaml")
    commit(checkout)

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--bare", str(tmp_path / "remote"))
    git("remote", "add", "origin", f"file://{tmp_path / 'remote'}")
    git("push", "--quiet", "--set-upstream", "origin", "HEAD")
    for hook in ("pre-commit", "pre-push", "post-commit"):
        (checkout / ".git" / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n", encoding="ascii")
        (checkout / ".git" / "hooks" / hook).chmod(0o755)

    def reseal(*arguments):
        return subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), "nordic.gitops.reseal", "-e", f"reseal_checkout={checkout}", "-e",
                               "reseal_path=apps", "-e", f"reseal_backup={backup}", "-e", "reseal_push=true", "-e", "reseal_author_name=Release", "-e",
                               "reseal_author_email=release@example.com", "-vvvv", "--diff", *arguments], capture_output=True, text=True, check=False,
                              env={**os.environ, "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig), "HOME": str(tmp_path / "home"),
                                   "ANSIBLE_VAULT_PASSWORD_FILE": str(play.password), "ANSIBLE_NOCOLOR": "1"})

    play({"state": "rotated", "backup": backup})
    before, two, one = git("rev-parse", "HEAD"), (checkout / "two.yaml").read_bytes(), (checkout / "apps" / "one.yaml").read_bytes()
    (checkout / "two.yaml").write_bytes(two + b"# mine\n")
    run = reseal()
    assert run.returncode != 0 and "has changes that are not committed" in " ".join((run.stdout + run.stderr).split())
    assert git("rev-parse", "HEAD") == before and (checkout / "two.yaml").read_bytes() == two + b"# mine\n"
    (checkout / "two.yaml").write_bytes(two)

    run = reseal("--check")
    assert run.returncode == 0 and git("rev-parse", "HEAD") == before and (checkout / "apps" / "one.yaml").read_bytes() == one, run.stdout + run.stderr
    with canary.watched():
        run = reseal()
    assert run.returncode == 0, run.stdout + run.stderr
    canary.check("the output", run.stdout + run.stderr)
    after = git("rev-parse", "HEAD")
    assert git("rev-parse", "HEAD^") == before and git("show", "--format=", "--name-only") == "apps/one.yaml" and git("status", "--porcelain") == ""
    assert git("ls-remote", "origin", "HEAD").split()[0] == after and not (tmp_path / "hook-ran").exists()
    run = reseal()
    assert run.returncode == 0 and "changed=0" in run.stdout and git("rev-parse", "HEAD") == after, run.stdout + run.stderr
    assert (checkout / "two.yaml").read_bytes() == two
    assert canary.check_files(checkout, tmp_path / "home", tmp_path / "remote") and canary.check_objects(checkout) > 5


def test_a_name_or_namespace_that_git_changes_after_sealing_is_named_by_verify_from_what_is_rendered(cluster, play, sealed, namespace, tmp_path):
    sealed("db")
    backup, repository = str(tmp_path / "keys.yaml"), tmp_path / "repository"
    play({"state": "backed_up", "backup": backup})
    for scope in ("namespace-wide", "cluster-wide"):
        play({"path": f"repository/{scope}.yaml", "name": scope, "namespace": namespace, "data": {"k": "a value"}, "scope": scope})
    resources = "resources: [db.yaml, namespace-wide.yaml, cluster-wide.yaml]\n"
    strict = f"no key opens it; it was sealed for {namespace}/db"
    wide = f"SealedSecret staging/namespace-wide, key k: no key opens it; it was sealed for the namespace {namespace}"
    for change, lost in (("", []), ("nameSuffix: -staging\n", [f"SealedSecret {namespace}/db-staging, key k: {strict}"]),
                         ("namespace: staging\n", [f"SealedSecret staging/db, key k: {strict}", wide])):
        (repository / "kustomization.yaml").write_text(change + resources, encoding="ascii")
        commit(repository)
        told = play({"state": "verified", "backup": backup, "repository": f"file://{repository}"}, fails=bool(lost))
        assert len(told["lost"]) == len(lost) and all(any(line in each for each in told["lost"]) for line in lost), told


def test_every_example_of_the_module_runs(cluster, play, sealed, tmp_path):
    sealed("one")
    (tmp_path / "repository" / "clusters" / "production").mkdir(parents=True)
    (tmp_path / "repository" / "one.yaml").rename(tmp_path / "repository" / "clusters" / "production" / "one.yaml")
    commit(tmp_path / "repository")
    text = EXAMPLES.replace("https://git.example.no/platform/manifests.git", f"file://{tmp_path / 'repository'}")
    play(*(task["nordic.gitops.sealed_secrets_key"] for task in yaml.safe_load(text)))
