# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup as people use it: in a playbook that ansible-playbook runs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.lookup.git import EXAMPLES

# What each case asks for; URL stands for the repository.
ANSWERS = {
    "content": "lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL)",
    "content parsed": "(lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL) | from_yaml).kind",
    "two contents": "query('nordic.gitops.git', 'apps/web.yaml', 'apps/api.yaml', repository=URL)",
    "list of paths": "query('nordic.gitops.git', *['apps/web.yaml', 'apps/api.yaml'], repository=URL)",
    "another revision": "lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, revision='develop')",
    "base64": "lookup('nordic.gitops.git', 'logo.png', repository=URL, result='base64')",
    "listing": "lookup('nordic.gitops.git', 'apps', repository=URL, result='listing')",
    "listing of one": "lookup('nordic.gitops.git', 'single', repository=URL, result='listing')",
    "two listings": "query('nordic.gitops.git', 'apps', 'single', repository=URL, result='listing')",
    "commit": "lookup('nordic.gitops.git', 'apps', repository=URL, result='commit')",
    "commit of a tag": "lookup('nordic.gitops.git', '.', repository=URL, result='commit', revision='v1.0.0')",
    "through a link": "lookup('nordic.gitops.git', 'same.yaml', repository=URL)",
}
ERRORS = {
    "no term": ("lookup('nordic.gitops.git', repository=URL)", "no path is given. Give at least one"),
    "empty term": ("lookup('nordic.gitops.git', '', repository=URL)", "term 1 is empty. Give a path relative to the repository's root"),
    "second term empty": ("lookup('nordic.gitops.git', 'apps/web.yaml', '', repository=URL)", "term 2 is empty"),
    "a list as term": (
        "lookup('nordic.gitops.git', ['apps/web.yaml'], repository=URL)",
        "term 1 is a list, not a path. To give a list of paths, write query('nordic.gitops.git', *paths",
    ),
    "a number as term": ("lookup('nordic.gitops.git', 7, repository=URL)", "term 1 is of type int, not a path"),
    "no repository": ("lookup('nordic.gitops.git', 'apps/web.yaml')", "repository"),
    "misspelt option": ("lookup('nordic.gitops.git', 'apps/web.yaml', repositry=URL)", "there is no option repositry. Did you mean repository?"),
    "unknown option": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, zzz=1)",
                       "there is no option zzz. There are allow_unsandboxed, git_ca_cert, "),
    "unknown result": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, result='tree')", "result"),
    "unknown path": (
        "lookup('nordic.gitops.git', 'apps/wbe.yaml', repository=URL)",
        "apps/wbe.yaml: there is no such file or folder. Did you mean apps/web.yaml",
    ),
    "unknown path for a commit": ("lookup('nordic.gitops.git', 'nope', repository=URL, result='commit')", "nope: there is no such file or folder"),
    "unknown revision": (
        "lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, revision='devlop')",
        "there is no branch, tag or commit devlop. Did you mean develop?",
    ),
    "unknown repository": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL + '-not-here')", "there is no Git repository at this path"),
    "a folder as content": ("lookup('nordic.gitops.git', 'apps', repository=URL)", "apps: this is a folder, not a file"),
    "the root as content": ("lookup('nordic.gitops.git', '.', repository=URL)", ".: this is a folder, not a file"),
    "a file as listing": (
        "lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, result='listing')",
        "apps/web.yaml: this is a file, not a folder",
    ),
    "binary content": (
        "lookup('nordic.gitops.git', 'logo.png', repository=URL)",
        "logo.png: the file is not UTF-8 text (byte 0). Ask for result='base64'",
    ),
    "a pointer of Git LFS": ("lookup('nordic.gitops.git', 'large.yaml', repository=URL)", "large.yaml: is a Git LFS pointer, not the file itself"),
    "a pointer in base64": (
        "lookup('nordic.gitops.git', 'large.yaml', repository=URL, result='base64')",
        "large.yaml: is a Git LFS pointer, not the file itself. Commit the file without LFS",
    ),
    "a path out": ("lookup('nordic.gitops.git', '../secret', repository=URL)", "has .. in it"),
    "a link out": ("lookup('nordic.gitops.git', 'out', repository=URL)", "leads out of the repository"),
    "an option as revision": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, revision='--upload-pack=x')", "starts with a dash"),
    "a helper as repository": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository='ext::sh')", "names a transport helper"),
    "unsigned": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, verify_signatures=true)", "verify_signatures needs trusted_keys"),
    "a number that is none": ("lookup('nordic.gitops.git', 'apps/web.yaml', repository=URL, git_timeout='soon')", "git_timeout"),
}


def fill(repo):
    repo.write("apps/web.yaml", "kind: Web\n")
    repo.write("apps/api.yaml", "kind: Api\n")
    repo.write("single/only.yaml", "kind: Only\n")
    repo.write("logo.png", b"\x89PNG\r\n\x1a\n\xff")
    repo.write("large.yaml", f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n")
    os.symlink("apps/web.yaml", repo.path / "same.yaml")
    os.symlink("/etc/passwd", repo.path / "out")
    repo.commit()
    repo.tag("v1.0.0", "The release")
    repo.branch("develop")
    repo.write("apps/web.yaml", "kind: Developed\n")
    repo.commit()
    repo.checkout("main")


def play(folder, tasks, **variables):
    """ansible-playbook with these tasks; what it said, and its exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    root = next(path for path in sys.path if (Path(path) / "ansible_collections" / "nordic" / "gitops").exists())
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(folder / "play.yml")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": root,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_STDOUT_CALLBACK": "default",
            **variables,
        },
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Every case above in one playbook: its value, or the message it failed with."""
    from lab.repository import Repository

    folder = tmp_path_factory.mktemp("lookup")
    repo = Repository(folder / "repository")
    fill(repo)
    cases = {**ANSWERS, **{name: expression for name, (expression, _message) in ERRORS.items()}}
    tasks, results = [], []
    for number, (name, expression) in enumerate(cases.items()):
        written = expression.replace("URL", f"'{repo.url}'")
        tasks.append(
            {
                "name": name,
                "ansible.builtin.set_fact": {f"answer_{number}": "{{ " + written + " }}"},
                "register": f"task_{number}",
                "ignore_errors": True,
            }
        )
        results.append(f"{json.dumps(name)}: [answer_{number} | default(none), task_{number}.msg | default('')]")
    tasks.append(
        {"ansible.builtin.copy": {"dest": str(folder / "outcomes.json"), "content": "{{ {" + ", ".join(results) + "} | to_json }}", "mode": "0600"}}
    )
    status, said = play(folder, tasks)
    assert status == 0, said[-3000:]
    found = json.loads((folder / "outcomes.json").read_text())
    assert set(found) == set(cases)
    return repo, found, said


@pytest.mark.parametrize("name", ANSWERS)
def test_the_lookup_answers(outcomes, name):
    repo, found, _said = outcomes
    expected = {
        "content": "kind: Web\n",
        "content parsed": "Web",
        "two contents": ["kind: Web\n", "kind: Api\n"],
        "list of paths": ["kind: Web\n", "kind: Api\n"],
        "another revision": "kind: Developed\n",
        "base64": base64.b64encode(b"\x89PNG\r\n\x1a\n\xff").decode(),
        "listing": ["api.yaml", "web.yaml"],
        "listing of one": ["only.yaml"],
        "two listings": [["api.yaml", "web.yaml"], ["only.yaml"]],
        "commit": repo.head(),
        "commit of a tag": repo.head("v1.0.0"),
        "through a link": "kind: Web\n",
    }
    assert found[name] == [expected[name], ""]


@pytest.mark.parametrize("name", ERRORS)
def test_a_mistake_is_told_in_words(outcomes, name):
    _repo, found, _said = outcomes
    value, message = found[name]
    assert value is None and ERRORS[name][1] in message


def test_no_mistake_ends_in_a_traceback(outcomes):
    assert "Traceback" not in outcomes[2]


def test_a_wrong_password_is_not_shown(git_repo, git_http, tmp_path):
    fill(git_repo)
    url = git_http.url.replace("://", "://astrid:in-the-url@")
    expressions = [
        f"lookup('nordic.gitops.git', 'apps/web.yaml', repository='{url}')",
        f"lookup('nordic.gitops.git', 'apps/web.yaml', repository='{git_http.url}', git_username='astrid', git_password=secret)",
    ]
    tasks = [
        {
            "ansible.builtin.debug": {"msg": "{{ " + expression + " }}"},
            "ignore_errors": True,
            "no_log": False,
            "vars": {"secret": "{{ 'in-the-' ~ 'option' }}"},
        }
        for expression in expressions
    ]
    _status, said = play(tmp_path / "play", tasks)
    assert said.count("the server refuses the credentials") >= 2
    # ansible-playbook itself shows the line of the playbook that failed; what the lookup says has no secret in it.
    lines = [line for line in said.splitlines() if "refuses the credentials" in line]
    assert lines and not [line for line in lines if "in-the-url" in line or "in-the-option" in line]


@pytest.mark.parametrize("number", range(len(yaml.safe_load(EXAMPLES))))
def test_every_example_of_the_documentation_works(number, git_repo, request, tmp_path):
    fill(git_repo)
    example = yaml.safe_load(EXAMPLES)[number]
    text = json.dumps(example)
    changes = {"https://git.example.com/acme/platform.git": git_repo.url}
    variables = {}
    if "git_password" in text:
        server = request.getfixturevalue("git_https")
        changes = {
            "https://git.example.com/acme/platform.git": server.url,
            '"deploy"': json.dumps(server.username),
            "/etc/pki/acme-ca.pem": str(server.ca_file),
        }
        variables["GIT_TOKEN"] = server.password
    elif "git_ssh_key" in text:
        server = request.getfixturevalue("git_ssh")
        changes = {
            "ssh://git@git.example.com/acme/platform.git": server.url,
            "/etc/ansible/deploy_key": str(server.key),
            "/etc/ansible/known_hosts": str(server.known_hosts),
        }
    elif "trusted_keys" in text:
        key = tmp_path / "signing"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        git_repo.git("config", "gpg.format", "ssh")
        git_repo.git("config", "user.signingKey", str(key))
        git_repo.commit("Signed", "--gpg-sign")
        (tmp_path / "maintainers").write_text("astrid@example.com " + (tmp_path / "signing.pub").read_text())
        changes["/etc/ansible/maintainers"] = str(tmp_path / "maintainers")
    for documented, real in changes.items():
        assert documented in text
        text = text.replace(documented, real)
    status, said = play(
        tmp_path / "play",
        [{**json.loads(text), "register": "seen"}, {"ansible.builtin.debug": {"msg": "{{ [seen, web | default('')] }}"}}],
        **variables,
    )
    assert status == 0, said[-3000:]
    assert "api.yaml" in said if "listing" in text else "Web" in said


UNPROTECTED = """
import sys
from ansible.errors import AnsibleError
from ansible.plugins.loader import init_plugin_loader, lookup_loader
init_plugin_loader([sys.argv[1]])
from ansible_collections.nordic.gitops.plugins.module_utils._git import command
command.PROTECTIONS = ()  # fake: a kernel that has none, for a user who is not root
for more in ({}, {"allow_unsandboxed": ["git"]}):
    try:
        print(lookup_loader.get("nordic.gitops.git").run(["web.yaml"], repository=sys.argv[2], git_cache=sys.argv[3], **more))
    except AnsibleError as error:
        print(error)
"""


def test_where_git_cannot_be_shut_in_the_lookup_answers_only_if_that_is_allowed(git_repo, tmp_path):
    git_repo.write("web.yaml", "kind: Web\n")
    git_repo.commit("first")
    root = next(path for path in sys.path if (Path(path) / "ansible_collections" / "nordic" / "gitops").exists())
    done = subprocess.run([sys.executable, "-c", UNPROTECTED, root, git_repo.url, str(tmp_path / "cache")], capture_output=True, text=True, check=True)
    refused, answered = done.stdout.splitlines()
    assert "git cannot be shut in here" in refused and "allow_unsandboxed: [git]" in refused and answered == repr(["kind: Web\n"])
