# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror against real Git servers: every transport and revision, what it costs, who is trusted, and what breaks."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._git import cache as cache_module
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits

READ_ALL = """
import sys
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
mirror = Mirror(Source.of({"repository": sys.argv[1], "revision": sys.argv[2], "git_cache": sys.argv[3]}))
commit = mirror.resolve()
tree = mirror.tree(commit)
contents = tree.read_many([entry.path for entry in tree.files()])
print(commit.id, *[f"{path}={content[:100].decode(errors='replace')}" for path, content in contents], sep="|", flush=True)
"""


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def repo(git_repo):
    """main and develop, a lightweight and an annotated tag, two commits."""
    git_repo.write("apps/web.yaml", "kind: Web\n")
    git_repo.write("apps/api.yaml", "kind: Api\n")
    git_repo.write("README.md", "# platform\n")
    git_repo.first = git_repo.commit("The first one")
    git_repo.tag("light")
    git_repo.tag("v1.0.0", "The release")
    git_repo.branch("develop")
    git_repo.write("apps/web.yaml", "kind: Web\nreplicas: 2\n")
    git_repo.second = git_repo.commit("Two replicas\n\nsince one was not enough")
    git_repo.checkout("main")
    return git_repo


@pytest.fixture(params=["git_repo", "git_daemon", "git_ssh", "git_http", "git_https"])
def server(request, repo):
    """The repository by each transport."""
    return request.getfixturevalue(request.param)


def home_of(cache):
    (home,) = [folder for folder in cache.iterdir() if folder.is_dir()]
    return home


def generation_of(cache):
    return home_of(cache) / os.readlink(home_of(cache) / "current")


# ---- every transport


def test_a_branch_is_resolved_and_read_by_every_transport(server, repo, mirror):
    one = mirror(server)
    commit = one.resolve("develop")
    assert commit.id == repo.second and commit.subject == "Two replicas" and commit.author == "Astrid <astrid@example.com>" and commit.signer is None
    tree = one.tree(commit, "apps")
    assert [(entry.path, entry.mode, entry.size) for entry in tree.files()] == [("api.yaml", "100644", 10), ("web.yaml", "100644", 22)]
    assert tree.read("web.yaml") == b"kind: Web\nreplicas: 2\n"
    assert tree.id == repo.git("rev-parse", "develop:apps")


@pytest.mark.parametrize(
    "revision", ["HEAD", "main", "light", "v1.0.0", "refs/heads/main", "refs/tags/v1.0.0", "full", "short", "tag object", "older"]
)
def test_a_revision_means_what_git_means_by_every_transport(server, repo, mirror, revision):
    repo.write("more", "later\n")
    newest = repo.commit("The third one")
    asked = {"full": repo.first, "short": repo.first[:8], "tag object": repo.git("rev-parse", "v1.0.0"), "older": repo.first}.get(revision, revision)
    expected = newest if revision in ("HEAD", "main", "refs/heads/main") else repo.first
    if revision == "older":
        # The strictest server hands out nothing but what a branch or a tag points to.
        for setting in ("allowAnySHA1InWant", "allowReachableSHA1InWant", "allowTipSHA1InWant"):
            repo.git("config", f"uploadpack.{setting}", "false")
        repo.git("tag", "--delete", "light", "v1.0.0")
    one = mirror(server)
    commit = one.resolve(asked)
    assert commit.id == expected
    assert one.read(commit, "apps/web.yaml") == b"kind: Web\n"
    assert one.resolve(asked) == commit


def test_an_unknown_repository_is_said_to_be_one_by_every_transport(server, mirror):
    wrong = mirror(server, repository=mirror(server).source.url + "-not-here")
    with pytest.raises(Failure, match="no such repository|no Git repository at this path") as failure:
        wrong.resolve()
    assert failure.value.where.endswith("-not-here") and failure.value.hint and failure.value.details["git"]


def test_an_unknown_revision_names_those_like_it_by_every_transport(server, repo, mirror):
    with pytest.raises(Failure, match="there is no branch, tag or commit devlop. Did you mean develop?") as failure:
        mirror(server).resolve("devlop")
    assert failure.value.details == {"revision": "devlop"}


@pytest.mark.parametrize("commit", ["0" * 39 + "1", "deadbeef", "0" * 63 + "1"])
def test_an_unknown_commit_is_said_to_be_one_by_every_transport(server, repo, mirror, commit):
    with pytest.raises(Failure, match="there is no (branch, tag or )?commit " + commit):
        mirror(server).resolve(commit)


def test_a_repository_by_the_dumb_protocol_is_read_too(repo, mirror):
    repo.git("update-server-info")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(repo.path))) as static:
        threading.Thread(target=static.serve_forever, daemon=True).start()
        try:
            one = mirror(f"http://127.0.0.1:{static.server_address[1]}/.git")
            assert one.read(one.resolve("develop"), "apps/web.yaml") == b"kind: Web\nreplicas: 2\n"
            assert one.resolve(repo.first).id == repo.first
        finally:
            static.shutdown()


def test_a_repository_with_sha256_ids_is_read_too(tmp_path, mirror):
    from lab.repository import Repository

    path = tmp_path / "modern"
    path.mkdir()
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", "--initial-branch=main", str(path)], check=True)
    modern = Repository(path)
    modern.write("x.yaml", "kind: X\n")
    commit = modern.commit()
    assert len(commit) == 64
    one = mirror(modern)
    for revision in ("HEAD", commit, commit[:10]):
        assert one.tree(one.resolve(revision)).read("x.yaml") == b"kind: X\n"


# ---- revisions


def test_a_name_that_is_both_branch_and_tag_has_to_be_written_in_full(repo, mirror):
    repo.git("branch", "v2")
    repo.git("tag", "v2", "develop")
    one = mirror(repo)
    with pytest.raises(Failure, match="v2 is both a branch and a tag") as failure:
        one.resolve("v2")
    assert "refs/heads/v2" in failure.value.hint and "refs/tags/v2" in failure.value.hint
    assert one.resolve("refs/heads/v2").id == repo.first
    assert one.resolve("refs/tags/v2").id == repo.second


def test_a_full_commit_is_never_taken_for_a_branch_of_that_name(repo, mirror):
    repo.git("update-ref", f"refs/heads/{repo.first}", repo.second)
    assert mirror(repo).resolve(repo.first).id == repo.first


def test_a_branch_whose_name_looks_like_a_commit_is_found(repo, mirror):
    repo.git("branch", "beef", "develop")
    assert mirror(repo).resolve("beef").id == repo.second


def test_the_beginning_of_two_commits_names_both(repo, mirror):
    seen = {}
    while True:
        commit = repo.commit(f"number {len(seen)}")
        if commit[:4] in seen:
            break
        seen[commit[:4]] = commit
        if len(seen) > 12:
            # Make them by the hundred without touching the disk's index each time: the birthday is near at four digits.
            parent = commit
            for number in range(2000):
                parent = repo.git("commit-tree", "HEAD^{tree}", "-p", parent, "-m", str(number))
                if parent[:4] in seen:
                    break
                seen[parent[:4]] = parent
            repo.git("update-ref", "refs/heads/many", parent)
            commit = parent
            break
    with pytest.raises(Failure, match="is the beginning of 2 commits") as failure:
        mirror(repo).resolve(commit[:4])
    assert commit in failure.value.hint and seen[commit[:4]] in failure.value.hint


def test_an_empty_repository_is_said_to_be_empty(git_repo, mirror):
    with pytest.raises(Failure, match="the repository is empty"):
        mirror(git_repo).resolve()


def test_a_head_that_leads_nowhere_names_the_branches(repo, mirror):
    repo.git("symbolic-ref", "HEAD", "refs/heads/gone")
    with pytest.raises(Failure, match="HEAD points to a branch that it does not have") as failure:
        mirror(repo).resolve()
    assert "main" in failure.value.hint


def test_a_tree_or_a_file_is_no_commit(repo, mirror):
    with pytest.raises(Failure, match="is not a commit"):
        mirror(repo).resolve(repo.git("rev-parse", "HEAD^{tree}"))


def test_a_branch_below_a_name_that_was_a_branch_is_no_obstacle(repo, mirror):
    repo.branch("team")
    assert mirror(repo).resolve("team").id == repo.first
    repo.checkout("main")
    repo.git("branch", "--delete", "team")
    repo.git("branch", "team/web", "develop")
    assert mirror(repo).resolve("team/web").id == repo.second
    assert mirror(repo).resolve(repo.second[:8]).id == repo.second
    repo.git("branch", "--delete", "--force", "team/web")
    repo.git("branch", "team")
    repo.commit("so that the history is fetched again")
    assert mirror(repo).resolve(repo.first[:8]).id == repo.first


# ---- paths


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("apps/wbe.yaml", "Did you mean apps/web.yaml"),
        ("app", "Did you mean apps?"),
        ("web.yaml", "there is no such file or folder. The root has"),
        ("zzz", "The root has README.md, apps"),
        ("apps/zzz/deep/er", "apps has apps/api.yaml, apps/web.yaml"),
        ("README.md/x", "Did you mean README.md"),
    ],
)
def test_an_unknown_path_names_those_like_it(repo, mirror, path, message):
    one = mirror(repo)
    commit = one.resolve()
    with pytest.raises(Failure) as failure:
        one.tree(commit, path)
    assert message in str(failure.value)
    assert failure.value.details["commit"] == commit.id


def test_a_file_is_no_folder_and_a_folder_no_file(repo, mirror):
    one = mirror(repo)
    commit = one.resolve()
    with pytest.raises(Failure, match="apps/web.yaml: this is a file, not a folder"):
        one.tree(commit, "apps/web.yaml")
    with pytest.raises(Failure, match="apps: this is a folder, not a file"):
        one.read(commit, "apps")
    with pytest.raises(Failure, match="apps: this is a folder, not a file"):
        one.tree(commit).read("apps")
    with pytest.raises(Failure, match="apps/wbe.yaml: there is no such file. Did you mean web.yaml?"):
        one.tree(commit, "apps").read("wbe.yaml")


def test_odd_names_are_read(repo, mirror):
    names = ["a b.yaml", "ü.yaml", "-n", "--help", "a:b.yaml", "quote\"'.yaml", "back\\slash", "$(touch x)", "@{u}", "x^{tree}", "*.yaml"]
    for name in names:
        repo.write(f"odd/{name}", name)
    repo.commit()
    one = mirror(repo)
    commit = one.resolve()
    tree = one.tree(commit, "odd")
    assert sorted(entry.path for entry in tree.files()) == sorted(names)
    for name in names:
        assert tree.read(name) == one.read(commit, f"odd/{name}") == name.encode()


def test_the_id_of_a_folder_changes_with_its_content_only(repo, mirror):
    one = mirror(repo)
    before = one.tree(one.resolve(), "apps").id
    repo.write("README.md", "# other\n")
    repo.commit()
    assert one.tree(one.resolve(), "apps").id == before
    repo.write("apps/web.yaml", "kind: Other\n")
    repo.commit()
    assert one.tree(one.resolve(), "apps").id != before


def test_files_come_back_as_they_are(repo, mirror):
    contents = {
        "crlf": b"a\r\nb\r\n",
        "bom": b"\xef\xbb\xbfkind: X\n",
        "binary": bytes(range(256)),
        "empty": b"",
        "no end": b"x",
        "big": os.urandom(1 << 20),
    }
    repo.write(".gitattributes", "* text=auto eol=lf ident filter=evil\n")
    for name, content in contents.items():
        path = repo.git("hash-object", "-w", "--stdin", "--no-filters") if not content else None
        repo.write(f"raw/{name}", content)
        oid = (
            path
            or subprocess.run(
                ["git", "hash-object", "-w", "--no-filters", f"raw/{name}"], cwd=repo.path, capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        repo.git("update-index", "--add", "--cacheinfo", f"100644,{oid},raw/{name}")
    repo.git("commit", "--quiet", "--message", "raw")
    one = mirror(repo)
    tree = one.tree(one.resolve(), "raw")
    assert dict(tree.read_many(contents)) == contents


# ---- what it costs


def questions(server, since):
    """What was asked with success: (method, what) after so many requests."""
    return [(method, path.partition("?")[0].rsplit("/", 1)[-1]) for method, path, status in server.requests[since:] if status == 200]


def test_an_unchanged_repository_costs_one_question_and_no_fetch(repo, git_http, mirror):
    one = mirror(git_http)
    commit = one.resolve("main")
    before = len(git_http.requests)
    assert mirror(git_http).resolve("main") == commit
    # Git asks for the capabilities, then for the refs: nothing after that.
    assert questions(git_http, before) == [("GET", "refs"), ("POST", "git-upload-pack")]


def test_a_full_commit_that_is_here_costs_no_question(repo, git_http, mirror):
    commit = mirror(git_http).resolve("main")
    before = len(git_http.requests)
    again = mirror(git_http)
    assert again.resolve(commit.id) == commit
    assert again.tree(commit, "apps").read("web.yaml") == b"kind: Web\n"
    assert git_http.requests[before:] == []


def test_a_short_commit_that_was_found_costs_one_question(repo, git_http, mirror):
    commit = mirror(git_http).resolve(repo.first[:7])
    before = len(git_http.requests)
    assert mirror(git_http).resolve(repo.first[:7]) == commit
    assert questions(git_http, before) == [("GET", "refs"), ("POST", "git-upload-pack")]


def test_only_one_commit_is_fetched_and_no_tag(repo, cache, mirror):
    for number in range(5):
        repo.write("apps/web.yaml", f"kind: Web\nreplicas: {number}\n")
        repo.commit(f"change {number}")
    mirror(repo).resolve()
    inside = ["git", "--git-dir", str(generation_of(cache))]
    listed = subprocess.run(
        [*inside, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert listed.count("commit") == 1 and listed.count("tag") == 0


def test_a_new_commit_brings_only_what_changed(repo, cache, mirror):
    for number in range(200):
        repo.write(f"many/{number}.yaml", f"number: {number}\n")
    repo.commit()
    mirror(repo).resolve()
    repo.write("apps/web.yaml", "kind: Web\nreplicas: 3\n")
    repo.commit()
    one = mirror(repo)
    assert one.read(one.resolve(), "apps/web.yaml") == b"kind: Web\nreplicas: 3\n"
    packs = list((generation_of(cache) / "objects" / "pack").glob("*.idx"))
    counts = sorted(
        len(subprocess.run(["git", "show-index"], stdin=open(pack, "rb"), capture_output=True, check=True).stdout.splitlines()) for pack in packs
    )
    assert len(counts) == 2 and counts[0] <= 4


def test_a_mirror_that_was_used_for_long_is_made_anew(repo, cache, mirror):
    generations = set()
    for number in range(8):
        repo.write("apps/web.yaml", f"kind: Web\nreplicas: {number}\n")
        repo.commit()
        one = mirror(repo, limits=Limits(packs=3))
        assert one.read(one.resolve(), "apps/web.yaml") == f"kind: Web\nreplicas: {number}\n".encode()
        one.close()
        generations.add(generation_of(cache).name)
        assert len(list((generation_of(cache) / "objects" / "pack").glob("*.pack"))) <= 3
    assert len(generations) >= 2
    assert len([folder for folder in home_of(cache).iterdir() if folder.is_dir() and not folder.is_symlink()]) == 1


# ---- credentials


@pytest.fixture
def command_lines(git_http):
    """Collects every command line on this machine while the test runs, as another user with ps would; surely at each request, whose
    client waits until the server has looked."""
    seen, stop = set(), threading.Event()

    def look():
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                seen.add((folder / "cmdline").read_bytes())
            except OSError:
                pass

    def watch():
        while not stop.is_set():
            look()
            time.sleep(0.002)

    class Requests(list):
        def append(self, request):
            look()
            super().append(request)

    git_http.requests = Requests()

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield seen
    stop.set()
    watcher.join()


def everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_a_password_is_in_no_command_line_and_in_no_file(repo, git_http, mirror, cache, command_lines):
    from urllib.parse import quote

    for number in range(3):
        repo.write("x", str(number))
        repo.commit()
        assert mirror(git_http).resolve().id == repo.head()
    assert mirror(git_http.url_with_credentials).resolve(repo.first).id == repo.first
    assert any(b"remote-http" in line for line in command_lines), "the watcher saw nothing of Git"
    for form in (git_http.password, quote(git_http.password, safe="")):
        assert not [line for line in command_lines if form.encode() in line]
        assert form.encode() not in everything_in(cache)
    assert git_http.username.encode() not in everything_in(cache)


def test_wrong_credentials_are_said_to_be_wrong_and_not_repeated(repo, git_http, mirror, cache):
    wrong = git_http.url.replace("://", "://astrid:hush%20hush@")
    for params in ({"repository": wrong}, {"repository": git_http.url, "git_username": "astrid", "git_password": "hush hush"}):
        with pytest.raises(Failure, match="the server refuses the credentials") as failure:
            Mirror(Source.of({**params, "git_cache": str(cache)})).resolve()
        assert failure.value.where == git_http.url
        assert "hush" not in str(failure.value) + repr(failure.value.details)


def test_missing_credentials_are_said_to_be_missing(repo, git_http, mirror):
    with pytest.raises(Failure, match="asks for a user name and password. Give git_username and git_password"):
        mirror(git_http.url).resolve()


def test_a_certificate_of_an_unknown_authority_is_not_trusted(repo, git_https, mirror):
    with pytest.raises(Failure, match="TLS certificate can't be verified. Give its certificate authority as git_ca_cert"):
        mirror(git_https, git_ca_cert=None).resolve()
    assert git_https.requests == []


def test_an_unknown_ssh_host_is_not_talked_to(repo, git_ssh, mirror, tmp_path):
    empty = tmp_path / "nobody"
    empty.touch()
    with pytest.raises(Failure, match="ssh host key isn't known. Get it with ssh-keyscan"):
        mirror(git_ssh, git_ssh_known_hosts=str(empty)).resolve()


def test_another_ssh_host_key_is_an_alarm(repo, git_ssh, mirror):
    with pytest.raises(Failure, match="isn't the one that is known: this may be an attack"):
        mirror(git_ssh, git_ssh_known_hosts=str(git_ssh.other_known_hosts)).resolve()


def test_an_ssh_key_that_the_server_does_not_know_is_refused(repo, git_ssh, mirror):
    with pytest.raises(Failure, match="the server refuses the credentials"):
        mirror(git_ssh, git_ssh_key=str(git_ssh.other_key)).resolve()


class Redirect(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.headers.get("Authorization"))
        self.send_response(302)
        self.send_header("Location", self.server.target + self.path.split("/x", 1)[1])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def redirect():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as answering:
        answering.seen, answering.target = [], ""
        answering.url = f"http://localhost:{answering.server_address[1]}/x"
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        yield answering
        answering.shutdown()


def test_a_redirect_to_another_server_is_refused_and_that_server_not_asked(repo, git_http, redirect, mirror):
    redirect.target = git_http.url
    with pytest.raises(Refused, match=f"the server redirects to {git_http.url}. Give the repository's final URL"):
        mirror(git_http, repository=redirect.url).resolve()
    assert git_http.requests == []


def test_a_redirect_within_the_server_is_followed_with_the_credentials(repo, git_http, mirror):
    """As hosts do for the name of a repository without its .git."""
    assert mirror(git_http, repository=git_http.former_url).resolve().id == repo.head()
    assert 301 in [status for _method, _path, status in git_http.requests]


def test_a_server_that_redirects_for_ever_is_given_up_on(redirect, mirror):
    redirect.target = redirect.url
    with pytest.raises(Failure):
        mirror(redirect.url).resolve()
    assert len(redirect.seen) < 20


def test_the_netrc_of_the_user_answers_no_server(repo, git_http, mirror, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text(f"default login {git_http.username} password {git_http.password}\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Failure, match="asks for a user name and password"):
        mirror(git_http, git_username=None, git_password=None).resolve()


@pytest.mark.parametrize("target", ["file:///etc", "ftp://127.0.0.1/x", "ext::sh"])
def test_a_redirect_to_another_transport_is_not_followed(redirect, mirror, target):
    redirect.target = target
    with pytest.raises(Failure):
        mirror(redirect.url).resolve()


# ---- signatures


@pytest.fixture
def ssh_signed(repo, tmp_path):
    """A commit signed with an ssh key: (commit, allowed signers file, public key)."""
    key = tmp_path / "signing"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "astrid", "-f", str(key)], check=True)
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key))):
        repo.git("config", name, value)
    commit = repo.commit("Signed", "--gpg-sign")
    allowed = tmp_path / "maintainers"
    public = " ".join((tmp_path / "signing.pub").read_text().split()[:2])
    allowed.write_text(f'astrid@example.com namespaces="git" {public}\n')
    return commit, allowed, public


@pytest.fixture
def gpg():
    """gpg with a home of its own, on a path short enough for its sockets."""
    import tempfile

    home = tempfile.mkdtemp(prefix="gpg-")

    def run(*arguments):
        done = subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback", *arguments],
            capture_output=True,
            check=True,
        )
        return done.stdout

    run.home = home
    yield run
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def gpg_commit(repo, gpg, who):
    gpg("--quick-generate-key", who, "ed25519", "sign", "0")
    repo.git("config", "gpg.format", "openpgp")
    return subprocess.run(
        ["git", "commit", "--quiet", "--allow-empty", f"--gpg-sign={who}", "-m", f"Signed by {who}"],
        cwd=repo.path,
        check=True,
        capture_output=True,
        env={
            **os.environ,
            "GNUPGHOME": gpg.home,
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@x",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@x",
        },
    )


def trusting(mirror, server, keys):
    return mirror(server, verify_signatures=True, trusted_keys=str(keys))


def test_a_commit_signed_by_a_trusted_ssh_key_names_its_signer(repo, ssh_signed, mirror):
    commit, allowed, _public = ssh_signed
    resolved = trusting(mirror, repo, allowed).resolve()
    assert resolved.id == commit and resolved.signer.startswith("astrid@example.com SHA256:")


@pytest.mark.parametrize(("validity", "trusted"), [
    ('valid-before="20200101"', False), ('valid-after="20990101"', False), ('valid-before="20990101"', True), ('valid-after="20200101"', True)])
@pytest.mark.parametrize("date", ["2019-06-01T12:00:00Z", "2099-06-01T12:00:00Z"])
def test_an_ssh_key_is_judged_at_the_present_time_whatever_the_commit_says_of_its_own(repo, ssh_signed, mirror, tmp_path, monkeypatch, validity, trusted, date):
    _commit, _allowed, public = ssh_signed
    monkeypatch.setenv("GIT_COMMITTER_DATE", date)
    monkeypatch.setenv("GIT_AUTHOR_DATE", date)
    subprocess.run(["git", "-C", str(repo.path), "commit", "--quiet", "--allow-empty", "--gpg-sign", "-m", "At another time"], check=True)
    (tmp_path / "timed").write_text(f"astrid@example.com {validity} {public}\n")
    resolve = trusting(mirror, repo, tmp_path / "timed").resolve
    if trusted:
        assert resolve().signer.startswith("astrid@example.com SHA256:")
        return
    with pytest.raises(Refused, match="is signed by the ED25519 key SHA256:.*, which is (trusted for another time only|not trusted)"):
        resolve()


def test_a_branch_or_tag_named_like_a_pinned_short_commit_takes_its_place_nowhere(repo, mirror):
    pinned = repo.head()
    repo.write("apps/web.yaml", "kind: Evil\n")
    evil = repo.commit("Evil")
    for make in (("branch",), ("tag",)):
        repo.git(*make, pinned[:9], evil)
        with pytest.raises(Refused, match=f"{pinned[:9]} is a {make[0]} and the beginning of a commit. Write refs/.* or more of the commit"):
            mirror(repo, revision=pinned[:9]).resolve()
        assert mirror(repo, revision=pinned).resolve().id == pinned
        repo.git(*make, "-D" if make == ("branch",) else "-d", pinned[:9])
    repo.git("branch", "deadbeef", evil)  # a name like any other, while no commit begins so
    assert mirror(repo, revision="deadbeef").resolve().id == evil


def test_only_a_commit_in_the_history_of_the_branch_that_is_named_is_accepted(repo, mirror):
    main = repo.head()
    repo.git("checkout", "--quiet", "-b", "feature")
    repo.write("apps/web.yaml", "kind: Feature\n")
    feature = repo.commit("Feature")
    for revision in ("feature", feature, feature[:10]):
        with pytest.raises(Refused, match=f"the commit {feature[:12]} by .* is not in the history of main. Merge it there"):
            mirror(repo, revision=revision, reachable_from="main").resolve()
    for revision in ("main", main, main[:10]):
        assert mirror(repo, revision=revision, reachable_from="main").resolve().id == main
    assert mirror(repo, revision="feature", reachable_from="refs/heads/feature").resolve().id == feature
    with pytest.raises(Failure, match="there is no branch or tag mian. Correct reachable_from"):
        mirror(repo, reachable_from="mian").resolve()


def test_whether_a_commit_has_another_in_its_history_is_known_also_of_one_that_is_gone(repo, mirror):
    first = repo.head()
    repo.write("apps/web.yaml", "kind: Second\n")
    second = repo.commit("Second")
    one = mirror(repo)
    commit = one.resolve()
    assert one.follows(commit.id, first) and one.follows(commit.id, second)
    older = mirror(repo, revision=first)
    assert not older.follows(older.resolve().id, second)
    assert not one.follows(commit.id, "0" * 40) and not one.follows(commit.id, "--help")


def test_a_commit_signed_by_another_ssh_key_is_refused(repo, ssh_signed, mirror, tmp_path):
    commit, allowed, public = ssh_signed
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    allowed.write_text("olga@example.com " + " ".join((tmp_path / "other.pub").read_text().split()[:2]) + "\n")
    with pytest.raises(
        Refused, match=f"the commit {commit[:12]} by Astrid <astrid@example.com> is signed by the ED25519 key SHA256:.*, which is not trusted"
    ):
        trusting(mirror, repo, allowed).resolve()


def test_an_ssh_key_that_is_trusted_for_other_things_is_refused(repo, ssh_signed, mirror):
    _commit, allowed, public = ssh_signed
    allowed.write_text(f'astrid@example.com namespaces="file" {public}\n')
    with pytest.raises(Refused, match="is signed by|can't be verified"):
        trusting(mirror, repo, allowed).resolve()


def test_an_unsigned_commit_is_refused_with_its_author(repo, ssh_signed, mirror):
    _commit, allowed, _public = ssh_signed
    with pytest.raises(Refused, match=f"the commit {repo.second[:12]} by Astrid <astrid@example.com> is not signed") as refusal:
        trusting(mirror, repo, allowed).resolve("develop")
    assert refusal.value.details == {"commit": repo.second}


def test_a_commit_that_was_altered_after_it_was_signed_is_refused(repo, ssh_signed, mirror):
    commit, allowed, _public = ssh_signed
    raw = subprocess.run(["git", "cat-file", "commit", commit], cwd=repo.path, capture_output=True, check=True).stdout
    forged = subprocess.run(
        ["git", "hash-object", "-w", "-t", "commit", "--stdin"],
        cwd=repo.path,
        input=raw.replace(b"\n\nSigned", b"\n\nForged"),
        capture_output=True,
        check=True,
    )
    repo.git("update-ref", "refs/heads/forged", forged.stdout.decode().strip())
    with pytest.raises(Refused, match="has a signature that can't be verified"):
        trusting(mirror, repo, allowed).resolve("forged")


@pytest.mark.parametrize("form", ["--armor", "--no-armor"])
def test_a_commit_signed_by_a_trusted_gpg_key_names_its_signer(repo, gpg, mirror, tmp_path, form):
    gpg_commit(repo, gpg, "Astrid <astrid@example.com>")
    (tmp_path / "keys").write_bytes(gpg(form, "--export", "astrid@example.com"))
    resolved = trusting(mirror, repo, tmp_path / "keys").resolve()
    name, _space, fingerprint = resolved.signer.rpartition(" ")
    assert name == "Astrid <astrid@example.com>" and len(fingerprint) == 40


def test_a_commit_signed_by_another_gpg_key_is_refused(repo, gpg, mirror, tmp_path):
    gpg_commit(repo, gpg, "Eve <eve@example.com>")
    gpg("--quick-generate-key", "Astrid <astrid@example.com>", "ed25519", "sign", "0")
    (tmp_path / "keys").write_bytes(gpg("--armor", "--export", "astrid@example.com"))
    with pytest.raises(Refused, match="is signed by the GPG key [0-9A-F]+, which is not trusted"):
        trusting(mirror, repo, tmp_path / "keys").resolve()


def test_a_commit_signed_by_a_revoked_gpg_key_is_refused(repo, gpg, mirror, tmp_path):
    gpg_commit(repo, gpg, "Astrid <astrid@example.com>")
    (certificate,) = Path(gpg.home, "openpgp-revocs.d").iterdir()
    certificate.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
    gpg("--import", str(certificate))
    (tmp_path / "keys").write_bytes(gpg("--armor", "--export", "astrid@example.com"))
    with pytest.raises(Refused, match="is signed by a key that was revoked: Astrid"):
        trusting(mirror, repo, tmp_path / "keys").resolve()


def test_keys_of_the_other_kind_are_said_to_be(repo, gpg, ssh_signed, mirror, tmp_path):
    gpg("--quick-generate-key", "Astrid <astrid@example.com>", "ed25519", "sign", "0")
    (tmp_path / "keys").write_bytes(gpg("--armor", "--export", "astrid@example.com"))
    with pytest.raises(Refused, match="is signed with an ssh key, but trusted_keys holds keys for gpg"):
        trusting(mirror, repo, tmp_path / "keys").resolve()


def test_a_file_without_keys_is_said_to_be_one(repo, gpg, mirror, tmp_path):
    gpg_commit(repo, gpg, "Astrid <astrid@example.com>")
    (tmp_path / "keys").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nnonsense\n-----END PGP PUBLIC KEY BLOCK-----\n")
    with pytest.raises(Failure, match="trusted_keys holds no GPG public key"):
        trusting(mirror, repo, tmp_path / "keys").resolve()


# ---- the network


def test_a_server_that_is_not_there_is_said_to_be_unreachable(mirror):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for scheme in ("http", "git", "ssh"):
            with pytest.raises(Failure, match="the server can't be reached. Check the URL, the network"):
                mirror(f"{scheme}://127.0.0.1:{port}/x").resolve()


def test_a_host_that_does_not_exist_is_said_not_to(mirror):
    with pytest.raises(Failure, match="the host's name can't be found"):
        mirror("https://nowhere.invalid/x").resolve()


def test_a_clone_that_lacks_blobs_is_named_as_one(repo, mirror, tmp_path):
    repo.git("config", "uploadpack.allowFilter", "true")
    subprocess.run(["git", "clone", "--quiet", "--bare", "--filter=blob:none", repo.url, str(tmp_path / "partial")], check=True)
    with pytest.raises(Failure, match="is a clone that lacks objects .a partial clone.. Give the repository that it was cloned from"):
        mirror(str(tmp_path / "partial")).resolve()


def test_a_server_that_never_answers_costs_the_timeout_and_leaves_no_process(mirror):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        for scheme in ("http", "git", "ssh"):
            start = time.monotonic()
            with pytest.raises(Failure, match="no answer within 1 seconds"):
                mirror(f"{scheme}://127.0.0.1:{port}/x", git_timeout=1).resolve()
            assert time.monotonic() - start < 120  # without its end it lasts for ever
    # The digits alone stand in other processes' times and temporary names too.
    given = re.compile(rb"(?<!\d)%d(?!\d)" % port)
    every = [_content(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    left = [arguments for arguments in every if b"127.0.0.1" in arguments and given.search(arguments)]
    assert left == []


def _content(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Unreliable:
    """Hands connections on to a server, but cuts the first ones after so many bytes of the answer."""

    def __init__(self, port, cuts):
        self._target, self.cuts = port, list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            limit = self.cuts.pop(0) if self.cuts else None
            if limit == 0:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # it is told to the client, which else would wait for ever
                client.close()
                continue
            threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, limit), daemon=True).start()

    @staticmethod
    def _pump(source, target, left):
        try:
            while left is None or left > 0:
                data = source.recv(4096 if left is None else min(left, 4096))
                if not data:
                    break
                target.sendall(data)
                left = None if left is None else left - len(data)
        except OSError:
            pass
        for side in (target, source) if left == 0 else (target,):
            try:
                side.shutdown(socket.SHUT_RDWR if left == 0 else socket.SHUT_WR)
            except OSError:
                pass

    def close(self):
        # Closed alone it would leave the thread where it is, about to accept from whatever has the listener's number next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()


@pytest.mark.parametrize("cuts", [(0,), (0, 0), (40,), (None, 60), (None, 200), (None, 700, 30)])
def test_a_connection_that_breaks_is_tried_again(repo, git_daemon, mirror, cuts):
    repo.write("noise", random.Random(1).randbytes(200_000))
    repo.commit()
    proxy = Unreliable(git_daemon.port, cuts)
    try:
        one = mirror(git_daemon.url.replace(str(git_daemon.port), str(proxy.port)))
        assert one.read(one.resolve(), "apps/web.yaml") == b"kind: Web\n"
        assert proxy.cuts == []
    finally:
        proxy.close()


def test_a_connection_that_always_breaks_is_said_to(repo, git_daemon, mirror):
    proxy = Unreliable(git_daemon.port, [30] * 20)
    try:
        with pytest.raises(Failure, match="the connection broke|can't be reached"):
            mirror(git_daemon.url.replace(str(git_daemon.port), str(proxy.port))).resolve()
        assert len(proxy.cuts) == 20 - Limits().attempts
    finally:
        proxy.close()


# ---- change and damage


def test_a_force_pushed_branch_is_followed(repo, mirror):
    one = mirror(repo)
    old = one.resolve()
    repo.git("reset", "--quiet", "--hard", "develop")
    repo.git("commit", "--quiet", "--amend", "--message", "rewritten")
    new = one.resolve()
    assert new.id == repo.head() != old.id and new.subject == "rewritten"
    assert one.read(new, "apps/web.yaml") == b"kind: Web\nreplicas: 2\n"
    assert one.resolve(old.id) == old


def test_a_commit_that_the_server_has_forgotten_is_still_read_from_the_mirror(repo, mirror):
    one = mirror(repo)
    old = one.resolve("develop")
    repo.git("branch", "--delete", "--force", "develop")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")
    assert mirror(repo).read(mirror(repo).resolve(old.id), "apps/web.yaml") == b"kind: Web\nreplicas: 2\n"


def damage(name):
    def register(function):
        DAMAGES[name] = function
        return function

    return register


DAMAGES = {}


def _writable(path):
    path.chmod(0o600)
    return path


@damage("HEAD is garbage")
def _head(folder):
    (folder / "HEAD").write_bytes(b"\0\xff garbage")


@damage("HEAD is gone")
def _no_head(folder):
    (folder / "HEAD").unlink()


@damage("the configuration is garbage")
def _config(folder):
    (folder / "config").write_text("[core\nnonsense")


@damage("all objects are gone")
def _no_objects(folder):
    shutil.rmtree(folder / "objects")


@damage("the pack is empty")
def _empty_pack(folder):
    for pack in (folder / "objects" / "pack").glob("*.pack"):
        _writable(pack).write_bytes(b"")


@damage("the pack is cut short")
def _short_pack(folder):
    for pack in (folder / "objects" / "pack").glob("*.pack"):
        with open(_writable(pack), "r+b") as file:
            file.truncate(pack.stat().st_size // 2)


@damage("the pack has wrong bytes")
def _wrong_pack(folder):
    for pack in (folder / "objects" / "pack").glob("*.pack"):
        with open(_writable(pack), "r+b") as file:
            file.seek(13)
            file.write(b"\x55" * (pack.stat().st_size - 40))


@damage("the index of the pack is gone")
def _no_idx(folder):
    for index in (folder / "objects" / "pack").glob("*.idx"):
        index.unlink()


@damage("the index of the pack is garbage")
def _bad_idx(folder):
    for index in (folder / "objects" / "pack").glob("*.idx"):
        _writable(index).write_bytes(b"garbage" * 200)


@damage("the refs are garbage")
def _refs(folder):
    for ref in (folder / "refs" / "commits").iterdir():
        ref.write_bytes(b"\0garbage")


@damage("the refs are a file")
def _refs_file(folder):
    shutil.rmtree(folder / "refs")
    (folder / "refs").write_text("x")


@damage("the list of shallow commits is garbage")
def _shallow(folder):
    (folder / "shallow").write_text("garbage\n")


@damage("stale locks are everywhere")
def _locks(folder):
    for name in ("shallow.lock", "config.lock", "HEAD.lock", "packed-refs.lock"):
        (folder / name).touch()
    for ref in list((folder / "refs" / "commits").iterdir()):
        (folder / "refs" / "commits" / f"{ref.name}.lock").touch()


@damage("the mark of use is gone")
def _in_use(folder):
    (folder / "in-use").unlink()


@damage("the generation is gone")
def _generation(folder):
    shutil.rmtree(folder)


@damage("the link to it leads elsewhere")
def _link(folder):
    (folder.parent / "current").unlink()
    (folder.parent / "current").symlink_to("/etc")


@damage("the link to it is a file")
def _link_file(folder):
    (folder.parent / "current").unlink()
    (folder.parent / "current").write_text("x")


@damage("a half-made link lies around")
def _half_link(folder):
    (folder.parent / "current.new").symlink_to("nowhere")
    (folder.parent / "current").unlink()


@pytest.mark.parametrize("change", ["unchanged", "changed"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_mirror_repairs_itself(repo, cache, mirror, name, change):
    first = mirror(repo)
    first.resolve()
    first.close()
    DAMAGES[name](generation_of(cache))
    if change == "changed":
        repo.write("apps/web.yaml", "kind: Changed\n")
        repo.commit()
    for _twice in range(2):
        one = mirror(repo)
        commit = one.resolve()
        assert commit.id == repo.head()
        tree = one.tree(commit)
        found = dict(tree.read_many([entry.path for entry in tree.files()]))
        assert found == {path: (repo.path / path).read_bytes() for path in ("README.md", "apps/api.yaml", "apps/web.yaml")}
        one.close()


def test_damage_in_the_middle_of_reading_is_repaired(repo, cache, mirror):
    one = mirror(repo)
    commit = one.resolve()
    tree = one.tree(commit)
    tree.files()
    _wrong_pack(generation_of(cache))
    assert tree.read("apps/web.yaml") == b"kind: Web\n"


def test_a_mirror_that_can_not_be_repaired_says_so(repo, cache, mirror):
    one = mirror(repo)
    commit = one.resolve()
    one.close()  # else Git has the pack open, and answers from it
    _no_objects(generation_of(cache))
    shutil.rmtree(repo.path)
    with pytest.raises(Failure, match="there is no Git repository at this path"):
        one.read(commit, "README.md")


def test_a_reader_is_not_disturbed_when_the_mirror_is_made_anew(repo, cache, mirror):
    reader = mirror(repo)
    commit = reader.resolve()
    tree = reader.tree(commit)
    assert tree.read("apps/web.yaml") == b"kind: Web\n"
    held = generation_of(cache)
    for number in range(3):
        repo.write("apps/web.yaml", f"kind: Web\nreplicas: {number}\n")
        repo.commit()
        writer = mirror(repo, limits=Limits(packs=1))
        writer.resolve()
        writer.close()
    assert generation_of(cache) != held and held.exists()
    shutil.rmtree(repo.path)  # it can't be fetched again, so what is read comes from the generation that is held
    assert tree.read("apps/api.yaml") == b"kind: Api\n"
    assert reader.tree(commit, "apps").read("web.yaml") == b"kind: Web\n"


# ---- several processes, and killed ones


def reading(url, revision, cache):
    return subprocess.Popen(
        [sys.executable, "-c", READ_ALL, url, revision, str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_python_path()
    )


def _python_path():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_processes_on_one_mirror_do_not_disturb_each_other(repo, git_daemon, cache):
    for number in range(40):
        repo.write(f"many/{number}.yaml", f"number: {number}\n")
    repo.commit()
    revisions = ["main", "develop", "HEAD", repo.first, "v1.0.0", repo.second[:9]]
    for _round in range(2):
        expected = {revision: repo.head("HEAD" if revision == "HEAD" else revision) for revision in revisions}
        running = [(revision, reading(git_daemon.url, revision, cache)) for revision in revisions]
        for revision, process in running:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            commit, *files = out.rstrip("\n").split("|")
            assert commit == expected[revision]
            assert any(file.startswith("apps/web.yaml=kind: Web") for file in files)
        repo.write("apps/api.yaml", "kind: Changed\n")
        repo.commit()


def test_a_process_killed_at_any_moment_is_no_obstacle_to_the_next(repo, git_daemon, cache):
    repo.write("noise", random.Random(1).randbytes(3_000_000))
    chance = random.Random(20260501)
    died = 0
    for number in range(12):
        repo.write("apps/web.yaml", f"kind: Web\nreplicas: {number}\n")
        head = repo.commit()
        if number % 4 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        victim = reading(git_daemon.url, "main", cache)
        try:
            victim.communicate(timeout=chance.uniform(0.05, 0.5))
        except subprocess.TimeoutExpired:
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            died += 1
        next_one = reading(git_daemon.url, "main", cache)
        out, err = next_one.communicate(timeout=120)
        assert next_one.returncode == 0, err
        assert out.startswith(head) and f"replicas: {number}" in out
    assert died >= 3, "no process was slow enough to be killed: the moments above need another range"
    # Whatever the killed ones left is gone after the next change that makes a generation, and never more than a few in between.
    assert len(list(home_of(cache).iterdir())) < 12


def test_git_itself_killed_in_the_middle_of_a_fetch_is_no_obstacle(repo, git_daemon, cache, mirror):
    """All of a session at once: what a machine that loses its power looks like."""
    chance = random.Random(7)
    for number in range(6):
        repo.write("noise", random.Random(number).randbytes(2_000_000))
        head = repo.commit()
        victim = reading(git_daemon.url, "main", cache)
        time.sleep(chance.uniform(0.15, 0.4))
        for process in _descendants(victim.pid) + [victim.pid]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        victim.communicate()
        one = mirror(git_daemon)
        assert one.resolve().id == head
        one.close()


def _descendants(pid):
    found = []
    for child in _content(Path(f"/proc/{pid}/task/{pid}/children")).split():
        found += [*_descendants(int(child)), int(child)]
    return found


def test_a_fetch_waits_for_another_and_says_so_when_it_takes_too_long(repo, cache, mirror):
    mirror(repo).resolve()
    repo.commit("so that there is something to fetch")
    holder = cache_module.Cache(str(cache), repo.url, 5)
    with holder.alone():
        with pytest.raises(Failure, match="another process has been fetching this repository for more than 1 seconds") as failure:
            mirror(repo, git_timeout=1).resolve()
        assert str(cache) in failure.value.hint
        # What needs no fetch needs no lock.
        assert mirror(repo, git_timeout=1).resolve(repo.first).id == repo.first
    assert mirror(repo, git_timeout=1).resolve().id == repo.head()


# ---- the cache


def test_the_cache_is_closed_to_others(repo, cache, mirror):
    mirror(repo).resolve()
    for folder in (cache, home_of(cache), generation_of(cache)):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_may_write_to_is_refused(repo, cache, mirror):
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(Refused, match="the cache can be written by other users"):
        mirror(repo).resolve()


def test_a_cache_that_can_not_be_made_says_so(repo, cache, mirror):
    cache.write_text("a file")
    with pytest.raises(Failure, match="the cache can't be used"):
        mirror(repo).resolve()


@pytest.mark.parametrize("when", ["before it is made", "after it was made"])
@pytest.mark.parametrize("whose", ["the cache", "a folder above it", "the repository's folder"])
def test_a_cache_that_a_neighbour_may_have_had_a_hand_in_is_neither_written_nor_read(repo, cache, mirror, tmp_path, when, whose):
    own = tmp_path / "above" / "cache"
    if when == "after it was made":
        one = mirror(repo, git_cache=str(own))
        one.resolve()
        one.close()
        folder = {"the cache": own, "a folder above it": own.parent, "the repository's folder": home_of(own)}[whose]
    else:
        folder = {"the cache": own, "a folder above it": own.parent}.get(whose) or own / hashlib.sha256(repo.url.encode()).hexdigest()[:32]
        folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    with pytest.raises(Refused, match="the cache belongs to another user .uid 12345."):
        mirror(repo, git_cache=str(own)).resolve()
    os.chown(folder, 0, 0)
    folder.chmod(0o777)
    with pytest.raises(Refused, match="the cache can be written by other users"):
        mirror(repo, git_cache=str(own)).resolve()
    folder.chmod(0o700)
    assert mirror(repo, git_cache=str(own)).resolve().id == repo.head()


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("forged", ["HEAD", "HEAD^{tree}", "HEAD:apps", "HEAD:apps/web.yaml", "HEAD:again"])
def test_a_forged_object_in_the_mirror_is_never_used(tmp_path, mirror, forged, object_format):
    from lab.repository import Repository

    path = tmp_path / "original"
    path.mkdir()
    subprocess.run(["git", "init", "--quiet", f"--object-format={object_format}", "--initial-branch=main", str(path)], check=True)
    repo = Repository(path)
    repo.write("apps/web.yaml", "kind: Web\n")
    (path / "again").symlink_to("apps/web.yaml")
    repo.commit()
    url = f"file://{path}"
    one = mirror(url)
    commit = one.resolve()
    one.close()
    folder = generation_of(tmp_path / "cache")
    inside = ["git", "--git-dir", str(folder)]
    (pack,) = (folder / "objects" / "pack").glob("*.pack")
    pack = pack.rename(tmp_path / "pack")
    for rest in (folder / "objects" / "pack").iterdir():
        rest.unlink()
    subprocess.run([*inside, "unpack-objects", "-q"], input=pack.read_bytes(), check=True)
    oid = repo.git("rev-parse", forged)
    kind = repo.git("cat-file", "-t", oid)
    content = subprocess.run(["git", "-C", str(path), "cat-file", kind, oid], capture_output=True, check=True).stdout
    changed = content.replace(b"apps\0", b"appz\0").replace(b"web", b"xyz").replace(b"Web", b"Xyz").replace(b"author", b"auth0r")
    assert changed != content
    loose = folder / "objects" / oid[:2] / oid[2:]
    loose.chmod(0o600)
    loose.write_bytes(zlib.compress(b"%s %d\0" % (kind.encode(), len(changed)) + changed))
    two = mirror(url)
    assert two.resolve() == commit
    tree = two.tree(commit)
    assert dict(tree.read_many([entry.path for entry in tree.files()])) == {"again": b"kind: Web\n", "apps/web.yaml": b"kind: Web\n"}
    assert two.read(commit, "again") == two.read(commit, "apps/web.yaml") == b"kind: Web\n"


def test_two_repositories_share_nothing(repo, cache, mirror, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(repo.path, copy)
    mirror(repo).resolve()
    mirror(str(copy)).resolve()
    assert len(list(cache.iterdir())) == 2


# ---- the machine


@pytest.fixture
def only_on_path(tmp_path, monkeypatch):
    """PATH with nothing but these programs."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def programs(**found):
        for name, path in found.items():
            (folder / name).symlink_to(path)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return programs


def test_a_machine_without_git_is_told_to_install_it(repo, mirror, only_on_path):
    only_on_path()
    with pytest.raises(Failure, match="the program git isn't installed. *Install Git 2.32"):
        mirror(repo).resolve()


def test_an_old_git_is_told_to_be_updated(repo, mirror, only_on_path):
    real = shutil.which("git")
    script = only_on_path() / "git"
    script.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo "git version 2.25.1" && exit\nexec {real} "$@"\n')
    script.chmod(0o755)
    with pytest.raises(Failure, match="git version 2.25.1 is too old. Install Git 2.32"):
        mirror(repo).resolve()


@pytest.mark.parametrize(("make", "program"), [("ssh_signed", "ssh-keygen"), ("gpg", "gpg")])
def test_a_machine_without_the_program_for_signatures_is_told_to_install_it(repo, mirror, only_on_path, request, tmp_path, make, program):
    made = request.getfixturevalue(make)
    if make == "gpg":
        gpg_commit(repo, made, "Astrid <astrid@example.com>")
        keys = tmp_path / "keys"
        keys.write_bytes(made("--armor", "--export"))
    else:
        keys = made[1]
    git, real_path = shutil.which("git"), os.environ["PATH"]
    only_on_path(git=git)
    try:
        with pytest.raises(Failure, match=f"the program {program} isn't installed"):
            trusting(mirror, repo, keys).resolve()
    finally:
        os.environ["PATH"] = real_path


def test_an_unchanged_repository_needs_few_imports(repo, mirror, cache):
    """The budget of a run that finds nothing to do: its processes are few and it imports nothing that is slow."""
    mirror(repo).resolve()
    script = """
import sys
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
mirror = Mirror(Source.of({"repository": sys.argv[1], "git_cache": sys.argv[2]}))
print(mirror.tree(mirror.resolve(), "apps").id)
slow = {"yaml", "kubernetes", "ansible", "urllib", "tempfile", "difflib", "logging"}
print(*sorted({name.partition(".")[0] for name in sys.modules} & slow))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}", repo.url, str(cache)],
        capture_output=True,
        text=True,
        check=True,
    )
    tree, slow = done.stdout.split("\n")[:2]
    assert tree == repo.git("rev-parse", "HEAD:apps")
    assert slow == ""
