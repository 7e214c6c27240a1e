# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""secrets_check on real checkouts: the work tree, and each commit that is about to be pushed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check import check_commits, check_files
from ansible_collections.nordic.gitops.plugins.modules.secrets_check import EXAMPLES
from canary import Canary
from lab.repository import Repository, git_env
from workspace import places

KEY = "-----BEGIN RSA PRIVATE KEY-----"
SECRET = "kind: Secret\nmetadata: {name: db}\nstringData:\n  password: hunter2\n"


def commits(git_repo, span="origin..HEAD"):
    return [(one.commit, one.file, one.line) for one in check_commits(str(git_repo.path), span)]


def test_a_secret_that_the_next_commit_removes_is_found_in_the_commit_that_adds_it(git_repo):
    git_repo.write("a.yaml", "a: 1\n")
    git_repo.commit()
    git_repo.git("branch", "origin")
    git_repo.write("shop/db.yaml", SECRET)
    added = git_repo.commit()
    git_repo.remove("shop/db.yaml")
    git_repo.commit()
    assert commits(git_repo) == [(added, "shop/db.yaml", 4)] and check_files(str(git_repo.path)) == []


def test_only_what_a_commit_adds_is_reported(git_repo):
    git_repo.write("shop/db.yaml", SECRET)
    git_repo.commit()
    git_repo.git("branch", "origin")
    git_repo.write("shop/db.yaml", "# note\n" + SECRET)
    git_repo.commit()
    git_repo.write("shop/db.yaml", "# note\n")
    git_repo.commit()
    assert commits(git_repo) == []


def test_a_merge_reports_only_what_none_of_its_parents_has(git_repo):
    git_repo.write("a.yaml", "a: 1\n")
    git_repo.commit()
    git_repo.branch("side")
    git_repo.write("db.yaml", SECRET)
    git_repo.commit()
    git_repo.checkout("main")
    git_repo.git("branch", "origin", "side")
    git_repo.write("b.yaml", "b: 1\n")
    git_repo.commit()
    git_repo.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    assert commits(git_repo) == []
    git_repo.write("b.yaml", "password: hunter2\n")
    git_repo.git("commit", "--quiet", "--all", "--amend", "--no-edit")
    assert commits(git_repo) == [(git_repo.head(), "b.yaml", 1)]


def test_untracked_files_count_and_ignored_and_excluded_ones_do_not(git_repo):
    git_repo.write(".gitignore", "ignored.yaml\n")
    for name in ("ignored.yaml", "fixtures/one.yaml", "some name é.yaml"):
        git_repo.write(name, SECRET)
    git_repo.write("binary.yaml", b"\0" + SECRET.encode())
    (git_repo.path / "link.yaml").symlink_to("/etc/hostname")
    assert [one.file for one in check_files(str(git_repo.path), ["fixtures"])] == ["some name é.yaml"]
    git_repo.commit()
    assert [one.file for one in check_commits(str(git_repo.path), "HEAD", ["fixtures/*"])] == ["some name é.yaml"]


@pytest.mark.parametrize("start, how", [("", "text"), ("\ufeff", "utf-16-le")])
def test_what_lies_behind_the_bytes_of_a_file_that_are_searched_is_said(git_repo, start, how):
    """A file that was searched in part is never passed in silence; one that is no text has nothing to search for."""
    encoding = "utf-8" if how == "text" else how
    half = "#xxxx\n" * ((20 << 20) // 6 // (1 if how == "text" else 2))
    (git_repo.path / "large.txt").write_bytes(f"{start}{half}{half[:600]}{KEY}\n".encode(encoding))
    (git_repo.path / "exact.txt").write_bytes(b"#xxxxxx\n" * ((20 << 20) // 8))
    (git_repo.path / "program").write_bytes(b"\0" * ((20 << 20) + 9))
    found = check_files(str(git_repo.path))
    said = [(one.file, one.what) for one in found if "searched" in one.what]
    assert ("large.txt", "only the first 20 MiB of a file are searched. Split it, or exclude it") in said
    assert {file for file, _what in said} <= {"large.txt", "exact.txt"} and not [one for one in found if one.file == "program"]
    assert ("exact.txt", "only the first 20 MiB of a file are searched. Split it, or exclude it") not in said
    assert not check_files(str(git_repo.path), ["large.txt", "exact.txt"])


def test_a_file_that_cannot_be_read_is_named_and_a_name_forges_no_line(git_repo, monkeypatch):
    git_repo.write("a\n0 secrets\x1b[2J.yaml", f"{KEY}\n")
    (found,) = check_files(str(git_repo.path))
    assert str(found).startswith("a 0 secrets [2J.yaml:1: ")
    git_repo.write("gone.yaml", "a: 1\n")
    git_repo.git("add", "--all")
    real = os.path.isfile
    monkeypatch.setattr("os.path.isfile", lambda path: real(path) or str(path).endswith("gone.yaml"))  # fake: it is removed between two looks
    (git_repo.path / "gone.yaml").unlink()
    with pytest.raises(Failure, match="gone.yaml: can't be read: No such file or directory. Make it readable, or exclude it."):
        check_files(str(git_repo.path))


@pytest.mark.parametrize("span, sentence", [("nowhere..HEAD", "is not a range of commits here.*shallow"), ("--all", "is not a range"), ("", "is not a range"),
                                            ("a b", "is not a range")])
def test_a_bad_range_is_named(git_repo, span, sentence):
    git_repo.commit()
    with pytest.raises(Failure, match=sentence):
        check_commits(str(git_repo.path), span)


def test_a_folder_that_is_no_checkout_is_named(tmp_path):
    with pytest.raises(Failure, match="is not the root of a Git checkout"):
        check_files(str(tmp_path))


def test_the_module_fails_in_its_examples_and_shows_no_value(git_repo, tmp_path):
    git_repo.write("a.yaml", "a: 1\n")
    git_repo.commit()
    git_repo.git("update-ref", "refs/remotes/origin/main", "HEAD")
    canary = Canary("stored")
    git_repo.write("shop/db.yaml", SECRET.replace("hunter2", canary["stored"]))
    git_repo.commit()
    for task in yaml.safe_load(EXAMPLES):
        task["nordic.gitops.secrets_check"]["path"] = str(git_repo.path)
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-vvvv", "--diff"]
        with canary.watched():
            done = subprocess.run(command, text=True, capture_output=True, timeout=300, check=False, env={
                **os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log")})
        assert done.returncode == 2 and "shop/db.yaml:4: Secret db: stringData.password is not encrypted" in done.stdout, done.stdout
        canary.check("the output", done.stdout + done.stderr)
        assert canary.check_files(tmp_path, but=[git_repo.path / "shop/db.yaml"]) > 5


@pytest.fixture
def guarded(git_repo, tmp_path):
    """git_repo with the hooks of this repository, installed by the real pre-commit, and a remote to push to."""
    hooks = Repository(tmp_path / "hooks")
    hooks.write(".pre-commit-hooks.yaml", (places.CHECKOUT / ".pre-commit-hooks.yaml").read_bytes())
    chosen = [{"id": "secrets-check"}, {"id": "secrets-check-push"}]
    git_repo.write(".pre-commit-config.yaml", yaml.safe_dump({"repos": [{"repo": str(hooks.path), "rev": hooks.commit(), "hooks": chosen}]}))
    git_repo.commit()
    remote = tmp_path / "remote.git"
    git_repo.git("clone", "--quiet", "--bare", git_repo.url, str(remote))
    git_repo.git("remote", "add", "origin", str(remote))
    environment = {**git_env(), "LC_ALL": "C.UTF-8", "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"), "ANSIBLE_HOME": str(tmp_path / "ansible"),
                   "ANSIBLE_NOCOLOR": "1"}

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=git_repo.path, env=environment, text=True, capture_output=True, check=False)

    install = [str(Path(sys.executable).parent / "pre-commit"), "install", "--hook-type", "pre-commit", "--hook-type", "pre-push"]
    subprocess.run(install, cwd=git_repo.path, env=environment, check=True, capture_output=True)
    git_repo.run_git = git
    return git_repo


def test_pre_commit_refuses_a_commit_and_a_push_that_hold_a_secret(guarded):
    head = guarded.head()
    guarded.write("shop/db.yaml", SECRET)
    guarded.git("add", "--all")
    refused = guarded.run_git("commit", "-m", "a secret")
    said = refused.stdout + refused.stderr
    assert refused.returncode and "shop/db.yaml:4: Secret db: stringData.password is not encrypted" in said and "hunter2" not in said
    assert guarded.head() == head

    added = guarded.commit("past the hook", "--no-verify")  # and the next one removes it: what is pushed holds it all the same
    guarded.remove("shop/db.yaml")
    guarded.commit("removed", "--no-verify")
    refused = guarded.run_git("push", "origin", "main")
    said = refused.stdout + refused.stderr
    assert refused.returncode and f"(commit {added[:12]})" in said and guarded.git("ls-remote", "origin", "main").startswith(head)

    guarded.git("reset", "--quiet", "--hard", head)
    guarded.write("shop/web.yaml", "kind: Deployment\n")
    guarded.git("add", "--all")
    done = guarded.run_git("commit", "-m", "no secret")
    assert done.returncode == 0 and guarded.head() != head, done.stdout + done.stderr
    done = guarded.run_git("push", "origin", "main")
    assert done.returncode == 0 and guarded.git("ls-remote", "origin", "main").startswith(guarded.head()), done.stdout + done.stderr
