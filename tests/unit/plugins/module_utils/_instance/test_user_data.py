# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User data: composed, checked before anything exists, recognised later."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._instance import user_data

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl somebody"


def test_a_script_and_cloud_config_become_one_document_that_is_the_same_each_time():
    made = [user_data.compose("a", "#!/bin/sh\ntrue\n", {"packages": ["git"]}) for _each in "12"]
    assert made[0] == made[1] and "text/cloud-config" in made[0] and "text/x-shellscript" in made[0]
    assert user_data.compose("a", "#!/bin/sh\n", None) == "#!/bin/sh\n" and user_data.compose("a", None, None) == ""


@pytest.mark.parametrize("text, words", [
    ("hello", "begins with 'hello', so cloud-init would ignore it"),
    ("#cloud-config\npackages: [git\n", "is not YAML, line 3"),
    ("#cloud-config\n- a\n", "is a list, not a mapping"),
    ("#cloud-config\nruncmd:\n- echo\n-\n", r"entry 2 of runcmd is empty \(line 2\)"),
    ("#cloud-config\nbootcmd: echo\n", "bootcmd is no list"),
    ("#!/bin/sh\n" + "x" * 50000, "takes 66680 bytes in base64, 65535 is the limit"),
])
def test_bad_user_data_is_refused_before_anything_is_made(text, words):
    with pytest.raises(Failure, match=words):
        user_data.compose("a", text, None)


@pytest.mark.parametrize("start", ["!", "!!", "*", "!a!", "@"])
def test_a_password_without_quotes_that_reads_as_something_else_is_not_shown(start):
    with pytest.raises(Failure, match="user_data is not YAML, line 2: ") as failure:
        user_data.compose("a", f"#cloud-config\npassword: {start}hunter2-word\n", None)
    assert "hunter2" not in str(failure.value)


def test_an_empty_command_of_structured_data_is_refused_too():
    with pytest.raises(Failure, match="entry 1 of runcmd is empty"):
        user_data.compose("a", None, {"runcmd": [None]})


def test_the_mark_tells_another_text_and_needs_the_key():
    assert user_data.mark("a", "k") == user_data.mark("a", "k") != user_data.mark("b", "k") != user_data.mark("b", "l") and user_data.mark("", "k") == ""


def test_keys_are_found_by_their_fingerprints_as_ssh_shows_them(tmp_path):
    import subprocess

    (tmp_path / "key.pub").write_text(KEY)
    shown = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "key.pub")], capture_output=True, text=True, check=True).stdout.split()[1]
    assert user_data.fingerprint(KEY) == shown
    text = user_data.compose("a", None, {"ssh_authorized_keys": [KEY], "users": ["default", {"name": "x", "ssh_authorized_keys": ["no key"]}]})
    assert user_data.ssh_keys(text) == (shown,)
    assert user_data.fingerprint("ssh-ed25519 not-base64") == user_data.fingerprint("") == ""


LAUGHS = "#cloud-config\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("text", [
    LAUGHS + "ssh_authorized_keys: *a11\n",
    LAUGHS + "ssh_authorized_keys: [*a11]\n",
    "#cloud-config\nk: &k [" + "a key, " * 1000 + "]\nu: &u {ssh_authorized_keys: *k}\nusers: [" + "*u, " * 3000 + "]\n",
    "#cloud-config\nusers: 1\nssh_authorized_keys: 2\n",
    "#cloud-config\nusers: {a: b}\nssh_authorized_keys: text\n",
], ids=["a list of lists", "lists in a list", "many users", "numbers", "texts"])
def test_no_cloud_config_takes_more_than_a_look_however_its_aliases_unfold(text):
    assert user_data.compose("web", text, None) == text and user_data.ssh_keys(text) == ()


@pytest.mark.parametrize("text, words", [
    ("#cloud-config\na: " + "[" * 5000, "cannot be read|not YAML"),
    ("#cloud-config\n? [a]\n: b\n", "not YAML"),
    ("#cloud-config\na: 2024-13-45\n", "cannot be read"),
    ("#cloud-config\n" + "- a\n" * 1_000_000, "65535 is the limit"),
], ids=["deep", "a list as a key", "a date that is none", "large"])
def test_cloud_config_that_no_reader_takes_is_refused_in_a_sentence(text, words):
    with pytest.raises(Failure, match=words):
        user_data.compose("web", text, None)
    assert user_data.ssh_keys(text if len(text) < 100_000 else "") == ()
