# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be asked of Git, what it is told, and what its words mean: all that needs no repository."""

from __future__ import annotations

import glob
import itertools
import os
import subprocess

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC, Source
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import (
    CONTROL,
    TRANSPORTS,
    checked_path,
    checked_repository,
    checked_revision,
    did_you_mean,
    one_line,
    without_credentials,
)
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import parse_commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import KNOWN_ERRORS, error_text, known_error
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

# Texts in which the signs that matter to Git, a shell or a terminal are common.
AWKWARD = st.text(st.sampled_from(list("aZ09-_./~^:?*[]{}@\\ \n\0\t\x1b;|&$`'\"(){}<>%#=+,é\u2028")), max_size=24)


def source(**params):
    return Source.of({"repository": "https://git.example.com/acme/platform.git", **params})


# ---- revisions


@pytest.mark.parametrize(
    "revision", ["HEAD", "main", "v1.0.0", "feature/x-1", "refs/heads/main", "refs/pull/7/head", "release_2", "a@b", "ü", "0a4977e", "a" * 40]
)
def test_the_names_of_daily_work_are_revisions(revision):
    assert checked_revision(revision) == revision


@pytest.mark.parametrize(
    "revision",
    [
        "-",
        "--upload-pack=touch x",
        "-h",
        "main..other",
        "main~1",
        "main^",
        "v1^{commit}",
        ":/fix",
        "main:apps/web.yaml",
        "@",
        "@{-1}",
        "main@{1}",
        "a b",
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "/main",
        "main/",
        "a//b",
        ".hidden",
        "a/.b",
        "x.lock",
        "a.lock/b",
        "end.",
        "*",
        "rel[12]",
        "back\\slash",
        "?",
        "x" * 1025,
    ],
)
def test_what_git_would_read_as_an_option_or_an_expression_is_no_revision(revision):
    with pytest.raises(Refused) as refusal:
        checked_revision(revision)
    assert refusal.value.hint.startswith("Write a branch")
    assert "\n" not in str(refusal.value) and "\x1b" not in str(refusal.value)


def test_an_empty_revision_says_what_to_write():
    with pytest.raises(Failure, match="the revision is empty. Write a branch"):
        checked_revision("")


def test_no_revision_is_head():
    assert checked_revision(None) == "HEAD"


def git_takes_it(revision):
    done = subprocess.run(["git", "check-ref-format", "refs/heads/" + revision], capture_output=True, check=False)
    return done.returncode == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(AWKWARD)
@example("a/b.lock/c")
@example("a.")
def test_a_revision_is_taken_exactly_when_git_would_take_it_as_a_name(revision):
    assume("\0" not in revision)
    try:
        taken = checked_revision(revision) == revision
    except Failure:
        taken = False
    if taken:
        assert git_takes_it(revision) and not revision.startswith("-")
    elif git_takes_it(revision):
        # Names that Git stores and we don't take: options by their look, "@" for HEAD, and line separators of Unicode.
        assert revision.startswith("-") or revision == "@" or CONTROL.search(revision)


# ---- paths


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        (None, ""),
        (".", ""),
        ("./", ""),
        ("apps", "apps"),
        ("apps/", "apps"),
        ("./apps//web.yaml", "apps/web.yaml"),
        ("a b/ü.yaml", "a b/ü.yaml"),
        ("..x/y..", "..x/y.."),
        ("-n", "-n"),
    ],
)
def test_a_path_is_relative_to_the_root_however_it_is_written(path, plain):
    assert checked_path(path) == plain


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "a/..", "/etc/passwd", "/", "a\nb", "a\0b", "\x1b]0;x\x07", "x" * 5000])
def test_a_path_out_of_the_repository_is_refused(path):
    with pytest.raises(Refused) as refusal:
        checked_path(path)
    assert "\n" not in str(refusal.value) and "\x1b" not in str(refusal.value)


@settings(max_examples=500)
@given(st.one_of(AWKWARD, st.text()))
def test_no_path_that_is_taken_leads_out_or_changes_when_checked_again(path):
    try:
        plain = checked_path(path)
    except Failure:
        return
    root = "/mirror/work"
    joined = os.path.normpath(os.path.join(root, plain))
    assert joined == root or joined.startswith(root + "/")
    assert not any(ord(sign) < 32 for sign in plain)
    assert checked_path(plain or ".") == plain


# ---- URLs


@pytest.mark.parametrize(
    ("repository", "url", "username", "password"),
    [
        ("https://git.example.com/acme/platform.git", "https://git.example.com/acme/platform.git", None, None),
        ("HTTPS://git.example.com:8443/acme/platform/", "https://git.example.com:8443/acme/platform", None, None),
        ("https://deploy:s3cr%40t@git.example.com/x", "https://git.example.com/x", "deploy", "s3cr@t"),
        ("https://glpat-abc@git.example.com/x", "https://git.example.com/x", "glpat-abc", None),
        ("https://[2001:db8::1]:8443/x.git", "https://[2001:db8::1]:8443/x.git", None, None),
        ("ssh://git@git.example.com:2222/acme/x.git", "ssh://git@git.example.com:2222/acme/x.git", "git", None),
        ("git@git.example.com:acme/x.git", "git@git.example.com:acme/x.git", "git", None),
        ("git.example.com:acme/x.git", "git.example.com:acme/x.git", None, None),
        ("git://git.example.com/x", "git://git.example.com/x", None, None),
        ("file:///srv/git/x.git", "file:///srv/git/x.git", None, None),
        ("/srv/git/x.git/", "file:///srv/git/x.git", None, None),
        ("/srv/100%/x", "file:///srv/100%25/x", None, None),
    ],
)
def test_a_repository_is_a_url_an_scp_address_or_an_absolute_path(repository, url, username, password):
    assert checked_repository(repository) == (url, username, password)


@pytest.mark.parametrize(
    "repository",
    [
        "ext::sh -c 'touch x'",
        "fd::17",
        "http::https://git.example.com/x",
        "::x",
        "transport::address",
        "--upload-pack=touch x",
        "-oProxyCommand=touch",
        "ssh://-oProxyCommand=touch/x",
        "ssh://git@-oProxyCommand=touch/x",
        "ssh://%2doProxyCommand=x/y",
        "git://-x/y",
        "https://-x/y",
        "ftp://git.example.com/x",
        "ftps://git.example.com/x",
        "ext://x/y",
        "javascript://x/y",
        "git+ssh://git.example.com/x",
        "https://git.example.com/x\n",
        "https://git.example.com/x\0y",
        "https://git.example.com/x?private_token=abc",
        "https://a b/c",
        "ssh://-x@git.example.com/x",
    ],
)
def test_a_url_that_could_run_something_is_refused(repository):
    with pytest.raises(Refused):
        checked_repository(repository)


@pytest.mark.parametrize(
    "repository",
    [
        "",
        " ",
        "platform",
        "../platform",
        "git@-host:x",
        "host:-x",
        "https://git.example.com",
        "file://host/x",
        "file://x",
        "git://user@host/x",
        "ssh://git:secret@host/x",
    ],
)
def test_what_is_no_repository_says_what_to_write(repository):
    with pytest.raises(Failure) as failure:
        checked_repository(repository)
    assert failure.value.hint
    assert "secret" not in str(failure.value)


@settings(max_examples=500)
@given(st.one_of(AWKWARD, st.builds(lambda scheme, rest: f"{scheme}://{rest}", st.sampled_from([*TRANSPORTS, "ext", "ftp"]), AWKWARD)))
def test_no_url_that_is_taken_is_an_option_a_helper_or_holds_credentials(repository):
    try:
        url, _username, _password = checked_repository(repository)
    except Failure:
        return
    assert not url.startswith("-") and "::" not in url.split("/")[0] and not any(ord(sign) < 32 for sign in url)
    scheme, separator, rest = url.partition("://")
    if separator:
        assert scheme in TRANSPORTS and not rest.startswith("-")
        if scheme in ("http", "https", "git"):
            assert "@" not in rest.split("/")[0]
    else:
        assert not url.split(":", 1)[1].startswith("-")


# ---- secrets


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=6, max_size=20)


@settings(max_examples=300)
@given(
    SECRET,
    st.sampled_from(
        [
            "fatal: Authentication failed for 'https://deploy:{}@git.example.com/x/'",
            "password {} is wrong",
            "https://{}@h/x",
            "remote: token={} at https://h/x",
        ]
    ),
)
def test_a_secret_is_in_no_text_that_was_cleaned(secret, text):
    from urllib.parse import quote

    assume(secret not in text and secret not in "********")
    for form in (secret, quote(secret), quote(secret, safe="")):
        assume(form not in text.format(""))
        assert form not in without_credentials(text.format(form), secret)


def test_a_source_never_shows_its_password():
    private = source(git_username="deploy", git_password="open sesame")
    assert "sesame" not in repr(private) and "sesame" not in str(private)


def test_a_token_in_the_url_becomes_the_credential_and_leaves_the_url():
    private = source(repository="https://glpat-abcdef@git.example.com/x")
    assert private.url == "https://git.example.com/x"
    assert private.secrets == (None, "glpat-abcdef")
    assert private.environment()["NORDIC_GITOPS_GIT_USERNAME"] == "glpat-abcdef"


def test_options_are_stronger_than_the_url():
    private = source(repository="https://old:pass@git.example.com/x", git_username="deploy", git_password="new")
    assert (private.username, private.password) == ("deploy", "new")


def test_credentials_are_for_one_server_and_in_variables_only():
    environment = source(git_username="deploy", git_password="open sesame").environment()
    holding = [name for name, value in environment.items() if "sesame" in value]
    assert holding == ["NORDIC_GITOPS_GIT_PASSWORD"]
    helpers = [name for name, value in environment.items() if value.startswith("credential.https://git.example.com.helper")]
    assert len(helpers) == 1
    # An empty helper comes first: it makes Git forget those of anybody else.
    values = {
        environment[f"GIT_CONFIG_KEY_{number}"]: environment[f"GIT_CONFIG_VALUE_{number}"] for number in range(int(environment["GIT_CONFIG_COUNT"]))
    }
    assert values["credential.helper"] == ""


def test_the_environment_of_the_caller_does_not_reach_git(monkeypatch):
    for name in (
        "GIT_DIR",
        "GIT_SSH",
        "GIT_PROXY_COMMAND",
        "GIT_CONFIG_PARAMETERS",
        "GIT_TRACE_CURL",
        "GIT_SSL_NO_VERIFY",
        "GIT_EXEC_PATH",
        "SSH_ASKPASS",
        "DISPLAY",
        "LC_MESSAGES",
        "LD_PRELOAD",
    ):
        monkeypatch.setenv(name, "/tmp/evil")
    assert "/tmp/evil" not in source().environment().values()


def test_what_reads_the_mirror_knows_no_secret(monkeypatch):
    """Its variables stand in the arguments of env, where ps shows them."""
    monkeypatch.setenv("https_proxy", "http://me:proxy-secret@proxy.example.com")
    command = Command(source(git_username="deploy", git_password="open-sesame"), Limits())
    assert "proxy-secret" in command.environment["https_proxy"]
    assert not [value for value in command.environment_for_reading.values() if "proxy-secret" in value or "open-sesame" in value]


SLOW_TO_DIE = """
trap "" TERM
exec 9> "$1"
while sleep 60; do :; done
"""


def test_what_is_too_late_holds_nothing_any_more_when_that_is_said(tmp_path):
    helper, held = tmp_path / "helper.sh", tmp_path / "held"
    helper.write_text(SLOW_TO_DIE)
    for seconds in itertools.count(2, 10):  # until the helper was there before its time was over, however slow the machine is
        command = Command(source(git_timeout=seconds), Limits())
        with pytest.raises(Failure, match=f"no answer within {seconds} seconds"):
            command(str(tmp_path), "-c", f"alias.wait=!sh {helper} {held} & wait", "wait")
        if held.exists():
            break
    assert not is_held(held)


def is_held(path):
    """Whether any process has this file open: by its number, as a sandbox has process numbers and paths of its own."""
    ours = os.stat(path)
    for name in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            found = os.stat(name)
        except OSError:
            continue  # gone by now
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            return True
    return False


def test_ssh_never_asks_and_never_trusts_a_stranger(tmp_path):
    key, hosts = tmp_path / 'a "key" 100%', tmp_path / "known hosts"
    key.touch(), hosts.touch()
    command = source(repository="ssh://git@h/x", git_ssh_key=str(key), git_ssh_known_hosts=str(hosts)).environment()["GIT_SSH_COMMAND"]
    for option in ("-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oIdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null"):
        assert option in command
    words_of = subprocess.run(
        ["sh", "-c", f'for word in {command}; do printf "%s\\n" "$word"; done'], capture_output=True, text=True, check=True
    ).stdout
    shown = subprocess.run(["ssh", "-F", "/dev/null", "-G", *words_of.splitlines()[1:], "h"], capture_output=True, text=True, check=True).stdout
    assert f"identityfile {key}".replace("100%", "100%%") in shown or f"identityfile {key}" in shown
    assert f"userknownhostsfile {hosts}" in shown


# ---- options


def test_every_option_of_the_specification_is_documented_with_its_type_and_default():
    import yaml
    from ansible_collections.nordic.gitops.plugins.doc_fragments.git import ModuleDocFragment

    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(GIT_SPEC)
    for name, spec in GIT_SPEC.items():
        assert documented[name]["type"] == spec["type"], name
        assert documented[name].get("default") == spec.get("default"), name
        assert documented[name].get("required", False) == spec.get("required", False), name
    assert GIT_SPEC["git_password"]["no_log"] is True


@pytest.mark.parametrize("option", ["git_ssh_key", "git_ssh_known_hosts", "git_ca_cert", "trusted_keys"])
def test_a_file_that_is_not_there_is_named_with_its_option(option, tmp_path):
    with pytest.raises(Failure, match=f"{tmp_path}/nothing: {option} can't be read: No such file"):
        source(**{option: str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"verify_signatures": True}, "verify_signatures needs trusted_keys"),
        ({"git_timeout": -1}, "git_timeout is -1"),
        ({"git_password": "two\nlines"}, "git_password has a line break"),
        ({"git_username": "two\nlines"}, "git_username has a line break"),
        ({"repository": "ssh://git@h/x", "git_password": "secret"}, "git_password is for http and https"),
        ({"repository": "git://h/x", "git_username": "me"}, "git:// knows no users"),
        ({"repository": "ssh://h/x", "git_username": "-oProxyCommand=x"}, "can't be a user name for ssh"),
    ],
)
def test_options_that_do_not_fit_together_are_said_to(params, what):
    with pytest.raises(Failure, match=what):
        source(**params)


@pytest.mark.parametrize(
    ("repository", "url"),
    [("ssh://h:22/x", "ssh://deploy@h:22/x"), ("h:x", "deploy@h:x"), ("ssh://git@h/x", "ssh://git@h/x"), ("git@h:x", "git@h:x")],
)
def test_git_username_is_the_user_of_an_ssh_url_that_names_none(repository, url):
    assert source(repository=repository, git_username="deploy").url == url


def test_the_cache_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert source().cache == f"{tmp_path}/nordic.gitops/git"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source().cache == f"{tmp_path}/.cache/nordic.gitops/git"


# ---- what Git said


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "asks for a user name"),
        ("remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://h/x/'", "refuses the credentials"),
        ("remote: Invalid username or token. Password authentication is not supported for Git operations.", "refuses the credentials"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", "refuses the credentials"),
        ("fatal: unable to access 'https://h/x/': The requested URL returned error: 403", "forbids"),
        ("No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.", "host key isn't known"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "isn't the one that is known"),
        ("fatal: unable to access 'https://h/x/': Could not resolve host: h", "name can't be found"),
        ("fatal: unable to access 'https://h/x/': SSL certificate problem: self-signed certificate in certificate chain", "TLS certificate"),
        ("fatal: unable to access 'https://h/x/': server certificate verification failed. CAfile: none CRLfile: none", "TLS certificate"),
        ("ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.", "can't be reached"),
        ("fatal: unable to connect to h:\nh[0: ::1]: errno=Connection refused", "can't be reached"),
        ("fatal: '/srv/x' does not appear to be a git repository", "no such repository"),
        ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", "no such repository"),
        ("fatal: repository 'https://h/x/' not found", "no such repository"),
        ("fatal: remote error: access denied or repository not exported: /x", "no such repository"),
        ("fatal: detected dubious ownership in repository at '/srv/x'", "belongs to another user"),
        ("fatal: transport 'ftp' not allowed", "transport that isn't allowed"),
        ("error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: early EOF", "connection broke"),
        ("fatal: the remote end hung up unexpectedly", "connection broke"),
        ("fatal: write error: No space left on device", "no space left"),
        ("fatal: cannot pwrite pack: File too large", "more than one fetch may bring"),
        ('Load key "/k": error in libcrypto\ngit@h: Permission denied (publickey).', "can't read the private key"),
    ],
)
def test_gits_words_have_a_meaning_for_a_person(said, what):
    row = known_error(said)
    assert row and what in row.what and row.hint.endswith(".")


def test_words_nobody_knows_have_no_meaning():
    assert known_error("fatal: bad object refs/commits/0a49") is None


def test_only_what_the_network_broke_is_tried_again():
    assert {row.what for row in KNOWN_ERRORS if row.transient} == {
        "the host's name can't be found",
        "the server can't be reached",
        "the connection broke or the server failed",
    }


def test_the_polite_lines_of_git_are_left_out():
    said = "warning: x\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n"
    assert error_text(said) == "fatal: Could not read from remote repository."


def test_what_a_server_says_can_not_play_with_the_terminal():
    assert one_line("remote: \x1b[2J\x1b]0;owned\x07hello\r\nworld" + "x" * 1000, 40) == "remote: [2J ]0;owned hello world" + "x" * 7 + "…"


# ---- small things


def test_a_commit_made_by_hand_can_not_break_the_reader():
    commit = parse_commit(
        "0" * 40, b"tree abc\nauthor Eve\xff \x1b[1m<e@x> 99999999999999999999 +0000\ncommitter nobody\n\n\n\nfirst\x07 line\nsecond"
    )
    assert commit.tree == "abc" and commit.subject == "first line" and commit.time == "1970-01-01T00:00:00Z"
    assert "\x1b" not in commit.author


def test_a_commit_of_the_far_future_is_still_a_date():
    raw = b"tree abc\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 99999999999999999999 +0000\n\nx"
    assert parse_commit("0" * 40, raw).time == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize("stamp", ["²", "9" * 5000, "-1", "", "1e9"])
def test_a_commit_of_no_time_at_all_is_read_all_the_same(stamp):
    raw = f"tree {'a' * 40}\nauthor A <a@b> {stamp} +0000\ncommitter A <a@b> {stamp} +0000\n\nSubject\n".encode()
    assert parse_commit("0" * 40, raw).time == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("asked", "names", "hint"),
    [
        ("mian", ["main", "develop"], "Did you mean main?"),
        ("web.yaml", ["apps/web.yaml", "x"], "Did you mean apps/web.yaml?"),
        ("zzz", ["a", "b"], "It has a, b."),
        ("zzz", [], ""),
    ],
)
def test_a_name_that_is_not_there_gets_those_like_it(asked, names, hint):
    assert did_you_mean(asked, names) == hint
