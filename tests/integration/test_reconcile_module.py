# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as people use it: in a playbook that ansible-playbook runs, with the output that they read."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.modules.reconcile import EXAMPLES
from reconciling import Reconciler, config_map, deployment, manifest

GROUP = "group/nordic.gitops.gitops"


@pytest.fixture
def play(cluster, binaries, tmp_path):
    """ansible-playbook with these tasks; what it said, and its exit status. The connection comes from K8S_AUTH_KUBECONFIG."""
    def run(tasks, *arguments, defaults=None, variables=None, folder=None):
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "module_defaults": defaults or {}, "tasks": tasks}]))
        environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
                       "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0", "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig),
                       "PATH": os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]]), **(variables or {})}
        environment = {name: value for name, value in environment.items() if value is not None}
        command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), *arguments]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False, cwd=folder)
        output = done.stdout + done.stderr
        assert "Traceback (most recent call last)" not in output and "MODULE FAILURE" not in output, output
        return SimpleNamespace(code=done.returncode, output=output)

    return run


@pytest.fixture
def options(git_repo, namespace):
    """The options of a reconcile of git_repo into the test's namespace, without any connection."""
    return {"name": namespace, "namespace": namespace, "inventory_namespace": namespace, "repository": git_repo.url, "wait": False}


def reconcile(options, **more):
    return {"name": "Reconcile", "nordic.gitops.reconcile": options, **more}


def stored(cluster, namespace, kind, name):
    return json.loads(cluster.kubectl("get", kind, name, "-n", namespace, "-o", "json"))


def test_check_and_diff_show_a_person_what_a_run_would_do_and_do_nothing(cluster, namespace, play, options, git_repo, tmp_path):
    git_repo.write("web.yaml", deployment("web"))
    git_repo.write("old.yaml", config_map("old"))
    git_repo.commit()
    Reconciler(**options, kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path / "first"))()
    git_repo.write("web.yaml", "# the next version\n" + deployment("web", image="registry.example/web:2"))
    git_repo.remove("old.yaml")
    git_repo.commit()
    planned = play([reconcile(options)], "--check", "--diff")
    assert planned.code == 0 and "changed=1" in planned.output, planned.output
    lines = [line.rstrip() for line in planned.output.splitlines()]
    assert f"--- before: Deployment.apps {namespace}/web (live)" in lines
    assert f"+++ after: Deployment.apps {namespace}/web (web.yaml:2)" in lines
    assert [line.split(None, 1) for line in lines if "image:" in line] == [
        ["-", "image: registry.example/web:1"], ["+", "image: registry.example/web:2"]]
    assert f"--- before: ConfigMap {namespace}/old (live)" in lines and f"+++ after: ConfigMap {namespace}/old (not in Git)" in lines
    assert "managedFields" not in planned.output and "resourceVersion" not in planned.output
    live = stored(cluster, namespace, "deployment", "web")
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/web:1"
    assert stored(cluster, namespace, "configmap", "old")
    done = play([reconcile(options), reconcile(options, check_mode=True)], "--diff")
    assert done.code == 0 and "ok=2 " in done.output and "changed=1 " in done.output, done.output  # the second task has nothing to do
    shown = [[line for line in said.output.splitlines() if line.startswith(("+", "-"))] for said in (planned, done)]
    assert shown[0] == shown[1]


def test_no_secret_is_in_any_output_at_the_highest_verbosity(cluster, namespace, play, options, git_http, git_repo):
    """The Git password, the API token, a Secret's old and new values, plain and in base64, in success, in a diff, in failures."""
    secrets = {"old": "correct-horse-battery", "new": "staple-and-paperclip"}
    git_repo.write("s.yaml", manifest("Secret", "s", more=f"stringData: {{password: {secrets['new']}}}\n"))
    git_repo.write("bad/s.yaml", manifest("Secret", "bad", more=f"stringData: {{password: {secrets['new']}}}\ntype: kubernetes.io/tls\n"))
    git_repo.write("worse/s.yaml", manifest("Secret", "worse", more=f"data: {{password: '{secrets['new']}!'}}\n"))
    git_repo.commit()
    # What kubectl leaves behind holds the values once more.
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=manifest("Secret", "s", more=f"stringData: {{password: {secrets['old']}}}\n"))
    token = cluster.admin_token
    given = {**options, "repository": git_http.url, "git_username": git_http.username, "git_password": git_http.password,
             "host": cluster.url, "ca_cert": str(cluster.ca_file), "api_key": token, "exclude": ["bad/*", "worse/*"]}
    tasks = [
        reconcile(given),
        reconcile({**given, "exclude": [], "path": "bad", "name": f"{namespace}-bad"}, ignore_errors=True),
        reconcile({**given, "exclude": [], "path": "worse", "name": f"{namespace}-worse"}, ignore_errors=True),
        reconcile({**given, "api_key": token + "x"}, ignore_errors=True),
        reconcile({**given, "git_password": git_http.password + "x"}, ignore_errors=True),
        reconcile({**given, "repository": git_http.url_with_credentials, "git_password": None, "git_username": None, "revision": "nowhere"},
                  ignore_errors=True),
    ]
    said = play(tasks, "-vvvv", "--diff", variables={"K8S_AUTH_KUBECONFIG": None})
    assert said.code == 0 and "ignored=5" in said.output and "changed=1" in said.output, said.output
    assert "password: '*** (before)'" in said.output and "password: '*** (after)'" in said.output
    hidden = [token, git_http.password, *secrets.values()]
    hidden += [base64.b64encode(value.encode()).decode().rstrip("=") for value in hidden]
    for value in hidden:
        assert value not in said.output
        assert json.dumps(value)[1:-1] not in said.output


def test_module_defaults_of_the_action_group_set_the_connection_once(cluster, namespace, play, options, git_repo):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    alone = {"K8S_AUTH_KUBECONFIG": None, "KUBECONFIG": None, "HOME": "/nowhere", "ANSIBLE_LOCAL_TEMP": None}
    said = play([reconcile(options)], defaults={GROUP: {"kubeconfig": str(cluster.kubeconfig)}}, variables=alone)
    assert said.code == 0 and "changed=1" in said.output, said.output
    assert stored(cluster, namespace, "configmap", "a")["data"] == {"key": "one"}


def test_a_failure_is_one_readable_message_with_its_values_as_data(play, options, git_repo):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.write("x.yaml", manifest("Deploymnet", "web", "apps/v1"))
    git_repo.commit()
    said = play([reconcile(options, register="it", ignore_errors=True),
                 {"ansible.builtin.debug": {"msg": "errors: {{ it.errors | length }}, changed: {{ it.changed }}"}}])
    assert said.code == 0 and "errors: 1, changed: False" in said.output, said.output
    assert "x.yaml:1: Deploymnet web: the cluster does not know Deploymnet in apps/v1. Did you mean apps/v1 Deployment?" in said.output


HERE = {"plain": {}, "delegated": {"delegate_to": "127.0.0.1", "connection": "local", "vars": {"ansible_python_interpreter": sys.executable}}}
PACKED = {"another Python": {"vars": {"ansible_python_interpreter": "{{ link }}"}}, "a limit": {"vars": {"ansible_python_module_rlimit_nofile": 4096}},
          "environment": {"environment": {"SHOP": "1"}}, "asynchronous": {"async": 100, "poll": 1}}
if not os.geteuid():  # nobody else may without a password
    PACKED["another user"] = {"become": True, "become_method": "ansible.builtin.su"}


@pytest.mark.parametrize("case", [*HERE, *PACKED])
def test_the_engine_runs_in_ansible_s_own_process_only_where_the_module_would_run_beside_it_and_does_the_same(
        cluster, namespace, play, options, git_repo, tmp_path, case):
    """On the controller, as the same user, with the same Python. Everywhere else it is packed, as Ansible does with any module."""
    link = tmp_path / "python"
    link.write_text(f"#!/bin/sh\nexec {sys.executable} \"$@\"\n")
    link.chmod(0o755)
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    given = {**options, "kubeconfig": str(cluster.kubeconfig)}
    more = {**HERE, **PACKED}[case]
    report = {"ansible.builtin.copy": {"dest": str(tmp_path / "results.json"), "content": "{{ [first, second, third] | to_json }}"}}
    said = play([reconcile(given, register="first", check_mode=True), reconcile(given, register="second", **more),
                 reconcile(given, register="third", check_mode=True, diff=True), report], "-e", f"link={link}", "-vvv",
                # Ansible's own is looked for in the user's home and written in HOME, which is another one here and there.
                variables={"ANSIBLE_ASYNC_DIR": str(tmp_path / "jobs")})
    assert said.code == 0, said.output
    assert ("AnsiballZ_reconcile.py" in said.output) == (case in PACKED)
    planned, done, again = json.loads((tmp_path / "results.json").read_text())
    assert planned["changed"] and done["changed"] and not again["changed"] and again["in_sync"]
    assert [planned[name] for name in ("commit", "counts", "changes")] == [done[name] for name in ("commit", "counts", "changes")]


def test_nothing_is_written_to_disk_to_start_it_and_no_argument_is_on_a_command_line(cluster, namespace, play, options, git_repo, tmp_path):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    said = play([reconcile(options)], "-vvv", variables={"ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote")})
    assert said.code == 0 and "changed=1" in said.output, said.output
    assert not (tmp_path / "remote").exists()
    assert " EXEC " not in said.output


@pytest.mark.parametrize("way", ["here", "packed"])
def test_the_returned_invocation_has_the_options_and_none_of_the_secrets(cluster, namespace, play, options, git_repo, way):
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    given = {**options, "host": cluster.url, "ca_cert": str(cluster.ca_file), "api_key": cluster.admin_token,
             "proxy_headers": {"basic_auth": "robot:word-of-pass"}, "git_password": None, "no_proxy": "*"}
    said = play([reconcile(given, **({"environment": {"A": "b"}} if way == "packed" else {}))], "-vvv")
    assert said.code == 0, said.output
    arguments, _end = json.JSONDecoder().raw_decode(said.output.partition('"module_args": ')[2])
    assert arguments["api_key"] == arguments["proxy_headers"]["basic_auth"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    assert arguments["name"] == namespace and arguments["prune"] is True and arguments["wait_timeout"] == 300
    assert "word-of-pass" not in said.output and cluster.admin_token not in said.output


@pytest.mark.parametrize("options_given", [{"nmae": "x"}, {"adopt": "perhaps"}, {"wait_timeout": "soon"}], ids=str)
def test_wrong_options_are_told_in_ansible_s_own_words(play, options, options_given):
    said = play([reconcile({**options, **options_given})])
    assert said.code == 2
    assert any(words in said.output for words in ("Unsupported parameters", "value of adopt must be one of", "we were unable to convert to int"))


def test_a_long_wait_says_what_it_waits_for_while_it_waits(cluster, namespace, play, options, git_repo):
    """At the default verbosity, and not where the task is no_log."""
    git_repo.write("web.yaml", deployment("web", more="      nodeSelector: {there: nowhere}\n"))
    git_repo.commit()
    for no_log in (False, True):
        said = play([reconcile({**options, "wait": True, "wait_timeout": 8}, no_log=no_log)])
        assert said.code == 2
        lines = [line for line in said.output.splitlines() if line.startswith("localhost: ") and "healthy" in line]
        assert bool(lines) != no_log, said.output


def test_a_file_of_the_current_folder_does_not_stand_for_a_library(cluster, namespace, play, options, git_repo, tmp_path):
    """Python reads a script from standard input with the current folder first on its path."""
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    folder = tmp_path / "current"
    for name in ("json", "yaml", "git", "kubernetes", "urllib3", "ansible", "ansible_collections", "base64"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('{name} was taken from the current folder')\n")
    said = play([reconcile(options)], folder=folder, variables={"PYTHONSAFEPATH": None})
    assert said.code == 0 and "changed=1" in said.output, said.output


MISSING = {
    "kubernetes": ("kubernetes", "(kubernetes>=28.1)"),
    "urllib3": ("urllib3", "(kubernetes>=28.1)"),
    "PyYAML": ("yaml", "(kubernetes>=28.1)"),
}


def test_a_missing_library_is_named_with_the_interpreter_and_how_to_install_it(tmp_path, play, options, git_repo):
    """Interpreters that have all that this one has but for one package."""
    git_repo.write("a.yaml", config_map("a"))
    git_repo.commit()
    tasks = []
    for name, (module, _words) in MISSING.items():
        python = tmp_path / "without" / name / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(python.parents[1])], check=True)
        found = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True)
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if entry.stem != module and not entry.name.endswith(".pth"):
                (Path(found.stdout.strip()) / entry.name).symlink_to(entry)
        tasks.append(reconcile(options, vars={"ansible_python_interpreter": str(python)}, register=f"without_{name}", ignore_errors=True))
        tasks.append({"ansible.builtin.debug": {"msg": f"{{{{ 'MESSAGE {name}: ' ~ without_{name}.msg }}}}"}})
    said = play(tasks)
    assert said.code == 0 and "ignored=3" in said.output, said.output
    for name, (module, words) in MISSING.items():
        message = next(line for line in said.output.splitlines() if f"MESSAGE {name}: " in line)
        assert f"Failed to import the required Python library {words}" in message
        assert f"without/{name}/bin/python -m pip install" in message and f"No module named '{module}" in message


def test_every_example_of_the_documentation_runs(cluster, namespace, play, git_repo, git_ssh, tmp_path, request):
    """As they are written, with the addresses, the files and the namespace of this test instead of example.no's."""
    key = tmp_path / "signer"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "allowed_signers").write_text(f"astrid@example.com {key.with_suffix('.pub').read_text()}")
    for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("commit.gpgsign", "true")):
        git_repo.git("config", name, value)
    git_repo.write("clusters/production/shop/web.yaml", deployment("shop").replace("  name: shop\n", f"  name: shop\n  namespace: {namespace}\n", 1))
    git_repo.write("clusters/production/payments/keys.yaml", config_map("keys", namespace=namespace))
    git_repo.write("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
    git_repo.write("charts/web/values-production.yaml", "color: green\nreplicas: 1\n")
    git_repo.write("charts/web/templates/a.yaml", config_map("web", "{{ .Values.color }}-{{ .Values.replicas }}"))
    git_repo.commit()
    git_repo.tag("v2.4.0")
    here = {
        "https://git.example.no/platform/manifests.git": git_repo.url, "ssh://git@git.example.no/platform/manifests.git": git_ssh.url,
        "/etc/nordic/deploy_key": str(git_ssh.key), "/etc/nordic/known_hosts": str(git_ssh.known_hosts),
        "/etc/nordic/allowed_signers": str(tmp_path / "allowed_signers"),
    }
    application = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "payment"}, "spec": {
        "source": {"repoURL": git_repo.url, "path": "charts/web", "helm": {"valueFiles": ["values-production.yaml"]}},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": f"{namespace}-payment"},
        "syncPolicy": {"syncOptions": ["CreateNamespace=true"]}}}
    (tmp_path / "payment.yaml").write_text(json.dumps(application), encoding="utf-8")
    here["/srv/backup/production-payment-gateway.yaml"] = str(tmp_path / "payment.yaml")
    request.addfinalizer(lambda: cluster.kubectl("delete", "namespace", f"{namespace}-payment", "--ignore-not-found", "--wait=false"))
    tasks = yaml.safe_load(EXAMPLES)
    for number, task in enumerate(tasks):
        arguments = task["nordic.gitops.reconcile"]
        arguments.update({name: here[value] for name, value in arguments.items() if isinstance(value, str) and value in here})
        if "namespace" in arguments:
            arguments["namespace"] = namespace
        task["register"] = f"result_{number}"
    assert "example.no" not in json.dumps(tasks) and "/etc/" not in json.dumps(tasks)
    tasks.append({"ansible.builtin.copy": {"dest": str(tmp_path / "results.json"), "content": "{{ [" + ", ".join(
        f"result_{number}" for number in range(len(tasks))) + "] | to_json }}"}})
    said = play(tasks, defaults={GROUP: {"inventory_namespace": namespace}})
    assert said.code == 0, said.output
    shop, ruled, tag, chart, signed, payment = json.loads((tmp_path / "results.json").read_text())
    assert shop["healthy"] and shop["counts"]["created"] == 1
    assert ruled["healthy"] and not ruled["changed"]
    assert not tag["changed"] and tag["in_sync"]
    assert chart["counts"]["created"] == 1 and stored(cluster, namespace, "configmap", "web")["data"] == {"key": "green-3"}
    assert signed["signer"].startswith("astrid@example.com SHA256:") and signed["counts"]["created"] == 1
    assert payment["counts"]["created"] == 2 and stored(cluster, f"{namespace}-payment", "configmap", "web")["data"] == {"key": "green-1"}
