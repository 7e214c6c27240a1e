# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile repository, URL, revision or environment runs nothing, leads nowhere and fills nothing."""

from __future__ import annotations

import hashlib
import http.server
import os
import pwd
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import Source, command, needs
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits


@pytest.fixture
def canary(tmp_path):
    """A file that must never appear; whoever manages to run something makes it."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something was executed"


@pytest.fixture
def repo(git_repo):
    git_repo.write("apps/web.yaml", "kind: Web\n")
    git_repo.write("base/base.yaml", "kind: Base\n")
    git_repo.commit()
    return git_repo


def tree_of(mirror, repository, path="."):
    one = mirror(repository)
    return one.tree(one.resolve(), path)


def link(repo, path, target):
    (repo.path / path).parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, repo.path / path)


def raw_tree(repo, entries):
    """A tree object as nobody's git add would write it: (mode, name, object id)."""
    raw = b"".join(
        mode.encode() + b" " + (name if isinstance(name, bytes) else name.encode()) + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries
    )
    done = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"], cwd=repo.path, input=raw, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def commit_tree(repo, tree):
    repo.git("update-ref", "refs/heads/main", repo.git("commit-tree", tree, "-m", "by hand"))


def blob(repo, content="kind: Evil\n"):
    return repo.git("hash-object", "-w", "--stdin", input=content)


# ---- URLs and revisions


@pytest.mark.parametrize(
    "template",
    [
        "ext::sh -c 'touch {canary}'",
        "ext::touch% {canary}",
        "--upload-pack=touch {canary}",
        "-u touch {canary}",
        "ssh://-oProxyCommand=touch%20{canary}/x",
        "-oProxyCommand=touch {canary}:x",
        "git@-oProxyCommand=touch${{IFS}}{canary}:x",
        "file:///$(touch {canary})",
        "/$(touch {canary})",
        "/`touch {canary}`",
        "/x;touch {canary}",
        "ssh://h;touch${{IFS}}{canary}/x",
        "ssh://127.0.0.1:1/;touch {canary}",
        "fd::0",
        "file::{canary}",
        "http::ext::touch",
    ],
)
def test_a_url_runs_nothing(mirror, canary, template):
    with pytest.raises(Failure):
        mirror(template.format(canary=canary), git_timeout=5).resolve()


@pytest.mark.parametrize(
    "template",
    [
        "--upload-pack=touch {canary}",
        "-c",
        "--output={canary}",
        "HEAD --exec=touch {canary}",
        "$(touch {canary})",
        "`touch {canary}`",
        "--help",
        "-",
        "--",
        "main^{{/x}}",
        "@{{-1}}",
        ":/x",
        "..",
        "main:apps",
    ],
)
def test_a_revision_runs_nothing(repo, mirror, canary, template):
    with pytest.raises(Failure):
        mirror(repo).resolve(template.format(canary=canary))


@pytest.mark.parametrize("name", ["--upload-pack=touch canary", "-x", "$(touch canary)", "a;touch canary", "%s%n", "'", '"', "&&touch canary"])
def test_a_ref_that_the_server_has_runs_nothing(repo, mirror, canary, name):
    name = name.replace("canary", "${IFS}" + str(canary).replace("/", "\u2215")).replace(" ", "")
    repo.git("update-ref", "--", f"refs/heads/{name}", "HEAD")
    one = mirror(repo)
    assert one.resolve(f"refs/heads/{name}").id == repo.head() == one.resolve(repo.head()[:8]).id


@pytest.mark.parametrize("make", ["file", "folder", "bundle", "gitfile"])
def test_a_path_that_is_no_repository_is_not_read(repo, mirror, tmp_path, make):
    path = tmp_path / "odd"
    if make == "file":
        path.write_text("root:x:0:0\n")
    elif make == "folder":
        path.mkdir()
    elif make == "bundle":
        repo.git("bundle", "create", str(path), "main")
    else:
        path.mkdir()
        (path / ".git").write_text("gitdir: /etc\n")
    with pytest.raises(Failure, match="there is no Git repository at this path") as failure:
        mirror(str(path)).resolve()
    assert "root:x" not in str(failure.value) + str(failure.value.details)


def test_a_repository_of_another_user_is_said_to_be(repo, mirror, tmp_path, monkeypatch):
    # Git's own switch for its tests: whoever runs this, every repository that Git finds by itself counts as somebody else's.
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n')
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Failure, match="belongs to another user.* Run as its owner, hand the folder over with chown, or read it over ssh or https"):
        mirror(repo).resolve()


# ---- what runs by itself elsewhere


def evil_script(canary):
    return f"#!/bin/sh\ntouch '{canary}'\ncat 2>/dev/null\n"


def test_no_hook_and_no_filter_of_the_repository_runs(repo, mirror, canary):
    for name in (
        "post-checkout",
        "pre-receive",
        "post-update",
        "reference-transaction",
        "post-upload-pack",
        "pre-auto-gc",
        "fsmonitor-watchman",
        "push-to-checkout",
    ):
        hook = repo.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(evil_script(canary))
        hook.chmod(0o755)
    command = f"touch {canary}; cat"
    repo.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
    repo.write(".lfsconfig", f"[lfs]\n\turl = ssh://-oProxyCommand=touch%20{canary}/x\n")
    repo.commit()
    for setting in (
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.sshCommand",
        "filter.evil.smudge",
        "filter.evil.clean",
        "core.gitProxy",
        "diff.evil.textconv",
        "gpg.program",
        "credential.helper",
    ):
        repo.git("config", setting, command if setting != "credential.helper" else f"!touch {canary}")
    canary.unlink(missing_ok=True)
    tree = tree_of(mirror, repo)
    for entry in tree.files():
        tree.read(entry.path)


def test_the_configuration_of_the_user_and_the_system_does_not_count(repo, git_daemon, mirror, canary, tmp_path, monkeypatch):
    home, template = tmp_path / "home", tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    for name in ("reference-transaction", "post-checkout", "fsmonitor-watchman"):
        (template / "hooks" / name).write_text(evil_script(canary))
        (template / "hooks" / name).chmod(0o755)
    home.mkdir()
    (home / ".gitconfig").write_text(
        f"[init]\n\ttemplateDir = {template}\n[core]\n\thooksPath = {template}/hooks\n\tgitProxy = {template}/hooks/post-checkout\n"
        f"[core]\n\tfsmonitor = {template}/hooks/fsmonitor-watchman\n"
        f'[url "ext::touch {canary} "]\n\tinsteadOf = git://\n\tinsteadOf = file://\n'
        f'[protocol]\n\tallow = always\n[protocol "ext"]\n\tallow = always\n[alias]\n\tfetch = "!touch {canary}"\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    for server in (repo, git_daemon):
        assert tree_of(mirror, server, "apps").read("web.yaml") == b"kind: Web\n"


def test_the_variables_and_the_folder_of_the_caller_do_not_count(repo, mirror, canary, tmp_path, monkeypatch):
    from lab.repository import Repository

    other = Repository(tmp_path / "other")
    other.write("apps/web.yaml", "kind: Other\n")
    other.commit()
    script = tmp_path / "evil"
    script.write_text(evil_script(canary))
    script.chmod(0o755)
    values = {
        "GIT_DIR": other.path / ".git",
        "GIT_WORK_TREE": other.path,
        "GIT_COMMON_DIR": other.path / ".git",
        "GIT_OBJECT_DIRECTORY": other.path / ".git" / "objects",
        "GIT_INDEX_FILE": other.path / ".git" / "index",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": other.path,
        "GIT_NAMESPACE": "evil",
        "GIT_QUARANTINE_PATH": other.path,
        "GIT_CONFIG_PARAMETERS": f"'core.sshCommand'='{script}' 'protocol.ext.allow'='always' 'core.fsmonitor'='{script}'",
        "GIT_CONFIG": other.path / ".git" / "config",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "alias.fetch",
        "GIT_CONFIG_VALUE_0": f"!{script}",
        "GIT_SSH": script,
        "GIT_SSH_COMMAND": script,
        "GIT_ASKPASS": script,
        "SSH_ASKPASS": script,
        "GIT_PROXY_COMMAND": script,
        "GIT_EXTERNAL_DIFF": script,
        "GIT_PAGER": script,
        "GIT_EDITOR": script,
        "GIT_ALLOW_PROTOCOL": "ext",
        "GIT_SHALLOW_FILE": other.path / "x",
        "GIT_REPLACE_REF_BASE": "refs/heads",
        "GIT_GRAFT_FILE": script,
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_PREFIX": "apps/",
        "GIT_TEMPLATE_DIR": other.path,
        "LC_ALL": "sv_SE.UTF-8",
        "LANGUAGE": "sv",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(other.path)
    tree = tree_of(mirror, repo, "apps")
    assert [entry.path for entry in tree.files()] == ["web.yaml"]
    assert tree.read("web.yaml") == b"kind: Web\n"
    with pytest.raises(Failure, match="there is no branch, tag or commit nope"):
        mirror(repo).resolve("nope")


# ---- what takes Git over


@pytest.mark.parametrize("network", [False, True])
def test_what_runs_in_git_s_place_reads_nothing_of_the_host_and_has_no_network_of_its_own(repo, tmp_path, monkeypatch, network):
    """A fault in Git, by an alias: it sees the mirror and the system's programs, and a server only while Git talks to one."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "mirror").mkdir()
    git = Command(Source.of({"repository": "https://git.example.com/x", "git_password": "open-sesame"}), Limits())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        script = (f"cat {tmp_path}/secret {repo.path}/.git/config /etc/shadow {pwd.getpwuid(os.getuid()).pw_dir}/.bashrc /proc/1/environ; "
                  f"echo x > {tmp_path}/new; echo kept > $GIT_DIR/x; cat $GIT_DIR/x; env; {shutil.which('python3', path='/usr/bin:/bin')} -c 'import socket; "
                  f"socket.create_connection((\"127.0.0.1\", {server.getsockname()[1]}))'")
        said = git(str(tmp_path / "mirror"), "-c", f"alias.evil=!{script} #", "evil", network=network).out.decode()
        assert "kept" in said and "hunter2" not in said and "root:" not in said and "[core]" not in said and not (tmp_path / "new").exists()
        assert ("open-sesame" in said) is network
        if network:
            server.accept()[0].close()
        else:
            with pytest.raises(TimeoutError):
                server.accept()


def test_where_git_cannot_be_shut_in_it_runs_only_if_that_is_allowed(repo, mirror, monkeypatch):
    monkeypatch.setattr(command, "PROTECTIONS", ())  # fake: a kernel that has none, for a user who is not root
    with pytest.raises(Refused, match=r"git cannot be shut in here: .*allow_unsandboxed: \[git\]"):
        mirror(repo).resolve()
    allowed = mirror(repo, allow_unsandboxed=["git"])
    assert allowed.resolve().id == repo.head() and allowed.protection() == "none"


@pytest.mark.parametrize("make", ["worktree", "shared", "link", "a name to decode"])
def test_a_repository_that_lies_in_several_places_is_read_whole(repo, mirror, tmp_path, make):
    """A work tree beside its repository, a clone that borrows its objects, a link to it."""
    place = tmp_path / "else" / ("it's 100% here" if make == "a name to decode" else "where")
    place.parent.mkdir()
    if make == "worktree":
        repo.git("worktree", "add", "--quiet", str(place), "-b", "beside")
    elif make == "link":
        place.symlink_to(repo.path)
    else:
        repo.git("clone", "--quiet", *(["--shared"] if make == "shared" else []), str(repo.path), str(place))
    one = mirror(str(place))
    assert one.read(one.resolve(), "apps/web.yaml") == b"kind: Web\n"


@pytest.mark.parametrize("alternates", ["/", "/etc", "../../../../..", "{secret}"])
def test_a_repository_opens_nothing_but_stores_of_objects_to_git(repo, tmp_path, alternates):
    (tmp_path / "secret").mkdir()
    (repo.path / ".git" / "objects" / "info" / "alternates").write_text(alternates.format(secret=tmp_path / "secret") + "\n")
    assert set(needs.repository(str(repo.path))) == {str(repo.path), f"{repo.path}.git"}


def test_ssh_reads_what_the_user_s_configuration_names_and_https_none_of_it(tmp_path):
    config = tmp_path / "config"
    config.write_text(f"Host forge\n  HostName git.example.com\n  IdentityFile {tmp_path}/deploy\n  UserKnownHostsFile {tmp_path}/hosts /dev/null\n"
                      f"  IdentityAgent {tmp_path}/agent\nHost bastion\n  ProxyCommand {tmp_path}/tunnel %h\n")
    source = Source.of({"repository": "git@forge:acme/platform.git"})
    environment = {**source.environment(), "GIT_SSH_COMMAND": f"ssh -F {config}", "SSH_AUTH_SOCK": "/run/agent"}
    found = needs.of(source, environment)
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert {f"{tmp_path}/deploy", f"{tmp_path}/hosts", f"{tmp_path}/agent", f"{home}/.ssh", "/run/agent"} <= set(found.read)
    assert home not in found.execute and needs.of(Source.of({"repository": "ssh://git@bastion:2222/x"}), environment).execute[-3:] == [home, "/opt", "/snap"]
    assert not [path for path in needs.of(Source.of({"repository": "https://git.example.com/x"}), environment).read if ".ssh" in path or "agent" in path]


# ---- links and paths that lead out


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/passwd", "../..", "/", "../apps/../../x", "/proc/self/environ"])
def test_a_link_out_of_the_repository_is_refused(repo, mirror, target):
    link(repo, "apps/out.yaml", target)
    repo.commit()
    tree = tree_of(mirror, repo)
    with pytest.raises(Refused, match="apps/out.yaml: this symbolic link leads out of the repository"):
        tree.files()
    with pytest.raises(Refused, match="leads out of the repository"):
        tree.read("apps/out.yaml")
    with pytest.raises(Refused, match="leads out of the repository"):
        tree.read("apps/out.yaml/passwd")
    one = mirror(repo)
    with pytest.raises(Refused, match="leads out of the repository"):
        one.read(one.resolve(), "apps/out.yaml")
    # What is beside it can be read all the same.
    assert tree.read("apps/web.yaml") == b"kind: Web\n"


def test_a_link_out_of_the_folder_asked_for_is_refused(repo, mirror):
    link(repo, "apps/base.yaml", "../base/base.yaml")
    repo.commit()
    # The id of a folder stands for its content; with a link out of it, it would not.
    with pytest.raises(Refused, match="apps/base.yaml: this symbolic link leads out of apps"):
        tree_of(mirror, repo, "apps").files()
    assert tree_of(mirror, repo).read("apps/base.yaml") == b"kind: Base\n"


def test_links_inside_are_followed(repo, mirror):
    link(repo, "apps/same.yaml", "web.yaml")
    link(repo, "apps/base.yaml", "../base/base.yaml")
    link(repo, "again.yaml", "apps/same.yaml")
    link(repo, "more", "base")
    repo.commit()
    tree = tree_of(mirror, repo)
    contents = dict(tree.read_many([entry.path for entry in tree.files()]))
    assert contents == {
        "again.yaml": b"kind: Web\n",
        "apps/base.yaml": b"kind: Base\n",
        "apps/same.yaml": b"kind: Web\n",
        "apps/web.yaml": b"kind: Web\n",
        "base/base.yaml": b"kind: Base\n",
        "more/base.yaml": b"kind: Base\n",
    }


def test_hundreds_of_links_cost_no_process_each(repo, mirror):
    """400 of them took 6 seconds, a process of Git each."""
    started = []

    class Noted(Command):
        def __call__(self, folder, *arguments, **more):
            started.append(arguments[0])
            return super().__call__(folder, *arguments, **more)

        def start(self, folder, *arguments):
            started.append(arguments[0])
            return super().start(folder, *arguments)

    for number in range(400):
        link(repo, f"links/{number}.yaml", "../apps/web.yaml" if number % 2 else f"{(number + 2) % 400}.yaml" if number < 60 else "../base/base.yaml")
    repo.commit()
    one = mirror(repo)
    one._git = Noted(one.source, one.limits)
    tree = one.tree(one.resolve(), "links")
    assert len(tree.refused) == 400  # each leads out of that folder
    whole = one.tree(one.resolve())
    assert len([entry for entry in whole.files() if entry.path.startswith("links/")]) == 400 and len(started) < 12, started


def test_a_path_through_a_link_is_found_inside_and_refused_outside(repo, mirror):
    link(repo, "current", "apps")
    link(repo, "outside", "/etc")
    repo.commit()
    one = mirror(repo)
    commit = one.resolve()
    assert one.read(commit, "current/web.yaml") == b"kind: Web\n"
    assert one.tree(commit, "current").read("web.yaml") == b"kind: Web\n"
    for path in ("outside", "outside/passwd"):
        with pytest.raises(Refused, match="leads out of the repository through a symbolic link"):
            one.tree(commit, path)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ({"a": "a"}, "leads back to itself"),
        ({"a": "b", "b": "a"}, "leads back to itself"),
        ({"a": "nowhere"}, "leads to nothing"),
        ({"a": "apps/web.yaml/x"}, "leads to nothing"),
        ({"apps/up": ".."}, "leads to a folder with links"),
        ({"apps/here": "."}, "leads to a folder with links"),
        ({"a/b": "../c", "c/d": "../a"}, "leads to a folder with links"),
    ],
)
def test_a_link_that_never_ends_or_leads_to_nothing_is_said_to(repo, mirror, links, message):
    for path, target in links.items():
        link(repo, path, target)
    repo.commit()
    with pytest.raises(Failure, match=message):
        tree_of(mirror, repo).files()


@pytest.mark.parametrize("name", ["..", ".", ".git", ".GIT", "/etc", "", b"a\nb", b"\x1b[2J", b"\xff\xfe.yaml", b"a\xe2\x80\xa8b"])
def test_a_name_that_no_file_may_have_is_refused(repo, mirror, name):
    commit_tree(repo, raw_tree(repo, [("100644", name, blob(repo))]))
    with pytest.raises(Failure) as refusal:
        tree_of(mirror, repo).files()
    assert "\x1b" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["..", ".git", "/etc"])
def test_a_folder_that_no_file_may_be_in_is_refused(repo, mirror, name):
    inner = raw_tree(repo, [("100644", "x.yaml", blob(repo))])
    commit_tree(repo, raw_tree(repo, [("40000", name, inner)]))
    with pytest.raises(Failure):
        tree_of(mirror, repo).files()


def test_a_tree_with_the_same_name_twice_is_refused(repo, mirror):
    commit_tree(repo, raw_tree(repo, [("100644", "a.yaml", blob(repo, "one")), ("100644", "a.yaml", blob(repo, "two"))]))
    with pytest.raises(Refused, match="a.yaml: the tree names this file twice"):
        tree_of(mirror, repo).files()


def test_a_name_that_is_a_file_and_a_folder_is_refused(repo, mirror):
    inner = raw_tree(repo, [("100644", "x.yaml", blob(repo))])
    commit_tree(repo, raw_tree(repo, [("100644", "a", blob(repo)), ("40000", "a", inner)]))
    with pytest.raises(Refused, match="a: the tree has a file and a folder of this name"):
        tree_of(mirror, repo).files()


# ---- submodules


def add_submodule(repo, path, url):
    repo.write(".gitmodules", f'[submodule "x"]\n\tpath = {path}\n\turl = {url}\n\tupdate = !touch canary\n')
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head()},{path}")
    repo.git("add", ".gitmodules")
    repo.git("commit", "--quiet", "--message", "submodule")


def test_a_submodule_is_refused_and_never_fetched(repo, mirror, canary):
    add_submodule(repo, "apps/vendor", f"ext::touch {canary}")
    one = mirror(repo)
    commit = one.resolve()
    for path in (".", "apps"):
        tree = one.tree(commit, path)
        with pytest.raises(Refused, match="apps/vendor: this is a submodule, and submodules are not followed. Copy its files"):
            tree.files()
    with pytest.raises(Refused, match="this is a submodule"):
        one.tree(commit, "apps/vendor")
    with pytest.raises(Failure):
        one.tree(commit, "apps/vendor/deeper")
    assert one.read(commit, "apps/web.yaml") == b"kind: Web\n"


def test_a_submodule_or_link_elsewhere_is_left_out(repo, mirror):
    link(repo, "docs/out", "/etc/passwd")
    repo.commit()
    add_submodule(repo, "docs/theme", "https://git.example.com/theme")
    tree = tree_of(mirror, repo)
    assert [entry.path for entry in tree.files(within="apps")] == [".gitmodules", "apps/web.yaml", "base/base.yaml"]
    for within in (".", "docs", "docs/out", "docs/theme/deeper"):
        with pytest.raises(Refused):
            tree.files(within=within)


# ---- sizes


READ_BIG = """
import sys
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
mirror = Mirror(Source.of({"repository": sys.argv[1], "git_cache": sys.argv[2]}))
commit = mirror.resolve()
tree = mirror.tree(commit)
for act in (lambda: tree.read("apps/big.yaml"), lambda: mirror.read(commit, "apps/big.yaml"), lambda: list(tree.read_many(["apps/big.yaml"]))):
    try:
        act()
    except Refused as refusal:
        print(refusal)
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def test_a_file_of_100_mb_is_refused_before_it_is_read(repo, mirror, tmp_path):
    with open(repo.path / "apps" / "big.yaml", "wb") as file:
        for _number in range(100):
            file.write(b"kind: Big\n" * 100_000)
    repo.commit()
    assert [entry.size for entry in tree_of(mirror, repo).files()] == [100_000_000, 10, 11]
    done = subprocess.run(
        [sys.executable, "-c", READ_BIG, repo.url, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    *refusals, peak = done.stdout.splitlines()
    assert (
        refusals
        == [
            f"apps/big.yaml: the file has 100,000,000 bytes, more than the {Limits().file_bytes:,} that a file of manifests may have. "
            "Split it, or keep it out of this folder."
        ]
        * 3
    )
    assert int(peak) < 80_000, "KiB: the file itself was in memory"


def test_a_tree_that_unfolds_for_ever_is_refused_in_time(repo, mirror):
    """Ten folders in each of ten folders, twelve deep: a million million files in a few hundred bytes."""
    inner = raw_tree(repo, [("100644", f"{number}.yaml", blob(repo)) for number in range(10)])
    for _depth in range(12):
        inner = raw_tree(repo, [("40000", f"{number}", inner) for number in range(10)])
    commit_tree(repo, inner)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with pytest.raises(Refused, match="the tree has more than 100,000 files"):
        tree_of(mirror, repo).files()
    assert time.monotonic() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_a_repository_that_would_fill_the_disk_is_refused(repo, mirror, tmp_path):
    repo.write("noise", os.urandom(3_000_000))
    repo.commit()
    with pytest.raises(Refused, match="the repository sent more than 1,000,000 bytes. Split it"):
        mirror(repo, limits=Limits(pack_bytes=1_000_000)).resolve()
    assert not list((tmp_path / "cache").rglob("tmp_*"))


def _pack_with_a_delta_bomb():
    """A pack of a few KiB: a blob of 64 KiB, and three deltas that each are the one before, sixteen times over: 256 MiB."""
    def header(kind, length):
        first, length = kind << 4 | length & 15, length >> 4
        out = bytearray()
        while length:
            out.append(first | 128)
            first, length = length & 127, length >> 7
        return bytes(out + bytes([first]))

    def varint(number):
        out = bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes(out + bytes([number]))

    def digest_of(times):
        digest = hashlib.sha1(b"blob %d\0" % (len(content) * times))
        for _time in range(times):
            digest.update(content)
        return digest.digest()

    content = b"#" * 65536
    objects = [header(3, len(content)) + zlib.compress(content)]
    for last in (False, False, True):
        instructions = bytearray(varint(len(content)) + varint(len(content) * 16))
        for _copy in range(16):
            for start in range(0, len(content), 65536):
                instructions += bytes([0x80 | 1 | 2 | 4 | 8]) + start.to_bytes(4, "little")  # 64 KiB from there: no size is that size
        objects.append(header(7, len(instructions)) + digest_of(1) + zlib.compress(bytes(instructions)))
        digest = digest_of(16)
        content = content if last else content * 16
    tree = b"100644 bomb.yaml\0" + digest
    commit = b"tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nBomb\n" % hashlib.sha1(b"tree %d\0" % len(tree) + tree).hexdigest().encode()
    objects += [header(2, len(tree)) + zlib.compress(tree), header(1, len(commit)) + zlib.compress(commit)]
    pack = b"PACK" + struct.pack(">II", 2, len(objects)) + b"".join(objects)
    pack += hashlib.sha1(pack).digest()
    return pack, hashlib.sha1(b"commit %d\0" % len(commit) + commit).hexdigest()


class PackServer(http.server.BaseHTTPRequestHandler):
    """A Git server, by the first version of its protocol, that sends one pack to whoever asks."""

    def do_GET(self):
        self._answer(_packet(b"# service=git-upload-pack\n") + b"0000" + _packet(
            self.server.commit.encode() + b" HEAD\0side-band-64k shallow allow-tip-sha1-in-want allow-reachable-sha1-in-want ofs-delta\n")
            + _packet(self.server.commit.encode() + b" refs/heads/main\n") + b"0000", "git-upload-pack-advertisement")

    def do_POST(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = (_packet(b"shallow " + self.server.commit.encode() + b"\n") + b"0000") if b"deepen" in asked else b""
        if b"done" in asked:
            answer += _packet(b"NAK\n")
            for start in range(0, len(self.server.pack), 60000):
                answer += _packet(b"\1" + self.server.pack[start:start + 60000])
            answer += b"0000"
        self._answer(answer, "git-upload-pack-result")

    def _answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-{kind}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


def _packet(line):
    return b"%04x" % (len(line) + 4) + line


def test_a_pack_of_a_few_kib_that_unfolds_to_hundreds_of_megabytes_is_refused_within_its_memory(mirror):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PackServer) as server:
        server.pack, server.commit = _pack_with_a_delta_bomb()
        assert len(server.pack) < 64 * 1024
        threading.Thread(target=server.serve_forever, daemon=True).start()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        with pytest.raises(Refused, match="needs more memory than one fetch may take"):
            mirror(f"http://127.0.0.1:{server.server_address[1]}/x").resolve()
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 300 * 1024)
        server.shutdown()


def test_an_answer_without_end_is_refused(repo, mirror):
    for number in range(50):
        repo.tag(f"tag-{number}")
    with pytest.raises(Refused, match="Git's answer is longer than 1,000 bytes"):
        mirror(repo, limits=Limits(output_bytes=1000)).resolve("nope")


def test_more_in_all_than_a_run_should_read_is_refused(repo, mirror):
    one = mirror(repo, limits=Limits(tree_bytes=15))
    tree = one.tree(one.resolve())
    with pytest.raises(Refused, match="the files hold more than 15 bytes in all. Set path to a smaller folder"):
        list(tree.read_many(["apps/web.yaml", "base/base.yaml"]))
    assert tree.read("apps/web.yaml") == b"kind: Web\n"


def test_a_commit_message_can_not_play_with_the_terminal(repo, mirror):
    repo.write("x", "y")
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--author", "Eve \x1b[31m <eve@example.com>", "--message", "\x1b]0;owned\x07 subject " + "x" * 5000)
    commit = mirror(repo).resolve()
    assert "\x1b" not in commit.subject + commit.author and "\x07" not in commit.subject and len(commit.subject) <= 200


class Shouting(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = b"\x1b[2J\x1b]0;owned\x07 see \x9b31m here\r\n" * 100
        self.send_response(404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_arguments):
        pass


def test_what_a_server_says_is_shown_without_its_control_characters(mirror):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shouting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(Failure, match="there is no such repository") as failure:
            mirror(f"http://127.0.0.1:{server.server_address[1]}/x").resolve()
        server.shutdown()
    assert "owned" in failure.value.details["git"]
    assert [sign for sign in str(failure.value) + failure.value.details["git"] if not sign.isprintable()] == []
    assert len(failure.value.details["git"]) <= 300
