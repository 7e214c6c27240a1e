# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection options: the same words as kubernetes.core, one documentation, clear refusals, no secret shown."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import exec_plugin, options
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import CONNECTION_SPEC, configuration
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url, masked

TOKEN = "sesame-opens-this"


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch, tmp_path):
    for name in list(os.environ):
        if re.match(r"K8S_AUTH_|KUBE|https?_proxy$|no_proxy$|all_proxy$", name, re.IGNORECASE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def parsed(values):
    result = ArgumentSpecValidator(CONNECTION_SPEC).validate(values)
    assert result.error_messages == []
    return result.validated_parameters


def content(user=None, server="https://10.1.2.3:6443", **cluster):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": dict({"server": server}, **cluster)}],
        "users": [{"name": "u", "user": {"token": TOKEN} if user is None else user}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "elsewhere", "context": {"cluster": "gone", "user": "u"}},
        ],
    }


def written(path, **values):
    path.write_text(yaml.safe_dump(content(**values)))
    return str(path)


def authorization(config):
    return {setting["key"].lower(): setting["value"] for setting in config.auth_settings().values()}.get(
        "authorization"
    )


def test_the_documentation_and_the_argument_spec_say_the_same():
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(CONNECTION_SPEC)
    for name, option in CONNECTION_SPEC.items():
        assert documented[name]["type"] == option["type"], name
        assert documented[name].get("aliases", []) == option.get("aliases", []), name
        assert documented[name].get("elements") == option.get("elements"), name
        named = set(re.findall(r"E\((K8S_AUTH_\w+)\)", str(documented[name]["description"])))
        assert named == set(option.get("fallback", (None, []))[1]), name
    sub = CONNECTION_SPEC["proxy_headers"]["options"]
    assert set(documented["proxy_headers"]["suboptions"]) == set(sub)
    for name, option in sub.items():
        text = str(documented["proxy_headers"]["suboptions"][name]["description"])
        assert set(re.findall(r"E\((K8S_AUTH_\w+)\)", text)) == set(option["fallback"][1]), name


def test_the_options_are_those_of_kubernetes_core():
    """Names, aliases and variables, from the collection that users of this field know by heart."""
    from ansible_collections.kubernetes.core.plugins.module_utils import args_common as theirs

    assert set(CONNECTION_SPEC) == set(theirs.AUTH_ARG_SPEC)
    for name, option in theirs.AUTH_ARG_SPEC.items():
        assert CONNECTION_SPEC[name].get("aliases", []) == option.get("aliases", []), name
    for true_name, name in theirs.AUTH_ARG_MAP.items():
        if name != "proxy_headers":
            variables = {f"K8S_AUTH_{name.upper()}", f"K8S_AUTH_{true_name.upper()}"}
            assert set(CONNECTION_SPEC[name]["fallback"][1]) == variables, name
    assert set(CONNECTION_SPEC["proxy_headers"]["options"]) == set(theirs.AUTH_PROXY_HEADERS_SPEC)


def test_every_secret_option_is_no_log():
    secret = {name for name, option in CONNECTION_SPEC.items() if option.get("no_log")}
    assert secret == {"api_key", "password"}
    headers = CONNECTION_SPEC["proxy_headers"]["options"]
    assert {name for name, option in headers.items() if option.get("no_log")} == {"proxy_basic_auth", "basic_auth"}


def test_an_inline_kubeconfig_prints_as_a_word_and_still_works():
    params = parsed({"kubeconfig": content()})
    assert TOKEN not in repr(params) and TOKEN not in str(params) and TOKEN not in json.dumps(params)
    config = configuration(params)
    assert config.host == "https://10.1.2.3:6443"
    assert authorization(config) == f"Bearer {TOKEN}"


def test_variables_stand_in_for_options(monkeypatch, tmp_path):
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", written(tmp_path / "config"))
    monkeypatch.setenv("K8S_AUTH_VERIFY_SSL", "no")
    monkeypatch.setenv("K8S_AUTH_IMPERSONATE_USER", "anna")
    monkeypatch.setenv("K8S_AUTH_IMPERSONATE_GROUPS", "dev,ops")
    monkeypatch.setenv("K8S_AUTH_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH", "me:word")
    params = parsed({})
    config = configuration(params)
    assert (config.host, config.verify_ssl, config.proxy) == (
        "https://10.1.2.3:6443",
        False,
        "http://proxy.example:3128",
    )
    assert config.proxy_headers == {"proxy-authorization": "Basic bWU6d29yZA=="}
    assert options.impersonation(params) == [
        ("Impersonate-User", "anna"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
    ]


def test_options_win_over_the_kubeconfig(tmp_path):
    params = parsed(
        {
            "kubeconfig": written(tmp_path / "config"),
            "host": "https://other.example/",
            "api_key": "mine",
            "validate_certs": False,
        }
    )
    config = configuration(params)
    assert (config.host, config.verify_ssl, authorization(config)) == ("https://other.example", False, "Bearer mine")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"api_key": TOKEN}, f"Bearer {TOKEN}"),
        ({"username": "anna", "password": "word"}, "Basic YW5uYTp3b3Jk"),
    ],
)
def test_host_and_credentials_need_no_file(given, expected):
    config = configuration(parsed(dict(given, host="https://10.9.9.9:6443")))
    assert (config.host, authorization(config)) == ("https://10.9.9.9:6443", expected)


def test_host_alone_is_anonymous_where_no_kubeconfig_exists():
    config = configuration(parsed({"host": "http://127.0.0.1:8001"}))
    assert (config.host, authorization(config)) == ("http://127.0.0.1:8001", None)


def test_several_paths_are_merged(tmp_path):
    users = content()
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump({"current-context": "there", "contexts": [], "clusters": [], "users": []}))
    users["contexts"].append({"name": "there", "context": {"cluster": "c", "user": "u"}})
    del users["current-context"]
    second = tmp_path / "second"
    second.write_text(yaml.safe_dump(users))
    config = configuration(parsed({"kubeconfig": os.pathsep.join([str(first), str(second), "/not/there"])}))
    assert config.host == "https://10.1.2.3:6443"


def test_the_proxy_of_the_kubeconfig_is_used(tmp_path):
    path = written(tmp_path / "config", **{"proxy-url": "http://proxy.example:3128"})
    assert configuration({"kubeconfig": path}).proxy == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kubeconfig": "/not/there"}, ["/not/there", "no kubeconfig file"]),
        ({"kubeconfig": "/not/there", "context": "x"}, ["/not/there", "no kubeconfig file"]),
        ({"context": "here"}, ["no kubeconfig file", "K8S_AUTH_KUBECONFIG"]),
        ({}, ["no kubeconfig file"]),
        ({"kubeconfig": content(), "context": "there"}, ['has no context named "there"']),
        ({"kubeconfig": content(), "context": "elsewhere"}, ['has no cluster named "gone"']),
        ({"kubeconfig": {"clusters": []}}, ["current-context"]),
        ({"kubeconfig": {"current-context": "a", "contexts": {"a": 1}, "clusters": []}}, ["contexts"]),
        ({"kubeconfig": content(), "ca_cert": "/no/ca.pem"}, ["ca_cert", "/no/ca.pem"]),
        ({"kubeconfig": content(), "client_cert": "/no/c.pem"}, ["client_cert", "/no/c.pem"]),
        ({"kubeconfig": content(**{"certificate-authority": "/no/ca"})}, ["/no/ca"]),
        ({"host": "10.0.0.1:6443", "api_key": TOKEN}, ["https://", "10.0.0.1:6443"]),
        ({"host": "https://", "api_key": TOKEN}, ["https://"]),
        ({"kubeconfig": content(user={"exec": {"command": "/no/plugin", "apiVersion": "v1"}})}, ["/no/plugin"]),
    ],
)
def test_what_cannot_work_is_refused_in_words(given, words):
    with pytest.raises(Failure) as caught:
        configuration(parsed(given))
    for word in words:
        assert word in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_broken_kubeconfig_file_names_its_line(tmp_path):
    path = tmp_path / "config"
    path.write_text("clusters: []\ncontexts: [\nusers: secret-" + TOKEN)
    with pytest.raises(Failure, match=r"line \d") as caught:
        configuration({"kubeconfig": str(path)})
    assert str(path) in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize("start", ["!", "!!", "*", "!a!", "@"])
def test_a_password_without_quotes_that_reads_as_something_else_is_not_shown(tmp_path, start):
    path = tmp_path / "config"
    path.write_text(f"users:\n- name: a\n  user:\n    password: {start}hunter2-word\n", encoding="utf-8")
    with pytest.raises(Failure, match="is no valid YAML, line 4: ") as failure:
        configuration(parsed({"kubeconfig": str(path)}))
    assert "hunter2" not in str(failure.value)


def test_an_empty_kubeconfig_file_is_refused(tmp_path):
    path = tmp_path / "config"
    path.write_text("")
    with pytest.raises(Failure, match="empty"):
        configuration({"kubeconfig": str(path)})


def test_a_kubeconfig_that_may_not_be_read_is_named(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    with pytest.raises(Failure, match="no kubeconfig file"):
        configuration({"kubeconfig": str(folder)})


def test_groups_without_a_user_are_refused():
    with pytest.raises(Failure, match="impersonate_user"):
        options.impersonation({"impersonate_groups": ["ops"]})


def test_a_kubeconfig_of_another_type_is_refused():
    assert ArgumentSpecValidator(CONNECTION_SPEC).validate({"kubeconfig": 7}).error_messages


def test_credentials_in_a_url_are_not_shown():
    assert bare_url("https://anna:word@api.example/x") == "https://api.example/x"
    assert bare_url("https://api.example/a@b") == "https://api.example/a@b"


def plugin(path, body):
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


def test_a_credential_plugin_is_asked(tmp_path):
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": TOKEN}}
    user = plugin(tmp_path / "plugin", f"print({json.dumps(answer)!r})")
    assert authorization(configuration({"kubeconfig": content(user=user)})) == f"Bearer {TOKEN}"


def test_a_failing_credential_plugin_is_quoted(tmp_path):
    user = plugin(tmp_path / "plugin", "import sys; sys.exit('log in to the portal first')")
    with pytest.raises(Failure, match="credential plugin.*log in to the portal first"):
        configuration({"kubeconfig": content(user=user)})


ANSWER = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": TOKEN}}


def answering(path, status, more=""):
    """A user whose plugin counts its runs beside itself and answers with a status."""
    return plugin(path, f"open({str(path) + '.runs'!r}, 'a').write('x')\n{more}\nprint({json.dumps({**ANSWER, 'status': status})!r})")


def test_a_credential_is_asked_for_again_when_it_has_lapsed_and_not_before(tmp_path):
    for end, runs in (("2001-01-01T00:00:00.123456789Z", "xx"), ("2101-01-01T00:00:00Z", "x"), (None, "x")):
        path = tmp_path / f"plugin-{runs}-{end}"
        user = answering(path, {"token": TOKEN, **({"expirationTimestamp": end} if end else {})})
        loaded = configuration({"kubeconfig": content(user=user)})
        assert authorization(loaded) == f"Bearer {TOKEN}"
        assert path.with_name(path.name + ".runs").read_text() == runs


def test_a_credential_plugin_may_answer_with_a_certificate(tmp_path):
    user = answering(tmp_path / "plugin", {"clientCertificateData": "the certificate", "clientKeyData": "the key"})
    loaded = configuration({"kubeconfig": content(user=user)})
    assert Path(loaded.cert_file).read_text() == "the certificate" and Path(loaded.key_file).read_text() == "the key"


def test_a_credential_plugin_is_found_beside_the_kubeconfig_and_gets_its_variables_and_the_cluster(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "there"
    folder.mkdir()
    user = answering(folder / "plugin", {"token": TOKEN}, more="import os; open(os.environ['TO'], 'w').write(os.environ['KUBERNETES_EXEC_INFO'])")
    user["exec"].update(command="./plugin", env=[{"name": "TO", "value": str(tmp_path / "asked")}], provideClusterInfo=True)
    whole = content(user=user)
    whole["clusters"][0]["cluster"]["extensions"] = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}]
    (folder / "config").write_text(json.dumps(whole))
    assert authorization(configuration({"kubeconfig": f"{tmp_path}/missing:there/config"})) == f"Bearer {TOKEN}"
    asked = json.loads((tmp_path / "asked").read_text())
    assert asked["spec"]["cluster"] == {"server": whole["clusters"][0]["cluster"]["server"], "config": {"audience": "a"}}
    assert asked["spec"]["interactive"] is False and asked["apiVersion"] == ANSWER["apiVersion"]


WRONG_ANSWERS = {
    "no JSON": "print('hello')", "a list": "print('[]')", "no status": "print('{}')", "a status of text": "print('{\"status\": \"ok\"}')",
    "no token": f"print({json.dumps({**ANSWER, 'status': {}})!r})",
    "a certificate without a key": f"print({json.dumps({**ANSWER, 'status': {'clientCertificateData': 'x'}})!r})",
    "a time that is none": f"print({json.dumps({**ANSWER, 'status': {'token': TOKEN, 'expirationTimestamp': 'soon'}})!r})",
    "nested without end": "print('[' * 100000)",
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_a_credential_plugin_that_answers_with_something_else_is_named(tmp_path, wrong):
    user = plugin(tmp_path / "plugin", WRONG_ANSWERS[wrong])
    with pytest.raises(Failure, match="credential plugin .*plugin answered with no ExecCredential") as caught:
        configuration({"kubeconfig": content(user=user)})
    assert TOKEN not in str(caught.value)


def test_a_credential_plugin_of_another_version_is_told_with_both(tmp_path):
    user = plugin(tmp_path / "plugin", f"print({json.dumps({**ANSWER, 'apiVersion': 'client.authentication.k8s.io/v1beta1'})!r})")
    with pytest.raises(Failure, match="answers in client.authentication.k8s.io/v1beta1, the kubeconfig says client.authentication.k8s.io/v1"):
        configuration({"kubeconfig": content(user=user)})


def test_a_credential_plugin_that_is_not_installed_is_told_with_its_own_hint(tmp_path):
    user = {"exec": {"apiVersion": "v1", "command": "get-token-of-nobody", "installHint": "Install it from the portal."}}
    with pytest.raises(Failure, match="get-token-of-nobody was not found.*Install it from the portal"):
        configuration({"kubeconfig": content(user=user)})
    user["exec"].update(command=sys.executable, interactiveMode="Always")
    with pytest.raises(Failure, match="asks questions"):
        configuration({"kubeconfig": content(user=user)})


def test_a_credential_plugin_that_waits_for_ever_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(exec_plugin, "SECONDS", 1.0)
    with pytest.raises(Failure, match="did not end within 1 seconds"):
        configuration({"kubeconfig": content(user=plugin(tmp_path / "plugin", "import time; time.sleep(600)"))})


def test_what_a_credential_plugin_prints_of_its_variables_is_not_shown(tmp_path):
    user = plugin(tmp_path / "plugin", "import os, sys; sys.exit('refused: ' + os.environ['PASSWORD'])")
    user["exec"]["env"] = [{"name": "PASSWORD", "value": "word-of-pass-17"}]
    with pytest.raises(Failure, match="refused") as caught:
        configuration({"kubeconfig": content(user=user)})
    assert "word-of-pass-17" not in masked(str(caught.value))


def test_the_service_account_of_a_pod_is_used_before_the_default_file(tmp_path, monkeypatch):
    """The loader's own files for a pod are below /var/run; without them the variables of a pod lead to a clear word."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    if os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"):
        assert configuration({}).host == "https://10.0.0.1:443"
    else:
        with pytest.raises(Failure, match="service account"):
            configuration({})
